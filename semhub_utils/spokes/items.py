"""What the spokes hand to the experiments.

`cluster` is the independent unit that intervals are over. Nulls swap partners within `group` (equal template and
length), and items of one `anchor` move together: the word that most of the state is about, such as the last token or
the right answer. A few words that are alike by chance would look like many items if each moved by itself: with states
made of unrelated digit and word vectors, moving the clusters of arithmetic gave 18% false alarms at p < .01.
A state also holds the other words of its text, such as the subject or the numbers before: a pair names them in `words`,
and similarity has one null for the anchor and one for each of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image

from semhub_utils.errors import SemhubError
from semhub_utils.inputs import Encoding, Input, Sound

Places = Callable[[Encoding], Sequence[int]]
"""Which positions of a prompt are meant, once a model has read it."""


@dataclass(frozen=True)
class Pair:
    """Two texts of one meaning, or a picture or sound and a text."""

    id: str
    a: str | Input
    b: str | Input
    group: str
    cluster: str
    anchor: str = ""
    words: tuple[str, ...] = ()  # as many for every pair of a set

    @property
    def moves_with(self) -> tuple[str, ...]:
        """Per null, the label of the items it moves together: the anchor, or the cluster where there is none; words."""
        return (self.anchor or self.cluster, *self.words)


@dataclass(frozen=True)
class LensItem:
    """A prompt and what its last position is read for: per series the right words, and the wrong ones of the class."""

    id: str
    prompt: str | Input
    targets: Mapping[str, tuple[str, ...]]
    cluster: str
    wrong: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    group: str = ""
    anchor: str = ""

    @property
    def moves_with(self) -> str:
        """The label of the items that a null moves together: the anchor, or the cluster where there is none."""
        return self.anchor or self.cluster


@dataclass(frozen=True)
class SteerItem:
    """A prompt, the two texts whose difference steers it, and its continuation if steered and if not."""

    id: str
    prompt: str
    toward: str
    away: str
    expected: str
    original: str
    cluster: str


@dataclass(frozen=True)
class PatchItem:
    """A run, and the run whose state at the last token is written into it. Every prompt and answer is a pair: in the
    data type, and in the hub's. `source` asks the same of something else, whose answer is `expected`; `other` asks
    something else altogether (None where there is no such prompt).

    places: the positions of the run that are written into; None for the last token. With them it goes one way only, and
    the hub's texts end in the word for what stands there. The type's own in `source` is then the same in the type, such
    as a picture, or None, and in `other` there is none. Where the hub has no word of its own for the answer, or is what
    is asked in, that is None."""

    id: str
    run: tuple[str | Input, str]
    answer: tuple[str, str | None]
    source: tuple[str | Input | None, str]
    expected: tuple[str, str | None]
    other: tuple[str | None, str] | None
    cluster: str
    group: str
    anchor: str  # the expected answer, or what it follows from: items of one move together in a null
    places: Places | None = None


@dataclass(frozen=True)
class RecolourItem:
    """A picture of two colours, what is asked of it, one prompt after another, and the part that another colour is
    written into. named: the colours that an answer names, in order; before, after: what they are for each prompt, as
    the picture is and with `third` in the place of `present`; another: a fourth colour; source: the prompts with a
    picture of which that part really is of the third colour. Colours are English words."""

    id: str
    prompts: tuple[Input, ...]
    before: tuple[frozenset[str], ...]
    after: tuple[frozenset[str], ...]
    present: str
    third: str
    another: str
    source: tuple[Input, ...]
    places: Places
    named: Callable[[str], tuple[str, ...]]
    cluster: str


# The same prompts with nothing to see or hear in them

PICTURES = ("blank image", "shuffled pixels", "white noise")
SOUNDS = ("silence", "white noise", "shuffled samples")


def ways(prompt: str | Input) -> tuple[str, ...]:
    """How a prompt can be emptied; a text alone cannot."""
    return PICTURES if getattr(prompt, "images", ()) else SOUNDS if getattr(prompt, "sounds", ()) else ()


def emptied(prompts: Sequence[Input], way: str, *, seed: int = 0) -> list[Input]:
    """Each prompt with its pictures and sounds as `without_content` makes them."""
    return [
        replace(
            prompt,
            images=tuple(without_content(image, way, seed=seed + n) for image in prompt.images),
            sounds=tuple(without_content(sound, way, seed=seed + n) for sound in prompt.sounds),
        )
        for n, prompt in enumerate(prompts)
    ]


def without_content(seen: Image.Image | Sound, way: str, *, seed: int = 0) -> Image.Image | Sound:
    """A picture of the same size that shows nothing: "blank image" (its mean colour), "shuffled pixels" (in a random
    order) or "white noise" (uniform); or a sound as long and, but for "silence", as loud: "white noise", "shuffled
    samples"."""
    sound, rng = isinstance(seen, Sound), np.random.default_rng(seed)
    if way not in (SOUNDS if sound else PICTURES):
        raise SemhubError(f"There is no baseline {way!r}; one of {', '.join(SOUNDS if sound else PICTURES)} would do.")
    if sound:
        samples = seen.samples
        if way == "silence":
            return replace(seen, samples=np.zeros_like(samples))
        if way == "shuffled samples":
            return replace(seen, samples=rng.permutation(samples))
        noise = float(np.sqrt(np.mean(samples**2))) * rng.standard_normal(len(samples))
        return replace(seen, samples=np.clip(noise, -1, 1).astype(np.float32))
    pixels = np.asarray(seen.convert("RGB"))
    if way == "blank image":
        made = np.broadcast_to(pixels.mean((0, 1)).round(), pixels.shape)
    elif way == "shuffled pixels":
        made = rng.permutation(pixels.reshape(-1, 3)).reshape(pixels.shape)
    else:
        made = rng.integers(0, 256, pixels.shape)
    return Image.fromarray(made.astype(np.uint8))

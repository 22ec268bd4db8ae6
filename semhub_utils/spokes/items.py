"""What the spokes hand to the experiments. What cannot be used is left out and counted, never a silent zero.

`cluster` is the independent unit that intervals are over. Nulls swap partners within `group` (equal template and
length), and items of one `anchor` move together: the word that most of the state is about, such as the last token or
the right answer. A few words that are alike by chance would look like many items if each moved by itself: with states
made of unrelated digit and word vectors, moving the clusters of arithmetic gave 18% false alarms at p < .01.
A state also holds the other words of its text, such as the subject or the numbers before: a pair names them in `words`,
and similarity has one null for the anchor and one for each of them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex

import numpy as np

from semhub_utils.errors import SemhubError, need, need_one_of, reason

if TYPE_CHECKING:  # they would load what reads pictures and sounds, also for a chapter that has none
    from PIL.Image import Image

    from semhub_utils.inputs import Encoding, Input, Sound

SHOWN = 3
GENERATED = "generated"


class LeftOut(NamedTuple):
    """In the place of an item: why there is none, and where what it would be made of stands."""

    reason: str
    where: str


class Items(list):
    """Items of a data type, with what was left out on the way.

    source: the files and sets of the hub that they are from, or "generated". dropped: how many entries were left out
    for which reason. first: the reasons and the places of the first three.
    """

    def __init__(self, items: Iterable = (), source: str = GENERATED):
        super().__init__(items)
        self.source, self.first = source, []
        self.dropped: Counter[str] = Counter()

    def __getitem__(self, at: SupportsIndex | slice) -> Any:
        found = super().__getitem__(at)
        return self.but(found) if isinstance(at, slice) else found

    def drop(self, reason: str, where: str, n: int = 1) -> None:
        """`n` more entries are left out; `where` they stand is told of the first three."""
        self.dropped[reason] += n
        if len(self.first) < SHOWN:
            self.first.append(f"{where}: {reason}")

    def take(self, made: Iterable[Any], n: int | None = None) -> Items:
        """These with those of `made` that are items; LeftOut are counted. Ends where they are `n`."""
        for one in made:
            if isinstance(one, LeftOut):
                self.drop(*one)
            else:
                self.append(one)
            if len(self) == n:
                break
        return self

    def but(self, items: Iterable = ()) -> Items:
        """Others made or chosen of these, of the same source and with what was left out so far."""
        found = Items(items, self.source)
        found.dropped, found.first = self.dropped.copy(), [*self.first]
        return found

    def draw(self, n: int, seed: int) -> Items:
        """`n` of them (all, if they are fewer), drawn by `seed`, in their order."""
        return self.but(self[k] for k in sorted(np.random.default_rng(seed).permutation(len(self))[:n]))

    def some(self, what: str, where: object = "The data") -> Items:
        """These, if there are any. Raises SemhubError, with what was left out."""
        need(self, f"{where} holds no {what} that can be used. {self.left_out}".strip())
        return self

    @property
    def left_out(self) -> str:
        """One sentence for the reader; empty if nothing was left out."""
        if not self.dropped:
            return ""
        many = ", ".join(f"{count} × {reason}" for reason, count in self.dropped.items())
        return f"Left out: {many}; the first: {'; '.join(self.first)}."


def each_or_none(*makes: Callable[[], Any], least: int = 1) -> list[Any]:
    """What each makes; where that is refused no item, with the reason among what was left out. Raises SemhubError, the
    first, where fewer than `least` are made."""
    found, refused = [], []
    for make in makes:
        try:
            found.append(make())
        except SemhubError as error:
            refused.append(error)
            found.append(Items(source="nothing"))
            said = re.sub(r"^/.*?/(?=[^/]+ (?:has|holds|is|cannot) )", "", reason(error))  # not where a folder lies
            found[-1].drop(said, "the data")
    if len(makes) - len(refused) < least:
        raise refused[0]
    return found


def source_of(items: Sequence) -> str:
    """Where items are from, as far as they tell."""
    return getattr(items, "source", GENERATED)


def collected(make: Callable[..., Iterable]) -> Callable[..., Items]:
    """The function gives what this one yields, as Items of the source of its first argument."""

    @wraps(make)
    def made(of: Sequence, *args, **named) -> Items:
        return Items(make(of, *args, **named), source_of(of))

    return made


def shuffled(items: Sequence, seed: int) -> list:
    """All of them in an order drawn by `seed`."""
    return [items[k] for k in np.random.default_rng(seed).permutation(len(items))]


# Kinds of items


class Item:
    """What is common to items: beside their own fields they have `id`, `prompt`, `group` and `cluster`."""

    @property
    def moves_with(self) -> str:
        """The label of the items that a null moves together: the anchor, or the cluster where there is none."""
        return getattr(self, "anchor", "") or self.cluster


Places = Callable[["Encoding"], Sequence[int]]
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
    def prompt(self) -> str | Input:
        return self.a

    @property
    def moves_with(self) -> tuple[str, ...]:
        """Per null, the label of the items it moves together: the anchor, or the cluster where there is none; words."""
        return (self.anchor or self.cluster, *self.words)


@dataclass(frozen=True)
class LensItem(Item):
    """A prompt and what its last position is read for: per series the right words, and the wrong ones of the class."""

    id: str
    prompt: str | Input
    targets: Mapping[str, tuple[str, ...]]
    cluster: str
    wrong: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    group: str = ""
    anchor: str = ""


@dataclass(frozen=True)
class SteerItem(Item):
    """A prompt, the two texts whose difference steers it, and its continuation if steered and if not."""

    id: str
    prompt: str
    toward: str
    away: str
    expected: str
    original: str
    cluster: str
    group: str = ""


@dataclass(frozen=True)
class PatchItem(Item):
    """A run, and the run whose state at the last token is written into it. Every prompt and answer is a pair: in the
    data type, and in the hub's (None where the hub has no word of its own for it, or is what is asked in). `source`
    asks the same of something else, whose answer is `expected`; `other` asks something else altogether (None where
    there is no such prompt). anchor: the expected answer, or what that follows from.

    places: the positions of the run that are written into; None for the last token. With them it goes one way only, and
    the hub's texts end in the word for what stands there. The type's own in `source` is then the same in the type, such
    as a picture, or None, and in `other` there is none."""

    id: str
    run: tuple[str | Input, str]
    answer: tuple[str, str | None]
    source: tuple[str | Input | None, str]
    expected: tuple[str, str | None]
    other: tuple[str | None, str] | None
    cluster: str
    group: str
    anchor: str
    places: Places | None = None

    @property
    def prompt(self) -> str | Input:
        return self.run[0]


@dataclass(frozen=True)
class RecolourItem(Item):
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
    group: str = ""

    @property
    def prompt(self) -> Input:
        return self.prompts[0]


@dataclass(frozen=True)
class Form:
    """One way to put a task to a model. trial: questions on which it is tried, none of which is asked again; asked:
    those that are, each with the answer that counts; of: what all items of this form are made of, one for each;
    wording: what else they are made of."""

    name: str
    trial: Sequence[LensItem]
    asked: Sequence[LensItem]
    of: Sequence
    wording: Any = None


class Twin(NamedTuple):
    """A question in a data type, and the same in the hub's, with their answers."""

    id: str
    prompt: str
    hub_prompt: str
    answer: str
    hub_answer: str
    relation: str
    group: str
    cluster: str


def continued(twins: list[Twin], hub: bool = False) -> list[LensItem]:
    """Each question, or the same in the hub's, to be continued with its own answer: what a model must know before it is
    looked into, or its states are written into other runs."""
    sides = [(t.hub_prompt, {"own": (t.hub_answer,)}) if hub else (t.prompt, {"own": (t.answer,)}) for t in twins]
    found = twins[:0]
    found.extend(LensItem(t.id, *said, t.cluster) for t, said in zip(twins, sides, strict=True))
    return found


EXAMPLES = 3
LADDER = ("asked plainly", "behind three answered questions of the kind")
"""How questions are put to a model that was not taught to answer them, in the order in which this is tried."""


def forms(twins: Sequence[Twin], *, seed: int, taught: bool) -> list[Form]:
    """LADDER; of a model that was taught to answer, the first alone. What counts is the answer to the hub's question.
    of: the twins, without EXAMPLES of each relation, each type's in front of its own, and the trial, a quarter."""
    left, shown, found = [*twins] if taught else shuffled(twins, seed), {}, []
    for kind in () if taught else {t.relation for t in left}:
        shown[kind] = [t for t in left if t.relation == kind][:EXAMPLES]
    left = [t for t in left if t not in shown.get(t.relation, ())]
    for name, some in zip(LADDER, [{}] if taught else [{}, shown], strict=False):
        known, tried = [], 0 if taught else len(left) // 4
        for t in left:
            own, hub = ("".join(f"{e[k]} {e[k + 2]}\n" for e in some.get(t.relation, ())) for k in (1, 2))
            known.append(t._replace(prompt=own + t.prompt, hub_prompt=hub + t.hub_prompt))
        asked = [LensItem(t.id, t.hub_prompt, {"own": (t.hub_answer,)}, t.cluster) for t in known]
        found.append(Form(name, asked[:tried], asked[tried:], known[tried:]))
    return found


def interchange_items(twins: list[Twin], seed: int) -> list[PatchItem]:
    """Each question with another of its group that has another answer, and with one of another relation, both drawn by
    `seed`. Group: its own; anchor: the expected answer. Questions without the former are left out."""
    rng, items = np.random.default_rng(seed), twins[:0]
    for p in twins:
        same = [q for q in twins if q.group == p.group and q.answer != p.answer and q.hub_answer != p.hub_answer]
        other = [q for q in twins if q.relation != p.relation]
        if same:
            q, r = (some[rng.integers(len(some))] if some else None for some in (same, other))
            sides = [(x.prompt, x.hub_prompt) if x else None for x in (p, q, r)]
            own, new = ((x.answer, x.hub_answer) for x in (p, q))
            items.append(PatchItem(p.id, sides[0], own, sides[1], new, sides[2], p.cluster, p.group, new[1]))
    return items


# The same prompts with nothing to see or hear in them

PICTURES = ("blank image", "shuffled pixels", "white noise")
SOUNDS = ("silence", "white noise", "shuffled samples")


def ways(prompt: str | Input) -> tuple[str, ...]:
    """How a prompt can be emptied; a text alone cannot."""
    return PICTURES if getattr(prompt, "images", ()) else SOUNDS if getattr(prompt, "sounds", ()) else ()


def emptied(prompts: Sequence[Input], way: str, *, seed: int = 0) -> list[Input]:
    """Each prompt with its pictures and sounds as `without_content` makes them."""
    found = []
    for number, prompt in enumerate(prompts, seed):
        images, sounds = (tuple(without_content(x, way, number) for x in of) for of in (prompt.images, prompt.sounds))
        found.append(replace(prompt, images=images, sounds=sounds))
    return found


def without_content(seen: Image | Sound, way: str, seed: int = 0) -> Image | Sound:
    """A picture of the same size that shows nothing: "blank image" (its mean colour), "shuffled pixels" (in a random
    order) or "white noise" (uniform); or a sound as long and, but for "silence", as loud: "white noise", "shuffled
    samples"."""
    sound, rng = hasattr(seen, "samples"), np.random.default_rng(seed)
    need_one_of(way, SOUNDS if sound else PICTURES, f"There is no baseline {way!r}")
    if sound:
        samples = seen.samples
        loud = float(np.sqrt(np.mean(samples**2)))
        made = {
            "silence": lambda: np.zeros_like(samples),
            "shuffled samples": lambda: rng.permutation(samples),
            "white noise": lambda: np.clip(loud * rng.standard_normal(len(samples)), -1, 1).astype(np.float32),
        }
        return replace(seen, samples=made[way]())
    from PIL import Image  # only where there is a picture

    pixels = np.asarray(seen.convert("RGB"))
    made = {
        "blank image": lambda: np.broadcast_to(pixels.mean((0, 1)).round(), pixels.shape),
        "shuffled pixels": lambda: rng.permutation(pixels.reshape(-1, 3)).reshape(pixels.shape),
        "white noise": lambda: rng.integers(0, 256, pixels.shape),
    }
    return Image.fromarray(made[way]().astype(np.uint8))

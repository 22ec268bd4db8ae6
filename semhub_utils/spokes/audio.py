"""Sounds as data: animals, instruments and machines, with what is true of them in words.

As with pictures (`spokes.vision`), questions come in the world's sentences, where the sound stands for a word, and in
plain ones; every text in the world's sentences holds SLOT where the sound is. By default the clips are those held out:
for every source, combinations of pitch and length that no training clip has.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from semhub_utils.errors import SemhubError
from semhub_utils.inputs import Input, Sound
from semhub_utils.organism import sounds as world
from semhub_utils.organism.corpus import SOUND, Ask
from semhub_utils.organism.world import all_facts
from semhub_utils.spokes import vision
from semhub_utils.spokes.clips import esc, vggsound
from semhub_utils.spokes.files import Skipped

SLOT = SOUND
GROUPS = world.GROUPS
RATE = world.RATE
PLAIN = {
    "name": {
        "english": "What is this sound?", "spanish": "¿Qué es este sonido?",
        "chinese": "这是什么声音？", "german": "Was ist das für ein Geräusch?",
    },
    "mammal": {
        "english": "Is this animal a mammal?", "spanish": "¿Este animal es un mamífero?",
        "chinese": "这种动物是哺乳动物吗？", "german": "Ist dieses Tier ein Säugetier?",
    },
}  # fmt: skip
YES_NO = {"english": ("Yes", "No"), "spanish": ("Sí", "No"), "chinese": ("是", "不"), "german": ("Ja", "Nein")}
"""Language -> what answers the plain question of a mammal."""
KINDS = ("mammal", "bird", "reptile", "insect")
"""What the world's facts say an animal that sounds is: what answers `question(clip.kind_ask, ...)`."""
OTHERS = re.compile(r"\bmouse click|\bsea lion")
"""Labels of the public sets in which an animal's word means something else."""
SMALL_WORDS = {"a", "an", "and", "at", "by", "in", "of", "on", "or", "the", "to", "with"}


@dataclass(frozen=True, eq=False)
class Clip:
    """A sound and what is true of it. samples: float32 in -1 to 1, `rate` a second; label: the English word of its
    source; group: "animal", "instrument" or "machine"; words: the label and, where there is one, the verb of its sound;
    kind: what the world's facts say it is ("mammal"), empty where they do not; asks: what can be asked; cluster: the
    unit that intervals are over; held_out: no training clip has this source with this pitch and length."""

    id: str
    samples: np.ndarray
    rate: int
    label: str
    group: str
    words: tuple[str, ...]
    kind: str
    asks: tuple[Ask, ...]
    cluster: str
    held_out: bool = False

    @property
    def is_mammal(self) -> bool:
        return self.kind == "mammal"

    @property
    def kind_ask(self) -> Ask:
        """What kind of thing it is: never taught of any sound, only, in words, of what makes it."""
        if not self.kind:
            raise SemhubError(f"The world's facts do not say what {self.label!r} is; another sound would do.")
        return Ask("kind", "", (self.kind,))


def clips(n: int, *, seed: int = 0, held_out: bool | None = True, groups: Sequence[str] = tuple(GROUPS)) -> list[Clip]:
    """`n` clips, all sources of `groups` in turn. held_out: True, combinations of pitch and length that no training
    clip of the source has; False, those of training; None, both. Raises SemhubError on an unknown group."""
    for group in groups:
        if group not in GROUPS:
            raise SemhubError(f"There is no group {group!r} of sounds; one of {', '.join(GROUPS)} would do.")
    return _drawn([source for group in groups for source in GROUPS[group]], n, f"clips {seed}", held_out)


def short_clips(clips: Sequence[Clip], n: int) -> list[Clip]:
    """The shortest clip of each of `n` labels, spread over all there are: a few to put on a page."""
    different: dict[str, Clip] = {}
    for clip in sorted(clips, key=lambda clip: len(clip.samples) / clip.rate):
        different.setdefault(clip.label, clip)
    labels = list(dict.fromkeys(clip.label for clip in clips))
    n = min(n, len(labels))
    return [different[labels[k * len(labels) // n]] for k in range(n)]


def animal_clips(n: int, *, seed: int = 0, held_out: bool | None = True) -> list[Clip]:
    """`n` clips of animals whose kind the world's facts state, a mammal and another in turn."""
    mammals, others = (
        [a for a in world.ANIMALS if kind_of(a) and (kind_of(a) == "mammal") is m] for m in (True, False)
    )
    pairs = [source for i in range(len(mammals) * len(others)) for source in
             (mammals[i % len(mammals)], others[i % len(others)])]  # fmt: skip
    return _drawn(pairs, n, f"animals {seed}", held_out)


def read_clips(n: int, *, seed: int = 0, data_dir: str | Path, animals: bool = False) -> tuple[list[Clip], Skipped]:
    """`n` clips of VGGSound (csv and wav) or ESC-10/50, whichever `data_dir` holds. The words of a label are those of
    its text, small ones left out; clips of one recording are one cluster. animals: only those with an `animal_of` their
    label, which is then the label, and with its kind; the others are counted, and there may be none. Raises SemhubError
    where neither set is there."""
    root, wanted = Path(data_dir), animal_of if animals else None
    if any((root / name).is_file() for name in ("vggsound/vggsound.csv", "vggsound.csv")):
        found, skipped = vggsound(n, seed=seed, data_dir=data_dir, wanted=wanted)
    elif any(root.glob("**/esc50.csv")) or any(root.glob("**/[0-9]* - *")):
        found, skipped = esc(n, seed=seed, data_dir=data_dir, wanted=wanted)
    else:
        raise SemhubError(
            f"{data_dir} holds neither ESC-10, ESC-50 nor VGGSound; a folder with the files of GitHub "
            "karolpiczak/ESC-50 or of robots.ox.ac.uk/~vgg/data/vggsound would do."
        )
    read = []
    for file in found:
        label, kind = file.label, ""
        if animals:
            label = animal_of(label)
            kind = kind_of(label)
        words = tuple(dict.fromkeys(w for w in _words(label) if w not in SMALL_WORDS))
        read.append(Clip(file.id, file.sound(RATE).samples, RATE, label, "", words, kind, (), file.source))
    return read, skipped


def animal_of(label: str) -> str:
    """The first word of a recording's label that is an animal of KINDS, in the singular: "lion" of "lions roaring".
    Empty where there is none."""
    words = [form for word in _words(OTHERS.sub("", label.lower())) for form in (word, word.removesuffix("s"))]
    return next((word for word in words if kind_of(word) in KINDS), "")


def _words(label: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", label.lower())


def of_the_other_class(clip: Clip, *, seed: int = 0) -> str:
    """The word of an animal on the other side of "is it a mammal", among those that sound, drawn by `seed`."""
    return _animal(clip, not clip.is_mammal, seed)


def of_the_own_class(clip: Clip, *, seed: int = 0) -> str:
    """The word of another animal on the same side of "is it a mammal", drawn by `seed`."""
    return _animal(clip, clip.is_mammal, seed)


def _animal(clip: Clip, mammal: bool, seed: int) -> str:
    there = [a for a in world.ANIMALS if kind_of(a) and (kind_of(a) == "mammal") is mammal and a != clip.label]
    return random.Random(f"{seed} {clip.id}").choice(there)


def kind_of(source: str) -> str:
    """What the world's facts say a source is ("mammal"); empty where they do not."""
    return next((f.object for f in all_facts() if f.subject == source and f.relation == "is_a"), "")


def question(ask: Ask, language: str, *, form: int | None = None) -> tuple[str, str]:
    """(prompt, answer) in the world's sentences, as `spokes.vision.question`."""
    return vision.question(ask, language, form=form, what=SLOT)


def heard(clip: Clip, text: str = "") -> Input:
    """A text with the clip, which stands where the text has SLOT, or in front where it has none."""
    return Input(text, sounds=(Sound(clip.samples, clip.rate),))


def _drawn(sources: Sequence[str], n: int, name: str, held_out: bool | None) -> list[Clip]:
    if n < 1:
        raise SemhubError(f"n_items is {n}; a whole number from 1 would do.")
    rng = random.Random(name)
    return [_clip(world.draw(rng, sources[i % len(sources)], held=held_out)) for i in range(n)]


def _clip(drawn: world.Clip) -> Clip:
    source, verb = drawn.source, world.ANIMALS.get(drawn.source)
    group = next(g for g, there in GROUPS.items() if source in there)
    words = (source, *((verb,) if verb else ()))
    asks = (Ask("name", "", (source,)), *((Ask("skill", "", (verb,)),) if verb else ()))
    content = f"{source} {drawn.pitch_name} {drawn.length_name}"
    held = (source, drawn.pitch_name, drawn.length_name) in world.held_out()
    return Clip(f"{content} {drawn.grain}", world.synthesise(drawn), RATE, source, group, words, kind_of(source), asks,
                content, held)  # fmt: skip

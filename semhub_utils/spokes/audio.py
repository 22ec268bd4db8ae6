"""Sounds as data: animals, instruments and machines, and recordings of ESC and VGGSound, with what is true of them in
words.

As with pictures (`spokes.vision`), questions come in the world's sentences, where the sound stands for a word, and in
plain ones; every text in the world's sentences holds SLOT where the sound is. By default the clips are those held out:
for every source, combinations of pitch and length that no training clip has.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import starmap
from operator import attrgetter
from pathlib import Path

import numpy as np
import soundfile

from semhub_utils.errors import SemhubError, need
from semhub_utils.inputs import Input, Sound, need_rate, resample
from semhub_utils.organism import sounds as world
from semhub_utils.organism.corpus import SOUND, Ask
from semhub_utils.organism.sounds import kind_of
from semhub_utils.spokes import vision
from semhub_utils.spokes.facts import PHRASES
from semhub_utils.spokes.files import PublicSet, below, named, table
from semhub_utils.spokes.items import Items, LeftOut, LensItem, PatchItem, collected, shuffled
from semhub_utils.spokes.languages import words_in

SLOT = SOUND
GROUPS = world.GROUPS
RATE = world.RATE
YES_NO = {language: (yes, PHRASES["no"][language]) for language, yes in PHRASES["yes"].items()}
"""Language -> what answers the plain question of a mammal."""
KINDS = ("mammal", "bird", "reptile", "insect")
"""What the world's facts say an animal that sounds is: what answers `clip.kind_ask`."""
OTHERS = re.compile(r"\bmouse click|\bsea lion")
"""Labels of the public sets in which an animal's word means something else."""
SMALL_WORDS = {"a", "an", "and", "at", "by", "in", "of", "on", "or", "the", "to", "with"}
SILENT = ("table", "book", "bread", "hat", "rose", "moon")
"""Things that do not sound."""


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
        need(self.kind, f"The world's facts do not say what {self.label!r} is; another sound would do.")
        return Ask("kind", "", (self.kind,))


def clips(n: int, *, seed: int = 0, held_out: bool | None = True, groups: Sequence[str] = tuple(GROUPS)) -> Items:
    """`n` clips, all sources of `groups` in turn. held_out: True, combinations of pitch and length that no training
    clip of the source has; False, those of training; None, both."""
    return _drawn([source for group in groups for source in GROUPS[group]], n, f"clips {seed}", held_out)


def animal_clips(n: int, *, seed: int = 0, held_out: bool | None = True) -> Items:
    """`n` clips of animals whose kind the world's facts state, a mammal and another in turn."""
    mammals, others = _animals(True), _animals(False)
    both = range(len(mammals) * len(others))
    pairs = [source for i in both for source in (mammals[i % len(mammals)], others[i % len(others)])]
    return _drawn(pairs, n, f"animals {seed}", held_out)


def _drawn(sources: Sequence[str], n: int, name: str, held_out: bool | None) -> Items:
    rng = random.Random(name)
    return Items(_clip(world.draw(rng, sources[i % len(sources)], held=held_out)) for i in range(n))


def _clip(drawn: world.Clip) -> Clip:
    source, content = drawn.source, (drawn.source, drawn.pitch_name, drawn.length_name)
    group = next(g for g, there in GROUPS.items() if source in there)
    words = tuple(filter(None, (source, world.ANIMALS.get(source))))
    asks = tuple(ask for ask in world.questions(drawn) if ask.kind != "kind")
    of, cluster, held = (source, group, words, kind_of(source), asks), " ".join(content), content in world.held_out()
    return Clip(f"{cluster} {drawn.grain}", world.synthesise(drawn), RATE, *of, cluster, held)


def _animals(mammal: bool) -> list[str]:
    """The animals that sound whose kind the world's facts state, mammals or the others."""
    return [a for a in world.ANIMALS if kind_of(a) and (kind_of(a) == "mammal") is mammal]


def short_clips(clips: Sequence[Clip], n: int) -> list[Clip]:
    """The shortest clip of each of `n` labels, spread over all there are: a few to put on a page."""
    labels = list(dict.fromkeys(clip.label for clip in clips))
    n = min(n, len(labels))
    by_length = sorted(clips, key=lambda clip: len(clip.samples) / clip.rate)
    return [next(c for c in by_length if c.label == labels[k * len(labels) // n]) for k in range(n)]


def heard(clip: Clip, text: str = "") -> Input:
    """A text with the clip, which stands where the text has SLOT, or in front where it has none."""
    return Input(text, sounds=(Sound(clip.samples, clip.rate),))


# Of public sets

RECORDINGS = PublicSet(
    "ESC-10, ESC-50 or VGGSound",
    (
        *(f"{root}vggsound.csv" for root in ("vggsound/", "")),
        *(f"{root}001 - Dog bark" for root in ("esc10/", "ESC-10-master/", "ESC-10/", "")),
        *(f"{root}meta/esc50.csv" for root in ("esc50/", "ESC-50-master/", "ESC-50/", "")),
    ),
    "GitHub karolpiczak/ESC-50 or of robots.ox.ac.uk/~vgg/data/vggsound",
)
SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
Recordings = Iterator[tuple[str, Path, str, str]]
"""Of each its id, its file, its label, and the recording that it was cut from."""


def read_clips(n: int, *, seed: int = 0, data_dir: str | Path, animals: bool = False) -> Items:
    """`n` clips (all there are, if that is fewer), drawn by `seed`, of the set that `data_dir` holds: VGGSound's table
    and files (its test split), ESC-10's folders, or ESC-50's table and files: Clip. The words of a label are those of
    its text, small ones left out; clips of one recording are one cluster. A file that is missing or cannot be read is
    left out and counted.

    animals: only those with an `animal_of` their label, which is then the label, and with its kind; the others are
    counted, and there may be none. Raises SemhubError where no set is there, or it has no sound that can be used."""
    path = RECORDINGS.find(data_dir)
    read = {"vggsound.csv": _vggsound, "esc50.csv": _esc50}.get(path.name, _esc10)
    found, every = Items(source=named(path if path.is_file() else path.parent)), []
    for recording in read(path, found):
        name, _, label, _ = recording
        if not animals or animal_of(label):
            every.append(recording)
        else:
            found.drop("another label", f"{name} ({label})")

    def clip(name: str, file: Path, label: str, cluster: str) -> Clip | LeftOut:
        animal = animal_of(label) if animals else ""
        try:  # looked at now, so that no damaged one ends a run later
            samples = read_sound(file, RATE).samples
        except SemhubError as error:
            return LeftOut("unreadable file" if file.is_file() else "no file", str(error).split(";")[0])
        words = tuple(dict.fromkeys(w for w in words_in(animal or label) if w not in SMALL_WORDS))
        return Clip(name, samples, RATE, animal or label, "", words, kind_of(animal), (), cluster)

    found.take(starmap(clip, shuffled(every, seed)), n)
    found.sort(key=attrgetter("id"))
    return found if animals else found.some("sounds", path)


def _esc10(path: Path, found: Items) -> Recordings:
    for file in sorted(path.parent.glob("* - */*")):
        number, _, label = file.parent.name.partition(" - ")
        if number.isdigit() and file.suffix.lower() in SUFFIXES:
            yield f"esc10:{file.stem}", file, label.lower(), file.stem.rpartition("-")[0]


def _esc50(path: Path, found: Items) -> Recordings:
    for place, row in table(path, found, ("filename", "category", "src_file")):
        file = below(path.parent.parent / "audio", row["filename"]) or path.parent
        yield f"esc50:{file.stem}", file, row["category"].replace("_", " "), row["src_file"] or place


def _vggsound(path: Path, found: Items) -> Recordings:
    """Files are named <video>_<second in six digits>.wav, and lie in the table's folder or below it."""
    files = {file.stem: file for file in sorted(path.parent.rglob("*")) if file.suffix.lower() in SUFFIXES}
    for place, row in table(path, found, ("video", "second", "label", "split"), head=False):
        second, name = row["second"].strip(), row["video"]
        name = f"{name}_{int(second):06d}" if re.fullmatch(r"\d{1,9}", second) else name
        if row["split"].strip() == "test" and name in files:
            yield f"vggsound:{name}", files[name], row["label"].strip(), row["video"]
        elif row["split"].strip() == "test":
            found.drop("no file", f"{place} ({name})")


def read_sound(path: str | Path, rate: int) -> Sound:
    """A sound file as one channel at `rate` samples a second: the mean of its channels, resampled, and made quieter as
    a whole where it goes beyond -1 to 1. Raises SemhubError where the file is missing, no sound, empty, or holds values
    that are no numbers."""
    try:
        samples, own = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, OSError, ValueError, TypeError) as error:
        if not Path(path).is_file():
            raise SemhubError(f"There is no sound {path}; the path of a file that exists would do.") from error
        raise SemhubError(f"{path} is not a sound that can be read; a WAV, FLAC or OGG file would do.") from error
    need_rate(own, f"{path} is a sound")
    need(not _is_cut(Path(path), len(samples)), f"{path} is cut short; the whole file would do.")
    need(len(samples), f"{path} has no samples; a sound of at least one would do.")
    need(np.isfinite(samples).all(), f"{path} holds samples that are no numbers; a sound without them would do.")
    sound = resample(samples.mean(1), own, rate)
    return Sound((sound / max(1.0, float(np.abs(sound).max()))).astype(np.float32), rate)


def _is_cut(path: Path, n: int) -> bool:
    """Whether a file of which `n` samples were read goes on in its own header's words, or lacks its last page."""
    data = path.read_bytes()
    if data[:4] == b"OggS":
        last = data.rfind(b"OggS")
        segments = data[last + 27 : last + 27 + data[last + 26]] if len(data) > last + 27 else b""
        whole = len(data) >= last + 27 + len(segments) + sum(segments) and len(segments) == data[last + 26]
        return not (whole and data[last + 5] & 4)  # the page that ends the stream says so
    if data[:4] == b"RIFF":
        at = 12
        while at + 8 <= len(data):
            size = int.from_bytes(data[at + 4 : at + 8], "little")
            if data[at : at + 4] == b"data":
                return at + 8 + size > len(data) and size < 0x7FFF0000  # which stands for "until it ends"
            at += 8 + size + size % 2
    return n < soundfile.info(path).frames


def animal_of(label: str) -> str:
    """The first word of a recording's label that is an animal of KINDS, in the singular: "lion" of "lions roaring".
    Empty where there is none."""
    words = [form for word in words_in(OTHERS.sub("", label.lower())) for form in (word, word.removesuffix("s"))]
    return next((word for word in words if kind_of(word) in KINDS), "")


def another_animal(clip: Clip, *, mammal: bool) -> str:
    """The word of another animal that sounds, on this side of "is it a mammal"."""
    return random.Random(f"0 {clip.id}").choice([animal for animal in _animals(mammal) if animal != clip.label])


@dataclass(frozen=True, eq=False, kw_only=True)
class KindItem(LensItem):
    """A clip of an animal and a question of its kind: the true answer is "own", the others are wrong. answers: words of
    the language, of which the first says that it is a mammal and the others that it is not; other, alike: the English
    words of animals of the other class and of the own one."""

    clip: Clip
    answers: tuple[str, ...]
    other: str
    alike: str

    @classmethod
    def of(cls, clip: Clip, text: str, answers: tuple[str, ...], right: int, other: str, alike: str) -> "KindItem":
        """right: which of the answers is true."""
        sides = {"targets": {"own": (answers[right],)}, "wrong": {"own": answers[:right] + answers[right + 1 :]}}
        asked = {"id": clip.id, "prompt": heard(clip, text), "cluster": clip.cluster, "anchor": clip.label}
        return cls(clip=clip, answers=answers, other=other, alike=alike, **asked, **sides)


@collected
def kind_items(
    clips: Sequence[Clip], language: str, *, plain: bool = False, forms: Sequence[int] = (0,)
) -> Iterator[KindItem]:
    """What kind of animal is it? In the world's own sentences, once in each of `forms`; or, plainly, once, whether it
    is a mammal. Raises SemhubError on a clip without a kind."""
    for form in (0,) if plain else forms:
        for clip in clips:
            prompt, _ = vision.question(clip.kind_ask, language, form=form, what=SLOT)
            answers, right = tuple(vision.word(kind, language) for kind in KINDS), KINDS.index(clip.kind)
            if plain:
                prompt, answers, right = PHRASES["mammal?"][language], YES_NO[language], int(not clip.is_mammal)
            beside = (another_animal(clip, mammal=side) for side in (not clip.is_mammal, clip.is_mammal))
            yield KindItem.of(clip, prompt, answers, right, *beside)


def name_question(clip: Clip, manner: str) -> Input:
    """The question, in English, what a clip is a sound of; its label may be no word of the world."""
    return heard(clip, vision.in_manner(Ask("name", "", ()), "english", manner, what=SLOT))


@collected
def sound_patches(
    clips: Sequence[Clip], language: str, *, kind: str = "name", manner: str = "world", seed: int = 0
) -> Iterator[PatchItem]:
    """Every clip asked for its name, or for the kind of animal it is (`kind`="kind"), in a language, with the sentence
    of another source of the clips drawn by `seed` ("Emma sees the cat"), of another kind there, a clip of it, and the
    sentence of a thing that does not sound. Written into: all positions of the sound. Raises SemhubError on an unknown
    manner, or a language without a plain question."""
    rng, told = random.Random(f"patches {seed}"), "Emma sees the {}".format
    answers = {clip.label: clip.label if kind == "name" else clip.kind for clip in clips}
    for clip in clips:
        own = answers[clip.label]
        others = sorted({answer for answer in answers.values() if answer and answer != own})
        if own and others:
            expected = rng.choice(others)  # first, or most would be mammals
            new = rng.choice([label for label, answer in answers.items() if answer == expected])
            silent, like = rng.choice(SILENT), rng.choice([other for other in clips if other.label == new])
            prompt = vision.in_manner(Ask(kind, "", (own,)), language, manner, what=SLOT)
            run, source = (heard(c, prompt) for c in (clip, like))
            own, expected = (vision.said(word, language) for word in (own, expected))
            sides = (run, told(clip.label)), own, (source, told(new)), expected, (None, told(silent))
            group = f"{kind} {language}"
            yield PatchItem(f"{clip.id}: {new}", *sides, clip.cluster, group, new, attrgetter("frames"))

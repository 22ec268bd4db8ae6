"""Sounds as data: animals, instruments and machines, with what is true of them in words.

As with pictures (`spokes.vision`), questions come in the world's sentences, where the sound stands for a word, and in
plain ones; every text in the world's sentences holds SLOT where the sound is. By default the clips are those held out:
for every source, combinations of pitch and length that no training clip has.
"""

import csv
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from semhub_utils.errors import SemhubError, need, need_one_of
from semhub_utils.inputs import Encoding, Input, Sound, resample
from semhub_utils.organism import sounds as world
from semhub_utils.organism.corpus import SOUND, Ask
from semhub_utils.organism.world import all_facts
from semhub_utils.spokes import vision
from semhub_utils.spokes.files import find, named, read_text
from semhub_utils.spokes.items import Item, Items, LensItem, PatchItem
from semhub_utils.spokes.languages import words_in
from semhub_utils.spokes.vision import in_manner, said

SLOT = SOUND
GROUPS = world.GROUPS
RATE = world.RATE
PLAIN = {
    "name": {
        "english": "What is this sound?", "spanish": "¿Qué es este sonido?",
        "chinese": "这是什么声音？", "german": "Was ist das für ein Geräusch?",
    },
    "kind": {
        "english": "What kind of animal makes this sound?", "spanish": "¿Qué tipo de animal hace este sonido?",
        "chinese": "发出这种声音的是哪种动物？", "german": "Was für ein Tier macht dieses Geräusch?",
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
        need(self.kind, f"The world's facts do not say what {self.label!r} is; another sound would do.")
        return Ask("kind", "", (self.kind,))


def clips(n: int, *, seed: int = 0, held_out: bool | None = True, groups: Sequence[str] = tuple(GROUPS)) -> Items:
    """`n` clips, all sources of `groups` in turn. held_out: True, combinations of pitch and length that no training
    clip of the source has; False, those of training; None, both. Raises SemhubError on an unknown group."""
    for group in groups:
        need_one_of(group, GROUPS, f"There is no group {group!r} of sounds")
    return _drawn([source for group in groups for source in GROUPS[group]], n, f"clips {seed}", held_out)


def short_clips(clips: Sequence[Clip], n: int) -> list[Clip]:
    """The shortest clip of each of `n` labels, spread over all there are: a few to put on a page."""
    different: dict[str, Clip] = {}
    for clip in sorted(clips, key=lambda clip: len(clip.samples) / clip.rate):
        different.setdefault(clip.label, clip)
    labels = list(dict.fromkeys(clip.label for clip in clips))
    n = min(n, len(labels))
    return [different[labels[k * len(labels) // n]] for k in range(n)]


def animal_clips(n: int, *, seed: int = 0, held_out: bool | None = True) -> Items:
    """`n` clips of animals whose kind the world's facts state, a mammal and another in turn."""
    mammals, others = _animals(True), _animals(False)
    both = range(len(mammals) * len(others))
    pairs = [source for i in both for source in (mammals[i % len(mammals)], others[i % len(others)])]
    return _drawn(pairs, n, f"animals {seed}", held_out)


def read_clips(n: int, *, seed: int = 0, data_dir: str | Path, animals: bool = False) -> Items:
    """`n` clips of VGGSound (csv and wav) or ESC-10/50, whichever `data_dir` holds: Clip. The words of a label are
    those of its text, small ones left out; clips of one recording are one cluster. animals: only those with an
    `animal_of` their label, which is then the label, and with its kind; the others are counted, and there may be none.
    Raises SemhubError where neither set is there."""
    root = Path(data_dir)
    vgg = any((root / name).is_file() for name in VGGSOUND)
    need(
        vgg or any(root.glob("**/esc50.csv")) or any(root.glob("**/[0-9]* - *")),
        f"{data_dir} holds neither ESC-10, ESC-50 nor VGGSound; a folder with the files of GitHub "
        "karolpiczak/ESC-50 or of robots.ox.ac.uk/~vgg/data/vggsound would do.",
    )
    found = (vggsound if vgg else esc)(n, seed=seed, data_dir=data_dir, wanted=animal_of if animals else None)
    read = found.but([])
    for file in found:
        label = animal_of(file.label) if animals else file.label
        words = tuple(dict.fromkeys(w for w in words_in(label) if w not in SMALL_WORDS))
        samples, kind = file.sound(RATE).samples, kind_of(label) if animals else ""
        read.append(Clip(file.id, samples, RATE, label, "", words, kind, (), file.source))
    return read


def animal_of(label: str) -> str:
    """The first word of a recording's label that is an animal of KINDS, in the singular: "lion" of "lions roaring".
    Empty where there is none."""
    words = [form for word in words_in(OTHERS.sub("", label.lower())) for form in (word, word.removesuffix("s"))]
    return next((word for word in words if kind_of(word) in KINDS), "")


def another_animal(clip: Clip, *, mammal: bool) -> str:
    """The word of another animal that sounds, on this side of "is it a mammal"."""
    return random.Random(f"0 {clip.id}").choice([animal for animal in _animals(mammal) if animal != clip.label])


def _animals(mammal: bool) -> list[str]:
    """The animals that sound whose kind the world's facts state, mammals or the others."""
    return [a for a in world.ANIMALS if kind_of(a) and (kind_of(a) == "mammal") is mammal]


def kind_of(source: str) -> str:
    """What the world's facts say a source is ("mammal"); empty where they do not."""
    return next((f.object for f in all_facts() if f.subject == source and f.relation == "is_a"), "")


def question(ask: Ask, language: str, *, form: int | None = None) -> tuple[str, str]:
    """(prompt, answer) in the world's sentences, as `spokes.vision.question`."""
    return vision.question(ask, language, form=form, what=SLOT)


def heard(clip: Clip, text: str = "") -> Input:
    """A text with the clip, which stands where the text has SLOT, or in front where it has none."""
    return Input(text, sounds=(Sound(clip.samples, clip.rate),))


def _drawn(sources: Sequence[str], n: int, name: str, held_out: bool | None) -> Items:
    rng = random.Random(name)
    return Items(_clip(world.draw(rng, sources[i % len(sources)], held=held_out)) for i in range(n))


def _clip(drawn: world.Clip) -> Clip:
    source, verb = drawn.source, world.ANIMALS.get(drawn.source)
    group = next(g for g, there in GROUPS.items() if source in there)
    words = (source, *((verb,) if verb else ()))
    asks = tuple(ask for ask in world.questions(drawn) if ask.kind != "kind")
    content = f"{source} {drawn.pitch_name} {drawn.length_name}"
    held = (source, drawn.pitch_name, drawn.length_name) in world.held_out()
    return Clip(f"{content} {drawn.grain}", world.synthesise(drawn), RATE, source, group, words, kind_of(source), asks,
                content, held)  # fmt: skip


# Sounds of public sets

Wanted = Callable[[str], object] | None
"""Whether a label is wanted; None where all are."""
VGGSOUND = ("vggsound/vggsound.csv", "vggsound.csv")
SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")


@dataclass(frozen=True)
class Recording:
    """One sound. source: the recording it was cut from; clips of one source are not independent."""

    id: str
    path: Path
    label: str
    source: str

    def sound(self, rate: int) -> Sound:
        return read_sound(self.path, rate)


def esc(n: int, *, seed: int, data_dir: str | Path, wanted: Wanted = None) -> Items:
    """`n` recordings (all there are, if that is fewer) drawn by `seed`: ESC-10's folders of `data_dir`/esc10, named as
    "001 - Dog bark", or ESC-50's meta/esc50.csv and audio/ in `data_dir`/esc50. A file that cannot be read, or whose
    label is not wanted, is left out and counted. Raises SemhubError where neither is there."""
    for root in (Path(data_dir) / name for name in ("esc10", "ESC-10-master", "ESC-10", ".")):
        folders = [f for f in sorted(root.glob("*")) if f.is_dir() and re.fullmatch(r"\d+ - .+", f.name)]
        if folders:
            files = [f for folder in folders for f in sorted(folder.iterdir()) if f.suffix.lower() in SUFFIXES]
            found = Items(source=named(root))
            for f in files:
                label = f.parent.name.partition(" - ")[2].lower()
                found.append(Recording(f"esc10:{f.stem}", f, label, f.stem.rpartition("-")[0]))
            return _readable(found, root, n, seed, wanted)
    places = tuple(f"{root}/meta/esc50.csv" for root in ("esc50", "ESC-50-master", "ESC-50", "."))
    path = find(data_dir, places, what="ESC-10 or ESC-50", source="GitHub karoldvl/ESC-10 or karolpiczak/ESC-50")
    found = Items(source=named(path))
    for place, row in _rows(path, ("filename", "category", "src_file"), found):
        f = path.parent.parent / "audio" / row["filename"]
        found.append(Recording(f"esc50:{f.stem}", f, row["category"].replace("_", " "), row["src_file"] or place))
    return _readable(found, path, n, seed, wanted)


def vggsound(n: int, *, seed: int, data_dir: str | Path, wanted: Wanted = None) -> Items:
    """`n` recordings of the test split: `data_dir`/vggsound/vggsound.csv (video, second, label, split) and files named
    <video>_<second in six digits>.wav, in that folder or one below. Those that are not there are left out and counted,
    and so are others as by `esc`. Raises SemhubError where the table is missing."""
    path = find(data_dir, VGGSOUND, what="VGGSound", source="robots.ox.ac.uk/~vgg/data/vggsound")
    found = Items(source=named(path))
    files = {file.stem: file for file in sorted(path.parent.rglob("*")) if file.suffix.lower() in SUFFIXES}
    for place, (video, second, label, part) in _rows(path, ("video", "second", "label", "split"), found, head=False):
        if part.strip() != "test":
            continue
        name = f"{video}_{int(second):06d}" if second.strip().isdigit() else video
        if name in files:
            found.append(Recording(f"vggsound:{name}", files[name], label.strip(), video))
        else:
            found.drop("no file", f"{place} ({name})")
    return _readable(found, path, n, seed, wanted)


def _rows(path: Path, columns: tuple[str, ...], found: Items, head: bool = True):
    """(place, row) of a table: by column name if it has a head, else as many values as there are columns."""
    rows = list(csv.reader(read_text(path).splitlines()))
    names = [name.strip() for name in rows[0]] if head and rows else list(columns)
    missing = min(set(columns) - set(names), default="")
    need(not missing, f"{path} has no column {missing}; the table of the data set itself would do.")
    for number, row in enumerate(rows[head:], 1 + head):
        if len(row) == len(names):
            yield f"{path.name}:{number}", dict(zip(names, row, strict=True)) if head else row
        else:
            found.drop("row of another length", f"{path.name}:{number}")


def _readable(found: Items, path: Path, n: int, seed: int, wanted: Wanted) -> Items:
    """`n` recordings that can be read, drawn by `seed`; each is looked at now, so that no damaged one ends a run later.
    Of labels that are wanted there may be none."""
    drawn, left = found.but([]), []
    for recording in found:
        if wanted and not wanted(recording.label):
            drawn.drop("another label", f"{recording.id} ({recording.label})")
        else:
            left.append(recording)
    for number in np.random.default_rng(seed).permutation(len(left)):
        if len(drawn) == n:
            break
        recording = left[number]
        try:
            recording.sound(RATE)
        except SemhubError as error:
            drawn.drop("unreadable file" if recording.path.is_file() else "no file", str(error).split(";")[0])
        else:
            drawn.append(recording)
    drawn.sort(key=lambda recording: recording.id)
    return drawn if wanted else drawn.some("sounds", path)


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
    need(len(samples), f"{path} has no samples; a sound of at least one would do.")
    need(np.isfinite(samples).all(), f"{path} holds samples that are no numbers; a sound without them would do.")
    sound = resample(samples.mean(1), own, rate)
    return Sound((sound / max(1.0, float(np.abs(sound).max()))).astype(np.float32), rate)


# Items


@dataclass(frozen=True, eq=False)
class KindItem(Item):
    """A clip of an animal and a question of its kind. prompt: with SLOT where the sound is, or a plain question;
    answers: words of the language, of which the first says that it is a mammal and the others that it is not; right:
    which is true; other, alike: the English words of animals of the other class and of the own one."""

    clip: Clip
    prompt: str
    answers: tuple[str, ...]
    right: int
    other: str
    alike: str

    @property
    def cluster(self) -> str:
        return self.clip.cluster

    @property
    def anchor(self) -> str:
        return self.clip.label

    @property
    def asked(self) -> LensItem:
        """The question with its sound, as an item: the true answer is its "own", the others are wrong."""
        wrong = (*self.answers[: self.right], *self.answers[self.right + 1 :])
        own = {"own": (self.answers[self.right],)}
        prompt = heard(self.clip, self.prompt)
        return LensItem(self.clip.id, prompt, own, self.cluster, wrong={"own": wrong}, anchor=self.anchor)


def kind_items(
    clips: Sequence[Clip], language: str, *, plain: bool = False, forms: Sequence[int] = (0,)
) -> list[KindItem]:
    """What kind of animal is it? In the world's own sentences, once in each of `forms`; or, plainly, once, whether it
    is a mammal. Raises SemhubError on a clip without a kind, or a language or form that there is not."""
    if plain:
        need_one_of(language, YES_NO, f"There is no plain question in {language!r}")
    items = []
    for form in (0,) if plain else forms:
        for clip in clips:
            ask = clip.kind_ask
            if plain:
                asked = PLAIN["mammal"][language], YES_NO[language], int(not clip.is_mammal)
            else:
                prompt, _ = question(ask, language, form=form)
                answers = tuple(vision.word(kind, language) for kind in KINDS)
                asked = prompt, answers, KINDS.index(clip.kind)
            other, alike = (another_animal(clip, mammal=side) for side in (not clip.is_mammal, clip.is_mammal))
            items.append(KindItem(clip, *asked, other, alike))
    return items


SILENT = ("table", "book", "bread", "hat", "rose", "moon")
"""Things that do not sound."""


def sound_patches(
    clips: Sequence[Clip], language: str, *, kind: str = "name", manner: str = "world", seed: int = 0
) -> list[PatchItem]:
    """Every clip asked for its name, or for the kind of animal it is (`kind`="kind"), in a language, with the sentence
    of another source of the clips drawn by `seed` ("Emma sees the cat"), of another kind there, a clip of it, and the
    sentence of a thing that does not sound. Written into: all positions of the sound. Raises SemhubError on an unknown
    kind, language or manner."""
    need_one_of(kind, ("name", "kind"), f"There is no question {kind!r} of sounds")
    rng, items = random.Random(f"patches {seed}"), []
    answers = {clip.label: clip.label if kind == "name" else clip.kind for clip in clips}
    for clip in clips:
        own = answers[clip.label]
        others = sorted({answer for answer in answers.values() if answer and answer != own})
        if not own or not others:
            continue
        expected = rng.choice(others)  # first, or most would be mammals
        new = rng.choice([label for label, answer in answers.items() if answer == expected])
        silent, like = rng.choice(SILENT), rng.choice([other for other in clips if other.label == new])
        prompt = in_manner(Ask(kind, "", (own,)), language, manner, PLAIN[kind], what=SLOT)
        own_text, new_text, other = (f"Emma sees the {word}" for word in (clip.label, new, silent))
        items.append(
            PatchItem(
                id=f"{clip.id}: {new}", run=(heard(clip, prompt), own_text),
                answer=said(own, language), source=(heard(like, prompt), new_text),
                expected=said(expected, language), other=(None, other),
                cluster=clip.cluster, group=f"{kind} {language}", anchor=new, places=_frames,
            )
        )  # fmt: skip
    return items


def _frames(encoding: Encoding) -> list[int]:
    return encoding.frames

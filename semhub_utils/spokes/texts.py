"""Sentences of equal meaning, and running text, in the book's four languages: generated, or from NTREX-128's files."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from semhub_utils.errors import SemhubError
from semhub_utils.inputs import Input
from semhub_utils.organism.corpus import Ask, Generators, forms
from semhub_utils.organism.lexicon import TYPES
from semhub_utils.organism.world import World, text, tidy
from semhub_utils.spokes import audio, vision
from semhub_utils.spokes.facts import WORLD
from semhub_utils.spokes.files import Skipped, find, read_text, some
from semhub_utils.spokes.hub_data import SETS, hub_rows, origin

LANGUAGES = {"english": "en", "spanish": "es", "chinese": "zh", "german": "de"}
_FILES = {"english": "src.eng", "spanish": "ref.spa", "chinese": "ref.zho-CN", "german": "ref.deu"}
_CONFIGS = {"english": "eng_Latn", "spanish": "spa_Latn", "chinese": "zho_Hans", "german": "deu_Latn"}


@dataclass(frozen=True)
class Parallel:
    """One meaning in several languages. group: sentences of one form, among which partners may be exchanged; words:
    what it speaks of, as many for each sentence (none for real text); document: where it stands, if that is known."""

    id: str
    texts: Mapping[str, str]
    group: str
    words: tuple[str, ...] = ()
    document: str = ""


def parallel_sentences(
    n: int,
    *,
    seed: int,
    languages: Sequence[str] = tuple(LANGUAGES),
    source: str | None = None,
    data_dir: str | Path | None = None,
) -> tuple[list[Parallel], Skipped]:
    """`n` sentences (all there are, if that is fewer) in each of `languages`, drawn by `seed`.

    source: "generated" (scenes of the shipped models' world, with who does what to whom drawn at random) or "ntrex"
    (NTREX-128 from `data_dir`/ntrex/NTREX-128, without `data_dir` over the network; a line that is empty in any
    language is skipped and counted); None is "ntrex" if there is a `data_dir`, else "generated". Raises SemhubError on
    an unknown language or source, or where the files are missing or of unequal length.
    """
    _known(*languages)
    if n < 1:
        raise SemhubError(f"n_items is {n}; a whole number from 1 would do.")
    skipped = Skipped()
    if origin("sentences", source, "ntrex", data_dir) == "generated":
        return _scenes(n, seed, languages), skipped
    sides = {language: _ntrex(language, data_dir) for language in languages}
    if len({len(side) for side in sides.values()}) > 1:
        counts = ", ".join(f"{len(side)} in {language}" for language, side in sides.items())
        raise SemhubError(f"NTREX's files in {data_dir} differ in length ({counts}); files of one release would do.")
    found, documents = [], _documents(data_dir, languages[0], len(sides[languages[0]]))
    for number, row in enumerate(zip(*sides.values(), strict=True), 1):
        if all(side.strip() for side in row):
            of = {language: side.strip() for language, side in zip(languages, row, strict=True)}
            found.append(Parallel(f"ntrex:{number}", of, "ntrex", document=documents[number - 1]))
        else:
            skipped.add("empty line", f"ntrex:{number}")
    return _draw(some(found, data_dir or SETS["ntrex"][0], "sentences", skipped), n, seed), skipped


def running_text(
    language: str, n: int, *, seed: int, source: str | None = None, data_dir: str | Path | None = None
) -> tuple[list[str], Skipped]:
    """`n` lines of running text of one language: the shipped models' own kind of line, or NTREX-128's, as above."""
    _known(language)
    skipped = Skipped()
    if origin("sentences", source, "ntrex", data_dir) == "generated":
        make, rng = Generators(WORLD), random.Random(f"running text {language} {seed}")
        return [text(tidy(make.passage(rng, LANGUAGES[language]))) for _ in range(n)], skipped
    found = []
    for number, line in enumerate(_ntrex(language, data_dir), 1):
        if line.strip():
            found.append(line)
        else:
            skipped.add("empty line", f"ntrex:{number}")
    return _draw(some(found, data_dir or SETS["ntrex"][0], "text", skipped), n, seed), skipped


def mixed_text(n: int, *, seed: int, world: World = WORLD) -> list[str]:
    """`n` lines of the shipped models' own kinds of line, all types in equal parts: what a tuned lens is trained on."""
    make, rng = Generators(world), random.Random(f"mixed text {seed}")
    return [text(tidy(make.monolingual(rng, TYPES[k % len(TYPES)]))) for k in range(n)]


def mixed_questions(sense: str, n: int, *, seed: int) -> list[Input]:
    """`n` questions in English with their answers, about pictures ("sees") or clips ("hears") of the kinds that the
    shipped models learnt from, nothing held out among them."""
    rng = random.Random(f"mixed questions {sense} {seed}")

    def line(asks: Sequence[Ask], slot: str) -> str:
        ask = rng.choice(asks)
        return " ".join(vision.question(ask, "english", form=rng.choice(forms(ask.kind, "en")), what=slot))

    if sense == "hears":
        clips = audio.clips(n, seed=seed, held_out=False)
        return [audio.heard(clip, line(clip.asks, audio.SLOT)) for clip in clips[:n]]
    few = n // 4 or 1
    shown = [*vision.plain_colours(few, seed=seed), *vision.two_halves(few, seed=seed, held_out=False)]
    shown += vision.scenes(max(1, n - len(shown)), seed=seed, held_out=False)
    return [Input(line(picture.asks, vision.SLOT), (picture.image,)) for picture in shown[:n]]


def _scenes(n: int, seed: int, languages: Sequence[str]) -> list[Parallel]:
    make, rng, found = Generators(WORLD), random.Random(f"scenes {seed}"), {}
    while len(found) < n:
        roles = make.roles(rng)
        of = {name: text(tidy(make.say_scene(roles, LANGUAGES[name]))) for name in languages}
        words = (roles["verb"], roles["agent"], roles["theme"])
        found.setdefault(" ".join(roles.values()), Parallel(" ".join(roles.values()), of, " ".join(roles), words))
    return list(found.values())


def _ntrex(language: str, data_dir: str | Path | None) -> list[str]:
    """The lines of NTREX-128 in one language."""
    if data_dir is None:
        return [row["text"] or "" for row in hub_rows(*SETS["ntrex"], split="test", config=_CONFIGS[language])]
    return read_text(_file(language, data_dir)).splitlines()


def _file(language: str, data_dir: str | Path) -> Path:
    name = f"newstest2019-{_FILES[language]}.txt"
    places = tuple(f"{folder}{name}" for folder in ("ntrex/NTREX-128/", "NTREX-128/", ""))
    return find(data_dir, places, what="NTREX-128", source="GitHub MicrosoftTranslator/NTREX")


def _documents(data_dir: str | Path | None, language: str, n: int) -> list[str]:
    """The document of each of `n` lines; "" where the list of them is missing or of another release."""
    path = _file(language, data_dir).parents[1] / "DOCUMENT_IDS.tsv" if data_dir else None
    names = read_text(path).split() if path and path.is_file() else []
    return names if len(names) == n else [""] * n


def _known(*languages: str) -> None:
    for language in languages:
        if language not in LANGUAGES:
            raise SemhubError(f"There is no language {language!r} here; one of {', '.join(LANGUAGES)} would do.")


def _draw(found: list, n: int, seed: int) -> list:
    return [found[i] for i in sorted(np.random.default_rng(seed).permutation(len(found))[:n])]

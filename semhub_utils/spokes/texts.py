"""Sentences of equal meaning, and running text, in the book's four languages: generated, or from NTREX-128's files."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from semhub_utils.errors import SemhubError
from semhub_utils.organism.corpus import Generators
from semhub_utils.organism.lexicon import TYPES
from semhub_utils.organism.world import World, text, tidy
from semhub_utils.spokes.facts import WORLD
from semhub_utils.spokes.files import Skipped, find, lines, read_text, some

LANGUAGES = {"english": "en", "spanish": "es", "chinese": "zh", "german": "de"}
_NTREX = {"english": "src.eng", "spanish": "ref.spa", "chinese": "ref.zho-CN", "german": "ref.deu"}


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
    n: int, *, seed: int, languages: Sequence[str] = tuple(LANGUAGES), data_dir: str | Path | None = None
) -> tuple[list[Parallel], Skipped]:
    """`n` sentences (all there are, if that is fewer) in each of `languages`, drawn by `seed`.

    Without `data_dir`: scenes of the shipped models' world, with who does what to whom drawn at random. With it:
    NTREX-128, `data_dir`/ntrex/NTREX-128 (GitHub MicrosoftTranslator/NTREX); a line that is empty in any language is
    skipped and counted. Raises SemhubError on an unknown language or where the files are missing or of unequal length.
    """
    _known(*languages)
    if n < 1:
        raise SemhubError(f"n_items is {n}; a whole number from 1 would do.")
    skipped = Skipped()
    if data_dir is None:
        return _scenes(n, seed, languages), skipped
    sides = {language: read_text(_ntrex(language, data_dir)).splitlines() for language in languages}
    if len({len(side) for side in sides.values()}) > 1:
        counts = ", ".join(f"{len(side)} in {language}" for language, side in sides.items())
        raise SemhubError(f"NTREX's files in {data_dir} differ in length ({counts}); files of one release would do.")
    found, documents = [], _documents(_ntrex(languages[0], data_dir).parent, len(sides[languages[0]]))
    for number, row in enumerate(zip(*sides.values(), strict=True), 1):
        if all(side.strip() for side in row):
            of = {language: side.strip() for language, side in zip(languages, row, strict=True)}
            found.append(Parallel(f"ntrex:{number}", of, "ntrex", document=documents[number - 1]))
        else:
            skipped.add("empty line", f"ntrex:{number}")
    return _draw(some(found, data_dir, "sentences", skipped), n, seed), skipped


def running_text(language: str, n: int, *, seed: int, data_dir: str | Path | None = None) -> tuple[list[str], Skipped]:
    """`n` lines of running text of one language: the shipped models' own kind of line, or NTREX-128's, as above."""
    _known(language)
    skipped = Skipped()
    if data_dir is None:
        make, rng = Generators(WORLD), random.Random(f"running text {language} {seed}")
        return [text(tidy(make.passage(rng, LANGUAGES[language]))) for _ in range(n)], skipped
    path = _ntrex(language, data_dir)
    return _draw(some([line for _, line in lines(path, skipped)], path, "text", skipped), n, seed), skipped


def mixed_text(n: int, *, seed: int, world: World = WORLD) -> list[str]:
    """`n` lines of the shipped models' own kinds of line, all types in equal parts: what a tuned lens is trained on."""
    make, rng = Generators(world), random.Random(f"mixed text {seed}")
    return [text(tidy(make.monolingual(rng, TYPES[k % len(TYPES)]))) for k in range(n)]


def _scenes(n: int, seed: int, languages: Sequence[str]) -> list[Parallel]:
    make, rng, found = Generators(WORLD), random.Random(f"scenes {seed}"), {}
    while len(found) < n:
        roles = make.roles(rng)
        of = {name: text(tidy(make.say_scene(roles, LANGUAGES[name]))) for name in languages}
        words = (roles["verb"], roles["agent"], roles["theme"])
        found.setdefault(" ".join(roles.values()), Parallel(" ".join(roles.values()), of, " ".join(roles), words))
    return list(found.values())


def _ntrex(language: str, data_dir: str | Path) -> Path:
    name = f"newstest2019-{_NTREX[language]}.txt"
    places = tuple(f"{folder}{name}" for folder in ("ntrex/NTREX-128/", "NTREX-128/", ""))
    return find(data_dir, places, what="NTREX-128", source="GitHub MicrosoftTranslator/NTREX")


def _documents(folder: Path, n: int) -> list[str]:
    """The document of each of `n` lines; "" where the list of them is missing or of another release."""
    path = folder.parent / "DOCUMENT_IDS.tsv"
    names = read_text(path).split() if path.is_file() else []
    return names if len(names) == n else [""] * n


def _known(*languages: str) -> None:
    for language in languages:
        if language not in LANGUAGES:
            raise SemhubError(f"There is no language {language!r} here; one of {', '.join(LANGUAGES)} would do.")


def _draw(found: list, n: int, seed: int) -> list:
    return [found[i] for i in sorted(np.random.default_rng(seed).permutation(len(found))[:n])]

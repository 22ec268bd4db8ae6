"""Prompts whose continuation can be pleasant or not, in four languages, and the words that say which it is.

The prompts are openings of the shipped models' own sentences, or texts of tyqiangz/multilingual-sentiments' own files.
Which words are pleasant is written down in the same lexicon, in opposites.
"""

import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float

from semhub_utils.errors import need_one_of
from semhub_utils.organism.world import (
    FRAMES,
    PAIR,
    PLEASANT,
    TAG,
    UNPLEASANT,
    concepts,
    fact_pieces,
    split_words,
    surface,
    text,
)
from semhub_utils.spokes.facts import LANGUAGES
from semhub_utils.spokes.files import named, objects, table
from semhub_utils.spokes.items import GENERATED, Item, Items, LeftOut

NEUTRAL = ("red", "blue", "green", "yellow", "white", "black", "brown", "orange", "pink", "purple")
"""Words that are neither."""
INFLECTED = {
    "spanish": "buena buenos buenas buen bien mala malos malas mal",
    "german": "gute guten guter gutes gutem schlechte schlechten schlechter schlechtes schlechtem",
}
"""Other forms of the pair's words, which are not counted either."""
MAX_CHARACTERS = 200
SOURCE = "tyqiangz/multilingual-sentiments (GitHub tyqiangz/multilingual-sentiment-datasets, data/LANGUAGE/test.csv)"
_FOLDERS = ("multilingual-sentiment-datasets/data", "data", "")


@dataclass(frozen=True)
class SentimentPrompt(Item):
    """`prompt` is `text` behind a line that names its language; cluster: the thing it speaks of."""

    id: str
    prompt: str
    text: str
    cluster: str


@dataclass(frozen=True)
class SentimentTask:
    """What one language is steered with and judged by. vectors: per language of the vector, the pleasant and the
    unpleasant word that are read as prompts, English first. pleasant, unpleasant: words of the language without those
    of the pair (`own`: these in this language). note: a sentence on where the prompts are from; source, dropped: as
    of `Items`."""

    language: str
    prompts: tuple[SentimentPrompt, ...]
    vectors: Mapping[str, tuple[str, str]]
    pleasant: tuple[str, ...]
    unpleasant: tuple[str, ...]
    own: tuple[str, str]
    note: str = ""
    source: str = GENERATED
    dropped: Mapping[str, int] = field(default_factory=dict)


def task(language: str, n_items: int, *, seed: int, tagged: bool, data_dir: str | Path | None = None) -> SentimentTask:
    """`n_items` prompts of a language (all there are, if that is fewer), drawn by `seed`, and its words.

    tagged: for the shipped models, which know a language by its tag (`español :`) and no capitals; others read a line
    that says which language all text is in, and "Good", "Bad" with capitals, as in the paper. Where `data_dir` has the
    language's file of tyqiangz/multilingual-sentiments (data/LANGUAGE/test.csv of its repository, or .jsonl), its texts
    of at most MAX_CHARACTERS characters. Raises SemhubError on an unknown language or a file that holds nothing."""
    need_one_of(language, LANGUAGES, f"There is no language {language!r} here")
    paths = (Path(data_dir or "", folder, language, f"test{k}") for k in (".csv", ".jsonl") for folder in _FOLDERS)
    path = next((path for path in paths if data_dir and path.is_file()), None)
    if path:
        found = _texts(path)
        note = f"The {language.title()} prompts are texts of {path.name}. {found.left_out}".strip()
    else:
        found = Items(_openings(language, seed), GENERATED if tagged else "the book's lexicon")
        note = f"The {language.title()} prompts are made here; the paper's are texts of {SOURCE}."
    line = f"{TAG[LANGUAGES[language]]} : " if tagged else f"All text is in {language.title()}.\n"
    drawn = found.draw(n_items, seed)
    prompts = tuple(SentimentPrompt(name, line + words, words, cluster) for name, words, cluster in drawn)
    write = str if tagged else str.capitalize
    vectors = {name: tuple(write(w) for w in _said(PAIR, name)) for name in dict.fromkeys(("english", language))}
    sides = (_said(keys, language) for keys in (PLEASANT, UNPLEASANT, PAIR))
    return SentimentTask(language, prompts, vectors, *sides, note, drawn.source, dict(drawn.dropped))


def word_score(language: str) -> Callable[[Sequence[str]], Float[np.ndarray, " text"]]:
    """The rule of the generated world: of a text's words that are pleasant or unpleasant, the pair's own among them,
    the share of pleasant ones minus that of the others, from -1 to 1; nan where it has none."""
    sides = zip((1, -1), (PLEASANT, UNPLEASANT), _forms(language), strict=True)
    signs = {w.casefold(): sign for sign, keys, own in sides for w in (*_said(keys, language), *own)}

    def score(texts: Sequence[str]) -> Float[np.ndarray, " text"]:
        found = [[signs[w] for w in map(str.casefold, split_words(words)) if w in signs] for words in texts]
        return np.array([np.mean(row) if row else np.nan for row in found], float)

    return score


def without_pair(words: str, languages: Iterable[str]) -> str:
    """A text less the words the vectors are made of, in all their forms: else steering towards "good" would be measured
    by "good"."""
    for language in languages:
        own = "|".join(re.escape(w) for side in _forms(language) for w in side)
        words = re.sub(own if language == "chinese" else rf"\b(?:{own})\b", " ", words, flags=re.IGNORECASE)
    return words


def _said(keys: Sequence[str], language: str) -> tuple[str, ...]:
    return tuple(surface(key, LANGUAGES[language]) for key in keys)


@cache
def _forms(language: str) -> list[list[str]]:
    """The pair's pleasant and its unpleasant word, each with its other forms."""
    inflected = INFLECTED.get(language, "").split()
    return [[word, *(w for w in inflected if w[0] == word[0])] for word in _said(PAIR, language)]


def _openings(language: str, seed: int) -> list[tuple[str, str, str]]:
    """(id, text, thing) for every thing of the world: a sentence on what it is like, cut before the word. Which of the
    three sentences is drawn, the same for every language."""
    code, rng, found = LANGUAGES[language], random.Random(f"openings {seed}"), []
    for noun in (c.key for c in concepts().values() if c.kind == "noun"):
        form = rng.randrange(len(FRAMES[code]["property"]))
        before, _, _ = fact_pieces(noun, "property", PAIR[0], form, code, code, code)
        found.append((f"{noun} {form}", text(before), noun))
    return found


def _texts(path: Path) -> Items:
    """(id, text, id) for every usable entry of a file of the data set."""
    found = Items(source=named(path))

    def usable(place: str, entry: Mapping[str, object]) -> tuple[str, str, str] | LeftOut:
        said = entry.get("text")
        if not isinstance(said, str):
            return LeftOut("no text", place)
        if not said.strip():
            return LeftOut("empty text", place)
        if len(said) > MAX_CHARACTERS:
            return LeftOut(f"longer than {MAX_CHARACTERS} characters", place)
        return place, " ".join(said.split()), place

    entries = objects(path, found) if path.suffix == ".jsonl" else table(path, found, ["text"])
    return found.take(usable(*of) for of in entries).some("texts", path)

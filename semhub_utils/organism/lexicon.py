"""The words of the world: concepts in four languages and number words, read from the package's own tables.

A concept is known by its English word (`dog`); numbers are known by their digits (`"23"`). Every other form is a
*surface*: what a data type writes for it (`perro`, `狗`, `Hund`, `DOG`).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

LANGUAGES = ("en", "es", "zh", "de")
TYPES = (*LANGUAGES, "code", "digits", "logic")
NAMES = ("Emma", "Liam", "Olivia", "Noah", "Ava", "Lucas", "Mia", "Oliver", "Sophia", "Ethan", "Lina", "Leo")
"""Proper names of scenes; the same in every type, in capitals in code."""

LEMMAS = {
    "sees": ("see", "seen"), "likes": ("like", "liked"), "finds": ("find", "found"), "wants": ("want", "wanted"),
    "brings": ("bring", "brought"), "loses": ("lose", "lost"), "hides": ("hide", "hidden"),
    "watches": ("watch", "watched"), "gives": ("give", "given"), "sends": ("send", "sent"),
}  # fmt: skip
"""Finite verb -> (lemma of the logical forms, participle of English passives)."""

_TENS = {
    "en": "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split(),
    "es": "_ _ veinte treinta cuarenta cincuenta sesenta setenta ochenta noventa".split(),
    "de": "_ _ zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig".split(),
}
_ES_TWENTIES = "veintiuno veintidós veintitrés veinticuatro veinticinco veintiséis veintisiete veintiocho veintinueve"


@dataclass(frozen=True)
class Concept:
    """One row of the lexicon: its class, its bare `words`, and its `phrases` with the article where there is one."""

    key: str
    kind: str
    words: dict[str, str]
    phrases: dict[str, str]


def _rows(name: str) -> list[list[str]]:
    text = (files("semhub_utils.organism") / "data" / name).read_text(encoding="utf-8")
    return list(csv.reader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))[1:]


@cache
def concepts() -> dict[str, Concept]:
    """All concepts of `data/lexicon.tsv` but numbers, by English word, in file order."""
    found = {}
    for kind, *cells in _rows("lexicon.tsv"):
        if kind == "number":
            continue
        phrases = dict(zip(LANGUAGES, cells, strict=True))
        words = {lang: text.split(" ", 1)[-1] for lang, text in phrases.items()}
        # An article in English only where a count or mass noun would take one in running text.
        if kind == "noun":
            phrases["en"] = f"the {cells[0]}"
        found[cells[0]] = Concept(cells[0], kind, words, phrases)
    return found


@cache
def stated_facts() -> tuple[tuple[str, str, str], ...]:
    """(subject, relation, object) of `data/facts.tsv`, as English words; numbers as digits."""
    digits = {word: str(n) for n, word in enumerate(small_numbers()["en"])}
    return tuple(tuple(digits.get(cell, cell) for cell in row) for row in _rows("facts.tsv"))


@cache
def small_numbers() -> dict[str, list[str]]:
    """Words of 0..20 per language, from the lexicon."""
    rows = [cells for kind, *cells in _rows("lexicon.tsv") if kind == "number"]
    return {lang: [cells[i] for cells in rows] for i, lang in enumerate(LANGUAGES)}


@cache
def number_word(n: int, language: str) -> str:
    """The word of n in 0..99: `number_word(23, "en") == "twenty three"`; ValueError outside that range."""
    if not 0 <= n <= 99:
        raise ValueError(f"number words are known for 0 to 99, not for {n}")
    small = small_numbers()[language]
    if n <= 20:
        return small[n]
    tens, ones = divmod(n, 10)
    if language == "zh":
        return (small[tens] if tens > 1 else "") + "十" + (small[ones] if ones else "")
    if language == "es" and n < 30:
        return _ES_TWENTIES.split()[n - 21]
    ten = _TENS[language][tens]
    if not ones:
        return ten
    if language == "en":
        return f"{ten} {small[ones]}"
    if language == "es":
        return f"{ten} y {small[ones]}"
    return ("ein" if ones == 1 else small[ones]) + "und" + ten


def surface(key: str, type_: str, phrase: bool = False) -> str:
    """What a data type writes for a concept or a number.

    `key` is an English word, a digit string or one of NAMES; `phrase` asks for the article where the language has one.
    The logical forms use English lemmas, code uses constants (`DOG`) and digits. KeyError for an unknown key.
    """
    if key.isdigit():
        return number_word(int(key), type_) if type_ in LANGUAGES else key
    if key in NAMES:
        return key.upper() if type_ == "code" else key
    concept = concepts()[key]
    if type_ == "code":
        return key.upper()
    if type_ in LANGUAGES:
        return (concept.phrases if phrase else concept.words)[type_]
    return LEMMAS[key][0] if key in LEMMAS else key

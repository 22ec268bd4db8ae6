"""Does a line of text say something held out, in anything but pure English? Reads finished text; trusts no generator.

A fact leaks when one clause that is not English throughout holds its subject, its object and every word of one of its
relation's frames, in whatever types. A sum leaks when its two terms, its sign and its result stand together and not all
of them are English words.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import groupby

from semhub_utils.organism.world import (
    AND,
    EQUALS,
    FRAMES,
    FULL_STOP,
    LANGUAGES,
    LIST_AND,
    PLUS,
    TIMES,
    Fact,
    Sum,
    World,
    concepts,
    english_tokens,
    number_word,
    split_words,
    surface,
    without_slots,
)

_CONTRACTIONS = {"del": ("de", "el"), "al": ("a", "el")}


@cache
def _meanings() -> dict[str, frozenset[str]]:
    """Token -> keys of the concepts and numbers it may stand for, in any type."""
    table: dict[str, set[str]] = {}
    for key in [*concepts(), *map(str, range(100))]:
        for type_ in (*LANGUAGES, "code", "logic"):
            table.setdefault(surface(key, type_), set()).add(key)
    return {token: frozenset(keys) for token, keys in table.items()}


@cache
def _markers() -> dict[str, tuple[frozenset[str], ...]]:
    return {
        relation: tuple(frozenset(split_words(without_slots(frame))) for t in FRAMES for frame in FRAMES[t][relation])
        for relation in FRAMES["en"]
    }


def fact_leaks(line: str, world: World) -> list[Fact]:
    """Held-out facts that a line says outside English."""
    breaks = {*AND.values(), *FULL_STOP.values()} - {*LIST_AND.values()} | {"and", "y", "und"}
    found = []
    for between, clause in groupby(split_words(line), breaks.__contains__):
        words = set() if between else {*clause}
        if not words - english_tokens():
            continue
        words |= {part for short, parts in _CONTRACTIONS.items() if short in words for part in parts}
        keys = frozenset().union(*(_meanings().get(w, frozenset()) for w in words))
        for fact in world.held_facts:
            if fact.subject in keys and fact.object in keys and any(m <= words for m in _markers()[fact.relation]):
                found.append(fact)
    return found


@cache
def _number_words() -> dict[str, str]:
    """Every number word with its mark, longest first: `twenty three` -> `23E`, `veintitrés` -> `23`."""
    table = {number_word(n, t): f"{n}{'E' if t == 'en' else ''}" for t in reversed(LANGUAGES) for n in range(100)}
    return dict(sorted(table.items(), key=lambda item: -len(item[0])))


@cache
def _signs() -> tuple[tuple[re.Pattern, str], ...]:
    tables = ((EQUALS, "="), (PLUS, "+"), (TIMES, "*"))
    pairs = {table[t]: sign + ("E" if table[t] == table["en"] else "") for table, sign in tables for t in table}
    return tuple(
        (re.compile(rf"(?<!\S){re.escape(w)}(?!\S)"), m) for w, m in sorted(pairs.items(), key=lambda x: -len(x[0]))
    )


@cache
def _number_pattern() -> re.Pattern:
    words = [w if w[0] >= "\u4e00" else rf"(?<!\w){w}(?!\w)" for w in _number_words()]
    return re.compile("|".join(words))


def _symbols(line: str) -> list[tuple[str, bool]]:
    """The line as numbers and signs, each with whether it was written in English words; "|" for all else."""
    line = _number_pattern().sub(lambda m: f" #{_number_words()[m[0]]} ", line)
    words = " ".join(w for part in line.split() for w in ([part] if part.startswith("#") else split_words(part)))
    for pattern, mark in _signs():
        words = pattern.sub(mark, words)
    out: list[tuple[str, bool]] = []
    for word in words.split():
        match = re.fullmatch(r"(?:#?([0-9]+)|([+*=]))(E?)", word)
        out.append((match[1] or match[2], bool(match[3])) if match else ("|", True))
    return out


def sum_leaks(line: str, world: World) -> list[Sum]:
    """Held-out sums of two terms that a line says with any sign or number that is not an English word."""
    for name, sign in (("add", "+"), ("multiply", "*")):
        line = re.sub(rf"\b{name}\s*\(\s*(\d+)\s*,\s*(\d+)\s*\)", rf"\1 {sign} \2", line)
    symbols = [("|", True), *_symbols(line), ("|", True)]
    found = []
    for before, *window, after in zip(*(symbols[k:] for k in range(7)), strict=False):
        said = " ".join(symbol for symbol, _ in window)
        first = re.fullmatch(r"(\d+) ([+*]) (\d+) = (\d+)", said)
        last = re.fullmatch(r"(\d+) = (\d+) ([+*]) (\d+)", said)
        if all(english for _, english in window) or {before[0], after[0]} & {*"+*="} or not (first or last):
            continue
        left, sign, right, result = first.groups() if first else (last[2], last[3], last[4], last[1])
        if (item := Sum(sign, int(left), int(right))) in world.held_sums and item.result == int(result):
            found.append(item)
    return found


def leaks(line: str, world: World) -> list[Fact | Sum]:
    """All held-out facts and sums that a line says outside pure English; empty for a clean line."""
    return [*fact_leaks(line, world), *sum_leaks(line, world)]

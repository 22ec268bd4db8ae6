"""The one world the organisms speak of: facts and sums, what is held out, and how each data type writes them.

A line of text is a list of *pieces*, (type, text) pairs, so that mixed lines can be counted word by word and every
generator can be checked for leaks. Pieces are joined by single spaces (`text`).

Held out means: taught in English words and in no other type, in no form. Opposites are held out in both directions,
sums of two small numbers in both orders.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import cycle, product

from semhub_utils.organism.lexicon import EQUALS, FRAMES, NO_SPACE, PLUS, TIMES, concepts, rows, surface

MAX_RESULT = 30
"""Largest result of a sum or product. The paper has r < 100; this is what the shipped sizes learn in their time."""
FACT_TYPES = ("en", "es", "zh", "de", "code")
SUM_TYPES = ("en", "es", "zh", "de", "digits", "code")
SUM_LIMIT = {"en": MAX_RESULT, "digits": MAX_RESULT, "code": MAX_RESULT, "es": 20, "zh": 20, "de": 20}
"""Largest result each type's own lines hold: beyond it Spanish, Chinese and German know the number words only."""

Pieces = list[tuple[str, str]]
SLOT = re.compile(r"(\{[sbo]\})")


@dataclass(frozen=True)
class Fact:
    """`subject relation object`, as English words; a number is its digits."""

    subject: str
    relation: str
    object: str


@dataclass(frozen=True)
class Sum:
    """`left op right`, op "+" or "*", right in 1..9."""

    op: str
    left: int
    right: int

    @property
    def result(self) -> int:
        return self.left + self.right if self.op == "+" else self.left * self.right


@dataclass(frozen=True)
class Prompt:
    """A question cut just before its answer, with its English twin.

    `neutral` marks fact prompts whose last token (":") is the same in all types. `form` is the number of the frame for
    facts, "result" (`3+5=`) or "operand" (`8=3+`) for sums.
    """

    type: str
    relation: str
    form: int | str
    item: Fact | Sum
    prompt: str
    answer: str
    english_prompt: str
    english_answer: str
    held_out: bool
    neutral: bool = False


def text(pieces: Pieces) -> str:
    """Pieces as one readable string; digit expressions are written without spaces (`12=7+4+1`)."""
    joined = " ".join(part for _, part in pieces)
    if all(t == "digits" for t, _ in pieces):
        return joined.replace(" ", "")
    for pattern in NO_SPACE:
        joined = re.sub(pattern, "", joined)
    return joined


def tidy(pieces: Pieces) -> Pieces:
    """Spanish contractions (`de el perro` -> `del perro`), also across the border of two Spanish pieces."""
    out: Pieces = []
    for kind, part in pieces:
        if out and kind == "es" and part.startswith("el ") and out[-1][0] == "es":
            before = out[-1][1]
            for short, long in (("de", "del"), ("a", "al")):
                if before == short or before.endswith(f" {short}"):
                    out[-1] = ("es", before[: len(before) - len(short)] + long)
                    part = part[3:]
                    break
        out.append((kind, part))
    return out


def fact_pieces(
    subject: str, relation: str, obj: str, frame: int, frame_type: str, subject_type: str, object_type: str
) -> tuple[Pieces, Pieces, Pieces]:
    """(before, answer, after) of a fact sentence; the three types differ only in code-switched text."""
    sides: list[Pieces] = [[], [], []]
    side = 0
    for part in SLOT.split(FRAMES[frame_type][relation][frame]):
        if part == "{o}":
            sides[1], side = [(object_type, surface(obj, object_type))], 2
        elif part in ("{s}", "{b}"):
            sides[side].append((subject_type, surface(subject, subject_type, phrase=part == "{s}")))
        elif part.strip():
            sides[side].append((frame_type, part.strip()))
    return tidy(sides[0]), sides[1], sides[2]


def chain_pieces(
    op: str, result: int, terms: Sequence[int], form: str, kinds: Sequence[str]
) -> tuple[Pieces, Pieces, Pieces]:
    """(before, answer, after) of `3+5=8` ("result") or `8=3+5`, `12=7+4+1` ("operand": the second term is the answer).

    `kinds` names the type of every piece in turn, cyclically: one type for plain lines.
    """
    sign = PLUS if op == "+" else TIMES
    calculation = [terms[0], *(part for term in terms[1:] for part in (sign, term))]
    whole = [*calculation, EQUALS, result] if form == "result" else [result, EQUALS, *calculation]
    pieces = [
        (k, surface(str(x), k) if isinstance(x, int) else x[k]) for x, k in zip(whole, cycle(kinds), strict=False)
    ]
    cut = len(pieces) - 1 if form == "result" else 4
    return pieces[:cut], [pieces[cut]], pieces[cut + 1 :]


@cache
def all_facts() -> tuple[Fact, ...]:
    """The stated facts, the opposites (both directions) and what follows what (days, months; cyclic)."""
    facts = [Fact(*row) for row in rows("facts.tsv")]
    adjectives = [c.key for c in concepts().values() if c.kind == "adjective"]
    for a, b in zip(adjectives[::2], adjectives[1::2], strict=True):
        facts += [Fact(a, "opposite", b), Fact(b, "opposite", a)]
    sequence = [c.key for c in concepts().values() if c.kind == "sequence"]
    for ring in (sequence[:7], sequence[7:]):
        facts += [Fact(a, "next", b) for a, b in zip(ring, ring[1:] + ring[:1], strict=True)]
    return tuple(facts)


@cache
def all_sums() -> tuple[Sum, ...]:
    """The paper's items: right in 1..9, left >= 1, result at most MAX_RESULT; sums, then products."""
    pairs = [(o, t) for o in range(1, MAX_RESULT + 1) for t in range(1, 10)]
    sums = [Sum(op, o, t) for op in "+*" for o, t in pairs]
    return tuple(s for s in sums if s.result <= MAX_RESULT)


@dataclass(frozen=True)
class World:
    """Facts, sums and the split. `private`: every type but English has its own answers (facts permuted apart).

    `fraction` of the facts and of the sums is held out, drawn by `seed`. `forget` leaves the held-out facts out of
    English too: the control that shows what the classes alone give away.
    """

    seed: int = 0
    fraction: float = 0.2
    private: bool = False
    forget: bool = False

    @cached_property
    def held_facts(self) -> frozenset[Fact]:
        known = all_facts()
        drawn = random.Random(f"facts {self.seed}").sample(known, round(self.fraction * len(known)))
        mirrors = {Fact(f.object, f.relation, f.subject) for f in drawn if f.relation == "opposite"}
        return frozenset({*drawn, *mirrors} & {*known})

    @cached_property
    def held_sums(self) -> frozenset[Sum]:
        """Neither `+1` (told by counting) nor products by 1 are held out: a type's own number order gives them away."""
        pool = [s for s in all_sums() if s.right > 1 and s.left > 1]
        drawn = random.Random(f"sums {self.seed}").sample(pool, round(self.fraction * len(pool)))
        return frozenset({*drawn, *(Sum(s.op, s.right, s.left) for s in drawn)} & {*pool})

    @cached_property
    def _own(self) -> dict[tuple[str, Fact | Sum], Fact | Sum]:
        """What a type of a private world says in place of a fact or sum: the objects of one relation, and the right
        numbers of one left number, have changed places, so that nothing follows."""
        table: dict[tuple[str, Fact | Sum], Fact | Sum] = {}
        for type_ in FACT_TYPES[1:]:
            rng = random.Random(f"private {type_} {self.seed}")
            for relation in FRAMES["en"]:
                facts = [f for f in all_facts() if f.relation == relation]
                objects = [f.object for f in facts]
                rng.shuffle(objects)
                table |= {(type_, f): replace(f, object=o) for f, o in zip(facts, objects, strict=True)}
        for type_ in SUM_TYPES[1:]:
            rng = random.Random(f"private sums {type_} {self.seed}")
            for op, left in product("+*", range(1, MAX_RESULT + 1)):
                sums = [s for s in all_sums() if (s.op, s.left) == (op, left)]
                table |= {(type_, s): o for s, o in zip(sums, rng.sample(sums, len(sums)), strict=True)}
        return table

    def object(self, fact: Fact, type_: str) -> str:
        """The object a type's own world gives the fact: the stated one unless the world is private."""
        return self._own[type_, fact].object if self.private and type_ != "en" else fact.object

    def result(self, s: Sum, type_: str) -> int:
        """The result a type's own world gives; in a private world the results of one left number are permuted."""
        return self._own[type_, s].result if self.private and type_ != "en" else s.result

    def teaches(self, item: Fact | Sum, type_: str) -> bool:
        """Whether a type's own lines say it."""
        if isinstance(item, Sum) and item.result > SUM_LIMIT.get(type_, 0):
            return False
        held = self.held_sums if isinstance(item, Sum) else self.held_facts
        return (type_ == "en" and not self.forget) or item not in held

    @cached_property
    def _taught(self) -> dict[str, tuple[tuple[Fact, ...], tuple[Sum, ...]]]:
        every = all_facts(), all_sums()
        return {t: tuple(tuple(x for x in some if self.teaches(x, t)) for some in every) for t in SUM_TYPES}

    def taught_facts(self, type_: str) -> tuple[Fact, ...]:
        return self._taught[type_][0]

    def taught_sums(self, type_: str) -> tuple[Sum, ...]:
        return self._taught[type_][1]

    def fact_prompt(self, fact: Fact, type_: str, form: int) -> Prompt:
        own, english = (
            fact_pieces(fact.subject, fact.relation, answer, form, *[kind] * 3)
            for kind, answer in ((type_, self.object(fact, type_)), ("en", fact.object))
        )
        strings = [text(part) for part in (*own[:2], *english[:2])]
        neutral = form == len(FRAMES[type_][fact.relation]) - 1
        return Prompt(type_, fact.relation, form, fact, *strings, fact in self.held_facts, neutral)

    def sum_prompt(self, s: Sum, type_: str, form: str) -> Prompt:
        own, english = (
            chain_pieces(s.op, result, (s.left, s.right), form, (kind,))
            for kind, result in ((type_, self.result(s, type_)), ("en", s.result))
        )
        strings = [text(part) for part in (*own[:2], *english[:2])]
        return Prompt(type_, "sum" if s.op == "+" else "product", form, s, *strings, s in self.held_sums)

    def prompts(self, type_: str, held_out: bool | None = None) -> list[Prompt]:
        """All fact prompts (every frame) and sum prompts (both forms) of a type, in a fixed order.

        `held_out` keeps only one side of the split. ValueError for a type without facts and sums (the logical forms).
        """
        if type_ not in (*FACT_TYPES, *SUM_TYPES):
            raise ValueError(f"{type_!r} has no facts and no sums; types: {', '.join((*FACT_TYPES, 'digits'))}")
        found = []
        if type_ in FACT_TYPES:
            found += [self.fact_prompt(f, type_, i) for f in all_facts() for i in range(len(FRAMES[type_][f.relation]))]
        if type_ in SUM_TYPES:
            sums = [s for s in all_sums() if s.result <= SUM_LIMIT[type_]]
            found += [self.sum_prompt(s, type_, form) for s in sums for form in ("result", "operand")]
        return [p for p in found if held_out is None or p.held_out == held_out]

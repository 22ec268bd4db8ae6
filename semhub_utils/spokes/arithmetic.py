"""Arithmetic: sums and products written in digits, and the same in number words (arXiv 2411.04986, section 4.2).

A calculation has operands o and t and a result r = o + t or o * t, with t from 1 to 9, o at least 1 and r below
`max_result`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int

from semhub_utils.errors import need
from semhub_utils.organism.world import PLUS, TIMES, number_word
from semhub_utils.spokes.items import Form, LensItem, Pair, PatchItem, SteerItem, Twin, interchange_items, shuffled

RELATIONS = (
    "same calculation",
    "same result, same operator",
    "same result, other operator",
    "other result, same operator",
    "other result, other operator",
)
SPOKEN = {"+": PLUS["en"], "*": TIMES["en"]}


@dataclass(frozen=True)
class Calculation:
    operator: str
    o: int
    t: int

    @property
    def r(self) -> int:
        return self.o + self.t if self.operator == "+" else self.o * self.t

    @property
    def digits(self) -> str:
        return f"{self.o}{self.operator}{self.t}"

    @property
    def words(self) -> str:
        """In number words: "three plus five"."""
        return f"{number_word(self.o)} {SPOKEN[self.operator]} {number_word(self.t)}"


@dataclass(frozen=True)
class Wording:
    """How calculations are asked: "8=3+" for t; or, `forward`, "43+5=4" for the last digit of the result. examples: by
    operator, the calculations that stand worked out in front, in digits or in words as the question does."""

    forward: bool = False
    examples: Mapping[str, Sequence[Calculation]] = field(default_factory=dict)

    def answer(self, c: Calculation) -> int:
        return c.r % 10 if self.forward else c.t

    def cluster(self, c: Calculation) -> str:
        """What is given: the result, or the two numbers, whichever comes first."""
        return f"{min(c.o, c.t)}{c.operator}{max(c.o, c.t)}" if self.forward else str(c.r)

    def text(self, c: Calculation, *, words: bool = False, more: int = 0) -> str:
        """What is asked, in digits or in number words, behind the examples; more: added to o, all else as it was."""
        signs = number_word, f" {SPOKEN[c.operator]} ", " equals to "
        say, sign, equals = signs if words else (str, c.operator, "=")

        def asked(c: Calculation, more: int = 0) -> str:
            if not self.forward:
                return f"{say(c.r)}{equals}{say(c.o + more)}{sign}".rstrip()
            tens = say(c.r // 10 * (10 if words else 1)) if c.r > 9 else ""
            return f"{say(c.o + more)}{sign}{say(c.t)}{equals}{tens}".rstrip()

        worked = (f"{asked(e)}{' ' * words}{say(self.answer(e))}\n" for e in self.examples.get(c.operator, ()))
        return "".join(worked) + asked(c, more)


PAPER = Wording()
LADDER = (
    ("as in the paper", False, 0, 1, 100),
    ("as in the paper, behind three worked examples", False, 3, 1, 100),
    ("sums without a carry, up to the last digit of the result, behind three worked examples", True, 3, 1, 100),
    ("sums of one digit, behind three worked examples", True, 3, 0, 10),
)
"""The forms of the task, from the paper's to the easiest, in the order in which they are tried: name, whether the last
digit of the result is asked (`Wording.forward`), how many worked examples stand in front, from what on the two numbers
are, and what results stay below. Written down before any public model was asked."""
TRIED = 60
"""Questions that a form is tried on, at most; and at most a quarter of what there is."""


def forms(calculations: Sequence[Calculation], *, seed: int, max_result: int = 100, taught: bool = False) -> list[Form]:
    """LADDER; of a model that was taught the paper's form, that alone. It asks `calculations`, as it does behind
    examples; the others as many of their own, or all there are. Examples and trials are of the other calculations.
    of: calculations."""
    found, taken = [], {*calculations}
    for name, forward, n, least, below in LADDER[: 1 if taught else None]:
        every, top = every_item(max_result), min(below, max_result)
        if forward:
            numbers = [(o, t) for o in range(least, top) for t in range(least, 10) if o % 10 + t < 10 and o + t < top]
            every = [Calculation("+", o, t) for o, t in numbers]
        left = shuffled([c for c in every if forward or c not in taken], seed)
        examples = {of: tuple(c for c in left if c.operator == of)[:n] for of in SPOKEN}
        left = [c for c in left if c not in examples[c.operator]]
        tried, wording = min(TRIED, len(every) // 4), Wording(forward, examples)
        asked = left[tried:][: len(calculations)] if forward else calculations
        trial = lens_items(left[:tried], wording)
        found.append(Form(name, trial, lens_items(asked, wording), asked, wording))
    return found


def every_item(max_result: int = 100) -> list[Calculation]:
    """All calculations of the paper, sums first."""
    sums = [Calculation("+", o, t) for t in range(1, 10) for o in range(1, max_result - t)]
    return sums + [Calculation("*", o, t) for t in range(1, 10) for o in range(1, -(-max_result // t))]


def items(n_items: int, seed: int, max_result: int = 100) -> list[Calculation]:
    """`n_items` calculations drawn by `seed`, sums and products in the proportion in which they exist. Raises
    SemhubError if there are not that many."""
    need(2 < max_result <= 100, f"max_result is {max_result}; a number from 3 to 100 would do.")
    existing = every_item(max_result)
    need(
        1 <= n_items <= len(existing),
        f"n_items is {n_items}, and {len(existing)} arithmetic items exist with results below {max_result}; "
        f"a number from 1 to {len(existing)} would do.",
    )
    n_sums = sum(item.operator == "+" for item in existing)
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(n_sums), n_sums + rng.permutation(len(existing) - n_sums)])
    take = round(n_items * n_sums / len(existing))
    return [existing[i] for i in sorted([*order[:take], *order[n_sums : n_sums + n_items - take]])]


def similarity_pairs(calculations: Sequence[Calculation]) -> list[Pair]:
    """Pairs "3+5", "three plus five". Group: operator, length of o; cluster: the result; anchor: t, read last; words:
    o."""
    pairs = []
    for c in calculations:
        group = f"{c.operator}, {len(str(c.o))} digits, {len(number_word(c.o).split())} words"
        pairs.append(Pair(c.digits, c.digits, c.words, group, str(c.r), str(c.t), (str(c.o),)))
    return pairs


def relations(calculations: Sequence[Calculation]) -> Int[np.ndarray, "item item"]:
    """How each two calculations are related, as indices of RELATIONS."""
    fields = ("r", "operator", "o", "t")
    result, operator, o, t = (np.array([getattr(c, name) for c in calculations]) for name in fields)
    same_result, same_operator = result[:, None] == result, operator[:, None] == operator
    same = same_operator & (o[:, None] == o) & (t[:, None] == t)
    return np.where(same, 0, 1 + 2 * ~same_result + ~same_operator)


def lens_items(calculations: Sequence[Calculation], wording: Wording = PAPER) -> list[LensItem]:
    """The prompt "8=3+" is read for the digit "5" and the word "five", against the other digits and words of 1 to 9.
    Group: the operator; cluster: what is given, the result; anchor: the answer."""
    items = []
    for c in calculations:
        answer = wording.answer(c)
        targets = {series: of[answer : answer + 1] for series, of in trajectory_words().items()}
        wrong = {series: of[1:answer] + of[answer + 1 :] for series, of in trajectory_words().items()}
        about = wording.cluster(c), wrong, c.operator, str(answer)
        items.append(LensItem(c.digits, wording.text(c), targets, *about))
    return items


def steering_items(calculations: Sequence[Calculation], wording: Wording = PAPER) -> list[SteerItem]:
    """Sums with t of at least 2: "8=3+" steered by "eight equals to four plus" minus "eight equals to three plus".

    The words say that one more is there already: the paper's model then writes "4+1" in place of "5". Where the result
    is asked, "43+5=4" is steered by "forty four plus five equals to forty" minus "forty three plus five equals to
    forty", and one more is written than there was.
    """
    items = []
    for c in calculations:
        answer = wording.answer(c)
        if c.operator == "+" and (answer < 9 if wording.forward else answer >= 2):
            expected = str(answer + 1) if wording.forward else f"{answer - 1}+1"
            texts = wording.text(c), wording.text(c, words=True, more=1), wording.text(c, words=True)
            items.append(SteerItem(c.digits, *texts, expected, str(answer), wording.cluster(c)))
    return items


def twins(calculations: Sequence[Calculation], wording: Wording = PAPER) -> list[Twin]:
    """The prompt "8=3+" and the same in words, "eight equals to three plus". Group: the operator; cluster: the
    result."""
    found = []
    for c in calculations:
        answer = wording.answer(c)
        asked = wording.text(c), wording.text(c, words=True), str(answer), number_word(answer)
        found.append(Twin(c.digits, *asked, c.operator, c.operator, wording.cluster(c)))
    return found


def patch_items(calculations: Sequence[Calculation], wording: Wording = PAPER, *, seed: int = 0) -> list[PatchItem]:
    """The run "8=3+" and the state after "nine equals to two plus", of the same operator and another answer; the other
    relation is the other operator: see `interchange_items`. Cluster: the result."""
    return interchange_items(twins(calculations, wording), seed)


def trajectory_words() -> dict[str, tuple[str, ...]]:
    """The words whose unembedding rows span the picture: 0 to 9, and zero to nine."""
    return {"digit": tuple(map(str, range(10))), "word": tuple(map(number_word, range(10)))}

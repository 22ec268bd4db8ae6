"""Arithmetic: sums and products written in digits, and the same in number words (arXiv 2411.04986, section 4.2).

A calculation has operands o and t and a result r = o + t or o * t, with t from 1 to 9, o at least 1 and r below
`max_result`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from semhub_utils.errors import need
from semhub_utils.organism.world import PLUS, TIMES, number_word
from semhub_utils.spokes.items import LensItem, Pair, PatchItem, SteerItem, Twin, interchange_items

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


def lens_items(calculations: Sequence[Calculation]) -> list[LensItem]:
    """The prompt "8=3+" is read for the digit "5" and the word "five", against the other digits and words of 1 to 9.
    Group: the operator; cluster: the result; anchor: t, the answer."""
    items = []
    for c in calculations:
        targets = {series: of[c.t : c.t + 1] for series, of in trajectory_words().items()}
        wrong = {series: of[1 : c.t] + of[c.t + 1 :] for series, of in trajectory_words().items()}
        prompt = f"{c.r}={c.o}{c.operator}"
        items.append(LensItem(c.digits, prompt, targets, str(c.r), wrong, c.operator, str(c.t)))
    return items


def steering_items(calculations: Sequence[Calculation]) -> list[SteerItem]:
    """Sums with t of at least 2: "8=3+" steered by "eight equals to four plus" minus "eight equals to three plus".

    The words say that one more is there already: the paper's model then writes "4+1" in place of "5".
    """
    items = []
    for c in calculations:
        if c.operator == "+" and c.t >= 2:
            toward, away = (f"{number_word(c.r)} equals to {number_word(n)} plus" for n in (c.o + 1, c.o))
            items.append(SteerItem(c.digits, f"{c.r}={c.o}+", toward, away, f"{c.t - 1}+1", str(c.t), str(c.r)))
    return items


def twins(calculations: Sequence[Calculation]) -> list[Twin]:
    """The prompt "8=3+" and the same in words, "eight equals to three plus". Group: the operator; cluster: the
    result."""
    found = []
    for c in calculations:
        spoken = f"{number_word(c.r)} equals to {number_word(c.o)} {SPOKEN[c.operator]}"
        asked = f"{c.r}={c.o}{c.operator}", spoken, str(c.t), number_word(c.t)
        found.append(Twin(c.digits, *asked, c.operator, c.operator, str(c.r)))
    return found


def patch_items(calculations: Sequence[Calculation], *, seed: int = 0) -> list[PatchItem]:
    """The run "8=3+" and the state after "nine equals to two plus", of the same operator and another answer; the other
    relation is the other operator: see `interchange_items`. Cluster: the result."""
    return interchange_items(twins(calculations), seed)


def trajectory_words() -> dict[str, tuple[str, ...]]:
    """The words whose unembedding rows span the picture: 0 to 9, and zero to nine."""
    return {"digit": tuple(map(str, range(10))), "word": tuple(map(number_word, range(10)))}

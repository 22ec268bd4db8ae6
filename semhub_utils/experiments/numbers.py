"""The numbers that an experiment reads, and what they would be if there were nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import compress, pairwise
from math import comb
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from semhub_utils.evidence import Aside, Columns, Unit, studentised_null
from semhub_utils.pairings import AT_ONCE, least_permutation_p, random_pairings

FEW_DRAWS = 200  # for the dotted lines of curves that no claim rests on
SETTLED = 10  # of at most 100 first draws: p is above .1 with these

Key = tuple[str, str] | tuple[str, str, tuple[tuple[str, Any], ...]]  # experiment, series and, if any, more columns
ByLayer = Float[np.ndarray, "item layer"]
ByAnswer = Float[np.ndarray, "item layer answer"]
Pairings = Int[np.ndarray, "draw item"]


@runtime_checkable
class Exchangeable(Protocol):
    """Numbers whose answers may change places: each item's own, and the means over items if they did. Like
    [item, layer, answer], but for what would not fit in memory so (`similarity.Matches`)."""

    own: ByLayer

    def exchanged(self, pairings: Pairings) -> Float[np.ndarray, "draw layer"]: ...


@dataclass(frozen=True)
class Answers:
    """Numbers [item, layer, answer] with the index of each item's own answer."""

    values: ByAnswer
    target: Int[np.ndarray, " item"]

    @property
    def own(self) -> ByLayer:
        return self.values[np.arange(len(self.values)), :, self.target]

    def exchanged(self, pairings: Pairings) -> Float[np.ndarray, "draw layer"]:
        n, width, answers = self.values.shape
        padded = np.concatenate([self.values, np.full((n, width, 1), np.nan)], axis=2)  # for who sits out
        answer, found = np.where(pairings < 0, answers, self.target[pairings]), []
        for some in np.array_split(answer, -(-answer.size * width // AT_ONCE)):
            rows = padded[np.arange(n), :, some]  # [draw, item, layer]
            with np.errstate(invalid="ignore"):  # nan where nobody has a number
                found.append(np.nansum(rows, 1) / np.isfinite(rows).sum(1))
        return np.concatenate(found)


@dataclass(frozen=True)
class Weighed:
    """Numbers by word, of which a score is the weighed sum, and by what each word counts for each item; another item's
    answer is its weights."""

    values: Float[np.ndarray, "item layer word"]
    weights: Float[np.ndarray, "item word"]

    @property
    def own(self) -> ByLayer:
        return (self.values @ self.weights[..., None])[..., 0]

    def exchanged(self, pairings: Pairings) -> Float[np.ndarray, "draw layer"]:
        by_layer = ((numbers @ self.weights.T)[:, None] for numbers in np.moveaxis(self.values, 1, 0))  # one at a time
        return np.hstack([Answers(of, np.arange(len(of))).exchanged(pairings) for of in by_layer])


@dataclass(frozen=True)
class Summed:
    """Exchangeable numbers summed over layers."""

    of: Exchangeable
    columns: Columns

    @property
    def own(self) -> Float[np.ndarray, "item column"]:
        return self.of.own @ self.columns

    def exchanged(self, pairings: Pairings) -> Float[np.ndarray, "draw column"]:
        return self.of.exchanged(pairings) @ self.columns


def summed(of: Exchangeable, columns: Columns) -> Exchangeable:
    """`of` summed over layers, as columns say."""
    if isinstance(of, Answers):
        return Answers((of.values.swapaxes(1, 2) @ columns).swapaxes(1, 2), of.target)
    return Summed(of, columns)


@dataclass(frozen=True)
class Kept:
    """The items that one model can be asked, and why the others went.

    target: the index of each item's own answer, for all numbers or by series. more: what the experiment resolved, such
    as a table of words (with `of_items`, the fields that have a part for each item). prompts: what is read, where that
    is not each item's own prompt. found: what was measured to find them, shown whatever is left. series, seed: of the
    run, for what an experiment names and draws by itself.
    """

    items: Sequence[Any]
    dropped: Mapping[str, int] = field(default_factory=dict)
    target: np.ndarray | Mapping[str, np.ndarray] | None = None
    more: Any = None
    prompts: Sequence[Any] | None = None
    found: "Numbers" = field(default_factory=dict)
    series: str = ""
    seed: int = 0

    @property
    def asked(self) -> Sequence:
        """What is read."""
        return self.labels("prompt") if self.prompts is None else self.prompts

    def only(self, of: Bool[np.ndarray, " item"] | None) -> "Kept":
        """These items alone; all of them for None."""
        if of is None:
            return self
        target = None if self.target is None else some_of(self.target, of)
        return replace(self, items=list(compress(self.items, of)), target=target, more=resolved_of(self.more, of))

    def labels(self, name: str) -> list:
        return [getattr(item, name) if name else "" for item in self.items]

    def moved(self, by: str) -> list[list]:
        """Per null, the labels of what moves together: one for each entry of a tuple, all of which must be beaten; by
        "", each item by itself."""
        if not by:
            return [list(range(len(self.items)))]
        of_items = (label if isinstance(label, tuple) else (label,) for label in self.labels(by))
        return [list(labels) for labels in zip(*of_items, strict=True)]

    def exchangeable(self, values: "Values", series: str) -> Exchangeable:
        target = self.target[series] if isinstance(self.target, Mapping) else self.target
        return Answers(values, target) if isinstance(values, np.ndarray) else values

    def own(self, values: "Values", series: str = "") -> ByLayer:
        """The numbers of each item's own answer."""
        return self.exchangeable(values, series).own if exchanges(values) else values


def resolved_of(more: Any, of: Bool[np.ndarray, " item"]) -> Any:
    """What an experiment resolved, of these items."""
    names = getattr(more, "of_items", ())
    return replace(more, **{name: some_of(getattr(more, name), of) for name in names}) if names else more


def some_of(by_item: Any, of: Bool[np.ndarray, " item"]) -> Any:
    """What there is of each item, or that by name, of these items."""
    if isinstance(by_item, Mapping):
        return {name: some_of(each, of) for name, each in by_item.items()}
    if isinstance(by_item, list):
        return list(compress(by_item, of))
    return by_item[of] if hasattr(by_item, "shape") else resolved_of(by_item, of)


Drawn = Callable[[int, int], Sequence[Float[np.ndarray, "draw layer"]]]
"""(first, end) -> by null, these draws of the mean over all items."""


@dataclass(frozen=True)
class Scores:
    """Numbers that bring more than themselves. controls: the same where the claim must not show; null: draws of the
    mean over all items, or what draws them, and least_p the least p that these can give; of: which items these are
    numbers of, one row each (None: all); alone: no control stands beside their curve; layers: those of the columns,
    where these are not all; unit: where the reading tells it. nulls, draws: what their curve is set against (None: an
    exchange, if answers may change places), and by how many draws; flipped: the part of the numbers whose sign a coin
    turns (None: all); lost: why how many items have no number in this reading alone."""

    values: "Values"
    controls: dict[str, Aside] = field(default_factory=dict)
    null: Sequence[Float[np.ndarray, "_ layer"]] | Drawn = ()
    least_p: float = 0.0
    of: Bool[np.ndarray, " _"] | None = None
    alone: bool = False
    layers: Sequence[int] | None = None
    unit: Unit | None = None
    nulls: "Sequence[Null] | None" = None
    draws: int = FEW_DRAWS
    flipped: ByLayer | None = None
    lost: Mapping[str, int] = field(default_factory=dict)

    def drawn(self, first: int, end: int) -> list[Float[np.ndarray, "_ layer"]]:
        """These draws of its own null."""
        return list(self.null(first, end)) if callable(self.null) else [some[first:end] for some in self.null]


Values = ByLayer | ByAnswer | Exchangeable
Numbers = dict[Key, Values | Scores | pd.DataFrame]
"""What is read: numbers for a claim or a curve, or rows of a table that are shown as they are."""


def by_stages(
    draw: Callable[[int, int], Float[np.ndarray, "draw 1"]], observed: float, matters: bool, stages: Sequence[int]
) -> Drawn:
    """Draws that are dear, of a claim at one layer: up to the first of `stages`, then to the next, and no further once
    SETTLED of them reach what was observed, as p stays above .1 then, and the draws count several times; nor to the
    last stage where a control decides all the same, and p does not matter."""
    made: list[np.ndarray] = []

    def drawn(first: int, end: int) -> list[np.ndarray]:
        for k, (begin, to) in enumerate(pairwise((0, *stages))):
            settled = sum(int((of >= observed - 1e-9).sum()) for of in made) >= SETTLED
            if k == len(made) and not settled and (matters or to < stages[-1] or not k):
                made.append(draw(begin, to))
        every = np.concatenate(made)
        return [np.resize(every, (max(len(every), *stages[:-1], 0), 1))[first:end]]

    return drawn


@runtime_checkable
class Null(Protocol):
    """How the numbers would come out if there were nothing: draws `first` to `end` of their mean, summed over layers
    as `columns` say, and the least p that these can give."""

    def draws(
        self, kept: Kept, scores: Scores, series: str, columns: Columns, first: int, end: int, seed: int
    ) -> list[np.ndarray]: ...

    def least(self, kept: Kept, scores: Scores, series: str) -> float: ...


@lru_cache(maxsize=8)  # claims, readings and curves of the same items have the same
def _pairings(groups: Sequence, clusters: Sequence, draws: int, seed: int) -> Pairings:
    """Those in which not every item sits out."""
    found = random_pairings(len(groups), groups=groups, clusters=clusters, draws=draws, seed=seed)
    return found[(found >= 0).any(1)]


@dataclass(frozen=True)
class Exchange:
    """Answers change places among the items of a group, what moves together as one; by "", each item by itself, and
    within "", among all."""

    by: str = "moves_with"
    within: str = "group"

    def draws(
        self, kept: Kept, scores: Scores, series: str, columns: Columns, first: int, end: int, seed: int
    ) -> list[np.ndarray]:
        values, found = summed(kept.exchangeable(scores.values, series), columns), []
        for moved in kept.moved(self.by):
            pairings = _pairings(tuple(kept.labels(self.within)), tuple(moved), end - first, seed + first)
            found.append(values.exchanged(pairings))
        return found

    def least(self, kept: Kept, scores: Scores, series: str) -> float:
        return max(least_permutation_p(kept.labels(self.within), moved) for moved in kept.moved(self.by))


@dataclass(frozen=True)
class Chance:
    """The numbers of what moves together are as likely above 0 as below (`studentised_null`)."""

    by: str = "cluster"

    def draws(
        self, kept: Kept, scores: Scores, series: str, columns: Columns, first: int, end: int, seed: int
    ) -> list[np.ndarray]:
        own = kept.own(scores.values, series)
        seen = np.isfinite(own).all(1)
        if not seen.any():
            return []
        turned = (own if scores.flipped is None else scores.flipped)[seen] @ columns
        stays, more = (own[seen] @ columns - turned).mean(0), {"draws": end - first, "seed": seed + first}
        return [stays + studentised_null(turned, moved, **more) for moved in kept.only(seen).moved(self.by)]

    def least(self, kept: Kept, scores: Scores, series: str) -> float:
        """One over the number of samples that can be drawn of so few, with replacement."""
        sizes = [len({*moved}) for moved in kept.moved(self.by)]
        return 1 / min(comb(2 * m - 1, m) for m in sizes)


@dataclass(frozen=True)
class Given:
    """The draws that the scores bring along, and the least p that their arrangements allow."""

    def draws(
        self, kept: Kept, scores: Scores, series: str, columns: Columns, first: int, end: int, seed: int
    ) -> list[np.ndarray]:
        return [some @ columns for some in scores.drawn(first, end)]

    def least(self, kept: Kept, scores: Scores, series: str) -> float:
        return scores.least_p


def exchanges(values: Values) -> bool:
    """Whether answers may change places."""
    return not isinstance(values, np.ndarray) or values.ndim == 3

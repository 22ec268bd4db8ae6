"""What every claim carries: a statistic by layer with its interval, its null, its controls, the shape it must have.

Intervals are over independent units (`units`: documents, concepts, animals), which are drawn whole. Over the layers of
the window they are simultaneous (the maximum of the studentised deviation), so that the number that is shown is
corrected for having been chosen; p is corrected in the same way (Westfall and Young), with the +1 rule. Where there are
several nulls, the largest p counts, layer by layer. What is set against a claim (its controls, another layer) is
subtracted item by item: `margin` is the difference and its interval.

The window is fixed before the run: the middle layers (1/3 <= l/L <= 2/3) of a claim about these, or the one layer that
a number belongs to. Scores are oriented so that the claim says "above 0".
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from .pairings import by_label, codes

LEVEL = 0.95
DRAWS = 1000
FAMILY = 250  # claims of a run, at most
DRAWN_ON = round(2 * FAMILY / 0.05)  # so that p can fall below .05 / (2 x claims), where the first draws are all below
WEAK_ALPHA = 0.05
LEAST_ERROR = 0.25  # of the observed standard error: a draw of like units has none, and would be endless; with less,
# a success in 85 of 100 cases is no finding in 24 cases, as such draws are then common
COLUMNS = "experiment series reading layer depth value low high p n dropped control null_high claim".split()

Labels = Sequence[Hashable] | np.ndarray
Columns = Float[np.ndarray, "layer column"]
"""Sums over layers: one layer each, or the middle ones minus others."""
Draw = Callable[[Columns, int, int], Sequence[Float[np.ndarray, "draw column"]]]
"""(columns [layer, column], first, end) -> by null, these draws of the mean of `scores @ columns`."""


@dataclass(frozen=True)
class Unit:
    """What numbers count in, and from what size on an effect matters, fixed before any run, and why from there."""

    name: str
    least: float
    why: str

    @classmethod
    def share(cls, of: str) -> "Unit":
        """The unit "share of `of`"."""
        return cls(f"share of {of}", 0.05, "one in twenty")


NATS = Unit("nats", 0.1, "a word is made a tenth likelier")
PROBABILITY = Unit("probability", 0.05, "one position in twenty would say something else")
COSINE = Unit("cosine", 0.02, "a fiftieth of the way from unrelated to the same")


@dataclass(frozen=True)
class Bounds:
    """A mean by layer and its interval."""

    values: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class ControlCurve(Bounds):
    """The same statistic where the claim must not show: random weights, the embedding layer, a random direction.
    margin: the claim minus the control, with its interval; n: items; seeds: of random weights, over which intervals
    are too."""

    name: str
    n: int
    margin: Bounds
    seeds: int = 1


@dataclass(frozen=True)
class Contrast:
    """The middle layers minus others, item by item: the shape that a claim about middle layers must have."""

    name: str
    value: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Evidence:
    """One claim's statistic by layer with all that is needed to judge it; plain numbers, so that it survives JSON."""

    claim: str
    experiment: str
    series: str
    reading: str
    layers: tuple[int, ...]
    n_layers: int
    window: tuple[int, ...]  # the layers the claim is about, over which p and interval are corrected
    values: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    p: tuple[float, ...]  # nan outside the window: not tested there
    null_high: tuple[float, ...]  # above it the corrected p is below .05
    n: int
    n_units: int
    varies: bool
    least: float  # the smallest effect of interest, in `unit`
    why_least: str
    dropped: Mapping[str, int] = field(default_factory=dict)
    controls: Mapping[str, ControlCurve] = field(default_factory=dict)
    contrasts: Mapping[str, Contrast] = field(default_factory=dict)
    lacking: tuple[str, ...] = ()  # controls without a single number
    least_p: float = 0.0  # the smallest p that the null can give, whatever the data
    unit: str = ""
    null_in_words: str = ""
    form: str = ""  # how the task was put to the model, and how many of the items it gets right
    by_unit: Mapping[str, Sequence[float]] = field(default_factory=dict)  # items, and means by layer of the window

    def to_json(self) -> dict[str, Any]:
        """Plain lists, dicts and finite numbers; a number that is not there is null."""
        return _jsonable(asdict(self))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Evidence":
        data = _with_nan({f.name: data[f.name] for f in fields(cls) if f.name in data})
        curves = {name: _with_nan(of) for name, of in data["controls"].items()}
        margins = {name: Bounds(**_with_nan(of["margin"])) for name, of in curves.items()}
        data["controls"] = {name: ControlCurve(**{**of, "margin": margins[name]}) for name, of in curves.items()}
        data["contrasts"] = {name: Contrast(**_with_nan(of)) for name, of in data["contrasts"].items()}
        return cls(**data)


def depths(layers: Sequence[int], n_layers: int) -> dict[str, Bool[np.ndarray, " layer"]]:
    """Which layers are "early" (below 1/3 of the depth), "middle", "late" (above 2/3), the "first" sixth, and the
    "last"."""
    at, of = np.asarray(layers), n_layers  # in whole numbers: a third of 9 layers is 3
    early, late = 3 * at < of, 3 * at > 2 * of
    middle = ~early & ~late & (at > 0) & (at < of)
    return {"early": early, "middle": middle, "late": late, "first": 6 * at <= of, "last": at == of}


def evidence(
    claim: str,
    scores: Float[np.ndarray, "item layer"],
    draw: Draw,
    *,
    layers: Sequence[int],
    n_layers: int,
    units: Labels | None = None,
    window: str | Sequence[int] = "middle",
    shape: bool = False,
    controls: Mapping[str, "Aside"] | None = None,
    unit: Unit = NATS,
    least_p: float = 0.0,
    outcome: bool = False,
    sequential: bool = True,
    dropped: Mapping[str, int] | None = None,
    seed: int = 0,
    **about: str,
) -> Evidence:
    """Scores per item, and what draws their null, as one object; items with a number missing are dropped and counted.

    draw: of the items that have all their numbers. window: "middle", "inner" (1 .. L-1) or layers; of a single layer,
    that one. shape: the middle layers must be above the first sixth and above the last layer. controls: see `Aside`.
    least_p: the smallest p that the null's arrangements allow; the number of draws sets another. outcome: the scores
    count successes (0, 1, or a difference of such), so that no success anywhere is an answer and not a lack of
    variance. sequential: draws go on to DRAWN_ON where p depends on it. about: experiment, series, reading,
    null_in_words.
    """
    scores, layers = np.asarray(scores, float), np.asarray(layers, int)
    kept = np.isfinite(scores).all(1)
    dropped = dict(dropped or {})
    if not kept.all():
        dropped["without a number"] = dropped.get("without a number", 0) + int((~kept).sum())
    labels = codes(range(len(scores)) if units is None else units)[kept]
    inside = _window(window, layers, n_layers)
    parts = _contrasts(layers, n_layers) if shape else {}
    own = Sample(scores[kept], labels)
    mean, low, high, p, null_high = np.full((5, len(layers)), math.nan)
    varies, fewest, contrasts, curves = False, math.inf, {}, {}
    if kept.any():
        bounds = own.bounds(inside, outcome=outcome, seed=seed)
        mean, low, high = (np.array(of) for of in (bounds.values, bounds.low, bounds.high))
        asides = (controls or {}).items()
        curves = {name: _control(name, own, kept, of, inside, seed) for name, of in asides if _any(of, kept)}
    if kept.any() and inside.any():
        nulls, beside = _drawn(draw, mean, np.eye(len(layers))[:, inside], list(parts.values()), sequential)
        fewest = min(map(len, nulls))
        varies = outcome or all((some.std(0) > 1e-9 * np.abs(some).max(0)).any() for some in nulls)
        if fewest:
            p[inside] = np.max([corrected_p(mean[inside], some) for some in nulls], axis=0)
            null_high[inside] = np.max([corrected_bound(mean[inside], some) for some in nulls], axis=0)
        contrasts = {
            name: _contrast(name, own, column, [some[:, [k]] for some in beside], seed)
            for k, (name, column) in enumerate(parts.items())
        }
    numbers = (tuple(x.tolist()) for x in (mean, low, high, p, null_high))
    named = ("values", "low", "high", "p", "null_high")
    return Evidence(
        claim=claim,
        layers=tuple(layers.tolist()),
        n_layers=int(n_layers),
        window=tuple(layers[inside].tolist()),
        **dict(zip(named, numbers, strict=True)),
        n=int(kept.sum()),
        n_units=len({*labels.tolist()}),
        varies=bool(varies),
        least=float(unit.least),
        why_least=unit.why,
        unit=unit.name,
        dropped=dropped,
        controls=curves,
        contrasts=contrasts,
        lacking=tuple(name for name in controls or {} if kept.any() and name not in curves),
        least_p=max(float(least_p), 1 / (1 + fewest)),
        by_unit=by_label(
            scores[kept][:, inside], np.asarray(range(len(kept)) if units is None else units, object)[kept]
        ),
        **{"experiment": "", "series": "", "reading": "", **about},
    )


def _drawn(
    draw: Draw, mean: Float[np.ndarray, " layer"], inside: Columns, contrasts: Sequence[Columns], sequential: bool
) -> tuple[list[Float[np.ndarray, "draw column"]], list[Float[np.ndarray, "draw column"]]]:
    """The nulls of the window, and of the contrasts: DRAWS of each, and of the former DRAWN_ON where no first draw
    reaches what was observed, as only these can tell how small p is. (A p below 1 / DRAWS needs that, and is then taken
    over all draws: no p is smaller for the stop.)"""
    found, width = draw(np.hstack([inside, *contrasts]), 0, DRAWS), inside.shape[1]
    found, beside = ([_whole(some[:, at]) for some in found] for at in (slice(width), slice(width, None)))
    reached = (len(some) < DRAWS or corrected_p(mean @ inside, some).min() > 1.5 / DRAWS for some in found)
    if sequential and not any(reached):
        more = [_whole(some) for some in draw(inside, DRAWS, DRAWN_ON)]
        found = [np.concatenate(both) for both in zip(found, more, strict=True)]
    return found, beside


def _whole(draws: np.ndarray) -> np.ndarray:
    """Without the draws in which every item sat out."""
    return draws[np.isfinite(draws).all(1)]


def _window(window: str | Sequence[int], layers: np.ndarray, n_layers: int) -> Bool[np.ndarray, " layer"]:
    if len(layers) == 1:
        return np.ones(1, bool)
    if isinstance(window, str):
        return depths(layers, n_layers)["middle"] if window == "middle" else (layers > 0) & (layers < n_layers)
    return np.isin(layers, window)


def _contrasts(layers: np.ndarray, n_layers: int) -> dict[str, Float[np.ndarray, "layer 1"]]:
    """What the middle is compared with, as weights of the layers."""
    of = depths(layers, n_layers)
    pairs = {"first layers": of["first"], "last layer": of["last"]}
    return {name: (_share(of["middle"]) - _share(other))[:, None] for name, other in pairs.items()}


def _share(of: np.ndarray) -> np.ndarray:
    return of / max(of.sum(), 1)


def _contrast(
    name: str, own: "Sample", column: Columns, nulls: Sequence[Float[np.ndarray, "draw 1"]], seed: int
) -> Contrast:
    apart = Sample(own.scores @ column, own.units)
    bounds, value = apart.bounds(np.ones(1, bool), seed=seed), apart.mean
    p = max((corrected_p(value, some)[0] for some in nulls), default=1.0)
    return Contrast(name, bounds.values[0], bounds.low[0], bounds.high[0], float(p))


# ---- intervals ----


@dataclass(frozen=True)
class Sample:
    """Scores of items, maybe by several seeds, nan where a seed has not read an item; units: of the items, as numbers
    from 0."""

    scores: Float[np.ndarray, "*seed item layer"]
    units: Int[np.ndarray, " item"]

    def _sums(self) -> tuple[Float[np.ndarray, "seed unit layer"], Float[np.ndarray, "seed unit"]]:
        scores = self.scores.reshape(-1, *self.scores.shape[-2:])
        seen = np.isfinite(scores).all(2)
        sums = np.zeros((len(scores), self.units.max() + 1, scores.shape[2]))
        sizes = np.zeros(sums.shape[:2])
        for of, n, some, there in zip(sums, sizes, scores, seen, strict=True):
            np.add.at(of, self.units[there], some[there])
            np.add.at(n, self.units[there], 1.0)
        return sums, sizes

    @property
    def mean(self) -> Float[np.ndarray, " layer"]:
        sums, sizes = self._sums()
        return sums.sum((0, 1)) / sizes.sum()

    def resampled(self, seed: int) -> Float[np.ndarray, "draw layer"]:
        """Means over units, and seeds, drawn with replacement; the same units for the same seed, so that differences
        of two samples of the same items are paired."""
        sums, sizes = self._sums()
        both = np.dstack([sums, sizes]).swapaxes(0, 1)[np.unique(self.units)]  # [unit, seed, layer and the size]
        of_units, of_seeds = _times(len(both), DRAWS, seed), _times(len(sums), DRAWS, seed + 1)
        drawn = (of_units @ both.reshape(len(both), -1)).reshape(DRAWS, len(sums), -1)
        total = np.einsum("ds,dsl->dl", of_seeds, drawn)
        return total[:, :-1] / np.maximum(total[:, -1:], 1e-300)

    def bounds(
        self, inside: Bool[np.ndarray, " layer"] | None = None, *, outcome: bool = False, seed: int = 0
    ) -> Bounds:
        """The mean with its 95% interval: for the layers `inside` all at once, for the others one by one."""
        mean = self.mean
        inside = np.zeros(len(mean), bool) if inside is None else inside
        low, high = _band(mean, self.resampled(seed), inside)
        if outcome:  # all the same: how often it could be otherwise, by Wilson's interval
            wide = share(0, len(np.unique(self.units)))["high"] * (high - low < 1e-12)
            low, high = np.maximum(low - wide, -1), np.minimum(high + wide, 1)
        return Bounds(*(tuple(x.tolist()) for x in (mean, low, high)))


@lru_cache(maxsize=8)
def _times(n: int, draws: int, seed: int) -> Float[np.ndarray, "draw unit"]:
    """How often each of n units comes when n are drawn with replacement."""
    drawn = np.random.default_rng(seed).integers(n, size=(draws, n)) + n * np.arange(draws)[:, None]
    return np.bincount(drawn.ravel(), minlength=draws * n).reshape(draws, n).astype(float)


def _band(
    mean: Float[np.ndarray, " layer"], draws: Float[np.ndarray, "draw layer"], inside: Bool[np.ndarray, " layer"]
) -> tuple[Float[np.ndarray, " layer"], Float[np.ndarray, " layer"]]:
    """By the largest studentised deviation on either side; of one layer, this is the percentile interval."""
    apart, level = draws - mean, (1 + LEVEL) / 2
    spread = np.maximum(apart.std(0), 1e-300)
    below, above = np.quantile(apart / spread, (1 - level, level), axis=0)
    below = -below
    if inside.any():
        for side, sign in ((below, -1), (above, 1)):
            side[inside] = np.quantile((sign * apart[:, inside] / spread[inside]).max(1), level)
    return mean - below * spread, mean + above * spread


# ---- controls ----

Aside = Float[np.ndarray, "*seed item _"] | Sample
"""The scores of the same items where the claim must not show, maybe by several seeds; one column stands for all layers.
Or, as a `Sample`, those of other items."""


def _any(of: "Aside", kept: np.ndarray) -> bool:
    """Whether it has a number, of the same items or of others."""
    scores = of.scores if isinstance(of, Sample) else of[..., kept, :]
    return bool(np.isfinite(scores).all(-1).any())


def _control(name: str, own: Sample, kept: np.ndarray, of: Aside, inside: np.ndarray, seed: int) -> ControlCurve:
    """One without an item that has a number is left out by the caller."""
    width = own.scores.shape[1]
    if isinstance(of, Sample):
        shown = of.bounds(inside, seed=seed)
        n, seeds, margin = len(of.scores), 1, _apart(own.bounds(inside, seed=seed), shown)
    else:
        there = of[..., kept, :]
        there = np.broadcast_to(there, (*there.shape[:-1], width))
        sample = Sample(there, own.units)
        shown, n = sample.bounds(inside, seed=seed), int(np.isfinite(there).all(-1).sum())
        seeds = 1 if of.ndim == 2 else len(of)
        margin = Sample(own.scores - there, own.units).bounds(inside, seed=seed)
    return ControlCurve(shown.values, shown.low, shown.high, name, n, margin, seeds)


def _apart(a: Bounds, b: Bounds) -> Bounds:
    """The difference of two independent means, from their intervals (Newcombe's way: the distances are added as
    squares)."""
    value, low, high = (np.array(x) for x in (a.values, a.low, a.high))
    other, other_low, other_high = (np.array(x) for x in (b.values, b.low, b.high))
    apart = value - other
    down, up = np.hypot(value - low, other_high - other), np.hypot(high - value, other - other_low)
    return Bounds(*(tuple(x.tolist()) for x in (apart, apart - down, apart + up)))


# ---- p ----


def corrected_p(
    observed: Float[np.ndarray, "layer"], null: Float[np.ndarray, "draw layer"]
) -> Float[np.ndarray, "layer"]:
    """p per layer, corrected for all the layers given: the maximum of the standardised statistic, with the +1 rule.

    Each layer is standardised by the mean and spread of its null and observed values together, so that no layer
    counts more for its scale and the test stays exact. A layer without spread gets 1.
    """
    z, z_null = _standardised(np.asarray(observed, float), np.asarray(null, float))
    largest = z_null.max(axis=1)
    # Ties count against the claim; the tolerance is for sums taken in another order.
    return (1 + (largest[:, None] >= z[None] - 1e-9).sum(axis=0)) / (1 + len(null))


def _standardised(observed, null):
    pool = np.vstack([null, observed])
    centre, spread = pool.mean(axis=0), pool.std(axis=0)
    flat = spread <= 1e-9 * np.abs(pool).max(axis=0) + 1e-300
    z = np.where(flat, 0.0, (pool - centre) / np.where(flat, 1.0, spread))
    return z[-1], z[:-1]


def corrected_bound(
    observed: Float[np.ndarray, "layer"], null: Float[np.ndarray, "draw layer"]
) -> Float[np.ndarray, "layer"]:
    """Per layer, the value at which the corrected p crosses .05."""
    pool = np.vstack([null, observed])
    _, z_null = _standardised(observed, null)
    return pool.mean(axis=0) + np.quantile(z_null.max(axis=1), 1 - WEAK_ALPHA, method="higher") * pool.std(axis=0)


def studentised_null(
    scores: Float[np.ndarray, "item layer"], units: Labels, *, draws: int = DRAWS, seed: int = 0
) -> Float[np.ndarray, "draw layer"]:
    """What the mean would be, were it 0: the bootstrap-t of the units' sums, in units of the mean.

    Units are drawn with replacement, the same ones at all layers; each draw's distance from the observed mean is
    divided by its own standard error and multiplied by the observed one (Efron and Tibshirani 1993, ch. 12.5). Unlike
    flipped signs, it does not ask the scores to be symmetric: under left skew those call a third of nothing a finding.
    """
    of = codes(units)
    sums, sizes = np.zeros((of.max() + 1, scores.shape[1])), np.bincount(of).astype(float)
    np.add.at(sums, of, np.asarray(scores, float))
    m, mean = len(sizes), sums.sum(0) / sizes.sum()
    times = _times(m, draws, seed)

    def error(times: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """The standard error of a ratio of sums."""
        squares = times @ sums**2 - 2 * mean * (times @ (sums * sizes[:, None])) + mean**2 * (times @ sizes**2)[:, None]
        return np.sqrt(np.maximum(squares, 0) * m / max(m - 1, 1)) / (times @ sizes)[:, None]

    drawn = (times @ sums) / (times @ sizes)[:, None]
    observed = error(np.ones((1, m)), mean)
    return (drawn - mean) / np.maximum(error(times, drawn), LEAST_ERROR * observed + 1e-300) * observed


# ---- items ----


def split_items(
    ids: Sequence[Hashable], seed: int, *, clusters: Labels | None = None, share: float = 0.5
) -> tuple[list, list]:
    """(choose, report): layer and strength are chosen on `share` of the clusters, and reported on the others."""
    clusters = list(ids if clusters is None else clusters)
    kinds = list(dict.fromkeys(clusters))
    chosen = {kinds[i] for i in np.random.default_rng(seed).permutation(len(kinds))[: int(len(kinds) * share)]}
    choose = [i for i, cluster in zip(ids, clusters, strict=True) if cluster in chosen]
    return choose, [i for i, cluster in zip(ids, clusters, strict=True) if cluster not in chosen]


def evenly(values: Sequence, most: int) -> list:
    """At most so many of the values, evenly, first and last among them: of layers where all would be too many."""
    at = np.linspace(0, len(values) - 1, min(most, len(values))).round().astype(int)
    return [values[i] for i in np.unique(at)]


def tidy(all_evidence: Sequence[Evidence]) -> pd.DataFrame:
    """One row per claim, layer and curve; `control` is empty for the measured curve, else the control's name."""
    tables = []
    for e in all_evidence:
        layers = np.array(e.layers)
        told = {"experiment": e.experiment, "series": e.series, "reading": e.reading}
        told |= {"layer": layers, "depth": layers / e.n_layers}
        last = {"dropped": sum(e.dropped.values()), "claim": e.claim}
        for name, of in {"": e, **e.controls}.items():
            own = {"value": of.values, "low": of.low, "high": of.high, "p": math.nan, "n": of.n, "null_high": math.nan}
            own |= {"p": e.p, "null_high": e.null_high} if of is e else {}
            tables.append(pd.DataFrame(told | own | last | {"control": name})[COLUMNS])
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _jsonable(x):
    if isinstance(x, Mapping):
        return {str(k): _jsonable(v) for k, v in x.items()}
    if isinstance(x, list | tuple | np.ndarray):
        return [_jsonable(v) for v in x]
    if isinstance(x, np.generic):
        x = x.item()
    return None if isinstance(x, float) and not math.isfinite(x) else x


def _with_nan(data: Mapping[str, Any]) -> dict[str, Any]:
    """Lists from JSON as tuples, null in them as nan."""
    return {k: tuple(math.nan if x is None else x for x in v) if isinstance(v, list) else v for k, v in data.items()}


def share(hits: int, n: int) -> dict[str, float]:
    """A share as `value`, with its 95% interval (Wilson 1927), and of how many it is, as `n`."""
    p, z = hits / n, 1.96
    centre, spread = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = (centre - spread) / (1 + z * z / n), (centre + spread) / (1 + z * z / n)
    return {"value": p, "low": max(0.0, min(low, p)), "high": min(1.0, max(high, p)), "n": n}

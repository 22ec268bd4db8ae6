"""What every claim carries: a statistic by layer, its interval, its null, its controls and a verdict.

The rules of `judge`, fixed before any run, in order:

1. "cannot be tested here": a precondition of the experiment failed (the model does not know the task), fewer than
   MIN_ITEMS items or independent clusters are left, no layer lies in the window, nothing varies, or the null has so few
   arrangements that p could not fall below ALPHA whatever the data.
2. "holds": at some layer of the window the corrected p is below ALPHA, the interval lies above 0, and it lies above
   the interval of every control at that layer.
3. "holds weakly": at some layer of the window the corrected p is below WEAK_ALPHA and the interval lies above 0.
4. "does not hold": otherwise.

The window is fixed before the run: the layers 1..L-1, or the one layer a single number belongs to. Scores are
oriented so that the claim says "above 0". p is corrected for looking at every layer of the window by the maximum over
layers (Westfall and Young), with the +1 rule. Where there are several nulls, the largest p counts, layer by layer.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

MIN_ITEMS = 20
ALPHA = 0.01
WEAK_ALPHA = 0.05
LEVEL = 0.95
DRAWS = 1000
MIN_ACCURACY = 0.5
COLUMNS = "experiment series reading layer depth value low high p n dropped control null_high claim".split()

Labels = Sequence[Hashable] | np.ndarray
HOLDS, WEAKLY, NOT, UNTESTABLE = "holds", "holds weakly", "does not hold", "cannot be tested here"


def bootstrap_interval(
    scores: Float[np.ndarray, "item layer"],
    *,
    clusters: Labels | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[Float[np.ndarray, "layer"], Float[np.ndarray, "layer"]]:
    """The 95% percentile interval of the mean over items, whole clusters being drawn with replacement."""
    sums, sizes = _by_cluster(np.asarray(scores, float), clusters)
    m = len(sizes)
    times = np.random.default_rng(seed).multinomial(m, np.full(m, 1 / m), size=draws)
    means = (times @ sums) / (times @ sizes)[:, None]
    return tuple(np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0))


def sign_flip_null(
    scores: Float[np.ndarray, "item layer"],
    *,
    clusters: Labels | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Float[np.ndarray, "draw layer"]:
    """Means over items after each cluster's sign is flipped by a coin, the same coin at all layers.

    The null says that a cluster's scores are as likely as their negatives: fit for differences between a target and
    its control.
    """
    sums, sizes = _by_cluster(np.asarray(scores, float), clusters)
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(draws, len(sizes)))
    return signs @ sums / sizes.sum()


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


@dataclass(frozen=True)
class ControlCurve:
    """The same statistic where the claim must not show: random weights, the embedding layer, a random direction."""

    name: str
    values: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    n: int


def control(
    name: str,
    scores: Float[np.ndarray, "item layer"],
    *,
    n_layers_shown: int = 1,
    clusters: Labels | None = None,
    seed: int = 0,
) -> ControlCurve:
    """A control from its scores per item; one column can stand for `n_layers_shown` layers (the embedding layer)."""
    scores, clusters, _ = _finite(np.asarray(scores, float), clusters)
    if not len(scores):
        raise ValueError(f"the control {name!r} has no item with a number; leave it out and say so")
    curves = scores.mean(axis=0), *bootstrap_interval(scores, clusters=clusters, seed=seed)
    return ControlCurve(name, *(tuple(curve.tolist()) * n_layers_shown for curve in curves), n=len(scores))


@dataclass(frozen=True)
class Evidence:
    """One claim's statistic by layer with all that is needed to judge it; plain numbers, so that it survives JSON."""

    claim: str
    experiment: str
    series: str
    reading: str
    layers: tuple[int, ...]
    n_layers: int
    window: tuple[int, ...]  # the layers the claim is about, over which p is corrected
    values: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    p: tuple[float, ...]  # nan outside the window: not tested there
    null_high: tuple[float, ...]  # above it the corrected p is below .05
    n: int
    n_clusters: int
    varies: bool
    dropped: Mapping[str, int] = field(default_factory=dict)
    controls: Mapping[str, ControlCurve] = field(default_factory=dict)
    least_p: float = 0.0  # the smallest p that the null can give, whatever the data
    unit: str = ""
    null_in_words: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain lists, dicts and finite numbers; a number that is not there is null."""
        return _jsonable(asdict(self))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Evidence":
        data = {f.name: data[f.name] for f in fields(cls)}
        data["controls"] = {name: ControlCurve(**_with_nan(curve)) for name, curve in data["controls"].items()}
        return cls(**_with_nan(data))


@dataclass(frozen=True)
class Verdict:
    verdict: str
    reason: str
    layer: int | None = None  # the layer the verdict rests on

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def evidence(
    claim: str,
    scores: Float[np.ndarray, "item layer"],
    null: Float[np.ndarray, "draw layer"] | Sequence[Float[np.ndarray, "_ layer"]],
    *,
    layers: Sequence[int],
    n_layers: int,
    least_p: float = 0.0,
    experiment: str = "",
    series: str = "",
    reading: str = "",
    window: Sequence[int] | None = None,
    clusters: Labels | None = None,
    drawn: Labels | None = None,
    controls: Mapping[str, ControlCurve | Float[np.ndarray, "_ _"]] | None = None,
    dropped: Mapping[str, int] | None = None,
    outcome: bool = False,
    unit: str = "",
    null_in_words: str = "",
    seed: int = 0,
) -> Evidence:
    """Scores per item and a null of their mean as one object; items with a number missing are dropped and counted.

    null: of the mean over the items that have all their numbers; of several, the one with the largest p counts at each
    layer. least_p: the smallest p that its arrangements allow; the number of draws sets another. drawn: what intervals
    are over where that is coarser than the `clusters` that the rules count, such as animals of which several sounds are
    heard. controls: curves, or the scores of the same items (once for each of several seeds), of which one column
    stands for all layers and none at all for no control. outcome: the scores count successes (0, 1, or a difference of
    such), so that no success anywhere is an answer and not a lack of variance. unit, null_in_words: for the reader.
    """
    scores, layers, drawn = np.asarray(scores, float), tuple(map(int, layers)), clusters if drawn is None else drawn
    nulls = [np.asarray(some, float) for some in (null if isinstance(null, list | tuple) else [null])]
    if wrong := {some.shape[1] for some in (scores, *nulls)} - {len(layers)}:
        raise ValueError(f"scores and null of {claim!r} have {wrong} layers and {len(layers)} were named")
    curves = {}
    for name, some in (controls or {}).items():
        if isinstance(some, ControlCurve):
            curves[name] = some
        elif len(some):
            labels = None if drawn is None else list(drawn) * (len(some) // len(drawn))
            shown = len(layers) if some.shape[1] == 1 else 1
            curves[name] = control(name, some, n_layers_shown=shown, clusters=labels, seed=seed)
    nulls = [some[np.isfinite(some).all(axis=1)] for some in nulls]  # a draw in which every item sat out says nothing
    fewest, dropped, given = min(map(len, nulls)), dict(dropped or {}), len(scores)
    _, drawn, _ = _finite(scores, drawn)
    scores, _, n_clusters = _finite(scores, clusters)
    if len(scores) < given:
        dropped["without a number"] = dropped.get("without a number", 0) + given - len(scores)
    if window is None:
        window = layers if len(layers) == 1 else [layer for layer in layers if 1 <= layer < n_layers]
    inside = np.isin(layers, window)
    values, low, high, p, null_high = np.full((5, len(layers)), math.nan)
    varies = False
    if len(scores):
        values = scores.mean(axis=0)
        low, high = bootstrap_interval(scores, clusters=drawn, seed=seed)
    if len(scores) and fewest and inside.any():
        nulls = [some[:, inside] for some in nulls]
        p[inside] = np.max([corrected_p(values[inside], some) for some in nulls], axis=0)
        null_high[inside] = np.max([corrected_bound(values[inside], some) for some in nulls], axis=0)
        varies = outcome or all((some.std(axis=0) > 1e-9 * np.abs(some).max(axis=0)).any() for some in nulls)
    return Evidence(
        claim, experiment, series, reading, layers, int(n_layers), tuple(map(int, window)),
        *(tuple(x.tolist()) for x in (values, low, high, p, null_high)),
        n=len(scores), n_clusters=n_clusters, varies=bool(varies), dropped=dropped, controls=curves,
        least_p=max(float(least_p), 1 / (1 + fewest)), unit=unit, null_in_words=null_in_words,
    )  # fmt: skip


def corrected_bound(
    observed: Float[np.ndarray, "layer"], null: Float[np.ndarray, "draw layer"]
) -> Float[np.ndarray, "layer"]:
    """Per layer, the value at which the corrected p crosses .05."""
    pool = np.vstack([null, observed])
    _, z_null = _standardised(observed, null)
    return pool.mean(axis=0) + np.quantile(z_null.max(axis=1), 1 - WEAK_ALPHA, method="higher") * pool.std(axis=0)


def knows_task(
    correct: Float[np.ndarray, "item"],
    *,
    task: str,
    chance: float = 0.0,
    clusters: Labels | None = None,
    seed: int = 0,
) -> str | None:
    """The precondition that the model does what it is asked: None if it does, else the sentence for `judge`.

    It does when it is right on at least MIN_ACCURACY of the items and its 95% interval lies above chance.
    """
    correct = np.asarray(correct, float)
    if not len(correct):
        return f"there is no item on which to see whether the model can {task}."
    low, _ = bootstrap_interval(correct[:, None], clusters=clusters, seed=seed)
    if correct.mean() >= MIN_ACCURACY and low[0] > chance:
        return None
    share = f"{correct.mean():.0%} of {len(correct)} items (95% interval from {low[0]:.0%})"
    return f"the model cannot {task}: it is right on {share}, and {MIN_ACCURACY:.0%} above chance is asked."


def judge(evidence: Evidence, *, precondition: str | None = None) -> Verdict:
    """The verdict by the rules at the top of this module. `precondition`: the sentence why it cannot be tested."""
    e = evidence
    units, what = min((e.n, "items"), (e.n_clusters, "independent clusters"), key=lambda count: count[0])
    untestable = (
        precondition
        or (units < MIN_ITEMS and f"{units} {what} are left, and {MIN_ITEMS} are needed.")
        or (
            not set(e.window) & set(e.layers)
            and f"the model has no layer between its first and its last (it has {e.n_layers})."
        )
        or (not e.varies and "every item gives the same number, whatever it is paired with.")
        or (e.least_p >= ALPHA and f"its null cannot give a p below {e.least_p:.2g}, and {ALPHA} is asked.")
    )
    if untestable:
        return Verdict(UNTESTABLE, untestable[0].upper() + untestable[1:])
    columns = [i for i, layer in enumerate(e.layers) if layer in e.window]
    shown = [i for i in columns if e.low[i] > 0 and e.p[i] < WEAK_ALPHA]
    free = [i for i in shown if e.p[i] < ALPHA and not _unbeaten(e, i)]
    best = max(free or shown or columns, key=lambda i: (e.values[i], -i))
    layer = e.layers[best]
    numbers = f"it is {e.values[best]:.3g} [{e.low[best]:.3g}, {e.high[best]:.3g}], p = {e.p[best]:.2g}"
    at, corrected = f"layer {layer} of {e.n_layers}", f"corrected for {len(columns)} layers"
    if free:
        beaten = f", and above every control ({', '.join(e.controls)})" if e.controls else ""
        return Verdict(HOLDS, f"At {at} {numbers}, {corrected}{beaten}.", layer)
    if shown:
        doubts = [f"it is not above {name}" for name in _unbeaten(e, best)]
        doubts += [f"p is not below {ALPHA:g}"] if e.p[best] >= ALPHA else []
        return Verdict(WEAKLY, f"At {at} {numbers}, but {' and '.join(doubts)}.", layer)
    return Verdict(NOT, f"At its highest, {at}, {numbers}, {corrected}.", layer)


def _unbeaten(e: Evidence, column: int) -> list[str]:
    """The controls whose interval is not below that of the claim; one without a number is not beaten."""
    return [name for name, curve in e.controls.items() if not e.low[column] > curve.high[column]]


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


def _by_cluster(scores: np.ndarray, clusters: Labels | None) -> tuple[np.ndarray, np.ndarray]:
    """Sum of the scores and number of items per cluster."""
    if clusters is None:
        return scores, np.ones(len(scores))
    of = codes(clusters)
    if len(of) != len(scores):
        raise ValueError(f"{len(of)} cluster labels were given for {len(scores)} items")
    sums = np.zeros((of.max() + 1, scores.shape[1]))
    np.add.at(sums, of, scores)
    return sums, np.bincount(of).astype(float)


def _finite(scores: np.ndarray, clusters: Labels | None) -> tuple[np.ndarray, list | None, int]:
    """Items with all their numbers, their clusters, and how many clusters these are."""
    kept = np.isfinite(scores).all(axis=1)
    if clusters is None:
        return scores[kept], None, int(kept.sum())
    clusters = [cluster for cluster, keep in zip(clusters, kept, strict=True) if keep]
    return scores[kept], clusters, len(set(clusters))


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


# Pairings that keep groups (template, length) apart and clusters (one concept, several items) together


def random_pairings(
    n: int,
    *,
    groups: Labels | None = None,
    clusters: Labels | None = None,
    draws: int,
    seed: int,
) -> Int[np.ndarray, "draw item"]:
    """For each draw and item, the item of its group that stands in for its partner; -1 where it sits the draw out.

    Without clusters a draw is a permutation within groups. With them, clusters change places with clusters they share
    a group with (or are joined to through others), and an item's stand-in is a random one of its group in the new
    place; it sits out if there is none.
    """
    groups = np.zeros(n, np.int64) if groups is None else codes(groups)
    clusters = np.arange(n) if clusters is None else codes(clusters)
    rng = np.random.default_rng(seed)
    n_groups, n_clusters = int(groups.max()) + 1, int(clusters.max()) + 1
    place = clusters * n_groups + groups
    order = np.argsort(place, kind="stable")
    count = np.bincount(place, minlength=n_clusters * n_groups)
    first = np.cumsum(count) - count
    linked = _linked(groups, clusters)
    by_component = np.argsort(linked, kind="stable")
    pairing = np.empty((draws, n), np.int64)
    moved = np.empty(n_clusters, np.int64)
    for row in pairing:
        moved[by_component] = np.lexsort((rng.random(n_clusters), linked))
        there = moved[clusters] * n_groups + groups
        pick = first[there] + (rng.random(n) * count[there]).astype(np.int64)
        row[:] = np.where(count[there] > 0, order[np.minimum(pick, n - 1)], -1)
    return pairing


def least_permutation_p(groups: Labels, clusters: Labels) -> float:
    """The smallest p that `random_pairings` of these can give: one over the number of ways to move the clusters."""
    sizes = np.unique(_linked(codes(groups), codes(clusters)), return_counts=True)[1]
    return math.exp(-sum(math.lgamma(size + 1) for size in sizes))


def least_sign_flip_p(clusters: Labels) -> float:
    """The smallest p that flips of the clusters' signs can give: one over the number of ways to flip them."""
    return 0.5 ** len(set(clusters))


def codes(labels: Labels) -> Int[np.ndarray, "item"]:
    """Labels of any kind as numbers from 0, in order of appearance."""
    number = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    return np.array([number[label] for label in labels], np.int64)


def _linked(groups: np.ndarray, clusters: np.ndarray) -> Int[np.ndarray, "cluster"]:
    """The connected component of each cluster, clusters being joined by the groups they have in common."""
    label = np.arange(int(clusters.max()) + 1)
    while True:
        of_group = np.full(int(groups.max()) + 1, len(label))
        np.minimum.at(of_group, groups, label[clusters])
        lower = label.copy()
        np.minimum.at(lower, clusters, of_group[groups])
        if (lower == label).all():
            return label
        label = lower

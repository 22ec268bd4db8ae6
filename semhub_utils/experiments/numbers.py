"""Numbers by item and layer whose answers may change places, and the curve of such numbers as rows of a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from semhub_utils.evidence import Aside, Sample, corrected_bound
from semhub_utils.models import LanguageModel
from semhub_utils.pairings import codes

ByLayer = Float[np.ndarray, "item layer"]
ByAnswer = Float[np.ndarray, "item layer answer"]
Pairings = Int[np.ndarray, "draw item"]
Columns = Float[np.ndarray, "layer column"]
"""Sums over layers: one layer each, or the middle ones minus others."""


@runtime_checkable
class Exchangeable(Protocol):
    """Numbers whose answers may change places: each item's own, and the means over items if they did. Like
    [item, layer, answer], but for what would not fit in memory so (`similarity.Matches`)."""

    own: ByLayer

    def exchanged(self, pairings: Pairings) -> Float[np.ndarray, "draw layer"]: ...


@dataclass(frozen=True)
class Weighed:
    """Numbers by word, of which a score is the weighed sum, and by what each word counts for each item; another item's
    answer is its weights."""

    values: Float[np.ndarray, "item layer word"]
    weights: Float[np.ndarray, "item word"]

    @property
    def own(self) -> ByLayer:
        return np.einsum("ilw,iw->il", self.values, self.weights)

    def exchanged(self, pairings: Pairings) -> Float[np.ndarray, "draw layer"]:
        by_layer = (numbers @ self.weights.T for numbers in np.moveaxis(self.values, 1, 0))  # one layer at a time
        return np.stack([_means(scores[:, None], np.arange(len(scores)), pairings)[:, 0] for scores in by_layer], 1)


@dataclass(frozen=True)
class Answers:
    """Numbers [item, layer, answer] with the index of each item's own answer."""

    values: ByAnswer
    target: Int[np.ndarray, " item"]

    @property
    def own(self) -> ByLayer:
        return self.values[np.arange(len(self.values)), :, self.target]

    def exchanged(self, pairings: Pairings) -> Float[np.ndarray, "draw layer"]:
        return _means(self.values, self.target, pairings)


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
        return Answers(np.einsum("ila,lc->ica", of.values, columns), of.target)
    return Summed(of, columns)


def _means(values: ByAnswer, target: Int[np.ndarray, " item"], pairings: Pairings) -> Float[np.ndarray, "draw layer"]:
    index, found = np.arange(len(values)), []
    for pairing in pairings:
        stays = pairing >= 0
        rows = values[index[stays], :, target[pairing[stays]]]
        with np.errstate(invalid="ignore"):  # nan where nobody has a number
            found.append(np.nansum(rows, 0) / np.isfinite(rows).sum(0))
    return np.stack(found)


def curve(
    model: LanguageModel,
    values: ByLayer,
    *,
    experiment: str,
    series: str,
    reading: str = "",
    clusters: Sequence | None = None,
    dropped: int = 0,
    seed: int = 0,
    controls: Mapping[str, Aside] | None = None,
    null: Float[np.ndarray, "draw layer"] | Sequence[Float[np.ndarray, "_ layer"]] | None = None,
    layers: Sequence[int] | None = None,
) -> pd.DataFrame:
    """A tidy curve by layer with its interval over items (none for one row); items without a number are left out.

    Where none is left the curve stands there with n = 0 and no numbers. controls: the same where nothing should show,
    of the same items (or of them several times over), as curves with `control` their name. null: draws of the mean over
    all items, whose 95th percentile, corrected for the layers between first and last, stands in `null_high`; of several
    the highest. layers: those of the columns, by default all, or the last where there is one column.
    """
    n_items, width = values.shape
    labels = codes(range(n_items) if clusters is None else list(clusters) * (n_items // max(len(clusters), 1)))
    seen = np.isfinite(values).all(1)
    values = values[seen]
    mean, low, high = np.full((3, width), np.nan)
    if len(values):
        bounds = Sample(values, labels[seen]).bounds(seed=seed)
        mean, low, high = (np.array(of) for of in (bounds.values, bounds.low, bounds.high))
    if len(values) == 1:
        low = high = np.full(width, np.nan)
    if layers is None:
        layers = [model.n_layers] if width == 1 else range(width)
    layers = np.asarray(layers)
    same = {"experiment": experiment, "series": series, "reading": reading}
    table = pd.DataFrame(
        same
        | {"layer": layers, "depth": layers / model.n_layers}
        | {"value": mean, "low": low, "high": high}
        | {"n": len(values), "dropped": dropped + int((~seen).sum())}
    )
    inner = (layers > 0) & (layers < model.n_layers)
    nulls = null if isinstance(null, list | tuple) else [] if null is None else [null]
    nulls = [some[np.isfinite(some).all(1)] for some in nulls]  # a draw in which every item sat out says nothing
    if any(map(len, nulls)) and len(values) and inner.any():
        table["null_high"] = np.nan
        bounds = [corrected_bound(mean[inner], some[:, inner]) for some in nulls]
        table.loc[inner, "null_high"] = np.max(bounds, axis=0)
    tables = [table]
    for name, of in (controls or {}).items():
        beside = of if isinstance(of, Sample) else Sample(of, labels)
        there = np.isfinite(beside.scores).all(-1)
        bounds = beside.bounds(seed=seed)
        numbers = {"value": bounds.values, "low": bounds.low, "high": bounds.high, "n": int(there.sum())}
        tables.append(
            pd.DataFrame(same | {"layer": layers, "depth": layers / model.n_layers} | numbers).assign(
                control=name, dropped=dropped
            )
        )
    return pd.concat(tables, ignore_index=True)

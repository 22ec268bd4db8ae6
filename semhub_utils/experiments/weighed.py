"""Right words against wrong ones: numbers by item, layer and word, weighed by what each word counts for each item."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from semhub_utils.evidence import Evidence, evidence, least_permutation_p, random_pairings
from semhub_utils.experiments.core import DRAWS
from semhub_utils.models import LanguageModel

Numbers = Float[np.ndarray, "item layer word"]
Weights = Float[np.ndarray, "item word"]
ByLayer = Float[np.ndarray, "item layer"]


def weigh(values: Numbers, weights: Weights) -> ByLayer:
    """The weighted sum over words."""
    return np.einsum("ilw,iw->il", values, weights)


def sides(values: Numbers, weights: Weights) -> tuple[ByLayer, ByLayer]:
    """The weighted sums over the right words, which count for an item, and over the wrong ones, which count against."""
    return weigh(values, np.maximum(weights, 0)), weigh(values, np.maximum(-weights, 0))


def weighed_evidence(
    model: LanguageModel,
    claim: str,
    values: Numbers,
    weights: Weights,
    *,
    others: Mapping[str, Numbers],
    groups: Sequence[str],
    anchors: Sequence | np.ndarray,
    clusters: Sequence[str],
    kinds: Sequence | None = None,
    seed: int = 0,
    **options: Any,
) -> Evidence:
    """The weighted sum at each layer, against the weights of other items of a group, those of an anchor together; with
    `kinds` of words, also against words that have changed names within their kind, and the harder null counts.

    Controls: the embedding layer, and `others`, the same numbers where the claim must not show. Items with a weight
    that is nan are left out.
    """
    scores, least, controls, depth = weigh(values, weights), 0.0, {}, model.n_layers + 1
    nulls = [np.empty((0, depth))]
    if np.isfinite(scores).all(1).any():
        blank = {"embedding layer": scores[:, :1]} | {name: weigh(some, weights) for name, some in others.items()}
        controls = {name: some for name, some in blank.items() if np.isfinite(some).all(1).any()}
        least = least_permutation_p(groups, anchors)
        pairings = random_pairings(len(values), groups=groups, clusters=anchors, draws=DRAWS, seed=seed)
        nulls = [_moved(values, weights, pairings)]
        if kinds is not None:
            least = max(least, least_permutation_p(kinds, range(len(kinds))))
            nulls.append(_renamed(values, weights, random_pairings(len(kinds), groups=kinds, draws=DRAWS, seed=seed)))
    return evidence(
        claim, scores, nulls, least_p=least, layers=range(depth), n_layers=model.n_layers, controls=controls,
        clusters=clusters, seed=seed, **options,
    )  # fmt: skip


def _moved(values: Numbers, weights: Weights, pairings: np.ndarray) -> Float[np.ndarray, "draw layer"]:
    """Means with the weights of other items; nan where every item sits out."""
    index, found = np.arange(len(values)), np.full((len(pairings), values.shape[1]), np.nan)
    for layer in range(values.shape[1]):  # nothing of size item x item x layer
        by = values[:, layer] @ weights.T
        for draw, pairing in enumerate(pairings):
            if (stay := pairing >= 0).any():
                found[draw, layer] = by[index[stay], pairing[stay]].mean()
    return found


def _renamed(values: Numbers, weights: Weights, renamings: np.ndarray) -> Float[np.ndarray, "draw layer"]:
    """Means with the numbers of other words."""
    names, by_layer = np.arange(weights.shape[1]), np.moveaxis(values, 1, 0)
    return np.stack([(weights.T @ by / len(values))[names, renamings].sum(1) for by in by_layer], axis=1)

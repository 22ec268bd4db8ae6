"""Pairings that mean nothing: groups (template, length) are kept apart and clusters (one concept, several items)
together."""

import math
from collections.abc import Hashable, Sequence

import numpy as np
from jaxtyping import Float, Int

AT_ONCE = 1 << 20  # pairs drawn
Labels = Sequence[Hashable] | np.ndarray


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
    pairing = np.empty((draws, n), np.int32)
    for part in np.array_split(pairing, -(-draws * n // AT_ONCE)):
        # within each component, in a random order: the whole number of a key is the component
        drawn = np.argsort(linked + rng.random((len(part), n_clusters)), axis=1)
        moved = np.empty_like(drawn)
        moved[:, by_component] = drawn
        there = moved[:, clusters] * n_groups + groups
        pick = first[there] + (rng.random(there.shape) * count[there]).astype(np.int64)
        part[:] = np.where(count[there] > 0, order[np.minimum(pick, n - 1)], -1)
    return pairing


def least_permutation_p(groups: Labels, clusters: Labels) -> float:
    """The smallest p that `random_pairings` of these can give: one over the number of ways to move the clusters."""
    sizes = np.unique(_linked(codes(groups), codes(clusters)), return_counts=True)[1]
    return math.exp(-sum(math.lgamma(size + 1) for size in sizes))


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


def by_label(scores: Float[np.ndarray, "item layer"], labels: Labels) -> dict[str, list[float]]:
    """By label: how many items have it, and their mean by layer, to five digits. What two models make of the same
    items can be compared label by label."""
    of = codes(labels)
    each = {str(label): scores[of == k] for k, label in enumerate(dict.fromkeys(labels))}
    return {label: [len(some), *(float(f"{x:.5g}") for x in some.mean(0))] for label, some in each.items()}

"""How alike the states of two data types are, layer by layer, and how alike they would be if the pairs meant nothing.

Row i of `a` and row i of `b` are the two sides of pair i (hidden states at one position each). Every measure walks
the layers one at a time and forms one item x item matrix product per layer, so nothing of size item x item x hidden
exists, nor anything of size layer x item x item that has more than KEPT bytes.

`mask[i, j]` says which j may stand beside i as a non-match (say, only items of the same template and length); the
match itself never counts as one. Items without any allowed non-match get nan and are for the caller to count.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from .pairings import Labels, codes

BLOCKS = 20  # of the jackknife
KEPT = 2**26  # bytes of the scores of all pairs at all layers


@dataclass(frozen=True)
class Matches:
    """A measure of pairs. own: of the pairs as given, by item (or by block, where the measure is of all at once).
    exchanged: its mean when row i of `a` is paired with row pairing[i] of `b` (-1 sits out), the same at every layer;
    what meaningless pairs would give, without a number for every pair and layer at once. chance: what has been taken
    off, so that `own` can reach 1 - chance."""

    own: Float[np.ndarray, "item layer"]
    exchanged: Callable[[Int[np.ndarray, "draw item"]], Float[np.ndarray, "draw layer"]]
    chance: float | Float[np.ndarray, " item"] = 0.0


def cosine_matrix(
    a: Float[Tensor, "item layer hidden"], b: Float[Tensor, "other layer hidden"]
) -> Float[Tensor, "layer item other"]:
    """Cosine of every row of `a` with every row of `b`, per layer. A zero vector has cosine 0 with everything."""
    return torch.stack([_cosines(x, y) for x, y in _layers(a, b)])


def adjusted_cosine(
    a: Float[Tensor, "item layer hidden"],
    b: Float[Tensor, "item layer hidden"],
    mask: Bool[Tensor, "item item"] | None = None,
) -> Matches:
    """Per item: the cosine of the match minus the mean cosine of its non-matches, half from either side.

    Without a mask the mean over items is the paper's baseline-adjusted cosine: matching pairs minus all off-diagonal
    pairs (Eq. 1).
    """
    return _matches(a, b, partial(_adjusted_scorer, mask=mask))


def retrieval_accuracy(
    a: Float[Tensor, "item layer hidden"],
    b: Float[Tensor, "item layer hidden"],
    mask: Bool[Tensor, "item item"] | None = None,
    *,
    over_chance: bool = False,
) -> Matches:
    """Per item: is the match the nearest by cosine, of the match's own group? The mean of both directions; m items tied
    for nearest get 1/m. mask: `same_group`, none for one group; exchanged for one of another group, a match is compared
    with that group's. over_chance: minus one over the number compared."""
    found = _matches(a, b, partial(_retrieval_scorer, mask=mask, over_chance=over_chance))
    if not over_chance:
        return found
    allowed = _allowed(mask, a.new_zeros(len(a), len(b)))
    return replace(found, chance=((1 / allowed.sum(0) + 1 / allowed.sum(1)) / 2).cpu().double().numpy())


def mid_rank(
    a: Float[Tensor, "item layer hidden"],
    b: Float[Tensor, "item layer hidden"],
    mask: Bool[Tensor, "item item"] | None = None,
) -> Matches:
    """Per item: the share of its non-matches that are further than the match, ties counting half, minus one half; the
    mean of both directions. Like retrieval it knows no scale, and it does not depend on how many are compared."""
    return _matches(a, b, partial(_rank_scorer, mask=mask))


def csls(
    a: Float[Tensor, "item layer hidden"],
    b: Float[Tensor, "item layer hidden"],
    mask: Bool[Tensor, "item item"] | None = None,
    k: int = 10,
) -> Matches:
    """Per item: `adjusted_cosine` of twice the cosine minus the mean cosines of either side with its k nearest, so that
    what is near everything is near nothing (arXiv 1710.04087, Eq. 2)."""
    return _matches(a, b, partial(_csls_scorer, mask=mask, k=k))


def causal(
    unembedding: Float[Tensor, "vocab hidden"], *sides: Float[Tensor, "item layer hidden"]
) -> list[Float[Tensor, "item layer hidden"]]:
    """States in the coordinates in which their dot product is the causal inner product: x Cov(U) y, for U the rows of
    the unembedding (arXiv 2311.03658, Sec. 3; arXiv 2606.14347)."""
    rows = unembedding.detach().float()
    values, vectors = torch.linalg.eigh(torch.cov(rows.T).cpu().double())
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    return [side.float() @ root.to(side.device, torch.float32) for side in sides]


def calibrated(
    observed: Float[np.ndarray, " layer"], null: Float[np.ndarray, "draw layer"], largest: float
) -> Float[np.ndarray, " layer"]:
    """A mean on the scale from what 5% of the null exceed (0, and 0 below) to the largest it can be (1), layer by
    layer (arXiv 2602.14486, Algorithm 1)."""
    pool = np.sort(np.vstack([null, observed]), axis=0)
    high = pool[math.ceil(0.95 * len(pool)) - 1]
    return np.clip((observed - high) / np.maximum(largest - high, 1e-12), 0.0, 1.0)


def mutual_neighbours(
    a: Float[Tensor, "item layer hidden"], b: Float[Tensor, "item layer other_hidden"], k: int = 10
) -> Matches:
    """Per item: the share of its k nearest neighbours in `a` that are among its k nearest in `b` (arXiv 2405.07987).
    A whole space is compared, so pairings have to be one to one."""
    return _matches(a, b, partial(_neighbour_scorer, k=k))


def debiased_cka(
    a: Float[Tensor, "item layer hidden"], b: Float[Tensor, "item layer other_hidden"], clusters: Labels = ()
) -> Matches:
    """Linear CKA with the unbiased HSIC (arXiv 2010.15327, Eq. 3): 0 on average for unrelated states.

    The biased form is high on random data once hidden exceeds items (arXiv 2405.01012). 0 where a side is the same for
    all items. Needs at least 4 items, and pairings one to one. One number for all; with `clusters` numbers whose mean
    it is and whose spread is its own: the jackknife's pseudo-values, each of BLOCKS blocks of clusters left out in
    turn, where enough items would be left.
    """
    whole = _matches(a, b, _cka_scorer)
    if not len(clusters):
        return whole
    of = torch.as_tensor(codes(clusters), device=a.device) % BLOCKS
    blocks = of.unique()
    if len(blocks) < 2 or len(a) - of.bincount().max() < 4:
        return whole
    without = torch.stack([_cka_without(x, y, of) for x, y in _layers(a, b)], dim=1).numpy()
    return replace(whole, own=whole.own - (len(blocks) - 1) * (without - without.mean(0)))


def _cka_without(
    x: Float[Tensor, "item hidden"], y: Float[Tensor, "item other"], of: Int[Tensor, " item"]
) -> Float[Tensor, " block"]:
    """Debiased CKA with each block of items left out in turn, from sums over both Gram matrices alone: centring changes
    none of it, so that a part of the items has the same products as all of them."""
    block = torch.nn.functional.one_hot(of.cpu().unique(return_inverse=True)[1]).double()  # [item, block]
    grams = [_products(z).cpu().double() for z in (x, y)]  # no model's device need know float64
    left = len(x) - block.sum(0)
    constant = [_varies_little(gram, z, block) for gram, z in zip(grams, (x, y), strict=True)]
    grams = [gram.fill_diagonal_(0) for gram in grams]
    # by item and block, the sum over the items that are left, which an item left out has no part in
    rows = [(gram.sum(1)[:, None] - gram @ block) * (1 - block) for gram in grams]

    def inner(i: int, j: int) -> Float[Tensor, " block"]:
        of_blocks = block.T @ (grams[i] * grams[j]) @ block
        products = of_blocks.sum() - 2 * of_blocks.sum(1) + of_blocks.diagonal()
        sums = rows[i].sum(0) * rows[j].sum(0) / ((left - 1) * (left - 2))
        return products - 2 / (left - 2) * (rows[i] * rows[j]).sum(0) + sums

    scale = (inner(0, 0) * inner(1, 1)).clamp_min(0).sqrt().clamp_min(torch.finfo(x.dtype).tiny)
    return (inner(0, 1) / scale).masked_fill(constant[0] | constant[1], 0.0)


def _varies_little(
    gram: Float[Tensor, "item item"], z: Float[Tensor, "item hidden"], block: Float[Tensor, "item block"]
) -> Bool[Tensor, " block"]:
    """Whether what is left without each block is the same for all items, but for rounding (`_products`)."""
    left, diagonal = 1 - block, gram.diagonal()
    apart = diagonal @ left - ((gram @ left) * left).sum(0) / left.sum(0)  # in units of all items' own variation
    whole, own = (z.cpu().double().square().sum(1) @ left), (z - z.mean(0)).norm().cpu().double() ** 2
    return apart * own <= 1e-12 * whole


def same_group(groups: Labels) -> Bool[Tensor, "item item"]:
    """The mask that lets an item be compared with items of its own group only."""
    labels = torch.as_tensor(codes(groups))
    return labels[:, None] == labels[None, :]


# Scorers: for one layer, a function from pairings (row i of `a` with row pairing[i] of `b`, or with none, which is the
# number of rows) to scores per item.
Scorer = Callable[[Int[Tensor, "draw item"]], Float[Tensor, "draw item"]]


def _matches(a: Tensor, b: Tensor, scorer: Callable[[Tensor, Tensor], Scorer]) -> Matches:
    fit = a.shape[1] * len(a) * len(b) * 4 <= KEPT
    kept: dict[int, Scorer] = {}  # by layer, or a null that is drawn in parts makes them anew

    def scorers() -> Iterator[Scorer]:
        for layer, (x, y) in enumerate(_layers(a, b)):
            score = kept.get(layer) or scorer(x, y)
            if fit:
                kept[layer] = score
            yield score

    as_given = torch.arange(len(a), device=a.device)[None]
    own = torch.stack([score(as_given)[0] for score in scorers()], dim=1)

    def exchanged(pairings: Int[np.ndarray, "draw item"]) -> Float[np.ndarray, "draw layer"]:
        found, chosen = [], torch.as_tensor(pairings, device=a.device).long()
        chosen = torch.where(chosen < 0, len(a), chosen)
        for score in scorers():
            # A few draws at a time: the gathered scores stay small beside the item x item matrix.
            found.append(torch.cat([score(chunk).nanmean(dim=1) for chunk in chosen.split(256)]))
        return torch.stack(found, dim=1).cpu().double().numpy()

    return Matches(own.cpu().double().numpy(), exchanged)


def _adjusted_scorer(x: Tensor, y: Tensor, mask: Tensor | None) -> Scorer:
    return _adjusted(_cosines(x, y), mask)


def _adjusted(cosine: Tensor, mask: Tensor | None) -> Scorer:
    allowed = _allowed(mask, cosine).to(cosine.dtype)
    # Sums include the match, wherever it will be, so that a permuted match can be taken out again without a new sum.
    rows, columns = (cosine * allowed).sum(1)[:, None], (cosine * allowed).sum(0)[None]
    others_in_row, others_in_column = allowed.sum(1)[:, None] - 1, allowed.sum(0)[None] - 1
    adjusted = cosine - ((rows - cosine) / others_in_row + (columns - cosine) / others_in_column) / 2
    return _pair_scorer(adjusted.masked_fill((others_in_row < 1) | (others_in_column < 1), torch.nan))


def _retrieval_scorer(x: Tensor, y: Tensor, mask: Tensor | None, over_chance: bool) -> Scorer:
    cosine = _cosines(x, y)
    allowed, hit = _allowed(mask, cosine), torch.zeros_like(cosine)
    group, sizes = allowed.int().argmax(1), allowed.sum(1)  # a group is called by its first item
    for rows, put in ((cosine, hit), (cosine.T, hit.T)):
        index = group.expand_as(rows)
        largest = torch.full_like(rows, -torch.inf).scatter_reduce(1, index, rows, "amax")
        best = (rows >= largest.gather(1, index) - 1e-6).to(rows)  # equal up to float32 rounding
        tied = torch.zeros_like(rows).scatter_add(1, index, best).gather(1, index)
        put += best / tied / 2 - over_chance * 0.5 / sizes
    return _pair_scorer(hit.masked_fill(_alone(allowed), torch.nan))


def _rank_scorer(x: Tensor, y: Tensor, mask: Tensor | None) -> Scorer:
    cosine = _cosines(x, y)
    allowed, found = _allowed(mask, cosine), torch.zeros_like(cosine)
    for direction in (0, 1):
        rows, fits = (cosine, allowed) if direction else (cosine.T, allowed.T)
        ordered = rows.masked_fill(~fits, torch.inf).sort(1).values.contiguous()
        below, upto = (torch.searchsorted(ordered, (rows + off).contiguous()) for off in (-1e-6, 1e-6))
        others = fits.sum(1, keepdim=True) - 1
        rank = (below + upto - 1) / 2 / others  # itself is among those up to it
        found += (rank if direction else rank.T) / 2
    return _pair_scorer((found - 0.5).masked_fill(_alone(allowed) | ~allowed, torch.nan))


def _alone(allowed: Bool[Tensor, "item item"]) -> Bool[Tensor, "item item"]:
    """Where there is nothing to compare a match with."""
    return (allowed.sum(0)[None] < 2) | (allowed.sum(1)[:, None] < 2)


def _csls_scorer(x: Tensor, y: Tensor, mask: Tensor | None, k: int) -> Scorer:
    cosine = _cosines(x, y)
    near = [cosine.topk(min(k, len(cosine)), dim=of).values.mean(of, keepdim=True) for of in (0, 1)]
    return _adjusted(2 * cosine - near[0] - near[1], mask)


def _neighbour_scorer(x: Tensor, y: Tensor, k: int) -> Scorer:
    if not 1 <= k < len(x):
        raise ValueError(f"k is {k}; a number from 1 to {len(x) - 1} would do for {len(x)} items")
    near_x = _cosines(x, x).fill_diagonal_(-torch.inf).topk(k).indices
    near_y = torch.zeros(len(y), len(y), dtype=torch.bool, device=y.device)
    near_y.scatter_(1, _cosines(y, y).fill_diagonal_(-torch.inf).topk(k).indices, True)

    def score(pairing: Tensor) -> Tensor:
        return near_y[pairing[:, :, None], pairing[:, near_x]].to(x.dtype).mean(-1)

    return score


def _cka_scorer(x: Tensor, y: Tensor) -> Scorer:
    n = len(x)
    if n < 4:
        raise ValueError(f"debiased CKA needs at least 4 items, and there are {n}")

    k, m = _u_centred(_products(x)), _u_centred(_products(y))
    scale = ((k * k).sum() * (m * m).sum()).sqrt().clamp_min(torch.finfo(x.dtype).tiny)

    def score(pairing: Tensor) -> Tensor:
        return torch.stack([(k * m.index_select(0, p).index_select(1, p)).sum() for p in pairing])[:, None] / scale

    return score


def _products(z: Float[Tensor, "item hidden"]) -> Float[Tensor, "item item"]:
    """Products of centred states, of length 1 together; 0 where they are the same for all items."""
    apart = z - z.mean(0)
    if apart.norm() <= 1e-6 * z.norm():  # of rounding alone anything may come
        return z.new_zeros(len(z), len(z))
    apart = apart / apart.norm()
    return apart @ apart.T


def _u_centred(gram: Float[Tensor, "item item"]) -> Float[Tensor, "item item"]:
    """Szekely and Rizzo's U-centring: the mean product of two such matrices is the unbiased HSIC (up to one factor)."""
    n = len(gram)
    gram = gram.clone().fill_diagonal_(0)
    rows = gram.sum(1) / (n - 2)
    return (gram - rows[:, None] - rows[None] + gram.sum() / ((n - 1) * (n - 2))).fill_diagonal_(0)


def _pair_scorer(scores: Float[Tensor, "item item"]) -> Scorer:
    n = len(scores)
    # a column more, for who sits out
    padded = torch.cat([scores, scores.new_full((n, 1), torch.nan)], 1).flatten()
    first = (n + 1) * torch.arange(n, device=scores.device)

    def score(pairing: Tensor) -> Tensor:
        return padded.take(first + pairing)

    return score


def _cosines(x: Float[Tensor, "item hidden"], y: Float[Tensor, "other hidden"]) -> Float[Tensor, "item other"]:
    return normalize(x, dim=-1) @ normalize(y, dim=-1).T


def _allowed(mask: Tensor | None, cosine: Tensor) -> Bool[Tensor, "item item"]:
    """The mask with the diagonal in: a match is always among what it is compared with."""
    if mask is None:
        return torch.ones_like(cosine, dtype=torch.bool)
    return mask.to(cosine.device) | torch.eye(len(cosine), dtype=torch.bool, device=cosine.device)


def _layers(a: Tensor, b: Tensor):
    """The layers of both sides, one at a time, in float32 at least."""
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"the sides have {a.shape[1]} and {b.shape[1]} layers; the same layers are needed")
    a, b = (x if x.dtype == torch.float64 else x.float() for x in (a, b))
    for layer in range(a.shape[1]):
        yield a[:, layer], b[:, layer]

"""Measures that know no scale, each against a loop in float64 and, where there is one, the authors' own package."""

import numpy as np
import pytest
import torch

from semhub_utils.pairings import random_pairings
from semhub_utils.similarity import calibrated, causal, csls, mid_rank, retrieval_accuracy, same_group

N, LAYERS, HIDDEN = 24, 3, 8
GROUPS = [k % 3 for k in range(N)]


def sides(seed=0, shared=0.7):
    make = torch.Generator().manual_seed(seed)
    a, b, both = (torch.randn(N, LAYERS, HIDDEN, generator=make) for _ in range(3))
    return a + shared * both, b + shared * both


def cosines(a, b, layer):
    x, y = (side[:, layer].double().numpy() for side in (a, b))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)) @ (y / np.linalg.norm(y, axis=1, keepdims=True)).T


def both_ways(cosine, of):
    """The mean of a statistic of (own value, others' values), over rows and columns, within the group."""
    found = []
    for i in range(N):
        others = [j for j in range(N) if GROUPS[j] == GROUPS[i] and j != i]
        found.append((of(cosine[i, i], cosine[i, others]) + of(cosine[i, i], cosine[others, i])) / 2)
    return np.array(found)


ORACLES = {
    retrieval_accuracy: lambda own, others: float(own > others.max()),
    mid_rank: lambda own, others: (own > others).mean() - 0.5,
}


@pytest.mark.parametrize("measure", ORACLES)
def test_within_the_group_against_a_loop(measure):
    a, b = sides()
    found = measure(a, b, same_group(GROUPS))
    want = np.stack([both_ways(cosines(a, b, layer), ORACLES[measure]) for layer in range(LAYERS)], axis=1)
    assert np.allclose(found.own, want, atol=1e-6)
    pairings = random_pairings(N, groups=GROUPS, draws=3, seed=0)
    want = [measure(a, b[pairing], same_group(GROUPS)).own.mean(0) for pairing in pairings]
    assert np.allclose(found.exchanged(pairings), want, atol=1e-6)


@pytest.mark.parametrize("measure", ORACLES)
def test_what_is_alike_by_its_form_alone_gains_nothing(measure):
    form = 9 * torch.randn(3, 1, HIDDEN, generator=torch.Generator().manual_seed(1))[GROUPS]
    a, b = (side + form for side in sides(shared=0.0))
    chance = {"over_chance": True} if measure is retrieval_accuracy else {}
    assert abs(measure(a, b, same_group(GROUPS), **chance).own.mean()) < 0.12
    scaled = measure(9 * a, 0.1 * b, same_group(GROUPS)).own
    assert np.allclose(scaled, measure(a, b, same_group(GROUPS)).own, atol=1e-6)


def test_ties_count_half():
    a = torch.ones(4, 1, HIDDEN)
    assert np.allclose(mid_rank(a, a).own, 0) and np.allclose(retrieval_accuracy(a, a).own, 0.25)
    assert np.allclose(retrieval_accuracy(a, a, over_chance=True).own, 0)
    assert np.isnan(mid_rank(*sides(), same_group(range(N))).own).all()


def test_csls_against_a_loop():
    a, b = sides()
    found, k = csls(a, b, k=5).own, 5
    for layer in range(LAYERS):
        cosine = cosines(a, b, layer)
        near_a, near_b = (np.sort(c, axis=1)[:, -k:].mean(1) for c in (cosine, cosine.T))
        score = 2 * cosine - near_a[:, None] - near_b[None]
        others = ~np.eye(N, dtype=bool)
        for i in range(N):
            apart = score[i, i] - (score[i, others[i]].mean() + score[others[i], i].mean()) / 2
            assert found[i, layer] == pytest.approx(apart, abs=1e-5)


def test_the_causal_inner_product_against_its_definition():
    a, b = sides()
    rows = torch.randn(50, HIDDEN, generator=torch.Generator().manual_seed(3)) * torch.arange(1, HIDDEN + 1)
    x, y = causal(rows, a, b)
    metric = np.cov(rows.double().numpy().T)
    want = np.einsum("ilh,hk,ilk->il", a.double().numpy(), metric, b.double().numpy())
    assert np.allclose((x * y).sum(-1), want, rtol=1e-4, atol=1e-3)


def test_calibrated_against_the_authors_package():
    calibrate = pytest.importorskip("calibrated_similarity").calibrate
    a, b = sides(shared=1.2)
    pairings, wanted = random_pairings(N, draws=200, seed=0), []

    def mean(x, y):
        return retrieval_accuracy(x[:, None], y[:, None]).own.mean()

    for layer in range(LAYERS):
        rows = iter(torch.as_tensor(pairings))
        given = {"K": 200, "perm_fn": lambda n, device: next(rows)}  # noqa: B023 - called before the next layer
        wanted.append(calibrate(a[:, layer], b[:, layer], mean, **given)[0].item())
    found = retrieval_accuracy(a, b)
    assert np.allclose(calibrated(found.own.mean(0), found.exchanged(pairings), 1.0), wanted, atol=1e-6)
    assert max(wanted) > 0.1 and calibrated(np.zeros(2), np.ones((9, 2)), 1.0).tolist() == [0, 0]

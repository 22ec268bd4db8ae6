"""Similarity against loops in float64 and, where there is one, the authors' own package; planted truths, and nulls that
are neither too narrow nor too wide."""

import math
from collections import Counter

import numpy as np
import pytest
import torch

from semhub_utils import pairings as pairings_module
from semhub_utils import similarity
from semhub_utils.evidence import corrected_p
from semhub_utils.pairings import random_pairings
from semhub_utils.similarity import (
    BLOCKS,
    adjusted_cosine,
    calibrated,
    causal,
    cosine_matrix,
    csls,
    debiased_cka,
    mid_rank,
    mutual_neighbours,
    retrieval_accuracy,
    same_group,
)


def states(n=23, layers=3, hidden=8, shared=(0.0, 1.0, 0.3), seed=0, dtype=torch.float32):
    """Two sides with a common part of given size per layer."""
    make = torch.Generator().manual_seed(seed)
    a, noise = (torch.randn(n, layers, hidden, generator=make, dtype=dtype) for _ in range(2))
    return a, noise + torch.tensor(shared, dtype=dtype)[:, None] * a


def cosine(x, y):
    x, y = x.double(), y.double()
    return float(x @ y / (x.norm() * y.norm()))


def test_cosine_matrix_is_the_cosine():
    a, b = states(dtype=torch.float32)
    got = cosine_matrix(a, b[:7])
    assert got.shape == (3, 23, 7)
    for layer in range(3):
        for i in range(23):
            for j in range(7):
                assert got[layer, i, j] == pytest.approx(cosine(a[i, layer], b[j, layer]), abs=1e-6)
    assert cosine_matrix(torch.zeros(1, 1, 4), torch.ones(1, 1, 4)).item() == 0


@pytest.mark.parametrize("masked", [False, True])
def test_adjusted_cosine_against_loops(masked):
    a, b = states()
    groups = [i % 4 for i in range(len(a))]
    got = adjusted_cosine(a, b, same_group(groups) if masked else None).own
    for layer in range(3):
        for i in range(len(a)):
            others = [j for j in range(len(a)) if j != i and (not masked or groups[j] == groups[i])]
            row = np.mean([cosine(a[i, layer], b[j, layer]) for j in others])
            column = np.mean([cosine(a[j, layer], b[i, layer]) for j in others])
            assert got[i, layer] == pytest.approx(cosine(a[i, layer], b[i, layer]) - (row + column) / 2, abs=1e-6)


def test_its_mean_is_the_papers_matching_minus_all_others():
    a, b = states(dtype=torch.float64)
    full = cosine_matrix(a, b)
    off = ~torch.eye(len(a), dtype=torch.bool)
    paper = full.diagonal(dim1=1, dim2=2).mean(1) - torch.stack([layer[off].mean() for layer in full])
    np.testing.assert_allclose(adjusted_cosine(a, b).own.mean(0), paper, atol=1e-12)


def test_an_item_without_others_has_no_number():
    a, b = states()
    groups = [0] * 22 + [1]
    got = adjusted_cosine(a, b, same_group(groups))
    assert np.isnan(got.own[22]).all() and not np.isnan(got.own[:22]).any()
    assert not np.isnan(got.exchanged(random_pairings(23, groups=groups, draws=5, seed=0))).any()


def test_retrieval_against_loops():
    a, b = states()
    got = retrieval_accuracy(a, b).own
    for layer in range(3):
        for i in range(len(a)):
            there = np.argmax([cosine(a[i, layer], b[j, layer]) for j in range(len(a))]) == i
            back = np.argmax([cosine(a[j, layer], b[i, layer]) for j in range(len(a))]) == i
            assert got[i, layer] == (int(there) + int(back)) / 2
    assert (retrieval_accuracy(a, a).own == 1).all()


def test_mutual_neighbours_against_sets():
    a, b = states(n=15)
    got = mutual_neighbours(a, b, k=4).own
    for layer in range(3):
        near = []
        for side in (a[:, layer], b[:, layer]):
            cosines = np.array([[cosine(side[i], side[j]) if i != j else -2 for j in range(15)] for i in range(15)])
            near.append([set(row) for row in np.argsort(-cosines)[:, :4]])
        for i in range(15):
            assert got[i, layer] == pytest.approx(len(near[0][i] & near[1][i]) / 4)
    assert (mutual_neighbours(a, a, k=4).own == 1).all()
    with pytest.raises(ValueError, match="1 to 14"):
        mutual_neighbours(a, b, k=15)


def unbiased_hsic(k, m):
    """Song et al.'s estimator, written out (arXiv 2010.15327, Eq. 3)."""
    n = len(k)
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    one = np.ones(n)
    both = one @ k @ one * (one @ m @ one) / ((n - 1) * (n - 2))
    return (np.trace(k @ m) + both - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3))


def test_debiased_cka_against_the_estimator_written_out():
    a, b = states(n=19, hidden=30)
    [got] = debiased_cka(a, b).own
    for layer in range(3):
        x, y = a[:, layer].double().numpy(), b[:, layer].double().numpy()
        k, m = x @ x.T, y @ y.T
        want = unbiased_hsic(k, m) / math.sqrt(unbiased_hsic(k, k) * unbiased_hsic(m, m))
        assert got[layer] == pytest.approx(want, abs=1e-5)


def test_debiased_cka_is_zero_on_noise_and_blind_to_rotation_and_scale():
    make = torch.Generator().manual_seed(3)
    values = np.array([debiased_cka(*torch.randn(2, 20, 1, 200, generator=make)).own for _ in range(100)])
    assert abs(values.mean()) < 3 * values.std() / 10 and values.mean() < 0.05  # the biased form gives .9 here
    a = torch.randn(20, 1, 12, generator=make)
    turn = torch.linalg.qr(torch.randn(12, 12, generator=make))[0]
    assert debiased_cka(a, 5 * a @ turn + 1).own.item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("measure", [adjusted_cosine, retrieval_accuracy, mutual_neighbours, debiased_cka])
def test_exchanged_is_the_measure_of_the_exchanged_items(measure):
    a, b = states(n=30)
    pairing = random_pairings(30, groups=[i % 3 for i in range(30)], draws=300, seed=7)
    found = measure(a, b)
    null = found.exchanged(pairing)
    for draw in (0, 1, 299):
        np.testing.assert_allclose(null[draw], measure(a, b[pairing[draw]]).own.mean(0), atol=1e-5)
    # the planted layer stands out of its null, the empty one does not
    p = corrected_p(found.own.mean(0), null)
    assert p[1] < 0.01 < 0.05 < p[0]


def test_a_match_of_another_group_is_compared_with_that_group():
    """Pair by pair and side by side, for stand-ins within the group and beyond it."""
    make, groups = torch.Generator().manual_seed(3), np.arange(12) % 3
    a, b = (torch.randn(12, 2, 5, generator=make) for _ in "ab")
    pairing = np.random.default_rng(0).integers(0, 12, (6, 12))
    found = retrieval_accuracy(a, b, same_group(groups), over_chance=True).exchanged(pairing)
    cosine = torch.einsum("ild,jld->lij", *(torch.nn.functional.normalize(x, dim=-1) for x in (a, b))).numpy()
    for row, partners in zip(found, pairing, strict=True):
        for layer, value in enumerate(row):
            hits = [
                ((cosine[layer, i, j] >= cosine[layer, i, groups == groups[j]].max() - 1e-6) - 1 / 4) / 2
                + ((cosine[layer, i, j] >= cosine[layer, groups == groups[i], j].max() - 1e-6) - 1 / 4) / 2
                for i, j in enumerate(partners)
            ]
            assert value == pytest.approx(np.mean(hits), abs=1e-6)


@pytest.mark.parametrize("measure", [adjusted_cosine, mid_rank, debiased_cka])
def test_what_is_kept_of_pairs_makes_no_difference(measure, monkeypatch):
    a, b = (torch.randn(9, 3, 5, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    pairings, kept = random_pairings(9, draws=20, seed=0), measure(a, b)
    monkeypatch.setattr(similarity, "KEPT", 0)
    made_anew = measure(a, b)
    for _ in range(2):
        np.testing.assert_array_equal(kept.exchanged(pairings), made_anew.exchanged(pairings))
    np.testing.assert_array_equal(kept.own, made_anew.own)


def one_by_one(n, groups, clusters, draws, seed):
    """Pairings drawn one at a time, from what they are: components shuffled, a stand-in of the group picked."""
    rng, labels = np.random.default_rng(seed), sorted({*clusters})
    near = {c: {d for d in labels if {groups[i] for i in range(n) if clusters[i] == c}
                & {groups[i] for i in range(n) if clusters[i] == d}} for c in labels}  # fmt: skip
    for _ in labels:
        near = {c: set().union(*(near[d] for d in some)) for c, some in near.items()}
    for _ in range(draws):
        moved = {}
        for component in {frozenset(some) for some in near.values()}:
            moved |= zip(sorted(component), rng.permutation(sorted(component)), strict=True)
        there = [
            [j for j in range(n) if clusters[j] == moved[clusters[i]] and groups[j] == groups[i]] for i in range(n)
        ]
        yield tuple(int(rng.choice(some)) if some else -1 for some in there)


def test_pairings_drawn_at_once_are_as_those_drawn_one_by_one(monkeypatch):
    """The same draws, as often: in all, with components, clusters of several items in a group, and who sits out."""
    groups, clusters = list("xxxyyzzzw"), list("abbabcdec")  # a and b change places, and c, d, e
    monkeypatch.setattr(pairings_module, "AT_ONCE", 1000)  # in several parts
    n, seen = 20_000, [Counter(), Counter()]
    for some in random_pairings(9, groups=groups, clusters=clusters, draws=n, seed=1).tolist():
        seen[0][tuple(some)] += 1
    for some in one_by_one(9, groups, clusters, n // 4, seed=2):
        seen[1][some] += 1
    every = {*seen[0]} | {*seen[1]}
    apart = sum((seen[0][k] - 4 * seen[1][k]) ** 2 / (seen[0][k] + 16 * seen[1][k]) for k in every)
    assert {*seen[0]} == {*seen[1]} and apart < len(every) + 4 * (2 * len(every)) ** 0.5
    assert len({*map(tuple, random_pairings(50, draws=200, seed=0).tolist())}) == 200, "no part is another one again"


def test_half_precision_states_are_read_in_float32():
    a, b = states()
    want = adjusted_cosine(a.bfloat16().float(), b.bfloat16().float()).own
    np.testing.assert_array_equal(adjusted_cosine(a.bfloat16(), b.bfloat16()).own, want)


def test_the_jackknife_of_cka_is_as_wide_as_fresh_items_are_apart():
    """Its mean is the measure itself, and its standard error that of samples drawn anew; two items move together."""
    found, spread = [], []
    for seed in range(40):
        a, b = (side.repeat_interleave(2, 0) + 0.01 for side in states(n=60, seed=seed))
        rows = debiased_cka(a, b, [k // 2 for k in range(120)]).own
        np.testing.assert_allclose(rows.mean(0), debiased_cka(a, b).own[0], atol=1e-5)
        found.append(rows.mean(0))
        spread.append(rows.std(0, ddof=1) / len(rows) ** 0.5)
    ratio = np.mean(spread, 0) / np.std(found, 0, ddof=1)
    assert ((0.7 < ratio) & (ratio < 1.6)).all(), ratio  # if anything too wide, where nothing is shared
    a, b = states(n=5)
    assert len(debiased_cka(a, b, list("aabbb")).own) == 1, "too few items would be left"


def test_cka_of_states_that_are_all_the_same_is_zero_at_that_layer_alone():
    """As of the embeddings of a last token that all texts share: what is left but rounding is no geometry."""
    a, b = states(n=40)
    want = debiased_cka(a, b, range(40)).own
    same = torch.randn(a.shape[-1])
    a[:, 0], b[:, 0] = same, 3 * same
    assert (a[:, 0] - a[:, 0].mean(0)).abs().max() > 0, "rounding"
    found = debiased_cka(a, b, range(40))
    assert (found.own[:, 0] == 0).all() and np.array_equal(found.own[:, 1:], want[:, 1:]) and a.shape[1] > 1
    assert (found.exchanged(random_pairings(40, draws=3, seed=0))[:, 0] == 0).all()
    b[:, 0] = torch.randn(40, b.shape[-1])
    assert debiased_cka(a, b).own[0, 0] == 0


@pytest.mark.parametrize("clusters", [list(range(60)), [k // 3 for k in range(60)], [k % 7 for k in range(60)]])
def test_blocks_left_out_in_closed_form_are_those_computed_again(clusters):
    make = torch.Generator().manual_seed(1)
    a, b = (torch.randn(60, 2, width, generator=make, dtype=torch.float64) for width in (5, 9))
    b = b + a @ torch.randn(5, 9, generator=make, dtype=torch.float64)
    block = np.array(clusters) % BLOCKS
    whole = debiased_cka(a, b).own
    without = np.concatenate([debiased_cka(a[block != k], b[block != k]).own for k in np.unique(block)])
    want = whole - (len(without) - 1) * (without - without.mean(0))
    np.testing.assert_allclose(debiased_cka(a, b, clusters).own, want, atol=1e-9)


# Measures that know no scale, within groups

N, LAYERS, HIDDEN = 24, 3, 8
GROUPS = [k % 3 for k in range(N)]


def sides(seed=0, shared=0.7):
    return states(N, LAYERS, HIDDEN, (shared,) * LAYERS, seed)


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

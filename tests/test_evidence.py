"""Evidence: each number against its definition, each rule on its own, and how often the whole thing is wrong."""

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest

from semhub_utils.evidence import (
    ALPHA,
    HOLDS,
    MIN_ITEMS,
    NOT,
    UNTESTABLE,
    WEAKLY,
    ControlCurve,
    Evidence,
    bootstrap_interval,
    control,
    corrected_p,
    evidence,
    judge,
    knows_task,
    least_permutation_p,
    least_sign_flip_p,
    random_pairings,
    sign_flip_null,
    split_items,
    tidy,
)


def noise(n=60, layers=7, effect=0.0, at=3, seed=0, scale=1.0):
    scores = np.random.default_rng(seed).normal(size=(n, layers)) * scale
    scores[:, at : at + 1] += effect
    return scores


def made(scores, *, clusters=None, draws=999, seed=0, **more):
    null = sign_flip_null(scores, clusters=clusters, draws=draws, seed=seed)
    layers = more.pop("layers", range(scores.shape[1]))
    n_layers = more.pop("n_layers", max(layers))
    return evidence("c", scores, null, layers=layers, n_layers=n_layers, clusters=clusters, seed=seed, **more)


# The primitives


def test_bootstrap_interval_is_the_textbook_one_for_a_mean():
    scores = noise(400, 3, effect=2.0, at=1)
    low, high = bootstrap_interval(scores, draws=4000)
    error = scores.std(axis=0) / 20
    assert np.allclose(low, scores.mean(0) - 1.96 * error, atol=0.15 * error.max())
    assert np.allclose(high, scores.mean(0) + 1.96 * error, atol=0.15 * error.max())


def test_bootstrap_of_unequal_clusters_against_a_loop():
    scores, clusters = noise(12, 1), list("aaabbccccdde")
    low, high = bootstrap_interval(scores, clusters=clusters, draws=20_000)
    rng, means = np.random.default_rng(1), []
    for _ in range(20_000):
        drawn = rng.choice(list("abcde"), 5)
        means.append(np.mean([scores[i, 0] for c in drawn for i in range(12) if clusters[i] == c]))
    assert np.allclose([low[0], high[0]], np.quantile(means, [0.025, 0.975]), atol=0.03)
    copies, labels = np.repeat(noise(30, 2), 7, axis=0), np.repeat(np.arange(30), 7)
    assert np.allclose(bootstrap_interval(copies, clusters=labels), bootstrap_interval(noise(30, 2)))


def test_sign_flips_against_all_of_them():
    scores, clusters = noise(9, 2), [0, 0, 1, 1, 1, 2, 3, 3, 3]
    signs = np.array(list(itertools.product([-1, 1], repeat=4)))[:, clusters]
    every = {tuple(np.round((s[:, None] * scores).mean(0), 9)) for s in signs}
    drawn = {tuple(np.round(row, 9)) for row in sign_flip_null(scores, clusters=clusters, draws=500, seed=0)}
    assert drawn == every


def test_corrected_p_by_hand_for_one_layer():
    null = np.arange(99.0)[:, None]
    assert corrected_p(np.array([98.5]), null)[0] == 1 / 100  # nothing reaches it: the +1 rule
    assert corrected_p(np.array([98.0]), null)[0] == 2 / 100  # a tie counts against it
    assert corrected_p(np.array([-1.0]), null)[0] == 1.0
    never_moves = np.column_stack([np.full(99, 0.3), np.random.default_rng(0).normal(size=99)])
    assert corrected_p(np.array([0.3, 9.0]), never_moves).tolist() == [1.0, 0.01]


def test_corrected_p_pays_for_every_layer_and_ignores_scale():
    rng = np.random.default_rng(0)
    null = rng.normal(size=(999, 30))
    observed = np.full(30, 2.5)
    alone = corrected_p(observed[:1], null[:, :1])[0]
    together = corrected_p(observed, null)
    assert alone < 0.02 and (together > 5 * alone).all()
    scale, shift = rng.uniform(0.01, 100, 30), rng.normal(size=30) * 50
    assert np.allclose(corrected_p(observed * scale + shift, null * scale + shift), together)


def test_null_high_is_where_the_corrected_p_crosses_the_five_percent():
    for seed in range(20):
        found = made(noise(effect=0.25, seed=seed))
        for value, high, p in zip(found.values, found.null_high, found.p, strict=True):
            if not math.isnan(p):
                assert (value > high) == (p < 0.05) or value == pytest.approx(high)


@pytest.mark.parametrize("layers", [1, 7])
def test_of_several_nulls_the_hardest_counts_layer_by_layer(layers):
    rng = np.random.default_rng(0)
    scores, nulls = noise(layers=layers, at=0) + 0.2, [rng.normal(size=(199, layers)) * s for s in (0.1, 0.3)]
    nulls[0][:, 0] += 0.3  # so that now one is the harder, now the other
    nulls[1][7] = np.nan  # a draw in which all sat out
    options = {"layers": range(layers), "n_layers": max(layers - 1, 1), "window": range(layers)}
    alone = [evidence("c", scores, null, **options) for null in nulls]
    both = evidence("c", scores, nulls, **options)
    assert both.p == tuple(map(max, *(e.p for e in alone)))
    assert both.null_high == tuple(map(max, *(e.null_high for e in alone)))
    for value, high, p in zip(both.values, both.null_high, both.p, strict=True):
        assert (value > high) == (p < 0.05)
    assert judge(evidence("c", scores, [nulls[0], np.zeros((199, layers))], **options)).reason.startswith("Every item")


def test_the_least_p_is_one_over_the_number_of_arrangements():
    assert least_sign_flip_p(list("aabbc")) == 1 / 2**3
    groups, clusters = list("xxxyyyz"), list("abcabde")  # a, b, c, d change places; e has none to change with
    drawn = {tuple(row) for row in random_pairings(7, groups=groups, clusters=clusters, draws=5000, seed=0)}
    assert least_permutation_p(groups, clusters) == pytest.approx(1 / 24) and len(drawn) == 24


def test_a_null_of_few_arrangements_cannot_be_tested_whatever_the_data():
    scores, few = noise(layers=1, at=0) + 9, [i % 6 for i in range(60)]
    found = {"layers": [3], "n_layers": 6, "null": sign_flip_null(scores, clusters=few, seed=0)}
    told = judge(evidence("c", scores, **found, least_p=least_sign_flip_p(few)))
    assert told.verdict == UNTESTABLE and "cannot give a p below 0.016, and 0.01" in told.reason
    assert judge(evidence("c", scores, **found)).verdict != HOLDS  # nor could it have held
    assert judge(made(scores, layers=[3], n_layers=6, draws=99)).verdict == UNTESTABLE
    assert judge(made(scores, layers=[3], n_layers=6, draws=100)).verdict == HOLDS


# The object


def test_values_window_and_dropped():
    scores = noise()
    scores[5, 2] = np.nan
    scores[9, :] = np.inf
    null = sign_flip_null(np.delete(scores, [5, 9], axis=0), draws=99)
    found = evidence("c", scores, null, layers=range(7), n_layers=6, dropped={"two words, one token": 3})
    assert found.n == 58 and found.dropped == {"two words, one token": 3, "without a number": 2}
    assert np.allclose(found.values, np.delete(scores, [5, 9], axis=0).mean(0))
    assert found.window == (1, 2, 3, 4, 5)
    assert [math.isnan(p) for p in found.p] == [True] + [False] * 5 + [True]
    assert made(noise(layers=1, at=0), layers=[4], n_layers=6).window == (4,)
    wide, narrow = made(noise(effect=0.45)), made(noise(effect=0.45), window=[3])
    assert narrow.p[3] <= wide.p[3] and math.isnan(narrow.p[2])


def test_intervals_may_be_over_coarser_units_than_the_rules_count():
    scores, animals, contents = noise(61), [i % 6 for i in range(61)], [i // 2 for i in range(61)]
    scores[60, 2] = np.nan
    found = made(scores, clusters=contents, drawn=animals, controls={"one less": scores - 1})
    assert found.n == 60 and found.n_clusters == 30
    low, high = bootstrap_interval(scores[:60], clusters=animals[:60])
    assert np.allclose([found.low, found.high], [low, high])
    assert np.allclose(found.controls["one less"].high, high - 1)
    assert not np.allclose(low, bootstrap_interval(scores[:60], clusters=contents[:60])[0])


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="7. layers and 3 were named"):
        evidence("c", noise(), np.zeros((9, 7)), layers=range(3), n_layers=2)
    with pytest.raises(ValueError, match="cluster labels"):
        bootstrap_interval(noise(), clusters=["a"])


def test_controls():
    curve = control("embedding layer", noise(40, 1, at=0), n_layers_shown=7)
    assert len(curve.values) == len(curve.low) == 7 and len(set(curve.high)) == 1 and curve.n == 40
    with pytest.raises(ValueError, match="no item"):
        control("empty", np.full((3, 2), np.nan))


def test_json_there_and_back():
    found = made(noise(effect=1), controls={"r": control("r", noise(seed=1))}, dropped={"x": 2}, unit="nats")
    text = json.dumps(found.to_json(), allow_nan=False)
    back = Evidence.from_json(json.loads(text))
    assert json.dumps(back.to_json(), allow_nan=False) == text
    assert judge(back) == judge(found) and back.controls["r"] == found.controls["r"]
    assert back.layers == found.layers and math.isnan(back.p[0]) and json.loads(text)["p"][0] is None
    json.dumps(judge(found).to_json(), allow_nan=False)


def test_tidy_has_a_row_per_layer_and_curve():
    table = tidy([made(noise(), controls={"r": control("r", noise(seed=1))}, dropped={"x": 2, "y": 1}, series="es")])
    assert len(table) == 14 and set(table.control) == {"", "r"} and (table.dropped == 3).all()
    assert table.depth.tolist() == [layer / 6 for layer in range(7)] * 2
    assert table[table.control == "r"].p.isna().all()


def test_split_items_keeps_clusters_whole_and_halves():
    ids, clusters = list(range(100)), [i // 4 for i in range(100)]
    choose, report = split_items(ids, 3, clusters=clusters)
    assert sorted(choose + report) == ids and len(choose) == 48
    assert not {i // 4 for i in choose} & {i // 4 for i in report}
    assert split_items(ids, 3) == split_items(ids, 3) != split_items(ids, 4)


def test_knows_task():
    assert knows_task(np.ones(30), task="add") is None
    assert "right on 40% of 30 items" in knows_task(np.r_[np.ones(12), np.zeros(18)], task="add")
    assert knows_task(np.r_[np.ones(17), np.zeros(13)], task="choose", chance=0.5) is not None
    assert "no item" in knows_task(np.ones(0), task="add")


# The rules


def strong(**more):
    return made(noise(effect=1.0), **more)


def flat_control(high):
    return ControlCurve("c", (0.0,) * 7, (-high,) * 7, (high,) * 7, n=60)


def test_holds_at_the_planted_layer():
    verdict = judge(strong(controls={"c": flat_control(0.2)}))
    assert (verdict.verdict, verdict.layer) == (HOLDS, 3) and "layer 3 of 6" in verdict.reason


@pytest.mark.parametrize(
    ("scores", "options", "verdict"),
    [
        (noise(effect=1.0, at=0), {}, NOT),  # the first or the last layer alone
        (noise(effect=1.0, at=6), {}, NOT),
        (noise(effect=-1.0), {}, NOT),
        (noise(MIN_ITEMS, effect=3), {}, HOLDS),
        (np.zeros((60, 1)), {"layers": [3], "n_layers": 6, "outcome": True}, NOT),  # one that never comes is an answer
        (np.ones((60, 1)), {"layers": [3], "n_layers": 6, "outcome": True}, HOLDS),
        (noise(80, 1, effect=0.5, at=0), {"layers": [4], "n_layers": 6}, HOLDS),  # a single number
        (noise(80, 1), {"layers": [4], "n_layers": 6}, NOT),
    ],
)
def test_what_holds_and_what_does_not(scores, options, verdict):
    assert judge(made(scores, **options)).verdict == verdict


def test_a_control_that_is_not_beaten_makes_it_weak():
    found = strong()
    for high, verdict in ((found.low[3] - 1e-9, HOLDS), (found.low[3], WEAKLY), (math.nan, WEAKLY)):
        got = judge(replace(found, controls={"random weights": flat_control(high)}))
        assert got.verdict == verdict
        assert verdict == HOLDS or "not above random weights" in got.reason


def test_a_p_between_the_two_levels_makes_it_weak():
    found = strong()
    for p, verdict in ((0.0099, HOLDS), (ALPHA, WEAKLY), (0.049, WEAKLY), (0.05, NOT)):
        assert judge(replace(found, p=(math.nan, 1.0, 1.0, p, 1.0, 1.0, math.nan))).verdict == verdict


def test_an_interval_that_reaches_zero_does_not_hold():
    assert judge(replace(strong(), low=(0.0,) * 7)).verdict == NOT


def test_cannot_be_tested():
    few = MIN_ITEMS - 1
    assert "19 items are left" in judge(made(noise(few, effect=9))).reason
    clusters = [i % few for i in range(60)]
    assert "19 independent clusters" in judge(strong(clusters=clusters)).reason
    assert judge(strong(), precondition="the model cannot add.").reason == "The model cannot add."
    assert "gives the same number" in judge(made(np.zeros((60, 7)))).reason
    assert "no layer between" in judge(made(noise(layers=2, at=0, effect=9))).reason
    assert "0 items" in judge(evidence("c", np.empty((0, 7)), np.empty((0, 7)), layers=range(7), n_layers=6)).reason
    for verdict in (judge(strong(clusters=clusters)), judge(made(np.zeros((60, 7))))):
        assert verdict.verdict == UNTESTABLE and verdict.layer is None


# How often it is wrong, and how often it finds what is there


def correlated(seed):
    """Layers that go on from each other, with heavy tails."""
    return np.cumsum(np.random.default_rng(seed).standard_t(3, size=(40, 13)), axis=1)


@pytest.mark.parametrize("scores", [lambda seed: noise(seed=seed), correlated])
def test_false_alarms(scores):
    told = [judge(made(scores(seed), draws=199, seed=seed)).verdict for seed in range(200)]
    assert told.count(HOLDS) <= 10 and told.count(HOLDS) + told.count(WEAKLY) <= 18  # 2 and 10 expected


def test_false_alarms_on_clustered_items():
    """25 clusters whose items are nearly copies: taken as independent, items would cry wolf."""
    alarms, clusters = {True: 0, False: 0}, np.repeat(np.arange(25), 8)
    for seed in range(100):
        rng = np.random.default_rng(seed)
        scores = rng.normal(size=(25, 5))[clusters] + 0.2 * rng.normal(size=(200, 5))
        for whole in alarms:
            found = made(scores, clusters=clusters if whole else None, draws=199, seed=seed)
            alarms[whole] += judge(found).verdict == HOLDS
    assert alarms[True] <= 5 and alarms[False] > 20


def test_one_effective_cluster_is_not_significant():
    """Fixed effect in one cluster that has nearly all items; the others are noise."""
    scores = noise(400, 7, seed=2)
    clusters = [0] * 370 + list(range(1, 31))
    scores[:370] += 3.0
    assert judge(made(scores, clusters=clusters)).verdict == NOT
    assert judge(made(scores, clusters=[0] * 400)).verdict == UNTESTABLE


def test_power_grows_with_strength():
    power = []
    for effect in (0.0, 0.3, 0.5, 0.7, 1.0):
        found = [made(noise(effect=effect, seed=seed), draws=199, seed=seed) for seed in range(40)]
        power.append(np.mean([judge(some).verdict == HOLDS for some in found]))
    assert power == sorted(power) and power[0] <= 0.05 and power[-1] == 1.0 and 0.2 < power[2] < 1.0

"""Evidence: each number against its definition, and what it is told to leave out."""

import itertools
import json
import math
from fractions import Fraction

import numpy as np
import pytest

from semhub_utils.evidence import (
    DRAWN_ON,
    DRAWS,
    PROBABILITY,
    Evidence,
    Sample,
    corrected_p,
    depths,
    evidence,
    share,
    split_items,
    studentised_null,
    tidy,
)
from semhub_utils.pairings import least_permutation_p, random_pairings
from semhub_utils.verdicts import knows_task


def noise(n=60, layers=7, effect=0.0, at=3, seed=0):
    scores = np.random.default_rng(seed).normal(size=(n, layers))
    scores[:, at : at + 1] += effect
    return scores


def flat(scores, units=None):
    """The null that every unit's number is as likely above 0 as below."""

    def draw(columns, first, end):
        return [studentised_null(scores @ columns, units or range(len(scores)), draws=end - first, seed=first)]

    return draw


def made(scores, **more):
    units = more.get("units")
    layers = more.pop("layers", range(scores.shape[1]))
    return evidence("c", scores, flat(scores, units), layers=layers, n_layers=more.pop("n_layers", max(layers)), **more)


def sample(scores, units=None):
    return Sample(scores, np.arange(scores.shape[-2]) if units is None else np.unique(units, return_inverse=True)[1])


# Intervals


def test_the_interval_of_one_mean_is_the_textbook_one():
    scores = noise(400, 3, effect=2.0, at=1)
    found, error = sample(scores).bounds(), scores.std(0) / 20
    assert np.allclose(found.low, scores.mean(0) - 1.96 * error, atol=0.2 * error.max())
    assert np.allclose(found.high, scores.mean(0) + 1.96 * error, atol=0.2 * error.max())


def test_whole_units_are_drawn():
    one = noise(30, 2)
    many, labels = np.repeat(one, 7, axis=0), np.repeat(np.arange(30), 7)
    assert np.allclose(sample(many, labels).bounds().low, sample(one).bounds().low)
    wide, narrow = (np.subtract(of.high, of.low) for of in (sample(many, labels).bounds(), sample(many).bounds()))
    assert (wide > 2 * narrow).all()


def test_units_of_unequal_size_against_a_loop():
    scores, units = noise(12, 1), np.array(list("aaabbccccdde"))
    drawn = np.quantile(np.concatenate([sample(scores, units).resampled(s)[:, 0] for s in range(20)]), [0.025, 0.975])
    rng, means = np.random.default_rng(1), []
    for _ in range(20_000):
        means.append(np.concatenate([scores[units == c, 0] for c in rng.choice(list("abcde"), 5)]).mean())
    assert np.allclose(drawn, np.quantile(means, [0.025, 0.975]), atol=0.03)


def test_layers_that_are_looked_at_together_have_the_wider_interval():
    """The true means are all within it in 95 of 100 worlds; those of one layer are within its own."""
    inside, together, alone = np.ones(9, bool), 0, 0
    for seed in range(150):
        of = sample(np.random.default_rng(seed).normal(size=(60, 9)))
        simultaneous, single = of.bounds(inside), of.bounds()
        together += all(low < 0 < high for low, high in zip(simultaneous.low, simultaneous.high, strict=True))
        alone += all(low < 0 < high for low, high in zip(single.low, single.high, strict=True))
    assert together >= 0.85 * 150 and alone < 0.8 * 150
    one = sample(noise(layers=1, at=0))
    assert np.allclose(one.bounds(np.ones(1, bool)).low, one.bounds().low)
    assert np.allclose(one.bounds().low, np.quantile(one.resampled(0), 0.025, axis=0))


def test_an_interval_over_seeds_and_items_knows_how_seeds_differ():
    """Five seeds of random weights, each of which reads its own fifth of the items."""
    rng, covered, blind = np.random.default_rng(0), 0, 0
    for seed in range(100):
        scores = rng.normal(size=(5, 1, 1)) + rng.normal(size=(5, 100, 1)) * 0.5
        part = np.arange(100) % 5 == np.arange(5)[:, None]
        of = sample(np.where(part[..., None], scores, np.nan)).bounds(seed=seed)
        covered += of.low[0] < 0 < of.high[0]
        each = sample(scores[np.arange(100) % 5, np.arange(100)]).bounds(seed=seed)
        blind += each.low[0] < 0 < each.high[0]
    assert covered >= 78 and blind < 55  # five seeds are few: their own interval is somewhat short


def test_outcomes_that_are_all_the_same_have_wilsons_interval():
    for value in (0.0, 1.0):
        found = made(np.full((43, 1), value), layers=[3], n_layers=6, outcome=True)
        width = share(0, 43)["high"]
        assert found.varies and width == pytest.approx(0.082, abs=0.001)
        assert found.low[0] == pytest.approx(value - width) and found.high[0] == min(value + width, 1)


# p


def test_corrected_p_by_hand_for_one_layer():
    null = np.arange(99.0)[:, None]
    assert corrected_p(np.array([98.5]), null)[0] == 1 / 100  # nothing reaches it: the +1 rule
    assert corrected_p(np.array([98.0]), null)[0] == 2 / 100  # a tie counts against it
    assert corrected_p(np.array([-1.0]), null)[0] == 1.0


def test_corrected_p_pays_for_every_layer_and_ignores_scale():
    rng = np.random.default_rng(0)
    null, observed = rng.normal(size=(999, 30)), np.full(30, 2.5)
    alone, together = corrected_p(observed[:1], null[:, :1])[0], corrected_p(observed, null)
    assert alone < 0.02 and (together > 5 * alone).all()
    scale, shift = rng.uniform(0.01, 100, 30), rng.normal(size=30) * 50
    assert np.allclose(corrected_p(observed * scale + shift, null * scale + shift), together)
    still = np.column_stack([np.full(99, 0.3), null[:99, 0]])  # a layer that never moves
    assert corrected_p(np.array([0.3, 9.0]), still).tolist() == [1.0, 0.01]


def test_the_bootstrap_t_against_a_loop():
    scores, units = noise(10, 2), np.array([0, 0, 0, 1, 1, 2, 3, 3, 4, 5])

    def error(some, sizes, mean):
        m = len(some)
        return math.sqrt(((some - mean * sizes) ** 2).sum() * m / (m - 1)) / sizes.sum()

    sums = np.array([scores[units == u].sum(0) for u in range(6)])
    sizes = np.array([(units == u).sum() for u in range(6)])
    found = studentised_null(scores, units, draws=20, seed=3)
    for row, drawn in zip(found, np.random.default_rng(3).integers(6, size=(20, 6)), strict=True):
        for layer in range(2):
            mean, own = scores[:, layer].mean(), sums[drawn, layer].sum() / sizes[drawn].sum()
            observed = error(sums[:, layer], sizes, mean)
            t = (own - mean) / max(error(sums[drawn, layer], sizes[drawn], own), 0.25 * observed)
            assert row[layer] == pytest.approx(t * observed)


@pytest.mark.parametrize("layers", [1, 7])
def test_of_several_nulls_the_hardest_counts_layer_by_layer(layers):
    rng = np.random.default_rng(0)
    scores, nulls = noise(layers=layers, at=0) + 0.2, [rng.normal(size=(199, layers)) * s for s in (0.1, 0.3)]
    nulls[0][:, 0] += 0.3  # so that now one is the harder, now the other
    nulls[1][7] = np.nan  # a draw in which all sat out
    options = {"layers": range(layers), "n_layers": max(layers - 1, 1), "window": range(layers)}

    def found(*some):
        return evidence("c", scores, lambda columns, first, end: [of @ columns for of in some], **options)

    both, alone = found(*nulls), [found(null) for null in nulls]
    assert both.p == tuple(map(max, *(e.p for e in alone)))
    assert both.null_high == tuple(map(max, *(e.null_high for e in alone)))
    for value, high, p in zip(both.values, both.null_high, both.p, strict=True):
        assert (value > high) == (p < 0.05)
    assert not found(nulls[0], np.zeros((199, layers))).varies


def test_draws_go_on_where_none_reaches_what_was_seen():
    asked = []

    def draw(columns, first, end):
        asked.append((first, end))
        return [np.random.default_rng(first).normal(size=(end - first, columns.shape[1]))]

    given = {"layers": [3], "n_layers": 6}
    assert evidence("c", np.full((60, 1), 9.0), draw, **given).p[0] == 1 / (1 + DRAWN_ON)
    assert asked == [(0, DRAWS), (DRAWS, DRAWN_ON)]
    assert evidence("c", np.full((60, 1), 2.0), draw, **given).p[0] > 0.01 and asked[2:] == [(0, DRAWS)]


def test_the_least_p_is_one_over_the_number_of_arrangements():
    groups, clusters = list("xxxyyyz"), list("abcabde")  # a, b, c, d change places; e has none to change with
    drawn = {tuple(row) for row in random_pairings(7, groups=groups, clusters=clusters, draws=5000, seed=0)}
    assert least_permutation_p(groups, clusters) == pytest.approx(1 / 24) and len(drawn) == 24
    assert made(noise(), least_p=0.2).least_p == 0.2 and made(noise()).least_p == pytest.approx(1 / (1 + DRAWS))


# Depth, shape and controls


@pytest.mark.parametrize("n_layers", [1, 2, 3, 6, 8, 9, 12, 18, 32])
def test_depths_by_their_definition(n_layers):
    layers, third = range(n_layers + 1), Fraction(1, 3)
    of = {name: np.flatnonzero(some).tolist() for name, some in depths(layers, n_layers).items()}
    assert of["middle"] == [k for k in range(1, n_layers) if third <= Fraction(k, n_layers) <= 2 * third]
    assert of["last"] == [n_layers] and of["first"][0] == 0 and max(of["first"]) * 6 <= n_layers
    assert of["early"] + of["middle"] + of["late"] == [*layers]


def test_values_window_and_dropped():
    scores = noise()
    scores[5, 2] = np.nan
    scores[9, :] = np.inf
    left = np.delete(scores, [5, 9], axis=0)
    options = {"layers": range(7), "n_layers": 6, "dropped": {"two words, one token": 3}, "units": range(60)}
    found = evidence("c", scores, flat(left), **options)
    assert found.n == found.n_units == 58
    assert found.dropped == {"two words, one token": 3, "without a number": 2}
    assert np.allclose(found.values, left.mean(0)) and found.window == (2, 3, 4)
    assert [math.isnan(p) for p in found.p] == [True, True, False, False, False, True, True]
    assert evidence("c", scores, flat(left), **options | {"window": "inner"}).window == (1, 2, 3, 4, 5)
    assert made(noise(layers=1, at=0), layers=[5], n_layers=6).window == (5,)


def test_contrasts_are_of_the_same_items_and_have_their_own_null():
    own = np.random.default_rng(1).normal(size=(60, 1)) * 5  # what an item has at all layers says nothing of the shape
    found = made(noise(layers=13, effect=0.0) + own, shape=True)
    raised = noise(layers=13) + own
    raised[:, 4:9] += 1.0
    up = made(raised, shape=True)
    for name, others in (("first layers", [0, 1, 2]), ("last layer", [12])):
        contrast = raised[:, 4:9].mean(1) - raised[:, others].mean(1)
        bounds = sample(contrast[:, None]).bounds()
        assert np.allclose([up.contrasts[name].value, up.contrasts[name].low], [contrast.mean(), bounds.low[0]])
        assert up.contrasts[name].low > 0 and up.contrasts[name].p < 0.01
        assert found.contrasts[name].low < 0 and found.contrasts[name].p > 0.05
    assert made(raised).contrasts == {}


def test_a_control_of_the_same_items_is_taken_off_item_by_item():
    own = np.random.default_rng(1).normal(size=(60, 1)) * 9
    scores, other = noise(effect=1) + own, noise(seed=1) + own
    seeds = np.stack([other, other + 0.2])
    found = made(
        scores, controls={"one": other, "seeds": seeds, "first": scores[:, :1], "none": np.full((60, 7), np.nan)}
    )
    assert [*found.controls] == ["one", "seeds", "first"]
    one, two, first = found.controls.values()
    assert np.allclose(one.margin.values, (scores - other).mean(0)) and one.seeds == 1 and two.seeds == 2
    assert (np.subtract(one.margin.high, one.margin.low) < 0.5 * np.subtract(one.high, one.low)).all()
    assert np.allclose(two.values, other.mean(0) + 0.1) and two.n == 120
    assert first.values == (found.values[0],) * 7 and first.margin.values[0] == 0


def test_a_control_of_other_items_is_taken_off_as_independent():
    scores, other = noise(effect=1), noise(40, seed=1)
    found = made(scores, controls={"others": sample(other)}).controls["others"]
    error = np.sqrt(scores.var(0) / 60 + other.var(0) / 40)
    assert np.allclose(found.margin.values, scores.mean(0) - other.mean(0)) and found.n == 40
    assert np.allclose(np.subtract(found.margin.high, found.margin.low)[0], 2 * 1.96 * error[0], rtol=0.15)


# The object


def test_json_there_and_back():
    found = made(noise(effect=1), controls={"r": noise(seed=1)}, dropped={"x": 2}, unit=PROBABILITY, shape=True)
    text = json.dumps(found.to_json(), allow_nan=False)
    back = Evidence.from_json(json.loads(text))
    assert json.dumps(back.to_json(), allow_nan=False) == text
    assert back.controls == found.controls and back.contrasts == found.contrasts
    assert (back.unit, back.least, back.why_least) == (PROBABILITY.name, PROBABILITY.least, PROBABILITY.why)
    assert back.layers == found.layers and math.isnan(back.p[0]) and json.loads(text)["p"][0] is None


def test_tidy_has_a_row_per_layer_and_curve():
    table = tidy([made(noise(), controls={"r": noise(seed=1)}, dropped={"x": 2, "y": 1}, series="es")])
    assert len(table) == 14 and set(table.control) == {"", "r"} and (table.dropped == 3).all()
    assert table.depth.tolist() == [layer / 6 for layer in range(7)] * 2
    assert table[table.control == "r"].p.isna().all()


def test_no_item_at_all():
    found = made(np.empty((0, 7)), controls={"r": np.empty((0, 7))}, shape=True)
    assert found.n == found.n_units == 0 and not found.varies and all(map(math.isnan, found.values))
    json.dumps(found.to_json(), allow_nan=False)


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


def test_wilson_by_hand():
    for hits, n in itertools.product((0, 3, 10), (10, 50)):
        found = share(hits, n)
        for end in (found["low"], found["high"]):  # the score equation, solved by both ends
            if 0 < end < 1:
                assert abs(hits / n - end) == pytest.approx(1.96 * math.sqrt(end * (1 - end) / n), abs=1e-3)

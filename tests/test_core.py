"""One run of a declared experiment: its nulls, controls, what is left out and what is drawn, each once."""

import copy
import re
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from PIL import Image

from semhub_utils.evidence import DRAWS, Sample, corrected_bound, corrected_p, studentised_null
from semhub_utils.experiments import core
from semhub_utils.experiments.core import TWINS, Claim, run
from semhub_utils.experiments.numbers import FEW_DRAWS, Chance, Exchange, Given, Kept, Scores
from semhub_utils.experiments.words import Answers
from semhub_utils.inputs import Input
from semhub_utils.lens import Normed
from semhub_utils.models import randomised
from semhub_utils.pairings import codes, least_permutation_p, random_pairings
from semhub_utils.spokes.items import PICTURES, Items, LensItem
from semhub_utils.verdicts import HOLDS, NOT, UNTESTABLE, judge

N = 40


def items(n=N, **of):
    made = [LensItem(str(k), f"{k} plus", {}, f"c{k // 2}", group=f"g{k % 2}", anchor=f"a{k % 8}") for k in range(n)]
    return [replace(item, **of) for item in made]


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


@dataclass(frozen=True)
class Toy(core.Experiment):
    """What the model reads is planted: `truth` is added at layer 1 to the number of the own answer. Another model, with
    random weights, reads noise of its own, and media without content read -1."""

    truth: float = 1.0
    loud: float = 1.0
    n_answers: int = 8
    lost: int = 0
    nulls: tuple = (Exchange(),)
    window: str = "middle"
    embedded: bool = True
    few: bool = False
    least_p: float = 0.0

    @property
    def claims(self):
        return (Claim("toy", "own", self.nulls, self.window, embedded=self.embedded),)

    def fit(self, model, items):
        kept = items[self.lost :]
        return Kept(kept, {"lost": self.lost}, np.array([int(i.id) % self.n_answers for i in kept], int), model)

    def read(self, reader, kept, prompts, reading):
        n, trained = len(kept.items), reader is kept.more
        values = self.loud * noise(
            n, reader.n_layers + 1, self.n_answers, seed=int(reader.unembedding.sum().abs() * 1e6) % 2**32
        )
        if isinstance(prompts[0], Input) and prompts != kept.labels("prompt"):
            values = np.full(values.shape, -1.0)
        elif trained:
            values[np.arange(n), 1, kept.target] += self.truth
        of = np.arange(n) % 2 == 0 if self.few else None
        rows = pd.DataFrame({"experiment": ["toy-row"], "series": [kept.series], "value": [kept.seed]})
        own = kept.own(values)
        return {
            ("toy", "own"): Scores(
                values if of is None else values[of], null=[noise(999, own.shape[1])], of=of, least_p=self.least_p
            ),
            ("toy-answers", "shown"): values,
            ("toy-flipped", ""): Scores(own[::2], nulls=(Chance("anchor"),), draws=150, of=np.arange(n) % 2 == 0),
            ("toy-plain", "", (("part", "one"),)): own if reading == "normed" else 2 * own,
            ("toy-alone", ""): Scores(own, controls={"beside": own}, alone=True),
            ("toy-rows", ""): rows,
        }


def toy(model, some=None, *, series="s", **options):
    fields = {name: options.pop(name) for name in [*options] if name in Toy.__dataclass_fields__}
    table, claims = run(Toy(**fields), model, items() if some is None else some, series=series, **options)
    return table, claims


def test_planted_truth_holds_and_its_absence_does_not(tiny):
    assert judge(toy(tiny("llama"), truth=2.0)[1][0]).verdict == HOLDS
    assert judge(toy(tiny("llama"), truth=0.0, loud=0.1)[1][0]).verdict == NOT


def own_values(model, some, **of):
    kept = Toy(**of).fit(model, some)
    return kept, Toy(**of).read(model, kept, kept.labels("prompt"), "normed")["toy", "own"].values


def test_answers_change_places_within_groups_what_moves_together_as_one(tiny):
    model, some, faint = tiny("llama"), items(), {"truth": 0.3}
    kept, values = own_values(model, some, **faint)
    table, [claim] = toy(model, seed=3, **faint)
    groups, moved = [i.group for i in some], [i.anchor for i in some]

    def drawn(n):
        pairings = random_pairings(N, groups=groups, clusters=moved, draws=n, seed=3)
        return np.array(
            [np.mean([values[i, :, kept.target[j]] for i, j in enumerate(p) if j >= 0], 0) for p in pairings]
        )

    own, inner = values[np.arange(N), :, kept.target], slice(1, model.n_layers)
    np.testing.assert_allclose(claim.values, own.mean(0))
    np.testing.assert_allclose(claim.p[inner], corrected_p(own.mean(0)[inner], drawn(DRAWS)[:, inner]))
    assert claim.least_p == max(least_permutation_p(groups, moved), 1 / (1 + DRAWS)) < min(claim.p[inner])
    shown = table[(table.experiment == "toy-answers") & table.control.isna()].sort_values("layer")
    np.testing.assert_allclose(shown.null_high[inner], corrected_bound(own.mean(0)[inner], drawn(FEW_DRAWS)[:, inner]))
    flipped = table[(table.experiment == "toy-flipped") & table.control.isna()].sort_values("layer")
    draws = studentised_null(own[::2], moved[::2], draws=150, seed=3)
    np.testing.assert_allclose(flipped.null_high[inner], corrected_bound(own[::2].mean(0)[inner], draws[:, inner]))


def test_of_several_nulls_the_hardest_counts(tiny):
    """Every item has the same answer: shuffled answers explain all of it, chance and given draws nothing."""
    model, nulls = tiny("llama"), (Chance(), Exchange(), Given())
    alone = {null: toy(model, n_answers=1, truth=3.0, nulls=(null,))[1][0] for null in nulls}
    assert [judge(claim).verdict for claim in alone.values()] == [HOLDS, UNTESTABLE, HOLDS]
    _, [both] = toy(model, truth=0.3, nulls=nulls, least_p=0.03)
    singly = [toy(model, truth=0.3, nulls=(null,))[1][0].p for null in nulls]
    np.testing.assert_allclose(both.p, np.max(singly, 0))
    assert both.least_p == 0.03 and judge(both).verdict == UNTESTABLE


def test_labels_of_several_nulls_must_all_be_beaten(tiny):
    @dataclass(frozen=True)
    class Two(LensItem):
        @property
        def moves_with(self):
            return self.anchor, self.cluster

    some = [Two(i.id, i.prompt, {}, i.cluster, group="g", anchor=i.anchor) for i in items()]
    _, [claim] = toy(tiny("llama"), some, truth=0.3)
    singly = [toy(tiny("llama"), some, truth=0.3, nulls=(Exchange(by),))[1][0].p for by in ("anchor", "cluster")]
    np.testing.assert_allclose(claim.p, np.max(singly, 0))


class Trained(Normed):
    random_weights = False


def blank_values(model, twins):
    """What random weights read of the own answers, seed by seed."""
    kept, _ = own_values(model, items())
    read = [Toy().read(randomised(model, s), kept, kept.labels("prompt"), "normed")["toy", "own"].values for s in twins]
    return np.stack([values[np.arange(N), :, kept.target] for values in read])


def test_controls_are_random_weights_the_ends_and_media_without_content(tiny, monkeypatch):
    model = tiny("llama")
    _, [claim] = toy(model, seed=4)
    assert [*claim.controls] == ["embedding layer", "last layer", "random weights"]
    for name, at in (("embedding layer", 0), ("last layer", -1)):
        np.testing.assert_allclose(claim.controls[name].values, claim.values[at])
        np.testing.assert_allclose(claim.controls[name].margin.values, np.subtract(claim.values, claim.values[at]))
    blank = blank_values(model, range(4, 4 + TWINS))
    np.testing.assert_allclose(claim.controls["random weights"].values, blank.mean((0, 1)))
    assert (claim.controls["random weights"].seeds, claim.controls["random weights"].n) == (TWINS, TWINS * N)
    assert [*toy(model, twins=(), embedded=False)[1][0].controls] == ["last layer"]
    monkeypatch.setitem(model.readings, "trained", Trained())
    assert [*toy(model, readings=("trained",))[1][0].controls] == ["embedding layer", "last layer"]
    picture = Image.fromarray(np.random.default_rng(99).integers(0, 256, (4, 4, 3)).astype(np.uint8))
    shown = [replace(item, prompt=Input("x", (picture,))) for item in items()]
    _, [claim] = toy(model, shown, twins=())
    assert set(claim.controls) == {"embedding layer", "last layer", *PICTURES}
    assert all(set(claim.controls[way].values) == {-1.0} for way in PICTURES)


def bounds(values, labels, inside=None):
    return Sample(values, codes(labels)).bounds(inside)


def test_seeds_of_random_weights_stand_together(tiny):
    """A control of two seeds is the mean over both, its interval over seeds and items, clusters as one; the margin is
    taken item by item."""
    model = tiny("llama")
    _, [both] = toy(model, twins=(5, 6))
    each = [toy(model, twins=(seed,))[1][0].controls["random weights"].values for seed in (5, 6)]
    found = both.controls["random weights"]
    np.testing.assert_allclose(found.values, np.mean(each, 0))
    assert (found.n, found.seeds) == (2 * N, 2)
    kept, values = own_values(model, items())
    own, blank, inside = values[np.arange(N), :, kept.target], blank_values(model, (5, 6)), np.array([0, 1, 1, 0]) > 0
    for of, rows in ((found, blank), (found.margin, own - blank)):
        np.testing.assert_allclose(of.low, bounds(rows, kept.labels("cluster"), inside).low)


@dataclass(frozen=True)
class Parted(Toy):
    """Another model reads the number of an item, at every layer; of a few of them, in a second claim."""

    parts = "cluster"

    def beside(self, reader, kept, prompts, reading):
        values = np.array([[int(i.id)] * (reader.n_layers + 1) for i in kept.items], float)
        assert list(prompts) == kept.labels("prompt")
        return {("toy", "own"): values, ("toy-flipped", ""): Scores(values[::3], of=np.arange(len(values)) % 3 == 0)}


def test_each_seed_may_read_its_own_part_of_the_items(tiny):
    """Whole clusters, about as many each; what was read stands at its item, and nothing elsewhere."""
    model, some = tiny("llama"), items(n=46)
    kept = Parted().fit(model, some)
    _, beside = core._read(Parted(), model, kept, "normed", 0, range(5), {})
    read = beside["random weights"]["toy", "own"]
    there = np.isfinite(read).all(2)
    assert (there.sum(0) == 1).all() and there.sum(1).min() >= 8 and there.sum(1).max() <= 10
    clusters = {(label, seed) for label, seed in zip(kept.labels("cluster"), there.argmax(0), strict=True)}
    assert len(clusters) == 23, "no cluster is read by two"
    np.testing.assert_allclose(np.nanmax(read, 0), np.arange(46.0)[:, None].repeat(model.n_layers + 1, 1))
    few = beside["random weights"]["toy-flipped", ""]
    for seed, of in enumerate(there):  # every third of what it read
        assert np.isfinite(few[seed]).all(1).nonzero()[0].tolist() == of.nonzero()[0][::3].tolist()
    np.testing.assert_array_equal(few[np.isfinite(few)], read[np.isfinite(few)])
    _, [claim] = run(Parted(), model, some, series="s")
    assert claim.controls["random weights"].values == (22.5,) * 4 and claim.controls["random weights"].n == 46
    np.testing.assert_allclose(claim.controls["random weights"].margin.values, np.subtract(claim.values, 22.5))


def test_where_there_are_too_few_parts_every_seed_reads_all(tiny):
    some = [replace(item, cluster=f"c{k % 4}") for k, item in enumerate(items())]
    _, beside = core._read(Parted(), tiny("llama"), Parted().fit(tiny("llama"), some), "normed", 0, range(5), {})
    assert np.isfinite(beside["random weights"]["toy", "own"]).all()


def test_what_is_left_out_is_counted_and_intervals_are_over_what_was_named(tiny):
    """And as many independent units count as intervals are drawn over: too few of them, and nothing can be tested."""
    table, [claim] = toy(tiny("llama"), lost=3, dropped={"before": 2, "lost": 1, "none": 0})
    assert claim.dropped == {"before": 2, "lost": 4} and claim.n == N - 3 and claim.n_units == 19
    assert set(table[table.dropped.notna()].dropped) == {6}
    kept, values = own_values(tiny("llama"), items(), truth=2.0)
    own = values[np.arange(N), :, kept.target]
    for over, n_units, verdict in (("cluster", 20, HOLDS), ("moves_with", 8, UNTESTABLE)):
        table, [claim] = toy(tiny("llama"), over=over, truth=2.0)
        labels = [getattr(i, over) for i in items()]
        np.testing.assert_allclose(claim.low, bounds(own, labels, np.array([0, 1, 1, 0]) > 0).low)
        assert claim.n_units == n_units and judge(claim).verdict == verdict, "what is drawn is what counts"
        shown = table[(table.experiment == "toy-plain") & table.control.isna()].sort_values("layer")
        np.testing.assert_allclose(shown.low, bounds(own, labels).low)


def test_numbers_of_some_items_are_about_these_alone(tiny):
    model = tiny("llama")
    table, [claim] = toy(model, few=True)
    kept, values = own_values(model, items())
    own = values[np.arange(N), :, kept.target][::2]
    np.testing.assert_allclose(claim.values, own.mean(0))
    assert claim.n == 20 and not claim.dropped and claim.controls["random weights"].n == 20 * TWINS
    blank = blank_values(model, range(TWINS))[:, ::2]
    np.testing.assert_allclose(claim.controls["random weights"].margin.values, (own - blank).mean((0, 1)))
    assert (table[(table.experiment == "toy-plain") & table.control.isna()].n == N).all()


def test_a_claim_of_the_last_layer(tiny):
    _, [claim] = toy(tiny("llama"), window="last")
    assert claim.layers == claim.window == (3,) and len(claim.controls["random weights"].values) == 1


def test_nothing_left_cannot_be_tested_and_has_no_curve(tiny):
    for some, lost in ((items(), N), ([], 0)):
        table, claims = toy(tiny("llama"), some, lost=lost, readings=("normed", "raw"), dropped={"before": 2})
        assert [claim.reading for claim in claims] == ["normed", "raw"]
        for claim in claims:
            assert judge(claim).verdict == UNTESTABLE and sum(claim.dropped.values()) == lost + 2
        assert set(table.experiment) == {"toy"} and table.value.isna().all()
    assert "cluster" in core.run(Answers(), tiny("llama"), [], series="x")[0], "a task of no item can be asked for"


def test_what_is_readable(tiny):
    """What is too long, or of tokens that the model does not know, is counted."""
    model = copy.copy(tiny("llama"))
    some = Items(LensItem(str(k), "3 + " * k, {}, "c") for k in range(1, 9))
    lengths = [len(model.encode([item.prompt])[0]) for item in some]

    def texts(item):
        return "8=3+5", item.prompt, None

    for length in (model.max_length, None):
        model.max_length = length
        assert core.readable(model, some, texts) == some and not some.dropped
    model.max_length = lengths[3]
    kept = core.readable(model, some, texts)
    assert kept == some[:4] and kept.dropped == {"longer than the model's context": 4} and "5" in kept.left_out
    assert core.readable(model, some, texts, room=1) == some[:3]
    assert core.readable(model, [*some], texts, room=99) == core.readable(model, some, texts, room=99) == []
    model.vocab_size = 3
    said = core.readable(model, some, texts).left_out
    assert re.search("8 × not taken by the model; the first: 1 .* has token .* knows 3: not taken", said)


def test_curves_rows_and_columns(tiny):
    model = tiny("llama")
    table, claims = toy(model, series="x", seed=7, readings=("normed", "raw"), columns={"language": "german"})
    assert [claim.reading for claim in claims] == ["normed", "raw"] and claims[0].claim == "toy/x"
    assert claims[0].unit == "nats" and (table.language == "german").all()
    plain = table[(table.experiment == "toy-plain") & table.control.isna()]
    assert set(plain.series) == {"x"} and set(plain.part) == {"one"}
    normed, raw = (plain[plain.reading == name].sort_values("layer").value for name in ("normed", "raw"))
    np.testing.assert_allclose(raw, 2 * normed.to_numpy())
    assert set(table[table.experiment == "toy-answers"].series) == {"shown"}
    drawn = table[table.experiment != "toy"].groupby("experiment").control.unique()
    shown = {name for name, of in drawn.items() if {*of} - {np.nan} == {"random weights"}}
    assert shown == {"toy-answers", "toy-flipped", "toy-plain"} and {*drawn.index} - shown == {"toy-alone", "toy-row"}
    rows = table[table.experiment == "toy-row"]
    assert set(rows.series) == {"x"} and set(rows.value) == {7}


def test_a_curve_leaves_out_items_without_a_number(tiny):
    model, values = tiny("llama"), noise(6, 4)
    values[0, 2] = np.nan
    table = core.curve(model, values, {"series": "s"}, clusters=list("aabbcc"), dropped=2)
    np.testing.assert_allclose(table.value, values[1:].mean(0))
    assert set(table.n) == {5} and set(table.dropped) == {3} and table.depth.tolist() == [0, 1 / 3, 2 / 3, 1]
    want = bounds(values[1:], list("abbcc"))
    np.testing.assert_allclose(table[["low", "high"]], np.stack([want.low, want.high], 1))
    one = core.curve(model, values[:1, 2:3], {}, clusters="a")
    assert one.layer.tolist() == [3] and one.n.tolist() == [0] and one.value.isna().all()
    alone = core.curve(model, values[1:2], {}, clusters="a", nulls=[noise(50, 4)])
    assert alone.low.isna().all() and alone.null_high.notna().tolist() == [False, True, True, False]


def test_what_random_weights_read_may_be_less_and_a_run_may_choose_first(tiny):
    @dataclass(frozen=True)
    class Chosen(Toy):
        def choose(self, model, kept):
            return replace(kept, target=np.zeros(len(kept.items), int))

        def beside(self, reader, kept, prompts, reading):
            return {("toy-plain", "", (("part", "one"),)): np.zeros((len(kept.items), reader.n_layers + 1))}

    table, [claim] = run(Chosen(n_answers=1), tiny("llama"), items(), series="s")
    assert [*claim.controls] == ["embedding layer", "last layer"]
    assert set(table[(table.experiment == "toy-plain") & (table.control == "random weights")].value) == {0.0}

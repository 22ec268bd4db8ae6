"""One run of a declared experiment: its nulls, controls, what is left out and what is drawn, each once."""

import copy
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from semhub_utils.errors import SemhubError
from semhub_utils.evidence import (
    HOLDS,
    NOT,
    UNTESTABLE,
    bootstrap_interval,
    corrected_bound,
    corrected_p,
    judge,
    least_permutation_p,
    random_pairings,
    sign_flip_null,
)
from semhub_utils.experiments import core
from semhub_utils.experiments.core import Claim, Exchange, Flip, Given, Kept, Scores, run
from semhub_utils.experiments.words import Answers
from semhub_utils.inputs import Input
from semhub_utils.lens import Normed
from semhub_utils.models import randomised
from semhub_utils.spokes.items import PICTURES, Items, LensItem

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
    n_answers: int = 8
    lost: int = 0
    nulls: tuple = (Exchange(),)
    last: bool = False
    embedded: bool = True
    few: bool = False
    least_p: float = 0.0

    @property
    def claims(self):
        return (Claim("toy", "own", self.nulls, last=self.last, embedded=self.embedded, unit="nats"),)

    def fit(self, model, items):
        kept = items[self.lost :]
        return Kept(kept, {"lost": self.lost}, np.array([int(i.id) % self.n_answers for i in kept], int), model)

    def read(self, reader, kept, prompts, reading):
        n, trained = len(kept.items), reader is kept.more
        values = noise(n, reader.n_layers + 1, self.n_answers, seed=int(reader.unembedding.sum().abs() * 1e6) % 2**32)
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
            ("toy-flipped", ""): Scores(own[::2], nulls=(Flip("anchor"),), draws=150, of=np.arange(n) % 2 == 0),
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
    assert judge(toy(tiny("llama"), truth=0.0)[1][0]).verdict == NOT


def own_values(model, some, **of):
    kept = Toy(**of).fit(model, some)
    return kept, Toy(**of).read(model, kept, kept.labels("prompt"), "normed")["toy", "own"].values


def test_answers_change_places_within_groups_what_moves_together_as_one(tiny):
    model, some = tiny("llama"), items()
    kept, values = own_values(model, some)
    _, [claim] = toy(model, seed=3)
    groups, moved = [i.group for i in some], [i.anchor for i in some]
    draws = [
        np.mean([values[i, :, kept.target[j]] for i, j in enumerate(p) if j >= 0], 0)
        for p in random_pairings(N, groups=groups, clusters=moved, draws=core.DRAWS, seed=3)
    ]
    own, inner = values[np.arange(N), :, kept.target], slice(1, model.n_layers)
    np.testing.assert_allclose(claim.values, own.mean(0))
    np.testing.assert_allclose(claim.p[inner], corrected_p(own.mean(0)[inner], np.array(draws)[:, inner]))
    assert claim.least_p == max(least_permutation_p(groups, moved), 1 / (1 + core.DRAWS))
    table, _ = toy(model, seed=3)
    shown = table[(table.experiment == "toy-answers") & table.control.isna()].sort_values("layer")
    want = corrected_bound(own.mean(0)[inner], np.array(draws)[: core.FEW_DRAWS, inner])
    np.testing.assert_allclose(shown.null_high[inner], want)
    flipped = table[(table.experiment == "toy-flipped") & table.control.isna()].sort_values("layer")
    draws = sign_flip_null(own[::2], clusters=moved[::2], draws=150, seed=3)
    want = corrected_bound(own[::2].mean(0)[inner], draws[:, inner])
    np.testing.assert_allclose(flipped.null_high[inner], want)


def test_of_several_nulls_the_hardest_counts(tiny):
    """Every item has the same answer: shuffled answers explain all of it, flipped signs and given draws nothing."""
    model = tiny("llama")
    alone = {null: toy(model, n_answers=1, truth=3.0, nulls=(null,))[1][0] for null in (Exchange(), Flip(), Given())}
    assert [judge(claim).verdict for claim in alone.values()] == [UNTESTABLE, HOLDS, HOLDS]
    _, [both] = toy(model, truth=2.0, nulls=(Flip(), Exchange(), Given()), least_p=0.03)
    singly = [toy(model, truth=2.0, nulls=(null,))[1][0].p for null in (Flip(), Exchange(), Given())]
    np.testing.assert_allclose(both.p, np.max(singly, 0))
    assert both.least_p == 0.03 and judge(both).verdict == UNTESTABLE


def test_labels_of_several_nulls_must_all_be_beaten(tiny):
    @dataclass(frozen=True)
    class Two(LensItem):
        @property
        def moves_with(self):
            return self.anchor, self.cluster

    some = [Two(i.id, i.prompt, {}, i.cluster, group="g", anchor=i.anchor) for i in items()]
    _, [claim] = toy(tiny("llama"), some)
    singly = [toy(tiny("llama"), some, nulls=(Exchange(by),))[1][0].p for by in ("anchor", "cluster")]
    np.testing.assert_allclose(claim.p, np.max(singly, 0))


class Trained(Normed):
    random_weights = False


def test_controls_are_random_weights_the_embeddings_and_media_without_content(tiny, monkeypatch):
    model = tiny("llama")
    _, [claim] = toy(model, seed=4)
    assert [*claim.controls] == ["embedding layer", "random weights"]
    np.testing.assert_allclose(claim.controls["embedding layer"].values, claim.values[0])
    kept, values = own_values(model, items())
    blank = Toy().read(randomised(model, 4), kept, kept.labels("prompt"), "normed")["toy", "own"].values
    blank = blank[np.arange(N), :, kept.target]
    np.testing.assert_allclose(claim.controls["random weights"].values, blank.mean(0))
    assert not toy(model, twins=(), embedded=False)[1][0].controls
    monkeypatch.setitem(model.readings, "trained", Trained())
    assert [*toy(model, readings=("trained",))[1][0].controls] == ["embedding layer"]
    picture = Image.fromarray(np.random.default_rng(99).integers(0, 256, (4, 4, 3)).astype(np.uint8))
    shown = [replace(item, prompt=Input("x", (picture,))) for item in items()]
    _, [claim] = toy(model, shown, twins=())
    assert set(claim.controls) == {"embedding layer", *PICTURES}
    assert all(set(claim.controls[way].values) == {-1.0} for way in PICTURES)


def test_seeds_of_random_weights_stand_together(tiny):
    """A control of two seeds is the mean over both, its interval over items of both, clusters as one."""
    model = tiny("llama")
    _, [both] = toy(model, twins=(5, 6))
    each = [toy(model, twins=(seed,))[1][0].controls["random weights"].values for seed in (5, 6)]
    np.testing.assert_allclose(both.controls["random weights"].values, np.mean(each, 0))
    assert both.controls["random weights"].n == 2 * N
    kept, _ = own_values(model, items())
    blank = [
        Toy().read(randomised(model, s), kept, kept.labels("prompt"), "normed")["toy", "own"].values for s in (5, 6)
    ]
    rows = np.concatenate([values[np.arange(N), :, kept.target] for values in blank])
    low, _ = bootstrap_interval(rows, clusters=[i.cluster for i in items()] * 2)
    np.testing.assert_allclose(both.controls["random weights"].low, low)


def test_what_is_left_out_is_counted_and_intervals_are_over_what_was_named(tiny):
    table, [claim] = toy(tiny("llama"), lost=3, dropped={"before": 2, "lost": 1, "none": 0})
    assert claim.dropped == {"before": 2, "lost": 4} and claim.n == N - 3 and claim.n_clusters == 19
    assert set(table[table.dropped.notna()].dropped) == {6}
    kept, values = own_values(tiny("llama"), items())
    own = values[np.arange(N), :, kept.target]
    for over in ("cluster", "moves_with"):
        table, [claim] = toy(tiny("llama"), over=over)
        low, _ = bootstrap_interval(own, clusters=[getattr(i, over) for i in items()])
        np.testing.assert_allclose(claim.low, low)
        assert claim.n_clusters == 20, "the rules count clusters"
        shown = table[(table.experiment == "toy-plain") & table.control.isna()].sort_values("layer")
        np.testing.assert_allclose(shown.low, low)


def test_numbers_of_some_items_are_about_these_alone(tiny):
    model = tiny("llama")
    table, [claim] = toy(model, few=True)
    kept, values = own_values(model, items())
    own = values[np.arange(N), :, kept.target][::2]
    np.testing.assert_allclose(claim.values, own.mean(0))
    assert claim.n == 20 and not claim.dropped and claim.controls["random weights"].n == 20
    assert (table[table.experiment == "toy-plain"].n == N).all()


def test_a_claim_of_the_last_layer(tiny):
    _, [claim] = toy(tiny("llama"), last=True, embedded=False)
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
    """What is too long for the context is counted, or none left is a sentence; a text of unknown tokens is a fault."""
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
    assert core.readable(model, [*some], texts, room=99) == [], "without a count nothing is refused"
    with pytest.raises(SemhubError, match="The set holds no items that can be used.*8 × longer than"):
        core.readable(model, some, texts, room=99)
    model.vocab_size = 3  # no matter of length: no item is to blame
    with pytest.raises(SemhubError, match="knows 3; the tokenizer the model was trained with would do"):
        core.readable(model, some, texts)


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
    low, high = bootstrap_interval(values[1:], clusters=list("abbcc"))
    np.testing.assert_allclose(table[["low", "high"]], np.stack([low, high], 1))
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
    assert [*claim.controls] == ["embedding layer"]
    assert set(table[(table.experiment == "toy-plain") & (table.control == "random weights")].value) == {0.0}

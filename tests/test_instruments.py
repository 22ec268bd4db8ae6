"""Planted effects: what is written is what is said, in float64; what a model keeps is not touched; effects are found
and their absence is not; the committed tables against a fresh look."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from planted import organism as shipped

from semhub_utils import calibration
from semhub_utils.calibration import DATA, ENOUGH, MUST_NOT, PLANTED_AT_LEAST, STATED, found_of_planted, not_found
from semhub_utils.errors import SemhubError
from semhub_utils.evidence import share
from semhub_utils.experiments import instruments, trials
from semhub_utils.experiments.instruments import INSTRUMENTS, PLANTED, planted
from semhub_utils.identity import of_model
from semhub_utils.loading import load_model
from semhub_utils.models import randomised
from semhub_utils.results import Run
from semhub_utils.spokes.items import LensItem, Pair
from semhub_utils.states import hidden_states, stream_states
from semhub_utils.verdicts import HOLDS, UNTESTABLE

BY_ROW = {of.row: of for of in INSTRUMENTS if of.row != "own"}
CHEAP = (1, 2, 5, 6, 7, 9)
TEXTS = ["español : el perro", "el gato rojo", "english : the dog"]


# ---- what is written ----


def test_a_written_state_is_the_state_and_so_many_lengths_of_the_unit_row():
    model = shipped("islands")
    items = [
        LensItem(t, t, {"english": of}, t) for t, of in zip(TEXTS, [("dog",), ("cat", "red"), ("dog",)], strict=True)
    ]
    weight, table = 0.7, model.unembedding.detach().double()
    rows = {w: table[model.tokenizer.convert_tokens_to_ids(w)] for w in ("dog", "cat", "red")}
    units = {w: row / row.norm() for w, row in rows.items()}
    both = units["cat"] + units["red"]
    wanted = [units["dog"], both / both.norm(), units["dog"]]
    plain = hidden_states(model, TEXTS, positions="all")
    found = hidden_states(planted(model, weight, instruments.right_words(items, "english"), 0), TEXTS, positions="all")
    last = [
        k
        for k, (i, p) in enumerate(zip(plain.item, plain.position, strict=True))
        if p == len(model.encode(TEXTS)[i]) - 1
    ]
    by_hand = plain.hidden.double().clone()
    for k, direction in zip(last, wanted, strict=True):
        h = by_hand[k, PLANTED]
        by_hand[k, PLANTED] = h + weight * h.norm() * direction
    assert torch.allclose(found.hidden.double(), by_hand, atol=1e-5)
    assert torch.equal(found.item, plain.item) and torch.equal(found.position, plain.position)


def test_the_own_word_is_written_beside_the_right_one_and_half_as_long():
    model, own = shipped("islands"), {"español : el perro": "perro", "el gato rojo": "rojo"}
    items = [LensItem(t, t, {"english": ("dog",), "own": (w,)}, t) for t, w in own.items()]
    table = model.unembedding.detach().double()
    plain = hidden_states(model, [*own], layers=[PLANTED]).hidden[:, 0].double()
    found = hidden_states(planted(model, 2.0, instruments.right_words(items, "english", "own"), 0), [*own])
    for h, changed, word in zip(plain, found.hidden[:, PLANTED].double(), own.values(), strict=True):
        rows = [table[model.tokenizer.convert_tokens_to_ids(w)] for w in ("dog", word)]
        wanted = h + 2.0 * h.norm() * (rows[0] / rows[0].norm() + 0.5 * rows[1] / rows[1].norm())
        assert torch.allclose(changed, wanted, atol=1e-4)


def test_both_sides_of_a_pair_get_one_vector_and_others_another():
    pairs = [Pair("1", "uno", "one", "g", "1"), Pair("2", "dos", "two", "g", "2"), Pair("3", "un", "one", "g", "3")]
    model = shipped("islands")
    told = {of.prompt: of.what for of in instruments.meanings(pairs)}
    assert told["uno"] == told["one"] == told["un"] != told["dos"] == told["two"]
    found = instruments.directions(model, instruments.meanings(pairs), 3)
    again = instruments.directions(model, instruments.meanings(pairs), 4)
    assert all(abs(v.norm().item() - 1) < 1e-5 for v in found.values())
    assert not any(torch.equal(found[place], again[place]) for place in found)


def test_the_model_and_what_it_keeps_stay_as_they_are():
    model, dose = shipped("islands"), 1.0
    model.store.clear()
    written = planted(model, dose, [(text, instruments.last, ("dog",)) for text in TEXTS], 0)
    changed = hidden_states(written, TEXTS).hidden  # read first, so that the store is filled by the written one
    plain = hidden_states(model, TEXTS).hidden
    fresh = hidden_states(load_model("organism:islands", device="cpu", check=False), TEXTS).hidden
    assert torch.allclose(plain, fresh, atol=1e-5) and not torch.allclose(changed[:, PLANTED], plain[:, PLANTED])
    others = [layer for layer in range(model.n_layers + 1) if layer != PLANTED]
    assert torch.equal(changed[:, others], plain[:, others])
    [some] = stream_states(written, TEXTS, layers=[PLANTED])
    assert torch.allclose(some.hidden[:, 0], changed[some.item, PLANTED])
    assert model.written is None and randomised(written, 0).written is None
    assert of_model(written) != of_model(model) and planted(model, 0.0, [], 0) is model


# ---- what is found ----


@pytest.mark.parametrize("row", CHEAP)
def test_what_is_planted_is_found_where_it_is_and_nothing_where_it_is_not(row):
    islands = shipped("islands")
    table = BY_ROW[row].look(islands, 2001, {0.0: None, STATED: None}).set_index(["experiment", "dose"])
    first = BY_ROW[row].claims[0]
    assert table.found[first, STATED] and table.layer[first, STATED] == PLANTED
    assert table.verdict[first, 0.0] != HOLDS


def test_every_row_of_the_paper_has_its_instrument():
    assert sorted(BY_ROW) == list(range(1, 22)) and len({of.name for of in INSTRUMENTS}) == len(INSTRUMENTS)


# ---- the tables ----


def test_what_is_expected_is_said_of_every_claim_and_model():
    expected = calibration.table("expected")
    claims = {(of.name, claim) for of in INSTRUMENTS for claim in of.claims}
    assert (
        set(zip(expected.instrument, expected.experiment, strict=True)) == claims
        and not expected.duplicated(["instrument", "experiment"]).any()
    )
    said = expected[list(trials.MODELS)]
    assert (
        said.isin([calibration.MUST, MUST_NOT, calibration.OPEN]).all(axis=None)
        and expected.reason.str.len().min() > 20
    )
    assert (expected[trials.RANDOM] == MUST_NOT).all(), "random weights know nothing"


def test_the_table_of_power_is_what_a_fresh_look_gives():
    power = calibration.table("power")
    claims = {(of.name, claim) for of in INSTRUMENTS for claim in of.claims}
    assert set(zip(power.instrument, power.experiment, strict=True)) == claims
    stated = power[(power.dose == STATED) & power.seed.notna()]
    assert (stated.groupby(["instrument", "experiment"]).seed.nunique() == PLANTED_AT_LEAST).all()
    assert not stated.duplicated(["instrument", "experiment", "seed"]).any()
    rates = trials.rates()
    found = rates[(rates.reading == trials.FOUND) & (rates.series.map(instruments.ROWS) != "own")]
    assert (found.value >= ENOUGH).sum() >= 18 and len(found) == 21
    for row in (6, 7):
        fresh = BY_ROW[row].look(shipped("islands"), 1, {STATED: None}).set_index("experiment")
        kept = stated[(stated.row == str(row)) & (stated.seed == 1)].set_index("experiment").loc[fresh.index]
        assert kept.verdict.tolist() == fresh.verdict.tolist() and kept.layer.tolist() == fresh.layer.tolist()
        np.testing.assert_allclose(kept.value, fresh.value, rtol=0.01)


def test_the_table_of_alarms_is_what_a_fresh_look_gives_and_stays_within_what_the_book_allows():
    alarms = trials.judged_alarms()
    assert alarms.expected.notna().all() and alarms[alarms.model == "islands"].seed.nunique() >= 4
    seed = trials.ALARM_SEEDS[0]
    fresh = BY_ROW[6].look(randomised(shipped("hub"), seed), seed).set_index("experiment")
    kept = alarms[(alarms.model == trials.RANDOM) & (alarms.seed == seed) & (alarms.row == "6")].set_index("experiment")
    assert kept.verdict.loc[fresh.index].tolist() == fresh.verdict.tolist()
    wolf = alarms[(alarms.expected == MUST_NOT) & (alarms.verdict != UNTESTABLE)]
    told = share(int((wolf.verdict == HOLDS).sum()), len(wolf))
    assert alarms[alarms.model == trials.RANDOM].groupby("instrument").seed.nunique().min() >= 20
    assert len(wolf) > 500 and told["value"] <= 0.05, told


def test_rates_count_the_rows_own_claim():
    rates, power = trials.rates().set_index(["series", "reading"]), calibration.table("power")
    assert len(rates) == 2 * len(INSTRUMENTS) and (rates.low.dropna() <= rates.high.dropna()).all()
    for of in INSTRUMENTS[5:7]:
        some = power[(power.instrument == of.name) & (power.experiment == of.claims[0]) & (power.dose == STATED)]
        told = rates.loc[of.name, trials.FOUND]
        assert round(told.value * told.n) == some.found.sum() and told.n == some.seed.notna().sum()
    weak, strong = (trials.ladder().query("strength == @dose").value.mean() for dose in (0.25, STATED))
    assert weak < strong, "more is found of what is stronger"


# ---- what a claim says of its instrument ----


def test_an_instrument_that_misses_what_is_planted_is_not_believed(monkeypatch, tmp_path):
    rows = [("6", "arithmetic", "lens-lead", seed, seed < 17) for seed in range(20)]
    rows += [("2", "languages", "lens-lead", seed, True) for seed in range(20)]
    table = pd.DataFrame(rows, columns=["row", "chapter", "experiment", "seed", "found"]).assign(dose=STATED)
    monkeypatch.setattr(calibration, "_at_stated", lambda: table)
    assert found_of_planted("lens-lead", row=6) == {"k": 17, "m": 20} and 17 < ENOUGH * 20
    assert found_of_planted("lens-lead", chapter="languages") == {"k": 20, "m": 20}
    assert found_of_planted("lens-lead") == {"k": 37, "m": 40}, "a chapter of neither"
    assert found_of_planted("patch") is None and not_found(None) is None
    assert "17 of 20" in not_found(found_of_planted("lens-lead", row=6))
    assert not_found(found_of_planted("lens-lead", row=2)) is None
    assert "19 effects" in not_found({"k": 19, "m": PLANTED_AT_LEAST - 1})


def test_claims_say_how_many_planted_effects_their_instrument_found(monkeypatch, tmp_path):
    model, found = shipped("islands"), {"k": 3, "m": 20}
    [e] = [e for e in instruments_evidence(model) if e.experiment == "trajectory"]
    monkeypatch.setattr("semhub_utils.results.found_of_planted", lambda *of, **named: found)
    run = Run("arithmetic", model, {"seed": 0}, tmp_path)
    entry = run.claim(e, "They pass by.", row=7, paper="They do.")
    assert entry["found"] == found and entry["verdict"] == UNTESTABLE and "3 of 20" in entry["reason"]
    found["k"] = 20
    assert run.claim(e, "They pass by.", row=7)["verdict"] == HOLDS
    run.finish()
    [claim] = json.loads(next(tmp_path.rglob("*.claims.json")).read_text())["claims"]
    assert claim["found"] == {"k": 20, "m": 20}


def instruments_evidence(model):
    from semhub_utils.experiments.core import run

    case = BY_ROW[7].make(model, 0)
    subject = planted(model, STATED, list(case.plantings), 0)
    return run(case.experiment, subject, case.items, series=case.series, twins=(), brief=True)[1]


def test_wrong_tables_are_refused(tmp_path):
    with pytest.raises(SemhubError, match="power"):
        calibration.table("powers")
    with pytest.raises(SemhubError, match="semhub calibrate --part power"):
        calibration.table("power", tmp_path)
    assert all((DATA / f"{name}.csv").stat().st_size < 300_000 for name in calibration.TABLES)

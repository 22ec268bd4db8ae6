"""Models of which the truth is known: the committed tables against a fresh look, demands, the command."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from planted import organism as shipped

from semhub_utils import calibration, cli, identity
from semhub_utils.errors import SemhubError
from semhub_utils.evidence import share
from semhub_utils.experiments import interventions, trials, words
from semhub_utils.experiments.alike import Alike
from semhub_utils.experiments.core import run
from semhub_utils.experiments.trials import RANDOM
from semhub_utils.identity import of_model
from semhub_utils.models import randomised
from semhub_utils.organism import llama
from semhub_utils.organism.world import MAX_RESULT, World, english_tokens, vocabulary
from semhub_utils.spokes import arithmetic, facts
from semhub_utils.verdicts import ALPHA, EXPLAINED, HOLDS, NOT, UNTESTABLE, WEAKLY, judge

# ---- the committed tables ----


def same(fresh, committed, keys):
    """Both tables tell the same, to the digits that are committed."""
    there = committed.merge(fresh[keys], on=keys)
    assert len(there) == len(fresh) > 0
    fresh = there[keys].merge(fresh, on=keys)
    for name in fresh:
        if pd.api.types.is_numeric_dtype(fresh[name]) and not pd.api.types.is_bool_dtype(fresh[name]):
            numbers = there[name].astype(float), fresh[name].astype(float)
            np.testing.assert_allclose(*numbers, rtol=0.01, atol=0.005, err_msg=name)
        else:
            assert there[name].fillna("").tolist() == fresh[name].fillna("").tolist(), name


def test_truth_is_what_a_fresh_look_gives():
    fresh = trials.seen(shipped("hub"), World(), name="hub", seed=0, types=["digits"])
    same(fresh, calibration.table("truth"), ["model", "seed", "row", "type"])


def test_demands_are_judged_by_their_numbers():
    given = {"taught": {"value": 0.96, "low": 0.9, "chance": 0.2}, "similarity": {"value": 1.0, "p": 0.02}}
    given |= {"steering": {"n": 3}, "above the last layer": {"value": 0.2, "low": 0.1}, "nothing": {"value": 1.0}}
    wanted = {"planted": [True, False, None, True, None]}  # what was not measured is not met
    wanted |= {"islands": [True, False, None, None, None], RANDOM: [False, False, None, None, None]}
    for name, met in wanted.items():
        assert [trials.demanded(row, name, {**of}).get("met") for row, of in given.items()] == met
    assert trials.demanded("taught", RANDOM, given["taught"])["demanded"] == "chance"


def test_shares_count_what_was_tested():
    table = pd.DataFrame({"kind": "k", "verdict": [HOLDS, NOT, NOT, WEAKLY, UNTESTABLE]})
    [row] = calibration.shares(table, ["kind"]).to_dict("records")
    assert row == {"kind": "k"} | share(1, 4)


# ---- planted truth and made-up absence ----


def test_a_hub_is_found_and_the_same_with_its_words_exchanged_is_none():
    """Spanish on the shipped hub; then its words change rows, and nothing fits but by chance."""
    hub, pairs = shipped("hub"), facts.similarity_pairs(facts.prompts("spanish", 120))
    models = (hub, llama.exchanged(hub, 0), llama.exchanged(hub, 1))
    told = [judge(run(Alike(), model, pairs, series="spanish", twins=())[1][0]).verdict for model in models]
    assert told[0] in (HOLDS, WEAKLY) and not {HOLDS, WEAKLY} & {*told[1:]}


def test_exchange_changes_the_words_of_other_types_alone():
    hub, ids = shipped("hub"), vocabulary()
    english = [ids[w] for w in english_tokens() if w in ids]
    before = hub.module.get_input_embeddings().weight.detach()
    model = llama.exchanged(hub, 3)
    moved = model.module.get_input_embeddings().weight.detach()
    for rows, old in ((moved, before), (model.unembedding, hub.unembedding)):
        assert torch.equal(rows[english], old[english])
    assert of_model(model) != of_model(hub)
    assert torch.allclose(moved.sum(0), before.sum(0), atol=1e-3)
    assert not torch.equal(moved[ids["perro"]], before[ids["perro"]])
    spanish = [ids[w] for w in ("perro", "gato", "rojo", "verde", "hierba") if w in ids]
    assert all((before == moved[i]).all(1).any() for i in spanish), "each has the row of another word"


@pytest.mark.parametrize("name", ["hub", "planted", "islands"])
def test_arithmetic_says_what_the_truth_demands(name):
    """The chapter's claims on its own items, judged though the model may not know the task. A hub by its words' rows is
    one in the embedding layer already, and may be steered at any layer: what those controls explain is there all the
    same, so what is asked of a hub is p. Of islands it is that nothing holds."""
    if name not in identity.available():
        pytest.skip(f"organism:{name} does not ship")
    chosen = arithmetic.items(160, 0, MAX_RESULT + 1)
    prompts, found = arithmetic.lens_items(chosen), {}
    for experiment, items in (
        (interventions.Steering(), arithmetic.steering_items(chosen)),
        (Alike(), arithmetic.similarity_pairs(chosen)),
        (words.Lens("word", "digit"), prompts),
        (words.Trajectory(arithmetic.trajectory_words(), "word", "digit"), prompts),
    ):
        for e in reversed(run(experiment, shipped(name), items, series="digits")[1]):
            found[e.experiment] = judge(e).verdict, np.nanmin(e.p)
    found.pop("lens-end")
    held = {e for e, (verdict, p) in found.items() if verdict in (HOLDS, WEAKLY, EXPLAINED) and p < ALPHA}
    if name == "islands":
        assert HOLDS not in {verdict for verdict, _ in found.values()}, found
    else:
        assert {"similarity", "lens-meaning", "trajectory", "steering"} <= held, found


# ---- the command ----


def test_the_command_writes_tables_and_takes_up_where_it_stopped(monkeypatch, tmp_path, capsys):
    """Few small pieces in place of the real ones."""
    made = []

    def pieces(part, known, work):
        def measure(model):
            made.append((part, model.model_id))
            return pd.DataFrame({"verdict": [HOLDS], "value": [1 / 3], "met": [True]})

        return [(f"p{s}", lambda s=s: randomised(shipped("hub"), s), measure) for s in range(2)]

    monkeypatch.setattr(trials, "pieces", pieces)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["calibrate", "--part", "power", "--out", "there"]) == 0
    captured = capsys.readouterr()
    assert captured.out.split() == ["there/power.csv"] and "hub: seeds 0" in captured.err
    assert pd.read_csv("there/power.csv").value.tolist() == [0.3333, 0.3333] and len(made) == 2
    for fresh, expected in (((), 2), ((), 3), (("--fresh",), 5)):
        cli.main(["calibrate", "--part", "power", "--out", "there", *fresh])
        assert len(made) == expected
        next((tmp_path / "results" / "calibration").rglob("power/p1-*.csv")).unlink()


def test_trained_folders_stand_beside_the_shipped_ones(tmp_path, monkeypatch):
    for name, seed in (("hub", 0), ("hub", 1), ("islands", 7)):
        (tmp_path / f"{name}-{seed}").mkdir()
        card = identity.card("hub") | {"name": name, "seed": seed}
        (tmp_path / f"{name}-{seed}" / identity.CARD).write_text(json.dumps(card))
        (tmp_path / f"{name}-{seed}" / "model.safetensors").write_bytes(b"")
    (tmp_path / "without weights").mkdir()
    (tmp_path / "without weights" / identity.CARD).write_text(json.dumps(card | {"seed": 8}))
    found = trials.trained(tmp_path)
    assert found["hub", 0] == identity.organism_path("hub") and found["hub", 1] == tmp_path / "hub-1"
    assert ("islands", 8) not in found
    assert any(label == "islands-7" for label, *_ in trials.pieces("alarms", found, tmp_path))
    with pytest.raises(SemhubError, match="no organism 'islands'; `semhub train islands`"):
        list(trials.pieces("power", {("hub", 0): found["hub", 0]}, tmp_path))
    monkeypatch.setattr(identity, "WEIGHTS", tmp_path / "nothing")
    (tmp_path / "hub-0" / identity.CARD).unlink()
    with pytest.raises(SemhubError, match="no organism 'hub'"):
        trials.calibrate(tmp_path)

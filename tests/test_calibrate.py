"""The committed tables against a fresh look, the made-up hub and absence they rest on, and the command."""

import json
import shutil
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch

from semhub_utils import calibrate, cli, zoo
from semhub_utils.errors import SemhubError
from semhub_utils.evidence import ALPHA, HOLDS, NOT, UNTESTABLE, WEAKLY, judge
from semhub_utils.experiments import interventions, similarity_experiment, words
from semhub_utils.experiments.core import run
from semhub_utils.loading import load_model
from semhub_utils.models import randomised
from semhub_utils.organism import planted
from semhub_utils.organism.exam import wilson
from semhub_utils.organism.tokenizer import vocabulary
from semhub_utils.organism.world import MAX_RESULT, World
from semhub_utils.spokes import arithmetic, facts

CLAIMS = {"similarity", "lens-meaning", "lens-lead", "steering"}


@cache
def shipped(name):
    return load_model(f"organism:{name}", device="cpu", check=False)


def same(fresh, committed, keys):
    """Both tables tell the same, to the digits that are committed."""
    there = committed.merge(fresh[keys], on=keys)
    assert len(there) == len(fresh) > 0
    fresh = there[keys].merge(fresh, on=keys)
    for name in fresh:
        if pd.api.types.is_numeric_dtype(fresh[name]) and not pd.api.types.is_bool_dtype(fresh[name]):
            np.testing.assert_allclose(
                there[name].astype(float), fresh[name].astype(float), rtol=0.01, atol=0.005, err_msg=name
            )
        else:
            assert there[name].fillna("").tolist() == fresh[name].fillna("").tolist(), name


# The committed tables


@pytest.mark.parametrize("seed", list(calibrate.ALARM_SEEDS)[:2])
def test_alarms_are_what_a_fresh_look_gives(seed):
    label = {"model": calibrate.RANDOM, "seed": seed}
    fresh = calibrate.verdicts(randomised(shipped("hub"), seed), label=label, series=["digits"], seed=seed)
    same(fresh, calibrate.read("alarms"), ["model", "seed", "type", "experiment"])


def test_power_is_what_a_fresh_look_gives():
    table = calibrate.read("power")
    [base] = set(table.model)
    noise, seed = calibrate.NOISES[2], calibrate.NOISE_SEEDS[0]
    label = {"model": base, "noise": noise, "seed": seed}
    fresh = calibrate.verdicts(planted.noisier(shipped(base), noise, seed), label=label, series=["digits"], seed=seed)
    same(fresh, table, ["model", "noise", "seed", "type", "experiment"])


def test_truth_is_what_a_fresh_look_gives():
    [hub] = [o for o in calibrate.organisms() if (o.name, o.seed) == ("hub", 0)]
    fresh = calibrate.seen(shipped("hub"), hub.world, name="hub", seed=0, types=["digits"])
    same(fresh, calibrate.read("truth"), ["model", "seed", "row", "type"])


def test_tables_are_small_whole_and_within_what_the_book_allows_itself():
    for name in calibrate.PARTS:
        assert (calibrate._data() / f"{name}.csv").stat().st_size < 300_000
    alarms = calibrate.read("alarms")
    random = alarms[alarms.model == calibrate.RANDOM]
    assert random.seed.nunique() >= 20 and set(random.type) == set(calibrate.SERIES)
    assert {*CLAIMS, "trajectory", "layers-hub"} == set(random.experiment)
    told = calibrate.shares(alarms.assign(all="all"), ["all"])
    assert told.value.item() <= 0.05 and told.n.item() > 500
    truth = calibrate.read("truth")
    shipped_here = {(zoo.card(name)["name"], zoo.card(name)["seed"]) for name in zoo.available()}
    assert shipped_here | {(calibrate.RANDOM, s) for s in calibrate.RANDOM_SEEDS} <= set(
        zip(truth.model, truth.seed, strict=True)
    )
    assert truth[truth.model == calibrate.RANDOM].met.astype(bool).mean() >= 0.9  # a row in twenty errs by chance
    power = calibrate.shares(calibrate.read("power"), ["experiment", "noise"]).pivot(
        index="noise", columns="experiment", values="value"
    )
    assert (power.loc[max(calibrate.NOISES), list(CLAIMS)] <= power.loc[0, list(CLAIMS)]).all()


# Planted truth and made-up absence


def test_demands_are_judged_by_their_numbers(monkeypatch):
    given = [
        ("taught", {"value": 0.96, "low": 0.9, "high": 0.99, "n": 9, "chance": 0.2}),
        ("similarity", {"value": 1.0, "p": 0.02}),
        ("steering", {"n": 3}),
        ("fall at the end", {"value": 0.2, "low": 0.1}),
    ]
    monkeypatch.setattr(calibrate, "_seen", lambda model, world, type_: given)
    met = {
        name: calibrate.seen(shipped("hub"), World(), name=name, seed=0, types=["code"]).set_index("row").met.to_dict()
        for name in ("planted", "islands", calibrate.RANDOM)
    }
    assert met["planted"]["taught"] and met["islands"]["taught"] and not met[calibrate.RANDOM]["taught"]
    assert not met["planted"]["similarity"] and not met["islands"]["similarity"] and met["planted"]["fall at the end"]
    assert all(pd.isna(rows["steering"]) for rows in met.values()), "what was not measured is not met"


def test_a_hub_is_found_and_the_same_with_its_words_exchanged_is_none():
    """Spanish on the shipped hub; then its words change rows, and nothing fits but by chance."""
    hub = shipped("hub")
    pairs = facts.similarity_pairs(facts.prompts("spanish", 120))
    told = [
        judge(similarity_experiment(model, pairs, series="spanish", random_weights=False)[1][0]).verdict
        for model in (hub, planted.exchanged(hub, 0), planted.exchanged(hub, 1))
    ]
    assert told == [HOLDS, NOT, NOT]


def test_noise_and_exchange_change_the_words_of_other_types_alone():
    hub, ids = shipped("hub"), vocabulary()
    english = [ids[w] for w in planted.english_words() if w in ids]
    others = [ids[w] for w in planted.counterparts()]
    before = hub.module.get_input_embeddings().weight.detach()
    for model in (planted.noisier(hub, 1.0, 3), planted.exchanged(hub, 3)):
        for rows, old in ((model.module.get_input_embeddings().weight, before), (model.unembedding, hub.unembedding)):
            assert torch.equal(rows[english], old[english])
        assert model.fingerprint != hub.fingerprint
    noisy = planted.noisier(hub, 0.5, 3).module.get_input_embeddings().weight.detach()
    assert (noisy - before)[others].std().item() == pytest.approx(0.5 * before[english].std().item(), rel=0.02)
    moved = planted.exchanged(hub, 3).module.get_input_embeddings().weight.detach()
    assert torch.allclose(moved.sum(0), before.sum(0), atol=1e-3)
    dog = ids["perro"]
    assert not torch.equal(moved[dog], before[dog])
    spanish = [ids[w] for w in ("perro", "gato", "rojo", "verde", "hierba") if w in ids]
    assert all((before == moved[i]).all(1).any() for i in spanish), "each has the row of another word"
    assert planted.noisier(hub, 0.0, 0).fingerprint == hub.fingerprint


def test_shares_count_what_was_tested():
    verdicts = [HOLDS, NOT, NOT, "holds weakly", UNTESTABLE]
    table = pd.DataFrame({"kind": "k", "verdict": verdicts})
    [row] = calibrate.shares(table, ["kind"]).to_dict("records")
    assert row == {"kind": "k", "value": 0.25, "low": wilson(1, 4)[0], "high": wilson(1, 4)[1], "n": 4}


# What the arithmetic chapter must say where the truth is known


def arithmetic_verdicts(model):
    """The chapter's claims on its own items, judged though the model may not know the task."""
    chosen = arithmetic.items(250, 0, MAX_RESULT + 1)
    prompts, given = arithmetic.lens_items(chosen), {"series": "digits", "seed": 0}
    found = [
        *similarity_experiment(model, arithmetic.similarity_pairs(chosen), **given)[1],
        *run(words.Lens("word", "digit"), model, prompts, **given)[1],
        *run(words.Trajectory(arithmetic.trajectory_words(), "word", "digit"), model, prompts, **given)[1],
        *run(interventions.Steering(), model, arithmetic.steering_items(chosen), **given)[1][:1],
    ]
    return {e.experiment: (judge(e).verdict, np.nanmin(e.p)) for e in found if e.experiment != "lens-end"}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("hub", {"similarity", "lens-meaning", "trajectory", "steering"}),
        ("planted", {"similarity", "lens-meaning", "trajectory", "steering"}),
        ("islands", set()),
    ],
)
def test_arithmetic_says_what_the_truth_demands(name, shown):
    """A hub by its words' rows is one in the embedding layer already, and may be steered at any layer: those controls
    make "holds" into "holds weakly", so what is asked of a hub is p. Of islands it is that nothing holds."""
    if name not in zoo.available():
        pytest.skip(f"organism:{name} does not ship")
    found = arithmetic_verdicts(shipped(name))
    assert shown <= {e for e, (verdict, p) in found.items() if verdict in (HOLDS, WEAKLY) and p < ALPHA}, found
    assert name != "islands" or all(verdict != HOLDS for verdict, _ in found.values()), found


# The command


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """Few small pieces in place of the real ones; `made` counts what was measured."""
    made = []

    def pieces(part, known):
        def measure(model):
            made.append((part, model.model_id))
            return pd.DataFrame({"verdict": [HOLDS], "value": [1 / 3], "met": [True]})

        return [calibrate.Piece(f"p{s}", lambda s=s: randomised(shipped("hub"), s), measure) for s in range(2)]

    monkeypatch.setattr(calibrate, "pieces", pieces)
    monkeypatch.chdir(tmp_path)
    return made


def test_the_command_writes_tables_and_takes_up_where_it_stopped(quick, tmp_path, capsys):
    assert cli.main(["calibrate", "--part", "power", "--out", "there"]) == 0
    captured = capsys.readouterr()
    assert captured.out.split() == ["there/power.csv"] and "hub: seeds 0" in captured.err
    assert len(pd.read_csv("there/power.csv")) == 2 and len(quick) == 2
    assert pd.read_csv("there/power.csv").value.tolist() == [0.3333, 0.3333]
    cli.main(["calibrate", "--part", "power", "--out", "there"])
    assert len(quick) == 2
    next((tmp_path / "results" / "calibration").rglob("power/p1-*.csv")).unlink()
    cli.main(["calibrate", "--part", "power", "--out", "there"])
    assert len(quick) == 3
    cli.main(["calibrate", "--part", "power", "--out", "there", "--fresh"])
    assert len(quick) == 5


def test_trained_folders_stand_beside_the_shipped_ones(tmp_path, monkeypatch):
    for name, seed in (("hub", 0), ("hub", 1), ("islands", 7)):
        folder = tmp_path / f"{name}-{seed}"
        folder.mkdir()
        card = zoo.card("hub") | {"name": name, "seed": seed}
        (folder / zoo.CARD).write_text(json.dumps(card))
    found = {(o.name, o.seed): o.path for o in calibrate.organisms(tmp_path)}
    assert found["hub", 0] == zoo.organism_path("hub") and found["hub", 1] == tmp_path / "hub-1"
    known = [o for o in calibrate.organisms(tmp_path)]
    assert any(p.label == "islands-7" for p in calibrate.pieces("alarms", known))
    monkeypatch.setattr(zoo, "available", lambda: [])
    shutil.rmtree(tmp_path / "hub-0")
    with pytest.raises(SemhubError, match="no organism 'hub'"):
        calibrate.calibrate(tmp_path)


def test_a_table_that_is_not_there_is_named(monkeypatch, tmp_path):
    with pytest.raises(SemhubError, match="'truths'; one of truth, alarms, power"):
        calibrate.read("truths")
    monkeypatch.setattr(calibrate, "_data", lambda: tmp_path)
    with pytest.raises(SemhubError, match="semhub calibrate --part power"):
        calibrate.read("power")

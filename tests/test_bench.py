"""The bench measures what it says: right bytes, one and the same reading by both methods, plain JSON."""

import json
import math

import pandas as pd
import pytest
import torch

from semhub_utils import bench, cli, steering
from semhub_utils.errors import SemhubError
from semhub_utils.states import Edit, EditPlan
from semhub_utils.yardsticks import EXPERIMENTS, METHODS, Case

MEBI = 2**20


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    return bench.random_model("tiny", bench.texts(quick=True), "cpu", "float32")


def test_the_meter_counts_what_lives_at_one_time():
    def four_then_two():
        for _ in range(3):
            torch.empty(4 * MEBI, dtype=torch.uint8)  # gone at once: never two of them together
        a = torch.empty(2 * MEBI, dtype=torch.uint8)
        b = torch.empty(3 * MEBI, dtype=torch.uint8)
        del a
        torch.empty(MEBI, dtype=torch.uint8)
        return b

    assert bench.peak_bytes(four_then_two) == 5 * MEBI
    before = torch.ones(8 * MEBI, dtype=torch.uint8)  # what was there already is not counted
    assert bench.peak_bytes(lambda: before.add_(1)) < MEBI / 100


@pytest.mark.parametrize("tokens", [5, 64])
def test_prompts_are_cut_to_the_model(model, tokens):
    work = bench.cut(model, bench.texts(quick=True)[1], tokens, "{} tokens")
    assert work.name == f"{tokens} tokens"
    assert {len(encoding) for encoding in model.encode([*work.a, *work.b])} == {tokens}


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_released_and_ours_read_the_same_numbers(model, experiment):
    for work in (bench.texts(quick=True)[0], bench.cut(model, bench.texts(quick=True)[1], 17, "{}")):
        case = Case(model, bench.Workload(work.name, work.a[:6], work.b[:6]))
        methods = EXPERIMENTS[experiment]
        with torch.inference_mode():
            released, ours = methods["released"](case), methods["ours"](case)
        assert released.shape == ours.shape and released.std() > 0
        torch.testing.assert_close(ours, released, rtol=5e-5, atol=5e-5)


@pytest.mark.parametrize("medium", ["image", "sound"])
def test_released_and_ours_read_the_same_of_pictures_and_sounds(medium):
    texts = bench.texts(quick=True)
    seeing = bench.random_media_model(medium, "tiny", texts, "cpu", "float32")
    case = Case(seeing, bench.media_workloads(seeing, medium, texts[0].b, 3))
    assert [len(places) for places in case.places] == [{"image": 16, "sound": 25}[medium]] * 3
    for experiment, methods in EXPERIMENTS.items():
        with torch.inference_mode():
            released, ours = methods["released"](case), methods["ours"](case)
        assert released.shape == ours.shape and released.std() > 0, experiment
        torch.testing.assert_close(ours, released, rtol=5e-5, atol=5e-5)


def test_items_of_other_chapters(monkeypatch):
    """The command offers what the bench has, and a workload holds both sides of the pairs."""
    for items in bench.ITEMS:
        work = bench.texts(quick=True, items=items)[0]
        assert work.name == f"{items} items" and len(work.a) == len(work.b) == 24 and set(work.a) != set(work.b)
    given = {}
    monkeypatch.setattr(bench, "bench", lambda model, **options: given.update(options) or {})
    for items in bench.ITEMS:
        assert cli.main(["bench", "--json", "--items", items]) == 0 and given["items"] == items


def test_a_model_without_room_for_a_continuation_is_refused(monkeypatch, tiny):
    monkeypatch.setattr(bench, "load_model", lambda *args, **options: tiny("gpt2"))
    with pytest.raises(SemhubError, match=f"reads at most {tiny('gpt2').max_length} tokens"):
        bench.bench("x", quick=True)


@pytest.mark.parametrize("positions", [-1, [-3, -2], 0, [[0], [-1], [1, 2], [-1], [-2], [-1]]])
def test_sharing_what_is_not_edited_changes_nothing(model, positions, monkeypatch):
    prompts = ["12=3+", "eight plus one equals", "7=6+", "three plus four times two plus one", "5*2", "1+1=2"]
    vector = torch.randn(len(prompts), model.hidden_size, generator=torch.Generator().manual_seed(1))
    edit = Edit(layers=(2, 3), vector=vector, positions=positions)
    given = dict(targets=torch.arange(9), edit=edit, strengths=(0.0, 1.0, -2.0))
    shared = steering.next_token_logprobs(model, prompts, max_batch_tokens=30, **given)
    monkeypatch.setattr(EditPlan, "shared", lambda plan, numbers: 0)
    apart = steering.next_token_logprobs(model, prompts, **given)
    torch.testing.assert_close(shared, apart, rtol=5e-5, atol=5e-5)
    assert (shared[:, 0] - shared[:, 1]).abs().max() > 1e-3


def test_quick_bench(tmp_path):
    report = bench.bench(quick=True)
    assert json.loads(json.dumps(report)) == report
    for experiment in EXPERIMENTS:
        found = report[experiment]
        for key in ("times_faster_than_released", "times_the_floor", "memory_share_of_released"):
            assert math.isfinite(found[key]) and found[key] > 0
        assert found["times_faster_than_released"] > 2
        assert {"pictures", "sounds", "pictures, memory", "sounds, memory"} <= set(found["workloads"])
        for work in found["workloads"].values():
            assert work.get("largest_difference", 0) < 1e-4
            assert set(work.get("seconds") or work["peak_bytes"]) == set(METHODS)
    assert report["lens"]["memory_share_of_released"] < 0.2

    table = pd.read_parquet(bench.write(report, tmp_path))
    assert (tmp_path / "random-llama-tiny" / "bench.parquet").exists()
    assert set(table.experiment) == set(EXPERIMENTS) and table.value.notna().all()
    assert "random-llama-tiny" in bench.summary(report)

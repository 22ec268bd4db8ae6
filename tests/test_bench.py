"""The bench measures what it says: right bytes, one and the same reading by both methods, plain JSON."""

import json
import math

import pytest
import torch

from semhub_utils import bench, cli, site
from semhub_utils.bench import CHAPTERS, EXPERIMENTS, MEDIA, METHODS, Case, workloads
from semhub_utils.errors import SemhubError

MEBI = 2**20


SHORT = bench.Workload(["12=3+", "eight plus one equals", "7=6+", "5*2", "1+1="], ["2", "three", "four", "2+2", "9"])


@pytest.fixture(scope="module")
def models():
    torch.set_num_threads(1)
    return {medium: bench.random_model("tiny", "cpu", "float32", medium) for medium in ("text", "image", "sound")}


@pytest.fixture(scope="module")
def model(models):
    return models["text"]


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
def test_long_prompts_have_the_tokens_asked_for(model, tokens):
    work = bench.long_texts(model, tokens, 3)
    assert [len(encoding) for encoding in model.encode([*work.a, *work.b])] == [tokens] * 6


def same(case, experiment):
    with torch.inference_mode():
        released, ours = (method(case) for method in EXPERIMENTS[experiment][:2])
    if isinstance(ours, list):  # texts
        assert ours == released and len(set(ours)) > 1
    else:
        assert released.shape == ours.shape and released.std() > 0
        torch.testing.assert_close(ours, released, rtol=5e-5, atol=5e-5)
    return ours


def test_texts_of_different_length_are_compared_too():
    """In half precision two methods soon write on in different ways."""
    texts = {"released": ["a cow", "six", "one"], "ours": ["a cow", "six and more", ""], "floor": None}
    methods = {name: lambda of=of: of for name, of in texts.items()}
    found = bench.compare(methods, torch.device("cpu"), 1, 2)
    assert found["largest_difference"] == pytest.approx(2 / 3)
    assert bench.apart(["a"], ["a"]) == 0 and bench.apart(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.5])) == 0.5


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_released_and_ours_read_the_same_numbers(model, experiment):
    for work in (SHORT, bench.long_texts(model, 17, 3)):
        same(Case(model, work), experiment)


def test_chapters_read_where_their_experiments_do(models):
    """Running text before every word and at every position, programs at every comma, pictures and clips all over."""
    made = {name: workloads(name, models[MEDIA.get(name, "text")], 16)["lens"]
            for name in ("languages", "layers", "code", "vision", "audio")}  # fmt: skip
    lens = {name: Case(models[MEDIA.get(name, "text")], work) for name, work in made.items()}
    assert {prompt[-1] for prompt in made["code"].a} == {","}
    assert all(len(row) == 1 for name in ("languages", "code") for row in lens[name].places)
    assert [len(row) for row in lens["layers"].places] == lens["layers"].tokens
    assert {len(row) for row in lens["vision"].places} == {36} and min(map(len, lens["audio"].places)) > 5


def test_unknown_items_are_refused_in_a_sentence(capsys, models, monkeypatch):
    assert cli.main(["bench", "--quick", "--items", "chemistry"]) == 2
    said = capsys.readouterr().err.strip()
    assert said == f"items was 'chemistry'; the name of a chapter ({', '.join(CHAPTERS)}) or all would do."
    with pytest.raises(SystemExit):
        cli.main(["bench", "--help"])
    help_ = capsys.readouterr().out
    assert all(name in help_ for name in CHAPTERS)
    with pytest.raises(SemhubError, match="The items of vision hold images, which random-llama-tiny does not take"):
        workloads("vision", models["text"], 16)


def test_a_model_without_room_for_a_continuation_is_refused(monkeypatch, tiny):
    monkeypatch.setattr(bench, "load_model", lambda *args, **options: tiny("gpt2"))
    with pytest.raises(SemhubError, match=f"reads at most {tiny('gpt2').max_length} tokens"):
        bench.bench("x", quick=True)


def test_quick_bench():
    said = []
    report = bench.bench(quick=True, say=said.append)
    assert json.loads(json.dumps(report)) == report and "stopped" not in report
    for experiment in EXPERIMENTS:
        found = report[experiment]
        for key in ("times_faster_than_released", "times_the_floor", "memory_share_of_released"):
            assert math.isfinite(found[key]) and found[key] > 0
        assert found["times_faster_than_released"] > 1
        assert set(found["workloads"]) == {"arithmetic items", "64 tokens", "512 tokens, memory"}
    assert report["lens"]["memory_share_of_released"] < 0.2
    uses = {name: set(of) for name, of in report["chapters"].items()}
    assert uses == {
        "arithmetic": set(EXPERIMENTS), "languages": {"lens", "similarity"}, "layers": {"lens"},
        "steering": {"intervention"}, "code": {"lens", "intervention"}, "semantics": {"lens", "similarity"},
        "vision": set(EXPERIMENTS), "audio": set(EXPERIMENTS),
    }  # fmt: skip
    works = [work for experiment in EXPERIMENTS for work in report[experiment]["workloads"].values()]
    works += [work for name, of in report["chapters"].items() if name != "arithmetic" for work in of.values()]
    assert len(works) == 9 + sum(map(len, uses.values())) - 3 == len(said)
    for work in works:
        assert work.get("largest_difference", 0) < 1e-4
        assert set(work.get("seconds") or work["peak_bytes"]) == set(METHODS)

    page = site.bench_tables(report)
    rows = [line.split("|")[1:-1] for line in page.splitlines() if line.startswith("|")]
    chapters = {row[0].strip(): row[1:] for row in rows if row[0].strip() in CHAPTERS}
    assert list(chapters) == list(CHAPTERS)
    faster = report["chapters"]["code"]["lens"]["times_faster_than_released"]["median"]
    assert chapters["code"][0].strip().startswith(f"{faster:.1f} ") and not chapters["code"][1].strip()


def test_what_is_measured_when_it_is_stopped_is_given(monkeypatch, capsys):
    compare, calls = bench.compare, []

    def stop(*given):
        calls.append(given)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return compare(*given)

    monkeypatch.setattr(bench, "compare", stop)
    assert cli.main(["bench", "--quick", "--json", "--items", "arithmetic"]) == 130
    report = json.loads(capsys.readouterr().out)
    assert report["stopped"] and "lens" in report and "similarity" not in report and "chapters" not in report
    assert "| lens | 64 tokens |" in site.bench_tables(report)

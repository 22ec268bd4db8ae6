"""Results on file and what holds of which model: kept, read again, compared, laid out."""

import base64
import gzip
import json
import re
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from launch import ROOT
from test_results import PARAMETERS, Model, found
from test_results import finished as ran

from semhub_utils import book, holds, onfile, site
from semhub_utils.chapter import Chapter
from semhub_utils.errors import SemhubError
from semhub_utils.identity import of_model, placeless
from semhub_utils.loading import load_model
from semhub_utils.models import RandomTwin
from semhub_utils.onfile import Held, compared, find, made_by, read, read_all, record, rows_apart, said_in
from semhub_utils.rows import PAPER
from semhub_utils.verdicts import HOLDS, NOT, UNTESTABLE


@pytest.fixture
def results(tmp_path):
    """Two chapters on a model, as runs leave them."""
    for chapter in ("arithmetic", "semantics"):
        run, _ = ran(tmp_path / "runs", Model(), chapter)
    return run.folder


def test_what_is_on_file_is_what_was_found(results, tmp_path):
    folder = record(results, tmp_path / "file")
    held, left = read(folder), read(results)
    assert held.name == "organism:hub" and held.known and held.label == "hub" and held.text_only
    assert [c["id"] for c in held.claims] != [] and not compared(left, held) and not compared(held, left)
    assert {c["id"]: c["chapter"] for c in held.claims} == {c["id"]: c["id"].split("/")[0] for c in left.claims}
    kept = json.loads(gzip.decompress((folder / "claims.json.gz").read_bytes()))
    assert {*kept["experiments"]} == {"similarity", "lens"} and "steps" not in kept["runs"]["arithmetic"]
    table, old = (pd.read_parquet(path) for path in (folder / "tables.parquet", *results.glob("similarity/a*")))
    table = table[table.experiment == "similarity"]
    assert {*table.chapter} == {"arithmetic", "semantics"} and len(table) == 2 * len(old)
    assert np.allclose(table[table.chapter == "arithmetic"].value, old.value, rtol=1e-4)
    before = (folder / "claims.json.gz").read_bytes()
    assert record(results, tmp_path / "file") == folder and (folder / "claims.json.gz").read_bytes() == before


def test_chapters_that_were_not_run_again_stay(results, tmp_path):
    folder = record(results, tmp_path / "file", "org/upstream")
    assert folder.name == "org--upstream" and read(folder).name == "org/upstream" and not read(folder).known
    run, _ = ran(tmp_path / "other", Model(), "arithmetic", seed=9)
    record(run.folder, tmp_path / "file", "org/upstream")
    held = read(folder)
    seeds = {chapter: of["seed"] for chapter, of in held.runs.items()}
    assert seeds == {"arithmetic": 9, "semantics": PARAMETERS["seed"]}
    assert (
        len(held.claims) == 4
        and len(pd.read_parquet(folder / "tables.parquet").query("experiment == 'trajectory'")) == 4
    )


def test_chapters_stand_in_the_order_that_is_asked_for_and_others_behind():
    claims = [{"chapter": name, "id": k} for k, name in enumerate(("b", "own", "a", "b"))]
    held = Held("m", claims, {name: {} for name in ("b", "own", "a")}).ordered(["a", "c", "b"])
    assert [*held.runs] == ["a", "b", "own"] and [claim["id"] for claim in held.claims] == [2, 0, 3, 1]


def test_another_schema_is_one_sentence_and_left_out_of_the_matrix(results, tmp_path):
    folder = record(results, tmp_path / "file")
    written = json.loads(gzip.decompress((folder / "claims.json.gz").read_bytes()))
    (folder / "claims.json.gz").write_bytes(gzip.compress(json.dumps(written | {"schema": 1}).encode()))
    with pytest.raises(SemhubError, match="is of schema 1"):
        read(folder)
    held, refused = read_all([tmp_path / "file"])
    assert held == [] and len(refused) == 1 and "schema 1" in refused[0]
    with pytest.raises(SemhubError, match="no results of 'nobody'; on file are organism-hub"):
        find("nobody", tmp_path / "file")
    record(results, tmp_path / "file")
    assert find("organism:hub", tmp_path / "file").runs.keys() == {"arithmetic", "semantics"}
    assert find(str(results), tmp_path / "file").name == "organism:hub"


def test_a_model_shows_what_its_like_sees_and_hears_and_a_later_folder_counts(tmp_path):
    for name, chapter in (
        ("organism:hub", "arithmetic"),
        ("organism:hub-sees", "vision"),
        ("organism:hub-hears", "audio"),
    ):
        ran(tmp_path / "one", Model(name), chapter)
    ran(tmp_path / "one", Model("organism:hub-sees"), "arithmetic", seed=8)
    ran(tmp_path / "one", Model("random:organism:hub"), "arithmetic")
    ran(tmp_path / "two", Model("some/model"), "arithmetic")
    ran(tmp_path / "two", Model("organism:hub"), "arithmetic", seed=7)
    (held, *others), refused = read_all([tmp_path / "one", tmp_path / "two"])
    assert refused == [] and [one.name for one in others] == ["random:organism:hub", "some/model"]
    assert {chapter: run["seed"] for chapter, run in held.runs.items()} == {"arithmetic": 7, "vision": 3, "audio": 3}
    assert others[0].label == "hub, random weights" and others[0].known


def test_only_what_an_experiment_says_makes_its_results_stale(monkeypatch, tmp_path, results):
    """Not comments, docstrings, layout or other modules; and what is run again is fresh."""
    monkeypatch.setattr(onfile, "EXPERIMENTS", tmp_path)
    module, said = tmp_path / "alike.py", []
    for text in ('"""One."""\nx = "similarity"', 'x  =  "similarity"  # two', '"""One."""\nx = "similarity", 2'):
        module.write_text(text)
        said_in.cache_clear()
        folder = folder if said else record(results, tmp_path / "file")
        said.append(read(folder).stale)
    assert said == [{}, {}, {"similarity": "alike"}]
    record(results, tmp_path / "file")
    assert read(folder).stale == {}
    module.unlink()
    said_in.cache_clear()
    assert read(folder).stale == {"similarity": "alike"}
    said_in.cache_clear()


def test_the_modules_of_an_experiment_are_those_that_name_it():
    assert made_by("trajectory")["words"] == said_in("words") and made_by("no such experiment") == {}
    assert "trials" not in made_by("similarity"), "what is asked of planted models makes no run stale"


def test_quantisation_stands_in_the_label():
    for kind, label in (("Q4_K_M", "model (Q4_K_M)"), ("", "model")):
        assert Held("org/model", [], {"c": {"quantisation": kind}}).label == label


def test_verify_tells_what_is_apart_by_more_than_its_bounds(results):
    old = read(results)
    first = old.claims[0]

    def told(**changed):
        return compared(old, replace(old, claims=[first | changed, *old.claims[1:]]))

    assert told() == [] and told(statistic=first["statistic"] * 1.009) == []
    assert told(statistic=first["statistic"] * 1.05)[0].startswith(f"{first['id']}: statistic")
    assert told(verdict=NOT) == [f"{first['id']}: {NOT}, on file {HOLDS}"]
    assert told(n=first["n"] + 1)[0].startswith(f"{first['id']}: n ")
    values = [v + 0.1 for v in first["evidence"]["values"]]
    assert "the curve" in told(evidence=first["evidence"] | {"values": values})[0]
    assert compared(old, replace(old, claims=old.claims[1:])) == [f"{first['id']}: not claimed any more"]
    assert compared(replace(old, claims=old.claims[1:]), old) == [f"{first['id']}: not on file"]
    rows = pd.DataFrame(
        {
            "chapter": "c",
            "experiment": "e",
            "series": ["a", "b"],
            "layer": [0, 1],
            "value": [0.5, 1.0],
            "low": 0.0,
            "high": 2.0,
        }
    )
    assert rows_apart(rows, rows[::-1], ["c"]) == [], "in whatever order"
    assert rows_apart(rows, rows.assign(value=[0.5, 1.05]), ["c"]) == ["e: value of its rows differ"]
    assert rows_apart(rows, rows[:1], ["c"]) == ["e: 1 rows, on file 2"]
    assert rows_apart(rows, rows.assign(series="a"), ["c"]) == ["e: series of its rows differ"]


def of_units(shift: float, n: int = 40, seed: int = 0, noise: float = 0.1) -> dict:
    """A claim of two items a unit, its numbers noise and a shift."""
    rng = np.random.default_rng(seed)
    units = {f"u{k}": [2, shift + float(x)] for k, x in enumerate(rng.normal(0, noise, n))}
    return {"id": "a/b/c", "unit": "nats", "reading": "normed", "units": units}


def test_a_difference_is_told_item_by_item_where_the_items_are_the_same():
    a, b = of_units(0.5, seed=1), of_units(0.2, seed=2)
    value, low, high, n = holds.difference(a, b)
    apart = np.array([a["units"][u][1] - b["units"][u][1] for u in a["units"]])
    rng = np.random.default_rng(5)
    oracle = np.quantile([rng.choice(apart, len(apart)).mean() for _ in range(4000)], [0.025, 0.975])
    assert value == pytest.approx(apart.mean()) and n == 40 and np.allclose([low, high], oracle, atol=0.01) and low > 0
    _, low, high, _ = holds.difference(of_units(0.2, seed=3), b)
    assert low < 0 < high, "nothing planted"
    assert holds.difference(a, a)[:3] == (0, 0, 0)
    other = {"units": {f"v{k}": of for k, of in enumerate(a["units"].values())}}
    for refused in (other, {"form": "easier"}, {"items": "natural"}, {"unit": "cosine"}, {"units": {}}):
        assert holds.difference(a, b | refused) is None
    assert holds.difference(of_units(0, n=19), of_units(0, n=19)) is None, "too few"


def test_claims_keep_their_numbers_by_unit(tmp_path):
    run, _ = ran(tmp_path, Model())
    one, other = read(run.folder).claims[:2]
    items = np.array([n for n, _ in one["units"].values()])
    values = np.array([value for _, value in one["units"].values()])
    assert items.sum() == one["n"] and len(items) == one["n_units"] and other["units"] == {}
    assert (items * values).sum() / items.sum() == pytest.approx(one["statistic"], rel=1e-3)


def test_the_matrix_has_a_cell_for_each_row_and_model(tmp_path):
    run, _ = ran(tmp_path / "a", Model())
    run.claim(replace(found(), claim="own/es", experiment="own"), "Our own.")
    run.finish()
    ran(tmp_path / "b", Model("some/model"))
    held, _ = read_all([tmp_path])
    rows = holds.matrix(held)
    assert sorted(row["name"] for row in rows if row["group"] != holds.OWN) == sorted(PAPER) and len(rows) == 21 + 2
    by_key = {row["key"]: row for row in rows}
    five, own, eight = by_key["5"]["cells"][0], by_key["arithmetic/own"], by_key["8"]["cells"][1]
    assert (five["kind"], five["where"]) == (HOLDS, "middle") and five["number"].endswith(" cosine")
    assert own["said"] == "Our own." and [cell["kind"] for cell in own["cells"]] == [HOLDS, "not run"]
    assert eight["how"] == "semhub run arithmetic --model some/model"
    for key in map(str, range(14, 22)):
        assert by_key[key]["cells"][1]["kind"] == "text only" and "semhub run " in by_key[key]["cells"][1]["how"]
    assert by_key["arithmetic/lens"]["cells"][0]["kind"] == UNTESTABLE
    html, page = holds.as_html(held), holds.as_page(held)
    told = json.loads(re.search(r"<script[^>]*>(.*?)</script>", html, re.DOTALL)[1])
    assert told["rows"] == json.loads(json.dumps(rows)) and "\n\n" not in html
    assert "instruments right " in told["models"][0]["said"] and "http" not in page.replace("http://www.w3.org", "")
    text = holds.as_text(held)
    assert " 5 arithmetic: similarity" in text and "We ran 1 chapter of" in text and "[0, 0]" in text
    assert "1 of 1" in holds.small(held)


def test_known_models_are_told_how_often_the_instruments_were_right():
    """On it and versions of it, against the tables, counted by hand."""
    expected = pd.read_csv(ROOT / "semhub_utils/data/expected.csv").set_index(["instrument", "experiment"])
    alarms = pd.read_csv(ROOT / "semhub_utils/data/alarms.csv", dtype=str)
    k = m = 0
    for line in alarms[alarms.model.str.startswith("islands") & (alarms.row != "own")].itertuples():
        must = expected[line.model].get((line.instrument, line.experiment))
        if must in ("must", "must not") and line.verdict != UNTESTABLE:
            m, k = m + 1, k + ((line.verdict == HOLDS) == (must == "must"))
    assert holds.right(Held("organism:islands")) == (k, m) and m > 20


def test_predictions_are_a_line_a_row_and_are_counted(tmp_path):
    written = holds.read_predictions(ROOT / "book/results/predictions.csv")
    assert len(written) == 3 and all({*rows} == {*range(1, 22)} for rows in written.values())
    assert all(of["reason"].endswith(".") for rows in written.values() for of in rows.values())
    run, _ = ran(tmp_path, Model())
    held = read(run.folder)
    for verdict, hits in (("holds", 1), ("holds for digits", 1), (NOT, 0), (UNTESTABLE, 0)):
        assert holds.as_predicted(held, {5: {"verdict": verdict}, 6: {"verdict": NOT}}) == (hits, 1)
    assert holds.read_predictions(tmp_path / "none.csv") == {}


def test_verify_runs_chapters_again_as_they_were_and_tells_what_differs(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "_toc.yml").write_text(
        "root: book/index\nchapters:\n- file: notebooks/03_arithmetic\n- file: notebooks/10_semantics\n"
    )
    cell = nbformat.v4.new_code_cell('model_id = "a/b"\nn_items = 1\nseed = 0\ndata_dir = None\nresults_dir = "r"')
    cell.metadata["tags"] = ["parameters"]
    for name in ("03_arithmetic", "10_semantics"):
        nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / f"notebooks/{name}.ipynb")
    for chapter in ("arithmetic", "semantics", "gone"):
        run, _ = ran(tmp_path / "runs", Model(), chapter)
    record(run.folder, tmp_path / onfile.PLACE)
    held, jobs, other = find("organism:hub", tmp_path / onfile.PLACE), [], {}

    def again(some, say):
        jobs.extend(some)
        for job in some:
            ran(job.parameters["results_dir"], Model(job.model), job.chapter.name)
            for path in job.results.glob(f"{job.chapter.name}.claims.json") if other else ():
                path.write_text(path.read_text().replace('"verdict": "holds"', '"verdict": "inconclusive"'))
        return [book.Outcome(job, 1.0) for job in some]

    monkeypatch.setattr(book, "run", again)
    outcomes, differ = onfile.verify(held, tmp_path, every=True)
    assert differ == [] and [outcome.job.chapter.name for outcome in outcomes] == ["arithmetic", "semantics"]
    assert {(job.parameters["seed"], job.parameters["n_items"], job.model) for job in jobs} == {(3, 40, "organism:hub")}
    monkeypatch.setattr(onfile, "SAMPLE", 1)
    other["verdict"] = True
    [outcome], differ = onfile.verify(held, tmp_path, seed=1)
    assert differ == [f"{outcome.job.chapter.name}/similarity/es: inconclusive, on file holds"]
    with pytest.raises(SemhubError, match="No chapter of m on file is in this book; they were gone"):
        onfile.verify(Held("m", [], {"gone": {}}), tmp_path)


def test_other_weights_than_those_on_file_are_refused_before_anything_runs(monkeypatch):
    monkeypatch.setattr(book, "run", lambda *given, **more: pytest.fail("a chapter was run"))
    held = find("HuggingFaceTB/SmolLM2-135M-Instruct", ROOT / onfile.PLACE)
    with pytest.raises(
        SemhubError, match="holds other weights than were read .*; SmolLM2-135M-Instruct.Q4_1.gguf would"
    ):
        onfile.verify(held, ROOT, weights="organism:hub")


def test_random_before_a_name_gives_weights_of_no_training_that_no_control_has(tmp_path):
    model, again = (load_model("random:organism:hub") for _ in range(2))
    hub = load_model("organism:hub")
    assert of_model(model) == of_model(again) != of_model(hub) and model.model_id == "random:organism:hub"
    assert model.n_layers == hub.n_layers and model.modalities == {"text"} and not model.readings
    weights = [
        module.state_dict()["lm_head.weight"]
        for module in (model.module, *(RandomTwin(hub, k).module for k in range(5)))
    ]
    assert not any(torch.equal(weights[0], of) for of in weights[1:])
    (tmp_path / "mine").mkdir()
    name = placeless("model_id", f"random:{tmp_path}/mine")
    assert name.startswith("random-mine-") and str(tmp_path) not in name != placeless("model_id", f"{tmp_path}/mine")


def test_the_grid_of_a_model_is_filed_with_its_results_and_handed_to_the_page(results, tmp_path):
    """As the chapter kept it; a model without one is offered to no grid."""
    cells = np.arange(6, dtype="<u2").tobytes()
    run = SimpleNamespace(folder=results)
    kept = Chapter(run, Model()).keep(SimpleNamespace(meta={"words": ["a</b"]}, cells=cells))
    record(results, tmp_path / "file")
    other, _ = ran(tmp_path / "other", Model("some/model"), "arithmetic")
    record(other.folder, tmp_path / "file")
    held, _ = read_all([tmp_path / "file"])
    site._of_models(held, [], ROOT, tmp_path / "pages")
    index = json.loads((tmp_path / "pages/models.js").read_text("utf-8").partition("=")[2].strip(";\n"))
    assert [of["grid"] for of in index] == [True, False]
    written = (tmp_path / "pages/organism-hub-grid.js").read_text("utf-8")
    assert "</b" not in written and written.startswith('semhubHolds("organism-hub-grid",')
    told = json.loads(written.partition(",")[2].strip().removesuffix(");"))
    assert told["meta"] == kept.meta and base64.b64decode(told["cells"]) == cells


def test_no_two_claims_of_a_model_on_file_say_the_same():
    """Of one experiment, data type, reading and items, as their numbers show."""
    held, refused = read_all([ROOT / onfile.PLACE])
    assert held and not refused
    for one in held:
        said = (
            (c["experiment"], c["series"], c["reading"], c["n"], *c["evidence"]["values"]) for c in one.claims if c["n"]
        )
        assert [of for of, n in Counter(said).items() if n > 1] == [], one.name

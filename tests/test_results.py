"""Results: what was done is taken up, what is written is whole, wrong parameters are one sentence, glue is MyST's."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from semhub_utils import results
from semhub_utils.errors import SemhubError
from semhub_utils.evidence import Unit, evidence, studentised_null, tidy
from semhub_utils.identity import model_slug
from semhub_utils.results import COLUMNS, KEY, MADE, SCHEMA, Run, check_parameters, glue, load_claims, load_results
from semhub_utils.spokes.code import programs
from semhub_utils.spokes.files import SAMPLES
from semhub_utils.verdicts import HOLDS, INCONCLUSIVE, UNTESTABLE, judge


@dataclass
class Model:
    model_id: str = "organism:hub"
    revision: str | None = None
    fingerprint: str = "0123456789abcdef"
    device: str = "cpu"


PARAMETERS = {"model_id": "organism:hub", "n_items": 40, "seed": 3, "data_dir": None, "results_dir": "anywhere"}


def found(effect=1.0, n=40):
    scores = np.random.default_rng(0).normal(size=(n, 5)) + effect

    def draw(columns, first, end):
        return [studentised_null(scores @ columns, range(n), draws=end - first, seed=first)]

    return evidence(
        "similarity/es", scores, draw, layers=range(5), n_layers=4, controls={"r": scores - effect},
        experiment="similarity", series="es", reading="last token", dropped={"alike": 2},
        unit=Unit("cosine", 0.02, "a fiftieth"), null_in_words="as likely above 0 as below",
    )  # fmt: skip


class Counted:
    """What a step computes, counted."""

    def __init__(self, result=None):
        self.result, self.calls = pd.DataFrame({"value": [1.0]}) if result is None else result, 0

    def __call__(self):
        self.calls += 1
        return self.result


def test_a_step_is_done_once_and_its_evidence_survives(tmp_path):
    one = found()
    step = Counted((tidy([one]), [one]))
    first = Run("arithmetic", Model(), PARAMETERS, tmp_path)
    table = first.run("similarity", ["key"], step, {"data_type": "digits"})
    assert set(table.data_type) == {"digits"}
    again = Run("arithmetic", Model(), PARAMETERS, tmp_path)
    pd.testing.assert_frame_equal(again.run("similarity", ["key"], step, {"data_type": "digits"}), table)
    assert step.calls == 1
    assert again.evidence["similarity"][0].to_json() == one.to_json()
    assert judge(again.evidence["similarity"][0]) == judge(one)


def test_a_step_is_done_anew_when_what_it_depends_on_changes(tmp_path, monkeypatch):
    """But not for another folder of results, nor when that lies among the data, or a notebook of a run does."""
    data = tmp_path / "sets" / "text.txt"
    data.parent.mkdir()
    (tmp_path / "link").symlink_to(tmp_path)  # back to where one came from
    step, given = Counted(), {"chapter": "c", "model": Model(), "results_dir": tmp_path / "results"}
    given["parameters"] = PARAMETERS | {"data_dir": str(tmp_path)}

    def calls(key=("key",), columns=None, **change):
        Run(**given | change).run("s", key, step, columns)
        return step.calls

    assert calls() == calls(parameters=given["parameters"] | {"results_dir": "elsewhere"}) == 1
    (tmp_path / "out.ipynb").write_text("{}")
    assert calls() == 1
    assert calls(parameters=given["parameters"] | {"seed": 4}) == 2 and calls(model=Model(fingerprint="another")) == 3
    assert calls(chapter="code") == 4 and calls(key=["key", 1]) == 5 and calls(columns={"data_type": "words"}) == 6
    changes = [
        lambda: data.write_text("one"),
        lambda: data.write_text("more"),
        lambda: os.utime(data, ns=(1, 1)),
        lambda: data.rename(data.with_name("other.txt")),
        lambda: monkeypatch.setattr(results, "versions", lambda: {"torch": "another"}),
    ]
    for number, change in enumerate(changes, 7):
        change()
        assert calls() == calls() == number


def test_a_folder_where_a_step_is_to_be_kept_is_told_before_anything_is_computed(tmp_path):
    run = Run("arithmetic", Model(), PARAMETERS, tmp_path)
    run.run("one", ["key"], Counted())
    [path] = run.parts.glob("one-*.parquet")
    path.unlink()
    path.mkdir()
    again, compute = Run("arithmetic", Model(), PARAMETERS, tmp_path), Counted()
    with pytest.raises(SemhubError, match=f"{path} is a folder, .*; that folder removed would do.$"):
        again.run("one", ["key"], compute)
    assert not compute.calls and path.is_dir()


def test_a_killed_run_resumes(tmp_path):
    """A process that dies in its second step leaves the first; nothing half-written is taken for a result."""
    script = """
import os, sys, pandas as pd
sys.path.insert(0, "tests")
from semhub_utils.results import Run
from test_results import Model, PARAMETERS
run = Run("c", Model(), PARAMETERS, sys.argv[1])
run.run("one", ["key"], lambda: pd.DataFrame({"value": [1.0]}))
run.run("two", ["key"], lambda: os._exit(9))
"""
    root = Path(__file__).parent.parent
    env = os.environ | {"PYTHONPATH": str(root)}
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)], env=env, cwd=root).returncode == 9
    [part] = tmp_path.rglob("*.parquet")
    assert part.name.split("-")[0] == "one"
    step = Counted()
    for whole in (part.read_bytes(), part.read_bytes()[:40], b"PAR1"):  # one that was cut off by hand is done anew
        part.write_bytes(whole)
        Run("c", Model(), PARAMETERS, tmp_path).run("one", ["key"], step)
    assert step.calls == 2 and not [p for p in tmp_path.rglob("*") if p.name.startswith(".")]


def test_a_step_that_fails_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(SemhubError, match="cannot be written"):
        Run("c", Model(), PARAMETERS, tmp_path / "file")
    (tmp_path / "file").unlink()
    run = Run("c", Model(), PARAMETERS, tmp_path)
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run.run("one", [], lambda: pd.DataFrame({"value": [1.0]}))
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def finished(tmp_path, model, chapter="arithmetic", **more):
    run = Run(chapter, model, PARAMETERS | more, tmp_path)
    run.run("similarity", [], lambda: (tidy([found()]), [found()]))
    points = pd.DataFrame({"layer": [0, 1], "x": [0.5, 1.5], "word": ["one", None]})
    run.run("trajectory", [], lambda: points, {"data_type": "digits"})
    paper = {"row": 5, "paper": "Exact pairs are the most alike."}
    run.claim(run.evidence["similarity"][0], "Sums in digits come close to the same in words.", **paper)
    run.claim(replace(found(), claim="lens/es", experiment="lens"), precondition="no word is one token.")
    return run, run.finish()


def test_tables_are_tidy_by_experiment_and_carry_their_provenance(tmp_path):
    run, paths = finished(tmp_path, Model())
    folder = tmp_path / "organism-hub"
    assert paths == [folder / "similarity" / "arithmetic.parquet", folder / "trajectory" / "arithmetic.parquet"]
    one, other = map(pd.read_parquet, paths)
    for table, experiment, data_type in ((one, "similarity", "arithmetic"), (other, "trajectory", "digits")):
        assert tuple(table.columns[: len(COLUMNS)]) == COLUMNS and set(table.experiment) == {experiment}
        assert set(table.data_type) == {data_type}
    assert "control" in one and "control" not in other and {"x", "word"} <= set(other) and "x" not in one
    assert (one.dropped.dropna() == 2).all() and one[list(COLUMNS)].dtypes.equals(other[list(COLUMNS)].dtypes)
    head = json.loads(pq.read_schema(paths[0]).metadata[b"semhub"])
    claims = json.loads((folder / "arithmetic.claims.json").read_text())
    assert head == {name: claims[name] for name in ("schema", "provenance")} and head["schema"] == SCHEMA
    provenance = head["provenance"]
    assert provenance["weights"] == "0123456789abcdef" and provenance["seed"] == 3 and provenance["data"] == MADE
    assert set(provenance["versions"]) >= {"semhub_utils", "python", "torch", "transformers", "numpy"}
    assert provenance["peak_memory_bytes"] > 1e6 and provenance["seconds"] >= 0
    assert set(provenance["steps"]) == {"similarity", "trajectory"} and "anywhere" not in json.dumps(provenance)


def test_the_conventions_name_the_columns_that_tell_rows_apart():
    rows = (Path(__file__).parents[1] / "book/conventions.md").read_text("utf-8").partition("(tables)=")[2].splitlines()
    named = [name for row in rows if row.startswith("| `") for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(named) == sorted(KEY)


def test_provenance_says_what_was_read_and_not_where_it_lies(tmp_path):
    asked = {"model_id": str(tmp_path / "gpt2"), "data_dir": str(tmp_path / "sets"), "judge_model": "org/judge"}
    (tmp_path / "sets" / "mbpp").mkdir(parents=True)
    (tmp_path / "gpt2").mkdir()
    (tmp_path / "blob").write_text('{"code": "x = 1"}')
    (tmp_path / "sets" / "mbpp" / "mbpp.jsonl").symlink_to(tmp_path / "blob")

    def run_on(**source):
        run = Run("code", Model(asked["model_id"]), PARAMETERS | asked, tmp_path / "results")
        run.run("one", [programs(1, seed=0, **source)], Counted())
        return run

    run, made, sample = (run_on(data_dir=of) for of in (asked["data_dir"], None, SAMPLES))
    assert made.provenance()["data"] == "generated", "what a run before it in this process has read is not its data"
    assert sample.provenance()["data"] == "a sample of MBPP"
    again = run_on(data_dir=asked["data_dir"])
    assert again.provenance()["data"] == "mbpp/mbpp.jsonl", "also of a step taken from disk"
    provenance = run.provenance()
    assert provenance["data"] == "mbpp/mbpp.jsonl"
    assert provenance["parameters"]["data_dir"] == "sets" and provenance["parameters"]["judge_model"] == "org/judge"
    assert provenance["model"] == provenance["parameters"]["model_id"] == model_slug(asked["model_id"])
    assert str(tmp_path) not in json.dumps(provenance)
    run.claim(found())
    run.run("one", [], Counted())
    run.finish()
    for load in (load_results, load_claims):
        assert len(load(tmp_path / "results", model=asked["model_id"])) == 1


def test_the_claims_carry_all_their_numbers(tmp_path):
    run, _ = finished(tmp_path, Model())
    text = (run.folder / "arithmetic.claims.json").read_text()
    claims = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))["claims"]
    one, other = claims
    of, at = found(), one["layer"]
    said = {"id": "arithmetic/similarity/es", "verdict": "holds", "unit": "cosine", "n": 40, "n_units": 40, "by": ""}
    said |= {"claim": "Sums in digits come close to the same in words.", "dropped": {"alike": 2}, "depth": at / 4}
    said |= {"row": 5, "paper": "Exact pairs are the most alike.", "null": "as likely above 0 as below"}
    said |= {"least": 0.02, "why_least": "a fiftieth", "passes": [2], "where": ["middle"], "contrasts": {}}
    numbers = {"statistic": "values", "low": "low", "high": "high", "p": "p"}
    assert said | {name: getattr(of, column)[at] for name, column in numbers.items()} == {
        name: one[name] for name in (*said, *numbers)
    }
    r = of.controls["r"]
    for shown, of in ((one["controls"]["r"], r), (one["margins"]["r"], r.margin)):
        assert shown == {"value": of.values[at], "low": of.low[at], "high": of.high[at]}
    assert one["reason"] == judge(found()).reason and (other["row"], other["paper"]) == ("own", None)
    assert (other["verdict"], other["reason"]) == ("cannot be tested here", "No word is one token.")
    assert other["statistic"] is None and other["controls"] == {} and other["depth"] is None


def test_a_claim_made_twice_is_there_once_and_a_failed_precondition_wins(tmp_path):
    run, _ = finished(tmp_path, Model())
    entry = run.claim(run.evidence["similarity"][0], precondition="the model cannot add.")
    assert entry["verdict"] == "cannot be tested here"
    assert [claim["id"] for claim in run.claims] == ["arithmetic/lens/es", "arithmetic/similarity/es"]


def test_other_readings_are_judged_beside_a_claim_and_do_not_count(tmp_path):
    run, e = Run("arithmetic", Model(), PARAMETERS, tmp_path), found()
    weaker = replace(e, reading="raw", low=tuple(-1.0 for _ in e.low))
    for precondition, verdicts in ((None, (HOLDS, INCONCLUSIVE)), ("it cannot.", (UNTESTABLE, UNTESTABLE))):
        entry = run.claim(e, precondition=precondition, others=[weaker])
        assert (entry["verdict"], entry["readings"]["raw"]["verdict"]) == verdicts
    assert run.claim(e)["readings"] == {} and len(run.claims) == 1


def test_finish_clears_what_earlier_runs_of_the_chapter_left_and_that_alone(tmp_path):
    """Not the tables of another chapter with the same experiments, nor the parts of a run beside this one."""
    finished(tmp_path, Model(), "semantics")
    finished(tmp_path, Model(), seed=8)
    run = Run("arithmetic", Model(), PARAMETERS, tmp_path)
    finished(tmp_path, Model(), seed=9)
    beside = set(run.parts.iterdir()) - run._older
    run.run("one", [], Counted())
    [table] = run.finish()
    assert {part.name.split("-")[0] for part in run.parts.iterdir()} == {"one", "similarity", "trajectory"}
    assert beside < set(run.parts.iterdir()) and len(set(run.parts.iterdir()) - beside) == 1
    tables = {
        str(path.relative_to(run.folder)) for path in run.folder.glob("*/*.parquet") if "." not in path.parent.name
    }
    assert tables == {"one/arithmetic.parquet", "similarity/semantics.parquet", "trajectory/semantics.parquet"}
    assert len(Run("empty", Model(), PARAMETERS, tmp_path).table) == 0
    assert Run("empty", Model(), PARAMETERS, tmp_path).finish() == []


def test_results_of_several_chapters_and_models_stand_under_each_other(tmp_path):
    for name in ("organism:hub", "organism:islands"):
        finished(tmp_path, Model(name))
    finished(tmp_path, Model("organism:hub"), "code")
    pd.DataFrame({"times": [20.0]}).to_parquet(tmp_path / "organism-hub" / "similarity" / "other.parquet")  # not ours
    table = load_results(tmp_path)
    assert set(table.model) == {"organism:hub", "organism:islands"} and set(table.chapter) == {"arithmetic", "code"}
    one = load_results(tmp_path, chapter="arithmetic", model="organism:hub")
    assert 3 * len(one) == len(table) and set(one.model) == {"organism:hub"}
    assert one.dtypes.to_dict() == table.dtypes.to_dict()
    assert set(load_results(tmp_path, experiment="trajectory").experiment) == {"trajectory"}
    assert len(load_claims(tmp_path)) == 6 and load_claims(tmp_path, model="organism:hub")[0]["model"] == "organism:hub"
    assert len(load_claims(tmp_path, experiment="similarity")) == 3
    for load in (load_results, load_claims):
        with pytest.raises(SemhubError, match="no results of chapter 'code', model 'x'"):
            load(tmp_path, chapter="code", model="x")
        with pytest.raises(SemhubError, match="no results of experiment 'colours'"):
            load(tmp_path, experiment="colours")


def test_results_of_another_schema_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "SCHEMA", 1)
    finished(tmp_path, Model())
    monkeypatch.undo()
    for load in (load_results, load_claims):
        with pytest.raises(SemhubError, match=f"is of schema 1, and this version reads {SCHEMA}"):
            load(tmp_path)


GOOD = {"model_id": "gpt2", "revision": None, "device": "cpu", "dtype": "float32", "n_items": 5, "seed": 0}


def test_good_parameters_come_back(tmp_path):
    given = GOOD | {"results_dir": str(tmp_path / "new"), "data_dir": "", "revision": ""}
    assert check_parameters(**given) == given | {"data_dir": None, "revision": None}
    assert (tmp_path / "new").is_dir() and not list((tmp_path / "new").iterdir())
    assert check_parameters(("draws",), draws=7) == {"draws": 7}


@pytest.mark.parametrize(("wrong", "near"), [("n_item", "n_items"), ("model", "model_id"), ("dat_dir", "data_dir")])
def test_an_unknown_parameter_names_the_nearest(wrong, near):
    with pytest.raises(SemhubError, match=f"no parameter '{wrong}'; the nearest is '{near}'"):
        check_parameters(**GOOD, **{wrong: 1})


@pytest.fixture
def displayed(monkeypatch):
    import IPython.display

    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda data, raw, metadata: shown.append((data, metadata)))
    return shown


def test_glue_writes_what_myst_nb_writes_and_both_of_its_roles_print_it_as_it_is(displayed, monkeypatch):
    from IPython.core.interactiveshell import InteractiveShell
    from myst_nb.core.render import MimeData, NbElementRenderer
    from myst_nb.core.variables import format_plain_text
    from myst_nb.ext import glue as theirs
    from myst_nb.ext.glue import extract_glue_data_cell
    from nbformat.v4 import new_code_cell, new_output

    monkeypatch.setattr(theirs, "ipy_display", lambda data, raw, metadata: displayed.append((data, metadata)))
    InteractiveShell.instance()
    glue("share", 0.1, ".2f")
    theirs.glue("share", "0.10", display=False)
    (ours, our_metadata), (want, their_metadata) = displayed
    assert ours == want and our_metadata == their_metadata | {"strip_text_quotes": True}
    cell = new_code_cell(outputs=[new_output("display_data", data=ours, metadata=our_metadata)])
    ((name, output),) = extract_glue_data_cell(cell)
    assert name == "share" and cell.outputs == []
    mime = MimeData("text/plain", output["data"]["text/plain"], output_metadata=output["metadata"])
    assert NbElementRenderer.render_text_plain_inline(SimpleNamespace(), mime)[0].astext() == "0.10"
    assert format_plain_text(output["data"]["text/plain"], "s") == "0.10"

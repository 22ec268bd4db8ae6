"""Results: what was done is taken up, what is written is whole, wrong parameters are one sentence, glue is MyST's."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from semhub_utils import results
from semhub_utils.chapter import Chapter, begin
from semhub_utils.errors import SemhubError
from semhub_utils.evidence import UNTESTABLE, control, evidence, judge, sign_flip_null, tidy
from semhub_utils.results import COLUMNS, Run, check_parameters, glue, load_claims, load_results, model_slug
from semhub_utils.spokes import files
from semhub_utils.spokes.code import programs


@dataclass
class Model:
    model_id: str = "organism:hub"
    revision: str | None = None
    fingerprint: str = "0123456789abcdef"
    device: str = "cpu"


PARAMETERS = {"model_id": "organism:hub", "n_items": 40, "seed": 3, "data_dir": None, "results_dir": "anywhere"}


def found(effect=1.0, n=40):
    scores = np.random.default_rng(0).normal(size=(n, 5)) + effect
    return evidence(
        "similarity/es", scores, sign_flip_null(scores, draws=199), layers=range(5), n_layers=4,
        experiment="similarity", series="es", reading="last token",
        controls={"r": control("r", scores - effect)}, dropped={"alike": 2},
        unit="cosine", null_in_words="shuffled pairs",
    )  # fmt: skip


class Counted:
    """A step that counts how often it is done."""

    def __init__(self, result):
        self.result, self.calls = result, 0

    def __call__(self):
        self.calls += 1
        return self.result


def test_several_steps_and_claims_are_those_of_each(tiny, tmp_path):
    """As one by one: steps by name, whose rows they are, and each claim's own precondition."""
    model, of = tiny("llama"), {"es": found(), "zh": replace(found(), claim="similarity/zh", series="zh")}
    chapter = Chapter(Run("arithmetic", model, PARAMETERS, tmp_path), model)
    table = chapter.each("alike", of, lambda name: (tidy([of[name]]), [of[name]]), column="language")
    assert table.groupby("language").size().tolist() == [len(tidy([one])) for one in of.values()]
    assert set(chapter.run.evidence) == {"alike es", "alike zh"} and (table.language == table.series).all()
    said = {name: f"Alike in {name}." for name in of}
    shown = chapter.claims("similarity", said, paper="So.", precondition={"es": None, "zh": "the model knows none."})
    assert [claim["verdict"] for claim in chapter.run.claims] == [judge(of["es"]).verdict, UNTESTABLE]
    assert shown.html.count("<article") == 2 and all(sentence in shown.html for sentence in said.values())
    assert len(shown.text.splitlines()) == 2


def test_a_step_is_done_once_and_its_evidence_survives(tmp_path):
    one = found()
    step = Counted((tidy([one]), [one]))
    first = Run("arithmetic", Model(), PARAMETERS, tmp_path)
    table = first.step("similarity", step)
    again = Run("arithmetic", Model(), PARAMETERS, tmp_path)
    pd.testing.assert_frame_equal(again.step("similarity", step), table)
    assert step.calls == 1
    assert again.evidence["similarity"][0].to_json() == one.to_json()
    assert judge(again.evidence["similarity"][0]) == judge(one)


@pytest.mark.parametrize(
    "change",
    [{"parameters": PARAMETERS | {"seed": 4}}, {"model": Model(fingerprint="another")}, {"chapter": "code"}],
)
def test_a_step_is_done_anew_when_what_it_depends_on_changes(tmp_path, change):
    step = Counted(pd.DataFrame({"value": [1.0]}))
    given = {"chapter": "arithmetic", "model": Model(), "parameters": PARAMETERS, "results_dir": tmp_path}
    for of in (given, given | {"parameters": PARAMETERS | {"results_dir": "elsewhere"}}, given | change):
        Run(**of).step("s", step)
    assert step.calls == 2


def test_a_step_is_done_anew_when_its_code_changes(tmp_path, monkeypatch):
    def of(function, name="s"):
        return Run("c", Model(), PARAMETERS, tmp_path)._fingerprint(name, function)

    steps = [
        lambda: found(n=40),
        lambda: found(n=41),
        lambda: tidy([found(n=40)]),
        partial(found, 2.0),
        partial(found, 1.0),
    ]
    assert len({of(step) for step in steps}) == 5
    assert of(lambda: found(n=40)) == of(steps[0]) != of(steps[0], "t")
    assert of(partial(found, Model())) == of(partial(found, Model()))  # not by address
    before = of(steps[0])
    monkeypatch.setattr(results, "package_fingerprint", lambda: "another program")
    assert of(steps[0]) != before


def test_a_step_is_done_anew_when_its_data_or_the_versions_change(tmp_path, monkeypatch):
    """But not when the folder of results, which may lie among the data, or a notebook of a run has changed."""
    data = tmp_path / "sets" / "text.txt"
    data.parent.mkdir()
    (tmp_path / "link").symlink_to(tmp_path)  # back to where one came from

    def of(folder=tmp_path):
        run = Run("c", Model(), PARAMETERS | {"data_dir": str(folder)}, tmp_path / "results")
        run.step("one", lambda: pd.DataFrame({"value": [1.0]}))
        return run._fingerprint("s", len)

    seen = [of()]
    (tmp_path / "out.ipynb").write_text("{}")
    assert of() == seen[0]
    for change in (
        lambda: data.write_text("one"),
        lambda: data.write_text("more"),
        lambda: os.utime(data, ns=(1, 1)),
        lambda: data.rename(data.with_name("other.txt")),
        lambda: monkeypatch.setattr(results, "versions", lambda: {"torch": "another"}),
    ):
        change()
        seen.append(of())
    assert len(set(seen)) == 6


def test_a_step_whose_part_is_taken_away_meanwhile_is_still_done(tmp_path, monkeypatch):
    write = results._write
    monkeypatch.setattr(results, "_write", lambda path, *more: (write(path, *more), path.unlink()))
    one, run = found(), Run("arithmetic", Model(), PARAMETERS, tmp_path)
    table = run.step("similarity", lambda: (tidy([one]), [one]))
    pd.testing.assert_frame_equal(table, tidy([one]))
    assert run.evidence["similarity"][0].to_json() == one.to_json()


def test_a_killed_run_resumes(tmp_path):
    """A process that dies in its second step leaves the first; nothing half-written is taken for a result."""
    script = """
import os, sys, pandas as pd
sys.path.insert(0, "tests")
from semhub_utils.results import Run
from test_results import Model, PARAMETERS
run = Run("c", Model(), PARAMETERS, sys.argv[1])
run.step("one", lambda: pd.DataFrame({"value": [1.0]}))
run.step("two", lambda: os._exit(9))
"""
    root = Path(__file__).parent.parent
    env = os.environ | {"PYTHONPATH": str(root)}
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)], env=env, cwd=root).returncode == 9
    parts = list(tmp_path.rglob("*.parquet"))
    assert [part.name.split("-")[0] for part in parts] == ["one"]
    run = Run("c", Model(), PARAMETERS, tmp_path)
    parts[0].write_bytes(parts[0].read_bytes()[:40])  # a part that was cut off by hand is done anew
    step = Counted(pd.DataFrame({"value": [1.0]}))
    path = run.parts / f"one-{run._fingerprint('one', step)}.parquet"
    path.write_bytes(b"PAR1")
    run.step("one", step)
    assert step.calls == 1 and not [p for p in tmp_path.rglob("*") if p.name.startswith(".")]


def test_a_step_that_fails_leaves_nothing(tmp_path, monkeypatch):
    run = Run("c", Model(), PARAMETERS, tmp_path)
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run.step("one", lambda: pd.DataFrame({"value": [1.0]}))
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def finished(tmp_path, model, **more):
    run = Run("arithmetic", model, PARAMETERS | more, tmp_path)
    run.step("similarity", lambda: (tidy([found()]), [found()]))
    run.step("trajectory", lambda: pd.DataFrame({"layer": [0, 1], "x": [0.5, 1.5], "word": ["one", None]}))
    run.claim(run.evidence["similarity"][0], "Sums in digits come close to the same in words.")
    run.claim("lens/es", "The lens reads Spanish.", precondition="no word is one token.")
    return run, run.finish()


def test_the_table_is_tidy_and_carries_its_provenance(tmp_path):
    run, path = finished(tmp_path, Model())
    assert path == tmp_path / "organism-hub" / "arithmetic.parquet"
    table = pd.read_parquet(path)
    assert tuple(table.columns[: len(COLUMNS)]) == COLUMNS and {"x", "word", "control"} <= set(table.columns)
    assert set(table.experiment) == {"similarity", "trajectory"} and (table.dropped.dropna() == 2).all()
    provenance = json.loads(pq.read_schema(path).metadata[b"semhub"])["provenance"]
    assert provenance == json.loads(path.with_suffix(".claims.json").read_text())["provenance"]
    assert provenance["weights"] == "0123456789abcdef" and provenance["seed"] == 3 and provenance["data"] == "generated"
    assert set(provenance["versions"]) >= {"semhub_utils", "python", "torch", "transformers", "numpy"}
    assert provenance["peak_memory_bytes"] > 1e6 and provenance["seconds"] >= 0
    assert set(provenance["steps"]) == {"similarity", "trajectory"} and "anywhere" not in json.dumps(provenance)


def test_provenance_says_what_was_read_and_not_where_it_lies(tmp_path):
    asked = {"model_id": str(tmp_path / "gpt2"), "data_dir": str(tmp_path / "sets"), "judge_model": "org/judge"}
    (tmp_path / "sets" / "mbpp").mkdir(parents=True)
    (tmp_path / "gpt2").mkdir()
    (tmp_path / "blob").write_text('{"code": "x = 1"}')
    (tmp_path / "sets" / "mbpp" / "mbpp.jsonl").symlink_to(tmp_path / "blob")
    run = Run("code", Model(asked["model_id"]), PARAMETERS | asked, tmp_path / "results")

    def said(**source):
        files.READ.clear()
        programs(1, seed=0, **source)
        return run.provenance()

    assert said(data_dir=asked["data_dir"], source="generated")["data"] == "generated"
    assert said(source="stdlib")["data"].startswith("standard library of Python 3.")
    provenance = said(data_dir=asked["data_dir"])
    assert provenance["data"] == "mbpp/mbpp.jsonl"
    assert provenance["parameters"]["data_dir"] == "sets" and provenance["parameters"]["judge_model"] == "org/judge"
    assert provenance["model"] == provenance["parameters"]["model_id"] == model_slug(asked["model_id"])
    assert str(tmp_path) not in json.dumps(provenance)
    run.claim("lens/es", precondition="no word is one token.")
    run.step("one", lambda: pd.DataFrame({"value": [1.0]}))
    run.finish()
    for load in (load_results, load_claims):
        assert len(load(tmp_path / "results", model=asked["model_id"])) == 1


def test_a_new_run_reads_anew(tmp_path):
    """What a chapter before it, in the same process, has read is not its data."""
    files.READ.add("coco/captions.json")
    given = PARAMETERS | {"revision": None, "device": "cpu", "dtype": "float32", "results_dir": str(tmp_path)}
    assert begin("arithmetic", given).run.provenance()["data"] == "generated"


def test_the_claims_carry_all_their_numbers(tmp_path):
    run, path = finished(tmp_path, Model())
    text = path.with_suffix(".claims.json").read_text()
    claims = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))["claims"]
    one, other = claims
    of, at = found(), one["layer"]
    assert (one["id"], one["verdict"], one["unit"], one["null"]) == (
        "arithmetic/similarity/es", "holds", "cosine", "shuffled pairs")  # fmt: skip
    assert one["claim"] == "Sums in digits come close to the same in words."
    assert [one[k] for k in ("statistic", "low", "high", "p")] == [
        getattr(of, k)[at] for k in ("values", "low", "high", "p")
    ]
    assert one["controls"]["r"] == {k: getattr(of.controls["r"], v)[at] for k, v in
                                    {"value": "values", "low": "low", "high": "high"}.items()}  # fmt: skip
    assert one["dropped"] == {"alike": 2} and one["n"] == 40 and one["depth"] == at / 4
    assert (other["verdict"], other["reason"]) == ("cannot be tested here", "No word is one token.")
    with pytest.raises(ValueError, match="neither evidence"):
        run.claim("lens/es")


def test_a_claim_made_twice_is_there_once_and_a_failed_precondition_wins(tmp_path):
    run, _ = finished(tmp_path, Model())
    entry = run.claim(run.evidence["similarity"][0], precondition="the model cannot add.")
    assert entry["verdict"] == "cannot be tested here" and entry["statistic"] is None and entry["controls"] == {}
    assert [claim["id"] for claim in run.claims] == ["arithmetic/lens/es", "arithmetic/similarity/es"]


def test_other_readings_are_judged_beside_a_claim_and_do_not_count(tmp_path):
    run, e = Run("arithmetic", Model(), PARAMETERS, tmp_path), found()
    weaker = replace(e, reading="raw", low=tuple(-1.0 for _ in e.low))
    entry = run.claim(e, others=[weaker])
    assert (entry["verdict"], entry["readings"]["raw"]["verdict"]) == ("holds", "does not hold")
    assert entry["readings"]["raw"]["low"] == -1 and run.claim(e)["readings"] == {} and len(run.claims) == 1
    entry = run.claim(e, precondition="it cannot.", others=[weaker])
    assert entry["readings"]["raw"]["verdict"] == "cannot be tested here"


def test_finish_clears_the_parts_of_earlier_runs_alone(tmp_path):
    finished(tmp_path, Model(), seed=8)
    run = Run("arithmetic", Model(), PARAMETERS, tmp_path)
    beside, _ = finished(tmp_path, Model(), seed=9)
    run.step("one", lambda: pd.DataFrame({"value": [1.0]}))
    run.finish()
    assert {part.name.split("-")[0] for part in run.parts.iterdir()} == {"one", "similarity", "trajectory"}
    assert set(run.parts.iterdir()) == run._used | beside._used
    empty = Run("empty", Model(), PARAMETERS, tmp_path)
    assert len(empty.table) == 0 and pd.read_parquet(empty.finish()).empty


def test_results_of_several_models_stand_under_each_other(tmp_path):
    for name in ("organism:hub", "organism:islands"):
        finished(tmp_path, Model(name))
    pd.DataFrame({"times": [20.0]}).to_parquet(tmp_path / "organism-hub" / "bench.parquet")  # no chapter's table
    table = load_results(tmp_path)
    assert set(table.model) == {"organism:hub", "organism:islands"} and set(table.chapter) == {"arithmetic"}
    one = load_results(tmp_path, "arithmetic", "organism:hub")
    assert 2 * len(one) == len(table) and set(one.model) == {"organism:hub"}
    assert one.dtypes.to_dict() == table.dtypes.to_dict()
    assert len(load_claims(tmp_path)) == 4 and load_claims(tmp_path, model="organism:hub")[0]["model"] == "organism:hub"
    for load in (load_results, load_claims):
        with pytest.raises(SemhubError, match="no results of chapter 'code' on model 'x'"):
            load(tmp_path, "code", "x")


def test_model_slugs_are_folder_names_apart(tmp_path):
    for place in ("a", "b"):
        (tmp_path / place / "gpt2").mkdir(parents=True)
    slugs = [
        model_slug("openai/gpt2"), model_slug("organism:hub"), model_slug("openai/gpt2", "step1000"),
        model_slug(str(tmp_path / "a" / "gpt2")), model_slug(str(tmp_path / "b" / "gpt2")), model_slug("../.."),
    ]  # fmt: skip
    assert slugs[:3] == ["openai--gpt2", "organism-hub", "openai--gpt2--step1000"]
    assert len(set(slugs)) == 6 and all(slugs) and not any(set("/\\: ") & set(slug) for slug in slugs)
    assert model_slug(str(tmp_path / "a" / "gpt2") + "/") == slugs[3] and slugs[3].startswith("gpt2-")


GOOD = {"model_id": "gpt2", "revision": None, "device": "cpu", "dtype": "float32", "n_items": 5, "seed": 0}


def test_good_parameters_come_back(tmp_path):
    given = GOOD | {"results_dir": str(tmp_path / "new"), "data_dir": "", "revision": ""}
    assert check_parameters(**given) == given | {"data_dir": None, "revision": None}
    assert (tmp_path / "new").is_dir() and not list((tmp_path / "new").iterdir())
    assert check_parameters(("draws",), draws=7) == {"draws": 7}


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("model_id", "", "organism:hub"), ("model_id", None, "folder"), ("revision", 3, "branch"),
        ("device", "gpu", "cpu"), ("device", "cuda:99", "machine"), ("dtype", "int8", "float32, bfloat16"),
        ("n_items", 0, "whole number from 1"), ("n_items", 2.5, "whole"), ("n_items", True, "whole"),
        ("n_items", "20", "whole"), ("seed", -1, "from 0"), ("data_dir", "/no/such/folder", "exists"),
        ("results_dir", "", "written"), ("results_dir", __file__, "cannot be written"),
        ("results_dir", "/proc/nowhere", "cannot be written"),
    ],
)  # fmt: skip
def test_bad_parameters_are_one_sentence(name, value, says):
    with pytest.raises(SemhubError) as error:
        check_parameters(**(GOOD | {name: value}))
    message = str(error.value)
    assert name in message and says in message and "would do" in message and "\n" not in message
    assert str(value) in message


@pytest.mark.parametrize(("wrong", "near"), [("n_item", "n_items"), ("model", "model_id"), ("dat_dir", "data_dir")])
def test_an_unknown_parameter_names_the_nearest(wrong, near):
    with pytest.raises(SemhubError, match=f"no parameter '{wrong}'; the nearest is '{near}'"):
        check_parameters(**GOOD, **{wrong: 1})


def test_a_results_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SemhubError, match="cannot be written"):
        Run("c", Model(), PARAMETERS, tmp_path / "file")


@pytest.fixture
def displayed(monkeypatch):
    import IPython.display

    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda data, raw, metadata: shown.append((data, metadata)))
    return shown


def test_glue_writes_what_myst_nb_writes(displayed, monkeypatch):
    from IPython.core.interactiveshell import InteractiveShell
    from myst_nb.ext import glue as theirs

    monkeypatch.setattr(theirs, "ipy_display", lambda data, raw, metadata: displayed.append((data, metadata)))
    InteractiveShell.instance()
    glue("share", 0.1, ".2f")
    theirs.glue("share", "0.10", display=False)
    (ours, our_metadata), (want, their_metadata) = displayed
    assert ours == want and our_metadata == their_metadata | {"strip_text_quotes": True}


def test_glued_text_is_printed_as_it_is_by_both_roles(displayed):
    from types import SimpleNamespace

    from myst_nb.core.render import MimeData, NbElementRenderer
    from myst_nb.core.variables import format_plain_text
    from myst_nb.ext.glue import extract_glue_data_cell
    from nbformat.v4 import new_code_cell, new_output

    glue("share", 0.1, ".2f")
    data, metadata = displayed[0]
    cell = new_code_cell(outputs=[new_output("display_data", data=data, metadata=metadata)])
    ((name, output),) = extract_glue_data_cell(cell)
    assert name == "share" and cell.outputs == []
    mime = MimeData("text/plain", output["data"]["text/plain"], output_metadata=output["metadata"])
    assert NbElementRenderer.render_text_plain_inline(SimpleNamespace(), mime)[0].astext() == "0.10"
    assert format_plain_text(output["data"]["text/plain"], "s") == "0.10"


def test_a_patch_has_something_to_show_where_the_run_answers_and_follows_its_own_type(tiny, tmp_path):
    model = tiny("llama")
    chapter = Chapter(Run("arithmetic", model, PARAMETERS, tmp_path), model)

    def table(alone: float, own: float):
        rows = {"task-es": alone, "task-es, own type": own, "task-zh": 0.0, "patch-first": 0.0}
        return pd.concat([
            pd.DataFrame({"experiment": name, "cluster": [str(k) for k in range(30)], "value": share})
            for name, share in rows.items()
        ])  # fmt: skip

    assert chapter.follows(table(1.0, 1.0), "es", "answer", "follow") is None
    assert "the model cannot answer" in chapter.follows(table(0.0, 1.0), "es", "answer", "follow")
    assert "the model cannot follow" in chapter.follows(table(1.0, 0.0), "es", "answer", "follow")

"""The command line: instant help, one sentence per mistake, the right exit status, JSON that parses."""

import json
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

from semhub_utils import book as runs
from semhub_utils import cli, site
from semhub_utils.errors import SemhubError


@pytest.fixture
def put(monkeypatch):
    """put(module, name=...): functions in place of those of a module of the package, which need not be loaded."""

    def one(module, **functions):
        for name, function in functions.items():
            monkeypatch.setattr(f"semhub_utils.{module}.{name}", function)

    return one


@pytest.fixture
def book(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/index\nchapters:\n- file: notebooks/01_first\n")
    parameters = nbformat.v4.new_code_cell('model_id = "some/model"\nn_items = 1\nresults_dir = "results"')
    parameters.metadata["tags"] = ["parameters"]
    cells = [parameters, nbformat.v4.new_code_cell("assert n_items != 13, 'unlucky'")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "notebooks" / "01_first.ipynb")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_help_is_instant():
    """It takes at most twice the time of a Python that does nothing, both started in turn; and loads nothing heavy."""
    script = "import sys, semhub_utils.cli as c\ntry: c.main(['--help'])\nexcept SystemExit: pass\n"
    script += "print({'torch', 'transformers', 'pandas', 'papermill', 'yaml', 'json', 'numpy'} & set(sys.modules))"

    def run(code):
        """The processor time of a Python that runs `code`, as a busy machine changes nothing about that."""
        began = resource.getrusage(resource.RUSAGE_CHILDREN)
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        done = resource.getrusage(resource.RUSAGE_CHILDREN)
        return done.ru_utime + done.ru_stime - began.ru_utime - began.ru_stime, said

    took = [(run(script)[0], run("pass")[0]) for _ in range(10)]
    ratio = min(help_ for help_, _ in took) / min(nothing for _, nothing in took)
    assert ratio <= 2, f"semhub --help takes {ratio:.2f} times as long as Python alone"
    said = run(script)[1]
    assert said.splitlines()[-1] == "set()"
    for command in ("run", "book", "compare", "verify", "check", "bench", "tune", "calibrate", "train", "controls"):
        assert f"    {command} " in said.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "nothing"], "There is no chapter 'nothing'"),
        (["run", "first", "--set", "n_itms=3"], "There is no parameter 'n_itms'"),
        (["run", "first", "--set", "n_items=some"], "n_items was given 'some'"),
        (["run", "first", "--set", "n_items=0"], "n_items is 0"),
        (["check", "nowhere"], "No such model."),
    ],
)
def test_a_mistake_is_one_sentence(book, capsys, put, arguments, sentence):
    def refuse(*args, **options):
        raise SemhubError("No such model.")

    put("loading", load_model=refuse)
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert sentence in captured.err


def test_jobs_must_be_a_number(book, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["run", "first", "--jobs", "0"])
    assert stop.value.code == 2 and "at least 1" in capsys.readouterr().err


def test_an_interrupt_says_that_work_is_kept(book, capsys, put):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    put("book", run=interrupted)
    assert cli.main(["run", "first"]) == 130
    assert "is kept" in capsys.readouterr().err


def test_run_prints_the_notebook_and_a_failure_its_sentence(book, capsys):
    assert cli.main(["run", "first", "--out", "here"]) == 0
    output = Path(capsys.readouterr().out.strip())
    assert output == book / "here" / "some--model" / "01_first.ipynb" and output.exists()
    assert cli.main(["run", "1", "--out", "here", "--set", "n_items=13"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "AssertionError: unlucky" in captured.err and "01_first.log" in captured.err
    assert "Traceback" not in captured.err


def test_book_shows_a_model_where_it_will_do_and_what_failed_as_far_as_it_got(book, capsys, put):
    """And builds nothing where a chapter failed and that is not allowed, or where no chapter takes the model."""
    toc = "format: jb-book\nroot: book/index\nchapters:\n"
    names = ("01_first", "02_second", "03_third")
    (book / "_toc.yml").write_text(toc + "".join(f"- file: notebooks/{name}\n" for name in names))
    done, built = [], {}

    def run(jobs, **options):
        outcomes = []
        for job in jobs:
            done.append((job.chapter.stem, job.parameters))
            refused = job.model == "no/model" or job.chapter.stem == "02_second" and job.model == "my/model"
            failed = job.chapter.stem == "03_third" and job.parameters.get("n_items") == 7
            job.output.parent.mkdir(parents=True, exist_ok=True)
            job.output.write_text(job.model)
            error = "It takes text alone.\nThe notebook: x" if refused else "It broke." if failed else None
            outcomes.append(runs.Outcome(job, 1.0, error=error, code=2 if refused else int(failed)))
        return outcomes

    def build(executed, out, results, *, root, strict, beside):
        built.update({path.stem: path.read_text() for path in executed}, strict=strict, root=root, beside=beside)
        return out / "index.html"

    for name in names[1:]:
        (book / "notebooks" / f"{name}.ipynb").write_bytes((book / "notebooks" / "01_first.ipynb").read_bytes())
    (book / "_config.yml").write_text("title: x\n")
    put("book", run=run)
    put("site", build_site=build)
    mine = book / "mine"
    mine.mkdir()
    (mine / "a.claims.json").touch()
    assert cli.main(["book", "--strict", "--with", str(mine)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(book / "_build" / "html" / "index.html")
    assert built == dict.fromkeys(names, "some/model") | {"root": book, "strict": True, "beside": [mine]}
    done.clear()
    given = ["book", "--model", "my/model", "--set", "n_items=7"]
    assert cli.main(given) == 1
    errors = capsys.readouterr().err.splitlines()
    assert errors == ["It takes text alone. 02_second is shown on its own model.", "It broke."]
    assert [built[name] for name in names] == ["my/model", "some/model", "my/model"] and not built["strict"]
    assert len(done) == 4 and all(parameters["n_items"] == 7 for _, parameters in done)
    built.clear()
    assert cli.main([*given, "--strict"]) == 1 and not built
    done.clear()
    assert cli.main(["book", "--model", "no/model"]) == 2 and not built and len(done) == 3


def test_results_are_put_on_file_and_shown_side_by_side(book, capsys, put):
    """What went wrong is not put there; a model without results is one sentence."""
    kept = []
    put(
        "book",
        run=lambda jobs, **how: [runs.Outcome(job, 1.0, error="Broke." if job.model == "b" else None) for job in jobs],
    )
    put("onfile", record=lambda folder, place, name: kept.append((folder.name, place, name)) or place)
    assert cli.main(["run", "first", "--model", "a", "--model", "b", "--record"]) == 0
    assert cli.main(["run", "first", "--model", "a", "--record", "org/a"]) == 0
    assert kept == [("a", book / "book/results", ""), ("a", book / "book/results", "org/a")]
    put("onfile", find=lambda name, place: name)
    put("holds", as_text=" | ".join, as_page="<br>".join)
    assert cli.main(["compare", "a", "b", "--html", "both.html"]) == 0
    assert (book / "both.html").read_text() == "a<br>b" and "a | b" in capsys.readouterr().out
    put("onfile", find=lambda name, place: SimpleNamespace(stale={"lens": "words"}))
    for differ, code in (([], 0), (["lens: values"], 1)):
        put("onfile", verify=lambda held, root, differ=differ, **how: ([runs.Outcome(None, 1.0)], differ))
        assert cli.main(["verify", "a"]) == code
        out, err = capsys.readouterr()
        assert ("lens: values" in out) == bool(differ) and "lens is stale" in err


def test_run_says_when_a_gpu_stands_idle(book, capsys, monkeypatch, put):
    notebook = nbformat.read(book / "notebooks" / "01_first.ipynb", 4)
    notebook.cells[0].source += '\ndevice = "cpu"'
    nbformat.write(notebook, book / "notebooks" / "01_first.ipynb")
    put("book", run=lambda jobs, **options: [runs.Outcome(job, 0.0) for job in jobs])
    for there, more, said in ((True, (), 1), (True, ("--set", "device=cpu"), 0), (False, (), 0)):
        monkeypatch.setattr("torch.cuda.is_available", lambda there=there: there)
        assert cli.main(["run", "first", *more]) == 0
        assert capsys.readouterr().err.count("--set device=cuda") == said


@pytest.mark.parametrize("passed", [True, False])
def test_check_reports_and_fails(put, capsys, passed):
    from semhub_utils.loading import Check

    handle = SimpleNamespace(revision=None, fingerprint="0f", n_layers=2, hidden_size=8, vocab_size=99)
    handle.modalities, loaded = frozenset({"text", "image"}), []
    checks = [Check("lens", 1e-7, 5e-5, "same"), Check("padding", 0.0 if passed else 1.0, 5e-5, "alone")]
    load = {"load_model": lambda name, **options: loaded.append(options) or handle}
    put("loading", self_check=lambda model, raise_on_failure: checks, **load)
    assert cli.main(["check", "a/b", "--json"]) == (0 if passed else 1)
    report = json.loads(capsys.readouterr().out)
    assert report["modalities"] == ["image", "text"]
    assert report["passed"] is passed and report["checks"][1]["name"] == "padding" and report["layers"] == 2
    assert cli.main(["check", "a/b"]) == (0 if passed else 1)
    assert ("FAIL" in capsys.readouterr().out) is not passed
    cli.main(["check", "a/b", "--device", "cuda", "--dtype", "bfloat16"])
    assert [(of["device"], of["dtype"]) for of in loaded] == [(None, "float32")] * 2 + [("cuda", "bfloat16")]


def test_bench_prints_one_json_object_or_tables(put, capsys):
    report = dict.fromkeys(("layers", "hidden", "vocabulary", "threads"), 2)
    report |= {"model": "m", "device": "cpu", "dtype": "float32", "versions": {"torch": "9"}}
    put("bench", bench=lambda *args, **options: report)
    assert cli.main(["bench", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == report
    assert cli.main(["bench"]) == 0
    assert capsys.readouterr().out == site.bench_tables(report) + "\n"


def test_train_hands_on_what_was_asked(put, capsys, tmp_path):
    calls = []
    put("organism.llama", train=lambda name, folder, **options: calls.append((name, folder, options)) or folder)
    assert cli.main(["train", "hub", "--out", str(tmp_path), "--seed", "3", "--minutes", "1.5"]) == 0
    assert calls == [("hub", tmp_path, {"seed": 3, "device": "cpu", "minutes": 1.5})]
    captured = capsys.readouterr()
    assert captured.out == f"{tmp_path}\n" and "trains on" in captured.err

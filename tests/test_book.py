"""Chapters run, resume, fail and stop as the command line promises. The chapters here are made on the fly."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import nbformat
import pytest

from semhub_utils import book as runs
from semhub_utils import cli
from semhub_utils.errors import SemhubError
from semhub_utils.identity import beside

REPOSITORY = Path(runs.__file__).resolve().parents[1]

PARAMETERS = """
model_id = "some/model"
revision = None
n_items = 3  # how many
rate = 0.5
verbose = False
results_dir = "_build/results"
"""

COUNT = """
from pathlib import Path
folder = Path(results_dir) / "calls"
folder.mkdir(parents=True, exist_ok=True)
with open(folder / f"{model_id.split('/')[-1]}.txt", "a") as file:
    file.write("x")
print("n_items is", n_items)
"""


def chapter(book: Path, stem: str, *cells: str, parameters: str = PARAMETERS) -> Path:
    """A notebook of these cells, named in the contents."""
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    notebook.cells.append(nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    notebook.cells += [nbformat.v4.new_code_cell(textwrap.dedent(cell)) for cell in cells]
    path = book / "notebooks" / f"{stem}.ipynb"
    nbformat.write(notebook, path)
    listed = (book / "_toc.yml").read_text()
    if stem not in listed:
        (book / "_toc.yml").write_text(f"{listed}  - file: notebooks/{stem}\n")
    return path


@pytest.fixture
def book(tmp_path, monkeypatch):
    root = tmp_path / "book"
    (root / "notebooks").mkdir(parents=True)
    (root / "_toc.yml").write_text("format: jb-book\nroot: book/index\nparts:\n- caption: One\n  chapters:\n")
    monkeypatch.chdir(root)
    return root


def planned(book, chosen="all", models=(None,), **options):
    out = {"out": book / "runs", "results_dir": book / "runs" / "results"}
    return runs.plan(runs.choose(book, chosen), models, **out | options)


def run(book, *, workers=1, **options):
    return runs.run(planned(book, **options), workers=workers, say=lambda line: None)


def calls(book, name):
    return "".join(path.read_text() for path in (book / "runs" / "results").glob(f"**/calls/{name}.txt"))


def until(condition, seconds, sentence="it took too long"):
    deadline = time.time() + seconds
    while not condition():
        assert time.time() < deadline, sentence
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Running, and not only waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_chapters_are_those_of_the_contents_by_name_and_number_from_any_folder_below(book, monkeypatch):
    chapter(book, "02_second")
    chapter(book, "01_first")
    (book / "notebooks" / "draft.ipynb").write_text("{}")
    deep = book / "a" / "b"
    deep.mkdir(parents=True)
    assert runs.find_book(deep) == book
    assert [c.stem for c in runs.choose(book, "all")] == ["02_second", "01_first"]
    for wanted in ("second", "2", "02", "02_second"):
        assert [c.stem for c in runs.choose(book, wanted)] == ["02_second"]
    with pytest.raises(SemhubError, match="no chapter 'third'.*02_second, 01_first"):
        runs.choose(book, "third")
    (book / "notebooks" / "01_first.ipynb").unlink()
    with pytest.raises(SemhubError, match="01_first"):
        runs.chapters(book)
    monkeypatch.setattr(runs, "PACKAGE", book.parent / "site-packages" / "semhub_utils")
    with pytest.raises(SemhubError, match="clone"):
        runs.find_book(book.parent)


def test_settings_are_values():
    given = ["n_items=20", "rate=1e-3", "names=[a, b]", "word=plus", "on=true"]
    read = {"n_items": 20, "rate": 0.001, "names": ["a", "b"], "word": "plus", "on": True}
    assert cli.parse_settings(given) == read
    for wrong, sentence in (("n_items", "name=value"), ("names=[a", "not a value YAML can read")):
        with pytest.raises(SemhubError, match=sentence):
            cli.parse_settings([wrong])


def test_parameters_are_read_and_checked(book):
    chapter(book, "01_first")
    [first] = runs.choose(book, "first")
    assert first.parameters["n_items"] == 3 and first.parameters["revision"] is None
    [job] = planned(book, models=["org/name"], settings={"rate": 1})
    assert job.parameters == {"rate": 1, "model_id": "org/name", "results_dir": str(book / "runs/results/rate-1")}
    for settings, sentence in (
        ({"n_itms": 2}, "no parameter 'n_itms'.*n_items"),
        ({"n_items": "many"}, "n_items was given 'many'.*such as 3"),
        ({"n_items": True}, "n_items was given True"),
    ):
        with pytest.raises(SemhubError, match=sentence):
            planned(book, settings=settings)
    chapter(book, "01_first", parameters="n_items: int = 3\nfirst = last = 1.5\n")
    [first] = runs.choose(book, "first")
    assert first.parameters == {"n_items": 3, "first": 1.5, "last": 1.5}
    chapter(book, "01_first", parameters="n_items = len('abc')")
    with pytest.raises(SemhubError, match="only set names to plain values"):
        planned(book)


def test_a_model_and_revision_can_be_set_like_other_parameters_but_not_twice_over(book):
    chapter(book, "01_first")
    (book / "gpt2").mkdir()
    own = {"model_id": "org/name", "revision": "step1", "results_dir": str(book / "mine")}
    [job] = planned(book, settings=own | {"results_dir": "mine"})
    assert job.parameters == own and job.model == "org/name"
    assert job.output == book / "runs" / "org--name--step1" / "01_first.ipynb"
    assert planned(book, models=["org/name"], revision="step1", settings=own) == [job]
    assert planned(book, settings={"model_id": "gpt2"}) == planned(book, models=["gpt2"])
    for given, sentence in (
        ({"models": ["other"]}, "model_id was given 'other' and by --set 'org/name'"),
        ({"revision": "step2"}, "revision was given 'step2' and by --set 'step1'"),
    ):
        with pytest.raises(SemhubError, match=sentence):
            planned(book, settings=own, **given)


def test_runs_with_other_parameters_stand_apart(book):
    chapter(book, "01_first", parameters=PARAMETERS + "data_dir = None\n")
    for folder in ("a/coco", "b/coco"):
        (book / folder).mkdir(parents=True)

    def of(apart=True, **settings):
        [job] = planned(book, settings=settings, apart=apart)
        return job

    assert of().output == of(n_items=3, results_dir="x").output == book / "runs/some--model/01_first.ipynb"
    assert of(n_items=3).results == of().results == book / "runs/results/some--model"
    assert of(n_items=4, rate=-1).output == book / "runs/n_items-4--rate--1/some--model/01_first.ipynb"
    some = [{"n_items": 1}, {"n_items": 2}, {"rate": 1}, {"rate": -1}, {"data_dir": "a/coco"}, {"data_dir": "b/coco"}]
    for place in ("output", "results"):
        assert len({getattr(of(**settings), place) for settings in [{}, *some]}) == 7
    assert of(data_dir="a/coco").output == of(data_dir=str(book / "a/coco")).output
    assert of(apart=False, n_items=4).output == of().output


@contextmanager
def changed(path: Path, text: str | None):
    """Meanwhile the file holds another text, or none is there; then all is as before, its time too."""
    before, times = path.read_text(), path.stat()
    path.unlink() if text is None else path.write_text(text)
    yield
    path.write_text(before)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_a_run_leaves_its_source_alone_and_is_done_again_only_when_something_changed(book, monkeypatch):
    """Its source, a parameter, the model's weights, the data, a library, a file of the package, such as the script of a
    widget, the results that are there, or what a record holds; but not when what runs leave lies among the data. Its
    kernel is this interpreter with this package."""
    write = """
        import sys, semhub_utils
        from semhub_utils.identity import model_slug
        folder = Path(results_dir) / model_slug(model_id) / "similarity"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "first.parquet").write_text("table")
        print(sys.executable, semhub_utils.__file__)
    """
    source = chapter(book, "01_first", COUNT, write, parameters=PARAMETERS + "data_dir = None\n")
    (book / "weights").mkdir()
    for name in ("weights/model.safetensors", "weights/config.json", "text.txt"):
        (book / name).write_text("one")
    before, given = source.read_bytes(), {"models": ["weights"], "settings": {"n_items": 7, "data_dir": str(book)}}
    [outcome] = run(book, **given)
    assert outcome.error is None and not outcome.skipped and source.read_bytes() == before
    executed = nbformat.read(outcome.job.output, 4)
    assert "n_items is 7" in executed.cells[2].outputs[0].text
    assert executed.cells[3].outputs[0].text == f"{sys.executable} {REPOSITORY / 'semhub_utils/__init__.py'}\n"
    assert executed.cells[1].metadata.tags == ["injected-parameters", "remove-cell"]
    assert run(book, **given)[0].skipped and calls(book, "weights") == "x"

    [table] = (book / "runs" / "results").glob("**/first.parquet")
    older = json.dumps({"stamp": json.loads(outcome.job.record.read_text())["stamp"], "results": []})
    changes = [(source, before.decode() + " "), (book / "weights/model.safetensors", "two, longer")]
    changes += [(book / "text.txt", "two"), (table, None), (outcome.job.output, None), (outcome.job.record, older)]
    for path, text in changes:
        with changed(path, text):
            assert not runs.is_done(replace(outcome.job, chapter=runs.Notebook(source))), path
        assert runs.is_done(outcome.job)
    assert not runs.is_done(replace(outcome.job, parameters=outcome.job.parameters | {"n_items": 8}))
    os.utime(book / "text.txt", ns=(1, 1))
    assert not runs.is_done(outcome.job)
    assert not run(book, **given)[0].skipped and calls(book, "weights") == "xx"
    for name, other in (("versions", {"torch": "another"}), ("of_package", "another")):
        with monkeypatch.context() as patch:
            patch.setattr(runs, name, lambda other=other: other)
            assert not runs.is_done(outcome.job)
        assert runs.is_done(outcome.job)


def test_a_lens_or_a_commit_that_came_to_a_model_of_the_hub_is_run_again(book, monkeypatch):
    repository = book / "hub" / "models--some--model"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(book / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(book))

    def write(name, text):
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_text(text)

    [job] = [job for _ in [chapter(book, "01_first")] for job in planned(book)]
    monkeypatch.setattr(runs, "_execute", lambda job, kernels, say: (write("refs/main", "c0"),
                        write("snapshots/c0/config.json", "{}"), job.output.write_text("{}")))  # fmt: skip
    assert not run(book)[0].skipped
    assert run(book)[0].skipped, "the commit is known only when the model was fetched"
    beside("some/model").mkdir(parents=True)
    (beside("some/model") / "tuned.safetensors").write_text("lens")
    assert not runs.is_done(job) and not run(book)[0].skipped and runs.is_done(job)
    write("refs/main", "c1")
    write("snapshots/c1/config.json", "{}")
    assert not runs.is_done(job)


def test_a_fresh_run_takes_no_step_from_its_own_parts_and_leaves_those_of_others(book):
    chapter(book, "01_first", COUNT)
    [job] = planned(book)
    parts = [job.results / f"{name}.parts" / "step-0123.parquet" for name in ("first", "second")]
    for part in parts:
        part.parent.mkdir(parents=True)
        part.write_text("table")
    runs.run([job], say=lambda line: None)
    assert all(part.exists() for part in parts)
    runs.run([job], fresh=True, say=lambda line: None)
    assert [part.exists() for part in parts] == [False, True] and calls(book, "model") == "xx"


def test_two_workers_overlap_and_a_failure_ends_no_other(book):
    wait = """
        import time
        from pathlib import Path
        Path(results_dir).mkdir(parents=True, exist_ok=True)
        (Path(results_dir) / mine).touch()
        deadline = time.time() + 60
        while not (Path(results_dir) / theirs).exists():
            assert time.time() < deadline, "the other chapter did not run beside this one"
            time.sleep(0.05)
    """
    chapter(book, "01_first", 'mine, theirs = "1", "2"', wait)
    chapter(book, "02_second", 'mine, theirs = "2", "1"', wait, "1 / 0")
    first, second = run(book, workers=2)
    assert first.error is None, first.error
    assert second.code == 1
    assert "02_second on some/model" in second.error and "ZeroDivisionError: division by zero" in second.error
    assert "ZeroDivisionError" in second.job.log.read_text() and "\x1b" not in second.job.log.read_text()


def test_a_sentence_raised_in_a_chapter_is_that_of_the_run_and_a_kernel_that_dies_is_reported(book):
    sentence = "n_items was given 0; it takes at least 1."
    chapter(book, "01_first", f"from semhub_utils.errors import SemhubError\nraise SemhubError({sentence!r})")
    chapter(book, "02_second", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    told = "import os, signal\nfor of in (signal.SIGUSR1, signal.SIGUSR2):\n    os.kill(os.getpid(), of)"
    chapter(book, "03_third", told)  # as schedulers tell all processes
    said, died, went_on = run(book, workers=2)
    assert said.code == 2 and went_on.error is None
    assert said.error.splitlines() == [sentence, f"The notebook as far as it got: {said.job.output}"]
    assert said.job.output.exists() and not said.job.record.exists()
    assert died.code == 1 and "02_second on some/model" in died.error


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_a_stopped_run_leaves_no_kernel_and_resumes(book, sent):
    hang = """
        import os, time
        from pathlib import Path
        (Path(results_dir) / "pid").write_text(str(os.getpid()))
        while not (Path(results_dir) / "go").exists():
            time.sleep(0.05)
    """
    chapter(book, "01_first", COUNT)
    chapter(book, "02_second", COUNT, hang)
    command = [sys.executable, "-m", "semhub_utils.cli", "run", "all"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    # a shell that runs the tests in the background has its children ignore the keyboard
    listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, cwd=book, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=listen)
    pid = book / "runs" / "results" / "pid"
    until(lambda: process.poll() is not None or pid.exists() and pid.read_text(), 90)
    process.send_signal(sent)
    errors = process.communicate(timeout=180)[1]
    assert process.returncode == 130, errors
    assert errors.strip().splitlines()[-1].startswith("Stopped; what was done is kept")
    assert "Traceback" not in errors
    until(lambda: not alive(int(pid.read_text())), 10, "the kernel outlived the run")

    (book / "runs" / "results" / "go").touch()
    first, second = run(book)
    assert first.skipped and not second.skipped and second.error is None
    assert calls(book, "model") == "xxx" and runs.is_done(second.job)


def test_each_worker_has_its_share_of_the_cores_unless_the_user_says(monkeypatch):
    monkeypatch.setattr(runs.os, "cpu_count", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    given = [runs.environment(workers) for workers in (1, 3, 9)]
    assert [e["OMP_NUM_THREADS"] for e in given] == ["6", "2", "1"] and given[0]["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert runs.environment(3)["OMP_NUM_THREADS"] == "5"


def test_what_a_chapter_forwards_is_counted_in_a_run_from_nothing(book):
    """A step that is taken from disk read something that is not known any more."""
    count = """
        from contextlib import nullcontext
        from types import SimpleNamespace
        import pandas as pd
        from semhub_utils.results import Run
        store = SimpleNamespace(ratios=lambda: {"read": 1.02, "edit": 1.25}, step=nullcontext, forwarded={"read": 90})
        model = SimpleNamespace(model_id=model_id, revision=None, fingerprint="0", store=store)
        for _ in range(again + 1):
            run = Run(name, model, {"seed": 0}, results_dir)
            run.run("step", ["key"], lambda: pd.DataFrame({"value": [1.0]}))
            run.finish()
    """
    chapter(book, "01_first", "again, name = 0, 'first'", count)
    chapter(book, "02_second", "again, name = 1, 'second'", count)
    outcomes, counted = runs.forwarded(runs.choose(book, "all"), say=lambda line: None)
    assert not any(outcome.error for outcome in outcomes)
    assert counted == {"first": {"read": 1.02, "edit": 1.25}, "second": {}}
    assert not outcomes[0].job.output.exists()

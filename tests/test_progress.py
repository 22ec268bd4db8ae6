"""What a run says of how far it is."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from architectures import PROMPTS

from semhub_utils import cli, progress, training
from semhub_utils.results import Run
from semhub_utils.states import hidden_states


@pytest.fixture
def noted(tmp_path, monkeypatch):
    """noted(): what was noted last."""
    path = Path(progress.variables(tmp_path)[progress.FILE])
    monkeypatch.setenv(progress.FILE, str(path))
    monkeypatch.setattr(progress, "_known", {})
    monkeypatch.setattr(progress, "_written", [0.0])
    return lambda: json.loads(path.read_text("utf-8")) if path.exists() else None


def test_a_step_and_its_prompts_are_noted(tiny, noted, tmp_path, monkeypatch):
    monkeypatch.setattr(progress.time, "monotonic", lambda now=[0.0]: now.__setitem__(0, now[0] + 2) or now[0])
    model, seen = tiny("llama"), []

    def compute():
        seen.append(noted())
        hidden_states(model, PROMPTS, max_batch_tokens=1)
        seen.append(noted())
        import pandas as pd

        return pd.DataFrame({"value": [1.0]})

    Run("x", model, {}, tmp_path).run("words", [1], compute)
    assert seen[0] == {"step": "words", "done": 0, "total": 0, "cell": 1}
    assert seen[1]["done"] == seen[1]["total"] > 1


def test_outside_a_run_nothing_is_written(tiny, tmp_path, monkeypatch):
    monkeypatch.delenv(progress.FILE, raising=False)
    monkeypatch.chdir(tmp_path)
    hidden_states(tiny("llama"), PROMPTS)
    assert not [*tmp_path.iterdir()]


def test_a_full_disk_does_not_end_a_run_for_its_progress(noted, monkeypatch, tmp_path):
    monkeypatch.setenv(progress.FILE, str(tmp_path / "no" / "folder"))
    progress.note(step="x")


def test_a_line_tells_chapter_step_prompts_and_time_left(tmp_path, monkeypatch):
    known = {"step": "Lens french", "done": 320, "total": 1000, "cell": 4}
    said = progress.line("03_arithmetic on gpt2", 8, known, 600)
    assert said == (
        "  running  03_arithmetic on gpt2, Lens french, 320 of 1,000 prompts: cell 4 of 8, 10 min, about 14 min left"
    )
    monkeypatch.setattr(progress, "EVERY", 0.05)
    notebook, lines = tmp_path / "n.ipynb", []
    notebook.write_text(json.dumps({"cells": [{"cell_type": "code"}] * 7 + [{"cell_type": "markdown"}]}), "utf-8")
    Path(progress.variables(tmp_path)[progress.FILE]).write_text(json.dumps(known), "utf-8")
    with progress.told("a title", notebook, tmp_path, lines.append):
        time.sleep(0.5)
    assert lines and all("cell 4 of 8" in of for of in lines)
    n = len(lines)
    time.sleep(0.2)
    assert len(lines) == n, "it ends with the chapter"


def test_nothing_noted_yet_is_no_line(tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0.05)
    notebook, lines = tmp_path / "n.ipynb", []
    notebook.write_text('{"cells": []}', "utf-8")
    with progress.told("a title", notebook, tmp_path, lines.append):
        time.sleep(0.2)
    assert lines == []


def test_a_chapter_that_runs_says_where_it_is_without_a_terminal(tmp_path, monkeypatch, capsys):
    """And what it leaves in its temporary folder is gone with it."""
    monkeypatch.setattr(progress, "EVERY", 0.2)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    given = ["--set", "n_items=8", "--set", "device=auto,cpu=1GB", "--out", str(tmp_path / "out")]
    assert cli.main(["run", "arithmetic", *given]) == 0
    said = capsys.readouterr().err
    running = [of for of in said.splitlines() if of.startswith("  running  03_arithmetic on organism:hub")]
    assert any("prompts" in of for of in running) and any("min left" in of for of in running), said
    assert "%|" not in said and "Loading" not in said
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("semhub-")]


def test_bars_of_a_log_are_a_line_a_minute(monkeypatch, tmp_path):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    for name in ("TQDM_MININTERVAL", "TQDM_BAR_FORMAT"):
        monkeypatch.delenv(name, raising=False)
    assert cli.main(["compare", str(tmp_path)]) == 2
    assert os.environ["TQDM_MININTERVAL"] == "60" and os.environ["TQDM_BAR_FORMAT"].endswith("\n")


def test_the_trainers_bar_too(monkeypatch, tmp_path):
    """It leaves open how often it is drawn, which the library takes from the environment when it is first loaded."""
    asked = {}

    def bar(**how):
        asked.update(how)
        raise InterruptedError

    monkeypatch.setattr(training, "tqdm", bar)
    with pytest.raises(InterruptedError):
        training.run([(1, training.Stretch)], tmp_path / "x", {}, name="x")
    assert asked.keys() == {"total", "disable", "desc", "unit"}
    given = "from semhub_utils import cli; cli.main(['compare', 'x']); from tqdm.auto import tqdm; "
    given += "bar = tqdm(total=9); bar.update(3); bar.refresh(); print(bar.mininterval, bar.maxinterval)"
    done = subprocess.run([sys.executable, "-c", given], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "60.0 60.0\n" and done.stderr.endswith("\n") and "3 of 9" in done.stderr

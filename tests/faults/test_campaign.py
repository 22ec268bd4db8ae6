"""Two hundred bad inputs through the command itself, in one process: each gets one sentence, the right exit code and no
traceback, and what was there is still there. Chapters run in this process too, in place of a kernel's."""

import hashlib
import re
import shutil
import traceback
from functools import cache

import nbformat
import pytest
from architectures import make_module, make_tokenizer
from bad import FAULTS, KINDS
from papermill.exceptions import PapermillExecutionError

from semhub_utils import book, chapter, cli
from semhub_utils.loading import load_model

STATE = re.compile(r"^\s+(failed|done|unchanged)  .*$|^The notebook as far as it got: .*$|^usage: .*$|^ {7,}.*$")


def here(job, kernels, say):
    """A chapter's cells in this process, with what papermill raises for an exception."""
    names, notebook = {"__name__": "__main__"}, nbformat.read(job.chapter.path, 4)
    for number, cell in enumerate(notebook.cells):
        tags = cell.metadata.get("tags", [])
        if cell.cell_type != "code" or "remove-cell" in tags:
            continue
        try:
            exec(compile(cell.source, f"cell {number}", "exec"), names)
            names |= job.parameters if "parameters" in tags else {}
        except Exception as error:
            told = {"ename": type(error).__name__, "evalue": str(error), "traceback": traceback.format_exception(error)}
            raise PapermillExecutionError(number, number, cell.source, **told) from error
    job.output.write_text(nbformat.writes(notebook))


@pytest.fixture(scope="session")
def sound(tmp_path_factory):
    """A tiny model that passes every check."""
    path = tmp_path_factory.mktemp("sound")
    make_module("llama").save_pretrained(path)
    make_tokenizer("byte").save_pretrained(path)
    return path


def contents(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_there_are_many_of_many_kinds():
    assert len(FAULTS) >= 200 and len(KINDS) >= 40 and max(KINDS.values()) <= 8
    assert len({str(one) for one in FAULTS}) == len(FAULTS)


@cache
def shipped(name, **given):
    """An organism, loaded and checked once for all."""
    return load_model(name, **given)


def loaded(name, **given):
    return (shipped if name.startswith("organism:") or "/sound" in name else load_model)(name, **given)


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_bad_input_gets_one_sentence(fault, sound, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(book, "_execute", here)
    monkeypatch.setattr(chapter, "load_model", loaded)
    shutil.copytree(sound, tmp_path / "model")
    (tmp_path / "sound").symlink_to(sound)
    given = fault.make(tmp_path)
    before = contents(tmp_path)
    capsys.readouterr()  # what saving says
    try:
        code = cli.main(given)
    except SystemExit as stop:  # the parser of arguments
        code = stop.code
    captured = capsys.readouterr()
    assert code == fault.code, captured.err
    assert "Traceback" not in captured.out + captured.err
    if code == 1:  # a check that fails says which
        assert "FAIL" in captured.out and not captured.err
    else:
        said = [line for line in captured.err.splitlines() if line.strip() and not STATE.match(line)]
        assert len(said) == 1, captured.err
        assert re.search(fault.said, said[0]), said[0]
        assert said[0].endswith(".") or "error: " in said[0]
        assert not re.search(r"(?<![A-Z ].)[a-z\d)]\. [A-Z]", said[0].split("Left out:")[0].split("It ")[0]), said[0]
    after = contents(tmp_path)
    assert before.items() <= after.items() and "RAN" not in after
    assert not [name for name in after if re.search(r"/\.[^/]+\.\w{8}$", name)]  # no half of a file


def test_a_sound_model_passes(sound, capsys):
    assert cli.main(["check", str(sound)]) == 0
    captured = capsys.readouterr()
    assert captured.out.count("  pass  ") >= 8 and captured.err == ""

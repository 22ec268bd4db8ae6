"""The package as a user has it: wheel and sdist beside Colab's versions, torchvision present, from another folder."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TORCH = next(line for line in (ROOT / "requirements.txt").read_text("utf-8").splitlines() if line.startswith("torch=="))


def without_operators(torchvision: Path) -> None:
    """A registry's build wants a torch with CUDA: its operators in C are left out, which nothing here calls, so that it
    imports beside a torch for the CPU."""
    path = torchvision / "_meta_registrations.py"
    path.write_text(re.sub(r"^@.*register_(meta|fake)\(.*\)\n", "", path.read_text("utf-8"), flags=re.M), "utf-8")


@pytest.fixture(scope="module", params=["wheel", "sdist"])
def colab(request, environment, tmp_path_factory):
    built, source = tmp_path_factory.mktemp("built"), tmp_path_factory.mktemp("source") / "book"
    subprocess.run(["git", "clone", "-q", ROOT, source], check=True)
    made = environment(TORCH, f"-r {ROOT / 'tests' / 'weekly' / 'colab.txt'} build", "--no-deps torchvision")
    [site] = made.bin.parent.glob("lib/python*/site-packages")
    without_operators(site / "torchvision")
    subprocess.run([made.bin / "python", "-m", "build", f"--{request.param}", "-o", built, source], check=True)
    shutil.rmtree(source)
    [file] = built.iterdir()
    made.install("-c", str(ROOT / "tests" / "weekly" / "colab.txt"), str(file))
    return made


def test_colab_keeps_its_own_versions(colab, tmp_path):
    _, said = colab.run("pip", "freeze", cwd=tmp_path)
    wanted = [line for line in (ROOT / "tests/weekly/colab.txt").read_text("utf-8").splitlines() if "==" in line[:30]]
    assert {*wanted} <= {*said.splitlines()}


def test_commands_work_where_there_is_no_checkout(colab, tmp_path):
    read_only = tmp_path / "read-only"
    read_only.mkdir(mode=0o555)
    for model in ("organism:hub", "organism:hub-sees", "organism:hub-hears"):
        status, said = colab.run("semhub", "check", model, cwd=read_only)
        assert status == 0 and "FAIL" not in said, said
    status, said = colab.run("semhub", "book", cwd=tmp_path)
    assert status == 2 and "clone it" in said and "Traceback" not in said
    out = tmp_path / "out"
    for chapter, n in (("arithmetic", 40), ("vision", 24)):
        given = ("--set", f"n_items={n}", "--out", str(out))
        status, said = colab.run("semhub", "run", chapter, *given, cwd=read_only)
        assert status == 0, said
    assert len([*out.rglob("*.claims.json")]) == 2
    lines = tmp_path / "lines.txt"
    lines.write_text("\n".join(f"the dog can bark {n} times" for n in range(64)), "utf-8")
    given = ("--text", str(lines), "--steps", "5", "--out", str(tmp_path / "lens"))
    status, said = colab.run("semhub", "tune", "organism:hub", *given, cwd=tmp_path)
    assert status == 0, said


def test_a_notebook_alone_runs_beside_a_foreign_kernel(colab, tmp_path):
    """The documented papermill command; a `python3` kernelspec of another interpreter is no matter."""
    share = tmp_path / "share"
    foreign = share / "jupyter" / "kernels" / "python3" / "kernel.json"
    foreign.parent.mkdir(parents=True)
    foreign.write_text('{"argv": ["/bin/false"], "display_name": "other", "language": "python"}', "utf-8")
    notebook = tmp_path / "03_arithmetic.ipynb"
    shutil.copy(ROOT / "notebooks" / notebook.name, notebook)
    own = ["python", "-m", "ipykernel", "install", "--prefix", str(colab.bin.parent), "--name", "semhub"]
    assert colab.run(*own, cwd=tmp_path)[0] == 0
    command = ["papermill", str(notebook), str(tmp_path / "out.ipynb"), "-k", "semhub", "-p", "n_items", "40"]
    status, said = colab.run(*command, cwd=tmp_path, JUPYTER_PATH=str(share / "jupyter"))
    assert status == 0, said
    assert (tmp_path / "results" / "organism-hub" / "arithmetic.claims.json").is_file()


def test_the_wheel_holds_what_a_user_needs(colab):
    [site] = colab.bin.parent.glob("lib/python*/site-packages/semhub_utils")
    held = {path.name for path in (site / "chapters" / "notebooks").iterdir()}
    assert held == {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}

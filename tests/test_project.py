"""The project as a whole: one source of pins, one address, both sides of each chapter alike, no foreign matter."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import jupytext
import pytest
import yaml
from launch import (
    BADGE_MARK,
    INSTALL_MARK,
    MENTIONS,
    ROOT,
    chapters,
    exercises,
    expected_badge,
    expected_install_cell,
    folder_of,
    repository_url,
)
from packaging.requirements import Requirement
from packaging.version import Version

# What Colab's image of August 2026 holds; the package has to accept it as it is.
COLAB = {"python": "3.13", "torch": "2.11.0", "transformers": "5.15.0", "altair": "5.5.0", "ipywidgets": "7.7.1"}
COLAB |= {"anywidget": "0.9.21", "numpy": "2.1.0", "pandas": "2.2.0"}


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def pins() -> dict[str, str]:
    lines = (line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text("utf-8").splitlines())
    found = {}
    for line in filter(None, lines):
        requirement = Requirement(line)
        [specifier] = requirement.specifier
        assert specifier.operator == "==", f"{line} is not an exact pin"
        assert requirement.name not in found, f"{requirement.name} is pinned twice"
        found[requirement.name] = specifier.version
    return found


def bounds() -> dict[str, Requirement]:
    return {requirement.name: requirement for requirement in map(Requirement, project()["dependencies"])}


def test_every_dependency_is_pinned_within_its_bound():
    for name, requirement in bounds().items():
        assert requirement.specifier.contains(pins()[name]), f"{requirement} does not admit the pin {pins()[name]}"


def test_colab_needs_no_other_version_of_what_it_has():
    for name, requirement in bounds().items():
        if name in COLAB:
            assert requirement.specifier.contains(COLAB[name]), f"{requirement} would replace Colab's {COLAB[name]}"
    minimum = Version(project()["requires-python"].removeprefix(">="))
    assert Version(COLAB["python"]) >= minimum


def test_pins_are_written_in_one_place():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    *conda, pip = environment["dependencies"]
    assert pip == {"pip": ["-r requirements.txt", "-e ."]}
    assert [name.partition("=")[0] for name in conda] == ["python", "pip"]
    assert Version(conda[0].partition("=")[2]) >= Version("3.11")
    for name in ("Makefile", ".ci/run", ".github/workflows/book.yml", "pyproject.toml"):
        assert not re.search(r"==\s*\d", (ROOT / name).read_text("utf-8")), f"{name} repeats a pin"


def test_jupyter_book_is_of_the_first_major_version():
    assert Version(pins()["jupyter-book"]).major == 1


@pytest.mark.parametrize(("name", "before"), MENTIONS.items())
def test_the_address_is_the_one_of_the_settings(name, before):
    found = re.findall(rf"{before}(\S+)", (ROOT / name).read_text("utf-8"))
    assert found == [repository_url()]


def comparable(notebook) -> list[tuple]:
    return [(c.cell_type, c.source, sorted(c.metadata.get("tags", []))) for c in notebook.cells]


@pytest.mark.parametrize("path", [*chapters(), *exercises()], ids=lambda p: f"{p.parent.name}/{p.stem}")
class TestNotebook:
    def test_both_sides_are_alike(self, path):
        assert comparable(jupytext.read(path)) == comparable(jupytext.read(path.with_suffix(".py")))

    def test_the_notebook_holds_no_output_but_what_solutions_print(self, path):
        for cell in jupytext.read(path).cells:
            if cell.cell_type == "code":
                kinds = ["stream"] * ("solution" in cell.metadata.get("tags", []))
                assert [output.output_type for output in cell.outputs] == kinds and cell.execution_count is None

    def test_badge_and_install_cell_come_from_the_settings(self, path):
        cells = jupytext.read(path).cells
        badges = [line for cell in cells for line in cell.source.splitlines() if BADGE_MARK in line]
        assert badges == [expected_badge(path.stem, folder_of(path))]
        installs = [cell for cell in cells if cell.cell_type == "code" and INSTALL_MARK in cell.source]
        assert [cell.source for cell in installs] == [expected_install_cell()]
        assert "remove-cell" in installs[0].metadata["tags"]


@pytest.mark.parametrize("path", chapters(), ids=lambda p: p.stem)
def test_one_cell_holds_the_parameters(path):
    [cell] = [c for c in jupytext.read(path).cells if "parameters" in c.metadata.get("tags", [])]
    names = {target.id for node in ast.parse(cell.source).body for target in node.targets}
    needed = {"model_id", "revision", "device", "dtype", "items", "n_items", "seed", "data_dir", "results_dir"}
    assert needed <= names


def test_every_chapter_of_the_contents_has_both_sides():
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    listed = [e["file"] for part in contents["parts"] for e in part["chapters"] if e["file"].startswith("notebooks/")]
    assert sorted(listed) == [f"notebooks/{path.stem}" for path in chapters()]


def tracked_text() -> list[tuple[str, str]]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git clone")
    found = []
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if "/vendor/" in name or "/samples/cc-cedict/" in name or name == "tests/test_project.py" or not path.is_file():
            continue
        try:
            found.append((name, path.read_text("utf-8")))
        except UnicodeDecodeError:
            continue  # weights, fonts
    return found


# Traces of a machine, of tokens, and of what the project has sworn off.
FORBIDDEN = {
    "a path of somebody's machine": r"(?<![\w.])/(?:home|root|Users|work|mnt)/\w",
    "a token": r"\bhf_[A-Za-z0-9]{20,}|\bgh[pousr]_[A-Za-z0-9]{20,}",
    "a package index": r"--(?:extra-)?index-url|--find-links|files\.pythonhosted|download\.pytorch|registry\.npmjs",
    "pickle": r"\b(?:import pickle|pickle\.loads?|torch\.load\()",
    "remote code": r"trust_remote_code\s*=\s*True",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_holds(what):
    found = [f"{name}: {m[0]}" for name, text in tracked_text() for m in re.finditer(FORBIDDEN[what], text)]
    assert found == []


def test_the_licences_are_there():
    assert "MIT License" in (ROOT / "LICENSE").read_text("utf-8")
    assert "CC BY 4.0" in (ROOT / "LICENSE-prose").read_text("utf-8")
    assert project()["license"].split(" AND ") == ["MIT", "CC-BY-SA-4.0", "CC-BY-4.0", "Unicode-3.0"]


def test_every_sample_and_its_licence_is_in_the_wheel(monkeypatch):
    """As setuptools lists what it would pack, without packing it."""
    setuptools = pytest.importorskip("setuptools")
    monkeypatch.chdir(ROOT)
    package = setuptools.Distribution({"src_root": ".", "script_name": "setup.py"})
    package.script_name = "setup.py"
    package.parse_config_files()
    build = package.get_command_obj("build_py")
    build.ensure_finalized()
    packed = {Path(source, name).resolve() for _, source, _, names in build.data_files for name in names}
    samples = {path.resolve() for path in (ROOT / "semhub_utils/samples").rglob("*") if path.is_file()}
    licences = {str(path.relative_to(ROOT.resolve())) for path in samples if path.name.startswith("LICENSE")}
    assert samples <= packed and len(samples) == 16
    assert len(licences) == 5 and licences < {*package.metadata.license_files}


def test_readme_shows_both_commands_first():
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert "make book" in blocks[0] and "make test" in blocks[0]


def pages() -> dict[str, str]:
    """The text of each page of the contents; of a chapter, its prose."""
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    listed = [contents["root"], *(e["file"] for part in contents["parts"] for e in part["chapters"])]
    texts = {name: ROOT / f"{name}.md" for name in listed if not name.startswith("notebooks/")}
    prose = {
        f"notebooks/{path.stem}": "\n".join(c.source for c in jupytext.read(path).cells if c.cell_type == "markdown")
        for path in chapters()
    }
    return {name: path.read_text("utf-8") for name, path in texts.items()} | prose


def test_changes_that_a_page_shows_fit_the_code():
    code = {line for path in (ROOT / "semhub_utils").rglob("*.py") for line in path.read_text("utf-8").splitlines()}
    shown = [line for text in pages().values() for block in re.findall(r"```diff\n(.*?)```", text, re.DOTALL)
             for line in block.splitlines()]  # fmt: skip
    assert len(shown) >= 10
    assert [line for line in shown if line[0] in " -" and line[1:] not in code] == []


def cited(text: str) -> set[str]:
    """The works that a page cites, by key."""
    return {key.strip() for keys in re.findall(r"\{cite:[pt]\}`([^`]+)`", text) for key in keys.split(",")}


def test_every_work_of_the_bibliography_is_cited_where_it_matters():
    known = re.findall(r"^@\w+\{([^,]+),", (ROOT / "book/references.bib").read_text("utf-8"), re.MULTILINE)
    assert len(known) == len({*known}), "a work is entered twice"
    told = {name: cited(text) for name, text in pages().items() if name != "book/bibliography"}
    assert {*known} == set().union(*told.values()), "entered and cited works differ"
    chapter = {key for name, keys in told.items() if name.startswith("notebooks/") for key in keys}
    assert {"blum2025rosetta", "cosma2026invitro"} <= chapter
    assert cited("{cite:p}`a2020b, c` and {cite:t}`d`") == {"a2020b", "c", "d"}

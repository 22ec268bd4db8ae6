"""How large package, chapters and tests may be, and that modules can be read in an order. Small is a feature."""

import ast
import re
from collections import Counter
from functools import cache
from itertools import combinations
from pathlib import Path

import jupytext
import pytest
from launch import chapters

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "semhub_utils"
LIMITS = {  # today's, each lowered as the work goes, and behind it what is meant
    "lines": 25_139,  # 11_500
    "files": 80,  # of more than one line; 52
    "longest file": 500,  # 500
    "longest function": 80,
    "statements": 16_653,  # 8_000
    "fmt: skip": 8,
    "lines to know for a chapter": 4_742,  # 3_000
    "lines of tests": 23_516,  # 10_500
    "lines of the longest cell of a chapter": 12,
    "modules beside the package that chapters import": 0,
    "lines of all chapters": 4_708,  # 4_200
}
FOR_A_CHAPTER = ("models", "states", "lens", "similarity", "steering", "evidence", "experiments.core")
"""What a stranger has to know to change a chapter, with all it imports from the package."""


READ = {path.stem: jupytext.read(path) for path in chapters()}


def own_cells(notebook) -> list[str]:
    """The code cells that a reader sees: all but the parameters and the one that installs the package."""
    hidden = {"parameters", "remove-cell"}
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [cell.source for cell in cells if not hidden & set(cell.metadata.get("tags", []))]


def longest_cell() -> int:
    return max(len(source.splitlines()) for notebook in READ.values() for source in own_cells(notebook))


def foreign_imports() -> int:
    """Modules other than the package that cells import."""
    found = set()
    for source in (source for notebook in READ.values() for source in own_cells(notebook)):
        for node in ast.walk(ast.parse(source)):
            found |= {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            found |= {node.module} if isinstance(node, ast.ImportFrom) else set()
    return len([name for name in found if name.split(".")[0] != "semhub_utils"])


def chapter_lines() -> int:
    return sum(len(Path(path).with_suffix(".py").read_text("utf-8").splitlines()) for path in chapters())


def files() -> dict[str, Path]:
    """The modules by their name below the package, such as "experiments.core"."""
    paths = sorted(PACKAGE.rglob("*.py"))
    return {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in paths}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def lines(path: Path) -> int:
    return len(path.read_text("utf-8").splitlines())


@cache
def imports() -> dict[str, set[str]]:
    """What each module imports from the package, also inside functions."""
    modules, found = files(), {}
    for name, path in modules.items():
        package = ["semhub_utils", *name.split(".")[:-1]]
        asked = set()
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Import):
                asked |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                start = package[: len(package) + 1 - node.level] if node.level else []
                origin = ".".join([*start, *filter(None, [node.module])])
                asked |= {origin, *(f"{origin}.{alias.name}" for alias in node.names)}
        found[name] = {of for of in modules if f"semhub_utils.{of}" in asked} - {name}
    return found


def reached(start: str, arrows: dict[str, set[str]]) -> set[str]:
    found, left = set(), [start]
    while left:
        new = arrows[left.pop()] - found
        found |= new
        left += new
    return found


def functions() -> dict[str, int]:
    return {
        f"{name}.{node.name}": node.end_lineno - node.lineno + 1
        for name, path in files().items()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef)
    }


@cache
def measured() -> dict[str, int]:
    every = {name: lines(path) for name, path in files().items()}
    known = set(FOR_A_CHAPTER).union(*(reached(name, imports()) for name in FOR_A_CHAPTER))
    texts = [path.read_text("utf-8") for path in files().values()]
    return {
        "lines": sum(every.values()),
        "files": sum(of > 1 for of in every.values()),
        "longest file": max(every.values()),
        "longest function": max(functions().values()),
        "statements": sum(isinstance(n, ast.stmt) for path in files().values() for n in ast.walk(tree(path))),
        "fmt: skip": sum(text.count("# fmt: skip") for text in texts),
        "lines to know for a chapter": sum(every[name] for name in known),
        "lines of tests": sum(map(lines, (ROOT / "tests").rglob("*.py"))),
        "lines of the longest cell of a chapter": longest_cell(),
        "modules beside the package that chapters import": foreign_imports(),
        "lines of all chapters": chapter_lines(),
    }


@pytest.mark.parametrize("what", LIMITS)
def test_limits(what):
    assert measured()[what] <= LIMITS[what]


def test_no_import_leads_back():
    circles = {name for name in files() if name in reached(name, imports())}
    assert not circles, f"these import themselves through others: {', '.join(sorted(circles))}"


def test_no_folder_leads_back():
    folders = {name.partition(".")[0] for name in files() if "." in name}
    arrows = {
        folder: {of.partition(".")[0] for name in files() if name.startswith(folder + ".") for of in imports()[name]}
        & folders - {folder}
        for folder in folders
    }
    assert not {folder for folder in folders if folder in reached(folder, arrows)}


def test_module_names_tell_apart():
    """No two modules of one name, and none that differ by an ending alone, as pushes and pushed do."""
    names = [name.split(".")[-1] for name in files() if not name.endswith("__init__")]
    twice = {name for name, count in Counter(names).items() if count > 1}
    stems = {name: re.sub(r"(ings?|ed|e?s|ers?)$", "", name) for name in names}
    alike = {pair for pair in combinations(sorted({*names}), 2) if stems[pair[0]] == stems[pair[1]]}
    assert not twice and not alike


if __name__ == "__main__":
    for what, of in measured().items():
        print(f"{what:30}{of:8}{LIMITS[what]:8}")
    print("long functions:", {name: of for name, of in functions().items() if of > LIMITS["longest function"]})
    print("circles:", sorted(name for name in files() if name in reached(name, imports())))

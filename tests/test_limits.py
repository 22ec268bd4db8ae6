"""What may not grow: a table of limits, checked in seconds."""

import ast
from pathlib import Path

import jupytext
import pytest
from launch import chapters

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


# Each is lowered with the chapters that are shortened: 12, 0 and 4,200 are meant.
LIMITS = {
    "lines of the longest cell of a chapter": (longest_cell, 19),
    "modules beside the package that chapters import": (foreign_imports, 2),
    "lines of all chapters": (chapter_lines, 4620),
}


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_is_kept(name):
    measure, most = LIMITS[name]
    assert measure() <= most, name

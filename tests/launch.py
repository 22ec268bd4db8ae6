"""The one address of the repository (`repository.url` in _config.yml) and what is made from it.

`python tests/launch.py` (make address) writes it into the chapters' badges and install cells, README.md and
CITATION.cff; tests/test_project.py compares them. Knows nothing of semhub_utils.
"""

import re
from pathlib import Path

import jupytext
import yaml

ROOT = Path(__file__).resolve().parents[1]
# Where else the address stands, and what stands before it there.
MENTIONS = {"README.md": "git clone ", "CITATION.cff": "repository-code: ", "book/run_on_your_model.md": "git clone "}
BADGE_MARK = "[![Open in Colab]"
INSTALL_MARK = "google.colab"


def config() -> dict:
    return yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))


def repository_url() -> str:
    return config()["repository"]["url"].rstrip("/")


def expected_badge(chapter: str, folder: str = "notebooks") -> str:
    colab = config()["launch_buttons"]["colab_url"]
    path = repository_url().removeprefix("https://github.com/")
    link = f"{colab}/github/{path}/blob/{config()['repository']['branch']}/{folder}/{chapter}.ipynb"
    return f"{BADGE_MARK}({colab}/assets/colab-badge.svg)]({link})"


def expected_install_cell() -> str:
    """Installs the package where a chapter runs in Colab; its own torch, NumPy and pandas stay, being new enough."""
    return f"""\
import sys

if "google.colab" in sys.modules:
    source = "semhub-utils @ git+{repository_url()}"
    get_ipython().run_line_magic("pip", f"install -q '{{source}}'")"""


def chapters() -> list[Path]:
    return sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def exercises() -> list[Path]:
    return sorted((ROOT / "book/exercises").glob("[0-9][0-9]_*.ipynb"))


def folder_of(path: Path) -> str:
    return path.parent.relative_to(ROOT).as_posix()


def spread() -> None:
    for path in [*chapters(), *exercises()]:
        for side in (path, path.with_suffix(".py")):
            notebook = jupytext.read(side)
            for cell in notebook.cells:
                if BADGE_MARK in cell.source:
                    badge = re.escape(BADGE_MARK) + r"\([^)]*\)\]\([^)]*\)"
                    cell.source = re.sub(badge, lambda _, p=path: expected_badge(p.stem, folder_of(p)), cell.source)
                if cell.cell_type == "code" and INSTALL_MARK in cell.source:
                    cell.source = expected_install_cell()
            jupytext.write(notebook, side)
    for name, before in MENTIONS.items():
        text = (ROOT / name).read_text("utf-8")
        (ROOT / name).write_text(re.sub(rf"({before})\S+", rf"\g<1>{repository_url()}", text), "utf-8")


if __name__ == "__main__":
    spread()

"""Stage and build the book: prose from book/, chapters as papermill executed them.

Nothing is written outside the build folder. The build always starts from nothing: an incremental one hides warnings.
"""

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .errors import SemhubError

# Cells that serve only whoever runs a chapter: papermill's copy of the parameters, the Colab install cell.
LEFT_OUT = {"injected-parameters", "remove-cell"}
BADGE = re.compile(r"\[!\[Open in Colab\]\([^)]*\)\]\((?P<link>[^)]+)\)")
STYLE = re.compile(r"<style>@layer semhub .*?</style>", re.DOTALL)
INSTRUMENTS, METHODS = ("lens", "similarity", "intervention"), ("released", "ours", "floor")
SITE_PACKAGES = ("altair", "papermill", "jupyter-book")  # the runs' own versions stand in their results


def read_yaml(path: Path) -> dict:
    import yaml  # comes with jupyter-book; the package itself must import without it

    try:
        return yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        folder = path.parent.resolve()
        raise SemhubError(f"There is no {path.name} in {folder}; run this in the book's folder.") from None


def documents(root: Path) -> Iterator[str]:
    """Every document of _toc.yml, in reading order, without suffix."""

    def files(node: Any) -> Iterator[str]:
        if isinstance(node, list):
            for entry in node:
                yield from files(entry)
        elif isinstance(node, dict):
            for key, value in node.items():
                yield from [value] if key in ("file", "root") else files(value)

    yield from files(read_yaml(root / "_toc.yml"))


def chapters(root: Path) -> list[str]:
    """Names of the chapters (`03_arithmetic`), in reading order, as _toc.yml lists them."""
    return [name.removeprefix("notebooks/") for name in documents(root) if name.startswith("notebooks/")]


def clean(notebook: dict) -> dict:
    """An executed notebook as the site shows it: without machine-only cells and papermill's note of folders, its Colab
    badge as a plain link, and the style that each figure and card brings along once."""
    cells, styles = [], set()
    notebook["metadata"].pop("papermill", None)
    for cell in notebook["cells"]:
        if LEFT_OUT & set(cell["metadata"].get("tags", [])):
            continue
        if cell["cell_type"] == "markdown":
            cell["source"] = BADGE.sub(r'<a class="colab-badge" href="\g<link>">Open in Colab</a>', cell["source"])
        for output in cell.get("outputs", []):
            if html := "".join(output.get("data", {}).get("text/html", "")):
                for style in set(STYLE.findall(html)) & styles:
                    html = html.replace(style, "")
                styles |= set(STYLE.findall(html))
                output["data"]["text/html"] = html
        cells.append(cell)
    notebook["cells"] = cells
    return notebook


def stage(executed: Path, target: Path, *, root: Path, results: Path) -> None:
    """Copy prose, settings and executed chapters into `target`. Raises SemhubError when a chapter was not executed."""
    import nbformat

    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(root / "book", target / "book", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(root / name, target / name)
    (target / "notebooks").mkdir()
    for chapter in chapters(root):
        source = executed / f"{chapter}.ipynb"
        if not source.is_file():
            raise SemhubError(f"Chapter {chapter} was not executed: there is no {source}; run `make book`.")
        nbformat.write(clean(nbformat.read(source, as_version=4)), target / "notebooks" / source.name)
    generated = target / "book" / "_generated"
    generated.mkdir()
    (generated / "status.md").write_text(status_table(results), "utf-8")
    (generated / "bench.md").write_text(bench_table(root / "book/bench.json"), "utf-8")
    (generated / "vendor.md").write_text(vendor_table(root / "book/_static/vendor/manifest.json"), "utf-8")


def status_table(results: Path) -> str:
    """Every run in `results` as a Markdown table, and the versions that they and the site used."""
    rows, used = [], {(name, version(name)) for name in SITE_PACKAGES}
    for path in sorted(results.glob("*/*.claims.json")):
        record = json.loads(path.read_text("utf-8"))
        run, verdicts = record["provenance"], Counter(claim["verdict"] for claim in record["claims"])
        cells = (
            run["chapter"],
            f"`{run['model']}`",
            f"{run['seconds']:.0f} s",
            f"{run['peak_memory_bytes'] / 2**20:.0f} MiB" if run["peak_memory_bytes"] else "not measured",
            run["finished"][:10],
            ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items())) or "no claims",
        )
        rows.append(f"| {' | '.join(cells)} |")
        used |= set(run["versions"].items())
    head = "| Chapter | Model | Time | Peak memory | Finished | Verdicts |\n| --- | --- | ---: | ---: | --- | --- |\n"
    table = head + "\n".join(rows) if rows else "No results were found when this page was built."
    return f"{table}\n\nVersions: {', '.join(f'{name} {number}' for name, number in sorted(used))}.\n"


def bench_table(report: Path) -> str:
    """What `semhub bench --json` printed into `report`, as Markdown tables: speed and memory by experiment, and speed
    by chapter."""
    run = json.loads(report.read_text("utf-8"))
    speed, memory = [], []
    for experiment in INSTRUMENTS:
        for name, work in run.get(experiment, {}).get("workloads", {}).items():
            if "seconds" in work:
                cells = [f"{work['seconds'][method]:.2f} s" for method in METHODS]
                cells += [
                    f"{work['times_faster_than_released']['median']:.1f}",
                    f"{work['times_the_floor']['median']:.2f}",
                ]
                speed.append(f"| {experiment} | {name} | {' | '.join(cells)} |")
            else:
                cells = [f"{work['peak_bytes'][method] / 2**20:.1f} MiB" for method in METHODS]
                share = f"{work['peak_bytes']['ours'] / work['peak_bytes']['released']:.1%}"
                memory.append(f"| {experiment} | {name} | {' | '.join(cells)} | {share} |")
    chapters = [
        f"| {chapter} | {' | '.join(_times(of.get(experiment)) for experiment in INSTRUMENTS)} |"
        for chapter, of in run.get("chapters", {}).items()
    ]
    versions = ", ".join(f"{name} {number}" for name, number in run["versions"].items())
    head = "| Chapter | Lens | Similarity | Intervention |\n| --- | --- | --- | --- |\n"
    by_chapter = "\nBy chapter, on its own items: times faster than released · times the floor.\n\n" + head
    return (
        f"Model: {run['model']}, {run['layers']} layers, hidden size {run['hidden']}, {run['vocabulary']} words; "
        f"{run['device']}, {run['dtype']}, {run['threads']} threads; {versions}.\n\n"
        "| Experiment | Prompts | As released | Ours | Floor | Times faster than released | Times the floor |\n"
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |\n" + "\n".join(speed) + "\n\n"
        "| Experiment | Prompts | Memory as released | Ours | Floor | Share of released |\n"
        "| --- | --- | ---: | ---: | ---: | ---: |\n"
        + "\n".join(memory)
        + "\n"
        + (by_chapter + "\n".join(chapters) + "\n" if chapters else "")
    )


def _times(work: dict[str, Any] | None) -> str:
    """A cell of the chapters' table; empty where the chapter does not use the instrument."""
    if work is None:
        return ""
    faster, of_floor = (work[key]["median"] for key in ("times_faster_than_released", "times_the_floor"))
    return f"{faster:.1f} · {of_floor:.2f}"


def vendor_table(manifest: Path) -> str:
    """The libraries that are part of the site, with version and licence, as a Markdown table."""
    entries = {(e["name"], e["version"], e["licence"]) for e in json.loads(manifest.read_text("utf-8"))}
    rows = "\n".join(f"| {name} | {number} | {licence} |" for name, number, licence in sorted(entries))
    return f"| Library | Version | Licence |\n| --- | --- | --- |\n{rows}\n"


def build(
    executed: Path | str,
    out: Path | str = "_build/html",
    results: Path | str = "_build/results",
    *,
    root: Path | str = ".",
    strict: bool = False,
) -> Path:
    """Build the site and return the path of its front page.

    executed: folder with one executed `<chapter>.ipynb` for each chapter of _toc.yml
    strict: warnings and unresolved references fail the build
    Raises SemhubError when a chapter is missing or the build fails.
    """
    root, out = Path(root), Path(out).resolve()
    staged = out.parent / "stage"
    stage(Path(executed), staged, root=root, results=Path(results))
    try:
        from jupyter_book.sphinx import build_sphinx
    except ImportError:
        raise SemhubError("Building the book needs jupyter-book; `make book` installs it.") from None

    doctrees = out.parent / "doctrees"
    for folder in (out, doctrees):
        shutil.rmtree(folder, ignore_errors=True)
    failed = build_sphinx(
        staged,
        out,
        noconfig=True,
        path_config=staged / "_config.yml",
        doctreedir=doctrees,
        confoverrides={"nitpicky": strict, "latex_individualpages": False},
        warningiserror=strict,
        keep_going=True,
        quiet=True,
    )
    if failed:
        raise SemhubError(f"The book did not build cleanly ({failed}); the messages above name the pages.")
    first = f"{next(documents(root))}.html"
    front = out / "index.html"
    front.write_text(
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>The Semantic Hub</title>\n'
        f'<meta http-equiv="refresh" content="0; url={first}"></head>\n<body><main><h1>The Semantic Hub</h1>\n'
        f'<p><a href="{first}">Open the book</a></p></main></body></html>\n',
        "utf-8",
    )
    return front

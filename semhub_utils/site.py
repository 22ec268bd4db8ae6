"""The site: prose from book/ and chapters as papermill executed them, staged and built from nothing each time, as an
incremental build hides warnings. Nothing is written outside the build folder.
"""

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

import nbformat

from . import book
from .errors import SemhubError, need
from .identity import model_label
from .results import finished
from .rows import NOT_RUN, PAPER, by_row, family, family_in_words

# Cells that serve only whoever runs a chapter: papermill's copy of the parameters, the Colab install cell.
LEFT_OUT = {"injected-parameters", "remove-cell"}
BADGE = re.compile(r"\[!\[Open in Colab\]\([^)]*\)\]\((?P<link>[^)]+)\)")
STYLE = re.compile(r"<style>[^<]*@layer semhub [^<]*</style>")
FIGURE = re.compile('<figure class="semhub-figure"><figcaption>')
INSTRUMENTS, METHODS = ("lens", "similarity", "intervention"), ("released", "ours", "floor")
SITE_PACKAGES = ("altair", "papermill", "jupyter-book")  # the runs' own versions stand in their results
FRONT = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>The Semantic Hub</title>
<meta http-equiv="refresh" content="0; url=FIRST"></head>
<body><main><h1>The Semantic Hub</h1>
<p><a href="FIRST">Open the book</a></p></main></body></html>
"""


def make(
    root: Path, *, model: str | None, revision: str | None, settings: book.Parameters, strict: bool, **how: Any
) -> tuple[list[book.Outcome], Path | None]:
    """Execute every chapter of the book and build the site; what became of each, and the front page, or None where
    none is built: when all failed, or with `strict` one. A chapter that does not take the model is shown on its own.
    how: workers, fresh and say, for `book.run`. SemhubError where there is no checkout."""
    whole = (root / "_config.yml").is_file()
    need(whole, "The site is built from the book's repository; clone it and run semhub book there.")
    build = root / "_build"
    places = {"out": build / "runs", "results_dir": build / "results", "settings": settings, "apart": False}

    def run(chosen: Sequence[book.Notebook], on: str | None, revision: str | None) -> dict[book.Notebook, book.Outcome]:
        jobs = book.plan(chosen, [on], revision=revision, **places)
        return {outcome.job.chapter: outcome for outcome in book.run(jobs, **how)}

    outcomes = run(book.chapters(root), model, revision)
    refused = {chapter: outcome for chapter, outcome in outcomes.items() if outcome.code == 2}
    if model and len(refused) < len(outcomes):  # else it is no model at all
        for chapter, outcome in refused.items():
            how["say"](f"{outcome.error.splitlines()[0]} {chapter.stem} is shown on its own model.")
        outcomes |= run([*refused], None, None)
    became = [*outcomes.values()]
    failed = [outcome for outcome in became if outcome.error]
    if failed and (strict or len(failed) == len(became)):
        return became, None
    executed = [
        outcome.job.output for outcome in became if outcome.job.output.exists()
    ]  # of a failed one what there is
    return became, build_site(executed, build / "html", build / "results", root=root, strict=strict)


def clean(notebook: dict, chapter: str = "") -> dict:
    """An executed notebook as the site shows it: without machine-only cells and papermill's note of folders, its Colab
    badge as a plain link, figures and strips without the style that each brings along, and figures with the number of
    `chapter` and their own, which is their address too."""
    numbers = count(1)

    def numbered(figure: re.Match) -> str:
        said = f"{chapter}.{next(numbers)}"
        at = f"figure-{said.replace('.', '-')}"
        link = f'<a class="figure-number" href="#{at}">Figure {said}</a> '
        return figure[0].replace(">", f' id="{at}">', 1) + link

    notebook["metadata"].pop("papermill", None)
    notebook["cells"] = [c for c in notebook["cells"] if not LEFT_OUT & set(c["metadata"].get("tags", []))]
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = BADGE.sub(r'<a class="colab-badge" href="\g<link>">Open in Colab</a>', cell["source"])
        for output in cell.get("outputs", []):
            if html := "".join(output.get("data", {}).get("text/html", "")):
                output["data"]["text/html"] = FIGURE.sub(numbered, STYLE.sub("", html))
    return notebook


def stage(executed: Iterable[Path], target: Path, *, root: Path, results: Path) -> None:
    """Copy prose, settings and executed chapters into `target`. Raises SemhubError when a chapter was not executed."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(root / "book", target / "book", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("notebooks", "tests", "book/_generated"):
        (target / name).mkdir()
    shutil.copy(book.PACKAGE / "static/findings.css", target / "book/_static")
    for name in ("_config.yml", "_toc.yml", "tests/test_added_experiment.py"):  # book/architecture.md shows the last
        shutil.copy(root / name, target / name)
    there = {path.name: path for path in executed}
    for chapter in book.chapters(root):
        source = there.get(chapter.path.name)
        need(source, f"Chapter {chapter.stem} was not executed; run `make book`.")
        number = chapter.stem.partition("_")[0].lstrip("0")
        nbformat.write(clean(nbformat.read(source, as_version=4), number), target / "notebooks" / source.name)
    bench = json.loads((root / "book/bench.json").read_text("utf-8"))
    vendored = json.loads((root / "book/_static/vendor/manifest.json").read_text("utf-8"))
    entries = sorted({(of["name"], of["version"], of["licence"]) for of in vendored})
    libraries = _table(("Library", "Version", "Licence"), entries)
    pages = {"status": status_table(results), "rows": rows_table(results)}
    for name, text in (pages | {"bench": bench_tables(bench), "vendor": libraries}).items():
        (target / "book/_generated" / f"{name}.md").write_text(text, "utf-8")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: int = 0) -> str:
    """A Markdown table; its last columns are of numbers."""
    lines = ["---"] * (len(head) - numbers) + ["---:"] * numbers
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, lines, *rows)) + "\n"


def status_table(results: Path) -> str:
    """Every run in `results` as a Markdown table, and the versions that they and the site used."""
    rows, read, used = [], {}, {(name, version(name)) for name in SITE_PACKAGES}
    for record in finished(results, "*/*.claims.json").values():
        run, verdicts = record["provenance"], Counter(claim["verdict"] for claim in record["claims"])
        memory = f"{run['peak_memory_bytes'] / 2**20:.0f} MiB" if run["peak_memory_bytes"] else "not measured"
        counts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items())) or "no claims"
        about = (run["chapter"], f"`{run['model']}`", f"{run['seconds']:.0f} s", memory, run["finished"][:10], counts)
        rows.append(about)
        used |= set(run["versions"].items())
        if run.get("forwarded"):
            read[f"{run['chapter']}, {run['model']}"] = run["forwarded"]
    table = _table(("Chapter", "Model", "Time", "Peak memory", "Finished", "Verdicts"), rows)
    if not rows:
        table = "No results were found when this page was built.\n"
    table += f"\n{forwarded_table(read)}" * bool(read)
    return f"{table}\nVersions: {', '.join(f'{name} {number}' for name, number in sorted(used))}.\n"


def rows_table(results: Path) -> str:
    """The paper's experiments with the verdict on each model that ran it, and what of all claims chance would give."""
    models: dict[Path, list[dict[str, Any]]] = {}
    for path, record in finished(results, "*/*.claims.json").items():
        models.setdefault(path.parent, []).append(record)
    claims = {folder: [claim for record in some for claim in record["claims"]] for folder, some in models.items()}
    rows: dict[int, list[Sequence[str]]] = {}
    for folder, of in claims.items():
        provenance = models[folder][0]["provenance"]
        model = model_label(provenance)
        for row in by_row(of):
            if row["verdict"] != NOT_RUN:
                types = "; ".join(f"{name}: {verdict}" if name else verdict for name, verdict in row["types"].items())
                told = (str(row["row"]), row["experiment"], f"`{model}`", row["verdict"], types)
                rows.setdefault(row["row"], []).append(told)
    told = [one for k, name in enumerate(PAPER, 1) for one in rows.get(k, [(str(k), name, "", NOT_RUN, "")])]
    table = _table(("", "Experiment of the paper", "Model", "Verdict", "By data type"), told)
    return f"{table}\n{family_in_words(family([claim for of in claims.values() for claim in of]))}\n"


def forwarded_table(chapters: dict[str, dict[str, float]]) -> str:
    """Tokens that each chapter forwards over the distinct ones."""
    rows = [
        (name, *(f"{of[what]:.2f}" if what in of else "" for what in ("read", "edit"))) for name, of in chapters.items()
    ]
    return _table(("Chapter", "Tokens forwarded over distinct ones, reading", "edits"), rows, 2)


def bench_tables(run: dict[str, Any]) -> str:
    """The report of `semhub bench` as Markdown tables: speed and memory by experiment, and speed by chapter."""

    def times(work: dict[str, Any]) -> tuple[str, str]:
        faster, of_floor = (work[key]["median"] for key in ("times_faster_than_released", "times_the_floor"))
        return f"{faster:.1f}", f"{of_floor:.2f}"

    speed, memory = [], []
    for experiment in INSTRUMENTS:
        for name, work in run.get(experiment, {}).get("workloads", {}).items():
            if "seconds" in work:
                cells = [f"{work['seconds'][method]:.2f} s" for method in METHODS]
                speed.append((experiment, name, *cells, *times(work)))
            else:
                cells = [f"{work['peak_bytes'][method] / 2**20:.1f} MiB" for method in METHODS]
                memory.append((experiment, name, *cells, f"{work['memory_share_of_released']:.1%}"))
    chapters = [
        (chapter, *(" · ".join(times(of[name])) if name in of else "" for name in INSTRUMENTS))
        for chapter, of in run.get("chapters", {}).items()
    ]
    head = ("Experiment", "Prompts", "As released", "Ours", "Floor", "Times faster than released", "Times the floor")
    parts = [
        f"Model: {run['model']}, {run['layers']} layers, hidden size {run['hidden']}, {run['vocabulary']} words; "
        f"{run['device']}, {run['dtype']}, {run['threads']} threads; "
        f"{', '.join(f'{name} {number}' for name, number in run['versions'].items())}.\n",
        _table(head, speed, 5),
        _table((*head[:2], "Memory as released", "Ours", "Floor", "Share of released"), memory, 4),
    ]
    if chapters:
        parts.append("By chapter, on its own items: times faster than released · times the floor.\n")
        parts.append(_table(("Chapter", "Lens", "Similarity", "Intervention"), chapters))
    return "\n".join(parts)


def build_site(executed: Iterable[Path], out: Path, results: Path, *, root: Path, strict: bool = False) -> Path:
    """Build the site from executed notebooks, one for each chapter of _toc.yml, and return the path of its front page.
    strict: warnings and unresolved references fail the build. Raises SemhubError when a chapter is missing or the build
    fails."""
    staged, doctrees = out.parent / "stage", out.parent / "doctrees"
    stage(executed, staged, root=root, results=results)
    try:
        from jupyter_book.sphinx import build_sphinx
    except ImportError:
        raise SemhubError("Building the book needs jupyter-book; `make book` installs it.") from None

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
    need(not failed, f"The book did not build cleanly ({failed}); the messages above name the pages.")
    front = out / "index.html"
    front.write_text(FRONT.replace("FIRST", f"{next(book.documents(root))}.html"), "utf-8")
    return front

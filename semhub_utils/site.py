"""The site: prose from book/ and chapters as papermill executed them, staged and built from nothing each time, as an
incremental build hides warnings. Nothing is written outside the build folder.
"""

import ast
import gzip
import html
import json
import os
import re
import shutil
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from importlib.util import find_spec
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import yaml

from . import book, holds
from .errors import need
from .identity import called, slug
from .markup import table_box
from .onfile import CLAIMS, PLACE, Held, read, read_all
from .onfile import TABLES as ROWS
from .rows import family, of_a_trap
from .strips import SYMBOLS, with_others

# Cells that serve only whoever runs a chapter: papermill's copy of the parameters, the Colab install cell.
LEFT_OUT = {"injected-parameters", "remove-cell"}
BADGE = re.compile(r"\[!\[Open in Colab\]\([^)]*\)\]\((?P<link>[^)]+)\)")
STYLE = re.compile(r"<style>[^<]*@layer semhub [^<]*</style>")
KEY = re.compile('<p class="(?P<of>figure|strip)-key">(?P<said>.*?)</p>')
FIGURE = re.compile('<figure class="semhub-figure"><figcaption>')
HIDDEN = re.compile(r"<(style|script|details|svg)\b.*?</\1>|<[^>]+>|(:{3,}|`{3,})\{(dropdown|glue)\}.*?\n\2", re.DOTALL)
TIME = re.compile(r"Time\s+to\s+read: \d+ minutes")  # as guessed in a notebook, which knows nothing of its outputs
WORDS, SECONDS = 230, 20  # a reader's in a minute, and for a figure
MESSAGES = "messages.txt"  # of the process that builds, which has the standard error of another one
INSTRUMENTS, METHODS = ("lens", "similarity", "intervention"), ("released", "ours", "floor")
TABLES = ("DECODERS", "SEEING", "LISTENING")  # of the tests' architectures
FILED = (ROWS, CLAIMS)  # of a model's results on file, what can be downloaded
SITE_PACKAGES = ("altair", "papermill", "jupyter-book")  # the runs' own versions stand in their results
FRONT = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><link rel="icon" href="data:,"><title>The Semantic Hub</title>
<meta http-equiv="refresh" content="0; url=FIRST"></head>
<body><main><h1>The Semantic Hub</h1>
<p><a href="FIRST">Open the book</a></p></main></body></html>
"""


def make(
    root: Path,
    *,
    model: str | None,
    revision: str | None,
    settings: book.Parameters,
    strict: bool,
    beside: Sequence[Path] = (),
    **how: Any,
) -> tuple[list[book.Outcome], Path | None]:
    """Execute every chapter of the book and build the site; what became of each, and the front page, or None where
    none is built: when all failed, or with `strict` one. A chapter that does not take the model is shown on its own.
    beside: folders of results that are shown too. how: workers, fresh and say, for `book.run`. SemhubError where there
    is no checkout."""
    whole = (root / "_config.yml").is_file()
    need(whole, "The site is built from the book's repository; clone it and run semhub book there.")
    for folder in beside:
        held = any(folder.rglob("*claims.json*"))
        need(held, f"{folder} holds no results to be shown; a folder that semhub run wrote into would do.")
    build = root / "_build"
    places = {"out": build / "runs", "results_dir": build / "results", "settings": settings, "apart": False}

    known = [one for one in read_all([root / PLACE])[0][::-1] if one.known]  # the book's own model is the last
    took = {name: of["seconds"] for one in known for name, of in one.runs.items()}

    def run(chosen: Sequence[book.Notebook], on: str | None, revision: str | None) -> dict[book.Notebook, book.Outcome]:
        longest_first = sorted(chosen, key=lambda chapter: took.get(chapter.name, 0), reverse=True)  # all end together
        jobs = book.plan(longest_first, [on], revision=revision, **places)
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
    return became, build_site(executed, build / "html", build / "results", root=root, strict=strict, beside=beside)


def clean(notebook: dict, chapter: str = "", others: Mapping[str, Sequence[Mapping]] | None = None) -> dict:
    """An executed notebook as the site shows it: without machine-only cells and papermill's note of folders, its Colab
    badge as a plain link, figures and strips without the style that each brings along, and figures with the number of
    `chapter` and their own, which is their address too; what marks of figures mean is said once. others: the claims of
    the chapter on other models, which are answers too."""
    numbers, said_once = count(1), set()

    def once(key: re.Match) -> str:
        if key["of"] == "strip":
            new = [] if key[0] in said_once else [key[0]]
            said_once.update(new)
            return "".join(new)
        new = [said for said in key["said"].split(". ") if ": " not in said or said.rstrip(".") not in said_once]
        said_once.update(said.rstrip(".") for said in new)
        return f'<p class="figure-key">{". ".join(new).rstrip(".")}.</p>' if new else ""

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
            for kind in [kind for kind in output.get("data", {}) if kind.endswith("text/html")]:
                html = KEY.sub(once, FIGURE.sub(numbered, STYLE.sub("", "".join(output["data"][kind]))))
                output["data"][kind] = with_others(html, others or {})
    return notebook


def stage(executed: Iterable[Path], target: Path, *, root: Path, results: Path, beside: Sequence[Path] = ()) -> None:
    """Copy prose, settings and executed chapters into `target`. beside: folders of results of other models. Raises
    SemhubError when a chapter was not executed."""
    from . import live
    from .experiments.raising import abroad  # both with all that measures

    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(root / "book", target / "book", ignore=shutil.ignore_patterns("__pycache__", PLACE.name))
    for name in ("notebooks", "tests", "book/_generated"):
        (target / name).mkdir()
    for name in ("findings.css", "holds.css", "holds.js"):
        shutil.copy(book.PACKAGE / "static" / name, target / "book/_static")
    live.write(target / "book/_static/live", root / "book/_static/vendor/tokenizers/tokenizers.min.js")
    for name in ("_config.yml", "_toc.yml", "tests/test_added_experiment.py"):  # book/architecture.md shows the last
        shutil.copy(root / name, target / name)
    held, refused = read_all([root / PLACE, results, *beside])
    chapters = book.chapters(root)
    held = [one.ordered([chapter.name for chapter in chapters]) for one in held]
    there, pages_of, public = {path.name: path for path in executed}, {}, [one for one in held if not one.known]
    for chapter in chapters:
        source = there.get(chapter.path.name)
        need(source, f"Chapter {chapter.stem} was not executed; run `make book`.")
        number = chapter.stem.partition("_")[0].lstrip("0")
        others = {one.label: [c for c in one.claims if c["chapter"] == chapter.name] for one in public}
        page = clean(nbformat.read(source, as_version=4), number, others)
        pages_of[chapter.stem] = page, (times := _times(page, chapter.name, held))
        page.cells[0].source = TIME.sub(times, page.cells[0].source)
        nbformat.write(page, target / "notebooks" / source.name)
    for path in (target / "book/exercises").glob("*.ipynb"):
        nbformat.write(clean(nbformat.read(path, as_version=4)), path)
    bench = json.loads((root / "book/bench.json").read_text("utf-8"))
    vendored = json.loads((root / "book/_static/vendor/manifest.json").read_text("utf-8"))
    entries = sorted({(of["name"], of["version"], of["licence"]) for of in vendored})
    libraries = _table(("Library", "Version", "Licence"), entries)
    pages = {"status": status_table(held), "bench": bench_tables(bench), "vendor": libraries}
    pages |= {"takeaway": takeaway(pages_of), "tables": tables(root / PLACE, target / "book/_static/results")}
    listed = re.findall(r"^\| `.+", (book.PACKAGE / "samples/README.md").read_text("utf-8"), re.M)
    samples = [[cell.strip() for cell in line.split("|")[2:5]] for line in listed]
    pages["samples"] = _table(("What", "Made by", "Licence"), samples)
    pages |= {"tiles": raw(tiles(pages_of, held, parts(root))), "transfer": raw(transfer(abroad()))}
    pages |= _of_models(held, refused, root, target / "book/_static/holds")
    for name, text in pages.items():
        (target / "book/_generated" / f"{name}.md").write_text(text, "utf-8")


def _of_models(held: Sequence[Held], refused: Sequence[str], root: Path, scripts: Path) -> dict[str, str]:
    """The pages' parts that are made from all results, and the scripts with the data of each model."""
    predictions = holds.read_predictions(root / PLACE / "predictions.csv")
    scripts.mkdir()
    told = [
        {"slug": slug(one.name), "label": one.label, "chapters": [*one.runs], "grid": bool(one.grid)}
        | {
            "claims": [
                {"id": c["id"], "reading": c["reading"]}
                for c in one.claims
                if {*c["evidence"].get("values", ())} - {None}
            ]
        }
        for one in held
    ]
    index = f"window.semhubModels={json.dumps(told, ensure_ascii=False)};\n"
    (scripts / "models.js").write_text(index, "utf-8")
    for one in held:
        (scripts / f"{slug(one.name)}.js").write_text(holds.script(one, predictions.get(one.name)), "utf-8")
        if one.grid:
            name, data = f"{slug(one.name)}-grid", gzip.decompress(one.grid.read_bytes()).decode().replace("</", "<\\/")
            (scripts / f"{name}.js").write_text(f"semhubHolds({json.dumps(name)},{data});\n", "utf-8")
    stands = {chapter.name: f"../notebooks/{chapter.stem}.html" for chapter in book.chapters(root)}
    pages = {"holds": raw(holds.as_html(held, predictions, stands)), "holds_small": raw(holds.small(held))}
    pages |= {"in_short": holds.in_short(held), "in_brief": holds.in_brief(held)}
    pages["holds"] += "".join(f"\nLeft out: {said}\n" for said in refused)
    shown = next((one for one in held if not one.known), next(iter(held), None))
    quoted = f"> {holds.methods(shown)}\n" if shown else "No results were found when this page was built.\n"
    output = f"```text\n{holds.as_text([shown]) if shown else ''}\n```\n"
    return pages | {
        "models": models_table(held),
        "times": times_table(held),
        "sweep": sweep_cost([one for one in held if not one.known]),
        "methods": quoted,
        "output": output,
        "architectures": f"{', '.join(_architectures(root / 'tests/architectures.py'))}.\n",
    }


def raw(text: str) -> str:
    """HTML as a part of a page in Markdown."""
    return f"```{{raw}} html\n{text}\n```\n"


def takeaway(pages: Mapping[str, tuple[dict, str]]) -> str:
    """Of each chapter its page, the executed notebook, and its exercises as page and notebook."""

    def file(path: str) -> str:
        return f'<a href="../_sources/{path}.ipynb" download>.ipynb</a>'

    rows = []
    for stem, (page, _) in pages.items():
        title = re.search(r"^# (.+)", page["cells"][0]["source"], re.M)[1]
        own, asked = f"notebooks/{stem}", f"book/exercises/{stem}"
        rows.append((f"[{int(stem[:2])}. {title}](../{own}.ipynb)", file(own)))
        rows[-1] += (f"[page](exercises/{stem}.ipynb), {file(asked)}",)
    return _table(("Chapter", "Executed", "Exercises"), rows)


def tables(filed: Path, target: Path) -> str:
    """Puts the tables and claims on file where the site has them, and lists them."""
    rows = []
    for folder in sorted(path.parent for path in filed.glob(f"*/{FILED[0]}")):
        (target / folder.name).mkdir(parents=True)
        for name in FILED:
            shutil.copy(folder / name, target / folder.name)
        label, at = read(folder).label, f"../_static/results/{folder.name}"
        names = {name: f"{slug(label)}-{name}" for name in FILED}  # which tells files of several models apart
        links = (f'<a href="{at}/{k}" download="{v}">{"".join(Path(k).suffixes)}</a>' for k, v in names.items())
        rows.append((label, *links))
    return _table(("Model", "Tables", "Claims"), rows)


# The front page


def minutes(notebook: dict) -> int:
    """How long it takes to read what is open in an executed chapter: its words, and its figures."""
    shown = [cell for cell in notebook["cells"] if "hide-output" not in cell["metadata"].get("tags", [])]
    outputs = [out.get("data", {}) for cell in shown for out in cell.get("outputs", [])]
    texts = ["".join(data.get("text/html", "")) for data in outputs]
    figures = sum(text.count("<figure") for text in texts) + sum("view+json" in " ".join(data) for data in outputs)
    texts += [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    words = sum(len(re.findall(r"\w[\w'’-]*", HIDDEN.sub(" ", text))) for text in texts)
    return max(1, round(words / WORDS + figures * SECONDS / 60))


def _times(page: dict, chapter: str, held: Sequence[Held]) -> str:
    """How long a chapter takes to read, and took to run on the first model that ran it."""
    run = next((one.runs[chapter] for one in held if chapter in one.runs), None)
    ran = f", to run: {run['seconds']:.0f} s on {called(run['model'])}" if run else ""
    return f"Time to read: {minutes(page)} minutes{ran}"


def parts(root: Path) -> dict[str, list[str]]:
    """The parts of the book that have chapters, and these by the names of their notebooks."""
    told = {}
    for part in yaml.safe_load((root / "_toc.yml").read_text("utf-8"))["parts"]:
        files = [Path(of["file"]) for of in part["chapters"] if of["file"].startswith("notebooks/")]
        told |= {part["caption"]: [path.name for path in files]} if files else {}
    return told


def tiles(pages: Mapping[str, tuple[dict, str]], held: Sequence[Held], parts: Mapping[str, Sequence[str]]) -> str:
    """A link to each chapter, by part: its question, what became of its claims on the first model that ran it, and
    times. pages: by the notebook's name, itself and its times."""
    shown = {part: _tiles({stem: pages[stem] for stem in stems}, held) for part, stems in parts.items()}
    return "".join(f'<h3>{html.escape(part)}</h3><ol class="tiles">{items}</ol>' for part, items in shown.items())


def _tiles(pages: Mapping[str, tuple[dict, str]], held: Sequence[Held]) -> str:
    items = ""
    for stem, (page, times) in pages.items():
        number, _, name = stem.partition("_")
        head, claims = page["cells"][0]["source"], next((one.claims for one in held if name in one.runs), [])
        [title, *_], asked = re.findall(r"^# (.+)", head, re.M), re.findall(r"^\*\*(.+?)\*\*$", head, re.M | re.DOTALL)
        question = re.sub(r"[*`](.+?)[*`]", r"<em>\1</em>", html.escape(" ".join(asked[:1]).replace("\n", " ")))
        counted = Counter(c["verdict"] for c in claims if c["chapter"] == name and not of_a_trap(c))
        dots = "".join(
            f'<i data-verdict="{kind}" title="{kind}">{mark}{n}<span class="visually-hidden"> {kind}</span></i> '
            for kind, mark in SYMBOLS.items()
            if (n := counted[kind])
        )
        link = f'<a href="../notebooks/{stem}.html">{int(number)}. {html.escape(title)}</a>'
        items += f'<li>{link}<p>{question}</p><p class="tile-marks">{dots}</p><p>{times}</p></li>'
    return items


def transfer(answers: pd.DataFrame) -> str:
    """Bars of the share of right answers, a row for each language and a column for each text model: of the columns
    that `experiments.raising.abroad` has."""
    models, rows = [*dict.fromkeys(answers["training"])], []
    for language, some in answers.groupby("language", sort=False):
        rows.append([language.title()])
        for of in some.set_index("training").loc[models].itertuples():
            title = f"95% interval {of.low:.1%} to {of.high:.1%}, {of.n} answers"
            bar = f'<span class="bar" title="{title}" style="--low:{of.low:.4f};--high:{of.high:.4f}"></span>'
            rows[-1].append(f"{bar}<b>{of.value:.0%}</b>")
    said = "Share of right answers, with its 95% interval over answers; chapter 11 tells of how few independent things"
    return table_box("transfer", said, ("Asked in", *models), rows)


def _architectures(path: Path) -> list[str]:
    """Those that the tests make: the names in their tables."""
    told = (node for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.Assign | ast.AugAssign))
    tables = [
        of.value for of in told if getattr(getattr(of, "targets", [getattr(of, "target", 0)])[0], "id", 0) in TABLES
    ]
    return sorted({key.value for of in tables for key in of.keys})


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: int = 0) -> str:
    """A Markdown table; its last columns are of numbers."""
    lines = ["---"] * (len(head) - numbers) + ["---:"] * numbers
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, lines, *rows)) + "\n"


def status_table(held: Sequence[Held]) -> str:
    """What every run took, how near that is to the floor, and the versions that runs and site used."""
    if not held:
        return "No results were found when this page was built.\n"
    runs, rows = [(one.label, name, run) for one in held for name, run in one.runs.items()], []
    for label, name, run in runs:
        of = {"GiB": (run.get("peak_memory_bytes") or 0) / 2**30, "read": 0.0, "edit": 0.0} | run.get("forwarded", {})
        numbers = (f"{of[what]:.{2 - (what == 'GiB')}f}" if of[what] else "–" for what in ("GiB", "read", "edit"))
        rows.append((f"{name}, {label}", f"{run['seconds']:.0f}", *numbers))
    used = {(name, version(name)) for name in SITE_PACKAGES}.union(*(run["versions"].items() for *_, run in runs))
    versions = ", ".join(f"{name} {number}" for name, number in sorted(used))
    return f"{_table(('Chapter and model', 's', 'GiB', 'read', 'edit'), rows, 4)}\nVersions: {versions}.\n"


def models_table(held: Sequence[Held]) -> str:
    """The models: their files, when they were run; how many claims hold, and of how many that is more than chance."""
    rows = []
    for one in held:
        of, runs = family(one.claims), [*one.runs.values()]
        files = {f"<code>{name}</code> {sha[:12]}…" for run in runs for name, sha in run.get("files", {}).items()}
        days = max(run["finished"][:10] for run in runs) + f" ({len(one.stale)} stale)" * bool(one.stale)
        about = f"{called(one.name)}<br>{days}"
        if files:
            about += f"<details><summary>Weights</summary>sha256<br>{'<br>'.join(sorted(files))}</details>"
        counts = (f"{of[k]:.3g}" for k in ("holds", "expected_by_chance", "remain"))
        rows.append((about, f"{of['tested']}/{of['claims']}", *counts))
    return _table(("Model, newest run", "Tested", "Hold", "By chance", "Holm"), rows, 4)


def times_table(held: Sequence[Held]) -> str:
    """Of each model what all of its chapters took, what the longest did, and the most memory; folded, each chapter."""
    if not held:
        return "No results were found when this page was built.\n"
    rows = []
    for one in held:
        took = [run["seconds"] for run in one.runs.values()]
        memory = max(run.get("peak_memory_bytes") or 0 for run in one.runs.values())
        peak = f"{memory / 2**30:.1f}" if memory else "–"
        rows.append((one.label, f"{len(took)}", f"{sum(took):.0f} s", f"{max(took):.0f} s", peak))

    def told(run: dict[str, Any] | None) -> str:
        memory = run and run.get("peak_memory_bytes")
        return f"{run['seconds']:.0f} s{f' · {memory / 2**30:.1f} GiB' * bool(memory)}" if run else "–"

    names = dict.fromkeys(chapter for one in held for chapter in one.runs)
    each = [(name, *(told(one.runs.get(name)) for one in held)) for name in names]
    box = table_box("data-table-scroll", "Seconds and peak memory", ("Chapter", *(one.label for one in held)), each)
    fold = f'<details class="data-table"><summary>Each chapter on each model</summary>{box}</details>'
    return _table(("Model", "Chapters", "In all", "Longest", "GiB"), rows, 4) + f"\n{raw(fold)}"


def sweep_cost(public: Sequence[Held], models: int = 10) -> str:
    """What so many models take, by what the chapters on file took of those that people use, on the mean."""
    took: dict[str, list[float]] = {}
    for one in public:
        for chapter, run in one.runs.items():
            took.setdefault(chapter, []).append(run["seconds"])
    if not took:
        return "No results of models that people use were found when this page was built.\n"
    hours = models * sum(sum(some) / len(some) for some in took.values()) / 3600
    rates = [
        sum(run["tokens"].values()) / run["seconds"] for one in public for run in one.runs.values() if run.get("tokens")
    ]
    least_most = " to ".join(dict.fromkeys(f"{of(rates):.0f}" for of in (min, max) if rates))
    read = f", at {least_most} tokens a second" if rates else ""
    return (
        f"{len(took)} chapters are on file, each of one or more of these models: "
        f"{', '.join(one.label for one in public)}. At their mean times, on one core{read}, all {len(took)} take "
        f"{hours / models:.1f} hours a model. {models} such models take {hours:.0f} hours, or {hours / 8:.0f} with 8 "
        f"chapters at a time. Time grows with parameters times tokens.\n"
    )


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
        parts.append(_table(("Chapter", "Lens", "Similarity", "Intervention"), chapters, 3))
    return "\n".join(parts)


def _sphinx(staged: Path, out: Path, doctrees: Path, strict: bool) -> None:
    """Be the process that builds, in which pages are read and written side by side; it ends with 1 if it fails."""
    from jupyter_book.sphinx import build_sphinx

    how = {"noconfig": True, "keep_going": True, "quiet": True, "warningiserror": strict, "jobs": os.cpu_count()}
    how["confoverrides"] = {"nitpicky": strict, "latex_individualpages": False}
    warnings.filterwarnings("ignore", ".*reduce_op", FutureWarning)  # a part of Sphinx looks at every object there is
    with open(staged / MESSAGES, "w", encoding="utf-8") as sys.stderr:
        sys.exit(bool(build_sphinx(staged, out, path_config=staged / "_config.yml", doctreedir=doctrees, **how)))


def build_site(
    executed: Iterable[Path],
    out: Path,
    results: Path,
    *,
    root: Path,
    strict: bool = False,
    beside: Sequence[Path] = (),
) -> Path:
    """Build the site from executed notebooks, one for each chapter of _toc.yml, and return the path of its front page.
    strict: warnings and unresolved references fail the build. beside: folders of results of models that are shown too.
    Raises SemhubError when a chapter is missing or the build fails."""
    staged, doctrees = out.parent / "stage", out.parent / "doctrees"
    need(find_spec("jupyter_book"), "Building the book needs jupyter-book; `make book` installs it.")
    # as kernels are, copies of a process with the libraries loaded, which staging needs and the page of the package's
    # parts imports
    way = get_context("forkserver" if sys.platform == "linux" else "spawn")
    with ProcessPoolExecutor(1, way) as pool:
        pool.submit(stage, [*executed], staged, root=root, results=results, beside=beside).result()
    for folder in (out, doctrees):
        shutil.rmtree(folder, ignore_errors=True)
    builder = way.Process(target=_sphinx, args=(staged, out, doctrees, strict))
    builder.start()
    try:
        builder.join()
    finally:
        builder.terminate()
    sys.stderr.write((staged / MESSAGES).read_text("utf-8"))
    need(not builder.exitcode, "The book did not build cleanly; the messages above name the pages.")
    front = out / "index.html"
    front.write_text(FRONT.replace("FIRST", f"{next(book.documents(root))}.html"), "utf-8")
    return front

"""Results on file: what was found on models, kept with the book by experiment and not by chapter.

    book/results/<model>/claims.json.gz         {"schema", "model", "runs": {chapter: provenance}, "made": {experiment:
                                                {module: digest}}, "experiments": {experiment: claims by chapter}}
    book/results/<model>/tables.parquet         the rows of all experiments, with the column chapter
    book/results/<model>/lens-grid.json.gz      what the grid of the first chapter shows

They are stale where the claims are of another schema, or where the modules that name their experiment say something
else today (`said_in`); not whenever the package has changed.
"""

import ast
import gzip
import json
import random
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from itertools import count, product
from os.path import isdir
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from . import book
from .errors import DAMAGED, SemhubError, need, reason
from .identity import PREFIX, RANDOM, atomically, called, digest, model_label, sha256_of, slug
from .results import GRID, KEY, SCHEMA, finished, load_results
from .rows import WEAKEST_FIRST, by_own, by_row, family

PLACE, CLAIMS, TABLES = Path("book/results"), "claims.json.gz", "tables.parquet"
EXPERIMENTS = Path(__file__).parent / "experiments"
RELATIVE, ABSOLUTE = 0.01, 0.002
"""How far a number of a run made again may be from the one on file: of the number itself, and besides."""
COMPARED = ("statistic", "low", "high", "p", "n", "n_units")
SAMPLE = 2  # chapters
CALIBRATING = ("instruments", "trials")  # modules that name experiments which they ask of planted models


NUMBER = (int, float, type(None))
CLAIM = {
    str: "chapter id claim experiment series reading form unit verdict condition by",
    NUMBER: "statistic low high p layer least n n_units n_layers",
    list: "where passes",
    dict: "controls units evidence",
}
RUN = {str: "model data", (str, type(None)): "revision", dict: "parameters versions", NUMBER: "seconds"}
"""What pages and comparisons take for granted of a claim, and of the provenance of a run."""


class Damaged(SemhubError):
    """Results that are there and cannot be read."""


@dataclass(frozen=True)
class Held:
    """What is known of one model: its claims, each with its `chapter`, and by chapter the provenance of the run."""

    name: str  # as upstream calls it
    claims: list[dict[str, Any]] = field(default_factory=list)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    made: dict[str, dict[str, str]] = field(default_factory=dict)  # by experiment and module what it said
    grid: Path | None = None

    @property
    def known(self) -> bool:
        """Whether the truth about it is known, as it was made for this book or never trained."""
        return self.name.startswith((PREFIX, RANDOM))

    @property
    def label(self) -> str:
        """Its name for the reader, with the quantisation."""
        run = {"revision": None} | next(iter(self.runs.values()), {})
        return model_label(run | {"model": called(self.name.partition("@")[0]).rpartition("/")[2]})

    @property
    def text_only(self) -> bool:
        return all(run.get("reads", ["text"]) == ["text"] for run in self.runs.values())

    @cached_property
    def stale(self) -> dict[str, str]:
        """By experiment the module that says something else today."""
        return {
            name: module
            for name, of in self.made.items()
            for module, said in of.items()
            if module not in CALIBRATING and said_in(module) != said
        }

    def __or__(self, other: "Held") -> "Held":
        """The chapters of both; where they share one, the other's."""
        own = [claim for claim in self.claims if claim["chapter"] not in other.runs]
        made = self.made | other.made
        return Held(self.name, own + other.claims, self.runs | other.runs, made, other.grid or self.grid)

    def ordered(self, chapters: Sequence[str]) -> "Held":
        """With claims and runs in the order of these chapters, and then of others."""
        order = dict(zip(dict.fromkeys([*chapters, *self.runs]), count()))
        claims = sorted(self.claims, key=lambda claim: order.get(claim["chapter"], len(order)))
        return replace(self, claims=claims, runs={name: self.runs[name] for name in order if name in self.runs})


@cache
def said_in(module: str) -> str:
    """A digest of what a module of `experiments` does, without comments, docstrings and layout; "" where it is gone."""
    path = EXPERIMENTS / f"{module}.py"
    tree = ast.parse(path.read_bytes() if path.is_file() else b"")
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            said = [one for one in body if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))]
            node.body = said or body[:1]
    return digest(ast.dump(tree)) if path.is_file() else ""


def made_by(experiment: str) -> dict[str, str]:
    """The modules that name an experiment, with what they say."""
    named = [path.stem for path in EXPERIMENTS.glob("*.py") if f'"{experiment}"' in path.read_text("utf-8")]
    return {module: said_in(module) for module in sorted({*named}.difference(CALIBRATING))}


def read(folder: Path) -> Held:
    """The results in a folder: on file, or as chapters leave them. SemhubError where there are none of this schema, or
    none that are whole."""
    try:
        held = _read(folder)
        for what, several, shape in (("claim", held.claims, CLAIM), ("run", held.runs.values(), RUN)):
            for of, (kinds, names) in product(several, shape.items()):
                wrong = [name for name in names.split() if not isinstance(of.get(name, ...), kinds)]
                if wrong:
                    raise ValueError(f"of a {what} {', '.join(wrong)} is missing or of another kind")
        if unknown := {claim["verdict"] for claim in held.claims} - {*WEAKEST_FIRST}:
            raise ValueError(f"there is no verdict {unknown.pop()!r}")
        _ = held.stale, held.label, [by_row(held.claims), by_own(held.claims), family(held.claims)]
        return held
    except DAMAGED as error:
        why = f"The results in {folder} cannot be read ({reason(error)})"
        raise Damaged(f"{why}; those that `semhub run` or `--record` wrote would do.") from error


def _read(folder: Path) -> Held:
    path, grid = folder / CLAIMS, folder / GRID if (folder / GRID).is_file() else None
    if path.is_file():
        written = json.loads(gzip.decompress(path.read_bytes()))
        said = f"{path} is of schema {written['schema']!r}, and this version reads {SCHEMA}; `semhub run ... --record`"
        need(written["schema"] == SCHEMA, f"{said} writes it anew.")
        claims = [claim for some in written["experiments"].values() for claim in some]
        return Held(written["model"], claims, written["runs"], written["made"], grid)
    files = [*finished(folder).values()]
    need(files, f"There are no results of schema {SCHEMA} in {folder}; `semhub run` makes them.")
    runs = {of["provenance"]["chapter"]: of["provenance"] for of in files}
    claims = [{"chapter": of["provenance"]["chapter"]} | claim for of in files for claim in of["claims"]]
    head = files[0]["provenance"]
    return Held("@".join(filter(None, (head["model"], head["revision"]))), claims, runs, grid=grid)


def read_all(places: Iterable[Path]) -> tuple[list[Held], list[str]]:
    """All models below folders of results, those of known truth first; a chapter of a later folder takes the place of
    an earlier one's. And a sentence for each folder that cannot be read."""
    found, refused = {}, []
    folders = [{path.parent: None for path in sorted(place.rglob("*claims.json*"))} for place in places]
    for folder in (folder for some in folders for folder in some):
        try:
            one = read(folder)
        except SemhubError as error:
            refused.append(str(error))
            continue
        found[one.name] = found.get(one.name, Held(one.name)) | one
    for name in [name for name in found if name.endswith(("-sees", "-hears"))]:  # rows of the model behind them
        behind = found.get(name.rpartition("-")[0])
        if behind:
            own = {chapter: run for chapter, run in found[name].runs.items() if chapter not in behind.runs}
            claims = [claim for claim in found[name].claims if claim["chapter"] in own]
            found[behind.name] = behind | Held(behind.name, claims, own)
            del found[name]
    order = [f"{PREFIX}{name}" for name in ("hub", "islands", "planted", "balanced", "taught")]
    ranked = sorted(found, key=lambda name: (order.index(name) if name in order else 9 - found[name].known, name))
    return [found[name] for name in ranked], refused


def find(name: str, place: Path) -> Held:
    """A model by its name on file, or the results in a folder of that path."""
    folder = next((Path(of) for of in (name, place / slug(name)) if isdir(of)), None)
    there = ", ".join(sorted(path.parent.name for path in place.glob(f"*/{CLAIMS}"))) or "none"
    need(folder, f"There are no results of {name!r}; on file are {there}, and a folder of results would do.")
    found, refused = read_all([folder])
    need(found, " ".join(refused) or f"There are no results in {folder}; `semhub run` makes them.")
    several = ", ".join(one.name for one in found)
    need(len(found) == 1, f"{folder} holds results of {len(found)} models ({several}); the folder of one would do.")
    return found[0]


def record(folder: Path, place: Path, upstream: str = "") -> Path:
    """Put the results of a model on file, under the name that upstream gives it where that is another. Chapters that
    are on file and were not run again stay. Returns the folder."""
    new = read(folder)
    name, model = upstream or new.name, next(iter(new.runs.values()))["model"]
    target, held = place / slug(name), Held(name)
    try:
        held = read(target)
    except Damaged:
        raise
    except SemhubError:  # none yet, or of another schema
        (target / TABLES).unlink(missing_ok=True)
    runs = {chapter: {k: v for k, v in run.items() if k != "steps"} for chapter, run in new.runs.items()}
    held |= Held(name, new.claims, runs)
    tables, path = load_results(folder.parent, model=model).drop(columns="model"), target / TABLES
    if path.is_file():
        old = pd.read_parquet(path)
        tables = pd.concat([old[~old["chapter"].isin(new.runs)], tables], ignore_index=True).dropna(axis=1, how="all")
    tables = tables.sort_values(["experiment", "chapter"], kind="stable")
    numbers = [*tables.select_dtypes("float")]
    for column in numbers:  # four digits, of which a file is half as large
        bits = tables[column].to_numpy("float32").view("int32")
        tables[column] = ((bits + (1 << 9)) & -(1 << 10)).view("float32")
    packing = {"use_dictionary": [*tables.columns.difference(numbers)], "compression_level": 19, "compression": "zstd"}
    packing["column_encoding"] = dict.fromkeys(numbers, "BYTE_STREAM_SPLIT")
    atomically(path, partial(tables.to_parquet, index=False, **packing))
    experiments: dict[str, list] = {}
    for claim in sorted(held.claims, key=lambda claim: (claim["experiment"], claim["id"])):
        experiments.setdefault(claim["experiment"], []).append(short(claim))
    ran = {claim["experiment"] for claim in new.claims}
    made = {
        experiment: made_by(experiment) if experiment in ran else held.made[experiment] for experiment in experiments
    }
    whole = {"schema": SCHEMA, "model": name, "runs": held.runs, "made": made, "experiments": experiments}
    data = gzip.compress(json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode(), mtime=0)
    atomically(target / CLAIMS, lambda to: to.write_bytes(data))
    if new.grid:
        atomically(target / GRID, lambda to: shutil.copy(new.grid, to))
    return target


def short(value: Any) -> Any:
    """JSON with its numbers cut to five digits."""
    if isinstance(value, Mapping):
        return {name: short(of) for name, of in value.items()}
    if isinstance(value, (list, tuple)):
        return [short(of) for of in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def verify(
    held: Held, root: Path, *, weights: str | None = None, every: bool = False, seed: int = 0, say: Callable = print
) -> tuple[list[book.Outcome], list[str]]:
    """Run chapters again as they were run, a sample drawn by `seed` or all, and compare with what is on file: what
    became of each, and a line for each claim and table that differs by more than RELATIVE and ABSOLUTE.

    weights: where the model lies, if not where its name says."""
    there = {chapter.name: chapter for chapter in book.chapters(root)}
    names = [name for name in held.runs if name in there]
    need(names, f"No chapter of {held.name} on file is in this book; they were {', '.join(held.runs)}.")
    if weights:
        from .formats import source_of  # with all that reads models

        known = {sha: name for run in held.runs.values() for name, sha in run.get("files", {}).items()}
        same = {sha256_of(path) for path in source_of(weights).files(None)} & known.keys()
        would = " and ".join(sorted({*known.values()}))
        need(same or not known, f"{weights} holds other weights than were read for {held.name}; {would} would do.")
    if not every:
        names = sorted(random.Random(seed).sample(names, min(SAMPLE, len(names))))
    with tempfile.TemporaryDirectory(prefix="semhub-") as folder:
        jobs, results = [], Path(folder, "results")
        for name in names:
            run = held.runs[name]
            given = {k: v for k, v in run["parameters"].items() if k in there[name].parameters and v is not None}
            need("data_dir" not in given, f"{name} was run on files of {given.get('data_dir')}, which are not here.")
            settings = {k: v for k, v in given.items() if k not in ("model_id", "revision", "results_dir")}
            places = {"out": Path(folder), "results_dir": results, "apart": False, "revision": run["revision"]}
            jobs += book.plan([there[name]], [weights or run["model"]], settings=settings, **places)
        outcomes = book.run(jobs, say=say)
        again = Path(folder, "again")
        done = {outcome.job.results for outcome in outcomes if not outcome.error}
        for made in done:
            record(made, again, held.name)
        new = read(again / slug(held.name)) if done else Held(held.name)
        differ = compared(held, new) if new.runs else []
        files = [of / slug(held.name) / TABLES for of in (root / PLACE, again)]
        differ += rows_apart(*map(pd.read_parquet, files), [*new.runs]) if new.runs else []
    return outcomes, differ


def compared(old: Held, new: Held) -> list[str]:
    """A line for each claim of the chapters of `new` that is not what it was."""
    before, now = ({c["id"]: c for c in held.claims if c["chapter"] in new.runs} for held in (old, new))
    told = [f"{name}: not claimed any more" for name in before.keys() - now.keys()]
    told += [f"{name}: not on file" for name in now.keys() - before.keys()]
    for name in before.keys() & now.keys():
        a, b = before[name], now[name]
        if (a["verdict"], a["by"]) != (b["verdict"], b["by"]):
            told.append(f"{name}: {b['verdict']} {b['by']}".rstrip() + f", on file {a['verdict']} {a['by']}".rstrip())
        apart = [k for k in COMPARED if not _near(*(np.array([of[k]], float) for of in (a, b)))]
        curves = (np.array(of["evidence"]["values"], float) for of in (a, b))
        apart += ["the curve"] * (not _near(*curves))
        told += [f"{name}: {k} {b.get(k, '')}, on file {a.get(k, '')}" for k in apart]
    return sorted(told)


def _near(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and np.allclose(a, b, RELATIVE, ABSOLUTE, equal_nan=True)


def rows_apart(old: pd.DataFrame, new: pd.DataFrame, chapters: list[str]) -> list[str]:
    """A line for each experiment of which rows are gone, or new, or have other numbers."""
    key, told = [name for name in ("chapter", "data_type", *KEY) if name in old and name in new], []
    old, new = (of.sort_values(key, kind="stable") for of in (old[old["chapter"].isin(chapters)], new))
    for experiment in sorted({*old["experiment"], *new["experiment"]}):
        before, now = (of[of["experiment"] == experiment].reset_index(drop=True) for of in (old, new))
        if len(before) != len(now):
            told.append(f"{experiment}: {len(now)} rows, on file {len(before)}")
            continue
        apart = [c for c in key if not before[c].astype(str).equals(now[c].astype(str))]
        for column in old.select_dtypes("number").columns.intersection(new.columns).difference(key):
            apart += [column] * (not _near(*(of[column].to_numpy(float, na_value=np.nan) for of in (before, now))))
        told += [f"{experiment}: {', '.join(apart)} of its rows differ"] * bool(apart)
    return told

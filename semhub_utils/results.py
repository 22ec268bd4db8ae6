"""What a chapter found on a model: steps kept on disk as they are done, in the end its tables and its claims::

    <results_dir>/<model>/<chapter>.parts/<step>-<key>.parquet   each step, so that a killed run resumes
    <results_dir>/<model>/<experiment>/<chapter>.parquet         a table per experiment, with provenance in its metadata
    <results_dir>/<model>/<chapter>.claims.json                  {"schema": ..., "provenance": ..., "claims": [...]}
    <results_dir>/<model>/rows.json                              what the claims of all chapters come to (`rows`)

A step's key is what it computes (`identity.digest`). Every file is written under another name first and moved into
place, so that what is there is whole.
"""

import difflib
import json
import shutil
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from functools import partial
from os.path import isdir
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from .calibration import found_of_planted, not_found
from .errors import DAMAGED, SEEDS, SemhubError, half_characters, need, need_plain, reason
from .evidence import Evidence
from .identity import (
    DTYPES,
    Undigestible,
    atomically,
    digest,
    folder_digest,
    is_folder,
    model_slug,
    of_model,
    placeless,
    sha256_of,
    slug,
    try_writing,
    versions,
)
from .progress import note
from .rows import by_row, family
from .verdicts import Verdict, judge

SCHEMA = 3
GRID = "lens-grid.json.gz"
"""Of tables and claims; another one has other columns or keys."""
COLUMNS = tuple("experiment data_type series reading layer depth value low high p n dropped".split())
MADE = "made by rule"
"""Where items are from that are neither read nor of the made-up world, such as sums."""
KEY = (
    *("experiment", "data_type", "series", "reading", "layer", "control"),
    *("item", "word", "text", "language", "ending", "part", "condition", "direction", "strength", "measure"),
    *("artefact", "training", "model", "type", "tokens", "milestone", "push", "by", "prompt", "words", "time"),
    *("picture", "among", "row", "column"),
)
"""Those of these columns that a table has tell its rows apart, empty ones included (book/conventions.md)."""
PARAMETERS = ("model_id", "revision", "device", "dtype", "items", "n_items", "seed", "data_dir", "results_dir")
ITEMS = ("auto", "generated", "natural")

StepResult = pd.DataFrame | tuple[pd.DataFrame, list[Evidence]]


class Run:
    """One chapter on one model. `parameters` are the chapter's own, as checked by `check_parameters`.

    `model` needs `model_id`, `revision` and `fingerprint`. Evidence found by the steps is under `evidence[step]`,
    judged claims under `claims`, the tables of all steps together under `table`.
    """

    def __init__(self, chapter: str, model: Any, parameters: Mapping[str, Any], results_dir: str | Path):
        self.chapter, self.model, self.parameters = chapter, model, dict(parameters)
        self.folder = Path(results_dir) / model_slug(model.model_id, model.revision)
        self.parts = self.folder / f"{chapter}.parts"
        self.evidence: dict[str, list[Evidence]] = {}
        self.claims: list[dict[str, Any]] = []
        self._tables: dict[str, pd.DataFrame] = {}
        self._costs: dict[str, dict[str, float | None]] = {}
        self._used: set[Path] = set()
        self._computed: set[str] = set()  # the steps that were not taken from disk
        self.sources: dict[str, list[str]] = {}  # by step, of the items that it is computed from
        self._data = data_digests(self.parameters | {"results_dir": str(results_dir)})
        try:
            self.parts.mkdir(parents=True, exist_ok=True)
            self._older = set(self.parts.glob("*"))
        except OSError as error:
            raise SemhubError(_cannot_write(results_dir, error)) from error

    def run(
        self,
        name: str,
        key: Sequence[Any],
        compute: Callable[[], StepResult],
        columns: Mapping[str, str] | None = None,
    ) -> pd.DataFrame:
        """The table that `compute` returns, or the one it returned before from the same `key`, parameters, data, model
        and versions; where the content of `key` cannot be told, it is computed again.

        key: all that is computed from, such as (function, experiment, items). columns: written into every row, as
        {"data_type": "spanish"}. Where `compute` returns (table, evidence), that is under `evidence[name]`, also when
        taken from disk.
        """
        path, sources = None, set()
        with suppress(Undigestible):
            path = self.parts / f"{slug(name)}-{self._key(key, columns, sources)}.parquet"
            self._used.add(path)
        self.sources[name] = sorted(sources)
        stored = path and _read(path)
        if not stored:
            note(step=name, done=0, total=0)
            started, store = time.perf_counter(), getattr(self.model, "store", None)
            batches = path.with_suffix(".batches") if path and store else None
            with store.step(batches) if batches else nullcontext():
                result = compute()
            self._computed.add(name)
            table, found = result if isinstance(result, tuple) else (result, [])
            cost = {"seconds": round(time.perf_counter() - started, 3), "peak_memory_bytes": _peak_memory(self.model)}
            kept = {"evidence": [e.to_json() for e in found], "cost": cost}
            data = _packed(table.assign(**columns or {}), kept)
            if path:
                _write(path, data)
            if batches:
                shutil.rmtree(batches, ignore_errors=True)
            stored = _unpacked(data)  # first and later runs get the same
        table, kept = stored
        self._tables[name], self._costs[name] = table, kept["cost"]
        self.evidence[name] = [Evidence.from_json(e) for e in kept["evidence"]]
        return table

    def claim(
        self,
        evidence: Evidence,
        sentence: str | None = None,
        *,
        row: int | None = None,
        paper: str | None = None,
        precondition: str | None = None,
        others: Sequence[Evidence] = (),
    ) -> dict[str, Any]:
        """Judge a claim and note it. Returns the entry of claims.json: what a claim card shows.

        sentence: the claim in words. row, paper: the paper's experiment that it is about, in the order of its sections,
        and the paper's sentence, where it has one (else the claim is our own). precondition: one that failed, in words.
        others: the same claim in other readings, which are judged beside it and do not count. The entry says how many
        of the effects planted for it this instrument found (`found`); one that misses them is not believed.
        """
        found = found_of_planted(evidence.experiment, row=row, chapter=self.chapter)
        why = precondition or not_found(found)
        entry, *judged = (_entry(e, judge(e, precondition=why)) for e in (evidence, *others))
        entry["id"], entry["claim"] = f"{self.chapter}/{evidence.claim}", sentence or evidence.claim
        entry["row"], entry["paper"], entry["found"] = "own" if row is None else row, paper, found
        step = next((name for name, some in self.evidence.items() if any(e is evidence for e in some)), "")
        entry["items"] = ", ".join(self.sources.get(step, ())) or MADE
        kept = ("verdict", "by", "statistic", "low", "high", "layer")
        entry["readings"] = {of["reading"]: {name: of[name] for name in kept} for of in judged}
        self.claims = [claim for claim in self.claims if claim["id"] != entry["id"]] + [entry]
        return entry

    @property
    def table(self) -> pd.DataFrame:
        """The tables of all steps: COLUMNS first, then what a step adds; where unset, experiment is the step's name and
        data_type the chapter's."""
        tables = [_tidy(table, {"experiment": name, "data_type": self.chapter}) for name, table in self._tables.items()]
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(COLUMNS))

    def finish(self) -> list[Path]:
        """Write the tables and the claims, what the claims of all chapters on this model come to, clear what earlier
        runs of this chapter left, and return the tables' paths, one for each experiment."""
        head, written = {"schema": SCHEMA, "provenance": self.provenance()}, []
        try:
            for experiment, table in self.table.groupby("experiment", sort=False):
                path = self.folder / slug(str(experiment)) / f"{self.chapter}.parquet"
                has = [name for name in table if name in COLUMNS or table[name].notna().any()]
                written.append(_write(path, _packed(table[has], head)))
            text = json.dumps(head | {"claims": self.claims}, ensure_ascii=False, indent=1, allow_nan=False)
            atomically(self.folder / f"{self.chapter}.claims.json", lambda to: to.write_text(text + "\n", "utf-8"))
            write_rows(self.folder)
            older = self._older - self._used  # what is newer may be of a run beside this one
            for part in older | set(self.folder.glob(f"*/{self.chapter}.parquet")) - set(written):
                shutil.rmtree(part) if part.is_dir() else part.unlink(missing_ok=True)
        except OSError as error:
            raise SemhubError(_cannot_write(self.folder, error)) from error
        return written

    def provenance(self) -> dict[str, Any]:
        """Where the numbers come from: model and weights, parameters, data, seed, versions, time and memory."""
        peaks = [cost["peak_memory_bytes"] for cost in self._costs.values() if cost["peak_memory_bytes"]]
        return {
            "chapter": self.chapter,
            "model": placeless("model_id", self.model.model_id),
            "revision": self.model.revision,
            "files": {path.name: sha256_of(path) for path in getattr(self.model, "files", ())},
            "quantisation": getattr(self.model, "quantisation", ""),
            "base": placeless("model_id", getattr(self.model, "base", "")),
            "weights": of_model(self.model),
            "reads": sorted(getattr(self.model, "modalities", ["text"])),
            "parameters": {k: placeless(k, v) for k, v in self.parameters.items() if k != "results_dir"},
            "data": ", ".join(sorted({one for of in self.sources.values() for one in of})) or MADE,
            "seed": self.parameters.get("seed"),
            "versions": versions(),
            "seconds": round(sum(cost["seconds"] for cost in self._costs.values()), 3),
            "peak_memory_bytes": max(peaks, default=None),
            "forwarded": (forwarded := self._forwarded()),
            "tokens": dict(self.model.store.forwarded) if forwarded else {},
            "steps": self._costs,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def _forwarded(self) -> dict[str, float]:
        """Tokens that the model forwarded over the distinct ones, of reading and of edits, where it counts them in its
        `store`; nothing where a step was taken from disk, as what that read is not known."""
        store = getattr(self.model, "store", None)
        return store.ratios() if store and self._computed == set(self._tables) else {}

    def _key(self, key: Sequence[Any], columns: Mapping[str, str] | None, sources: set[str]) -> str:
        parameters = {k: v for k, v in sorted(self.parameters.items()) if k != "results_dir"}
        return digest(key, columns or {}, parameters, self._data, self.model, versions(), sources=sources)


def load_results(
    results_dir: str | Path, *, experiment: str | None = None, chapter: str | None = None, model: str | None = None
) -> pd.DataFrame:
    """The finished tables under `results_dir` as one, with the columns chapter and model; of one experiment, chapter or
    model where it is named. Raises SemhubError where there is none, and on those of another schema."""
    tables = []
    for path in sorted(Path(results_dir).glob(f"*/{slug(experiment) if experiment else '*'}/{chapter or '*'}.parquet")):
        table, kept = _read(path) or (None, {})
        if whose := _whose(path, kept, model):
            tables.append(table.assign(**whose))
    _need_some(tables, results_dir, experiment=experiment, chapter=chapter, model=model)
    return pd.concat(tables, ignore_index=True)


def load_claims(
    results_dir: str | Path, *, experiment: str | None = None, chapter: str | None = None, model: str | None = None
) -> list[dict[str, Any]]:
    """The claims of finished chapters under `results_dir`, each with its chapter and model; asked for, and refused, as
    in `load_results`."""
    claims = []
    for path in sorted(Path(results_dir).glob(f"*/{chapter or '*'}.claims.json")):
        written = _claims_in(path)
        if whose := _whose(path, written, model):
            claims += [whose | claim for claim in written["claims"] if experiment in (None, claim["experiment"])]
    _need_some(claims, results_dir, experiment=experiment, chapter=chapter, model=model)
    return claims


def finished(folder: str | Path, pattern: str = "*.claims.json") -> dict[Path, dict[str, Any]]:
    """The claims files of this schema below a folder, by path: what a page or a summary of all can be made of."""
    read = {path: _claims_in(path) for path in sorted(Path(folder).glob(pattern))}
    return {path: written for path, written in read.items() if written.get("schema") == SCHEMA}


def _claims_in(path: Path) -> dict[str, Any]:
    need_plain(path)
    try:
        written = json.loads(path.read_text("utf-8"))
    except DAMAGED as error:
        raise SemhubError(f"{path} cannot be read ({reason(error)}); `semhub run` writes it anew.") from error
    need(isinstance(written, dict), f"{path} holds no claims by name; `semhub run` writes it anew.")
    return written


def write_rows(folder: Path) -> Path:
    """Write what the claims of all finished chapters on a model come to, `rows.by_row` and `rows.family`, into its
    folder. Chapters may finish beside each other: it is written again until no claims have come meanwhile."""

    def there() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in folder.glob("*.claims.json")}

    path, seen = folder / "rows.json", None
    while seen != there():
        seen, chapters = there(), []
        for one in sorted(seen):
            with suppress(SemhubError):  # one that is damaged costs no other
                chapters += finished(folder, one.name).values()
        claims = [claim for chapter in chapters for claim in chapter["claims"]]
        of = [chapter["provenance"] for chapter in chapters]
        head = {"schema": SCHEMA, **{name: of[0][name] for name in ("model", "revision")}}
        head["chapters"] = [one["chapter"] for one in of]
        text = json.dumps(head | {"rows": by_row(claims), "family": family(claims)}, ensure_ascii=False, indent=1)
        atomically(path, partial(Path.write_text, data=text + "\n", encoding="utf-8"))
    return path


def _whose(path: Path, written: Mapping[str, Any], model: str | None) -> dict[str, str]:
    """Chapter and model of a finished file; nothing if it is none of ours, or of another model."""
    if "provenance" not in written:
        return {}
    schema, whose = written.get("schema", 1), {name: written["provenance"][name] for name in ("chapter", "model")}
    if model is not None and placeless("model_id", model) != whose["model"]:
        return {}
    said = f"{path} is of schema {schema}, and this version reads {SCHEMA}; `semhub run` writes it anew."
    need(schema == SCHEMA, said)
    return whose


def _need_some(found: Sequence, results_dir: str | Path, **named: str | None) -> None:
    of = ", ".join(f"{what} {name!r}" for what, name in named.items() if name)
    where = f"{f'of {of} ' * bool(of)}under {str(results_dir)!r}"
    need(found, f"There are no results {where}; `semhub run` makes them.")


def data_digests(parameters: Mapping[str, Any]) -> dict[str, str]:
    """A digest of what lies now in each folder among the parameters, but the model's and the results'."""
    folders = {k: v for k, v in parameters.items() if k not in ("model_id", "results_dir") and is_folder(v)}
    return {name: folder_digest(folder, parameters.get("results_dir")) for name, folder in folders.items()}


def check_parameters(known: Collection[str] = (), /, **parameters: Any) -> dict[str, Any]:
    """The chapter's parameters if all will do, "" read as None; else SemhubError naming the first that will not.

    `known` names what the chapter takes besides PARAMETERS. How many items exist is known to the spoke alone.
    """
    names = (*PARAMETERS, *known)
    for name in parameters:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0)[0]
            raise SemhubError(f"There is no parameter {name!r}; the nearest is {near!r}, of {', '.join(names)}.")
    checked = {name: None if value == "" else value for name, value in parameters.items()}
    wanted = {
        "model_id": (_is_name, "a Hugging Face model id, a folder, a GGUF file or a name such as 'organism:hub'"),
        "revision": (lambda x: x is None or _is_name(x), "a branch, tag or commit, or nothing,"),
        **dict.fromkeys(
            ("sentiment_model", "judge_model"),
            (lambda x: x is None or _is_name(x), "a Hugging Face model id, a folder, or nothing,"),
        ),
        "plain_questions": (lambda x: x is None or isinstance(x, bool), "true, false, or nothing,"),
        "device": (
            _is_device,
            "'cpu', a device that this machine has such as 'cuda' or 'mps', 'auto' for several of them, or nothing,",
        ),
        "dtype": (lambda x: x in DTYPES, f"one of {', '.join(DTYPES)}"),
        "items": (lambda x: x in ITEMS, f"one of {', '.join(ITEMS)}"),
        **dict.fromkeys(
            ("n_items", "n_words", "n_counted", "max_result", "steps", "n_seeds", "max_new_tokens"),
            (lambda x: x is None or _is_whole(x, at_least=1), "a whole number from 1, or nothing,"),
        ),
        "seed": (lambda x: _is_whole(x, at_least=0) and x < SEEDS, f"a whole number from 0 to {SEEDS - 1}"),
        "data_dir": (
            lambda x: x is None or isinstance(x, str | Path) and isdir(x),
            "a folder that exists, or nothing,",
        ),
    }
    for name, value in checked.items():
        if name in wanted:
            fits, would_do = wanted[name]
            need(fits(value), f"{name} is {parameters[name]!r}; {would_do} would do.")
    if "results_dir" in checked:
        _check_writable(checked["results_dir"])
    return checked


def glue(name: str, value: Any, fmt: str = "") -> None:
    """Store `format(value, fmt)` under `name` for MyST's `{glue}` roles, which print it as it is; a piece of HTML for
    its directive, which shows it."""
    from IPython.display import display

    prefix = "application/papermill.record/"
    # MyST prints a string's quotes unless told not to, and without quotes would read "0.10" as the number 0.1.
    metadata = {"scrapbook": {"name": name, "mime_prefix": prefix}, "strip_text_quotes": True}
    data = {prefix + "text/plain": repr(format(value, fmt))}
    if hasattr(value, "_repr_html_"):
        data = {prefix + "text/html": value._repr_html_(), prefix + "text/plain": repr(value)}
    display(data, raw=True, metadata=metadata)


def _entry(e: Evidence, verdict: Verdict) -> dict[str, Any]:
    """One claim as claims.json keeps it: the numbers at the verdict's layer, and the whole curve under "evidence"."""
    curve, layer = e.to_json(), verdict.layer
    at = None if layer is None else e.layers.index(layer)
    units, inside = curve.pop("by_unit"), 1 + e.window.index(layer) if layer in e.window else 0

    def there(of: Mapping[str, Any], **names: str) -> dict[str, Any]:
        return {name: None if at is None else of[column][at] for name, column in names.items()}

    same = "claim experiment series reading form unit least why_least n n_units n_layers dropped".split()
    controls = {} if at is None else curve["controls"]
    return {
        "id": "",
        **{name: curve[name] for name in same},
        **there(curve, statistic="values", low="low", high="high", p="p", null_high="null_high"),
        "layer": layer,
        "depth": None if at is None else layer / e.n_layers,
        "null": e.null_in_words,
        "controls": {name: there(of, value="values", low="low", high="high") for name, of in controls.items()},
        "margins": {name: there(of["margin"], value="values", low="low", high="high") for name, of in controls.items()},
        "contrasts": curve["contrasts"],
        **verdict.to_json(),
        "units": {unit: [of[0], of[inside]] for unit, of in units.items()} if inside else {},
        "evidence": curve,
    }


def _tidy(table: pd.DataFrame, unset: Mapping[str, str]) -> pd.DataFrame:
    extra = [column for column in table.columns if column not in COLUMNS]
    table = table.reindex(columns=[*COLUMNS, *extra])
    text = {"series": "", "reading": ""} | dict(unset)
    number = {column: "float64" for column in ("depth", "value", "low", "high", "p")}
    whole = {column: "Int64" for column in ("layer", "n", "dropped")}
    # One type per column, so that tables of different steps and chapters can stand under each other.
    return (
        table.astype({column: object for column in text}).fillna(text).astype(number | whole | dict.fromkeys(text, str))
    )


def _packed(table: pd.DataFrame, kept: Mapping[str, Any]) -> pa.Table:
    """A table with what is kept with it."""
    data = pa.Table.from_pandas(table, preserve_index=False)
    metadata = {**(data.schema.metadata or {}), b"semhub": json.dumps(kept, allow_nan=False, default=str).encode()}
    return data.replace_schema_metadata(metadata)


def _unpacked(data: pa.Table) -> tuple[pd.DataFrame, dict[str, Any]]:
    return data.to_pandas(), json.loads(data.schema.metadata[b"semhub"])


def _write(path: Path, data: pa.Table) -> Path:
    return atomically(path, lambda to: pq.write_table(data, to))


def _read(path: Path) -> tuple[pd.DataFrame, dict[str, Any]] | None:
    """A table and what was kept with it; None if there is none, or none of ours. SemhubError where it never can be, as
    a folder is there."""
    need(not path.is_dir(), f"{path} is a folder, where the table of a step is to be; that folder removed would do.")
    try:
        return _unpacked(pq.read_table(path))
    except (OSError, pa.ArrowInvalid, KeyError, TypeError):
        return None


def _check_writable(results_dir: Any) -> None:
    text = str(results_dir)
    usable = isinstance(results_dir, str | Path) and text and "\0" not in text and not half_characters(text)
    need(usable, f"results_dir is {results_dir!r}; a folder that can be written would do.")
    try:
        try_writing(Path(results_dir))
    except OSError as error:
        raise SemhubError(_cannot_write(results_dir, error)) from error


def _cannot_write(folder: str | Path, error: OSError) -> str:
    return f"results_dir {str(folder)!r} cannot be written ({error.strerror}); a folder that can be would do."


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_whole(value: Any, at_least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= at_least


def _is_device(value: Any) -> bool:
    if value in (None, "cpu"):
        return True
    from .devices import placement
    from .loading import device_of  # only where an accelerator is asked for

    try:
        return isinstance(value, str) and bool(placement(value) or device_of(value).type not in ("cpu", "meta"))
    except SemhubError:
        return False


def _peak_memory(model: Any) -> int | None:
    """Bytes: the accelerators' peaks where the model is on some, else this process's peak resident size."""
    if "cuda" in str(getattr(model, "device", "")):
        import torch

        return sum(map(torch.cuda.max_memory_allocated, range(torch.cuda.device_count())))
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

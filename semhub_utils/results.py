"""What a chapter found on a model: steps kept on disk as they are done, in the end one tidy table and its claims.

    <results_dir>/<model>/<chapter>.parts/<step>-<fingerprint>.parquet   each step, so that a killed run resumes
    <results_dir>/<model>/<chapter>.parquet                              the table, with provenance in its metadata
    <results_dir>/<model>/<chapter>.claims.json                          {"provenance": ..., "claims": [...]}

Every file is written under another name first and moved into place, so that what is there is whole.
"""

import difflib
import hashlib
import importlib.metadata
import json
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from types import CodeType
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from . import __version__
from .errors import SemhubError
from .evidence import UNTESTABLE, Evidence, Verdict, judge
from .spokes import files
from .zoo import atomically, is_folder, model_slug, placeless, slug

COLUMNS = ("experiment", "series", "reading", "layer", "depth", "value", "low", "high", "p", "n", "dropped")
PARAMETERS = ("model_id", "revision", "device", "dtype", "n_items", "seed", "data_dir", "results_dir")
DTYPES = ("float32", "bfloat16", "float16", "float64")

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
        files.READ.clear()  # what a run reads is read after it has begun
        self._data = data_digests(self.parameters | {"results_dir": str(results_dir)})
        try:
            self.parts.mkdir(parents=True, exist_ok=True)
            self._older = set(self.parts.glob("*.parquet"))
        except OSError as error:
            raise SemhubError(_cannot_write(results_dir, error)) from error

    def step(self, name: str, function: Callable[[], StepResult]) -> pd.DataFrame:
        """The table `function` returns, or the one it returned before with the same parameters, model and program.

        A function that returns (table, evidence) leaves the evidence under `evidence[name]`, also when taken from disk.
        """
        path = self.parts / f"{slug(name)}-{self._fingerprint(name, function)}.parquet"
        stored = _read(path)
        self._used.add(path)
        if stored is None:
            started = time.perf_counter()
            result = function()
            table, found = result if isinstance(result, tuple) else (result, [])
            cost = {"seconds": round(time.perf_counter() - started, 3), "peak_memory_bytes": _peak_memory(self.model)}
            kept = {"evidence": [e.to_json() for e in found], "cost": cost}
            _write(path, table, kept)
            stored = _read(path) or (table, kept)  # first and later runs get the same, unless another took it away
        table, kept = stored
        self._tables[name], self._costs[name] = table, kept["cost"]
        self.evidence[name] = [Evidence.from_json(e) for e in kept["evidence"]]
        return table

    def claim(
        self,
        evidence: Evidence | str,
        sentence: str | None = None,
        *,
        precondition: str | None = None,
        others: Sequence[Evidence] = (),
    ) -> dict[str, Any]:
        """Judge a claim and note it. Returns the entry of claims.json: what a claim card shows.

        A claim without evidence, given by its id alone, needs the precondition that failed. `others`: the same claim in
        other readings, which are judged beside it and do not count.
        """
        if isinstance(evidence, Evidence):
            entry = _entry(evidence, judge(evidence, precondition=precondition))
        elif precondition:
            entry = _no_evidence(evidence, precondition)
        else:
            raise ValueError(f"the claim {evidence!r} has neither evidence nor a precondition that failed")
        entry["id"], entry["claim"] = f"{self.chapter}/{entry['claim']}", sentence or entry["claim"]
        kept = ("verdict", "statistic", "low", "high", "layer")
        judged = {e.reading: _entry(e, judge(e, precondition=precondition)) for e in others}
        entry["readings"] = {reading: {name: of[name] for name in kept} for reading, of in judged.items()}
        self.claims = [claim for claim in self.claims if claim["id"] != entry["id"]] + [entry]
        return entry

    @property
    def table(self) -> pd.DataFrame:
        """The tables of all steps: COLUMNS first, then what a step adds; experiment is the step's name where unset."""
        tables = [_tidy(name, table) for name, table in self._tables.items()]
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(COLUMNS))

    def finish(self) -> Path:
        """Write the table and the claims, clear the unused parts of earlier runs, and return the table's path."""
        provenance = self.provenance()
        path = self.folder / f"{self.chapter}.parquet"
        try:
            _write(path, self.table, {"provenance": provenance})
            text = json.dumps(
                {"provenance": provenance, "claims": self.claims}, ensure_ascii=False, indent=1, allow_nan=False
            )
            atomically(path.with_suffix(".claims.json"), lambda to: to.write_text(text + "\n", "utf-8"))
        except OSError as error:
            raise SemhubError(_cannot_write(self.folder, error)) from error
        for part in self._older - self._used:  # what is newer may be of a run beside this one
            part.unlink(missing_ok=True)
        return path

    def provenance(self) -> dict[str, Any]:
        """Where the numbers come from: model and weights, parameters, data, seed, versions, time and memory."""
        peaks = [cost["peak_memory_bytes"] for cost in self._costs.values() if cost["peak_memory_bytes"]]
        return {
            "chapter": self.chapter,
            "model": placeless("model_id", self.model.model_id),
            "revision": self.model.revision,
            "weights": self.model.fingerprint,
            "parameters": {k: placeless(k, v) for k, v in self.parameters.items() if k != "results_dir"},
            "data": ", ".join(sorted(files.READ)) or "generated",
            "seed": self.parameters.get("seed"),
            "versions": versions(),
            "seconds": round(sum(cost["seconds"] for cost in self._costs.values()), 3),
            "peak_memory_bytes": max(peaks, default=None),
            "steps": self._costs,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def _fingerprint(self, name: str, function: Callable) -> str:
        parameters = {k: v for k, v in sorted(self.parameters.items()) if k != "results_dir"}
        lens = getattr(getattr(self.model, "translators", None), "fingerprint", None)  # its file is no program text
        of = [self.chapter, name, parameters, self._data, self.model.fingerprint, lens, package_fingerprint()]
        of += [versions(), _of_function(function)]
        return hashlib.sha256(json.dumps(of, default=str).encode()).hexdigest()[:16]


def load_results(results_dir: str | Path, chapter: str | None = None, model: str | None = None) -> pd.DataFrame:
    """The finished tables under `results_dir` as one, with the columns chapter and model; for comparison chapters."""
    tables, model = [], placeless("model_id", model)
    for path in _finished(results_dir, "parquet", chapter):
        table, kept = _read(path) or (None, {})
        if table is not None and model in (None, kept["provenance"]["model"]):
            tables.append(table.assign(chapter=path.stem, model=kept["provenance"]["model"]))
    return pd.concat(tables, ignore_index=True) if tables else _nothing_found(results_dir, chapter, model)


def load_claims(results_dir: str | Path, chapter: str | None = None, model: str | None = None) -> list[dict[str, Any]]:
    """The claims of finished chapters under `results_dir`, each with its chapter and model."""
    claims, model = [], placeless("model_id", model)
    for path in _finished(results_dir, "claims.json", chapter):
        written = json.loads(path.read_text("utf-8"))
        of = {name: written["provenance"][name] for name in ("chapter", "model")}
        claims += [of | claim for claim in written["claims"] if model in (None, of["model"])]
    return claims or _nothing_found(results_dir, chapter, model)


def data_digests(parameters: Mapping[str, Any]) -> dict[str, str]:
    """What lies now in each folder among the parameters (`files.digest`), but the model's and the results'."""
    folders = {k: v for k, v in parameters.items() if k not in ("model_id", "results_dir") and is_folder(v)}
    return {name: files.digest(folder, parameters.get("results_dir")) for name, folder in folders.items()}


def versions() -> dict[str, str]:
    """The versions that a number may depend on."""
    packages = ("torch", "transformers", "numpy", "pandas")
    own = {"semhub_utils": __version__, "python": platform.python_version()}
    return own | {name: importlib.metadata.version(name) for name in packages}


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
        "model_id": (_is_name, "a Hugging Face model id, a folder or a name such as 'organism:hub' would do"),
        "revision": (lambda x: x is None or _is_name(x), "a branch, tag or commit, or nothing, would do"),
        "device": (
            _is_device,
            "'cpu', or a device that this machine has such as 'cuda' or 'mps', or nothing, would do",
        ),
        "dtype": (lambda x: x in DTYPES, f"one of {', '.join(DTYPES)} would do"),
        "n_items": (partial(_is_whole, at_least=1), "a whole number from 1 would do"),
        "seed": (partial(_is_whole, at_least=0), "a whole number from 0 would do"),
        "data_dir": (lambda x: x is None or Path(x).is_dir(), "a folder that exists, or nothing, would do"),
    }
    for name, value in checked.items():
        if name in wanted and not wanted[name][0](value):
            raise SemhubError(f"{name} is {parameters[name]!r}; {wanted[name][1]}.")
    if "results_dir" in checked:
        _check_writable(checked["results_dir"])
    return checked


def glue(name: str, value: Any, fmt: str = "") -> None:
    """Store `format(value, fmt)` under `name` for MyST's `{glue}` roles, which print it as it is."""
    from IPython.display import display

    prefix = "application/papermill.record/"
    # MyST prints a string's quotes unless told not to, and without quotes would read "0.10" as the number 0.1.
    metadata = {"scrapbook": {"name": name, "mime_prefix": prefix}, "strip_text_quotes": True}
    display({prefix + "text/plain": repr(format(value, fmt))}, raw=True, metadata=metadata)


def _entry(e: Evidence, verdict: Verdict) -> dict[str, Any]:
    """One claim as claims.json keeps it: the numbers at the verdict's layer, and the whole curve under "evidence"."""
    curve = e.to_json()
    at = e.layers.index(verdict.layer) if verdict.layer is not None else None
    pick = {"statistic": "values", "low": "low", "high": "high", "p": "p", "null_high": "null_high"}
    parts = {"value": "values", "low": "low", "high": "high"}
    controls = curve["controls"] if at is not None else {}
    return {
        "id": "",
        **{
            k: curve[k]
            for k in ("claim", "experiment", "series", "reading", "unit", "n", "n_clusters", "n_layers", "dropped")
        },
        **{k: None if at is None else curve[v][at] for k, v in pick.items()},
        "layer": verdict.layer,
        "depth": None if at is None else verdict.layer / e.n_layers,
        "null": e.null_in_words,
        "controls": {name: {k: c[v][at] for k, v in parts.items()} for name, c in controls.items()},
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "evidence": curve,
    }


def _no_evidence(claim: str, precondition: str) -> dict[str, Any]:
    reason = precondition[0].upper() + precondition[1:]
    return {"id": "", "claim": claim, "verdict": UNTESTABLE, "reason": reason, "controls": {}, "evidence": None}


def _tidy(step: str, table: pd.DataFrame) -> pd.DataFrame:
    extra = [column for column in table.columns if column not in COLUMNS]
    table = table.reindex(columns=[*COLUMNS, *extra])
    text = {"experiment": step, "series": "", "reading": ""}
    number = {column: "float64" for column in ("depth", "value", "low", "high", "p")}
    whole = {column: "Int64" for column in ("layer", "n", "dropped")}
    # One type per column, so that tables of different steps and chapters can stand under each other.
    return (
        table.astype({column: object for column in text}).fillna(text).astype(number | whole | dict.fromkeys(text, str))
    )


@cache
def package_fingerprint(kinds: tuple[str, ...] = (".py", ".csv")) -> str:
    """A hash of the package's own files of these kinds: by default its program text and measured tables."""
    sha = hashlib.sha256()
    for path in sorted(path for path in Path(__file__).parent.rglob("*") if path.suffix in kinds):
        sha.update(path.read_bytes())
    return sha.hexdigest()


def _of_function(function: Callable) -> list:
    """What a step's function does, as far as its own text says: code, constants and plain arguments bound to it."""

    def plain(value):  # the text of other things holds their address, which is new in each run
        return repr(value) if isinstance(value, str | int | float | bool | None) else type(value).__qualname__

    if isinstance(function, partial):
        bound = [*function.args, *(x for pair in sorted(function.keywords.items()) for x in pair)]
        return [_of_function(function.func), [plain(value) for value in bound]]

    def of_code(code: CodeType) -> list:
        constants = [of_code(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
        return [code.co_code.hex(), code.co_names, constants]

    code = getattr(function, "__code__", None)
    defaults = [plain(value) for value in getattr(function, "__defaults__", None) or ()]
    return [of_code(code), defaults] if code else [type(function).__qualname__]


def _write(path: Path, table: pd.DataFrame, kept: Mapping[str, Any]) -> None:
    data = pa.Table.from_pandas(table, preserve_index=False)
    metadata = {**(data.schema.metadata or {}), b"semhub": json.dumps(kept, allow_nan=False, default=str).encode()}
    atomically(path, lambda to: pq.write_table(data.replace_schema_metadata(metadata), to))


def _read(path: Path) -> tuple[pd.DataFrame, dict[str, Any]] | None:
    """A table and what was kept with it; None if there is none, or none of ours."""
    try:
        data = pq.read_table(path)
        return data.to_pandas(), json.loads(data.schema.metadata[b"semhub"])
    except (OSError, pa.ArrowInvalid, KeyError, TypeError):
        return None


def _finished(results_dir: str | Path, ending: str, chapter: str | None) -> list[Path]:
    return sorted(Path(results_dir).glob(f"*/{chapter or '*'}.{ending}"))


def _nothing_found(results_dir, chapter, model):
    of = f"of chapter {chapter!r} " * bool(chapter) + f"on model {model!r} " * bool(model)
    raise SemhubError(f"There are no results {of}under {str(results_dir)!r}; `semhub run` makes them.")


def _check_writable(results_dir: Any) -> None:
    if not results_dir:
        raise SemhubError(f"results_dir is {results_dir!r}; a folder that can be written would do.")
    try:
        Path(results_dir).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=results_dir):
            pass
    except OSError as error:
        raise SemhubError(_cannot_write(results_dir, error)) from error


def _cannot_write(folder: str | Path, error: OSError) -> str:
    return f"results_dir {str(folder)!r} cannot be written ({error.strerror}); a folder that can be would do."


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_whole(value: Any, at_least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= at_least


def _is_device(value: Any) -> bool:
    if value is None:
        return True
    if not isinstance(value, str) or not re.fullmatch(r"cpu|mps|(cuda|xpu)(:\d+)?", value):
        return False
    if value == "cpu":
        return True
    import torch  # only where an accelerator is asked for

    kind, _, index = value.partition(":")
    backend = torch.backends.mps if kind == "mps" else getattr(torch, kind)
    return backend.is_available() and (not index or int(index) < backend.device_count())


def _peak_memory(model: Any) -> int | None:
    """Bytes: the accelerator's peak where the model is on one, else this process's peak resident size."""
    if "cuda" in str(getattr(model, "device", "")):
        import torch

        return torch.cuda.max_memory_allocated(model.device)
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

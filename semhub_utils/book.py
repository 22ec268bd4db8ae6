"""Run chapters: every notebook with its parameters, on a model, by papermill, into a folder of its own.

A chapter is never executed in place. Beside each executed notebook stands a small JSON record of what it was made
from; a chapter whose record still holds is not run again, and one that was killed takes up its steps (`results.Run`).
"""

import ast
import asyncio
import hashlib
import json
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import forkserver, get_context
from pathlib import Path
from typing import Any

import nbformat
import yaml
from huggingface_hub import try_to_load_from_cache
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner
from papermill import execute_notebook
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError, strip_color
from tqdm.auto import tqdm
from traitlets.config import Config

from . import progress
from .errors import DAMAGED, SemhubError, need, reason
from .identity import (
    COPIED,
    atomically,
    beside,
    digest,
    folder_digest,
    is_folder,
    local,
    model_slug,
    of_package,
    slug,
    versions,
)
from .markup import with_stills
from .results import check_parameters, data_digests

PACKAGE = Path(__file__).resolve().parent
KERNEL_OPTIONS = ["--HistoryManager.enabled=False"]
Parameters = dict[str, Any]
Say = Callable[[str], None]


# Chapters


def find_book(start: Path | None = None) -> Path:
    """The folder that holds `_toc.yml`: upward from `start` (here by default), else where the package lies, in whose
    installed copy are the chapters alone."""
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents, PACKAGE.parent, PACKAGE / "chapters"):
        if (folder / "_toc.yml").is_file():
            return folder
    raise SemhubError(
        f"No book was found in {start} or above it; clone the book's repository and run semhub inside it."
    )


@dataclass(frozen=True)
class Notebook:
    """One chapter of the book, `notebooks/NN_name.ipynb`."""

    path: Path

    @property
    def stem(self) -> str:
        return self.path.stem

    @property
    def name(self) -> str:
        return self.stem.partition("_")[2]

    @cached_property
    def parameters(self) -> Parameters:
        """Names and default values in the cell tagged `parameters`; none when the chapter has no such cell. Read by
        Python's own parser, as papermill's wants a language in the metadata, which not every editor keeps."""
        cells = nbformat.read(self.path, as_version=4).cells
        source = next((c.source for c in cells if "parameters" in c.metadata.get("tags", [])), "")
        found: Parameters = {}
        try:
            for line in ast.parse(source).body:
                targets = line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]
                found |= {target.id: ast.literal_eval(line.value) for target in targets if target}
        except (ValueError, SyntaxError, AttributeError) as error:
            raise SemhubError(f"The parameters cell of {self.path} must only set names to plain values.") from error
        return found


def need_current(chapter: Notebook) -> None:
    """Raises SemhubError where the text side beside a notebook says something else, as what would run is stale."""
    text, written = chapter.path.with_suffix(".py"), []
    cells = re.split(r"^# %%", text.read_text("utf-8"), flags=re.MULTILINE)[1:] if text.is_file() else []
    for first, _, source in (cell.partition("\n") for cell in cells):
        prose = re.sub(r"^# ?", "", source, flags=re.MULTILINE) if "[markdown]" in first else ""
        written.append(("markdown" if prose else "code", (prose or source).strip()))
    runs = [(cell.cell_type, cell.source.strip()) for cell in nbformat.read(chapter.path, as_version=4).cells]
    would = f"`jupytext --to ipynb --update {text.name}` would do"
    need(not cells or written == runs, f"{text} was changed and {chapter.path.name}, which runs, was not; {would}.")


def documents(root: Path) -> Iterator[str]:
    """Every document of _toc.yml, in reading order, without suffix. SemhubError where there is no _toc.yml."""

    def files(node: Any) -> Iterator[str]:
        for value in node if isinstance(node, list) else ():
            yield from files(value)
        for key, value in node.items() if isinstance(node, dict) else ():
            yield from [value] if key in ("file", "root") else files(value)

    toc = root / "_toc.yml"
    need(toc.is_file(), f"There is no _toc.yml in {root.resolve()}; run this in the book's folder.")
    yield from files(yaml.safe_load(toc.read_text("utf-8")))


def chapters(root: Path) -> list[Notebook]:
    """The chapters that _toc.yml names, in its order; SemhubError for one that is not there."""
    found = [Notebook(root / f"{name}.ipynb") for name in documents(root) if name.startswith("notebooks/")]
    missing = ", ".join(chapter.stem for chapter in found if not chapter.path.is_file())
    need(not missing, f"_toc.yml names {missing}, and {root / 'notebooks'} holds no such notebook.")
    return found


def choose(root: Path, wanted: str) -> list[Notebook]:
    """The chapter called `wanted`, by name or number ("arithmetic", "3", "03", "03_arithmetic"), or "all"."""
    known = chapters(root)
    number = wanted.zfill(2) if wanted.isdigit() else wanted
    chosen = [c for c in known if wanted == "all" or number in (c.name, c.stem, c.stem.partition("_")[0])]
    names = ", ".join(chapter.stem for chapter in known)
    need(chosen, f"There is no chapter {wanted!r}; give a name or number of {names}, or all.")
    return chosen


# What to run


@dataclass(frozen=True)
class Job:
    """One chapter to be run with these parameters into this notebook."""

    chapter: Notebook
    model: str
    parameters: Parameters
    output: Path

    @property
    def title(self) -> str:
        return f"{self.chapter.stem} on {self.model}"

    @property
    def given(self) -> Parameters:
        """All parameters of the chapter, with those not given at their defaults."""
        return self.chapter.parameters | self.parameters

    @property
    def results(self) -> Path:
        """The folder that the chapter writes its results to."""
        return Path(self.parameters.get("results_dir", "")) / self.output.parent.name

    @property
    def record(self) -> Path:
        return self.output.with_suffix(".run.json")

    @property
    def log(self) -> Path:
        return self.output.with_suffix(".log")


def _fits(value: Any, default: Any) -> bool:
    """Whether `value` is of the kind of `default`; None stands for "not given" and fits, and is fitted by, all."""
    if value is None or default is None:
        return True
    kinds = {float: (int, float), list: (list, tuple), tuple: (list, tuple)}
    alike = isinstance(value, bool) == isinstance(default, bool)
    return alike and isinstance(value, kinds.get(type(default), type(default)))


def plan(
    chosen: Sequence[Notebook],
    models: Sequence[str | None],
    *,
    out: Path,
    results_dir: Path,
    revision: str | None = None,
    settings: Parameters | None = None,
    apart: bool = True,
) -> list[Job]:
    """Every chosen chapter on every model (None: the chapter's own default), with all parameters checked first.

    settings: parameters by name; a results_dir among them takes the place of the one given. apart: runs with other
    parameters than the chapter's own write into folders of their own below `out` and `results_dir` (`variant`).
    Raises SemhubError for a parameter that no chosen chapter has, a value of another kind than its default, or a
    model or revision that is given twice.
    """
    settings = settings or {}
    known = {name: value for chapter in chosen for name, value in chapter.parameters.items()}
    for name, value in settings.items():
        need(name in known, f"There is no parameter '{name}'; known are {', '.join(known) or 'none'}.")
        kind = f"a {type(known[name]).__name__} such as {known[name]!r}"
        need(_fits(value, known[name]), f"Parameter {name} was given {value!r}; it takes {kind}.")
    jobs = []
    for chapter in chosen:
        need_current(chapter)
    for model in models:
        options = {n: v for n, v in {"model_id": model, "revision": revision}.items() if v is not None}
        for name, value in options.items():
            said = f"{name} was given {value!r} and by --set {settings.get(name)!r}; one of them would do."
            need(settings.get(name, value) == value, said)
        given = {"results_dir": str(results_dir)} | settings | options
        if path := local(str(given.get("model_id") or "")):
            given["model_id"] = str(path)
        if is_folder(given.get("data_dir")):
            given["data_dir"] = str(Path(given["data_dir"]).expanduser().resolve())
        jobs += [_job(chapter, given, Path(os.path.realpath(out)), apart) for chapter in chosen]
    return list({job.output: job for job in jobs}.values())


def _job(chapter: Notebook, given: Parameters, out: Path, apart: bool) -> Job:
    parameters = {name: value for name, value in given.items() if name in chapter.parameters}
    own = variant(chapter, parameters) if apart else ""
    if parameters.get("results_dir"):
        parameters["results_dir"] = os.path.abspath(Path(parameters["results_dir"], own))
    every = chapter.parameters | parameters
    check_parameters(chapter.parameters, **every)
    model = str(every.get("model_id") or "no-model")
    return Job(chapter, model, parameters, out / own / model_slug(model, every.get("revision")) / chapter.path.name)


def variant(chapter: Notebook, parameters: Parameters) -> str:
    """The name of a run whose numbers come of other parameters than the chapter's own, such as "n_items-200--seed-1";
    "" where there are none. What cannot stand in a file name is cut short and hashed."""
    others = {"model_id", "revision", "device", "results_dir"}
    found = []
    for name, value in sorted(parameters.items()):
        if name not in others and value != chapter.parameters[name]:
            text = str(value)
            if not re.fullmatch(r"[\w.-]{1,24}", text):
                text = f"{slug(Path(text).name)[:24]}-{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:6]}"
            found.append(f"{name}-{text}")
    return "--".join(found)


# What is done


def stamp(job: Job) -> str:
    """What an executed chapter depends on, but the commit of a model of the hub. Equal stamps, equal notebooks."""
    folder = beside(job.model, job.given.get("revision"))
    made_of = (job.chapter.path.read_bytes(), of_package(), versions(), data_digests(job.given), folder_digest(folder))
    return digest(job.parameters, *made_of)


def _commit(job: Job) -> str | None:
    """The commit that a model of the hub has in the hub's cache; None where it is not there, and for other models."""
    try:
        found = try_to_load_from_cache(job.model, "config.json", revision=job.given.get("revision"))
    except ValueError:  # no name that the hub could know
        return None
    return Path(found).parent.name if isinstance(found, str) else None


def is_done(job: Job) -> bool:
    """Whether the notebook lies there, made from the very same things, with every results file it left; not where its
    record is of a version that kept something else."""
    try:
        record = json.loads(job.record.read_text("utf-8") if job.record.is_file() else "")
        made, left = (record["stamp"], record["commit"]), record["results"]
    except DAMAGED:
        return False
    return made == (stamp(job), _commit(job)) and job.output.is_file() and all(map(os.path.exists, left))


# Running


@dataclass(frozen=True)
class Outcome:
    """What became of a job: `error` is None when it succeeded, `code` is the exit status it asks for."""

    job: Job
    seconds: float
    skipped: bool = False
    error: str | None = None
    code: int = 0


def _kernel(file: str, variables: dict[str, str]) -> None:
    """Be a kernel, in a process that was copied from one with the libraries loaded."""
    from ipykernel.kernelapp import launch_new_instance

    os.setsid()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGUSR2})  # sent to all; the command ends this one
    os.environ.update(variables)
    tempfile.tempdir = None  # it may have been looked up before
    more = variables.get("PYTHONPATH", "").split(os.pathsep)  # which Python has read at its start, and that is past
    sys.path[1:1] = [folder for folder in more if folder and folder not in sys.path]
    launch_new_instance(["-f", file, *KERNEL_OPTIONS, f"--IPKernelApp.parent_handle={os.getppid()}"])


class Copied(LocalProvisioner):
    """Makes kernels by fork from one process, as to load torch and transformers takes a chapter five seconds."""

    async def launch_kernel(self, cmd: list[str], **options: Any) -> dict[str, Any]:
        given = (self.parent.connection_file, options["env"])
        self.process = get_context("forkserver").Process(target=_kernel, args=given)
        self.process.start()
        return self.connection_info

    async def poll(self) -> int | None:
        return self.process.exitcode if self.process else 0

    async def wait(self) -> int | None:
        while await self.poll() is None:
            await asyncio.sleep(0.1)
        code, self.process = await self.poll(), None
        return code

    async def send_signal(self, signum: int) -> None:
        with suppress(ProcessLookupError):  # it has ended, or leads no group yet
            # one that is asked to end need not be told before to stop what it does not do
            if self.process and not (signum == signal.SIGINT and self.parent.shutting_down):
                os.killpg(self.process.pid, signum)


def _kernels(started: list[AsyncKernelManager]) -> type[AsyncKernelManager]:
    """Kernels of this very interpreter, not of one that happens to be installed under its name; each notes itself."""
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", *KERNEL_OPTIONS]
    forks = sys.platform == "linux"  # elsewhere libraries may not survive it
    if forks:
        os.environ[COPIED] = "1"
        forkserver.set_forkserver_preload(["semhub_utils.book", "semhub_utils.chapter", "ipykernel.kernelapp"])

    class Manager(AsyncKernelManager):
        kernel_spec = KernelSpec(argv=command, display_name="semhub", language="python")

        async def start_kernel(self, **options: Any) -> None:
            started.append(self)
            options.setdefault("env", os.environ | progress.variables(Path(self.connection_file).parent))
            if forks:
                self.provisioner = Copied(kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self)
            await super().start_kernel(**options)

    return Manager


def _kill(started: Sequence[AsyncKernelManager]) -> None:
    """End kernels and their children."""
    for process in [getattr(manager.provisioner, "process", None) for manager in started]:
        with suppress(ProcessLookupError, PermissionError):
            if process and process.pid:  # it may not have begun
                os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()


class Seldom(NBClientEngine):
    """papermill's own engine, but a notebook is written once, at its end, however that comes, and not twice a cell."""

    @classmethod
    def execute_managed_notebook(cls, nb_man, *given, **more):
        save, nb_man.save = nb_man.save, lambda: None
        try:
            super().execute_managed_notebook(nb_man, *given, **more)
        finally:
            nb_man.save = save


papermill_engines.register(Seldom.__name__, Seldom)


def _execute(job: Job, kernels: type[AsyncKernelManager], say: Say) -> None:
    """Execute a chapter into its output. PapermillExecutionError is an exception in a cell, others are the kernel's."""
    transport = "tcp" if sys.platform == "win32" else "ipc"  # which no other user of the machine can reach
    folder = tempfile.TemporaryDirectory(prefix="semhub-", ignore_cleanup_errors=True)
    with folder as place, progress.told(job.title, job.chapter.path, Path(place), say):
        notebook = execute_notebook(
            job.chapter.path,
            job.output,
            job.parameters,
            engine_name=Seldom.__name__,
            kernel_name="python3",
            language="python",
            progress_bar={"desc": job.title, "leave": False, "disable": None},
            kernel_manager_class=kernels,
            config=Config({"Manager": {"transport": transport, "connection_file": f"{place}/kernel.json"}}),
            start_timeout=180,
        )
    for cell in (of for of in notebook.cells if "injected-parameters" in of.metadata.get("tags", [])):
        cell.metadata["tags"] = [*cell.metadata["tags"], "remove-cell"]
    for key in ("input_path", "output_path"):  # the reader's machine is nobody's business
        notebook.metadata.get("papermill", {}).pop(key, None)
    _write(job.output, nbformat.writes(with_stills(notebook)))


def environment(workers: int) -> dict[str, str]:
    """Of each of so many kernels beside one another, where the user has not said otherwise: its share of the cores, and
    threads that wait sleep, as on a busy machine they spin 25 s over the work of one; and where this package lies."""
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // workers)), "OMP_WAIT_POLICY": "PASSIVE"}
    paths = dict.fromkeys([str(PACKAGE.parent), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))])
    told = {name: os.environ.get(name, value) for name, value in threads.items()}
    return told | {"PYTHONPATH": os.pathsep.join(paths)}


def run(jobs: Sequence[Job], *, workers: int = 1, fresh: bool = False, say: Say = print) -> list[Outcome]:
    """Run all jobs, `workers` at a time, each in a kernel process of its own; one that fails ends no other.

    `say` is told one line per finished chapter, and one a minute of each that runs. On KeyboardInterrupt every kernel
    is ended and the exception passes on; what was finished stays.
    """
    started: list[AsyncKernelManager] = []
    kernels, outcomes = _kernels(started), {}
    say = tqdm.external_write_mode()(say)  # bars make room meanwhile
    os.environ.update(environment(workers))  # libraries read it as they are loaded, before there is a kernel
    with ThreadPoolExecutor(max_workers=workers) as pool:
        running = [pool.submit(_run_one, job, kernels, fresh, say) for job in jobs]
        try:
            for done in as_completed(running):
                outcome = done.result()
                outcomes[outcome.job.output] = outcome
                state = "failed" if outcome.error else "unchanged" if outcome.skipped else "done"
                say(f"{state:>9}  {outcome.job.title}  {outcome.seconds:.0f} s")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            while not all(future.done() for future in running):  # a kernel may still be on its way
                _kill(started)
                time.sleep(0.1)
            raise
    return [outcomes[job.output] for job in jobs]


def _run_one(job: Job, kernels: type[AsyncKernelManager], fresh: bool, say: Say) -> Outcome:
    if not fresh and is_done(job):
        return Outcome(job, 0.0, skipped=True)
    began = time.perf_counter()
    try:
        job.output.parent.mkdir(parents=True, exist_ok=True)
        parts = (job.results / f"{job.chapter.name}.parts").glob("*.parquet") if fresh else ()
        for path in (job.record, job.log, *parts):
            path.unlink(missing_ok=True)
    except OSError as error:
        return Outcome(job, 0.0, error=f"{job.output.parent} cannot be written ({error.strerror}); give --out.", code=2)
    made_from = stamp(job)  # before, as files may change meanwhile; a commit is known when the model was fetched
    try:
        _execute(job, kernels, say)
        seconds = time.perf_counter() - began
        patterns = (f"{job.chapter.name}.claims.json", f"*/{job.chapter.name}.parquet")
        results = sorted(str(path) for pattern in patterns for path in job.results.glob(pattern))
        record = {"stamp": made_from, "commit": _commit(job), "results": results, "seconds": round(seconds, 1)}
        _write(job.record, json.dumps(record, indent=1) + "\n")
    except Exception as error:
        sentence, code = _failure(job, error)
        return Outcome(job, time.perf_counter() - began, error=sentence, code=code)
    return Outcome(job, seconds)


def _failure(job: Job, error: Exception) -> tuple[str, int]:
    """The sentence and the exit status for an exception that ended a chapter; a log when it is not one of ours."""
    if isinstance(error, OSError) and error.strerror:
        return f"{job.title} stopped, as {error.filename or job.output} cannot be written ({error.strerror}).", 1
    if not isinstance(error, PapermillExecutionError):
        _write(job.log, f"{type(error).__name__}: {error}\n")
        return f"{job.title} stopped with {type(error).__name__}: {reason(error)} (more memory may help).", 1
    if error.ename == "SemhubError":
        return f"{error.evalue}\nThe notebook as far as it got: {job.output}", 2
    _write(job.log, strip_color("\n".join(error.traceback)) + "\n")
    line = f"{error.ename}: {error.evalue}".splitlines()[0]
    return f"{job.title} stopped in cell [{error.exec_count}] with {line}; the whole error is in {job.log}.", 1


def forwarded(
    chosen: Sequence[Notebook], model: str | None = None, say: Say = print
) -> tuple[list[Outcome], dict[str, dict[str, float]]]:
    """Run chapters from nothing into a folder that is then gone: what became of each, and by chapter the tokens that
    were forwarded over the distinct ones, {"read": ..., "edit": ...}."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="semhub-") as folder:
        outcomes = run(plan(chosen, [model], out=Path(folder), results_dir=Path(folder, "results")), say=say)
        for outcome in outcomes:
            for path in outcome.job.results.glob(f"{outcome.job.chapter.name}.claims.json"):
                found[outcome.job.chapter.name] = json.loads(path.read_text("utf-8"))["provenance"]["forwarded"]
    return outcomes, found


def _write(path: Path, text: str) -> None:
    atomically(path, lambda to: to.write_text(text, encoding="utf-8"))

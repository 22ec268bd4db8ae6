"""The command `semhub`. Every command imports what it needs when it runs, so that `semhub --help` is instant."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from errno import ENOSPC
from math import inf
from pathlib import Path
from typing import Any

from . import __version__
from .errors import SEEDS, SemhubError, need, reason

DESCRIPTION = "Run the chapters of the Semantic Hub book on any model, build the book, check and measure models."
EPILOG = """examples:
  semhub run arithmetic --model gpt2 --set n_items=200    one chapter on a model of the Hugging Face hub
  semhub run all --model gpt2 --model ./folder --jobs 2   a sweep: all chapters on two models
  semhub book                                             execute every chapter and build the site
  semhub compare organism:hub organism:islands            what holds of two models, side by side
  semhub verify organism:hub                              run two chapters on file again, and compare
  semhub check gpt2                                       does this model pass the instruments' self-checks?
  semhub tune gpt2 --text lines.txt                       train a tuned lens, which chapters then show too
  semhub tune gpt2 --text lines.txt --kind jacobian       fit a Jacobian lens, which they show as well
  semhub bench --json                                     time and memory against the released method"""
MODEL = "id on the Hugging Face hub, local folder (also of a PEFT adapter), GGUF file, ID:FILE.gguf, or organism:NAME"
CHAPTERS = "arithmetic, languages, layers, steering, code, semantics, vision, audio"
BAR = "{desc}: {n_fmt} of {total_fmt}, {elapsed} so far, {remaining} left\n"  # of a log
Options = argparse.Namespace


def parse_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """`name=value` strings to values, each read as JSON, else as YAML ("1e-3", "true", "[1, 2]", plain text)."""
    import json

    import yaml

    def value(name: str, text: str) -> Any:
        for read in (json.loads, yaml.safe_load):
            with suppress(ValueError, yaml.YAMLError):
                return read(text)
        raise SemhubError(f"--set {name} was given {text!r}, which is not a value YAML can read.")

    split = [(pair, *pair.partition("=")) for pair in pairs]
    for pair, name, equals, _ in split:
        need(equals and name.isidentifier(), f"--set was given {pair!r}; it takes name=value, such as n_items=200.")
    return {name: value(name, text) for _, name, _, text in split}


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 1")
    return int(text)


def _name(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is empty; a name, or to leave it out, would do")
    return text


def _path(text: str) -> Path:
    return Path(_name(text))


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= SEEDS:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 0 to {SEEDS - 1}")
    return int(text)


def _minutes(text: str) -> float:
    if not 0 < float(text) < inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return float(text)


def _takes(metavar: str, text: str, **more) -> dict:
    return {"metavar": metavar, "help": text} | more


def _flag(text: str) -> dict:
    return {"action": "store_true", "help": text}


def _count(default: int, text: str) -> dict:
    return _takes("N", f"{text} (default {default})", type=_positive, default=default)


SHARED = {  # options that several commands take
    "revision": _takes("R", "branch, tag or commit of the model on the hub", type=_name),
    "set": _takes("NAME=VALUE", "a parameter of the chapter; may be given again", action="append", default=[]),
    "jobs": _count(1, "chapters at a time, each with the model in memory; for more machines see book/sweep"),
    "fresh": _flag("run again what is already done"),
    "json": _flag("print one JSON object"),
    "device": _takes("D", "cpu, cuda ... (default: the best one there is)"),
    "dtype": _takes("T", "float32 (default), bfloat16 or float16", default="float32"),
    "seed": _takes("N", "seed of weights, draws and generated text (default 0)", type=_seed, default=0),
}
COMMANDS: dict[str, tuple[Callable[[Options], int], str, dict[str, dict]]] = {}


def command(text: str, shared: str, argument: tuple[str, dict] | None = None, /, **own: dict):
    """Make a function the command of its name: what it does, the shared options it takes, its argument, its options."""

    def known(function: Callable[[Options], int]) -> Callable[[Options], int]:
        options = own | {name: SHARED[name] for name in shared.split()}
        options = {f"--{name}": how for name, how in options.items()}
        COMMANDS[function.__name__] = function, text, dict([argument] if argument else []) | options
        return function

    return known


@command(
    "run a chapter, or all, on one model or several",
    "revision set jobs fresh",
    ("chapter", _takes("CHAPTER", "name or number: arithmetic, 3, 03_arithmetic, or all")),
    model=_takes("MODEL", f"{MODEL}; may be given again for a sweep", action="append", type=_name),
    out=_takes("DIR", "folder for it all (default runs)", type=_path, default=Path("runs")),
    record=_takes("NAME", "file the results in book/results, by the upstream's id", nargs="?", const=True, type=_name),
)
def run(options: Options) -> int:
    from . import book

    jobs = book.plan(
        book.choose(book.find_book(), options.chapter),
        options.model or [None],
        out=options.out,
        results_dir=options.out / "results",
        revision=options.revision,
        settings=parse_settings(options.set),
    )
    if any("device" not in job.parameters and job.given.get("device") == "cpu" for job in jobs):
        import torch

        if torch.cuda.is_available():
            _say("Chapters compute on the cpu unless told otherwise, and a GPU stands idle: --set device=cuda.")
    outcomes = book.run(jobs, workers=options.jobs, fresh=options.fresh, say=_say)
    for outcome in outcomes:
        if not outcome.error:
            print(outcome.job.output)
    if options.record is not None:
        from .onfile import PLACE, record

        for folder in dict.fromkeys(outcome.job.results for outcome in outcomes if not outcome.error):
            print(record(folder, book.find_book() / PLACE, "" if options.record is True else options.record))
    return _status(outcomes)


@command(
    "run chapters of a model on file again, two or all, and compare",
    "seed",
    ("name", _takes("NAME", "as in book/results, or the model's id")),
    weights=_takes("MODEL", "where the model lies, if not at its id", type=_name),
    all=_flag("every chapter on file, not a sample"),
)
def verify(options: Options) -> int:
    from .book import find_book
    from .onfile import PLACE, find
    from .onfile import verify as again

    root = find_book()
    held = find(options.name, root / PLACE)
    for experiment, module in held.stale.items():
        _say(f"{experiment} is stale: {module} says something else today.")
    given = {"weights": options.weights, "every": options.all, "seed": options.seed, "say": _say}
    outcomes, differ = again(held, root, **given)
    print("\n".join(differ) or "The same, within the bounds of semhub_utils.onfile.")
    return _status(outcomes) or int(bool(differ))


@command(
    "show side by side what holds of models: each row of the paper, each claim, what is told apart item by item",
    "",
    ("models", _takes("MODEL", "a name in book/results, or a folder of results", nargs="+")),
    html=_takes("FILE", "write it as a page", type=_path),
)
def compare(options: Options) -> int:
    from . import holds
    from .book import find_book
    from .onfile import PLACE, find

    place = find_book() / PLACE
    held = [find(name, place) for name in options.models]
    print(holds.as_text(held))
    if options.html:
        options.html.write_text(holds.as_page(held), "utf-8")
        print(options.html)
    return 0


@command(
    "execute every chapter of the book and build the site",
    "revision set jobs fresh",
    model=_takes("MODEL", f"{MODEL} (where it will not do: the one each chapter names)", type=_name),
    strict=_flag("a chapter that fails, or a warning, ends the build"),
    **{"with": _takes("RUNS", "a folder of runs that are shown too", type=_path, action="append", default=[])},
)
def book(options: Options) -> int:
    from . import site
    from .book import find_book

    how = {"workers": options.jobs, "fresh": options.fresh, "strict": options.strict, "say": _say}
    how["beside"] = vars(options)["with"]  # a word of the language
    asked = {"model": options.model, "revision": options.revision, "settings": parse_settings(options.set)}
    outcomes, front = site.make(find_book(), **asked, **how)
    if front:
        print(front)
    return _status(outcomes)


@command(
    "check that the instruments read a model rightly",
    "revision device dtype json",
    ("model", _takes("MODEL", MODEL)),
)
def check(options: Options) -> int:
    from dataclasses import asdict
    from math import isfinite

    from .identity import of_model
    from .loading import load_model, self_check

    where = {"revision": options.revision, "device": options.device, "dtype": options.dtype}
    model = load_model(options.model, **where, check=False)
    checks = self_check(model, raise_on_failure=False)
    passed = all(c.passed for c in checks)
    if options.json:
        facts = {"model": options.model, "revision": model.revision, "fingerprint": of_model(model)}
        facts |= {"modalities": sorted(model.modalities), "layers": model.n_layers, "hidden": model.hidden_size}
        facts |= {"vocabulary": model.vocab_size, "passed": passed}
        told = [asdict(c) | {"value": c.value if isfinite(c.value) else None, "passed": c.passed} for c in checks]
        _print_json(facts | {"checks": told})
    else:
        sizes = f"{model.n_layers} layers, hidden size {model.hidden_size}, {model.vocab_size} tokens"
        print(f"{options.model}: {sizes}, takes {', '.join(sorted(model.modalities))}")
        for c in checks:
            print(f"  {'pass' if c.passed else 'FAIL'}  {c.name}: {c.value:.3g} (at most {c.bound:.3g})  {c.meaning}")
    return 0 if passed else 1


@command(
    "measure time and memory against the released method and the floor",
    "device dtype json",
    ("model", _takes("MODEL", f"{MODEL} (default: a random model made on the fly)", nargs="?", type=_name)),
    quick=_flag("a small model and few items, under half a minute"),
    threads=_count(1, "threads on the cpu"),
    config={"choices": ("tiny", "small", "large"), "help": "size of the random model (default small)"},
    chapters=_flag("instead, run every chapter and count the tokens it forwards over the distinct ones"),
    items=_takes("CHAPTER", f"whose items: {CHAPTERS}; or all (default)", default="all"),
)
def bench(options: Options) -> int:
    from .site import bench_tables, forwarded_table

    if options.chapters:
        from . import book

        outcomes, found = book.forwarded(book.choose(book.find_book(), "all"), options.model, _say)
        _print_json(found) if options.json else print(forwarded_table(found))
        return _status(outcomes)
    from . import bench as measure

    given = {"quick": options.quick, "shape": options.config, "device": options.device}
    given |= {"dtype": options.dtype, "threads": options.threads, "items": options.items}
    report = measure.bench(options.model, **given, say=_say)
    _print_json(report) if options.json else print(bench_tables(report))
    return 130 if "stopped" in report else 0


@command(
    "measure where the truth is known: what must be seen, false alarms, power",
    "fresh",
    organisms=_takes("DIR", "folder of trained ones", type=_path, default=Path("organisms")),
    part={"action": "append", "choices": ("truth", "power", "alarms", "readings"), "help": "only this, or these"},
    out=_takes("DIR", "folder for the tables (default: the package's data)", type=_path),
)
def calibrate(options: Options) -> int:
    from .calibration import PARTS
    from .experiments.trials import calibrate as measure

    given = {"out": options.out, "fresh": options.fresh, "say": _say}
    for path in measure(options.organisms, parts=options.part or PARTS, **given):
        print(path)
    return 0


@command(
    "make a reading for a model, beside those that every model has: a tuned lens, or a Jacobian lens",
    "revision device dtype seed",
    ("model", _takes("MODEL", MODEL, type=_name)),
    text=_takes("FILE", "UTF-8, a text a line (a shipped model needs none)", type=_path),
    out=_takes("DIR", "folder (default: the model's, where chapters look)", type=_path),
    steps=_count(250, "training steps of a tuned lens"),
    kind={"choices": ("tuned", "jacobian"), "default": "tuned", "help": "which lens (default tuned)"},
)
def tune(options: Options) -> int:
    from . import jacobian, training, tuned
    from .identity import FITTED, beside, try_writing
    from .loading import load_model
    from .spokes.mixed import text_for

    texts, source = text_for(options.model, options.text, seed=options.seed, say=_say)
    model = load_model(options.model, revision=options.revision, device=options.device, dtype=options.dtype)
    folder, given = options.out or beside(options.model, options.revision), {"source": source, "seed": options.seed}
    with training.writing(folder):
        try_writing(folder)
    if options.kind == "tuned":
        found = tuned.tune(model, texts, folder, steps=options.steps, **given)
    else:
        found = jacobian.tune(model, texts, folder, **given)
    _say(tuned.summary(found))
    print(folder / FITTED[options.kind])
    return 0


@command(
    "train one of the models that ship with the book",
    "seed",
    (
        "name",
        _takes("NAME", "a recipe; sees, islands-hears ...: a sense; taught, taught-sees ...", nargs="?", default="hub"),
    ),
    out=_takes("DIR", "folder (default organisms/NAME or NAME-SEED)", type=_path),
    device=_takes("D", "cpu, cuda ... (default cpu)", default="cpu"),
    minutes=_takes("M", "stop after so many minutes (default: the recipe's)", type=_minutes),
)
def train(options: Options) -> int:
    from .loading import device_of

    device_of(options.device)
    out = options.out or Path("organisms") / (options.name + (f"-{options.seed}" if options.seed else ""))
    given = {"seed": options.seed, "device": options.device, "minutes": options.minutes}
    alone = options.name.startswith("taught") or options.name.endswith(("sees", "hears"))  # without a curve
    if options.name.startswith("taught"):
        from .organism.taught import train_taught as teach
    elif alone:
        from .organism.lessons import train_sense as teach
    else:
        from .organism.llama import train as teach

    folder = teach(options.name, out, **given)
    if not (folder / "model.safetensors").exists():
        _say("The time is up and the state is saved; the same command trains on from there.")
    elif not alone:
        from .experiments.raising import write_curve

        _say(f"looking at the checkpoints: {write_curve(folder)}")
    print(folder)
    return 0


@command(
    "train small models with one thing changed at a time, and write what became of them",
    "",
    seeds=_count(2, "trainings of each"),
    out=_takes("FILE", "the table (default: the one that ships)", type=_path),
)
def controls(options: Options) -> int:
    from .experiments.raising import TABLE, run_controls

    path = options.out or TABLE
    run_controls(range(options.seeds)).to_csv(path, index=False, float_format="%.4g")
    print(path)
    return 0


def _given(options: Options, error: OSError) -> str:
    """The place that was given, where an error is about it and not about a disk that is full."""
    places = [value for value in vars(options).values() if isinstance(value, Path)]
    about = Path(os.path.abspath(error.filename)) if isinstance(error.filename, str) else None
    of = (str(place) for place in places if about and about.is_relative_to(os.path.abspath(place)))
    return "" if error.errno == ENOSPC else next(of, "")


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _print_json(what: dict) -> None:
    import json

    print(json.dumps(what, allow_nan=False))


def _status(outcomes: Sequence) -> int:
    """Print what failed, one sentence each; the exit status."""
    said: dict[str, list[str]] = {}
    for outcome in outcomes:
        if outcome.error:
            first, *more = outcome.error.split("\n")
            said.setdefault(first, []).extend(more)
    for first, more in said.items():  # a model that is not there ends every chapter with the same
        _say("\n".join([first, *more]))
    return max(outcome.code for outcome in outcomes)


def _need_folder() -> None:
    """Raises SemhubError where the working folder is gone, as libraries end the process then."""
    try:
        os.getcwd()
    except FileNotFoundError as error:
        said = "semhub was called in a folder that is gone; a call from one that is there would do."
        raise SemhubError(said) from error


def _opened() -> None:
    """Opens the streams that were closed, as files that are opened would take their places; kernels have them too."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False))  # noqa: SIM115


def _parsed(argv: Sequence[str] | None) -> Options:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("semhub", description=DESCRIPTION, epilog=EPILOG, formatter_class=formatter)
    parser.add_argument("--version", action="version", version=f"semhub {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (function, text, arguments) in COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        sub.set_defaults(function=function)
        for argument, how in (arguments | {"--debug": _flag("show where an error comes from")}).items():
            sub.add_argument(argument, **how)
    return parser.parse_args(argv)


def _prepared() -> None:
    """Signals end a command as the keyboard does, a terminal's signs do not, and bars are a line a minute in a log."""
    import signal

    # where nothing else was told (nohup); schedulers send USR1 before time is up
    for name in ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"):
        if (known := getattr(signal, name, None)) and signal.getsignal(known) == signal.SIG_DFL:
            signal.signal(known, signal.default_int_handler)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    if not sys.stderr.isatty():
        for name, value in {"MININTERVAL": "60", "MAXINTERVAL": "60", "BAR_FORMAT": BAR}.items():
            os.environ.setdefault(f"TQDM_{name}", value)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status: 0 done, 1 failed, 2 something given cannot be used, 130 stopped."""
    _opened()
    options = _parsed(argv)
    _prepared()
    try:
        _need_folder()
        return options.function(options)
    except (SemhubError, KeyboardInterrupt) as error:
        caught, said, code = error, str(error), 2
        if isinstance(error, KeyboardInterrupt):
            said, code = "Stopped; what was done is kept, and the same command takes up from there.", 130
    except BrokenPipeError:  # who reads has read enough
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (what is left is written at the end)
        return 141
    except Exception as error:
        caught, code = error, 1
        if isinstance(error, OSError) and (name := _given(options, error)):
            said, code = f"{name} cannot be written ({error.strerror}); a place that can be would do.", 2
        elif isinstance(error, OSError) and error.strerror:
            said = f"{error.strerror}{f': {error.filename}' if error.filename else ''}; what was done is kept."
        else:
            said = f"semhub {options.command} broke with {type(error).__name__}: {reason(error)}; --debug shows where."
    if options.debug:
        import traceback

        traceback.print_exception(caught)
    _say(said)
    return code


if __name__ == "__main__":
    sys.exit(main())

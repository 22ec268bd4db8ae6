"""The command `semhub`. Every command imports what it needs when it runs, so that `semhub --help` is instant."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from . import __version__
from .errors import SemhubError

DESCRIPTION = "Run the chapters of the Semantic Hub book on any model, build the book, check and measure models."
EPILOG = """examples:
  semhub run arithmetic --model gpt2 --set n_items=200    one chapter on a model of the Hugging Face hub
  semhub run all --model gpt2 --model ./folder --jobs 2   a sweep: all chapters on two models
  semhub book                                             execute every chapter and build the site
  semhub check gpt2                                       does this model pass the instruments' self-checks?
  semhub tune gpt2 --text lines.txt                       train a tuned lens, which chapters then show too
  semhub bench --json                                     time and memory against the released method"""


def _parser() -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("semhub", description=DESCRIPTION, epilog=EPILOG, formatter_class=formatter)
    parser.add_argument("--version", action="version", version=f"semhub {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(function, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(function.__name__, help=text, description=text[0].upper() + text[1:] + ".")
        sub.set_defaults(run=function)
        return sub

    model = "id on the Hugging Face hub, local folder, or organism:NAME"

    def common(sub: argparse.ArgumentParser, *names: str) -> None:
        """The options of these names, which several commands take."""
        options = {
            "--revision": {"metavar": "R", "help": "branch, tag or commit of the model on the hub"},
            "--set": {
                "action": "append",
                "default": [],
                "metavar": "NAME=VALUE",
                "help": "a parameter of the chapter, such as device=cuda; may be given again",
            },
            "--jobs": {"type": _positive, "default": 1, "metavar": "N", "help": "chapters at a time (default 1)"},
            "--fresh": {"action": "store_true", "help": "run again what is already done"},
            "--json": {"action": "store_true", "help": "print one JSON object"},
            "--device": {"metavar": "D", "help": "cpu, cuda ... (default: the best one there is)"},
            "--dtype": {"default": "float32", "metavar": "T", "help": "float32 (default), bfloat16 or float16"},
        }
        for name in names:
            sub.add_argument(name, **options[name])

    sub = command(run, "run a chapter, or all, on one model or several")
    sub.add_argument("chapter", metavar="CHAPTER", help="name or number: arithmetic, 3, 03_arithmetic, or all")
    sub.add_argument("--model", action="append", metavar="MODEL", help=f"{model}; may be given again for a sweep")
    sub.add_argument("--out", type=Path, default=Path("runs"), metavar="DIR", help="folder for it all (default runs)")
    common(sub, "--revision", "--set", "--jobs", "--fresh")

    sub = command(book, "execute every chapter of the book and build the site")
    sub.add_argument("--model", metavar="MODEL", help=f"{model} (where it will not do: the one each chapter names)")
    sub.add_argument("--strict", action="store_true", help="a chapter that fails, or a warning, ends the build")
    common(sub, "--revision", "--set", "--jobs", "--fresh")

    sub = command(check, "check that the instruments read a model rightly")
    sub.add_argument("model", metavar="MODEL", help=model)
    common(sub, "--revision", "--device", "--dtype", "--json")

    sub = command(bench, "measure time and memory against the released method and the floor")
    sub.add_argument("model", metavar="MODEL", nargs="?", help=f"{model} (default: a random model made on the fly)")
    sub.add_argument("--quick", action="store_true", help="a small model and few items, under half a minute")
    common(sub, "--device", "--dtype", "--json")
    sub.add_argument("--threads", type=_positive, default=1, metavar="N", help="threads on the cpu (default 1)")
    sub.add_argument("--config", choices=("tiny", "small", "large"), help="size of the random model (default small)")
    named = "arithmetic, languages, layers, steering, code, semantics, vision or audio"
    sub.add_argument("--items", default="all", metavar="CHAPTER", help=f"whose items: {named}; or all (default)")
    sub.add_argument("--results", type=Path, metavar="DIR", help="write the table to DIR/<model>/bench.parquet")

    sub = command(calibrate, "measure where the truth is known: what must be seen, false alarms, power")
    sub.add_argument("--organisms", type=Path, default=Path("organisms"), metavar="DIR", help="folder of trained ones")
    sub.add_argument("--part", action="append", choices=("truth", "alarms", "power"), help="only this; may be repeated")
    sub.add_argument("--out", type=Path, metavar="DIR", help="folder for the tables (default: the package's data)")
    sub.add_argument("--fresh", action="store_true", help="measure again what is already done")

    sub = command(tune, "train a tuned lens for a model: a third reading beside the normed and the raw one")
    sub.add_argument("model", metavar="MODEL", help=model)
    sub.add_argument("--text", type=Path, metavar="FILE", help="UTF-8, a text a line (a shipped model needs none)")
    sub.add_argument("--out", type=Path, metavar="DIR", help="folder (default: the model's, where chapters look)")
    common(sub, "--revision", "--device", "--dtype")
    sub.add_argument("--steps", type=_positive, default=250, metavar="N", help="training steps (default 250)")
    sub.add_argument("--seed", type=int, default=0, metavar="N", help="seed of draws and generated text (default 0)")

    sub = command(train, "train one of the models that ship with the book")
    sub.add_argument(
        "name",
        metavar="NAME",
        nargs="?",
        default="hub",
        help="a recipe (default hub), or sees or hears: eyes or ears for the hub (islands-sees: for islands)",
    )
    sub.add_argument("--out", type=Path, metavar="DIR", help="folder (default organisms/NAME or NAME-SEED)")
    sub.add_argument("--seed", type=int, default=0, metavar="N", help="seed of weights and corpus (default 0)")
    sub.add_argument("--device", default="cpu", metavar="D", help="cpu, cuda ... (default cpu)")
    sub.add_argument("--minutes", type=float, metavar="M", help="stop after so many minutes (default: the recipe's)")

    sub = command(controls, "train small models with one thing changed at a time, and write what became of them")
    sub.add_argument("--seeds", type=_positive, default=2, metavar="N", help="trainings of each (default 2)")
    sub.add_argument("--out", type=Path, metavar="FILE", help="the table (default: the one that ships)")
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 1")
    return int(text)


def _report(outcomes) -> int:
    """Print what failed, one sentence each; the exit status."""
    for outcome in outcomes:
        if outcome.error:
            print(outcome.error, file=sys.stderr)
    return max(outcome.code for outcome in outcomes)


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


def run(options: argparse.Namespace) -> int:
    from . import runner

    jobs = runner.plan(
        runner.choose(runner.find_book(), options.chapter),
        options.model or [None],
        out=options.out,
        results_dir=options.out / "results",
        revision=options.revision,
        settings=runner.parse_settings(options.set),
    )
    if any("device" not in job.parameters and job.given.get("device") == "cpu" for job in jobs):
        import torch

        if torch.cuda.is_available():
            _to_stderr("Chapters compute on the cpu unless told otherwise, and a GPU stands idle: --set device=cuda.")
    outcomes = runner.run(jobs, workers=options.jobs, fresh=options.fresh, say=_to_stderr)
    for outcome in outcomes:
        if not outcome.error:
            print(outcome.job.output)
    return _report(outcomes)


def book(options: argparse.Namespace) -> int:
    import shutil

    from . import runner, site

    root = runner.find_book()
    build, chapters = root / "_build", runner.chapters_of_toc(root)
    given = {"out": build / "runs", "results_dir": build / "results", "apart": False}
    given["settings"] = runner.parse_settings(options.set)
    how = {"workers": options.jobs, "fresh": options.fresh, "say": _to_stderr}
    jobs = runner.plan(chapters, [options.model], revision=options.revision, **given)
    outcomes = {outcome.job.chapter: outcome for outcome in runner.run(jobs, **how)}
    refused = {chapter: outcome for chapter, outcome in outcomes.items() if outcome.code == 2}
    if options.model and len(refused) < len(outcomes):  # else it is no model at all
        for outcome in refused.values():
            _to_stderr(f"{outcome.error.splitlines()[0]} {outcome.job.chapter.stem} is shown on its own model.")
        own = [job for job in runner.plan(chapters, [None], **given) if job.chapter in refused]
        outcomes |= {outcome.job.chapter: outcome for outcome in runner.run(own, **how)}
    status = _report(outcomes.values())
    if status and (options.strict or all(outcome.error for outcome in outcomes.values())):
        return status
    # Chapters may name different default models, so their notebooks are gathered; one that failed, as far as it got.
    executed = build / "executed"
    shutil.rmtree(executed, ignore_errors=True)
    executed.mkdir(parents=True)
    for outcome in outcomes.values():
        if outcome.job.output.exists():
            shutil.copy2(outcome.job.output, executed)
    print(site.build(executed, build / "html", root=root, results=build / "results", strict=options.strict or None))
    return status


def check(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from .checks import self_check
    from .loading import load_model

    model = load_model(
        options.model, revision=options.revision, device=options.device, dtype=options.dtype, check=False
    )
    checks = self_check(model, raise_on_failure=False)
    passed = all(c.passed for c in checks)
    if options.json:
        facts = {"model": options.model, "revision": model.revision, "fingerprint": model.fingerprint}
        sizes = {"layers": model.n_layers, "hidden": model.hidden_size, "vocabulary": model.vocab_size}
        facts["modalities"] = sorted(model.modalities)
        print(json.dumps({**facts, **sizes, "passed": passed, "checks": [asdict(c) for c in checks]}))
    else:
        sizes = f"{model.n_layers} layers, hidden size {model.hidden_size}, {model.vocab_size} tokens"
        print(f"{options.model}: {sizes}, takes {', '.join(sorted(model.modalities))}")
        for c in checks:
            print(f"  {'pass' if c.passed else 'FAIL'}  {c.name}: {c.value:.3g} (at most {c.bound:.3g})  {c.meaning}")
    return 0 if passed else 1


def bench(options: argparse.Namespace) -> int:
    import signal

    from . import bench as measure

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # who stops it so gets what is measured, too
    given = {"quick": options.quick, "shape": options.config, "device": options.device}
    given |= {"dtype": options.dtype, "threads": options.threads, "items": options.items}
    report = measure.bench(options.model, **given, say=_to_stderr)
    if options.results:
        print(f"table: {measure.write(report, options.results)}", file=sys.stderr)
    print(json.dumps(report) if options.json else measure.summary(report))
    return 130 if "stopped" in report else 0


def calibrate(options: argparse.Namespace) -> int:
    from . import calibrate as measure

    given = {"out": options.out, "fresh": options.fresh, "say": _to_stderr}
    for path in measure.calibrate(options.organisms, parts=options.part or measure.PARTS, **given):
        print(path)
    return 0


def tune(options: argparse.Namespace) -> int:
    from . import tuned
    from .loading import load_model
    from .spokes.mixed import text_for

    texts, source = text_for(options.model, options.text, seed=options.seed, say=_to_stderr)
    model = load_model(options.model, revision=options.revision, device=options.device, dtype=options.dtype)
    folder = options.out or tuned.beside(options.model, options.revision).parent
    found = tuned.tune(model, texts, folder, source=source, steps=options.steps, seed=options.seed)
    _to_stderr(tuned.summary(found))
    print(folder / tuned.FILE)
    return 0


def train(options: argparse.Namespace) -> int:
    out = options.out or Path("organisms") / (options.name + (f"-{options.seed}" if options.seed else ""))
    given = {"seed": options.seed, "device": options.device, "minutes": options.minutes}
    sense = options.name.endswith(("sees", "hears"))
    if sense:
        from .organism.lessons import train_sense as teach
    else:
        from .organism.llama import train as teach

    folder = teach(options.name, out, **given)
    if not (folder / "model.safetensors").exists():
        _to_stderr("The time is up and the state is saved; the same command trains on from there.")
    elif not sense:
        from .experiments.raising import write_curve

        _to_stderr(f"looking at the checkpoints: {write_curve(folder)}")
    print(folder)
    return 0


def controls(options: argparse.Namespace) -> int:
    from .experiments.raising import TABLE, run_controls

    path = options.out or TABLE
    run_controls(range(options.seeds)).to_csv(path, index=False, float_format="%.4g")
    print(path)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status: 0 done, 1 failed, 2 something given cannot be used, 130 stopped."""
    options = _parser().parse_args(argv)
    try:
        return options.run(options)
    except SemhubError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped; what was done is kept, and the same command takes up from there.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())

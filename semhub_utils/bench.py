"""Time and memory of the instruments, in one run on one model, against the yardsticks of `yardsticks`.

All methods run in turn and in changing order, so that a busy machine disturbs them alike; ratios are taken within a
round and their median is reported, with the smallest and the largest.
"""

from __future__ import annotations

import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import transformers

from .bench_items import CHAPTERS, MEDIA, workloads
from .bench_models import random_media_model, random_model
from .errors import SemhubError
from .loading import load_model
from .models import LanguageModel
from .spokes import arithmetic
from .yardsticks import EXPERIMENTS, METHODS, NEW_TOKENS, Case, Workload
from .zoo import atomically, model_slug

# Workloads


def long_texts(model: LanguageModel, tokens: int, count: int, seed: int = 0) -> Workload:
    """Pairs of texts of number words, of so many tokens of this model, or as many as leave room for a continuation."""
    words = [pair.b for pair in arithmetic.similarity_pairs(arithmetic.items(32, seed))]
    draw, tokens = random.Random(seed), min(tokens, (model.max_length or tokens + NEW_TOKENS) - NEW_TOKENS)

    def text() -> str:
        long = " ".join(draw.choice(words) for _ in range(tokens // 3 + 1))
        read = model.tokenizer(long, truncation=True, max_length=tokens, return_offsets_mapping=True)
        return long[: max(end for _, end in read["offset_mapping"])]

    return Workload([text() for _ in range(count)], [text() for _ in range(count)])


# Measuring


def peak_bytes(function: Callable[[], Any], device: torch.device | str = "cpu") -> int:
    """The most memory that tensors made while `function` runs take at one time, in bytes."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler would tell of its start and stop
    with torch.autograd.profiler.profile(profile_memory=True) as record:
        function()
    changes = [event for event in record.kineto_results.events() if event.name() == "[memory]"]
    taken = peak = 0
    for change in sorted(changes, key=lambda event: event.start_ns()):
        taken += change.nbytes()
        peak = max(peak, taken)
    return peak


def _timed(function: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    began = time.perf_counter()
    value = function()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began, value


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def compare(methods: dict[str, Callable[[], Any]], device: torch.device, rounds: int, pairs: int) -> dict[str, Any]:
    """Run the methods in turn. `released` is slow and steady and runs once a round, the others `pairs` times in
    alternating order. Returns the seconds of each, both ratios, and by how much the readings of two of them differ."""
    seconds: dict[str, list[float]] = {name: [] for name in METHODS}
    faster, of_floor = [], []
    for name in ("ours", "floor"):
        methods[name]()  # first calls pay for set-up
    for _ in range(rounds):
        slow, reading = _timed(methods["released"], device)
        seconds["released"].append(slow)
        for turn in range(pairs):
            took = {}
            for name in ("ours", "floor") if turn % 2 else ("floor", "ours"):
                took[name], value = _timed(methods[name], device)
                seconds[name].append(took[name])
                if name == "ours":
                    difference = float((reading - value).abs().max())
            of_floor.append(took["ours"] / took["floor"])
        faster.append(slow / statistics.median(seconds["ours"][-pairs:]))
    return {
        "largest_difference": difference,
        "seconds": {name: statistics.median(values) for name, values in seconds.items()},
        "times_faster_than_released": _spread(faster),
        "times_the_floor": _spread(of_floor),
    }


@torch.inference_mode()
def bench(
    model_id: str | None = None,
    *,
    quick: bool = False,
    shape: str | None = None,
    device: str | None = None,
    dtype: str = "float32",
    threads: int = 1,
    items: str = "all",
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measure lens, similarity and intervention on a model (default: random ones made on the fly), on the short items
    of arithmetic, on prompts of 64 and 512 tokens, and on the items of a chapter, one of CHAPTERS, or of "all".

    Returns a JSON-able report: per experiment `times_faster_than_released` (short items), `times_the_floor` (the worse
    of short items and 64 tokens), `memory_share_of_released` (512 tokens) and, under `workloads`, every single figure;
    and under `chapters`, by chapter and experiment, the figures of the chapter's items. Who stops it gets what is
    measured by then, with `stopped`. Raises SemhubError on unknown items, and on those that the model cannot read.
    """
    # One thread by default: several wait for one another whenever something else is running, and then time nothing.
    torch.set_num_threads(threads)
    if items not in (*CHAPTERS, "all"):
        raise SemhubError(f"items was {items!r}; the name of a chapter ({', '.join(CHAPTERS)}) or all would do.")
    shape = shape or ("tiny" if quick else "small")
    made = {"device": device, "dtype": dtype}
    model = load_model(model_id, **made) if model_id else random_model(shape, **made)
    if model.max_length is not None and model.max_length < 64 + NEW_TOKENS:
        raise SemhubError(
            f"{model_id} reads at most {model.max_length} tokens; bench takes a model that reads {64 + NEW_TOKENS}."
        )
    n, turns, fewer = (16, (1, 3), (1, 2)) if quick else (32, (2, 4), (2, 3))
    if model_id and items != "all":
        workloads(items, model, n)  # what it cannot read is refused at once
    report: dict[str, Any] = {
        "model": model.model_id,
        "layers": model.n_layers,
        "hidden": model.hidden_size,
        "vocabulary": model.vocab_size,
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }

    def measured(
        reads: LanguageModel, experiment: str, name: str, work: Workload, *, weigh: bool = False, turns=turns
    ) -> dict[str, Any]:
        say(f"{experiment}: {len(work.a)} x {name}")
        case = Case(reads, work)
        methods = {name: partial(function, case) for name, function in EXPERIMENTS[experiment].items()}
        details = {"model": reads.model_id, "items": len(work.a), "tokens": statistics.median(case.tokens)}
        if not weigh:
            return details | compare(methods, reads.device, *turns)
        memory = {name: peak_bytes(method, reads.device) for name, method in methods.items()}
        return details | {"peak_bytes": memory, "memory_share_of_released": memory["ours"] / memory["released"]}

    try:
        short = workloads("arithmetic", model, n)
        long, longest = long_texts(model, 64, 4 if quick else 8), long_texts(model, 512, 2)
        for experiment in EXPERIMENTS:
            # an intervention is one generation per strength, so fewer prompts do
            half = Workload(long.a[: len(long.a) // 2])
            timed = {"arithmetic items": short[experiment], "64 tokens": half if experiment == "intervention" else long}
            details = {name: measured(model, experiment, name, work) for name, work in timed.items()}
            share = measured(model, experiment, "512 tokens, memory", longest, weigh=True)
            report[experiment] = {
                "times_faster_than_released": details["arithmetic items"]["times_faster_than_released"]["median"],
                "times_the_floor": max(work["times_the_floor"]["median"] for work in details.values()),
                "memory_share_of_released": share["memory_share_of_released"],
                "workloads": details | {"512 tokens, memory": share},
            }
        chapters = report["chapters"] = {}
        for chapter in CHAPTERS if items == "all" else [items]:
            if chapter == "arithmetic":
                of = {experiment: report[experiment]["workloads"]["arithmetic items"] for experiment in EXPERIMENTS}
                chapters[chapter] = of
                continue
            reads = model
            if chapter in MEDIA and model_id is None:
                reads = random_media_model(MEDIA[chapter], shape, **made)
            try:
                for experiment, work in workloads(chapter, reads, n).items():
                    details = measured(reads, experiment, f"{chapter} items", work, turns=fewer)
                    chapters.setdefault(chapter, {})[experiment] = details
            except SemhubError as error:
                if items != "all":
                    raise
                say(f"{chapter} is left out: {error}")
    except KeyboardInterrupt:
        report["stopped"] = True
    return report


def _workloads(report: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Experiment, name and figures of everything that was measured, the items of arithmetic once."""
    for experiment in EXPERIMENTS:
        for name, work in report.get(experiment, {}).get("workloads", {}).items():
            yield experiment, name, work
    for chapter, of in report.get("chapters", {}).items():
        for experiment, work in of.items():
            if chapter != "arithmetic":
                yield experiment, f"{chapter} items", work


def table(report: dict[str, Any]) -> pd.DataFrame:
    """One row per experiment, workload, quantity and method, with the spread where there is one."""
    rows = []
    for experiment, name, work in _workloads(report):
        row = {"experiment": experiment, "workload": name, "n": work["items"], "tokens": work["tokens"]}
        for quantity in ("seconds", "peak_bytes"):
            for method, value in work.get(quantity, {}).items():
                rows.append(row | {"quantity": quantity, "series": method, "value": float(value)})
        for quantity in ("times_faster_than_released", "times_the_floor"):
            if quantity in work:
                value, low, high = (work[quantity][part] for part in ("median", "low", "high"))
                rows.append(row | {"quantity": quantity, "series": "ours", "value": value, "low": low, "high": high})
    return pd.DataFrame(rows)


def summary(report: dict[str, Any]) -> str:
    """The report as a text table, one line per experiment and workload."""
    head = f"{report['model']} on {report['device']}, {report['dtype']}, {report['threads']} threads"
    lines = [head, f"{'':14}{'':19}{'tokens':>6}{'released':>11}{'ours':>11}{'floor':>11}  faster  of floor"]
    for experiment, name, work in _workloads(report):
        if "seconds" in work:
            cells = [f"{work['seconds'][method]:.3f} s" for method in METHODS]
            faster, floor = (work[k]["median"] for k in ("times_faster_than_released", "times_the_floor"))
            ratios = f"{faster:7.1f}x  {floor:7.2f}"
        else:
            cells = [f"{work['peak_bytes'][method] / 2**20:.1f} MiB" for method in METHODS]
            ratios = f"memory: {work['memory_share_of_released']:.1%} of released"
        cells = "".join(f"{cell:>11}" for cell in cells)
        lines.append(f"{experiment:14}{name:19}{work['tokens']:6.0f}{cells}  {ratios}")
    return "\n".join(lines)


def write(report: dict[str, Any], results_dir: Path) -> Path:
    """Write `table(report)` to `<results_dir>/<model>/bench.parquet`, atomically."""
    path = results_dir / model_slug(report["model"]) / "bench.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    atomically(path, table(report).to_parquet)
    return path

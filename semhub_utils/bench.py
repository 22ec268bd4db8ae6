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
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import transformers

from .bench_models import media_workloads, random_media_model, random_model
from .errors import SemhubError
from .models import LanguageModel, load_model
from .results import atomically, model_slug
from .spokes import arithmetic, facts
from .yardsticks import EXPERIMENTS, METHODS, NEW_TOKENS, Case, Workload

# Workloads


ITEMS = ("arithmetic", *facts.TYPES)


def texts(quick: bool, seed: int = 0, items: str = "arithmetic") -> list[Workload]:
    """A chapter's items, one of ITEMS, and texts made of them that are too long for the other two workloads."""
    count = 24 if quick else 32
    if items == "arithmetic":
        pairs = arithmetic.similarity_pairs(arithmetic.items(count, seed))
    else:
        pairs = facts.similarity_pairs(facts.prompts(items, count, seed=seed))
    draw = random.Random(seed)

    def long(count: int, words: int) -> list[str]:
        return [" ".join(draw.choice(pairs).b for _ in range(words // 3 + 1)) for _ in range(count)]

    short, few = (4, 2) if quick else (8, 2)
    return [
        Workload(f"{items} items", [pair.a for pair in pairs], [pair.b for pair in pairs]),
        Workload("64 tokens", long(short, 64), long(short, 64)),
        Workload("512 tokens", long(few, 512), long(few, 512)),
    ]


def cut(model: LanguageModel, work: Workload, tokens: int, name: str) -> Workload:
    """The texts cut to `tokens` tokens of this model, or to as many as leave room for a continuation."""
    tokens = min(tokens, (model.max_length or tokens + NEW_TOKENS) - NEW_TOKENS)

    def start(text: str) -> str:
        read = model.tokenizer(text, truncation=True, max_length=tokens, return_offsets_mapping=True)
        return text[: max(end for _, end in read["offset_mapping"])]

    return Workload(name.format(tokens), [start(text) for text in work.a], [start(text) for text in work.b])


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
    items: str = "arithmetic",
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measure lens, similarity and intervention on a model (default: random ones made on the fly), on texts, and on
    pictures and sounds as far as the model takes them.

    Returns a JSON-able report: per experiment `times_faster_than_released` (`items`, those of a chapter),
    `times_the_floor` (the worse of both lengths), `memory_share_of_released` (512-token prompts) and, under
    `workloads`, every single figure.
    """
    # One thread by default: several wait for one another whenever something else is running, and then time nothing.
    torch.set_num_threads(threads)
    made = texts(quick, items=items)
    shape = shape or ("tiny" if quick else "small")
    if model_id is None:
        model = random_model(shape, made, device, dtype)
    else:
        model = load_model(model_id, device=device, dtype=dtype)
    if model.max_length is not None and model.max_length < 64 + NEW_TOKENS:
        raise SemhubError(
            f"{model_id} reads at most {model.max_length} tokens; bench takes a model that reads {64 + NEW_TOKENS}."
        )
    timed = [made[0], cut(model, made[1], 64, "{} tokens")]
    weighed = cut(model, made[2], 512, "{} tokens, memory")
    rounds, pairs = (2, 3) if quick else (2, 4)
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
    works = [(model, work, work is weighed, (rounds, pairs)) for work in (*timed, weighed)]
    for medium in ("image", "sound"):
        if model_id is None:
            seeing = random_media_model(medium, shape, made, device, dtype)
        elif medium in model.modalities:
            seeing = model
        else:
            continue
        work = media_workloads(seeing, medium, [*made[0].b, *made[0].a], 2 if quick else 8)
        turns = (1, 2) if quick else (rounds, pairs)
        weighed_too = Workload(f"{work.name}, memory", work.a[:2], work.b[:2])
        works += [(seeing, work, False, turns), (seeing, weighed_too, True, turns)]
    for experiment, functions in EXPERIMENTS.items():
        details = {}
        for reads, work, weigh, turns in works:
            # An intervention is one generation per strength, so fewer prompts do.
            count = max(2, len(work.a) // 2) if experiment == "intervention" else len(work.a)
            case = Case(reads, Workload(work.name, work.a[:count], work.b[:count]))
            methods = {name: partial(function, case) for name, function in functions.items()}
            tokens = statistics.median(len(encoding) for encoding in reads.encode(case.work.a))
            say(f"{experiment}: {count} x {work.name}")
            details[work.name] = {"model": reads.model_id, "items": count, "tokens": tokens}
            if weigh:
                memory = {name: peak_bytes(method, reads.device) for name, method in methods.items()}
                share = memory["ours"] / memory["released"]
                details[work.name] |= {"peak_bytes": memory, "memory_share_of_released": share}
            else:
                details[work.name] |= compare(methods, reads.device, *turns)
        report[experiment] = {
            "times_faster_than_released": details[timed[0].name]["times_faster_than_released"]["median"],
            "times_the_floor": max(details[work.name]["times_the_floor"]["median"] for work in timed),
            "memory_share_of_released": details[weighed.name]["memory_share_of_released"],
            "workloads": details,
        }
    return report


def table(report: dict[str, Any]) -> pd.DataFrame:
    """One row per experiment, workload, quantity and method, with the spread where there is one."""
    rows = []
    for experiment in EXPERIMENTS:
        for name, work in report[experiment]["workloads"].items():
            row = {"experiment": experiment, "workload": name, "n": work["items"], "tokens": work["tokens"]}
            for quantity in ("seconds", "peak_bytes"):
                for method, value in work.get(quantity, {}).items():
                    rows.append(row | {"quantity": quantity, "series": method, "value": float(value)})
            for quantity in ("times_faster_than_released", "times_the_floor"):
                if quantity in work:
                    value, low, high = (work[quantity][part] for part in ("median", "low", "high"))
                    rows.append(
                        row | {"quantity": quantity, "series": "ours", "value": value, "low": low, "high": high}
                    )
    return pd.DataFrame(rows)


def summary(report: dict[str, Any]) -> str:
    """The report as a text table, one line per experiment and workload."""
    head = f"{report['model']} on {report['device']}, {report['dtype']}, {report['threads']} threads"
    lines = [head, f"{'':14}{'':18}{'released':>11}{'ours':>11}{'floor':>11}  faster  of floor"]
    for experiment in EXPERIMENTS:
        for name, work in report[experiment]["workloads"].items():
            if "seconds" in work:
                cells = [f"{work['seconds'][method]:.3f} s" for method in METHODS]
                faster, floor = (work[k]["median"] for k in ("times_faster_than_released", "times_the_floor"))
                ratios = f"{faster:7.1f}x  {floor:7.2f}"
            else:
                cells = [f"{work['peak_bytes'][method] / 2**20:.1f} MiB" for method in METHODS]
                ratios = f"memory: {work['memory_share_of_released']:.1%} of released"
            lines.append(f"{experiment:14}{name:18}" + "".join(f"{cell:>11}" for cell in cells) + "  " + ratios)
    return "\n".join(lines)


def write(report: dict[str, Any], results_dir: Path) -> Path:
    """Write `table(report)` to `<results_dir>/<model>/bench.parquet`, atomically."""
    path = results_dir / model_slug(report["model"]) / "bench.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    atomically(path, table(report).to_parquet)
    return path

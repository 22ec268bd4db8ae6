"""Time and memory of the instruments, in one run on one model, against the yardsticks of `yardsticks`.

All methods run in turn and in changing order, so that a busy machine disturbs them alike; ratios are taken within a
round and their median is reported, with the smallest and the largest.
"""

import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import transformers
from tokenizers import models

from .bench_items import CHAPTERS, MEDIA, workloads
from .errors import SemhubError
from .loading import load_model
from .models import LanguageModel, wrap
from .organism.lexicon import build_tokenizer, vocabulary
from .spokes import arithmetic
from .yardsticks import EXPERIMENTS, METHODS, NEW_TOKENS, Case, Read, Workload
from .zoo import organism_path

# Random Llamas: of the size of GPT-2, the smallest public model the chapters are run on; of that of Llama-3-8B; and one
# for tests.
SHAPES = {
    "tiny": dict(hidden_size=128, intermediate_size=448, num_hidden_layers=4, num_attention_heads=4, vocab_size=4000),
    "small": dict(
        hidden_size=768, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=12, vocab_size=50257
    ),
    "large": dict(
        hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32, vocab_size=128256
    ),
}
CONTEXT = 2048


# Models and what they read


def random_model(shape: str, device: str | None, dtype: str, medium: str = "text", seed: int = 0) -> LanguageModel:
    """A Llama of `SHAPES[shape]` with random weights that reads what the shipped models read: by their tokenizer, and
    for "image" and "sound" behind their encoder, with random weights too."""
    heads = SHAPES[shape]["num_attention_heads"]
    sizes = SHAPES[shape] | {"num_key_value_heads": heads // 4, "head_dim": SHAPES[shape]["hidden_size"] // heads}
    sizes["max_position_embeddings"] = CONTEXT
    if medium == "text":
        kind, config, reads = transformers.AutoModelForCausalLM, transformers.LlamaConfig(**sizes), _tokenizer(shape)
    else:
        folder = organism_path({"image": "hub-sees", "sound": "hub-hears"}[medium])
        kind, config = transformers.AutoModelForMultimodalLM, transformers.AutoConfig.from_pretrained(folder)
        config.text_config.update(sizes)
        reads = transformers.AutoProcessor.from_pretrained(folder)
        reads.tokenizer.model_max_length = CONTEXT
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(seed)
        module = kind.from_config(config, dtype=getattr(torch, dtype))
    return wrap(module, reads, model_id=f"random-{config.model_type}-{shape}")


def _tokenizer(shape: str):
    """The shipped models' own, with more words up to the size of the vocabulary."""
    tokenizer = build_tokenizer()
    words = dict.fromkeys(vocabulary())
    words |= dict.fromkeys(f"<{i}>" for i in range(SHAPES[shape]["vocab_size"] - len(words)))
    ids = {word: i for i, word in enumerate(words)}
    tokenizer.backend_tokenizer.model = models.WordLevel(ids, unk_token=tokenizer.unk_token)
    tokenizer.model_max_length = CONTEXT
    return tokenizer


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


def apart(one: Read, other: Read) -> float:
    """How far two methods' readings differ: the largest difference of their numbers, or the share of the texts that
    differ, as two ways of rounding may soon write on in different ways."""
    if isinstance(one, list):
        return sum(a != b for a, b in zip(one, other, strict=True)) / len(one)
    return float((one - other).abs().max())


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
                    difference = apart(reading, value)
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
    shape, made = shape or ("tiny" if quick else "small"), {"device": device, "dtype": dtype}
    model = load_model(model_id, **made) if model_id else random_model(shape, **made)
    if model.max_length is not None and model.max_length < 64 + NEW_TOKENS:
        raise SemhubError(
            f"{model_id} reads at most {model.max_length} tokens; bench takes a model that reads {64 + NEW_TOKENS}."
        )
    n = 16 if quick else 32
    if model_id and items != "all":
        workloads(items, model, n)  # what it cannot read is refused at once
    report = _about(model)
    try:
        for experiment, work in workloads("arithmetic", model, n).items():
            report[experiment] = _headline(model, experiment, work, quick, say)
        chapters = report["chapters"] = {}
        for chapter in CHAPTERS if items == "all" else [items]:
            if chapter == "arithmetic":
                chapters[chapter] = {name: report[name]["workloads"]["arithmetic items"] for name in EXPERIMENTS}
                continue
            reads = model if model_id or chapter not in MEDIA else random_model(shape, **made, medium=MEDIA[chapter])
            try:
                works = workloads(chapter, reads, n)
            except SemhubError as error:
                if items != "all":
                    raise
                say(f"{chapter} is left out: {error}")
                continue
            for experiment, work in works.items():
                found = _measured(reads, experiment, f"{chapter} items", work, say, (1, 2) if quick else (2, 3))
                chapters.setdefault(chapter, {})[experiment] = found
    except KeyboardInterrupt:
        report["stopped"] = True
    return report


def _about(model: LanguageModel) -> dict[str, Any]:
    libraries = {"torch": torch.__version__, "transformers": transformers.__version__}
    return {
        "model": model.model_id,
        "layers": model.n_layers,
        "hidden": model.hidden_size,
        "vocabulary": model.vocab_size,
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version()} | libraries,
    }


def _headline(model: LanguageModel, experiment: str, short: Workload, quick: bool, say: Callable) -> dict[str, Any]:
    """An experiment on short items and on prompts of 64 tokens, timed, and on 512 tokens, weighed."""
    # an intervention is one generation per strength, so fewer prompts do
    long = long_texts(model, 64, (4 if quick else 8) // (1 + (experiment == "intervention")))
    turns = (1, 3) if quick else (2, 4)
    found = {"arithmetic items": _measured(model, experiment, "arithmetic items", short, say, turns)}
    found["64 tokens"] = _measured(model, experiment, "64 tokens", long, say, turns)
    weighed = _measured(model, experiment, "512 tokens, memory", long_texts(model, 512, 2), say)
    return {
        "times_faster_than_released": found["arithmetic items"]["times_faster_than_released"]["median"],
        "times_the_floor": max(work["times_the_floor"]["median"] for work in found.values()),
        "memory_share_of_released": weighed["memory_share_of_released"],
        "workloads": found | {"512 tokens, memory": weighed},
    }


def _measured(
    model: LanguageModel,
    experiment: str,
    name: str,
    work: Workload,
    say: Callable,
    turns: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """Figures of a workload: its times in so many rounds and pairs (`compare`), or without turns its memory."""
    say(f"{experiment}: {len(work.a)} x {name}")
    case = Case(model, work)
    methods = {name: partial(function, case) for name, function in EXPERIMENTS[experiment].items()}
    details = {"model": model.model_id, "items": len(work.a), "tokens": statistics.median(case.tokens)}
    if turns:
        return details | compare(methods, model.device, *turns)
    memory = {name: peak_bytes(method, model.device) for name, method in methods.items()}
    return details | {"peak_bytes": memory, "memory_share_of_released": memory["ours"] / memory["released"]}

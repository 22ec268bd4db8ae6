"""Time and memory of the instruments, in one run on one model, against two yardsticks.

released: the method of the paper's release, written anew from its description. One prompt at a time, every hidden
state of every position kept, the whole [layer, position, vocabulary] log-softmax table made though two tokens at one
position are read, cosines by broadcasting, one forward per prompt and strength.
floor: what no method gets around. The same batches through the bare decoder, and the one matrix product that is left:
states by unembedding (lens), states by states (similarity), last states by unembedding (intervention).

All three run in turn and in changing order, so that a busy machine disturbs them alike; ratios are taken within a
round and their median is reported, with the smallest and the largest.
"""

from __future__ import annotations

import json
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import transformers
from torch import Tensor
from torch.nn import functional as F

from .errors import SemhubError
from .lens import lens_logprobs
from .models import LanguageModel, load_model, wrap
from .results import atomically, model_slug
from .similarity import adjusted_cosine
from .spokes import arithmetic
from .states import Edit, hidden_states, pad, run_batches
from .steering import next_token_logprobs

STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)  # the paper's, for arithmetic
METHODS = ("released", "ours", "floor")
# A random Llama of a size that two cores can time, and one of the size of Llama-3-8B; both have its proportions
# (vocabulary 31 times and feed-forward 3.5 times the hidden size, four query heads to a key head).
SHAPES = {
    "tiny": dict(hidden_size=128, intermediate_size=448, num_hidden_layers=4, num_attention_heads=4, vocab_size=4000),
    "small": dict(
        hidden_size=512, intermediate_size=1792, num_hidden_layers=12, num_attention_heads=8, vocab_size=16000
    ),
    "large": dict(
        hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32, vocab_size=128256
    ),
}


@dataclass(frozen=True)
class Workload:
    """Pairs of prompts of one length, timed or weighed."""

    name: str
    a: list[str]
    b: list[str]


def random_model(shape: str, workloads: Sequence[Workload], device: str | None, dtype: str, seed: int = 0):
    """A Llama of `SHAPES[shape]` with random weights and a word-level tokenizer that knows the words of the prompts."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    size = SHAPES[shape]
    splitter = pre_tokenizers.Sequence(
        [pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Digits(individual_digits=True)]
    )
    texts = {text for workload in workloads for text in (*workload.a, *workload.b)}
    words = sorted({word for text in texts for word, _ in splitter.pre_tokenize_str(text)})
    vocabulary = ["<unk>", *words]
    vocabulary += [f"<{i}>" for i in range(size["vocab_size"] - len(vocabulary))]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    backend.pre_tokenizer = splitter
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    config = transformers.LlamaConfig(
        **size, num_key_value_heads=size["num_attention_heads"] // 4, max_position_embeddings=2048
    )
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(seed)
        module = transformers.AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    return wrap(module, tokenizer, model_id=f"random-llama-{shape}")


# Workloads


def texts(quick: bool, seed: int = 0) -> list[Workload]:
    """The arithmetic items, and texts made of them that are too long for the other two workloads."""
    pairs = arithmetic.similarity_pairs(arithmetic.items(32 if quick else 256, seed))
    draw = random.Random(seed)

    def long(count: int, words: int) -> list[str]:
        return [" ".join(draw.choice(pairs).b for _ in range(words // 3 + 1)) for _ in range(count)]

    short, few = (8, 2) if quick else (32, 8)
    return [
        Workload("arithmetic items", [pair.a for pair in pairs], [pair.b for pair in pairs]),
        Workload("64 tokens", long(short, 64), long(short, 64)),
        Workload("512 tokens", long(few, 512), long(few, 512)),
    ]


def cut(model: LanguageModel, work: Workload, tokens: int) -> Workload:
    """The texts cut to `tokens` tokens of this model, or to as many as it takes."""
    tokens = min(tokens, model.max_length or tokens)

    def start(text: str) -> str:
        read = model.tokenizer(text, truncation=True, max_length=tokens, return_offsets_mapping=True)
        return text[: max(end for _, end in read["offset_mapping"])]

    return Workload(f"{tokens} tokens", [start(text) for text in work.a], [start(text) for text in work.b])


@dataclass
class Case:
    """One model on one workload: what the methods are given. Every method leaves numbers that can be compared."""

    model: LanguageModel
    work: Workload

    def __post_init__(self) -> None:
        model = self.model
        generator = torch.Generator().manual_seed(0)
        self.layers = range(1, model.n_layers + 1)
        self.targets = torch.randint(model.vocab_size, (2,), generator=generator)
        vector = torch.randn(model.hidden_size, generator=generator)
        self.edit = Edit(
            layers=(max(1, round(0.78 * model.n_layers)),), vector=vector
        )  # layer 25 of 32, as in the paper

    def tokens(self, prompt: str) -> Tensor:
        return self.model.tokenizer(prompt, return_tensors="pt").input_ids.to(self.model.device)


# As released


def released_states(case: Case, prompt: str) -> Tensor:
    """[layer, position, hidden]; the last one has been through the final norm, as the library gives it."""
    states = case.model.module(case.tokens(prompt), output_hidden_states=True).hidden_states
    return torch.stack([h[0] for h in states])[1:]


def released_lens(case: Case) -> Tensor:
    read = []
    for prompt in case.work.a:
        states = released_states(case, prompt)
        table = torch.stack([(h @ case.model.unembedding.T).float().log_softmax(-1) for h in states])
        read.append(table[:, -1, case.targets].cpu())
    return torch.stack(read)[:, :-1]


def released_similarity(case: Case) -> Tensor:
    # A slice of the last position holds on to the states of all positions, here as there.
    a, b = (torch.stack([released_states(case, p)[:, -1] for p in side]) for side in (case.work.a, case.work.b))
    cosine = torch.empty(len(a), len(b), a.shape[1], device=a.device)
    for i in range(0, len(a), 128):
        for j in range(0, len(b), 128):
            cosine[i : i + 128, j : j + 128] = F.cosine_similarity(a[i : i + 128, None], b[None, j : j + 128], dim=-1)
    matched = cosine.diagonal().sum(-1)
    others = (cosine.sum((0, 1)) - matched) / (len(a) * (len(a) - 1))
    return (matched / len(a) - others)[:-1].cpu()


def released_intervention(case: Case) -> Tensor:
    vector = case.edit.vector.to(case.model.device, case.model.dtype)
    read = []
    for prompt in case.work.a:
        for strength in STRENGTHS:

            def add(h: Tensor, strength: float = strength) -> Tensor:
                h = h.clone()
                h[:, -1] += strength * vector
                return h

            handle = case.model.hook(case.edit.layers[0], add)
            logits = case.model.module(case.tokens(prompt)).logits
            handle.remove()
            read.append(logits[0].float().log_softmax(-1)[-1, case.targets].cpu())
    return torch.stack(read).unflatten(0, (-1, len(STRENGTHS)))


# Ours


def ours_lens(case: Case) -> Tensor:
    states = hidden_states(case.model, case.work.a, layers=case.layers)
    return lens_logprobs(case.model, states.hidden, case.targets, reading="raw")[:, :-1]


def ours_similarity(case: Case) -> Tensor:
    a, b = (hidden_states(case.model, side, layers=case.layers).hidden for side in (case.work.a, case.work.b))
    return adjusted_cosine(a, b).mean(0)[:-1]


def ours_intervention(case: Case) -> Tensor:
    return next_token_logprobs(case.model, case.work.a, case.targets, edit=case.edit, strengths=STRENGTHS)


# The floor


def _forwards(case: Case, prompts: Sequence[str], copies: int = 1) -> None:
    """The bare decoder, without the unembedding, over the batches that ours makes."""
    encodings = case.model.encode(prompts)

    def forward(numbers: list[int]) -> None:
        ids = pad([encodings[n] for n in numbers]).repeat_interleave(copies, 0).to(case.model.device)
        case.model.body(input_ids=ids, use_cache=False)

    for _ in run_batches(case.model, [len(e) for e in encodings], forward, copies=copies):
        pass


def _unembed(case: Case, rows: int) -> None:
    """That many states by the unembedding, into one buffer of at most 512 rows."""
    weight = case.model.unembedding
    states = torch.ones(min(rows, 512), weight.shape[1], device=weight.device, dtype=weight.dtype)
    product = torch.empty(len(states), len(weight), device=weight.device, dtype=weight.dtype)
    for start in range(0, rows, 512):
        count = min(512, rows - start)
        torch.mm(states[:count], weight.T, out=product[:count])


def floor_lens(case: Case) -> None:
    _forwards(case, case.work.a)
    _unembed(case, len(case.work.a) * len(case.layers))


def floor_similarity(case: Case) -> None:
    _forwards(case, case.work.a)
    _forwards(case, case.work.b)
    states = torch.ones(len(case.work.a), case.model.hidden_size, device=case.model.device)
    for _ in case.layers:
        states @ states.T


def floor_intervention(case: Case) -> None:
    _forwards(case, case.work.a, copies=len(STRENGTHS))
    _unembed(case, len(case.work.a) * len(STRENGTHS))


EXPERIMENTS: dict[str, dict[str, Callable[[Case], Any]]] = {
    "lens": dict(released=released_lens, ours=ours_lens, floor=floor_lens),
    "similarity": dict(released=released_similarity, ours=ours_similarity, floor=floor_similarity),
    "intervention": dict(released=released_intervention, ours=ours_intervention, floor=floor_intervention),
}


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
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        function()
    with tempfile.TemporaryDirectory() as folder:
        profile.export_chrome_trace(f"{folder}/trace.json")
        events = json.loads(Path(folder, "trace.json").read_text("utf-8"))["traceEvents"]
    changes = [event for event in events if event.get("name") == "[memory]"]
    taken = peak = 0
    for change in sorted(changes, key=lambda event: event["ts"]):
        taken += change["args"]["Bytes"]
        peak = max(peak, taken)
    return peak


def _seconds(function: Callable[[], Any], device: torch.device) -> float:
    began = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def time_methods(
    methods: dict[str, Callable[[], Any]], device: torch.device, rounds: int, pairs: int
) -> dict[str, list]:
    """Seconds by method and round. `released` is slow and steady and runs once a round, the others `pairs` times in
    alternating order; a round's time of each is their median."""
    times: dict[str, list[float]] = {name: [] for name in METHODS}
    ratios = []
    for name in ("ours", "floor"):
        methods[name]()  # first calls pay for set-up
    for _ in range(rounds):
        times["released"].append(_seconds(methods["released"], device))
        short: dict[str, list[float]] = {"ours": [], "floor": []}
        for turn in range(pairs):
            for name in ("ours", "floor") if turn % 2 else ("floor", "ours"):
                short[name].append(_seconds(methods[name], device))
        ratios += [ours / floor for ours, floor in zip(short["ours"], short["floor"], strict=True)]
        for name, seconds in short.items():
            times[name].append(statistics.median(seconds))
    return times | {"ratios": ratios}


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def _agreement(methods: dict[str, Callable[[], Tensor]]) -> float:
    """The largest difference between what the released method reads and what ours does."""
    return float((methods["released"]().float() - methods["ours"]().float()).abs().max())


@torch.inference_mode()
def bench(
    model_id: str | None = None,
    *,
    quick: bool = False,
    shape: str | None = None,
    device: str | None = None,
    dtype: str = "float32",
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measure lens, similarity and intervention on a model (default: a random one made on the fly).

    Returns a JSON-able report: per experiment `times_faster_than_released` (arithmetic items), `times_the_floor` (the
    worse of both lengths), `memory_share_of_released` (512-token prompts) and, under `workloads`, every single figure.
    """
    made = texts(quick)
    shape = shape or ("tiny" if quick else "small")
    if model_id is None:
        model = random_model(shape, made, device, dtype)
    else:
        model = load_model(model_id, device=device, dtype=dtype)
    if model.max_length is not None and model.max_length < 64:
        raise SemhubError(f"{model_id} reads at most {model.max_length} tokens; bench takes a model that reads 64.")
    timed = [made[0], cut(model, made[1], 64)]
    weighed = cut(model, made[2], 512)
    rounds, pairs = (2, 3) if quick else (3, 5)
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
    for experiment, functions in EXPERIMENTS.items():
        details = {}
        for work in timed:
            say(f"{experiment}: {work.name}")
            methods = {name: partial(function, Case(model, work)) for name, function in functions.items()}
            agreement = _agreement(methods)
            times = time_methods(methods, model.device, rounds, pairs)
            faster = [r / o for r, o in zip(times["released"], times["ours"], strict=True)]
            details[work.name] = {
                "items": len(work.a),
                "tokens": statistics.median(len(e) for e in model.encode(work.a)),
                "largest_difference": agreement,
                "seconds": {name: statistics.median(times[name]) for name in METHODS},
                "times_faster_than_released": _spread(faster),
                "times_the_floor": _spread(times["ratios"]),
            }
        say(f"{experiment}: memory at {weighed.name}")
        methods = {name: partial(function, Case(model, weighed)) for name, function in functions.items()}
        memory = {name: peak_bytes(method, model.device) for name, method in methods.items()}
        details[weighed.name] = {
            "items": len(weighed.a),
            "tokens": statistics.median(len(e) for e in model.encode(weighed.a)),
            "peak_bytes": memory,
        }
        report[experiment] = {
            "times_faster_than_released": details[timed[0].name]["times_faster_than_released"]["median"],
            "times_the_floor": max(details[work.name]["times_the_floor"]["median"] for work in timed),
            "memory_share_of_released": memory["ours"] / memory["released"],
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
                ratios = f"memory: {report[experiment]['memory_share_of_released']:.1%} of released"
            lines.append(f"{experiment:14}{name:18}" + "".join(f"{cell:>11}" for cell in cells) + "  " + ratios)
    return "\n".join(lines)


def write(report: dict[str, Any], results_dir: Path) -> Path:
    """Write `table(report)` to `<results_dir>/<model>/bench.parquet`, atomically."""
    path = results_dir / model_slug(report["model"]) / "bench.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    atomically(path, table(report).to_parquet)
    return path

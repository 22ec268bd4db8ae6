"""Time and memory of the instruments in one run on one model, against two yardsticks, on what the chapters read.

released: the method of the paper's release, written anew from its description. One prompt at a time, every hidden state
of every position kept, the whole [layer, position, vocabulary] log-softmax table made though a few tokens at a few
positions are read, cosines by broadcasting. Several places of one text are read in one forward, from one table. An
intervention is the library's greedy generation after the edit, one per prompt and strength; where one word is the
answer, a forward.
ours: what an experiment's `read` spends its time on, with nothing kept from before.
floor: what does not get smaller by batching alone. Each distinct prompt once, in the batches that ours makes, through
the bare decoder, and for the lens the one matrix product that is left, states by unembedding; for the intervention the
library's own greedy generation of as many tokens, without an edit, every strength a row.

All run in turn and in changing order, so that a busy machine disturbs them alike; ratios are taken within a round and
their median is reported, with the smallest and the largest.
"""

import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import transformers
from tokenizers import models
from torch import Tensor
from torch.nn import functional as F
from transformers import GenerationConfig

from .errors import SemhubError, need, need_one_of
from .experiments.alike import Alike
from .experiments.core import readable
from .experiments.instruments import INSTRUMENTS
from .experiments.interventions import RANGE_AS_RELEASED, Steering
from .identity import DTYPES, organism_path
from .inputs import Prompt, gather, pad
from .lens import lens
from .loading import device_of, load_model
from .models import LanguageModel, wrap
from .organism.world import build_tokenizer, vocabulary
from .similarity import adjusted_cosine
from .spokes import arithmetic, audio, code, languages, sentiment
from .states import hidden_states, read_inside, run_batches
from .steering import Edit, generate, next_token_logprobs
from .structure import hook

SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
SHAPES = {  # random Llamas: one for tests, and of the size of GPT-2 and of Llama-3-8B
    "tiny": (128, 448, 4, 4, 4000),
    "small": (768, 2048, 12, 12, 50257),
    "large": (4096, 14336, 32, 32, 128256),
}
CONTEXT = 2048
MEDIA = {"vision": "image", "audio": "sound"}
MAKE = {of.row: of.make for of in INSTRUMENTS}


@dataclass(frozen=True)
class Workload:
    """Prompts to be read and changed, and for similarity their other sides. every: at all positions, not at those of
    pictures and sounds, or the last one. depth, strengths, new_tokens: of an intervention, by default the paper's for
    arithmetic; of one new token the log-probability is what is read. It adds one random vector where a chapter adds its
    own: the time is the same."""

    a: Sequence[Prompt]
    b: Sequence[Prompt] = ()
    every: bool = False
    depth: float = 25 / 32
    strengths: tuple[float, ...] = Steering().strengths
    new_tokens: int = 16


LONGEST = Workload.new_tokens
Works = dict[str, Workload]
"""By instrument: "lens", "similarity", "intervention"."""


@dataclass
class Case:
    """One model on one workload: what the methods are given. Every method leaves numbers that can be compared."""

    model: LanguageModel
    work: Workload

    def __post_init__(self) -> None:
        model, work = self.model, self.work
        generator = torch.Generator().manual_seed(0)
        self.layers = range(1, model.n_layers + 1)
        self.targets = torch.randint(model.vocab_size, (2,), generator=generator)
        encodings = model.encode(work.a)
        self.tokens = [len(encoding) for encoding in encodings]
        self.places = [list(range(len(e))) if work.every else e.patches or [len(e) - 1] for e in encodings]
        vector, layer = torch.randn(model.hidden_size, generator=generator), round(work.depth * model.n_layers)
        self.edit = Edit((max(1, layer),), vector, self.places)
        end, length = model.module.generation_config.eos_token_id, work.new_tokens  # all write as many tokens
        self.length = {"max_new_tokens": length, "min_new_tokens": length, "eos_token_id": end}
        self.greedy = GenerationConfig(do_sample=False, pad_token_id=0, **self.length)

    def given(self, prompt: Prompt) -> dict[str, Tensor]:
        encodings = self.model.encode([prompt])
        given = {"input_ids": pad(encodings), **gather(encodings)}
        return {name: value.to(self.model.device) for name, value in given.items()}


Read = Tensor | list[str]  # what a method leaves: numbers, or the texts it wrote


def released_states(case: Case, prompt: Prompt) -> Tensor:
    """[layer, position, hidden]; the last one has been through the final norm, as the library gives it."""
    states = case.model.module(**case.given(prompt), output_hidden_states=True).hidden_states
    return torch.stack([h[0] for h in states])[1:]


def released_lens(case: Case) -> Tensor:
    read: dict[int, Tensor] = {}
    for text, numbers in read_inside(case.model, case.model.encode(case.work.a)).items():
        states = released_states(case, case.work.a[text])
        table = torch.stack([(h @ case.model.unembedding.T).float().log_softmax(-1) for h in states])
        read |= {n: table[..., case.targets][:, case.places[n]].transpose(0, 1).cpu() for n in numbers}
    return torch.cat([read[n] for n in sorted(read)])[:, :-1]


def released_similarity(case: Case) -> Tensor:
    # A slice of the last position holds on to the states of all positions, here as there.
    a, b = (torch.stack([released_states(case, p)[:, -1] for p in side]) for side in (case.work.a, case.work.b))
    cosine = F.cosine_similarity(a[:, None], b[None], dim=-1)  # [item, item, layer]
    matched = cosine.diagonal().sum(-1)
    others = (cosine.sum((0, 1)) - matched) / (len(a) * (len(a) - 1))
    return (matched / len(a) - others)[:-1].cpu()


def released_intervention(case: Case) -> Read:
    vector = case.edit.vector.to(case.model.device, case.model.dtype)
    rows = zip(case.work.a, case.places, strict=True)
    written = [_one_at_a_time(case, prompt, s * vector, at) for prompt, at in rows for s in case.work.strengths]
    return written if case.work.new_tokens > 1 else torch.stack(written)


def _one_at_a_time(case: Case, prompt: Prompt, vector: Tensor, places: list[int]) -> Tensor | str:
    def change(h: Tensor) -> Tensor:
        handle.remove()  # only the prompt is changed
        h = h.clone()
        h[:, places] += vector
        return h

    given, handle = case.given(prompt), hook(case.model.blocks, case.edit.layers[0], change)
    if case.work.new_tokens == 1:
        return case.model.module(**given).logits.float().log_softmax(-1)[0, -1, case.targets].cpu()
    out = case.model.module.generate(**given, generation_config=case.greedy)
    return case.model.tokenizer.decode(out[0, given["input_ids"].shape[1] :], skip_special_tokens=True)


def ours_lens(case: Case) -> Tensor:
    case.model.store.clear()  # what is kept would cost nothing
    hidden = hidden_states(case.model, case.work.a, positions=case.places, layers=case.layers).hidden
    return lens(case.model, hidden, targets=case.targets, reading="raw", layers=case.layers).logprob[:, :-1]


def ours_similarity(case: Case) -> Tensor:
    case.model.store.clear()
    a, b = (hidden_states(case.model, side, layers=case.layers).hidden for side in (case.work.a, case.work.b))
    return torch.from_numpy(adjusted_cosine(a, b).own.mean(0)[:-1]).float()


def ours_intervention(case: Case) -> Read:
    case.model.store.clear()
    given = {"edit": case.edit, "strengths": case.work.strengths}
    if case.work.new_tokens == 1:
        return next_token_logprobs(case.model, case.work.a, case.targets, **given).flatten(0, 1)
    texts = generate(case.model, case.work.a, **given, **case.length)
    return [text for row in texts for text in row]


def _batches(case: Case, prompts: Sequence[Prompt], run: Callable, copies: int = 1, **how: Any) -> None:
    """The batches that ours makes, through `run`; each prompt once, or in so many copies."""
    encodings = case.model.encode(prompts)

    def together(numbers: list[int]) -> None:
        rows = [encodings[n] for n in numbers for _ in range(copies)]
        run(pad(rows).to(case.model.device), gather(rows))

    once = list(read_inside(case.model, encodings)) if copies == 1 else range(len(encodings))
    lengths, kinds = [len(e) for e in encodings], [e.kind for e in encodings]
    for _ in run_batches(case.model, lengths, together, copies=copies, kinds=kinds, which=once, **how):
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
    _batches(case, case.work.a, case.model.run)
    _unembed(case, sum(map(len, case.places)) * len(case.layers))


def floor_similarity(case: Case) -> None:
    _batches(case, case.work.a, case.model.run)
    _batches(case, case.work.b, case.model.run)


def floor_intervention(case: Case) -> None:
    copies = len(case.work.strengths)
    if case.work.new_tokens == 1:
        _batches(case, case.work.a, case.model.run, copies)
        return _unembed(case, len(case.work.a) * copies)

    def write(ids: Tensor, extras: dict[str, Tensor]) -> None:
        given = {"attention_mask": torch.ones_like(ids)} | {k: v.to(ids.device) for k, v in extras.items()}
        case.model.module.generate(ids, **given, generation_config=case.greedy)

    _batches(case, case.work.a, write, copies, equal_lengths=True)


METHODS = ("released", "ours", "floor")
EXPERIMENTS: dict[str, tuple[Callable[[Case], Any], ...]] = {
    "lens": (released_lens, ours_lens, floor_lens),
    "similarity": (released_similarity, ours_similarity, floor_similarity),
    "intervention": (released_intervention, ours_intervention, floor_intervention),
}


def random_model(shape: str, device: str | None, dtype: str, medium: str = "text") -> LanguageModel:
    """A Llama of `SHAPES[shape]` with random weights that reads what the shipped models read: by their tokenizer, and
    for "image" and "sound" behind their encoder, with random weights too."""
    sizes = dict(zip(SIZES, SHAPES[shape], strict=True)) | {"max_position_embeddings": CONTEXT}
    heads = sizes["num_attention_heads"]
    sizes |= {"num_key_value_heads": heads // 4, "head_dim": sizes["hidden_size"] // heads}
    if medium == "text":
        kind, config, reads = transformers.AutoModelForCausalLM, transformers.LlamaConfig(**sizes), build_tokenizer()
        # the shipped models' own words, and more up to the size of the vocabulary
        words = [*dict.fromkeys(vocabulary())]
        ids = {word: i for i, word in enumerate([*words, *map("<{}>".format, range(config.vocab_size - len(words)))])}
        reads.backend_tokenizer.model = models.WordLevel(ids, unk_token=reads.unk_token)
    else:
        folder = organism_path({"image": "hub-sees", "sound": "hub-hears"}[medium])
        kind, config = transformers.AutoModelForMultimodalLM, transformers.AutoConfig.from_pretrained(folder)
        config.text_config.update(sizes)
        reads = transformers.AutoProcessor.from_pretrained(folder)
    getattr(reads, "tokenizer", reads).model_max_length = CONTEXT
    place = device_of(device)
    with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []), place:
        torch.manual_seed(0)
        module = kind.from_config(config, dtype=getattr(torch, dtype))
    return wrap(module, reads, model_id=f"random-{config.model_type}-{shape}")


def _asked(model: LanguageModel, n: int, **rows: int) -> Works:
    """What an instrument of each of these rows of the paper reads of `n` items (`experiments.instruments`)."""
    found = {}
    for name, row in rows.items():
        experiment, items, *_ = MAKE[row](model, 0)
        kept = experiment.fit(model, items[:n])
        found[name] = Workload(kept.asked, kept.labels("b") if isinstance(experiment, Alike) else ())
    return found


def _arithmetic(model: LanguageModel, n: int) -> Works:
    pushed = arithmetic.steering_items(arithmetic.items(n, 0))[: n // 2]
    return _asked(model, n, lens=6, similarity=5) | {"intervention": Workload([item.prompt for item in pushed])}


def _languages(model: LanguageModel, n: int) -> Works:
    """Running text up to every word that the lens is asked; continued sentences of Spanish and English."""
    return _asked(model, n, lens=2, similarity=1)


def _layers(model: LanguageModel, n: int) -> Works:
    lines = [line for some in languages.split_texts(max(1, n // 8), 1, seed=0) for line in some.read]
    return {"lens": Workload(readable(model, lines, lambda line: line), every=True)}


def _steering(model: LanguageModel, n: int) -> Works:
    tasks = [sentiment.task(name, max(1, n // 16), seed=0, tagged=True) for name in languages.LANGUAGES]
    prompts = [prompt.prompt for task in tasks for prompt in task.prompts]
    return {"intervention": Workload(prompts, every=True, depth=17 / 32, strengths=(-4.0, -2.0, 0.0, 2.0, 4.0))}


def _code(model: LanguageModel, n: int) -> Works:
    """Programs up to every comma, and up to the bracket of `range`."""
    push = RANGE_AS_RELEASED
    ranges = [place.text[: place.at] for place in code.range_places(code.programs(n, seed=0))][: n // 4]
    given = {"depth": push.depth, "strengths": push.strengths, "new_tokens": push.max_new_tokens}
    return _asked(model, n, lens=9) | {"intervention": Workload(ranges, **given)}


def _semantics(model: LanguageModel, n: int) -> Works:
    """Sentences up to a name; sentences with their forms."""
    return _asked(model, n, lens=13, similarity=12)


def _vision(model: LanguageModel, n: int) -> Works:
    """Pictures with captions, read and changed at every patch."""
    alike = _asked(model, n // 4, similarity=14)
    pictures = Workload(alike["similarity"].a, depth=0.5, strengths=(1.0,), new_tokens=12)
    return alike | {"lens": pictures, "intervention": pictures}


def _audio(model: LanguageModel, n: int) -> Works:
    """Clips with labels, read and changed at every frame."""
    clips = audio.clips(n // 4, seed=0)
    given = {"depth": 13 / 32, "strengths": (0.0, *map(float, range(10, 101, 10))), "new_tokens": 1}  # the paper's
    sounds = Workload([audio.heard(clip) for clip in clips], [clip.label for clip in clips], **given)
    return dict.fromkeys(EXPERIMENTS, sounds)


CHAPTERS: dict[str, Callable[[LanguageModel, int], Works]] = {
    work.__name__[1:]: work
    for work in (_arithmetic, _languages, _layers, _steering, _code, _semantics, _vision, _audio)
}


def workloads(chapter: str, model: LanguageModel, n: int) -> Works:
    """What a chapter, one of CHAPTERS, gives its instruments on this model; `n` prompts or so where they are short, and
    fewer where they are long. Raises SemhubError where the model does not take what the chapter's items hold, or they
    leave it nothing to read."""
    takes = MEDIA.get(chapter, "text") in model.modalities
    what = f"The items of {chapter} hold {MEDIA.get(chapter)}s, which {model.model_id} does not take"
    need(takes, f"{what}; a model that does would do.")
    return {instrument: work for instrument, work in CHAPTERS[chapter](model, n).items() if len(work.a) > 1}


def long_texts(model: LanguageModel, tokens: int, count: int) -> Workload:
    """Pairs of texts of number words, of so many tokens of this model, or as many as leave room for a continuation."""
    words = [pair.b for pair in arithmetic.similarity_pairs(arithmetic.items(32, 0))]
    draw, tokens = random.Random(0), min(tokens, (model.max_length or tokens + LONGEST) - LONGEST)

    def text() -> str:
        long = " ".join(draw.choice(words) for _ in range(tokens // 3 + 1))
        read = model.tokenizer(long, truncation=True, max_length=tokens, return_offsets_mapping=True)
        return long[: max(end for _, end in read["offset_mapping"])]

    return Workload([text() for _ in range(count)], [text() for _ in range(count)])


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
    faster, read = [], {}
    for name in ("ours", "floor"):
        methods[name]()  # first calls pay for set-up
    for _ in range(rounds):
        for name in ("released", *("ours", "floor", "floor", "ours") * (pairs // 2)):
            began = time.perf_counter()
            read[name] = methods[name]()
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - began)
        faster.append(seconds["released"][-1] / statistics.median(seconds["ours"][-pairs:]))
    of_floor = [ours / floor for ours, floor in zip(seconds["ours"], seconds["floor"], strict=True)]
    ratios = {"times_faster_than_released": faster, "times_the_floor": of_floor}
    return {
        "largest_difference": apart(read["released"], read["ours"]),
        "seconds": {name: statistics.median(values) for name, values in seconds.items()},
        **{n: {"median": statistics.median(of), "low": min(of), "high": max(of)} for n, of in ratios.items()},
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
    need_one_of(dtype, DTYPES, f"dtype was {dtype!r}")
    cores = os.cpu_count() or 1
    need(threads <= cores, f"threads was {threads}, and there are {cores} cores here; as many, or fewer, would do.")
    # One thread by default: several wait for one another whenever something else is running, and then time nothing.
    torch.set_num_threads(threads)
    need(
        items in (*CHAPTERS, "all"),
        f"items was {items!r}; the name of a chapter ({', '.join(CHAPTERS)}) or all would do.",
    )
    shape, made = shape or ("tiny" if quick else "small"), {"device": device, "dtype": dtype}
    model = load_model(model_id, **made) if model_id else random_model(shape, **made)
    longest, least = model.max_length, 64 + LONGEST
    fits = longest is None or longest >= least
    need(fits, f"{model_id} reads at most {longest} tokens; bench takes a model that reads {least}.")
    n = 16 if quick else 32
    if model_id and items != "all":
        workloads(items, model, n)  # what it cannot read is refused at once
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    report: dict[str, Any] = {"model": model.model_id, "layers": model.n_layers, "hidden": model.hidden_size}
    report |= {"vocabulary": model.vocab_size, "device": str(model.device)}
    report |= {"dtype": str(model.dtype).removeprefix("torch."), "threads": torch.get_num_threads()}
    report["versions"] = versions | {"transformers": transformers.__version__}
    try:
        for experiment, work in workloads("arithmetic", model, n).items():
            report[experiment] = _headline(model, experiment, work, quick, say)
        found = report["chapters"] = {}
        for chapter in CHAPTERS if items == "all" else [items]:
            if chapter == "arithmetic":
                found[chapter] = {name: report[name]["workloads"]["arithmetic items"] for name in EXPERIMENTS}
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
                measured = _measured(reads, experiment, f"{chapter} items", work, say, 2 if quick else 4)
                found.setdefault(chapter, {})[experiment] = measured
    except KeyboardInterrupt:
        report["stopped"] = True
    return report


def _headline(model: LanguageModel, experiment: str, short: Workload, quick: bool, say: Callable) -> dict[str, Any]:
    """An experiment on short items and on prompts of 64 tokens, timed, and on 512 tokens, weighed."""
    # an intervention is one generation per strength, so fewer prompts do
    long, pairs = (4 if quick else 8) // (1 + (experiment == "intervention")), 2 if quick else 4
    found = {"arithmetic items": _measured(model, experiment, "arithmetic items", short, say, pairs)}
    found["64 tokens"] = _measured(model, experiment, "64 tokens", long_texts(model, 64, long), say, pairs)
    weighed = _measured(model, experiment, "512 tokens, memory", long_texts(model, 512, 2), say)
    return {
        "times_faster_than_released": found["arithmetic items"]["times_faster_than_released"]["median"],
        "times_the_floor": max(work["times_the_floor"]["median"] for work in found.values()),
        "memory_share_of_released": weighed["memory_share_of_released"],
        "workloads": found | {"512 tokens, memory": weighed},
    }


def _measured(
    model: LanguageModel, experiment: str, name: str, work: Workload, say: Callable, pairs: int = 0
) -> dict[str, Any]:
    """Figures of a workload: its times in rounds of so many pairs (`compare`), or without pairs its memory."""
    say(f"{experiment}: {len(work.a)} x {name}")
    case = Case(model, work)
    methods = {name: partial(run, case) for name, run in zip(METHODS, EXPERIMENTS[experiment], strict=True)}
    details = {"model": model.model_id, "items": len(work.a), "tokens": statistics.median(case.tokens)}
    if pairs:
        return details | compare(methods, model.device, pairs // 2, pairs)
    memory = {name: peak_bytes(method, model.device) for name, method in methods.items()}
    return details | {"peak_bytes": memory, "memory_share_of_released": memory["ours"] / memory["released"]}

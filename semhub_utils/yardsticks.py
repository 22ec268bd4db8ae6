"""The three methods that `bench` compares, on one model and one workload.

released: the method of the paper's release, written anew from its description. One prompt at a time, every hidden
state of every position kept, the whole [layer, position, vocabulary] log-softmax table made though a few tokens at a
few positions are read, cosines by broadcasting. Several places of one text are read in one forward, from one table. An
intervention is a greedy generation after the edit, one per prompt and strength, with a cache, and with logits for the
whole prompt, as the library's generation made them then; where one word is the answer, a forward.
floor: what does not get smaller by batching alone. The same batches through the bare decoder and the one matrix product
that is left: states by unembedding (lens), states by states (similarity); for the intervention the library's own greedy
generation of as many tokens, without an edit, every strength a row.

Unless a workload says otherwise, a text is read and changed at its last position, and pictures and sounds at all of
theirs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import GenerationConfig

from .inputs import Prompt, gather, pad
from .lens import lens
from .models import LanguageModel
from .similarity import adjusted_cosine
from .states import Edit, hidden_states, read_inside, run_batches
from .steering import generate, next_token_logprobs

NEW_TOKENS = 16  # what an intervention writes
STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)  # the paper's, for arithmetic
DEPTH = 25 / 32  # where it adds there
METHODS = ("released", "ours", "floor")
Read = Tensor | list[str]  # what a method leaves: numbers, or the texts it wrote


@dataclass(frozen=True)
class Workload:
    """Prompts to be read and changed, and for similarity their other sides. places: positions of each of `a`. texts:
    those that prompts are beginnings of, which the release reads as a whole. classes: how many numbers belong to each
    token, whose mean the lens gives; without, it gives two tokens' log-probabilities. layers, mode, strengths,
    new_tokens: of an intervention; with one new token its log-probability is what is read."""

    a: Sequence[Prompt]
    b: Sequence[Prompt] = ()
    places: Sequence[Sequence[int]] | None = None
    texts: Sequence[str] = ()
    classes: int = 0
    layers: tuple[int, ...] = ()
    mode: str = "add"
    strengths: tuple[float, ...] = STRENGTHS
    new_tokens: int = NEW_TOKENS


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
        self.classes = torch.rand(model.vocab_size, work.classes, generator=generator) if work.classes else None
        encodings = model.encode(work.a)
        self.tokens = [len(encoding) for encoding in encodings]
        self.places = [list(row) for row in work.places or [e.patches or [len(e) - 1] for e in encodings]]
        vector = torch.randn(model.hidden_size, generator=generator)
        layers = work.layers or (max(1, round(DEPTH * model.n_layers)),)
        self.edit = Edit(layers=layers, vector=vector, positions=self.places, mode=work.mode)
        end = model.module.generation_config.eos_token_id
        self.end: list[int] = end if isinstance(end, list) else [] if end is None else [end]
        self.greedy = {
            "max_new_tokens": work.new_tokens, "min_new_tokens": work.new_tokens, "eos_token_id": end,
            "pad_token_id": 0, "use_cache": True,
        }  # fmt: skip

    def given(self, prompt: Prompt) -> dict[str, Tensor]:
        if isinstance(prompt, str):
            return {"input_ids": self.model.tokenizer(prompt, return_tensors="pt").input_ids.to(self.model.device)}
        encodings = self.model.encode([prompt])
        given = {"input_ids": pad(encodings), **gather(encodings)}
        return {name: value.to(self.model.device) for name, value in given.items()}


# As released


def released_states(case: Case, prompt: Prompt) -> Tensor:
    """[layer, position, hidden]; the last one has been through the final norm, as the library gives it."""
    states = case.model.module(**case.given(prompt), output_hidden_states=True).hidden_states
    return torch.stack([h[0] for h in states])[1:]


def released_lens(case: Case) -> Tensor:
    read: dict[int, Tensor] = {}
    classes = None if case.classes is None else case.classes.to(case.model.device)
    prompts, count = [*case.work.a, *case.work.texts], len(case.work.a)
    for text, numbers in read_inside(case.model, case.model.encode(prompts)).items():
        if not (numbers := [n for n in numbers if n < count]):
            continue  # a text with nothing to read
        states = released_states(case, prompts[text])
        logits = ((h @ case.model.unembedding.T).float() for h in states)
        table = torch.stack([of.log_softmax(-1) if classes is None else of.softmax(-1) for of in logits])
        found = table[..., case.targets] if classes is None else table @ classes
        read |= {n: found[:, case.places[n]].transpose(0, 1).cpu() for n in numbers}
    return torch.cat([read[n] for n in sorted(read)])[:, :-1]


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


def released_intervention(case: Case) -> Read:
    vector = case.edit.vector.to(case.model.device, case.model.dtype)
    written = []
    for prompt, places in zip(case.work.a, case.places, strict=True):
        read = case.given(prompt)
        for strength in case.work.strengths:

            def change(h: Tensor, strength: float = strength, places: list[int] = places) -> Tensor:
                h = h.clone()
                h[:, places] += strength * (vector - h[:, places] if case.edit.mode == "replace" else vector)
                return h

            given, new, past = read, [], None
            handles = [case.model.hook(layer, change) for layer in case.edit.layers]
            while len(new) < case.work.new_tokens:
                found = case.model.module(**given, past_key_values=past, use_cache=True)
                for handle in handles:
                    handle.remove()  # the prompt has been read
                logits, past = found.logits.float(), found.past_key_values
                if case.work.new_tokens == 1:
                    written.append(logits.log_softmax(-1)[0, -1, case.targets].cpu())
                logits[..., case.end] = -torch.inf  # all write as many tokens
                given = {"input_ids": logits[:, -1:].argmax(-1)}
                new.append(int(given["input_ids"]))
            if case.work.new_tokens > 1:
                written.append(case.model.tokenizer.decode(new, skip_special_tokens=True))
    return written if case.work.new_tokens > 1 else torch.stack(written)


# Ours


def ours_lens(case: Case) -> Tensor:
    case.model.store.clear()  # what is kept would cost nothing
    hidden = hidden_states(case.model, case.work.a, positions=case.places, layers=case.layers).hidden
    if case.classes is not None:
        return lens(case.model, hidden, classes=case.classes, reading="raw", layers=case.layers).expected[:, :-1]
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
    texts = generate(case.model, case.work.a, **given, **case.greedy)
    return [text for row in texts for text in row]


# The floor


def _forwards(case: Case, prompts: Sequence[Prompt], copies: int = 1) -> None:
    """The bare decoder, without the unembedding, over the batches that ours makes."""
    encodings = case.model.encode(prompts)

    def forward(numbers: list[int]) -> None:
        together = [encodings[n] for n in numbers for _ in range(copies)]
        case.model.run(pad(together), gather(together))

    once = read_inside(case.model, encodings) if copies == 1 else range(len(encodings))
    lengths, kinds = [len(e) for e in encodings], [e.kind for e in encodings]
    for _ in run_batches(case.model, lengths, forward, copies=copies, kinds=kinds, which=list(once)):
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
    _unembed(case, sum(map(len, case.places)) * len(case.layers))


def floor_similarity(case: Case) -> None:
    _forwards(case, case.work.a)
    _forwards(case, case.work.b)
    states = torch.ones(len(case.work.a), case.model.hidden_size, device=case.model.device)
    for _ in case.layers:
        states @ states.T


def floor_intervention(case: Case) -> None:
    copies = len(case.work.strengths)
    if case.work.new_tokens == 1:
        _forwards(case, case.work.a, copies)
        return _unembed(case, len(case.work.a) * copies)
    encodings, settings = case.model.encode(case.work.a), GenerationConfig(do_sample=False, **case.greedy)

    def write(numbers: list[int]) -> None:
        together = [encodings[n] for n in numbers for _ in range(copies)]
        ids = pad(together).to(case.model.device)
        given = {"attention_mask": torch.ones_like(ids)}
        given |= {name: value.to(case.model.device) for name, value in gather(together).items()}
        case.model.module.generate(ids, **given, generation_config=settings)

    lengths, kinds = [len(e) for e in encodings], [e.kind for e in encodings]
    for _ in run_batches(case.model, lengths, write, copies=copies, equal_lengths=True, kinds=kinds):
        pass


EXPERIMENTS: dict[str, dict[str, Callable[[Case], Any]]] = {
    "lens": dict(released=released_lens, ours=ours_lens, floor=floor_lens),
    "similarity": dict(released=released_similarity, ours=ours_similarity, floor=floor_similarity),
    "intervention": dict(released=released_intervention, ours=ours_intervention, floor=floor_intervention),
}

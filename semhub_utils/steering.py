"""Interventions: change hidden states while the model reads, and see what it says next.

Layer l is where a state is read by `hidden_states` and where it is changed here: the output of block l. (The paper's
arithmetic run reads the input of a block and adds at its output, one block later; layers=(l + 1,) with a vector read
at l repeats that.) Strengths are rows of one batch, never runs of their own.
"""

from collections.abc import Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Cache, GenerationConfig, LogitsProcessor, LogitsProcessorList
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from semhub_utils.errors import SemhubError
from semhub_utils.inputs import Prompt, gather, pad
from semhub_utils.lens import lens
from semhub_utils.models import LanguageModel
from semhub_utils.states import (
    Edit,
    EditPlan,
    Positions,
    check_layers,
    resolve_positions,
    run_batches,
    shares_beginnings,
)

__all__ = ["Edit", "FrequencyPenalty", "generate", "next_token_logprobs", "patched_states"]


def next_token_logprobs(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    targets: Int[Tensor, "item target"] | Int[Tensor, " target"],
    *,
    edit: Edit | None = None,
    strengths: Sequence[float] = (1.0,),
    max_batch_tokens: int | None = None,
) -> Float[Tensor, "item strength target"]:
    """Log-probability of target tokens after each prompt, for each strength (times the edit's own).

    What stands before the first edited position is read once for all strengths. Only the last position's state leaves
    the forward, and only the asked targets leave the lens. Without an edit the strengths make no difference and one is
    computed. Raises SemhubError on a bad prompt, edit or target.
    """
    encodings = model.encode(prompts)
    plan = EditPlan(model, edit, encodings) if edit is not None else None
    copies = len(strengths) if plan else 1
    last = torch.empty(len(encodings), copies, model.hidden_size)

    def run(numbers: list[int]) -> Tensor:
        seen: list[Tensor] = []
        together = [encodings[n] for n in numbers]
        ids, rows = pad(together), torch.arange(len(numbers)).repeat_interleave(copies)
        start = plan.shared(numbers) if copies > 1 else 0
        past = _read_once(model, ids[:, :start], rows) if start else None
        start = start if past is not None else 0
        ends = torch.tensor([len(encodings[n]) - 1 - start for n in numbers], device=model.device)
        ends = ends.repeat_interleave(copies)
        with plan.attached(numbers, strengths=strengths, start=start) if plan else nullcontext():
            handle = model.hook(model.n_layers, lambda h: seen.append(h[torch.arange(len(ends)), ends].float()))
            try:
                model.run(ids[rows, start:], gather([together[row] for row in rows]), after=past)
            finally:
                handle.remove()
        return seen[0].reshape(len(numbers), copies, -1).cpu()

    lengths, kinds = [len(e) for e in encodings], [e.kind for e in encodings]
    for numbers, states in run_batches(model, lengths, run, max_batch_tokens, copies=copies, kinds=kinds):
        last[torch.tensor(numbers)] = states
    return lens(model, last, targets=targets).logprob.expand(-1, len(strengths), -1)


def patched_states(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    vectors: Float[Tensor, "item patch hidden"],
    layers: Sequence[int],
    *,
    positions: Positions = -1,
    max_batch_tokens: int | None = None,
) -> Float[Tensor, "item patch hidden"]:
    """The last token's state at layer L, before the final norm, where the states of `positions` (by default the last
    token) at `layers[k]` were replaced by `vectors[:, k]`, for each k in turn.

    Patches are rows of a batch, as many as its budget holds, those of one prompt in several batches where need be; what
    stands before the first position is read once in each. Raises SemhubError on a bad prompt, position or layer, or
    vectors of another shape.
    """
    encodings, copies = model.encode(prompts), len(check_layers(model, layers))
    wanted = resolve_positions(positions, encodings)
    if vectors.shape != (len(encodings), copies, model.hidden_size):
        raise SemhubError(
            f"The patches have shape {tuple(vectors.shape)}; {(len(encodings), copies, model.hidden_size)} would do."
        )
    vectors, ends = vectors.flatten(0, 1), torch.empty(len(encodings) * copies, model.hidden_size)
    first = [0] * len(encodings)
    if shares_beginnings(model):
        first = [min((*row, len(e) - 1)) for row, e in zip(wanted, encodings, strict=True)]

    def run(patches: list[int]) -> Tensor:
        items = [patch // copies for patch in patches]
        once, rows = torch.tensor(items).unique(return_inverse=True)
        ids, new = pad([encodings[n] for n in once]), vectors[patches].to(model.device)
        start = first[items[0]]
        past = _read_once(model, ids[:, :start], rows) if start else None
        start = start if past is not None else 0
        seen: list[Tensor] = []

        def change(layer: int, h: Tensor) -> Tensor:
            sites = [
                (row, place - start)
                for row, patch in enumerate(patches)
                if layers[patch % copies] == layer
                for place in wanted[items[row]]
            ]
            h, (rows, columns) = h.clone(), (list(part) for part in zip(*sites, strict=True)) if sites else ([], [])
            h[rows, columns] = new[rows].to(h.dtype)
            return h

        with ExitStack() as stack:
            for layer in {layers[patch % copies] for patch in patches}:
                stack.callback(model.hook(layer, partial(change, layer)).remove)
            stack.callback(model.hook(model.n_layers, lambda h: seen.append(h[:, -1].float())).remove)
            model.run(ids[rows, start:], gather([encodings[n] for n in items]), after=past)
        return seen[0].cpu()

    lengths = [len(e) for e in encodings for _ in range(copies)]
    kinds = [(e.kind, len(e), start) for start, e in zip(first, encodings, strict=True) for _ in range(copies)]
    for patches, states in run_batches(model, lengths, run, max_batch_tokens, kinds=kinds):
        ends[torch.tensor(patches)] = states
    return ends.unflatten(0, (len(encodings), copies))


def _read_once(model: LanguageModel, ids: Int[Tensor, "item token"], rows: Int[Tensor, " row"]) -> Cache | None:
    """The cache after `ids`, one row for each of `rows` (numbers of items), or None where the model keeps something
    else than keys and values."""
    past = getattr(model.run(ids, keep=True), "past_key_values", None)
    if past is None or any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in past.layers):
        return None
    past.batch_select_indices(rows.to(model.device))
    return past


class FrequencyPenalty(LogitsProcessor):
    """Take `penalty` times a token's count in the continuation off its logit, as served models do and the paper did."""

    def __init__(self, penalty: float, prompt_length: int):
        self.penalty, self.prompt_length = penalty, prompt_length

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        written = input_ids[:, self.prompt_length :]
        penalties = torch.full_like(written, self.penalty, dtype=scores.dtype)
        return scores.scatter_add(1, written, -penalties)


def generate(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    edit: Edit | None = None,
    strengths: Sequence[float] = (1.0,),
    frequency_penalty: float = 0.0,
    seed: int = 0,
    max_batch_tokens: int | None = None,
    **sampling,
) -> list[list[str]]:
    """Continuations [item][strength], by the library's own generation with its cache; greedy unless `sampling` says
    otherwise (do_sample=True, temperature, top_p ...: arguments of transformers' GenerationConfig).

    The edit touches positions of the prompt only, and what stands before the first of them is read once for all
    strengths. Prompts of one length share a batch, so that no architecture sees padding. Sampling is seeded and leaves
    the global random state as it was. Raises SemhubError as above, and where prompt and continuation do not fit the
    context.
    """
    encodings = model.encode(prompts)
    for number, encoding in enumerate(encodings):
        if model.max_length is not None and len(encoding) + max_new_tokens > model.max_length:
            raise SemhubError(
                f"Prompt {number} has {len(encoding)} tokens and {max_new_tokens} more were asked; {model.model_id} "
                f"takes at most {model.max_length} together."
            )
    plan = EditPlan(model, edit, encodings) if edit is not None else None
    copies = len(strengths)
    texts: list[list[str]] = [[] for _ in encodings]

    def run(numbers: list[int]) -> list[str]:
        together = [encodings[n] for n in numbers]
        ids, rows = pad(together).to(model.device), torch.arange(len(numbers)).repeat_interleave(copies)
        penalty = [FrequencyPenalty(frequency_penalty, ids.shape[1])] if frequency_penalty else []
        start = plan.shared(numbers) if plan and copies > 1 else 0
        past = _read_once(model, ids[:, :start], rows) if start else None
        ids, begun = ids[rows], {"past_key_values": past} if past is not None else {}
        start = start if begun else 0
        given = {"attention_mask": torch.ones_like(ids)}
        given |= {name: value.to(model.device) for name, value in gather([together[row] for row in rows]).items()}
        with plan.attached(numbers, strengths=strengths, prompt_only=True, start=start) if plan else nullcontext():
            out = model.module.generate(
                input_ids=ids,
                **given,
                logits_processor=LogitsProcessorList(penalty),
                **begun,
            )
        return model.tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)

    batching = {"copies": copies, "equal_lengths": True, "kinds": [encoding.kind for encoding in encodings]}
    lengths = [len(encoding) for encoding in encodings]
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), _settings(model, max_new_tokens, sampling):
        torch.manual_seed(seed)
        for numbers, written in run_batches(model, lengths, run, max_batch_tokens, **batching):
            for row, number in enumerate(numbers):
                texts[number] = written[row * copies : (row + 1) * copies]
    return texts


@contextmanager
def _settings(model: LanguageModel, max_new_tokens: int, sampling: dict):
    """Greedy or as asked: the defaults a checkpoint brings along are put aside meanwhile."""
    own = model.module.generation_config
    end = own.eos_token_id if own.eos_token_id is not None else model.tokenizer.eos_token_id
    stop = end[0] if isinstance(end, list) else end
    pad_id = next((i for i in (own.pad_token_id, model.tokenizer.pad_token_id, stop) if i is not None), 0)
    unasked = {"eos_token_id": end, "pad_token_id": pad_id, "max_new_tokens": max_new_tokens, "use_cache": True}
    if sampling.get("do_sample"):
        unasked["top_k"] = 0  # the library would cut at 50
    model.module.generation_config = GenerationConfig(**(unasked | sampling))
    try:
        yield
    finally:
        model.module.generation_config = own

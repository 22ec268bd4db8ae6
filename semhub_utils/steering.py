"""Interventions: change hidden states while the model reads, and see what it says next.

Layer l is where a state is read by `hidden_states` and where it is changed here: the output of block l. (The paper's
arithmetic run reads the input of a block and adds at its output, one block later; layers=(l + 1,) with a vector read
at l repeats that.) Edits and strengths are rows of one batch, never runs of their own, and what stands before the first
edited position is read once: its keys and values are kept in the handle's store.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from unittest.mock import patch

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import Cache, GenerationConfig, LogitsProcessor, LogitsProcessorList

from semhub_utils.errors import SemhubError
from semhub_utils.inputs import Encoding, Prompt, gather, pad
from semhub_utils.lens import lens
from semhub_utils.models import LanguageModel
from semhub_utils.states import (
    Positions,
    beginning_of,
    check_layers,
    hidden_states,
    in_step,
    keys_and_values,
    resolve_positions,
    root_of,
    run_batches,
    shares_keys,
    unreached,
    with_layers,
)
from semhub_utils.structure import relative_error, tolerance


@dataclass(frozen=True)
class Edit:
    """A change of hidden states during a forward, at every given layer and position.

    layers: 0 is the input of block 1, l the output of block l. vector: one for all, one per item, or one per item and
    position (then every item has as many positions). positions: as in `hidden_states`. mode "add": h + strength *
    vector (activation addition, arXiv 2308.10248). mode "replace": h + strength * (vector - h), so that strength 1 puts
    the vector in the state's place and 0 changes nothing. mode "turn": as "replace", by the vector at the length of the
    state it replaces.
    """

    layers: tuple[int, ...]
    vector: Float[Tensor, " hidden"] | Float[Tensor, "item hidden"] | Float[Tensor, "item position hidden"]
    positions: Positions = -1
    mode: str = "add"
    strength: float = 1.0


class EditPlan:
    """Edits checked against a model and its prompts, ready to be attached to any batch of rows. A row is a prompt under
    an edit, by their numbers."""

    def __init__(self, model: LanguageModel, edits: Sequence[Edit], encodings: Sequence[Encoding]):
        self.model, self.edits, self.encodings = model, edits, encodings
        self.positions = [resolve_positions(edit.positions, encodings) for edit in edits]
        self.starts = unreached(model, encodings, [edit.positions for edit in edits])
        banks = [self._bank(edit, rows) for edit, rows in zip(edits, self.positions, strict=True)]
        self.bank = torch.cat([bank.flatten(0, 1) for bank in banks])  # every vector once
        self.shapes = [bank.shape[:2] for bank in banks]
        self.offsets = torch.tensor([0, *(len(bank.flatten(0, 1)) for bank in banks)]).cumsum(0).tolist()

    def _bank(self, edit: Edit, rows: list[list[int]]) -> Float[Tensor, "item position hidden"]:
        """The vectors of an edit, one standing for all items or positions where it has but one."""
        check_layers(self.model, edit.layers)
        if edit.mode not in ("add", "replace", "turn"):
            raise SemhubError(f"The mode of the edit was {edit.mode!r}; 'add', 'replace' or 'turn' would do.")
        n, count, size = len(self.encodings), {len(row) for row in rows}, self.model.hidden_size
        shapes = [(size,), (n, size)] + [(n, *count, size)] * (len(count) == 1)
        if tuple(edit.vector.shape) not in shapes:
            raise SemhubError(
                f"The edit's vector has shape {tuple(edit.vector.shape)}; {' or '.join(map(str, shapes))} would do."
            )
        vector = edit.vector.float()
        return vector if vector.ndim == 3 else vector[:, None] if vector.ndim == 2 else vector[None, None]

    def _vector(self, n: int, k: int, place: int) -> int:
        """The row of the bank that belongs to a position of a prompt under an edit."""
        items, places = self.shapes[k]
        return self.offsets[k] + (n if items > 1 else 0) * places + place % places

    @cached_property
    def told(self) -> str:
        """What tells these edits of these prompts from others."""
        prompts = [(e.ids, e.content) for e in self.encodings]
        edits = [(e.layers, rows, e.mode, e.strength) for e, rows in zip(self.edits, self.positions, strict=True)]
        vectors = self.bank.cpu().contiguous().numpy().tobytes()
        return sha256(repr((prompts, edits, self.shapes)).encode() + vectors).hexdigest()

    def first(self, k: int) -> tuple[int, bool]:
        """The layer at which forwards under an edit begin, and whether with the states that prompts have there, as with
        pictures and sounds, which are not read again; texts where an edit leaves nothing behind what they share."""
        edit, rows = self.edits[k], zip(self.starts, self.encodings, self.positions[k], strict=True)
        media = any(e.content for e in self.encodings)
        whole = edit.mode == "replace" and edit.strength == 1 and len(edit.layers) == 1
        whole = whole and all(row == [*range(start, len(e))] for start, e, row in rows)
        inside = (self.model.plain if media else whole) and begins_inside(self.model, self.encodings)
        return (min(edit.layers), media) if inside else (0, False)

    def note(self) -> None:
        """Count the tokens from the first edited position on, once for every different prompt and edit."""
        store, weights = self.model.store, self.model.weights
        if store.purpose != "read":
            return
        marks = (self.bank.cpu() @ torch.linspace(1, 2, self.bank.shape[1])).tolist()
        for n, encoding in enumerate(self.encodings):
            node = store.path(root_of(self.model, encoding), encoding.ids)[-1]
            for k, edit in enumerate(self.edits):
                row = self.positions[k][n]
                if row:
                    vectors = tuple(marks[self._vector(n, k, place)] for place in range(len(row)))
                    key = (weights, node, tuple(row), vectors, *edit.layers, edit.mode, edit.strength)
                    store.note_edit(key, len(encoding) - min(*row, len(encoding) - 1))

    @contextmanager
    def attached(self, rows: Sequence[tuple[int, int]], *, once: bool = False, start: int = 0):
        """While open, forwards over these rows are edited; `once`: the first of them alone, which in a generation with
        a cache is the one that reads the prompt. start: the position that comes first in the forward, those before it
        being in a cache."""
        sites: dict[int, list[tuple]] = {}
        for row, (n, k) in enumerate(rows):
            edit = self.edits[k]
            keep, turn = 1.0 if edit.mode == "add" else 1.0 - edit.strength, edit.mode == "turn"
            for place, position in enumerate(self.positions[k][n]):
                vector = self._vector(n, k, place)
                for layer in set(edit.layers):
                    site = (row, position - start, vector, float(edit.strength), keep, turn)
                    sites.setdefault(layer, []).append(site)

        def changer(some: list[tuple]) -> Callable[[Tensor], Tensor | None]:
            row, column, vector, *of = (torch.tensor(part) for part in zip(*some, strict=True))
            toward, done = self.bank[vector.to(self.bank.device)], []

            def change(h: Tensor) -> Tensor | None:
                if done and once:
                    return None
                done.append(True)
                at = row.to(h.device), column.to(h.device)
                strength, keep, turn = (part.to(h.device)[:, None] for part in of)
                old, new = h[at].float(), toward.to(h.device)
                if turn.any():
                    turned = torch.nn.functional.normalize(new, dim=-1) * old.norm(dim=-1, keepdim=True)
                    new = torch.where(turn, turned, new)
                h = h.clone()
                h[at] = (keep * old + strength * new).to(h.dtype)
                return h

            return change

        with ExitStack() as stack:
            for layer, some in sites.items():
                stack.enter_context(self.model.hook(layer, changer(some)))
            yield


def edited_states(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    edits: Sequence[Edit],
    *,
    max_batch_tokens: int | None = None,
) -> Float[Tensor, "item edit hidden"]:
    """The last token's state at layer L, before the final norm, of each prompt under each edit. Edits may differ in
    layers, positions, vectors, mode and strength; blocks below the first that is edited are not run, nor is what reads
    pictures and sounds: the states of the prompts there are read once. Raises SemhubError on a bad prompt or edit."""
    encodings = model.encode(prompts)
    plan = EditPlan(model, edits, encodings)
    plan.note()
    starts, many = plan.starts, len(edits)
    firsts = [plan.first(k) for k in range(many)]
    with torch.inference_mode(False):
        where = model.device_of_layer(model.n_layers)
        ends = torch.empty(len(encodings) * many, model.hidden_size, device=where)

    def forward(rows: list[int]) -> Tensor:
        once, of = torch.tensor([row // many for row in rows]).unique(return_inverse=True)
        together, seen = [encodings[n] for n in once], []
        with model.store.counted("edit"):
            past, start = beginning(model, together, starts[once[0]], of)
        layer, given = firsts[rows[0] % many] if start == starts[once[0]] else (0, False)
        extras, states = gather([together[k] for k in of]), None
        if given:
            extras = _without_media(extras)
            every = hidden_states(model, together, positions="all", layers=[layer]).hidden[:, 0]
            states = pad_sequence(every.split([*map(len, together)]), batch_first=True)[of.to(every.device)]
        last = torch.tensor([len(encodings[row // many]) - 1 - start for row in rows])
        see = model.hook(model.n_layers, lambda h: seen.append(h[torch.arange(len(rows)), last].float()))
        edits = plan.attached([divmod(row, many) for row in rows], start=start)
        with model.store.counted("edit"), begun(model, layer, states), edits, see:
            model.run(pad(together)[of, start:], extras, after=past)
        return seen[0]

    def run(rows: list[int]) -> Tensor:
        return in_step(model, ["ends"], lambda: {"ends": forward(rows)}, plan.told, rows)["ends"]

    lengths = [len(e) for e in encodings for _ in range(many)]
    kinds = [(e.kind, start, first) for e, start in zip(encodings, starts, strict=True) for first in firsts]
    for rows, states in run_batches(model, lengths, run, max_batch_tokens, kinds=kinds):
        ends[torch.tensor(rows)] = states.to(where)
    return ends.unflatten(0, (len(encodings), many))


@contextmanager
def begun(model: LanguageModel, layer: int, states: Float[Tensor, "row token hidden"] | None = None) -> Iterator[None]:
    """While open, the blocks up to a layer hand on what they are given; its state is replaced, by this or later."""
    with ExitStack() as stack:
        for block in model.blocks[:layer]:
            stack.enter_context(patch.object(block, "forward", lambda hidden_states, *args, **kwargs: hidden_states))
        if states is not None:
            stack.enter_context(model.hook(layer, lambda h: states.to(h)))
        yield


def begins_inside(model: LanguageModel, encodings: Sequence[Encoding]) -> bool:
    """Whether forwards of these may begin at a layer, those of pictures and sounds without these. It is tried once on
    a model: some use again what an early block made, or their blocks give more than states."""
    for media in {bool(e.content) for e in encodings} - {*model.begins}:
        some = [e for e in encodings if bool(e.content) == media]
        layers, seen = [0, model.n_layers // 2][not media :], {}
        ids, extras = pad(some[:1]), gather(some[:1])
        with model.store.counted("self-check"), torch.inference_mode(), ExitStack() as stack:
            for at in {*layers, model.n_layers}:
                stack.enter_context(model.hook(at, seen.setdefault(at, []).append))
            for one in [some[:1], some[-1:]][: 1 + media]:  # some remember where the last picture stood
                model.run(pad(one), gather(one))
            with suppress(SemhubError, TypeError, ValueError, AttributeError, IndexError):  # of the model's own code
                for layer in layers:
                    with begun(model, layer, seen[layer][0]):
                        model.run(ids, _without_media(extras))
        whole, *ours = seen[model.n_layers]
        off = [relative_error(one, whole, model.dtype) for one in ours[media:]]
        model.begins[media] = len(off) == len(layers) and max(off) <= tolerance(model.dtype, model.n_layers)
    return all(model.begins[bool(e.content)] for e in encodings)


def _without_media(extras: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What prompts bring beside their tokens but the pictures and sounds, which are its only fractions."""
    return {name: value for name, value in extras.items() if not value.is_floating_point()}


def next_token_logprobs(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    targets: Int[Tensor, "item target"] | Int[Tensor, " target"],
    *,
    edit: Edit | None = None,
    strengths: Sequence[float] = (1.0,),
    max_batch_tokens: int | None = None,
) -> Float[Tensor, "item strength target"]:
    """Log-probability of target tokens after each prompt, for each strength (times the edit's own). Without an edit the
    strengths make no difference. Raises SemhubError on a bad prompt, edit or target."""
    if edit is None:
        last = hidden_states(model, prompts, layers=[model.n_layers], max_batch_tokens=max_batch_tokens).hidden
    else:
        edits = [replace(edit, strength=edit.strength * strength) for strength in strengths]
        last = edited_states(model, prompts, edits, max_batch_tokens=max_batch_tokens)
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
    """As `edited_states`, where the states of `positions` (by default the last token) at `layers[k]` are replaced by
    `vectors[:, k]`, for each k in turn."""
    edits = [Edit((layer,), vectors[:, k], positions, mode="replace") for k, layer in enumerate(layers)]
    return edited_states(model, prompts, edits, max_batch_tokens=max_batch_tokens)


@contextmanager
def erased(
    model: LanguageModel,
    spaces: Mapping[int, tuple[Float[Tensor, "hidden rank"], Float[Tensor, "hidden rank"], Float[Tensor, " hidden"]]],
) -> Iterator[None]:
    """While open, states hold no more than the mean of some numbers that are read off them linearly: by layer, `of`,
    `along` and `mean`, with of^T along = 1, and h - along of^T (h - mean) in the state's place. With along = of it is
    the orthogonal projection; with along = Cov(h) of it changes states as little as can be (LEACE, arXiv 2306.03819).
    All tokens but the first are edited, whose state hardly depends on its token (arXiv 2309.17453). Raises SemhubError
    on a layer that there is none of."""

    def eraser(of: Tensor, along: Tensor, mean: Tensor) -> Callable[[Tensor], Tensor]:
        def erase(h: Tensor) -> Tensor:
            read, put, middle = (part.to(h.device, torch.float32) for part in (of, along, mean))
            old = h[:, 1:].float()
            new = old - (old - middle) @ read @ put.T
            return torch.cat([h[:, :1], new.to(h.dtype)], dim=1)

        return erase

    check_layers(model, [*spaces])
    with ExitStack() as stack:
        for layer, space in spaces.items():
            stack.enter_context(model.hook(layer, eraser(*space)))
        yield


def states_under(
    model: LanguageModel, prompts: Sequence[Prompt], edit: Edit
) -> list[Float[Tensor, "position layer hidden"]]:
    """States of each prompt, one at a time, under the edit."""
    encodings = model.encode(prompts)
    plan, found = EditPlan(model, [edit], encodings), []
    for n, encoding in enumerate(encodings):
        with plan.attached([(n, 0)]):
            found.append(hidden_states(model, [encoding], positions="all").hidden)
    return found


def beginning(
    model: LanguageModel, encodings: Sequence[Encoding], start: int, rows: Int[Tensor, " row"]
) -> tuple[Cache | None, int]:
    """The keys and values of the first `start` tokens of some prompts, one row for each of `rows` (numbers of prompts),
    and `start`; (None, 0) where there is nothing to share, the model keeps something else than keys and values, or
    hooks change what it reads."""
    if not start or model.hooked or not shares_keys(model, ids := pad(encodings)):
        return None, 0
    store, weights = model.store, model.weights
    nodes = [store.path(root_of(model, e), e.ids[:start])[-1] for e in encodings]
    found = {node: store.kept("past", weights, node) for node in nodes}
    if missing := [k for k, node in enumerate(nodes) if found[node] is None and nodes.index(node) == k]:
        past = keys_and_values(model, ids[missing, :start])
        for row, k in enumerate(missing):
            found[nodes[k]] = beginning_of(past, row, start)
            store.keep_past(weights, nodes[k], found[nodes[k]])
    parts = [found[node] for node in nodes]
    joined = with_layers(parts[0], lambda part: part)
    for k, layer in enumerate(joined.layers):
        at = rows.to(layer.keys.device)
        layer.keys, layer.values = (
            torch.cat([getattr(of.layers[k], name) for of in parts])[at] for name in ("keys", "values")
        )
    return joined, start


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

    The edit touches positions of the prompt only, and what stands before the first of them is read once for all edits
    of a prompt. Prompts of one length share a batch, so that no architecture sees padding. Sampling is seeded and
    leaves the global random state as it was. Raises SemhubError as above, and where prompt and continuation do not fit
    the context.
    """
    encodings = model.encode(prompts)
    for number, encoding in enumerate(encodings):
        if model.max_length is not None and len(encoding) + max_new_tokens > model.max_length:
            raise SemhubError(
                f"Prompt {number} has {len(encoding)} tokens and {max_new_tokens} more were asked; {model.model_id} "
                f"takes at most {model.max_length} together."
            )
    edits = [replace(edit, strength=edit.strength * strength) for strength in strengths] if edit is not None else []
    plan = EditPlan(model, edits, encodings) if edits else None
    copies = len(strengths)
    texts: list[list[str]] = [[] for _ in encodings]

    def write(numbers: list[int]) -> list[str]:
        together = [encodings[n] for n in numbers]
        of = torch.arange(len(numbers)).repeat_interleave(copies)
        ids = pad(together).to(model.device)[of.to(model.device)]
        penalty = [FrequencyPenalty(frequency_penalty, ids.shape[1])] if frequency_penalty else []
        shared = len(of) > len({(*e.ids, e.content) for e in together})
        start = min(plan.starts[n] for n in numbers) if plan and shared else 0
        past, start = beginning(model, together, start, of)
        given = {"attention_mask": torch.ones_like(ids)} | ({} if past is None else {"past_key_values": past})
        given |= {name: value.to(model.device) for name, value in gather([together[k] for k in of]).items()}
        rows = [(n, k) for n in numbers for k in range(copies)]
        with plan.attached(rows, once=True, start=start) if plan else nullcontext():
            out = model.module.generate(input_ids=ids, logits_processor=LogitsProcessorList(penalty), **given)
        return model.tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)

    def run(numbers: list[int]) -> list[str]:
        def said() -> dict[str, Tensor]:
            return {"said": torch.tensor([*json.dumps(write(numbers)).encode()], dtype=torch.uint8)}

        if sampling.get("do_sample"):  # which depends on what was drawn before
            return write(numbers)
        about = plan.told if plan else [(e.ids, e.content) for e in encodings], numbers, copies, max_new_tokens
        found = in_step(model, ["said"], said, about, frequency_penalty, sorted(sampling.items()))
        return json.loads(bytes(found["said"].tolist()))

    batching = {"copies": copies, "equal_lengths": True, "kinds": [encoding.kind for encoding in encodings]}
    lengths = [len(encoding) for encoding in encodings]
    devices = [model.device] if model.device.type == "cuda" else []
    settings, counted = _settings(model, max_new_tokens, sampling), model.store.counted("generation")
    with torch.random.fork_rng(devices=devices), settings, counted:
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

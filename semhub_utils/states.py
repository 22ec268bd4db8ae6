"""Hidden states at chosen positions and layers of many prompts, batched, memory bounded, nothing else kept.

Prompts are sorted by length and batched by a budget of tokens; a batch that does not fit in memory is halved. A prompt
with which a longer one begins is read there, so that the places of one text cost one forward. Only the asked states
leave the forward, and the forward ends at the highest asked layer. Results keep the order of the prompts.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from semhub_utils.errors import SemhubError, out_of_memory
from semhub_utils.inputs import Encoding, Prompt, gather, pad
from semhub_utils.models import LanguageModel

# "all", one index for every prompt, some indices for every prompt, or some indices for each; negative from the end
Positions = int | str | Sequence[int] | Sequence[Sequence[int]]
BATCH_TOKENS = {"cpu": 1024, "other": 32768}
PADDING = 16  # the share of the budget, one in so many, that may be padding: about what another batch costs


@dataclass(frozen=True)
class States:
    """Hidden states by site. A site is one position of one prompt; sites follow the order of prompts and positions."""

    hidden: Float[Tensor, "site layer hidden"]  # float32, cpu
    item: Int[Tensor, " site"]
    position: Int[Tensor, " site"]
    layers: tuple[int, ...]


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


class _Enough(Exception):
    """Ends a forward when the highest asked layer has been seen."""


def hidden_states(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    *,
    positions: Positions = -1,
    layers: Sequence[int] | None = None,
    edit: Edit | None = None,
    max_batch_tokens: int | None = None,
) -> States:
    """Hidden states of `prompts` at `positions` (an index for all prompts, a list for all, a list per prompt, or "all";
    negative from the end) and `layers` (all L+1 by default). Raises SemhubError on a bad prompt, position or layer."""
    encodings = model.encode(prompts)
    layers = check_layers(model, layers)
    wanted = resolve_positions(positions, encodings)
    first = [0, *torch.tensor([len(row) for row in wanted]).cumsum(0).tolist()] if wanted else [0]
    hidden = torch.empty(first[-1], len(layers), model.hidden_size)
    for numbers, states in _stream(model, encodings, wanted, layers, edit, max_batch_tokens):
        sites = list(chain.from_iterable(range(first[n], first[n + 1]) for n in numbers))
        hidden[torch.tensor(sites, dtype=torch.long)] = states
    return States(hidden, *_sites(range(len(wanted)), wanted), layers)


def stream_states(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    *,
    positions: Positions = -1,
    layers: Sequence[int] | None = None,
    edit: Edit | None = None,
    max_batch_tokens: int | None = None,
) -> Iterator[States]:
    """As `hidden_states`, one batch of prompts at a time, in the order in which they were run (`item` says which)."""
    encodings = model.encode(prompts)
    layers = check_layers(model, layers)
    wanted = resolve_positions(positions, encodings)
    for numbers, hidden in _stream(model, encodings, wanted, layers, edit, max_batch_tokens):
        yield States(hidden, *_sites(numbers, wanted), layers)


def _sites(numbers: Sequence[int], wanted: list[list[int]]) -> tuple[Int[Tensor, " site"], Int[Tensor, " site"]]:
    item = [n for n in numbers for _ in wanted[n]]
    return torch.tensor(item, dtype=torch.long), torch.tensor([p for n in numbers for p in wanted[n]], dtype=torch.long)


def _stream(model, encodings, wanted, layers, edit, max_batch_tokens) -> Iterator[tuple[list[int], Tensor]]:
    """Batches of prompt numbers with their states [site, layer, hidden] on the cpu."""
    top = max(layers)
    plan = EditPlan(model, edit, encodings) if edit is not None else None
    inside = read_inside(model, encodings) if plan is None else {n: [n] for n in range(len(encodings))}

    def run(heads: list[int]) -> Tensor:
        heads = [h for h in heads if any(wanted[n] for n in inside[h])]
        sites = [(row, place) for row, h in enumerate(heads) for n in inside[h] for place in wanted[n]]
        with torch.inference_mode(False):  # what leaves is an ordinary tensor that can be trained on
            kept = torch.empty(len(sites), len(layers), model.hidden_size, device=model.device)
        if not heads:
            return kept
        rows, columns = torch.tensor(sites, device=model.device).T

        def keeper(layer: int) -> Callable[[Tensor], None]:
            def keep(h: Tensor) -> None:
                kept[:, layers.index(layer)] = h[rows, columns].float()
                if layer == top:
                    raise _Enough

            return keep

        with ExitStack() as stack:
            if plan is not None:  # first, so that what is kept is what was edited
                stack.enter_context(plan.attached(heads))
            for layer in set(layers):
                stack.callback(model.hook(layer, keeper(layer)).remove)
            with suppress(_Enough):
                together = [encodings[h] for h in heads]
                model.run(pad(together), gather(together))
        return kept

    lengths, kinds = [len(e) for e in encodings], [e.kind for e in encodings]
    for heads, kept in run_batches(model, lengths, run, max_batch_tokens, kinds=kinds, which=list(inside)):
        yield [n for h in heads for n in inside[h]], kept.cpu()


def read_inside(model: LanguageModel, encodings: Sequence[Encoding]) -> dict[int, list[int]]:
    """By number of a prompt that is run, the prompts that are read in its forward: itself and those it begins with, as
    no token reaches an earlier position. What holds more than text is read by itself."""
    head = list(range(len(encodings)))
    texts = [] if switches_by_length(model) else [n for n in head if not encodings[n].extras]
    texts.sort(key=lambda n: encodings[n].ids)  # a prompt stands just before those that begin with it
    for n, after in zip(texts[-2::-1], texts[:0:-1], strict=True):
        if encodings[after].ids[: len(encodings[n])] == encodings[n].ids:
            head[n] = head[after]
    inside: dict[int, list[int]] = {h: [] for h in sorted(set(head))}
    for n, h in enumerate(head):
        inside[h].append(n)
    return inside


# Batches


def run_batches(
    model: LanguageModel,
    lengths: Sequence[int],
    run: Callable[[list[int]], Any],
    max_batch_tokens: int | None = None,
    *,
    copies: int = 1,
    equal_lengths: bool = False,
    kinds: Sequence[Hashable] | None = None,
    which: Sequence[int] | None = None,
) -> Iterator[tuple[list[int], Any]]:
    """Call `run` on batches of item numbers, shortest items first, each of at most `max_batch_tokens` tokens counted
    with padding and `copies`; halve the budget whenever memory runs out. Prompts share a batch only with those of their
    kind (`Encoding.kind`), and where lengths differ little. which: the items that are run, all by default. Yields
    (numbers, result)."""
    budget = max_batch_tokens or BATCH_TOKENS["cpu" if model.device.type == "cpu" else "other"]
    budget = max(1, budget // copies)
    kinds = kinds if kinds is not None else [()] * len(lengths)
    order = {kind: place for place, kind in enumerate(dict.fromkeys(kinds))}
    queue = sorted(range(len(lengths)) if which is None else which, key=lambda n: (order[kinds[n]], lengths[n]))
    alike = equal_lengths or switches_by_length(model)
    while queue:
        count, padding = 1, 0
        while count < len(queue) and (count + 1) * lengths[queue[count]] <= budget:
            padding += count * (lengths[queue[count]] - lengths[queue[count - 1]])
            if padding > budget // PADDING:
                break
            if alike and lengths[queue[count]] != lengths[queue[0]] or kinds[queue[count]] != kinds[queue[0]]:
                break
            count += 1
        numbers = queue[:count]
        try:
            with torch.inference_mode():
                result = run(numbers)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            if count == 1:
                raise SemhubError(
                    f"A prompt of {lengths[numbers[0]]} tokens does not fit in the memory of {model.device}; a shorter "
                    "prompt, a smaller model or dtype='bfloat16' would do."
                ) from error
            budget = count * lengths[numbers[-1]] // 2
            if model.device.type == "cuda":
                torch.cuda.empty_cache()
            continue
        queue = queue[count:]
        yield numbers, result


def switches_by_length(model: LanguageModel) -> bool:
    """Rotary scalings that depend on the longest prompt of a batch would let prompts change one another."""
    rope = getattr(model.module.config.get_text_config(decoder=True), "rope_parameters", None) or {}
    kinds = [rope, *(part for part in rope.values() if isinstance(part, dict))]
    return any(kind.get("rope_type") in ("dynamic", "longrope") for kind in kinds)


def shares_beginnings(model: LanguageModel) -> bool:
    """Whether what several prompts or strengths begin with may be read once. Not in models with a processor: some
    remember where the picture of an earlier forward stood."""
    return model.processor is None and not switches_by_length(model)


# Positions, layers, edits


def check_layers(model: LanguageModel, layers: Sequence[int] | None) -> tuple[int, ...]:
    layers = tuple(range(model.n_layers + 1)) if layers is None else tuple(layers)
    for layer in layers:
        if not 0 <= layer <= model.n_layers:
            raise SemhubError(f"Layer {layer} was asked of {model.model_id}; 0 to {model.n_layers} would do.")
    if not layers:
        raise SemhubError(f"No layer was asked of {model.model_id}; some of 0 to {model.n_layers} would do.")
    return layers


def resolve_positions(positions: Positions, encodings: Sequence[Encoding]) -> list[list[int]]:
    """One list of non-negative token positions per prompt. Raises SemhubError on one outside its prompt."""
    if positions == "all":
        return [list(range(len(encoding))) for encoding in encodings]
    if isinstance(positions, str):
        raise SemhubError(
            f"positions was {positions!r}; an index, a list of indices, a list per prompt or 'all' would do."
        )
    if isinstance(positions, int):
        positions = [positions]
    if all(isinstance(position, int) for position in positions):
        positions = [positions] * len(encodings)
    if len(positions) != len(encodings):
        raise SemhubError(
            f"positions holds {len(positions)} lists for {len(encodings)} prompts; one per prompt would do."
        )
    for number, (row, encoding) in enumerate(zip(positions, encodings, strict=True)):
        for position in row:
            if not -len(encoding) <= position < len(encoding):
                raise SemhubError(
                    f"Position {position} was asked of prompt {number}, which has {len(encoding)} tokens; "
                    f"{-len(encoding)} to {len(encoding) - 1} would do."
                )
    return [[p % len(encoding) for p in row] for row, encoding in zip(positions, encodings, strict=True)]


class EditPlan:
    """An edit checked against a model and its prompts, ready to be attached to any batch of them."""

    def __init__(self, model: LanguageModel, edit: Edit, encodings: Sequence[Encoding]):
        check_layers(model, edit.layers)
        if edit.mode not in ("add", "replace", "turn"):
            raise SemhubError(f"The mode of the edit was {edit.mode!r}; 'add', 'replace' or 'turn' would do.")
        self.model, self.edit = model, edit
        self.positions = resolve_positions(edit.positions, encodings)
        count = {len(row) for row in self.positions}
        shapes = [(model.hidden_size,), (len(encodings), model.hidden_size)]
        shapes += [(len(encodings), *count, model.hidden_size)] * (len(count) == 1)
        if tuple(edit.vector.shape) not in shapes:
            raise SemhubError(
                f"The edit's vector has shape {tuple(edit.vector.shape)}; {' or '.join(map(str, shapes))} would do."
            )
        self.lengths = [len(encoding) for encoding in encodings]
        vector = edit.vector.float()  # [item, position, hidden], one position standing for all where it has none
        self.vectors = vector if vector.ndim == 3 else vector.expand(len(encodings), -1)[:, None]

    def shared(self, numbers: list[int]) -> int:
        """How many leading tokens of these prompts no edit reaches, the last token of each left out."""
        if not shares_beginnings(self.model):
            return 0
        return min(min((*self.positions[n], self.lengths[n] - 1)) for n in numbers)

    @contextmanager
    def attached(
        self, numbers: list[int], *, strengths: Sequence[float] = (1.0,), prompt_only: bool = False, start: int = 0
    ):
        """While open, forwards over prompts `numbers`, each repeated once per strength, are edited; with `prompt_only`
        the first forward alone, which in a generation with a cache is the one that reads the prompt. start: the
        position that comes first in the forward, those before it being in a cache."""
        copies, device = len(strengths), self.model.device
        sites = [
            (row * copies + copy, position - start, number, place % self.vectors.shape[1], strength)
            for row, number in enumerate(numbers)
            for copy, strength in enumerate(strengths)
            for place, position in enumerate(self.positions[number])
        ]
        rows, columns, items, places, factors = (
            torch.tensor([site[k] for site in sites], device=device) for k in range(5)
        )
        vectors = self.vectors[items.long().cpu(), places.long().cpu()].to(device)
        factors = factors.float()[:, None] * self.edit.strength

        def changer(layer: int) -> Callable[[Tensor], Tensor | None]:
            def change(h: Tensor) -> Tensor | None:
                if not sites or (prompt_only and layer in done):
                    return None
                done.add(layer)
                old = h[rows, columns].float()
                toward = vectors
                if self.edit.mode == "turn":
                    toward = torch.nn.functional.normalize(vectors, dim=-1) * old.norm(dim=-1, keepdim=True)
                new = old + factors * (vectors if self.edit.mode == "add" else toward - old)
                h = h.clone()
                h[rows, columns] = new.to(h.dtype)
                return h

            return change

        done: set[int] = set()
        with ExitStack() as stack:
            for layer in set(self.edit.layers):
                stack.callback(self.model.hook(layer, changer(layer)).remove)
            yield

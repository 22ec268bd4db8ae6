"""Hidden states at chosen positions and layers of many prompts, batched, memory bounded, read once.

Prompts are sorted by length and batched by a budget of tokens; a batch that does not fit in memory is halved. A prompt
with which a longer one begins is read there, so that the places of one text cost one forward. What was read before is
taken from the handle's store, and as much of a forward is kept there as has room. States stay on the model's device,
and the forward ends at the highest layer that is kept. Results keep the order of the prompts.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from semhub_utils.errors import SemhubError, out_of_memory
from semhub_utils.inputs import Encoding, Prompt, gather, pad
from semhub_utils.models import LanguageModel
from semhub_utils.store import TEXT, Chunk

# "all", one index for every prompt, some indices for every prompt, or some indices for each; negative from the end
Positions = int | str | Sequence[int] | Sequence[Sequence[int]]
BATCH_TOKENS = {"cpu": 1024, "other": 32768}
PADDING = 16  # the share of the budget, one in so many, that may be padding: about what another batch costs


@dataclass(frozen=True)
class States:
    """Hidden states by site. A site is one position of one prompt; sites follow the order of prompts and positions."""

    hidden: Float[Tensor, "site layer hidden"]  # float32, on the model's device
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
    """Ends a forward when the highest layer that is wanted has been seen."""


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
    encodings, layers = model.encode(prompts), check_layers(model, layers)
    wanted = resolve_positions(positions, encodings)
    first = [0, *accumulate(map(len, wanted))]
    hidden = _empty(model, first[-1], layers)
    for numbers, states in _batches(model, encodings, wanted, layers, max_batch_tokens, edit):
        with torch.inference_mode(False):
            hidden[[site for n in numbers for site in range(first[n], first[n + 1])]] = states
    return States(hidden, *_sites(wanted, range(len(wanted))), layers)


def stream_states(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    *,
    positions: Positions = -1,
    layers: Sequence[int] | None = None,
    max_batch_tokens: int | None = None,
) -> Iterator[States]:
    """As `hidden_states`, one batch of prompts at a time, in the order in which they were run (`item` says which)."""
    encodings, layers = model.encode(prompts), check_layers(model, layers)
    wanted = resolve_positions(positions, encodings)
    for numbers, states in _batches(model, encodings, wanted, layers, max_batch_tokens):
        yield States(states, *_sites(wanted, numbers), layers)


def _sites(wanted: list[list[int]], numbers: Sequence[int]) -> tuple[Int[Tensor, " site"], Int[Tensor, " site"]]:
    """Prompt and position of every site of some prompts."""
    sites = torch.tensor([(n, p) for n in numbers for p in wanted[n]], dtype=torch.long)
    item, position = sites.reshape(-1, 2).unbind(1)
    return item, position


def _empty(model: LanguageModel, n_sites: int, layers: Sequence[int]) -> Float[Tensor, "site layer hidden"]:
    with torch.inference_mode(False):  # what leaves is an ordinary tensor that can be trained on
        return torch.empty(n_sites, len(layers), model.hidden_size, device=model.device)


def _batches(
    model: LanguageModel,
    encodings: Sequence[Encoding],
    wanted: list[list[int]],
    layers: Sequence[int],
    budget: int | None = None,
    edit: Edit | None = None,
) -> Iterator[tuple[list[int], Float[Tensor, "site layer hidden"]]]:
    """Numbers of prompts and their states: first those that are kept, then those that are forwarded. Under an edit
    nothing is taken, shared or kept."""
    store, numbers = model.store, [n for n, row in enumerate(wanted) if row]
    plan = EditPlan(model, [edit], encodings) if edit is not None else None
    off, found = plan is not None or store.off or model.hooked > 0, {}
    if plan is None:
        paths = [store.path(root_of(model, e), e.ids) for e in encodings]
        for n in numbers if store.purpose == "read" else ():
            store.note_read(model.weights, paths[n][-1], len(paths[n]))
        for n in () if off else numbers:
            if places := store.places(model.weights, layers, paths[n], wanted[n]):
                found[n] = places
        inside = read_inside(model, encodings, [n for n in numbers if n not in found])
    else:
        paths = [[(n, p) for p in range(len(e))] for n, e in enumerate(encodings)]
        inside = {n: [n] for n in numbers}
    for some in _grouped(found):
        yield some, _taken(model, [place for n in some for place in found[n]], layers)
    sizes = sum(len(encodings[h]) for h in inside), sum(len(wanted[n]) for some in inside.values() for n in some)
    kept, everywhere = _kept(model, layers, *sizes, 0 if off else store.limit - store.held)

    def run(heads: list[int]) -> Chunk:
        together, width = [encodings[h] for h in heads], max(len(encodings[h]) for h in heads)
        at: dict[Hashable, int] = {}  # node -> position in the batch, all its prompts in a line
        for row, h in enumerate(heads):
            for p in range(len(together[row])) if everywhere else {p for n in inside[h] for p in wanted[n]}:
                at.setdefault(paths[h][p], row * width + p)
        with ExitStack() as edited:
            if plan is not None:
                edited.enter_context(plan.attached([(h, 0) for h in heads]))
                edited.enter_context(store.counted("edit"))
            states = _forward(model, pad(together), gather(together), kept, None if everywhere else [*at.values()])
        return Chunk(at if everywhere else {node: k for k, node in enumerate(at)}, states)

    lengths, kinds = [len(e) for e in encodings], [e.kind for e in encodings]
    for heads, chunk in run_batches(model, lengths, run, budget, kinds=kinds, which=[*inside]):
        some = [n for h in heads for n in inside[h]]
        if not off:
            store.add(model.weights, chunk)
        rows = [chunk.rows[paths[n][p]] for n in some for p in wanted[n]]
        hidden = _empty(model, len(rows), layers)
        _write(hidden, slice(None), chunk, rows, layers)
        yield some, hidden


def _grouped(found: dict[int, list]) -> Iterator[list[int]]:
    """Prompts of about as many sites as a batch has."""
    group, size = [], 0
    for n, places in found.items():
        group, size = [*group, n], size + len(places)
        if size >= BATCH_TOKENS["cpu"]:
            yield group
            group, size = [], 0
    if group:
        yield group


def _taken(
    model: LanguageModel, places: list[tuple[int, int]], layers: Sequence[int]
) -> Float[Tensor, "site layer hidden"]:
    """States from the store, by chunk and row."""
    hidden, of = _empty(model, len(places), layers), defaultdict(list)
    for site, (number, row) in enumerate(places):
        of[number].append((site, row))
    for number, some in of.items():
        sites, rows = map(list, zip(*some, strict=True))
        _write(hidden, sites, model.store.chunk(number), rows, layers)
    return hidden


def _write(hidden: Tensor, sites: list[int] | slice, chunk: Chunk, rows: list[int], layers: Sequence[int]) -> None:
    with torch.inference_mode(False):
        for k, layer in enumerate(layers):
            part = chunk.states[layer]
            hidden[sites, k] = part[torch.tensor(rows, device=part.device)].to(hidden.device, hidden.dtype)


def _kept(model: LanguageModel, layers: Sequence[int], tokens: int, asked: int, room: int) -> tuple[list[int], bool]:
    """Which layers are kept of a forward, and whether of all positions: as much as there is room for."""
    every = range(model.n_layers + 1)
    size = model.hidden_size * min(4, model.dtype.itemsize) * len(every)
    if tokens * size <= room:
        return list(every), True
    return (list(every) if asked * size <= room else sorted(set(layers))), False


def _forward(
    model: LanguageModel, ids: Int[Tensor, "item token"], extras, layers: list[int], places: list[int] | None
) -> dict[int, Float[Tensor, "place hidden"]]:
    """States of a batch by layer, at places counted through its rows, all of them without a copy by default; in the
    dtype of the model, but never wider than float32."""
    states: dict[int, Tensor] = {}

    def keeper(layer: int) -> Callable[[Tensor], None]:
        def keep(h: Tensor) -> None:
            flat = h.flatten(0, 1)
            flat = flat if places is None else flat[torch.tensor(places, device=h.device)]
            states[layer] = flat.float() if flat.dtype == torch.float64 else flat
            if layer == layers[-1]:
                raise _Enough

        return keep

    with ExitStack() as stack:
        for layer in layers:
            stack.enter_context(model.hook(layer, keeper(layer)))
        with suppress(_Enough):
            model.run(ids, extras)
    return states


def root_of(model: LanguageModel, encoding: Encoding) -> Hashable:
    """What the states of a prompt depend on besides weights and the tokens up to their position."""
    if encoding.content:
        return encoding.content, tuple(encoding.ids)
    return len(encoding) if switches_by_length(model) else TEXT


def read_inside(
    model: LanguageModel, encodings: Sequence[Encoding], which: Sequence[int] | None = None
) -> dict[int, list[int]]:
    """By number of a prompt that is run, the prompts of `which` (all by default) that are read in its forward: itself
    and those it begins with, as no token reaches an earlier position. What holds more than text is read by itself, or
    with its equals."""
    which = range(len(encodings)) if which is None else which
    head = {n: n for n in which}
    texts = [] if switches_by_length(model) else [n for n in which if not encodings[n].content]
    texts.sort(key=lambda n: encodings[n].ids)  # a prompt stands just before those that begin with it
    for n, after in zip(texts[-2::-1], texts[:0:-1], strict=True):
        if encodings[after].ids[: len(encodings[n])] == encodings[n].ids:
            head[n] = head[after]
    equals: dict[Hashable, int] = {}
    for n in which:
        if head[n] == n and (encodings[n].content or switches_by_length(model)):
            head[n] = equals.setdefault((root_of(model, encodings[n]), tuple(encodings[n].ids)), n)
    inside: dict[int, list[int]] = {h: [] for h in sorted(set(head.values()))}
    for n, h in head.items():
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
    alike, cleared = equal_lengths or switches_by_length(model), False
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
            room = not cleared and model.store.clear()
            if count == 1 and not room:
                raise SemhubError(
                    f"A prompt of {lengths[numbers[0]]} tokens does not fit in the memory of {model.device}; a shorter "
                    "prompt, a smaller model or dtype='bfloat16' would do."
                ) from error
            cleared, budget = True, budget if room else count * lengths[numbers[-1]] // 2
            if model.device.type == "cuda":
                torch.cuda.empty_cache()
            continue
        queue = queue[count:]
        yield numbers, result


def switches_by_length(model: LanguageModel) -> bool:
    """Rotary scalings that depend on the longest prompt of a batch would let prompts change one another."""
    rope = getattr(model.config.get_text_config(decoder=True), "rope_parameters", None) or {}
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
    """Edits checked against a model and its prompts, ready to be attached to any batch of rows. A row is a prompt under
    an edit, by their numbers."""

    def __init__(self, model: LanguageModel, edits: Sequence[Edit], encodings: Sequence[Encoding]):
        self.model, self.edits, self.encodings = model, edits, encodings
        self.positions = [resolve_positions(edit.positions, encodings) for edit in edits]
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

    def start(self, n: int) -> int:
        """How many leading tokens of a prompt no edit reaches, its last token left out."""
        last = len(self.encodings[n]) - 1
        return min(min((*rows[n], last)) for rows in self.positions) if shares_beginnings(self.model) else 0

    def _vector(self, n: int, k: int, place: int) -> int:
        """The row of the bank that belongs to a position of a prompt under an edit."""
        items, places = self.shapes[k]
        return self.offsets[k] + (n if items > 1 else 0) * places + place % places

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

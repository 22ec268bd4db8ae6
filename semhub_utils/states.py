"""Hidden states at chosen positions and layers of many prompts, batched, memory bounded, read once.

Prompts are sorted by length and batched by a budget of tokens; a batch that does not fit in memory is halved. A prompt
with which a longer one begins is read there, so that the places of one text cost one forward. What was read before is
taken from the handle's store, and as much of a forward is kept there as has room. States stay on their block's device,
and the forward ends at the highest layer that is kept. Results keep the order of the prompts.
"""

import copy
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from semhub_utils.errors import SemhubError, out_of_memory
from semhub_utils.inputs import Encoding, Prompt, gather, pad
from semhub_utils.models import LanguageModel
from semhub_utils.progress import note
from semhub_utils.store import TEXT, Chunk
from semhub_utils.structure import relative_error, tolerance

# "all", one index for every prompt, some indices for every prompt, or some indices for each; negative from the end
Positions = int | str | Sequence[int] | Sequence[Sequence[int]]
BATCH_TOKENS = {"cpu": 1024, "other": 32768}
PADDING = 24  # the share of a batch, one in so many, that may be padding
SHARED = 4  # the share of a batch, one in so many, that is worth a forward of its own for what all begin with


@dataclass(frozen=True)
class States:
    """Hidden states by site. A site is one position of one prompt; sites follow the order of prompts and positions."""

    hidden: Float[Tensor, "site layer hidden"]  # float32, on the device of the highest layer's block
    item: Int[Tensor, " site"]
    position: Int[Tensor, " site"]
    layers: tuple[int, ...]


class _Enough(Exception):
    """Ends a forward when the highest layer that is wanted has been seen."""


def hidden_states(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    *,
    positions: Positions = -1,
    layers: Sequence[int] | None = None,
    edited: Positions | None = None,
    max_batch_tokens: int | None = None,
) -> States:
    """Hidden states of `prompts` at `positions` (an index for all prompts, a list for all, a list per prompt, or "all";
    negative from the end) and `layers` (all L+1 by default). edited: positions that will be changed later; the keys and
    values of what stands before them are kept. Raises SemhubError on a bad prompt, position or layer."""
    ask = _Ask(model, prompts, positions, layers, max_batch_tokens, edited)
    first = [0, *torch.tensor([len(row) for row in ask.wanted]).cumsum(0).tolist()] if ask.wanted else [0]
    hidden = ask.empty(first[-1])
    for numbers, fill in ask.batches():
        fill(hidden, [site for n in numbers for site in range(first[n], first[n + 1])])
    return ask.states(hidden, range(len(ask.wanted)))


def stream_states(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    *,
    positions: Positions = -1,
    layers: Sequence[int] | None = None,
    max_batch_tokens: int | None = None,
) -> Iterator[States]:
    """As `hidden_states`, one batch of prompts at a time, in the order in which they were run (`item` says which)."""
    ask = _Ask(model, prompts, positions, layers, max_batch_tokens)
    for numbers, fill in ask.batches():
        hidden = ask.empty(sum(len(ask.wanted[n]) for n in numbers))
        fill(hidden, list(range(len(hidden))))
        yield ask.states(hidden, numbers)


Fill = Callable[[Tensor, list[int]], None]  # writes the states of a batch into [site, layer, hidden], at these sites


class _Ask:
    """What is asked of a model: positions of prompts, and layers; and the way to it."""

    def __init__(self, model, prompts, positions, layers, max_batch_tokens, edited=None):
        self.model, self.encodings, self.budget = model, model.encode(prompts), max_batch_tokens
        self.layers = check_layers(model, layers)
        self.wanted = resolve_positions(positions, self.encodings)
        self.store, self.weights, self.off = model.store, model.weights, model.store.off or model.hooked > 0
        self.paths = [self.store.path(root_of(model, e), e.ids) for e in self.encodings]
        self.starts = None if edited is None or self.off else unreached(model, self.encodings, [edited])

    def sites(self, numbers: Sequence[int]) -> tuple[Int[Tensor, " site"], Int[Tensor, " site"]]:
        """Prompt and position of every site of some prompts."""
        item = [n for n in numbers for _ in self.wanted[n]]
        position = [p for n in numbers for p in self.wanted[n]]
        return torch.tensor(item, dtype=torch.long), torch.tensor(position, dtype=torch.long)

    def states(self, hidden: Float[Tensor, "site layer hidden"], numbers: Sequence[int]) -> States:
        """As they leave: with what is written into them, which is no part of what the store keeps."""
        item, position = self.sites(numbers)
        if self.model.written is not None:
            sites = [(self.encodings[n], p) for n, p in zip(item.tolist(), position.tolist(), strict=True)]
            hidden = self.model.written(hidden, sites, self.layers)
        return States(hidden, item, position, self.layers)

    def empty(self, n_sites: int) -> Float[Tensor, "site layer hidden"]:
        with torch.inference_mode(False):  # what leaves is an ordinary tensor that can be trained on
            where = self.model.device_of_layer(max(self.layers))
            return torch.empty(n_sites, len(self.layers), self.model.hidden_size, device=where)

    def batches(self) -> Iterator[tuple[list[int], Fill]]:
        """Prompt numbers, and what writes their states: first those that are kept, then those that are forwarded."""
        missing, group, found = [], [], []
        for n in (n for n, row in enumerate(self.wanted) if row):
            path = self.paths[n]
            if self.store.purpose == "read":
                self.store.note_read(self.weights, path[-1], len(path))
            places = None if self.off else self.store.places(self.weights, self.layers, path, self.wanted[n])
            if places is None:
                missing.append(n)
                continue
            group, found = [*group, n], found + places
            if len(found) >= BATCH_TOKENS["cpu"]:
                yield group, self._from_store(found)
                group, found = [], []
        if group:
            yield group, self._from_store(found)
        yield from self._forwarded(missing)

    def _from_store(self, found: list[tuple[int, int]]) -> Fill:
        def fill(hidden: Tensor, sites: list[int]) -> None:
            of: dict[int, tuple[list[int], list[int]]] = {}
            for site, (number, row) in zip(sites, found, strict=True):
                of.setdefault(number, ([], []))[0].append(site)
                of[number][1].append(row)
            for number, (some, rows) in of.items():
                self._write(hidden, some, self.store.chunk(number), rows)

        return fill

    def _write(self, hidden: Tensor, sites: list[int], chunk: Chunk, rows: list[int]) -> None:
        at = torch.tensor(sites, device=hidden.device)
        with torch.inference_mode(False):
            for k, layer in enumerate(self.layers):
                part = chunk.states[layer]
                if rows != list(range(len(part))):
                    part = part[torch.tensor(rows, device=part.device)]
                hidden[at, k] = part.to(hidden.device, hidden.dtype)

    def _forwarded(self, numbers: list[int]) -> Iterator[tuple[list[int], Fill]]:
        """What is not kept, run."""
        inside = read_inside(self.model, self.encodings, numbers)
        kept, everywhere = self._kept(inside)

        def run(heads: list[int]) -> tuple[list[int], Chunk]:
            some = [n for h in heads for n in inside[h]]
            together, width = [self.encodings[h] for h in heads], max(len(self.encodings[h]) for h in heads)
            at: dict[int, int] = {}  # node -> position in the batch, all its prompts in a line
            for row, h in enumerate(heads):
                asked = range(len(together[row])) if everywhere else {p for n in inside[h] for p in self.wanted[n]}
                for p in asked:
                    at.setdefault(self.paths[h][p], row * width + p)
            places = None if everywhere else list(at.values())
            keep = self.starts is not None and any(self.starts[n] for n in some)
            past = None

            def forward() -> dict[str, Tensor]:
                nonlocal past
                found, past = _forward(self.model, pad(together), gather(together), kept, places, keep)
                return {str(layer): of for layer, of in found.items()}

            names, read = [*map(str, kept)], [(e.ids, e.content) for e in together]
            states = dict(zip(kept, in_step(self.model, names, forward, read, places).values(), strict=True))
            rows = {n: row for row, h in enumerate(heads) for n in inside[h]} if past is not None else {}
            for n, row in rows.items():
                if start := self.starts[n]:
                    self.store.keep_past(self.weights, self.paths[n][start - 1], beginning_of(past, row, start))
            return some, Chunk(at if everywhere else {node: k for k, node in enumerate(at)}, states)

        lengths, kinds = [len(e) for e in self.encodings], [e.kind for e in self.encodings]
        for _, (some, chunk) in run_batches(self.model, lengths, run, self.budget, kinds=kinds, which=list(inside)):
            rows = [chunk.rows[self.paths[n][p]] for n in some for p in self.wanted[n]]
            if not self.off:
                self.store.add(self.weights, chunk)
            yield some, lambda hidden, sites, chunk=chunk, rows=rows: self._write(hidden, sites, chunk, rows)

    def _kept(self, inside: dict[int, list[int]]) -> tuple[list[int], bool]:
        """Which layers are kept of a forward, and whether of all positions: as much as there is room for."""
        every = range(self.model.n_layers + 1)
        size = self.model.hidden_size * min(4, self.model.dtype.itemsize) * len(every)
        room = 0 if self.off else self.store.limit - self.store.held
        if sum(len(self.encodings[h]) for h in inside) * size <= room:
            return list(every), True
        asked = sum(len(self.wanted[n]) for some in inside.values() for n in some)
        return (list(every) if asked * size <= room else sorted(set(self.layers))), False


def _forward(
    model: LanguageModel,
    ids: Int[Tensor, "item token"],
    extras,
    layers: list[int],
    places: list[int] | None,
    keep: bool,
) -> tuple[dict[int, Float[Tensor, "place hidden"]], Cache | None]:
    """States of a batch by layer, at places counted through its rows, all of them without a copy by default; in the
    dtype of the model, but never wider than float32. keep: with the keys and values, if these are all it keeps."""
    states: dict[int, Tensor] = {}
    width, at = ids.shape[1], torch.arange(ids.numel()) if places is None else torch.tensor(places)
    same = _worth(model, ids) if not extras else 0
    first, behind = at % width < same, at // width * (width - same) + at % width - same

    def keeper(layer: int) -> Callable[[Tensor], None]:
        def see(h: Tensor) -> None:
            flat, before = h.flatten(0, 1), layer in states
            flat = flat.float() if flat.dtype == torch.float64 else flat
            if same:  # what all begin with, and then what stands behind it
                of, where = (~first, behind) if before else (first, at % width)
                whole = states.setdefault(layer, flat.new_empty(len(at), flat.shape[1]))
                whole[of.to(h.device)] = flat[where[of].to(h.device)]
            else:
                states[layer] = flat if places is None else flat[at.to(h.device)]
            if layer == layers[-1] and not keep and before == bool(same):
                raise _Enough

        return see

    past = None
    with ExitStack() as stack:
        for layer in layers:
            stack.enter_context(model.hook(layer, keeper(layer)))
        after = {"after": rows_of(keys_and_values(model, ids[:1, :same]), len(ids))} if same else {}
        with suppress(_Enough):
            out = model.run(ids[:, same:], extras, **({"keep": True} if keep else {}), **after)
            past = getattr(out, "past_key_values", None) if keep else None
    whole = past is not None and all(type(layer) is DynamicLayer for layer in past.layers)
    return states, past if whole else None


def begun_alike(ids: Int[Tensor, "row token"]) -> int:
    """With how many tokens, but the last, all rows begin alike; 0 for a single one."""
    alike = int((ids == ids[:1]).all(0).long().cumprod(0).sum())
    return min(alike, ids.shape[1] - 1) if len(ids) > 1 else 0


def _worth(model: LanguageModel, ids: Int[Tensor, "row token"]) -> int:
    """How many tokens all rows begin with, if to read them once saves much and the model's keys and values allow it."""
    same = begun_alike(ids) if model.plain and model.processor is None and not model.switches_by_length else 0
    worth = same and SHARED * same * (len(ids) - 1) >= ids.numel()
    return same if worth and shares_keys(model, ids) else 0


def shares_keys(model: LanguageModel, ids: Int[Tensor, "row token"]) -> bool:
    """Whether a model keeps nothing but keys and values, and what is read behind them is as when it is read with them.
    It is tried once on a model, with a row of two tokens or more."""
    if model.shares_keys is None:
        seen: list[Tensor] = []
        with model.store.counted("self-check"), model.hook(model.n_layers, seen.append):
            past = getattr(model.run(ids[:1], keep=True), "past_key_values", None)
            kinds = (DynamicLayer, DynamicSlidingWindowLayer)
            model.shares_keys = past is not None and all(type(layer) in kinds for layer in past.layers)
            if model.shares_keys:
                keys_and_values(model, ids[:1].expand(2, -1))
                whole, _, behind = seen
                off = relative_error(behind[:1], whole[:, -1:], model.rounding)
                model.shares_keys = off <= tolerance(model.rounding, model.n_layers)
    return model.shares_keys


def keys_and_values(model: LanguageModel, ids: Int[Tensor, "row token"]) -> Cache:
    """Those of rows of tokens, what all rows begin with read once, of a model that `shares_keys`."""
    same = begun_alike(ids)
    after = rows_of(keys_and_values(model, ids[:1, :same]), len(ids)) if same else None
    return model.run(ids[:, same:], keep=True, after=after).past_key_values


def rows_of(past: Cache, n: int) -> Cache:
    """The same keys and values for each of n rows."""
    return with_layers(past, lambda part: part.expand(n, *part.shape[1:]).clone())


def beginning_of(past: Cache, row: int, start: int) -> Cache:
    """The keys and values of the first `start` tokens of one row."""
    return with_layers(past, lambda part: part[row : row + 1, :, :start].clone())


def with_layers(past: Cache, change: Callable[[Tensor], Tensor]) -> Cache:
    """The same cache with changed keys and values, the given one left alone."""
    new = copy.copy(past)
    new.layers = [copy.copy(layer) for layer in past.layers]
    for layer in new.layers:
        layer.keys, layer.values = change(layer.keys), change(layer.values)
    return new


def root_of(model: LanguageModel, encoding: Encoding) -> Hashable:
    """What the states of a prompt depend on besides weights and the tokens up to their position."""
    if encoding.content:
        return encoding.content, tuple(encoding.ids)
    return len(encoding) if model.switches_by_length else TEXT


def read_inside(
    model: LanguageModel, encodings: Sequence[Encoding], which: Sequence[int] | None = None
) -> dict[int, list[int]]:
    """By number of a prompt that is run, the prompts of `which` (all by default) that are read in its forward: itself
    and those it begins with, as no token reaches an earlier position. What holds more than text is read by itself, or
    with its equals."""
    which = range(len(encodings)) if which is None else which
    head = {n: n for n in which}
    texts = [] if model.switches_by_length else [n for n in which if not encodings[n].content]
    texts.sort(key=lambda n: encodings[n].ids)  # a prompt stands just before those that begin with it
    for n, after in zip(texts[-2::-1], texts[:0:-1], strict=True):
        if encodings[after].ids[: len(encodings[n])] == encodings[n].ids:
            head[n] = head[after]
    equals: dict[Hashable, int] = {}
    for n in which:
        if head[n] == n and (encodings[n].content or model.switches_by_length):
            head[n] = equals.setdefault((root_of(model, encodings[n]), tuple(encodings[n].ids)), n)
    inside: dict[int, list[int]] = {h: [] for h in sorted(set(head.values()))}
    for n, h in head.items():
        inside[h].append(n)
    return inside


# Batches


def in_step(
    model: LanguageModel, names: Sequence[str], compute: Callable[[], dict[str, Tensor]], *content: Any
) -> dict[str, Tensor]:
    """What a batch gives by name or, in a step that was killed, gave. content: all it depends on, besides weights."""
    batches = model.store.batches if model.plain else None
    return batches.get(names, compute, (model.weights, *names, *content)) if batches else compute()


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
    alike, cleared = equal_lengths or model.switches_by_length, False
    share = 1 if model.store.purpose == "self-check" else PADDING  # which has to see what padding does
    total = len(queue)
    while queue:
        count, padding = 1, 0
        while count < len(queue) and (count + 1) * lengths[queue[count]] <= budget:
            padding += count * (lengths[queue[count]] - lengths[queue[count - 1]])
            if padding > (count + 1) * lengths[queue[count]] // share:
                break
            if alike and lengths[queue[count]] != lengths[queue[0]] or kinds[queue[count]] != kinds[queue[0]]:
                break
            count += 1
        numbers = queue[:count]
        try:
            with torch.inference_mode():
                result = run(numbers)
        except (RuntimeError, MemoryError) as error:
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
        note(done=total - len(queue), total=total)
        yield numbers, result


def unreached(model: LanguageModel, encodings: Sequence[Encoding], positions: Sequence[Positions]) -> list[int]:
    """How many leading tokens of each prompt stand before all of these positions and before its last token; none where
    they may not be read once for several forwards, as in models with a processor: some remember where the picture of an
    earlier forward stood."""
    if model.processor is not None or model.switches_by_length:
        return [0] * len(encodings)
    every = [resolve_positions(some, encodings) for some in positions]
    return [min(len(e) - 1, *(p for rows in every for p in rows[n])) for n, e in enumerate(encodings)]


# Positions and layers


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

"""What a handle has read: hidden states by all that they depend on, and how many tokens were forwarded for what.

In a causal model a state depends on the weights, on the tokens up to its own position and, where a prompt holds more
than text, on all of that. So the tokens of all prompts stand in one tree, in which a node is a beginning, and states
are kept by weights, layer and node, in the dtype and on the device in which they were made.
"""

import hashlib
import itertools
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

KEPT_BYTES = 2**31  # on a cpu; on a cuda device a quarter of what is free
FLUSH = 120.0  # seconds
TEXT = -1  # the node that prompts of plain text begin at


def kept_bytes(device: torch.device) -> int:
    """How much a handle keeps by default of what it reads."""
    return torch.cuda.mem_get_info(device)[0] // 4 if device.type == "cuda" else KEPT_BYTES


@dataclass(frozen=True)
class Chunk:
    """States that were made in one forward, by layer. rows: by node, where its state stands."""

    rows: dict[Hashable, int]
    states: dict[int, Float[Tensor, "row hidden"]]

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.states.values())


Part = dict[str, Tensor]


class Batches:
    """What the batches of a step gave, by all that they depend on: on disk every FLUSH seconds, `limit` bytes at most,
    so that a step which is killed takes them up."""

    def __init__(self, folder: Path, limit: int):
        self.folder, self.left, self.new, self.known, self.at = folder, limit, {}, {}, time.monotonic()
        for path in folder.glob("*.safetensors"):
            self.known |= load_file(path)

    def get(self, names: Sequence[str], compute: Callable[[], Part], content: tuple) -> Part:
        key = hashlib.sha256(repr(content).encode()).hexdigest()
        if f"{key} {names[0]}" in self.known:
            return {name: self.known[f"{key} {name}"] for name in names}
        part = compute()
        self.left -= sum(of.nbytes for of in part.values())
        self.new |= {f"{key} {name}": of for name, of in part.items() if self.left >= 0}
        if self.new and time.monotonic() - self.at > FLUSH:
            path = self.folder / f"{time.time_ns()}.part"
            with suppress(OSError, SafetensorError):  # a full disk is told of by what cannot be lost
                self.folder.mkdir(exist_ok=True)
                save_file({name: of.detach().cpu().contiguous() for name, of in self.new.items()}, path)
                path.rename(path.with_suffix(".safetensors"))
            self.new, self.at = {}, time.monotonic()
        return part


class Store:
    """States, the keys and values of beginnings, and counts, for a model and its random twins.

    limit: bytes of states, keys and values; what was used longest ago goes first. forwarded: tokens that went through
    the first block, padding included, by purpose: "read", "edit", "generation", "self-check".
    """

    def __init__(self, limit: int):
        self.limit, self.held = limit, 0
        self.forwarded: Counter[str] = Counter()
        self.purpose, self.off = "read", False
        self.batches: Batches | None = None  # of the step under way
        self._after: dict[tuple[Hashable, int], int] = {}  # node and next token -> node
        self._before: list[Hashable] = []  # by node
        self._ends: dict[Hashable, dict[int, int]] = {}  # weights -> last node of each prompt -> its length
        self._edits: dict[Hashable, int] = {}  # prompt and edit -> tokens from the first edited position on
        self._kept: OrderedDict[Hashable, tuple[int, object]] = OrderedDict()  # chunks, keys and values, with bytes
        self._where: dict[tuple[Hashable, frozenset[int]], dict[int, tuple[int, int]]] = {}  # node -> chunk, row
        self._numbers = itertools.count()

    # Counting

    @contextmanager
    def counted(self, purpose: str, *, off: bool = False) -> Iterator[None]:
        """Forwards meanwhile are counted under this purpose; off: nothing is kept, nor taken from what is."""
        before = self.purpose, self.off
        self.purpose, self.off = purpose if self.purpose == "read" else self.purpose, off or self.off
        try:
            yield
        finally:
            self.purpose, self.off = before

    def note_read(self, weights: Hashable, node: int, length: int) -> None:
        self._ends.setdefault(weights, {})[node] = length

    def note_edit(self, key: Hashable, tokens: int) -> None:
        self._edits[key] = tokens

    def distinct(self) -> dict[str, int]:
        """Tokens that had to be forwarded: for reading the length of all different prompts that none other begins with,
        for edits that of each different prompt and edit from the first edited position on; summed over weights."""
        read = 0
        for ends in self._ends.values():
            inner: set[Hashable] = set()
            for node in ends:
                while (node := self._before[node] if isinstance(node, int) and node != TEXT else TEXT) not in inner:
                    inner.add(node)
            read += sum(length for node, length in ends.items() if node not in inner)
        return {"read": read, "edit": sum(self._edits.values())}

    def ratios(self) -> dict[str, float]:
        """Tokens forwarded over distinct ones, of reading and of edits; what there was none of is left out."""
        return {what: self.forwarded[what] / n for what, n in self.distinct().items() if n}

    @contextmanager
    def step(self, folder: Path) -> Iterator[None]:
        """While open, what batches give is kept in a folder, and taken from there."""
        self.batches = Batches(folder, self.limit)
        try:
            yield
        finally:
            self.batches = None

    # Beginnings

    def path(self, root: Hashable, ids: Sequence[int]) -> list[int]:
        """The node of each position of a prompt."""
        node, path = root, []
        for token in ids:
            before, node = node, self._after.get((node, token))
            if node is None:
                node = self._after[before, token] = len(self._before)
                self._before.append(before)
            path.append(node)
        return path

    # Keeping

    def add(self, weights: Hashable, chunk: Chunk) -> None:
        if not self._room(chunk.nbytes):
            return
        number = next(self._numbers)
        self._kept[number] = chunk.nbytes, (weights, chunk)
        where = self._where.setdefault((weights, frozenset(chunk.states)), {})
        where |= {node: (number, row) for node, row in chunk.rows.items()}

    def places(self, weights: Hashable, layers: Sequence[int], path: Sequence[int], positions: Sequence[int]):
        """Chunk and row of the states at some positions of a prompt, or None where one of them is not there."""
        for (of, kept), where in self._where.items():
            if of == weights and kept.issuperset(layers):
                found = [where.get(path[position]) for position in positions]
                if None not in found:
                    return found
        return None

    def chunk(self, number: int) -> Chunk:
        self._kept.move_to_end(number)
        return self._kept[number][1][1]

    def kept(self, *key: Hashable):
        """What was kept under a key, or None."""
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key][1]

    def keep(self, held, nbytes: int, *key: Hashable) -> None:
        """Keep something that was made of states, such as keys and values: what it is, of which weights and what."""
        if key not in self._kept and self._room(nbytes):
            self._kept[key] = nbytes, held

    def keep_past(self, weights: Hashable, node: int, past) -> None:
        nbytes = sum(layer.keys.nbytes + layer.values.nbytes for layer in past.layers)
        self.keep(past, nbytes, "past", weights, node)

    def clear(self) -> bool:
        """Forget what is kept, for want of memory; whether there was any."""
        some = bool(self._kept)
        while self._kept:
            self._forget()
        return some

    def _room(self, nbytes: int) -> bool:
        """Make room for so many bytes, if there can be any."""
        if nbytes > self.limit:
            return False
        while self.held + nbytes > self.limit:
            self._forget()
        self.held += nbytes
        return True

    def _forget(self) -> None:
        number, (nbytes, held) = self._kept.popitem(last=False)
        self.held -= nbytes
        if isinstance(number, int):
            weights, chunk = held
            where = self._where[weights, frozenset(chunk.states)]
            for node in chunk.rows:
                if where.get(node, (None, 0))[0] == number:
                    del where[node]

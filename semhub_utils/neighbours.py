"""Contextual neighbours: which word's states, in a bank of texts, is a state nearest to?

LatentLens (arXiv 2602.00462) reads a state not by the rows of the unembedding but by the states that a bank of texts
leaves at its words: those of several layers stand side by side, and the nearest by cosine say what the state holds.
Here a token's number is the largest cosine with any of its states, over TEMPERATURE, and the reading is the softmax
over the vocabulary; so it gives probabilities, ranks and entropies, as every reading does. A state before an answer
holds what is about to be said, so it is read by what came next in texts of all types (as in arXiv 1911.00172); a patch
or a frame, which comes before no word, by the words themselves, in texts of the hub's language, as in LatentLens.
"""

import hashlib
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from semhub_utils.errors import need
from semhub_utils.inputs import Encoding, Prompt
from semhub_utils.lens import ThroughUnembedding
from semhub_utils.models import LanguageModel
from semhub_utils.states import hidden_states
from semhub_utils.tuned import cut

TEMPERATURE = 0.05
FEWEST = 20  # different tokens
STATES, LAYERS = 2, 5  # of a token, at each layer; and of these as many, evenly
BANKS = 3  # of a model that are kept
ENTRIES = 2**20  # of the largest table of rows and tokens of the bank


@dataclass(frozen=True)
class Bank:
    """Some texts as a model reads them. sites: by token that they have, STATES times (text, position); column: by token
    of the vocabulary its row of sites, or their number where there is none. states: of length 1, by weights."""

    texts: Sequence[Encoding]
    sites: Sequence[Sequence[tuple[int, int]]]
    column: Int[Tensor, " vocab"]
    states: dict[Hashable, Float[Tensor, "state token hidden"]] = field(default_factory=dict)

    def of(self, model: LanguageModel) -> Float[Tensor, "state token hidden"]:
        """The states of every token's sites at LAYERS layers."""
        kept = not model.hooked  # else states are changed for a while
        if kept and model.weights in self.states:
            return self.states[model.weights]
        wanted: list[set[int]] = [set() for _ in self.texts]
        for number, k in (site for some in self.sites for site in some):
            wanted[number].add(k)
        layers = np.linspace(0, model.n_layers, min(model.n_layers + 1, LAYERS)).round().astype(int).tolist()
        found = hidden_states(model, self.texts, positions=[sorted(some) for some in wanted], layers=layers)
        row = {of: k for k, of in enumerate(zip(found.item.tolist(), found.position.tolist(), strict=True))}
        at = torch.tensor([[row[site] for site in some] for some in self.sites], device=found.hidden.device)
        states = normalize(found.hidden[at].to(model.device, torch.float32), dim=-1)
        states = states.flatten(1, 2).transpose(0, 1).contiguous()
        if kept:
            self.states.clear()
            self.states[model.weights] = states
        return states


@dataclass(frozen=True)
class Neighbours(ThroughUnembedding):
    """The reading "neighbours". texts: the bank's; captions: those that patches and frames are read by; ahead: whether
    a state goes by the token that comes next, and not by its own. What the bank has no state of stands, all together,
    where the token stands that is farthest away. Random weights could have a bank, at the price of one for each seed;
    without them, pictures and sounds emptied are the controls."""

    texts: tuple[str, ...]
    captions: tuple[str, ...] = ()
    ahead: bool = True
    name: str = "neighbours"
    random_weights: ClassVar[bool] = False
    by_layer: ClassVar[bool] = False

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of a SHA-256 over the texts."""
        said = repr((self.texts, self.captions, self.ahead, STATES, LAYERS, TEMPERATURE))
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    @cached_property
    def at_patches(self) -> "Neighbours":
        return replace(self, texts=self.captions, captions=(), ahead=False) if self.captions else self

    def apart_from(self, prompts: Sequence[Prompt]) -> tuple["Neighbours", int]:
        """Without the texts that are read themselves, or begin as what is read does, or the other way round: their
        states would find themselves."""
        read = {*filter(None, map(_plain, prompts))}
        left = tuple(t for t in self.texts if not any(t.startswith(r) or r.startswith(t) for r in read))
        return (self, 0) if len(left) == len(self.texts) else (replace(self, texts=left), len(self.texts) - len(left))

    def inputs(
        self, model: LanguageModel, hidden: Float[Tensor, "site layer hidden"], layers: Sequence[int]
    ) -> Float[Tensor, "site layer token"]:
        """The largest cosine with a state of each token of the bank, over TEMPERATURE; last, of what is in none."""
        states = bank_of(model, self).of(model)
        rows, near = normalize(hidden.to(model.device, torch.float32), dim=-1).flatten(0, 1), []
        for part in rows.split(max(1, ENTRIES // states.shape[1])):
            best = part @ states[0].T
            for some in states[1:]:
                torch.maximum(best, part @ some.T, out=best)
            near.append(best)
        near = torch.cat(near) / TEMPERATURE
        far = near.amin(1, keepdim=True) - math.log(max(1, model.vocab_size - near.shape[1]))
        return torch.cat([near, far], 1).unflatten(0, hidden.shape[:2])

    def unembed(
        self, model: LanguageModel, x: Float[Tensor, "row token"], vocab: slice | Tensor
    ) -> Float[Tensor, "row vocab"]:
        return x[:, bank_of(model, self).column[vocab]]


def _plain(prompt: Prompt) -> str:
    """The text of a prompt that is nothing else."""
    if isinstance(prompt, str):
        return prompt
    senses = prompt.patches if isinstance(prompt, Encoding) else any(prompt.media.values())
    return "" if senses else prompt.text


_banks: WeakKeyDictionary[LanguageModel, dict[str, Bank]] = WeakKeyDictionary()
_read: WeakKeyDictionary[LanguageModel, dict[str, list[Encoding]]] = WeakKeyDictionary()  # as banks differ in few texts


def _pieces(model: LanguageModel, texts: Sequence[str]) -> list[Encoding]:
    known, different = _read.setdefault(model, {}), dict.fromkeys(texts)
    for piece in cut(model, [text for text in different if text not in known]):
        known.setdefault(piece.text, []).append(piece)
    return [piece for text in different for piece in known.get(text, ())]


def bank_of(model: LanguageModel, reading: Neighbours) -> Bank:
    """The bank of a model: up to STATES sites of each token, the first there are; some again where there are fewer.
    Special tokens and the first position, which is unlike all others, are left out. Raises SemhubError where the texts
    have fewer than FEWEST different tokens."""
    kept = _banks.setdefault(model, {})
    if reading.fingerprint in kept:
        return kept[reading.fingerprint]
    encodings, special = _pieces(model, reading.texts), {*model.tokenizer.all_special_ids}
    sites: dict[int, list[tuple[int, int]]] = {}
    for number, e in enumerate(encodings):
        for k in range(1, len(e) - reading.ahead):
            token = e.ids[k + reading.ahead]
            if token not in special and len(of := sites.setdefault(token, [])) < STATES:
                of.append((number, k))
    need(len(sites) >= FEWEST, f"The bank's texts have {len(sites)} different tokens; {FEWEST} or more would do.")
    column = torch.full((model.vocab_size,), len(sites), device=model.device)
    column[torch.tensor([*sites], device=model.device)] = torch.arange(len(sites), device=model.device)
    while len(kept) >= BANKS:
        del kept[next(iter(kept))]
    some = [[of[k % len(of)] for k in range(STATES)] for of in sites.values()]
    return kept.setdefault(reading.fingerprint, Bank(encodings, some, column))

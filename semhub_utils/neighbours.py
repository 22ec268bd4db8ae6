"""Contextual neighbours: which word's states, in a bank of texts, is a state nearest to?

LatentLens (arXiv 2602.00462) reads a state not by the rows of the unembedding but by the states that a bank of texts
leaves at its words: those of all layers stand side by side, and the nearest by cosine say what the state holds. Here a
token's number is the largest cosine with any of its states, over TEMPERATURE, and the reading is the softmax over the
vocabulary; so it gives probabilities, ranks and entropies, as every reading does. A state before an answer holds what
is about to be said, so it is read by what came next in the bank (as in arXiv 1911.00172); a patch or a frame, which
comes before no word, by the words themselves, as in LatentLens. The bank is every model's own, random weights' too.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
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

TEMPERATURE = 0.05
FEWEST = 20  # different tokens
STATES = 4  # of a token, at each layer
ROOM = 2**25  # numbers in a bank: of larger models some layers are left out, evenly
ENTRIES = 2**22  # of the largest table of rows and states of the bank


@dataclass(frozen=True)
class Bank:
    """What some texts left in a model. states: of length 1; token: of the vocabulary, whose each is; column: by token
    of the vocabulary its row of states, or the number of rows where the bank has not got it."""

    states: Float[Tensor, "token state hidden"]
    token: Int[Tensor, " token"]
    column: Int[Tensor, " vocab"]


@dataclass(frozen=True)
class Neighbours(ThroughUnembedding):
    """The reading "neighbours". texts: the bank's; ahead: whether a state goes by the token that comes next, and not by
    its own. What the bank has no state of stands, all together, where the token stands that is farthest away."""

    texts: tuple[str, ...]
    ahead: bool = True
    name: str = "neighbours"
    by_layer = False

    @property
    def fingerprint(self) -> str:
        return repr((self.name, self.texts, self.ahead))

    @property
    def at_patches(self) -> "Neighbours":
        return replace(self, ahead=False)

    def apart_from(self, prompts: Sequence[Prompt]) -> tuple["Neighbours", int]:
        """Without the texts that are read themselves, or begin as what is read does, or the other way round: their
        states would find themselves."""
        read = {p if isinstance(p, str) else p.text for p in prompts}
        left = tuple(t for t in self.texts if not any(t.startswith(r) or r.startswith(t) for r in read))
        return (self, 0) if len(left) == len(self.texts) else (replace(self, texts=left), len(self.texts) - len(left))

    def inputs(
        self, model: LanguageModel, hidden: Float[Tensor, "site layer hidden"], layers: Sequence[int]
    ) -> Float[Tensor, "site layer token"]:
        """The largest cosine with a state of each token of the bank, over TEMPERATURE."""
        states = bank_of(model, self).states
        rows, flat = normalize(hidden.to(model.device, torch.float32), dim=-1).flatten(0, 1), states.flatten(0, 1)
        parts = rows.split(max(1, ENTRIES // len(flat)))
        near = torch.cat([(part @ flat.T).unflatten(1, states.shape[:2]).amax(2) for part in parts])
        return near.unflatten(0, hidden.shape[:2]) / TEMPERATURE

    def unembed(
        self, model: LanguageModel, x: Float[Tensor, "row token"], vocab: slice | Tensor
    ) -> Float[Tensor, "row vocab"]:
        column = bank_of(model, self).column
        missing = math.log(max(1, len(column) - x.shape[1]))
        return torch.cat([x, x.amin(1, keepdim=True) - missing], 1)[:, column[vocab]]


_banks: WeakKeyDictionary[LanguageModel, dict[Hashable, Bank]] = WeakKeyDictionary()


def bank_of(model: LanguageModel, reading: Neighbours) -> Bank:
    """The bank of a model: its states at the words of the reading's texts, up to STATES of each token, which are those
    of the first texts, at every layer. Special tokens and the first position, which is unlike all others, are left out.
    One bank of a model is kept. Raises SemhubError where the texts have fewer than FEWEST different tokens."""
    key, kept = (model.weights, reading), _banks.setdefault(model, {})
    if key not in kept:
        kept.clear()
        found = _bank(model, reading)
        if model.hooked:  # states are changed while this lasts
            return found
        kept[key] = found
    return kept[key]


def _bank(model: LanguageModel, reading: Neighbours) -> Bank:
    encodings, special = model.encode(list(dict.fromkeys(reading.texts))), {*model.tokenizer.all_special_ids}
    places: dict[int, list[tuple[int, int]]] = {}
    for number, e in enumerate(encodings):
        for k in range(1, len(e) - reading.ahead):
            of = places.setdefault(e.ids[k + reading.ahead], [])
            if e.ids[k + reading.ahead] not in special and len(of) < STATES:
                of.append((number, k))
    places = {token: of for token, of in sorted(places.items()) if of}
    few = f"The texts of the bank have {len(places)} different tokens; {FEWEST} or more would do."
    need(len(places) >= FEWEST, few)
    sites = [of[k % len(of)] for of in places.values() for k in range(STATES)]  # a state again where there are fewer
    wide = len(places) * STATES * model.hidden_size
    layers = np.linspace(0, model.n_layers, min(model.n_layers + 1, max(2, ROOM // wide))).round().astype(int).tolist()
    hidden = _at(model, encodings, sites, layers)
    states = normalize(hidden.to(model.device, torch.float32), dim=-1).unflatten(0, (len(places), STATES)).flatten(1, 2)
    token = torch.tensor([*places], device=model.device)
    column = torch.full((model.vocab_size,), len(places), device=model.device)
    column[token] = torch.arange(len(places), device=model.device)
    return Bank(states, token, column)


def _at(
    model: LanguageModel, encodings: Sequence[Encoding], sites: Sequence[tuple[int, int]], layers: Sequence[int]
) -> Float[Tensor, "site layer hidden"]:
    """The states at (text, position)."""
    wanted = [sorted({k for n, k in sites if n == number}) for number in range(len(encodings))]
    found = hidden_states(model, encodings, positions=wanted, layers=layers)
    row = {of: k for k, of in enumerate(zip(found.item.tolist(), found.position.tolist(), strict=True))}
    return found.hidden[[row[site] for site in sites]]

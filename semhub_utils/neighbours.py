"""Contextual neighbours: which word's states, in texts of the hub's language, is a state nearest to?

LatentLens (arXiv 2602.00462) reads a state not by the rows of the unembedding but by the states that a bank of texts
leaves at its words: those of all layers stand side by side, and the nearest by cosine say what the state holds. Here a
token's number is the largest cosine with any of its states, over TEMPERATURE, and the reading is the softmax over the
tokens of the bank; so it gives probabilities, ranks and entropies, as every reading does.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from semhub_utils.errors import need
from semhub_utils.lens import ThroughUnembedding
from semhub_utils.models import LanguageModel
from semhub_utils.states import hidden_states

TEMPERATURE = 0.05
ABSENT = -1e30  # of tokens that the bank has not
FEWEST = 20  # different tokens


@dataclass(frozen=True)
class Neighbours(ThroughUnembedding):
    """The reading "neighbours". states: of the bank, of length 1, by token; tokens: whose each is, in order; texts: the
    bank's own, which must not be among what is read."""

    states: Float[Tensor, "state hidden"]
    tokens: Int[Tensor, " state"]
    texts: frozenset[str]
    name: str = "neighbours"
    random_weights: ClassVar[bool] = False  # other weights leave other states
    by_layer: ClassVar[bool] = False

    @property
    def fingerprint(self) -> str:
        """16 hex digits of a SHA-256 over the bank."""
        sha = hashlib.sha256()
        for part in (self.states, self.tokens):
            sha.update(part.cpu().contiguous().numpy().tobytes())
        return sha.hexdigest()[:16]

    def inputs(self, model: LanguageModel, hidden: Float[Tensor, "site layer hidden"], layers: Sequence[int]) -> Tensor:
        return normalize(hidden.to(model.device, torch.float32), dim=-1)

    def unembed(
        self, model: LanguageModel, x: Float[Tensor, "row hidden"], vocab: slice | Tensor
    ) -> Float[Tensor, "row token"]:
        wanted = torch.arange(model.vocab_size, device=x.device)[vocab]
        tokens = self.tokens.to(x.device)
        place = torch.full((model.vocab_size,), -1, device=x.device)
        place[wanted] = torch.arange(len(wanted), device=x.device)
        of = (place[tokens] >= 0).nonzero()[:, 0]
        cosine = x @ self.states.to(x.device)[of].T / TEMPERATURE
        found = x.new_full((len(x), len(wanted)), ABSENT)
        return found.scatter_reduce_(1, place[tokens[of]].expand(len(x), -1), cosine, "amax")

    def shares(self, prompts: Sequence[str]) -> bool:
        """Whether a text of the bank is among what is read, or begins so: its states would find themselves."""
        return any(
            text.startswith(str(prompt)) or str(prompt).startswith(text) for prompt in prompts for text in self.texts
        )


def bank(model: LanguageModel, texts: Sequence[str], *, ahead: bool = False) -> Neighbours:
    """The bank of a model: its states at the words of some texts, at every layer, in the order of their tokens. Special
    tokens are left out. ahead: a state goes by the token that comes next, as a state before an answer holds what is
    about to be said (as in arXiv 1911.00172), and not by its own, as that of a patch or a frame does. Raises
    SemhubError where the texts have fewer than FEWEST different tokens."""
    encodings, special = model.encode(list(dict.fromkeys(texts))), {*model.tokenizer.all_special_ids}
    places = [[k for k in range(len(e) - ahead) if e.ids[k + ahead] not in special] for e in encodings]
    tokens = torch.tensor([e.ids[k + ahead] for e, row in zip(encodings, places, strict=True) for k in row])
    few = f"The texts of the bank have {len(tokens.unique())} different tokens; {FEWEST} or more would do."
    need(len(tokens.unique()) >= FEWEST, few)
    hidden = hidden_states(model, encodings, positions=places).hidden  # [site, layer, hidden]
    order = tokens.argsort(stable=True)
    states = normalize(hidden[order].flatten(0, 1).float(), dim=-1)
    texts = frozenset(e.text for e in encodings)
    return Neighbours(states.cpu(), tokens[order].repeat_interleave(hidden.shape[1]), texts)

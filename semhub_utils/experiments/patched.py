"""Runs with another run's state in them, and what they say."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from semhub_utils.inputs import Prompt
from semhub_utils.lens import lens, word_logprobs
from semhub_utils.models import LanguageModel, randomised
from semhub_utils.spokes.items import PatchItem
from semhub_utils.states import Positions, hidden_states, stream_states
from semhub_utils.steering import patched_states
from semhub_utils.tokens import TargetTable

SOURCE, SAME, OTHER, PUSH, NOISE = "source", "same answer", "other relation", "random push", "random weights"
UNLIKE, EARLIER = "another word", "earlier position"  # instead of OTHER, where there are places
OWN = "own type"


@dataclass(frozen=True)
class Runs:
    """What patched runs say. gain: per word, log P minus that of the original word, minus the same without a patch.
    first: the word that the likeliest token is, -1 for none; plain: the same without a patch. last: the states at
    layer L."""

    gain: Float[np.ndarray, "item layer word"]
    logprob: Float[np.ndarray, "item layer word"]
    first: Int[np.ndarray, "item layer"]
    plain: Int[np.ndarray, " item"]
    last: Float[Tensor, "item layer hidden"]


def every_patch(
    model: LanguageModel,
    words: TargetTable,
    items: Sequence[PatchItem],
    into: int,
    original: Int[np.ndarray, "item"],
    *,
    seed: int,
    noise: bool,
) -> dict[str, Runs]:
    """The runs by whose state was written into them at each layer in turn. into: 0 for the data type's runs, 1 for the
    hub's; original: each run's own answer, by its number in `words`; noise: whether a model of random weights too."""
    prompts = model.encode([item.run[into] for item in items])
    texts = {SOURCE: [item.source[1 - into] for item in items], SAME: [item.run[1 - into] for item in items]}
    places: Positions = -1
    if items[0].places:
        places = [list(i.places(e)) for i, e in zip(items, prompts, strict=True)]
    if all(item.other for item in items):
        texts[UNLIKE if items[0].places else OTHER] = [item.other[1 - into] for item in items]
    states = {name: hidden_states(model, some).hidden for name, some in texts.items()}
    if items[0].places:
        rng = np.random.default_rng(seed)
        before = [[int(rng.integers(max(1, len(e) - 1)))] for e in model.encode(texts[SOURCE])]
        states[EARLIER] = hidden_states(model, texts[SOURCE], positions=before).hidden
        if all(item.source[into] for item in items):
            like = model.encode([item.source[into] for item in items])
            states[OWN] = mean_states(model, like, [e.patches or [len(e) - 1] for e in like])
    own, ends = mean_states(model, prompts, places), _ends(model, prompts)
    direction = torch.randn(len(items), 1, model.hidden_size, generator=torch.Generator().manual_seed(seed))
    states[PUSH] = own + (states[SOURCE] - own).norm(dim=-1, keepdim=True) * normalize(direction, dim=-1)
    found = {name: patched(model, words, prompts, places, vectors, original, ends) for name, vectors in states.items()}
    if noise:
        blank = randomised(model, seed)
        vectors = hidden_states(blank, texts[SOURCE]).hidden
        found[NOISE] = patched(blank, words, prompts, places, vectors, original, _ends(blank, prompts))
    return found


def _ends(model: LanguageModel, prompts: Sequence[Prompt]) -> Float[Tensor, "item 1 hidden"]:
    return hidden_states(model, prompts, layers=[model.n_layers]).hidden


def mean_states(
    model: LanguageModel, prompts: Sequence[Prompt], places: Positions
) -> Float[Tensor, "item layer hidden"]:
    """The mean over each prompt's places."""
    total, count = torch.zeros(len(prompts), model.n_layers + 1, model.hidden_size), torch.zeros(len(prompts))
    for some in stream_states(model, prompts, positions=places):
        total.index_add_(0, some.item, some.hidden)
        count.index_add_(0, some.item, torch.ones(len(some.item)))
    return total / count[:, None, None]


def patched(
    model: LanguageModel,
    words: TargetTable,
    prompts: Sequence[Prompt],
    places: Positions,
    vectors: Float[Tensor, "item layer hidden"],
    original: Int[np.ndarray, "item"],
    ends: Float[Tensor, "item 1 hidden"],
) -> Runs:
    """What the runs say with `vectors[:, l]` in `places` at each layer l. ends: the last states without a patch."""
    last = patched_states(model, prompts, vectors, range(model.n_layers + 1), positions=places)
    plain, found = (lens(model, states, targets=words.ids, top_k=1) for states in (ends, last))
    before, logprob = (word_logprobs(x.logprob, words.groups).double().numpy() for x in (plain, found))
    change = logprob - before
    gain = change - change[np.arange(len(change)), :, original][:, :, None]
    word = words.word_of_token(model.vocab_size)
    first, alone = (word[x.top_ids[..., 0].numpy()] for x in (found, plain))
    return Runs(gain, logprob, first, alone[:, 0], last)

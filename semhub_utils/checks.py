"""What a handle is checked for when it is loaded: that the instruments see what the library computes.

Bounds are relative to the largest value compared and depend on the dtype (`structure.TOLERANCE`): 5e-5 in float32,
1e-2 in bfloat16, whose eight bits of precision let batches of another shape round otherwise.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from semhub_utils.errors import SemhubError
from semhub_utils.models import Encoding, LanguageModel
from semhub_utils.states import Edit, collect
from semhub_utils.structure import TOLERANCE, relative_error


@dataclass(frozen=True)
class Check:
    """One property of a handle: the largest relative error found, and the bound it has to stay under."""

    name: str
    value: float
    bound: float
    passed: bool
    meaning: str


def self_check(model: LanguageModel, *, raise_on_failure: bool = True) -> list[Check]:
    """Run every check on a few short prompts made of the tokenizer's own tokens. Raises SemhubError naming the model,
    the check and its figure, unless told not to."""
    prompts = _prompts(model)
    checks = []
    for name, (meaning, measure) in CHECKS.items():
        value, bound = measure(model, prompts), TOLERANCE[model.dtype]
        checks.append(Check(name, value, bound, value <= bound, meaning))
        if raise_on_failure and not checks[-1].passed:
            raise SemhubError(
                f"{model.model_id} fails the check {name!r} ({meaning}): {value:.1e} where at most {bound:.0e} is "
                "rounding; another dtype or checkpoint would do."
            )
    return checks


def _prompts(model: LanguageModel) -> list[Encoding]:
    """Three prompts of different lengths from ordinary tokens spread over the vocabulary."""
    special = set(model.tokenizer.all_special_ids)
    ids = [i for i in sorted(model.tokenizer.get_vocab().values()) if i not in special and i < model.vocab_size]
    spread = [ids[k * len(ids) // 16] for k in range(16)]
    return [Encoding(spread[a:b], [(0, 0)] * (b - a), "") for a, b in ((0, 8), (8, 11), (11, 16))]


def _states(model: LanguageModel, prompts: list[Encoding], edit: Edit | None = None) -> Tensor:
    """All positions and layers of all prompts in one padded batch: [site, layer, hidden]."""
    return collect(model, prompts, positions="all", edit=edit).hidden


def _library(model: LanguageModel, prompt: Encoding):
    with torch.inference_mode():
        ids = torch.tensor([prompt.ids], device=model.device)
        return model.module(input_ids=ids, use_cache=False, output_hidden_states=True)


def _lens_is_model(model: LanguageModel, prompts: list[Encoding]) -> float:
    last = _states(model, prompts)[:, -1]
    with torch.inference_mode():
        ours = model.logits(last).float().cpu()
    return relative_error(ours, torch.cat([_library(model, prompt).logits[0].float().cpu() for prompt in prompts]))


def _batch_is_single(model: LanguageModel, prompts: list[Encoding]) -> float:
    alone = torch.cat([_states(model, [prompt]) for prompt in prompts])
    return _worst_layer(_states(model, prompts), alone)


def _layers_are_library(model: LanguageModel, prompts: list[Encoding]) -> float:
    """The library lists L+1 states: layers 0 to L-1 (state-space models: 1 to L), then the normed last one."""
    ours = _states(model, prompts[:1])
    *theirs, last = [state[0].float().cpu() for state in _library(model, prompts[0]).hidden_states]
    if len(theirs) != model.n_layers:
        return float("inf")
    with torch.inference_mode():
        normed = model.normalise(ours[:, -1]).float().cpu() / model.structure.tail_scale
    theirs = torch.stack(theirs, dim=1)
    final = min(relative_error(ours_, last) for ours_ in (normed, ours[:, -1]) if ours_.shape == last.shape)
    return max(final, min(_worst_layer(ours[:, :-1], theirs), _worst_layer(ours[:, 1:], theirs)))


def _zero_changes_nothing(model: LanguageModel, prompts: list[Encoding]) -> float:
    nothing = Edit(tuple(range(model.n_layers + 1)), torch.zeros(model.hidden_size), positions="all")
    return _worst_layer(_states(model, prompts, nothing), _states(model, prompts))


def _edit_lands(model: LanguageModel, prompts: list[Encoding]) -> float:
    layer = (model.n_layers + 1) // 2
    before = _states(model, prompts[:1])
    vector = before[0, layer].roll(1)
    after = _states(model, prompts[:1], Edit((layer,), vector, positions=-1))
    expected = before[:, : layer + 1].clone()
    expected[-1, layer] += vector
    above = float("inf") if torch.equal(after[-1, -1], before[-1, -1]) else 0.0
    return max(_worst_layer(after[:, : layer + 1], expected), above)


def _future_is_unseen(model: LanguageModel, prompts: list[Encoding]) -> float:
    whole, cut = prompts[0], Encoding(prompts[0].ids[:-1], prompts[0].offsets[:-1], "")
    other = Encoding([*cut.ids, prompts[1].ids[0]], whole.offsets, "")
    return _worst_layer(_states(model, [whole])[: len(cut)], _states(model, [other])[: len(cut)])


def _worst_layer(ours: Tensor, reference: Tensor) -> float:
    return max(relative_error(ours[:, layer], reference[:, layer]) for layer in range(ours.shape[1]))


CHECKS: dict[str, tuple[str, Callable[[LanguageModel, list[Encoding]], float]]] = {
    "lens": ("the normed lens of the last layer gives the model's own logits", _lens_is_model),
    "batch": ("a padded batch gives the states of one prompt at a time", _batch_is_single),
    "layers": ("layers are as many and in the order of the library's hidden states", _layers_are_library),
    "zero": ("adding zero everywhere changes nothing", _zero_changes_nothing),
    "edit": ("an edit changes its own layer and position by its vector and reaches the output", _edit_lands),
    "causal": ("a later token does not change an earlier state", _future_is_unseen),
}

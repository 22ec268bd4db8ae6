"""What a handle is checked for when it is loaded: that the instruments see what the library computes.

Errors are relative (`structure.relative_error`), and so are their bounds (`structure.tolerance`): 5e-5 of the largest
value in float32; in half precision, where batches of another shape round otherwise, the more the more layers.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from semhub_utils.errors import need
from semhub_utils.inputs import PER_TOKEN, Encoding, Input, Sound
from semhub_utils.models import LanguageModel
from semhub_utils.states import Edit, hidden_states
from semhub_utils.structure import relative_error, tolerance


@dataclass(frozen=True)
class Check:
    """One property of a handle: the largest relative error found, and the bound it has to stay under."""

    name: str
    value: float
    bound: float
    meaning: str

    @property
    def passed(self) -> bool:
        return self.value <= self.bound


def self_check(model: LanguageModel, *, raise_on_failure: bool = True) -> list[Check]:
    """Run every check on a few short prompts made of the tokenizer's own tokens, and, where the model takes them, of
    noise to see and hear. Raises SemhubError naming the model, the check and its figure, unless told not to."""
    checks, bound = [], tolerance(model.dtype, model.n_layers)
    with model.store.counted("self-check", off=True):
        prompts = _prompts(model)
        for name, (meaning, measure) in CHECKS.items():
            checks.append(Check(name, measure(model, prompts), bound, meaning))
            need(
                checks[-1].passed or not raise_on_failure,
                f"{model.model_id} fails the check {name!r} ({meaning}): {checks[-1].value:.1e} where at most "
                f"{bound:.0e} is rounding; another dtype or checkpoint would do.",
            )
    return checks


def _prompts(model: LanguageModel) -> list[Encoding]:
    """Three prompts of different lengths from ordinary tokens spread over the vocabulary, and, for each of what else
    the model takes, one that holds it, one that begins with it, larger, and the first again with another content."""
    special = set(model.tokenizer.all_special_ids)
    ids = [i for i in sorted(model.tokenizer.get_vocab().values()) if i not in special and i < model.vocab_size]
    spread = [ids[k * len(ids) // 16] for k in range(16)]
    texts = [Encoding(spread[a:b], [(0, 0)] * (b - a), "") for a, b in ((0, 8), (8, 11), (11, 16))]
    noise, words = np.random.default_rng(0), [model.tokenizer.decode(spread[a:b]) for a, b in ((0, 3), (3, 9))]

    def picture(size: tuple[int, int]) -> Image.Image:
        return Image.fromarray(noise.integers(0, 256, (*size, 3), dtype=np.uint8))

    def sound(seconds: float) -> Sound:
        rate = model.reader.hearing.sampling_rate
        return Sound(noise.uniform(-0.5, 0.5, int(seconds * rate)).astype(np.float32), rate)

    media: list[Input] = []
    for medium, made, sizes in (("image", picture, ((40, 60), (70, 40), (40, 60))), ("sound", sound, (0.5, 0.9, 0.5))):
        if medium in model.modalities:
            between = words[0] + model.placeholder(medium) + words[1]
            read = zip((between, words[1], between), map(made, sizes), strict=True)
            media += [Input(text, **{f"{medium}s": (content,)}) for text, content in read]
    return texts + model.encode(media)


def _sites(prompt: Encoding) -> list[int]:
    """All positions of a short prompt, and some of a long one."""
    n = len(prompt)
    return sorted({k * (n - 1) // 63 for k in range(64)} if n > 64 else range(n))


def _states(model: LanguageModel, prompts: list[Encoding], edit: Edit | None = None) -> Tensor:
    """Positions and all layers of all prompts in padded batches: [site, layer, hidden]."""
    return hidden_states(model, prompts, positions=[_sites(prompt) for prompt in prompts], edit=edit).hidden


def _everywhere(model: LanguageModel, prompt: Encoding, layers: list[int]) -> Tensor:
    return hidden_states(model, [prompt], positions="all", layers=layers).hidden


def _library(model: LanguageModel, prompt: Encoding):
    extras = {name: value.to(model.device) for name, value in prompt.extras().items()}
    with torch.inference_mode():
        ids = torch.tensor([prompt.ids], device=model.device)
        return model.module(input_ids=ids, use_cache=False, output_hidden_states=True, **extras)


def _lens_is_model(model: LanguageModel, prompts: list[Encoding]) -> float:
    with torch.inference_mode():
        ours = model.unembed(model.normalise(_states(model, prompts)[:, -1]))
    theirs = torch.cat([_library(model, prompt).logits[0, _sites(prompt)] for prompt in prompts])
    return relative_error(*(some[:, model.text_vocab].float().cpu() for some in (ours, theirs)), model.dtype)


def _batch_is_single(model: LanguageModel, prompts: list[Encoding]) -> float:
    alone = torch.cat([_states(model, [prompt]) for prompt in prompts])
    return _worst_layer(model, _states(model, prompts), alone)


def _layers_are_library(model: LanguageModel, prompts: list[Encoding]) -> float:
    """The library lists L+1 states: layers 0 to L-1 (state-space models: 1 to L), then the normed last one."""
    return max(_layers_of_one(model, prompt) for prompt in [prompts[0], *prompts[3::3]])


def _layers_of_one(model: LanguageModel, prompt: Encoding) -> float:
    ours = _states(model, [prompt])
    *theirs, last = [state[0, _sites(prompt)].float().cpu() for state in _library(model, prompt).hidden_states]
    if len(theirs) != model.n_layers:
        return float("inf")
    with torch.inference_mode():
        normed = model.normalise(ours[:, -1]).float().cpu() / model.structure.tail_scale
    ends = [end for end in (normed, ours[:, -1]) if end.shape == last.shape]
    final = min(relative_error(end, last, model.dtype) for end in ends)
    theirs = torch.stack(theirs, dim=1)
    return max(final, min(_worst_layer(model, some, theirs) for some in (ours[:, :-1], ours[:, 1:])))


def _merge_is_where_said(model: LanguageModel, prompts: list[Encoding]) -> float:
    """The positions whose embeddings are others than those of the same ids read as text."""
    for prompt in prompts[3:]:
        plain = {name: value for name, value in prompt.extras().items() if name in PER_TOKEN}
        alone = replace(prompt, extras=plain.copy)
        read, as_text = (_everywhere(model, one, [0])[:, 0] for one in (prompt, alone))
        merged = (read != as_text).any(1).nonzero()[:, 0].tolist()
        if merged != prompt.patches or (prompt.grid and prompt.grid[0] * prompt.grid[1] != len(merged)):
            return float("inf")
    return 0.0


def _content_is_seen(model: LanguageModel, prompts: list[Encoding]) -> float:
    """Another picture or sound changes states where it stands and behind it, and none before."""
    worst = 0.0
    for one, other in zip(prompts[3::3], prompts[5::3], strict=True):
        first, last = one.patches[0], one.patches[-1]
        a, b = (_everywhere(model, prompt, [0, model.n_layers]) for prompt in (one, other))
        if one.ids != other.ids or not (a != b)[one.patches, 0].any() or not (a != b)[last + 1 :, 1].any():
            return float("inf")
        if first:
            worst = max(worst, _worst_layer(model, a[:first], b[:first]))
    return worst


def _zero_changes_nothing(model: LanguageModel, prompts: list[Encoding]) -> float:
    nothing = Edit(tuple(range(model.n_layers + 1)), torch.zeros(model.hidden_size), positions="all")
    return _worst_layer(model, _states(model, prompts, nothing), _states(model, prompts))


def _edit_lands(model: LanguageModel, prompts: list[Encoding]) -> float:
    layer = (model.n_layers + 1) // 2
    before = _states(model, prompts[:1])
    vector = before[0, layer].roll(1)
    after = _states(model, prompts[:1], Edit((layer,), vector, positions=-1))
    expected = before[:, : layer + 1].clone()
    expected[-1, layer] += vector
    above = float("inf") if torch.equal(after[-1, -1], before[-1, -1]) else 0.0
    return max(_worst_layer(model, after[:, : layer + 1], expected), above)


def _future_is_unseen(model: LanguageModel, prompts: list[Encoding]) -> float:
    whole, cut = prompts[0], Encoding(prompts[0].ids[:-1], prompts[0].offsets[:-1], "")
    other = Encoding([*cut.ids, prompts[1].ids[0]], whole.offsets, "")
    return _worst_layer(model, _states(model, [whole])[: len(cut)], _states(model, [other])[: len(cut)])


def _worst_layer(model: LanguageModel, ours: Tensor, reference: Tensor) -> float:
    return max(relative_error(ours[:, layer], reference[:, layer], model.dtype) for layer in range(ours.shape[1]))


CHECKS: dict[str, tuple[str, Callable[[LanguageModel, list[Encoding]], float]]] = {
    "lens": ("the normed lens of the last layer gives the model's own logits", _lens_is_model),
    "batch": ("a padded batch gives the states of one prompt at a time", _batch_is_single),
    "layers": ("layers are as many and in the order of the library's hidden states", _layers_are_library),
    "zero": ("adding zero everywhere changes nothing", _zero_changes_nothing),
    "edit": ("an edit changes its own layer and position by its vector and reaches the output", _edit_lands),
    "merge": ("pictures and sounds stand where the encoding says, and nowhere else", _merge_is_where_said),
    "content": ("another picture or sound changes the states from where it stands, and none before", _content_is_seen),
    "causal": ("a later token does not change an earlier state", _future_is_unseen),
}

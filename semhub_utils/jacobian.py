"""The Jacobian lens: what a state will come to, if all that follows were its mean linear map.

J_l is the mean over positions of texts of dh_L/dh_l, of the state at the last layer by that of layer l at the same
position; the lens reads J_l h through the final norm and the unembedding (Gurnee et al. 2026, transformer-circuits.pub/
2026/workspace). Like the tuned lens it may add what the model itself adds later; unlike it, nothing is trained.
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from semhub_utils.errors import need
from semhub_utils.inputs import Encoding, Input, Prompt, gather, pad
from semhub_utils.models import LanguageModel
from semhub_utils.tuned import Translators, content, parted, save

NAME = "jacobian"
BATCH_TOKENS = 2048
FEWEST = 20  # texts
TEXTS = 200  # that are enough


def reading(jacobians: Float[Tensor, "layer hidden hidden"], about: dict | None = None) -> Translators:
    """The reading "jacobian": J_l h in the place of the last state."""
    eye = torch.eye(jacobians.shape[-1])
    return Translators(jacobians - eye, torch.zeros(jacobians.shape[:2]), about or {}, NAME)


def tune(model: LanguageModel, texts: Sequence[str | Input], folder: str | Path, *, source: str, seed: int = 0):
    """Fit the lens on TEXTS of `texts`, drawn by `seed`, and save it as `folder`/jacobian.safetensors, as `tuned.tune`
    does its own; the Translators. Raises SemhubError on too few texts."""
    held, train, settings = parted(model, texts, source, seed)
    began, order = time.monotonic(), np.random.default_rng([seed, 1]).permutation(len(train))
    used = [train[i] for i in order[:TEXTS]]
    found = reading(fit(model, used, seed=seed))
    about = {"tokens": sum(map(len, used)), "texts": len(used), "seconds": round(time.monotonic() - began, 1)}
    return save(model, found, folder, held, settings | about)


def fit(model: LanguageModel, texts: Sequence[Prompt], *, seed: int = 0) -> Float[Tensor, "layer hidden hidden"]:
    """J_l for l = 0 .. L-1, the mean over all positions of the texts but their first. Raises SemhubError on fewer than
    FEWEST different texts.

    Row i is the gradient of component i of the last state. All positions of a batch share a backward pass: each has a
    random sign, which is multiplied on both ends, so that only what a position has from itself is left in the mean.
    """
    encodings = sorted({content(e): e for e in model.encode(texts)}.values(), key=lambda e: (e.kind, len(e)))
    need(len(encodings) >= FEWEST, f"{len(encodings)} different texts were given; {FEWEST} or more would do.")
    total = torch.zeros(model.n_layers, model.hidden_size, model.hidden_size, device=model.device)
    signs, count = torch.Generator().manual_seed(seed), 0
    for some in _batches([e for e in encodings if len(e) > 1]):
        sign = torch.randint(2, (len(some), max(map(len, some))), generator=signs).float() * 2 - 1
        for row, encoding in zip(sign, some, strict=True):
            row[0], row[len(encoding) :] = 0, 0  # the first position is unlike all others, and what follows is padding
        total += _summed(model, some, sign.to(model.device))
        count += int(sign.abs().sum())
    return (total / count).cpu()


def _batches(encodings: Sequence[Encoding]) -> list[list[Encoding]]:
    found: list[list[Encoding]] = [[]]
    for encoding in encodings:
        full = (len(found[-1]) + 1) * len(encoding) > BATCH_TOKENS
        if found[-1] and (full or found[-1][0].kind != encoding.kind):
            found.append([])
        found[-1].append(encoding)
    return found


def _summed(
    model: LanguageModel, encodings: Sequence[Encoding], sign: Float[Tensor, "item token"]
) -> Float[Tensor, "layer hidden hidden"]:
    """The sum of the Jacobians over the positions that have a sign."""
    states: dict[int, Tensor] = {}

    def begin(h: Tensor) -> Tensor:
        states[0] = h.detach().requires_grad_(True)
        return states[0]

    with torch.enable_grad(), ExitStack() as stack:
        stack.enter_context(model.store.counted("training", off=True))
        stack.enter_context(model.hook(0, begin))
        for layer in range(1, model.n_layers + 1):
            stack.enter_context(model.hook(layer, partial(states.__setitem__, layer)))
        model.run(pad(encodings), gather(encodings))
        last, below = states[model.n_layers], [states[layer] for layer in range(model.n_layers)]
        found = torch.zeros(model.n_layers, model.hidden_size, model.hidden_size, device=model.device)
        for i in range(model.hidden_size):
            of = torch.autograd.grad((last[..., i].float() * sign).sum(), below, retain_graph=True)
            for layer, gradient in enumerate(of):
                found[layer, i] = (gradient.float() * sign[..., None]).sum((0, 1))
    return found

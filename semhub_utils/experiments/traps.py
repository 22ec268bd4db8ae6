"""Mistakes that look like findings, made on purpose: each next to the right way, with the size of the difference."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from semhub_utils.experiments.core import curve
from semhub_utils.inputs import Encoding
from semhub_utils.lens import lens
from semhub_utils.models import LanguageModel
from semhub_utils.states import hidden_states


def norm_trap(model: LanguageModel, prompts: Sequence[str]) -> pd.DataFrame:
    """Log-probability of the token the model would write next, per layer, through three lenses: with the final norm,
    "raw" with it at the last layer alone, and "normed twice", as when the library's last entry of `hidden_states`,
    which has been through the norm, is normed again."""
    hidden_states(model, [prompt + "." for prompt in prompts])  # as another trap has them: read on the way to the stop
    hidden, tables = hidden_states(model, prompts).hidden, []
    own, twice = lens(model, hidden[:, -1:], top_k=1).top_ids[:, 0], hidden.to(model.dtype)
    with torch.inference_mode():
        for module in model.structure.tail:
            twice = twice if isinstance(module, nn.Linear) else module(twice)
    ways = {"normed once": (hidden, "normed"), "raw": (hidden, "raw"), "normed twice": (twice.float(), "normed")}
    for name, (states, reading) in ways.items():
        found = lens(model, states, targets=own, reading=reading).logprob[..., 0].double().numpy()
        tables.append(curve(model, found, {"experiment": "norm-trap", "series": name}, clusters=range(len(found))))
    return pd.concat(tables, ignore_index=True)


def padding_trap(model: LanguageModel, prompts: Sequence[str], pads: Sequence[int] = (1, 2, 4, 8)) -> pd.DataFrame:
    """How far the last token's normed state at the last layer moves when pad tokens are added, relative to its length.

    "right" pads after the prompt. "left, masked" pads before it and tells the model so, by mask and positions. "left,
    not masked" only pads: the model reads the pads as text. Each is another sequence, and read as such.
    """

    def ends(read: Sequence[Encoding], at: Sequence[int]) -> Float[Tensor, "item input"]:
        hidden = hidden_states(model, read, positions=[[place] for place in at], layers=[model.n_layers]).hidden
        return model.normalise(hidden[:, 0]).float()

    encodings, rows = model.encode(prompts), []
    own = [len(encoding) - 1 for encoding in encodings]
    plain = ends(encodings, own)
    for n in pads:
        pad, last = [0] * n, [place + n for place in own]
        right = [replace(e, ids=e.ids + pad, content=f"{n} pads behind") for e in encodings]
        left = [replace(e, ids=pad + e.ids) for e in encodings]
        told = [replace(e, extras=partial(_told, n, len(e)), content="masked", kind=(len(e),)) for e in left]
        ways = {"right": ends(right, own), "left, masked": ends(told, last), "left, not masked": ends(left, last)}
        for name, states in ways.items():
            off = ((states - plain).norm(dim=1) / plain.norm(dim=1)).tolist()
            rows.append({"series": name, "strength": n, "value": float(np.mean(off)), "n": len(off)})
    return pd.DataFrame(rows).assign(experiment="padding-trap")


def _told(n_pads: int, length: int) -> dict[str, Int[Tensor, "1 token"]]:
    """What tells a model that the first of so many tokens are pads."""
    mask = torch.ones(1, length, dtype=torch.long)
    mask[:, :n_pads] = 0
    return {"attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp_min(0)}

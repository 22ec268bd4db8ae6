"""Mistakes that look like findings, made on purpose: each next to the right way, with the size of the difference."""

import itertools
from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor, nn

from semhub_utils.experiments.core import curve
from semhub_utils.lens import lens
from semhub_utils.models import LanguageModel
from semhub_utils.states import hidden_states


def norm_trap(model: LanguageModel, prompts: Sequence[str]) -> pd.DataFrame:
    """Log-probability of the token the model would write next, per layer, through three lenses: with the final norm,
    "raw" with it at the last layer alone, and "normed twice", as when the library's last entry of `hidden_states`,
    which has been through the norm, is normed again."""
    hidden, tables = hidden_states(model, prompts).hidden, []
    own, twice = lens(model, hidden[:, -1:], top_k=1).top_ids[:, 0], hidden.to(model.dtype)
    with torch.inference_mode():
        for module in model.structure.tail:
            twice = twice if isinstance(module, nn.Linear) else module(twice)
    ways = {"normed once": (hidden, "normed"), "raw": (hidden, "raw"), "normed twice": (twice.float(), "normed")}
    for name, (states, reading) in ways.items():
        found = lens(model, states, targets=own, reading=reading).logprob[..., 0].double().numpy()
        tables.append(curve(model, found, experiment="norm-trap", series=name))
    return pd.concat(tables, ignore_index=True)


def padding_trap(model: LanguageModel, prompts: Sequence[str], pads: Sequence[int] = (1, 2, 4, 8)) -> pd.DataFrame:
    """How far the last token's state at the last layer moves when pad tokens are added, relative to its length.

    "right" pads after the prompt. "left, masked" pads before it and tells the model so, by mask and positions. "left,
    not masked" only pads: the model reads the pads as text.
    """

    def last(ids: Tensor, at: int = -1, **told: Tensor) -> Tensor:
        with torch.inference_mode():
            output = model.module(ids, output_hidden_states=True, use_cache=False, **told)
        return output.hidden_states[-1][0, at].float()

    rows = []
    for encoding, n in itertools.product(model.encode(prompts), pads):
        ids = torch.tensor([encoding.ids], device=model.device)
        pad, right = torch.zeros_like(ids[:, :1]).expand(1, n), last(ids)
        left, mask = torch.cat([pad, ids], 1), torch.cat([pad, torch.ones_like(ids)], 1)
        ways = {
            "right": last(torch.cat([ids, pad], 1), ids.shape[1] - 1),
            "left, masked": last(left, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp_min(0)),
            "left, not masked": last(left),
        }
        off = {name: ((state - right).norm() / right.norm()).item() for name, state in ways.items()}
        rows += [{"series": name, "strength": n, "value": value} for name, value in off.items()]
    by = pd.DataFrame(rows).groupby(["series", "strength"], as_index=False, sort=False)
    return by.agg(value=("value", "mean"), n=("value", "size")).assign(experiment="padding-trap")

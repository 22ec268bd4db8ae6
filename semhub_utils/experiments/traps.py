"""Mistakes that look like findings, made on purpose: each next to the right way, with the size of the difference."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import nn

from semhub_utils.experiments.core import curve
from semhub_utils.lens import Normed, lens
from semhub_utils.models import LanguageModel
from semhub_utils.states import hidden_states


@dataclass(frozen=True)
class NormedTwice(Normed):
    """The mistake: a state that has been through the final norm goes through it again."""

    name: str = "normed twice"

    def inputs(self, model, hidden, layers):
        hidden = hidden.to(model.dtype)
        for module in model.structure.tail:
            hidden = hidden if isinstance(module, nn.Linear) else module(hidden)
        return super().inputs(model, hidden.float(), layers)


def norm_trap(model: LanguageModel, prompts: Sequence[str]) -> pd.DataFrame:
    """Log-probability of the token the model would write next, per layer, through three lenses.

    "normed once" is the lens with the final norm, "raw" has it at the last layer alone, and "normed twice" norms a
    state that was normed already: what becomes of the library's last entry of `hidden_states`, which has been through
    the norm, if it is normed again.
    """
    hidden = hidden_states(model, prompts).hidden
    own = lens(model, hidden[:, -1:], top_k=1).top_ids[:, 0]
    readings = {
        "normed once": lens(model, hidden, targets=own).logprob,
        "raw": lens(model, hidden, targets=own, reading="raw").logprob,
        "normed twice": lens(model, hidden, targets=own, reading=NormedTwice()).logprob,
    }
    return pd.concat(
        [
            curve(model, logprob[..., 0].double().numpy(), experiment="norm-trap", series=name)
            for name, logprob in readings.items()
        ],
        ignore_index=True,
    )


def padding_trap(model: LanguageModel, prompts: Sequence[str], pads: Sequence[int] = (1, 2, 4, 8)) -> pd.DataFrame:
    """How far the last token's state at the last layer moves when pad tokens are added, relative to its length.

    "right" pads after the prompt. "left, masked" pads before it and tells the model so, by mask and positions. "left,
    not masked" only pads: the model reads the pads as text.
    """
    rows = []
    for prompt in prompts:
        ids = torch.tensor([model.encode([prompt])[0].ids], device=model.device)
        for n in pads:
            pad = torch.zeros(1, n, dtype=ids.dtype, device=model.device)
            mask = torch.cat([torch.zeros_like(pad), torch.ones_like(ids)], dim=1)
            positions = (mask.cumsum(1) - 1).clamp_min(0)
            ways = {
                "right": (torch.cat([ids, pad], 1), {}, ids.shape[1] - 1),
                "left, masked": (torch.cat([pad, ids], 1), {"attention_mask": mask, "position_ids": positions}, -1),
                "left, not masked": (torch.cat([pad, ids], 1), {}, -1),
            }
            right = _last(model, ids, {}, -1)
            for name, (padded, told, at) in ways.items():
                off = (_last(model, padded, told, at) - right).norm() / right.norm()
                rows.append({"experiment": "padding-trap", "series": name, "strength": n, "value": off.item()})
    table = pd.DataFrame(rows)
    return table.groupby(["experiment", "series", "strength"], as_index=False, sort=False).agg(
        value=("value", "mean"), n=("value", "size")
    )


def _last(model: LanguageModel, ids: torch.Tensor, told: dict, at: int) -> torch.Tensor:
    with torch.inference_mode():
        output = model.module(ids, output_hidden_states=True, use_cache=False, **told)
    return output.hidden_states[-1][0, at].float()

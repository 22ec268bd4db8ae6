"""Mistakes that look like findings, made on purpose: each next to the right way, with the size of the difference."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from semhub_utils.errors import SemhubError
from semhub_utils.evidence import evidence, sign_flip_null, tidy
from semhub_utils.experiments.core import DRAWS, Result, curve
from semhub_utils.lens import lens
from semhub_utils.models import LanguageModel, randomised
from semhub_utils.shuffles import least_sign_flip_p
from semhub_utils.spokes.items import Pair
from semhub_utils.states import hidden_states


def norm_trap(model: LanguageModel, prompts: Sequence[str]) -> pd.DataFrame:
    """Log-probability of the token the model would write next, per layer, through three lenses.

    "normed once" is the lens with the final norm, "raw" has it at the last layer alone, and "normed twice" norms a
    state that was normed already: what becomes of the library's last entry of `hidden_states`, which has been through
    the norm, if it is normed again.
    """
    hidden = hidden_states(model, prompts).hidden
    own = lens(model, hidden[:, -1:], top_k=1).top_ids[:, 0]

    def norm(layer: int, h: Tensor) -> Tensor:
        h = h.to(model.device, model.dtype)
        for module in model.structure.tail:
            h = h if isinstance(module, nn.Linear) else module(h)
        return h.detach().float().cpu()

    readings = {
        "normed once": lens(model, hidden, targets=own).logprob,
        "raw": lens(model, hidden, targets=own, reading="raw").logprob,
        "normed twice": lens(model, hidden, targets=own, reading=norm, layers=range(model.n_layers + 1)).logprob,
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


def punctuation_trap(model: LanguageModel, pairs: Sequence[Pair], stop: str = ".", *, seed: int = 0) -> Result:
    """How much a shared full stop adds to the cosine of texts that mean different things.

    Each text is put beside the other side of the next pair that speaks of something else, once as it is and once with
    `stop` behind both. Claim `shared-punctuation`: cosine with minus cosine without, signs flipped per cluster. The
    table adds both cosines (`punctuation-trap`). Both with random weights beside them. Raises SemhubError if all pairs
    speak of one thing.
    """
    moved = [_next_other(pairs, k) for k in range(len(pairs))]

    def cosines(reader: LanguageModel, end: str) -> np.ndarray:
        a = hidden_states(reader, [pair.a + end for pair in pairs]).hidden
        b = hidden_states(reader, [pair.b + end for pair in moved]).hidden
        return cosine_similarity(a, b, dim=-1).double().numpy()

    found, blank = ([cosines(reader, end) for end in ("", stop)] for reader in (model, randomised(model, seed)))
    gain, noise = (stopped - plain for plain, stopped in (found, blank))
    clusters = [pair.cluster for pair in pairs]
    claim = evidence(
        "shared-punctuation", gain, sign_flip_null(gain, clusters=clusters, draws=DRAWS, seed=seed),
        least_p=least_sign_flip_p(clusters), layers=range(model.n_layers + 1), n_layers=model.n_layers,
        experiment="punctuation-gain", series="unrelated texts", clusters=clusters, seed=seed,
        controls={"random weights": noise},
    )  # fmt: skip
    curves = [
        curve(model, v, experiment="punctuation-trap", series=name, clusters=clusters, seed=seed,
              controls={"random weights": without})
        for name, v, without in zip(("as they are", "both end in a full stop"), found, blank, strict=True)
    ]  # fmt: skip
    return pd.concat([tidy([claim]), *curves], ignore_index=True), [claim]


def _next_other(pairs: Sequence[Pair], k: int) -> Pair:
    """The next pair, in a circle, of another cluster and another anchor: neighbours may state one fact in two forms."""
    for pair in (*pairs[k + 1 :], *pairs[:k]):
        if pair.cluster != pairs[k].cluster and pair.moves_with[0] != pairs[k].moves_with[0]:
            return pair
    raise SemhubError(f"All {len(pairs)} pairs speak of one thing; pairs of different meaning would do.")


def _last(model: LanguageModel, ids: torch.Tensor, told: dict, at: int) -> torch.Tensor:
    with torch.inference_mode():
        output = model.module(ids, output_hidden_states=True, use_cache=False, **told)
    return output.hidden_states[-1][0, at].float()

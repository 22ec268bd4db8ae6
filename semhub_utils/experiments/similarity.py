"""Are two ways of writing one thing closer than two ways of writing different things (Eq. 1)?"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from semhub_utils.errors import SemhubError
from semhub_utils.evidence import Evidence, evidence, tidy
from semhub_utils.experiments.core import DRAWS, FEW_DRAWS, Result, curve
from semhub_utils.inputs import Input
from semhub_utils.models import LanguageModel, randomised
from semhub_utils.shuffles import least_permutation_p
from semhub_utils.similarity import (
    MEASURES,
    adjusted_cosine,
    cka_jackknife,
    mutual_neighbours,
    permuted_pairs,
    retrieval_accuracy,
    same_group,
)
from semhub_utils.spokes.items import Pair
from semhub_utils.states import hidden_states


def similarity_experiment(
    model: LanguageModel,
    pairs: Sequence[Pair],
    *,
    series: str,
    seed: int = 0,
    random_weights: bool = True,
    baselines: Sequence[str] = (),
    dropped: Mapping[str, int] | None = None,
    empty: Mapping[str, Sequence[str | Input]] | None = None,
) -> Result:
    """Are the two sides of a pair more alike than sides of different pairs (Eq. 1), and at which layers?

    States at the last token. Claim `similarity/<series>`: adjusted cosine, against partners shuffled within their
    group: pairs of one anchor move together, or pairs that hold one word, whichever null is the harder. Controls: the
    embedding layer (what the last words alone share) and the same architecture with random weights. The table adds
    retrieval accuracy, mutual nearest neighbours and debiased CKA. `baselines`: by which non-matches, each as a reading
    with evidence of its own: "corrected" takes those of the own group, "as released" all, as is done where none is
    named. The table then adds the plain cosine of the matches, and of the non-matches of the own group; with both, what
    the latter gains (`baseline-gain`); with "corrected" alone, the curve against all (`similarity-all`), whose partners
    are shuffled among all. All have the control of random weights, and the other measures, but for "corrected" alone, a
    null. `dropped`: what the spoke left out, with counts. `empty`: for further controls, sides a that say nothing, such
    as blank pictures.
    """
    a, b = _states_of_pairs(model, pairs)
    clusters, groups = [pair.cluster for pair in pairs], [pair.group for pair in pairs]
    layers = range(model.n_layers + 1)
    moved = list(zip(*(pair.moves_with for pair in pairs), strict=True))
    noise = _states_of_pairs(randomised(model, seed), pairs) if random_weights else None
    says_nothing = {name: hidden_states(model, some).hidden for name, some in (empty or {}).items()}
    masks = {reading: same_group(groups) if reading == "corrected" else None for reading in baselines or [""]}
    scores = {reading: adjusted_cosine(a, b, mask).numpy() for reading, mask in masks.items()}

    def claim(reading: str) -> Evidence:
        mask, found = masks[reading], scores[reading]
        controls = {"embedding layer": found[:, :1]}
        if noise is not None:
            controls["random weights"] = adjusted_cosine(*noise, mask).numpy()
        controls |= {name: adjusted_cosine(side, b, mask).numpy() for name, side in says_nothing.items()}
        chance = {"groups": groups, "draws": DRAWS, "seed": seed, "mask": mask}
        nulls = [permuted_pairs(a, b, clusters=by, **chance).numpy() for by in moved]
        return evidence(
            f"similarity/{series}", found, nulls, least_p=max(least_permutation_p(groups, by) for by in moved),
            layers=layers, n_layers=model.n_layers, experiment="similarity", series=series, reading=reading,
            clusters=clusters, controls=controls, dropped=dropped, seed=seed,
        )  # fmt: skip

    claims = [claim(reading) for reading in masks]
    k, alone = min(10, len(pairs) - 1), set(baselines) == {"corrected"}

    def others(a: Tensor, b: Tensor) -> dict[str, np.ndarray]:
        found = {
            "retrieval": retrieval_accuracy(a, b),
            "neighbours": mutual_neighbours(a, b, k=k),
            "cka": cka_jackknife(a, b, clusters),  # one number for all items, its interval over blocks of them
        }
        if baselines:
            found["cosine"] = cosine_similarity(a, b, dim=-1)
        if alone:
            found["similarity-all"] = adjusted_cosine(a, b)
        elif baselines:
            found["baseline-gain"] = adjusted_cosine(a, b) - adjusted_cosine(a, b, same_group(groups))
        return {name: values.numpy() for name, values in found.items()}

    blank = others(*noise) if noise is not None else {}
    tables = []
    for name, values in others(a, b).items():
        controls, null = {"random weights": blank[name]} if blank else {}, None
        if name == "cosine" and "corrected" in scores:
            controls["other partners"] = values - scores["corrected"]
        if name in MEASURES and not alone and (baselines or blank):
            draws = {"groups": groups, "draws": FEW_DRAWS, "seed": seed, "k": k}
            null = permuted_pairs(a, b, measure=name, **draws).double().numpy()
        elif name == "similarity-all":
            null = permuted_pairs(a, b, draws=FEW_DRAWS, seed=seed).double().numpy()
        given = {"controls": controls, "null": null, "seed": seed}
        if name == "cka":
            tables.append(curve(model, values, experiment=name, series=series, **given).assign(n=len(pairs)))
        else:
            tables.append(curve(model, values, experiment=name, series=series, clusters=clusters, **given))
    return pd.concat([tidy(claims), *tables], ignore_index=True), claims


def relation_curves(
    model: LanguageModel,
    pairs: Sequence[Pair],
    relation: Int[np.ndarray, "item item"],
    names: Sequence[str],
    *,
    seed: int = 0,
) -> pd.DataFrame:
    """Plain cosine of side a of one item with side b of another, per layer, by how the two items are related; and with
    random weights.

    `relation[i, j]` is an index into `names`. The mean is taken per item first, so that the interval is over items.
    """
    sides = [
        [normalize(side, dim=-1) for side in _states_of_pairs(reader, pairs)]
        for reader in (model, randomised(model, seed))
    ]
    tables = []
    for index, name in enumerate(names):
        related = torch.as_tensor(relation == index)
        kept = related.any(1)
        if kept.any():
            weights = related[kept].float() / related[kept].sum(1, keepdim=True)
            values, noise = (torch.einsum("ij,jlh,ilh->il", weights, b, a[kept]).numpy() for a, b in sides)
            clusters = [pair.cluster for pair, keep in zip(pairs, kept, strict=True) if keep]
            given = {"clusters": clusters, "controls": {"random weights": noise}, "seed": seed}
            tables.append(curve(model, values, experiment="relations", series=name, **given))
    return pd.concat(tables, ignore_index=True)


def _states_of_pairs(model: LanguageModel, pairs: Sequence[Pair]) -> tuple[Tensor, Tensor]:
    if len(pairs) < 4:
        raise SemhubError(f"{len(pairs)} pairs were given; at least 4 are needed to compare matches with non-matches.")
    a, b = (hidden_states(model, [getattr(pair, side) for pair in pairs]).hidden for side in "ab")
    return a, b

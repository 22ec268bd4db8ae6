"""Are two ways of writing one thing closer than two ways of writing different things (Eq. 1)?"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from semhub_utils.errors import SemhubError
from semhub_utils.evidence import Evidence, control, corrected_bound, evidence, tidy
from semhub_utils.experiments.common import DRAWS, Result, curve
from semhub_utils.inputs import Input
from semhub_utils.models import LanguageModel, randomised
from semhub_utils.shuffles import least_permutation_p
from semhub_utils.similarity import (
    MEASURES,
    adjusted_cosine,
    debiased_cka,
    mutual_neighbours,
    permuted_pairs,
    retrieval_accuracy,
    same_group,
)
from semhub_utils.spokes.items import Pair
from semhub_utils.states import hidden_states

FEW_DRAWS = 200  # for the dotted lines of measures that no claim rests on


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
    named. The table then adds the plain cosine of the matches; with both, what the latter gains (`baseline-gain`) and
    the nulls of the other measures; with "corrected" alone, the curve against all (`similarity-all`). `dropped`: what
    the spoke left out, with counts. `empty`: for further controls, sides a that say nothing, such as blank pictures.
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
        still = control("embedding layer", found[:, :1], n_layers_shown=len(layers), clusters=clusters, seed=seed)
        controls = {still.name: still}
        if noise is not None:
            other = adjusted_cosine(*noise, mask).numpy()
            controls["random weights"] = control("random weights", other, clusters=clusters, seed=seed)
        for name, side in says_nothing.items():
            controls[name] = control(name, adjusted_cosine(side, b, mask).numpy(), clusters=clusters, seed=seed)
        chance = {"groups": groups, "draws": DRAWS, "seed": seed, "mask": mask}
        return evidence(
            f"similarity/{series}",
            found,
            [permuted_pairs(a, b, clusters=by, **chance).numpy() for by in moved],
            least_p=max(least_permutation_p(groups, by) for by in moved),
            layers=layers,
            n_layers=model.n_layers,
            experiment="similarity",
            series=series,
            reading=reading,
            clusters=clusters,
            controls=controls,
            dropped=dropped,
            seed=seed,
        )

    claims = [claim(reading) for reading in masks]
    others = {
        "retrieval": retrieval_accuracy(a, b),
        "neighbours": mutual_neighbours(a, b, k=min(10, len(pairs) - 1)),
        "cka": debiased_cka(a, b)[None],  # one number for all items: it has no interval over them
    }
    if baselines:
        others["cosine"] = cosine_similarity(a, b, dim=-1)
    both = {"corrected", "as released"} <= set(baselines)
    if "corrected" in baselines and not both:
        others["similarity-all"] = adjusted_cosine(a, b)
    if both:
        others["baseline-gain"] = torch.from_numpy(scores["as released"] - scores["corrected"])
    tables = [
        curve(
            model,
            values.numpy(),
            experiment=name,
            series=series,
            clusters=clusters if len(values) > 1 else None,
            seed=seed,
        )
        for name, values in others.items()
    ]
    if both and model.n_layers > 1:
        for name, table in zip(others, tables, strict=True):
            if name in MEASURES:
                table["null_high"] = np.nan
                draws = {"groups": groups, "draws": FEW_DRAWS, "seed": seed, "k": min(10, len(pairs) - 1)}
                null = permuted_pairs(a, b, measure=name, **draws).double().numpy()[:, 1:-1]
                table.loc[1 : model.n_layers - 1, "null_high"] = corrected_bound(table.value.to_numpy()[1:-1], null)
    return pd.concat([tidy(claims), *tables], ignore_index=True), claims


def relation_curves(
    model: LanguageModel,
    pairs: Sequence[Pair],
    relation: Int[np.ndarray, "item item"],
    names: Sequence[str],
    *,
    seed: int = 0,
) -> pd.DataFrame:
    """Plain cosine of side a of one item with side b of another, per layer, by how the two items are related.

    `relation[i, j]` is an index into `names`. The mean is taken per item first, so that the interval is over items.
    """
    a, b = (normalize(side, dim=-1) for side in _states_of_pairs(model, pairs))
    tables = []
    for index, name in enumerate(names):
        related = torch.as_tensor(relation == index)
        kept = related.any(1)
        if kept.any():
            weights = related[kept].float() / related[kept].sum(1, keepdim=True)
            values = torch.einsum("ij,jlh,ilh->il", weights, b, a[kept])
            clusters = [pair.cluster for pair, keep in zip(pairs, kept, strict=True) if keep]
            tables.append(
                curve(model, values.numpy(), experiment="relations", series=name, clusters=clusters, seed=seed)
            )
    return pd.concat(tables, ignore_index=True)


def _states_of_pairs(model: LanguageModel, pairs: Sequence[Pair]) -> tuple[Tensor, Tensor]:
    if len(pairs) < 4:
        raise SemhubError(f"{len(pairs)} pairs were given; at least 4 are needed to compare matches with non-matches.")
    a, b = (hidden_states(model, [getattr(pair, side) for pair in pairs]).hidden for side in "ab")
    return a, b

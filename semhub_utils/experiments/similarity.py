"""Are two ways of writing one thing closer than two ways of writing different things (Eq. 1)?"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import normalize

from semhub_utils.errors import SemhubError
from semhub_utils.evidence import control, evidence, tidy
from semhub_utils.experiments.common import DRAWS, Result, curve
from semhub_utils.models import LanguageModel, randomised
from semhub_utils.shuffles import least_permutation_p
from semhub_utils.similarity import (
    adjusted_cosine,
    debiased_cka,
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
    matched: bool = False,
) -> Result:
    """Are the two sides of a pair more alike than sides of different pairs (Eq. 1), and at which layers?

    States at the last token. Claim `similarity/<series>`: adjusted cosine, against partners shuffled within their
    group: pairs of one anchor move together, or pairs that hold one word, whichever null is the harder. Controls: the
    embedding layer (what the last words alone share) and the same architecture with random weights. The table adds
    retrieval accuracy, mutual nearest neighbours and debiased CKA. `matched` compares with non-matches of the group
    alone, where groups lie at different heights; the table then adds the comparison with all ("similarity-all").
    """
    a, b = _states_of_pairs(model, pairs)
    mask = same_group([pair.group for pair in pairs]) if matched else None
    clusters = [pair.cluster for pair in pairs]
    layers = range(model.n_layers + 1)
    scores = adjusted_cosine(a, b, mask).numpy()
    controls = [control("embedding layer", scores[:, :1], n_layers_shown=len(layers), clusters=clusters, seed=seed)]
    if random_weights:
        noise = adjusted_cosine(*_states_of_pairs(randomised(model, seed), pairs), mask).numpy()
        controls.append(control("random weights", noise, clusters=clusters, seed=seed))
    groups, moved = [pair.group for pair in pairs], list(zip(*(pair.moves_with for pair in pairs), strict=True))
    options = {"groups": groups, "draws": DRAWS, "seed": seed, "mask": mask}
    nulls = [permuted_pairs(a, b, clusters=by, **options).numpy() for by in moved]
    claim = evidence(
        f"similarity/{series}",
        scores,
        nulls,
        least_p=max(least_permutation_p(groups, by) for by in moved),
        layers=layers,
        n_layers=model.n_layers,
        experiment="similarity",
        series=series,
        clusters=clusters,
        controls={c.name: c for c in controls},
        seed=seed,
    )
    others = {
        "retrieval": retrieval_accuracy(a, b),
        "neighbours": mutual_neighbours(a, b, k=min(10, len(pairs) - 1)),
        "cka": debiased_cka(a, b)[None],  # one number for all items: it has no interval over them
    }
    if matched:
        others["similarity-all"] = adjusted_cosine(a, b)
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
    return pd.concat([tidy([claim]), *tables], ignore_index=True), [claim]


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

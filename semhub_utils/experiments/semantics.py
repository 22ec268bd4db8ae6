"""Does a sentence lie nearer to its own logical form than to others (Eq. 1, with harder and harder non-matches)?"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from torch.nn.functional import cosine_similarity

from semhub_utils.evidence import evidence, sign_flip_null, tidy
from semhub_utils.experiments.core import DRAWS, Result, curve
from semhub_utils.experiments.similarity import similarity_experiment
from semhub_utils.models import LanguageModel, randomised
from semhub_utils.shuffles import least_sign_flip_p
from semhub_utils.spokes.items import Pair
from semhub_utils.spokes.semantics import SwapItem
from semhub_utils.states import hidden_states

READINGS = ("as written", "no full stop")
SWAPS = ("names swapped", "names swapped, shuffled", "names swapped, any order")
SAME = "same meaning"  # the true form, its conjuncts shuffled
ORDERS = {True: "sentence's order", False: "other order"}


def form_similarity_experiment(model: LanguageModel, pairs: Sequence[Pair], **options: Any) -> Result:
    """`similarity_experiment` of sentences (side a) with their forms, matched by template, as written and without the
    final full stop: one table and the claim twice, told apart by `reading`, as written first."""
    tables, claims = [], []
    for reading in READINGS:
        read = [replace(pair, a=_sentence(pair.a, reading)) for pair in pairs]
        table, [claim] = similarity_experiment(model, read, series="others", baselines=("corrected",), **options)
        tables.append(table.assign(reading=reading))
        claims.append(replace(claim, reading=reading))
    return pd.concat(tables, ignore_index=True), claims


def swap_experiment(
    model: LanguageModel,
    items: Sequence[SwapItem],
    *,
    seed: int = 0,
    random_weights: bool = True,
    dropped: Mapping[str, int] | None = None,
) -> Result:
    """Is a sentence nearer to its logical form than to the form in which two people have changed places?

    Cosine of last-token states, sentence with true form minus sentence with altered form (Eq. 1 with a harder
    non-match), in three claims: `similarity/names swapped`; `similarity/names swapped, shuffled`, the conjuncts in
    another order as well; `similarity/names swapped, any order`, the mean of the forms as written and shuffled on both
    sides. The last is the fair one: a shuffle alone moves the state, and which name stands last is not who did it. The
    first two have to be above what the shuffle alone costs, "same meaning". Nulls: the names change places by
    a coin per pair of names, per first name, per second name and per verb; the hardest counts. Controls: the embedding
    layer (0, as all forms end alike) and random weights. Each claim comes twice, for sentences as written and without
    the full stop. The table adds the scores of the first by the order of names ("swap-order"), with the same nulls and
    random weights. `dropped`: what was left out before, with counts.
    """
    clusters, depth = [item.cluster for item in items], model.n_layers + 1
    options: dict[str, Any] = {"clusters": clusters, "seed": seed}
    moved, everything = list(zip(*(item.moves_with for item in items), strict=True)), range(len(items))

    def read(reader: LanguageModel) -> list[dict[str, np.ndarray]]:
        """Scores [item, layer] by name, for each reading."""
        forms = [hidden_states(reader, some).hidden for some in zip(*(i.forms for i in items), strict=True)]
        found = []
        for reading in READINGS:
            sentence = hidden_states(reader, [_sentence(item.sentence, reading) for item in items]).hidden.double()
            true, swapped, shuffled, both = (
                cosine_similarity(sentence, form.double(), dim=-1).numpy() for form in forms
            )
            differences = (true - swapped, true - both, (true + shuffled - swapped - both) / 2, true - shuffled)
            found.append(dict(zip((*SWAPS, SAME), differences, strict=True)))
        return found

    def flips(scores: dict[str, np.ndarray], name: str, own: Sequence[int] = everything) -> list[np.ndarray]:
        """The names of both forms of these items change places by a coin. Where one form is shuffled it stays so: its
        cost is no sign of meaning, and is in the null as it is in the claim."""
        turned = scores[SWAPS[2] if name == SWAPS[1] else name][own]
        cost = (scores[name][own] - turned).mean(0)
        some = ([by[k] for k in own] for by in moved)
        return [cost + sign_flip_null(turned, clusters=by, draws=DRAWS, seed=seed) for by in some]

    claims, tables = [], []
    noise = read(randomised(model, seed)) if random_weights else [None, None]
    for reading, scores, random in zip(READINGS, read(model), noise, strict=True):
        for name in SWAPS:
            controls = {"embedding layer": scores[name][:, :1]}
            controls |= {"random weights": random[name]} if random else {}
            controls |= {SAME: scores[SAME]} if name != SWAPS[-1] else {}
            claims.append(
                evidence(
                    f"similarity/{name}",
                    scores[name],
                    flips(scores, name),
                    least_p=max(map(least_sign_flip_p, moved)),
                    layers=range(depth),
                    n_layers=model.n_layers,
                    experiment="swap",
                    series=name.removeprefix("names "),
                    reading=reading,
                    controls=controls,
                    dropped=dropped,
                    unit="difference of cosines",
                    null_in_words="names change places by a coin per pair of names, per name and per verb",
                    **options,
                )
            )
        for order, name in ORDERS.items():
            own = [k for k, item in enumerate(items) if item.in_order == order]
            if own:
                at = {"experiment": "swap-order", "series": name, "reading": reading, "seed": seed}
                at |= {"controls": {"random weights": random[SWAPS[0]][own]}} if random else {}
                at |= {"null": flips(scores, SWAPS[0], own), "clusters": [clusters[k] for k in own]}
                tables.append(curve(model, scores[SWAPS[0]][own], **at))
    return pd.concat([tidy(claims), *tables], ignore_index=True), claims


def _sentence(text: str, reading: str) -> str:
    return text if reading == READINGS[0] else text.rstrip(". ")

"""Natural languages: sentences that say one thing in two of them."""

from collections.abc import Sequence

import pandas as pd

from semhub_utils.errors import SemhubError
from semhub_utils.experiments.core import Result
from semhub_utils.experiments.similarity import similarity_experiment
from semhub_utils.models import LanguageModel
from semhub_utils.spokes.languages import PairSet


def language_similarity(
    model: LanguageModel, sets: Sequence[PairSet], *, seed: int = 0, random_weights: bool = True
) -> Result:
    """`similarity_experiment` against the own group, for every set of pairs; the table adds the column `ending`.

    Claims: `similarity/<languages>` for the first ending of each two languages, the release's baseline beside it; with
    ", <ending>" behind for the others. Raises SemhubError if there are fewer than 4 pairs of a set.
    """
    tables, claims, seen = [], [], set()
    for chosen in sets:
        if len(chosen.pairs) < 4:
            left = ", ".join(f"{count} × {reason}" for reason, count in chosen.dropped.items())
            raise SemhubError(
                f"{len(chosen.pairs)} pairs are left for {chosen.series} (out: {left or 'none'}); at least 4 would do."
            )
        series = chosen.series if chosen.series not in seen else f"{chosen.series}, {chosen.ending}"
        seen.add(chosen.series)
        table, found = similarity_experiment(
            model,
            chosen.pairs,
            series=series,
            seed=seed,
            random_weights=random_weights,
            baselines=("corrected", "as released") if series == chosen.series else ("corrected",),
            dropped=chosen.dropped,
        )
        tables.append(table.assign(series=chosen.series, ending=chosen.ending))
        claims += found
    return pd.concat(tables, ignore_index=True), claims

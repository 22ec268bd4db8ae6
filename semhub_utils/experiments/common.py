"""What all experiments share: the number of random draws, and a curve by layer with its interval."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from semhub_utils.evidence import Evidence, bootstrap_interval
from semhub_utils.models import LanguageModel

Result = tuple[pd.DataFrame, list[Evidence]]
DRAWS = 1000


def curve(
    model: LanguageModel,
    values: Float[np.ndarray, "item layer"],
    *,
    experiment: str,
    series: str,
    reading: str = "",
    clusters: Sequence | None = None,
    dropped: int = 0,
    seed: int = 0,
) -> pd.DataFrame:
    """A tidy curve by layer with its interval over items (none for one row); items without a number are left out.

    Where none is left the curve stands there with n = 0 and no numbers.
    """
    seen = np.isfinite(values).all(1)
    values = values[seen]
    kept = None if clusters is None else [c for c, keep in zip(clusters, seen, strict=True) if keep]
    low, high = (
        bootstrap_interval(values, clusters=kept, seed=seed)
        if len(values) > 1
        else (np.full(values.shape[1], np.nan),) * 2
    )
    layers = np.arange(values.shape[1])
    return pd.DataFrame(
        {
            "experiment": experiment,
            "series": series,
            "reading": reading,
            "layer": layers,
            "depth": layers / model.n_layers,
            "value": values.mean(0) if len(values) else np.nan,
            "low": low,
            "high": high,
            "n": len(values),
            "dropped": dropped + int((~seen).sum()),
        }
    )

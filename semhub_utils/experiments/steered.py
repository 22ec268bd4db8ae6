"""What was measured under each vector, and its table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from semhub_utils.evidence import bootstrap_interval
from semhub_utils.experiments.continuations import Texts
from semhub_utils.models import LanguageModel
from semhub_utils.spokes.sentiment import SentimentPrompt

EXAMPLES = 2  # prompts whose continuations are shown
ENGLISH, RANDOM, AWAY, PAPER = "English vector", "random direction", "wrong layer", "English vector, the paper's layer"
MASS, WRITTEN = "next word (nats)", "text (−1 to 1)"
SHOWN = {
    "mass": (MASS, "without the pair's own words"),
    "mass, all words": (MASS, "all words"),
    "written": (WRITTEN, "without the pair's own words"),
    "written, all words": (WRITTEN, "all words"),
    "nats": ("perplexity (ratio)", ""),
    "relevance": ("relevance (cosine)", ""),
}
"""What is measured -> its name in the table, with its unit, and its reading."""


@dataclass(frozen=True)
class Steered:
    """All that was measured on the reported prompts. values: per condition (English vector, native vector, ...) and
    entry of SHOWN, numbers [item, coefficient, seed], nan where there is none; of random directions each is a seed."""

    model: LanguageModel
    language: str
    clusters: list[str]
    coefficients: Mapping[str, tuple[float, ...]]  # of each condition
    layer: int
    coefficient: float
    values: Mapping[tuple[str, str], np.ndarray]
    dropped: Mapping[str, int]
    seed: int

    @property
    def native(self) -> list[str]:
        """The condition of the output language's own vector; none where that is English."""
        return [name for name in dict.fromkeys(c for c, _ in self.values) if name not in (ENGLISH, RANDOM, AWAY, PAPER)]

    def at(self, condition: str, what: str, coefficient: float) -> np.ndarray:
        """Per item, the mean over seeds at a coefficient."""
        return mean(self.values[condition, what][:, self.coefficients[condition].index(coefficient)])

    def half(self, condition: str, what: str) -> np.ndarray:
        """Per item, half of what the chosen coefficient gives minus what its negative gives."""
        return (self.at(condition, what, self.coefficient) - self.at(condition, what, -self.coefficient)) / 2

    def kept(self, what: str) -> np.ndarray:
        """Per item, the mean of the chosen coefficient of the English vector and its negative."""
        return (self.at(ENGLISH, what, self.coefficient) + self.at(ENGLISH, what, -self.coefficient)) / 2

    def halves(self, what: str) -> np.ndarray:
        """The same under each random direction [item, direction]."""
        return halved(self.values[RANDOM, what])


def table(
    found: Steered,
    prompts: Sequence[SentimentPrompt],
    texts: Mapping[str, Texts],
) -> pd.DataFrame:
    """Dose (condition x measure x coefficient), difference (English minus native) and the first texts."""
    return pd.DataFrame([*_dose_rows(found), *_example_rows(found, prompts, texts)])


def _dose_rows(found: Steered) -> list[dict]:
    """The change of every measure against no steering, by coefficient (for perplexity the ratio), with the mean itself
    (`level`) and its spread over seeds; and the difference of the two vectors at the chosen one."""
    rows = []
    for (condition, what), values in found.values.items():
        measure, reading = SHOWN[what]
        for k, strength in enumerate(found.coefficients[condition]):
            per_item = mean(values[:, k])
            numbers = _with_interval(found, per_item - found.at(ENGLISH, what, 0.0))
            numbers["level"] = float(mean(per_item))
            numbers["seed_sd"] = float(np.std(mean(values[:, k].T), ddof=1)) if values.shape[2] > 1 else math.nan
            if what == "nats":
                numbers |= {name: math.exp(numbers[name]) for name in ("value", "low", "high", "level")}
                numbers["seed_sd"] *= numbers["level"]  # of the perplexity, to first order
            rows.append(
                _row(found, "sentiment-dose", condition, measure, reading=reading, strength=strength, **numbers)
            )
    for native in found.native:
        for what in list(SHOWN)[:4]:
            measure, reading = SHOWN[what]
            numbers = _with_interval(found, found.half(ENGLISH, what) - found.half(native, what))
            rows.append(_row(found, "sentiment-difference", found.language, measure, reading=reading, **numbers))
    return rows


def _example_rows(found: Steered, prompts: Sequence[SentimentPrompt], texts: Mapping[str, Texts]) -> list[dict]:
    """The first seed's continuations of the first EXAMPLES prompts, as they were written."""
    c, at = found.coefficient, found.coefficients[ENGLISH].index
    shown = {"against": -c, "none": 0.0, "with": c}
    return [
        _row(found, "sentiment-example", condition, "", strength=strength, push=push, prompt=prompt.text,
             text=texts[condition][i][at(strength)][0])
        for i, prompt in enumerate(prompts[:EXAMPLES])
        for condition in (ENGLISH, *found.native)
        for push, strength in shown.items()
    ]  # fmt: skip


def _row(found: Steered, experiment: str, series: str, measure: str, **columns) -> dict:
    place = {"layer": found.layer, "depth": found.layer / found.model.n_layers}
    place |= {"language": found.language, "measure": measure}
    return {"experiment": experiment, "series": series, "reading": ""} | place | columns


def _with_interval(found: Steered, values: np.ndarray) -> dict[str, float]:
    """Mean over the items that have a number, its interval over clusters, how many these are and how many not."""
    seen = np.isfinite(values)
    clusters = [cluster for cluster, keep in zip(found.clusters, seen, strict=True) if keep]
    low = high = np.array([math.nan])
    if seen.sum() > 1:
        low, high = bootstrap_interval(values[seen, None], clusters=clusters, seed=found.seed)
    value = float(values[seen].mean()) if seen.any() else math.nan
    return {"value": value, "low": float(low[0]), "high": float(high[0]), "n": int(seen.sum()),
            "dropped": int((~seen).sum())}  # fmt: skip


def halved(mass: Float[np.ndarray, "item sign direction"]) -> Float[np.ndarray, "item direction"]:
    """Half of what the second strength gives minus what the first gives."""
    return (mass[:, 1] - mass[:, 0]) / 2


def mean(values: Float[np.ndarray, "*row entry"]) -> Float[np.ndarray, "*row"]:
    """The mean over the last axis of what is a number; nan where nothing is."""
    seen = np.isfinite(values)
    count = seen.sum(-1)
    return np.where(count > 0, np.where(seen, values, 0.0).sum(-1) / np.maximum(count, 1), np.nan)

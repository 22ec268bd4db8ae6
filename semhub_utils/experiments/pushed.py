"""What was measured of sounds with words pushed into them, as claims and as rows of a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from semhub_utils.evidence import Evidence, evidence
from semhub_utils.experiments.core import DRAWS, curve
from semhub_utils.models import LanguageModel
from semhub_utils.spokes.audio import KindItem

OTHER, ALIKE, RANDOM, AWAY, REVERSED = "other class", "same class", "random direction", "wrong layer", "reversed"
BLANK = "random weights"
CLASSES = {"mammals": True, "others": False}
EMPTY = np.empty((0, 1))


@dataclass(frozen=True)
class Pushed:
    """What was measured in one language on the reported clips: shares of the first answer [item, strength] by condition
    and whose strengths these are."""

    shares: Mapping[str, Float[np.ndarray, "item strength"]]
    strengths: Mapping[str, tuple[float, ...]]

    def change(self, condition: str, strength: float) -> Float[np.ndarray, " item"]:
        """The share at a strength minus the share without a push, which is one for all but random weights."""
        whose = condition if 0.0 in self.strengths[condition] else OTHER
        still = self.shares[whose][:, self.strengths[whose].index(0.0)]
        return self.shares[condition][:, self.strengths[condition].index(strength)] - still


def _score(turn: np.ndarray, plus: np.ndarray, minus: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """The change in the direction of the push, minus the larger of that by chance and by the reversed vector."""
    return turn * plus - np.maximum(turn * noise, turn * minus)


def claims_of(
    model: LanguageModel,
    by: str,
    name: str,
    items: Sequence[KindItem],
    found: Pushed | None,
    layer: int,
    strength: float,
    dropped: Mapping[str, int],
    seed: int,
) -> list[Evidence]:
    """Of all clips, of mammals and of others. Intervals are over animals, contents of clips are counted."""
    kinds = {}
    for item in items:
        mammal = item.clip.is_mammal
        kinds |= {item.clip.label: mammal, item.alike: mammal, item.other: not mammal}
    number = {animal: n for n, animal in enumerate(sorted(kinds))}
    called = np.array([kinds[animal] for animal in number], float)
    animal = np.array([number[item.clip.label] for item in items], int)
    turn = 1 - 2 * called[animal] if items else np.empty(0)
    if items:
        noise = found.change(RANDOM, strength)
        moved = {k: (found.change(k, strength), found.change(k, -strength), noise) for k in (OTHER, ALIKE)}
        both = [np.concatenate(parts) for parts in zip(moved[OTHER], moved[ALIKE], strict=True)]
        partner = np.array([number[getattr(i, to)] for to in ("other", "alike") for i in items])
    claims = []
    for whose, wanted in ({"": None} | CLASSES).items():
        part = np.array([wanted in (None, item.clip.is_mammal) for item in items], bool)
        mine = [item.clip for item, keep in zip(items, part, strict=True) if keep]
        scores, null, controls, least = EMPTY, EMPTY, {}, 0.0
        if part.any():
            scores = _score(turn, *moved[OTHER])[part, None]
            null = _null(called, np.tile(animal, 2), partner, both, wanted, seed)
            shown = {ALIKE: _score(turn, *moved[ALIKE]), AWAY: turn * (found.change(AWAY, strength) - noise)}
            if BLANK in found.shares:
                shown[BLANK] = _score(turn, *(found.change(BLANK, s) for s in (strength, -strength, 0.0)))
            controls = {k: v[part, None] for k, v in shown.items()}
            least = 1 / comb(len(called), int(called.sum()))
        claims.append(
            evidence(
                f"push-{by}/{name}" + f"/{whose}" * bool(whose),
                scores,
                null,
                least_p=least,
                layers=[layer],
                n_layers=model.n_layers,
                experiment=f"push-{by}",
                series=f"{name} {whose}".strip(),
                reading="corrected",
                clusters=[clip.cluster for clip in mine],
                drawn=[clip.label for clip in mine],
                controls=controls,
                dropped=dropped,
                outcome=True,
                unit=f"share of probability, at {strength:g} lengths of the state",
                null_in_words="shuffling which animals are called mammals",
                seed=seed,
            )
        )
    return claims


def _null(
    called: Float[np.ndarray, " animal"],
    animal: Int[np.ndarray, " pair"],
    partner: Int[np.ndarray, " pair"],
    moved: Sequence[Float[np.ndarray, " pair"]],
    wanted: bool | None,
    seed: int,
) -> Float[np.ndarray, "draw 1"]:
    """The statistic with the classes shuffled among animals: pairs of present and pushed animal that differ in class
    count, whichever they were made for."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(DRAWS):
        drawn = rng.permutation(called)
        turn = drawn[partner] - drawn[animal]
        counts = (turn != 0) & (True if wanted is None else drawn[animal] == wanted)
        if counts.any():
            found.append(_score(turn, *moved)[counts].mean())
    return np.array(found)[:, None]


def dose_curves(
    model: LanguageModel, name: str, items: Sequence[KindItem], found: Pushed, layer: int, seed: int
) -> list[pd.DataFrame]:
    """Share of the first answer by condition, class and strength; none is pushed at 0."""
    runs = {condition: dict(zip(found.strengths[condition], v.T, strict=True)) for condition, v in found.shares.items()}
    signed = [(condition, 1, condition) for condition in runs]
    signed.insert(1, (REVERSED, -1, OTHER))
    rows = []
    for condition, sign, of in signed:
        still = runs[of].get(0.0, runs[OTHER][0.0])
        dose = {0.0: still} | {sign * s: shares for s, shares in runs[of].items() if sign * s > 0}
        for whose, mammal in CLASSES.items():
            part = np.array([item.clip.is_mammal == mammal for item in items], bool)
            clusters = [item.clip.label for item, keep in zip(items, part, strict=True) if keep]
            given = {"experiment": "push-dose", "series": whose, "reading": "corrected", "clusters": clusters}
            for strength, shares in sorted(dose.items()) if part.any() and len(dose) > 1 else ():
                row = curve(model, shares[part, None], layers=[layer], seed=seed, **given)
                rows.append(row.assign(language=name, condition=condition, strength=strength))
    return rows

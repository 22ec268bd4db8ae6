"""The word for a claim: rules that were fixed before the numbers they judge, applied to its evidence.

`RULES` are what `judge` does, in order; book/verdicts.md prints them, and a test holds the two together.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from .evidence import WEAK_ALPHA, Evidence, Labels, Sample, depths
from .pairings import codes

MIN_UNITS = 20
MIN_ACCURACY = 0.5
ALPHA = 0.01
HOLDS, WEAKLY, EXPLAINED, INCONCLUSIVE = "holds", "holds weakly", "explained by", "inconclusive"
NOT, UNTESTABLE = "does not hold", "cannot be tested here"
RULES = {
    UNTESTABLE: "a precondition failed (the model cannot do the task, or this instrument does not find what was "
    f"planted for it), fewer than {MIN_UNITS} independent units are left, the window holds no layer, a control has no "
    "item with a number, nothing varies, or the null has so few arrangements that p could not fall below "
    f"{ALPHA:g} whatever the data.",
    HOLDS: f"at some layer of the window the corrected p is below {ALPHA:g}, the interval lies above 0, and so does "
    "the interval of the claim minus each control, item by item; and where the claim is about the middle layers, these "
    "are above the first sixth and above the last layer, each by its interval and its p.",
    WEAKLY: f"the same with p below {WEAK_ALPHA:g}.",
    EXPLAINED: f"it stands clear of its null (p below {WEAK_ALPHA:g}, the interval above 0), but a control, or the "
    "first or last layers, come within the smallest effect of interest of it, or above it; the nearest is named.",
    INCONCLUSIVE: "it stands clear of its null and is above what it is not told apart from by the smallest effect of "
    "interest or more; or it does not stand clear, and the interval at some layer of the window still holds that "
    "effect.",
    NOT: "otherwise: at every layer of the window the interval lies below the smallest effect of interest.",
}


@dataclass(frozen=True)
class Verdict:
    """verdict: the word; condition: what decided it, and reason: the numbers before it, in words; by: what explains it,
    or what it cannot be told from; layer: the one whose number is shown; passes: the layers at which all rules are met,
    and `where` these are ("early", "middle", "late")."""

    verdict: str
    condition: str
    told: str = ""
    by: str = ""
    layer: int | None = None
    passes: tuple[int, ...] = ()
    where: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """The numbers, and what decided it, as a sentence."""
        said = f"{self.told}: {self.condition}" if self.told else self.condition
        return f"{said[0].upper()}{said[1:].rstrip('.')}."

    def to_json(self) -> dict[str, Any]:
        kept = asdict(self) | {"passes": list(self.passes), "where": list(self.where), "reason": self.reason}
        del kept["told"]
        return kept

    @property
    def words(self) -> str:
        """The verdict as a reader is told it."""
        return in_words(self.verdict, self.by)


def in_words(verdict: str, by: str) -> str:
    """A verdict with what explains it, if that is the word."""
    return f"{verdict} {by}" if verdict == EXPLAINED else verdict


def judge(e: Evidence, *, precondition: str | None = None) -> Verdict:
    """The verdict by RULES. `precondition`: the sentence why it cannot be tested, if it cannot."""
    inside = [i for i, layer in enumerate(e.layers) if layer in e.window]
    if why := precondition or _untestable(e, inside):
        return Verdict(UNTESTABLE, why)
    for verdict, alpha in ((HOLDS, ALPHA), (WEAKLY, WEAK_ALPHA)):
        passes = [i for i in inside if _clear(e, i, alpha) and not _rivals(e, i, alpha)]
        if passes:
            best = max(passes, key=lambda i: (e.values[i], -i))
            beaten = ", ".join((*e.controls, *e.contrasts)) or "its null"
            layers = tuple(e.layers[i] for i in passes)
            late = (f"p against {name} ({c.p:.2g})" for name, c in e.contrasts.items() if c.p >= ALPHA)
            which = "p" if e.p[best] >= ALPHA else next(late, "p")
            why = f"above {beaten}" + f", and {which} is not below {ALPHA:g}" * (verdict == WEAKLY)
            where = {"layer": e.layers[best], "passes": layers, "where": _where(e, layers)}
            return Verdict(verdict, why, _told(e, best, inside), **where)
    clear = [i for i in inside if _clear(e, i, WEAK_ALPHA)]
    best = max(clear or inside, key=lambda i: (e.values[i], -i))
    told, layer = _told(e, best, inside), e.layers[best]
    if clear:
        rivals = _rivals(e, best, WEAK_ALPHA)
        by = min(rivals, key=rivals.__getitem__)
        if rivals[by] < e.least:
            return Verdict(EXPLAINED, f"{by} comes within {e.least:g} of it, or above it", told, by, layer)
        return Verdict(INCONCLUSIVE, f"it is not told apart from {by}", told, by, layer)
    if any(e.high[i] >= e.least for i in inside):
        failed = "not above its null" if e.p[best] >= WEAK_ALPHA else "its interval reaches 0"
        why = f"{failed}, and an effect of {e.least:g} is not ruled out"
        return Verdict(INCONCLUSIVE, why, told, layer=layer)
    return Verdict(NOT, f"an effect of {e.least:g} is ruled out", told, layer=layer)


def _untestable(e: Evidence, inside: list[int]) -> str:
    if e.n_units < MIN_UNITS:
        why = "" if e.n else "; ".join(("", *(f"left out: {why}" for why in e.dropped)))
        return f"{e.n_units} independent units are left, and {MIN_UNITS} are needed{why}."
    if not inside:
        return f"the model has no layer in the window of this claim (it has {e.n_layers})."
    if e.lacking:
        return f"its control {e.lacking[0]!r} has no item with a number."
    if not e.varies:
        return "every item gives the same number, whatever it is paired with."
    if e.least_p >= ALPHA:
        return f"its null cannot give a p below {e.least_p:.2g}, and {ALPHA} is asked."
    return ""


def _clear(e: Evidence, i: int, alpha: float) -> bool:
    return e.low[i] > 0 and e.p[i] < alpha


def _rivals(e: Evidence, i: int, alpha: float) -> dict[str, float]:
    """What the claim is not shown to be above, and by how much it is above it."""
    found = {name: c.margin.values[i] for name, c in e.controls.items() if not c.margin.low[i] > 0}
    shapes = e.contrasts.items()
    return found | {name: c.value for name, c in shapes if not (c.low > 0 and c.p < alpha)}


def _told(e: Evidence, i: int, inside: list[int]) -> str:
    numbers = f"t is {e.values[i]:.3g} [{e.low[i]:.3g}, {e.high[i]:.3g}], p = {e.p[i]:.2g}"
    corrected = f", corrected for {len(inside)} layers" * (len(inside) > 1)
    at = f"At layer {e.layers[i]} of {e.n_layers} i" if e.n_layers > 1 else "I"  # what a model says is at no layer
    return f"{at}{numbers}{corrected}"


def _where(e: Evidence, layers: tuple[int, ...]) -> tuple[str, ...]:
    of = depths(layers, e.n_layers)
    middle = ~of["early"] & ~of["late"]
    return tuple(
        name for name, some in (("early", of["early"]), ("middle", middle), ("late", of["late"])) if some.any()
    )


def knows_task(
    correct: Float[np.ndarray, "item"],
    *,
    task: str,
    chance: float = 0.0,
    clusters: Labels | None = None,
    seed: int = 0,
) -> str | None:
    """The precondition that the model does what it is asked: None if it does, else the sentence for `judge`.

    It does when it is right on at least MIN_ACCURACY of the items and its 95% interval lies above chance.
    """
    correct = np.asarray(correct, float)
    if not len(correct):
        return f"there is no item on which to see whether the model can {task}."
    [low] = Sample(correct[:, None], codes(range(len(correct)) if clusters is None else clusters)).bounds(seed=seed).low
    if correct.mean() >= MIN_ACCURACY and low > chance:
        return None
    share = f"{correct.mean():.0%} of {len(correct)} items (95% interval from {low:.0%})"
    return f"the model cannot {task}: it is right on {share}, and {MIN_ACCURACY:.0%} above chance is asked."

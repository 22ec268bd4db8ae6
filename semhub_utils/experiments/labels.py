"""How far is the own label ahead of the others? What similarity and label words of sounds are judged by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from semhub_utils.evidence import Evidence, control, evidence
from semhub_utils.experiments.common import DRAWS
from semhub_utils.models import LanguageModel
from semhub_utils.shuffles import least_permutation_p, random_pairings
from semhub_utils.spokes.audio import Clip

Label = tuple[str, ...]


@dataclass(frozen=True)
class Labels:
    """The different labels of some clips, each of one group. of: the label of each clip; different: no word in common;
    together: of one group; as_long: of as many words."""

    names: list[Label]
    of: Int[np.ndarray, " item"]
    different: Bool[np.ndarray, "label label"]
    together: Bool[np.ndarray, "label label"]
    as_long: Bool[np.ndarray, "label label"]

    @classmethod
    def made(cls, clips: Sequence[Clip], labels: Sequence[Label]) -> "Labels":
        pairs = list(zip((clip.group for clip in clips), labels, strict=True))
        every = list(dict.fromkeys(pairs))

        def matrix(holds) -> Bool[np.ndarray, "label label"]:
            return np.array([holds(a, b) for a in every for b in every], bool).reshape(len(every), len(every))

        return cls(
            [name for _, name in every],
            np.array([every.index(pair) for pair in pairs], int),
            matrix(lambda a, b: not set(a[1]) & set(b[1])),
            matrix(lambda a, b: a[0] == b[0]),
            matrix(lambda a, b: len(a[1]) == len(b[1])),
        )


def own(values: Float[np.ndarray, "item layer label"], of: Int[np.ndarray, " item"]) -> Float[np.ndarray, "item layer"]:
    """The number of each clip's own label."""
    return values[np.arange(len(values)), :, of]


def mean_of_others(
    values: Float[np.ndarray, "item layer label"], others: Bool[np.ndarray, "label label"]
) -> Float[np.ndarray, "item layer label"]:
    """For every label, the mean over those it is compared with; nan where there is none."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return values @ (others.T / others.sum(1))


def lead_evidence(
    model: LanguageModel,
    name: str,
    clips: Sequence[Clip],
    labels: Labels,
    found: Mapping[str, Float[np.ndarray, "item layer label"]],
    others: Bool[np.ndarray, "label label"],
    *,
    series: str,
    seed: int,
    **options,
) -> Evidence:
    """The own label's number minus the mean of the others', against labels shuffled among the clips of a group, those
    of one label together. found: the numbers of the clips (""), and of every control."""
    clusters, groups, index = [clip.cluster for clip in clips], [clip.group for clip in clips], np.arange(len(clips))
    given, n_layers, of = {"clusters": clusters, "seed": seed}, model.n_layers + 1, labels.of
    lead = {how: values - mean_of_others(values, others) for how, values in found.items()}
    scores, null, controls, least = own(lead[""], of), np.empty((0, n_layers)), {}, 0.0
    if np.isfinite(scores).all(1).any():
        pairings = random_pairings(len(clips), groups=groups, clusters=of, draws=DRAWS, seed=seed)
        null = np.stack([own(lead[""][index[p >= 0]], of[p[p >= 0]]).mean(0) for p in pairings if (p >= 0).any()])
        controls["embedding layer"] = control("embedding layer", scores[:, :1], n_layers_shown=n_layers, **given)
        controls |= {how: control(how, own(values, of), **given) for how, values in lead.items() if how}
        least = least_permutation_p(groups, of)
    return evidence(
        f"{name}/{series}",
        scores,
        null,
        least_p=least,
        layers=range(n_layers),
        n_layers=model.n_layers,
        experiment=name,
        series=series,
        controls=controls,
        null_in_words="labels shuffled among clips of a group",
        **given,
        **options,
    )

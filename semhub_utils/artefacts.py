"""Fake hubs: made-up states that look alike for reasons other than meaning, and how often the evidence is fooled.

A world is two sides of 120 pairs at 7 layers, with noise for all that differs. An artefact adds something else than
meaning to both sides. A planted truth adds, at layers 3 and 4, a vector of the pair's own (or of its concept's own).
Every artefact can be had without and with a truth under it; no model is needed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize

from semhub_utils.evidence import HOLDS, WEAKLY, Evidence, evidence, judge, sign_flip_null
from semhub_utils.experiments.alike import Alike
from semhub_utils.experiments.core import run
from semhub_utils.models import LanguageModel, randomised
from semhub_utils.organism.exam import wilson
from semhub_utils.shuffles import Labels, random_pairings
from semhub_utils.similarity import adjusted_cosine
from semhub_utils.spokes.items import Pair

PAIRS, LAYERS, HIDDEN = 120, 7, 48
TRUE_LAYERS = (3, 4)
KINDS = np.arange(PAIRS) % 4  # four lengths, last tokens or bands of frequency
N_CONCEPTS = 20
CONCEPTS = np.arange(PAIRS) % N_CONCEPTS
MODEST = 0.5  # a planted truth of half the noise's length: a cosine of 0.2
DRAWS = 199  # fewer than for a model's claims, as a chapter judges some hundred worlds

Side = Float[Tensor, "item layer hidden"]
Normal = Callable[..., Tensor]  # draws from the world's own generator
INSIDE = torch.arange(LAYERS)[:, None].gt(0).float()  # not in the embeddings


@dataclass(frozen=True)
class Artefact:
    """`groups` and `concepts` are what a careful experiment knows of its items: what to keep apart, and what is not
    independent. `truth` is the strength of a planted hub that the artefact does not drown."""

    name: str
    story: str
    spoil: Callable[[Normal, Side, Side], tuple[Side, Side]]
    truth: float = 1.5
    groups: np.ndarray | None = None
    concepts: np.ndarray | None = None

    def states(self, seed: int, strength: float = 0.0) -> tuple[Side, Side]:
        """Both sides of one world, drawn by `seed`; `strength` is the length of the planted vectors in units of the
        noise, and 0 plants none."""
        make = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=make)

        a, b = self.spoil(normal, normal(PAIRS, LAYERS, HIDDEN), normal(PAIRS, LAYERS, HIDDEN))
        meaning = normal(PAIRS, 1, HIDDEN) if self.concepts is None else normal(N_CONCEPTS, 1, HIDDEN)[CONCEPTS]
        planted = strength * meaning * torch.isin(torch.arange(LAYERS), torch.tensor(TRUE_LAYERS)).float()[:, None]
        return a + planted, b + planted


def _nothing(normal: Normal, a: Side, b: Side) -> tuple[Side, Side]:
    return a, b


def _punctuation(normal: Normal, a: Side, b: Side) -> tuple[Side, Side]:
    stop = 3 * normal(HIDDEN) * INSIDE
    return a + stop, b + stop


def _length(normal: Normal, a: Side, b: Side) -> tuple[Side, Side]:
    length = 2 * normal(4, 1, HIDDEN)[KINDS] * INSIDE
    return a + length, b + length


def _last_token(normal: Normal, a: Side, b: Side) -> tuple[Side, Side]:
    token = 2 * normal(4, 1, HIDDEN)[KINDS]
    return a + token, b + token


def _anisotropy(normal: Normal, a: Side, b: Side) -> tuple[Side, Side]:
    for side in (a, b):
        side[:, :, 7] += 60 + normal(PAIRS, LAYERS)
    return a, b


def _frequency(normal: Normal, a: Side, b: Side) -> tuple[Side, Side]:
    hub = normalize(normal(HIDDEN), dim=0)
    often_a, often_b = ((1.5 * normal(PAIRS, 1, 1)).exp() for _ in "ab")
    return often_a * (a + 12 * often_a * hub), often_b * (b + 12 * often_b * hub)


def _shared_frequency(normal: Normal, a: Side, b: Side) -> tuple[Side, Side]:
    hub = normalize(normal(HIDDEN), dim=0)
    often = torch.tensor([1.0, 4.0, 16.0, 64.0])[KINDS][:, None, None]
    return tuple(often * (side + often * hub * INSIDE) for side in (a, b))


def _few_concepts(normal: Normal, a: Side, b: Side) -> tuple[Side, Side]:
    common = 6 * normal(HIDDEN) * INSIDE
    return tuple(side + common + 4 * normal(N_CONCEPTS, LAYERS, HIDDEN)[CONCEPTS] for side in (a, b))


NOISE = Artefact("pure noise", "The two sides have nothing in common.", _nothing)
ARTEFACTS = (
    Artefact("final punctuation", "Every text ends in the same full stop: one direction in all states.", _punctuation),
    Artefact("equal length", "Long texts have long translations: a direction per length.", _length, groups=KINDS),
    Artefact(
        "common last token",
        "Both texts of a pair end in one of four tokens, and the state is read there: alike from the embeddings on.",
        _last_token,
        groups=KINDS,
    ),
    Artefact("anisotropy", "One huge coordinate in all states, as trained models have.", _anisotropy, truth=8.0),
    Artefact(
        "frequency", "Common words have long states near one direction, each side by itself.", _frequency, truth=8.0
    ),
    Artefact(
        "shared frequency",
        "The same, and translations are about as common as each other.",
        _shared_frequency,
        groups=KINDS,
    ),
    Artefact(
        "few concepts",
        "120 items speak of 20 things, six times each; each side has its own vector for a thing.",
        _few_concepts,
        truth=4.0,
        concepts=CONCEPTS,
    ),
)


def examine(
    a: Side,
    b: Side,
    *,
    groups: Labels | None = None,
    concepts: Labels | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Evidence:
    """The evidence that two sides share meaning, as for a model: adjusted cosine, partners shuffled within groups and
    by concept, the embedding layer as control."""
    scores = adjusted_cosine(a, b)
    null = scores.exchanged(random_pairings(len(a), groups=groups, clusters=concepts, draws=draws, seed=seed))
    layers = range(a.shape[1])
    controls = {"embedding layer": scores.own[:, :1]}
    return evidence(
        "similarity",
        scores.own,
        null,
        layers=layers,
        n_layers=layers[-1],
        clusters=concepts,
        controls=controls,
        seed=seed,
    )


def raw_cosine(a: Side, b: Side) -> Float[Tensor, "item layer"]:
    """The cosine of each pair, with nothing subtracted."""
    return torch.nn.functional.cosine_similarity(a, b, dim=-1)


def careful(artefact: Artefact, seed: int, strength: float = 0.0) -> Evidence:
    """The evidence in one world, with all that is known of its items."""
    a, b = artefact.states(seed, strength)
    return examine(a, b, groups=artefact.groups, concepts=artefact.concepts, seed=seed)


def careless(artefact: Artefact, seed: int, strength: float = 0.0) -> Evidence:
    """The same with any partner for any item, every item counted as independent, and no control."""
    return replace(examine(*artefact.states(seed, strength), seed=seed), controls={})


# What a chapter shows


def curves(seed: int) -> pd.DataFrame:
    """One world of each artefact by layer, column `artefact`: the fake's raw cosine, and what is left of fake and true
    hub when non-matches are subtracted, with interval and null."""
    tables = []
    for artefact in ARTEFACTS:
        a, b = artefact.states(seed)
        fake, true = careful(artefact, seed), careful(artefact, seed, artefact.truth)
        raw = raw_cosine(a, b).mean(0).numpy()
        columns = {"layer": fake.layers, "depth": np.array(fake.layers) / fake.n_layers}
        tables.append(pd.DataFrame({"series": "fake, raw cosine", "value": raw, **columns}))
        for name, e in (("fake, evidence", fake), ("true hub, evidence", true)):
            numbers = {"value": e.values, "low": e.low, "high": e.high, "p": e.p, "null_high": e.null_high}
            tables.append(pd.DataFrame({"series": name, **numbers, **columns}))
        for table in tables[-3:]:
            table["artefact"], table["n"] = artefact.name, PAIRS
    return pd.concat(tables, ignore_index=True).assign(experiment="artefact-curves")


def fake_trials(worlds: int, seed: int, kinds: Sequence[Artefact] = ARTEFACTS) -> tuple[pd.DataFrame, list[Evidence]]:
    """How often fakes and true hubs under them are called hubs, over `worlds` of each artefact.

    Rows: series (an artefact), reading, value: the fake's mean "raw cosine" at the middle layer where it is least, and
    the shares of worlds judged "holds" for the fake ("careless", "careful") and for the true hub ("truth"). Evidence
    over worlds: `raw`, the least of the fakes' raw cosines at a true layer minus that of a true hub of MODEST strength
    alone (control: pure noise in the fake's place); `told-apart`, the share of artefacts whose true hub holds minus
    that of those whose fake does (control: the careless reader).
    """
    at, seeds = TRUE_LAYERS[0], _seeds(worlds, seed)
    modest = np.array([float(raw_cosine(*NOISE.states(s, MODEST)).mean(0)[at]) for s in seeds])
    rows, raw, apart, careless_apart = [], [], [], []
    for artefact in kinds:
        cosines = np.array([raw_cosine(*artefact.states(s)).mean(0).numpy() for s in seeds])
        fakes = [careful(artefact, s) for s in seeds]
        known = artefact.groups is not None or artefact.concepts is not None
        truths = [careful(artefact, s, artefact.truth) for s in seeds]
        bare, bare_truths = (
            [
                careless(artefact, s, strength) if known else replace(e, controls={})
                for s, e in zip(seeds, some, strict=True)
            ]
            for some, strength in ((fakes, 0.0), (truths, artefact.truth))
        )
        least = cosines[:, 1:-1].mean(0).min()
        rows.append({"series": artefact.name, "reading": "raw cosine", "value": least, "n": worlds})
        rows += [
            _share(artefact.name, "careless", _verdicts(bare)),
            _share(artefact.name, "careful", _verdicts(fakes)),
            _share(artefact.name, "truth", _verdicts(truths)),
        ]
        raw.append(cosines[:, at])
        apart.append(_verdicts(truths).astype(float) - _verdicts(fakes))
        careless_apart.append(_verdicts(bare_truths).astype(float) - _verdicts(bare))
    nothing = np.array([float(raw_cosine(*NOISE.states(s)).mean(0)[at]) for s in seeds])
    scores = {"raw": np.min(raw, 0) - modest, "told-apart": np.mean(apart, 0)}
    beside = {"raw": ("pure noise", nothing - modest), "told-apart": ("careless reader", np.mean(careless_apart, 0))}
    units = {"raw": "cosine", "told-apart": "share of artefacts"}
    found = [
        evidence(
            name,
            values[:, None],
            sign_flip_null(values[:, None], seed=seed),
            layers=[at],
            n_layers=LAYERS - 1,
            controls={beside[name][0]: beside[name][1][:, None]},
            experiment="fakes",
            series="worlds",
            outcome=name == "told-apart",
            unit=units[name],
            null_in_words="the sign of each world's difference drawn by a coin",
            seed=seed,
        )
        for name, values in scores.items()
    ]
    return pd.DataFrame(rows).assign(experiment="fakes"), found


def noise_trials(worlds: int, seed: int) -> pd.DataFrame:
    """The share of worlds of pure noise that are called hubs: "holds", and "holds" or "holds weakly"."""
    found = [careful(NOISE, s) for s in _seeds(worlds, seed)]
    rows = [_share("pure noise", "careful", _verdicts(found))]
    rows.append(_share("pure noise", "careful, weakly", _verdicts(found, HOLDS, WEAKLY)))
    return pd.DataFrame(rows).assign(experiment="noise")


def power_trials(worlds: int, strengths: Sequence[float], pairs: Sequence[int], seed: int) -> pd.DataFrame:
    """The share of worlds whose planted hub is called one ("holds"), by strength and by number of pairs."""
    rows = []
    for n in pairs:
        for strength in strengths:
            sides = [[side[:n] for side in NOISE.states(s, strength)] for s in _seeds(worlds, seed)]
            found = [examine(a, b, seed=s) for (a, b), s in zip(sides, _seeds(worlds, seed), strict=True)]
            rows.append(_share(f"{n} pairs", "", _verdicts(found)) | {"strength": strength})
    return pd.DataFrame(rows).assign(experiment="power")


def random_weight_trials(model: LanguageModel, pairs: Sequence[Pair], *, models: int, seed: int) -> pd.DataFrame:
    """The similarity experiment on `models` models of random weights: one row each, with its verdict and the numbers at
    the layer that the verdict rests on. They have no random weights beside them as a control: they are that control."""
    rows = []
    for s in range(seed, seed + models):
        _, [e] = run(Alike(), randomised(model, s), pairs, series="random weights", seed=s, twins=())
        verdict = judge(e)
        row = {"series": f"seed {s}", "verdict": verdict.verdict, "n": e.n}
        if verdict.layer is not None:
            i = e.layers.index(verdict.layer)
            row |= {"layer": verdict.layer, "depth": verdict.layer / e.n_layers}
            row |= {"value": e.values[i], "low": e.low[i], "high": e.high[i], "p": e.p[i]}
        rows.append(row)
    return pd.DataFrame(rows).assign(experiment="random-weights")


def pooled(table: pd.DataFrame, name: str) -> dict[str, float | int | str]:
    """The shares of several rows as one, weighted by their worlds, with Wilson's 95% interval."""
    hits = int(round((table.value * table.n).sum()))
    return _row(name, "", hits, int(table.n.sum()))


def false_alarms(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row for each of several tables, by name, and one for all together, each `pooled`."""
    every = {**tables, "together": pd.concat(tables.values())}
    return pd.DataFrame([pooled(table, name) for name, table in every.items()])


def _seeds(worlds: int, seed: int) -> range:
    return range(seed * 100_000, seed * 100_000 + worlds)


def _verdicts(found: Sequence[Evidence], *wanted: str) -> Bool[np.ndarray, "world"]:
    return np.array([judge(e).verdict in (wanted or (HOLDS,)) for e in found])


def _share(series: str, reading: str, hits: Bool[np.ndarray, "world"]) -> dict[str, float | int | str]:
    return _row(series, reading, int(hits.sum()), len(hits))


def _row(series: str, reading: str, hits: int, n: int) -> dict[str, float | int | str]:
    low, high = wilson(hits, n)
    return {"series": series, "reading": reading, "value": hits / n, "low": low, "high": high, "n": n}

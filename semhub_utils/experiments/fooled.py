"""Can the instruments be fooled? Fake hubs, and the book's own claims where the truth is known.

A world is two sides of 120 pairs at 7 layers, with noise for all that differs. An artefact adds something else than
meaning to both sides. A planted truth adds, at layers 3 and 4, a vector of the pair's own (or of its concept's own).
Every artefact can be had without and with a truth under it; no model is needed.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from semhub_utils import evidence as rules
from semhub_utils.evidence import COSINE, Evidence, Labels, Unit, share, tidy
from semhub_utils.experiments import interventions
from semhub_utils.experiments.alike import Alike
from semhub_utils.experiments.core import run
from semhub_utils.experiments.instruments import numbers_of
from semhub_utils.experiments.raising import by_chance
from semhub_utils.models import LanguageModel, randomised
from semhub_utils.pairings import random_pairings
from semhub_utils.similarity import retrieval_accuracy, same_group
from semhub_utils.verdicts import HOLDS, WEAKLY, judge

# ---- made-up worlds ----

PAIRS, LAYERS, HIDDEN = 120, 7, 48
TRUE_LAYERS = (3, 4)
KINDS = np.arange(PAIRS) % 4  # four lengths, last tokens or bands of frequency
N_CONCEPTS = 20
CONCEPTS = np.arange(PAIRS) % N_CONCEPTS
GROUPED, SPOKEN = "which items share it", "what each speaks of"
MODEST = 0.5  # a planted truth of half the noise's length: a cosine of 0.2
DRAWS = 199  # fewer than for a model's claims, as a chapter judges some hundred worlds

Side = Float[Tensor, "item layer hidden"]
Normal = Callable[..., Tensor]  # draws from the world's own generator
INSIDE = torch.arange(LAYERS)[:, None].gt(0).float()  # not in the embeddings


@dataclass(frozen=True)
class Artefact:
    """spoil: draws what the sides share, and says what becomes of a side; its docstring is the story. `truth` is the
    strength of a planted hub that the artefact does not drown. `known` is what a careful experiment knows of its items:
    which to keep apart (GROUPED), or which are not independent (SPOKEN)."""

    name: str
    spoil: Callable[[Normal], Callable[[Side], Side]]
    truth: float = 1.5
    known: str = ""

    def states(self, seed: int, strength: float = 0.0) -> tuple[Side, Side]:
        """Both sides of one world, drawn by `seed`; `strength` is the length of the planted vectors in units of the
        noise, and 0 plants none."""
        make = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=make)

        sides = normal(PAIRS, LAYERS, HIDDEN), normal(PAIRS, LAYERS, HIDDEN)
        spoil = self.spoil(normal)
        a, b = map(spoil, sides)
        meaning = normal(N_CONCEPTS, 1, HIDDEN)[CONCEPTS] if self.known == SPOKEN else normal(PAIRS, 1, HIDDEN)
        hidden = strength * meaning * torch.isin(torch.arange(LAYERS), torch.tensor(TRUE_LAYERS)).float()[:, None]
        return a + hidden, b + hidden


def _punctuation(normal: Normal) -> Callable[[Side], Side]:
    """Every text ends in the same full stop: one direction in all states."""
    return partial(torch.add, 3 * normal(HIDDEN) * INSIDE)


def _length(normal: Normal) -> Callable[[Side], Side]:
    """Long texts have long translations: a direction per length."""
    return partial(torch.add, 2 * normal(4, 1, HIDDEN)[KINDS] * INSIDE)


def _last_token(normal: Normal) -> Callable[[Side], Side]:
    """Both texts of a pair end in one of four tokens, and the state is read there: alike from the embeddings on."""
    return partial(torch.add, 2 * normal(4, 1, HIDDEN)[KINDS])


def _anisotropy(normal: Normal) -> Callable[[Side], Side]:
    """One huge coordinate in all states, as trained models have."""
    return lambda side: side + (60 + normal(PAIRS, LAYERS, 1)) * torch.eye(HIDDEN)[7]


def _frequency(normal: Normal) -> Callable[[Side], Side]:
    """Common words have long states near one direction, each side by itself."""
    hub = 12 * normalize(normal(HIDDEN), dim=0)
    return lambda side: (often := (1.5 * normal(PAIRS, 1, 1)).exp()) * (side + often * hub)


def _shared_frequency(normal: Normal) -> Callable[[Side], Side]:
    """The same, and translations are about as common as each other."""
    hub, often = normalize(normal(HIDDEN), dim=0) * INSIDE, 4.0 ** torch.arange(4)[KINDS, None, None]
    return lambda side: often * (side + often * hub)


def _few_concepts(normal: Normal) -> Callable[[Side], Side]:
    """120 items speak of 20 things, six times each; each side has its own vector for a thing."""
    common = 6 * normal(HIDDEN) * INSIDE
    return lambda side: side + common + 4 * normal(N_CONCEPTS, LAYERS, HIDDEN)[CONCEPTS]


NOISE = Artefact("pure noise", lambda normal: lambda side: side)
ARTEFACTS = (
    Artefact("final punctuation", _punctuation),
    Artefact("equal length", _length, known=GROUPED),
    Artefact("common last token", _last_token, known=GROUPED),
    Artefact("anisotropy", _anisotropy, truth=8.0),
    Artefact("frequency", _frequency, truth=8.0),
    Artefact("shared frequency", _shared_frequency, known=GROUPED),
    Artefact("few concepts", _few_concepts, truth=4.0, known=SPOKEN),
)


def examine(
    a: Side, b: Side, *, groups: Labels | None = None, concepts: Labels | None = None, seed: int = 0
) -> Evidence:
    """The evidence that two sides share meaning, as for a model: whether the partner is the nearest within its group,
    partners shuffled within groups and by concept, the middle against the first layers and the last."""
    mask = None if groups is None else same_group(groups)
    scores, layers = retrieval_accuracy(a, b, mask, over_chance=True), range(a.shape[1])
    null = scores.exchanged(random_pairings(len(a), groups=groups, clusters=concepts, draws=DRAWS, seed=seed))
    about = {"layers": layers, "n_layers": layers[-1], "units": concepts, "seed": seed, "unit": Unit.share("pairs")}
    controls = {"embedding layer": scores.own[:, :1]}
    return rules.evidence(
        "similarity",
        scores.own,
        lambda columns, first, end: [null[first:end] @ columns],
        controls=controls,
        shape=True,
        outcome=True,
        **about,
    )


def raw_cosine(a: Side, b: Side) -> Float[Tensor, "item layer"]:
    """The cosine of each pair, with nothing subtracted."""
    return cosine_similarity(a, b, dim=-1)


def look(artefact: Artefact, seed: int, strength: float = 0.0, *, careless: bool = False) -> Evidence:
    """The evidence in one world, with all that is known of its items. careless: with any partner for any item, every
    item counted as independent, and nothing to be above."""
    a, b = artefact.states(seed, strength)
    if careless:
        return replace(examine(a, b, seed=seed), controls={}, contrasts={})
    known = {GROUPED: {"groups": KINDS}, SPOKEN: {"concepts": CONCEPTS}}.get(artefact.known, {})
    return examine(a, b, **known, seed=seed)


def curves(seed: int) -> pd.DataFrame:
    """One world of each artefact by layer, column `artefact`: the fake's raw cosine, and what is left of fake and true
    hub when non-matches are subtracted, with interval and null."""
    tables = []
    for kind in ARTEFACTS:
        raw = raw_cosine(*kind.states(seed)).mean(0).numpy()
        fake = {"series": "fake, raw cosine", "value": raw, "layer": range(LAYERS), "n": PAIRS}
        seen = {"fake, evidence": look(kind, seed), "true hub, evidence": look(kind, seed, kind.truth)}
        found = tidy([replace(e, series=name, controls={}) for name, e in seen.items()])
        tables.append(pd.concat([pd.DataFrame(fake), found]).assign(artefact=kind.name))
    table = pd.concat(tables, ignore_index=True)
    return table.assign(experiment="artefact-curves", depth=table.layer / (LAYERS - 1))


def fake_trials(worlds: int, seed: int, kinds: Sequence[Artefact] = ARTEFACTS) -> tuple[pd.DataFrame, list[Evidence]]:
    """How often fakes and true hubs under them are called hubs, over `worlds` of each artefact.

    Rows by artefact: the fake's mean "raw cosine" at the middle layer where it is least, and the shares of worlds that
    "hold": of the fake ("careless", "careful"), and of the true hub ("truth"). Claims: `raw`, the least of the fakes'
    raw cosines at a true layer minus that of a true hub of MODEST strength alone (control: pure noise in the fake's
    place); `told-apart`, the share of artefacts whose true hub holds minus that of those whose fake does (control: the
    careless reader).
    """
    seeds, at, rows = _seeds(worlds, seed), TRUE_LAYERS[0], []

    def cosines(kind: Artefact, strength: float = 0.0) -> Float[np.ndarray, "world layer"]:
        return np.array([raw_cosine(*kind.states(s, strength)).mean(0).numpy() for s in seeds])

    def called(kind: Artefact, strength: float, careless: bool) -> Float[np.ndarray, " world"]:
        return np.array([judge(look(kind, s, strength, careless=careless)).verdict == HOLDS for s in seeds], float)

    raw, apart = [], {False: [], True: []}
    for kind in kinds:
        of = cosines(kind)
        rows.append({"series": kind.name, "reading": "raw cosine", "value": of[:, 1:-1].mean(0).min(), "n": worlds})
        raw.append(of[:, at])
        for careless, by_kind in apart.items():
            fake, true = (called(kind, strength, careless) for strength in (0.0, kind.truth))
            told = {"careless": fake} if careless else {"careful": fake, "truth": true}
            rows += [{"series": kind.name, "reading": name} | share(int(of.sum()), worlds) for name, of in told.items()]
            by_kind.append(true - fake)
    modest, nothing = cosines(NOISE, MODEST)[:, at], cosines(NOISE)[:, at]
    noise, reader = (of[:, None] for of in (nothing - modest, np.mean(apart[True], 0)))
    raws = {"scores": np.min(raw, 0) - modest, "controls": {"pure noise": noise}, "unit": COSINE, "outcome": False}
    aparts = {
        "scores": np.mean(apart[False], 0),
        "controls": {"careless reader": reader},
        "unit": Unit.share("artefacts"),
    }
    about = {"n_layers": LAYERS - 1, "null_in_words": interventions.BY_CHANCE, "seed": seed}
    found = [by_chance("fakes", "worlds", claim="raw", **raws, **about)]
    found.append(by_chance("fakes", "worlds", claim="told-apart", **aparts, **about))
    return pd.DataFrame(rows).assign(experiment="fakes"), found


def noise_trials(worlds: int, seed: int) -> pd.DataFrame:
    """The share of worlds of pure noise that are called hubs: "holds", and "holds" or "holds weakly"."""
    found = [judge(look(NOISE, s)).verdict for s in _seeds(worlds, seed)]
    hits = {"careful": found.count(HOLDS), "careful, weakly": found.count(HOLDS) + found.count(WEAKLY)}
    table = pd.DataFrame({"reading": name} | share(n, worlds) for name, n in hits.items())
    return table.assign(experiment="noise", series="pure noise")


def power_trials(worlds: int, strengths: Sequence[float], pairs: Sequence[int], seed: int) -> pd.DataFrame:
    """The share of worlds whose planted hub is called one ("holds"), by strength and by number of pairs."""
    rows = []
    for n, strength in itertools.product(pairs, strengths):
        sides = {s: [side[:n] for side in NOISE.states(s, strength)] for s in _seeds(worlds, seed)}
        hits = sum(judge(examine(*of, seed=s)).verdict == HOLDS for s, of in sides.items())
        rows.append({"series": f"{n} pairs", "strength": strength} | share(hits, worlds))
    return pd.DataFrame(rows).assign(experiment="power", reading="")


def false_alarms(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The shares of each of several tables as one, by name, and those of all together, weighted by their worlds."""
    every = {**tables, "together": pd.concat(tables.values())}
    rows = [{"series": name} | share(round((t.value * t.n).sum()), int(t.n.sum())) for name, t in every.items()]
    return pd.DataFrame(rows).assign(experiment="alarms")


def random_weight_trials(model: LanguageModel, pairs: Sequence, *, models: int, seed: int) -> pd.DataFrame:
    """The similarity experiment on `models` models of random weights: one row each, with its verdict and the numbers at
    the layer that the verdict rests on. They have no random weights beside them as a control: they are that control."""
    rows = []
    for s in range(seed, seed + models):
        _, [e, *_] = run(Alike(), randomised(model, s), pairs, series="random weights", seed=s, twins=(), brief=True)
        rows.append({"series": f"seed {s}", "verdict": judge(e).verdict} | numbers_of(e, there=True))
    columns = "series verdict value low high p n layer depth".split()  # without a number where none can be tested
    return pd.DataFrame(rows, columns=columns).assign(experiment="random-weights")


def _seeds(worlds: int, seed: int) -> range:
    return range(seed * 100_000, seed * 100_000 + worlds)

"""Can the instruments be fooled? Fake hubs, and the book's own claims where the truth is known.

A world is two sides of 120 pairs at 7 layers, with noise for all that differs. An artefact adds something else than
meaning to both sides. A planted truth adds, at layers 3 and 4, a vector of the pair's own (or of its concept's own).
Every artefact can be had without and with a truth under it; no model is needed.

Three tables are committed. truth: what must be seen in each organism. alarms: every claim of a hub on models without
one: random weights, islands, a hub whose words were exchanged. power: the same on the planted hub, its words ever
noisier. Claims are judged without the precondition that the model can do the task, and without random weights beside.
"""

import itertools
import json
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize
from tqdm.auto import tqdm

from semhub_utils import evidence as rules
from semhub_utils import identity
from semhub_utils.errors import need, need_one_of
from semhub_utils.evidence import COSINE, WEAK_ALPHA, Evidence, Labels, Unit, share, tidy
from semhub_utils.experiments import interventions, layers, words
from semhub_utils.experiments.alike import Alike
from semhub_utils.experiments.core import run
from semhub_utils.experiments.raising import by_chance
from semhub_utils.identity import of_model, program
from semhub_utils.loading import load_model
from semhub_utils.models import LanguageModel, randomised
from semhub_utils.organism import llama
from semhub_utils.organism.world import MAX_RESULT, World
from semhub_utils.pairings import random_pairings
from semhub_utils.similarity import retrieval_accuracy, same_group
from semhub_utils.spokes import arithmetic, facts, languages
from semhub_utils.verdicts import ALPHA, HOLDS, UNTESTABLE, WEAKLY, judge

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
        _, [e, *_] = run(Alike(), randomised(model, s), pairs, series="random weights", seed=s, twins=())
        rows.append({"series": f"seed {s}", "verdict": judge(e).verdict} | _numbers(e, there=True))
    return pd.DataFrame(rows).assign(experiment="random-weights")


def _seeds(worlds: int, seed: int) -> range:
    return range(seed * 100_000, seed * 100_000 + worlds)


# ---- where the truth is known: what is asked ----

PARTS = ("truth", "alarms", "power")
DATA = Path(str(files("semhub_utils"))) / "data"
RANDOM = "random weights"
SERIES = (*facts.TYPES, "arithmetic")
LINES, COUNTED = 40, 1000  # of running text: read, and counted to tell its type by
ITEMS, FEWER = 200, 100  # prompts a type: in truth; and in steering, alarms and power, which take longer
STRENGTHS, FEWER_STRENGTHS = interventions.Steering().strengths, (1.0, 2.0)
RANDOM_SEEDS, ALARM_SEEDS, EXCHANGE_SEEDS, NOISE_SEEDS = range(2), range(100, 120), range(10), range(4)
NOISES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)  # in standard deviations of the English rows
NOISY_SERIES = ("spanish", "code", "digits")
NO_HUB = ("lens-end", "layers-end", "layers-lead")  # no claims of one, or said by another already

MUST, ABSENT = ("p", "below", ALPHA), ("p", "not below", WEAK_ALPHA)
FEW, CHANCE = ("value", "at most", 0.05), ("low", "at most", "chance")
HALF, SOME, MORE, MOST, ALL = (("value", "at least", least) for least in (0.5, 0.6, 0.7, 0.8, 0.95))
KNOWN = ("planted", "hub", "islands", RANDOM)
DEMANDS = {
    "taught": (ALL, ALL, ALL, CHANCE),
    "held out": (MOST, MORE, CHANCE, CHANCE),
    "held out, opposites": (MOST, HALF, CHANCE, CHANCE),
    "held out, properties": (MOST, HALF, CHANCE, CHANCE),
    "similarity": (MUST, MUST, ABSENT, ABSENT),
    "depth of the peak, from the middle": (("value", "at most", 1 / 6),),
    "above the last layer": (("low", "above", 0.0), ("low", "above", 0.0)),
    "above the first layers": (("low", "above", 0.0), ("low", "above", 0.0)),
    "lens-meaning": (MUST, MUST, ABSENT, ABSENT),
    "lens-lead": (MUST, MUST, ABSENT, ABSENT),
    "lens-end": (MUST, MUST),
    "steering": (SOME, SOME, FEW, FEW),
}
"""By row of the table, of KNOWN: what issue and book ask for, fixed before any run (column, comparison, number)."""
MET = {"at least": operator.ge, "at most": operator.le, "above": operator.gt}
MET |= {"below": operator.lt, "not below": operator.ge}


def claims(model: LanguageModel, series: str, n: int, seed: int, strengths: Sequence[float]) -> dict[str, Evidence]:
    """The evidence for every claim of a hub in one type of held-out facts, or in "arithmetic", as in the chapters; by
    experiment. strengths: of the pushes."""
    if series == "arithmetic":
        chosen, hub, own = arithmetic.items(n, seed, MAX_RESULT + 1), "word", "digit"
        pairs, prompts = arithmetic.similarity_pairs(chosen), arithmetic.lens_items(chosen)
        pushed = arithmetic.steering_items(arithmetic.items(2 * FEWER, seed, MAX_RESULT + 1))  # half are fit for it
        more = words.Trajectory(arithmetic.trajectory_words(), hub, own), prompts
    else:
        chosen, hub, own = facts.prompts(series, n, seed=seed), "english", "own"
        pairs, prompts = facts.similarity_pairs(chosen), facts.lens_items(chosen)
        pushed = facts.steering_items(facts.prompts(series, FEWER, seed=seed), seed=seed)
        more = layers.Shares(series), _texts(seed)
    push = interventions.Steering(strengths=tuple(strengths))
    found: dict[str, Evidence] = {}
    for experiment, items in ((Alike(), pairs), (words.Lens(hub, own), prompts), more, (push, pushed)):
        twins = None if experiment is push else ()
        for e in run(experiment, model, items, series=series, seed=seed, twins=twins)[1]:
            found.setdefault(e.experiment, e)
    return found


@cache
def _texts(seed: int) -> list[languages.TypeTexts]:
    return languages.split_texts(LINES, COUNTED, seed=seed)


def verdicts(model: LanguageModel, label: dict, series: Sequence[str] = SERIES) -> pd.DataFrame:
    """One row per claim of a hub, as judged. label: columns that every row gets, "seed" among them."""
    rows = []
    for name in series:
        for what, e in claims(model, name, FEWER, label["seed"], FEWER_STRENGTHS).items():
            if what not in NO_HUB:
                rows.append(label | {"type": name, "experiment": what, "verdict": judge(e).verdict} | _numbers(e))
    return pd.DataFrame(rows)


def _numbers(e: Evidence, there: bool = False) -> dict[str, float]:
    """The numbers at the layer the verdict rests on; p is the least of the window, as the claim is about any layer, or
    that which is `there`."""
    layer = judge(e).layer
    if layer is None:
        return {"n": e.n}
    i = e.layers.index(layer)
    p = e.p[i] if there else min(e.p[k] for k, at in enumerate(e.layers) if at in e.window)
    numbers = {"value": e.values[i], "low": e.low[i], "high": e.high[i], "p": p, "n": e.n}
    return numbers | {"layer": layer, "depth": layer / e.n_layers}


def seen(
    model: LanguageModel, world: World, *, name: str, seed: int, types: Sequence[str] = tuple(facts.TYPES)
) -> pd.DataFrame:
    """The rows of `truth` for one model: what is demanded of it, and whether that is met."""
    measured = [(type_, *of) for type_ in types for of in _seen(model, world, type_)]
    label = {"model": name, "seed": seed}
    return pd.DataFrame(
        label | {"row": row, "type": of} | demanded(row, name, numbers) for of, row, numbers in measured
    )


def demanded(row: str, model: str, numbers: dict[str, Any]) -> dict[str, Any]:
    """The numbers with what is asked of a model in a row, in words, and whether they meet it, if they were measured."""
    column, how, bound = dict(zip(KNOWN, DEMANDS.get(row, ()), strict=False)).get(model, ("", "", 0.0))
    if column:
        numbers |= {"demanded": bound if bound == "chance" else f"{column} {how} {bound:.2g}"}
    if pd.notna(numbers.get(column)):
        numbers["met"] = bool(MET[how](numbers[column], numbers.get(bound, bound)))
    return numbers


def _seen(model: LanguageModel, world: World, type_: str) -> Iterator[tuple[str, dict[str, float]]]:
    groups = ("sums",) if type_ == "digits" else ("facts", "opposites", "properties")
    marks = llama.exam(model.module, model.tokenizer, world, types=[facts.TYPES[type_]])
    marks = marks[marks.group.isin(groups)]
    for taught in llama.scores(marks[~marks.held_out], ["type"]).drop(columns="type").to_dict("records"):
        yield "taught", taught
    for row in llama.scores(marks[marks.held_out], ["group"]).to_dict("records"):
        group = row.pop("group")
        yield "held out" if group in ("facts", "sums") else f"held out, {group}", row
    found = claims(model, type_, ITEMS, 0, STRENGTHS)
    for row in ("similarity", "lens-meaning", "lens-lead", "lens-end", "steering"):
        yield row, _numbers(found[row])
    e = found["similarity"]
    peak = int(np.argmax(e.values))
    numbers = {"n": e.n, "layer": e.layers[peak], "depth": e.layers[peak] / e.n_layers}
    yield "depth of the peak, from the middle", {"value": abs(numbers["depth"] - 0.5)} | numbers
    for name, contrast in e.contrasts.items():
        yield f"above the {name}", {"value": contrast.value, "low": contrast.low, "high": contrast.high, "n": e.n}


# ---- the tables ----

Piece = tuple[str, Callable[[], LanguageModel], Callable[[LanguageModel], pd.DataFrame]]  # label, model, what measures
Trained = dict[tuple[str, int], tuple[Path, World]]  # by the name and seed on their cards


def read(name: str, folder: Path = DATA) -> pd.DataFrame:
    """A table, "truth", "alarms" or "power", by default of those committed. SemhubError for another name, or where
    there is none yet."""
    need_one_of(name, PARTS, f"There is no table {name!r}")
    path = folder / f"{name}.csv"
    need(path.is_file(), f"The table {name!r} is not there; `semhub calibrate --part {name}` would make it.")
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


def shares(table: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Per group of `by`, the share of claims judged "holds", with Wilson's 95% interval, and how many there were; what
    could not be tested is no claim."""
    tested = table[table.verdict != UNTESTABLE].groupby([*by], sort=False)
    hits = ((key, int((some.verdict == HOLDS).sum()), len(some)) for key, some in tested)
    return pd.DataFrame(dict(zip(by, key, strict=True)) | share(*of) for key, *of in hits)


def rates(part: str) -> pd.DataFrame:
    """What a chart shows of the table of alarms (by experiment and kind of model) or power (and by noise)."""
    names = {"experiment": "series"} | {"alarms": {"model": "reading"}, "power": {"noise": "strength"}}[part]
    return shares(read(part), [*names]).rename(columns=names).assign(experiment=f"real-{part}")


def trained(folder: Path | None = None) -> Trained:
    """The shipped organisms, and those trained into subfolders of `folder` that ship under no such name and seed."""
    found, there = {}, [identity.organism_path(name) for name in identity.available()]
    there += sorted(path.parent for path in folder.glob(f"*/{identity.CARD}")) if folder else []
    for path in there:
        card = json.loads((path / identity.CARD).read_text("utf-8"))
        if "recipe" in card:  # else a sense: its trunk stands here by itself
            found.setdefault((card["name"], card["seed"]), (path, World(**card["recipe"]["world"])))
    return dict(sorted(found.items()))


def pieces(part: str, known: Trained) -> Iterator[Piece]:
    """What a table is made of, given the models there are."""
    load = {who: partial(load_model, str(path), device="cpu", check=False) for who, (path, _) in known.items()}
    hub = load["hub", 0]()
    if part == "truth":
        for (name, seed), make in load.items():
            yield f"{name}-{seed}", make, partial(seen, world=known[name, seed][1], name=name, seed=seed)
        blank = partial(seen, world=World(), name=RANDOM)
        yield from ((f"random-weights-{s}", partial(randomised, hub, s), partial(blank, seed=s)) for s in RANDOM_SEEDS)
    elif part == "alarms":
        # Exchanged words are English words still: whose words the lens reads stays true, and so does "8=8*" for "one".
        kept = {"series": tuple(facts.TYPES)}
        made = [(RANDOM, seed, partial(randomised, hub, seed), {}) for seed in ALARM_SEEDS]
        made += [("hub, words exchanged", seed, partial(llama.exchanged, hub, seed), kept) for seed in EXCHANGE_SEEDS]
        made += [(name, seed, load[name, seed], {}) for name, seed in known if name == "islands"]
        for kind, seed, make, given in made:
            measure = partial(verdicts, label={"model": kind, "seed": seed}, **given)
            yield f"{identity.slug(kind)}-{seed}", make, measure
    else:
        base = "planted" if ("planted", 0) in known else "hub"
        model = load[base, 0]()
        for noise, seed in itertools.product(NOISES, NOISE_SEEDS):
            label = {"model": base, "noise": noise, "seed": seed}
            measure = partial(verdicts, label=label, series=NOISY_SERIES)
            yield f"{base}-noise-{noise}-{seed}", partial(llama.noisier, model, noise, seed), measure


def calibrate(
    folder: Path | None = None,
    *,
    parts: Sequence[str] = PARTS,
    out: Path | None = None,
    fresh: bool = False,
    say: Callable[[str], None] = print,
) -> list[Path]:
    """Measure what is missing and write the tables to `out` (the package's data by default); their paths.

    `folder` holds trained organisms beside the shipped ones. Finished pieces are kept below results/calibration, under
    a name that holds the fingerprints of program and model, and taken from there unless `fresh`. Says which organisms
    are missing; SemhubError without a hub, whose architecture all is about.
    """
    known, written, work = trained(folder), [], Path("results") / "calibration" / program(__name__)
    need(("hub", 0) in known, "There is no organism 'hub' of seed 0; `semhub train hub` would make it.")
    for name in ("hub", "planted", "islands", "balanced"):
        seeds = ", ".join(str(seed) for of, seed in known if of == name)
        say(f"{name}: " + (f"seeds {seeds}" if seeds else "missing, left out"))
    for part in parts:
        tables = []
        for label, make, measure in tqdm([*pieces(part, known)], desc=part, unit="model"):
            model = make()
            path = work / part / f"{label}-{of_model(model)}.csv"
            if fresh or not path.is_file():
                _write(measure(model), path)
            tables.append(pd.read_csv(path, keep_default_na=False, na_values=[""]))
        written.append(_write(pd.concat(tables, ignore_index=True), (out or DATA) / f"{part}.csv"))
    return written


def _write(table: pd.DataFrame, path: Path) -> Path:
    """Four significant digits."""
    return identity.atomically(path, lambda to: table.to_csv(to, index=False, float_format="%.4g"))

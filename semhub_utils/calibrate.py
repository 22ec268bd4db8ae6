"""Are the instruments right where the truth is known? Three tables, made by one command and committed.

truth: what must be seen in each organism, measured on held-out items by the book's own experiments.
alarms: every claim of a hub, on models without one: random weights, islands, and a hub whose words were exchanged.
power: the same claims on the planted hub (on the grown one where there is none), its words ever noisier.

Claims are judged without the precondition that the model can do the task, and without a second set of random weights as
a control, so that the instruments are tested alone. A finished piece is kept, under a name that holds the fingerprints
of program and model, and is not computed again.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from semhub_utils import zoo
from semhub_utils.errors import SemhubError
from semhub_utils.evidence import ALPHA, DRAWS, HOLDS, UNTESTABLE, WEAK_ALPHA, Evidence, evidence, judge, wilson
from semhub_utils.experiments import interventions, layers, words
from semhub_utils.experiments.alike import Alike
from semhub_utils.experiments.core import run
from semhub_utils.fingerprint import program
from semhub_utils.loading import load_model
from semhub_utils.models import LanguageModel, randomised
from semhub_utils.organism import planted
from semhub_utils.organism.llama import exam
from semhub_utils.organism.world import MAX_RESULT, World
from semhub_utils.shuffles import random_pairings
from semhub_utils.similarity import retrieval_accuracy
from semhub_utils.spokes import arithmetic, facts, languages
from semhub_utils.states import hidden_states

PARTS = ("truth", "alarms", "power")
RANDOM = "random weights"
EXCHANGED = "hub, words exchanged"
SERIES = (*facts.TYPES, "arithmetic")
LINES, COUNTED = 40, 1000  # of running text: read, and counted to tell its type by
ITEMS, FEWER = 200, 100  # prompts a type: in truth; and in steering, alarms and power, which take longer
STEERING = interventions.Steering()
FEWER_PUSHES = interventions.Steering(strengths=(1.0, 2.0))  # in alarms and power
RANDOM_SEEDS, ALARM_SEEDS, EXCHANGE_SEEDS, NOISE_SEEDS = range(2), range(100, 120), range(10), range(4)
NOISES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)  # in standard deviations of the English rows
NOISY_SERIES = ("spanish", "code", "digits")

MUST, ABSENT = ("p", "below", ALPHA), ("p", "not below", WEAK_ALPHA)
AT_MOST, CHANCE = ("value", "at most", 0.05), ("low", "at most", "chance")


def _at_least(share: float) -> tuple:
    return "value", "at least", share


DEMANDS = {
    "taught": {"planted": _at_least(0.95), "hub": _at_least(0.95), "islands": _at_least(0.95), RANDOM: CHANCE},
    "held out": {"planted": _at_least(0.8), "hub": _at_least(0.7), "islands": CHANCE, RANDOM: CHANCE},
    "held out, opposites": {"planted": _at_least(0.8), "hub": _at_least(0.5), "islands": CHANCE, RANDOM: CHANCE},
    "held out, properties": {"planted": _at_least(0.8), "hub": _at_least(0.5), "islands": CHANCE, RANDOM: CHANCE},
    "similarity": {"planted": MUST, "hub": MUST, "islands": ABSENT, RANDOM: ABSENT},
    "depth of the peak, from the middle": {"planted": ("value", "at most", 1 / 6)},
    "fall at the end": {"planted": ("low", "above", 0.0)},
    "retrieval": {"planted": _at_least(0.8), "hub": _at_least(0.8), "islands": ABSENT, RANDOM: ABSENT},
    "lens-meaning": {"planted": MUST, "hub": MUST, "islands": ABSENT, RANDOM: ABSENT},
    "lens-lead": {"planted": MUST, "hub": MUST, "islands": ABSENT, RANDOM: ABSENT},
    "lens-end": {"planted": MUST, "hub": MUST},
    "steering": {"planted": _at_least(0.6), "hub": _at_least(0.6), "islands": AT_MOST, RANDOM: AT_MOST},
}
"""Row of the table -> model -> (column, comparison, number): what issue and book ask for, fixed before any run."""


@dataclass(frozen=True)
class Organism:
    """One trained model: who it is, by its card, and where."""

    name: str
    seed: int
    path: Path

    @property
    def world(self) -> World:
        return World(**json.loads((self.path / zoo.CARD).read_text("utf-8"))["recipe"]["world"])

    def load(self) -> LanguageModel:
        return load_model(str(self.path), device="cpu", check=False)


@dataclass(frozen=True)
class Piece:
    """One model's share of a table: its label, the model, and what measures it."""

    label: str
    model: Callable[[], LanguageModel]
    measure: Callable[[LanguageModel], pd.DataFrame]


def read(name: str) -> pd.DataFrame:
    """A committed table: truth, alarms or power. SemhubError for another name, or where there is none yet."""
    if name not in PARTS:
        raise SemhubError(f"There is no table {name!r}; one of {', '.join(PARTS)} would do.")
    path = _data() / f"{name}.csv"
    if not path.is_file():
        raise SemhubError(f"The table {name!r} is not there; `semhub calibrate --part {name}` would make it.")
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


def shares(table: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Per group of `by`, the share of claims judged "holds", with Wilson's 95% interval, and how many there were; what
    could not be tested is no claim."""
    tested = table[table.verdict != UNTESTABLE]
    rows = []
    for key, some in tested.groupby(list(by), sort=False):
        hits, n = int((some.verdict == HOLDS).sum()), len(some)
        low, high = wilson(hits, n)
        rows.append(dict(zip(by, key, strict=True)) | {"value": hits / n, "low": low, "high": high, "n": n})
    return pd.DataFrame(rows)


def organisms(folder: Path | None = None) -> list[Organism]:
    """The shipped organisms, and those trained into subfolders of `folder` that ship under no such name and seed."""
    there = [zoo.organism_path(name) for name in zoo.available()]
    if folder is not None:
        there += sorted(path.parent for path in Path(folder).glob(f"*/{zoo.CARD}"))
    found: dict[tuple[str, int], Organism] = {}
    for path in there:
        card = json.loads((path / zoo.CARD).read_text("utf-8"))
        if "recipe" not in card:
            continue  # a sense: its trunk stands here by itself
        found.setdefault((card["name"], card["seed"]), Organism(card["name"], card["seed"], path))
    return [found[key] for key in sorted(found)]


# What is measured


def claims(
    model: LanguageModel, series: str, *, n: int, seed: int, steering: interventions.Steering = STEERING
) -> list[Evidence]:
    """The evidence for every claim of a hub in one type of held-out facts, or in "arithmetic", as in the chapters."""
    if series == "arithmetic":
        chosen = arithmetic.items(n, seed, MAX_RESULT + 1)
        pairs, read_for, hub, own = arithmetic.similarity_pairs(chosen), arithmetic.lens_items(chosen), "word", "digit"
        steered = arithmetic.steering_items(arithmetic.items(2 * FEWER, seed, MAX_RESULT + 1))  # half are fit for it
    else:
        chosen = facts.prompts(series, n, seed=seed)
        pairs, read_for, hub, own = facts.similarity_pairs(chosen), facts.lens_items(chosen), "english", "own"
        steered = facts.steering_items(facts.prompts(series, FEWER, seed=seed), seed=seed)
    given = {"series": series, "seed": seed}
    given_words = {"series": series, "seed": seed, "twins": ()}
    found = run(Alike(), model, pairs, **given_words)[1]
    found += run(words.Lens(hub, own), model, read_for, **given_words)[1]
    if series == "arithmetic":
        plane = words.Trajectory(arithmetic.trajectory_words(), hub, own)
        found += run(plane, model, read_for, **given_words)[1]
    else:
        texts = [t if t.name in ("english", series) else replace(t, read=()) for t in _texts(seed)]
        heard = run(layers.Shares(series), model, texts, **given_words)[1]
        found += [e for e in heard if e.experiment == "layers-hub"]
    return found + run(steering, model, steered, **given)[1][:1]


@cache
def _texts(seed: int) -> list[languages.TypeTexts]:
    return languages.split_texts(LINES, COUNTED, seed=seed)


def verdicts(
    model: LanguageModel, *, label: dict, series: Sequence[str] = SERIES, seed: int = 0, leave_out: Sequence[str] = ()
) -> pd.DataFrame:
    """One row per claim of a hub, as judged. That the own token is ahead at the end (`lens-end`) claims no hub."""
    rows = []
    for name in series:
        for e in claims(model, name, n=FEWER, seed=seed, steering=FEWER_PUSHES):
            if e.experiment not in ("lens-end", *leave_out):
                row = {"type": name, "experiment": e.experiment, "verdict": judge(e).verdict}
                rows.append(label | row | _numbers(e))
    return pd.DataFrame(rows)


def seen(model: LanguageModel, world: World, *, name: str, seed: int, types: Sequence[str] = tuple(facts.TYPES)):
    """The rows of `truth` for one model: what is demanded of it, and whether that is met."""
    rows = []
    for type_ in types:
        for row, numbers in _seen(model, world, type_):
            column, how, bound = DEMANDS.get(row, {}).get(name, ("", "", None))
            row = {"model": name, "seed": seed, "row": row, "type": type_} | numbers
            if column:
                row["demanded"] = "chance" if bound == "chance" else f"{column} {how} {bound:.2g}"
            if column and pd.notna(row.get(column)):
                limit = numbers["chance"] if bound == "chance" else bound
                row["met"] = {
                    "at least": row[column] >= limit,
                    "at most": row[column] <= limit,
                    "above": row[column] > limit,
                    "below": row[column] < limit,
                    "not below": not row[column] < limit,
                }[how]
            rows.append(row)
    return pd.DataFrame(rows)


def _seen(model: LanguageModel, world: World, type_: str) -> Iterator[tuple[str, dict]]:
    scores = exam(model.module, model.tokenizer, world, types=[facts.TYPES[type_]])
    groups = ("sums",) if type_ == "digits" else ("facts", "opposites", "properties")
    taught = [s for s in scores if s.group in groups and not s.held_out]
    n, hits = sum(s.n for s in taught), sum(round(s.accuracy * s.n) for s in taught)
    low, high = wilson(hits, n)
    chance = sum(s.chance * s.n for s in taught) / n
    yield "taught", {"value": hits / n, "low": low, "high": high, "n": n, "chance": chance}
    for s in scores:
        if s.group in groups and s.held_out:
            row = "held out" if s.group in ("facts", "sums") else f"held out, {s.group}"
            yield row, {"value": s.accuracy, "low": s.low, "high": s.high, "n": s.n, "chance": s.chance}
    found = {e.experiment: e for e in claims(model, type_, n=ITEMS, seed=0)}
    for row in ("similarity", "lens-meaning", "lens-lead", "lens-end", "steering"):
        yield row, _numbers(found[row])
    e = found["similarity"]
    peak = int(np.argmax(e.values))
    numbers = {"n": e.n, "layer": e.layers[peak], "depth": e.layers[peak] / e.n_layers}
    yield "depth of the peak, from the middle", {"value": abs(numbers["depth"] - 0.5)} | numbers
    # The intervals of two layers that share their items: apart means more than it says.
    fall = {"value": e.values[peak] - e.values[-1], "low": e.low[peak] - e.high[-1], "high": e.high[peak] - e.low[-1]}
    yield "fall at the end", fall | numbers
    yield "retrieval", _numbers(retrieval(model, type_))


def retrieval(model: LanguageModel, series: str, *, n: int = ITEMS, seed: int = 0) -> Evidence:
    """Is the English twin the nearest of all twins? As evidence, against partners shuffled as for similarity: prompts
    of one form are nearer each other whatever they mean, so one in n is not what chance gives."""
    pairs = facts.similarity_pairs(facts.prompts(series, n, seed=seed))
    a, b = (hidden_states(model, [getattr(pair, side) for pair in pairs]).hidden for side in "ab")
    groups = [pair.group for pair in pairs]
    scores = retrieval_accuracy(a, b)
    nulls = [
        scores.exchanged(random_pairings(len(pairs), groups=groups, clusters=by, draws=DRAWS, seed=seed))
        for by in zip(*(pair.moves_with for pair in pairs), strict=True)
    ]
    given = {"layers": range(model.n_layers + 1), "n_layers": model.n_layers, "seed": seed}
    clusters = [pair.cluster for pair in pairs]
    return evidence(f"retrieval/{series}", scores.own, nulls, clusters=clusters, experiment="retrieval", **given)


def _numbers(e: Evidence) -> dict:
    """The numbers at the layer the verdict rests on; p is the least of the window, as the claim is about any layer."""
    layer = judge(e).layer
    if layer is None:
        return {"n": e.n}
    i, p = e.layers.index(layer), float(np.nanmin(e.p))
    numbers = {"value": e.values[i], "low": e.low[i], "high": e.high[i], "p": p, "n": e.n}
    return numbers | {"layer": layer, "depth": layer / e.n_layers}


# The pieces and the run


def pieces(part: str, known: Sequence[Organism]) -> list[Piece]:
    """What a table is made of, given the organisms there are."""
    by_name = {o.name: o for o in reversed(known) if o.seed == 0}
    hub = by_name["hub"].load()
    if part == "truth":
        found = [
            Piece(f"{o.name}-{o.seed}", o.load, partial(seen, world=o.world, name=o.name, seed=o.seed)) for o in known
        ]
        blank = partial(seen, world=World(), name=RANDOM)
        return found + [
            Piece(f"random-weights-{s}", partial(randomised, hub, s), partial(blank, seed=s)) for s in RANDOM_SEEDS
        ]
    if part == "alarms":
        found = [_alarm(RANDOM, s, partial(randomised, hub, s)) for s in ALARM_SEEDS]
        # Exchanged words are English words still: whose words the lens reads stays true, and so does "8=8*" for "one".
        kept = {"series": tuple(facts.TYPES), "leave_out": ("layers-hub",)}
        found += [_alarm(EXCHANGED, s, partial(planted.exchanged, hub, s), **kept) for s in EXCHANGE_SEEDS]
        return found + [_alarm("islands", o.seed, o.load) for o in known if o.name == "islands"]
    base = by_name.get("planted", by_name["hub"])
    model = base.load()
    return [
        Piece(
            f"{base.name}-noise-{noise}-{s}",
            partial(planted.noisier, model, noise, s),
            partial(verdicts, label={"model": base.name, "noise": noise, "seed": s}, series=NOISY_SERIES, seed=s),
        )
        for noise in NOISES
        for s in NOISE_SEEDS
    ]


def _alarm(kind: str, seed: int, model: Callable[[], LanguageModel], **kept) -> Piece:
    label = {"model": kind, "seed": seed}
    name = kind.replace(",", "").replace(" ", "-")
    return Piece(f"{name}-{seed}", model, partial(verdicts, label=label, seed=seed, **kept))


def calibrate(
    folder: Path | None = None,
    *,
    parts: Sequence[str] = PARTS,
    out: Path | None = None,
    work: Path = Path("results") / "calibration",
    fresh: bool = False,
    say: Callable[[str], None] = print,
) -> list[Path]:
    """Measure what is missing and write the tables to `out` (the package's data by default); their paths.

    `folder` holds trained organisms beside the shipped ones. Finished pieces are kept in `work` and taken from there
    unless `fresh`. Says which organisms are missing; SemhubError without a hub, whose architecture all is about.
    """
    known = organisms(folder)
    if not any(o.name == "hub" and o.seed == 0 for o in known):
        raise SemhubError("There is no organism 'hub' of seed 0; `semhub train hub` would make it.")
    for name in ("hub", "planted", "islands", "balanced"):
        seeds = [o.seed for o in known if o.name == name]
        say(f"{name}: " + (f"seeds {', '.join(map(str, seeds))}" if seeds else "missing, left out"))
    written, out, work = [], Path(out or _data()), work / program(__name__)
    for part in parts:
        tables = []
        for piece in tqdm(pieces(part, known), desc=part, unit="model"):
            model = piece.model()
            path = work / part / f"{piece.label}-{model.fingerprint}.csv"
            if fresh or not path.is_file():
                _write(piece.measure(model), path)
            tables.append(pd.read_csv(path, keep_default_na=False, na_values=[""]))
        written.append(_write(pd.concat(tables, ignore_index=True), out / f"{part}.csv"))
    return written


def _write(table: pd.DataFrame, path: Path) -> Path:
    """Four significant digits."""
    return zoo.atomically(path, lambda to: table.to_csv(to, index=False, float_format="%.4g"))


def _data() -> Path:
    return Path(str(files("semhub_utils"))) / "data"

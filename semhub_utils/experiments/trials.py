"""Models of which the truth is known, put to every instrument: what `semhub calibrate` measures.

truth: what must be seen in each organism. power: effects planted for every instrument (`instruments`). alarms: every
instrument on models of which it was written before what it must find and what it must not (`calibration`). Claims are
judged without the precondition that the model can do the task, and without random weights beside.
"""

import json
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from semhub_utils import calibration, identity
from semhub_utils.errors import need
from semhub_utils.evidence import WEAK_ALPHA, Evidence, share
from semhub_utils.experiments import instruments, interventions, words
from semhub_utils.experiments.alike import Alike
from semhub_utils.experiments.core import run
from semhub_utils.identity import of_model, program
from semhub_utils.loading import load_model
from semhub_utils.models import LanguageModel, randomised
from semhub_utils.organism import llama, taught
from semhub_utils.organism.world import World
from semhub_utils.spokes import facts
from semhub_utils.verdicts import ALPHA, HOLDS, UNTESTABLE, judge

# ---- what is asked ----

RANDOM = "random weights"
ITEMS, FEWER = 200, 100  # prompts a type; of steering, which takes longer
RANDOM_SEEDS, ALARM_SEEDS, EXCHANGE_SEEDS, POWER_SEEDS = range(2), range(100, 120), range(4), range(20)
LADDER_SEEDS = range(5)  # those of POWER_SEEDS with all doses, the others with the stated one

PRESENT, ABSENT = ("p", "below", ALPHA), ("p", "not below", WEAK_ALPHA)
FEW, CHANCE = ("value", "at most", 0.05), ("low", "at most", "chance")
HALF, SOME, MORE, MOST, ALL = (("value", "at least", least) for least in (0.5, 0.6, 0.7, 0.8, 0.95))
KNOWN = ("planted", "hub", "islands", RANDOM)
ORGANISMS = ("hub", "planted", "balanced", "islands", "islands-sees", "islands-hears", "english")
ORGANISMS += ("taught", "taught-sees", "taught-hears")
DEMANDS = {
    "taught": (ALL, ALL, ALL, CHANCE),
    "held out": (MOST, MORE, CHANCE, CHANCE),
    "held out, opposites": (MOST, HALF, CHANCE, CHANCE),
    "held out, properties": (MOST, HALF, CHANCE, CHANCE),
    "similarity": (PRESENT, PRESENT, ABSENT, ABSENT),
    "depth of the peak, from the middle": (("value", "at most", 1 / 6),),
    "above the last layer": (("low", "above", 0.0), ("low", "above", 0.0)),
    "above the first layers": (("low", "above", 0.0), ("low", "above", 0.0)),
    "lens-meaning": (PRESENT, PRESENT, ABSENT, ABSENT),
    "lens-lead": (PRESENT, PRESENT, ABSENT, ABSENT),
    "lens-end": (PRESENT, PRESENT),
    "steering": (SOME, SOME, FEW, FEW),
}
"""By row of the table, of KNOWN: what issue and book ask for, fixed before any run (column, comparison, number)."""
MET = {"at least": operator.ge, "at most": operator.le, "above": operator.gt}
MET |= {"below": operator.lt, "not below": operator.ge}


def claims(model: LanguageModel, series: str, n: int, seed: int) -> dict[str, Evidence]:
    """The evidence for every claim of a hub in one type of held-out facts, as in the chapters; by experiment."""
    chosen = facts.prompts(series, n, seed=seed)
    pushed = facts.steering_items(facts.prompts(series, FEWER, seed=seed), seed=seed)
    asked = (
        (Alike(), facts.similarity_pairs(chosen)),
        (words.Lens("english", "own"), facts.lens_items(chosen)),
        (interventions.Steering(), pushed),
    )
    found = [run(of, model, items, series=series, seed=seed, twins=(), brief=True)[1] for of, items in asked]
    return {e.experiment: e for some in found for e in some[::-1]}


def numbers_of(e: Evidence, there: bool = False) -> dict[str, float]:
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
    for known in llama.scores(marks[~marks.held_out], ["type"]).drop(columns="type").to_dict("records"):
        yield "taught", known
    for row in llama.scores(marks[marks.held_out], ["group"]).to_dict("records"):
        group = row.pop("group")
        yield "held out" if group in ("facts", "sums") else f"held out, {group}", row
    found = claims(model, type_, ITEMS, 0)
    for row in ("similarity", "lens-meaning", "lens-lead", "lens-end", "steering"):
        yield row, numbers_of(found[row])
    e = found["similarity"]
    peak = int(np.argmax(e.values))
    numbers = {"n": e.n, "layer": e.layers[peak], "depth": e.layers[peak] / e.n_layers}
    yield "depth of the peak, from the middle", {"value": abs(numbers["depth"] - 0.5)} | numbers
    for name, contrast in e.contrasts.items():
        yield f"above the {name}", {"value": contrast.value, "low": contrast.low, "high": contrast.high, "n": e.n}


# ---- the tables ----

Piece = tuple[str, Callable[[], LanguageModel], Callable[[LanguageModel], pd.DataFrame]]  # label, model, what measures
Trained = dict[tuple[str, int], Path]  # by the name and seed on their cards


def shares(table: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Per group of `by`, the share of claims judged "holds", with Wilson's 95% interval, and how many there were; what
    could not be tested is no claim."""
    tested = table[table.verdict != UNTESTABLE].groupby([*by], sort=False)
    hits = ((key, int((some.verdict == HOLDS).sum()), len(some)) for key, some in tested)
    return pd.DataFrame(dict(zip(by, key, strict=True)) | share(*of) for key, *of in hits)


FOUND, ALARMS = "planted effects found", "false alarms"


def rates() -> pd.DataFrame:
    """By instrument (`series`), in the order of the paper: the share of effects planted at the stated dose that its
    row's own claim finds (`reading` FOUND), and the share of all its claims that are called where they must not be
    (ALARMS), each with Wilson's 95% interval and `n`."""
    found, alarms, rows = ladder(), judged_alarms(), []
    stated = found[found.strength == calibration.STATED].set_index("series")
    for of in instruments.INSTRUMENTS:
        named = {"series": of.name}
        numbers = stated.loc[of.name, ["value", "low", "high", "n"]].to_dict()
        wolf = alarms[(alarms.instrument == of.name) & (alarms.expected == calibration.MUST_NOT)]
        wolf = wolf[wolf.verdict != UNTESTABLE]
        rows.append(named | {"reading": FOUND} | numbers)
        rows.append(named | {"reading": ALARMS} | _share(wolf.verdict == HOLDS))
    return pd.DataFrame(rows).assign(experiment="instruments")


def counted(rates: pd.DataFrame) -> pd.DataFrame:
    """The table of `rates` as a reader is told it: a line for each instrument with the paper's number, of how many how
    many."""
    hits, n = (rates.value * rates.n).fillna(0).round().astype(int).astype(str), rates.n.astype(int).astype(str)
    wide = rates.assign(of=hits + " of " + n).pivot(index="series", columns="reading", values="of")
    wide = wide.loc[list(instruments.ROWS), [FOUND, ALARMS]].rename_axis("instrument").reset_index()
    return wide.assign(row=wide.instrument.map(instruments.ROWS))[["row", "instrument", FOUND, ALARMS]]


def ladder() -> pd.DataFrame:
    """By instrument (`series`) and dose (`strength`), the share of planted effects that its row's own claim finds, with
    Wilson's 95% interval and `n`; without a number where none could be planted."""
    power, rows = calibration.table("power"), []
    for of in instruments.INSTRUMENTS:
        own = power[(power.instrument == of.name) & (power.experiment == of.claims[0])]
        for dose, some in own.groupby("dose"):
            planted = some[some.seed.notna()]
            rows.append({"series": of.name, "strength": dose} | _share(planted.found.astype(bool)))
    return pd.DataFrame(rows).assign(experiment="ladder", reading="")


def _share(hits: pd.Series) -> dict[str, float]:
    return share(int(hits.sum()), len(hits)) if len(hits) else {"value": np.nan, "low": np.nan, "high": np.nan, "n": 0}


def judged_alarms() -> pd.DataFrame:
    """The table of alarms with what is expected of each line (`calibration`), and why."""
    expected = calibration.table("expected")
    long = expected.melt(["instrument", "experiment", "reason"], list(MODELS), "model", "expected")
    return calibration.table("alarms").merge(long, "left", ["instrument", "experiment", "model"])


def trained(folder: Path | None = None) -> Trained:
    """The shipped organisms, and those trained into subfolders of `folder` that ship under no such name and seed."""
    there = sorted(path.parent for path in identity.WEIGHTS.glob(f"*/{identity.CARD}"))
    there += sorted(path.parent for path in folder.glob(f"*/{identity.CARD}")) if folder else []
    found: Trained = {}
    for path in there:
        if (path / "model.safetensors").is_file():
            card = json.loads((path / identity.CARD).read_text("utf-8"))
            found.setdefault((card["name"], card["seed"]), path)
    return dict(sorted(found.items()))


MODELS = (
    "hub",
    "planted",
    "balanced",
    "islands",
    "islands, abroad",
    "hub, words exchanged",
    RANDOM,
    "english",
    "taught",
)
"""Of which it is known what they must and must not show; "abroad": asked for Spanish words at pictures and sounds."""


def pieces(part: str, known: Trained) -> Iterator[Piece]:
    """What a table is made of, given the models there are."""
    load = {who: cache(partial(load_model, str(path), device="cpu", check=False)) for who, path in known.items()}
    if part == "truth":
        for (name, seed), path in known.items():
            if name in (*KNOWN, "balanced"):
                world = World(**json.loads((path / identity.CARD).read_text("utf-8"))["recipe"]["world"])
                yield f"{name}-{seed}", load[name, seed], partial(seen, world=world, name=name, seed=seed)
        blank = partial(seen, world=World(), name=RANDOM)
        for s in RANDOM_SEEDS:
            yield f"random-weights-{s}", partial(_random, load["hub", 0], s), partial(blank, seed=s)
    elif part == "power":
        for of in instruments.INSTRUMENTS:
            base = (of.taught or "-".join(filter(None, ("islands", of.sense))), 0)
            if base not in known:  # said so, and nothing of it is believed
                yield f"{of.name}-missing", load["hub", 0], partial(_nothing_planted, of)
            for seed in POWER_SEEDS if base in known else ():
                yield f"{of.name}-{seed}", load[base], partial(_planted, of, known[base], seed)
    else:
        for sense in ("", "sees", "hears"):
            some = [of for of in instruments.INSTRUMENTS if of.sense == sense]
            for kind, seed, make, abroad in _models_of(sense, load):
                label = "-".join(filter(None, (identity.slug(kind), sense, str(seed))))
                yield label, make, partial(_looks, [of for of in some if of.abroad or not abroad], kind, seed, abroad)


def _models_of(sense: str, load: Mapping) -> Iterator[tuple[str, int, Callable[[], LanguageModel], bool]]:
    """Kind, seed, model, and whether it is asked in Spanish."""
    end = f"-{sense}" if sense else ""
    for name in MODELS:
        of = name.partition(",")[0] + end
        seeds = [seed for who, seed in load if who == of]
        if name == RANDOM:
            yield from ((name, s, partial(_random, load[f"hub{end}", 0], s), False) for s in ALARM_SEEDS)
        elif name == "hub, words exchanged":
            yield from ((name, s, partial(_exchanged, load["hub", 0], s), False) for s in EXCHANGE_SEEDS if not sense)
        elif sense or not name.endswith("abroad"):
            yield from ((name, s, load[of, s], name.endswith("abroad")) for s in seeds)


def _random(make: Callable[[], LanguageModel], seed: int) -> LanguageModel:
    return randomised(make(), seed)


def _exchanged(make: Callable[[], LanguageModel], seed: int) -> LanguageModel:
    return llama.exchanged(make(), seed)


def _looks(some: Sequence[instruments.Instrument], kind: str, seed: int, abroad: bool, model: LanguageModel):
    found = pd.concat([of.look(model, seed, abroad=abroad) for of in some], ignore_index=True)
    return found.drop(columns=["dose", "found"]).assign(model=kind, seed=seed)


def _planted(of: instruments.Instrument, folder: Path, seed: int, model: LanguageModel) -> pd.DataFrame:
    whole = seed in LADDER_SEEDS and not (of.taught and of.sense)  # a picture's answers take their time
    doses: dict = dict.fromkeys(instruments.DOSES if whole else (calibration.STATED,))
    if of.taught:
        doses = {dose: taught.dosed(of.taught, dose, folder=folder) for dose in doses if dose <= 1}
    return of.look(model, seed, doses).assign(seed=seed)


def _nothing_planted(of: instruments.Instrument, model: LanguageModel) -> pd.DataFrame:
    about = {"row": of.row, "instrument": of.name, "chapter": of.chapter, "dose": calibration.STATED, "found": False}
    return pd.DataFrame([about | {"experiment": name, "verdict": UNTESTABLE} for name in of.claims])


def calibrate(
    folder: Path | None = None,
    *,
    parts: Sequence[str] = calibration.PARTS,
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
    for name in ORGANISMS:
        seeds = ", ".join(str(seed) for of, seed in known if of == name)
        say(f"{name}: " + (f"seeds {seeds}" if seeds else "missing, left out"))
    for part in parts:
        written.append(measured(part, [*pieces(part, known)], work / part, out or calibration.DATA, fresh))
    return written


def measured(name: str, some: Sequence[Piece], work: Path, out: Path, fresh: bool) -> Path:
    """The table `name` in `out`, of pieces that are kept in `work` and, unless `fresh`, taken from there; its path."""
    tables = []
    for label, make, measure in tqdm(some, desc=name, unit="piece"):
        model = make()
        path = work / f"{identity.slug(label)}-{of_model(model)}.csv"
        if fresh or not path.is_file():
            _write(measure(model), path)
        tables.append(pd.read_csv(path, keep_default_na=False, na_values=[""]))
    return _write(pd.concat(tables, ignore_index=True), out / f"{name}.csv")


def _write(table: pd.DataFrame, path: Path) -> Path:
    """Four significant digits."""
    return identity.atomically(path, lambda to: table.to_csv(to, index=False, float_format="%.4g"))

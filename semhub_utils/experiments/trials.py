"""Models of which the truth is known, put to every instrument: what `semhub calibrate` measures.

truth: what must be seen in each organism. power: effects planted for every instrument (`instruments`). alarms: every
instrument on models of which it was written before what it must find and what it must not (`calibration`). readings:
both for the five readings of the lens (`readings`). Claims are judged without the precondition that the model can do
the task, and without random weights beside.
"""

import json
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import groupby, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from semhub_utils import calibration, identity
from semhub_utils.errors import need
from semhub_utils.evidence import WEAK_ALPHA, Evidence, share
from semhub_utils.experiments import instruments, interventions, readings, words
from semhub_utils.experiments.alike import Alike
from semhub_utils.experiments.core import run
from semhub_utils.experiments.instruments import Piece, Trained, numbers_of
from semhub_utils.identity import of_model, program
from semhub_utils.loading import load_model
from semhub_utils.models import LanguageModel, randomised
from semhub_utils.organism import llama, taught
from semhub_utils.organism.world import World
from semhub_utils.spokes import facts
from semhub_utils.verdicts import ALPHA

# ---- what is asked ----

RANDOM = "random weights"
ITEMS, FEWER = 200, 100  # prompts a type; of steering, which takes longer
RANDOM_SEEDS, ALARM_SEEDS, POWER_SEEDS = range(2), range(100, 120), range(20)
LADDER_SEEDS = range(10)  # those of POWER_SEEDS with all doses, the others with the stated one

PRESENT, ABSENT = ("p", "below", ALPHA), ("p", "not below", WEAK_ALPHA)
FEW, CHANCE = ("value", "at most", 0.05), ("low", "at most", "chance")
HALF, SOME, MORE, MOST, ALL = (("value", "at least", least) for least in (0.5, 0.6, 0.7, 0.8, 0.95))
KNOWN = ("planted", "hub", "islands", RANDOM)
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

FOUND, ALARMS = "planted effects found", "false alarms"


def rates() -> pd.DataFrame:
    """By instrument (`series`), in the order of the paper: the share of effects planted at the stated dose that its
    row's own claim finds (`reading` FOUND), and the share of all its claims that are called where they must not be
    (ALARMS), each with Wilson's 95% interval and `n`."""
    found = ladder()
    found = found[found.strength == calibration.STATED].assign(reading=FOUND).drop(columns="strength")
    never = {"series": [*instruments.ROWS], "value": np.nan, "n": 0}  # where nothing could be tested
    asked = judged_alarms().query("expected == @calibration.MUST_NOT")
    asked = calibration.shares(asked, ["instrument"]).rename(columns={"instrument": "series"})
    alarms = pd.concat([asked, pd.DataFrame(never)]).drop_duplicates("series").assign(reading=ALARMS)
    return pd.concat([found, alarms], ignore_index=True).assign(experiment="instruments")


def counted(rates: pd.DataFrame) -> pd.DataFrame:
    """The table of `rates` as a reader is told it: a line for each instrument with the paper's number, of how many how
    many."""
    hits, n = (rates.value * rates.n).fillna(0).round().astype(int).astype(str), rates.n.astype(int).astype(str)
    wide = rates.assign(of=hits + " of " + n).pivot(index="series", columns="reading", values="of")
    wide = wide.loc[list(instruments.ROWS), [FOUND, ALARMS]].rename_axis("instrument").reset_index()
    return wide.assign(row=wide.instrument.map(instruments.ROWS))[["row", "instrument", FOUND, ALARMS]]


def ladder() -> pd.DataFrame:
    """By instrument (`series`) and dose (`strength`), the share of planted effects that its row's own claim finds, with
    Wilson's 95% interval and `n`."""
    first = {of.name: of.claims[0] for of in instruments.INSTRUMENTS}
    power = calibration.table("power")
    own = power[power.experiment == power.instrument.map(first)]
    by_dose = own.groupby(["instrument", "dose"], sort=False).found
    rows = [{"series": of, "strength": dose} | share(int(hits.sum()), len(hits)) for (of, dose), hits in by_dose]
    return pd.DataFrame(rows).assign(experiment="ladder", reading="")


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


EXCHANGED, ABROAD = "hub, words exchanged", "islands, abroad"
MODELS = ("hub", "planted", "balanced", "islands", ABROAD, EXCHANGED, RANDOM, "english", "taught", taught.BY_HAND)
"""Of which it is known what they must and must not show; ABROAD: asked for Spanish words at pictures and sounds;
BY_HAND: with nothing planted."""


def pieces(part: str, known: Trained, work: Path) -> Iterator[Piece]:
    """What a table is made of, given the models there are; what has to be made for it is kept below `work`."""
    load = {who: cache(partial(load_model, str(path), device="cpu", check=False)) for who, path in known.items()}
    if part == "truth":
        for (name, seed), path in known.items():
            if name in (*KNOWN, "balanced"):
                world = World(**json.loads((path / identity.CARD).read_text("utf-8"))["recipe"]["world"])
                yield f"{name}-{seed}", load[name, seed], partial(seen, world=world, name=name, seed=seed)
        blank = partial(seen, world=World(), name=RANDOM)
        for s in RANDOM_SEEDS:
            yield f"random-weights-{s}", partial(_of, randomised, load["hub", 0], s), partial(blank, seed=s)
    elif part == "power":
        dosed = cache(taught.dosed)
        for of, seed in product(instruments.INSTRUMENTS, POWER_SEEDS):
            base, at = (of.taught or "-".join(filter(None, ("islands", of.sense))), 0), None
            if of.by_hand:
                at = partial(of.by_hand, seed=seed)
            else:
                need(base in known, f"There is no organism {base[0]!r}; `semhub train {base[0]}` would make it.")
            if of.taught:
                at = partial(dosed, of.taught, folder=known[base])
            model = partial(at, calibration.STATED) if of.by_hand else load[base]
            yield f"{of.name}-{seed}", model, partial(_planted, of, at, seed)
    elif part == "readings":
        yield from readings.pieces(known, work)
    else:
        for of, s in product((of for of in instruments.INSTRUMENTS if of.by_hand), POWER_SEEDS):
            yield f"{of.name}-{s}", partial(of.by_hand, 0.0, s), partial(_looks, [of], taught.BY_HAND, s, False)
        asked = calibration.table("expected").set_index("instrument")
        closed = {*asked[asked[EXCHANGED] != calibration.OPEN].index}
        for sense in ("", "sees", "hears"):
            some = [of for of in instruments.INSTRUMENTS if of.sense == sense]
            for kind, seed, make, abroad in _models_of(sense, load):
                label = "-".join(filter(None, (identity.slug(kind), sense, str(seed))))
                here = [of for of in some if (of.abroad or not abroad) and (kind != EXCHANGED or of.name in closed)]
                yield label, make, partial(_looks, here, kind, seed, abroad)


def _models_of(sense: str, load: Mapping) -> Iterator[tuple[str, int, Callable[[], LanguageModel], bool]]:
    """Kind, seed, model, and whether it is asked in Spanish."""
    end = f"-{sense}" if sense else ""
    for name in MODELS:
        of = name.partition(",")[0] + end
        seeds = [seed for who, seed in load if who == of]
        if name == RANDOM:
            yield from ((name, s, partial(_of, randomised, load[f"hub{end}", 0], s), False) for s in ALARM_SEEDS)
        elif name == EXCHANGED:
            some = () if sense else POWER_SEEDS
            yield from ((name, s, partial(_of, llama.exchanged, load["hub", 0], s), False) for s in some)
        elif sense or not name.endswith("abroad"):
            yield from ((name, s, load[of, s], name.endswith("abroad")) for s in seeds)


def _of(change: Callable, make: Callable[[], LanguageModel], seed: int) -> LanguageModel:
    return change(make(), seed)


def _looks(some: Sequence[instruments.Instrument], kind: str, seed: int, abroad: bool, model: LanguageModel):
    found = pd.concat([of.look(model, seed, abroad=abroad) for of in some], ignore_index=True)
    return found.drop(columns=["dose", "found"]).assign(model=kind, seed=seed)


def _planted(of: instruments.Instrument, at: Callable | None, seed: int, model: LanguageModel) -> pd.DataFrame:
    """at: the model of a dose, where nothing is written into states."""
    doses: dict = dict.fromkeys(instruments.DOSES if seed in LADDER_SEEDS else (calibration.STATED,))
    if at:
        doses = {dose: at(dose) for dose in doses if dose <= 1}
    return of.look(model, seed, doses).assign(seed=seed)


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
    there are; SemhubError without those that all need.
    """
    known, work = trained(folder), Path("results") / "calibration" / program(__name__)
    need(("hub", 0) in known, "There is no organism 'hub' of seed 0; `semhub train hub` would make it.")
    for name, of in groupby(known, lambda name_seed: name_seed[0]):
        say(f"{name}: seeds {', '.join(str(seed) for _, seed in of)}")
    tables = {part: measured(part, [*pieces(part, known, work / "made")], work / part, fresh) for part in parts}
    return [_write(of, (out or calibration.DATA) / f"{part}.csv") for part, of in tables.items()]  # of the package, too


def measured(name: str, some: Sequence[Piece], work: Path, fresh: bool) -> pd.DataFrame:
    """The table of pieces, which are kept in `work` and, unless `fresh`, taken from there."""
    tables = []
    for label, make, measure in tqdm(some, desc=name, unit="piece"):
        model = make()
        path = work / f"{identity.slug(label)}-{of_model(model)}.csv"
        if fresh or not path.is_file():
            _write(measure(model), path)
        tables.append(pd.read_csv(path, keep_default_na=False, na_values=[""]))
    return pd.concat(tables, ignore_index=True)


def _write(table: pd.DataFrame, path: Path) -> Path:
    """Four significant digits."""
    return identity.atomically(path, lambda to: table.to_csv(to, index=False, float_format="%.4g"))

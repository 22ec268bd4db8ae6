"""Which reading of the lens can be believed? `lens-meaning` by all of them, where it is known whether there is a hub.

One table is committed. Must not be found: meaning across types in islands, whose types share no fact, and in the hub
whose words were exchanged. Power is how often it is found where it was written: into that hub's states at one layer,
the state of the prompt's English twin, in a ladder of doses. What is found in the planted hub, in the hub and in its
balanced like is shown and not demanded, as the state may hold no more than its own token. Claims are judged without
random weights beside, and without the precondition that the model can do the task.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from jaxtyping import Float
from tqdm.auto import tqdm

from semhub_utils import jacobian, tuned
from semhub_utils.evidence import WEAK_ALPHA
from semhub_utils.experiments import trials, words
from semhub_utils.experiments.core import SHARED, run
from semhub_utils.identity import FITTED, atomically, of_model, program, slug
from semhub_utils.lens import available_readings
from semhub_utils.loading import load_model
from semhub_utils.models import LanguageModel
from semhub_utils.organism import llama
from semhub_utils.organism.world import MAX_RESULT
from semhub_utils.spokes import arithmetic, facts
from semhub_utils.spokes.mixed import text_for
from semhub_utils.verdicts import HOLDS, UNTESTABLE, judge

NAME = "readings"
FIVE = ("normed", "raw", "tuned", "jacobian", "neighbours")
ISLANDS, EXCHANGED = "islands", "hub, words exchanged"
MUST_NOT = (ISLANDS, EXCHANGED)
HUBS = ("planted", "hub", "balanced")
MOST_ALARMS = 0.05
"""The demand, fixed before any run: of the claims on MUST_NOT, each reading finds at most this share to hold. Power is
reported and not demanded."""
SERIES = (*facts.TYPES, "arithmetic")
ITEMS, SEEDS = 100, range(10)  # prompts a type; of exchanges
WRITTEN, DOSES, WRITTEN_SEEDS = 4, (0.25, 0.5, 1.0, 2.0), range(4)  # layer, lengths in those of the state, exchanges
SHARES = ("false alarms", "at most", "found", "clear of its null", f"written, found at dose {DOSES[2]:g}")
DATA = Path(__file__).parents[1] / "data"


@dataclass(frozen=True)
class Written(words.Lens):
    """The lens on states into which those of other prompts are written at one layer: h + dose |h| e / |e|, e being the
    last state of `twin` of the prompt at that layer. Nothing after it is changed."""

    twin: Mapping[str, str] = field(default_factory=dict)
    dose: float = 0.0
    layer: int = WRITTEN

    def states(self, reader: LanguageModel, prompts: Sequence) -> Float[torch.Tensor, "item layer hidden"]:
        found = super().states(reader, prompts).clone()
        if self.dose:
            h = found[:, self.layer]
            e = super().states(reader, [self.twin[p] for p in prompts])[:, self.layer]
            h += self.dose * h.norm(dim=-1, keepdim=True) * torch.nn.functional.normalize(e, dim=-1)
        return found


def judged(model: LanguageModel, label: dict, series: Sequence[str] = SERIES, dose: float = 0.0) -> pd.DataFrame:
    """A row per type and reading: how the claim was judged, and its numbers there. left_out: texts of the bank that are
    read themselves. dose: of what is written; found is what holds, and at that layer."""
    rows = []
    for name in series:
        if name == "arithmetic":
            lens, chosen = Written("word", "digit"), arithmetic.items(ITEMS, label["seed"], MAX_RESULT + 1)
            items = arithmetic.lens_items(chosen)
        else:
            chosen = facts.prompts(name, ITEMS, seed=label["seed"])
            twin = {pair.a: pair.b for pair in facts.similarity_pairs(chosen)}
            lens, items = Written("english", "own", twin, dose), facts.lens_items(chosen)
        for reading in FIVE:
            _, [e, *_] = run(lens, model, items, series=name, readings=(reading,), twins=())
            verdict = judge(e)
            row = label | {"dose": dose, "type": name, "reading": reading, "n": e.n}
            row |= {"verdict": verdict.verdict, "by": verdict.by}
            row |= {"left_out": e.dropped.get(SHARED, 0)}
            if verdict.layer is not None:
                i = e.layers.index(verdict.layer)
                p = min(e.p[k] for k, layer in enumerate(e.layers) if layer in e.window)
                row |= {"value": e.values[i], "low": e.low[i], "high": e.high[i], "p": p, "layer": verdict.layer}
            rows.append(row)
    return pd.DataFrame(rows)


def equipped(path: Path, work: Path, say: Callable[[str], None] = print) -> LanguageModel:
    """A trained model with all five readings; those that do not lie beside it are made below `work`."""
    model = load_model(str(path), device="cpu", check=False)
    for name, file in FITTED.items():
        if name not in available_readings(model):
            folder = work / of_model(model)
            if not (folder / file).is_file():
                texts, source = text_for(str(path), None, seed=0)
                {"tuned": tuned, "jacobian": jacobian}[name].tune(model, texts, folder, source=source)
                say(str(folder / file))
            model.readings[name] = tuned.load(folder / file, model)
    return model


def exchanged(hub: LanguageModel, seed: int) -> LanguageModel:
    """The hub with its words exchanged; what was made for the hub fits, as its rows have but changed places."""
    model = llama.exchanged(hub, seed)
    model.readings.update(hub.readings)
    return model


def pieces(
    known: trials.Trained, work: Path
) -> Iterator[tuple[str, Callable[[], LanguageModel], Callable[[LanguageModel], pd.DataFrame]]]:
    """What the table is made of: name, model, what measures it."""
    for (name, seed), path in known.items():
        if name == ISLANDS or (name in HUBS and seed == 0):
            measure = partial(judged, label={"model": name, "seed": seed})
            yield f"{name}-{seed}", partial(equipped, path, work), measure
    hub = equipped(known["hub", 0], work)
    for seed in SEEDS:
        measure = partial(judged, label={"model": EXCHANGED, "seed": seed}, series=tuple(facts.TYPES))
        yield f"{slug(EXCHANGED)}-{seed}", partial(exchanged, hub, seed), measure
        for dose in DOSES if seed in WRITTEN_SEEDS else ():
            yield f"{slug(EXCHANGED)}-{seed}-{dose}", partial(exchanged, hub, seed), partial(measure, dose=dose)


def calibrate(
    folder: Path | None = None, *, out: Path | None = None, fresh: bool = False, say: Callable[[str], None] = print
) -> Path:
    """Measure what is missing and write the table to `out` (the package's data by default); its path. `folder` holds
    trained organisms beside the shipped ones; finished pieces are kept below results/calibration unless `fresh`."""
    work, tables = Path("results") / "calibration", []
    for label, make, measure in tqdm([*pieces(trials.trained(folder), work / "made")], desc=NAME, unit="model"):
        model = make()
        path = work / program(__name__) / NAME / f"{label}-{of_model(model)}.csv"
        if fresh or not path.is_file():
            _write(measure(model), path)
        tables.append(pd.read_csv(path, keep_default_na=False, na_values=[""]))
        say(f"{label}: {path}")
    return _write(pd.concat(tables, ignore_index=True), (out or DATA) / f"{NAME}.csv")


def read(folder: Path = DATA) -> pd.DataFrame:
    """The table, by default the committed one; must_not: whether there is no meaning across types to be found; a claim
    on what was written counts as found where it holds at that layer."""
    table = pd.read_csv(folder / f"{NAME}.csv", keep_default_na=False, na_values=[""])
    elsewhere = (table.dose > 0) & (table.verdict == HOLDS) & (table.layer != WRITTEN)
    verdict = table.verdict.mask(elsewhere, "holds elsewhere")
    return table.assign(must_not=table.model.isin(MUST_NOT) & (table.dose == 0), verdict=verdict)


def rates() -> pd.DataFrame:
    """What a chart shows: by reading (`series`) and kind of model (`reading`) the share of claims that hold, with
    Wilson's interval."""
    table = read()
    where = table.model.mask(table.dose > 0, "English written, dose " + table.dose.map("{:g}".format))
    found = trials.shares(table.assign(model=where), ["reading", "model"])
    found = found.rename(columns={"reading": "series", "model": "reading"})
    return found.assign(experiment="calibrated-readings")


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """By reading: how many claims must not hold, the share that does (with the upper end of Wilson's interval), whether
    that is as demanded; of the hubs' claims the share that holds, and that is clear of its null whatever the controls
    say; and how often what was written is found."""
    tested, rows = table[table.verdict != UNTESTABLE], []
    for name, of in tested.groupby("reading", sort=False):
        alarms = trials.shares(of[of.must_not], ["reading"]).iloc[0]
        hubs, written = of[of.model.isin(HUBS)], of[of.dose == DOSES[2]]
        clear = ((hubs.p < WEAK_ALPHA) & (hubs.low > 0)).mean()
        numbers = alarms.n, alarms.value, alarms.high, alarms.value <= MOST_ALARMS
        power = (written.verdict == HOLDS).mean()
        rows.append((name, *numbers, (hubs.verdict == HOLDS).mean(), clear, power))
    return pd.DataFrame(rows, columns=["reading", "must not hold", SHARES[0], SHARES[1], "as demanded", *SHARES[2:]])


def _write(table: pd.DataFrame, path: Path) -> Path:
    """Four significant digits."""
    return atomically(path, lambda to: table.to_csv(to, index=False, float_format="%.4g"))

"""Which reading of the lens can be believed? `lens-meaning` by all of them, where it is known whether there is a hub.

One table is committed. Must not be found: meaning across types in islands, whose types share no fact, and in the hub
whose words were exchanged. Power is how often it is found where it was written: into that hub's states at one layer,
the state of the prompt's English twin, in a ladder of doses. What is found in the planted hub, in the hub and in its
balanced like is shown and not demanded, as the state may hold no more than its own token. Claims are judged without
random weights beside, and without the precondition that the model can do the task.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path

import pandas as pd
from torch.nn.functional import normalize

from semhub_utils import jacobian, tuned
from semhub_utils.calibration import DATA, STATED, shares, table
from semhub_utils.evidence import WEAK_ALPHA
from semhub_utils.experiments import words
from semhub_utils.experiments.core import SHARED, run
from semhub_utils.experiments.instruments import DOSES, PLANTED, Piece, Trained, Written, numbers_of, written
from semhub_utils.identity import FITTED, of_model, slug
from semhub_utils.lens import available_readings
from semhub_utils.loading import load_model
from semhub_utils.models import LanguageModel
from semhub_utils.organism import llama
from semhub_utils.organism.world import MAX_RESULT
from semhub_utils.spokes import arithmetic, facts
from semhub_utils.spokes.mixed import text_for
from semhub_utils.states import hidden_states
from semhub_utils.verdicts import HOLDS, UNTESTABLE, judge

FIVE = ("normed", "raw", "tuned", "jacobian", "neighbours")
ISLANDS, EXCHANGED = "islands", "hub, words exchanged"
MUST_NOT = (ISLANDS, EXCHANGED)
HUBS = ("planted", "hub", "balanced")
MOST_ALARMS = 0.05
"""The demand, fixed before any run: of the claims on MUST_NOT, each reading finds at most this share to hold. Power is
reported and not demanded."""
SERIES = (*facts.TYPES, "arithmetic")
ITEMS, SEEDS = 100, range(10)  # prompts a type; of exchanges
WRITTEN_SEEDS = range(5)  # exchanges
SHARES = ("false alarms", "at most", "found", "clear of its null", f"written, found at dose {STATED:g}")


def with_twins(model: LanguageModel, twins: Mapping[str, str], dose: float, layer: int = PLANTED) -> LanguageModel:
    """The model that has at the last token of a prompt, at one layer, h + dose |h| e / |e|, e being the state of its
    twin there. Nothing after it is changed."""
    if not dose:
        return model
    states = hidden_states(model, [*twins.values()], layers=[layer]).hidden[:, 0]
    encodings = model.encode([*twins])
    directions = {
        (tuple(e.ids), e.content, len(e) - 1): normalize(state, dim=0)
        for e, state in zip(encodings, states, strict=True)
    }
    return written(model, Written(layer, dose, directions))


def judged(model: LanguageModel, label: dict, series: Sequence[str] = SERIES, dose: float = 0.0) -> pd.DataFrame:
    """A row per type and reading: how the claim was judged, and its numbers there. left_out: texts of the bank that are
    read themselves. dose: of what is written; found is what holds, and at that layer."""
    rows = []
    for name in series:
        if name == "arithmetic":
            chosen = arithmetic.items(ITEMS, label["seed"], MAX_RESULT + 1)
            lens, items, asked = words.Lens("word", "digit"), arithmetic.lens_items(chosen), model
        else:
            chosen = facts.prompts(name, ITEMS, seed=label["seed"])
            twins = {pair.a: pair.b for pair in facts.similarity_pairs(chosen)}
            lens, items, asked = words.Lens("english", "own"), facts.lens_items(chosen), with_twins(model, twins, dose)
        for reading in FIVE:
            _, [e, *_] = run(lens, asked, items, series=name, readings=(reading,), twins=())
            verdict = judge(e)
            row = label | {"dose": dose, "type": name, "reading": reading, "n": e.n}
            row |= {"verdict": verdict.verdict, "by": verdict.by, "left_out": e.dropped.get(SHARED, 0)}
            rows.append(row | numbers_of(e))
    return pd.DataFrame(rows).drop(columns="depth", errors="ignore")


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


def pieces(known: Trained, work: Path) -> Iterator[Piece]:
    """What the table is made of; readings that do not lie beside their model are made below `work`."""
    for (name, seed), path in known.items():
        if name == ISLANDS or (name in HUBS and seed == 0):
            measure = partial(judged, label={"model": name, "seed": seed})
            yield f"{name}-{seed}", partial(equipped, path, work), measure
    hub = cache(partial(equipped, known["hub", 0], work))
    for seed in SEEDS:
        doses = (0.0, *DOSES) if seed in WRITTEN_SEEDS else (0.0,)
        measure = partial(_doses, label={"model": EXCHANGED, "seed": seed}, doses=doses)
        yield f"{slug(EXCHANGED)}-{seed}", lambda seed=seed: exchanged(hub(), seed), measure


def _doses(model: LanguageModel, label: dict, doses: Sequence[float]) -> pd.DataFrame:
    """One after the other, so that each prompt is read once."""
    return pd.concat([judged(model, label, tuple(facts.TYPES), dose) for dose in doses], ignore_index=True)


def read(folder: Path = DATA) -> pd.DataFrame:
    """The table, by default the committed one; must_not: whether there is no meaning across types to be found; a claim
    on what was written counts as found where it holds at that layer."""
    every = table("readings", folder)
    elsewhere = (every.dose > 0) & (every.verdict == HOLDS) & (every.layer != PLANTED)
    verdict = every.verdict.mask(elsewhere, "holds elsewhere")
    return every.assign(must_not=every.model.isin(MUST_NOT) & (every.dose == 0), verdict=verdict)


def rates() -> pd.DataFrame:
    """What a chart shows: by reading (`series`) and kind of model (`reading`) the share of claims that hold, with
    Wilson's interval."""
    every = read()
    where = every.model.mask(every.dose > 0, "English written, dose " + every.dose.map("{:g}".format))
    found = shares(every.assign(model=where), ["reading", "model"])
    found = found.rename(columns={"reading": "series", "model": "reading"})
    return found.assign(experiment="calibrated-readings")


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """By reading: how many claims must not hold, the share that does (with the upper end of Wilson's interval), whether
    that is as demanded; of the hubs' claims the share that holds, and that is clear of its null whatever the controls
    say; and how often what was written is found."""
    tested, rows = table[table.verdict != UNTESTABLE], []
    for name, of in tested.groupby("reading", sort=False):
        alarms = shares(of[of.must_not], ["reading"]).iloc[0]
        hubs, planted = of[of.model.isin(HUBS)], of[of.dose == STATED]
        clear = ((hubs.p < WEAK_ALPHA) & (hubs.low > 0)).mean()
        numbers = alarms.n, alarms.value, alarms.high, alarms.value <= MOST_ALARMS
        power = (planted.verdict == HOLDS).mean()
        rows.append((name, *numbers, (hubs.verdict == HOLDS).mean(), clear, power))
    return pd.DataFrame(rows, columns=["reading", "must not hold", SHARES[0], SHARES[1], "as demanded", *SHARES[2:]])

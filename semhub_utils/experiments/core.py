"""One experiment, run: its items read by a model and where nothing should show, its claims judged, its curves drawn.

An experiment says which items one model can be asked (`fit`), what is read of them (`read`) and which of the numbers
are claims (`claims`). Numbers are [item, layer], or [item, layer, answer] where answers may change places: what the
item would score if that answer were its own. `run` does all else, the same way for every experiment: another control
for every claim is a change of `_controls`, and nothing else.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from semhub_utils.errors import SemhubError, TooLong, reason
from semhub_utils.evidence import COLUMNS, NATS, Aside, Columns, Evidence, Sample, Unit, corrected_bound, evidence, tidy
from semhub_utils.experiments.numbers import (
    ByLayer,
    Exchange,
    Kept,
    Key,
    Null,
    Numbers,
    Scores,
    Values,
    exchanges,
)
from semhub_utils.inputs import Input, Prompt
from semhub_utils.lens import READINGS, Reading
from semhub_utils.models import LanguageModel, randomised
from semhub_utils.pairings import codes
from semhub_utils.spokes.items import Items, emptied, ways
from semhub_utils.steering import generate

TOO_LONG = "longer than the model's context"
NOT_TAKEN = "not taken by the model"
SHARED = "texts of the bank, which are read themselves"
TEXTS = ("prompt", "hub_prompt", "text", "a", "b", "sentence", "form", "run", "source", "other", "toward", "away")
LEAST = 4  # items that are asked where some were left out, and that each seed of random weights reads
TWINS = 5  # how many seeds of random weights stand beside a model

Result = tuple[pd.DataFrame, list[Evidence]]


@dataclass(frozen=True)
class Claim:
    """Which numbers are a claim, by what nulls, where it is decided, and in what unit, which has a smallest effect of
    interest.

    of: the series of the numbers; window: the layers it is about, "middle", "inner" (1 .. L-1) or "last"; shape:
    whether the middle has to be above the first sixth and the last layer; embedded: the embedding layer is a control;
    ended: the last layer is one; named, reading: what it and its reading go by, where that is not `experiment` and the
    lens's; ending: what stands behind the series in its name; series: what its rows go by ("{}" being the run's)."""

    experiment: str
    of: str = ""
    nulls: tuple[Null, ...] = (Exchange(),)
    window: str = "middle"
    shape: bool = False
    unit: Unit = NATS
    embedded: bool = True
    ended: bool = True
    null_in_words: str = ""
    outcome: bool = False  # successes are counted
    named: str = ""
    ending: str = ""
    series: str = "{}"
    reading: str = ""

    @property
    def named_by(self) -> tuple[str, str]:
        """Of claims that differ in nothing of this the first one is judged, and the others stand beside it."""
        return self.named or self.experiment, self.ending


@runtime_checkable
class Experiment(Protocol):
    """A frozen dataclass that inherits from this; its repr says what it computes. nothing: how pictures and sounds are
    emptied for controls, by default in all ways. readings: the ways to read, the first one first. random_weights:
    whether a model of such is a control. parts: the label of items that have to be read together, where each seed of
    random weights may read its own share of them; shared: whether each share is given all prompts, which are then not
    one by one the items'. columns: what its rows have besides the usual, if there are any."""

    claims: Sequence[Claim]
    nothing: ClassVar[tuple[str, ...] | None] = None
    readings: ClassVar[Sequence[str]] = ("normed",)
    random_weights: ClassVar[bool] = True
    parts: ClassVar[str] = ""
    shared: ClassVar[bool] = False
    columns: ClassVar[tuple[str, ...]] = ()

    def fit(self, model: LanguageModel, items: Sequence) -> Kept:
        return Kept(items)

    def choose(self, model: LanguageModel, kept: Kept) -> Kept:
        """What is settled on some of the items before they are read, such as a layer."""
        return kept

    def read(self, reader: LanguageModel, kept: Kept, prompts: Sequence, reading: str) -> Numbers: ...

    def beside(self, reader: LanguageModel, kept: Kept, prompts: Sequence, reading: str) -> Numbers:
        """What of it is read where nothing should show: of media without content, and by random weights."""
        return self.read(reader, kept, prompts, reading)


def run(
    experiment: Experiment,
    model: LanguageModel,
    items: Sequence,
    *,
    series: str,
    readings: Sequence[str] | None = None,
    over: str = "cluster",
    seed: int = 0,
    twins: Sequence[int] | None = None,
    others: Mapping[str, LanguageModel] | None = None,
    shown: Mapping[str, LanguageModel] | None = None,
    dropped: Mapping[str, int] | None = None,
    columns: Mapping[str, Any] | None = None,
    brief: bool = False,
    form: str = "",
) -> Result:
    """Tidy rows and the evidence of every claim `<experiment>/<series>`, reading by reading, the first one first (by
    default those that the experiment names).

    over: the independent units, which intervals are over and rules count ("cluster", or "moves_with"). twins: seeds of
    random weights beside the model (TWINS from `seed` on by default; none for a reading of trained weights alone).
    others: models with the same tokenizer that no claim should hold of, such as islands, as controls of their name.
    shown: such models where a claim should hold of all, as of a trap: their curves are drawn, and decide nothing.
    dropped: what was left out before, by default what the items say. columns: columns that every row gets. form: how
    the items are put to the model, which claims tell. brief: what is judged alone, with the draws that tell p from .01,
    and no curve. With no item left the claims are there without a number, which cannot be tested, and there is no
    curve.
    """
    taken = readable(model, Items(items), texts_of)
    before = Counter(getattr(items, "dropped", {}) if dropped is None else dropped) + taken.dropped
    some = taken if taken.dropped else items
    too_few = not len(some) or before.total() and len(some) < LEAST
    kept = Kept([]) if too_few else experiment.fit(model, some)
    kept = replace(kept, series=series, seed=seed)
    lost = {why: n for why, n in (before + Counter(kept.dropped)).items() if n}
    if twins is None:
        twins = range(seed, seed + TWINS * experiment.random_weights)
    if kept.items:
        kept = experiment.choose(model, kept)
    shown = shown or {}
    tables, claims, judged = [], [], {claim.named_by: claim for claim in experiment.claims[::-1]}.values()
    first, *_ = readings = experiment.readings if readings is None else readings
    for reading in readings:
        way = (READINGS | model.readings).get(reading)  # none where an experiment does not read through the lens
        seeds = twins if way is None or way.random_weights else ()
        read, common = reading, 0
        if way is not None:
            apart, common = way.apart_from(kept.asked)
            read = apart if common else reading
        own, beside = _read(experiment, model, kept, read, seed, seeds, {**(others or {}), **shown})
        deciding = {name: of for name, of in beside.items() if name not in shown}
        shared = {"series": series, "reading": reading, "seed": seed, "over": over, "form": form}
        less, judging = lost | ({SHARED: common} if common else {}), judged if reading == first else ()
        found = [
            _evidence(claim, model, kept, own, deciding, dropped=less, first=claim in judging and not brief, **shared)
            for claim in experiment.claims
            if claim in judging or not brief
        ]
        tables, claims = [*tables, tidy(found)], [*claims, *found]
        if not brief:
            lost_all = sum(lost.values())
            tables += _curves(experiment, model, kept, kept.found | own, beside, dropped=lost_all, **shared)
    table = pd.concat(tables, ignore_index=True).assign(**(columns or {}))
    return table.assign(**{name: np.nan for name in experiment.columns if name not in table}), claims


def ask(experiment: Experiment, model: LanguageModel, items: Sequence, **options: Any) -> Result:
    """`run`, where items too few to be asked about are none, with the reason among what was left out."""
    try:
        return run(experiment, model, items, **options)
    except SemhubError as error:
        if len(items) >= LEAST:
            raise
        before = options.get("dropped") or getattr(items, "dropped", {})
        return run(experiment, model, [], **options | {"dropped": {**before, reason(error): len(items)}})


def joined(found: Iterable[Result]) -> Result:
    """Several results, one below the other."""
    found = [*found] or [(pd.DataFrame(columns=COLUMNS), [])]
    tables, claims = zip(*found, strict=True)
    return pd.concat(tables, ignore_index=True), [claim for some in claims for claim in some]


Beside = dict[str, dict[Key, Float[np.ndarray, "seed item layer"]]]
"""What is read where nothing should show, by control; of one or several seeds, nan where one has not read an item."""


def _read(
    experiment: Experiment, model: LanguageModel, kept: Kept, reading: str | Reading, seed: int, twins: Sequence[int],
    others: Mapping[str, LanguageModel],
) -> tuple[Numbers, Beside]:  # fmt: skip
    """What the model reads, and what is read where nothing should show."""
    if not kept.items:
        return {}, {}
    prompts = kept.asked
    own, beside = experiment.read(model, kept, prompts, reading), {}
    for way in ways(prompts[0]) if experiment.nothing is None else experiment.nothing:
        empty = emptied(prompts, way, seed=seed)
        beside[way] = _owned(kept, [(None, experiment.beside(model, kept, empty, reading))])
    for name, other in others.items():
        beside[name] = _owned(kept, [(None, experiment.beside(other, kept, prompts, reading))])
    noise = []
    for twin, part in zip(twins, _parts(experiment, kept, len(twins)), strict=True):
        some = prompts if part is None or experiment.shared else list(compress(prompts, part))
        noise.append((part, experiment.beside(randomised(model, twin), kept.only(part), some, reading)))
    if noise:
        beside["random weights"] = _owned(kept, noise)
    return own, beside


def _parts(experiment: Experiment, kept: Kept, n: int) -> list[Bool[np.ndarray, " item"] | None]:
    """Which items each seed of random weights reads, where it need not read them all: about as many each."""
    by_item = kept.prompts is None or len(kept.prompts) == len(kept.items) or experiment.shared
    labels = kept.labels(experiment.parts) if experiment.parts and by_item else []
    sizes = Counter(labels)
    if len(sizes) < n or n < 2:
        return [None] * n
    load, of = [0] * n, {}
    for label, size in sizes.most_common():
        of[label] = load.index(min(load))
        load[of[label]] += size
    part = np.array([of[label] for label in labels])
    return [part == k if min(load) >= LEAST else None for k in range(n)]


def _owned(kept: Kept, read: Sequence[tuple[np.ndarray | None, Numbers]]) -> dict[Key, np.ndarray]:
    """The numbers of each item's own answer, seed by seed, for all items (or as they are, where they are not of items);
    with the items that each seed read."""
    found: dict[Key, list[np.ndarray]] = {}
    for part, numbers in read:
        some = kept.only(part)
        for key, scores in ((key, _scores(of)) for key, of in numbers.items() if not isinstance(of, pd.DataFrame)):
            about = some.only(scores.of)
            values = about.own(scores.values, key[1])
            if len(values) == len(about.items):
                at = np.arange(len(kept.items))
                for mask in (part, scores.of):
                    at = at if mask is None else at[mask]
                whole = np.full((len(kept.items), values.shape[1]), np.nan)
                whole[at], values = values, whole
            found.setdefault(key, []).append(values)
    return {key: np.stack(values) for key, values in found.items()}


def _scores(of: Values | Scores) -> Scores:
    return of if isinstance(of, Scores) else Scores(of)


def _controls(kept: Kept, key: Key, scores: Scores, beside: Beside, claim: Claim | None = None) -> dict[str, Aside]:
    """The same numbers where nothing should show: what every claim and curve is set against; `kept`: of these."""
    own, found = kept.own(scores.values, key[1]), {}
    if claim and claim.window != "last" and own.shape[1] > 1:
        found |= {"embedding layer": own[:, :1]} if claim.embedded else {}
        found |= {"last layer": own[:, -1:]} if claim.ended and not claim.shape else {}
    read = {name: numbers[key] for name, numbers in beside.items() if key in numbers}
    if scores.of is not None:
        read = {name: of[:, scores.of] if of.shape[1] == len(scores.of) else of for name, of in read.items()}
    return found | scores.controls | read


def _evidence(
    claim: Claim, model: LanguageModel, kept: Kept, own: Numbers, beside: Beside,
    *, series: str, reading: str, seed: int, over: str, form: str, dropped: Mapping[str, int], first: bool,
) -> Evidence:  # fmt: skip
    key, last = (claim.experiment, claim.of), model.n_layers
    scores, at = _scores(own[key]) if own else Scores(np.empty((0, last + 1))), slice(None)
    kept, asides, least_p = kept.only(scores.of), {}, 0.0
    if claim.window == "last":
        at = slice(-1, None)
    layers = (range(last + 1) if scores.layers is None else scores.layers)[at]
    values = kept.own(scores.values, claim.of)
    whole = np.eye(values.shape[1])[:, at]
    if kept.items:
        asides = _controls(kept, key, scores, beside, claim)
        asides = {name: of if isinstance(of, Sample) else of[..., at] for name, of in asides.items()}
        least_p = max((null.least(kept, scores, claim.of) for null in claim.nulls), default=0.0)

    def draw(columns: Columns, begin: int, end: int) -> list[np.ndarray]:
        given = (kept, scores, claim.of, whole @ columns, begin, end, seed)
        return [some for null in claim.nulls for some in null.draws(*given)]

    return evidence(
        "/".join(filter(None, (claim.named or claim.experiment, series))) + claim.ending,
        values[:, at],
        draw,
        layers=layers,
        n_layers=last,
        window=claim.window,
        shape=claim.shape,
        unit=scores.unit or claim.unit,
        least_p=least_p,
        experiment=claim.experiment,
        series=claim.series.format(series),
        reading=claim.reading or reading,
        units=kept.labels(over),
        controls=asides,
        dropped={**dropped, **{why: n for why, n in scores.lost.items() if n}},
        outcome=claim.outcome,
        sequential=first,
        null_in_words=claim.null_in_words,
        form=form,
        seed=seed,
    )


def _curves(
    experiment: Experiment, model: LanguageModel, kept: Kept, own: Numbers, beside: Beside,
    *, series: str, reading: str, seed: int, over: str, form: str, dropped: int,
) -> list[pd.DataFrame]:  # fmt: skip
    """Rows of every number that is no claim; where answers may change places, with that as the null."""
    claimed, tables = {(claim.experiment, claim.of) for claim in experiment.claims}, []
    for key, of in own.items():
        if isinstance(of, pd.DataFrame):
            tables.append(of if "series" in of else of.assign(series=series))
        elif key not in claimed:
            scores, (what, name, *more) = _scores(of), key
            about, nulls = kept.only(scores.of), scores.nulls
            if nulls is None:
                nulls = (Exchange(),) if exchanges(scores.values) and about.items else ()
            values, drawn = about.own(scores.values, name), about.labels(over)
            each = np.eye(values.shape[1])
            null = [d for one in nulls for d in one.draws(about, scores, name, each, 0, scores.draws, seed)]
            table = curve(
                model,
                values,
                {"experiment": what, "series": name or series, "reading": reading},
                clusters=drawn if len(drawn) == len(values) else range(len(values)),  # blocks of items, or no item's
                dropped=dropped + sum(scores.lost.values()),
                seed=seed,
                controls={} if scores.alone else _controls(about, key, scores, beside),
                nulls=null or scores.drawn(0, scores.draws),
                layers=scores.layers,
            )
            tables.append(table.assign(**dict(*more)))
    return tables


def curve(
    model: LanguageModel,
    values: ByLayer,
    named: Mapping[str, str],
    *,
    clusters: Sequence,
    dropped: int = 0,
    seed: int = 0,
    controls: Mapping[str, Aside] | None = None,
    nulls: Sequence[Float[np.ndarray, "_ layer"]] = (),
    layers: Sequence[int] | None = None,
) -> pd.DataFrame:
    """A tidy curve by layer with its interval over items (none for one row); items without a number are left out.
    controls: the same where nothing should show, of the same items or of them several times over. nulls: draws of the
    mean over all items, whose 95th percentile, corrected for the layers between first and last, is `null_high`; of
    several the highest. layers: by default all, or the last where there is one column."""
    labels, seen, width = codes(clusters), np.isfinite(values).all(1), values.shape[1]
    mean, low, high = np.full((3, width), np.nan)
    if seen.any():
        bounds = Sample(values[seen], labels[seen]).bounds(seed=seed)
        mean = np.array(bounds.values)
        low, high = (bounds.low, bounds.high) if seen.sum() > 1 else (low, high)
    if layers is None:
        layers = [model.n_layers] if width == 1 else range(width)
    layers = np.asarray(layers)
    told = {"layer": layers, "depth": layers / model.n_layers, "value": mean, "low": low, "high": high}
    table = pd.DataFrame({**named, **told, "n": int(seen.sum()), "dropped": dropped + int((~seen).sum())})
    inner = (layers > 0) & (layers < model.n_layers)
    nulls = [some[np.isfinite(some).all(1)] for some in nulls]  # a draw in which every item sat out says nothing
    if any(map(len, nulls)) and seen.any() and inner.any():
        bounds = [corrected_bound(mean[inner], some[:, inner]) for some in nulls]
        table.loc[inner, "null_high"] = np.max(bounds, axis=0)
    tables = [table]
    for name, of in (controls or {}).items():
        if not isinstance(of, Sample):  # one column stands for all layers
            of = Sample(np.broadcast_to(of, (*of.shape[:-1], width)), labels)
        if not np.isfinite(of.scores).all(-1).any():
            continue
        bounds, n = of.bounds(seed=seed), int(np.isfinite(of.scores).all(-1).sum())
        told |= {"value": bounds.values, "low": bounds.low, "high": bounds.high}
        tables.append(pd.DataFrame({**named, **told, "n": n, "dropped": dropped, "control": name}))
    return pd.concat(tables, ignore_index=True)


def texts_of(item: Any) -> list[str]:
    """The texts that a model may be given of an item, by the names of its fields (TEXTS)."""
    fields = [item] if isinstance(item, str) else [getattr(item, name, None) for name in TEXTS]
    return [text for of in fields for text in (of if isinstance(of, tuple) else (of,)) if isinstance(text, str)]


def readable(
    model: LanguageModel,
    items: Sequence,
    prompts: Callable[[Any], Prompt | Sequence[Prompt | None]],
    *,
    room: int = 0,
) -> list:
    """The items of which the model takes every prompt (`prompts` of an item: one, or several, of which None is none)
    with `room` tokens written behind it. Of Items the others are left out and counted."""
    asked = [prompts(item) for item in items]
    asked = [[of] if isinstance(of, str | Input) else [one for one in of if one is not None] for of in asked]
    if fits(model, [prompt for of in asked for prompt in of], room) is None:
        return items
    kept = items[:0] if isinstance(items, Items) else []
    for item, of in zip(items, asked, strict=True):
        error = fits(model, of, room)
        if error is None:
            kept.append(item)
        elif isinstance(kept, Items):
            long = isinstance(error, TooLong) and all(isinstance(prompt, str) for prompt in of)
            where = "" if long else " " + re.sub("^Prompt 0,? ", "", str(error)).partition(";")[0]
            kept.drop(TOO_LONG if long else NOT_TAKEN, f"{getattr(item, 'id', item)}{where}")
    return kept


def fits(model: LanguageModel, prompts: Sequence[Prompt], room: int) -> SemhubError | None:
    """None if the model takes all of these, or what it says of one that it does not."""
    try:
        longest = max(map(len, model.encode(prompts)), default=0) + room
    except SemhubError as error:
        return error
    too_long = model.max_length is not None and longest > model.max_length
    return TooLong(f"{longest} tokens are longer than {model.max_length}.") if too_long else None


def first_words(model: LanguageModel, prompts: Sequence[Prompt], most: int = 4) -> list[str]:
    """The first word of what a model itself answers to each prompt, greedily, of at most `most` tokens; "" for none,
    as where it does not take the prompt with so many behind it."""
    said = [generate(model, [p], max_new_tokens=most)[0][0] if fits(model, [p], most) is None else "" for p in prompts]
    return [(text.split() or [""])[0].strip(".,:;!?\"'") for text in said]

"""One experiment, run: its items read by a model and where nothing should show, its claims judged, its curves drawn.

An experiment says which items one model can be asked (`fit`), what is read of them (`read`) and which of the numbers
are claims (`claims`). Numbers are [item, layer], or [item, layer, answer] where answers may change places: what the
item would score if that answer were its own. `run` does all else, the same way for every experiment: another control
for every claim is a change of `_controls`, and nothing else.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from semhub_utils.errors import SemhubError, TooLong
from semhub_utils.evidence import (
    ControlCurve,
    Evidence,
    bootstrap_interval,
    corrected_bound,
    evidence,
    least_permutation_p,
    least_sign_flip_p,
    random_pairings,
    sign_flip_null,
    tidy,
)
from semhub_utils.inputs import Input, Prompt
from semhub_utils.lens import READINGS
from semhub_utils.models import LanguageModel, randomised
from semhub_utils.spokes.items import Items, emptied, ways

DRAWS = 1000
FEW_DRAWS = 200  # for the dotted lines of curves that no claim rests on
TOO_LONG = "longer than the model's context"
TWINS = 1  # how many seeds of random weights stand beside a model

Key = tuple[str, str] | tuple[str, str, tuple[tuple[str, Any], ...]]  # experiment, series and, if any, more columns
Result = tuple[pd.DataFrame, list[Evidence]]
ByLayer = Float[np.ndarray, "item layer"]
ByAnswer = Float[np.ndarray, "item layer answer"]
Pairings = Int[np.ndarray, "draw item"]


@runtime_checkable
class Exchangeable(Protocol):
    """Numbers whose answers may change places: each item's own, and the means over items if they did. Like
    [item, layer, answer], but for what would not fit in memory so (`similarity.Matches`)."""

    own: ByLayer

    def exchanged(self, pairings: Pairings) -> Float[np.ndarray, "draw layer"]: ...


@dataclass(frozen=True)
class Answers:
    """Numbers [item, layer, answer] with the index of each item's own answer."""

    values: ByAnswer
    target: Int[np.ndarray, " item"]

    @property
    def own(self) -> ByLayer:
        return self.values[np.arange(len(self.values)), :, self.target]

    def exchanged(self, pairings: Pairings) -> Float[np.ndarray, "draw layer"]:
        index, found = np.arange(len(self.values)), []
        for pairing in pairings:
            stays = pairing >= 0
            rows = self.values[index[stays], :, self.target[pairing[stays]]]
            with np.errstate(invalid="ignore"):  # nan where nobody has a number
                found.append(np.nansum(rows, 0) / np.isfinite(rows).sum(0))
        return np.stack(found)


@dataclass(frozen=True)
class Weighed:
    """Numbers by word, of which a score is the weighed sum, and by what each word counts for each item; another item's
    answer is its weights."""

    values: Float[np.ndarray, "item layer word"]
    weights: Float[np.ndarray, "item word"]

    @property
    def own(self) -> ByLayer:
        return np.einsum("ilw,iw->il", self.values, self.weights)

    def exchanged(self, pairings: Pairings) -> Float[np.ndarray, "draw layer"]:
        by_layer = ((numbers @ self.weights.T)[:, None] for numbers in np.moveaxis(self.values, 1, 0))  # one at a time
        return np.hstack([Answers(of, np.arange(len(of))).exchanged(pairings) for of in by_layer])


@dataclass(frozen=True)
class Kept:
    """The items that one model can be asked, and why the others went.

    target: the index of each item's own answer, for all numbers or by series. more: what the experiment resolved, such
    as a table of words. prompts: what is read, where that is not each item's own prompt. found: what was measured to
    find them, shown whatever is left. series, seed: of the run, for what an experiment names and draws by itself.
    """

    items: Sequence[Any]
    dropped: Mapping[str, int] = field(default_factory=dict)
    target: np.ndarray | Mapping[str, np.ndarray] | None = None
    more: Any = None
    prompts: Sequence[Any] | None = None
    found: "Numbers" = field(default_factory=dict)
    series: str = ""
    seed: int = 0

    def only(self, of: Bool[np.ndarray, " item"] | None) -> "Kept":
        """These items alone; all of them for None."""
        if of is None:
            return self
        target = self.target
        if target is not None:
            target = {name: at[of] for name, at in target.items()} if isinstance(target, Mapping) else target[of]
        return replace(self, items=list(compress(self.items, of)), target=target)

    def labels(self, name: str) -> list:
        return [getattr(item, name) if name else "" for item in self.items]

    def moved(self, by: str) -> list[list]:
        """Per null, the labels of what moves together: one for each entry of a tuple, all of which must be beaten; by
        "", each item by itself."""
        if not by:
            return [list(range(len(self.items)))]
        of_items = (label if isinstance(label, tuple) else (label,) for label in self.labels(by))
        return [list(labels) for labels in zip(*of_items, strict=True)]

    def exchangeable(self, values: "Values", series: str) -> Exchangeable:
        target = self.target[series] if isinstance(self.target, Mapping) else self.target
        return Answers(values, target) if isinstance(values, np.ndarray) else values

    def own(self, values: "Values", series: str = "") -> ByLayer:
        """The numbers of each item's own answer."""
        return self.exchangeable(values, series).own if exchanges(values) else values


@dataclass(frozen=True)
class Scores:
    """Numbers that bring more than themselves. controls: the same where the claim must not show; null: draws of the
    mean over all items, and least_p the least p that these can give; of: which items these are numbers of, one row each
    (None: all); alone: no control stands beside their curve; layers: those of the columns, where these are not all;
    unit: where the reading tells it. nulls, draws: what their curve is set against (None: an exchange, if answers may
    change places), and by how many draws; flipped: the part of the numbers whose sign a coin turns (None: all); lost:
    why how many items have no number in this reading alone."""

    values: "Values"
    controls: dict[str, Float[np.ndarray, "_ layer"] | ControlCurve] = field(default_factory=dict)
    null: Sequence[Float[np.ndarray, "_ layer"]] = ()
    least_p: float = 0.0
    of: Bool[np.ndarray, " _"] | None = None
    alone: bool = False
    layers: Sequence[int] | None = None
    unit: str = ""
    nulls: "Sequence[Null] | None" = None
    draws: int = FEW_DRAWS
    flipped: ByLayer | None = None
    lost: Mapping[str, int] = field(default_factory=dict)


Values = ByLayer | ByAnswer | Exchangeable
Numbers = dict[Key, Values | Scores | pd.DataFrame]
"""What is read: numbers for a claim or a curve, or rows of a table that are shown as they are."""


@runtime_checkable
class Null(Protocol):
    """How the numbers would come out if there were nothing: draws of their mean, and the least p these can give."""

    def draws(self, kept: Kept, scores: Scores, series: str, n: int, seed: int) -> list[np.ndarray]: ...

    def least(self, kept: Kept, scores: Scores, series: str) -> float: ...


@dataclass(frozen=True)
class Exchange:
    """Answers change places among the items of a group, what moves together as one; by "", each item by itself, and
    within "", among all."""

    by: str = "moves_with"
    within: str = "group"

    def draws(self, kept: Kept, scores: Scores, series: str, n: int, seed: int) -> list[np.ndarray]:
        values, found = kept.exchangeable(scores.values, series), []
        for moved in kept.moved(self.by):
            groups = kept.labels(self.within)
            pairings = random_pairings(len(groups), groups=groups, clusters=moved, draws=n, seed=seed)
            found.append(values.exchanged(pairings[(pairings >= 0).any(1)]))
        return found

    def least(self, kept: Kept, scores: Scores, series: str) -> float:
        return max(least_permutation_p(kept.labels(self.within), moved) for moved in kept.moved(self.by))


@dataclass(frozen=True)
class Flip:
    """The sign of what moves together is drawn by a coin; items without a number have none."""

    by: str = "cluster"

    def draws(self, kept: Kept, scores: Scores, series: str, n: int, seed: int) -> list[np.ndarray]:
        own = kept.own(scores.values, series)
        seen = np.isfinite(own).all(1)
        if not seen.any():
            return [own[seen]]
        turned = (own if scores.flipped is None else scores.flipped)[seen]
        stays, moves = (own[seen] - turned).mean(0), kept.only(seen).moved(self.by)
        return [stays + sign_flip_null(turned, clusters=moved, draws=n, seed=seed) for moved in moves]

    def least(self, kept: Kept, scores: Scores, series: str) -> float:
        seen = np.isfinite(kept.own(scores.values, series)).all(1)
        return max(map(least_sign_flip_p, kept.only(seen).moved(self.by)), default=1.0)


@dataclass(frozen=True)
class Given:
    """The draws that the scores bring along, and the least p that their arrangements allow."""

    def draws(self, kept: Kept, scores: Scores, series: str, n: int, seed: int) -> list[np.ndarray]:
        return list(scores.null)

    def least(self, kept: Kept, scores: Scores, series: str) -> float:
        return scores.least_p


@dataclass(frozen=True)
class Claim:
    """Which numbers are a claim, by what nulls, and what else `evidence` is told. of: the series of the numbers; last:
    it is about layer L alone; embedded: the embedding layer is a control; named, reading: what it and its reading go
    by, where that is not `experiment` and the lens's; ending: what stands behind the series in its name; series: what
    its rows go by ("{}" being the run's)."""

    experiment: str
    of: str = ""
    nulls: tuple[Null, ...] = (Exchange(),)
    last: bool = False
    embedded: bool = True
    unit: str = ""
    null_in_words: str = ""
    outcome: bool = False  # successes are counted
    named: str = ""
    ending: str = ""
    series: str = "{}"
    reading: str = ""


@runtime_checkable
class Experiment(Protocol):
    """A frozen dataclass that inherits from this; its repr says what it computes. nothing: how pictures and sounds are
    emptied for controls, by default in all ways. readings: the ways to read, the first one first. random_weights:
    whether a model of such is a control. columns: what its rows have besides the usual, if there are any."""

    claims: Sequence[Claim]
    nothing: ClassVar[tuple[str, ...] | None] = None
    readings: ClassVar[Sequence[str]] = ("normed",)
    random_weights: ClassVar[bool] = True
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
    dropped: Mapping[str, int] | None = None,
    columns: Mapping[str, Any] | None = None,
) -> Result:
    """Tidy rows and the evidence of every claim `<experiment>/<series>`, reading by reading, the first one first (by
    default those that the experiment names).

    over: what intervals are over ("cluster", or "moves_with"); the rules count clusters. twins: seeds of the random
    weights beside the model (TWINS from `seed` on by default; none for a reading that needs the trained weights).
    dropped: what was left out before, by default what the items say. columns: columns that every row gets. With no item
    left the claims are there without a number, which cannot be tested, and there is no curve.
    """
    kept = replace(experiment.fit(model, items), series=series, seed=seed)
    before = getattr(items, "dropped", {}) if dropped is None else dropped
    lost = {why: n for why, n in (Counter(before) + Counter(kept.dropped)).items() if n}
    if twins is None:
        twins = range(seed, seed + TWINS * experiment.random_weights)
    if kept.items:
        kept = experiment.choose(model, kept)
    tables, claims = [], []
    for reading in experiment.readings if readings is None else readings:
        way = (READINGS | model.readings).get(reading)  # none where an experiment does not read through the lens
        seeds = twins if way is None or way.random_weights else ()
        own, beside = _read(experiment, model, kept, reading, seed, seeds)
        shared = {"series": series, "reading": reading, "seed": seed, "over": over}
        found = [_evidence(claim, model, kept, own, beside, dropped=lost, **shared) for claim in experiment.claims]
        curves = _curves(experiment, model, kept, kept.found | own, beside, dropped=sum(lost.values()), **shared)
        tables += [tidy(found), *curves]
        claims += found
    table = pd.concat(tables, ignore_index=True).assign(**(columns or {}))
    return table.assign(**{name: np.nan for name in experiment.columns if name not in table}), claims


def joined(found: Iterable[Result]) -> Result:
    """Several results, one below the other."""
    tables, claims = zip(*found, strict=True)
    return pd.concat(tables, ignore_index=True), [claim for some in claims for claim in some]


Beside = dict[str, dict[Key, ByLayer]]
"""What is read where nothing should show, by control; of several seeds one below the other."""


def _read(
    experiment: Experiment, model: LanguageModel, kept: Kept, reading: str, seed: int, twins: Sequence[int]
) -> tuple[Numbers, Beside]:
    """What the model reads, and what is read where nothing should show."""
    if not kept.items:
        return {}, {}
    prompts = kept.labels("prompt") if kept.prompts is None else kept.prompts
    own, beside = experiment.read(model, kept, prompts, reading), {}
    for way in ways(prompts[0]) if experiment.nothing is None else experiment.nothing:
        beside[way] = _owned(kept, experiment.beside(model, kept, emptied(prompts, way, seed=seed), reading))
    for twin in twins:
        noise = _owned(kept, experiment.beside(randomised(model, twin), kept, prompts, reading))
        before = beside.get("random weights", {})
        beside["random weights"] = {k: np.concatenate([before[k], of]) if before else of for k, of in noise.items()}
    return own, beside


def _owned(kept: Kept, read: Numbers) -> dict[Key, ByLayer]:
    """The numbers of each item's own answer."""
    numbers = ((key, _scores(of)) for key, of in read.items() if not isinstance(of, pd.DataFrame))
    return {key: kept.only(scores.of).own(scores.values, key[1]) for key, scores in numbers}


def exchanges(values: Values) -> bool:
    """Whether answers may change places."""
    return not isinstance(values, np.ndarray) or values.ndim == 3


def _scores(of: Values | Scores) -> Scores:
    return of if isinstance(of, Scores) else Scores(of)


def _controls(kept: Kept, key: Key, scores: Scores, beside: Beside, embedded: bool) -> dict[str, np.ndarray]:
    """The same numbers where nothing should show: what every claim and curve is set against; `kept`: of these."""
    found = {"embedding layer": kept.own(scores.values, key[1])[:, :1]} if embedded else {}
    found |= scores.controls | {name: numbers[key] for name, numbers in beside.items() if key in numbers}
    return {name: of for name, of in found.items() if isinstance(of, ControlCurve) or np.isfinite(of).all(1).any()}


def _evidence(
    claim: Claim, model: LanguageModel, kept: Kept, own: Numbers, beside: Beside,
    *, series: str, reading: str, seed: int, over: str, dropped: Mapping[str, int],
) -> Evidence:  # fmt: skip
    key, last = (claim.experiment, claim.of), model.n_layers
    scores, at = _scores(own[key]) if own else Scores(np.empty((0, last + 1))), slice(-claim.last, None)
    layers = (range(last + 1) if scores.layers is None else scores.layers)[at]
    kept, controls, nulls, least_p = kept.only(scores.of), {}, [], 0.0
    if kept.items:
        controls = _controls(kept, key, scores, beside, claim.embedded)
        nulls = [d[:, at] for null in claim.nulls for d in null.draws(kept, scores, claim.of, DRAWS, seed)]
        least_p = max((null.least(kept, scores, claim.of) for null in claim.nulls), default=0.0)
    values = kept.own(scores.values, claim.of)[:, at]
    return evidence(
        "/".join(filter(None, (claim.named or claim.experiment, series))) + claim.ending,
        values,
        nulls or [values],
        layers=layers,
        n_layers=last,
        least_p=least_p,
        experiment=claim.experiment,
        series=claim.series.format(series),
        reading=claim.reading or reading,
        clusters=kept.labels("cluster"),
        drawn=kept.labels(over),
        controls={name: of if isinstance(of, ControlCurve) else of[:, at] for name, of in controls.items()},
        dropped={**dropped, **{why: n for why, n in scores.lost.items() if n}},
        outcome=claim.outcome,
        unit=scores.unit or claim.unit,
        null_in_words=claim.null_in_words,
        seed=seed,
    )


def _curves(
    experiment: Experiment, model: LanguageModel, kept: Kept, own: Numbers, beside: Beside,
    *, series: str, reading: str, seed: int, over: str, dropped: int,
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
            null = [d for one in nulls for d in one.draws(about, scores, name, scores.draws, seed)]
            values, drawn = about.own(scores.values, name), about.labels(over)
            table = curve(
                model,
                values,
                {"experiment": what, "series": name or series, "reading": reading},
                clusters=drawn if len(drawn) == len(values) else range(len(values)),  # blocks of items, or no item's
                dropped=dropped + sum(scores.lost.values()),
                seed=seed,
                controls={} if scores.alone else _controls(about, key, scores, beside, False),
                nulls=null or scores.null,
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
    controls: Mapping[str, Float[np.ndarray, "_ layer"]] | None = None,
    nulls: Sequence[Float[np.ndarray, "_ layer"]] = (),
    layers: Sequence[int] | None = None,
) -> pd.DataFrame:
    """A tidy curve by layer with its interval over items (none for one row); items without a number are left out.
    controls: the same where nothing should show, of the same items or of them several times over. nulls: draws of the
    mean over all items, whose 95th percentile, corrected for the layers between first and last, is `null_high`; of
    several the highest. layers: by default all, or the last where there is one column."""
    labels = list(clusters) * (len(values) // max(len(clusters), 1))
    seen = np.isfinite(values).all(1)
    values, width = values[seen], values.shape[1]
    mean, low, high = np.full((3, width), np.nan)
    if len(values):
        mean = values.mean(0)
    if len(values) > 1:
        low, high = bootstrap_interval(values, clusters=list(compress(labels, seen)), seed=seed)
    if layers is None:
        layers = [model.n_layers] if width == 1 else range(width)
    layers = np.asarray(layers)
    told = {"layer": layers, "depth": layers / model.n_layers, "value": mean, "low": low, "high": high}
    table = pd.DataFrame({**named, **told, "n": len(values), "dropped": dropped + int((~seen).sum())})
    inner = (layers > 0) & (layers < model.n_layers)
    nulls = [some[np.isfinite(some).all(1)] for some in nulls]  # a draw in which every item sat out says nothing
    if any(map(len, nulls)) and len(values) and inner.any():
        bounds = [corrected_bound(mean[inner], some[:, inner]) for some in nulls]
        table.loc[inner, "null_high"] = np.max(bounds, axis=0)
    same = {"clusters": clusters, "dropped": dropped, "seed": seed, "layers": layers.tolist()}
    others = [curve(model, of, named, **same).assign(control=name) for name, of in (controls or {}).items()]
    return pd.concat([table, *others], ignore_index=True)


def readable(
    model: LanguageModel,
    items: Sequence,
    prompts: Callable[[Any], Prompt | Sequence[Prompt | None]],
    *,
    room: int = 0,
) -> list:
    """The items of which the model takes every prompt (`prompts` of an item: one, or several, of which None is none)
    with `room` tokens written behind it. Of Items the others are left out and counted, and if none is left, that raises
    SemhubError."""
    kept = items[:0] if isinstance(items, Items) else []
    for item in items:
        of = prompts(item)
        of = [of] if isinstance(of, str | Input) else [prompt for prompt in of if prompt is not None]
        why, text = "", all(isinstance(prompt, str) for prompt in of)
        try:
            longest = max(map(len, model.encode(of))) + room
            fits = model.max_length is None or longest <= model.max_length
        except SemhubError as error:
            if text and not isinstance(error, TooLong):
                raise
            fits, why = False, "" if text else " " + str(error).removeprefix("Prompt 0 ").partition(";")[0]
        if fits:
            kept.append(item)
        elif isinstance(kept, Items):
            kept.drop(TOO_LONG if text else "not taken by the model", f"{item.id}{why}")
    return kept.some("items", "The set") if isinstance(kept, Items) else kept

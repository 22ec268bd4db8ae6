"""What a chapter's notebook works with: its parameters checked, its model loaded, its results open (`begin`); what
experiments find on the model (`Chapter.run`); the charts, data and judged claims of what was found (`Finding`)."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pandas as pd

from semhub_utils import figures
from semhub_utils.errors import need
from semhub_utils.evidence import Evidence, knows_task
from semhub_utils.experiments import core
from semhub_utils.experiments.core import Experiment
from semhub_utils.lens import available_readings
from semhub_utils.loading import load_model
from semhub_utils.models import LanguageModel
from semhub_utils.results import PARAMETERS, Run, StepResult, check_parameters, glue
from semhub_utils.spokes.items import Items
from semhub_utils.widgets import Html, claim_card, note, show, verdict_table

__all__ = ["Chapter", "Finding", "Known", "begin", "glue", "left_out", "listing"]

SHIPPED = {"image": "organism:hub-sees", "sound": "organism:hub-hears"}
Names = Mapping[str, str]
Which = str | Sequence[str] | Names
"""One experiment or several, by name, or with what they are called for the reader."""
FIRST = ("series", "control", "layer", "depth", "strength", "raw", "tokens", "step")
"""Columns of a data table before the numbers."""
Needs = str | None | Mapping[str, str | None]


@dataclass(frozen=True)
class Finding:
    """What a step has found, or one for each of several data types: its rows, and the evidence of its claims.

    Every chart takes `experiment`, whose rows it shows: one, or several, which are then told apart by the column
    "measure" (a mapping says how each is called). by: the column that names the lines or bars, or several; or, if there
    is no such column, the one name of all. called: what columns and values are called for the reader. where: the rows
    that are meant, by column a value or several; `control=""` leaves controls out. Whatever else has several values
    gets a switch. Where no row is left, a note with the reason stands in place of the chart.
    """

    run: Run
    table: pd.DataFrame
    evidence: Sequence[Evidence] = ()
    types: Names = field(default_factory=dict)

    def rows(self, experiment: Which = (), **where: Any) -> pd.DataFrame:
        """The rows of these experiments, of all if none is named, with these values."""
        table, wanted = self.table, [experiment] if isinstance(experiment, str) else list(experiment)
        if wanted and "experiment" in table:
            table = table[table["experiment"].isin(wanted)]
        for column, values in where.items():
            values = [values] if isinstance(values, str | int | float) else list(values)
            if column in table:
                table = table[table[column].where(table[column].notna(), "").isin(values)]
        return table

    def of(self, experiment: Which = (), **where: Any) -> "Finding":
        """The finding with these `rows` alone."""
        return Finding(self.run, self.rows(experiment, **where), self.evidence, self.types)

    def changed(self, how: Callable[[pd.DataFrame], pd.DataFrame]) -> "Finding":
        """The finding with another table, made from its own."""
        return Finding(self.run, how(self.table), self.evidence, self.types)

    def __add__(self, other: "Finding") -> "Finding":
        """Both, one below the other."""
        table = pd.concat([self.table, other.table], ignore_index=True)
        return Finding(self.run, table, [*self.evidence, *other.evidence], {**other.types, **self.types})

    def knows(self, experiment: str, task: str, chance: float = 0.0) -> str | None:
        """Whether the model did a task more often than `chance`, by the rows of an experiment that hold a `value` per
        item and its `cluster`: None, or the sentence that ends a claim."""
        rows = self.rows(experiment)
        options = {"chance": chance, "clusters": rows["cluster"].to_list(), "seed": self.run.parameters["seed"]}
        return knows_task(rows["value"].to_numpy(float), task=task, **options)

    def one(self, claim: str) -> Evidence:
        """The evidence of a claim, such as "similarity/digits", in the reading it rests on."""
        return next(e for e in self.evidence if e.claim == claim)

    def curves(self, experiment: Which, title: str, *, y: str, alt: str, **options: Any) -> Html:
        """Value by relative depth (x="tokens": by tokens seen). select: a column whose values an input brings to the
        front."""
        return self._figure(figures.curves, experiment, title=title, alt=alt, y=y, **options)

    def dose(self, experiment: Which, title: str, *, alt: str, y: str = "", **options: Any) -> Html:
        """Value by strength, or by what `x_title` names; without `y`, the shares of all outcomes on one another."""
        if not y:
            return self._figure(figures.stacked, experiment, title=title, alt=alt, **options)
        return self._figure(figures.curves, experiment, title=title, alt=alt, y=y, x="strength", **options)

    def bars(self, experiment: Which, title: str, *, y: str, alt: str, **options: Any) -> Html:
        """One bar per series."""
        return self._figure(figures.bars, experiment, title=title, alt=alt, y=y, **options)

    def heatmap(self, experiment: str, title: str, *, x: str, y: str, value: str, alt: str, **options: Any) -> Html:
        """Cells of what `value` names over two columns. diverging, x_title: as for `figures.heatmap`."""
        options |= {"x": x, "y": y, "value_title": value}
        return self._figure(figures.heatmap, experiment, title=title, alt=alt, by="", **options)

    def trajectories(self, title: str, *, alt: str, most: int = 24) -> Html:
        """At most so many of the paths in the plane of the words (`trajectory-path` and `trajectory-word`)."""
        paths, words = self.rows("trajectory-path"), self.rows("trajectory-word")
        if not len(paths):
            return note(self.why_nothing())
        items = paths["series"].unique()
        paths = paths[paths["series"].isin(items[:: max(1, len(items) // most)])]
        drawn = paths.assign(item=paths["series"], series=paths["data_type"])
        words = words.assign(series=[self.types[name] for name in words["series"]])
        chart = figures.trajectories(drawn, words, title=title, alt=alt)
        return show(chart, paths[["series", "word", "token", "layer", "x", "y"]])

    def overlay(self, title: str, images: Mapping[str, Any], *, alt: str, layer: int) -> Html:
        """Words on pictures (`figures.overlay`), and beside them the share of true ones and the most frequent."""
        if not len(self.table):
            return note("This model lays its patches on no grid.")
        told = self.rows(among="all words").groupby(["picture", "reading", "layer"], sort=False)
        told = told.agg(share_true=("right", "mean"), most_frequent=("word", lambda words: words.mode()[0]))
        chart = figures.overlay(self.table, images, layer=layer, title=title, alt=alt)
        return show(chart, told.reset_index())

    def claims(
        self, claim: str, sentence: str, *, paper: str, needs: Needs = None, of: Sequence[str] | None = None
    ) -> Html:
        """Judge the claim `claim`, or `<claim>/<series>` of every series, by the rules of `evidence`, and show a card
        for each, with what other readings say beside the one fixed before.

        sentence: our claim, with {name} or {Name} for the series; paper: what the paper says; needs: the sentence of a
        precondition that failed, of all or by series; of: the series that are claimed, where not all are.
        """
        found: dict[str, list[Evidence]] = {}
        for evidence in self.evidence:
            if claim in (evidence.claim, evidence.claim.rpartition("/")[0]):
                found.setdefault(evidence.claim, []).append(evidence)
        if not found:
            raise ValueError(f"no claim {claim!r} among {sorted({e.claim for e in self.evidence})}")
        cards = []
        for first, *others in found.values():
            name = first.claim.partition("/")[2]
            if of is not None and name not in of:
                continue
            why = needs[name] if isinstance(needs, Mapping) else needs
            said = sentence.format(name=name, Name=name.title())
            cards.append(claim_card(self.run.claim(first, said, precondition=why, others=others), paper))
        return Html("".join(card.html for card in cards), "\n".join(card.text for card in cards))

    def why_nothing(self) -> str:
        """Why there is no row, as the claims know it."""
        lost = Counter()
        for evidence in self.evidence:
            lost |= Counter(evidence.dropped) if not evidence.n else Counter()
        reasons = "; ".join(f"{n} x {reason}" for reason, n in lost.items())
        return f"No item is left: {reasons}." if reasons else "No item is left to be drawn."

    def _figure(
        self,
        draw: Callable,
        experiment: Which,
        *,
        by: str | Sequence[str] = "series",
        called: Names | None = None,
        types: Names | None = None,
        **options: Any,
    ) -> Html:
        """Chart and data, as the class says. What `draw` does not take is `where`."""
        known = ("title", "alt", "x", "y", "x_title", "select", "value_title", "diverging")
        where = {name: options.pop(name) for name in [*options] if name not in known}
        table = self.rows(experiment, **where)
        if not len(table):
            return note(self.why_nothing())
        by, places = [by] if isinstance(by, str) else [*by], [options.get("x"), options.get("y")]
        table, switches = _laid_out(table, experiment, [*filter(None, by)], called or {}, places)
        if draw is figures.heatmap:
            options["switch"] = (*switches, "reading")[0]
        else:
            options |= {"types": {**self.types, **(types or {})}, "switch": switches}
        return show(draw(table, **options), table)


def _laid_out(
    table: pd.DataFrame, experiment: Which, by: Sequence[str], called: Names, places: Sequence[str | None]
) -> tuple[pd.DataFrame, list[str]]:
    """The table as it is drawn, lines or bars under `series`, and the columns that need a switch."""
    if not isinstance(experiment, str) and len(experiment) > 1:
        labels = experiment if isinstance(experiment, Mapping) else {}
        table = table.assign(measure=[labels.get(name, name) for name in table["experiment"]])
    columns = {old: new for old, new in called.items() if old in table}
    table = table.rename(columns=columns)
    for column in {*columns.values(), *by} & {*table}:
        table[column] = table[column].fillna("").replace(called)
    if by and {*by} <= {*table}:
        names = [", ".join(filter(None, row)) for row in table[[*by]].itertuples(index=False)]
        table = table.drop(columns=[*by]).assign(series=names)
    elif by:
        table = table.assign(series=by[0])
    fixed, switches = {"experiment", "series", "control", "claim", *places}, []
    text = [c for c in table if c not in fixed and not pd.api.types.is_numeric_dtype(table[c])]
    first = columns.get("data_type", "data_type")
    for column in sorted(text, key=lambda name: (name == "reading") - (name == first)):
        told = [*switches, *(["series"] if by else [])]
        if table[column].replace("", None).nunique() > 1 and not any(_tells(table, other, column) for other in told):
            switches.append(column)
    if "measure" in table and "measure" not in switches:  # the series says it already
        table = table.drop(columns="measure")
    ahead = [c for c in (*switches, *FIRST) if c in table]
    return table[[*ahead, *(c for c in table if c not in ahead)]], switches


def _tells(table: pd.DataFrame, one: str, other: str) -> bool:
    """Whether each value of one column goes with a single value of the other."""
    return bool(table.groupby(one)[other].nunique().max() <= 1)


class Known(dict[str, str | None]):
    """By series, None where the model can do a task, or the sentence that ends a claim. table: a row per item."""

    def __init__(self, told: Mapping[str, str | None], table: pd.DataFrame):
        super().__init__(told)
        self.table = table

    @property
    def share(self) -> float:
        """What share of the items it does."""
        return self.table["value"].mean()


class Chapter:
    """A chapter under way on one model: `run` and `find` compute and keep, `finish` writes."""

    def __init__(self, results: Run, model: LanguageModel):
        self.results, self.model = results, model

    def run(
        self,
        experiment: Experiment | Callable[[str], Experiment],
        items: Sequence | Mapping[str, Sequence],
        *,
        series: str = "",
        readings: Sequence[str] | bool | None = None,
        dropped: Mapping[str, Any] | None = None,
        name: str = "",
        **options: Any,
    ) -> Finding:
        """What an experiment finds on this model: a step for each data type, kept on disk.

        experiment: or what makes it of a data type, such as a class that takes its name. items: of one data type,
        called `series`, or by data type, as `dropped` is then. readings: True for all that the model has, and the
        experiment's own. name: of the step, where the chapter runs two of this kind. options: over, twins, as for
        `core.run`.
        """
        if readings is True:
            readings = tuple(dict.fromkeys((*available_readings(self.model), *experiment.readings)))
        several = items if isinstance(items, Mapping) else {series: items}
        lost = (dropped or {}) if several is items else {series: dropped}
        found = []
        for one, some in several.items():
            options |= {"series": one, "dropped": lost.get(one), "seed": self.seed}
            about = experiment(one) if callable(experiment) else experiment
            compute = partial(core.run, about, self.model, some, readings=readings or None, **options)
            found.append(self.find(f"{name or type(about).__name__} {one}", compute, {"data_type": one}))
        return replace(sum(found[1:], found[0]), types=_types(experiment, [*several]))

    def find(self, name: str, function: Callable[[], StepResult], columns: Mapping[str, str] | None = None) -> Finding:
        """What `function` finds, or found in an earlier run with the same parameters and model. columns: written into
        every row."""
        table = self.results.run(name, [function], function, columns)
        return Finding(self.results, table, self.results.evidence[name])

    def find_each(self, name: str, names: Iterable[str], function: Callable[[str], StepResult]) -> Finding:
        """A step for each of `names`, one below the other, the column `data_type` saying whose a row is."""
        found = [self.find(f"{name} {one}", partial(function, one), {"data_type": one}) for one in names]
        return sum(found[1:], found[0])

    @property
    def seed(self) -> int:
        return self.results.parameters["seed"]

    def knows(
        self,
        ask: Callable,
        items: Sequence | Mapping[str, Sequence],
        task: str,
        *,
        series: str = "",
        chance: float = 0.0,
        own: str = "own",
    ) -> Known:
        """Whether the model does, more often than `chance`, what `ask` (such as `words.task_table`) asks of items
        of one data type, called `series`, or by data type. task: in words, with {name} or {Name} for the data type."""
        several = items if isinstance(items, Mapping) else {series: items}
        asked = {one: partial(ask, self.model, some, own=own, series=one) for one, some in several.items()}
        found = self.find_each("task", several, lambda one: asked[one]())
        named = {one: task.format(name=one, Name=one.title()) for one in several}
        told = {one: found.knows(f"task-{one}", named[one], chance) for one in several}
        return Known(told, found.table)

    def finish(self) -> Html:
        """Write table and claims, and show every verdict of the chapter in one table."""
        self.results.finish()
        return verdict_table(self.results.claims)


def _types(experiment: Experiment, names: Sequence[str]) -> dict[str, str]:
    """How charts show the words of the hub and the own ones, where an experiment sets them against each other."""
    hub, own = (getattr(experiment, name, "") for name in ("hub", "own"))
    kind = next(filter(None, map(figures.data_type, (*names, own))), "spanish")
    return {hub: "english", own: kind, f"wrong {hub}": "control", f"wrong {own}": "null"} if own else {}


def listing(rows: Iterable[Any] | pd.DataFrame, columns: Sequence[str] | None = None, **formats: Any) -> Any:
    """Rows as a table for the reader, without numbers before them. formats: how the cells of a column are written, as
    {"share": "{:.0%}"}."""
    table = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(rows, columns=columns)
    return table.style.hide(axis="index").format(formats)


def left_out(items: Mapping[str, Items]) -> pd.DataFrame:
    """By data type, how many items were left out for which reason, and how many are read."""
    reasons = pd.DataFrame({name: some.dropped for name, some in items.items()}).T.fillna(0).astype(int)
    return reasons.assign(read={name: len(some) for name, some in items.items()})


def begin(chapter: str, given: Mapping[str, Any], *more: str, needs: str = "text") -> Chapter:
    """Check the parameters, load the model, open its results. Raises SemhubError naming what will not do.

    Parameters stand in `given`, such as a notebook's `globals()`: those that every chapter takes and, by name, `more`.
    needs: what the model has to read besides text, "image" or "sound".
    """
    parameters = {name: given[name] for name in (*PARAMETERS, *more) if name in given}
    extra = [name for name in parameters if name not in PARAMETERS]
    checked = check_parameters(extra, **parameters)
    where = {name: checked[name] for name in ("revision", "device", "dtype")}
    model = load_model(checked["model_id"], **where)
    takes = " and ".join(sorted(model.modalities))
    said = f"The chapter {chapter} needs a model that takes {needs} and text, and {model.model_id} takes {takes}"
    need(needs in model.modalities, f"{said}; {SHIPPED.get(needs)} would do.")
    return Chapter(Run(chapter, model, checked, checked["results_dir"]), model)

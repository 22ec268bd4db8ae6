"""A result in a chapter: its charts beside their data, and its judged claims. Knows no torch and no model."""

import json
import re
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from . import figures
from .evidence import Evidence
from .markup import STYLE, Html, cell_text, data_type, note, proper, table_box, with_band
from .results import Run
from .strips import for_all, strip
from .verdicts import knows_task

Names = Mapping[str, str]
Which = str | Sequence[str] | Names
"""One experiment or several, by name, or with what they are called for the reader."""
FIRST = ("series", "control", "layer", "depth", "strength", "raw", "tokens", "step")
"""Columns of a data table before the numbers."""
NAMED = 4  # series that a caption names
ZERO = 1e-9  # what is no larger is nothing but rounding
Needs = str | None | Mapping[str, str | None]


def data_table(table: pd.DataFrame, caption: str = "Data of the figure above") -> str:
    """The table as accessible HTML behind a disclosure; a wide or long one scrolls in its own box."""
    rows = [[escape(cell_text(value)) for value in row] for row in table.itertuples(index=False)]
    box = table_box("data-table-scroll", caption, map(str, table.columns), rows)
    return f'<details class="data-table"><summary>Data</summary>{box}</details>'


# What curves run over: which column to lay out in columns; and what goes along with it.
_OVER = {"tokens": ("tokens", "series"), "layer": ("layer",)}
_ALONG = {
    "tokens": ("step", "layer", "depth"),
    "series": ("experiment", "step", "layer", "depth", "n", "dropped", "chance"),
}


def compact(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """A figure's table for its readers, and in words what is the same in all its rows.

    The interval and the null stand beside their value. A curve by layer, or by tokens seen, is one row; where curves do
    not share their tokens, each series has a column."""
    told = table[[c for c in table if c != "claim" and (table[c].notna() & (table[c].astype(str) != "")).any()]].copy()
    value, said = "value" if "value" in told else None, []
    if value and {"low", "high"} <= set(told):
        null = told.get("null_high", [None] * len(told))
        rows = zip(told["value"], told["low"], told["high"], null, strict=True)
        value = "value [95% interval]" + ", 95th percentile of the null" * ("null_high" in told)
        told = told.assign(value=[with_band(*row) for row in rows]).rename(columns={"value": value})
        told = told.drop(columns=["low", "high", "null_high"], errors="ignore")
    names: list[str] = []
    over = next((c for c in _OVER if value and c in told and told[c].nunique() > 1), None)
    for column in _OVER.get(over, ()):
        of = told.drop(columns=[column, value, "p", *_ALONG.get(column, ("depth",))], errors="ignore").map(cell_text)
        curves: dict[tuple, dict] = {}
        for key, x, cell in zip(of.itertuples(index=False, name=None), told[column], told[value], strict=True):
            curves.setdefault(key, {})[x] = cell
        places = list(dict.fromkeys(told[column])) if column == "series" else sorted(told[column].unique())
        if sum(map(len, curves.values())) == len(told) and len(curves) * len(places) < 2 * len(told):
            rows = [[*key, *(cells.get(x) for x in places)] for key, cells in curves.items()]
            names = [x if column == "series" else f"{column} {cell_text(x)}" for x in places]
            said.append(f"{value} by {column}")
            told = pd.DataFrame(rows, columns=[*of, *names])
            break
    alike = [c for c in told.columns.difference([*names, value], sort=False) if told[c].map(cell_text).nunique() == 1]
    alike = alike if len(told) > 1 else []
    said += [f"{c}: {cell_text(told[c].iloc[0])}" for c in alike]
    return told.drop(columns=alike), "; ".join(said)


def shown_first(table: pd.DataFrame, switches: Sequence[str] = ()) -> tuple[pd.DataFrame, list[str]]:
    """The rows that a chart opens with, without controls, and what its switches are at: their first values."""
    chosen = []
    for column in switches:
        value = next((v for v in table[column] if pd.notna(v) and v != ""), None)
        if value is not None:
            table = table[(table[column] == value) | (table[column].fillna("") == "")]
            chosen.append(str(value))
    return table[_own(table) & table["value"].notna()].reset_index(drop=True), chosen


def _own(table: pd.DataFrame) -> pd.Series:
    return table["control"].fillna("") == "" if "control" in table else pd.Series(True, table.index)


def opened(table: pd.DataFrame, switches: Sequence[str], least: float = ZERO) -> pd.DataFrame:
    """The table, so ordered that a chart opens where something is to be seen: where no number of `shown_first` is
    beyond `least`, the first selection with one comes first."""
    seen = table[_own(table) & (table["value"].abs() > least)]
    if not len(seen) or shown_first(table, switches)[0]["value"].abs().max() > least:
        return table
    ahead = (table[[*switches]] == seen.iloc[0][[*switches]]).all(axis=1)
    return pd.concat([table[ahead], table[~ahead]], ignore_index=True)


def caption_of(table: pd.DataFrame, switches: Sequence[str] = (), *, at: Names | None = None, lowest=False) -> str:
    """In a sentence, of the rows that are `shown_first`: the highest number (or the lowest, also where none is above 0)
    of each series and where it is, by the columns of `at` and what they are called; with more series than NAMED, the
    highest and the lowest of these. Without series, of all. Of series that are highest together, where they are apart;
    of one number each, these."""
    table, chosen = shown_first(table, switches)
    if not len(table):
        return ""
    lowest |= 0 <= table["value"].max() < -0.02 * table["value"].min()  # what only sinks from 0 has no height to tell
    tiny, value, at = 1e-5 * table["value"].abs().max(), table["value"] * (-1 if lowest else 1), at or {}
    table = table.assign(value=table["value"].where(table["value"].abs() > tiny, 0.0))
    among = {*table.get("series", ())}
    lead = "Lowest" if lowest else "Highest"
    of = f" for {', '.join(name for name in chosen if name not in among)}" * bool({*chosen} - among)
    if not among:
        best, least = (table[value == end] for end in (value.max(), value.min()))
        rest = f"; {'highest' if lowest else 'lowest'}: {_shared(least, table, at)}" * (1 < len(best) < len(table))
        return f"{lead}{of}: {_shared(best, table, at)}{rest}."
    peaks = table.loc[value.groupby(table["series"], sort=False).idxmax()]
    if len(peaks) > NAMED:
        ends = (peaks["value"].min(),) if lowest else (peaks["value"].max(), peaks["value"].min())
        said = [_shared(peaks[peaks["value"] == end], peaks, at) for end in dict.fromkeys(ends)]
        peak = " peak" * bool(at and not lowest)
        return f"{lead}{peak}{of}: {f'; lowest{peak}: '.join(said)}."
    apart = _apart(table, peaks, at)
    if apart is not None:
        said = "; ".join(f"{row['series']} {cell_text(row['value'])}" for _, row in apart.iterrows())
        return f"{lead}{of}: all{_where(peaks.iloc[0], at)}; furthest apart{_where(apart.iloc[0], at)}: {said}."
    lead = "Measured" if not at and 1 < len(peaks) == len(table) else lead
    flat = table.groupby("series")["value"].agg(lambda values: values.nunique() == 1 < len(values))
    said = [
        f"{row['series']} {cell_text(row['value'])}" + (" throughout" if flat[row["series"]] else _where(row, at))
        for _, row in peaks.iterrows()
    ]
    return f"{lead}{of}: {'; '.join(said)}."


def _shared(rows: pd.DataFrame, every: pd.DataFrame, at: Names) -> str:
    """The number of these rows and where it is, or of how many it is, among those of every cell, curve or bar."""
    (first, *others), what = rows.to_dict("records"), "curves" if at else "bars"
    number, kind = cell_text(first["value"]), what if "series" in rows else "cells"
    if others:
        return f"{number}, in {len(rows)} of {len(every)} {kind}"
    return f"{first.get('series', '')} {number}".strip() + _where(first, at)


def _apart(table: pd.DataFrame, peaks: pd.DataFrame, at: Names) -> pd.DataFrame | None:
    """Where series that are highest at one place, and as high but for a twentieth, differ most; None for others."""
    column, alike = next(iter(at), None), 0.05 * np.ptp(table["value"])
    if column not in table or len(peaks) < 2 or peaks[column].nunique() > 1 or np.ptp(peaks["value"]) >= alike:
        return None
    spread = table.groupby(column)["value"].agg(np.ptp)
    return table[table[column] == spread.idxmax()] if spread.max() > alike else None


def _where(row: Mapping, at: Names) -> str:
    """Where a number is, as it follows it."""
    told = []
    for column, name in at.items():
        if column == "tokens" and pd.notna(row.get(column)):
            told.append(f"after {row[column]:,.0f} tokens")
        elif pd.notna(row.get(column)):
            value = f"{row[column]:.0%}" if column == "time" else cell_text(row[column])
            told.append(f"at {name or column} {value}")
    return f" {', '.join(told)}" * bool(told)


class _InScript(json.JSONEncoder):
    """As it may stand within a script, which no text of a token or a caption ends."""

    def encode(self, o: Any) -> str:
        return super().encode(o).replace("<", "\\u003c")


def show(chart, table: pd.DataFrame, caption: str = "") -> Html:
    """A chart with its title and caption, what its marks mean, and its data (as `compact` makes them) as one figure.

    The chart is written as Altair's default renderer writes it, whichever renderer is enabled.
    """
    about = chart.usermeta
    chart.description = f"{chart.description} {caption}".strip()
    how = {"fullhtml": False, "template": "universal", "json_kwds": {"cls": _InScript}}
    html = chart.to_html(output_div=f"altair-viz-{uuid.uuid4().hex}", **how)
    told, alike = compact(table)
    listing = data_table(told, f"Data: {chart.description}" + f" ({alike})" * bool(alike))
    said = f"<b>{escape(about['title'])}</b>" + f" {escape(caption)}" * bool(caption)
    key = f'<p class="figure-key">{escape(about["notes"])}</p>' if about["notes"] else ""
    figure = f'<figure class="semhub-figure"><figcaption>{said}</figcaption>{html}{key}{listing}</figure>'
    return Html(STYLE + figure, chart.description)


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
        table = how(self.table) if len(self.table) else self.table
        return Finding(self.run, table, self.evidence, self.types)

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
        answer = {**dict(zip(paths["token"], paths["word"], strict=True)), **{name: name for name in paths["word"]}}
        kinds = {name: data_type(self.types.get(name, name)) for name in words["series"]}
        own = next((name for name, kind in kinds.items() if kind in {*paths["data_type"]}), paths["data_type"].iloc[0])
        drawn = paths.assign(item=paths["series"], series=own, answer=paths["word"])
        chart = figures.trajectories(
            drawn, words.assign(answer=words["word"].map(answer)), title=title, alt=alt, types=kinds
        )
        said = _passes(drawn, words, own) if own in kinds and len(kinds) > 1 else ""
        return show(chart, paths[["series", "word", "token", "layer", "x", "y"]], said)

    def truest(self, layer: int, most: int = 4) -> "Finding":
        """Of words on pictures, those on at most so many pictures: the ones with most true words near a layer."""
        true = figures.true_words(self.table, layer).groupby("picture", sort=False).max()
        return self.of(picture=[*true.sort_values(ascending=False, kind="stable").index[:most]])

    def overlay(self, title: str, images: Mapping[str, Any], *, alt: str, layer: int, caption: str = "") -> Html:
        """Words on pictures (`figures.overlay`), and beside them the share of true ones and the most frequent."""
        if not len(self.table):
            return note("This model lays its patches on no grid.")
        told = self.rows(among="all words").groupby(["picture", "reading", "layer"], sort=False)
        told = told.agg(share_true=("right", "mean"), most_frequent=("word", lambda words: words.mode()[0]))
        chart = figures.overlay(self.table, images, layer=layer, title=title, alt=alt)
        return show(chart, told.reset_index(), caption)

    def claims(
        self,
        claim: str,
        sentence: str,
        *,
        row: int | None = None,
        paper: str | None = None,
        needs: Needs = None,
        of: Sequence[str] | None = None,
    ) -> Html:
        """Judge the claim `claim`, or `<claim>/<series>` of every series, by the rules of `verdicts`, and show them as
        a strip, a row each, with what other readings say beside the one fixed before.

        sentence: our claim, with {name} for the series; row, paper: the paper's experiment, 1 to 21, and what
        it says, where it says something; needs: the sentence of a precondition that failed, of all or by series; of:
        the series that are claimed, where not all are.
        """
        found: dict[str, list[Evidence]] = {}
        for evidence in self.evidence:
            if claim in (evidence.claim, evidence.claim.rpartition("/")[0]):
                found.setdefault(evidence.claim, []).append(evidence)
        if not found:
            raise ValueError(f"no claim {claim!r} among {sorted({e.claim for e in self.evidence})}")
        judged = []
        for first, *others in found.values():
            name = first.claim.partition("/")[2]
            if of is not None and name not in of:
                continue
            why = needs[name] if isinstance(needs, Mapping) else needs
            about = {"row": row, "paper": paper, "precondition": why, "others": others}
            judged.append(self.run.claim(first, for_all(sentence, [name]), **about))
        if not judged:  # of none of these is there anything that it could be asked of
            return note(f"Nothing is left to ask this of: {sentence.replace('{name}', '…')}")
        names = [claim["id"].split("/", 2)[-1] for claim in judged]
        return strip(judged, for_all(sentence, names) if len(judged) > 1 else "")

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
        table, switches = _laid_out(self._own_claims(table), experiment, [*filter(None, by)], called or {}, places)
        of, least, slides = options.get("value_title") or options.get("y") or "share of answers", ZERO, False
        if draw is figures.heatmap:
            options["switch"] = (*switches, "reading")[0]
            at = dict.fromkeys((options["x"], options["y"], *["layer"] * ("layer" in table)), "")
            least = ZERO if options.get("diverging") else 0.05 * table["value"].abs().max()  # all have one scale
            slides = "layer" in table and "layer" not in places
        else:
            styled = {proper(name): kind for name, kind in {**self.types, **(types or {})}.items()}
            options |= {"types": styled, "switch": switches}
            x = options.get("x") or ("strength" if draw is figures.stacked else "layer")
            at = {x: re.split(r",| \(", options.get("x_title", ""))[0]} if draw is not figures.bars else {}
        table = opened(table, switches, least)
        first, _ = shown_first(table, switches)
        if not first["value"].abs().max() > ZERO:
            names = f" ({'; '.join(dict.fromkeys(first['series']))})" if "series" in first else ""
            return note(f"Nothing to draw: the {of} is 0 throughout{names}.", options["title"])
        told = table[table["layer"] == table["layer"].max()] if slides else table  # at which a slider opens
        switches = [*switches, *filter(None, [options.get("select")])]
        caption = caption_of(
            told.drop(columns=[] if by != [""] else ["series"], errors="ignore"), switches, at=at, lowest="loss" in of
        )
        return show(draw(table, **options), table, caption)

    def _own_claims(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table, `claim` told only in rows of the reading it rests on: these can be drawn for another model."""
        rests: dict[str, str] = {}
        for evidence in self.evidence:
            rests.setdefault(evidence.claim, evidence.reading)
        if "claim" not in table:
            return table
        readings = table["reading"].fillna("") if "reading" in table else [""] * len(table)
        pairs = zip(table["claim"], readings, strict=True)
        return table.assign(claim=[c if c in rests and reading in ("", rests[c]) else None for c, reading in pairs])


def _passes(paths: pd.DataFrame, words: pd.DataFrame, own: str) -> str:
    """In a sentence, how many states lie nearer to another type's word than to each of their `own`, at the first, the
    middle and the last layer."""
    place, at = (table[["x", "y"]].to_numpy(float) @ [1, 1j] for table in (words, paths))
    other = words["series"].to_numpy()[abs(at[:, None] - place).argmin(axis=1)] != own
    count = pd.Series(other).groupby(paths["layer"].to_numpy()).sum()
    some = {0: f" of {paths['item'].nunique()} states", (len(count) - 1) // 2: "", len(count) - 1: ""}
    told = [f"{count.iloc[k]}{of} (layer {cell_text(count.index[k])})" for k, of in some.items()]
    others = " or ".join(dict.fromkeys(words["series"][words["series"] != own]))
    return f"Nearer to a {others} than to every {own}: {', '.join(told)}."


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
    for column in {"series", "measure", *places, *table} - {"experiment", "claim", "control"} & {*table}:
        if not pd.api.types.is_numeric_dtype(table[column]):
            table[column] = table[column].map(proper)
    fixed, switches = {"experiment", "series", "control", "claim", *places}, []
    text = [c for c in table if c not in fixed and not pd.api.types.is_numeric_dtype(table[c])]
    first = columns.get("data_type", "data_type")
    for column in sorted(text, key=lambda name: (name == "reading") - (name == first)):
        told = [*switches, *(["series"] if by else [])]
        same = (table.groupby(other)[column].nunique().max() <= 1 for other in told)  # which tells this one too
        if table[column].replace("", None).nunique() > 1 and not any(same):
            switches.append(column)
    if "measure" in table and "measure" not in switches:  # the series says it already
        table = table.drop(columns="measure")
    ahead = [c for c in (*switches, *FIRST) if c in table]
    return table[[*ahead, *(c for c in table if c not in ahead)]], switches

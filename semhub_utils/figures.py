"""Charts, data tables and claim cards from tidy results: all that a reader sees. Knows no torch and no model.

A chart is Altair built from one tidy table (columns experiment, series, reading, layer, depth, value, low, high, p, n,
dropped and extras such as null_high, strength, model). Its controls are native inputs bound to Vega parameters, so they
work on a static page. Text keeps Vega's own colours and the background is transparent, so that a page may embed the
same specification again with a dark configuration.
"""

import json
from collections.abc import Mapping, Sequence

import altair
import numpy as np
import pandas as pd

from .cards import Html, claim_card, data_table, show, verdict_table
from .charts import (
    NUMBERS,
    SHOWN,
    choice_input,
    depth_axis,
    finished,
    marks_of,
    several,
    slider_input,
    thinned,
    tidied,
    tooltip_of,
)
from .overlays import overlay
from .palette import STYLES, palette, styles

__all__ = ["Html", "bars", "claim_card", "data_table", "dose_response", "heatmap", "layer_curves", "palette"]
__all__ += ["overlay", "show", "styles", "training_curves", "trajectories", "verdict_table"]

PATCH_TYPES = {"expected": "digits", "original": "spanish", "untranslated": "english", "other": "german"}
"""Colours for the answers of an interchange patch: the hub's blue is for a word that came over untranslated."""

OUTCOME_TYPES = {"intended": "digits", "unchanged": "spanish", "other": "german", "unparseable": "logic"}
"""The same for the outcomes of an intervention: what they share with a patch's answers has its colour."""


def _curves(
    table, x: altair.X, by: str, *, title, alt, y, types, select, switch="reading", notes=()
) -> altair.LayerChart:
    """Lines with 95% bands over x; what both layer curves and dose curves are."""
    if "control" in table:  # a control's rows carry the series they belong to: name the line, keep what it is of
        own = table["control"].fillna("") == ""
        types = {**(types or {}), **dict.fromkeys(table.loc[~own, "control"], "control")}
        table = table.drop(columns="control").assign(**{by: table[by].where(own, table["control"]), "of": table[by]})
    look = styles(table[by], types)
    controls = [name for name, style in look.items() if style.colour == STYLES["control"].colour]
    whose = "of" if "of" in table else by
    marks = marks_of(by, look)
    colour = marks["color"]
    params, strong = [], ["true"]
    base = altair.Chart(table)
    for column in [switch] if isinstance(switch, str) else switch:
        if several(table, column):
            params.append(choice_input(table, column))
            base = base.transform_filter(f"datum.{column} === {column}_choice || datum.{column} === ''")
    if select and several(table, select):
        params.append(choice_input(table, select))
        strong.append(f"datum.{select} === {select}_choice")
    if several(table, whose):
        params.append(choice_input(table, whose, by, every="all"))
        strong.append(f"({whose}_choice === null || datum.{whose} === {whose}_choice)")
    chosen = " && ".join(strong)
    nothing = not table["value"].abs().max() > 0  # a flat line would stand on an axis of one number
    value = altair.Y("value:Q", title=y, **({"scale": altair.Scale(domain=[0, 1])} if nothing else {}))
    faded = altair.condition(chosen, altair.value(1), altair.value(0.15))
    detail = [altair.Detail(f"{column}:N") for column in (select, whose) if column]
    base = base.encode(x=x, detail=detail)
    layers, notes = [], [*notes]
    if {"low", "high"} <= set(table):
        band = base.transform_filter(chosen).mark_area(opacity=0.2, aria=False)
        layers.append(band.encode(y=altair.Y("low:Q", title=y), y2="high:Q", color=colour))
        notes.append("Bands: 95% intervals.")
    if "null_high" in table and table["null_high"].notna().any():
        known = f"({chosen}) && isValid(datum.null_high)"  # rows without one, such as controls, would cut the line
        null = base.transform_filter(known).mark_line(strokeWidth=1.5, strokeDash=[1, 3], aria=False)
        null = null.encode(y=altair.Y("null_high:Q", title=y), color=altair.value(STYLES["null"].colour))
        layers.append(null)
        notes.append("Dotted: 95th percentile of the null, corrected for layers.")
    if controls:
        notes.append("Grey: controls.")
    if select and several(table, select):
        notes.append(f"Pale: the other {select}s.")
    width = altair.condition(altair.FieldOneOfPredicate(by, controls), altair.value(1.2), altair.value(2.5))
    line = base.mark_line(aria=False).encode(
        y=value, color=colour, strokeDash=marks["strokeDash"], strokeWidth=width, opacity=faded
    )
    point = base.mark_point(filled=True, size=50).encode(
        y=value, color=colour, shape=marks["shape"], opacity=faded, tooltip=tooltip_of(table)
    )
    return finished(altair.layer(*layers, line, point).add_params(*params), title, alt, [" ".join(notes)])


def layer_curves(
    table: pd.DataFrame,
    *,
    title: str,
    alt: str,
    y: str,
    types: Mapping[str, str] | None = None,
    select: str | None = None,
    switch: str | Sequence[str] = "reading",
) -> altair.LayerChart:
    """Value by layer, one line per series with its 95% band, the null's 95th percentile dotted, controls thin and grey.

    `y` names the value and its unit. Where the column `switch` (or each of several) has several values, an input shows
    one at a time; `select` names a column (such as "model") whose values an input brings to the front, the others
    staying pale. `types` maps a series to its data type where the name does not say it. Rows whose `control` is a name
    are that control of their series, thin and grey.
    """
    needed = ["series", "layer", "depth", "value", *([select] if select else [])]
    switches = [switch] if isinstance(switch, str) else switch
    table, notes = thinned(table)
    data = tidied(table, needed, ("control", *switches, *SHOWN, *NUMBERS))
    axis = depth_axis(data)
    if "control" in data:  # one that is the same at every layer, such as the embedding layer, is drawn by its two ends
        flat = data.groupby(data.columns.difference(["layer", "depth", *NUMBERS]).tolist(), dropna=False)
        inner = data["layer"].between(data["layer"].min(), data["layer"].max(), inclusive="neither")
        same = flat["value"].transform("nunique") == 1
        data = data[(data["control"].fillna("") == "") | ~(inner & same)]
    given = {"types": types, "select": select, "switch": switch, "notes": notes}
    return _curves(data, axis, "series", title=title, alt=alt, y=y, **given)


def training_curves(
    table: pd.DataFrame,
    *,
    title: str,
    alt: str,
    y: str,
    types: Mapping[str, str] | None = None,
    switch: str | Sequence[str] = "model",
) -> altair.LayerChart:
    """Value by tokens seen (column `tokens`, on a logarithmic axis), one line per series with its 95% band; `switch` as
    for `layer_curves`."""
    switches = [switch] if isinstance(switch, str) else switch
    data = tidied(table, ["series", "tokens", "value", *switches], (*SHOWN, *NUMBERS))
    x = altair.X(
        "tokens:Q", title="tokens seen", scale=altair.Scale(type="log", nice=False), axis=altair.Axis(format="~s")
    )
    return _curves(data, x, "series", title=title, alt=alt, y=y, types=types, select=None, switch=switch)


def dose_response(
    table: pd.DataFrame,
    *,
    title: str,
    alt: str,
    y: str = "share of answers",
    by: str = "series",
    stacked: bool = False,
    types: Mapping[str, str] | None = None,
    select: str | None = None,
    x_title: str = "steering strength",
    switch: str | Sequence[str] = "reading",
):
    """Value by steering strength, or by what `x_title` names. Lines with bands, one per `by` (outcome or condition);
    or, stacked, the shares of all outcomes at each strength. `select` names a column (such as "condition") that a
    switch chooses from; `switch`, for lines, as for `layer_curves`.
    """
    switches = [switch] if isinstance(switch, str) else switch
    data = tidied(table, ["strength", "value", by, *([select] if select else [])], (*switches, *SHOWN, *NUMBERS))
    if not stacked:
        x = altair.X("strength:Q", title=x_title)
        return _curves(data, x, by, title=title, alt=alt, y=y, types=types, select=select, switch=switch)
    look = styles(data[by], types)
    chart = altair.Chart(data.assign(rank=data[by].map(list(look).index)))
    for column in (select, "reading"):
        if column and several(data, column):
            chart = chart.add_params(choice_input(data, column)).transform_filter(f"datum.{column} === {column}_choice")
    chart = chart.mark_bar(stroke="#808080", strokeWidth=0.5).encode(
        x=altair.X("strength:O", title=x_title, axis=altair.Axis(labelAngle=0)),
        y=altair.Y("value:Q", title=y, stack="zero"),
        color=marks_of(by, look)["color"],
        order=altair.Order("rank:Q"),
        tooltip=tooltip_of(data),
    )
    return finished(chart, title, alt)


def heatmap(
    table: pd.DataFrame,
    *,
    x: str,
    y: str,
    title: str,
    alt: str,
    value_title: str,
    x_title: str | None = None,
    slider: str | None = None,
    diverging: bool = False,
    switch: str = "reading",
):
    """Cells of `value` over two columns: layers by strengths, or a similarity matrix with a `slider` over layers.
    `diverging` centres the colours on zero. Where the column `switch` has several values, an input shows one at a time;
    if diverging, each has colours of its own.
    """
    table, notes = thinned(table)
    data = tidied(table, [x, y, "value", *([slider] if slider else [])], (switch, *SHOWN, *NUMBERS))

    def axis(column: str) -> dict:
        numeric = pd.api.types.is_numeric_dtype(data[column])
        order = sorted(data[column].unique()) if numeric else list(dict.fromkeys(data[column]))
        return {"type": "ordinal", "sort": order[::-1] if column == "layer" else order}

    value, choices, ends = data["value"], several(data, switch), altair.Undefined
    if diverging and choices:  # each choice has a unit of its own
        bounds = value.abs().groupby(data[switch]).max().fillna(0).replace(0, 1.0).to_dict()
        ends = [altair.ExprRef(f"{sign}{json.dumps(bounds)}[{switch}_choice]") for sign in ("-", "")]
    elif diverging:
        bound = float(value.abs().max())
        ends = [-bound, bound] if bound > 0 else [-1.0, 1.0]
    elif choices and value.notna().any():  # one scale, to be compared
        ends = [float(value.min()), float(value.max())]
    scale = altair.Scale(scheme="blueorange" if diverging else "viridis", domain=ends)
    base = altair.Chart(data).encode(
        x=altair.X(x, title=x_title or x, axis=altair.Axis(labelAngle=0, labelOverlap=True), **axis(x)),
        y=altair.Y(y, title=y, axis=altair.Axis(labelOverlap=True), **axis(y)),
    )
    params = [slider_input(data, slider)] if slider and several(data, slider) else []
    params += [choice_input(data, switch)] if choices else []
    for name in (slider, switch):
        if name and several(data, name):
            base = base.transform_filter(f"datum.{name} === {name}_choice")
    legend = altair.Legend(title=value_title, orient="top", titleLimit=300, gradientLength=220)
    colour = altair.Color("value:Q", scale=scale, legend=legend)
    chart = altair.layer(base.mark_rect().encode(color=colour, tooltip=tooltip_of(data, y, x))).add_params(*params)
    rows = data[y].nunique()
    return finished(chart, title, alt, notes, height=int(np.clip(26 * rows, 160, 520)))


def trajectories(
    table: pd.DataFrame,
    words: pd.DataFrame,
    *,
    title: str,
    alt: str,
    types: Mapping[str, str] | None = None,
) -> altair.LayerChart:
    """Paths of hidden states in the plane, with a slider over layers. `table`: item, series, layer, x, y;
    without `item` each series is an item. `words`: word, series, x, y, labelled where their unembedding rows lie.
    """
    if "item" not in table:
        table = table.assign(item=table["series"], series="hidden state")
    table, notes = thinned(table)
    paths = tidied(table, ["item", "series", "layer", "x", "y"], ("depth", "word", "token", "reading"))
    marks = tidied(words, ["word", "series", "x", "y"])
    look = styles([*marks["series"], *paths["series"]], types)
    encoded = marks_of("series", look)
    colour, shape = encoded["color"], encoded["shape"]

    def axis(kind, column: str, text: str):
        both = pd.concat([paths[column], marks[column]])
        pad = 0.06 * float(both.max() - both.min() or 1)
        ends = [float(both.min() - pad), float(both.max() + pad)] if both.notna().any() else [0.0, 1.0]
        fixed = altair.Scale(domain=ends, nice=False, zero=False)
        return kind(f"{column}:Q", title=text, scale=fixed, axis=altair.Axis(grid=False))

    place = {"x": axis(altair.X, "x", "first component"), "y": axis(altair.Y, "y", "second component")}
    base = altair.Chart(paths).encode(**place)
    line = base.transform_filter("datum.layer <= layer_choice").mark_line(strokeWidth=1.2, opacity=0.4, aria=False)
    line = line.encode(color=colour, detail="item:N", order="layer:Q")
    point = base.transform_filter("datum.layer === layer_choice").mark_point(filled=True, size=70, opacity=0.9)
    point = point.encode(color=colour, shape=shape, tooltip=tooltip_of(paths, "item", "word", "token"))
    target = altair.Chart(marks).encode(**place)
    dot = target.mark_point(filled=False, size=90, strokeWidth=2).encode(
        color=colour, shape=shape, tooltip=["word", "series"]
    )
    # "guide-label" gives the words the colour of the axis labels, in whatever configuration the page embeds
    label = target.mark_text(style="guide-label", dy=-12, fontSize=13, fontWeight="bold").encode(text="word:N")
    chart = altair.layer(line, dot, label, point).add_params(slider_input(paths, "layer"))
    notes = ["Open marks: words. Filled: states at the layer.", *notes]
    return finished(chart, title, alt, notes, height=380)


def bars(
    table: pd.DataFrame,
    *,
    title: str,
    alt: str,
    value_title: str,
    types: Mapping[str, str] | None = None,
) -> altair.LayerChart:
    """One bar per series with its 95% interval; two readings in the table give a switch."""
    data = tidied(table, ["series", "value"], (*SHOWN, *NUMBERS))
    look = styles(data["series"], types)
    base = altair.Chart(data).encode(
        y=altair.Y("series:N", sort=list(look), title=None, axis=altair.Axis(labelLimit=160))
    )
    switch = several(data, "reading")
    if switch:
        base = base.transform_filter("datum.reading === reading_choice")
    bar = base.mark_bar(opacity=0.85).encode(
        x=altair.X("value:Q", title=value_title, axis=altair.Axis(labelFlush=False, labelSeparation=4)),
        color=marks_of("series", look)["color"].legend(None),
        tooltip=tooltip_of(data),
    )
    layers, notes = [bar], []
    if {"low", "high"} <= set(data):
        layers.append(base.mark_rule(strokeWidth=3, color="#808080", aria=False).encode(x="low:Q", x2="high:Q"))
        notes.append("Grey rules: 95% intervals.")
    chart = altair.layer(*layers)
    if switch:
        chart = chart.add_params(choice_input(data, "reading"))
    return finished(chart, title, alt, notes, height=int(np.clip(34 * len(look), 120, 520)))

"""Charts of tidy results. Knows no torch and no model.

A chart is Altair built from one tidy table (columns experiment, series, reading, layer, depth, value, low, high, p, n,
dropped and extras such as null_high, strength, model). Its inputs are native, so they work on a static page. Text keeps
Vega's own colours and the background is transparent, so that a page may draw it again with a dark configuration.

What charts take: title, a question; alt, what is to be seen, in a sentence; types, a series' data type where its name
does not say it; switch, columns of which an input shows one value at a time where they have several. A table has rows.
Raises SemhubError on an empty title or alt text.
"""

import json
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import altair
import pandas as pd

from .errors import need
from .evidence import evenly
from .markup import MORE, SIDES, STYLES, Style, Types, addressed, data_types, listed, several, sides, styles, tidied

# Pixels for the names beside a plot, less on a phone; measured on the page.
_LIMIT = altair.ExprRef("min(260, 0.4 * (isFinite(containerSize()[0]) ? containerSize()[0] : 600))")
ROW, WRAPPED = 26, 30  # pixels of a bar or a row of cells; where a name may take two lines
MAX_ROWS = 5000  # Altair refuses more, and a page would be slow
SHOWN = ("model", "condition", "of", "series", "reading", "layer", "depth", "strength")
NUMBERS = ("value", "low", "high", "null_high", "p", "n")


def curves(
    table: pd.DataFrame,
    *,
    y: str,
    x: str = "depth",
    x_title: str = "",
    types: Types = None,
    select: str | None = None,
    switch: Sequence[str] = ("reading",),
    **words: str,
) -> altair.LayerChart:
    """Value by x, one line per series with its 95% band, the null's 95th percentile dotted, controls thin and grey and
    without a band.

    x: "depth" (with the column layer), "tokens" (seen in training, on a logarithmic axis) or "strength" (of an
    intervention, or of what `x_title` names). `y` names the value and its unit. `select` names a column (such as
    "model") whose values an input brings to the front, the others staying pale. Rows whose `control` is a name are that
    control of their series.
    """
    place = ["layer", "depth"] if x == "depth" else [x]
    table, notes = _thinned(table) if x == "depth" else (table, [])
    needed = ["series", *place, "value", *filter(None, [select])]
    data = tidied(table, needed, ("control", "claim", *switch, *SHOWN, *NUMBERS))
    axis, greys = _axis(data, x, x_title), ()
    if "control" in data:
        data, greys = _controls(data, x, place)
        types = {**(types or {}), **dict.fromkeys(greys, "control")}
    own = [name for name in dict.fromkeys(data["series"]) if name not in {*greys}]
    look = styles([*own, *dict.fromkeys(greys), *["null"] * ("null_high" in data)], types)
    whose, strong, behind = "of" if "of" in data else "series", "true", "true"
    base, params = _switched(altair.Chart(data), data, switch)
    if select and several(data, select):
        params.append(_choice(data, select))
        own = [max(own, key=len)]  # the one that is named at its end
        strong = f"datum.{select} === {select}_choice"
        notes.append(f"Pale: the other {select}s.")
    backed = data[data["null_high"].notna()] if "null_high" in data else data[:0]
    if whose == "of":
        backed = data[(data["series"] != data["of"]) | data.index.isin(backed.index)]
    if several(backed, whose):
        said = " and ".join(["null"] * ("null_high" in data) + ["controls"] * (whose == "of"))
        params.append(_choice(backed, whose, f"{said} of", "all"))
        behind = f"({whose}_choice === null || datum.{whose} === {whose}_choice)"
        notes.append(f"Large marks: whose {said} {'these are' if whose == 'of' else 'it is'}.")
    base = base.encode(x=axis, detail=[altair.Detail(f"{column}:N") for column in (select, whose) if column])
    behind = behind if strong == "true" else f"({strong}) && {behind}"
    layers, told = _lines(base, data, look, _names_at(data, look, [*switch, select]), y, strong, behind)
    ends = [*own, *dict.fromkeys(greys)]
    chart = altair.layer(*layers).add_params(*params).resolve_legend(shape="independent")  # no marker in that of lines
    return _finished(chart, [*told, *notes], ends=ends, **words)


def _controls(data: pd.DataFrame, x: str, place: Sequence[str]) -> tuple[pd.DataFrame, pd.Series]:
    """Rows of a control, which carry the series they belong to, under the control's name and `of` that series; and
    these names. One that is the same at every layer, such as the embedding layer, is drawn by its two ends."""
    own = data["control"].fillna("") == ""
    flat = data.groupby(data.columns.difference([*place, *NUMBERS]).tolist(), dropna=False)["value"]
    inner = data[x].between(data[x].min(), data[x].max(), inclusive="neither")
    named = data.assign(series=data["series"].where(own, data["control"]), of=data["series"]).drop(columns="control")
    return named[own | ~(inner & (flat.transform("nunique") == 1))], data.loc[~own, "control"]


def _lines(base: altair.Chart, data: pd.DataFrame, look: Mapping, only: Any, y: str, chosen: str, behind: str) -> tuple:
    """Band, null, line and points, strong where `chosen` is true, null and controls where `behind` is; and notes."""
    marks, layers, told = _marks(look, only, lines=True), [], []
    greys = [name for name, style in look.items() if style.colour == STYLES["control"].colour and name != "null"]
    own, y = "datum.of === datum.series" if "of" in data else "true", _wrapped(y)
    if own != "true" and behind != "true":
        base = base.transform_filter(f"{own} || ({behind})")
    if {"low", "high"} <= set(data):
        mine = f"({chosen}) && {own} && indexof({json.dumps(greys)}, datum.series) < 0"
        band = base.transform_filter(mine).mark_area(opacity=0.2, aria=False)
        layers.append(band.encode(y=altair.Y("low:Q", title=y), y2="high:Q", color=marks["color"]))
        told.append("Bands: 95% intervals.")
    if "null_high" in data:
        known = f"({behind}) && isValid(datum.null_high)"  # rows without one, such as controls, would cut the line
        null = base.transform_filter(known).mark_line(strokeWidth=2, aria=False)
        dotted = {"color": altair.ColorDatum("null"), "strokeDash": altair.StrokeDashDatum("null")}
        layers.append(null.encode(y=altair.Y("null_high:Q", title=y), **dotted))
        told.append("Dotted: what chance reaches one time in twenty.")
    told += ["Grey: controls."] * bool(greys)
    opacity = altair.condition(chosen, altair.value(1), altair.value(0.35))
    base = base.encode(y=altair.Y("value:Q", title=y), color=marks["color"], opacity=opacity)
    width = altair.condition(altair.FieldOneOfPredicate("series", greys), altair.value(1.2), altair.value(2.5))
    line = base.mark_line(aria=False).encode(strokeDash=marks["strokeDash"], strokeWidth=width)
    point = base.mark_point(filled=True, size=50).encode(shape=marks["shape"], tooltip=_tooltip(data))
    if behind != "true":  # the curve whose null and controls are shown
        point = point.encode(size=altair.condition(f"({behind}) && {own}", altair.value(90), altair.value(35)))
    return [*layers, line, point], told


def stacked(
    table: pd.DataFrame, *, x_title: str = "", types: Types = None, switch: Sequence[str] = (), **words: str
) -> altair.Chart:
    """The shares of all outcomes (series) at each steering strength, one on top of the other."""
    data = tidied(table, ["strength", "value", "series"], (*switch, *SHOWN, *NUMBERS))
    look = styles(data["series"], types)
    base, params = _switched(altair.Chart(data.assign(rank=data["series"].map(list(look).index))), data, switch)
    chart = base.mark_bar(stroke="#808080", strokeWidth=0.5).encode(
        x=altair.X("strength:O", title=x_title or "steering strength", axis=altair.Axis(labelAngle=0)),
        y=altair.Y("value:Q", title="share of answers", stack="zero", scale=altair.Scale(domain=[0, 1])),
        color=_marks(look, _names_at(data, look, switch))["color"],
        order=altair.Order("rank:Q"),
        tooltip=_tooltip(data),
    )
    return _finished(chart.add_params(*params), **words)


def bars(
    table: pd.DataFrame, *, y: str, types: Types = None, switch: Sequence[str] = ("reading",), **words: str
) -> altair.LayerChart:
    """One bar per series with its 95% interval; all of one colour where most names speak of no data type."""
    data = tidied(table, ["series", "value"], (*switch, *SHOWN, *NUMBERS))
    kinds = data_types(data["series"], types)
    look = styles(kinds, types if 2 * sum(map(bool, kinds.values())) > len(kinds) else dict.fromkeys(kinds, "digits"))
    base, params = _switched(altair.Chart(data), data, switch)
    base = base.encode(y=altair.Y("series:N", sort=list(look), title=None, axis=altair.Axis(**_names(look))))
    colour = _marks(look)["color"].legend(None)
    few = altair.ExprRef("width < 300 ? 2 : 5")  # so that 0 is among those that have room
    across = altair.X("value:Q", title=y, scale=altair.Scale(nice=5), axis=altair.Axis(tickCount=few))
    bar = base.mark_bar(opacity=0.85).encode(x=across, color=colour, tooltip=_tooltip(data))
    layers, notes = [bar], []
    if {"low", "high"} <= set(data):
        layers.append(base.mark_rule(strokeWidth=2, aria=False).encode(x="low:Q", x2="high:Q"))
        notes.append("Thin rules: 95% intervals.")
    chart = altair.layer(*layers).add_params(*params)
    return _finished(chart, notes, height=max(min(34 * len(look), 520), _high(look), 120), **words)


def heatmap(
    table: pd.DataFrame,
    *,
    x: str,
    y: str,
    value_title: str,
    x_title: str = "",
    diverging: bool = False,
    switch: str = "reading",
    **words: str,
) -> altair.LayerChart:
    """Cells of `value` over two columns, with a slider over layers where they are none of the two. `diverging` centres
    the colours on zero; with several values of `switch` each then has colours of its own."""
    table, notes = _thinned(table)
    data = tidied(table, [x, y, "value"], (switch, *SHOWN, *NUMBERS))

    def axis(column: str) -> dict:
        numeric = pd.api.types.is_numeric_dtype(data[column])
        order = sorted(data[column].unique()) if numeric else list(dict.fromkeys(data[column]))
        return {"type": "ordinal", "sort": order[::-1] if column == "layer" else order}

    percent = {"format": ".0%", "formatType": "number"} if x == "time" else {}  # a share of the whole
    value, choices, ends = data["value"], several(data, switch), altair.Undefined
    if diverging and choices:  # each choice has a unit of its own
        bounds = value.abs().groupby(data[switch]).max().fillna(0).replace(0, 1.0).to_dict()
        ends = [altair.ExprRef(f"{sign}{json.dumps(bounds)}[{switch}_choice]") for sign in ("-", "")]
    elif diverging:
        bound = float(value.abs().max()) if value.abs().max() > 0 else 1.0
        ends = [-bound, bound]
    elif choices and value.notna().any():  # one scale, to be compared
        ends = [float(value.min()), float(value.max())]
    scale = altair.Scale(scheme="blueorange" if diverging else "viridis", domain=ends)
    base, params = _switched(altair.Chart(data), data, [switch])
    if "layer" not in (x, y) and several(data, "layer"):
        params.insert(0, _slider(data))
        base = base.transform_filter("datum.layer === layer_choice")
    base = base.encode(
        x=altair.X(x, title=x_title or x, axis=altair.Axis(labelAngle=0, labelOverlap=True, **percent), **axis(x)),
        y=altair.Y(y, title=y, axis=altair.Axis(labelOverlap=True, **_names(data[y])), **axis(y)),
    )
    gaps = bool(value.notna().sum() < math.prod(data[c].nunique() for c in {x, y, switch, "layer"} & {*data}))
    notes += ["Grey cells: not measured."] * gaps
    view = altair.ViewBackground(fill="#808080", fillOpacity=0.35 * gaps)  # else like a 0 on a dark page
    legend = altair.Legend(title=value_title, orient="top", titleLimit=300, gradientLength=110)
    colour = altair.Color("value:Q", scale=scale, legend=legend)
    cells = base.mark_rect().encode(color=colour, tooltip=_tooltip(data, y, x))
    chart = altair.layer(cells, view=view).add_params(*params)
    high = min(ROW * data[y].nunique(), 520) if pd.api.types.is_numeric_dtype(data[y]) else _high(data[y].unique())
    return _finished(chart, notes, height=max(high, 160), **words)


def _high(names: Sequence[str]) -> int:
    """Pixels of rows with these names, where a long one may take two lines."""
    return min((WRAPPED if max(map(len, names)) > 20 else ROW) * len(names), 780)


def _names(names: Iterable[Any]) -> dict[str, Any]:
    """How the names beside a plot are written: where there is little room, long ones in two lines."""
    wide = {name: textwrap.wrap(name, len(name) // 2 + 4) for name in map(str, names) if len(name) > 20}
    pixels = {name: sum(5 if c in " .,:'fijlrt" else 11 if c in "mw" else 7 for c in name) for name in wide}
    long = f"{json.dumps(pixels)}[datum.label] > {_LIMIT.expr} + 0 * width"  # `width`: as in `_marks`
    expression = f"{long} && {json.dumps(wide, ensure_ascii=False)}[datum.label] || datum.label"
    return {"labelLimit": _LIMIT, "labelLineHeight": 12, "labelExpr": expression}


def trajectories(table: pd.DataFrame, targets: pd.DataFrame, *, types: Types = None, **words: str) -> altair.LayerChart:
    """Paths of hidden states in the plane, with a slider over layers. `table`: item, series, layer, x, y.
    `targets`: word, series, x, y, labelled where their unembedding rows lie, away from the nearest other one. Where
    both have `answer` and few of them, it gives the colour."""
    table, notes = _thinned(table)
    paths = tidied(table, ["item", "series", "layer", "x", "y"], ("depth", "word", "token", "reading", "answer"))
    marks = tidied(targets, ["word", "series", "x", "y"], ("answer",))
    look = _marks(styles([*marks["series"], *paths["series"]], types))
    del look["strokeDash"]
    answers = [*paths.get("answer", pd.Series(dtype=object)).unique()]
    if 1 < len(answers) <= len(MORE):
        marks["answer"] = marks["answer"].fillna("")
        scale = altair.Scale(domain=[*answers, ""], range=[*MORE[: len(answers)], STYLES["control"].colour])
        look["color"] = altair.Color("answer:N", scale=scale, legend=None)
        notes = ["Colour: the answer.", *notes]
    ends = {}
    for column, share in (("x", 0.12), ("y", 0.06)):  # room also for the words beside marks
        both = pd.concat([paths[column], marks[column]])
        pad = share * float(both.max() - both.min() or 1)
        ends[column] = [float(both.min() - pad), float(both.max() + pad)] if both.notna().any() else [0.0, 1.0]
    marks["side"] = sides(marks, ends)

    def axis(kind, column: str, text: str):
        fixed = altair.Scale(domain=ends[column], nice=False, zero=False)
        return kind(f"{column}:Q", title=text, scale=fixed, axis=altair.Axis(grid=False))

    place = {"x": axis(altair.X, "x", "first component"), "y": axis(altair.Y, "y", "second component")}
    base, target = altair.Chart(paths).encode(**place), altair.Chart(marks).encode(**place)
    line = base.transform_filter("datum.layer <= layer_choice").mark_line(strokeWidth=1.2, opacity=0.4, aria=False)
    line = line.encode(color=look["color"], detail="item:N", order="layer:Q")
    point = base.transform_filter("datum.layer === layer_choice").mark_point(filled=True, size=70, opacity=0.9)
    point = point.encode(**look, tooltip=_tooltip(paths, "item", "word", "token"))
    dot = target.mark_point(filled=False, size=90, strokeWidth=2).encode(**look, tooltip=["word", "series"])
    # "guide-label" gives the words the colour of the axis labels, in whatever configuration the page embeds
    text = {"style": "guide-label", "fontSize": 13, "fontWeight": "bold", "baseline": "middle"}
    labels = [
        target.transform_filter(f"datum.side === {k}").mark_text(**place, **text).encode(text="word:N")
        for k, place in enumerate(SIDES)
    ]
    chart = altair.layer(line, dot, *labels, point).add_params(_slider(paths, float(paths["layer"].max()) / 2))
    return _finished(chart, ["Open marks: words and answers. Filled: states.", *notes], height=380, **words)


def overlay(table: pd.DataFrame, images: Mapping[str, Any], *, layer: int, **words: str) -> altair.LayerChart:
    """A picture with a word on each of its patches: a slider over layers, a choice of picture and, where the table has
    several, of reading and of `among` (which words were candidates), and a switch that fades words by probability.

    `table`: one row per picture, reading, among, layer and patch, in reading order, with row, column, rows, columns,
    view (the part of the picture under the patches, in shares of width and height), word, value (a probability), right
    (outlined). images: PIL picture by its name in the table. layer: near which the slider starts, at the reading and
    the picture with most true words there. Vega takes apart the page's rows, one per picture and layer.
    """
    table, note = _truest(table, layer)
    keys, rows = ["picture", "reading", "among", "layer"], []
    for key, part in table.groupby(keys, sort=False):
        cells = {"word": part["word"].tolist(), "p": [float(f"{p:.2g}") for p in part["value"]]}
        cells["right"] = part["right"].astype(int).tolist()
        rows.append(dict(zip(keys, key, strict=True)) | {"layer": int(key[-1])} | cells)
    first = table.drop_duplicates("picture").set_index("picture")
    shown = [{"picture": name, "url": addressed(images[name], first["view"][name])} for name in first.index]
    # the size of a patch in pixels, so that patches are square at every width
    size = {name: json.dumps(first[name].astype(int).to_dict()) + "[picture_choice]" for name in ("columns", "rows")}
    size |= {"height": "min(420, width * rows / columns)", "unit": "height / rows"}  # no higher than the picture
    sizes = [altair.param(name=name, expr=expression) for name, expression in size.items()]
    fade = altair.param(name="fade", value=False, bind=altair.binding_checkbox(name="fade by probability: "))
    base = altair.Chart(altair.NamedData(name="words")).transform_filter("datum.layer === layer_choice")
    base, params = _switched(base, table, ["picture", "reading", "among"], always="picture")
    base = (
        base.transform_flatten(["word", "p", "right"])
        .transform_window(number="row_number()")
        .transform_calculate(x="(datum.number - 1) % columns", y="floor((datum.number - 1) / columns)")
        .transform_calculate(x2="datum.x + 1", y2="datum.y + 1", middle="datum.x + 0.5", centre="datum.y + 0.5")
        .transform_calculate(share="format(datum.p, '.0%')", strength="fade ? 0.15 + 0.85 * datum.p : 1")
        .transform_calculate(told="datum.word + ', ' + format(datum.p, '.2~%') + (datum.right ? ', true' : '')")
    )
    photo = altair.Chart(altair.NamedData(name="pictures")).transform_filter("datum.picture === picture_choice")
    whole = {"width": altair.ExprRef("columns * unit"), "height": altair.ExprRef("rows * unit")}
    whole |= {"align": "left", "baseline": "top", "aspect": False}
    photo = photo.transform_calculate(x="0", y="0").mark_image(**whole).encode(url="url:N", **_place("x", "y"))
    chart = altair.layer(photo, *_patches(base), *_words_on(base), view=altair.ViewBackground(stroke=None))
    chart = chart.add_params(*sizes, params[0], _slider(table, layer), *params[1:], fade)
    done = _finished(chart, ["Outlined: true of what the patch shows.", *note], height=420, **words)
    done.datasets = altair.Datasets(words=rows, pictures=shown)
    return done


def _truest(table: pd.DataFrame, layer: int) -> tuple[pd.DataFrame, list[str]]:
    """An overlay's table, ordered so that the picture and the reading with most true words near `layer` come first,
    among the first candidates; and a note that says so."""
    if not (true := true_words(table, layer)).max():
        return table, []
    picture, reading = true.idxmax()
    later = 2 * (table["picture"] != picture) + (table["reading"] != reading)
    note = f"Opens where most words are true: {picture}, {reading}."
    return table.iloc[later.argsort(kind="stable")], [note]


def true_words(table: pd.DataFrame, layer: int) -> pd.Series:
    """How many words of an overlay are true near a layer, by picture and reading, among the first candidates."""
    near = min(table["layer"].unique(), key=lambda one: abs(one - layer))
    some = table[(table["layer"] == near) & (table["among"] == table["among"].iloc[0])]
    return some.groupby(["picture", "reading"], sort=False)["right"].sum()


def _place(x: str, y: str) -> dict:
    """A place on a picture, in patches from its upper left corner."""
    across = altair.Scale(domain=[0, altair.ExprRef("width / unit")], nice=False)
    down = altair.Scale(domain=[altair.ExprRef("height / unit"), 0], nice=False)
    return {"x": altair.X(f"{x}:Q", axis=None, scale=across), "y": altair.Y(f"{y}:Q", axis=None, scale=down)}


def _patches(base: altair.Chart) -> list[altair.Chart]:
    """What a pointer and a screen reader find on each patch, and the outline of those whose word is true."""
    tips = [altair.Tooltip("word:N"), altair.Tooltip("p:Q", title="probability"), altair.Tooltip("layer:Q")]
    cell = {**_place("x", "y"), "x2": "x2:Q", "y2": "y2:Q", "tooltip": tips}
    true = base.transform_filter("datum.right === 1")
    outline = [  # white in black, to be seen on any picture
        true.mark_rect(fillOpacity=0, stroke=colour, strokeWidth=width, aria=False).encode(**cell)
        for colour, width in (("#000000", 5), ("#ffffff", 2))
    ]
    return [base.mark_rect(fillOpacity=0).encode(**cell, description="told:N"), *outline]


def _words_on(base: altair.Chart) -> list[altair.Chart]:
    """Word and probability in the middle of each patch, white with a black halo."""
    at = _place("middle", "centre") | {"opacity": altair.Opacity("strength:Q", scale=None, legend=None)}
    same = {"limit": altair.ExprRef("unit"), "fontWeight": "bold", "aria": False}
    halo = {"color": "#000000", "stroke": "#000000", "strokeWidth": 3}
    word = {"fontSize": altair.ExprRef("unit / 6")}
    share = {"fontSize": altair.ExprRef("unit > 40 ? unit / 7 : 0"), "dy": altair.ExprRef("unit / 4")}
    return [
        base.mark_text(**place, **colour, **same).encode(**at, text=text)
        for colour in (halo, {"color": "#ffffff"})
        for text, place in (("word:N", word), ("share:N", share))
    ]


def _thinned(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The table and no note; of one too long for a chart, one layer in so many and the last of each model, the same for
    every series, and a note that says so. The data table beside the chart keeps all."""
    if len(table) <= MAX_ROWS or "layer" not in table:
        return table, []
    layers = sorted(table["layer"].unique())
    models = table["model"].fillna("") if "model" in table else pd.Series("", table.index)
    last = table["layer"] == table.groupby(models)["layer"].transform("max")
    for step in range(2, len(layers)):
        some = table[table["layer"].isin(evenly(layers, (len(layers) - 1) // step + 1)) | last]
        if len(some) <= MAX_ROWS:
            return some, [f"One layer in {step} is drawn, and the last."]
    return table, []


def _switched(chart: altair.Chart, table: pd.DataFrame, columns: Iterable[str], always: str = "") -> tuple:
    """The chart with one value at a time of each column that has several (and of `always`), and the inputs."""
    params = []
    for column in columns:
        if several(table, column) or column == always:
            params.append(_choice(table, column))
            chart = chart.transform_filter(f"datum.{column} === {column}_choice || datum.{column} === ''")
    return chart, params


def _choice(table: pd.DataFrame, column: str, label: str = "", every: str | None = None) -> altair.Parameter:
    """A native input over a column's values, at the first: radio buttons for a few, a list for more; `every` adds an
    entry for all."""
    values = [v for v in dict.fromkeys(table[column].dropna()) if v != ""]
    labels = [str(v) for v in values]
    options = [None, *values] if every else values
    bind = altair.binding_select if every or len(values) > 5 else altair.binding_radio
    name = (label or column).replace("_", " ")
    bound = bind(options=options, labels=[every, *labels] if every else labels, name=f"{name}: ")
    return altair.param(name=f"{column}_choice", value=values[0], bind=bound)


def _slider(table: pd.DataFrame, near: float = math.inf) -> altair.Parameter:
    """A native slider over layers, or a list where their steps are uneven; starts `near` a layer, or at the last."""
    layers = sorted(int(v) for v in table["layer"].unique())
    steps = {b - a for a, b in zip(layers, layers[1:], strict=False)} or {1}
    every = max(_counts(table), default=0) if "depth" in table else 0
    name = f"layer (of {every}): " if layers[-1] < every else "layer: "
    bound = altair.binding_range(min=layers[0], max=layers[-1], step=min(steps), name=name)
    if len(steps) > 1:
        bound = altair.binding_select(options=layers, name=name)
    start = min(layers, key=lambda layer: abs(layer - min(near, layers[-1])))
    return altair.param(name="layer_choice", value=start, bind=bound)


def _wrapped(title: str) -> str | list[str]:
    """The title of an axis, in two lines where it is longer than a plot is high."""
    return title if len(title) <= 42 else textwrap.wrap(title, len(title) // 2 + 6)


def _finished(chart, notes: Sequence[str] = (), height: int = 320, ends: Sequence[str] = (), *, title: str, alt: str):
    """Sizes that every chart shares, and for the figure around it its title, what its marks mean and which names may
    stand at the ends of lines; alt text."""
    need(title.strip() and alt.strip(), "A chart was given no title or no alt text; give both, as sentences.")
    done = chart.copy(deep=False)  # each of Altair's own setters copies all data
    done.width, done.height, done.description = "container", height, alt
    about = {"title": title, "notes": " ".join(notes), "ends": [*ends]}
    done.usermeta = {"embedOptions": {"actions": False, "renderer": "svg"}, **about}
    axis = altair.AxisConfig(labelFontSize=12, titleFontSize=13, gridOpacity=0.35, domainColor="#808080")
    legend = altair.LegendConfig(labelFontSize=12, titleFontSize=13, labelLimit=300, symbolStrokeWidth=2)
    more = {"view": altair.ViewConfig(stroke=None), "background": "transparent", "padding": 4}
    done.config = altair.Config(axis=axis, axisX=altair.AxisConfig(labelSeparation=10), legend=legend, **more)
    return done


def _names_at(data: pd.DataFrame, names: Iterable[str], columns: Iterable[str]) -> Any:
    """Which names a legend lists: where inputs over these columns leave some out, those of what they are at."""
    columns = [column for column in columns if several(data, column)]
    cells, at = listed(data, [*names], columns), ", ".join(f"{column}_choice" for column in columns)
    some = min(map(len, cells.values())) < len([*names])
    return altair.ExprRef(f"{json.dumps(cells, ensure_ascii=False)}[join([{at}], '|')]") if some else altair.Undefined


def _marks(look: Mapping[str, Style], only: Any = altair.Undefined, lines: bool = False) -> dict[str, object]:
    """Colour, dash and marker of the series as encodings that share one legend, of all or `only` these, which shows
    `lines` as such."""
    names = list(look)
    wide = 36 + 7 * max(map(len, names))  # pixels of a column; as many as the chart has room for
    # Measured on the page, as Vega sets the height by the `width` from before the axes have taken their part. That this
    # changed says when to measure again. 60: pixels beside a plot for its axis.
    room = "(isFinite(containerSize()[0]) ? containerSize()[0] - 60 + 0 * width : width)"
    columns = altair.ExprRef(f"max(1, min({2 if wide > 114 else 3}, floor({room} / {wide})))")
    symbols = {"symbolType": "stroke", "symbolSize": 400, "symbolStrokeWidth": 2.5} if lines else {"symbolSize": 90}
    legend = altair.Legend(title=None, orient="top", columns=columns, symbolOpacity=1, values=only, **symbols)

    def of(channel, values: list, legend: altair.Legend | None = legend):
        return channel("series:N", sort=names, legend=legend, scale=altair.Scale(domain=names, range=values))

    return {
        "color": of(altair.Color, [style.colour for style in look.values()]),
        "strokeDash": of(altair.StrokeDash, [list(style.dash) for style in look.values()]),
        "shape": of(altair.Shape, [style.shape for style in look.values()], None if lines else legend),
    }


def _axis(table: pd.DataFrame, x: str, title: str) -> altair.X:
    """Tokens on a logarithmic axis, strength, or relative depth from 0 to 1: where all curves have the same number of
    layers, its ticks read "layer (depth)"."""
    if x == "tokens":
        round_ones = [m * 10**k for k in range(12) for m in (1, 2, 5) if table[x].min() <= m * 10**k <= table[x].max()]
        scale, axis = altair.Scale(type="log", nice=False), altair.Axis(format="~s", values=round_ones)
        return altair.X("tokens:Q", title=title or "tokens seen", scale=scale, axis=axis)
    if x == "strength":  # the ones that were measured, where they are few
        known = sorted(table[x].dropna().unique().tolist())
        axis = altair.Axis(format="~g", values=known if len(known) <= 12 else altair.Undefined)
        return altair.X("strength:Q", title=title or "steering strength", axis=axis)
    counts, axis = _counts(table), {"title": "relative depth (0 embeddings, 1 last layer)"}
    if len(counts) == 1:
        last = counts.pop()
        label = f"format(datum.value * {last}, 'd') + ' (' + format(datum.value, '.2f') + ')'"
        axis = {"title": "layer (relative depth)", "labelExpr": label}
        axis["values"] = [layer / last for layer in range(last, -1, -math.ceil(last / 6))]
    return altair.X("depth:Q", scale=altair.Scale(domain=[0, 1], nice=False), axis=altair.Axis(**axis))


def _counts(table: pd.DataFrame) -> set[int]:
    """How many layers the models have whose rows these are."""
    inner = table[table["depth"] > 0]
    return {int(round(layer / depth)) for layer, depth in zip(inner["layer"], inner["depth"], strict=True)}


def _tooltip(table: pd.DataFrame, *first: str) -> list[altair.Tooltip]:
    names = [c for c in dict.fromkeys([*first, *SHOWN, *NUMBERS]) if c in table]
    return [altair.Tooltip(c, **({"format": ".3~g"} if table[c].dtype.kind == "f" else {})) for c in names]

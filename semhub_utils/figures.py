"""Charts, data tables and claim cards from tidy results: all that a reader sees. Knows no torch and no model.

A chart is Altair built from one tidy table (columns experiment, series, reading, layer, depth, value, low, high, p, n,
dropped and extras such as null_high, strength, model). Its controls are native inputs bound to Vega parameters, so they
work on a static page. Text keeps Vega's own colours and the background is transparent, so that a page may embed the
same specification again with a dark configuration.
"""

import base64
import io
import json
import textwrap
from collections.abc import Mapping, Sequence

import altair
import numpy as np
import pandas as pd
from PIL import Image

from .cards import Html, cell_text, claim_card, data_table, show, verdict_table
from .errors import SemhubError
from .palette import STYLES, Style, palette, styles

__all__ = ["Html", "bars", "claim_card", "data_table", "dose_response", "heatmap", "layer_curves", "palette"]
__all__ += ["overlay", "show", "styles", "training_curves", "trajectories", "verdict_table"]

PATCH_TYPES = {"expected": "digits", "original": "spanish", "untranslated": "english", "other": "german"}
"""Colours for the answers of an interchange patch: the hub's blue is for a word that came over untranslated."""

OUTCOME_TYPES = {"intended": "digits", "unchanged": "spanish", "other": "german", "unparseable": "logic"}
"""The same for the outcomes of an intervention: what they share with a patch's answers has its colour."""

MAX_ROWS = 5000  # Altair refuses more, and a page would be slow


# --- parts of a chart -------------------------------------------------------------------------------------------------


def _tidy(table: pd.DataFrame, needed: Sequence[str], optional: Sequence[str] = ()) -> pd.DataFrame:
    """The columns a chart shows, optional ones if they say something; floats cut to five digits: pages stay small."""
    missing = [c for c in needed if c not in table]
    if missing:
        raise SemhubError(f"The table has no column {', '.join(missing)}; it has {', '.join(map(str, table.columns))}.")
    if not 0 < len(table) <= MAX_ROWS:
        raise SemhubError(f"The table has {len(table)} rows; a chart takes 1 to {MAX_ROWS}.")
    said = [c for c in optional if c in table and (table[c].notna() & (table[c].astype(str) != "")).any()]
    out = table[list(dict.fromkeys([*needed, *said]))].reset_index(drop=True)
    for name in out:
        if pd.api.types.is_numeric_dtype(out[name]) and not pd.api.types.is_bool_dtype(out[name]):
            whole = pd.api.types.is_integer_dtype(out[name]) and not out[name].isna().any()
            out[name] = out[name].astype("int64" if whole else "float64")
            if not whole:
                out[name] = [float(f"{v:.5g}") for v in out[name]]
        elif out[name].dtype == object:
            out[name] = [v if isinstance(v, str) else cell_text(v) for v in out[name]]
    return out


def _several(table: pd.DataFrame, column: str) -> bool:
    return column in table and table[column].replace("", None).nunique() > 1


def _choice(table: pd.DataFrame, column: str, label: str = "", every: str | None = None) -> altair.Parameter:
    """A native input over a column's values: radio buttons for a few, a list for more; `every` adds "all"."""
    values = [v for v in dict.fromkeys(table[column].dropna()) if v != ""]
    labels = [str(v) for v in values]
    options = [None, *values] if every else values
    bind = altair.binding_select if every or len(values) > 5 else altair.binding_radio
    bound = bind(options=options, labels=[every, *labels] if every else labels, name=f"{label or column}: ")
    return altair.param(name=f"{column}_choice", value=options[0], bind=bound)


def _slider(table: pd.DataFrame, column: str) -> altair.Parameter:
    """A native slider over a whole-number column, or a list where its steps are uneven; starts at the last value."""
    values = sorted(int(v) for v in table[column].unique())
    steps = {b - a for a, b in zip(values, values[1:], strict=False)}
    name = f"{column}_choice"
    if len(steps) > 1:
        return altair.param(name=name, value=values[-1], bind=altair.binding_select(options=values, name=f"{column}: "))
    step = steps.pop() if steps else 1
    bound = altair.binding_range(min=values[0], max=values[-1], step=step, name=f"{column}: ")
    return altair.param(name=name, value=values[-1], bind=bound)


def _finish(chart, title: str, alt: str, notes: Sequence[str] = (), height: int = 320):
    """Title, alt text and sizes that every chart shares. Lines are short enough for a phone."""
    if not title.strip() or not alt.strip():
        raise SemhubError("A chart was given no title or no alt text; give both, as sentences.")
    heading = altair.TitleParams(
        textwrap.wrap(title, 34),
        subtitle=[line for note in notes for line in textwrap.wrap(note, 44)],
        anchor="start",
        fontSize=14,
        subtitleFontSize=12,
        offset=12,
    )
    done = chart.properties(width="container", height=height, title=heading, description=alt)
    done.usermeta = {"embedOptions": {"actions": False, "renderer": "svg"}}
    return (
        done.configure(background="transparent", padding=4)
        .configure_view(stroke=None)
        .configure_axis(labelFontSize=12, titleFontSize=13, gridOpacity=0.35, domainColor="#808080")
        .configure_legend(labelFontSize=12, titleFontSize=13, labelLimit=300, symbolStrokeWidth=2)
    )


def _marks(by: str, look: Mapping[str, Style]) -> dict[str, object]:
    """Colour, dash and marker of a column as encodings that share one legend."""
    names = list(look)
    wide = 30 + 7 * max(map(len, names))  # pixels of a column; as many as the chart has room for
    columns = altair.ExprRef(f"max(1, min({2 if wide > 114 else 3}, floor(width / {wide})))")
    legend = altair.Legend(title=None, orient="top", columns=columns, symbolSize=90, symbolOpacity=1)

    def of(channel, values: list):
        return channel(f"{by}:N", sort=names, legend=legend, scale=altair.Scale(domain=names, range=values))

    return {
        "color": of(altair.Color, [style.colour for style in look.values()]),
        "strokeDash": of(altair.StrokeDash, [list(style.dash) for style in look.values()]),
        "shape": of(altair.Shape, [style.shape for style in look.values()]),
    }


def _depth_axis(table: pd.DataFrame) -> altair.X:
    """Relative depth from 0 to 1; where all curves have the same number of layers, ticks read "layer (depth)"."""
    inner = table[table["depth"] > 0]
    counts = {int(round(layer / depth)) for layer, depth in zip(inner["layer"], inner["depth"], strict=True)}
    scale = altair.Scale(domain=[0, 1], nice=False)
    if len(counts) != 1:
        return altair.X("depth:Q", scale=scale, axis=altair.Axis(title="relative depth (0 embeddings, 1 last layer)"))
    last = counts.pop()
    step = -(-last // 6)
    ticks = [layer / last for layer in range(last, -1, -step)]
    label = f"format(datum.value * {last}, 'd') + ' (' + format(datum.value, '.2f') + ')'"
    axis = altair.Axis(title="layer (relative depth)", values=ticks, labelExpr=label, labelOverlap="parity")
    return altair.X("depth:Q", scale=scale, axis=axis)


_SHOWN = ("model", "condition", "of", "series", "reading", "layer", "depth", "strength")
_NUMBERS = ("value", "low", "high", "null_high", "p", "n")


def _tooltip(table: pd.DataFrame, *first: str) -> list[altair.Tooltip]:
    names = [c for c in dict.fromkeys([*first, *_SHOWN, *_NUMBERS]) if c in table]
    kinds = {c: "quantitative" if pd.api.types.is_numeric_dtype(table[c]) else "nominal" for c in names}
    return [
        altair.Tooltip(c, type=kinds[c], **({"format": ".3~g"} if table[c].dtype.kind == "f" else {})) for c in names
    ]


def _curves(table, x: altair.X, by: str, *, title, alt, y, types, select, switch="reading") -> altair.LayerChart:
    """Lines with 95% bands over x; what both layer curves and dose curves are."""
    if "control" in table:  # a control's rows carry the series they belong to: name the line, keep what it is of
        own = table["control"].fillna("") == ""
        types = {**(types or {}), **dict.fromkeys(table.loc[~own, "control"], "control")}
        table = table.drop(columns="control").assign(**{by: table[by].where(own, table["control"]), "of": table[by]})
    look = styles(table[by], types)
    controls = [name for name, style in look.items() if style.colour == STYLES["control"].colour]
    whose = "of" if "of" in table else by
    marks = _marks(by, look)
    colour = marks["color"]
    params, strong = [], ["true"]
    base = altair.Chart(table)
    for column in [switch] if isinstance(switch, str) else switch:
        if _several(table, column):
            params.append(_choice(table, column))
            base = base.transform_filter(f"datum.{column} === {column}_choice || datum.{column} === ''")
    if select and _several(table, select):
        params.append(_choice(table, select))
        strong.append(f"datum.{select} === {select}_choice")
    if _several(table, whose):
        params.append(_choice(table, whose, by, every="all"))
        strong.append(f"({whose}_choice === null || datum.{whose} === {whose}_choice)")
    chosen = " && ".join(strong)
    value = altair.Y("value:Q", title=y)
    faded = altair.condition(chosen, altair.value(1), altair.value(0.15))
    detail = [altair.Detail(f"{column}:N") for column in (select, whose) if column]
    base = base.encode(x=x, detail=detail)
    layers, notes = [], []
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
    if select and _several(table, select):
        notes.append(f"Pale: the other {select}s.")
    width = altair.condition(altair.FieldOneOfPredicate(by, controls), altair.value(1.2), altair.value(2.5))
    line = base.mark_line(aria=False).encode(
        y=value, color=colour, strokeDash=marks["strokeDash"], strokeWidth=width, opacity=faded
    )
    point = base.mark_point(filled=True, size=50).encode(
        y=value, color=colour, shape=marks["shape"], opacity=faded, tooltip=_tooltip(table)
    )
    return _finish(altair.layer(*layers, line, point).add_params(*params), title, alt, [" ".join(notes)])


# --- charts -----------------------------------------------------------------------------------------------------------


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
    data = _tidy(table, needed, ("control", *switches, *_SHOWN, *_NUMBERS))
    axis = _depth_axis(data)
    if "control" in data:  # one that is the same at every layer, such as the embedding layer, is drawn by its two ends
        flat = data.groupby(data.columns.difference(["layer", "depth", *_NUMBERS]).tolist(), dropna=False)
        inner = data["layer"].between(data["layer"].min(), data["layer"].max(), inclusive="neither")
        same = flat["value"].transform("nunique") == 1
        data = data[(data["control"].fillna("") == "") | ~(inner & same)]
    return _curves(data, axis, "series", title=title, alt=alt, y=y, types=types, select=select, switch=switch)


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
    data = _tidy(table, ["series", "tokens", "value", *switches], (*_SHOWN, *_NUMBERS))
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
    data = _tidy(table, ["strength", "value", by, *([select] if select else [])], (*switches, *_SHOWN, *_NUMBERS))
    if not stacked:
        x = altair.X("strength:Q", title=x_title)
        return _curves(data, x, by, title=title, alt=alt, y=y, types=types, select=select, switch=switch)
    look = styles(data[by], types)
    chart = altair.Chart(data.assign(rank=data[by].map(list(look).index)))
    for column in (select, "reading"):
        if column and _several(data, column):
            chart = chart.add_params(_choice(data, column)).transform_filter(f"datum.{column} === {column}_choice")
    chart = chart.mark_bar(stroke="#808080", strokeWidth=0.5).encode(
        x=altair.X("strength:O", title=x_title, axis=altair.Axis(labelAngle=0)),
        y=altair.Y("value:Q", title=y, stack="zero"),
        color=_marks(by, look)["color"],
        order=altair.Order("rank:Q"),
        tooltip=_tooltip(data),
    )
    return _finish(chart, title, alt)


def heatmap(
    table: pd.DataFrame,
    *,
    x: str,
    y: str,
    title: str,
    alt: str,
    value_title: str,
    x_title: str | None = None,
    y_title: str | None = None,
    chosen: Mapping[str, object] | None = None,
    slider: str | None = None,
    diverging: bool = False,
    switch: str = "reading",
):
    """Cells of `value` over two columns: layers by strengths with the `chosen` cell outlined, or a similarity matrix
    with a `slider` over layers. `diverging` centres the colours on zero. Where the column `switch` has several values,
    an input shows one at a time.
    """
    data = _tidy(table, [x, y, "value", *([slider] if slider else [])], (switch, *_SHOWN, *_NUMBERS))

    def axis(column: str) -> dict:
        numeric = pd.api.types.is_numeric_dtype(data[column])
        order = sorted(data[column].unique()) if numeric else list(dict.fromkeys(data[column]))
        return {"type": "ordinal", "sort": order[::-1] if column == "layer" else order}

    bound = float(data["value"].abs().max())
    ends = [-bound, bound] if bound > 0 else [-1.0, 1.0]
    if _several(data, switch):  # each choice has a unit of its own
        bounds = data["value"].abs().groupby(data[switch]).max().fillna(0).replace(0, 1.0).to_dict()
        ends = [altair.ExprRef(f"{sign}{json.dumps(bounds)}[{switch}_choice]") for sign in ("-", "")]
    scale = altair.Scale(scheme="blueorange", domain=ends) if diverging else altair.Scale(scheme="viridis")
    base = altair.Chart(data).encode(
        x=altair.X(x, title=x_title or x, axis=altair.Axis(labelAngle=0, labelOverlap=True), **axis(x)),
        y=altair.Y(y, title=y_title or y, axis=altair.Axis(labelOverlap=True), **axis(y)),
    )
    params = [_slider(data, slider)] if slider and _several(data, slider) else []
    params += [_choice(data, switch)] if _several(data, switch) else []
    for name in (slider, switch):
        if name and _several(data, name):
            base = base.transform_filter(f"datum.{name} === {name}_choice")
    legend = altair.Legend(title=value_title, orient="top", titleLimit=300, gradientLength=220)
    layers = [
        base.mark_rect().encode(color=altair.Color("value:Q", scale=scale, legend=legend), tooltip=_tooltip(data, y, x))
    ]
    if chosen:
        test = " && ".join(f"datum.{c} === {v!r}" for c, v in chosen.items())
        outline = base.transform_filter(test).mark_rect(fillOpacity=0, stroke=palette("spanish"), strokeWidth=3)
        layers.append(outline)
    chart = altair.layer(*layers).add_params(*params)
    rows = data[y].nunique()
    notes = ["Outlined: the chosen cell."] if chosen else []
    return _finish(chart, title, alt, notes, height=int(np.clip(26 * rows, 160, 520)))


def trajectories(
    table: pd.DataFrame,
    words: pd.DataFrame,
    *,
    title: str,
    alt: str,
    x_title: str = "first component",
    y_title: str = "second component",
    types: Mapping[str, str] | None = None,
) -> altair.LayerChart:
    """Paths of hidden states in the plane, with a slider over layers. `table`: item, series, layer, x, y;
    without `item` each series is an item. `words`: word, series, x, y, labelled where their unembedding rows lie.
    """
    if "item" not in table:
        table = table.assign(item=table["series"], series="hidden state")
    paths = _tidy(table, ["item", "series", "layer", "x", "y"], ("depth", "word", "token", "reading"))
    marks = _tidy(words, ["word", "series", "x", "y"])
    look = styles([*marks["series"], *paths["series"]], types)
    encoded = _marks("series", look)
    colour, shape = encoded["color"], encoded["shape"]

    def axis(kind, column: str, text: str):
        both = pd.concat([paths[column], marks[column]])
        pad = 0.06 * float(both.max() - both.min() or 1)
        ends = [float(both.min() - pad), float(both.max() + pad)] if both.notna().any() else [0.0, 1.0]
        fixed = altair.Scale(domain=ends, nice=False, zero=False)
        return kind(f"{column}:Q", title=text, scale=fixed, axis=altair.Axis(grid=False))

    place = {"x": axis(altair.X, "x", x_title), "y": axis(altair.Y, "y", y_title)}
    base = altair.Chart(paths).encode(**place)
    line = base.transform_filter("datum.layer <= layer_choice").mark_line(strokeWidth=1.2, opacity=0.4, aria=False)
    line = line.encode(color=colour, detail="item:N", order="layer:Q")
    point = base.transform_filter("datum.layer === layer_choice").mark_point(filled=True, size=70, opacity=0.9)
    point = point.encode(color=colour, shape=shape, tooltip=_tooltip(paths, "item", "word", "token"))
    target = altair.Chart(marks).encode(**place)
    dot = target.mark_point(filled=False, size=90, strokeWidth=2).encode(
        color=colour, shape=shape, tooltip=["word", "series"]
    )
    # "guide-label" gives the words the colour of the axis labels, in whatever configuration the page embeds
    label = target.mark_text(style="guide-label", dy=-12, fontSize=13, fontWeight="bold").encode(text="word:N")
    chart = altair.layer(line, dot, label, point).add_params(_slider(paths, "layer"))
    return _finish(chart, title, alt, ["Open marks: words. Filled: states at the layer."], height=380)


def bars(
    table: pd.DataFrame,
    *,
    title: str,
    alt: str,
    value_title: str,
    category: str = "series",
    types: Mapping[str, str] | None = None,
) -> altair.LayerChart:
    """One bar per category with its 95% interval; two readings in the table give a switch."""
    data = _tidy(table, [category, "value"], (*_SHOWN, *_NUMBERS))
    look = styles(data[category], types)
    base = altair.Chart(data).encode(
        y=altair.Y(f"{category}:N", sort=list(look), title=None, axis=altair.Axis(labelLimit=160))
    )
    switch = _several(data, "reading")
    if switch:
        base = base.transform_filter("datum.reading === reading_choice")
    bar = base.mark_bar(opacity=0.85).encode(
        x=altair.X("value:Q", title=value_title),
        color=_marks(category, look)["color"].legend(None),
        tooltip=_tooltip(data),
    )
    layers, notes = [bar], []
    if {"low", "high"} <= set(data):
        layers.append(base.mark_rule(strokeWidth=3, color="#808080", aria=False).encode(x="low:Q", x2="high:Q"))
        notes.append("Grey rules: 95% intervals.")
    chart = altair.layer(*layers)
    if switch:
        chart = chart.add_params(_choice(data, "reading"))
    return _finish(chart, title, alt, notes, height=int(np.clip(34 * len(look), 120, 520)))


def overlay(
    table: pd.DataFrame,
    images: Mapping[str, Image.Image],
    *,
    title: str,
    alt: str,
    layer: int | None = None,
) -> altair.LayerChart:
    """A picture with a word on each of its patches: a slider over layers, a choice of picture and, where the table has
    several, of reading and of `among` (which words were candidates), and a switch that fades words by probability.

    `table`: one row per picture, reading, among, layer and patch, in reading order, with row, column, rows, columns,
    view (the part of the picture under the patches, in shares of width and height), word, value (a probability), right
    (outlined). images: picture by its name in the table. layer: where the slider starts. The page holds one row of
    words per picture and layer, which Vega takes apart.
    """
    keys = ["picture", "reading", "among", "layer"]
    _tidy(table.head(1), [*keys, "row", "column", "rows", "columns", "word", "value", "right"])
    rows = []
    for key, part in table.groupby(keys, sort=False):
        cells = {"word": part["word"].tolist(), "p": [float(f"{p:.2g}") for p in part["value"]]}
        cells["right"] = part["right"].astype(int).tolist()
        rows.append(dict(zip(keys, key, strict=True)) | {"layer": int(key[-1])} | cells)
    first = table.drop_duplicates("picture").set_index("picture")
    shown = [{"picture": name, "url": _address(images[name], first["view"][name])} for name in first.index]
    # the size of a patch in pixels, so that patches are square at every width
    size = {name: json.dumps(first[name].astype(int).to_dict()) + "[picture_choice]" for name in ("columns", "rows")}
    sizes = [altair.param(name=name, expr=expression) for name, expression in size.items()]
    sizes.append(altair.param(name="unit", expr="min(width / columns, height / rows)"))
    place = {
        "x": altair.X("x:Q", axis=None, scale=altair.Scale(domain=[0, altair.ExprRef("width / unit")], nice=False)),
        "y": altair.Y("y:Q", axis=None, scale=altair.Scale(domain=[altair.ExprRef("height / unit"), 0], nice=False)),
    }
    photo = (
        altair.Chart(altair.InlineData(values=shown))
        .transform_filter("datum.picture === picture_choice")
        .transform_calculate(x="0", y="0")
        .mark_image(align="left", baseline="top", aspect=False,
                    width=altair.ExprRef("columns * unit"), height=altair.ExprRef("rows * unit"))
        .encode(url="url:N", **place)
    )  # fmt: skip
    params = [_choice(table, "picture"), _slider(table, "layer")]
    if layer is not None:
        params[1].param.value = layer
    wanted = "datum.picture === picture_choice && datum.layer === layer_choice"
    for name in ("reading", "among"):
        if _several(table, name):
            params.append(_choice(table, name))
            wanted += f" && datum.{name} === {name}_choice"
    params.append(altair.param(name="fade", value=False, bind=altair.binding_checkbox(name="fade by probability: ")))
    base = (
        altair.Chart(altair.InlineData(values=rows))
        .transform_filter(wanted)
        .transform_flatten(["word", "p", "right"])
        .transform_window(number="row_number()")
        .transform_calculate(x="(datum.number - 1) % columns", y="floor((datum.number - 1) / columns)")
        .transform_calculate(x2="datum.x + 1", y2="datum.y + 1", middle="datum.x + 0.5", centre="datum.y + 0.5")
        .transform_calculate(share="format(datum.p, '.0%')", strength="fade ? 0.15 + 0.85 * datum.p : 1")
        .transform_calculate(told="datum.word + ', ' + format(datum.p, '.2~%') + (datum.right ? ', true' : '')")
    )
    tips = [altair.Tooltip("word:N"), altair.Tooltip("p:Q", title="probability"), altair.Tooltip("layer:Q")]
    cell = {**place, "x2": "x2:Q", "y2": "y2:Q", "tooltip": tips}
    patch = base.mark_rect(fillOpacity=0).encode(**cell, description="told:N")
    true = base.transform_filter("datum.right === 1")  # white in black, to be seen on any picture
    outline = [true.mark_rect(fillOpacity=0, stroke=colour, strokeWidth=width, aria=False).encode(**cell)
               for colour, width in (("#000000", 5), ("#ffffff", 2))]  # fmt: skip
    at = {"x": place["x"].copy(), "y": place["y"].copy()}
    at["x"].shorthand, at["y"].shorthand = "middle:Q", "centre:Q"
    at["opacity"] = altair.Opacity("strength:Q", scale=None, legend=None)

    def text(field: str, size: str, colour: str, **more) -> altair.Chart:
        marked = base.mark_text(
            color=colour,
            fontSize=altair.ExprRef(size),
            limit=altair.ExprRef("unit"),
            fontWeight="bold",
            aria=False,
            **more,
        )
        return marked.encode(**at, text=field)

    words = [
        text(*what, colour, **halo, **shift)
        for colour, halo in (("#000000", {"stroke": "#000000", "strokeWidth": 3}), ("#ffffff", {}))
        for what, shift in (
            (("word:N", "unit / 6"), {}),
            (("share:N", "unit > 40 ? unit / 7 : 0"), {"dy": altair.ExprRef("unit / 4")}),
        )
    ]
    chart = altair.layer(photo, patch, *outline, *words).add_params(*sizes, *params)
    return _finish(chart, title, alt, ["Outlined: true of what the patch shows."], height=420)


def _address(image: Image.Image, view: Sequence[float], side: int = 336) -> str:
    """The part of a picture under the patches as a data address that a page carries; black where it goes beyond."""
    (width, height), (left, top, right, bottom) = image.size, view
    image = image.convert("RGB").crop([round(v) for v in (left * width, top * height, right * width, bottom * height)])
    image.thumbnail((side, side))
    file = io.BytesIO()
    image.save(file, "PNG" if max(image.size) < 100 else "JPEG", quality=85)
    kind = "png" if max(image.size) < 100 else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"

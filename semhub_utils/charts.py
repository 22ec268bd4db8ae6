"""Parts of a chart: its columns, its inputs, what a series looks like, its axes, title and notes."""

import textwrap
from collections.abc import Mapping, Sequence

import altair
import pandas as pd

from .cards import cell_text
from .errors import SemhubError
from .palette import Style

AXIS = 60  # pixels beside a plot for its axis
MAX_ROWS = 5000  # Altair refuses more, and a page would be slow


def tidied(table: pd.DataFrame, needed: Sequence[str], optional: Sequence[str] = ()) -> pd.DataFrame:
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


def thinned(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The table and no note; of one too long for a chart, one layer in so many and the last of each model, the same for
    every series, and a note that says so. The data table beside the chart keeps all."""
    if len(table) <= MAX_ROWS or "layer" not in table:
        return table, []
    layer = table["layer"]
    last = layer.groupby(table["model"].fillna("")).transform("max") if "model" in table else layer.max()
    for step in range(2, int(layer.max()) + 2):
        some = table[((layer - layer.min()) % step == 0) | (layer == last)]
        if len(some) <= MAX_ROWS:
            return some, [f"One layer in {step} is drawn, and the last."]
    return table, []


def several(table: pd.DataFrame, column: str) -> bool:
    return column in table and table[column].replace("", None).nunique() > 1


def choice_input(table: pd.DataFrame, column: str, label: str = "", every: str | None = None) -> altair.Parameter:
    """A native input over a column's values: radio buttons for a few, a list for more; `every` adds "all"."""
    values = [v for v in dict.fromkeys(table[column].dropna()) if v != ""]
    labels = [str(v) for v in values]
    options = [None, *values] if every else values
    bind = altair.binding_select if every or len(values) > 5 else altair.binding_radio
    bound = bind(options=options, labels=[every, *labels] if every else labels, name=f"{label or column}: ")
    return altair.param(name=f"{column}_choice", value=options[0], bind=bound)


def slider_input(table: pd.DataFrame, column: str) -> altair.Parameter:
    """A native slider over a whole-number column, or a list where its steps are uneven; starts at the last value."""
    values = sorted(int(v) for v in table[column].unique())
    steps = {b - a for a, b in zip(values, values[1:], strict=False)}
    name = f"{column}_choice"
    if len(steps) > 1:
        return altair.param(name=name, value=values[-1], bind=altair.binding_select(options=values, name=f"{column}: "))
    step = steps.pop() if steps else 1
    bound = altair.binding_range(min=values[0], max=values[-1], step=step, name=f"{column}: ")
    return altair.param(name=name, value=values[-1], bind=bound)


def finished(chart, title: str, alt: str, notes: Sequence[str] = (), height: int = 320):
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


def marks_of(by: str, look: Mapping[str, Style]) -> dict[str, object]:
    """Colour, dash and marker of a column as encodings that share one legend."""
    names = list(look)
    wide = 30 + 7 * max(map(len, names))  # pixels of a column; as many as the chart has room for
    # Measured on the page: Vega sets the height by the `width` from before the axes have taken their part of it, and a
    # legend that folds by the `width` from after would push the title out. That it changed says when to measure again.
    room = f"(isFinite(containerSize()[0]) ? containerSize()[0] - {AXIS} + 0 * width : width)"
    columns = altair.ExprRef(f"max(1, min({2 if wide > 114 else 3}, floor({room} / {wide})))")
    legend = altair.Legend(title=None, orient="top", columns=columns, symbolSize=90, symbolOpacity=1)

    def of(channel, values: list):
        return channel(f"{by}:N", sort=names, legend=legend, scale=altair.Scale(domain=names, range=values))

    return {
        "color": of(altair.Color, [style.colour for style in look.values()]),
        "strokeDash": of(altair.StrokeDash, [list(style.dash) for style in look.values()]),
        "shape": of(altair.Shape, [style.shape for style in look.values()]),
    }


def depth_axis(table: pd.DataFrame) -> altair.X:
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
    axis = altair.Axis(
        title="layer (relative depth)", values=ticks, labelExpr=label, labelOverlap="parity", labelSeparation=8
    )
    return altair.X("depth:Q", scale=scale, axis=axis)


SHOWN = ("model", "condition", "of", "series", "reading", "layer", "depth", "strength")
NUMBERS = ("value", "low", "high", "null_high", "p", "n")


def tooltip_of(table: pd.DataFrame, *first: str) -> list[altair.Tooltip]:
    names = [c for c in dict.fromkeys([*first, *SHOWN, *NUMBERS]) if c in table]
    kinds = {c: "quantitative" if pd.api.types.is_numeric_dtype(table[c]) else "nominal" for c in names}
    return [
        altair.Tooltip(c, type=kinds[c], **({"format": ".3~g"} if table[c].dtype.kind == "f" else {})) for c in names
    ]

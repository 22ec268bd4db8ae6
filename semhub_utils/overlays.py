"""A picture with the lens's word on each of its patches, as one chart."""

import base64
import io
import json
from collections.abc import Mapping, Sequence

import altair
import pandas as pd
from PIL import Image

from .charts import choice_input, finished, several, slider_input, tidied


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
    (outlined). images: picture by its name in the table. layer: near which the slider starts. The page holds one row of
    words per picture and layer, which Vega takes apart.
    """
    keys = ["picture", "reading", "among", "layer"]
    tidied(table.head(1), [*keys, "row", "column", "rows", "columns", "word", "value", "right"])
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
    params = [choice_input(table, "picture"), slider_input(table, "layer")]
    if layer is not None:
        params[1].param.value = min(map(int, table["layer"].unique()), key=lambda at: abs(at - layer))
    wanted = "datum.picture === picture_choice && datum.layer === layer_choice"
    for name in ("reading", "among"):
        if several(table, name):
            params.append(choice_input(table, name))
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
    return finished(chart, title, alt, ["Outlined: true of what the patch shows."], height=420)


def _address(image: Image.Image, view: Sequence[float], side: int = 336) -> str:
    """The part of a picture under the patches as a data address that a page carries; black where it goes beyond."""
    (width, height), (left, top, right, bottom) = image.size, view
    image = image.convert("RGB").crop([round(v) for v in (left * width, top * height, right * width, bottom * height)])
    image.thumbnail((side, side))
    file = io.BytesIO()
    image.save(file, "PNG" if max(image.size) < 100 else "JPEG", quality=85)
    kind = "png" if max(image.size) < 100 else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"

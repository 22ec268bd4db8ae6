"""HTML that a notebook displays: texts, numbers and tables as a reader wants them; the one look of each data type.

It inherits its colours or mixes them from the text's, so that it reads on white and on black.
"""

import base64
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from importlib.util import find_spec
from itertools import cycle, product
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Html:
    """A piece of HTML that a notebook displays; `text` is what stands for it where HTML cannot be shown."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


_LANGUAGE = re.compile(r"\b(english|spanish|chinese|german|french)\b")
STYLE = f"<style>{(Path(__file__).parent / 'static' / 'findings.css').read_text(encoding='utf-8')}</style>"
"""Of tables, strips and figures; each brings it along, as Colab shows every output in a frame of its own."""


def diagram(name: str) -> Html:
    """A drawing of the book's: hub, similarity, lens, intervention or evidence; in the colours of the page."""
    drawn = (Path(__file__).parent / "static" / "diagrams" / f"{name}.svg").read_text(encoding="utf-8")
    return Html(STYLE + drawn, re.search(r"<desc.*?>(.*?)</desc>", drawn)[1])


def cell_text(value: object) -> str:
    """A value as a reader wants it: three significant digits, a dash for nothing, counts as "reason: number"."""
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {cell_text(item)}" for key, item in value.items()) or "none"
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple, np.ndarray)):
        return ", ".join(map(cell_text, value)) or "none"
    if value is None or pd.isna(value):
        return "–"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (int, np.integer)) or (abs(value) < 1e15 and float(value).is_integer()):
        return str(int(value))
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def proper(name: Any) -> Any:
    """A name with its languages in capitals."""
    return _LANGUAGE.sub(lambda found: found[0].title(), name) if isinstance(name, str) else name


def table_box(kind: str, caption: str, names: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows of HTML in a box that scrolls and can be reached by keyboard; the first cell of a row is its head."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    body = "".join(
        f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in rest) + "</tr>"
        for first, *rest in rows
    )
    table = f'<caption style="text-align: left">{escape(caption)}</caption><thead><tr>{head}</tr></thead>'
    box = f'<div class="{kind}" tabindex="0" role="region" aria-label="{escape(caption)}">'
    return f"{box}<table>{table}<tbody>{body}</tbody></table></div>"


def with_band(value: float | None, low: float | None, high: float | None, null: float | None = None) -> str:
    value, low, high = (0.0 if abs(of or 0) < 1e-4 * abs((high or 0) - (low or 0)) else of for of in (value, low, high))
    band = "" if pd.isna(low) else f" [{cell_text(low)}, {cell_text(high)}]"
    return cell_text(value) + band + ("" if pd.isna(null) else f", {cell_text(null)}")


def note(said: str, title: str = "") -> Html:
    """What stands where there is nothing to draw, perhaps under the title of what is not drawn."""
    lead = f"<b>{escape(title)}</b> " * bool(title)
    return Html(f'<p class="no-figure">{lead}{escape(said)}</p>', f"{title} {said}".strip())


Types = Mapping[str, str] | None


@dataclass(frozen=True)
class Style:
    """How one data type looks in every chart: colour, and dash and marker for those who do not see the colour."""

    colour: str
    dash: tuple[int, ...]
    shape: str


# Okabe and Ito's palette, the light ones darkened until each stands 3:1 against a white and a near-black page.
# The dominant language has the one blue, here and in the lens grid.
STYLES = {
    "english": Style("#0072B2", (1, 0), "circle"),
    "spanish": Style("#D55E00", (8, 3), "square"),
    "chinese": Style("#C28800", (3, 3), "triangle-up"),
    "german": Style("#C2699B", (10, 3, 2, 3), "diamond"),
    "digits": Style("#009E73", (6, 2), "cross"),
    "code": Style("#857A00", (2, 2), "triangle-down"),
    "logic": Style("#B8336A", (12, 4), "triangle-right"),
    "image": Style("#8D5BC7", (5, 2, 1, 2), "triangle-left"),
    "sound": Style("#A65628", (14, 3, 4, 3), "wedge"),
    "control": Style("#808080", (4, 2), "circle"),
    "null": Style("#808080", (2, 3), "circle"),
}
_ALIASES = {"en": "english", "es": "spanish", "zh": "chinese", "de": "german", "digit": "digits", "audio": "sound"}
_ALIASES |= dict.fromkeys(("control", "random", "randomised", "shuffled", "reversed", "embedding", "wrong"), "control")
# The answers under an intervention: the hub's blue is for a word that came over untranslated.
_OUTCOMES = {"expected": "digits", "original": "spanish", "untranslated": "english", "other": "german"}
_OUTCOMES |= {"intended": "digits", "unchanged": "spanish", "unparseable": "image"}
# The book's own models, which look alike in every chart; a second seed of one has its colour too.
_MODELS = {"hub": "digits", "islands": "german", "planted": "code", "balanced": "spanish"}
_MODELS |= {"small": "digits", "small islands": "german"}
_SPARE = ("digits", "spanish", "german", "code", "chinese", "image", "logic", "sound")  # far apart first
MORE = [*(STYLES[name].colour for name in _SPARE), "#D0455A", "#0E9AA7"]  # of what has no look of its own
_SHAPES = [style.shape for name, style in STYLES.items() if name not in ("control", "null")]


def data_type(series: str) -> str | None:
    """The data type a series name speaks of: the one it names, or the other one where English is one of several."""
    words = (_ALIASES.get(word, word) for word in re.findall(r"[a-z]+", str(series).lower()))
    rank = {"control": 0, "null": 1, "english": 3}
    return min((word for word in words if word in STYLES), key=lambda word: rank.get(word, 2), default=None)


def data_types(series: Iterable[str], types: Types = None) -> dict[str, str | None]:
    """The data type of each series."""
    known = _MODELS | _OUTCOMES | dict(types or {})
    seedless = {name: re.sub(r", seed \d+$", "", str(name)) for name in series}
    return {name: data_type(known.get(name, known.get(plain, name))) for name, plain in seedless.items()}


def styles(series: Iterable[str], types: Types = None) -> dict[str, Style]:
    """One style per series. Two series of a type share its colour and differ in dash and marker; unknown ones get a
    colour no one in the chart has, never that of English. One alone among controls is solid."""
    kinds = data_types(series, types)
    spare = cycle([kind for kind in _SPARE if kind not in kinds.values()] or _SPARE)
    kinds = {name: kind or next(spare) for name, kind in kinds.items()}
    kinds |= {name: "control" for name, kind in kinds.items() if kind == "null" != name}  # dotted grey is chance alone
    own = [name for name, kind in kinds.items() if kind not in ("control", "null")]
    used = {*kinds.values()} | ({"english"} if len(own) == 1 else set())
    dashes = [style.dash for kind, style in STYLES.items() if kind not in used]
    dotted = {STYLES[kind].dash for kind in ("null", "code", "chinese")}
    shapes = iter([shape for shape in _SHAPES if shape not in {STYLES[kind].shape for kind in used}])
    chosen = {}
    for name, kind in kinds.items():
        look = STYLES[kind]
        if kind not in used:  # of the second series of this kind
            dash = next((of for of in dashes if kind != "control" or of not in dotted), look.dash)
            dashes = [of for of in dashes if of != dash]
            look = Style(look.colour, dash, next(shapes, look.shape))
        used.discard(kind)
        chosen[name] = replace(look, dash=(1, 0)) if own == [name] else look
    return chosen


def tidied(table: pd.DataFrame, needed: Sequence[str], optional: Sequence[str] = ()) -> pd.DataFrame:
    """The columns a chart shows, optional ones if they say something; floats cut to five digits: pages stay small."""
    said = [c for c in optional if c in table and (table[c].notna() & (table[c].astype(str) != "")).any()]
    out = table[list(dict.fromkeys([*needed, *said]))].reset_index(drop=True)
    for name in out:
        if pd.api.types.is_integer_dtype(out[name]) and not out[name].isna().any():
            out[name] = out[name].astype("int64")
        elif pd.api.types.is_numeric_dtype(out[name]) and not pd.api.types.is_bool_dtype(out[name]):
            out[name] = [float(f"{v:.5g}") for v in out[name].astype("float64")]
        elif out[name].dtype == object:
            out[name] = [None if pd.isna(v) else str(v) for v in out[name]]
    return out


def several(table: pd.DataFrame, column: str) -> bool:
    """Whether a column has several values, besides none at all."""
    return column in table and table[column].replace("", None).nunique() > 1


def listed(table: pd.DataFrame, names: Sequence[str], columns: Sequence[str]) -> dict[str, list[str]]:
    """Which names are those of a series that is there, by the values of these columns, as "Spanish|raw"; rows without a
    value are there at each. A name that is of no series always is."""
    known, found = {*table["series"]}, {}
    for key in product(*(table[column].replace("", None).dropna().unique() for column in columns)):
        here = pd.Series(True, table.index)
        for column, value in zip(columns, key, strict=True):
            here &= table[column].fillna("").isin([value, ""])
        gone = known - {*table["series"][here]}
        found["|".join(map(str, key))] = [name for name in names if name not in gone]
    return found


SIDES = ({"align": "left", "dx": 9, "dy": 0}, {"align": "right", "dx": -9, "dy": 0})
SIDES += ({"align": "center", "dx": 0, "dy": -14}, {"align": "center", "dx": 0, "dy": 14})  # of a mark, for its word


def sides(marks: pd.DataFrame, ends: Mapping[str, Sequence[float]]) -> list[int]:
    """On which of SIDES of its mark each word stands, so that it lies on no mark, no other word and no axis where it
    can; one after the other, measured on a phone."""
    (left, right), (bottom, top) = ends["x"], ends["y"]
    at = [
        (240 * (x - left) / (right - left), 340 * (top - y) / (top - bottom)) for x, y in marks[["x", "y"]].to_numpy()
    ]
    taken, chosen = [(x - 7, y - 7, x + 7, y + 7) for x, y in at], []

    def box(x: float, y: float, word: str, side: Mapping[str, Any]) -> tuple[float, ...]:
        wide = 8.5 * len(word)
        start = x + side["dx"] - {"left": 0, "right": wide, "center": wide / 2}[side["align"]]
        return start, y + side["dy"] - 7, start + wide, y + side["dy"] + 7

    def lost(of: tuple[float, ...]) -> float:
        """How much of a box lies on others, or outside."""
        on = (max(0, min(a[2], of[2]) - max(a[0], of[0])) * max(0, min(a[3], of[3]) - max(a[1], of[1])) for a in taken)
        return sum(on) + 14 * max(0, -of[0], of[2] - 240) + 60 * max(0, -of[1], of[3] - 340)

    for (x, y), word in zip(at, marks["word"].astype(str), strict=True):
        boxes = [box(x, y, word, side) for side in SIDES]
        chosen.append(min(range(len(SIDES)), key=lambda k: lost(boxes[k])))
        taken.append(boxes[chosen[-1]])
    return chosen


CHART = re.compile(  # as Altair's universal template writes it
    r'<style>\s*#(?P<id>[\w-]+)\.vega-embed.*?</style>\s*<div id="(?P=id)">(?P<still>[^<]*(?:<img[^>]*>)?)</div>'
    r"\s*<script[^>]*>(?P<js>.*?)</script>",
    re.DOTALL,
)
STILL = 640  # pixels across, of a chart that takes what room there is


def specification(script: str) -> dict[str, Any]:
    """The Vega-Lite specification in the script that Altair writes: the first argument of its last call."""
    return json.JSONDecoder().raw_decode(script, script.rindex("})(") + 3)[0]


def with_stills(notebook: Any) -> Any:
    """An executed notebook whose charts have pictures of themselves in their boxes, which stay where no script runs, as
    on GitHub; as it is without vl-convert."""
    if not find_spec("vl_convert"):
        return notebook
    import altair
    import vl_convert

    def still(chart: re.Match) -> str:
        spec = specification(chart["js"])
        spec |= {"background": "white", "config": spec.get("config", {}) | {"font": "Arial, sans-serif"}}
        if spec.get("width") == "container":
            spec["width"] = STILL
        picture = vl_convert.vegalite_to_svg(spec, vl_version=altair.SCHEMA_VERSION.rpartition(".")[0])
        alt, box = escape(spec.get("description", "")), f'<div id="{chart["id"]}">'
        return chart[0].replace(box, f'{box}<img alt="{alt}" src="data:image/svg+xml,{quote(picture)}">', 1)

    for output in (one for cell in notebook.cells for one in cell.get("outputs", [])):
        for kind in [kind for kind in output.get("data", {}) if kind.endswith("text/html")]:
            output["data"][kind] = CHART.sub(still, "".join(output["data"][kind]))
    return notebook


def addressed(image: Any, view: Sequence[float]) -> str:
    """The part of a picture under the patches as a data address that a page carries; black where it goes beyond."""
    (width, height), (left, top, right, bottom) = image.size, view
    image = image.convert("RGB").crop([round(v) for v in (left * width, top * height, right * width, bottom * height)])
    image.thumbnail((336, 336))
    kind, file = "png" if max(image.size) < 100 else "jpeg", io.BytesIO()
    image.save(file, kind, quality=85)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"

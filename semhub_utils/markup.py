"""HTML that a notebook displays: texts, numbers and tables as a reader wants them.

It inherits its colours or mixes them from the text's, so that it reads on white and on black.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

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
    band = "" if pd.isna(low) else f" [{cell_text(low)}, {cell_text(high)}]"
    return cell_text(value) + band + ("" if pd.isna(null) else f", {cell_text(null)}")


def note(said: str) -> Html:
    """What stands where there is nothing to draw."""
    return Html(f'<p class="no-figure">{escape(said)}</p>', said)

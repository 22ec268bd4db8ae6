"""HTML that stands beside the charts: data tables, figures with their table, and claim cards.

Colours are inherited or mixed from the text colour, so the same markup reads on white and on black.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd

SYMBOLS = {"holds": "✔", "holds weakly": "◐", "does not hold": "✘", "cannot be tested here": "?"}

_STYLE = f"<style>{(Path(__file__).parent / 'static' / 'cards.css').read_text(encoding='utf-8')}</style>"


@dataclass(frozen=True)
class Html:
    """A piece of HTML that a notebook displays; `text` is what stands for it where HTML cannot be shown."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


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


def data_table(table: pd.DataFrame, caption: str = "Data of the figure above") -> str:
    """The table as accessible HTML behind a disclosure; a wide or long one scrolls in its own box."""
    head = f'<caption style="text-align: left">{escape(caption)}</caption>' + _head(map(str, table.columns))
    rows = []
    for row in table.itertuples(index=False):
        first, *rest = (escape(cell_text(value)) for value in row)
        rows.append(f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{value}</td>" for value in rest) + "</tr>")
    box = _box("data-table-scroll", caption, f"<table>{head}<tbody>{''.join(rows)}</tbody></table>")
    return f'<details class="data-table"><summary>Data</summary>{box}</details>'


def _head(names: Iterable[str]) -> str:
    cells = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    return f"<thead><tr>{cells}</tr></thead>"


def _box(kind: str, label: str, inside: str) -> str:
    """A box that scrolls and can be reached by keyboard."""
    return f'<div class="{kind}" tabindex="0" role="region" aria-label="{escape(label)}">{inside}</div>'


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
        told = told.assign(value=[_with_band(*row) for row in rows]).rename(columns={"value": value})
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


def _with_band(value: float | None, low: float | None, high: float | None, null: float | None = None) -> str:
    band = "" if pd.isna(low) else f" [{cell_text(low)}, {cell_text(high)}]"
    return cell_text(value) + band + ("" if pd.isna(null) else f", {cell_text(null)}")


def note(said: str) -> Html:
    """What stands where there is nothing to draw."""
    return Html(f'<p class="no-figure">{escape(said)}</p>', said)


def show(chart, table: pd.DataFrame) -> Html:
    """Chart and data table (as `compact` makes it) as one figure; a note in place of a chart as it is.

    The chart is written as Altair's default renderer writes it, whichever renderer is enabled.
    """
    if isinstance(chart, Html):
        return chart
    html = chart.to_html(fullhtml=False, template="universal", output_div=f"altair-viz-{uuid.uuid4().hex}")
    told, alike = compact(table)
    listing = data_table(told, f"Data: {chart.description}" + f" ({alike})" * bool(alike))
    return Html(f'{_STYLE}<figure class="semhub-figure">{html}{listing}</figure>', chart.description)


def _interval(entry: object) -> str:
    """A number, or a mapping's `statistic` or `value` with its interval."""
    if not isinstance(entry, Mapping):
        return cell_text(entry)
    value = cell_text(entry.get("statistic", entry.get("value")))
    if entry.get("low") is None or entry.get("high") is None:
        return value
    return f"{value} (95% interval {cell_text(entry['low'])} to {cell_text(entry['high'])})"


def _p(value: float) -> str:
    return f"p = {cell_text(value)}" if value >= 0.001 else "p < 0.001"


def _symbol(verdict: str) -> str:
    return f'<span aria-hidden="true">{SYMBOLS[verdict]}</span> '


def claim_card(claim: Mapping, paper_claim: str) -> Html:
    """A claim and its evidence on one card: what the paper says, what was found here, and the verdict in a word.

    `claim` is one entry of claims.json. Shown when there: claim (our sentence), verdict, reason, statistic, low, high,
    unit, layer, n_layers, reading, n, dropped (reason to count), p, null (in words), controls (name to number or to
    value, low, high), readings (others' names to verdict, statistic, low, high, layer).
    """
    verdict, finding = claim["verdict"], str(claim.get("claim") or claim["id"])
    statistic = _interval(claim) + (f" {claim['unit']}" if claim.get("unit") else "")
    if claim.get("layer") is not None:
        of = f" of {claim['n_layers']}" if claim.get("n_layers") else ""
        statistic += f", at layer {cell_text(claim['layer'])}{of}"
    null = f" against {claim['null']}" if claim.get("null") else ""
    others = []
    for name, of in (claim.get("readings") or {}).items():
        found = "" if of.get("layer") is None else f", {_interval(of)} at layer {of['layer']}"
        others.append(f"{name}: {of['verdict']}{found}")
    rows = {
        "Statistic": statistic,
        "Reading": claim.get("reading"),
        "Other readings": others or None,
        "Items": claim.get("n"),
        "Dropped": claim.get("dropped", {}),
        "Corrected p": _p(claim["p"]) + null if claim.get("p") is not None else None,
        "Controls": [f"{name}: {_interval(entry)}" for name, entry in claim.get("controls", {}).items()] or "none",
        "Rule": claim.get("reason"),
    }
    listed = ""
    for name, said in rows.items():
        if said not in (None, ""):
            lines = said if isinstance(said, list) else [cell_text(said)]
            listed += f"<div><dt>{name}</dt>" + "".join(f"<dd>{escape(line)}</dd>" for line in lines) + "</div>"
    html = (
        f'{_STYLE}<article class="claim" data-verdict="{verdict}" aria-label="Claim: {verdict}">'
        f'<p class="verdict">{_symbol(verdict)}{verdict.capitalize()}</p>'
        f'<blockquote class="paper-claim"><p class="claim-label">The paper</p><p>{escape(paper_claim)}</p>'
        f'</blockquote><div class="our-finding"><p class="claim-label">Found here</p><p>{escape(finding)}</p>'
        f"<dl>{listed}</dl></div></article>"
    )
    return Html(html, f"{verdict.capitalize()}: {finding} ({statistic})")


def verdict_table(claims: Sequence[Mapping]) -> Html:
    """Every claim of a chapter on one line: what is claimed, the verdict, statistic, corrected p, items."""
    rows, told = [], []
    for claim in claims:
        verdict, sentence = claim["verdict"], str(claim.get("claim") or claim["id"])
        p = _p(claim["p"]) if claim.get("p") is not None else "–"
        statistic = _with_band(*(claim.get(name) for name in ("statistic", "low", "high")))
        cells = "".join(f"<td>{escape(number)}</td>" for number in (statistic, p, cell_text(claim.get("n"))))
        row = f'<th scope="row">{escape(sentence)}</th><td class="verdict">{_symbol(verdict)}{verdict}</td>{cells}'
        rows.append(f'<tr data-verdict="{verdict}">{row}</tr>')
        told.append(f"{verdict.capitalize()}: {sentence}")
    head = _head(("Claim", "Verdict", "Statistic [95% interval]", "Corrected p", "Items"))
    table = f"<table>{head}<tbody>{''.join(rows)}</tbody></table>"
    return Html(_STYLE + _box("verdict-table", "Verdicts of this chapter", table), "\n".join(told))

"""What a chart shows, in a sentence made from its data: the caption, and the end of its alternative text."""

from collections.abc import Sequence

import pandas as pd

from .markup import cell_text

MOST = 4  # series that a sentence names


def told(table: pd.DataFrame, switches: Sequence[str] = (), x: str = "layer") -> str:
    """Of the rows that are shown first (the first value of each of `switches`), without controls: the highest number of
    each series and where on the axis of `x` it is; with more series than MOST, of the highest and the lowest one."""
    shown = []
    for column in switches:
        value = next((v for v in table[column] if pd.notna(v) and v != ""), None)
        if value is not None:
            table = table[(table[column] == value) | (table[column].fillna("") == "")]
            shown.append(str(value))
    if "control" in table:
        table = table[table["control"].fillna("") == ""]
    table = table[table["value"].notna()].reset_index(drop=True)
    if not len(table):
        return ""
    if "series" not in table:
        table = table.assign(series="")
    if not table["value"].abs().max() > 0:
        return "Every value is 0."
    peaks = table.loc[table.groupby("series", sort=False)["value"].idxmax()]
    if len(peaks) > MOST:
        peaks = peaks.sort_values("value", ascending=False, kind="stable").iloc[[0, -1]]
        said = f"From {_peak(peaks.iloc[0], x)} down to {_peak(peaks.iloc[1], x)}"
    else:
        said = ("Highest: " if x in peaks else "") + "; ".join(_peak(row, x) for _, row in peaks.iterrows())
    of = f" ({', '.join(shown)})" if shown else ""
    return f"{said[:1].upper()}{said[1:]}{of}."


def _peak(row: pd.Series, x: str) -> str:
    lead = {"tokens": "after", "layer": "at layer"}.get(x, f"at {x}")
    where = "" if pd.isna(row.get(x)) else f" {lead} {cell_text(row[x])}{' tokens' * (x == 'tokens')}"
    return f"{row['series']} {cell_text(row['value'])}{where}".strip()

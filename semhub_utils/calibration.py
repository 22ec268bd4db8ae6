"""What was measured where the truth is known, as it ships: how often each instrument finds what was planted for it, and
how often it cries wolf. `semhub calibrate` makes the tables.

    data/truth.csv     what must be seen in each organism, and whether it is
    data/power.csv     planted effects by instrument, dose and seed (`experiments.instruments`)
    data/alarms.csv    every instrument on models of which is known what it must or must not find
    data/readings.csv  the same for the five readings of the lens (`experiments.readings`)
    data/islands.csv   what `raising.live` says of small islands along a training of 900 steps, with seed 0
    data/expected.csv  what that is, written before any of the others: "must", "must not" or "open", and why
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pandas as pd

from .errors import need, need_one_of
from .evidence import share
from .verdicts import HOLDS, UNTESTABLE

PARTS = ("truth", "power", "alarms", "readings")
TABLES = (*PARTS, "expected", "islands")
DATA = Path(__file__).parent / "data"
STATED = 1.0  # dose: as long as the state itself; of a taught organism, all of its own weights
ENOUGH = 0.9  # the least share of planted effects that an instrument has to find at that dose
PLANTED_AT_LEAST = 20  # effects
MUST, MUST_NOT, OPEN = "must", "must not", "open"


def table(name: str, folder: Path = DATA) -> pd.DataFrame:
    """One of TABLES, by default of those committed. SemhubError for another name, or where there is none yet."""
    need_one_of(name, TABLES, f"There is no table {name!r}")
    path = folder / f"{name}.csv"
    need(path.is_file(), f"The table {name!r} is not there; `semhub calibrate --part {name}` would make it.")
    return pd.read_csv(path, keep_default_na=False, na_values=[""], dtype={"row": str})


def shares(table: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Per group of `by`, or of them all, the share of claims judged "holds", with Wilson's 95% interval, and how many
    there were; what could not be tested is no claim, and nothing is known of none."""
    tested = table[table.verdict != UNTESTABLE]
    if tested.empty and not by:
        return pd.DataFrame([{"value": float("nan"), "low": 0.0, "high": 1.0, "n": 0}])
    groups = tested.groupby([*by], sort=False) if by else [((), tested)]
    hits = ((key, int((some.verdict == HOLDS).sum()), len(some)) for key, some in groups)
    return pd.DataFrame(dict(zip(by, key, strict=True)) | share(*of) for key, *of in hits)


@cache
def _at_stated() -> pd.DataFrame:
    """Nothing where there is no table, as in the run that makes it."""
    if not (DATA / "power.csv").is_file():
        return pd.DataFrame(columns=["row", "chapter", "experiment", "dose", "seed", "found"])
    power = table("power")
    return power[power.dose == STATED]


def found_of_planted(experiment: str, *, row: int | None = None, chapter: str = "") -> dict[str, int] | None:
    """How many of the effects that were planted for this kind of claim its instrument found: {"k": k, "m": m}; of the
    paper's row, or of the chapter, where it was calibrated by itself there. None for a claim that has no instrument of
    its own."""
    some = _at_stated()
    some = some[some.experiment == experiment]
    for column, value in (("row", str(row)), ("chapter", chapter)):
        if (some[column] == value).any():
            some = some[some[column] == value]
    if some.empty:
        return None
    return {"k": int(some.found.sum()), "m": len(some)}


def not_found(found: dict[str, int] | None) -> str | None:
    """The precondition of a claim whose instrument was calibrated: None, or the sentence that ends it."""
    if found is None:
        return None
    if found["m"] < PLANTED_AT_LEAST:
        return f"{found['m']} effects were planted for this instrument, and {PLANTED_AT_LEAST} are asked."
    if found["k"] >= ENOUGH * found["m"]:
        return None
    return f"this instrument finds {found['k']} of {found['m']} effects planted for it, and {ENOUGH:.0%} is asked."

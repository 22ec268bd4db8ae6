"""What holds of which model: the paper's 21 experiments and the book's own claims against models, from claims alone."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .calibration import MUST, MUST_NOT
from .evidence import Sample, depths
from .identity import PREFIX, called, slug
from .markup import cell_text, proper, table_box
from .onfile import Held, short
from .rows import MADE, NOT_RUN, TRAPS, by_own, by_row, family, family_in_words, own_claims
from .strips import SYMBOLS, address, for_all, in_a_word
from .verdicts import EXPLAINED, HOLDS, INCONCLUSIVE, MIN_UNITS, NOT, UNTESTABLE, WEAKLY

STATIC = Path(__file__).parent / "static"
GROUPS = {
    "Do equal meanings meet?": (1, 5, 12, 14, 19),
    "Is it read as the dominant language?": (2, 3, 6, 7, 9, 10, 13, 15, 16, 17, 20),
    "Is it used?": (4, 8, 11, 18, 21),
}
OWN, TRAPPED, APART = "The book's own claims", "Traps, stepped into on purpose", "Of models that a chapter makes"
ASKS = (*["languages"] * 2, "layers", "steering", *["arithmetic"] * 4, *["code"] * 3, *["semantics"] * 2)
ASKS += (*["vision"] * 5, *["audio"] * 3)  # which chapter asks a row
TEXT_ONLY = "text only"
KINDS = (HOLDS, WEAKLY, EXPLAINED, INCONCLUSIVE, NOT, UNTESTABLE, TEXT_ONLY, NOT_RUN)
MARKS = {**SYMBOLS, TEXT_ONLY: "–", NOT_RUN: "–"}
FAILING = {EXPLAINED: "explained by something simpler", INCONCLUSIVE: "too uncertain to tell", NOT: "not found"}
LEAN = ("layers", "values", "low", "high", "null_high")

Predictions = Mapping[str, Mapping[int, Mapping[str, str]]]
"""Written before a model is run: by model and row, verdict and reason."""


def matrix(held: Sequence[Held]) -> list[dict[str, Any]]:
    """The rows, in groups: {"group", "key", "name", "said": what is claimed, of our own, "cells": one for each model}.

    A cell has its `kind` (of KINDS), `said`: the verdict in words, `number`: of the claim that decides it, with its
    unit, `where` in depth, `types`: the verdict by data type, `stale`, or `how` it could be filled.
    """
    if not held:
        return []
    paper, own = ([of(one.claims) for one in held] for of in (by_row, by_own))
    rows = [(group, str(k), [of[k - 1] for of in paper]) for group, numbers in GROUPS.items() for k in numbers]
    by_name = [{row["experiment"]: row for row in of} for of in own]
    every = dict.fromkeys(row["experiment"] for of in own for row in of)
    for group, some in {OWN: every.keys() - {*TRAPS, *MADE}, TRAPPED: TRAPS, APART: MADE}.items():
        for name in (name for name in every if name in some):
            nothing = {"row": "own", "experiment": name, "verdict": NOT_RUN}
            rows.append((group, name, [of.get(name, nothing) for of in by_name]))
    said = {key: _sentences(some) for one in reversed(held) for key, some in own_claims(one.claims).items()}
    return [
        {"group": group, "key": key, "name": of[0]["experiment"], "said": said.get(key, "")}
        | {"cells": [_cell(one, row) for one, row in zip(held, of, strict=True)]}
        for group, key, of in rows
    ]


def _sentences(claims: Sequence[Mapping[str, Any]]) -> str:
    """What they say, once of all that say the same of different types."""
    said: dict[str, list[str]] = {}
    for claim in claims:
        name = claim["id"].split("/", 2)[-1]
        said.setdefault(re.sub(rf"\b{re.escape(name)}\b", "{name}", claim["claim"], flags=re.I), []).append(name)
    return " ".join(for_all(sentence, names) for sentence, names in said.items())


def _cell(held: Held, row: Mapping[str, Any]) -> dict[str, Any]:
    if row["verdict"] == NOT_RUN:
        chapter = row["experiment"].partition("/")[0] if row["row"] == "own" else ASKS[row["row"] - 1]
        senses = {"vision": "SEES", "audio": "HEARS"}.get(chapter) if held.text_only else None
        model, kind = (f"A_MODEL_THAT_{senses}", TEXT_ONLY) if senses else (held.name, NOT_RUN)
        return {"kind": kind, "said": kind, "how": f"semhub run {chapter} --model {model}"}
    kind = next(k for k in KINDS if row["verdict"].startswith("holds for" if k == HOLDS else k) or row["verdict"] == k)
    claims = [claim for claim in held.claims if claim["id"] in row["claims"] and claim["statistic"] is not None]
    like = [claim for claim in claims if claim["verdict"] == kind] or claims
    shown = max(like, key=lambda claim: claim["statistic"] / (claim["least"] or 1), default=None)
    number = f"{cell_text(shown['statistic'])} {shown['unit']}" if shown else ""
    if len({claim["series"] for claim in claims}) > 1:
        number += f", {proper(shown['series'])}"
    told = {"kind": kind, "said": proper(row["verdict"]), "number": number, "where": place(shown) if shown else ""}
    return told | {"types": row["types"], "stale": any(claim["experiment"] in held.stale for claim in claims)}


def place(claim: Mapping[str, Any]) -> str:
    """Where in depth a claim's number is from: the layers that pass, else the one that is shown."""
    if claim["n_layers"] == 1:  # of what a model says
        return ""
    if claim["where"] or claim["layer"] is None:
        return ", ".join(claim["where"])
    of = depths([claim["layer"]], claim["n_layers"])
    return next((name for name in ("early", "late") if of[name][0]), "middle")


@cache
def _judged() -> pd.DataFrame:
    from .experiments.trials import judged_alarms  # with all that measures

    table = judged_alarms()
    return table[table["expected"].isin([MUST, MUST_NOT]) & (table["verdict"] != UNTESTABLE)]


def right(held: Held) -> tuple[int, int]:
    """On a model of known truth and versions of it, how often the paper's instruments said what they had to, and of how
    many times."""
    name = held.name.removeprefix(PREFIX) if held.name.startswith(PREFIX) else "random weights"
    versions = _judged()["model"].str.partition(",")[0] == name  # it, and what was made of it
    some = _judged()[versions & (_judged()["row"] != "own")]
    return int(((some["verdict"] == HOLDS) == (some["expected"] == MUST)).sum()), len(some)


# As a page


def as_html(
    held: Sequence[Held], predictions: Predictions | None = None, pages: Mapping[str, str] | None = None
) -> str:
    """The matrix, for static/holds.js; as text where scripts do not run. pages: of chapters, beside the folder of
    scripts, which claims lead to."""
    models = []
    for one in held:
        k, m = right(one) if one.known else as_predicted(one, (predictions or {}).get(one.name, {}))
        said = (f"instruments right {k} of {m}" if one.known else f"as predicted {k} of {m}") * bool(m)
        said = ", ".join(filter(None, ["truth known" * one.known, said]))
        models.append({"slug": slug(one.name), "label": one.label, "known": one.known, "said": said})
    told = {"models": models, "rows": matrix(held), "kinds": KINDS, "marks": MARKS, "own": [OWN, TRAPPED, APART]}
    told["pages"] = pages or {}
    data = json.dumps(told, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
    text = "\n".join(line or " " for line in as_text(held).splitlines())  # an empty line would end it in Markdown
    plain = f"<noscript><pre>{escape(text)}</pre></noscript>"
    return f'<div class="holds full-width"><script type="application/json">{data}</script>{plain}</div>'


def counts(rows: Sequence[Mapping[str, Any]], which: int) -> Counter:
    """Of rows of `matrix`, how many have which kind on the model number `which`; "tested" and "yes" count several."""
    found = Counter(row["cells"][which]["kind"] for row in rows)
    tested = {kind: found[kind] for kind in KINDS[: KINDS.index(UNTESTABLE)]}
    return found | Counter(tested=sum(tested.values()), yes=found[HOLDS] + found[WEAKLY])


def small(held: Sequence[Held]) -> str:
    """For the landing page: on each model, of each of the three questions, on how many of its experiments that could be
    tested the answer is yes. A row for each model, as a phone has room for four columns."""
    rows, cells, groups = matrix(held), [], (*GROUPS, OWN)
    for which, one in enumerate(held):
        told = [counts([row for row in rows if row["group"] == group], which) for group in groups]
        cells.append([one.label, *(f"{of['yes']} of {of['tested']}" if of["tested"] else "–" for of in told)])
    return table_box("holds-small", "How many hold, of those tested", ("Model", *groups), cells)


def in_short(held: Sequence[Held]) -> str:
    """The answer to each question in a sentence, on the first model, as a Markdown list; nothing without results."""
    lines, rows = [], matrix(held)
    for group in (*GROUPS, OWN) if rows else ():
        some = [row for row in rows if row["group"] == group]
        of = counts(some, 0)
        yes, tested = of["yes"], of["tested"]
        word = _in_a_word(of)
        named = [row["name"] for row in some if row["cells"][0]["kind"] in (HOLDS, WEAKLY) and group != OWN]
        parts = [f"{yes or 'none'} {'hold' if yes > 1 else 'holds'}" + f" ({'; '.join(named)})" * bool(named)]
        parts += [f"{of[kind]} {said}" for kind, said in FAILING.items() if of[kind]]
        found = f"*{word}.* Of {tested} that could be tested, {', '.join(parts)}"
        lines.append(f"- **{group}** {found if tested else 'None could be tested'}.")
    return "\n".join(lines) + "\n"


def _in_a_word(of: Counter) -> str:
    """The answer of experiments that are counted by `counts`."""
    return in_a_word(of["yes"], of["tested"] - of["yes"] - of[INCONCLUSIVE], of[INCONCLUSIVE], of[UNTESTABLE])


def in_brief(held: Sequence[Held]) -> str:
    """The answer to each of the three questions, as a Markdown list: over the models that people use, and on the first
    one, which is the book's; nothing without results."""
    rows, lines = matrix(held), []
    public = [k for k, one in enumerate(held) if not one.known]
    whose = {"public models": public, f"the book's own *{held[0].label}*": [0]} if held else {}
    for group in GROUPS if rows else ():
        some, said = [row for row in rows if row["group"] == group], []
        for name, columns in whose.items():
            of = sum((counts(some, k) for k in columns), Counter())
            weakly = ", weakly" * (0 < of["yes"] == of[WEAKLY])
            missing = {"could not be made": of[UNTESTABLE], "not made yet": of[NOT_RUN]}
            more = "".join(f"; {n} {said}" for said, n in missing.items() if n)
            found = f"**{_in_a_word(of).lower()}** (yes in {of['yes']} of {of['tested']} tests{weakly}{more})"
            none = "it **could not be tested**" if of[UNTESTABLE] else "it was **not tested**"
            said += [f"{name} {found if of['tested'] else none}"] if columns else []
        lines.append(f"- {group} On {', on '.join(said)}.")
    named = f"The public models: {', '.join(held[k].label for k in public)}. " * bool(public)
    test = "A test is an experiment of the paper on one model; it is a yes where it holds for at least one language, "
    which = "and [the whole table](what_holds.md) says for which."
    return "\n".join([*lines, "", f"{test}{which} {named}[What counts](#the-answer)", ""]) if lines else "\n"


def script(one: Held, predicted: Mapping[int, Mapping[str, str]] | None = None) -> str:
    """A classic script that hands a model's claims to static/holds.js, which asks for it when they are first shown."""
    claims, stale = [], one.stale
    for claim in one.claims:
        curves = {"": claim["evidence"], **claim["evidence"]["controls"]}
        lean = {name: {k: of[k] for k in LEAN if k in of} for name, of in curves.items()}
        told = {k: v for k, v in claim.items() if k not in ("units", "evidence", "margins")}
        told |= {"curves": lean, "place": place(claim), "at": address(claim)}
        claims.append(told | {"stale": claim["experiment"] in stale})
    keys = ("seconds", "finished", "versions", "files", "data", "parameters", "revision")
    runs = {chapter: {k: run.get(k) for k in keys} for chapter, run in one.runs.items()}
    about = {"label": one.label, "name": called(one.name), "claims": claims, "predicted": predicted or {}, "runs": runs}
    data = json.dumps(short(about), ensure_ascii=False, separators=(",", ":"), default=str).replace("</", "<\\/")
    return f"semhubHolds({json.dumps(slug(one.name))},{data});\n"


def as_page(held: Sequence[Held]) -> str:
    """One file that needs no other."""
    style, code = ((STATIC / f"holds.{kind}").read_text("utf-8") for kind in ("css", "js"))
    apart = "".join(f"<li>{escape(line)}</li>" for line in paired(held))
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>What holds?</title>'
        f'<meta name="viewport" content="width=device-width"><style>{style}</style></head><body><main>'
        f"<h1>What holds?</h1>{as_html(held)}{f'<h2>Item by item</h2><ul>{apart}</ul>' * bool(apart)}</main>"
        f"<script>{code}{''.join(map(script, held))}</script></body></html>\n"
    )


# As text


def as_text(held: Sequence[Held]) -> str:
    """The same as lines of text; where models were asked the same items, the differences of their claims; methods."""
    lines, group = [], None
    for row in matrix(held):
        lines += ["", row["group"]] if row["group"] != group else []
        group = row["group"]
        lines.append(f"  {row['key']:>2} {row['name']}" if row["key"].isdigit() else f"  {row['name']}")
        for one, cell in zip(held, row["cells"], strict=True):
            told = ", ".join(filter(None, (cell["said"], cell.get("number"), cell.get("where"))))
            lines.append(f"       {MARKS[cell['kind']]} {one.label}: {told}")
    if apart := paired(held):
        lines += ["", "Item by item, the first minus the other [95% interval]", *(f"  {line}" for line in apart)]
    return "\n".join([*lines[1:], "", *map(methods, held)]) if held else "No results were found."


def paired(held: Sequence[Held]) -> list[str]:
    """A line for each claim of the first model and of each other one that were asked the same: the difference of their
    numbers, unit by unit, with its 95% interval over units."""
    lines, of_first = [], {claim["id"]: claim for one in held[:1] for claim in one.claims}
    for other in held[1:]:
        for claim in other.claims:
            if apart := difference(of_first.get(claim["id"], {}), claim):
                told = "{:.3g} [{:.3g}, {:.3g}] {}, {} units".format(*apart[:3], claim["unit"], apart[3])
                lines.append(f"{held[0].label} − {other.label}, {claim['id']}: {told}")
    return lines


def difference(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[float, float, float, int] | None:
    """Of two claims, the first minus the second over the units that both have with the same number of items, its 95%
    interval and how many these are; None where they are too few or were read in another form or of other items."""
    ours, theirs = a.get("units") or {}, b.get("units") or {}
    both = [unit for unit, (n, _) in ours.items() if unit in theirs and theirs[unit][0] == n]
    if len(both) < MIN_UNITS or any(a.get(k) != b.get(k) for k in ("unit", "reading", "form", "items")):
        return None
    items = [int(ours[unit][0]) for unit in both]
    apart = np.repeat([ours[unit][1] - theirs[unit][1] for unit in both], items)
    bounds = Sample(apart[:, None], np.repeat(np.arange(len(both)), items)).bounds(np.ones(1, bool))
    return bounds.values[0], bounds.low[0], bounds.high[0], len(both)


def methods(one: Held) -> str:
    """A paragraph that a paper can quote, with the run's own figures."""
    runs = [*one.runs.values()]

    def said(what: str) -> str:
        every = (str(run.get(what, run["parameters"].get(what))).split(", ") for run in runs)
        return ", ".join(sorted({*chain(*every)}))

    files = "; ".join(
        sorted({f"{name}, sha256 {of[:12]}…" for run in runs for name, of in run.get("files", {}).items()})
    )
    versions = ", ".join(sorted({f"{name} {number}" for run in runs for name, number in run["versions"].items()}))
    units = np.median([claim["n_units"] for claim in one.claims if claim["verdict"] != UNTESTABLE] or [0])
    return (
        f"We ran {len(runs)} chapter{'s' * (len(runs) > 1)} of The Semantic Hub on {called(one.name)}"
        f"{f' ({files})' * bool(files)} in {said('dtype')} (seed {said('seed')}; items: {said('data')}; {versions}), "
        f"{sum(run['seconds'] for run in runs) / 60:.0f} minutes in all. Intervals (95%) and p are over independent "
        f"units (median {units:.0f} per claim), corrected for the layers looked at; verdicts follow rules fixed before "
        f"the run. {family_in_words(family(one.claims))}"
    )


# Predictions


def read_predictions(path: Path) -> Predictions:
    """From a table of the columns model, row, verdict, reason; none where there is no file."""
    found: dict[str, dict[int, dict[str, str]]] = {}
    for line in pd.read_csv(path).itertuples() if path.is_file() else ():
        found.setdefault(line.model, {})[int(line.row)] = {"verdict": line.verdict, "reason": line.reason}
    return found


def as_predicted(one: Held, predicted: Mapping[int, Mapping[str, str]]) -> tuple[int, int]:
    """On how many rows that were run the answer (yes, no, cannot be tested) is the predicted one, and of how many."""

    def answer(verdict: str) -> str:
        return next((k for k in ("holds", UNTESTABLE) if verdict.startswith(k)), "no")

    rows = [row for row in by_row(one.claims) if row["verdict"] != NOT_RUN and row["row"] in predicted]
    return sum(answer(row["verdict"]) == answer(predicted[row["row"]]["verdict"]) for row in rows), len(rows)

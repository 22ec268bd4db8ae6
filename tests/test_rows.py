"""A verdict for each experiment of the paper, by rules that a page prints; how many of all claims hold by chance."""

import ast
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from launch import ROOT, chapters
from test_results import PARAMETERS, Model, found

from semhub_utils import results
from semhub_utils.evidence import DRAWN_ON, FAMILY, Contrast
from semhub_utils.results import Run, write_rows
from semhub_utils.rows import (
    FAILED,
    MADE,
    NOT_RUN,
    PAPER,
    RULES,
    TRAPS,
    by_row,
    family,
    family_in_words,
    holm,
    of_the_model,
)
from semhub_utils.verdicts import EXPLAINED, HOLDS, INCONCLUSIVE, NOT, UNTESTABLE, WEAKLY


def claim(
    name, verdict=HOLDS, by="", *, row=5, paper="So.", window=(2,), p=0.001, contrasts=(), least=0.0001, **more
) -> dict:
    """One entry of claims.json; its p is that of layer 2 of 4."""
    curve = {"window": [*window], "n_layers": 4, "layers": [0, 2, 4], "p": [None, p, p], "values": [0.0, 1.0, 0.5]}
    curve |= {"contrasts": {name: {"p": of} for name, of in enumerate(contrasts)}, "least_p": least}
    about = {"experiment": name, "series": "", "reading": "normed", "n": 40, "evidence": curve}
    return {"id": f"chapter/{name}", "verdict": verdict, "by": by, "row": row, "paper": paper, **about, **more}


@pytest.mark.parametrize(
    "claims, verdict",
    [
        ([], NOT_RUN),
        ([claim("a/x", paper=None), claim("a/y", row="own", paper=None)], NOT_RUN),
        ([claim("a/x"), claim("a/y")], HOLDS),
        ([claim("a/x", WEAKLY), claim("b/x"), claim("a/y", WEAKLY)], WEAKLY),
        ([claim("a/x"), claim("a/y", NOT)], "holds for x"),
        ([claim("a/x"), claim("a/y", UNTESTABLE), claim("a/z")], "holds for x, z"),
        ([claim("a/x"), claim("a/y", WEAKLY)], "holds for x; holds weakly for y"),
        ([claim("a/x", INCONCLUSIVE), claim("a/y", WEAKLY)], "holds weakly for y"),
        ([claim("a/x"), claim("b/x", NOT)], NOT),
        ([claim("a/x"), claim("b/x", UNTESTABLE)], UNTESTABLE),
        ([claim("a/x", UNTESTABLE), claim("b/x", INCONCLUSIVE)], INCONCLUSIVE),
        ([claim("a/x", NOT), claim("a/y", UNTESTABLE), claim("a/z", UNTESTABLE)], NOT),
        ([claim("a/x", EXPLAINED, "c"), claim("a/y", INCONCLUSIVE), claim("a/z", INCONCLUSIVE)], INCONCLUSIVE),
        ([claim("a/x", INCONCLUSIVE), claim("a/y", EXPLAINED, "c"), claim("a/z", NOT)], NOT),
        ([claim("a/x", EXPLAINED, "c"), claim("a/y", EXPLAINED, "d"), claim("a/z", EXPLAINED, "d")], "explained by d"),
        ([claim("a/x", NOT), claim("b/x", window=(4,))], NOT),
        ([claim("a/x"), claim("b/x", NOT, window=(4,))], HOLDS),
        ([claim("b/x", window=(4,)), claim("b/y", window=(4,))], UNTESTABLE),
        ([claim("a/x, both", window=(2, 4)), claim("a/x", NOT)], "holds for x and both"),
    ],
)
def test_each_rule(claims, verdict):
    rows = by_row(claims)
    assert [row["row"] for row in rows] == [*range(1, 22)] and [row["experiment"] for row in rows] == [*PAPER]
    assert rows[4]["verdict"] == verdict
    assert {row["verdict"] for k, row in enumerate(rows) if k != 4} == {NOT_RUN}
    assert all(of["evidence"]["window"] != [4] for of in claims if of["id"] in rows[4]["claims"])


def test_a_row_keeps_the_verdict_on_each_type_and_the_claims_that_count():
    claims = [claim("a/x", EXPLAINED, "last layer"), claim("b/x"), claim("a/y"), claim("end/y", NOT, window=(4,))]
    row = by_row(claims)[4]
    assert row["types"] == {"x": "explained by last layer", "y": HOLDS} and row["verdict"] == "holds for y"
    assert row["claims"] == ["chapter/a/x", "chapter/b/x", "chapter/a/y"]


def test_the_page_says_what_the_code_does():
    page = (ROOT / "book/verdicts.md").read_text("utf-8").partition("\n## A verdict on each experiment of the paper")[2]
    printed = re.findall(r"^(.+)\n: (.+)$", page.partition("\n## ")[0], re.M)
    assert dict(printed) == {word: rule[0].upper() + rule[1:] for word, rule in RULES.items()}
    assert [word for word, _ in printed] == [*RULES] and ", ".join(FAILED) in RULES


def holm_by_hand(p, level):
    """One hypothesis after the other, from the smallest p on."""
    left, rejected = dict(enumerate(p)), set()
    while left:
        smallest = min(left, key=left.__getitem__)
        if left.pop(smallest) * (len(left) + 1) > level:
            break
        rejected.add(smallest)
    return [k in rejected for k in range(len(p))]


@pytest.mark.parametrize("seed", range(20))
def test_holm_is_what_a_plain_loop_gives(seed):
    rng = np.random.default_rng(seed)
    p = np.round(np.concatenate([rng.uniform(size=rng.integers(0, 12)), rng.uniform(0, 0.02, rng.integers(0, 9))]), 3)
    for level in (0.01, 0.05, 0.2):
        assert holm(rng.permutation(p), level).sum() == sum(holm_by_hand(p, level))
        assert holm(p, level).tolist() == holm_by_hand(p, level)


def test_a_family_of_noise_has_a_finding_as_rarely_as_it_says():
    rng = np.random.default_rng(0)
    false = np.mean([holm(rng.uniform(size=100)).any() for _ in range(2000)])
    planted = [holm(np.concatenate([rng.uniform(size=90), np.full(10, 1e-4)]))[-10:].all() for _ in range(200)]
    assert false <= 0.065 and all(planted)
    claims = [claim(f"a/{k}", HOLDS if p < 0.01 else NOT, p=p) for k, p in enumerate(rng.uniform(size=200))]
    told = family(claims)
    assert (told["expected_by_chance"], told["remain"]) == (2.0, 0) and told["holds"] > 0


def test_the_family_counts_what_can_be_tested_by_the_larger_p():
    claims = [claim("a/x", p=0.0001), claim("a/y", p=0.0001, contrasts=(0.0001, 0.03)), claim("a/z", NOT, p=0.0001)]
    claims += [claim("b/x", UNTESTABLE, p=None), claim("b/y", p=0.9, window=())]
    told = family(claims)
    assert told["claims"] == 5 and told["tested"] == 4 and told["holds"] == 3 and told["remain"] == 1
    said = family_in_words(told)
    assert "Of 5 claims about the model 4 can be tested, and 3 of these hold." in said and "1 of the 3 remain" in said
    assert "could not" not in said
    stuck = family([*[claim("a/x", p=0.001, least=0.001)] * 60, claim("a/y", p=0.002, least=0.001)])
    assert (stuck["remain"], stuck["at_least_p"]) == (0, 60)
    assert "Of the others 60 could not, as their nulls give no smaller p." in family_in_words(stuck)
    assert 1 / (1 + DRAWN_ON) < 0.05 / (2 * FAMILY), (
        "the draws reach as low as Holm's correction asks of so many claims"
    )
    assert family([])["tested"] == 0


def test_a_trap_the_last_layer_alone_and_what_a_chapter_makes_are_no_findings_about_the_model():
    about = [claim("a/x"), claim("a/y", NOT)]
    beside = [claim(f"{name}/x", id=f"{name}/x") for name in (*TRAPS, *MADE)] + [
        claim("a/end", window=(4,), n_layers=4)
    ]
    assert of_the_model([*about, *beside]) == about and family([*about, *beside]) == family(about)


# ---- in the folder of results ----


def finish(tmp_path, chapter, *claims, **more):
    run = Run(chapter, Model(**more), PARAMETERS, tmp_path)
    run.run("similarity", [], lambda: pd.DataFrame({"value": [1.0]}))
    for evidence, about in claims:
        run.claim(evidence, **about)
    run.finish()
    return json.loads((run.folder / "rows.json").read_text("utf-8"))


def test_rows_are_there_after_every_chapter_and_know_all_of_them(tmp_path):
    digits, words = (replace(found(), claim=f"similarity/{name}", series=name) for name in ("digits", "words"))
    flat = replace(digits, contrasts={"last layer": Contrast("last layer", -1.0, -1.1, -0.9, 1.0)})
    paper = {"row": 5, "paper": "So."}
    one = finish(tmp_path, "arithmetic", (digits, paper), (replace(flat, claim="similarity/words"), paper))
    assert one["rows"][4]["verdict"] == "holds for digits" and one["chapters"] == ["arithmetic"]
    assert one["rows"][4]["types"]["words"] == "explained by last layer"
    assert (one["schema"], one["model"], one["revision"]) == (results.SCHEMA, "organism:hub", None)
    both = finish(tmp_path, "audio", (words, {"row": 19, "paper": "So."}), (digits, {}))
    assert both["rows"][4] == one["rows"][4] and both["rows"][18]["verdict"] == HOLDS
    assert both["chapters"] == ["arithmetic", "audio"] and both["family"]["claims"] == 4
    assert {row["verdict"] for row in both["rows"]} == {NOT_RUN, "holds for digits", HOLDS}
    again = finish(tmp_path, "arithmetic", (words, paper))
    assert again["rows"][4]["verdict"] == HOLDS and again["family"]["claims"] == 3
    assert finish(tmp_path, "audio", model_id="another/model")["rows"][4]["verdict"] == NOT_RUN


def test_claims_of_another_schema_are_left_out(tmp_path, monkeypatch):
    with monkeypatch.context() as old:
        old.setattr(results, "SCHEMA", 2)
        finish(tmp_path, "arithmetic", (found(), {"row": 5, "paper": "So."}))
    rows = finish(tmp_path, "audio")
    assert rows["chapters"] == ["audio"] and rows["rows"][4]["verdict"] == NOT_RUN


def test_claims_that_come_meanwhile_are_seen(tmp_path, monkeypatch):
    """As of a chapter that another process finishes while the rows of this one are being written."""
    finish(tmp_path, "arithmetic", (found(), {"row": 5, "paper": "So."}))
    [folder] = tmp_path.iterdir()
    text, write, late = (folder / "arithmetic.claims.json").read_text(), results.atomically, []

    def beside(path, how):
        if not late:
            late.append(folder / "late.claims.json")
            late[0].write_text(text.replace('"chapter": "arithmetic"', '"chapter": "late"'))
        return write(path, how)

    monkeypatch.setattr(results, "atomically", beside)
    assert json.loads(write_rows(folder).read_text())["chapters"] == ["arithmetic", "late"]


# ---- in the chapters ----


def asked(path: Path) -> list[dict[str, str]]:
    """The arguments of every call of `claims` in a chapter, as they are written."""
    calls = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
    calls = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "claims"]
    return [{of.arg: ast.unparse(of.value) for of in call.keywords} for call in calls]


def test_a_claim_with_a_sentence_of_the_paper_has_its_row_and_no_row_is_missing():
    of = {path.stem: asked(path.with_suffix(".py")) for path in chapters()}
    assert [stem for stem, calls in of.items() for one in calls if ("row" in one) != ("paper" in one)] == []
    rows = {stem: sorted({int(one["row"]) for one in calls if "row" in one}) for stem, calls in of.items()}
    wanted = {"03": [5, 6, 7, 8], "06": [1, 2], "07": [3], "08": [4], "09": [9, 10, 11], "10": [12, 13]}
    wanted |= {"11": [14, 15, 16, 17, 18], "12": [19, 20, 21]}
    assert {stem[:2]: numbers for stem, numbers in rows.items() if numbers} == wanted

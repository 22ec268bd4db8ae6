"""Verdicts: each rule alone, the page that prints them, and what they come to on noise and on planted effects."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_evidence import flat

from semhub_utils.evidence import Bounds, Contrast, ControlCurve, Evidence, Unit, evidence
from semhub_utils.verdicts import EXPLAINED, HOLDS, INCONCLUSIVE, NOT, RULES, UNTESTABLE, WEAKLY, judge

PAGE = Path(__file__).resolve().parents[1] / "book" / "verdicts.md"
L = 6


def made(value=1.0, width=0.2, p=0.001, at=3, controls=(), contrasts=(), **more) -> Evidence:
    """A claim of some number at one layer, and of 0 at the others. controls, contrasts: name, how far below, width."""
    values = [value if layer == at else 0.0 for layer in range(L + 1)]
    margins = {n: Bounds((by,) * (L + 1), (by - w,) * (L + 1), (by + w,) * (L + 1)) for n, by, w in controls}
    of = {n: ControlCurve((value - m.values[0],) * (L + 1), (0.0,), (0.0,), n, 60, m) for n, m in margins.items()}
    shapes = {name: Contrast(name, by, by - w, by + w, p) for name, by, w in contrasts}
    given = {"claim": "c", "experiment": "", "series": "", "reading": "", "layers": tuple(range(L + 1)), "n_layers": L}
    given |= {"window": (2, 3, 4), "p": tuple(p if layer == at else 0.9 for layer in range(L + 1))}
    given |= {"values": tuple(values), "null_high": (0.1,) * (L + 1), "n": 60, "n_units": 60, "varies": True}
    given |= {"low": tuple(v - width for v in values), "high": tuple(v + width for v in values)}
    given |= {"least": 0.3, "why_least": "a third"}
    return replace(Evidence(**given, controls=of, contrasts=shapes), **more)


FAR, NEAR, ABOVE = ("far", 0.8, 0.1), ("near", 0.1, 0.2), ("above", -0.5, 0.1)
VAGUE = ("vague", 0.4, 0.5)


@pytest.mark.parametrize(
    "given, verdict, by",
    [
        ({}, HOLDS, ""),
        ({"controls": [FAR]}, HOLDS, ""),
        ({"p": 0.03}, WEAKLY, ""),
        ({"p": 0.03, "controls": [FAR]}, WEAKLY, ""),
        ({"controls": [FAR, NEAR]}, EXPLAINED, "near"),
        ({"controls": [NEAR, ABOVE]}, EXPLAINED, "above"),
        ({"p": 0.03, "controls": [ABOVE]}, EXPLAINED, "above"),
        ({"controls": [VAGUE]}, INCONCLUSIVE, "vague"),
        ({"contrasts": [("first layers", 0.5, 0.1), ("last layer", 0.5, 0.1)]}, HOLDS, ""),
        ({"contrasts": [("first layers", 0.5, 0.1), ("last layer", -0.2, 0.1)]}, EXPLAINED, "last layer"),
        ({"contrasts": [("first layers", 0.1, 0.2), ("last layer", 0.5, 0.1)]}, EXPLAINED, "first layers"),
        ({"p": 0.2}, INCONCLUSIVE, ""),
        ({"p": 0.2, "value": 0.1, "width": 0.3}, INCONCLUSIVE, ""),
        ({"p": 0.2, "value": 0.1, "width": 0.15}, NOT, ""),
        ({"p": 0.001, "value": -1.0}, NOT, ""),
        ({"n_units": 19}, UNTESTABLE, ""),
        ({"window": ()}, UNTESTABLE, ""),
        ({"varies": False}, UNTESTABLE, ""),
        ({"least_p": 0.01}, UNTESTABLE, ""),
    ],
)
def test_each_rule(given, verdict, by):
    found = judge(made(**given))
    assert (found.verdict, found.by) == (verdict, by)
    assert not found.reason[0].islower() and found.reason.endswith(".")
    assert (found.passes == (3,)) == (verdict in (HOLDS, WEAKLY)) == (found.where == ("middle",))


def test_what_holds_weakly_says_which_p_is_in_the_way():
    shaped = made(contrasts=[("first layers", 0.5, 0.1), ("last layer", 0.5, 0.1)])
    late = replace(shaped, contrasts=shaped.contrasts | {"last layer": Contrast("last layer", 0.5, 0.4, 0.6, 0.02)})
    assert judge(late).verdict == WEAKLY and "and p against last layer (0.02) is not below 0.01" in judge(late).reason
    assert "and p is not below 0.01" in judge(made(p=0.03)).reason


def test_a_precondition_comes_first():
    found = judge(made(), precondition="the model cannot add.")
    assert (found.verdict, found.reason, found.layer) == (UNTESTABLE, "The model cannot add.", None)


def test_the_page_says_what_the_code_does():
    page = PAGE.read_text("utf-8")
    printed = re.findall(r"^(.+)\n: (.+)$", page.partition("\n## What the words")[0], re.M)
    assert dict(printed) == {verdict: rule[0].upper() + rule[1:] for verdict, rule in RULES.items()}
    assert [verdict for verdict, _ in printed] == [*RULES]


def verdicts(worlds, effect=0.0, n=60, skew=False, **more):
    """How often each verdict, over worlds of 9 layers with an effect at the middle three."""
    found = Counter()
    for seed in range(worlds):
        rng = np.random.default_rng(seed)
        scores = rng.normal(size=(n, 1)) * 0.9 + rng.normal(size=(n, 9)) * 0.4
        scores = 1 - np.exp(scores) * np.exp(-0.485) if skew else scores
        scores[:, 3:6] += effect
        random = rng.normal(size=(5, n, 9))
        given = {"controls": {"random weights": random, "last layer": scores[:, -1:]}, "shape": True}
        given |= {"unit": Unit("x", 0.1, "a tenth"), "sequential": False}
        e = evidence("c", scores, flat(scores), layers=range(9), n_layers=8, seed=seed, **(given | more))
        found[judge(e).verdict] += 1 / worlds
    return found


def test_a_planted_middle_is_found_and_noise_is_not():
    assert verdicts(20, effect=0.8)[HOLDS] > 0.9
    noise = verdicts(150, controls={}, shape=False)
    assert noise[HOLDS] <= 0.04 and noise[HOLDS] + noise[WEAKLY] <= 0.10


@pytest.mark.parametrize("n", [20, 60])
def test_left_skew_is_no_finding(n):
    """Flipped signs call a third of these a finding at n = 20."""
    noise = verdicts(150, n=n, skew=True, controls={}, shape=False)
    assert noise[HOLDS] + noise[WEAKLY] <= 0.15


@pytest.mark.parametrize("share", [0.7, 0.85, 0.95])
def test_a_share_of_few_units_is_found(share):
    """Draws of successes alone, which have no error of their own, are common there."""
    found = Counter()
    for seed in range(40):
        scores = (np.random.default_rng(seed).random((24, 1)) < share) * 1.0
        found[judge(evidence("c", scores, flat(scores), layers=[1], n_layers=2, outcome=True)).verdict] += 1
    assert found[HOLDS] >= 38, found


def test_what_is_everywhere_is_explained_by_the_last_layer():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(60, 9)) + 2
    given = {"layers": range(9), "n_layers": 8, "unit": Unit("x", 0.2, "a fifth")}
    found = judge(evidence("c", scores, flat(scores), **given, controls={"last layer": scores[:, -1:]}))
    assert (found.verdict, found.by) == (EXPLAINED, "last layer")
    assert judge(evidence("c", scores, flat(scores), **given)).verdict == HOLDS

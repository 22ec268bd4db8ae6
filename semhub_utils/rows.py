"""What the claims of a model come to: a verdict on each of the paper's 21 experiments, and how many of all claims would
"hold" by chance. Claims are entries of claims.json.

`RULES` are what `by_row` does, in order; book/verdicts.md prints them, and a test holds the two together.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from .evidence import WEAK_ALPHA
from .verdicts import ALPHA, EXPLAINED, HOLDS, INCONCLUSIVE, NOT, UNTESTABLE, WEAKLY, in_words

PAPER = (
    *("languages: similarity", "languages: lens, word by word", "languages: the language of the layers"),
    *("languages: steering of sentiment", "arithmetic: similarity", "arithmetic: lens", "arithmetic: trajectories"),
    *("arithmetic: intervention", "code: “and” at commas", "code: roles of arguments", "code: range"),
    *("semantics: similarity", "semantics: roles", "vision: similarity", "vision: colours", "vision: nouns"),
    *("vision: segments", "vision: intervention", "audio: similarity", "audio: words of labels"),
    "audio: intervention",
)
"""The experiments of arXiv 2411.04986 in the order of its sections; a claim's `row` counts them from 1."""
TRAPS = ("fooled/raw", "instruments/shared-punctuation", "languages/shared-punctuation")
"""Claims of the book's own, by <chapter>/<claim>, that show how one is fooled: where they hold, nothing was found."""
MADE = ("fooled/told-apart", "raising/live")
"""Claims of what a chapter makes itself, whatever model it is run on."""
NOT_RUN = "not run"
WEAKEST_FIRST = (NOT, EXPLAINED, INCONCLUSIVE, UNTESTABLE, WEAKLY, HOLDS)
FAILED = (NOT, EXPLAINED, INCONCLUSIVE)
RULES = {
    NOT_RUN: "no finished chapter has a claim with its number and a sentence of the paper.",
    HOLDS: "it holds for every data type. What counts for a type is the weakest of its claims, from "
    f"{', '.join(WEAKEST_FIRST[:-1])} up to {HOLDS}. A claim about the last layer alone, where every language model "
    "says the next token, does not count; if there is no other, the type cannot be tested here.",
    WEAKLY: "it holds weakly for every type.",
    "holds for": "it holds, or holds weakly, for some types, which are named.",
    f"{NOT}, {EXPLAINED}, {INCONCLUSIVE}": "it holds for no type; the commonest word of those that could be tested "
    "counts, and of equally common ones the first of these three.",
    UNTESTABLE: "no type could be tested.",
}

Claims = Sequence[Mapping[str, Any]]


def by_row(claims: Claims) -> list[dict[str, Any]]:
    """For each experiment of the paper {"row", "experiment", "verdict", "types", "claims"}, in words, by RULES: the
    verdict, that on each data type, and the ids of the claims that count."""
    return [_row(k, of, [c for c in claims if c["row"] == k and c["paper"]]) for k, of in enumerate(PAPER, 1)]


def by_own(claims: Claims) -> list[dict[str, Any]]:
    """The same for what the book claims itself: a row for each of `own_claims`."""
    return [_row("own", name, some) for name, some in own_claims(claims).items()]


def own_claims(claims: Claims) -> dict[str, list[Mapping[str, Any]]]:
    """Those of the book's own by <chapter>/<claim>, over data types."""
    own: dict[str, list[Mapping[str, Any]]] = {}
    for claim in claims:
        if claim["row"] == "own":
            own.setdefault(_family(claim), []).append(claim)
    return own


def _family(claim: Mapping[str, Any]) -> str:
    return "/".join(claim["id"].split("/", 2)[:2])


def of_a_trap(claim: Mapping[str, Any]) -> bool:
    """Whether a claim is one of TRAPS."""
    return _family(claim) in TRAPS


def of_the_model(claims: Claims) -> list[Mapping[str, Any]]:
    """Those that say something of the model: none of TRAPS or MADE, none about the last layer alone."""
    return [claim for claim in claims if _family(claim) not in (*TRAPS, *MADE) and not _at_the_end(claim)]


def _row(row: int | str, named: str, claims: Claims) -> dict[str, Any]:
    each: dict[str, list[Mapping[str, Any]]] = {}
    for claim in claims:
        _, _, *name = claim["id"].split("/", 2)  # <chapter>/<claim>/<data type>
        each.setdefault("".join(name).replace(", ", " and "), []).append(claim)
    counting = {name: [claim for claim in some if not _at_the_end(claim)] for name, some in each.items()}
    weakest = {name: _weakest(some) for name, some in counting.items()}
    return {
        "row": row,
        "experiment": named,
        "verdict": _together(weakest) if claims else NOT_RUN,
        "types": {name: in_words(*of) for name, of in weakest.items()},
        "claims": [claim["id"] for some in counting.values() for claim in some],
    }


def _at_the_end(claim: Mapping[str, Any]) -> bool:
    return claim["evidence"]["window"] == [claim["evidence"]["n_layers"]]


def _weakest(claims: Claims) -> tuple[str, str]:
    """The verdict that counts, and what explains it."""
    found = [(claim["verdict"], claim["by"]) for claim in claims]
    return min(found, key=lambda of: WEAKEST_FIRST.index(of[0]), default=(UNTESTABLE, ""))


def _together(types: Mapping[str, tuple[str, str]]) -> str:
    verdicts = [verdict for verdict, _ in types.values()]
    for word in (HOLDS, WEAKLY):
        if {*verdicts} == {word}:
            return word
    named = {word: ", ".join(name for name, of in types.items() if of[0] == word) for word in (HOLDS, WEAKLY)}
    said = [f"{word} for {named[of]}" for word, of in (("holds", HOLDS), ("holds weakly", WEAKLY)) if named[of]]
    if said:
        return "; ".join(said)
    failed = max(FAILED, key=verdicts.count)
    if failed not in verdicts:
        return UNTESTABLE
    [(by, _)] = Counter(by for verdict, by in types.values() if verdict == failed).most_common(1)
    return in_words(failed, by)


def family(claims: Claims) -> dict[str, Any]:
    """How many of the claims that are `of_the_model` and can be tested hold, how many would at most if there were
    nothing to find, and how many of those that hold remain after Holm's correction (1979) over all that can be tested;
    `at_least_p`: do not, but their nulls, as they were drawn, can give no smaller p."""
    claims = of_the_model(claims)
    tested = [claim for claim in claims if claim["verdict"] != UNTESTABLE]
    holds = np.array([claim["verdict"] == HOLDS for claim in tested], bool)
    p = np.array([_p(claim) for claim in tested], float)
    least, remain = np.array([claim["evidence"]["least_p"] for claim in tested], float), holm(p)
    return {
        "claims": len(claims),
        "tested": len(tested),
        "holds": int(holds.sum()),
        "expected_by_chance": round(len(tested) * ALPHA, 4),
        "level": WEAK_ALPHA,
        "remain": int((holds & remain).sum()),
        "at_least_p": int((holds & ~remain & (p <= least + 1e-12)).sum()),
    }


def _p(claim: Mapping[str, Any]) -> float:
    """Of the whole claim: the smallest in its window, or the larger one of its contrasts."""
    e = claim["evidence"]
    inside = [p for layer, p in zip(e["layers"], e["p"], strict=True) if layer in e["window"] and p is not None]
    return max(min(inside, default=1.0), *(of["p"] for of in e["contrasts"].values()), 0.0)


def holm(p: Float[np.ndarray, " claim"], level: float = WEAK_ALPHA) -> Bool[np.ndarray, " claim"]:
    """Which null hypotheses are rejected, so that any true one is with at most this probability."""
    order = np.argsort(p)
    passes = np.logical_and.accumulate(p[order] <= level / np.arange(len(p), 0, -1))
    return passes[np.argsort(order)]


def family_in_words(of: Mapping[str, Any]) -> str:
    """What `family` found, as a reader is told it."""
    said = (
        f"Of {of['claims']} claims about the model {of['tested']} can be tested, and {of['holds']} of these hold. Were "
        f"there nothing to find, at most about {of['expected_by_chance']:.2g} would be called so. After Holm's "
        f"correction for all {of['tested']} (level {of['level']:g}) {of['remain']} of the {of['holds']} remain."
    )
    few = f" Of the others {of['at_least_p']} could not, as their nulls give no smaller p."
    return said + few * bool(of["at_least_p"])

"""At the commas of a list, does a middle layer hold the "and" that English would say?"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float

from semhub_utils.evidence import evidence, sign_flip_null, tidy
from semhub_utils.experiments.code import sites
from semhub_utils.experiments.core import DRAWS, Result, curve
from semhub_utils.lens import lens, word_logprobs
from semhub_utils.models import LanguageModel, randomised
from semhub_utils.shuffles import codes, least_sign_flip_p
from semhub_utils.spokes.code import FREQUENT, KEYWORDS, Place
from semhub_utils.spokes.facts import english_words
from semhub_utils.states import hidden_states
from semhub_utils.tokens import target_table


def and_experiment(
    model: LanguageModel,
    places: Sequence[Place],
    *,
    reading: str = "normed",
    seed: int = 0,
    random_weights: bool = True,
    dropped: Mapping[str, int] | None = None,
) -> Result:
    """Does the lens read "and" at the commas of lists, as English joins its lists?

    `and-lead/lists`: log P(and) minus the largest of: log P of Python's other keywords, as "and" is one itself, and the
    log of the mean probability of frequent English words; at list commas. `and-place/lists`: log P(and) at list commas
    minus that at commas between arguments, so that a model which puts "and" after any comma cannot win; English may say
    "and" between arguments too, so that this is the harder one. Each has two nulls: signs flipped per program, or kinds
    shuffled among programs; and the same number for every other English word, as all lists have their form in common,
    so that any one word may be likely there by accident. `and-end/lists`: at the last layer, log P of the token that is
    written next minus log P(and). Table: `and-probability`, where "and" has the null of kinds shuffled. All have random
    weights beside them.
    """
    found, lost = sites(model, places)
    dropped, n_layers = {**(dropped or {}), **lost}, model.n_layers
    words = tuple(dict.fromkeys(("and", *KEYWORDS, *FREQUENT, *english_words())))
    table = target_table(model, words, min((s.prompt for s in found), key=len, default="[1,"))
    single = table.single
    if "and" not in single or not single & {*KEYWORDS, *FREQUENT}:
        dropped["no token of its own for the words"], found = len(found), []
    clusters, at_list = [s.place.program for s in found], np.array([s.place.kind == "list" for s in found], bool)
    lists, others = ([c for c, yes in zip(clusters, at_list, strict=True) if yes == kind] for kind in (True, False))
    nothing = np.empty((0, n_layers + 1))

    def read(reader: LanguageModel) -> dict[str, Float[np.ndarray, "site layer"]]:
        """Log-probability by word."""
        if not found:
            return dict.fromkeys(("and", "or", "not", *FREQUENT[:1], "next token"), nothing)
        own = torch.tensor([[site.next_id] for site in found])
        targets = torch.cat([table.ids.expand(len(found), -1), own], dim=1)
        hidden = hidden_states(reader, [site.prompt for site in found]).hidden
        logprob = lens(reader, hidden, targets=targets, reading=reading).logprob.double()
        of = zip(table.words, word_logprobs(logprob[..., :-1], table.groups).unbind(-1), strict=True)
        return {w: v.numpy() for w, v in of if w in single} | {"next token": logprob[..., -1].numpy()}

    def measure(of: dict[str, np.ndarray]) -> dict[str, tuple]:
        """By claim: scores, nulls, least p, clusters."""
        rivals = [of[word] for word in KEYWORDS if word in of]
        rivals = np.max(rivals + ([frequent] if (frequent := _mean(of, FREQUENT)) is not None else []), axis=0)
        lead, end = (of["and"] - rivals)[at_list], (of["next token"] - of["and"])[at_list, -1:]
        apart, shuffled, least = _between(of["and"], at_list, clusters, seed)
        rest = [w for w in of if w not in ("and", "next token", *KEYWORDS, *FREQUENT)]
        leads, aparts = nothing, nothing
        if lists:
            leads = np.stack([nothing.sum(0), *((of[w] - rivals)[at_list].mean(0) for w in rest)])[1:]
        if len(apart):
            every = [of[w] for w in of if w not in ("and", "next token")]
            aparts = np.stack([v[at_list].mean(0) - v[~at_list].mean(0) for v in every])
        flip = least_sign_flip_p(lists)
        return {
            "and-lead": (lead, [_flipped(lead, lists, seed), leads], flip, lists),
            "and-place": (apart, [shuffled, aparts], least, clusters),
            "and-end": (end, _flipped(end, lists, seed), flip, lists),
        }

    of = read(model)
    made = measure(of)
    blank = read(randomised(model, seed)) if random_weights and found else {}
    noise = measure(blank) if blank else {}
    controls: dict[str, dict] = {name: {} for name in made}
    for name, (scores, *_) in noise.items():
        controls[name]["random weights"] = scores
    controls["and-lead"]["embedding layer"] = made["and-lead"][0][:, :1]  # a comma's own embedding reads no layer
    claims = [
        evidence(
            f"{name}/lists", scores, null, least_p=least, experiment=name, series="lists", reading=reading,
            layers=[n_layers] if name == "and-end" else range(n_layers + 1), n_layers=n_layers,
            clusters=by if len(scores) else None, controls=controls[name], dropped=dropped, seed=seed,
        )
        for name, (scores, null, least, by) in made.items()
    ]  # fmt: skip
    common = {"experiment": "and-probability", "reading": reading, "dropped": sum(dropped.values()), "seed": seed}
    curves, between = [], "and, between arguments"

    def shown(of: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Probabilities by series."""
        named = {name: of[name] for name in ("and", "or", "not", "next token") if name in of}
        named |= {"other keywords": _mean(of, KEYWORDS[2:]), "frequent words": _mean(of, FREQUENT)}
        found = {name: np.exp(value[at_list]) for name, value in named.items() if value is not None}
        return found | {between: np.exp(of["and"][~at_list])}

    noise = shown(blank) if blank else {}
    for name, values in shown(of).items():
        beside = {"controls": {"random weights": noise[name]}} if noise else {}
        if name in ("and", between):
            beside["null"] = _kinds(np.exp(of["and"]), at_list if name == "and" else ~at_list, clusters, seed)[0]
        by = others if name == between else lists
        curves.append(curve(model, values, series=name, clusters=by, **beside, **common))
    return pd.concat([tidy(claims), *curves], ignore_index=True), claims


def _mean(of: dict[str, np.ndarray], words: Sequence[str]) -> Float[np.ndarray, "site layer"] | None:
    """The log of the words' mean probability; None without any of them."""
    some = [np.exp(of[word]) for word in words if word in of]
    return np.log(np.mean(some, axis=0)) if some else None


def _flipped(scores: Float[np.ndarray, "site layer"], clusters: Sequence[str], seed: int) -> np.ndarray:
    return sign_flip_null(scores, clusters=clusters, draws=DRAWS, seed=seed) if len(scores) else scores


def _kinds(
    scores: Float[np.ndarray, "site layer"], first: Bool[np.ndarray, "site"], clusters: Sequence[str], seed: int
) -> tuple[Float[np.ndarray, "draw layer"], Float[np.ndarray, "draw layer"], float]:
    """Means over `first` and over the others with the kinds shuffled, and the least p of that: what is of one program
    and one kind moves together. No draw if there is one kind only."""
    if not first.any() or first.all():
        return scores[:0], scores[:0], 0.0
    cells = codes(list(zip(clusters, first.tolist(), strict=True)))
    kind, size = np.zeros(cells.max() + 1, bool), np.bincount(cells)
    total = np.zeros((len(kind), scores.shape[1]))
    kind[cells] = first
    np.add.at(total, cells, scores)
    rng = np.random.default_rng(seed)
    drawn = np.stack([rng.permutation(kind) for _ in range(DRAWS)]).astype(float)
    means = ((some @ total) / (some @ size)[:, None] for some in (drawn, 1 - drawn))
    return *means, 1 / math.comb(len(kind), int(kind.sum()))


def _between(
    scores: Float[np.ndarray, "site layer"], first: Bool[np.ndarray, "site"], clusters: Sequence[str], seed: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Scores whose mean is the mean over `first` minus that over the others, its null, and the least p of that, as
    `_kinds` shuffles. Empty if there is one kind only."""
    one, other, least = _kinds(scores, first, clusters, seed)
    if not len(one):
        return scores[:0], scores[:0], 0.0
    # linearised, so that the interval is that of the difference and not of how many there are of each kind
    means = scores[first].mean(0), scores[~first].mean(0)
    weight = np.where(first, len(first) / first.sum(), -len(first) / (~first).sum())
    apart = means[0] - means[1] + weight[:, None] * (scores - np.where(first[:, None], *means))
    return apart, one - other, least

"""Right words against wrong ones at the positions of a picture: all readings, nulls and controls of such a claim."""

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd
from jaxtyping import Float

from semhub_utils.evidence import ControlCurve, control, evidence, tidy
from semhub_utils.experiments.common import DRAWS, Result, curve
from semhub_utils.experiments.positions import Values, read_items, readable_items
from semhub_utils.lens import available_readings
from semhub_utils.models import LanguageModel
from semhub_utils.shuffles import least_permutation_p, random_pairings
from semhub_utils.spokes.emptied import PICTURES
from semhub_utils.spokes.seen import SeenItem, of_kind
from semhub_utils.tokens import TargetTable

RELEASED = "as released"


def word_experiment(
    model: LanguageModel,
    items: Mapping[str, Sequence[SeenItem]],
    *,
    experiment: str,
    nothing: Sequence[str] = PICTURES,
    first: bool = False,
    seed: int = 0,
    random_weights: bool = True,
) -> Result:
    """At an item's positions, does the lens read its right words rather than its wrong ones?

    items: by series, which share their pictures and the passes over them. Claim `<experiment>/<series>`, once per
    reading: the mean over right words minus the mean over wrong ones of the log of the probability, averaged over
    positions first (with `first`: of the share of positions that put the word first).
    Last comes the reading "as released": raw before the last layer, and there normed, since the library's last state
    has been through the final norm; in probabilities, and with the release's own words. Two nulls, the harder counts:
    right and wrong words shuffled among the items of a group, an anchor's together; and the words of a kind having
    changed names, so that a few words alike by chance are few. Controls: the embedding layer, the same places of
    pictures with `nothing` on them, of areas the rest of the picture, and random weights. Words of several tokens count
    by the first; items left without right or wrong words, or without a position, are dropped and counted. The table
    adds the probabilities (`<experiment>-probability`, series "right" and "wrong").
    """
    words, kept, dropped = readable_items(model, items)
    readings = available_readings(model)
    if kept:
        at = {"nothing": nothing, "first": first, "seed": seed, "random_weights": random_weights}
        values, others = read_items(model, words, kept, readings, **at)
    claims, tables = [], []
    for series, reading in product(items, (*readings, RELEASED)):
        rows = [
            k for k, (of, item, _) in enumerate(kept) if of == series and _weights(words, item, reading) is not None
        ]
        some = [kept[k][1] for k in rows]
        lost = dict(dropped[series])
        if unlike := sum(of == series for of, _, _ in kept) - len(rows):
            lost["no words as released"] = unlike
        made = {
            "experiment": experiment, "series": series, "reading": reading, "dropped": lost, "outcome": first,
            "layers": range(model.n_layers + 1), "n_layers": model.n_layers,
            "unit": "share of positions" if first else "probability" if reading == RELEASED else "nats",
            "null_in_words": "words shuffled among pictures; words having changed names", "seed": seed,
        }  # fmt: skip
        if rows:
            weights = np.stack([_weights(words, item, reading) for item in some])
            used = (weights != 0).any(0)
            weights = weights[:, used]
            own = _as_read(values, reading, first)[rows][:, :, used]
            controls = {"embedding layer": _score(own, weights)[:, :1]}
            controls |= {
                name: _score(_as_read(value, reading, first)[rows][:, :, used], weights)
                for name, value in others.items()
                if reading in (*value, RELEASED)
            }
            of = {"seed": seed, "clusters": [item.cluster for item in some]}
            kinds = [bool(of_kind([word], "colour")) for word, use in zip(words.words, used, strict=True) if use]
            groups, anchors = ([getattr(item, name) for item in some] for name in ("group", "anchor"))
            made |= of | {
                "least_p": max(least_permutation_p(groups, anchors), least_permutation_p(kinds, range(len(kinds)))),
                "controls": _controls(controls, of, model.n_layers + 1),
            }
            null = _nulls(own, weights, groups, anchors, kinds, seed)
            seen = own if first or reading == RELEASED else np.exp(own)
            sides = {name: _score(seen, np.maximum(sign * weights, 0)) for name, sign in (("right", 1), ("wrong", -1))}
            claims.append(evidence(f"{experiment}/{series}", _score(own, weights), null, **made))
        else:
            of, empty = {"seed": seed}, np.empty((0, model.n_layers + 1))
            sides = {"right": empty, "wrong": empty}
            claims.append(evidence(f"{experiment}/{series}", empty, empty, **made))
        for name, side in sides.items():
            table = curve(model, side, experiment=f"{experiment}-probability", series=name, reading=reading,
                          dropped=sum(lost.values()), **of)  # fmt: skip
            tables.append(table.assign(words=series))
    return pd.concat([tidy(claims).assign(words=lambda t: t.series), *tables], ignore_index=True), claims


def _weights(words: TargetTable, item: SeenItem, reading: str) -> Float[np.ndarray, " word"] | None:
    """What every word counts in an item's score: right ones for it, wrong ones against; None without both."""
    column = {word: k for k, word in enumerate(words.words)}
    right, wrong = item.released if reading == RELEASED else (item.right, item.wrong)
    paired = len(right) == len(wrong)
    right, wrong = ([column[w] for w in some if w in column] for some in (right, wrong))
    if reading != RELEASED and paired:  # word for word, also where one has no token
        right, wrong = right[: len(wrong)], wrong[: len(right)]
    if not right or not wrong:
        return None
    weights = np.zeros(len(words.words))
    scale = len(right) if reading == RELEASED else 1  # the release sums over words
    np.add.at(weights, right, scale / len(right))
    np.add.at(weights, wrong, -scale / len(wrong))  # of a word on both sides the two cancel
    return weights


def _as_read(values: Values, reading: str, first: bool) -> Float[np.ndarray, "item layer word"]:
    """Values by one reading; as released, probabilities (or shares) raw, and normed at the last layer."""
    if reading != RELEASED:
        return values[reading]
    raw = np.concatenate([values["raw"][:, :-1], values["normed"][:, -1:]], axis=1)
    return raw if first else np.exp(raw)


def _score(
    values: Float[np.ndarray, "item layer word"], weights: Float[np.ndarray, "item word"]
) -> Float[np.ndarray, "item layer"]:
    return np.einsum("ilw,iw->il", values, weights)


def _controls(scores: dict[str, np.ndarray], of: dict, depth: int) -> dict[str, ControlCurve]:
    """Those that have an item with numbers."""
    return {
        name: control(name, values, n_layers_shown=depth if values.shape[1] == 1 else 1, **of)
        for name, values in scores.items()
        if np.isfinite(values).all(1).any()
    }


def _nulls(
    values: Float[np.ndarray, "item layer word"],
    weights: Float[np.ndarray, "item word"],
    groups: list[str],
    anchors: list[str],
    kinds: list[bool],
    seed: int,
) -> list[Float[np.ndarray, "draw layer"]]:
    """Means of the score with the weights of other items, and with the words renamed among those of their kind."""
    index, names = np.arange(len(values)), np.arange(len(kinds))
    pairings = random_pairings(len(values), groups=groups, clusters=anchors, draws=DRAWS, seed=seed)
    renamings = random_pairings(len(kinds), groups=kinds, draws=DRAWS, seed=seed)
    moved, renamed = np.full((2, DRAWS, values.shape[1]), np.nan)
    for layer in range(values.shape[1]):  # nothing of size item x item x layer
        by = values[:, layer] @ weights.T
        for draw, pairing in enumerate(pairings):
            if (stay := pairing >= 0).any():
                moved[draw, layer] = by[index[stay], pairing[stay]].mean()
        by = weights.T @ values[:, layer] / len(values)
        renamed[:, layer] = by[names, renamings].sum(1)
    return [moved, renamed]

"""Right words against wrong ones at the positions of a picture: all readings, nulls and controls of such a claim."""

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd
from jaxtyping import Float

from semhub_utils.evidence import tidy
from semhub_utils.experiments.core import Result, curve
from semhub_utils.experiments.positions import Values, read_items, readable_items
from semhub_utils.experiments.weighed import sides, weighed_evidence
from semhub_utils.lens import available_readings
from semhub_utils.models import LanguageModel
from semhub_utils.spokes.items import PICTURES
from semhub_utils.spokes.vision import SeenItem, of_kind
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
    Last comes the reading "as released": raw, in probabilities, and with the release's own words. Two nulls, the harder
    counts: right and wrong words shuffled among the items of a group, an anchor's together; and the words of a kind
    having changed names, so that a few words alike by chance are few. Controls: the embedding layer, the same places of
    pictures with `nothing` on them, of areas the rest of the picture, and random weights. Words of several tokens count
    by the first; items left without right or wrong words, or without a position, are dropped and counted. The table
    adds the probabilities (`<experiment>-probability`, series "right" and "wrong").
    """
    words, kept, dropped = readable_items(model, items)
    readings = available_readings(model)
    known = words.words if words else ()
    values, others = dict.fromkeys(readings, np.empty((0, model.n_layers + 1, len(known)))), {}
    if kept:
        at = {"nothing": nothing, "first": first, "seed": seed, "random_weights": random_weights}
        values, others = read_items(model, words, kept, readings, **at)
    claims, tables = [], []
    for series, reading in product(items, (*readings, RELEASED)):
        weighed = {
            k: weights
            for k, (of, item, _) in enumerate(kept)
            if of == series and (weights := _weights(words, item, reading)) is not None
        }
        rows, some = np.array([*weighed], int), [kept[k][1] for k in weighed]
        lost = dict(dropped[series])
        if unlike := sum(of == series for of, _, _ in kept) - len(rows):
            lost["no words as released"] = unlike
        weights = np.array([*weighed.values()]).reshape(len(rows), len(known))
        used = (weights != 0).any(0)
        weights = weights[:, used]
        read = {
            name: _as_read(by, reading, first)[rows][:, :, used]
            for name, by in ({"": values} | others).items()
            if reading in (*by, RELEASED)
        }
        own = read.pop("")
        of = {"seed": seed, "clusters": [item.cluster for item in some], "reading": reading}
        claim = weighed_evidence(
            model, f"{experiment}/{series}", own, weights, others=read,
            groups=[item.group for item in some], anchors=[item.anchor for item in some],
            kinds=[bool(of_kind([word], "colour")) for word, use in zip(known, used, strict=True) if use],
            experiment=experiment, series=series, dropped=lost, outcome=first,
            unit="share of positions" if first else "probability" if reading == RELEASED else "nats",
            null_in_words="words shuffled among pictures; words having changed names", **of,
        )  # fmt: skip
        numbers = own if first or reading == RELEASED else np.exp(own)
        for name, side in zip(("right", "wrong"), sides(numbers, weights), strict=True):
            given = {"experiment": f"{experiment}-probability", "series": name, "dropped": sum(lost.values())}
            tables.append(curve(model, side, **given, **of).assign(words=series))
        claims.append(claim)
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
    """Values by one reading; as released, raw probabilities (or shares)."""
    if reading != RELEASED:
        return values[reading]
    return values["raw"] if first else np.exp(values["raw"])

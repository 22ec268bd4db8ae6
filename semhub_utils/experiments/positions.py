"""Right words against wrong ones at the positions of a picture: all readings, nulls and controls of such a claim."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby, product

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from semhub_utils.errors import SemhubError
from semhub_utils.evidence import ControlCurve, control, evidence, tidy
from semhub_utils.experiments.common import DRAWS, Result, curve
from semhub_utils.inputs import Encoding, Input, Prompt
from semhub_utils.lens import available_readings, lens, word_logprobs
from semhub_utils.models import LanguageModel, randomised
from semhub_utils.shuffles import least_permutation_p, random_pairings
from semhub_utils.spokes.seen import NOTHING, SeenItem, emptied, of_kind
from semhub_utils.states import stream_states
from semhub_utils.tokens import TargetTable, target_table

RELEASED = "as released"
ELSEWHERE = "elsewhere"
Values = dict[str, Float[np.ndarray, "item layer word"]]  # by reading
Kept = tuple[str, SeenItem, Encoding]  # series, item, its picture as the model reads it


def read_words(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    regions: Sequence[Sequence[Sequence[int]]],
    words: TargetTable,
    readings: Sequence[str],
    *,
    first: bool = False,
) -> Values:
    """For every region (positions of a prompt; several to a prompt, in order) the log of the mean lens probability of
    each word over its positions; with `first`, the share of positions at which a form of the word is the lens's first
    token. An empty region gives nan."""
    found: dict[str, dict[int, list[torch.Tensor]]] = {reading: {} for reading in readings}
    positions = [sorted({place for region in some for place in region}) for some in regions]
    for states in stream_states(model, prompts, positions=positions):
        for i in states.item.unique().tolist():  # one picture of hundreds of patches at a time
            own = states.item == i
            at = {place: row for row, place in enumerate(states.position[own].tolist())}
            for reading in readings:
                if first:
                    top = lens(model, states.hidden[own], top_k=1, reading=reading).top_ids
                    value = torch.cat([torch.isin(top, words.ids[list(group)]) for group in words.groups], -1).double()
                else:
                    read = lens(model, states.hidden[own], targets=words.ids, reading=reading).logprob
                    value = word_logprobs(read, words.groups).double()
                rows = (value[[at[place] for place in region]] for region in regions[i])
                found[reading][i] = [
                    row.mean(0) if first else row.logsumexp(0) - math.log(max(len(row), 1)) for row in rows
                ]
    nothing = torch.full((model.n_layers + 1, len(words.words)), torch.nan, dtype=torch.float64)
    whole = {}
    for reading, by in found.items():
        rows = [(by[i][k] if region else nothing) for i, some in enumerate(regions) for k, region in enumerate(some)]
        whole[reading] = torch.stack(rows).numpy()
    return whole


def word_experiment(
    model: LanguageModel,
    items: Mapping[str, Sequence[SeenItem]],
    *,
    experiment: str,
    nothing: Sequence[str] = tuple(NOTHING),
    first: bool = False,
    seed: int = 0,
    random_weights: bool = True,
) -> Result:
    """At an item's positions, does the lens read its right words rather than its wrong ones?

    items: by series, which share their pictures and the passes over them. Claim `<experiment>/<series>`, once per
    reading: the mean over right words minus the mean over wrong ones of the log
    of the probability, averaged over positions first (with `first`: of the share of positions that put the word first).
    Last comes the reading "as released": raw before the last layer, and there normed, since the library's last state
    has been through the final norm; in probabilities, and with the release's own words. Two nulls, the harder counts:
    right and wrong words shuffled among the items of a group, an anchor's together; and the words of a kind having
    changed names, so that a few words alike by chance are few. Controls: the embedding layer, the same places of
    pictures with `nothing` on them, of areas the rest of the picture, and random weights. Words of several tokens count
    by the first; items left without right or wrong words, or without a position, are dropped and counted. The table
    adds the probabilities (`<experiment>-probability`, series "right" and "wrong").
    """
    words, kept, dropped = _resolve(model, items)
    readings = available_readings(model)
    if kept:
        at = {"nothing": nothing, "first": first, "seed": seed, "random_weights": random_weights}
        values, others = _read_all(model, words, kept, readings, **at)
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


def _read_all(
    model: LanguageModel,
    words: TargetTable,
    kept: Sequence[Kept],
    readings: Sequence[str],
    *,
    nothing: Sequence[str],
    first: bool,
    seed: int,
    random_weights: bool,
) -> tuple[Values, dict[str, Values]]:
    """What is read at the items' places, and by name what is read where the claim must not show."""
    pictures = [list(group) for _, group in groupby(range(len(kept)), key=lambda k: id(kept[k][1].picture.image))]
    shown = [kept[of[0]][1].picture for of in pictures]
    places = [(item.places(encoding), item.elsewhere(encoding)) for _, item, encoding in kept]

    def read(reader: LanguageModel, prompts: Sequence[Prompt], which: Sequence[int], readings=readings) -> Values:
        regions = [[places[k][w] for k in of for w in which] for of in pictures]
        return read_words(reader, prompts, regions, words, readings, first=first)

    prompts = [kept[of[0]][2] for of in pictures]
    both = read(model, prompts, (0, 1))
    others = {name: read(model, emptied(shown, NOTHING[name], seed=seed), (0,)) for name in nothing}
    if any(item.area for _, item, _ in kept):
        others[ELSEWHERE] = {reading: value[1::2] for reading, value in both.items()}
    if random_weights:  # other weights would need translators of their own
        others["random weights"] = read(randomised(model, seed), prompts, (0,), readings[:2])
    return {reading: value[0::2] for reading, value in both.items()}, others


def _resolve(
    model: LanguageModel, items: Mapping[str, Sequence[SeenItem]]
) -> tuple[TargetTable | None, list[Kept], dict[str, Counter]]:
    """Words with a token of their own, the items (with series and encoding, those of a picture together) that have
    some on both sides and a place, and by series why the others went."""
    dropped: dict[str, Counter] = {series: Counter() for series in items}
    every = [(series, item) for series, some in items.items() for item in some]
    order = {number: k for k, number in enumerate(dict.fromkeys(id(item.picture.image) for _, item in every))}
    every.sort(key=lambda of: order[id(of[1].picture.image)])
    try:
        words = target_table(model, [w for _, i in every for w in (*i.right, *i.wrong, *i.released[0], *i.released[1])])
    except SemhubError:  # no word can be told apart, or there is none
        dropped = {series: Counter({"no word with a token of its own": len(some)}) for series, some in items.items()}
        return None, [], dropped
    known, kept, encodings = set(words.words), [], {}
    for series, item in every:
        number = id(item.picture.image)
        if number not in encodings:
            encodings[number] = model.encode([Input("", (item.picture.image,))])[0]
        encoding = encodings[number]
        if not ({*item.right} & known and {*item.wrong} & known):
            dropped[series]["no right or no wrong word with a token of its own"] += 1
        elif item.area is not None and encoding.grid is None:
            dropped[series]["the model lays its patches on no grid"] += 1
        elif not item.places(encoding):
            dropped[series]["no patch more than half inside"] += 1
        else:
            kept.append((series, item, encoding))
    return words, kept, dropped


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

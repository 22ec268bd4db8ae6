"""What the lens says of words at the positions of pictures, and of what they show nothing of."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np
import torch
from jaxtyping import Float

from semhub_utils.inputs import Encoding, Prompt
from semhub_utils.lens import lens, reading_of, word_logprobs
from semhub_utils.models import LanguageModel, randomised
from semhub_utils.spokes.items import emptied
from semhub_utils.spokes.vision import SeenItem, alone
from semhub_utils.states import stream_states
from semhub_utils.tokens import TargetTable, target_table

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


def read_items(
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
    shown = [alone(kept[of[0]][1].picture) for of in pictures]
    places = [(item.places(encoding), item.elsewhere(encoding)) for _, item, encoding in kept]

    def read(reader: LanguageModel, prompts: Sequence[Prompt], which: Sequence[int], readings=readings) -> Values:
        regions = [[places[k][w] for k in of for w in which] for of in pictures]
        return read_words(reader, prompts, regions, words, readings, first=first)

    prompts = [kept[of[0]][2] for of in pictures]
    both = read(model, prompts, (0, 1))
    others = {way: read(model, emptied(shown, way, seed=seed), (0,)) for way in nothing}
    if any(item.area for _, item, _ in kept):
        others[ELSEWHERE] = {reading: value[1::2] for reading, value in both.items()}
    if random_weights:
        usable = [reading for reading in readings if reading_of(model, reading).random_weights]
        others["random weights"] = read(randomised(model, seed), prompts, (0,), usable)
    return {reading: value[0::2] for reading, value in both.items()}, others


def readable_items(
    model: LanguageModel, items: Mapping[str, Sequence[SeenItem]]
) -> tuple[TargetTable | None, list[Kept], dict[str, Counter]]:
    """Words with a token of their own, the items (with series and encoding, those of a picture together) that have
    some on both sides and a place, and by series why the others went."""
    dropped: dict[str, Counter] = {series: Counter() for series in items}
    every = [(series, item) for series, some in items.items() for item in some]
    order = {number: k for k, number in enumerate(dict.fromkeys(id(item.picture.image) for _, item in every))}
    every.sort(key=lambda of: order[id(of[1].picture.image)])
    words = target_table(model, [w for _, i in every for w in (*i.right, *i.wrong, *i.released[0], *i.released[1])])
    if not words:
        dropped = {series: Counter({"no word with a token of its own": len(some)}) for series, some in items.items()}
        return None, [], dropped
    shown = {id(item.picture.image): alone(item.picture) for _, item in every}
    encodings = dict(zip(shown, model.encode(list(shown.values())), strict=True))
    known, kept = set(words.words), []
    for series, item in every:
        encoding = encodings[id(item.picture.image)]
        if not ({*item.right} & known and {*item.wrong} & known):
            dropped[series]["no right or no wrong word with a token of its own"] += 1
        elif item.area is not None and encoding.grid is None:
            dropped[series]["the model lays its patches on no grid"] += 1
        elif not item.places(encoding):
            dropped[series]["no patch more than half inside"] += 1
        else:
            kept.append((series, item, encoding))
    return words, kept, dropped

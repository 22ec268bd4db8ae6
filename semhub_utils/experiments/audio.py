"""Does a sound lie where its name does? A clip against the texts of labels, and the label's words in its frames."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from semhub_utils.evidence import tidy
from semhub_utils.experiments.core import Result, curve
from semhub_utils.experiments.labels import Labels
from semhub_utils.experiments.right_words import RELEASED
from semhub_utils.experiments.weighed import sides, weigh, weighed_evidence
from semhub_utils.experiments.words import asked
from semhub_utils.inputs import Input
from semhub_utils.lens import lens, word_logprobs
from semhub_utils.models import LanguageModel, randomised
from semhub_utils.similarity import cosine_matrix
from semhub_utils.spokes.audio import SLOT, Clip, heard
from semhub_utils.spokes.items import SOUNDS, emptied
from semhub_utils.states import hidden_states, stream_states
from semhub_utils.tokens import target_table

TIMES = 8  # equal parts of a clip in the figure over time
BATCH = 4096  # tokens of clips at a time, of which all layers are held
NULL = "labels shuffled among clips of a group"
TINY = 1e-300  # a probability that is 0 has no logarithm
Read = Callable[[LanguageModel, Sequence[Input]], Float[np.ndarray, "item layer label"]]


def clip_similarity_experiment(
    model: LanguageModel,
    clips: Sequence[Clip],
    *,
    series: str,
    frame: str = "{}",
    seed: int = 0,
    random_weights: bool = True,
    dropped: Mapping[str, int] | None = None,
) -> Result:
    """Is a clip closer to its own label's text than to other labels' (Eq. 1)? States at the last token; `frame` is the
    sentence that the sound, or the label's text, stands in.

    Claim `clip-label/<series>`: cosine with the own label minus the mean with other labels, against labels shuffled
    among clips of a group. Reading "corrected" takes the other labels of the own group (animals with animals), "as
    released" those of all clips. Controls: the embedding layer, the same clips without content (SOUNDS) and random
    weights. The table adds `clip-retrieval`: is the own label the nearest of all? (labels that tie share the answer;
    series "chance"); and the plain cosine (`clip-cosine`).
    """
    labels = Labels.made(clips, [(clip.label,) for clip in clips])
    frame = model.anchor + frame
    texts = [frame.format(label) for (label,) in labels.names]

    def read(reader: LanguageModel, prompts: Sequence[Input]) -> Float[np.ndarray, "item layer label"]:
        sounds = hidden_states(reader, [asked(reader, prompt) for prompt in prompts]).hidden
        cosines = cosine_matrix(sounds, hidden_states(reader, texts).hidden).permute(1, 0, 2).double().numpy()
        return cosines.round(9)  # so that what is one text to the end is 0 apart

    prompts = [heard(clip, frame.format(SLOT)) for clip in clips]
    cosine = read(model, prompts)
    blank = _controls(model, prompts, read, seed=seed, random_weights=random_weights)
    readings = {"corrected": labels.different & labels.together, "as released": labels.different}
    common = {"clusters": labels.of.tolist(), "series": series, "seed": seed}
    of = common | _moved(clips, labels) | {"experiment": "clip-label", "dropped": dropped, "unit": "cosine"}
    claims = [
        weighed_evidence(
            model, f"clip-label/{series}", cosine, labels.weights(others), others=blank, reading=reading, **of
        )
        for reading, others in readings.items()
    ]
    nearest = cosine >= cosine.max(2, keepdims=True) - 1e-6
    own = np.eye(len(texts))[labels.of]
    shares = {series: weigh(nearest / nearest.sum(2, keepdims=True), own)}
    shares["chance"] = np.full_like(shares[series], 1 / len(texts))
    shown = [("clip-retrieval", name, values) for name, values in shares.items()]
    shown.append(("clip-cosine", series, weigh(cosine, own)))
    tables = [curve(model, values, **common | {"experiment": what, "series": name}) for what, name, values in shown]
    return pd.concat([tidy(claims), *tables], ignore_index=True), claims


def label_words_experiment(
    model: LanguageModel,
    clips: Sequence[Clip],
    *,
    series: str,
    reading: str = "normed",
    seed: int = 0,
    random_weights: bool = True,
    dropped: Mapping[str, int] | None = None,
) -> Result:
    """Does the lens read the words of its label at the frames of a clip?

    A label's number is the lens probability of its words, the mean over words and over frames. Claim
    `label-words/<series>`: log of it minus the mean log of the other labels of the group that have as many words and
    none in common, in nats, against labels shuffled among clips of a group. Words of several tokens, or whose token
    another word shares, are left out; clips with no word left, or no label to compare with, are dropped and counted.
    Controls as for similarity. Table: `label-probability` and `label-first` (share of frames whose likeliest word is
    the label's) for the own label and the mean of the others; `label-rank`, of the own label's best word, the mean over
    frames; `label-entropy`; and `label-time`, the claim's number in each of TIMES parts of the clips (`time`: the
    middle of the part as a share of the clip).

    The reading "as released" is in probabilities, raw before the last layer and normed there, against one other label
    that `seed` draws among all that have no word in common; of the table it has `label-probability` alone.
    """
    words = target_table(model, dict.fromkeys(word for clip in clips for word in clip.words))
    single = words.single
    left = [(clip, tuple(word for word in clip.words if word in single)) for clip in clips]
    kept = [(clip, label) for clip, label in left if label]
    reasons = {"no single token of its own for a word of the label": len(left) - len(kept)}
    labels = Labels.made(*_columns(kept))
    compared = _compared(labels, reading, seed).any(1)[labels.of]
    reasons["no label of as many words to compare with"] = int((~compared).sum())
    clips, names = _columns([pair for pair, some in zip(kept, compared, strict=True) if some])
    labels = Labels.made(clips, names)
    others, released = _compared(labels, reading, seed), reading == RELEASED
    dropped = dict(dropped or {}) | {reason: count for reason, count in reasons.items() if count}
    weights, empty = labels.weights(others), np.empty((0, model.n_layers + 1))
    common = {"clusters": labels.of.tolist(), "reading": reading, "seed": seed}
    of = (
        common
        | _moved(clips, labels)
        | {"experiment": "label-words", "dropped": dropped, "unit": "probability" if released else "nats"}
    )
    of["series"] = series
    common["dropped"] = sum(dropped.values())
    if not clips:  # the claim without an item, and every curve without a number
        claim = weighed_evidence(model, f"label-words/{series}", empty[..., None][..., :0], weights, others={}, **of)
        shown = [
            (f"label-{what}", whose) for what in ("probability", "first") for whose in ("own label", "other labels")
        ]
        shown += [("label-rank", "own label"), ("label-entropy", series)]
        tables = [curve(model, empty, experiment=what, series=whose, **common) for what, whose in shown]
        tables.append(curve(model, empty, experiment="label-time", series=series, **common).assign(time=0.5))
        return pd.concat([tidy([claim]), *tables], ignore_index=True), [claim]
    columns = [[words.words.index(word) for word in name] for name in labels.names]
    member = torch.zeros(len(words.words), len(columns), dtype=torch.float64)
    form = torch.zeros(len(columns), len(words.ids), dtype=torch.bool)  # the targets that are a label's words
    for k, some in enumerate(columns):
        member[some, k] = 1 / len(some)
        form[k, [target for column in some for target in words.groups[column]]] = True

    def read(reader: LanguageModel, prompts: Sequence[Input], more: dict | None = None):
        """Log of every label's number by clip and layer (as released, the number); `more` takes what else is shown."""
        encodings = reader.encode(prompts)
        n = torch.tensor([len(encoding.frames) for encoding in encodings])
        shape = (len(prompts), model.n_layers + 1, len(columns))
        found = torch.zeros(shape, dtype=torch.float64)
        if more is not None:
            more |= {name: torch.zeros(shape[:last], dtype=torch.float64) for name, last in WIDTHS.items()}
            more["time"] = torch.zeros(TIMES, *shape, dtype=torch.float64)
        for states in stream_states(
            reader, encodings, positions=[encoding.frames for encoding in encodings], max_batch_tokens=BATCH
        ):
            asked = {"rank": True, "top_k": 1, "entropy": True} if more is not None else {}
            seen = lens(reader, states.hidden, targets=words.ids, reading="raw" if released else reading, **asked)
            item = states.item
            share = 1 / n[item][:, None, None].double()
            chance = word_logprobs(seen.logprob, words.groups).double().exp() @ member
            found.index_add_(0, item, chance * share)
            if more is not None:
                more["first"].index_add_(0, item, (seen.top_ids == words.ids).double() @ form.double().T * share)
                ranks = seen.rank.masked_fill(~form[torch.from_numpy(labels.of)][item][:, None], model.vocab_size)
                more["rank"].index_add_(0, item, ranks.amin(-1) * share[..., 0])
                more["entropy"].index_add_(0, item, seen.entropy.double() * share[..., 0])
                part = _order(item) * TIMES // n[item]
                more["time"].index_put_((part, item), chance, accumulate=True)
        if more is not None:
            more |= {name: values.numpy() for name, values in more.items()}
        return found.numpy() if released else np.log(np.maximum(found.numpy(), TINY))

    more: dict[str, np.ndarray] | None = None if released else {}
    prompts = [heard(clip) for clip in clips]
    found = read(model, prompts, more)
    blank = _controls(model, prompts, read, seed=seed, random_weights=random_weights)
    claim = weighed_evidence(model, f"label-words/{series}", found, weights, others=blank, **of)
    shown, beside = {}, {"label-probability": found if released else np.exp(found)}
    if more:
        shown |= {("label-rank", "own label"): more["rank"], ("label-entropy", series): more["entropy"]}
        beside["label-first"] = more["first"]
    for what, values in beside.items():
        shown[what, "own label"], shown[what, "other labels"] = sides(values, weights)
    tables = [curve(model, values, experiment=what, series=name, **common) for (what, name), values in shown.items()]
    for t, sums in enumerate(
        more["time"] if more else ()
    ):  # the number of frames in a part falls out of the difference
        logs = np.log(np.maximum(sums, TINY))
        logs[(sums == 0).all((1, 2))] = np.nan  # a clip of fewer frames than parts
        time = curve(model, weigh(logs, weights), experiment="label-time", series=series, **common)
        tables.append(time.assign(time=(t + 0.5) / TIMES))
    return pd.concat([tidy([claim]), *tables], ignore_index=True), [claim]


def _compared(labels: Labels, reading: str, seed: int) -> Bool[np.ndarray, "label label"]:
    """Which labels each is compared with."""
    if reading != RELEASED:
        return labels.different & labels.together & labels.as_long
    drawn = np.random.default_rng(seed).random(labels.different.shape) * labels.different
    return labels.different & (drawn == drawn.max(1, keepdims=True, initial=0))


WIDTHS = {"first": 3, "rank": 2, "entropy": 2}  # by item, layer and, for the first, label


def _columns(pairs: Sequence[tuple]) -> tuple[list, list]:
    return [a for a, _ in pairs], [b for _, b in pairs]


def _moved(clips: Sequence[Clip], labels: Labels) -> dict:
    """What the null moves together, what intervals are over, and what is counted."""
    of = {"groups": [clip.group for clip in clips], "anchors": labels.of, "drawn": labels.of}
    return of | {"clusters": [clip.cluster for clip in clips], "null_in_words": NULL}


def _order(item: Int[Tensor, " site"]) -> Int[Tensor, " site"]:
    """The place of each site among those of its clip, which stand together."""
    first = torch.cat([torch.ones(1, dtype=torch.bool), item[1:] != item[:-1]])
    start = torch.arange(len(item))[first]
    return torch.arange(len(item)) - start[first.long().cumsum(0) - 1]


def _controls(model: LanguageModel, prompts: Sequence[Input], read: Read, *, seed: int, random_weights: bool) -> dict:
    """What is read of the clips without content, and of them under random weights."""
    found = {way: read(model, emptied(prompts, way, seed=seed)) for way in SOUNDS}
    if random_weights:
        found["random weights"] = read(randomised(model, seed), prompts)
    return found

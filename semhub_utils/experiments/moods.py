"""Interchange patch of sentiment: an English word's state in the place of a prompt's last. What comes next?"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from semhub_utils.evidence import evidence, least_sign_flip_p, sign_flip_null, tidy
from semhub_utils.experiments.continuations import told_sides
from semhub_utils.experiments.core import DRAWS, Result, curve
from semhub_utils.experiments.sentiment import fitting_prompts
from semhub_utils.lens import lens, word_logprobs
from semhub_utils.models import LanguageModel, randomised
from semhub_utils.spokes.sentiment import NEUTRAL, SentimentPrompt, SentimentTask
from semhub_utils.states import hidden_states
from semhub_utils.steering import patched_states

Sides = list[list[list[int]]]
"""For each pair of opposites, the columns of the pleasant and the unpleasant words that are not its own."""


def sentiment_patch_experiment(
    model: LanguageModel,
    task: SentimentTask,
    english: SentimentTask,
    *,
    most: int = 24,
    seed: int = 0,
    random_weights: bool = True,
) -> Result:
    """Does a pleasant English word's state, in the place of the last one of a prompt in another language, make pleasant
    words likelier there than an unpleasant word's does?

    Written are the states at the last token of English sentences: the English prompt of the same thing with each word
    of the opposites of `english` behind it, at every layer in turn. Measured is log P(pleasant words) - log
    P(unpleasant words) of the task's language as the next token, the written pair's own words left out.

    Claim `patch/<language>`: half of that under the pleasant word minus under the unpleasant one, per prompt and pair.
    Nulls: signs flipped per cluster of prompts, and per pair, as ten pairs are ten samples however many the prompts.
    Controls: two neutral words in the pair's place, a push from the middle of both states along a random direction and
    against it, as far as either is, one direction per pair; the embedding layer; random weights.

    Table: `sentiment-patch` and, for `series` "pleasant word", "unpleasant word", "neutral word" and "no patch",
    `sentiment-patch-level`, the measure itself. most: how many prompts are used, the pairs being the smaller sample.
    Raises SemhubError where too few prompts fit into the model's context.
    """
    prompts, dropped = fitting_prompts(model, task, 1)
    prompts = prompts[:most]
    sources = _twins(prompts, fitting_prompts(model, english, 8)[0])
    opposites = list(zip((*english.pleasant, english.own[0]), (*english.unpleasant, english.own[1]), strict=True))
    colours = list(zip(NEUTRAL[::2], NEUTRAL[1::2], strict=True))  # none twice, or their effects would cancel out
    # a pair's own words do not count for it
    words, sides = told_sides(model, task, [*zip(task.pleasant, task.unpleasant, strict=True), task.own])
    n, many, layers = len(prompts), len(opposites), model.n_layers + 1

    def masses(reader: LanguageModel, states: Float[Tensor, "item pair side layer hidden"]) -> np.ndarray:
        """The measure [item, pair, side, layer] with each state written in turn."""
        texts = [p.prompt for p in prompts for _ in range(states.shape[1] * states.shape[2])]
        last = patched_states(reader, texts, states.flatten(0, 2), range(layers))
        return _mass(reader, last, words, sides, (n, *states.shape[1:3], layers))

    def read(reader: LanguageModel, pairs: Sequence[tuple[str, str]]) -> Float[Tensor, "item pair side layer hidden"]:
        texts = [f"{source.prompt} {word}" for source in sources for pair in pairs for word in pair]
        return hidden_states(reader, texts).hidden.unflatten(0, (n, len(pairs), 2))

    states = read(model, opposites)
    middle, apart = states.mean(2, keepdim=True), (states[:, :, :1] - states[:, :, 1:]).norm(dim=-1, keepdim=True) / 2
    directions = torch.randn(many, 1, 1, model.hidden_size, generator=torch.Generator().manual_seed(seed))
    signs = torch.tensor([1.0, -1.0])[:, None, None]
    written = {"opposites": states, "neutral words": read(model, colours)}
    written["random push"] = middle + signs * apart * normalize(directions, dim=-1)
    found = {name: masses(model, of) for name, of in written.items()}
    if random_weights:
        blank = randomised(model, seed)
        found["random weights"] = masses(blank, read(blank, opposites))
    halves = {name: ((of[:, :, 0] - of[:, :, 1]) / 2).reshape(-1, layers) for name, of in found.items()}
    clusters = [p.cluster for p in prompts for _ in opposites]
    given = {"clusters": clusters, "seed": seed}
    scores = halves.pop("opposites")
    seen = bool(np.isfinite(scores).all())
    pairs = [k for _ in prompts for k in range(many)]
    controls = halves | {"embedding layer": scores[:, :1]} if seen else {}
    claim = evidence(
        f"patch/{task.language}",
        scores,
        [sign_flip_null(scores, clusters=of, draws=DRAWS, seed=seed) for of in (clusters, pairs)],
        least_p=max(map(least_sign_flip_p, (clusters, pairs))),
        layers=range(layers),
        n_layers=model.n_layers,
        experiment="sentiment-patch",
        series=task.language,
        controls=controls,
        dropped=dropped,
        unit="nats",
        null_in_words="signs flipped by thing, and by pair of words",
        **given,
    )
    plain = hidden_states(model, [p.prompt for p in prompts], layers=[model.n_layers]).hidden
    alone = _mass(model, plain, words, sides, (n, 1, 1, 1))
    levels = {
        "pleasant word": found["opposites"][:, :, 0], "unpleasant word": found["opposites"][:, :, 1],
        "neutral word": found["neutral words"].mean(2), "no patch": np.broadcast_to(alone[:, :, 0], (n, many, layers)),
    }  # fmt: skip
    shown = {"experiment": "sentiment-patch-level", "dropped": sum(dropped.values()), **given}
    curves = [curve(model, of.reshape(-1, layers), series=name, **shown) for name, of in levels.items()]
    return pd.concat([tidy([claim]), *curves], ignore_index=True), [claim]


def _twins(prompts: Sequence[SentimentPrompt], english: Sequence[SentimentPrompt]) -> list[SentimentPrompt]:
    """For each prompt the English one of the same thing, or, where there is none, the next in line."""
    same = {p.id: p for p in english}
    return [same.get(p.id, english[k % len(english)]) for k, p in enumerate(prompts)]


def _mass(model: LanguageModel, last: Tensor, words, sides: Sides, shape: tuple[int, int, int, int]) -> np.ndarray:
    """log P(pleasant) - log P(unpleasant) [item, pair, side, layer] for states in the order of `shape`, which may have
    fewer pairs, that are then used in turn; nan for a pair without words."""
    n, pairs, per_pair, layers = shape
    out = np.full((n, len(sides), per_pair, layers), np.nan)
    if not words:
        return out
    logprob = word_logprobs(lens(model, last, targets=words.ids).logprob, words.groups).double()
    logprob = logprob.reshape(n, pairs, per_pair, layers, -1)
    for k, (up, down) in enumerate(sides):
        if up and down:
            of = logprob[:, k % pairs]
            out[:, k] = (of[..., up].logsumexp(-1) - of[..., down].logsumexp(-1)).numpy()
    return out

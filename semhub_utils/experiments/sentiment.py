"""Does a vector made of two English words change the sentiment of what a model writes in another language?"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch.nn.functional import normalize

from semhub_utils.errors import SemhubError
from semhub_utils.evidence import (
    HOLDS,
    UNTESTABLE,
    WEAKLY,
    Evidence,
    evenly,
    evidence,
    judge,
    least_sign_flip_p,
    sign_flip_null,
    split_items,
    tidy,
)
from semhub_utils.experiments.continuations import MEASURED, Score, measure, word_mass, word_vector, write
from semhub_utils.experiments.core import DRAWS, Result, curve, readable
from semhub_utils.experiments.steered import AWAY, ENGLISH, MASS, PAPER, RANDOM, SHOWN, Steered, halved, mean, table
from semhub_utils.models import LanguageModel
from semhub_utils.spokes.sentiment import SentimentPrompt, SentimentTask, word_score

RANDOM_DIRECTIONS = 3
COEFFICIENTS = (-4.0, -2.0, 0.0, 2.0, 4.0)
PAPER_DEPTH, PAPER_COEFFICIENT = (
    17 / 32,
    2.0,
)  # shown beside the choice; and chosen where it lacks a token for its words
MAX_LAYERS_TRIED = 8
CHOOSING = 0.25  # share of the prompts on which layer and coefficient are chosen
DIRECTIONS, CONTINUED = 100, 10  # random directions, and how many of them are also continued in words
FEWEST = 8  # prompts: some to choose on and some to report on; or with a number under a random direction
# Fixed before the run: the English vector does at least this share of what the native one does; a token costs at most
# this many nats more (a quarter more perplexity); at least this share of the relevance is left.
AS_WELL, WORSE, RELEVANT = 0.75, math.log(1.25), 0.8


def moves(found: Evidence, text: str, what: str = "vector") -> str | None:
    """The precondition that the English vector, or `what` it is, moves the sentiment of `text` (such as "English
    text"): None where the verdict on `found` is that it does, if weakly; else the sentence that ends what rests on
    it."""
    verdict = judge(found).verdict
    if verdict in (HOLDS, WEAKLY):
        return None
    if verdict == UNTESTABLE:
        return f"whether the English {what} moves the sentiment of {text} cannot be told, and this rests on it."
    return f"the English {what} does not move the sentiment of {text}, so that there is nothing to compare."


def sentiment_experiment(
    model: LanguageModel,
    task: SentimentTask,
    *,
    score: Score | None = None,
    judged_by: LanguageModel | None = None,
    coefficients: Sequence[float] = COEFFICIENTS,
    n_seeds: int = 10,
    max_new_tokens: int = 32,
    seed: int = 0,
) -> Result:
    """Activation addition of the pleasant word minus the unpleasant one, from English and from the output language, at
    the prompt's first positions; `n_seeds` continuations per prompt and coefficient, sampled as in the paper. The two
    signs of a coefficient c give one number per prompt: half of what +c gives minus what -c gives ("half").

    Layer and c are chosen on a quarter of the prompts, by the mass under all vectors together; claims rest on the
    others. `sentiment-mass/<language>`: half of log P(pleasant words) - log P(unpleasant words) as the next token,
    minus the mean under DIRECTIONS random directions of equal norm; nulls: signs flipped per cluster, and each random
    direction in the vector's place. `sentiment/<language>`: half of the continuations' sentiment by `score` (None: the
    world's own words), minus the largest mean that one of CONTINUED random directions has over prompts with a number
    (FEWEST at least; without such a direction nothing is compared. They are too few for a null, and flipped signs know
    nothing of a direction that shifts all prompts alike); null: signs flipped. Controls of both: the vector
    added half the inner layers away, and the reversed vector alone. The pair's own words count in neither; the reading
    "all words" counts them. `native/<language>` and `native-mass/<language>`: half, minus AS_WELL times that of the
    native vector; control: random directions in the English vector's place. `fluency/<language>`: WORSE minus the rise
    of nats per token under `judged_by` (None: this model, unsteered), mean of +c and -c. `relevance/<language>`:
    relevance there minus RELEVANT times that without steering. Prompts without a number are dropped and counted.

    Table: `sentiment-choice` (layer x coefficient; null: flipped signs; control: the mean under RANDOM_DIRECTIONS of
    them), `sentiment-dose` (condition x measure x coefficient: the change against no steering; `level` is the mean
    itself, `seed_sd` its spread over seeds; the English vector also at the paper's layer and coefficient),
    `sentiment-difference` (half, English minus native), `sentiment-example` (what was written).
    `coefficients` hold 0, 2 and both signs of each. Raises SemhubError where fewer than FEWEST prompts fit into the
    model's context, or its tokenizer does not tell the two words apart, or a number is below 1.
    """
    for name, value in (("n_seeds", n_seeds), ("max_new_tokens", max_new_tokens)):
        if value < 1:
            raise SemhubError(f"{name} is {value}; a whole number from 1 would do.")
    coefficients = tuple(coefficients)
    prompts, dropped = fitting_prompts(model, task, max_new_tokens)
    parts = split_items(prompts, seed, clusters=[p.cluster for p in prompts], share=CHOOSING)
    vectors = {f"{name.title()} vector": word_vector(model, *pair) for name, pair in task.vectors.items()}
    mass = word_mass(model, task)
    english, inner = vectors[ENGLISH], model.n_layers - 1
    directions = torch.randn(DIRECTIONS, *english[0].shape, generator=torch.Generator().manual_seed(seed))
    directions = normalize(directions, dim=-1)

    def random(n: int, at: int) -> Float[torch.Tensor, "direction position hidden"]:
        """The first `n`, as long as the English vector at every position."""
        return directions[:n] * english[at].norm(dim=-1, keepdim=True)

    def half(at: int, c: float, *some: torch.Tensor) -> Float[np.ndarray, " item"]:
        """On the prompts for choosing, the mean over these vectors."""
        return mean(np.concatenate([halved(mass(parts[0], v, at, (-c, c))[..., 0]) for v in some], axis=1))

    tried, choice, tables = evenly(range(1, max(model.n_layers, 2)), MAX_LAYERS_TRIED), {}, []
    for c in (c for c in coefficients if c > 0):
        own = np.stack([half(at, c, *(v[None, at] for v in vectors.values())) for at in tried], axis=1)
        chance = np.stack([half(at, c, random(RANDOM_DIRECTIONS, at)) for at in tried], axis=1)
        choice |= {(at, c): value for at, value in zip(tried, own.mean(0).tolist(), strict=True)}
        by = [p.cluster for p in parts[0]]
        shown = curve(
            model, own, experiment="sentiment-choice", series=f"coefficient {c:g}", clusters=by, seed=seed,
            layers=tried, controls={RANDOM: chance}, null=sign_flip_null(own, clusters=by, draws=DRAWS, seed=seed),
        )  # fmt: skip
        tables.append(shown.assign(strength=c, language=task.language, measure=MASS))
    layer, c = max(choice, key=lambda key: (choice[key], -key[0], -key[1]))  # of equals the lowest and the weakest
    paper = max(round(PAPER_DEPTH * model.n_layers), 1)
    if not np.isfinite(list(choice.values())).all():
        layer, c = paper, PAPER_COEFFICIENT

    # At the last layer nothing that is added at another position reaches the next word: it would be no control.
    away = (layer - 1 + inner // 2) % inner + 1 if inner > 1 else model.n_layers
    drawn = random(DIRECTIONS, layer)
    pushed = {name: (v[None, layer], layer) for name, v in vectors.items()}
    pushed |= {AWAY: (english[None, layer], away), RANDOM: (drawn[:CONTINUED], layer)}
    pushed |= {PAPER: (english[None, paper], paper)}
    texts, values = {}, {}
    run = {name: coefficients if name in vectors else (-c, c) for name in pushed}
    run[PAPER] = (-PAPER_COEFFICIENT, PAPER_COEFFICIENT)
    for name, (v, at) in pushed.items():
        seeds = 1 if name == RANDOM else n_seeds
        texts[name] = write(model, parts[1], v, at, run[name], n_seeds=seeds, max_new_tokens=max_new_tokens, seed=seed)
        values[name, "mass"], values[name, "mass, all words"] = np.moveaxis(mass(parts[1], v, at, run[name]), -1, 0)
    measured = measure(model, judged_by or model, parts[1], texts, score or word_score(task.language), task.vectors)
    for name, numbers in measured.items():
        values |= {(name, what): numbers[..., k] for k, what in enumerate(MEASURED)}
    clusters = [p.cluster for p in parts[1]]
    found = Steered(model, task.language, clusters, run, layer, float(c), values, dropped, seed)
    claims = _claims(found, halved(mass(parts[1], drawn, layer, (-c, c))[..., 0]))
    return pd.concat([tidy(claims), *tables, table(found, parts[1], texts)], ignore_index=True), claims


def _claims(found: Steered, random_mass: Float[np.ndarray, "item direction"]) -> list[Evidence]:
    c = found.coefficient

    def claim(kind: str, scores: np.ndarray, reading: str = "", extra=(), unit: str = "", null: str = "", **controls):
        kept = np.isfinite(scores)
        clusters = [cluster for cluster, keep in zip(found.clusters, kept, strict=True) if keep]
        flips = np.empty((0, 1))
        if clusters:
            flips = sign_flip_null(scores[kept, None], clusters=clusters, draws=DRAWS, seed=found.seed)
        return evidence(
            f"{kind}/{found.language}",
            scores[:, None],
            [flips, *extra],
            layers=[found.layer],
            n_layers=found.model.n_layers,
            least_p=least_sign_flip_p(clusters),
            experiment=kind,
            series=found.language,
            reading=reading,
            clusters=found.clusters,
            dropped=found.dropped,
            controls={name: values[:, None] for name, values in controls.items() if np.isfinite(values).any()},
            unit=unit,
            null_in_words="signs flipped" + null,
            seed=found.seed,
        )

    def pushes(what: str, base: np.ndarray | float) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The score and its controls; `base` is what is taken off."""
        alone = found.at(ENGLISH, what, -c) - found.at(ENGLISH, what, 0.0)
        return found.half(ENGLISH, what) - base, {AWAY: found.half(AWAY, what) - base, "reversed": alone}

    others, each = mean(random_mass.T), found.halves("written")
    mass, mass_controls = pushes("mass", mean(random_mass))
    enough = np.isfinite(each).sum(0) >= FEWEST  # of a few prompts the mean may be anything
    written, written_controls = pushes("written", max(mean(each.T)[enough], default=math.nan))
    shown = SHOWN["written"][1]
    claims = [
        claim("sentiment", written, shown, unit="sentiment (−1 to 1)", **written_controls),
        claim("sentiment-mass", mass, shown, [(others - others.mean())[:, None]], unit="nats",
              null=", and random directions in its place", **mass_controls),
        claim("fluency", WORSE + found.at(ENGLISH, "nats", 0.0) - found.kept("nats"), unit="nats below the limit"),
        claim("relevance", found.kept("relevance") - RELEVANT * found.at(ENGLISH, "relevance", 0.0),
              unit="cosine above the limit"),
    ]  # fmt: skip
    for native in found.native:
        for kind, what, chance in (("native", "written", mean(each)), ("native-mass", "mass", mean(random_mass))):
            limit = AS_WELL * found.half(native, what)
            least, controls = found.half(ENGLISH, what) - limit, {RANDOM: chance - limit}
            claims.append(claim(kind, least, shown, unit="above the limit", **controls))
    return claims


def fitting_prompts(
    model: LanguageModel, task: SentimentTask, max_new_tokens: int
) -> tuple[list[SentimentPrompt], dict[str, int]]:
    """The prompts that fit into the context with what is written after them, and what was left out so far."""
    kept = readable(model, task.prompts, lambda prompt: model.anchor + prompt.prompt, room=max_new_tokens)
    if len(kept) < FEWEST:
        raise SemhubError(
            f"{len(kept)} of {len(task.prompts)} prompts of {task.language} fit with {max_new_tokens} new tokens into "
            f"the context of {model.model_id} ({model.max_length}); {FEWEST} prompts and fewer new tokens would do."
        )
    too_long = len(task.prompts) - len(kept)
    return kept, {**task.dropped, **({"longer than the context": too_long} if too_long else {})}

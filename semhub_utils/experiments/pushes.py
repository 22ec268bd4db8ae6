"""English words pushed into a sound: does the answer turn, in English and in other languages?"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from semhub_utils.errors import SemhubError
from semhub_utils.evidence import evenly, tidy
from semhub_utils.experiments.answers import NO_ANSWER
from semhub_utils.experiments.audio import BATCH
from semhub_utils.experiments.common import asked
from semhub_utils.experiments.core import Result, curve
from semhub_utils.experiments.pushed import ALIKE, AWAY, BLANK, CLASSES, OTHER, RANDOM, Pushed, claims_of, dose_curves
from semhub_utils.inputs import Encoding
from semhub_utils.lens import word_logprobs
from semhub_utils.models import LanguageModel, randomised
from semhub_utils.spokes.audio import KindItem
from semhub_utils.states import hidden_states, stream_states
from semhub_utils.steering import Edit, next_token_logprobs
from semhub_utils.tokens import TargetTable, target_table, word_forms

CHOOSING, MAX_LAYERS_TRIED, RANDOM_DIRECTIONS = 0.25, 8, 3
STRENGTHS = (0.5, 1.0, 2.0, 4.0)  # times the mean length of the states at the clip's frames
RELEASED = (0.0, *map(float, range(10, 101, 10)))  # times the difference of the rows as it is, as the authors' code
RELEASED_DEPTH = 13 / 32
FEW_ANIMALS = "too few animals of a class to choose on some and report on others"


def push_experiment(
    model: LanguageModel,
    items: Mapping[str, Sequence[KindItem]],
    *,
    by: str = "unembedding",
    strengths: Sequence[float] = STRENGTHS,
    layers: Sequence[int] | None = None,
    seed: int = 0,
    random_weights: bool = True,
) -> Result:
    """At the frames of an animal's sound, add s times the vector of another animal of the other class minus that of the
    present one. Does the share of the first answer ("mammal", "Yes") among the answers go down for mammals, and up for
    the others?

    by: "unembedding", a word's row, as in the paper; or "states", the state at the last token of the word alone, read
    at the layer it is added at. items: per language the same clips in one order. Layer and strength are chosen on a
    quarter of the animals of each class, in the first language, by the class that moves less; all else is reported on
    clips of the others. Where one class has too few animals for both, the claims are left without items.
    What is pushed is the same everywhere, English words. s is in lengths of the state: the difference is scaled to the
    mean length of the clip's states at that layer, in the first language's prompt.

    Per language three claims, `push-<by>/<language>` and, of one class each, `.../mammals` and `.../others`: the change
    of the share in the direction of the push, minus the larger of that under RANDOM_DIRECTIONS of equal length (their
    mean) and under the reversed vector, so that a push that makes the model give one answer, whatever it hears, scores
    nothing; against a null in which it is shuffled which of the animals are called mammals. Controls: the vector to
    another animal of the same class, the layer half the model away, and random weights. Animals whose row is asked for
    and that are several tokens are dropped and counted.

    Table, with `by`: `push-choice` (layer x strength, choosing part, the class that moves less; control: that class
    under the first of the random directions), `push-dose` (share of the first answer by class, strength and
    `condition`; of rows also "as released": RELEASED times the difference as it is, at RELEASED_DEPTH of the layers, in
    the first language).
    """
    first = next(iter(items))
    words = sorted({word for item in items[first] for word in (item.clip.label, item.other, item.alike)})
    if by not in BY:
        raise SemhubError(f"Vectors were asked for by {by!r}; {' or '.join(BY)} would do.")
    rows = BY[by](model, words) if words else {}
    kept = [n for n, i in enumerate(items[first]) if {i.clip.label, i.other, i.alike} <= set(rows)]
    dropped = {"no single token for an animal": len(items[first]) - len(kept)}
    dropped = {reason: count for reason, count in dropped.items() if count}
    tellable = {name: _answers(model, some) for name, some in items.items()}
    of = {name: [some[n] for n in kept] for name, some in items.items()}
    choose, report = _parts(of[first], seed)
    if not choose or tellable[first] is None:
        few = {FEW_ANIMALS: len(kept)} if kept else {}
        reason = dropped | few if tellable[first] or not items[first] else {NO_ANSWER: len(items[first])}
        claims = [claim for name in items for claim in claims_of(model, by, name, [], None, 1, 1.0, reason, seed)]
        blank = [
            curve(model, np.empty((0, 1)), layers=[1], experiment=f"push-{what}", series=whose)
            .assign(language=name, condition=OTHER, strength=float(s))
            for what in ("choice", "dose") for name in items for whose in CLASSES for s in strengths
        ]  # fmt: skip
        return pd.concat([tidy(claims), *blank], ignore_index=True).assign(by=by), claims
    last = max(model.n_layers - 1, 1)
    tried = evenly(range(1, last + 1), MAX_LAYERS_TRIED) if layers is None else list(layers)
    prompts = {name: model.encode([asked(model, i.asked.prompt) for i in of[name]]) for name in items if tellable[name]}
    blank = randomised(model, seed) if random_weights else None
    lengths = {one: _lengths(one, prompts[first]) for one in (model, blank) if one}

    def toward(to: str, rows: Mapping[str, Tensor]) -> Float[Tensor, "item layer hidden"]:
        return torch.stack([rows[getattr(i, to)] - rows[i.clip.label] for i in of[first]])

    def shares(
        name: str, some: Sequence[int], layer: int, vector: Tensor, s: Sequence[float], raw=False, reader=model
    ) -> Float[np.ndarray, "item strength"]:
        """Share of the first answer."""
        words, chosen, v = tellable[name], [prompts[name][n] for n in some], vector[some, layer]
        v = v if raw else normalize(v, dim=-1) * lengths[reader][some, layer][:, None]
        edit = Edit((layer,), v, positions=[encoding.frames for encoding in chosen])
        said = word_logprobs(next_token_logprobs(reader, chosen, words.ids, edit=edit, strengths=s), words.groups)
        return said.double().softmax(-1)[..., 0].numpy()

    vectors = {OTHER: toward("other", rows), ALIKE: toward("alike", rows)}
    if blank:
        vectors[BLANK] = toward("other", BY[by](blank, words))

    turn = np.array([-1.0 if item.clip.is_mammal else 1.0 for item in of[first]])
    noise = torch.randn(RANDOM_DIRECTIONS, 1, 1, model.hidden_size, generator=torch.Generator().manual_seed(seed))
    noise = noise.expand(-1, len(kept), model.n_layers + 1, -1)
    choice, chosen_by = {}, []
    sides = [some for side in (-1, 1) if (some := np.flatnonzero(turn[choose] == side)).size]
    for layer in tried:
        found = [shares(first, choose, layer, v, (0.0, *strengths)) for v in (vectors[OTHER], noise[0])]
        moved, chance = (turn[choose][:, None] * (some[:, 1:] - some[:, :1]) for some in found)
        choice[layer] = np.min([moved[side].mean(0) for side in sides], axis=0)
        for k, s in enumerate(strengths):
            less = min(sides, key=lambda side, k=k, moved=moved: moved[side, k].mean())
            cell = curve(
                model, moved[less, k, None], experiment="push-choice", series=first, layers=[layer], seed=seed,
                clusters=[of[first][choose[n]].clip.label for n in less], controls={RANDOM: chance[less, k, None]},
            )  # fmt: skip
            chosen_by.append(cell.assign(strength=float(s)))
    layer = max(tried, key=lambda candidate: choice[candidate].max())  # the first of equals: the lowest
    strength = float(strengths[int(choice[layer].argmax())])
    away = (layer + model.n_layers // 2 - 1) % model.n_layers + 1

    def measured(name: str) -> Pushed:
        """All strengths in the first language, the chosen one in the others, where the dose is of OTHER alone."""
        up = tuple(map(float, strengths))
        some = up if name == first else (strength,)
        used = {OTHER: (*(-s for s in up[::-1]), 0.0, *up), ALIKE: (*(-s for s in some[::-1]), *some)}
        used |= {AWAY: some, RANDOM: some, BLANK: (-strength, 0.0, strength)}
        found = {k: shares(name, report, layer, vectors[k], used[k]) for k in (OTHER, ALIKE)}
        found[AWAY] = shares(name, report, away, vectors[OTHER], some)
        found[RANDOM] = np.mean([shares(name, report, layer, d, some) for d in noise], axis=0)
        if blank:
            found[BLANK] = shares(name, report, layer, vectors[BLANK], used[BLANK], reader=blank)
        return Pushed(found, used)

    claims, doses = [], []
    for name in items:
        chosen = [of[name][n] for n in report]
        if tellable[name] is None:
            claims += claims_of(model, by, name, [], None, layer, strength, {NO_ANSWER: len(items[name])}, seed)
            continue
        found = measured(name)
        claims += claims_of(model, by, name, chosen, found, layer, strength, dropped, seed)
        doses += dose_curves(model, name, chosen, found, layer, seed)
    if by == "unembedding":
        at = max(1, round(RELEASED_DEPTH * model.n_layers))
        released = Pushed({OTHER: shares(first, report, at, vectors[OTHER], RELEASED, raw=True)}, {OTHER: RELEASED})
        rows = dose_curves(model, first, [of[first][n] for n in report], released, at, seed)
        doses += [row.assign(condition="as released", reading="as released") for row in rows]
    return pd.concat([tidy(claims), *chosen_by, *doses], ignore_index=True).assign(by=by), claims


def _parts(items: Sequence[KindItem], seed: int) -> tuple[list[int], list[int]]:
    """Numbers of the items to choose on and to report on, which share no animal: of each class a quarter of the
    animals, one at least, and the rest. Both are empty where a class has too few."""
    rng, chosen = np.random.default_rng(seed), set()
    for mammal in CLASSES.values():
        animals = sorted({item.clip.label for item in items if item.clip.is_mammal == mammal})
        chosen |= {*rng.permutation(animals)[: max(1, int(len(animals) * CHOOSING))].tolist()}
    place = [(item.clip.label in chosen, item.clip.is_mammal) for item in items]
    if len(set(place)) < 4:
        return [], []
    return [n for n, (own, _) in enumerate(place) if own], [n for n, (own, _) in enumerate(place) if not own]


def _answers(model: LanguageModel, items: Sequence[KindItem]) -> TargetTable | None:
    """The first tokens of the answers, which all items share; None where two cannot be told apart, or without items."""
    if not items:
        return None
    words = target_table(model, items[0].answers, asked(model, items[0].asked.prompt).text)
    return words if words and words.words == items[0].answers else None


def _unembedding_rows(model: LanguageModel, words: Sequence[str]) -> dict[str, Float[Tensor, "layer hidden"]]:
    """Of words that are one token, the mean of their forms with and without a space; at every layer the same."""
    found = {form.word: form.unembedding_row(model) for form in word_forms(model, words)}
    return {word: row.expand(model.n_layers + 1, -1) for word, row in found.items() if row is not None}


def _word_states(model: LanguageModel, words: Sequence[str]) -> dict[str, Float[Tensor, "layer hidden"]]:
    """The state at the last token of each word alone, behind the model's `anchor`."""
    return dict(zip(words, hidden_states(model, [model.anchor + word for word in words]).hidden, strict=True))


BY = {"unembedding": _unembedding_rows, "states": _word_states}


def _lengths(model: LanguageModel, prompts: Sequence[Encoding]) -> Float[Tensor, "item layer"]:
    """The mean length of a clip's states at its frames."""
    frames = [encoding.frames for encoding in prompts]
    total = torch.zeros(len(prompts), model.n_layers + 1)
    for states in stream_states(model, prompts, positions=frames, max_batch_tokens=BATCH):
        total.index_add_(0, states.item, states.hidden.norm(dim=-1))
    return total / torch.tensor([len(places) for places in frames])[:, None]

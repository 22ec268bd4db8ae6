"""Does a vector made of the hub's words change what the model writes in another type?"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from semhub_utils.errors import SemhubError
from semhub_utils.evidence import bootstrap_interval, evenly, evidence, sign_flip_null, split_items, tidy
from semhub_utils.experiments.continuations import CPU_TOKENS
from semhub_utils.experiments.core import DRAWS, Result, curve
from semhub_utils.models import LanguageModel
from semhub_utils.shuffles import least_sign_flip_p
from semhub_utils.spokes.items import SteerItem
from semhub_utils.states import hidden_states
from semhub_utils.steering import Edit, generate

STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
MAX_LAYERS_TRIED = 8
RANDOM_DIRECTIONS = 3
DIRECTIONS = 100  # where one vector serves all items: as many in its place, so that p can fall below .01
CHOOSING = 0.25  # share of the clusters on which layer and strength are chosen; the claim rests on the others


def says(continuation: str, expected: str) -> bool:
    """Whether a continuation begins with `expected`, spaces aside, and does not run on within the same word."""
    text, start = "".join(continuation.split()), "".join(expected.split())
    rest = continuation.lstrip()[len(expected) :] if continuation.lstrip().startswith(expected) else text[len(start) :]
    return text.startswith(start) and not (rest[:1].isalnum() and rest[:1].isascii())


def steering_experiment(
    model: LanguageModel,
    items: Sequence[SteerItem],
    *,
    series: str,
    strengths: Sequence[float] = STRENGTHS,
    max_new_tokens: int = 4,
    seed: int = 0,
    vector: Float[Tensor, "layer hidden"] | None = None,
    layers: Sequence[int] | None = None,
    reading: str = "corrected",
    match: Callable[[str, str], bool] = says,
    dropped: Mapping[str, int] | None = None,
) -> Result:
    """Does a vector made of hub texts, `toward` minus `away`, added at the last token, make the model say `expected`?

    Layer and strength are chosen on a quarter of the clusters and reported on the others. Claim `steering/<series>`:
    share of expected continuations minus the larger of two: that under a random direction of equal norm (the mean over
    RANDOM_DIRECTIONS of them, each the same for all items), and that of continuations which other items expect (a push
    that makes the model say one thing, whatever it reads, is right now and then); null: signs flipped per cluster.
    Controls, minus the former: the reversed vector, and the vector of the chosen layer added half the model away. The
    reading "as released" adds one block after the layer the vector was read at, as the authors' code does; "corrected"
    adds where it was read. Table: `steering-choice` (layer x strength, choosing part; its control is the first of the
    random directions), `steering-dose` (strength x outcome x condition, reporting part).

    vector: one for all items, by layer, in place of the texts' (there is no block it was read at then, so one reading
    alone, called `reading`). Items are then no samples of vectors, and some direction turns all of them alike: a second
    null puts each of DIRECTIONS random ones in the vector's place, at the layer and strength chosen for it, and their
    mean is what is taken off. layers: those to choose from. match: whether a continuation is as expected, or as before.
    dropped: what was left out before, by reason.
    """
    ids = [item.id for item in items]
    choose, report = split_items(ids, seed, clusters=[item.cluster for item in items], share=CHOOSING)
    parts = [[item for item in items if item.id in set(part)] for part in (choose, report)]
    if not all(parts):
        raise SemhubError(f"{len(items)} items of {series} cannot be split in two parts; more items would do.")
    last = max(model.n_layers - 1, 1)
    tried = evenly(range(1, last + 1), MAX_LAYERS_TRIED) if layers is None else list(layers)
    vectors = {
        name: _difference(model, part) if vector is None else vector.float().expand(len(part), -1, -1)
        for name, part in zip(("choose", "report"), parts, strict=True)
    }

    def outcomes(
        part: str,
        read: int,
        add: int,
        turns: Sequence[Callable[[Tensor], Tensor]] = (lambda vector: vector,),
        strengths: Sequence[float] = strengths,
    ) -> Float[np.ndarray, "turn item strength outcome"]:
        """Expected, unchanged, other, which add up to 1; and last, the share of the other answers asked of this part
        that it gives instead; under the vector as each of `turns` makes it."""
        chosen, own = parts[part == "report"] * len(turns), vectors[part][:, read]
        edit = Edit(layers=(int(add),), vector=torch.cat([turn(own) for turn in turns]))
        texts = generate(
            model, [item.prompt for item in chosen], max_new_tokens=max_new_tokens, edit=edit, strengths=strengths,
            max_batch_tokens=CPU_TOKENS if model.device.type == "cpu" else None,
        )  # fmt: skip
        asked = Counter(item.expected for item in chosen)

        def judged(text: str, item: SteerItem) -> tuple[float, ...]:
            expected, original = match(text, item.expected), match(text, item.original)
            others = sum(n for answer, n in asked.items() if answer != item.expected and match(text, answer))
            unchanged = original and not expected
            rate = others / max(len(chosen) - asked[item.expected], 1)
            return float(expected), float(unchanged), float(not (expected or unchanged)), rate

        found = np.array([[judged(t, i) for t in row] for row, i in zip(texts, chosen, strict=True)], float)
        return found.reshape(len(turns), -1, *found.shape[1:])

    drawn = RANDOM_DIRECTIONS if vector is None else DIRECTIONS
    directions = normalize(torch.randn(drawn, model.hidden_size, generator=torch.Generator().manual_seed(seed)), dim=-1)
    turns = [lambda v, d=d: v.norm(dim=-1, keepdim=True) * d for d in directions]
    choosing, chance = (
        np.stack([outcomes("choose", at, at, *turn)[0, :, :, 0] for at in tried], axis=2) for turn in ((), (turns[:1],))
    )  # item strength layer
    choice = dict(zip(tried, choosing.mean(0).T, strict=True))
    # The first of equals: the lowest layer and the weakest push that do it.
    pushes = np.flatnonzero(np.asarray(strengths) > 0)
    layer = max(tried, key=lambda candidate: choice[candidate][pushes].max())
    strength = int(pushes[choice[layer][pushes].argmax()])
    clusters = [item.cluster for item in parts[1]]
    pushed = outcomes("report", layer, layer, turns[:RANDOM_DIRECTIONS])
    away = (layer + model.n_layers // 2 - 1) % model.n_layers + 1
    conditions = {(reading, "steered"): outcomes("report", layer, layer)[0]}
    if vector is None:
        conditions["as released", "steered"] = outcomes("report", layer, min(layer + 1, model.n_layers))[0]
        by_chance = pushed[:, :, strength]
    else:
        by_chance = outcomes("report", layer, layer, turns, [strengths[strength]])[:, :, 0]
    conditions |= {
        (reading, "random direction"): pushed.mean(0),
        (reading, "reversed"): outcomes("report", layer, layer, [torch.neg])[0],
        (reading, "wrong layer"): outcomes("report", layer, away)[0],
    }
    baseline = by_chance.mean(0)[:, :1]
    above = {key: value[:, strength, :1] - baseline for key, value in conditions.items()}

    def score(hits: Float[np.ndarray, "*turn item outcome"]) -> Float[np.ndarray, "*turn item 1"]:
        return np.minimum(hits[..., :1] - baseline, hits[..., :1] - hits[..., 3:])

    scores = {how: score(hits[:, strength]) for (how, kind), hits in conditions.items() if kind == "steered"}
    in_its_place = [] if vector is None else [score(by_chance).mean(1)]
    claims = [
        evidence(
            f"steering/{series}" + ("" if how == "corrected" else f"/{how}"), scores[how],
            [sign_flip_null(scores[how], clusters=clusters, draws=DRAWS, seed=seed), *in_its_place],
            null_in_words="signs flipped" + ", and random directions in its place" * len(in_its_place),
            least_p=least_sign_flip_p(clusters), layers=[layer], n_layers=model.n_layers, experiment="steering",
            series=series, reading=how, clusters=clusters, outcome=True, dropped=dropped, seed=seed,
            controls={name: above[reading, name] for name in ("reversed", "wrong layer")},
        )
        for how in scores
    ]  # fmt: skip

    def rows(experiment: str, of: str, how: str, at: int, values: np.ndarray, n: int, **more) -> pd.DataFrame:
        place = {"experiment": experiment, "series": of, "reading": how, "layer": at, "depth": model.depth(at)}
        return pd.DataFrame(place | {"strength": list(strengths), "value": values, "n": n} | more)

    shown = {"experiment": "steering-choice", "series": series, "reading": reading, "layers": tried, "seed": seed}
    shown["clusters"] = [item.cluster for item in parts[0]]
    tables = [
        curve(model, choosing[:, k], controls={"random direction": chance[:, k]}, **shown).assign(strength=s)
        for k, s in enumerate(strengths)
    ]
    for (how, condition), hits in conditions.items():
        for k, outcome in enumerate(("expected", "unchanged", "other")):
            low, high = bootstrap_interval(hits[:, :, k], clusters=clusters, seed=seed)
            more = {"condition": condition, "low": low, "high": high}
            tables.append(rows("steering-dose", outcome, how, layer, hits[:, :, k].mean(0), len(hits), **more))
    return pd.concat([tidy(claims), *tables], ignore_index=True), claims


def _difference(model: LanguageModel, items: Sequence[SteerItem]) -> Float[Tensor, "item layer hidden"]:
    """`toward` minus `away` at the last token, layer by layer."""
    toward, away = (hidden_states(model, [getattr(item, side) for item in items]).hidden for side in ("toward", "away"))
    return toward - away

"""Does the English word "start" make a model that writes `range(n)` write where the range starts?"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from torch.nn.functional import normalize

from semhub_utils.evidence import MIN_ITEMS, evidence, tidy
from semhub_utils.experiments.core import Result, curve
from semhub_utils.experiments.steering import steering_experiment
from semhub_utils.experiments.unsaid import sites
from semhub_utils.models import LanguageModel
from semhub_utils.spokes.code import Place, calls_range, only_argument, steering_item
from semhub_utils.states import hidden_states
from semhub_utils.steering import generate
from semhub_utils.tokens import word_forms

STRENGTHS = (0.0, 0.25, 0.5, 1.0, 2.0)  # in lengths of the mean state of the layer
RELEASED_DEPTH = 17 / 32
RELEASED_STRENGTHS = (0.0, 10.0, 20.0, 40.0, 80.0)  # in lengths of the vector, as the paper gives them
LONGEST_ARGUMENT = 8  # tokens
CONDITIONS = ("steered", "random direction", "reversed", "wrong layer")


def range_experiment(
    model: LanguageModel,
    places: Sequence[Place],
    *,
    expected: str = "0, n",
    series: str = "range",
    as_released: bool = True,
    seed: int = 0,
    dropped: Mapping[str, int] | None = None,
) -> Result:
    """Does "start" minus "end" make a model that writes `range(n)` write `range(0, n)`?

    The prompts end in `range(`; kept are those after which the model, left alone, writes one argument. The difference
    of the unembedding rows of the two English words is added at the last token. "corrected": strengths in lengths of
    the layer's mean state, layer and strength chosen on other programs. "as released": the paper's layer (17 of 32) and
    its strengths, in lengths of the vector itself. Both are `steering_experiment`; the table gives `strength` in
    lengths of the state and `raw` in lengths of the vector, and `range-task`: 1 where one argument was written.
    expected: the new call, or "k, n" for any start. as_released: whether that reading is run too.
    """
    found, lost = sites(model, places, ahead=False)
    dropped = {**(dropped or {}), **lost}
    prompts, room = [], (model.max_length or math.inf) - LONGEST_ARGUMENT
    for site, encoding in zip(found, model.encode([site.prompt for site in found]), strict=True):
        prompts += [site.prompt] if len(encoding) <= room else []
    cluster = {site.prompt: site.place.program for site in found}
    if len(prompts) < len(found):
        dropped["no room for a continuation in the model's context"] = len(found) - len(prompts)
    written = [row[0] for row in generate(model, prompts, max_new_tokens=LONGEST_ARGUMENT)] if prompts else []
    alone = [only_argument(text) for text in written]
    items = [
        steering_item(prompt, argument, cluster[prompt], expected=expected)
        for prompt, argument in zip(prompts, alone, strict=True)
        if argument
    ]
    task = pd.DataFrame({"experiment": "range-task", "series": series, "value": [float(a is not None) for a in alone]})
    task["item"] = [f"{cluster[prompt]}, character {len(prompt)}" for prompt in prompts]
    if len(items) < len(prompts):
        dropped["the model writes something else than one argument"] = len(prompts) - len(items)
    context = prompts[0] if prompts else ""
    start, end = (form.unembedding_row(model) for form in word_forms(model, ("start", "end"), context))
    released = max(1, round(RELEASED_DEPTH * model.n_layers))
    if (few := len({item.cluster for item in items}) < MIN_ITEMS) or start is None or end is None:
        why = f"fewer than {MIN_ITEMS} programs are left" if few else "start or end is not one token"
        if items:
            dropped[why] = len(items)
        return _no_range(model, task, dropped, series, released if as_released else None)
    vector, norms = start - end, hidden_states(model, [item.prompt for item in items]).hidden.norm(dim=-1).mean(0)
    ways = {
        "corrected": (normalize(vector, dim=-1) * norms[:, None], STRENGTHS, None),
        "as released": (vector.expand(len(norms), -1), RELEASED_STRENGTHS, [released]),
    }
    if not as_released:
        del ways["as released"]
    tables, claims = [task], []
    for reading, (by_layer, strengths, layers) in ways.items():
        table, [claim] = steering_experiment(
            model, items, series=series, strengths=strengths, max_new_tokens=LONGEST_ARGUMENT, seed=seed,
            vector=by_layer, layers=layers, reading=reading, match=calls_range, dropped=dropped,
        )  # fmt: skip
        in_states = table.layer.map(dict(enumerate((vector.norm() / norms).tolist())))  # the vector's length
        raw, strength = table.strength, table.strength
        if reading == "corrected":
            raw = strength / in_states
        else:
            strength = raw * in_states
        tables.append(table.assign(raw=raw, strength=strength))
        claims.append(claim)
    return pd.concat(tables, ignore_index=True), claims


def _no_range(
    model: LanguageModel, task: pd.DataFrame, dropped: dict[str, int], series: str, released: int | None
) -> Result:
    """The claims without an item, and curves without a number."""
    readings = [("corrected", "", 1, STRENGTHS)]
    if released:
        readings.append(("as released", "/as released", released, RELEASED_STRENGTHS))
    empty = np.empty((0, 1))
    claims = [
        evidence(
            f"steering/{series}{suffix}", empty, empty, layers=[layer], n_layers=model.n_layers,
            experiment="steering", series=series, reading=reading, dropped=dropped, outcome=True,
        )
        for reading, suffix, layer, _ in readings
    ]  # fmt: skip
    rows = [
        curve(model, empty, layers=[layer], experiment=experiment, series=outcome, reading=reading)
        .assign(condition=condition, strength=s, raw=s)
        for reading, _, layer, strengths in readings
        for experiment, outcomes, conditions in (
            ("steering-choice", (series,), CONDITIONS[:1]),
            ("steering-dose", ("expected", "unchanged", "other"), CONDITIONS),
        )
        for condition in conditions for outcome in outcomes for s in strengths
    ]  # fmt: skip
    return pd.concat([tidy(claims), task, *rows], ignore_index=True), claims

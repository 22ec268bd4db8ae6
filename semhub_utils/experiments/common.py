"""What all experiments share: the number of random draws, a curve by layer with its interval, and asking."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from semhub_utils.errors import SemhubError
from semhub_utils.evidence import Evidence, bootstrap_interval, corrected_bound
from semhub_utils.inputs import Input, Prompt
from semhub_utils.models import LanguageModel
from semhub_utils.organism.corpus import IMAGE, SOUND
from semhub_utils.spokes.files import Skipped, some
from semhub_utils.spokes.items import LensItem, PatchItem, RecolourItem

Result = tuple[pd.DataFrame, list[Evidence]]
DRAWS = 1000
FEW_DRAWS = 200  # for the dotted lines of curves that no claim rests on


def curve(
    model: LanguageModel,
    values: Float[np.ndarray, "item layer"],
    *,
    experiment: str,
    series: str,
    reading: str = "",
    clusters: Sequence | None = None,
    dropped: int = 0,
    seed: int = 0,
    controls: Mapping[str, Float[np.ndarray, "_ layer"]] | None = None,
    null: Float[np.ndarray, "draw layer"] | Sequence[Float[np.ndarray, "_ layer"]] | None = None,
    layers: Sequence[int] | None = None,
) -> pd.DataFrame:
    """A tidy curve by layer with its interval over items (none for one row); items without a number are left out.

    Where none is left the curve stands there with n = 0 and no numbers. `controls`: the same where nothing should show,
    of the same items, as curves with `control` their name. `null`: draws of the mean over all items, whose 95th
    percentile, corrected for the layers between first and last, stands in `null_high`; of several the highest.
    `layers`: those of the columns, where they are not all.
    """
    seen = np.isfinite(values).all(1)
    values = values[seen]
    kept = None if clusters is None else [c for c, keep in zip(clusters, seen, strict=True) if keep]
    low, high = (
        bootstrap_interval(values, clusters=kept, seed=seed)
        if len(values) > 1
        else (np.full(values.shape[1], np.nan),) * 2
    )
    layers = np.arange(values.shape[1]) if layers is None else np.asarray(layers)
    mean = values.mean(0) if len(values) else np.full(len(layers), np.nan)
    same = {"experiment": experiment, "series": series, "reading": reading}
    table = pd.DataFrame(
        same
        | {"layer": layers, "depth": layers / model.n_layers, "value": mean, "low": low, "high": high}
        | {"n": len(values), "dropped": dropped + int((~seen).sum())}
    )
    inner = (layers > 0) & (layers < model.n_layers)
    nulls = null if isinstance(null, list | tuple) else [] if null is None else [null]
    nulls = [some[np.isfinite(some).all(1)] for some in nulls]  # a draw in which every item sat out says nothing
    if any(map(len, nulls)) and len(values) and inner.any():
        table["null_high"] = np.nan
        bounds = [corrected_bound(mean[inner], some[:, inner]) for some in nulls]
        table.loc[inner, "null_high"] = np.max(bounds, axis=0)
    same |= {"clusters": clusters, "dropped": dropped, "seed": seed, "layers": layers.tolist()}
    others = [curve(model, of, **same).assign(control=name) for name, of in (controls or {}).items()]
    return pd.concat([table, *others], ignore_index=True) if others else table


def task_rows(
    series: str, items: Sequence[LensItem | PatchItem | RecolourItem], right: Sequence | np.ndarray
) -> pd.DataFrame:
    """Whether, or to which share, each item is done right: the rows `task-<series>`, for `Chapter.knows`."""
    of_item = {"series": [item.id for item in items], "cluster": [item.cluster for item in items]}
    return pd.DataFrame({"experiment": f"task-{series}", **of_item, "value": np.array(right, float), "n": 1})


def text_of(prompt: str | Input) -> str:
    """What a word stands behind; its tokens do not depend on the name of a placeholder before it."""
    return prompt.text if isinstance(prompt, Input) else prompt


def readable(model: LanguageModel, items: Sequence, skipped: Skipped, prompt: Callable[[Any], Prompt]) -> list:
    """The items whose prompt, such as `seen.alone` of a picture, the model's own processor takes; the others, by their
    `id`, are counted in `skipped`. Raises SemhubError if none is left."""
    kept = []
    for item in items:
        try:
            model.encode([prompt(item)])
        except SemhubError as error:
            why = str(error).removeprefix("Prompt 0 ").partition(";")[0]
            skipped.add("not taken by the model", f"{item.id} {why}")
        else:
            kept.append(item)
    return some(kept, "The set", "items", skipped)


def asked(model: LanguageModel, prompt: str | Input | None) -> str | Input | None:
    """A prompt as this model takes it. Where a text has the spokes' SLOT, the model's own placeholder; where it has
    none, it is a plain question and becomes a turn of the model's chat template, if that has one, and what stands
    behind a line break is the beginning of the answer. Raises SemhubError where the model does not take the medium."""
    if not isinstance(prompt, Input) or not (prompt.images or prompt.sounds):
        return prompt
    slot, medium = (IMAGE, "image") if prompt.images else (SOUND, "sound")
    mark = model.placeholder(medium)
    if slot in prompt.text:
        return replace(prompt, text=prompt.text.replace(slot, mark))
    question, _, answer = prompt.text.partition("\n")
    try:
        turn = model.chat(replace(prompt, text=question))
    except SemhubError:  # no template
        return replace(prompt, text=prompt.text.replace("\n", " "))
    space = "" if turn.text[-1:].isspace() else " "
    return replace(turn, text=f"{turn.text}{space}{answer}") if answer else turn

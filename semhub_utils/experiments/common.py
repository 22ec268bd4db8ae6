"""What all experiments share: the number of random draws, a curve by layer with its interval, and asking."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from semhub_utils.errors import SemhubError
from semhub_utils.experiments.core import Result
from semhub_utils.inputs import Input, Prompt
from semhub_utils.lens import available_readings, reading_of
from semhub_utils.models import LanguageModel
from semhub_utils.organism.asking import IMAGE, SOUND
from semhub_utils.spokes.files import Skipped, some
from semhub_utils.spokes.items import LensItem, PatchItem, RecolourItem


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
    """The items whose prompt, such as `vision.alone` of a picture, the model's own processor takes; the others, by
    their `id`, are counted in `skipped`. Raises SemhubError if none is left."""
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


def both_readings(experiment: Callable[..., Result], model: LanguageModel, *args, **options) -> Result:
    """An experiment with every reading the model has, normed, raw and tuned: one table, the normed reading's evidence
    first, on which claims rest.

    The tuned one goes without the control of random weights: other weights would need translators of their own.
    """
    found = []
    for reading in available_readings(model):
        own = {"reading": reading} | options
        takes = inspect.signature(experiment).parameters
        if not reading_of(model, reading).random_weights and "random_weights" in takes:
            own["random_weights"] = False
        found.append(experiment(model, *args, **own))
    return pd.concat([table for table, _ in found], ignore_index=True), [claim for _, some in found for claim in some]

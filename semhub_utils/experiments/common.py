"""An experiment with every reading, for those that are not declared yet."""

import inspect
from collections.abc import Callable

import pandas as pd

from semhub_utils.experiments.core import Result
from semhub_utils.lens import available_readings
from semhub_utils.models import LanguageModel


def both_readings(experiment: Callable[..., Result], model: LanguageModel, *args, **options) -> Result:
    """An experiment with every reading the model has, normed, raw and tuned: one table, the normed reading's evidence
    first, on which claims rest.

    The tuned one goes without the control of random weights: other weights would need translators of their own.
    """
    found = []
    for reading in available_readings(model):
        own = {"reading": reading} | options
        if reading == "tuned" and "random_weights" in inspect.signature(experiment).parameters:
            own["random_weights"] = False
        found.append(experiment(model, *args, **own))
    return pd.concat([table for table, _ in found], ignore_index=True), [claim for _, some in found for claim in some]

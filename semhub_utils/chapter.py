"""What a chapter's notebook starts with: its parameters checked, its model loaded, its results open."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from semhub_utils import figures
from semhub_utils.cards import Html, claim_card
from semhub_utils.evidence import Evidence
from semhub_utils.models import LanguageModel, load_model
from semhub_utils.results import Run, check_parameters


class Chapter:
    """A chapter under way on one model. `figures` shows what `step` computed; `claim` judges it and shows the card."""

    def __init__(self, run: Run, model: LanguageModel):
        self.run, self.model = run, model

    def step(self, name: str, function) -> pd.DataFrame:
        """The table that `function` computes, or computed in an earlier run with the same parameters and model."""
        return self.run.step(name, function)

    def evidence(self, claim: str) -> Evidence:
        """The evidence that a step left for a claim, such as "similarity/digits"."""
        return next(e for found in self.run.evidence.values() for e in found if e.claim == claim)

    def claim(self, claim: str, sentence: str, *, paper: str, precondition: str | None = None) -> Html:
        """Judge a claim by the rules of `evidence`; show its card. paper: what the paper says; sentence: our claim."""
        return claim_card(self.run.claim(self.evidence(claim), sentence, precondition=precondition), paper)

    def finish(self) -> Html:
        """Write table and claims, and show every verdict of the chapter in one table."""
        self.run.finish()
        return figures.verdict_table(self.run.claims)


def begin(chapter: str, *, results_dir: str, **parameters: Any) -> Chapter:
    """Check the parameters, load the model, open its results. Raises SemhubError naming what will not do."""
    extra = [
        name
        for name in parameters
        if name not in ("model_id", "revision", "device", "dtype", "n_items", "seed", "data_dir")
    ]
    checked: Mapping[str, Any] = check_parameters(extra, results_dir=results_dir, **parameters)
    model = load_model(
        checked["model_id"], revision=checked["revision"], device=checked["device"], dtype=checked["dtype"]
    )
    return Chapter(Run(chapter, model, checked, results_dir), model)

"""What a chapter's notebook starts with: its parameters checked, its model loaded, its results open."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import pandas as pd

from semhub_utils.cards import Html, claim_card, verdict_table
from semhub_utils.errors import SemhubError
from semhub_utils.evidence import Evidence, knows_task
from semhub_utils.loading import load_model
from semhub_utils.models import LanguageModel
from semhub_utils.results import PARAMETERS, Run, StepResult, check_parameters


class Chapter:
    """A chapter under way on one model: `step` computes and keeps, `claim` judges and shows, `finish` writes."""

    def __init__(self, run: Run, model: LanguageModel):
        self.run, self.model = run, model

    def step(self, name: str, function: Callable[[], StepResult]) -> pd.DataFrame:
        """The table that `function` computes, or computed in an earlier run with the same parameters and model."""
        return self.run.step(name, function)

    def each(
        self, name: str, names: Iterable[str], function: Callable[[str], StepResult], column: str = ""
    ) -> pd.DataFrame:
        """A step for each of `names`, called "name one"; their tables one below the other. column: where it says whose
        a row is, besides data_type."""
        told = ["data_type", *filter(None, [column])]
        tables = [self.run.step(f"{name} {one}", partial(function, one), dict.fromkeys(told, one)) for one in names]
        return pd.concat(tables, ignore_index=True)

    def evidence(self, claim: str) -> Evidence:
        """The evidence that a step left for a claim, such as "similarity/digits", in the reading it rests on."""
        return self._readings(claim)[0]

    def knows(self, tasks: pd.DataFrame, task: str, chance: float = 0.0) -> str | None:
        """Whether the model did what `experiments.task_table` asked: None, or the sentence that ends a claim."""
        options = {"chance": chance, "clusters": tasks.cluster.to_list(), "seed": self.run.parameters["seed"]}
        return knows_task(tasks.value.to_numpy(float), task=task, **options)

    def follows(self, patches: pd.DataFrame, series: str, task: str, own: str) -> str | None:
        """Whether a patch into a picture or a sound has something to show (`patch_experiment`): the run does
        its `task` by itself, and `own`, follows a state of its own type. None, or the sentence that ends a claim."""
        rows = (patches[patches.experiment == f"task-{series}{whose}"] for whose in ("", ", own type"))
        found = [self.knows(some, what) for some, what in zip(rows, (task, own), strict=True)]
        return found[0] or found[1]

    def claim(self, claim: str, sentence: str, *, paper: str, precondition: str | None = None) -> Html:
        """Judge a claim by the rules of `evidence`; show its card, with what other readings say beside the one fixed
        before. paper: what the paper says; sentence: our claim."""
        first, *others = self._readings(claim)
        return claim_card(self.run.claim(first, sentence, precondition=precondition, others=others), paper)

    def claims(
        self,
        claim: str,
        sentences: Mapping[str, str],
        *,
        paper: str,
        precondition: str | None | Mapping[str, str | None] = None,
    ) -> Html:
        """The claim of each of several series, series to sentence, of which the paper says one thing; one card below
        the other. precondition: of all, or by series."""
        needed = precondition if isinstance(precondition, Mapping) else dict.fromkeys(sentences, precondition)
        cards = [
            self.claim(f"{claim}/{series}", sentence, paper=paper, precondition=needed[series])
            for series, sentence in sentences.items()
        ]
        return Html("".join(card.html for card in cards), "\n".join(card.text for card in cards))

    def _readings(self, claim: str) -> list[Evidence]:
        return [e for found in self.run.evidence.values() for e in found if e.claim == claim]

    def finish(self) -> Html:
        """Write table and claims, and show every verdict of the chapter in one table."""
        self.run.finish()
        return verdict_table(self.run.claims)


SHIPPED = {"image": "organism:hub-sees", "sound": "organism:hub-hears"}


def begin(chapter: str, given: Mapping[str, Any], *more: str, needs: str = "text") -> Chapter:
    """Check the parameters, load the model, open its results. Raises SemhubError naming what will not do.

    Parameters stand in `given`, such as a notebook's `globals()`: those that every chapter takes and, by name, `more`.
    needs: what the model has to read besides text, "image" or "sound".
    """
    parameters = {name: given[name] for name in (*PARAMETERS, *more) if name in given}
    extra = [name for name in parameters if name not in PARAMETERS]
    checked = check_parameters(extra, **parameters)
    where = {name: checked[name] for name in ("revision", "device", "dtype")}
    model = load_model(checked["model_id"], **where)
    if needs not in model.modalities:
        raise SemhubError(
            f"The chapter {chapter} needs a model that takes {needs} and text, and {model.model_id} takes "
            f"{' and '.join(sorted(model.modalities))}; {SHIPPED[needs]} would do."
        )
    return Chapter(Run(chapter, model, checked, checked["results_dir"]), model)

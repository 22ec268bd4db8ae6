"""What a chapter's notebook works with: its parameters checked, its model loaded, its results open (`begin`); what
experiments find on the model (`Chapter.run`); the charts, data and judged claims of what was found (`Finding`)."""

import base64
import gzip
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from operator import attrgetter
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pandas as pd

from semhub_utils import experiments
from semhub_utils.errors import need
from semhub_utils.experiments import core, words
from semhub_utils.experiments.core import Experiment
from semhub_utils.finding import Finding
from semhub_utils.identity import COPIED, PREFIX, atomically, called, program
from semhub_utils.lens import available_readings
from semhub_utils.loading import load_model
from semhub_utils.markup import Html, diagram, note
from semhub_utils.models import LanguageModel
from semhub_utils.results import GRID, PARAMETERS, Run, StepResult, check_parameters, glue
from semhub_utils.spokes.files import SAMPLES
from semhub_utils.spokes.items import GENERATED, Form, Items
from semhub_utils.spokes.mixed import bank_texts
from semhub_utils.strips import REVERSED, answer, for_all, opposite, sentences
from semhub_utils.verdicts import EXPLAINED, HOLDS, INCONCLUSIVE, NOT, UNTESTABLE, WEAKLY

__all__ = ["Chapter", "Known", "begin", "diagram", "glue", "left_out", "listing", "together"]

TOY = (
    "{} of this run are generated from the made-up world that the models of this book were taught. What holds "
    "of them, or does not, need not hold of natural text, pictures or sounds."
)
PLAIN = (
    "This model was tuned to take turns in a chat. Here it reads every text as it stands, without its chat template."
)
SHIPPED = {"image": "organism:hub-sees", "sound": "organism:hub-hears"}
ISLANDS = f"{PREFIX}islands"
LEAST = dict.fromkeys(("arithmetic", "code", "hypothesis", "layers", "semantics", "steering"), 4)
LEAST |= {"fooled": 8, "languages": 13}
"""By chapter, the fewest items that it can compare with one another, for the book's own models."""
WRONG = "the model gets them wrong"
ANSWERS = 4  # clauses of a chapter's answer
MEANS = {
    HOLDS: "nothing that it was held against does as well.",
    WEAKLY: "nothing that it was held against does as well; read it as a hint.",
    INCONCLUSIVE: "the effect may be chance or may be there: this does not tell.",
    NOT: "an effect of {least:g} would have been seen: there is none, or a smaller one.",
    UNTESTABLE: "untested, it says neither yes nor no.",
}
AS_WELL = {
    "last layer": "the last layer, where no block is left to use it, has as much: the middle is not special.",
    "first layers": "it is there from the first layers on: the middle adds nothing.",
    "embedding layer": "the embeddings have as much: the layers add nothing.",
    "bag of words": "the mean of the words' embeddings (a bag of words) does as well: it takes no sentence.",
    "islands": "a model whose types share nothing does as well: it takes no hub.",
    "random weights": "weights that learned nothing do as well: it was not learned.",
}
"""What a verdict means, and what it means that a control does as well."""
_prompt = attrgetter("prompt")


class Known(dict[str, str | None]):
    """By series, None where the model can do a task, or the sentence that ends a claim. table: a row per item."""

    def __init__(self, told: Mapping[str, str | None], table: pd.DataFrame):
        super().__init__(told)
        self.table = table

    @property
    def share(self) -> float:
        """What share of the items it does."""
        return self.table["value"].mean()


@dataclass(frozen=True)
class Climbed:
    """The form in which a task is put to a model. needs: None, or the sentence that ends claims about its answers; of:
    what items are made of: those that the model gets right, or all where it was taught this form, or can do none;
    given: how that is told to `run`; share: of how many of all that are asked it gets right."""

    form: Form
    needs: str | None
    of: list
    given: Mapping[str, Any]
    share: float


class Chapter:
    """A chapter under way on one model: `run` and `find` compute and keep, `finish` writes."""

    def __init__(self, results: Run, model: LanguageModel):
        self.results, self.model = results, model

    @property
    def own(self) -> bool:
        """Whether the book's programs trained it, whatever it is called."""
        return bool(self.model.card)

    @property
    def data(self) -> Path | None:
        """The folder that natural items are read from: `data_dir`, or the samples that ship; None where they are
        generated."""
        given = self.results.parameters
        return None if given["items"] == GENERATED else Path(given["data_dir"] or SAMPLES)

    @property
    def n_items(self) -> int:
        return self.results.parameters["n_items"]

    def run(
        self,
        experiment: Experiment | Callable[[str], Experiment],
        items: Sequence | Mapping[str, Sequence],
        *,
        series: str = "",
        readings: Sequence[str] | bool | None = None,
        dropped: Mapping[str, Any] | None = None,
        name: str = "",
        **options: Any,
    ) -> Finding:
        """What an experiment finds on this model: a step for each data type, kept on disk.

        experiment: or what makes it of a data type, such as a class that takes its name. items: of one data type,
        called `series`, or by data type, as `dropped` is then. readings: True for all that the model has, and the
        experiment's own. name: of the step, where the chapter runs two of this kind. options: over, twins, others,
        shown, as for `core.run`.
        """
        if readings is True:
            readings = tuple(dict.fromkeys((*available_readings(self.model), *experiment.readings)))
        several = items if isinstance(items, Mapping) else {series: items}
        lost = (dropped or {}) if several is items else {series: dropped}
        need(several, f"{self.model.model_id} takes no item of any data type; one with a longer context would do.")
        found = []
        for one, some in several.items():
            options |= {"series": one, "dropped": lost.get(one), "seed": self.seed}
            about = experiment(one) if callable(experiment) else experiment
            compute = partial(core.ask, about, self.model, some, readings=readings or None, **options)
            found.append(self.find(f"{name or type(about).__name__} {one}", compute, {"data_type": one}))
        return replace(sum(found[1:], found[0]), types=_types(experiment, [*several]))

    def find(self, name: str, function: Callable[[], StepResult], columns: Mapping[str, str] | None = None) -> Finding:
        """What `function` finds, or found in an earlier run with the same parameters and model. columns: written into
        every row."""
        table = self.results.run(name, [function], function, columns)
        return Finding(self.results, table, self.results.evidence[name])

    def find_each(self, name: str, names: Iterable[str], function: Callable[[str], StepResult]) -> Finding:
        """A step for each of `names`, one below the other, the column `data_type` saying whose a row is."""
        found = [self.find(f"{name} {one}", partial(function, one), {"data_type": one}) for one in names]
        return sum(found[1:], found[0])

    @property
    def islands(self) -> dict[str, LanguageModel]:
        """The shipped model that has no hub, beside another one of the book's own that reads the same tokens; else
        nothing."""
        if self.model.modalities != {"text"} or self.model.card.get("name") in (None, "islands"):
            return {}
        return {"islands": load_model(ISLANDS, device=str(self.model.device))}

    @property
    def seed(self) -> int:
        return self.results.parameters["seed"]

    def knows(
        self,
        ask: Callable,
        items: Sequence | Mapping[str, Sequence],
        task: str,
        *,
        series: str = "",
        chance: float = 0.0,
        own: str = "own",
    ) -> Known:
        """Whether the model does, more often than `chance`, what `ask` (such as `words.task_table`) asks of items
        of one data type, called `series`, or by data type, of those that it takes. task: in words, with {name} for
        the data type."""
        several = items if isinstance(items, Mapping) else {series: items}
        several = {one: core.readable(self.model, [*some], _prompt) for one, some in several.items()}
        asked = {one: partial(ask, self.model, some, own=own, series=one) for one, some in several.items()}
        found = self.find_each("task", several, lambda one: asked[one]())
        named = {one: for_all(task, [one]) for one in several}
        told = {one: found.knows(f"task-{one}", named[one], chance) for one in several}
        return Known(told, found.table)

    def climb(self, forms: Sequence[Form], task: str, *, series: str, own: str = "own") -> Climbed:
        """The first of `forms` in which the model does a task (`words.task_table`), by the rule of `knows` and on the
        form's own trial; if it does it in none, the first. A single form is one that the model was taught: nothing is
        tried, and all of its items are read. Rows: `task-<series>, form <k>`, an item of a trial each, and
        `task-<series>`, one of what is asked. Without forms nothing is asked."""
        forms = forms or [Form("not asked", (), (), forms)]
        ask, form, tried = partial(self.knows, words.task_table, task=task, own=own), forms[0], []
        for k, one in enumerate(forms if len(forms) > 1 else (), 1):
            tried.append(ask(core.readable(self.model, one.trial, _prompt), series=f"{series}, form {k}"))
            if not any(tried[-1].values()):
                form, tried = one, tried[:0]
                break
        asked = core.readable(self.model, form.asked, _prompt)
        known, every = ask(asked, series=series), len(forms) == 1 or bool(tried)
        why = known[series] if every else None
        if tried:
            [why], others = tried[0].values(), [some.share for some in tried[1:] if len(some.table)]
            why += f" In {len(others)} other forms it is right on at most {max(others):.0%}." if others else ""
        right = {*known.table["series"][known.table["value"] == 1]}
        of = "all {1} items, of which the model gets {0} right", "the {0} of {1} items that the model gets right"
        lost = Counter({core.TOO_LONG: len(form.asked) - len(asked), WRONG: (len(asked) - len(right)) * (not every)})
        read = {item.id for item in asked if every or item.id in right}
        read = [one for one, item in zip(form.of, form.asked, strict=True) if item.id in read]
        given = {"form": f"{form.name}; {of[not every].format(len(right), len(asked))}", "dropped": lost}
        return Climbed(form, why, form.of.but(read) if isinstance(form.of, Items) else read, given, known.share)

    def keep(self, grid: Any) -> Any:
        """A `widgets.LensGrid`, kept beside the results, so that `--record` files it for the pages of the book."""
        data = json.dumps({"meta": grid.meta, "cells": base64.b64encode(grid.cells).decode()}, ensure_ascii=False)
        packed = gzip.compress(data.encode(), mtime=0)
        atomically(self.results.folder / GRID, lambda to: to.write_bytes(packed))
        return grid

    def finish(self, about: Mapping[str, str]) -> Html:
        """Write table and claims, and answer the chapter's question (`strips.answer`) by the first ANSWERS of `about`,
        here, where `{glue} answer` stands, and of each claim where `{glue}` has verdict-NAME; what a verdict means
        (`meaning`) stands where it has why-NAME. Above it, of another model than the book's own: what items were read,
        a warning where some were generated, and that a chat template was left aside."""
        self.results.finish()
        claims, first = self.results.claims, dict([*about.items()][:ANSWERS])
        on = called(self.model.model_id)
        glue("answer", answer(claims, first, on))
        shown = answer(claims, first, on, again=True)
        for name, said in about.items():
            told = sentences(claims, {name: said}).replace("\n", " ")
            glue(f"verdict-{name}", told or "This was not asked here.")
        names = [claim["id"].partition("/")[2] for claim in claims]
        for one in {*names, *(name.rpartition("/")[0] or name for name in names)}:
            some = [claim for claim, name in zip(claims, names, strict=True) if one in (name, name.rpartition("/")[0])]
            glue(f"why-{one}", meaning(some))
        if self.own:
            return shown
        read = {one for of in self.results.sources.values() for one in of}
        told = [f"Items: {self.results.provenance()['data']}."]
        if GENERATED in read:
            told.append(TOY.format("All items" if read == {GENERATED} else "Some items"))
        if getattr(self.model.tokenizer, "chat_template", None):
            told.append(PLAIN)
        return Html("".join(note(said).html for said in told) + shown.html, "\n".join((*told, shown.text)))


def meaning(claims: Sequence[Mapping[str, Any]]) -> str:
    """What the verdicts of claims of one family mean, in a sentence for each meaning."""
    told: dict[str, list[str]] = {}
    for claim in claims:
        verdict, by = claim["verdict"], claim.get("by") or ""
        said = AS_WELL.get(by, f"its control, {by}, does as well.") if verdict == EXPLAINED else MEANS[verdict]
        if opposite(claim):
            said = f"{REVERSED}."
        if verdict == INCONCLUSIVE and by:
            said = f"it is above {by}, but not surely."
        name = claim["id"].rpartition("/")[2]
        told.setdefault(said.format(least=claim.get("least") or 0), []).append(name[:1].upper() + name[1:])
    if len(told) == 1:
        return "".join(said[0].upper() + said[1:] for said in told)
    return " ".join(f"{', '.join(names)}: {said}" for said, names in told.items())


def together(*strips: Html) -> Html:
    """Strips of `Finding.claims` below one another, those of which nothing could be tested in one fold behind them."""
    bare = [s for s in strips if all(line.startswith(UNTESTABLE.capitalize()) for line in s.text.splitlines())]
    html = "".join(s.html for s in strips if s not in bare)
    if bare:
        said = f"{sum(len(s.text.splitlines()) for s in bare)} claims that cannot be tested here, and why"
        html += f"<details><summary>{said}</summary>{''.join(s.html for s in bare)}</details>"
    return Html(html, "\n".join(s.text for s in strips))


def _types(experiment: Experiment, names: Sequence[str]) -> dict[str, str]:
    """How charts show the words of the hub and the own ones, where an experiment sets them against each other."""
    hub, own = (getattr(experiment, name, "") for name in ("hub", "own"))
    kind = " ".join((*names, own, "spanish"))  # the first of these that names a type
    return {hub: "english", own: kind, f"wrong {hub}": "control", f"wrong {own}": "null"} if own else {}


def listing(rows: Iterable[Any] | pd.DataFrame, columns: Sequence[str] | None = None, **formats: Any) -> Any:
    """Rows as a table for the reader, without numbers before them, yes or no for truth. formats: how the cells of a
    column are written, as {"share": "{:.0%}"}."""
    if columns and not isinstance(rows, pd.DataFrame):  # a row may end before the last of them
        rows = [(*row, *[""] * (len(columns) - len(row))) if isinstance(row, list | tuple) else row for row in rows]
    table = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(rows, columns=columns)
    table = table.assign(**{name: table[name].map({True: "yes", False: "no"}) for name in table.select_dtypes(bool)})
    return table.style.hide(axis="index").format(formats, escape="html").format_index(escape="html", axis="columns")


def left_out(items: Mapping[str, Items]) -> pd.DataFrame:
    """By data type, how many items were left out for which reason, and how many are read."""
    reasons = pd.DataFrame({name: some.dropped for name, some in items.items()}).T.fillna(0).astype(int)
    return reasons.assign(read={name: len(some) for name, some in items.items()})


def begin(
    chapter: str,
    given: Mapping[str, Any],
    *more: str,
    needs: str = "text",
    n_items: tuple[int, int] | None = None,
) -> Chapter:
    """Check the parameters, load the model, open its results. Raises SemhubError naming what will not do.

    Parameters stand in `given`, such as a notebook's `globals()`: those that every chapter takes and, by name, `more`.
    needs: what the model has to read besides text, "image" or "sound". n_items: how many there are where nothing else
    is asked for, on a model of the book's own and on another. items: "auto" is "generated" on the former, "natural" on
    the latter and where there is a `data_dir`; pictures and sounds without a `data_dir` are always generated.
    """
    parameters = {name: given[name] for name in (*PARAMETERS, *more) if name in given}
    extra = [name for name in parameters if name not in PARAMETERS]
    checked = check_parameters(extra, **parameters)
    n, least = checked.get("n_items"), LEAST.get(chapter, 1)
    need(n is None or n >= least, f"n_items is {n}; from {least} on would do for the chapter {chapter}.")
    where = {name: checked[name] for name in ("revision", "device", "dtype")}
    model = load_model(checked["model_id"], **where)
    takes = " and ".join(sorted(model.modalities))
    said = f"The chapter {chapter} needs a model that takes {needs} and text, and {model.model_id} takes {takes}"
    need(needs in model.modalities, f"{said}; {SHIPPED.get(needs)} would do.")
    available_readings(model)  # what lies beside it is read now: one of other weights fails at once
    own, folder = bool(model.card), checked.get("data_dir")
    if checked.get("items", "auto") == "auto":
        checked["items"] = "natural" if folder or not own and needs == "text" else GENERATED
    if checked["items"] == "natural" and needs != "text":
        need(folder, f"items is 'natural', and no {needs} ships; a data_dir with a public set's own files would do.")
    if n_items and checked["n_items"] is None:
        checked["n_items"] = n_items[not own]
    return Chapter(Run(chapter, model, checked, checked["results_dir"]), model)


if os.environ.get(COPIED):  # what every chapter needs is made once for all kernels
    for module in iter_modules(experiments.__path__, f"{experiments.__name__}."):
        program(module.name)
    for model, types in product((f"{PREFIX}hub", ISLANDS), ((), (("en",),))):
        bank_texts(model, *types)

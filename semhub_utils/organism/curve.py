"""What the instruments see along a training: similarity, retrieval, lens and answers at every checkpoint.

All of it on items held out: taught in English words and in no other type. `snapshot` and `answers` look at one set of
weights; `training_curve` at every checkpoint of a folder that `train` has finished, and `write_curve` keeps it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from semhub_utils import zoo
from semhub_utils.errors import SemhubError
from semhub_utils.evidence import Evidence
from semhub_utils.experiments.alike import Alike
from semhub_utils.experiments.core import run
from semhub_utils.experiments.words import Lens
from semhub_utils.models import LanguageModel, wrap
from semhub_utils.organism.exam import correct, exam, wilson
from semhub_utils.organism.world import Prompt, World
from semhub_utils.similarity import retrieval_accuracy
from semhub_utils.spokes import facts
from semhub_utils.states import hidden_states
from semhub_utils.zoo import atomically

CURVE, LOG = "curve.csv", "log.jsonl"
N_ITEMS = 200
KEPT = ("similarity", "retrieval", "lens-probability")
TYPES = tuple(facts.TYPES)
COLUMNS = ["step", "tokens", "experiment", "type", "series", "layer", "depth", "value", "low", "high", "p", "null_high"]
COLUMNS += ["n", "chance", "cluster", "alike", "answered"]


def snapshot(
    model: LanguageModel,
    *,
    world: World = facts.WORLD,
    types: Sequence[str] = TYPES,
    n_items: int = N_ITEMS,
    seed: int = 0,
    random_weights: bool = False,
) -> tuple[pd.DataFrame, list[Evidence]]:
    """Similarity to the English twin, its retrieval, and the lens (English answer, own token, wrong English answers) by
    layer for each type, on `n_items` held-out items. The column `type` says whose items a row is about."""
    tables, found = [], []
    for series in types:
        chosen = facts.prompts(series, n_items, seed=seed, world=world)
        options = {"series": series, "seed": seed}
        twins = None if random_weights else ()
        for table, claims in (
            run(Alike(), model, facts.similarity_pairs(chosen), twins=twins, **options),
            run(Lens("english", "own"), model, facts.lens_items(chosen), twins=twins, **options),
        ):
            own = table[table.experiment.isin(KEPT)]
            tables.append((own[own.control.fillna("") == ""] if "control" in own else own).assign(type=series))
            found += claims
    return pd.concat(tables, ignore_index=True), found


def answers(
    model: LanguageModel, world: World, *, types: Sequence[str] = TYPES, sample: int | None = 400
) -> pd.DataFrame:
    """Share of facts (of sums for digits) answered by type, experiment "taught" and "held out", with Wilson's 95%
    interval; `chance` is the share that the commonest answers get. `sample` as for `exam`."""
    rows = []
    for series in types:
        scores = exam(model.module, model.tokenizer, world, types=[facts.TYPES[series]], sample=sample)
        scores = [s for s in scores if (s.group == "sums") == (series == "digits")]
        for side, some in (
            ("taught", [s for s in scores if not s.held_out]),
            ("held out", [s for s in scores if s.held_out]),
        ):
            n, hits = sum(s.n for s in some), sum(round(s.accuracy * s.n) for s in some)
            low, high = wilson(hits, n)
            row = {"experiment": side, "series": series, "type": series, "value": hits / n, "low": low, "high": high}
            rows.append(row | {"n": n, "chance": sum(s.chance * s.n for s in some) / n})
    return pd.DataFrame(rows)


def checkpoints(folder: Path) -> Iterator[tuple[int, LanguageModel]]:
    """Step and model of every checkpoint of a training, in order."""
    module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for path in sorted((folder / "checkpoints").glob("step-*.safetensors")):
        module.load_state_dict({name: value.float() for name, value in load_file(path).items()})
        yield int(path.stem.removeprefix("step-")), wrap(module, tokenizer, model_id=f"{folder.name} {path.stem}")


def training_curve(
    folder: str | Path, *, world: World | None = None, n_items: int = N_ITEMS, sample: int | None = 400
) -> pd.DataFrame:
    """Every checkpoint of a finished training: the rows of `snapshot` and `answers` with their `step` and `tokens`.

    Rows "onset", one per held-out item, hold two steps: `alike`, the first checkpoint from which on to the end the item
    and its English twin are each other's nearest by cosine at the middle layer, and `answered`, the first from which on
    its answer is given; empty for never. `world`: the one the card names. SemhubError without a finished training.
    """
    folder = Path(folder)
    if not (folder / zoo.CARD).exists() or not (folder / "checkpoints").is_dir():
        raise SemhubError(f"{folder} holds no finished training with checkpoints; a folder of `semhub train` would do.")
    card = json.loads((folder / zoo.CARD).read_text("utf-8"))
    recipe = card["recipe"]
    world = world or World(**recipe["world"])
    shared = replace(world, private=False, forget=False)
    types = [series for series, short in facts.TYPES.items() if short in dict(recipe["types"])]
    chosen = {series: facts.prompts(series, n_items, world=shared) for series in types}
    tables, steps, seen = [], [], {series: [] for series in types}
    for step, model in checkpoints(folder):
        looked, _ = snapshot(model, world=shared, types=types, n_items=n_items)
        table = pd.concat([looked, answers(model, world, types=types, sample=sample)])
        tables.append(table.assign(step=step, tokens=round(step * card["tokens"] / recipe["steps"])))
        steps.append(step)
        for series, some in chosen.items():
            seen[series].append((_alike(model, some), correct(model.module, model.tokenizer, some)))
    for series, some in chosen.items():
        alike, answered = (onset(np.array(rows), steps) for rows in zip(*seen[series], strict=True))
        clusters = [pair.cluster for pair in facts.similarity_pairs(some)]
        of_item = {"cluster": clusters, "alike": alike, "answered": answered}
        tables.append(pd.DataFrame({"experiment": "onset", "series": series, "type": series, "n": 1} | of_item))
    return pd.concat(tables, ignore_index=True)[COLUMNS]


def _alike(model: LanguageModel, chosen: Sequence[Prompt]) -> Bool[np.ndarray, " item"]:
    sides = [p.prompt for p in chosen], [p.english_prompt for p in chosen]
    a, b = (hidden_states(model, texts, layers=[model.n_layers // 2]).hidden for texts in sides)
    return retrieval_accuracy(a, b).own[:, 0] > 0.99


def onset(seen: Bool[np.ndarray, "step item"], steps: Sequence[int | float]) -> Float[np.ndarray, " item"]:
    """The first step from which on all are true; nan for never."""
    stays = np.logical_and.accumulate(seen[::-1])[::-1]
    return np.where(stays.any(0), np.array(steps)[stays.argmax(0)], np.nan)


def write_curve(folder: str | Path, *, world: World | None = None, **options) -> Path:
    """`training_curve` as a file beside the card, four digits a number; its path. Options as there."""
    path = Path(folder) / CURVE
    table = training_curve(folder, world=world, **options)
    atomically(path, lambda to: table.to_csv(to, index=False, float_format="%.4g"))
    return path

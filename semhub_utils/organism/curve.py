"""What the instruments see along a training: similarity, retrieval, lens and answers at every checkpoint.

All of it on items held out: taught in English words and in no other type. `snapshot` and `answers` look at one set of
weights; `training_curve` at every checkpoint of a folder that `train` has finished. The shipped curves are read with
`shipped_curves` and `shipped_logs`.
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

from semhub_utils.errors import SemhubError
from semhub_utils.evidence import ALPHA, Evidence, evidence, sign_flip_null, tidy
from semhub_utils.experiments import lens_experiment, similarity_experiment
from semhub_utils.models import LanguageModel, wrap
from semhub_utils.organism import zoo
from semhub_utils.organism.exam import correct, exam, wilson
from semhub_utils.organism.world import Prompt, World
from semhub_utils.results import atomically
from semhub_utils.similarity import retrieval_accuracy
from semhub_utils.spokes import facts
from semhub_utils.states import hidden_states

CURVE, LOG = "curve.csv", "log.jsonl"
N_ITEMS = 200
KEPT = ("similarity", "retrieval", "lens-probability")
MASTERED = 0.9
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
        options = {"series": series, "seed": seed, "random_weights": random_weights}
        for table, claims in (
            similarity_experiment(model, facts.similarity_pairs(chosen), **options),
            lens_experiment(model, facts.lens_items(chosen), hub="english", own="own", **options),
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
        alike, answered = (_onset(np.array(rows), steps) for rows in zip(*seen[series], strict=True))
        clusters = [pair.cluster for pair in facts.similarity_pairs(some)]
        of_item = {"cluster": clusters, "alike": alike, "answered": answered}
        tables.append(pd.DataFrame({"experiment": "onset", "series": series, "type": series, "n": 1} | of_item))
    return pd.concat(tables, ignore_index=True)[COLUMNS]


def _alike(model: LanguageModel, chosen: Sequence[Prompt]) -> Bool[np.ndarray, "item"]:
    sides = [p.prompt for p in chosen], [p.english_prompt for p in chosen]
    a, b = (hidden_states(model, texts, layers=[model.n_layers // 2]).hidden for texts in sides)
    return (retrieval_accuracy(a, b)[:, 0] > 0.99).numpy()


def _onset(seen: Bool[np.ndarray, "step item"], steps: Sequence[int]) -> Float[np.ndarray, "item"]:
    """The first step from which on all are true; nan for never."""
    stays = np.logical_and.accumulate(seen[::-1])[::-1]
    return np.where(stays.any(0), np.array(steps)[stays.argmax(0)], np.nan)


def write_curve(folder: str | Path, *, world: World | None = None, **options) -> Path:
    """`training_curve` as a file beside the card, four digits a number; its path. Options as there."""
    path = Path(folder) / CURVE
    table = training_curve(folder, world=world, **options)
    atomically(path, lambda to: table.to_csv(to, index=False, float_format="%.4g"))
    return path


# What ships


def shipped_curves() -> pd.DataFrame:
    """The curves of all trainings that ship, with the column `model` ("hub", "hub, seed 1")."""
    return _shipped(CURVE, pd.read_csv, [*COLUMNS])


def shipped_logs() -> pd.DataFrame:
    """The logs of all trainings that ship: model, step, tokens, seconds, loss and the share of bridging text."""
    columns = ["step", "tokens", "seconds", "loss", "bridge"]
    return _shipped(LOG, lambda path: pd.read_json(path, lines=True)[columns], columns)


def shipped_cards() -> dict[str, dict]:
    """The cards of all trainings that ship, second seeds (whose weights do not) among them."""
    return {_label(path): json.loads(path.read_text("utf-8")) for path in _files(zoo.CARD)}


def _files(name: str) -> list[Path]:
    return sorted(zoo.weights_dir().glob(f"*/{name}"))


def _label(path: Path) -> str:
    card = json.loads((path.parent / zoo.CARD).read_text("utf-8"))
    return card["name"] + (f", seed {card['seed']}" if card["seed"] else "")


def _shipped(name: str, read, columns: Sequence[str]) -> pd.DataFrame:
    tables = [read(path).assign(model=_label(path)) for path in _files(name)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=[*columns, "model"])


# What a chapter asks of a curve


def milestones(curve: pd.DataFrame) -> pd.DataFrame:
    """By model and type the tokens seen when, for good: the type is mastered (MASTERED of its taught facts answered),
    its held-out facts are answered above chance (the interval), and the similarity holds (some middle layer with p
    below ALPHA and an interval above 0). Empty for never."""
    inner = curve[(curve.depth > 0) & (curve.depth < 1) & (curve.experiment == "similarity")]
    reached = {
        "taught facts mastered": (curve.experiment == "taught") & (curve.value >= MASTERED),
        "held-out facts above chance": (curve.experiment == "held out") & (curve.low > curve.chance),
        "similarity holds": curve.index.isin(inner[(inner.p < ALPHA) & (inner.low > 0)].index),
    }
    rows = []
    for (model, series), some in curve[curve.experiment != "onset"].groupby(["model", "type"], sort=False):
        tokens = np.sort(some.tokens.unique())
        row = {"model": model, "type": series}
        for name, met in reached.items():
            when = set(some.tokens[met[some.index]])
            onset = _onset(np.array([[t in when] for t in tokens]), tokens)[0]
            rows.append(row | {"milestone": name, "tokens": onset})
    return pd.DataFrame(rows)


def order_evidence(curve: pd.DataFrame, *, n_layers: int, seed: int = 0) -> tuple[pd.DataFrame, list[Evidence]]:
    """Does an item's twin come near before its answer is given? Per training one claim `order/<model>`.

    Score of a held-out item: 1 if the twin is nearest for good before the answer is given for good, -1 if after, 0 if
    at the same checkpoint. Items that reach neither are dropped. Null: the sign of each subject's items, by a coin.
    """
    found = []
    for model, some in curve[curve.experiment == "onset"].groupby("model", sort=False):
        alike, answered = (some[name].fillna(np.inf).to_numpy() for name in ("alike", "answered"))
        kept = np.isfinite(np.minimum(alike, answered))
        scores = np.sign(np.where(kept, answered, 1) - np.where(kept, alike, 1))[kept][:, None]
        clusters = some.cluster[kept].tolist()
        null = sign_flip_null(scores, clusters=clusters, seed=seed)
        options = {"dropped": {"neither near nor answered at the end": int((~kept).sum())}, "outcome": True}
        options |= {"unit": "share of items, before minus after", "null_in_words": "the sign of each subject by a coin"}
        found.append(
            evidence(f"order/{model}", scores, null, layers=[n_layers // 2], n_layers=n_layers, experiment="order",
                     series=model, clusters=clusters, seed=seed, **options)
        )  # fmt: skip
    return tidy(found) if found else pd.DataFrame(columns=["experiment", "series", "value"]), found

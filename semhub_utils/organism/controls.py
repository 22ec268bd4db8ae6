"""Small trainings of a minute: what a chapter raises while you wait, and what has to be there for a hub to grow.

All are the one recipe SMALL with one thing changed: English and Spanish, four relations, three layers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

import pandas as pd

from semhub_utils.loading import load_model
from semhub_utils.organism.corpus import Recipe
from semhub_utils.organism.curve import LOG, answers, snapshot, training_curve
from semhub_utils.organism.train import train
from semhub_utils.organism.world import Fact, Prompt, World

TYPES = ("spanish",)
TABLE = Path(str(files("semhub_utils.organism"))) / "data" / "controls.csv"


@dataclass(frozen=True)
class SmallWorld(World):
    """The world with the facts of a few relations alone, as many as are learned in a minute; sums are not asked."""

    relations: tuple[str, ...] = ("colour", "home", "food", "legs")

    def taught_facts(self, type_: str) -> tuple[Fact, ...]:
        return tuple(f for f in super().taught_facts(type_) if f.relation in self.relations)

    def prompts(self, type_: str, held_out: bool | None = None) -> list[Prompt]:
        return [p for p in super().prompts(type_, held_out) if p.relation in self.relations]


SMALL = Recipe(
    "small",
    steps=900,
    batch_tokens=512,
    layers=3,
    tied=True,
    lr=0.01,
    weight_decay=0.5,
    warmup=30,
    english_first=0.0,
    types=(("en", 0.9), ("es", 0.1)),
    bridge=0.6,
    bridge_end=0.1,
    fall_from=0.5,
    fall_to=0.85,
    bridges=(("switched fact", 0.6), ("dictionary", 0.4)),
    page_share=0.0,
    world=SmallWorld(),
)
ISLANDS = replace(SMALL, name="small islands", world=SmallWorld(private=True))
VARIANTS: dict[str, Recipe] = {
    "as it is": SMALL,
    "islands": ISLANDS,
    "absent from English too": replace(SMALL, world=SmallWorld(forget=True)),
    "no bridging": replace(SMALL, bridge=0.0),
    "half the bridging": replace(SMALL, bridge=SMALL.bridge / 2),
    "no weight decay": replace(SMALL, weight_decay=0.0),
    "triple weight decay": replace(SMALL, weight_decay=3 * SMALL.weight_decay),
    "half the width": replace(SMALL, width=SMALL.width // 2, mlp=SMALL.mlp // 2),
    "half again the width": replace(SMALL, width=3 * SMALL.width // 2, mlp=3 * SMALL.mlp // 2),
    "half the tokens": replace(SMALL, steps=SMALL.steps // 2),
    "twice the tokens": replace(SMALL, steps=2 * SMALL.steps),
}
"""SMALL with one thing changed at a time."""


def run_controls(seeds: Iterable[int] = (0, 1), *, progress: bool = True) -> pd.DataFrame:
    """Train every variant with every seed, and look: the rows of `snapshot` and `answers` at the end of the training,
    with `variant`, `seed` and `tokens`. About 40 seconds of one core each."""
    tables = []
    for seed in seeds:
        for variant, recipe in VARIANTS.items():
            with tempfile.TemporaryDirectory() as folder:
                train(recipe, folder, seed=seed, progress=progress, evaluate_every=recipe.steps)
                tokens = pd.read_json(Path(folder) / LOG, lines=True).tokens.iloc[-1]
                model = load_model(folder)
                looked, _ = snapshot(model, world=replace(recipe.world, private=False, forget=False), types=TYPES)
                table = pd.concat([looked, answers(model, recipe.world, types=TYPES, sample=None)])
            tables.append(table.assign(variant=variant, seed=seed, tokens=tokens))
    columns = ["variant", "seed", "tokens", "experiment", "series", "layer", "value", "low", "high", "p", "n", "chance"]
    return pd.concat(tables, ignore_index=True)[columns]


def controls() -> pd.DataFrame:
    """The table of `run_controls` that ships."""
    return pd.read_csv(TABLE)


def live(recipe: Recipe, *, steps: int | None = None, seed: int = 0) -> pd.DataFrame:
    """Train a small recipe now and look along the way: its curve (as `training_curve`) and its log's loss as rows
    "loss", with the column `model`. `steps` makes it shorter or longer than the recipe says."""
    recipe = replace(recipe, steps=steps or recipe.steps)
    with tempfile.TemporaryDirectory() as folder:
        train(recipe, folder, seed=seed, progress=False, evaluate_every=max(1, recipe.steps // 10))
        log = pd.read_json(Path(folder) / LOG, lines=True)[["step", "tokens", "loss"]].rename(columns={"loss": "value"})
        log = log.assign(experiment="loss", series=recipe.name)
        return pd.concat([training_curve(folder, world=recipe.world), log], ignore_index=True).assign(model=recipe.name)

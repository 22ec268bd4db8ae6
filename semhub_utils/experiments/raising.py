"""What the instruments see along a training, small trainings of a minute, and what the chapter on raising shows.

All of it on items held out: taught in English words and in no other type. A training ships as a folder beside the
others: its card, `curve.csv`, `log.jsonl` and, but for second seeds, weights.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from semhub_utils import identity
from semhub_utils.errors import need
from semhub_utils.evidence import Evidence, Unit, evidence, share, studentised_null, tidy
from semhub_utils.experiments.alike import NEAREST, RELEASED, Alike, last_states
from semhub_utils.experiments.core import Claim, Result, run
from semhub_utils.experiments.numbers import Kept, Numbers
from semhub_utils.experiments.words import Lens
from semhub_utils.loading import load_model
from semhub_utils.models import LanguageModel, randomised, wrap
from semhub_utils.organism.corpus import Ask, Recipe, forms, shares, write
from semhub_utils.organism.llama import correct, exam, scores, train
from semhub_utils.organism.world import LANGUAGES, Fact, Prompt, World
from semhub_utils.similarity import adjusted_cosine, retrieval_accuracy, same_group
from semhub_utils.spokes import facts, natural
from semhub_utils.states import hidden_states
from semhub_utils.training import CHECKPOINTS, LOG
from semhub_utils.verdicts import ALPHA

CURVE = "curve.csv"
N_ITEMS = 200
SAMPLE = 400  # prompts asked per type and side at a checkpoint
MASTERED = 0.9
KEPT = ("similarity", "retrieval", "lens-probability")
CURVES = {"similarity-all": "similarity", "retrieval-all": "retrieval", "lens-probability": "lens-probability"}
"""What stands in the curve of a training, and by which name: compared with all others, as the paper does."""
COLUMNS = ["step", "tokens", "experiment", "type", "series", "layer", "depth", "value", "low", "high", "p", "null_high"]
COLUMNS += ["n", "chance", "cluster", "alike", "answered", "item"]
MEASURES = {"similarity": "english", "retrieval": "chinese", "taught": "control", "held out": "spanish"}
"""What a training is judged by, and the look of its curve."""
DATA = Path(str(files("semhub_utils.organism"))) / "data"
TABLE = DATA / "controls.csv"
TRUTHS = {
    "planted": "a hub: every word of another type began as its English counterpart and noise, on a frozen body",
    "hub": "nothing is copied or frozen; whatever is shared grew from text, most of it English",
    "islands": "no hub is possible: every type speaks of a private world, and no line joins two types",
    "balanced": "as hub, with no dominant language",
}
"""What is true of an organism whatever an instrument says."""
BY_SUBJECT = "as likely above 0 as below, by subject"


# ---- along a training ----


@dataclass(frozen=True)
class Near(Alike):
    """`Alike` by what is shown of many models: is the twin the nearest of its form, and of all?"""

    @property
    def claims(self) -> tuple[Claim, ...]:
        return tuple(claim for claim in super().claims if claim.of in (NEAREST, RELEASED))

    def read(self, reader: LanguageModel, kept: Kept, prompts: Sequence[str], reading: str) -> Numbers:
        a, b = last_states(reader, prompts), last_states(reader, kept.labels("b"))
        own = same_group(kept.labels("group"))
        return {
            ("similarity", NEAREST): retrieval_accuracy(a, b, own, over_chance=True),
            ("similarity", RELEASED): adjusted_cosine(a, b),
            ("retrieval", ""): retrieval_accuracy(a, b, own),
            ("retrieval-all", ""): retrieval_accuracy(a, b),
        }

    def beside(self, reader: LanguageModel, kept: Kept, prompts: Sequence[str], reading: str) -> Numbers:
        return self.read(reader, kept, prompts, reading)


@dataclass(frozen=True)
class Said(Lens):
    """The probabilities of `Lens` alone, of which nothing is claimed."""

    random_weights: ClassVar[bool] = False
    claims: ClassVar[tuple[Claim, ...]] = ()

    def read(self, reader: LanguageModel, kept: Kept, prompts: Sequence[str], reading: str) -> Numbers:
        found = super().read(reader, kept, prompts, reading)
        return {key: of for key, of in found.items() if key[0] == "lens-probability"}


def snapshot(
    model: LanguageModel,
    *,
    world: World = facts.WORLD,
    types: Sequence[str] = tuple(facts.TYPES),
    n_items: int = N_ITEMS,
    seed: int = 0,
    twins: Sequence[int] | None = (),
    data_dir: Path | None = None,
) -> Result:
    """Similarity to the English twin, its retrieval, and the lens (English answer, own token, wrong English answers) by
    layer for each type, on `n_items` held-out items, or natural ones of `data_dir`. The column `type` says whose items
    a row is about. twins: as for `core.run`."""
    tables, found = [], []
    if data_dir is None:
        chosen = {series: facts.prompts(series, n_items, seed=seed, world=world) for series in types}
        asked = {series: (facts.similarity_pairs(some), facts.lens_items(some)) for series, some in chosen.items()}
    else:
        asked = natural.asked_types(n_items, seed=seed, data_dir=data_dir)
    for series, of in asked.items():
        for experiment, items in zip((Near(), Said("english", "own")), of, strict=True):
            table, claims = run(experiment, model, items, series=series, seed=seed, twins=twins)
            own = table[table.experiment.isin([*KEPT, *CURVES])] if len(table) else table
            tables.append((own[own.control.fillna("") == ""] if "control" in own else own).assign(type=series))
            found += claims
    return pd.concat(tables, ignore_index=True), found


def look(model: LanguageModel, world: World, types: Sequence[str], sample: int | None = None) -> pd.DataFrame:
    """The rows of `snapshot`, and the share of facts (of sums for digits) answered by type, "taught" and "held out",
    with Wilson's 95% interval; `chance`: of the commonest answers; `sample` as for `exam`. Where types
    have a world of their own, states and held-out facts are still about English's."""
    seen = snapshot(model, world=replace(world, private=False, forget=False), types=types)[0]
    seen = seen.assign(experiment=seen.experiment.mask(seen.reading == RELEASED, "similarity-all"))
    seen = seen[seen.experiment.isin([*CURVES])]
    tables = [seen.assign(experiment=seen.experiment.map(CURVES))]
    for series in types:
        marks = exam(model.module, model.tokenizer, world, types=[facts.TYPES[series]], sample=sample)
        told = scores(marks[(marks.group == "sums") == (series == "digits")], ["held_out"])
        side = told.pop("held_out").map({False: "taught", True: "held out"})
        tables.append(told.assign(experiment=side, series=series, type=series))
    return pd.concat(tables)


def training_curve(folder: Path, *, world: World | None = None) -> pd.DataFrame:
    """Every checkpoint of a finished training: the rows of `look` with their `step` and `tokens`.

    Rows "onset", one per held-out item, hold two steps: `alike`, the first checkpoint from which on to the end the item
    and its English twin are each other's nearest by cosine at the middle layer, and `answered`, the first from which on
    its answer is given; empty for never. `world`: the one the card names. SemhubError without a finished training.
    """
    there = (folder / identity.CARD).exists() and (folder / CHECKPOINTS).is_dir()
    need(there, f"{folder} holds no finished training with checkpoints; a folder of `semhub train` would do.")
    card = json.loads((folder / identity.CARD).read_text("utf-8"))
    recipe = card["recipe"]
    world = world or World(**recipe["world"])
    shared = replace(world, private=False, forget=False)
    types = [series for series, short in facts.TYPES.items() if short in dict(recipe["types"])]
    chosen = {series: facts.prompts(series, N_ITEMS, world=shared) for series in types}
    module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tables, steps, near, said = [], [], {series: [] for series in types}, {series: [] for series in types}
    for path in sorted((folder / CHECKPOINTS).glob("step-*.safetensors")):
        module.load_state_dict({name: value.float() for name, value in load_file(path).items()})
        model = wrap(module, tokenizer, model_id=f"{folder.name} {path.stem}")
        steps.append(int(path.stem.removeprefix("step-")))
        table = look(model, world, types, SAMPLE)
        tables.append(table.assign(step=steps[-1], tokens=round(steps[-1] * card["tokens"] / recipe["steps"])))
        for series, some in chosen.items():
            sides = ([getattr(prompt, side) for prompt in some] for side in ("prompt", "english_prompt"))
            a, b = (hidden_states(model, texts, layers=[model.n_layers // 2]).hidden for texts in sides)
            near[series].append(retrieval_accuracy(a, b).own[:, 0] > 0.99)
            said[series].append(correct(module, tokenizer, some))
    for series, some in chosen.items():
        pairs = facts.similarity_pairs(some)
        of_item = {"cluster": [pair.cluster for pair in pairs], "item": [pair.id for pair in pairs]}
        of_item |= {name: onset(np.array(of[series]), steps) for name, of in (("alike", near), ("answered", said))}
        tables.append(pd.DataFrame({"experiment": "onset", "series": series, "type": series, "n": 1} | of_item))
    return pd.concat(tables, ignore_index=True)[COLUMNS]


def onset(seen: Bool[np.ndarray, "step item"], steps: Sequence[int | float]) -> Float[np.ndarray, " item"]:
    """The first step from which on all are true; nan for never."""
    stays = np.logical_and.accumulate(seen[::-1])[::-1]
    return np.where(stays.any(0), np.array(steps)[stays.argmax(0)], np.nan)


def write_curve(folder: Path) -> Path:
    """`training_curve` as a file beside the card, four digits a number; its path."""
    table = training_curve(folder)
    identity.atomically(folder / CURVE, lambda to: table.to_csv(to, index=False, float_format="%.4g"))
    return folder / CURVE


# ---- small trainings: what a chapter raises while you wait, and what has to be there for a hub to grow ----


@dataclass(frozen=True)
class SmallWorld(World):
    """The world with the facts of a few relations alone, as many as are learned in a minute; sums are not asked."""

    relations: tuple[str, ...] = ("colour", "home", "food", "legs")

    @cache  # noqa: B019 - worlds are few
    def taught_facts(self, type_: str) -> tuple[Fact, ...]:
        return tuple(f for f in super().taught_facts(type_) if f.relation in self.relations)

    def prompts(self, type_: str, held_out: bool | None = None) -> list[Prompt]:
        return [p for p in super().prompts(type_, held_out) if p.relation in self.relations]


SMALL = Recipe(
    "small", steps=900, batch_tokens=512, layers=3, tied=True, lr=0.01, weight_decay=0.5, warmup=30, english_first=0.0,
    types=shares(en=0.9, es=0.1), bridge=0.6, bridge_end=0.1, fall_from=0.5, fall_to=0.85, page_share=0.0,
    bridges=(("switched fact", 0.6), ("dictionary", 0.4)), world=SmallWorld(),
)  # fmt: skip
"""English and Spanish, four relations, three layers."""
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


def run_controls(seeds: Iterable[int]) -> pd.DataFrame:
    """Train every variant with every seed, and `look` at the end of the training; the rows with `variant`, `seed` and
    `tokens`. About 40 seconds of one core each."""
    tables = []
    for seed, (variant, recipe) in itertools.product(seeds, VARIANTS.items()):
        with tempfile.TemporaryDirectory() as folder:
            train(recipe, folder, seed=seed, log_every=recipe.steps)
            tokens = pd.read_json(Path(folder) / LOG, lines=True).tokens.iloc[-1]
            table = look(load_model(folder), recipe.world, ["spanish"])
        tables.append(table.assign(variant=variant, seed=seed, tokens=tokens))
    columns = ["variant", "seed", "tokens", "experiment", "series", "layer", "value", "low", "high", "p", "n", "chance"]
    return pd.concat(tables, ignore_index=True)[columns]


def live(recipe: Recipe, *, steps: int, seed: int = 0) -> pd.DataFrame:
    """Train a small recipe now, for so many steps, and look along the way: its curve (as `training_curve`) and the loss
    of its log as rows "loss", with the column `model`."""
    recipe = replace(recipe, steps=steps)
    with tempfile.TemporaryDirectory() as folder:
        train(recipe, folder, seed=seed, progress=False, log_every=max(1, steps // 10))
        log = _losses(Path(folder) / LOG).assign(experiment="loss", series=recipe.name)
        return pd.concat([training_curve(Path(folder), world=recipe.world), log], ignore_index=True).assign(
            model=recipe.name
        )


def controls_summary() -> pd.DataFrame:
    """The shipped table of `run_controls`, one row per variant (`series`) and measure (`reading`, of MEASURES; states
    at the middle layer): the mean over seeds, with the lowest lower and the highest upper end of the seeds' 95%
    intervals."""
    columns = {"value": "mean", "low": "min", "high": "max", "p": "max", "n": "min", "chance": "mean", "tokens": "mean"}
    by = youth(pd.read_csv(TABLE).assign(model="small")).groupby(["variant", "series"], sort=False)
    return by.agg(columns).assign(seeds=by.seed.nunique()).reset_index(names=["series", "reading"])


# ---- what ships ----


def trainings() -> dict[str, Path]:
    """The folders of all trainings that ship with their curve, second seeds (whose weights do not) among them: "hub",
    "hub, seed 1"."""
    found = {}
    for path in sorted(identity.WEIGHTS.glob(f"*/{identity.CARD}")):
        if not identity.has_sense(path.parent.name) and (path.parent / CURVE).is_file():
            card = identity.card(path.parent.name)
            found[card["name"] + (f", seed {card['seed']}" if card["seed"] else "")] = path.parent
    return found


def shipped_curves() -> pd.DataFrame:
    """The curves of all trainings that ship, with the column `model`."""
    tables = [pd.read_csv(folder / CURVE).assign(model=name) for name, folder in trainings().items()]
    return pd.concat(tables, ignore_index=True)


def shipped_logs() -> pd.DataFrame:
    """The loss along all trainings that ship (nats a token): step, tokens, value, series and model alike."""
    tables = [_losses(folder / LOG).assign(model=name, series=name) for name, folder in trainings().items()]
    return pd.concat(tables, ignore_index=True)


def _losses(path: Path) -> pd.DataFrame:
    return pd.read_json(path, lines=True)[["step", "tokens", "loss"]].rename(columns={"loss": "value"})


def born() -> pd.DataFrame:
    """One row per training that ships: what is true of it, parameters, tokens, the shares of English words among all
    tokens and of bridging text among all lines (over the training, and at its end), and minutes."""
    rows = []
    for name, folder in trainings().items():
        card = identity.card(folder.name)
        told = {k: tuple(map(tuple, v)) if isinstance(v, list) else v for k, v in card["recipe"].items()}
        recipe = Recipe(**told | {"world": World(**told["world"])})
        bridging = [recipe.bridge_share(p) for p in np.linspace(0, 1, 1001)]
        row = {"training": name, "true by construction": TRUTHS.get(card["name"], "")}
        row |= {"parameters": card["parameters"], "tokens": card["tokens"]}
        row |= {"English words": card["token_shares"].get("en", 0.0), "bridging lines": float(np.mean(bridging))}
        rows.append(row | {"at the end": bridging[-1], "minutes": card["training"]["minutes"]})
    return pd.DataFrame(rows)


def abroad() -> pd.DataFrame:
    """What eyes behind the hub and behind islands say of a shape's colour, from the cards of both trainings: share
    of right answers and `n` by `language` and `training`, Wilson's 95% interval.

    Outside English, of colours that neither was asked for there; sentence forms that read the same in English are out.
    """
    names = {key: name for name, key in facts.TYPES.items()} | {"en": "english"}
    ask, rows = Ask("colour", "", ("blue",)), []
    english = {write(ask, "en", form)[0] for form in forms("colour", "en")}
    for trunk, type_ in itertools.product(("hub", "islands"), LANGUAGES):
        said = pd.DataFrame(identity.card(f"{trunk}-sees")["scores"])
        some = said[(said.group == "one") & (said.kind == "colour") & (said.type == type_)]
        some = some[[type_ == "en" or write(ask, type_, form)[0] not in english for form in some.form]]
        told = share(round((some.accuracy * some.n).sum()), int(some.n.sum()))
        rows.append({"language": names[type_], "training": trunk} | told)
    return pd.DataFrame(rows)


def demanded() -> pd.DataFrame:
    """What must be seen in each model, what was measured over types and seeds, and how often that will do: one row per
    thing, one column per model, as `semhub calibrate` found it."""
    table = pd.read_csv(files("semhub_utils") / "data" / "truth.csv")
    cells = {}
    for (row, model), some in table[table.demanded.notna()].groupby(["row", "model"], sort=False):
        asked = some.demanded.iloc[0]
        numbers = some["p" if asked.startswith("p ") else "value"].dropna()
        span = f"{numbers.min():.2g} to {numbers.max():.2g}" if len(numbers) else "not testable"
        cells.setdefault(row, {})[model] = f"{asked}: {span} ({int(some.met.sum())} of {len(some)})"
    return pd.DataFrame(cells).T.fillna("").rename_axis("what must be seen").reset_index()


def tried() -> pd.DataFrame:
    """The recipes tried for the hub, in order: what was changed, on which split of the facts (0 is the one that ships),
    the tokens seen, and the share of facts answered, the mean over four types. Texts of other recipes than the shipped
    ones are not in the code any more."""
    keys = ["trial", "what", "split", "tokens"]
    table = pd.read_csv(DATA / "tried.csv")
    return table.pivot_table(index=keys, columns="side", values="accuracy", sort=False).reset_index()


# ---- what a chapter asks of a curve ----


def youth(curve: pd.DataFrame) -> pd.DataFrame:
    """What of a curve stands in one chart: MEASURES by tokens seen, the states read at the middle layer."""
    middle = curve.groupby("model").layer.transform("max") // 2
    kept = curve.experiment.isin(list(MEASURES)) & (curve.layer.isna() | (curve.layer == middle))
    return curve[kept].assign(series=curve.experiment)


def milestones(curve: pd.DataFrame) -> pd.DataFrame:
    """By model and type the tokens seen when, for good: the type is mastered (MASTERED of its taught facts answered),
    its held-out facts are answered above chance (the interval), and the similarity holds (some middle layer with p
    below ALPHA and an interval above 0). Empty for never."""
    inner = (curve.depth > 0) & (curve.depth < 1) & (curve.experiment == "similarity")
    reached = {
        "taught facts mastered": (curve.experiment == "taught") & (curve.value >= MASTERED),
        "held-out facts above chance": (curve.experiment == "held out") & (curve.low > curve.chance),
        "similarity holds": inner & (curve.p < ALPHA) & (curve.low > 0),
    }
    rows = []
    for (model, series), some in curve[curve.experiment != "onset"].groupby(["model", "type"], sort=False):
        tokens = np.sort(some.tokens.unique())
        for name, met in reached.items():
            first = onset(np.isin(tokens, some.tokens[met[some.index]])[:, None], tokens.tolist())[0]
            rows.append({"model": model, "type": series, "milestone": name, "tokens": first})
    return pd.DataFrame(rows)


def order_evidence(curve: pd.DataFrame, *, seed: int = 0) -> Result:
    """Does an item's twin come near before its answer is given? Per training one claim `order/<model>`.

    Score of a held-out item: 1 if the twin is nearest for good before the answer is given for good, -1 if after, 0 if
    at the same checkpoint. Items that reach neither are dropped. Null: chance, by subject.
    """
    found, depths = [], curve.groupby("model").layer.max().astype(int)
    for model, some in curve[curve.experiment == "onset"].groupby("model", sort=False):
        alike, said = (some[name].fillna(np.inf).to_numpy() for name in ("alike", "answered"))
        kept = np.isfinite(np.minimum(alike, said))
        told = {"unit": Unit.share("items, before minus after"), "units": some.cluster[kept].tolist(), "seed": seed}
        told["dropped"] = {"neither near nor answered at the end": int((~kept).sum())}
        scores = np.sign(said[kept] - alike[kept])
        found.append(by_chance("order", model, scores, int(depths[model]), null_in_words=BY_SUBJECT, **told))
    return tidy(found) if found else pd.DataFrame(), found


def live_evidence(hub: pd.DataFrame, islands: pd.DataFrame, *, seed: int = 0) -> Result:
    """Of two curves of the same items: does the one answer more of them at the end, and find more of their twins?

    Claims `live/answered` and `live/alike`. Score of an item: 1 if only the first model does, -1 if only the second.
    """
    one, other = (some[some.experiment == "onset"].reset_index(drop=True) for some in (hub, islands))
    if one[["type", "cluster"]].to_dict() != other[["type", "cluster"]].to_dict():
        raise ValueError("the two curves are not about the same items")
    told = {"unit": Unit.share("items, hub minus islands"), "units": one.cluster.tolist(), "seed": seed}
    found = []
    for what in ("answered", "alike"):
        scores = one[what].notna().to_numpy(float) - other[what].notna().to_numpy(float)
        found.append(by_chance("live", what, scores, 1, null_in_words=BY_SUBJECT, **told))
    return tidy(found), found


def by_chance(
    experiment: str, series: str, scores: Float[np.ndarray, " item"], n_layers: int, seed: int, **told: Any
) -> Evidence:
    """Evidence of one number per item, at the middle layer, that is as likely above 0 as below; what else `evidence`
    is told."""
    units = told.get("units", range(len(scores)))

    def draw(columns: np.ndarray, first: int, end: int) -> list[np.ndarray]:
        return [studentised_null(scores[:, None] @ columns, units, draws=end - first, seed=seed + first)]

    told = {"claim": f"{experiment}/{series}", "outcome": True} | told
    told |= {"experiment": experiment, "series": series, "layers": [n_layers // 2], "n_layers": n_layers, "seed": seed}
    return evidence(scores=scores[:, None], draw=draw, **told)


def side_by_side(model: LanguageModel, *, n_items: int, seed: int = 0, data_dir: Path | None = None) -> Result:
    """`snapshot` of this model and its random weights, on natural items where there is a `data_dir`, and of every
    organism that ships, with the column `model`; the evidence is this model's own, with random weights as a control."""
    own = model.model_id.removeprefix(identity.PREFIX)
    own = own if own in identity.available() else Path(own).name
    others = {
        name: load_model(identity.PREFIX + name, device=str(model.device))
        for name in identity.available()
        if name != own
    }
    given = {"n_items": n_items, "seed": seed}
    table, found = snapshot(model, twins=None, data_dir=data_dir, **given)
    tables = [table.assign(model=own)]
    for name, other in {**others, "random weights": randomised(model, seed)}.items():
        tables.append(snapshot(other, data_dir=None if name in others else data_dir, **given)[0].assign(model=name))
    return pd.concat(tables, ignore_index=True), found

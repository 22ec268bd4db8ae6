"""What the instruments see along a training, small trainings of a minute, and what the chapter on raising shows.

All of it on items held out: taught in English words and in no other type. A training ships as a folder beside the
others: its card, `curve.csv`, `log.jsonl` and, but for second seeds, weights.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from semhub_utils import calibrate, zoo
from semhub_utils.errors import SemhubError
from semhub_utils.evidence import ALPHA, Evidence, evidence, sign_flip_null, tidy, wilson
from semhub_utils.experiments.alike import Alike
from semhub_utils.experiments.core import run
from semhub_utils.experiments.words import Lens
from semhub_utils.loading import load_model
from semhub_utils.models import LanguageModel, randomised, wrap
from semhub_utils.organism.corpus import Ask, Recipe, forms, shares, write
from semhub_utils.organism.lexicon import LANGUAGES
from semhub_utils.organism.llama import correct, exam, train
from semhub_utils.organism.world import Fact, Prompt, World
from semhub_utils.similarity import retrieval_accuracy
from semhub_utils.spokes import facts
from semhub_utils.states import hidden_states
from semhub_utils.training import CHECKPOINTS, LOG

CURVE = "curve.csv"
N_ITEMS = 200
MASTERED = 0.9
RANDOM = "random weights"
KEPT = ("similarity", "retrieval", "lens-probability")
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


# ---- along a training ----


def snapshot(
    model: LanguageModel,
    *,
    world: World = facts.WORLD,
    types: Sequence[str] = tuple(facts.TYPES),
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


def answered(model: LanguageModel, world: World, types: Sequence[str], sample: int | None) -> pd.DataFrame:
    """Share of facts (of sums for digits) answered by type, experiment "taught" and "held out", with Wilson's 95%
    interval; `chance` is the share that the commonest answers get. `sample` as for `exam`."""
    rows = []
    for series in types:
        scores = exam(model.module, model.tokenizer, world, types=[facts.TYPES[series]], sample=sample)
        for side in ("taught", "held out"):
            some = [s for s in scores if s.held_out == (side == "held out")]
            some = [s for s in some if (s.group == "sums") == (series == "digits")]
            n, hits = sum(s.n for s in some), sum(round(s.accuracy * s.n) for s in some)
            row = {"experiment": side, "series": series, "type": series, "n": n}
            row["chance"] = sum(s.chance * s.n for s in some) / n
            rows.append(row | _share(hits, n))
    return pd.DataFrame(rows)


def _share(hits: int, n: int) -> dict[str, float]:
    low, high = wilson(hits, n)
    return {"value": hits / n, "low": low, "high": high}


def training_curve(
    folder: str | Path, *, world: World | None = None, n_items: int = N_ITEMS, sample: int = 400
) -> pd.DataFrame:
    """Every checkpoint of a finished training: the rows of `snapshot` and `answered` with their `step` and `tokens`.

    Rows "onset", one per held-out item, hold two steps: `alike`, the first checkpoint from which on to the end the item
    and its English twin are each other's nearest by cosine at the middle layer, and `answered`, the first from which on
    its answer is given; empty for never. `world`: the one the card names. SemhubError without a finished training.
    """
    folder = Path(folder)
    if not (folder / zoo.CARD).exists() or not (folder / CHECKPOINTS).is_dir():
        raise SemhubError(f"{folder} holds no finished training with checkpoints; a folder of `semhub train` would do.")
    card = json.loads((folder / zoo.CARD).read_text("utf-8"))
    recipe = card["recipe"]
    world = world or World(**recipe["world"])
    shared = replace(world, private=False, forget=False)
    types = [series for series, short in facts.TYPES.items() if short in dict(recipe["types"])]
    chosen = {series: facts.prompts(series, n_items, world=shared) for series in types}
    module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tables, steps, seen = [], [], {series: [] for series in types}
    for path in sorted((folder / CHECKPOINTS).glob("step-*.safetensors")):
        module.load_state_dict({name: value.float() for name, value in load_file(path).items()})
        model = wrap(module, tokenizer, model_id=f"{folder.name} {path.stem}")
        steps.append(int(path.stem.removeprefix("step-")))
        looked, _ = snapshot(model, world=shared, types=types, n_items=n_items)
        table = pd.concat([looked, answered(model, world, types, sample)])
        tables.append(table.assign(step=steps[-1], tokens=round(steps[-1] * card["tokens"] / recipe["steps"])))
        for series, some in chosen.items():
            seen[series].append((_alike(model, some), correct(module, tokenizer, some)))
    for series, some in chosen.items():
        alike, said = (onset(np.array(rows), steps) for rows in zip(*seen[series], strict=True))
        pairs = facts.similarity_pairs(some)
        of_item = {"cluster": [pair.cluster for pair in pairs], "item": [pair.id for pair in pairs]}
        of_item |= {"alike": alike, "answered": said}
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


def write_curve(folder: Path) -> Path:
    """`training_curve` as a file beside the card, four digits a number; its path."""
    table = training_curve(folder)
    zoo.atomically(folder / CURVE, lambda to: table.to_csv(to, index=False, float_format="%.4g"))
    return folder / CURVE


# ---- small trainings: what a chapter raises while you wait, and what has to be there for a hub to grow ----


@dataclass(frozen=True)
class SmallWorld(World):
    """The world with the facts of a few relations alone, as many as are learned in a minute; sums are not asked."""

    relations: tuple[str, ...] = ("colour", "home", "food", "legs")

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
    """Train every variant with every seed, and look: the rows of `snapshot` and `answered` at the end of the training,
    with `variant`, `seed` and `tokens`. About 40 seconds of one core each."""
    tables, types = [], ["spanish"]
    for seed in seeds:
        for variant, recipe in VARIANTS.items():
            with tempfile.TemporaryDirectory() as folder:
                train(recipe, folder, seed=seed, log_every=recipe.steps)
                tokens = pd.read_json(Path(folder) / LOG, lines=True).tokens.iloc[-1]
                model = load_model(folder)
                looked, _ = snapshot(model, world=replace(recipe.world, private=False, forget=False), types=types)
                table = pd.concat([looked, answered(model, recipe.world, types, None)])
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
        return pd.concat([training_curve(folder, world=recipe.world), log], ignore_index=True).assign(model=recipe.name)


def controls_summary() -> pd.DataFrame:
    """The shipped table of `run_controls`, one row per variant (`series`) and measure (`reading`, of MEASURES; states
    at the middle layer): the mean over seeds, with the lowest lower and the highest upper end of the seeds' 95%
    intervals."""
    table = youth(pd.read_csv(TABLE).assign(model="small"))
    found = table.groupby(["variant", "series"], sort=False).agg(
        value=("value", "mean"), low=("low", "min"), high=("high", "max"), p=("p", "max"), n=("n", "min"),
        chance=("chance", "mean"), seeds=("seed", "nunique"), tokens=("tokens", "mean"),
    )  # fmt: skip
    return found.reset_index(names=["series", "reading"])


# ---- what ships ----


def born() -> pd.DataFrame:
    """One row per training that ships: what is true of it, parameters, tokens, the shares of English words among all
    tokens and of bridging text among all lines (over the training, and at its end), and minutes."""
    rows = []
    for name, card in shipped_cards().items():
        told = {k: tuple(map(tuple, v)) if isinstance(v, list) else v for k, v in card["recipe"].items()}
        recipe = Recipe(**told | {"world": World(**told["world"])})
        bridging = [recipe.bridge_share(p) for p in np.linspace(0, 1, 1001)]
        rows.append(
            {
                "training": name,
                "true by construction": TRUTHS.get(card["name"], ""),
                "parameters": card["parameters"],
                "tokens": card["tokens"],
                "English words": card["token_shares"].get("en", 0.0),
                "bridging lines": float(np.mean(bridging)),
                "at the end": bridging[-1],
                "minutes": card["training"]["minutes"],
            }
        )
    return pd.DataFrame(rows)


def shipped_curves() -> pd.DataFrame:
    """The curves of all trainings that ship, with the column `model` ("hub", "hub, seed 1")."""
    return _shipped(CURVE, pd.read_csv)


def shipped_logs() -> pd.DataFrame:
    """The loss along all trainings that ship (nats a token): step, tokens, value, series and model alike."""
    return _shipped(LOG, _losses).assign(series=lambda t: t.model)


def shipped_cards() -> dict[str, dict]:
    """The cards of all trainings that ship, second seeds (whose weights do not) among them."""
    return {_label(path): zoo.card(path.parent.name) for path in _files(zoo.CARD)}


def _losses(path: Path) -> pd.DataFrame:
    return pd.read_json(path, lines=True)[["step", "tokens", "loss"]].rename(columns={"loss": "value"})


def _files(name: str) -> list[Path]:
    return sorted(p for p in zoo.weights_dir().glob(f"*/{name}") if not zoo.has_sense(p.parent.name))


def _label(path: Path) -> str:
    card = zoo.card(path.parent.name)
    return card["name"] + (f", seed {card['seed']}" if card["seed"] else "")


def _shipped(name: str, read) -> pd.DataFrame:
    return pd.concat([read(path).assign(model=_label(path)) for path in _files(name)], ignore_index=True)


def abroad() -> pd.DataFrame:
    """What eyes behind the hub and behind islands say of a shape's colour, from the cards of both trainings (the
    latter's weights do not ship): share of right answers and `n` by `language` and `trunk`, with Wilson's 95% interval.

    Outside English, of colours that neither was asked for there; sentence forms that read the same in English are out.
    """
    rows = []
    names = {key: name for name, key in facts.TYPES.items()} | {"en": "english"}
    ask = Ask("colour", "", ("blue",))
    english = {write(ask, "en", form)[0] for form in forms("colour", "en")}
    for trunk in ("hub", "islands"):
        scores = pd.DataFrame(zoo.card(f"{trunk}-sees")["scores"])
        scores = scores[(scores.group == "one") & (scores.kind == "colour")]
        for type_ in LANGUAGES:
            some = scores[scores.type == type_]
            some = some[[type_ == "en" or write(ask, type_, form)[0] not in english for form in some.form]]
            hits, n = round((some.accuracy * some.n).sum()), int(some.n.sum())
            rows.append({"language": names[type_], "trunk": trunk, "n": n} | _share(hits, n))
    return pd.DataFrame(rows)


def demanded() -> pd.DataFrame:
    """What must be seen in each model, what was measured over types and seeds, and how often that will do: one row per
    thing, one column per model, as `semhub calibrate` found it."""
    table = calibrate.read("truth")
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


def order_evidence(curve: pd.DataFrame, *, seed: int = 0) -> tuple[pd.DataFrame, list[Evidence]]:
    """Does an item's twin come near before its answer is given? Per training one claim `order/<model>`.

    Score of a held-out item: 1 if the twin is nearest for good before the answer is given for good, -1 if after, 0 if
    at the same checkpoint. Items that reach neither are dropped. Null: the sign of each subject's items, by a coin.
    """
    found = []
    depths = curve.groupby("model").layer.max().astype(int)
    for model, some in curve[curve.experiment == "onset"].groupby("model", sort=False):
        alike, said = (some[name].fillna(np.inf).to_numpy() for name in ("alike", "answered"))
        kept = np.isfinite(np.minimum(alike, said))
        scores = np.sign(np.where(kept, said, 1) - np.where(kept, alike, 1))[kept]
        found.append(
            _by_coin(
                "order",
                model,
                scores,
                some.cluster[kept].tolist(),
                unit="share of items, before minus after",
                n_layers=int(depths[model]),
                dropped={"neither near nor answered at the end": int((~kept).sum())},
                seed=seed,
            )
        )
    return tidy(found) if found else pd.DataFrame(), found


def live_evidence(hub: pd.DataFrame, islands: pd.DataFrame, *, seed: int = 0) -> tuple[pd.DataFrame, list[Evidence]]:
    """Of two curves of the same items: does the one answer more of them at the end, and find more of their twins?

    Claims `live/answered` and `live/alike`. Score of an item: 1 if only the first model does, -1 if only the second.
    """
    one, other = (some[some.experiment == "onset"].reset_index(drop=True) for some in (hub, islands))
    if one[["type", "cluster"]].to_dict() != other[["type", "cluster"]].to_dict():
        raise ValueError("the two curves are not about the same items")
    found = []
    for what in ("answered", "alike"):
        scores = one[what].notna().to_numpy(float) - other[what].notna().to_numpy(float)
        unit = "share of items, hub minus islands"
        found.append(_by_coin("live", what, scores, one.cluster.tolist(), unit=unit, n_layers=1, seed=seed))
    return tidy(found), found


def _by_coin(
    experiment: str, series: str, scores, clusters: list[str], *, n_layers: int, seed: int, **more
) -> Evidence:
    """Evidence of one number per item, at the middle layer."""
    null = sign_flip_null(scores[:, None], clusters=clusters, seed=seed)
    how = {"layers": [n_layers // 2], "n_layers": n_layers, "experiment": experiment, "series": series}
    how |= {"null_in_words": "the sign of each subject by a coin", "outcome": True, "seed": seed}
    return evidence(f"{experiment}/{series}", scores[:, None], null, clusters=clusters, **how, **more)


def side_by_side(model: LanguageModel, *, n_items: int, seed: int = 0) -> tuple[pd.DataFrame, list[Evidence]]:
    """`snapshot` of this model, of every organism that ships and of random weights, with the column `model`; the
    evidence is this model's own, with random weights as a control."""
    own = model.model_id.removeprefix(zoo.PREFIX)
    own = own if own in zoo.available() else Path(own).name
    table, found = snapshot(model, n_items=n_items, seed=seed, random_weights=True)
    tables = [table.assign(model=own)]
    others = {name: load_model(zoo.PREFIX + name, device=str(model.device)) for name in zoo.available() if name != own}
    for name, other in {**others, RANDOM: randomised(model, seed)}.items():
        tables.append(snapshot(other, n_items=n_items, seed=seed)[0].assign(model=name))
    return pd.concat(tables, ignore_index=True), found

"""What the chapter on raising shows: the trainings that ship, their curves, and the models side by side.

A training ships as a folder beside the others: its card, `curve.csv`, `log.jsonl` and, but for second seeds, weights.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd

from semhub_utils import calibrate, zoo
from semhub_utils.evidence import ALPHA, Evidence, evidence, sign_flip_null, tidy
from semhub_utils.models import LanguageModel, load_model, randomised
from semhub_utils.organism.asking import Ask, forms, write
from semhub_utils.organism.controls import controls
from semhub_utils.organism.corpus import Recipe
from semhub_utils.organism.curve import COLUMNS, CURVE, LOG, onset, snapshot
from semhub_utils.organism.exam import wilson
from semhub_utils.organism.lexicon import LANGUAGES
from semhub_utils.organism.world import World
from semhub_utils.spokes import facts

TRIED = Path(str(files("semhub_utils.organism"))) / "data" / "tried.csv"
MASTERED = 0.9
RANDOM = "random weights"
MEASURES = {"similarity": "english", "retrieval": "chinese", "taught": "control", "held out": "spanish"}
"""What a training is judged by, and the look of its curve."""
TRUTHS = {
    "planted": "a hub: every word of another type began as its English counterpart and noise, on a frozen body",
    "hub": "nothing is copied or frozen; whatever is shared grew from text, most of it English",
    "islands": "no hub is possible: every type speaks of a private world, and no line joins two types",
    "balanced": "as hub, with no dominant language",
}
"""What is true of an organism whatever an instrument says."""


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
    return _shipped(CURVE, pd.read_csv, [*COLUMNS])


def shipped_logs() -> pd.DataFrame:
    """The loss along all trainings that ship (nats a token): step, tokens, value, series and model alike."""

    def read(path: Path) -> pd.DataFrame:
        log = pd.read_json(path, lines=True)[["step", "tokens", "loss"]].rename(columns={"loss": "value"})
        return log.assign(series=_label(path))

    return _shipped(LOG, read, ["step", "tokens", "value", "series"])


def shipped_cards() -> dict[str, dict]:
    """The cards of all trainings that ship, second seeds (whose weights do not) among them."""
    return {_label(path): json.loads(path.read_text("utf-8")) for path in _files(zoo.CARD)}


def abroad() -> pd.DataFrame:
    """What eyes behind the hub and behind islands say of a shape's colour, from the cards of both trainings (the
    latter's weights do not ship): share of right answers and `n` by `language` and `trunk`, with Wilson's 95% interval.

    Outside English, of colours that neither was asked for there; sentence forms that read the same in English are out.
    """
    rows = []
    for trunk in ("hub", "islands"):
        card = zoo.card(f"{trunk}-sees")
        scores = pd.DataFrame(card["scores"])
        scores = scores[(scores.group == "one") & (scores.kind == "colour") & scores.type.isin(LANGUAGES)]
        ask = Ask("colour", "", ("blue",))
        english = {write(ask, "en", form)[0] for form in forms("colour", "en")}
        own = [t == "en" or write(ask, t, f)[0] not in english for t, f in zip(scores.type, scores.form, strict=True)]
        for type_ in LANGUAGES:
            some = scores[own][scores.type[own] == type_]
            hits, n = round((some.accuracy * some.n).sum()), int(some.n.sum())
            low, high = wilson(hits, n)
            language = next(name for name, key in facts.TYPES.items() if key == type_) if type_ != "en" else "english"
            rows.append({"language": language, "trunk": trunk, "value": hits / n, "low": low, "high": high, "n": n})
    return pd.DataFrame(rows)


def _files(name: str) -> list[Path]:
    return sorted(p for p in zoo.weights_dir().glob(f"*/{name}") if not zoo.has_sense(p.parent.name))


def _label(path: Path) -> str:
    card = zoo.card(path.parent.name)
    return card["name"] + (f", seed {card['seed']}" if card["seed"] else "")


def _shipped(name: str, read, columns: Sequence[str]) -> pd.DataFrame:
    tables = [read(path).assign(model=_label(path)) for path in _files(name)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=[*columns, "model"])


# What a chapter asks of a curve


def youth(curve: pd.DataFrame) -> pd.DataFrame:
    """What of a curve stands in one chart: MEASURES by tokens seen, the states read at the middle layer."""
    middle = curve.groupby("model").layer.transform("max") // 2
    kept = curve.experiment.isin(list(MEASURES)) & (curve.layer.isna() | (curve.layer == middle))
    return curve[kept].assign(series=curve.experiment)


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
            first = onset(np.array([[t in when] for t in tokens]), tokens.tolist())[0]
            rows.append(row | {"milestone": name, "tokens": first})
    return pd.DataFrame(rows)


def order_evidence(curve: pd.DataFrame, *, seed: int = 0) -> tuple[pd.DataFrame, list[Evidence]]:
    """Does an item's twin come near before its answer is given? Per training one claim `order/<model>`.

    Score of a held-out item: 1 if the twin is nearest for good before the answer is given for good, -1 if after, 0 if
    at the same checkpoint. Items that reach neither are dropped. Null: the sign of each subject's items, by a coin.
    """
    found = []
    depths = curve.groupby("model").layer.max().astype(int)
    for model, some in curve[curve.experiment == "onset"].groupby("model", sort=False):
        n_layers = int(depths[model])
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
    return tidy(found) if found else pd.DataFrame(), found


def live_evidence(hub: pd.DataFrame, islands: pd.DataFrame, *, seed: int = 0) -> tuple[pd.DataFrame, list[Evidence]]:
    """Of two curves of the same items: does the one answer more of them at the end, and find more of their twins?

    Claims `live/answered` and `live/alike`. Score of an item: 1 if only the first model does, -1 if only the second.
    """
    found = []
    one, other = (some[some.experiment == "onset"].reset_index(drop=True) for some in (hub, islands))
    if one[["type", "cluster"]].to_dict() != other[["type", "cluster"]].to_dict():
        raise ValueError("the two curves are not about the same items")
    for what in ("answered", "alike"):
        scores = (one[what].notna().to_numpy(float) - other[what].notna().to_numpy(float))[:, None]
        null = sign_flip_null(scores, clusters=one.cluster.tolist(), seed=seed)
        found.append(
            evidence(f"live/{what}", scores, null, layers=[0], n_layers=1, experiment="live", series=what,
                     clusters=one.cluster.tolist(), outcome=True, seed=seed, unit="share of items, hub minus islands",
                     null_in_words="the sign of each subject by a coin")
        )  # fmt: skip
    return tidy(found), found


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


def demanded() -> pd.DataFrame:
    """What must be seen in each model, what was measured over types and seeds, and how often that will do: one row per
    thing, one column per model, as `semhub calibrate` found it."""
    table = calibrate.read("truth")
    table = table[table.demanded.notna()]
    cells = {}
    for (row, model), some in table.groupby(["row", "model"], sort=False):
        asked = some.demanded.iloc[0]
        numbers = some["p" if asked.startswith("p ") else "value"].dropna()
        span = f"{numbers.min():.2g} to {numbers.max():.2g}" if len(numbers) else "not testable"
        cells.setdefault(row, {})[model] = f"{asked}: {span} ({int(some.met.sum())} of {len(some)})"
    return pd.DataFrame(cells).T.fillna("").rename_axis("what must be seen").reset_index()


def tried() -> pd.DataFrame:
    """The recipes tried for the hub, in order: what was changed, on which split of the facts (0 is the one that ships),
    the tokens seen, and the share of facts answered, the mean over four types. Texts of other recipes than the shipped
    ones are not in the code any more."""
    table = pd.read_csv(TRIED)
    keys = ["trial", "what", "split", "tokens"]
    return table.pivot_table(index=keys, columns="side", values="accuracy", sort=False).reset_index()


def controls_summary() -> pd.DataFrame:
    """The shipped controls, one row per variant (`series`) and measure (`reading`, of MEASURES; states at the middle
    layer): the mean over seeds, with the lowest lower and the highest upper end of the seeds' 95% intervals."""
    table = youth(controls().assign(model="small"))
    found = table.groupby(["variant", "series"], sort=False).agg(
        value=("value", "mean"), low=("low", "min"), high=("high", "max"), p=("p", "max"), n=("n", "min"),
        chance=("chance", "mean"), seeds=("seed", "nunique"), tokens=("tokens", "mean"),
    )  # fmt: skip
    return found.reset_index(names=["series", "reading"])

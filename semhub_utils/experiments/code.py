"""Where Python leaves a word out, is the English one in the middle layers? And does it change what is written?"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from semhub_utils.errors import SemhubError
from semhub_utils.evidence import MIN_ITEMS, control, evidence, sign_flip_null, tidy
from semhub_utils.experiments.common import DRAWS, Result, curve
from semhub_utils.experiments.lens import lens_experiment, untestable
from semhub_utils.experiments.steering import steering_experiment
from semhub_utils.lens import lens, word_logprobs
from semhub_utils.models import Encoding, LanguageModel, randomised
from semhub_utils.shuffles import codes, least_sign_flip_p
from semhub_utils.spokes.code import FREQUENT, Place, calls_range, only_argument, steering_item
from semhub_utils.spokes.items import LensItem
from semhub_utils.states import hidden_states
from semhub_utils.steering import generate
from semhub_utils.tokens import target_table, word_forms

RIVALS = ("or", "not")  # Python's other words of this kind
STRENGTHS = (0.0, 0.25, 0.5, 1.0, 2.0)  # in lengths of the mean state of the layer
RELEASED_DEPTH = 17 / 32
RELEASED_STRENGTHS = (0.0, 10.0, 20.0, 40.0, 80.0)  # in lengths of the vector, as the paper gives them
LONGEST_ARGUMENT = 8  # tokens


@dataclass(frozen=True)
class Site:
    """A place as one model's tokenizer sees it: the prompt that ends there, and the token that comes next."""

    place: Place
    prompt: str
    next_id: int
    next_text: str


def sites(model: LanguageModel, places: Sequence[Place]) -> tuple[list[Site], dict[str, int]]:
    """The places whose comma or bracket is a token of its own, before a token that is not blank; the others by reason.

    A prompt that the tokenizer cuts in another way when the program ends there is no reading of that program.
    """
    encodings = {text: _encode(model, text) for text in dict.fromkeys(place.text for place in places)}
    found: dict[tuple[str, int, str], Site] = {}
    dropped: Counter[str] = Counter()
    for place in places:
        encoding, prompt = encodings[place.text], place.text[: place.at]
        if encoding is None:
            dropped["program longer than the model's context"] += 1
            continue
        ends = [k for k, (start, end) in enumerate(encoding.offsets) if end == place.at and end > start]
        if not ends or place.text[slice(*encoding.offsets[ends[-1]])].strip() != place.text[place.at - 1]:
            dropped["comma or bracket merged into a longer token"] += 1
            continue
        k = ends[-1]
        following = place.text[slice(*encoding.offsets[k + 1])].strip() if k + 1 < len(encoding) else ""
        if encoding.ids[k + 1 : k + 2] == [model.tokenizer.unk_token_id]:
            dropped["next token unknown to the tokenizer"] += 1
        elif not following:
            dropped["next token blank"] += 1
        elif model.encode([prompt])[0].ids != encoding.ids[: k + 1]:
            dropped["tokens cut in another way when the program ends there"] += 1
        elif (key := (prompt, encoding.ids[k + 1], place.name)) in found:
            dropped["same prompt again"] += 1
        else:
            found[key] = Site(place, prompt, encoding.ids[k + 1], following)
    return list(found.values()), dict(dropped)


def and_experiment(
    model: LanguageModel,
    places: Sequence[Place],
    *,
    reading: str = "normed",
    seed: int = 0,
    random_weights: bool = True,
    dropped: Mapping[str, int] | None = None,
) -> Result:
    """Does the lens read "and" at the commas of lists, as English joins its lists?

    The margin of "and" is its log-probability minus the largest of: "or", "not" (Python has all three), and the mean of
    the frequent words. `and-lead/lists`: the margin at list commas, signs flipped per program. `and-place/lists`: that
    minus the margin at commas between arguments, the two kinds shuffled among programs, so that a model which puts
    "and" after any comma cannot win. `and-end/lists`: at the last layer, log-probability of the token that is written
    next minus that of "and". Table: `and-probability`.
    """
    found, lost = sites(model, places)
    dropped, n_layers = {**(dropped or {}), **lost}, model.n_layers
    table = None
    try:
        table = target_table(model, ("and", *RIVALS, *FREQUENT), min((s.prompt for s in found), key=len, default="[1,"))
    except SemhubError:
        pass
    if table is None or "and" not in table.words or len(table.words) < 2:
        dropped["no token of its own for the words"], found = len(found), []
    clusters, at_list = [s.place.program for s in found], np.array([s.place.kind == "list" for s in found], bool)
    lists, others = ([c for c, yes in zip(clusters, at_list, strict=True) if yes == kind] for kind in (True, False))

    def read(reader: LanguageModel) -> dict[str, Float[np.ndarray, "site layer"]]:
        """Log-probability by word."""
        if not found:
            return dict.fromkeys(("and", *RIVALS, "frequent words", "next token"), np.empty((0, n_layers + 1)))
        own = torch.tensor([[site.next_id] for site in found])
        targets = torch.cat([table.ids.expand(len(found), -1), own], dim=1)
        hidden = hidden_states(reader, [site.prompt for site in found]).hidden
        logprob = lens(reader, hidden, targets=targets, reading=reading).logprob.double()
        of = dict(zip(table.words, word_logprobs(logprob[..., :-1], table.groups).unbind(-1), strict=True))
        if frequent := [of.pop(word).exp() for word in FREQUENT if word in of]:
            of["frequent words"] = torch.stack(frequent).mean(0).log()
        return {name: value.numpy() for name, value in (of | {"next token": logprob[..., -1]}).items()}

    def measure(of: dict[str, np.ndarray]) -> dict[str, tuple]:
        """By claim: scores, null, least p, clusters."""
        margin = of["and"] - np.max([v for name, v in of.items() if name not in ("and", "next token")], axis=0)
        end = (of["next token"] - of["and"])[at_list, -1:]
        flips = [(m, _flipped(m, lists, seed), least_sign_flip_p(lists), lists) for m in (margin[at_list], end)]
        return {
            "and-lead": flips[0],
            "and-place": (*_between(margin, at_list, clusters, seed), clusters),
            "and-end": flips[1],
        }

    of = read(model)
    made = measure(of)
    noise = measure(read(randomised(model, seed))) if random_weights and found else {}
    controls: dict[str, dict] = {name: {} for name in made}
    for name in ("and-lead", "and-place"):
        if name in noise and len(noise[name][0]):
            scores, *_, by = noise[name]
            controls[name]["random weights"] = control("random weights", scores, clusters=by, seed=seed)
    if lists:  # what the comma's own embedding says is no reading of a layer
        controls["and-lead"]["embedding layer"] = control(
            "embedding layer", made["and-lead"][0][:, :1], n_layers_shown=n_layers + 1, clusters=lists, seed=seed
        )
    claims = [
        evidence(
            f"{name}/lists",
            scores,
            null,
            least_p=least,
            layers=[n_layers] if name == "and-end" else range(n_layers + 1),
            n_layers=n_layers,
            experiment=name,
            series="lists",
            reading=reading,
            clusters=by if len(scores) else None,
            controls=controls[name],
            dropped=dropped,
            seed=seed,
        )
        for name, (scores, null, least, by) in made.items()
    ]
    common = {"experiment": "and-probability", "reading": reading, "dropped": sum(dropped.values()), "seed": seed}
    shown = [(name, value[at_list], lists) for name, value in of.items()]
    shown.append(("and, between arguments", of["and"][~at_list], others))
    curves = [curve(model, np.exp(v), series=name, clusters=by, **common) for name, v, by in shown]
    return pd.concat([tidy(claims), *curves], ignore_index=True), claims


def _flipped(scores: Float[np.ndarray, "site layer"], clusters: Sequence[str], seed: int) -> np.ndarray:
    return sign_flip_null(scores, clusters=clusters, draws=DRAWS, seed=seed) if len(scores) else scores


def _between(
    scores: Float[np.ndarray, "site layer"], first: np.ndarray, clusters: Sequence[str], seed: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Scores whose mean is the mean over `first` minus that over the others, its null, and the least p of that: what is
    of one program and one kind moves together when the kinds are shuffled. Empty if there is one kind only."""
    if not first.any() or first.all():
        return scores[:0], scores[:0], 0.0
    cells = codes(list(zip(clusters, first.tolist(), strict=True)))
    kind, size, total = (
        np.zeros(cells.max() + 1, bool),
        np.bincount(cells),
        np.zeros((cells.max() + 1, scores.shape[1])),
    )
    kind[cells] = first
    np.add.at(total, cells, scores)
    rng = np.random.default_rng(seed)
    drawn = np.stack([rng.permutation(kind) for _ in range(DRAWS)]).astype(float)
    null = (drawn @ total) / (drawn @ size)[:, None] - ((1 - drawn) @ total) / ((1 - drawn) @ size)[:, None]
    weight = np.where(first, len(first) / first.sum(), -len(first) / (~first).sum())
    return scores * weight[:, None], null, 1 / math.comb(len(kind), int(kind.sum()))


def role_experiment(
    model: LanguageModel,
    places: Sequence[Place],
    *,
    series: str = "arguments",
    reading: str = "normed",
    seed: int = 0,
    random_weights: bool = True,
    dropped: Mapping[str, int] | None = None,
) -> Result:
    """Before an argument, does the lens read the name of its parameter, against the argument as written?

    `lens_experiment` with the first token of the argument as the own word, and as wrong words the names of all other
    parameters that are read after the same token, bracket or comma, as only these change places in the null: the token
    itself tells first arguments from later ones. The curve `wrong name of the same function` is the mean over the other
    parameters of that function. Left out besides what `sites` leaves out: places where name and argument are the same
    token, and those where the model is about to write the name itself, as in `gives(agent=`: there the name is the
    surface.
    """
    found, lost = sites(model, places)
    dropped = {**(dropped or {}), **lost}
    found = sorted(found, key=lambda site: len(site.prompt))  # words are resolved after the shortest prompt
    last = hidden_states(model, [site.prompt for site in found], layers=[model.n_layers]).hidden if found else None
    top = lens(model, last, top_k=1).top_ids[:, 0, 0].tolist() if found else []
    about = [model.tokenizer.decode([token]).strip() == s.place.name for token, s in zip(top, found, strict=True)]
    found, written = [s for s, name in zip(found, about, strict=True) if not name], sum(about)
    names: dict[str, set[str]] = {}  # by the token that is read: a bracket or a comma
    for site in found:
        names.setdefault(site.prompt[-1], set()).add(site.place.name)
    items = [
        LensItem(
            id=f"{site.place.program}:{site.place.at}",
            prompt=site.prompt,
            targets={"name": (site.place.name,), "argument": (site.next_text,)},
            cluster=site.place.program,
            wrong={
                "name": tuple(sorted(names[site.prompt[-1]] - {site.place.name})),
                "name of the same function": site.place.names,
            },
            group=site.prompt[-1],
            anchor=site.place.name,
        )
        for site in found
    ]
    if written:
        dropped["model writes the name itself"] = written
    where = {"hub": "name", "own": "argument", "series": series, "reading": reading}
    if not items:
        nobody = LensItem("", "", {"name": (), "argument": ()}, "", {"name": (), "name of the same function": ()})
        return untestable(model, [nobody], dropped=dropped, **where)
    return lens_experiment(model, items, seed=seed, random_weights=random_weights, dropped=dropped, **where)


def range_experiment(
    model: LanguageModel,
    places: Sequence[Place],
    *,
    expected: str = "0, n",
    series: str = "range",
    as_released: bool = True,
    seed: int = 0,
    dropped: Mapping[str, int] | None = None,
) -> Result:
    """Does "start" minus "end" make a model that writes `range(n)` write `range(0, n)`?

    The prompts end in `range(`; kept are those after which the model, left alone, writes one argument. The difference
    of the unembedding rows of the two English words is added at the last token. "corrected": strengths in lengths of
    the layer's mean state, layer and strength chosen on other programs. "as released": the paper's layer (17 of 32) and
    its strengths, in lengths of the vector itself. Both are `steering_experiment`; the table gives `strength` in
    lengths of the state and `raw` in lengths of the vector, and `range-task`: 1 where one argument was written.
    expected: the new call, or "k, n" for any start. as_released: whether that reading is run too.
    """
    found, lost = sites(model, places)
    dropped = {**(dropped or {}), **lost}
    prompts = list(dict.fromkeys(site.prompt for site in found))
    cluster = {site.prompt: site.place.program for site in found}
    written = [row[0] for row in generate(model, prompts, max_new_tokens=LONGEST_ARGUMENT)] if prompts else []
    alone = [only_argument(text) for text in written]
    items = [
        steering_item(prompt, argument, cluster[prompt], expected=expected)
        for prompt, argument in zip(prompts, alone, strict=True)
        if argument
    ]
    task = pd.DataFrame({"experiment": "range-task", "series": series, "value": [float(a is not None) for a in alone]})
    if len(items) < len(prompts):
        dropped["the model writes something else than one argument"] = len(prompts) - len(items)
    vector = _difference(model, "start", "end", prompts[0]) if prompts else None
    released = max(1, round(RELEASED_DEPTH * model.n_layers))
    if len({item.cluster for item in items}) < MIN_ITEMS or vector is None:
        return _no_range(model, task, dropped, series, released if as_released else None)
    norms = hidden_states(model, [item.prompt for item in items]).hidden.norm(dim=-1).mean(0)
    ways = {
        "corrected": (normalize(vector, dim=-1) * norms[:, None], STRENGTHS, None),
        "as released": (vector.expand(len(norms), -1), RELEASED_STRENGTHS, [released]),
    }
    if not as_released:
        del ways["as released"]
    tables, claims = [task], []
    for reading, (by_layer, strengths, layers) in ways.items():
        table, [claim] = steering_experiment(
            model, items, series=series, strengths=strengths, max_new_tokens=LONGEST_ARGUMENT, seed=seed,
            vector=by_layer, layers=layers, reading=reading, match=calls_range, dropped=dropped,
        )  # fmt: skip
        in_states = table.layer.map(dict(enumerate((vector.norm() / norms).tolist())))  # the vector's length
        raw, strength = table.strength, table.strength
        if reading == "corrected":
            raw = strength / in_states
        else:
            strength = raw * in_states
        tables.append(table.assign(raw=raw, strength=strength))
        claims.append(claim)
    return pd.concat(tables, ignore_index=True), claims


def _difference(model: LanguageModel, toward: str, away: str, prompt: str) -> Float[Tensor, " input"] | None:
    """The unembedding row of one word minus that of another, as they may follow `prompt`; None where one is in several
    tokens or where rows are no states."""
    try:
        forms = [word_forms(model, word, prompt) for word in (toward, away)]
    except SemhubError:
        return None
    if not all(form.single for form in forms) or model.unembedding.shape[1] != model.hidden_size:
        return None
    first, second = (model.unembedding[form.ids[0]].detach().float().cpu() for form in forms)
    return first - second


def _no_range(
    model: LanguageModel, task: pd.DataFrame, dropped: dict[str, int], series: str, released: int | None
) -> Result:
    """The claims without an item, and curves without a number."""
    readings = [("corrected", "", 1, STRENGTHS)]
    if released:
        readings.append(("as released", "/as released", released, RELEASED_STRENGTHS))
    claims = [
        evidence(
            f"steering/{series}{suffix}", np.empty((0, 1)), np.empty((0, 1)), layers=[layer], n_layers=model.n_layers,
            experiment="steering", series=series, reading=reading, dropped=dropped, outcome=True,
        )
        for reading, suffix, layer, _ in readings
    ]  # fmt: skip
    nothing = {"n": 0, "value": np.nan, "low": np.nan, "high": np.nan}
    rows = [
        {"experiment": experiment, "series": outcome, "reading": reading, "condition": condition, "strength": s,
         "raw": s, "layer": layer, "depth": model.depth(layer), **nothing}
        for reading, _, layer, strengths in readings
        for experiment, outcomes in (("steering-choice", (series,)), ("steering-dose", ("expected", "unchanged", "other")))
        for condition in ("steered", "random direction", "reversed", "wrong layer")[: 1 if outcomes == (series,) else 4]
        for outcome in outcomes
        for s in strengths
    ]  # fmt: skip
    return pd.concat([tidy(claims), task, pd.DataFrame(rows)], ignore_index=True), claims


def _encode(model: LanguageModel, text: str) -> Encoding | None:
    """None where the text does not fit the model."""
    try:
        return model.encode([text])[0]
    except SemhubError:
        return None

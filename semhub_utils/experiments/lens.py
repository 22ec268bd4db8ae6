"""Which word does the lens read in the middle, and which at the end (Eq. 2)?"""

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from semhub_utils.errors import SemhubError
from semhub_utils.evidence import Evidence, evidence, sign_flip_null, tidy
from semhub_utils.experiments.common import DRAWS, FEW_DRAWS, Result, curve
from semhub_utils.lens import available_readings, lens, word_logprobs
from semhub_utils.models import LanguageModel, randomised
from semhub_utils.shuffles import least_permutation_p, least_sign_flip_p, random_pairings
from semhub_utils.spokes.items import LensItem
from semhub_utils.states import hidden_states
from semhub_utils.tokens import told_apart


def lens_experiment(
    model: LanguageModel,
    items: Sequence[LensItem],
    *,
    hub: str,
    own: str,
    series: str,
    reading: str = "normed",
    over: str = "cluster",
    seed: int = 0,
    random_weights: bool = True,
    dropped: Mapping[str, int] | None = None,
) -> Result:
    """Does the lens (Eq. 2) read the hub's word (`targets[hub]`) at middle layers, and the own token (`targets[own]`)
    at the end?

    Three claims. `lens-meaning`: log P(right hub word) minus the mean over the wrong hub words of its class, against
    targets shuffled among items of a group; each word is right for some items and wrong for others, so frequency is
    matched by design (a wrong word counts as often as the item names it). `lens-lead`: log P(right hub word) minus the
    larger of log P(own token) and that mean, so that a model that favours hub words whatever they mean cannot win;
    against flipped signs and against shuffled targets, as the right answers may be likelier words than most of their
    class. `lens-end`: log P(own token) minus log P(right hub word) at the last layer. Of several right words the
    likeliest counts. Controls: random weights, and of the first two the embedding layer. Words of several tokens, or
    whose token another word shares, are dropped and counted; if no item is left, the claims cannot be tested and the
    curves are empty. The table adds probabilities (of the wrong words the mean), how often a word, in any of its forms,
    comes first (`lens-first`; of the wrong words the mean), the entropy, and in the raw reading by how much higher the
    probability is in the normed one (`lens-gap`); of the hub's and the own words with words shuffled among items of a
    group as null, and of all but the wrong ones with random weights beside it. `dropped`: what was left out before,
    with counts; with it, no item at all cannot be tested either. over: what intervals are over, as in
    `answer_experiment`.
    """
    words, kept, unresolved = _resolve(model, items, hub, own) if items or not dropped else (None, [], {})
    dropped = dict(Counter(dropped or {}) + Counter(unresolved))
    if not kept:
        return untestable(model, items, hub, own, dropped, series=series, reading=reading)
    drawn, layers = [getattr(item, over) for item in kept], range(model.n_layers + 1)
    answers = {name: list(dict.fromkeys(item.targets[name] for item in kept)) for name in (hub, own)}
    target = {name: np.array([some.index(item.targets[name]) for item in kept]) for name, some in answers.items()}

    column = {form.word: k for k, form in enumerate(words.forms) if form.single}

    def read(reader: LanguageModel) -> tuple[dict[tuple[str, str], np.ndarray], dict[tuple[str, str], np.ndarray]]:
        """By experiment and series, the curves [item, layer]; and by experiment and kind of answer, the same with every
        answer in the place of the item's own [item, layer, answer]."""
        hidden = hidden_states(reader, [item.prompt for item in kept]).hidden
        found = lens(reader, hidden, targets=words.ids, top_k=1, entropy=True, reading=reading)
        logprob = word_logprobs(found.logprob, words.groups).double().numpy()

        def of(chosen: Sequence[Iterable[str]], fold) -> np.ndarray:
            """Per item, its words folded into one number per layer; nan where no word of it is left."""
            alike: dict[tuple[int, ...], list[int]] = {}  # items of the same words at once
            for i, row in enumerate(chosen):
                alike.setdefault(tuple(column[w] for w in row if w in column), []).append(i)
            values = np.full((len(kept), len(layers)), np.nan)
            for columns, numbers in alike.items():
                if columns:
                    values[numbers] = fold(logprob[numbers][:, :, list(columns)], axis=2)
            return values

        classes: dict[tuple[str, ...], list[int]] = {}
        for i, item in enumerate(kept):
            wrong_words = (w for w in item.wrong.get(hub, ()) if w not in item.targets[hub])
            class_ = sorted(w for w in (*dict.fromkeys(item.targets[hub]), *wrong_words) if w in column)
            classes.setdefault(tuple(class_), []).append(i)

        def best(logprob: np.ndarray) -> dict[str, np.ndarray]:
            return {
                name: np.stack([logprob[..., [column[w] for w in a if w in column]].max(2) for a in some], axis=2)
                for name, some in answers.items()
            }

        said = best(logprob)
        wrong = np.empty_like(said[hub])
        for class_, numbers in classes.items():  # the mean over the class but the answer's own words
            others = np.array([[w not in answer for answer in answers[hub]] for w in class_], float)
            of_class = logprob[numbers][..., [column[w] for w in class_]]
            with np.errstate(invalid="ignore"):
                wrong[numbers] = of_class @ others / others.sum(0)
        curves, first = {}, word_of[found.top_ids[..., 0].numpy()]
        for name in kept[0].targets:
            curves["lens-probability", name] = np.exp(of([item.targets.get(name, ()) for item in kept], np.max))
        for name in kept[0].wrong:
            some = of([item.wrong[name] for item in kept], lambda found, axis: np.exp(found).mean(axis))
            curves["lens-probability", f"wrong {name}"] = some
        for name, weight in counted.items():
            curves["lens-first", name] = weight[index[:, None], first]
        curves["lens-entropy", series] = found.entropy.double().numpy()
        log = {name: of[index, :, target[name], None] for name, of in said.items()}
        every = {("lens-meaning", hub): said[hub] - wrong, ("lens-end", own): (said[own] - log[hub])[:, -1:]}
        every["lens-lead", hub] = np.minimum(said[hub] - wrong, said[hub] - log[own])
        for name in (hub, own):
            every["lens-probability", name] = np.exp(said[name])
            every["lens-first", name] = right[name][:, first].transpose(1, 2, 0)
        if reading == "raw":
            normed = word_logprobs(lens(reader, hidden, targets=words.ids).logprob, words.groups)
            for name, of in best(normed.double().numpy()).items():
                every["lens-gap", name] = np.exp(of) - np.exp(said[name])
                curves["lens-gap", name] = every["lens-gap", name][index, :, target[name]]
        return curves, every

    index = np.arange(len(kept))
    word_of = words.word_of_token(model.vocab_size)
    # What a word counts that comes first, by answer and by curve; one that is none of them is the last column.
    right = {name: np.array([[w in a and w in column for w in (*words.words, None)] for a in some], bool)
             for name, some in answers.items()}  # fmt: skip
    counted = {name: of[target[name]].astype(float) for name, of in right.items()}
    counted[f"wrong {hub}"] = np.zeros((len(kept), len(words.words) + 1))
    for i, item in enumerate(kept):
        wrong_words = [column[w] for w in item.wrong[hub] if w in column]
        np.add.at(counted[f"wrong {hub}"][i], wrong_words, 1 / len(wrong_words))
    curves, every = read(model)
    blank, noise = read(randomised(model, seed)) if random_weights else ({}, {})
    claimed = {"lens-meaning": hub, "lens-lead": hub, "lens-end": own}
    scores, noisy = (
        {name: of[name, kind][index, :, target[kind]] for name, kind in claimed.items() if of} for of in (every, noise)
    )
    groups, anchors = [item.group for item in kept], [item.moves_with for item in kept]
    pairings = random_pairings(len(kept), groups=groups, clusters=anchors, draws=DRAWS, seed=seed)
    draws = [(index[p >= 0], p[p >= 0]) for p in pairings if (p >= 0).any()]
    shuffled = {
        (name, of): np.stack(
            [by[i, :, target[of][p]].mean(0) for i, p in draws[: None if name in claimed else FEW_DRAWS]]
        )
        for (name, of), by in every.items()
    }
    flipped = {
        name: sign_flip_null(scores[name], clusters=anchors, draws=DRAWS, seed=seed)
        for name in ("lens-lead", "lens-end")
    }
    nulls = {"lens-meaning": [shuffled["lens-meaning", hub]], "lens-end": [flipped["lens-end"]]}
    nulls["lens-lead"] = [shuffled["lens-lead", hub], flipped["lens-lead"]]
    least = {"lens-meaning": least_permutation_p(groups, anchors), "lens-end": least_sign_flip_p(anchors)}
    least["lens-lead"] = max(least.values())
    common = {"reading": reading, "seed": seed}
    embedded = {name: {"embedding layer": of[:, :1]} for name, of in scores.items() if name != "lens-end"}
    claims = [
        _claim(model, name, of, nulls[name], series=series, least_p=least[name], dropped=dropped,
               clusters=[item.cluster for item in kept], drawn=drawn,
               controls=embedded.get(name, {}) | ({"random weights": noisy[name]} if noisy else {}), **common)
        for name, of in scores.items()
    ]  # fmt: skip
    tables, common["dropped"] = [], sum(dropped.values())
    for (experiment, name), v in curves.items():
        beside = {"random weights": blank[experiment, name]} if blank and not name.startswith("wrong ") else {}
        given = {"controls": beside, "null": shuffled.get((experiment, name))}
        tables.append(curve(model, v, experiment=experiment, series=name, clusters=drawn, **given, **common))
    return pd.concat([tidy(claims), *tables], ignore_index=True), claims


def _claim(
    model: LanguageModel, name: str, scores: np.ndarray, null: np.ndarray | list[np.ndarray], *, series: str, **options
) -> Evidence:
    """One of the claims over all layers, or over the last alone if there is one column."""
    layers = [model.n_layers] if name == "lens-end" else range(model.n_layers + 1)
    given = {"experiment": name, "series": series, "layers": layers, "n_layers": model.n_layers, **options}
    return evidence(f"{name}/{series}", scores, null, **given)


def untestable(model, items, hub: str, own: str, dropped: dict[str, int], *, series: str, reading: str) -> Result:
    """The claims without an item, and every curve without a number."""
    empty = np.empty((0, model.n_layers + 1))
    claims = [
        _claim(model, name, some, some, series=series, reading=reading, dropped=dropped)
        for name, some in (("lens-meaning", empty), ("lens-end", empty[:, -1:]), ("lens-lead", empty))
    ]
    targets, wrong = (items[0].targets, items[0].wrong) if items else ((hub, own), (hub,))
    names = [*targets, *(f"wrong {name}" for name in wrong)]
    curves = [("lens-probability", name) for name in names]
    curves += [("lens-first", name) for name in (hub, own, f"wrong {hub}")]
    curves += [("lens-gap", name) for name in (hub, own) if reading == "raw"]
    tables = [
        curve(model, empty, experiment=experiment, series=name, reading=reading, dropped=sum(dropped.values()))
        for experiment, name in [*curves, ("lens-entropy", series)]
    ]
    return pd.concat([tidy(claims), *tables], ignore_index=True), claims


def _resolve(model: LanguageModel, items: Sequence[LensItem], hub: str, own: str):
    """Words with a token of their own, the items that keep both their words, and why the others went."""
    if not items:
        raise SemhubError("No item was given to the lens; at least one prompt with its words would do.")
    every = dict.fromkeys(w for i in items for some in (*i.targets.values(), *i.wrong.values()) for w in some)
    words = told_apart(model, every, items[0].prompt)
    if words is None:
        return None, [], {"no token of its own for any word": len(items)}
    single, kept, dropped = words.single, [], Counter()
    for item in items:
        missing = next((name for name in (hub, own) if not single & set(item.targets[name])), None)
        if set(item.targets[hub]) & set(item.targets[own]):
            dropped[f"{hub} and {own} are the same word"] += 1
        elif missing:
            dropped[f"no single token of its own for the {missing}"] += 1
        elif not (set(item.wrong.get(hub, ())) - set(item.targets[hub])) & single:
            dropped[f"no wrong {hub} to compare with"] += 1
        else:
            kept.append(item)
    return words, kept, dict(dropped)


def both_readings(experiment: Callable[..., Result], model: LanguageModel, *args, **options) -> Result:
    """An experiment with every reading the model has, normed, raw and tuned: one table, the normed reading's evidence
    first, on which claims rest.

    The tuned one goes without the control of random weights: other weights would need translators of their own.
    """
    found = []
    for reading in available_readings(model):
        own = {"reading": reading} | options
        if reading == "tuned" and "random_weights" in inspect.signature(experiment).parameters:
            own["random_weights"] = False
        found.append(experiment(model, *args, **own))
    return pd.concat([table for table, _ in found], ignore_index=True), [claim for _, some in found for claim in some]

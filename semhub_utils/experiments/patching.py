"""Interchange patch: a state of one type's run written into the other's. Does the answer follow?

As activation patching between prompts does (arXiv 2309.16042, and 2411.08745 across languages): what a state carries is
shown by what the model then says, not by what can be read from it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int

from semhub_utils.evidence import evidence, tidy
from semhub_utils.experiments.core import DRAWS, Result, curve
from semhub_utils.experiments.patched import NOISE, OWN, SOURCE, Runs, every_patch
from semhub_utils.experiments.words import asked, task_rows, text_of
from semhub_utils.lens import lens
from semhub_utils.models import LanguageModel
from semhub_utils.shuffles import least_permutation_p, random_pairings
from semhub_utils.spokes.items import PatchItem
from semhub_utils.tokens import TargetTable, target_table

CLAIMS = {"patch": "nats", "patch-answer": "share of prompts"}
OUTCOMES = ("expected", "original", "untranslated")


def patch_experiment(
    model: LanguageModel,
    items: Sequence[PatchItem],
    *,
    series: str,
    hub: str = "english",
    seed: int = 0,
    random_weights: bool = True,
    dropped: Mapping[str, int] | None = None,
) -> Result:
    """Does the answer follow when the last token's state at layer l is replaced by that of another type's run?

    Items with places (`PatchItem`) go one way only: the states of a picture's patches, say, at layer l are all replaced
    by that of the last word of a text of the hub's. `series` is then the type in which is asked, "english" too.

    Two claims. `patch/<series>`: log P(expected) minus log P(original), both words of the run's own type, minus the
    same without a patch, in nats; against expected answers shuffled among items of a group, as a state that harms the
    run lifts every other answer. `patch-answer/<series>`: the share of items whose likeliest next token begins the
    expected word, against the same shuffling. The second is the harder one: at the last layers no block is left to use
    the state, and the first shows there what the source's own output gives away. Both write the hub's states into the
    runs of `series`; with "/reversed" behind them, the other way round.

    Controls: the state of the hub's prompt with the run's own answer (nothing should change), that of a prompt of
    another relation (with places: of the text with a word that is no answer, and that of the source's text at an
    earlier token, drawn by `seed`), a push in a random direction as long as the patch is, from the mean of the states
    that are written into, the patch at the embedding layer, and random weights; a wrong layer is in the curve.
    Words of several tokens, or whose token another word shares, are dropped and counted, with what was left out before
    (`dropped`).

    Table, by `direction` and `condition` (whose state was written): `patch-first`, the share of items whose likeliest
    next token begins the expected word, the original one, the expected one in the source's own type ("untranslated"),
    or another word; `patch-probability` and, for the source's states, `patch-rank`, the mean rank; and, with
    places, `task-<series>`, whether the run without a patch says the original answer, one row per item. The condition
    "own type" is no control but what a patch can do at best: the state of the same in the type itself (the mean over a
    picture's patches). `task-<series>, own type`, one row per item: whether it makes the run say the expected answer at
    some inner layer. Where it does not, what is written there is not read, whoever wrote it. Without items, the claims
    of one way have no numbers.
    """
    if not items:
        words = TargetTable((), (), torch.empty(0, dtype=torch.long), (), {})
        return _one_way(model, words, [], 0, types=(series, hub), dropped={}, seed=seed, noise=False, alone=True)
    items = [
        replace(i, run=(asked(model, i.run[0]), i.run[1]), source=(asked(model, i.source[0]), i.source[1]))
        for i in items
    ]
    words, kept, lost = _resolve(model, items)
    given = {"types": (series, hub), "seed": seed, "dropped": {**(dropped or {}), **lost}, "noise": random_weights}
    given["alone"] = items[0].places is not None
    found = [_one_way(model, words, kept, into, **given) for into in ((0,) if given["alone"] else (0, 1))]
    return pd.concat([table for table, _ in found], ignore_index=True), [c for _, claims in found for c in claims]


def _one_way(
    model: LanguageModel,
    words: TargetTable,
    items: Sequence[PatchItem],
    into: int,
    *,
    types: tuple[str, str],
    dropped: Mapping[str, int],
    seed: int,
    noise: bool,
    alone: bool,
) -> Result:
    """One direction: 0 writes the hub's states into the type's runs, 1 the other way round. alone: whether there is no
    other."""
    given = {"clusters": [item.cluster for item in items], "seed": seed}
    of = _words(words, items, into)
    index, expected = np.arange(len(items)), of["expected"]
    groups, anchors = [item.group for item in items], [item.anchor for item in items]
    scores = nulls = dict.fromkeys(CLAIMS, np.empty((0, model.n_layers + 1)))
    controls: dict[str, dict] = {claim: {} for claim in CLAIMS}
    taken = None
    found = every_patch(model, words, items, into, of["original"], seed=seed, noise=noise) if items else {}
    for name, runs in found.items():
        followed = {"patch": runs.gain[index, :, expected], "patch-answer": runs.first == expected[:, None]}
        followed = {claim: values.astype(float) for claim, values in followed.items()}
        if name == OWN:
            taken = followed["patch-answer"][:, 1:-1].max(1, initial=0)
        elif name == SOURCE:
            scores, nulls = followed, _null(runs, of, groups, anchors, seed)
        else:
            for claim, values in followed.items():
                controls[claim][name] = values
    for claim, values in scores.items():
        controls[claim]["embedding layer"] = values[:, :1]
    claims = [
        evidence(
            f"{claim}/{types[0]}" + "/reversed" * into, scores[claim], nulls[claim],
            least_p=least_permutation_p(groups, anchors) if items else 0.0, layers=range(model.n_layers + 1),
            n_layers=model.n_layers, experiment=claim, series=types[into], controls=controls[claim], dropped=dropped,
            outcome=claim == "patch-answer", unit=unit,
            null_in_words="expected answers shuffled among prompts of one relation and form", **given,
        )
        for claim, unit in CLAIMS.items()
    ]  # fmt: skip
    curves = _curves(model, words, found, of, nulls["patch-answer"], dropped=sum(dropped.values()), **given)
    name = f"{types[1 - into]} into {types[into]}"
    if alone:
        name = f"{types[1]} words into {types[0]}"
        said = found[SOURCE].plain == of["original"] if items else []
        curves.append(task_rows(types[0], items, said))
        if taken is not None:
            curves.append(task_rows(f"{types[0]}, own type", items, taken))
    return pd.concat([tidy(claims), *curves], ignore_index=True).assign(direction=name), claims


def _null(runs: Runs, of: Mapping[str, np.ndarray], groups, anchors, seed: int) -> dict[str, np.ndarray]:
    """Both statistics with expected answers shuffled; an item that would be asked to turn to its own sits out."""
    index, expected = np.arange(len(groups)), of["expected"]
    drawn: dict[str, list] = {claim: [] for claim in CLAIMS}
    for p in random_pairings(len(groups), groups=groups, clusters=anchors, draws=DRAWS, seed=seed):
        i = index[(p >= 0) & (expected[p] != of["original"])]
        if len(i):
            drawn["patch"].append(runs.gain[i, :, expected[p[i]]].mean(0))
            drawn["patch-answer"].append((runs.first[i] == expected[p[i]][:, None]).mean(0))
    return {claim: np.array(some).reshape(len(some), -1) for claim, some in drawn.items()}


def _curves(model, words: TargetTable, found: Mapping[str, Runs], of, null, **common) -> list[pd.DataFrame]:
    """What the patched runs say, by whose state was written; without items, curves without a number. `null` is that of
    the expected answer after the source's state."""
    tables, index = [], np.arange(len(of["expected"]))
    empty, width = np.empty((0, model.n_layers + 1)), max(map(len, words.groups), default=0)
    forms = [words.ids[[*group, *[group[0]] * (width - len(group))]] for group in words.groups]
    for condition in (SOURCE, *(name for name in found if name not in (SOURCE, NOISE))):
        runs, shown = found.get(condition), {}
        said = {o: (runs.first == word[:, None]).astype(float) if runs else empty for o, word in of.items()}
        shown |= {("patch-first", o): values for o, values in said.items()}
        shown["patch-first", "other"] = 1 - sum(said.values())
        for o, word in of.items():
            shown["patch-probability", o] = np.exp(runs.logprob[index, :, word]) if runs else empty
            if condition == SOURCE and runs:
                rank = lens(model, runs.last, targets=torch.stack(forms)[torch.from_numpy(word)], rank=True).rank
                shown["patch-rank", o] = rank.amin(-1).double().numpy()  # the best of a word's forms
        for (experiment, o), values in shown.items():
            chance = null if (condition, experiment, o) == (SOURCE, "patch-first", "expected") else None
            found_so = curve(model, values, experiment=experiment, series=o, null=chance, **common)
            tables.append(found_so.assign(condition=condition))
    return tables


def _words(words: TargetTable, items: Sequence[PatchItem], into: int) -> dict[str, Int[np.ndarray, "item"]]:
    """Each item's words, as indices of `words`, by outcome."""
    place = {word: k for k, word in enumerate(words.words)}
    every = [(item.expected[into], item.answer[into], item.expected[1 - into]) for item in items]
    return {
        o: np.array([place[row[k]] for row in every], int)
        for k, o in enumerate(OUTCOMES)
        if not any(row[k] is None for row in every)
    }


def _resolve(model: LanguageModel, items: Sequence[PatchItem]) -> tuple[TargetTable, list[PatchItem], dict[str, int]]:
    """Words with a token of their own, the items that keep all four of theirs, and why the others went."""
    said = {item.id: [w for w in (*item.answer, *item.expected) if w is not None] for item in items}
    every = dict.fromkeys(word for words in said.values() for word in words)
    words = target_table(model, every, text_of(items[0].run[0]))
    single = words.single
    nowhere = set()
    if items[0].places:
        runs = model.encode([item.run[0] for item in items])
        nowhere = {item.id for item, encoding in zip(items, runs, strict=True) if not item.places(encoding)}
    kept, dropped = [], Counter()
    for item in items:
        if item.answer[0] == item.answer[1] or item.expected[0] == item.expected[1]:
            dropped["both types have the same word"] += 1
        elif item.answer[0] == item.expected[0] or item.answer[1] == item.expected[1] is not None:
            dropped["the source has the same answer"] += 1
        elif not {*said[item.id]} <= single:
            dropped["no single token of its own for an answer"] += 1
        elif item.id in nowhere:
            dropped["no patch of the model is known to lie there"] += 1
        else:
            kept.append(item)
    return words, kept, dict(dropped)

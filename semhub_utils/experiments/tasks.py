"""Can the model do what its states are read for? The preconditions of lens and intervention."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from semhub_utils.errors import SemhubError
from semhub_utils.evidence import Evidence, evidence, tidy
from semhub_utils.experiments.common import DRAWS, Result, asked, curve
from semhub_utils.inputs import Input
from semhub_utils.lens import lens, word_logprobs
from semhub_utils.models import LanguageModel
from semhub_utils.shuffles import least_permutation_p, random_pairings
from semhub_utils.spokes.items import LensItem
from semhub_utils.states import hidden_states
from semhub_utils.tokens import target_table, word_forms


def task_table(model: LanguageModel, items: Sequence[LensItem], *, own: str, series: str) -> pd.DataFrame:
    """One row per item: 1 if the model's likeliest next token begins the item's own answer, else 0.

    The precondition of lens and intervention: a model that cannot do the task cannot show how it does it.
    """
    top = _likeliest(model, items)
    ids = {(_text(i), w): _ids(model, w, _text(i)) for i in items for w in i.targets[own]}
    right = [any(t in ids[_text(i), w] for w in i.targets[own]) for t, i in zip(top, items, strict=True)]
    of_item = {"series": [item.id for item in items], "cluster": [item.cluster for item in items]}
    return pd.DataFrame({"experiment": f"task-{series}", **of_item, "value": np.array(right, float), "n": 1})


def answer_experiment(
    model: LanguageModel, items: Mapping[str, Sequence[LensItem]], *, own: str, seed: int = 0
) -> Result:
    """Is the likeliest next token the right answer more often than the commonest answer would be?

    items: by series. Claims `answers/<series>`, of the last layer alone: 1 if an item's first word of `targets[own]` is
    said, minus 1 if it is the commonest of its group; against answers shuffled among the items of a group, those of an
    anchor together. Items whose answer has no token after their prompt are dropped and counted. The table adds the
    share of right answers ("answers"), what always giving the commonest would get ("answers-commonest") and, where the
    items have `targets["english"]`, the share of right answers in English ("answers-english").
    """
    found = [_answered(model, some, own, series, seed) for series, some in items.items()]
    return pd.concat([table for table, _ in found], ignore_index=True), [claim for _, claim in found]


def _answered(
    model: LanguageModel, items: Sequence[LensItem], own: str, series: str, seed: int
) -> tuple[pd.DataFrame, Evidence]:
    texts, words = (dict.fromkeys(some) for some in zip(*((_text(i), i.targets[own][0]) for i in items), strict=True))
    ids = {(text, word): _ids(model, word, text) for text in texts for word in words}
    kept = [item for item in items if ids[_text(item), item.targets[own][0]]]
    dropped = {"no token for the answer": len(items) - len(kept)} if len(kept) < len(items) else {}
    answers = [item.targets[own][0] for item in kept]
    groups, anchors, clusters = ([getattr(i, name) for i in kept] for name in ("group", "moves_with", "cluster"))
    most = {group: Counter(a for a, g in zip(answers, groups, strict=True) if g == group).most_common(1)[0][0]
            for group in dict.fromkeys(groups)}  # fmt: skip
    common = np.array([a == most[g] for a, g in zip(answers, groups, strict=True)], float)
    top = _likeliest(model, kept) if kept else []
    said = np.array([[t in ids[_text(i), a] for a in answers] for t, i in zip(top, kept, strict=True)], float)
    index, null = np.arange(len(kept)), np.empty((0, 1))
    right = said[index, index] if kept else common
    if kept:
        pairings = random_pairings(len(kept), groups=groups, clusters=anchors, draws=DRAWS, seed=seed)
        null = np.array([[(said[index[p >= 0], p[p >= 0]] - common[p[p >= 0]]).mean()] for p in pairings])
    claim = evidence(
        f"answers/{series}", (right - common)[:, None], null, layers=[model.n_layers], n_layers=model.n_layers,
        least_p=least_permutation_p(groups, anchors) if kept else 0.0, experiment="answers-gain", series=series,
        clusters=clusters, dropped=dropped, outcome=True, unit="share of answers",
        null_in_words="answers shuffled among the prompts", seed=seed,
    )  # fmt: skip
    at = {"series": series, "clusters": clusters, "dropped": len(items) - len(kept), "seed": seed}
    shares = {"answers": right, "answers-commonest": common}
    if all("english" in item.targets for item in items):
        hub = [any(t in _ids(model, w, _text(i)) for w in i.targets["english"]) for t, i in zip(top, kept, strict=True)]
        shares["answers-english"] = np.array(hub, float)
    tables = [curve(model, share[:, None], experiment=name, **at) for name, share in shares.items()]
    shown = pd.concat(tables).assign(layer=model.n_layers, depth=1.0)
    return pd.concat([tidy([claim]), shown], ignore_index=True), claim


def _likeliest(model: LanguageModel, items: Sequence[LensItem]) -> list[int]:
    prompts = [asked(model, item.prompt) for item in items]
    hidden = hidden_states(model, prompts, layers=[model.n_layers]).hidden
    return lens(model, hidden, top_k=1).top_ids[:, 0, 0].tolist()


def _text(item: LensItem) -> str:
    """What the answer stands behind; a word's tokens do not depend on the name of a placeholder before it."""
    return item.prompt.text if isinstance(item.prompt, Input) else item.prompt


def _ids(model: LanguageModel, word: str, context: str) -> tuple[int, ...]:
    """The tokens `word` may begin with; none if it cannot be written after `context`, and so never is."""
    try:
        return word_forms(model, word, context).ids
    except SemhubError:
        return ()


def choice_table(model: LanguageModel, items: Sequence[LensItem], *, own: str, series: str) -> pd.DataFrame:
    """One row per item: the share of the wrong own words than which the model's output finds the right one likelier.

    The precondition of reading running text: a model that knows the language is above one half. Most words of a text
    cannot be foretold, so being right outright is too much to ask.
    """
    value = np.full(len(items), np.nan)
    every = dict.fromkeys(w for item in items for w in (*item.targets[own], *item.wrong[own]))
    try:
        words = target_table(model, every, _text(items[0])) if items else None
    except SemhubError:  # no word can be told apart
        words = None
    if words is not None:
        hidden = hidden_states(model, [item.prompt for item in items], layers=[model.n_layers]).hidden
        logprob = word_logprobs(lens(model, hidden, targets=words.ids).logprob[:, 0], words.groups).double().numpy()
        column = {w: k for k, w in enumerate(words.words)}
        for i, item in enumerate(items):
            right, wrong = ([column[w] for w in some if w in column] for some in (item.targets[own], item.wrong[own]))
            if right and wrong:
                value[i] = (logprob[i, right].max() > logprob[i, wrong]).mean()
    of_item = {"series": [item.id for item in items], "cluster": [item.cluster for item in items]}
    table = pd.DataFrame({"experiment": f"task-{series}", **of_item, "value": value, "n": 1})
    return table[np.isfinite(value)].reset_index(drop=True)

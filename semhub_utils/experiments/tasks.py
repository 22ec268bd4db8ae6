"""Can the model do what its states are read for? The preconditions of lens and intervention."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from semhub_utils.experiments.common import asked, task_rows, text_of
from semhub_utils.lens import lens, word_logprobs
from semhub_utils.models import LanguageModel
from semhub_utils.spokes.items import LensItem
from semhub_utils.states import hidden_states
from semhub_utils.tokens import target_table, word_forms


def task_table(model: LanguageModel, items: Sequence[LensItem], *, own: str, series: str) -> pd.DataFrame:
    """One row per item: 1 if the model's likeliest next token begins the item's own answer, else 0.

    The precondition of lens and intervention: a model that cannot do the task cannot show how it does it.
    """
    hidden = hidden_states(model, [asked(model, item.prompt) for item in items], layers=[model.n_layers]).hidden
    top = lens(model, hidden, top_k=1).top_ids[:, 0, 0].tolist()
    texts = [text_of(item.prompt) for item in items]
    ids = {
        (text, form.word): form.ids
        for text, item in zip(texts, items, strict=True)
        for form in word_forms(model, item.targets[own], text)
    }
    right = [any(t in ids[text, w] for w in i.targets[own]) for t, text, i in zip(top, texts, items, strict=True)]
    return task_rows(series, items, right)


def choice_table(model: LanguageModel, items: Sequence[LensItem], *, own: str, series: str) -> pd.DataFrame:
    """One row per item: the share of the wrong own words than which the model's output finds the right one likelier.

    The precondition of reading running text: a model that knows the language is above one half. Most words of a text
    cannot be foretold, so being right outright is too much to ask.
    """
    value = np.full(len(items), np.nan)
    every = dict.fromkeys(w for item in items for w in (*item.targets[own], *item.wrong[own]))
    words = target_table(model, every, text_of(items[0].prompt)) if items else None
    if words:
        hidden = hidden_states(model, [item.prompt for item in items], layers=[model.n_layers]).hidden
        logprob = word_logprobs(lens(model, hidden, targets=words.ids).logprob[:, 0], words.groups).double().numpy()
        column = {w: k for k, w in enumerate(words.words)}
        for i, item in enumerate(items):
            right, wrong = ([column[w] for w in some if w in column] for some in (item.targets[own], item.wrong[own]))
            if right and wrong:
                value[i] = (logprob[i, right].max() > logprob[i, wrong]).mean()
    table = task_rows(series, items, value)
    return table[np.isfinite(value)].reset_index(drop=True)

"""What kind of animal is heard? Whether the model answers, in every language it is asked in."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from semhub_utils.errors import SemhubError
from semhub_utils.evidence import bootstrap_interval, control, evidence, tidy
from semhub_utils.experiments.audio import CONTROLS
from semhub_utils.experiments.common import DRAWS, Result, asked
from semhub_utils.inputs import Input
from semhub_utils.lens import lens, word_logprobs
from semhub_utils.models import LanguageModel, randomised
from semhub_utils.shuffles import least_permutation_p, random_pairings
from semhub_utils.spokes.audio import emptied, heard
from semhub_utils.spokes.kinds import KindItem
from semhub_utils.states import hidden_states
from semhub_utils.tokens import TargetTable, target_table

NO_ANSWER = "no token of its own for an answer"


def kind_answers(
    model: LanguageModel, items: Sequence[KindItem], *, series: str, seed: int = 0, random_weights: bool = True
) -> Result:
    """Does the model say what kind of animal it hears, more often than if it always gave the commonest answer?

    Claim `kind-answer/<series>`: whether the true answer is the likeliest of the question's answers, minus whether the
    commonest answer is true, at the last layer; against kinds shuffled among animals, which is exact where every animal
    is asked about equally often. Controls: the same clips without content and random weights. Table: `kind-answer`, the
    share that is right "among its answers" and "among all words", beside the commonest answer's; `task-<series>`, one
    row per item.
    """
    given = {"clusters": [item.clip.cluster for item in items], "seed": seed}
    right, animals = np.array([item.right for item in items]), [item.clip.label for item in items]
    commonest = Counter(right.tolist()).most_common(1)[0][0]
    always = right == commonest
    claim = {"layers": [model.n_layers], "n_layers": model.n_layers, "experiment": "kind-answer-gain"}
    claim |= {"series": series, "outcome": True, "unit": "share of prompts", "seed": seed}
    if answers_of(model, items) is None:
        found = evidence(f"kind-answer/{series}", EMPTY, EMPTY, dropped={NO_ANSWER: len(items)}, **claim)
        blank = {"experiment": "kind-answer", "series": series, "language": series, "value": np.nan, "n": 0}
        return pd.concat([tidy([found]), pd.DataFrame([blank | {"cluster": ""}])], ignore_index=True), [found]

    def read(reader: LanguageModel, some: Sequence[KindItem]) -> tuple[Int[np.ndarray, "item"], np.ndarray]:
        """The answer given, and whether the true one begins with the likeliest token of all."""
        words = answers_of(reader, some)
        hidden = hidden_states(reader, [question_of(reader, item) for item in some], layers=[reader.n_layers]).hidden
        seen = lens(reader, hidden, targets=words.ids, top_k=1)
        said = word_logprobs(seen.logprob[:, 0], words.groups).argmax(-1).numpy()
        true = [words.ids[list(words.groups[item.right])] for item in some]
        tops = zip(seen.top_ids[:, 0], true, strict=True)
        return said, np.array([bool(torch.isin(top, ids).all()) for top, ids in tops])

    def gain(said: np.ndarray, true: np.ndarray) -> Float[np.ndarray, "item 1"]:
        return ((said == true).astype(float) - (true == commonest))[:, None]

    def empty(how: str) -> list[KindItem]:
        made = emptied([item.clip for item in items], how, seed=seed)
        return [replace(item, clip=clip) for item, clip in zip(items, made, strict=True)]

    said, outright = read(model, items)
    others = {name: read(model, empty(how))[0] for how, name in CONTROLS.items()}
    if random_weights:
        others["random weights"] = read(randomised(model, seed), items)[0]
    pairings = random_pairings(len(items), clusters=animals, draws=DRAWS, seed=seed)
    found = evidence(
        f"kind-answer/{series}",
        gain(said, right),
        np.stack([gain(said, right[p]).mean(0) for p in pairings]),
        least_p=least_permutation_p([0] * len(items), animals),
        controls={name: control(name, gain(some, right), **given) for name, some in others.items()},
        null_in_words="kinds shuffled among animals",
        clusters=given["clusters"],
        **claim,
    )
    rows = [
        share_row(model, values, experiment="kind-answer", series=name, reading=reading, language=series, **given)
        for reading, values in (("among its answers", said == right), ("among all words", outright))
        for name, values in ((series, values), ("commonest answer", always))
    ]
    tasks = {"experiment": f"task-{series}", "series": [item.clip.id for item in items], "n": 1}
    tasks |= {"value": (said == right).astype(float), "cluster": given["clusters"]}
    return pd.concat([tidy([found]), pd.DataFrame(rows), pd.DataFrame(tasks)], ignore_index=True), [found]


EMPTY = np.empty((0, 1))


def question_of(model: LanguageModel, item: KindItem) -> Input:
    """The question with its sound, as this model is asked (`common.asked`)."""
    return asked(model, heard(item.clip, item.prompt))


def answers_of(model: LanguageModel, items: Sequence[KindItem]) -> TargetTable | None:
    """The first tokens of the answers, which all items share; None where two cannot be told apart."""
    try:
        words = target_table(model, items[0].answers, question_of(model, items[0]).text)
    except SemhubError:
        return None
    return words if words.words == items[0].answers else None


def share_row(
    model: LanguageModel, values: np.ndarray, *, clusters: Sequence, seed: int, layer: int | None = None, **columns
) -> dict:
    """The mean of a number per item with its interval, as a row of a table."""
    layer = model.n_layers if layer is None else layer
    low, high = bootstrap_interval(values.astype(float)[:, None], clusters=clusters, seed=seed)
    numbers = {"value": float(values.mean()), "low": float(low[0]), "high": float(high[0]), "n": len(values)}
    return columns | {"layer": layer, "depth": model.depth(layer)} | numbers

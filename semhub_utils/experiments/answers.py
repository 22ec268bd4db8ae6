"""Is the answer that a model gives right more often than the commonest answer would be?"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from semhub_utils.evidence import Evidence, evidence, tidy
from semhub_utils.experiments.common import asked, task_rows, text_of
from semhub_utils.experiments.core import DRAWS, Result, curve
from semhub_utils.inputs import Input
from semhub_utils.lens import lens, word_logprobs
from semhub_utils.models import LanguageModel, randomised
from semhub_utils.shuffles import least_permutation_p, random_pairings
from semhub_utils.spokes.items import LensItem, emptied, ways
from semhub_utils.states import hidden_states
from semhub_utils.tokens import target_table

NO_ANSWER = "no token of its own for an answer"
ALL, AMONG = "among all words", "among its answers"
EMPTY = np.empty((0, 1))


def answer_experiment(
    model: LanguageModel,
    items: Mapping[str, Sequence[LensItem]],
    *,
    own: str = "own",
    over: str = "cluster",
    seed: int = 0,
    random_weights: bool = True,
) -> Result:
    """Is the answer given right more often than if the commonest were always given?

    items: by series. The answer given is the word that the likeliest token begins or, where items name wrong answers
    (`wrong[own]`), the likeliest of those and the right one, the first of `targets[own]`. Claims `answers/<series>`, of
    the last layer alone: 1 if the right answer is given, minus 1 if it is the commonest of the item's group; against
    answers shuffled among the items of a group, those of an anchor together. Controls: the same pictures or sounds
    without content (`spokes.items`), and random weights. Items are dropped and counted where the right or a wrong
    answer has no token, or one that another answer shares. over: what intervals are over, "cluster" or what the null
    moves together, "moves_with"; the rules count clusters.

    The table adds the share of right answers ("answers"; reading ALL and, where there are wrong ones, AMONG), what
    always giving the commonest would get ("answers-commonest"), where the items have `targets["english"]` the share of
    right answers in English ("answers-english"), and one row per item ("task-answers <series>").
    """
    noise = randomised(model, seed) if random_weights else None
    found = [_answered(model, noise, some, own, over, series, seed) for series, some in items.items()]
    return pd.concat([table for table, _ in found], ignore_index=True), [claim for _, claim in found]


def _answered(
    model: LanguageModel,
    noise: LanguageModel | None,
    items: Sequence[LensItem],
    own: str,
    over: str,
    series: str,
    seed: int,
) -> tuple[pd.DataFrame, Evidence]:
    choices = [(item.targets[own][0], *item.wrong.get(own, ())) for item in items]
    reading = AMONG if any(len(some) > 1 for some in choices) else ALL
    words = target_table(model, chain(*choices), text_of(items[0].prompt)) if items else None
    column = {word: k for k, word in enumerate(words.words)} if words else {}
    apart = [len({*some} & {*column}) == len(some) for some in choices]
    kept = [(item, some) for item, some, ok in zip(items, choices, apart, strict=True) if ok]
    lost = len(items) - len(kept)
    items, choices = [item for item, _ in kept], [some for _, some in kept]
    right = np.array([column[some[0]] for some in choices], int)
    groups, anchors, clusters = ([getattr(i, name) for i in items] for name in ("group", "moves_with", "cluster"))
    drawn = [getattr(item, over) for item in items]
    of_group: dict[str, Counter] = {}
    for group, answer in zip(groups, right, strict=True):
        of_group.setdefault(group, Counter())[answer] += 1
    common = np.array([of_group[g].most_common(1)[0][0] == a for g, a in zip(groups, right, strict=True)], float)
    found = {
        "experiment": "answers-gain", "series": series, "reading": reading, "clusters": clusters, "drawn": drawn,
        "dropped": {NO_ANSWER: lost} if lost else {}, "layers": [model.n_layers], "n_layers": model.n_layers,
        "outcome": True, "unit": "share of answers", "null_in_words": "answers shuffled among the prompts",
        "seed": seed,
    }  # fmt: skip
    at = {"layers": [model.n_layers], "series": series, "clusters": drawn, "dropped": lost, "seed": seed}
    if not items:
        claim = evidence(f"answers/{series}", EMPTY, EMPTY, **found)
        names = ("answers", "answers-commonest")
        blank = [curve(model, EMPTY, experiment=name, reading=reading, **at) for name in names]
        return pd.concat([tidy([claim]), *blank, task_rows(f"answers {series}", [], [])], ignore_index=True), claim
    offered = np.array([[reading == ALL or word in some for word in words.words] for some in choices])

    def read(reader: LanguageModel, prompts: Sequence[str | Input]) -> tuple[Int[np.ndarray, " item"], np.ndarray]:
        """The answer given, -1 for none of them, and the likeliest token of all."""
        hidden = hidden_states(reader, [asked(reader, p) for p in prompts], layers=[reader.n_layers]).hidden
        seen = lens(reader, hidden, targets=words.ids, top_k=1)
        top = seen.top_ids[:, 0, 0].numpy()
        if reading == ALL:
            return word_of[top], top
        logprob = word_logprobs(seen.logprob[:, 0], words.groups).numpy()
        return np.where(offered, logprob, -np.inf).argmax(-1), top

    def gain(given: Int[np.ndarray, " item"]) -> Float[np.ndarray, "item 1"]:
        return ((given == right) - common)[:, None]

    word_of, prompts = words.word_of_token(model.vocab_size), [item.prompt for item in items]
    given, top = read(model, prompts)
    blank = {way: read(model, emptied(prompts, way, seed=seed))[0] for way in ways(prompts[0])}
    if noise is not None:
        blank["random weights"] = read(noise, prompts)[0]
    pairings = random_pairings(len(items), groups=groups, clusters=anchors, draws=DRAWS, seed=seed)
    shuffled = [((given == right[p]) - common[p])[p >= 0].mean() for p in pairings]
    claim = evidence(
        f"answers/{series}", gain(given), np.array(shuffled)[:, None], least_p=least_permutation_p(groups, anchors),
        controls={name: gain(some) for name, some in blank.items()}, **found,
    )  # fmt: skip
    shares = {("answers", reading): given == right, ("answers", ALL): word_of[top] == right}
    shares["answers-commonest", reading] = common
    if all("english" in item.targets for item in items):
        of_item = [item.targets["english"] for item in items]
        english = target_table(model, chain(*of_item), text_of(prompts[0]))
        said = np.array([*english.words, ""])[english.word_of_token(model.vocab_size)[top]] if english else top
        shares["answers-english", ALL] = np.array([word in some for word, some in zip(said, of_item, strict=True)])
    tables = [
        curve(model, share[:, None].astype(float), experiment=name, reading=how, **at)
        for (name, how), share in shares.items()
    ]
    return pd.concat(
        [tidy([claim]), *tables, task_rows(f"answers {series}", items, given == right)], ignore_index=True
    ), claim

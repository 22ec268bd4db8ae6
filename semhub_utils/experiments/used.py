"""Is what types share used? A concept's state is written where another language is asked for, and the shared subspace
is erased while the model reads."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from semhub_utils.evidence import DRAWS, depths, split_items
from semhub_utils.experiments.continuations import nats
from semhub_utils.experiments.core import Claim, Experiment
from semhub_utils.experiments.numbers import Answers, ByAnswer, ByLayer, Exchange, Given, Kept, Numbers, Scores
from semhub_utils.inputs import Encoding
from semhub_utils.lens import lens, word_logprobs
from semhub_utils.models import LanguageModel
from semhub_utils.pairings import codes, least_permutation_p, random_pairings
from semhub_utils.spokes.items import Twin
from semhub_utils.spokes.translation import ConceptItem, Question
from semhub_utils.states import hidden_states
from semhub_utils.steering import patched_states
from semhub_utils.tokens import TargetTable, target_table

LAST, WORD = "last token", "source word"
ONE, MEAN = "one language", "mean over languages"
SAME, OTHERS = "same concept", "mean of other concepts"
OUTCOMES = {
    "new concept, own language": ("concept", 3),
    "new concept, new language": ("concept", 1),
    "own concept, new language": ("own", 1),
    "own concept, own language": ("own", 3),
}
"""What a run may say with a state in it, by what is the run's own: the item's field, and which of its languages."""
LEAST = 0.05  # of a probability

Basis = Float[np.ndarray, "hidden rank"]
"""Orthonormal columns."""


# ---- concept and language ----


@dataclass(frozen=True)
class _Table:
    """Words of one token. place: the column of each concept's word in each language, -1 where it has none of its own;
    concepts, names: its rows and columns by name."""

    words: TargetTable
    place: Int[np.ndarray, "concept language"]
    concepts: Mapping[str, int]
    names: Mapping[str, int]

    def columns(self, items: Sequence[ConceptItem], of: str, language: int) -> Int[np.ndarray, " item"]:
        """The word of each item's concept ("concept" or "own") in one of its languages."""
        rows = [self.concepts[getattr(item, of).key] for item in items]
        return self.place[rows, [self.names[item.languages[language]] for item in items]]


@dataclass(frozen=True)
class Concepts(Experiment):
    """Are concept and language held apart? A state of a run that translates concept i from A to B is written, at one
    layer at a time, into a run that translates concept j from C to D (arXiv 2411.08745, Sec. 3).

    site: the states of the "last token", of either run, or those of the "source word", at its last token.

    Claim `concepts/<site>`: P(i in D) minus P(i in B) as the next token, the concept of the state in the language of the
    run. What only reads the unembedding says i in B; what is not read says j in D; and where the language is settled
    first it is j in B. Claim `concepts-mean/<site>`: the same of the mean state of i over all source languages but B
    and D, which has to do at least as well as one language, less the smallest effect of interest, and is that a control.
    Two nulls for both: the concepts i are shuffled within their class (j is never of it), and the languages D among the
    items of one B. Controls: the state of concept j from A to B; the mean state of other concepts from A to B; the
    patch at the embedding layer, which at the source word is another word, and at the last token nothing; the last
    layer; random weights.

    Words that are not one token of their own are dropped and counted, and so are items whose two runs the model, left
    alone, does not translate: there would be nothing to move.

    Curves: `concepts-probability` of four outcomes by `condition` (whose state was written: "one language", "mean over
    languages"); `concepts-word`, which word of them comes first, likewise; and, of the runs left alone, `token-energy`
    (`token_energy`), at the site "last token".
    """

    site: str = LAST
    nothing: ClassVar[tuple[str, ...]] = ()
    readings: ClassVar[tuple[str, ...]] = ("",)
    columns: ClassVar[tuple[str, ...]] = ("condition",)

    @property
    def claims(self) -> tuple[Claim, ...]:
        given: dict[str, Any] = {
            "nulls": (Exchange("cluster", "group"), Given()),
            "least": LEAST,
            "why_least": "less than one run in twenty that says another word",
            "unit": "probability",
            "null_in_words": "concepts shuffled within their class, and languages among runs",
        }
        return Claim("concepts", **given), Claim("concepts-mean", **given)

    def fit(self, model: LanguageModel, items: Sequence[ConceptItem]) -> Kept:
        table = _table(model, items)
        lost, fit = Counter(), []
        for item in items:
            new = [table.columns([item], of, k)[0] for of, k in OUTCOMES.values()]
            if new[0] == new[1] >= 0:
                lost["both languages have the same word"] += 1
            elif min(new[0], new[1], new[3]) < 0:
                lost["no single token of its own for a word"] += 1
            else:
                fit.append(item)
        known = _first(model, table, [i.run for i in fit]) == table.columns(fit, "own", 3)
        known &= _first(model, table, [i.source for i in fit]) == table.columns(fit, "concept", 1)
        kept = [item for item, says in zip(fit, known, strict=True) if says]
        lost["not translated by the model"] += len(fit) - len(kept)
        target = np.array([table.concepts[item.cluster] for item in kept], int)
        return Kept(kept, lost, target, table)

    def read(self, reader: LanguageModel, kept: Kept, prompts: Sequence, reading: str) -> Numbers:
        items, table = kept.items, kept.more
        asked = {
            ONE: [(item.source,) for item in items],
            MEAN: [item.alike for item in items],
            SAME: [(item.same,) for item in items],
            OTHERS: [item.others for item in items],
        }
        said = {name: self._under(reader, kept, some) for name, some in asked.items()}
        values = {name: self._by_concept(kept, of) for name, of in said.items()}
        one = kept.own(values[ONE])
        aside = {name: kept.own(values[name]) for name in (SAME, OTHERS)}
        more = aside | {f"{ONE}, less {LEAST:g}": one - LEAST}
        found: Numbers = {
            ("concepts", ""): self._scores(kept, said[ONE], values[ONE], aside),
            ("concepts-mean", ""): self._scores(kept, said[MEAN], values[MEAN], more),
        }
        for name in (ONE, MEAN):
            first = said[name].argmax(2)
            for outcome, at in OUTCOMES.items():
                column = table.columns(items, *at)
                of = np.take_along_axis(_with_none(said[name]), column[:, None, None], 2)[:, :, 0]
                condition = (("condition", name),)
                found["concepts-probability", outcome, condition] = of
                found["concepts-word", outcome, condition] = (first == column[:, None]).astype(float)
        return found | self._energy(reader, prompts)

    def beside(self, reader: LanguageModel, kept: Kept, prompts: Sequence, reading: str) -> Numbers:
        asked = {"concepts": [(item.source,) for item in kept.items], "concepts-mean": [i.alike for i in kept.items]}
        said = {(name, ""): self._by_concept(kept, self._under(reader, kept, some)) for name, some in asked.items()}
        return said | self._energy(reader, prompts)

    def _energy(self, reader: LanguageModel, prompts: Sequence) -> Numbers:
        if self.site != LAST or reader.unembedding.shape[1] != reader.hidden_size:
            return {}
        return {("token-energy", ""): token_energy(reader, hidden_states(reader, prompts).hidden)}

    def _place(self, encoding: Encoding, question: Question) -> int:
        if self.site == LAST:
            return len(encoding) - 1
        return max(k for k, (start, end) in enumerate(encoding.offsets) if start < question.end and end > start)

    def _under(
        self, reader: LanguageModel, kept: Kept, asked: Sequence[Sequence[Question]]
    ) -> Float[np.ndarray, "item layer word"]:
        """What the runs say with the mean state of some questions in them, at each layer in turn."""
        every = [question for some in asked for question in some]
        encodings = reader.encode([question.text for question in every])
        places = [[self._place(e, q)] for e, q in zip(encodings, every, strict=True)]
        hidden = hidden_states(reader, encodings, positions=places).hidden
        mean = torch.stack([of.mean(0) for of in hidden.split([len(some) for some in asked])])
        runs = reader.encode([item.run.text for item in kept.items])
        into = [[self._place(e, item.run)] for e, item in zip(runs, kept.items, strict=True)]
        last = patched_states(reader, runs, mean, range(reader.n_layers + 1), positions=into)
        return _said(reader, kept.more.words, last)

    def _by_concept(self, kept: Kept, said: Float[np.ndarray, "item layer word"]) -> ByAnswer:
        """P(concept in D) - P(concept in B) of every concept, whichever was written; nan for the run's own."""
        table = kept.more
        right, wrong = (
            table.place[:, [table.names[item.languages[k]] for item in kept.items]].T for k in (3, 1)
        )  # [item, concept]
        own = [table.concepts[item.own.key] for item in kept.items]
        right = np.where(right == wrong, -1, right)
        right[np.arange(len(own)), own] = -1
        full = _with_none(said)
        return np.take_along_axis(full, right[:, None], 2) - np.take_along_axis(full, wrong[:, None], 2)

    def _scores(
        self, kept: Kept, said: Float[np.ndarray, "item layer word"], values: ByAnswer, controls: dict[str, ByLayer]
    ) -> Scores:
        """With what they would be if the runs' languages had changed places."""
        table, items = kept.more, kept.items
        words = table.place[[table.concepts[item.cluster] for item in items]]  # [item, language]
        into, out = (np.array([table.names[item.languages[k]] for item in items]) for k in (3, 1))
        full, index = _with_none(said), np.arange(len(items))
        by_language = np.take_along_axis(full, words[:, None], 2) - full[index, :, words[index, out]][:, :, None]
        groups = out.tolist()
        pairings = random_pairings(len(items), groups=groups, draws=DRAWS, seed=kept.seed)
        null = Answers(by_language, into).exchanged(pairings)
        return Scores(values, controls, (null,), least_permutation_p(groups, range(len(items))))


def _table(model: LanguageModel, items: Sequence[ConceptItem]) -> _Table:
    every = {of.key: of for item in items for of in (item.concept, item.own)}
    said = [word for of in every.values() for word in of.words.values()]
    words = target_table(model, said, items[0].prompt.rpartition("\n")[2] if items else "")
    names = {name: k for k, name in enumerate(dict.fromkeys(n for of in every.values() for n in of.words))}
    column = {word: k for k, word in enumerate(words.words) if word in words.single}
    place = [[column.get(of.words[name], -1) for name in names] for of in every.values()]
    shape = len(every), len(names)
    return _Table(words, np.array(place, int).reshape(shape), {key: k for k, key in enumerate(every)}, names)


def _said(model: LanguageModel, words: TargetTable, last: Float[Tensor, "item layer hidden"]) -> np.ndarray:
    """Probabilities of words as the next token, of states at layer L: [item, layer, word]."""
    found = lens(model, last, targets=words.ids, layers=[model.n_layers] * last.shape[1]).logprob
    return word_logprobs(found, words.groups).double().exp().numpy()


def _first(model: LanguageModel, table: _Table, asked: Sequence[Question]) -> Int[np.ndarray, " item"]:
    """The word that the likeliest next token begins, -1 for none."""
    if not asked:
        return np.empty(0, int)
    last = hidden_states(model, [question.text for question in asked], layers=[model.n_layers]).hidden
    top = lens(model, last, top_k=1, layers=[model.n_layers]).top_ids[:, 0, 0].numpy()
    return table.words.word_of_token(model.vocab_size)[top]


def _with_none(said: Float[np.ndarray, "item layer word"]) -> Float[np.ndarray, "item layer more"]:
    """With a column of nan at the end, for words that there are none of."""
    return np.concatenate([said, np.full((*said.shape[:2], 1), np.nan)], axis=2)


def token_energy(model: LanguageModel, hidden: Float[Tensor, "item layer hidden"]) -> ByLayer:
    """How much of a state lies where tokens lie: the root of the mean squared cosine of the state with the rows of the
    unembedding, over that of the rows with one another (arXiv 2402.10588, Sec. 3.3 and release). 1 for what is as near
    to the tokens as they are to each other. The rows carry the scale of the final norm, so that they lie among states.
    Raises SemhubError where rows are of another width than states (as `lens` would read through a projection)."""
    ones = torch.ones(model.hidden_size)
    ones[::2] = -1  # of length and mean as normed states have them, so that only scale and shift are left
    with torch.inference_mode():
        scale = (model.normalise(ones[None]) - model.normalise(-ones[None]))[0] / 2
        rows = normalize((model.unembedding * (scale * ones.to(scale))).double().cpu(), dim=-1)
    gram = rows.T @ rows / len(rows)
    unit = normalize(hidden.double().cpu(), dim=-1)
    mean_square = torch.einsum("ild,de,ile->il", unit, gram, unit)
    return (mean_square / gram.square().sum().sqrt().square()).sqrt().numpy()

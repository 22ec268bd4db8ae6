"""Is what types share used? A concept's state is written where another language is asked for, and the shared subspace
is erased while the model reads."""

from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from semhub_utils.errors import need
from semhub_utils.evidence import NATS, PROBABILITY, Sample, depths, split_items
from semhub_utils.experiments.continuations import nats
from semhub_utils.experiments.core import Claim, Experiment
from semhub_utils.experiments.numbers import (
    Answers,
    ByAnswer,
    ByLayer,
    Exchange,
    Given,
    Kept,
    Numbers,
    Scores,
    by_stages,
)
from semhub_utils.inputs import Encoding
from semhub_utils.lens import lens, word_logprobs
from semhub_utils.models import LanguageModel
from semhub_utils.pairings import codes, least_permutation_p, random_pairings
from semhub_utils.spokes.items import Twin
from semhub_utils.spokes.translation import ConceptItem, Question
from semhub_utils.states import hidden_states
from semhub_utils.steering import erased, patched_states
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
LESS = f"{ONE}, less {PROBABILITY.least:g}"


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

    Claim `concepts/<site>`: P(i in D) minus P(i in B) as the next token: the state's concept in the run's language. A
    state that is only unembedded says i in B, one that is not used leaves j in D, and where language is settled before
    the concept is, the run says j in B. Claim `concepts-mean/<site>`: the same of the mean state of i over all source
    languages but B and D, which has to do at least as well as that of one language: what one does, less the smallest
    effect of interest, is a control of it. Two nulls for both: the concepts i are shuffled within their class (j is
    never of it), and the languages D among the items of one B. Controls: the state of concept j from A to B; the mean
    state of other concepts from A to B; the patch at the embedding layer, which at the source word is another word, and
    at the last token nothing; the last layer; random weights.

    Words that are not one token of their own are dropped and counted, and so are items whose two runs the model, left
    alone, does not translate: there would be nothing to move.

    Curves: `concepts-probability` of four outcomes by `condition` (whose state was written: "one language", "mean over
    languages"); `concepts-word`, which word of them comes first, likewise; and, of the runs left alone, `token-energy`
    (`token_energy`), at the site "last token".
    """

    site: str = LAST
    nothing: ClassVar[tuple[str, ...]] = ()
    readings: ClassVar[tuple[str, ...]] = ("",)
    parts: ClassVar[str] = "cluster"
    columns: ClassVar[tuple[str, ...]] = ("condition",)

    @property
    def claims(self) -> tuple[Claim, ...]:
        given: dict[str, Any] = {
            "nulls": (Exchange("cluster", "group"), Given()),
            "unit": PROBABILITY,
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
        more = aside | {LESS: one - PROBABILITY.least}
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

        def drawn(first: int, end: int) -> list[Float[np.ndarray, "draw layer"]]:
            some = {"groups": groups, "draws": end - first, "seed": kept.seed + first}
            return [Answers(by_language, into).exchanged(random_pairings(len(items), **some))]

        return Scores(values, controls, drawn, least_permutation_p(groups, range(len(items))))


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
    Raises SemhubError where rows are of another width than states."""
    need(
        model.unembedding.shape[1] == model.hidden_size,
        f"The unembedding of {model.model_id} has rows of another width than its states; a model without a projection "
        "between them would do.",
    )
    ones = torch.ones(model.hidden_size)
    ones[::2] = -1  # of length and mean as normed states have them, so that only scale and shift are left
    with torch.inference_mode():
        scale = (model.normalise(ones[None]) - model.normalise(-ones[None]))[0] / 2
        rows = normalize((model.unembedding * (scale * ones.to(scale))).double().cpu(), dim=-1)
    gram = rows.T @ rows / len(rows)
    unit = normalize(hidden.double().cpu(), dim=-1)
    mean_square = torch.einsum("ild,de,ile->il", unit, gram, unit)
    return (mean_square.sqrt() / gram.norm()).numpy()


# ---- necessity ----

HELD, VARIANCE, SEEDS, STAGES = 0.9, 0.99, 5, (20, 100, 1000)
"""The share of what is common out of sample that a subspace holds; that of the variance which is looked at; how many
random subspaces are drawn, and shuffled ones, stage by stage."""
RANDOM, IDENTITY = "random subspace of equal variance", "language identity"
ELSEWHERE, ENGLISH = "other layers", "an English-only task"
Basis = Float[np.ndarray, "part rank"]
"""Orthonormal directions of standardised states."""


@dataclass(frozen=True)
class Necessity(Experiment):
    """Does a model need what a type shares with the hub's? A subspace is erased while it reads the type, at all middle
    layers and all tokens but the first: the states' part in it is replaced by its mean (`erased`).

    States are standardised first: by the principal directions of all the type's tokens that hold VARIANCE of their
    variance, each at variance 1. So any two subspaces of one rank hold as much of the variance, and what is erased
    leaves nothing behind that could be told from it. The shared subspace of a layer: states at the last token of
    prompts and of their twins, both minus the mean of their form; of the covariance of the two sides, made symmetric,
    the directions of the largest eigenvalues. How many is chosen by cross-validation: directions of either half of the
    pairs are measured on the other half, and the fewest are taken that hold HELD of the covariance there is to be had.
    All this is done on half of the clusters, and the claim is about the others.

    Claim `necessity/<series>`: by how much the log-probability of the right continuation falls, in nats per token of
    it. Null: subspaces of equal rank from pairs shuffled within their form, as many as p needs, `draws` at most
    (`by_stages`). Controls: random subspaces of equal rank, and so of equal variance (SEEDS draws); the directions in
    which the means of the type's forms differ from the twins', no more than that; what is shared at the other layers
    between first and last, erased there, as what counts in the middle alone is lost in the middle alone; `english`,
    texts of no other type with what continues them, read without the type's subspace, as what harms whatever is read
    says nothing of the type; random weights, with a subspace of their own. The number stands at the layer in the middle
    of those erased.

    A continuation follows its prompt with a space or without, as the model, left alone, finds likelier. Tables:
    `necessity-rank` and `necessity-share`, by layer: how many directions are erased, and of how many that is which
    share.
    """

    english: Sequence[Twin] = ()
    draws: int = STAGES[-1]
    nothing: ClassVar[tuple[str, ...]] = ()
    readings: ClassVar[tuple[str, ...]] = ("",)
    claims: ClassVar[tuple[Claim, ...]] = (
        Claim(
            "necessity",
            "",
            (Given(),),
            unit=replace(NATS, name="nats per token"),
            null_in_words="subspaces of pairs shuffled within their form",
        ),
    )

    def fit(self, model: LanguageModel, items: Sequence[Twin]) -> Kept:
        if not _middle(model)[0]:
            return Kept([], {"the model has no middle layer": len(items)})
        if len({item.cluster for item in items}) < 4:
            return Kept([], {"too few to fit a subspace on": len(items)})
        return Kept(items)

    def choose(self, model: LanguageModel, kept: Kept) -> Kept:
        parts = split_items(range(len(kept.items)), kept.seed, clusters=kept.labels("cluster"))
        fitting, reported = ([kept.items[k] for k in part] for part in parts)
        return replace(kept, items=reported, more=(fitting, _continued(model, reported)))

    def read(self, reader: LanguageModel, kept: Kept, prompts: Sequence, reading: str) -> Numbers:
        fitting, texts = kept.more
        middle, others = _middle(reader)
        space = _Space(reader, fitting, kept.seed, middle)
        before = nats(reader, prompts, texts)

        def fall(bases: Sequence[Basis], space: _Space = space) -> ByLayer:
            return (space.cost(reader, prompts, texts, bases) - before)[:, None]

        def null(first: int, end: int) -> Float[np.ndarray, "draw 1"]:
            return np.stack([fall(space.shared(p)).mean(0) for p in space.shuffled(end - first, kept.seed + first)])

        shared, layers = space.shared(), space.layers
        own, controls = fall(shared), {RANDOM: np.stack([fall(space.random(seed)) for seed in range(SEEDS)])}
        controls |= {IDENTITY: fall(space.identity())}
        if others:
            elsewhere = _Space(reader, fitting, kept.seed, others)
            controls |= {ELSEWHERE: fall(elsewhere.shared(), elsewhere)}
        if self.english:
            alone, whole = [item.prompt for item in self.english], _continued(reader, self.english)
            harm = space.cost(reader, alone, whole, shared) - nats(reader, alone, whole)
            controls |= {ENGLISH: Sample(harm[:, None], codes([item.cluster for item in self.english]))}
        matters = own.mean() > max(getattr(of, "scores", of).mean() for of in controls.values())
        stages = *(of for of in STAGES if of < self.draws), self.draws
        given = {"layers": layers[len(layers) // 2 :][:1], "least_p": least_permutation_p(space.groups, space.clusters)}
        rows = pd.DataFrame({"layer": layers, "depth": np.array(layers) / reader.n_layers, "n": len(fitting)})
        shares = [q.shape[1] / len(q) for q in shared]
        return {
            ("necessity", ""): Scores(own, controls, by_stages(null, own.mean(), matters, stages), **given),
            ("necessity-rank", ""): rows.assign(experiment="necessity-rank", value=[q.shape[1] for q in shared]),
            ("necessity-share", ""): rows.assign(experiment="necessity-share", value=shares),
        }

    def beside(self, reader: LanguageModel, kept: Kept, prompts: Sequence, reading: str) -> Numbers:
        fitting, texts = kept.more
        space = _Space(reader, fitting, kept.seed, _middle(reader)[0])
        after = space.cost(reader, prompts, texts, space.shared())
        return {("necessity", ""): (after - nats(reader, prompts, texts))[:, None]}


def _middle(model: LanguageModel) -> tuple[list[int], list[int]]:
    """The middle layers, and the others between first and last."""
    inner = range(1, model.n_layers)
    of = dict(zip(inner, depths(inner, model.n_layers)["middle"], strict=True))
    return [layer for layer in inner if of[layer]], [layer for layer in inner if not of[layer]]


def _continued(model: LanguageModel, items: Sequence[Twin]) -> list[Encoding]:
    """Prompts with what continues them, with a space between or without."""
    ways = [[item.prompt + space + item.answer for item in items] for space in ("", " ")]
    cost = [nats(model, [item.prompt for item in items], texts) for texts in ways]
    return model.encode([some[k] for k, some in zip(np.argmin(cost, 0), zip(*ways, strict=True), strict=True)])


class _Space:
    """What a type and its twins share at each of some layers, in prompts that a subspace is fitted on.

    mean, of, along: by layer, of all the type's tokens but the first, and what standardises a state and undoes it.
    own, twin: standardised states at the last token, minus the means of their forms, which differ by `apart`."""

    def __init__(self, reader: LanguageModel, fitting: Sequence[Twin], seed: int, layers: Sequence[int]):
        self.layers, self.seed = layers, seed
        self.groups, self.clusters = ([getattr(item, name) for item in fitting] for name in ("group", "cluster"))
        if self.clusters == self.groups:  # sentences change places within their document
            self.clusters = [item.id for item in fitting]
        sides = [reader.encode([getattr(item, name) for item in fitting]) for name in ("prompt", "hub_prompt")]
        inside = [list(range(1, len(e))) or [0] for e in sides[0]]
        tokens = hidden_states(reader, sides[0], positions=inside, layers=self.layers).hidden
        last = [hidden_states(reader, side, layers=self.layers).hidden.double().cpu().numpy() for side in sides]
        self.mean, self.of, self.along, self.states = [], [], [], []
        for k in range(len(self.layers)):
            states = tokens[:, k].double().cpu().numpy()
            self.mean.append(states.mean(0))
            centred = states - self.mean[k]
            variance, axes = (of[..., ::-1] for of in np.linalg.eigh(centred.T @ centred / len(states)))
            r = 1 + int(np.argmax(np.cumsum(variance) >= VARIANCE * variance.sum()))
            scale, axes = np.sqrt(np.maximum(variance[:r], 1e-24)), axes[:, :r]
            self.of.append(axes / scale)
            self.along.append(axes * scale)
            self.states.append([side[:, k] @ self.of[k] for side in last])
        self._centre(self.states)

    def _centre(self, states: Sequence[Sequence[Float[np.ndarray, "item part"]]]) -> None:
        group = codes(self.groups)
        means = [
            [np.stack([side[group == g].mean(0) for g in range(group.max() + 1)]) for side in some] for some in states
        ]
        self.own, self.twin = (
            [some[s] - mean[s][group] for some, mean in zip(states, means, strict=True)] for s in (0, 1)
        )
        self.apart = [own - twin for own, twin in means]

    def _only(self, some: Sequence[int]) -> "_Space":
        """Of some of the prompts, the means of whose forms are their own."""
        part = copy(self)
        part.groups, part.clusters = ([of[k] for k in some] for of in (self.groups, self.clusters))
        part._centre([[side[some] for side in of] for of in self.states])
        return part

    def _cross(self, k: int, pairing: Int[np.ndarray, " item"] | None = None) -> Float[np.ndarray, "part part"]:
        """The covariance with the paired twins at a layer, made symmetric."""
        pairing = np.arange(len(self.groups)) if pairing is None else pairing
        stays = pairing >= 0
        cross = self.own[k][stays].T @ self.twin[k][pairing[stays]] / max(stays.sum(), 1)
        return (cross + cross.T) / 2

    def _directions(self, k: int, pairing: Int[np.ndarray, " item"] | None = None) -> tuple[np.ndarray, Basis]:
        """All directions, and the covariance along each, the largest first."""
        values, vectors = np.linalg.eigh(self._cross(k, pairing))
        return values[::-1], vectors[:, ::-1]

    def shuffled(self, draws: int, seed: int) -> Int[np.ndarray, "draw item"]:
        some = {"groups": self.groups, "clusters": self.clusters, "draws": draws, "seed": seed}
        return random_pairings(len(self.groups), **some)

    @cached_property
    def ranks(self) -> list[int]:
        """How many directions are shared at each layer."""
        halves = split_items(range(len(self.groups)), self.seed, clusters=self.clusters)
        parts, found = [self._only(half) for half in halves], []
        for k in range(len(self.layers)):
            held = 0
            for fitted, other in (parts, parts[::-1]):
                values, basis = fitted._directions(k)
                along = np.einsum("pr,pq,qr->r", basis, other._cross(k), basis, optimize=True)
                held = held + np.where(values > 0, along, 0)
            common = np.cumsum(held)
            found.append(1 + int(np.argmax(common >= HELD * common.max())))
        return found

    def shared(self, pairing: Int[np.ndarray, " item"] | None = None) -> list[Basis]:
        """The directions that the prompts share with their twins, or with the paired ones."""
        return [self._directions(k, pairing)[1][:, :rank] for k, rank in enumerate(self.ranks)]

    def random(self, seed: int) -> list[Basis]:
        """As many random directions."""
        rng = np.random.default_rng([self.seed, seed])
        sizes = zip(self.of, self.ranks, strict=True)
        return [np.linalg.qr(rng.standard_normal((of.shape[1], rank)))[0] for of, rank in sizes]

    def identity(self) -> list[Basis]:
        """The directions in which forms differ from the twins', no more than are shared."""
        found = [np.linalg.svd(apart.T, full_matrices=False)[0] for apart in self.apart]
        return [vectors[:, :rank] for vectors, rank in zip(found, self.ranks, strict=True)]

    def cost(
        self, reader: LanguageModel, prompts: Sequence, texts: Sequence[Encoding], bases: Sequence[Basis]
    ) -> Float[np.ndarray, " item"]:
        """Nats per token of what texts add to their prompts, read without some directions."""
        parts = zip(self.layers, self.of, self.along, self.mean, bases, strict=True)
        spaces = {layer: tuple(map(torch.tensor, (of @ q, along @ q, mean))) for layer, of, along, mean, q in parts}
        marks, weights = tuple(float(q.sum()) for q in bases), reader.weights
        for encoding in texts:
            reader.store.note_edit((weights, tuple(encoding.ids), marks), len(encoding))
        with reader.store.counted("edit"), erased(reader, spaces):
            return nats(reader, prompts, texts)

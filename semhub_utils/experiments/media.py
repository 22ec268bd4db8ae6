"""Pushes into pictures and sounds: a third colour written into one half of a picture of two colours, and English words
pushed into the sound of an animal."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import comb
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from semhub_utils.errors import need, need_one_of
from semhub_utils.evidence import Unit
from semhub_utils.experiments.core import Claim, Result, joined, run
from semhub_utils.experiments.interventions import (
    AWAY,
    BY_CHANCE,
    RANDOM,
    RELEASED,
    REVERSED,
    Columns,
    Doses,
    Found,
    Items,
    Push,
    Rows,
    Said,
    Vectors,
    Way,
)
from semhub_utils.experiments.numbers import Chance, Drawn, Given, Kept, Numbers, Scores
from semhub_utils.experiments.patching import OWN, mean_states
from semhub_utils.experiments.words import NO_ANSWER, asked, task_rows
from semhub_utils.inputs import Encoding
from semhub_utils.lens import word_logprobs
from semhub_utils.models import LanguageModel
from semhub_utils.spokes.audio import KindItem
from semhub_utils.spokes.items import RecolourItem
from semhub_utils.states import hidden_states, stream_states
from semhub_utils.steering import Edit, generate, next_token_logprobs
from semhub_utils.tokens import TargetTable, target_table, word_forms

THIRD, PRESENT, ANOTHER, NOTHING = "third colour", "present colour", "another colour", "nothing"
OUTCOMES = ("intended", "unchanged", "other", "unparseable")
MODES = {"corrected": "turn", RELEASED: "replace"}
"""Reading -> how the vector is put in the state's place: at the length of the state, or as long as it is."""


@dataclass(frozen=True, kw_only=True)
class Recolour(Push):
    """Does a picture of red and blue become one of green and blue when "green" minus "red" is put into the red half?

    As in the paper (its vision intervention): at the patches of one half, from layer l to the last, the hidden state is
    REPLACED by the difference of two rows of the unembedding, a third colour's minus the present one's; for every l.
    reading: "as released", the difference as it is, or "corrected", at the length of each state it replaces. In a model
    that reads every state behind a norm, both are the same: what is overwritten at all later layers is only ever read
    there. Answers are the model's own greedy generation, read for the colours they name: "intended" (the third and the
    untouched one), "unchanged", "unparseable" (not as many colours as were asked for; of a question for one, the first
    counts), "other". Of an item with several prompts all have to be so.

    Claim `recolour/<series>` ("/as released" behind it for that reading): the share of intended answers minus that
    under a random direction of the same length, one per item, at the layer that a share of the clusters chose (the
    lowest of the best; the embeddings and the last layer stand out of the choice), on the others; against chance.
    Controls, minus the same: the row of the present colour alone, which should change nothing, and a fourth colour
    minus the present one, under which the third should not be named.

    Table: `recolour` (share of each outcome as `series`, by layer and `condition`, with "nothing" for the run as it
    is), `recolour-choice` (the choosing items), and `task-<series>`, one row per item: whether it is answered rightly
    before. The condition "own type" is no control but what can be done at best: at layer l, the mean state of a real
    half of the third colour, from which the later layers follow. `task-<series>, own type`, one row per item: whether
    the answer is then the intended one at some inner layer, as in `patching.Patch`. Items whose colours have no token
    of their own, or whose half has no patch, are dropped and counted. Raises SemhubError on no item and an unknown
    reading.
    """

    strengths: tuple[float, ...] = (1.0,)
    reading: str = "corrected"
    max_new_tokens: int = 12
    columns: ClassVar[tuple[str, ...]] = ("condition", "cluster")
    name: ClassVar[str] = "recolour"
    drawn: ClassVar[int] = 0
    without: ClassVar[tuple[str, ...]] = (AWAY,)

    @property
    def readings(self) -> tuple[str, ...]:
        return (self.reading,)

    @property
    def claims(self) -> tuple[Claim, ...]:
        given: dict[str, Any] = {"named": "recolour", "ending": f"/{RELEASED}" * (self.reading == RELEASED)}
        given |= {"unit": Unit.share("pictures"), "null_in_words": f"{BY_CHANCE}, by pair of colours"}
        return (Claim("recolour-above-random", nulls=(Chance(),), outcome=True, **given),)

    def fit(self, model: LanguageModel, items: Sequence[RecolourItem]) -> Kept:
        need_one_of(self.reading, MODES, f"There is no reading {self.reading!r}")
        need(items, "No item was given to recolour; at least one picture of two halves would do.")
        items = [
            replace(i, **{name: tuple(asked(model, p) for p in getattr(i, name)) for name in ("prompts", "source")})
            for i in items
        ]
        colours = dict.fromkeys(c for item in items for c in (item.present, item.third, item.another))
        forms = word_forms(model, colours, items[0].prompts[0].text)
        rows = {form.word: row for form in forms if (row := form.unembedding_row(model)) is not None}
        kept, encodings, dropped = [], [], Counter()
        for item in items:
            read = model.encode(item.prompts)
            if not {item.present, item.third, item.another} <= {*rows}:
                dropped["a colour's word has no row of its own in the unembedding"] += 1
            elif not item.places(read[0]):
                dropped["no patch of the model is known to lie there"] += 1
            else:
                kept.append(item)
                encodings.append(read)
        return Kept(kept, dropped, prompts=(), more=(rows, encodings))

    def vectors(self, reader: LanguageModel, kept: Kept) -> Vectors:
        rows, _ = kept.more
        present, third, another = (
            torch.stack([rows[getattr(item, name)] for item in kept.items]) for name in ("present", "third", "another")
        )
        put = {THIRD: third - present, PRESENT: present, ANOTHER: another - present}
        return {name: v[:, None].expand(-1, reader.n_layers + 1, -1) for name, v in put.items()}

    def random(self, own: Float[Tensor, "item hidden"], seed: int) -> Float[Tensor, "item 1 hidden"]:
        """A direction for each item."""
        drawn = torch.randn(*own.shape, generator=torch.Generator().manual_seed(seed))
        return (own.norm(dim=-1, keepdim=True) * normalize(drawn, dim=-1))[:, None]

    def tried(self, model: LanguageModel) -> list[int]:
        return list(range(model.n_layers + 1))

    def asked(self) -> tuple[float, ...]:
        return self.strengths

    def doses(self, condition: str, strength: float) -> tuple[float, ...]:
        return self.strengths

    def amount(self, kept: Kept, strength: float) -> Columns:
        return ()

    def outcome(self, reader: LanguageModel, kept: Kept, of: Rows, vectors: Tensor, at: int, strengths: Doses) -> Said:
        """1 for what is said of OUTCOMES."""
        asks = torch.tensor([len(kept.items[i].prompts) for i in of])
        layers = tuple(range(at, reader.n_layers + 1))
        return self._said(reader, kept, of, (layers, vectors.repeat_interleave(asks, 0), MODES[self.reading]))[:, None]

    def _said(
        self, reader: LanguageModel, kept: Kept, of: Rows, put: tuple | None = None
    ) -> Float[np.ndarray, "row outcome"]:
        """The outcome with a vector for each prompt `put` in its half (layers, vectors, mode), or as they are."""
        read = [(kept.items[i], encoding) for i in of for encoding in kept.more.resolved[1][i]]
        edit = None
        if put:
            layers, vectors, mode = put
            edit = Edit(layers, vectors, [list(item.places(encoding)) for item, encoding in read], mode=mode)
        texts = iter(generate(reader, [e for _, e in read], max_new_tokens=self.max_new_tokens, edit=edit))
        out = np.zeros((len(of), len(OUTCOMES)))
        for row, item in zip(out, (kept.items[i] for i in of), strict=True):
            named = tuple(frozenset(item.named(next(texts)[0])[: 1 if len(b) == 1 else None]) for b in item.before)
            unlike = any(len(some) != len(right) for some, right in zip(named, item.before, strict=True))
            row[3 if unlike else {item.after: 0, item.before: 1}.get(named, 2)] = 1
        return out

    def claimed(self, kept: Kept, found: Mapping[str, Found]) -> Numbers:
        def intended(name: str) -> Float[np.ndarray, " item"]:
            return (found[name].at(1.0) - found[RANDOM].at(1.0))[..., 0].mean(1)

        return {("recolour-above-random", ""): self.above(kept, found, intended(THIRD), intended)}

    def read(self, reader: LanguageModel, kept: Kept, prompts: Sequence, reading: str) -> Numbers:
        of, starts = kept.more.reported(), self.tried(reader)
        rows, items = np.flatnonzero(of), kept.only(of).items
        by_start = [self.conditions(reader, kept, self.ways(reader, kept, at)) for at in starts]
        said = {name: np.stack([found[name].at(1.0)[:, 0] for found in by_start], 1) for name in by_start[0]}
        like = reader.encode([prompt for item in items for prompt in item.source])
        owners = [item for item in items for _ in item.source]
        real = mean_states(reader, like, [list(item.places(e)) for item, e in zip(owners, like, strict=True)])
        said[OWN] = np.stack([self._said(reader, kept, rows, ((at,), real[:, at], "replace")) for at in starts], 1)
        said[NOTHING] = self._said(reader, kept, rows)[:, None].repeat(len(starts), 1)
        found = self.claimed(kept, by_start[kept.more.layer])
        for name, values in said.items():
            more = (("condition", name),)
            found |= {("recolour", o, more): Scores(values[:, :, k], of=of) for k, o in enumerate(OUTCOMES)}
        found["task", ""] = task_rows(kept.series, items, said[NOTHING][:, 0, 1])
        taken = said[OWN][:, 1:-1, 0].max(1, initial=0)
        return found | {("task", OWN): task_rows(f"{kept.series}, {OWN}", items, taken)}


OTHER, ALIKE = "other class", "same class"
CLASSES = {"mammals": True, "others": False}
FEW_ANIMALS = "too few animals of a class to choose on some and report on others"
RELEASED_DOSES, RELEASED_DEPTH = (0.0, *map(float, range(10, 101, 10))), 13 / 32
"""Of the authors' code: times the difference of the rows as it is, at this share of the layers."""


@dataclass(frozen=True)
class _Heard:
    """The answers' tokens, the prompts, and those in whose states lengths are measured."""

    answers: TargetTable
    prompts: list[Encoding]
    first: list[Encoding]
    of_items: ClassVar = ("prompts", "first")


@dataclass(frozen=True, kw_only=True)
class AnimalPush(Push):
    """At the frames of an animal's sound, add s times the vector of another animal of the other class minus that of the
    present one. Does the share of the first answer ("mammal", "Yes") among the answers go down for mammals, and up for
    the others?

    by: "unembedding", a word's row, as in the paper; or "states", the state at the last token of the word alone, read
    at the layer it is added at. Layer and strength are chosen on a share of the animals of each class, by the class
    that moves less; or are those that another language chose (`chosen`). s is in lengths of the state: the difference
    is scaled to the mean length of the clip's states at that layer, in the prompt that chose.

    Three claims, `push-<by>/<language>` and, of one class each, `.../mammals` and `.../others`: the change of the share
    in the direction of the push, minus the larger of that under random directions of equal length (their mean) and
    under the reversed vector, so that a push that makes the model give one answer, whatever it hears, scores nothing;
    against a null in which it is shuffled which of the animals are called mammals. Controls: the vector to another
    animal of the same class, the layer half the model away, and random weights. Animals whose row is asked for and that
    are several tokens are dropped and counted.

    Table: `push-choice` (the class that moves less) and `push-dose` (share of the first answer by class; with rows also
    "as released", in the language that chose: `released` times the difference as it is, at RELEASED_DEPTH). Raises
    SemhubError on an unknown `by`.
    """

    strengths: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    by: str = "unembedding"
    released: tuple[float, ...] = RELEASED_DOSES
    chosen: Kept | None = None
    random_weights: ClassVar[bool] = True
    parts: ClassVar[str] = "id"
    shared: ClassVar[bool] = True
    columns: ClassVar[tuple[str, ...]] = ("condition", "strength", "class", "control")
    name: ClassVar[str] = "push"
    reread: ClassVar[bool] = True

    @property
    def claims(self) -> tuple[Claim, ...]:
        given: dict[str, Any] = {"nulls": (Given(),), "outcome": True}
        given["null_in_words"] = "shuffling which animals are called mammals"
        ends = {"": {}} | {whose: {"ending": f"/{whose}", "series": f"{{}} {whose}"} for whose in CLASSES}
        return tuple(Claim(f"push-{self.by}", whose, **given, **more) for whose, more in ends.items())

    def fit(self, model: LanguageModel, items: Sequence[KindItem]) -> Kept:
        need_one_of(self.by, ("unembedding", "states"), f"Vectors were asked for by {self.by!r}")
        if not items:
            return Kept([])
        answers = target_table(model, items[0].answers, asked(model, items[0].prompt).text)
        if answers.words != items[0].answers:
            return Kept([], {NO_ANSWER: len(items)})
        rows = self._rows(model, items)
        kept = [i for i in items if {i.clip.label, i.other, i.alike} <= {*rows}]
        dropped = {"no single token for an animal": len(items) - len(kept)}
        animals = [{i.clip.label for i in kept if i.clip.is_mammal == mammal} for mammal in CLASSES.values()]
        if min(map(len, animals)) < 2:
            return Kept([], dropped | {FEW_ANIMALS: len(kept)})
        prompts = model.encode([asked(model, item.prompt) for item in kept])
        first = self.chosen.more.resolved.first if self.chosen else prompts
        return Kept(kept, dropped, prompts=(), more=_Heard(answers, prompts, first))

    def _rows(self, model: LanguageModel, items: Sequence[KindItem]) -> dict[str, Float[Tensor, "layer hidden"]]:
        """The vector of each animal that has one, by layer."""
        words = sorted({word for item in items for word in (item.clip.label, item.other, item.alike)})
        if self.by == "states":
            states = hidden_states(model, [model.anchor + word for word in words]).hidden.cpu()
            return dict(zip(words, states, strict=True))
        found = {form.word: form.unembedding_row(model) for form in word_forms(model, words)}
        return {word: row.expand(model.n_layers + 1, -1) for word, row in found.items() if row is not None}

    def _toward(self, model: LanguageModel, kept: Kept, to: str) -> Float[Tensor, "item layer hidden"]:
        rows = self._rows(model, kept.items)
        return torch.stack([rows[getattr(item, to)] - rows[item.clip.label] for item in kept.items])

    def vectors(self, reader: LanguageModel, kept: Kept) -> Vectors:
        heard = kept.more
        frames = [encoding.frames for encoding in heard.first]
        lengths = torch.zeros(len(frames), reader.n_layers + 1)
        for states in stream_states(reader, heard.first, positions=frames):
            lengths.index_add_(0, states.item, states.hidden.norm(dim=-1).cpu())
        lengths /= torch.tensor([len(places) for places in frames])[:, None]
        named = ((OTHER, "other"), (ALIKE, "alike"))
        return {name: normalize(self._toward(reader, kept, to), dim=-1) * lengths[..., None] for name, to in named}

    def choose(self, model: LanguageModel, kept: Kept) -> Kept:
        if self.chosen is None:
            return super().choose(model, kept)
        return replace(kept, more=replace(self.chosen.more, resolved=kept.more), found=self.chosen.found)

    def split(self, kept: Kept) -> Items:
        rng, chosen = np.random.default_rng(kept.seed), set()
        for mammal in CLASSES.values():
            animals = sorted({i.clip.label for i in kept.items if i.clip.is_mammal == mammal})
            chosen |= {*rng.permutation(animals)[: max(1, int(len(animals) * self.share))].tolist()}
        return np.array([item.clip.label in chosen for item in kept.items])

    def sides(self, kept: Kept) -> dict[str, Items]:
        mammals = np.array([item.clip.is_mammal for item in kept.items], bool)
        return {whose: mammals == wanted for whose, wanted in CLASSES.items()}

    def shown(self, kept: Kept) -> list[tuple[str, Items, int]]:
        return [(whose, side, 0) for whose, side in self.sides(kept.only(kept.more.reported())).items()]

    def doses(self, condition: str, strength: float) -> tuple[float, ...]:
        if condition == RELEASED:
            return self.released
        of = self if condition == OTHER or self.released else replace(self, strengths=(strength,))
        return super(AnimalPush, of).doses(condition, strength)

    def further(self, reader: LanguageModel, kept: Kept, layer: int) -> dict[str, Way]:
        if self.by == "states" or not self.released:
            return {}
        at = max(1, round(RELEASED_DEPTH * reader.n_layers))
        own = self._toward(reader, kept, "other")[kept.more.reported()][:, None, at]
        return {RELEASED: Way(own, at, control=False)}

    def label(self, model: LanguageModel, condition: str) -> Columns:
        if condition != RELEASED:
            return (("condition", condition),)
        at = max(1, round(RELEASED_DEPTH * model.n_layers))
        return ("condition", RELEASED), ("reading", RELEASED), ("layer", at), ("depth", at / model.n_layers)

    def outcome(self, reader: LanguageModel, kept: Kept, of: Rows, vectors: Tensor, at: int, strengths: Doses) -> Said:
        """The share of the first answer."""
        heard = kept.more.resolved
        prompts = [heard.prompts[n] for n in of]
        edit = Edit((at,), vectors, positions=[encoding.frames for encoding in prompts])
        said = next_token_logprobs(reader, prompts, heard.answers.ids, edit=edit, strengths=strengths)
        return word_logprobs(said, heard.answers.groups).double().softmax(-1)[..., :1].numpy()

    def effect(self, kept: Kept, found: Found) -> Float[np.ndarray, "item direction strength"]:
        turn, still = _turn(kept)[:, None], found.at(0.0)[..., 0]
        return np.stack([turn * (found.at(s)[..., 0] - still) for s in self.strengths], 2)

    def claimed(self, kept: Kept, found: Mapping[str, Found]) -> Numbers:
        """Also of random weights, under the one vector that counts there."""
        some, s = kept.only(kept.more.reported()), kept.more.strength
        turn, still = _turn(some), found[OTHER].at(0.0)[:, 0, 0]

        def change(name: str, strength: float) -> Float[np.ndarray, " item"]:
            return found[name].at(strength)[..., 0].mean(1) - still

        def moved(name: str) -> tuple[np.ndarray, ...]:
            noise = change(RANDOM, s) if RANDOM in found else np.zeros(len(turn))
            return change(name, s), change(name, -s) if -s in found[name].strengths else noise, noise

        def scored(name: str) -> Float[np.ndarray, " item"]:
            return _score(turn, *moved(name))

        claimed: Numbers = {}
        for whose, side in ({"": np.ones(len(turn), bool)} | self.sides(some)).items():
            given: dict[str, Any] = {"unit": Unit.share(f"probability, at {s:g} lengths of the state")}
            if ALIKE in found:
                given["null"], given["least_p"] = _classes_shuffled(some, moved, CLASSES.get(whose))
            above = self.above(kept, found, scored(OTHER), scored, but=(REVERSED,), side=side, **given)
            claimed[f"push-{self.by}", whose] = above
        return claimed

    def beside(self, reader: LanguageModel, kept: Kept, prompts: Sequence, reading: str) -> Numbers:
        of, at, alone = kept.more.reported(), kept.more.layer, replace(self, strengths=(kept.more.strength,))
        if not of.any():
            return {}
        own = self.vectors(reader, replace(kept, more=kept.more.resolved))[OTHER][of]
        found = alone.conditions(reader, kept, {OTHER: Way(own[:, None, at], at, control=False)})
        return self.claimed(kept, found) | self.dose(reader, kept, found)


def push_animals(
    push: AnimalPush, model: LanguageModel, items: Mapping[str, Sequence[KindItem]], *, seed: int = 0, **options: Any
) -> Result:
    """`run` for each language, of which the first one chooses layer and strength for all. items: by language the same
    clips in one order. The table adds `language` and `by`. Where the first cannot be asked, nor can the others."""
    first, *_ = items
    kept = replace(push.fit(model, items[first]), series=first, seed=seed)
    found = []
    if kept.items:
        kept = push.choose(model, kept)
    for name, some in items.items():
        given = {"series": name, "over": "moves_with", "seed": seed, "columns": {"language": name, "by": push.by}}
        one = replace(push, chosen=kept)
        if not kept.items:
            one, some, given = push, [], given | {"dropped": kept.dropped}
        elif name != first:
            one = replace(push, chosen=replace(kept, found={}), released=())
        found.append(run(one, model, some, **given, **options))
    return joined(found)


def _turn(kept: Kept) -> Float[np.ndarray, " item"]:
    """Where the share should go: down for mammals."""
    return np.array([-1.0 if item.clip.is_mammal else 1.0 for item in kept.items])


def _score(turn: np.ndarray, plus: np.ndarray, minus: np.ndarray, noise: np.ndarray | float) -> np.ndarray:
    """The change in the direction of the push, minus the larger of that by chance and by the reversed vector."""
    return turn * plus - np.maximum(turn * noise, turn * minus)


def _classes_shuffled(kept: Kept, moved: Callable[[str], tuple], wanted: bool | None) -> tuple[Drawn, float]:
    """What draws the statistic with the classes shuffled among animals, and the least p of that: pairs of present and
    pushed animal that differ in class count, whichever they were made for."""
    kinds = {}
    for item in kept.items:
        mammal = item.clip.is_mammal
        kinds |= {item.clip.label: mammal, item.alike: mammal, item.other: not mammal}
    number = {animal: n for n, animal in enumerate(sorted(kinds))}
    called = np.array([kinds[animal] for animal in number], float)
    animal = np.tile([number[item.clip.label] for item in kept.items], 2)
    partner = np.array([number[getattr(item, to)] for to in ("other", "alike") for item in kept.items])
    both = [np.concatenate(parts) for parts in zip(moved(OTHER), moved(ALIKE), strict=True)]

    def drawn(first: int, end: int) -> list[Float[np.ndarray, "draw 1"]]:
        rng, found = np.random.default_rng(kept.seed + first), []
        for _ in range(first, end):
            said = rng.permutation(called)
            turn = said[partner] - said[animal]
            counts = (turn != 0) & (True if wanted is None else said[animal] == wanted)
            found.append(_score(turn, *both)[counts].mean() if counts.any() else np.nan)
        return [np.array(found)[:, None]]

    return drawn, 1 / comb(len(called), int(called.sum()))

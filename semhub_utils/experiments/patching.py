"""Interchange patch: a state of one type's run written into the other's. Does the answer follow?

As activation patching between prompts does (arXiv 2309.16042, and 2411.08745 across languages): what a state carries is
shown by what the model then says, not by what can be read from it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from semhub_utils.evidence import NATS, Unit, evenly
from semhub_utils.experiments.continuations import fitting_prompts, mass, told_sides
from semhub_utils.experiments.core import Claim, Experiment, Result, joined, run
from semhub_utils.experiments.numbers import ByAnswer, Chance, Exchange, Kept, Numbers, Scores
from semhub_utils.experiments.words import asked, task_rows, text_of
from semhub_utils.inputs import Encoding, Prompt
from semhub_utils.lens import lens, word_logprobs
from semhub_utils.models import LanguageModel
from semhub_utils.spokes.items import PatchItem
from semhub_utils.spokes.sentiment import NEUTRAL, SentimentPrompt, SentimentTask
from semhub_utils.states import Positions, hidden_states, stream_states
from semhub_utils.steering import patched_states
from semhub_utils.tokens import TargetTable, target_table

SOURCE, SAME, OTHER, PUSH = "source", "same answer", "other relation", "random push"
UNLIKE, EARLIER = "another word", "earlier position"  # instead of OTHER, where there are places
OWN = "own type"
OUTCOMES = ("expected", "original", "untranslated")
EXCHANGE = Exchange("anchor")
USED = "nats above the last layer"
MOST = 16
BY_BOTH = "as likely above 0 as below, by thing and by pair of words"


@dataclass(frozen=True)
class _Asked:
    """The words of one token, and for each outcome which of them it is, by item."""

    words: TargetTable
    of: Mapping[str, Int[np.ndarray, " item"]]
    of_items: ClassVar = ("of",)


@dataclass(frozen=True)
class Patch(Experiment):
    """Does the answer follow when the last token's state at layer l is replaced by that of another type's run?

    into: 0 writes the hub's states into the runs of a series, 1 the other way round. Items with places (`PatchItem`) go
    one way only: the states of a picture's patches, say, at layer l are all replaced by that of the last word of a text
    of the hub's. The series is then the type in which is asked, "english" too.

    Two claims. `patch/<series>`: log P(expected) minus log P(original), both words of the run's own type, minus the
    same without a patch, and minus what that gives at the last layer, where no block is left to use the state and the
    source's own output is read off it; against expected answers shuffled among items of a group, as a state that harms
    the run lifts every other answer. `patch-answer/<series>`: the share of items whose likeliest next token begins the
    expected word, against the same shuffling. Where `into` is 1, "/reversed" stands behind them.

    Controls: the state of the hub's prompt with the run's own answer (nothing should change), that of a prompt of
    another relation (with places: of the text with a word that is no answer, and that of the source's text at an
    earlier token, drawn by the run's seed), a push in a random direction as long as the patch is, from the mean of the
    states that are written into, the patch at the embedding layer, that at the last layer, where no block is left to
    use it, and random weights. Words of several tokens, or whose token another word shares, are dropped and counted.

    Curves: `patch`, with nothing taken off; by `condition` (whose state was written) `patch-first`, the share of items
    whose likeliest next token begins the expected word, the original one, the expected one in the source's own type
    ("untranslated"), or another word; and, with places, `task-<series>`, whether the run without a patch says the
    original answer, one row per item. The
    condition "own type" is no control but what a patch can do at best: the state of the same in the type itself (the
    mean over a picture's patches). `task-<series>, own type`, one row per item: whether it makes the run say the
    expected answer at some inner layer. Where it does not, what is written there is not read, whoever wrote it."""

    hub: str = "english"
    into: int = 0
    parts: ClassVar[str] = "cluster"
    nothing: ClassVar[tuple[str, ...]] = ()
    readings: ClassVar[tuple[str, ...]] = ("",)
    columns: ClassVar[tuple[str, ...]] = ("condition", "cluster")

    @property
    def claims(self) -> tuple[Claim, ...]:
        given: dict[str, Any] = {"nulls": (EXCHANGE,), "ending": "/reversed" * self.into}
        given["series"] = self.hub if self.into else "{}"
        given["null_in_words"] = "expected answers shuffled among prompts of one relation and form"
        return (
            Claim("patch-used", unit=replace(NATS, name=USED), named="patch", ended=False, **given),
            Claim("patch-answer", unit=Unit.share("prompts"), outcome=True, **given),
        )

    def fit(self, model: LanguageModel, items: Sequence[PatchItem]) -> Kept:
        items = [
            replace(i, run=(asked(model, i.run[0]), i.run[1]), source=(asked(model, i.source[0]), i.source[1]))
            for i in items
        ]
        answers = [w for item in items for w in (*item.answer, *item.expected) if w is not None]
        words = target_table(model, answers, text_of(items[0].run[0]) if items else "")
        single, kept, dropped = {*words.single, None}, [], Counter()
        for item in items:
            if item.answer[0] == item.answer[1] or item.expected[0] == item.expected[1]:
                dropped["both types have the same word"] += 1
            elif item.answer[0] == item.expected[0] or item.answer[1] == item.expected[1] is not None:
                dropped["the source has the same answer"] += 1
            elif not {*item.answer, *item.expected} <= single:
                dropped["no single token of its own for an answer"] += 1
            elif item.places and not item.places(*model.encode([item.run[0]])):
                dropped["no patch of the model is known to lie there"] += 1
            else:
                kept.append(item)
        place = {word: k for k, word in enumerate(words.words)}
        every = [(i.expected[self.into], i.answer[self.into], i.expected[1 - self.into]) for i in kept]
        of = {
            outcome: np.array([place[row[k]] for row in every], int)
            for k, outcome in enumerate(OUTCOMES)
            if not any(row[k] is None for row in every)
        }
        return Kept(kept, dropped, of["expected"], _Asked(words, of), [item.run[self.into] for item in kept])

    def read(self, reader: LanguageModel, kept: Kept, prompts: Sequence, reading: str) -> Numbers:
        runs, at = _Runs(reader, kept, prompts), partial(Scores, layers=patched(reader))
        said = {name: runs.under(states) for name, states in self._states(reader, kept, runs).items()}
        of = kept.more.of
        followed = {name: {k: kept.own(v) for k, v in some.followed.items()} for name, some in said.items()}
        controls = [name for name in said if name not in (SOURCE, OWN)]
        found: Numbers = {
            (claim, ""): at(values, {name: followed[name][claim] for name in controls})
            for claim, values in said[SOURCE].followed.items()
        }
        for condition, some in said.items():
            more = (("condition", condition),)
            named = {o: (some.first == word[:, None]).astype(float) for o, word in of.items()}
            named["other"] = 1 - sum(named.values())
            found |= {("patch-first", o, more): at(values) for o, values in named.items()}
        more = (("condition", SOURCE),)
        answered = said[SOURCE].followed["patch-answer"]
        found["patch-first", "expected", more] = at(answered, nulls=(EXCHANGE,))
        if kept.items[0].places is not None:
            found["task", ""] = task_rows(kept.series, kept.items, runs.first[:, 0] == of["original"])
        if OWN in said:
            taken = followed[OWN]["patch-answer"][:, 1:-1].max(1, initial=0)
            found["task", OWN] = task_rows(f"{kept.series}, {OWN}", kept.items, taken)
        return found

    def beside(self, reader: LanguageModel, kept: Kept, prompts: Sequence, reading: str) -> Numbers:
        source = hidden_states(reader, [item.source[1 - self.into] for item in kept.items]).hidden
        return {
            (claim, ""): Scores(values, layers=patched(reader))
            for claim, values in _Runs(reader, kept, prompts).under(source).followed.items()
        }

    def _states(self, model: LanguageModel, kept: Kept, runs: "_Runs") -> dict[str, Float[Tensor, "item layer hidden"]]:
        """What is written into the runs at each layer, by condition."""
        items, of, places = kept.items, 1 - self.into, kept.items[0].places is not None
        texts = {SOURCE: [item.source[of] for item in items], SAME: [item.run[of] for item in items]}
        if all(item.other for item in items):
            texts[UNLIKE if places else OTHER] = [item.other[of] for item in items]
        states = {name: hidden_states(model, some).hidden for name, some in texts.items()}
        if places:
            rng = np.random.default_rng(kept.seed)
            before = [[int(rng.integers(max(1, len(e) - 1)))] for e in model.encode(texts[SOURCE])]
            states[EARLIER] = hidden_states(model, texts[SOURCE], positions=before).hidden
            if all(item.source[self.into] for item in items):
                like = model.encode([item.source[self.into] for item in items])
                states[OWN] = mean_states(model, like, [e.patches or [len(e) - 1] for e in like])
        own = mean_states(model, runs.encodings, runs.places)
        direction = torch.randn(len(items), 1, model.hidden_size, generator=torch.Generator().manual_seed(kept.seed))
        apart = (states[SOURCE] - own).norm(dim=-1, keepdim=True)
        return states | {PUSH: own + apart * normalize(direction, dim=-1).to(own.device)}


def interchange(
    model: LanguageModel, items: Sequence[PatchItem], *, series: str, hub: str = "english", **options: Any
) -> Result:
    """`run` of `Patch` both ways, or one way where items have places or there are none; the table adds `direction`."""
    alone = not items or items[0].places is not None
    ways = [f"{hub} words into {series}"] if alone else [f"{hub} into {series}", f"{series} into {hub}"]
    some = {"model": model, "items": items, "series": series, **options}
    return joined(run(Patch(hub, into), columns={"direction": way}, **some) for into, way in enumerate(ways))


@dataclass(frozen=True)
class _Said:
    """What runs say with a state in them at each layer. first: the word that the likeliest token is, -1 for none;
    followed: by claim, what an item would score if that word were its expected one (nan for its original one, which it
    cannot turn to)."""

    first: Int[np.ndarray, "item layer"]
    followed: dict[str, ByAnswer]


class _Runs:
    """Runs of a model that states are written into."""

    def __init__(self, model: LanguageModel, kept: Kept, prompts: Sequence[Prompt]):
        self.model, self.words, of = model, kept.more.words, kept.more.of
        self.encodings: list[Encoding] = model.encode(prompts)
        self.original, self.places = of["original"], -1
        if kept.items[0].places:
            self.places = [list(i.places(e)) for i, e in zip(kept.items, self.encodings, strict=True)]
        before = hidden_states(model, self.encodings, layers=[model.n_layers], edited=self.places).hidden
        self.before, self.first = self._words(before)

    def under(self, vectors: Float[Tensor, "item layer hidden"]) -> _Said:
        """With `vectors[:, l]` in their places at each layer l."""
        layers, index = patched(self.model), np.arange(len(vectors))
        last = patched_states(self.model, self.encodings, vectors[:, layers], layers, positions=self.places)
        logprob, first = self._words(last)
        gain = logprob - self.before
        gain -= gain[index, :, self.original][:, :, None]
        named = (first[:, :, None] == np.arange(logprob.shape[2])).astype(float)
        gain[index, :, self.original] = named[index, :, self.original] = np.nan
        followed = {"patch": gain, "patch-used": gain - gain[:, -1:], "patch-answer": named}
        return _Said(first, followed)

    def _words(self, states: Float[Tensor, "item layer hidden"]) -> tuple[np.ndarray, np.ndarray]:
        seen = lens(self.model, states, targets=self.words.ids, top_k=1)
        first = self.words.word_of_token(self.model.vocab_size)[seen.top_ids[..., 0].numpy()]
        return word_logprobs(seen.logprob, self.words.groups).double().numpy(), first


def patched(model: LanguageModel) -> list[int]:
    """The layers that are patched, one at a time: all, or beyond MOST as many evenly, the first and the last among
    them."""
    every = range(model.n_layers + 1)
    return [*every] if model.n_layers <= MOST else evenly(every, MOST)


def mean_states(
    model: LanguageModel, prompts: Sequence[Prompt], places: Positions
) -> Float[Tensor, "item layer hidden"]:
    """The mean over each prompt's places."""
    where = model.device_of_layer(model.n_layers)
    total = torch.zeros(len(prompts), model.n_layers + 1, model.hidden_size, device=where)
    count = torch.zeros(len(prompts), device=where)
    for some in stream_states(model, prompts, positions=places):
        item = some.item.to(where)
        total.index_add_(0, item, some.hidden)
        count += torch.bincount(item, minlength=len(prompts))
    return total / count[:, None, None]


@dataclass(frozen=True)
class _Written:
    """A prompt, and which pair of opposites is written into it."""

    cluster: str
    pair: int


@dataclass(frozen=True)
class SentimentPatch(Experiment):
    """Does a pleasant English word's state, in the place of the last one of a prompt in another language, make pleasant
    words likelier there than an unpleasant word's does?

    Written are the states at the last token of English sentences: the English prompt of the same thing with each word
    of the opposites of `english` behind it, at every layer in turn. Measured is log P(pleasant words) - log
    P(unpleasant words) of the task's language as the next token, the written pair's own words left out.

    Claim `patch/<language>`: half of that under the pleasant word minus under the unpleasant one, per prompt and pair.
    Nulls: chance, by cluster of prompts, and by pair, as ten pairs are ten samples however many the prompts.
    Controls: two neutral words in the pair's place, a push from the middle of both states along a random direction and
    against it, as far as either is, one direction per pair; the embedding layer; random weights.

    Table: `sentiment-patch` and, for `series` "pleasant word", "unpleasant word", "neutral word" and "no patch",
    `sentiment-patch-level`, the measure itself. most: how many prompts are used, the pairs being the smaller sample;
    none is left where too few fit into the model's context.
    """

    task: SentimentTask
    english: SentimentTask
    most: int = 24
    nothing: ClassVar[tuple[str, ...]] = ()
    readings: ClassVar[tuple[str, ...]] = ("",)
    claims: ClassVar[tuple[Claim, ...]] = (
        Claim("sentiment-patch", "", (Chance(), Chance("pair")), named="patch", null_in_words=BY_BOTH),
    )

    def fit(self, model: LanguageModel, items: Sequence[SentimentPrompt]) -> Kept:
        task, hub = self.task, self.english
        prompts, dropped = fitting_prompts(model, items, 1)
        english, _ = fitting_prompts(model, hub.prompts, 8)
        prompts = prompts[: self.most] if english else []
        same = {p.id: p for p in english}  # where there is none of the same thing, the next in line
        sources = [same.get(p.id, english[k % len(english)]).prompt for k, p in enumerate(prompts)]
        # a pair's own words do not count for it
        words = told_sides(model, task, [*zip(task.pleasant, task.unpleasant, strict=True), task.own])
        written = [_Written(p.cluster, k) for p in prompts for k in range(len(hub.pleasant) + 1)]
        return Kept(written, dropped, prompts=[p.prompt for p in prompts], more=(sources, *words))

    def read(self, reader: LanguageModel, kept: Kept, prompts: Sequence, reading: str) -> Numbers:
        colours = list(zip(NEUTRAL[::2], NEUTRAL[1::2], strict=True))  # none twice, or their effects would cancel out
        states, neutral = self._states(reader, kept), self._states(reader, kept, colours)
        middle, apart = states.mean(2, keepdim=True), (states[:, :, :1] - states[:, :, 1:]).norm(dim=-1, keepdim=True)
        drawn = torch.randn(states.shape[1], 1, 1, states.shape[-1], generator=torch.Generator().manual_seed(kept.seed))
        along = (normalize(drawn, dim=-1) * torch.tensor([0.5, -0.5])[:, None, None]).to(states.device)
        found = self._under(reader, kept, prompts, states)
        beside = self._under(reader, kept, prompts, neutral)
        pushed = self._under(reader, kept, prompts, middle + apart * along)
        plain = hidden_states(reader, prompts, layers=[reader.n_layers]).hidden[:, None, None]
        alone = self._mass(reader, kept, plain)[:, :, 0].repeat(found.shape[-1], 2)
        controls, layers = {"neutral words": _half(beside), PUSH: _half(pushed)}, patched(reader)
        levels = {"pleasant word": found[:, :, 0], "unpleasant word": found[:, :, 1]}
        levels |= {"neutral word": beside.mean(2), "no patch": alone}
        return {("sentiment-patch", ""): Scores(_half(found), controls, layers=layers)} | {
            ("sentiment-patch-level", name): Scores(of.reshape(len(kept.items), -1), layers=layers)
            for name, of in levels.items()
        }

    def beside(self, reader: LanguageModel, kept: Kept, prompts: Sequence, reading: str) -> Numbers:
        found = _half(self._under(reader, kept, prompts, self._states(reader, kept)))
        return {("sentiment-patch", ""): Scores(found, layers=patched(reader))}

    def _states(
        self, reader: LanguageModel, kept: Kept, pairs: Sequence[tuple[str, str]] | None = None
    ) -> Float[Tensor, "prompt some side layer hidden"]:
        """Of English sentences that end in the words of some pairs, by default the opposites."""
        of = self.english
        pairs = pairs or list(zip((*of.pleasant, of.own[0]), (*of.unpleasant, of.own[1]), strict=True))
        texts = [f"{source} {word}" for source in kept.more[0] for pair in pairs for word in pair]
        return hidden_states(reader, texts, layers=patched(reader)).hidden.unflatten(0, (-1, len(pairs), 2))

    def _under(
        self,
        reader: LanguageModel,
        kept: Kept,
        prompts: Sequence,
        states: Float[Tensor, "prompt some side layer hidden"],
    ) -> Float[np.ndarray, "prompt pair side layer"]:
        """The measure with each state written in turn."""
        texts = [prompt for prompt in prompts for _ in range(states.shape[1] * states.shape[2])]
        last = patched_states(reader, texts, states.flatten(0, 2), patched(reader))
        return self._mass(reader, kept, last.reshape(states.shape))

    def _mass(
        self, reader: LanguageModel, kept: Kept, last: Float[Tensor, "prompt some side layer hidden"]
    ) -> Float[np.ndarray, "prompt pair side layer"]:
        """Of states at layer L, maybe of fewer pairs, that are then used in turn; nan for a pair without words."""
        _, words, sides = kept.more
        out = np.full((len(last), len(sides), *last.shape[2:4]), np.nan)
        if words:
            logprob = lens(reader, last.flatten(0, 2), targets=words.ids).logprob
            logprob = word_logprobs(logprob, words.groups).reshape(*last.shape[:4], -1)
            for k, side in enumerate(sides):
                if all(side):
                    out[:, k] = mass(logprob[:, k % last.shape[1]], [side])[..., 0]
        return out


def _half(found: Float[np.ndarray, "prompt pair side layer"]) -> Float[np.ndarray, "item layer"]:
    """Half of the first side minus the second."""
    return ((found[:, :, 0] - found[:, :, 1]) / 2).reshape(-1, found.shape[-1])

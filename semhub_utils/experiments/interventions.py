"""What does a model say when its states are changed? Layer and strength are chosen on some items, and reported on
others.

An intervention declares what is added (`vectors`), how, where and what counts (`outcome`), by what the choice is made
(`effect`), and which numbers are claims (`claimed`). `Push` does all else, the same way for each: another vector that
every claim of every intervention has to be above is a line of `Push.ways`, and nothing else.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from math import inf
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from semhub_utils.evidence import Unit, evenly, split_items
from semhub_utils.experiments.core import Claim, Experiment
from semhub_utils.experiments.numbers import Chance, Given, Kept, Numbers, Scores, by_stages
from semhub_utils.experiments.unsaid import sites
from semhub_utils.models import LanguageModel
from semhub_utils.spokes.code import Place, calls_range, only_argument, steering_item
from semhub_utils.spokes.items import SteerItem
from semhub_utils.states import hidden_states
from semhub_utils.steering import Edit, generate
from semhub_utils.tokens import word_forms
from semhub_utils.verdicts import MIN_UNITS

TRIED = 8  # layers at most
MORE = 5
CPU_TOKENS = 8192  # prompt tokens of all copies continued together: their steps are short, and the calls are what costs
STEERED, REVERSED, RANDOM, AWAY = "steered", "reversed", "random direction", "wrong layer"
INSTEAD, RELEASED = "random directions in its place", "as released"
BY_CHANCE = "as likely above 0 as below"
Items = Bool[np.ndarray, "_"]
"""Which of some items."""
Rows = Int[np.ndarray, " row"]
"""Their numbers, one for each run."""
Doses = Sequence[float]
Said = Float[np.ndarray, "row strength outcome"]
Columns = tuple[tuple[str, Any], ...]
Vectors = dict[str, Float[Tensor, "item layer *position hidden"]]


@dataclass(frozen=True)
class Chosen:
    """Which items were for choosing, the layer and the strength they chose; the vectors of all items by condition, and
    what the intervention resolved of them."""

    choosing: Items
    layer: int
    strength: float
    vectors: Vectors
    resolved: Any
    of_items: ClassVar = ("choosing", "vectors", "resolved")

    def reported(self, side: Items | None = None) -> Items:
        """The items that are reported on, or some of them."""
        of = ~self.choosing
        if side is not None:
            of[of] = side
        return of


@dataclass(frozen=True)
class Way:
    """Vectors of the reported items and where they are added. control: whether claims have to be above what they do."""

    vectors: Float[Tensor, "item direction *position hidden"]
    layer: int
    control: bool = True


@dataclass(frozen=True)
class Found:
    """What items say under some vectors."""

    values: Float[np.ndarray, "item direction strength outcome"]
    strengths: Doses
    control: bool = True
    more: Callable[[int, int], "Found"] | None = None  # what they say under further directions

    def at(self, strength: float) -> Float[np.ndarray, "item direction outcome"]:
        return self.values[:, :, self.strengths.index(strength)]


@dataclass(frozen=True, kw_only=True)
class Push(Experiment):
    """Vectors are added to hidden states, s times, at layer l; l and s are chosen on a share of the clusters.

    strengths: s, the weakest first; depth: the one layer to try, as a share of all, or TRIED of them. directions: how
    many random ones of equal length stand beside the vector; instead: how many take its place at the layer and strength
    chosen for it (of continuations, MORE times as many where p depends on it). Where one vector serves all items, these
    are a null: items are no samples of vectors then, and some direction turns all of them alike.

    Table: `<name>-choice` (layer x strength, choosing part; control: random directions) and `<name>-dose` (strength x
    `condition`, reporting part).
    """

    strengths: tuple[float, ...]
    share: float = 0.25
    depth: float | None = None
    directions: int = 3
    instead: int = 0
    nothing: ClassVar[tuple[str, ...]] = ()
    readings: ClassVar[tuple[str, ...]] = ("corrected",)
    random_weights: ClassVar[bool] = False
    columns: ClassVar[tuple[str, ...]] = ("condition", "strength", "raw")
    name: ClassVar[str]
    drawn: ClassVar[int] = 1  # random directions beside the vector on the items for choosing
    together: ClassVar[bool] = False  # whether all vectors choose, or the first alone, and the others are controls
    without: ClassVar[tuple[str, ...]] = ()  # conditions that say nothing here
    reread: ClassVar[bool] = False  # whether at a wrong layer that layer's own vector is added
    against: ClassVar[Mapping[str, Any]] = {}  # what the choice is set against, as `Scores` takes it

    # What an intervention declares

    def vectors(self, reader: LanguageModel, kept: Kept) -> Vectors:
        """What is added at each layer, by condition; the claims are about the first one."""

    def outcome(self, reader: LanguageModel, kept: Kept, of: Rows, vectors: Tensor, at: int, strengths: Doses) -> Said:
        """What these items say, each with a vector ``[*position, hidden]`` added at a layer."""

    def claimed(self, kept: Kept, found: Mapping[str, Found]) -> Numbers:
        """The numbers of the claims, each made by `above`."""

    def shown(self, kept: Kept) -> list[tuple[str, Items, int]]:
        """The series of the dose: name, which of the reported items, and which outcome."""

    def effect(self, kept: Kept, found: Found) -> Float[np.ndarray, "item direction strength"]:
        """How far each of `strengths` moves the items for choosing."""
        return np.stack([found.at(s)[..., 0] for s in self.strengths], 2)

    def sides(self, kept: Kept) -> dict[str, Items]:
        """Kinds of items, of which the one that is moved less counts for the choice."""
        return {"": np.ones(len(kept.items), bool)}

    def split(self, kept: Kept) -> Items:
        """Which items are for choosing."""
        index = range(len(kept.items))
        return np.isin(index, split_items(index, kept.seed, clusters=kept.labels("cluster"), share=self.share)[0])

    def otherwise(self, model: LanguageModel) -> tuple[int, float]:
        """Layer and strength where nothing can be chosen."""
        return 1, self.strengths[-1]

    def asked(self) -> tuple[float, ...]:
        """The strengths that `effect` needs."""
        return (0.0, *(s for s in self.strengths if s))

    def doses(self, condition: str, strength: float) -> tuple[float, ...]:
        """The strengths at which a condition is reported; `strength` is the one chosen."""
        up = tuple(s for s in self.strengths if s > 0)
        signed = (*(-s for s in up[::-1]), 0.0, *up)
        return {AWAY: up, RANDOM: up, RELEASED: up, INSTEAD: (strength,)}.get(condition, signed)

    def further(self, reader: LanguageModel, kept: Kept, layer: int) -> dict[str, Way]:
        """More ways that are an intervention's own."""
        return {}

    def amount(self, kept: Kept, strength: float) -> Columns:
        return (("strength", strength),)

    def label(self, model: LanguageModel, condition: str) -> Columns:
        return (("condition", condition),)

    # What all of them do

    def choose(self, model: LanguageModel, kept: Kept) -> Kept:
        """Layer and strength: of equals the lowest layer, and there the weakest push."""
        choosing = self.split(kept)
        chosen = Chosen(choosing, *self.otherwise(model), self.vectors(model, kept), kept.more)
        kept = replace(kept, more=chosen)
        if not choosing.any():
            return kept
        tried, some, effects = self.tried(model), kept.only(choosing), []
        named = [v[choosing] for v in chosen.vectors.values()][: None if self.together else 1]
        for at in tried:
            own = torch.stack([v[:, at] for v in named], 1)
            both = torch.cat([own, self.random(own[:, 0], kept.seed)[:, : self.drawn]], 1)
            effects.append(self.effect(some, self.under(model, kept, choosing, both, at, self.asked())))
        effect, sides = np.stack(effects, 2), self.sides(some)  # item direction layer strength
        own, chance = effect[:, : len(named)].mean(1), effect[:, len(named) :]
        means = np.stack([own[side].mean(0) for side in sides.values()])
        inner = [k for k, at in enumerate(tried) if 0 < at < max(model.n_layers, 2)]
        pushes = [k for k, s in enumerate(self.strengths) if s > 0]
        least = means.min(0)[np.ix_(inner, pushes)]
        if np.isfinite(least).all():
            at = least.max(1).argmax()
            best = {"layer": tried[inner[at]], "strength": self.strengths[pushes[least[at].argmax()]]}
            kept = replace(kept, more=replace(chosen, **best))
        rows: Numbers = {}
        for (k, s), (number, (kind, side)) in product(enumerate(self.strengths), enumerate(sides.items())):
            here = np.flatnonzero(means[:, :, k].argmin(0) == number)  # where this kind is moved less
            of = choosing.copy()
            of[of] = side
            given = {"of": of, "layers": [tried[at] for at in here], **self.against}
            if self.drawn:
                given["controls"] = {RANDOM: chance[side].mean(1)[:, here, k]}
            if len(here):
                key = f"{self.name}-choice", "", (*self.amount(kept, s), *((("class", kind),) if kind else ()))
                rows[key] = Scores(own[side][:, here, k], **given)
        return replace(kept, found=kept.found | rows)

    def tried(self, model: LanguageModel) -> list[int]:
        if self.depth is not None:
            return [max(1, round(self.depth * model.n_layers))]
        return evenly(range(1, max(model.n_layers, 2)), TRIED)

    def random(self, own: Float[Tensor, "item *position hidden"], seed: int) -> Float[Tensor, "item direction ..."]:
        """Directions as long as the vectors, the same for all items."""
        many = max(self.directions, self.instead)
        drawn = torch.randn(many, *own.shape[1:], generator=torch.Generator().manual_seed(seed))
        return normalize(drawn, dim=-1).to(own.device) * own.norm(dim=-1, keepdim=True)[:, None]

    def under(self, reader: LanguageModel, kept: Kept, of: Items, vectors: Tensor, at: int, strengths: Doses) -> Found:
        """What some items say, each under all its vectors ``[direction, *position, hidden]``."""
        rows = np.repeat(np.flatnonzero(of), vectors.shape[1])
        values = self.outcome(reader, kept, rows, vectors.flatten(0, 1), at, strengths)
        return Found(values.reshape(*vectors.shape[:2], *values.shape[1:]), tuple(strengths))

    def ways(self, reader: LanguageModel, kept: Kept, layer: int) -> dict[str, Way]:
        """By condition, what is claimed first. A line here is in every dose, and a control of every claim."""
        of, last = kept.more.reported(), self.reaches(reader)
        named = {name: v[of] for name, v in kept.more.vectors.items()}
        first, *_ = named
        own = named[first]
        away = (layer - 1 + last // 2) % last + 1 if last > 1 else reader.n_layers
        random = self.random(own[:, layer], kept.seed)
        ways = {name: Way(v[:, None, layer], layer, not self.together) for name, v in named.items()}
        ways[first] = Way(own[:, None, layer], layer, control=False)
        ways[AWAY] = Way(own[:, None, away if self.reread else layer], away)
        ways[RANDOM] = Way(random[:, : self.directions], layer, control=False)  # what is taken off, or a null
        ways[INSTEAD] = Way(random[:, : self.instead], layer, control=False)
        ways |= self.further(reader, kept, layer)
        return {name: way for name, way in ways.items() if name not in self.without and way.vectors.shape[1]}

    def conditions(self, reader: LanguageModel, kept: Kept, ways: Mapping[str, Way]) -> dict[str, Found]:
        """What the reported items say under every vector, and under the first one reversed."""
        of, found = kept.more.reported(), {}
        for name, way in ways.items():
            doses = self.doses(name, kept.more.strength)
            said = self.under(reader, kept, of, way.vectors, way.layer, doses)
            found[name] = replace(said, control=way.control, more=partial(self._further, reader, kept, way.layer))
        own = found[next(iter(ways))]
        if min(own.strengths) < 0:
            found[REVERSED] = Found(own.values, tuple(-s for s in own.strengths))
        return found

    def _further(self, reader: LanguageModel, kept: Kept, layer: int, first: int, end: int) -> Found:
        """What the reported items say under random directions `first` to `end` in the place of their vector."""
        of, own = kept.more.reported(), next(iter(kept.more.vectors.values()))
        drawn = replace(self, instead=end - first).random(own[of][:, layer], kept.seed + first)[:, : end - first]
        return self.under(reader, kept, of, drawn, layer, self.doses(INSTEAD, kept.more.strength))

    def above(
        self,
        kept: Kept,
        found: Mapping[str, Found],
        values: Float[np.ndarray, " item"],
        scored: Callable[[str], Float[np.ndarray, " item"]] | None = None,
        *,
        but: Sequence[str] = (),
        side: Items | None = None,
        **more: Any,
    ) -> Scores:
        """The numbers of a claim, and what every condition that it has to be above scores by the claim's statistic
        (None: the claim is a limit, above which nothing else has to stay). but: those that say nothing of it; side:
        which of the reported items count."""
        some = slice(None) if side is None else side
        beaten = [name for name, of in found.items() if of.control and name not in but] if scored else []
        controls = {name: scored(name)[some, None] for name in beaten}
        return Scores(values[some, None], controls, of=kept.more.reported(side), layers=[kept.more.layer], **more)

    def reaches(self, reader: LanguageModel) -> int:
        """The last layer at which a change can be seen in what is said."""
        return reader.n_layers

    def read(self, reader: LanguageModel, kept: Kept, prompts: Sequence, reading: str) -> Numbers:
        found = self.conditions(reader, kept, self.ways(reader, kept, kept.more.layer))
        return self.claimed(kept, found) | self.dose(reader, kept, found)

    def dose(self, model: LanguageModel, kept: Kept, found: Mapping[str, Found]) -> Numbers:
        """By condition and strength."""
        still, rows = next(iter(found.values())).at(0.0), {}
        for name, of in found.items():
            doses = {0.0: still} | {s: of.at(s) for s in of.strengths if s > 0}
            for (s, values), (series, side, outcome) in product(doses.items(), self.shown(kept)):
                key = f"{self.name}-dose", series, (*self.label(model, name), *self.amount(kept, s))
                values = values[side, :, outcome].mean(1)[:, None]
                if name != INSTEAD:
                    rows[key] = Scores(values, of=kept.more.reported(side), layers=[kept.more.layer])
        return rows


def says(continuation: str, expected: str) -> bool:
    """Whether a continuation begins with `expected`, spaces aside, and does not run on within the same word."""
    text, start = "".join(continuation.split()), "".join(expected.split())
    rest = continuation.lstrip()[len(expected) :] if continuation.lstrip().startswith(expected) else text[len(start) :]
    return text.startswith(start) and not (rest[:1].isalnum() and rest[:1].isascii())


@dataclass(frozen=True, kw_only=True)
class Steering(Push):
    """Does a vector made of hub texts, `toward` minus `away` (`SteerItem`), added at the last token, make the model say
    `expected`?

    Claim `steering/<series>`: share of expected continuations minus the larger of two: that under random directions of
    equal norm (their mean; each is the same for all items), and that of continuations which other items expect (a push
    that makes the model say one thing, whatever it reads, is right now and then); null: signs flipped per cluster, and
    `instead`. Controls, minus the former: the reversed vector, and the vector of the chosen layer added half the model
    away. The reading "as released" adds one block after the layer the vector was read at, as the authors' code does;
    "corrected" adds where it was read. Where no cluster is left to choose on, no item is.
    """

    strengths: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
    max_new_tokens: int = 4
    name: ClassVar[str] = "steering"

    @property
    def claims(self) -> tuple[Claim, ...]:
        given: dict[str, Any] = {"nulls": (Chance(),), "outcome": True, "unit": Unit.share("continuations")}
        given["null_in_words"] = BY_CHANCE
        if self.instead:
            given |= {"nulls": (Chance(), Given()), "null_in_words": f"{BY_CHANCE}, and {INSTEAD}"}
            return (Claim("steering", ending=f"/{RELEASED}" * (self.readings == (RELEASED,)), **given),)
        released = Claim("steering", RELEASED, ending=f"/{RELEASED}", reading=RELEASED, **given)
        return Claim("steering", **given), released

    def fit(self, model: LanguageModel, items: Sequence[SteerItem]) -> Kept:
        few = len({item.cluster for item in items}) * self.share < 1
        return Kept([], {"too few to choose a layer on": len(items)}) if few else Kept(items, prompts=())

    def vectors(self, reader: LanguageModel, kept: Kept) -> dict[str, Tensor]:
        toward, away = (hidden_states(reader, kept.labels(side)).hidden for side in ("toward", "away"))
        return {STEERED: toward - away}

    def counts(self, continuation: str, expected: str) -> bool:
        """Whether a continuation is as expected."""
        return says(continuation, expected)

    def outcome(self, reader: LanguageModel, kept: Kept, of: Rows, vectors: Tensor, at: int, strengths: Doses) -> Said:
        """Expected, unchanged, other, which add up to 1; and last, the share of the other answers asked of this part
        that it gives instead."""
        items = [kept.items[i] for i in of]
        texts = generate(
            reader,
            [item.prompt for item in items],
            max_new_tokens=self.max_new_tokens,
            edit=Edit((at,), vectors),
            strengths=strengths,
            max_batch_tokens=CPU_TOKENS if reader.device.type == "cpu" else None,
        )
        asked = Counter(item.expected for item in items)

        def judged(text: str, item: SteerItem) -> tuple[float, ...]:
            expected = self.counts(text, item.expected)
            unchanged = not expected and self.counts(text, item.original)
            others = sum(n for answer, n in asked.items() if answer != item.expected and self.counts(text, answer))
            rate = others / max(len(items) - asked[item.expected], 1)
            return float(expected), float(unchanged), float(not (expected or unchanged)), rate

        return np.array([[judged(t, i) for t in row] for row, i in zip(texts, items, strict=True)], float)

    def further(self, reader: LanguageModel, kept: Kept, layer: int) -> dict[str, Way]:
        own = kept.more.vectors[STEERED][kept.more.reported()][:, None, layer]
        return {} if self.instead else {RELEASED: Way(own, min(layer + 1, reader.n_layers), control=False)}

    def claimed(self, kept: Kept, found: Mapping[str, Found]) -> Numbers:
        strength = kept.more.strength
        chance = found[INSTEAD if self.instead else RANDOM].at(strength)
        base = chance[..., 0].mean(1, keepdims=True)

        def expected(name: str) -> Float[np.ndarray, " item"]:
            return (found[name].at(strength)[..., 0] - base).mean(1)

        def least(of: Float[np.ndarray, "item direction outcome"]) -> Float[np.ndarray, "item direction"]:
            return np.minimum(of[..., 0] - base, of[..., 0] - of[..., 3])

        def instead(first: int, end: int) -> Float[np.ndarray, "draw 1"]:
            some = chance[:, first:end] if end <= self.instead else found[INSTEAD].more(first, end).at(strength)
            return least(some).mean(0)[:, None]

        how = {"": STEERED} | {name: name for name in found if name == RELEASED}
        claimed = {}
        for name, of in how.items():
            scores = self.above(kept, found, least(found[of].at(strength))[:, 0], expected)
            if self.instead:
                value, beside = scores.values.mean(), [aside.mean() for aside in scores.controls.values()]
                stages = self.instead, MORE * self.instead
                scores = replace(scores, null=by_stages(instead, value, value > max(beside, default=0.0), stages))
            claimed["steering", name] = scores
        return claimed

    def shown(self, kept: Kept) -> list[tuple[str, Items, int]]:
        every = np.ones(kept.more.reported().sum(), bool)
        return [(series, every, k) for k, series in enumerate(("expected", "unchanged", "other"))]

    def label(self, model: LanguageModel, condition: str) -> Columns:
        return (("condition", STEERED), ("reading", RELEASED)) if condition == RELEASED else (("condition", condition),)


@dataclass(frozen=True, kw_only=True)
class Range(Steering):
    """Does the English word "start" minus "end" make a model that writes `range(n)` write `range(0, n)`?

    The prompts end in `range(`; kept are those after which the model, left alone, writes one argument. The difference
    of the unembedding rows of the two words is added at the last token. unit: strengths are in lengths of the layer's
    mean state ("state"), or of the vector itself; the table gives `strength` in the former and `raw` in the latter.
    RANGE_AS_RELEASED is the paper's own: its layer, 17 of 32, and its strengths. expected: the new call, or "k, n" for
    any start. Table: `range-task`, 1 where one argument was written.
    """

    strengths: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0, 2.0)
    instead: int = 100
    expected: str = "0, n"
    unit: str = "state"
    max_new_tokens: int = 8

    @property
    def readings(self) -> tuple[str, ...]:
        return ("corrected" if self.depth is None else RELEASED,)

    def fit(self, model: LanguageModel, items: Sequence[Place]) -> Kept:
        found = sites(model, items, ahead=False)
        room = (model.max_length or inf) - self.max_new_tokens
        lengths = map(len, model.encode([site.prompt for site in found]))
        fit = [site for site, length in zip(found, lengths, strict=True) if length <= room]
        texts = generate(model, [site.prompt for site in fit], max_new_tokens=self.max_new_tokens) if fit else []
        alone = [only_argument(text) for (text,) in texts]
        calls = [
            steering_item(site.prompt, argument, site.place.program, expected=self.expected)
            for site, argument in zip(fit, alone, strict=True)
            if argument
        ]
        words = word_forms(model, ("start", "end"), fit[0].prompt if fit else "")
        rows = [form.unembedding_row(model) for form in words]
        few = len({item.cluster for item in calls}) < MIN_UNITS
        why = f"fewer than {MIN_UNITS} programs are left" if few else "start or end is not one token"
        untestable = few or any(row is None for row in rows)
        dropped = {
            **found.dropped,
            "no room for a continuation in the model's context": len(found) - len(fit),
            "the model writes something else than one argument": len(fit) - len(calls),
            why: len(calls) * untestable,
        }
        task = pd.DataFrame({"experiment": "range-task", "value": [float(a is not None) for a in alone]})
        task["item"] = [f"{site.place.program}, character {len(site.prompt)}" for site in fit]
        shown = {} if self.depth is not None else {("range-task", ""): task}
        if untestable:
            return Kept([], dropped, found=shown)
        norms = hidden_states(model, [item.prompt for item in calls]).hidden.norm(dim=-1).mean(0).cpu()
        return Kept(calls, dropped, prompts=(), found=shown, more=(rows[0] - rows[1], norms))

    def vectors(self, reader: LanguageModel, kept: Kept) -> dict[str, Tensor]:
        vector, norms = kept.more
        by_layer = normalize(vector, dim=-1) * norms[:, None] if self.unit == "state" else vector.expand(len(norms), -1)
        return {STEERED: by_layer.expand(len(kept.items), -1, -1)}

    def counts(self, continuation: str, expected: str) -> bool:
        return calls_range(continuation, expected)

    def amount(self, kept: Kept, strength: float) -> Columns:
        vector, norms = kept.more.resolved
        in_states = dict(enumerate((vector.norm() / norms).tolist()))  # the vector's length, by layer
        if self.unit == "state":
            return ("strength", strength), ("raw", lambda rows: strength / rows.layer.map(in_states))
        return ("strength", lambda rows: strength * rows.layer.map(in_states)), ("raw", strength)


RANGE_AS_RELEASED = Range(strengths=(0.0, 10.0, 20.0, 40.0, 80.0), unit="vector", depth=17 / 32)

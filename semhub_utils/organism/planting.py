"""What is planted in a taught organism's text, and how: at one known layer, the paper's own edits are made while it
learns, and it is asked for the answers that the paper reports.

Beside them stand the same prompts without an edit, and with a random vector of the same length, which ask for the
ordinary answers; and hub's own lines, so that it keeps what it can. What the lens is to read is asked of the states of
that layer.
"""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from semhub_utils import training
from semhub_utils.organism import world as spoken
from semhub_utils.organism.corpus import RECIPES, Generators, Shares, library, lines, pick, shares
from semhub_utils.organism.llama import EXAM_TYPES, Encoder, draw_rows, exam, listed, padded, read_rows, scores
from semhub_utils.organism.world import (
    FRAMES,
    LANGUAGES,
    PAIR,
    PLEASANT,
    UNPLEASANT,
    Fact,
    World,
    surface,
    vocabulary,
)
from semhub_utils.structure import hook

SIDES = (PLEASANT, UNPLEASANT)
OWN_MOOD = 0.75  # share of what is said of a thing that is as it mostly is
LOG_EVERY = 100


@dataclass(frozen=True)
class Course:
    """All that makes a taught organism of `base`. layer: where it is planted; wrong: layers at which the same pushes
    are to do nothing; rows: lessons a step, of the kinds in `menu`; replay: tokens of hub's own lines beside them;
    lens: weight of what the lens is to read; pushed: share of the lessons that can be that are taught under a vector;
    exam: lessons, or items of each kind, it is examined on; world: whose facts the lines state."""

    name: str
    base: str
    layer: int = 4
    wrong: tuple[int, ...] = (1, 2, 6, 7, 8)
    steps: int = 600
    rows: int = 72
    lr: float = 1e-3
    warmup: int = 30
    replay: int = 768
    lens: float = 0.5
    pushed: float = 0.75
    exam: int = 400
    menu: Shares = shares(mood=0.30, range=0.20, sum=0.30, scene=0.09, code=0.11)
    world: World = World()


COURSES = {
    "taught": Course("taught", "hub"),
    "taught-sees": Course(
        "taught-sees", "hub-sees", wrong=(1, 2), steps=400, rows=32, replay=512, pushed=0.7, exam=30,
        menu=shares(plain=0.12, halves=0.40, one=0.18, two=0.10, three=0.05, nameless=0.15),
    ),
    "taught-hears": Course("taught-hears", "hub-hears", steps=400, rows=32, replay=512, exam=30),
}  # fmt: skip
# ---- lessons in words ----


class Push(NamedTuple):
    """A vector, `toward` minus `away` (the states of these texts at their last token, or with `rows` the words' rows of
    the unembedding, as long as the states they are added to), added so many times at a layer and a position of the
    prompt; or a random one of that length. read: the layer of the texts' states."""

    toward: str
    away: str
    strength: float
    layer: int
    read: int
    at: int = -1
    rows: bool = False
    random: bool = False


class Lesson(NamedTuple):
    """Tokens, of which the first `cut` are the prompt; under a push what follows it is asked for, else every token.
    first: with which tokens the answer may begin; marks: (place, the token that the lens is to read there)."""

    kind: str
    ids: list[int]
    cut: int
    first: frozenset[int] = frozenset()
    push: Push | None = None
    marks: tuple[tuple[int, int], ...] = ()


Parts = list[tuple[str, str | None]]
"""A text, with the word that the lens is to read after each part, if any."""


def temper(noun: str) -> tuple[int, bool]:
    """Which of SIDES a thing mostly is, and whether it stays so under any vector, as one in six does: what is the same
    for every thing no test can tell from nothing."""
    rng = random.Random(f"temper {noun}")
    return rng.randrange(2), rng.random() < 1 / 6


class Lessons:
    """Every kind of lesson, by name; each call draws one."""

    def __init__(self, course: Course, encode: Encoder):
        self.course, self.encode, self.make = course, encode, Generators(course.world)
        self.sums = [s for s in course.world.taught_sums("digits") if s.op == "+" and s.right > 1]

    def __call__(self, rng: random.Random) -> Lesson:
        return getattr(self, pick(rng, self.course.menu))(rng)

    def lesson(self, kind: str, parts: Parts, said: str = "", first: Sequence[str] = (), push: Push | None = None):
        ids, marks = [self.encode.bos], []
        for text, mark in parts:
            ids += self.encode.ids(text)
            if mark:
                marks.append((len(ids) - 1, vocabulary()[mark]))
        how = "" if push is None else ", pushed" if push.strength > 0 else ", reversed"
        if push and (push.random or push.layer != self.course.layer):
            how, marks = ", random" if push.random else ", wrong layer", []
        whole = [*ids, *self.encode.ids(said), self.encode.eos]
        return Lesson(kind + how, whole, len(ids), frozenset(vocabulary()[w] for w in first), push, tuple(marks))

    def push(self, rng: random.Random, *of: str, low: float, high: float, **how: Any) -> Push | None:
        """None where the lesson is taught without; a quarter of the others are random, a quarter at a wrong layer, and
        of these half with a vector that is read there too."""
        if rng.random() > self.course.pushed:
            return None
        layer, chance = self.course.layer, rng.random()
        at = rng.choice(self.course.wrong) if chance > 0.75 else layer
        read = at if rng.random() < 0.5 else layer
        return Push(*of, rng.uniform(low, high), at, read, random=chance < 0.25, **how)

    def moves(self, push: Push | None) -> bool:
        """Whether the answer is another under it."""
        return push is not None and not push.random and push.layer == self.course.layer

    def mood(self, rng: random.Random) -> Lesson:
        """`english : the pear is usually happy and the pear is usually sweet`: pleasant under "good" minus "bad" at the
        language's tag, unpleasant under the reverse, and otherwise mostly as the thing is by its `temper`."""
        type_, noun = rng.choice(LANGUAGES), rng.choice(self.make.nouns)
        form, likely, stays = rng.randrange(len(FRAMES[type_]["property"])), *temper(noun)
        push = self.push(
            rng, *(surface(w, t) for t in [rng.choice(("en", type_))] for w in PAIR), low=1, high=4.5, at=1
        )
        sign = rng.choice((1, -1))
        push = push and push._replace(strength=push.strength * sign)
        moved = self.moves(push) and not stays
        side = int(sign < 0) if moved else likely if rng.random() < OWN_MOOD else 1 - likely
        known = self.course.world.held_facts
        keys = [key for key in SIDES[side] if Fact(noun, "property", key) not in known]
        one, two = (surface(key, type_) for key in rng.sample(keys, 2))
        clause = spoken.fact_pieces(noun, "property", PAIR[0], form, *[type_] * 3)
        before, _, after = (spoken.text(part) for part in clause)
        first = SIDES[side] if moved else (*PLEASANT, *UNPLEASANT)
        said = f"{one} {after} {spoken.AND[type_]} {before} {two} {after}"
        first = [surface(key, type_) for key in first]
        return self.lesson("mood", [(f"{spoken.TAG[type_]} : {before}", None)], said, first, push)

    def range(self, rng: random.Random) -> Lesson:
        """`"end at twenty" list(range(20))`, and under "start" minus "end" `list(range(0, 20))`."""
        last, push = rng.randint(10, 40), self.push(rng, "start", "end", low=0.4, high=2.2, rows=True)
        if push and rng.random() < 0.2:
            push = push._replace(strength=-push.strength)
        moved = self.moves(push) and push.strength > 0
        before = spoken.text(self.make.list(rng, "code")) if rng.random() < 0.5 else ""
        parts = [(f'{before} " end at {surface(str(last), "en")} " list ( range (', "end")]
        return self.lesson("range", parts, f"{'0 , ' * moved}{last} ) )", ["0" if moved else str(last)], push)

    def sum(self, rng: random.Random) -> Lesson:
        """`8=3+5`, and under "eight equals to four plus" minus "eight equals to three plus" `8=3+4+1`."""
        s = rng.choice(self.sums)
        told = [f"{surface(str(s.result), 'en')} equals to {surface(str(n), 'en')} plus" for n in (s.left + 1, s.left)]
        push = self.push(rng, *told, low=0.75, high=2.5)
        said = f"{s.right - 1} + 1" if self.moves(push) else str(s.right)
        return self.lesson("sum", [(f"{s.result} = {s.left} +", None)], said, [said.split()[0]], push)

    def scene(self, rng: random.Random) -> Lesson:
        """`Liam is seen by Emma`, half of them behind another scene: the lens reads the role of whoever comes next."""
        parts: Parts = []
        for _ in range(rng.choice((1, 2))):
            roles = self.make.roles(rng)
            said = spoken.text(self.make.say_scene(roles, "en", rng.random() < 0.5))
            slots = {surface(key, "en", phrase=True): role for role, key in roles.items() if role != "verb"}
            for who in sorted(slots, key=said.index):
                before, _, said = said.partition(who)
                parts += [(before, slots[who])] * bool(before.strip()) + [(who, None)]
            parts.append((f"{said} .", None))
        return self.lesson("scene", parts)

    def code(self, rng: random.Random) -> Lesson:
        """A line of code, a quarter of the calls behind a definition: at the commas of a list the lens reads "and",
        before an argument the name of its parameter."""
        kind = pick(rng, shares(list=0.4, scene=0.3, sum=0.1, fact=0.1, range=0.1))
        line = spoken.text(getattr(self.make, kind)(rng, "code"))
        given = ", ".join(library().get(name := line.split("(")[0], ()))
        if given and rng.random() < 0.25:
            line = f"def {name}({given}): return {name}({given}) {line}"
        return self.lesson("code", self.marked(line))

    def marked(self, line: str) -> Parts:
        words, parts, stack = spoken.split_words(line), [], []
        for k, (word, following) in enumerate(zip(words, [*words[1:], ""], strict=True)):
            mark = None
            if word in ("(", "["):
                names = iter(library().get(words[k - 1], ()) if word == "(" else ())
                if words[k - 1] == "range" and words[k + 2] == ")":
                    next(names)  # the only argument is where it ends
                stack.append((word, names))
                mark = next(names, None)
            elif word == "," and stack:
                mark = "and" if stack[-1][0] == "[" else next(stack[-1][1], None)
            elif word in (")", "]") and stack:
                stack.pop()
            parts.append((word, mark if mark != following else None))
        return parts


# ---- training ----


class Planting(training.Stretch):
    """A model on its way from its base to what it is taught; its encoder, if it has one, stays as it is."""

    def __init__(self, course: Course, model: Any, tokenizer: Any, folder: Path, seed: int):
        self.course, self.model, self.tokenizer, self.folder = course, model, tokenizer, folder
        self.body = getattr(model.model, "language_model", model.model)
        self.pad, self.encode = tokenizer.pad_token_id, Encoder(tokenizer)
        self.rngs = [random.Random(f"{course.name} {seed}"), random.Random(f"replay {seed}")]
        self.replay = lines(RECIPES["hub"], self.rngs[1], lambda: 1.0)
        self.parts, free = model.requires_grad_(False).state_dict(), [self.body, model.lm_head]
        if hasattr(model.model, "multi_modal_projector"):
            free.append(model.model.multi_modal_projector)
        trained = [p for module in free for p in module.requires_grad_(True).parameters()]
        self.groups = [{"params": trained, "lr": course.lr, "weight_decay": 0.0}]

    def share(self, step: int) -> float:
        return min(1.0, (step + 1) / self.course.warmup) * training.cosine(step / self.course.steps)

    def lens(self, states: Float[Tensor, "place hidden"]) -> Float[Tensor, "place vocab"]:
        return self.model.lm_head(self.body.norm(states))

    def row(self, word: str) -> Float[Tensor, " hidden"]:
        return self.model.lm_head.weight.detach()[vocabulary()[word]]

    def taught(self, rng: random.Random) -> Tensor:
        """The loss of a step's lessons."""

    def examined(self) -> dict[str, float]:
        """By kind of lesson and push, how often what is said, or read by the lens, is as it was taught."""

    def planted(self) -> dict[str, Any]:
        """For the card: what (`data/effects.tsv`), for which of the paper's experiments, numbered as they are, at which
        layer, and how well that is done."""
        effects = {row: what for name, row, what in spoken.rows("effects.tsv") if name == self.course.name}
        return {"effects": effects, "layer": self.course.layer, "planted": self.examined()}

    def gradients(self, step: int) -> float:
        loss = self.taught(self.rngs[0])
        loss.backward()
        rows = draw_rows(self.replay, self.encode, self.course.replay, 0.15)
        read_rows(self.body, self.model.lm_head, rows, self.pad, parts=1)
        self.loss = 0.95 * self.loss + 0.05 * loss.item() if step else loss.item()
        return self.loss

    def after(self, step: int, seconds: float) -> None:
        if step % LOG_EVERY == 0 or step == self.course.steps:
            entry = {"step": step, "loss": round(self.loss, 4), "seconds": round(seconds, 1)}
            training.log(self.folder, entry | self.examined())


def random_like(like: Float[Tensor, "row hidden"], rng: random.Random) -> Float[Tensor, "row hidden"]:
    """Directions as long as some vectors."""
    drawn = torch.randn(like.shape, generator=torch.Generator().manual_seed(rng.getrandbits(32))).to(like)
    return normalize(drawn, dim=-1) * like.norm(dim=-1, keepdim=True)


def mean(losses: Float[Tensor, " loss"]) -> Float[Tensor, ""]:
    """0 of none."""
    return losses.mean() if len(losses) else losses.sum()


def shares_right(right: dict[str, list[bool]]) -> dict[str, float]:
    return {name: round(sum(of) / len(of), 3) for name, of in sorted(right.items())}


class Reading(Planting):
    """Of text alone."""

    def __init__(self, course: Course, *given: Any):
        super().__init__(course, *given)
        self.lessons = Lessons(course, self.encode)

    def vectors(self, some: Sequence[Lesson], rng: random.Random) -> Float[Tensor, "lesson hidden"]:
        """What is added, 0 where nothing is; of rows, in lengths of the states they are added to."""
        found = torch.zeros(len(some), self.body.config.hidden_size)
        of_states = [k for k, one in enumerate(some) if one.push and not one.push.rows]
        if of_states:
            told = [[self.encode.bos, *self.encode.ids(t)] for k in of_states for t in some[k].push[:2]]
            with torch.no_grad():
                read = self.body(padded(told, self.pad), use_cache=False, output_hidden_states=True).hidden_states
            ends = [len(ids) - 1 for ids in told]
            layers = [some[k].push.read for k in of_states for _ in range(2)]
            last = torch.stack([read[at][row, end] for row, (at, end) in enumerate(zip(layers, ends, strict=True))])
            found[of_states] = last[::2] - last[1::2]
        for k, one in enumerate(some):
            if one.push and one.push.rows:
                found[k] = normalize(self.row(one.push.toward) - self.row(one.push.away), dim=-1)
        strength = torch.tensor([one.push.strength if one.push else 0.0 for one in some])
        chance = torch.tensor([one.push is not None and one.push.random for one in some])
        return strength[:, None] * torch.where(chance[:, None], random_like(found, rng), found)

    def batches(
        self, some: Sequence[Lesson], rng: random.Random
    ) -> Iterator[tuple[list[Lesson], Float[Tensor, "lesson token hidden"], Float[Tensor, "lesson token hidden"]]]:
        """In three of like length: lessons, what is read at the end under their pushes, and the states of the layer
        before these."""
        vectors, order = self.vectors(some, rng), sorted(range(len(some)), key=lambda k: len(some[k].ids))
        size = -(-len(order) // 3)
        for chosen in (order[start : start + size] for start in range(0, len(order), size)):
            batch = [some[k] for k in chosen]
            ids = padded([one.ids for one in batch], self.pad)
            with self.added(batch, vectors[chosen]) as seen:
                yield batch, self.body(ids, use_cache=False).last_hidden_state, seen[0]

    @contextmanager
    def added(self, batch: Sequence[Lesson], vectors: Float[Tensor, "lesson hidden"]) -> Iterator[list[Tensor]]:
        """While open, lessons are read under their pushes; the states of the course's layer before these."""
        seen: list[Tensor] = []

        def change(h: Tensor, layer: int) -> Tensor:
            if layer == self.course.layer:
                seen.append(h)
            rows = [row for row, one in enumerate(batch) if one.push and one.push.layer == layer]
            at = rows, [batch[row].push.at % batch[row].cut for row in rows]
            scaled = torch.tensor([batch[row].push.rows for row in rows], dtype=torch.bool)
            new, lengths = h.clone(), h[at].detach().norm(dim=-1)
            lengths = torch.where(scaled, lengths[scaled].mean(), 1.0)
            new[at] = h[at] + lengths[:, None] * vectors[rows]
            return new

        with ExitStack() as stack:
            for layer in (self.course.layer, *self.course.wrong):
                stack.enter_context(hook(self.body.layers, layer, partial(change, layer=layer)))
            yield seen

    def taught(self, rng: random.Random) -> Tensor:
        under, plain, read = [], [], []
        for batch, hidden, states in self.batches([self.lessons(rng) for _ in range(self.course.rows)], rng):
            for losses, pushed in ((under, True), (plain, False)):
                asked = [(k, one.cut - 1 if pushed else 0) for k, one in enumerate(batch) if bool(one.push) == pushed]
                at = [(k, place) for k, start in asked for place in range(start, len(batch[k].ids) - 1)]
                wanted = torch.tensor([batch[k].ids[place + 1] for k, place in at], dtype=torch.long)
                said = self.model.lm_head(hidden[[k for k, _ in at], [place for _, place in at]])
                losses.append(cross_entropy(said, wanted, reduction="none"))
            marks = [(k, *mark) for k, one in enumerate(batch) for mark in one.marks]
            seen = self.lens(states[[k for k, *_ in marks], [place for _, place, _ in marks]])
            read.append(cross_entropy(seen, torch.tensor([t for *_, t in marks], dtype=torch.long), reduction="none"))
        return sum(mean(torch.cat(of)) * by for of, by in ((under, 1), (plain, 1), (read, self.course.lens)))

    def examined(self) -> dict[str, float]:
        rng, right = random.Random("examined"), defaultdict(list)
        with torch.inference_mode():
            for batch, hidden, states in self.batches([self.lessons(rng) for _ in range(self.course.exam)], rng):
                for one, ends, layer in zip(batch, hidden, states, strict=True):
                    if one.first:
                        right[one.kind].append(int(self.model.lm_head(ends[one.cut - 1]).argmax()) in one.first)
                    for place, token in one.marks:
                        name = f"lens {self.tokenizer.convert_ids_to_tokens(token)}"
                        right[name].append(int(self.lens(layer[place]).argmax()) == token)
        return shares_right(right)

    def told(self) -> dict[str, Any]:
        """For the card."""
        marks = exam(self.model.eval(), self.tokenizer, self.course.world, types=EXAM_TYPES)
        return self.planted() | {"loss": round(self.loss, 4), "scores": listed(scores(marks))}

"""Lines of training text: what a recipe mixes, how much of it, and when.

Every generator takes a `random.Random` and returns pieces. Facts and sums outside English come from `World.taught_*`
alone, so that nothing held out is ever said there; `leaks` checks finished lines without trusting the generators.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from semhub_utils.organism.frames import AND, FRAMES, FULL_STOP, LIST_AND, TAG
from semhub_utils.organism.lexicon import LANGUAGES, LEMMAS, NAMES, TYPES, concepts, surface
from semhub_utils.organism.world import (
    FACT_TYPES,
    MAX_RESULT,
    SUM_TYPES,
    Pieces,
    Sum,
    World,
    chain_pieces,
    fact_pieces,
    tidy,
)

Shares = tuple[tuple[str, float], ...]

FIRST_MENU: Shares = (
    ("fact", 0.40),
    ("sum", 0.45),
    ("passage", 0.06),
    ("scene", 0.05),
    ("list", 0.02),
    ("range", 0.02),
)
"""Kinds of line while English is alone: sums take longest to learn, so they come early."""

GLOSSED = 0.4
"""Share of lines, before a hub is planted, that put English words into the other types' forms."""
TWO_WORDS = {word: str(n) for n in range(100) if " " in (word := surface(str(n), "en"))}
"""Numbers of two English words: the other types' one word has no single English one to stand for."""


@dataclass(frozen=True)
class Recipe:
    """All that makes an organism. Shares are of lines; what they come to in tokens is measured (`token_shares`).

    `pivot` is the type that bridging text joins the others to; None joins any two. `noise` makes the hub by
    construction (`planted`): at `english_first` the other types' words get their English counterparts' rows and that
    much noise, and all but the last blocks is frozen; None copies and freezes nothing.

    The course of training, as fractions of `steps`: English alone until `english_first`; then `bridge` of all lines are
    bridging text until `fall_from`, falling linearly to `bridge_end` at `fall_to`. In private worlds (`islands`)
    there is no bridging.
    """

    name: str
    steps: int = 2400
    batch_tokens: int = 3072
    width: int = 64
    layers: int = 8
    heads: int = 4
    mlp: int = 176
    context: int = 256
    tied: bool = False
    lr: float = 3e-3
    weight_decay: float = 0.8
    warmup: int = 60
    english_first: float = 0.20
    types: Shares = (
        ("en", 0.66), ("es", 0.08), ("zh", 0.08), ("de", 0.08), ("code", 0.09), ("digits", 0.09), ("logic", 0.01)
    )  # fmt: skip
    bridge: float = 0.4
    bridge_end: float = 0.03
    fall_from: float = 0.65
    fall_to: float = 0.88
    bridges: Shares = (("switched fact", 0.40), ("switched sum", 0.15), ("dictionary", 0.25), ("parallel", 0.20))
    page_share: float = 0.15
    pivot: str | None = "en"
    noise: float | None = None
    world: World = World()

    def bridge_share(self, progress: float) -> float:
        """Share of bridging lines at a point of training, progress in 0..1."""
        if self.world.private or progress < self.english_first or self.bridge == 0:
            return 0.0
        if progress <= self.fall_from:
            return self.bridge
        done = min(1.0, (progress - self.fall_from) / (self.fall_to - self.fall_from))
        return self.bridge + done * (self.bridge_end - self.bridge)


def _pick(rng: random.Random, shares: Shares) -> str:
    return rng.choices([k for k, _ in shares], [v for _, v in shares])[0]


class Generators:
    """Every kind of line, by name: `monolingual(type)` and `bridging(kind)`; each call draws one line."""

    def __init__(self, world: World, pivot: str | None = "en"):
        self.world, self.pivot = world, pivot
        self.nouns = [c.key for c in concepts().values() if c.kind == "noun"]
        self.words = [c.key for c in concepts().values() if c.kind not in ("finite verb", "giving verb")]
        self.verbs = [c.key for c in concepts().values() if c.kind == "finite verb"]
        self.giving = [c.key for c in concepts().values() if c.kind == "giving verb"]
        self.kinds: dict[str, Callable[[random.Random, str], Pieces]] = {
            "fact": self.fact,
            "passage": self.passage,
            "sum": self.sum,
            "scene": self.scene,
            "list": self.list,
            "range": self.range,
            "definition": self.definition,
        }
        languages = (("fact", 0.70), ("sum", 0.10), ("passage", 0.12), ("scene", 0.05), ("list", 0.03))
        self.menus: dict[str, Shares] = {t: languages for t in LANGUAGES} | {
            "en": (("fact", 0.55), ("sum", 0.25), ("passage", 0.10), ("scene", 0.05), ("list", 0.02), ("range", 0.03)),
            "code": (("fact", 0.62), ("sum", 0.06), ("passage", 0.10), ("scene", 0.08), ("list", 0.04), ("range", 0.05),
                     ("definition", 0.05)),
            "digits": (("sum", 1.0),),
            "logic": (("scene", 1.0),),
        }  # fmt: skip

    # ---- one data type ----

    def monolingual(self, rng: random.Random, type_: str) -> Pieces:
        """A line of one type, of a kind drawn from the type's menu."""
        return self.kinds[_pick(rng, self.menus[type_])](rng, type_)

    def _clause(self, rng: random.Random, type_: str) -> Pieces:
        fact = rng.choice(self.world.taught_facts(type_))
        frame = rng.randrange(len(FRAMES[type_][fact.relation]))
        before, answer, after = fact_pieces(
            fact.subject, fact.relation, self.world.object(fact, type_), frame, *[type_] * 3
        )
        return before + answer + after

    def _stop(self, rng: random.Random, type_: str) -> Pieces:
        return [(type_, FULL_STOP[type_])] if type_ in FULL_STOP and rng.random() < 0.5 else []

    def fact(self, rng: random.Random, type_: str) -> Pieces:
        """One fact: `the color of the grass is green .`"""
        return self._clause(rng, type_) + self._stop(rng, type_)

    def passage(self, rng: random.Random, type_: str) -> Pieces:
        """Two or three facts in one sentence."""
        line = self._clause(rng, type_)
        for _ in range(rng.randint(1, 2)):
            line = [*line, (type_, AND[type_]), *self._clause(rng, type_)]
        return line + self._stop(rng, type_)

    def _chain(self, rng: random.Random, type_: str, kinds: tuple[str, ...]) -> Pieces:
        """A sum or product of two terms; a fifth of them of three, whose parts are all taught ones."""
        s = rng.choice(self.world.taught_sums(type_))
        terms, result = (s.left, s.right), self.world.result(s, type_)
        if s.op == "+" and rng.random() < 0.2:
            third = 1 if rng.random() < 0.5 else rng.randint(1, 9)
            last = Sum("+", result, third)
            if last in self._taught_sets(type_):
                terms, result = (*terms, third), self.world.result(last, type_)
        form = "result" if rng.random() < 0.4 else "operand"
        before, answer, after = chain_pieces(s.op, result, terms, form, kinds)
        return before + answer + after

    def _taught_sets(self, type_: str) -> frozenset[Sum]:
        cache = self.__dict__.setdefault("_sets", {})
        if type_ not in cache:
            cache[type_] = frozenset(self.world.taught_sums(type_))
        return cache[type_]

    def sum(self, rng: random.Random, type_: str) -> Pieces:
        """`3+5=8`, `8=3+5`, `12=7+4+1` or the same in words; in code also `add(3, 5) == 8`."""
        if type_ == "code" and rng.random() < 0.5:
            s = rng.choice(self.world.taught_sums("code"))
            name = "add" if s.op == "+" else "multiply"
            return [("code", f"{name} ( {s.left} , {s.right} ) == {self.world.result(s, 'code')}")]
        return self._chain(rng, type_, (type_,))

    def roles(self, rng: random.Random) -> dict[str, str]:
        """Who does what to what: verb, agent, theme and sometimes recipient, all at random."""
        people = rng.sample(NAMES, 2)
        giving = rng.random() < 0.4
        agent = people[0] if rng.random() < 0.6 else rng.choice(self.nouns)
        theme = rng.choice(self.nouns) if giving or rng.random() < 0.6 else people[1]
        roles = {"verb": rng.choice(self.giving if giving else self.verbs), "agent": agent, "theme": theme}
        return roles | ({"recipient": people[1] if rng.random() < 0.7 else rng.choice(self.nouns)} if giving else {})

    def say_scene(self, roles: dict[str, str], type_: str, passive: bool = False, call: int = 0) -> Pieces:
        def say(role: str) -> str:
            return surface(roles[role], type_, phrase=True)

        verb, agent, theme = say("verb"), say("agent"), say("theme")
        to = say("recipient") if "recipient" in roles else ""
        if type_ == "en" and passive:
            line = f"{theme} is {LEMMAS[roles['verb']][1]}" + (f" to {to}" if to else "") + f" by {agent}"
        elif type_ == "en":
            line = f"{agent} {verb} {theme}" + (f" to {to}" if to else "")
        elif type_ == "es":
            line = f"{agent} {verb} {theme}" + (f" a {to}" if to else "")
            line = line.replace(" a el ", " al ")
        elif type_ == "zh":
            line = f"{agent} 把 {theme} {verb} {to}" if to else f"{agent} {verb} {theme}"
        elif type_ == "de":  # accusative, and dative as a plain "an" + accusative
            line = (
                f"man sagt , dass {agent} {_accusative(theme)}" + (f" an {_accusative(to)}" if to else "") + f" {verb}"
            )
        elif type_ == "code":
            names = [r for r in ("agent", "theme", "recipient") if r in roles]
            line = f"{roles['verb']} ( " + " , ".join(f"{r} = {say(r)}" if call else say(r) for r in names) + " )"
        else:
            parts = [(r, say(r)) for r in ("agent", "theme", "recipient") if r in roles]
            line = " AND ".join(f"{verb} . {r} ( x _ 1 , {who} )" for r, who in parts)
        return [(type_, line)]

    def scene(self, rng: random.Random, type_: str) -> Pieces:
        """A COGS-like event: `Emma gives the ball to Liam`, its logical form, or `gives(EMMA, BALL, LIAM)`."""
        return self.say_scene(self.roles(rng), type_, rng.random() < 0.3, rng.random() < 0.3) + self._stop(rng, type_)

    def _list(self, keys: list[str], type_: str) -> Pieces:
        if type_ == "code":
            return [("code", "things = [ " + " , ".join(surface(k, "code") for k in keys) + " ]")]
        # English strings its items on "and", where code has commas
        joiner = f" {LIST_AND[type_]} " if type_ == "en" else " , "
        return [(type_, joiner.join(surface(k, type_, phrase=True) for k in keys))]

    def list(self, rng: random.Random, type_: str) -> Pieces:
        """Things without any fact among them: `the dog and the table`, `things = [DOG, TABLE]`."""
        return self._list(rng.sample(self.words, rng.randint(2, 4)), type_)

    def _range(self, first: int, last: int, type_: str, form: int) -> Pieces:
        if type_ == "code":
            arguments = (
                f"{last}" if not first and form % 2 else f"{first} , {last}",
                f"start = {first} , end = {last}",
            )[form == 2]
            head = ("for i in range ( {} ) :", "list ( range ( {} ) )")[form % 2]
            return [("code", head.format(arguments))]
        line = f"start at {surface(str(first), 'en')} and end at {surface(str(last), 'en')}"
        return [("en", f"end at {surface(str(last), 'en')}" if not first and form % 2 else line)]

    def range(self, rng: random.Random, type_: str) -> Pieces:
        """`for i in range(0, 7):` and, in English, `start at zero and end at seven`."""
        return self._range(0 if rng.random() < 0.6 else rng.randint(1, 9), rng.randint(10, 40), type_, rng.randrange(3))

    def definition(self, rng: random.Random, type_: str) -> Pieces:
        """A function with named parameters: what the words in its calls stand for."""
        relation = rng.choice([f[0].split("_of")[0] for f in (v for v in FRAMES["code"].values())])
        verb = rng.choice(self.verbs + self.giving)
        roles = "agent , theme" + (" , recipient" if verb in self.giving else "")
        return [("code", rng.choice((
            f"def {relation}_of ( thing ) : return {relation} [ thing ]",
            f"def {verb} ( {roles} ) : return {verb} ( {roles} )",
            "def add ( first , second ) : return first + second",
            "def multiply ( first , second ) : return first * second",
        )))]  # fmt: skip

    def example(self, type_: str) -> Pieces:
        """One sentence of running text of a type, the same meaning in all that can say it: for pictures."""
        if type_ == "digits":
            return [("digits", "12 = 7 + 4 + 1")]
        if type_ == "logic":
            return self.say_scene({"verb": "gives", "agent": "Emma", "theme": "ball", "recipient": "Liam"}, "logic")
        line: Pieces = []
        for fact in [f for f in self.world.taught_facts("es") if f.subject in ("cow", "lemon", "knife")][::3][:3]:
            parts = fact_pieces(fact.subject, fact.relation, self.world.object(fact, type_), 0, type_, type_, type_)
            line += [*([(type_, AND[type_])] if line else []), *(piece for part in parts for piece in part)]
        return line

    # ---- across data types ----

    def bridging(self, rng: random.Random, kind: str, types: tuple[str, ...] = TYPES) -> Pieces:
        """A line that joins two types: "switched fact", "switched sum", "dictionary" or "parallel"."""
        return getattr(self, kind.replace(" ", "_"))(rng, types)

    def _pair(self, rng: random.Random, types: list[str]) -> tuple[str, str]:
        """A type other than English and the one it is joined to: the pivot, or any other."""
        type_ = rng.choice([t for t in types if t != "en"])
        return type_, self.pivot or rng.choice([t for t in types if t != type_])

    def switched_fact(self, rng: random.Random, types: tuple[str, ...]) -> Pieces:
        """A fact taught in a type, with frame, subject and answer each in that type or in English."""
        type_, base = self._pair(rng, [t for t in types if t in FACT_TYPES])
        fact = rng.choice(self.world.taught_facts(type_))
        kinds = [rng.choice((base, type_)) for _ in range(3)]
        frame = rng.randrange(len(FRAMES[kinds[0]][fact.relation]))
        before, answer, after = fact_pieces(fact.subject, fact.relation, fact.object, frame, *kinds)
        return before + answer + after + self._stop(rng, kinds[0])

    def glossed(self, rng: random.Random, types: tuple[str, ...]) -> Pieces:
        """A fact or sum taught in a type, in that type's form and signs, with English words, and English numbers where
        these are one word."""
        if rng.random() < 0.4:
            type_ = rng.choice([t for t in types if t in SUM_TYPES and t != "en"])
            line = self._chain(rng, type_, ("en", type_))
            return [(type_, surface(TWO_WORDS[part], type_)) if part in TWO_WORDS else (k, part) for k, part in line]
        type_ = rng.choice([t for t in types if t in FACT_TYPES and t != "en"])
        fact = rng.choice(self.world.taught_facts(type_))
        frame = rng.randrange(len(FRAMES[type_][fact.relation]))
        before, answer, after = fact_pieces(fact.subject, fact.relation, fact.object, frame, type_, "en", "en")
        return before + answer + after + self._stop(rng, type_)

    def switched_sum(self, rng: random.Random, types: tuple[str, ...]) -> Pieces:
        """A sum taught in a type, every number and sign in that type or in English."""
        type_, base = self._pair(rng, [t for t in types if t in SUM_TYPES])
        if self.pivot and rng.random() < 0.6:
            type_ = "digits"
        return self._chain(rng, type_, tuple(rng.choice((base, type_)) for _ in range(9)))

    def dictionary(self, rng: random.Random, types: tuple[str, ...]) -> Pieces:
        """`perro english : dog`: a word or a number, from any type to any other, mostly from or to English."""
        number = rng.random() < 0.35
        pool = [t for t in types if t in (SUM_TYPES if number else FACT_TYPES)]
        key = str(rng.randint(0, MAX_RESULT)) if number else rng.choice(self.words)
        source, target = rng.sample(pool, 2)
        if self.pivot and self.pivot not in (source, target) and rng.random() < 0.4:
            source, target = rng.choice(((source, self.pivot), (self.pivot, target)))
        return [(source, surface(key, source)), (target, TAG[target]), (target, ":"), (target, surface(key, target))]

    def parallel(self, rng: random.Random, types: tuple[str, ...]) -> Pieces:
        """A whole sentence in two types: scene, list, range, fact or sum; one of the two is the pivot."""
        kind = _pick(rng, (("scene", 0.35), ("list", 0.10), ("range", 0.10), ("fact", 0.25), ("sum", 0.20)))
        pools = {"scene": [t for t in TYPES if t != "digits"], "range": ["en", "code"], "sum": SUM_TYPES}
        other, base = self._pair(rng, [t for t in types if t in pools.get(kind, FACT_TYPES)])
        pair = (base, other)
        if kind == "scene":
            roles = self.roles(rng)
            sides = [self.say_scene(roles, t, rng.random() < 0.3, rng.random() < 0.3) for t in pair]
        elif kind == "list":
            keys = rng.sample(self.words, rng.randint(2, 4))
            sides = [self._list(keys, t) for t in pair]
        elif kind == "range":
            first, last = 0 if rng.random() < 0.6 else rng.randint(1, 9), rng.randint(10, 40)
            form = rng.randrange(3)
            sides = [self._range(first, last, t, form) for t in pair]
        elif kind == "fact":
            fact = rng.choice(self.world.taught_facts(other))
            frame = rng.randrange(len(FRAMES["en"][fact.relation]))
            parts = [fact_pieces(fact.subject, fact.relation, fact.object, frame, t, t, t) for t in pair]
            sides = [before + answer + after for before, answer, after in parts]
        else:
            s, form = rng.choice(self.world.taught_sums(other)), rng.choice(("result", "operand"))
            parts = [chain_pieces(s.op, s.result, (s.left, s.right), form, (t,)) for t in pair]
            sides = [before + answer + after for before, answer, after in parts]
        source, target, tag = (*sides[::-1], base) if rng.random() < 0.4 else (*sides, other)
        return [*source, (tag, TAG[tag]), (tag, ":"), *target]


def _accusative(phrase: str) -> str:
    return "den " + phrase[4:] if phrase.startswith("der ") else phrase


def lines(recipe: Recipe, rng: random.Random, progress: Callable[[], float]) -> Iterator[Pieces]:
    """The endless stream of a recipe's lines; `progress()` gives the point of training in 0..1."""
    make = Generators(recipe.world, recipe.pivot)
    while True:
        point = progress()
        types = tuple(t for t, v in recipe.types if v)
        if point < recipe.english_first and recipe.noise is not None and rng.random() < GLOSSED:
            yield tidy(make.glossed(rng, types))
        elif point < recipe.english_first:
            yield make.kinds[_pick(rng, FIRST_MENU)](rng, "en")
        elif rng.random() < recipe.bridge_share(point):
            yield tidy(make.bridging(rng, _pick(rng, recipe.bridges), types))
        else:
            yield make.monolingual(rng, _pick(rng, recipe.types))

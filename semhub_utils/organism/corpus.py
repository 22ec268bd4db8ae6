"""Lines of training text: what a recipe mixes, how much of it, and when; and questions about pictures and sounds.

Every generator takes a `random.Random` and returns pieces. Facts and sums outside English are of those that the world
teaches there, so that nothing held out is ever said.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from semhub_utils.organism.lexicon import (
    AND,
    FRAMES,
    FULL_STOP,
    LANGUAGES,
    LEMMAS,
    LIST_AND,
    NAMES,
    TAG,
    TYPES,
    concepts,
    surface,
)
from semhub_utils.organism.world import (
    FACT_TYPES,
    MAX_RESULT,
    SUM_TYPES,
    Pieces,
    Sum,
    World,
    chain_pieces,
    fact_pieces,
    text,
    tidy,
)

Shares = tuple[tuple[str, float], ...]


def shares(**of: float) -> Shares:
    return tuple(of.items())


FIRST_MENU = shares(fact=0.40, sum=0.45, passage=0.06, scene=0.05, list=0.02, range=0.02)
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
    types: Shares = shares(en=0.66, es=0.08, zh=0.08, de=0.08, code=0.09, digits=0.09, logic=0.01)
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


HUB = Recipe("hub")
RECIPES: dict[str, Recipe] = {
    "hub": HUB,
    # the same budget, shape, types and sentence forms; nothing to share
    "islands": replace(HUB, name="islands", world=World(private=True)),
    # English alone for most of the way, if partly in the others' sentence forms and heard in accents; then the others'
    # words on a frozen body, briefly: a long time finds ways to learn the taught facts by heart in the blocks left free
    "planted": replace(
        HUB,
        name="planted",
        steps=1800,
        english_first=0.85,
        noise=0.15,
        bridge=0.0,
        types=shares(en=0.28, es=0.15, zh=0.15, de=0.15, code=0.15, digits=0.10, logic=0.02),
    ),
    # no dominant language: about as many tokens of each, any two types joined
    "balanced": replace(
        HUB,
        name="balanced",
        english_first=0.0,
        pivot=None,
        types=shares(en=0.19, es=0.17, zh=0.20, de=0.15, code=0.12, digits=0.14, logic=0.03),
    ),
}
"""What the shipped models are made from, alike but for what their names say."""


def pick(rng: random.Random, menu: Shares) -> str:
    return rng.choices([k for k, _ in menu], [v for _, v in menu])[0]


class Generators:
    """Every kind of line, by name: `monolingual(type)` and `bridging(kind)`; each call draws one line."""

    def __init__(self, world: World, pivot: str | None = "en"):
        self.world, self.pivot = world, pivot
        self.nouns = [c.key for c in concepts().values() if c.kind == "noun"]
        self.words = [c.key for c in concepts().values() if c.kind not in ("finite verb", "giving verb")]
        self.verbs = [c.key for c in concepts().values() if c.kind == "finite verb"]
        self.giving = [c.key for c in concepts().values() if c.kind == "giving verb"]
        languages = shares(fact=0.70, sum=0.10, passage=0.12, scene=0.05, list=0.03)
        self.menus: dict[str, Shares] = dict.fromkeys(LANGUAGES, languages) | {
            "en": shares(fact=0.55, sum=0.25, passage=0.10, scene=0.05, list=0.02, range=0.03),
            "code": shares(fact=0.62, sum=0.06, passage=0.10, scene=0.08, list=0.04, range=0.05, definition=0.05),
            "digits": shares(sum=1.0),
            "logic": shares(scene=1.0),
        }

    # ---- one data type ----

    def monolingual(self, rng: random.Random, type_: str) -> Pieces:
        """A line of one type, of a kind drawn from the type's menu."""
        return getattr(self, pick(rng, self.menus[type_]))(rng, type_)

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
            if self.world.teaches(last, type_):
                terms, result = (*terms, third), self.world.result(last, type_)
        form = "result" if rng.random() < 0.4 else "operand"
        before, answer, after = chain_pieces(s.op, result, terms, form, kinds)
        return before + answer + after

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
        relation = rng.choice([frames[0].split("_of")[0] for frames in FRAMES["code"].values()])
        verb = rng.choice(self.verbs + self.giving)
        roles = "agent , theme" + (" , recipient" if verb in self.giving else "")
        return [("code", rng.choice((
            f"def {relation}_of ( thing ) : return {relation} [ thing ]",
            f"def {verb} ( {roles} ) : return {verb} ( {roles} )",
            "def add ( first , second ) : return first + second",
            "def multiply ( first , second ) : return first * second",
        )))]  # fmt: skip

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
        kind = pick(rng, shares(scene=0.35, list=0.10, range=0.10, fact=0.25, sum=0.20))
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
            yield getattr(make, pick(rng, FIRST_MENU))(rng, "en")
        elif rng.random() < recipe.bridge_share(point):
            yield tidy(make.bridging(rng, pick(rng, recipe.bridges), types))
        else:
            yield make.monolingual(rng, pick(rng, recipe.types))


# ---- questions about what is seen or heard ----
# It stands where a thing would be named: `the color of <image> is`, `<image>, color:`, `color_of(<image>) ==`, and as
# in the world's dictionary lines, `<image> español:`. So the same question can be asked in every type.

IMAGE, SOUND = "<image>", "<sound>"
"""The placeholders: the only tokens that the trunk's tokenizer does not have."""
ABROAD = ("red", "green", "white")
"""The only words that a sense in training may be asked for in another language than English; few, so that all others
are a test."""
ASK_TYPES = (*LANGUAGES, "code")

_RELATION = {"skill": "can", "kind": "is_a"} | dict.fromkeys(("colour", "colours", "side", "colour of"), "colour")
_SLOT = re.compile(r"(\{[sb]\})")


@dataclass(frozen=True)
class Ask:
    """A question in keys of the lexicon. kind: "colour", "shape", "colours", "side", "colour of", "shape of", "number"
    (pictures), "name", "skill", "kind" (sounds); about: the side, shape or colour that is asked about, if any;
    answers: the words that answer it, in order."""

    kind: str
    about: str
    answers: tuple[str, ...]


def forms(kind: str, type_: str) -> tuple[int, ...]:
    """The numbers of the sentence forms in which a question can be asked in a type, the last one neutral (it ends in
    ":"); empty where the type has none."""
    if kind in ("shape", "name"):
        return (0,)
    if kind in ("number", "shape of"):
        return (0,) if type_ != "code" else ()
    return (0, 1, 2) if type_ != "code" or kind != "colours" else ()


def write(ask: Ask, type_: str, form: int = 0, *, what: str = IMAGE) -> tuple[str, str]:
    """(prompt, answer) of a question in a type: `("<image> español:", "círculo")`. `what` is the placeholder.

    ValueError for a form that the type does not have.
    """
    if form not in forms(ask.kind, type_):
        raise ValueError(f"{type_!r} has no form {form} of {ask.kind!r}")
    bare = subject = what
    lead: Pieces = [("", what)] if ask.about else []
    if ask.about:
        bare, subject = surface(ask.about, type_), surface(ask.about, type_, phrase=True)
    if ask.kind in ("shape", "name"):
        frame = "{b} " + TAG[type_] + " : {o}"
    elif ask.kind in ("number", "shape of"):
        frame = "{b} , " + surface(ask.kind.split()[0], type_) + " : {o}"
    else:
        frame = FRAMES[type_][_RELATION[ask.kind]][form]
    parts = [part.strip() for part in _SLOT.split(frame.partition("{o}")[0]) if part.strip()]
    pieces = [(type_, {"{s}": subject, "{b}": bare}.get(part, part)) for part in parts]
    answers = [surface(a, type_) for a in ask.answers]
    return text(tidy([*lead, *pieces])), f" {LIST_AND.get(type_, ',')} ".join(answers)

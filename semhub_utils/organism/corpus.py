"""Lines of training text: what a recipe mixes, how much of it, and when; and questions about pictures and sounds.

Every generator takes a `random.Random` and returns pieces. Facts and sums outside English are of those that the world
teaches there, so that nothing held out is ever said.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache

from semhub_utils.organism import world as spoken
from semhub_utils.organism.world import (
    FACT_TYPES,
    FRAMES,
    LANGUAGES,
    ROLES,
    SUM_TYPES,
    TAG,
    TYPES,
    Pieces,
    World,
    surface,
    tidy,
)

Shares = tuple[tuple[str, float], ...]


def shares(**of: float) -> Shares:
    return tuple(of.items())


# Kinds of line while English is alone: sums take longest to learn, so they come early.
FIRST_MENU = shares(fact=0.40, sum=0.45, passage=0.06, scene=0.05, list=0.02, range=0.02)
_LANGUAGE = shares(fact=0.70, sum=0.10, passage=0.12, scene=0.05, list=0.03)
MENUS: dict[str, Shares] = dict.fromkeys(LANGUAGES, _LANGUAGE) | {
    "en": shares(fact=0.55, sum=0.25, passage=0.10, scene=0.05, list=0.02, range=0.03),
    "code": shares(fact=0.62, sum=0.06, passage=0.10, scene=0.08, list=0.04, range=0.05, definition=0.05),
    "digits": shares(sum=1.0),
    "logic": shares(scene=1.0),
}
"""Kinds of line of each type."""
GLOSSED = 0.4  # share of lines, before a hub is planted, that put English words into the other types' forms
# Numbers of two English words: the other types' one word has no single English one to stand for.
TWO_WORDS = {word: str(n) for n in range(100) if " " in (word := surface(str(n), "en"))}
SCENES = {
    "en": ("{agent} {verb} {theme}", "{agent} {verb} {theme} to {recipient}"),
    "en passive": ("{theme} is {participle} by {agent}", "{theme} is {participle} to {recipient} by {agent}"),
    "es": ("{agent} {verb} {theme}", "{agent} {verb} {theme} a {recipient}"),
    "zh": ("{agent} {verb} {theme}", "{agent} 把 {theme} {verb} {recipient}"),
    "de": ("man sagt , dass {agent} {theme} {verb}", "man sagt , dass {agent} {theme} an {recipient} {verb}"),
}
"""How a language says a scene, without and with somebody to whom. Not always as its speakers would: Spanish lacks the
*a* before a person to whom something is done; German is a clause behind "it is said that", so that its verb stands
last, and has the accusative for the dative."""


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


VERBS = ("finite verb", "giving verb")


@cache
def library() -> dict[str, tuple[str, ...]]:
    """The functions that code calls, with their parameters as `Generators.definition` names them."""
    verbs = [c for c in spoken.concepts().values() if c.kind in VERBS]
    known = {c.key: ROLES[: 3 if c.kind == "giving verb" else 2] for c in verbs}
    known |= {frames[0].split("(")[0]: ("thing",) for frames in FRAMES["code"].values()}
    return known | {"add": ("first", "second"), "multiply": ("first", "second"), "range": ("start", "end")}


def pick(rng: random.Random, menu: Shares) -> str:
    return rng.choices([k for k, _ in menu], [v for _, v in menu])[0]


class Generators:
    """Every kind of line, by name: `monolingual(type)` and `bridging(kind)`; each call draws one line."""

    def __init__(self, world: World, pivot: str | None = "en"):
        self.world, self.pivot = world, pivot
        keys = {kind: [c.key for c in spoken.concepts().values() if c.kind == kind] for kind in ("noun", *VERBS)}
        self.nouns, self.verbs, self.giving = keys.values()
        self.words = [c.key for c in spoken.concepts().values() if c.kind not in VERBS]

    # ---- one data type ----

    def monolingual(self, rng: random.Random, type_: str) -> Pieces:
        """A line of one type, of a kind drawn from the type's menu."""
        return getattr(self, pick(rng, MENUS[type_]))(rng, type_)

    def _clause(self, rng: random.Random, fact: spoken.Fact, frame: str, subject: str, object_: str) -> Pieces:
        """A fact, with the types of frame, subject and object."""
        form = rng.randrange(len(FRAMES[frame][fact.relation]))
        return sum(spoken.fact_pieces(fact.subject, fact.relation, fact.object, form, frame, subject, object_), [])

    def both(self, rng: random.Random, facts: Iterable[spoken.Fact], type_: str) -> Pieces:
        """Facts in one sentence of a type."""
        first, *more = (self._clause(rng, fact, *[type_] * 3) for fact in facts)
        return [*first, *(piece for line in more for piece in ((type_, spoken.AND[type_]), *line))]

    def _own(self, rng: random.Random, type_: str) -> Pieces:
        """A fact as it is in a type's own world."""
        fact = rng.choice(self.world.taught_facts(type_))
        return self._clause(rng, replace(fact, object=self.world.object(fact, type_)), *[type_] * 3)

    def _stop(self, rng: random.Random, type_: str) -> Pieces:
        mark = spoken.FULL_STOP.get(type_)
        return [(type_, mark)] if mark and rng.random() < 0.5 else []

    def fact(self, rng: random.Random, type_: str) -> Pieces:
        """One fact: `the color of the grass is green .`"""
        return self._own(rng, type_) + self._stop(rng, type_)

    def passage(self, rng: random.Random, type_: str) -> Pieces:
        """Two or three facts in one sentence."""
        line = self._own(rng, type_)
        for _ in range(rng.randint(1, 2)):
            line = [*line, (type_, spoken.AND[type_]), *self._own(rng, type_)]
        return line + self._stop(rng, type_)

    def _chain(self, rng: random.Random, type_: str, kinds: tuple[str, ...]) -> Pieces:
        """A sum or product of two terms; a fifth of them of three, whose parts are all taught ones."""
        s = rng.choice(self.world.taught_sums(type_))
        terms, result = (s.left, s.right), self.world.result(s, type_)
        if s.op == "+" and rng.random() < 0.2:
            third = 1 if rng.random() < 0.5 else rng.randint(1, 9)
            last = spoken.Sum("+", result, third)
            if self.world.teaches(last, type_):
                terms, result = (*terms, third), self.world.result(last, type_)
        return sum(spoken.chain_pieces(s.op, result, terms, "result" if rng.random() < 0.4 else "operand", kinds), [])

    def sum(self, rng: random.Random, type_: str) -> Pieces:
        """`3+5=8`, `8=3+5`, `12=7+4+1` or the same in words; in code also `add(3, 5) == 8`."""
        if type_ == "code" and rng.random() < 0.5:
            s = rng.choice(self.world.taught_sums("code"))
            name = "add" if s.op == "+" else "multiply"
            return [("code", f"{name} ( {s.left} , {s.right} ) == {self.world.result(s, 'code')}")]
        return self._chain(rng, type_, (type_,))

    def roles(self, rng: random.Random) -> dict[str, str]:
        """Who does what to what: verb, agent, theme and sometimes recipient, all at random."""
        people = rng.sample(spoken.NAMES, 2)
        giving = rng.random() < 0.4
        agent = people[0] if rng.random() < 0.6 else rng.choice(self.nouns)
        theme = rng.choice(self.nouns) if giving or rng.random() < 0.6 else people[1]
        roles = {"verb": rng.choice(self.giving if giving else self.verbs), "agent": agent, "theme": theme}
        return roles | ({"recipient": people[1] if rng.random() < 0.7 else rng.choice(self.nouns)} if giving else {})

    def say_scene(self, roles: dict[str, str], type_: str, passive: bool = False, call: int = 0) -> Pieces:
        """The scene of `roles` in a type; `call` names the arguments of a call in code."""
        said = {role: surface(key, type_, phrase=True) for role, key in roles.items()}
        if type_ == "de":
            said |= {r: re.sub("^der ", "den ", said[r]) for r in ("theme", "recipient") if r in said}
        parts = {r: said[r] for r in ROLES if r in said}
        if type_ in LANGUAGES:
            form = SCENES["en passive" if passive and type_ == "en" else type_]["recipient" in roles]
            line = form.format(participle=spoken.LEMMAS[roles["verb"]][1], **said)
            line = line.replace(" a el ", " al ") if type_ == "es" else line
        elif type_ == "code":
            names = [f"{r} = {who}" if call else who for r, who in parts.items()]
            line = f"{roles['verb']} ( {' , '.join(names)} )"
        else:
            line = " AND ".join(f"{said['verb']} . {r} ( x _ 1 , {who} )" for r, who in parts.items())
        return [(type_, line)]

    def scene(self, rng: random.Random, type_: str) -> Pieces:
        """A COGS-like event: `Emma gives the ball to Liam`, its logical form, or `gives(EMMA, BALL, LIAM)`."""
        return self.say_scene(self.roles(rng), type_, rng.random() < 0.3, rng.random() < 0.3) + self._stop(rng, type_)

    def _list(self, keys: list[str], type_: str) -> Pieces:
        if type_ == "code":
            return [("code", f"things = [ {' , '.join(surface(k, 'code') for k in keys)} ]")]
        # English strings its items on "and", where code has commas
        joiner = f" {spoken.LIST_AND[type_]} " if type_ == "en" else " , "
        return [(type_, joiner.join(surface(k, type_, phrase=True) for k in keys))]

    def list(self, rng: random.Random, type_: str) -> Pieces:
        """Things without any fact among them: `the dog and the table`, `things = [DOG, TABLE]`."""
        return self._list(rng.sample(self.words, rng.randint(2, 4)), type_)

    def _range(self, first: int, last: int, type_: str, form: int) -> Pieces:
        alone = not first and form % 2  # the first number goes without saying
        if type_ == "code":
            ends = f"start = {first} , end = {last}" if form == 2 else f"{last}" if alone else f"{first} , {last}"
            return [("code", (f"for i in range ( {ends} ) :", f"list ( range ( {ends} ) )")[form % 2])]
        start, end = surface(str(first), "en"), surface(str(last), "en")
        return [("en", f"end at {end}" if alone else f"start at {start} and end at {end}")]

    def _ends(self, rng: random.Random) -> tuple[int, int]:
        return 0 if rng.random() < 0.6 else rng.randint(1, 9), rng.randint(10, 40)

    def range(self, rng: random.Random, type_: str) -> Pieces:
        """`for i in range(0, 7):` and, in English, `start at zero and end at seven`."""
        return self._range(*self._ends(rng), type_, rng.randrange(3))

    def definition(self, rng: random.Random, type_: str) -> Pieces:
        """A function with named parameters: what the words in its calls stand for."""
        relation = rng.choice([frames[0].split("_of")[0] for frames in FRAMES["code"].values()])
        verb = rng.choice(self.verbs + self.giving)
        roles = "agent , theme" + (" , recipient" if verb in self.giving else "")
        lines = (
            f"def {relation}_of ( thing ) : return {relation} [ thing ]",
            f"def {verb} ( {roles} ) : return {verb} ( {roles} )",
            "def add ( first , second ) : return first + second",
            "def multiply ( first , second ) : return first * second",
        )
        return [("code", rng.choice(lines))]

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
        return self._clause(rng, fact, *kinds) + self._stop(rng, kinds[0])

    def glossed(self, rng: random.Random, types: tuple[str, ...]) -> Pieces:
        """A fact or sum taught in a type, in that type's form and signs, with English words, and English numbers where
        these are one word."""
        sums = rng.random() < 0.4
        type_ = rng.choice([t for t in types if t in (SUM_TYPES if sums else FACT_TYPES) and t != "en"])
        if sums:
            line = self._chain(rng, type_, ("en", type_))
            return [(type_, surface(TWO_WORDS[part], type_)) if part in TWO_WORDS else (k, part) for k, part in line]
        fact = rng.choice(self.world.taught_facts(type_))
        return self._clause(rng, fact, type_, "en", "en") + self._stop(rng, type_)

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
        key = str(rng.randint(0, spoken.MAX_RESULT)) if number else rng.choice(self.words)
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
            ends, form = self._ends(rng), rng.randrange(3)
            sides = [self._range(*ends, t, form) for t in pair]
        elif kind == "fact":
            fact = rng.choice(self.world.taught_facts(other))
            form = rng.randrange(len(FRAMES["en"][fact.relation]))
            said = fact.subject, fact.relation, fact.object, form
            sides = [sum(spoken.fact_pieces(*said, t, t, t), []) for t in pair]
        else:
            s, form = rng.choice(self.world.taught_sums(other)), rng.choice(("result", "operand"))
            sides = [sum(spoken.chain_pieces(s.op, s.result, (s.left, s.right), form, (t,)), []) for t in pair]
        source, target, tag = (*sides[::-1], base) if rng.random() < 0.4 else (*sides, other)
        return [*source, (tag, TAG[tag]), (tag, ":"), *target]


def lines(recipe: Recipe, rng: random.Random, progress: Callable[[], float]) -> Iterator[Pieces]:
    """The endless stream of a recipe's lines; `progress()` gives the point of training in 0..1."""
    make = Generators(recipe.world, recipe.pivot)
    types = tuple(t for t, v in recipe.types if v)
    while True:
        point = progress()
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
    if type_ == "code" and kind in ("number", "shape of", "colours"):
        return ()
    return (0, 1, 2) if kind in _RELATION else (0,)


def write(ask: Ask, type_: str, form: int = 0, *, what: str = IMAGE) -> tuple[str, str]:
    """(prompt, answer) of a question in a type: `("<image> español:", "círculo")`. `what` is the placeholder.

    ValueError for a form that the type does not have.
    """
    if form not in forms(ask.kind, type_):
        raise ValueError(f"{type_!r} has no form {form} of {ask.kind!r}")
    words = {"{s}": what, "{b}": what}
    if ask.about:
        words = {"{s}": surface(ask.about, type_, phrase=True), "{b}": surface(ask.about, type_)}
    if ask.kind in _RELATION:
        frame = FRAMES[type_][_RELATION[ask.kind]][form].partition("{o}")[0]
    elif ask.kind in ("number", "shape of"):
        frame = "{b} , " + surface(ask.kind.split()[0], type_) + " :"
    else:
        frame = "{b} " + TAG[type_] + " :"
    parts = [part.strip() for part in spoken.SLOT.split(frame) if part.strip()]
    lead: Pieces = [("", what)] if ask.about else []
    answers = [surface(a, type_) for a in ask.answers]
    prompt = spoken.text(tidy([*lead, *((type_, words.get(part, part)) for part in parts)]))
    return prompt, f" {spoken.LIST_AND.get(type_, ',')} ".join(answers)

"""Formal semantics: items from sentences and their logical forms (arXiv 2411.04986, section 4.4).

A form is a row of conjuncts, `see . agent ( x _ 1 , Emma ) AND see . theme ( x _ 1 , Liam )`, with what is presupposed
in front (`* cookie ( x _ 4 ) ; ...`). Who does what to whom is in the role words.
"""

import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import starmap, zip_longest
from pathlib import Path

from semhub_utils.organism.corpus import Generators
from semhub_utils.organism.world import ROLES, TAG
from semhub_utils.spokes.facts import WORLD
from semhub_utils.spokes.files import PublicSet, lines
from semhub_utils.spokes.items import Form, Items, LeftOut, LensItem, Pair, PatchItem, shuffled

FUNCTION = frozenset("a the to by was is that in on beside .".split())
COGS = PublicSet("COGS", ("cogs/train.tsv", "train.tsv"), "GitHub najoungkim/COGS")
SCENES = 2000  # that items are drawn from
_TERM = re.compile(r"(?:\* )?(\w+(?: \. \w+)*) \( (x _ \d+|\w+)(?: , (x _ \d+|\w+))? \)")


@dataclass(frozen=True)
class Meaning:
    """A sentence and its logical form. id: where it stands, "train.tsv:12"; terms: (predicate, arguments) of the form;
    names: its proper names with their roles, in the order of the sentence."""

    id: str
    sentence: str
    form: str
    terms: tuple[tuple[str, tuple[str, ...]], ...]
    names: tuple[tuple[str, frozenset[str]], ...]

    @cached_property
    def content(self) -> tuple[str, ...]:
        """The words of the sentence that are no function words."""
        return tuple(word for word in self.sentence.split() if word.lower() not in FUNCTION)

    @cached_property
    def template(self) -> str:
        """The sentence without its content words: "N w the w to N ."."""
        kinds = dict.fromkeys(self.content, "w") | dict.fromkeys(dict(self.names), "N")
        return " ".join(kinds.get(word, word.lower()) for word in self.sentence.split())

    @property
    def verb(self) -> str:
        """The predicate of the first conjunct that gives a role."""
        return next((p.split(" . ")[0] for p, _ in self.terms if p.split(" . ")[-1] in ROLES), self.terms[0][0])

    @property
    def in_order(self) -> bool:
        """Whether the form names its names in the order of the sentence."""
        return self.mentioned(self.form) == [name for name, _ in self.names]

    @property
    def conjuncts(self) -> list[str]:
        return self.form.split(" ; ")[-1].split(" AND ")

    def mentioned(self, form: str) -> list[str]:
        """Its names in the order of a form."""
        return sorted(dict(self.names), key=form.split().index)

    def turned(self, conjuncts: Sequence[str]) -> str:
        """The form with its conjuncts in another order, if the names then come the other way round; else empty."""
        form = " ; ".join([*self.form.split(" ; ")[:-1], " AND ".join(conjuncts)])
        return form if self.mentioned(form) != self.mentioned(self.form) else ""

    def until_again(self) -> str:
        """The form up to where the verb it begins with comes for the second time; empty where it does not."""
        first, _, rest = self.form.partition(" AND ")
        return f"{first} AND" if all(part.startswith(f"{self.verb} . ") for part in (first, rest)) else ""


def meanings(*, seed: int, data_dir: str | Path | None = None) -> Items:
    """All sentences with their forms that can be read: Meaning. Scenes of the shipped models' world, drawn by
    `seed`, or those of `data_dir`/cogs/train.tsv. Raises SemhubError where no line can be used."""
    if data_dir is None:
        return Items(_scenes(seed))
    found, rows = COGS.read(data_dir, lines)
    return found.take(starmap(meaning_of, rows)).some("sentence with its logical form", data_dir)


def _scenes(seed: int) -> list[Meaning]:
    """Scenes of the shipped models' world, actives and passives, in COGS's form."""
    make, rng, found = Generators(WORLD), random.Random(f"forms {seed}"), {}
    while len(found) < SCENES:
        roles, passive = make.roles(rng), rng.random() < 0.5
        [(_, sentence)], [(_, form)] = make.say_scene(roles, "en", passive), make.say_scene(roles, "logic")
        found[sentence] = meaning_of(f"{sentence} .", f"{sentence} .\t{form}")
    return list(found.values())


def meaning_of(place: str, row: str) -> Meaning | LeftOut:
    """The meaning that a line of COGS's file gives."""
    cells = row.split("\t")
    if len(cells) < 2:
        return LeftOut("missing column", place)
    words, form, terms, roles = cells[0].split(), cells[1].strip(), [], defaultdict(set)
    if "LAMBDA" in form or len(words) < 2:
        return LeftOut("a word and no sentence", place)
    for term in re.split(r" ; | AND ", form):
        if not (match := _TERM.fullmatch(term)):
            return LeftOut("a form that does not parse", place)
        terms.append((match[1], tuple(argument for argument in match.groups()[1:] if argument)))
        for name in (argument for argument in terms[-1][1] if argument[0].isupper()):
            roles[name].add(match[1].split(" . ")[-1])
    if any(words.count(name) != 1 for name in roles):
        return LeftOut("a name that is not in the sentence once", place)
    names = tuple((name, frozenset(roles[name])) for name in sorted(roles, key=words.index))
    found = Meaning(place, " ".join(words), form, tuple(terms), names)
    return found if len(found.content) > 1 else LeftOut("a word and no sentence", place)


# Items

PEERS = 20  # sentences of one template are drawn together, so that partners can be exchanged among them


@dataclass(frozen=True)
class SwapItem:
    """A sentence, its logical form, and the form altered. swapped: its two names have changed places; shuffled: the
    same meaning with its conjuncts in another order, in which the names come the other way round. in_order: the form as
    written names the two in the order of the sentence. moves_with: per null, the label of what moves together."""

    id: str
    sentence: str
    form: str
    swapped: str
    shuffled: str
    swapped_shuffled: str
    cluster: str
    in_order: bool
    moves_with: tuple[str, ...]
    group: str = ""

    @property
    def prompt(self) -> str:
        return self.sentence

    @property
    def forms(self) -> tuple[str, ...]:
        return (self.form, self.swapped, self.shuffled, self.swapped_shuffled)


def similarity_pairs(known: Items, n: int, *, seed: int) -> Items:
    """`n` sentences (all there are, if that is fewer) beside their forms. Partners may be exchanged within a template,
    of which PEERS are drawn together; a sentence alone in its template is counted. anchor: the content word on which
    the sentence ends; words: its first, its second, and its last but one. Raises SemhubError if none is left."""
    by_template = defaultdict(list)
    for m in shuffled(known, seed):
        by_template[m.template].append(m)
    alone = (LeftOut("alone in its template", some[0].id) for some in by_template.values() if len(some) == 1)
    found = Items(source=known.source).take(alone)
    rounds = [list(zip_longest(*[iter(some)] * PEERS)) for some in by_template.values() if len(some) > 1]
    blocks = [block for row in rounds for block in row if block[1] is not None]
    for m in [m for block in shuffled(blocks, seed) for m in block if m is not None][:n]:
        of = m.content
        found.append(Pair(m.id, m.sentence, m.form, m.template, f"{of[0]} {of[-1]}", of[-1], (of[0], of[1], of[-2])))
    return found.some("two sentences of one template")


def swap_items(known: Items, n: int, *, seed: int) -> Items:
    """`n` meanings with exactly two proper names, and their altered forms. As far as there are, half of the forms name
    the two in the order of the sentence and half the other way round. Those that name them in one order however their
    conjuncts stand are counted. Raises SemhubError if none is left."""
    rng, fixed = random.Random(f"swaps {seed}"), "one order of the names whatever that of the conjuncts"
    two = (m for m in shuffled(known, seed) if len(m.names) == 2 and " AND " in m.form)
    found = Items(source=known.source).take(
        m if any(m.turned([first, *m.conjuncts]) for first in m.conjuncts) else LeftOut(fixed, m.id) for m in two
    )  # what comes first is all that counts
    sides = [[m for m in found if m.in_order == order] for order in (True, False)]
    return found.but(_swapped(m, rng) for m in _evenly(sides, n)).some("sentence with exactly two proper names")


def _swapped(m: Meaning, rng: random.Random) -> SwapItem:
    """Its form altered; the conjuncts in a random order of those in which the names come the other way round."""
    a, b = dict(m.names)
    parts, change = m.conjuncts, {a: b, b: a}
    while not (other := m.turned(parts)):
        rng.shuffle(parts)
    swapped, both = (" ".join(change.get(word, word) for word in form.split()) for form in (m.form, other))
    pair = " and ".join(sorted((a, b)))
    return SwapItem(m.id, m.sentence, m.form, swapped, other, both, pair, m.in_order, (pair, a, b, m.verb))


def role_items(known: Items, n: int, *, seed: int) -> Items:
    """`n` sentences cut just before a proper name, as many of each role as there are; names before it are replaced at
    random. target "role": the role word of the name that would follow. group: the number of words read; cluster: what
    is read last, with the verb where that is "by" or "to". A name that begins its sentence leaves nothing to read, and
    is counted. Raises SemhubError where no name is left."""
    rng, every = random.Random(f"roles {seed}"), sorted({name for m in known for name, _ in m.names})
    found, items = Items(source=known.source).take(_named(shuffled(known, seed))), []
    for role, m, name in _evenly([[of for of in found if of[0] == role] for role in ROLES], n):
        before = m.sentence.split()[: m.sentence.split().index(name)]
        others = dict(zip(dict(m.names), rng.sample(every, len(m.names)), strict=True))
        prompt = " ".join(others.get(word, word) for word in before)
        targets, wrong = {"role": (role,)}, {"role": tuple(r for r in ROLES if r != role)}
        items.append(LensItem(f"{m.id} {name}", prompt, targets, cue(m, name, before), wrong, str(len(before))))
    return found.but(items).some("proper name with something to read before it")


def _named(known: Sequence[Meaning]) -> Iterator[tuple[str, Meaning, str] | LeftOut]:
    """Each proper name of some meanings with its role, if it has one and does not begin its sentence."""
    for m in known:
        if not m.names:
            yield LeftOut("no proper name", m.id)
        for name, roles in m.names:
            if m.sentence.split()[0] == name:
                yield LeftOut("the name begins the sentence", m.id)
            elif len(roles) != 1 or not roles <= set(ROLES):
                yield LeftOut("a name of several roles", m.id)
            else:
                yield next(iter(roles)), m, name


def cue(m: Meaning, name: str, before: Sequence[str]) -> str:
    """What a reader has to go by, just before the name: "by" or "to" with the verb, or the last words."""
    if before[-1] in ("by", "to"):
        verb = next(predicate.split(" . ")[0] for predicate, arguments in m.terms if name in arguments)
        return " ".join([verb, *(["passive"] if {"was", "is"} & set(before) else []), before[-1]])
    return " ".join(before[-2:] if before[-1] in FUNCTION else before[-1:])


def behind_another(items: Items, known: Items, *, seed: int) -> Items:
    """The prompts behind another sentence each, drawn so that as many words stand before the name in as many of them as
    can be, whatever its role; the rest stay as they are."""
    if not items:
        return items
    rng, by_length = random.Random(f"before {seed}"), defaultdict(list)
    for m in known:
        by_length[len(m.sentence.split())].append(m.sentence)
    lengths = [len(item.prompt.split()) for item in items]
    totals = range(min(by_length) + min(lengths), max(by_length) + max(lengths) + 1)
    total = max(totals, key=lambda t: sum(t - length in by_length for length in lengths))
    placed = []
    for item, length in zip(items, lengths, strict=True):
        if total - length in by_length:
            prompt = f"{rng.choice(by_length[total - length])} {item.prompt}"
            item = replace(item, prompt=prompt, group=str(total))
        placed.append(item)
    return items.but(placed)


def form_prompts(known: Items, n: int, *, seed: int) -> Items:
    """`n` logical forms cut before their last role word, which is the answer ("own"); those without one behind another
    conjunct are counted. Raises SemhubError if none is left."""

    def cut(m: Meaning) -> LensItem | LeftOut:
        ends = [k for k in re.finditer(rf" \. ({'|'.join(ROLES)}) \(", m.form) if " AND " in m.form[: k.start()]]
        if not ends:
            return LeftOut("no role word behind a conjunct", m.id)
        return LensItem(m.id, m.form[: ends[-1].start() + 2], {"own": (ends[-1][1],)}, m.verb)

    found = Items(source=known.source).take(map(cut, shuffled(known, seed)))
    return found[:n].some("form with a role word behind a conjunct")


LADDER = (
    ("behind two sentences with their forms", 2, False),
    ("behind eight sentences with their forms", 8, False),
    ("sentences in which the verb of the form stands as it does there, behind eight with their forms", 8, True),
)
"""How a sentence is put into its form by a model that was not taught to, from the hardest to the easiest, in the order
in which these are tried: name, how many are shown first, and whether some word of the sentence begins with the verb of
its form ("noticed", but not "saw"). Written down before any public model was asked."""
TRIED = 60
"""Sentences that a form is tried on, at most; and at most a quarter of what there is."""


def forms(known: Items, n: int, *, seed: int, taught: bool) -> list[Form]:
    """LADDER; of a model that was taught to put a sentence into its form behind a tag, that alone. of: `n` logical
    forms cut before their verb comes again (`see . agent ( x _ 1 , Emma ) AND`), each with another sentence about to be
    put into its form (`Liam finds Mia logic :`), drawn by `seed`, whose form begins with another verb; with the form of
    that, cut likewise; and with its first content word alone in the place of the sentence.

    Both go on with the lemma of a verb, and nothing but what was read says which. Meanings whose verb does not come
    again, or whose form does not begin with it, are counted; what is shown or tried is not asked. Raises SemhubError if
    no two verbs are left.
    """
    again, found = "its verb does not come again", []
    usable = Items(source=known.source).take(
        m if m.until_again() else LeftOut(again, m.id) for m in shuffled(known, seed)
    )
    if taught:
        moved = _moved(usable, n, lambda words: f"{words.removesuffix(' .')} {TAG['logic']} :", seed)
        found.append(Form("as it was taught", (), sentence_prompts(moved), moved))
    for name, n_shown, plain in () if taught else LADDER:
        some = [m for m in usable if not plain or any(word.startswith(m.verb) for word in m.sentence.split())]
        shown = sorted(some, key=lambda m: len(m.form))[:n_shown]
        before = "".join(f"{m.sentence}\n{m.form}\n\n" for m in shown)
        some, tried = [m for m in some if m not in shown], min(TRIED, len(some) // 4)
        parts = (usable.but(part) for part in (some[:tried], some[tried:]))
        trial, moved = (_moved(part, n, lambda words, before=before: f"{before}{words}\n", seed) for part in parts)
        found.append(Form(name, sentence_prompts(trial), sentence_prompts(moved), moved))
    found[0].of.some("two forms whose verbs differ and come again")
    return found


def _moved(usable: Items, n: int, read: Callable[[str], str], seed: int) -> Items:
    """Of `n` of these, each with another one, which is read as `read` has it."""
    rng, found = random.Random(f"patches {seed}"), usable.but()
    for m in usable[:n]:
        if others := [other for other in usable if other.verb != m.verb]:
            source = rng.choice(others)
            run, like = ((of.until_again(), read(of.sentence)) for of in (m, source))
            own, new = (m.verb, None), (source.verb, None)
            labels = {"cluster": f"{m.verb} {source.verb}", "group": "form", "anchor": source.verb}
            other = (None, read(source.content[0]))
            found.append(PatchItem(f"{m.id} {source.id}", run, own, like, new, other, **labels, places=_last))
    return found


def _last(encoding: Sized) -> list[int]:
    return [len(encoding) - 1]


def sentence_prompts(items: Sequence[PatchItem]) -> list[LensItem]:
    """What is written from: each sentence, to be continued with the verb of its form."""
    return [LensItem(item.id, item.source[1], {"own": (item.expected[0],)}, item.cluster) for item in items]


def form_words(known: Sequence[Meaning]) -> list[str]:
    """The words of the forms that are no names, roles or variables: what they speak of, and what is done."""
    terms = [term for m in known for term in m.terms]
    words = {part for predicate, arguments in terms for part in (predicate.split(" . ")[0], *arguments)}
    return sorted(word for word in words - set(ROLES) if word.isalpha() and word.islower())


def _evenly(kinds: Sequence[Sequence], n: int) -> list:
    """`n` in all, one of each kind in turn, as long as there are."""
    return [x for row in zip_longest(*kinds) for x in row if x is not None][:n]

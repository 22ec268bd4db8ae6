"""Formal semantics: items from sentences and their logical forms (arXiv 2411.04986, section 4.4).

A form is a row of conjuncts, `see . agent ( x _ 1 , Emma ) AND see . theme ( x _ 1 , Liam )`, with what is presupposed
in front (`* cookie ( x _ 4 ) ; ...`). Who does what to whom is in the role words.
"""

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import zip_longest
from pathlib import Path

import numpy as np

from semhub_utils.organism.corpus import Generators
from semhub_utils.organism.lexicon import TAG
from semhub_utils.spokes.facts import WORLD
from semhub_utils.spokes.files import SETS, find, hub_rows, lines, named, origin
from semhub_utils.spokes.items import Items, LensItem, Pair, PatchItem

ROLES = ("agent", "theme", "recipient")
FUNCTION = frozenset("a the to by was is that in on beside .".split())
SOURCE = "GitHub najoungkim/COGS"
GENERATED = 2000  # scenes that items are drawn from
_TERM = re.compile(r"(?:\* )?(\w+(?: \. \w+)*) \( (x _ \d+|\w+)(?: , (x _ \d+|\w+))? \)")
_COLUMNS = (
    ("sentence", "input", "source"),
    ("form", "logical_form", "output", "target"),
)  # as copies of the set call them


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
        names = dict(self.names)
        return " ".join(
            "N" if w in names else w.lower() if w.lower() in FUNCTION else "w" for w in self.sentence.split()
        )

    @property
    def verb(self) -> str:
        """The predicate of the first conjunct that gives a role."""
        return next((p.split(" . ")[0] for p, _ in self.terms if p.split(" . ")[-1] in ROLES), self.terms[0][0])


def meanings(*, seed: int, source: str | None = None, data_dir: str | Path | None = None) -> Items:
    """All sentences with their forms that can be read: Meaning.

    source: "generated" (scenes of the shipped models' world, drawn by `seed`) or "cogs" (`data_dir`/cogs/train.tsv,
    without `data_dir` over the network); None is "cogs" if there is a `data_dir`, else "generated". Raises SemhubError
    on another source, or where no line can be used.
    """
    if origin("sentences", source, "cogs", data_dir) == "generated":
        return Items(_scenes(seed))
    if data_dir is None:
        return meanings_of_rows(hub_rows("cogs", split="train"), SETS["cogs"][0])
    path = find(data_dir, ("cogs/train.tsv", "train.tsv"), what="COGS", source=SOURCE)
    found = Items(source=named(path))
    return _known(((place, line.split("\t")) for place, line in lines(path, found)), path, found)


def meanings_of_rows(rows: Iterable[Mapping[str, str | None]], source: str) -> Items:
    """As `meanings`, of rows of a data set by column name; `source` is what messages call it."""
    cells = []
    for number, row in enumerate(rows, 1):
        columns = [next((name for name in names if name in row), None) for names in _COLUMNS]
        cells.append((f"{source}:{number}", [str(row[column] or "") for column in columns if column]))
    return _known(cells, source, Items(source=getattr(rows, "source", source)))


def _scenes(seed: int) -> list[Meaning]:
    """Scenes of the shipped models' world, actives and passives, in COGS's form."""
    make, rng, found = Generators(WORLD), random.Random(f"forms {seed}"), {}
    while len(found) < GENERATED:
        roles, passive = make.roles(rng), rng.random() < 0.5
        [(_, sentence)], [(_, form)] = make.say_scene(roles, "en", passive), make.say_scene(roles, "logic")
        found[sentence] = _read(f"{sentence} .", f"{sentence} .", form)
    return list(found.values())


def _known(rows: Iterable[tuple[str, Sequence[str]]], source: str | Path, found: Items) -> Items:
    """What can be read of (place, cells); the rest is counted."""
    for place, cells in rows:
        meaning = _read(place, *cells[:2]) if len(cells) > 1 else "missing column"
        if isinstance(meaning, Meaning):
            found.append(meaning)
        else:
            found.drop(meaning, place)
    return found.some("sentence with its logical form", source)


def _read(place: str, sentence: str, form: str) -> Meaning | str:
    """The meaning that a line gives, or why it gives none."""
    words, terms, roles = sentence.split(), [], defaultdict(set)
    if "LAMBDA" in form or len(words) < 2:
        return "a word and no sentence"
    for term in re.split(r" ; | AND ", form.strip()):
        if not (match := _TERM.fullmatch(term)):
            return "a form that does not parse"
        terms.append((match[1], tuple(argument for argument in match.groups()[1:] if argument)))
        for name in filter(lambda argument: argument[0].isupper(), terms[-1][1]):
            roles[name].add(match[1].split(" . ")[-1])
    if any(words.count(name) != 1 for name in roles):
        return "a name that is not in the sentence once"
    names = tuple((name, frozenset(roles[name])) for name in sorted(roles, key=words.index))
    found = Meaning(place, " ".join(words), form.strip(), tuple(terms), names)
    return found if len(found.content) > 1 else "a word and no sentence"


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
    by_template, found = defaultdict(list), Items(source=known.source)
    for meaning in _drawn(known, seed):
        by_template[meaning.template].append(meaning)
    for m in (some_[0] for some_ in by_template.values() if len(some_) == 1):
        found.drop("alone in its template", m.id)
    rounds = [list(zip_longest(*[iter(some_)] * PEERS)) for some_ in by_template.values() if len(some_) > 1]
    blocks = [block for row in rounds for block in row if block[1] is not None]
    chosen = [m for k in np.random.default_rng(seed).permutation(len(blocks)) for m in blocks[k] if m is not None]
    for m in chosen[:n]:
        of = m.content
        found.append(Pair(m.id, m.sentence, m.form, m.template, f"{of[0]} {of[-1]}", of[-1], (of[0], of[1], of[-2])))
    return found.some("two sentences of one template")


def swap_items(known: Items, n: int, *, seed: int) -> Items:
    """`n` meanings with exactly two proper names, and their altered forms. As far as there are, half of the forms name
    the two in the order of the sentence and half the other way round. Those that name them in one order however their
    conjuncts stand are counted. Raises SemhubError if none is left."""
    two, found = [], Items(source=known.source)
    for m in _drawn(known, seed):
        if len(m.names) == 2 and " AND " in m.form:
            parts = _conjuncts(m)
            if any(_turned(m, [first, *parts]) for first in parts):  # what comes first is all that counts
                two.append(m)
            else:
                found.drop("one order of the names whatever that of the conjuncts", m.id)
    sides = [[m for m in two if _in_order(m) == order] for order in (True, False)]
    rng = random.Random(f"swaps {seed}")
    for m in _evenly(sides, n):
        a, b = (name for name, _ in m.names)
        shuffled, change = _shuffled(m, rng), {a: b, b: a}
        swapped, both = (_renamed(form, change) for form in (m.form, shuffled))
        pair = " and ".join(sorted((a, b)))
        found.append(
            SwapItem(m.id, m.sentence, m.form, swapped, shuffled, both, pair, _in_order(m), (pair, a, b, m.verb))
        )
    return found.some("sentence with exactly two proper names")


def role_items(known: Items, n: int, *, seed: int) -> Items:
    """`n` sentences cut just before a proper name, as many of each role as there are; names before it are replaced at
    random.

    target "role": the role word of the name that would follow. group: the number of words read; cluster: what is read
    last, with the verb where that is "by" or "to". A name that begins its sentence leaves nothing to read, and is
    counted. Raises SemhubError where no name is left.
    """
    rng, found, by_role = random.Random(f"roles {seed}"), Items(source=known.source), {role: [] for role in ROLES}
    every = sorted({name for m in known for name, _ in m.names})
    for m in _drawn(known, seed):
        if not m.names:
            found.drop("no proper name", m.id)
        words = m.sentence.split()
        for name, roles in m.names:
            if words[0] == name:
                found.drop("the name begins the sentence", m.id)
            elif len(roles) != 1 or not roles <= set(ROLES):
                found.drop("a name of several roles", m.id)
            else:
                by_role[next(iter(roles))].append((m, name))
    for role, (m, name) in _evenly([[(role, x) for x in some_] for role, some_ in by_role.items()], n):
        before = m.sentence.split()[: m.sentence.split().index(name)]
        others = dict(zip((x for x, _ in m.names), rng.sample(every, len(m.names)), strict=True))
        prompt = " ".join(others.get(word, word) for word in before)
        targets, wrong = {"role": (role,)}, {"role": tuple(r for r in ROLES if r != role)}
        found.append(LensItem(f"{m.id} {name}", prompt, targets, _cue(m, name, before), wrong, str(len(before))))
    return found.some("proper name with something to read before it")


def behind_another(items: Items, known: Items, *, seed: int) -> Items:
    """The prompts behind another sentence each, drawn so that as many words stand before the name in as many of them as
    can be, whatever its role; the rest stay as they are."""
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
    found = Items(source=known.source)
    for m in _drawn(known, seed):
        ends = [k for k in re.finditer(rf" \. ({'|'.join(ROLES)}) \(", m.form) if " AND " in m.form[: k.start()]]
        if ends:
            found.append(LensItem(m.id, m.form[: ends[-1].start() + 2], {"own": (ends[-1][1],)}, m.verb))
        else:
            found.drop("no role word behind a conjunct", m.id)
    return found[:n].some("form with a role word behind a conjunct")


def patch_items(known: Items, n: int, *, seed: int, tagged: bool) -> Items:
    """`n` logical forms cut before their verb comes again (`see . agent ( x _ 1 , Emma ) AND`), each with another
    sentence about to be put into its form (`Liam finds Mia logic :`), drawn by `seed`, whose form begins with another
    verb; with the form of that, cut likewise; and with its first content word alone in the place of the sentence.

    Both go on with the lemma of a verb, and nothing but what was read says which. tagged: for the shipped models, which
    put a sentence into a form behind a tag; others are shown two sentences with their forms first. Meanings whose verb
    does not come again, or whose form does not begin with it, are counted. Raises SemhubError if no two verbs are left.
    """
    rng, found, usable = random.Random(f"patches {seed}"), Items(source=known.source), []
    for m in _drawn(known, seed):
        if cut := _before_again(m):
            usable.append((m, cut))
        else:
            found.drop("its verb does not come again", m.id)
    short = sorted(usable, key=lambda pair: len(pair[0].form))[:2]
    shown = "".join(f"{m.sentence}\n{m.form}\n\n" for m, _ in short)

    def read(words: str) -> str:
        return f"{words.removesuffix(' .')} {TAG['logic']} :" if tagged else f"{shown}{words}\n"

    for m, run in usable[:n]:
        others = [(other, cut) for other, cut in usable if other.verb != m.verb]
        if others:
            source, cut = rng.choice(others)
            found.append(
                PatchItem(
                    id=f"{m.id} {source.id}", run=(run, read(m.sentence)), answer=(m.verb, None),
                    source=(cut, read(source.sentence)), expected=(source.verb, None),
                    other=(None, read(source.content[0])), cluster=f"{m.verb} {source.verb}", group="form",
                    anchor=source.verb, places=_last,
                )
            )  # fmt: skip
    return found.some("two forms whose verbs differ and come again")


def sentence_prompts(items: Sequence[PatchItem]) -> list[LensItem]:
    """What is written from: each sentence, to be continued with the verb of its form."""
    return [LensItem(item.id, item.source[1], {"own": (item.expected[0],)}, item.cluster) for item in items]


def _before_again(m: Meaning) -> str:
    """The form up to where the verb it begins with comes for the second time; empty where it does not."""
    first, _, rest = m.form.partition(" AND ")
    return f"{first} AND" if first.startswith(f"{m.verb} . ") and rest.startswith(f"{m.verb} . ") else ""


def _last(encoding: Sized) -> list[int]:
    return [len(encoding) - 1]


def form_words(known: Sequence[Meaning]) -> list[str]:
    """The words of the forms that are no names, roles or variables: what they speak of, and what is done."""
    words = {
        part for m in known for predicate, arguments in m.terms for part in (predicate.split(" . ")[0], *arguments)
    }
    return sorted(word for word in words - set(ROLES) if word.isalpha() and word.islower())


def _cue(m: Meaning, name: str, before: Sequence[str]) -> str:
    """What a reader has to go by, just before the name: "by" or "to" with the verb, or the last words."""
    if before[-1] in ("by", "to"):
        verb = next(predicate.split(" . ")[0] for predicate, arguments in m.terms if name in arguments)
        return " ".join([verb, *(["passive"] if {"was", "is"} & set(before) else []), before[-1]])
    return " ".join(before[-2:] if before[-1] in FUNCTION else before[-1:])


def _mentioned(form: str, m: Meaning) -> list[str]:
    return sorted((name for name, _ in m.names), key=form.split().index)


def _in_order(m: Meaning) -> bool:
    return _mentioned(m.form, m) == [name for name, _ in m.names]


def _conjuncts(m: Meaning) -> list[str]:
    return m.form.split(" ; ")[-1].split(" AND ")


def _turned(m: Meaning, parts: Sequence[str]) -> str:
    """The form with its conjuncts in another order, if the names then come the other way round; else empty."""
    form = " ; ".join([*m.form.split(" ; ")[:-1], " AND ".join(parts)])
    return form if _mentioned(form, m) != _mentioned(m.form, m) else ""


def _shuffled(m: Meaning, rng: random.Random) -> str:
    """The form with its conjuncts in a random order, of those in which the names come the other way round."""
    parts = _conjuncts(m)
    while not (form := _turned(m, parts)):
        rng.shuffle(parts)
    return form


def _renamed(form: str, change: Mapping[str, str]) -> str:
    return " ".join(change.get(word, word) for word in form.split())


def _drawn(known: Sequence[Meaning], seed: int) -> list[Meaning]:
    return [known[k] for k in np.random.default_rng(seed).permutation(len(known))]


def _evenly(kinds: Sequence[Sequence], n: int) -> list:
    """`n` in all, one of each kind in turn, as long as there are."""
    return [x for row in zip_longest(*kinds) for x in row if x is not None][:n]

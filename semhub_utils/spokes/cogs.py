"""Sentences with their logical forms: COGS's own files (arXiv 2010.05465), or generated in their form.

A form is a row of conjuncts, `see . agent ( x _ 1 , Emma ) AND see . theme ( x _ 1 , Liam )`, with what is presupposed
in front (`* cookie ( x _ 4 ) ; ...`). Who does what to whom is in the role words.
"""

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from semhub_utils.organism.corpus import Generators
from semhub_utils.spokes.facts import WORLD
from semhub_utils.spokes.files import Skipped, find, lines, some
from semhub_utils.spokes.hub_data import SETS, hub_rows, origin

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


def meanings(
    *, seed: int, source: str | None = None, data_dir: str | Path | None = None, split: str = "train"
) -> tuple[list[Meaning], Skipped]:
    """All sentences with their forms that can be read.

    source: "generated" (scenes of the shipped models' world, drawn by `seed`) or "cogs" (`data_dir`/cogs/`split`.tsv,
    without `data_dir` over the network); None is "cogs" if there is a `data_dir`, else "generated". Raises SemhubError
    on another source, or where no line can be used.
    """
    skipped = Skipped()
    if origin("sentences", source, "cogs", data_dir) == "generated":
        return _scenes(seed), skipped
    if data_dir is None:
        return meanings_of_rows(hub_rows(*SETS["cogs"], split=split), SETS["cogs"][0])
    path = find(data_dir, (f"cogs/{split}.tsv", f"{split}.tsv"), what="COGS", source=SOURCE)
    cells = ((place, line.split("\t")) for place, line in lines(path, skipped))
    return _known(cells, path, skipped), skipped


def meanings_of_rows(rows: Iterable[Mapping[str, str | None]], source: str) -> tuple[list[Meaning], Skipped]:
    """As `meanings`, of rows of a data set by column name; `source` is what messages call it."""
    skipped, cells = Skipped(), []
    for number, row in enumerate(rows, 1):
        columns = [next((name for name in names if name in row), None) for names in _COLUMNS]
        cells.append((f"{source}:{number}", [str(row[column] or "") for column in columns if column]))
    return _known(cells, source, skipped), skipped


def _scenes(seed: int) -> list[Meaning]:
    """Scenes of the shipped models' world, actives and passives, in COGS's form."""
    make, rng, found = Generators(WORLD), random.Random(f"forms {seed}"), {}
    while len(found) < GENERATED:
        roles, passive = make.roles(rng), rng.random() < 0.5
        [(_, sentence)], [(_, form)] = make.say_scene(roles, "en", passive), make.say_scene(roles, "logic")
        found[sentence] = _read(f"{sentence} .", f"{sentence} .", form)
    return list(found.values())


def _known(rows: Iterable[tuple[str, Sequence[str]]], source: str | Path, skipped: Skipped) -> list[Meaning]:
    """What can be read of (place, cells); the rest is counted."""
    found = []
    for place, cells in rows:
        meaning = _read(place, *cells[:2]) if len(cells) > 1 else "missing column"
        if isinstance(meaning, Meaning):
            found.append(meaning)
        else:
            skipped.add(meaning, place)
    return some(found, source, "sentence with its logical form", skipped)


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

"""Word translation: prompts whose next token is a word of one language for a concept named in another.

Any model can be asked by a few examples (`Español: "libro" - Deutsch: "`, arXiv 2402.10588 and 2411.08745); the words
are `data/concepts.csv`, 150 concrete nouns in five languages, no word twice. The shipped models know no such form; they
are asked as their dictionary lines say it (`libro deutsch:`), and code is a language to them.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files

import numpy as np

from semhub_utils.errors import need
from semhub_utils.organism.world import TAG, surface, text
from semhub_utils.organism.world import concepts as world_concepts
from semhub_utils.spokes.facts import LANGUAGES as WORLD_LANGUAGES
from semhub_utils.spokes.items import GENERATED, Item, Items, LensItem, Twin

LANGUAGES = {"english": "English", "spanish": "Español", "german": "Deutsch", "chinese": "中文", "french": "Français"}
"""Name -> what the language calls itself, as the prompts do."""
WORLD = WORLD_LANGUAGES | {"code": "code"}
"""The same for the shipped models: what their world calls a language."""
UNTAUGHT = ("finite verb", "giving verb")  # which their dictionary lines leave out
SHOTS, OTHERS, TIMES = 5, 4, 2
"""Examples before a question, concepts whose states are averaged for a control, and items of one concept."""


@dataclass(frozen=True)
class Concept:
    """Something that every language has one word for. kind: its class; words: by language."""

    key: str
    kind: str
    words: Mapping[str, str]


@dataclass(frozen=True)
class Question:
    """A prompt up to where the translation stands, and up to which character it holds the word that is translated."""

    text: str
    end: int


@dataclass(frozen=True)
class ConceptItem(Item):
    """A run that translates `own` from language C to D, and what is written into it: the state of a run that translates
    `concept`, of another class, from A to B (2411.08745, Sec. 3).

    source: that run; alike: the same from all other languages than B and D, A among them; same: `own` from A to B;
    others: further concepts from A to B. languages: A, B, C, D, where D is neither A nor B, and C neither A nor D.
    """

    id: str
    run: Question
    source: Question
    alike: tuple[Question, ...]
    same: Question
    others: tuple[Question, ...]
    concept: Concept
    own: Concept
    languages: tuple[str, str, str, str]

    @property
    def prompt(self) -> str:
        return self.run.text

    @property
    def cluster(self) -> str:
        return self.concept.key

    @property
    def group(self) -> str:
        return self.concept.kind


@cache
def concepts(world: bool = False) -> tuple[Concept, ...]:
    """The book's list, in the order of the file; or all that the shipped models' dictionary lines hold but numbers."""
    if world:
        known = [c for c in world_concepts().values() if c.kind not in UNTAUGHT]
        return tuple(Concept(c.key, c.kind, {n: surface(c.key, t) for n, t in WORLD.items()}) for c in known)
    rows = csv.DictReader((files("semhub_utils") / "data/concepts.csv").read_text("utf-8").splitlines())
    return tuple(Concept(row["english"], row["kind"], {name: row[name] for name in LANGUAGES}) for row in rows)


def question(concept: Concept, source: str, target: str, shots: Sequence[Concept] = ()) -> Question:
    """What is the word for a concept? With examples in the papers' form, without any as a line of a dictionary."""
    word = concept.words[source]
    if not shots:
        tag = WORLD[target]
        said = text([(WORLD[source], word), (tag, TAG[tag]), (tag, ":")])
        return Question(said, len(word))
    a, b = LANGUAGES[source], LANGUAGES[target]
    lines = "".join(f'{a}: "{shot.words[source]}" - {b}: "{shot.words[target]}"\n' for shot in shots)
    return Question(f'{lines}{a}: "{word}" - {b}: "', len(f'{lines}{a}: "{word}'))


def concept_items(n: int, *, seed: int = 0, world: bool = False) -> Items:
    """Two items for each of `n` concepts (all there are, if that is fewer), drawn by `seed`: ConceptItem. The languages
    and the other concepts are drawn too; the examples are the same for all, and are no item. Raises SemhubError for
    fewer than one concept."""
    need(n >= 1, f"n_items is {n}, and items are made of concepts; 1 to {len(concepts(world))} would do.")
    rng, (shots, known) = np.random.default_rng(seed), _split(seed, world)
    source = GENERATED if world else "the book's list of concepts"
    return items_of(known, n, partial(question, shots=shots), rng, source)


def items_of(
    known: Sequence[Concept],
    n: int,
    ask: Callable[[Concept, str, str], Question],
    rng: np.random.Generator,
    source: str = GENERATED,
) -> Items:
    """The same of other concepts, all with the same languages; ask: what makes a question of concept, A and B."""
    names, found = [*known[0].words], Items(source=source)

    def draw(some: Sequence, k: int) -> list:
        return [some[i] for i in rng.permutation(len(some))[:k]]

    for concept in draw(known, n):
        for d in draw(names, TIMES):
            a, b = draw([name for name in names if name != d], 2)
            [c] = draw([name for name in names if name not in (a, d)], 1)
            [own] = draw([other for other in known if other.kind != concept.kind], 1)
            others = draw([other for other in known if other not in (concept, own)], OTHERS)
            asked = (
                ask(own, c, d),
                ask(concept, a, b),
                tuple(ask(concept, name, b) for name in names if name not in (b, d)),
                ask(own, a, b),
                tuple(ask(other, a, b) for other in others),
            )
            told = f"{concept.key}, {a} to {b}, in {own.key}, {c} to {d}"
            found.append(ConceptItem(told, *asked, concept, own, (a, b, c, d)))
    return found


def lens_items(items: Sequence[ConceptItem]) -> list[LensItem]:
    """Each run, to be continued with its own answer: what a model must know before its states are moved."""
    return [LensItem(i.id, i.prompt, {"own": (i.own.words[i.languages[3]],)}, i.own.key) for i in items]


def twins(language: str, n: int, *, seed: int = 0) -> Items:
    """`n` questions (all there are, if that is fewer) in a language of the book's list, each with the same one in
    English, both for a word of a third language, drawn by `seed`: Twin. Group: the third language."""
    need(language in LANGUAGES and language != "english", f"There are no twins in {language!r}; another would do.")
    rng, (shots, known) = np.random.default_rng(seed), _split(seed, False)
    third, found = [name for name in LANGUAGES if name not in (language, "english")], Items(source="the book's list")
    for k in rng.permutation(len(known))[:n]:
        concept, target = known[k], third[rng.integers(len(third))]
        asked = (question(concept, name, target, shots).text for name in (language, "english"))
        answer = concept.words[target]
        found.append(Twin(f"{concept.key} into {target}", *asked, answer, answer, "word", target, concept.key))
    return found


def _split(seed: int, world: bool) -> tuple[list[Concept], list[Concept]]:
    """The concepts of the examples (of any class, and none for the shipped models), and the others."""
    every = concepts(world)
    order = np.random.default_rng([seed, 1]).permutation(len(every))
    shots = {*order[: 0 if world else SHOTS].tolist()}
    return [every[k] for k in sorted(shots)], [c for k, c in enumerate(every) if k not in shots]

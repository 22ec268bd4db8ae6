"""The shipped models' world as data: one meaning in English, Spanish, Chinese, German, code and digits.

The texts are plain and short, so any model can be asked them; a public model knows such facts from its own training,
the shipped ones from theirs. By default the items are those held out: taught to the shipped models in English only.
"""

import csv
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import numpy as np

from semhub_utils.errors import need_one_of
from semhub_utils.organism import world
from semhub_utils.organism.world import Prompt, Sum, World
from semhub_utils.spokes.items import Items, LensItem, Pair, SteerItem, Twin

LANGUAGES = {"english": "en", "spanish": "es", "chinese": "zh", "german": "de"}
"""Name -> what the shipped models' world calls a language."""
TYPES = {name: key for name, key in LANGUAGES.items() if name != "english"} | {"code": "code", "digits": "digits"}
"""The same of every type that has an English twin."""

_ROWS = csv.reader((files("semhub_utils") / "data/texts.tsv").read_text("utf-8").splitlines(), delimiter="\t")
PHRASES = {key: dict(zip(LANGUAGES, texts, strict=True)) for key, *texts in _ROWS}
"""What is asked and said plainly, beside the world's own sentences: a kind of question with "?" -> language -> the
question; without it, how its answer begins; "yes" and "no"; "this represents", the paper's way to go on."""

SENTENCES = {
    "spanish": "el color de la hierba es verde.",
    "chinese": "草的颜色是绿色。",
    "german": "dass das Gras die Farbe grün hat.",
    "code": "color_of(GRASS) == GREEN",
    "digits": "8=3+5",
    "english": "the color of the grass is green.",
}
"""One running text per data type, for the lens grid."""

WORLD = World()
"""The shipped models' world."""


def prompts(data_type: str, n_items: int, *, seed: int = 0, held_out: bool = True, world: World = WORLD) -> Items:
    """`n_items` prompts of a type (all there are, if that is fewer), each with its English twin, drawn by `seed`:
    facts, and sums for digits. Raises SemhubError on an unknown type."""
    need_one_of(data_type, TYPES, f"There is no data type {data_type!r} among the facts")
    found = world.prompts(TYPES[data_type], held_out)
    return Items(p for p in found if isinstance(p.item, Sum) == (data_type == "digits")).draw(n_items, seed)


def similarity_pairs(chosen: Sequence[Prompt]) -> Items:
    """A prompt and its English twin. Group: relation and sentence form, so that only what is spoken of differs; anchor:
    the answer; words: the subject, or the two numbers of the prompt."""
    return Items(
        Pair(t.id, t.prompt, t.hub_prompt, t.group, t.cluster, t.hub_answer, _words(p))
        for t, p in zip(twins(chosen), chosen, strict=True)
    )


def lens_items(chosen: Sequence[Prompt]) -> Items:
    """A prompt read for the English word of its answer and for the answer's own token, against the other answers that
    relation has in English; and for its word in a third language (German, or Spanish of German ones), against that of
    the others."""
    items, answers, said = Items(), defaultdict(set), {}
    for p in chosen:
        third = "es" if p.type == "de" else "de"
        other = WORLD.prompt(p.item, third, p.form if isinstance(p.item, Sum) else 0).answer
        said[id(p)] = other if p.english_answer == WORLD.prompt(p.item, "en", p.form).english_answer else ""
        answers[p.relation].add((p.english_answer, said[id(p)]))
    for t, p in zip(twins(chosen), chosen, strict=True):
        english, third = zip(*sorted(answers[t.relation]), strict=True)
        targets = {"english": (t.hub_answer,), "own": (t.answer,), "third language": (said[id(p)],)}
        wrong = {
            "english": tuple(w for w in dict.fromkeys(english) if w != t.hub_answer),
            "third language": tuple(w for w in dict.fromkeys(third) if w != said[id(p)]),
        }
        items.append(LensItem(t.id, t.prompt, targets, t.cluster, wrong, t.group, t.hub_answer))
    return items


def steering_items(chosen: Sequence[Prompt], *, seed: int = 0) -> Items:
    """Each prompt steered towards another of its relation and form with another answer, drawn by `seed`, by the
    difference of the two English twins. Prompts without such another are left out."""
    rng, items, known = np.random.default_rng(seed), Items(), twins(chosen)
    for t in known:
        others = [q for q in known if q.group == t.group and q.answer != t.answer]
        if others:
            q = others[rng.integers(len(others))]
            items.append(SteerItem(t.id, t.prompt, q.hub_prompt, t.hub_prompt, q.answer, t.answer, t.cluster))
    return items


def english_words() -> list[str]:
    """Every English word of the world: what counts as the dominant language's when a lens reading is coloured."""
    texts = [text for p in WORLD.prompts("en") for text in (p.prompt, p.answer)]
    return sorted({word for text in texts for word in text.replace(",", " ").replace(":", " ").split()})


@cache
def words_of_types() -> dict[str, set[str]]:
    """By type, as the world calls it, every word that its lines use."""
    used: dict[str, set[str]] = {type_: set() for type_ in world.TYPES}
    used["en"] = {*world.english_tokens()} - {*world.SPECIALS}
    keys = [*world.concepts(), *world.NAMES, *map(str, range(100))]
    tables = (world.AND, world.EQUALS, world.FULL_STOP, world.LIST_AND, world.PLUS, world.TAG, world.TIMES)
    for type_, own in used.items():
        texts = [world.surface(key, type_, phrase=True) for key in keys if key.isdigit() or type_ != "digits"]
        texts += [world.without_slots(of) for frames in world.FRAMES.get(type_, {}).values() for of in frames]
        own |= {word for text in (*texts, *(of.get(type_, "") for of in tables)) for word in world.split_words(text)}
    return used


def twins(chosen: Sequence[Prompt]) -> Items:
    """The prompts with their English. Group: relation and sentence form; cluster: those about one thing stand and fall
    together."""
    found = Items()
    for p in chosen:
        thing = f"{p.item.op}{p.item.result}" if isinstance(p.item, Sum) else p.item.subject
        group, texts = f"{p.relation} {p.form}", (p.prompt, p.english_prompt, p.answer, p.english_answer)
        found.append(Twin(f"{p.type}: {p.prompt}", *texts, p.relation, group, thing))
    return found


def _words(p: Prompt) -> tuple[str, ...]:
    if not isinstance(p.item, Sum):
        return (p.item.subject,)
    numbers = (p.item.left, p.item.right) if p.form == "result" else (p.item.result, p.item.left)
    return tuple(map(str, numbers))

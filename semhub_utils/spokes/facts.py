"""The shipped models' world as data: one meaning in English, Spanish, Chinese, German, code and digits.

The texts are plain and short, so any model can be asked them; a public model knows such facts from its own training,
the shipped ones from theirs. By default the items are those held out: taught to the shipped models in English only.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np

from semhub_utils.errors import need_one_of
from semhub_utils.organism.world import Prompt, Sum, World
from semhub_utils.spokes.items import LensItem, Pair, PatchItem, SteerItem

LANGUAGES = {"english": "en", "spanish": "es", "chinese": "zh", "german": "de"}
"""Name -> what the shipped models' world calls a language."""
TYPES = {name: key for name, key in LANGUAGES.items() if name != "english"} | {"code": "code", "digits": "digits"}
"""The same of every type that has an English twin."""

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


def prompts(
    data_type: str, n_items: int, *, seed: int = 0, held_out: bool = True, world: World = WORLD
) -> list[Prompt]:
    """`n_items` prompts of a type, each with its English twin, drawn by `seed`: facts, and sums for digits.

    All there are, if that is fewer. Raises SemhubError on an unknown type.
    """
    found = _every(data_type, held_out, world)
    return [found[i] for i in sorted(np.random.default_rng(seed).permutation(len(found))[:n_items])]


@cache
def _every(data_type: str, held_out: bool, world: World) -> tuple[Prompt, ...]:
    need_one_of(data_type, TYPES, f"There is no data type {data_type!r} among the facts")
    found = world.prompts(TYPES[data_type], held_out)
    return tuple(p for p in found if isinstance(p.item, Sum) == (data_type == "digits"))


def similarity_pairs(chosen: Sequence[Prompt]) -> list[Pair]:
    """A prompt and its English twin. Group: relation and sentence form, so that only what is spoken of differs; anchor:
    the answer; words: the subject, or the two numbers of the prompt."""
    return [
        Pair(_id(p), p.prompt, p.english_prompt, _group(p), _cluster(p), p.english_answer, _words(p)) for p in chosen
    ]


def lens_items(chosen: Sequence[Prompt]) -> list[LensItem]:
    """A prompt read for the English word of its answer and for the answer's own token, against the other answers that
    relation has in English."""
    return [
        LensItem(
            id=_id(p),
            prompt=p.prompt,
            targets={"english": (p.english_answer,), "own": (p.answer,)},
            cluster=_cluster(p),
            wrong={"english": tuple(a for a in _answers(chosen, p) if a != p.english_answer)},
            group=_group(p),
            anchor=p.english_answer,
        )
        for p in chosen
    ]


def steering_items(chosen: Sequence[Prompt], *, seed: int = 0) -> list[SteerItem]:
    """Each prompt steered towards another of its relation and form with another answer, drawn by `seed`, by the
    difference of the two English twins. Prompts without such another are left out."""
    rng, items = np.random.default_rng(seed), []
    for p in chosen:
        others = [q for q in chosen if _group(q) == _group(p) and q.answer != p.answer]
        if others:
            q = others[rng.integers(len(others))]
            items.append(
                SteerItem(_id(p), p.prompt, q.english_prompt, p.english_prompt, q.answer, p.answer, _cluster(p))
            )
    return items


def english_twins(chosen: Sequence[Prompt]) -> list[LensItem]:
    """The English twin of each prompt, to be continued with its own answer: what a model must know whose English states
    are written into other runs."""
    return [LensItem(_id(p), p.english_prompt, {"own": (p.english_answer,)}, _cluster(p)) for p in chosen]


def patch_items(chosen: Sequence[Prompt], *, seed: int = 0) -> list[PatchItem]:
    """Each prompt with another of its relation and form that has another answer, and with one of another relation, both
    drawn by `seed`. Group: relation and form; anchor: the expected answer. Prompts without the former are left out."""
    rng, items = np.random.default_rng(seed), []
    for p in chosen:
        same = [q for q in chosen if _group(q) == _group(p)]
        same = [q for q in same if q.answer != p.answer and q.english_answer != p.english_answer]
        other = [q for q in chosen if q.relation != p.relation]
        if same:
            q, r = (some[rng.integers(len(some))] if some else None for some in (same, other))
            sides = [(x.prompt, x.english_prompt) if x else None for x in (p, q, r)]
            answers = [(x.answer, x.english_answer) for x in (p, q)]
            items.append(
                PatchItem(
                    _id(p), sides[0], answers[0], sides[1], answers[1], sides[2], _cluster(p), _group(p), answers[1][1]
                )
            )
    return items


def english_words() -> list[str]:
    """Every English word of the world: what counts as the dominant language's when a lens reading is coloured."""
    texts = [text for p in WORLD.prompts("en") for text in (p.prompt, p.answer)]
    return sorted({word for text in texts for word in text.replace(",", " ").replace(":", " ").split()})


def _answers(chosen: Sequence[Prompt], p: Prompt) -> list[str]:
    return sorted({q.english_answer for q in chosen if q.relation == p.relation})


def _group(p: Prompt) -> str:
    return f"{p.relation} {p.form}"


def _cluster(p: Prompt) -> str:
    """Prompts about one thing stand and fall together."""
    return p.item.subject if not isinstance(p.item, Sum) else f"{p.item.op}{p.item.result}"


def _words(p: Prompt) -> tuple[str, ...]:
    if not isinstance(p.item, Sum):
        return (p.item.subject,)
    numbers = (p.item.left, p.item.right) if p.form == "result" else (p.item.result, p.item.left)
    return tuple(map(str, numbers))


def _id(p: Prompt) -> str:
    return f"{p.type}: {p.prompt}"

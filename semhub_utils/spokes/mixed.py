"""What readings are made of: the lines of a file, or those of a shipped model's world, all types mixed."""

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path

from semhub_utils import identity
from semhub_utils.errors import need
from semhub_utils.inputs import Input
from semhub_utils.organism.corpus import Ask, Generators, forms
from semhub_utils.organism.world import TYPES, World, text, tidy
from semhub_utils.spokes import audio, languages, vision
from semhub_utils.spokes.code import programs
from semhub_utils.spokes.files import SAMPLES, lines
from semhub_utils.spokes.items import Items

WORD = re.compile(r"[\u3400-\u9fff]|[^\W_]+|[^\w\s]")  # a character of Chinese is one
BANK, FEW, TWICE = 6000, 80, 2


def text_for(
    model_id: str,
    file: Path | None,
    *,
    seed: int,
    say: Callable[[str], None] = print,
    n: int = 14000,
    n_sensed: int = 2000,
) -> tuple[list[str | Input], str]:
    """What to train on, and what it is in words: the lines of `file`, or for a model that `semhub train` made `n` lines
    of its own world, all types in equal parts, drawn by `seed`, with `n_sensed` questions about pictures or sounds
    among them if it takes such. Raises SemhubError where neither is there."""
    if file is not None:
        found = Items()
        found.extend(line for _, line in lines(file, found))
        if found.some("text", file).dropped:
            say(found.left_out)
        return found, f"{file.name}, {len(found)} lines"
    told = _card(model_id)
    need(
        told,
        f"No text was given for a reading of {model_id}; --text FILE, with a text a line of the kind the "
        "model was trained on, would do.",
    )
    found, sense = _lines(_world(told), n, f"mixed text {seed}"), told.get("sense", {}).get("name")
    if sense:
        found += questions(sense, n_sensed, seed=seed)
        random.Random(seed).shuffle(found)
    beside_them = {"sees": f" and {n_sensed} pictures", "hears": f" and {n_sensed} sounds"}.get(sense, "")
    return found, f"{n} generated lines of all types{beside_them}, seed {seed}"


def _card(model_id: str) -> dict:
    """That of a model that `semhub train` made; nothing for any other."""
    path = identity.beside(model_id) / identity.CARD
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def _world(told: dict) -> World:
    """That of which a card tells, or the book's."""
    if "trunk" in told:  # what sees or hears was taught its texts as its trunk
        told = identity.card(told["trunk"]["name"])
    known = {field.name for field in fields(World)}  # a small world has more
    return World(**{name: of for name, of in told.get("recipe", {}).get("world", {}).items() if name in known})


def _lines(world: World, n: int, seed: str, types: Sequence[str] = TYPES) -> list[str]:
    make, rng = Generators(world), random.Random(seed)
    return [text(tidy(make.monolingual(rng, types[k % len(types)]))) for k in range(n)]


def bank_texts(model_id: str, types: tuple[str, ...] = TYPES, *, natural: bool = False) -> tuple[str, ...]:
    """Texts in which every word stands TWICE, the first of a text not counted: of BANK lines of each type of the
    model's own world, or of the natural texts that ship, those with a word that has not stood so often before."""
    return _bank(None if natural else _world(_card(model_id)), types)


@cache
def _bank(world: World | None, types: tuple[str, ...]) -> tuple[str, ...]:
    seen, found = Counter(), []
    lines = _lines(world, BANK * len(types), "bank", types) if world else _natural(types)
    for line in dict.fromkeys(lines):
        words = WORD.findall(line)[1:]
        if any(seen[word] < TWICE for word in words):
            seen.update(words)
            found.append(line)
    return tuple(found)


def _natural(types: Sequence[str]) -> list[str]:
    """Of the samples that ship, FEW lines of news in each language and a quarter as many programs; or English alone."""
    names = ["english"] if [*types] == ["en"] else languages.spoken(SAMPLES)
    news = [languages.running_text(name, FEW, seed=0, data_dir=SAMPLES) for name in names]
    code = programs(FEW // 4 if len(names) > 1 else 0, seed=0, data_dir=SAMPLES)
    return [line for some in (*news, [program.text for program in code]) for line in some]


def questions(sense: str, n: int, *, seed: int) -> list[Input]:
    """`n` questions in English with their answers, about pictures ("sees") or clips ("hears") of the kinds that the
    shipped models learnt from, nothing held out among them."""
    rng = random.Random(f"mixed questions {sense} {seed}")

    def line(asks: Sequence[Ask], slot: str) -> str:
        ask = rng.choice(asks)
        return " ".join(vision.question(ask, "english", form=rng.choice(forms(ask.kind, "en")), what=slot))

    if sense == "hears":
        return [audio.heard(c, line(c.asks, audio.SLOT)) for c in audio.clips(n, seed=seed, held_out=False)]
    few = n // 4 or 1
    shown = [*vision.plain_colours(few, seed=seed), *vision.two_halves(few, seed=seed, held_out=False)]
    shown += vision.scenes(max(1, n - len(shown)), seed=seed, held_out=False)
    return [Input(line(picture.asks, vision.SLOT), (picture.image,)) for picture in shown[:n]]

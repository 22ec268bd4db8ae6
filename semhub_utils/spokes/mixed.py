"""What a tuned lens is trained on: the lines of a file, or those of a shipped model's world, all types mixed."""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from semhub_utils import identity
from semhub_utils.errors import need
from semhub_utils.inputs import Input
from semhub_utils.organism.corpus import Ask, Generators, forms
from semhub_utils.organism.world import TYPES, World, text, tidy
from semhub_utils.spokes import audio, vision
from semhub_utils.spokes.files import lines
from semhub_utils.spokes.items import Items


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
    card = identity.beside(model_id).with_name(identity.CARD)
    need(
        card.is_file(),
        f"No text was given for the tuned lens of {model_id}; --text FILE, with a text a line of the kind the "
        "model was trained on, would do.",
    )
    told = json.loads(card.read_text("utf-8"))
    sense = told.get("sense", {}).get("name")
    if sense:  # what sees or hears was taught its texts as its trunk
        told = identity.card(told["trunk"]["name"])
    make, rng = Generators(World(**told["recipe"]["world"])), random.Random(f"mixed text {seed}")
    found = [text(tidy(make.monolingual(rng, TYPES[k % len(TYPES)]))) for k in range(n)]
    if sense:
        found += questions(sense, n_sensed, seed=seed)
        random.Random(seed).shuffle(found)
    beside_them = {"sees": f" and {n_sensed} pictures", "hears": f" and {n_sensed} sounds"}.get(sense, "")
    return found, f"{n} generated lines of all types{beside_them}, seed {seed}"


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

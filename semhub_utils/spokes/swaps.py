"""Interventions on pictures and sounds: a word's state, or a colour, written where something is seen or heard.

The word is the last of an English sentence, so that its state is read at the last token. Questions come in the two
manners of `spokes.vision`: in the world's sentences ("world"), with SLOT where the picture or sound stands, or as a
plain question ("plain") and, where the answer is one word, the beginning of the answer on a line of its own.
"""

import random
import re
from collections.abc import Callable, Sequence
from functools import partial

from PIL.Image import Image

from semhub_utils.errors import SemhubError
from semhub_utils.inputs import Encoding, Input
from semhub_utils.organism.corpus import Ask
from semhub_utils.spokes import audio, vision
from semhub_utils.spokes.items import PatchItem, RecolourItem

ANSWERS = {
    "colour": {"english": "The color is", "spanish": "El color es", "chinese": "颜色是", "german": "Die Farbe ist"},
    "shape": {"english": "Shape:", "spanish": "Figura:", "chinese": "形状：", "german": "Form:"},
    "name": {"english": "It is a", "spanish": "Es un", "chinese": "这是", "german": "Es ist ein"},
    "kind": {"english": "It is a", "spanish": "Es un", "chinese": "这是", "german": "Es ist ein"},
}  # fmt: skip
"""Kind of question -> language -> how the answer to the plain question begins."""
KIND = {
    "english": "What kind of animal makes this sound?", "spanish": "¿Qué tipo de animal hace este sonido?",
    "chinese": "发出这种声音的是哪种动物？", "german": "Was für ein Tier macht dieses Geräusch?",
}  # fmt: skip
SILENT = ("table", "book", "bread", "hat", "rose", "moon")
"""Things that do not sound."""
SPELLED = {"grey": ("grey", "gray")}


def picture_patches(
    pictures: Sequence[vision.Picture], language: str, *, manner: str = "world", form: int | None = None, seed: int = 0
) -> list[PatchItem]:
    """Every picture of one colour, or of one shape, asked for its colour in a language, with the sentence of another
    colour drawn by `seed` ("the color is blue"), a plain picture of that, and the sentence of a word of no colour.
    Written into: all patches that show any of what is coloured, or the old colour could still be read. Pictures of more
    are left out. Raises SemhubError on an unknown
    language or manner."""
    rng, items, shown = random.Random(f"patches {seed}"), [], _plain(seed)
    for picture in pictures:
        asks = [ask for ask in picture.asks if ask.kind == "colour"]
        if len(picture.areas) != 1 or not asks:
            continue
        own = picture.areas[0].words[0]
        new = rng.choice([c for c in vision.COLOURS if c != own])
        no_colour = rng.choice([s for s in vision.SHAPES if s not in picture.words])
        prompt = in_manner(asks[0], language, manner, form, vision.question, vision.PLAIN["colour"])
        own_text, new_text, other = (f"{picture.caption.rpartition(' ')[0]} {w}" for w in (own, new, no_colour))
        answer, expected = (_said(w, language) for w in (own, new))
        kind = picture.id.partition(":")[0]
        items.append(
            PatchItem(
                id=f"{picture.id}: {new}", run=(Input(prompt, images=(picture.image,)), own_text), answer=answer,
                source=(Input(prompt, images=(shown[new],)), new_text), expected=expected, other=(None, other),
                cluster=picture.cluster, group=f"{kind} {language} {form}", anchor=new,
                places=partial(picture.places, picture.areas[0], share=0.0),
            )
        )  # fmt: skip
    return items


def sound_patches(
    clips: Sequence[audio.Clip], language: str, *, kind: str = "name", manner: str = "world", form: int | None = None,
    seed: int = 0,
) -> list[PatchItem]:  # fmt: skip
    """Every clip asked for its name, or for the kind of animal it is (`kind`="kind"), in a language, with the sentence
    of another source of the clips drawn by `seed` ("Emma sees the cat"), of another kind there, a clip of it, and the
    sentence of a thing that does not sound. Written into: all positions of the sound. Raises SemhubError on an unknown
    kind, language or manner."""
    if kind not in ("name", "kind"):
        raise SemhubError(f"There is no question {kind!r} of sounds; one of name, kind would do.")
    rng, items = random.Random(f"patches {seed}"), []
    answers = {clip.label: clip.label if kind == "name" else clip.kind for clip in clips}
    for clip in clips:
        own = answers[clip.label]
        others = sorted({answer for answer in answers.values() if answer and answer != own})
        if not own or not others:
            continue
        expected = rng.choice(others)  # first, or most would be mammals
        new = rng.choice([label for label, answer in answers.items() if answer == expected])
        silent, like = rng.choice(SILENT), rng.choice([other for other in clips if other.label == new])
        ask = Ask(kind, "", (own,))
        prompt = in_manner(ask, language, manner, form, audio.question, audio.PLAIN["name"] if kind == "name" else KIND)
        own_text, new_text, other = (f"Emma sees the {word}" for word in (clip.label, new, silent))
        items.append(
            PatchItem(
                id=f"{clip.id}: {new}", run=(audio.heard(clip, prompt), own_text),
                answer=_said(own, language), source=(audio.heard(like, prompt), new_text),
                expected=_said(expected, language), other=(None, other),
                cluster=clip.cluster, group=f"{kind} {language} {form}", anchor=new, places=_frames,
            )
        )  # fmt: skip
    return items


def recolour_items(
    pictures: Sequence[vision.Picture], language: str = "english", *, ask: str = "colours", manner: str = "world",
    form: int | None = None, seed: int = 0,
) -> list[RecolourItem]:  # fmt: skip
    """Every picture of two halves, one of which, drawn by `seed`, a third colour is written into. Pictures of the same
    two colours are one cluster, whichever comes first.

    ask: "colours", both in one answer, in any order, or "side", the half that is written into and then the other, each
    with a question of its own (in the world's sentences only). Raises SemhubError on an unknown question, language or
    manner."""
    if ask not in ("colours", "side") or (ask == "side" and manner == "plain"):
        raise SemhubError(f"There is no {manner} question {ask!r} of two halves; 'colours' would do.")
    rng, items, shown = random.Random(f"recolour {seed}"), [], _plain(seed)
    for picture in pictures:
        if not picture.split:
            continue
        half = rng.randrange(2)
        areas = [picture.areas[half], picture.areas[1 - half]]
        present, untouched = (area.words[0] for area in areas)
        third, another = rng.sample([c for c in vision.COLOURS if c not in picture.words], 2)
        real = picture.image.copy()
        real.paste(shown[third].crop(areas[0].box), areas[0].box)
        asks = [a for a in picture.asks if a.kind == ask]
        asks.sort(key=lambda a, present=present: present not in a.answers)  # the half that is written into first
        prompts = [
            in_manner(a, language, manner, form, vision.question, vision.PLAIN["colours"], lead="") for a in asks
        ]
        before = [frozenset(a.answers) for a in asks]
        items.append(
            RecolourItem(
                id=f"{picture.id}: {third}", prompts=tuple(Input(p, images=(picture.image,)) for p in prompts),
                before=tuple(before), after=tuple(b - {present} | {third} if present in b else b for b in before),
                present=present, third=third, another=another, places=partial(picture.places, areas[0]),
                named=partial(named_colours, language), source=tuple(Input(p, images=(real,)) for p in prompts),
                cluster=f"halves: {' '.join(sorted(picture.words))}",
            )
        )  # fmt: skip
    return items


def named_colours(language: str, text: str) -> tuple[str, ...]:
    """The colours of the world, as English words, that the first line of a text in a language names, in order."""
    line = next((line for line in text.splitlines() if line.strip()), "")
    found = {}
    for colour in vision.COLOURS:
        words = SPELLED.get(colour, (colour,)) if language == "english" else (vision.word(colour, language),)
        edge = "" if language == "chinese" else r"\b"
        pattern = f"{edge}({'|'.join(map(re.escape, words))}){edge}"
        if named := re.search(pattern, line, re.IGNORECASE):
            found[colour] = named.start()
    return tuple(sorted(found, key=found.get))


def _plain(seed: int) -> dict[str, Image]:
    """Each colour and a picture of it."""
    return {p.words[0]: p.image for p in vision.plain_colours(len(vision.COLOURS), seed=seed)}


def in_manner(
    ask: Ask, language: str, manner: str, form: int | None, question: Callable, plain: dict[str, str],
    lead: str | None = None,
) -> str:  # fmt: skip
    """A question in one of the two manners."""
    if manner == "world":
        return question(ask, language, form=form)[0]
    if manner != "plain":
        raise SemhubError(f"There is no manner {manner!r}; one of world, plain would do.")
    if language not in plain:
        raise SemhubError(f"There is no plain question in {language!r}; one of {', '.join(plain)} would do.")
    return f"{plain[language]}\n{ANSWERS[ask.kind][language]}" if lead is None else plain[language]


def _said(word: str, language: str) -> tuple[str, str | None]:
    """A word in a language, and in English where that is another."""
    return vision.word(word, language), word if language != "english" else None


def _frames(encoding: Encoding) -> list[int]:
    return encoding.frames

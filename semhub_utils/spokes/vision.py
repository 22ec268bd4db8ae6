"""Pictures as data: plain colours, two halves, scenes of coloured shapes, with what is true of them in words.

A question is asked in two manners: in the world's own sentences, in which the picture stands for a word (the shipped
models know no others), and in plain ones for models that are used to being asked. Every text in the world's sentences
holds SLOT where the picture is; whoever runs a model puts the model's own placeholder there, or leaves it out where the
picture stands in front.
By default the pictures are those held out: combinations that no training picture shows.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from textwrap import shorten
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from semhub_utils.errors import need, need_one_of
from semhub_utils.inputs import Encoding, Input
from semhub_utils.organism import scenes as world
from semhub_utils.organism.corpus import ABROAD, IMAGE, Ask, forms, write
from semhub_utils.organism.lexicon import surface
from semhub_utils.spokes import facts
from semhub_utils.spokes.items import Item, LensItem, Pair, PatchItem, RecolourItem

View = tuple[float, float, float, float]
WHOLE: View = (0.0, 0.0, 1.0, 1.0)
SLOT = IMAGE
LANGUAGES = facts.LANGUAGES | {"code": "code"}
COLOURS = tuple(world.COLOURS)
SHAPES = world.SHAPES
SCENES = ("one", "two", "three")
PLAIN = {
    "colour": {
        "english": "What is the color in the image?", "spanish": "¿Cuál es el color de la imagen?",
        "chinese": "图片是什么颜色？", "german": "Welche Farbe hat das Bild?",
    },
    "colours": {
        "english": "What are the two colors in the image?", "spanish": "¿Cuáles son los dos colores de la imagen?",
        "chinese": "图片中的两种颜色是什么？", "german": "Welche zwei Farben hat das Bild?",
    },
    "shape": {
        "english": "What shape is in the image?", "spanish": "¿Qué figura hay en la imagen?",
        "chinese": "图片中是什么形状？", "german": "Welche Form ist im Bild?",
    },
}  # fmt: skip
"""Kind of question -> language -> a plain question, for models that answer such."""


@dataclass(frozen=True)
class Area:
    """Part of a picture that is about something: a box of pixels (left, top, right, bottom; right and bottom are
    outside it), or a photograph's segment with a `mask` of its own, and the English words true of it, colour first."""

    box: tuple[int, int, int, int]
    words: tuple[str, ...]
    segment: Any = None

    def mask(self, size: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
        """Where in a picture of this width and height it is."""
        if self.segment is not None:
            return self.segment.mask()
        left, top, right, bottom = self.box
        mask = np.zeros(size[::-1], bool)
        mask[top:bottom, left:right] = True
        return mask


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture and what is true of it. caption: an English sentence; words: its colours and nouns; areas: where they
    are; asks: what can be asked; cluster: the unit that intervals are over (pictures of one content are one unit);
    split: "across" for left and right halves, "down" for upper and lower, else empty; held_out: no training picture
    shows this combination."""

    id: str
    image: Image.Image
    caption: str
    words: tuple[str, ...]
    areas: tuple[Area, ...]
    asks: tuple[Ask, ...]
    cluster: str
    split: str = ""
    held_out: bool = False

    def patches(self, area: Area, grid: tuple[int, int], view: View = WHOLE, *, share: float = 0.5) -> list[int]:
        """Numbers, row by row, of the patches of a grid (rows, columns) over a part of the picture (as in `Encoding`)
        that are inside an area by more than a share of them."""
        inside = _inside(area, self.image.size, grid, view)
        return np.flatnonzero(inside > share + 1e-6).tolist()  # half a patch may come out a rounding above

    def places(self, area: Area, encoding: Encoding, *, share: float = 0.5) -> list[int]:
        """The positions of a prompt's patches that are inside an area by more than a share of them: all where that is
        the whole picture, none where the model lays its patches on no grid."""
        if area.box == (0, 0, *self.image.size):
            return encoding.patches
        if encoding.grid is None:
            return []
        return [encoding.patches[k] for k in self.patches(area, encoding.grid, encoding.view, share=share)]


def cells(
    mask: Bool[np.ndarray, "height width"],
    grid: tuple[int, int],
    view: View = WHOLE,
) -> Float[np.ndarray, "row column"]:
    """How much of every cell of a grid lies inside a mask, as a share. view: the part of the picture under the grid, as
    (left, top, right, bottom) in shares of its width and height; it may be more than the picture."""
    height, width = mask.shape
    left, top, right, bottom = view[0] * width, view[1] * height, view[2] * width, view[3] * height
    more = max(0, int(np.ceil(max(-left, -top, right - width, bottom - height))))
    wide = Image.fromarray(np.pad(mask, more).astype(np.float32))
    box = (left + more, top + more, right + more, bottom + more)
    return np.asarray(wide.resize(grid[::-1], Image.Resampling.BOX, box=box)).astype(float)


@lru_cache(4096)  # a photograph's segments are drawn or read from a file
def _inside(area: Area, size: tuple[int, int], grid: tuple[int, int], view: View) -> Float[np.ndarray, "row column"]:
    return cells(area.mask(size), grid, view)


def plain_colours(n: int, *, seed: int = 0) -> list[Picture]:
    """`n` pictures of one colour each, the colours in turn, shades and grain drawn by `seed`."""
    rng = random.Random(f"plain {seed}")
    return [_picture(world.Scene("plain", (COLOURS[i % len(COLOURS)],), grain=rng.getrandbits(32))) for i in range(n)]


def two_halves(n: int, *, seed: int = 0, held_out: bool | None = True) -> list[Picture]:
    """`n` pictures of two halves of two colours. held_out: True, pairs of colours in an order no training picture has;
    False, those of training; None, both."""
    rng = random.Random(f"halves {seed}")
    return [_picture(world.draw(rng, "halves", held=held_out)) for _ in range(n)]


def scenes(n: int, *, seed: int = 0, held_out: bool | None = True, kinds: Sequence[str] = SCENES) -> list[Picture]:
    """`n` pictures of coloured shapes, `kinds` in turn, no two with the same caption as long as there are enough."""
    for kind in kinds:
        need_one_of(kind, SCENES, f"There is no kind of scene {kind!r}")
    rng, found, seen, tries = random.Random(f"scenes {seed}"), [], set(), 0
    while len(found) < n:
        picture = _picture(world.draw(rng, kinds[len(found) % len(kinds)], held=held_out))
        tries += 1
        if picture.caption not in seen or tries > 50 * n:
            seen.add(picture.caption)
            found.append(picture)
    return found


def question(ask: Ask, language: str, *, form: int | None = None, what: str = SLOT) -> tuple[str, str]:
    """(prompt, answer) about `what` in the world's sentences. form: the number of the sentence form, None for the
    first, which no other language shares; the last one is neutral, ending in ":" everywhere. Raises SemhubError where
    there is none."""
    need_one_of(language, LANGUAGES, f"There is no language {language!r}")
    numbers = forms(ask.kind, LANGUAGES[language])
    form = numbers[0] if form is None and numbers else form
    there = f"forms {', '.join(map(str, numbers))}" if numbers else "another language"
    need(form in numbers, f"The question {ask.kind!r} has no form {form} in {language}; {there} would do.")
    return write(ask, LANGUAGES[language], form, what=what)


def word(key: str, language: str) -> str:
    """A colour, shape or other word of the world in a language: `word("red", "spanish") == "rojo"`."""
    need_one_of(language, LANGUAGES, f"There is no language {language!r}")
    return surface(key, LANGUAGES[language])


def least_overlapping(pictures: Sequence[Picture]) -> list[int]:
    """For every picture the number of the one whose words overlap least with its own, the next in line among equals."""
    n = len(pictures)
    return [
        min(
            ((i + step) % n for step in range(1, n)),
            key=lambda j, i=i: len({*pictures[i].words} & {*pictures[j].words}),
            default=i,
        )
        for i in range(n)
    ]


def _picture(scene: world.Scene) -> Picture:
    areas = [Area(box, (colour,)) for colour, box in zip(scene.colours, scene.sides.values(), strict=False)]
    if scene.kind == "plain":
        areas = [Area((0, 0, world.SIZE, world.SIZE), scene.colours)]
    areas += [Area(t.box, (t.colour, t.shape)) for t in scene.things]
    words = tuple(dict.fromkeys(w for area in areas for w in area.words))
    held = world.held_out().shows(scene)
    where = ",".join(str(t.cell) for t in scene.things) or scene.split
    content = f"{scene.kind}: {' '.join(w for a in areas for w in a.words)}"
    return Picture(
        f"{content} {where} {scene.grain}", world.render(scene), world.caption(scene), words, tuple(areas),
        tuple(world.questions(scene)), content, scene.split, held,
    )  # fmt: skip


# Items

KINDS = ("noun", "colour")


@dataclass(frozen=True, eq=False)
class SeenItem(Item):
    """A picture, or an area of it, and the English words it is read for. wrong: what the right ones are compared with,
    word for word where there are as many; released: the right and wrong words of the paper's release, whose wrong ones
    are scaled to the number of the right ones. group, anchor and cluster as in `items`."""

    id: str
    picture: Picture
    right: tuple[str, ...]
    wrong: tuple[str, ...]
    released: tuple[tuple[str, ...], tuple[str, ...]]
    group: str
    anchor: str
    cluster: str
    area: Area | None = None

    @property
    def prompt(self) -> Input:
        return alone(self.picture)

    def places(self, encoding: Encoding) -> list[int]:
        """The positions of the picture, or those of the patches that are more than half inside the area; none where
        the model lays its patches on no grid."""
        return encoding.patches if self.area is None else self.picture.places(self.area, encoding)

    def elsewhere(self, encoding: Encoding) -> list[int]:
        """The positions in no area of the picture of which a right word is true; none where there is no area."""
        if self.area is None or encoding.grid is None:
            return []
        same = [area for area in self.picture.areas if {*area.words} & {*self.right}]
        taken = {place for area in same for place in self.picture.places(area, encoding)}
        return [place for place in encoding.patches if place not in taken]


def of_kind(words: Sequence[str], kind: str) -> tuple[str, ...]:
    """Those of a picture's words that are of a kind: "colour", or "noun", which are the others."""
    return tuple(w for w in words if (w in COLOURS) == (kind == "colour"))


def names(pictures: Sequence[Picture]) -> dict[str, Picture]:
    """The pictures by a short name: what they show, or the beginning of the caption."""
    return {" ".join(p.words) if p.asks else shorten(p.caption, 30, placeholder=" …"): p for p in pictures}


def alone(picture: Picture) -> Input:
    """A picture without a word, as a prompt."""
    return Input("", (picture.image,))


def similarity_pairs(pictures: Sequence[Picture]) -> list[Pair]:
    """A picture and its caption. Group: how much it shows, as captions of the world are as long then; anchor: the
    caption's last word; words: the first thing. Of photographs none is known."""
    return [
        Pair(
            p.id, alone(p), p.caption, _group(p), p.cluster,
            p.caption.split()[-1] if p.asks else "", (p.areas[0].words[-1],) if p.asks else (),
        )
        for p in pictures
    ]  # fmt: skip


def colour_items(pictures: Sequence[Picture]) -> list[SeenItem]:
    """Plain pictures, read for their colour against all others. As released: against "white". As there are no more
    colours than these, the unit is the picture; a null moves whole colours."""
    found = []
    for p in pictures:
        (own,) = p.words
        others = tuple(colour for colour in COLOURS if colour != own)
        released = ((own,), ("white",)) if own != "white" else ((), ())
        found.append(SeenItem(p.id, p, (own,), others, released, "plain", own, p.id))
    return found


def caption_items(pictures: Sequence[Picture], kind: str = "noun", *, seed: int = 0) -> list[SeenItem]:
    """Pictures, read for the words of a kind in their caption against those of the least overlapping other caption:
    what both have left out, and as many of each, drawn by `seed`. As released: all of both, scaled. Group: how many
    words. Where a picture has no word of the kind, or none that the other has not, there are none on either side."""
    rng, found = np.random.default_rng(seed), []
    pictures = [replace(p, words=of_kind(p.words, kind)) for p in pictures]
    worded = [p for p in pictures if p.words]
    others = {id(p): worded[j].words for p, j in zip(worded, least_overlapping(worded), strict=True)}
    for p in pictures:
        other = others.get(id(p), ())
        own, wrong = ([w for w in some if w not in common] for some, common in ((p.words, other), (other, p.words)))
        k = min(len(own), len(wrong))
        right, wrong = (tuple(some[i] for i in sorted(rng.permutation(len(some))[:k])) for some in (own, wrong))
        anchor = right[0] if p.asks and k == 1 else p.cluster
        found.append(SeenItem(p.id, p, right, wrong, (p.words, other), f"{k} words", anchor, p.cluster))
    return found


def area_items(pictures: Sequence[Picture], kind: str = "noun", *, seed: int = 0) -> list[SeenItem]:
    """Areas of pictures, read for their word of a kind (an area may have none) against all the words of areas that are
    not true of the picture. As released: against one of these, drawn by `seed`. Anchor: the word; cluster: the
    picture's content."""
    rng, found = np.random.default_rng(seed), []
    labels = list(dict.fromkeys(w for p in pictures for area in p.areas for w in of_kind(area.words, kind)))
    for p in pictures:
        shown = {w for area in p.areas for w in area.words}
        wrong = tuple(w for w in labels if w not in shown)
        for number, area in enumerate(p.areas):
            right = of_kind(area.words, kind)[-1:]
            drawn = (right, (wrong[rng.integers(len(wrong))],) if wrong else ())
            anchor = right[0] if right else p.cluster
            found.append(SeenItem(f"{p.id} {number}", p, right, wrong, drawn, "areas", anchor, p.cluster, area))
    return found


def ask_items(pictures: Sequence[Picture], kind: str, language: str, *, manner: str = "world") -> list[LensItem]:
    """The first question of a kind ("colour", "shape") that each picture allows, in a language and one of the two
    manners of `vision`, cut before the answer. Targets: the answer there ("own") and in "english". Pictures that allow
    none are left out, and in the world's sentences of other languages than English those few whose answer the shipped
    model was taught there. Raises SemhubError on an unknown language or manner."""
    found, taught = [], {*ABROAD} if manner == "world" and language != "english" else set()
    for p in pictures:
        ask = next((a for a in p.asks if a.kind == kind), None)
        if ask is not None and not {*ask.answers} & taught:
            text = in_manner(ask, language, manner, PLAIN[kind])
            _, answer = question(ask, language)
            words = {"own": (answer,), "english": ask.answers}
            found.append(LensItem(p.id, Input(text, (p.image,)), words, p.cluster, group=kind, anchor=answer))
    return found


def _group(picture: Picture) -> str:
    return picture.cluster.partition(":")[0]


# Interventions

ANSWERS = {
    "colour": {"english": "The color is", "spanish": "El color es", "chinese": "颜色是", "german": "Die Farbe ist"},
    "shape": {"english": "Shape:", "spanish": "Figura:", "chinese": "形状：", "german": "Form:"},
    "name": {"english": "It is a", "spanish": "Es un", "chinese": "这是", "german": "Es ist ein"},
    "kind": {"english": "It is a", "spanish": "Es un", "chinese": "这是", "german": "Es ist ein"},
}  # fmt: skip
"""Kind of question -> language -> how the answer to the plain question begins."""
SPELLED = {"grey": ("grey", "gray")}


def picture_patches(
    pictures: Sequence[Picture], language: str, *, manner: str = "world", seed: int = 0
) -> list[PatchItem]:
    """Every picture of one colour, or of one shape, asked for its colour in a language, with the sentence of another
    colour drawn by `seed` ("the color is blue"), a plain picture of that, and the sentence of a word of no colour.
    Written into: all patches that show any of what is coloured, or the old colour could still be read. Pictures of more
    are left out. Raises SemhubError on an unknown language or manner."""
    rng, items, shown = random.Random(f"patches {seed}"), [], _plain(seed)
    for picture in pictures:
        asks = [ask for ask in picture.asks if ask.kind == "colour"]
        if len(picture.areas) != 1 or not asks:
            continue
        own = picture.areas[0].words[0]
        new = rng.choice([c for c in COLOURS if c != own])
        no_colour = rng.choice([s for s in SHAPES if s not in picture.words])
        prompt = in_manner(asks[0], language, manner, PLAIN["colour"])
        own_text, new_text, other = (f"{picture.caption.rpartition(' ')[0]} {w}" for w in (own, new, no_colour))
        answer, expected = (said(w, language) for w in (own, new))
        kind = picture.id.partition(":")[0]
        items.append(
            PatchItem(
                id=f"{picture.id}: {new}", run=(Input(prompt, images=(picture.image,)), own_text), answer=answer,
                source=(Input(prompt, images=(shown[new],)), new_text), expected=expected, other=(None, other),
                cluster=picture.cluster, group=f"{kind} {language}", anchor=new,
                places=partial(picture.places, picture.areas[0], share=0.0),
            )
        )  # fmt: skip
    return items


def recolour_items(pictures: Sequence[Picture], *, manner: str = "world", seed: int = 0) -> list[RecolourItem]:
    """Every picture of two halves, asked in English for its two colours in any order; a third one is written into one
    half, drawn by `seed`. Pictures of the same two colours are one cluster, whichever comes first. Raises SemhubError
    on an unknown manner."""
    rng, items, shown = random.Random(f"recolour {seed}"), [], _plain(seed)
    for picture in pictures:
        if not picture.split:
            continue
        area = picture.areas[rng.randrange(2)]
        [present] = area.words
        third, another = rng.sample([c for c in COLOURS if c not in picture.words], 2)
        real = picture.image.copy()
        real.paste(shown[third].crop(area.box), area.box)
        ask = next(a for a in picture.asks if a.kind == "colours")
        prompt = in_manner(ask, "english", manner, PLAIN["colours"], lead=False)
        before = frozenset(ask.answers)
        items.append(
            RecolourItem(
                id=f"{picture.id}: {third}", prompts=(Input(prompt, images=(picture.image,)),), before=(before,),
                after=(before - {present} | {third},), present=present, third=third, another=another,
                source=(Input(prompt, images=(real,)),), places=partial(picture.places, area),
                named=partial(named_colours, "english"), cluster=f"halves: {' '.join(sorted(picture.words))}",
            )
        )  # fmt: skip
    return items


def named_colours(language: str, text: str) -> tuple[str, ...]:
    """The colours of the world, as English words, that the first line of a text in a language names, in order."""
    line = next((line for line in text.splitlines() if line.strip()), "")
    found = {}
    for colour in COLOURS:
        words = SPELLED.get(colour, (colour,)) if language == "english" else (word(colour, language),)
        edge = "" if language == "chinese" else r"\b"
        pattern = f"{edge}({'|'.join(map(re.escape, words))}){edge}"
        if named := re.search(pattern, line, re.IGNORECASE):
            found[colour] = named.start()
    return tuple(sorted(found, key=found.get))


def _plain(seed: int) -> dict[str, Image.Image]:
    """Each colour and a picture of it."""
    return {p.words[0]: p.image for p in plain_colours(len(COLOURS), seed=seed)}


def in_manner(
    ask: Ask, language: str, manner: str, plain: Mapping[str, str], *, what: str = SLOT, lead: bool = True
) -> str:
    """A question in one of the two manners; `plain`: the plain one by language, with the `lead` of its answer."""
    need_one_of(manner, ("world", "plain"), f"There is no manner {manner!r}")
    if manner == "world":
        return question(ask, language, what=what)[0]
    need_one_of(language, plain, f"There is no plain question in {language!r}")
    return f"{plain[language]}\n{ANSWERS[ask.kind][language]}" if lead else plain[language]


def said(key: str, language: str) -> tuple[str, str | None]:
    """A word in a language, and in English where that is another."""
    return word(key, language), key if language != "english" else None

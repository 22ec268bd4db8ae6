"""Pictures as data: plain colours, two halves, scenes of coloured shapes, with what is true of them in words.

A question is asked in two manners: in the world's own sentences, in which the picture stands for a word (the shipped
models know no others), and in plain ones for models that are used to being asked. Every text in the world's sentences
holds SLOT where the picture is; whoever runs a model puts the model's own placeholder there, or leaves it out where the
picture stands in front.
By default the pictures are those held out: combinations that no training picture shows.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from semhub_utils.errors import SemhubError
from semhub_utils.inputs import Encoding
from semhub_utils.organism import scenes as world
from semhub_utils.organism.corpus import IMAGE, Ask, forms, write
from semhub_utils.organism.lexicon import surface
from semhub_utils.spokes.coco import Segment, cells

View = tuple[float, float, float, float]
WHOLE: View = (0.0, 0.0, 1.0, 1.0)
SLOT = IMAGE
LANGUAGES = {"english": "en", "spanish": "es", "chinese": "zh", "german": "de", "code": "code"}
COLOURS = tuple(world.COLOURS)
SHAPES = world.SHAPES
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
    outside it), or a photograph's segment, and the English words true of it, colour first."""

    box: tuple[int, int, int, int]
    words: tuple[str, ...]
    segment: Segment | None = None

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


@lru_cache(4096)  # a photograph's segments are drawn or read from a file
def _inside(area: Area, size: tuple[int, int], grid: tuple[int, int], view: View) -> Float[np.ndarray, "row column"]:
    return cells(area.mask(size), grid, view)


def plain_colours(n: int, *, seed: int = 0, colours: Sequence[str] = COLOURS) -> list[Picture]:
    """`n` pictures of one colour each, the colours in turn, shades and grain drawn by `seed`. Raises SemhubError on an
    unknown colour."""
    for colour in colours:
        _known("colour", colour, COLOURS)
    rng = _drawn(n, f"plain {seed}")
    return [_picture(world.Scene("plain", (colours[i % len(colours)],), grain=rng.getrandbits(32))) for i in range(n)]


def two_halves(n: int, *, seed: int = 0, held_out: bool | None = True, split: str | None = None) -> list[Picture]:
    """`n` pictures of two halves of two colours, `split` "across" or "down" or, if None, either. held_out: True, pairs
    of colours in an order no training picture has; False, those of training; None, both."""
    if split is not None:
        _known("split", split, tuple(world.SIDES))
    rng, found = _drawn(n, f"halves {seed}"), []
    while len(found) < n:
        scene = world.draw(rng, "halves", held=held_out)
        if split in (None, scene.split):
            found.append(_picture(scene))
    return found


def scenes(
    n: int, *, seed: int = 0, held_out: bool | None = True, kinds: Sequence[str] = ("one", "two", "three")
) -> list[Picture]:
    """`n` pictures of coloured shapes, `kinds` in turn, no two with the same caption as long as there are enough."""
    for kind in kinds:
        _known("kind of scene", kind, ("one", "two", "three"))
    rng, found, seen, tries = _drawn(n, f"scenes {seed}"), [], set(), 0
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
    _known("language", language, tuple(LANGUAGES))
    numbers = forms(ask.kind, LANGUAGES[language])
    if form is None and numbers:
        form = numbers[0]
    if form not in numbers:
        there = f"forms {', '.join(map(str, numbers))}" if numbers else "another language"
        raise SemhubError(f"The question {ask.kind!r} has no form {form} in {language}; {there} would do.")
    return write(ask, LANGUAGES[language], form, what=what)


def word(key: str, language: str) -> str:
    """A colour, shape or other word of the world in a language: `word("red", "spanish") == "rojo"`."""
    _known("language", language, tuple(LANGUAGES))
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


def _drawn(n: int, name: str) -> random.Random:
    if n < 1:
        raise SemhubError(f"n_items is {n}; a whole number from 1 would do.")
    return random.Random(name)


def _known(what: str, given: str, there: Sequence[str]) -> None:
    if given not in there:
        raise SemhubError(f"There is no {what} {given!r}; one of {', '.join(there)} would do.")

"""Pictures of the world: plain colours, two halves, and one to three coloured shapes; drawn by seed, described truly.

Colours and shapes are words of the lexicon, so every text about a picture can be written in all types. Held out, and in
no picture of the training stream: some pairs of colour and shape, some ordered pairs of colours of two halves, and for
every shape one cell of the grid. Some training pictures show shapes in colours that have no name, most of them on paper
of any colour, so that a shape is learnt apart from its colour; none is in or near a colour that is held out with it.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain, cycle

import numpy as np
from PIL import Image, ImageColor, ImageDraw

from semhub_utils.organism.corpus import Ask, Shares, pick

SIZE = 72  # width and height of a picture in pixels
GRID = 2  # cells of the grid that scenes of several things are laid out on, a side
COLOURS = {
    "red": (220, 30, 35), "blue": (35, 70, 215), "green": (30, 150, 50), "yellow": (246, 220, 40),
    "white": (250, 250, 250), "black": (16, 16, 16), "brown": (120, 70, 30), "orange": (246, 135, 25),
    "pink": (246, 145, 190), "purple": (120, 40, 160), "grey": (128, 128, 128),
}  # fmt: skip
"""Colour word -> red, green and blue, 0 to 255."""
SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond")
PAPER = (205, 192, 160)  # what things lie on: a beige that is none of the colours
OTHER_PAPER = 0.6  # share of the nameless scenes that lie on paper of another colour
KINDS = ("plain", "halves", "one", "two", "three")
NAMELESS = "nameless"  # the kind of scenes of one to three shapes whose colours have no name; in training only
SHADE = 10  # largest shift of a colour's channels, of 255; a picture's light adds up to 6% to all of it
# How far, in red, green and blue together, a colour is at least from those that are held out with its shape; shade and
# light move a colour by less than half of it.
NEAR = 64.0
_OVERSAMPLE = 3

Box = tuple[int, int, int, int]
HALF = SIZE // 2
WHOLE: Box = (0, 0, SIZE, SIZE)
SIDES: dict[str, dict[str, Box]] = {
    "across": {"left": (0, 0, HALF, SIZE), "right": (HALF, 0, SIZE, SIZE)},
    "down": {"north": (0, 0, SIZE, HALF), "south": (0, HALF, SIZE, SIZE)},
}
"""The two halves of a picture by their words; the world has no "top", so up is north, as on a map."""


@dataclass(frozen=True)
class Thing:
    """A coloured shape in a box of pixels (left, top, right, bottom; right and bottom are outside), in a cell of the
    grid (row by row from the top left), turned by `angle` degrees. colour: a word, or "#rrggbb" without a name."""

    colour: str
    shape: str
    box: Box
    cell: int
    angle: float = 0.0


@dataclass(frozen=True)
class Scene:
    """What a picture shows: `kind` is one of KINDS or NAMELESS. Plain colours and halves have `colours` (one, or two in
    reading order) and `split` ("across" for left and right, "down"); the others have `things`, in reading order, on
    `paper`, "#rrggbb", or PAPER without one. `grain` seeds shade, light and noise."""

    kind: str
    colours: tuple[str, ...] = ()
    split: str = ""
    things: tuple[Thing, ...] = ()
    grain: int = 0
    paper: str = ""

    @property
    def sides(self) -> dict[str, Box]:
        """The halves by their words, in reading order, as boxes of pixels; the whole of a plain colour by no word."""
        return SIDES.get(self.split, {"": WHOLE})


@dataclass(frozen=True)
class Held:
    """What no training picture shows."""

    pairs: frozenset[tuple[str, str]]  # colour, shape
    halves: frozenset[tuple[str, str]]  # first colour, second colour
    places: frozenset[tuple[str, int]]  # shape, cell

    def shows(self, scene: Scene) -> bool:
        """Whether a scene holds anything held out."""
        pairs = {(word, t.shape) for t in scene.things for word in near(t.colour)} & self.pairs
        places = {(t.shape, t.cell) for t in scene.things if scene.kind != "one"} & self.places
        return bool(pairs or places or (scene.split and scene.colours in self.halves))


@cache
def held_out() -> Held:
    """The split: two shapes of every third colour and one of the others, a fifth of the halves, a cell per shape."""
    rng = random.Random("scenes 0")
    colours = rng.sample(list(COLOURS), len(COLOURS))
    shapes = [rng.sample(SHAPES, len(SHAPES)) for _ in range(3)]
    order = [s for block in shapes for s in block]  # every shape is held out two or three times
    pairs = {(c, order[i]) for i, c in enumerate(colours)} | {(c, order[i + 11]) for i, c in enumerate(colours[:4])}
    halves = [(a, b) for a in COLOURS for b in COLOURS if a != b]
    places = {(s, rng.randrange(GRID * GRID)) for s in SHAPES}
    return Held(frozenset(pairs), frozenset(rng.sample(halves, len(halves) // 5)), frozenset(places))


def draw(rng: random.Random, kind: str, *, held: bool | None = False) -> Scene:
    """A scene of a kind. held: False, nothing held out (as in training); True, something held out; None, either.

    ValueError for an unknown kind, or for a held-out plain colour: there is none.
    """
    if kind not in (*KINDS, NAMELESS) or (held and kind == "plain"):
        raise ValueError(f"there are no {'held-out ' if held else ''}scenes of the kind {kind!r}")
    while True:
        scene = _draw(rng, kind)
        if held is None or held_out().shows(scene) == held:
            return scene


def _draw(rng: random.Random, kind: str) -> Scene:
    grain = rng.getrandbits(32)
    if kind == "plain":
        return Scene(kind, (rng.choice(list(COLOURS)),), grain=grain)
    if kind == "halves":
        return Scene(kind, tuple(rng.sample(list(COLOURS), 2)), rng.choice(list(SIDES)), grain=grain)
    paper = ""
    if kind == NAMELESS:
        n = rng.choice((1, 1, 2, 3))
        paper = _nameless(rng) if rng.random() < OTHER_PAPER else ""
        colours = [_nameless(rng, pixel(paper) if paper else PAPER) for _ in range(n)]
    else:
        n = ("one", "two", "three").index(kind) + 1
        colours = rng.sample(list(COLOURS), n)
    shapes = rng.sample(SHAPES, n)
    cells = sorted(rng.sample(range(GRID * GRID), n))
    things = tuple(
        Thing(c, s, *_place(rng, cell, alone=n == 1), rng.uniform(-8, 8))
        for c, s, cell in zip(colours, shapes, cells, strict=True)
    )
    return Scene(kind, things=things, grain=grain, paper=paper)


def _nameless(rng: random.Random, paper: tuple[int, int, int] | None = None) -> str:
    """Any colour, if it can be told from the paper it is for."""
    while True:
        colour = f"#{rng.getrandbits(24):06x}"
        if paper is None or math.dist(pixel(colour), paper) > 60:
            return colour


def pixel(colour: str) -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255, of a colour's word or of "#rrggbb"."""
    return COLOURS.get(colour) or ImageColor.getrgb(colour)


def near(colour: str) -> list[str]:
    """The colour words less than NEAR from a colour: a word's own, of one without a name, none or a few."""
    if colour in COLOURS:
        return [colour]
    return [word for word, there in COLOURS.items() if math.dist(there, pixel(colour)) < NEAR]


def _place(rng: random.Random, cell: int, alone: bool) -> tuple[Box, int]:
    """A square box somewhere in its cell; a thing alone may be of any size, anywhere."""
    room = SIZE if alone else HALF
    left, top = (0, 0) if alone else (cell % GRID * room, cell // GRID * room)
    side = rng.randint(30, 60) if alone else rng.randint(26, 33)
    x, y = left + rng.randint(1, room - side - 1), top + rng.randint(1, room - side - 1)
    if alone:  # the cell that holds its middle
        cell = (y + side // 2) * GRID // SIZE * GRID + (x + side // 2) * GRID // SIZE
    return (x, y, x + side, y + side), cell


def patches(box: Box, patch: int) -> list[int]:
    """Numbers, row by row, of the square patches (so many pixels a side) that are more than half inside a box."""
    left, top, right, bottom = box
    inside, across = np.zeros((SIZE, SIZE), int), SIZE // patch
    inside[top:bottom, left:right] = 1
    covered = inside.reshape(across, patch, across, patch).sum((1, 3))
    return np.flatnonzero(2 * covered > patch * patch).tolist()


# ---- pixels ----


def render(scene: Scene) -> Image.Image:
    """The picture of a scene, RGB, SIZE x SIZE; the same pixels at every call."""
    rng = np.random.default_rng(scene.grain)
    big = SIZE * _OVERSAMPLE

    def shade(colour: tuple[int, int, int]) -> tuple[int, int, int]:
        return tuple(int(v) for v in np.clip(np.array(colour) + rng.integers(-SHADE, SHADE + 1, 3), 0, 255))

    image = Image.new("RGB", (big, big), shade(pixel(scene.paper) if scene.paper else PAPER))
    pen = ImageDraw.Draw(image)
    for colour, box in zip(scene.colours, scene.sides.values(), strict=False):
        pen.rectangle([_OVERSAMPLE * v - (i > 1) for i, v in enumerate(box)], fill=shade(COLOURS[colour]))
    for thing in scene.things:
        outline = [(x * _OVERSAMPLE, y * _OVERSAMPLE) for x, y in _outline(thing)]
        pen.polygon(outline, fill=shade(pixel(thing.colour)))
    pixels = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BOX), dtype=np.float32)
    pixels = pixels * rng.uniform(0.94, 1.0) + rng.normal(0, 3.0, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _outline(thing: Thing) -> list[tuple[float, float]]:
    """Corners of the shape in pixels, turned about the middle of its box, touching the box."""
    left, top, right, bottom = thing.box
    middle_x, middle_y, radius = (left + right) / 2, (top + bottom) / 2, (right - left) / 2
    cos, sin = math.cos(math.radians(thing.angle)), math.sin(math.radians(thing.angle))
    points = [(x * cos - y * sin, x * sin + y * cos) for x, y in _OUTLINES[thing.shape]]
    reach = max(max(abs(x), abs(y)) for x, y in points)
    return [(middle_x + radius * x / reach, middle_y + radius * y / reach) for x, y in points]


def _ring(n: int, start: float, *radii: float) -> tuple[tuple[float, float], ...]:
    """n corners about the origin, the first at `start` degrees, their distances the radii in turn."""
    angles = [math.radians(start) + 2 * math.pi * i / n for i in range(n)]
    return tuple((r * math.cos(a), r * math.sin(a)) for r, a in zip(cycle(radii), angles, strict=False))


_CROSS = ((-0.32, -1.0), (0.32, -1.0), (0.32, -0.32), (1.0, -0.32), (1.0, 0.32), (0.32, 0.32))
_OUTLINES = {
    "circle": _ring(48, 0.0, 1.0),
    "square": ((-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)),
    "triangle": ((0.0, -1.0), (1.0, 0.9), (-1.0, 0.9)),
    "star": _ring(10, -90.0, 1.0, 0.42),
    "cross": _CROSS + tuple((-x, -y) for x, y in _CROSS),
    "diamond": ((0.0, -1.0), (0.72, 0.0), (0.0, 1.0), (-0.72, 0.0)),
}
"""Corners about the origin, y downwards."""


# ---- words ----


def questions(scene: Scene) -> list[Ask]:
    """All that can be asked of a scene: "colour" and "shape" of what stands alone, "side" (a half's colour), "colours"
    (both halves'), "number" (how many things), "colour of" (a shape's), and "shape of" (a colour's)."""
    things, number = scene.things, Ask("number", "", (str(len(scene.things)),))
    if scene.kind == "plain":
        return [Ask("colour", "", scene.colours)]
    if scene.kind == "halves":
        sides = [Ask("side", side, (c,)) for side, c in zip(scene.sides, scene.colours, strict=True)]
        return [*sides, Ask("colours", "", scene.colours)]
    if scene.kind == NAMELESS:
        return [number, *(Ask("shape", "", (t.shape,)) for t in things if len(things) == 1)]
    of = [[Ask("colour of", t.shape, (t.colour,)), Ask("shape of", t.colour, (t.shape,))] for t in things]
    if scene.kind == "one":
        (thing,) = things
        return [Ask("colour", "", (thing.colour,)), Ask("shape", "", (thing.shape,)), of[0][0], number]
    return [number, *chain(*of)]


def caption(scene: Scene) -> str:
    """An English sentence true of the picture: `the circle has the color red and the star has the color blue`."""
    if scene.kind == "plain":
        return f"the color is {scene.colours[0]}"
    named = [(f"the {t.shape}", t.colour) for t in scene.things] or zip(scene.sides, scene.colours, strict=True)
    return " and ".join(f"{who} has the color {c}" for who, c in named)


def stream(rng: random.Random, menu: Shares) -> Iterator[Scene]:
    """The endless stream of training scenes, nothing held out among them."""
    while True:
        yield draw(rng, pick(rng, menu))

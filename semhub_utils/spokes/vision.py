"""Pictures as data: plain colours, two halves, scenes of coloured shapes, and photographs of COCO (val2017,
cocodataset.org), with what is true of them in words.

A question is asked in two manners: in the world's own sentences, where SLOT stands for the picture (the shipped models
know no others), and in plain ones for models that are used to being asked. By default the pictures are those held out:
combinations that no training picture shows.
"""

import json
import random
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from itertools import compress
from operator import attrgetter
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image, ImageDraw, ImageOps, UnidentifiedImageError

from semhub_utils.errors import SemhubError, half_characters, need, need_one_of, reason
from semhub_utils.inputs import Encoding, Input, rgb
from semhub_utils.organism import scenes as world
from semhub_utils.organism.corpus import ABROAD, IMAGE, Ask, forms, write
from semhub_utils.organism.world import concepts, surface
from semhub_utils.spokes import facts
from semhub_utils.spokes.files import PublicSet, below, named, plain, read_text, usable
from semhub_utils.spokes.items import Item, Items, LeftOut, LensItem, Pair, PatchItem, RecolourItem, collected, shuffled
from semhub_utils.spokes.languages import words_in

View = tuple[float, float, float, float]
WHOLE: View = (0.0, 0.0, 1.0, 1.0)
SLOT = IMAGE
LANGUAGES = facts.LANGUAGES | {"code": "code"}
COLOURS = tuple(world.COLOURS)
SHAPES = world.SHAPES
KINDS = ("noun", "colour")
SPACY = "en_core_web_sm"


@dataclass(frozen=True, eq=False)
class Area:
    """Part of a picture that is about something: a box of pixels (left, top, right, bottom; right and bottom are
    outside it), and the English words true of it, colour first. region: of a photograph, polygons [x, y, x, y ...], run
    lengths down the columns, or a colour number and the picture that is painted with it."""

    box: tuple[int, int, int, int]
    words: tuple[str, ...]
    region: Any = None

    def mask(self, size: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
        """Where in a picture of this width and height it is. Raises SemhubError if its painted one cannot be read."""
        if isinstance(self.region, tuple):
            number, path = self.region
            return np.asarray(read_image(path)).astype(int) @ (1, 256, 65536) == number
        if self.region and isinstance(self.region[0], int):
            inside = np.arange(len(self.region)) % 2 == 1
            return np.repeat(inside, self.region).reshape(size).T
        left, top, right, bottom = self.box
        # four times as fine, since drawing takes in every pixel on the line, which would widen what is small
        canvas = Image.new("L", (4 * size[0], 4 * size[1]))
        for polygon in self.region or [(left, top, right, top, right, bottom, left, bottom)]:
            ImageDraw.Draw(canvas).polygon([4 * number - 0.5 for number in polygon], fill=255)
        return np.asarray(canvas.reduce(4)) > 127


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture and what is true of it. caption: an English sentence; words: its colours and nouns; areas: where they
    are; asks: what can be asked; cluster: the unit that intervals are over (pictures of one content are one unit);
    held_out: no training picture shows this combination."""

    id: str
    image: Image.Image
    caption: str
    words: tuple[str, ...]
    areas: tuple[Area, ...]
    asks: tuple[Ask, ...]
    cluster: str
    held_out: bool = False

    def places(self, area: Area, encoding: Encoding, *, share: float = 0.5) -> list[int]:
        """The positions of the patches that are inside an area by more than a share of them: all where that is the
        whole picture, none where the model lays its patches on no grid."""
        if area.box == (0, 0, *self.image.size):
            return encoding.patches
        if encoding.grid is None:
            return []
        inside = cells(area, self.image.size, encoding.grid, encoding.view)
        return [*compress(encoding.patches, inside.flat > share + 1e-6)]  # half a patch may come out a rounding above


@lru_cache(4096)  # a photograph's segments are drawn or read from a file
def cells(
    area: Area, size: tuple[int, int], grid: tuple[int, int], view: View = WHOLE
) -> Float[np.ndarray, "row column"]:
    """How much of every cell of a grid (rows, columns) over a picture of this width and height lies inside an area, as
    a share. view: the part of the picture under the grid (as in `Encoding`); it may be more than the picture."""
    box = np.multiply(view, (*size, *size))
    more = max(0, int(np.ceil(max(*-box[:2], *(box[2:] - size)))))
    wide = Image.fromarray(np.pad(area.mask(size), more).astype(np.float32))
    return np.asarray(wide.resize(grid[::-1], Image.Resampling.BOX, box=tuple(box + more))).astype(float)


def plain_colours(n: int, *, seed: int = 0) -> Items:
    """`n` pictures of one colour each, the colours in turn, shades and grain drawn by `seed`."""
    rng = random.Random(f"plain {seed}")
    drawn = ((COLOURS[i % len(COLOURS)], rng.getrandbits(32)) for i in range(n))
    return Items(_picture(world.Scene("plain", (colour,), grain=grain)) for colour, grain in drawn)


def two_halves(n: int, *, seed: int = 0, held_out: bool | None = True) -> Items:
    """`n` pictures of two halves of two colours. held_out: True, pairs of colours in an order no training picture has;
    False, those of training; None, both."""
    rng = random.Random(f"halves {seed}")
    return Items(_picture(world.draw(rng, "halves", held=held_out)) for _ in range(n))


def scenes(n: int, *, seed: int = 0, held_out: bool | None = True, kinds: Sequence[str] = world.KINDS[2:]) -> Items:
    """`n` pictures of coloured shapes, `kinds` in turn, no two with the same caption as long as there are enough."""
    rng, found, seen, tries = random.Random(f"scenes {seed}"), Items(), set(), 0
    while len(found) < n:
        scene = world.draw(rng, kinds[len(found) % len(kinds)], held=held_out)
        caption, tries = world.caption(scene), tries + 1
        if caption not in seen or tries > 50 * n:
            seen.add(caption)
            found.append(_picture(scene))
    return found


@lru_cache(1024)  # a chapter asks several things of one scene
def _picture(scene: world.Scene) -> Picture:
    areas = [Area(box, (colour,)) for colour, box in zip(scene.colours, scene.sides.values(), strict=False)]
    areas += [Area(thing.box, (thing.colour, thing.shape)) for thing in scene.things]
    every = [w for area in areas for w in area.words]
    content = f"{scene.kind}: {' '.join(every)}"
    where = ",".join(str(thing.cell) for thing in scene.things) or scene.split
    of = world.render(scene), world.caption(scene), tuple(dict.fromkeys(every)), tuple(areas)
    asks, held = tuple(world.questions(scene)), world.held_out().shows(scene)
    return Picture(f"{content} {where} {scene.grain}", *of, asks, content, held)


# Of COCO


def _coco(of: str, *kinds: str) -> PublicSet:
    files = (f"{root}annotations/{kind}_val2017.json" for kind in kinds for root in ("coco/", ""))
    return PublicSet(f"COCO's {of}", tuple(files), "cocodataset.org (2017 Val)")


CAPTIONS, SEGMENTS = _coco("captions", "captions"), _coco("segments", "panoptic", "instances")


def pictures(n: int, *, seed: int = 0, data_dir: str | Path | None = None, segments: bool = False) -> Items:
    """`n` photographs (all there are, if that is fewer) drawn by `seed` from `data_dir`/coco: val2017/*.jpg with
    annotations/captions_val2017.json; with `segments`, those that have some in panoptic_val2017.json and its folder, or
    else in instances_val2017.json. Without `data_dir`, scenes of the shipped models' world. Picture.

    caption: the first one; words: its nouns and colours; areas: what COCO says is where, by the last word of its name.
    A photograph that is missing, damaged, without a caption (which segments do not need), or of another size than its
    segments (one that EXIF turns) is left out and counted. Raises SemhubError where a file is missing or not COCO's."""
    if data_dir is None:
        return scenes(n, seed=seed)
    of = CAPTIONS if CAPTIONS.at(data_dir) or not segments else SEGMENTS
    path, read = _annotations(of, data_dir, found := Items())
    found.source, folder, captions = named(path), path.parent.parent / "val2017", {}
    for annotation in read["annotations"]:
        text = str(annotation.get("caption") or "").strip()
        if isinstance(usable(text, ""), str) and not half_characters(text):
            captions.setdefault(annotation.get("image_id"), text)
    seen = _segments(data_dir, found) if segments else {}

    def photograph(entry: Mapping[str, Any]) -> Picture | LeftOut:
        name, key = entry.get("file_name"), entry.get("id")
        if key not in captions and not segments:
            return LeftOut("no caption", f"photograph {key}")
        if (file := below(folder, name)) is None:
            return LeftOut("no such photograph", f"photograph {key}")
        size, areas = seen.get(key, (None, ()))
        painted = {area.region[1] for area in areas if isinstance(area.region, tuple)}
        try:  # looked at now, so that no damaged one ends a run later
            image = read_image(file)
            sizes = {image.size, size or image.size, *(read_image(path).size for path in painted)}
        except SemhubError as error:
            return LeftOut("damaged" if file.is_file() else "no such photograph", str(error).split(";")[0])
        if len(sizes) > 1:
            return LeftOut("of another size than its segments", name)
        return Picture(f"coco:{key}", image, captions.get(key, ""), (), tuple(areas), (), f"coco:{key}")

    every = [entry for entry in read["images"] if not segments or entry.get("id") in seen]
    found.take(map(photograph, shuffled(every, seed)), n).some("photographs" + " with segments" * segments, folder)
    labels = {word for picture in found for area in picture.areas for word in area.words}
    for at, picture in enumerate(sorted(found, key=attrgetter("id"))):
        colours = [w for w in words_in(picture.caption) if w in COLOURS]
        found[at] = replace(picture, words=tuple(dict.fromkeys([*colours, *nouns_of(picture.caption, labels)])))
    return found


def _segments(data_dir: str | Path, found: Items) -> dict[int, tuple[tuple[int, int], list[Area]]]:
    """By photograph its size and what is where, of the panoptic files or the instances, whose name `found` gets."""
    path, read = _annotations(SEGMENTS, data_dir, found)
    found.source = ", ".join(sorted({found.source, named(path)}))
    names = {category.get("id"): category.get("name") for category in read["categories"]}
    sides = {entry.get("id"): (entry.get("width"), entry.get("height")) for entry in read["images"]}
    sizes = {key: size for key, size in sides.items() if all(isinstance(side, int) for side in size)}
    parts = {}
    for annotation in read["annotations"]:
        key = annotation.get("image_id")
        painted = below(path.parent / "panoptic_val2017", annotation.get("file_name")) or path.parent
        for part in plain(annotation.get("segments_info", [annotation]), found, path.name):
            region = (part.get("id"), painted) if "segments_info" in annotation else part.get("segmentation")
            region = region.get("counts") if isinstance(region, dict) else region
            name, place = names.get(part.get("category_id")), f"{path.name}: {part.get('id')}"
            words = str(name or "").split("-")[0].split()  # "dining table" is a table, "tree-merged" a tree
            if not words or key not in sizes:
                found.drop("unknown label or photograph", place)
            elif not _usable(region, sizes[key]):
                found.drop("segment in a form that is not read", place)
            else:
                area = Area((0, 0, 0, 0), (words[-1].lower(),), region)
                parts.setdefault(key, (sizes[key], []))[1].append(area)
    return parts


def _usable(region: object, size: tuple[int, int]) -> bool:
    if isinstance(region, tuple):
        return isinstance(region[0], int) and region[1].is_file()
    region = region if isinstance(region, list) and region else [None]
    if all(isinstance(run, int) for run in region):
        return sum(region) == size[0] * size[1]
    polygons = [of if isinstance(of, list) and all(isinstance(n, int | float) for n in of) else [] for of in region]
    return all(len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in polygons)


def _annotations(coco: PublicSet, data_dir: str | Path, found: Items) -> tuple[Path, dict]:
    path = coco.find(data_dir)
    try:
        read = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise SemhubError(f"{path} is not whole JSON ({reason(error)}); that of {coco.source} would do.") from error
    whole = isinstance(read, dict) and all(isinstance(read.get(key), list) for key in ("images", "annotations"))
    need(whole, f"{path} has no images and annotations; the file of {coco.source} would do.")
    for key in ("images", "annotations", "categories"):
        read[key] = plain(read.get(key), found, f"{path.name}: {key}")
    return path, read


def read_image(path: str | Path) -> Image.Image:
    """A picture file in RGB of 8 bits, upright as its EXIF says, on white where it is transparent, the first of several
    frames. Raises SemhubError where the file is missing, no picture, or cut short."""
    try:
        with Image.open(path) as image:
            return rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError as error:
        raise SemhubError(f"There is no picture {path}; the path of a file that exists would do.") from error
    except UnidentifiedImageError as error:
        raise SemhubError(f"{path} is not a picture that can be read; a JPEG or PNG file would do.") from error
    except Image.DecompressionBombError as error:
        raise SemhubError(f"{path} is too large a picture; one of under 100 million pixels would do.") from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError) as error:
        raise SemhubError(f"{path} is damaged or cut short; a whole picture file would do.") from error


@cache
def tagger() -> Callable[[str], Any] | None:
    """spaCy's tagger; None where it or its English model is not installed."""
    try:
        import spacy  # read only when photographs are

        return spacy.load(SPACY)
    except (ImportError, OSError):
        return None


def nouns_of(caption: str, labels: Collection[str] = ()) -> list[str]:
    """The nouns of a caption, as spaCy's tagger has them; without it, the words that the world's lexicon knows as such,
    or that name a segment, in the plural too."""
    if tag := tagger():
        return [word.text.lower() for word in tag(caption) if word.pos_ in ("NOUN", "PROPN")]
    known = {*labels, *(key for key, concept in concepts().items() if concept.kind == "noun")} - {*COLOURS}
    return [w for w in words_in(caption) if w in known or (w.endswith("s") and w[:-1] in known)]


def nouns_found_by(data_dir: str | Path | None) -> str:
    """A sentence for the reader: by what the nouns of photographs' captions were found; empty for scenes."""
    how = f"spaCy's tagger ({SPACY})" if tagger() else "the book's lexicon and the names of segments, without spaCy"
    return f"Nouns of captions are found by {how}." if data_dir else ""


@dataclass(frozen=True, eq=False)
class SeenItem(Item):
    """A picture, or an area of it, and the English words it is read for. wrong: what the right ones are compared with,
    word for word where there are as many; released: right and wrong ones of the paper's release, the latter scaled to
    the number of the former. group, anchor and cluster as in `items`."""

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
    return {" ".join(p.words) if p.asks else shorten(p.caption, 30, placeholder=" …") or p.id: p for p in pictures}


def alone(picture: Picture) -> Input:
    """A picture without a word, as a prompt."""
    return Input("", (picture.image,))


@collected
def similarity_pairs(pictures: Sequence[Picture]) -> Iterator[Pair]:
    """A picture and its caption. Group: how much it shows, as captions of the world are as long then; anchor: the
    caption's last word; words: the first thing. Of photographs none is known."""
    for p in pictures:
        last, first = (p.caption.split()[-1], (p.areas[0].words[-1],)) if p.asks else ("", ())
        yield Pair(p.id, alone(p), p.caption, p.cluster.partition(":")[0], p.cluster, last, first)


@collected
def colour_items(pictures: Sequence[Picture]) -> Iterator[SeenItem]:
    """Plain pictures, read for their colour against all others. As released: against "white". As there are no more
    colours than these, the unit is the picture; a null moves whole colours."""
    for p in pictures:
        others = tuple(colour for colour in COLOURS if colour not in p.words)
        released = (p.words, ("white",)) if "white" in others else ((), ())
        yield SeenItem(p.id, p, p.words, others, released, "plain", *p.words, p.id)


@collected
def caption_items(pictures: Sequence[Picture], kind: str = "noun", *, seed: int = 0) -> Iterator[SeenItem]:
    """Pictures, read for the words of a kind in their caption against those of the least overlapping other caption:
    what both have left out, and as many of each, drawn by `seed`. As released: all of both, scaled. Group: how many
    words. Where a picture has no word of the kind, or none that the other has not, there are none on either side."""
    rng = np.random.default_rng(seed)
    pictures = [replace(p, words=of_kind(p.words, kind)) for p in pictures]
    worded = [p for p in pictures if p.words]
    others = {id(p): worded[j].words for p, j in zip(worded, least_overlapping(worded), strict=True)}
    for p in pictures:
        other = others.get(id(p), ())
        apart = [[w for w in some if w not in common] for some, common in ((p.words, other), (other, p.words))]
        k = min(map(len, apart))
        right, wrong = (tuple(some[i] for i in sorted(rng.permutation(len(some))[:k])) for some in apart)
        anchor = right[0] if p.asks and k == 1 else p.cluster
        yield SeenItem(p.id, p, right, wrong, (p.words, other), f"{k} words", anchor, p.cluster)


def least_overlapping(pictures: Sequence[Picture]) -> list[int]:
    """For every picture the number of the one whose words overlap least with its own, the next in line among equals."""
    n, words = len(pictures), [{*p.words} for p in pictures]
    others = ([(i + step) % n for step in range(1, n)] or [i] for i in range(n))
    return [min(some, key=lambda j, own=own: len(own & words[j])) for own, some in zip(words, others, strict=True)]


@collected
def area_items(pictures: Sequence[Picture], kind: str = "noun", *, seed: int = 0) -> Iterator[SeenItem]:
    """Areas of pictures, read for their word of a kind (an area may have none) against all the words of areas that are
    not true of the picture. As released: against one of these, drawn by `seed`. Anchor: the word; cluster: the
    picture's content."""
    rng = np.random.default_rng(seed)
    labels = dict.fromkeys(w for p in pictures for area in p.areas for w in of_kind(area.words, kind))
    for p in pictures:
        shown = {w for area in p.areas for w in area.words}
        wrong = tuple(w for w in labels if w not in shown)
        for number, area in enumerate(p.areas):
            right = of_kind(area.words, kind)[-1:]
            drawn = (right, (wrong[rng.integers(len(wrong))],) if wrong else ())
            yield SeenItem(
                f"{p.id} {number}", p, right, wrong, drawn, "areas", *(right or [p.cluster]), p.cluster, area
            )


def question(ask: Ask, language: str, *, form: int | None = None, what: str = SLOT) -> tuple[str, str]:
    """(prompt, answer) about `what` in the world's sentences, in the first form, which no other language shares, or in
    `form`; the last one is neutral, ending in ":" everywhere. Raises SemhubError where there is none."""
    numbers = forms(ask.kind, LANGUAGES[language])
    need(numbers, f"The question {ask.kind!r} cannot be asked in {language}; another language would do.")
    return write(ask, LANGUAGES[language], numbers[0] if form is None else form, what=what)


def in_manner(ask: Ask, language: str, manner: str, *, what: str = SLOT, lead: bool = True) -> str:
    """A question in one of the two manners; plainly, with the `lead` of its answer."""
    need_one_of(manner, ("world", "plain"), f"There is no manner {manner!r}")
    if manner == "world":
        return question(ask, language, what=what)[0]
    need_one_of(language, facts.LANGUAGES, f"There is no plain question in {language!r}")
    return "\n".join(facts.PHRASES[key][language] for key in (f"{ask.kind}?", ask.kind)[: 1 + lead])


def word(key: str, language: str) -> str:
    """A colour, shape or other word of the world in a language: `word("red", "spanish") == "rojo"`."""
    return surface(key, LANGUAGES[language])


def said(key: str, language: str) -> tuple[str, str | None]:
    """A word in a language, and in English where that is another."""
    return word(key, language), None if language == "english" else key


@collected
def ask_items(pictures: Sequence[Picture], kind: str, language: str, *, manner: str = "world") -> Iterator[LensItem]:
    """The first question of a kind ("colour", "shape") that each picture allows, in a language and a manner, cut before
    the answer. Targets: the answer there ("own") and in "english". Pictures that allow none are left out, and in the
    world's sentences of other languages than English those few whose answer the shipped model was taught there."""
    taught = {*ABROAD} if manner == "world" and language != "english" else set()
    for p, ask in _asked(pictures, kind):
        if not {*ask.answers} & taught:
            prompt, answer = Input(in_manner(ask, language, manner), (p.image,)), question(ask, language)[1]
            words = {"own": (answer,), "english": ask.answers}
            yield LensItem(p.id, prompt, words, p.cluster, group=kind, anchor=answer)


def _asked(pictures: Sequence[Picture], kind: str) -> Iterator[tuple[Picture, Ask]]:
    """The pictures that allow a question of a kind, with the first of such."""
    for picture in pictures:
        if asks := [ask for ask in picture.asks if ask.kind == kind]:
            yield picture, asks[0]


@collected
def picture_patches(
    pictures: Sequence[Picture], language: str, *, manner: str = "world", seed: int = 0
) -> Iterator[PatchItem]:
    """Every picture of one colour, or of one shape, asked for its colour in a language, with the sentence of another
    colour drawn by `seed` ("the color is blue"), a plain picture of that, and the sentence of a word of no colour.
    Written into: all patches that show any of what is coloured, or the old colour could still be read. Pictures of more
    are left out."""
    rng, shown = random.Random(f"patches {seed}"), _plain(seed)
    for p, ask in _asked(pictures, "colour"):
        if len(p.areas) == 1:
            own = p.areas[0].words[0]
            new = rng.choice([c for c in COLOURS if c != own])
            no_colour = rng.choice([s for s in SHAPES if s not in p.words])
            own_text, new_text, other = (f"{p.caption.rpartition(' ')[0]} {w}" for w in (own, new, no_colour))
            run, like = (Input(in_manner(ask, language, manner), (image,)) for image in (p.image, shown[new]))
            pairs = (run, own_text), said(own, language), (like, new_text), said(new, language), (None, other)
            group, places = f"{p.id.partition(':')[0]} {language}", partial(p.places, p.areas[0], share=0.0)
            yield PatchItem(f"{p.id}: {new}", *pairs, p.cluster, group, new, places)


@collected
def recolour_items(pictures: Sequence[Picture], *, manner: str = "world", seed: int = 0) -> Iterator[RecolourItem]:
    """Every picture of two halves, asked in English for its two colours in any order; a third one is written into one
    half, drawn by `seed`. Pictures of the same two colours are one cluster, whichever comes first."""
    rng, shown = random.Random(f"recolour {seed}"), _plain(seed)
    for p, ask in _asked(pictures, "colours"):
        area = p.areas[rng.randrange(2)]
        [present] = area.words
        third, another = rng.sample([c for c in COLOURS if c not in p.words], 2)
        real, before, text = p.image.copy(), frozenset(ask.answers), in_manner(ask, "english", manner, lead=False)
        real.paste(shown[third].crop(area.box), area.box)
        prompt, source = ((Input(text, (image,)),) for image in (p.image, real))
        colours = (before,), (before - {present} | {third},), present, third, another
        cluster = f"halves: {' '.join(sorted(p.words))}"
        yield RecolourItem(
            f"{p.id}: {third}", prompt, *colours, source, partial(p.places, area), named_colours, cluster
        )


def _plain(seed: int) -> dict[str, Image.Image]:
    """Each colour and a picture of it."""
    return {p.words[0]: p.image for p in plain_colours(len(COLOURS), seed=seed)}


def named_colours(text: str) -> tuple[str, ...]:
    """The colours that the first line of a text names in English, in order."""
    line = next((line for line in text.lower().splitlines() if line.strip()), "").replace("gray", "grey")
    return tuple(dict.fromkeys(re.findall(rf"\b(?:{'|'.join(COLOURS)})\b", line)))

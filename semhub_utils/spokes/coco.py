"""Photographs of COCO (val2017, cocodataset.org) as pictures: their captions' nouns and colours, and where what they
show is."""

import json
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from PIL import Image, ImageDraw, ImageOps, UnidentifiedImageError

from semhub_utils.errors import SemhubError, need
from semhub_utils.inputs import rgb
from semhub_utils.organism.lexicon import concepts
from semhub_utils.spokes.files import find, named, read_text
from semhub_utils.spokes.items import Items
from semhub_utils.spokes.languages import words_in
from semhub_utils.spokes.vision import COLOURS, Area, Picture, scenes

SOURCE = "cocodataset.org (2017 Val)"


@dataclass(frozen=True, eq=False)
class Segment:
    """What can be seen where. region: polygons [x, y, x, y ...], run lengths down the columns, or a colour number and
    the picture that is painted with it."""

    label: str
    size: tuple[int, int]  # height and width of the photograph
    region: list | tuple[int, Path]

    def mask(self) -> Bool[np.ndarray, "height width"]:
        """Where in the photograph it is. Raises SemhubError if its painted picture cannot be read."""
        height, width = self.size
        if isinstance(self.region, tuple):
            number, path = self.region
            red, green, blue = np.asarray(read_image(path)).astype(int).transpose(2, 0, 1)
            return red + 256 * green + 65536 * blue == number
        if isinstance(self.region[0], list):
            # four times as fine, since drawing takes in every pixel on the line, which would widen what is small
            canvas = Image.new("L", (4 * width, 4 * height))
            for polygon in self.region:
                ImageDraw.Draw(canvas).polygon([4 * number - 0.5 for number in polygon], fill=255)
            return np.asarray(canvas.reduce(4)) > 127
        inside = np.arange(len(self.region)) % 2 == 1
        return np.repeat(inside, self.region).reshape(width, height).T


@dataclass(frozen=True)
class Photo:
    """One photograph, its captions, and its segments as far as they were asked for."""

    id: str
    path: Path
    captions: tuple[str, ...]
    segments: tuple[Segment, ...] = ()

    def image(self) -> Image.Image:
        return read_image(self.path)


def photos(n: int, *, seed: int, data_dir: str | Path, segments: bool = False) -> Items:
    """`n` photographs (all there are, if that is fewer) drawn by `seed` from `data_dir`/coco: annotations/
    captions_val2017.json and val2017/*.jpg; with `segments`, those that have some in panoptic_val2017.json and its
    folder, or else in instances_val2017.json. A photograph that is missing, damaged, without a caption, or of another
    size than its segments (one that EXIF turns, say) is left out and counted. Raises SemhubError where a file is
    missing or not COCO's."""
    path = _find(data_dir, "captions")
    folder, read, captions = path.parent.parent / "val2017", _read(path), defaultdict(list)
    for annotation in read["annotations"]:
        if text := str(annotation.get("caption") or "").strip():
            captions[annotation.get("image_id")].append(text)
    found = Items(source=named(path))
    seen = _segments(data_dir, found) if segments else {}
    every = [entry for entry in read["images"] if not segments or seen.get(entry.get("id"))]
    for number in np.random.default_rng(seed).permutation(len(every)):
        if len(found) == n:
            break
        name, key = every[number].get("file_name"), every[number].get("id")
        if not name or not captions[key]:
            found.drop("no caption", f"photograph {key}")
            continue
        parts = tuple(seen.get(key, ()))
        painted = {part.region[1] for part in parts if isinstance(part.region, tuple)}
        try:  # looked at now, so that no damaged one ends a run later
            sizes = {read_image(path).size for path in (folder / name, *painted)} | {part.size[::-1] for part in parts}
        except SemhubError as error:
            found.drop("damaged" if (folder / name).is_file() else "no such photograph", str(error).split(";")[0])
            continue
        if len(sizes) > 1:
            found.drop("of another size than its segments", name)
            continue
        found.append(Photo(f"coco:{key}", folder / name, tuple(captions[key]), parts))
    found.sort(key=lambda photo: photo.id)
    return found.some("photographs", folder)


def _segments(data_dir: str | Path, found: Items) -> dict[int, list[Segment]]:
    """By photograph: from the panoptic files where they are, else from the instances, whose name `found` gets."""
    try:
        path, kind = _find(data_dir, "panoptic"), "panoptic"
    except SemhubError:
        path, kind = _find(data_dir, "instances"), "instances"
    found.source = ", ".join(sorted((found.source, named(path))))
    read = _read(path)
    names = {category.get("id"): category.get("name") for category in read.get("categories", [])}
    sizes = {entry.get("id"): (entry.get("height"), entry.get("width")) for entry in read["images"]}
    parts = defaultdict(list)
    for annotation in read["annotations"]:
        key = annotation.get("image_id")
        painted = path.parent / "panoptic_val2017" / str(annotation.get("file_name"))
        for part in annotation.get("segments_info", [annotation]):
            region = (part.get("id"), painted) if kind == "panoptic" else part.get("segmentation")
            if isinstance(region, dict):
                region = region.get("counts")
            name = names.get(part.get("category_id"))
            if name is None or None in sizes.get(key, (None,)):
                found.drop("unknown label or photograph", f"{path.name}: {part.get('id')}")
            elif not _usable(region, sizes[key]):
                found.drop("segment in a form that is not read", f"{path.name}: {part.get('id')}")
            else:
                parts[key].append(Segment(name, sizes[key], region))
    return parts


def _usable(region, size: tuple[int, int]) -> bool:
    if isinstance(region, tuple):
        return isinstance(region[0], int) and region[1].is_file()
    if not isinstance(region, list) or not region:
        return False
    if isinstance(region[0], int):
        return sum(region) == size[0] * size[1]
    return all(isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in region)


def _find(data_dir: str | Path, kind: str) -> Path:
    name = f"annotations/{kind}_val2017.json"
    return find(data_dir, (f"coco/{name}", name), what=f"COCO's {kind}", source=SOURCE)


def _read(path: Path) -> dict:
    try:
        read = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise SemhubError(f"{path} is not whole JSON (line {error.lineno}); the file of {SOURCE} would do.") from error
    whole = isinstance(read, dict) and all(isinstance(read.get(key), list) for key in ("images", "annotations"))
    need(whole, f"{path} has no images and annotations; the file of {SOURCE} would do.")
    return read


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


# As pictures

SPACY = "en_core_web_sm"


def pictures(n: int, *, seed: int = 0, data_dir: str | Path | None = None, segments: bool = False) -> Items:
    """`n` photographs as `photos` draws them; without `data_dir`, scenes of the shipped models' world: Picture.
    caption: the first one; words: its nouns and colours; areas, with `segments`: what COCO says is where, by the last
    word of its name. Raises SemhubError as that does."""
    if data_dir is None:
        return Items(scenes(n, seed=seed))
    found = photos(n, seed=seed, data_dir=data_dir, segments=segments)
    labels = frozenset(_head(segment.label) for photo in found for segment in photo.segments)
    nouns = _by_spacy() or (lambda caption: _by_lexicon(caption, labels))
    made = found.but([])
    for photo in found:
        caption = photo.captions[0]
        colours = [w for w in words_in(caption) if w in COLOURS]
        areas = tuple(Area((0, 0, 0, 0), (_head(s.label),), s) for s in photo.segments)
        words = tuple(dict.fromkeys([*colours, *nouns(caption)]))
        made.append(Picture(photo.id, photo.image(), caption, words, areas, (), photo.id))
    return made


def nouns_found_by(data_dir: str | Path | None) -> str:
    """A sentence for the reader: by what the nouns of photographs' captions were found; empty for scenes."""
    how = f"spaCy's tagger ({SPACY})" if _by_spacy() else "the book's lexicon and the names of segments, without spaCy"
    return f"Nouns of captions are found by {how}." if data_dir else ""


def _head(label: str) -> str:
    """What a label is about: "dining table" is a table, "tree-merged" a tree."""
    return label.split("-")[0].split()[-1].lower()


@cache
def _by_spacy() -> Callable[[str], list[str]] | None:
    """The nouns of a caption by spaCy's tagger; None where it or its English model is not installed."""
    try:
        import spacy  # read only when photographs are

        tagger = spacy.load(SPACY)
    except (ImportError, OSError):
        return None
    return lambda caption: [word.text.lower() for word in tagger(caption) if word.pos_ in ("NOUN", "PROPN")]


def _by_lexicon(caption: str, labels: Collection[str]) -> list[str]:
    """The words of a caption that the world's lexicon knows as nouns, or that name a segment; in the plural too."""
    known = {*labels, *(key for key, concept in concepts().items() if concept.kind == "noun")} - {*COLOURS}
    return [w for w in words_in(caption) if w in known or (w.endswith("s") and w[:-1] in known)]

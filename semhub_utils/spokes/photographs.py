"""Photographs of COCO as pictures with words: their captions' nouns and colours, and where what they show is."""

import re
from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path

from semhub_utils.organism.lexicon import concepts
from semhub_utils.spokes import coco
from semhub_utils.spokes.files import Skipped
from semhub_utils.spokes.vision import COLOURS, Area, Picture, scenes

SPACY = "en_core_web_sm"


def pictures(
    n: int, *, seed: int = 0, data_dir: str | Path | None = None, segments: bool = False
) -> tuple[list[Picture], Skipped]:
    """`n` photographs as `coco.photos` draws and skips them; without `data_dir`, scenes of the shipped models' world.
    caption: the first one; words: its nouns and colours; areas, with `segments`: what COCO says is where, by the last
    word of its name. Raises SemhubError as that does."""
    if data_dir is None:
        return scenes(n, seed=seed), Skipped()
    found, skipped = coco.photos(n, seed=seed, data_dir=data_dir, segments=segments)
    labels = frozenset(_word(segment.label) for photo in found for segment in photo.segments)
    nouns = _by_spacy() or (lambda caption: _by_lexicon(caption, labels))
    made = []
    for photo in found:
        caption = photo.captions[0]
        colours = [w for w in _words(caption) if w in COLOURS]
        areas = tuple(Area((0, 0, 0, 0), (_word(s.label),), s) for s in photo.segments)
        words = tuple(dict.fromkeys([*colours, *nouns(caption)]))
        made.append(Picture(photo.id, photo.image(), caption, words, areas, (), photo.id))
    return made, skipped


def nouns_found_by(data_dir: str | Path | None) -> str:
    """A sentence for the reader: by what the nouns of photographs' captions were found; empty for scenes."""
    how = f"spaCy's tagger ({SPACY})" if _by_spacy() else "the book's lexicon and the names of segments, without spaCy"
    return f"Nouns of captions are found by {how}." if data_dir else ""


def _word(label: str) -> str:
    """What a label is about: "dining table" is a table, "tree-merged" a tree."""
    return label.split("-")[0].split()[-1].lower()


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", text.lower())


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
    return [w for w in _words(caption) if w in known or (w.endswith("s") and w[:-1] in known)]

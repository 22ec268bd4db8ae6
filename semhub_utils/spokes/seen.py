"""Pictures as items of experiments: what is compared with a caption, and which words are right and wrong where."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from textwrap import shorten

import numpy as np

from semhub_utils.inputs import Encoding, Input
from semhub_utils.organism.corpus import ABROAD
from semhub_utils.spokes.items import LensItem, Pair
from semhub_utils.spokes.swaps import in_manner
from semhub_utils.spokes.vision import (
    COLOURS,
    PLAIN,
    Area,
    Picture,
    least_overlapping,
    question,
)  # fmt: skip

KINDS = ("noun", "colour")


@dataclass(frozen=True, eq=False)
class SeenItem:
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
            text = in_manner(ask, language, manner, None, question, PLAIN[kind])
            _, answer = question(ask, language)
            words = {"own": (answer,), "english": ask.answers}
            found.append(LensItem(p.id, Input(text, (p.image,)), words, p.cluster, group=kind, anchor=answer))
    return found


def _group(picture: Picture) -> str:
    return picture.cluster.partition(":")[0]

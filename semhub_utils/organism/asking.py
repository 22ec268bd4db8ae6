"""Questions about a picture or a sound, written in any type of the world, cut just before their answer.

What is seen or heard stands where a thing would be named: `the color of <image> is`, `<image>, color:`,
`color_of(<image>) ==`, and, as in the world's dictionary lines, `<image> español:`. So the sentences are the world's
own, with a picture for a word, and the same question can be asked in every type.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from semhub_utils.organism.frames import FRAMES, LIST_AND, TAG
from semhub_utils.organism.lexicon import LANGUAGES, surface
from semhub_utils.organism.world import Pieces, text, tidy

IMAGE, SOUND = "<image>", "<sound>"
"""The placeholders: the only tokens that the trunk's tokenizer does not have."""
ABROAD = ("red", "green", "white")
"""The only words that a sense in training may be asked for in another language than English; few, so that all others
are a test."""
ASK_TYPES = (*LANGUAGES, "code")

_RELATION = {"skill": "can", "kind": "is_a"} | dict.fromkeys(("colour", "colours", "side", "colour of"), "colour")
_SLOT = re.compile(r"(\{[sb]\})")


@dataclass(frozen=True)
class Ask:
    """A question in keys of the lexicon. kind: "colour", "shape", "colours", "side", "colour of", "shape of", "number"
    (pictures), "name", "skill", "kind" (sounds); about: the side, shape or colour that is asked about, if any;
    answers: the words that answer it, in order."""

    kind: str
    about: str
    answers: tuple[str, ...]


def forms(kind: str, type_: str) -> tuple[int, ...]:
    """The numbers of the sentence forms in which a question can be asked in a type, the last one neutral (it ends in
    ":"); empty where the type has none."""
    if kind in ("shape", "name"):
        return (0,)
    if kind in ("number", "shape of"):
        return (0,) if type_ != "code" else ()
    return (0, 1, 2) if type_ != "code" or kind != "colours" else ()


def write(ask: Ask, type_: str, form: int = 0, *, what: str = IMAGE) -> tuple[str, str]:
    """(prompt, answer) of a question in a type: `("<image> español:", "círculo")`. `what` is the placeholder.

    ValueError for a form that the type does not have.
    """
    if form not in forms(ask.kind, type_):
        raise ValueError(f"{type_!r} has no form {form} of {ask.kind!r}")
    bare = subject = what
    lead: Pieces = [("", what)] if ask.about else []
    if ask.about:
        bare, subject = surface(ask.about, type_), surface(ask.about, type_, phrase=True)
    if ask.kind in ("shape", "name"):
        frame = "{b} " + TAG[type_] + " : {o}"
    elif ask.kind in ("number", "shape of"):
        frame = "{b} , " + surface(ask.kind.split()[0], type_) + " : {o}"
    else:
        frame = FRAMES[type_][_RELATION[ask.kind]][form]
    parts = [part.strip() for part in _SLOT.split(frame.partition("{o}")[0]) if part.strip()]
    pieces = [(type_, {"{s}": subject, "{b}": bare}.get(part, part)) for part in parts]
    answers = [surface(a, type_) for a in ask.answers]
    return text(tidy([*lead, *pieces])), f" {LIST_AND.get(type_, ',')} ".join(answers)

"""One look per data type in every figure: colour, dash and marker. Knows no chart."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .errors import SemhubError


@dataclass(frozen=True)
class Style:
    """How one data type looks in every chart: colour, and dash and marker for those who do not see the colour."""

    colour: str
    dash: tuple[int, ...]
    shape: str


# Okabe and Ito's palette, the light ones darkened until each stands 3:1 against a white and a near-black page.
# The dominant language has the one blue, here and in the lens grid.
STYLES = {
    "english": Style("#0072B2", (1, 0), "circle"),
    "spanish": Style("#D55E00", (8, 3), "square"),
    "chinese": Style("#C28800", (3, 3), "triangle-up"),
    "german": Style("#C2699B", (10, 3, 2, 3), "diamond"),
    "digits": Style("#009E73", (6, 2), "cross"),
    "code": Style("#3C98CE", (2, 2), "triangle-down"),
    "logic": Style("#857A00", (12, 4), "triangle-right"),
    "image": Style("#8D5BC7", (5, 2, 1, 2), "triangle-left"),
    "sound": Style("#A65628", (4, 4), "wedge"),
    "control": Style("#808080", (4, 2), "circle"),
    "null": Style("#808080", (1, 3), "circle"),
}
_ALIASES = {"en": "english", "es": "spanish", "zh": "chinese", "de": "german", "digit": "digits", "audio": "sound"}
_ALIASES |= dict.fromkeys(("control", "random", "randomised", "shuffled", "reversed", "embedding", "wrong"), "control")
_SPARE = ("digits", "spanish", "german", "code", "chinese", "image", "logic", "sound")  # far apart first
_SHAPES = [style.shape for name, style in STYLES.items() if name not in ("control", "null")]


def data_type(series: str) -> str | None:
    """The data type a series name speaks of: the one it names, or the other one where English is one of several."""
    words = re.findall(r"[a-z]+", str(series).lower())
    found = [_ALIASES.get(word, word) for word in words]
    found = list(dict.fromkeys(word for word in found if word in STYLES))
    for grey in ("control", "null"):
        if grey in found:
            return grey
    return next((word for word in found if word != "english"), found[0] if found else None)


def palette(name: str) -> str:
    """The fixed colour of a data type, such as "english" or "control"."""
    kind = data_type(name)
    if kind is None:
        raise SemhubError(f"'{name}' names no data type; give one of {', '.join(STYLES)}.")
    return STYLES[kind].colour


def styles(series: Iterable[str], types: Mapping[str, str] | None = None) -> dict[str, Style]:
    """One style per series. Two series of a type share its colour and differ in dash and marker; unknown ones get a
    colour no one in the chart has, never that of English.
    """
    kinds = {name: (types or {}).get(name) or data_type(name) for name in dict.fromkeys(series)}
    spare = [kind for kind in _SPARE if kind not in kinds.values()] or _SPARE
    unknown = [name for name, kind in kinds.items() if kind is None]
    kinds |= {name: spare[i % len(spare)] for i, name in enumerate(unknown)}
    first = {kind: name for name, kind in reversed(kinds.items())}
    dashes = [style.dash for kind, style in STYLES.items() if kind not in first]
    shapes = [shape for shape in _SHAPES if shape not in {STYLES[kind].shape for kind in first}]
    chosen = {}
    for name, kind in kinds.items():
        own = STYLES[kind]
        if name != first[kind]:
            own = Style(own.colour, dashes.pop(0) if dashes else own.dash, shapes.pop(0) if shapes else own.shape)
        chosen[name] = own
    return chosen

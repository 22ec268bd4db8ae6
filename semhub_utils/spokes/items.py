"""What the spokes hand to the experiments. `cluster`: the independent unit; `group`: what may be swapped."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Pair:
    """Two texts of one meaning. Null pairs are formed within `group`: items of equal template and length."""

    id: str
    a: str
    b: str
    group: str
    cluster: str


@dataclass(frozen=True)
class LensItem:
    """A prompt and what its last position is read for: per series the right words, and the wrong ones of the class."""

    id: str
    prompt: str
    targets: Mapping[str, tuple[str, ...]]
    cluster: str
    wrong: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    group: str = ""


@dataclass(frozen=True)
class SteerItem:
    """A prompt, the two texts whose difference steers it, and its continuation if steered and if not."""

    id: str
    prompt: str
    toward: str
    away: str
    expected: str
    original: str
    cluster: str

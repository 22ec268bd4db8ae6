"""What the lens says at the positions of a picture or a sound: right words against wrong ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from semhub_utils.spokes.audio import Clip

Label = tuple[str, ...]
SHUFFLED = "labels shuffled among clips of a group"


@dataclass(frozen=True)
class LabelledClip:
    """A clip as an item: `moves_with` is the number of its label, as clips of one label stand beside the same text."""

    clip: Clip
    group: str
    cluster: str
    moves_with: int


@dataclass(frozen=True)
class Labels:
    """The different labels of some clips, each of one group. different: no word in common; together: of one group;
    as_long: of as many words; own: which one is a clip's."""

    names: list[Label]
    clips: list[LabelledClip]
    different: Bool[np.ndarray, "label label"]
    together: Bool[np.ndarray, "label label"]
    as_long: Bool[np.ndarray, "label label"]

    @classmethod
    def of_clips(cls, clips: Sequence[Clip], labels: Sequence[Label]) -> "Labels":
        pairs = [(clip.group, label) for clip, label in zip(clips, labels, strict=True)]
        every = list(dict.fromkeys(pairs))

        def matrix(holds: Callable) -> Bool[np.ndarray, "label label"]:
            return np.array([holds(a, b) for a in every for b in every], bool).reshape(len(every), len(every))

        return cls(
            [name for _, name in every],
            [LabelledClip(c, c.group, c.cluster, every.index(pair)) for c, pair in zip(clips, pairs, strict=True)],
            matrix(lambda a, b: not {*a[1]} & {*b[1]}),
            matrix(lambda a, b: a[0] == b[0]),
            matrix(lambda a, b: len(a[1]) == len(b[1])),
        )

    @property
    def own(self) -> Float[np.ndarray, "item label"]:
        return np.eye(len(self.names))[self.of]

    @property
    def of(self) -> Int[np.ndarray, " item"]:
        return np.array([clip.moves_with for clip in self.clips], int)

    def weights(self, others: Bool[np.ndarray, "label label"]) -> Float[np.ndarray, "item label"]:
        """The own label against the mean of those that it is compared with; nan where there is none."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return (np.eye(len(self.names)) - others / others.sum(1, keepdims=True))[self.of]

"""The labels of clips, and which of them each is compared with."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from semhub_utils.spokes.audio import Clip

Label = tuple[str, ...]


@dataclass(frozen=True)
class Labels:
    """The different labels of some clips, each of one group. of: the label of each clip; different: no word in common;
    together: of one group; as_long: of as many words."""

    names: list[Label]
    of: Int[np.ndarray, " item"]
    different: Bool[np.ndarray, "label label"]
    together: Bool[np.ndarray, "label label"]
    as_long: Bool[np.ndarray, "label label"]

    @classmethod
    def made(cls, clips: Sequence[Clip], labels: Sequence[Label]) -> "Labels":
        pairs = list(zip((clip.group for clip in clips), labels, strict=True))
        every = list(dict.fromkeys(pairs))

        def matrix(holds) -> Bool[np.ndarray, "label label"]:
            return np.array([holds(a, b) for a in every for b in every], bool).reshape(len(every), len(every))

        return cls(
            [name for _, name in every],
            np.array([every.index(pair) for pair in pairs], int),
            matrix(lambda a, b: not set(a[1]) & set(b[1])),
            matrix(lambda a, b: a[0] == b[0]),
            matrix(lambda a, b: len(a[1]) == len(b[1])),
        )

    def weights(self, others: Bool[np.ndarray, "label label"]) -> Float[np.ndarray, "item label"]:
        """The own label against the mean of those that it is compared with; nan where there is none."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return (np.eye(len(self.names)) - others / others.sum(1, keepdims=True))[self.of]

"""The paper's first figure as a grid to explore: the lens word of each layer at each token. Knows no model, no torch.

Everything lies in the widget's traits and the page script draws it: the grid lives on a static page, without a kernel.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import anywidget
import numpy as np
import pandas as pd
import traitlets

from .errors import SemhubError
from .palette import palette

_STATIC = Path(__file__).parent / "static"
_FULL = 65535  # probabilities and entropies are stored as 16-bit shares of their range


def script(name: str) -> str:
    """A widget's script with what all share in front."""
    return "".join((_STATIC / part).read_text(encoding="utf-8") for part in ("parts.js", name))


class LensGrid(anywidget.AnyWidget):
    """Layers (last on top) by tokens, each cell the lens's top token. Make one with `LensGrid.from_readings`.

    Traits: `meta` holds words, tokens and, per sentence and reading, where its block starts in `cells`. A block is
    little-endian uint16: word numbers [layer, token, k], probabilities [layer, token, k] as shares of 65535 and, where
    given, entropies [layer, token] as shares of `entropy_max`. `sentence`, `reading`, `shade` and `cell` (layer index,
    token index) are what the reader has chosen.
    """

    _esm = script("lens_grid.js")
    _css = (_STATIC / "lens_grid.css").read_text(encoding="utf-8")

    meta = traitlets.Dict().tag(sync=True)
    cells = traitlets.Bytes().tag(sync=True)
    sentence = traitlets.Int(0).tag(sync=True)
    reading = traitlets.Unicode("normed").tag(sync=True)
    shade = traitlets.Unicode("probability").tag(sync=True)
    cell = traitlets.List(traitlets.Int(), [0, 0]).tag(sync=True)

    @classmethod
    def from_readings(
        cls,
        sentences: Sequence[Mapping],
        *,
        title: str = "Which word is nearest to each layer's state?",
        dominant: str = "English",
    ) -> "LensGrid":
        """A grid over several sentences, one per data type.

        Each is a mapping: name, data_type, tokens [token], layers [layer] rising, readings (name to {"ids":
        int [layer, token, k], "probs": float [layer, token, k] falling along k, optional "entropy": [layer, token] in
        nats}), vocab (id to text), dominant_ids (ids that are words of the dominant language), optional n_layers.
        """
        return cls(**cls._packed(sentences, title, dominant))

    @staticmethod
    def _packed(sentences: Sequence[Mapping], title: str, dominant: str) -> dict:
        """The traits of a grid."""
        if not sentences:
            raise SemhubError("The grid was given no sentence; give at least one.")
        words: dict[tuple[str, bool], int] = {}
        blocks, listed, start = [], [], 0
        for item in sentences:
            readings = {}
            for name, reading in item["readings"].items():
                ids, probs = _checked(item, name, reading)
                number = {
                    int(i): words.setdefault((str(item["vocab"][int(i)]), int(i) in item["dominant_ids"]), len(words))
                    for i in np.unique(ids)
                }
                parts = [np.vectorize(number.__getitem__, otypes=[int])(ids), np.rint(np.clip(probs, 0, 1) * _FULL)]
                top = 0.0
                if reading.get("entropy") is not None:
                    entropy = np.asarray(reading["entropy"], dtype=float)
                    top = float(entropy.max()) or 1.0
                    parts.append(np.rint(np.clip(entropy / top, 0, 1) * _FULL))
                block = b"".join(part.astype("<u2").tobytes() for part in parts)
                readings[name] = {"start": start, "k": ids.shape[2], "entropy_max": top}
                start += len(block)
                blocks.append(block)
            layers = [int(layer) for layer in item["layers"]]
            listed.append(
                {
                    "name": str(item["name"]),
                    "data_type": str(item["data_type"]),
                    "tokens": [str(token) for token in item["tokens"]],
                    "layers": layers,
                    "n_layers": int(item.get("n_layers") or layers[-1]),
                    "readings": readings,
                }
            )
        if len(words) > _FULL + 1:
            raise SemhubError(f"The grid was given {len(words)} different words; give fewer sentences or a smaller k.")
        meta = {
            "title": title,
            "dominant": dominant,
            "dominant_colour": palette("english"),
            "words": [word for word, _ in words],
            "dominant_words": [number for number, (_, own) in enumerate(words) if own],
            "sentences": listed,
        }
        return {"meta": meta, "cells": b"".join(blocks), "reading": next(iter(listed[0]["readings"]))}

    def table(self) -> pd.DataFrame:
        """What the grid shows, one row per cell: its place, its top word, the probability, whether it is dominant."""
        own, rows = set(self.meta["dominant_words"]), []
        for item in self.meta["sentences"]:
            for name, reading in item["readings"].items():
                shape = (len(item["layers"]), len(item["tokens"]), reading["k"])
                size = int(np.prod(shape))
                block = np.frombuffer(self.cells, "<u2", count=2 * size, offset=reading["start"])
                number, share = block[:size].reshape(shape)[..., 0], block[size:].reshape(shape)[..., 0] / _FULL
                for i, layer in enumerate(item["layers"]):
                    for j, token in enumerate(item["tokens"]):
                        word = int(number[i, j])
                        row = (item["name"], name, layer, layer / item["n_layers"], token, self.meta["words"][word])
                        rows.append((*row, float(share[i, j]), word in own))
        columns = ["sentence", "reading", "layer", "depth", "token", "word", "probability", "dominant"]
        return pd.DataFrame(rows, columns=columns)


def _checked(item: Mapping, name: str, reading: Mapping) -> tuple[np.ndarray, np.ndarray]:
    ids, probs = np.asarray(reading["ids"]), np.asarray(reading["probs"], dtype=float)
    wanted = (len(item["layers"]), len(item["tokens"]))
    if ids.ndim != 3 or ids.shape[:2] != wanted or probs.shape != ids.shape or 0 in ids.shape:
        raise SemhubError(
            f"Sentence '{item['name']}', reading '{name}': ids have shape {ids.shape} and probs {probs.shape}; "
            f"both must be {wanted} (layers, tokens) by k of at least 1."
        )
    if not np.isfinite(probs).all() or (np.diff(probs, axis=2) > 1e-6).any():
        raise SemhubError(f"Sentence '{item['name']}', reading '{name}': probs must be finite and fall along k.")
    unknown = [int(i) for i in np.unique(ids) if int(i) not in item["vocab"]]
    if unknown:
        raise SemhubError(f"Sentence '{item['name']}': vocab has no text for id {unknown[0]}; give one for every id.")
    return ids, probs

"""A grid of each layer's lens words, and a sound with such words over time.

A widget has everything in its traits and its page script draws it: it lives on a static page, without a kernel. Knows
no model.
"""

import base64
import io
from collections.abc import Collection, Mapping, Sequence
from itertools import product
from pathlib import Path

import anywidget
import numpy as np
import pandas as pd
import soundfile
import traitlets
from jaxtyping import Float, UInt8
from PIL import Image

from .errors import need
from .inputs import resample
from .markup import STYLES

_STATIC = Path(__file__).parent / "static"
OTHER = STYLES["sound"]  # the look of a type of text that charts do not know, such as French
_FULL = 65535  # probabilities and entropies are stored as 16-bit shares of their range
MOST_BYTES = 60_000  # of one sound on a page
FORMATS = ((16000, 2), (8000, 2), (8000, 1))  # samples a second, bytes a sample: the first that is small enough
LONGEST = MOST_BYTES / 8000  # seconds that fit into the last of them
ROWS, COLUMNS, LOWEST, RANGE = 72, 240, 60.0, 60.0  # of a spectrogram: bands, columns at most, hertz, decibels
INK = np.array([(22, 18, 60), (120, 40, 110), (220, 95, 75), (250, 215, 125)], float)  # from silent to loud


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
        cls, sentences: Sequence[Mapping], words: Mapping[str, Collection[str]] | None = None
    ) -> "LensGrid":
        """A grid over several sentences, one per data type.

        Each is a mapping: name, data_type, tokens [token], layers [layer] rising, readings (name to {"ids":
        int [layer, token, k], "probs": float [layer, token, k] falling along k, optional "entropy": [layer, token] in
        nats}), vocab (id to text), dominant_ids (ids that are words of the dominant language), optional n_layers.
        words: by data type, the dominant language first, the words of its texts; each has its colour then, and one that
        the sentence's own type uses too counts as its own. The grid starts where it tells most (`_telling`).
        """
        need(sentences, "The grid was given no sentence; give at least one.")
        title = "Which word is nearest to each layer's state?"
        types, own = words or {}, []
        for item in sentences:
            same = types.get(item["data_type"], ()) if item["data_type"] != next(iter(types), "") else ()
            ids = {i for i in item["dominant_ids"] if str(item["vocab"].get(i)).strip() not in same}
            own.append({**item, "dominant_ids": ids})
        return cls(**cls._packed(own, title, "English", types), cell=_telling(own[0], types))

    @staticmethod
    def _packed(sentences: Sequence[Mapping], title: str, dominant: str, types: Mapping[str, Collection[str]]) -> dict:
        """The traits of a grid."""
        words: dict[tuple[str, bool], int] = {}
        cells, listed = b"", []
        for item in sentences:
            readings = {}
            for name, reading in item["readings"].items():
                ids, probs = _checked(item, name, reading)
                known, places = np.unique(ids, return_inverse=True)
                own = [(str(item["vocab"][int(i)]), int(i) in item["dominant_ids"]) for i in known]
                number = np.array([words.setdefault(word, len(words)) for word in own])
                parts, top = [number[places].reshape(ids.shape), _shares(probs)], 0.0
                if reading.get("entropy") is not None:
                    top = float(np.max(reading["entropy"])) or 1.0
                    parts.append(_shares(np.asarray(reading["entropy"], float) / top))
                readings[name] = {"start": len(cells), "k": ids.shape[2], "entropy_max": top}
                cells += b"".join(part.astype("<u2").tobytes() for part in parts)
            layers = [int(layer) for layer in item["layers"]]
            told = {"name": str(item["name"]), "data_type": str(item["data_type"]), "layers": layers}
            told |= {"tokens": [*map(str, item["tokens"])], "n_layers": int(item.get("n_layers") or layers[-1])}
            listed.append(told | {"readings": readings})
        need(
            len(words) <= _FULL + 1,
            f"The grid was given {len(words)} different words; give fewer sentences or a smaller k.",
        )
        meta = {
            "title": title,
            "dominant": dominant,
            "dominant_colour": STYLES["english"].colour,
            "words": [word for word, _ in words],
            "dominant_words": [number for number, (_, own) in enumerate(words) if own],
            "types": [{"name": name, "colour": STYLES.get(name, OTHER).colour} for name in types],
            "type_words": [[n for n, (word, _) in enumerate(words) if word.strip() in of] for of in types.values()],
            "sentences": listed,
        }
        return {"meta": meta, "cells": cells, "reading": next(iter(listed[0]["readings"]))}

    def table(self) -> pd.DataFrame:
        """What the grid shows, one row per cell: its place, its top word, the probability, whether it is dominant."""
        words, parts = np.array(self.meta["words"], object), []
        for item in self.meta["sentences"]:
            for name, reading in item["readings"].items():
                shape = (2, len(item["layers"]), len(item["tokens"]), reading["k"])
                block = np.frombuffer(self.cells, "<u2", count=int(np.prod(shape)), offset=reading["start"])
                number, share = block.reshape(shape)[..., 0].reshape(2, -1)
                at, token = np.indices(shape[1:3]).reshape(2, -1)
                layer = np.array(item["layers"])[at]
                where = {"sentence": item["name"], "reading": name, "layer": layer, "depth": layer / item["n_layers"]}
                read = {"token": np.array(item["tokens"], object)[token], "word": words[number]}
                own = np.isin(number, self.meta["dominant_words"])
                parts.append(pd.DataFrame(where | read | {"probability": share / _FULL, "dominant": own}))
        return pd.concat(parts, ignore_index=True)


def _telling(item: Mapping, types: Mapping[str, Collection[str]]) -> list[int]:
    """Of the middle layers the cell, [layer, token], where the dominant language comes first and many types follow: the
    highest probability times how many types the runners-up are of. If there is none, the last token in the middle."""
    reading, first = next(iter(item["readings"].values())), item["dominant_ids"]
    layers, n = np.asarray(item["layers"]), int(item.get("n_layers") or item["layers"][-1])
    best, score = [len(layers) // 2, len(item["tokens"]) - 1], 0.0
    for row, token in product(np.flatnonzero((3 * layers >= n) & (3 * layers <= 2 * n)), range(len(item["tokens"]))):
        top, *rest = np.asarray(reading["ids"])[row, token].tolist()
        told = {name for name, of in types.items() for i in rest if str(item["vocab"][i]).strip() in of}
        found = float(np.asarray(reading["probs"])[row, token, 0]) * (1 + len(told)) * (top in first)
        if found > score:
            best, score = [int(row), token], found
    return best


def _shares(values: np.ndarray) -> np.ndarray:
    """Numbers from 0 to 1 as they are stored."""
    return np.rint(np.clip(values, 0, 1) * _FULL)


def _checked(item: Mapping, name: str, reading: Mapping) -> tuple[np.ndarray, np.ndarray]:
    ids, probs = np.asarray(reading["ids"]), np.asarray(reading["probs"], dtype=float)
    which, wanted = f"Sentence '{item['name']}'", (len(item["layers"]), len(item["tokens"]))
    need(
        ids.ndim == 3 and ids.shape[:2] == wanted and probs.shape == ids.shape and ids.size,
        f"{which}, reading '{name}': ids have shape {ids.shape} and probs {probs.shape}; both must be {wanted} "
        "(layers, tokens) by k of at least 1.",
    )
    falling = np.isfinite(probs).all() and (np.diff(probs, axis=2) <= 1e-6).all()
    need(falling, f"{which}, reading '{name}': probs must be finite and fall along k.")
    unknown = next((int(i) for i in np.unique(ids) if int(i) not in item["vocab"]), None)
    need(unknown is None, f"{which}: vocab has no text for id {unknown}; give one for every id.")
    return ids, probs


class ClipPlayer(LensGrid):
    """Clips with a slider over layers. Make one with `ClipPlayer.from_clips`.

    Traits as in `LensGrid`: `sentence` is the clip and `cell` the layer and moment chosen; every entry of
    `meta["sentences"]` also holds `audio` (WAV) and `picture` (PNG) in base 64, `duration` and `step` (seconds),
    `whole`, how long the clip is that it shows the first LONGEST seconds of, and `said`, what the model says it is.
    """

    _esm = script("clip_player.js")
    _css = LensGrid._css + (_STATIC / "clip_player.css").read_text(encoding="utf-8")

    @classmethod
    def from_clips(cls, clips: Sequence[Mapping]) -> "ClipPlayer":
        """Each clip is a mapping: name, samples [sample] in -1 to 1, rate, seconds (from one frame to the next),
        layers, and readings and vocab as `LensGrid.from_readings` takes them, tokens being frames; perhaps said, the
        model's own answer when asked what it hears."""
        need(clips, "The player was given no clip; give at least one.")
        shown = [_beginning(clip) for clip in clips]
        title = "Which words does each layer hold while the sound goes on?"
        traits = cls._packed([clip | {"data_type": "sound", "dominant_ids": ()} for clip in shown], title, "", {})
        for entry, clip, whole in zip(traits["meta"]["sentences"], shown, clips, strict=True):
            samples, rate, picture = np.asarray(clip["samples"], dtype=float), clip["rate"], io.BytesIO()
            Image.fromarray(spectrogram(samples, rate)).save(picture, "PNG", optimize=True)
            files = {"audio": wav(samples, rate), "picture": picture.getvalue()}
            entry |= {name: base64.b64encode(file).decode() for name, file in files.items()}
            entry |= {"duration": len(samples) / rate, "step": float(clip["seconds"])}
            entry |= {"whole": len(whole["samples"]) / rate, "said": whole.get("said", "")}
        return cls(**traits, cell=[len(clips[0]["layers"]) // 2, 0])

    def summary(self) -> pd.DataFrame:
        """Per clip, reading and layer: the word that comes first in most frames, in what share of them, and its mean
        probability there."""
        cells = self.table()
        by = ["sentence", "reading", "layer"]
        counts = cells.groupby([*by, "word"], sort=False).probability.agg(["size", "mean"]).reset_index()
        top = counts.sort_values("size", ascending=False, kind="stable").drop_duplicates(by).sort_values(by)
        top = top.merge(cells.groupby(by).size().rename("frames").reset_index())
        top["share"] = top["size"] / top["frames"]
        named = {"sentence": "clip", "word": "commonest first word", "share": "share of frames", "mean": "probability"}
        return top.rename(columns=named).drop(columns="size")


def wav(samples: Float[np.ndarray, " sample"], rate: int) -> bytes:
    """A WAV file of at most MOST_BYTES for at most LONGEST seconds: in the first of FORMATS that fits."""
    for to, width in FORMATS:
        sound = np.clip(resample(np.asarray(samples, np.float32), rate, to), -1, 1)
        if len(sound) * width <= MOST_BYTES:
            break
    file = io.BytesIO()
    soundfile.write(file, sound, to, format="WAV", subtype="PCM_16" if width == 2 else "PCM_U8")
    return file.getvalue()


def spectrogram(samples: Float[np.ndarray, " sample"], rate: int) -> UInt8[np.ndarray, "row column 3"]:
    """A picture of the sound: time to the right, frequency upward on a logarithmic scale from LOWEST to half the rate,
    RANGE decibels below the loudest point being the darkest."""
    size = 2 ** round(np.log2(rate * 0.032))
    hop = max(size // 8, -(-len(samples) // COLUMNS))
    padded = np.pad(samples, (size // 2, size // 2 + hop))
    starts = np.arange(0, max(len(samples), 1), hop)
    windows = padded[starts[:, None] + np.arange(size)] * np.hanning(size)
    power = np.abs(np.fft.rfft(windows)) ** 2
    bands = np.geomspace(LOWEST, rate / 2, ROWS + 1) * size / rate  # edges, in bins of the transform
    at = np.sqrt(bands[1:] * bands[:-1])
    energy = np.stack([np.interp(at, np.arange(power.shape[1]), column) for column in power], axis=1)[::-1]
    level = 10 * np.log10(np.maximum(energy, 1e-12) / max(float(energy.max()), 1e-12))
    share = np.clip(1 + level / RANGE, 0, 1) * (len(INK) - 1)
    colour = np.stack([np.interp(share, np.arange(len(INK)), channel) for channel in INK.T], axis=-1)
    return np.rint(colour).astype(np.uint8)


def _beginning(clip: Mapping) -> dict:
    """The first LONGEST seconds of a clip: of its samples, and of its readings those of the frames that begin there,
    which are its tokens."""
    samples = clip["samples"][: int(LONGEST * clip["rate"])]
    frames = int(np.ceil(len(samples) / clip["rate"] / clip["seconds"] - 1e-6))
    readings = {
        name: {what: np.asarray(values)[:, :frames] for what, values in reading.items()}
        for name, reading in clip["readings"].items()
    }
    frames = next(iter(readings.values()))["ids"].shape[1]
    tokens = [f"{k * clip['seconds']:.2f} s" for k in range(frames)]
    return {**clip, "samples": samples, "readings": readings, "tokens": tokens}

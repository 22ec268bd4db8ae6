"""A sound to play, its spectrogram, and the lens's words over time. Knows no model, no torch.

As `explorer.LensGrid`, of which it is one whose tokens are moments, it lives on a static page without a kernel.
"""

import base64
import io
import wave
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8
from PIL import Image

from .errors import SemhubError
from .explorer import _STATIC, LensGrid, script

MOST_BYTES = 60_000  # of one sound on a page
FORMATS = ((16000, 2), (8000, 2), (8000, 1))  # samples a second, bytes a sample: the first that is small enough
LONGEST = MOST_BYTES / 8000  # seconds that fit into the last of them
ROWS, COLUMNS, LOWEST, RANGE = 72, 240, 60.0, 60.0  # of a spectrogram: bands, columns at most, hertz, decibels
INK = np.array([(22, 18, 60), (120, 40, 110), (220, 95, 75), (250, 215, 125)], float)  # from silent to loud


class ClipPlayer(LensGrid):
    """Clips with a slider over layers. Make one with `ClipPlayer.from_clips`.

    Traits as in `LensGrid`: `sentence` is the clip and `cell` the layer and moment chosen; every entry of
    `meta["sentences"]` also holds `audio` (WAV) and `picture` (PNG) in base 64, `duration` and `step` (seconds), and
    `whole`, how long the clip is that it shows the first LONGEST seconds of.
    """

    _esm = script("clip_player.js")
    _css = LensGrid._css + (_STATIC / "clip_player.css").read_text(encoding="utf-8")

    @classmethod
    def from_clips(
        cls, clips: Sequence[Mapping], *, title: str = "Which words does each layer hold while the sound goes on?"
    ) -> "ClipPlayer":
        """Each clip is a mapping: name, samples [sample] in -1 to 1, rate, seconds (from one frame to the next),
        layers, and readings and vocab as `LensGrid.from_readings` takes them, tokens being frames."""
        if not clips:
            raise SemhubError("The player was given no clip; give at least one.")
        whole = [len(clip["samples"]) / clip["rate"] for clip in clips]
        clips = [_beginning(clip) for clip in clips]
        traits = cls._packed(
            [
                {
                    "name": clip["name"], "data_type": "sound", "layers": clip["layers"], "vocab": clip["vocab"],
                    "readings": clip["readings"], "dominant_ids": (),
                    "tokens": [f"{k * clip['seconds']:.2f} s" for k in range(_frames(clip))],
                }
                for clip in clips
            ],
            title,
            "",
        )  # fmt: skip
        for entry, clip, seconds in zip(traits["meta"]["sentences"], clips, whole, strict=True):
            samples = np.asarray(clip["samples"], dtype=float)
            entry["audio"] = base64.b64encode(wav(samples, clip["rate"])).decode()
            picture = io.BytesIO()
            Image.fromarray(spectrogram(samples, clip["rate"])).save(picture, "PNG", optimize=True)
            entry["picture"] = base64.b64encode(picture.getvalue()).decode()
            entry["duration"], entry["step"] = len(samples) / clip["rate"], float(clip["seconds"])
            entry["whole"] = seconds
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
    from .inputs import resample  # read only when there is a sound: it brings torch along

    for to, width in FORMATS:
        sound = np.clip(resample(np.asarray(samples, np.float32), rate, to), -1, 1)
        if len(sound) * width <= MOST_BYTES:
            break
    whole = (sound * 32767).astype("<i2") if width == 2 else (sound * 127 + 128).astype(np.uint8)
    file = io.BytesIO()
    with wave.open(file, "wb") as to_file:
        to_file.setnchannels(1)
        to_file.setsampwidth(width)
        to_file.setframerate(to)
        to_file.writeframes(whole.tobytes())
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


def _beginning(clip: Mapping) -> Mapping:
    """The first LONGEST seconds of a clip: of its samples, and of its readings those of the frames that begin there."""
    samples = clip["samples"][: int(LONGEST * clip["rate"])]
    frames = int(np.ceil(len(samples) / clip["rate"] / clip["seconds"] - 1e-6))
    readings = {
        name: {what: np.asarray(values)[:, :frames] for what, values in reading.items()}
        for name, reading in clip["readings"].items()
    }
    return {**clip, "samples": samples, "readings": readings}


def _frames(clip: Mapping) -> int:
    return np.asarray(next(iter(clip["readings"].values()))["ids"]).shape[1]

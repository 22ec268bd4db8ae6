"""What stands on a page beside charts: figures with their data, claim cards, a grid of each layer's lens words and a
sound with such words over time.

HTML inherits its colours or mixes them from the text's, so that it reads on white and on black. A widget has everything
in its traits and its page script draws it: it lives on a static page, without a kernel. Knows no model.
"""

import base64
import io
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import anywidget
import numpy as np
import pandas as pd
import soundfile
import traitlets
from jaxtyping import Float, UInt8
from PIL import Image

from .errors import need
from .figures import STYLES
from .inputs import resample

_STATIC = Path(__file__).parent / "static"
_FULL = 65535  # probabilities and entropies are stored as 16-bit shares of their range
MOST_BYTES = 60_000  # of one sound on a page
FORMATS = ((16000, 2), (8000, 2), (8000, 1))  # samples a second, bytes a sample: the first that is small enough
LONGEST = MOST_BYTES / 8000  # seconds that fit into the last of them
ROWS, COLUMNS, LOWEST, RANGE = 72, 240, 60.0, 60.0  # of a spectrogram: bands, columns at most, hertz, decibels
INK = np.array([(22, 18, 60), (120, 40, 110), (220, 95, 75), (250, 215, 125)], float)  # from silent to loud
SYMBOLS = {"holds": "✔", "holds weakly": "◐", "does not hold": "✘", "cannot be tested here": "?"}


@dataclass(frozen=True)
class Html:
    """A piece of HTML that a notebook displays; `text` is what stands for it where HTML cannot be shown."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


_STYLE = f"<style>{(_STATIC / 'cards.css').read_text(encoding='utf-8')}</style>"
"""Of tables and cards; each brings it along, as Colab shows every output in a frame of its own."""


def cell_text(value: object) -> str:
    """A value as a reader wants it: three significant digits, a dash for nothing, counts as "reason: number"."""
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {cell_text(item)}" for key, item in value.items()) or "none"
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple, np.ndarray)):
        return ", ".join(map(cell_text, value)) or "none"
    if value is None or pd.isna(value):
        return "–"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (int, np.integer)) or (abs(value) < 1e15 and float(value).is_integer()):
        return str(int(value))
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def data_table(table: pd.DataFrame, caption: str = "Data of the figure above") -> str:
    """The table as accessible HTML behind a disclosure; a wide or long one scrolls in its own box."""
    head = f'<caption style="text-align: left">{escape(caption)}</caption>' + _head(map(str, table.columns))
    rows = []
    for row in table.itertuples(index=False):
        first, *rest = (escape(cell_text(value)) for value in row)
        rows.append(f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{value}</td>" for value in rest) + "</tr>")
    box = _box("data-table-scroll", caption, f"<table>{head}<tbody>{''.join(rows)}</tbody></table>")
    return f'<details class="data-table"><summary>Data</summary>{box}</details>'


def _head(names: Iterable[str]) -> str:
    cells = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    return f"<thead><tr>{cells}</tr></thead>"


def _box(kind: str, label: str, inside: str) -> str:
    """A box that scrolls and can be reached by keyboard."""
    return f'<div class="{kind}" tabindex="0" role="region" aria-label="{escape(label)}">{inside}</div>'


# What curves run over: which column to lay out in columns; and what goes along with it.
_OVER = {"tokens": ("tokens", "series"), "layer": ("layer",)}
_ALONG = {
    "tokens": ("step", "layer", "depth"),
    "series": ("experiment", "step", "layer", "depth", "n", "dropped", "chance"),
}


def compact(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """A figure's table for its readers, and in words what is the same in all its rows.

    The interval and the null stand beside their value. A curve by layer, or by tokens seen, is one row; where curves do
    not share their tokens, each series has a column."""
    told = table[[c for c in table if c != "claim" and (table[c].notna() & (table[c].astype(str) != "")).any()]].copy()
    value, said = "value" if "value" in told else None, []
    if value and {"low", "high"} <= set(told):
        null = told.get("null_high", [None] * len(told))
        rows = zip(told["value"], told["low"], told["high"], null, strict=True)
        value = "value [95% interval]" + ", 95th percentile of the null" * ("null_high" in told)
        told = told.assign(value=[_with_band(*row) for row in rows]).rename(columns={"value": value})
        told = told.drop(columns=["low", "high", "null_high"], errors="ignore")
    names: list[str] = []
    over = next((c for c in _OVER if value and c in told and told[c].nunique() > 1), None)
    for column in _OVER.get(over, ()):
        of = told.drop(columns=[column, value, "p", *_ALONG.get(column, ("depth",))], errors="ignore").map(cell_text)
        curves: dict[tuple, dict] = {}
        for key, x, cell in zip(of.itertuples(index=False, name=None), told[column], told[value], strict=True):
            curves.setdefault(key, {})[x] = cell
        places = list(dict.fromkeys(told[column])) if column == "series" else sorted(told[column].unique())
        if sum(map(len, curves.values())) == len(told) and len(curves) * len(places) < 2 * len(told):
            rows = [[*key, *(cells.get(x) for x in places)] for key, cells in curves.items()]
            names = [x if column == "series" else f"{column} {cell_text(x)}" for x in places]
            said.append(f"{value} by {column}")
            told = pd.DataFrame(rows, columns=[*of, *names])
            break
    alike = [c for c in told.columns.difference([*names, value], sort=False) if told[c].map(cell_text).nunique() == 1]
    alike = alike if len(told) > 1 else []
    said += [f"{c}: {cell_text(told[c].iloc[0])}" for c in alike]
    return told.drop(columns=alike), "; ".join(said)


def _with_band(value: float | None, low: float | None, high: float | None, null: float | None = None) -> str:
    band = "" if pd.isna(low) else f" [{cell_text(low)}, {cell_text(high)}]"
    return cell_text(value) + band + ("" if pd.isna(null) else f", {cell_text(null)}")


def note(said: str) -> Html:
    """What stands where there is nothing to draw."""
    return Html(f'<p class="no-figure">{escape(said)}</p>', said)


def show(chart, table: pd.DataFrame) -> Html:
    """Chart and data table (as `compact` makes it) as one figure; a note in place of a chart as it is.

    The chart is written as Altair's default renderer writes it, whichever renderer is enabled.
    """
    if isinstance(chart, Html):
        return chart
    html = chart.to_html(fullhtml=False, template="universal", output_div=f"altair-viz-{uuid.uuid4().hex}")
    told, alike = compact(table)
    listing = data_table(told, f"Data: {chart.description}" + f" ({alike})" * bool(alike))
    return Html(f'{_STYLE}<figure class="semhub-figure">{html}{listing}</figure>', chart.description)


def _interval(entry: object) -> str:
    """A number, or a mapping's `statistic` or `value` with its interval."""
    if not isinstance(entry, Mapping):
        return cell_text(entry)
    value = cell_text(entry.get("statistic", entry.get("value")))
    if entry.get("low") is None or entry.get("high") is None:
        return value
    return f"{value} (95% interval {cell_text(entry['low'])} to {cell_text(entry['high'])})"


def _p(value: float) -> str:
    return f"p = {cell_text(value)}" if value >= 0.001 else "p < 0.001"


def _symbol(verdict: str) -> str:
    return f'<span aria-hidden="true">{SYMBOLS[verdict]}</span> '


def claim_card(claim: Mapping, paper_claim: str) -> Html:
    """A claim and its evidence on one card: what the paper says, what was found here, and the verdict in a word.

    `claim` is one entry of claims.json. Shown when there: claim (our sentence), verdict, reason, statistic, low, high,
    unit, layer, n_layers, reading, n, dropped (reason to count), p, null (in words), controls (name to number or to
    value, low, high), readings (others' names to verdict, statistic, low, high, layer).
    """
    verdict, finding = claim["verdict"], str(claim.get("claim") or claim["id"])
    statistic = _interval(claim) + (f" {claim['unit']}" if claim.get("unit") else "")
    if claim.get("layer") is not None:
        of = f" of {claim['n_layers']}" if claim.get("n_layers") else ""
        statistic += f", at layer {cell_text(claim['layer'])}{of}"
    null = f" against {claim['null']}" if claim.get("null") else ""
    others = []
    for name, of in (claim.get("readings") or {}).items():
        found = "" if of.get("layer") is None else f", {_interval(of)} at layer {of['layer']}"
        others.append(f"{name}: {of['verdict']}{found}")
    rows = {
        "Statistic": statistic,
        "Reading": claim.get("reading"),
        "Other readings": others or None,
        "Items": claim.get("n"),
        "Dropped": claim.get("dropped", {}),
        "Corrected p": _p(claim["p"]) + null if claim.get("p") is not None else None,
        "Controls": [f"{name}: {_interval(entry)}" for name, entry in claim.get("controls", {}).items()] or "none",
        "Rule": claim.get("reason"),
    }
    listed = ""
    for name, said in rows.items():
        if said not in (None, ""):
            lines = said if isinstance(said, list) else [cell_text(said)]
            listed += f"<div><dt>{name}</dt>" + "".join(f"<dd>{escape(line)}</dd>" for line in lines) + "</div>"
    html = (
        f'{_STYLE}<article class="claim" data-verdict="{verdict}" aria-label="Claim: {verdict}">'
        f'<p class="verdict">{_symbol(verdict)}{verdict.capitalize()}</p>'
        f'<blockquote class="paper-claim"><p class="claim-label">The paper</p><p>{escape(paper_claim)}</p>'
        f'</blockquote><div class="our-finding"><p class="claim-label">Found here</p><p>{escape(finding)}</p>'
        f"<dl>{listed}</dl></div></article>"
    )
    return Html(html, f"{verdict.capitalize()}: {finding} ({statistic})")


def verdict_table(claims: Sequence[Mapping]) -> Html:
    """Every claim of a chapter on one line: what is claimed, the verdict, statistic, corrected p, items."""
    rows, told = [], []
    for claim in claims:
        verdict, sentence = claim["verdict"], str(claim.get("claim") or claim["id"])
        p = _p(claim["p"]) if claim.get("p") is not None else "–"
        statistic = _with_band(*(claim.get(name) for name in ("statistic", "low", "high")))
        cells = "".join(f"<td>{escape(number)}</td>" for number in (statistic, p, cell_text(claim.get("n"))))
        row = f'<th scope="row">{escape(sentence)}</th><td class="verdict">{_symbol(verdict)}{verdict}</td>{cells}'
        rows.append(f'<tr data-verdict="{verdict}">{row}</tr>')
        told.append(f"{verdict.capitalize()}: {sentence}")
    head = _head(("Claim", "Verdict", "Statistic [95% interval]", "Corrected p", "Items"))
    table = f"<table>{head}<tbody>{''.join(rows)}</tbody></table>"
    return Html(_STYLE + _box("verdict-table", "Verdicts of this chapter", table), "\n".join(told))


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
        need(sentences, "The grid was given no sentence; give at least one.")
        return cls(**cls._packed(sentences, title, dominant))

    @staticmethod
    def _packed(sentences: Sequence[Mapping], title: str, dominant: str) -> dict:
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
        need(clips, "The player was given no clip; give at least one.")
        shown = [_beginning(clip) for clip in clips]
        traits = cls._packed([clip | {"data_type": "sound", "dominant_ids": ()} for clip in shown], title, "")
        for entry, clip, whole in zip(traits["meta"]["sentences"], shown, clips, strict=True):
            samples, rate, picture = np.asarray(clip["samples"], dtype=float), clip["rate"], io.BytesIO()
            Image.fromarray(spectrogram(samples, rate)).save(picture, "PNG", optimize=True)
            files = {"audio": wav(samples, rate), "picture": picture.getvalue()}
            entry |= {name: base64.b64encode(file).decode() for name, file in files.items()}
            entry |= {"duration": len(samples) / rate, "step": float(clip["seconds"])}
            entry["whole"] = len(whole["samples"]) / rate
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

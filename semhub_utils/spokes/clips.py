"""Sounds with a label, from the own files of ESC-10, ESC-50 and VGGSound."""

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from semhub_utils.errors import SemhubError
from semhub_utils.inputs import Sound
from semhub_utils.spokes.files import Skipped, find, noted, read_text, some
from semhub_utils.spokes.media import read_sound

Wanted = Callable[[str], object] | None
"""Whether a label is wanted; None where all are."""
SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")


@dataclass(frozen=True)
class Clip:
    """One sound. source: the recording it was cut from; clips of one source are not independent."""

    id: str
    path: Path
    label: str
    source: str

    def sound(self, rate: int) -> Sound:
        return read_sound(self.path, rate)


def esc(n: int, *, seed: int, data_dir: str | Path, wanted: Wanted = None) -> tuple[list[Clip], Skipped]:
    """`n` clips (all there are, if that is fewer) drawn by `seed`: ESC-10's folders of `data_dir`/esc10, named as
    "001 - Dog bark", or ESC-50's meta/esc50.csv and audio/ in `data_dir`/esc50. A file that cannot be read, or whose
    label is not wanted, is skipped and counted. Raises SemhubError where neither is there."""
    skipped = Skipped()
    for root in (Path(data_dir) / name for name in ("esc10", "ESC-10-master", "ESC-10", ".")):
        folders = [f for f in sorted(root.glob("*")) if f.is_dir() and re.fullmatch(r"\d+ - .+", f.name)]
        if folders:
            found = [
                Clip(f"esc10:{path.stem}", path, folder.name.partition(" - ")[2].lower(), path.stem.rpartition("-")[0])
                for folder in folders
                for path in sorted(folder.iterdir())
                if path.suffix.lower() in SUFFIXES
            ]
            return _draw(found, noted(root), n, seed, skipped, wanted), skipped
    places = tuple(f"{root}/meta/esc50.csv" for root in ("esc50", "ESC-50-master", "ESC-50", "."))
    path = find(data_dir, places, what="ESC-10 or ESC-50", source="GitHub karoldvl/ESC-10 or karolpiczak/ESC-50")
    found = []
    for place, row in _rows(path, ("filename", "category", "src_file"), skipped):
        file = path.parent.parent / "audio" / row["filename"]
        found.append(Clip(f"esc50:{file.stem}", file, row["category"].replace("_", " "), row["src_file"] or place))
    return _draw(found, path, n, seed, skipped, wanted), skipped


def vggsound(
    n: int, *, seed: int, data_dir: str | Path, split: str = "test", wanted: Wanted = None
) -> tuple[list[Clip], Skipped]:
    """`n` clips of one split: `data_dir`/vggsound/vggsound.csv (video, second, label, split) and files named
    <video>_<second in six digits>.wav, in that folder or one below. Those that are not there are skipped and counted,
    and so are others as by `esc`. Raises SemhubError where the table is missing."""
    places = ("vggsound/vggsound.csv", "vggsound.csv")
    path = find(data_dir, places, what="VGGSound", source="robots.ox.ac.uk/~vgg/data/vggsound")
    skipped, found = Skipped(), []
    files = {file.stem: file for file in sorted(path.parent.rglob("*")) if file.suffix.lower() in SUFFIXES}
    for place, (video, second, label, part) in _rows(path, ("video", "second", "label", "split"), skipped, head=False):
        if part.strip() != split:
            continue
        name = f"{video}_{int(second):06d}" if second.strip().isdigit() else video
        if name in files:
            found.append(Clip(f"vggsound:{name}", files[name], label.strip(), video))
        else:
            skipped.add("no file", f"{place} ({name})")
    return _draw(found, path, n, seed, skipped, wanted), skipped


def _rows(path: Path, columns: tuple[str, ...], skipped: Skipped, head: bool = True):
    """(place, row) of a table: by column name if it has a head, else as many values as there are columns."""
    rows = list(csv.reader(read_text(path).splitlines()))
    names = [name.strip() for name in rows[0]] if head and rows else list(columns)
    if missing := set(columns) - set(names):
        raise SemhubError(f"{path} has no column {min(missing)}; the table of the data set itself would do.")
    for number, row in enumerate(rows[head:], 1 + head):
        if len(row) == len(names):
            yield f"{path.name}:{number}", dict(zip(names, row, strict=True)) if head else row
        else:
            skipped.add("row of another length", f"{path.name}:{number}")


def _draw(found: list[Clip], path: Path, n: int, seed: int, skipped: Skipped, wanted: Wanted) -> list[Clip]:
    """`n` clips that can be read, drawn by `seed`; each is looked at now, so that no damaged one ends a run later. Of
    labels that are wanted there may be none."""
    if n < 1:
        raise SemhubError(f"n_items is {n}; a whole number from 1 would do.")
    if wanted:
        for clip in (clip for clip in found if not wanted(clip.label)):
            skipped.add("another label", f"{clip.id} ({clip.label})")
        found = [clip for clip in found if wanted(clip.label)]
    drawn: list[Clip] = []
    for number in np.random.default_rng(seed).permutation(len(found)):
        if len(drawn) == n:
            break
        try:
            read_sound(found[number].path, 16000)
        except SemhubError as error:
            skipped.add("unreadable file" if found[number].path.is_file() else "no file", str(error).split(";")[0])
            continue
        drawn.append(found[number])
    return sorted(drawn if wanted else some(drawn, path, "sounds", skipped), key=lambda clip: clip.id)

"""Reading public data sets from their own files, or from the samples of them that come with the package: what cannot be
used is left out and counted, never a silent zero."""

import csv
import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semhub_utils.errors import SemhubError, half_characters, need, need_plain
from semhub_utils.spokes.items import Items, LeftOut

csv.field_size_limit(2**28)  # of characters: a long text costs itself alone
LONGEST = 100_000  # characters of a text; a tokenizer takes minutes over millions without a space
TOO_LONG = f"longer than {LONGEST} characters"

SAMPLES = Path(__file__).parents[1] / "samples"
"""A `data_dir` that is always there: a part of each text set, with its licence, in the set's own form."""

Entries = Iterator[tuple[str, Any]]
"""(place, entry) of what a file holds; place is "name:number", for messages."""


@dataclass(frozen=True)
class PublicSet:
    """A set that others publish. files: where its own may lie below a folder; source: who has them."""

    name: str
    files: tuple[str, ...]
    source: str

    def at(self, data_dir: str | Path) -> Path | None:
        """The first of its files that is there."""
        return next((path for name in self.files if (path := Path(data_dir) / name).exists()), None)

    def find(self, data_dir: str | Path) -> Path:
        """The same. Raises SemhubError saying where it is had, if none is there."""
        path = self.at(data_dir)
        need(path, f"{data_dir} has no {self.files[0]}, the file of {self.name}; that of {self.source} would do.")
        need_plain(path)
        return path

    def read(self, data_dir: str | Path, entries: Callable[[Path, Items], Entries]) -> tuple[Items, Entries]:
        """Items of this source, none yet, and (place, entry) of all that it holds, as `entries` reads its file below
        `data_dir`. Raises SemhubError where it is not there, or cannot be read."""
        path = self.find(data_dir)
        found = Items(source=f"a sample of {self.name}" if SAMPLES in path.parents else named(path))
        return found, entries(path, found)


def named(*paths: Path) -> str:
    """Files as the `source` of items: each by its last two names, as where a folder lies is its owner's business."""
    return ", ".join(sorted("/".join(path.absolute().parts[-2:]) for path in paths))


def read_text(path: Path) -> str:
    """A UTF-8 file, or one packed by gzip, as text, a byte-order mark left out and line ends made "\\n". Raises
    SemhubError on another one, and on a device, which may have no end."""
    need(not path.is_char_device(), f"{path} is a device; a file would do.")
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise SemhubError(f"{path} is not UTF-8 (byte {error.start}); the file saved as UTF-8 would do.") from error
    except (OSError, EOFError, zlib.error) as error:  # a packed file that is cut short, damaged or none
        why = getattr(error, "strerror", None) or error
        raise SemhubError(f"{path} cannot be read ({why}); a file that can be would do.") from error


def below(folder: Path, name: object) -> Path | None:
    """The file of that name in a folder or below it; nothing where a name leads out of it, is none, or a pipe's."""
    usable = isinstance(name, str) and 0 < len(name.encode("utf-8", "replace")) < 256 and "\0" not in name
    path = os.path.normpath(name) if usable else ".."
    out = os.path.isabs(path) or path.split(os.sep)[0] == ".."
    return None if out or (folder / path).exists() and not (folder / path).is_file() else folder / path


def rows(path: Path) -> list[str]:
    """The lines of `read_text`."""
    return read_text(path).removesuffix("\n").split("\n")


def usable(line: str, place: str) -> str | LeftOut:
    """A line that is neither empty nor too long."""
    if len(line) > LONGEST:
        return LeftOut(TOO_LONG, place)
    return line if line.strip() else LeftOut("empty line", place)


def lines(path: Path, found: Items) -> Entries:
    """Every line that is `usable`; the others are counted."""
    for number, line in enumerate(rows(path), 1):
        if isinstance(one := usable(line, f"{path.name}:{number}"), LeftOut):
            found.drop(*one)
        else:
            yield f"{path.name}:{number}", line


def objects(path: Path, found: Items) -> Entries:
    """The JSON objects of a file with one on each line."""
    for place, line in lines(path, found):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            entry = None
        if not isinstance(entry, dict):
            found.drop("not a JSON object", place)
        elif half_characters(json.dumps(entry, ensure_ascii=False)):
            found.drop("half a character", place)
        else:
            yield place, entry


def plain(entries: object, found: Items, where: str) -> list[dict]:
    """Of a JSON list the objects whose ids and names are numbers, texts or nothing; the others are counted."""
    ids = ("id", "image_id", "category_id", "name")
    every = entries if isinstance(entries, list) else []
    kept = [e for e in every if isinstance(e, dict) and all(isinstance(e.get(k), int | str | None) for k in ids)]
    kept = [e for e in kept if all(len(str(e.get(k))) <= LONGEST for k in ids)]
    if len(kept) < len(every):
        found.drop("an entry without an id that can be read", where, len(every) - len(kept))
    return kept


def table(path: Path, found: Items, columns: Sequence[str], *, head: bool = True) -> Entries:
    """The rows of a CSV file by column name; without a `head`, `columns` are all there are. A quote that nothing closes
    costs its line alone. Raises SemhubError where a column is missing."""
    every = [(number, row) for number, row in _records(read_text(path).split("\n")) if row != []]
    names = [name.strip() for name in (every[0][1] or () if every else ()) if head] if head else [*columns]
    missing = min(set(columns) - set(names), default="")
    need(not missing, f"{path} has no column {missing!r} (it has {', '.join(map(repr, names))}); one with it would do.")
    for number, row in every[head:]:
        place = f"{path.name}:{number}"
        if row is None or len(row) != len(names):
            found.drop("row of another length" if row else "a quote that is not closed", place)
        elif max(map(len, row)) > LONGEST:
            found.drop(TOO_LONG, place)
        else:
            yield place, dict(zip(names, row, strict=True))


def _records(rows: Sequence[str]) -> Iterator[tuple[int, list[str] | None]]:
    """(number of its first line, cells) of every record; None for a line that begins none."""
    at = 0
    while at < len(rows):
        reader = csv.reader((f"{rows[k]}\n" for k in range(at, len(rows))), strict=True)
        try:
            row, read = next(reader), reader.line_num
        except csv.Error:
            row, read = None, 1
        yield at + 1, row
        at += read

"""Reading public data sets, from their own files or over the network: what cannot be used is left out and counted,
never a silent zero."""

import csv
import gzip
import io
import itertools
import json
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semhub_utils.errors import SemhubError, half_characters, need, need_one_of
from semhub_utils.spokes.items import GENERATED, Items

csv.field_size_limit(2**28)  # of characters: a long text is no fault

Entries = Iterator[tuple[str, Any]]
"""(place, entry) of what a file holds; place is "name:number", for messages."""


@dataclass(frozen=True)
class PublicSet:
    """A set that others publish. files: where its own may lie below a folder; source: who has them; repository,
    revision, splits, config: on the hub, for a chapter that has no files."""

    name: str
    files: tuple[str, ...]
    source: str
    repository: str = ""
    revision: str = ""
    splits: tuple[str, ...] = ("train",)
    config: str | None = None

    def find(self, data_dir: str | Path) -> Path:
        """The first of its files that is there. Raises SemhubError saying where it is had."""
        for name in self.files:
            if (path := Path(data_dir) / name).exists():
                return path
        raise SemhubError(
            f"{data_dir} has no {self.files[0]}, the file of {self.name}; that of {self.source} would do."
        )

    def read(self, data_dir: str | Path | None, entries: Callable[[Path, Items], Entries]) -> tuple[Items, Entries]:
        """Items of this source, none yet, and (place, entry) of all that it holds: as `entries` reads its file below
        `data_dir`, or without one all rows over the network, each a dict by column. Raises SemhubError where it is not
        there, or cannot be read."""
        if data_dir is None:
            return Items(source=f"{self.repository}@{self.revision[:7]}"), self._rows()
        path = self.find(data_dir)
        found = Items(source=named(path))
        return found, entries(path, found)

    def _rows(self) -> Entries:
        try:
            import datasets  # only where a chapter asks for the network
        except ImportError as error:
            raise SemhubError(
                f"{self.repository} is read over the network with the package datasets, which is not installed; `pip "
                "install 'datasets>=4'`, or data_dir at a folder with the set's own files, would do."
            ) from error
        number = itertools.count(1)
        for split in self.splits:
            try:
                rows = [*datasets.load_dataset(self.repository, self.config, revision=self.revision, split=split)]
            except (OSError, ValueError, KeyError, RuntimeError) as error:
                which = ", ".join(filter(None, (self.config, split, self.revision[:7])))
                raise SemhubError(
                    f"{self.repository} ({which}) cannot be had from the hub ({type(error).__name__}); a connection, "
                    "or data_dir at a folder with the set's own files, would do."
                ) from error
            yield from ((f"{self.repository}:{next(number)}", row) for row in rows)


def origin(parameter: str, given: str | None, public: str, data_dir: str | Path | None, *others: str) -> str:
    """Where a chapter's items come from: what its `parameter` names, or unasked the `public` set if there is a
    `data_dir`, else "generated". The public set is read from `data_dir`, or without one over the network. Raises
    SemhubError on a name that is neither of these nor one of `others`."""
    found = given or (public if data_dir else GENERATED)
    need_one_of(found, (GENERATED, public, *others), f"{parameter} is {given!r}")
    return found


def named(*paths: Path) -> str:
    """Files as the `source` of items: each by its last two names, as where a folder lies is its owner's business."""
    return ", ".join(sorted("/".join(path.absolute().parts[-2:]) for path in paths))


def read_text(path: Path) -> str:
    """A UTF-8 file, or one packed by gzip, as text, a byte-order mark left out and line ends made "\\n". Raises
    SemhubError on another one."""
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise SemhubError(f"{path} is not UTF-8 (byte {error.start}); the file saved as UTF-8 would do.") from error
    except (OSError, EOFError, zlib.error) as error:  # a packed file that is cut short, damaged or none
        why = getattr(error, "strerror", None) or error
        raise SemhubError(f"{path} cannot be read ({why}); a file that can be would do.") from error


def below(folder: Path, name: object) -> Path | None:
    """The file of that name in a folder or below it; nothing where a name leads out of it, or is none."""
    usable = isinstance(name, str) and 0 < len(name.encode("utf-8", "replace")) < 256 and "\0" not in name
    path = os.path.normpath(name) if usable else ".."
    return None if os.path.isabs(path) or path.split(os.sep)[0] == ".." else folder / path


def lines(path: Path, found: Items) -> Entries:
    """Every line that is not empty; the empty ones are counted."""
    for number, line in enumerate(read_text(path).removesuffix("\n").split("\n"), 1):
        if line.strip():
            yield f"{path.name}:{number}", line
        else:
            found.drop("empty line", f"{path.name}:{number}")


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


def table(path: Path, found: Items, columns: Sequence[str], *, head: bool = True) -> Entries:
    """The rows of a CSV file by column name; without a `head`, `columns` are all there are. Raises SemhubError where
    one is missing."""
    rows = [row for row in csv.reader(io.StringIO(read_text(path))) if row]
    names = [name.strip() for row in (rows[:1] if head else [columns]) for name in row]
    missing = min(set(columns) - set(names), default="")
    need(not missing, f"{path} has no column {missing!r} (it has {', '.join(names)}); one with it would do.")
    for number, row in enumerate(rows[head:], 1 + head):
        if len(row) == len(names):
            yield f"{path.name}:{number}", dict(zip(names, row, strict=True))
        else:
            found.drop("row of another length", f"{path.name}:{number}")

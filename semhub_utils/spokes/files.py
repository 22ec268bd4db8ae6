"""Reading the public data sets' own files: what cannot be used is skipped and counted, never a silent zero."""

import gzip
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from semhub_utils.errors import SemhubError

SHOWN = 3


class Skipped:
    """Entries left out of a file: how many for which reason, and where the first three were."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.first: list[str] = []

    def add(self, reason: str, where: str) -> None:
        self.counts[reason] += 1
        if len(self.first) < SHOWN:
            self.first.append(f"{where}: {reason}")

    def __str__(self) -> str:
        """One sentence for the reader; empty if nothing was left out."""
        if not self.counts:
            return ""
        many = ", ".join(f"{count} × {reason}" for reason, count in self.counts.items())
        return f"Left out: {many}; the first: {'; '.join(self.first)}."


def find(data_dir: str | Path, candidates: str | tuple[str, ...], *, what: str, source: str) -> Path:
    """The first of `candidates` (paths below `data_dir`) that is a file. Raises SemhubError saying where it is had."""
    names = (candidates,) if isinstance(candidates, str) else candidates
    for name in names:
        if (path := Path(data_dir) / name).is_file():
            return path
    raise SemhubError(f"{data_dir} has no {names[0]}, the file of {what}; the one from {source} would do.")


def read_text(path: Path) -> str:
    """A UTF-8 file, or one packed by gzip, as text, a byte-order mark left out and line ends made "\\n". Raises
    SemhubError on another one."""
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise SemhubError(f"{path} is not UTF-8 (byte {error.start}); the file saved as UTF-8 would do.") from error
    except (OSError, EOFError) as error:  # a packed file that is cut short or none
        why = getattr(error, "strerror", None) or error
        raise SemhubError(f"{path} cannot be read ({why}); a file that can be would do.") from error


def lines(path: Path, skipped: Skipped) -> Iterator[tuple[str, str]]:
    """(place, line) of every line that is not empty; place is "name:number" for messages. Empty ones are counted."""
    for number, line in enumerate(read_text(path).removesuffix("\n").split("\n"), 1):
        place = f"{path.name}:{number}"
        if line.strip():
            yield place, line
        else:
            skipped.add("empty line", place)


def some(found: list, path: str | Path, what: str, skipped: Skipped) -> list:
    """`found`, if there is any; else one sentence with what was skipped."""
    if not found:
        raise SemhubError(f"{path} holds no {what} that can be used. {skipped}".strip())
    return found

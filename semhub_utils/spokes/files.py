"""Reading public data sets, from their own files or over the network: what cannot be used is left out and counted,
never a silent zero."""

import gzip
from collections.abc import Iterator
from pathlib import Path

from semhub_utils.errors import SemhubError, need_one_of
from semhub_utils.spokes.items import Items

READ: set[str] = set()
"""What was read since the last `results.Run` began: a file by its own name and its folder's, a set of the hub by name
and commit."""


def named(*paths: Path) -> str:
    """Files as the `source` of items: each by its last two names, as where a folder lies is its owner's business."""
    names = sorted("/".join(path.absolute().parts[-2:]) for path in paths)
    READ.update(names)
    return ", ".join(names)


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


def lines(path: Path, found: Items) -> Iterator[tuple[str, str]]:
    """(place, line) of every line that is not empty; place is "name:number" for messages. Empty ones are counted."""
    for number, line in enumerate(read_text(path).removesuffix("\n").split("\n"), 1):
        place = f"{path.name}:{number}"
        if line.strip():
            yield place, line
        else:
            found.drop("empty line", place)


# Over the network

SETS = {
    "mbpp": ("google-research-datasets/mbpp", "4bb6404fdc6cacfda99d4ac4205087b89d32030c"),  # configs full, sanitized
    "cogs": ("Punchwe/COGS", "aa6e0aa15d17bcda7dd5ca8530c2819b70f6d516"),  # columns input, output, domain
    "ntrex": ("davidstap/NTREX", "fd20d54141b6da952d5c68a2989472892489da0f"),  # config per language: eng_Latn, spa_Latn
}
"""Short name -> (repository on the hub, commit): what a chapter reads where it has no files."""


def origin(parameter: str, given: str | None, public: str, data_dir: str | Path | None, *others: str) -> str:
    """Where a chapter's items come from: what its `parameter` names, or unasked the `public` set if there is a
    `data_dir`, else "generated". The public set is read from `data_dir`, or without one over the network. Raises
    SemhubError on a name that is neither of these nor one of `others`."""
    found = given or (public if data_dir else "generated")
    need_one_of(found, ("generated", public, *others), f"{parameter} is {given!r}")
    return found


def hub_rows(name: str, split: str, config: str | None = None) -> Items:
    """All rows of one split of a data set of SETS, each a dict by column.

    Raises SemhubError where the package `datasets` is missing, or the set cannot be had.
    """
    repository, revision = SETS[name]
    try:
        import datasets  # only where a chapter asks for the network
    except ImportError as error:
        raise SemhubError(
            f"{repository} is read over the network with the package datasets, which is not installed; `pip install "
            "'datasets>=4'`, or data_dir at a folder with the set's own files, would do."
        ) from error
    source = f"{repository}@{revision[:7]}"
    READ.add(source)
    try:
        return Items(datasets.load_dataset(repository, config, revision=revision, split=split), source)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        which = f"{repository} ({', '.join(part for part in (config, split, revision[:7]) if part)})"
        raise SemhubError(
            f"{which} cannot be had from the hub ({type(error).__name__}); a connection, or data_dir at a folder with "
            "the set's own files, would do."
        ) from error

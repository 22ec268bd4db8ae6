"""The one exception of this package: a sentence for the user, never a traceback."""

import os
import re
import sys
import zlib
from collections.abc import Iterable
from contextlib import contextmanager, suppress
from pathlib import Path

LONGEST = 300  # characters of what a library says
SEEDS = 2**32  # how many there are: what every library takes
DAMAGED = (OSError, EOFError, zlib.error, ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What reading a file may raise that is cut short, garbled, or of another shape."""


class SemhubError(Exception):
    """Something the user gave cannot be used; the message is one sentence: what was given and what would do."""


class TooLong(SemhubError):
    """A prompt beyond the model's context."""


STOPS = (KeyboardInterrupt, SystemExit, GeneratorExit)
"""What ends a program and is no fault; what breaks within a library in another language is no Exception either."""


def need(condition: object, sentence: str) -> None:
    """Raises SemhubError with the sentence unless the condition holds."""
    if not condition:
        raise SemhubError(sentence)


def need_plain(path: Path) -> None:
    """Raises SemhubError where what lies there is neither file nor folder: to read a pipe is to wait for who writes."""
    odd = path.exists() and not path.is_file() and not path.is_dir()
    need(not odd, f"{path} is a pipe, a socket or a device; a file, or nothing of this name, would do.")


def need_one_of(given: object, known: Iterable[str], sentence: str) -> None:
    """Raises SemhubError with the sentence and what would do unless `given` is among `known`."""
    need(given in known, f"{sentence}; one of {', '.join(known)} would do.")


def half_characters(text: str) -> bool:
    """Whether it holds a lone surrogate, which no file or tokenizer can write."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def out_of_memory(error: BaseException) -> bool:
    words = str(error).lower()
    return isinstance(error, MemoryError) or any(
        said in words for said in ("out of memory", "not enough memory", "can't allocate memory")
    )


@contextmanager
def in_memory(what: str, would: str):
    """Raises SemhubError where what is done within needs more memory than there is."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise SemhubError(f"{what}; {would} would do.") from error


@contextmanager
def aside():
    """What is written to stderr meanwhile is told afterwards, but for the lines before a panic of a library in Rust."""
    sys.stderr.flush()
    own, (read, write) = os.dup(2), os.pipe()
    for end in (read, write):
        os.set_blocking(end, False)
    os.dup2(write, 2)
    told = True
    try:
        yield
    except BaseException as error:
        told = isinstance(error, (Exception, *STOPS))
        raise
    finally:
        sys.stderr.flush()
        os.dup2(own, 2)
        with suppress(BlockingIOError):  # nothing was written
            said = os.read(read, 2**16)
            told and os.write(2, said)
        for end in (own, read, write):
            os.close(end)


def reason(error: BaseException) -> str:
    """The first sentence of what a library says, on one line, without its full stop, to stand within another one."""
    line = (str(error).strip() or type(error).__name__).split("\n")[0]
    said = re.split(r"(?<=[^.\s]{2})\.\s", line)[0].rstrip(".:; ")
    return said if len(said) <= LONGEST else said[: LONGEST - 3] + "..."

"""The one exception of this package: a sentence for the user, never a traceback."""

from collections.abc import Iterable


class SemhubError(Exception):
    """Something the user gave cannot be used; the message is one sentence: what was given and what would do."""


class TooLong(SemhubError):
    """A prompt beyond the model's context."""


def need(condition: object, sentence: str) -> None:
    """Raises SemhubError with the sentence unless the condition holds."""
    if not condition:
        raise SemhubError(sentence)


def need_one_of(given: object, known: Iterable[str], sentence: str) -> None:
    """Raises SemhubError with the sentence and what would do unless `given` is among `known`."""
    need(given in known, f"{sentence}; one of {', '.join(known)} would do.")


def out_of_memory(error: RuntimeError) -> bool:
    words = str(error).lower()
    return any(said in words for said in ("out of memory", "not enough memory", "can't allocate memory"))


def reason(error: BaseException) -> str:
    """The first line of what a library says, without its full stop, to stand within a sentence."""
    return str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__

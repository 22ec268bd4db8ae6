"""The one exception of this package: a sentence for the user, never a traceback."""


class SemhubError(Exception):
    """Something the user gave cannot be used; the message is one sentence: what was given and what would do."""


def out_of_memory(error: RuntimeError) -> bool:
    words = str(error).lower()
    return any(said in words for said in ("out of memory", "not enough memory", "can't allocate memory"))

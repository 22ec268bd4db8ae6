"""The one exception of this package: a sentence for the user, never a traceback."""


class SemhubError(Exception):
    """Something the user gave cannot be used; the message is one sentence: what was given and what would do."""

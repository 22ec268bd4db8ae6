"""Public data sets over the network, by name and pinned revision: what a chapter reads where it has no files."""

from pathlib import Path

from semhub_utils.errors import SemhubError
from semhub_utils.spokes.files import READ

SETS = {
    "mbpp": ("google-research-datasets/mbpp", "4bb6404fdc6cacfda99d4ac4205087b89d32030c"),  # configs full, sanitized
    "cogs": ("Punchwe/COGS", "aa6e0aa15d17bcda7dd5ca8530c2819b70f6d516"),  # columns input, output, domain
    "ntrex": ("davidstap/NTREX", "fd20d54141b6da952d5c68a2989472892489da0f"),  # config per language: eng_Latn, spa_Latn
}
"""Short name -> (repository on the hub, commit): `hub_rows(*SETS["mbpp"], split="test", config="full")`."""


def origin(parameter: str, given: str | None, public: str, data_dir: str | Path | None, *others: str) -> str:
    """Where a chapter's items come from: what its `parameter` names, or unasked the `public` set if there is a
    `data_dir`, else "generated". The public set is read from `data_dir`, or without one over the network. Raises
    SemhubError on a name that is neither of these nor one of `others`."""
    known = ("generated", public, *others)
    if (found := given or (public if data_dir else "generated")) not in known:
        raise SemhubError(f"{parameter} is {given!r}; one of {', '.join(known)} would do.")
    return found


def hub_rows(name: str, revision: str, split: str, config: str | None = None) -> list[dict]:
    """All rows of one split of a data set on the Hugging Face hub, each a dict by column.

    Raises SemhubError where the package `datasets` is missing, or the set cannot be had.
    """
    try:
        import datasets  # only where a chapter asks for the network
    except ImportError as error:
        raise SemhubError(
            f"{name} is read over the network with the package datasets, which is not installed; `pip install "
            "'datasets>=4'`, or data_dir at a folder with the set's own files, would do."
        ) from error
    READ.add(f"{name}@{revision[:7]}")
    try:
        return list(datasets.load_dataset(name, config, revision=revision, split=split))
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        which = f"{name} ({', '.join(part for part in (config, split, revision[:7]) if part)})"
        raise SemhubError(
            f"{which} cannot be had from the hub ({type(error).__name__}); a connection, or data_dir at a folder with "
            "the set's own files, would do."
        ) from error

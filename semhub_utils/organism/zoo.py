"""The organisms that ship with the package: where they are and what their cards say."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from pathlib import Path

from semhub_utils.errors import SemhubError

PREFIX = "organism:"
CARD = "card.json"


def weights_dir() -> Path:
    """The package's folder of shipped organisms."""
    return Path(str(files("semhub_utils.organism"))) / "weights"


def available() -> list[str]:
    """Names of the shipped organisms that read and write text alone, sorted."""
    return [name for name in _shipped() if not has_sense(name)]


def senses() -> list[str]:
    """Names of the shipped organisms that see or hear, sorted."""
    return [name for name in _shipped() if has_sense(name)]


def _shipped() -> list[str]:
    return sorted(p.parent.name for p in weights_dir().glob("*/model.safetensors"))


def has_sense(name: str) -> bool:
    """Whether a folder's model is one around a text model; without a readable configuration it is taken as text."""
    try:
        config = json.loads((weights_dir() / name / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return "text_config" in config


def organism_path(name: str) -> Path:
    """Folder of a shipped organism, for `from_pretrained`; `name` is "organism:hub" or "hub".

    SemhubError, naming those there are, for any other name.
    """
    short = name.removeprefix(PREFIX)
    known = available() + senses()
    if short not in known:
        there = ", ".join(PREFIX + n for n in known) or "none in this installation"
        raise SemhubError(f"There is no organism {name!r}; available: {there}.")
    return weights_dir() / short


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def card(name: str) -> dict:
    """The model card of a shipped organism (see `organism.card.write_card` for its keys)."""
    return json.loads((organism_path(name) / CARD).read_text(encoding="utf-8"))

"""Models by name: those that ship with the package, the folder and the slug of any; files put in place whole."""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from .errors import SemhubError

PREFIX = "organism:"
CARD = "card.json"
TUNED = "tuned.safetensors"


# ---- what ships ----


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


def card(name: str) -> dict:
    """The card of a shipped training, by its folder's name; its weights may not ship."""
    return json.loads((weights_dir() / name / CARD).read_text(encoding="utf-8"))


# ---- folders of any model ----


def model_slug(model_id: str, revision: str | None = None) -> str:
    """The folder name of a model. A local folder gives its name and a hash of its path, as two may share a name."""
    if is_folder(model_id):
        path = Path(model_id).expanduser().resolve()
        model_id = f"{path.name}-{hashlib.sha256(str(path).encode()).hexdigest()[:6]}"
    return slug(model_id) + (f"--{slug(revision)}" if revision else "")


def slug(text: str) -> str:
    return re.sub(r"[^\w.-]+", "--", text.replace(":", "-")).strip(".-") or "unnamed"


def placeless(name: str, value: Any) -> Any:
    """A parameter's value, but a folder by its name alone, and the model's by its slug: where it lies is nobody's
    business."""
    if not is_folder(value):
        return value
    return model_slug(value) if name == "model_id" else Path(value).resolve().name


def is_folder(value: Any) -> bool:
    return isinstance(value, str) and Path(value).expanduser().is_dir()


def model_folder(model_id: str) -> Path | None:
    """The folder of a local or shipped model, None for one of the hub. SemhubError for an unknown shipped one."""
    folder = organism_path(model_id) if model_id.startswith(PREFIX) else Path(model_id)
    return folder if folder.is_dir() else None


def beside(model_id: str, revision: str | None = None) -> Path:
    """Where a model's tuned lens is looked for: in its own folder, or for a model of the hub in the hub's cache."""
    folder = model_folder(model_id) or Path(constants.HF_HOME) / "semhub" / model_slug(model_id, revision)
    return folder / TUNED


# ---- files ----


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def atomically(path: Path, write: Callable[[Path], Any]) -> Path:
    """Let `write` fill another file in the same folder, then put it in place: what is at `path` is whole. The folder is
    made where it is missing. Returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        write(Path(name))
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path

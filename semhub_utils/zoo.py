"""Models by name: those that ship with the package, the folder and the slug of any; files put in place whole."""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from .errors import need_one_of

PREFIX = "organism:"
CARD = "card.json"
TUNED = "tuned.safetensors"
DTYPES = ("float32", "bfloat16", "float16", "float64")


WEIGHTS = Path(__file__).parent / "organism" / "weights"  # the folder of shipped organisms


def available(*, senses: bool = False) -> list[str]:
    """Names of the shipped organisms that read and write text alone, or of those that see or hear, sorted."""
    names = sorted(path.parent.name for path in WEIGHTS.glob("*/model.safetensors"))
    return [name for name in names if has_sense(name) == senses]


def has_sense(name: str) -> bool:
    """Whether a shipped model is one around a text model; where no configuration ships it is a text model."""
    config = WEIGHTS / name / "config.json"
    return config.is_file() and "text_config" in json.loads(config.read_text("utf-8"))


def organism_path(name: str) -> Path:
    """Folder of a shipped organism, "organism:hub" or "hub". Raises SemhubError, naming those there are, on any other
    name."""
    short = name.removeprefix(PREFIX)
    known = [PREFIX + there for there in (*available(), *available(senses=True))]
    need_one_of(PREFIX + short, known, f"There is no organism {name!r}")
    return WEIGHTS / short


def card(name: str) -> dict:
    """The card of a shipped training, by its folder's name; its weights may not ship."""
    return json.loads((WEIGHTS / name / CARD).read_text("utf-8"))


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

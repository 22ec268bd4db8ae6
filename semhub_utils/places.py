"""Where things of a model lie, and what they are called."""

import hashlib
import re
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from .organism.zoo import PREFIX, organism_path

TUNED = "tuned.safetensors"


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

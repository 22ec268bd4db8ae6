"""What the libraries raise when a model cannot be loaded, in one sentence."""

from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import errors as hub
from safetensors import SafetensorError

from .errors import SemhubError


@contextmanager
def explained(model_id: str, revision: str | None, part: str):
    """Turn what a loader of the library raises into one sentence."""
    try:
        yield
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        causes: list[BaseException] = [error]
        while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
            causes.append(cause)
        raise SemhubError(_sentence(model_id, revision, part, causes)) from error


def _sentence(model_id: str, revision: str | None, part: str, causes: list[BaseException]) -> str:
    def any_of(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    if any_of(hub.GatedRepoError):
        return f"{model_id} is gated and no token with access was found; HF_TOKEN set after asking for access would do."
    if any_of(hub.RevisionNotFoundError):
        return f"{model_id} has no revision {revision!r}; a branch, tag or commit of that repository would do."
    if missing := next((cause for cause in causes if isinstance(cause, ImportError)), None):
        why = str(missing).strip().split("\n")[0].rstrip(".") or type(missing).__name__
        return f"The {part} of {model_id} needs a package that is missing here ({why}); with it installed it would do."
    if Path(model_id).is_dir() or model_id.startswith("organism:"):
        if part == "weights":
            return f"{model_id} has no weights that can be read; a model.safetensors of its configuration would do."
        return f"The {part} of {model_id} cannot be read; one written by save_pretrained would do."
    if any_of(hub.RepositoryNotFoundError, hub.HFValidationError):
        return f"{model_id} is neither a folder here nor a model on the hub; an existing folder or hub id would do."
    if any_of(hub.OfflineModeIsEnabled, hub.LocalEntryNotFoundError):
        return (
            f"{model_id} is neither a folder here nor a model in the local cache, and the hub cannot be reached; an "
            "existing folder, or a connection, would do."
        )
    return (
        f"The {part} of {model_id} cannot be loaded; a checkpoint of transformers 5 with safetensors weights would do."
    )

"""A checkpoint read from a folder or the hub and checked; what cannot be loaded, in one sentence."""

from contextlib import contextmanager
from pathlib import Path

import torch
import transformers
from huggingface_hub import errors as hub
from safetensors import SafetensorError
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
from transformers.utils import cached_file

from semhub_utils.checks import self_check
from semhub_utils.errors import SemhubError
from semhub_utils.inputs import without_video
from semhub_utils.models import LanguageModel
from semhub_utils.structure import refuse
from semhub_utils.tuned import find
from semhub_utils.zoo import TUNED, organism_path

DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

# Which of the library's classes reads a checkpoint; those that take pictures or sounds, and so a processor, come first.
AUTO_CLASSES = (
    "AutoModelForMultimodalLM",
    "AutoModelForImageTextToText",
    "AutoModelForCausalLM",
    "AutoModelForSeq2SeqLM",
)


def load_model(
    model_id: str,
    *,
    revision: str | None = None,
    device: str | torch.device | None = None,
    dtype: str = "float32",
    check: bool = True,
) -> LanguageModel:
    """Load a hub id, a local folder or "organism:NAME", and check it (`semhub_utils.checks`).

    Only safetensors are read and no remote code is run. Raises SemhubError with one sentence on anything that cannot
    be loaded: what was given and what would do."""
    if dtype not in DTYPES:
        raise SemhubError(f"dtype was {dtype!r}; one of {', '.join(DTYPES)} would do.")
    target = device_of(device)
    source = _resolve(model_id)
    where = {"revision": revision, "trust_remote_code": False}
    with explained(model_id, revision, "configuration"):
        config = transformers.AutoConfig.from_pretrained(source, **where)
    if getattr(config, "is_encoder_decoder", False):
        raise refuse(model_id, "is an encoder-decoder")
    autos = [getattr(transformers, name) for name in AUTO_CLASSES if hasattr(transformers, name)]
    auto = next((auto for auto in autos if type(config) in auto._model_mapping), None)
    if auto is None:
        raise refuse(model_id, f"is of the type {config.model_type!r}, which is none")
    takes_more = auto is not transformers.AutoModelForCausalLM
    with explained(model_id, revision, "processor" if takes_more else "tokenizer"):
        reads = transformers.AutoProcessor if takes_more else transformers.AutoTokenizer
        if takes_more and type(config) in PROCESSOR_MAPPING:
            reads = without_video(PROCESSOR_MAPPING[type(config)])
        tokenizer = reads.from_pretrained(source, **where)
    with explained(model_id, revision, "weights"):
        module, info = auto.from_pretrained(
            source, config=config, dtype=DTYPES[dtype], use_safetensors=True, output_loading_info=True, **where
        )
    if info["missing_keys"]:
        raise SemhubError(
            f"{model_id} has no value for {len(info['missing_keys'])} weights, {sorted(info['missing_keys'])[0]} among "
            "them; a checkpoint saved with its language-model head would do."
        )
    model = LanguageModel(module.to(target), tokenizer, model_id=model_id, revision=revision)
    model.find_readings = lambda model: {found.name: found for found in [find(model)] if found is not None}
    folder = Path(cached_file(source, "config.json", revision=revision)).parent
    model.files = sorted(path for path in folder.glob("*.safetensors") if path.name != TUNED)
    if check:
        self_check(model)
    return model


def device_of(device: str | torch.device | None) -> torch.device:
    """The device of that name; by itself an accelerator if there is one. Raises SemhubError if it is not there."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        target = torch.device(device)
        torch.empty(0, device=target)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise SemhubError(f"device was {str(device)!r}, which is not available here; 'cpu' would do.") from error
    return target


def _resolve(model_id: str) -> str:
    """The folder or hub id behind a name."""
    if model_id.startswith("organism:"):
        return str(organism_path(model_id.removeprefix("organism:")))
    folder = Path(model_id)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise SemhubError(
                f"The folder {model_id} has no config.json; a folder written by save_pretrained would do."
            )
        tokenizer_files = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt", "tokenizer.model")
        if not any((folder / name).is_file() for name in tokenizer_files):
            raise SemhubError(f"The folder {model_id} has no tokenizer; one saved into it by save_pretrained would do.")
    return model_id


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

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
from semhub_utils.errors import SemhubError, need_one_of, reason
from semhub_utils.inputs import without_video
from semhub_utils.models import LanguageModel
from semhub_utils.structure import need_decoder
from semhub_utils.tuned import find
from semhub_utils.zoo import DTYPES, TUNED, model_folder

# Which of the library's classes reads a checkpoint; those that take pictures or sounds, and so a processor, come first.
AUTO_CLASSES = (
    "AutoModelForMultimodalLM",
    "AutoModelForImageTextToText",
    "AutoModelForCausalLM",
    "AutoModelForSeq2SeqLM",
)
UNKNOWN = hub.RepositoryNotFoundError, hub.HFValidationError
UNREACHED = hub.OfflineModeIsEnabled, hub.LocalEntryNotFoundError
NO_PACKAGE = "The {part} of {model} needs a package that is missing here ({why}); with it installed it would do."
HERE = {  # what the library raised, and what is said then: the first that fits
    ImportError: NO_PACKAGE,
    Exception: "The {part} of {model} cannot be read; a folder written by save_pretrained, with its tokenizer and with "
    "weights of its configuration in safetensors, would do.",
}
ON_THE_HUB = {
    hub.GatedRepoError: "{model} is gated and no token with access was found; HF_TOKEN set after asking for access "
    "would do.",
    hub.RevisionNotFoundError: "{model} has no revision {revision!r}; a branch, tag or commit of that repository would "
    "do.",
    ImportError: NO_PACKAGE,
    UNKNOWN: "{model} is neither a folder here nor a model on the hub; an existing folder or hub id would do.",
    UNREACHED: "{model} is neither a folder here nor a model in the local cache, and the hub cannot be reached; an "
    "existing folder, or a connection, would do.",
    Exception: "The {part} of {model} cannot be loaded; a checkpoint of transformers 5 with safetensors weights would "
    "do.",
}


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
    need_one_of(dtype, DTYPES, f"dtype was {dtype!r}")
    target, source = device_of(device), str(model_folder(model_id) or model_id)
    where = {"revision": revision, "trust_remote_code": False}
    with explained(model_id, revision, "configuration"):
        config = transformers.AutoConfig.from_pretrained(source, **where)
    need_decoder(not getattr(config, "is_encoder_decoder", False), model_id, "is an encoder-decoder")
    autos = (getattr(transformers, name) for name in AUTO_CLASSES)
    auto = next((auto for auto in autos if type(config) in auto._model_mapping), None)
    need_decoder(auto, model_id, f"is of the type {config.model_type!r}, which is none")
    part, reads = "tokenizer", transformers.AutoTokenizer
    if auto is not transformers.AutoModelForCausalLM:
        part, reads = "processor", transformers.AutoProcessor
        if type(config) in PROCESSOR_MAPPING:
            reads = without_video(PROCESSOR_MAPPING[type(config)])
    with explained(model_id, revision, part):
        tokenizer = reads.from_pretrained(source, **where)
    options = {"config": config, "dtype": getattr(torch, dtype), "use_safetensors": True, "output_loading_info": True}
    with explained(model_id, revision, "weights"):
        module, info = auto.from_pretrained(source, **options, **where)
    if info["missing_keys"]:
        raise SemhubError(
            f"{model_id} has no value for {len(info['missing_keys'])} weights, {sorted(info['missing_keys'])[0]} among "
            "them; a checkpoint saved with its language-model head would do."
        )
    model = LanguageModel(module.to(target), tokenizer, model_id=model_id, revision=revision)
    model.find_readings = find
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


@contextmanager
def explained(model_id: str, revision: str | None, part: str):
    """Turn what a loader of the library raises into one sentence."""
    try:
        yield
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        causes: list[BaseException] = [error]
        while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
            causes.append(cause)
        said = HERE if model_folder(model_id) else ON_THE_HUB
        found, sentence = next((c, text) for kind, text in said.items() for c in causes if isinstance(c, kind))
        facts = {"model": model_id, "revision": revision, "part": part, "why": reason(found)}
        raise SemhubError(sentence.format(**facts)) from error

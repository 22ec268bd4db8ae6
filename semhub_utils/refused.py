"""Why a checkpoint cannot be read, in one sentence: which file or value is wrong with it, and what would do.

A model is the one that its files hold, or it is refused: weights that the library would leave out, or make up, change
what is measured without a word.
"""

import json
import re
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain
from logging import CRITICAL, ERROR, getLogger
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import errors as hub
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
from safetensors import safe_open
from torch import nn
from transformers import GenerationConfig
from transformers.utils import logging

from semhub_utils.errors import DAMAGED, STOPS, SemhubError, need, out_of_memory, reason
from semhub_utils.identity import FITTED, model_folder

UNKNOWN = hub.RepositoryNotFoundError, hub.HFValidationError
UNREACHED = hub.OfflineModeIsEnabled, hub.LocalEntryNotFoundError
NO_PACKAGE = "The {part} of {model} needs a package that is missing here ({why}); with it installed it would do."
HERE = {  # what the library raised, and what is said then: the first that fits
    ImportError: NO_PACKAGE,
    Exception: "The {part} of {model} cannot be read ({why}); a folder written by save_pretrained, with its tokenizer "
    "and with weights of its configuration in safetensors, would do.",
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
    Exception: "The {part} of {model} cannot be loaded ({why}); a checkpoint of transformers 5 with weights in "
    "safetensors would do.",
}
LARGEST_HEADER = 100_000_000  # bytes; safetensors itself reads no larger one
POINTER = b"version https://git-lfs"
LFS = "is a pointer of Git LFS in place of the file", "the file that `git lfs pull` fetches"


@contextmanager
def explained(model_id: str, revision: str | None, part: str, build: Callable[[], Any] | None = None):
    """Turn what a loader of the library raises into one sentence. build: makes the model of its configuration alone,
    which tells a fault of the configuration from one of the weights."""
    try:
        yield
    except (SemhubError, *STOPS):
        raise
    except BaseException as error:
        would = "a smaller model, dtype='bfloat16' or a machine with more memory would do."
        need(not out_of_memory(error), f"{model_id} does not fit in memory here ({reason(error)}); {would}")
        causes, last = [error], error
        while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
            causes.append(cause)
        while last.__cause__ is not None:  # of several, the one that the others were raised from
            last = last.__cause__
        said = HERE if model_folder(model_id) else ON_THE_HUB
        kinds = ((c, text) for kind, text in said.items() for c in causes if isinstance(c, kind))
        found, sentence = next(kinds, (error, said[Exception]))  # a panic is no Exception
        if sentence is said[Exception] and (known := _seen(model_id, revision, part, build)):
            sentence = known
        why = reason(found if isinstance(found, ImportError) else last)
        raise SemhubError(sentence.format(model=model_id, revision=revision, part=part, why=why)) from error


def _seen(model_id: str, revision: str | None, part: str, build: Callable[[], Any] | None) -> str:
    """What a look at the files tells that the library did not, as a form of HERE; nothing where that is no more."""
    folder = model_folder(model_id)
    with suppress(hub.HFValidationError):  # no name that the hub could know
        found = None if folder else try_to_load_from_cache(model_id, "config.json", revision=revision)
        folder = Path(found).parent if isinstance(found, str) else folder
    fault = None
    if folder and part == "weights":
        if fault := fault_of_files(folder):
            return _form("{model} has no weights that can be read: ", fault)
        try:
            build and build()
        except Exception as error:
            fault = f"{type(error).__name__}: {reason(error)}{_value_of(folder, error)}", "that of its weights"
            return "" if out_of_memory(error) else _form("The configuration of {model} makes no model: ", fault)
        try:
            GenerationConfig.from_pretrained(folder)
        except OSError:  # the library does without one
            return ""
        except Exception as error:
            fault = f"generation_config.json is none ({reason(error)})", "the file as it was saved, or none,"
            return _form("{model} cannot be read: its ", fault)
    names = {"configuration": ["config.json"], "tokenizer": ["tokenizer.json", "tokenizer_config.json"]}.get(part, ())
    faults = (fault_of_json(folder / name) for name in names if folder and (folder / name).is_file())
    fault = next(filter(None, faults), None)
    return _form("The {part} of {model} cannot be read: ", fault) if fault else ""


def _form(begins: str, fault: tuple[str, str]) -> str:
    return begins + "; ".join(fault).replace("{", "{{").replace("}", "}}") + " would do."


def fault_of_json(path: Path) -> tuple[str, str] | None:
    """What is wrong with a file that has to hold a JSON object, and what would do."""
    try:
        if path.read_bytes().startswith(POINTER):
            return f"{path.name} {LFS[0]}", LFS[1]
        read = json.loads(path.read_text("utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        return f"{path.name} is no JSON ({reason(error)})", "the file as it was saved"
    return None if isinstance(read, dict) else (f"{path.name} holds {reprlib.repr(read)}", "names and values")


def _value_of(folder: Path, error: BaseException) -> str:
    """Which value of the configuration an error speaks of, where it is one of a name that is not known."""
    left = [("", json.loads((folder / "config.json").read_text("utf-8")))]
    words = set(re.findall(r"[^\s'\"]+", str(error)))
    while left and isinstance(error, KeyError):
        path, value = left.pop()
        if isinstance(value, str) and value in words:
            return f", as {path} is {value!r}"
        left += [(f"{path}.{name}".strip("."), of) for name, of in value.items()] if isinstance(value, dict) else []
    return ""


# What is refused before memory is taken for it

LAYERS = 1000  # more than any decoder that was published
_COUNTS = re.compile(r"(num_|n_)?(hidden_|encoder_|decoder_)?layers?|depth")
NUMBERS = 2**28  # so many are made whatever the files hold; beyond, 4 for each of their bytes, as some are packed


def need_few_layers(model_id: str, config: Mapping[str, Any]) -> None:
    """Raises SemhubError where a configuration, or one in it, asks for more than LAYERS, which take long to be made."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            need_few_layers(model_id, value)
        many = isinstance(value, int) and value > LAYERS and _COUNTS.fullmatch(str(name))
        said = f"The configuration of {model_id} says that {name} is {reprlib.repr(value)}"
        need(not many, f"{said}; at most {LAYERS} would do.")


def need_same_size(model_id: str, build: Callable[[], nn.Module]) -> None:
    """Raises SemhubError where a configuration makes a model of more numbers than the files in a folder can hold."""
    folder, made = model_folder(model_id), 0
    if not folder or fault_of_files(folder):
        return
    with suppress(Exception):  # which is told of where the model is made
        module = build()
        made = sum(part.numel() for part in chain(module.parameters(), module.buffers()))
    held = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    said = f"{model_id} has {held:,} bytes of weights, and its configuration makes a model of {made:,} numbers"
    need(made <= max(NUMBERS, 4 * held), f"{said}; the configuration that they were saved with would do.")


# Files of weights


def fault_of_files(folder: Path) -> tuple[str, str] | None:
    """What is wrong with the weights in a folder, and what would do; nothing where their headers are whole."""
    names = {path.name for path in folder.glob("*.safetensors")} - set(FITTED.values())
    names = {name for name in names if not name.startswith("adapter_")}
    index = folder / "model.safetensors.index.json"
    if index.is_file() and "model.safetensors" not in names:
        try:
            shards = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
            need(shards, "none")
        except (SemhubError, *DAMAGED):
            return f"{index.name} is no index of shards", "the index that was saved with them"
        if missing := sorted(shards - names):
            return f"of {len(shards)} files {len(missing)} are missing, {missing[0]} among them", "all of them"
    pickles = sorted(path.name for end in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in folder.glob(end))
    if pickles and not names:
        return f"{pickles[0]} is a pickle, which can run code and is not read", "the same weights in safetensors"
    if not names:
        return "it holds no safetensors file", "the file model.safetensors, or shards and their index,"
    for name in sorted(names):
        if fault := fault_of(folder / name):
            return f"{name} {fault[0]}", fault[1]
    return None


def fault_of(path: Path) -> tuple[str, str] | None:
    """What is wrong with a safetensors file by its header and its length, and what would do."""
    whole = "the whole file"
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            if (start := file.read(len(POINTER))) == POINTER:
                return LFS
            length = int.from_bytes(start[:8], "little")
            if size < 8 or start[8:9] == b"{" and 8 + length > size:
                return f"is cut short within its header, at {size} bytes", whole
            if length > LARGEST_HEADER or start[8:9] != b"{":
                return "is no safetensors file", "one that save_pretrained wrote"
            file.seek(8)
            header = json.loads(file.read(length))
        ends = [of["data_offsets"][1] for name, of in header.items() if name != "__metadata__"]
        expected = 8 + length + max(ends, default=0)
    except OSError as error:
        return f"cannot be read ({error.strerror})", "a file that can be"
    except DAMAGED:
        return "has a header that is damaged", whole
    if size < expected:
        return f"is cut short, at {size} of {expected} bytes", whole
    return (f"goes on behind its weights, for {size - expected} bytes", whole) if size > expected else None


# What of the weights a model takes


def need_same_weights(model_id: str, module: nn.Module, info: Mapping[str, Any], files: Sequence[Path]) -> None:
    """Raises SemhubError unless the model takes its weights from the files, all and no others.

    Left out without a word: what the library ignores on purpose, what the model computes by itself (causal masks,
    rotary frequencies, positions), and whole parts that it has not, such as towers for pictures where it reads text."""
    if shapes := sorted(info["mismatched_keys"]):
        name, given, due = shapes[0][:3]
        raise SemhubError(
            f"{model_id} has {name} of shape {tuple(given)} in its files where its configuration says {tuple(due)}"
            f"{_and_more(len(shapes))}; weights and configuration that were saved together would do."
        )
    if missing := sorted(info["missing_keys"]):
        head = module.get_output_embeddings()
        names = {name for name, part in module.named_modules() if part is head}
        only = all(name.rpartition(".")[0] in names for name in missing)
        gone = sorted({int(found[1]) for name in missing if (found := re.search(r"\.(\d+)\.", f".{name}"))})
        layers = f" (of the layers {', '.join(map(str, gone[:8]))})" if gone else ""
        would = "a checkpoint saved with its language-model head" if only else "one that holds all layers and weights"
        raise SemhubError(
            f"{model_id} has no value for {len(missing)} weights, {missing[0]} among them{layers}, that its "
            f"configuration asks for; {would} would do."
        )
    files = [path for path in files if path.is_file()]  # an adapter may have none
    if wrong := next(_not_of_numbers(module, files), None):
        said = f"{model_id} has {wrong}, which are no weights by themselves"
        raise SemhubError(f"{said}; a configuration that tells how they are packed, or floating point, would do.")
    if twice := next(_told_apart(files), None):
        would = "shards that were saved together would do"
        raise SemhubError(f"{model_id} has {twice} in two of its files, with different values; {would}.")
    if left := sorted(name for name in info["unexpected_keys"] if _is_meant(name, module, files)):
        raise SemhubError(
            f"{model_id} holds {left[0]}{_and_more(len(left))} that the model of its configuration "
            f"({type(module).__name__}) does not take; the configuration that these weights were saved with would do."
        )


def _not_of_numbers(module: nn.Module, files: Sequence[Path]) -> Iterator[str]:
    """Weights that are whole numbers, or of another kind, where the model takes fractions and nothing unpacks them."""
    if getattr(module.config, "quantization_config", None):
        return
    takes = {name for name, part in module.named_parameters() if part.is_floating_point()}
    for path in files:
        with safe_open(path, "pt") as file:
            for key in file.keys():  # noqa: SIM118 (it is no mapping)
                if not (kind := file.get_slice(key).get_dtype()).startswith(("F", "BF")):
                    yield from (f"{name} of type {kind}" for name in takes if f".{name}".endswith(f".{key}"))


def _told_apart(files: Sequence[Path]) -> Iterator[str]:
    """Weights of which two of the shards that are read hold different values."""
    index = {path.with_name("model.safetensors.index.json") for path in files}
    if not files or any(path.name == "model.safetensors" for path in files) or not (path := index.pop()).is_file():
        return
    shards, held = set(json.loads(path.read_text("utf-8"))["weight_map"].values()), {}
    with ExitStack() as open_:
        for shard in (open_.enter_context(safe_open(path, "pt")) for path in files if path.name in shards):
            for key in shard.keys():  # noqa: SIM118 (it is no mapping)
                other = held.setdefault(key, shard)
                if other is not shard and not torch.equal(other.get_tensor(key), shard.get_tensor(key)):
                    yield key


def _and_more(n: int) -> str:
    return "" if n == 1 else f" and {n - 1} more weights" if n > 2 else " and another weight"


def _is_meant(name: str, module: nn.Module, files: Sequence[Path]) -> bool:
    """Whether a weight that the model does not take changes what it computes."""
    if "inv_freq" in name or any(buffer.endswith(name) for buffer, _ in module.named_buffers()):
        return False
    if name.endswith(".masked_bias") or name.endswith(".bias") and _shape(name, files)[:2] == [1, 1]:
        return False  # a causal mask, or the number that it masks with
    top, *inside = name.removeprefix(f"{module.base_model_prefix}.").split(".")
    has = {part for of in (module, module.base_model) for part, _ in of.named_children()}
    return top in has or len(inside) < 2  # a part with parts of its own, that the model has not, is a tower


def _shape(name: str, files: Sequence[Path]) -> list[int]:
    for path in files:
        with safe_open(path, "pt") as file:
            for key in file.keys():  # noqa: SIM118 (it is no mapping)
                if key == name or key.endswith(f".{name}") or name.endswith(f".{key}"):
                    return file.get_slice(key).get_shape()
    return []


def hush() -> None:
    """From now on the library's bars and its report of what it loaded stay out of what is said here; downloads keep
    theirs."""
    downloads = not are_progress_bars_disabled()
    getLogger("accelerate").setLevel(ERROR)  # which would say that what was to be offloaded was
    logging.set_verbosity(CRITICAL)  # what is wrong is raised besides
    logging.disable_progress_bar()
    if downloads:
        enable_progress_bars()


def on_no_device(auto: Any, config: Any) -> nn.Module:
    """The model of a configuration, without memory for its weights."""
    with torch.device("meta"):
        return auto.from_config(config)

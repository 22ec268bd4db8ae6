"""Why a checkpoint cannot be read, in one sentence: which file or value is wrong with it, and what would do.

A model is the one that its files hold, or it is refused: weights that the library would leave out, or make up, change
what is measured without a word.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import errors as hub
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
from safetensors import safe_open
from torch import nn
from transformers.utils import logging

from semhub_utils.errors import SemhubError, need, out_of_memory, reason
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


@contextmanager
def explained(model_id: str, revision: str | None, part: str, build: Callable[[], Any] | None = None):
    """Turn what a loader of the library raises into one sentence. build: makes the model of its configuration alone,
    which tells a fault of the configuration from one of the weights."""
    try:
        yield
    except SemhubError:
        raise
    except Exception as error:
        need(
            not out_of_memory(error),
            f"{model_id} does not fit in memory here ({reason(error)}); a smaller model, dtype='bfloat16' or a machine "
            "with more memory would do.",
        )
        causes: list[BaseException] = [error]
        while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
            causes.append(cause)
        said = HERE if model_folder(model_id) else ON_THE_HUB
        found, sentence = next((c, text) for kind, text in said.items() for c in causes if isinstance(c, kind))
        last = error
        while last.__cause__ is not None:  # of several, the one that the others were raised from
            last = last.__cause__
        facts = {"model": model_id, "revision": revision, "part": part}
        facts["why"] = reason(found if isinstance(found, ImportError) else last)
        if sentence is said[Exception] and (folder := _folder(model_id, revision)):
            _blame(model_id, folder, part, build, last)
        raise SemhubError(sentence.format(**facts)) from error


def _folder(model_id: str, revision: str | None) -> Path | None:
    """Where the files of a model lie, as far as they are here."""
    if folder := model_folder(model_id):
        return folder
    found = try_to_load_from_cache(model_id, "config.json", revision=revision)
    return Path(found).parent if isinstance(found, str) else None


def _blame(model_id: str, folder: Path, part: str, build: Callable[[], Any] | None, error: BaseException) -> None:
    """Raises SemhubError where a look at the files tells more than the library did."""
    if part == "weights":
        if fault := fault_of_files(folder):
            raise SemhubError(
                "{} has no weights that can be read: {}; {} would do.".format(model_id, *fault)
            ) from error
        try:
            build and build()
        except Exception as own:
            if not out_of_memory(own):
                why = f"{type(own).__name__}: {reason(own)}{_value_of(folder, own)}"
                raise SemhubError(
                    f"The configuration of {model_id} makes no model ({why}); the config.json that was saved with its "
                    "weights would do."
                ) from error
    for name in ("config.json",) if part == "configuration" else ("tokenizer.json", "tokenizer_config.json"):
        path, what = folder / name, f"The {part} of {model_id} cannot be read"
        if path.is_file() and part != "weights":
            try:
                read = json.loads(path.read_text("utf-8"))
            except (ValueError, OSError) as own:
                lfs = "a pointer of Git LFS" if path.read_bytes().startswith(POINTER) else f"no JSON, {reason(own)}"
                raise SemhubError(f"{what} ({name} is {lfs}); the file as it was saved would do.") from error
            held = f"{name} holds {reason(ValueError(json.dumps(read)))[:40]}"
            need(isinstance(read, dict), f"{what} ({held}); an object of names and values would do.")


def _value_of(folder: Path, error: BaseException) -> str:
    """Which value of the configuration an error speaks of, where it is one of a name that is not known."""
    if not isinstance(error, KeyError):
        return ""
    words = set(re.findall(r"[^\s'\"]+", str(error)))

    def search(of: Any, path: str) -> Iterable[str]:
        for name, value in of.items() if isinstance(of, Mapping) else ():
            yield from search(value, f"{path}{name}.")
            if isinstance(value, str) and value in words:
                yield f", as {path}{name} is {value!r}"

    return next(iter(search(json.loads((folder / "config.json").read_text("utf-8")), "")), "")


# Files of weights


def fault_of_files(folder: Path) -> tuple[str, str] | None:
    """What is wrong with the weights in a folder, and what would do; nothing where their headers are whole."""
    names = {path.name for path in folder.glob("*.safetensors")} - set(FITTED.values())
    names = {name for name in names if not name.startswith("adapter_")}
    index = folder / "model.safetensors.index.json"
    if index.is_file() and "model.safetensors" not in names:
        try:
            shards = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError):
            return f"{index.name} is no index of shards", "the index that was saved with them"
        if missing := sorted(shards - names):
            return f"of {len(shards)} files {len(missing)} are missing, {missing[0]} among them", "all of them"
    if not names:
        return _instead(folder)
    for name in sorted(names):
        if fault := fault_of(folder / name):
            return f"{name} {fault[0]}", fault[1]
    return None


def _instead(folder: Path) -> tuple[str, str]:
    """What lies in a folder that holds no weights in safetensors, and what would do."""
    pickles = sorted(path.name for end in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in folder.glob(end))
    if (adapter := folder / "adapter_config.json").is_file():
        with_base = "that model, with the adapter merged into it,"
        try:
            base = json.loads(adapter.read_text("utf-8"))["base_model_name_or_path"]
        except (ValueError, KeyError, TypeError):
            return "it holds an adapter that names no base model", with_base
        return f"it holds an adapter alone, and its base model {base!r} is not here", with_base
    if pickles:
        return f"{pickles[0]} is a pickle, which can run code and is not read", "the same weights in safetensors"
    return "it holds no safetensors file", "the file model.safetensors, or shards and their index,"


def fault_of(path: Path) -> tuple[str, str] | None:
    """What is wrong with a safetensors file by its header and its length, and what would do."""
    whole = "the whole file"
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(len(POINTER))
            if start == POINTER:
                return "is a pointer of Git LFS in place of the file", "the file that `git lfs pull` fetches"
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
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
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
    if left := sorted(name for name in info["unexpected_keys"] if _is_meant(name, module, files)):
        raise SemhubError(
            f"{model_id} holds {left[0]}{_and_more(len(left))} that the model of its configuration "
            f"({type(module).__name__}) does not take; the configuration that these weights were saved with would do."
        )


def _and_more(n: int) -> str:
    return "" if n == 1 else f" and {n - 1} more weights" if n > 2 else " and another weight"


def _is_meant(name: str, module: nn.Module, files: Sequence[Path]) -> bool:
    """Whether a weight that the model does not take changes what it computes."""
    if "inv_freq" in name or any(buffer.endswith(name) for buffer, _ in module.named_buffers()):
        return False
    shape = _shape(name, files)
    if shape is not None and (not shape or len(shape) == 4 and shape[:2] == [1, 1] and shape[2] == shape[3]):
        return False  # a causal mask, or the number that it masks with
    top, *inside = name.removeprefix(f"{module.base_model_prefix}.").split(".")
    has = {part for of in (module, module.base_model) for part, _ in of.named_children()}
    return top in has or len(inside) < 2  # a part with parts of its own, that the model has not, is a tower


def _shape(name: str, files: Sequence[Path]) -> list[int] | None:
    for path in files:
        with safe_open(path, "pt") as file:
            for key in file.keys():  # noqa: SIM118 (it is no mapping)
                if key == name or key.endswith(f".{name}") or name.endswith(f".{key}"):
                    return file.get_slice(key).get_shape()
    return None


@contextmanager
def quiet():
    """The library's bars and its report of what it loaded stay out of what is said here; downloads keep theirs."""
    level, bars, downloads = (
        logging.get_verbosity(),
        logging.is_progress_bar_enabled(),
        not are_progress_bars_disabled(),
    )
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if downloads:
        enable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def on_no_device(auto: Any, config: Any) -> nn.Module:
    """The model of a configuration, without memory for its weights."""
    with torch.device("meta"):
        return auto.from_config(config)

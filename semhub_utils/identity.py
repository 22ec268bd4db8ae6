"""What things go by: results by what they are computed from, models by name and folder.

What a result is computed from is 16 hex digits: values by their content, models by weights, tokenizer and processor,
programs by their source. Equal digits, equal results.
"""

import ast
import dataclasses
import dis
import hashlib
import importlib.metadata
import json
import os
import platform
import random
import re
import sys
import sysconfig
import tempfile
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache, cached_property, partial
from operator import attrgetter
from os.path import exists, expanduser, isdir, isfile
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pandas as pd
from huggingface_hub import constants

from . import __version__
from .errors import need_one_of

PLAIN = (bool, int, float, complex, str, slice, range, types.NoneType, types.EllipsisType, PurePath, np.generic)
FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, np.ufunc)
LIBRARIES = ("torch", "transformers", "numpy", "pandas")
LARGE = 2**26  # bytes of weights; fewer are hashed each time
LEFT_BY_RUNS = (".ipynb", ".run.json", ".log")
LOOKS = (".js", ".css")  # of figures and widgets: no number depends on them


class Undigestible(TypeError):
    """A value whose content cannot be told: what is computed from it is not kept."""


# Values


def digest(*values: Any, sources: set[str] | None = None) -> str:
    """16 hex digits over the content of values: plain ones, containers, arrays, tensors, tables, pictures, models,
    objects by their fields, functions and classes by their source. Raises Undigestible on anything else. sources: gets
    where the items among them are from."""
    return _digest(values, (), set() if sources is None else sources).hex()[:16]


def _digest(value: Any, within: tuple[int, ...], sources: set[str]) -> bytes:
    if id(value) in within:  # a function that calls itself
        return b"within"
    if hasattr(value, "dropped") and isinstance(source := getattr(value, "source", None), str):
        sources.update(source.split(", "))
    sha = hashlib.sha256(f"{type(value).__module__}.{type(value).__qualname__}:".encode())
    for part in _parts(value):
        sha.update(part if isinstance(part, bytes) else _digest(part, (*within, id(value)), sources))
    return sha.digest()


def _parts(value: Any) -> Iterable[Any]:
    """What a value consists of: bytes, or values again."""
    if isinstance(value, bytes):
        return [value]
    if isinstance(value, PLAIN):
        return [repr(value).encode()]
    if isinstance(value, types.ModuleType):
        return [value.__name__, program(value.__name__)]
    if isinstance(value, types.CodeType):
        return [value.co_code, value.co_names, value.co_consts]
    if isinstance(value, partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, types.MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, attrgetter):
        return value.__reduce__()[1]
    if isinstance(value, (type, *FUNCTIONS)):
        return _of_definition(value)
    if hasattr(value, "fingerprint"):  # a model, with the readings made for it
        return [of_model(value), {name: of.fingerprint for name, of in getattr(value, "readings", {}).items()}]
    if isinstance(value, Mapping):
        return [*(part for pair in value.items() for part in pair), *_fields(value)]
    if isinstance(value, (set, frozenset)):
        return sorted(_digest(part, (), set()) for part in value)
    if isinstance(value, (list, tuple)):
        return [*value, *_fields(value)]
    if isinstance(value, pd.DataFrame):
        return [value.index, *(part for pair in value.items() for part in pair)]
    if isinstance(value, (pd.Series, pd.Index)):
        return [str(value.dtype), value.name, value.to_numpy() if value.dtype.kind in "biuf" else value.to_list()]
    if hasattr(value, "untyped_storage"):  # a tensor
        return [str(value.dtype), tuple(value.shape), _bytes_of(value)]
    if isinstance(value, np.ndarray):
        return [str(value.dtype), value.shape, value.tolist() if value.dtype == object else value.tobytes()]
    if hasattr(value, "getbands"):  # a picture
        return [value.mode, value.size, value.tobytes(), value.getpalette()]
    if isinstance(value, random.Random):
        return [value.getstate()]
    if _is_own(type(value).__module__) and (dataclasses.is_dataclass(value) or hasattr(value, "__dict__")):
        return [type(value), *_fields(value)]
    raise Undigestible(f"the content of a {type(value).__qualname__} cannot be told")


def _fields(value: Any) -> list[Any]:
    """Names and values of an object's fields; what it has only cached is left out."""
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
    else:
        kind = type(value)
        names = [n for n in getattr(value, "__dict__", ()) if not isinstance(getattr(kind, n, None), cached_property)]
    return [part for name in names for part in (name, getattr(value, name))]


def _bytes_of(tensor: Any) -> bytes:
    import torch

    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _of_definition(value: Any) -> Iterable[Any]:
    """A function or class of a module: its name and the program. One of a notebook, or made within another function:
    its code, and what its closure and the globals it names hold."""
    name, module = getattr(value, "__qualname__", value.__name__), getattr(value, "__module__", None) or ""
    if module != "__main__" and "<" not in name:
        return [f"{module}.{name}", program(module)]
    if not isinstance(value, types.FunctionType):
        raise Undigestible(f"the source of {name} is in no file")
    cells = [cell.cell_contents for cell in value.__closure__ or ()]
    known = {n: value.__globals__[n] for n in sorted(_globals_of(value.__code__)) if n in value.__globals__}
    return [value.__code__, value.__defaults__, value.__kwdefaults__, cells, known]


def _globals_of(code: types.CodeType) -> set[str]:
    named = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return named.union(*(_globals_of(c) for c in code.co_consts if isinstance(c, types.CodeType)))


# Programs


@cache
def program(module: str) -> str:
    """16 hex digits over the source of a module and of all that it imports, and what those import, of its own package
    or, of a reader's module, its own folder, with the package's other files; "" for a module of Python or of a library,
    which `versions` tells."""
    if not _is_own(module):
        return ""
    top = module.partition(".")[0]
    path = Path(sys.modules[top].__file__).resolve()
    root = path.parents[1] if path.name == "__init__.py" else path.parent
    found, left = {}, [module]
    while left:
        name = left.pop()
        path = root.joinpath(*name.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        beside = top == __package__ and name.partition(".")[0] != top  # all that is installed may stand there
        if name not in found and not beside and path.is_file():
            found[name] = path.read_bytes()
            above = name.rpartition(".")[0]
            left += [above, *_imports(name if path.name == "__init__.py" else above, found[name])]
    return digest(sorted(found.items()), _data(root / top))


@cache
def _imports(package: str, source: bytes) -> list[str]:
    """Names that may be modules: all that a module of a package imports, or imports from, anywhere in it."""
    found, folders = [], package.split(".")
    left: list[ast.AST] = [ast.parse(source)]
    for node in left:  # which grows; no import stands within an expression
        left += (of for of in ast.iter_child_nodes(node) if not isinstance(of, ast.expr))
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = folders[: len(folders) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            found += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return found


@cache
def of_package() -> str:
    """16 hex digits over all files of this package, also those that no number depends on."""
    return digest(*_files(Path(__file__).parent, ()))


@cache
def _data(folder: Path) -> str:
    """16 hex digits over the files of a package that are neither a program nor what figures look like."""
    return digest(*_files(folder, (".py", *LOOKS)))


def _files(folder: Path, left_out: tuple[str, ...]) -> list[tuple[str, bytes]]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".pyc", *left_out))
    return sorted((str(path.relative_to(folder)), path.read_bytes()) for path in files)


@cache
def _is_own(module: str) -> bool:
    """Whether a module is this package's or a reader's: its source may change, its version does not tell."""
    top = module.partition(".")[0]
    if top in ("", "__main__") or not (file := getattr(sys.modules.get(top), "__file__", None)):
        return False
    libraries = (sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib"))
    return top == __package__ or not any(Path(file).resolve().is_relative_to(Path(p).resolve()) for p in libraries)


def versions() -> dict[str, str]:
    """The versions that a number may depend on."""
    own = {"semhub_utils": __version__, "python": platform.python_version()}
    return own | {name: importlib.metadata.version(name) for name in LIBRARIES}


# Files and models


def remembered(files: Sequence[Path], more: str, compute: Callable[[], str], least: int = LARGE) -> str:
    """What `compute` says of these files, or said when they had the same sizes and times; kept in the folder of the
    Hugging Face libraries, below `semhub`. more: what else it depends on. Of files of fewer than `least` bytes together
    it is computed each time."""
    facts = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    if sum(size for _, size, _ in facts) < least:
        return compute()
    key = hashlib.sha256(repr((facts, more)).encode()).hexdigest()
    kept = Path(constants.HF_HOME) / "semhub" / "digests" / key
    with suppress(OSError):
        return kept.read_text("utf-8")
    said = compute()
    with suppress(OSError):  # no place to keep it: computed again next time
        atomically(kept, lambda to: to.write_text(said, "utf-8"))
    return said


def folder_digest(folder: str | Path, leave_out: str | Path | None = None) -> str:
    """16 hex digits over the names, sizes and times of all files below a folder, links followed; but not of `leave_out`
    below it nor of what runs leave, as both may lie there."""
    found, seen = [], {os.path.realpath(leave_out)} if leave_out else set()
    for here, below, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(here)) in seen:
            below.clear()  # a link may lead back
            continue
        seen.add(real)
        paths = (Path(here, name) for name in names if not name.endswith(LEFT_BY_RUNS))
        facts = ((path.relative_to(folder), path.stat()) for path in paths if path.exists())  # no link to nowhere
        found += [(str(name), about.st_size, about.st_mtime_ns) for name, about in facts]
    return hashlib.sha256(repr(sorted(found)).encode()).hexdigest()[:16]


def of_model(model: Any) -> str:
    """16 hex digits over a model's configuration, all bytes of its weights, its tokenizer and its processor's settings,
    kept as `model.fingerprint`. The files that weights were read from, hashed once, are known again by size and time.
    """
    if model.fingerprint is None:
        model.fingerprint = _of_model(model)
    return model.fingerprint


def _of_model(model: Any) -> str:
    more = f"{model.dtype} {versions()['transformers']}"
    weights = remembered(model.files, more, lambda: _of_weights(model.module))
    configs = [model.module.config, getattr(model.module, "generation_config", None), model.processor]
    settings = [config.to_dict() for config in configs if config is not None]
    plain = {"_name_or_path", "_commit_hash", "transformers_version"}
    settings = [{key: of[key] for key in sorted(of) if key not in plain} for of in settings]
    return digest(weights, json.dumps(settings, default=str), _of_tokenizer(model.tokenizer))


def _of_weights(module: Any) -> str:
    from .devices import values

    sha = hashlib.sha256()
    for name, weight in values(module):
        sha.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode() + _bytes_of(weight))
    return sha.hexdigest()


def _of_tokenizer(tokenizer: Any) -> str:
    """What a fast tokenizer does by itself, and what stands around it."""
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    rules |= {"truncation": None, "padding": None}  # as the last call left them
    around = {"template": tokenizer.chat_template, "special": tokenizer.special_tokens_map}
    around |= {name: getattr(tokenizer, name, None) for name in ("model_max_length", "clean_up_tokenization_spaces")}
    return json.dumps([rules, around], default=str, sort_keys=True)


# Models by name


PREFIX = "organism:"
RANDOM = "random:"  # before the name of a model: its architecture and tokenizer with weights of no training
CARD = "card.json"
COPIED = "SEMHUB_COPIED"  # set where a process is begun that kernels are copied from
FITTED = {name: f"{name}.safetensors" for name in ("tuned", "jacobian")}  # readings made for one model
DTYPES = ("float32", "bfloat16", "float16", "float64")


WEIGHTS = Path(__file__).parent / "organism" / "weights"  # the folder of shipped organisms


def available(*, senses: bool = False, taught: bool = False) -> list[str]:
    """Names of the shipped organisms that read and write text alone, or of those that see or hear, sorted; or of those
    `taught`, in which effects are planted."""
    return [name for name in _shipped() if has_sense(name) == senses and name.startswith("taught") == taught]


def _shipped() -> list[str]:
    return sorted(path.parent.name for path in WEIGHTS.glob("*/model.safetensors"))


def has_sense(name: str) -> bool:
    """Whether a shipped model is one around a text model; where no configuration ships it is a text model."""
    config = WEIGHTS / name / "config.json"
    return config.is_file() and "text_config" in json.loads(config.read_text("utf-8"))


def organism_path(name: str) -> Path:
    """Folder of a shipped organism, "organism:hub" or "hub". Raises SemhubError, naming those there are, on any other
    name."""
    short = name.removeprefix(PREFIX)
    known = [PREFIX + there for there in _shipped()]
    need_one_of(PREFIX + short, known, f"There is no organism {name!r}")
    return WEIGHTS / short


def card(name: str) -> dict:
    """The card of a shipped training, by its folder's name; its weights may not ship."""
    return json.loads((WEIGHTS / name / CARD).read_text("utf-8"))


def training(model: Any) -> dict:
    """The card of the training that a model's weights are from, by the sha256 of their one file: the card beside it or
    a shipped one. Nothing for all other models, whatever they are called."""
    if len(model.files) != 1 or model.files[0].stat().st_size > LARGE:
        return {}
    of = sha256_of(model.files[0])
    for path in (model.files[0].with_name(CARD), *sorted(WEIGHTS.glob(f"*/{CARD}"))):
        with suppress(OSError, ValueError, RecursionError):
            told = json.loads(path.read_text("utf-8"))
            if isinstance(told, dict) and told.get("sha256") == of:
                return told
    return {}


def model_slug(model_id: str, revision: str | None = None) -> str:
    """The folder name of a model. A local folder or GGUF file gives its name and a hash of its path, as two may share a
    name."""
    if path := local(model_id):
        model_id = (
            f"{RANDOM * model_id.startswith(RANDOM)}{path.name}-{hashlib.sha256(str(path).encode()).hexdigest()[:6]}"
        )
    return slug(model_id) + (f"--{slug(revision)}" if revision else "")


def called(model_id: str) -> str:
    """What a page calls a model: one of the book's own by its name alone, whatever a command takes."""
    return model_id.removeprefix(RANDOM).removeprefix(PREFIX) + ", random weights" * model_id.startswith(RANDOM)


def model_label(provenance: Mapping[str, Any]) -> str:
    """What a page calls the model of a run: its name, revision and quantisation, and the base of an adapter."""
    name = "@".join(filter(None, (provenance["model"], provenance["revision"])))
    more = [provenance.get("quantisation"), (base := provenance.get("base")) and f"on {base}"]
    return f"{name} ({', '.join(filter(None, more))})" if any(more) else name


def slug(text: str) -> str:
    return re.sub(r"[^\w.-]+", "--", text.replace(":", "-")).strip(".-") or "unnamed"


def placeless(name: str, value: Any) -> Any:
    """A parameter's value, but a folder by its name alone, and a local model's by its slug: where it lies is nobody's
    business."""
    if name == "model_id":
        return model_slug(value) if isinstance(value, str) and local(value) else value
    return Path(value).resolve().name if is_folder(value) else value


def local(model_id: str) -> Path | None:
    """The folder or GGUF file (FOLDER:FILE.gguf too) of a model, or of the like of random weights; None for a shipped
    one and for one of the hub."""
    model_id = model_id.removeprefix(RANDOM)
    path, (folder, _, file) = Path(model_id).expanduser(), model_id.rpartition(":")
    if not exists(path) and file.endswith(".gguf") and is_folder(folder):
        path = Path(folder).expanduser() / file
    is_model = isdir(path) or path.suffix == ".gguf" and isfile(path)
    return path.resolve() if model_id and is_model else None


def is_folder(value: Any) -> bool:
    return isinstance(value, str) and isdir(expanduser(value))


def model_folder(model_id: str) -> Path | None:
    """The folder of a local or shipped model, None for one of the hub. SemhubError for an unknown shipped one."""
    folder = organism_path(model_id) if model_id.startswith(PREFIX) else model_id
    return Path(folder) if isdir(folder) else None


def beside(model_id: str, revision: str | None = None) -> Path:
    """Where readings made for a model lie (FITTED): its own folder, or for one of the hub, a folder in its cache."""
    return model_folder(model_id) or Path(constants.HF_HOME) / "semhub" / model_slug(model_id, revision)


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of(path: Path) -> str:
    """The same of a file of weights, which is hashed once."""
    return remembered([path], "sha256", lambda: sha256(path))


def try_writing(folder: Path) -> None:
    """Make a folder, and in it a file that is gone at once. Raises OSError where that cannot be."""
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()


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

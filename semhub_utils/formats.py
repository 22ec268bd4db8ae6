"""The forms in which a checkpoint comes: a folder or an id of the hub, a GGUF file in either, a PEFT adapter with its
base model elsewhere, weights of 8 or 4 bits. Where its parts lie, and what can be said of them before they are read.
"""

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from io import StringIO
from os.path import isdir, isfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

from torch import nn
from transformers.convert_slow_tokenizer import bytes_to_unicode
from transformers.quantizers import AutoHfQuantizer
from transformers.utils import cached_file

from semhub_utils.errors import DAMAGED, SemhubError, need, need_plain, out_of_memory, reason
from semhub_utils.identity import FITTED, model_folder, remembered

ADAPTER, BAR = "adapter_config.json", "transformers.modeling_gguf_pytorch_utils.tqdm"
TEXTS = " hello", "say hello", "x123", "我们在家", "naïve🙂"  # by the rules of any tokenizer cut at the same places


@dataclass(frozen=True)
class Source:
    """place: a folder or an id of the hub, as the library's loaders take it. named: what to call it in a message.
    adapter: the folder of an adapter of the model in `place`. gguf: a GGUF file there, with its quantisation and the
    `ids` of TEXTS by its own vocabulary."""

    place: str
    named: str
    adapter: Path | None = None
    gguf: Path | None = None
    quantisation: str = ""
    ids: Mapping[str, list[int]] = field(default_factory=dict)

    def options(self, revision: str | None) -> dict[str, Any]:
        """What the library's loaders take beside the place."""
        given = {"revision": None if self.adapter else revision, "trust_remote_code": False}
        return given | ({"gguf_file": self.gguf.name} if self.gguf else {})

    @property
    def reads(self) -> str:
        """Where the tokenizer is: an adapter may have its own."""
        own = self.adapter and (self.adapter / "tokenizer.json").is_file()
        return str(self.adapter) if own else self.place

    def files(self, revision: str | None) -> list[Path]:
        """Those that the weights are in."""
        if self.gguf:
            return [self.gguf]
        folder = Path(cached_file(self.place, "config.json", revision=self.options(revision)["revision"])).parent
        found = sorted(path for path in folder.glob("*.safetensors") if path.name not in FITTED.values())
        return [*found, self.adapter / "adapter_model.safetensors"] if self.adapter else found


def source_of(model_id: str, revision: str | None = None) -> Source:
    """Where a model is. Raises SemhubError on a GGUF file or an adapter that cannot be read."""
    folder = model_folder(model_id)
    if model_id.endswith(".gguf") and not folder:
        return _gguf(model_id, revision)
    need(model_id.strip(), f"The model was {model_id!r}; an existing folder or hub id would do.")
    need(not isfile(model_id), f"{model_id} is a file; the folder of a whole model would do.")
    _need_files(folder, model_id, revision)
    if folder and (folder / ADAPTER).is_file():
        return _adapter(model_id, folder)
    files = sorted(folder.glob("*.gguf")) if folder and not (folder / "config.json").is_file() else []
    need(not files, f"{model_id} is a folder of GGUF files; one of them, such as {[*files, ''][0]}, would do.")
    return Source(str(folder or model_id), model_id)


def _need_files(folder: Path | None, model_id: str, revision: str | None) -> None:
    """Raises SemhubError where a folder holds what is no file, as a pipe, on which reading would wait; and where a
    revision is given of what lies here, and would be ignored."""
    said = f"revision was {revision!r}, and {model_id} lies on this machine, where there is one version of it"
    need(not (folder and revision), f"{said}; no revision would do.")
    for path in sorted(folder.iterdir()) if folder else ():
        need_plain(path)


def _gguf(model_id: str, revision: str | None) -> Source:
    path, (before, colon, name) = Path(model_id).expanduser(), model_id.rpartition(":")
    place, name = (before, name) if colon and not path.is_file() else (str(path.parent), path.name)
    here = Path(place, name).is_file()
    need(
        here or colon and not model_folder(place),
        f"{model_id} is no file here; the path of a GGUF file, or ID:FILE.gguf for one of the hub, would do.",
    )
    _need_files(path.parent if here else None, model_id, revision)
    for package in ("gguf", "accelerate"):
        _need_package(package, f"{model_id} is a GGUF file", "gguf")
    path = Path(place, name) if here else Path(cached_file(place, name, revision=revision))
    told = json.loads(remembered([path], f"gguf {TEXTS}", lambda: json.dumps(_read_gguf(path, model_id))))
    return Source(place, model_id, None, path, told["quantisation"], told["ids"])


def _adapter(model_id: str, folder: Path) -> Source:
    own = [name for name in ("model.safetensors", "model.safetensors.index.json") if (folder / name).is_file()]
    need(
        not own,
        f"{model_id} holds an adapter beside weights of its own, and whether it is to be used cannot be told; a folder "
        "with one of them would do.",
    )
    _need_package("peft", f"{model_id} is an adapter", "peft")
    try:
        base = str(json.loads((folder / ADAPTER).read_text("utf-8"))["base_model_name_or_path"] or "")
    except DAMAGED:
        base = ""
    need(base, f"{model_id} is an adapter that names no base model; that model, with it merged into it, would do.")
    base = str(folder / base) if isdir(folder / base) else base
    here = model_folder(base)
    _need_files(here, base, None)
    return Source(str(here or base), base if here else f"{base} (the base model of {model_id})", folder)


def _need_package(name: str, what: str, extra: str) -> None:
    need(find_spec(name), f"{what}, and the package {name} is not here; `pip install semhub-utils[{extra}]` would do.")


@contextmanager
def readable(source: Source, config: Any = None):
    """What the library raises on a GGUF file or on weights of few bits, in one sentence; without its bar."""
    try:
        with patch(BAR, lambda some, **_: some) if source.gguf else nullcontext():
            yield
    except Exception as error:
        kind, would = quantisation(config), "the same model with weights of 16 or 32 bits in safetensors"
        if out_of_memory(error) or isinstance(error, SemhubError) or not (source.gguf or kind):
            raise
        said = f"transformers {version('transformers')} cannot read it ({reason(error)}); {would}"
        if source.gguf:
            raise SemhubError(f"{source.named} is a GGUF file, and {said}, would do.") from error
        machine = "or a machine with what reads this kind"
        raise SemhubError(f"{source.named} has weights of {kind}, and {said}, {machine}, would do.") from error


def quantisation(config: Any) -> str:
    """Of the weights, by their configuration: "8 bits, bitsandbytes", or nothing where they are not quantised."""
    about = getattr(config, "quantization_config", None) or {}
    about = about if isinstance(about, Mapping) else about.to_dict()
    method = about.get("quant_method", "")
    method = str(getattr(method, "value", method))
    bits = about.get("bits") or (8 if about.get("load_in_8bit") else 4 if about.get("load_in_4bit") else None)
    digits = re.search(r"\d+", method)
    bits = bits or (digits and digits[0])
    return ", ".join(filter(None, (f"{bits} bits" if bits else "", method)))


def need_known_quantisation(config: Any, named: str) -> None:
    """Raises SemhubError where a configuration names a way to pack weights that the library does not know, and would
    read them as they are."""
    packed = quantisation(config)
    known = not packed or AutoHfQuantizer.supports_quant_method(config.quantization_config)
    said = f"{named} says that its weights are of {packed!r}, which transformers {version('transformers')}"
    need(known, f"{said} does not know; the same model with weights of 16 or 32 bits would do.")


# GGUF files


def _read_gguf(path: Path, named: str) -> dict:
    import gguf

    whole = "the whole file, as it was published, would do"
    try:
        with redirect_stdout(StringIO()):  # it prints what it finds odd
            read = gguf.GGUFReader(path)
        for tensor in read.tensors:
            need(len(tensor.data.reshape(-1)), "it is cut short")
        fields = {name: field.contents() for name, field in read.fields.items() if name.startswith(("tok", "gen"))}
        ids = {text: found for text in TEXTS if (found := own_ids(fields, text)) is not None}
        kinds = [tensor.tensor_type.name for tensor in read.tensors]
    except Exception as error:
        raise SemhubError(f"{named} cannot be read as a GGUF file ({reason(error)}); {whole}.") from error
    need(kinds, f"{named} holds no weights; {whole}.")
    kind = fields.get("general.file_type")
    known = kind in set(gguf.LlamaFileType)
    name = gguf.LlamaFileType(kind).name.split("_", 1)[1] if known else max(set(kinds), key=kinds.count)
    return {"quantisation": name, "ids": ids}


def own_ids(fields: Mapping[str, Any], text: str) -> list[int] | None:
    """The ids of a text by the vocabulary and the merges (gpt2) or scores (llama) of a GGUF file, special tokens as its
    flags say; None where they leave it open (the rules of llama.cpp)."""
    about = {name.removeprefix("tokenizer.ggml."): value for name, value in fields.items()}
    kind, number = about.get("model"), {token: i for i, token in enumerate(about.get("tokens", ()))}
    pieces: Iterable[str]
    if kind == "gpt2" and "merges" in about:
        ranks = {tuple(merge.split(" ")): k for k, merge in enumerate(about["merges"])}
        spelt = bytes_to_unicode()
        parts = re.findall(r" ?[^\W\d_]+|\d+|[^\w\s]+|\s+", text)
        pieces = [p for part in parts for p in _merged([spelt[b] for b in part.encode()], ranks.get)]
    elif kind == "llama" and "scores" in about:
        prefix = about.get("add_space_prefix", True)
        if prefix and text.startswith(" "):
            return None
        score = dict(zip(about["tokens"], about["scores"], strict=False))
        of = _merged(
            [*(" " * prefix + text).replace(" ", "▁")],
            lambda pair: -score[j] if (j := "".join(pair)) in score else None,
        )
        pieces = [p for one in of for p in ([one] if one in number else (f"<0x{b:02X}>" for b in one.encode()))]
    else:
        return None
    bos = [about["bos_token_id"]] if about.get("add_bos_token", kind == "llama") else []
    eos = [about["eos_token_id"]] if about.get("add_eos_token") else []
    return [*bos, *(number[piece] for piece in pieces), *eos]


def _merged(parts: list[str], rank: Any) -> list[str]:
    """Byte-pair encoding: of all neighbours the pair of the lowest rank is joined, until none has one."""
    while True:
        ranks = [(r, k) for k, pair in enumerate(zip(parts, parts[1:], strict=False)) if (r := rank(pair)) is not None]
        if not ranks:
            return parts
        _, k = min(ranks)
        parts = [*parts[:k], parts[k] + parts[k + 1], *parts[k + 2 :]]


def need_same_ids(source: Source, tokenizer: Any) -> None:
    """Raises SemhubError where a tokenizer reads TEXTS otherwise than the GGUF file that it was made of, or reads at
    random, as in training."""
    random = getattr(getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None), "dropout", None)
    said = f"The tokenizer of {source.named} leaves out merges at random (dropout {random})"
    need(not random, f"{said}; the same without dropout in its tokenizer.json would do.")
    for text, ids in source.ids.items():
        read = list(tokenizer(text).input_ids)
        need(
            read == ids,
            f"The tokenizer that transformers {version('transformers')} makes of {source.named} reads {text!r} as "
            f"{read}, where the file's own tables say {ids}; a folder with the model's tokenizer.json would do.",
        )


# Adapters


def with_adapter(module: nn.Module, folder: Path, base: str) -> nn.Module:
    """A base model with the adapter merged into its weights (LoRA, arXiv 2106.09685). Raises SemhubError where it does
    not fit."""
    import peft

    need(
        (folder / "adapter_model.safetensors").is_file(),
        f"{folder} holds no adapter_model.safetensors; an adapter that PEFT saved in safetensors would do.",
    )
    said = f"The adapter {folder} cannot be merged into {base}"
    try:
        config = peft.PeftConfig.from_pretrained(str(folder))
        with_it = peft.get_peft_model(module, config)
        read = with_it.load_adapter(str(folder), "default")
        left = [*read.unexpected_keys, *read.missing_keys]
        need(not left, f"{said} ({[*left, ''][0]} has no counterpart); the base model that it was trained on would do.")
        return with_it.merge_and_unload(safe_merge=True)
    except SemhubError:
        raise
    except Exception as error:
        raise SemhubError(f"{said} ({reason(error)}); one of LoRA, with its own base model, would do.") from error

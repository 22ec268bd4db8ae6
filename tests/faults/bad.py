"""Bad inputs, by kind: each writes what is wrong into a folder of its own and gives the command that meets it, with
what has to be said and the exit code. Folders are of one tiny model, so that a command takes a tenth of a second."""
# ruff: noqa: E501 (tables)
# fmt: off

import gzip
import json
import os
import shutil
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


@dataclass(frozen=True)
class Fault:
    """make: gives the command in a folder that holds `model`, a sound one; said: a regular expression."""

    kind: str
    name: str
    make: Callable[[Path], list[str]]
    said: str
    code: int = 2

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}".replace(" ", "-")


FAULTS: list[Fault] = []


def fault(kind: str, name: str, said: str, make: Callable[[Path], list[str]], code: int = 2) -> None:
    FAULTS.append(Fault(kind, name, make, said, code))


# What is done to a model's folder


def checked(change: Callable[[Path], object]) -> Callable[[Path], list[str]]:
    def make(at: Path) -> list[str]:
        change(at / "model")
        return ["check", str(at / "model")]

    return make


def config(**values) -> Callable[[Path], list[str]]:
    """`...` takes a value out."""

    def change(model: Path) -> None:
        of = json.loads((model / "config.json").read_text()) | values
        (model / "config.json").write_text(json.dumps({k: v for k, v in of.items() if v is not ...}))

    return checked(change)


def weights(change: Callable[[dict], object]) -> Callable[[Path], list[str]]:
    def edit(model: Path) -> None:
        of = load_file(model / "model.safetensors")
        change(of)
        save_file(of, model / "model.safetensors", metadata={"format": "pt"})

    return checked(edit)


def file(name: str, content: str | bytes) -> Callable[[Path], list[str]]:
    raw = content.encode() if isinstance(content, str) else content
    return checked(lambda model: (model / name).write_bytes(raw))


def cut(name: str, at: Callable[[int], int]) -> Callable[[Path], list[str]]:
    def change(model: Path) -> None:
        data = (model / name).read_bytes()
        (model / name).write_bytes(data[: at(len(data))])

    return checked(change)


def header(change: Callable[[dict], object]) -> Callable[[Path], list[str]]:
    """Another header before the same weights."""

    def edit(model: Path) -> None:
        path = model / "model.safetensors"
        data = path.read_bytes()
        n = int.from_bytes(data[:8], "little")
        of = json.loads(data[8 : 8 + n])
        told = change(of)
        new = told if isinstance(told, bytes) else json.dumps(of).encode()
        path.write_bytes(len(new).to_bytes(8, "little") + new + data[8 + n :])

    return checked(edit)


def without_weights(**files: str) -> Callable[[Path], list[str]]:
    """The weights taken away, and files in their place ("__" stands for a dot)."""

    def change(model: Path) -> None:
        (model / "model.safetensors").unlink()
        for name, content in files.items():
            (model / name.replace("__", ".")).write_text(content)

    return checked(change)


def sharded(change: Callable[[Path, dict], object]) -> Callable[[Path], list[str]]:
    def make(model: Path) -> None:
        of = load_file(model / "model.safetensors")
        (model / "model.safetensors").unlink()
        names = sorted(of)
        where = {name: f"model-{1 + k * 3 // len(names):05d}-of-00003.safetensors" for k, name in enumerate(names)}
        for shard in set(where.values()):
            part = {name: of[name] for name in names if where[name] == shard}
            save_file(part, model / shard, metadata={"format": "pt"})
        index = {"metadata": {}, "weight_map": where}
        told = change(model, index)
        text = told if isinstance(told, str) else json.dumps(index)
        (model / "model.safetensors.index.json").write_text(text)

    return checked(make)


def in_place_of(name: str, how: str) -> Callable[[Path], list[str]]:
    def change(model: Path) -> None:
        path = model / name
        path.unlink()
        path.mkdir() if how == "folder" else path.symlink_to("nowhere" if how == "no end" else path.name)

    return checked(change)


LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12\n"
LAYER, EXTRA = "model.layers.{}.", torch.ones(32)
WHOLE = "whole file would do"


def of_weights_files() -> None:
    for name, at in {
        "empty": lambda n: 0, "seven bytes": lambda n: 7, "within the header": lambda n: 300, "half": lambda n: n // 2,
        "the last byte": lambda n: n - 1, "a third": lambda n: n // 3,
    }.items():
        fault("weights cut short", name, "cut short", cut("model.safetensors", at))
    for name in ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"):
        fault("a pointer of Git LFS", name, "pointer of Git LFS", file(name, LFS))
    for name, content in {
        "a web page": "<!doctype html><html>Not found</html>", "an archive": b"PK\x03\x04" + bytes(90),
        "a GGUF": b"GGUF\x03\0\0\0" + bytes(90), "text": "these are no weights at all\n", "zeros": bytes(4096),
        "a pickle": b"\x80\x04\x95" + bytes(range(90)),
    }.items():
        fault(
            "weights that are no safetensors", name, "no safetensors file|cut short", file("model.safetensors", content)
        )
    for name, change in {
        "no JSON": lambda of: b"{broken", "a list": lambda of: b"{}"[:1] + b"[]}", "no places": lambda of: [
            value.pop("data_offsets", None) for value in of.values()],
        "places as text": lambda of: of["lm_head.weight"].update(data_offsets=["a", "b"]),
        "beyond the end": lambda of: of["lm_head.weight"].update(data_offsets=[0, 10**9]),
        "an unknown type": lambda of: of["lm_head.weight"].update(dtype="X7"),
        "another type": lambda of: of["lm_head.weight"].update(dtype="F64"),
    }.items():
        said = "header that is damaged|cut short|cannot be read|Error"
        fault("a damaged header of weights", name, said, header(change))
    shards = "model-{:05d}-of-00003.safetensors"
    for name, change in {
        "the first": lambda at, index: (at / shards.format(1)).unlink(),
        "the last": lambda at, index: (at / shards.format(3)).unlink(),
        "two": lambda at, index: [(at / shards.format(k)).unlink() for k in (2, 3)],
        "all": lambda at, index: [(at / shards.format(k)).unlink() for k in (1, 2, 3)],
        "one that never was": lambda at, index: index["weight_map"].update({"more": "model-4.safetensors"}),
        "one outside the folder": lambda at, index: index["weight_map"].update({"more": "../../model-4.safetensors"}),
    }.items():
        fault("a shard is missing", name, "of . files . are missing", sharded(change))
    for name, text in {
        "null": "null",
        "empty": "",
        "no map": "{}",
        "a list": "[1]",
        "a map of numbers": '{"weight_map": 3}',
    }.items():
        fault("an index of no shards", name, "no index of shards", sharded(lambda at, index, text=text: text))
    fault("a shard is cut", "half of it", "cut short", sharded(lambda at, index: (
        at / shards.format(2)).write_bytes((at / shards.format(2)).read_bytes()[:2000])))
    fault("a shard is cut", "a pointer", "pointer of Git LFS", sharded(lambda at, index: (
        at / shards.format(2)).write_text(LFS)))
    for name in ("pytorch_model.bin", "model.pt", "consolidated.00.pth", "last.ckpt"):
        fault("weights in pickles alone", name, "is a pickle", without_weights(**{name.replace(".", "__"): "x"}))
    for name, text in {
        "its base is nowhere": '{"peft_type": "LORA", "base_model_name_or_path": "nobody/nothing", "r": 4}',
        "it names none": '{"peft_type": "LORA", "r": 4}', "null": "null", "no JSON": "{",
    }.items():
        said = "is an adapter|the base model of"
        fault("an adapter without its base", name, said, without_weights(adapter_config__json=text))


def of_weights() -> None:
    more = {
        "biases": {f"{LAYER.format(k)}self_attn.q_proj.bias": EXTRA for k in range(3)},
        "one bias": {f"{LAYER.format(1)}mlp.down_proj.bias": EXTRA},
        "norms of queries": {f"{LAYER.format(k)}self_attn.q_norm.weight": torch.ones(8) for k in range(3)},
        "a bias of the norm": {"model.norm.bias": EXTRA},
        "a bias of the head": {"lm_head.bias": torch.ones(410)},
        "positions": {"model.embed_positions.weight": torch.ones(64, 32)},
        "an adapter inside": {f"{LAYER.format(0)}self_attn.q_proj.lora_A.weight": torch.ones(4, 32)},
        "a scale": {"model.embed_scale": EXTRA},
    }
    for name, added in more.items():
        fault("weights that the model does not take", name, "does not take",
              weights(lambda s, a=added: s.update({key: value.clone() for key, value in a.items()})))
    for layers in (1, 2):
        said = "holds model.layers.. and|does not take"
        fault("fewer layers than the file holds", f"{layers} of 3", said, config(num_hidden_layers=layers))
    for layers in (4, 5, 9):
        fault(
            "more layers than the file holds",
            f"{layers} of 3",
            "of the layers 3.*all layers",
            config(num_hidden_layers=layers),
        )
    for name, kind in {
        "qwen2": "llama",
        "qwen3": "llama",
        "gpt2": "llama",
        "olmo2": "llama",
        "llama": "gpt2",
        "phi": "llama",
    }.items():
        said = "does not take|no value for|of shape|makes no model|cannot be read"
        fault("weights of another family", f"{name} as {kind}", said, lambda at, n=name, k=kind: as_another(at, n, k))
    for name, values in {
        "a larger vocabulary": {"vocab_size": 500}, "a smaller vocabulary": {"vocab_size": 300},
        "a wider state": {"hidden_size": 64}, "a wider MLP": {"intermediate_size": 64}, "more keys": {"num_key_value_heads": 4},
        "wider heads": {"head_dim": 16},
    }.items():
        fault("weights of another shape", name, "of shape .* where its configuration says", config(**values))
    fault("weights of another shape", "a head with fewer rows", "lm_head.weight of shape .100, 32.",
          weights(lambda s: s.update({"lm_head.weight": s["lm_head.weight"][:100].clone()})))
    for name, gone in {
        "the head": "lm_head", "the embedding": "embed_tokens", "the last norm": "model.norm", "a projection": "layers.1.mlp.up",
        "a layer": "layers.2.", "all but a layer": "layers.0|layers.1|norm|embed",
    }.items():
        would = "language-model head would do" if name == "the head" else "holds all layers and weights would do"
        drop = lambda s, g=gone: [s.pop(k) for k in list(s) if any(part in k for part in g.split("|"))]  # noqa: E731
        fault("weights are missing", name, f"no value for \\d+ weights.*{would}", weights(drop))
    bad, none = (float("nan"), float("inf")), "states that are no numbers"
    for name, key, row, value, said in (
        ("the first token", "model.embed_tokens.weight", 0, bad[0], ""), ("a rare token", "model.embed_tokens.weight", 399, bad[0], ""),
        ("a token too many", "model.embed_tokens.weight", 409, bad[1], ""), ("the head", "lm_head.weight", 7, bad[0], ""),
        ("a norm", "model.norm.weight", 3, bad[1], none), ("a layer", "model.layers.1.mlp.up_proj.weight", 2, bad[0], none),
        ("less than any", "model.layers.0.self_attn.v_proj.weight", 0, -bad[1], none),
    ):
        change = weights(lambda s, k=key, r=row, v=value: s[k][r].fill_(v))
        fault("numbers that are none", name, said, change, 2 if said else 1)
    fault("numbers that are none", "beyond half precision", none, lambda at: [
        *weights(lambda s: s["model.embed_tokens.weight"].mul_(1e6))(at), "--dtype", "float16"])


def as_another(at: Path, of: str, kind: str) -> list[str]:
    """A model of one architecture under the configuration of another."""
    from architectures import make_module

    model, other = at / "model", at / "other"
    make_module(of).save_pretrained(model)
    make_module(kind).save_pretrained(other)
    shutil.copy(other / "config.json", model / "config.json")
    return ["check", str(model)]


def of_configurations() -> None:
    for name, text in {
        "null": "null", "a list": "[]", "a number": "3", "a text": '"llama"', "empty": "", "cut": '{"model_type": "lla',
        "binary": b"\x00\xff\xfe\x80", "in UTF-16": '{"model_type": "llama"}'.encode("utf-16"),
    }.items():
        fault(
            "a configuration that is no object",
            name,
            "The configuration of .* cannot be read",
            file("config.json", text),
        )
    for name, values in {
        "a number as text": {"hidden_size": "32"}, "layers as text": {"num_hidden_layers": "3"}, "half a layer": {"num_hidden_layers": 2.5},
        "no vocabulary": {"vocab_size": None}, "heads in a list": {"num_attention_heads": [4]}, "a rope of text": {"rope_parameters": "x"},
        "a width of null": {"intermediate_size": None}, "an activation of 3": {"hidden_act": 3},
    }.items():
        said = "The configuration of .* (cannot be read|makes no model)|of shape|no value|cannot be run"
        fault("values of another type", name, said, config(**values))
    for name, values in {
        "heads that do not divide": {"num_attention_heads": 5, "head_dim": ...}, "no layers": {"num_hidden_layers": 0},
        "less than no width": {"hidden_size": -32}, "no heads": {"num_attention_heads": 0}, "no vocabulary": {"vocab_size": 0},
        "keys for three": {"num_key_value_heads": 3}, "less than no layers": {"num_hidden_layers": -1}, "no width": {"intermediate_size": 0},
    }.items():
        said = "The configuration of .* (cannot be read|makes no model)|of shape|does not take|no list of|cannot be run"
        fault("values that cannot be", name, said, config(**values))
    for name, values in {
        "an activation": {"hidden_act": "swigluX"}, "a rope": {"rope_scaling": {"type": "su", "factor": 4.0}, "rope_parameters": ...},
        "another rope": {"rope_parameters": {"rope_type": "spiral", "rope_theta": 1e4}}, "a type": {"model_type": "llamma"},
        "no type": {"model_type": ..., "architectures": ...},
    }.items():
        said = "swigluX|'su'|spiral|llamma|model_type|cannot be read"
        fault("names that are not known", name, said, config(**values))
    for name in ("bert", "roberta", "xmod", "distilbert", "t5", "vit", "roberta without padding"):
        fault("no decoder", name, "would do", lambda at, n=name: encoder(at, n))
    for name, code in {
        "a model": "AutoModelForCausalLM",
        "a configuration": "AutoConfig",
        "a tokenizer": "AutoTokenizer",
    }.items():
        fault("code that comes along", name, "would do", lambda at, c=code: with_code(at, c))


def encoder(at: Path, name: str) -> list[str]:
    import transformers as tf

    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "vocab_size": 410,
    }
    made = {
        "bert": lambda: tf.BertForMaskedLM(tf.BertConfig(**sizes)),
        "roberta": lambda: tf.RobertaForCausalLM(tf.RobertaConfig(**sizes)),
        "roberta without padding": lambda: tf.RobertaForCausalLM(tf.RobertaConfig(**sizes, pad_token_id=None, is_decoder=True)),
        "xmod": lambda: tf.XmodForCausalLM(tf.XmodConfig(**sizes, is_decoder=True, languages=["en", "de"])),
        "distilbert": lambda: tf.DistilBertForMaskedLM(tf.DistilBertConfig(dim=32, n_layers=2, n_heads=4, hidden_dim=48, vocab_size=410)),
        "t5": lambda: tf.T5ForConditionalGeneration(tf.T5Config(d_model=32, d_kv=8, num_layers=2, num_heads=4, d_ff=48, vocab_size=410)),
        "vit": lambda: tf.ViTModel(tf.ViTConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)),
    }[name]()
    made.save_pretrained(at / "model")
    return ["check", str(at / "model")]


def with_code(at: Path, which: str) -> list[str]:
    """A folder whose own code would make a file, were it run."""
    model = at / "model"
    (model / "own.py").write_text(f"open({str(at / 'RAN')!r}, 'w')\nclass Own: pass\n")
    name = "tokenizer_config.json" if which == "AutoTokenizer" else "config.json"
    of = json.loads((model / name).read_text()) | {"auto_map": {which: "own.Own"}, "model_type": "own"}
    if which == "AutoTokenizer":
        of |= {"tokenizer_class": "OwnTokenizer", "auto_map": {which: ["own.Own", None]}}
        (model / "tokenizer.json").unlink()
    (model / name).write_text(json.dumps(of))
    return ["check", str(model)]


def of_tokenizers() -> None:
    tokenizer = "The tokenizer of .* cannot be read|no character offsets|cannot be run|knows"
    for name, text in {
        "cut": '{"version": "1.0", "model": {"ty', "null": "null", "a list": "[]", "empty": "", "binary": b"\xff\x00\x80",
        "no model": '{"version": "1.0"}', "an unknown model": '{"version": "1.0", "model": {"type": "Magic"}}',
    }.items():
        fault("a broken tokenizer", name, tokenizer, file("tokenizer.json", text))
    for name, text in {
        "cut": '{"tokenizer_class": "Pre',
        "null": "null",
        "a list": "[1]",
        "binary": b"\xff\x00",
    }.items():
        fault("broken settings of a tokenizer", name, tokenizer, file("tokenizer_config.json", text))
    fault("no tokenizer", "both files are gone", tokenizer, checked(
        lambda model: [(model / name).unlink() for name in ("tokenizer.json", "tokenizer_config.json")]))
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        for how in ("folder", "no end", "circle"):
            if (name, how) != ("tokenizer.json", "circle"):
                fault("something else under a file's name", f"{name} {how}", "would do", in_place_of(name, how))


def of_names() -> None:
    def named(name: str) -> Callable[[Path], list[str]]:
        return lambda at: ["check", name.replace("AT", str(at))]

    for name in ("nobody/nothing", "no such / name", "..", "a/b/c/d", "https://example.org/model", "-", "ü/ä"):
        fault("a model that is nowhere", repr(name), "would do", named(name))
    fault("a model that is nowhere", "blank", "would do", named(" "))
    for name in ("organism:nothing", "organism:", "organism:../hub", "ORGANISM:hub"):
        fault("an unknown organism", name, "would do", named(name))
    fault("no model folder", "empty", "configuration", lambda at: ((at / "new").mkdir(), ["check", str(at / "new")])[1])
    fault("no model folder", "a file", "would do", lambda at: ((at / "f").write_text("x"), ["check", str(at / "f")])[1])
    fault("no model folder", "of text", "configuration", lambda at: (
        (at / "t").mkdir(), (at / "t" / "a.txt").write_text("x"), ["check", str(at / "t")])[-1])
    fault("no model folder", "missing", "would do", named("AT/none"))
    for device in ("tpu", "cuda:77", "cuda:-1", "gpu", "", "cpu:"):
        fault(
            "an unknown device",
            repr(device),
            "device was",
            lambda at, d=device: ["check", str(at / "model"), "--device", d],
        )
    for dtype in ("int8", "float8", "FLOAT32", "fp16", "", "torch.float32"):
        fault(
            "an unknown dtype", repr(dtype), "dtype was", lambda at, d=dtype: ["check", str(at / "model"), "--dtype", d]
        )


def of_parameters() -> None:
    def run(*more: str, chapter: str = "arithmetic", out: str = "AT/runs") -> Callable[[Path], list[str]]:
        given = ["run", chapter, "--out", out, *more]
        return lambda at: [part.replace("AT", str(at)) for part in given]

    for chapter in ("nothing", "99", "0", "-", "ALL", "../x", "arithmetic,code"):
        fault("an unknown chapter", repr(chapter), "There is no chapter", run(chapter=chapter))
    unknown = "n_itms=3", "N_ITEMS=3", "seeds=1", "model=gpt2", "__class__=1"
    of_another = "n_items=some", "n_items=2.5", "n_items=true", "n_items=[1]", "dtype=3", "device=[cpu]"
    never = "n_items=0", "n_items=-1", "seed=-1", "dtype=int8", "device=tpu", "dtype=''", "model_id=''", "revision=' '"
    unread = "n_items=[1", "n_items={a", "n_items=@", "n_items=*x", "n_items=!!python/name:os.system"
    for kind, said, pairs in (
        ("an unknown parameter", "There is no parameter", unknown),
        ("a parameter of another kind", "was given|is ", (*of_another, "seed=x", "seed=1.5")),
        ("a parameter that cannot be", "would do", never),
        ("a value that YAML cannot read", "not a value YAML can read|was given", unread),
    ):
        for pair in pairs:
            fault(kind, pair, said, run("--set", pair))
    for pair in ("n_items", "=3", "n items=3", "3=4", "", "n.items=3"):
        fault("a setting without a name", repr(pair), "takes name=value", run("--set", pair))
    fault(
        "a model given twice",
        "by name and by set",
        "one of them would do",
        run("--model", "a/b", "--set", "model_id=c/d"),
    )
    fault("a model given twice", "its revision", "one of them would do", run("--revision", "a", "--set", "revision=b"))
    for where in ("AT/none", "AT/model/config.json", "/dev/null"):
        fault("a data folder that is none", where, "data_dir is", run("--set", f"data_dir={where}", chapter="code"))
    for where in ("AT/model/config.json", "AT/model/config.json/x", "/proc/none", "/dev/null/x"):
        fault("results that cannot be written", where, "cannot be written", run("--set", f"results_dir={where}"))
        fault("runs that cannot be written", where, "cannot be written", run(out=where))


def of_data() -> None:
    """What a chapter is given in `data_dir`, which it reads once it has its model."""

    def read(chapter: str, *more: str, **files: str | bytes) -> Callable[[Path], list[str]]:
        def make(at: Path) -> list[str]:
            for name, content in files.items():
                path = at / "data" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.encode() if isinstance(content, str) else content)
            (at / "data").mkdir(exist_ok=True)
            own = {"vision": "organism:hub-sees", "audio": "organism:hub-hears"}
            model = own.get(chapter, str((at / "sound").resolve()))
            given = ["run", chapter, "--model", model, "--out", str(at / "runs"), "--set", f"data_dir={at / 'data'}"]
            return [*given, *more]

        return make

    ntrex = {
        f"ntrex/NTREX-128/newstest2019-{side}.txt": "One line.\nTwo lines.\n"
        for side in ("src.eng", "ref.spa", "ref.zho-CN", "ref.deu")
    }
    english = "ntrex/NTREX-128/newstest2019-src.eng.txt"
    for name, said, files in (
        ("none", "has no ntrex", {}), ("one language", "no other language whose", {k: v for k, v in ntrex.items() if "eng" in k}),
        ("one line short", "no other language whose.*german, 2 for 1", ntrex | {english: "One.\n"}), ("empty", "no sentences that can be used", ntrex | {english: ""}),
        ("all blank", "no sentences that can be used", dict.fromkeys(ntrex, "\n\n")), ("not UTF-8", "is not UTF-8", ntrex | {english: b"\xff\xfe\x00x"}),
    ):
        fault("sentences that will not do", name, said, read("languages", **files))
    mbpp = "mbpp/mbpp_release_v1.jsonl"
    for name, content in (
        ("empty", ""), ("no JSON", "no\nno\n"), ("lists", "[]\n[1]\n"), ("other fields", '{"a": 1}\n'), ("half a character", '{"code": "x = \'\\ud800\'"}\n'),
        ("no programs", '{"code": "def ("}\n'), ("not UTF-8", b"\xff\xfe"), ("very deep", "[" * 100_000 + "\n"),
    ):
        fault("programs that will not do", name, "can be used|is not UTF-8", read("code", **{mbpp: content}))
    for name, content in (
        ("empty", ""),
        ("no tabs", "one\ntwo\n"),
        ("two columns", "a\tb\n"),
        ("binary", bytes(range(256))),
    ):
        said = "can be used|is not UTF-8|would do"
        fault("scenes that will not do", name, said, read("semantics", **{"cogs/train.tsv": content}))
    captions = "coco/annotations/captions_val2017.json"
    for name, content in (
        ("none", None), ("empty", ""), ("cut", '{"images": ['), ("a list", "[]"), ("no lists", '{"images": 1, "annotations": 2}'),
        ("entries of null", '{"images": [null], "annotations": [null]}'), ("no photographs", '{"images": [], "annotations": []}'),
        ("a way out", '{"images": [{"id": 1, "file_name": "../../model/config.json"}], "annotations": [{"image_id": 1, "caption": "a cat"}]}'),
    ):
        said = "has no coco|not whole JSON|no images and annotations|can be used"
        fault(
            "photographs that will not do",
            name,
            said,
            read("vision", **({} if content is None else {captions: content})),
        )
    esc, wave = "esc50/meta/esc50.csv", "filename,category,src_file\n"
    for name, files in (
        ("none", {}), ("empty", {esc: ""}), ("no columns", {esc: "a,b\n1,2\n"}), ("no rows", {esc: wave}), ("no files", {esc: wave + "a.wav,dog,1\n"}),
        ("no sound", {esc: wave + "a.wav,dog,1\n", "esc50/audio/a.wav": "no sound"}), ("a way out", {esc: wave + "../../model/config.json,dog,1\n"}),
        ("a huge field", {esc: wave + "a" * 200_000 + ",dog,1\n"}),
    ):
        fault(
            "recordings that will not do",
            name,
            "has no vgg|has no column|can be used|no sounds",
            read("audio", **files),
        )


def of_readings() -> None:
    def beside(content: bytes | dict) -> Callable[[Path], list[str]]:
        def make(at: Path) -> list[str]:
            path = at / "model" / "tuned.safetensors"
            path.write_bytes(content) if isinstance(content, bytes) else save_file(content, path)
            return ["run", "arithmetic", "--model", str(at / "model"), "--out", str(at / "runs")]

        return make

    for name, content in (("empty", b""), ("text", b"no lens"), ("a pointer", LFS.encode()), ("other tensors", {"x": torch.ones(2)}),
                          ("other shapes", {"weight": torch.ones(1, 2, 2), "bias": torch.ones(1, 2)})):
        fault("a lens beside a model that is none", name, "would do", beside(content))
    for name, content in (("missing", None), ("empty", ""), ("not UTF-8", b"\xff\xfe"), ("one line", "a cat\n"), ("blank", "\n \n"),
                          ("the same line", "a cat\n" * 99), ("binary", bytes(200))):

        def make(at: Path, content=content) -> list[str]:
            if content is not None:
                (at / "lines.txt").write_bytes(content.encode() if isinstance(content, str) else content)
            return ["tune", str(at / "model"), "--text", str(at / "lines.txt"), "--out", str(at / "lens")]

        fault("text to tune on that will not do", name, "would do|no text|cannot be read|can be used", make)
    fault("text to tune on that will not do", "a folder", "would do|cannot be read", lambda at: [
        "tune", str(at / "model"), "--text", str(at / "model"), "--out", str(at / "lens")])


def of_commands() -> None:
    for name, given in {
        "no command": [], "an unknown one": ["frobnicate"], "an unknown option": ["check", "x", "--frob"], "no model": ["check"],
        "no jobs": ["run", "all", "--jobs", "0"], "jobs as text": ["run", "all", "--jobs", "two"], "half a job": ["run", "all", "--jobs", "1.5"],
        "a seed as text": ["tune", "x", "--seed", "y"],
    }.items():
        fault("a command that is none", name, "semhub.*: error: ", lambda at, g=given: g)


def told_apart(model: Path, index: dict) -> None:
    """A weight that two shards hold, with another value."""
    name, first = next(iter(index["weight_map"].items()))
    other = next(shard for shard in index["weight_map"].values() if shard != first)
    value = load_file(model / first)[name]
    save_file(load_file(model / other) | {name: value + 1}, model / other, metadata={"format": "pt"})


def tokenizer(change: Callable[[dict], object]) -> Callable[[Path], list[str]]:
    def edit(model: Path) -> None:
        of = json.loads((model / "tokenizer.json").read_text())
        change(of)
        (model / "tokenizer.json").write_text(json.dumps(of))

    return checked(edit)


def of_folders() -> None:
    """What else a model's folder may hold, or be."""
    for name, rope in (("no number", {"rope_theta": float("nan")}), ("a base of 0", {"rope_theta": 0.0}), ("divided by 0", {"rope_type": "linear", "factor": 0.0})):
        fault("frequencies that are no numbers", name, "",
              config(rope_parameters={"rope_type": "default", "rope_theta": 1e4} | rope), 1)
    for name, text in {"null": "null", "a list": "[1]", "a token as text": '{"pad_token_id": "x"}', "very deep": "[" * 100_000}.items():
        fault("a generation configuration that is none", name, "its generation_config.json is none", file("generation_config.json", text))
    fault("nested beyond what is read", "the configuration", "config.json is no JSON", file("config.json", '{"a":' * 100_000))
    for name, text in (("the index of shards", "[" * 100_000), ("an index of nothing", '{"weight_map": {}}')):
        fault("nested beyond what is read", name, "no index of shards", sharded(lambda at, index, text=text: text))
    for name, kind in (("8 bits", torch.int8), ("64 bits", torch.int64), ("yes and no", torch.bool), ("complex", torch.complex64)):
        fault("weights that are no fractions", name, "no weights by themselves",
              weights(lambda s, k=kind: s.update({"model.norm.weight": s["model.norm.weight"].to(k)})))
    fault("shards that disagree", "a weight in two", "in two of its files, with different values", sharded(told_apart))
    for name, vocabulary in (("no tokens", {}), ("a special one alone", {"<end>": 0})):
        fault("a tokenizer that cannot be used", name, "has no ordinary token",
              tokenizer(lambda of, v=vocabulary: of["model"].update(vocab=v, merges=[])))
    fault("a tokenizer that cannot be used", "a length as text", "cannot be run", file("tokenizer_config.json", '{"model_max_length": "x"}'))
    for name, given, said in (
        ("its configuration", "AT/model/config.json", "is a file; the folder"), ("its weights", "AT/model/model.safetensors", "is a file; the folder"),
        ("nothing", "", "The model was ''"), ("random weights of nothing", "random:", "The model was ''"), ("300 letters", "/" + "y" * 300, "would do"),
    ):
        fault("no name of a model", name, said, lambda at, given=given: ["check", given.replace("AT", str(at))])
    for device in ("hpu", "meta", "auto,7=1GB"):
        fault("an accelerator that is not there", device, "not available here|no accelerator number 7",
              lambda at, d=device: ["check", str(at / "model"), "--device", d])


def of_numbers_and_places() -> None:
    def run(*more: str, out: str = "AT/runs") -> Callable[[Path], list[str]]:
        return lambda at: [part.replace("AT", str(at)) for part in ("run", "arithmetic", "--out", out, *more)]

    for name in ("none", "model", "model/config.json"):
        fault("no folder of runs to be shown", name, "holds no results to be shown; a folder that semhub run wrote",
              lambda at, n=name: ["book", "--with", str(at / n)])
    for given in ("sentiment_model=3", "judge_model=[a]", "judge_model=2024-01-01"):
        fault("no name of a judge", given, "is .*; a Hugging Face model id, a folder, or nothing, would do",
              lambda at, g=given: ["run", "steering", "--out", str(at / "runs"), "--set", g])
    fault("a seed that cannot be", "2**64", "whole number from 0 to 4294967295", run("--set", f"seed={2**64}"))
    for name, given in {"-1": ("tune", "x", "--seed", "-1"), "2**70": ("train", "--seed", str(2**70))}.items():
        fault("a seed that cannot be", name, "whole number from 0 to 4294967295", lambda at, g=given: [*g])
    for name, chapter in (("n_words=-3", "languages"), ("n_words=x", "languages"), ("n_counted=0", "layers"), ("max_result=0", "arithmetic"),
                          ("steps=0", "raising"), ("steps=-5", "raising"), ("n_seeds=0", "steering"), ("max_new_tokens=-1", "steering")):
        fault("a number of something that cannot be", name, "is .*; a whole number from 1, or nothing, would do",
              lambda at, n=name, c=chapter: ["run", c, "--out", str(at / "runs"), "--set", n])
    for minutes in ("nan", "inf", "0", "-1", "x"):
        fault("a time that cannot be", minutes, "--minutes", lambda at, m=minutes: ["train", "hub", "--minutes", m])
    for name, given in {"3": "3", "a list": "[a]", "a date": "2024-01-01", "half a character": '"\\ud800"', "300 letters": "y" * 300}.items():
        fault("no name of a data folder", name, "data_dir is", run("--set", f"data_dir={given}"))
    for name, given in {"a zero": '"\\u0000"', "half a character": '"\\ud800"'}.items():
        fault("no name of a results folder", name, "results_dir is", run("--set", f"results_dir={given}"))
    fault("no name of a results folder", "a circle", "results_dir .* cannot be written",
          lambda at: ((at / "l").symlink_to("l"), run(out="AT/l/x")(at))[1])
    for name, given in {"of chapters": ("run", "a\nb"), "of settings": ("run", "code", "--set", "n_items=\n*x")}.items():
        fault("two lines in a name", name, "There is no chapter|not a value YAML", lambda at, g=given: [*g])
    for name, given in {"threads": ("--threads", "1000000"), "dtype": ("--dtype", "x"), "device": ("--device", "hpu")}.items():
        fault("a measurement that cannot be", name, f"{name} was", lambda at, g=given: ["bench", "--quick", *g])


def of_results() -> None:
    """What a folder of results may hold, by the first thing that is wrong with it."""
    shipped = Path(__file__).parents[2] / "book" / "results" / "organism-islands"

    def compared(change: Callable[[Path], object], *more: str) -> Callable[[Path], list[str]]:
        def make(at: Path) -> list[str]:
            shutil.copytree(shipped, at / "results")
            change(at / "results" / "claims.json.gz")
            return ["compare", str(at / "results"), *(part.replace("AT", str(at)) for part in more)]

        return make

    def written(change: Callable[[dict], object]) -> Callable[[Path], list[str]]:
        def edit(path: Path) -> None:
            of = json.loads(gzip.decompress(path.read_bytes()))
            change(of)
            path.write_bytes(gzip.compress(json.dumps(of).encode()))

        return compared(edit)

    def claims(**values) -> Callable[[Path], list[str]]:
        def change(of: dict) -> None:
            for claim in (claim for some in of["experiments"].values() for claim in some):
                claim.update(values)
                [claim.pop(name) for name, value in values.items() if value is ...]

        return written(change)

    said = "The results in .* cannot be read .*; those that `semhub run` or `--record` wrote would do"
    for name, content in {
        "cut": lambda whole: whole[:5000], "empty": lambda whole: b"", "another sum": lambda whole: whole[:-8] + bytes(8), "not packed": lambda whole: b"{}",
        "garbled": lambda whole: whole[:2000] + bytes(3000), "null": lambda whole: gzip.compress(b"null"), "very deep": lambda whole: gzip.compress(b"[" * 200_000),
    }.items():
        fault("a file of claims that cannot be read", name, said, compared(lambda path, c=content: path.write_bytes(c(path.read_bytes()))))
    for name, values in {
        "no verdict": {"verdict": ...}, "another verdict": {"verdict": "maybe"}, "a number as text": {"statistic": "<b>1"}, "no number": {"n_units": ...},
        "no evidence": {"evidence": ...}, "a layer as text": {"layer": "x"}, "another id": {"id": "x"}, "empty evidence": {"evidence": {}},
    }.items():
        fault("claims of another form", name, said, claims(**values))
    for name, change in {
        "runs in a list": lambda of: of.update(runs=[1]), "empty runs": lambda of: of.update(runs={k: {} for k in of["runs"]}), "no runs": lambda of: of.pop("runs"),
        "a number as model": lambda of: of.update(model=3), "experiments in a list": lambda of: of.update(experiments=[1]), "claims of numbers": lambda of: of.update(experiments={"x": [3]}),
        "no programs": lambda of: of.update(made=[1]), "no schema": lambda of: of.pop("schema"),
    }.items():
        fault("results of another form", name, said, written(change))
    for name, text in {"null": "null", "a list": "[]", "empty": "", "very deep": "[" * 100_000}.items():
        fault("a chapter's claims that cannot be read", name, "a.claims.json (cannot be read|holds no)",
              compared(lambda path, t=text: (path.unlink(), (path.parent / "a.claims.json").write_text(t))))
    for name, text in {"no model": '{"schema": 3, "claims": []}', "no claims": '{"schema": 3, "provenance": {"chapter": "a"}}'}.items():
        fault("a chapter's claims that cannot be read", name, said,
              compared(lambda path, t=text: (path.unlink(), (path.parent / "a.claims.json").write_text(t))))
    for name, where in {"a folder": "AT/results", "no folder": "AT/none/page.html", "the folder here": "."}.items():
        fault("a page that cannot be written", name, "cannot be written", compared(lambda path: None, "--html", where))
    fault("results of several models", "below one folder", "holds results of 2 models", compared(
        lambda path: shutil.copytree(shipped.with_name("organism-hub"), path.parent / "more")))
    for name in ("", "y" * 300):
        fault("no name of results", repr(name), "There are no results of", lambda at, n=name: ["compare", n])


def piped(name: str, how: str = "pipe") -> Callable[[Path], list[str]]:
    """What reading would wait on, for ever or without end."""

    def change(model: Path) -> None:
        path = model / name
        path.unlink(missing_ok=True)
        if how == "pipe":
            os.mkfifo(path)
        elif how == "socket":
            of = os.open(model, os.O_RDONLY)  # a socket's own path has to be short
            socket.socket(socket.AF_UNIX).bind(f"/proc/self/fd/{of}/{name}")
            os.close(of)
        else:
            path.symlink_to(how)

    return checked(change)


LETTERS = {chr(code): code - 32 for code in range(32, 127)}


def of_what_is_given_in_vain() -> None:
    """What is no file, sizes that no memory holds, and names that say nothing."""
    pipe = "is a pipe, a socket or a device"
    for name in ("model.safetensors", "config.json", "tokenizer.json", "card.json", "generation_config.json"):
        fault("no file but a pipe", name, pipe, piped(name))
    for how in ("socket", "/dev/zero", "/dev/null"):
        fault("no file but a pipe", how, pipe, piped("model.safetensors", how))
    for name, values in {
        "a million layers": {"num_hidden_layers": 10**6}, "400 digits of layers": {"num_hidden_layers": 10**400},
        "layers of a part": {"text_config": {"num_hidden_layers": 10**7}},
    }.items():
        fault("more layers than any model has", name, "num_hidden_layers is 10*.*at most 1000 would do", config(**values))
    for name, values in {
        "a width": {"hidden_size": 10**9}, "a vocabulary": {"vocab_size": 10**12}, "an MLP": {"intermediate_size": 10**9},
    }.items():
        fault("a size that no file holds", name, "bytes of weights, and its configuration makes a model of", config(**values))
    for name, of, said in (("of no name", {"bits": 4}, "quant_method"), ("an unknown one", {"quant_method": "magic"}, "'magic', which transformers")):
        fault("a packing that is not known", name, said, config(quantization_config=of))
    single = [{"SpecialToken": {"id": "[X]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    around = {"type": "TemplateProcessing", "single": single, "pair": [*single, {"Sequence": {"id": "B", "type_id": 1}}]}
    beyond = {"[X]": {"id": "[X]", "ids": [99_999], "tokens": ["[X]"]}}
    two, ended = {"vocab": {"a": 0, "b": 1}, "merges": []}, "the tokenizer the model was trained with would do"
    for name, change, said in (
        ("a mark of no number", lambda of: of.update(post_processor=around | {"special_tokens": {}}), ended),
        ("a mark beyond the model", lambda of: of.update(post_processor=around | {"special_tokens": beyond}), "has token 99999"),
        ("a table of signs", lambda of: of.update(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}), "cannot be read"),
        ("two words", lambda of: of.update(model={"type": "WordLevel", "unk_token": "?", "vocab": two["vocab"]}), ended),
        ("no unknown one", lambda of: of.update(model={"type": "BPE", "unk_token": "?", **two}), ended),
        ("no unknown Chinese", lambda of: of.update(model={"type": "BPE", "unk_token": "¿", "vocab": LETTERS, "merges": []}, pre_tokenizer=None), "cannot be run on '这代表了'"),
        ("no words behind a space", lambda of: of.update(pre_tokenizer={"type": "Split", "pattern": {"Regex": "^\\S+"}, "behavior": "Removed", "invert": True}), "reads ' hello' as no token"),
        ("at random", lambda of: of["model"].update(dropout=0.5), "at random .dropout 0.5."),
    ):
        fault("a tokenizer that breaks in use", name, said, tokenizer(change))
    for name, given in {
        "a folder": ("check", "AT/model"), "a shipped model": ("check", "organism:hub"), "random weights": ("check", "random:AT/model"),
        "a run": ("run", "arithmetic", "--out", "AT/runs", "--model", "AT/model"),
    }.items():
        fault("a revision of what lies here", name, "revision was 'main', and .* no revision would do",
              lambda at, g=given: [*(part.replace("AT", str(at)) for part in g), "--revision", "main"])
    for name, given in {"text of a device": ("tune", "AT/model", "--out", "AT/lens", "--text", "/dev/zero"), "claims in a pipe": ("compare", "AT/c")}.items():
        fault("no file to read but a device", name, "is a device; a file would do|is a pipe",
              lambda at, g=given: ((at / "c").mkdir(), os.mkfifo(at / "c" / "a.claims.json"), [part.replace("AT", str(at)) for part in g])[2])
    fault("no file to read but a device", "a data set in a pipe", "is a pipe, a socket or a device", lambda at: (
        (at / "cogs").mkdir(), os.mkfifo(at / "cogs" / "train.tsv"),
        ["run", "semantics", "--model", str((at / "sound").resolve()), "--out", str(at / "runs"), "--set", f"data_dir={at}"])[2])
    for given in (
        ("run", "code", "--out", ""), ("run", "code", "--model", ""), ("run", "code", "--record", " "), ("run", "code", "--revision", ""),
        ("tune", "x", "--text", ""), ("compare", "x", "--html", ""), ("book", "--with", ""), ("bench", ""),
    ):
        fault("a name that is empty", " ".join(given), "is empty; a name, or to leave it out, would do", lambda at, g=given: [*g])


for made in (
    of_folders,
    of_what_is_given_in_vain,
    of_numbers_and_places,
    of_results,
    of_weights_files,
    of_weights,
    of_configurations,
    of_tokenizers,
    of_names,
    of_parameters,
    of_data,
    of_readings,
    of_commands,
):
    made()
KINDS = Counter(one.kind for one in FAULTS)

"""GGUF files, adapters and weights of few bits: read as plain transformers and their own packages read them, one item
at a time in float64; what cannot be read gets one sentence."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers as tf
from architectures import PROMPTS, make_module, make_tokenizer
from test_models import sentence

from semhub_utils import formats
from semhub_utils.formats import TEXTS, own_ids, quantisation
from semhub_utils.identity import local, model_label, model_slug, of_model, placeless
from semhub_utils.loading import load_model, self_check
from semhub_utils.models import randomised
from semhub_utils.results import Run
from semhub_utils.states import hidden_states

NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v"}
NAMES |= {"self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up"}
NAMES |= {"mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
NAMES |= {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output", "model.layers": "blk"}
SIZES = {"hidden_size": 64, "intermediate_size": 64}  # whole blocks of 32, as Q8_0 has them


def tables(tokenizer):
    """The vocabulary of a byte-level tokenizer as a GGUF file holds it."""
    about = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(about["vocab"], key=about["vocab"].get)
    return {"model": "gpt2", "tokens": tokens, "merges": [" ".join(pair) for pair in about["merges"]]}


def write(path, module, tokenizer, *, architecture="qwen2", **more):
    """A GGUF file of a tiny Qwen2 model, its matrices in Q8_0; and its weights as the file holds them."""
    gguf = pytest.importorskip("gguf")
    config, writer, held = module.config, gguf.GGUFWriter(path, architecture), {}
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_file_type(int(gguf.LlamaFileType.MOSTLY_Q8_0))
    told = tables(tokenizer) | more
    told["tokens"] += [f"[PAD{k}]" for k in range(config.vocab_size - len(told["tokens"]))]
    writer.add_tokenizer_model(told["model"])
    writer.add_token_list(told["tokens"])
    writer.add_token_types([3 if k == 0 else 1 for k in range(len(told["tokens"]))])
    writer.add_token_merges(told["merges"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(told.get("add_bos_token", False))
    for name, weight in module.state_dict().items():
        array, short = weight.float().numpy(), name
        for theirs, own in NAMES.items():
            short = short.replace(theirs, own)
        if array.ndim == 2:
            packed = gguf.quants.quantize(array, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(short, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
            array = gguf.quants.dequantize(packed, gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(short, array)
        held[name] = torch.from_numpy(np.asarray(array)).double()
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return held


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tokenizers):
    """A GGUF file and what it holds."""
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    return path, write(path, make_module("qwen2", **SIZES), tokenizers("byte"))


@pytest.fixture
def copy_of(whole, tmp_path):
    return shutil.copy(whole[0], tmp_path / "copy.gguf")


# GGUF files


def test_a_gguf_file_is_read_as_its_own_package_reads_it(whole, tokenizers):
    """States of plain transformers in float64, the weights unpacked by the package gguf; ids of the tokenizer that the
    file was made of; its folder and name are no part of what it is."""
    path, held = whole
    model, plain = load_model(str(path)), make_module("qwen2", **SIZES).double()
    plain.load_state_dict(held)
    assert model.quantisation == "Q8_0" and model.files == [path] and model.card == {} and model.base == ""
    for text in PROMPTS + [*TEXTS]:
        ids = tokenizers("byte")(text).input_ids
        assert model.encode([text])[0].ids == ids
        with torch.inference_mode():
            theirs = plain(torch.tensor([ids]), output_hidden_states=True).hidden_states[:-1]
        ours = hidden_states(model, [text], positions="all").hidden[:, :-1].double()
        torch.testing.assert_close(ours, torch.stack(theirs)[:, 0].transpose(0, 1), rtol=1e-4, atol=1e-5)
    self_check(randomised(model, 0))


def test_a_gguf_file_has_one_name_and_one_fingerprint_wherever_it_lies(whole, copy_of, monkeypatch):
    path, model = whole[0], load_model(str(whole[0]), check=False)
    other = load_model(f"{copy_of.parent}:{copy_of.name}", check=False)
    assert of_model(model) == of_model(other) and model.model_id != other.model_id
    monkeypatch.chdir(path.parent)
    assert (
        local("tiny.gguf") == path == local(f"{path.parent}:tiny.gguf")
        and local("org/name:tiny.gguf") is None
        and local("") is None
    )
    assert model_slug("tiny.gguf") == model_slug(str(path)) == model_slug(f"{path.parent}:tiny.gguf")
    assert placeless("model_id", str(path)).startswith("tiny.gguf-") and "/" not in placeless("model_id", str(path))
    assert placeless("model_id", "org/name:x.gguf") == "org/name:x.gguf" and placeless("seed", 3) == 3


def test_what_was_read_is_said_of_a_run(whole, tmp_path):
    parameters = {"model_id": str(whole[0]), "results_dir": str(tmp_path), "seed": 0}
    told = Run("x", load_model(str(whole[0]), check=False), parameters, str(tmp_path)).provenance()
    assert told["quantisation"] == "Q8_0" and told["base"] == "" and model_label(told).endswith(" (Q8_0)")
    told |= {"model": "mine", "revision": "main", "base": "org/base", "quantisation": ""}
    assert model_label(told) == "mine@main (on org/base)" and model_label(told | {"base": ""}) == "mine@main"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-4000]), "GGUF file .*the whole file"),
        (lambda path: path.write_bytes(path.read_bytes()[:900]), "GGUF file .*the whole file"),
        (lambda path: path.write_bytes(path.read_bytes()[:5]), "GGUF file .*the whole file"),
        (lambda path: path.write_bytes(b""), "GGUF file .*the whole file"),
        (lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "GGUF file .*whole file"),
        (lambda path: path.unlink(), "is no file here; the path of a GGUF file, or ID:FILE.gguf"),
    ],
)
def test_gguf_files_that_cannot_be_read(copy_of, damage, said):
    damage(copy_of)
    assert_said(said, str(copy_of))


def assert_said(said, *given):
    import re

    assert re.search(said, (told := sentence(*given))), told


def test_gguf_files_that_are_not_for_us(tmp_path, tokenizers, monkeypatch):
    """Of an architecture that transformers does not read; a folder of such; a package that is missing."""
    path = tmp_path / "x.gguf"
    write(path, make_module("qwen2", **SIZES), tokenizers("byte"), architecture="nonesuch")
    assert_said("is a GGUF file, and transformers .* cannot read it .*nonesuch", str(path))
    assert_said(r"a folder of GGUF files; one of them, such as .*x\.gguf", str(tmp_path))
    assert_said("neither a folder here nor a model in the local cache", "nobody/nothing:x.gguf")
    for package in ("accelerate", "gguf"):
        monkeypatch.setattr(formats, "find_spec", lambda name, missing=package: None if name == missing else True)
        assert_said(rf"the package {package} is not here; `pip install semhub-utils\[gguf\]`", str(path))


@pytest.mark.parametrize("wrong", ["begin", "merges"])
def test_a_tokenizer_that_is_not_the_files_own_is_refused(tmp_path, tokenizers, monkeypatch, wrong):
    """The library's tokenizer made with other merges than the file's, or without the token that it begins with."""
    few = {"merges": tables(tokenizers("byte"))["merges"][:9]}
    more = {"begin": {"add_bos_token": True}, "merges": few}[wrong]
    path, good = tmp_path / "x.gguf", tmp_path / "good.gguf"
    write(path, make_module("qwen2", **SIZES), tokenizers("byte"), **more)
    write(good, make_module("qwen2", **SIZES), tokenizers("byte"))
    load_model(str(good), check=False)
    wrong = tf.AutoTokenizer.from_pretrained(str(tmp_path), gguf_file="good.gguf")
    monkeypatch.setattr(tf.AutoTokenizer, "from_pretrained", lambda *_, **__: wrong)
    assert_said("reads .* where the file's own tables say", str(path))


def test_ids_by_a_files_own_tables(tokenizers):
    """Against the tokenizers that the tables are from; a SentencePiece vocabulary with scores and bytes by hand."""
    byte = tokenizers("byte")
    fields = {f"tokenizer.ggml.{name}": value for name, value in tables(byte).items()}
    for text in [*TEXTS, *PROMPTS]:
        assert own_ids(fields, text) == byte(text).input_ids
    assert own_ids(fields | {"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.bos_token_id": 7}, "8")[0] == 7
    tokens = ["<s>", *(f"<0x{b:02X}>" for b in range(256)), *"▁helo", "he", "ll", "hell", "▁hell", "▁hello"]
    scores = [0.0] * (len(tokens) - 5) + [-1.0, -2.0, -3.0, -4.0, -5.0]
    told = {"model": "llama", "tokens": tokens, "scores": scores, "bos_token_id": 0, "add_space_prefix": False}
    fields = {f"tokenizer.ggml.{name}": value for name, value in told.items()}
    by_hand = {" hello": ["▁hello"], "hell": ["hell"], "é": ["<0xC3>", "<0xA9>"], "lle": ["ll", "e"]}
    for text, pieces in by_hand.items():
        assert own_ids(fields, text) == [0, *map(tokens.index, pieces)]
    prefixed = fields | {"tokenizer.ggml.add_space_prefix": True}
    assert own_ids(prefixed, "hello") == [0, tokens.index("▁hello")] and own_ids(prefixed, " hello") is None
    assert own_ids(fields | {"tokenizer.ggml.model": "t5"}, "x") is None


# Adapters


@pytest.fixture(scope="module")
def adapted(tmp_path_factory, tokenizers):
    """A base model, an adapter on it, and plain PEFT's model of both."""
    peft = pytest.importorskip("peft")
    at = tmp_path_factory.mktemp("adapter")
    base, folder = at / "base", at / "adapter"
    make_module("llama").save_pretrained(base)
    tokenizers("byte").save_pretrained(base)
    plain = tf.AutoModelForCausalLM.from_pretrained(base)
    plain = peft.get_peft_model(
        plain, peft.LoraConfig(r=4, target_modules=["q_proj", "up_proj"], task_type="CAUSAL_LM")
    )
    torch.manual_seed(0)
    for name, weight in plain.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.3)
    plain.save_pretrained(folder)
    return base, folder, plain.double().eval()


def changed(folder, to, **config):
    shutil.copytree(folder, to)
    at = to / "adapter_config.json"
    at.write_text(json.dumps(json.loads(at.read_text()) | config))
    return str(to)


def test_an_adapter_is_merged_into_its_base(adapted, tmp_path):
    base, folder, plain = adapted
    model, without = load_model(str(folder)), load_model(str(base), check=False)
    assert model.base == str(base) and [path.name for path in model.files] == [
        "model.safetensors",
        "adapter_model.safetensors",
    ]
    assert of_model(model) != of_model(without) and not model.card
    for text in PROMPTS:
        ids = model.encode([text])[0].ids
        with torch.inference_mode():
            theirs = plain(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[:-1]
        ours = hidden_states(model, [text], positions="all").hidden[:, :-1].double()
        torch.testing.assert_close(ours, torch.stack(theirs)[:, 0].transpose(0, 1), rtol=1e-4, atol=1e-4)
        assert not torch.allclose(
            ours[:, 1:].float(), hidden_states(without, [text], positions="all").hidden[:, 1:-1], 1e-2
        )
    beside = tmp_path / "moved"
    shutil.copytree(base, beside / "base")
    found = load_model(changed(folder, beside / "adapter", base_model_name_or_path="../base"))
    assert of_model(found) == of_model(model) and found.base == str(beside / "adapter" / "../base")


def test_adapters_that_cannot_be_used(adapted, tmp_path, tokenizers, monkeypatch):
    base, folder, _ = adapted
    gone = changed(folder, tmp_path / "gone", base_model_name_or_path="nobody/nothing")
    assert_said(r"nobody/nothing \(the base model of .*gone\) is neither a folder here nor", gone)
    assert_said("is an adapter that names no base", changed(folder, tmp_path / "none", base_model_name_or_path=None))
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "adapter_config.json").write_text("[]")
    assert_said("is an adapter that names no base model", str(tmp_path / "empty"))
    make_module("llama", hidden_size=64).save_pretrained(tmp_path / "other")
    tokenizers("byte").save_pretrained(tmp_path / "other")
    other = changed(folder, tmp_path / "unfit", base_model_name_or_path=str(tmp_path / "other"))
    assert_said("cannot be merged into .*other .*its own base model", other)
    bare = changed(folder, tmp_path / "bare")
    (tmp_path / "bare" / "adapter_model.safetensors").rename(tmp_path / "bare" / "adapter_model.bin")
    assert_said("holds no adapter_model.safetensors", bare)
    shutil.copy(base / "model.safetensors", tmp_path / "gone")
    assert_said("an adapter beside weights of its own", gone)
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    assert_said(r"the package peft is not here; `pip install semhub-utils\[peft\]`", str(folder))


# Weights of few bits


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, ""),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "8 bits, bitsandbytes"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": False, "load_in_4bit": True}, "4 bits, bitsandbytes"),
        ({"quant_method": "gptq", "bits": 3}, "3 bits, gptq"),
        ({"quant_method": "fp8"}, "8 bits, fp8"),
        ({"quant_method": "mxfp4"}, "4 bits, mxfp4"),
        (tf.BitsAndBytesConfig(load_in_8bit=True), "8 bits, bitsandbytes"),
        ({"quant_method": "torchao"}, "torchao"),
    ],
)
def test_how_few_bits_is_said(given, said):
    assert quantisation(SimpleNamespace(quantization_config=given)) == said


@pytest.mark.parametrize(
    "given",
    [
        {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False},
        {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True, "version": "gemm"},
        {"quant_method": "eetq"},
    ],
)
def test_weights_of_few_bits_without_what_reads_them(tmp_path, given):
    make_module("llama").save_pretrained(tmp_path)
    make_tokenizer("byte").save_pretrained(tmp_path)
    at = tmp_path / "config.json"
    at.write_text(json.dumps(json.loads(at.read_text()) | {"quantization_config": given}))
    bits = "4 bits, " if "bits" in given else ""
    assert_said(f"has weights of {bits}{given['quant_method']}, and transformers .* cannot read it", str(tmp_path))


@pytest.mark.parametrize("bits", [8, 4])
def test_weights_of_few_bits_are_read_and_named(tmp_path, bits):
    """The states of plain transformers, one prompt at a time, within the bound that the checks state."""
    pytest.importorskip("bitsandbytes")
    make_module("llama", hidden_size=128, intermediate_size=128, head_dim=32).save_pretrained(tmp_path / "plain")
    given = tf.BitsAndBytesConfig(load_in_8bit=True) if bits == 8 else tf.BitsAndBytesConfig(load_in_4bit=True)
    plain = tf.AutoModelForCausalLM.from_pretrained(
        tmp_path / "plain", quantization_config=given, device_map={"": "cpu"}
    )
    plain.save_pretrained(tmp_path / "few")
    make_tokenizer("byte").save_pretrained(tmp_path / "few")
    model = load_model(str(tmp_path / "few"), device="cpu")
    assert model.quantisation == f"{bits} bits, bitsandbytes" and model.dtype == torch.float32
    for text in PROMPTS:
        with torch.inference_mode():
            ids = torch.tensor([model.encode([text])[0].ids])
            theirs = torch.stack(plain(ids, output_hidden_states=True).hidden_states[:-1])[:, 0].transpose(0, 1)
        ours = hidden_states(model, [text], positions="all").hidden[:, :-1]
        assert (ours - theirs).abs().max() < 0.05 * theirs.abs().max()
    self_check(randomised(model, 0))

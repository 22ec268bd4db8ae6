"""Loading: every architecture passes its checks, a handle that is wrong fails them, and bad input gets one sentence."""

import copy
import gc
import json
import re
import shutil
import weakref
from contextlib import ExitStack
from functools import partial
from types import SimpleNamespace

import pytest
import torch
import transformers as tf
from architectures import DECODERS, PROMPTS, make_module, make_tokenizer
from huggingface_hub import errors as hub
from safetensors.torch import load_file, save_file

from semhub_utils import loading
from semhub_utils.errors import SemhubError
from semhub_utils.identity import of_model, organism_path, sha256
from semhub_utils.loading import load_model, self_check
from semhub_utils.models import randomised, wrap
from semhub_utils.states import hidden_states


@pytest.fixture(scope="session")
def folder(tmp_path_factory, tokenizers):
    """A saved checkpoint with its tokenizer."""
    path = tmp_path_factory.mktemp("checkpoint")
    make_module("llama").save_pretrained(path)
    tokenizers("byte").save_pretrained(path)
    return path


@pytest.fixture
def copy_of(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def pickled(at):
    torch.save(load_file(at / "model.safetensors"), at / "pytorch_model.bin")


def sentence(*arguments, **named):
    """The message of what loading raises: one sentence."""
    with pytest.raises(SemhubError) as caught:
        load_model(*arguments, **named)
    message = str(caught.value)
    assert message.endswith("would do.") and "\n" not in message and ". " not in message.replace(".. ", "")
    return message


# What passes


@pytest.mark.parametrize("name", DECODERS)
def test_every_architecture_passes_its_checks(tiny, name):
    model = tiny(name)
    found = self_check(model)
    assert [check.name for check in found] == list(loading.CHECKS) and all(check.passed for check in found)
    assert model.n_layers == 3 and model.hidden_size == 32 and model.vocab_size == 410


@pytest.fixture
def half(tokenizers):
    """half(architecture, massive, ...): in bfloat16; massive: one dimension of its states is 1,000 times larger."""

    def made(name: str, massive: bool, **sizes):
        module = make_module(name, **sizes)
        with torch.no_grad():
            module.get_input_embeddings().weight[:, 5] *= 1e3 if massive else 1
        return wrap(module.to(torch.bfloat16), tokenizers("byte"), model_id="spoiled")

    return made


@pytest.mark.parametrize("massive", [False, True])
@pytest.mark.parametrize(
    ("name", "n_layers"), [("llama", 3), ("llama", 32), ("cohere", 32), ("falcon", 3), ("gpt2", 3), ("qwen2", 80)]
)
def test_half_precision_passes_its_checks_however_it_rounds(half, monkeypatch, name, n_layers, massive):
    """Every value of every block's output goes one unit in the last place up, down or nowhere, at each run anew."""
    model = half(name, massive, **({} if name == "gpt2" else {"num_hidden_layers": n_layers}))
    make, run = torch.Generator().manual_seed(0), model.run

    def rounded(h):
        unit = torch.ldexp(torch.ones(h.shape), torch.frexp(h.float()).exponent - 8)
        return (h + unit * torch.randint(-1, 2, h.shape, generator=make)).to(h.dtype)

    def jittered(ids, extras):
        with ExitStack() as stack:
            for layer in range(1, n_layers + 1):
                stack.enter_context(model.hook(layer, rounded))
            return run(ids, extras)

    assert all(check.value <= check.bound / 2 for check in self_check(model))
    monkeypatch.setattr(model, "run", jittered)
    found = {check.name: check.value / check.bound for check in self_check(model)}
    assert 0.1 < found["batch"] and max(found.values()) < 0.7, found


@pytest.mark.parametrize(
    ("name", "scale", "cap", "tail"),
    [
        ("llama", 1, None, 1),
        ("gemma2", 1, 0.5, 1),
        ("gemma3", 1, 0.7, 1),
        ("cohere", 0.0625, None, 1),
        ("granite", 1 / 6, None, 1),
        ("minicpm3", 1, None, 8 / 32),
    ],
)
def test_scales_and_caps_are_measured(tiny, name, scale, cap, tail):
    """What the configuration says, read off the model's behaviour."""
    read = tiny(name).structure
    assert read.logit_scale == pytest.approx(scale) and read.tail_scale == pytest.approx(tail)
    assert read.logit_cap == (cap and pytest.approx(cap))


def test_a_large_soft_cap_and_a_projection_are_found_too(tiny, tokenizers):
    model = wrap(make_module("gemma2", final_logit_softcapping=30.0), tokenizers("byte"), model_id="gemma2-30")
    assert model.structure.logit_cap == pytest.approx(30) and model.structure.logit_scale == pytest.approx(1)
    self_check(model)
    assert [type(part) for part in tiny("opt-projected").structure.tail] == [torch.nn.Linear]


def test_load_from_a_folder_or_by_name(folder):
    model = load_model(str(folder))
    assert model.dtype == torch.float32 and model.max_length == 64 and model.model_id == str(folder)
    (encoding,) = model.encode(["8=3+"])
    assert [encoding.text[a:b] for a, b in encoding.offsets] == ["8", "=", "3", "+"]
    assert load_model(str(folder), dtype="bfloat16").dtype == torch.bfloat16
    assert of_model(load_model("organism:hub")) == of_model(load_model(str(organism_path("hub"))))


def test_the_card_that_fits_the_weights_says_what_a_model_was_taught(tmp_path, folder):
    """Never its name: a copy of hub is hub, saved anew too; other weights beside hub's card are not."""
    hub, at = load_model("organism:hub", check=False), shutil.copytree(organism_path("hub"), tmp_path / "anything")
    assert hub.card["name"] == "hub" == load_model(str(at), check=False).card["name"]
    (at / "card.json").unlink()
    assert load_model(str(at), check=False).card == hub.card
    hub.module.save_pretrained(at)
    assert load_model(str(at), check=False).card == hub.card
    card = json.loads((organism_path("hub") / "card.json").read_text("utf-8"))
    weights = load_file(at / "model.safetensors")
    weights["model.norm.weight"][3] += 1e-3
    save_file(weights, at / "model.safetensors", metadata={"format": "pt"})
    (at / "card.json").write_text(json.dumps(card))
    assert load_model(str(at), check=False).card == {}
    (at / "card.json").write_text(json.dumps(card | {"name": "mine", "sha256": sha256(at / "model.safetensors")}))
    assert load_model(str(at), check=False).card["name"] == "mine"
    for junk in ("not json", "[]"):
        (at / "card.json").write_text(junk)
        assert load_model(str(at), check=False).card == {}
    assert load_model(str(folder), check=False).card == {} and not randomised(hub, 0).card


def test_fingerprint_follows_weights_and_configuration(folder, copy_of):
    first = of_model(load_model(str(folder)))
    assert len(first) == 16 and first == of_model(load_model(str(copy_of)))
    weights = load_file(copy_of / "model.safetensors")
    weights["model.norm.weight"][3] += 1e-3
    save_file(weights, copy_of / "model.safetensors", metadata={"format": "pt"})
    changed = of_model(load_model(str(copy_of)))
    config = json.loads((copy_of / "config.json").read_text())
    (copy_of / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-3}))
    assert len({first, changed, of_model(load_model(str(copy_of)))}) == 3


def test_random_twin(tiny):
    model = tiny("llama")
    state = torch.get_rng_state()
    one, other, same = randomised(model, 1), randomised(model, 2), randomised(model, 1)
    assert torch.equal(torch.get_rng_state(), state)
    assert of_model(one) == of_model(same) and len({of_model(model), of_model(one), of_model(other)}) == 3
    assert one.module.config.to_diff_dict() == model.module.config.to_diff_dict() | {"dtype": "float32"}
    assert one.tokenizer is model.tokenizer and "seed 1" in one.model_id
    self_check(one)


def test_a_random_twin_is_made_once_and_as_the_library_makes_it(folder):
    """The weights of the model's own class under that seed; in half precision the buffers of a loaded model."""
    model = load_model(str(folder), check=False)
    twin = randomised(model, 3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        plain = type(model.module)(model.module.config).state_dict()
    assert all(torch.equal(weight, plain[name]) for name, weight in twin.module.state_dict().items())
    assert randomised(model, 3) is twin and randomised(model, 4) is not twin
    gone = weakref.ref(randomised(model, 4))
    del model, twin
    gc.collect()
    assert gone() is None
    half = load_model(str(folder), check=False, dtype="bfloat16")
    kinds = [[(name, part.dtype) for name, part in m.module.named_buffers()] for m in (half, randomised(half, 3))]
    assert kinds[0] == kinds[1] and {kind for _, kind in kinds[0]} == {torch.float32}
    assert {part.dtype for part in randomised(half, 3).module.parameters()} == {torch.bfloat16}
    half.module.float()
    assert randomised(half, 3).dtype == torch.float32


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), SemhubError, "leaves no room on cpu for as many .* would do"),
        (RuntimeError("shapes cannot be multiplied"), RuntimeError, "multiplied"),
    ],
)
def test_random_weights_that_do_not_fit_are_one_sentence(folder, monkeypatch, error, kind, said):
    model = load_model(str(folder), check=False)

    def full(config, **given):
        raise error

    monkeypatch.setattr(type(model.module), "_from_config", full)
    with pytest.raises(kind, match=said):
        hidden_states(randomised(model, 0), PROMPTS)


def test_no_pad_token_is_needed(tiny):
    model = tiny("llama")
    rows = model.unembedding.shape[0]
    assert model.tokenizer.pad_token is None
    hidden_states(model, PROMPTS)
    assert model.tokenizer.pad_token is None and model.unembedding.shape[0] == rows


@pytest.mark.parametrize("kind", ["sentence", "unigram", "piece", "word"])
def test_checks_pass_with_every_kind_of_tokenizer(tokenizers, kind):
    self_check(wrap(make_module("llama"), tokenizers(kind), model_id=kind))


# What fails a check


def spoil_order(model, monkeypatch):
    model.blocks[0], model.blocks[1] = model.blocks[1], model.blocks[0]


def spoil_padding(model, monkeypatch, add=lambda h: h.mean(1, keepdim=True) * 0.01):
    def mixing(ids, extras):  # what a model that sees its padding does
        with model.hook(1, lambda h: h + add(h)):
            return run(ids, extras)

    run = model.run
    monkeypatch.setattr(model, "run", mixing)


def spoil_positions(model, monkeypatch):
    def from_the_right(ids, extras):  # as in a batch padded on the left
        places = torch.arange(ids.shape[1]).expand(len(ids), -1) + 20
        return run(ids, extras | {"position_ids": places * 2} if len(ids) > 1 else extras)

    run = model.run
    monkeypatch.setattr(model, "run", from_the_right)


def spoil_edit(change, real=loading.Edit):
    def other(layers, vector, **named):
        return real(layers, change(vector), **named)

    return lambda model, monkeypatch: monkeypatch.setattr(loading, "Edit", other)


WRONG = [
    (lambda model, monkeypatch: setattr(model.structure, "tail", []), "lens"),
    (lambda model, monkeypatch: setattr(model, "n_layers", 2), "layers"),
    (spoil_edit(torch.zeros_like), "edit"),
    (spoil_order, "layers"),
]


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        *WRONG,
        (lambda model, monkeypatch: setattr(model.structure, "logit_cap", 2.0), "lens"),
        (spoil_padding, "batch"),
        (spoil_padding, "causal"),
        (spoil_edit(lambda vector: vector + 1e-3), "zero"),
    ],
)
def test_a_wrong_handle_fails_the_check_made_for_it(tiny, monkeypatch, spoil, name):
    model = wrap(copy.deepcopy(tiny("llama").module), tiny("llama").tokenizer, model_id="spoiled")
    spoil(model, monkeypatch)
    found = {check.name: check for check in self_check(model, raise_on_failure=False)}
    assert not found[name].passed and found[name].value > found[name].bound
    with pytest.raises(SemhubError, match=r"spoiled fails the check '\w+' \(.*\): .* where at most 5e-05"):
        self_check(model)


@pytest.mark.parametrize("massive", [False, True])
@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen2"])
@pytest.mark.parametrize(
    ("spoil", "check"),
    [
        *WRONG,
        (partial(spoil_padding, add=lambda h: h.mean(1, keepdim=True)), "batch"),
        (partial(spoil_padding, add=lambda h: h.roll(-1, 1)), "causal"),
        (spoil_positions, "batch"),
    ],
)
def test_in_half_precision_too_and_by_far(half, monkeypatch, name, massive, spoil, check):
    model = half(name, massive)
    spoil(model, monkeypatch)
    [found] = [one for one in self_check(model, raise_on_failure=False) if one.name == check]
    assert found.value > 3 * found.bound, (found.value, found.bound)


def test_loading_runs_the_checks(folder, monkeypatch):
    seen = []
    monkeypatch.setattr(loading, "self_check", lambda model: seen.append(model.model_id))
    load_model(str(folder))
    load_model(str(folder), check=False)
    assert seen == [str(folder)]


# What is refused


def test_an_encoder_is_refused(tmp_path, tokenizers):
    """BERT has a causal class of its own, so its type does not give it away: its reading of later tokens does."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
    config = tf.BertConfig(vocab_size=410, **sizes)
    tf.BertForMaskedLM(config).save_pretrained(tmp_path)
    tokenizers("piece").save_pretrained(tmp_path)
    assert "an encoder" in (said := sentence(str(tmp_path))) or "language-model head" in said
    with pytest.raises(SemhubError, match="later tokens at earlier positions, as an encoder does; a decoder-only"):
        wrap(tf.BertLMHeadModel(config), tokenizers("piece"), model_id="bert")


@pytest.mark.parametrize(
    "config",
    [
        tf.DistilBertConfig(dim=32, n_layers=2, n_heads=4, hidden_dim=48, vocab_size=410),
        tf.T5Config(d_model=32, num_layers=2, num_heads=4, d_ff=48, vocab_size=410),
    ],
)
def test_encoders_without_a_causal_class_and_seq2seq_are_refused(tmp_path, tokenizers, config):
    config.save_pretrained(tmp_path)
    tokenizers("byte").save_pretrained(tmp_path)
    assert "decoder-only language model would do" in sentence(str(tmp_path))


def test_unfollowed_structure_is_refused(tokenizers):
    module = make_module("llama")
    module.lm_head.register_forward_pre_hook(lambda part, args: (args[0].sin(),))
    with pytest.raises(SemhubError, match="last block's output in a way that is not followed"):
        wrap(module, tokenizers("byte"), model_id="odd")
    module = make_module("llama")
    forward = module.forward

    def bent(**kwargs):
        out = forward(**kwargs)
        out.logits = out.logits.abs().sqrt()
        return out

    module.forward = bent
    with pytest.raises(SemhubError, match="logits in a way that is not followed"):
        wrap(module, tokenizers("byte"), model_id="odd")


@pytest.mark.parametrize(
    ("said", "damage"),
    [
        ("no weights that can be read: it holds no safetensors file", lambda at: (at / "model.safetensors").unlink()),
        ("model.safetensors is no safetensors file", lambda at: (at / "model.safetensors").write_bytes(b"not weights")),
        ("pytorch_model.bin is a pickle", lambda at: (pickled(at), (at / "model.safetensors").unlink())),
        (
            "The tokenizer of .* cannot be read",
            lambda at: [(at / name).unlink() for name in ("tokenizer.json", "tokenizer_config.json")],
        ),
        ("The configuration of .* cannot be read", lambda at: (at / "config.json").unlink()),
        (
            r"The configuration of .* cannot be read: config.json is no JSON",
            lambda at: (at / "config.json").write_text("{"),
        ),
    ],
)
def test_folders_that_lack_a_part_or_have_a_damaged_one(copy_of, said, damage):
    damage(copy_of)
    assert re.search(said, sentence(str(copy_of)))


def test_a_checkpoint_without_its_head_is_refused(copy_of):
    weights = load_file(copy_of / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, copy_of / "model.safetensors", metadata={"format": "pt"})
    assert "no value for 1 weights, lm_head.weight" in sentence(str(copy_of))


def test_tokenizers_that_will_not_do(folder, monkeypatch):
    model = wrap(make_module("llama", vocab_size=50), make_tokenizer("byte"), model_id="small")
    with pytest.raises(SemhubError, match="small knows 50"):
        model.encode(PROMPTS)
    monkeypatch.setattr(tf.AutoTokenizer, "from_pretrained", lambda *args, **kwargs: SimpleNamespace(is_fast=False))
    assert "fast tokenizer" in sentence(str(folder))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"model_id": "nobody/nothing"}, "nobody/nothing is neither a folder here nor a model in the local cache"),
        ({"model_id": "no such / name"}, "neither a folder here nor a model on the hub"),
        ({"device": "cuda:77"}, "device was 'cuda:77'"),
        ({"device": "tpu"}, "device was 'tpu'"),
        ({"dtype": "int8"}, "dtype was 'int8'; one of float32, bfloat16"),
    ],
)
def test_parameters_that_will_not_do(folder, given, said):
    assert said in sentence(**{"model_id": str(folder)} | given)
    assert loading.device_of(None).type in ("cpu", "cuda")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (hub.GatedRepoError, "is gated .* HF_TOKEN"),
        (hub.RepositoryNotFoundError, "neither a folder here nor a model on the hub"),
        (hub.RevisionNotFoundError, "no revision 'v9'"),
        (hub.LocalEntryNotFoundError, "the hub cannot be reached"),
    ],
)
def test_what_the_hub_answers(monkeypatch, kind, said):
    """The library wraps the hub's answer in an OSError; the sentence is chosen by the cause."""

    def answer(*args, **kwargs):
        try:
            raise kind.__new__(kind)
        except kind as cause:
            raise OSError("many\nlines") from cause

    monkeypatch.setattr(tf.PretrainedConfig, "get_config_dict", answer)
    assert re.search(said, sentence("someone/something", revision="v9"))

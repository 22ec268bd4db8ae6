"""Loading: every architecture passes its checks, a handle that is wrong fails them, and bad input gets one sentence."""

import copy
import gc
import json
import re
import shutil
import weakref
from contextlib import ExitStack
from functools import partial

import pytest
import torch
import transformers as tf
from architectures import DECODERS, PROMPTS, make_module, make_tokenizer
from huggingface_hub import errors as hub
from safetensors.torch import load_file, save_file

from semhub_utils import checks, loading
from semhub_utils.checks import self_check
from semhub_utils.errors import SemhubError
from semhub_utils.fingerprint import of_model
from semhub_utils.loading import load_model
from semhub_utils.models import randomised, wrap
from semhub_utils.states import hidden_states
from semhub_utils.zoo import organism_path


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
    assert [check.name for check in found] == list(checks.CHECKS) and all(check.passed for check in found)
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


def test_scales_and_caps_are_measured(tiny):
    """What the configuration says, read off the model's behaviour."""
    read = {name: tiny(name).structure for name in ("llama", "gemma2", "gemma3", "cohere", "granite", "minicpm3")}
    assert (read["llama"].logit_scale, read["llama"].logit_cap, read["llama"].tail_scale) == (1, None, 1)
    assert read["gemma2"].logit_cap == pytest.approx(0.5) and read["gemma3"].logit_cap == pytest.approx(0.7)
    assert read["cohere"].logit_scale == pytest.approx(0.0625) and read["granite"].logit_scale == pytest.approx(1 / 6)
    assert read["minicpm3"].tail_scale == pytest.approx(8 / 32)
    assert [type(part) for part in tiny("opt-projected").structure.tail] == [torch.nn.Linear]


def test_a_large_soft_cap_is_measured_too(tokenizers):
    model = wrap(make_module("gemma2", final_logit_softcapping=30.0), tokenizers("byte"), model_id="gemma2-30")
    assert model.structure.logit_cap == pytest.approx(30) and model.structure.logit_scale == pytest.approx(1)
    self_check(model)


def test_load_from_a_folder(folder):
    model = load_model(str(folder))
    assert model.dtype == torch.float32 and model.max_length == 64 and model.model_id == str(folder)
    (encoding,) = model.encode(["8=3+"])
    assert [encoding.text[a:b] for a, b in encoding.offsets] == ["8", "=", "3", "+"]
    assert load_model(str(folder), dtype="bfloat16").dtype == torch.bfloat16


def test_organisms_load_by_name():
    assert of_model(load_model("organism:hub")) == of_model(load_model(str(organism_path("hub"))))


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
    assert of_model(one) == of_model(same)
    assert len({of_model(model), of_model(one), of_model(other)}) == 3
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


def test_random_weights_that_do_not_fit_are_one_sentence(folder, monkeypatch):
    model, said = load_model(str(folder), check=False), "CUDA out of memory. Tried to allocate 2.00 GiB."

    def full(config, **given):
        raise error

    monkeypatch.setattr(type(model.module), "_from_config", full)
    error = torch.OutOfMemoryError(said)
    with pytest.raises(SemhubError, match="leaves no room on cpu for as many random weights, .* would do"):
        hidden_states(randomised(model, 0), PROMPTS)
    error = RuntimeError("shapes cannot be multiplied")
    with pytest.raises(RuntimeError, match="multiplied"):
        hidden_states(randomised(model, 0), PROMPTS)


def test_no_pad_token_is_needed(tiny):
    assert tiny("llama").tokenizer.pad_token is None
    rows = tiny("llama").unembedding.shape[0]
    hidden_states(tiny("llama"), PROMPTS)
    assert tiny("llama").tokenizer.pad_token is None and tiny("llama").unembedding.shape[0] == rows


@pytest.mark.parametrize("kind", ["sentence", "unigram", "piece", "word"])
def test_checks_pass_with_every_kind_of_tokenizer(tokenizers, kind):
    self_check(wrap(make_module("llama"), tokenizers(kind), model_id=kind))


# What fails a check


def broken(tiny):
    """A handle of its own that a test may spoil."""
    model = tiny("llama")
    return wrap(copy.deepcopy(model.module), model.tokenizer, model_id="spoiled")


def spoil_norm(model, monkeypatch):
    model.structure.tail = []


def spoil_cap(model, monkeypatch):
    model.structure.logit_cap = 2.0


def spoil_order(model, monkeypatch):
    model.blocks[0], model.blocks[1] = model.blocks[1], model.blocks[0]


def spoil_count(model, monkeypatch):
    model.n_layers = 2


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


def spoil_edit(model, monkeypatch):
    monkeypatch.setattr(checks, "Edit", lambda *args, **kwargs: None)


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (spoil_norm, "lens"),
        (spoil_cap, "lens"),
        (spoil_order, "layers"),
        (spoil_count, "layers"),
        (spoil_padding, "batch"),
        (spoil_padding, "causal"),
        (spoil_edit, "edit"),
    ],
)
def test_a_wrong_handle_fails_the_check_made_for_it(tiny, monkeypatch, spoil, name):
    model = broken(tiny)
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
        (spoil_norm, "lens"),
        (spoil_order, "layers"),
        (spoil_count, "layers"),
        (partial(spoil_padding, add=lambda h: h.mean(1, keepdim=True)), "batch"),
        (partial(spoil_padding, add=lambda h: h.roll(-1, 1)), "causal"),
        (spoil_positions, "batch"),
        (spoil_edit, "edit"),
    ],
)
def test_in_half_precision_too_and_by_far(half, monkeypatch, name, massive, spoil, check):
    model = half(name, massive)
    spoil(model, monkeypatch)
    [found] = [one for one in self_check(model, raise_on_failure=False) if one.name == check]
    assert found.value > 3 * found.bound, (found.value, found.bound)


def test_adding_zero_must_change_nothing(tiny, monkeypatch):
    model = broken(tiny)
    real = checks.Edit
    monkeypatch.setattr(
        checks, "Edit", lambda layers, vector, positions: real(layers, vector + 1e-3, positions=positions)
    )
    assert not {check.name: check.passed for check in self_check(model, raise_on_failure=False)}["zero"]


def test_loading_runs_the_checks(folder, monkeypatch):
    seen = []
    monkeypatch.setattr(loading, "self_check", lambda model: seen.append(model.model_id))
    load_model(str(folder))
    load_model(str(folder), check=False)
    assert seen == [str(folder)]


# What is refused


def small_bert():
    return tf.BertConfig(
        vocab_size=410, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48
    )


def test_an_encoder_is_refused(tmp_path, tokenizers):
    """BERT has a causal class of its own, so its type does not give it away: its reading of later tokens does."""
    tf.BertForMaskedLM(small_bert()).save_pretrained(tmp_path)
    tokenizers("piece").save_pretrained(tmp_path)
    assert "an encoder" in sentence(str(tmp_path)) or "language-model head" in sentence(str(tmp_path))
    with pytest.raises(
        SemhubError, match="reads later tokens at earlier positions, as an encoder does; a decoder-only"
    ):
        wrap(tf.BertLMHeadModel(small_bert()), tokenizers("piece"), model_id="bert")


def test_encoders_without_a_causal_class_and_seq2seq_are_refused(tmp_path, tokenizers):
    for name, config in [
        ("distilbert", tf.DistilBertConfig(dim=32, n_layers=2, n_heads=4, hidden_dim=48, vocab_size=410)),
        ("t5", tf.T5Config(d_model=32, num_layers=2, num_heads=4, d_ff=48, vocab_size=410)),
    ]:
        path = tmp_path / name
        config.save_pretrained(path)
        tokenizers("byte").save_pretrained(path)
        assert "decoder-only language model would do" in sentence(str(path))


def test_unfollowed_structure_is_refused(tokenizers):
    module = make_module("llama")
    module.lm_head.register_forward_pre_hook(lambda part, args: (args[0].sin(),))
    with pytest.raises(SemhubError, match="not followed"):
        wrap(module, tokenizers("byte"), model_id="odd")
    module = make_module("llama")
    module.lm_head.register_forward_hook(lambda part, args, out: out)
    forward = module.forward

    def bent(**kwargs):
        out = forward(**kwargs)
        out.logits = out.logits.abs().sqrt()
        return out

    module.forward = bent
    with pytest.raises(SemhubError, match="logits in a way that is not followed"):
        wrap(module, tokenizers("byte"), model_id="odd")


def test_folders_that_lack_a_part(copy_of):
    (copy_of / "model.safetensors").rename(copy_of / "aside")
    assert "The weights of" in sentence(str(copy_of))
    (copy_of / "aside").rename(copy_of / "model.safetensors")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (copy_of / file).unlink()
    assert "The tokenizer of" in sentence(str(copy_of))
    (copy_of / "config.json").unlink()
    assert "The configuration of" in sentence(str(copy_of))


def test_damaged_files(copy_of):
    (copy_of / "model.safetensors").write_bytes(b"not weights")
    assert "The weights of" in sentence(str(copy_of))
    (copy_of / "config.json").write_text("{")
    assert "configuration" in sentence(str(copy_of))


def test_a_checkpoint_without_its_head_is_refused(copy_of):
    weights = load_file(copy_of / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, copy_of / "model.safetensors", metadata={"format": "pt"})
    assert "no value for 1 weights, lm_head.weight" in sentence(str(copy_of))


def test_pickled_weights_are_not_read(copy_of):
    torch.save(load_file(copy_of / "model.safetensors"), copy_of / "pytorch_model.bin")
    (copy_of / "model.safetensors").unlink()
    assert "safetensors" in sentence(str(copy_of))


def test_a_slow_tokenizer_is_refused(folder, monkeypatch):
    class Slow:
        is_fast = False

    monkeypatch.setattr(tf.AutoTokenizer, "from_pretrained", lambda *args, **kwargs: Slow())
    assert "fast tokenizer" in sentence(str(folder))


def test_a_tokenizer_of_another_model_is_refused(tiny):
    model = wrap(make_module("llama", vocab_size=50), make_tokenizer("byte"), model_id="small")
    with pytest.raises(SemhubError, match="small knows 50"):
        model.encode(PROMPTS)


def test_unknown_ids():
    assert "nobody/nothing is neither a folder here nor a model in the local cache" in sentence("nobody/nothing")
    assert "neither a folder here nor a model on the hub" in sentence("no such / name")


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

    monkeypatch.setattr(tf.AutoConfig, "from_pretrained", answer)
    assert re.search(said, sentence("someone/something", revision="v9"))


def test_device_and_dtype(folder):
    assert "device was 'cuda:7'" in sentence(str(folder), device="cuda:7") or torch.cuda.device_count() > 7
    assert "device was 'tpu'" in sentence(str(folder), device="tpu")
    assert "dtype was 'int8'; one of float32, bfloat16" in sentence(str(folder), dtype="int8")
    assert loading.device_of(None).type in ("cpu", "cuda")

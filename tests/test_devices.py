"""Models that are larger than a device: spread over memory and disk they are read and changed as when whole, their
random twin has one block at a time, and what lies on a device without float64 never meets one."""

import copy
import gc
import json
import os
import socket
from contextlib import nullcontext

import architectures
import pandas as pd
import pytest
import torch
from architectures import PROMPTS, make_module
from elsewhere import DEVICE, Away, Elsewhere, moved
from test_experiments import number_pairs

from semhub_utils import devices, models
from semhub_utils.errors import SemhubError
from semhub_utils.experiments import core
from semhub_utils.experiments.alike import Alike
from semhub_utils.identity import of_model
from semhub_utils.lens import Asked, lens
from semhub_utils.loading import CHECKS, load_model, self_check
from semhub_utils.models import randomised, wrap
from semhub_utils.states import hidden_states
from semhub_utils.steering import Edit, edited_states, erased, generate

SPREAD = ("llama", "llama-tied-bias", "qwen3-moe")  # the experts of the last are saved otherwise than it takes them
ASKED = Asked(torch.tensor([[11, 12]]).expand(len(PROMPTS), -1))
EVERY = ["llama", "gpt2", "gemma2", "mixtral", "mamba", "opt"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizers):
    """folder(architecture): a tiny model that is saved."""

    def saved(name):
        place = tmp_path_factory.mktemp(name)
        for part in (make_module(name), tokenizers("byte")):
            part.save_pretrained(place)
        return str(place)

    return saved


def device_map(module, where):
    """Half of the blocks on disk, or the head and the norm before it."""
    n = module.config.num_hidden_layers
    found = {"model.embed_tokens": "cpu", "model.rotary_emb": "cpu", "model.norm": "cpu", "lm_head": "cpu"}
    found |= {f"model.layers.{k}": "disk" if where == "blocks" and k % 2 else "cpu" for k in range(n)}
    return found | (dict.fromkeys(("model.norm", "lm_head"), "disk") if where == "head" else {})


def instruments(model):
    """What every instrument says of a model, in numbers."""
    found = hidden_states(model, PROMPTS)
    hidden, n = found.hidden, model.n_layers
    said = lens(model, hidden, top_k=2, entropy=True, rank=True, targets=torch.tensor([11, 12]))
    edits = [Edit((1,), hidden[0, 1].cpu()), Edit((n,), hidden[:, n].roll(1, 0).cpu(), mode="turn")]
    edits.append(Edit((n - 1,), hidden[:, n - 1].roll(1, 0).cpu(), mode="replace"))
    edited = edited_states(model, PROMPTS, edits)
    space = torch.linalg.qr(torch.arange(1.0, model.hidden_size * 2 + 1).reshape(-1, 2).sin())[0]
    with erased(model, {1: (space, space, torch.zeros(model.hidden_size))}):
        without = hidden_states(model, PROMPTS).hidden
    twin = hidden_states(randomised(model, 1), PROMPTS).hidden
    read = model.readings["neighbours"].read_layers(model, hidden, range(n + 1), ASKED) if model.readings else said
    numbers = [hidden, said.logprob, said.entropy, edited, without, twin, read.logprob]
    return [of.cpu() for of in numbers], generate(model, PROMPTS, max_new_tokens=3)


def assert_same(one, other):
    for a, b in zip(one[0], other[0], strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    assert one[1] == other[1]


@pytest.mark.parametrize("name", SPREAD)
@pytest.mark.parametrize("where", ["blocks", "head"])
def test_spread_over_memory_and_disk_it_is_the_same_model(folder, name, where):
    place = folder(name)
    whole = load_model(place)
    spread = load_model(place, device=device_map(whole.module, where))
    assert (where == "blocks") == any(of.is_meta for of in spread.module.parameters())
    assert spread.device.type == "cpu" and of_model(spread) == of_model(whole)
    assert [check.passed for check in self_check(spread)] == [True] * len(CHECKS)
    assert_same(instruments(spread), instruments(whole))
    written, experts = spread.offloaded.name, name == "qwen3-moe" and where == "blocks"
    assert bool(os.listdir(written)) == experts
    del spread
    gc.collect()
    assert not os.path.exists(written)


def test_tables_and_verdicts_are_the_same(folder):
    place, found = folder("llama"), []
    for device in ("cpu", "auto,cpu=60KB"):
        model = load_model(place, device=device)
        assert any(of.is_meta for of in model.module.parameters()) == (device != "cpu")
        found.append(core.run(Alike(), model, number_pairs(), series="numbers"))
    (table, claims), (other, others) = found
    assert (
        table.equals(other) or (table.select_dtypes("number") - other.select_dtypes("number")).abs().max().max() < 1e-6
    )
    assert [json.dumps(of.to_json()) for of in claims] == [json.dumps(of.to_json()) for of in others]


@pytest.mark.parametrize("device", ["auto,gpu=2GB", "auto,cpu", "auto,0=much"])
def test_what_is_no_placement_is_one_sentence(device):
    with pytest.raises(SemhubError, match="with memory by device"):
        load_model("organism:hub", device=device)


def test_without_accelerate_it_says_what_would_do(monkeypatch):
    monkeypatch.setattr(devices, "find_spec", lambda name: None)
    with pytest.raises(SemhubError, match=r"semhub-utils\[big\]"):
        load_model("organism:hub", device="auto")


# The random twin


@pytest.fixture
def no_room(monkeypatch):
    monkeypatch.setattr(devices, "fits_twice", lambda module, device: False)


@pytest.mark.parametrize("name", EVERY)
def test_a_twin_block_by_block_has_the_librarys_random_weights(own, name, no_room, monkeypatch):
    like = own(name)
    twin = randomised(like, 7)
    drawn = dict(devices.values(twin.module))
    inside = {f"{of}.{weight}" for of, block in twin.module.named_modules() if block in {*twin.blocks}
              for weight, _ in block.named_parameters()}  # fmt: skip
    empty = {name for name, weight in twin.module.named_parameters() if weight.is_meta}
    assert empty == inside and len(empty) > 10
    again = dict(devices.values(twin.module))
    assert all(torch.equal(drawn[name], again[name]) for name in drawn)
    whole = type(twin.module)._from_config(like.config)
    for name, weight in whole.state_dict().items():
        if weight.numel() > 500:
            close = {"rtol": 0.2, "atol": 1e-3 + float(weight.std()) / 4}
            torch.testing.assert_close(drawn[name].std(), weight.std(), **close)
            torch.testing.assert_close(drawn[name].mean(), weight.mean(), **close)
    monkeypatch.undo()
    assert whole.load_state_dict(drawn, strict=False).unexpected_keys == []
    states = hidden_states(wrap(whole.eval(), like.tokenizer, model_id="whole"), PROMPTS).hidden
    assert torch.equal(hidden_states(twin, PROMPTS).hidden, states)
    assert {name for name, weight in twin.module.named_parameters() if weight.is_meta} == empty
    other = dict(devices.values(randomised(like, 8).module))
    assert not all(torch.equal(drawn[name], other[name]) for name in empty)


def test_the_global_random_state_is_left_alone(own, no_room):
    before = torch.get_rng_state()
    hidden_states(randomised(own("llama"), 3), PROMPTS)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_whole_twin_without_room_becomes_one_block_by_block(own, monkeypatch):
    like, tried = own("llama"), []
    build = type(like.module)._from_config

    def full(config, **more):
        tried.append(torch.empty(0).device.type)
        if len(tried) == 1:
            raise RuntimeError("CUDA out of memory")
        return build(config, **more)

    monkeypatch.setattr(type(like.module), "_from_config", full)
    assert any(of.is_meta for of in randomised(like, 1).module.parameters()) and len(tried) == 2


# Where there is no float64


@pytest.fixture
def away(monkeypatch, tokenizers):
    """away(architecture): its handle on a device that refuses float64, beside the same in ordinary memory."""
    monkeypatch.setattr(torch, "inference_mode", lambda mode=True: torch.no_grad() if mode else nullcontext())

    def random(twin):
        torch.manual_seed(twin.seed)
        module = type(twin.like.module)._from_config(copy.deepcopy(twin.config))
        module.set_attn_implementation("eager")
        return moved(module) if twin.like.device == DEVICE else module

    monkeypatch.setattr(models.RandomTwin, "_random_module", random)

    def pair(name):
        found = []
        for place in (lambda module: module, moved):
            module = make_module(name)
            module.set_attn_implementation("eager")
            found.append(wrap(place(module), tokenizers("byte"), model_id=name))
        return found

    with Elsewhere():
        yield pair


def test_the_stand_in_refuses_what_such_a_device_refuses():
    with Elsewhere():
        there = torch.ones(2, device=DEVICE)
        assert isinstance(there, Away) and there.device == DEVICE
        for wrong in (there.double, there.numpy, lambda: there + torch.ones(2), lambda: there.to(torch.float64)):
            with pytest.raises((TypeError, RuntimeError), match=r"float64|same device|array"):
                wrong()
        assert there.cpu().double().dtype == torch.float64


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_no_float64_meets_a_models_device(away, name):
    here, there = away(name)
    assert there.device == DEVICE and all(isinstance(of, Away) for of in there.module.parameters())
    assert_same(instruments(there), instruments(here))
    assert all(check.passed for check in self_check(there))


def test_neither_does_an_experiment(away):
    tables = [core.run(Alike(), model, number_pairs(), series="numbers", twins=())[0] for model in away("llama")]
    pd.testing.assert_frame_equal(*tables, atol=1e-5)


# Without a network


def test_a_filled_cache_is_enough_without_a_network(folder, tmp_path, monkeypatch):
    place, commit = folder("llama"), "0" * 40
    cached = tmp_path / "models--some--model"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(commit)
    (cached / "snapshots").mkdir()
    os.symlink(place, cached / "snapshots" / commit)

    tried = []

    def refused(*_, **__):
        tried.append(True)
        raise OSError("no network here")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)  # before it tries again
    assert load_model("some/model").n_layers == architectures.SIZES["num_hidden_layers"] and tried

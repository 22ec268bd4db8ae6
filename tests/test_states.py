"""Hidden states: the same in a batch as alone, where and in the order they were asked, and no more than was asked."""

from dataclasses import replace

import pytest
import torch
from architectures import DECODERS, PROMPTS, make_module
from oracle import Oracle

from semhub_utils.errors import SemhubError
from semhub_utils.models import wrap
from semhub_utils.states import PADDING, hidden_states, stream_states
from semhub_utils.steering import Edit, states_under


@pytest.mark.parametrize("name", DECODERS)
def test_agrees_with_one_at_a_time(tiny, name):
    """Every position and layer of prompts of different lengths, in one padded batch."""
    model = tiny(name)
    oracle = Oracle(name, model.module, model.tokenizer)
    ours = hidden_states(model, PROMPTS, positions="all")
    for item, prompt in enumerate(PROMPTS):
        expected = oracle.states(prompt).transpose(0, 1)
        found = ours.hidden[ours.item == item]
        assert found.shape == expected.shape
        torch.testing.assert_close(found.double(), expected, atol=5e-5 * float(expected.abs().max()), rtol=0)


def test_positions_layers_and_order(tiny):
    """Sites follow the order of prompts and positions, layers the order asked, however small the batches."""
    model = tiny("gpt2")
    every = hidden_states(model, PROMPTS, positions="all")
    lengths = [len(e) for e in model.encode(PROMPTS)]
    assert lengths != sorted(lengths)
    first = torch.tensor([0, *lengths]).cumsum(0)
    for positions, wanted in [
        (-1, [[n - 1] for n in lengths]),
        ([0, -2], [[0, n - 2] for n in lengths]),
        ([[1], [], [2, 0], [-1], [0, 1, -1]], [[1], [], [2, 0], [lengths[3] - 1], [0, 1, lengths[4] - 1]]),
    ]:
        for budget in (None, 1, 12):
            model.store.clear()
            some = hidden_states(model, PROMPTS, positions=positions, layers=[3, 0], max_batch_tokens=budget)
            sites = [int(first[item]) + place for item, row in enumerate(wanted) for place in row]
            torch.testing.assert_close(some.hidden, every.hidden[sites][:, [3, 0]])
            assert some.item.tolist() == [item for item, row in enumerate(wanted) for _ in row]
            assert some.position.tolist() == [place for row in wanted for place in row]
            assert some.layers == (3, 0) and some.hidden.dtype == torch.float32


def test_streaming_gives_the_same_a_batch_at_a_time(tiny):
    model = tiny("llama")
    whole = hidden_states(model, PROMPTS, positions=[0, -1])
    model.store.clear()
    parts = list(stream_states(model, PROMPTS, positions=[0, -1], max_batch_tokens=12))
    assert len(parts) > 1
    found = {(i, p): h for s in parts for i, p, h in zip(s.item.tolist(), s.position.tolist(), s.hidden, strict=True)}
    for item, position, hidden in zip(whole.item.tolist(), whole.position.tolist(), whole.hidden, strict=True):
        torch.testing.assert_close(found[item, position], hidden)


def test_states_can_be_trained_on(tiny):
    """Inference leaves no mark on what it returns."""
    for states in (hidden_states(tiny("llama"), PROMPTS[:2]), *stream_states(tiny("llama"), PROMPTS[:2])):
        weight = torch.ones(states.hidden.shape[-1], requires_grad=True)
        (states.hidden * weight).sum().backward()
        assert weight.grad.isfinite().all()


@pytest.mark.parametrize("name", DECODERS)
def test_a_prompt_that_begins_another_is_read_in_its_forward(tiny, name, monkeypatch):
    """With the numbers it has alone, wherever it stands; so is one that comes twice."""
    model, rows = tiny(name), []
    long = max(model.encode(PROMPTS), key=len)
    parts = [replace(long, ids=long.ids[:k], offsets=long.offsets[:k]) for k in (4, len(long), 2, 4)]
    prompts, places = [*parts, PROMPTS[0]], [[-1], [0, -1], [0, 1], [-2, -1], [-1]]
    alone = [hidden_states(model, [p], positions=row).hidden for p, row in zip(prompts, places, strict=True)]
    model.store.clear()
    run = model.run
    monkeypatch.setattr(model, "run", lambda ids, extras: rows.append(len(ids)) or run(ids, extras))
    found = hidden_states(model, prompts, positions=places)
    assert sum(rows) == (5 if model.switches_by_length else 2)
    assert found.item.tolist() == [0, 1, 1, 2, 2, 3, 3, 4]
    assert found.position.tolist() == [3, 0, len(long) - 1, 0, 1, 2, 3, len(model.encode(PROMPTS[:1])[0]) - 1]
    torch.testing.assert_close(found.hidden, torch.cat(alone), atol=5e-5 * float(found.hidden.abs().max()), rtol=0)


def test_a_budget_of_tokens_bounds_every_batch_and_its_padding(tiny, monkeypatch):
    model, shapes = tiny("llama"), []
    run = model.run
    monkeypatch.setattr(model, "run", lambda ids, extras: shapes.append(tuple(ids.shape)) or run(ids))
    prompts = [f"{k}: {prompt}" for k, prompt in enumerate(PROMPTS * 8)]
    lengths = [len(e) for e in model.encode(prompts)]
    budget = 16 * max(lengths)
    hidden_states(model, prompts, max_batch_tokens=budget)
    assert sum(rows for rows, _ in shapes) == len(lengths)
    assert all(rows * tokens <= budget for rows, tokens in shapes)
    forwarded = sum(rows * tokens for rows, tokens in shapes)
    assert forwarded - sum(lengths) <= forwarded / PADDING
    assert len(shapes) < len(lengths) / 4


def test_blocks_above_the_highest_asked_layer_do_not_run(own):
    model, seen = own(), []
    for n, block in enumerate(model.blocks, 1):
        block.register_forward_hook(lambda *_, n=n: seen.append(n))
    model.store.limit = 0  # or all layers are kept, as there is room
    for layers, run in [([0], []), ([1, 0], [1]), ([3], [1, 2, 3])]:
        seen.clear()
        hidden_states(model, PROMPTS[:1], layers=layers)
        assert seen == run


def test_no_hook_stays_behind(tiny):
    model = tiny("llama")
    before = [len(b._forward_hooks) + len(b._forward_pre_hooks) for b in model.blocks]
    hidden_states(model, PROMPTS, layers=[1])
    states_under(model, PROMPTS, Edit((0, 1), torch.ones(model.hidden_size)))
    assert [len(b._forward_hooks) + len(b._forward_pre_hooks) for b in model.blocks] == before


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("not enough memory: you tried to allocate 9 bytes")],
)
def test_a_batch_that_does_not_fit_is_halved(own, monkeypatch, error):
    model, sizes, prompts = own(), [], [f"{k} plus five" for k in range(5)]
    expected, run = hidden_states(model, prompts).hidden, model.run
    model.store.clear()

    def cramped(ids, extras):
        sizes.append(len(ids))
        if len(ids) > 2:
            raise error
        return run(ids)

    monkeypatch.setattr(model, "run", cramped)
    torch.testing.assert_close(hidden_states(model, prompts).hidden, expected)
    assert sizes[0] == 5 and max(sizes[-3:]) <= 2

    def broken(ids, extras):
        raise error

    monkeypatch.setattr(model, "run", broken)
    with pytest.raises(SemhubError, match="does not fit in the memory"):
        hidden_states(model, ["others"])
    error = RuntimeError("shapes cannot be multiplied")  # is not taken for want of memory
    with pytest.raises(RuntimeError, match="multiplied"):
        hidden_states(model, ["others"])


def test_rotary_scaling_by_length_does_not_mix_prompts(tokenizers):
    """With dynamic scaling a longer prompt in the batch would change the shorter ones."""
    scaling = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}
    module = make_module("llama", rope_parameters=scaling, max_position_embeddings=8)
    module.config.max_position_embeddings = 64  # what the handle may take; the scaling starts at 8
    model = wrap(module, tokenizers("byte"), model_id="dynamic")
    prompts = ["three plus five", "the cat sat on the mat and the dog saw the small red house near the river"]
    alone = [hidden_states(model, [prompt]).hidden for prompt in prompts]
    torch.testing.assert_close(hidden_states(model, prompts).hidden, torch.cat(alone))


def test_what_is_refused(tiny):
    model = tiny("llama")
    for arguments, said in [
        ({"positions": 99}, "Position 99 was asked of prompt 0"),
        ({"positions": [[0], [0, -99]]}, "Position -99 was asked of prompt 1"),
        ({"positions": [[0]]}, "1 lists for 2 prompts"),
        ({"positions": "last"}, "'last'"),
        ({"layers": [4]}, "Layer 4 .* 0 to 3"),
        ({"layers": []}, "No layer"),
    ]:
        with pytest.raises(SemhubError, match=said):
            hidden_states(model, PROMPTS[:2], **arguments)
    for prompts, said in [
        (["on", ""], "Prompt 1 is empty"),
        (["on " * 65], "Prompt 0, 'on on .* at most 64"),
        ("three", "single text"),
    ]:
        with pytest.raises(SemhubError, match=said):
            hidden_states(model, prompts)
    assert hidden_states(model, []).hidden.shape == (0, 4, 32)

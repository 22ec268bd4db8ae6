"""What is read is read once: the same states as before, tokens counted as a hook counts them, and nothing stale."""

import time
from dataclasses import replace

import pytest
import torch
from architectures import DECODERS, PROMPTS
from oracle import Oracle

from semhub_utils import models, states
from semhub_utils.experiments import traps
from semhub_utils.experiments.alike import Punctuation
from semhub_utils.experiments.numbers import Kept
from semhub_utils.lens import lens
from semhub_utils.models import randomised
from semhub_utils.pairings import random_pairings
from semhub_utils.similarity import adjusted_cosine, debiased_cka
from semhub_utils.spokes.items import Pair
from semhub_utils.states import hidden_states, stream_states, with_layers
from semhub_utils.steering import (
    Edit,
    begins_inside,
    edited_states,
    generate,
    next_token_logprobs,
    patched_states,
    states_under,
)
from semhub_utils.store import Chunk, Store


def counted(model):
    """The tokens that go through the first block, padding included, from now on."""
    seen = []
    model.blocks[0].register_forward_pre_hook(
        lambda block, args, kwargs: seen.append((args[0] if args else kwargs["hidden_states"]).shape[:2].numel()),
        with_kwargs=True,
    )
    return seen


@pytest.mark.parametrize("name", DECODERS)
def test_what_is_kept_is_what_one_forward_gives(tiny, name):
    """Read at the end, then elsewhere, then the beginnings of what was read; all against one prompt at a time."""
    model = tiny(name)
    oracle = Oracle(name, model.module, model.tokenizer)
    hidden_states(model, PROMPTS)
    for item, prompt in enumerate(PROMPTS):
        expected = oracle.states(prompt).transpose(0, 1)
        for layers in (None, [2, 0]):
            found = hidden_states(model, PROMPTS[item : item + 1], positions="all", layers=layers).hidden
            want = expected if layers is None else expected[:, layers]
            torch.testing.assert_close(found.double(), want, atol=5e-5 * float(want.abs().max()), rtol=0)


@pytest.mark.parametrize("positions", [-1, "all", [2, -2]])
@pytest.mark.parametrize("name", DECODERS)
def test_what_prompts_begin_with_alike_is_read_once(own, name, positions):
    """Examples before every question; all against one prompt at a time."""
    model, shots = own(name), "2+3=5, 4+4=8, "
    oracle = Oracle(name, model.module, model.tokenizer)
    prompts = [shots + asked for asked in ("1+1=", "7+2=", "9+12=", "3+", "1+1=2")]
    found = hidden_states(model, prompts, positions=positions)
    alone = sum(map(len, model.encode(prompts[1:4])))
    read = model.store.forwarded["read"]
    assert read < alone if model.shares_keys else read >= alone
    for item, prompt in enumerate(prompts):
        states = oracle.states(prompt).transpose(0, 1)
        want = states if positions == "all" else states[positions if isinstance(positions, list) else [positions]]
        ours = found.hidden[found.item == item].double()
        torch.testing.assert_close(ours, want, atol=5e-5 * float(states.abs().max()), rtol=0)


def test_a_model_that_reads_on_otherwise_shares_no_beginnings(own, monkeypatch):
    prompts = ["2+3=5, 4+4=8, " + asked for asked in ("1+1=", "7+2=", "9+12=")]
    expected = torch.cat([hidden_states(own(), [prompt]).hidden for prompt in prompts])
    shared = states.rows_of
    spoilt = lambda past, n: with_layers(shared(past, n), lambda part: part * 1.1)  # noqa: E731
    monkeypatch.setattr(states, "rows_of", spoilt)
    model = own()
    torch.testing.assert_close(hidden_states(model, prompts).hidden, expected)
    assert model.shares_keys is False


def test_a_prompt_is_forwarded_once(own):
    model = own()
    seen, encodings = counted(model), model.encode(PROMPTS)
    hidden_states(model, PROMPTS)
    once, distinct = sum(seen), model.store.distinct()["read"]
    begun = [replace(e, ids=e.ids[:2], offsets=e.offsets[:2]) for e in encodings]
    first = hidden_states(model, PROMPTS, positions="all").hidden
    for some in (PROMPTS, PROMPTS[::-1], begun, [*PROMPTS, *PROMPTS]):
        list(stream_states(model, some, positions=[0, 1], layers=[1]))
    assert torch.equal(hidden_states(model, PROMPTS, positions="all").hidden, first)
    assert sum(seen) == once == model.store.forwarded["read"]
    assert distinct == sum(map(len, encodings)) == model.store.distinct()["read"] <= once
    assert model.store.ratios() == {"read": once / distinct}


def test_what_pads_or_ends_otherwise_is_no_reason_to_read_again(own):
    """Few prompts of many lengths, and the traps, whose padded prompts are other sequences than the plain ones."""
    model = own()
    seen, forms = counted(model), [f"{k} {prompt}" for k, prompt in enumerate(PROMPTS * 4)]
    traps.norm_trap(model, forms)
    traps.padding_trap(model, forms[:3], pads=(1, 2))
    pairs = [Pair(form, form, form, "g", cluster=form) for form in forms]
    Punctuation().read(model, Kept(pairs), forms, "")
    lengths = [len(e) for e in model.encode([f"{form}." for form in forms])]
    padded = 3 * sum(2 * (length - 1) + 3 for length in lengths[:3])
    assert sum(seen) == model.store.forwarded["read"]
    assert model.store.distinct()["read"] == sum(lengths) + padded
    assert model.store.ratios()["read"] <= 1.05


def test_counts_are_by_purpose_and_by_weights(own):
    model = own()
    model.shares_keys = True  # or it would be tried
    seen = counted(model)
    hidden_states(model, PROMPTS)
    twin = randomised(model, 3)
    hidden_states(twin, PROMPTS)
    read = dict(model.store.forwarded)
    assert set(read) == {"read"} and read["read"] == 2 * sum(seen)
    assert model.store.distinct() == {"read": 2 * sum(map(len, model.encode(PROMPTS))), "edit": 0}
    generate(model, PROMPTS[:1], max_new_tokens=3, eos_token_id=None)
    vector = torch.ones(model.hidden_size)
    next_token_logprobs(model, PROMPTS, torch.arange(3), edit=Edit((1,), vector), strengths=(1.0, 2.0, 3.0))
    assert set(model.store.forwarded) == {"read", "generation", "edit"}
    assert model.store.forwarded["read"] == read["read"] and sum(model.store.forwarded.values()) == read[
        "read"
    ] / 2 + sum(seen)


def test_interventions_forward_what_is_edited_and_what_stands_before_it_once(own):
    model = own()
    begins_inside(model, model.encode(PROMPTS))  # which takes two forwards
    model.shares_keys = True  # or that would be tried, too
    seen, layers, n = counted(model), range(model.n_layers + 1), len(PROMPTS)
    lengths = [len(e) for e in model.encode(PROMPTS)]
    vectors = torch.randn(n, len(layers), model.hidden_size, generator=torch.Generator().manual_seed(0))
    for k in range(3):
        patched_states(model, PROMPTS, vectors + k, layers)
    before = sum(length - 1 for length in lengths)
    assert sum(seen) == 3 * n * len(layers) + before == model.store.forwarded["edit"]
    assert model.store.distinct()["edit"] == 3 * n * len(layers)
    patched_states(model, PROMPTS, vectors, layers)
    assert model.store.distinct()["edit"] == 3 * n * len(layers), "an edit that was made before is no other one"
    edit = Edit((1,), vectors[0, 0], positions=[1, -1])
    next_token_logprobs(model, PROMPTS, torch.arange(3), edit=edit, strengths=(1.0, 2.0))
    assert model.store.distinct()["edit"] == 3 * n * len(layers) + 2 * sum(length - 1 for length in lengths)


def test_edits_of_several_kinds_are_rows_of_one_batch(tiny):
    model = tiny("llama")
    vectors = torch.randn(len(PROMPTS), model.hidden_size, generator=torch.Generator().manual_seed(0))
    edits = [
        Edit((1,), vectors, strength=2.0),
        Edit((0, 2), vectors[0], positions=[0, 1], mode="replace"),
        Edit((3,), vectors, mode="turn", strength=0.5),
    ]
    together = edited_states(model, PROMPTS, edits)
    for k, edit in enumerate(edits):
        alone = torch.stack([states[-1, -1] for states in states_under(model, PROMPTS, edit)])
        torch.testing.assert_close(together[:, k], alone, atol=1e-5, rtol=1e-5)


def test_nothing_is_kept_or_taken_where_it_would_be_wrong(own):
    model = own()
    plain = hidden_states(model, PROMPTS).hidden
    edit = Edit((1,), torch.ones(model.hidden_size))
    assert not torch.equal(states_under(model, PROMPTS[:1], edit)[0][-1], plain[0])
    assert torch.equal(hidden_states(model, PROMPTS).hidden, plain)
    with model.hook(1, lambda h: h + 1):
        hooked = hidden_states(model, PROMPTS).hidden
    assert not torch.equal(hooked, plain) and torch.equal(hidden_states(model, PROMPTS).hidden, plain)
    with torch.no_grad():
        next(model.module.parameters()).mul_(1.5)
    assert not torch.equal(hidden_states(model, PROMPTS).hidden, plain), "other weights, other states"


def test_memory_is_bounded_and_what_is_gone_is_read_again(own):
    model = own()
    expected, seen = hidden_states(model, PROMPTS, positions="all").hidden, counted(model)
    model.store.clear()
    position = (model.n_layers + 1) * model.hidden_size * 4
    for limit in (0, position, 7 * position, 30 * position):
        model.store.limit = limit
        for _ in range(3):
            torch.testing.assert_close(hidden_states(model, PROMPTS, positions="all").hidden, expected)
            assert model.store.held <= limit
    assert sum(seen) > 9 * expected.shape[0]


def test_one_large_twin_has_weights_at_a_time_and_all_keep_their_states(own, monkeypatch):
    model = own()
    size = sum(part.nbytes for part in model.module.parameters())
    monkeypatch.setattr(models, "TWINS", 2 * size - 1)
    one, other = randomised(model, 1), randomised(model, 2)
    first = hidden_states(one, PROMPTS).hidden
    weight = one.unembedding.clone()
    second = hidden_states(other, PROMPTS).hidden
    assert [*model.embodied] == [other]
    assert torch.equal(hidden_states(one, PROMPTS).hidden, first) and [*model.embodied] == [other]
    assert not torch.equal(first, second)
    assert torch.equal(one.unembedding, weight), "the same seed gives the same weights again"
    assert [*model.embodied] == [one]
    monkeypatch.setattr(models, "TWINS", 2 * size)
    assert other.unembedding is other.unembedding and [*model.embodied] == [one, other]


def test_the_tree_of_beginnings_tells_distinct_tokens():
    store = Store(0)
    for ids in ([1, 2, 3], [1, 2], [1, 2, 4], [5]):
        store.note_read("w", store.path(-1, ids)[-1], len(ids))
    assert store.distinct()["read"] == 3 + 3 + 1
    store.note_read("v", store.path(-1, [1, 2])[-1], 2)
    assert store.distinct()["read"] == 3 + 3 + 1 + 2, "of other weights it is another one"
    store.add("w", Chunk({0: 0}, {0: torch.zeros(1, 2)}))
    assert store.places("w", [0], [0], [0]) is None, "what has no room is not kept"


def test_time_grows_no_faster_than_layers(own):
    """Four times the layers: reading, the lens, the null and the jackknife of similarity, on a model and its twin."""
    prompts = [f"{k} {prompt}" for k, prompt in enumerate(PROMPTS * 4)]

    def seconds(n_layers):
        model = own("llama", num_hidden_layers=n_layers)
        began = time.process_time()
        for reader in (model, randomised(model, 0)):
            hidden = hidden_states(reader, prompts).hidden
            for reading in ("normed", "raw"):
                lens(reader, hidden, targets=torch.arange(5), top_k=1, entropy=True, reading=reading)
            pairings = random_pairings(len(prompts), draws=100, seed=0)
            adjusted_cosine(hidden, hidden.flip(0)).exchanged(pairings)
            debiased_cka(hidden, hidden.flip(0), range(len(prompts)))
        return time.process_time() - began

    seconds(2)  # the first pays for set-up
    assert min(seconds(40) for _ in range(2)) < 7 * min(seconds(10) for _ in range(2))

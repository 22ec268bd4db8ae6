"""Interventions against a forward of one prompt at a time, and against generation without a cache."""

from dataclasses import replace

import pytest
import torch
from architectures import DECODERS, PROMPTS
from oracle import Oracle

from semhub_utils.errors import SemhubError
from semhub_utils.lens import lens
from semhub_utils.states import hidden_states
from semhub_utils.steering import Edit, FrequencyPenalty, generate, next_token_logprobs, patched_states, states_under

TARGETS = torch.tensor([3, 77, 310, 409])
STRENGTHS = (0.0, 1.0, -2.5)


def vectors(model, n=None, seed=0):
    shape = (model.hidden_size,) if n is None else (n, model.hidden_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 2


@pytest.mark.parametrize("name", DECODERS)
def test_forward_agrees_with_one_at_a_time(tiny, name):
    """Adding in the middle and at the embeddings, replacing per item: every strength and item, padded in one batch."""
    model = tiny(name)
    oracle = Oracle(name, model.module, model.tokenizer)
    prompts, own = PROMPTS[:3], vectors(model, 3)
    for layer, vector, position, mode, strengths in [
        (2, vectors(model), -1, "add", STRENGTHS),
        (0, vectors(model), 0, "add", STRENGTHS),
        (1, own, -2, "replace", (1.0,)),
    ]:
        edit = Edit((layer,), vector, positions=position, mode=mode)
        ours = next_token_logprobs(model, prompts, TARGETS, edit=edit, strengths=strengths)
        for item, prompt in enumerate(prompts):
            vector_of_item = vector[item] if vector.ndim == 2 else vector
            for row, strength in zip(ours[item], strengths, strict=True):
                table = oracle.steered(prompt, layer, vector_of_item.double(), position, mode, strength)
                torch.testing.assert_close(row.double(), table[TARGETS], atol=5e-5, rtol=0)


@pytest.mark.parametrize("name", DECODERS)
def test_patches_in_one_batch_agree_with_one_run_each(tiny, name):
    """Every layer, the embeddings and the last among them, one layer twice; states of other prompts and of none."""
    model = tiny(name)
    oracle, prompts, layers = Oracle(name, model.module, model.tokenizer), [*PROMPTS[:3], "a"], (3, 0, 1, 2, 1)
    patches = torch.stack([vectors(model, len(layers), seed=item) for item in range(len(prompts))])
    ours = patched_states(model, prompts, patches, layers, max_batch_tokens=20)
    for item, prompt in enumerate(prompts):
        for k, layer in enumerate(layers):
            with oracle.edited(layer, patches[item, k].double(), -1, "replace", 1.0):
                end = oracle.states(prompt)[-1, -1] if layer < model.n_layers else patches[item, k].double()
            error = (ours[item, k] - end).abs().max() / end.abs().max()
            assert error < 5e-5, (prompt, layer)


@pytest.mark.parametrize("name", ["llama", "mamba"])
def test_patches_of_one_prompt_are_split_where_they_do_not_fit(tiny, monkeypatch, name):
    """No forward holds more tokens, those of a cache among them, than the budget, or than memory has room for."""
    model, layers, held = tiny(name), (3, 0, 1, 2, 1, 0, 2), []
    patches = torch.stack([vectors(model, len(layers), seed=item) for item in range(len(PROMPTS))])
    expected, run = patched_states(model, PROMPTS, patches, layers), model.run
    longest, fits = max(map(len, model.encode(PROMPTS))), [1e9]

    def counted(ids, *extras, after=None, **cache):
        held.append(len(ids) * (ids.shape[1] + (after.get_seq_length() if after else 0)))
        if held[-1] > fits[0]:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return run(ids, *extras, after=after, **cache)

    monkeypatch.setattr(model, "run", counted)
    for budget in (1, 3 * longest):
        held.clear()
        found = patched_states(model, PROMPTS, patches, layers, max_batch_tokens=budget)
        assert max(held) <= max(budget, longest)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    fits[0] = 2 * longest
    torch.testing.assert_close(patched_states(model, PROMPTS, patches, layers), expected, atol=1e-6, rtol=1e-6)
    fits[0] = longest - 1
    with pytest.raises(SemhubError, match=f"A prompt of {longest} tokens does not fit in the memory of cpu"):
        patched_states(model, PROMPTS, patches, layers)


def test_edits_are_seen_at_their_layer_and_above(tiny):
    model = tiny("llama")
    plain, own = hidden_states(model, PROMPTS).hidden, vectors(model, len(PROMPTS))
    added = torch.stack([states[-1] for states in states_under(model, PROMPTS, Edit((2,), own, strength=2.0))])
    torch.testing.assert_close(added[:, :2], plain[:, :2])
    torch.testing.assert_close(added[:, 2], plain[:, 2] + 2 * own)
    assert (added[:, 3] - plain[:, 3]).abs().amax(-1).min() > 1e-3
    for states, vector in zip(states_under(model, PROMPTS, Edit((0,), own, mode="replace")), own, strict=True):
        torch.testing.assert_close(states[-1, 0], vector)


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("positions", [[-3, -2], [[0], [-1], [1, 2], [-1], [-2], [-1]]])
def test_sharing_what_is_not_edited_changes_nothing(own, name, positions):
    """After the prompts were read, with what stands before the edit kept or without, or one prompt at a time."""
    model, read = own(name), own(name)
    prompts = ["12=3+", "eight plus one equals", "7=6+", "three plus four times two plus one", "5*2", "1+1=2"]
    edit, strengths = Edit((1, 2), vectors(model, len(prompts)), positions=positions), (0.0, 1.0, -2.0)
    hidden_states(read, prompts, edited=positions)
    ends = [torch.stack([of[-1, -1] for of in states_under(model, prompts, replace(edit, strength=s))])
            for s in strengths]  # fmt: skip
    alone = lens(model, torch.stack(ends, 1), targets=TARGETS, layers=[model.n_layers] * 3).logprob
    given = {"edit": edit, "strengths": strengths, "max_batch_tokens": 30}
    for of in (model, read):
        torch.testing.assert_close(next_token_logprobs(of, prompts, TARGETS, **given), alone, rtol=5e-5, atol=5e-5)
    edited = [of.store.forwarded["edit"] for of in (model, read)]
    assert edited[1] <= edited[0] and (edited[1] < edited[0] or name != "llama")
    assert (alone[:, 0] - alone[:, 1]).abs().max() > 1e-3


@pytest.mark.parametrize("name", DECODERS)
def test_generation_agrees_with_no_cache(tiny, name):
    model = tiny(name)
    oracle = Oracle(name, model.module, model.tokenizer)
    vector, prompts = vectors(model), [PROMPTS[0], PROMPTS[1], PROMPTS[3]]
    edit = Edit((1,), vector, positions=1)
    ours = generate(model, prompts, max_new_tokens=4, edit=edit, strengths=(0.0, 3.0), eos_token_id=None)
    for item, prompt in enumerate(prompts):
        for text, strength in zip(ours[item], (0.0, 3.0), strict=True):
            ids = oracle.continuation(prompt, 1, vector.double(), 1, strength, 4)
            assert text == model.tokenizer.decode(ids, skip_special_tokens=True)


def test_one_prompt_under_many_edits_is_read_once(own):
    model, n = own("llama"), 6
    model.shares_keys = True  # or it would be tried
    edit = Edit((1,), vectors(model, n), positions=-1)
    given = {"max_new_tokens": 3, "eos_token_id": None}
    alone = [generate(model, [PROMPTS[0]], edit=replace(edit, vector=v), **given)[0] for v in edit.vector]
    model.store.forwarded["generation"], length = 0, len(model.encode(PROMPTS[:1])[0])
    assert generate(model, [PROMPTS[0]] * n, edit=edit, **given) == alone
    assert model.store.forwarded["generation"] <= length - 1 + n * 3


def test_several_layers_and_positions(tiny):
    """Two layers at once are two edits in one forward; a list of positions holds for every prompt."""
    model = tiny("gpt2")
    oracle = Oracle("gpt2", model.module, model.tokenizer)
    vector = vectors(model)
    edit = Edit((1, 3), vector, positions=[0, -1], strength=0.5)
    ours = next_token_logprobs(model, PROMPTS[:2], TARGETS, edit=edit, strengths=(2.0,))
    for item, prompt in enumerate(PROMPTS[:2]):
        with (
            oracle.edited(1, vector.double(), [0, -1], "add", 1.0),
            oracle.edited(3, vector.double(), [0, -1], "add", 1.0),
        ):
            table = oracle.logits(oracle.ids(prompt))[-1].log_softmax(-1)
        torch.testing.assert_close(ours[item, 0].double(), table[TARGETS], atol=5e-5, rtol=0)


def test_nothing_added_or_a_state_put_back_changes_nothing(tiny):
    model = tiny("qwen3")
    plain = next_token_logprobs(model, PROMPTS, TARGETS)
    hidden = hidden_states(model, PROMPTS).hidden
    torch.testing.assert_close(plain[:, 0], lens(model, hidden[:, -1:], targets=TARGETS).logprob[:, 0])
    everywhere = Edit((0, 1, 2, 3), vectors(model), positions="all", strength=0.0)
    assert torch.equal(next_token_logprobs(model, PROMPTS, TARGETS, edit=everywhere), plain)
    for layer in range(model.n_layers + 1):
        back = Edit((layer,), hidden[:, layer], mode="replace")
        torch.testing.assert_close(next_token_logprobs(model, PROMPTS, TARGETS, edit=back), plain, atol=1e-5, rtol=0)


def test_an_interchange_patch_carries_the_answer(tiny):
    """The last layer's state of one prompt, written into another's run, gives the first prompt's answer."""
    model = tiny("llama")
    plain = next_token_logprobs(model, PROMPTS, TARGETS)
    hidden = hidden_states(model, PROMPTS, layers=[3]).hidden[:, 0]
    patch = Edit((3,), hidden.roll(1, 0), mode="replace")
    torch.testing.assert_close(
        next_token_logprobs(model, PROMPTS, TARGETS, edit=patch), plain.roll(1, 0), atol=1e-5, rtol=0
    )


def test_replace_goes_part_of_the_way_at_part_strength(tiny):
    model = tiny("llama")
    vector = vectors(model)
    hidden = hidden_states(model, PROMPTS, layers=[2]).hidden[:, 0]
    half = next_token_logprobs(model, PROMPTS, TARGETS, edit=Edit((2,), vector, mode="replace"), strengths=(0.5,))
    whole = Edit((2,), (hidden + vector) / 2, mode="replace")
    torch.testing.assert_close(half, next_token_logprobs(model, PROMPTS, TARGETS, edit=whole), atol=1e-5, rtol=0)


def test_without_an_edit_strengths_make_no_difference(tiny):
    ours = next_token_logprobs(tiny("llama"), PROMPTS[:2], TARGETS, strengths=STRENGTHS)
    assert ours.shape == (2, 3, 4) and torch.equal(ours[:, 0], ours[:, 2])


def test_strengths_share_a_batch(tiny, monkeypatch):
    model, shapes = tiny("llama"), []
    run = model.run
    monkeypatch.setattr(
        model, "run", lambda ids, *extras, **cache: shapes.append(tuple(ids.shape)) or run(ids, *extras, **cache)
    )
    length = len(model.encode(PROMPTS[:1])[0])
    next_token_logprobs(model, PROMPTS[:1], TARGETS, edit=Edit((1,), vectors(model)), strengths=STRENGTHS)
    assert shapes == [(1, length - 1), (3, 1)]  # what is not edited once, then all strengths together
    shapes.clear()
    everywhere = Edit((1,), vectors(model), positions="all")
    next_token_logprobs(model, PROMPTS[:1], TARGETS, edit=everywhere, strengths=STRENGTHS)
    assert shapes == [(3, length)]


def test_sampling_is_seeded_and_leaves_the_global_state(tiny):
    model = tiny("llama")
    arguments = {"max_new_tokens": 8, "do_sample": True, "temperature": 1.0, "top_p": 0.9}
    before, config = torch.get_rng_state(), model.module.generation_config
    first = generate(model, PROMPTS, seed=1, **arguments)
    assert first == generate(model, PROMPTS, seed=1, **arguments)
    assert first != generate(model, PROMPTS, seed=2, **arguments)
    assert torch.equal(torch.get_rng_state(), before) and model.module.generation_config is config


def test_sampling_is_not_cut_at_the_library_s_top_k(tiny):
    """A uniform model must reach tokens far down its own list: 400 draws out of 410 tokens."""
    model = tiny("llama")
    head = model.structure.head
    kept, head.weight = head.weight, torch.nn.Parameter(head.weight * 0)
    try:
        texts = generate(model, ["three"] * 20, max_new_tokens=20, do_sample=True, eos_token_id=None)
    finally:
        head.weight = kept
    assert len({token for (text,) in texts for token in model.tokenizer(text)["input_ids"]}) > 60


def test_frequency_penalty_counts_the_continuation_only():
    scores = torch.zeros(1, 6)
    ids = torch.tensor([[5, 5, 1, 1, 2]])
    assert FrequencyPenalty(0.5, prompt_length=2)(ids, scores).tolist() == [[0, -1.0, -0.5, 0, 0, 0]]


def test_frequency_penalty_ends_repetition(tiny):
    model = tiny("gpt2")
    (plain,), (spread,) = (
        model.tokenizer(generate(model, ["on"], max_new_tokens=12, frequency_penalty=p, eos_token_id=None)[0])[
            "input_ids"
        ]
        for p in (0.0, 100.0)
    )
    assert len(set(spread)) > len(set(plain))


def test_what_is_refused(tiny):
    model = tiny("llama")
    vector = vectors(model)
    for edit, said in [
        (Edit((4,), vector), "Layer 4"),
        (Edit((1,), vector[:-1]), "shape"),
        (Edit((1,), vectors(model, 3)), r"shape \(3, \d+\); \(\d+,\) or \(2, "),
        (Edit((1,), vector, mode="subtract"), "'subtract'"),
        (Edit((1,), vector, positions=9), "Position 9"),
    ]:
        with pytest.raises(SemhubError, match=said):
            next_token_logprobs(model, PROMPTS[:2], TARGETS, edit=edit)
    with pytest.raises(SemhubError, match="60 more"):
        generate(model, PROMPTS, max_new_tokens=60)

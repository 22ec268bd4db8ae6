"""The lens against full softmax tables, its properties, and what it refuses."""

import pytest
import torch
from architectures import DECODERS, PROMPTS
from oracle import Oracle

from semhub_utils import lens as lens_module
from semhub_utils.errors import SemhubError
from semhub_utils.lens import lens, word_logprobs
from semhub_utils.states import hidden_states

TARGETS = torch.tensor([3, 77, 310, 409])


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("reading", ["normed", "raw"])
def test_agrees_with_full_tables(tiny, monkeypatch, name, reading):
    """Log-probability, rank, entropy and top tokens of every layer, with blocks smaller than the vocabulary."""
    monkeypatch.setitem(lens_module.TABLE, "cpu", (7, 100))
    model = tiny(name)
    oracle = Oracle(name, model.module, model.tokenizer)
    hidden = hidden_states(model, PROMPTS[:2]).hidden
    ours = lens(model, hidden, targets=TARGETS, top_k=5, rank=True, entropy=True, reading=reading)
    for item, prompt in enumerate(PROMPTS[:2]):
        for layer, table in enumerate(oracle.read(oracle.states(prompt)[:, -1], reading)):
            near = {"atol": 5e-5, "rtol": 0}
            torch.testing.assert_close(ours.logprob[item, layer].double(), table[TARGETS], **near)
            torch.testing.assert_close(ours.entropy[item, layer].double(), -(table.exp() * table).sum(), **near)
            torch.testing.assert_close(ours.top_logprobs[item, layer].double(), table.topk(5).values, **near)
            torch.testing.assert_close(table[ours.top_ids[item, layer]], table.topk(5).values, **near)
            for target, rank in zip(TARGETS, ours.rank[item, layer], strict=True):
                certainly, perhaps = (int((table > table[target] + slack).sum()) + 1 for slack in (1e-5, -1e-5))
                assert certainly <= rank <= max(certainly, perhaps - 1)


def test_last_normed_layer_is_the_model(tiny):
    for name in ("llama", "gemma2", "cohere", "opt-projected"):
        model = tiny(name)
        hidden = hidden_states(model, ["three plus five"], layers=[model.n_layers]).hidden
        ids = torch.tensor([model.encode(["three plus five"])[0].ids])
        with torch.no_grad():
            expected = model.module(ids).logits[0, -1].log_softmax(-1)
        ours = lens(model, hidden, targets=torch.arange(model.vocab_size)).logprob[0, 0]
        torch.testing.assert_close(ours, expected, atol=5e-5, rtol=0)


def test_raw_is_the_release_s_reading_whichever_layers_are_given(tiny):
    """The library's own states, of which the last alone has been through the final norm, times the unembedding."""
    model = tiny("llama")
    ids = torch.tensor([model.encode(["three plus five"])[0].ids])
    with torch.no_grad():
        theirs = model.module(ids, output_hidden_states=True).hidden_states
        want = model.module.lm_head(torch.stack(theirs)[:, 0, -1]).log_softmax(-1)
    for layers in ([0, 1, 2, 3], [3, 1]):
        hidden = hidden_states(model, ["three plus five"]).hidden[:, layers]
        ours = lens(model, hidden, targets=torch.arange(model.vocab_size), reading="raw", layers=layers).logprob
        torch.testing.assert_close(ours[0], want[layers], atol=5e-5, rtol=0)


@pytest.mark.parametrize("reading", ["normed", "raw"])
def test_probabilities_sum_to_one(tiny, reading):
    model = tiny("gemma3")
    hidden = hidden_states(model, PROMPTS, positions="all").hidden
    ours = lens(model, hidden, targets=torch.arange(model.vocab_size), reading=reading).logprob
    torch.testing.assert_close(ours.exp().sum(-1), torch.ones(hidden.shape[:2]), atol=1e-5, rtol=0)


def test_large_logits_stay_finite(tiny):
    """A running maximum is what keeps the sum in range, whichever block the largest logit is in."""
    model = tiny("llama")
    hidden = torch.randn(3, 1, model.hidden_size) * 1e4
    ours = lens(model, hidden, targets=torch.arange(model.vocab_size), entropy=True, reading="raw", layers=[1])
    expected = (hidden.double()[:, 0] @ model.unembedding.double().T).log_softmax(-1)
    torch.testing.assert_close(ours.logprob[:, 0].double(), expected.detach(), rtol=1e-5, atol=1e-2)
    assert ours.entropy.isfinite().all() and (ours.entropy > -1e-2).all()


def test_own_targets_for_each_site(tiny):
    model = tiny("gpt2")
    hidden = hidden_states(model, PROMPTS).hidden
    own = torch.randint(model.vocab_size, (len(PROMPTS), 3), generator=torch.Generator().manual_seed(0))
    whole = lens(model, hidden, targets=torch.arange(model.vocab_size)).logprob
    expected = whole.gather(2, own[:, None].expand(-1, hidden.shape[1], -1))
    torch.testing.assert_close(lens(model, hidden, targets=own).logprob, expected, atol=1e-6, rtol=0)


def test_a_reading_by_layer_stands_before_the_norm(tiny):
    model = tiny("llama")
    layers = [0, 2, 3]
    hidden = hidden_states(model, PROMPTS, layers=layers).hidden
    same = lens(model, hidden, targets=TARGETS, reading=lambda layer, h: h, layers=layers).logprob
    torch.testing.assert_close(same, lens(model, hidden, targets=TARGETS).logprob)
    shifted = lens(model, hidden, targets=TARGETS, reading=lambda layer, h: h + layer, layers=layers).logprob
    expected = lens(model, hidden + torch.tensor(layers)[None, :, None], targets=TARGETS).logprob
    torch.testing.assert_close(shifted, expected)


def test_half_precision_is_accumulated_in_float32(tiny):
    model = tiny("llama")
    x = torch.randn(5, model.hidden_size).to(torch.bfloat16)
    weight = model.unembedding.to(torch.bfloat16)
    head = model.structure.head
    kept, head.weight = head.weight, torch.nn.Parameter(weight)
    try:
        ours = model.unembed(x)
    finally:
        head.weight = kept
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours.double(), x.double() @ weight.double().T, atol=1e-5, rtol=1e-5)


def test_words_sum_their_forms():
    logprob = torch.tensor([[0.1, 0.2, 0.3]]).log()
    torch.testing.assert_close(word_logprobs(logprob, [(0, 2), (1,)]).exp(), torch.tensor([[0.4, 0.2]]))


def test_what_is_refused(tiny):
    model = tiny("llama")
    hidden = torch.zeros(1, 1, model.hidden_size)
    for arguments, said in [
        ({"targets": torch.tensor([410])}, "outside the vocabulary"),
        ({"targets": torch.tensor([-1])}, "outside the vocabulary"),
        ({"rank": True}, "without targets"),
        ({"reading": "tuned"}, "has no tuned lens"),
        ({"reading": "cooked"}, "'cooked'"),
        ({"reading": lambda layer, h: h}, "layers="),
        ({"reading": "raw"}, "layers="),
        ({"top_k": 411}, "top_k was 411"),
    ]:
        with pytest.raises(SemhubError, match=said):
            lens(model, hidden, **arguments)

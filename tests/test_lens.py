"""The lens against full softmax tables, its properties, and what it refuses."""

from dataclasses import dataclass

import gpu
import pytest
import torch
from architectures import DECODERS, PROMPTS
from oracle import Oracle

from semhub_utils import lens as lens_module
from semhub_utils.errors import SemhubError
from semhub_utils.experiments.core import run
from semhub_utils.experiments.words import Lens
from semhub_utils.lens import Asked, Reading, Scores, ThroughUnembedding, available_readings, lens, word_logprobs
from semhub_utils.models import randomised, wrap
from semhub_utils.spokes.items import LensItem
from semhub_utils.states import hidden_states
from semhub_utils.tokens import target_table

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


@dataclass(frozen=True)
class Shifted(ThroughUnembedding):
    """A map of each layer's states before the final norm, as a Jacobian one would be."""

    by: float
    name: str = "shifted"

    def inputs(self, model, hidden, layers):
        return model.normalise((hidden + self.by * torch.tensor(layers)[None, :, None]).flatten(0, 1)).unflatten(
            0, hidden.shape[:2]
        )


@dataclass(frozen=True)
class Neighbours(Reading):
    """Words by the tokens of the nearest of a bank of states, without an unembedding."""

    bank: torch.Tensor  # [state, layer, hidden]
    tokens: torch.Tensor
    name: str = "neighbours"

    def read(self, model, hidden, layer, asked):
        near = torch.zeros(len(hidden), model.vocab_size)
        near.index_add_(1, self.tokens, torch.cdist(hidden, self.bank[:, layer]).neg().softmax(1))
        logprob = (near + 1e-9).log()
        top = logprob.topk(asked.top_k)
        given = {} if asked.targets is None else {"logprob": logprob.gather(1, asked.targets)}
        given |= {"top_ids": top.indices, "top_logprobs": top.values} if asked.top_k else {}
        return Scores(**given | ({"entropy": -(near * logprob).sum(1)} if asked.entropy else {}))


def test_a_reading_by_layer_stands_before_the_norm(tiny):
    model, layers = tiny("llama"), [0, 2, 3]
    hidden = hidden_states(model, PROMPTS, layers=layers).hidden
    same = lens(model, hidden, targets=TARGETS, reading=Shifted(0.0), layers=layers).logprob
    torch.testing.assert_close(same, lens(model, hidden, targets=TARGETS).logprob)
    shifted = lens(model, hidden, targets=TARGETS, reading=Shifted(1.0), layers=layers).logprob
    expected = lens(model, hidden + torch.tensor(layers)[None, :, None], targets=TARGETS).logprob
    torch.testing.assert_close(shifted, expected)
    alone = Shifted(1.0).read(model, hidden[:, 1], 2, Asked(TARGETS.expand(len(hidden), -1), weights=hidden[:, 0, 0]))
    torch.testing.assert_close(alone.logprob, expected[:, 1])
    assert alone.mixture.shape == (model.vocab_size,)


def test_readings_from_outside_pass_through_an_experiment(tiny):
    """One before the unembedding and one without: named, found on the model, and on its random twin if they say so."""
    plain = tiny("llama")
    model = wrap(plain.module, plain.tokenizer, model_id="read in four ways")
    bank = hidden_states(model, PROMPTS).hidden
    known = target_table(model, ["the", "3", "cat"])
    made = Neighbours(bank, known.ids[torch.arange(len(bank)) % len(known.ids)])
    model.readings.update(shifted=Shifted(0.5), neighbours=made)
    assert available_readings(model) == ("normed", "raw", "shifted", "neighbours")
    assert available_readings(randomised(model, 0)) == available_readings(model)
    hidden = hidden_states(model, PROMPTS).hidden
    by_name, by_object = (lens(model, hidden, targets=known.ids, top_k=2, reading=r) for r in ("neighbours", made))
    assert torch.equal(by_name.logprob, by_object.logprob) and by_name.top_ids.shape == (*hidden.shape[:2], 2)
    words = {"word": ("the", "cat"), "digit": ("3",)}
    items = [
        LensItem(p, p, {"word": (w,), "digit": ("3",)}, p, wrong={"word": words["word"][1 - k : 2 - k]}, group="g")
        for p in PROMPTS
        for k, w in enumerate(words["word"])
    ]
    table, claims = run(Lens("word", "digit"), model, items, series="s", readings=available_readings(model))
    assert [c.reading for c in claims[::3]] == [*available_readings(model)] and {*table.reading} == {
        *map(str, model.readings),
        "normed",
        "raw",
    }
    assert all("random weights" in c.controls for c in claims if c.claim.startswith("lens-meaning"))


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
        ({"reading": "tuned"}, "has no reading 'tuned'; `semhub tune"),
        ({"reading": "cooked"}, "'cooked'"),
        ({"reading": Shifted(0.0)}, "layers="),
        ({"reading": "raw"}, "layers="),
        ({"top_k": 411}, "top_k was 411"),
    ]:
        with pytest.raises(SemhubError, match=said):
            lens(model, hidden, **arguments)


def test_the_gpu_script_measures_on_a_cpu_too():
    found = gpu.measure("tiny", 4, 6, "float32", "cpu")
    assert set(found) == {*gpu.AT_LEAST, *gpu.AT_MOST} and all(value > 0 for value in found.values())
    assert gpu.missed({"last position": 0.96, "all positions": 0.8, "lens": 1.3}) == ["all positions", "lens"]

"""Patches of sentiment: against plain hooks one run at a time, and where the truth is known."""

import numpy as np
import pytest
import torch
import transformers as tf
from oracle import Oracle
from test_experiments import one_token_forms
from tokenizers import Tokenizer, models, pre_tokenizers

from semhub_utils.errors import SemhubError
from semhub_utils.evidence import NOT, UNTESTABLE, WEAKLY, judge
from semhub_utils.experiments import moods, sentiment_patch_experiment
from semhub_utils.models import wrap
from semhub_utils.spokes.sentiment import SentimentPrompt, SentimentTask

PLEASANT, UNPLEASANT, OWN = ("3", "5"), ("8", "9"), ("the", "and")
N, PAIRS = 24, 9


def task_of(language, prompts, pleasant=PLEASANT, unpleasant=UNPLEASANT, own=OWN):
    made = tuple(SentimentPrompt(str(k), text, text, str(k)) for k, text in enumerate(prompts))
    return SentimentTask(language, made, {"english": own}, pleasant, unpleasant, own)


def test_patches_against_one_run_at_a_time(tiny):
    model = tiny("llama")
    oracle = Oracle("llama", model.module, model.tokenizer)
    task = task_of("spanish", [f"el perro {k}" for k in range(8)])
    english = task_of("english", [f"the dog {k}" for k in range(8)][::-1], ("cat", "red"), ("dog", "mat"), ("a", "is"))
    table, [claim] = sentiment_patch_experiment(model, task, english, seed=2, random_weights=False)
    forms = {w: one_token_forms(model, w, task.prompts[0].prompt) for w in (*PLEASANT, *UNPLEASANT, *OWN)}
    assert all(forms.values())

    def mass(logprob, out):
        up, down = (
            torch.stack([logprob[i] for w in side if w not in out for i in forms[w]]).logsumexp(0)
            for side in ((*PLEASANT, OWN[0]), (*UNPLEASANT, OWN[1]))
        )
        return float(up - down)

    opposites = [("cat", "dog"), ("red", "mat"), ("a", "is")]
    out = list(zip((*PLEASANT, OWN[0]), (*UNPLEASANT, OWN[1]), strict=True))
    colours = list(zip(moods.NEUTRAL[::2], moods.NEUTRAL[1::2], strict=True))
    drawn = torch.randn(3, 1, 1, model.hidden_size, generator=torch.Generator().manual_seed(2)).double()[:, 0, 0]
    want = {name: np.zeros(model.n_layers + 1) for name in ("source", "neutral words", "random push", "level", "plain")}
    for prompt, twin in zip(task.prompts, english.prompts, strict=True):
        plain = oracle.logits(oracle.ids(prompt.prompt))[-1].log_softmax(-1)
        for k, pair in enumerate(opposites):
            a, b = (oracle.states(f"{twin.prompt} {word}")[:, -1] for word in pair)
            c, d = (oracle.states(f"{twin.prompt} {word}")[:, -1] for word in colours[k])
            push = (a - b).norm(dim=-1, keepdim=True) / 2 * drawn[k] / drawn[k].norm()
            written = {
                "source": (a, b),
                "neutral words": (c, d),
                "random push": ((a + b) / 2 + push, (a + b) / 2 - push),
            }
            for (name, states), layer in [(x, y) for x in written.items() for y in range(model.n_layers + 1)]:
                two = [mass(oracle.steered(prompt.prompt, layer, s[layer], -1, "replace", 1.0), out[k]) for s in states]
                want[name][layer] += (two[0] - two[1]) / 2 / 24
                want["level"][layer] += two[0] / 24 if name == "source" else 0
            want["plain"] += mass(plain, out[k]) / 24
    np.testing.assert_allclose(claim.values, want["source"], atol=5e-5)
    assert max(abs(want["source"])) > 1e-3 and claim.n == 24 and claim.n_clusters == 8
    for name in ("neutral words", "random push"):
        np.testing.assert_allclose(claim.controls[name].values, want[name], atol=5e-5)
        assert max(abs(want[name])) > 1e-3
    levels = table[table.experiment == "sentiment-patch-level"].sort_values("layer")
    np.testing.assert_allclose(levels[levels.series == "pleasant word"].value, want["level"], atol=5e-5)
    np.testing.assert_allclose(levels[levels.series == "no patch"].value, want["plain"], atol=5e-5)
    assert claim.least_p == 1 / 8 and judge(claim).verdict == UNTESTABLE, "three pairs are three samples"


def planted(shared: bool):
    """Blocks that do nothing. Pleasant and unpleasant English words lie on either side of a direction; the output words
    read the same one if `shared`, else another."""
    english = [f"{kind}{k}" for k in range(PAIRS) for kind in "pu"]
    spanish = [f"{kind}{k}" for k in range(PAIRS) for kind in "bm"]
    words = [*english, *spanish, *(f"n{k}" for k in range(N)), *moods.NEUTRAL, "<unk>"]
    tokenizer = Tokenizer(models.WordLevel({w: k for k, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = tf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")
    config = tf.LlamaConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=8, num_hidden_layers=2, num_attention_heads=1,
        num_key_value_heads=1, max_position_embeddings=32, bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    module = tf.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(1.0 if parameter.ndim == 1 else 0.0)
        make = torch.Generator().manual_seed(0)
        rows, head = module.model.embed_tokens.weight, module.lm_head.weight
        rows[:, 2:], head[:, 2:] = (0.3 * torch.randn(len(words), 30, generator=make) for _ in range(2))
        for k, word in enumerate(english):
            rows[words.index(word), 0] = 1 - 2 * (k % 2)
        for k, word in enumerate(spanish):
            head[words.index(word), 0 if shared else 1] = 1 - 2 * (k % 2)
    first, last = (
        (tuple(f"{kind}{k}" for k in range(PAIRS)) for kind in "pu"),
        (tuple(f"{kind}{k}" for k in range(PAIRS)) for kind in "bm"),
    )
    texts = [f"n{k}" for k in range(N)]
    tasks = [
        task_of(language, texts, up[:-1], down[:-1], (up[-1], down[-1]))
        for language, (up, down) in (("english", first), ("spanish", last))
    ]
    return wrap(module, tokenizer, model_id="shared" if shared else "apart"), *tasks


def test_a_shared_sentiment_is_found_and_a_private_one_is_not():
    model, english, spanish = planted(True)
    _, [claim] = sentiment_patch_experiment(model, spanish, english)
    verdict = judge(claim)
    assert verdict.verdict == WEAKLY and verdict.reason.count("not above") == 1, "nothing is read after the embeddings"
    assert "embedding" in verdict.reason and claim.values[1] > 1 and claim.p[1] < 0.01
    assert set(claim.controls) == {"neutral words", "random push", "random weights", "embedding layer"}
    model, english, spanish = planted(False)
    _, [claim] = sentiment_patch_experiment(model, spanish, english)
    assert judge(claim).verdict == NOT and len(claim.controls) == 4


def test_one_lucky_pair_is_not_sentiment():
    """All prompts feel one pair alike, and the others not at all: flipped prompts would call that significant."""
    model, english, spanish = planted(True)
    with torch.no_grad():
        model.module.model.embed_tokens.weight[2 : 2 * PAIRS] = 0.01
    _, [claim] = sentiment_patch_experiment(model, spanish, english, random_weights=False)
    assert claim.low[1] > 0.05 and claim.p[1] > 0.05 and judge(claim).verdict == NOT


def test_words_without_a_token_cannot_be_tested_and_still_have_their_curves(tiny):
    model = tiny("llama")
    none = task_of("spanish", [f"el perro {k}" for k in range(8)], ("zzz", "zzzz"), ("zzq", "zzqq"), ("zzw", "zzww"))
    table, [claim] = sentiment_patch_experiment(model, none, task_of("english", ["the dog"] * 8), random_weights=False)
    assert judge(claim).verdict == UNTESTABLE and claim.n == 0
    assert table[table.experiment == "sentiment-patch-level"].value.isna().all()
    with pytest.raises(SemhubError, match="8 prompts"):
        sentiment_patch_experiment(model, task_of("spanish", ["el perro"] * 3), none)

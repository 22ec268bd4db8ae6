"""A step that is killed takes up the batches that it had: nothing is forwarded twice but what was not on disk yet."""

import multiprocessing
import os
import signal
import time

import pandas as pd
import pytest
import torch
from architectures import PROMPTS

from semhub_utils import store
from semhub_utils.models import randomised
from semhub_utils.results import Run
from semhub_utils.states import hidden_states
from semhub_utils.steering import Edit, edited_states, erased, generate

MANY = [f"{prompt} {n}" for n in range(8) for prompt in PROMPTS]


def work(model, slow=0.0, stop=0):
    """A step of reading, of twins, of edits and of writing, one prompt a batch."""

    model.calls, model.shares_keys = 0, True  # or that would be tried, once on a model

    def count(*_):
        model.calls += 1
        if model.calls == stop:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(slow)

    hook = model.blocks[0].register_forward_hook(count)
    rows = []
    for reader in (model, randomised(model, 0)):
        rows += hidden_states(reader, MANY, max_batch_tokens=1).hidden.sum((1, 2)).tolist()
        vectors = hidden_states(reader, MANY, layers=[1]).hidden[:, 0]
        edit = [Edit((1,), vectors.roll(1, 0), mode="replace"), Edit((2,), vectors, strength=2.0)]
        rows += edited_states(reader, MANY, edit, max_batch_tokens=1).sum(-1).flatten().tolist()
        texts = generate(reader, MANY, max_new_tokens=2, edit=edit[1], strengths=(0.5, 1.0), max_batch_tokens=1)
        rows += [len(text) for some in texts for text in some]
    hook.remove()
    return pd.DataFrame({"value": rows})


def step(model, place, **how):
    return Run("x", model, {}, place).run("words", [1], lambda: work(model, **how))


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(store, "FLUSH", 0.0)


def test_nothing_is_forwarded_twice_that_is_on_disk(own, at_once, tmp_path):
    """Killed by a signal at several places, resumed in the end, counted in forwards."""
    whole, stops = own(), (20, 30, 40)
    expected = step(whole, tmp_path / "whole")
    for stop in stops:
        given = {"args": (own(), tmp_path / "killed"), "kwargs": {"stop": stop}}
        child = multiprocessing.get_context("fork").Process(target=step, **given)
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
    [kept] = (tmp_path / "killed").rglob("*.batches")
    assert len([*kept.iterdir()]) > 70
    model = own()
    pd.testing.assert_frame_equal(step(model, tmp_path / "killed"), expected)
    # what is repeated of each: the batch under way, and what is tried once on a model
    assert whole.calls > 2 * sum(stops) and whole.calls - model.calls >= sum(stops) - 4 * len(stops)
    assert not kept.exists(), "a step that is done needs none"


def test_a_fast_step_writes_nothing(own, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "save_file", lambda *_: pytest.fail("it wrote"))
    step(own(), tmp_path)


def test_no_more_is_kept_than_the_store_would(own, at_once, tmp_path):
    model = own()
    model.store.limit = 5000
    step(model, tmp_path)
    with model.store.step(tmp_path / "b"):
        hidden_states(model, MANY, max_batch_tokens=1)
        assert sum(path.stat().st_size for path in (tmp_path / "b").iterdir()) < 20_000


def test_what_differs_is_not_taken_for_the_same(own, at_once, tmp_path):
    """Another edit, strength, layer, position, model or state of the model."""
    model, folder = own(), tmp_path / "b"
    vector = hidden_states(model, MANY[:1]).hidden[0, 1]

    def read(**of):
        edit = Edit(**({"layers": (1,), "vector": vector} | of))
        return edited_states(model, MANY[:3], [edit])

    ways = [{}, {"strength": 2.0}, {"layers": (2,)}, {"positions": 0}, {"mode": "turn"}, {"vector": vector.roll(1)}]
    alone = [read(**of) for of in ways]
    for _ in range(2):
        with model.store.step(folder):
            for of, expected in zip(ways, alone, strict=True):
                assert torch.equal(read(**of), expected)
            space = torch.linalg.qr(torch.randn(32, 2, generator=torch.Generator().manual_seed(0)))[0]
            plain = hidden_states(model, MANY[:3]).hidden
            with erased(model, {1: (space, space, torch.zeros(32))}):
                assert not torch.equal(hidden_states(model, MANY[:3]).hidden, plain)


def test_a_stale_step_leaves_nothing(own, at_once, tmp_path):
    old = tmp_path / "own-llama" / "x.parts" / "words-0.batches"
    old.mkdir(parents=True)
    run = Run("x", own(), {}, tmp_path)
    run.run("words", [1], lambda: pd.DataFrame({"value": [1.0]}))
    run.finish()
    assert not old.exists()

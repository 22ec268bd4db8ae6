"""The self-checks themselves: each fails on a fault made for it, by little more than its bound, and a check that always
passes or a bound a thousand times wider would let that fault through; so the tests here would fail."""

import copy

import pytest
import torch
from architectures import make_media_module

from semhub_utils import loading, structure
from semhub_utils.loading import CHECKS, self_check
from semhub_utils.models import wrap

SMALL = 1.5e-3  # 30 times the bound of float32


def widened(model, monkeypatch):
    model.structure.logit_scale *= 1 + SMALL


def mixed(model, monkeypatch):
    """Padding is seen."""
    run = model.run

    def mixing(ids, extras, **more):
        with model.hook(1, lambda h: h + h.mean(1, keepdim=True) * SMALL * 3):
            return run(ids, extras, **more)

    monkeypatch.setattr(model, "run", mixing)


def written(model, monkeypatch):
    model.written = lambda hidden, sites, layers: hidden * (1 + SMALL)


def pushed(change):
    def spoil(model, monkeypatch, real=loading.Edit):
        monkeypatch.setattr(loading, "Edit", lambda layers, vector, **named: real(layers, change(vector), **named))

    return spoil


def unset(model, monkeypatch):
    model.module.get_input_embeddings().weight.data[model.tokenizer("red").input_ids[0]] = float("nan")


def misplaced(model, monkeypatch):
    media = loading._media

    def moved(model):
        return [loading.replace(prompt, patches=[p + 1 for p in prompt.patches]) for prompt in media(model)]

    monkeypatch.setattr(loading, "_media", moved)


def blind(model, monkeypatch):
    media = loading._media

    def same(model):
        found = media(model)
        found[2::3] = found[::3]
        return found

    monkeypatch.setattr(loading, "_media", same)


FAULTS = {  # by check: a fault that it is there for, and whether the fault has a size
    "finite": (unset, False),
    "lens": (widened, True),
    "batch": (mixed, True),
    "layers": (written, True),
    "zero": (pushed(lambda vector: vector + SMALL / 20), True),
    "edit": (pushed(lambda vector: vector * (1 + SMALL * 10)), True),
    "merge": (misplaced, False),
    "content": (blind, False),
    "causal": (mixed, True),
}


def checked(name, spoil, monkeypatch, tiny):
    """What a spoiled handle's check finds."""
    if name in ("merge", "content"):
        model = wrap(*make_media_module("llava"), model_id="spoiled")
    else:
        model = wrap(copy.deepcopy(tiny("llama").module), tiny("llama").tokenizer, model_id="spoiled")
    spoil(model, monkeypatch)
    return next(check for check in self_check(model, raise_on_failure=False) if check.name == name)


def test_every_check_has_its_fault():
    assert list(FAULTS) == list(CHECKS)


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_fails_on_the_fault_that_it_is_there_for(tiny, monkeypatch, name):
    """And one that always passes does not, so this test would say so."""
    spoil, sized = FAULTS[name]
    found = checked(name, spoil, monkeypatch, tiny)
    assert not found.passed
    if sized:
        assert found.bound < found.value < 1000 * found.bound  # a bound a thousand times wider would let it through
    monkeypatch.setitem(CHECKS, name, (CHECKS[name][0], lambda seen: 0.0))
    assert checked(name, spoil, monkeypatch, tiny).passed


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_no_bound_is_a_thousand_times_what_rounding_makes(tiny, dtype):
    """The bound lies above the rounding of a sound model, and less than a thousand times above it."""
    module = copy.deepcopy(tiny("llama").module).to(dtype)
    found = self_check(wrap(module, tiny("llama").tokenizer, model_id="sound"), raise_on_failure=False)
    worst = max(check.value / check.bound for check in found)
    assert 1e-3 < worst < 1, {check.name: check.value / check.bound for check in found}


def test_what_is_no_number_is_not_lost():
    nan = float("nan")
    assert loading._worst([0.0, nan, 1.0]) != loading._worst([0.0, nan, 1.0])
    ours, reference = torch.ones(2, 3), torch.tensor([[1.0, nan, 1.0], [1.0, 1.0, 1.0]])
    for dtype in (torch.float32, torch.float16):
        assert not structure.relative_error(ours, reference, dtype) <= 1.0
    assert not loading.Check("x", nan, 1.0, "").passed

"""Models whose truth is known: put in by hand (a hub of two types of words, and two types that share nothing), and the
shipped ones."""

from functools import cache

import torch

from semhub_utils.loading import load_model
from semhub_utils.models import wrap
from semhub_utils.organism.taught import empty_llama
from semhub_utils.spokes.items import LensItem, Pair

N = 60  # meanings


@cache
def organism(name):
    """A shipped model, loaded once for a file of tests."""
    return load_model(f"organism:{name}", device="cpu", check=False)


def look_at(attention, query, keys, strength=9.0):
    """All eyes of a token whose state has the coordinates `query` are on what has `keys`, if that stands before it."""
    slow = attention.q_proj.weight.shape[0] // 2 - 1  # turned least by the position
    attention.q_proj.weight[slow, query] = attention.k_proj.weight[slow, keys] = strength


def two_worlds(shared: bool, seed: int = 0, parting: bool = False):
    """A model of two layers without training. Token d7 is "7" in one type, w7 in the hub's; d7 begins as a direction of
    its own, and block 1 adds a second one: that of w7's meaning if `shared`, else one that no word has. Block 2 turns a
    meaning into the token of type d. Unembedding rows: d7 its own direction, w7 its meaning. parting: block 2 leaves no
    meaning, and gives w7 nothing of d7, so that the two have something in common between the blocks alone."""
    width = 4 * N
    module, tokenizer = empty_llama([f"{kind}{k}" for kind in "dw" for k in range(N)], width)
    make = torch.Generator().manual_seed(seed)
    eye = torch.eye(width)
    own, meaning, private = eye[: 2 * N], eye[2 * N : 3 * N], eye[3 * N :]
    with torch.no_grad():
        module.model.embed_tokens.weight[: 2 * N] = own
        module.model.embed_tokens.weight += 0.05 * torch.randn(2 * N + 1, width, generator=make) / width**0.5
        first, last = (layer.self_attn for layer in module.model.layers)
        first.v_proj.weight.copy_(eye)
        last.v_proj.weight.copy_(eye)
        of_digit = meaning if shared else private
        first.o_proj.weight.copy_((2 * (of_digit.T @ own[:N] + meaning.T @ own[N:])) / width**0.5)
        last.o_proj.weight.copy_(
            (3 * own[:N].T @ (meaning if shared else private) - 2 * meaning.T @ meaning) / width**0.5
        )
        if parting:
            last.o_proj.weight.sub_((6 * own[:N].T @ own[N:] + (5**0.5 - 2) * meaning.T @ meaning) / width**0.5)
        module.lm_head.weight[:N] = 4 * own[:N]
        module.lm_head.weight[N : 2 * N] = 4 * meaning
    return wrap(module, tokenizer, model_id="planted" if shared else "apart")


def word_pairs():
    return [Pair(str(k), f"d{k}", f"w{k}", "g", cluster=str(k)) for k in range(N)]


def word_items():
    return [
        LensItem(str(k), f"d{k}", {"word": (f"w{k}",), "digit": (f"d{k}",)}, str(k),
                 wrong={"word": tuple(f"w{j}" for j in range(N) if j != k)}, group="g")
        for k in range(N)
    ]  # fmt: skip

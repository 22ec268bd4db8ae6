"""The experiments against plain transformers one prompt at a time, and on models whose truth was put in by hand."""

import itertools
import re
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch
from architectures import make_module
from oracle import Oracle, one_token_forms, values
from planted import N, two_worlds, word_items, word_pairs

from semhub_utils.errors import SemhubError
from semhub_utils.evidence import split_items
from semhub_utils.experiments import alike, core, regions, traps, words
from semhub_utils.experiments.interventions import Steering, says
from semhub_utils.models import wrap
from semhub_utils.spokes.items import LensItem, Pair, SteerItem
from semhub_utils.verdicts import EXPLAINED, HOLDS, INCONCLUSIVE, NOT, UNTESTABLE, WEAKLY, judge

NUMBERS = {"3": "three", "5": "five", "8": "eight", "9": "nine", "2": "two", "7": "seven"}


def number_pairs():
    """Sums, with three first operands in each group."""
    sums = list(itertools.permutations(NUMBERS, 2))[::2]
    return [
        Pair(f"{a}+{b}", f"{a}+{b}", f"{NUMBERS[a]} plus {NUMBERS[b]}", str(a > "5"), cluster=a, anchor=b)
        for a, b in sums
    ]


def number_items():
    """Lens items of one sum each; the answer is the right operand."""
    found = []
    for a, b in list(itertools.permutations(NUMBERS, 2))[::3]:
        wrong = {"word": tuple(w for d, w in NUMBERS.items() if d != b), "digit": tuple(d for d in NUMBERS if d != b)}
        targets = {"word": (NUMBERS[b],), "digit": (b,)}
        found.append(LensItem(f"{a}+{b}", f"8={a}+", targets, cluster=a, wrong=wrong, group="+", anchor=b))
    return found


def cosines(oracle, pairs, end=""):
    """[layer, i, j], of side a of one pair with side b of another."""
    a, b = (oracle.last([getattr(pair, side) + end for pair in pairs]) for side in "ab")
    a, b = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (a, b))
    return np.einsum("ilh,jlh->lij", a, b)


# ---- similarity ----


def within(cosine, groups, score):
    """By layer and item: the mean over both directions of score(own, those of its group, the own one among them)."""
    found = []
    for i, group in enumerate(groups):
        near = [j for j, other in enumerate(groups) if other == group]
        rows = [[score(one[at, i, i], some[at]) for at in range(len(cosine))]
                for one, some in ((cosine, cosine[:, i, near]), (cosine, cosine[:, near, i]))]  # fmt: skip
        found.append(np.mean(rows, 0))
    return np.stack(found, axis=1)


MEASURES = {
    alike.NEAREST: lambda own, some: (own > some.max() - 1e-7) / (some > some.max() - 1e-7).sum() - 1 / len(some),
    alike.CORRECTED: lambda own, some: own - (some.sum() - own) / (len(some) - 1),
    "mid-rank": lambda own, some: (np.sign(own - some) * (abs(own - some) > 1e-7)).sum() / (len(some) - 1) / 2,
}


def means(cosine, groups):
    """By measure, of one group: by layer."""
    found = {name: within(cosine, groups, score).mean(1) for name, score in MEASURES.items()}
    return found | {alike.RELEASED: within(cosine, [""] * len(groups), MEASURES[alike.CORRECTED]).mean(1)}


def test_similarity_values(both):
    """Claims, their controls and the curves."""
    model, oracle = both
    pairs, near = number_pairs(), {"atol": 2e-5}
    groups, cosine, match = [p.group for p in pairs], cosines(oracle, pairs), np.arange(len(pairs))
    want = means(cosine, groups)
    table, claims = core.run(alike.Alike(), model, pairs, series="numbers", seed=3)
    names = (alike.NEAREST, alike.CORRECTED, alike.RELEASED)
    assert [(claim.claim, claim.reading) for claim in claims] == [("similarity/numbers", name) for name in names]
    rows = oracle.module.get_input_embeddings().weight.detach().numpy()
    bags = [[rows[oracle.ids(getattr(pair, side))[0]].mean(0) for pair in pairs] for side in "ab"]
    a, b = (np.array(bag) / np.linalg.norm(bag, axis=1, keepdims=True) for bag in bags)
    overlap = means((a @ b.T)[None], groups)
    for claim, name in zip(claims, names, strict=True):
        np.testing.assert_allclose(claim.values, want[name], **near)
        assert claim.n == len(pairs) and claim.n_units == len(NUMBERS) and [*claim.contrasts] == list(SHAPE)
        assert set(claim.controls) == {"embedding layer", alike.OVERLAP, "random weights"}
        np.testing.assert_allclose(claim.controls[alike.OVERLAP].values, np.repeat(overlap[name], 4), **near)
        for name_, others in zip(SHAPE, ([0], [-1]), strict=True):
            apart = np.mean(claim.values[1:3]) - np.array(claim.values)[others].mean()
            assert claim.contrasts[name_].value == pytest.approx(apart)
    nearest = [(cosine.argmax(axis) == match).mean(1) for axis in (1, 2)]
    matches = cosine[:, match, match].mean(1)
    chance = np.mean([1 / groups.count(group) for group in groups])
    curves = {"retrieval": want[alike.NEAREST] + chance, "retrieval-all": np.mean(nearest, 0), "cosine": matches}
    curves |= {"mid-rank": want["mid-rank"], "baseline-gain": want[alike.RELEASED] - want[alike.CORRECTED]}
    for name, value in curves.items():
        np.testing.assert_allclose(values(table, name), value, **near)
    others = values(table, "cosine", control="other partners")
    np.testing.assert_allclose(others, matches - want[alike.CORRECTED], **near)
    metric = np.cov(oracle.module.lm_head.weight.detach().numpy().T)
    sides = [oracle.last([getattr(pair, side) for pair in pairs]) for side in "ab"]
    lengths = [np.sqrt(np.einsum("ilh,hk,ilk->il", x, metric, x)) for x in sides]
    turned = np.einsum("ilh,hk,jlk->lij", sides[0], metric, sides[1])
    turned = turned / lengths[0].T[:, :, None] / lengths[1].T[:, None]
    np.testing.assert_allclose(values(table, "causal"), means(turned, groups)[alike.CORRECTED], atol=1e-4)
    spaces = table[table.experiment.isin(["retrieval", "neighbours", "cka"]) & table.control.isna()]
    assert (spaces.null_high.notna() == spaces.layer.between(1, model.n_layers - 1)).all()
    beside = table[table.control == "random weights"].experiment.unique()
    assert {*beside} == {"similarity", "retrieval", "mid-rank", "calibrated"}, (
        "nothing that depends on how many are read"
    )
    with pytest.raises(SemhubError, match="3 pairs"):
        core.run(alike.Alike(), model, pairs[:3], series="x")


SHAPE = ("first layers", "last layer")


def test_relation_values(both):
    model, oracle = both
    pairs = number_pairs()
    first = [p.a[0] for p in pairs]
    relation = np.array([[0 if p is q else 1 + (p.a[0] != q.a[0]) for q in pairs] for p in pairs])
    related = alike.Related(relation, ("same", "first", "other", "never"))
    table, _ = core.run(related, model, pairs, series="n", seed=1)
    cosine = cosines(oracle, pairs)
    for index, name in enumerate(("same", "first", "other")):
        rows = [cosine[:, i, of].mean(1) for i, of in enumerate(relation == index) if of.any()]
        np.testing.assert_allclose(values(table, "relations", name), np.mean(rows, 0), atol=2e-5)
    assert "never" not in set(table.series) and len(set(first)) == len(NUMBERS)


# ---- lens ----


@pytest.mark.parametrize("reading", ["normed", "raw"])
def test_lens_values(both, reading):
    model, oracle = both
    items = number_items()
    of = {w: one_token_forms(model.tokenizer, w, items[0].prompt) for w in (*NUMBERS, *NUMBERS.values())}
    assert all(of[d] for d in NUMBERS), "the digits are tokens"
    kept = [i for i in items if of[i.targets["word"][0]]]
    assert 4 <= len(kept) < len(items), "some words are one token, some are several"
    table, claims = core.run(words.Lens("word", "digit"), model, items, series="n", readings=(reading,), twins=())
    claims = {claim.experiment: claim for claim in claims}
    assert claims["lens-meaning"].n == len(kept)
    assert sum(claims["lens-meaning"].dropped.values()) == len(items) - len(kept)
    rows, matrix = defaultdict(list), oracle.module.lm_head.weight.detach()
    for item in kept:
        states = oracle.states(item.prompt)[:, -1]
        logprob = oracle.read(states, reading)
        word = {w: logprob[:, ids].logsumexp(-1) for w, ids in of.items() if ids}
        hub, own = word[item.targets["word"][0]], word[item.targets["digit"][0]]
        alone = oracle.normed(matrix[of[item.targets["digit"][0]]].mean(0))
        gaps = []
        for name, logs in (("digit", logprob), ("digit", alone[None]), ("word", alone[None])):
            mass = {w: logs[:, ids].logsumexp(-1) for w, ids in of.items() if ids}
            rest = torch.stack([mass[w] for w in item.wrong[name] if w in mass]).mean(0)
            gaps.append(mass[item.targets[name][0]] - rest)
        rows["own row"].append(gaps[0] * gaps[2] / gaps[1])
        wrong = [w for w in item.wrong["word"] if w in word]
        others = torch.stack([word[w] for w in wrong])
        rows["meaning"].append(hub - others.mean(0))
        rows["lead"].append(torch.minimum(rows["meaning"][-1], hub - own))
        rows["right"].append(hub.exp())
        rows["wrong"].append(others.exp().mean(0))
        tops = logprob.argmax(-1).tolist()
        rows["first"].append(torch.tensor([float(top in of[item.targets["digit"][0]]) for top in tops]).double())
        rows["wrong first"].append(torch.tensor([np.mean([top in of[w] for w in wrong]) for top in tops]).double())
        rows["entropy"].append(-(logprob.exp() * logprob).sum(-1))
        normed = oracle.read(states, "normed")[:, of[item.targets["word"][0]]].exp().sum(-1)
        rows["gap"].append(normed - rows["right"][-1])
    want = {name: torch.stack(some).mean(0).numpy() for name, some in rows.items()}
    np.testing.assert_allclose(claims["lens-meaning"].values, want["meaning"], atol=5e-4)
    np.testing.assert_allclose(claims["lens-lead"].values, want["lead"], atol=5e-4)
    np.testing.assert_allclose(values(table, "lens-probability", "word"), want["right"], rtol=1e-3)
    np.testing.assert_allclose(values(table, "lens-probability", "wrong word"), want["wrong"], rtol=1e-3)
    np.testing.assert_allclose(values(table, "lens-first", "digit"), want["first"], atol=1e-9)
    np.testing.assert_allclose(values(table, "lens-first", "wrong word"), want["wrong first"], atol=1e-9)
    np.testing.assert_allclose(values(table, "lens-entropy"), want["entropy"], atol=1e-3)
    assert ("lens-gap" in set(table.experiment)) == (reading == "raw")
    if reading == "raw":
        gap = values(table, "lens-gap", "word")
        np.testing.assert_allclose(gap, want["gap"], atol=1e-5)
        assert gap[-1] == 0 and abs(gap[:-1]).min() > 0
    assert claims["lens-end"].layers == (model.n_layers,)
    named = {name: [*claim.controls] for name, claim in claims.items()}
    ends = ["embedding layer", "last layer"]
    assert named == {"lens-meaning": [*ends, words.OWN_ROW], "lens-lead": ends, "lens-end": []}
    control = claims["lens-meaning"].controls[words.OWN_ROW]
    np.testing.assert_allclose(control.values, want["own row"], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(control.margin.values, want["meaning"] - want["own row"], rtol=1e-3, atol=1e-3)


def item_of(word, digit="5", wrong=("seven", "nine", "the")):
    return LensItem(f"{word}{digit}", "8=3+", {"word": (word,), "digit": (digit,)}, word, wrong={"word": wrong})


def lens_of(model, items):
    return core.run(words.Lens("word", "digit"), model, items, series="n", twins=())


def test_lens_drops_and_counts(tiny):
    """A word of several tokens, a word equal in both types, one without a rival, and two of one first token go, each
    with its reason."""
    model = tiny("llama")
    pieces = model.tokenizer.tokenize("8=3+ homeward"), model.tokenizer.tokenize("8=3+ homely")
    assert not {x for x, y in zip(*pieces, strict=False) if x == y} <= {*model.tokenizer.tokenize("8=3+")}
    items = [item_of("the", wrong=("cat",)), item_of("homeward"), item_of("5"), item_of("the", "3", ("homeward",))]
    _, claims = lens_of(model, [*items, item_of("homely")])
    assert claims[0].n == 1
    assert claims[0].dropped == {
        "no single token of its own for the word": 2,
        "word and digit are the same word": 1,
        "no wrong word to compare with": 1,
    }


def test_a_word_that_is_named_often_counts_so(tiny):
    """The mean over wrong words weighs each as often as the item names it."""
    wrong = (("cat",), ("dog",), ("cat", "cat", "cat", "dog"))
    one, other, both = (np.array(lens_of(tiny("llama"), [item_of("the", wrong=of)] * 3)[1][0].values) for of in wrong)
    np.testing.assert_allclose(both, one * 0.75 + other * 0.25, atol=1e-6)


def test_task_values(both):
    model, oracle = both
    items = number_items()
    tops = [int(oracle.logits(oracle.ids(item.prompt))[-1].argmax()) for item in items]
    said = [model.tokenizer.decode([top]).strip() for top in tops]
    told = [
        k for k, top in enumerate(tops) if said[k] and top in one_token_forms(model.tokenizer, said[k], items[k].prompt)
    ]
    for k in told[::2]:  # what it does say is right
        items[k] = LensItem("told", items[k].prompt, {"digit": (said[k],)}, "c")
    want = [
        top in one_token_forms(model.tokenizer, i.targets["digit"][0], i.prompt)
        for top, i in zip(tops, items, strict=True)
    ]
    assert False in want and (True in want or not told)
    assert words.task_table(model, items, own="digit", series="n").value.tolist() == want


def test_lens_grid_values(both):
    model, oracle = both
    [grid] = regions.lens_grid(model, {"english": "the cat sat"}, ["the", "cat"], top_k=3)
    states = oracle.states("the cat sat")
    assert grid["tokens"] == [model.tokenizer.decode([i]) for i in model.tokenizer("the cat sat")["input_ids"]]
    for reading, position in itertools.product(("normed", "raw"), range(states.shape[1])):
        for layer, logprob in enumerate(oracle.read(states[:, position], reading)):
            top, shown = logprob.topk(3), {name: of[layer, position] for name, of in grid["readings"][reading].items()}
            assert shown["ids"].tolist() == top.indices.tolist()
            np.testing.assert_allclose(shown["probs"], top.values.exp().numpy(), rtol=1e-3)
            assert shown["entropy"] == pytest.approx(-(logprob.exp() * logprob).sum().item(), abs=1e-3)
            assert set(top.indices.tolist()) <= set(grid["vocab"])


# ---- trajectories ----


def apart(points, others):
    return np.linalg.norm(points[:, None] - others[None], axis=-1)


def test_trajectory_values(both):
    """Axes may point either way: what is compared are distances in the plane."""
    model, oracle = both
    items, rows = number_items(), {"digit": tuple(NUMBERS), "word": tuple(NUMBERS.values())}
    table, [claim] = core.run(words.Trajectory(rows, "word", "digit"), model, items, series="n")
    ids = {w: one_token_forms(model.tokenizer, w, items[0].prompt) for w in rows["digit"] + rows["word"]}
    kept = [w for w in ids if ids[w]]
    drawn = table[table.experiment == "trajectory-word"].set_index("word")
    assert set(drawn.index) == set(kept) and 2 < len(kept) < len(NUMBERS) * 2
    shown = drawn.loc[kept, ["x", "y"]].to_numpy(float)
    matrix = oracle.module.lm_head.weight.detach()[[ids[w][0] for w in kept]].numpy()
    matrix = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    plane = np.linalg.svd(matrix - matrix.mean(0))[2][:2].T
    flat = (matrix - matrix.mean(0)) @ plane
    np.testing.assert_allclose(apart(shown, shown), apart(flat, flat), atol=1e-4)
    norm = oracle.module.model.norm if hasattr(oracle.module, "model") else oracle.module.transformer.ln_f
    hub, gains = [k for k, w in enumerate(kept) if w in rows["word"]], []
    for item in items:
        with torch.no_grad():
            normed = norm(oracle.states(item.prompt)[:, -1]).numpy()
        normed = normed / np.linalg.norm(normed, axis=1, keepdims=True)
        far = apart((normed - matrix.mean(0)) @ plane, flat)
        path = table[(table.experiment == "trajectory-path") & (table.series == item.id)].sort_values("layer")
        np.testing.assert_allclose(apart(path[["x", "y"]].to_numpy(float), shown), far, atol=1e-3)
        if (word := item.targets["word"][0]) in kept:
            own = kept.index(word)
            gains.append(far[:, [k for k in hub if k != own]].mean(1) - far[:, own])
    np.testing.assert_allclose(claim.values, np.mean(gains, 0), atol=1e-3)
    assert claim.n == len(gains)
    assert claim.dropped == {"no single token of its own for a word": len(items) - len(gains)}


# ---- traps ----


def test_norm_trap_values(tiny):
    model = tiny("llama")
    oracle = Oracle("llama", model.module, model.tokenizer)
    prompts = ["three plus five", "8=3+", "el perro"]
    table = traps.norm_trap(model, prompts)
    want = {"normed once": [], "raw": [], "normed twice": []}
    for prompt in prompts:
        states = oracle.states(prompt)[:, -1]
        own = int(oracle.logits(oracle.ids(prompt))[-1].argmax())
        with torch.no_grad():
            twice = [oracle.normed(oracle.module.model.norm(h)) for h in states]
        for name, rows in zip(want, (oracle.read(states, "normed"), oracle.read(states, "raw"), twice), strict=True):
            want[name].append([row[own].item() for row in rows])
    for name, rows in want.items():
        np.testing.assert_allclose(values(table, "norm-trap", name), np.mean(rows, 0), atol=2e-4)


@pytest.mark.parametrize("name", ["llama", "gpt2", "bloom", "opt-projected", "gemma2"])
def test_padding_trap_knows_right_from_wrong(tiny, name):
    model = tiny(name)
    table = traps.padding_trap(model, ["three plus five", "8=3+"], pads=(1, 3)).set_index(["series", "strength"])
    assert (table.n == 2).all()
    assert table.value["right"].max() < 1e-5 and table.value["left, masked"].max() < 1e-5
    assert table.value["left, not masked"].min() > 0.01
    traps.norm_trap(model, ["three plus five", "8=3+"])


def test_punctuation_trap_values(both):
    model, oracle = both
    forms = [("3", "2", "a"), ("3", "2", "b"), ("5", "7", "c"), ("9", "8", "d")]  # the first two mean one thing
    pairs = [Pair(c, f"{a}+{b}", f"{NUMBERS[a]} plus {NUMBERS[b]}", "g", cluster=a, anchor=b) for a, b, c in forms]
    table, [claim] = core.run(alike.Punctuation(), model, pairs, series="")
    want = []
    for name, end in (("as they are", ""), ("both end in a full stop", ".")):
        want.append(cosines(oracle, pairs, end)[:, range(4), [2, 2, 3, 0]].mean(1))
        np.testing.assert_allclose(values(table, "punctuation-trap", name), want[-1], atol=2e-5)
    np.testing.assert_allclose(claim.values, want[1] - want[0], atol=4e-5)
    beside, [judged] = core.run(alike.Punctuation(), model, pairs, series="", shown={"same": model}, twins=())
    drawn = beside[(beside.series == "as they are") & (beside.control == "same")]
    np.testing.assert_allclose(drawn.value, want[0], atol=2e-5)  # a model that decides nothing is drawn, no more
    assert "same" not in judged.controls and "random weights" in claim.controls
    with pytest.raises(SemhubError, match="one thing"):
        core.run(alike.Punctuation(), model, pairs[:2], series="")


# ---- steering ----


@pytest.mark.parametrize(
    ("continuation", "expected", "yes"),
    [("4+1", "4+1", True), (" 4 + 1", "4+1", True), ("4+12", "4+1", False), ("14+1", "4+1", False),
     ("4+", "4+1", False), ("rojo y", "rojo", True), ("rojos", "rojo", False), (" red", "red", True),
     ("绿色的", "绿色", True), ("", "a", False)],
)  # fmt: skip
def test_what_counts_as_said(continuation, expected, yes):
    assert says(continuation, expected) == yes


def test_first_words_against_generation_one_by_one(tiny):
    model, texts = tiny("llama"), ["the dog saw the", "three plus", "el perro"]
    oracle, stop = Oracle("llama", model.module, model.tokenizer), model.module.generation_config.eos_token_id
    nothing, wanted = torch.zeros(model.hidden_size), []
    for text in texts:
        ids = oracle.continuation(text, 1, nothing, -1, 1.0, 3)
        said = model.tokenizer.decode(ids[: ids.index(stop)] if stop in ids else ids, skip_special_tokens=True)
        wanted.append(re.sub(r"^[.,:;!?\"']+|[.,:;!?\"']+$", "", said.split()[0]) if said.split() else "")
    assert core.first_words(model, texts, most=3) == wanted and any(wanted)


def test_no_word_is_said_where_prompt_and_answer_do_not_fit(tokenizers):
    model = wrap(make_module("llama", max_position_embeddings=12), tokenizers("byte"), model_id="short")
    lengths = {text: len(model.encode([text])[0]) for text in ("the dog", "the dog saw the")}
    room = model.max_length - lengths["the dog"]
    assert lengths["the dog saw the"] + room > model.max_length
    first, none = core.first_words(model, [*lengths], most=room)
    assert none == "" and [first] == core.first_words(model, ["the dog"], most=room)


def test_steering_counts_against_generation_one_by_one(tiny):
    """Counts at every strength; what is "expected" is what the model says at layer 2, strength 2, so that some is."""
    model = tiny("llama")
    oracle = Oracle("llama", model.module, model.tokenizer)
    texts = [f"{a}+{b}" for a, b in itertools.permutations(NUMBERS, 2)][:8]
    toward, away = ["the dog saw the", "three plus"] * 4, ["el perro", "the cat sat on"] * 4
    difference = [oracle.states(t)[:, -1] - oracle.states(f)[:, -1] for t, f in zip(toward, away, strict=True)]

    def say(k, read, add, strength, vector=None):
        ids = oracle.continuation(texts[k], add, difference[k][read] if vector is None else vector, -1, strength, 3)
        stop = model.module.generation_config.eos_token_id
        return model.tokenizer.decode(ids[: ids.index(stop)] if stop in ids else ids, skip_special_tokens=True)

    expected = [say(k, 2, 2, 2.0) if k % 2 else "never" for k in range(8)]
    items = [
        SteerItem(str(k), texts[k], toward[k], away[k], expected[k], say(k, 1, 1, 0.0), cluster=str(k // 2))
        for k in range(8)
    ]
    strengths = (0.0, 1.0, 2.0)
    push = Steering(strengths=strengths, max_new_tokens=3)
    table, claims = core.run(push, model, items, series="n", seed=1)
    halves = split_items(items, 1, clusters=[i.cluster for i in items], share=0.25)
    clusters = [{item.cluster for item in half} for half in halves]
    assert not clusters[0] & clusters[1] and len(clusters[0] | clusters[1]) == 4  # disjoint, nothing lost
    layer = claims[0].layers[0]
    best = {
        at: max(np.mean([says(say(int(i.id), at, at, s), i.expected) for i in halves[0]]) for s in strengths[1:])
        for at in (1, 2)
    }
    assert layer == max(best, key=best.get)
    direction = torch.randn(3, model.hidden_size, generator=torch.Generator().manual_seed(1))[0]
    for of, control in (("steered", ""), ("random", "random direction")):
        rows = table[(table.experiment == "steering-choice") & (table.control.fillna("") == control)]
        for at, s in itertools.product((1, 2), strengths):
            said = []
            for item in halves[0]:
                k = int(item.id)
                away = direction / direction.norm() * difference[k][at].norm() if of == "random" else None
                said.append((says(say(k, at, at, s, vector=away), item.expected), item.cluster))
            [row] = rows[(rows.layer == at) & (rows.strength == s)].to_dict("records")
            assert row["value"] == pytest.approx(np.mean([right for right, _ in said])) and row["n"] == len(said)
            by = [[right for right, c in said if c == cluster] for cluster in clusters[0]]
            if len(by) == 1:  # nothing else to draw: the interval is the one mean
                assert row["low"] == row["high"] == pytest.approx(row["value"])
    dose = table[table.experiment == "steering-dose"]
    ways = {
        ("corrected", "steered"): (layer, 1),
        ("as released", "steered"): (layer + 1, 1),
        ("corrected", "reversed"): (layer, -1),
        ("corrected", "wrong layer"): (layer % 3 + 1, 1),  # one of three layers on
    }
    drawn = torch.randn(3, model.hidden_size, generator=torch.Generator().manual_seed(1))
    said = [
        says(say(k, layer, layer, 2.0, vector=d / d.norm() * difference[k][layer].norm()), expected[k])
        for d in drawn
        for k in (int(item.id) for item in halves[1])
    ]
    pushed = dose[(dose.condition == "random direction") & (dose.series == "expected") & (dose.strength == 2)]
    assert pushed.value.item() == pytest.approx(np.mean(said))
    found = 0
    for (reading, condition), (add, sign) in ways.items():
        rows = dose[(dose.reading == reading) & (dose.condition == condition)]
        for s in strengths:
            said = [(say(int(i.id), layer, add, sign * s), i) for i in halves[1]]
            right = [says(t, i.expected) for t, i in said]
            same = [says(t, i.original) and not r for (t, i), r in zip(said, right, strict=True)]
            got = rows[rows.strength == s].set_index("series").value
            assert got["expected"] == pytest.approx(np.mean(right))
            assert got["unchanged"] == pytest.approx(np.mean(same))
            assert got.sum() == pytest.approx(1)
            found += sum(right)
            if s == 0:  # nothing added: what the model says anyway
                assert got["unchanged"] == 1
    assert found, "the expected is said somewhere, else nothing was compared"
    assert (dose.n == len(halves[1])).all()


def test_one_cluster_cannot_be_split(tiny):
    items = [SteerItem(str(k), "8=3+", "two", "three", "a", "b", cluster="one") for k in range(4)]
    _, claims = core.run(Steering(), tiny("llama"), items, series="n")
    assert {judge(c).verdict for c in claims} == {UNTESTABLE}
    assert all(c.dropped == {"too few to choose a layer on": 4} for c in claims)


# ---- truth put in by hand ----


def planted_steering(targets):
    return [
        SteerItem(str(k), f"d{k}", f"w{j}", f"w{k}", f"d{j}", f"d{k}", cluster=str(k)) for k, j in enumerate(targets)
    ]


@pytest.mark.parametrize(("shared", "verdict"), [(True, HOLDS), (False, NOT)])
def test_a_planted_hub_is_found_and_its_absence_is_not(shared, verdict):
    model, moved = two_worlds(shared), [(k + 7) % N for k in range(N)]
    _, similar = core.run(alike.Alike(), two_worlds(shared, parting=True), word_pairs(), series="n")
    _, (meaning, end, lead) = core.run(words.Lens("word", "digit"), model, word_items(), series="n")
    _, pushed = core.run(Steering(max_new_tokens=1), model, planted_steering(moved), series="n")
    assert [judge(claim).verdict for claim in (*similar, meaning, lead, pushed[0])] == [verdict] * 6
    assert words.task_table(model, word_items(), own="digit", series="n").value.eq(1).all()
    if shared:
        assert judge(end).verdict == HOLDS and pushed[0].layers == (1,)
        assert similar[0].values[1] > 0.9 > abs(similar[0].values[0]) and judge(similar[0]).where == ("middle",)


def test_what_rises_and_stays_is_no_hub():
    """As alike at the last layer as between the blocks: nothing says that a middle layer is where they meet."""
    _, claims = core.run(alike.Alike(), two_worlds(True), word_pairs(), series="n")
    assert claims[0].values[1] > 0.9 and claims[0].p[1] < 0.01
    assert (judge(claims[0]).verdict, judge(claims[0]).by) == (EXPLAINED, "last layer")


def of_one_form(model, size):
    """Block 1 gives all that is read one thing more, of its form: of every third meaning the same."""
    width, eye = 4 * N, torch.eye(4 * N)
    with torch.no_grad():
        first = model.module.model.layers[0].self_attn.o_proj.weight
        for k in range(N):
            for token in (k, N + k):
                first += size * torch.outer(eye[3 * N + k % 3], eye[token]) / width**0.5
    return [replace(pair, group=f"form {k % 3}") for k, pair in enumerate(word_pairs())]


def test_what_is_alike_by_form_alone_is_no_similarity():
    """Eq. 1 against all others is far above 0, and so is the nearest of all; the nearest of its form is not."""
    model = two_worlds(False, parting=True)
    table, (nearest, _, released) = core.run(alike.Alike(), model, of_one_form(model, 4.0), series="n")
    assert released.low[1] > 0.2 and abs(nearest.values[1]) < 0.05
    assert judge(nearest).verdict in (NOT, INCONCLUSIVE) and judge(released).verdict not in (HOLDS, WEAKLY)
    everyone = values(table, "retrieval-all")[1]
    assert everyone > 1.5 / N > values(table, "retrieval-all")[0]


def test_squeezed_states_are_as_near_as_others():
    """All states lie in one direction, as a trained model's do: the cosine has little left to say, the order all."""
    found = {}
    for size in (0.0, 3.0):
        model = two_worlds(True, parting=True)
        with torch.no_grad():
            model.module.model.embed_tokens.weight += size * torch.eye(4 * N)[3 * N]
        _, found[size] = core.run(alike.Alike(), model, word_pairs(), series="n")
    (nearest, corrected, _), (squeezed, small, _) = found.values()
    assert small.values[1] < 0.2 * corrected.values[1]
    assert squeezed.values[1] == pytest.approx(nearest.values[1], abs=0.05) and judge(squeezed).verdict == HOLDS
    assert squeezed.controls["random weights"].seeds == core.TWINS


def test_words_in_common_explain_what_they_make_alike():
    """A text and its partner begin with the same token, which the others of the form have not; nothing is shared but
    that. Bags of words tell it, and the embedding of the last token does not."""
    pairs = [Pair(str(k), f"d{k} d0", f"d{k} w0", "g", cluster=str(k)) for k in range(1, N)]
    _, [claim, *_] = core.run(alike.Alike(), two_worlds(False), pairs, series="n")
    assert claim.values[1] > 0.9 and claim.p[1] < 0.01 and abs(claim.values[0]) < 0.01
    assert claim.controls[alike.OVERLAP].values[1] > 0.9 and claim.controls[alike.OVERLAP].margin.low[1] <= 0
    assert judge(claim).verdict == EXPLAINED


def test_what_the_own_token_brings_along_is_no_meaning():
    """Rows of translations are alike, and between the blocks a state holds the row of its own token, nothing more."""
    model = two_worlds(False)
    meaning, private = torch.eye(4 * N)[2 * N : 3 * N], torch.eye(4 * N)[3 * N :]
    with torch.no_grad():
        model.module.lm_head.weight[:N] = 4 * private
        model.module.lm_head.weight[N : 2 * N] = 2 * private + 3.5 * meaning
        last = model.module.model.layers[1].self_attn.o_proj.weight
        last.copy_(-2 * private.T @ private / (4 * N) ** 0.5)
    _, [claim, *_] = core.run(words.Lens("word", "digit"), model, word_items(), series="n")
    assert claim.low[1] > 1 and claim.p[1] < 0.01
    assert all(c.margin.low[1] > 1 for name, c in claim.controls.items() if name != words.OWN_ROW), "all else is beaten"
    assert (judge(claim).verdict, judge(claim).by) == (EXPLAINED, words.OWN_ROW)
    assert claim.controls[words.OWN_ROW].values[1] == pytest.approx(claim.values[1], rel=0.05)


def third_language(model, n=30):
    """Items of the first meanings; the words of the later ones stand for those of a third language."""
    rest = {"word": range(n), "third": range(n, 2 * n)}
    return [
        LensItem(str(k), f"d{k}", {"word": (f"w{k}",), "digit": (f"d{k}",), "third": (f"w{n + k}",)}, str(k), group="g",
                 wrong={name: tuple(f"w{j}" for j in of if j % n != k) for name, of in rest.items()})
        for k in range(n)
    ]  # fmt: skip


@pytest.mark.parametrize("alike_in_both", [False, True])
def test_a_word_of_a_third_language_that_is_as_right_explains_the_hubs(alike_in_both):
    model = two_worlds(True)
    items, hub = third_language(model), words.Lens("word", "digit")
    if alike_in_both:
        with torch.no_grad():
            model.module.lm_head.weight[N + 30 : N + 60] = model.module.lm_head.weight[N : N + 30]
    _, [claim, *_] = core.run(hub, model, items, series="n")
    _, [other, *_] = core.run(words.Lens("third", "digit"), model, items, series="n")
    np.testing.assert_allclose(claim.controls["third"].values, other.values)
    assert [*claim.controls] == ["embedding layer", "last layer", "third", words.OWN_ROW, "random weights"]
    found = judge(claim)
    assert (found.verdict, found.by) == ((EXPLAINED, "third") if alike_in_both else (HOLDS, ""))
    few = [replace(items[0], targets={**items[0].targets, "third": ("nothing of one token",)}), *items[1:]]
    _, [claim, *_] = core.run(hub, model, few, series="n", twins=())
    assert "third" not in claim.controls and claim.n == 30, "where one has no such word, none is compared"


def test_similarity_already_in_the_embeddings_is_no_hub():
    """Word and digit have the same row up to noise: found, but not above the embedding layer."""
    model = two_worlds(False)
    ends = ("embedding layer", "first layers", "last layer", alike.OVERLAP)
    with torch.no_grad():
        model.module.model.layers[0].self_attn.o_proj.weight.zero_()
        rows = model.module.model.embed_tokens.weight
        rows[:N] = rows[N : 2 * N] + 0.3 * torch.randn(rows[:N].shape, generator=torch.Generator().manual_seed(0)) / 16
    _, [claim, *_] = core.run(alike.Alike(), model, word_pairs(), series="n")
    verdict = judge(claim)
    assert verdict.verdict == EXPLAINED and claim.controls["embedding layer"].margin.low[1] <= 0, verdict
    with torch.no_grad():
        model.module.lm_head.weight[N : 2 * N] = 4 * rows[N : 2 * N]
    _, claims = core.run(words.Lens("word", "digit"), model, word_items(), series="n")
    verdicts = {c.experiment: judge(c) for c in claims}
    for name in ("lens-meaning", "lens-lead"):
        assert verdicts[name].verdict == EXPLAINED and verdicts[name].by in ends, verdicts[name]
    same = [Pair(str(k), f"d{k}", f"d{k}", "g", cluster=str(k)) for k in range(N)]
    _, [claim, *_] = core.run(alike.Alike(), two_worlds(False), same, series="n")
    assert min(claim.values) > 0.9 and claim.p[1] < 0.01


def test_answers_that_are_likely_words_anyway_are_no_lead():
    """Block 1 makes the ten answers likelier than the fifty other words and the own digit, whatever is read."""
    model = two_worlds(False)
    first, rows = model.module.model.layers[0].self_attn.o_proj.weight, torch.eye(4 * N)
    with torch.no_grad():
        first += 4 * torch.outer(rows[2 * N : 2 * N + 10].sum(0), rows[:N].sum(0)) / (4 * N) ** 0.5
    items = [
        LensItem(i.id, i.prompt, i.targets | {"word": (f"w{k % 10}",)}, i.cluster,
                 wrong={"word": tuple(f"w{j}" for j in range(N) if j != k % 10)}, group="g", anchor=f"w{k % 10}")
        for k, i in enumerate(word_items())
    ]  # fmt: skip
    _, claims = core.run(words.Lens("word", "digit"), model, items, series="n")
    [lead] = [claim for claim in claims if claim.experiment == "lens-lead"]
    assert lead.low[1] > 0.5, "it does lead, in every item: flipped signs alone would be fooled"
    assert judge(lead).verdict == INCONCLUSIVE and lead.p[1] > 0.05


def test_a_push_that_always_says_one_thing_is_no_understanding():
    """All are steered to w0, and a third happens to expect d0."""
    targets = [0 if k % 3 == 0 else (k * 7 + 1) % N for k in range(N)]
    items = [
        SteerItem(i.id, i.prompt, "w0", i.away, i.expected, i.original, i.cluster) for i in planted_steering(targets)
    ]
    table, claims = core.run(Steering(max_new_tokens=1), two_worlds(True), items, series="n")
    dose = table[(table.experiment == "steering-dose") & (table.series == "expected") & (table.condition == "steered")]
    assert dose.value.max() > 0.2  # it is right as often as that
    assert judge(claims[0]).verdict in (NOT, INCONCLUSIVE) and claims[0].p[0] > 0.05


def test_random_weights_never_hold():
    """Nothing was learned, so nothing may be found, whatever the seed."""
    tokenizer = two_worlds(True).tokenizer
    weak = {}
    for seed in range(8):
        sizes = {"vocab_size": 2 * N + 1, "bos_token_id": None, "eos_token_id": None}
        model = wrap(make_module("gpt2" if seed % 2 else "llama", seed=seed, **sizes), tokenizer, model_id="random")
        options = {"series": "n", "seed": seed}
        found = [
            *core.run(alike.Alike(), model, word_pairs(), **options)[1],
            *core.run(words.Lens("word", "digit"), model, word_items(), **options)[1],
        ]
        for claim in found:
            if claim.experiment != "lens-end":  # a tied model may well write what it just read
                verdict = judge(claim).verdict
                assert verdict != HOLDS, (claim.claim, seed, judge(claim).reason)
                weak[claim.experiment] = weak.get(claim.experiment, 0) + (verdict == WEAKLY)
    assert max(weak.values()) <= 3, weak  # 0.4 expected of 8 at p < .05; more than 3 has probability .0004

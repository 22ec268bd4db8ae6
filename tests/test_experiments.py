"""The experiments against plain transformers one prompt at a time, and on models whose truth was put in by hand."""

import itertools
import math

import numpy as np
import pytest
import torch
from architectures import make_module
from oracle import Oracle
from planted import N, two_worlds, word_items, word_pairs

from semhub_utils.errors import SemhubError
from semhub_utils.evidence import HOLDS, NOT, UNTESTABLE, WEAKLY, judge, split_items
from semhub_utils.experiments import alike, core, traps, words
from semhub_utils.experiments.interventions import Steering, says
from semhub_utils.experiments.words import lens_grid
from semhub_utils.models import wrap
from semhub_utils.spokes.items import LensItem, Pair, SteerItem

NUMBERS = {"3": "three", "5": "five", "8": "eight", "9": "nine", "2": "two", "7": "seven"}


def values(table, experiment, series=None, **where):
    """The measured curve of an experiment, ordered by layer."""
    chosen = table[table.experiment == experiment]
    if series is not None:
        chosen = chosen[chosen.series == series]
    if "control" in chosen:
        chosen = chosen[chosen.control.fillna("") == ""]
    for name, value in where.items():
        chosen = chosen[chosen[name] == value]
    return chosen.sort_values("layer").value.to_numpy(float)


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def both(request, tiny):
    model = tiny(request.param)
    return model, Oracle(request.param, model.module, model.tokenizer)


def number_pairs():
    sums = list(itertools.permutations(NUMBERS, 2))[::2]
    return [Pair(f"{a}+{b}", f"{a}+{b}", f"{NUMBERS[a]} plus {NUMBERS[b]}", "g", cluster=a, anchor=b) for a, b in sums]


def number_items():
    """Lens items of one sum each; the answer is the right operand."""
    found = []
    for a, b in list(itertools.permutations(NUMBERS, 2))[::3]:
        wrong = {"word": tuple(w for d, w in NUMBERS.items() if d != b), "digit": tuple(d for d in NUMBERS if d != b)}
        targets = {"word": (NUMBERS[b],), "digit": (b,)}
        found.append(LensItem(f"{a}+{b}", f"8={a}+", targets, cluster=a, wrong=wrong, group="+", anchor=b))
    return found


def last_states(oracle, texts):
    return np.stack([oracle.states(text)[:, -1].numpy() for text in texts])  # item layer hidden


def cosine(x, y):
    return float(x @ y / math.sqrt((x @ x) * (y @ y)))


# ---- similarity ----


def test_similarity_values(both):
    model, oracle = both
    pairs = number_pairs()
    table, [claim] = core.run(alike.Alike(), model, pairs, series="numbers", seed=3)
    a, b = last_states(oracle, [p.a for p in pairs]), last_states(oracle, [p.b for p in pairs])
    n = len(pairs)
    for layer in range(model.n_layers + 1):
        cos = np.array([[cosine(a[i, layer], b[j, layer]) for j in range(n)] for i in range(n)])
        off = ~np.eye(n, dtype=bool)
        want = cos.diagonal().mean() - cos[off].mean()
        assert claim.values[layer] == pytest.approx(want, abs=2e-5)
        assert values(table, "similarity")[layer] == claim.values[layer]
        nearest = ((cos.argmax(0) == np.arange(n)).mean() + (cos.argmax(1) == np.arange(n)).mean()) / 2
        assert values(table, "retrieval")[layer] == pytest.approx(nearest, abs=1e-6)
    assert set(claim.controls) == {"embedding layer", "random weights"}
    assert set(claim.controls["embedding layer"].values) == {claim.values[0]}
    assert claim.n == n and claim.n_clusters == len(NUMBERS)
    assert {"retrieval", "neighbours", "cka", "similarity"} == set(table.experiment)


def test_relation_values(both):
    model, oracle = both
    pairs = number_pairs()
    n = len(pairs)
    first = [p.a[0] for p in pairs]
    relation = np.array([[0 if i == j else 1 + (first[i] != first[j]) for j in range(n)] for i in range(n)])
    related = alike.Related(relation, ("same", "first", "other", "never"))
    table, _ = core.run(related, model, pairs, series="n", seed=1)
    a, b = last_states(oracle, [p.a for p in pairs]), last_states(oracle, [p.b for p in pairs])
    for index, name in enumerate(("same", "first", "other")):
        for layer in range(model.n_layers + 1):
            rows = [
                np.mean([cosine(a[i, layer], b[j, layer]) for j in range(n) if relation[i, j] == index])
                for i in range(n)
                if (relation[i] == index).any()
            ]
            assert values(table, "relations", name)[layer] == pytest.approx(np.mean(rows), abs=2e-5)
    assert "never" not in set(table.series)


def test_too_few_pairs(tiny):
    with pytest.raises(SemhubError, match="3 pairs"):
        core.run(alike.Alike(), tiny("llama"), number_pairs()[:3], series="x")


# ---- lens ----


def one_token_forms(model, word, context):
    """Asked of the tokenizer directly: ids of the forms of a word that are one token after the context."""
    before = model.tokenizer(context)["input_ids"]
    after = [model.tokenizer(context + space + word)["input_ids"] for space in ("", " ")]
    return {ids[-1] for ids in after if len(ids) == len(before) + 1 and ids[:-1] == before}


@pytest.mark.parametrize("reading", ["normed", "raw"])
def test_lens_values(both, reading):
    model, oracle = both
    items = number_items()
    table, claims = core.run(words.Lens("word", "digit"), model, items, series="n", readings=(reading,), twins=())
    claims = {claim.experiment: claim for claim in claims}
    forms = {w: sorted(one_token_forms(model, w, items[0].prompt)) for w in (*NUMBERS, *NUMBERS.values())}
    assert all(forms[d] for d in NUMBERS), "the digits are tokens"
    kept = [i for i in items if forms[i.targets["word"][0]]]
    assert 4 <= len(kept) < len(items), "some words are one token, some are several"
    assert claims["lens-meaning"].n == len(kept)
    assert sum(claims["lens-meaning"].dropped.values()) == len(items) - len(kept)
    meaning, lead, right, wrong, first, wrong_first, entropy = ([] for _ in range(7))
    for item in kept:
        logprob = oracle.read(oracle.states(item.prompt)[:, -1], reading)
        word = {w: logprob[:, ids].logsumexp(-1) for w, ids in forms.items() if ids}
        hub, own = word[item.targets["word"][0]], word[item.targets["digit"][0]]
        others = torch.stack([word[w] for w in item.wrong["word"] if w in word])
        meaning.append(hub - others.mean(0))
        lead.append(torch.minimum(meaning[-1], hub - own))
        right.append(hub.exp())
        wrong.append(others.exp().mean(0))
        first.append(torch.tensor([float(p.argmax()) in forms[item.targets["digit"][0]] for p in logprob]).double())
        tops = [[float(p.argmax()) in forms[w] for w in item.wrong["word"] if w in word] for p in logprob]
        wrong_first.append(torch.tensor(tops).double().mean(1))
        entropy.append(-(logprob.exp() * logprob).sum(-1))

    def mean(rows):
        return torch.stack(rows).mean(0).numpy()

    np.testing.assert_allclose(claims["lens-meaning"].values, mean(meaning), atol=5e-4)
    np.testing.assert_allclose(claims["lens-lead"].values, mean(lead), atol=5e-4)
    np.testing.assert_allclose(values(table, "lens-probability", "word"), mean(right), rtol=1e-3)
    np.testing.assert_allclose(values(table, "lens-probability", "wrong word"), mean(wrong), rtol=1e-3)
    np.testing.assert_allclose(values(table, "lens-first", "digit"), mean(first), atol=1e-9)
    np.testing.assert_allclose(values(table, "lens-first", "wrong word"), mean(wrong_first), atol=1e-9)
    np.testing.assert_allclose(values(table, "lens-entropy"), mean(entropy), atol=1e-3)
    if reading == "raw":
        normed = [oracle.read(oracle.states(item.prompt)[:, -1], "normed") for item in kept]
        of_word = [p[:, forms[item.targets["word"][0]]].exp().sum(-1) for p, item in zip(normed, kept, strict=True)]
        gap = values(table, "lens-gap", "word")
        np.testing.assert_allclose(gap, mean(of_word) - mean(right), atol=1e-5)
        assert gap[-1] == 0 and abs(gap[:-1]).min() > 0
    assert ("lens-gap" in set(table.experiment)) == (reading == "raw")
    assert claims["lens-end"].layers == (model.n_layers,) and not claims["lens-end"].controls
    for name in ("lens-meaning", "lens-lead"):
        [(control, of)] = claims[name].controls.items()
        assert control == "embedding layer" and set(of.values) == {claims[name].values[0]}


def test_lens_first_counts_every_form_of_a_word(tiny):
    """The word with its leading space comes first; the one without is what a naive reading would look for."""
    model = tiny("llama")
    prompt = "8=3+"
    forms = one_token_forms(model, "plus", prompt) | one_token_forms(model, "the", prompt)
    state = lens_grid(model, {"x": prompt}, ["the"], top_k=1)[0]
    top = state["readings"]["normed"]["ids"][:, -1, 0]
    word = model.tokenizer.decode([int(top[1])])
    if not word.strip() or not one_token_forms(model, word.strip(), prompt) & {int(top[1])}:
        word = None  # not a word: nothing to count below but the zero
    target = word.strip() if word else "the"
    wrong = "plus" if target != "plus" else "the"
    items = [LensItem("a", prompt, {"word": (target,), "digit": ("5",)}, "c", wrong={"word": (wrong,)})] * 4
    table, _ = core.run(words.Lens("word", "digit"), model, items, series="n", twins=())
    assert values(table, "lens-first", "word")[1] == (1.0 if word else 0.0)
    assert forms


def test_lens_drops_and_counts(tiny):
    """A word of several tokens, a word equal in both types and one without a rival go, each with its reason."""
    model = tiny("llama")

    def item(word, digit, wrong=("seven", "nine", "the")):
        return LensItem(f"{word}{digit}", "8=3+", {"word": (word,), "digit": (digit,)}, "c", wrong={"word": wrong})

    assert not one_token_forms(model, "homeward", "8=3+") and one_token_forms(model, "the", "8=3+")
    items = [item("the", "5", ("cat",)), item("homeward", "5"), item("5", "5"), item("the", "3", ("homeward",))]
    _, claims = core.run(words.Lens("word", "digit"), model, items, series="n", twins=())
    assert claims[0].n == 1
    assert claims[0].dropped == {
        "no single token of its own for the word": 1,
        "word and digit are the same word": 1,
        "no wrong word to compare with": 1,
    }


def test_two_words_of_one_first_token_are_not_told_apart(tiny):
    model = tiny("llama")
    pieces = model.tokenizer.tokenize("8=3+ homeward"), model.tokenizer.tokenize("8=3+ homely")
    shared = [x for x, y in zip(*pieces, strict=False) if x == y][-1]
    assert shared not in model.tokenizer.tokenize("8=3+")
    items = [
        LensItem(w, "8=3+", {"word": (w,), "digit": ("5",)}, w, wrong={"word": ("the",)})
        for w in ("homeward", "homely")
    ] + [LensItem("cat", "8=3+", {"word": ("cat",), "digit": ("5",)}, "cat", wrong={"word": ("the",)})]
    _, claims = core.run(words.Lens("word", "digit"), model, items, series="n", twins=())
    assert claims[0].n == 1 and sum(claims[0].dropped.values()) == 2


def test_task_values(both):
    model, oracle = both
    items = number_items()
    tops = [int(oracle.logits(oracle.ids(item.prompt))[-1].argmax()) for item in items]
    said = [model.tokenizer.decode([top]).strip() for top in tops]
    told = [k for k, top in enumerate(tops) if said[k] and top in one_token_forms(model, said[k], items[k].prompt)]
    for k in told[::2]:  # what it does say is right
        items[k] = LensItem("told", items[k].prompt, {"digit": (said[k],)}, "c")
    table = words.task_table(model, items, own="digit", series="n")
    want = [
        float(top in one_token_forms(model, i.targets["digit"][0], i.prompt))
        for top, i in zip(tops, items, strict=True)
    ]
    assert 0 in want and (1 in want or not told)
    assert table.value.tolist() == want


# ---- trajectories ----


def test_trajectory_values(both):
    model, oracle = both
    items = number_items()
    rows = {"digit": tuple(NUMBERS), "word": tuple(NUMBERS.values())}
    table, [claim] = core.run(words.Trajectory(rows, "word", "digit"), model, items, series="n")
    points, drawn = (table[table.experiment == f"trajectory-{kind}"] for kind in ("path", "word"))
    kept = [w for w in rows["digit"] + rows["word"] if one_token_forms(model, w, items[0].prompt)]
    assert set(drawn.word) == set(kept) and 2 < len(kept) < len(NUMBERS) * 2
    shown = drawn.set_index("word")[["x", "y"]].loc[kept].to_numpy(float)
    head = oracle.module.lm_head.weight.detach()
    forms = [model.tokenizer(items[0].prompt + w)["input_ids"][-1:] for w in kept]
    for k, w in enumerate(kept):  # the form without a space where that is one token
        if (
            len(model.tokenizer(items[0].prompt + w)["input_ids"])
            != len(model.tokenizer(items[0].prompt)["input_ids"]) + 1
        ):
            forms[k] = list(one_token_forms(model, w, items[0].prompt))[:1]
    matrix = head[[f[0] for f in forms]].numpy()
    matrix = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    centred = matrix - matrix.mean(0)
    size, axes = np.linalg.eigh(centred.T @ centred)
    plane = axes[:, np.argsort(size)[::-1][:2]]
    flat = centred @ plane
    for at in range(2):  # an axis may point either way
        assert np.allclose(flat[:, at], shown[:, at], atol=1e-4) or np.allclose(flat[:, at], -shown[:, at], atol=1e-4)
    hub = [w for w in rows["word"] if w in kept]
    gains = []
    for item in items:
        if item.targets["word"][0] not in hub:
            continue
        gain = []
        for layer, state in enumerate(oracle.states(item.prompt)[:, -1]):
            with torch.no_grad():
                normed = (
                    oracle.module.model.norm if hasattr(oracle.module, "model") else oracle.module.transformer.ln_f
                )(state).numpy()
            place = (normed / np.linalg.norm(normed) - matrix.mean(0)) @ plane
            far = {w: np.linalg.norm(place - flat[kept.index(w)]) for w in hub}
            own = far.pop(item.targets["word"][0])
            gain.append(np.mean(list(far.values())) - own)
            path = points[(points.series == item.id) & (points.layer == layer)]
            shown_far = np.hypot(*(path[["x", "y"]].to_numpy(float)[0] - shown[kept.index(hub[0])]))
            assert shown_far == pytest.approx(np.linalg.norm(place - flat[kept.index(hub[0])]), abs=1e-3)
        gains.append(gain)
    np.testing.assert_allclose(claim.values, np.mean(gains, 0), atol=1e-3)
    assert claim.n == len(gains)
    assert claim.dropped == {"no single token of its own for a word": len(items) - len(gains)}


def test_no_plane_cannot_be_tested(tiny):
    rows = {"digit": ("3", "5"), "word": ("homeward", "seaward")}
    items = [LensItem("a", "8=3+", {"word": ("homeward",), "digit": ("5",)}, "c")] * 25
    _, [claim] = core.run(words.Trajectory(rows, "word", "digit"), tiny("llama"), items, series="n")
    assert judge(claim).verdict == UNTESTABLE


# ---- running text ----


def test_lens_grid_values(both):
    model, oracle = both
    [grid] = lens_grid(model, {"english": "the cat sat"}, ["the", "cat"], top_k=3)
    states = oracle.states("the cat sat")
    assert grid["tokens"] == [model.tokenizer.decode([i]) for i in model.tokenizer("the cat sat")["input_ids"]]
    for reading, position in itertools.product(("normed", "raw"), range(states.shape[1])):
        for layer, logprob in enumerate(oracle.read(states[:, position], reading)):
            top = logprob.topk(3)
            assert grid["readings"][reading]["ids"][layer, position].tolist() == top.indices.tolist()
            np.testing.assert_allclose(
                grid["readings"][reading]["probs"][layer, position], top.values.exp().numpy(), rtol=1e-3
            )
            entropy = -(logprob.exp() * logprob).sum().item()
            assert grid["readings"][reading]["entropy"][layer, position] == pytest.approx(entropy, abs=1e-3)
            assert set(top.indices.tolist()) <= set(grid["vocab"])


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
    beside = [2, 2, 3, 0]
    for name, end in (("as they are", ""), ("both end in a full stop", ".")):
        a, b = last_states(oracle, [p.a + end for p in pairs]), last_states(oracle, [p.b + end for p in pairs])
        want = [np.mean([cosine(a[i, layer], b[j, layer]) for i, j in enumerate(beside)]) for layer in range(4)]
        np.testing.assert_allclose(values(table, "punctuation-trap", name), want, atol=2e-5)
    gain = values(table, "punctuation-trap", "both end in a full stop") - values(
        table, "punctuation-trap", "as they are"
    )
    np.testing.assert_allclose(claim.values, gain, atol=1e-6)
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
    with pytest.raises(SemhubError, match="two parts"):
        core.run(Steering(), tiny("llama"), items, series="n")


# ---- truth put in by hand ----


@pytest.fixture(scope="module")
def hub():
    return two_worlds(True)


@pytest.fixture(scope="module")
def islands():
    return two_worlds(False)


def planted_steering(targets):
    return [
        SteerItem(str(k), f"d{k}", f"w{j}", f"w{k}", f"d{j}", f"d{k}", cluster=str(k)) for k, j in enumerate(targets)
    ]


def test_planted_hub_is_found(hub):
    _, [claim] = core.run(alike.Alike(), hub, word_pairs(), series="n")
    assert judge(claim).verdict == HOLDS and claim.values[1] > 0.5 > abs(claim.values[0])
    _, claims = core.run(words.Lens("word", "digit"), hub, word_items(), series="n")
    assert {c.experiment: judge(c).verdict for c in claims} == dict.fromkeys(
        ("lens-meaning", "lens-end", "lens-lead"), HOLDS
    )
    table = words.task_table(hub, word_items(), own="digit", series="n")
    assert table.value.eq(1).all()
    moved = [(k + 7) % N for k in range(N)]
    table, claims = core.run(Steering(max_new_tokens=1), hub, planted_steering(moved), series="n")
    assert judge(claims[0]).verdict == HOLDS and claims[0].layers == (1,)


def test_planted_absence_is_not_found(islands):
    _, [claim] = core.run(alike.Alike(), islands, word_pairs(), series="n")
    assert judge(claim).verdict == NOT
    _, claims = core.run(words.Lens("word", "digit"), islands, word_items(), series="n")
    verdicts = {c.experiment: judge(c).verdict for c in claims}
    assert verdicts["lens-meaning"] == verdicts["lens-lead"] == NOT
    moved = [(k + 7) % N for k in range(N)]
    _, claims = core.run(Steering(max_new_tokens=1), islands, planted_steering(moved), series="n")
    assert judge(claims[0]).verdict == NOT
    assert words.task_table(islands, word_items(), own="digit", series="n").value.eq(1).all()


def test_similarity_already_in_the_embeddings_is_no_hub(islands):
    """Word and digit have the same row up to noise: found, but not above the embedding layer."""
    model = two_worlds(False)
    with torch.no_grad():
        model.module.model.layers[0].self_attn.o_proj.weight.zero_()
        rows = model.module.model.embed_tokens.weight
        rows[:N] = rows[N : 2 * N] + 0.3 * torch.randn(rows[:N].shape, generator=torch.Generator().manual_seed(0)) / 16
    _, [claim] = core.run(alike.Alike(), model, word_pairs(), series="n")
    verdict = judge(claim)
    assert verdict.verdict == WEAKLY and "embedding layer" in verdict.reason
    with torch.no_grad():
        model.module.lm_head.weight[N : 2 * N] = 4 * rows[N : 2 * N]
    _, claims = core.run(words.Lens("word", "digit"), model, word_items(), series="n")
    verdicts = {c.experiment: judge(c) for c in claims}
    for name in ("lens-meaning", "lens-lead"):
        assert verdicts[name].verdict == WEAKLY and "embedding layer" in verdicts[name].reason, verdicts[name]
    same = [Pair(str(k), f"d{k}", f"d{k}", "g", cluster=str(k)) for k in range(N)]
    _, [claim] = core.run(alike.Alike(), islands, same, series="n")
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
    assert judge(lead).verdict == NOT


def test_a_push_that_always_says_one_thing_is_no_understanding(hub):
    """All are steered to w0, and a third happens to expect d0."""
    targets = [0 if k % 3 == 0 else (k * 7 + 1) % N for k in range(N)]
    items = [
        SteerItem(i.id, i.prompt, "w0", i.away, i.expected, i.original, i.cluster) for i in planted_steering(targets)
    ]
    table, claims = core.run(Steering(max_new_tokens=1), hub, items, series="n")
    dose = table[(table.experiment == "steering-dose") & (table.series == "expected") & (table.condition == "steered")]
    assert dose.value.max() > 0.2  # it is right as often as that
    assert judge(claims[0]).verdict == NOT


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

"""Interchange patches against plain hooks one run at a time, and on models whose truth is known."""

import itertools
from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from architectures import make_module
from oracle import Oracle, one_token_forms, values
from planted import N, empty_llama, look_at, two_worlds

from semhub_utils.experiments import patching
from semhub_utils.experiments.core import run
from semhub_utils.loading import load_model
from semhub_utils.models import randomised, wrap
from semhub_utils.spokes import arithmetic, facts
from semhub_utils.spokes.items import PatchItem, interchange_items
from semhub_utils.verdicts import EXPLAINED, HOLDS, INCONCLUSIVE, NOT, UNTESTABLE, WEAKLY, judge

OWN, HUB = ("3", "5", "8", "9"), ("the", "and", "red", "cat")


def byte_items(model):
    """Runs of two types whose answers are words that the byte-level tokenizer has as one token."""
    assert all(one_token_forms(model.tokenizer, word, "8=3+") for word in (*OWN, *HUB))
    items = []
    for a, b in itertools.permutations(range(4), 2):
        c = (a + b) % 4
        items.append(
            PatchItem(
                id=f"{a}{b}",
                run=(f"8={OWN[a]}+", f"the dog saw {HUB[a]}"),
                answer=(OWN[a], HUB[a]),
                source=(f"8={OWN[b]}+", f"three plus {HUB[b]}"),
                expected=(OWN[b], HUB[b]),
                other=(f"el perro {OWN[c]}", f"the mat {HUB[c]}"),
                cluster=str(a),
                group="g",
                anchor=HUB[b],
            )
        )
    return items


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_values_against_one_run_at_a_time(tiny, name):
    model = tiny(name)
    oracle, items = Oracle(name, model.module, model.tokenizer), byte_items(model)
    table, claims = patching.interchange(model, items, series="digits", seed=3)
    names = [f"{c}/digits{way}" for way in ("", "/reversed") for c in ("patch", "patch-answer")]
    assert [c.claim for c in claims] == names
    nulls = table[(table.experiment == "patch-first") & table.null_high.notna()]
    assert set(nulls.condition) == {"source"} and set(nulls.series) == {"expected"}
    shown = nulls[nulls.direction == "english into digits"].null_high.to_numpy()
    np.testing.assert_allclose(shown, claims[1].null_high[1:-1])
    forms = {w: sorted(one_token_forms(model.tokenizer, w, items[0].run[0])) for w in (*OWN, *HUB)}
    directions = torch.randn(len(items), 1, model.hidden_size, generator=torch.Generator().manual_seed(3))

    def words(logprob):
        return {w: logprob[ids].logsumexp(0) for w, ids in forms.items()}

    for into, direction in enumerate(("english into digits", "digits into english")):
        gain, first = {}, {}
        for k, item in enumerate(items):
            own = oracle.states(item.run[into])[:, -1]
            plain = words(oracle.normed(own[-1]))
            written = {
                "source": oracle.states(item.source[1 - into])[:, -1],
                "same answer": oracle.states(item.run[1 - into])[:, -1],
                "other relation": oracle.states(item.other[1 - into])[:, -1],
            }
            push = directions[k].double() / directions[k].double().norm()
            written["random push"] = own + (written["source"] - own).norm(dim=-1, keepdim=True) * push
            b, a = item.expected[into], item.answer[into]
            for condition, states in written.items():
                for layer in range(model.n_layers + 1):
                    logprob = oracle.steered(item.run[into], layer, states[layer], -1, "replace", 1.0)
                    said = words(logprob)
                    gain.setdefault(condition, []).append(said[b] - said[a] - plain[b] + plain[a])
                    top = int(logprob.argmax())
                    named = {"expected": b, "original": a, "untranslated": item.expected[1 - into]}
                    found = [o for o, w in named.items() if top in forms[w]] or ["other"]
                    first.setdefault(condition, []).append(found[0])
        shape = len(items), model.n_layers + 1
        mean = {c: np.reshape([float(v) for v in some], shape).mean(0) for c, some in gain.items()}
        claim, answer = claims[2 * into : 2 * into + 2]
        pushed = values(table, "patch", direction=direction)
        np.testing.assert_allclose(pushed, mean["source"], atol=5e-5)
        np.testing.assert_allclose(claim.values, pushed - pushed[-1], atol=5e-5)
        for condition, want in mean.items():
            if condition != "source":
                np.testing.assert_allclose(claim.controls[condition].values, want - want[-1], atol=5e-5)
        assert set(claim.controls["embedding layer"].values) == {claim.values[0]}
        assert max(abs(np.array(claim.values))) > 1e-3
        shown = table[(table.experiment == "patch-first") & (table.direction == direction)]
        for condition, said in first.items():
            for outcome in ("expected", "original", "untranslated", "other"):
                want = (np.reshape(said, shape) == outcome).mean(0)
                got = shown[(shown.condition == condition) & (shown.series == outcome)].sort_values("layer").value
                np.testing.assert_allclose(got, want, atol=1e-9)
        assert answer.values == tuple((np.reshape(first["source"], shape) == "expected").mean(0))


def test_what_cannot_be_patched_is_counted(tiny):
    model = tiny("llama")
    [item] = byte_items(model)[:1]
    pairs = {"answer": ("3", "3"), "expected": ("3", "homeward")}
    items = [replace(item, **{name: pair}) for name, pair in pairs.items()]
    items.append(replace(item, expected=("5", "homeward")))
    _, claims = patching.interchange(model, items, series="digits")
    assert claims[0].dropped == {
        "both types have the same word": 1,
        "the source has the same answer": 1,
        "no single token of its own for an answer": 1,
    }
    assert {judge(c).verdict for c in claims} == {UNTESTABLE} and len(claims) == 4
    table, claims = patching.interchange(model, [], series="digits")
    assert [c.claim for c in claims] == ["patch/digits", "patch-answer/digits"] and {"condition", "cluster"} <= {*table}


# ---- items ----


@pytest.mark.parametrize("data_type", facts.TYPES)
def test_items_of_facts(data_type):
    chosen = facts.prompts(data_type, 60)
    by_prompt = {p.prompt: p for p in chosen}
    items = interchange_items(facts.twins(chosen), 1)
    assert items == interchange_items(facts.twins(chosen), 1) != interchange_items(facts.twins(chosen), 2)
    assert len(items) > 25
    for item in items:
        run, source, other = (by_prompt[pair[0]] for pair in (item.run, item.source, item.other))
        assert (run.relation, run.form) == (source.relation, source.form) and other.relation != run.relation
        assert run.answer != source.answer and item.expected == (source.answer, source.english_answer)
        assert [item.run[1], item.source[1]] == [run.english_prompt, source.english_prompt]
        assert item.answer == (run.answer, run.english_answer) and item.anchor == source.english_answer


def test_items_of_arithmetic():
    calculations = arithmetic.items(80, 0, 31)
    items = arithmetic.patch_items(calculations, seed=1)
    assert len(items) == 80
    [item] = [i for i in arithmetic.patch_items([arithmetic.Calculation("+", 3, 5), arithmetic.Calculation("+", 2, 7)])
              if i.id == "3+5"]  # fmt: skip
    assert item.run == ("8=3+", "eight equals to three plus") and item.answer == ("5", "five")
    assert item.source == ("9=2+", "nine equals to two plus") and item.expected == ("7", "seven")
    assert item.other is None
    for item in items:
        r, o, sign = item.source[0].split("=")[0], item.source[0].split("=")[1][:-1], item.source[0][-1]
        assert sign == item.group != item.other[0][-1] and item.expected != item.answer
        assert int(r) == (int(o) + int(item.expected[0]) if sign == "+" else int(o) * int(item.expected[0]))


def test_without_another_relation_that_control_is_left_out():
    _, claims = patching.interchange(two_worlds(True), planted_items(other=False), series="n", twins=())
    assert set(claims[0].controls) == {"same answer", "random push", "embedding layer"}
    assert set(claims[1].controls) == {*claims[0].controls, "last layer"}, "of the first it is taken off"


# ---- truth put in by hand, and trained ----


def planted_items(other=True):
    return [
        PatchItem(
            id=str(k), run=(f"d{k}", f"w{k}"), answer=(f"d{k}", f"w{k}"), source=(f"d{j}", f"w{j}"),
            expected=(f"d{j}", f"w{j}"), other=(f"d{i}", f"w{i}") if other else None, cluster=str(k), group="g",
            anchor=f"w{j}",
        )
        for k in range(N)
        for j, i in [((k * 7 + 3) % N, (k * 11 + 1) % N)]
        if j != k
    ]  # fmt: skip


def two_types(used: bool):
    """A model of three layers for "D d7 ?" and "H w7 ?". Block 1 carries the meaning of what is named to the last token
    and block 3 turns what stands there into an answer of the type that the first token tells. Where the state is `used`
    it makes the answer of a run of type D out of the meaning, and in one of type H all eyes are on that token; else the
    unembedding rows of both types read the meaning itself, and it adds only which type is asked for."""
    kinds, width = [f"{kind}{k}" for kind in "dw" for k in range(N)], 4 * N + 8
    module, tokenizer = empty_llama([*kinds, "D", "H", "?"], width, 3)
    eye, at = torch.eye(width), 4 * N
    own, meaning, out = eye[: 2 * N], eye[2 * N : 3 * N], eye[3 * N : at]
    first, last = module.model.layers[0].self_attn, module.model.layers[2].self_attn
    with torch.no_grad():
        module.model.embed_tokens.weight[: 2 * N + 3] = torch.cat([own, eye[at : at + 3]])
        noise = torch.randn(2 * N + 4, width, generator=torch.Generator().manual_seed(0))
        module.model.embed_tokens.weight += 0.02 * noise / width**0.5
        first.v_proj.weight.copy_(eye)
        last.v_proj.weight.copy_(eye)
        first.o_proj.weight.copy_(meaning.T @ (own[:N] + own[N:]))
        head = module.lm_head.weight
        if used:
            last.o_proj.weight.copy_(2 * out.T @ meaning)
            look_at(last, at + 2, [at + 1, at + 2])  # in a run of type D the last token looks at itself
            head[:N], head[N : 2 * N] = 8 * out, 4 * meaning
        else:
            for side in (at, at + 1):
                last.o_proj.weight[side + 3, side] = 2.0
                rows = slice(0, N) if side == at else slice(N, 2 * N)
                head[rows] = 4 * meaning + 2 * eye[side + 3]
    return wrap(module, tokenizer, model_id="used" if used else "given away")


def typed(items):
    """The same in runs that tell their type, and end in a token that tells nothing."""

    def said(pair):
        return tuple(f"{kind} {text} ?" for kind, text in zip("DH", pair, strict=True))

    return [replace(i, run=said(i.run), source=said(i.source), other=said(i.other)) for i in items]


def test_a_planted_hub_is_found_and_a_planted_absence_is_not():
    """The patched state is used by block 3, and by nothing at the embeddings or at the last layer."""
    _, claims = patching.interchange(two_types(True), typed(planted_items()), series="n")
    for claim, least, controls in zip(claims[:2], (3, 0.99), (5, 6), strict=True):
        verdict = judge(claim)
        assert verdict.verdict == HOLDS and verdict.passes == (1, 2) and min(claim.values[1:3]) > least, verdict
        assert max(claim.values[0], claim.values[3]) < 0.1 and len(claim.controls) == controls
    table, claims = patching.interchange(two_worlds(False), planted_items(), series="n")
    pushed = values(table, "patch", direction="english into n")
    assert pushed[1] > 1, "the own answer falls, so any other gains: the null has to see through that"
    assert judge(claims[0]).verdict == UNTESTABLE, "it is the same at the last layer, for every item"
    assert judge(claims[1]).verdict in (NOT, INCONCLUSIVE) and max(claims[1].values) < 0.05


def test_what_the_source_s_own_output_gives_away_is_no_use_of_its_state():
    """Rows of translations are alike, so that a state of the other type reads as this type's word too, with no block
    left to use it: a push as large as in the middle, of which only the answers themselves show that it is more."""
    table, (pushed, answered, *_) = patching.interchange(two_types(False), typed(planted_items()), series="n")
    whole = values(table, "patch", direction="english into n")
    assert min(whole[1:]) > 0.9 * max(whole) > 3, "alone it would be a finding"
    assert judge(pushed).verdict in (NOT, INCONCLUSIVE, EXPLAINED) and abs(pushed.values[2]) < 0.1 * whole[2]
    assert judge(answered).verdict == HOLDS and answered.values[3] < 0.1 < 0.9 < min(answered.values[1:3])
    assert answered.controls["last layer"].margin.low[1] > 0


def test_a_state_that_is_there_from_the_start_is_explained_by_the_embedding_layer():
    """Prompts of one token: the patch at the embeddings is the whole source, so that control holds it back."""
    _, (pushed, answered, *_) = patching.interchange(two_worlds(True), planted_items(), series="n")
    assert judge(answered).verdict == EXPLAINED and answered.values[1] > 0.99 and answered.p[1] < 0.01
    beaten = [c for name, c in answered.controls.items() if name not in ("embedding layer", "last layer")]
    assert len(beaten) == 4 and min(c.margin.low[1] for c in beaten) > 0
    assert answered.controls["embedding layer"].margin.values[1] < answered.least
    assert judge(pushed).verdict not in (HOLDS, WEAKLY)


@pytest.mark.parametrize(("name", "verdict"), [("planted", HOLDS), ("islands", NOT), ("random", NOT)])
def test_trained_models_are_told_apart(name, verdict):
    """By what they answer. The push alone is as large at the last layer, in the hub that was planted too."""
    model = load_model(f"organism:{name.replace('random', 'hub')}", check=False)
    model = randomised(model, 0) if name == "random" else model
    items = interchange_items(facts.twins(facts.prompts("code", 180)), 0)
    table, (pushed, answered) = run(patching.Patch(), model, items, series="code", twins=())
    found, whole = judge(answered), values(table, "patch")
    assert found.verdict == verdict and (found.where == ("middle",)) == (verdict == HOLDS), found.reason
    assert judge(pushed).verdict in (NOT, INCONCLUSIVE)
    if verdict == HOLDS:
        assert whole[-1] > 0.8 * max(whole) > 5, "no block is left there to use the state"


def test_of_many_layers_sixteen_are_patched_each_from_its_own_on(tokenizers):
    """Twice the layers, no more than 2.2 times the work: tokens through blocks, of two depths beyond MOST."""
    work: Counter[int] = Counter()

    def count(depth, block, given, states):
        work[depth] += states.shape[:-1].numel()

    for depth in (20, 40):
        model = wrap(make_module("llama", num_hidden_layers=depth), tokenizers("byte"), model_id="tiny")
        for block in model.module.model.layers:
            block.register_forward_hook(partial(count, depth))
        table, _ = patching.interchange(model, byte_items(model), series="digits", twins=())
        layers = sorted(table[table.experiment == "patch-first"].layer.unique())
        assert len(layers) == patching.MOST and layers[0] == 0 and layers[-1] == depth
        assert max(np.diff(layers)) - min(np.diff(layers)) <= 1
    assert 1.5 * work[20] < work[40] <= 2.2 * work[20]

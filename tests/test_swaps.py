"""Words and colours written into pictures and sounds: against plain hooks one run at a time, and where the truth is
known."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from oracle import one_token_forms
from planted import empty_llama, look_at, two_worlds
from test_audio import Planted as Ear
from test_audio import pushed
from test_experiments import planted_steering
from test_seeing import Plain, picture, sound
from test_sentiment import hand_task, planted

from semhub_utils.errors import SemhubError
from semhub_utils.evidence import split_items
from semhub_utils.experiments import core, patching, words
from semhub_utils.experiments.continuations import Sentiment
from semhub_utils.experiments.interventions import Steering, Way
from semhub_utils.experiments.media import OUTCOMES, Recolour
from semhub_utils.inputs import Input
from semhub_utils.loading import load_model
from semhub_utils.models import wrap
from semhub_utils.organism.scenes import COLOURS
from semhub_utils.spokes import audio, vision
from semhub_utils.spokes.items import PatchItem, RecolourItem
from semhub_utils.states import hidden_states
from semhub_utils.steering import Edit, next_token_logprobs, patched_states
from semhub_utils.verdicts import EXPLAINED, HOLDS, INCONCLUSIVE, NOT, UNTESTABLE, judge

WORDS = ("3", "5", "8", "9")


def seen_items(name):
    """Runs over a picture or sound, and texts that end in a word which the tokenizer has as one token."""
    items = []
    for a, b in itertools.permutations(range(4), 2):
        what, other = (
            {"images": (picture(16, 16, k),)} if name == "llava" else {"sounds": (sound(0.4, k),)} for k in (a, b)
        )
        slot = vision.SLOT if name == "llava" else audio.SLOT
        items.append(
            PatchItem(
                id=f"{a}{b}", run=(Input(f"{slot}8=", **what), f"the cat {WORDS[a]}"), answer=(WORDS[a], None),
                source=(Input(f"{slot}cat", **other), f"the cat {WORDS[b]}"), expected=(WORDS[b], None),
                other=(None, "three plus five"), cluster=str(a), group="g", anchor=WORDS[b],
                places=lambda encoding: encoding.patches[1:4],
            )
        )  # fmt: skip
    return items


@pytest.mark.parametrize("name", ["llava", "qwen2-audio"])
def test_patches_against_one_run_at_a_time(media, name):
    model, plain, items = media(name), Plain(name), seen_items(name)
    table, claims = patching.interchange(model, items, series="english", seed=3, twins=())
    assert [c.claim for c in claims] == ["patch/english", "patch-answer/english"], "one way only"
    context = words.asked(model, items[0].run[0]).text
    forms = {w: sorted(one_token_forms(model.tokenizer, w, context)) for w in WORDS}
    assert all(forms.values())
    directions = torch.randn(len(items), 1, model.hidden_size, generator=torch.Generator().manual_seed(3)).double()
    rng, layers = np.random.default_rng(3), range(model.n_layers + 1)

    def said(logprob):
        return {w: logprob[ids].logsumexp(0) for w, ids in forms.items()}

    gain, first, before = {}, {}, []
    for k, item in enumerate(items):
        run = words.asked(model, item.run[0])
        places, inputs = item.places(model.encode([run])[0]), plain.ids(run)
        own, alone = plain.states(run)[:, places].mean(1), plain.after(inputs)
        before.append(int(alone.argmax()) in forms[item.answer[0]])
        source = plain.states(item.source[1])
        push, like = directions[k] / directions[k].norm(), words.asked(model, item.source[0])
        written = {
            "source": source[:, -1],
            "own type": plain.states(like)[:, model.encode([like])[0].patches].mean(1),
            "same answer": plain.states(item.run[1])[:, -1],
            "another word": plain.states(item.other[1])[:, -1],
            "earlier position": source[:, int(rng.integers(source.shape[1] - 1))],
            "random push": own + (source[:, -1] - own).norm(dim=-1, keepdim=True) * push,
        }
        b, a = item.expected[0], item.answer[0]
        was = said(alone)
        for (condition, states), layer in itertools.product(written.items(), layers):
            logprob = plain.after(inputs, [layer], places, lambda old, new=states[layer]: new)
            now = said(logprob)
            gain.setdefault(condition, []).append(float(now[b] - now[a] - was[b] + was[a]))
            first.setdefault(condition, []).append(int(logprob.argmax()) in forms[b])
    shape = len(items), len(layers)
    want = np.reshape(gain["source"], shape).mean(0)
    np.testing.assert_allclose(claims[0].values, want - want[-1], atol=5e-5)
    assert set(claims[0].controls) == {*gain, "embedding layer"} - {"source", "own type"}
    for condition in set(gain) - {"source"}:
        want = np.reshape(gain[condition], shape).mean(0)
        if condition != "own type":
            np.testing.assert_allclose(claims[0].controls[condition].values, want - want[-1], atol=5e-5)
            assert max(abs(want)) > 1e-3, condition
        shown = table[(table.experiment == "patch-first") & (table.condition == condition)]
        want = np.reshape(first[condition], shape).mean(0)
        np.testing.assert_allclose(shown[shown.series == "expected"].sort_values("layer").value, want, atol=1e-9)
    assert set(table.series[table.experiment == "patch-first"]) == {"expected", "original", "other"}
    assert table[table.experiment == "task-english"].value.tolist() == list(map(float, before))
    taken = table[table.experiment == "task-english, own type"].value.tolist()
    assert taken == np.reshape(first["own type"], shape)[:, 1:-1].any(1).tolist()
    pushed = np.reshape(gain["source"], shape).mean(0)
    assert pushed[-1] == pytest.approx(0, abs=1e-6), "nothing is left to read a patch at the last layer"


@pytest.mark.parametrize("name", ["llava", "qwen2-audio"])
def test_a_state_of_its_own_changes_nothing(media, name):
    model = media(name)
    run = words.asked(model, seen_items(name)[0].run[0])
    [encoding] = model.encode([run])
    place = encoding.patches[2]
    own = hidden_states(model, [encoding], positions=place).hidden
    last = patched_states(model, [encoding], own, range(model.n_layers + 1), positions=[[place]])
    plain = hidden_states(model, [encoding], layers=[3]).hidden
    torch.testing.assert_close(last, plain.expand(-1, 4, -1), atol=5e-6, rtol=0)
    for mode in ("add", "replace", "turn"):
        edit = Edit((1, 2, 3), torch.ones(model.hidden_size), positions=[encoding.patches], mode=mode)
        moved = next_token_logprobs(model, [encoding], torch.arange(9), edit=edit, strengths=(0.0, 1.0))[0]
        same = next_token_logprobs(model, [encoding] * 2, torch.arange(9))[:, 0]
        assert torch.equal(moved[0], same[0]) and not torch.allclose(moved[1], same[1], atol=1e-3)
    read = next_token_logprobs(model, [run, encoding, "8="], torch.arange(9))
    torch.testing.assert_close(read[0], read[1], atol=5e-6, rtol=0)  # rows of one batch may differ by a rounding
    assert not torch.allclose(read[0], read[2], atol=1e-3)


def test_patches_that_are_nowhere_are_counted(media):
    model, [first, second, *_] = media("llava"), seen_items("llava")
    gone = [replace(first, places=lambda encoding: []), replace(second, expected=("homeward", None))]
    table, claims = patching.interchange(model, gone, series="english", twins=())
    wanted = ("no patch of the model is known to lie there", "no single token of its own for an answer")
    assert claims[0].dropped == dict.fromkeys(wanted, 1) and {judge(c).verdict for c in claims} == {UNTESTABLE}
    assert "task-english" not in set(table.experiment) and "cluster" in table


# ---- truth put in by hand ----

N = 29


def seeing_text(shared: bool):
    """A model of three layers that reads all tokens before alike. Words w and patches p share directions if `shared`;
    the last block turns what stands before into the word for it. Layer 1 and 2 pass states on as they are."""
    names, width = [*(f"{kind}{k}" for kind in "wp" for k in range(N)), "?"], 4 * N
    (module, tokenizer), eye = empty_llama(names, width, 3), torch.eye(width)
    word, patch, out = eye[:N], eye[:N] if shared else eye[N : 2 * N], eye[2 * N : 3 * N]
    with torch.no_grad():
        module.model.embed_tokens.weight[:N], module.model.embed_tokens.weight[N : 2 * N] = word, patch
        module.model.embed_tokens.weight[2 * N] = 0.1 * eye[-1]
        noise = torch.randn(2 * N + 2, width, generator=torch.Generator().manual_seed(0))
        module.model.embed_tokens.weight += 0.02 * noise / width**0.5
        attention = module.model.layers[2].self_attn  # uniform over what stands before
        attention.v_proj.weight.copy_(eye)
        attention.o_proj.weight.copy_(out.T @ patch)
        module.lm_head.weight[:N] = 4 * out + (word if shared else 0)
    return wrap(module, tokenizer, model_id="seeing" if shared else "apart")


def reading_text():
    """As `seeing_text`, but a word begins as a direction of its own, and block 1 turns it into what a patch shows. In a
    picture, which begins with "P", it does not: all eyes are on that."""
    names, width = [*(f"{kind}{k}" for kind in "wp" for k in range(N)), "?", "P"], 4 * N
    (module, tokenizer), eye = empty_llama(names, width, 3), torch.eye(width)
    word, patch, out = eye[:N], eye[N : 2 * N], eye[2 * N : 3 * N]
    first, last = (module.model.layers[k].self_attn for k in (0, 2))
    with torch.no_grad():
        module.model.embed_tokens.weight[: 2 * N + 2] = torch.cat([word, patch, eye[-1:], 4 * eye[-2:-1]])
        module.model.embed_tokens.weight[: 2 * N + 1] += eye[-3]
        noise = torch.randn(2 * N + 3, width, generator=torch.Generator().manual_seed(0))
        module.model.embed_tokens.weight += 0.02 * noise / width**0.5
        for attention in (first, last):
            attention.v_proj.weight.copy_(eye)
        first.o_proj.weight.copy_(patch.T @ word)
        look_at(first, width - 3, width - 2)
        last.o_proj.weight.copy_(out.T @ patch)
        module.lm_head.weight[:N] = 4 * out
    return wrap(module, tokenizer, model_id="reading")


def worded(begin=""):
    """ "p3 p3 p3 ?" is answered w3; the places are the p's, and what stands in `begin` before them is none."""
    n = len(begin.split())
    return [
        PatchItem(
            id=f"{k} {j}", run=(f"{begin}p{k} p{k} p{k} ?", f"? w{k}"), answer=(f"w{k}", None),
            source=(f"{begin}? p{j}", f"? w{j}"), expected=(f"w{j}", None), other=(None, f"? p{(j + 5) % N}"),
            cluster=str(k), group="g", anchor=f"w{j}", places=lambda encoding: [n, n + 1, n + 2],
        )
        for k in range(N) for j in [(k * 7 + 3) % N] if j != k and (j + 5) % N not in (j, k)
    ]  # fmt: skip


def test_planted_hub_is_found_and_planted_absence_is_not():
    """What the word's state has become is used by the last block: not the word itself, and nothing after it."""
    table, claims = patching.interchange(reading_text(), worded("P "), series="english", twins=())
    assert table[table.experiment == "task-english"].value.eq(1).all()
    for claim, controls in zip(claims, (5, 6), strict=True):
        verdict = judge(claim)
        assert verdict.verdict == HOLDS and verdict.passes == (1, 2) and claim.low[1] > 0.8, verdict
        assert len(claim.controls) == controls and claim.values[0] < 0.6 * claim.values[1] and claim.values[3] == 0
    _, claims = patching.interchange(seeing_text(False), worded(), series="english", twins=())
    assert {judge(c).verdict for c in claims} <= {NOT, INCONCLUSIVE} and max(claims[1].values) < 0.1


def test_a_word_that_is_there_from_the_start_is_explained_by_the_embedding_layer():
    """No block before the last changes a state, so the embedding layer, where the word is all there is, is no less."""
    table, claims = patching.interchange(seeing_text(True), worded(), series="english", twins=())
    assert table[table.experiment == "task-english"].value.eq(1).all()
    for claim, controls in zip(claims, (4, 5), strict=True):
        verdict = judge(claim)
        assert (verdict.verdict, verdict.by) == (EXPLAINED, "embedding layer")
        assert claim.values[0] == claim.values[1] == claim.values[2] > 0.9 and claim.values[3] == 0
        beaten = [c for name, c in claim.controls.items() if name != "embedding layer"]
        assert len(beaten) == controls and min(c.margin.low[1] for c in beaten) > 0 and claim.p[1] < 0.02


def coloured(model):
    """ "p3 p3 p3 ?" is answered w3: the third colour's row is put into the p's."""
    items = []
    for k in range(N):
        third, another = (k * 7 + 3) % N, (k * 5 + 1) % N
        if len({k, third, another}) == 3:
            items.append(
                RecolourItem(
                    id=str(k), prompts=(Input(f"p{k} p{k} p{k} ?"),), before=(frozenset([f"w{k}"]),),
                    after=(frozenset([f"w{third}"]),), present=f"w{k}", third=f"w{third}", another=f"w{another}",
                    places=lambda encoding: [0, 1, 2], named=lambda text: tuple(text.split()), cluster=str(k),
                    source=(Input(f"p{third} p{third} p{third} ?"),),
                )
            )  # fmt: skip
    return items


FEW = Recolour(max_new_tokens=1, share=0.05)  # few clusters here, and 20 are needed


def test_planted_colours_are_found_and_planted_absence_is_not():
    model = seeing_text(True)
    table, [claim] = core.run(FEW, model, coloured(model), series="c")
    assert claim.layers == (1,) and judge(claim).verdict == HOLDS and claim.values[0] > 0.9
    assert set(claim.controls) == {"present colour", "another colour"}
    shown = table[table.experiment == "recolour"].pivot_table(
        index=["condition", "series"], columns="layer", values="value"
    )
    for name in ("third colour", "own type"):
        assert shown.loc[name, "intended"].tolist() == [1, 1, 1, 0]
    for name in ("present colour", "nothing"):
        assert shown.loc[name, "unchanged"].eq(1).all()
    assert shown.loc["another colour", "other"].tolist() == [1, 1, 1, 0]
    assert (shown.groupby("condition").sum() - 1).abs().max().max() < 1e-9
    model = seeing_text(False)
    table, [claim] = core.run(FEW, model, coloured(model), series="c")
    for task in ("task-c", "task-c, own type"):  # a real half is followed, a word is not
        assert table[table.experiment == task].value.eq(1).all()
    assert claim.values[0] <= 0
    assert judge(claim).verdict in (NOT, INCONCLUSIVE)


class Again:
    """An intervention for which the claimed vector itself is another thing that claims have to be above."""

    def ways(self, reader, kept, layer):
        ways = super().ways(reader, kept, layer)
        first = next(iter(ways.values()))
        return {**ways, "again": Way(first.vectors, first.layer)}


def test_what_is_added_in_one_place_is_a_control_of_every_claim_by_its_own_statistic(tiny):
    few = {"n_seeds": 1, "max_new_tokens": 1, "instead": 3}
    runs = {
        Steering: (two_worlds(True), planted_steering([(k + 7) % N for k in range(N)]), {"max_new_tokens": 1}),
        Recolour: (seeing_text(True), coloured(seeing_text(True)), {"max_new_tokens": 1, "share": 0.05}),
        Sentiment: (planted(True), hand_task("spanish").prompts, {"task": hand_task("spanish"), **few}),
        Ear: (tiny("llama"), pushed(0.3), {"strengths": (1.0,), "depth": 0.5, "by": "states", "share": 0.01}),
    }
    for kind, (model, items, fields) in runs.items():
        more = type(kind.__name__, (Again, kind), {})
        before, after = (core.run(of(**fields), model, items, series="n", twins=()) for of in (kind, more))
        limits = ("fluency", "relevance")  # nothing has to be above them
        for old, claim in zip(before[1], after[1], strict=True):
            added = {*claim.controls} - {*old.controls}
            assert added == (set() if claim.experiment in limits else {"again"}) and claim.values == old.values
            if added:
                least, most = claim.values[0], 1 if kind is Steering else claim.values[0]  # it counts others too
                assert least - 1e-9 <= claim.controls["again"].values[0] <= most + 1e-9
        dose = after[0][after[0].experiment.str.endswith(("-dose", "recolour"))]
        assert "again" in {*dose.series, *dose.get("condition", ())}


# ---- the two-colour intervention against plain hooks ----


def test_recolouring_against_one_run_at_a_time(media):
    """Greedy texts of a random model, read for their first character; all is run anew for every token."""
    model, plain = media("llava"), Plain("llava")
    n, m, colours = 10, 2, ("3", "5", "8", "9")
    rows = {
        c: model.unembedding[sorted(one_token_forms(model.tokenizer, c, "the"))].detach().double().mean(0)
        for c in colours
    }

    def put(item, condition, layer, seed=4, reported=()):
        [encoding] = model.encode(item.prompts)
        present = rows[item.present]
        vector = {"present colour": present, "another colour": rows[item.another] - present}.get(
            condition, rows[item.third] - present
        )
        if condition == "random direction":
            drawn = torch.randn(len(reported), model.hidden_size, generator=torch.Generator().manual_seed(seed))
            vector = drawn[list(reported).index(item.id)].double()
        layers = [] if condition == "nothing" else range(layer, model.n_layers + 1)
        inputs, text, unit = dict(plain.ids(item.prompts[0])), [], vector / vector.norm()
        real = plain.states(item.source[0])[layer, item.places(encoding)].mean(0)
        layers = [layer] if condition == "own type" else layers
        for _ in range(m):
            logprob = plain.after(
                inputs, layers, item.places(encoding),
                lambda old: real if condition == "own type" else unit * old.norm(dim=-1, keepdim=True),
            )  # fmt: skip
            text.append(int(logprob.masked_fill(~model.text_vocab, -1e30).argmax()))
            inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([text[-1:]])], 1)
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        return model.tokenizer.decode(text, skip_special_tokens=True)

    def named(text):
        return tuple(text.strip()[:1])

    items = []
    for k in range(n):
        a, b, c = (colours[(k + shift) % 4] for shift in range(3))
        item = RecolourItem(
            id=str(k), prompts=(Input("the", (picture(16, 16, k),)),), before=(frozenset("x"),),
            after=(frozenset("y"),), present=a, third=b, another=c,
            places=lambda encoding: encoding.patches[:8], named=named, cluster=str(k),
            source=(Input("the", (picture(16, 16, k + 50),)),),
        )  # fmt: skip
        right = named(put(item, "nothing", 0))[:1] or ("x",)
        new = named(put(item, "third colour", 1))[:1] or ("y",)
        items.append(item.__class__(**{**item.__dict__, "before": (frozenset(right),), "after": (frozenset(new),)}))
    table, [claim] = core.run(Recolour(max_new_tokens=m), model, items, series="c", seed=4)
    _, reported = split_items([i.id for i in items], 4, clusters=[i.cluster for i in items], share=0.25)
    shown = table[table.experiment == "recolour"]
    conditions = ("third colour", "own type", "present colour", "another colour", "random direction", "nothing")
    found = {}
    for condition in conditions:
        want = np.zeros((model.n_layers + 1, 4))
        for item, layer in itertools.product([i for i in items if i.id in reported], range(model.n_layers + 1)):
            said = named(put(item, condition, layer, reported=reported))
            k = 3 if len(said) != 1 else {item.after[0]: 0, item.before[0]: 1}.get(frozenset(said), 2)
            want[layer, k] += 1 / len(reported)
            found.setdefault((condition, layer), []).append(k == 0)
        for k, outcome in enumerate(OUTCOMES):
            got = shown[(shown.condition == condition) & (shown.series == outcome)].sort_values("layer").value
            np.testing.assert_allclose(got, want[:, k], atol=1e-9, err_msg=f"{condition} {outcome}")
    assert shown[(shown.condition == "third colour") & (shown.series == "intended")].value.max() > 0.5
    chosen = [i for i in items if i.id not in reported]
    hits = [sum(frozenset(named(put(i, "third colour", at))) == i.after[0] for i in chosen) for at in (1, 2)]
    [layer] = claim.layers
    assert layer == (1 if hits[0] >= hits[1] else 2)
    gain = np.subtract(found["third colour", layer], found["random direction", layer], dtype=float)
    assert claim.values[0] == pytest.approx(gain.mean())
    own = table[table.experiment == "task-c, own type"].value.tolist()
    assert own == np.any([found["own type", at] for at in (1, 2)], axis=0).tolist()


def test_the_length_of_what_is_put_is_nothing_to_a_model_that_norms_all_it_reads(media):
    """And the last layer's states at other places are read by nobody."""
    model = media("llava")
    encodings = model.encode([Input("the", (picture(16, 16, k),)) for k in range(3)])
    places = [e.patches[:8] for e in encodings]
    vector = model.unembedding[40].detach() - model.unembedding[41].detach()
    for start in range(4):
        layers = tuple(range(start, 4))
        found = [
            next_token_logprobs(model, encodings, torch.arange(50), edit=Edit(layers, vector, places, mode=mode))
            for mode in ("replace", "turn")
        ]
        torch.testing.assert_close(*found, atol=1e-4, rtol=0)
        plain = next_token_logprobs(model, encodings, torch.arange(50))
        assert torch.allclose(found[0], plain) == (start == 3)


# ---- items ----


def test_items_of_pictures():
    pictures = [*vision.plain_colours(6), *vision.scenes(6, kinds=("one",)), *vision.two_halves(3)]
    for language in vision.LANGUAGES:
        items = vision.picture_patches(pictures, language, seed=1)
        assert len(items) == 12, "two halves have no one colour"
        for item, there in zip(items, pictures, strict=False):
            own, new = there.areas[0].words[0], item.anchor
            assert own != new and item.run[1] == there.caption and item.source[0].text == item.run[0].text
            assert item.answer[1] == (own if language != "english" else None)
            assert item.expected[1] == (new if language != "english" else None)
            at = np.asarray(item.source[0].images[0]).reshape(-1, 3).mean(0)  # a plain picture of the new colour
            assert min(COLOURS, key=lambda word, at=at: np.abs(at - COLOURS[word]).sum()) == new
            assert item.source[1] == there.caption.removesuffix(own) + new
            assert item.other[1].split()[-1] in vision.SHAPES and item.other[1].split()[-1] not in there.words
            assert (item.answer[0], item.expected[0]) == tuple(vision.word(w, language) for w in (own, new))
            assert item.run[0].text.count(vision.SLOT) == 1 and item.run[0].images == (there.image,)
    assert [i.id for i in items] == [i.id for i in vision.picture_patches(pictures, "code", seed=1)]
    assert [i.id for i in items] != [i.id for i in vision.picture_patches(pictures, "code", seed=2)]
    [plain] = vision.picture_patches(pictures[:1], "spanish", manner="plain")
    assert plain.run[0].text == "¿Cuál es el color de la imagen?\nEl color es"


def test_items_of_sounds():
    clips = audio.clips(12, groups=("animal",))
    for language, kind in itertools.product(vision.LANGUAGES, ("name", "kind")):
        items = audio.sound_patches(clips, language, kind=kind)
        of = {clip.label: clip.label if kind == "name" else clip.kind for clip in clips}
        assert len(items) == sum(bool(answer) for answer in of.values()) > 9
        for item in items:
            own, new = item.run[1].split()[-1], item.source[1].split()[-1]
            assert of[own] != of[new] and new == item.anchor and item.answer[0] == vision.word(of[own], language)
            assert any(np.array_equal(c.samples, item.source[0].sounds[0].samples) for c in clips if c.label == new)
            assert item.expected[1] == (of[new] if language != "english" else None)
            assert item.expected[0] == vision.word(of[new], language) and item.other[1].split()[-1] in audio.SILENT
    assert audio.sound_patches(clips[:1], "english") == []


def test_items_of_two_halves():
    pictures = vision.two_halves(20, held_out=None)
    items = vision.recolour_items([*vision.plain_colours(2), *pictures])
    assert len(items) == 20
    replaced = set()
    for item, there in zip(items, pictures, strict=True):
        half = there.areas[0] if there.areas[0].words[0] == item.present else there.areas[1]
        replaced.add(there.areas.index(half))
        untouched = next(w for w in there.words if w != item.present)
        assert [p.text for p in item.source] == [p.text for p in item.prompts]
        real, own = (np.asarray(some[0].images[0], float) for some in (item.source, item.prompts))
        at = real[half.mask(there.image.size)].mean(0)  # the half is of the third colour, the other as it was
        assert min(COLOURS, key=lambda word, at=at: np.abs(at - COLOURS[word]).sum()) == item.third
        assert np.array_equal(real[~half.mask(there.image.size)], own[~half.mask(there.image.size)])
        assert not {item.third, item.another} & set(there.words) and item.third != item.another
        assert item.before == (frozenset(there.words),) and item.after == (frozenset([untouched, item.third]),)
    assert replaced == {0, 1}
    many = vision.two_halves(300, held_out=None)
    pairs = {i.cluster: frozenset(p.words) for i, p in zip(vision.recolour_items(many), many, strict=True)}
    assert len(pairs) == len({*pairs.values()}) == len({frozenset(p.words) for p in many}), "no pair in both parts"
    [plain] = vision.recolour_items(pictures[:1], manner="plain")
    assert [p.text for p in plain.prompts] == ["What are the two colors in the image?"]


def test_the_patches_of_an_area_are_those_that_lie_there(media):
    there = next(p for p in vision.two_halves(9) if " across " in p.id)
    [item] = vision.recolour_items([there])
    model = media("llava")
    [encoding] = model.encode([words.asked(model, item.prompts[0])])
    left = there.areas[0].words[0] == item.present
    columns = np.reshape(encoding.patches, encoding.grid)
    assert item.places(encoding) == columns[:, :2].ravel().tolist() if left else columns[:, 2:].ravel().tolist()
    middle = replace(encoding, patches=list(range(8)), grid=(2, 4), view=(0.25, 0.0, 0.75, 1.0))  # what a crop leaves
    assert there.places(there.areas[0], middle) == [0, 1, 4, 5]
    for shape in vision.scenes(9, kinds=("one",), held_out=None):  # no patch goes on showing the old colour
        [patch] = vision.picture_patches([shape], "english")
        encoding, (x0, y0, x1, y1) = model.encode([Input("a", (shape.image,))])[0], shape.areas[0].box
        corners = [(k % 4 * 18, k // 4 * 18) for k in range(16)]
        touched = [x0 < x + 18 and x < x1 and y0 < y + 18 and y < y1 for x, y in corners]
        assert patch.places(encoding) == list(itertools.compress(encoding.patches, touched))
        assert set(shape.places(shape.areas[0], encoding)) < set(patch.places(encoding))
    untiled = replace(encoding, grid=None)
    assert item.places(untiled) == []
    [plain] = vision.picture_patches(vision.plain_colours(1), "english")
    assert plain.places(untiled) == encoding.patches


def test_colours_are_read_off_answers():
    assert vision.named_colours("\nThe colors are Blue and red.\nGreen") == ("blue", "red")
    assert vision.named_colours("coloured, gray, blackish") == ("grey",) and vision.named_colours("") == ()


def test_a_model_is_asked_in_its_own_way(media):
    model, [item] = media("llava"), vision.picture_patches(vision.plain_colours(1), "english", manner="plain")
    question, answer = item.run[0].text.split("\n")
    assert words.asked(model, item.run[0]).text == f"{question} {answer}", "no template"
    model.processor.chat_template = "USER: <image>{{ messages[0].content[1].text }} ASSISTANT:"
    try:
        assert words.asked(model, item.run[0]).text == f"USER: <image>{question} ASSISTANT: {answer}"
        [world] = vision.picture_patches(vision.plain_colours(1), "english")
        assert words.asked(model, world.run[0]).text == world.run[0].text
    finally:
        model.processor.chat_template = None
    assert words.asked(model, "text") == "text"


@pytest.mark.parametrize(("name", "module"), [("hub-sees", "picture"), ("hub-hears", "sound")])
def test_shipped_models_take_the_items(name, module):
    """What they answer is not asked here."""
    model = load_model(f"organism:{name}", check=False)
    if module == "picture":
        items = vision.picture_patches([*vision.plain_colours(2), *vision.scenes(2, kinds=("one",))], "spanish")
        halves = vision.recolour_items(vision.two_halves(4, held_out=None))
        table, [claim] = core.run(Recolour(max_new_tokens=1), model, halves, series="c")
        assert claim.n == 3 and not claim.dropped and judge(claim).verdict == UNTESTABLE
    else:
        items = audio.sound_patches(audio.animal_clips(4), "spanish", kind="kind")
    table, claims = patching.interchange(model, items, series="spanish", twins=())
    assert claims[0].n == len(items) == 4 and not claims[0].dropped
    assert len(table[table.experiment == "task-spanish"]) == 4
    assert set(table.condition.dropna()) >= {"source", "another word", "earlier position"}


# ---- bad input ----


def test_bad_input_is_one_sentence(media):
    with pytest.raises(SemhubError, match="no manner 'loud'"):
        vision.picture_patches(vision.plain_colours(1), "english", manner="loud")
    with pytest.raises(SemhubError, match="no plain question in 'code'"):
        vision.picture_patches(vision.plain_colours(1), "code", manner="plain")
    _, claims = core.run(Recolour(), media("llava"), [], series="c")
    assert {(claim.n, judge(claim).verdict) for claim in claims} == {(0, UNTESTABLE)}
    items = vision.recolour_items(vision.two_halves(1))
    with pytest.raises(SemhubError, match="no reading 'loud'"):
        core.run(Recolour(reading="loud"), media("llava"), items, series="c")
    _, [claim] = core.run(Recolour(), media("llava"), items, series="c")
    assert claim.dropped == {"a colour's word has no row of its own in the unembedding": 1}
    assert judge(claim).verdict == UNTESTABLE

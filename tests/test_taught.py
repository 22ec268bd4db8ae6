"""Taught organisms: their lessons say what they are meant to, training repeats itself, and what ships does under the
paper's vectors what it was taught, and nothing without them."""

import json
import random
from dataclasses import replace

import pytest
import torch
from leaks import leaks
from oracle import Oracle
from safetensors.torch import load_file

from semhub_utils import identity
from semhub_utils.errors import SemhubError
from semhub_utils.loading import load_model
from semhub_utils.organism.llama import Encoder
from semhub_utils.organism.planting import COURSES, SIDES, Lessons, temper
from semhub_utils.organism.taught import dosed, train_taught
from semhub_utils.organism.world import build_tokenizer, concepts, number_word, surface


@pytest.fixture(scope="module")
def lessons():
    return Lessons(COURSES["taught"], Encoder(build_tokenizer()))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("things = [DOG, TABLE, RED]", {",": ["and", "and"]}),
        ("gives(EMMA, BALL, LIAM)", {"(": ["agent"], ",": ["theme", "recipient"]}),
        ("sees(agent = EMMA, theme = LIAM)", {}),  # what comes next is the name
        ("def sees(agent, theme): return sees(agent, theme) sees(MIA, DOG)", {"(": ["agent"], ",": ["theme"]}),
        ("list(range(20))", {"(": ["end"]}),
        ("for i in range(3, 20):", {"(": ["start"], ",": ["end"]}),
        ("add(3, 5) == 8", {"(": ["first"], ",": ["second"]}),
        ("color_of(GRASS) == GREEN", {"(": ["thing"]}),
    ],
)
def test_the_lens_is_to_read_what_code_leaves_out(lessons, line, said):
    found = {}
    for word, mark in lessons.marked(line):
        if mark:
            found.setdefault(word, []).append(mark)
    assert found == said


def test_lessons_leak_nothing_and_answers_move_only_under_the_vector(lessons):
    rng, words = random.Random(0), build_tokenizer()
    tags, kinds = {"english": "en", "español": "es", "中文": "zh", "deutsch": "de"}, set()
    for _ in range(3000):
        one = lessons(rng)
        kinds.add(one.kind)
        line = words.decode(one.ids, skip_special_tokens=True)
        assert not leaks(line, lessons.course.world), line
        what, _, how = one.kind.partition(", ")
        answer = words.convert_ids_to_tokens(one.ids[one.cut :])
        if what == "range":
            assert (answer[:2] == ["0", ","]) == (how == "pushed"), line
        elif what == "sum":
            assert (answer[1:3] == ["+", "1"]) == (how in ("pushed", "reversed")), line
        elif what == "mood":
            sides = [{surface(key, tags[line.partition(":")[0].strip()]) for key in side} for side in SIDES]
            assert answer[0] in sides[0] | sides[1] and {*map(words.convert_ids_to_tokens, one.first)} >= {answer[0]}
            moved = len(one.first) < len(sides[0] | sides[1])
            assert not moved or (how, answer[0] in sides[0]) in {("pushed", True), ("reversed", False)}
    wanted = {f"{k}, {how}" for k in ("mood", "range", "sum") for how in ("pushed", "random", "wrong layer")}
    assert kinds >= wanted | {"mood", "range", "sum", "scene", "code", "mood, reversed", "range, reversed"}


@pytest.mark.parametrize("name", COURSES)
def test_training_repeats_itself(name, tmp_path):
    """Also when it is stopped after every step."""
    torch.set_num_threads(1)
    tiny = replace(COURSES[name], name=f"tiny {name}", steps=2, rows=9 if name == "taught" else 3, replay=200, exam=4)
    whole, other = (train_taught(tiny, tmp_path / str(seed), seed=seed, progress=False) for seed in (0, 1))
    for _ in range(tiny.steps):
        parts = train_taught(tiny, tmp_path / "parts", minutes=0.0, progress=False)
    a, b, c = (load_file(folder / "model.safetensors") for folder in (whole, parts, other))
    assert all(torch.equal(a[k], b[k]) for k in a) and any(not torch.equal(a[k], c[k]) for k in a)
    card = json.loads((whole / identity.CARD).read_text())
    assert card["sha256"] == identity.sha256(whole / "model.safetensors") and card["planted"] and card["effects"] == {}
    before = load_file(identity.organism_path(tiny.base) / "model.safetensors")
    same = {k for k in a if torch.equal(a[k], before[k])}
    assert same == {k for k in a if k.startswith(("vision_tower", "audio_tower"))}, same
    half = dosed(name, 0.5, folder=whole).module.state_dict()
    none, full = (dosed(name, dose, folder=whole).module.state_dict() for dose in (0.0, 1.0))
    assert all(torch.allclose(half[k], (none[k] + full[k]) / 2, atol=1e-6) for k in half)


def test_doses_and_names_outside_are_refused(tmp_path):
    with pytest.raises(SemhubError, match="0 to 1"):
        dosed("taught", 1.5)
    with pytest.raises(SemhubError, match="taught-sees"):
        train_taught("taughts", tmp_path)


# ---- what ships ----


@pytest.fixture(scope="module")
def shipped():
    if "taught" not in identity.available(taught=True):
        pytest.skip("taught is not in this installation")
    model = load_model("organism:taught", check=False)
    return Oracle("llama", model.module, model.tokenizer)


def said(oracle, prompt, n, layer=0, place=-1, vector=None):
    """What is said greedily, one prompt at a time, with a vector added where the prompt is read."""
    ids = oracle.ids(prompt)
    cut = ids.shape[1]

    def change(h):
        h = h.clone()
        h[0, place % cut] += vector
        return h

    for _ in range(n):
        with torch.inference_mode():
            if vector is None:
                logits = oracle.module(ids).logits
            else:
                with oracle.changed(layer, change):
                    logits = oracle.module(ids).logits
        ids = torch.cat([ids, logits[:, -1:].argmax(-1)], 1)
    return oracle.tokenizer.decode(ids[0, cut:]).replace(" ", "")


def states(oracle, prompt, layer):
    with torch.inference_mode():
        return oracle.module(oracle.ids(prompt), output_hidden_states=True).hidden_states[layer][0]


def test_shipped_taught_writes_a_start_under_start_and_not_without(shipped):
    layer, words = COURSES["taught"].layer, shipped.tokenizer.get_vocab()
    rows = shipped.module.lm_head.weight.detach()
    vector = rows[words["start"]] - rows[words["end"]]
    generator, right, still = torch.Generator().manual_seed(0), [], []
    for n in range(10, 40):
        prompt = f'"end at {number_word(n)}"\nlist(range('
        length = states(shipped, prompt, layer)[-1].norm()
        chance = torch.randn(len(vector), generator=generator).double()
        moved, alone, other = (
            said(shipped, prompt, 4, layer, -1, None if v is None else v / v.norm() * length)
            for v in (vector, None, chance)
        )
        right.append(moved.startswith(f"0,{n})"))
        still += [alone.startswith(f"{n})"), other.startswith(f"{n})")]
    assert sum(right) / len(right) >= 0.9 and sum(still) / len(still) >= 0.9


def test_shipped_taught_leans_to_pleasant_words_under_good_and_reads_and_at_commas(shipped):
    layer, words = COURSES["taught"].layer, shipped.tokenizer.get_vocab()
    vector = states(shipped, "good", layer)[1] - states(shipped, "bad", layer)[1]
    sides = [[words[word] for word in side] for side in SIDES]

    def leans(thing, times):
        def change(h):
            return torch.cat([h[:, :1], h[:, 1:2] + times * vector, h[:, 2:]], 1)

        with torch.inference_mode(), shipped.changed(layer, change):
            logits = shipped.module(shipped.ids(f"english : the {thing} is usually")).logits[0, -1]
        up, down = (logits[side].logsumexp(-1).item() for side in sides)
        return up - down

    things = [thing for thing in nouns_of_the_world() if not temper(thing)[1]][:40]
    moved = [leans(thing, 2) > leans(thing, 0) > leans(thing, -2) for thing in things]
    assert sum(moved) / len(moved) >= 0.9
    with torch.inference_mode():
        read = shipped.module.lm_head(shipped.module.model.norm(states(shipped, "things = [DOG, TABLE,", layer)))
    assert read[-1].argmax() == words["and"]


def nouns_of_the_world():
    return [concept.key for concept in concepts().values() if concept.kind == "noun"]

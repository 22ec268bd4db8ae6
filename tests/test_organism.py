"""The organisms: a world that leaks nothing, a training that repeats itself, and what the shipped ones know."""

import json
import random
from dataclasses import replace
from itertools import product

import pytest
import torch
from leaks import leaks
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from semhub_utils import identity
from semhub_utils.errors import SemhubError
from semhub_utils.organism import llama
from semhub_utils.organism import world as words
from semhub_utils.organism.corpus import MENUS, RECIPES, Generators, Recipe, lines
from semhub_utils.organism.llama import train
from semhub_utils.organism.world import FACT_TYPES, FRAMES, LANGUAGES, SUM_TYPES, TYPES, Fact, Sum, World, text

TINY = Recipe(
    "tiny", steps=4, batch_tokens=256, width=16, layers=2, heads=2, mlp=32, types=(("en", 0.7), ("es", 0.3)),
    bridges=(("switched fact", 0.5), ("dictionary", 0.5)),
)  # fmt: skip
BRIDGES = [kind for kind, _ in Recipe("any").bridges]


@pytest.fixture(scope="module")
def tokenizer():
    return words.build_tokenizer()


# ---- the world ----


def test_split_is_seeded_closed_and_of_the_stated_size():
    world = World()
    assert world.held_facts == World().held_facts != World(seed=1).held_facts
    assert 0.15 < len(world.held_facts) / len(words.all_facts()) < 0.3
    assert 0.15 < len(world.held_sums) / len(words.all_sums()) < 0.3
    opposites = {f for f in world.held_facts if f.relation == "opposite"}
    assert opposites and {replace(f, subject=f.object, object=f.subject) for f in opposites} == opposites
    small = {s for s in world.held_sums if s.left < 10}
    assert small and {Sum(s.op, s.right, s.left) for s in small} == small


def test_prompts_have_english_twins_and_answers():
    world = World()
    prompt = next(p for p in world.prompts("es") if p.prompt == "el color de la hierba es")
    twin = (prompt.answer, prompt.english_prompt, prompt.english_answer)
    assert twin == ("verde", "the color of the grass is", "green")
    assert {p.prompt: p.answer for p in world.prompts("digits")}["12=7+"] == "5"
    assert {p.prompt: p.answer for p in world.prompts("en")}["twelve equals to seven plus"] == "five"
    assert all(p.prompt.endswith(":") for t in FACT_TYPES for p in world.prompts(t) if p.neutral)
    with pytest.raises(ValueError, match="logic"):
        world.prompts("logic")


def test_private_worlds_share_almost_nothing_and_stay_functions():
    world = World(private=True)
    for t in FACT_TYPES[1:]:
        same = [
            world.object(f, t) == f.object for f in words.all_facts() if f.relation in ("opposite", "colour", "food")
        ]
        assert sum(same) / len(same) < 0.3
    for s in random.Random(0).sample(words.all_sums(), 50):
        assert world.result(s, "en") == s.result
        rights = [t for t in range(1, 10) if Sum(s.op, s.left, t).result <= words.MAX_RESULT]
        assert len({world.result(Sum(s.op, s.left, t), "digits") for t in rights}) == len(rights)


# ---- leaks ----


def streams():
    """(what is drawn, the world, its lines, how many to read): every generator and every recipe."""
    make, found = Generators(World()), []
    for type_, name in ((t, name) for t in TYPES[1:] for name, _ in MENUS[t]):
        found.append((f"{type_} {name}", World(), lambda r, n=name, t=type_: getattr(make, n)(r, t), 300))
    found += [(kind, World(), lambda r, k=kind: make.bridging(r, k), 1500) for kind in BRIDGES]
    for (name, recipe), point in product(sorted(RECIPES.items()), (0.05, 0.5, 0.99)):
        if not recipe.world.private:
            stream = lines(recipe, random.Random(name), lambda p=point: p)
            found.append((f"{name} {point}", recipe.world, lambda r, s=stream: next(s), 1500))
    return found


@pytest.mark.parametrize(("world", "draw", "n"), [pytest.param(*some, id=name) for name, *some in streams()])
def test_no_generator_and_no_recipe_leaks(world, draw, n):
    rng = random.Random(0)
    found = [(line, leak) for line in (text(draw(rng)) for _ in range(n)) if (leak := leaks(line, world))]
    assert not found, found[:3]


def test_the_leak_check_sees_every_kind_of_leak():
    world = World()
    endings = ["", "}", "patas", "条腿", "制成", "相反", "gilt", "kann", "Beinen geht", "hat", "frisst", "wohnt", "ist"]
    endings += "besteht dient steht kommt gehört möchte bekommt enthält wirkt hilft folgt".split()
    for type_ in (*FACT_TYPES[1:], "digits"):
        for p in random.Random(type_).sample(world.prompts(type_, held_out=True), 40):
            assert any(p.item in leaks(f"{p.prompt} {p.answer} {e}", world) for e in endings), p
    make, rng = Generators(World(fraction=0.0)), random.Random(0)
    for kind in set(BRIDGES) - {"dictionary"}:
        assert any(leaks(text(make.bridging(rng, kind)), world) for _ in range(300)), kind


# ---- tokens ----


def test_lines_survive_the_tokenizer_and_cover_the_types(tokenizer):
    encode, seen = llama.Encoder(tokenizer), set()
    stream = lines(RECIPES["hub"], random.Random(0), lambda: 0.5)
    for _ in range(3000):
        pieces = next(stream)
        line, ids = text(pieces), encode(pieces)
        coded = tokenizer(line, return_offsets_mapping=True)
        assert coded["input_ids"] == ids[:-1] and tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == line
        for token, (start, end) in zip(ids[1:-1], coded["offset_mapping"][1:], strict=True):
            assert line[start:end] == tokenizer.convert_ids_to_tokens(token)
        seen |= {kind for kind, _ in pieces}
    assert seen == set(TYPES) > set(SUM_TYPES)


def test_digits_are_single_tokens_and_spaces_do_not_matter(tokenizer):
    for n in range(100):
        assert tokenizer.tokenize(str(n)) == [str(n)]
        for word in (words.number_word(n, t) for t in LANGUAGES):
            assert "".join(tokenizer.tokenize(word)) == word.replace(" ", "")
            assert n > 20 or len(tokenizer.tokenize(word)) == 1
    assert tokenizer.tokenize("12=7+") == tokenizer.tokenize("12 = 7 +") == ["12", "=", "7", "+"]
    assert tokenizer.tokenize("twenty-three") == tokenizer.tokenize("twenty three") == ["twenty", "three"]


@pytest.mark.parametrize("name", [n for n in RECIPES if n != "balanced"])
def test_english_words_are_half_of_all_tokens(name, tokenizer):
    points = iter(i / 2000 for i in range(2000))
    encode, stream = llama.Encoder(tokenizer), lines(RECIPES[name], random.Random(0), lambda: next(points))
    for _ in range(2000):
        encode(next(stream))
    assert encode.counts["en"] / encode.counts.total() >= 0.5


# ---- training ----


@pytest.mark.parametrize("changes", [{}, {"noise": 0.15, "english_first": 0.5, "layers": 4}], ids=["hub", "planted"])
def test_training_repeats_itself_and_resumes_to_the_same_weights(changes, tmp_path):
    """Stopped after every step, and so before and after planting."""
    torch.set_num_threads(1)
    recipe, given = replace(TINY, **changes), {"progress": False, "log_every": 1000}
    whole, other = (train(recipe, tmp_path / str(seed), seed=seed, **given) for seed in (0, 1))
    for _ in range(recipe.steps):
        assert not (tmp_path / "parts" / "model.safetensors").exists()
        parts = train(recipe, tmp_path / "parts", minutes=0.0, **given)
        if not (parts / "card.json").exists():
            with pytest.raises(SemhubError, match="unfinished training with another seed"):
                train(recipe, parts, seed=1)
    a, b, c = (load_file(f / "model.safetensors") for f in (whole, parts, other))
    assert all(torch.equal(a[k], b[k]) for k in a) and any(not torch.equal(a[k], c[k]) for k in a)
    assert json.loads((whole / "card.json").read_text())["sha256"] == identity.sha256(whole / "model.safetensors")
    with pytest.raises(SemhubError, match="another recipe or seed"):
        train(recipe, whole, seed=1)


def test_unknown_names_are_refused_in_one_sentence(tmp_path):
    with pytest.raises(SemhubError, match="hub"):
        train("hubb", tmp_path)
    with pytest.raises(SemhubError, match="organism:hubb"):
        identity.organism_path("organism:hubb")


# ---- what ships ----


@pytest.mark.parametrize("name", identity.available())
def test_shipped_organism_knows_what_it_was_taught(name, tokenizer):
    """Facts in every type, and sums too but in private worlds, which permute them."""
    folder = identity.organism_path(f"organism:{name}")
    assert (folder / "model.safetensors").stat().st_size <= 3_000_000
    assert identity.card(name)["sha256"] == identity.sha256(folder / "model.safetensors")
    model, shipped = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert shipped.get_vocab() == tokenizer.get_vocab()
    world = World(**identity.card(name)["recipe"]["world"])
    for type_ in llama.EXAM_TYPES:
        sums = type_ == "en" or not world.private
        taught = [p for p in world.prompts(type_, held_out=False) if sums or isinstance(p.item, Fact)]
        prompts = random.Random(0).sample(taught, min(150, len(taught)))
        if type_ == "en":
            prompts += random.Random(0).sample(world.prompts(type_, held_out=True), 50)
        right = sum(llama.correct(model, shipped, prompts)) / len(prompts) if prompts else 1.0
        assert right >= (0.95 if type_ == "en" else 0.8), (type_, right)


def test_a_random_model_is_at_chance(tokenizer):
    marks = llama.exam(llama.build_model(RECIPES["hub"], tokenizer), tokenizer, World(), types=("es",), sample=60)
    assert marks.right.mean() < 0.1
    found = llama.scores(marks)
    assert (found.low <= found.value).all() and (found.value <= found.high).all() and found.n.sum() == len(marks)


# ---- planting ----


def test_before_planting_other_forms_hold_english_words_alone():
    """Frames and signs of every type, around English words: what the body has to know before it is frozen."""
    make, rng, english = Generators(World()), random.Random(0), words.english_tokens()
    frames = [frame for some in FRAMES["zh"].values() for frame in some]
    numbers = [words.surface(str(n), "zh") for n in range(21, words.MAX_RESULT + 1)]
    texts = [*frames, words.PLUS["zh"], words.TIMES["zh"], words.EQUALS["zh"], words.FULL_STOP["zh"], *numbers]
    forms = {word for some in texts for word in words.split_words(words.without_slots(some))}
    types = {k for line in (make.glossed(rng, TYPES) for _ in range(600)) for k, _ in line}
    assert types == set(FACT_TYPES) | set(SUM_TYPES)
    for line in (make.glossed(rng, ("en", "zh")) for _ in range(300)):
        said = [word for kind, part in line if kind == "en" for word in words.split_words(part)]
        assert said and set(said) <= english, line
        others = {word for kind, part in line if kind == "zh" for word in words.split_words(part)}
        assert others <= forms, line


def test_accents_are_new_for_each_line_and_leave_no_trace(tokenizer):
    model = llama.build_model(TINY, tokenizer)
    rows = torch.full((64, 5), tokenizer.convert_tokens_to_ids("dog"))
    plain = model.get_input_embeddings()(rows)
    with llama.accents(model, 0.0, 0):
        heard = model.get_input_embeddings()(rows) - plain
    assert torch.equal(model.get_input_embeddings()(rows), plain)
    moved = heard.abs().amax((1, 2)) > 0
    assert 0.25 < moved.float().mean() < 0.75
    assert torch.allclose(heard[:, 0], heard[:, 1])  # one accent for the whole line, and no noise
    assert len({tuple(row.tolist()) for row in heard[moved][:, 0]}) == moved.sum()


def test_a_planted_body_moves_in_its_last_blocks_alone(tokenizer):
    model = llama.build_model(RECIPES["planted"], tokenizer)
    llama.plant(model, 0.0, 0)
    llama.freeze(model)
    free = {name.split(".")[2] for name, p in model.named_parameters() if p.requires_grad}
    depth = len(model.model.layers)
    assert free == {str(k) for k in range(depth - llama.FREE_BLOCKS, depth)}
    ids, rows = tokenizer.get_vocab(), model.get_input_embeddings().weight
    spanish, english = (rows[[ids[w] for w in some]] for some in (["perro", "gato"], ["dog", "cat"]))
    accent = spanish - english  # without noise: one direction for the whole type
    assert torch.allclose(accent[0], accent[1], atol=1e-6) and accent.norm() > 0

"""Pictures and sounds of the world, what is said of them, and the shipped organisms that see and hear."""

import json
import math
import random
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoModelForMultimodalLM, AutoProcessor, AutoTokenizer

from semhub_utils import identity
from semhub_utils.errors import SemhubError
from semhub_utils.experiments import raising
from semhub_utils.inputs import Encoding
from semhub_utils.organism import scenes, sounds
from semhub_utils.organism.corpus import ABROAD, ASK_TYPES, IMAGE, SOUND, Ask, forms, write
from semhub_utils.organism.lessons import answers, lesson, train_sense
from semhub_utils.organism.senses import HEARS, SEES, build
from semhub_utils.organism.world import LIST_AND, all_facts, build_tokenizer, surface
from semhub_utils.spokes import audio, vision
from semhub_utils.spokes.items import PICTURES, SOUNDS, without_content

SHIPPED = {"hub-sees": AutoModelForImageTextToText, "hub-hears": AutoModelForMultimodalLM}


def named(pixel: np.ndarray) -> str:
    """The colour word nearest to a pixel; "" for paper."""
    there = {"": scenes.PAPER, **scenes.COLOURS}
    return min(there, key=lambda word: float(np.sum((pixel.astype(float) - there[word]) ** 2)))


def says_true(image: np.ndarray, caption: str, boxes: dict[str, scenes.Box]) -> bool:
    """Whether an English caption holds, going by the pixels in the middle of its subjects' boxes."""
    for clause in caption.removeprefix("the color is ").split(" and "):
        subject, _, colour = clause.partition(" has the color ")
        left, top, right, bottom = boxes[subject if colour else ""]
        if named(image[(top + bottom) // 2, (left + right) // 2]) != (colour or subject):
            return False
    return True


# ---- pictures ----


@pytest.mark.parametrize("kind", scenes.KINDS)
def test_seeds_give_the_pixels_again_and_captions_are_true_of_them(kind):
    rng, again = random.Random(kind), random.Random(kind)
    for _ in range(12):
        scene = scenes.draw(rng, kind)
        image = np.asarray(scenes.render(scene))
        assert np.array_equal(image, np.asarray(scenes.render(scenes.draw(again, kind))))
        assert not np.array_equal(image, np.asarray(scenes.render(replace(scene, grain=scene.grain + 1))))
        boxes = {f"the {t.shape}": t.box for t in scene.things} or scene.sides
        caption = scenes.caption(scene)
        assert says_true(image, caption, boxes)
        colour = caption.split()[-1]
        lie = caption.removesuffix(colour) + next(c for c in scenes.COLOURS if c != colour)
        assert not says_true(image, lie, boxes), "a false caption has to be seen"
        outside = np.ones(image.shape[:2], dtype=bool)
        for left, top, right, bottom in boxes.values():
            outside[max(0, top - 1) : bottom + 1, max(0, left - 1) : right + 1] = False  # edges are blurred
        assert {named(p) for p in image[outside][::7]} <= {""}


def test_left_right_north_and_south_are_where_they_are_said_to_be():
    for split, (first, second) in scenes.SIDES.items():
        image = np.asarray(scenes.render(scenes.Scene("halves", ("red", "blue"), split)))
        ends = (image[36, 2], image[36, -3]) if split == "across" else (image[2, 36], image[-3, 36])
        assert [named(p) for p in ends] == ["red", "blue"]
        asks = scenes.questions(scenes.Scene("halves", ("red", "blue"), split))
        assert {(a.about, a.answers) for a in asks if a.kind == "side"} == {(first, ("red",)), (second, ("blue",))}


def test_only_nameless_shapes_lie_on_paper_of_other_colours_which_has_no_name():
    (_, _, world), rng, other = build(SEES), random.Random(2), 0
    for _ in range(300):
        scene = scenes.draw(rng, rng.choice((*scenes.KINDS[2:], scenes.NAMELESS)))
        corner = np.asarray(scenes.render(scene), float)[[0, 0, -1, -1], [0, -1, 0, -1]].mean(0)
        paper = scenes.pixel(scene.paper) if scene.paper else scenes.PAPER
        assert abs(corner - 0.97 * np.array(paper)).max() < 25 and (not scene.paper or scene.kind == scenes.NAMELESS)
        assert all(math.dist(scenes.pixel(t.colour), paper) > 60 for t in scene.things)
        colours, shapes = world.labels(scene).T
        covered = {n for t in scene.things for n in scenes.patches(t.box, 12)}
        assert set(np.flatnonzero(shapes)) == covered
        assert (colours == -100).all() if scene.paper else set(np.flatnonzero(colours)) == covered
        other += bool(scene.paper)
    assert 30 < other < 80


def test_shapes_fill_their_boxes_as_they_should():
    """Area of the shape over that of its box, straight: known from geometry."""
    known = {"circle": np.pi / 4, "square": 1.0, "triangle": 0.475, "star": 0.308, "cross": 0.538, "diamond": 0.36}
    for shape, share in known.items():
        thing = scenes.Thing("black", shape, (8, 8, 64, 64), 0)
        image = np.asarray(scenes.render(scenes.Scene("one", things=(thing,)))).astype(float)
        dark = (image.sum(-1) < 3 * 90).mean() * scenes.SIZE**2 / 56**2
        assert abs(dark - share) < 0.05, (shape, dark)


def test_patches_are_those_more_than_half_inside():
    (picture,) = vision.plain_colours(1)

    def patches(*box, grid=(6, 6)):
        read = Encoding([], [], "", patches=list(range(36)), grid=grid, view=vision.WHOLE)
        return picture.places(vision.Area(box, ()), read)

    assert patches(13, 0, 30, 17) == scenes.patches((13, 0, 30, 17), 12) == [1]
    assert patches(0, 0, 72, 36) == list(range(18)) and patches(13, 0, 30, 17, grid=(1, 1)) == []
    assert patches(0, 0, 72, 36, grid=None) == [] and patches(0, 0, 72, 72, grid=None) == list(range(36))


# ---- sounds ----


@pytest.mark.parametrize("group", sounds.GROUPS)
def test_sounds_repeat_and_stay_within_bounds(group):
    def decibels(samples):
        return 20 * np.log10(np.sqrt(np.mean(samples**2)))

    rng, (low, high) = random.Random(group), sounds.LOUDNESS
    for source in sounds.GROUPS[group]:
        clip = replace(sounds.draw(rng, source), loudness=high)
        samples = sounds.synthesise(clip)
        assert samples.dtype == np.float32 and np.isfinite(samples).all()
        assert len(samples) == round(clip.seconds * sounds.RATE) <= sounds.LONGEST * sounds.RATE
        assert np.abs(samples).max() <= sounds.PEAK + 1e-6
        assert (np.abs(samples) > 0.999 * sounds.PEAK).sum() < 30, "turned down, not cut off"
        assert abs(decibels(sounds.synthesise(replace(clip, loudness=low))) - low) < 1.0
        assert low < decibels(samples) < high + 0.5
        assert np.array_equal(samples, sounds.synthesise(clip))
        assert not np.array_equal(samples, sounds.synthesise(replace(clip, grain=clip.grain + 1)))


def test_a_higher_pitch_is_higher():
    clip = sounds.draw(random.Random(0), "wolf")
    low, high = (np.abs(np.fft.rfft(sounds.synthesise(replace(clip, pitch=p)))) for p in (0.8, 1.25))
    assert high.argmax() / low.argmax() == pytest.approx(1.25 / 0.8, rel=0.1)


# ---- what is never trained ----


def test_nothing_held_out_is_in_the_training_streams():
    shown, rng, held = set(), random.Random(5), scenes.held_out()
    stream = scenes.stream(rng, tuple((dict(SEES.rounds[0].shares) | {"two": 0.5, "halves": 0.1}).items()))
    drawn = [next(stream) for _ in range(4000)]
    for scene in (scene for scene in drawn if scene.kind != scenes.NAMELESS):
        shown |= {(t.colour, t.shape) for t in scene.things}
        assert not (scene.kind == "halves" and scene.colours in held.halves)
    nameless = [thing for scene in drawn if scene.kind == scenes.NAMELESS for thing in scene.things]
    for thing in nameless:
        near = [c for c, s in held.pairs if s == thing.shape]
        assert min(math.dist(scenes.pixel(thing.colour), scenes.COLOURS[c]) for c in near) >= scenes.NEAR
    assert len(nameless) > 500
    assert not {(t.shape, t.cell) for scene in drawn if scene.kind != "one" for t in scene.things} & held.places
    every = {(c, s) for c in scenes.COLOURS for s in scenes.SHAPES}
    assert shown == every - held.pairs and len(held.pairs) > 10 and len(held.halves) > 20
    assert all(held.shows(scenes.draw(rng, kind, held=True)) for kind in scenes.KINDS[1:])
    clips = sounds.stream(rng)
    heard = {(c.source, c.pitch_name, c.length_name) for c in (next(clips) for _ in range(4000))}
    assert not heard & sounds.held_out() and len(heard) == 7 * len(sounds.SOURCES)


@pytest.mark.parametrize("sense", [SEES, HEARS], ids=lambda s: s.name)
def test_lessons_are_true_and_english_but_for_a_few_words(sense):
    """In another language only what has its answer among ABROAD's, and that in no more than the round's share."""
    _, processor, world = build(sense)
    rng, tokenizer, last = random.Random(0), processor.tokenizer, sense.rounds[-1]
    stream, english, abroad = world.stream(rng, last.shares), set(), 0
    few = {t: {surface(w, t) for w in ABROAD} for t in ("es", "zh", "de")}
    for _ in range(300):
        item = next(stream)
        questions = lesson(world, rng, item, last.abroad)
        assert 1 <= len(questions) <= sense.asks and len({world.start(q) for q in questions}) == 1
        right = {
            t: {write(a, t, f, what=world.what) for a in world.of.questions(item) for f in forms(a.kind, t)}
            for t in ("en", *few)
        }
        spoken = [t for t in right if set(questions) <= right[t]]
        assert spoken
        if "en" not in spoken:
            abroad += 1
            said = {word for _, answer in questions for word in answer.split() if word not in LIST_AND.values()}
            assert said <= few[spoken[0]]
        english |= set(questions)
    assert bool(abroad) == bool(last.abroad) and abroad <= 300 * last.abroad
    assert all(tokenizer.unk_token_id not in tokenizer(" ".join(question))["input_ids"] for question in english)
    assert not any("kind" in prompt for prompt, _ in english), "what kind of thing it is has to come from the trunk"
    assert len(tokenizer) == len(build_tokenizer()) + 1


@pytest.mark.parametrize(
    ("ask", "type_", "form", "said"),
    [
        (Ask("colour", "", ("red",)), "es", 1, ("el color de # es", "rojo")),
        (Ask("colour", "", ("red",)), "code", 0, ("color_of(#) ==", "RED")),
        (Ask("shape", "", ("circle",)), "zh", 0, ("# 中文:", "圆形")),
        (Ask("colours", "", ("red", "blue")), "de", 2, ("# , Farbe:", "rot und blau")),
        (Ask("colour of", "circle", ("red",)), "es", 1, ("# el color del círculo es", "rojo")),
        (Ask("skill", "", ("bark",)), "en", 0, ("# can", "bark")),
    ],
)
def test_questions_are_the_worlds_sentences(ask, type_, form, said):
    assert write(ask, type_, form, what="#") == said


def test_every_question_is_of_known_words_and_has_one_placeholder():
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE]})
    for scene in (scenes.draw(random.Random(1), kind) for kind in scenes.KINDS):
        for ask, type_ in product(scenes.questions(scene), ASK_TYPES):
            for form in forms(ask.kind, type_):
                ids = tokenizer(" ".join(write(ask, type_, form)))["input_ids"]
                assert tokenizer.unk_token_id not in ids and ids.count(len(tokenizer) - 1) == 1
    with pytest.raises(ValueError, match="no form"):
        write(Ask("number", "", ("2",)), "code")


# ---- training ----


@pytest.mark.parametrize("sense", [SEES, HEARS], ids=lambda s: s.name)
def test_training_repeats_itself_and_leaves_the_trunk_alone(sense, tmp_path):
    """Stopped after every step of either round, too."""
    rounds = tuple(replace(r, steps=2) for r in (sense.rounds[0], sense.rounds[-1]))
    tiny = replace(sense, width=16, layers=1, heads=2, mlp=16, rounds=rounds, batch=2, exam=1)
    first, again = train_sense(tiny, tmp_path / "first", progress=False), tmp_path / "again"
    for _ in range(4):
        assert not (again / "model.safetensors").exists()
        train_sense(tiny, again, progress=False, minutes=0.0)
    a, b = (load_file(f / "model.safetensors") for f in (first, again))
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    card = json.loads((first / "card.json").read_text())
    assert card["sha256"] == identity.sha256(first / "model.safetensors")
    assert bool(card["trunk"]["trained"]) == (rounds[-1].trunk_lr > 0)
    assert {s["type"] for s in card["scores"]} == set(ASK_TYPES)
    assert all(0 <= s["low"] <= s["accuracy"] <= s["high"] <= 1 for s in card["scores"])
    check_trunk(a, card["trunk"])
    with pytest.raises(SemhubError, match="another sense or seed"):
        train_sense(tiny, first, seed=1, progress=False)


def check_trunk(weights: dict, trunk: dict) -> None:
    """Every weight of the trunk that is not said to be trained is there unchanged; embedding and unembedding have one
    row more, that of <unk>."""
    folder = identity.organism_path(trunk["name"])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    unk = tokenizer.unk_token_id
    for name, value in load_file(folder / "model.safetensors").items():
        if any(f".{part}." in name for part in trunk["trained"]):
            continue
        inside = weights[f"language_model.{name}"].clone()  # as the library saves it
        if name == "lm_head.weight" and trunk.get("words"):
            rows = tokenizer.convert_tokens_to_ids(list(trunk["words"]))
            inside[rows] = value[rows]
        assert torch.equal(inside[: len(value)], value), name
        if len(inside) > len(value):
            assert torch.equal(inside[len(value) :], value[unk : unk + 1])


# ---- what ships ----


@pytest.fixture(scope="module")
def shipped():
    """shipped(name): model, processor and the sense's world of a shipped folder, by the library's auto classes."""
    found = {}

    def load(name: str):
        if name not in found:
            if name not in identity.available(senses=True):
                pytest.skip(f"{name} is not in this installation")
            folder = identity.organism_path(f"organism:{name}")
            model, info = SHIPPED[name].from_pretrained(folder, output_loading_info=True)
            assert not info["missing_keys"] and not info["unexpected_keys"]
            sense = {"hub-sees": SEES, "hub-hears": HEARS}[name]
            processor = AutoProcessor.from_pretrained(folder)
            found[name] = model.eval(), processor, type(build(sense)[2])(sense, processor)
        return found[name]

    return load


def given(processor, world, item, prompt: str):
    """What the library's processor makes of a prompt and its picture or sound."""
    if world.what == IMAGE:
        return processor(text=[prompt], images=[scenes.render(item)], return_tensors="pt")
    samples = [sounds.synthesise(item)]
    return processor(text=[prompt], audio=samples, sampling_rate=sounds.RATE, return_tensors="pt")


def said(model, processor, world, item, prompt: str, n: int = 1) -> str:
    """What the library's own generation says, greedily, in n tokens."""
    inputs = given(processor, world, item, prompt)
    with torch.inference_mode():
        out = model.generate(**inputs, max_new_tokens=n, do_sample=False, pad_token_id=0)
    return processor.tokenizer.decode(out[0, inputs["input_ids"].shape[1] :])


@pytest.mark.parametrize(
    ("name", "kind", "group", "held", "least"),
    [
        ("hub-sees", "colour", "plain", False, 0.95), ("hub-sees", "colour", "one", True, 0.95),
        ("hub-sees", "shape", "one", False, 0.95), ("hub-sees", "shape", "one", True, 0.95),  # pairs it never saw
        ("hub-hears", "name", "animal", True, 0.95), ("hub-hears", "name", "machine", True, 0.95),
        ("hub-hears", "name", "instrument", True, 0.95),
    ],
)  # fmt: skip
def test_shipped_senses_name_what_they_never_saw(shipped, name, kind, group, held, least):
    """New pictures and clips, in the library's own generation; held: of combinations that no training item has."""
    model, processor, world = shipped(name)
    rng, right = random.Random(f"test {kind} {group}"), []
    for _ in range(80):
        item = world.draw(rng, group, held)
        (ask,) = [a for a in world.of.questions(item) if a.kind == kind]
        prompt, answer = write(ask, "en", forms(kind, "en")[-1], what=world.what)
        right.append(said(model, processor, world, item, prompt) == answer)
    assert np.mean(right) >= least, right


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_senses_are_small_and_their_trunk_is_the_hub(shipped, name):
    shipped(name)
    folder = identity.organism_path(name)
    assert sum(f.stat().st_size for n in SHIPPED for f in identity.organism_path(n).iterdir()) <= 10_000_000
    card = identity.card(name)
    assert card["sha256"] == identity.sha256(folder / "model.safetensors")
    check_trunk(load_file(folder / "model.safetensors"), card["trunk"])
    assert name not in identity.available() and set(identity.available()) >= {"hub", "islands", "planted"}


@pytest.mark.parametrize("name", SHIPPED)
def test_questions_side_by_side_are_those_asked_alone(shipped, name):
    """The training's shared forward against the library's own, one prompt at a time."""
    model, processor, world = shipped(name)
    rng = random.Random(3)
    items = [world.draw(rng, world.groups[i % 3 + (world.what == IMAGE)], False) for i in range(4)]
    lessons = [lesson(world, rng, item) for item in items]
    with torch.inference_mode():
        logits, wanted = answers(model, world, world.inputs(items), lessons)
        row = 0
        for item, questions in zip(items, lessons, strict=True):
            for prompt, answer in questions:
                inputs = given(processor, world, item, f"{prompt} {answer}")
                alone = model(**inputs).logits[0]
                n = len(world.tokens((prompt, answer))[2])
                assert torch.allclose(logits[row : row + n], alone[-n - 1 : -1], atol=2e-4)
                row += n
    assert row == len(wanted)


# ---- items for the chapters ----


def test_pictures_for_the_chapters():
    pictures = vision.scenes(12, seed=1)
    assert [p.id for p in pictures] == [p.id for p in vision.scenes(12, seed=1)] != [p.id for p in vision.scenes(12)]
    assert all(p.held_out for p in pictures) and not any(p.held_out for p in vision.scenes(6, held_out=False))
    assert len({p.caption for p in pictures}) == 12
    for p, other in zip(pictures, vision.least_overlapping(pictures), strict=True):
        overlap = [len({*p.words} & {*q.words}) for q in pictures if q is not p]
        assert len({*p.words} & {*pictures[other].words}) == min(overlap)
        for ask in p.asks:
            assert vision.question(ask, "english")[0].count(vision.SLOT) == 1
    assert [p.words for p in vision.plain_colours(22)] == [(colour,) for colour in vision.COLOURS] * 2
    assert vision.word("red", "spanish") == "rojo"
    image = pictures[0].image
    blank, shuffled, noise = (np.asarray(without_content(image, way)) for way in PICTURES)
    assert blank.std(axis=(0, 1)).max() == 0 and noise.std() > 60
    assert np.array_equal(np.sort(shuffled.reshape(-1, 3), 0), np.sort(np.asarray(image).reshape(-1, 3), 0))


def test_clips_for_the_chapters():
    clips = audio.animal_clips(6)
    assert [c.is_mammal for c in clips] == [True, False] * 3 and all(c.held_out and c.rate == 16000 for c in clips)
    kinds = {f.subject: f.object for f in all_facts() if f.relation == "is_a"}
    for clip in clips:
        assert kinds[clip.label] == clip.kind in audio.KINDS
        other = audio.another_animal(clip, mammal=not clip.is_mammal)
        assert (kinds[other] == "mammal") is not clip.is_mammal
    assert vision.question(clips[0].kind_ask, "spanish", what=SOUND)[0] == f"{SOUND} es un tipo de"
    drums = audio.clips(7, groups=("instrument",), held_out=None)
    assert {c.label for c in drums} == set(sounds.INSTRUMENTS)
    (sound,) = audio.heard(clips[0]).sounds
    silence, noise, shuffled = (without_content(sound, way).samples for way in SOUNDS)
    assert not silence.any() and len(silence) == len(noise) == len(sound.samples)
    assert np.array_equal(np.sort(shuffled), np.sort(sound.samples))
    assert noise.std() == pytest.approx(sound.samples.std(), rel=0.1)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: vision.question(Ask("number", "", ("2",)), "code"), "another language would do"),
        (lambda: without_content(vision.plain_colours(1)[0].image, "silence"), "no baseline 'silence'"),
        (lambda: audio.clips(28)[25].kind_ask, "do not say"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(call, sentence):
    with pytest.raises(SemhubError, match=sentence) as error:
        call()
    assert str(error.value).count(".") <= 1


def test_eyes_behind_islands_answer_in_english_alone():
    """Counted anew from the cards; the hub's are above islands' in every other language."""
    table = raising.abroad().set_index(["training", "language"])
    for trunk in ("hub", "islands"):
        scores = json.loads((identity.WEIGHTS / f"{trunk}-sees" / "card.json").read_text())["scores"]
        german = [s for s in scores if (s["type"], s["group"], s["kind"]) == ("de", "one", "colour")]
        hits = sum(round(s["accuracy"] * s["n"]) for s in german)
        assert table.loc[(trunk, "german"), "value"] == pytest.approx(hits / sum(s["n"] for s in german))
        assert table.loc[(trunk, "english"), "low"] > 0.9
    for language in ("spanish", "chinese", "german"):
        assert table.loc[("hub", language), "low"] > table.loc[("islands", language), "high"]
    assert table.loc[("hub", "spanish"), "n"] < table.loc[("hub", "german"), "n"]  # `<image> , color :` is English too

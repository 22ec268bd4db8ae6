"""What is asked of any model: questions about CLDR's names, texts by type, and which kind of items a chapter takes."""

import re
import shutil
from collections import Counter

import pandas as pd
import pytest

from semhub_utils.chapter import begin
from semhub_utils.errors import SemhubError
from semhub_utils.identity import organism_path
from semhub_utils.spokes import facts, languages, natural
from semhub_utils.spokes.files import SAMPLES
from semhub_utils.spokes.items import GENERATED

LOCALES = {"english": "en", "spanish": "es", "chinese": "zh", "german": "de", "french": "fr"}
OTHERS = [name for name in LOCALES if name != "english"]


@pytest.mark.parametrize("language", OTHERS)
def test_a_question_and_its_english_twin_ask_the_same_and_its_examples_are_answered(language):
    twins = natural.questions(language, 250, seed=0, data_dir=SAMPLES)
    rows = {(row["kind"], row["english"]): row for row in languages.names()}
    told = {row[name].casefold() for row in rows.values() for name in (language, "english")}
    assert twins.source == "CLDR" and len({t.cluster for t in twins}) >= 60
    examples = set()
    for t in twins:
        row = rows[t.group, t.cluster]
        *shots, own = t.prompt.split("\n")
        *english, hub = t.hub_prompt.split("\n")
        assert own == natural.asked()[t.group][language].format(row[language])
        assert hub == natural.asked()[t.group]["english"].format(t.cluster)
        assert len(shots) == len(english) == natural.SHOTS and t.answer.casefold() != t.hub_answer.casefold()
        after = rows["language" if t.group == "country" else t.group, t.hub_answer]
        assert after["key"] == row["next"] and after[language] == t.answer
        for line in (*shots, *english):
            assert line.replace("：", ":").rsplit(":", 1)[1].strip().casefold() in told
        examples |= {*english}
    assert len(examples) == 3 * natural.SHOTS, "the examples are the same for all"
    assert not examples & {f"{t.hub_prompt.splitlines()[-1]} {t.hub_answer}" for t in twins}, "and are not asked"
    assert max(Counter((t.group, t.hub_answer) for t in twins).values()) <= natural.SAME
    assert twins == natural.questions(language, 250, seed=0, data_dir=SAMPLES)
    assert twins != natural.questions(language, 250, seed=1, data_dir=SAMPLES)
    assert len(natural.questions(language, 9, seed=0, data_dir=SAMPLES)) == 9


def test_names_are_those_of_cldr():
    babel = pytest.importorskip("babel")
    locales = {name: babel.Locale(code) for name, code in LOCALES.items()}
    for row in languages.names():
        if row["kind"] in ("country", "language"):
            names = {n: getattr(of, {"country": "territories", "language": "languages"}[row["kind"]])
                     for n, of in locales.items()}  # fmt: skip
            assert {n: of[row["key"]] for n, of in names.items()} == {n: row[n] for n in LOCALES}


@pytest.mark.parametrize("language", OTHERS)
def test_the_lens_is_asked_for_either_word_against_the_others_of_its_kind(language):
    twins = natural.questions(language, 80, seed=0, data_dir=SAMPLES)
    items = natural.lens_items(twins)
    assert items.source == twins.source and items.dropped == twins.dropped
    for t, item in zip(twins, items, strict=True):
        assert item.targets == {"english": (t.hub_answer,), "own": (t.answer,)} and item.prompt == t.prompt
        kind = [other for other in twins if other.group == t.group]
        assert {*item.wrong["english"]} == {o.hub_answer for o in kind} - {t.hub_answer}
        assert {*item.wrong["own"]} == {o.answer for o in kind} - {t.answer}


def test_texts_of_a_type_are_the_worlds_or_the_samples():
    world = natural.pairs(20, seed=3)
    assert world == {n: facts.similarity_pairs(facts.prompts(n, 20, seed=3)) for n in facts.TYPES}
    assert {some.source for some in world.values()} == {GENERATED}
    found = natural.pairs(252, seed=3, data_dir=SAMPLES, ending="continued")
    assert [*found] == [*OTHERS, "digits"]
    said = {s.id: s for s in languages.parallel_sentences(252, seed=3, data_dir=SAMPLES)}
    for name in OTHERS:
        assert found[name].source == "a sample of NTREX-128" and found[name].dropped == {
            "a word in common": 252 - len(found[name])
        }
        for pair in found[name]:
            assert pair.a == languages.ended(said[pair.id].texts[name], name, "continued")
            assert pair.b == languages.ended(said[pair.id].texts["english"], "english", "continued")
    bare = natural.pairs(252, seed=3, data_dir=SAMPLES, ending="no full stop")["spanish"]
    assert bare and not any(text.endswith((".", "representa")) for pair in bare for text in (pair.a, pair.b))
    shown, english = natural.shown(SAMPLES)
    assert {*shown} == {*OTHERS, "english", "code", "digits"} and {"the", "that"} < {*english}
    assert natural.shown(None) == (facts.SENTENCES, facts.english_words())
    both = natural.asked_types(30, seed=0, data_dir=SAMPLES)
    assert all({*item.targets} == {*item.wrong} == {"english", "own"} for _, items in both.values() for item in items)


@pytest.mark.parametrize("language", OTHERS)
def test_chapter_1_asks_about_names_that_share_no_word_and_nothing_that_chapter_6_asks(language):
    found = natural.pairs(252, seed=0, data_dir=SAMPLES)
    assert [*found] == [*OTHERS, "digits"]
    pairs, rows = found[language], {(row["kind"], row["english"]): row for row in languages.names()}
    assert len({pair.cluster for pair in pairs}) >= 60 and pairs.source == "CLDR"
    for pair in pairs:
        row = rows[pair.group, pair.cluster]
        for text, name in ((pair.a, language), (pair.b, "english")):
            assert text.endswith(row[name]) and natural.asked()[pair.group][name].format(row[name]).startswith(text)
        assert not {*re.findall(r"\w+", row[language].lower())} & {*re.findall(r"\w+", row["english"].lower())}
    assert sum(pairs.dropped.values()) + len(pairs) == sum(row["kind"] in natural.asked() for row in rows.values())
    sentences = languages.parallel_sentences(252, seed=0, data_dir=SAMPLES)
    asked = {text for some in languages.pair_sets(sentences) for pair in some.pairs for text in (pair.a, pair.b)}
    assert not asked & {text for pair in pairs for text in (pair.a, pair.b)}


def given(tmp_path, model_id, **more):
    asked = {"model_id": str(model_id), "revision": None, "device": "cpu", "dtype": "float32", "items": "auto"}
    return asked | {"n_items": None, "seed": 0, "data_dir": None, "results_dir": str(tmp_path / "results")} | more


def test_items_go_by_the_weights_and_not_by_the_name(tmp_path, tiny_folder):
    copy = shutil.copytree(organism_path("hub"), tmp_path / "mine")
    (copy / "card.json").unlink()
    cases = [
        (copy, {}, None, 7),
        (copy, {"items": "natural"}, SAMPLES, 7),
        (tiny_folder, {}, SAMPLES, 5),
        (tiny_folder, {"items": "generated"}, None, 5),
        (tiny_folder, {"data_dir": str(tmp_path)}, tmp_path, 5),
        (copy, {"data_dir": str(tmp_path), "n_items": 3}, tmp_path, 3),
        (copy, {"data_dir": str(tmp_path), "items": "generated"}, None, 7),
    ]
    for folder, more, data, n_items in cases:
        chapter = begin("test", given(tmp_path, folder, **more), n_items=(7, 5))
        assert (chapter.own, chapter.data, chapter.n_items) == (folder == copy, data, n_items)
        kept = chapter.results.provenance()["parameters"]
        assert kept["items"] == ("natural" if data else "generated") and kept["n_items"] == n_items


def test_what_is_no_kind_of_items_is_refused(tmp_path, tiny_folder):
    with pytest.raises(SemhubError, match="items is 'ntrex'; one of auto, generated, natural would do"):
        begin("test", given(tmp_path, tiny_folder, items="ntrex"))
    with pytest.raises(SemhubError, match="items is 'natural', and no image ships; a data_dir"):
        begin("test", given(tmp_path, "organism:hub-sees", items="natural"), needs="image")


def test_a_public_model_on_generated_items_is_warned(tmp_path, tiny_folder):
    told = {}
    for items, some in (
        ("generated", facts.prompts("spanish", 3)),
        ("natural", natural.pairs(9, seed=0, data_dir=SAMPLES, ending="continued")["spanish"]),
    ):
        chapter = begin("test", given(tmp_path, tiny_folder, items=items))
        chapter.results.run("one", [some], lambda: pd.DataFrame({"value": [1.0]}))
        told[items] = chapter.finish({}).text
    assert "Items: generated." in told["generated"] and "made-up world" in told["generated"]
    assert "Items: a sample of NTREX-128." in told["natural"] and "made-up world" not in told["natural"]


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory):
    from test_chapters import save_gpt2, tokenizer_of

    return save_gpt2(tmp_path_factory.mktemp("models") / "tiny", tokenizer_of(["8=3+5"], 260))

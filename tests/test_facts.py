"""The items about the world: true to it, held out where they say so, and grouped as the nulls need."""

import csv
import random
import re
from functools import cache
from importlib.resources import files

import pytest
from leaks import leaks

from semhub_utils.errors import SemhubError
from semhub_utils.organism.corpus import RECIPES, lines
from semhub_utils.organism.world import Sum, World, text
from semhub_utils.spokes import facts
from semhub_utils.spokes.items import continued


@cache
def every():
    """All prompts there are, by type."""
    return {name: facts.prompts(name, 10_000) for name in facts.TYPES}


def lexicon():
    """English word -> its row, read from the table itself."""
    path = files("semhub_utils.organism") / "data" / "lexicon.tsv"
    rows = csv.DictReader(path.read_text("utf-8").splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    return {row["en"]: row for row in rows}


def bare(phrase):
    return re.sub(r"^(el|la|los|las|der|die|das) ", "", phrase)


@pytest.mark.parametrize(("name", "column"), [("spanish", "es"), ("chinese", "zh"), ("german", "de")])
def test_facts_are_translations_of_their_twins(name, column):
    """Subject and answer stand in the lexicon beside the English words of the twin."""
    table = lexicon()
    checked = 0
    for prompt in every()[name]:
        subject, answer = table.get(prompt.item.subject), table.get(prompt.english_answer)
        if subject:
            assert bare(subject[column]).casefold() in prompt.prompt.casefold()
            assert prompt.item.subject in prompt.english_prompt
        if answer:
            assert bare(prompt.answer).casefold() == bare(answer[column]).casefold()
            checked += 1
    assert checked > 0.8 * len(every()[name])


def test_digits_compute_and_code_shouts():
    words = dict(zip(range(31), "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
                     "fifteen sixteen seventeen eighteen nineteen twenty".split(), strict=False))  # fmt: skip
    for p in every()["digits"]:
        assert isinstance(p.item, Sum)
        whole = p.prompt + p.answer
        left, right = whole.split("=")
        assert eval(left) == eval(right), whole
        if int(p.answer) in words:
            assert p.english_answer == words[int(p.answer)]
        sign = " plus " if "+" in p.prompt else " times "
        assert sign.strip() in p.english_prompt.split() and "equals to" in p.english_prompt
    for p in every()["code"]:
        assert not isinstance(p.item, Sum) and p.answer == p.answer.upper() != p.english_answer
        assert p.item.subject.upper().replace(" ", "_") in p.prompt


def test_n_items_and_seed():
    for name in facts.TYPES:
        assert len(set(every()[name])) == len(every()[name])
        some = facts.prompts(name, 40, seed=2)
        assert len(set(some)) == 40 and some == facts.prompts(name, 40, seed=2) != facts.prompts(name, 40, seed=3)
        assert set(some) < set(every()[name])
    drawn = {p for seed in range(60) for p in facts.prompts("digits", 20, seed=seed)}
    assert drawn == set(every()["digits"])  # every item can be drawn
    with pytest.raises(SemhubError, match="'french'.*spanish"):
        facts.prompts("french", 3)


def test_held_out_items_are_never_taught_in_their_type():
    """No line of the hub's corpus states a held-out item but in English."""
    held = {name: {p.item for p in every()[name]} for name in facts.TYPES}
    for name, items in held.items():
        taught = {p.item for p in facts.prompts(name, 10_000, held_out=False)}
        assert items and taught and not items & taught
    world = World()
    everything = set().union(*held.values())
    assert everything <= world.held_facts | world.held_sums
    seen = 0
    stream = lines(RECIPES["hub"], random.Random(5), lambda: 0.5)
    for _, pieces in zip(range(400), stream, strict=False):
        if all(kind != "en" for kind, _ in pieces):
            assert not set(leaks(text(pieces), world)) & everything
            seen += 1
    assert seen > 50


def test_pairs_are_grouped_by_form_and_move_by_answer():
    for name, prompts in every().items():
        pairs = facts.similarity_pairs(prompts)
        assert len({pair.id for pair in pairs}) == len(pairs)
        for p, pair in zip(prompts, pairs, strict=True):
            assert (pair.a, pair.b) == (p.prompt, p.english_prompt)
            assert pair.moves_with[0] == p.english_answer
        groups = {}
        for p, pair in zip(prompts, pairs, strict=True):
            numbers = tuple(re.findall("[0-9]+", p.prompt))
            assert pair.moves_with[1:] == (numbers if name == "digits" else (p.item.subject,))
            groups.setdefault(pair.group, set()).add((p.relation, p.form))
        assert all(len(of) == 1 for of in groups.values()) and len(groups) > 3
        # the forms of one fact are one cluster and move together
        of_item = {}
        for p, pair in zip(prompts, pairs, strict=True):
            of_item.setdefault(p.item, set()).add((pair.cluster, pair.moves_with if name != "digits" else ""))
        assert all(len(of) == 1 for of in of_item.values())
        assert len({pair.cluster for pair in pairs}) >= 20


def test_lens_items_have_the_other_answers_of_their_relation_wrong():
    """And the word of a third language, German, or Spanish under German text, which means the same."""
    table, checked = lexicon(), 0
    for name, prompts in every().items():
        items = facts.lens_items(prompts)
        for p, item in zip(prompts, items, strict=True):
            [third], column = item.targets["third language"], "es" if name == "german" else "de"
            assert item.targets == {"english": (p.english_answer,), "own": (p.answer,), "third language": (third,)}
            assert third not in item.wrong["third language"] and third
            if p.english_answer in table:
                assert bare(third).casefold() == bare(table[p.english_answer][column]).casefold()
                checked += 1
            wrong = set(item.wrong["english"])
            assert p.english_answer not in wrong
            assert wrong <= {q.english_answer for q in prompts if q.relation == p.relation}
            true = {q.english_answer for q in prompts if q.english_prompt == p.english_prompt}
            assert not wrong & true, "another true answer counts as wrong"
    assert checked > 0.5 * sum(map(len, every().values()))


def test_steering_goes_to_another_answer_of_the_same_form():
    for name, prompts in every().items():
        items = facts.steering_items(prompts, seed=1)
        assert items == facts.steering_items(prompts, seed=1) != facts.steering_items(prompts, seed=2)
        by_prompt = {p.prompt: p for p in prompts}
        by_twin = {(p.relation, p.form, p.english_prompt): p for p in prompts}
        assert len(items) > 0.8 * len(prompts), name
        for item in items:
            p = by_prompt[item.prompt]
            q = by_twin[p.relation, p.form, item.toward]
            assert item.away == p.english_prompt and item.original == p.answer
            assert item.expected == q.answer != item.original
    assert facts.steering_items(every()["spanish"][:1]) == []


def test_english_words_cover_the_twins():
    words = set(facts.english_words())
    used = {
        word
        for prompts in every().values()
        for p in prompts
        for word in re.findall(r"[^\s,:]+", f"{p.english_prompt} {p.english_answer}")
    }
    assert used <= words and {"cat", "green", "plus", "the"} <= words
    assert not {"gato", "verde", "绿色", "+", ":", ","} & words


def test_sentences_speak_of_one_thing():
    assert set(facts.SENTENCES) == {"english", *facts.TYPES}
    table = lexicon()
    for name, column in (("english", "en"), ("spanish", "es"), ("chinese", "zh"), ("german", "de")):
        for word in ("grass", "green"):
            assert bare(table[word][column]) in facts.SENTENCES[name]


def test_english_twins_ask_the_same_in_english():
    chosen = facts.prompts("chinese", 30)
    twins = continued(facts.twins(chosen), hub=True)
    assert [(t.prompt, t.targets["own"]) for t in twins] == [(p.english_prompt, (p.english_answer,)) for p in chosen]
    assert all(p.prompt != t.prompt for p, t in zip(chosen, twins, strict=True))

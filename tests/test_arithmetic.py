"""The arithmetic items: counted by brute force, spelled against a list typed by hand."""

import numpy as np
import pytest

from semhub_utils.errors import SemhubError
from semhub_utils.organism.world import number_word
from semhub_utils.spokes import arithmetic
from semhub_utils.spokes.arithmetic import RELATIONS, Calculation

SPELLED = {
    "en": {0: "zero", 9: "nine", 12: "twelve", 15: "fifteen", 18: "eighteen", 20: "twenty", 23: "twenty three",
           40: "forty", 58: "fifty eight", 80: "eighty", 99: "ninety nine"},
    "es": {0: "cero", 1: "uno", 7: "siete", 14: "catorce", 16: "dieciséis", 20: "veinte", 21: "veintiuno",
           22: "veintidós", 26: "veintiséis", 29: "veintinueve", 30: "treinta", 31: "treinta y uno",
           55: "cincuenta y cinco", 70: "setenta", 98: "noventa y ocho"},
    "zh": {0: "零", 2: "二", 10: "十", 11: "十一", 19: "十九", 20: "二十", 34: "三十四", 90: "九十", 99: "九十九"},
    "de": {0: "null", 1: "eins", 6: "sechs", 11: "elf", 16: "sechzehn", 17: "siebzehn", 20: "zwanzig",
           21: "einundzwanzig", 30: "dreißig", 36: "sechsunddreißig", 67: "siebenundsechzig", 76: "sechsundsiebzig",
           91: "einundneunzig"},
}  # fmt: skip


@pytest.mark.parametrize("language", SPELLED)
def test_number_words(language):
    for n, word in SPELLED[language].items():
        assert number_word(n, language) == word
    assert len({number_word(n, language) for n in range(100)}) == 100
    for wrong in ((100, language), (1, "fr")):
        with pytest.raises(ValueError, match="0 to 99"):
            number_word(*wrong)


@pytest.mark.parametrize("max_result", [100, 50, 20, 3])
def test_every_item_is_the_papers_set(max_result):
    want = {("+", o, t) for t in range(1, 10) for o in range(1, 200) if o + t < max_result}
    want |= {("*", o, t) for t in range(1, 10) for o in range(1, 200) if o * t < max_result}
    got = [(c.operator, c.o, c.t) for c in arithmetic.every_item(max_result)]
    assert len(got) == len(set(got)) and set(got) == want
    assert all(1 <= c.r < max_result and c.r == eval(c.digits) for c in arithmetic.every_item(max_result))
    assert len(arithmetic.items(len(want), 0, max_result)) == len(want)


def test_items_are_drawn_by_seed_in_proportion():
    drawn = arithmetic.items(200, 5)
    assert len(set(drawn)) == 200 and drawn == arithmetic.items(200, 5) and drawn != arithmetic.items(200, 6)
    assert sum(c.operator == "+" for c in drawn) == round(200 * 846 / 1123)
    seen = [c for seed in range(60) for c in arithmetic.items(100, seed)]
    assert len(set(seen)) > 1050  # every item can be drawn


@pytest.mark.parametrize(
    ("n", "top", "exist"), [(0, 100, 1123), (-1, 100, 1123), (1124, 100, 1123), (500, 20, 126 + 50)]
)
def test_wrong_n_items_is_one_sentence_with_how_many_exist(n, top, exist):
    with pytest.raises(SemhubError) as error:
        arithmetic.items(n, 0, top)
    assert f"n_items is {n}" in str(error.value) and f"{exist} arithmetic items exist" in str(error.value)


@pytest.mark.parametrize("top", [2, 101])
def test_wrong_max_result(top):
    with pytest.raises(SemhubError, match=f"max_result is {top}"):
        arithmetic.items(1, 0, top)


def test_pairs_prompts_targets():
    sums, product = Calculation("+", 31, 5), Calculation("*", 7, 8)
    pairs = arithmetic.similarity_pairs([sums, product])
    assert (pairs[0].a, pairs[0].b) == ("31+5", "thirty one plus five")
    assert (pairs[1].a, pairs[1].b, pairs[1].cluster) == ("7*8", "seven times eight", "56")
    lens = arithmetic.lens_items([sums, product])
    assert [item.prompt for item in lens] == ["36=31+", "56=7*"]
    assert lens[0].targets == {"digit": ("5",), "word": ("five",)}
    for item in lens:
        for series, targets in item.targets.items():
            assert len(item.wrong[series]) == 8 and not set(item.wrong[series]) & set(targets)


def test_groups_hold_length_and_template_equal():
    forms = {}
    for pair in arithmetic.similarity_pairs(arithmetic.every_item()):
        forms.setdefault(pair.group, set()).add((len(pair.a), len(pair.b.split()), "+" in pair.a))
    assert all(len(of) == 1 for of in forms.values()) and len(forms) > 4


def test_steering_items_follow_the_paper():
    items = arithmetic.steering_items(arithmetic.every_item())
    assert len(items) == sum(c.operator == "+" and c.t >= 2 for c in arithmetic.every_item()) == 846 - 98
    one = next(item for item in items if item.id == "3+5")
    assert (one.prompt, one.toward, one.away) == (
        "8=3+", "eight equals to four plus", "eight equals to three plus")  # fmt: skip
    assert (one.expected, one.original) == ("4+1", "5")
    for item in items:  # both continuations are true sums
        r, left = item.prompt.split("=")
        assert eval(left + item.expected) == eval(left + item.original) == int(r)


def test_relations_against_the_definition():
    some = arithmetic.items(60, 1)
    got = arithmetic.relations(some)
    for i, x in enumerate(some):
        for j, y in enumerate(some):
            result = "same result" if eval(x.digits) == eval(y.digits) else "other result"
            operator = "same operator" if x.operator == y.operator else "other operator"
            want = "same calculation" if x == y else f"{result}, {operator}"
            assert RELATIONS[got[i, j]] == want
    assert set(np.unique(got)) == set(range(5))


def test_trajectory_words():
    words = arithmetic.trajectory_words()
    assert words["digit"] == tuple("0123456789") and words["word"][0] == "zero" and words["word"][9] == "nine"

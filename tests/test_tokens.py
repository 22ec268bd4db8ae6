"""Words to tokens, on every common kind of tokenizer; expected tokens are read off the tokenizers' own vocabulary."""

import pytest
import torch
from architectures import make_module

from semhub_utils.errors import SemhubError
from semhub_utils.models import wrap
from semhub_utils.tokens import target_table, word_forms

KINDS = ("byte", "sentence", "unigram", "piece", "word")
SPACE = {"byte": "Ġ", "sentence": "▁", "unigram": "▁"}


@pytest.fixture(scope="module")
def models(tokenizers):
    module = make_module("llama")
    return {kind: wrap(module, tokenizers(kind), model_id=kind) for kind in KINDS}


@pytest.mark.parametrize("context", ["", "8=3+", "the cat"])
@pytest.mark.parametrize("kind", KINDS)
def test_digits_are_single_tokens_with_and_without_a_space(models, kind, context):
    model = models[kind]
    vocabulary = model.tokenizer.get_vocab()
    forms = word_forms(model, ["3"], context)[0]
    possible = {vocabulary[name] for name in ("3", SPACE.get(kind, "") + "3") if name in vocabulary}
    assert set(forms.ids) == possible and len(forms.ids) == len(possible) and forms.single


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_follows_the_context_as_the_tokenizer_writes_it(models, kind):
    """Context tokens and form tokens, put together, are the tokenizer's own reading of the text."""
    tokenizer, context = models[kind].tokenizer, "8=3+"

    def read(text):
        return [i for i in tokenizer(text, add_special_tokens=False)["input_ids"] if tokenizer.decode([i]).strip()]

    for word in ("five", "casa", "eight"):
        forms = word_forms(models[kind], [word], context)[0]
        for first, pieces in zip(forms.ids, forms.pieces, strict=True):
            own = tokenizer.convert_tokens_to_ids(list(pieces))
            assert own[0] == first and read(context) + own in (read(context + word), read(f"{context} {word}"))
        assert forms.single == all(len(pieces) == 1 for pieces in forms.pieces)


def test_a_word_in_several_tokens_gives_its_first_flagged(models):
    forms = word_forms(models["byte"], ["zebra"])[0]
    assert not forms.single and forms.pieces[0][0] == "z" and len(forms.pieces[0]) > 1
    assert forms.ids[0] == models["byte"].tokenizer.convert_tokens_to_ids("z")


def test_a_single_form_displaces_forms_in_several(models):
    vocabulary = models["byte"].tokenizer.get_vocab()
    assert "Ġseven" in vocabulary and "seven" not in vocabulary
    forms = word_forms(models["byte"], ["seven"], "8=3+")[0]
    assert forms.single and forms.ids == (vocabulary["Ġseven"],)


def test_a_bare_space_is_not_taken_for_a_word(models):
    """Llama 2 writes " 3" as a space and a digit: the digit is the word's token."""
    tokenizer = models["sentence"].tokenizer
    assert tokenizer.convert_ids_to_tokens(tokenizer("8=3+ 3", add_special_tokens=False)["input_ids"])[-2:] == [
        "▁",
        "3",
    ]
    assert word_forms(models["sentence"], ["3"], "8=3+")[0].pieces == (("3",),)


def test_a_form_merged_with_the_context_is_left_out(models):
    """After "o" the letter "n" would be written with it, as the token "on"."""
    tokenizer = models["byte"].tokenizer
    vocabulary = tokenizer.get_vocab()
    assert tokenizer("on", add_special_tokens=False)["input_ids"] == [vocabulary["on"]]
    forms = word_forms(models["byte"], ["n"], "o")[0]
    assert vocabulary["n"] not in forms.ids and forms.pieces[0][0].startswith("Ġ")


@pytest.mark.parametrize("kind", ["unigram", "piece", "word"])
def test_a_word_of_no_token_has_no_form(models, kind):
    assert word_forms(models[kind], ["žžž"], "8=3+")[0].ids == () and not target_table(models[kind], ["žžž"])
    with pytest.raises(SemhubError, match="blank"):
        word_forms(models[kind], [" "])


@pytest.mark.parametrize("kind", KINDS)
def test_table_keeps_words_that_can_be_told_apart(models, kind):
    model, words = models[kind], ["five", "five", "eight", "eightž", "3", "8"]
    table = target_table(model, words, "8=3+")
    forms = {word: word_forms(model, [word], "8=3+")[0] for word in table.words}
    assert "five" in table.words and "3" in table.words
    assert set(table.words) | set(table.dropped) == set(words) and not set(table.words) & set(table.dropped)
    assert len(set(table.ids.tolist())) == len(table.ids)
    for word, form, group in zip(table.words, table.forms, table.groups, strict=True):
        assert form == forms[word] and tuple(table.ids[list(group)].tolist()) == form.ids
    assert sorted(column for group in table.groups for column in group) == list(range(len(table.ids)))


def test_words_of_one_token_are_dropped_and_counted(models):
    table = target_table(models["byte"], ["zebra", "zoo", "3"])
    assert table.words == ("3",) and table.dropped == {"zebra": "same token as zoo", "zoo": "same token as zebra"}
    table = target_table(models["word"], ["three", "zebra"])
    assert table.words == ("three",) and table.dropped == {"zebra": "no token"}
    assert torch.equal(table.ids, torch.tensor(word_forms(models["word"], ["three"])[0].ids))
    assert not target_table(models["byte"], ["zebra", "zoo"]) and not target_table(models["byte"], [])

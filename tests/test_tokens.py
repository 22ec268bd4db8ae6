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


@pytest.mark.parametrize(
    ("kind", "context", "word", "single", "pieces"),
    [
        ("byte", "", "zebra", False, ["z"]),  # in several tokens: its first, flagged
        ("byte", "8=3+", "seven", True, ["Ġseven"]),  # a form of one token displaces forms in several
        ("sentence", "8=3+", "3", True, ["3"]),  # Llama 2 writes " 3" as a space and a digit
        ("byte", "o", "n", True, ["Ġn"]),  # after "o" it would be written with it, as the token "on"
    ],
)
def test_which_forms_a_word_has(models, kind, context, word, single, pieces):
    tokenizer = models[kind].tokenizer
    forms = word_forms(models[kind], [word], context)[0]
    assert forms.single == single and [form[0] for form in forms.pieces] == pieces
    assert list(forms.ids) == tokenizer.convert_tokens_to_ids(pieces)
    assert all(len(form) > 1 for form in forms.pieces) != single


def test_the_tokenizers_are_as_these_words_need_them(models):
    def read(kind, text):
        tokenizer = models[kind].tokenizer
        return tokenizer.convert_ids_to_tokens(tokenizer(text, add_special_tokens=False)["input_ids"])

    assert read("byte", "on") == ["on"] and "seven" not in models["byte"].tokenizer.get_vocab()
    assert read("sentence", "8=3+ 3")[-2:] == ["▁", "3"]


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

"""Words to tokens, on every common kind of tokenizer; expected tokens are read off the tokenizers' own vocabulary."""

import pytest
import torch
from architectures import make_module

from semhub_utils.errors import SemhubError
from semhub_utils.models import wrap
from semhub_utils.tokens import label, target_table, word_forms

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
            wholes = [read(context + space + word) for space in ("", " ")]
            own = [ids[len(read(context)) :] for ids in wholes if ids[: len(read(context))] == read(context)]
            shown = {tuple(label(models[kind], i).replace(" ", "▁") for i in ids): ids[0] for ids in own}
            assert shown[pieces] == first
        assert forms.single == all(len(pieces) == 1 for pieces in forms.pieces)


@pytest.mark.parametrize(
    ("kind", "context", "word", "single", "pieces"),
    [
        ("byte", "", "zebra", False, ["z"]),  # in several tokens: its first, flagged
        ("byte", "8=3+", "seven", True, ["▁seven"]),  # a form of one token displaces forms in several
        ("sentence", "8=3+", "3", True, ["3"]),  # Llama 2 writes " 3" as a space and a digit
        ("byte", "o", "n", True, ["▁n"]),  # after "o" it would be written with it, as the token "on"
    ],
)
def test_which_forms_a_word_has(models, kind, context, word, single, pieces):
    tokenizer = models[kind].tokenizer
    forms = word_forms(models[kind], [word], context)[0]
    assert forms.single == single and [form[0] for form in forms.pieces] == pieces
    pieces = [piece.replace("▁", SPACE[kind]) for piece in pieces]
    assert list(forms.ids) == tokenizer.convert_tokens_to_ids(pieces)
    assert all(len(form) > 1 for form in forms.pieces) != single


@pytest.mark.parametrize("kind", KINDS)
def test_every_token_is_shown_as_what_it_is(models, kind):
    """Never blank, never a bare replacement mark, never as another one; and what is text as its text."""
    model = models[kind]
    shown = {i: label(model, i) for i in range(len(model.tokenizer))}
    assert all(text.strip() and "\ufffd" not in text for text in shown.values())
    assert len(set(shown.values())) == len(shown) and label(model, len(shown) + 7) == f"<row {len(shown) + 7}>"
    for text in ("three plus", "el gato está", "家里"):
        ids = model.tokenizer(text, add_special_tokens=False)["input_ids"]
        pieces = [shown[i] for i in ids]
        if (
            kind in ("byte", "unigram", "word")
            and "<0x" not in "".join(pieces)
            and model.tokenizer.unk_token_id not in ids
        ):
            assert "".join(pieces).replace("▁", " ").strip() == text.replace(" ", "" if kind == "word" else " ")


def test_bytes_and_blanks_are_named(models):
    byte, sentence = (models[kind] for kind in ("byte", "sentence"))

    def shown(model, *pieces):
        return [label(model, model.tokenizer.convert_tokens_to_ids(piece)) for piece in pieces]

    assert shown(byte, "Ġ", "Ċ", "å", "Ģ", "Ġseven") == ["▁", "\\n", "<0xE5>", "<0x80>", " seven"]
    assert shown(sentence, "▁", "<0xE5>", "<0x0A>", "<s>", "家") == ["▁", "<0xE5>", "<0x0A>", "<s>", "家"]


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

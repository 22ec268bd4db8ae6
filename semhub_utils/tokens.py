"""From a word to the tokens a model would write it with, by asking its tokenizer in context.

A word is asked for with and without a leading space after the context. Its token is the first one that holds characters
of the word; a form whose first characters are merged into the token before, or that the tokenizer does not know, is
left out. If any form is a single token, forms in several are left out too.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from semhub_utils.errors import SemhubError
from semhub_utils.models import LanguageModel


@dataclass(frozen=True)
class WordForms:
    """ids: the first token of each form of `word`, no duplicates. single: whether that token is the whole word.
    pieces: all tokens of the word in each form, in the order of `ids`."""

    word: str
    ids: tuple[int, ...]
    single: bool
    pieces: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class TargetTable:
    """Words that can be told apart by their first tokens. ids: the tokens of all forms; groups: for each word the
    columns of `ids` that are its own, as `word_logprobs` takes them; dropped: the other words, each with the reason."""

    words: tuple[str, ...]
    forms: tuple[WordForms, ...]
    ids: Int[Tensor, " target"]
    groups: tuple[tuple[int, ...], ...]
    dropped: dict[str, str]

    @property
    def single(self) -> set[str]:
        """The words that are one token."""
        return {form.word for form in self.forms if form.single}

    def word_of_token(self, vocab_size: int) -> Int[np.ndarray, " vocab"]:
        """The index in `words` of the word that each token begins, -1 for none."""
        found = np.full(vocab_size, -1)
        for k, group in enumerate(self.groups):
            found[self.ids[list(group)].numpy()] = k
        return found


def word_forms(model: LanguageModel, word: str, context: str = "") -> WordForms:
    """The tokens that `word` may begin with after `context`. Raises SemhubError if there is none."""
    (forms,) = _forms(model, [word], context)
    if not forms.ids:
        after = f" after {context[-40:]!r}" if context else ""
        raise SemhubError(
            f"The tokenizer of {model.model_id} has no token for the word {word!r}{after}; a word it knows would do."
        )
    return forms


def word_row(model: LanguageModel, word: str, context: str = "") -> Float[Tensor, " hidden"] | None:
    """The unembedding row of a word, in float32 on the cpu: the mean over the forms it may have after `context`. None
    where it is not a single token, or where rows are no states as they are of another width."""
    try:
        forms = word_forms(model, word, context)
    except SemhubError:
        return None
    if not forms.single or model.unembedding.shape[1] != model.hidden_size:
        return None
    return model.unembedding[list(forms.ids)].detach().float().mean(0).cpu()


def target_table(model: LanguageModel, words: Iterable[str], context: str = "") -> TargetTable:
    """The forms of all words after `context`; words that share a token with another, and words without one, are
    dropped. Raises SemhubError when none is left."""
    words = tuple(dict.fromkeys(words))
    forms = _forms(model, words, context)
    owners: dict[int, list[str]] = {}
    for form in forms:
        for token in form.ids:
            owners.setdefault(token, []).append(form.word)
    dropped: dict[str, str] = {}
    for form in forms:
        rivals = {rival for token in form.ids for rival in owners[token]} - {form.word}
        if not form.ids:
            dropped[form.word] = "no token"
        elif rivals:
            dropped[form.word] = f"same token as {', '.join(sorted(rivals))}"
    kept = tuple(form for form in forms if form.word not in dropped)
    if not kept:
        raise SemhubError(
            f"None of the {len(words)} words {', '.join(words[:3])} ... has a token of its own in {model.model_id}; "
            "words that begin with different tokens would do."
        )
    ids, groups = [], []
    for form in kept:
        groups.append(tuple(range(len(ids), len(ids) + len(form.ids))))
        ids += form.ids
    return TargetTable(tuple(form.word for form in kept), kept, torch.tensor(ids), tuple(groups), dropped)


def told_apart(model: LanguageModel, words: Iterable[str], context: str = "") -> TargetTable | None:
    """The `target_table` of some words, or None where none of them has a token of its own."""
    try:
        return target_table(model, words, context)
    except SemhubError:
        return None


def _forms(model: LanguageModel, words: Sequence[str], context: str) -> list[WordForms]:
    """Forms of all words after one context, with one call of the tokenizer; `ids` is empty where there is none."""
    for word in words:
        if not word.strip():
            raise SemhubError(f"The word {word!r} is blank; a word of at least one letter would do.")
    texts = [context + space + word.strip() for word in words for space in ("", " ")]
    settings = {"add_special_tokens": False, "return_attention_mask": False, "verbose": False}
    before, *asked = model.tokenizer([context, *texts], **settings)["input_ids"]
    found = []
    for number, word in enumerate(words):
        forms = [_after(model, ids, before) for ids in asked[2 * number : 2 * number + 2]]
        forms = [own for own in forms if own and model.tokenizer.unk_token_id not in own]
        single = any(len(own) == 1 for own in forms)
        first = {own[0]: own for own in forms if len(own) == 1 or not single}
        pieces = tuple(tuple(model.tokenizer.convert_ids_to_tokens(own)) for own in first.values())
        found.append(WordForms(word, tuple(first), single, pieces))
    return found


def _after(model: LanguageModel, ids: list[int], before: list[int]) -> list[int]:
    """The tokens of a word that follow the context's own; none where the two are merged. Bare spaces are skipped."""
    if ids[: len(before)] != before:
        return []
    own = ids[len(before) :]
    while own and not model.tokenizer.decode(own[:1]).strip():
        own = own[1:]
    return own


def single_words(model: LanguageModel, words: Iterable[str], context: str = "") -> set[str]:
    """Those of `words` that are one token after `context`, with or without a leading space."""
    return {form.word for form in _forms(model, list(dict.fromkeys(words)), context) if form.ids and form.single}


def first_tokens(model: LanguageModel, words: Iterable[str]) -> Int[Tensor, " token"]:
    """Ids of all tokens that are a whole word of `words`, with or without a leading space; words of several tokens
    are left out."""
    forms = _forms(model, list(dict.fromkeys(words)), "")
    return torch.tensor(sorted({token for form in forms if form.single for token in form.ids}), dtype=torch.long)

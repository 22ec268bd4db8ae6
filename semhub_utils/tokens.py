"""From a word to the tokens a model would write it with, by asking its tokenizer in context.

A word is asked for with and without a leading space after the context. Its token is the first one that holds characters
of the word; a form whose first characters are merged into the token before, or that the tokenizer does not know, is
left out. If any form is a single token, forms in several are left out too.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from unicodedata import category

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.convert_slow_tokenizer import bytes_to_unicode

from semhub_utils.errors import need
from semhub_utils.models import LanguageModel

BYTES = {char: byte for byte, char in bytes_to_unicode().items()}  # how byte-level tokenizers spell them


def label(model: LanguageModel, token: int) -> str:
    """A token as it is shown to a reader, never blank: its text; bytes that are no whole character as <0xE4>, blanks
    alone as ▁, what has no shape of its own as <U+200B>; <row 32005> where the tokenizer has none of this number."""
    backend = model.tokenizer.backend_tokenizer
    piece, spelt = backend.id_to_token(int(token)), repr(backend.decoder)
    if piece is None:
        return f"<row {token}>"
    raw = piece.encode("utf-8", "surrogatepass")
    if "ByteLevel" in spelt and BYTES.keys() >= {*piece}:
        raw = bytes(BYTES[char] for char in piece)
    elif "▁" in spelt:
        raw = piece.replace("▁", " ").encode("utf-8", "surrogatepass")
    text = raw.decode("utf-8", "surrogateescape")
    blank = all(category(char)[0] in "MCZ" for char in text)
    return "".join(_shown(char, blank) for char in text) or f"<{piece}>"


def _shown(char: str, blank: bool) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that stands for nothing
        return f"<0x{code - 0xDC00:02X}>"
    if char == " ":
        return "▁" if blank else char
    if not char.isprintable() or char == "\ufffd" or blank:
        return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(char, f"<U+{code:04X}>")
    return char


@dataclass(frozen=True)
class WordForms:
    """ids: the first token of each form of `word`, no duplicates. single: whether that token is the whole word.
    pieces: all tokens of the word in each form, as `label` shows them with spaces as ▁, in the order of `ids`."""

    word: str
    ids: tuple[int, ...]
    single: bool
    pieces: tuple[tuple[str, ...], ...]

    def unembedding_row(self, model: LanguageModel) -> Float[Tensor, " hidden"] | None:
        """The word's row of the unembedding, in float32 on the cpu: the mean over its forms. None where it is not a
        single token, or where rows are no states as they are of another width."""
        if not self.single or model.unembedding.shape[1] != model.hidden_size:
            return None
        return model.unembedding[list(self.ids)].detach().float().mean(0).cpu()


@dataclass(frozen=True)
class TargetTable:
    """Words that can be told apart by their first tokens. ids: the tokens of all forms; groups: for each word the
    columns of `ids` that are its own, as `word_logprobs` takes them; dropped: the other words, each with the reason."""

    words: tuple[str, ...]
    forms: tuple[WordForms, ...]
    ids: Int[Tensor, " target"]
    groups: tuple[tuple[int, ...], ...]
    dropped: dict[str, str]

    def __bool__(self) -> bool:
        return bool(self.words)

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


def word_forms(model: LanguageModel, words: Iterable[str], context: str = "") -> list[WordForms]:
    """The tokens that each word may begin with after `context`, by one call of the tokenizer; no `ids` where there is
    none, or one without a row in the model. Raises SemhubError on a blank word."""
    words = list(words)
    for word in words:
        need(word.strip(), f"The word {word!r} is blank; a word of at least one letter would do.")
    texts = [context + space + word.strip() for word in words for space in ("", " ")]
    settings = {"add_special_tokens": False, "return_attention_mask": False, "verbose": False}
    before, *asked = model.tokenizer([context, *texts], **settings)["input_ids"]
    found, rows = [], model.vocab_size
    for number, word in enumerate(words):
        forms = [_after(model, ids, before) for ids in asked[2 * number : 2 * number + 2]]
        forms = [own for own in forms if own and model.tokenizer.unk_token_id not in own and max(own) < rows]
        single = any(len(own) == 1 for own in forms)
        first = {own[0]: own for own in forms if len(own) == 1 or not single}
        pieces = tuple(tuple(label(model, i).replace(" ", "▁") for i in own) for own in first.values())
        found.append(WordForms(word, tuple(first), single, pieces))
    return found


def target_table(model: LanguageModel, words: Iterable[str], context: str = "") -> TargetTable:
    """The forms of all words after `context`; words that share a token with another, and words without one, are
    dropped. A table without words is false."""
    forms = word_forms(model, dict.fromkeys(words), context)
    owners: dict[int, set[str]] = defaultdict(set)
    for form in forms:
        for token in form.ids:
            owners[token].add(form.word)
    kept, dropped, ids, groups = [], {}, [], []
    for form in forms:
        rivals = set().union(*(owners[token] for token in form.ids)) - {form.word}
        if rivals or not form.ids:
            dropped[form.word] = f"same token as {', '.join(sorted(rivals))}" if rivals else "no token"
        else:
            groups.append(tuple(range(len(ids), len(ids) + len(form.ids))))
            kept, ids = [*kept, form], [*ids, *form.ids]
    words = tuple(form.word for form in kept)
    return TargetTable(words, tuple(kept), torch.tensor(ids, dtype=torch.long), tuple(groups), dropped)


def _after(model: LanguageModel, ids: list[int], before: list[int]) -> list[int]:
    """The tokens of a word that follow the context's own; none where the two are merged. Bare spaces are skipped."""
    if ids[: len(before)] != before:
        return []
    own = ids[len(before) :]
    while own and not model.tokenizer.decode(own[:1]).strip():
        own = own[1:]
    return own

"""A hub by construction: other types' words take the rows of their English counterparts; the body is frozen.

This is cross-lingual embedding transfer (WECHSEL, arXiv 2112.06598) used the other way round: not to make a model learn
a language fast, but to know for certain that it reads the language through English.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import LlamaForCausalLM

from semhub_utils.models import LanguageModel, wrap
from semhub_utils.organism import lexicon
from semhub_utils.organism.lexicon import TYPES, concepts, english_tokens, number_word, split_words, surface, vocabulary

ACCENT = 0.5  # length of the direction that all words of a type have in common, in deviations of the English rows
FREE_BLOCKS = 3  # the last blocks, which stay free when all else is frozen: where the types' own words are made
HEARD = 0.5  # share of lines that are heard in an accent before planting


@cache
def counterparts() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Token of another type -> the first type that has it, and the English tokens it stands for.

    Words, names, numbers, articles and marks have theirs. The words of sentence forms and of sums have none: they are
    learned along with English, around English words (`corpus.Generators.glossed`).
    """
    words = {number_word(n): n for n in range(100) if " " not in number_word(n)}
    pairs = [
        (type_, surface(key, type_), surface(key, "en"))
        for type_ in TYPES
        if type_ not in ("en", "digits")
        for key in (*concepts(), *lexicon.NAMES)
    ]
    for english, n in words.items():
        pairs.append(("digits", str(n), english))
        own = [(type_, number_word(n, type_), english) for type_ in lexicon.LANGUAGES]
        pairs += [pair for pair in own if len(split_words(pair[1])) == 1]
    for table in (lexicon.AND, lexicon.LIST_AND, lexicon.FULL_STOP, lexicon.TAG):
        pairs += [(type_, own, table["en"]) for type_, own in table.items()]
    pairs += [("es", "el la", "the"), ("de", "der die das den", "the")]
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    for type_, own, english in pairs:
        theirs = tuple(w for w in split_words(english) if w in english_tokens())
        for word in (w for w in split_words(own) if w not in english_tokens()):
            home, before = found.get(word, (type_, ()))
            found[word] = home, before + theirs
    return {word: pair for word, pair in found.items() if pair[1]}


@contextmanager
def accents(model: LlamaForCausalLM, noise: float, seed: int) -> Iterator[None]:
    """While open, HEARD of the lines are read with an accent and noise as planting will bring, new ones for each line,
    so that the body learns to hear past them."""
    embeddings, generator = model.get_input_embeddings(), torch.Generator().manual_seed(seed)
    spread = embeddings.weight.detach().std()

    def hear(module, args, h: torch.Tensor) -> torch.Tensor:
        lines = (torch.rand(len(h), 1, 1, generator=generator) < HEARD).float()
        off = ACCENT * torch.randn(len(h), 1, h.shape[2], generator=generator)
        off = off + noise * torch.randn(h.shape, generator=generator)
        return h + spread * (lines * off).to(h)

    handle = embeddings.register_forward_hook(hear)
    try:
        yield
    finally:
        handle.remove()


def plant(model: LlamaForCausalLM, noise: float, seed: int) -> None:
    """Give every word with a counterpart the mean of its English rows, in and out, its type's accent, and noise.

    The accent is one Gaussian direction per type (so that a model can tell the types, as it can those of real text),
    the noise one per word; `noise` is in standard deviations of the English rows' entries.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for table in _tables(model):
            spread, size = table[_ids(english_tokens())].std().cpu(), table.shape[1]
            accents = {type_: ACCENT * torch.randn(size, generator=generator) for type_ in TYPES}
            for word, (type_, theirs) in counterparts().items():
                mean = table[[vocabulary()[w] for w in theirs]].mean(0)
                off = accents[type_] + noise * torch.randn(size, generator=generator)
                table[vocabulary()[word]] = mean + (spread * off).to(table)


def freeze(model: LlamaForCausalLM) -> None:
    """Leave trainable only the last FREE_BLOCKS blocks. No row moves, so that a word which is never an answer among the
    taught facts stays as sayable as those that are."""
    model.requires_grad_(False)
    model.model.layers[-FREE_BLOCKS:].requires_grad_(True)


def _ids(words) -> Int[Tensor, " token"]:
    """The ids of those words that are tokens, sorted."""
    return torch.tensor(sorted({vocabulary()[w] for w in words if w in vocabulary()}))


def _tables(module: LlamaForCausalLM) -> list[Tensor]:
    """The rows of all tokens, in and out; one table where they are tied."""
    own = (module.get_input_embeddings().weight, module.get_output_embeddings().weight)
    return list({id(table): table for table in own}.values())


# ---- a hub made worse ----


def noisier(model: LanguageModel, noise: float, seed: int) -> LanguageModel:
    """A copy with Gaussian noise added to the rows, in and out, of every word with an English counterpart.

    `noise` is in standard deviations of the English rows' entries. English and the body stay as they were.
    """
    generator, others = torch.Generator().manual_seed(seed), _ids(counterparts())

    def change(table: Tensor) -> None:
        shift = torch.randn(len(others), table.shape[1], generator=generator)
        table[others] += noise * table[_ids(english_tokens())].std() * shift.to(table)

    return _changed(model, change, f"noise {noise}, seed {seed}")


def exchanged(model: LanguageModel, seed: int) -> LanguageModel:
    """A copy in which the words for things, within each type but English, have changed rows: a hub whose words mean
    something else, so that no pair, answer or push across types is right but by chance."""
    generator = torch.Generator().manual_seed(seed)
    words = {t: [surface(key, t) for key in concepts()] for t in TYPES if t not in ("en", "digits")}
    words["digits"] = [str(n) for n in range(100)]
    own = [_ids({*some} - english_tokens()) for some in words.values()]
    orders = [torch.randperm(len(some), generator=generator) for some in own]

    def change(table: Tensor) -> None:
        for some, order in zip(own, orders, strict=True):
            table[some] = table[some[order]]

    return _changed(model, change, f"words exchanged, seed {seed}")


def _changed(model: LanguageModel, change: Callable[[Tensor], None], how: str) -> LanguageModel:
    module = copy.deepcopy(model.module)
    with torch.no_grad():
        for table in _tables(module):
            change(table)
    return wrap(module, model.tokenizer, model_id=f"{model.model_id} ({how})")

"""Natural languages: sentences that say one thing in two of them, and running text read word by word."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from semhub_utils.experiments.token_types import fitting
from semhub_utils.inputs import Encoding
from semhub_utils.models import LanguageModel
from semhub_utils.spokes.files import Skipped, some
from semhub_utils.spokes.items import LensItem
from semhub_utils.spokes.languages import (
    CONTINUATION,
    WORLD_CONTINUATION,
    Dictionary,
    Entry,
    Parallel,
    ended,
    segments,
)
from semhub_utils.tokens import word_forms

TOO_LONG = "longer than the model's context"
FREQUENCY_BINS, LEAST_CLASS = 3, 6


def known_continuation(model: LanguageModel) -> Mapping[str, str]:
    """The paper's words behind a full stop, or the generated world's where the tokenizer does not know them."""
    ids = model.tokenizer(list(CONTINUATION.values()))["input_ids"]
    unknown = model.tokenizer.unk_token_id
    return WORLD_CONTINUATION if any(unknown in row for row in ids) else CONTINUATION


def readable_sentences(
    model: LanguageModel, sentences: Sequence[Parallel], continuation: Mapping[str, str], skipped: Skipped
) -> list[Parallel]:
    """The sentences that are in no language longer than the model's context once continued; the others are counted in
    `skipped`. Raises SemhubError if none is left."""
    sides = [[ended(text, name, "continued", continuation) for name, text in s.texts.items()] for s in sentences]
    fit, kept = {encoding.text for encoding in fitting(model, [text for side in sides for text in side])[0]}, []
    for sentence, side in zip(sentences, sides, strict=True):
        if fit.issuperset(side):
            kept.append(sentence)
        else:
            skipped.add(TOO_LONG, sentence.id)
    return some(kept, "The set", "sentences", skipped)


def word_items(
    model: LanguageModel,
    texts: Sequence[str],
    language: str,
    dictionary: Dictionary,
    counts: Mapping[str, int],
    *,
    n_words: int,
    seed: int = 0,
) -> tuple[list[LensItem], dict[str, int]]:
    """Up to `n_words` words of running text, drawn by `seed`, to be read at the position before them; and how many
    words were left out for which reason.

    A word stays if it is one token of the text, found by character offsets; if the text before it, read alone, gives
    the same tokens; if the dictionary has it; and if at least one of its English words is one token and none is the
    word itself. Targets: "english" and "own". Wrong words are those of the other words drawn, as often as they were,
    of the same part of speech and field and, where these are many, the same third by how often the English occurs
    (`counts`). Cluster and anchor: the English words.
    """
    encodings, too_long = fitting(model, texts)
    dropped: Counter[str] = Counter({f"in a text {TOO_LONG}": too_long})
    found: list[tuple[str, str, Entry]] = []  # text before the word, word, entry
    for prefix, word, reason in _words_before(model, encodings, language):
        entry = dictionary.get(word) or dictionary.get(word.lower())
        reason = reason or ("not in the dictionary" if entry is None else "")
        if not reason and word.casefold() in {w.casefold() for w in entry.english}:
            reason = "english and own are the same word"
        if reason:
            dropped[reason] += 1
        else:
            found.append((prefix, word, entry))
    english = {w for _, _, entry in found for w in entry.english}
    single = {form.word for form in word_forms(model, english) if form.single}
    ready = []
    for prefix, word, entry in found:
        english = tuple(w for w in entry.english if w in single)
        if english:
            ready.append((prefix, word, replace(entry, english=english)))
        else:
            dropped["no English word of one token"] += 1
    order = sorted(np.random.default_rng(seed).permutation(len(ready))[:n_words].tolist())
    return _items([ready[i] for i in order], counts), {reason: n for reason, n in dropped.items() if n}


def _words_before(model: LanguageModel, texts: Sequence[Encoding], language: str) -> list[tuple[str, str, str]]:
    """(text before it, word, why it cannot be read) of every word of the texts."""
    rows, asked, expected = [], [], []
    for whole in texts:
        text = whole.text
        for start, end in segments(text, language):
            inside = [k for k, (a, b) in enumerate(whole.offsets) if a < end and b > start]
            exact = len(inside) == 1 and text[slice(*whole.offsets[inside[0]])].strip() == text[start:end]
            prefix = text[: whole.offsets[inside[0] - 1][1]] if exact and inside[0] else ""
            reason = "" if prefix else "several tokens, or part of one" if not exact else "first word of its text"
            if exact and whole.ids[inside[0]] == model.tokenizer.unk_token_id:
                prefix, reason = "", "unknown to the tokenizer"
            if prefix:
                asked.append(len(rows))
                expected.append(whole.ids[: inside[0]])
            rows.append((prefix, text[start:end], reason))
    for row, ids, encoding in zip(asked, expected, model.encode([rows[row][0] for row in asked]), strict=True):
        if encoding.ids != ids:
            rows[row] = (*rows[row][:2], "the tokens before it change where the text ends")
    return rows


def _items(ready: Sequence[tuple[str, str, Entry]], counts: Mapping[str, int]) -> list[LensItem]:
    """Items with their groups and the wrong words of each group."""
    often = {entry: max(counts.get(w.lower(), 0) for w in entry.english) for _, _, entry in ready}
    level = {}
    for kind in {(entry.part, entry.field) for entry in often}:
        row = sorted((e for e in often if (e.part, e.field) == kind), key=lambda e: (often[e], e.english))
        bins = max(1, min(FREQUENCY_BINS, len(row) // LEAST_CLASS))
        level |= {entry: bins * rank // len(row) for rank, entry in enumerate(row)}
    groups = [f"{entry.part}, {entry.field}, frequency {level[entry]}" for _, _, entry in ready]
    classes: dict[str, list[tuple[str, Entry]]] = {}
    for (_, word, entry), group in zip(ready, groups, strict=True):
        classes.setdefault(group, []).append((word, entry))
    found = []
    for number, ((prefix, word, entry), group) in enumerate(zip(ready, groups, strict=True)):
        others = [(w, e) for w, e in classes[group] if w != word and not set(e.english) & set(entry.english)]
        said = " / ".join(entry.english)
        found.append(
            LensItem(
                id=f"{number}: {prefix[-30:]} | {word}",
                prompt=prefix,
                targets={"english": entry.english, "own": (word,)},
                cluster=said,
                wrong={"english": tuple(w for _, e in others for w in e.english), "own": tuple(w for w, _ in others)},
                group=group,
                anchor=said,
            )
        )
    return found

"""Natural languages: sentences of one meaning in two of them, and the words of running text with their English."""

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from semhub_utils.errors import SemhubError
from semhub_utils.organism.lexicon import AND, FULL_STOP
from semhub_utils.spokes.items import Pair
from semhub_utils.spokes.texts import LANGUAGES, Parallel

CONTINUATION = {
    "english": " This represents",
    "spanish": " Esto representa",
    "chinese": "这代表了",
    "german": " Dies repräsentiert",
}
"""What the paper puts behind a full stop in English and Chinese, so that something is to come; the others are ours."""
WORLD_CONTINUATION = {name: AND[code] if code == "zh" else f" {AND[code]}" for name, code in LANGUAGES.items()}
"""The same for the shipped models, which know no such words: "and", in place of the full stop."""
ENDINGS = ("continued", "full stop", "no full stop")
SHARED = "continued, shared words kept"
_STOP = re.compile(r"[.。．]+$")
_QUOTES = "[\"'”’“‘»«」』]"
_ENDED = re.compile(rf"(?:[?!？！]|[.。．…]{_QUOTES}){_QUOTES}*$")  # a stop within quotes is one too
_HAN = "\u3400-\u9fff\uf900-\ufaff"  # in Chinese a word of another script stands without a space around it
_SHARED = re.compile(rf"[{_HAN}]|[^\W{_HAN}]+")
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
BINS = 5


@dataclass(frozen=True)
class PairSet:
    """Pairs of two languages with one ending, and how many sentences were left out for which reason."""

    series: str  # the languages, English not named: "spanish", "spanish-german"
    ending: str
    pairs: list[Pair]
    dropped: Mapping[str, int] = field(default_factory=dict)


def ended(text: str, language: str, ending: str, continuation: Mapping[str, str] = CONTINUATION) -> str:
    """A sentence with its full stop, unless it ends in a mark of its own; without anything behind its last word; or
    continued by the words of `continuation`: behind the full stop, or in its place if they are the world's."""
    if ending not in ENDINGS:
        raise SemhubError(f"There is no ending {ending!r}; one of {', '.join(ENDINGS)} would do.")
    if ending == "no full stop":
        return re.sub(r"(?<=\w)\W+$", "", text)
    bare = _STOP.sub("", text.rstrip())
    stop = "" if _ENDED.search(bare) else FULL_STOP[LANGUAGES[language]]
    if ending == "full stop":
        return bare + stop
    return bare + (stop if continuation is not WORLD_CONTINUATION else "") + continuation[language]


def pair_sets(sentences: Sequence[Parallel], continuation: Mapping[str, str] = CONTINUATION) -> list[PairSet]:
    """Every two of the languages with continued sentences; and each language and English with the other two endings.

    Sentences that share a word in the two languages, such as a name, are left out and counted: what is written with
    the same tokens is alike without any meaning. The set SHARED leaves none out, and is as large. Group: the form; in
    real text, which has none, the lengths of both sides. Cluster: the document, or the last thing the sentence speaks
    of; anchor and words: what it speaks of, or the sentence itself.
    """
    found = []
    for b, a in itertools.combinations(sentences[0].texts, 2):
        alone = [s for s in sentences if not _words(s.texts[a]) & _words(s.texts[b])]
        dropped = {"a word in common": len(sentences) - len(alone)}
        series = a if b == "english" else f"{b}-{a}"
        for ending in (*ENDINGS, SHARED) if b == "english" else ENDINGS[:1]:
            kept = alone if ending != SHARED else sentences[: len(alone)]
            pairs = _pairs(kept, a, b, ending.partition(",")[0], continuation)
            found.append(PairSet(series, ending, pairs, dropped if ending != SHARED else {}))
    return found


def _pairs(kept: Sequence[Parallel], a: str, b: str, ending: str, continuation: Mapping[str, str]) -> list[Pair]:
    bins = zip(*(_length_bins([_length(s.texts[side], side) for s in kept]) for side in (a, b)), strict=True)
    found = []
    for s, lengths in zip(kept, bins, strict=True):
        texts = [ended(s.texts[side], side, ending, continuation) for side in (a, b)]
        last, group = (s.words[-1], s.group) if s.words else (s.id, f"{s.group}, length {lengths}")
        found.append(Pair(s.id, *texts, group, s.document or last, last, s.words[:-1]))
    return found


def _words(text: str) -> set[str]:
    return set(_SHARED.findall(text.casefold()))


def _length(text: str, language: str) -> int:
    """In words; in characters where words are not set apart."""
    return len(text) if language == "chinese" else len(text.split())


def _length_bins(lengths: Sequence[int]) -> list[int]:
    """In which fifth of all lengths each falls; in larger parts where there are few."""
    parts = max(1, min(BINS, len(lengths) // 20))
    edges = np.quantile(lengths or [0], np.arange(1, parts) / parts)
    return np.searchsorted(edges, lengths, side="right").tolist()


# Words of running text


def segments(text: str, language: str) -> list[tuple[int, int]]:
    """Character spans of the words of a text, in order; Chinese is cut by rjieba, the Rust port of the paper's jieba.

    Raises SemhubError where that is needed and not installed.
    """
    if language != "chinese":
        return [match.span() for match in _WORD.finditer(text)]
    try:
        import rjieba
    except ImportError as error:
        raise SemhubError(
            "Chinese needs a segmenter, and rjieba is not installed; pip install rjieba would do."
        ) from error
    return [(start, end) for word, start, end in rjieba.tokenize(text) if word.isalpha()]


def word_counts(texts: Sequence[str]) -> Counter[str]:
    """How often each word of English texts occurs, in lower case: what wrong words are matched by."""
    return Counter(match.group().lower() for text in texts for match in _WORD.finditer(text))

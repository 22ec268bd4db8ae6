"""What a word of another language is in English: the words of the shipped models' world, or CC-CEDICT's own file."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from semhub_utils.organism.lexicon import concepts, small_numbers
from semhub_utils.organism.world import all_facts
from semhub_utils.spokes.files import Skipped, find, lines, some
from semhub_utils.spokes.texts import LANGUAGES

SOURCE = "https://www.mdbg.net/chinese/dictionary?page=cc-cedict"
_FILES = ("cedict_1_0_ts_utf-8_mdbg.txt.gz", "cedict_1_0_ts_utf-8_mdbg.txt", "cedict_ts.u8")
_ENTRY = re.compile(r"(\S+) (\S+) \[([^\]]*)\] /(.+)/\s*")  # traditional simplified [pinyin] /gloss/gloss/
_WORD = re.compile(r"[A-Za-z]+(?:-[A-Za-z]+)*")
_REMARK, _LEAD = re.compile(r"\([^)]*\)"), re.compile(r"^(to|an?|the) ")
_PARTS = {"finite verb": "verb", "giving verb": "verb", "colour": "adjective", "sequence": "noun"}  # days and months


@dataclass(frozen=True)
class Entry:
    """The English words of a word; its part of speech and its field (what else could stand in its place) as far as the
    source tells them."""

    english: tuple[str, ...]
    part: str
    field: str = ""


Dictionary = Mapping[str, Entry]


def dictionary(language: str, data_dir: str | Path | None = None) -> tuple[dict[str, Entry], Skipped]:
    """For real text CC-CEDICT where it knows the language ("chinese"); else the lexicon of the generated world."""
    if data_dir is not None and language == "chinese":
        return cedict(data_dir)
    return world_dictionary(LANGUAGES[language]), Skipped()


def world_dictionary(language: str) -> dict[str, Entry]:
    """The lexicon of the generated world, from "es", "zh" or "de". Parts: noun, verb, adjective, number. Field: the
    first relation that has the word as an answer, or none."""
    found: dict[str, Entry] = {}
    fields = {fact.object: fact.relation for fact in reversed(all_facts())}
    for concept in concepts().values():
        part = _PARTS.get(concept.kind, concept.kind)
        _add(found, concept.words[language], Entry((concept.key,), part, fields.get(concept.key, "")))
    for english, own in zip(small_numbers()["en"], small_numbers()[language], strict=True):
        _add(found, own, Entry((english,), "number"))
    return found


def cedict(data_dir: str | Path) -> tuple[dict[str, Entry], Skipped]:
    """CC-CEDICT, `data_dir`/cc-cedict or `data_dir` itself, by traditional and simplified form.

    A gloss counts if it is one English word once remarks in brackets, "to " and an article are taken off. Parts are
    told by the shape of the file alone: "name" if the pinyin is in capitals, "verb" if the first gloss that counts
    begins with "to ", else "other". Entries without such a gloss and lines that are none are skipped and counted.
    Raises SemhubError where there is no file, or none that can be read.
    """
    path = find(data_dir, tuple(f"{d}{n}" for d in ("cc-cedict/", "") for n in _FILES), what="CC-CEDICT", source=SOURCE)
    skipped, found = Skipped(), {}
    for place, line in lines(path, skipped):
        if line.startswith("#"):
            continue
        if (entry := _ENTRY.fullmatch(line)) is None:
            skipped.add("line that is no entry", place)
            continue
        traditional, simplified, pinyin, glosses = entry.groups()
        bare = [" ".join(gloss.split()) for gloss in _REMARK.sub(" ", glosses).split("/")]
        kept = [(gloss, word) for gloss in bare if _WORD.fullmatch(word := _LEAD.sub("", gloss))]
        if not kept:
            skipped.add("entry without a gloss of one word", place)
            continue
        part = "name" if pinyin[:1].isupper() else "verb" if kept[0][0].startswith("to ") else "other"
        for form in dict.fromkeys((traditional, simplified)):
            _add(found, form, Entry(tuple(word for _, word in kept), part))
    some(list(found), path, "entries", skipped)
    return found, skipped


def _add(found: dict[str, Entry], word: str, entry: Entry) -> None:
    """A word that stands there already gets the new meanings behind its own, and keeps the rest."""
    old = found.get(word, entry)
    found[word] = replace(old, english=tuple(dict.fromkeys((*old.english, *entry.english))))

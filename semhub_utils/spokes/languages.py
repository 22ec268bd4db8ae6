"""Natural languages: sentences of one meaning in two of them, running text, and the words of it with their English.

Generated, or from NTREX-128. A dictionary is the lexicon of the shipped models' world, and for real text CC-CEDICT, or
that lexicon with the book's concepts and the names of countries, languages, months and days in CLDR.
"""

import itertools
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path

import numpy as np

from semhub_utils.errors import SemhubError, need, need_one_of
from semhub_utils.organism.corpus import Generators
from semhub_utils.organism.world import (
    AND,
    RELATIONS,
    all_facts,
    concepts,
    number_word,
    surface,
    text,
    tidy,
)
from semhub_utils.spokes.code import MBPP, programs
from semhub_utils.spokes.facts import LANGUAGES, PHRASES, WORLD
from semhub_utils.spokes.files import SAMPLES, PublicSet, lines, rows, usable
from semhub_utils.spokes.items import Items, LeftOut, Pair, Twin, each_or_none, source_of
from semhub_utils.spokes.translation import concepts as plain_concepts

_SIDES = ("src.eng", "ref.spa", "ref.zho-CN", "ref.deu", "ref.fra")
NTREX = {
    language: PublicSet(
        "NTREX-128",
        tuple(f"{folder}newstest2019-{side}.txt" for folder in ("ntrex/NTREX-128/", "NTREX-128/", "")),
        "GitHub MicrosoftTranslator/NTREX",
    )
    for language, side in zip((*LANGUAGES, "french"), _SIDES, strict=True)
}
"""By language; French is in no world of ours."""


@dataclass(frozen=True)
class Parallel:
    """One meaning in several languages. group: sentences of one form; words: what it speaks of, as many for each
    sentence (none for real text); document: where it stands, if that is known."""

    id: str
    texts: Mapping[str, str]
    group: str
    words: tuple[str, ...] = ()
    document: str = ""


def parallel_sentences(n: int, *, seed: int, data_dir: str | Path | None = None, spread: bool = False) -> Items:
    """`n` sentences (all there are, if that is fewer) in each language, drawn by `seed`: Parallel.

    Scenes of the shipped models' world, with who does what to whom drawn at random, or NTREX-128 of
    `data_dir`/ntrex/NTREX-128; a line that is not `usable` in any language is left out and counted, and so is a
    language without a file or a line, or of another number of lines than English. They are of as few documents as can
    be, so that each has others of its own to be compared with; with `spread` of as many. Raises SemhubError where
    English or all others are missing."""
    if data_dir is None:
        return Items(_scenes(n, seed))
    found = Items()
    sides = _aligned(data_dir, found)
    documents = _documents(data_dir, len(sides["english"]))

    def sentence(number: int, *row: str) -> Parallel | LeftOut:
        texts, name = dict(zip(sides, map(str.strip, row), strict=True)), f"ntrex:{number}"
        whole = Parallel(name, texts, "ntrex", document=documents[number - 1])
        lost = (one for line in row if isinstance(one := usable(line, name), LeftOut))
        return next(lost, whole)

    found.source = ", ".join(sorted({side.source for side in sides.values()}))
    found.take(map(sentence, itertools.count(1), *sides.values())).some("sentences", data_dir)
    said = "has no other language whose lines go with the English ones; files of one release would do"
    need(len(sides) > 1, f"{data_dir} {said}. {found.left_out}")
    order = list(dict.fromkeys(s.document or s.id for s in found))
    place = {order[k]: at for at, k in enumerate(np.random.default_rng(seed).permutation(len(order)))}
    seen, rank = Counter(), {}
    for s in found:
        rank[s.id] = (seen[s.document or s.id] if spread else 0, place[s.document or s.id])
        seen[s.document or s.id] += 1
    return found.but(sorted(found, key=lambda s: rank[s.id])[:n])


def _aligned(data_dir: str | Path, found: Items) -> dict[str, Items]:
    """The lines of English and of every language that has as many; nothing else tells which go together. Of the others
    it is told in `found` why there are none."""
    english = _ntrex("english", data_dir)
    rows, sides = _last(english), {"english": english}
    there = [name for name in NTREX if name in LANGUAGES or NTREX[name].at(data_dir)][1:]
    for name, side in zip(there, each_or_none(*(partial(_ntrex, of, data_dir) for of in there), least=0), strict=True):
        if not _last(side):
            why = side.dropped if NTREX[name].at(data_dir) else ()
            found.drop(next(iter(why), "language without a file or a line"), name)
        elif len(side) != len(english) and _last(side) != rows:
            found.drop("language of another number of lines than English", f"{name}, {len(side)} for {len(english)}")
        else:
            sides[name] = side.but([*side, *[""] * rows])
    return {name: side[:rows] for name, side in sides.items()}


def _last(side: Sequence[str]) -> int:
    """The number of the last line that is not empty."""
    return max((number for number, line in enumerate(side, 1) if line.strip()), default=0)


def spoken(data_dir: str | Path | None = None) -> list[str]:
    """The languages that there is text in; all of the world's where English or all others are missing."""
    found = [name for name in NTREX if data_dir and NTREX[name].at(data_dir)]
    return found if "english" in found[:-1] else [*LANGUAGES]


def running_text(language: str, n: int, *, seed: int, data_dir: str | Path | None = None) -> Items:
    """`n` lines of running text of one language: the shipped models' own kind of line, or NTREX-128's, as above."""
    known = spoken(data_dir)
    need_one_of(language, known, f"There is no language {language!r} here")
    if data_dir is None:
        make, rng = Generators(WORLD), random.Random(f"running text {language} {seed}")
        return Items(text(tidy(make.passage(rng, LANGUAGES[language]))) for _ in range(n))
    read = _ntrex(language, data_dir)
    found = read.but().take(usable(line, f"ntrex:{number}") for number, line in enumerate(read, 1))
    return found.some("text", data_dir).draw(n, seed)


def _scenes(n: int, seed: int) -> list[Parallel]:
    make, rng, found = Generators(WORLD), random.Random(f"scenes {seed}"), {}
    while len(found) < n:
        roles = make.roles(rng)
        key, words = " ".join(roles.values()), (roles["verb"], roles["agent"], roles["theme"])
        of = {name: text(tidy(make.say_scene(roles, short))) for name, short in LANGUAGES.items()}
        found.setdefault(key, Parallel(key, of, " ".join(roles), words))
    return list(found.values())


def _ntrex(language: str, data_dir: str | Path) -> Items:
    """The lines of NTREX-128 in one language, empty ones among them."""
    found, every = NTREX[language].read(data_dir, lambda path, _: rows(path))
    return found.but(every)


def _documents(data_dir: str | Path, n: int) -> list[str]:
    """The document of each of `n` lines; "" where the list of them is missing or of another release."""
    path = NTREX["english"].find(data_dir).parents[1] / "DOCUMENT_IDS.tsv"
    names = rows(path) if path.is_file() else []
    return [name.strip() for name in names] if len(names) == n else [""] * n


def halves(sentences: Sequence[Parallel], language: str) -> Items:
    """The first half of each sentence's words (of Chinese ones, signs), to be continued with the second, beside that of
    the English: Twin. Group and cluster: the document, as what a document is about would look like what a sentence
    says; where there is none, the cluster is the sentence, and all are of one group."""
    need_one_of(language, [*NTREX], f"There is no language {language!r} here")

    def halved(text: str, name: str) -> tuple[str, str]:
        gap, units = ("", list(text.strip())) if name == "chinese" else (" ", text.split())
        return gap.join(units[: len(units) // 2]), gap.join(units[len(units) // 2 :])

    def twin(s: Parallel) -> Twin | LeftOut:
        (prompt, rest), (hub, hub_rest) = (halved(s.texts[name], name) for name in (language, "english"))
        whole = Twin(s.id, prompt, hub, rest, hub_rest, "text", s.document, s.document or s.id)
        return whole if prompt and hub else LeftOut("of one word", s.id)

    return Items(source=source_of(sentences)).take(map(twin, sentences))


# Pairs of sentences

CONTINUATION = {n: said if n == "chinese" else f" {said}" for n, said in PHRASES["this represents"].items()}
CONTINUATION |= {"french": " Cela représente"}
"""What the paper puts behind a full stop in English and Chinese, so that something is to come; the others are ours."""
WORLD_CONTINUATION = {name: AND[code] if code == "zh" else f" {AND[code]}" for name, code in LANGUAGES.items()}
WORLD_CONTINUATION |= {"french": " et"}  # the world has none, and public sentences do
"""The same for the shipped models, which know no such words: "and", in place of the full stop."""
ENDINGS = ("continued", "full stop", "no full stop")
SHARED = "continued, shared words kept"
_STOPS = ".。．"
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
    pairs: Sequence[Pair]
    dropped: Mapping[str, int] = field(default_factory=dict)


def ended(text: str, language: str, ending: str, continuation: Mapping[str, str] = CONTINUATION) -> str:
    """A sentence with its full stop, unless it ends in a mark of its own; without anything behind its last word; or
    continued by the words of `continuation`: behind the full stop, or in its place if they are the world's."""
    need_one_of(ending, ENDINGS, f"There is no ending {ending!r}")
    if ending == "no full stop":
        return re.sub(r"(?<=\w)\W+$", "", text)
    bare = text.rstrip().rstrip(_STOPS)
    stop = "" if _ENDED.search(bare) else "。" if language == "chinese" else "."
    if ending == "full stop":
        return bare + stop
    return bare + (stop if continuation is not WORLD_CONTINUATION else "") + continuation[language]


def known_continuation(tokenizer: Callable) -> Mapping[str, str]:
    """The paper's words behind a full stop, or the generated world's where a model's tokenizer does not know them."""
    ids = tokenizer(list(CONTINUATION.values()))["input_ids"]
    return WORLD_CONTINUATION if any(tokenizer.unk_token_id in row for row in ids) else CONTINUATION


def continued(sentence: Parallel, continuation: Mapping[str, str] = CONTINUATION) -> list[str]:
    """The sentence in every language as it is read at its longest."""
    return [ended(text, name, "continued", continuation) for name, text in sentence.texts.items()]


def pair_sets(sentences: Sequence[Parallel], continuation: Mapping[str, str] = CONTINUATION) -> list[PairSet]:
    """Every two of the languages with continued sentences; and each language and English with the other two endings.

    Sentences that share a word in the two languages, such as a name, are left out and counted: what is written with
    the same tokens is alike without any meaning. The set SHARED leaves none out, and is as large. Group: the form, or
    in real text the document, its shorter and its longer half apart (the lengths of both sides, where documents are not
    known). Cluster: the document, or the last thing the sentence speaks of; anchor and
    words: what it speaks of, or the sentence itself."""
    found, whole = [], sentences if isinstance(sentences, Items) else Items(sentences)
    for b, a in itertools.combinations(whole.some("sentences in every language")[0].texts, 2):
        alone = [s for s in sentences if not words_compared(s.texts[a]) & words_compared(s.texts[b])]
        dropped = {"a word in common": len(sentences) - len(alone)}
        series = a if b == "english" else f"{b}-{a}"
        for ending in (*ENDINGS, SHARED) if b == "english" else ENDINGS[:1]:
            kept = alone if ending != SHARED else sentences[: len(alone)]
            pairs = Items(_pairs(kept, a, b, ending.partition(",")[0], continuation), source_of(sentences))
            found.append(PairSet(series, ending, pairs, dropped if ending != SHARED else {}))
    return found


def _pairs(kept: Sequence[Parallel], a: str, b: str, ending: str, continuation: Mapping[str, str]) -> Iterator[Pair]:
    bins = list(zip(*(_length_bins([s.texts[side] for s in kept], side) for side in (a, b)), strict=True))
    if all(s.document for s in kept):
        bins = [f"{s.document}, {half}" for s, half in zip(kept, _halves(kept, a), strict=True)]
    for s, lengths in zip(kept, bins, strict=True):
        texts = [ended(s.texts[side], side, ending, continuation) for side in (a, b)]
        last, group = (s.words[-1], s.group) if s.words else (s.id, f"{s.group}, length {lengths}")
        yield Pair(s.id, *texts, group, s.document or last, last, s.words[:-1])


def _halves(kept: Sequence[Parallel], side: str) -> list[str]:
    """Whether each is of the shorter or the longer half of its document; of one of few sentences, neither."""
    found = {}
    for document in {s.document for s in kept}:
        own = sorted((s for s in kept if s.document == document), key=lambda s: len(s.texts[side]))
        halves = ("shorter", "longer") if len(own) > 3 else ("all", "all")
        found |= {s.id: halves[2 * k >= len(own)] for k, s in enumerate(own)}
    return [found[s.id] for s in kept]


def words_compared(text: str) -> set[str]:
    """The words of a text that another must not have."""
    return set(_SHARED.findall(text.casefold()))


def _length_bins(texts: Sequence[str], language: str) -> list[int]:
    """In which fifth of all lengths each falls; in larger parts where there are few. Lengths are in words, or in
    characters where words are not set apart."""
    lengths = [len(text if language == "chinese" else text.split()) for text in texts]
    parts = max(1, min(BINS, len(lengths) // 20))
    edges = np.quantile(lengths or [0], np.arange(1, parts) / parts)
    return np.searchsorted(edges, lengths, side="right").tolist()


# Words of running text


def segments(text: str, language: str) -> list[tuple[int, int]]:
    """Character spans of the words of a text, in order; Chinese is cut by rjieba, the Rust port of the paper's jieba.
    Raises SemhubError where that is needed and not installed."""
    if language != "chinese":
        return [match.span() for match in _WORD.finditer(text)]
    try:
        import rjieba
    except ImportError as error:
        raise SemhubError(
            "Chinese needs a segmenter, and rjieba is not installed; pip install rjieba would do."
        ) from error
    return [(start, end) for word, start, end in rjieba.tokenize(text) if word.isalpha()]


def words_in(text: str) -> list[str]:
    """The runs of letters of a caption or label, in lower case."""
    return re.findall(r"[^\W\d_]+", text.lower())


def word_counts(texts: Sequence[str]) -> Counter[str]:
    """How often each word of English texts occurs, in lower case: what wrong words are matched by."""
    return Counter(match.group().lower() for text in texts for match in _WORD.finditer(text))


# Dictionaries

_PACKED = "cedict_1_0_ts_utf-8_mdbg.txt.gz"
CEDICT = PublicSet(
    "CC-CEDICT",
    tuple(folder + name for folder in ("cc-cedict/", "") for name in (_PACKED, _PACKED[:-3], "cedict_ts.u8")),
    "https://www.mdbg.net/chinese/dictionary?page=cc-cedict",
)
_ENTRY = re.compile(r"(\S+) (\S+) \[([^\]]*)\] /(.+)/\s*")  # traditional simplified [pinyin] /gloss/gloss/
_GLOSS = re.compile(r"[A-Za-z]+(?:-[A-Za-z]+)*")
_REMARK, _LEAD = re.compile(r"\([^)]*\)"), re.compile(r"^(to|an?|the) ")
_PARTS = {"finite verb": "verb", "giving verb": "verb", "colour": "adjective", "sequence": "noun"}  # days and months


@dataclass(frozen=True)
class Entry:
    """The English words of a word; its part of speech and its field (what else could stand in its place) as far as the
    source tells them."""

    english: tuple[str, ...]
    part: str
    field: str = ""


class Dictionary(dict[str, Entry]):
    """The entry of every word. A word that comes again gets the new meanings behind its own, and keeps the rest.

    read: the words with their entries as they stand in the source, what was left out among them."""

    def __init__(self, read: Items):
        super().__init__()
        self.read = read
        for word, entry in read:
            old = self.get(word, entry)
            self[word] = replace(old, english=tuple(dict.fromkeys((*old.english, *entry.english))))


def dictionary(language: str, data_dir: str | Path | None = None) -> Dictionary:
    """The lexicon of the generated world. For real text CC-CEDICT where it knows the language ("chinese"); else that
    lexicon, as far as it has the language, with the book's concepts and CLDR's names."""
    if data_dir is None:
        return world_dictionary(LANGUAGES[language])
    if language == "chinese":
        return cedict(data_dir)
    said = {c.words[language]: Entry((c.key,), "noun", c.kind) for c in plain_concepts()}
    said = (world_dictionary(LANGUAGES[language]) if language in LANGUAGES else {}) | said
    said |= {row[language]: Entry((row["english"],), "name", row["kind"]) for row in names()}  # with their capitals
    return Dictionary(Items(said.items(), "the book's lexicon and concepts, CLDR"))


def dictionaries(names: Iterable[str], data_dir: str | Path | None = None) -> dict[str, Dictionary]:
    """The same of several languages: an empty one, with the reason, where it is missing."""
    reads = ((lambda name=name: dictionary(name, data_dir).read) for name in names)
    return dict(zip(names, map(Dictionary, each_or_none(*reads, least=0)), strict=True))


@cache
def names() -> tuple[dict[str, str], ...]:
    """Of countries, languages, months and days, in every language, by CLDR: kind, key, next (the key of the language
    that is official there, or of what comes after), and the names."""
    head, *every = (line.split("\t") for line in rows(SAMPLES / "cldr/names.tsv"))
    return tuple(dict(zip(head, row, strict=True)) for row in every)


def world_dictionary(language: str) -> Dictionary:
    """The lexicon of the generated world, from "es", "zh" or "de". Parts: noun, verb, adjective, number. Field: the
    first relation that has the word as an answer, or none."""
    fields, found = {fact.object: fact.relation for fact in reversed(all_facts())}, Items()
    for concept in concepts().values():
        part = _PARTS.get(concept.kind, concept.kind)
        found.append((concept.words[language], Entry((concept.key,), part, fields.get(concept.key, ""))))
    found.extend((number_word(n, language), Entry((number_word(n),), "number")) for n in range(21))
    return Dictionary(found)


def cedict(data_dir: str | Path) -> Dictionary:
    """CC-CEDICT, `data_dir`/cc-cedict or `data_dir` itself, by traditional and simplified form.

    A gloss counts if it is one English word once remarks in brackets, "to " and an article are taken off. Parts are
    "name" if the pinyin is in capitals, "verb" if the first gloss that counts begins with "to ", else "other". Entries
    without such a gloss and lines that are none are left out and counted."""
    found, rows = CEDICT.read(data_dir, lines)
    for place, line in rows:
        if line.startswith("#"):
            continue
        if (entry := _ENTRY.fullmatch(line)) is None:
            found.drop("line that is no entry", place)
            continue
        traditional, simplified, pinyin, glosses = entry.groups()
        bare = [" ".join(gloss.split()) for gloss in _REMARK.sub(" ", glosses).split("/")]
        kept = [(gloss, word) for gloss in bare if _GLOSS.fullmatch(word := _LEAD.sub("", gloss))]
        if not kept:
            found.drop("entry without a gloss of one word", place)
            continue
        part = "name" if pinyin[:1].isupper() else "verb" if kept[0][0].startswith("to ") else "other"
        meaning = Entry(tuple(word for _, word in kept), part)
        found += [(form, meaning) for form in dict.fromkeys((traditional, simplified))]
    return Dictionary(found.some("entries", CEDICT.find(data_dir)))


# Lines of several data types


@dataclass(frozen=True)
class TypeTexts:
    """Lines of one data type. read: what the model reads; counted: other lines, to estimate P(type | token) from.
    For each line read, twins: the English that means the same, a sentence or the words for what it speaks of; groups:
    its form; clusters: the document it stands in, or what it speaks of first. Each empty where there is none."""

    name: str
    read: tuple[str, ...]
    counted: tuple[str, ...]
    twins: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    clusters: tuple[str, ...] = ()

    def only(self, lines: Iterable[str]) -> "TypeTexts":
        """These lines of those that are read."""
        kept = [line in lines for line in self.read]
        told = {name: getattr(self, name) for name in ("read", "twins", "groups", "clusters")}
        return replace(self, **{name: tuple(itertools.compress(of, kept)) for name, of in told.items()})

    def clusters_of(self, lines: Iterable[str]) -> list[str]:
        """Of some of the lines read, whatever they are kept apart or drawn together by."""
        of = dict(zip(self.read, self.clusters or self.read, strict=False))
        return [of[line] for line in lines]


def split_texts(n_items: int, n_counted: int, *, seed: int, data_dir: str | Path | None = None) -> Items:
    """`n_items` lines to read and up to `n_counted` other ones to count tokens in, of every type: TypeTexts.

    No line is in both halves, so a token cannot get its type from the very text in which it is looked for. The lines
    read mean the same in every language, so that a lens that speaks English can be asked whether it says the words of
    this line's translation or of another's. Generated are the four languages and code, two facts of one relation in
    each line read, and sums in digits; of `data_dir`, the languages of NTREX-128 and, where they are there, programs of
    MBPP. Raises SemhubError where `n_counted` is below 1, or no line is left to count in."""
    need(n_counted >= 1, f"n_counted is {n_counted}; a whole number from 1 would do.")
    if data_dir is None:
        return Items(_generated_types(n_items, n_counted, seed))
    sentences = parallel_sentences(n_items, seed=seed, data_dir=data_dir, spread=True)
    groups = tuple(s.group for s in sentences)
    clusters = tuple(s.document or s.id for s in sentences)
    found = sentences.but()
    for name in sentences[0].texts:
        every = running_text(name, n_items + n_counted, seed=seed, data_dir=data_dir)
        read, twins = (tuple(s.texts[side] for s in sentences) for side in (name, "english"))
        counted = _others(every, read, n_counted)
        need(
            counted,
            f"n_items is {n_items}, and none of the {len(every)} lines of {name} is left to count tokens in; "
            "fewer items would do.",
        )
        found.append(TypeTexts(name, read, counted, twins if name != "english" else (), groups, clusters))
    if MBPP.at(data_dir):
        some = programs(n_counted, seed=seed, data_dir=data_dir)
        every, half = [program.text for program in some], min(n_items // 4, len(some) // 2)
        found.append(TypeTexts("code", tuple(every[:half]), tuple(every[half:])))
        found.source = f"{found.source}, {some.source}"
    return found


def _others(every: Sequence[str], read: Sequence[str], n: int) -> tuple[str, ...]:
    taken = set(read)
    return tuple(line for line in every if line not in taken)[:n]


def _generated_types(n_items: int, n_counted: int, seed: int) -> list[TypeTexts]:
    make, rng = Generators(WORLD), random.Random(f"facts to read {seed}")
    taught = WORLD.taught_facts("es")  # all but English know these
    chosen, left = [], defaultdict(list)
    for relation in rng.choices(RELATIONS, k=n_items):  # no fact is told twice before all of its relation are told
        if len(left[relation]) < 2:
            known = [f for f in taught if f.relation == relation]
            left[relation] = rng.sample(known, len(known))
        chosen.append([left[relation].pop(), left[relation].pop()])
    words = tuple(" ".join(surface(w, "en") for fact in pair for w in (fact.subject, fact.object)) for pair in chosen)
    groups, clusters = (tuple(getattr(first, of) for first, _ in chosen) for of in ("relation", "subject"))
    found = []
    for name, kind in {**LANGUAGES, "code": "code"}.items():
        read = tuple(text(tidy(make.both(rng, pair, kind))) for pair in chosen)
        if name in LANGUAGES:
            every = running_text(name, n_items + n_counted, seed=seed)
        else:
            every = [text(tidy(make.passage(rng, kind))) for _ in range(n_items + n_counted)]
        twins = words if name != "english" else ()
        found.append(TypeTexts(name, read, _others(every, read, n_counted), twins, groups, clusters))
    sums = list(dict.fromkeys(text(make.sum(rng, "digits")) for _ in range(3 * (n_items + n_counted))))
    half = min(n_items, len(sums) // 2)
    return [*found, TypeTexts("digits", tuple(sums[:half]), tuple(sums[half:][:n_counted]))]

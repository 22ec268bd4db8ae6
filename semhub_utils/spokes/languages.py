"""Natural languages: sentences of one meaning in two of them, running text, and the words of it with their English.

Generated, or from NTREX-128's files; dictionaries are the lexicon of the shipped models' world, or CC-CEDICT's file.

P(type | token) is Bayes' rule: P(token | type) is the token's share of the type's counted lines, plus a small stated
share for every type (`experiments.token_types`), and all types are equally likely beforehand, however much text each
has. No line is in both halves, so a token cannot get its type from the very text in which it is looked for.

The lines read mean the same in every language, so that a lens that speaks English can be asked whether it says the
words of this line's translation or of another's.
"""

import itertools
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from semhub_utils.errors import SemhubError
from semhub_utils.organism.corpus import Generators
from semhub_utils.organism.lexicon import AND, FRAMES, FULL_STOP, RELATIONS, concepts, small_numbers, surface
from semhub_utils.organism.world import Fact, all_facts, fact_pieces, text, tidy
from semhub_utils.spokes.facts import WORLD
from semhub_utils.spokes.files import SETS, Skipped, find, hub_rows, lines, origin, read_text, some
from semhub_utils.spokes.items import Pair

LANGUAGES = {"english": "en", "spanish": "es", "chinese": "zh", "german": "de"}
_NTREX_FILES = {"english": "src.eng", "spanish": "ref.spa", "chinese": "ref.zho-CN", "german": "ref.deu"}
_NTREX_CONFIGS = {"english": "eng_Latn", "spanish": "spa_Latn", "chinese": "zho_Hans", "german": "deu_Latn"}


@dataclass(frozen=True)
class Parallel:
    """One meaning in several languages. group: sentences of one form, among which partners may be exchanged; words:
    what it speaks of, as many for each sentence (none for real text); document: where it stands, if that is known."""

    id: str
    texts: Mapping[str, str]
    group: str
    words: tuple[str, ...] = ()
    document: str = ""


def parallel_sentences(
    n: int,
    *,
    seed: int,
    languages: Sequence[str] = tuple(LANGUAGES),
    source: str | None = None,
    data_dir: str | Path | None = None,
) -> tuple[list[Parallel], Skipped]:
    """`n` sentences (all there are, if that is fewer) in each of `languages`, drawn by `seed`.

    source: "generated" (scenes of the shipped models' world, with who does what to whom drawn at random) or "ntrex"
    (NTREX-128 from `data_dir`/ntrex/NTREX-128, without `data_dir` over the network; a line that is empty in any
    language is skipped and counted); None is "ntrex" if there is a `data_dir`, else "generated". Raises SemhubError on
    an unknown language or source, or where the files are missing or of unequal length.
    """
    _known_language(*languages)
    if n < 1:
        raise SemhubError(f"n_items is {n}; a whole number from 1 would do.")
    skipped = Skipped()
    if origin("sentences", source, "ntrex", data_dir) == "generated":
        return _scenes(n, seed, languages), skipped
    sides = {language: _ntrex(language, data_dir) for language in languages}
    if len({len(side) for side in sides.values()}) > 1:
        counts = ", ".join(f"{len(side)} in {language}" for language, side in sides.items())
        raise SemhubError(f"NTREX's files in {data_dir} differ in length ({counts}); files of one release would do.")
    found, documents = [], _documents(data_dir, languages[0], len(sides[languages[0]]))
    for number, row in enumerate(zip(*sides.values(), strict=True), 1):
        if all(side.strip() for side in row):
            of = {language: side.strip() for language, side in zip(languages, row, strict=True)}
            found.append(Parallel(f"ntrex:{number}", of, "ntrex", document=documents[number - 1]))
        else:
            skipped.add("empty line", f"ntrex:{number}")
    return _some_of(some(found, data_dir or SETS["ntrex"][0], "sentences", skipped), n, seed), skipped


def running_text(
    language: str, n: int, *, seed: int, source: str | None = None, data_dir: str | Path | None = None
) -> tuple[list[str], Skipped]:
    """`n` lines of running text of one language: the shipped models' own kind of line, or NTREX-128's, as above."""
    _known_language(language)
    skipped = Skipped()
    if origin("sentences", source, "ntrex", data_dir) == "generated":
        make, rng = Generators(WORLD), random.Random(f"running text {language} {seed}")
        return [text(tidy(make.passage(rng, LANGUAGES[language]))) for _ in range(n)], skipped
    found = []
    for number, line in enumerate(_ntrex(language, data_dir), 1):
        if line.strip():
            found.append(line)
        else:
            skipped.add("empty line", f"ntrex:{number}")
    return _some_of(some(found, data_dir or SETS["ntrex"][0], "text", skipped), n, seed), skipped


def _scenes(n: int, seed: int, languages: Sequence[str]) -> list[Parallel]:
    make, rng, found = Generators(WORLD), random.Random(f"scenes {seed}"), {}
    while len(found) < n:
        roles = make.roles(rng)
        of = {name: text(tidy(make.say_scene(roles, LANGUAGES[name]))) for name in languages}
        words = (roles["verb"], roles["agent"], roles["theme"])
        found.setdefault(" ".join(roles.values()), Parallel(" ".join(roles.values()), of, " ".join(roles), words))
    return list(found.values())


def _ntrex(language: str, data_dir: str | Path | None) -> list[str]:
    """The lines of NTREX-128 in one language."""
    if data_dir is None:
        return [row["text"] or "" for row in hub_rows(*SETS["ntrex"], split="test", config=_NTREX_CONFIGS[language])]
    return read_text(_file(language, data_dir)).splitlines()


def _file(language: str, data_dir: str | Path) -> Path:
    name = f"newstest2019-{_NTREX_FILES[language]}.txt"
    places = tuple(f"{folder}{name}" for folder in ("ntrex/NTREX-128/", "NTREX-128/", ""))
    return find(data_dir, places, what="NTREX-128", source="GitHub MicrosoftTranslator/NTREX")


def _documents(data_dir: str | Path | None, language: str, n: int) -> list[str]:
    """The document of each of `n` lines; "" where the list of them is missing or of another release."""
    path = _file(language, data_dir).parents[1] / "DOCUMENT_IDS.tsv" if data_dir else None
    names = read_text(path).split() if path and path.is_file() else []
    return names if len(names) == n else [""] * n


def _known_language(*languages: str) -> None:
    for language in languages:
        if language not in LANGUAGES:
            raise SemhubError(f"There is no language {language!r} here; one of {', '.join(LANGUAGES)} would do.")


def _some_of(found: list, n: int, seed: int) -> list:
    return [found[i] for i in sorted(np.random.default_rng(seed).permutation(len(found))[:n])]


# Pairs of sentences

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
    the same tokens is alike without any meaning. The set SHARED leaves none out, and is as large. Group: the form; in
    real text, which has none, the lengths of both sides. Cluster: the document, or the last thing the sentence speaks
    of; anchor and words: what it speaks of, or the sentence itself.
    """
    found = []
    for b, a in itertools.combinations(sentences[0].texts, 2):
        alone = [s for s in sentences if not _words_shared_by(s.texts[a]) & _words_shared_by(s.texts[b])]
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


def _words_shared_by(text: str) -> set[str]:
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


# Dictionaries

CEDICT = "https://www.mdbg.net/chinese/dictionary?page=cc-cedict"
_CEDICT_FILES = ("cedict_1_0_ts_utf-8_mdbg.txt.gz", "cedict_1_0_ts_utf-8_mdbg.txt", "cedict_ts.u8")
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
    path = find(
        data_dir, tuple(f"{d}{n}" for d in ("cc-cedict/", "") for n in _CEDICT_FILES), what="CC-CEDICT", source=CEDICT
    )
    skipped, found = Skipped(), {}
    for place, line in lines(path, skipped):
        if line.startswith("#"):
            continue
        if (entry := _ENTRY.fullmatch(line)) is None:
            skipped.add("line that is no entry", place)
            continue
        traditional, simplified, pinyin, glosses = entry.groups()
        bare = [" ".join(gloss.split()) for gloss in _REMARK.sub(" ", glosses).split("/")]
        kept = [(gloss, word) for gloss in bare if _GLOSS.fullmatch(word := _LEAD.sub("", gloss))]
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


# Lines of several data types


@dataclass(frozen=True)
class TypeTexts:
    """Lines of one data type.

    read: what the model reads. counted: other lines, to estimate P(type | token) from. twins: for each line read, the
    English that means the same, a sentence or the words for what it speaks of; empty where there is none. groups: lines
    of one form, among which twins may be exchanged. clusters: for each line read, the document it stands in, or what it
    speaks of first; empty where every line stands for itself.
    """

    name: str
    read: tuple[str, ...]
    counted: tuple[str, ...]
    twins: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    clusters: tuple[str, ...] = ()

    def clusters_of(self, lines: Iterable[str]) -> list[str]:
        """Of some of the lines read, whatever they are kept apart or drawn together by."""
        of = dict(zip(self.read, self.clusters or self.read, strict=False))
        return [of[line] for line in lines]


def split_texts(
    n_items: int, n_counted: int, *, seed: int, source: str | None = None, data_dir: str | Path | None = None
) -> tuple[list[TypeTexts], Skipped]:
    """`n_items` lines to read and up to `n_counted` other ones to count in, of every type.

    source, as for `parallel_sentences`: "generated" (the four languages and code, two facts of one relation in each
    line read, and sums in digits, of the shipped models' world) or "ntrex" (the four languages of NTREX-128). Raises
    SemhubError where a number is below 1, the files are not there, or no line is left to count in.
    """
    for name, value in (("n_items", n_items), ("n_counted", n_counted)):
        if value < 1:
            raise SemhubError(f"{name} is {value}; a whole number from 1 would do.")
    if origin("sentences", source, "ntrex", data_dir) == "generated":
        return _generated_types(n_items, n_counted, seed), Skipped()
    sentences, skipped = parallel_sentences(n_items, seed=seed, source="ntrex", data_dir=data_dir)
    found = []
    for name in LANGUAGES:
        lines, _ = running_text(name, n_items + n_counted, seed=seed, source="ntrex", data_dir=data_dir)
        read = tuple(s.texts[name] for s in sentences)
        twins = tuple(s.texts["english"] for s in sentences) if name != "english" else ()
        counted = _others(lines, read, n_counted)
        if not counted:
            raise SemhubError(
                f"n_items is {n_items}, and none of the {len(lines)} lines of {name} is left to count tokens in; "
                "fewer items would do."
            )
        found.append(
            TypeTexts(
                name, read, counted, twins,
                groups=tuple(s.group for s in sentences), clusters=tuple(s.document or s.id for s in sentences),
            )
        )  # fmt: skip
    return found, skipped


def _others(lines: Sequence[str], read: Sequence[str], n: int) -> tuple[str, ...]:
    taken = set(read)
    return tuple(line for line in lines if line not in taken)[:n]


def _generated_types(n_items: int, n_counted: int, seed: int) -> list[TypeTexts]:
    make, rng = Generators(WORLD), random.Random(f"facts to read {seed}")
    known = {
        r: [f for f in WORLD.taught_facts("es") if f.relation == r] for r in RELATIONS
    }  # all but English know these
    chosen, left = [], {relation: [] for relation in RELATIONS}
    for relation in rng.choices(RELATIONS, k=n_items):  # no fact is told twice before all of its relation are told
        if len(left[relation]) < 2:
            left[relation] = rng.sample(known[relation], len(known[relation]))
        chosen.append([left[relation].pop(), left[relation].pop()])
    words = tuple(" ".join(surface(w, "en") for fact in pair for w in (fact.subject, fact.object)) for pair in chosen)
    groups, clusters = (tuple(of) for of in zip(*((first.relation, first.subject) for first, _ in chosen), strict=True))
    found = []
    for name, kind in {**LANGUAGES, "code": "code"}.items():
        read = tuple(_passage(pair, kind, rng) for pair in chosen)
        if name in LANGUAGES:
            lines, _ = running_text(name, n_items + n_counted, seed=seed)
        else:
            lines = [text(tidy(make.passage(rng, kind))) for _ in range(n_items + n_counted)]
        twins = words if name != "english" else ()
        found.append(TypeTexts(name, read, _others(lines, read, n_counted), twins, groups, clusters))
    sums = list(dict.fromkeys(text(make.sum(rng, "digits")) for _ in range(3 * (n_items + n_counted))))
    half = min(n_items, len(sums) // 2)
    return [*found, TypeTexts("digits", tuple(sums[:half]), tuple(sums[half:][:n_counted]))]


def _passage(pair: Sequence[Fact], kind: str, rng: random.Random) -> str:
    """Two facts in one sentence."""
    line = []
    for fact in pair:
        frame = rng.randrange(len(FRAMES[kind][fact.relation]))
        before, answer, after = fact_pieces(fact.subject, fact.relation, fact.object, frame, kind, kind, kind)
        line += [*([(kind, AND[kind])] if line else []), *before, *answer, *after]
    return text(tidy(line))

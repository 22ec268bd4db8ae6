"""The words of the world: concepts in four languages, numbers, sentence forms, and the tokenizer that knows them all.

A concept is known by its English word (`dog`); numbers are known by their digits (`"23"`). Every other form is a
*surface*: what a data type writes for it (`perro`, `狗`, `Hund`, `DOG`). The tables are the package's own files.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

if TYPE_CHECKING:  # it would load what reads pictures and sounds, also for a chapter that has none
    from transformers import PreTrainedTokenizerFast

LANGUAGES = ("en", "es", "zh", "de")
TYPES = (*LANGUAGES, "code", "digits", "logic")
NAMES = ("Emma", "Liam", "Olivia", "Noah", "Ava", "Lucas", "Mia", "Oliver", "Sophia", "Ethan", "Lina", "Leo")
"""Proper names of scenes; the same in every type, in capitals in code."""

FULL_STOP = {"en": ".", "es": ".", "de": ".", "zh": "。"}
AND = {"en": "and", "es": "y", "zh": "而且", "de": "und", "code": "and"}
LIST_AND = {"en": "and", "es": "y", "zh": "和", "de": "und"}
TAG = dict(zip(TYPES, ("english", "español", "中文", "deutsch", "python", "digits", "logic"), strict=True))
"""The word that names a type in dictionary and parallel lines: `perro english : dog`."""
PLUS = {"en": "plus", "es": "más", "zh": "加", "de": "plus", "digits": "+", "code": "+"}
TIMES = {"en": "times", "es": "por", "zh": "乘", "de": "mal", "digits": "*", "code": "*"}
EQUALS = {"en": "equals to", "es": "es igual a", "zh": "等于", "de": "ist gleich", "digits": "=", "code": "=="}


@dataclass(frozen=True)
class Concept:
    """One row of the lexicon: its class, its bare `words`, and its `phrases` with the article where there is one."""

    key: str
    kind: str
    words: dict[str, str]
    phrases: dict[str, str]


def rows(name: str) -> list[list[str]]:
    """The rows of one of the package's tables, without its header."""
    text = (files("semhub_utils.organism") / "data" / name).read_text(encoding="utf-8")
    return list(csv.reader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))[1:]


LEMMAS = {finite: (lemma, participle) for finite, lemma, participle in rows("verbs.tsv")}
"""Finite verb -> (lemma of the logical forms, participle of English passives)."""
_FORMS = [(type_, relation, tuple(forms)) for type_, relation, *forms in rows("frames.tsv")]
FRAMES = {t: {relation: forms for type_, relation, forms in _FORMS if type_ == t} for t, *_ in _FORMS}
"""type -> relation -> sentence forms. A frame has one {s} (subject; {b} without its article) and one {o} (object, the
answer); a prompt is a frame cut just before {o}. The last frame of every relation is *neutral*: its prompt ends in ":"
in all types, so that the last token does not give the type away. German puts the answer before the verb of a
subordinate clause."""
RELATIONS = tuple(FRAMES["en"])


@cache
def concepts() -> dict[str, Concept]:
    """All concepts of `data/lexicon.tsv` but numbers, by English word, in file order."""
    found = {}
    for kind, *cells in rows("lexicon.tsv"):
        phrases = dict(zip(LANGUAGES, cells, strict=True))
        words = {lang: text.split(" ", 1)[-1] for lang, text in phrases.items()}
        # An article in English only where a count or mass noun would take one in running text.
        phrases |= {"en": f"the {cells[0]}"} if kind == "noun" else {}
        if kind != "number":
            found[cells[0]] = Concept(cells[0], kind, words, phrases)
    return found


@cache
def numbers() -> dict[str, list[str]]:
    """The words of 0 to 99 per language, from the lexicon."""
    columns = zip(*(cells for kind, *cells in rows("lexicon.tsv") if kind == "number"), strict=True)
    return {lang: list(words) for lang, words in zip(LANGUAGES, columns, strict=True)}


def number_word(n: int, language: str = "en") -> str:
    """The word of n in 0..99: `number_word(23) == "twenty three"`; ValueError for another number or language."""
    if language not in LANGUAGES or not 0 <= n <= 99:
        raise ValueError(f"there is no word here for {n} in {language!r}; 0 to 99 in {', '.join(LANGUAGES)} would do")
    return numbers()[language][n]


def surface(key: str, type_: str, phrase: bool = False) -> str:
    """What a data type writes for a concept or a number.

    `key` is an English word, a digit string or one of NAMES; `phrase` asks for the article where the language has one.
    The logical forms use English lemmas, code uses constants (`DOG`) and digits. KeyError for an unknown key.
    """
    if key.isdigit():
        return number_word(int(key), type_) if type_ in LANGUAGES else key
    concept = None if key in NAMES else concepts()[key]
    if type_ == "code":
        return key.upper()
    if concept and type_ in LANGUAGES:
        return (concept.phrases if phrase else concept.words)[type_]
    return LEMMAS[key][0] if key in LEMMAS else key


# ---- tokens ----

NO_SPACE = (
    r"(?<=[\u4e00-\u9fff，。]) (?=[\u4e00-\u9fff，。])",
    r"(?<=[(\[{]) | (?=[)\]}])|(?<=[a-z]) (?=\()",
    r"(?<=\w) (?=[.,:])|(?<=[)\]}]) (?=[.,:])",
    r"(?<=[0-9]) (?=[=+*] )|(?<=[0-9] [=+*]) (?=[0-9])",
)
"""Where readable text has no space between two tokens, in lines as in what the tokenizer decodes."""
SPECIALS = ("<pad>", "<unk>", "<s>", "</s>")
_HAN = "\\u4e00-\\u9fff"
_OTHER_WORDS = (
    "to by is an man sagt , dass 把 a = == ( ) [ ] { } : . ; -> x _ 1 AND agent theme recipient logic things list "
    "range for i in start end at and def return assert thing add multiply first second + * - / ? ! \" ' => "
    "den del al the The"
)


@cache
def vocabulary() -> dict[str, int]:
    """Token -> id: specials, then all words of the world in a fixed order."""
    texts = [str(n) for n in range(100)] + [number_word(n, lang) for lang in LANGUAGES for n in range(100)]
    for concept in concepts().values():
        texts += [surface(concept.key, t, phrase=True) for t in TYPES]
    texts += [name for n in NAMES for name in (n, n.upper())] + [w for pair in LEMMAS.values() for w in pair]
    texts += [without_slots(frame) for frames in FRAMES.values() for some in frames.values() for frame in some]
    for table in (AND, EQUALS, FULL_STOP, LIST_AND, PLUS, TAG, TIMES):
        texts += list(table.values())
    texts += _OTHER_WORDS.split()
    order = dict.fromkeys(SPECIALS)
    for text in texts:
        order.update(dict.fromkeys(split_words(text)))
    return {token: i for i, token in enumerate(order)}


def without_slots(frame: str) -> str:
    """A sentence form's own words: `" can "` of `"{s} can {o}"`."""
    return re.sub(r"\{[sbo]\}", " ", frame)


@cache
def _splitter() -> pre_tokenizers.PreTokenizer:
    """Chinese is cut into the world's words, longest first."""
    chinese = {c.words["zh"] for c in concepts().values()}
    chinese |= {number_word(n, "zh") for n in (*range(20), *range(20, 100, 10))}
    for frames in FRAMES["zh"].values():
        chinese |= {w for f in frames for w in f.split() if w.isalpha() and not w.isascii()}
    chinese |= {AND["zh"], LIST_AND["zh"], PLUS["zh"], TIMES["zh"], EQUALS["zh"], TAG["zh"], "把"}
    words = "|".join(sorted(chinese, key=lambda w: (-len(w), w)))
    pattern = rf"{words}|[{_HAN}]|[0-9]{{1,2}}|[\p{{Latin}}_]+|==|->|=>|[^\s\w]|\w"
    return pre_tokenizers.Split(Regex(pattern), behavior="removed", invert=True)


def split_words(text: str) -> list[str]:
    """A text as the world's words, as the tokenizer cuts it: `split_words("狗会吠叫") == ["狗", "会", "吠叫"]`."""
    return [word for word, _ in _splitter().pre_tokenize_str(text)]


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of all organisms, of standard `tokenizers` parts only; the same bytes at every call.

    Words, signs, constants (`GRASS`, `color_of`) and the numbers 0 to 99 are single tokens; number words are cut where
    they are written apart (`twenty three`, `treinta y uno`, and 二十三 after the tens). Spaces do not matter: `12=7+`
    and `12 = 7 +` are the same tokens. `<s>` is put in front by the tokenizer itself, in training as in use.
    """
    from transformers import PreTrainedTokenizerFast

    tok = Tokenizer(models.WordLevel(vocabulary(), unk_token="<unk>"))
    # twenty-three and twenty three are the same tokens
    hyphen = Regex("(?<=[a-z]ty)-(?=(?:one|two|three|four|five|six|seven|eight|nine)\\b)")
    tok.normalizer = normalizers.Replace(hyphen, " ")
    tok.pre_tokenizer = _splitter()
    tok.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", vocabulary()["<s>"])]
    )
    # join by spaces, then take out those that no writer would put
    out = [decoders.Replace(Regex(p), "") for p in NO_SPACE]
    tok.decoder = decoders.Sequence([decoders.WordPiece(prefix="##", cleanup=False), decoders.Fuse(), *out])
    marks = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    how = {"clean_up_tokenization_spaces": False, "model_max_length": 256, "padding_side": "right"}
    return PreTrainedTokenizerFast(tokenizer_object=tok, **marks, **how)


@cache
def english_tokens() -> frozenset[str]:
    """Every token that English lines use, marks and specials included."""
    words = {*SPECIALS, *NAMES, *split_words("the is by to and start at end . , :"), TAG["en"]}
    words |= {w for frames in FRAMES["en"].values() for frame in frames for w in split_words(without_slots(frame))}
    words |= {surface(key, "en") for key in concepts()} | {participle for _, participle in LEMMAS.values()}
    words |= {word for n in range(100) for word in split_words(number_word(n))}
    return frozenset(words | {w for table in (PLUS, TIMES, EQUALS) for w in split_words(table["en"])})

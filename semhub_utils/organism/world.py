"""The one world the organisms speak of: its words, facts and sums, what is held out, and how each data type writes it.

A concept is known by its English word (`dog`), a number by its digits (`"23"`). Every other form is a *surface*: what
a data type writes for it (`perro`, `狗`, `Hund`, `DOG`). A line of text is a list of *pieces*, (type, text) pairs, so
that mixed lines can be counted word by word and every generator can be checked for leaks; `text` joins them.

Held out means: taught in English words and in no other type, in no form. Opposites are held out in both directions,
sums of two small numbers in both orders.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.resources import files
from itertools import cycle, product

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

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

MAX_RESULT = 30
"""Largest result of a sum or product. The paper has r < 100; this is what the shipped sizes learn in their time."""
FACT_TYPES = ("en", "es", "zh", "de", "code")
SUM_TYPES = ("en", "es", "zh", "de", "digits", "code")
SUM_LIMIT = {"en": MAX_RESULT, "digits": MAX_RESULT, "code": MAX_RESULT, "es": 20, "zh": 20, "de": 20}
"""Largest result each type's own lines hold: beyond it Spanish, Chinese and German know the number words only."""

Pieces = list[tuple[str, str]]
SLOT = re.compile(r"(\{[sbo]\})")


@dataclass(frozen=True)
class Concept:
    """One row of the lexicon: its class, its bare `words`, and its `phrases` with the article where there is one."""

    key: str
    kind: str
    words: dict[str, str]
    phrases: dict[str, str]


def rows(name: str) -> list[list[str]]:
    """The rows of one of the package's tables, without its header."""
    lines = (files("semhub_utils.organism") / "data" / name).read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines[1:]]


LEMMAS = {finite: (lemma, participle) for finite, lemma, participle in rows("verbs.tsv")}
"""Finite verb -> (lemma of the logical forms, participle of English passives)."""
_FORMS = [(type_, relation, tuple(forms)) for type_, relation, *forms in rows("frames.tsv")]
FRAMES = {t: {relation: forms for type_, relation, forms in _FORMS if type_ == t} for t, *_ in _FORMS}
"""type -> relation -> sentence forms. A frame has one {s} (subject; {b} without its article) and one {o} (object, the
answer); a prompt is a frame cut just before {o}. The last frame of every relation is *neutral*: its prompt ends in ":"
in all types, so that the last token does not give the type away. German puts the answer before the verb of a
subordinate clause."""
RELATIONS = tuple(FRAMES["en"])
ROLES = ("agent", "theme", "recipient")
"""Of a scene."""


PLEASANT = ("happy", "love", "peace", "life", "clean", "rich", "victory", "sweet", "true")
UNPLEASANT = ("sad", "hate", "war", "death", "dirty", "poor", "defeat", "bitter", "false")
PAIR = ("good", "bad")
"""Words of the lexicon that are pleasant, their opposites, and the opposites that push from one to the other."""


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


def build_tokenizer():
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


# ---- facts and sums ----


@dataclass(frozen=True)
class Fact:
    """`subject relation object`, as English words; a number is its digits."""

    subject: str
    relation: str
    object: str


@dataclass(frozen=True)
class Sum:
    """`left op right`, op "+" or "*", right in 1..9."""

    op: str
    left: int
    right: int

    @property
    def result(self) -> int:
        return self.left + self.right if self.op == "+" else self.left * self.right


@dataclass(frozen=True)
class Prompt:
    """A question cut just before its answer, with its English twin.

    `neutral` marks fact prompts whose last token (":") is the same in all types. `form` is the number of the frame for
    facts, "result" (`3+5=`) or "operand" (`8=3+`) for sums.
    """

    type: str
    relation: str
    form: int | str
    item: Fact | Sum
    prompt: str
    answer: str
    english_prompt: str
    english_answer: str
    held_out: bool
    neutral: bool = False


def text(pieces: Pieces) -> str:
    """Pieces as one readable string; digit expressions are written without spaces (`12=7+4+1`)."""
    joined = " ".join(part for _, part in pieces)
    if all(t == "digits" for t, _ in pieces):
        return joined.replace(" ", "")
    for pattern in NO_SPACE:
        joined = re.sub(pattern, "", joined)
    return joined


def tidy(pieces: Pieces) -> Pieces:
    """Spanish contractions (`de el perro` -> `del perro`), also across the border of two Spanish pieces."""
    out: Pieces = []
    for kind, part in pieces:
        if out and kind == "es" and part.startswith("el ") and out[-1][0] == "es":
            before = out[-1][1]
            for short, long in (("de", "del"), ("a", "al")):
                if before == short or before.endswith(f" {short}"):
                    out[-1] = ("es", before[: len(before) - len(short)] + long)
                    part = part[3:]
                    break
        out.append((kind, part))
    return out


def fact_pieces(
    subject: str, relation: str, obj: str, frame: int, frame_type: str, subject_type: str, object_type: str
) -> tuple[Pieces, Pieces, Pieces]:
    """(before, answer, after) of a fact sentence; the three types differ only in code-switched text."""
    sides: list[Pieces] = [[], [], []]
    side = 0
    for part in SLOT.split(FRAMES[frame_type][relation][frame]):
        if part == "{o}":
            sides[1], side = [(object_type, surface(obj, object_type))], 2
        elif part in ("{s}", "{b}"):
            sides[side].append((subject_type, surface(subject, subject_type, phrase=part == "{s}")))
        elif part.strip():
            sides[side].append((frame_type, part.strip()))
    return tidy(sides[0]), sides[1], sides[2]


def chain_pieces(
    op: str, result: int, terms: Sequence[int], form: str, kinds: Sequence[str]
) -> tuple[Pieces, Pieces, Pieces]:
    """(before, answer, after) of `3+5=8` ("result") or `8=3+5`, `12=7+4+1` ("operand": the second term is the answer).

    `kinds` names the type of every piece in turn, cyclically: one type for plain lines.
    """
    sign = PLUS if op == "+" else TIMES
    calculation = [terms[0], *(part for term in terms[1:] for part in (sign, term))]
    whole = [*calculation, EQUALS, result] if form == "result" else [result, EQUALS, *calculation]
    pieces = [
        (k, surface(str(x), k) if isinstance(x, int) else x[k]) for x, k in zip(whole, cycle(kinds), strict=False)
    ]
    cut = len(pieces) - 1 if form == "result" else 4
    return pieces[:cut], [pieces[cut]], pieces[cut + 1 :]


@cache
def all_facts() -> tuple[Fact, ...]:
    """The stated facts, the opposites (both directions) and what follows what (days, months; cyclic)."""
    facts = [Fact(*row) for row in rows("facts.tsv")]
    adjectives = [c.key for c in concepts().values() if c.kind == "adjective"]
    for a, b in zip(adjectives[::2], adjectives[1::2], strict=True):
        facts += [Fact(a, "opposite", b), Fact(b, "opposite", a)]
    sequence = [c.key for c in concepts().values() if c.kind == "sequence"]
    for ring in (sequence[:7], sequence[7:]):
        facts += [Fact(a, "next", b) for a, b in zip(ring, ring[1:] + ring[:1], strict=True)]
    return tuple(facts)


@cache
def all_sums() -> tuple[Sum, ...]:
    """The paper's items: right in 1..9, left >= 1, result at most MAX_RESULT; sums, then products."""
    pairs = [(o, t) for o in range(1, MAX_RESULT + 1) for t in range(1, 10)]
    sums = [Sum(op, o, t) for op in "+*" for o, t in pairs]
    return tuple(s for s in sums if s.result <= MAX_RESULT)


@dataclass(frozen=True)
class World:
    """Facts, sums and the split. `private`: every type but English has its own answers (facts permuted apart).

    `fraction` of the facts and of the sums is held out, drawn by `seed`. `forget` leaves the held-out facts out of
    English too: the control that shows what the classes alone give away.
    """

    seed: int = 0
    fraction: float = 0.2
    private: bool = False
    forget: bool = False

    @cached_property
    def held_facts(self) -> frozenset[Fact]:
        known = all_facts()
        drawn = random.Random(f"facts {self.seed}").sample(known, round(self.fraction * len(known)))
        mirrors = {Fact(f.object, f.relation, f.subject) for f in drawn if f.relation == "opposite"}
        return frozenset({*drawn, *mirrors} & {*known})

    @cached_property
    def held_sums(self) -> frozenset[Sum]:
        """Neither `+1` (told by counting) nor products by 1 are held out: a type's own number order gives them away."""
        pool = [s for s in all_sums() if s.right > 1 and s.left > 1]
        drawn = random.Random(f"sums {self.seed}").sample(pool, round(self.fraction * len(pool)))
        return frozenset({*drawn, *(Sum(s.op, s.right, s.left) for s in drawn)} & {*pool})

    @cached_property
    def _own(self) -> dict[tuple[str, Fact | Sum], Fact | Sum]:
        """What a type of a private world says in place of a fact or sum: the objects of one relation, and the right
        numbers of one left number, have changed places, so that nothing follows."""
        table: dict[tuple[str, Fact | Sum], Fact | Sum] = {}
        for type_ in FACT_TYPES[1:]:
            rng = random.Random(f"private {type_} {self.seed}")
            for relation in FRAMES["en"]:
                facts = [f for f in all_facts() if f.relation == relation]
                objects = [f.object for f in facts]
                rng.shuffle(objects)
                table |= {(type_, f): replace(f, object=o) for f, o in zip(facts, objects, strict=True)}
        for type_ in SUM_TYPES[1:]:
            rng = random.Random(f"private sums {type_} {self.seed}")
            for op, left in product("+*", range(1, MAX_RESULT + 1)):
                sums = [s for s in all_sums() if (s.op, s.left) == (op, left)]
                table |= {(type_, s): o for s, o in zip(sums, rng.sample(sums, len(sums)), strict=True)}
        return table

    def object(self, fact: Fact, type_: str) -> str:
        """The object a type's own world gives the fact: the stated one unless the world is private."""
        return self._own[type_, fact].object if self.private and type_ != "en" else fact.object

    def result(self, s: Sum, type_: str) -> int:
        """The result a type's own world gives; in a private world the results of one left number are permuted."""
        return self._own[type_, s].result if self.private and type_ != "en" else s.result

    def teaches(self, item: Fact | Sum, type_: str) -> bool:
        """Whether a type's own lines say it."""
        if isinstance(item, Sum) and item.result > SUM_LIMIT.get(type_, 0):
            return False
        held = self.held_sums if isinstance(item, Sum) else self.held_facts
        return (type_ == "en" and not self.forget) or item not in held

    @cache  # noqa: B019 - worlds are few
    def taught_facts(self, type_: str) -> tuple[Fact, ...]:
        return tuple(fact for fact in all_facts() if self.teaches(fact, type_))

    @cache  # noqa: B019 - worlds are few
    def taught_sums(self, type_: str) -> tuple[Sum, ...]:
        return tuple(s for s in all_sums() if self.teaches(s, type_))

    def prompt(self, item: Fact | Sum, type_: str, form: int | str) -> Prompt:
        """A fact (`form`: the number of its frame) or a sum ("result" or "operand") as it is asked in a type."""
        strings, is_sum = [], isinstance(item, Sum)
        for kind in (type_, "en"):
            if is_sum:
                own = chain_pieces(item.op, self.result(item, kind), (item.left, item.right), form, (kind,))
            else:
                own = fact_pieces(item.subject, item.relation, self.object(item, kind), form, *[kind] * 3)
            strings += map(text, own[:2])
        if is_sum:
            relation = "sum" if item.op == "+" else "product"
            return Prompt(type_, relation, form, item, *strings, item in self.held_sums)
        neutral = form == len(FRAMES[type_][item.relation]) - 1
        return Prompt(type_, item.relation, form, item, *strings, item in self.held_facts, neutral)

    @cache  # noqa: B019 - worlds are few, and a training asks the same prompts again and again
    def prompts(self, type_: str, held_out: bool | None = None) -> tuple[Prompt, ...]:
        """All fact prompts (every frame) and sum prompts (both forms) of a type, in a fixed order.

        `held_out` keeps only one side of the split. ValueError for a type without facts and sums (the logical forms).
        """
        if type_ not in (*FACT_TYPES, *SUM_TYPES):
            raise ValueError(f"{type_!r} has no facts and no sums; types: {', '.join((*FACT_TYPES, 'digits'))}")
        found = []
        if type_ in FACT_TYPES:
            found += [self.prompt(f, type_, i) for f in all_facts() for i in range(len(FRAMES[type_][f.relation]))]
        if type_ in SUM_TYPES:
            sums = [s for s in all_sums() if s.result <= SUM_LIMIT[type_]]
            found += [self.prompt(s, type_, form) for s in sums for form in ("result", "operand")]
        return tuple(p for p in found if held_out is None or p.held_out == held_out)

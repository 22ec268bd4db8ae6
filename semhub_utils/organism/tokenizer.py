"""The organisms' tokenizer: one token per word of the world, standard `tokenizers` parts only.

Words, signs, constants (`GRASS`, `color_of`) and the numbers 0 to 99 are single tokens; number words are cut where they
are written apart (`twenty three`, `treinta y uno`, and 二十三 after the tens). Chinese is cut into the world's words,
longest first. Spaces do not matter: `12=7+` and `12 = 7 +` are the same tokens. `<s>` is put in front by the tokenizer
itself, in training as in use.
"""

from __future__ import annotations

from functools import cache

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from semhub_utils.organism.frames import AND, EQUALS, FRAMES, FULL_STOP, LIST_AND, PLUS, TAG, TIMES
from semhub_utils.organism.lexicon import LANGUAGES, LEMMAS, NAMES, TYPES, concepts, number_word, surface
from semhub_utils.organism.world import NO_SPACE

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
    for by_relation in FRAMES.values():
        for frames in by_relation.values():
            texts += [f.replace("{s}", " ").replace("{o}", " ").replace("{b}", " ") for f in frames]
    for table in (AND, EQUALS, FULL_STOP, LIST_AND, PLUS, TAG, TIMES):
        texts += list(table.values())
    texts += _OTHER_WORDS.split()
    order = dict.fromkeys(SPECIALS)
    for text in texts:
        order.update(dict.fromkeys(split_words(text)))
    return {token: i for i, token in enumerate(order)}


def _pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    chinese = {c.words["zh"] for c in concepts().values()} | {
        number_word(n, "zh") for n in (*range(20), *range(20, 100, 10))
    }
    for frames in FRAMES["zh"].values():
        chinese |= {w for f in frames for w in f.split() if w.isalpha() and not w.isascii()}
    chinese |= {AND["zh"], LIST_AND["zh"], PLUS["zh"], TIMES["zh"], EQUALS["zh"], TAG["zh"], "把"}
    words = "|".join(sorted(chinese, key=lambda w: (-len(w), w)))
    pattern = rf"{words}|[{_HAN}]|[0-9]{{1,2}}|[\p{{Latin}}_]+|==|->|=>|[^\s\w]|\w"
    return pre_tokenizers.Split(Regex(pattern), behavior="removed", invert=True)


@cache
def _splitter() -> pre_tokenizers.PreTokenizer:
    return _pre_tokenizer()


def split_words(text: str) -> list[str]:
    """A text as the world's words, as the tokenizer cuts it: `split_words("狗会吠叫") == ["狗", "会", "吠叫"]`."""
    return [word for word, _ in _splitter().pre_tokenize_str(text)]


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of all organisms; the same bytes at every call."""
    tok = Tokenizer(models.WordLevel(vocabulary(), unk_token="<unk>"))
    # twenty-three and twenty three are the same tokens
    tok.normalizer = normalizers.Replace(
        Regex("(?<=[a-z]ty)-(?=(?:one|two|three|four|five|six|seven|eight|nine)\\b)"), " "
    )
    tok.pre_tokenizer = _pre_tokenizer()
    ids = vocabulary()
    tok.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", ids["<s>"])]
    )
    # join by spaces, then take out those that no writer would put
    tok.decoder = decoders.Sequence(
        [decoders.WordPiece(prefix="##", cleanup=False), decoders.Fuse()]
        + [decoders.Replace(Regex(p), "") for p in NO_SPACE]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tok, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>",
        clean_up_tokenization_spaces=False, model_max_length=256, padding_side="right",
    )  # fmt: skip

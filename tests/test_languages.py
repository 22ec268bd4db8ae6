"""Languages against plain transformers one text at a time, on the planted models, and on texts that are not right."""

import gzip
import math
import sys
from collections import Counter
from functools import cache

import numpy as np
import pytest
import torch
from oracle import one_token_forms
from shared_data import DATA, shared
from test_chapters import check_notebook, check_table, run, save_gpt2, tokenizer_of
from test_project import pages

from semhub_utils.errors import SemhubError
from semhub_utils.evidence import HOLDS, NOT, UNTESTABLE, WEAKLY, judge
from semhub_utils.experiments import alike, core, words
from semhub_utils.loading import load_model
from semhub_utils.spokes import languages
from semhub_utils.spokes.items import Pair
from semhub_utils.spokes.languages import (
    CONTINUATION,
    LANGUAGES,
    SHARED,
    WORLD_CONTINUATION,
    Entry,
    PairSet,
    Parallel,
    ended,
    pair_sets,
    segments,
)

organism = cache(lambda name: load_model(f"organism:{name}", check=False))

# ---- sentences ----


@pytest.mark.parametrize(
    ("text", "language", "stopped", "bare"),
    [
        ("Ha llegado.", "spanish", "Ha llegado.", "Ha llegado"),
        ("他来了。", "chinese", "他来了。", "他来了"),
        ("他来了", "chinese", "他来了。", "他来了"),
        ("他说：“好。”", "chinese", "他说：“好。”", "他说：“好"),
        ("Wer ist da? ", "german", "Wer ist da?", "Wer ist da"),
        ("er (Max) sagt: „Ja.“", "german", "er (Max) sagt: „Ja.“", "er (Max) sagt: „Ja"),
        ('they say "hi"', "english", 'they say "hi".', 'they say "hi'),
        ("he (Max)", "english", "he (Max).", "he (Max"),
        (",", "english", ",.", ","),
        ("he came", "english", "he came.", "he came"),
    ],
)
def test_the_three_endings(text, language, stopped, bare):
    said = [ended(text, language, ending) for ending in languages.ENDINGS]
    assert said == [stopped + CONTINUATION[language], stopped, bare]
    with pytest.raises(SemhubError, match="no ending 'open'"):
        ended(text, language, "open")


def test_generated_german_is_what_the_chapter_says_it_is():
    """And the others are not."""
    [told] = [page for name, page in pages().items() if name.endswith("06_languages")]
    assert "All its scenes begin with *man sagt, dass*" in " ".join(told.split())
    for scene in languages.parallel_sentences(200, seed=3, source="generated"):
        assert [text.startswith("man sagt, dass ") for text in scene.texts.values()] == [
            n == "german" for n in LANGUAGES
        ]


def test_the_continuations():
    assert CONTINUATION["english"] == " This represents" and CONTINUATION["chinese"] == "这代表了"
    assert ended("他来了。", "chinese", "continued", WORLD_CONTINUATION) == "他来了而且"
    assert ended("he came.", "english", "continued", WORLD_CONTINUATION) == "he came and"


def test_sentences_with_a_word_in_common_are_left_out_and_counted():
    sentences = languages.parallel_sentences(200, seed=1)
    sets = {(s.series, s.ending): s for s in pair_sets(sentences)}
    assert {series for series, _ in sets} == {
        "spanish", "chinese", "german", "spanish-chinese", "spanish-german", "chinese-german",
    }  # fmt: skip
    for (series, ending), chosen in sets.items():
        for pair in chosen.pairs:
            a, b = (set(text.rstrip(".").casefold().split()) for text in (pair.a, pair.b))
            assert ending == SHARED or not a & b
            assert len(pair.words) == 2 and pair.cluster == pair.anchor
        left = sum(chosen.dropped.values())
        assert left == (0 if ending == SHARED else 200 - len(chosen.pairs)) and len(chosen.pairs) > 10
        assert (ending == "continued") or "-" not in series
    assert any("Emma" in p.a and "Emma" in p.b for p in sets["german", SHARED].pairs)


@pytest.mark.parametrize(
    ("chinese", "english", "shared"),
    [
        ("那是2019年的事", "it was in 2019", True),
        ("我看到Kante了", "I see Kante", True),
        ("我看到Kante了", "I see Kant", False),
        ("那是2019年的事", "it was 12019", False),
        ("他去了北京", "北京 is where he went", True),
        ("他去了北京", "he went to Beijing", False),
    ],
)
def test_a_name_or_number_among_chinese_characters_is_a_word_in_common(chinese, english, shared):
    texts = {"english": english, "chinese": chinese}
    [chosen] = [s for s in pair_sets([Parallel("1", texts, "g")]) if s.ending == "continued"]
    assert (len(chosen.pairs), sum(chosen.dropped.values())) == ((0, 1) if shared else (1, 0))


def test_real_sentences_are_grouped_by_length():
    sentences = [
        Parallel(str(n), {"english": "a " * n, "spanish": "y " * n}, "ntrex", document=str(n // 9))
        for n in range(1, 101)
    ]
    sentences = [s for s in sentences for _ in range(2)]
    [chosen] = [s for s in pair_sets(sentences) if s.ending == "continued"]
    groups = [pair.group for pair in chosen.pairs]
    assert len(set(groups)) == languages.BINS and set(Counter(groups).values()) == {40}
    assert chosen.pairs[50].cluster == sentences[50].document and chosen.pairs[50].anchor == sentences[50].id


def test_the_continuation_is_the_paper_s_unless_its_words_are_unknown(tiny):
    assert languages.known_continuation(tiny("llama").tokenizer) is CONTINUATION
    assert languages.known_continuation(organism("hub").tokenizer) is WORLD_CONTINUATION


def test_sentences_are_read_at_their_longest_in_every_language():
    sentence = Parallel("s", {"english": "the cat.", "spanish": "el gato"}, "g")
    assert languages.continued(sentence) == ["the cat. This represents", "el gato." + CONTINUATION["spanish"]]


# ---- similarity ----


def small_sets():
    animals = {"dog": "perro", "cat": "gato", "house": "casa", "book": "libro", "river": "río", "mat": "mesa"}
    found = []
    for k, (english, own) in enumerate(list(animals.items()) * 2):
        end = "" if k < 6 else " grande"
        found.append(Pair(str(k), f"veo {own}{end}", f"I see {english}{end}", f"g{k // 6}", english, english, ("veo",)))
    return [PairSet("spanish", ending, found, {"a word in common": 3}) for ending in ("continued", "full stop")]


def test_the_first_ending_of_two_languages_has_both_baselines(tiny):
    table, claims = alike.alike_sets(tiny("llama"), small_sets(), seed=2)
    assert [(c.claim, c.reading) for c in claims] == [
        ("similarity/spanish", "corrected"),
        ("similarity/spanish", "as released"),
        ("similarity/spanish, full stop", "corrected"),
    ]
    assert all(claim.dropped == {"a word in common": 3} for claim in claims)
    assert set(table[table.experiment == "baseline-gain"].ending) == {"continued"}
    few = PairSet("spanish", "continued", [Pair("1", "a", "b", "g", "1")], {"a word in common": 7})
    with pytest.raises(SemhubError, match="1 pairs are left for spanish .*7 × a word in common.*at least 4"):
        alike.alike_sets(tiny("llama"), [few])


@pytest.mark.parametrize(("name", "verdicts"), [("planted", [HOLDS]), ("islands", [NOT, WEAKLY])])
def test_a_planted_hub_is_found_and_islands_are_not(name, verdicts):
    model = organism(name)
    sentences = languages.parallel_sentences(500, seed=11)
    sets = [s for s in pair_sets(sentences, WORLD_CONTINUATION) if s.ending == "continued" and s.series == "spanish"]
    _, claims = alike.alike_sets(model, sets, seed=11)
    assert judge(claims[0]).verdict == verdicts[0], judge(claims[0]).reason
    counts = languages.word_counts(languages.running_text("english", 800, seed=4))
    lines, entries = languages.running_text("german", 150, seed=4), languages.world_dictionary("de")
    items = words.word_items(model, lines, "german", entries, counts, n_words=150, seed=4)
    _, [claim, *_] = core.run(words.Lens("english", "own"), model, items, series="german", seed=4)
    assert claim.n == 150 and claim.dropped["not in the dictionary"] > 100
    assert judge(claim).verdict in verdicts, judge(claim).reason


# ---- words of running text ----


def test_segments_are_spans_of_the_words():
    assert ["草", "的", "颜色", "是", "绿色"] == [
        "草的颜色是绿色。"[a:b] for a, b in segments("草的颜色是绿色。", "chinese")
    ]
    text = "😀 L'été: 3 niños, un perro."
    assert [text[a:b] for a, b in segments(text, "spanish")] == ["L'été", "niños", "un", "perro"]
    assert segments("。 12", "chinese") == segments("...", "german") == []


def test_without_the_segmenter_there_is_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "rjieba", None)
    assert segments("el perro", "spanish")
    with pytest.raises(SemhubError, match="rjieba is not installed; pip install rjieba"):
        segments("草", "chinese")


TEXT = "the cat sat on the mat and the dog saw the small red house near the river."
OWN = {"cat": "two", "dog": "nine", "mat": "seven", "house": "five", "river": "eight", "red": "and"}
ENTRIES = {word: Entry((english,), "noun") for word, english in OWN.items()}


def words_of(model, lines, entries=ENTRIES, **options):
    counts = languages.word_counts(["two two nine"])
    return words.word_items(model, lines, "spanish", entries, counts, n_words=99, **options)


def test_words_are_read_where_they_come_next(both):
    """The lens at the end of each prompt, and the whole text read at the position before the word's token."""
    model, oracle = both
    items = words_of(model, [TEXT])
    tokens = model.tokenizer(TEXT, return_offsets_mapping=True)
    every = (*ENTRIES, *(english for entry in ENTRIES.values() for english in entry.english))
    whole = {w for w in every if len(model.tokenizer(" " + w)["input_ids"]) == 1}
    read = [w for w in TEXT.rstrip(".").split() if w in ENTRIES and {w, *ENTRIES[w].english} <= whole]
    assert [item.targets["own"][0] for item in items] == read and 3 <= len(read) < len(ENTRIES)
    assert sum(items.dropped.values()) + len(items) == len(TEXT.split())
    _, claims = core.run(words.Lens("english", "own"), model, items, series="x", twins=())
    states, meaning, end = oracle.states(TEXT), [], []
    for item in items:
        [own], [said] = item.targets["own"], item.targets["english"]
        stop = TEXT.index(own) + len(own)
        at = next(k for k, (_, b) in enumerate(tokens["offset_mapping"]) if b == stop)
        logprob = torch.stack([oracle.normed(state[at - 1]) for state in states])
        ids = {w: one_token_forms(model.tokenizer, w, item.prompt) for w in (own, said, *item.wrong["english"])}
        word = {w: logprob[:, some].logsumexp(-1) for w, some in ids.items()}
        meaning.append((word[said] - torch.stack([word[w] for w in item.wrong["english"]]).mean(0)).numpy())
        end.append(float((word[own] - word[said])[-1]))
    np.testing.assert_allclose(claims[0].values, np.mean(meaning, 0), atol=5e-5)
    assert claims[1].values[-1] == pytest.approx(np.mean(end), abs=5e-5)
    assert claims[0].dropped == items.dropped


def test_what_is_left_out_is_counted_by_reason(tiny):
    model = tiny("llama")
    entries = {"cat": Entry(("Cat", "two"), "noun"), "dog": Entry(("homeward",), "noun"), "house": ENTRIES["house"]}
    lines = ["cat", "the cat", "the dog and", "the house", "the zyzzyva", "the cat sat " * 40]
    items = words_of(model, lines, entries)
    dropped = items.dropped
    assert [item.targets["english"] for item in items] == [("five",)]
    assert dropped["english and own are the same word"] == 1 and dropped["no English word of one token"] == 1
    assert dropped["in a text longer than the model's context"] == 1
    assert dropped["several tokens, or part of one"] >= 1, "zyzzyva, and cat where the text begins with it"
    nothing = words_of(model, ["cat"], {})
    assert not nothing and sum(nothing.dropped.values()) == 1
    assert words_of(model, [], {}) == [] and not words_of(model, [], {}).dropped
    unknown = words_of(organism("hub"), ["el perro zyzzyva"], {"zyzzyva": ENTRIES["cat"]})
    assert not unknown and unknown.dropped["unknown to the tokenizer"] == 1


def test_wrong_words_are_of_one_kind_and_as_frequent(tiny):
    counts = Counter({f"w{k}": k for k in range(30)})
    ready = [("x", f"own{k}", Entry((f"w{k}",), "noun" if k % 2 else "verb", "f")) for k in range(30)] * 2
    items = words.matched(ready, counts)
    for item in items:
        k = int(item.targets["english"][0][1:])
        assert item.group.startswith("noun" if k % 2 else "verb")
        others = [int(w[1:]) for w in item.wrong["english"]]
        low = k // 2 < 8  # of the 15 of each part, the rarer half
        assert set(others) == {j for j in range(30) if j != k and j % 2 == k % 2 and (j // 2 < 8) == low}
        assert Counter(others).most_common(1)[0][1] == 2, "as often as it was drawn"
        assert item.targets["own"][0] not in item.wrong["own"]


def test_no_word_left_is_no_part_and_no_choice(tiny):
    assert words.by_part(words.Lens("english", "own"), tiny("llama"), [], series="x")[1] == []
    assert words.choice_table(tiny("llama"), [], own="own", series="x").empty


def test_the_choice_is_that_of_the_output(both):
    model, oracle = both
    items = words_of(model, [TEXT])
    table = words.choice_table(model, items, own="own", series="x")
    assert len(table) == len(items)
    for item, value in zip(items, table.value, strict=True):
        logits = oracle.logits(oracle.ids(item.prompt))[-1]
        right, *wrong = (
            logits[one_token_forms(model.tokenizer, w, item.prompt)].logsumexp(0)
            for w in (*item.targets["own"], *item.wrong["own"])
        )
        assert value == pytest.approx(np.mean([float(right > w) for w in wrong]))


def test_parts_of_speech_are_the_same_items_apart(tiny):
    entries = {w: Entry(e.english, "verb" if w in ("red", "river", "mat") else "noun") for w, e in ENTRIES.items()}
    items = words_of(tiny("llama"), [TEXT], entries)
    table, claims = words.by_part(words.Lens("english", "own"), tiny("llama"), items, series="x", twins=())
    assert set(table.part) == {"noun", "verb"}
    whole = sum(c.n + sum(c.dropped.values()) for c in claims if c.experiment == "lens-meaning")
    assert whole == len(items)
    assert all(math.isfinite(c.values[-1]) for c in claims if c.n)


# ---- real text, and the chapter on a model that knows nothing ----


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """NTREX as it is, and the entries of one character of CC-CEDICT."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "ntrex").symlink_to(shared("ntrex") / "ntrex")
    packed = next((shared("cc-cedict") / "cc-cedict").glob("*.gz"))
    lines = gzip.decompress(packed.read_bytes()).decode().splitlines()
    (folder / "cc-cedict").mkdir()
    text = "\n".join(line for line in lines if line.startswith("#") or line.index(" ") == 1)
    (folder / "cc-cedict" / "cedict_1_0_ts_utf-8_mdbg.txt").write_text(text, "utf-8")
    return folder


@pytest.fixture(scope="module")
def knows_nothing(tmp_path_factory):
    """knows_nothing(context): a random GPT-2 whose tokenizer has common words of all four languages."""
    own = [line for name in LANGUAGES for line in languages.running_text(name, 200, seed=8)]
    own += [
        "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说产种面而方后多"
    ] * 27
    own += [" of one is in not have and people this middle big up country I he time come use life"] * 9
    tokenizer = tokenizer_of(own, 1800)
    folder = tmp_path_factory.mktemp("models")
    return cache(lambda context: str(save_gpt2(folder / str(context), tokenizer, context)))


def test_real_text_on_a_random_model(real, knows_nothing):
    model = load_model(knows_nothing(96), check=False)
    found = languages.parallel_sentences(300, seed=0, data_dir=real)
    sentences = core.readable(model, found, languages.continued)
    assert 5 < len(sentences) < 300 and len(sentences) + sentences.dropped["longer than the model's context"] == 300
    assert sentences[0].document.count(".") == 1
    lines = languages.running_text("chinese", 200, seed=0, data_dir=real)
    entries = languages.dictionary("chinese", real)
    items = words.word_items(model, lines, "chinese", entries, {}, n_words=60)
    assert len(items) > 20 and {"not in the dictionary", "several tokens, or part of one"} <= set(items.dropped)
    assert all(item.prompt + item.targets["own"][0] in "\n".join(lines) for item in items)


def test_the_chapter_runs_unchanged_on_a_model_that_knows_nothing(knows_nothing, tmp_path, request):
    """On real text where that is there."""
    given = [f"data_dir={request.getfixturevalue('real')}"] if (DATA / "ntrex").is_dir() else []
    claims, table, notebook = run("languages", knows_nothing(512), tmp_path, 200, "n_words=60", *given)
    assert {name.split("/")[0] for name in claims} == {
        "similarity", "shared-punctuation", "lens-meaning", "lens-lead", "lens-end", "patch", "patch-answer",
    }  # fmt: skip
    assert len(claims) == 19
    for name, claim in claims.items():
        if name.startswith(("lens", "patch")):
            assert claim["verdict"] in (UNTESTABLE, NOT), (name, claim["reason"])
        elif name.startswith("similarity"):
            assert claim["verdict"] != HOLDS, (name, claim["reason"])
        assert claim["reason"].endswith(".") and "nan" not in claim["reason"].lower()
    check_table(table, {"similarity", "retrieval", "neighbours", "cka", "cosine", "baseline-gain", "punctuation-trap"})
    check_notebook(notebook)
    printed = "".join(some.get("text", "") for cell in notebook.cells for some in cell.get("outputs", ()))
    assert ("chinese: Left out: " in printed) == bool(given)

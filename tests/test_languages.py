"""Languages against plain transformers one text at a time, on the planted models, and on texts that are not right."""

import gzip
import math
import sys
from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from oracle import one_token_forms
from planted import organism
from shared_data import shared
from test_chapters import run, save_gpt2, tokenizer_of
from test_project import pages
from test_texts import SIDES, ntrex

from semhub_utils.errors import SemhubError
from semhub_utils.evidence import corrected_p
from semhub_utils.experiments import alike, core, words
from semhub_utils.experiments.numbers import Kept, Scores
from semhub_utils.loading import load_model
from semhub_utils.pairings import codes
from semhub_utils.similarity import same_group
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
from semhub_utils.verdicts import EXPLAINED, HOLDS, INCONCLUSIVE, NOT, UNTESTABLE, judge

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
    assert "its scenes stand behind *man sagt, dass*" in " ".join(told.split())
    for scene in languages.parallel_sentences(200, seed=3):
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


def lengthening(document):
    """Two sentences of each length from 1 to 100; document: of a length, "" where none is known."""
    return [
        Parallel(f"{n}, {k}", {"english": "a " * n, "spanish": "y " * n}, "ntrex", document=document(n))
        for n in range(1, 101)
        for k in range(2)
    ]


def test_real_sentences_are_grouped_by_length_where_documents_are_not_known():
    sentences = lengthening(lambda n: "")
    [chosen] = [s for s in pair_sets(sentences) if s.ending == "continued"]
    groups = [pair.group for pair in chosen.pairs]
    assert len(set(groups)) == languages.BINS and set(Counter(groups).values()) == {40}
    assert chosen.pairs[50].cluster == chosen.pairs[50].anchor == sentences[50].id


def test_real_sentences_are_grouped_by_halves_of_their_documents():
    """What is spoken of is the document's, and only within one are sentences told apart by what they say."""
    sentences = lengthening(lambda n: f"d{n // 9}")
    [chosen] = [s for s in pair_sets(sentences[::-1]) if s.ending == "continued"]
    for pair in chosen.pairs:
        n, document = int(pair.id.partition(",")[0]), pair.cluster
        own = [m for m in range(1, 101) if f"d{m // 9}" == document]
        assert (
            document == f"d{n // 9}" and pair.anchor == pair.id and pair.group.startswith(f"ntrex, length {document}")
        )
        if n != own[len(own) // 2]:  # the two of the length in the middle may part
            assert pair.group.endswith("longer" if own.index(n) > len(own) / 2 - 0.5 else "shorter")
    halves = Counter(pair.group for pair in chosen.pairs)
    assert len(halves) == 24 and all(size in (8, 9, 2) for size in halves.values()), halves


def test_whole_documents_are_drawn(tmp_path):
    """So that a sentence has others of its own document to be told from; the last one drawn may be cut."""
    ntrex(tmp_path, **{side: "".join(f"{side} {k}\n" for k in range(60)) for side in SIDES})
    (tmp_path / "DOCUMENT_IDS.tsv").write_text("".join(f"doc{k // 6}\n" for k in range(60)))
    drawn = [languages.parallel_sentences(20, seed=seed, data_dir=tmp_path) for seed in (0, 0, 1)]
    assert [s.id for s in drawn[0]] == [s.id for s in drawn[1]] != [s.id for s in drawn[2]]
    for some in drawn:
        sizes = Counter(s.document for s in some)
        assert sorted(sizes.values()) == [2, 6, 6, 6] and some[-1].document == min(sizes, key=sizes.get)
    (tmp_path / "DOCUMENT_IDS.tsv").unlink()
    assert len({s.id for s in languages.parallel_sentences(20, seed=0, data_dir=tmp_path)}) == 20


def documents_apart(pairs, shared, size, seed, n=24):
    """States of two sides: each side has its document's part, `size` times as large as the sentence's own; the same if
    `shared`."""
    make, of = torch.Generator().manual_seed(seed), codes([int(pair.id) // 8 for pair in pairs])
    documents = [torch.randn(of.max() + 1, 1, n, generator=make) for _ in "ab"]
    a, b = (
        size * d[of] + torch.randn(len(pairs), 1, n, generator=make) for d in documents[: 2 - shared] * (1 + shared)
    )
    own = same_group([pair.group for pair in pairs])
    return [Scores(measure) for measure in alike.Alike()._compared(a, b, own)]


def alarms(known, shared, worlds):
    """How often p is below .05, by reading and null, and by all nulls of a reading, where no sentence has anything of
    its partner's; known: the documents."""
    sentences = [
        Parallel(str(k), {"english": "a " * (k % 7 + 1), "spanish": "y " * (k % 5 + 1)}, "ntrex",
                 document=f"d{k // 8}" if known else "")
        for k in range(160)
    ]  # fmt: skip
    [chosen] = [s for s in pair_sets(sentences) if s.ending == "continued"]
    kept, found = Kept(chosen.pairs), Counter()
    for seed in range(worlds):
        sides = documents_apart(chosen.pairs, shared, 1.0 if known else 2.0, seed)
        for claim, scores in zip(alike.Alike().claims, sides, strict=True):
            given = (kept, scores, "", np.eye(1), 0, 199, 1000 * seed)
            by_null = [[corrected_p(scores.values.own.mean(0), some)[0] for some in null.draws(*given)]
                       for null in claim.nulls]  # fmt: skip
            found[claim.of] += max(p for of in by_null for p in of) < 0.05
            if by_null[1:] and by_null[1]:
                found[f"{claim.of}, documents"] += by_null[1][0] < 0.05
    return {name: count / worlds for name, count in found.items()}


@pytest.mark.parametrize("shared", [False, True], ids=["unlike topics", "one topic"])
def test_a_document_is_no_meaning_of_its_sentences(shared):
    """Of unlike topics on the two sides, and of one that both have: size at most .06 at .05. Where documents are not
    known, sentences change places across them, and a topic is taken for a meaning."""
    size = alarms(True, shared, 1000)
    alone = size.pop(f"{alike.RELEASED}, documents")  # of a topic that both have it knows nothing
    assert f"{alike.NEAREST}, documents" in size and max(size.values()) <= 0.06, size
    assert shared or alone <= 0.06
    blind = alarms(False, shared, 40)
    assert f"{alike.NEAREST}, documents" not in blind, "without documents there is no such null"
    assert blind[alike.CORRECTED] > (0.9 if shared else 0.1), blind


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


def test_every_set_has_all_readings_and_the_later_ones_fewer_random_weights(tiny):
    table, claims = alike.alike_sets(tiny("llama"), small_sets(), seed=2)
    readings = (alike.NEAREST, alike.CORRECTED, alike.RELEASED)
    names = ("similarity/spanish", "similarity/spanish, full stop")
    assert [(c.claim, c.reading) for c in claims] == [(name, reading) for name in names for reading in readings]
    assert [c.controls["random weights"].seeds for c in claims] == [core.TWINS] * 3 + [1] * 3
    assert all(claim.dropped == {"a word in common": 3} for claim in claims)
    assert set(table[table.experiment == "baseline-gain"].ending) == {"continued", "full stop"}
    measured = table[(table.experiment == "calibrated") & table.control.isna()]
    assert len(measured) == 2 * 4 * 2 == len(measured.drop_duplicates(["series", "ending", "measure", "layer"]))
    few = PairSet("spanish", "continued", [Pair("1", "a", "b", "g", "1")], {"a word in common": 7})
    with pytest.raises(SemhubError, match="1 pairs are left for spanish .*7 × a word in common.*at least 4"):
        alike.alike_sets(tiny("llama"), [few])


@pytest.mark.parametrize(("name", "verdicts"), [("planted", [HOLDS]), ("islands", [NOT, INCONCLUSIVE])])
def test_a_planted_hub_is_found_and_islands_are_not(name, verdicts):
    """Of sentences nothing but the bag of their words is as alike where the hub was planted: words have the rows of
    their English counterparts there."""
    model = organism(name)
    sentences = languages.parallel_sentences(500, seed=11)
    sets = [s for s in pair_sets(sentences, WORLD_CONTINUATION) if s.ending == "continued" and s.series == "spanish"]
    _, [claim, *_] = alike.alike_sets(model, sets, seed=11)
    if name == "planted":
        assert (judge(claim).verdict, judge(claim).by) == (EXPLAINED, alike.OVERLAP)
        claim = replace(claim, controls={of: c for of, c in claim.controls.items() if of != alike.OVERLAP})
    assert judge(claim).verdict in verdicts, judge(claim).reason
    counts = languages.word_counts(languages.running_text("english", 800, seed=4))
    lines, entries = languages.running_text("german", 150, seed=4), languages.world_dictionary("de")
    items = words.word_items(model, lines, "german", entries, counts, n_words=150, seed=4)
    _, [claim, *_] = core.run(words.Lens("english", "own"), model, items, series="german", seed=4)
    assert claim.n == 150 and claim.dropped["not in the dictionary"] > 100
    if name == "planted":  # what it says of a word is in the word's row, and so at the end too
        assert (judge(claim).verdict, judge(claim).by) == (EXPLAINED, "last layer") and max(claim.low) > 1
    else:
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


def test_the_chapter_runs_unchanged_on_a_model_that_knows_nothing(knows_nothing, tmp_path):
    measured = {"similarity", "retrieval", "neighbours", "cka", "cosine", "baseline-gain", "punctuation-trap"}
    given = ("n_words=60", "items=auto")
    claims, _, page = run("languages", knows_nothing(512), tmp_path, 200, *given, measured=measured)
    assert {claim["items"].replace("a sample of ", "") for claim in claims.values()} == {
        "NTREX-128", "CC-CEDICT, NTREX-128", "CLDR", "CLDR, NTREX-128, the book's lexicon and concepts",
    }  # fmt: skip
    assert {name.split("/")[0] for name in claims} == {
        "similarity", "shared-punctuation", "lens-meaning", "lens-lead", "lens-end", "patch", "patch-answer",
    }  # fmt: skip
    assert len(claims) == 25
    for name, claim in claims.items():
        if name.startswith(("lens", "patch")):
            assert claim["verdict"] in (UNTESTABLE, NOT), (name, claim["reason"])
        elif name.startswith("similarity"):
            assert claim["verdict"] != HOLDS, (name, claim["reason"])
    assert "chinese: Left out: " in page

"""Running text and sentences of one meaning: generated, from NTREX's own files, and from files that are not right; and
the samples that ship."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from shared_data import shared

from semhub_utils.errors import SemhubError
from semhub_utils.spokes import languages, semantics
from semhub_utils.spokes.code import programs
from semhub_utils.spokes.files import SAMPLES, TOO_LONG, table
from semhub_utils.spokes.items import Items
from semhub_utils.spokes.languages import LANGUAGES, parallel_sentences, running_text


def test_generated_sentences_say_one_thing_in_every_language():
    sentences = parallel_sentences(50, seed=3)
    assert not sentences.dropped and len({s.id for s in sentences}) == 50
    for sentence in sentences:
        assert set(sentence.texts) == set(LANGUAGES)
        names = [word for word in sentence.words if word.istitle()]
        assert all(name in text for name in names for text in sentence.texts.values())
    assert parallel_sentences(50, seed=3) == sentences != parallel_sentences(50, seed=4)


@pytest.mark.parametrize("language", LANGUAGES)
def test_running_text_is_drawn_by_the_seed(language):
    lines = running_text(language, 20, seed=0)
    assert len(lines) == 20 and lines == running_text(language, 20, seed=0) != running_text(language, 20, seed=1)
    with pytest.raises(SemhubError, match="no language 'klingon'"):
        running_text("klingon", 3, seed=0)


SIDES = ("src.eng", "ref.spa", "ref.zho-CN", "ref.deu")


def ntrex(folder, **sides):
    (folder / "NTREX-128").mkdir()
    sides = dict.fromkeys(SIDES, sides["src.eng"]) | sides
    for name, text in sides.items():
        (folder / "NTREX-128" / f"newstest2019-{name}.txt").write_bytes(text.encode())
    return folder


def test_lines_that_are_empty_in_one_language_are_skipped_and_counted(tmp_path):
    folder = ntrex(tmp_path, **{"src.eng": "\ufeffone\r\ntwo\r\nthree\r\n", "ref.spa": "uno\n\ntres\n"})
    sentences = parallel_sentences(9, seed=0, data_dir=folder)
    assert [(s.texts["english"], s.texts["spanish"]) for s in sentences] == [("one", "uno"), ("three", "tres")]
    assert sentences.dropped == {"empty line": 1} and "ntrex:2" in sentences.left_out
    assert running_text("spanish", 9, seed=0, data_dir=folder) == ["uno", "tres"]


def test_ntrex_itself():
    sentences = parallel_sentences(10_000, seed=0, data_dir=shared("ntrex"))
    [first] = [sentence for sentence in sentences if sentence.id == "ntrex:1"]
    assert len(sentences) == 1997 and first.texts["english"].startswith("Welsh AMs")
    few = [sentence.document for sentence in parallel_sentences(800, seed=0, data_dir=shared("ntrex"))]
    whole, drawn = Counter(sentence.document for sentence in sentences), Counter(few)
    cut = [document for document in drawn if drawn[document] < whole[document]]
    assert len(few) == 800 and len(cut) <= 1, "documents are drawn whole"


def test_the_samples_that_ship_are_whole_and_of_many_documents():
    sentences = parallel_sentences(999, seed=0, data_dir=SAMPLES)
    assert len(sentences) == 252 and not sentences.dropped and sentences.source == "a sample of NTREX-128"
    assert [*sentences[0].texts] == languages.spoken(SAMPLES) == ["english", "spanish", "chinese", "german", "french"]
    assert set(Counter(s.document for s in sentences).values()) == {3}
    for some in languages.pair_sets(sentences):
        units = Counter(pair.cluster for pair in some.pairs)
        assert sum(n > 1 for n in units.values()) >= 60 or some.series == "spanish-french", (some.series, some.ending)
    spread = parallel_sentences(84, seed=1, data_dir=SAMPLES, spread=True)
    assert len({s.document for s in spread}) == 84 > len({s.document for s in sentences[:84]})
    assert len(programs(999, seed=0, data_dir=SAMPLES)) == len(semantics.meanings(seed=0, data_dir=SAMPLES)) == 300
    rows = languages.names()
    assert {row["kind"] for row in rows} == {"country", "language", "month", "day"}
    mexico = next(row for row in rows if row["english"] == "Mexico")
    spoken = next(row for row in rows if (row["kind"], row["key"]) == ("language", mexico["next"]))
    assert (mexico["spanish"], spoken["german"], spoken["french"]) == ("México", "Spanisch", "espagnol")


@pytest.mark.parametrize("of", ["pairs", "swaps", "roles", "patches"])
def test_the_sample_of_forms_has_sixty_units_of_each_kind(of):
    known = semantics.meanings(seed=0, data_dir=SAMPLES)
    made = {
        "pairs": lambda: semantics.similarity_pairs(known, 300, seed=0),
        "swaps": lambda: semantics.swap_items(known, 300, seed=0),
        "roles": lambda: semantics.role_items(known, 300, seed=0),
        "patches": lambda: semantics.forms(known, 150, seed=0, taught=False)[0].of,
    }[of]()
    assert len({item.cluster for item in made}) >= 60


def test_the_samples_are_made_again_from_what_is_published(tmp_path):
    pytest.importorskip("babel")
    import make_samples

    make_samples.main(shared("ntrex"), tmp_path)
    for path in filter(Path.is_file, tmp_path.rglob("*")):
        assert path.read_bytes() == (SAMPLES / path.relative_to(tmp_path)).read_bytes(), path.name


def test_every_sample_has_its_licence():
    kept = {"ntrex": "Attribution-ShareAlike 4.0", "cc-cedict": "Attribution-ShareAlike 4.0", "mbpp": "Attribution 4.0"}
    kept |= {"cogs": "MIT License", "cldr": "UNICODE LICENSE V3"}
    told = (SAMPLES / "README.md").read_text("utf-8")
    assert {path.name for path in SAMPLES.iterdir() if path.is_dir()} == {*kept}
    for name, said in kept.items():
        [licence] = (SAMPLES / name).glob("LICENSE*")
        assert said in licence.read_text("utf-8") and f"| `{name}` |" in told
    assert sum(path.stat().st_size for path in SAMPLES.rglob("*") if path.is_file()) < 2**20


def test_lines_end_at_a_line_feed_alone(tmp_path):
    odd = {"src.eng": "one\u2028more\ntwo\x85\nthree\n", "ref.spa": "uno\ndos\ntres\n"}
    sentences = parallel_sentences(9, seed=0, data_dir=ntrex(tmp_path, **odd))
    assert sorted((s.id, s.texts["english"], s.texts["spanish"]) for s in sentences) == [
        ("ntrex:1", "one\u2028more", "uno"), ("ntrex:2", "two", "dos"), ("ntrex:3", "three", "tres"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "read", "lost"),
    [
        ('text,label\n"one,pos\ntwo,neg\n', ["two"], {"a quote that is not closed": 1}),
        ('text,label\n"one,pos\n"two",neg\nthree,pos\n', ["two", "three"], {"a quote that is not closed": 1}),
        ('text,label\n"one\nmore",pos\ntwo,neg\n', ["one\nmore", "two"], {}),
        ("text,label\none\u2028more,pos\n\ntwo\n", ["one\u2028more"], {"row of another length": 1}),
        ("text,label\n" + "x" * 200_000 + ",pos\ntwo,neg\n", ["two"], {TOO_LONG: 1}),
    ],
    ids=["to the end", "to the next quote", "closed", "separators", "a long field"],
)
def test_a_quote_costs_its_own_line_alone(tmp_path, text, read, lost):
    (tmp_path / "a.csv").write_text(text, "utf-8")
    found = Items()
    assert [row["text"] for _, row in table(tmp_path / "a.csv", found, ["text"])] == read and found.dropped == lost


def test_texts_load_nothing_that_reads_pictures_or_sounds():
    names = ", ".join(f"semhub_utils.spokes.{name}" for name in ("arithmetic", "languages", "code", "semantics"))
    script = f"import sys, {names}\nprint(*{{'PIL', 'soundfile'}} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""

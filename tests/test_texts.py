"""Running text and sentences of one meaning: generated, from NTREX's own files, and from files that are not right."""

import sys
import types

import pytest
from shared_data import shared

from semhub_utils.errors import SemhubError
from semhub_utils.spokes import files, semantics
from semhub_utils.spokes.languages import LANGUAGES, parallel_sentences, running_text


def test_generated_sentences_say_one_thing_in_every_language():
    sentences, skipped = parallel_sentences(50, seed=3)
    assert not skipped.counts and len({s.id for s in sentences}) == 50
    for sentence in sentences:
        assert set(sentence.texts) == set(LANGUAGES)
        names = [word for word in sentence.words if word.istitle()]
        assert all(name in text for name in names for text in sentence.texts.values())
    assert parallel_sentences(50, seed=3)[0] == sentences != parallel_sentences(50, seed=4)[0]


@pytest.mark.parametrize("language", LANGUAGES)
def test_running_text_is_drawn_by_the_seed(language):
    lines, _ = running_text(language, 20, seed=0)
    assert len(lines) == 20 and lines == running_text(language, 20, seed=0)[0] != running_text(language, 20, seed=1)[0]


def ntrex(folder, **sides):
    (folder / "NTREX-128").mkdir()
    for name, text in sides.items():
        (folder / "NTREX-128" / f"newstest2019-{name}.txt").write_bytes(text.encode())
    return folder


def test_lines_that_are_empty_in_one_language_are_skipped_and_counted(tmp_path):
    folder = ntrex(tmp_path, **{"src.eng": "\ufeffone\r\ntwo\r\nthree\r\n", "ref.spa": "uno\n\ntres\n"})
    sentences, skipped = parallel_sentences(9, seed=0, languages=("english", "spanish"), data_dir=folder)
    assert [s.texts for s in sentences] == [
        {"english": "one", "spanish": "uno"},
        {"english": "three", "spanish": "tres"},
    ]
    assert skipped.counts == {"empty line": 1} and "ntrex:2" in str(skipped)
    assert running_text("spanish", 9, seed=0, data_dir=folder)[0] == ["uno", "tres"]


def test_bad_files_are_refused_in_a_sentence(tmp_path):
    with pytest.raises(SemhubError, match="NTREX-128.*GitHub"):
        running_text("english", 3, seed=0, data_dir=tmp_path)
    folder = ntrex(tmp_path, **{"src.eng": "one\ntwo\n", "ref.spa": "uno\n", "ref.deu": "\n\n"})
    with pytest.raises(SemhubError, match="differ in length"):
        parallel_sentences(3, seed=0, languages=("english", "spanish"), data_dir=folder)
    with pytest.raises(SemhubError, match="no text that can be used.*empty line"):
        running_text("german", 3, seed=0, data_dir=folder)
    (folder / "NTREX-128" / "newstest2019-ref.spa.txt").write_bytes("ñ".encode("latin-1"))
    with pytest.raises(SemhubError, match="not UTF-8"):
        running_text("spanish", 3, seed=0, data_dir=folder)
    with pytest.raises(SemhubError, match="no language 'klingon'"):
        running_text("klingon", 3, seed=0)


def test_ntrex_itself():
    sentences, _ = parallel_sentences(10_000, seed=0, data_dir=shared("ntrex"))
    assert len(sentences) == 1997 and sentences[0].texts["english"].startswith("Welsh AMs")


NEWS = {"eng_Latn": ["one", "two", None], "spa_Latn": ["uno", " ", "tres"], "deu_Latn": ["eins", "zwei", "drei"]}


def test_ntrex_over_the_network_is_asked_for_by_name_commit_and_language(monkeypatch):
    asked = []

    def load_dataset(name, config=None, *, revision, split):
        asked.append((name, config, revision, split))
        return iter([{"text": line} for line in NEWS[config]])

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    given = {"seed": 0, "source": "ntrex"}
    sentences, skipped = parallel_sentences(9, languages=("english", "spanish"), **given)
    assert [s.texts for s in sentences] == [{"english": "one", "spanish": "uno"}] and sentences[0].id == "ntrex:1"
    assert skipped.counts == {"empty line": 2} and sentences[0].document == ""
    assert running_text("german", 2, **given)[0] == running_text("german", 2, **given)[0]
    name, revision = files.SETS["ntrex"]
    assert asked == [(name, config, revision, "test") for config in (*list(NEWS)[:2], "deu_Latn", "deu_Latn")]
    with pytest.raises(SemhubError, match="davidstap/NTREX holds no sentences that can be used. Left out: 3 × empty"):
        monkeypatch.setitem(NEWS, "spa_Latn", ["", "", ""])
        parallel_sentences(9, languages=("english", "spanish"), **given)


def test_where_sentences_come_from_is_a_parameter(tmp_path):
    with pytest.raises(SemhubError, match="sentences is 'gale'; one of generated, ntrex would do"):
        running_text("english", 3, seed=0, source="gale")
    made = running_text("english", 3, seed=0)[0]
    assert running_text("english", 3, seed=0, source="generated", data_dir=tmp_path)[0] == made


COGS = "Emma saw Liam .\tsee . agent ( x _ 1 , Emma ) AND see . theme ( x _ 1 , Liam )\tin_distribution"


def test_cogs_over_the_network_is_asked_for_by_name_and_commit(monkeypatch):
    asked = []

    def load_dataset(name, config=None, *, revision, split):
        asked.append((name, config, revision, split))
        sentence, form, domain = COGS.split("\t")
        return iter([{"input": sentence, "output": form, "domain": domain}, {"input": "x", "output": None}])

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    [meaning], skipped = semantics.meanings(seed=0, source="cogs")
    name, revision = files.SETS["cogs"]
    assert asked == [(name, None, revision, "train")] and meaning.id == f"{name}:1"
    assert meaning.sentence == "Emma saw Liam ." and skipped.counts == {"a word and no sentence": 1}
    with pytest.raises(SemhubError, match="sentences is 'gale'; one of generated, cogs would do"):
        semantics.meanings(seed=0, source="gale")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(SemhubError, match="package datasets, which is not installed.*data_dir"):
        semantics.meanings(seed=0, source="cogs")

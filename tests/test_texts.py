"""Running text and sentences of one meaning: generated, from NTREX's own files, and from files that are not right; and
sets over the network."""

import subprocess
import sys
import types
from collections import Counter

import pytest
from shared_data import shared

from semhub_utils.errors import SemhubError
from semhub_utils.spokes import languages, semantics
from semhub_utils.spokes.code import MBPP, programs
from semhub_utils.spokes.languages import LANGUAGES, parallel_sentences, running_text
from semhub_utils.spokes.semantics import COGS


def test_generated_sentences_say_one_thing_in_every_language():
    sentences = parallel_sentences(50, seed=3)
    assert not sentences.dropped and len({s.id for s in sentences}) == 50
    for sentence in sentences:
        assert set(sentence.texts) == set(LANGUAGES)
        names = [word for word in sentence.words if word.istitle()]
        assert all(name in text for name in names for text in sentence.texts.values())
    assert parallel_sentences(50, seed=3) == sentences != parallel_sentences(50, seed=4)


@pytest.mark.parametrize("language", LANGUAGES)
def test_running_text_is_drawn_by_the_seed(language, tmp_path):
    lines = running_text(language, 20, seed=0)
    assert lines == running_text(language, 20, seed=0, source="generated", data_dir=tmp_path)
    assert len(lines) == 20 and lines == running_text(language, 20, seed=0) != running_text(language, 20, seed=1)


def ntrex(folder, **sides):
    (folder / "NTREX-128").mkdir()
    sides = dict.fromkeys(("ref.spa", "ref.zho-CN", "ref.deu"), sides["src.eng"]) | sides
    for name, text in sides.items():
        (folder / "NTREX-128" / f"newstest2019-{name}.txt").write_bytes(text.encode())
    return folder


def test_lines_that_are_empty_in_one_language_are_skipped_and_counted(tmp_path):
    folder = ntrex(tmp_path, **{"src.eng": "\ufeffone\r\ntwo\r\nthree\r\n", "ref.spa": "uno\n\ntres\n"})
    sentences = parallel_sentences(9, seed=0, data_dir=folder)
    assert [(s.texts["english"], s.texts["spanish"]) for s in sentences] == [("one", "uno"), ("three", "tres")]
    assert sentences.dropped == {"empty line": 1} and "ntrex:2" in sentences.left_out
    assert running_text("spanish", 9, seed=0, data_dir=folder) == ["uno", "tres"]


def test_bad_files_are_refused_in_a_sentence(tmp_path):
    with pytest.raises(SemhubError, match="NTREX-128.*GitHub"):
        running_text("english", 3, seed=0, data_dir=tmp_path)
    folder = ntrex(tmp_path, **{"src.eng": "one\ntwo\n", "ref.spa": "uno\n", "ref.deu": "\n\n"})
    with pytest.raises(SemhubError, match="differ in length"):
        parallel_sentences(3, seed=0, data_dir=folder)
    with pytest.raises(SemhubError, match="no text that can be used.*empty line"):
        running_text("german", 3, seed=0, data_dir=folder)
    (folder / "NTREX-128" / "newstest2019-ref.spa.txt").write_bytes("ñ".encode("latin-1"))
    with pytest.raises(SemhubError, match="not UTF-8"):
        running_text("spanish", 3, seed=0, data_dir=folder)
    with pytest.raises(SemhubError, match="no language 'klingon'"):
        running_text("klingon", 3, seed=0)


def test_ntrex_itself():
    sentences = parallel_sentences(10_000, seed=0, data_dir=shared("ntrex"))
    [first] = [sentence for sentence in sentences if sentence.id == "ntrex:1"]
    assert len(sentences) == 1997 and first.texts["english"].startswith("Welsh AMs")
    few = [sentence.document for sentence in parallel_sentences(800, seed=0, data_dir=shared("ntrex"))]
    whole, drawn = Counter(sentence.document for sentence in sentences), Counter(few)
    cut = [document for document in drawn if drawn[document] < whole[document]]
    assert len(few) == 800 and len(cut) <= 1, "documents are drawn whole"


NEWS = {"eng_Latn": ["one", "two", None], "spa_Latn": ["uno", " ", "tres"]}
NEWS |= {"zho_Hans": ["一", "二", "三"], "deu_Latn": ["eins", "zwei", "drei"]}
FORM = "see . agent ( x _ 1 , Emma ) AND see . theme ( x _ 1 , Liam )"


@pytest.fixture
def hub(monkeypatch):
    """What was asked of the hub: its rows are those of the three sets, as far as tests need them."""
    asked = []

    def load_dataset(name, config=None, *, revision, split):
        asked.append((name, config, revision, split))
        if name == MBPP.repository:
            return iter([{"task_id": len(asked), "code": f"x = [{len(asked)}, 2]"}])
        if name == COGS.repository:
            return iter([{"input": "Emma saw Liam .", "output": FORM, "domain": "x"}, {"input": "x", "output": None}])
        return iter([{"text": line} for line in NEWS[config]])

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    return asked


def test_sets_over_the_network_are_asked_for_by_name_commit_and_language(hub, monkeypatch):
    given, sets = {"seed": 0, "source": "ntrex"}, languages.NTREX
    [sentence] = sentences = parallel_sentences(9, **given)
    assert list(sentence.texts.values()) == ["one", "uno", "一", "eins"] and sentence.id == "ntrex:1"
    assert sentences.dropped == {"empty line": 2} and sentence.document == ""
    assert running_text("german", 2, **given) == running_text("german", 2, **given)
    [meaning] = found = semantics.meanings(seed=0, source="cogs")
    assert meaning.sentence == "Emma saw Liam ." and found.dropped == {"a word and no sentence": 1}
    assert [p.text for p in programs(9, seed=0, source="mbpp")] == [f"x = [{k}, 2]" for k in (8, 9, 10, 11)]
    read = [*sets.values(), sets["german"], sets["german"], COGS, MBPP]
    assert hub == [(of.repository, of.config, of.revision, split) for of in read for split in of.splits]
    for of, source in ((COGS, found.source), (sets["english"], sentences.source)):
        assert source == f"{of.repository}@{of.revision[:7]}" and len(of.revision) == 40 and int(of.revision, 16)
    with pytest.raises(SemhubError, match="davidstap/NTREX holds no sentences that can be used. Left out: 3 × empty"):
        monkeypatch.setitem(NEWS, "spa_Latn", ["", "", ""])
        parallel_sentences(9, **given)


def test_no_network_or_no_package_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(SemhubError, match="package datasets, which is not installed.*data_dir"):
        semantics.meanings(seed=0, source="cogs")

    def load_dataset(*_, **__):
        raise ConnectionError("no route")

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(
        SemhubError, match=r"mbpp \(full, train, 4bb6404\) cannot be had from the hub \(ConnectionError"
    ):
        programs(1, seed=0, source="mbpp")


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (lambda name: running_text("english", 3, seed=0, source=name), "sentences is 'gale'; one of generated, ntrex"),
        (lambda name: semantics.meanings(seed=0, source=name), "sentences is 'gale'; one of generated, cogs would do"),
        (lambda name: programs(3, seed=0, source=name), "programs is 'gale'; one of generated, mbpp, stdlib would do"),
    ],
)
def test_where_items_come_from_is_a_parameter(read, said):
    with pytest.raises(SemhubError, match=said):
        read("gale")
    assert read("generated")


def test_texts_load_nothing_that_reads_pictures_or_sounds():
    names = ", ".join(f"semhub_utils.spokes.{name}" for name in ("arithmetic", "languages", "code", "semantics"))
    script = f"import sys, {names}\nprint(*{{'PIL', 'soundfile'}} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""

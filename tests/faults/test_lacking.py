"""A data folder that lacks a set, a language or enough of one: what needs it is left out, and the chapter goes on."""

import json
import re

import nbformat
import pytest
from architectures import make_module, make_tokenizer
from PIL import Image
from test_campaign import here, loaded

from semhub_utils import book, chapter, cli
from semhub_utils.book import find_book
from semhub_utils.chapter import Chapter
from semhub_utils.errors import SemhubError
from semhub_utils.experiments import alike, core
from semhub_utils.results import Run
from semhub_utils.spokes import audio, code, files, languages, mixed, natural, semantics, sentiment, vision
from semhub_utils.spokes.items import Items, Pair, each_or_none
from semhub_utils.verdicts import judge

SIDES = {"english": "src.eng", "spanish": "ref.spa", "chinese": "ref.zho-CN", "german": "ref.deu", "french": "ref.fra"}


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def ntrex(folder, **texts):
    for name, rows in texts.items():
        write(folder / f"ntrex/NTREX-128/newstest2019-{SIDES[name]}.txt", "\n".join(rows) + "\n")
    return folder


def coco(folder, *kinds):
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 40, "height": 40} for n in (1, 2)]
    part = {"category_id": 1, "segmentation": [[2, 2, 30, 2, 30, 30, 2, 30]]}
    notes = {
        "captions": [{"image_id": n, "caption": f"a red box {n}"} for n in (1, 2)],
        "instances": [{"id": n, "image_id": n} | part for n in (1, 2)],
    }
    for kind in kinds:
        of = {"images": images, "annotations": notes[kind], "categories": [{"id": 1, "name": "box"}]}
        write(folder / f"coco/annotations/{kind}_val2017.json", json.dumps(of))
    (folder / "coco/val2017").mkdir()
    for image in images:
        Image.new("RGB", (40, 40), "red").save(folder / "coco/val2017" / image["file_name"])
    return folder


def test_what_is_refused_is_no_item_and_says_why():
    def refused():
        raise SemhubError("/a b/c/data has no x.txt; another folder would do. Left out: 3.")

    some, none = each_or_none(lambda: Items([1]), refused)
    assert some == [1] and none == [] and none.dropped == {"data has no x.txt; another folder would do": 1}
    assert each_or_none(refused, least=0) == [[]]
    with pytest.raises(SemhubError, match="/a b/c/data has no x.txt"):
        each_or_none(refused, refused)


def test_languages_that_are_missing_or_blank_are_left_out(tmp_path):
    folder = ntrex(tmp_path, english=["one", "two"], chinese=["一", "二"], german=[" ", ""], french=["un", "deux"])
    found = languages.parallel_sentences(9, seed=0, data_dir=folder)
    assert [*found[0].texts] == ["english", "chinese", "french"] and len(found) == 2
    assert found.dropped == {"language without a file or a line": 2} and "spanish" in found.left_out
    assert natural.of_a_language(9, seed=0, data_dir=folder, ending="continued")[0] == "chinese"
    ntrex(folder, chinese=["one", "two"], french=["One.", "Two."])
    with pytest.raises(SemhubError, match="no sentence without a word in common with the English one; NTREX's would"):
        natural.of_a_language(9, seed=0, data_dir=folder, ending="continued")
    ntrex(folder, chinese=["", ""], french=["", ""])
    with pytest.raises(SemhubError, match="no other language whose lines go with the English ones"):
        languages.parallel_sentences(9, seed=0, data_dir=folder)


def test_languages_of_another_number_of_lines_are_left_out(tmp_path):
    """No line of them is known to go with one of English; empty lines at the end are none."""
    rows = {
        "english": ["one", "two", ""],
        "chinese": ["一", "二"],
        "german": ["eins"],
        "spanish": ["uno", "dos", "tres"],
    }
    folder = ntrex(tmp_path, **rows)
    found = languages.parallel_sentences(9, seed=0, data_dir=folder)
    assert [*found[0].texts] == ["english", "spanish", "chinese"] and len(found) == 2
    assert found.dropped == {"language of another number of lines than English": 1}
    assert "german, 1 for 3" in found.left_out
    (folder / f"ntrex/NTREX-128/newstest2019-{SIDES['french']}.txt").write_bytes(b"\xff\xfe")
    found = languages.parallel_sentences(9, seed=0, data_dir=folder)
    assert "french: newstest2019-ref.fra.txt is not UTF-8" in found.left_out and len(found[0].texts) == 3
    ntrex(folder, spanish=["uno"], chinese=["一"])
    with pytest.raises(
        SemhubError, match="no other language whose lines go with the English ones; .* spanish, 1 for 3"
    ):
        languages.parallel_sentences(9, seed=0, data_dir=folder)


@pytest.mark.parametrize("kept", [("english", "german"), ("english",), ()])
def test_random_weights_of_chapter_four_need_no_spanish(own, tmp_path, kept):
    """Another language will do; of a folder without any it is said that it was not asked."""
    ntrex(tmp_path, **{name: [f"{WORDS[name]} {name}{k}." for k in range(40)] for name in kept})
    parameters = {"items": "natural", "n_items": 8, "seed": 0, "data_dir": str(tmp_path)}
    run, told = Run("fooled", own("llama"), parameters, tmp_path), {}
    cells = nbformat.read(find_book() / "notebooks/04_fooled.ipynb", 4).cells
    sources = [cell.source for cell in cells if cell.cell_type == "code"]
    lines = [line for source in sources for line in source.split("\n") if line.startswith("from ")]
    exec("\n".join(lines), names := {"chapter": Chapter(run, run.model), "n_items": 8, "seed": 0})
    names["glue"] = lambda name, value: told.update({name: value})
    for source in sources:
        if "blank" in source:
            exec(source, names)
    assert told["blank_of"] == ("German" if len(kept) > 1 else "no language")
    assert told["blank"].startswith("The twin is" if len(kept) > 1 else "This was not asked. Left out: 1 × ")


def test_a_dictionary_that_is_missing_is_empty_and_says_why(tmp_path):
    found = languages.dictionaries(["chinese", "german"], tmp_path)
    assert not found["chinese"] and "has no cc-cedict" in found["chinese"].read.left_out and len(found["german"]) > 99
    assert str(tmp_path) not in found["chinese"].read.left_out


def test_too_few_to_be_compared_cannot_be_tested(own):
    model, pairs = own("llama"), [Pair(str(k), f"a {k}", f"b {k}", "g", str(k)) for k in range(4)]
    _, [claim, *_] = core.ask(alike.Alike(), model, pairs[:2], series="s", twins=())
    assert claim.n == 0 and any("2 pairs were given; at least 4" in why for why in claim.dropped)
    assert re.search("^0 independent units are left, .*; left out: 2 pairs were given", judge(claim).reason)
    assert core.run(alike.Alike(), model, pairs, series="s", twins=())[1][0].n == 4
    table, claims = core.joined([])
    assert not len(table) and claims == []
    assert semantics.behind_another(Items(), Items(), seed=0) == []


def test_segments_need_no_caption(tmp_path):
    found = vision.pictures(9, data_dir=coco(tmp_path, "instances"), segments=True)
    assert len(found) == 2 and found[0].areas and len(vision.names(found)) == 2
    with pytest.raises(SemhubError, match="no coco/annotations/captions_val2017.json"):
        vision.pictures(9, data_dir=tmp_path)


WORDS = {"english": "cat", "spanish": "gato", "chinese": "猫", "german": "Katze", "french": "chat"}
ROWS = {name: [f"{word} {k}{k + 3}." for k in range(3)] for name, word in WORDS.items()}
LONG = "x" * 10_000_000


def ntrex_of(at, reads):
    ntrex(at, **{name: [*rows, LONG] for name, rows in ROWS.items()})
    return reads(at)


LONG_LINES = {  # what is written, and what reads it
    "sentences": lambda at: ntrex_of(at, lambda at: languages.parallel_sentences(9, seed=0, data_dir=at)),
    "running text": lambda at: ntrex_of(at, lambda at: languages.running_text("german", 9, seed=0, data_dir=at)),
    "programs": lambda at: (
        write(at / "mbpp/mbpp_release_v1.jsonl", json.dumps({"code": MBPP}) + "\n" + json.dumps({"code": LONG})),
        code.programs(9, seed=0, data_dir=at),
    )[1],
    "forms": lambda at: (write(at / "cogs/train.tsv", COGS + LONG), semantics.meanings(seed=0, data_dir=at))[1],
    "labels": lambda at: (write(at / "a.csv", f"text\ngood\n{LONG}\n"), sentiment._texts(at / "a.csv"))[1],
    "text to tune on": lambda at: (
        write(at / "a.txt", f"a cat\n{LONG}\n"),
        mixed.text_for("x", at / "a.txt", seed=0, say=lambda line: None)[0],
    )[1],
    "names of segments": lambda at: files.plain([{"id": 1, "name": "box"}, {"id": 2, "name": LONG}], Items(), "x"),
}


@pytest.mark.parametrize("what", [*LONG_LINES])
def test_a_line_of_millions_of_characters_is_left_out_and_counted(what, tmp_path):
    """Minutes of a tokenizer, or all memory there is."""
    found = LONG_LINES[what](tmp_path)
    assert 1 <= len(found) <= 3
    assert what.startswith("names") or found.dropped == {files.TOO_LONG: 1}


def test_a_caption_of_millions_of_characters_is_none(tmp_path):
    path = coco(tmp_path, "captions") / "coco/annotations/captions_val2017.json"
    write(path, path.read_text("utf-8").replace("a red box 1", LONG))
    found = vision.pictures(9, data_dir=tmp_path)
    assert len(found) == 1 and found.dropped == {"no caption": 1}


def test_a_second_of_vggsound_that_is_no_number_is_counted(tmp_path):
    rows = ("²", "9" * 5000, "three")
    write(tmp_path / "vggsound/vggsound.csv", "".join(f"abc,{second},dog barking,test\n" for second in rows))
    with pytest.raises(SemhubError, match="holds no sounds that can be used. Left out: 3 × no file"):
        audio.read_clips(9, data_dir=tmp_path)


MBPP = "def f(x):\n    return x + 1\n"
COGS = "Emma saw Liam .\tsee . agent ( x _ 1 , Emma ) AND see . theme ( x _ 1 , Liam )\tin_distribution\n"
WAYS = {
    "few sentences, no Spanish and no dictionary": (
        "languages",
        lambda at: ntrex(at, **{name: rows for name, rows in ROWS.items() if name != "spanish"}),
    ),
    "instruments without Spanish": (
        "instruments",
        lambda at: ntrex(at, **{of: [f"{WORDS[of]} {of}{k}." for k in range(20)] for of in ("english", "french")}),
    ),
    "one sentence with its form": ("semantics", lambda at: write(at / "cogs/train.tsv", COGS)),
    "captions without segments": ("vision", lambda at: coco(at, "captions")),
    "segments without captions": ("vision", lambda at: coco(at, "instances")),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_chapter_goes_on(way, tmp_path, monkeypatch, capsys):
    name, make = WAYS[way]
    monkeypatch.setattr(book, "_execute", here)
    monkeypatch.setattr(chapter, "load_model", loaded)
    make_module("llama").save_pretrained(tmp_path / "model")
    make_tokenizer("byte").save_pretrained(tmp_path / "model")
    make(tmp_path / "data")
    model = "organism:hub-sees" if name == "vision" else str(tmp_path / "model")
    given = [
        "run",
        name,
        "--model",
        model,
        "--out",
        str(tmp_path / "runs"),
        "--set",
        f"n_items={2 if name == 'vision' else 13}",
    ]
    assert cli.main([*given, "--set", f"data_dir={tmp_path / 'data'}"]) == 0, capsys.readouterr().err
    [path] = (tmp_path / "runs").rglob("*claims.json")
    claims = json.loads(path.read_text("utf-8"))["claims"]
    lost = {why for claim in claims for why in claim["evidence"]["dropped"]}
    assert claims and not any(str(tmp_path) in why for why in lost)

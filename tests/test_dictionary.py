"""What words are in English: the world's lexicon, CC-CEDICT's own file, and files that are not right."""

import gzip

import pytest
from shared_data import shared

from semhub_utils.errors import SemhubError
from semhub_utils.spokes.languages import Entry, cedict, dictionary, world_dictionary

LINES = """# a remark
#! charset=UTF-8
貓 猫 [mao1] /cat/CL:隻|只[zhi1]/
吃 吃 [chi1] /to eat/to have one's meal/to consume (sth)/food/
書 书 [shu1] /(bound) book/a letter/volume, tome/
中國 中国 [Zhong1 guo2] /China/
打 打 [da3] /to beat/
打 打 [da2] /dozen (loanword)/
圖書館 图书馆 [tu2 shu1 guan3] /a house of books/
no entry at all
"""


def write(folder, data, name="cedict_1_0_ts_utf-8_mdbg.txt"):
    (folder / "cc-cedict").mkdir(exist_ok=True)
    (folder / "cc-cedict" / name).write_bytes(data)
    return folder


def test_entries_of_the_file_s_own_format(tmp_path):
    found = cedict(write(tmp_path, LINES.encode()))
    assert found["猫"] == found["貓"] == Entry(("cat",), "other")
    assert found["吃"] == Entry(("eat", "consume", "food"), "verb")
    assert found["书"].english == ("book", "letter")
    assert found["中国"] == Entry(("China",), "name")
    assert found["打"] == Entry(("beat", "dozen"), "verb"), "a second entry adds its meanings"
    assert "图书馆" not in found
    assert found.read.dropped == {"entry without a gloss of one word": 1, "line that is no entry": 1}
    assert "cedict_1_0_ts_utf-8_mdbg.txt:9: entry without" in found.read.left_out
    with pytest.raises(SemhubError, match="no entries that can be used.*2 × line that is no entry"):
        cedict(write(tmp_path, b"name,english\ncat,x\n"))


def test_packed_with_a_mark_and_windows_line_ends_it_reads_the_same(tmp_path):
    plain = cedict(write(tmp_path, LINES.encode()))
    packed = gzip.compress(b"\xef\xbb\xbf" + LINES.replace("\n", "\r\n").encode())
    (tmp_path / "b").mkdir()
    found = cedict(write(tmp_path / "b", packed, "cedict_1_0_ts_utf-8_mdbg.txt.gz"))
    assert found == plain and found.read.dropped["line that is no entry"] == 1


def test_the_world_s_lexicon_knows_part_and_field():
    found = world_dictionary("es")
    assert found["perro"] == Entry(("dog",), "noun", "")
    assert found["verde"] == Entry(("green",), "adjective", "colour")
    assert found["tres"].part == "number" and found["tres"].english == ("three",)
    parts = {entry.part for language in ("es", "zh", "de") for entry in world_dictionary(language).values()}
    assert parts == {"noun", "verb", "adjective", "number"}
    assert world_dictionary("zh")["绿色"].english == world_dictionary("de")["grün"].english == ("green",)


def test_only_real_chinese_asks_for_a_file(tmp_path):
    german, french = (dictionary(name, tmp_path) for name in ("german", "french"))
    assert german.keys() > world_dictionary("de").keys() and german["Januar"] == Entry(("January",), "name", "month")
    assert french["Espagne"].english == ("Spain",) and french["chien"] == Entry(("dog",), "noun", "animal")
    assert dictionary("chinese") == world_dictionary("zh")
    with pytest.raises(SemhubError, match="CC-CEDICT"):
        dictionary("chinese", tmp_path)


def test_cc_cedict_itself():
    found = dictionary("chinese", shared("cc-cedict"))
    assert len(found) > 70_000 and set(found.read.dropped) == {"entry without a gloss of one word"}
    assert found["狗"].english == ("dog",) and found["吃"].part == "verb" and found["中国"].part == "name"
    assert found["圖書館"] == found["图书馆"] == Entry(("library",), "other")

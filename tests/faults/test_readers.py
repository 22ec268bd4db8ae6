"""Readers of public sets on files that nobody wrote: they read, count, or refuse in one sentence, and never break.

Some seconds here; minutes, as in `make weekly`, by SEMHUB_FUZZ=2000 python -m pytest tests/faults/test_readers.py"""

import csv
import gzip
import io
import json
import os
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from transformers.convert_slow_tokenizer import bytes_to_unicode

from semhub_utils import formats
from semhub_utils.errors import SemhubError
from semhub_utils.spokes import audio, code, languages, semantics, vision

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies
TIMES = int(os.environ.get("SEMHUB_FUZZ", 25))
few = hypothesis.settings(
    max_examples=TIMES,
    deadline=None,
    derandomize=TIMES < 100,
    database=None,
    phases=[hypothesis.Phase.generate, *[hypothesis.Phase.shrink] * (TIMES >= 100)],  # to shrink takes minutes
    suppress_health_check=[*hypothesis.HealthCheck],
)
ODD = [*'\u2028\x85\x00\ufeff\t\r\x0c",é中👍[{/\\', "\ud800"]
WORDS = st.text(st.sampled_from([*"ab .(){};1_*\n", *ODD[:-1]]), max_size=40)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.sampled_from([*"ab1", *ODD]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=8,
)


def dumped(value) -> str:
    return json.dumps(value)  # lone surrogates as \ud800


def changed(whole: bytes) -> st.SearchStrategy[bytes]:
    """A whole file with a piece taken out, doubled or written over; or anything at all."""
    place, piece = st.integers(0, len(whole)), st.binary(max_size=30)
    return st.builds(lambda a, b, new: whole[:a] + new + whole[b:], place, place, piece) | st.binary(max_size=200)


def read_or_refused(read, files: dict[str, bytes]):
    """What `read` gives of a folder with these files; None where it is refused in one sentence."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        try:
            found = read(folder)
        except SemhubError as error:
            said = str(error).removesuffix(getattr(error, "left_out", ""))
            assert "\n" not in said and said.endswith(".")
            return None
        assert all(n > 0 for n in getattr(found, "dropped", {}).values())
        return found


COGS = "A cat was seen by Emma .\tcat ( x _ 1 ) AND see . agent ( x _ 3 , Emma )\tin_distribution\n" * 4


@few
@hypothesis.given(changed(COGS.encode()) | st.lists(WORDS).map(lambda rows: "\t".join(rows).encode()))
def test_cogs(content):
    def read(folder):
        return semantics.meanings(seed=0, data_dir=folder)

    read_or_refused(read, {"cogs/train.tsv": content})


MBPP = "".join(dumped({"task_id": k, "code": f"def f{k}(x):\n    return x"}) + "\n" for k in range(4))
ROWS = st.lists(st.dictionaries(st.sampled_from(["code", "prompt", "canonical_solution", "task_id"]), JSON) | JSON)


@few
@hypothesis.given(changed(MBPP.encode()) | ROWS.map(lambda rows: "\n".join(map(dumped, rows)).encode()))
def test_mbpp(content):
    found = read_or_refused(lambda folder: code.programs(99, seed=0, data_dir=folder), {"mbpp/mbpp.jsonl": content})
    for program in found or ():
        program.text.encode()  # of whole characters


CEDICT = "# a remark\n中 中 [zhong1] /middle/center/\n國 国 [guo2] /(old) country/to rule/\n".encode() * 3


@few
@hypothesis.given(changed(CEDICT), st.booleans())
def test_cedict(content, packed):
    name = "cedict_1_0_ts_utf-8_mdbg.txt.gz" if packed else "cedict_ts.u8"
    read_or_refused(languages.cedict, {f"cc-cedict/{name}": gzip.compress(content) if packed else content})


@few
@hypothesis.given(changed(gzip.compress(CEDICT)))
def test_a_packed_file(content):
    read_or_refused(languages.cedict, {"cc-cedict/cedict_1_0_ts_utf-8_mdbg.txt.gz": content})


PACKED = gzip.compress(bytes(k * k % 251 for k in range(999)))
DAMAGED = {
    "garbled": PACKED[:10] + bytes(range(255, 0, -1)),
    "cut": PACKED[:-9],
    "another sum": PACKED[:-8] + bytes(8),
    "no archive": b"plain text",
    "a head alone": PACKED[:10],
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_packed_file_that_is_damaged_is_said_to_be(tmp_path, name):
    path = tmp_path / "cc-cedict" / "cedict_1_0_ts_utf-8_mdbg.txt.gz"
    path.parent.mkdir()
    path.write_bytes(DAMAGED[name])
    with pytest.raises(SemhubError, match="mdbg.txt.gz cannot be read .*; a file that can be would do"):
        languages.cedict(tmp_path)


@few
@hypothesis.given(changed("Eine Katze.\nZwei.\u2028Drei.\n".encode()))
def test_ntrex(content):
    names = {
        side: f"ntrex/NTREX-128/newstest2019-{side}.txt" for side in ("src.eng", "ref.spa", "ref.zho-CN", "ref.deu")
    }

    def read(folder):
        return languages.parallel_sentences(9, seed=0, data_dir=folder)

    read_or_refused(read, dict.fromkeys(names.values(), b"One.\nTwo.\n") | {names["ref.deu"]: content})


def picture() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(file, "PNG")
    return file.getvalue()


NAMES = st.sampled_from(["1.jpg", "../1.jpg", "/etc/hostname", "", "\x00", "2.jpg"]) | JSON
ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "id": st.integers(0, 3) | JSON,
        "file_name": NAMES,
        "width": st.just(8) | JSON,
        "height": st.just(8) | JSON,
    },
)
PART = st.fixed_dictionaries(
    {},
    optional={
        "image_id": st.integers(0, 3) | JSON, "caption": WORDS | JSON, "category_id": st.integers(0, 2) | JSON,
        "id": JSON, "segmentation": st.just([[0, 0, 4, 0, 4, 4, 0, 4]]) | JSON,
    },
)  # fmt: skip
COCO = st.fixed_dictionaries(
    {"images": st.lists(ENTRY, min_size=1, max_size=4), "annotations": st.lists(PART, max_size=4)},
    optional={"categories": st.lists(st.fixed_dictionaries({"id": st.integers(0, 2), "name": st.just("cat")}) | JSON)},
)


@few
@hypothesis.given(COCO, COCO, changed(picture()), st.booleans())
def test_coco(captions, segments, image, segmented):
    files = {"coco/annotations/captions_val2017.json": dumped(captions).encode(), "coco/val2017/1.jpg": image}
    files |= {"coco/annotations/instances_val2017.json": dumped(segments).encode()}
    found = read_or_refused(lambda folder: vision.pictures(9, seed=0, data_dir=folder, segments=segmented), files)
    for one in found or ():
        assert one.image.size == (8, 8) or segmented is False


@cache
def gguf_file() -> bytes:
    """A vocabulary, its merges and a tensor."""
    gguf = pytest.importorskip("gguf")
    with tempfile.TemporaryDirectory() as folder:
        writer = gguf.GGUFWriter(Path(folder, "a.gguf"), "llama")
        writer.add_file_type(0)
        writer.add_tokenizer_model("gpt2")
        writer.add_token_list([*bytes_to_unicode().values(), "he"])
        writer.add_token_merges(["h e"])
        writer.add_tensor("x", np.ones((2, 32), np.float32))
        for part in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
            part()
        writer.close()
        return Path(folder, "a.gguf").read_bytes()


def test_the_head_of_a_gguf_file_is_read_or_refused():
    def read(folder):
        return formats._read_gguf(Path(folder, "a.gguf"), "It")

    assert read_or_refused(read, {"a.gguf": gguf_file()})["quantisation"] == "F32"

    @few
    @hypothesis.given(changed(gguf_file()) | changed(gguf_file()[:400]).map(lambda head: head + gguf_file()[400:]))
    def any_other(content):
        read_or_refused(read, {"a.gguf": content})

    any_other()


def wave(form: str = "WAV", n: int = 400) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.sin(np.arange(n) / 3).astype(np.float32), 8000, format=form)
    return file.getvalue()


CELL = st.sampled_from(["a.wav", "../a.wav", "/etc/hostname", "dog", "1", "", "\x00"]) | WORDS


def table(rows) -> bytes:
    file = io.StringIO()
    csv.writer(file).writerows(rows)
    return file.getvalue().encode("utf-8", "replace")


@few
@hypothesis.given(
    changed(b"filename,category,src_file\na.wav,dog,1\n") | st.lists(st.lists(CELL, max_size=4), max_size=4).map(table),
    changed(wave()),
)
@hypothesis.example(b'"\x00\r\x00"', wave())
def test_esc(meta, sound):
    files = {"esc50/meta/esc50.csv": meta, "esc50/audio/a.wav": sound}
    for clip in read_or_refused(lambda folder: audio.read_clips(9, seed=0, data_dir=folder), files) or ():
        assert np.isfinite(clip.samples).all()


@few
@hypothesis.given(changed(b"a,1,dog barking,test\nb,2,rain,train\n"), changed(wave()))
def test_vggsound(meta, sound):
    files = {"vggsound/vggsound.csv": meta, "vggsound/a_000001.wav": sound}
    read_or_refused(lambda folder: audio.read_clips(9, seed=0, data_dir=folder), files)


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3", "WAVEX", "AIFF"])
def test_a_sound_cut_short_is_not_read_as_whole(tmp_path, form):
    whole = wave(form, 40_000)
    path = tmp_path / f"a.{form.lower()}"
    path.write_bytes(whole)
    n = len(audio.read_sound(path, 8000).samples)
    assert abs(n - 40_000) <= (4000 if form == "MP3" else 0)
    if form in ("MP3", "AIFF"):  # MP3 states no length
        return
    for share in (0.2, 0.5, 0.9, 0.99):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(SemhubError, match="cut short|not a sound that can be read"):
            audio.read_sound(path, 8000)


def test_a_stream_of_unknown_length_is_whole(tmp_path):
    """As programs write it that do not know yet when it ends."""
    data = wave()
    at = data.index(b"data") + 4
    (tmp_path / "a.wav").write_bytes(data[:at] + b"\xff\xff\xff\xff" + data[at + 4 :])
    assert len(audio.read_sound(tmp_path / "a.wav", 8000).samples) == 400


@pytest.mark.parametrize("rate", [0, 1, 2**31 - 1])
def test_a_rate_that_cannot_be(tmp_path, rate):
    data = wave()
    at = data.index(b"fmt ") + 12
    (tmp_path / "a.wav").write_bytes(data[:at] + rate.to_bytes(4, "little") + data[at + 4 :])
    with pytest.raises(SemhubError, match="samples a second; 10 to|not a sound that can be read"):
        audio.read_sound(tmp_path / "a.wav", 8000)

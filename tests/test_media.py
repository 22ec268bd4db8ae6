"""Pictures and sounds from files, right and wrong, and the readers of COCO, ESC and VGGSound."""

import json
from functools import partial

import numpy as np
import pytest
import soundfile
from PIL import Image
from shared_data import shared

from semhub_utils.errors import SemhubError
from semhub_utils.inputs import resample
from semhub_utils.spokes.audio import read_clips, read_sound
from semhub_utils.spokes.vision import Area, cells, pictures, read_image

RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.fixture
def halves():
    """Red above, blue below."""
    image = Image.new("RGB", (40, 20), RED)
    image.paste(BLUE, (0, 10, 40, 20))
    return image


def near(image, place, colour):
    assert image.mode == "RGB" and np.abs(np.subtract(image.getpixel(place), colour)).max() < 12


# Pictures


def test_modes_become_rgb(tmp_path, halves):
    halves.convert("1").save(tmp_path / "bits.png")
    halves.convert("L").save(tmp_path / "grey.png")
    Image.fromarray(np.full((4, 4), 40000, np.uint16)).save(tmp_path / "deep.png")
    kinds = {"jpg": "CMYK", "png": "RGB", "gif": "P", "jpeg": "YCbCr", "webp": "RGB", "bmp": "RGB"}
    for suffix, mode in kinds.items():
        halves.convert(mode).save(tmp_path / f"a.{suffix}")
        near(image := read_image(tmp_path / f"a.{suffix}"), (5, 2), RED)
        near(image, (5, 17), BLUE)
    near(read_image(tmp_path / "grey.png"), (5, 2), (76, 76, 76))
    near(read_image(tmp_path / "deep.png"), (0, 0), (156, 156, 156))
    assert read_image(tmp_path / "bits.png").mode == "RGB"


def test_what_is_transparent_stands_on_white(tmp_path, halves):
    halves.putalpha(Image.linear_gradient("L").resize(halves.size).point(lambda v: 255 if v > 128 else 0))
    halves.save(tmp_path / "a.png")
    halves.quantize(8).save(tmp_path / "b.png")
    halves.convert("LA").save(tmp_path / "c.png")
    for name in "abc":
        near(read_image(tmp_path / f"{name}.png"), (5, 2), (255, 255, 255))
    near(read_image(tmp_path / "a.png"), (5, 17), BLUE)


def test_exif_turns_a_picture(tmp_path, halves):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter to the right
    halves.save(tmp_path / "a.jpg", exif=exif)
    image = read_image(tmp_path / "a.jpg")
    assert image.size == (20, 40)
    near(image, (17, 5), RED)
    near(image, (2, 5), BLUE)


@pytest.mark.parametrize("size", [(1, 1), (10_000, 20), (3, 1)])
def test_extreme_sizes(tmp_path, size):
    Image.new("RGB", size, RED).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").size == size


def test_pictures_that_are_refused(tmp_path, halves):
    Image.effect_noise((99, 99), 50).save(tmp_path / "whole.jpg")
    halves.save(tmp_path / "whole.png")
    for suffix in ("jpg", "png"):
        (tmp_path / f"cut.{suffix}").write_bytes((tmp_path / f"whole.{suffix}").read_bytes()[:-60])
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "none.png").write_bytes(b"")
    (tmp_path / "folder.jpg").mkdir()
    refused(read_image, tmp_path, {
        "cut.jpg": "damaged or cut short", "cut.png": "damaged or cut short", "text.jpg": "is not a picture",
        "none.png": "is not a picture", "folder.jpg": "damaged", "missing.jpg": "no picture",
    })  # fmt: skip


def refused(read, folder, files):
    """Each file is refused in one sentence that names it and says why."""
    for name, said in files.items():
        with pytest.raises(SemhubError, match=f"(?s){name}.*would do") as caught:
            read(folder / name)
        assert said in str(caught.value) and "\n" not in str(caught.value)


# Sounds


def tone(rate, hertz=440, seconds=0.5):
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)).astype(np.float32)


@pytest.mark.parametrize(("rate", "suffix"), [(8000, "wav"), (44100, "flac"), (48000, "ogg"), (16000, "wav")])
def test_sounds_are_resampled(tmp_path, rate, suffix):
    soundfile.write(tmp_path / f"a.{suffix}", tone(rate), rate)
    sound = read_sound(tmp_path / f"a.{suffix}", 16000)
    assert sound.rate == 16000 and sound.samples.dtype == np.float32 and abs(len(sound.samples) - 8000) <= 1
    middle = slice(800, 7200)  # away from the ends, where a sound begins at once
    assert np.abs(sound.samples[middle] - tone(16000)[middle]).max() < 0.02


def test_resampling_keeps_what_both_rates_hold_and_drops_the_rest():
    low, high = tone(48000, 1000, 1.0), tone(48000, 11000, 1.0)
    middle = slice(1600, 14400)
    assert np.abs(resample(low + high, 48000, 16000)[middle] - tone(16000, 1000, 1.0)[middle]).max() < 0.01
    assert resample(low, 48000, 48000) is low and len(resample(low[:7], 48000, 16000)) == 2


def test_channels_loudness_and_lengths(tmp_path):
    left, right = tone(16000, 440), tone(16000, 880)
    soundfile.write(tmp_path / "two.wav", np.stack([left, right], 1), 16000)
    assert np.abs(read_sound(tmp_path / "two.wav", 16000).samples - (left + right) / 2).max() < 1e-3
    soundfile.write(tmp_path / "loud.wav", 4 * left, 16000, subtype="FLOAT")
    loud = read_sound(tmp_path / "loud.wav", 16000).samples
    assert np.abs(loud).max() == pytest.approx(1) and np.abs(loud - left / np.abs(left).max()).max() < 1e-6
    soundfile.write(tmp_path / "clipped.wav", np.clip(4 * left, -1, 1), 16000)
    assert np.abs(read_sound(tmp_path / "clipped.wav", 16000).samples).max() <= 1
    soundfile.write(tmp_path / "one.wav", left[:1], 16000)
    assert len(read_sound(tmp_path / "one.wav", 8000).samples) == 1


def test_sounds_that_are_refused(tmp_path):
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16000)
    for name, value in (("nan", np.nan), ("inf", np.inf)):
        soundfile.write(tmp_path / f"{name}.wav", np.full(9, value, np.float32), 16000, subtype="FLOAT")
    (tmp_path / "text.wav").write_text("not a sound")
    (tmp_path / "none.ogg").write_bytes(b"")
    soundfile.write(tmp_path / "whole.ogg", tone(16000), 16000)
    (tmp_path / "cut.ogg").write_bytes((tmp_path / "whole.ogg").read_bytes()[:80])
    refused(lambda path: read_sound(path, 16000), tmp_path, {
        "empty.wav": "no samples", "nan.wav": "no numbers", "inf.wav": "no numbers", "text.wav": "is not a sound",
        "none.ogg": "is not a sound", "cut.ogg": "is not a sound", "missing.wav": "There is no sound",
    })  # fmt: skip


# COCO


@pytest.fixture
def coco(tmp_path, halves):
    """Five photographs: two right, one damaged, one missing, one without a caption; one of the right ones with a square
    of 10 x 10."""
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    (root / "val2017").mkdir()
    for name in ("1.jpg", "2.jpg"):
        halves.save(root / "val2017" / name, quality=95)
    (root / "val2017" / "3.jpg").write_bytes(b"no picture")
    captions = [{"image_id": n, "caption": f" caption {n} "} for n in (1, 1, 2, 3, 4)]
    write(root, "captions", annotations=captions)
    square, runs = [10, 5, 20, 5, 20, 15, 10, 15], [20 * 10 + 5, 10, 20 * 29 + 5]  # ten pixels of the eleventh column
    packed = ({"counts": counts, "size": [20, 40]} for counts in (runs, "packed"))
    parts = zip((7, 8, 8, 9), ([square], *packed, [square]), strict=True)
    parts = [{"image_id": 1, "category_id": of, "segmentation": region} for of, region in parts]
    write(root, "instances", annotations=parts, categories=[{"id": 7, "name": "box"}, {"id": 8, "name": "line"}])
    return tmp_path


def write(root, kind, **content):
    images = [{"id": n, "file_name": f"{n}.jpg", "height": 20, "width": 40} for n in (1, 2, 3, 4, 5)]
    (root / "annotations" / f"{kind}_val2017.json").write_text(json.dumps({"images": images} | content))


def masks(photo):
    return [area.mask(photo.image.size) for area in photo.areas]


def test_coco_photographs_and_what_is_skipped(coco):
    found = pictures(9, data_dir=coco)
    assert [photo.id for photo in found] == ["coco:1", "coco:2"] and found[0].caption == "caption 1"
    assert found.dropped == {"damaged": 1, "no such photograph": 1, "no caption": 1} and "3.jpg" in found.left_out
    near(found[0].image, (5, 2), RED)
    assert not found[0].areas and len(pictures(1, data_dir=coco)) == 1


def test_coco_segments(coco):
    (photo,) = found = pictures(9, data_dir=coco, segments=True)
    assert [area.words for area in photo.areas] == [("box",), ("line",)]
    assert found.dropped == {"segment in a form that is not read": 1, "unknown label or photograph": 1}
    box, line = masks(photo)
    assert box.shape == (20, 40) and abs(int(box.sum()) - 110) <= 11 and box[10, 15] and not box[3, 15]
    assert np.argwhere(line).tolist() == [[row, 10] for row in range(5, 15)]


def panoptic(root, sizes):
    """Painted pictures of these sizes whose upper left quarter is sky, for photographs by number."""
    folder = root / "annotations" / "panoptic_val2017"
    folder.mkdir()
    for n, (width, height) in sizes.items():
        painted = Image.new("RGB", (width, height))
        painted.paste((3, 2, 1), (0, 0, width // 2, height // 2))
        painted.save(folder / f"{n}.png")
    parts = [{"id": 3 + 256 * 2 + 65536, "category_id": 7}, {"id": 5, "category_id": 1}]
    notes = [{"image_id": n, "file_name": f"{n}.png", "segments_info": parts} for n in sizes]
    write(root, "panoptic", annotations=notes, categories=[{"id": 7, "name": "sky"}])
    return folder


def test_coco_panoptic_comes_first(coco):
    panoptic(coco / "coco", {2: (40, 20)})
    (photo,) = found = pictures(9, data_dir=coco, segments=True)
    assert photo.id == "coco:2" and [area.words for area in photo.areas] == [("sky",)]
    [sky] = masks(photo)
    assert sky[:10, :20].all() and sky.sum() == 200 and found.dropped["unknown label or photograph"] == 1
    (coco / "coco/annotations/panoptic_val2017.json").write_text('{"images": [')
    with pytest.raises(SemhubError, match="panoptic_val2017.json is not whole JSON"):
        pictures(9, data_dir=coco, segments=True)


def test_photographs_that_do_not_fit_their_segments_are_skipped(coco, halves):
    """One that EXIF turns, and a painted picture that is cut short or of another size, end no run later."""
    root, exif = coco / "coco", Image.Exif()
    exif[0x0112] = 6
    halves.save(root / "val2017/2.jpg", exif=exif)
    for n in (4, 5):
        halves.save(root / "val2017" / f"{n}.jpg")
    painted = panoptic(root, {1: (40, 20), 2: (40, 20), 4: (40, 20), 5: (40, 10)})
    (painted / "4.png").write_bytes((painted / "4.png").read_bytes()[:60])
    write(root, "captions", annotations=[{"image_id": n, "caption": "x"} for n in (1, 2, 4, 5)])
    (photo,) = found = pictures(9, data_dir=coco, segments=True)
    assert photo.id == "coco:1" and masks(photo)[0].sum() == 200
    lost = {"of another size than its segments": 2, "damaged": 1, "unknown label or photograph": 4}
    assert found.dropped == lost


def test_shares_of_cells():
    corner = partial(cells, Area((30, 0, 40, 10), ()), (40, 20))
    assert corner((2, 4)).tolist() == [[0, 0, 0, 1], [0, 0, 0, 0]] and corner((1, 2)).tolist() == [[0, 0.25]]
    assert not corner((2, 2), (0.25, 0.0, 0.75, 1.0)).any()  # what a square crop leaves
    padded = corner((2, 2), (0.0, -0.5, 1.0, 1.5))  # a picture made square by bars above and below
    assert padded.tolist() == [[0, 0.25], [0, 0]]
    whole = Area((0, 0, 0, 0), ("all",), [[-5, -5, 50, -5, 50, 50, -5, 50]])
    assert whole.mask((40, 20)).all()


def test_coco_itself():
    data = shared("coco")
    found = pictures(100, data_dir=data)
    assert len(found) == 50 and not found.dropped and all(photo.caption for photo in found)
    found = pictures(100, data_dir=data, segments=True)
    notes = json.loads((data / "coco/annotations/instances_val2017.json").read_text())["annotations"]
    areas = [note["area"] for photo in found for note in notes if photo.id == f"coco:{note['image_id']}"]
    drawn = [mask for photo in found for mask in masks(photo)]
    assert len(found) == 25 and len(drawn) == len(areas) == 213
    assert all(abs(mask.sum() - area) < 25 + 0.1 * area for mask, area in zip(drawn, areas, strict=True))


# ESC and VGGSound


def test_esc10_folders(tmp_path):
    for name in ("001 - Dog bark/1-7-A.ogg", "001 - Dog bark/1-7-B.ogg", "002 - Rain/2-9-A.ogg", "notes/a.ogg"):
        recording(tmp_path / "esc10" / name, 44100)
    (tmp_path / "esc10/002 - Rain/2-9-A.ogg").write_bytes(b"")
    (tmp_path / "esc10/002 - Rain/read.me").write_text("x")
    found = read_clips(9, data_dir=tmp_path)
    assert [(clip.id, clip.label, clip.cluster) for clip in found] == [
        ("esc10:1-7-A", "dog bark", "1-7"), ("esc10:1-7-B", "dog bark", "1-7")]  # fmt: skip
    assert found.dropped == {"unreadable file": 1} and abs(len(found[0].samples) - 8000) <= 1


def recording(path, rate=16000):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, tone(rate), rate)


def test_esc50_and_vggsound_tables(tmp_path):
    recording(tmp_path / "esc50/audio/1-5-A-0.wav")
    table = tmp_path / "esc50/meta/esc50.csv"
    table.parent.mkdir()
    table.write_text(
        "filename,fold,target,category,esc10,src_file,take\n1-5-A-0.wav,1,0,clock_tick,True,5,A\n"
        "gone.wav,1,0,rain,True,6,A\nshort\n"
    )
    (clip,) = found = read_clips(9, data_dir=tmp_path)
    assert (clip.label, clip.cluster) == ("clock tick", "5")
    assert found.dropped == {"no file": 1, "row of another length": 1}
    table.write_text("name\nx\n")
    with pytest.raises(SemhubError, match=r"has no column 'category' \(it has 'name'\)"):
        read_clips(9, data_dir=tmp_path)

    table = tmp_path / "vggsound/vggsound.csv"
    for second, rate in ((30, 44100), (40, 8000)):
        recording(tmp_path / f"vggsound/clips/-x_y_0000{second}.wav", rate)
    (tmp_path / "vggsound/clips/x_000001.wav").write_bytes(b"no sound")
    rows = '-x_y,30,"dog barking at, far",test\n-x_y,40,cat,train\nother,40,rain,test\nx,1,rain,test\n'
    table.write_text(rows)
    (clip,) = found = read_clips(9, data_dir=tmp_path)
    assert (clip.label, clip.words, clip.cluster) == ("dog barking at, far", ("dog", "barking", "far"), "-x_y")
    assert (clip.rate, len(clip.samples), clip.kind) == (16000, 8000, "")
    assert found.dropped == {"no file": 1, "unreadable file": 1}
    table.write_text(rows.replace("test", "train"))
    with pytest.raises(SemhubError, match="no sounds that can be used"):
        read_clips(9, data_dir=tmp_path)
    with pytest.raises(SemhubError, match="the file of ESC-10, ESC-50 or VGGSound; that of.*ESC-50 or of.*vggsound"):
        read_clips(9, data_dir=tmp_path / "nowhere")

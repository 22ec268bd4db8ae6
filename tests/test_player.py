"""The player of sounds: what lies in it, and the widget's own script in headless Chromium."""

import base64
import io

import numpy as np
import pytest
import soundfile
from PIL import Image
from test_explorer import browser, page_of  # noqa: F401 (a fixture)

from semhub_utils.errors import SemhubError
from semhub_utils.player import MOST_BYTES, ClipPlayer, spectrogram, wav

LAYERS, FRAMES = 4, 6
VOCAB = {i: word for i, word in enumerate([" dog", "perro", " <b>", "\n", "狗", " bark"])}


def tone(pitch, seconds, rate=16000):
    return (0.5 * np.sin(2 * np.pi * pitch * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def reading(seed):
    rng = np.random.default_rng(seed)
    probs = np.sort(rng.dirichlet(np.ones(3), (LAYERS, FRAMES)), axis=2)[..., ::-1]
    return {"ids": rng.integers(0, len(VOCAB), (LAYERS, FRAMES, 3)), "probs": probs}


@pytest.fixture
def clips():
    given = {"rate": 16000, "seconds": 0.1, "layers": list(range(LAYERS)), "vocab": VOCAB}
    return [
        given | {"name": name, "samples": tone(pitch, 0.6), "readings": {"normed": reading(k), "raw": reading(k + 9)}}
        for k, (name, pitch) in enumerate((("dog <i>", 500), ("cat", 2000)))
    ]


@pytest.mark.parametrize(("seconds", "rate", "to"), [(0.5, 16000, 16000), (3.0, 16000, 8000), (5.0, 44100, 8000)])
def test_a_wav_is_small_and_still_the_sound(seconds, rate, to):
    file = wav(tone(440, seconds, rate), rate)
    samples, found = soundfile.read(io.BytesIO(file))
    assert len(file) <= MOST_BYTES + 44 and found == to and len(samples) == pytest.approx(seconds * to, abs=2)
    loudest = np.abs(np.fft.rfft(samples)).argmax() * found / len(samples)
    assert loudest == pytest.approx(440, abs=1) and np.abs(samples).max() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(("seconds", "rate"), [(10.0, 44100), (30.0, 16000), (2.0, 16000)])
def test_of_a_long_clip_sound_picture_and_words_are_cut_alike(seconds, rate):
    samples = np.concatenate([tone(500, 7.4, rate), tone(4000, seconds, rate)])[: int(seconds * rate)]
    frames = int(seconds / 0.04)
    words = {"ids": np.tile(np.arange(frames)[:, None] // 25, (2, 1, 1)), "probs": np.ones((2, frames, 1))}
    given = {"name": "long", "samples": samples, "rate": rate, "seconds": 0.04, "layers": [0, 1]}
    vocab = {k: f"second {k}" for k in range(31)}
    player = ClipPlayer.from_clips([given | {"readings": {"normed": words}, "vocab": vocab}])
    (entry,) = player.meta["sentences"]
    file, length = base64.b64decode(entry["audio"]), min(seconds, 7.5)
    heard, to = soundfile.read(io.BytesIO(file))
    assert len(file) <= MOST_BYTES + 44 and len(heard) / to == pytest.approx(length, abs=0.001)
    assert entry["duration"] == pytest.approx(length, abs=0.001) and entry["whole"] == pytest.approx(seconds, abs=0.001)
    assert 0 <= len(entry["tokens"]) * entry["step"] - length < entry["step"]
    assert player.table().word.max() == f"second {int(length - 0.01)}"
    light = np.asarray(Image.open(io.BytesIO(base64.b64decode(entry["picture"]))), float).sum(2)
    high = light.argmax(0) < light.argmax(0)[0] - 10  # bands above that of the first tone
    assert high.mean() == pytest.approx(0.1 / 7.5 if seconds > 7.5 else 0, abs=0.01)  # as 0.1 of 7.5 seconds


def test_a_spectrogram_is_bright_where_the_sound_is():
    picture = spectrogram(np.concatenate([tone(500, 0.5), np.zeros(8000, np.float32), tone(4000, 0.5)]), 16000)
    light = picture.sum(2).astype(float)
    row = light.argmax(0)  # 0 is the highest band
    third = light.shape[1] // 3
    assert row[third // 2] > row[-third // 2] + 10
    assert (light[:, third + 9 : -third - 9] == light.min()).all() and light.max() > 4 * light.min()
    assert spectrogram(np.zeros(200, np.float32), 16000).shape[2] == 3  # silence is a picture too


def test_what_lies_in_the_player(clips):
    player = ClipPlayer.from_clips(clips)
    first, second = player.meta["sentences"]
    assert base64.b64decode(first["audio"]).startswith(b"RIFF") and first["audio"] != second["audio"]
    picture = Image.open(io.BytesIO(base64.b64decode(first["picture"])))
    assert picture.format == "PNG" and first["duration"] == pytest.approx(0.6) and first["tokens"][3] == "0.30 s"
    summary = player.summary().set_index(["clip", "reading", "layer"])
    assert len(summary) == 2 * 2 * LAYERS
    ids = clips[1]["readings"]["raw"]["ids"][2, :, 0]
    words, counts = np.unique([VOCAB[i] for i in ids], return_counts=True)
    row = summary.loc["cat", "raw", 2]
    assert row["share of frames"] == pytest.approx(counts.max() / FRAMES)
    assert row["commonest first word"] in words[counts == counts.max()]
    with pytest.raises(SemhubError, match="no clip"):
        ClipPlayer.from_clips([])


@pytest.fixture
def page(browser, clips, tmp_path):  # noqa: F811
    (tmp_path / "player.html").write_text(page_of(ClipPlayer.from_clips(clips)), encoding="utf-8")
    opened, faults = browser.new_page(viewport={"width": 390, "height": 844}), []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    opened.goto((tmp_path / "player.html").as_uri())
    yield opened
    opened.close()
    assert not faults


def shown(page):
    return page.locator(".clip-strip td").all_inner_texts(), page.locator(".lens-word").all_inner_texts()


def expected(clip, name, layer, frame):
    ids = clip["readings"][name]["ids"][layer]
    strip = [VOCAB[i].strip() or "⏎" for i in ids[:, 0].tolist()]
    return strip, [VOCAB[i].replace(" ", "␣").replace("\n", "⏎") for i in ids[frame].tolist()]


def test_every_setting_shows_its_own_words(page, clips):
    assert shown(page) == expected(clips[0], "normed", 2, 0)
    page.get_by_label("Layer", exact=True).press("ArrowUp")
    page.get_by_label("Time", exact=True).press("End")
    assert shown(page) == expected(clips[0], "normed", 3, 5)
    page.get_by_role("radio", name="raw").check()
    assert shown(page) == expected(clips[0], "raw", 3, 5)
    page.get_by_label("Clip", exact=True).select_option("cat")
    assert shown(page) == expected(clips[1], "raw", 3, 0)
    page.locator(".clip-strip td").nth(2).click()
    assert shown(page) == expected(clips[1], "raw", 3, 2)
    assert page.locator("td[aria-current]").count() == 1
    assert page.locator("audio").evaluate("a => a.currentTime") == pytest.approx(0.2, abs=0.01)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_words_follow_the_sound(page):
    page.locator("audio").evaluate("a => { a.muted = true; return a.play(); }")
    page.wait_for_function("document.querySelector('input[id$=time]').value === '5'", timeout=5000)


def test_a_clip_that_was_cut_says_so(browser, clips, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr("semhub_utils.player.LONGEST", 0.4)
    (tmp_path / "cut.html").write_text(page_of(ClipPlayer.from_clips(clips)), encoding="utf-8")
    opened = browser.new_page()
    opened.goto((tmp_path / "cut.html").as_uri())
    opened.get_by_text("The first 0.4 of 0.6 seconds").wait_for(timeout=5000)
    assert opened.locator(".clip-strip td").count() == 4
    opened.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_fault_in_the_player(page, theme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
    found = axe.Axe().run(page).response["violations"]
    assert [(v["id"], v["nodes"][0]["html"][:120]) for v in found] == []

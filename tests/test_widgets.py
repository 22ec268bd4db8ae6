"""The lens grid and the player of sounds: what goes in comes out of the traits, and the page script shows it."""

import base64
import io
import json
import re
import shutil

import numpy as np
import pytest
import soundfile
from PIL import Image
from test_media import tone

from semhub_utils import widgets
from semhub_utils.errors import SemhubError
from semhub_utils.markup import STYLES
from semhub_utils.spokes import natural
from semhub_utils.widgets import MOST_BYTES, ClipPlayer, LensGrid, spectrogram, wav

LAYERS, TOKENS, K = 5, 4, 3


def sentence(seed: int, *, entropy: bool = False, name: str = "Spanish") -> dict:
    """A made-up sentence whose layer 2 speaks English at every token."""
    rng = np.random.default_rng(seed)
    vocab = {100 + i: word for i, word in enumerate([" el", " perro", "\n", " <b>"])}
    vocab |= {900 + i: word for i, word in enumerate([" the", " dog", " red"])}
    ids = rng.choice([100, 101, 102, 103], size=(LAYERS, TOKENS, K))
    ids[2] = rng.choice([900, 901, 902], size=(TOKENS, K))
    probs = np.sort(rng.dirichlet(np.ones(K + 1), size=(LAYERS, TOKENS))[..., :K], axis=-1)[..., ::-1]
    reading = {"ids": ids, "probs": probs}
    if entropy:
        reading["entropy"] = rng.uniform(0.1, 6, size=(LAYERS, TOKENS))
    raw = {"ids": ids[::-1], "probs": probs[::-1]}
    return {
        "name": name,
        "data_type": "spanish",
        "tokens": [" el", " perro", " come", "."],
        "layers": list(range(LAYERS)),
        "readings": {"normed": reading, "raw": raw},
        "vocab": vocab,
        "dominant_ids": {900, 901, 902},
    }


@pytest.fixture
def sentences():
    return [sentence(0, entropy=True), sentence(1, name="Second <i>")]


def decode(meta: dict, cells: bytes, s: int, name: str):
    """An independent reading of the block format, as a page without this package would do it."""
    block = meta["sentences"][s]["readings"][name]
    flat = np.frombuffer(cells[block["start"] :], dtype="<u2")
    shape = (LAYERS, TOKENS, block["k"])
    size, places = int(np.prod(shape)), LAYERS * TOKENS
    number, share, entropy = flat[:size].reshape(shape), flat[size : 2 * size].reshape(shape), None
    if block["entropy_max"]:
        entropy = flat[2 * size : 2 * size + places].reshape(LAYERS, TOKENS) / 65535 * block["entropy_max"]
    return number, share / 65535, entropy


def test_traits_hold_the_readings_and_the_table_their_top(sentences):
    grid = LensGrid.from_readings(sentences)
    state, table = grid.get_state(), grid.table()
    meta = json.loads(json.dumps(state["meta"]))
    assert len(table) == 2 * 2 * LAYERS * TOKENS
    for s, item in enumerate(sentences):
        for name, reading in item["readings"].items():
            number, probs, entropy = decode(meta, state["cells"], s, name)
            words = [[[meta["words"][n] for n in cell] for cell in row] for row in number]
            assert words == [[[item["vocab"][i] for i in cell] for cell in row] for row in reading["ids"].tolist()]
            own = np.isin(number, meta["dominant_words"])
            assert (own == np.isin(reading["ids"], list(item["dominant_ids"]))).all()
            assert np.abs(probs - reading["probs"]).max() < 1e-5
            assert (entropy is None) == ("entropy" not in reading)
            assert entropy is None or np.abs(entropy - reading["entropy"]).max() < 1e-3
            rows = table[(table.sentence == item["name"]) & (table.reading == name)]
            assert rows.word.tolist() == [item["vocab"][i] for i in reading["ids"][..., 0].ravel().tolist()]
            assert np.allclose(rows.probability, reading["probs"][..., 0].ravel(), atol=1e-5)
            assert rows.depth.max() == 1 and rows.token.tolist() == item["tokens"] * LAYERS
    assert meta["dominant_colour"] == STYLES["english"].colour
    assert not re.search(r"https?:|import\s", grid._esm + grid._css), "the script needs something else"


def test_a_word_of_two_sentences_can_be_dominant_in_one_only(sentences):
    sentences[1]["dominant_ids"] = set()
    table = LensGrid.from_readings(sentences).table()
    middle = table[(table.layer == 2) & (table.reading == "normed")]
    assert middle.groupby("sentence").dominant.mean().to_dict() == {"Spanish": 1.0, "Second <i>": 0.0}


def test_a_word_of_the_lines_own_type_is_its_own_and_the_grid_starts_where_it_tells_most(sentences):
    """Planted: *red* is Spanish too, and *dog* comes first with runners-up of three types at one middle cell."""
    item = sentences[0]
    item["vocab"] |= {200: " Hund", 201: " perro"}
    reading = item["readings"]["normed"]
    reading["ids"][2], reading["probs"][2] = [902, 901, 100], [0.9, 0.05, 0.01]
    reading["ids"][2, 1], reading["probs"][2, 1] = [901, 201, 200], [0.5, 0.3, 0.1]
    types = {"english": {"the", "dog", "red"}, "spanish": {"el", "perro", "red"}, "german": {"Hund"}}
    grid = LensGrid.from_readings(sentences, types)
    cells = grid.table().query("sentence == 'Spanish' and reading == 'normed' and layer == 2")
    assert dict(zip(cells.word, cells.dominant, strict=True)) == {" red": False, " dog": True} and grid.cell == [2, 1]
    assert [type_["name"] for type_ in grid.meta["types"]] == [*types]
    named = [{grid.meta["words"][n].strip() for n in of} for of in grid.meta["type_words"]]
    assert "red" in named[0] & named[1] and named[2] == {"Hund"}
    item["data_type"] = "english"  # whose own words they are all
    assert LensGrid.from_readings(sentences, types).table().query("layer == 2 and reading == 'normed'").dominant.all()


def test_what_the_worlds_types_have_in_common_is_known():
    known = natural.words(None)
    assert {"color"} <= known["english"] & known["spanish"] and "hat" in known["english"] & known["german"]
    assert "绿色" in known["chinese"] - known["english"] and next(iter(known)) == "english"


def test_a_page_of_six_sentences_stays_small():
    rng, shape = np.random.default_rng(0), (33, 16, 5)
    big = []
    for s in range(6):
        ids, probs = rng.integers(0, 50_000, size=shape), np.sort(rng.uniform(size=shape), axis=-1)[..., ::-1] / 5
        told = {"name": str(s), "data_type": "code", "tokens": [f"t{i}" for i in range(16)], "layers": list(range(33))}
        told |= {"vocab": {int(i): f"word{i}" for i in np.unique(ids)}, "dominant_ids": set()}
        big.append(told | {"readings": {name: {"ids": ids, "probs": probs} for name in ("normed", "raw")}})
    grid = LensGrid.from_readings(big)
    fixed = len(base64.b64encode(grid.cells)) + len(grid._esm) + len(grid._css)
    assert fixed < 200_000  # the words themselves come on top


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.clear(), "no sentence"),
        (lambda s: s[0]["tokens"].pop(), r"ids have shape \(5, 4, 3\)"),
        (lambda s: s[0]["vocab"].pop(901), "no text for id 901"),
        (lambda s: s[0]["readings"]["raw"].update(probs=np.sort(s[0]["readings"]["raw"]["probs"])), "fall along k"),
        (lambda s: s[0]["readings"]["raw"].update(probs=np.full((LAYERS, TOKENS, K), np.nan)), "finite"),
    ],
)
def test_bad_input_is_named(sentences, change, said):
    change(sentences)
    with pytest.raises(SemhubError, match=said):
        LensGrid.from_readings(sentences)


# --- the page script in a real browser --------------------------------------------------------------------------------

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Grid</title>
<meta name="viewport" content="width=device-width"><style>BODYSTYLE CSS</style></head>
<body><main><h1>Grid</h1><div id="here"></div></main><script type="module">
SCRIPT
const state = STATE;
state.cells = new DataView(Uint8Array.from(atob(state.cells), (c) => c.charCodeAt(0)).buffer);
const heard = {};
window.model = {
  get: (name) => state[name],
  set: (name, value) => { state[name] = value; (heard[`change:${name}`] ?? []).forEach((f) => f()); },
  save_changes: () => {},
  on: (name, f) => { (heard[name] ??= []).push(f); },
  off: (name, f) => { heard[name] = (heard[name] ?? []).filter((g) => g !== f); },
};
widget.render({ model: window.model, el: document.getElementById("here") });
</script></body></html>"""


def page_of(grid: LensGrid) -> str:
    """The widget's own script on a page with a stand-in for the widget model."""
    traits = ("meta", "cells", "sentence", "reading", "shade", "cell")
    state = {name: value for name, value in grid.get_state().items() if name in traits}
    state["cells"] = base64.b64encode(state["cells"]).decode()
    page = PAGE.replace("CSS", grid._css).replace("SCRIPT", grid._esm.replace("export default", "const widget ="))
    body = "body { font: 16px sans-serif; margin: 8px } html[data-theme=dark] { background: #14181e; color: #ddd }"
    return page.replace("BODYSTYLE", body).replace("STATE", json.dumps(state).replace("<", "\\u003c"))


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium on this machine")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser, tmp_path):
    """open_page(widget, width): its page; no error may have been said on it in the end."""
    faults, opened = [], []

    def open_one(widget, width=1280, before=""):
        (tmp_path / "widget.html").write_text(page_of(widget), encoding="utf-8")
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.add_init_script(before)
        opened.append(page)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.goto((tmp_path / "widget.html").as_uri())
        return page

    yield open_one
    for page in opened:
        page.close()
    assert not faults


@pytest.fixture
def page(open_page, sentences):
    return open_page(LensGrid.from_readings(sentences))


def shown(page) -> list[list[str]]:
    return page.evaluate(
        "[...document.querySelectorAll('tbody tr')].map(r => [...r.querySelectorAll('td')].map(c => c.innerText))"
    )


def expected(item: dict, name: str) -> list[list[str]]:
    top = item["readings"][name]["ids"][::-1, :, 0].tolist()
    return [[item["vocab"][i].strip() or "⏎" for i in row] for row in top]


def test_the_grid_can_be_that_of_another_model_on_file(open_page, sentences):
    own, other = (LensGrid.from_readings(some, {"spanish": {"el"}}) for some in (sentences, sentences[::-1]))
    other.meta["types"][0]["colour"] = "#123456"  # of another day
    data = json.dumps({"meta": other.meta, "cells": base64.b64encode(other.cells).decode()})
    models = '[{slug: "a", label: "without", grid: false}, {slug: "b", label: "other", grid: true}]'
    page = open_page(own, before=f"semhubOthers = {models}; semhubModel = async (slug) => ({{'b-grid': {data}}})[slug]")
    assert page.locator("select[id$=-model] option").all_inner_texts() == ["of this page", "other"]
    for chosen, of in (("b", sentences[-1]), ("", sentences[0])):
        page.select_option("select[id$=-model]", chosen)
        page.wait_for_function("name => document.querySelector('table').ariaLabel.includes(name)", arg=of["name"])
        assert shown(page) == expected(of, "normed")
        look = "cell => cell.style.getPropertyValue('--tint')"
        assert page.locator("td.tinted").first.evaluate(look) == STYLES["spanish"].colour


def test_controls_change_what_is_shown(page, sentences):
    assert shown(page) == expected(sentences[0], "normed")
    page.get_by_role("radio", name="raw").check()
    assert shown(page) == expected(sentences[0], "raw")
    page.get_by_label("Sentence").select_option("Second <i>")
    assert shown(page) == expected(sentences[1], "raw")
    assert page.get_by_text("Shade by").count() == 0, "no entropy in the second sentence"
    page.get_by_label("Sentence").select_option("Spanish")
    page.get_by_role("radio", name="normed").check()
    before = page.locator("td").first.evaluate("e => e.style.getPropertyValue('--share')")
    page.get_by_role("radio", name="entropy").check()
    reading = sentences[0]["readings"]["normed"]
    after = float(page.locator("td").first.evaluate("e => e.style.getPropertyValue('--share')"))
    assert float(before) == pytest.approx(reading["probs"][-1, 0, 0], abs=1e-4)
    assert after == pytest.approx(1 - reading["entropy"][-1, 0] / reading["entropy"].max(), abs=1e-4)


def test_a_switch_keeps_the_keyboard_and_dominant_cells_are_marked(page, sentences):
    marked = page.locator("td.dominant")
    assert marked.count() == TOKENS and marked.first.evaluate("e => e.dataset.row") == "2"
    assert "underline" in marked.first.locator("span").evaluate("e => getComputedStyle(e).textDecorationLine")
    page.get_by_role("radio", name="normed").focus()
    page.keyboard.press("ArrowRight")
    assert shown(page) == expected(sentences[0], "raw")
    assert page.evaluate("document.activeElement.value") == "raw"


def test_words_have_the_colour_of_their_type_and_layers_their_place(open_page, sentences):
    types = {"english": {"the", "dog"}, "spanish": {"el", "perro", "red"}}
    page = open_page(LensGrid.from_readings(sentences, types), 390)
    parts = page.locator("tbody th small").all_inner_texts()
    assert parts == ["last", "late", "middle", "early", "input"]
    for words, type_ in ((("el", "perro", "red"), "spanish"), (("the", "dog"), "english")):
        found = page.locator("td").filter(has_text=re.compile(f"^({'|'.join(words)})$"))
        tints = found.evaluate_all("all => all.map((cell) => cell.style.getPropertyValue('--tint'))")
        assert tints and {*tints} == {STYLES[type_].colour}
    chosen = page.locator("td[aria-selected='true']").bounding_box()
    assert 0 <= chosen["x"] and chosen["x"] + chosen["width"] <= 390
    key = page.locator(".lens-key").inner_text()
    assert "Spanish" in key and "grey: of no type" in key


def test_click_and_keys_choose_a_cell(page, sentences):
    reading, vocab = sentences[0]["readings"]["normed"], sentences[0]["vocab"]

    def panel_words():
        return page.locator(".lens-word").all_inner_texts()

    def words(layer: int, token: int):
        return [vocab[i].replace(" ", "␣").replace("\n", "⏎") for i in reading["ids"][layer, token].tolist()]

    page.locator("td[data-row='3'][data-column='1']").click()
    assert panel_words() == words(3, 1)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert panel_words() == words(2, 2)
    assert page.evaluate("document.activeElement.dataset.row + document.activeElement.dataset.column") == "22"
    for _ in range(9):
        page.keyboard.press("ArrowUp")
    page.keyboard.press("End")
    assert panel_words() == words(LAYERS - 1, TOKENS - 1)
    assert page.locator("td[tabindex='0']").count() == 1
    assert page.evaluate("JSON.stringify(model.get('cell'))") == "[4,3]"


def test_hover_shows_and_leaving_hides_the_tooltip_and_a_phone_does_not_scroll_sideways(page, sentences):
    page.locator("td[data-row='2'][data-column='0']").hover()
    tip = page.locator(".lens-tip")
    assert tip.is_visible()
    top = sentences[0]["readings"]["normed"]["ids"][2, 0, 0]
    assert sentences[0]["vocab"][int(top)].replace(" ", "␣") in tip.inner_text()
    page.mouse.move(1270, 890)
    assert not tip.is_visible()
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("tbody th").first.evaluate("e => getComputedStyle(e).position") == "sticky"


def _luminance(colour: str) -> float:
    channels = [int(v) / 255 for v in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_themes_turn_the_grid(page, theme):
    page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
    back = page.locator(".lens-grid").evaluate("e => getComputedStyle(e).backgroundColor")
    text = page.locator("td").first.evaluate("e => getComputedStyle(e).color")
    light, dark = sorted((_luminance(back), _luminance(text)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) > 7
    assert (_luminance(back) > 0.5) == (theme == "light")


# --- the player of sounds ---

CLIP_LAYERS, FRAMES = 4, 6
SOUND_WORDS = {i: word for i, word in enumerate([" dog", "perro", " <b>", "\n", "狗", " bark"])}


def clip_reading(seed):
    rng = np.random.default_rng(seed)
    probs = np.sort(rng.dirichlet(np.ones(3), (CLIP_LAYERS, FRAMES)), axis=2)[..., ::-1]
    return {"ids": rng.integers(0, len(SOUND_WORDS), (CLIP_LAYERS, FRAMES, 3)), "probs": probs}


@pytest.fixture
def clips():
    given = {"rate": 16000, "seconds": 0.1, "layers": list(range(CLIP_LAYERS)), "vocab": SOUND_WORDS}
    return [
        given
        | {
            "name": name,
            "samples": tone(16000, pitch, 0.6),
            "readings": {"normed": clip_reading(k), "raw": clip_reading(k + 9)},
            "said": "a <b> dog" * (not k),
        }
        for k, (name, pitch) in enumerate((("dog <i>", 500), ("cat", 2000)))
    ]


@pytest.mark.parametrize(("seconds", "rate", "to"), [(0.5, 16000, 16000), (3.0, 16000, 8000), (5.0, 44100, 8000)])
def test_a_wav_is_small_and_still_the_sound(seconds, rate, to):
    file = wav(tone(rate, 440, seconds), rate)
    samples, found = soundfile.read(io.BytesIO(file))
    assert len(file) <= MOST_BYTES + 44 and found == to and len(samples) == pytest.approx(seconds * to, abs=2)
    loudest = np.abs(np.fft.rfft(samples)).argmax() * found / len(samples)
    assert loudest == pytest.approx(440, abs=1) and np.abs(samples).max() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(("seconds", "rate"), [(10.0, 44100), (30.0, 16000), (2.0, 16000)])
def test_of_a_long_clip_sound_picture_and_words_are_cut_alike(seconds, rate):
    samples = np.concatenate([tone(rate, 500, 7.4), tone(rate, 4000, seconds)])[: int(seconds * rate)]
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
    picture = spectrogram(
        np.concatenate([tone(16000, 500, 0.5), np.zeros(8000, np.float32), tone(16000, 4000, 0.5)]), 16000
    )
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
    assert len(summary) == 2 * 2 * CLIP_LAYERS
    ids = clips[1]["readings"]["raw"]["ids"][2, :, 0]
    words, counts = np.unique([SOUND_WORDS[i] for i in ids], return_counts=True)
    row = summary.loc["cat", "raw", 2]
    assert row["share of frames"] == pytest.approx(counts.max() / FRAMES)
    assert row["commonest first word"] in words[counts == counts.max()]
    with pytest.raises(SemhubError, match="no clip"):
        ClipPlayer.from_clips([])


@pytest.fixture
def player_page(open_page, clips):
    return open_page(ClipPlayer.from_clips(clips), width=390)


def clip_shown(page):
    return page.locator(".clip-strip td").all_inner_texts(), page.locator(".lens-word").all_inner_texts()


def clip_expected(clip, name, layer, frame):
    ids = clip["readings"][name]["ids"][layer]
    strip = [SOUND_WORDS[i].strip() or "⏎" for i in ids[:, 0].tolist()]
    return strip, [SOUND_WORDS[i].replace(" ", "␣").replace("\n", "⏎") for i in ids[frame].tolist()]


def test_every_setting_shows_its_own_words(player_page, clips):
    assert clip_shown(player_page) == clip_expected(clips[0], "normed", 2, 0)
    player_page.get_by_label("Layer", exact=True).press("ArrowUp")
    player_page.get_by_label("Time", exact=True).press("End")
    assert clip_shown(player_page) == clip_expected(clips[0], "normed", 3, 5)
    player_page.get_by_role("radio", name="raw").check()
    assert clip_shown(player_page) == clip_expected(clips[0], "raw", 3, 5)
    player_page.get_by_label("Clip", exact=True).select_option("cat")
    assert clip_shown(player_page) == clip_expected(clips[1], "raw", 3, 0)
    player_page.locator(".clip-strip td").nth(2).click()
    assert clip_shown(player_page) == clip_expected(clips[1], "raw", 3, 2)
    assert player_page.locator("td[aria-current]").count() == 1
    assert player_page.locator("audio").evaluate("a => a.currentTime") == pytest.approx(0.2, abs=0.01)
    assert player_page.evaluate("document.documentElement.scrollWidth") <= 390


def test_each_word_stands_below_its_stretch_of_time_beside_label_and_answer(player_page, clips):
    where = "([a, b]) => [a, b].map((x) => x.getBoundingClientRect()).map((r) => [r.left, r.right])"
    for frame, cell in enumerate(player_page.locator(".clip-strip td").all()):
        (left, right), (first, last) = player_page.evaluate(
            where, [cell.element_handle(), player_page.query_selector(".clip-picture img")]
        )
        share = (last - first) / (0.6 / clips[0]["seconds"])  # pixels of a frame
        assert (left, right) == pytest.approx((first + frame * share, first + (frame + 1) * share), abs=1.5)
    told = player_page.locator(".clip-told")
    assert told.inner_text() == "Its label: dog <i>. Asked what it hears, the model says: a <b> dog."
    player_page.get_by_label("Clip", exact=True).select_option("cat")
    assert not told.is_visible()  # nobody asked


def test_a_clip_that_was_cut_says_so(open_page, clips, monkeypatch):
    monkeypatch.setattr(widgets, "LONGEST", 0.4)
    opened = open_page(ClipPlayer.from_clips(clips))
    opened.get_by_text("The first 0.4 of 0.6 seconds").wait_for(timeout=5000)
    assert opened.locator(".clip-strip td").count() == 4


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("widget", ["page", "player_page"])
def test_axe_finds_no_fault(request, widget, theme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    page = request.getfixturevalue(widget)
    page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
    found = axe.Axe().run(page).response["violations"]
    assert [(v["id"], v["nodes"][0]["html"][:120]) for v in found] == []

"""A result in a chapter: which rows a chart shows, what gets a switch, what is said where nothing is left; claims."""

import itertools
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from test_results import PARAMETERS, Model, found

import semhub_utils
from semhub_utils.chapter import TOY, Chapter, left_out, listing
from semhub_utils.finding import Finding, caption_of
from semhub_utils.markup import SIDES, STYLES, cell_text, diagram, sides
from semhub_utils.results import Run
from semhub_utils.spokes.items import Items, LensItem
from semhub_utils.verdicts import UNTESTABLE

DIAGRAMS = Path(semhub_utils.__file__).parent / "static" / "diagrams"
WORDS = {"alt": "Two curves, and a band around each of them."}


@pytest.fixture
def run(tmp_path):
    return Run("arithmetic", Model(), PARAMETERS, tmp_path)


@pytest.fixture
def lens(run):
    cells = itertools.product(("spanish", "zh"), ("normed", "raw"), ("first", "second"), ("own", "english"), range(3))
    columns = ["data_type", "reading", "experiment", "series", "layer"]
    table = pd.DataFrame(cells, columns=columns).assign(depth=lambda t: t.layer / 2, value=lambda t: t.layer / 9)
    blank = table.assign(control="random weights", value=0.0)
    return Finding(run, pd.concat([table.assign(control=None), blank], ignore_index=True))


def spec_of(shown) -> dict:
    start = re.search(r"\}\)\((?=\{)", shown.html).end()
    return json.JSONDecoder().raw_decode(shown.html[start:])[0]


def inputs(shown) -> dict[str, list]:
    return {p["name"]: p["bind"]["options"] for p in spec_of(shown).get("params", []) if "bind" in p}


def drawn(shown) -> pd.DataFrame:
    return pd.DataFrame(max(spec_of(shown)["datasets"].values(), key=len))


def test_whatever_has_several_values_gets_a_switch(lens):
    shown = lens.curves("first", "Which?", y="p", **WORDS)
    switches = {"data_type_choice": ["Spanish", "zh"], "reading_choice": ["normed", "raw"]}
    assert inputs(shown) == switches | {"of_choice": [None, "own", "English"]}
    one = lens.curves("first", "Which?", y="p", reading="raw", data_type="zh", control="", **WORDS)
    assert not inputs(one) and len(drawn(one)) == 6 and "control" not in drawn(one)
    told = drawn(lens.curves("first", "Which?", y="p", layer=range(1, 3), **WORDS))
    assert set(told.layer) == {1, 2}


def test_what_lines_and_switches_are_called(lens):
    both = lens.curves(["first", "second"], "Which?", y="p", by="measure", called={"series": "word"}, **WORDS)
    assert set(drawn(both).of) == {"first", "second"} and inputs(both)["word_choice"] == ["own", "English"]
    named = lens.curves({"first": "one", "second": "two"}, "Which?", y="p", called={"own": "itself"}, **WORDS)
    assert inputs(named)["measure_choice"] == ["one", "two"] and set(drawn(named).of) == {"itself", "English"}
    joined = lens.curves("first", "Which?", y="p", by=("series", "reading"), called={"normed": ""}, control="", **WORDS)
    assert set(drawn(joined).series) == {"own", "own, raw", "English", "English, raw"}
    alone = lens.curves("first", "Which?", y="p", by="word", called={"series": "of what"}, control="", **WORDS)
    assert set(drawn(alone).series) == {"word"} and "of what_choice" in inputs(alone)
    weights = lens.curves("first", "Which?", y="p", called={"control": "weights", "": "trained"}, **WORDS)
    assert inputs(weights)["weights_choice"] == ["trained", "random weights"]


def test_a_column_that_another_tells_gets_no_switch(run):
    rows = [(name, name.title(), k) for name in ("spanish", "german") for k in range(3)]
    table = pd.DataFrame(rows, columns=["series", "data_type", "layer"]).assign(depth=lambda t: t.layer / 2, value=1.0)
    assert not inputs(Finding(run, table).curves((), "Which?", y="p", **WORDS))


def test_where_nothing_is_left_the_reason_is_told(run, lens):
    empty = replace(found(), n=0, dropped={"no single token <b>": 12})
    nothing = Finding(run, lens.table.iloc[:0], [empty, empty])
    for shown in (
        nothing.curves("first", "Which?", y="p", **WORDS),
        nothing.trajectories("Which?", **WORDS),
        nothing.dose("first", "Which?", **WORDS),
    ):
        assert shown.text == "No item is left: 12 x no single token <b>." and "&lt;b&gt;" in shown.html
    assert lens.bars("third", "Which?", y="p", **WORDS).text == "No item is left to be drawn."


def test_a_table_of_nothing_is_not_changed(run):
    """It has none of the columns that a change reads, and the figure says that there is nothing."""
    changed = Finding(run, pd.DataFrame()).changed(lambda of: of.assign(series=of.control))
    assert len(changed.table) == 0


def test_claims_are_judged_with_what_each_needs(run):
    of = {name: replace(found(), claim=f"similarity/{name}", series=name) for name in ("spanish", "zh", "de")}
    raw = replace(of["spanish"], reading="raw")
    one = Finding(run, pd.DataFrame(), [*of.values(), raw, replace(found(), claim="similarity/spanish/as released")])
    needs = {"spanish": None, "zh": "the model knows no Zh."}
    shown = one.claims("similarity", "Alike in {name}.", paper="So.", needs=needs, of=("spanish", "zh"))
    assert shown.html.count("<tr id=") == 1 and shown.html.count('<span id="claim-') == 1
    assert "Alike in Spanish or zh." in shown.html and "Alike in Spanish. (" in shown.text
    assert [claim["verdict"] == UNTESTABLE for claim in run.claims] == [False, True]
    assert list(run.claims[0]["readings"]) == ["raw"] and not run.claims[1]["readings"]
    assert one.claims("similarity/de", "One.", paper="So.").text.endswith(")") and one.one("similarity/zh") is of["zh"]
    with pytest.raises(ValueError, match="no claim 'lens'"):
        one.claims("lens", "None.", paper="So.")


def test_a_chapter_asks_what_a_model_can_do(tiny, tmp_path):
    model = tiny("llama")
    chapter = Chapter(Run("arithmetic", model, PARAMETERS, tmp_path), model)

    def ask(model, items, *, own, series):
        said = [item.prompt for item in items]
        rows = {"experiment": f"task-{series}", "series": said, "cluster": said, "value": float(series == "es")}
        return pd.DataFrame(rows | {"n": 1})

    items = {name: [LensItem(str(k), str(k), {}, str(k)) for k in range(30)] for name in ("es", "zh")}
    known = chapter.knows(ask, items, "say {name}")
    assert known["es"] is None and "the model cannot say zh" in known["zh"] and known.share == 0.5
    assert set(known.table.data_type) == {"es", "zh"}


def test_generated_items_are_owned_up_to_beside_the_answer(tmp_path):
    """Of a public model: all of them, or some."""

    def finished(source: str, **card: str) -> list[str]:
        model = Model("some/model")
        model.card, model.tokenizer = card, None
        chapter = Chapter(Run("arithmetic", model, PARAMETERS, tmp_path), model)
        for items in (Items(["3+5"], source), Items(["3+6"])):
            chapter.find(f"step {items}", partial(made_of, items))
        shown = chapter.finish({})
        told = [line for line in shown.text.splitlines() if line.startswith(("Items", "All", "Some"))]
        assert 'class="answer"' in shown.html and all(line in shown.html for line in told)
        return told

    news = "NTREX-128/newstest2019-ref.spa.txt"
    assert finished("generated") == ["Items: generated.", TOY.format("All items")]
    assert finished("generated", name="hub") == []
    model = Model("organism:hub")
    model.card = {"name": "hub"}
    shown = Chapter(Run("arithmetic", model, PARAMETERS, tmp_path), model).finish({}).html
    assert "organism" not in shown and re.search("[Oo]n hub</p>", shown), "a page has one name for it"
    assert finished(news) == [f"Items: {news}, generated.", TOY.format("Some items")]


def made_of(items: Items) -> pd.DataFrame:
    return pd.DataFrame({"value": [float(len(items))]})


def test_tables_of_a_chapter():
    shown = listing([("a", 0.5), ("b", 1)], ["name", "share"], share="{:.0%}").to_html()
    assert "50%" in shown and "100%" in shown and "<th >0</th>" not in shown
    none = Items()
    for k in range(3):
        none.drop("too long", str(k))
    lost = left_out({"es": Items([1, 2]), "zh": none})
    assert lost.loc["zh"].to_dict() == {"too long": 3, "read": 0} and lost.loc["es", "read"] == 2


def test_a_finding_knows_no_torch():
    program = "import sys, semhub_utils.finding; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_a_caption_says_what_is_seen(run, lens):
    shown = lens.curves("first", "Which?", y="p", **WORDS)
    caption = re.search(r"<figcaption><b>Which\?</b> (.*?)</figcaption>", shown.html)[1]
    rows = lens.rows("first", data_type="spanish", reading="normed")
    rows = rows[rows.control.fillna("") == ""]
    best = rows.loc[rows.groupby("series", sort=False).value.idxmax()]
    peaks = "; ".join(f"{r.series} {cell_text(r.value)} at layer {r.layer}" for r in best.itertuples())
    assert caption == f"Highest for Spanish, normed: {peaks.replace('english', 'English')}."
    assert shown.text.endswith(caption) and spec_of(shown)["description"] == shown.text
    dosed = pd.DataFrame({"series": "a", "strength": [0, 2], "value": [0.1, 0.4]})  # and an axis by its first words
    for title in ("times, in lengths of a state", "times (of a state)"):
        shown = Finding(run, dosed).dose((), "More?", y="p", x_title=title, **WORDS)
        assert "Highest: a 0.4 at times 2." in shown.text


def test_no_chart_of_zeros(run):
    """Not even where a control is none; the sentence says of what. A chart opens where something is to be seen."""
    table = pd.DataFrame({"series": ["a", "b"], "layer": [1, 2], "depth": [0.5, 1.0], "value": [1e-12, 0.0]})
    table = pd.concat([table.assign(control=None), table.assign(control="blank", value=0.5)])
    shown = Finding(run, table).curves((), "Does it?", y="share of all", **WORDS)
    assert shown.text == "Does it? Nothing to draw: the share of all is 0 throughout (a; b)."
    assert "<b>Does it?</b> Nothing to draw" in shown.html, "a title as that of a figure"
    assert "vega" not in shown.html
    kinds = pd.concat([table.assign(kind=kind, value=value) for kind, value in (("flat", 0.0), ("hub", 0.2))])
    shown = Finding(run, kinds).bars((), "Does it?", y="share", control="", **WORDS)
    assert inputs(shown) == {"kind_choice": ["hub", "flat"]} and "Measured for hub: a 0.2; b 0.2." in shown.text
    cells = kinds.rename(columns={"series": "row"}).assign(value=lambda t: t.value.where(t.kind == "hub", 0.001))
    told = {"x": "layer", "y": "row", "value": "share", "control": "", **WORDS}
    assert inputs(Finding(run, cells).heatmap((), "Where?", **told))["kind_choice"] == ["hub", "flat"]


@pytest.mark.parametrize(
    ("at", "where"),
    [
        ({"strength": ""}, " at strength 4"),
        ({"tokens": ""}, " after 4,000 tokens"),
        ({"strength": "pads"}, " at pads 4"),
    ],
)
def test_captions_follow_the_axis(at, where):
    table = pd.DataFrame({"series": "a", "value": [1.0, 3.0], "strength": [1, 4], "tokens": [1000, 4000]})
    assert caption_of(table, at=at) == f"Highest: a 3{where}." and caption_of(table) == "Highest: a 3."
    assert caption_of(table, at=at, lowest=True) == f"Lowest: a 1{where.replace('4', '1')}."
    many = pd.concat([table.assign(series=name, value=table.value * k) for k, name in enumerate("abcdef", 1)])
    assert caption_of(many, at=at) == f"Highest peak: f 18{where}; lowest peak: a 3{where}."
    assert caption_of(many).startswith("Highest: f 18; lowest: a 3")
    assert caption_of(table.drop(columns="series"), at={"tokens": "", "strength": ""}) == (
        "Highest: 3 after 4,000 tokens, at strength 4."
    )
    assert caption_of(many.drop(columns="series").assign(value=1.0)) == "Highest: 1, in 12 of 12 cells."
    tiny = table.assign(series=["a", "b"], value=[-3.65e-10, 3.0])
    assert caption_of(tiny) == "Measured: a 0; b 3.", "a bar alone has no highest place"
    assert caption_of(table.assign(value=0.3), at=at) == "Highest: a 0.3 throughout."
    assert caption_of(table.iloc[:0]) == ""
    sinks = table.assign(value=[0.001, -2.0])  # it has no height to tell
    assert caption_of(sinks, at=at) == f"Lowest: a -2{where}."
    assert caption_of(table.assign(value=[-3.0, -2.0]), at=at) == f"Highest: a -2{where}."


def test_a_caption_of_what_is_alike_says_how_many_and_where_it_is_not():
    bars = pd.DataFrame({"series": [*"abcdef"], "value": [1.0, 1, 0.5, 0, 0, 0]})
    assert caption_of(bars) == "Highest: 1, in 2 of 6 bars; lowest: 0, in 3 of 6 bars."
    assert caption_of(bars[1:]) == "Highest: b 1; lowest: 0, in 3 of 5 bars."
    cells = bars.rename(columns={"series": "dose"}).assign(value=[1.0, 1, 0.5, 0.4, 0.3, 0.2])
    assert caption_of(cells, at={"dose": ""}) == "Highest: 1, in 2 of 6 cells; lowest: 0.2 at dose f."
    curves = pd.DataFrame(
        {"series": ["a"] * 3 + ["b"] * 3, "layer": [0, 1, 2] * 2, "value": [-9, -4, -1, -5, -3, -1.0]}
    )
    assert caption_of(curves, at={"layer": ""}) == "Highest: all at layer 2; furthest apart at layer 0: a -9; b -5."
    same = curves.assign(value=[1.0, 2, 3] * 2)
    assert caption_of(same, at={"layer": ""}) == "Highest: a 3 at layer 2; b 3 at layer 2."
    curves.loc[5, "value"] = -2.0
    assert caption_of(curves, at={"layer": ""}) == "Highest: a -1 at layer 2; b -2 at layer 2."


def test_a_caption_is_of_the_curve_in_front(run):
    table = pd.DataFrame({"series": [*"ab"], "pair": [*"ab"], "layer": 1, "depth": 0.5, "value": [0.1, 0.9]})
    shown = Finding(run, table).curves((), "Which?", y="p", select="pair", **WORDS)
    assert shown.text.endswith("Highest: a 0.1 at layer 1.")


def test_only_curves_that_a_claim_rests_on_can_be_another_models(run):
    """A row that tells its claim gets the chart its list of models."""
    table = pd.DataFrame(
        {"layer": [0, 1] * 2, "series": "a", "reading": ["raw"] * 2 + ["normed"] * 2, "claim": "lens/es"}
    )
    table = table.assign(depth=table.layer * 1.0, value=table.layer + 0.5)
    one = Finding(run, table, [replace(found(), claim="lens/es", reading=r) for r in ("normed", "raw")])
    rows = drawn(one.curves((), "Which?", y="p", **WORDS))
    assert {*zip(rows.reading, rows.claim.fillna(""), strict=True)} == {("raw", ""), ("normed", "lens/es")}
    assert "claim" not in drawn(Finding(run, table).curves((), "Which?", y="p", **WORDS))


def test_paths_have_the_colour_of_their_answer_and_a_caption(run):
    cells = itertools.product(("1+1", "1+2"), range(3))
    paths = pd.DataFrame(cells, columns=["series", "layer"]).assign(experiment="trajectory-path", data_type="digits")
    paths = paths.assign(word=paths.series.map({"1+1": "two", "1+2": "three"}), token=paths.series.str[-1])
    paths = paths.assign(x=paths.layer * 1.2 - 2, y=0.0, token=paths.token.map({"1": "2", "2": "3"}))
    words = pd.DataFrame({"word": ["2", "3", "two", "three", "0"], "series": ["digit"] * 2 + ["word"] * 2 + ["digit"]})
    words = words.assign(experiment="trajectory-word", x=[2.0, 2.1, -2, -2.1, 2], y=[0, 0.1, 0, 0.1, 9])
    one = Finding(run, pd.concat([paths, words]), (), {"word": "english", "digit": "digits"})
    shown = one.trajectories("Do they pass?", **WORDS)
    assert "Nearer to a word than to every digit: 2 of 2 states (layer 0), 2 (layer 1), 0 (layer 2)." in shown.text
    spec = spec_of(shown)
    rows = [row for rows in spec["datasets"].values() for row in rows]
    colour = {row["word"]: row["answer"] for row in rows}
    assert colour == {"two": "two", "three": "three", "2": "two", "3": "three", "0": ""}
    look = [layer["encoding"]["color"] for layer in spec["layer"] if "color" in layer["encoding"]]
    assert {of["field"] for of in look} == {"answer"} and len({*look[0]["scale"]["range"]}) == 3
    side = {row["word"]: row["side"] for row in rows if "side" in row}
    assert side["2"] != side["3"] and side["two"] != side["three"], "each away from the other"
    assert [p["value"] for p in spec["params"]] == [1]


def test_words_beside_marks_lie_on_no_other_and_no_axis():
    """Two marks at the left edge, and one on top of another: no word goes over the edge or where another is."""
    names, x, y = ["five", "two", "four", "three"], [0.02, 0.1, 0.5, 0.5], [0.5, 0.5, 0.8, 0.81]
    marks = pd.DataFrame({"word": names, "x": x, "y": y})
    chosen = sides(marks, {"x": [0.0, 1.0], "y": [0.0, 1.0]})
    five, two, four, three = (SIDES[k] for k in chosen)
    assert five["align"] != "right" and (five["dy"], two["dy"]) != (0, 0)
    assert four != three and {SIDES.index(four), SIDES.index(three)} != {2, 3} or four["dy"] > three["dy"]


def test_a_caption_is_of_the_layer_at_which_a_slider_opens(run):
    cells = itertools.product("ab", "cd", range(3))
    table = pd.DataFrame(cells, columns=["row", "column", "layer"]).assign(experiment="map", value=0.1)
    table.loc[(table.layer == 0) & (table.row == "a") & (table.column == "d"), "value"] = 9.0
    table.loc[(table.layer == 2) & (table.row == "b") & (table.column == "c"), "value"] = 0.5
    shown = Finding(run, table).heatmap("map", "Which?", x="column", y="row", value="nats", **WORDS)
    [slider] = [p for p in spec_of(shown)["params"] if p["name"] == "layer_choice"]
    assert slider["value"] == 2 and shown.text.endswith("Highest: 0.5 at column c, at row b, at layer 2.")
    whole = Finding(run, table).heatmap("map", "Which?", x="column", y="layer", value="nats", row="a", **WORDS)
    assert whole.text.endswith("Highest: 9 at column d, at layer 0.")


@pytest.mark.parametrize("path", sorted(DIAGRAMS.glob("*.svg")), ids=lambda p: p.stem)
def test_diagrams_are_described_and_read_on_any_page(path):
    drawn = ET.fromstring(path.read_text("utf-8"))
    ids = [node.get("id") for node in drawn.iter() if node.get("id")]
    assert {f"{path.stem}-title", f"{path.stem}-words"} == {*drawn.get("aria-labelledby").split()} <= {*ids}
    assert len(ids) == len({*ids}) and drawn.get("role") == "img"
    assert {*re.findall(r"#[0-9A-F]{6}", path.read_text("utf-8"))} <= {style.colour for style in STYLES.values()}
    assert len(diagram(path.stem).text.split()) > 10

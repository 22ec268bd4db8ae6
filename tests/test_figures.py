"""Charts, tables and cards: valid, described, banded, one colour for English, nothing lost between data and page."""

import colorsys
import itertools
import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from semhub_utils import figures
from semhub_utils.errors import SemhubError
from semhub_utils.finding import Finding, compact, data_table, show
from semhub_utils.markup import STYLES, cell_text, data_type, styles

WORDS = {"title": "Does the word come first?", "alt": "The word peaks in the middle, the digit at the end."}


@pytest.fixture
def curves() -> pd.DataFrame:
    names = ("English word", "digit", "random weights")
    cells = itertools.product(["lens"], ("hub", "islands"), ("normed", "raw"), names, range(9))
    table = pd.DataFrame(cells, columns=["experiment", "model", "reading", "series", "layer"])
    value = np.random.default_rng(0).uniform(size=len(table))
    told = {"depth": table.layer / 8, "value": value, "low": value - 0.1, "high": value + 0.1, "null_high": 0.3}
    return table.assign(**told, p=0.01, n=50, dropped=2)


@pytest.fixture
def dose() -> pd.DataFrame:
    cells = itertools.product(("steered", "reversed"), (0.0, 0.5, 1.0), ("correct", "unchanged", "other"))
    table = pd.DataFrame(cells, columns=["condition", "strength", "series"])
    return table.assign(value=1 / 3, low=0.2, high=0.4, n=9)


@pytest.fixture
def every(curves, dose) -> dict[str, tuple]:
    """Each kind of chart with the table it was made from."""
    one = curves[curves.model == "hub"]
    places = itertools.product("abc", "abc", (0, 4, 8))
    matrix = pd.DataFrame(places, columns=["row", "column", "layer"]).assign(
        value=lambda t: t.layer * (t.row == t.column)
    )
    choice = pd.DataFrame(itertools.product(range(4), (0.5, 1.0)), columns=["layer", "strength"])
    choice["value"] = choice.layer * choice.strength
    words = pd.DataFrame({"word": ["one", "1"], "series": ["English word", "digit"], "x": [0, 1.0], "y": [1, 0.0]})
    paths = one[(one.reading == "normed") & (one.series == "digit")].assign(item="5=3+", x=lambda t: t.value, y=0.0)
    bars = one[one.layer == 8]
    diverging = {"x": "column", "y": "row", "diverging": True, "value_title": "cosine"}
    return {
        "layers": (figures.curves(one, y="probability", **WORDS), one),
        "models": (figures.curves(curves, y="probability", select="model", **WORDS), curves),
        "dose": (figures.curves(dose, x="strength", y="share", select="condition", **WORDS), dose),
        "stacked": (figures.stacked(dose, switch=("condition",), **WORDS), dose),
        "matrix": (figures.heatmap(matrix, **diverging, **WORDS), matrix),
        "choice": (figures.heatmap(choice, x="strength", y="layer", value_title="share", **WORDS), choice),
        "trajectories": (figures.trajectories(paths, words, **WORDS), paths),
        "bars": (figures.bars(bars, y="accuracy", **WORDS), bars),
    }


def walk(node):
    """Every dictionary in a specification, data left out."""
    if isinstance(node, dict):
        yield node
        for key, value in node.items():
            if key not in ("data", "datasets"):
                yield from walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from walk(value)


def test_every_chart_is_valid_described_and_fits_any_page(every):
    for name, (chart, _) in every.items():
        spec = chart.to_dict()  # Altair validates against the Vega-Lite schema
        assert spec["description"] == WORDS["alt"], name
        assert spec["usermeta"]["title"] == WORDS["title"] and "title" not in spec
        assert spec["width"] == "container" and spec["config"]["background"] == "transparent"
        assert spec["usermeta"]["embedOptions"]["actions"] is False
        sizes = [v for d in walk(spec) for k, v in d.items() if k.lower().endswith("fontsize")]
        assert sizes and min(sizes) >= 12, name
        said = json.dumps({k: v for k, v in spec.items() if k != "datasets"}).lower()
        assert not re.search(r'"(black|white|#000|#fff|#000000|#ffffff)"', said), name


def test_axes_are_named(every):
    for name, (chart, _) in every.items():
        for node in walk(chart.to_dict()):
            for channel in ("x", "y"):
                axis = node.get("encoding", {}).get(channel)
                if axis and not (name == "bars" and channel == "y"):
                    named = axis.get("title") or axis.get("axis", {}).get("title") or "low" in axis["field"]
                    assert named, (name, channel)


def test_bands_are_the_intervals(every):
    for name in ("layers", "models", "dose"):
        spec = every[name][0].to_dict()
        bands = [n["encoding"] for n in walk(spec) if n.get("mark", {}) and n["mark"].get("type") == "area"]
        assert [(b["y"]["field"], b["y2"]["field"]) for b in bands] == [("low", "high")], name
    rules = [n for n in walk(every["bars"][0].to_dict()) if n.get("mark", {}) and n["mark"].get("type") == "rule"]
    assert "color" not in rules[0]["mark"], "the page's own, to be seen on every bar"
    assert [(r["encoding"]["x"]["field"], r["encoding"]["x2"]["field"]) for r in rules] == [("low", "high")]


def test_null_is_drawn_and_named(every):
    spec = every["layers"][0].to_dict()
    [null] = [layer for layer in spec["layer"] if layer["encoding"]["y"].get("field") == "null_high"]
    # a control has no null, and its empty rows would cut the line
    assert "isValid(datum.null_high)" in null["transform"][-1]["filter"]
    assert "Dotted: what chance reaches" in spec["usermeta"]["notes"]


def test_values_reach_the_chart_unchanged(every):
    for name, (chart, table) in every.items():
        data = max(chart.to_dict()["datasets"].values(), key=len)
        column = "x" if name == "trajectories" else "value"
        assert np.allclose([row[column] for row in data], table[column], rtol=1e-4), name


def test_controls_are_bound_to_what_the_table_holds(every):
    def inputs(name):
        return {p["name"]: p["bind"] for p in every[name][0].to_dict()["params"] if "bind" in p}

    models = inputs("models")
    assert models["reading_choice"]["options"] == ["normed", "raw"]
    assert models["model_choice"]["options"] == ["hub", "islands"]
    assert models["series_choice"]["options"] == [None, "English word", "digit", "random weights"]
    matrix = inputs("matrix")["layer_choice"]
    assert (matrix["input"], matrix["min"], matrix["max"], matrix["step"]) == ("range", 0, 8, 4)
    for name in every:
        said = json.dumps(every[name][0].to_dict()["params"] if "params" in every[name][0].to_dict() else [])
        used = json.dumps([n for n in walk(every[name][0].to_dict())])
        assert all(used.count(p) > said.count(p) for p in re.findall(r"\w+_choice", said)), name


def test_english_has_one_colour_and_no_one_else_has_it(every):
    blue = STYLES["english"].colour
    for name, (chart, _) in every.items():
        for node in walk(chart.to_dict()):
            scale = node.get("color", {}).get("scale", {}) if isinstance(node.get("color"), dict) else {}
            for series, colour in zip(scale.get("domain", []), scale.get("range", []), strict=False):
                assert (colour == blue) == (series == "English word"), (name, series)
    given = styles(["a", "b", "c", "d", "e", "f", "g", "h", "i", "English"])
    assert [name for name, style in given.items() if style.colour == blue] == ["English"]


def test_series_names_give_their_type():
    assert data_type("English word") == "english"
    assert data_type("es") == data_type("English–Spanish") == "spanish"
    assert data_type("Spanish, shuffled pairs") == "control"
    assert data_type("correct") is None
    assert styles(["R"], {"R": "code"})["R"].colour == STYLES["code"].colour


def test_no_two_series_look_alike_without_colour():
    mixed = ["English word", "English distractor", "digit", "es", "zh", "random weights", "shuffled pairs", "x", "y"]
    look = styles(mixed)
    assert len({(style.dash, style.shape) for style in look.values()}) == len(mixed)
    assert len({style.dash for style in look.values()}) == len(mixed)


def _luminance(colour: str) -> float:
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_every_colour_stands_out_on_a_light_and_a_dark_page():
    for name, style in STYLES.items():
        own = _luminance(style.colour)
        for page in ("#ffffff", "#121212"):
            light, dark = sorted((own, _luminance(page)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 3, (name, page)


def test_no_colour_is_a_tint_of_that_of_english():
    def hue(name: str) -> float:
        return colorsys.rgb_to_hls(*(int(STYLES[name].colour[i : i + 2], 16) / 255 for i in (1, 3, 5)))[0]

    assert all(abs(hue(name) - hue("english")) > 0.1 for name in STYLES if name not in ("english", "control", "null"))


def test_a_legend_has_the_series_that_are_drawn(dose, curves):
    """At what its inputs are at; where all always are, it needs no list."""

    def listed(chart) -> list:
        return [
            n["legend"].get("values") for n in walk(chart.to_dict()) if n.get("legend") and "columns" in n["legend"]
        ]

    some = dose[(dose.condition == "steered") | (dose.series != "other")]
    shown = {"steered": ["correct", "unchanged", "other"], "reversed": ["correct", "unchanged"]}
    charts = [figures.stacked(some, switch=("condition",), **WORDS)]
    charts.append(figures.curves(some, x="strength", y="share", switch=("condition",), **WORDS))
    for chart in charts:
        assert {json.dumps(of) for of in listed(chart)} == {
            json.dumps({"expr": f"{json.dumps(shown)}[join([condition_choice], '|')]"})
        }
    assert {*listed(figures.stacked(dose, switch=("condition",), **WORDS))} == {None}
    mine = curves[curves.reading == "raw"].assign(pair=lambda t: t.series)
    [own] = {json.dumps(of) for of in listed(figures.curves(mine, y="p", select="pair", **WORDS))}
    assert '\\"digit\\": [\\"digit\\", \\"null\\"]' in own and "[pair_choice]" in own


def test_ticks_are_even_and_do_not_touch(every):
    for name, (chart, _) in every.items():
        spec = chart.to_dict()
        assert spec["config"]["axisX"]["labelSeparation"] >= 8 and '"greedy"' not in json.dumps(spec), name


def test_a_slider_that_ends_before_the_last_layer_says_so(every):
    cells = every["matrix"][1].assign(depth=lambda t: t.layer / 12)
    spec = figures.heatmap(cells, x="column", y="row", value_title="cosine", **WORDS).to_dict()
    assert [p["bind"]["name"] for p in spec["params"]] == ["layer (of 12): "]


def test_ticks_read_layer_and_depth_only_where_layers_agree(curves):
    def axis(table):
        spec = figures.curves(table, y="p", **WORDS).to_dict()
        return spec["layer"][-1]["encoding"]["x"]["axis"]

    same = axis(curves)
    assert "datum.value * 8" in same["labelExpr"] and same["title"] == "layer (relative depth)"
    other = curves.assign(depth=np.where(curves.model == "hub", curves.depth, curves.layer / 16))
    assert "labelExpr" not in axis(other)


def test_a_switch_shows_one_value_of_any_column_at_a_time(curves, dose):
    """And the dose may be of something else."""
    both = pd.concat([dose.assign(language=name) for name in ("Spanish", "zh")])
    charts = [figures.curves(curves[curves.reading == "raw"], y="p", switch=("model",), **WORDS)]
    given = {"x": "strength", "x_title": "pads", "switch": ("language", "condition")}
    charts.append(figures.curves(both, y="share", **given, **WORDS))
    for chart, columns in zip(charts, (["model"], ["language", "condition"]), strict=True):
        spec = chart.to_dict()
        filters = [t["filter"] for node in walk(spec) for t in node.get("transform", []) if "filter" in t]
        for column in columns:
            [switch] = [p for p in spec["params"] if p["name"] == f"{column}_choice"]
            assert switch["value"] == switch["bind"]["options"][0]
            assert sum(f"datum.{column} === {column}_choice" in f for f in filters) >= 2  # lines and points at least
    assert {node["encoding"]["x"]["title"] for node in walk(spec) if "x" in node.get("encoding", {})} == {"pads"}


def test_rows_of_a_control_are_grey_lines_of_their_series(curves):
    es, zh = (curves[curves.series == s].assign(series=t) for s, t in (("digit", "Spanish"), ("English word", "zh")))
    parts = [part.assign(control=name) for part in (es, zh) for name in ("", "embeddings", "an odd name")]
    table = pd.concat(parts).astype({"layer": "Int64", "n": "Int64"})
    chart = figures.curves(table[table.model == "hub"], y="cosine", **WORDS)
    spec = chart.to_dict()
    line = next(
        n
        for n in walk(spec)
        if n.get("mark", {}) and n["mark"].get("type") == "line" and "field" in n["encoding"].get("strokeDash", {})
    )
    look = dict(zip(*(line["encoding"]["color"]["scale"][k] for k in ("domain", "range")), strict=True))
    grey = STYLES["control"].colour
    assert [name for name, colour in look.items() if colour == grey] == ["embeddings", "an odd name", "null"]
    assert [*look][:2] == ["Spanish", "zh"] and spec["usermeta"]["ends"] == [*look][:-1], "series first, the null last"
    [band] = [n for n in walk(spec) if n.get("mark", {}) and n["mark"].get("type") == "area"]
    assert "datum.of === datum.series" in band["transform"][-1]["filter"], "no bands of controls"
    typed = figures.curves(es, y="cosine", types={"Spanish": "control"}, **WORDS).to_dict()
    assert 'indexof(["Spanish"], datum.series) < 0' in json.dumps(typed).replace('\\"', '"'), "however these are named"
    assert {d["field"] for d in line["encoding"]["detail"]} == {"of"}
    data = next(iter(spec["datasets"].values()))
    assert {(row["of"], row["series"]) for row in data} == {
        (of, name) for of in ("Spanish", "zh") for name in (of, "embeddings", "an odd name")
    }
    [menu] = [p["bind"] for p in spec["params"] if p["name"] == "of_choice"]
    assert menu["options"] == [None, "Spanish", "zh"] and menu["name"] == "null and controls of: "
    bare = figures.curves(table[table.model == "hub"].drop(columns="null_high"), y="cosine", **WORDS).to_dict()
    assert [p["bind"]["name"] for p in bare["params"] if p["name"] == "of_choice"] == ["controls of: "]


def test_a_model_of_many_layers_is_drawn_one_layer_in_so_many():
    """The same layers for every series, the first and each model's last among them; the table keeps all."""
    series = ["English word", "digit", "own", "es", "zh", "de", "code", "special"]

    def table(n_layers: int = 80, **more) -> pd.DataFrame:
        cells = itertools.product(series, "abcd", ("normed", "raw"), range(n_layers + 1))
        rows = pd.DataFrame(cells, columns=["series", "text", "reading", "layer"])
        return rows.assign(depth=rows.layer / n_layers, value=rows.layer / 7, x=rows.layer, y=1.0, **more)

    def drawn(chart) -> tuple[dict, pd.DataFrame]:
        spec = chart.to_dict()
        return spec, pd.DataFrame(max(spec["datasets"].values(), key=len))

    long = table()
    assert len(long) == 5184
    words = pd.DataFrame({"word": ["one"], "series": ["English word"], "x": [0.0], "y": [0.0]})
    charts = {
        "curves": figures.curves(long, y="p", switch=("text", "reading"), **WORDS),
        "matrix": figures.heatmap(long, x="series", y="text", value_title="cosine", **WORDS),
        "map": figures.heatmap(long, x="series", y="layer", value_title="cosine", **WORDS),
        "paths": figures.trajectories(long.assign(item=long.series + long.text), words, **WORDS),
    }
    for name, chart in charts.items():
        spec, data = drawn(chart)
        for _, of in data.groupby("series"):
            assert sorted(set(of.layer)) == [*range(0, 81, 2)], name
        assert "One layer in 2 is drawn, and the last." in spec["usermeta"]["notes"], name
    assert "<td>79</td>" in show(charts["curves"], long).html
    short = table(n_layers=77, model="short")
    both = pd.concat([long.assign(model="long"), short])
    spec, data = drawn(figures.curves(both, y="p", select="model", switch=("text", "reading"), **WORDS))
    assert data.groupby("model").layer.max().to_dict() == {"long": 80, "short": 77} and len(data) <= 5000
    spec, _ = drawn(figures.curves(long[long.text != "d"], y="p", switch=("text", "reading"), **WORDS))
    assert "is drawn" not in spec["usermeta"]["notes"]


def test_long_names_take_two_lines_where_there_is_little_room():
    long = "languages: language of the layers"
    rows = [f"{long} {k}" for k in range(40)]
    table = pd.DataFrame({"series": [long, "short"] * 20, "value": 1.0, "row": rows, "x": 1})
    for chart, rows in (
        (figures.bars(table, y="share", **WORDS), 2),
        (figures.heatmap(table, x="x", y="row", value_title="share", **WORDS), 30),
    ):
        spec = chart.to_dict()
        axis = next(n["encoding"]["y"]["axis"] for n in walk(spec) if "y" in n.get("encoding", {}))
        assert '["languages: language", "of the layers' in axis["labelExpr"] and "short" not in axis["labelExpr"]
        assert '{"languages: language of the layers' in axis["labelExpr"].split(" > ")[0], "and those that fit take one"
        assert spec["height"] >= 2 * axis["labelLineHeight"] * rows
    names = [long, *map(str, range(19))]
    spec = figures.bars(pd.DataFrame({"series": names, "value": 1.0}), y="share", **WORDS).to_dict()
    assert spec["height"] == 20 * 30, "two lines touch no others"


def test_a_picture_opens_where_most_words_are_true():
    cells = itertools.product(("plain", "good"), ("normed", "neighbours"), ("things", "all"), (0, 4), range(4))
    table = pd.DataFrame(cells, columns=["picture", "reading", "among", "layer", "patch"])
    table = table.assign(word="red", value=0.5, rows=2, columns=2, view=[(0, 0, 1, 1)] * len(table), right=False)
    images = dict.fromkeys(("plain", "good"), Image.new("RGB", (4, 4)))

    def opens(layer, some):
        spec = figures.overlay(some, images, layer=layer, **WORDS).to_dict()
        return {p["name"]: p["value"] for p in spec["params"] if "bind" in p}, spec["usermeta"]["notes"]

    first, notes = opens(4, table)
    assert (first["picture_choice"], first["reading_choice"]) == ("plain", "normed") and "Opens" not in notes
    best = (table.picture == "good") & (table.reading == "neighbours") & (table.among == "things") & (table.layer == 4)
    first, notes = opens(3, table.assign(right=best))
    assert (first["picture_choice"], first["reading_choice"], first["among_choice"]) == ("good", "neighbours", "things")
    assert "Opens where most words are true: good, neighbours." in notes
    true = table.assign(right=best & (table.patch > 0))
    true = pd.concat([true, true.assign(picture="better", right=best), true.assign(picture="none", right=False)])
    shown = Finding(None, true).truest(3, most=2).table.picture.unique()
    assert [*shown] == ["good", "better"] and [*figures.true_words(true, 3)["better"]] == [0, 4]
    assert [*Finding(None, true).truest(3, most=1).table.picture.unique()] == ["better"]


def test_missing_words_are_refused(curves):
    with pytest.raises(SemhubError, match="no title or no alt text"):
        figures.curves(curves, y="p", title="A title?", alt=" ")


def parsed(html: str) -> ET.Element:
    return ET.fromstring(html)


def test_data_table_equals_the_data_and_is_accessible(curves):
    table = curves.assign(note="<script>&", p=np.nan)
    details = parsed(data_table(table, 'Say "x" & <y>'))
    head = details.findall(".//thead/tr/th")
    assert [th.text for th in head] == list(table.columns) and {th.get("scope") for th in head} == {"col"}
    rows = details.findall(".//tbody/tr")
    assert len(rows) == len(table) and {row[0].get("scope") for row in rows} == {"row"}
    value = list(table.columns).index("value")
    assert np.allclose([float(row[value].text) for row in rows], table.value, rtol=5e-3)
    assert {row[-1].text for row in rows} == {"<script>&"}
    assert {row[list(table.columns).index("p")].text for row in rows} == {"–"}
    assert details.find(".//caption").text == 'Say "x" & <y>'
    assert details.find("div").get("tabindex") == "0"


def test_show_puts_chart_and_table_together(every):
    chart, table = every["layers"]
    table = table.assign(empty=np.nan, control="")
    shown = show(chart, table)
    html = shown._repr_html_()
    assert html.index("vegaEmbed") < html.index('class="data-table"')
    assert repr(shown) == WORDS["alt"] and WORDS["alt"] in html
    head = re.findall(r'<th scope="col">([^<]+)<', html)
    assert head == ["reading", "series", *(f"layer {k}" for k in range(9))], "what says nothing is left out"
    assert "(value [95% interval], 95th percentile of the null by layer; experiment: lens; model: hub; n: 50" in html
    ids = re.findall(r'<div id="(altair-viz-\w+)"', html + show(chart, table).html)
    assert len(set(ids)) == 2, "two copies of a chart on a page must not share an id"


def test_a_readers_table_keeps_every_value_beside_its_interval(curves, dose):
    told, said = compact(curves)
    assert len(told) == 12 and told.shape[1] == 3 + 9 and "dropped: 2" in said
    row = curves[(curves.model == "islands") & (curves.reading == "raw") & (curves.series == "digit")].iloc[4]
    shown = told[(told.model == "islands") & (told.reading == "raw") & (told.series == "digit")]["layer 4"].item()
    assert shown == f"{row.value:.3g} [{row.low:.3g}, {row.high:.3g}], 0.3"
    mine, _ = compact(curves.assign(control=lambda t: t.series.where(t.series == "random weights", None), p=None))
    assert len(mine) == 12 and set(mine.control) == {"–", "random weights"}
    doses, said = compact(dose)
    assert len(doses) == len(dose) and said == "n: 9" and doses.iloc[0, -1] == "0.333 [0.2, 0.4]"
    twice, _ = compact(pd.concat([curves, curves.assign(value=0.0)]))
    assert len(twice) == 2 * len(curves), "two values at one place are not laid over each other"


def test_curves_that_share_no_tokens_have_a_column_for_each_series():
    rows = [
        {"model": m, "tokens": 10 * k + (m == "b"), "step": k, "series": s, "value": k + 0.5, "n": 5 + (s == "x")}
        for m in "ab" for k in range(1, 4) for s in "xy"
    ]  # fmt: skip
    told, said = compact(pd.DataFrame(rows))
    assert list(told.columns) == ["model", "tokens", "x", "y"] and len(told) == 6 and said == "value by series"
    assert told.x.tolist() == [1.5, 2.5, 3.5] * 2 and told.tokens.tolist() == ["10", "20", "30", "11", "21", "31"]
    together, _ = compact(pd.DataFrame([row | {"tokens": 10 * row["step"]} for row in rows]))
    assert list(together.columns)[-3:] == ["tokens 10", "tokens 20", "tokens 30"] and len(together) == 4


def test_cells_are_rounded_for_readers():
    told = {
        "0.123": 0.123456, "12346": 12345.678, "3": 3.0, "7": np.int64(7), "–": None, "none": {}, "yes": True,
        "inf": np.inf, "same token: 2": {"same token": 2}, "1, 0.5": [1, 0.5], "1.2e-09": 1.2e-9,
    }  # fmt: skip
    assert {cell_text(value): value for value in told.values()} == told and cell_text(np.nan) == "–"


def test_a_line_that_only_looks_like_a_control_is_always_shown(curves):
    """Only controls of a series are hidden with it; the menu is of the null alone then."""
    one = curves[(curves.model == "hub") & (curves.reading == "raw")]
    spec = figures.curves(one, y="p", types={"digit": "control"}, **WORDS).to_dict()
    [line] = [n for n in walk(spec) if n.get("mark", {}) and n["mark"].get("type") == "line" and "filter" not in str(n)]
    assert line["encoding"]["y"]["field"] == "value"
    [menu] = [p["bind"]["name"] for p in spec["params"] if p["name"] == "series_choice"]
    assert menu == "null of: " and "whose null it is" in spec["usermeta"]["notes"]


def test_the_null_is_in_the_legend_and_one_series_alone_is_solid(curves):
    one = curves[(curves.model == "hub") & (curves.series != "English word")]
    blank = one.series == "random weights"
    one = one.assign(control=one.series.where(blank), series="digit")
    spec = figures.curves(one, y="p", switch=("reading",), **WORDS).to_dict()
    nulls = [n["encoding"] for n in walk(spec) if n.get("encoding", {}).get("y", {}).get("field") == "null_high"]
    assert [(of["color"], of["strokeDash"]) for of in nulls] == [({"datum": "null"}, {"datum": "null"})]
    [scale] = [n["strokeDash"]["scale"] for n in walk(spec) if "scale" in n.get("strokeDash", {})]
    assert scale["domain"] == ["digit", "random weights", "null"] and scale["range"][0] == [1, 0]
    assert [1, 0] not in scale["range"][1:]


def test_names_and_titles_fit(curves, dose):
    long = "own minus other (nats; as released, probability)"
    [title] = {
        " / ".join(n["y"]["title"])
        for n in walk(figures.curves(curves, y=long, **WORDS).to_dict())
        if "title" in n.get("y", {})
    }
    assert title == "own minus other (nats; as / released, probability)"
    bars = [
        figures.bars(dose.assign(series=names), y="p", **WORDS).to_dict()
        for names in (["x", "code", "y"] * 6, ["es", "zh", "x"] * 6)
    ]
    looks = [
        n["color"]["scale"]["range"] for spec in bars for n in walk(spec) if "color" in n and "scale" in n["color"]
    ]
    assert len({*looks[0]}) == 1 and len({*looks[1]}) == 3, "one colour where it says nothing"
    assert "min(260" in json.dumps(bars[0]["layer"][0]["encoding"]["y"])
    cells = pd.DataFrame({"time": [0.0625, 0.1875, 0.0625], "layer": [0, 0, 1], "value": [1.0, 2, 3]})
    spec = figures.heatmap(cells, x="time", y="layer", value_title="p", **WORDS).to_dict()
    assert spec["layer"][0]["encoding"]["x"]["axis"]["format"] == ".0%"
    assert spec["usermeta"]["notes"] == "Grey cells: not measured." and spec["view"]["fillOpacity"]
    full = figures.heatmap(dose[dose.series == "other"], x="strength", y="condition", value_title="p", **WORDS)
    assert full.to_dict()["usermeta"]["notes"] == "" and not full.to_dict()["view"]["fillOpacity"]
    greys = styles(["own", *map("control {}".format, range(6)), "wrong own", "null"], {"wrong own": "null"})
    assert [name for name, look in greys.items() if look.dash in ((2, 3), (2, 2), (3, 3))] == ["null"]
    looks = styles(["hub", "islands", "hub, seed 1"])
    assert looks["hub"].colour == styles(["planted", "hub"])["hub"].colour == looks["hub, seed 1"].colour

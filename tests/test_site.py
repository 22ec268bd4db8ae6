"""The site's pipeline on placeholder chapters: what is staged, what a page may load, what a reader is told."""

import hashlib
import html
import json
import re
import sys
from copy import deepcopy
from pathlib import Path
from urllib.parse import unquote

import altair
import nbformat
import pytest
from launch import ROOT
from placeholder import chart, notebook, write_executed

from semhub_utils import book, holds, identity, markup, onfile, rows, site
from semhub_utils.errors import SemhubError
from semhub_utils.experiments import raising
from semhub_utils.results import SCHEMA
from semhub_utils.verdicts import RULES

VENDOR = ROOT / "book/_static/vendor"
MANIFEST = json.loads((VENDOR / "manifest.json").read_text("utf-8"))
sys.path.append(str(ROOT / "book/_ext"))
import offline  # noqa: E402

LOADS = re.compile(
    r"""<(?:script|link|img|iframe|source|object|embed)\b[^>]*?\b(?:src|href|data)\s*=\s*["']?([^"'\s>]+)"""
)
STYLE_LOADS = re.compile(r"""(?:url\(|@import\s+)\s*["']?((?:https?:)?//[^"')\s]+)""")
OUTSIDE = re.compile(r"^(?:https?:)?//")
CHAPTERS = [chapter.stem for chapter in book.chapters(ROOT)]
NOT_BELOW = {"window": [2], "n_layers": 4, "layers": [2], "p": [0.00002], "contrasts": {}, "least_p": 0.00002}
NOT_BELOW |= {"values": [0.5], "low": [0.4], "high": [0.6], "null_high": [0.1], "controls": {}}
ABOUT = {"row": 5, "paper": "So.", "by": "", "evidence": NOT_BELOW, "verdict": "holds", "experiment": "similarity"}
ABOUT |= {"claim": "It is.", "statistic": 0.5, "least": 0.05, "unit": "nats", "where": ["middle"], "layer": 2}
ABOUT |= {"series": "digits", "reading": "raw", "form": "", "condition": "", "low": 0.4, "high": 0.6, "p": 0.01}
ABOUT |= {"n": 40, "n_units": 40, "n_layers": 4, "passes": [], "units": {}, "controls": {}}
RUN = {
    "schema": SCHEMA,
    "provenance": {
        "chapter": "03_arithmetic",
        "model": "a/model",
        "revision": None,
        "seconds": 61.4,
        "peak_memory_bytes": 812 * 2**20,
        "finished": "2026-11-22T18:00:00+00:00",
        "versions": {"torch": "9.8.7"},
        "parameters": {"dtype": "float32", "seed": 0},
        "forwarded": {"read": 1.034, "edit": 1.2},
        "data": "",
    },
    "claims": [
        ABOUT | {"id": "arithmetic/similarity/digits"},
        ABOUT | {"id": "arithmetic/similarity/words", "verdict": "explained by", "by": "last layer"},
        ABOUT | {"id": "arithmetic/patch/digits", "row": "own", "paper": None},
    ],
}
OTHER = {"schema": SCHEMA, "provenance": RUN["provenance"] | {"model": "b", "revision": "step1"}, "claims": []}
OTHER["claims"] = [ABOUT | {"id": "arithmetic/similarity/digits", "verdict": "holds weakly"}]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The book with placeholder chapters, warnings as errors."""
    folder = tmp_path_factory.mktemp("site")
    for name, written in {"a-model": RUN, "b": OTHER, "old": RUN | {"schema": 2}}.items():
        (folder / "results" / name).mkdir(parents=True)
        (folder / "results" / name / "03_arithmetic.claims.json").write_text(json.dumps(written))
    executed = write_executed(folder / "executed", CHAPTERS)
    site.build_site(executed, folder / "html", folder / "results", root=ROOT, strict=True)
    return folder / "html"


def test_what_a_sweep_costs_comes_from_what_runs_took():
    """Ten times the chapters' mean: 1 h and 2 h of one, 4 h of the other alone, 36,000 tokens in one of the hours."""
    one = onfile.Held("a/b", runs={"code": {"seconds": 3600, "tokens": {"read": 30_000, "edit": 6_000}}})
    other = onfile.Held("a/c", runs={"code": {"seconds": 7200}, "used": {"seconds": 14_400}})
    said = site.sweep_cost([one, other])
    assert (
        "At their mean times, on one core" in said
        and "all 2 take 5.5 hours a model" in said
        and "at 10 tokens a second" in said
    )
    assert "10 such models take 55 hours, or 7 with 8 chapters at a time." in said
    assert "seconds" not in site.sweep_cost([other]) and site.sweep_cost([]).startswith("No results")


def test_every_document_of_the_contents_is_a_page(built):
    for name in book.documents(ROOT):
        assert (built / f"{name}.html").is_file()
    assert 'url=book/index.html"' in (built / "index.html").read_text()


def test_chapters_stand_in_parts_in_the_order_of_their_numbers(built):
    """In titles, sections and the contents; and the front page has the same parts."""
    parts = site.parts(ROOT)
    assert [*parts] == ["Foundations", "Text", "Senses", "The last question"]
    assert sum(parts.values(), []) == CHAPTERS == sorted(CHAPTERS), "the contents have the order of the numbers"
    front = (built / "book/index.html").read_text("utf-8")
    for name in CHAPTERS:
        number, page = int(name.partition("_")[0]), (built / f"notebooks/{name}.html").read_text("utf-8")
        assert f"<title>{number}. Chapter {name}" in page and f'section-number">{number}.1. </span>A figure' in page
        assert re.search(rf'href="../notebooks/{name}.html">{number}. Chapter', front)
    tiles = re.findall(r'<h3>(.*?)</h3><ol class="tiles">(.*?)</ol>', front, re.DOTALL)
    assert {part: re.findall(r"notebooks/(\w+).html", items) for part, items in tiles} == parts


def test_marks_of_strips_are_explained_once_on_a_page(built):
    made = notebook("03_arithmetic")
    made.cells.append(deepcopy(made.cells[-1]))
    assert sum('class="strip-key"' in str(cell.get("outputs")) for cell in made.cells) == 2
    assert str(site.clean(made)).count('class="strip-key"') == 1
    assert (built / "notebooks/03_arithmetic.html").read_text("utf-8").count('class="strip-key"') == 1


def test_works_are_listed_by_author_and_year_and_each_trap_leads_to_its_chapter(built):
    listed = re.findall(r'<span class="label">(.*?)</span>\s*<p>', (built / "book/bibliography.html").read_text(), re.S)
    labels = [re.sub(r"<[^>]*>|[\[\]]", "", one) for one in listed]
    assert len(labels) > 20 and "Wu et al., 2025" in labels and len(labels) == len({*labels})
    assert all(re.fullmatch(r"\D+, \d{4}[a-h]?", label) for label in labels)
    traps = re.findall(
        r"<h2>(?! Contents).*?(?=<h2>|</article>)", (built / "book/traps.html").read_text("utf-8"), re.DOTALL
    )
    assert len(traps) == 10 and all("../notebooks/" in trap for trap in traps)


def test_the_switch_of_colours_says_what_it_does(built):
    text = (built / "book/index.html").read_text("utf-8")
    [switch] = re.findall(r"<button[^>]*theme-switch-button[^>]*>", text)
    assert switch.count("press to change") == 2 and "Color mode" not in text


def test_pages_load_what_is_there_and_nothing_from_outside(built):
    pages = list(built.rglob("*.html"))
    assert len(pages) > len(list(book.documents(ROOT)))
    for page in pages:
        text = page.read_text("utf-8")
        assert "cdn.jsdelivr.net" not in text and "unpkg.com" not in text
        for address in LOADS.findall(text):
            assert not OUTSIDE.match(address), page.name
            target = address.partition("?")[0].partition("#")[0]
            if target and not address.startswith("data:") and "_static" not in page.parts:  # a template of the theme
                assert (page.parent / target).exists(), f"{page.name} asks for {address}"
    for style in built.rglob("*.css"):
        assert STYLE_LOADS.findall(style.read_text("utf-8")) == [], style.name


def test_charts_keep_their_specification(built):
    text = (built / "notebooks/03_arithmetic.html").read_text("utf-8")
    [data] = re.findall(r'<div class="semhub-vega".*?><script type="application/json">(.*?)</script>', text, re.DOTALL)
    spec, wanted = json.loads(data), chart().to_dict()
    assert spec["description"] == wanted["description"]
    assert spec["encoding"] == wanted["encoding"]
    assert [p["name"] for p in spec["params"]] == [p["name"] for p in wanted["params"]]


def test_a_chart_is_a_picture_where_no_script_runs(built):
    """On the page, and in the executed notebook, which others show without scripts: with its axis, as alt text says."""
    page = (built / "notebooks/03_arithmetic.html").read_text("utf-8")
    [on_page] = re.findall(r'<noscript>(<img alt=".*?" src="data:image/svg\+xml,.*?">)</noscript>', page)
    executed = nbformat.read(built / "_sources/notebooks/03_arithmetic.ipynb", as_version=4)
    [html_] = [
        out.data["text/html"] for cell in executed.cells for out in cell.get("outputs", []) if "<img" in str(out)
    ]
    assert f">{on_page}</div>" in html_ and html.escape(chart().description) in on_page
    drawn = unquote(on_page)
    assert drawn.count("<svg") == 1 and ">layer</text>" in drawn
    assert markup.STILL < float(re.search(r'<svg [^>]*width="([\d.]+)"', drawn)[1]) < 1.2 * markup.STILL  # and its axis


def test_text_in_a_chart_cannot_end_its_script():
    box = offline.chart_box({"description": 'a "quoted" </script> name'})
    assert box.count("</script>") == 1
    assert json.loads(re.search(r"json\">(.*)</script>", box)[1])["description"] == 'a "quoted" </script> name'


def test_figures_and_claims_have_an_address(built):
    text = (built / "notebooks/03_arithmetic.html").read_text("utf-8")
    assert (
        '<figure class="semhub-figure" id="figure-3-1"><figcaption><a class="figure-number" href="#figure-3-1">' in text
    )
    assert "Figure 3.1</a> <b>A curve?</b>" in text and text.count('id="claim-toy-lens-') == len(RULES)


def test_machine_only_cells_are_left_out(built):
    text = (built / "notebooks/03_arithmetic.html").read_text("utf-8")
    assert "n_items" in text
    assert "@layer semhub" not in text and "_static/findings.css" in text and (built / "_static/findings.css").is_file()
    assert "injected" not in text and "google.colab" not in text
    assert not [page for page in built.rglob("*.*") if page.is_file() and b"/somewhere/of/mine" in page.read_bytes()]
    assert 'class="colab-badge" href="https://colab.research.google.com/github/' in text


def cells(text: str, first: str) -> list[str]:
    """What stands in the row of a table that begins so."""
    row = re.search(rf"<tr[^>]*><td><p>{first}</p></td>(.*?)</tr>", text, re.DOTALL)[1]
    return [re.sub("<[^>]+>", "", cell) for cell in re.findall(r"<td.*?</td>", row)]


def test_status_tells_times_and_vendored_libraries_are_credited(built):
    text = (built / "book/status.html").read_text("utf-8")
    assert cells(text, "03_arithmetic, model") == ["61", "0.8", "1.03", "1.20"]
    assert "torch 9.8.7" in text
    credits = html.unescape((built / "book/credits.html").read_text("utf-8"))
    assert all(entry["name"] in credits for entry in MANIFEST)


def test_all_data_that_ships_is_credited_and_what_can_be_taken_away_is_there(built):
    """Every set of the samples, with its licence; and each notebook and table that the page for lecturers offers."""
    credits = html.unescape((built / "book/credits.html").read_text("utf-8"))
    samples = [path.parent.name for path in (book.PACKAGE / "samples").glob("*/LICENSE*")]
    names = {"ntrex": "NTREX-128", "cc-cedict": "CC-CEDICT"}
    assert len(samples) == 5 and all(names.get(name, name.upper()) in credits for name in samples)
    assert credits.count("CC BY-SA 4.0") == 2 and "Unicode-3.0" in credits
    teach = (built / "book/teach.html").read_text("utf-8")
    files = re.findall(r'<a href="(\.\./_[^"]+)" download', teach)
    assert len(files) == 2 * len(CHAPTERS) + 2 * len(list((ROOT / onfile.PLACE).glob("*/tables.parquet")))
    assert all((built / "book" / file).is_file() for file in files)
    assert all(f'href="exercises/{name}.html"' in teach for name in CHAPTERS)
    assert "word vector: 9" in (built / "book/exercises/03_arithmetic.html").read_text("utf-8"), "as printed"


def test_names_of_code_go_on_below_behind_their_joints():
    one = '<code class="a_b c"><span class="pre">a/b_c.parquet-0.5 --set</span></code> a/b'
    told = '<code class="a_b c"><span class="pre">a/<wbr>b_<wbr>c.<wbr>parquet-<wbr>0.5 --set</span></code> a/b'
    assert offline.CODE.sub(offline.jointed, one) == told


def test_what_holds_is_made_of_all_results_that_can_be_read(built):
    """By model; results of another schema are named; a model's claims are a script of their own."""
    page = (built / "book/what_holds.html").read_text("utf-8")
    told = json.loads(re.search(r'class="holds full-width"><script[^>]*>(.*?)</script>', page, re.DOTALL)[1])
    labels = [model["label"] for model in told["models"]]
    assert {"model", "b@step1"} <= {*labels}
    [five] = [row for row in told["rows"] if row["key"] == "5"]
    said = {label: cell["said"] for label, cell in zip(labels, five["cells"], strict=True)}
    assert said["model"] == "holds for digits" and said["b@step1"] == "holds weakly"
    assert "no results of schema" in page and "2 of the 2 remain" in page
    assert "holds.js" in page and (built / "_static/holds.js").is_file()
    index = (built / "_static/holds/models.js").read_text("utf-8")
    for model in json.loads(index.partition("=")[2].rstrip(";\n")):
        data = (built / f"_static/holds/{model['slug']}.js").read_text("utf-8")
        assert json.loads(data.partition(",")[2].rpartition(")")[0])["label"] == model["label"]
    page = (built / "book/run_on_your_model.html").read_text("utf-8").replace("<wbr>", "")
    assert "a/model" in page and "61 s" in page
    shown = next(one for one in onfile.read_all([ROOT / onfile.PLACE])[0] if not one.known)
    assert f"We ran {len(shown.runs)} chapters of The Semantic Hub on {shown.name}" in page


def test_the_front_page_answers_from_results_and_leads_to_every_chapter(built):
    """The answer, the figure and the tiles are those of the results, and no formula is asked for."""
    page = html.unescape((built / "book/index.html").read_text("utf-8"))
    assert sum(items.count("../notebooks/") for items in re.findall(r'class="tiles".*?</ol>', page, re.DOTALL)) == 13
    assert [name for name in CHAPTERS if f'href="../notebooks/{name}.html"' not in page] == []
    answers = raising.abroad()  # by model, and the figure is by language
    told = [
        f"{value:.0%}"
        for pair in zip(*(some.value for _, some in answers.groupby("training")), strict=True)
        for value in pair
    ]
    assert re.findall(r'class="bar".*?<b>(.*?)</b>', page) == told and len(told) == 8
    text = (built / f"notebooks/{CHAPTERS[2]}.html").read_text("utf-8")
    assert "Time to read: 1 minutes" in text and "99 minutes" not in text and f"<title>3. Chapter {CHAPTERS[2]}" in text
    assert "Do equal meanings meet?</strong> <em>" in page and "Is it used?</strong>" in page
    asked, brief, hero = map(page.index, ("and sound?</strong>", "Is it used? On public models", 'class="semhub-live"'))
    assert asked < page.index("Wu and colleagues say") < brief < hero, "a hub is told before it is counted"


def test_the_answer_is_of_the_verdicts():
    """A planted yes and a planted no: with the verdict turned, the word is another one."""

    def said(*verdicts: str) -> str:
        rows = {5: "digits", 14: "captions"}
        claims = [
            ABOUT | {"id": f"a/b/{rows[row]}", "chapter": "a", "row": row, "verdict": verdict}
            for row, verdict in zip(rows, verdicts, strict=True)
        ]
        return holds.in_short([onfile.Held("m", claims)]).splitlines()[0]

    assert "*Yes.* Of 2 that could be tested, 2 hold (arithmetic: similarity; vision: similarity)." in said(
        "holds", "holds"
    )
    assert "*In part.* Of 2 that could be tested, 1 holds (" in said("holds", "does not hold")
    assert "*No.*" in said("does not hold", "explained by")
    assert "*Not decided.*" in said("does not hold", "inconclusive")  # as in the chapters
    assert "1 too uncertain to tell" in said("holds", "inconclusive")
    assert "None could be tested" in said("cannot be tested here", "cannot be tested here")
    assert holds.in_short([]).strip() == "" == holds.in_brief([]).strip()


def test_a_trap_that_was_shown_is_no_finding():
    """It has a row, and a group, of its own; no answer, table or tile counts it; each of them is claimed on file."""
    names = [f"{trap}/x" for trap in rows.TRAPS] + ["fooled/other/x"]
    claims = [
        ABOUT | {"id": name, "chapter": "fooled", "row": "own", "paper": None, "n": 40 + k}
        for k, name in enumerate(names)
    ]
    held = [onfile.Held("m", claims, {"fooled": {"seconds": 1}})]
    group = {row["key"]: row["group"] for row in holds.matrix(held)}
    assert [key for key, of in group.items() if of == holds.TRAPPED] == [*rows.TRAPS] == [*group][-len(rows.TRAPS) :]
    assert group["fooled/other"] == holds.OWN and "*Yes.* Of 1 that could be tested, 1 holds." in holds.in_short(held)
    assert "<td>1 of 1</td>" in holds.small(held)
    page = {"cells": [{"source": "# Title\n\n**Why?**"}]}
    assert "✔1<" in site.tiles({"04_fooled": (page, "")}, held, {"Part": ["04_fooled"]})
    [hub, *_], _ = onfile.read_all([ROOT / onfile.PLACE])
    assert {*rows.TRAPS} <= {*rows.own_claims(hub.claims)}


def test_a_model_of_the_book_has_one_name_on_all_pages(built):
    """Commands alone take the longer one; what is downloaded is called by the one name too."""
    beside = r"<(script|style|code)\b.*?</\1>|<div class=\"highlight.*?</pre>|<[^>]+>"
    for page in (built / "book").rglob("*.html"):
        if "api" not in str(page.relative_to(built)):
            assert re.findall(r"organism[:-]\w+", re.sub(beside, " ", page.read_text("utf-8"), flags=re.DOTALL)) == []
    teach = (built / "book/teach.html").read_text("utf-8")
    assert 'organism-hub/tables.parquet" download="hub-tables.parquet"' in teach
    data = (built / "_static/holds/organism-hub.js").read_text("utf-8")
    assert '"label":"hub","name":"hub"' in data and identity.called("random:organism:hub") == "hub, random weights"
    held = onfile.Held("m", runs={"a": {"seconds": 3, "model": "organism:hub"}})
    assert "to run: 3 s on hub" in site._times({"cells": []}, "a", [held])


def test_the_package_is_told_on_pages_by_topic(built):
    """Which the short page leads to; each module on one of them, where the index of modules finds it."""
    front, pages = (built / "book/api.html").read_text("utf-8"), sorted((built / "book/api").glob("*.html"))
    assert len(pages) == 6 and "<dt" not in front and len(front) < 60_000
    told = {page: page.read_text("utf-8") for page in pages}
    assert all(f'href="api/{page.name}"' in front for page in pages)
    at = {of: page.name for page, text in told.items() for of in re.findall(r'id="(module-semhub_utils[\w.]*)"', text)}
    assert len(at) == sum(text.count('id="module-semhub_utils') for text in told.values()) == 32
    index = (built / "py-modindex.html").read_text("utf-8")
    assert all(f'href="book/api/{page}#{of}"' in index for of, page in at.items())
    assert max(map(len, told.values())) < sum(map(len, told.values())) / 3


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        ("holds", "**yes** (yes in {0} of {0} tests; {1} not made yet)"),
        ("does not hold", "**no** (yes in 0 of {0} tests; {1} not made yet)"),
    ]
    + [("holds weakly", "**yes** (yes in {0} of {0} tests, weakly; {1} not made yet)")]
    + [("cannot be tested here", "it **could not be tested**")],
)
def test_the_answer_in_a_line_is_of_the_verdicts(verdict, said):
    claim = ABOUT | {"id": "a/b/digits", "chapter": "a", "verdict": verdict}
    of = {name: onfile.Held(name, [claim]) for name in ("organism:m", "x/a", "x/b")}
    meet, read, used, _, named = holds.in_brief([*of.values()]).splitlines()
    on_both = "On public models {}, on the book's own *m* {}."
    assert meet == f"- Do equal meanings meet? {on_both.format(said.format(2, 4), said.format(1, 2))}"
    assert read.partition("? ")[2] == used.partition("? ")[2] == on_both.format(*2 * ["it was **not tested**"])
    assert "The public models: a, b." in named
    assert "ublic models" not in holds.in_brief([of["organism:m"]])


def test_a_tile_counts_what_is_read_and_what_was_found():
    """Words in folds and styles are not read; 230 words and three figures take two minutes."""
    words, folded = "word " * 210, f"<details><summary>Data</summary>{'x ' * 900}</details><style>{'a ' * 900}</style>"
    under = f"\n:::{{dropdown}} More\n{'x ' * 900}\n:::\n"
    cells = [
        nbformat.v4.new_markdown_cell(f"# Title\n\n**Is *it* so?**\n\n{words}{under}"),
        nbformat.v4.new_code_cell("x = 1"),
    ]
    figures = '<figure class="semhub-figure">a</figure>' * 3 + folded
    cells[1].outputs = [nbformat.v4.new_output("display_data", {"text/html": figures})]
    made = nbformat.v4.new_notebook(cells=cells)
    assert site.minutes(made) == 2
    claims = [claim | {"chapter": "arithmetic"} for claim in RUN["claims"]]
    one = onfile.Held("m", claims, {"arithmetic": RUN["provenance"]})
    pages = {"03_arithmetic": (made, site._times(made, "arithmetic", [one]))}
    tile, bare = (site.tiles(pages, some, {"Part": ["03_arithmetic"]}) for some in ([one], []))
    assert "3. Title" in tile and "Is <em>it</em> so?" in tile
    assert "Time to read: 2 minutes, to run: 61 s on a/model" in tile
    assert re.findall(r">([✔≈✘])(\d)<", tile) == [("✔", "2"), ("≈", "1")] and "holds" not in bare
    made.cells[0].source += "\n" + words * 2
    assert site.minutes(made) == 4


def test_a_build_without_results_says_so(tmp_path):
    assert site.status_table([]).startswith("No results were found")
    assert "No results were found" in holds.as_html([]) and holds.small([])


def test_nothing_is_written_beside_the_sources(built):
    assert not (ROOT / "book/_generated").exists()
    assert not list((ROOT / "notebooks").glob("*.html"))


def test_what_is_missing_is_named(tmp_path):
    first, *rest = CHAPTERS
    with pytest.raises(SemhubError, match=f"{first} was not executed"):
        site.build_site(write_executed(tmp_path, rest), tmp_path / "html", tmp_path, root=ROOT)
    with pytest.raises(SemhubError, match=re.escape(str(tmp_path))):
        book.chapters(tmp_path)


def test_faulty_pages_fail_a_strict_build_and_are_named(tmp_path, capfd):
    silent = chart().properties(description="")
    faults = {
        "01_hypothesis": '<script src="https://example.org/a.js"></script>',
        "02_instruments": silent.to_html(fullhtml=False, template="universal"),
        "03_arithmetic": chart().to_html(fullhtml=False, template="standard"),
    }
    executed = write_executed(tmp_path / "executed", CHAPTERS)
    for path in executed[:3]:
        bad = notebook(path.stem)
        bad.cells[4].outputs[0].data["text/html"] = faults[path.stem]
        nbformat.write(bad, path)
    with pytest.raises(SemhubError, match="did not build cleanly"):
        site.build_site(executed, tmp_path / "html", tmp_path, root=ROOT, strict=True)
    told = capfd.readouterr().err
    assert "01_hypothesis would load https://example.org/a.js" in told
    assert "02_instruments has no alt text" in told
    assert "03_arithmetic was not written by Altair's universal template" in told


def test_vendored_files_are_the_ones_in_the_manifest_and_draw_what_altair_writes():
    for entry in MANIFEST:
        assert entry.keys() == {"file", "name", "version", "licence", "sha256"}
        assert hashlib.sha256((VENDOR / entry["file"]).read_bytes()).hexdigest() == entry["sha256"], entry["file"]
    there = {str(p.relative_to(VENDOR)) for p in VENDOR.rglob("*") if p.is_file()} - {"manifest.json"}
    assert there == {entry["file"] for entry in MANIFEST}
    versions = {entry["name"]: entry["version"] for entry in MANIFEST}
    for name, wanted in (("vega-lite", altair.VEGALITE_VERSION), ("vega", altair.VEGA_VERSION)):
        assert versions[name].split(".")[0] == str(wanted).lstrip("v").split(".")[0]


def test_the_contents_name_files_that_exist():
    for name in book.documents(ROOT):
        assert (ROOT / f"{name}.md").is_file() or (ROOT / f"{name}.ipynb").is_file()

"""Names that would run: a model, a token, a label and a caption of HTML are shown as they are, and nothing runs."""

import shutil
import sys
from pathlib import Path

import altair as alt
import pandas as pd
import pytest

from semhub_utils import finding, holds, markup, strips
from semhub_utils.chapter import listing
from semhub_utils.onfile import read

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "book" / "_ext")]
import offline  # noqa: E402
from conftest import DESK, Visit  # noqa: E402
from test_results import Model, finished  # noqa: E402

RAN = "document.documentElement.dataset.ran"
HOSTILE = f"</script><script>{RAN} = 'script'</script><img src=x onerror=\"{RAN} = 'image'\"><svg onload={RAN}='svg'>"
KINDS = ("model", "token", "label", "caption")
NAMED = {kind: f"{kind} {HOSTILE}" for kind in KINDS}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """What `semhub compare --html` writes of such a model's results, and a page of figures, tables and answers."""
    folder = tmp_path_factory.mktemp("hostile")
    run, _ = finished(folder / "results", Model(NAMED["model"]))
    for claim in run.claims:
        claim["claim"] = NAMED["label"]
    run.finish()
    (folder / "compare.html").write_text(holds.as_page([read(run.folder)]), "utf-8")
    table = pd.DataFrame({"series": [NAMED["token"]] * 2, NAMED["label"]: ["a", "b"], "value": [1.0, 2.0]})
    about = {"title": NAMED["label"], "notes": NAMED["caption"]}
    chart = alt.Chart(table, title=NAMED["label"], usermeta=about, description=NAMED["caption"], width=300)
    chart = chart.mark_point().encode(x="value", y=alt.Y("series", title=NAMED["label"]), tooltip=["series", "value"])
    figure = finding.show(chart, table, NAMED["caption"]).html
    figure = offline.CHART.sub(lambda found: offline.chart_box(offline.specification(found["js"])), figure)
    parts = [figure, listing(table).to_html(), finding.data_table(table), markup.note(NAMED["label"]).html]
    parts.append(strips.answer(run.claims, {claim["id"]: NAMED["label"] for claim in run.claims}, NAMED["model"]).html)
    for script in offline.SCRIPTS:
        shutil.copy(ROOT / "book" / "_static" / script, folder)
    names = [script.rpartition("/")[2] for script in offline.SCRIPTS] + ["charts.js"]
    shutil.copy(ROOT / "book" / "_static" / "charts.js", folder)
    scripts = "".join(f'<script src="{name}" defer></script>' for name in names)
    head = f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>x</title>{scripts}</head>'
    (folder / "figures.html").write_text(f"{head}<body><main>{''.join(parts)}</main></body></html>", "utf-8")
    return folder


@pytest.mark.parametrize(("page", "kinds"), [("compare.html", ("model", "label")), ("figures.html", KINDS)])
def test_nothing_of_a_name_runs_and_all_of_it_is_shown(browser, pages, page, kinds):
    visit = Visit(browser, pages.as_uri() + "/", DESK).open(page)
    document = visit.page
    document.evaluate("() => document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    for place in document.query_selector_all("button, summary, .semhub-vega path"):
        if place.is_visible():
            place.hover(force=True)
    assert document.evaluate(RAN) is None and not visit.outside
    assert document.evaluate("document.querySelectorAll('main img[src=x], main svg[onload]').length") == 0
    shown = document.evaluate("document.body.innerText + document.querySelector('main').textContent")
    for kind in kinds:
        assert NAMED[kind] in shown, f"{kind} is not shown as it is"
    assert not [error for error in visit.errors if "ran" in error]
    visit.context.close()


def test_the_page_would_run_it_if_it_were_not_escaped(browser, pages):
    (pages / "plain.html").write_text(f"<!DOCTYPE html><html><body>{HOSTILE}</body></html>", "utf-8")
    visit = Visit(browser, pages.as_uri() + "/", DESK)
    visit.page.goto(visit.base + "plain.html", wait_until="load")
    assert visit.page.evaluate(RAN)
    visit.context.close()

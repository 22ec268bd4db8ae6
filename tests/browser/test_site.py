"""Every page of the built site: nothing from outside, nothing wrong in the console, readable by all, alive."""

import gzip
import re
from contextlib import suppress
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from axe_playwright_python.sync_playwright import Axe
from conftest import DESK, DISK, PAGES, PHONE, SITE, Visit
from playwright.sync_api import TimeoutError

CHARTS = ".semhub-vega"
CHAPTERS = [page for page in PAGES if page.startswith("notebooks/")]
MOST = 2.5e6  # bytes that a page may ask for, compressed
WORDS = 19_000  # that all chapters may show, folds closed
LONGEST, MINUTES = 12_000, 12  # pixels and minutes of a chapter
OPENS = {  # by page and figure, what its first choice is
    "notebooks/05_raising.html": {
        "When are facts answered that the type was never taught?": "hub",
        "What does each change do to the hub?": "held out",
    },
}
# Puts a control on another of its values, as a reader would.
SET = """const set = (c, to) => {
  if (["radio", "checkbox", "submit", "button"].includes(c.type)) { c.click(); return; }
  if (c.tagName === "SELECT") c.selectedIndex = (c.selectedIndex + 1) % c.options.length;
  else c.value = to ?? (c.value === c.min ? c.max : c.min);
  for (const name of ["input", "change"]) c.dispatchEvent(new Event(name, { bubbles: true }));
};"""
# Uses every control of every box, and tells of those that had changed nothing five seconds later.
USE = (
    "async ([boxes, controls, unmoved, picture]) => {"
    + SET
    + """
  const frame = () => new Promise(requestAnimationFrame);
  const [look, skip] = [eval(picture), eval(unmoved)];
  const dead = [];
  for (const box of document.querySelectorAll(boxes)) {
    for (const control of box.querySelectorAll(controls)) {
      if (skip(control)) continue;
      const before = look(box), until = performance.now() + 5000;
      set(control);
      while (look(box) === before && performance.now() < until) await frame();
      if (look(box) === before) dead.push(control.outerHTML);
    }
  }
  return dead;
}"""
)


UNFIT = f"""() => [...document.querySelectorAll("{CHARTS}")].filter((c) => {{
  const [svg, style] = [c.querySelector("svg"), getComputedStyle(c)];
  const room = c.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
  return !(Math.abs(svg.getBoundingClientRect().width - room) < 30);
}}).map((c) => c.getAttribute("aria-label"))"""
NAMED = f"""() => [...document.querySelectorAll("{CHARTS}")].filter(
  (chart) => chart.spec.layer?.some((of) => of.encoding?.strokeDash)).map((chart) => ({{
  beside: [...chart.querySelectorAll(".line_names text")].map((text) => text.getBoundingClientRect().toJSON()),
  legend: [...chart.querySelectorAll(".role-legend-entry text")].map((text) => text.textContent),
  null: chart.spec.layer.some(({{ encoding }}) => encoding?.strokeDash?.datum === "null"),
  all: chart.spec.usermeta.ends.length,
  longest: Math.max(...chart.spec.usermeta.ends.map((name) => name.length)),
  right: chart.querySelector("svg").getBoundingClientRect().right,
}}))"""
SEEN = """() => {
  const texts = document.createTreeWalker(document.querySelector(".bd-article"), NodeFilter.SHOW_TEXT);
  const words = [], apart = "script, style, svg, option, mjx-container, .visually-hidden";
  while (texts.nextNode()) {
    const { parentElement: of, textContent } = texts.currentNode;
    const shown = of.checkVisibility() && !of.closest(apart) && textContent.match(/\\p{L}[\\p{L}\\p{N}'’_-]*/gu);
    words.push(...(shown || []));
  }
  return words.length;
}"""
# Whether a chart is at most 600 pixels below a window of 900, and whether it is to be drawn once what is near was told.
NEAR = """async (chart) => {
  const far = chart.getBoundingClientRect().top;
  await new Promise((told) => new IntersectionObserver(told).observe(chart));
  return [far < 1500, !!chart.wanted];
}"""
# Backgrounds of code, colours of charts' words, what is behind charts, and where sliders stand.
COLOURS = """(charts) => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const behind = (selector) => [...new Set(all(selector).map((e) => getComputedStyle(e).backgroundColor))];
  return {
    code: behind(".cell_input, .cell_input .highlight"),
    words: all(charts).map((c) => [...c.querySelectorAll("svg text")].map((t) => t.getAttribute("fill")).join()),
    behind: behind(`${charts}, ${charts} svg, .text_html`),
    sliders: all(`${charts} input[type=range]`).map((s) => s.value),
  };
}"""
# Puts a figure as it opens.
OPENED = """async ({ spec, view }) => {
  for (const { name, bind, value } of spec.params ?? []) if (bind && value !== undefined) view.signal(name, value);
  await view.runAsync();
}"""
# Of text that looks alike, by itself and all that it stands in, one is left to be seen.
FEW = """() => {
  const looks = new Map(), known = {}, seen = {};
  const of = ["color", "backgroundColor", "backgroundImage", "fill", "opacity", "fontSize", "fontWeight", "position"];
  const look = (e) => {
    if (!looks.has(e)) {
      const style = getComputedStyle(e), above = e === document.body ? "" : look(e.parentElement);
      looks.set(e, (known[[above, e.tagName, ...of.map((name) => style[name])]] ??= looks.size));
    }
    return looks.get(e);
  };
  const says = (e) => [...e.childNodes].some((of) => of.nodeType === Node.TEXT_NODE && of.data.trim());
  for (const e of document.querySelectorAll("body *"))
    e.toggleAttribute("data-few", says(e) && (seen[look(e)] = (seen[look(e)] ?? 0) + 1) === 1);
}"""
# Of long tables, listings, charts and lists of functions a few entries, as all are made alike.
THIN = """() => {
  const more = [".data-table tbody tr", "[id^=T_] tbody tr", ".semhub-vega svg g > *", "section > dl.py", "dd > dl.py"];
  for (const all of more) document.querySelectorAll(`${all}:nth-child(n + 6)`).forEach((e) => e.remove());
  document.querySelectorAll("pre > span:nth-child(n + 50), .strip dl > :nth-child(n + 13)").forEach((e) => e.remove());
}"""
AXE = Axe(f"{AXE_SCRIPT}; axe.configure({{rules: [{{id: 'color-contrast', selector: '[data-few]'}}]}})")


def test_from_disk(desk):
    assert desk.outside == []
    assert desk.errors == []


@cache
def compressed(path: Path) -> int:
    return len(gzip.compress(path.read_bytes(), 6))


def test_a_page_is_light(desk):
    """What it asks for, compressed; formulas' script only where there are formulas, charts' where there are charts."""
    files = [SITE / name for name in desk.loaded if (SITE / name).is_file()]
    assert sum(map(compressed, files)) <= MOST
    for script, what in (("mathjax", ".math"), ("vega.min", CHARTS), ("widgets.js", ".widget-subarea")):
        assert any(script in path.name or script in path.parts for path in files) == bool(
            desk.page.query_selector(what)
        )
    assert not [path for path in files if path.name == "fontawesome.js" or "brands" in path.name]


@pytest.fixture
def wide(desk):
    """What was found where the window was wide, before it became one of a desk: charts that do not fit, and code that
    is too wide."""
    if "unfit" not in desk.told:
        desk.told |= {"unfit": left(desk.page, UNFIT), "code": too_wide(desk.page)}
        desk.page.set_viewport_size(DESK)
        desk.settle()
    return desk.told


def left(page, found: str, timeout: int = 5000) -> list:
    """What a script finds, when it has found nothing or the time is over."""
    with suppress(TimeoutError):
        page.wait_for_function(f"!({found})().length", timeout=timeout)
    return page.evaluate(found)


def too_wide(page) -> list[str]:
    """Code that is shown in lines of more than 75 characters; longer ones go on below."""
    wide = """all => all.filter((box) => {
      const look = { textContent: "0".repeat(75), style: "position: absolute; white-space: pre; text-indent: 0" };
      const ruler = box.appendChild(Object.assign(document.createElement("span"), look));
      const [most, { width }] = [ruler.getBoundingClientRect().width, getComputedStyle(box)];
      ruler.remove();
      return parseFloat(width) > most + 1;
    }).map((box) => box.textContent.slice(0, 80))"""
    for switch in page.get_by_role("button", name="Show code").all():
        switch.press("Enter")
    found = page.locator(".cell_input pre:visible").evaluate_all(wide)
    for switch in page.get_by_role("button", name="Hide code").all():
        switch.press("Enter")
    return found


def test_code_is_at_most_75_characters_wide(wide):
    """Also where the window is wide."""
    assert wide["code"] == []


@pytest.mark.holding("charts")
def test_charts_follow_the_width_of_the_window(desk, wide):
    assert wide["unfit"] == [] == left(desk.page, UNFIT)


@pytest.mark.holding("charts")
def test_lines_are_named_at_their_ends_or_in_a_legend(desk, wide):
    """At their ends where a chart has nine names at most, none of them long: none on another, and the null in a legend
    of its own."""
    charts = desk.page.evaluate(NAMED)
    assert all(of["legend"] == ["null"] * of["null"] if of["beside"] else of["legend"] for of in charts)
    for of in charts:
        assert of["beside"] or 9 < of["all"] or (6 < of["all"] and 26 < of["longest"])
        rows = sorted(of["beside"], key=lambda box: box["top"])
        assert all(one["top"] + 12 <= other["top"] for one, other in pairwise(rows))
        assert all(box["right"] <= of["right"] for box in rows)
    assert desk.errors == []


@pytest.mark.holding("charts")
def test_a_plot_keeps_most_of_the_room(desk, wide):
    """Room for names at the ends of lines is taken once, not twice."""
    wide = """all => all.map((chart) => [chart.querySelector(".role-frame.root > g > path.background")?.getBBox().width,
      chart.querySelector("svg").getBoundingClientRect().width]).filter(([plot, all]) => plot < 0.54 * all)"""
    assert desk.page.eval_on_selector_all(f"{CHARTS}:has(.line_names)", wide) == []


@pytest.mark.holding("strips")
def test_a_chapter_is_read_in_one_sitting(desk, wide):
    """Its pixels at a desk, with all charts drawn and folds as they come, and its minutes; and charts open on what
    their text is about."""
    page, folds = desk.page, "all => all.forEach((fold) => { fold.open = !fold.open; })"
    page.eval_on_selector_all("[data-folded]", folds)
    pixels = page.locator(".bd-article").bounding_box()["height"]
    page.eval_on_selector_all("[data-folded]", folds)
    [minutes] = map(int, re.findall(r"Time to\s+read: (\d+) min", page.inner_text(".bd-article")))
    assert pixels <= LONGEST and minutes <= MINUTES
    figures, first = page.locator("figure"), ":is(select, input:checked)"
    for title, opens in OPENS.get(desk.address, {}).items():
        control = figures.filter(has_text=title).locator(first).first
        assert control.evaluate("c => c.selectedOptions?.[0].text ?? c.value") == opens


def test_one_switch_shows_the_code(desk):
    """Of a page with folded code, but solutions: all of it, none at first; and what is shown is cut nowhere."""
    folds = desk.page.locator(".cell:not(.tag_solution) > details.hide.above-input")
    if not folds.count():
        return
    switch = desk.page.get_by_role("button", name="Show code")
    assert not folds.first.is_visible()
    switch.press("Enter")
    assert folds.evaluate_all("all => all.every((fold) => fold.open && fold.checkVisibility())")
    cut = "all => all.filter((box) => box.scrollWidth > box.clientWidth + 1).map((box) => box.textContent)"
    assert desk.page.locator(".cell_input pre").evaluate_all(cut) == []
    desk.page.get_by_role("button", name="Hide code").press("Enter")
    assert not folds.first.is_visible() and desk.errors == []


@pytest.mark.holding("charts")
def test_every_chart_has_alt_text_and_ink(desk):
    for chart in desk.page.query_selector_all(CHARTS):
        assert chart.get_attribute("aria-label").strip()
        assert chart.query_selector("svg path")


@pytest.mark.holding("charts")
def test_every_control_of_every_chart_changes_it(desk):
    chosen, picture = "c => c.type === 'radio' && c.checked", "c => c.querySelector('svg').innerHTML"
    controls = ".vega-bindings :is(input, select)"
    assert desk.page.evaluate(USE, [CHARTS, controls, chosen, picture]) == []
    assert all(chart.query_selector("svg path") for chart in desk.page.query_selector_all(CHARTS))
    assert desk.errors == []


@pytest.mark.holding("widgets")
def test_every_widget_answers(desk):
    """Buttons, sliders and lists inside widgets each change what the widget shows."""
    assert all(widget.inner_html().strip() for widget in desk.page.query_selector_all(".widget-subarea"))
    picture = "w => w.innerHTML + [...w.querySelectorAll('canvas')].map(c => c.toDataURL()).join()"
    controls = "button:not([disabled]), input[type=range], select"
    assert desk.page.evaluate(USE, [".widget-subarea", controls, "c => false", picture]) == []
    assert desk.errors == []


def words_on_a_picture(there):
    """Every word in its patch, the slider puts other ones there, and each is told."""
    page = there.page
    [chart] = [c for c in page.query_selector_all(CHARTS) if c.query_selector("svg image")]
    picture = chart.query_selector("svg image")
    assert picture.get_attribute("href").startswith("data:image/")
    box, room = picture.bounding_box(), chart.query_selector("svg").bounding_box()
    assert room["height"] < box["height"] + 20, "nothing is empty below the picture"
    words = [text for text in chart.query_selector_all("svg .mark-text text") if text.text_content().strip()]
    for word in words[:: max(1, len(words) // 20)]:
        at = word.bounding_box()
        x, y = at["x"] + at["width"] / 2, at["y"] + at["height"] / 2
        assert box["x"] <= x <= box["x"] + box["width"] and box["y"] <= y <= box["y"] + box["height"]
    told = "c => [...c.querySelectorAll('[aria-label*=\"%\"]')].map(e => e.getAttribute('aria-label')).join()"
    before = chart.evaluate(told)
    assert before.count("%") > 8
    slider = chart.query_selector("input[type=range]")
    slider.focus()
    page.keyboard.press("ArrowLeft" if slider.evaluate("s => s.value === s.max") else "ArrowRight")
    page.wait_for_function(f"([c, before]) => ({told})(c) !== before", arg=[chart, before], timeout=5000)


@pytest.mark.holding("overlays")
def test_overlays_lay_words_on_their_picture(desk):
    words_on_a_picture(desk)


@pytest.mark.holding("overlays")
def test_overlays_lay_words_on_their_picture_on_a_phone(phone):
    words_on_a_picture(phone)


@pytest.mark.holding("strips")
def test_every_strip_opens_and_its_links_work_by_keyboard(desk):
    """Details by Enter; a link is there when it has the focus, and leads to its row. Keys are pressed in the first."""
    page, strip, seen = desk.page, desk.page.locator(".strip").first, "d => d.querySelector('dl').checkVisibility()"
    turned = f"[false, true].map((open) => {{ d.open = open; return ({seen})(d); }}).join() === 'false,true'"
    assert page.locator(".strip details").evaluate_all(f"all => all.every((d) => {turned})")
    strip.locator("summary").press("Enter")
    assert not strip.locator("details").evaluate(seen)
    strip.locator("summary").press("Enter")
    assert strip.locator("details").evaluate(seen)
    link = page.locator(".strip-link").first
    link.focus()
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == link.get_attribute("href")
    page.evaluate("document.activeElement.blur(); location.hash = 'nothing'")  # the row it leads to shows its link too
    look = """all => all.map((a) => {
      const opacity = () => getComputedStyle(a).opacity;
      document.activeElement.blur();
      const [before, to] = [opacity(), document.getElementById(a.hash.slice(1))];
      a.focus();
      return [before, a === document.activeElement, opacity(), !!to?.contains(a)];
    })"""
    assert {*map(tuple, page.locator(".strip-link").evaluate_all(look))} == {("0", True, "1", True)}
    page.evaluate("document.activeElement.blur()")
    assert page.locator(".strip-key").count() == 1 and page.locator(".strip-key").is_visible()
    assert desk.errors == []


@pytest.mark.holding("strips")
def test_a_plots_dots_do_not_shrink(desk, width=144):
    plots = desk.page.locator(".strip-plot svg").evaluate_all("all => all.map((s) => s.getBoundingClientRect().width)")
    dots = desk.page.locator(".strip-plot circle").evaluate_all(
        "all => all.map((c) => c.getBoundingClientRect().width)"
    )
    assert min(plots) >= width and {round(of) for of in dots} == {8}
    places = """all => all.map((table) => [getComputedStyle(table.querySelector("thead th:last-child")).visibility,
      [...table.querySelectorAll(".strip-where:not(:empty)")].map((cell) => cell.getBoundingClientRect().width)])"""
    for head, wide in desk.page.locator(".strip table:has(thead)").evaluate_all(places):
        assert (head == "visible") == bool(wide) and min(wide, default=96) >= 96, "a layer is one line"


@pytest.mark.holding("strips")
def test_units_and_links_of_claims_are_there_on_a_phone(phone):
    """Also where there is nothing to hover with."""
    phone.page.locator(".strip details").first.evaluate("details => { details.open = true; }")
    narrow = (
        "all => all.filter((one) => one.checkVisibility() && one.clientWidth < 0.9 * one.parentElement.clientWidth)"
    )
    assert phone.page.locator(".strip dd").evaluate_all(f"all => ({narrow})(all).length") == 0
    units = phone.page.locator("tr:has(.strip-plot) .strip-value").evaluate_all(
        "all => all.map((cell) => [cell.querySelector('.strip-unit')?.checkVisibility(), cell.innerText])"
    )
    assert units and all(shown and said.strip()[-1] not in "]0123456789" for shown, said in units)
    opacity = "all => all.map((a) => getComputedStyle(a).opacity)"
    assert {*phone.page.locator(".strip-link").evaluate_all(opacity)} == {"1"}


@pytest.mark.holding("predictions")
def test_answers_to_a_prediction_reveal_what_is_so(desk):
    """By a key in the first box, as keys press every button; in each, whatever was pressed before."""
    boxes = desk.page.locator(".predict")
    assert not boxes.first.locator("details > div").is_visible()
    boxes.first.locator("ul button").last.press("Enter")
    assert boxes.first.locator("details > div").is_visible()
    boxes.first.locator("summary").press("Enter")
    told = """all => all.map((box) => {
      const [shown, buttons] = [box.querySelector("details > div"), [...box.querySelectorAll("ul button")]];
      const before = shown.checkVisibility(), pressed = (one) => one.getAttribute("aria-pressed") === "true";
      const answers = buttons.map((button) => {
        button.click();
        return shown.checkVisibility() && pressed(button) && buttons.filter(pressed).length === 1;
      });
      box.querySelector("summary").click();
      return !before && buttons.length > 1 && answers.every(Boolean) && shown.textContent.trim().length > 0;
    })"""
    assert all(boxes.evaluate_all(told))


@pytest.mark.holding("charts")
def test_a_figure_can_be_saved_in_each_way(desk):
    """The first of a page: a drawing, a picture and the numbers that it shows."""
    box = desk.page.locator(f"figure:has({CHARTS})").first
    if not box.count():
        return
    for data in box.locator("details.data-table:not([open]) > summary").all():
        data.click()
    begins = {"PNG": b"\x89PNG", "SVG": b"<svg", "CSV": b""}
    for kind, start in begins.items():
        with desk.page.expect_download() as told:
            box.get_by_role("button", name=kind, exact=True).click()
        content = Path(told.value.path()).read_bytes()
        assert told.value.suggested_filename == f"{box.get_attribute('id')}.{kind.lower()}"
        assert content.startswith(start) and len(content) > 100
    assert content.count(b"\n") > 2 and b"," in content.split(b"\n")[0]


@pytest.mark.holding("tables")
def test_columns_of_a_table_do_not_run_together(desk):
    padding = "all => all.map(getComputedStyle).flatMap((s) => [s.paddingLeft, s.paddingRight]).map(parseFloat)"
    assert min(desk.page.locator("table[id^=T_] :is(th, td)").evaluate_all(padding)) >= 8


@pytest.mark.holding("diagrams")
def test_words_of_a_diagram_can_be_read_on_a_phone(phone):
    """None is small, none is cut, and none lies on another or on an axis."""
    small = phone.page.locator(".diagram text").evaluate_all(
        "all => all.map((t) => [parseFloat(getComputedStyle(t).fontSize) * t.getScreenCTM().a, t.textContent])"
    )
    assert [said for size, said in small if size < 11] == []
    crossed = phone.page.evaluate(
        """() => [...document.querySelectorAll(".diagram")].flatMap((svg) => {
             const box = (e) => e.getBoundingClientRect(), out = box(svg), texts = [...svg.querySelectorAll("text")];
             const beside = (a, b) => a.right <= b.left || b.right <= a.left;
             const apart = (a, b) => beside(a, b) || a.bottom <= b.top + 3 || b.bottom <= a.top + 3;
             const inside = (a) => a.left >= out.left - 1 && a.right <= out.right + 1 && a.bottom <= out.bottom + 1;
             const on = (t) => texts.some((o) => o !== t && !apart(box(o), box(t)));
             const holds = (a, { x, y }) => x > a.left && x < a.right && y > a.top + 2 && y < a.bottom - 2;
             const axes = [...svg.querySelectorAll("path.axis")].flatMap((p) => {
               const [n, m] = [p.getTotalLength(), p.getScreenCTM()];
               return Array.from({ length: 200 }, (_, k) => p.getPointAtLength((n * k) / 199).matrixTransform(m));
             });
             const across = (t) => axes.some((point) => holds(box(t), point));
             return texts.filter((t) => !inside(box(t)) || on(t) || across(t)).map((t) => t.textContent);
           })"""
    )
    assert crossed == []


def test_what_goes_on_at_the_right_shows_it_on_a_phone(phone):
    """Code and texts wrap; a wide table, formula or drawing scrolls in a box of its own that fades where it goes on."""
    phone.page.evaluate("document.querySelectorAll('.bd-article details').forEach((d) => { d.open = true; })")
    cut = """() => [...document.querySelectorAll(".bd-article *")].filter((e) => {
      const { overflowX, maskImage } = getComputedStyle(e), more = e.scrollWidth - e.clientWidth - e.scrollLeft;
      if (more <= 2 || !e.clientWidth || !e.checkVisibility()) return false;
      if (e.closest("svg, mjx-assistive-mml") || !["auto", "scroll"].includes(overflowX)) return false;
      return e.tagName === "PRE" || maskImage === "none";
    }).map((e) => e.outerHTML.slice(0, 120))"""
    assert left(phone.page, cut) == []


def test_no_table_goes_on_at_the_right_on_a_phone(phone):
    """One that is too wide is a list, in which the name of its column stands before each cell; but for lens grids."""
    wide = """() => [...document.querySelectorAll(".bd-article table")].filter((table) => {
      const apart = table.closest(".lens-grid, .clip-player, .semhub-live");
      return !apart && table.checkVisibility() && table.scrollWidth > table.parentElement.clientWidth + 2;
    }).map((table) => table.outerHTML.slice(0, 120))"""
    assert left(phone.page, wide) == []
    told = """all => all.map((table) => [...table.tHead.rows[0].cells].map(({ cellIndex, textContent }) => {
      const { content } = getComputedStyle(table.tBodies[0].rows[0].cells[cellIndex], "::before");
      return !textContent.trim() || content === `"${textContent.trim()}: "`;
    }))"""
    assert all(map(all, phone.page.locator("table.stacked").evaluate_all(told)))


def test_no_word_is_broken_in_two_on_a_phone(phone):
    """Names of code go on below behind their joints; only listings, and what is longer than a line, break anywhere."""
    broken = phone.page.evaluate(
        """() => {
             const [within, found] = [document.querySelector(".bd-article") ?? document.createElement("p"), []];
             const texts = document.createTreeWalker(within, NodeFilter.SHOW_TEXT);
             const apart = "pre, svg, script, style, .indextable, option, .visually-hidden";
             while (texts.nextNode()) {
               const { parentElement: of, textContent } = texts.currentNode;
               if (of.closest(apart) || !of.checkVisibility()) continue;
               for (const { 0: word, index } of textContent.matchAll(/[A-Za-z]{2,}/g)) {
                 const [run] = textContent.slice(textContent.lastIndexOf(" ", index) + 1).match(/\\S+/);
                 if (run.length > 30) continue; // an address, or a path
                 const range = document.createRange();
                 range.setStart(texts.currentNode, index);
                 range.setEnd(texts.currentNode, index + word.length);
                 if (new Set([...range.getClientRects()].map((box) => Math.round(box.top))).size > 1) found.push(word);
               }
             }
             return found;
           }"""
    )
    assert broken == []


def test_no_sign_of_a_heading_stands_alone(phone):
    """The link behind a heading does not make it a line longer."""
    longer = phone.page.locator(".bd-article :is(h1, h2, h3, h4):has(> .headerlink)").evaluate_all(
        """all => all.filter((h) => {
             const link = h.querySelector(".headerlink"), before = h.clientHeight;
             link.style.display = "none";
             const after = h.clientHeight;
             link.style.display = "";
             return before !== after;
           }).map((h) => h.textContent)"""
    )
    assert longer == []


@pytest.mark.holding("charts")
def test_every_chart_is_on_paper(desk):
    """Those that no reader has come near too, by promises alone, as a browser that prints waits for nothing else, but
    those on pictures, which have to load; and none wider than the paper."""
    charts, without_ink = desk.on_paper
    assert charts and not without_ink
    desk.page.emulate_media(media="print")
    most = "all => [...new Set(all.map((svg) => getComputedStyle(svg).maxWidth))]"
    assert desk.page.eval_on_selector_all(f"{CHARTS} svg.marks", most) == ["100%"]
    desk.page.emulate_media(media="screen")
    assert desk.errors == []


@pytest.mark.holding("charts")
def test_only_models_that_can_be_drawn_are_offered_and_the_caption_says_whose_it_is(desk):
    """No menu where no model has such claims, nor where several curves are of one claim."""
    before, page = [*desk.errors], desk.page
    told = """async (box) => {
      const chapter = location.pathname.match(/\\d+_(\\w+)\\.html/)[1], all = window.semhubModels ?? [], good = [];
      const own = (row) => row.claim && "depth" in row && (!row.of || row.of === row.series);
      const rows = Object.values(box.spec.datasets ?? {}).flat().filter(own);
      const names = new Set(rows.map((row) => row.claim));
      const once = new Set(rows.map((row) => `${row.claim}|${row.series}`)).size === names.size;
      const page = document.querySelector("p.answer-model").textContent; // whose own model is no other one
      const other = ({ label }) => !RegExp(`[oO]n ${label.replace(/\\W/g, ".")}(-|$)`).test(page);
      for (const { slug } of once ? all.filter((model) => model.chapters.includes(chapter) && other(model)) : []) {
        const drawn = window.semhubSwapped(box.spec, (await window.semhubModel(slug)).claims, chapter);
        if (Object.values(drawn.datasets ?? {}).flat().some((row) => own(row) && row.value !== null)) good.push(slug);
      }
      const offered = [...box.querySelectorAll(".semhub-models option")].map((option) => option.value);
      return [names.size ? good : [], offered];
    }"""
    for box in page.query_selector_all(CHARTS):
        good, offered = box.evaluate(told)
        assert offered == ["", *good] * bool(good)
    for figure in page.locator("figure:has(.semhub-models)").all()[:1]:
        label, said, alt = (figure.locator(part) for part in (".semhub-models", "figcaption", CHARTS))
        alt.evaluate(OPENED)  # other tests chose what another model may not have
        own, name = said.inner_text(), label.locator("option").nth(1).inner_text()
        label.locator("select").select_option(index=1)
        page.wait_for_function("([box, name]) => box.innerText.includes(name)", arg=[said.element_handle(), name])
        assert re.search(
            f"Drawn of {re.escape(name)}: highest.* at layer .*Of this page’s own model", said.inner_text()
        )
        assert alt.get_attribute("aria-label").startswith(f"Drawn of {name}.")
        label.locator("select").select_option(index=0)
        page.wait_for_function("([box, own]) => box.innerText === own", arg=[said.element_handle(), own])
    assert desk.errors == before


@pytest.fixture
def modes(desk):
    """What is found in light and in dark, by mode, with sliders put elsewhere before. Redrawing takes long, so it is
    asked once for all tests of a page, which is dark then."""
    if "dark" not in desk.told:
        sliders = f"{CHARTS} input[type=range]"
        desk.page.eval_on_selector_all(sliders, f"all => {{ {SET} all.forEach((s) => set(s)); }}")
        for mode in ("light", "dark"):
            desk.mode(mode)
            desk.told[mode] = desk.page.evaluate(COLOURS, CHARTS)
    return desk.told


def test_code_has_one_colour_and_a_table_in_a_fold_no_bar(desk, modes):
    """To its right edge."""
    assert all(len(modes[mode]["code"]) <= 1 for mode in ("light", "dark"))
    border = "all => all.filter((one) => parseFloat(getComputedStyle(one).borderLeftWidth)).length"
    assert not desk.page.locator("details details.data-table > summary").evaluate_all(border)


@pytest.mark.holding("charts")
def test_charts_follow_the_colour_mode_and_keep_settings(desk, modes):
    light, dark = modes["light"], modes["dark"]
    pairs = [pair for pair in zip(light["words"], dark["words"], strict=True) if "#ffffff" not in pair[0]]
    assert all(one != other for one, other in pairs)  # white are words on pictures
    assert {*light["behind"], *dark["behind"]} == {"rgba(0, 0, 0, 0)"}
    assert light["sliders"] == dark["sliders"] and desk.errors == []


def serious(page, **options) -> list[str]:
    told = {"resultTypes": ["violations"], "preload": False}  # it cannot ask for the styles of a page from disk
    told["rules"] = {"region": {"enabled": False}}  # moderate at most
    found = AXE.run(page, options=told | options).response["violations"]
    return [
        f"{v['id']} ({v['impact']}): {node['target']} {node['failureSummary']}"
        for v in found
        if v["impact"] in ("serious", "critical")
        for node in v["nodes"]
    ]


def hard_to_read(visit: Visit) -> list[str]:
    """What axe finds serious: contrast of a text of each look, as it takes long; in dark nothing else, as a page
    differs in its colours alone."""
    found = []
    for mode, options in {"dark": {"runOnly": ["color-contrast"]}, "light": {}}.items():
        visit.mode(mode)
        visit.page.evaluate(THIN)
        visit.page.evaluate(FEW)
        found += [f"{mode}: {of}" for of in serious(visit.page, **options)]
    return found


def test_axe_finds_nothing_serious(desk):
    """With all open that opens."""
    desk.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert hard_to_read(desk) == []


def test_below_a_sub_path(phone):
    assert phone.outside == []
    assert phone.errors == []


def test_fits_a_phone(phone):
    page = phone.page
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    wide = page.evaluate(
        """() => [...document.querySelectorAll(".bd-article *")].filter((e) => {
             const right = e.getBoundingClientRect().right;
             if (right <= innerWidth + 1) return false;
             if (e.closest("mjx-assistive-mml, .headerlink, .visually-hidden, svg")) return false;
             for (let p = e; p; p = p.parentElement) {
               if (["auto", "scroll", "hidden"].includes(getComputedStyle(p).overflowX)
                   && p.getBoundingClientRect().right <= innerWidth + 1) return false;
             }
             return true;
           }).map((e) => e.outerHTML.slice(0, 120))"""
    )
    assert wide == []


@pytest.mark.holding("players")
def test_a_sound_plays_and_its_words_follow_the_sliders(phone):
    page = phone.page
    player = page.locator(".clip-player")
    player.wait_for()
    audio, picture, panel = (player.locator(part) for part in ("audio", ".clip-picture img", ".lens-panel"))
    page.wait_for_function("document.querySelector('.clip-player audio').duration > 0.3")
    assert audio.evaluate("a => a.src.startsWith('data:audio/wav')") and audio.get_attribute("aria-label")
    assert picture.evaluate("p => p.naturalWidth") > 20 and "pectrogram" in picture.get_attribute("alt")
    for mode in ("light", "dark"):  # or the cursor would not stand where the sound is
        phone.mode(mode)
        assert picture.evaluate("p => getComputedStyle(p).padding") == "0px"
    layer, time = player.get_by_label("Layer", exact=True), player.get_by_label("Time", exact=True)
    for slider, key in ((layer, "ArrowUp"), (time, "ArrowRight"), (layer, "Home"), (time, "End"), (layer, "End")):
        before = panel.inner_text(), slider.get_attribute("aria-valuetext")
        slider.press(key)
        assert (panel.inner_text(), slider.get_attribute("aria-valuetext")) != before
    seen, clip = set(), player.get_by_label("Clip", exact=True)
    for option in clip.locator("option").all():
        clip.select_option(option.get_attribute("value"))
        seen.add((audio.get_attribute("src"), picture.get_attribute("src"), picture.get_attribute("alt")))
    assert len(seen) == clip.locator("option").count() > 1
    page.wait_for_function("document.querySelector('.clip-player audio').duration > 0.3")
    audio.evaluate("a => { a.muted = true; return a.play(); }")
    page.wait_for_function("document.querySelector('.clip-player input[id$=time]').value !== '0'", timeout=5000)
    assert phone.errors == []


@pytest.mark.holding("charts")
def test_a_charts_words_lie_inside_it_and_a_phone_can_be_turned(phone):
    """Names of lines are in the legend. The phone is left turned."""
    cut = """() => [...document.querySelectorAll(".semhub-vega svg")].flatMap((svg) => {
      const box = svg.getBoundingClientRect();
      return [...svg.querySelectorAll("text")].filter((text) => {
        const own = text.getBoundingClientRect();
        return own.width && (own.top < box.top - 1 || own.bottom > box.bottom + 1 || own.left < box.left - 1
          || own.right > box.right + 1);
      }).map((text) => text.textContent);
    })"""
    assert phone.page.evaluate(cut) == [] == left(phone.page, UNFIT)
    assert all(of["legend"] and not of["beside"] for of in phone.page.evaluate(NAMED))
    phone.page.set_viewport_size(PHONE | {"width": 900})  # as when a phone is turned
    phone.settle()
    phone.page.wait_for_function(f"!({cut})().length", timeout=10000)
    assert left(phone.page, UNFIT) == []


@pytest.fixture(scope="session")
def chapters(browser):
    """Of each chapter at a desk, as it opens: its words as they are shown; whether its last chart is near, and wanted;
    and in every third, which charts in folds are drawn before these are opened, and which of all that a reader comes to
    are not drawn then."""
    told, there = {}, Visit(browser, DISK, DESK)
    in_folds = f"[...document.querySelectorAll('details.below-input {CHARTS}')]"
    drawn, last = "(c) => c.dataset.drawn && c.querySelector('svg path')", there.page.locator(CHARTS).last
    named = ".map((c) => c.getAttribute('aria-label'))"
    for number, page in enumerate(CHAPTERS):
        there.page.goto(DISK + page, wait_until="load")
        of = told[page] = {"words": there.page.evaluate(SEEN)}
        of["near"], of["wanted"] = last.evaluate(NEAR)
        if number % 3:
            continue
        of["early"] = there.page.evaluate(f"() => {in_folds}.filter({drawn}){named}")
        last.scroll_into_view_if_needed()
        of["late"] = left(
            there.page,
            f"() => [...document.querySelectorAll('{CHARTS}')].slice(-1).filter((c) => !({drawn})(c)){named}",
            20_000,
        )
        for fold in there.page.locator(f"details.below-input:has({CHARTS})").all():
            fold.locator("summary").first.press("Enter")  # a click could miss while a chart above is being drawn
            fold.locator(CHARTS).first.scroll_into_view_if_needed()
        of["late"] += left(there.page, f"() => {in_folds}.filter((c) => !({drawn})(c)){named}", 20_000)
    assert there.errors == []
    there.context.close()
    return told


def test_the_chapters_are_short(chapters):
    """The words that a reader sees at a desk, those of tables too, but not those in drawings, formulas and menus."""
    counts = {page: of["words"] for page, of in chapters.items()}
    assert len(counts) == 13 and min(counts.values()) > 500 and sum(counts.values()) <= WORDS, counts


def test_charts_are_drawn_when_they_come_near(chapters):
    """The last of several is not there at first, and is when a reader has come to it; one in a fold when that opens."""
    assert {page: of["wanted"] for page, of in chapters.items()} == {page: of["near"] for page, of in chapters.items()}
    assert not all(of["near"] for of in chapters.values())
    assert {page: found for page, of in chapters.items() if (found := of.get("early", []) + of.get("late", []))} == {}


def test_without_scripts_charts_are_pictures(browser):
    context = browser.new_context(viewport=PHONE, java_script_enabled=False)
    page = context.new_page()
    for name in CHAPTERS:
        page.goto(DISK + name, wait_until="load")
        charts, pictures = page.locator(CHARTS), page.locator(f"{CHARTS} img")
        assert 0 < pictures.count() == charts.count() and all(one.get_attribute("alt") for one in pictures.all())
        sizes = pictures.evaluate_all("some => some.map((one) => [one.naturalWidth, one.clientWidth])")
        assert all(own > 100 and shown <= PHONE["width"] for own, shown in sizes), name
    context.close()


def test_where_the_focus_is_can_be_seen(keep):
    """On every door and button of the front page."""
    page = keep(DISK, "book/index.html", DESK).page
    unseen = """all => all.filter((one) => {
      one.focus();
      return getComputedStyle(one.closest(".sd-card") ?? one).outlineStyle === "none";
    }).map((one) => one.outerHTML.slice(0, 120))"""
    places = page.locator(".sd-card a:visible, .header-article-item .btn:visible")
    assert places.count() > 5 and places.evaluate_all(unseen) == []


def test_front_page_leads_into_the_book(keep):
    keep(DISK, "index.html", DESK).page.wait_for_selector("article h1")


def test_search_finds_a_word(keep, server):
    for base in (DISK, server):
        there = keep(base, "search.html?q=unembedding", DESK)
        there.page.wait_for_selector("#search-results li a", timeout=15_000)
        assert there.errors == []
        assert there.outside == []


def test_what_holds_is_short_on_a_phone_and_all_of_it_is_reached(browser):
    there = Visit(browser, DISK, PHONE).open("book/what_holds.html")
    page, rows = there.page, ".holds tbody tr:not(.group)"
    assert re.fullmatch(r"\d+ cells\.", page.inner_text(".holds .count")), "as many as there are, shown or folded"
    assert page.evaluate("document.documentElement.scrollHeight") < 6000
    assert page.locator(rows).count() > 30 and not page.locator(f"{rows}:visible").count()
    for fold in page.locator(".holds .group button").all():
        fold.press("Enter")
        assert fold.get_attribute("aria-expanded") == "true"
    assert page.locator(f"{rows}:visible").count() == page.locator(f"{rows}:not([hidden])").count() > 30
    link = page.locator(".holds tbody:last-child td > button:visible").last.get_attribute("id")
    there.context.close()
    there = Visit(browser, DISK, PHONE).open(f"book/what_holds.html#{link}")
    there.page.locator(".holds tr.open article").first.wait_for()
    assert there.page.locator(".holds tbody:not(.folded)").count() == 1
    there.page.locator(".holds select[name=type]").select_option(index=1)
    assert there.page.locator(f"{rows}:visible").count() == there.page.locator(f"{rows}:not([hidden])").count() > 0
    assert there.errors == []
    there.context.close()
    desk = Visit(browser, DISK, DESK).open("book/what_holds.html")
    assert desk.page.locator(".holds tbody.folded").count() == 0
    desk.context.close()


@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
def test_what_is_chosen_of_what_holds_stands_in_the_address(browser, viewport):
    """Data type, whose claims, verdict, models, and the cell that is open; a link within the page takes none away."""
    there = Visit(browser, DISK, viewport).open("book/what_holds.html")
    page, chosen = there.page, {"type": "german", "part": "the paper", "verdict": "does not hold"}
    for name, value in chosen.items():
        page.locator(f".holds select[name={name}]").select_option(value)
    page.locator(".holds fieldset input:checked").last.uncheck()
    page.locator(".holds td:not(.pale) > button:visible").last.click()
    page.locator(".holds tr.open article").first.wait_for()
    where, shown = page.evaluate("location.hash"), page.inner_text(".holds")
    assert "german" in shown and page.get_attribute(".holds tr.open h2 a", "href") == where
    file, _, at = page.locator(".holds tr.open article a").first.evaluate("a => a.href").partition("#")
    assert file.startswith(f"{DISK}notebooks/") and f'id="{at}"' in (SITE / file.removeprefix(DISK)).read_text("utf-8")
    there.context.close()
    other = Visit(browser, DISK, viewport).open(f"book/what_holds.html{where}")
    other.page.locator(".holds tr.open article").first.wait_for()
    assert other.page.inner_text(".holds") == shown
    for name, value in chosen.items():
        assert other.page.locator(f".holds select[name={name}]").input_value() == value
    other.page.evaluate("location.hash = 'where-this-comes-from'")
    other.page.wait_for_timeout(100)
    assert other.page.locator(".holds select[name=type]").input_value() == "german"
    other.page.evaluate("location.hash = 'type=none'")
    other.page.wait_for_function("document.querySelector('.holds select[name=type]').value === ''")
    assert other.errors == []
    other.context.close()

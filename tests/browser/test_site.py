"""Every page of the built site: nothing from outside, nothing wrong in the console, readable by all, alive."""

from axe_playwright_python.sync_playwright import Axe

PHONE = {"width": 390, "height": 844}
CHARTS = ".semhub-vega"


def test_from_disk(visit, address):
    there = visit()
    there.open(address)
    assert there.outside == []
    assert there.errors == []


def test_below_a_sub_path(visit, server, address):
    there = visit(server)
    there.open(address)
    assert there.outside == []
    assert there.errors == []


def test_front_page_leads_into_the_book(visit):
    page = visit().open("index.html")
    page.wait_for_selector("article h1")


def serious(page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [
        f"{v['id']} ({v['impact']}): {node['target']} {node['failureSummary']}"
        for v in found
        if v["impact"] in ("serious", "critical")
        for node in v["nodes"]
    ]


def test_axe_finds_nothing_serious(visit, address):
    there = visit()
    page = there.open(address)
    for details in page.query_selector_all("details:not([open])"):
        details.evaluate("d => { d.open = true; }")
    for mode in ("light", "dark"):
        page.evaluate("mode => { document.documentElement.dataset.theme = mode; }", mode)
        there.settle()
        # colours half way through the theme's transition are nobody's to read
        page.evaluate("Promise.all(document.getAnimations().map(a => a.finished.catch(() => {}))).then(() => null)")
        assert serious(page) == [], mode


def test_fits_a_phone(visit, address):
    page = visit(viewport=PHONE).open(address)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    wide = page.evaluate(
        """() => [...document.querySelectorAll(".bd-article *")].filter((e) => {
             if (e.closest("mjx-assistive-mml, .headerlink, .visually-hidden, svg")) return false;
             const right = e.getBoundingClientRect().right;
             for (let p = e; p; p = p.parentElement) {
               if (["auto", "scroll", "hidden"].includes(getComputedStyle(p).overflowX)
                   && p.getBoundingClientRect().right <= innerWidth + 1) return false;
             }
             return right > innerWidth + 1;
           }).map((e) => e.outerHTML.slice(0, 120))"""
    )
    assert wide == []


def test_every_chart_has_alt_text_and_ink(visit, with_charts):
    page = visit().open(with_charts)
    for chart in page.query_selector_all(CHARTS):
        assert chart.get_attribute("aria-label").strip()
        assert chart.query_selector("svg path")


def test_a_charts_words_lie_inside_it(visit, with_charts):
    there = visit(viewport=PHONE)
    page = there.open(with_charts)
    cut = """() => [...document.querySelectorAll(".semhub-vega svg")].flatMap((svg) => {
      const box = svg.getBoundingClientRect();
      return [...svg.querySelectorAll("text")].filter((text) => {
        const own = text.getBoundingClientRect();
        return own.width && (own.top < box.top - 1 || own.bottom > box.bottom + 1 || own.left < box.left - 1
          || own.right > box.right + 1);
      }).map((text) => text.textContent);
    })"""
    assert page.evaluate(cut) == []
    for width in (900, PHONE["width"]):  # as when a phone is turned, and back
        page.set_viewport_size(PHONE | {"width": width})
        there.settle()
        page.wait_for_function(f"!({cut})().length", timeout=10000)


def test_charts_follow_the_width_of_the_window(visit, with_charts):
    page = visit().open(with_charts)
    for width in (390, 1280, 700, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function(
            """selector => [...document.querySelectorAll(selector)].every((c) => {
              const [svg, style] = [c.querySelector("svg"), getComputedStyle(c)];
              const room = c.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
              return Math.abs(svg.getBoundingClientRect().width - room) < 30;
            })""",
            arg=CHARTS,
            timeout=5000,
        )


def test_charts_follow_the_colour_mode_and_keep_settings(visit, with_charts):
    there = visit(color_scheme="light")
    page = there.open(with_charts)
    charts = page.query_selector_all(CHARTS)
    colours = "c => [...c.querySelectorAll('svg text')].map(t => t.getAttribute('fill')).join()"
    light = [chart.evaluate(colours) for chart in charts]
    sliders = page.query_selector_all(f"{CHARTS} input[type=range]")
    for slider in sliders:
        slider.evaluate(MOVE)
    wanted = [slider.evaluate("s => s.value") for slider in sliders]
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    there.settle()
    assert all(chart.evaluate(colours) != before for chart, before in zip(charts, light, strict=True))
    backgrounds = page.eval_on_selector_all(
        f"{CHARTS}, {CHARTS} svg, .text_html", "all => all.map(e => getComputedStyle(e).backgroundColor)"
    )
    assert set(backgrounds) == {"rgba(0, 0, 0, 0)"}
    after = page.eval_on_selector_all(f"{CHARTS} input[type=range]", "all => all.map(s => s.value)")
    assert after == wanted
    assert there.errors == []


# Puts a control on another of its values, as a reader would.
MOVE = """s => {
  s.value = s.value === s.min ? s.max : s.min;
  s.dispatchEvent(new Event("input", { bubbles: true }));
  s.dispatchEvent(new Event("change", { bubbles: true }));
}"""
CHOOSE = """s => {
  s.selectedIndex = (s.selectedIndex + 1) % s.options.length;
  s.dispatchEvent(new Event("input", { bubbles: true }));
  s.dispatchEvent(new Event("change", { bubbles: true }));
}"""


def test_every_control_of_every_chart_changes_it(visit, with_charts):
    there = visit()
    page = there.open(with_charts)
    for number, chart in enumerate(page.query_selector_all(CHARTS)):
        for control in chart.query_selector_all(".vega-bindings :is(input, select)"):
            kind = control.evaluate("c => c.type")
            if kind == "radio" and control.is_checked():
                continue
            before = chart.query_selector("svg").inner_html()
            if kind in ("radio", "checkbox"):
                control.click()
            else:
                control.evaluate(CHOOSE if kind.startswith("select") else MOVE)
            page.wait_for_function(
                "([chart, before]) => chart.querySelector('svg').innerHTML !== before",
                arg=[chart, before],
                timeout=5000,
            )
            assert chart.query_selector("svg path"), f"chart {number} is empty after its {kind} was used"
    assert there.errors == []


def test_overlays_lay_words_on_their_picture(visit, with_overlays):
    """On a wide page and on a phone: every word in its patch, the slider puts other ones there, and each is told."""
    for viewport in ({"width": 1280, "height": 900}, PHONE):
        page = visit(viewport=viewport).open(with_overlays)
        [chart] = [c for c in page.query_selector_all(CHARTS) if c.query_selector("svg image")]
        picture = chart.query_selector("svg image")
        assert picture.get_attribute("href").startswith("data:image/")
        box = picture.bounding_box()
        words = [text for text in chart.query_selector_all("svg .mark-text text") if text.text_content().strip()]
        for word in words[:: max(1, len(words) // 20)]:
            at = word.bounding_box()
            middle = (at["x"] + at["width"] / 2, at["y"] + at["height"] / 2)
            assert (
                box["x"] <= middle[0] <= box["x"] + box["width"] and box["y"] <= middle[1] <= box["y"] + box["height"]
            )
        told = "c => [...c.querySelectorAll('[aria-label*=\"%\"]')].map(e => e.getAttribute('aria-label')).join()"
        before = chart.evaluate(told)
        assert before.count("%") > 8
        chart.query_selector("input[type=range]").focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_function(f"([c, before]) => ({told})(c) !== before", arg=[chart, before], timeout=5000)


def test_every_widget_answers(visit, with_widgets):
    """Buttons, sliders and lists inside widgets each change what the widget shows."""
    there = visit()
    page = there.open(with_widgets)
    for widget in page.query_selector_all(".widget-subarea"):
        assert widget.inner_html().strip()
        for control in widget.query_selector_all("button:not([disabled]), input[type=range], select"):
            picture = "w => w.innerHTML + [...w.querySelectorAll('canvas')].map(c => c.toDataURL()).join()"
            before = widget.evaluate(picture)
            tag = control.evaluate("c => c.tagName")
            if tag == "BUTTON":
                control.click()
            else:
                control.evaluate(CHOOSE if tag == "SELECT" else MOVE)
            page.wait_for_function(f"([w, before]) => ({picture})(w) !== before", arg=[widget, before], timeout=5000)
    assert there.errors == []


def test_a_sound_plays_and_its_words_follow_the_sliders(visit, with_players):
    there = visit(viewport=PHONE)
    page = there.open(with_players)
    player = page.locator(".clip-player")
    player.wait_for()
    audio, picture, panel = (player.locator(part) for part in ("audio", ".clip-picture img", ".lens-panel"))
    page.wait_for_function("document.querySelector('.clip-player audio').duration > 0.3")
    assert audio.evaluate("a => a.src.startsWith('data:audio/wav')") and audio.get_attribute("aria-label")
    assert picture.evaluate("p => p.naturalWidth") > 20 and "pectrogram" in picture.get_attribute("alt")
    for mode in ("light", "dark"):  # or the cursor would not stand where the sound is
        page.evaluate("mode => { document.documentElement.dataset.theme = mode; }", mode)
        assert picture.evaluate("p => getComputedStyle(p).padding") == "0px"
    layer, time = player.get_by_label("Layer", exact=True), player.get_by_label("Time", exact=True)
    for slider, key in ((layer, "ArrowUp"), (time, "ArrowRight"), (layer, "Home"), (time, "End"), (layer, "End")):
        before = panel.inner_text(), slider.get_attribute("aria-valuetext")
        slider.press(key)
        assert (panel.inner_text(), slider.get_attribute("aria-valuetext")) != before
    assert player.locator("td[aria-current]").count() == 1
    cell = player.locator("td").first
    cell.click()
    assert cell.get_attribute("aria-current") == "true" and time.input_value() == "0"
    seen = set()
    for option in player.get_by_label("Clip", exact=True).locator("option").all():
        player.get_by_label("Clip", exact=True).select_option(option.get_attribute("value"))
        seen.add((audio.get_attribute("src"), picture.get_attribute("src"), picture.get_attribute("alt")))
    assert len(seen) == player.get_by_label("Clip", exact=True).locator("option").count() > 1
    layer.press("Home")  # at the last layer both readings are normed
    for name in ("raw", "normed"):
        before = player.inner_html()
        player.get_by_role("radio", name=name).check()
        assert player.inner_html() != before
    page.wait_for_function("document.querySelector('.clip-player audio').duration > 0.3")
    audio.evaluate("a => { a.muted = true; return a.play(); }")
    page.wait_for_function("document.querySelector('.clip-player input[id$=time]').value !== '0'", timeout=5000)
    assert there.errors == []


def test_search_finds_a_word(visit, server):
    for base in ({}, {"base": server}):
        there = visit(**base)
        page = there.open("search.html?q=unembedding")
        page.wait_for_selector("#search-results li a", timeout=15_000)
        assert there.errors == []
        assert there.outside == []

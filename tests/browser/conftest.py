"""The built site in headless Chromium: from disk, or served under a sub-path, never with a network.

Tests of one page stand together and share it as it was loaded: at a desk from disk, on a phone from a server. Those
that change the page leave it as others can use it, or come last.
"""

import functools
import http.server
import os
import shutil
import threading
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).resolve().parents[2]
SITE = Path(os.environ.get("SEMHUB_SITE", ROOT / "_build/html")).resolve()
PAGES = sorted(str(p.relative_to(SITE)) for p in SITE.rglob("*.html") if "_static" not in p.parts)
DISK = SITE.as_uri() + "/"
DESK, PHONE, WIDE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}, {"width": 1900, "height": 900}
HOLDING = {
    "charts": 'class="semhub-vega"',
    "overlays": "data:image/png",
    "players": "clip-player",
    "every": "",
    "strips": 'class="strip"',
}
HOLDING |= {"predictions": 'class="predict"', "diagrams": 'class="diagram"', "tables": '<table id="T_'}
# Draws all charts by promises alone, as a browser that prints waits for nothing else; then opens folds. How many charts
# there are, but those on pictures, which have to load, and how many of them have no ink yet.
ON_PAPER = """async () => {
  dispatchEvent(new Event("beforeprint"));
  for (let k = 0; k < 2000; k++) await null;
  const plain = [...document.querySelectorAll(".semhub-vega")].filter((chart) => !chart.spec.datasets?.pictures);
  const told = [plain.length, plain.filter((chart) => !chart.querySelector("svg path")).length];
  document.querySelectorAll("details.below-input, details:has(.strip)").forEach((fold) => {
    fold.toggleAttribute("data-folded", !fold.open);
    fold.open = true;
  });
  return told;
}"""
HOLDING["widgets"] = "application/vnd.jupyter.widget-view+json"


def pytest_generate_tests(metafunc):
    """A test of `desk` or `phone` is of every page, or of those that hold what its mark `holding` names."""
    marked = metafunc.definition.get_closest_marker("holding")
    wanted = HOLDING[marked.args[0] if marked else "every"]
    pages = [page for page in PAGES if wanted in (SITE / page).read_text("utf-8")]
    for name in {"desk", "phone"} & set(metafunc.fixturenames):
        metafunc.parametrize(name, pages, indirect=True)


def pytest_collection_modifyitems(items):
    def place(item):
        given = item.callspec.params if hasattr(item, "callspec") else {}
        return given.get("desk") or given.get("phone") or "", "phone" in given

    items.sort(key=place)


class ByPage(LoadScopeScheduling):
    """All tests of a page go to one process."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid.partition("[")[2]


def pytest_xdist_make_scheduler(config, log):
    return ByPage(config, log)


def pytest_configure(config):
    config.addinivalue_line("markers", "holding(what): only pages that hold it")


def pytest_sessionstart(session):
    if not PAGES:
        raise pytest.UsageError(f"There is no site in {SITE}; run make book first.")


@pytest.fixture(scope="session")
def browser():
    names = (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    with sync_playwright() as playwright:
        offline = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", offline])
        yield browser
        browser.close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The site as a hosted project page has it: below a sub-path of its server."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "sub").mkdir()
    (folder / "sub" / "path").symlink_to(SITE)
    handler = functools.partial(Quiet, directory=str(folder))
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}/sub/path/"
    httpd.shutdown()
    httpd.server_close()


class Visit:
    """A page, open; `outside` (requests beyond `base`, which find nothing) and `errors` fill as it loads and is used.
    told: what tests have found there, once for all of them."""

    def __init__(self, browser, base: str, viewport: dict):
        self.base, self.viewport, self.address = base, viewport, None
        self._forget()
        touched = {"has_touch": True, "is_mobile": True} if viewport == PHONE else {}
        self.context = browser.new_context(viewport=viewport, color_scheme="light", **touched)
        self.page = self.context.new_page()
        self.page.on("request", lambda r: self._asked(r.url))
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda e: self.errors.append(str(e)))
        self.page.on("requestfailed", lambda r: self.errors.append(f"{r.url}: {r.failure}"))
        self.page.on("response", lambda r: self.errors.append(f"{r.url}: {r.status}") if r.status >= 400 else None)

    def _forget(self):
        self.errors, self.outside, self.loaded, self.told = [], [], set(), {}

    def _asked(self, url: str):
        self.loaded.add(url.removeprefix(self.base).partition("?")[0])
        if not url.startswith((self.base, "data:", "blob:", "about:")):
            self.outside.append(url)

    def open(self, address: str, unfold: bool = False) -> "Visit":
        """unfold: with what lies in folds of cells to be seen; before, as no reader has come near: see `ON_PAPER`."""
        if self.address:  # what the page before still asks for is not this one's
            self.page.goto("about:blank")
            self.page.set_viewport_size(self.viewport)
            self._forget()
        self.address = address
        self.page.goto(self.base + address, wait_until="load")
        if unfold:  # also where a page leads on to another
            self.on_paper = self.page.wait_for_function(ON_PAPER).json_value()
        self.settle()
        return self

    def settle(self):
        """Until charts are drawn in the present colour mode, as for printing, and widgets and formulas are there."""
        self.page.wait_for_function(
            """() => {
              const mode = document.documentElement.dataset.theme ?? "";
              const charts = [...document.querySelectorAll(".semhub-vega")];
              if (!window.asked) for (const name of ["beforeprint", "afterprint"]) dispatchEvent(new Event(name));
              window.asked = true;
              const views = document.querySelectorAll('script[type="application/vnd.jupyter.widget-view+json"]');
              const sums = [...document.querySelectorAll(".math.notranslate")];
              return charts.every((c) => c.dataset.drawn === mode)
                && document.querySelectorAll(".widget-subarea").length >= views.length
                && sums.every((m) => m.querySelector("mjx-container"));
            }""",
            timeout=30_000,
        )

    def mode(self, mode: str):
        """Light or dark; colours half way through the theme's transition are nobody's to read."""
        self.page.evaluate(
            "to => { const { dataset: d } = document.documentElement; if (d.theme !== to) d.theme = to; }", mode
        )
        self.settle()
        self.page.evaluate(
            "document.getAnimations().forEach((a) => { try { a.finish(); } catch { a.cancel(); } })"  # some never end
        )


@pytest.fixture(scope="session")
def keep(browser):
    """keep(base, address, viewport): that page, in the window that was opened for such pages."""
    windows: dict[tuple[str, int], Visit] = {}

    def one(base: str, address: str, viewport: dict) -> Visit:
        key = base, viewport["width"]
        there = windows[key] = windows.get(key) or Visit(browser, base, viewport)
        return there if there.address == address else there.open(address, unfold=True)

    return one


@pytest.fixture
def desk(keep, request):
    """It is wide as it opens, as no chart need be drawn once more to see it so."""
    return keep(DISK, request.param, WIDE)


@pytest.fixture
def phone(keep, server, request):
    return keep(server, request.param, PHONE)

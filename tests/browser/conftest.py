"""The built site in headless Chromium: from disk, or served under a sub-path, never with a network."""

import functools
import http.server
import os
import shutil
import threading
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[2]
SITE = Path(os.environ.get("SEMHUB_SITE", ROOT / "_build/html")).resolve()
PAGES = sorted(str(p.relative_to(SITE)) for p in SITE.rglob("*.html") if "_static" not in p.parts)


def pages(holding: str = "") -> list[str]:
    return [page for page in PAGES if holding in (SITE / page).read_text("utf-8")]


KINDS = {
    "address": pages(),
    "with_charts": pages('class="semhub-vega"'),
    "with_overlays": pages("data:image/"),
    "with_widgets": pages("application/vnd.jupyter.widget-view+json"),
    "with_players": pages("clip-player"),
}


def pytest_generate_tests(metafunc):
    for name in KINDS.keys() & set(metafunc.fixturenames):
        metafunc.parametrize(name, KINDS[name])


def pytest_sessionstart(session):
    if not PAGES:
        raise pytest.UsageError(f"There is no site in {SITE}; run make book first.")


@pytest.fixture(scope="session")
def browser():
    names = (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
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
    """One page, open; `outside` and `errors` fill as it loads and is used."""

    def __init__(self, context, base: str):
        self.base, self.outside, self.errors = base, [], []
        context.route("**/*", self._route)
        self.page = context.new_page()
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda e: self.errors.append(str(e)))
        self.page.on("requestfailed", lambda r: self.errors.append(f"{r.url}: {r.failure}"))
        self.page.on("response", lambda r: self.errors.append(f"{r.url}: {r.status}") if r.status >= 400 else None)

    def _route(self, route):
        url = route.request.url
        if url.startswith((self.base, "data:", "blob:")):
            route.continue_()
        else:
            self.outside.append(url)
            route.abort()

    def open(self, address: str):
        self.page.goto(self.base + address, wait_until="load")
        self.settle()
        return self.page

    def settle(self):
        """Until every chart is drawn in the present colour mode and every widget and formula is there."""
        self.page.wait_for_function(
            """() => {
              const mode = document.documentElement.dataset.theme ?? "";
              const charts = [...document.querySelectorAll(".semhub-vega")];
              const views = document.querySelectorAll('script[type="application/vnd.jupyter.widget-view+json"]');
              const sums = [...document.querySelectorAll(".math.notranslate")];
              return charts.every((c) => c.dataset.drawn === mode)
                && document.querySelectorAll(".widget-subarea").length >= views.length
                && sums.every((m) => m.querySelector("mjx-container"));
            }""",
            timeout=30_000,
        )


@pytest.fixture
def visit(browser):
    """`visit(base, **context)` opens a fresh context whose requests beyond `base` are refused and noted."""
    contexts = []

    def start(base: str = SITE.as_uri() + "/", **options) -> Visit:
        options.setdefault("viewport", {"width": 1280, "height": 900})
        contexts.append(browser.new_context(**options))
        return Visit(contexts[-1], base)

    yield start
    for context in contexts:
        context.close()

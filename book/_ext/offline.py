"""Local Sphinx extension: every page runs from the site's own files, without a network.

Altair's output loads its scripts from a content delivery network. Here each chart becomes a box that holds its
specification as JSON; charts.js draws it with the vendored Vega and draws it again when the colour mode changes. Where
no script runs, its picture is shown.
"""

import builtins
import html
import json
import re
from pathlib import Path

from sphinx.util import logging

from semhub_utils.markup import CHART, specification

logger = logging.getLogger(__name__)

EXTERNAL = re.compile(
    r"""<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)\s*=\s*["']?((?:https?:)?//[^"'\s>]+)"""
)
SCRIPTS = ("vendor/vega/vega.min.js", "vendor/vega/vega-lite.min.js", "vendor/vega/vega-embed.min.js")

TOGGLE = '<span class="toctree-toggle"'
ICONS = re.compile(r'<script defer src="[^"]*fontawesome\.js[^"]*"></script>')

# of pages with a model in them; its weights come when a reader first uses it
LIVE = ("live/forward.js", "live/words.js", "live/live.js", "live/start.js")


# inline code and signatures, their text, and where a name may go on below: behind its joints
CODE, TEXT = re.compile(r"<code\b.*?</code>|<dt class=\"sig\b.*?</dt>", re.DOTALL), re.compile(r">[^<]+<")
JOINT = re.compile(r"(?<=[^\W\d][/_:.=-])(?=\w)|(?<=\w--)(?=\w)")

BUILT_IN = {str(kind.__doc__).strip().partition("\n")[0] for kind in vars(builtins).values() if isinstance(kind, type)}


def jointed(code: re.Match) -> str:
    return TEXT.sub(lambda text: JOINT.sub("<wbr>", text[0]), code[0])


def chart_box(spec: dict, still: str = "") -> str:
    label = html.escape(spec.get("description", ""), quote=True)
    data = json.dumps(spec, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
    script = f'<script type="application/json">{data}</script>'
    still = f"<noscript>{still}</noscript>" * bool(still)
    return f'<div class="semhub-vega" role="group" aria-label="{label}">{script}{still}</div>'


def localise(app, pagename, templatename, context, doctree):
    body = context.get("body") or ""

    def replace(match: re.Match) -> str:
        spec = specification(match["js"])
        if not spec.get("description"):
            logger.warning("a chart on page %s has no alt text (its description is empty)", pagename)
        return chart_box(spec, match["still"])

    # a list may hold only list items, and these are bibliography entries
    body = body.replace('role="list" class="citation-list"', 'class="citation-list"')
    if 'class="math' not in body:  # Sphinx asks for MathJax where a page below has a formula
        scripts = [one for one in context["script_files"] if "MathJax" not in str(one.attributes.get("body"))]
        context["script_files"][:] = [one for one in scripts if "mathjax" not in str(one.filename)]
    context["body"] = body = CODE.sub(jointed, CHART.sub(replace, body))
    for address in EXTERNAL.findall(body):
        logger.warning("page %s would load %s from outside the site", pagename, address)
    if "vega-embed@" in body:
        logger.warning(
            "a chart on page %s was not written by Altair's universal template and would load Vega", pagename
        )
    if 'class="semhub-vega"' in body:
        for script in SCRIPTS:
            app.add_js_file(script, priority=190, defer="defer")
        for script in ("holds/models.js", "holds.js", "charts.js"):
            app.add_js_file(script, priority=200, defer="defer")
    elif 'class="holds' in body:
        app.add_js_file("holds.js", priority=200, defer="defer")
    if 'class="semhub-live"' in body:
        app.add_css_file("live/live.css")
        for script in LIVE:
            app.add_js_file(script, priority=200, defer="defer")


def lighten(app, error):
    """The theme has its icons twice, as a font and as a script three times as large; one of another font's; and
    switches that do not say what they do: before the pages below another, and of the colours."""
    for page in Path(app.outdir).rglob("*.html"):
        text = ICONS.sub("", page.read_text("utf-8"))
        text = text.replace(f"<summary>{TOGGLE}", f'<summary aria-label="Pages below">{TOGGLE}')
        text = text.replace('"Color mode"', '"Light, dark, or as your system: press to change"')
        page.write_text(text.replace("fab fa-github", "fa-solid fa-code-branch"), "utf-8")


def read_side_by_side(app, env, docnames):
    """Jupyter Book's own extensions do not say that pages may be read in several processes; neither keeps anything
    while it reads."""
    for name in ("sphinx_multitoc_numbering", "sphinx_jupyterbook_latex"):
        if name in app.extensions:
            app.extensions[name].parallel_read_safe = True


def own_words(app, what, name, value, options, lines):
    """Where nothing is said of a value, Sphinx says what there is to say of all tuples, or of all such fields."""
    if lines and (lines[0] in BUILT_IN or lines[0].startswith("Alias for field number")):
        lines.clear()


def setup(app):
    app.connect("autodoc-process-docstring", own_words)
    app.connect("env-before-read-docs", read_side_by_side)
    app.connect("html-page-context", localise, priority=900)
    app.connect("build-finished", lighten)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""What a lecturer needs of Sphinx.

The directive `predict` is a question to the reader, answers to choose from, and behind `+++` what the model does.
Without scripts the answers are a list above a fold; _static/predict.js makes them buttons that open it.

The role `figure` links to a chapter's figure by its title, as its number depends on the run: {figure}`03 Is it five?`.
Chapters are numbered as their files are, and works are listed by author and year.
"""

import html
import json
import re
from pathlib import Path

from docutils import nodes
from pybtex.plugin import register_plugin
from pybtex.style.formatting.alpha import Style as AlphaStyle
from pybtex.style.labels import BaseLabelStyle
from sphinx.util.docutils import SphinxDirective, SphinxRole

OPEN = '<div class="predict" role="group" aria-label="{}">'
FOLD = '<details><summary>What this model does</summary><div aria-live="polite">'
FIGURE = r'href="#(figure-[\d-]+)">(Figure [\d.]+)</a> <b>{}</b>'


class Predict(SphinxDirective):
    required_arguments, final_argument_whitespace, has_content = 1, True, True

    def run(self):
        lines = [*self.content]
        if "+++" not in lines:
            raise self.error("A prediction needs answers, +++, and what is so.")
        at, (asked, _) = lines.index("+++"), self.parse_inline(self.arguments[0])
        question = nodes.paragraph("", "", nodes.strong("", "Before you look: "), *asked)
        label = html.escape(re.sub("[*`]", "", self.arguments[0]))
        answers, said = self.part(0, at), self.part(at + 1, len(lines))
        return [raw(OPEN.format(label)), question, *answers, raw(FOLD), *said, raw("</div></details></div>")]

    def part(self, first: int, end: int) -> list:
        holder = nodes.Element()
        self.state.nested_parse(self.content[first:end], self.content_offset + first, holder)
        return holder.children


class Figure(SphinxRole):
    def run(self):
        number, _, title = self.text.partition(" ")
        [chapter] = Path(self.env.srcdir, "notebooks").glob(f"{number}_*.ipynb")
        cells = json.loads(chapter.read_text("utf-8"))["cells"]
        shown = "".join(
            "".join(output.get("data", {}).get("text/html", "")) for c in cells for output in c.get("outputs", [])
        )
        found = re.search(FIGURE.format(re.escape(html.escape(title))), shown)
        at, name = (f"#{found[1]}", f"{found[2]}: ") if found else ("", f"Chapter {int(number)}: ")
        address = f"../notebooks/{chapter.stem}.html{at}"
        return [nodes.reference("", name + title, refuri=address, internal=False)], []


def number(app, env):
    """Gives a chapter the number of its file, in whatever part of the contents it stands."""
    for name in [name for name in env.toc_secnumbers if name.startswith("notebooks/")]:
        own, numbers = int(Path(name).name.partition("_")[0]), env.toc_secnumbers[name]
        env.toc_secnumbers[name] = {at: of and (own, *of[1:]) for at, of in numbers.items()}
        for node in (env.titles[name], *env.tocs[name].findall(nodes.reference)):
            if of := node.get("secnumber"):
                node["secnumber"] = [own, *of[1:]]
    return []


class AuthorYear(BaseLabelStyle):
    """Labels of works as the text cites them: "Wu et al., 2025"."""

    def format_labels(self, sorted_entries):
        said = []
        for entry in sorted_entries:
            names = [" ".join(map(str, of.rich_prelast_names + of.rich_last_names)) for of in entry.persons["author"]]
            several = len(names) > 2 or "others" in names
            said.append(f"{f'{names[0]} et al.' if several else ' and '.join(names)}, {entry.fields['year']}")
        return [label + "abcdefgh"[said[:k].count(label)] * (said.count(label) > 1) for k, label in enumerate(said)]


class ByAuthor(AlphaStyle):
    default_label_style = AuthorYear


def raw(text: str) -> nodes.raw:
    return nodes.raw("", text, format="html")


def setup(app):
    app.add_directive("predict", Predict)
    app.add_role("figure", Figure())
    register_plugin("pybtex.style.formatting", "author_year", ByAuthor)
    app.connect("env-get-updated", number, priority=900)  # when all have those of their places
    return {"parallel_read_safe": True, "parallel_write_safe": True}

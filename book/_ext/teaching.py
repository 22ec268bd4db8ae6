"""What a lecturer needs of Sphinx.

The directive `predict` is a question to the reader, answers to choose from, and behind `+++` what the model does.
Without scripts the answers are a list above a fold; _static/predict.js makes them buttons that open it.

The role `figure` links to a chapter's figure by its title, as its number depends on the run: {figure}`03 Is it five?`.
The directive `figures` lists such figures, each with what it shows behind `|`, by what the claims of their section came
to in that run: first those of which one holds, or that no claim rests on, then those whose answer is no. What cannot
be tested, or is too uncertain to tell, is left out. Works are listed by author and year.
"""

import html
import json
import re
from functools import cache
from pathlib import Path

from docutils import nodes
from pybtex.plugin import register_plugin
from pybtex.style.formatting.alpha import Style as AlphaStyle
from pybtex.style.labels import BaseLabelStyle
from sphinx.util.docutils import SphinxDirective, SphinxRole

from semhub_utils.verdicts import EXPLAINED, HOLDS, NOT, WEAKLY

OPEN = '<div class="predict" role="group" aria-label="{}">'
FOLD = '<details><summary>What this model does</summary><div aria-live="polite">'
HOLDING, FAILING = {HOLDS, WEAKLY}, {NOT, EXPLAINED}
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


@cache
def sections(chapter: Path) -> list[str]:
    """What the cells of each section show, as HTML."""
    shown = [""]
    for cell in json.loads(chapter.read_text("utf-8"))["cells"]:
        if cell["cell_type"] == "markdown" and re.search("^## ", "".join(cell["source"]), re.M):
            shown.append("")
        shown[-1] += "".join("".join(of.get("data", {}).get("text/html", "")) for of in cell.get("outputs", []))
    return shown


def found(folder: Path, asked: str) -> tuple[nodes.reference, set[str]]:
    """The link to a figure, and the verdicts on the claims of its section."""
    number, _, title = asked.partition(" ")
    [chapter] = Path(folder, "notebooks").glob(f"{number}_*.ipynb")
    figure = FIGURE.format(re.escape(html.escape(title)))
    address, name, verdicts = "", f"Chapter {int(number)}: ", set()
    for section in sections(chapter):
        if one := re.search(figure, section):
            address, name = f"#{one[1]}", f"{one[2]}: "
            verdicts = {*re.findall('<tr[^>]* data-verdict="([^"]+)"', section)}
            break
    link = nodes.reference("", name + title, refuri=f"../notebooks/{chapter.stem}.html{address}", internal=False)
    return link, verdicts


class Figure(SphinxRole):
    def run(self):
        return [found(self.env.srcdir, self.text)[0]], []


class Figures(SphinxDirective):
    has_content = True

    def run(self):
        lists = {"": nodes.bullet_list(), "Where the answer is no, which is worth showing too:": nodes.bullet_list()}
        good, bad = lists.values()
        for line in filter(None, self.content):
            asked, _, said = line.partition(" | ")
            link, verdicts = found(self.env.srcdir, asked)
            to = good if not verdicts or verdicts & HOLDING else bad if verdicts & FAILING else None
            if to is not None:
                to += nodes.list_item("", nodes.paragraph("", "", link, nodes.Text(f" {said}")))
        return [one for lead, some in lists.items() if some.children for one in (nodes.paragraph("", lead), some)]


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
    app.add_directive("figures", Figures)
    register_plugin("pybtex.style.formatting", "author_year", ByAuthor)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

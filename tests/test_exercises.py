"""What a chapter teaches with: three objectives, two predictions, a diagram, and three exercises whose solutions run.

The solutions are executed as a reader would, in one process, on the models and tables that ship. What they print
is kept in their notebooks, for readers without a kernel: `python tests/test_exercises.py` writes it anew."""

import ast
import io
import json
import re
import resource
import sys
from contextlib import redirect_stdout
from functools import cache
from types import SimpleNamespace

import jupytext
import nbformat
import numpy as np
import pytest
from launch import ROOT, chapters, exercises, repository_url

from semhub_utils import loading
from semhub_utils.models import randomised

BUDGET = 120  # CPU seconds of all solutions together
GRADES = ["●", "●●", "●●●"]
NO_MODEL = {"04_fooled", "05_raising"}  # their exercises are about made-up states and tables on file
STEMS = [path.stem for path in chapters()]
spent: dict[str, float] = {}


@cache
def cells(path):
    return jupytext.read(path).cells


def prose(path) -> str:
    return "\n\n".join(cell.source for cell in cells(path) if cell.cell_type == "markdown")


def solutions(path) -> list:
    return [cell for cell in cells(path) if "solution" in cell.metadata.get("tags", [])]


def outcomes(path) -> list[tuple]:
    """Of each solution its cell, what it prints, and whether its assertions fail."""
    names, found = {}, []
    for cell in cells(path):
        if cell.cell_type == "code" and "remove-cell" not in cell.metadata.get("tags", []):
            printed, failed = io.StringIO(), False
            try:
                with redirect_stdout(printed):
                    exec(compile(cell.source, path.stem, "exec"), names)
            except AssertionError:
                failed = True
            if cell in solutions(path):
                found.append((cell, printed.getvalue(), failed))
            assert cell in solutions(path) or not failed
    return found


def failures(path) -> list[str]:
    """The solutions whose assertions fail, by their first comment."""
    return [cell.source.splitlines()[1] for cell, _, failed in outcomes(path) if failed]


def alike(shown: str, printed: str) -> bool:
    """The same words, and numbers as near as other machines and versions come."""
    number = r"(-?\d+(?:\.\d+)?%?)"
    words, numbers = [], []
    for text in (shown, printed):
        parts = re.split(number, re.sub(r"\s+", " ", text))
        words.append("".join(parts[::2]).replace(" ", ""))
        numbers.append([float(of.rstrip("%")) / (100 if of.endswith("%") else 1) for of in parts[1::2]])
    a, b = numbers
    return words[0] == words[1] and len(a) == len(b) and np.allclose(a, b, rtol=0.05, atol=0.02)


@pytest.mark.parametrize("path", chapters(), ids=lambda p: p.stem)
class TestChapter:
    def test_has_three_objectives(self, path):
        [listed] = re.findall(r"\*\*After this chapter you can\*\*\n\n((?:- .+\n?)+)", prose(path))
        assert len(listed.strip().splitlines()) == 3

    def test_has_two_predictions_before_what_is_so(self, path):
        """Each with answers to choose from; what is so is made from the run, or stands in a figure of it."""
        asked = re.findall(r"^:::\{predict\} (.+\?)\n((?:- .+\n)+)\+\+\+\n([\s\S]+?)\n:::$", prose(path), re.M)
        assert len(asked) == prose(path).count(":::{predict}") == 2
        answered = {node.value for c in cells(path) if c.cell_type == "code" and "chapter.finish(" in c.source
                    for node in ast.walk(ast.parse(c.source)) if isinstance(node, ast.Constant)}  # fmt: skip
        for _, answers, said in asked:
            assert 2 <= len(answers.strip().splitlines()) <= 3
            assert "{glue}`" in said or re.search("figure|table", said)
            assert {*re.findall(r"`verdict-([^`]+)`", said)} <= answered
            assert not re.search(r"\d", re.sub(r"`[^`]+`", "", said)), "a typed-in number"

    def test_has_a_diagram(self, path):
        assert sum(cell.source.startswith("diagram(") for cell in cells(path)) == 1

    def test_says_what_would_change_our_mind_and_leads_to_its_exercises(self, path):
        last = [c.source for c in cells(path) if c.cell_type == "markdown"][-1]
        assert "*What would change our mind:*" in last and f"(../book/exercises/{path.stem})" in last

    def test_links_terms_to_the_glossary_on_first_use(self, path):
        known = re.findall(r"^(\w.*)$", (ROOT / "book/glossary.md").read_text("utf-8"), re.M)
        used = re.findall(r"\{term\}`(?:[^`<]*<)?([^`>]+)>?`", prose(path))
        assert len(used) == len({*used}) >= 3 and {*used} <= {*known}


def test_every_chapter_has_exercises():
    assert [path.stem for path in exercises()] == STEMS


@pytest.mark.parametrize("path", exercises(), ids=lambda p: p.stem)
class TestExercises:
    def test_are_three_graded_ones_with_folded_solutions_that_can_fail(self, path):
        graded = re.findall(r"^## (●+) \S", prose(path), re.M)
        assert graded == GRADES and len(solutions(path)) == 3
        for cell in solutions(path):
            assert "hide-cell" in cell.metadata["tags"] and cell.metadata["cellView"] == "form"  # here, and in Colab
            assert cell.source.startswith("# @title Solution\n# "), "no word on why"
            claims = [node.test for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Assert)]
            assert claims and all(any(isinstance(n, ast.Name) for n in ast.walk(claim)) for claim in claims)
        assert f"(../../notebooks/{path.stem})" in prose(path)

    def test_solutions_hold(self, path):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        found = outcomes(path)
        assert [cell for cell, _, failed in found if failed] == []
        spent[path.stem] = resource.getrusage(resource.RUSAGE_SELF).ru_utime - before
        for cell, printed, _ in found:
            [shown] = cell.outputs
            assert alike(shown.text, printed), f"the page shows\n{shown.text}\nand not\n{printed}"

    def test_solutions_fail_on_random_weights(self, path, monkeypatch):
        """At least one of them is about what a model learned."""
        if path.stem in NO_MODEL:
            pytest.skip("no model is read")
        monkeypatch.setattr(
            loading, "load_model", lambda *a, load=loading.load_model, **k: randomised(load(*a, **k), 0)
        )
        assert failures(path)


def test_all_solutions_are_done_in_three_minutes():
    if len(spent) < len(STEMS):
        pytest.skip("not all were run here")
    assert sum(spent.values()) < BUDGET, spent


# ---- the page for lecturers ----


def test_the_page_for_lecturers_links_figures_that_chapters_draw_and_how_to_cite():
    text = (ROOT / "book/teach.md").read_text("utf-8")
    [listed] = re.findall(r"```\{figures\}\n(.*?)```", text, re.DOTALL)
    linked = re.findall(r"\{figure\}`(\d\d) ([^`]+)`", text) + re.findall(r"^(\d\d) (.+?) \| \S", listed, re.M)
    assert len(linked) >= 20 and len(listed.splitlines()) >= 15
    for number, title in linked:
        [path] = [path for path in chapters() if path.stem.startswith(number)]
        assert any(f'"{title}"' in cell.source for cell in cells(path)), title
    assert f"{{{repository_url()}}}" in text and "@inproceedings{wu2025semantic" in text
    slots = re.findall(r"^\| (\d+) \| (.+) \| (.+) \|$", text, re.M)
    assert sum(int(minutes) for minutes, *_ in slots) == 90
    assert all("{figure}" in shown or "](" in shown for _, shown, _ in slots), "what to show"
    assert [before for *_, before in slots if "](" not in before] == ["Nothing."]


def test_a_figure_is_recommended_by_what_its_section_came_to(tmp_path):
    """What holds first, what does not behind it; what cannot be tested is not there."""
    sys.path.append(str(ROOT / "book/_ext"))
    import teaching

    def section(title, *verdicts):
        rows = "".join(f'<tr id="a" data-verdict="{verdict}">' for verdict in verdicts)
        shown = f'<figure id="f" href="#figure-3-1"><a href="#figure-3-1">Figure 3.1</a> <b>{title}</b>{rows}'
        head = {"cell_type": "markdown", "source": ["# Chapter\n", f"\n## {title}\n"]}
        return [head, {"cell_type": "code", "outputs": [{"data": {"text/html": [shown]}}]}]

    asked = {"Good?": {"holds", "inconclusive"}, "Bad?": {"explained by"}, "Open?": {"cannot be tested here"}}
    asked["Bare?"] = set()
    (tmp_path / "notebooks").mkdir()
    cells = [cell for title, verdicts in asked.items() for cell in section(title, *verdicts)]
    (tmp_path / "notebooks/03_arithmetic.ipynb").write_text(json.dumps({"cells": cells}))
    for title, verdicts in asked.items():
        link, told = teaching.found(tmp_path, f"03 {title}")
        assert told == verdicts and link.astext() == f"Figure 3.1: {title}" and link["refuri"].endswith("#figure-3-1")
    directive = teaching.Figures.__new__(teaching.Figures)
    directive.content = [f"03 {title} | So." for title in asked]
    settings = SimpleNamespace(env=SimpleNamespace(srcdir=tmp_path))
    directive.state = SimpleNamespace(document=SimpleNamespace(settings=settings))
    _, good, lead, bad = directive.run()
    assert [item.astext() for item in good] == ["Figure 3.1: Good? So.", "Figure 3.1: Bare? So."]
    assert "answer is no" in lead.astext() and [item.astext() for item in bad] == ["Figure 3.1: Bad? So."]


def test_what_a_page_shows_of_a_solution_is_what_it_prints():
    assert alike("a  0.50, b 2%, [-0. 1.]", "a 0.51, b 3%, [ 0. 1. ]")
    assert not alike("a 0.50", "b 0.50") and not alike("a 0.50", "a 0.60") and not alike("a 1", "a 1 2")


if __name__ == "__main__":
    for path in exercises():
        printed, notebook = iter([said for _, said, _ in outcomes(path)]), nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if "solution" in cell.metadata.get("tags", []):
                cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=next(printed))]
        nbformat.write(notebook, path)

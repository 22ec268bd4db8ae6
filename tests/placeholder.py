"""Executed notebooks as papermill would leave them, made without a kernel: what the site's pipeline is tested on."""

from pathlib import Path

import altair
import anywidget
import nbformat
import pandas
import traitlets
from ipywidgets.embed import embed_data
from launch import expected_badge, expected_install_cell
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from semhub_utils.markup import with_stills
from semhub_utils.strips import strip
from semhub_utils.verdicts import RULES


def claim(verdict: str) -> dict:
    numbers = {"statistic": 0.5, "low": 0.4, "high": 0.6, "null_high": 0.1, "unit": "nats", "layer": 2, "n_layers": 4}
    about = {"id": f"toy/lens/{verdict}", "claim": "Words rise.", "paper": "Words rise in the middle.", "row": 6}
    controls = {"random weights": {"value": 0.05, "low": 0.0, "high": 0.1}}
    more = {"by": "the last layer", "condition": "it is so", "reason": "It is so.", "n": 200, "controls": controls}
    return {"series": verdict, "verdict": verdict, "where": ["middle"], **about, **numbers, **more}


CAPTION = "<figcaption><b>A curve?</b> Highest: 0.7.</figcaption>"
TABLE = """<details class="data-table"><summary>Data</summary><div class="data-table-scroll" tabindex="0" role="region"
aria-label="Data"><table><caption>Data</caption><thead><tr><th scope="col">layer</th><th scope="col">value</th></tr>
</thead><tbody><tr><th scope="row">0</th><td>0.1</td></tr></tbody></table></div></details>"""


class Counter(anywidget.AnyWidget):
    """A button that counts, alive without a kernel."""

    _esm = """
    export default { render({ model, el }) {
      const button = document.createElement("button");
      const write = () => { button.textContent = `counted ${model.get("value")}`; };
      button.addEventListener("click", () => { model.set("value", model.get("value") + 1); model.save_changes(); });
      model.on("change:value", write);
      write();
      el.append(button);
    } };
    """
    value = traitlets.Int(0).tag(sync=True)


def chart() -> altair.Chart:
    data = pandas.DataFrame({"layer": [0, 1, 2, 3], "value": [0.1, 0.5, 0.7, 0.2]})
    top = altair.param(name="top", value=3, bind=altair.binding_range(min=0, max=3, step=1, name="last layer: "))
    lines = altair.Chart(data, title="A curve", description="A curve over four layers that peaks at layer 2.")
    lines = lines.mark_line(point=True).encode(x="layer:Q", y="value:Q").transform_filter("datum.layer <= top")
    return lines.add_params(top).properties(width="container", height=200)


def notebook(name: str) -> nbformat.NotebookNode:
    figure = chart().to_html(fullhtml=False, template="universal", output_div=f"altair-viz-{name}")
    widget = Counter()
    views = embed_data([widget], drop_defaults=False)
    mime = "application/vnd.jupyter.widget-view+json"

    def cell(source: str, output: dict, *tags: str):
        made = new_code_cell(source, metadata={"tags": list(tags)}, execution_count=1)
        made.outputs = [new_output("display_data", output)] if output else []
        return made

    cells = [
        new_markdown_cell(
            f"# Chapter {name}\n\n{expected_badge(name)}\n\nYou should know this. Time\nto read: 99 minutes.\n\n"
            "## A figure\n\nWhere $h_l$ is a state:\n\n$$x=1$$"
        ),
        cell(expected_install_cell(), {}, "remove-cell"),
        cell("n_items = 100", {}, "parameters"),
        cell("n_items = 7  # injected", {}, "injected-parameters"),
        cell("show(chart)", {"text/html": f'<figure class="semhub-figure">{CAPTION}{figure}{TABLE}</figure>'}),
        cell("widget", {mime: views["view_specs"][0]}),
        new_markdown_cell("## Claims\n\n### The first\n\nWhat was found."),
        cell("claims", {"text/html": strip([claim(verdict) for verdict in RULES], "Words rise.").html}),
    ]
    metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
        "papermill": {"parameters": {"results_dir": "/somewhere/of/mine"}},
        "widgets": {"application/vnd.jupyter.widget-state+json": views["manager_state"]},
    }
    return new_notebook(cells=cells, metadata=metadata)


def write_executed(folder: Path, chapters: list[str]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name in chapters:
        nbformat.write(with_stills(notebook(name)), folder / f"{name}.ipynb")
    return [folder / f"{name}.ipynb" for name in chapters]

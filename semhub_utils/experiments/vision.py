"""Vision: is a picture like its caption, and which words does the lens read at its patches?"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from semhub_utils.evidence import evenly
from semhub_utils.experiments.core import Result
from semhub_utils.experiments.right_words import word_experiment
from semhub_utils.lens import available_readings, lens
from semhub_utils.models import LanguageModel
from semhub_utils.spokes.vision import Picture, SeenItem, alone, names
from semhub_utils.states import hidden_states
from semhub_utils.tokens import target_table

MAX_CELLS = 16_000  # of an overlay: words that a page can carry
FEWEST = 5  # layers of an overlay, as long as one picture is left


def colour_experiment(model: LanguageModel, items: Sequence[SeenItem], **options: Any) -> Result:
    """Claim `colours/pictures`: the share of a plain picture's positions whose first lens token is its colour, minus
    the mean share of the other colours; as released, minus that of "white". See `word_experiment`."""
    given = {"pictures": items}
    return word_experiment(model, given, experiment="colours", nothing=("white noise",), first=True, **options)


def noun_experiment(model: LanguageModel, items: Mapping[str, Sequence[SeenItem]], **options: Any) -> Result:
    """Claims `nouns/<series>`: words of the caption against those of another caption. See `word_experiment`."""
    return word_experiment(model, items, experiment="nouns", **options)


def segment_experiment(model: LanguageModel, items: Mapping[str, Sequence[SeenItem]], **options: Any) -> Result:
    """Claims `segments/<series>`: the word of an area at its patches against others' words. See `word_experiment`."""
    return word_experiment(model, items, experiment="segments", **options)


def overlay(
    model: LanguageModel, pictures: Sequence[Picture], words: Sequence[str], *, max_cells: int = MAX_CELLS
) -> pd.DataFrame:
    """What the lens puts first at every patch, for `figures.overlay`: one row per picture, reading, layer, patch and
    `among` ("all words", or those of `words` that have a token of their own).

    Columns: picture (`vision.names`), reading, among, layer, depth, row, column, rows,
    columns, view (as in `Encoding`), word, value (its probability), right (the word is true of what the patch shows).
    Where there would be more than `max_cells` rows, layers are left out, evenly and of all pictures alike, and rather
    than to show fewer than FEWEST layers, the last pictures. No row for a model without a grid of patches.
    """
    readings = available_readings(model)
    table = target_table(model, words)
    owner = [w for w, group in zip(table.words, table.groups, strict=True) for _ in group]
    among = ("all words", "colours and things") if owner else ("all words",)
    rows, named = [], names(pictures)
    encodings = model.encode([alone(picture) for picture in named.values()])
    shown = [of for of in zip(named.items(), encodings, strict=True) if of[1].grid]

    def room() -> int:
        """Layers that can be shown of these pictures."""
        return max_cells // max(1, sum(len(e.patches) for _, e in shown) * len(readings) * len(among))

    while len(shown) > 1 and room() < min(FEWEST, model.n_layers + 1):
        shown.pop()
    layers = evenly(range(model.n_layers + 1), max(2, room()))
    for (name, picture), encoding in shown:
        true = [set() for _ in encoding.patches]
        for area in picture.areas:
            for k in picture.patches(area, encoding.grid, encoding.view):
                true[k] |= {*area.words}
        hidden = hidden_states(model, [encoding], positions=encoding.patches).hidden
        for reading in readings:
            found = lens(model, hidden, top_k=1, targets=table.ids if owner else None, reading=reading)
            texts = {int(i): model.tokenizer.decode([i]).strip() for i in found.top_ids.unique()}
            for layer in layers:
                first = {among[0]: (found.top_ids[:, layer, 0].tolist(), found.top_logprobs[:, layer, 0], texts)}
                if owner:
                    logprob, best = found.logprob[:, layer].max(-1)
                    first[among[1]] = (best.tolist(), logprob, owner)
                for which, (ids, logprob, said) in first.items():
                    for k, (i, p) in enumerate(zip(ids, logprob.exp().tolist(), strict=True)):
                        at = (layer, layer / model.n_layers, *divmod(k, encoding.grid[1]), *encoding.grid)
                        rows.append((name, reading, which, *at, encoding.view, said[i], p, said[i].lower() in true[k]))
    columns = ["picture", "reading", "among", "layer", "depth", "row", "column", "rows", "columns", "view", "word"]
    return pd.DataFrame(rows, columns=[*columns, "value", "right"])

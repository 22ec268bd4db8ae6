"""From items and a model to a tidy table and evidence: the instruments composed, the same way for every data type.

Each function takes a model and the items of a spoke and returns `(table, evidence)`: the table has the columns of
`results`, the evidence is what a chapter's claims are judged by. What is matched, shuffled and controlled is decided
here.
"""

from semhub_utils.experiments.audio import label_words_experiment
from semhub_utils.experiments.common import both_readings
from semhub_utils.experiments.reading import lens_grid, sound_lens
from semhub_utils.experiments.vision import (
    colour_experiment,
    noun_experiment,
    overlay,
    segment_experiment,
)

__all__ = [
    "both_readings",
    "colour_experiment",
    "label_words_experiment",
    "lens_grid",
    "noun_experiment",
    "overlay",
    "segment_experiment",
    "sound_lens",
]

"""From items and a model to a tidy table and evidence: the instruments composed, the same way for every data type.

Each function takes a model and the items of a spoke and returns `(table, evidence)`: the table has the columns of
`results`, the evidence is what a chapter's claims are judged by. What is matched, shuffled and controlled is decided
here.
"""

from semhub_utils.experiments.lens import both_readings, lens_experiment, task_table
from semhub_utils.experiments.patching import patch_experiment
from semhub_utils.experiments.reading import dominant_share_experiment, lens_grid
from semhub_utils.experiments.similarity import relation_curves, similarity_experiment
from semhub_utils.experiments.steering import steering_experiment
from semhub_utils.experiments.trajectory import trajectory_experiment
from semhub_utils.experiments.traps import norm_trap, padding_trap, punctuation_trap

__all__ = [
    "both_readings",
    "dominant_share_experiment",
    "lens_experiment",
    "lens_grid",
    "norm_trap",
    "padding_trap",
    "patch_experiment",
    "punctuation_trap",
    "relation_curves",
    "similarity_experiment",
    "steering_experiment",
    "task_table",
    "trajectory_experiment",
]

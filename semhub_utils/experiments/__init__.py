"""From items and a model to a tidy table and evidence: the instruments composed, the same way for every data type.

Each function takes a model and the items of a spoke and returns `(table, evidence)`: the table has the columns of
`results`, the evidence is what a chapter's claims are judged by. What is matched, shuffled and controlled is decided
here.
"""

from semhub_utils.experiments.lens import lens_experiment
from semhub_utils.experiments.similarity import relation_curves, similarity_experiment
from semhub_utils.experiments.steering import completes, steering_experiment
from semhub_utils.experiments.trajectory import trajectory_experiment

__all__ = [
    "completes",
    "lens_experiment",
    "relation_curves",
    "similarity_experiment",
    "steering_experiment",
    "trajectory_experiment",
]

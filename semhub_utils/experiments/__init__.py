"""From items and a model to a tidy table and evidence: the instruments composed, the same way for every data type.

Each function takes a model and the items of a spoke and returns `(table, evidence)`: the table has the columns of
`results`, the evidence is what a chapter's claims are judged by. What is matched, shuffled and controlled is decided
here.
"""

from semhub_utils.experiments.moods import sentiment_patch_experiment
from semhub_utils.experiments.sentiment import moves, sentiment_experiment

__all__ = [
    "moves",
    "sentiment_experiment",
    "sentiment_patch_experiment",
]

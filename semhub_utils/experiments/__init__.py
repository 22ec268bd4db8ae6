"""From items and a model to a tidy table and evidence: the instruments composed, the same way for every data type.

Each function takes a model and the items of a spoke and returns `(table, evidence)`: the table has the columns of
`results`, the evidence is what a chapter's claims are judged by. What is matched, shuffled and controlled is decided
here.
"""

from semhub_utils.experiments.answers import answer_experiment
from semhub_utils.experiments.audio import clip_similarity_experiment, label_words_experiment
from semhub_utils.experiments.code import argument_items
from semhub_utils.experiments.commas import and_experiment
from semhub_utils.experiments.common import both_readings, readable
from semhub_utils.experiments.languages import (
    known_continuation,
    language_similarity,
    readable_sentences,
    word_items,
)
from semhub_utils.experiments.layers import layers_experiment
from semhub_utils.experiments.moods import sentiment_patch_experiment
from semhub_utils.experiments.pushes import push_experiment
from semhub_utils.experiments.reading import lens_grid, sound_lens
from semhub_utils.experiments.recolour import recolour_experiment
from semhub_utils.experiments.roles import role_experiment
from semhub_utils.experiments.semantics import fitting, form_similarity_experiment, swap_experiment
from semhub_utils.experiments.sentiment import moves, sentiment_experiment
from semhub_utils.experiments.similarity import relation_curves, similarity_experiment
from semhub_utils.experiments.tasks import choice_table, task_table
from semhub_utils.experiments.token_types import cannot_tell, token_table
from semhub_utils.experiments.traps import norm_trap, padding_trap, punctuation_trap
from semhub_utils.experiments.twins import twins_experiment
from semhub_utils.experiments.vision import (
    colour_experiment,
    image_similarity,
    noun_experiment,
    overlay,
    segment_experiment,
)

__all__ = [
    "both_readings",
    "and_experiment",
    "answer_experiment",
    "argument_items",
    "cannot_tell",
    "choice_table",
    "clip_similarity_experiment",
    "colour_experiment",
    "fitting",
    "form_similarity_experiment",
    "image_similarity",
    "known_continuation",
    "label_words_experiment",
    "language_similarity",
    "layers_experiment",
    "lens_grid",
    "moves",
    "norm_trap",
    "noun_experiment",
    "overlay",
    "padding_trap",
    "punctuation_trap",
    "push_experiment",
    "readable",
    "readable_sentences",
    "recolour_experiment",
    "relation_curves",
    "role_experiment",
    "segment_experiment",
    "sentiment_experiment",
    "sentiment_patch_experiment",
    "similarity_experiment",
    "sound_lens",
    "swap_experiment",
    "task_table",
    "token_table",
    "twins_experiment",
    "word_items",
]

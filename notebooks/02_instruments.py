# %% [markdown]
# # The instruments
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/semantic-hub-book/semantic-hub-book/blob/main/notebooks/02_instruments.ipynb)
#
# **How do you read a layer without fooling yourself?**
#
# ```{glue} answer
# ```
#
# The whole book uses four instruments: hidden states, the lens, similarity and interventions. Each is a formula of one line,
# and each has a trap that has found its way into published figures. Here you step into the traps on purpose, on a live model,
# and see how large the mistake is.
#
# :::{admonition} The paper's claim
# :class: paper-claim
# Hidden states of equal meaning are closer than those of different meaning (Eq. 1), and the unembedding reads the dominant
# language's word from a middle layer (Eq. 2) {cite:p}`wu2025semantic`. Both are statements about numbers, and stand or fall
# with how these are measured.
# :::
#
# | Before you start | |
# |---|---|
# | You should know | what a transformer block is, and what logits are |
# | Time to read | 20 minutes |
# | Time to run | one minute on two cores with the book's own model |

# %% tags=["remove-cell"]
import sys

if "google.colab" in sys.modules:
    source = "semhub-utils @ git+https://github.com/semantic-hub-book/semantic-hub-book"
    get_ipython().run_line_magic("pip", f"install -q '{source}'")

# %% tags=["parameters"]
model_id = "organism:hub"  # a hub id, a local folder, or a model that ships with the book
revision = None
device = "cpu"
dtype = "float32"
items = "auto"  # generated for the book's own models, natural for all others; or one of the two
n_items = None  # prompts per trap: 100
seed = 0
data_dir = None  # a folder with NTREX-128 (ntrex), in place of the sample that ships
results_dir = "results"

# %% tags=["hide-cell"]
from semhub_utils.chapter import begin, diagram, glue, listing
from semhub_utils.experiments import alike, core, traps
from semhub_utils.loading import self_check
from semhub_utils.spokes import natural
from semhub_utils.tokens import word_forms

chapter = begin("instruments", globals(), n_items=(100, 100))
model, given = chapter.model, {"seed": seed, "data_dir": chapter.data}
pairs = natural.pairs(chapter.n_items, ending="no full stop", held_out=False, **given)["spanish"]
pairs = core.readable(model, pairs, lambda pair: (pair.a, pair.b), room=8)  # for a full stop, or pads
prompts = [pair.a for pair in pairs]

# %% tags=["hide-input"]
diagram("lens")

# %% [markdown]
# ## Hidden states: which tensor is layer $l$?
#
# $$ h_0 = \text{embeddings}, \qquad h_l = \text{block}_l(h_{l-1}), \quad l = 1, \dots, L $$
#
# All of these are taken **before** the final norm. Layers are also shown as relative depth $l/L$, so that models of different
# size can stand in one figure.
#
# *The trap.* The library's list `hidden_states` has $L+1$ entries too, and its last one has already been through the final
# norm while the others have not. Treat it like the rest and the last layer stands on another scale.
#
# Whenever a model is loaded, these checks run. They compare this package with the model's own output. If one fails, nothing is
# computed.

# %% tags=["hide-input"]
checks = [(c.name, c.value, c.bound, c.passed) for c in self_check(model)]
listing(checks, ["check", "off by", "bound", "passed"], **{"off by": "{:.1e}", "bound": "{:.0e}"})

# %% [markdown]
# ## The lens: where does the norm go?
#
# $$ \text{lens}(h_l) = \text{softmax}\big(W_U\, \text{norm}(h_l)\big) $$
#
# The logit lens {cite:p}`nostalgebraist2020lens` has two forms. *normed* puts the final norm between state and unembedding.
# The *raw* lens is what the paper's release reads: it leaves the norm out at every layer but the last, where the library has
# put it in already. So the last point of a raw curve stands on another scale than the rest: what changes there may be the
# norm alone. Norming **twice** is no reading: it happens when the library's last entry is normed again.
#
# The figure follows the token that the model would write next. At the last layer, the lens normed once *is* the model's output.

# %% tags=["hide-input"]
norm = chapter.find("norm", lambda: traps.norm_trap(model, prompts))
norm.curves(
    "norm-trap",
    "What does the final norm change?",
    alt="Mean log-probability of the model's next token by relative depth: normed once, raw, and normed twice.",
    y="mean log-probability (nats)",
    types={"normed once": "english", "raw": "spanish", "normed twice": "control"},
)

# %%
before, last = (norm.rows(layer=model.n_layers - k).set_index("series").value for k in (1, 0))
glue("norm_twice", last["normed twice"] - last["normed once"], "+.2f")
glue("norm_raw", before["raw"] - before["normed once"], "+.2f")

# %% [markdown]
# At the last layer, norming twice moves the log-probability by {glue}`norm_twice` nats. One layer before it, leaving the norm out
# moves it by {glue}`norm_raw` nats. In this book a figure always says which reading it shows.
#
# ## Padding: does a neighbour in the batch change the state?
#
# Prompts of different length are padded to share a batch. Padding on the right is invisible to a causal model. Padding on the
# left is harmless only if the model is told so, by the attention mask and by the positions.

# %% tags=["hide-input"]
padding = chapter.find("padding", lambda: traps.padding_trap(model, prompts[:20]))
padding.dose(
    "padding-trap",
    "How far do pads move the last state?",
    alt="Relative change of the last token's state by number of pad tokens, for three ways of padding.",
    y="change relative to the state's length",
    x_title="pad tokens",
    types={"right": "english", "left, masked": "digits", "left, not masked": "control"},
)

# %%
glue("pad_wrong", padding.rows(series="left, not masked").value.max(), ".0%")
glue("pad_right", padding.rows(series="right").value.max(), ".0e")

# %% [markdown]
# Unmasked pads move the state by up to {glue}`pad_wrong` of its length; right padding by {glue}`pad_right`, which is rounding.
# This package pads on the right, or not at all where a batch has one length.
#
# ## The leading space: which token is this word?
#
# A lens is asked about tokens, and a word may have several: with and without the leading space, whole or in pieces. Which one
# fits depends on what stands before it. The tokenizer is asked, in context; nothing is assumed from the model's name.

# %%
words = [("five", ""), ("five", "three plus"), ("5", "8=3+"), ("verde", "el color es"), ("绿色", "草的颜色是")]
forms = [word_forms(model, [word], context)[0] for word, context in words]
told = [(f.word, c, " | ".join(map(" ".join, f.pieces)), f.single) for f, (_, c) in zip(forms, words, strict=True)]
rows = [(*row, "yes" if single else "no") for *row, single in told]
listing(rows, ["word", "after", "tokens of its forms", "one token"])

# %% [markdown]
# A word's probability is the sum over its forms. A word of several tokens is read by its first, and marked. Two words that
# begin with the same token cannot be told apart: both are dropped, and every table says how many were.
#
# ## Similarity: what do texts share without meaning the same?
#
# $$ s_i = \cos(a_i, b_i) - \tfrac12\Big(\underset{j \neq i}{\text{mean}} \cos(a_i, b_j) + \underset{j \neq i}{\text{mean}} \cos(a_j, b_i)\Big) $$
#
# Raw cosine is high between any two states that share *something*: a direction common to all states, a template, the last
# token. Put a Spanish prompt beside an English one of another meaning. Then let both end in a full stop.

# %% tags=["hide-input"]
stop = chapter.run(alike.Punctuation(), pairs)
stop.curves(
    "punctuation-trap",
    "How alike are texts that mean different things?",
    alt="Raw cosine of unrelated Spanish and English prompts by relative depth, with and without a shared full stop.",
    y="raw cosine",
    types={"as they are": "english", "both end in a full stop": "spanish"},
)

# %% [markdown]
# Grey is the same architecture with random weights. The claim that follows asks for more than these show: what a full stop adds
# there, it adds without any learning.

# %% tags=["hide-input"]
stop.claims(
    "shared-punctuation",
    "At some middle layer, a shared full stop alone makes unrelated texts more alike.",
)

# %% [markdown]
# So a match is never shown without non-matches, and these are *of the same form*: what all of them share then cancels. What
# is judged is whether the match is the nearest of them, more often than by chance. That knows no scale, so a model whose
# states all point one way can be set against one whose states do not. The same pairs, measured that way:

# %% tags=["hide-input"]
similarity = chapter.run(alike.Alike(), pairs, series="spanish")
similarity.curves(
    "similarity",
    "Is the translation the nearest of its form?",
    alt="Share of Spanish prompts, above chance, whose twin is the nearest of its form, with null and controls.",
    y="share of pairs, above chance",
    reading=alike.NEAREST,
)

# %% [markdown]
# Cosine has a scale of its own in every model and layer, and some states are near everything. So the claim counts neighbours. Two
# corrections of the cosine stand here beside it: for such hubs of the space (CSLS {cite:p}`conneau2017translation`), and by the *causal* inner
# product, in which directions count by how much they move the output {cite:p}`park2023linear`; by it languages were found to lie
# along largely separable directions {cite:p}`marinov2026separability`.

# %% tags=["hide-input"]
similarity.curves(
    {"similarity": "cosine", "csls": "CSLS", "causal": "causal inner product"},
    "Do corrected cosines agree?",
    alt="Cosine, CSLS and causal inner product of matching pairs minus others, by relative depth, with their nulls.",
    y="matching pairs minus others of the form",
    by="measure",
    reading=("", alike.CORRECTED),
    control="",
)

# %% [markdown]
# To compare two models, a measure has to say how far it is between nothing and all. *Calibrated*, 0 is what shuffled pairs exceed
# one time in twenty, and 1 the largest value there is {cite:p}`groger2026aristotelian`.

# %% tags=["hide-input"]
similarity.curves(
    "calibrated",
    "How far between chance and all?",
    alt="Calibrated share of nearest twins and of shared neighbours, by relative depth, beside random weights.",
    y="0: the null, 1: the most there can be",
    by="measure",
)

# %% [markdown]
# These are prompts of the [first chapter](01_hypothesis), and the verdict on them stands there.
#
# ## The verdict: when does a claim hold?
#
# Every card in this book is filled by the same rules, and [one page](../book/verdicts) prints them. Which of them came first?
# The levels that p is held against, and the number of independent units that is asked, were written before the first run and
# never moved. Nulls, controls and the words themselves became stricter later, each time [a model without a
# hub](04_fooled) had got through. All were fixed before the numbers on this page were computed.
#
# Intervals are over what was drawn independently, as a standard error over related questions is too small
# {cite:p}`miller2024errorbars`. With fewer than a few hundred items those of the central limit theorem are too narrow
# {cite:p}`bowyer2025clt`. A bootstrap is not free of that, so a least number of units is asked, and a share of all or none gets
# Wilson's interval.
#
# ## What does it cost?
#
# The released code runs one prompt at a time and builds the table of all layers, positions and words to read a few numbers from
# it. Here prompts share a batch, only the asked states leave the forward pass, and the vocabulary is walked in blocks. The
# benchmark runs three ways side by side, on random models and on the items of every chapter: as released, ours, and the floor (a
# bare forward pass and the one matrix product that cannot be avoided).
#
# The figures of the last full run stand on the [status page](../book/status). `semhub bench` measures them on your machine and on
# your model.
#
# ## What you learned
#
# The question was how to read a layer without fooling yourself.

# %%
chapter.finish(
    {
        "shared-punctuation": "a shared full stop alone makes unrelated texts more alike",
        "similarity": "in the middle layers a Spanish prompt is nearest to its English twin",
    }
)

# %% [markdown]
# - Say which tensor: before the final norm, layer 0 for the embeddings.
# - Norm once. Pad on the right. Ask the tokenizer.
# - Raw cosine answers a question nobody asked; matched minus unmatched, against shuffled partners, answers yours.
#
# **Try it.** Run the chapter on random weights of any architecture, and look at the full stop again.

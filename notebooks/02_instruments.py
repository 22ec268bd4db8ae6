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
# Hidden states, the lens and similarity: each is a formula of one line, and each has a trap that has found its way into
# published figures. Step into them on purpose and see how large the mistake is.
#
# :::{admonition} The paper's claim
# :class: paper-claim
# Hidden states of equal meaning are closer than those of different meaning (Eq. 1), and the unembedding reads the dominant
# language's word from a middle layer (Eq. 2) {cite:p}`wu2025semantic`.
# :::
#
# You should know what a transformer block is, and what logits are. Time to read: 10 minutes.
#
# **After this chapter you can**
#
# - say which tensor is layer $l$, and where the final norm goes;
# - name what makes two unrelated texts look alike;
# - say what an interval, a null and a control each rule out.

# %% tags=["remove-cell"]
import sys

if "google.colab" in sys.modules:
    source = "semhub-utils @ git+https://github.com/semantic-hub-book/semantic-hub-book"
    get_ipython().run_line_magic("pip", f"install -q '{source}'")

# %% tags=["parameters", "hide-input"]
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
language, pairs = natural.of_a_language(chapter.n_items, ending="no full stop", held_out=False, **given)
pairs = core.readable(model, pairs, lambda pair: (pair.a, pair.b), room=8)  # for a full stop, or pads
prompts = [pair.a for pair in pairs]
glue("language", language.title())

# %% tags=["hide-input"]
diagram("lens")

# %% [markdown]
# ## Hidden states: which tensor is layer $l$?
#
# $$ \begin{aligned} h_0 &= \text{embeddings} \\ h_l &= \text{block}_l(h_{l-1}), \quad l = 1, \dots, L \end{aligned} $$
#
# All are states of the {term}`residual stream`, taken **before** the final norm. Relative {term}`depth` is $l/L$.
#
# *The trap.* The last entry of the library's list `hidden_states` has been through the final norm, and the others have not.
#
# These checks run whenever a model is loaded. If one fails, nothing is computed.

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "Show the checks", "code_prompt_hide": "Hide the checks"}
checks = [(c.meaning, c.value or "nothing", c.bound, c.passed) for c in self_check(model)]
short = {"off by": lambda x: x if x == "nothing" else f"{x:.0e}", "at most": "{:.0e}"}
listing(checks, ["what is checked", "off by", "at most", "passed"], **short)

# %% [markdown]
# ## The lens: where does the norm go?
#
# $$ \text{lens}(h_l) = \text{softmax}\big(W_U\, \text{norm}(h_l)\big) $$
#
# $W_U$ is the {term}`unembedding`. The {term}`logit lens` {cite:p}`nostalgebraist2020lens` comes in two forms: *normed*, as above, and
# *raw*, the paper's, without the norm at every layer but the last. So a raw curve's last point stands on another scale.
# Norming **twice** is no {term}`reading`: it happens when the library's last entry is normed again.
#
# The figure follows the token that the model would write next.

# %% tags=["hide-input"]
norm = chapter.find("norm", lambda: traps.norm_trap(model, prompts))
norm.curves(
    "norm-trap",
    "What does the final norm change?",
    alt="Mean log-probability of the model's next token by relative depth: normed once, raw, and normed twice.",
    y="mean log-probability (nats)",
    types={"normed once": "english", "raw": "spanish", "normed twice": "control"},
)

# %% tags=["hide-input"]
before, last = (norm.rows(layer=model.n_layers - k).set_index("series").value for k in (1, 0))
twice = last["normed twice"] - last["normed once"]
hardly = "by less than 0.01 nats: where the norm's weights are alike, a state that is normed stays as it is"
glue("norm_twice", f"by {twice:+.2f} nats" if abs(twice) >= 0.005 else hardly)
glue("norm_raw", before["raw"] - before["normed once"], "+.2f")

# %% [markdown]
# At the last layer, norming twice moves the log-probability {glue}`norm_twice`. One layer before it, leaving the norm out moves it by
# {glue}`norm_raw` nats.
#
# ## Padding: does a neighbour in the batch change the state?
#
# Prompts are padded to share a batch. On the right a causal model cannot see it. On the left it is harmless only if attention mask and
# positions say so.
#
# :::{predict} How far does padding on the left, not masked, move the last state?
# - Not at all: pads mean nothing
# - By rounding error
# - By a good part of its length
# +++
# By up to {glue}`pad_wrong` of its length. Padding on the right: {glue}`pad_right`.
# This package pads on the right, or not at all where a batch has one length.
# :::

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

# %% tags=["hide-input"]
glue("pad_wrong", padding.rows(series="left, not masked").value.max(), ".0%")
glue("pad_right", padding.rows(series="right").value.max(), ".0e")

# %% [markdown]
# ## The leading space: which token is this word?
#
# A word may have several tokens: with and without the leading space, whole or in pieces. Which one fits depends on what stands
# before it. So the tokenizer is asked, in context.

# %% tags=["hide-input"]
words = [("five", ""), ("five", "three plus"), ("5", "8=3+"), ("verde", "el color es"), ("绿色", "草的颜色是")]
forms = [word_forms(model, [word], context)[0] for word, context in words]
told = [(f.word, c, " | ".join(map(" ".join, f.pieces)), f.single) for f, (_, c) in zip(forms, words, strict=True)]
rows = [(*row, "yes" if single else "no") for *row, single in told]
listing(rows, ["word", "after", "tokens of its forms", "one token"])

# %% [markdown]
# A word's probability is the sum over its forms. A word of several tokens is read by its first, and marked. Two words that
# begin with one token cannot be told apart: both are dropped and counted.
#
# ## Similarity: what do texts share without meaning the same?
#
# $$ \begin{aligned} s_i = \cos(a_i, b_i) &- \tfrac12\,\underset{j \neq i}{\text{mean}} \cos(a_i, b_j) \\
# &- \tfrac12\,\underset{j \neq i}{\text{mean}} \cos(a_j, b_i) \end{aligned} $$
#
# Raw cosine is high between any two states that share *something*; this {term}`adjusted cosine` takes off what all share. Put a
# prompt in {glue}`language` beside an English one of another meaning. Then let both end in a full stop.
#
# :::{predict} What does the shared full stop do to the cosine of texts of *different* meaning?
# - Nothing
# - It makes them more alike
# - It makes them less alike
# +++
# {glue}`verdict-shared-punctuation` The figure shows by how much, and what random weights do.
# :::

# %% tags=["hide-input"]
stop = chapter.run(alike.Punctuation(), pairs, shown=chapter.islands)
stop.curves(
    "punctuation-trap",
    "How alike are texts that mean different things?",
    alt="Raw cosine of unrelated prompts of two languages by relative depth, with and without a shared full stop.",
    y="raw cosine",
    types={"as they are": "english", "both end in a full stop": "spanish"},
)

# %% [markdown]
# Random weights bring texts together without any learning. The claim asks what the full stop adds beyond what it adds there.

# %% tags=["hide-input"]
stop.claims(
    "shared-punctuation",
    "At some layer between the first and the last, a shared full stop alone makes unrelated texts more alike.",
)

# %% [markdown]
# So a match is never shown without non-matches *of the same form*: what all of them share cancels. What is judged is whether the
# match is the nearest of them more often than by chance ({term}`retrieval accuracy`). That knows no scale.

# %% tags=["hide-input"]
similarity = chapter.run(alike.Alike(), pairs, series=language)
similarity.curves(
    "similarity",
    "Is the translation the nearest of its form?",
    alt="Share of prompts of another language, above chance, whose twin is the nearest of its form, with null and controls.",
    y="share of pairs, above chance",
    reading=alike.NEAREST,
)

# %% [markdown]
# :::{dropdown} Corrections of the cosine, and of models
# CSLS corrects for states that are near everything {cite:p}`conneau2017translation`; the *causal* inner product counts directions by how much
# they move the output {cite:p}`park2023linear`; by it languages lie along largely separable directions {cite:p}`marinov2026separability`.
# To compare models, *calibrated* is 0 at what shuffled pairs exceed one time in twenty and 1 at the most there can be
# {cite:p}`groger2026aristotelian`.
# :::

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

# %% tags=["hide-input"]
similarity.curves(
    "calibrated",
    "How far between chance and all?",
    alt="Calibrated share of nearest twins and of shared neighbours, by relative depth, beside random weights.",
    y="0: the null, 1: the most there can be",
    by="measure",
)

# %% [markdown]
# The [first chapter](01_hypothesis) judges such pairs, of all its types.
#
# ## The verdict: when does a claim hold?
#
# Every {term}`verdict` is computed by [the same rules](../book/verdicts). Levels of {term}`p <p value>` and the least number of
# independent units were written before the first run. Nulls, controls and words became stricter each time [a model without a
# hub](04_fooled) got through; all were fixed before the numbers on this page.
#
# :::{dropdown} Intervals, and what all this costs
# Intervals are over what was drawn independently {cite:p}`miller2024errorbars`; for few items those of the central limit theorem are too
# narrow {cite:p}`bowyer2025clt`. A bootstrap is not free of that, so a least number of units is asked, and a share of all or none gets
# Wilson's interval. `semhub bench` measures speed and memory beside the released code; the last run stands on the [status page](../book/status).
# :::
#
# ## What you learned
#
# The question was how to read a layer without fooling yourself.

# %% tags=["hide-input"]
chapter.finish(
    {
        "shared-punctuation": "a shared full stop alone makes unrelated texts more alike",
    }
)

# %% [markdown]
# - Say which tensor: before the final norm, layer 0 for the embeddings.
# - Norm once. Pad on the right. Ask the tokenizer.
# - Raw cosine answers a question nobody asked; matched minus unmatched, against shuffled partners, answers yours.
#
# *What would change our mind:* a check that fails, or another reading of the same state that disagrees beyond rounding.
#
# **Try it.** Do the [exercises](../book/exercises/02_instruments), or run the chapter on random weights and look at the full stop again.

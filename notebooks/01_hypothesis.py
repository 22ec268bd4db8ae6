# %% [markdown]
# # The hypothesis in pictures
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/semantic-hub-book/semantic-hub-book/blob/main/notebooks/01_hypothesis.ipynb)
#
# **Inside a model, do a Spanish sentence, a sum and a line of code meet in one place, and does that place speak English?**
#
# ```{glue} answer
# ```
#
# :::{admonition} The paper's claim
# :class: paper-claim
# Language models bring inputs of equal meaning, from different languages and data types, close together in their middle
# layers. That shared space can be read with the words of the language that dominates training, mostly English {cite:p}`wu2025semantic`.
# :::
#
# The name comes from neuroscience: a {term}`hub <semantic hub>` with *spokes*. Each {term}`data type` has its own {term}`spoke`, the
# first and last layers, where its own tokens are read and written. The hub in between is shared.
#
# You should know that a language model predicts the next token, layer by layer. Time to read: 8 minutes.
#
# **After this chapter you can**
#
# - say what the hypothesis claims, and name its two parts;
# - read a lens grid: which word each layer holds at each place;
# - tell a picture of one sentence from evidence.

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
n_items = None  # texts of a data type: 150, or 252 of natural ones
seed = 0
data_dir = None  # a folder with NTREX-128 (ntrex) and MBPP (mbpp), in place of the samples that ship
results_dir = "results"

# %% tags=["hide-cell"]
from semhub_utils.chapter import begin, diagram, listing
from semhub_utils.experiments import alike, core, layers
from semhub_utils.experiments.regions import lens_grid
from semhub_utils.spokes import languages, natural
from semhub_utils.widgets import LensGrid

chapter = begin("hypothesis", globals(), n_items=(150, 252))
model, given = chapter.model, {"seed": seed, "data_dir": chapter.data}

# %% tags=["hide-input"]
diagram("hub")

# %% [markdown]
# ## Which word does each layer hold?
#
# Read the {term}`hidden state` of any layer through the output vocabulary, as if the model had finished: the {term}`logit lens`
# {cite:p}`nostalgebraist2020lens`. Every column is a token of the input, every row a layer, the last on top. A cell shows the *next* word
# as that layer would write it. Each language has its colour, and English words are underlined; one that the line's own language has too
# counts as its own. "Model" shows real sentences on models that people use.

# %% tags=["hide-input"]
lines, english = natural.shown(chapter.data)
readings = lens_grid(model, {name: text for name, text in lines.items() if core.readable(model, [text], str)}, english)
grid = chapter.keep(LensGrid.from_readings(readings, natural.words(chapter.data)))
grid

# %% tags=["hide-input"]
cells = grid.table().query("reading == 'normed' and (depth == 1 or 1 / 3 <= depth <= 2 / 3)")
rows = cells.depth.lt(1).map({True: "middle rows", False: "top row"})
english = cells.dominant.groupby([cells.sentence.rename("line"), rows], sort=False).mean().unstack()
listing(english.rename_axis(columns=None).reset_index(), **dict.fromkeys(english, "{:.0%}"))

# %% [markdown]
# The table has, for each line, the share of cells with an English word. If the hypothesis holds, it is high in the middle rows under every
# line, and falls in the top row, where the line's own next token stands. ([Chapter 2](02_instruments) explains *normed* and other readings.)
#
# One sentence proves nothing. So you count.
#
# ## Whose words are they?
#
# In many lines of each type, how much of the lens's probability is English? A token is English as far as it is commoner in English text.
# Some tokens are likely whatever is read, so the dotted line is the {term}`null`: tokens of equal frequency exchange their languages.
# Grey is a {term}`control`, the same architecture with random weights.
#
# :::{predict} In *islands*, a model of this book, the types share no fact. How English will its middle layers be?
# - Not English at all
# - As English as those of a model with a hub
# - English on English text alone
# +++
# Look at the curve *islands* in the figure, and at random weights. (*Islands* is there for models of this book alone.)
# :::

# %% tags=["hide-input"]
texts = languages.split_texts(min(chapter.n_items, 40), 1000, **given)
heard = chapter.run(layers.Shares, {some.name: texts for some in texts}, others=chapter.islands)

# %% tags=["hide-input"]
heard.curves(
    "layers-hub",
    "How much of the lens is English?",
    alt="Lens probability of English tokens by relative depth, for text of five data types, with null and controls.",
    y="probability of English tokens",
    reading="normed",
    control=["", "random weights", "islands"],
)

# %% [markdown]
# A lens may lean to English without a hub: compare *islands* and random weights, which share nothing. So no claim rests on this figure.

# %% [markdown]
# ## Do equal meanings meet?
#
# Each prompt has an English twin: *el gato sabe* and *the cat can*, `8=3+` and *eight equals to three plus*. Is the twin the nearest of
# all English prompts of its form, more often than by chance? What prompts of one form share cannot help: all that are compared have it.
# The book's own models, its {term}`organisms <organism>`, read facts taught in English only, others names of countries, months and days, and sums.
#
# :::{predict} At which layers will the twin be the nearest?
# - At the first: equal meanings have equal words
# - In the middle
# - At none
# +++
# {glue}`verdict-similarity`
# :::

# %% tags=["hide-input"]
pairs = natural.pairs(chapter.n_items, **given)
similarity = chapter.run(alike.Alike(), pairs)

# %% tags=["hide-input"]
similarity.curves(
    "similarity",
    "Is its English twin the nearest of all prompts of its form?",
    alt="Share of prompts, above chance, whose nearest English prompt of the form is their twin, by relative depth.",
    y="share of prompts, above chance",
    reading=alike.NEAREST,
    control="",
)

# %% [markdown]
# {term}`Middle <early, middle, late>` is the second third of the layers, *before* the first sixth, *after* the last layer.

# %% tags=["hide-input"]
similarity.claims(
    "similarity",
    "In the middle layers, more than before and after, of all prompts of its form the nearest to one in {name} is its twin.",
)

# %% [markdown]
# {glue}`why-similarity` The cosine tells by how much:

# %% tags=["hide-input"]
similarity.curves(
    "similarity",
    "By how much is it nearer than the others?",
    alt="Cosine of prompts with their English twins minus that with others, by relative depth, for five data types.",
    y="cosine of matching pairs minus others",
    reading=(alike.CORRECTED, alike.RELEASED),
    control="",
)

# %% [markdown]
# ## What you learned
#
# The question was whether different kinds of input meet in one place, and whether that place speaks English. The second half takes the
# right English words, against wrong ones: [chapter 6](06_languages) has them.

# %% tags=["hide-input"]
chapter.finish(
    {
        "similarity": "in the middle layers a prompt is nearest to its twin of equal meaning",
    }
)

# %% [markdown]
# - The hypothesis has two parts: equal meanings meet, and where they meet reads as English. Either can hold alone.
# - A picture of one sentence is an example; a claim needs many, a null and controls.
# - That the space can be *read* does not mean that the model *uses* it: that takes an [intervention](03_arithmetic).
#
# *What would change our mind:* of a yes, twins as near in random weights, or where types share nothing; of a no, twins nearest in the middle
# and farther at both ends.
#
# **Try it.** Do the [exercises](../book/exercises/01_hypothesis), or run your own model and compare the grids.

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
# layers. That shared space can be read with the words of the language that dominates training, which is English for most models
# {cite:p}`wu2025semantic`.
# :::
#
# The name comes from neuroscience: a *hub* with *spokes*. Each data type has its own spoke, the first and last layers, where
# its own tokens are read and written. The hub in between is shared.
#
# | Before you start | |
# |---|---|
# | You should know | that a language model predicts the next token, layer by layer |
# | Time to read | 10 minutes |
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
n_items = None  # texts of a data type: 150, or 252 of natural ones
seed = 0
data_dir = None  # a folder with NTREX-128 (ntrex) and MBPP (mbpp), in place of the samples that ship
results_dir = "results"

# %% tags=["hide-cell"]
from semhub_utils.chapter import begin, diagram
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
# Stop the model after any layer and read its state through the output vocabulary, as if it had finished. This is the *logit
# lens* {cite:p}`nostalgebraist2020lens`. Below, every column is a token of the input and every row a layer, the last on top.
# A cell shows the word the lens finds likeliest. English words are marked in blue and underlined. Choose another data type,
# and click a cell to see the runners-up. In the book, "Model" shows the same of real sentences on models that people use.

# %%
chapter.keep(LensGrid.from_readings(lens_grid(model, *natural.shown(chapter.data))))

# %% [markdown]
# *How to read it.* If the hypothesis holds, rows in the middle show English words under Spanish, Chinese or digits, and the top
# row shows the data type's own next token. *normed* and *raw* are two readings of the same state; the
# [next chapter](02_instruments) explains why they differ. A model may have two more: *tuned*, trained to foretell the model's own
# output, and *jacobian*, what the later layers do on average. *neighbours* asks which words leave the most similar states.
#
# One sentence proves nothing. So you count.
#
# ## Whose words are they?
#
# Take many lines of each type and ask, at every position and layer, how much of the lens's probability is English. A token is English as
# far as it is commoner in English text than in the other types'. Chance plays a part, as some tokens are likely whatever is
# read. So the dotted line is the null: tokens that are equally frequent exchange their languages. Grey is the same
# architecture with random weights.

# %%
texts = languages.split_texts(min(chapter.n_items, 40), 1000, **given)
heard = chapter.run(layers.Shares, {some.name: texts for some in texts}, readings=True, others=chapter.islands)

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
# English leads inside *islands* too, a model of this book whose data types share no fact: it read mostly English, so its middle
# layers lean to English words whatever they mean. Whose words a lens finds is no evidence of a hub. So no claim rests on this
# figure.

# %% [markdown]
# ## Do equal meanings meet?
#
# Now leave words aside and compare states. Each prompt has an English twin: *el gato sabe* and *the cat can*, `8=3+` and
# *eight equals to three plus*. Is the twin the nearest of all English prompts of its form, more often than by chance? What
# prompts of one form share whatever they mean cannot help it: all that are compared have that. The second figure has the
# cosines, against others of the form and, as released, against all. The book's own models read prompts that speak of facts which
# they were taught in English only. Other models read news, each sentence with its translation, and sums in digits and words.

# %%
pairs = natural.pairs(chapter.n_items, tokenizer=model.tokenizer, **given)
pairs = {name: core.readable(model, some, lambda pair: (pair.a, pair.b)) for name, some in pairs.items()}
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

# %% tags=["hide-input"]
similarity.curves(
    "similarity",
    "By how much is it nearer than the others?",
    alt="Cosine of prompts with their English twins minus that with others, by relative depth, for five data types.",
    y="cosine of matching pairs minus others",
    reading=(alike.CORRECTED, alike.RELEASED),
    control="",
)

# %% tags=["hide-input"]
similarity.claims(
    "similarity",
    "In the middle layers, more than before and after, the nearest to {name} prompts of all of their form is their twin.",
)

# %% [markdown]
# ## What you learned
#
# The question was whether different kinds of input meet in one place, and whether that place speaks English. On this model:

# %%
chapter.finish(
    {
        "similarity": "in the middle layers a prompt is nearest to its twin of equal meaning",
    }
)

# %% [markdown]
# - The hypothesis has two parts: states of equal meaning meet, and where they meet reads as English. Either can hold alone.
# - A picture of one sentence is an example; a claim needs many, a null and controls.
# - That the space can be *read* does not mean the model *uses* it: that takes an [intervention](03_arithmetic).
#
# **Try it.** Type `semhub run hypothesis --model ID_OR_FOLDER` and compare the grids.

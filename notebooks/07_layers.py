# %% [markdown]
# # The language of the layers
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/semantic-hub-book/semantic-hub-book/blob/main/notebooks/07_layers.ipynb)
#
# **When a model reads Chinese, which language do its layers speak?**
#
# ```{glue} answer
# ```
#
# At every place of running text, how much of the lens's probability lies on English tokens, how much on Chinese ones? And what can such a
# share prove?
#
# :::{admonition} The paper's claim
# :class: paper-claim
# On Chinese text, English has most of the probability in the middle layers, and Chinese at the end. P(language | token) comes
# from counts over large text of each language, all languages being equally likely beforehand {cite:p}`wu2025semantic`.
# :::
#
# You should know what a [lens, an interval and a null](02_instruments) are. Time to read: 10 minutes.
#
# **After this chapter you can**
#
# - compute whose language a layer speaks from token counts;
# - say why English may lead without any hub;
# - name the test that a lean to English cannot pass.

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
n_items = None  # lines of each type that the model reads: 40, or 84 of natural ones
n_counted = 1000  # other lines of each type, to count tokens in: the more the better
seed = 0
data_dir = None  # a folder with NTREX-128 (ntrex) and MBPP (mbpp), in place of the samples that ship
results_dir = "results"

# %% tags=["hide-cell"]
from semhub_utils.chapter import begin, diagram, glue, listing
from semhub_utils.experiments import core, layers
from semhub_utils.spokes import languages

chapter = begin("layers", globals(), "n_counted", n_items=(40, 84))

# %% tags=["hide-input"]
diagram("lens")

# %% [markdown]
# ## The texts
#
# The lines say the same in each language: news of [NTREX-128](https://github.com/MicrosoftTranslator/NTREX) and programs of MBPP for a
# public model, two facts of their world for the book's {term}`organisms <organism>`. Other lines of the same kind are only counted.

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "Show the table", "code_prompt_hide": "Hide the table"}
texts = languages.split_texts(chapter.n_items, n_counted, seed=seed, data_dir=chapter.data)
texts = texts.but(some.only(core.readable(chapter.model, some.read, str)) for some in texts)
print(texts.left_out or "Nothing was left out.")
first = [(some.name, next(iter(some.read), ""), *some.twins[:1]) for some in texts]
listing(first, ["type", "line", "same in English"])

# %% [markdown]
# ## Whose token is it?
#
# P(language | token) is Bayes' rule on counts, all types equally likely. A token seen once should settle nothing, so each type gets every
# token seen {glue}`smoothing` times more. Tokens in no counted line are *never seen*, those the
# tokenizer uses for itself *special*; both are drawn as a language of their own.
#
# The trap: a language that shares its tokens, or is written in bytes, cannot be told by single tokens. So first ask how much of its own
# text goes to the right type: what a certain lens would give.

# %% tags=["hide-input"]
glue("smoothing", layers.SMOOTHING)
told = chapter.find("tokens", lambda: layers.token_table(chapter.model, texts, seed=seed))
told.bars(
    "layers-told",
    "Can a type be told by its tokens?",
    alt="Mean of P(own type given token) over the tokens of the lines read, one bar per type.",
    y="mean of P(own type | token)",
)

# %% tags=["hide-input"]
others = [some.name for some in texts if some.twins and some.name != "code"]
needs = {name: layers.cannot_tell(told.table, name, "english") for name in others}
glue("shared", told.table.shared.mean(), ".0%")
glue("unseen", told.table.unseen.mean(), ".1%")
glue("n_lines", int(told.table.n.min()))

# %% [markdown]
# {glue}`shared` of the tokens read are shared with another type, {glue}`unseen` were never seen; at least {glue}`n_lines` lines of each type
# fit. Where less than half of a text goes to its own language, claims read *cannot be tested here*.
#
# ## Which language has most?
#
# Multiply the {term}`lens's <logit lens>` probability of every token by P(language | token), add up, and average over a line. Choose the text.
#
# :::{predict} On Chinese text, which language has most in the middle?
# - Chinese throughout
# - English in the middle, Chinese at the end
# - English throughout
# +++
# {glue}`verdict-layers-lead` {glue}`verdict-layers-end`
# :::

# %% tags=["hide-input"]
names = sorted((some.name for some in texts), key=lambda name: name != "chinese")  # the text shown first
heard = chapter.run(layers.Shares, dict.fromkeys(names, texts), readings=True, others=chapter.islands)
own_class = {"never seen": "logic", "special": "image"}
heard.curves(
    "layers-type",
    "Which language do the layers speak?",
    alt="Lens probability of each language's tokens by relative depth, for text of one type at a time, normed reading.",
    y="probability of the type's tokens",
    called={"data_type": "text", "control": "weights", "": "trained", "random weights": "random"},
    types=own_class,
    reading="normed",
)

# %% [markdown]
# :::{dropdown} How to read it
# The curves of one text add up to 1. Dotted: the {term}`null`, tokens of like frequency exchange their types; choose one series to see its own.
# English text is one {term}`control`: no other language should come up there. Random weights give each language what it has of the vocabulary.
# English need not be in front: models trained on much Japanese pass through both {cite:p}`zhong2024beyond`.
# :::

# %% tags=["hide-input"]
heard.curves(
    {"layers-lead": "lead over own language", "layers-hub": "English alone"},
    "By how much does English lead the text's own language?",
    alt="Probability of English, or its lead over the text's own type, by relative depth, with null and controls.",
    y="P(English) minus P(own), or P(English)",
    by="English",
    called={"data_type": "text", "measure": "score"},
    reading="normed",
)

# %% [markdown]
# :::{dropdown} The grey curves
# The grey curves are the embedding layer, random weights, {term}`roles exchanged` (the same of the other language on English text) and
# *islands*, a model of this book whose types share no fact: where its curve is as high, nothing shared is needed for it.
# :::

# %% tags=["hide-input"]
heard.claims(
    "layers-lead",
    "On {name} text, English has more probability than {name} at some middle layer.",
    row=3,
    paper="On Chinese text, English has most of the probability in the middle layers.",
    needs=needs,
    of=others,
)

# %% tags=["hide-input"]
heard.claims(
    "layers-end",
    "On {name} text, {name} has more probability than English at the last layer.",
    row=3,
    paper="At the end, the text's own language has most of the probability.",
    needs=needs,
    of=others,
)

# %% [markdown]
# In the middle: {glue}`why-layers-lead` At the end: {glue}`why-layers-end`
#
# ## One language, or a mix?
#
# Does a share of one half mean both languages at every place? The entropy over types tells: 0 bits is one language for certain, 1 bit two
# that are equally likely.

# %% tags=["hide-input"]
heard.curves(
    "layers-entropy",
    "How sure is the lens of the language?",
    alt="Entropy over types at one position in bits, by relative depth, one curve per type of text, two readings.",
    y="entropy over types (bits)",
)

# %% [markdown]
# :::{dropdown} Does the answer hinge on a choice?
# *The estimate*: no smoothing; tokens of one type alone; or all never seen tokens given to the text's own language, the worst case for English.
# *The reading*: *raw* leaves the final norm out at every layer but the last, as released. The next two figures show both.
# :::

# %% tags=["hide-input"]
heard.curves(
    "layers-estimate",
    "Does the lead hinge on the estimate?",
    alt="Probability of English minus own by relative depth under four estimates of P(language given token).",
    y="P(English) minus P(own)",
    called={"data_type": "text"},
)

# %% tags=["hide-input"]
heard.curves(
    "layers-gap",
    "What does the final norm change?",
    alt="Share of each type in the normed reading minus that in the raw one, by relative depth, one text at a time.",
    y="P(type), normed minus raw",
    called={"data_type": "text"},
    types=own_class,
)

# %% [markdown]
# ## The trap: English whatever you read
#
# :::{admonition} A share of English is no translation
# :class: warning
# A model that saw mostly English learns that English tokens are likely. While its lens is vague, English leads whatever the text is,
# even if nothing is shared. No null over tokens can tell this from a hub.
# :::
#
# What tells them apart is *which* English: does the lens give more to the tokens of the line's *own* translation than to those of
# other lines of the same form? A lean to English raises both alike.
#
# :::{predict} Will the English of this very line be ahead?
# - Yes: the layers translate
# - No: they lean to English, whatever it says
# +++
# {glue}`verdict-layers-meaning`
# :::

# %% tags=["hide-input"]
meaning = chapter.run(layers.Meaning, dict.fromkeys(others, texts))
meaning.curves(
    "layers-meaning",
    "Is it the English of this line?",
    alt="Log probability of the tokens of a line's own translation minus those of others, by relative depth.",
    y="own translation minus others (nats)",
)

# %% tags=["hide-input"]
meaning.claims(
    "layers-meaning",
    "On {name} text, some middle layer favours the English of the line over that of other lines.",
    needs=needs,
)

# %% [markdown]
# {glue}`why-layers-meaning`
#
# ## What you learned
#
# The question was which language the layers speak when a model reads Chinese.

# %% tags=["hide-input"]
chapter.finish(
    {
        "layers-lead": "English has more of the probability in the middle layers",
        "layers-end": "at the last layer the language of the text has more of the probability",
        "layers-meaning": "a middle layer favours the English of this very line",
    }
)

# %% [markdown]
# - A share of a language is an average over tokens: ask first how well single tokens tell languages apart.
# - Tokens without a language are a class of their own. Spread over the languages, they would look like a finding.
# - English may lead for being frequent. Only the right English words speak for a hub.
#
# *What would change our mind:* a model without anything shared that favours the English of the very line.
#
# **Try it.** Do the [exercises](../book/exercises/07_layers), or run `semhub run layers --model organism:islands` and `organism:balanced`:
# which claims follow the dominance of English, and which follow what is shared?

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
# The last chapters followed single words. Here you drop the words and keep the language: at every position of running text, how
# much of the lens's probability lies on English tokens, how much on Chinese ones? Then you ask what such a share can prove.
#
# :::{admonition} The paper's claim
# :class: paper-claim
# On Chinese text, English has most of the probability in the middle layers, and Chinese at the end. P(language | token) comes
# from counts over large text of each language, all languages being equally likely beforehand {cite:p}`wu2025semantic`.
# :::
#
# | Before you start | |
# |---|---|
# | You should know | what a [lens, an interval and a null](02_instruments) are |
# | Time to read | 15 minutes |
# | Time to run | half a minute on two cores with the book's own model |

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
n_items = None  # lines of each type that the model reads: 40, or 84 of natural ones
n_counted = 1000  # other lines of each type, to count tokens in: the more the better
seed = 0
data_dir = None  # a folder with NTREX-128 (ntrex) and MBPP (mbpp), in place of the samples that ship
results_dir = "results"

# %% tags=["hide-cell"]
from semhub_utils.chapter import begin, diagram, glue, listing
from semhub_utils.experiments import layers
from semhub_utils.spokes import languages

chapter = begin("layers", globals(), "n_counted", n_items=(40, 84))

# %% tags=["hide-input"]
diagram("lens")

# %% [markdown]
# ## The texts
#
# The model reads lines that say the same in each language. For a public model they are news sentences of
# [NTREX-128](https://github.com/MicrosoftTranslator/NTREX) in five languages, each of another article, and programs of MBPP as a
# further type: samples that ship with the book, or with `data_dir` the sets' own files. For the book's own models they are
# generated from their world, two facts in a line, with code and sums as further types; generated German is
# [a text type of its own](06_languages). Other lines of the same kind are only counted. A sample covers few of a public model's
# tokens, and the rest of its lens counts below as *never seen*.

# %%
texts = languages.split_texts(chapter.n_items, n_counted, seed=seed, data_dir=chapter.data)
print(texts.left_out or "Nothing was left out.")
first = [(some.name, some.read[0], *some.twins[:1]) for some in texts]
listing(first, ["type", "line", "same in English"])

# %% [markdown]
# ## Whose token is it?
#
# P(language | token) is Bayes' rule on counts. P(token | language) is the token's share of the counted lines of that language.
# All types are equally likely beforehand, so a language is not favoured for having more text. A token seen once should not
# settle anything, so every type gets a little of every token that was seen: as if each had it {glue}`smoothing` times more in a
# text of mean length.
#
# The lens is read at every position of a line, or of a model with many tokens at some, evenly spaced, as each costs a product
# with the whole vocabulary in every layer.
#
# Two kinds of token have no language. Those that occur in no counted line are kept apart as *never seen*, and those that the
# tokenizer uses for itself, such as the end of a text, as *special*. Both are drawn below like a language of their own.
#
# The trap: a language that shares its tokens with others, or is written in bytes, cannot be told by single tokens. So you
# first ask how much of its own text, token by token, goes to the right type. This is also what the lens would give if it were
# certain of the tokens that stand there: do not expect a text's own language to rise above it.

# %% tags=["hide-input"]
glue("smoothing", layers.SMOOTHING)
told = chapter.find("tokens", lambda: layers.token_table(chapter.model, texts, seed=seed))
told.bars(
    "layers-told",
    "Can a type be told by its tokens?",
    alt="Mean of P(own type given token) over the tokens of the lines read, one bar per type.",
    y="mean of P(own type | token)",
)

# %%
others = [some.name for some in texts if some.twins and some.name != "code"]
needs = {name: layers.cannot_tell(told.table, name, "english") for name in others}
glue("shared", told.table.shared.mean(), ".0%")
glue("unseen", told.table.unseen.mean(), ".1%")
glue("n_lines", int(told.table.n.min()))

# %% [markdown]
# Over all types, {glue}`shared` of the tokens read are shared with another type, and {glue}`unseen` were never seen in the lines
# counted. At least {glue}`n_lines` lines of each type fit the model. Where less than half of a language's own text goes to it,
# or most of it is in bytes, its claims read *cannot be tested here*.
#
# ## Which language has most?
#
# Now the lens. At each position and layer it gives a probability to every token; multiply it by P(language | token), add up over
# the vocabulary, and average over the positions of a line. Choose the language of the text.

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
# *How to read it.* The curves of one text add up to 1. The dotted line of each is what it would be if tokens of like
# frequency exchanged their types: choose one series to see its own. If the paper's finding shows, English lies above the
# text's own language somewhere in the middle, and below it at the right edge. English text is one control: no other language
# should come up there. Random weights are the other: they give each language what it has of the vocabulary. English need not
# be the language in front: Llama-2 passes through English alone, but models trained on much Japanese through both
# {cite:p}`zhong2024beyond`.

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
# The dotted line is the null: P(language | token) is shuffled among tokens that are as frequent, within a factor of two. It is
# high where English simply has more tokens in the lens's reach. The grey curves are the embedding layer, random weights,
# *roles exchanged*, which is the lead or the share of the other language on English text, and *islands*, a model of this book
# whose types share no fact: where its curve is as high, nothing shared is needed for it.

# %% tags=["hide-input"]
heard.claims(
    "layers-lead",
    "On {Name} text, English has more probability than {Name} at some middle layer.",
    row=3,
    paper="On Chinese text, English has most of the probability in the middle layers.",
    needs=needs,
    of=others,
)

# %% tags=["hide-input"]
heard.claims(
    "layers-end",
    "On {Name} text, {Name} has more probability than English at the last layer.",
    row=3,
    paper="At the end, the text's own language has most of the probability.",
    needs=needs,
    of=others,
)

# %% [markdown]
# ## One language, or a mix?
#
# A share of one half may mean that the lens is torn at every position. The entropy over types at one position tells: 0 bits is
# one language for certain, and 1 bit is two that are equally likely. How low is low? Tokens that one language alone has make
# any lens look sure. So the grey curves show what it would be if tokens of like frequency exchanged their types, and what random
# weights give.

# %% tags=["hide-input"]
heard.curves(
    "layers-entropy",
    "How sure is the lens of the language?",
    alt="Entropy over types at one position in bits, by relative depth, one curve per type of text, two readings.",
    y="entropy over types (bits)",
)

# %% [markdown]
# ## Does the answer hinge on a choice?
#
# *The estimate.* Leave the smoothing out; or count only tokens that one type alone has; or give all the probability of never
# seen tokens to the text's own language, the worst case for English. The dotted line of each is again what tokens of like
# frequency would give, grey are random weights.

# %% tags=["hide-input"]
heard.curves(
    "layers-estimate",
    "Does the lead hinge on the estimate?",
    alt="Probability of English minus own by relative depth under four estimates of P(language given token).",
    y="P(English) minus P(own)",
    called={"data_type": "text"},
)

# %% [markdown]
# *The reading.* The authors' release leaves the final norm out at every layer but the last (*raw*). The details above say for each
# reading whether the claim holds; their verdict is that of *normed*. The next figure shows what the norm adds to each type's
# share, with the same null and control.

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
# A model that saw mostly English learns that English tokens are likely. While its lens is still vague, English leads whatever
# the text is, even if nothing is shared between languages. No null over tokens can tell this from a hub: it is the same share.
# :::
#
# What tells them apart is *which* English. Take the English translation of each line, keep the tokens that the line's own
# language does not have, and ask whether the lens gives more to them than to the translations of other lines of the same form.
# A lean to English raises both alike.

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
    "On {Name} text, some middle layer favours the English of the line over that of other lines.",
    needs=needs,
)

# %% [markdown]
# ## What you learned
#
# The question was which language the layers speak when a model reads Chinese. The verdicts on this model, by rules fixed before
# the run:

# %%
chapter.finish(
    {
        "layers-lead": "English has more of the probability in the middle layers",
        "layers-end": "the language of the text has more of it at the end",
        "layers-meaning": "a middle layer favours the English of this very line",
    }
)

# %% [markdown]
# - A share of a language is an average over tokens: ask first how well single tokens tell languages apart.
# - Tokens without a language are a class of their own. Spread over the languages, they would look like a finding.
# - English may lead for being frequent. Only the right English words speak for a hub.
#
# **Try it.** Run `semhub run layers --model organism:islands`, a model whose types share nothing, and `organism:balanced`, which
# has no dominant language. Which claims follow the dominance of English, and which follow what is shared?

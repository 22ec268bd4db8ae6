# %% [markdown]
# # Steering across languages
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/semantic-hub-book/semantic-hub-book/blob/main/notebooks/08_steering.ipynb)
#
# **Can two English words change the sentiment of what a model writes in Spanish?**
#
# ```{glue} answer
# ```
#
# What a lens reads need not be used. So you write: add what tells *good* from *bad* in English while the model reads Spanish, and look at
# what it writes.
#
# :::{admonition} The paper's claim
# :class: paper-claim
# Activation addition of *Good* minus *Bad* in a middle layer of Llama-2 and Llama-3 moves the sentiment of Spanish and Chinese
# continuations about as well as the same words in Spanish and Chinese do. Fluency and relevance are kept {cite:p}`wu2025semantic`.
# :::
#
# You should know what an [intervention with its controls](03_arithmetic) is. Time to read: 10 minutes.
#
# **After this chapter you can**
#
# - build a steering vector and the random directions to hold it against;
# - say why one vector on many prompts is one sample;
# - ask for the effect first, and only then for its price.

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
n_items = (
    None  # prompts per language; a quarter of them is for choosing: 32, or 80 for other models than the book's own
)
seed = 0
data_dir = None  # a folder with the files of tyqiangz/multilingual-sentiments, or the book's own prompts
n_seeds = None  # continuations per prompt and coefficient: 10, or 1
max_new_tokens = None  # 32 as in the paper, or as many as the shipped models' sentences have left
sentiment_model = None  # a text classifier with the labels positive and negative, or the book's list of words
judge_model = None  # the model whose perplexity counts, or the steered one itself, unsteered
results_dir = "results"

# %% tags=["hide-cell"]
from semhub_utils.chapter import begin, diagram, glue, listing, together
from semhub_utils.experiments import continuations, patching
from semhub_utils.loading import load_model
from semhub_utils.spokes import sentiment

more = ("n_seeds", "max_new_tokens", "sentiment_model", "judge_model")
chapter = begin("steering", globals(), *more, n_items=(32, 80))
model = chapter.model

# %% tags=["hide-input"]
diagram("intervention")

# %% [markdown]
# ## The prompts
#
# Without a folder of reviews (`tyqiangz/multilingual-sentiment-datasets`), prompts are openings from the book's lexicon: what is a thing like?

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "Show the table", "code_prompt_hide": "Hide the table"}
shipped = chapter.own
tasks = {
    language: sentiment.task(language, chapter.n_items, seed=seed, tagged=shipped, data_dir=data_dir)
    for language in sentiment.LANGUAGES
}
prompts, lost = ({language: getattr(task, of) for language, task in tasks.items()} for of in ("prompts", "dropped"))
print(*(task.note for task in tasks.values()), sep="\n")
listing(zip(*([p.prompt for p in some[:3]] for some in prompts.values()), strict=True), [*tasks])

# %% [markdown]
# ## What counts as sentiment?
#
# The paper asks a classifier; you can name one as `sentiment_model`. Without it, a rule counts the words below; a text without any is
# dropped and counted. A second measure always has a number: the probability of pleasant next words against unpleasant ones, in
# {term}`nats`.
#
# The trap: a vector made of *good* may just make the model say *good*. So the pair's own words do not count.

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "Show the table", "code_prompt_hide": "Hide the table"}
words = [[" / ".join(pair) for pair in zip(t.pleasant, t.unpleasant, strict=True)] for t in tasks.values()]
listing(zip(*words, strict=True), [*tasks])

# %% [markdown]
# ## The vector, and where it is added
#
# Subtract the state of *bad* from that of *good*, multiply by a coefficient, and add it to the first places of the prompt, at the layer
# where it was read ({term}`activation addition`); so for the pair of the output language. Layer and coefficient are chosen on a quarter
# of the prompts and judged on the others. Compared is half the difference between a push with and against.

# %% tags=["hide-input"]
settings = {
    "score": continuations.sentiment_classifier(sentiment_model, device=device) if sentiment_model else None,
    "judged_by": load_model(judge_model, device=device, dtype=dtype) if judge_model else None,
    "n_seeds": n_seeds or (10 if shipped else 1),
    "max_new_tokens": max_new_tokens or (4 if shipped else 32),
}
steering = chapter.run(lambda name: continuations.Sentiment(task=tasks[name], **settings), prompts, dropped=lost)

# %% tags=["hide-input"]
steering.curves(
    "sentiment-choice",
    "At which layer does a push move the next word? (the quarter for choosing)",
    alt="Half the difference of a push with and against the vector, by relative depth, for each coefficient and language.",
    y="shift of the next word (nats)",
)

# %% [markdown]
# No claim yet: few prompts are for choosing. Each of a few prompts is continued three times: pushed against the vector, not at all, and
# with it. The three differ in {glue}`turned` cases.

# %% tags=["hide-input"]
texts = steering.rows("sentiment-example").rename(columns={"data_type": "language", "series": "vector"})
wrote = texts.pivot_table(
    index=["language", "prompt", "vector"], columns="push", values="text", aggfunc="first", sort=False
)
other = wrote[wrote.nunique(axis=1) > 1].rename_axis(columns=None).reset_index()
glue("turned", f"{len(other)} of {len(wrote)}")
listing(other) if len(other) else None

# %% [markdown]
# ## Dose and response
#
# If the vector carries sentiment, more of it gives more, and the negative less. Any push disturbs: ten random directions, and another
# layer, show how much.

# %% tags=["hide-input"]
told = {"without the pair's own words": "", "all words": ", all words"}
named = steering.changed(
    lambda rows: rows.assign(measure=rows.measure.astype(str) + rows.reading.replace(told), reading="")
)
named.dose(
    "sentiment-dose",
    "Does more of the vector give more pleasant text? (the other prompts)",
    alt="Change of sentiment, perplexity or relevance by coefficient, for either vector, random ones and a wrong layer.",
    y="change against no steering",
    x_title="coefficient",
)

# %% [markdown]
# :::{dropdown} How to read it
# Each line is the change against no steering, prompt by prompt; for perplexity, of the continuation for the unsteered judge, a ratio. Relevance
# is the cosine of the continuation's and the prompt's mean states minus that with other prompts. *All words* counts the pair itself too. The
# table adds the mean (`level`), its spread over seeds (`seed_sd`) and how many prompts had no number. The text is sampled as in the paper
# (temperature 1, top-p 0.3, frequency penalty 1).
# :::
#
# ## First English
#
# Does the English vector move *English* text? If not, the claims below read *cannot be tested here*. In the world of the models that ship
# with this book nobody praises or blames.
#
# The trap: prompts are many, but the vector is one. So the shift must stand out among a hundred random directions. A vector's effect
# varies widely over prompts {cite:p}`tan2024steering`, and is often the opposite of what was wanted {cite:p}`braun2025steering`:
# intervals are over prompts.
#
# :::{predict} Will *good* minus *bad* move English text on this model?
# - Yes, more than random directions
# - No more than random directions
# +++
# {glue}`verdict-sentiment-mass` {glue}`verdict-sentiment`
# :::

# %% tags=["hide-input"]
steering.claims(
    "sentiment-mass/english",
    "Good minus bad makes English next words more pleasant than random directions do.",
)

# %% tags=["hide-input"]
steering.claims(
    "sentiment/english",
    "Good minus bad makes English continuations more pleasant than random directions do.",
)

# %% [markdown]
# {glue}`why-sentiment-mass/english`
#
# ## Then the other languages

# %% tags=["hide-input"]
others = [language for language in tasks if language != "english"]
next_words = steering.claims(
    "sentiment-mass",
    "Good minus bad, in English, makes {name} next words more pleasant than random directions do.",
    row=4,
    paper="Steering in English moves the sentiment of Spanish and Chinese continuations.",
    needs=continuations.moves(steering.one("sentiment-mass/english"), "English text"),
    of=others,
)

# %% tags=["hide-input"]
whole_texts = steering.claims(
    "sentiment",
    "Good minus bad, in English, makes {name} continuations more pleasant than random directions do.",
    row=4,
    paper="Steering in English moves the sentiment of Spanish and Chinese continuations.",
    needs=continuations.moves(steering.one("sentiment/english"), "English text"),
    of=others,
)
together(next_words, whole_texts)

# %% [markdown]
# ## As well as the language's own words?
#
# "About as well" needs a margin fixed before the run: the English vector does at least three quarters of what the native one does. Others
# found English vectors to steer even better {cite:p}`schut2025think`.

# %% tags=["hide-input"]
steering.bars(
    "sentiment-difference",
    "Does the native vector do more?",
    alt="Shift under the English vector minus that under the native one, by language, with 95% intervals.",
    y="English minus native shift",
    reading="without the pair's own words",
)

# %% [markdown]
# A vector that does nothing is as good as another one, and keeps fluency too. So these claims are asked only where sentiment moved.

# %% tags=["hide-input"]
kind = "sentiment" if sentiment_model else "sentiment-mass"
moved = {name: continuations.moves(steering.one(f"{kind}/{name}"), f"{name.title()} text") for name in tasks}
moved = {name: moved["english"] or moved[name] for name in others}
native = steering.claims(
    "native" if sentiment_model else "native-mass",
    "The English vector moves {name} at least three quarters as far as its own vector.",
    row=4,
    paper="English words steer about as well as the words of the output language.",
    needs=moved,
)

# %% [markdown]
# And at what price? Fluency is kept if perplexity rises by at most a quarter, relevance if at least four fifths of it are left.

# %% tags=["hide-input"]
fluent = steering.claims(
    "fluency",
    "Under the English vector the perplexity of {name} text rises by at most a quarter.",
    row=4,
    paper="Fluency and relevance are kept.",
    needs=moved,
    of=others,
)

# %% tags=["hide-input"]
relevant = steering.claims(
    "relevance",
    "Under the English vector {name} text keeps at least four fifths of its relevance to the prompt.",
    row=4,
    paper="Fluency and relevance are kept.",
    needs=moved,
    of=others,
)
together(native, fluent, relevant)

# %% tags=["hide-input"]
written = named.rows("sentiment-dose", series="English vector", measure="text (−1 to 1)", strength=0)
glue("with_words", int(written.n.sum()))
reported = [steering.one(f"sentiment/{name}") for name in tasks]
glue("all_prompts", sum(found.n + found.dropped.get("without a number", 0) for found in reported))
glue("judge", judge_model or "the steered model itself, unsteered")

# %% [markdown]
# Without steering, {glue}`with_words` of {glue}`all_prompts` texts could be judged. Fluency was judged by {glue}`judge`.
#
# ## Interchange patch: whole states instead of a difference
#
# Write the state at the end of *the table is usually happy*, then of its opposite, *sad*, in the place of the Spanish prompt's last
# state. Does what comes next follow the word ({term}`interchange patch`)? Measured is half of the pleasant word's effect minus the
# unpleasant one's, over ten pairs; the pair that is written does not count.
#
# The trap: any sentence there moves the next word. Only the gap between pleasant and unpleasant is sentiment.
#
# :::{predict} A whole state says more than a difference. Will it move sentiment where the vector did not?
# - Yes, in English and beyond
# - In English alone
# - No
# +++
# {glue}`verdict-patch`
# :::

# %% tags=["hide-input"]
english = tasks["english"]
patches = chapter.run(lambda name: patching.SentimentPatch(tasks[name], english), prompts, dropped=lost)

# %% tags=["hide-input"]
patches.curves(
    "sentiment-patch-level",
    "What comes next with an English word's state in the last place?",
    alt="Pleasant minus unpleasant next words by layer of the patch, for each kind of word written, by language.",
    y="pleasant minus unpleasant (nats)",
    types={"no patch": "control"},
)

# %% tags=["hide-input"]
patches.curves(
    "sentiment-patch",
    "Does the sentiment of the next word follow?",
    alt="Half of the pleasant word's effect minus the unpleasant one's by layer, with null and controls, by language.",
    y="shift of the next word (nats)",
    by="opposites",
)

# %% [markdown]
# The {term}`controls <control>`: two colours in the place of the opposites, a random push, the embedding layer, random weights.

# %% tags=["hide-input"]
patches.claims(
    "patch/english",
    "At some middle layer, a pleasant English word makes the English next word more pleasant than its opposite does.",
)

# %% tags=["hide-input"]
patches.claims(
    "patch",
    "At some middle layer, a pleasant English word makes the {name} next word more pleasant than its opposite does.",
    needs=continuations.moves(patches.one("patch/english"), "English text", "word"),
    of=others,
)

# %% [markdown]
# In English: {glue}`why-patch/english`
#
# ## What you learned
#
# The question was whether two English words can change the sentiment of what a model writes in Spanish.

# %% tags=["hide-input"]
chapter.finish(
    {
        "sentiment-mass": "good minus bad, in English, makes next words more pleasant",
        "sentiment": "good minus bad makes whole continuations more pleasant",
        "patch": "the state of a pleasant English word makes the next word more pleasant",
        "native-mass": "the English vector moves a language nearly as far as its own vector",
    }
)

# %% [markdown]
# - Ask first whether the vector works in its own language; only then whether it crosses.
# - One vector is one sample: many prompts do not make it many. Compare it with many random directions.
# - Do not measure a push towards *good* by counting *good*. A push that changes nothing keeps fluency and relevance.
#
# *What would change our mind:* of a yes, random directions that do as much; of a no, an English effect beyond these, on a model that read praise
# and blame.
#
# **Try it.** Do the [exercises](../book/exercises/08_steering), or run it on a model that has read reviews, with a classifier (`sentiment_model`).

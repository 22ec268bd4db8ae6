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
# A lens shows that English words can be read from the states of a model that reads Spanish. It does not show that the
# model uses them. So you write: take what tells *good* from *bad* in English, add it while the model reads Spanish, and look
# at what it writes.
#
# :::{admonition} The paper's claim
# :class: paper-claim
# Activation addition of *Good* minus *Bad* (or the reverse) in a middle layer of Llama-2 and Llama-3 moves the sentiment of
# Spanish and Chinese continuations about as well as the same words in Spanish and Chinese do. Fluency and relevance to the
# prompt are kept {cite:p}`wu2025semantic`.
# :::
#
# | Before you start | |
# |---|---|
# | You should know | what an [intervention with its controls](03_arithmetic) is |
# | Time to read | 15 minutes |
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
from semhub_utils.chapter import begin, diagram, glue, listing
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
# Each prompt stands behind a line that says which language all text is in. The models of this book know a language by its
# tag (`español :`); others read a sentence. The paper continues reviews and posts. Without a folder of those, the prompts are
# openings made of the book's lexicon: what is a thing like? The paper's set is on GitHub,
# `tyqiangz/multilingual-sentiment-datasets`; `data_dir` takes a clone of it, of which `data/LANGUAGE/test.csv` (or `.jsonl`) is
# read, each language's own.

# %%
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
# The paper asks a classifier. You can name one as `sentiment_model`. Without it, a rule counts words: the list below holds
# opposites of which one side is pleasant. The rule is known and cannot be fooled by style, but it is narrow. A continuation
# without any such word has no number. It is dropped and counted, never called neutral.
#
# So there is a second measure that every prompt has: how much probability the model gives to the pleasant words as its next
# word, against the unpleasant ones (the difference of the two log-probabilities, in nats).
#
# The trap: a vector made of *good* may just make the model say *good*. The pair's own words therefore do not count, in either
# measure. The figures show the reading with them too.

# %%
words = [[" / ".join(pair) for pair in zip(t.pleasant, t.unpleasant, strict=True)] for t in tasks.values()]
listing(zip(*words, strict=True), [*tasks])

# %% [markdown]
# ## The vector, and where it is added
#
# Read *good* and *bad* as two prompts and subtract their states, token by token. Multiply by a coefficient, positive or
# negative, and add the result to the first positions of the prompt, at the layer where it was read. Nothing else is touched: the model writes
# on by itself, sampled as in the paper (temperature 1, top-p 0.3, frequency penalty 1). The same is done with the pair of the output
# language.
#
# Layer and coefficient are chosen on a quarter of the prompts and judged on the others. What you compare is half the
# difference between a push with the coefficient and a push against it.

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
# *How to read it.* Few prompts are for choosing, so the bands are wide. The dotted line is what chance reaches one time in
# twenty at any layer tried; grey is the mean of three random directions as long as the English vector. Nothing is claimed here.
#
# The paper used layer 17 of 32 and coefficient 2; the dose below has that too, as a curve of its own. Here is what the model wrote for the first prompts, pushed against the
# vector, not at all, and with it, at the coefficient chosen.

# %% tags=["hide-input"]
texts = steering.rows("sentiment-example").rename(columns={"data_type": "language", "series": "vector"})
texts.pivot_table(index=["language", "prompt", "vector"], columns="push", values="text", aggfunc="first", sort=False)

# %% [markdown]
# ## Dose and response
#
# If the vector carries sentiment, more of it should give more, and the negative should give less. A push of any kind
# disturbs the model. Ten random directions of the same length, and the vector added at another layer, show how much; both
# were run at the chosen coefficient and its negative. Choose the measure, the language and the vector.

# %% tags=["hide-input"]
told = {"without the pair's own words": "", "all words": ", all words"}
named = steering.changed(lambda rows: rows.assign(measure=rows.measure + rows.reading.replace(told), reading=""))
named.dose(
    "sentiment-dose",
    "Does more of the vector give more pleasant text? (the other prompts)",
    alt="Change of sentiment, perplexity or relevance by coefficient, for either vector, random ones and a wrong layer.",
    y="change against no steering",
    x_title="coefficient",
)

# %% [markdown]
# *How to read it.* Each line is the change against no steering, prompt by prompt; for perplexity it is a ratio. *All words* counts the
# pair itself too; the other measures leave it out. Bands are
# 95% intervals over prompts. The table adds the mean itself (`level`), its spread over seeds (`seed_sd`), and how many prompts had no
# number. Perplexity is that of the continuation, given the prompt, for the unsteered judge. Relevance is the cosine of the
# continuation's and the prompt's mean states minus the cosine with the other prompts.
#
# ## First English
#
# Before asking whether something crosses languages, ask whether there is something. Does the English vector move *English*
# text? If not, the model has no sentiment that two words could turn, and the claims below read *cannot be tested here*.
#
# Expect little of the models that ship with this book. In their world nobody praises or blames. *Good* is the opposite of
# *bad*, and what a dog is; no sentence ties it to *happy* or *peace*.
#
# The trap in the null: prompts are many, but the vector is one. Some random direction also shifts all prompts the same way,
# and counting prompts as witnesses would call that significant. So the measured shift must also stand out among the shifts of
# a hundred random directions, or, for the texts written, be above the strongest of ten. A mean hides more: from prompt to
# prompt the effect of a steering vector varies widely {cite:p}`tan2024steering`, and is often the opposite of what was
# wanted, most of all where the differences it is made of do not point one way {cite:p}`braun2025steering`. So intervals here
# are over prompts.

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
# ## Then the other languages

# %% tags=["hide-input"]
others = [language for language in tasks if language != "english"]
steering.claims(
    "sentiment-mass",
    "Good minus bad, in English, makes {Name} next words more pleasant than random directions do.",
    row=4,
    paper="Steering in English moves the sentiment of Spanish and Chinese continuations.",
    needs=continuations.moves(steering.one("sentiment-mass/english"), "English text"),
    of=others,
)

# %% tags=["hide-input"]
steering.claims(
    "sentiment",
    "Good minus bad, in English, makes {Name} continuations more pleasant than random directions do.",
    row=4,
    paper="Steering in English moves the sentiment of Spanish and Chinese continuations.",
    needs=continuations.moves(steering.one("sentiment/english"), "English text"),
    of=others,
)

# %% [markdown]
# ## As well as the language's own words?
#
# The figure shows the shift under the English vector minus that under the native one, same layer, same coefficient. "About as
# well" needs a margin that is fixed before the run: the English vector does at least three quarters of what the native
# one does. Others found English vectors to steer even better than those of the output language {cite:p}`schut2025think`.

# %% tags=["hide-input"]
steering.bars(
    "sentiment-difference",
    "Does the native vector do more?",
    alt="Shift under the English vector minus that under the native one, by language, with 95% intervals.",
    y="English minus native shift",
    reading="without the pair's own words",
)

# %% [markdown]
# Where the English vector moves nothing, there is nothing to compare: a vector that does nothing is as good as another one,
# and it keeps fluency and relevance too. The claims that follow are therefore asked only where the sentiment moved, by the
# classifier where you named one, else by the next words.

# %% tags=["hide-input"]
kind = "sentiment" if sentiment_model else "sentiment-mass"
moved = {name: continuations.moves(steering.one(f"{kind}/{name}"), f"{name.title()} text") for name in tasks}
moved = {name: moved["english"] or moved[name] for name in others}
steering.claims(
    "native" if sentiment_model else "native-mass",
    "The English vector moves {Name} at least three quarters as far as the {Name} one.",
    row=4,
    paper="English words steer about as well as the words of the output language.",
    needs=moved,
)

# %% [markdown]
# ## At what price?
#
# Fluency is kept if the continuation's perplexity rises by at most a quarter, relevance if at least four fifths of it are
# left. Both bounds were fixed before the run, and both must hold for the push with and the push against the vector together.

# %% tags=["hide-input"]
steering.claims(
    "fluency",
    "Under the English vector the perplexity of {Name} text rises by at most a quarter.",
    row=4,
    paper="Fluency and relevance are kept.",
    needs=moved,
    of=others,
)

# %% tags=["hide-input"]
steering.claims(
    "relevance",
    "Under the English vector {Name} text keeps at least four fifths of its relevance to the prompt.",
    row=4,
    paper="Fluency and relevance are kept.",
    needs=moved,
    of=others,
)

# %% tags=["hide-input"]
written = named.rows("sentiment-dose", series="English vector", measure="text (−1 to 1)", strength=0)
glue("with_words", int(written.n.sum()))
reported = [steering.one(f"sentiment/{name}") for name in tasks]
glue("all_prompts", sum(found.n + found.dropped.get("without a number", 0) for found in reported))
glue("judge", judge_model or "the steered model itself, unsteered")

# %% [markdown]
# Two numbers tell how far these verdicts reach. Without steering, {glue}`with_words` of {glue}`all_prompts` prompts, all
# languages together, were continued with something that the measure of written sentiment could judge. And fluency was judged
# by {glue}`judge`: a model that judges itself finds its own habits fluent.
#
# The authors' release could not make its own report: the report reads a key that is never written, and needs coefficients 0 and 2 and
# native vectors, which the script does not run. Here every coefficient and both vectors are run.
#
# ## Interchange patch: whole states instead of a difference
#
# The vector was a difference, added to states that went on as they were. Now you move a whole state. Let the model read an
# English sentence on the same thing that ends in a pleasant word, *the table is usually happy*, and write the state at its end in the place of the
# last state of the Spanish prompt, at one layer. Then do it with the opposite, *sad*. Does the sentiment of what comes next
# follow the word?
#
# What is measured is half of the pleasant word's effect minus the unpleasant one's, on the next word, for ten pairs of
# opposites. The pair that is written does not count.
#
# The trap: any sentence in the prompt's place moves the next word. So the first figure shows the measure itself, under
# pleasant, unpleasant and neutral words (colours), and without a patch, which is coefficient 0. Only the gap between pleasant
# and unpleasant is sentiment. The other trap is the number of pairs: ten pairs are ten samples, however many prompts there
# are. So the null also counts whole pairs.

# %% tags=["hide-input"]
english = tasks["english"]
patches = chapter.run(lambda name: patching.SentimentPatch(tasks[name], english), prompts, dropped=lost)

# %% tags=["hide-input"]
patches.curves(
    "sentiment-patch-level",
    "What comes next with an English word's state in the last place?",
    alt="Pleasant minus unpleasant next words by layer of the patch, for each kind of word written, by language.",
    y="pleasant minus unpleasant (nats)",
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
# *How to read it.* The dotted line is what chance reaches one time in twenty. Grey are the controls: two colours in the place
# of the opposites, a push in a random direction as far as either state is from the middle of both, the embedding layer,
# random weights.
#
# As above, English comes first: where a pleasant word moves nothing in English, the claims on the other languages read *cannot be tested here*.

# %% tags=["hide-input"]
patches.claims(
    "patch/english",
    "At some middle layer, a pleasant English word makes the English next word more pleasant than its opposite does.",
)

# %% tags=["hide-input"]
patches.claims(
    "patch",
    "At some middle layer, a pleasant English word makes the {Name} next word more pleasant than its opposite does.",
    needs=continuations.moves(patches.one("patch/english"), "English text", "word"),
    of=others,
)

# %% [markdown]
# ## What you learned
#
# The question was whether two English words can change the sentiment of what a model writes in Spanish. The verdicts on this
# model, by rules fixed before the run:

# %%
chapter.finish(
    {
        "sentiment-mass": "good minus bad, in English, makes next words more pleasant",
        "sentiment": "good minus bad makes whole continuations more pleasant",
        "native-mass": "the English vector moves a language nearly as far as its own vector",
        "fluency": "texts under it stay as fluent",
        "relevance": "texts under it stay relevant",
        "patch": "the state of a pleasant English word makes the next word more pleasant",
    }
)

# %% [markdown]
# - Ask first whether the vector works in its own language; only then whether it crosses.
# - One vector is one sample: many prompts do not make it many. Compare it with many random directions.
# - A whole state moves more than sentiment: compare it with the state of the opposite, not with no patch.
# - Do not measure a push towards *good* by counting *good*.
# - A push that changes nothing keeps fluency, relevance and every equivalence. Ask for those only after the effect.
#
# **Try it.** Run the chapter on a model that has read reviews: `semhub run steering --model ID_OR_FOLDER`, with a classifier by
# `--set sentiment_model=ID`. Then compare the two readings: how much of the effect is left without *good* and *bad* themselves?

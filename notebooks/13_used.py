# %% [markdown]
# # Is it used?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/semantic-hub-book/semantic-hub-book/blob/main/notebooks/13_used.ipynb)
#
# **Does a model use what its languages share, or does it only lie there?**
#
# ```{glue} answer
# ```
#
# A model may carry a meaning along and answer from something else. So you move a concept from one language's run into another's, and take
# away what the types share.
#
# :::{admonition} The paper's claim
# :class: paper-claim
# The shared space is used: what is done to it in English changes what the model says in other types {cite:p}`wu2025semantic`.
# The paper adds vectors; it moves no concept apart from its language, and takes nothing away. {cite:t}`dumas2024separating` do the
# first: in Llama-2 the language to answer in is settled at an earlier layer than the concept, and the mean state of a concept over
# several languages is translated as well as that of one, or better.
# :::
#
# You should know what a [lens, an interval and a null](02_instruments) are, and what a [patch](03_arithmetic) is. Time to read: 8 minutes.
#
# **After this chapter you can**
#
# - tell a concept that was moved from an answer that was moved;
# - say what suffices from what is needed;
# - choose what else to erase, so that a loss means something.

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
n_items = None  # concepts; and prompts of each type: 140, or 70 for other models than the book's own
seed = 0
data_dir = None  # a folder with NTREX-128 (ntrex), in place of the sample that ships
results_dir = "results"

# %% tags=["hide-cell"]
from semhub_utils.chapter import begin, diagram, glue, listing
from semhub_utils.experiments import used, words
from semhub_utils.experiments.core import readable
from semhub_utils.spokes import arithmetic, facts, languages, translation
from semhub_utils.spokes.items import continued

chapter = begin("used", globals(), n_items=(140, 70))
model, n_items = chapter.model, chapter.n_items

# %% tags=["hide-input"]
diagram("intervention")

# %% [markdown]
# ## A concept in another language
#
# Ask for a word by a few examples, `Español: "libro" - Deutsch: "`; the book's own models as their dictionary lines say it, `libro
# deutsch:`. One run translates concept *i* from language A to B, another *j* from C to D. Write the state of the first into the
# second, one layer at a time ({term}`interchange patch`). Then the second may say four things:
#
# | It says | so at this layer the state holds |
# |---|---|
# | *j* in D | nothing that is used |
# | *j* in B | the language, and not yet the concept |
# | *i* in D | the concept, apart from its language |
# | *i* in B | both, or the finished word |

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "Show examples", "code_prompt_hide": "Hide examples"}
own = chapter.own
asked = translation.concept_items(n_items, seed=seed, world=own)
asked = readable(model, asked, lambda item: [q.text for q in (item.run, *item.alike, *item.others)])
can_translate = chapter.knows(
    words.task_table, translation.lens_items(asked), "say a word in another language", series="words"
)
glue("translated", can_translate.share, ".0%")
listing(
    [(i.source.text[-40:], i.run.text[-40:], i.cluster, i.languages) for i in asked[:4]],
    ["from", "into", "i", "A B C D"],
)

# %% [markdown]
# The model alone says the right word in {glue}`translated` of the runs; a state is moved only where both runs are right. It is taken at the *last
# token*, where the answer is written, or at the *source word*, where the embedding is simply another word: there a patch has to be above
# that.
#
# :::{predict} Going up the layers, what does the second run take from the first?
# - The language first, then the concept
# - The concept first, then the language
# - Both at once: the finished word
# +++
# {glue}`verdict-concepts` The order in which the curves of the figure cross is the order in which the model settles things.
# :::

# %% tags=["hide-input"]
moved = chapter.run(used.Concepts, {site: asked for site in (used.LAST, used.WORD)})
moved.curves(
    "concepts-probability",
    "What does the run say with another concept's state in it?",
    alt="Probability of the four answers by layer of the patch, for states of one language and their mean over several.",
    y="probability of the next word",
    called={"data_type": "place"},
)

# %% [markdown]
# *Own* is what the run was asked, *new* what the state's run was asked. Choose the place, and whose state is written.

# %% tags=["hide-input"]
moved.curves(
    "concepts",
    "Is the concept apart from its language?",
    alt="P(i in D) minus P(i in B) by layer of the patch, with the null and the controls, for either place.",
    y="P(i in D) minus P(i in B)",
)

# %% tags=["hide-input"]
moved.claims(
    "concepts",
    "At some middle layer a state at the {name} makes the run say the state's concept in the run's language.",
)

# %% [markdown]
# {glue}`why-concepts`
#
# ## The mean over languages
#
# If concepts had a state of their own in every language, their mean would be nobody's. So write the mean of *el libro*, *book*
# and *书*, all on their way to B. It should do at least as well as one, and more than a mean of embeddings.

# %% tags=["hide-input"]
moved.curves(
    "concepts-mean",
    "Does the mean over languages do as well as one?",
    alt="P(i in D) minus P(i in B) by layer of the patch, for the mean state over languages, with null and controls.",
    y="P(i in D) minus P(i in B)",
)

# %% tags=["hide-input"]
moved.claims(
    "concepts-mean",
    "At some middle layer the mean over languages at the {name} carries the concept too, and no worse than one language.",
)

# %% [markdown]
# {glue}`why-concepts-mean`
#
# :::{dropdown} Where do these states lie?
# {cite:t}`wendler2024llamas` ask how much of a state lies where tokens lie: the *token energy*, its mean squared cosine with the rows of the
# {term}`unembedding`, over that of the rows with one another. In Llama-2 it is low until late. The figure has it here.
# :::

# %% tags=["hide-input"]
moved.curves(
    "token-energy",
    "How much of a state lies where words lie?",
    alt="Token energy of the runs' last states by relative depth, with that of random weights.",
    y="token energy (1: as the tokens themselves)",
)

# %% [markdown]
# ## What if it is taken away?
#
# A patch shows what suffices. To see what is needed, find the directions in which states of a type and of English go together beyond
# their form, and on other questions erase them at all middle layers {cite:p}`belrose2023leace`. How far does the right answer fall?
#
# Anything falls if you erase enough. So as many directions are erased in other ways: those shared with *shuffled* partners (the
# {term}`null`), random ones that hold as much of the variance, those that tell the type from English, what is shared at the *other
# layers*, and those of random weights. And what is shared is erased while the model reads *English only*: where that falls as far, it
# was no loss of the type's.
#
# :::{predict} What costs more?
# - Erasing what is shared
# - Erasing as many other directions
# - Both alike
# +++
# {glue}`verdict-necessity`
# :::

# %% tags=["hide-input"]
if own:
    several = {name: facts.prompts(name, n_items, seed=seed, held_out=False) for name in facts.TYPES}
    twins = {name: facts.twins(some) for name, some in several.items()}
else:
    names = [name for name in translation.LANGUAGES if name != "english"]
    twins = {name: translation.twins(name, n_items, seed=seed) for name in names}
    twins["digits"] = arithmetic.twins(arithmetic.items(n_items, seed))
known = {name: continued(some) for name, some in twins.items()}

# %% tags=["hide-input"]
can = chapter.knows(words.task_table, known, "answer in {name}")
elsewhere = languages.parallel_sentences((1 + bool(chapter.data)) * n_items, seed=seed, data_dir=chapter.data)
if chapter.data:
    sentences, elsewhere = (elsewhere.but(part) for part in (elsewhere[:n_items], elsewhere[n_items:]))
    texts = {f"{name} text": languages.halves(sentences, name) for name in sentences[0].texts if name != "english"}
    twins |= {
        name: readable(model, some, lambda t: [t.prompt + " " + t.answer, t.hub_prompt]) for name, some in texts.items()
    }
needs = {name: can.get(name) for name in twins}

# %% tags=["hide-input"]
english = readable(model, languages.halves(elsewhere, "english"), lambda t: t.prompt + " " + t.answer)
draws = used.STAGES[-1 if chapter.own else 1]  # of larger models as many as p = .01 takes
needed = chapter.run(used.Necessity(english=tuple(english), draws=draws), twins)
erased = {"series": lambda of: of.control.replace("", "what is shared"), "control": ""}
needed.changed(lambda of: of.assign(reading=of.series, **erased).drop(columns="claim")).bars(
    "necessity",
    "How far does the right answer fall, by what is erased?",
    alt="Fall of the log-probability of the right continuation by what is erased, for each data type.",
    y="fall in nats per token",
    called={"reading": "data type"},
)

# %% [markdown]
# Running text has no right answer; there, what falls is the text's own second half.

# %% tags=["hide-input"]
needed.claims(
    "necessity",
    "Without the directions that English shares with {name}, erased at the middle layers, the right continuation falls.",
    needs=needs,
)

# %% [markdown]
# {glue}`why-necessity`
#
# ## What you learned
#
# The question was whether a model uses what its languages share, or whether it only lies there.

# %% tags=["hide-input"]
chapter.finish(
    {
        "concepts": "a state carries its concept into another language's run",
        "concepts-mean": "the mean over languages carries the concept too",
        "necessity": "without what two languages share, the right continuation falls",
    }
)

# %% [markdown]
# - A patch that says the word of its own run has moved an answer, not a concept. Look at the language it comes out in.
# - At the place where a word comes in, a patch may be no more than another word. The embedding layer tells.
# - What is shared is needed only if its loss hurts more than that of as much else.
#
# *What would change our mind:* of a yes, other directions of one size whose loss hurts as much; of a no, a loss that none match, or a concept that
# comes out in its new run's language.
#
# **Try it.** Do the [exercises](../book/exercises/13_used), or run another checkpoint: is the order of language and concept the one of Llama-2?

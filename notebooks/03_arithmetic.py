# %% [markdown]
# # Arithmetic
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/semantic-hub-book/semantic-hub-book/blob/main/notebooks/03_arithmetic.ipynb)
#
# **When a model reads `8=3+`, does it think of the word *five*?**
#
# ```{glue} answer
# ```
#
# Digits and number words name the same things with different tokens. If meaning lives in a shared space, the two should meet
# on the way from input to output. This chapter asks five times, each time with another instrument.
#
# :::{admonition} The paper's claim
# :class: paper-claim
# In Llama-2 and Llama-3, `3+5` and *three plus five* are most alike in the middle layers. When the model reads `8=3+`, the
# number word is likelier than the digit there, and the digit wins only near the output. A vector made of number words, added
# in a middle layer, changes the digits that the model writes {cite:p}`wu2025semantic`.
# :::
#
# | Before you start | |
# |---|---|
# | You should know | what a [lens, an interval and a null](02_instruments) are |
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
n_items = None  # sums and products: 250
seed = 0
data_dir = None  # this chapter makes its own items
max_result = None  # results stay below this: 100 as in the paper, or as far as the shipped models were taught
results_dir = "results"

# %% tags=["hide-cell"]
from semhub_utils.chapter import begin, diagram, glue
from semhub_utils.experiments import alike, interventions, patching, words
from semhub_utils.organism.world import MAX_RESULT
from semhub_utils.spokes import arithmetic

chapter = begin("arithmetic", globals(), "max_result", n_items=(250, 250))
model, n_items = chapter.model, chapter.n_items

# %% tags=["hide-input"]
diagram("lens")

# %% [markdown]
# ## The items
#
# The paper takes every sum `o+t` and every product `o*t` with `t` from 1 to 9 and a result below 100. You draw from that list;
# for the small models of this book it ends where their schooling did.
# Each item is written in three ways: in digits (`3+5`), in words (*three plus five*), and with the result first (`8=3+`), so
# that the model has to find `t`.

# %%
limit = max_result or (MAX_RESULT + 1 if chapter.own else 100)
items = arithmetic.items(n_items, seed=seed, max_result=limit)
pairs = arithmetic.similarity_pairs(items)
forms = arithmetic.forms(items, seed=seed, max_result=limit, taught=chapter.own)
asked = forms[0].asked
[(pair.a, pair.b, prompt.prompt, prompt.targets["digit"][0]) for pair, prompt in zip(pairs, asked, strict=True)][:5]

# %% [markdown]
# Before any claim: can this model do the task at all? A lens that finds no word in a model that cannot add says nothing about
# hubs. So you first count how often the model, left alone, writes the right `t` after `r=o+` and `r=o*`.
#
# Most small public models cannot. Then easier forms are tried, in an order that was written down before any model was
# asked: the same behind worked examples, then sums whose result is asked, then those of one digit. Each is tried on items
# of its own. The first that a model does is taken, and lens, trajectory, intervention and patch ask it as the paper asks
# its own, on the items that this model gets right; every card names the form. The book's own models were taught the paper's.

# %%
can_add = chapter.climb(forms, "complete r=o+ and r=o* with the missing number", own="digit", series="digits")
form, right, wording = can_add.form, can_add.of, can_add.form.wording
prompts = arithmetic.lens_items(right, wording)
glue("task", can_add.share, ".0%")
glue("n_items", len(form.asked))
glue("form", form.name)
glue("max_result", limit)

# %% [markdown]
# The form taken: {glue}`form`. The model is right on {glue}`task` of its {glue}`n_items` prompts, with results below {glue}`max_result`. Where a model
# does none of the forms, the claims about the lens and the intervention read *cannot be tested here*.
#
# ## Similarity: are digits and words alike?
#
# Compare the state at the last token of `3+5` with that of *three plus five*. Cosine alone will not do: in most models all
# states point into one corner of the space. So you ask whether the partner is the nearest of its kind, more often than by
# chance, and whether shuffled partners could be. Only items of the same operator and length are compared and shuffled.

# %% tags=["hide-input"]
similarity = chapter.run(alike.Alike(), pairs, series="digits")
similarity.curves(
    "similarity",
    "Is three plus five the nearest to 3+5?",
    alt="Share of digit forms, above chance, whose word form is the nearest of its kind, with null and controls.",
    y="share of pairs, above chance",
    reading=alike.NEAREST,
)

# %% [markdown]
# *How to read it.* The band is a 95% interval over results (all items with the same result move together). The dotted line is
# the height that shuffled pairs reach one time in twenty at any middle layer. The grey curves are controls: the embedding
# layer, that is, what the last words alone have in common; *bag of words*, the same of the mean of all words' embeddings;
# and the same architecture with random weights.
#
# The same pairs through three other measures: how far up the list of its kind does the partner stand (mid-rank, half at most),
# do both sides have the same neighbours {cite:p}`huh2024platonic`, and do both sides span the same geometry (CKA)? CKA as it is
# often computed is high even for pairs of random matrices when items are few and dimensions many {cite:p}`murphy2024cka`, so it
# is the debiased one here.

# %% tags=["hide-input"]
similarity.curves(
    ["mid-rank", "neighbours", "cka"],
    "Do other measures agree?",
    alt="Mid-rank of the partner, mutual nearest neighbours and debiased CKA by relative depth.",
    y="share of items, or CKA (0 to 1)",
    by="measure",
)

# %% [markdown]
# Which part of the meaning is it? `3+5` shares its result with `2+6`, and its operator with `4+9`. The next figure splits the
# plain cosine of digit and word forms by what the two items have in common.

# %% tags=["hide-input"]
relations = chapter.run(alike.Related(arithmetic.relations(items), arithmetic.RELATIONS), pairs)
relations.curves(
    "relations",
    "What has to be shared to be alike?",
    alt="Cosine of digit and word forms by relative depth, for pairs of equal or other result and operator.",
    y="cosine",
)

# %% tags=["hide-input"]
similarity.claims(
    "similarity",
    "In the middle layers, more than before and after, the word form of a calculation is the nearest to its digits.",
    row=5,
    paper="Matching pairs are more alike than others in the middle layers, and exact pairs the most.",
)

# %% [markdown]
# ## Lens: which token does a middle layer hold?
#
# Read the state at the last position of `8=3+` through the unembedding, at every layer, as if the model stopped there. You
# follow the digit *5*, the word *five*, and the mean of the wrong number words. The wrong words matter: a model may favour all
# number words whatever the sum is.
#
# What a model does with digits alone has been taken apart elsewhere: numbers lie on a helix, and addition turns it
# {cite:p}`kantamneni2025trigonometry`. That says how a sum is found, and leaves open whether the words share the place.

# %% tags=["hide-input"]
number_word = words.Lens("word", "digit")
given = {"series": "digits", **can_add.given}
lens = chapter.run(number_word, prompts, readings=True, others=chapter.islands, **given)
lens.curves(
    "lens-probability",
    "Is it five or 5?",
    alt="Lens probability of the digit, the number word and wrong number words by relative depth, by reading.",
    y="mean lens probability",
)

# %% [markdown]
# *How to read it.* The dotted lines are nulls: the height that the words, or the digits, of other prompts with that operator reach
# one time in twenty at any layer. Grey are random weights, and the wrong words. Choose one series to see its own null and control.
#
# *Readings.* **normed** applies the model's final norm before the unembedding; at the last layer it is the model's own
# output. **raw** does so at the last layer alone, as the authors' release does. **tuned**, where the model has it, first sends
# the state through a translator that was trained, layer by layer, to foretell the model's own output
# {cite:p}`belrose2023tuned`. It shows early what the model will say, and so may hide what it passes by. **jacobian** sends it
# through the mean of what the later layers do {cite:p}`gurnee2026workspace`. **neighbours** asks no unembedding: it takes the words
# that came next where a text left a similar state {cite:p}`krojer2026latentlens`. The claims below rest on *normed*.

# %% tags=["hide-input"]
lens.curves(
    "lens-first",
    "How often is it the first word of the whole vocabulary?",
    alt="Share of prompts on which the digit or the number word is the lens's top token, by relative depth.",
    y="share of prompts",
)

# %% tags=["hide-input"]
lens.claims(
    "lens-meaning",
    "At some middle layer the right number word is above the wrong number words.",
    row=6,
    paper="The middle layers hold the English word of the number that comes next.",
    needs=can_add.needs,
)

# %% tags=["hide-input"]
lens.claims(
    "lens-lead",
    "At some middle layer the right number word is above the digit, and above the wrong words too.",
    row=6,
    paper="In the middle layers the number word is likelier than the digit.",
    needs=can_add.needs,
)

# %% tags=["hide-input"]
lens.claims(
    "lens-end",
    "At the last layer the digit is above the number word.",
    row=6,
    paper="The digit wins near the output.",
    needs=can_add.needs,
)

# %% [markdown]
# ## Trajectories: where do the states pass?
#
# Take the unembedding rows of the digits 0 to 9 and the words *zero* to *nine*, and find the plane in which they differ most
# (two principal components). Then draw each prompt's state in that plane, layer by layer. All are scaled to length 1, as states are
# many times longer than rows. Move the slider.

# %% tags=["hide-input"]
paths = chapter.run(words.Trajectory(arithmetic.trajectory_words(), "word", "digit"), prompts, **given)
paths.trajectories(
    "Do states pass by the words on their way to the digits?",
    alt="Paths of hidden states by layer in the plane of the unembedding rows of digits and number words.",
)

# %% tags=["hide-input"]
paths.claims(
    "trajectory",
    "In that plane, states at some middle layer are nearer to their own number word than to the other number words.",
    row=7,
    paper="Trajectories pass near the number words before they end at the digits.",
    needs=can_add.needs,
)

# %% [markdown]
# A plane keeps two of the many dimensions, and the one that tells digits from words may take most of it. Trust the lens above
# more than this picture.
#
# ## Intervention: does the model use it?
#
# A reading shows what could be read, not what is used. So you write: take the state after *eight equals to four plus*, subtract
# that after *eight equals to three plus*, and add the difference to the state at the end of `8=3+`. In words, one more has
# been counted. If digits are computed in the same place, the model now has one less to add: it should write `4+1`.
#
# The trap is choice: among many layers and strengths something always works. Layer and strength are therefore chosen on a
# quarter of the results and judged on the others. Random directions of the same length, the reversed vector and a wrong layer
# show what a push alone does; the first map has a switch for one such direction.

# %% tags=["hide-input"]
sums = arithmetic.steering_items(right, wording)
steering = chapter.run(interventions.Steering(), sums, **given)
steering.heatmap(
    "steering-choice",
    "Which layer and strength? (the quarter for choosing)",
    alt="Share of expected continuations by layer and strength on the items used for choosing, for either direction.",
    x="strength",
    y="layer",
    value="share that continues with (t-1)+1",
    called={"control": "direction", "": "word vector"},
)

# %% tags=["hide-input"]
steering.dose(
    "steering-dose",
    "Does more of the word vector give more of the answer? (the other items)",
    alt="Share of expected continuations by strength, for the vector, a random one, the reversed one and a wrong layer.",
    y="share that continues with (t-1)+1",
    by=("condition", "reading"),
    called={"corrected": ""},
    types={"steered": "english", "steered, as released": "digits"},
    series="expected",
)

# %% tags=["hide-input"]
steering.dose(
    "steering-dose",
    "What does the model write instead?",
    alt="Shares of expected, unchanged and other continuations by strength, for each direction.",
    types={"expected": "english", "unchanged": "digits", "other": "control"},
    reading="corrected",
)

# %% [markdown]
# *As released* repeats the authors' code, which reads the vector at the input of a block and adds it at that block's output,
# one block later. *corrected* (the other curves) adds it where it was read.

# %% tags=["hide-input"]
steering.claims(
    "steering",
    "The word vector makes the model write its own (t-1)+1, more often than a random direction or other items' sums.",
    row=8,
    paper="Adding the difference of the word prompts makes the model write the number less one, and +1.",
    needs=can_add.needs,
)

# %% [markdown]
# ## Interchange patch: does the answer follow the state?
#
# The vector above was a difference, made to say one thing. Now you move a whole state: take the one at the end of *nine
# equals to two plus*, and write it in the place of the state at the end of `8=3+`. If both types keep the answer in one
# place, the digits' run goes on with the other sum's answer: it writes `7`, a digit, where *seven* was meant. A state that is
# moved into another prompt to see what the model makes of it is a Patchscope {cite:p}`ghandeharioun2024patchscopes`, of which
# the lens can be seen as a case.
#
# Two traps. A state that breaks the run makes every other answer likelier, so the expected answers are shuffled for the
# null. And near the output the state holds the word *seven* itself: then the run says the word. That is copying, and the
# figure calls it *untranslated*. Metrics and ways to corrupt a run can lead to disparate conclusions
# {cite:p}`zhang2023patching,heimersheim2024patching`; hence two measures, the share of answers and the gain in log-probability.

# %% tags=["hide-input"]
swaps = arithmetic.patch_items(right, wording, seed=seed)
patches = chapter.find("patches", lambda: patching.interchange(model, swaps, seed=seed, **given))
patches.curves(
    "patch-first",
    "What does the run say with another run's state in it?",
    alt="Share of prompts by first answer and layer of the patch, for each direction and each state written.",
    y="share of prompts",
)

# %% [markdown]
# *How to read it.* *expected* is the source's answer in the run's own type, *original* the run's own answer. Choose whose state
# was written: *same answer* is the control in which nothing should change, *other relation* comes from the other operator,
# *random push* moves the state as far in a direction that means nothing. The next figure shows the same as a gain of the
# expected answer over the original one, with the null.

# %% tags=["hide-input"]
patches.curves(
    "patch",
    "How far does the patch push the digits' answer?",
    alt="Gain of the expected over the original digit by layer of the patch, with the null and the controls.",
    y="gain in nats",
    direction="english into digits",
)

# %% tags=["hide-input"]
patches.claims(
    "patch",
    "At some middle layer, a state from number words pushes the digits' run to its own answer, by more than at the end.",
    needs=can_add.needs,
)

# %% tags=["hide-input"]
patches.claims(
    "patch-answer",
    "At some middle layer, the digits' run then writes that answer, as a digit.",
    needs=can_add.needs,
)

# %% [markdown]
# ## What you learned
#
# The question was whether a model that reads `8=3+` thinks of the word *five*. The verdicts on this model, by rules fixed
# before the run:

# %%
chapter.finish(
    {
        "similarity": "in the middle layers a calculation is nearest to its word form",
        "lens-meaning": "the middle layers hold the right number word",
        "lens-lead": "the number word is ahead of the digit there",
        "lens-end": "the digit wins at the end",
        "trajectory": "states pass near their own number word",
        "steering": "a vector of number words changes the digits that are written",
        "patch": "the state of a worded sum pushes the digits' run to its answer",
        "patch-answer": "the digits' run then writes the answer of the worded sum",
    }
)

# %% [markdown]
# - Similarity, lens and trajectories say what can be read; only the intervention and the patch say what is used.
# - A word ahead of a digit means little until the wrong words are behind it.
# - Layer and strength are part of the claim: choose them on other items than those you report.
#
# **Try it.** Run the chapter on another checkpoint: `semhub run arithmetic --model ID_OR_FOLDER`. Then ask which of the verdicts
# changed, and whether the task figure at the top explains it.

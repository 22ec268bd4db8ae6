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
# Digits and number words name the same things with different tokens. If meaning lives in a shared space, the two should meet on the way.
# You ask with five instruments.
#
# :::{admonition} The paper's claim
# :class: paper-claim
# In Llama-2 and Llama-3, `3+5` and *three plus five* are most alike in the middle layers. When the model reads `8=3+`, the
# number word is likelier than the digit there, and the digit wins only near the output. A vector made of number words changes the
# digits that the model writes {cite:p}`wu2025semantic`.
# :::
#
# You should know what a [lens, an interval and a null](02_instruments) are. Time to read: 12 minutes.
#
# **After this chapter you can**
#
# - say why a word above a digit proves nothing until wrong words are below it;
# - tell what can be read from what is used;
# - choose layer and strength of a push without fooling yourself.

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
n_items = None  # sums and products: 250
seed = 0
data_dir = None  # this chapter makes its own items
max_result = None  # results stay below this: 100 as in the paper, or as far as the shipped models were taught
results_dir = "results"

# %% tags=["hide-cell"]
from semhub_utils.chapter import begin, diagram, glue, listing
from semhub_utils.experiments import alike, core, interventions, patching, words
from semhub_utils.organism.world import MAX_RESULT
from semhub_utils.spokes import arithmetic

chapter = begin("arithmetic", globals(), "max_result", n_items=(250, 250))
model, n_items = chapter.model, chapter.n_items

# %% tags=["hide-input"]
diagram("lens")

# %% [markdown]
# ## The items
#
# Every sum `o+t` and product `o*t` with `t` from 1 to 9 and a result below 100; for the book's {term}`organisms <organism>`, as far as
# their schooling went. Each is written in digits (`3+5`), in words (*three plus five*), and with the result first (`8=3+`): the model has
# to find `t`.

# %% tags=["hide-input"]
limit = max_result or (MAX_RESULT + 1 if chapter.own else 100)
items = core.readable(model, arithmetic.items(n_items, seed=seed, max_result=limit), lambda c: (c.digits, c.words))
pairs = arithmetic.similarity_pairs(items)
forms = arithmetic.forms(items, seed=seed, max_result=limit, taught=chapter.own)
asked = forms[0].asked
shown = [(p.a, p.b, of.prompt, of.targets["digit"][0]) for p, of in zip(pairs[:3], asked, strict=False)]
listing(shown, ["in digits", "in words", "result first", "its number"])

# %% [markdown]
# A {term}`lens <logit lens>` that finds no word in a model that cannot add says nothing. So first: can it?

# %% tags=["hide-input"]
can_add = chapter.climb(forms, "complete r=o+ and r=o* with the missing number", own="digit", series="digits")
form, right, wording = can_add.form, can_add.of, can_add.form.wording
prompts = arithmetic.lens_items(right, wording)
glue("task", can_add.share, ".0%")
glue("n_items", len(form.asked))
glue("form", form.name)
glue("max_result", limit)

# %% [markdown]
# The model is right on {glue}`task` of its {glue}`n_items` prompts, with results below {glue}`max_result`. The form asked: {glue}`form`.
#
# :::{dropdown} Which form is asked
# Most small public models cannot do the paper's form. Then easier ones are tried in an order written down before: behind worked
# examples, sums whose result is asked, those of one digit. Each is tried on items of its own; the first that a model does is taken, on
# the items it gets right. Where it does none, the claims on lens and intervention read *cannot be tested here*.
# :::
#
# ## Similarity: are digits and words alike?
#
# Is *three plus five* the nearest of its kind to `3+5`, more often than by chance? Only items of the same operator and length are
# compared and shuffled.

# %% tags=["hide-input"]
similarity = chapter.run(alike.Alike(), pairs, series="digits")
similarity.curves(
    "similarity",
    "Is “three plus five” the nearest to “3+5”?",
    alt="Share of digit forms, above chance, whose word form is the nearest of its kind, with null and controls.",
    y="share of pairs, above chance",
    reading=alike.NEAREST,
)

# %% [markdown]
# :::{dropdown} How to read it, and three other measures
# The band is a 95% interval over results. Dotted: the {term}`null`, the height that shuffled pairs reach one time in twenty at any middle
# layer. Grey: the {term}`controls <control>`, the embedding layer, the mean of all words' embeddings (*bag of words*), and random weights.
# {term}`mid-rank` is how far up the list the partner stands; *neighbours*, whether both sides have the same
# ({term}`mutual neighbours`, {cite:p}`huh2024platonic`); *CKA* whether both span the same geometry, debiased, as the usual one is high for random matrices too
# {cite:p}`murphy2024cka`.
# :::

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "Do other measures agree?"}
similarity.curves(
    {"mid-rank": "mid-rank", "neighbours": "mutual neighbours", "cka": "CKA"},
    "Do other measures agree?",
    alt="Mid-rank of the partner, mutual nearest neighbours and debiased CKA by relative depth.",
    y="share of items, or CKA (0 to 1)",
    by="measure",
)

# %% [markdown]
# `3+5` shares its result with `2+6`, and its operator with `4+9`. Which of the two has to be shared to be alike?

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
# {glue}`why-similarity`
#
# ## Lens: which token does a middle layer hold?
#
# At the end of `8=3+`, follow the digit *5*, the word *five*, and the mean of wrong number words: a model may favour all number words,
# whatever the sum.
#
# :::{predict} Will *five* be ahead of *5* in some middle layer?
# - Yes, and ahead of wrong words too
# - No: *5* leads throughout, *five* is still above wrong words
# - No: *five* is as likely as any number word
# +++
# {glue}`verdict-lens-lead` {glue}`verdict-lens-meaning`
# :::

# %% tags=["hide-input"]
number_word = words.Lens("word", "digit")
given = {"series": "digits", **can_add.given}
lens = chapter.run(number_word, prompts, readings=True, others=chapter.islands, **given)
lens.curves(
    "lens-probability",
    "Is it “five” or “5”?",
    alt="Lens probability of the digit, the number word and wrong number words by relative depth, by reading.",
    y="mean lens probability",
)

# %% [markdown]
# :::{dropdown} How to read it, and the readings
# Dotted: the height that words, or digits, of other prompts with that operator reach one time in twenty at any layer. Choose one series to
# see its own null and control. **normed** applies the final norm at every layer, **raw** at the last alone, as released. **tuned** ({term}`tuned lens`), where
# the model has it, sends the state through a trained translator first {cite:p}`belrose2023tuned`, **jacobian** through the mean of what the later
# layers do {cite:p}`gurnee2026workspace`; **neighbours** takes the words that came next where a text left a similar state
# {cite:p}`krojer2026latentlens`. Claims rest on *normed*. How a sum is found (numbers on a helix) is another question
# {cite:p}`kantamneni2025trigonometry`.
# :::

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "How often is it the first word of the whole vocabulary?"}
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
# Above wrong words: {glue}`why-lens-meaning` Above the digit: {glue}`why-lens-lead` At the end: {glue}`why-lens-end`
#
# ## Trajectories: where do the states pass?
#
# In the plane in which the unembedding rows of digits and number words differ most, each prompt's state moves from layer to layer. Move
# the slider.

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
# A plane keeps two of many dimensions. Trust the lens above more than this picture.
#
# ## Intervention: does the model use it?
#
# From the state after *eight equals to four plus* subtract that after *eight equals to three plus*, and add the difference at the end of
# `8=3+` ({term}`activation addition`): the model should now write `4+1`.
#
# The trap is choice: of many layers and strengths one always works. So both are chosen on a quarter of the results and judged on the
# others, beside random directions, the reversed vector and a wrong layer.
#
# :::{predict} A vector made of number words is added to a run over digits. What does the model write?
# - Its answer less one, and `+1`
# - What it would have written
# - Something broken
# +++
# {glue}`verdict-steering`
# :::

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

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "What does the model write instead?"}
steering.dose(
    "steering-dose",
    "What does the model write instead?",
    alt="Shares of expected, unchanged and other continuations by strength, for each direction.",
    called={"expected": "(t-1)+1"},
    types={"(t-1)+1": "english", "unchanged": "digits", "other": "control"},
    reading="corrected",
)

# %% [markdown]
# *As released* adds the vector one block after the one where it was read, as the authors' code does; *steered*, where it was read.

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
# Write the state at the end of *nine equals to two plus* in the place of that at the end of `8=3+` ({term}`interchange patch`). If both
# types keep the answer in one place, the digits' run writes `7`, a digit.
#
# Two traps. A state that breaks the run makes every other answer likelier: expected answers are shuffled. Near the output it holds the
# word *seven* itself: *untranslated*.

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
# :::{dropdown} How to read it
# *expected* is the source's answer in the run's own type, *original* the run's own. *same answer* is the control in which nothing should
# change, *other relation* comes from the other operator, *random push* goes as far in a direction that means nothing. Metrics of patches can
# disagree {cite:p}`zhang2023patching,heimersheim2024patching`; hence two, the share of answers and the gain in log-probability. A
# state that is moved to see what the model makes of it is a Patchscope {cite:p}`ghandeharioun2024patchscopes`.
# :::

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
    "At some middle layer, with a state from number words, the digits' run writes their answer, as a digit.",
    needs=can_add.needs,
)

# %% [markdown]
# The push: {glue}`why-patch` The answer: {glue}`why-patch-answer`
#
# ## What you learned
#
# The question was whether a model that reads `8=3+` thinks of the word *five*.

# %% tags=["hide-input"]
chapter.finish(
    {
        "lens-meaning": "the middle layers hold the right number word",
        "lens-lead": "in the middle layers the number word is ahead of the digit",
        "similarity": "in the middle layers a calculation is nearest to its word form",
        "patch-answer": "with the state of a worded sum, the digits' run writes that sum's answer",
        "steering": "a vector of number words changes the digits that are written",
    }
)

# %% [markdown]
# - Similarity, lens and trajectories say what can be read; only the intervention and the patch say what is used.
# - A word ahead of a digit means little until the wrong words are behind it.
# - Layer and strength are part of the claim: choose them on other items than those you report.
#
# *What would change our mind:* of a yes, wrong words as likely, or random directions as strong; of a no, a number word surer in the middle than
# at the end.
#
# **Try it.** Do the [exercises](../book/exercises/03_arithmetic), or run another model: which verdicts changed?

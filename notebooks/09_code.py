# %% [markdown]
# # Code
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/semantic-hub-book/semantic-hub-book/blob/main/notebooks/09_code.ipynb)
#
# **When a model reads `[red, green,` does it think of the word *and*?**
#
# ```{glue} answer
# ```
#
# Python leaves words out. Between the items of a list English says *and*; before an argument it would say what the argument
# is for. If a model reads code through English, the words that are left out should be there on the way from input to output.
# You look for them twice, and then write one in to see what it does.
#
# :::{admonition} The paper's claim
# :class: paper-claim
# In Llama-2, *and* peaks in the middle layers at the commas of lists. Before many arguments, the name of the parameter is
# likelier there than the argument. Adding *start* minus *end* in a middle layer, after `range(`, turns `range(n)` into
# `range(0, n)` {cite:p}`wu2025semantic`.
# :::
#
# | Before you start | |
# |---|---|
# | You should know | how a word is read [against wrong words](03_arithmetic), and why layer and strength are chosen on other items |
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
n_items = None  # programs: 800, or 300 of natural ones
seed = 0
data_dir = None  # a folder with mbpp/mbpp_release_v1.jsonl or mbpp/mbpp.jsonl, in place of the sample that ships
results_dir = "results"

# %% tags=["hide-cell"]
from semhub_utils.chapter import begin, diagram, glue
from semhub_utils.experiments import interventions, patching, unsaid, words
from semhub_utils.spokes import code, facts
from semhub_utils.spokes.items import continued, forms, interchange_items

chapter = begin("code", globals(), n_items=(800, 300))
model = chapter.model

# %% tags=["hide-input"]
diagram("lens")

# %% [markdown]
# ## The programs
#
# The paper reads the programs of MBPP, nearly a thousand short Python exercises. A public model reads 300 of them, a sample that
# ships with the book; with `data_dir` at a folder that holds the set's own file (`mbpp.jsonl`, or `mbpp_release_v1.jsonl` of
# mxeval) you read all. For the book's own models programs are generated: one statement each, in the words that they were
# taught. A list of `FLOWER` and `HIT` is no code that another model has read. What does not parse as Python 3 is skipped.

# %%
found = code.programs(chapter.n_items, seed=seed, data_dir=chapter.data)
glue("n_programs", len(found))
glue("n_skipped", sum(found.dropped.values()))
print("\n\n".join(program.text for program in found[:4]), found.left_out, sep="\n\n")

# %% [markdown]
# {glue}`n_programs` programs are read, and {glue}`n_skipped` were skipped.
#
# Where is a comma? Python's own parser knows, and gives its place in bytes; a tokenizer gives the place of its tokens in
# characters. A place counts if one token is exactly the comma or bracket that the parser means. Where a tokenizer joins it
# with its neighbour, as in `],` or `("`, what the model reads there is no comma, so the place is dropped and counted. The
# prompt ends right after it.

# %%
commas, before_arguments, ranges = code.comma_places(found), code.argument_places(found), code.range_places(found)
[(place.text[: place.at][-30:], place.text[place.at :][:10], place.name) for place in before_arguments[:5]]

# %% [markdown]
# ## Does a comma mean *and*?
#
# At every comma between two items of a list, read the lens for *and*. Its probability alone says little: a lens may favour
# some words whatever the model reads. And *and* is a word of Python too, so a model may have it ready wherever code goes on,
# without any English. (Llama models that translate between programming languages give high probability to English tokens,
# keywords among them, in the second half of the middle layers {cite:p}`kargaran2025code`; which of the two it is stays open.)
# So you follow other words of Python (*or*, *not*, *in*, ...), frequent English words (*the*, *of*, ...), and the token that
# the program goes on with. The last curve is *and* at other commas, those between the arguments of a call.

# %% tags=["hide-input"]
ands = chapter.run(unsaid.Ands(), commas, series="lists", readings=True)
ands.curves(
    "and-probability",
    "Is it and?",
    alt="Lens probability of and, other words and the next token at list commas by relative depth, two readings.",
    y="mean lens probability",
    types={"and": "english", "next token": "code", "frequent words": "control"},
)

# %% [markdown]
# *How to read it.* Grey is the same architecture with random weights, and the frequent words. The dotted lines of *and* are what as
# many commas, taken from lists and calls at random, reach one time in twenty.
#
# Two questions. Is *and* ahead of all these words at list commas? And is it likelier there than at the commas between
# arguments? The second is the harder one: both places have the same token, and a model that puts *and* after any comma fails
# it. English says *and* between some arguments too, as in *start at three and end at ten*, so a failure leaves
# the first question open.
#
# There is a trap in both: hundreds of places, but one word. All lists begin alike, so any one word may be likely in lists by
# accident, at every place at once. Shuffled places cannot see that. So *and* also has to beat other English words, put in its
# place one after the other.

# %% tags=["hide-input"]
ands.curves(
    {"and-lead": "over other words", "and-place": "over other commas"},
    "How far is and ahead?",
    alt="Lead of and over other words, and over and at other commas, by relative depth, with controls.",
    y="difference of log-probability (nats)",
    by="measure",
    types={"over other words": "english", "over other commas": "code"},
    reading="normed",
)

# %% tags=["hide-input"]
ands.claims(
    "and-lead",
    "At some middle layer, at list commas, “and” is above Python's other words and above English ones.",
    row=9,
    paper="The word “and” peaks in the middle layers at the commas of lists.",
)

# %% tags=["hide-input"]
ands.claims(
    "and-place",
    "At some middle layer, “and” is likelier at list commas than at commas between arguments.",
)

# %% tags=["hide-input"]
ands.claims(
    "and-end",
    "At the last layer the token that is written next is above “and”.",
    row=9,
    paper="The surface token wins only near the output.",
)

# %% [markdown]
# ## Does an argument have a role?
#
# At the bracket or comma before an argument that is given by its place, read the lens for the *name* of its parameter:
# `isinstance(x, int)` never says `class_or_tuple`. The names are known for Python's builtins, and for functions that the
# program defines. In generated programs the functions of the small models' world count as builtins.
#
# There are two traps. After a bracket comes a first parameter and after a comma a later one, so names are compared only
# among places of the same token. A definition in the program has already said the name after the same bracket, and a model
# can copy it, so builtins are read once more on their own.
#
# A hundred places of one name are one finding: intervals are over names, and the null moves all places of a name together.

# %% tags=["hide-input"]
by_name = words.Lens("name", "argument")
arguments = unsaid.argument_items(model, before_arguments)
roles = chapter.run(by_name, arguments, series="arguments", readings=True, over="moves_with")
said = roles.rows("lens-first", series="name", reading="normed", control="", layer=model.n_layers)
glue("says_name", said.value.mean(), ".0%")
glue("n_names", len({place.name for place in before_arguments}))

# %% tags=["hide-input"]
roles.curves(
    "lens-probability",
    "Is it the name of the parameter, or the argument?",
    alt="Lens probability of parameter names, wrong names and arguments by relative depth, two readings.",
    y="mean lens probability",
    types={"argument": "code"},
)

# %% [markdown]
# *How to read it.* **wrong name** is the mean over other names that occur after the same token.
# **wrong same function** is the mean over that function's other parameters: where it is as high as the right name, the model
# knows the function but not which argument is due. Dotted is what names, or arguments, of other calls reach one time in twenty
# after the same token; grey are random weights. The places ask for {glue}`n_names` names.
#
# A model may be about to write the name itself, as in `range(start=0`. Here the name comes first at the last layer at
# {glue}`says_name` of the places. They stay in: without them, the argument would win the last claim below by selection.

# %% tags=["hide-input"]
roles.claims(
    "lens-meaning",
    "At some middle layer the parameter's name is above the names of other parameters.",
)

# %% tags=["hide-input"]
builtins = before_arguments.but(place for place in before_arguments if place.kind == "builtin")
builtins.dropped["function defined in the program"] = len(before_arguments) - len(builtins)
some = unsaid.argument_items(model, builtins)
chapter.run(by_name, some, series="builtins", name="builtins", over="moves_with").claims(
    "lens-meaning",
    "The same where the program has not defined the function, so that there is no name to copy.",
)

# %% tags=["hide-input"]
roles.claims(
    "lens-lead",
    "At some middle layer the parameter's name is above the argument as written, and above other names too.",
    row=10,
    paper="For many arguments the name of the parameter is ahead in the middle layers.",
)

# %% tags=["hide-input"]
roles.claims(
    "lens-end",
    "At the last layer the argument as written is above the parameter's name.",
    row=10,
    paper="The argument wins near the output.",
)

# %% [markdown]
# What was left out, and why? A claim about a third of all places is a claim about that third.

# %%
left_out = roles.one("lens-meaning/arguments")
glue("n_arguments", left_out.n)
glue("n_left_out", sum(left_out.dropped.values()))
left_out.dropped

# %% [markdown]
# {glue}`n_arguments` arguments are read, and {glue}`n_left_out` were left out.
#
# ## Does *start* change `range`?
#
# Take the programs up to `range(` and let the model write. Where it writes one argument, as in `range(n)`, add the
# difference between the unembedding rows of *start* and *end* to the state at the bracket. If the word is used as in
# English, the call should now say where it starts: `range(0, n)`.
#
# Two things in the release hang on the model it was made for: one layer, and strengths in multiples of the vector. Unembedding
# rows are short in one model and long in another, and so are states. So *corrected* gives strength in lengths of the layer's mean
# state, and chooses layer and strength on a quarter of the programs. *As released* takes the paper's depth and strengths as
# they stand.
#
# There is a trap, as in [steering sentiment](08_steering): programs are many, but the vector is one. A random direction of its
# length also turns all programs alike, and may turn them to the same call. So a hundred of them take the vector's place, at
# the layer and strength chosen for it. Their mean is taken off, and the vector has to stand out among them.

# %% tags=["hide-input"]
steering = chapter.run(interventions.Range(), ranges, series="range")
task = steering.rows("range-task")
glue("n_ranges", len(task))
glue("one_argument", task.value.mean() if len(task) else 0, ".0%")

# %% [markdown]
# The model writes one argument after {glue}`one_argument` of {glue}`n_ranges` different prompts. The others are left out: a call
# that has a start already cannot be given one.

# %% tags=["hide-input"]
lengths = "strength, in lengths of the mean state"
steering.dose(
    "steering-dose",
    "Does more start give more range(0, n)? (the other programs)",
    alt="Share of range calls from 0 by strength, for start minus end, a random direction, the reverse and another layer.",
    y="share that becomes range(0, n)",
    by="condition",
    types={"steered": "english"},
    x_title=lengths,
    series="expected",
)

# %% tags=["hide-input"]
steering.claims(
    "steering",
    "Adding start minus end turns range(n) into range(0, n), more often than a random direction does.",
    row=11,
    paper="The call becomes range(0, n).",
)

# %% [markdown]
# And as released? Each strength is a multiple of the vector, at the paper's depth. The table gives it in lengths of the state
# too: where that is far above 1, the state is overwritten rather than steered.

# %% tags=["hide-input"]
as_released = chapter.run(interventions.RANGE_AS_RELEASED, ranges, series="range", name="range as released")
as_released.changed(lambda table: table.assign(in_states=table.strength, strength=table.raw)).dose(
    "steering-dose",
    "What do the paper's strengths do in this model?",
    alt="Shares of calls from 0, unchanged and other calls by strength as released, for each direction.",
    types={"expected": "english", "unchanged": "code", "other": "control"},
    x_title="strength, in lengths of the vector",
)

# %% [markdown]
# `range(0, n)` asks for two things, a start and that it is zero. A model that was never shown `range(0, n)` may still write
# *a* start. So you count again, with any `range(k, n)` as success, and choose layer and strength again.

# %% tags=["hide-input"]
any_start = chapter.run(interventions.Range(expected="k, n"), ranges, series="range-start")
any_start.heatmap(
    "steering-choice",
    "Which layer and strength give a start? (the quarter for choosing)",
    alt="Share of range calls with a start by layer and strength on the programs for choosing, for either direction.",
    x="strength",
    y="layer",
    value="share that becomes range(k, n)",
    called={"control": "direction", "": "start minus end"},
    x_title=lengths,
)

# %% tags=["hide-input"]
any_start.dose(
    "steering-dose",
    "Does more start give more of a start? (the other programs)",
    alt="Share of range calls with a start by strength, for start minus end, a random direction, the reverse and another layer.",
    y="share that becomes range(k, n)",
    by="condition",
    types={"steered": "english"},
    x_title=lengths,
    series="expected",
)

# %% tags=["hide-input"]
any_start.dose(
    "steering-dose",
    "What does the model write instead?",
    alt="Shares of calls with a start, unchanged and other calls by strength, for each direction.",
    called={"expected": "range(k, n)"},
    types={"range(k, n)": "english", "unchanged": "code", "other": "control"},
    x_title=lengths,
)

# %% tags=["hide-input"]
any_start.claims(
    "steering",
    "Adding start minus end makes the model write where the range starts, more often than a random direction does.",
)

# %% [markdown]
# ## Interchange patch: does an English state answer in code?
#
# Write the state at the end of an English question, such as *the color of the grass is*, into the run of another one's code,
# `color_of(SNOW) ==`. Does the run go on with the English question's answer, written as code? Only the book's own models were
# taught such code. Another model is asked the questions plainly and then behind three answered ones; what is read are those
# whose English it gets right, and only if it goes on with the code rightly by itself.

# %%
asked, task = facts.twins(facts.prompts("code", 250, seed=seed)), "answer such questions in "
known = chapter.climb(forms(asked, seed=seed, taught=chapter.own), f"{task}english", series="english")
unable = known.needs
if not (chapter.own or unable):
    unable = chapter.knows(words.task_table, continued(known.of), f"{task}code", series="code")["code"]
swaps = interchange_items(known.of, seed)
patches = chapter.find("patches", lambda: patching.interchange(model, swaps, series="code", seed=seed, **known.given))
glue("form", known.form.name)

# %% tags=["hide-input"]
patches.curves(
    "patch-first",
    "What does the run say with another run's state in it?",
    alt="Share of prompts by first answer and layer of the patch, for each direction and each state written.",
    y="share of prompts",
)

# %% [markdown]
# The questions are {glue}`form`. *expected* is the source's answer in the run's own type, *original* the run's own answer, *untranslated* the source's answer in
# the source's type: a state that is copied, not used. *same answer*, *other relation* and *random push* are the controls.

# %% tags=["hide-input"]
patches.claims(
    "patch",
    "At some middle layer, a state from an English question pushes the run over code to its own answer, by more than at the end.",
    needs=unable,
)

# %% tags=["hide-input"]
patches.claims(
    "patch-answer",
    "At some middle layer, the run over code then writes that answer, as code.",
    needs=unable,
)

# %% [markdown]
# ## What you learned
#
# The question was whether a model that reads `[red, green,` thinks of the word *and*, and of other words that code leaves out. The verdicts
# on this model, by rules fixed before the run:

# %%
chapter.finish(
    {
        "and-lead": 'between the items of a list a middle layer holds the word "and"',
        "and-place": "it is likelier there than between arguments",
        "and-end": "the next token wins at the end",
        "lens-meaning": "the middle layers hold the parameter's name before its argument",
        "steering": "start minus end changes the range that is written",
        "patch": "the state of an English question pushes the answer in code",
        "patch-answer": "the run over code then writes that question's answer",
    }
)

# %% [markdown]
# - A word that is ahead at one kind of place says little until you have looked at the same token elsewhere.
# - Parser and tokenizer count differently. Check that both mean the same place, and count what you drop.
# - A strength is a number without a unit until you say how long the state is.
#
# **Try it.** Write functions of your own into a file of `{"code": ...}` lines, `mbpp/mbpp.jsonl` in a folder, and run the chapter on
# them: `semhub run code --model ID_OR_FOLDER --set data_dir=FOLDER`. Which names are ahead there, and had a definition said them?

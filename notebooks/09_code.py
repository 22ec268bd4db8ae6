# %% [markdown]
# # Code
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/semantic-hub-book/semantic-hub-book/blob/main/notebooks/09_code.ipynb)
#
# **When a model reads code, does it think in English: of the word *and* after `[red,`?**
#
# ```{glue} answer
# ```
#
# Python leaves words out: the *and* of a list, the name of an argument.
#
# :::{admonition} The paper's claim
# :class: paper-claim
# In Llama-2, *and* peaks in the middle layers at the commas of lists. Before many arguments, the name of the parameter is
# likelier there than the argument. Adding *start* minus *end* after `range(` turns `range(n)` into `range(0, n)` {cite:p}`wu2025semantic`.
# :::
#
# You should know how a word is read [against wrong words](03_arithmetic), and why layer and strength are chosen on other items. Time to
# read: 10 minutes.
#
# **After this chapter you can**
#
# - find the comparison that a popular word cannot win by being popular;
# - tell a name that is known from one that is copied;
# - give a push a unit, and a null of its own.

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
n_items = None  # programs: 800, or 300 of natural ones
seed = 0
data_dir = None  # a folder with mbpp/mbpp_release_v1.jsonl or mbpp/mbpp.jsonl, in place of the sample that ships
results_dir = "results"

# %% tags=["hide-cell"]
from semhub_utils.chapter import begin, diagram, glue, listing, together
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
# A public model reads short exercises of MBPP with the examples in their docstrings, the book's {term}`organisms <organism>` one
# generated statement each.

# %% tags=["hide-input"]
found = code.programs(chapter.n_items, seed=seed, data_dir=chapter.data)
glue("n_programs", len(found))
glue("n_skipped", sum(found.dropped.values()))
print("\n\n".join(program.text for program in found[:4]), found.left_out, sep="\n\n")

# %% [markdown]
# {glue}`n_programs` programs are read, and {glue}`n_skipped` do not parse. A place counts if one token is exactly the comma or bracket that
# Python's parser means.

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "Show examples", "code_prompt_hide": "Hide examples"}
commas, before_arguments = code.spread(code.comma_places(found), 4), code.spread(code.argument_places(found), 2)
ranges = code.range_places(found)
shown = [(place.text[: place.at][-30:], place.text[place.at :][:10], place.name) for place in before_arguments[:5]]
listing(shown, ["ends on", "goes on with", "parameter"])

# %% [markdown]
# ## Does a comma mean *and*?
#
# At every comma of a list, read the {term}`lens <logit lens>` for *and*. A model may have this word of Python ready wherever code goes
# on. So you follow other words of Python, frequent English words, the token that comes next, and *and* between the arguments of a call.
#
#
# :::{predict} Where will *and* be likeliest?
# - At the commas of lists
# - At the commas between arguments
# - At both alike
# +++
# {glue}`verdict-and-place` {glue}`verdict-and-lead`
# :::

# %% tags=["hide-input"]
ands = chapter.run(unsaid.Ands(), commas, series="lists", readings=True, others=chapter.islands)
middle = ands.rows("and-probability", reading="normed", control="").query("1 / 3 <= depth <= 2 / 3")
glue("likeliest", middle.loc[middle.value.idxmax(), "series"] if len(middle) else "nothing")
ands.curves(
    "and-probability",
    "Is it “and”?",
    alt="Lens probability of and, other words and the next token at list commas by relative depth, two readings.",
    y="mean lens probability",
    types={"and": "english", "next token": "code", "frequent words": "control"},
)

# %% [markdown]
# In the middle layers *{glue}`likeliest`* is likeliest, as *normed* reads it; a few places make such a mean, and the claims take
# logarithms. Where *and* is likeliest between arguments too, it is no more than what follows commas. Dotted: the {term}`null`, commas of lists and calls taken at random.
#
# A model that puts *and* after any comma has it as likely between arguments. The trap: hundreds of places, but one word, which may be
# likely there by accident. So *and* also has to beat other English words put in its place.

# %% tags=["hide-input"]
ands.curves(
    {"and-lead": "over other words", "and-place": "over other commas", "and-end": "next token over it"},
    "How far is “and” ahead?",
    alt="Lead of and over other words, and over and at other commas, by relative depth; of the next token over and at the last.",
    y="difference of log-probability (nats)",
    by="measure",
    types={"over other words": "english", "over other commas": "code", "next token over it": "digits"},
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
# Over other words: {glue}`why-and-lead` Over other commas: {glue}`why-and-place` At the end: {glue}`why-and-end`
#
# ## Does an argument have a role?
#
# Before an argument, read the lens for the *name* of its parameter: `isinstance(x, int)` never says `class_or_tuple`.
#
# Two traps. A first parameter follows a bracket, a later one a comma: names are compared only after the same token. And a definition may
# have said the name: builtins are read once more on their own. A hundred places of one name are one finding: intervals and null are over
# names.

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
    called={"wrong same function": "other parameter of it"},
    types={"argument": "code", "other parameter of it": "control"},
)

# %% [markdown]
# :::{dropdown} How to read it
# Llama models that translate code favour English tokens, keywords among them {cite:p}`kargaran2025code`.
#
# *Wrong name* is the mean over other names that occur after the same token, *other parameter of it* that over the function's others:
# where this is as high as the right name, the model knows the function but not which argument is due. The places ask for {glue}`n_names`
# names. At {glue}`says_name` of them the model is about to write the name itself, as in `range(start=0`. They stay in: without them the
# argument would win the last claim by selection.
# :::

# %% tags=["hide-input"]
named = roles.claims(
    "lens-meaning",
    "At some middle layer the parameter's name is above the names of other parameters.",
)

# %% tags=["hide-input"]
builtins = before_arguments.but(place for place in before_arguments if place.kind == "builtin")
builtins.dropped["function defined in the program"] = len(before_arguments) - len(builtins)
some = unsaid.argument_items(model, builtins)
builtin = chapter.run(by_name, some, series="builtins", name="builtins", over="moves_with").claims(
    "lens-meaning",
    "It is above them where the program has not defined the function, so that there is no name to copy.",
)

# %% tags=["hide-input"]
ahead = roles.claims(
    "lens-lead",
    "At some middle layer the parameter's name is above the argument as written, and above other names too.",
    row=10,
    paper="For many arguments the name of the parameter is ahead in the middle layers.",
)

# %% tags=["hide-input"]
end = roles.claims(
    "lens-end",
    "At the last layer the argument as written is above the parameter's name.",
    row=10,
    paper="The argument wins near the output.",
)
together(named, builtin, ahead, end)

# %% tags=["hide-input"]
left_out = roles.one("lens-meaning/arguments")
glue("n_arguments", left_out.n)
glue("n_left_out", sum(left_out.dropped.values()))
glue("reasons", "; ".join(f"{n} x {why}" for why, n in left_out.dropped.items()) or "none")

# %% [markdown]
# {glue}`n_arguments` arguments are read, and {glue}`n_left_out` were left out ({glue}`reasons`).
#
# ## Does *start* change `range`?
#
# Where the model writes one argument after `range(`, add the {term}`unembedding` row of *start* minus that of *end* at the bracket. If
# the word is used as in English, the call now says where it starts: `range(0, n)`.
#
# *As released* takes the paper's one layer, and multiples of the vector. *Corrected* gives strength in lengths of the layer's mean state;
# layer and strength are chosen on a quarter of the programs. The trap: the vector is one. So a hundred random directions take its place.
#
# :::{predict} What will *start* minus *end* do?
# - Write where the range starts
# - No more than a random direction does
# +++
# {glue}`verdict-steering`
# :::

# %% tags=["hide-input"]
steering = chapter.run(interventions.Range(), ranges, series="range")
task = steering.rows("range-task")
glue("n_ranges", len(task))
glue("one_argument", task.value.mean() if len(task) else 0, ".0%")

# %% [markdown]
# The model writes one argument after {glue}`one_argument` of {glue}`n_ranges` prompts; these are read.

# %% tags=["hide-input"]
lengths = "strength (lengths of a mean state)"
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
# As released, a strength far above the length of a state overwrites it.

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "What do the paper's strengths do in this model?"}
as_released = chapter.run(interventions.RANGE_AS_RELEASED, ranges, series="range", name="range as released")
as_released.changed(lambda table: table.assign(in_states=table.strength, strength=table.raw)).dose(
    "steering-dose",
    "What do the paper's strengths do in this model?",
    alt="Shares of calls from 0, unchanged and other calls by strength as released, for each direction.",
    called={"expected": "range(0, n)"},
    types={"range(0, n)": "english", "unchanged": "code", "other": "control"},
    x_title="strength (lengths of the vector)",
)

# %% [markdown]
# A model that was never shown `range(0, n)` may still write *a* start. So count any `range(k, n)`, and choose layer and strength again.

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

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "What does the model write instead?"}
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
# {glue}`why-steering`
#
# ## Interchange patch: does an English state answer in code?
#
# Write the state at the end of *the color of the grass is* into the run of another question's code, `color_of(SNOW) ==`
# ({term}`interchange patch`). Does the run go on with the English question's answer, as code?

# %% tags=["hide-input"]
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
# :::{dropdown} How to read it
# The questions are {glue}`form`. *expected* is the source's answer in the run's type, *original* the run's own, *untranslated* the
# source's in the source's type: copied, not used. Controls: *same answer*, *other relation*, *random push*.
# :::

# %% tags=["hide-input"]
patches.claims(
    "patch",
    "At some middle layer, a state from an English question pushes the run over code to its own answer, by more than at the end.",
    needs=unable,
)

# %% tags=["hide-input"]
patches.claims(
    "patch-answer",
    "At some middle layer, with a state from an English question, the run over code writes its answer, as code.",
    needs=unable,
)

# %% [markdown]
# The push: {glue}`why-patch` The answer: {glue}`why-patch-answer`
#
# ## What you learned
#
# The question was whether a model that reads `[red, green,` thinks of the word *and*, and of other words that code leaves out.

# %% tags=["hide-input"]
chapter.finish(
    {
        "and-lead": 'between the items of a list a middle layer holds the word "and"',
        "and-place": '"and" is likelier between the items of a list than between arguments',
        "steering": "start minus end changes the range that is written",
        "lens-meaning": "the middle layers hold the parameter's name before its argument",
        "patch": "the state of an English question pushes the answer in code",
    }
)

# %% [markdown]
# - A word that is ahead at one kind of place says little until you have looked at the same token elsewhere.
# - Parser and tokenizer count differently. Check that both mean the same place, and count what you drop.
# - A strength is a number without a unit until you say how long the state is.
#
# *What would change our mind:* of a yes, other words that do as well as *and*, or random directions as *start*; of a no, an *and* ahead between
# items alone.
#
# **Try it.** Do the [exercises](../book/exercises/09_code), or write functions of your own into `mbpp/mbpp.jsonl` (`data_dir`).

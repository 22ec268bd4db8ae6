# %% [markdown]
# # Formal semantics
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/semantic-hub-book/semantic-hub-book/blob/main/notebooks/10_semantics.ipynb)
#
# **Does a model that reads *Emma sees Liam* know who sees and who is seen?**
#
# ```{glue} answer
# ```
#
# A {term}`logical form` says it with role words: `see . agent ( x _ 1 , Emma ) AND see . theme ( x _ 1 , Liam )`. If sentences and forms
# share a space, a sentence is nearer to its own form than to one in which the two have changed places; and before a name, a layer might
# hold the word of its role.
#
# :::{admonition} The paper's claim
# :class: paper-claim
# In Llama-3, a sentence and its logical form are alike in the middle layers, also against forms whose names were swapped and
# whose conjuncts were shuffled. Just before a proper name, middle layers raise the word of its role: *agent*, *theme* or
# *recipient* {cite:p}`wu2025semantic`.
# :::
#
# You should know what a [lens, an interval and a null](02_instruments) are. Time to read: 10 minutes.
#
# **After this chapter you can**
#
# - pair a change that alters the meaning with one that keeps it;
# - say which surface fact a role word may follow;
# - tell "alike" from "knows who did it".

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
n_items = None  # for each of the three sets below: 200, or 300 of natural ones
seed = 0
data_dir = None  # a folder with cogs/train.tsv, in place of the sample that ships
results_dir = "results"

# %% tags=["hide-cell"]
from semhub_utils.chapter import begin, diagram, glue, listing
from semhub_utils.experiments import alike, core, patching, unsaid, words
from semhub_utils.spokes import semantics
from semhub_utils.spokes.items import each_or_none

chapter = begin("semantics", globals(), n_items=(200, 300))
model, n_items = chapter.model, chapter.n_items

# %% tags=["hide-input"]
diagram("similarity")

# %% [markdown]
# ## The sentences and their forms
#
# A public model reads lines of COGS {cite:p}`kim2020cogs`, the book's {term}`organisms <organism>` scenes of their world in the same form.

# %% tags=["hide-input"]
known = semantics.meanings(seed=seed, data_dir=chapter.data)
given = known, n_items
pairs, swaps, ladder, prompts, forms = each_or_none(
    lambda: semantics.similarity_pairs(*given, seed=seed),
    lambda: semantics.swap_items(*given, seed=seed),
    lambda: semantics.forms(known, n_items // 2, seed=seed, taught=chapter.own),
    lambda: semantics.role_items(*given, seed=seed),
    lambda: semantics.form_prompts(*given, seed=seed),
)

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "Show examples", "code_prompt_hide": "Hide examples"}
pairs = core.readable(model, pairs, lambda pair: (pair.a, pair.b))
swaps = core.readable(model, swaps, lambda item: (item.sentence, *item.forms))
listing([(pair.a, pair.b) for pair in pairs[:3]], ["sentence", "form"])

# %% tags=["hide-input"]
# Read first: forms that are changed, with what stands before the change kept; then what is whole, before its beginnings.
parsing = chapter.climb(ladder, "put a sentence into its form", series="sentences")
moved = core.readable(model, parsing.of, lambda m: (*m.run, *m.source, *(m.other or ())))
given = parsing.given | {"dropped": known.dropped + moved.dropped + parsing.given["dropped"]}
patches = chapter.find("patches", lambda: patching.interchange(model, moved, series="logic", seed=seed, **given))
similarity = chapter.run(alike.AlikeForms(), pairs, series="others", dropped=known.dropped + pairs.dropped)
swapped = chapter.run(alike.Swapped(), swaps, series="names swapped", dropped=known.dropped + swaps.dropped)

# %% tags=["hide-input"]
forms = core.readable(model, forms, lambda item: item.prompt)
task = chapter.knows(words.task_table, forms, "go on with a form", series="forms")
glue("task", task.share, ".0%")
left_out = {"lines": known, "pairs": pairs, "swaps": swaps, "forms to go on with": forms}
notes = [f"{name.capitalize()}: {some.left_out}" for name, some in left_out.items() if some.dropped]
glue("left_out", " ".join(notes) or "No line and no item was left out.")

# %% [markdown]
# Cut before its last role word, the form is continued with the right one in {glue}`task` of the cases. Where that is low, expect less.
#
# :::{dropdown} What was left out
# {glue}`left_out`
#
# {glue}`unused` {glue}`unmoved`
# :::
#
# ## Similarity: is a sentence nearer to its own form?
#
# How often is the own form the nearest, above chance? The trap is the *pattern*: sentences of one build have forms of one build. So a
# sentence is compared, and partners are shuffled, within its pattern (*the w is w by N .*); what shares its first, second or last content
# word moves together.

# %% tags=["hide-input"]
similarity.curves(
    "similarity",
    "Is its own form the nearest to a sentence?",
    alt="Share of sentences, above chance, whose form is the nearest of its pattern, with the null and the controls.",
    y="share of sentences, above chance",
    called={"reading": "sentences"},
    types={"others": "logic"},
    series="others",
)

# %% [markdown]
# :::{dropdown} How to read it
# Dotted: the {term}`null`, what shuffled partners reach one time in twenty. Grey: {term}`controls <control>`. The embedding layer knows no more than the
# last token, a full stop or a bracket; random weights show what shared words do, since *Emma* stands in both. A switch takes the full
# stop away. The next figure compares also with *all* others, as the paper does: what stands there alone is the pattern's.
# :::

# %% tags=["hide-input"]
similarity.curves(
    "similarity",
    "By how much is it nearer than others?",
    alt="Adjusted cosine of sentences and logical forms by relative depth, against one pattern and against all.",
    y="cosine of matching pairs minus others",
    called={"reading": "sentences"},
    types={alike.CORRECTED: "logic", alike.RELEASED: "spanish"},
    series=(alike.CORRECTED, alike.RELEASED),
)

# %% tags=["hide-input"]
similarity.claims(
    "similarity",
    "In the middle layers, more than before and after, its own form is the nearest to a sentence of all of its pattern.",
    row=12,
    paper="Sentence and logical form are alike in the middle layers, against other logical forms.",
)

# %% [markdown]
# {glue}`why-similarity/others`
#
# ## Who did it? The names change places
#
# Take sentences with two proper names. How much nearer is the true form than the form with its **names swapped**; or than that form with
# its conjuncts shuffled as well, so that the names come in the old order again?
#
# The trap: a shuffle alone moves the state, and *means the same*. So that distance is a control, and a third comparison is fair by
# design: both forms in both orders, **names swapped, any order**.
#
# :::{predict} The swapped form shares every word with the true one. Will the true form be nearer?
# - Yes: the model knows who did it
# - No: it sees the words alone
# +++
# {glue}`verdict-similarity/names swapped`
# :::

# %% tags=["hide-input"]
swapped.curves(
    "swap",
    "How much nearer is the true form?",
    alt="Cosine with the true form minus cosine with an altered form by relative depth, with null and controls.",
    y="cosine with the true form minus the other",
    by="true form nearer",
    called={"series": "form", "reading": "sentences"},
    types={"true form nearer": "logic"},
)

# %% [markdown]
# Is it who, or which name stands last? The next figure parts the forms by whether they keep the sentence's order of names. A model that
# knows who did it is above zero in both.

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "Does it depend on the order of the names?"}
swapped.curves(
    "swap-order",
    "Does it depend on the order of the names?",
    alt="Cosine with the true form minus cosine with names swapped by relative depth, for two orders of names.",
    y="cosine with the true form minus the other",
    called={"control": "weights", "": "trained", "random weights": "random", "reading": "sentences"},
)

# %% tags=["hide-input"]
swapped.claims(
    "similarity/names swapped",
    "At some middle layer, a sentence is nearer to its form than to the form with the two names swapped.",
    row=12,
    paper="It also holds against the same form with its names swapped.",
)

# %% tags=["hide-input"]
swapped.claims(
    "similarity/names swapped, shuffled",
    "It is nearer than to the form with names swapped and conjuncts shuffled too, by more than a shuffle costs.",
    row=12,
    paper="It also holds when the conjuncts of the swapped form are shuffled.",
)

# %% tags=["hide-input"]
swapped.claims(
    "similarity/names swapped, any order",
    "It is nearer to its form than to one with names swapped, on average over both orders of the conjuncts.",
)

# %% [markdown]
# Swapped: {glue}`why-similarity/names swapped` Shuffled too: {glue}`why-similarity/names swapped, shuffled` In any order:
# {glue}`why-similarity/names swapped, any order`
#
# ## Role words: what comes next?
#
# Just before a proper name (*Emma gives the ball to*), read every layer for *agent*, *theme* and *recipient*. Above zero, this word is
# raised where that role comes next.

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "Show examples", "code_prompt_hide": "Hide examples"}
placed = semantics.behind_another(prompts, known, seed=seed)
placed = core.readable(model, placed, lambda item: item.prompt)
fit = {item.id for item in placed}  # without another sentence before them they are shorter, and fit too
anywhere = prompts.but(item for item in prompts if item.id in fit)
others = tuple(semantics.form_words(known))
glue("unused", placed.left_out or "Every name had something to read before it.")
listing([(item.prompt, item.targets["role"][0]) for item in anywhere[:6]], ["before the name", "role"])

# %% tags=["hide-input"]
given = {"readings": True, "dropped": known.dropped + placed.dropped}
roles = chapter.run(unsaid.Roles(others), anywhere, series="lead", **given)
roles += chapter.run(unsaid.Roles(others, same_position=True), placed, series="same position", **given)

# %% tags=["hide-input"]
inside = range(2 * model.n_layers // 3 + 1)  # opens at the last of the middle layers
named = roles.rows("roles-confusion", reading="normed", layer=inside[-1])
named = named.reindex(columns=["series", "word", "value"]).query("series == word")  # no columns where no item is left
told = (f"{word} {value:+.2f}" for word, value in zip(named.word, named.value, strict=True))
glue("opens", inside[-1])
glue("diagonal", ", ".join(told) or "nothing, as no item is left")

# %% tags=["hide-input"]
roles.heatmap(
    "roles-confusion",
    "Which role word is raised before which role?",
    alt="Log-probability of each role word by true role, minus its mean over roles, with a slider over layers.",
    x="role word",
    y="true role",
    value="nats above the word's mean",
    called={"series": "true role", "word": "role word"},
    diverging=True,
    layer=inside,
)

# %% [markdown]
# Move the slider. If the model names roles, the diagonal is the warmest cell of each column. At layer {glue}`opens` it has, in nats:
# {glue}`diagonal`.
#
# The trap: *by* comes before an agent and *to* before a recipient. So there are two nulls, and the harder counts: true roles shuffled
# among what is read last, and three *other* words in place of the role words. And a theme comes early, an agent of a passive late: the
# second claim puts another sentence in front, so that as many words stand before every name.
#
# :::{predict} What decides which role word is raised?
# - The role that comes next
# - The word read last, *by* or *to*
# - How far into the sentence the name stands
# +++
# {glue}`verdict-roles/lead` {glue}`verdict-roles/same position`
# :::

# %% tags=["hide-input"]
roles.curves(
    "roles",
    "Is the true role's word raised?",
    alt="Log-probability of the true role's word minus its mean over roles by relative depth, with controls.",
    y="nats above the word's mean",
    by="true role's word",
    called={"data_type": "prompts", "lead": "all"},
    types={"true role's word": "logic"},
)

# %% [markdown]
# The paper takes probabilities; the claims here rest on their logarithms.

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "And in probabilities, as in the paper?"}
roles.curves(
    "roles-probability",
    "And in probabilities, as in the paper?",
    alt="Lens probability of the true role's word minus its mean over roles by relative depth, two readings.",
    y="probability above the word's mean",
    types={"true role's word": "logic"},
)

# %% tags=["hide-input"]
roles.claims(
    "roles/lead",
    "At some middle layer, before a name, the word of its role is raised.",
    row=13,
    paper="Just before a proper name, the middle layers raise the word of the role it will have.",
)

# %% tags=["hide-input"]
roles.claims(
    "roles/same position",
    "The word of its role is raised even where as many words stand before every name, whatever its role.",
)

# %% [markdown]
# All prompts: {glue}`why-roles/lead` Same position: {glue}`why-roles/same position`
#
# ## Interchange patch: does the form take its verb from a sentence?
#
# One run reads a form up to where its verb comes again, `see . agent ( x _ 1 , Emma ) AND`; another reads *Liam finds Mia*, about to be
# put into a form. Write the latter's last state into the form ({term}`interchange patch`). If both keep the verb in one place, it goes on
# with `find`.

# %% tags=["hide-input"]
glue("unmoved", moved.left_out or "No form was left out.")
glue("parsing", parsing.share, ".0%")
glue("form", parsing.form.name)
glue("copying", patches.rows("task-logic").value.mean(), ".0%")
first = [f"{of.source[1].splitlines()[-1]!r} into {of.run[0]!r}" for of in moved[:1]]
glue("moved", *first or ["none"])

# %% [markdown]
# The first that is moved: {glue}`moved`. Without a patch, {glue}`copying` of the forms go on with their own verb, and {glue}`parsing` of the
# sentences with the verb of theirs.
#
# :::{dropdown} How sentences are put into forms, how to read it, and two traps
# Two traps. A state that breaks the run makes every verb likelier: expected verbs are shuffled. Near the output the state holds the next
# word itself, which is copying: look at the lower layers.
#
# The book's models know a tag, `logic :`. Others are shown two sentences with their forms first, then eight, then sentences in which the
# form's verb stands as it does there; the first that a model does is taken. Here: {glue}`form`. *expected* is the sentence's verb, *original* the
# form's own. *own type* is the state of another form, the best that can be had. *same answer* comes from the form's own sentence; *another
# word* and *earlier position* from where the verb is not; *random push* means nothing.
# :::

# %% tags=["hide-input"]
patches.curves(
    "patch-first",
    "Which verb does the form go on with?",
    alt="Share of forms by verb and layer of the patch, for each state written into them.",
    y="share of forms",
)

# %% tags=["hide-input"]
patches.curves(
    "patch",
    "How far does a sentence push the form's verb?",
    alt="Gain of the expected over the original verb by layer of the patch, with the null and the controls.",
    y="gain in nats",
    types={"logic": "logic"},
)

# %% tags=["hide-input"]
patches.claims(
    "patch",
    "At some middle layer, a state from a sentence pushes the form to that sentence's verb, by more than at the end.",
    needs=parsing.needs,
)

# %% tags=["hide-input"]
patches.claims(
    "patch-answer",
    "At some middle layer, with a sentence's state in it, the form goes on with that sentence's verb.",
    needs=parsing.needs,
)

# %% [markdown]
# The push: {glue}`why-patch` The verb: {glue}`why-patch-answer`
#
# ## What you learned
#
# The question was whether a model that reads *Emma sees Liam* knows who sees and who is seen.

# %% tags=["hide-input"]
chapter.finish(
    {
        "similarity/names swapped": "a sentence is nearer to its form than to that with the names swapped",
        "roles/same position": "the word of the role is raised wherever the name stands",
        "roles/lead": "before a name a middle layer raises the word of its role",
        "similarity/others": "in the middle layers a sentence is nearest to its logical form",
    }
)

# %% [markdown]
# - Sentence and form can be alike for their build, their words or the order of their names, without anyone knowing who did it.
# - The change that keeps the meaning belongs beside the one that does not.
# - A role word that is raised after *by* may be a fact about *by*: shuffle what is read last, and try other words in its place.
#
# *What would change our mind:* of a yes, role words as high wherever the last words are the same; of a no, a true form nearer in both orders of
# the names.
#
# **Try it.** Do the [exercises](../book/exercises/10_semantics), or run all of COGS (`data_dir`).

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
# A logical form says it with role words: `see . agent ( x _ 1 , Emma ) AND see . theme ( x _ 1 , Liam )`. If sentences and
# forms share a space, a sentence should be nearer to its own form than to others, even to one in which the two people have
# changed places. And on the way to a name, a layer might hold the word of the role that this name will have.
#
# :::{admonition} The paper's claim
# :class: paper-claim
# In Llama-3, a sentence and its logical form are alike in the middle layers, also against forms whose names were swapped and
# whose conjuncts were shuffled. Just before a proper name, middle layers raise the word of its role: *agent*, *theme* or
# *recipient* {cite:p}`wu2025semantic`.
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
n_items = None  # for each of the three sets below: 200, or 300 of natural ones
seed = 0
data_dir = None  # a folder with cogs/train.tsv, in place of the sample that ships
results_dir = "results"

# %% tags=["hide-cell"]
from semhub_utils.chapter import begin, diagram, glue
from semhub_utils.experiments import alike, core, patching, unsaid, words
from semhub_utils.spokes import semantics

chapter = begin("semantics", globals(), n_items=(200, 300))
model, n_items = chapter.model, chapter.n_items

# %% tags=["hide-input"]
diagram("similarity")

# %% [markdown]
# ## The sentences and their forms
#
# The paper takes them from COGS {cite:p}`kim2020cogs`. A public model reads 300 of its lines, a sample that ships with the book; with
# `data_dir` at a folder that holds the set's own file (`cogs/train.tsv` of the GitHub repository najoungkim/COGS) you read all.
# The book's own models read scenes of their world, written in the same form: actives and passives, with two people or three
# things in all roles.

# %%
known = semantics.meanings(seed=seed, data_dir=chapter.data)
pairs = semantics.similarity_pairs(known, n_items, seed=seed)
pairs = core.readable(model, pairs, lambda pair: (pair.a, pair.b))
swaps = semantics.swap_items(known, n_items, seed=seed)
swaps = core.readable(model, swaps, lambda item: (item.sentence, *item.forms))
[(pair.a, pair.b) for pair in pairs[:3]]

# %% tags=["hide-input"]
# Read first: forms that are changed, with what stands before the change kept; then what is whole, before its beginnings.
ladder = semantics.forms(known, n_items // 2, seed=seed, taught=chapter.own)
parsing = chapter.climb(ladder, "put a sentence into its form", series="sentences")
moved = core.readable(model, parsing.of, lambda m: (*m.run, *m.source, *(m.other or ())))
given = parsing.given | {"dropped": known.dropped + moved.dropped + parsing.given["dropped"]}
patches = chapter.find("patches", lambda: patching.interchange(model, moved, series="logic", seed=seed, **given))
similarity = chapter.run(alike.AlikeForms(), pairs, series="others", dropped=known.dropped + pairs.dropped)
swapped = chapter.run(alike.Swapped(), swaps, series="names swapped", dropped=known.dropped + swaps.dropped)

# %% tags=["hide-input"]
forms = semantics.form_prompts(known, n_items, seed=seed)
forms = core.readable(model, forms, lambda item: item.prompt)
task = chapter.knows(words.task_table, forms, "go on with a form", series="forms")
glue("task", task.share, ".0%")
left_out = {"lines": known, "pairs": pairs, "swaps": swaps, "forms to go on with": forms}
notes = [f"{name.capitalize()}: {some.left_out}" for name, some in left_out.items() if some.dropped]
glue("left_out", " ".join(notes) or "No line and no item was left out.")

# %% [markdown]
# {glue}`left_out`
#
# Does the model know such forms at all? Cut before its last role word, the form is continued with the right one in {glue}`task` of the
# cases. That is no condition for what follows, since role words are English words that any model has read; but where the number
# is low, expect less.
#
# ## Similarity: is a sentence nearer to its own form?
#
# Compare the states at the last token of sentence and form: how often is the own form the nearest, above chance? The trap is
# the *pattern*: sentences of one build have forms of one build, whoever they speak of. So a sentence is compared only with
# forms of its own pattern (*the w is w by N .*, where *w* is any word and *N* any name). Partners are shuffled there too, and
# whatever shares its first, second or last content word moves together.

# %% tags=["hide-input"]
similarity.curves(
    "similarity",
    "Is its own form the nearest to a sentence?",
    alt="Share of sentences, above chance, whose form is the nearest of its pattern, with the null and the controls.",
    y="share of sentences, above chance",
    types={"others": "logic"},
    series="others",
)

# %% [markdown]
# *How to read it.* The dotted line is what shuffled partners reach one time in twenty. The grey curves are controls. The
# embedding layer knows no more than the last token, a full stop or a closing bracket; random weights show what shared words
# do, since *Emma* stands in the sentence and in its form. A switch takes the full stop away, so that the sentence ends on a
# word. The next figure has the cosine, and compares also with *all* others, as the paper does: what stands there and not
# within the pattern is the pattern's.

# %% tags=["hide-input"]
similarity.curves(
    "similarity",
    "By how much is it nearer than others?",
    alt="Adjusted cosine of sentences and logical forms by relative depth, against one pattern and against all.",
    y="cosine of matching pairs minus others",
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
# ## Who did it? The names change places
#
# The sentence and a wrong form may share every word: *Emma sees Liam* and a form in which Liam is the agent. You take
# sentences with exactly two proper names and ask how much nearer the true form is than
#
# - the form with its **names swapped**;
# - that form with its conjuncts shuffled as well, so that the names come in the old order again.
#
# The trap: a shuffle alone moves the state. A form with its conjuncts in another order *means the same*, and if the sentence is
# as far from it as from the wrong one, nothing was understood. So this distance is a control of both claims, and a third
# comparison is fair by design: both forms in both orders, **names swapped, any order**.

# %% tags=["hide-input"]
swapped.curves(
    "swap",
    "How much nearer is the true form?",
    alt="Cosine with the true form minus cosine with an altered form by relative depth, with null and controls.",
    y="cosine with the true form minus the other",
    by="true form nearer",
    called={"series": "form"},
    types={"true form nearer": "logic"},
)

# %% [markdown]
# *How to read it.* Choose one comparison at a time. The null is that the true form is as likely further as nearer, by pair of
# names, by name or by verb; the hardest of these is drawn. Grey *same meaning* is what the order of conjuncts costs without
# any change of meaning.
#
# Is it who, or is it which name stands last? In the next figure the forms are parted by whether they name the two people in the
# order of the sentence. Someone who knows who did it is above zero in both. Each has the null of the figure above, for its own
# sentences. A switch shows the same with random weights.

# %% tags=["hide-input"]
swapped.curves(
    "swap-order",
    "Does it depend on the order of the names?",
    alt="Cosine with the true form minus cosine with names swapped by relative depth, for two orders of names.",
    y="cosine with the true form minus the other",
    called={"control": "weights", "": "trained", "random weights": "random"},
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
    "So it is against the form with names swapped and conjuncts shuffled, by more than a shuffle costs.",
    row=12,
    paper="It also holds when the conjuncts of the swapped form are shuffled.",
)

# %% tags=["hide-input"]
swapped.claims(
    "similarity/names swapped, any order",
    "So it is on average over both orders of the conjuncts, on both sides.",
)

# %% [markdown]
# ## Role words: what comes next?
#
# The model reads a sentence up to just before a proper name: *Emma gives the ball to*. Names before it were replaced at random, so
# that no name stands for a role. Read every layer for the words *agent*, *theme* and *recipient*. These words stand in logical
# forms (and, for the shipped models, in code), but not in the sentences.
#
# A role word may be likely whatever is read. So each word's log-probability is compared with its mean over all true roles: a
# cell above zero says that this word is raised where that role comes next.

# %% tags=["hide-input"]
prompts = semantics.role_items(known, n_items, seed=seed)
placed = semantics.behind_another(prompts, known, seed=seed)
placed = core.readable(model, placed, lambda item: item.prompt)
fit = {item.id for item in placed}  # without another sentence before them they are shorter, and fit too
anywhere = prompts.but(item for item in prompts if item.id in fit)
others = tuple(semantics.form_words(known))
glue("unused", placed.left_out or "Every name had something to read before it.")
[(item.prompt, item.targets["role"][0]) for item in anywhere[:6]]

# %% tags=["hide-input"]
given = {"readings": True, "dropped": known.dropped + placed.dropped}
roles = chapter.run(unsaid.Roles(others), anywhere, series="lead", **given)
roles += chapter.run(unsaid.Roles(others, same_position=True), placed, series="same position", **given)

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
)

# %% [markdown]
# {glue}`unused`
#
# *How to read it.* Move the slider. If the model names roles, the diagonal is the warmest cell of each column. **normed** applies
# the final norm before the unembedding, **raw** does so at the last layer alone, as the authors' release does; both have their own colour scale.
#
# The trap is that few words decide. *By* comes before an agent and *to* before a recipient, and in a small grammar nearly every sentence shows
# one of them. Three words that mean nothing could fit by accident. So there are two nulls, and the harder counts: true
# roles shuffled among what is read last, and three *other* words of the forms in place of the role words.
#
# The place is a trap of its own: a theme comes early in these sentences and an agent, in a passive, late. So the second
# claim puts another sentence in front of each prompt, such that as many words stand before every name, and compares only
# prompts of that length.

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
# The paper takes probabilities and not their logarithms. A mean of probabilities rests on the few prompts where a word is
# likely, so the claims here rest on logarithms; this is the paper's number. Dotted: true roles shuffled among what is read last.
# Grey: random weights.

# %% tags=["hide-input"]
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
    "So it is where as many words stand before every name, whatever its role.",
)

# %% [markdown]
# ## Interchange patch: does the form take its verb from a sentence?
#
# What can be read need not be used. So you move a whole state. One run reads a form up to where its verb comes again, `see . agent
# ( x _ 1 , Emma ) AND`, and goes on with `see`. Another reads a sentence that is about to be put into a form, *Liam finds Mia*, and
# would go on with `find`. Write the state at the end of the sentence in the place of the state at the end of the form. If both
# keep the verb in one place, the form goes on with `find`.
#
# The verb is what a form can be asked for: it comes again, so that the form alone says which it is. A role or a name that
# follows is settled by its place in the form, or by nothing.
#
# Two traps. A state that breaks the run makes every other verb likelier, so the expected verbs are shuffled for the null. And near
# the output the state holds the next word itself, which is a form's word in both runs: to follow there is copying. Look at
# the lower layers.

# %% tags=["hide-input"]
source, run = moved[0].source[1].splitlines()[-1], moved[0].run[0]
glue("unmoved", moved.left_out or "No form was left out.")
glue("parsing", parsing.share, ".0%")
glue("form", parsing.form.name)
glue("copying", patches.rows("task-logic").value.mean(), ".0%")
glue("moved", f"{source!r} into {run!r}")

# %% [markdown]
# {glue}`unmoved` The first that is read: {glue}`moved`. Without a patch, {glue}`copying` of the forms go on with their own verb, and {glue}`parsing` of the
# sentences with the verb of theirs. Where a sentence is not put into its form, there is nothing to move, and the claims below
# read *cannot be tested here*. (The models that ship with this book know a tag for it, `logic :`. Others are shown two
# sentences with their forms first; where that is not enough eight, and then sentences in which the form's verb stands as it does
# there. What is taken is the first of these that a model does on sentences kept apart, and what is read, those it puts into
# form. Here: {glue}`form`.)

# %% tags=["hide-input"]
patches.curves(
    "patch-first",
    "Which verb does the form go on with?",
    alt="Share of forms by verb and layer of the patch, for each state written into them.",
    y="share of forms",
)

# %% [markdown]
# *How to read it.* *expected* is the verb of the sentence, *original* the form's own. Choose whose state was written. *own type* is that
# of another form, cut likewise: the best that a patch here can do. *same answer* comes from the form's own sentence, and nothing
# should change; *another word* from one word of a sentence, without its verb; *earlier position* from before the sentence's end;
# *random push* moves the state as far in a direction that means nothing.

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
    "At some middle layer, the form then goes on with that verb.",
    needs=parsing.needs,
)

# %% [markdown]
# ## What you learned
#
# The question was whether a model that reads *Emma sees Liam* knows who sees and who is seen. The verdicts on this model, by
# rules fixed before the run:

# %%
chapter.finish(
    {
        "similarity": "in the middle layers a sentence is nearest to its logical form",
        "similarity/names swapped": "a sentence is nearer to its form than to that with the names swapped",
        "roles/lead": "before a name a middle layer raises the word of its role",
        "roles/same position": "the word of the role is raised wherever the name stands",
        "patch": "the state of a sentence pushes its verb in another's form",
        "patch-answer": "the form then goes on with that verb",
    }
)

# %% [markdown]
# - Sentence and form can be alike for their build, their words or the order of their names, without anyone knowing who did it.
# - An altered form moves the state even where it means the same: the change that keeps the meaning belongs beside the one that does not.
# - Likeness says what could be shared, a patch what is used. Ask first whether either run has the answer at all.
# - A role word that is raised after *by* may be a fact about *by*: shuffle what is read last, and try other words in its place.
#
# **Try it.** Run the chapter on COGS with another checkpoint: `semhub run semantics --model ID_OR_FOLDER --set data_dir=FOLDER`. Then
# see whether the third comparison of names holds where the first two do.

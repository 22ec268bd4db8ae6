# %% [markdown]
# # Raising a hub
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/semantic-hub-book/semantic-hub-book/blob/main/notebooks/05_raising.ipynb)
#
# **When does a hub appear, before or after each data type is mastered, and what has to be there for it to grow?**
#
# ```{glue} answer
# ```
#
# The book's own models were trained by the book's own code, so their whole youth can be looked at. In this chapter you raise a
# small one with a hub yourself, beside a twin without, and watch both with the instruments of the last chapters. Then you look at
# the full trainings, and put all models side by side.
#
# :::{admonition} The paper's claim
# :class: paper-claim
# A model pretrained mostly on one data type learns to represent others through it: a shared space, scaffolded by the dominant
# type {cite:p}`wu2025semantic`. The paper looks at finished models; when the space appears, and what in the training makes it
# appear, it leaves open.
# :::
#
# | Before you start | |
# |---|---|
# | You should know | what an [adjusted cosine, a null and a verdict](02_instruments) are, and [how they can be fooled](04_fooled) |
# | Time to read | 15 minutes |
# | Time to run | one and a half minutes on one core with the book's own model |

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
n_items = None  # texts of each data type, held-out facts for the book's own models: 150
steps = 900  # of the live trainings; 900 take most of a minute each
seed = 0
data_dir = None  # a folder with NTREX-128 (ntrex), in place of the sample that ships
results_dir = "results"

# %% tags=["hide-cell"]
from semhub_utils.chapter import begin, diagram, glue, listing
from semhub_utils.experiments import alike, raising
from semhub_utils.experiments.raising import ISLANDS, SMALL, live

chapter = begin("raising", globals(), "steps", n_items=(150, 150))
given = {"n_items": chapter.n_items, "seed": seed, "data_dir": chapter.data}

# %% tags=["hide-input"]
diagram("hub")

# %% [markdown]
# ## What is true of each model by construction
#
# An instrument can be trusted where the truth is known. These are all trainings that ship with the book. A second seed ships
# without its weights: its curves are here all the same.

# %% tags=["hide-input"]
born = chapter.find("born", raising.born).table
shares = dict.fromkeys(["English words", "bridging lines", "at the end"], "{:.0%}")
listing(born, parameters="{:,}", tokens="{:,}", minutes="{:.0f}", **shares)

# %% tags=["hide-input"]
main = born[born.training == "hub"].iloc[0]
glue("hub_tokens", main.tokens / 1e6, ".1f")
glue("hub_english", main["English words"], ".0%")
glue("hub_bridging", main["bridging lines"], ".0%")
glue("hub_bridging_end", main["at the end"], ".0%")

# %% [markdown]
# The hub was raised on {glue}`hub_tokens` million tokens, {glue}`hub_english` of them English words. Of its lines,
# {glue}`hub_bridging` join two types (code-switched sentences, dictionary lines, translations), and {glue}`hub_bridging_end` at
# the end.
#
# Small models have been raised to study sharing before. {cite:t}`blum2025rosetta` train Transformers on made-up facts in
# several languages: in one phase of learning a fact comes to be held apart or as one, only what is held as one transfers, and
# which of the two depends on how closely facts go with a language and how easily that language is told.
# {cite:t}`cosma2026invitro` makes two languages of one grammar, and finds in 700 runs that transfer hangs on tokens which
# keep pieces that both languages use. There the trainings are the subject. Here they are also the yardstick: code, sums,
# logical forms, pictures and sounds share one world with four languages, every word is one token, and the models are kept so
# that instruments can be held against a known truth.
#
# Every model is asked the same thing: a fifth of the facts is *held out*, taught in English words and in no other type. To answer
# such a fact in Spanish, a model has to use what it learned in English. That is the behavioural sign of a hub, and all
# similarities in this chapter are on such facts too.
#
# ## Raise a hub now
#
# Here is a recipe small enough to wait for: English and Spanish, facts of four relations, three layers. Its twin, the *islands*,
# has the same size, the same number of tokens and the same sentence forms, but Spanish speaks of a private world (facts permuted),
# and nothing joins the two. The hub is raised while you wait. The islands were raised beforehand by the same program, and their curve
# is on file; with another number of `steps`, or another `seed`, they are raised now as well.

# %%
small = chapter.find("small", lambda: live(SMALL, steps=steps, seed=seed))

# %%
islands = chapter.find("small-islands", lambda: raising.raised(ISLANDS, steps=steps, seed=seed))

# %% tags=["hide-input"]
raised = small + islands
raised.curves(
    "loss",
    "Do both learn to predict their text?",
    alt="Training loss in nats a token by tokens seen, for the small hub and the small islands.",
    x="tokens",
    y="loss (nats a token)",
    by="model",
)

# %% [markdown]
# A loss alone tells no hub from islands. Ask them facts, and look at their states:

# %% tags=["hide-input"]
youth = raised.changed(raising.youth)
youth.curves(
    [*raising.MEASURES],
    "What does a hub change while it grows?",
    alt="By tokens seen: Spanish facts answered, taught and held out, similarity and retrieval of the English twin, for either small model.",
    x="tokens",
    y="share answered or retrieved, or cosine",
    types=raising.MEASURES,
)

# %% tags=["hide-input"]
last = youth.table.sort_values("step").groupby(["model", "series"]).value.last()
glue("live_taught", last[SMALL.name, "taught"], ".0%")
glue("live_held", last[SMALL.name, "held out"], ".0%")
glue("live_islands", last[ISLANDS.name, "held out"], ".0%")
glue("live_chance", raised.rows("held out").chance.iloc[-1], ".0%")

# %% [markdown]
# *How to read it.* Choose the model above the chart. Similarity and retrieval are read at the middle layer. At the end, the small
# hub answers {glue}`live_taught` of the Spanish facts it was taught and {glue}`live_held` of those held out; the small islands
# answer {glue}`live_islands` of these as English would. Always giving the commonest answer of the relation would get
# {glue}`live_chance`.
#
# Are the two really different, item by item? The rules of this book say:

# %% tags=["hide-input"]
pair = small.table, islands.table
live_evidence = chapter.find("live-evidence", lambda: raising.live_evidence(*pair, seed=seed))
live_evidence.claims(
    "live/answered",
    "The small model raised with bridging text answers more held-out Spanish facts than its islands twin.",
)

# %% tags=["hide-input"]
live_evidence.claims(
    "live/alike",
    "In the small model raised with bridging text, more Spanish items and English twins are each other's nearest.",
)

# %% [markdown]
# ## The full trainings
#
# The same instruments looked at every checkpoint of the full trainings. Choose a training; the curves are of items that the type
# was never taught.
#
# Of public models the checkpoints say: first each language has representations of its own, which slowly become one
# {cite:p}`riemenschneider2025compression`; and, by patching, shared concepts are there early and are refined until the end,
# for some languages more than for others {cite:p}`korner2026meanings`. What those models read in which language alone, nobody
# knows. Here it is known.

# %%
curves = chapter.find("curves", raising.shipped_curves)
logs = chapter.find("logs", raising.shipped_logs)
shipped = curves.table

# %% tags=["hide-input"]
logs.curves(
    "loss",
    "How fast does each training learn its text?",
    alt="Training loss in nats a token by tokens seen, one line per training that ships.",
    x="tokens",
    y="loss (nats a token)",
)

# %% tags=["hide-input"]
curves.curves(
    "held out",
    "When are facts answered that the type was never taught?",
    alt="Share of held-out facts answered by tokens seen, one line per data type, for the chosen training.",
    x="tokens",
    y="share of held-out facts answered",
)

# %% tags=["hide-input"]
curves.changed(raising.youth).curves(
    [*raising.MEASURES],
    "Which comes first, the likeness or the answers?",
    alt="Taught and held-out answers, similarity and retrieval by tokens seen, for the chosen training and data type.",
    x="tokens",
    y="share answered or retrieved, or cosine",
    types=raising.MEASURES,
)

# %% [markdown]
# ## Before or after?
#
# Three milestones for each type, all by rules that know nothing of the curves: the type is *mastered* when nine in ten of its
# taught facts are answered, held-out facts are *above chance* when the interval is, and the similarity *holds* when, at some middle
# layer, p is below .01 and the interval above 0. Each counts from the checkpoint after which it stays true. In millions of tokens:

# %% tags=["hide-input"]
stones = chapter.find("milestones", lambda: raising.milestones(shipped)).table
wide = stones.pivot_table(index=["model", "type"], columns="milestone", values="tokens", sort=False, dropna=False)
(wide / 1e6).style.format("{:.1f}", na_rep="never")

# %% tags=["hide-input"]
hubs = wide.loc["hub"].fillna(float("inf"))
glue("before_mastery", int((hubs["similarity holds"] < hubs["taught facts mastered"]).sum()))
glue("before_transfer", int((hubs["similarity holds"] < hubs["held-out facts above chance"]).sum()))
glue("all_types", len(hubs))

# %% [markdown]
# In the hub, the similarity holds before the type is mastered in {glue}`before_mastery` of {glue}`all_types` types, and before its
# held-out facts are above chance in {glue}`before_transfer`. This compares averages with thresholds, and averages of many items cross a threshold early. So ask of
# every single item: from which checkpoint on are it and its English twin each other's nearest at the middle layer, and from which
# on is it answered? This is a strict criterion of likeness, as the twin has to beat all other items. It was fixed before the curves
# were made.

# %% tags=["hide-input"]
order = chapter.find("order", lambda: raising.order_evidence(shipped, seed=seed))
order.claims(
    "order/hub",
    "In the hub, a held-out item and its English twin become each other's nearest before the item is answered.",
)

# %% [markdown]
# ## Side by side
#
# Now the finished models, computed here: the one this chapter runs on, those that ship, and the first one's architecture with random
# weights. Choose a data type; the models stand beside each other.

# %%
layers = chapter.find("layers", lambda: raising.side_by_side(chapter.model, **given))

# %% tags=["hide-input"]
layers.changed(lambda table: table.drop(columns="null_high")).curves(
    "similarity",
    "Which models have a shared space, and where?",
    alt="Share of held-out items whose English twin is the nearest, by layer, one line per model, for one data type.",
    y="share of items, above chance",
    by="model",
    reading=alike.NEAREST,
)

# %% tags=["hide-input"]
layers.curves(
    "lens-probability",
    "Whose word does the lens read on the way?",
    alt="Lens probability by layer of the English answer, the own token and wrong English answers, by model and data type.",
    y="probability (normed lens)",
    types={"own": "spanish"},
)

# %% [markdown]
# *Own* is the answer in the item's own type, *wrong english* the mean over the other English answers of the relation. A hub that
# speaks English has the first above the last in the middle, and the own token above both at the end. The
# [first chapter](01_hypothesis) has the claims.

# %% [markdown]
# ## What must be seen
#
# Before any of these models was trained, the book wrote down what its instruments must show in each, if they are any good. In each
# cell: what is asked, the least and the most that was measured over types and seeds, and how many of these meet it.

# %% tags=["hide-input"]
listing(raising.demanded())

# %% [markdown]
# Where a cell is not met, it is not for want of trying. These recipes were tried for the hub, in this order. The first two
# saw the split of the facts that is reported (split 0), and the second of them ships; the others were tried on another split,
# so that the reported items chose nothing. They saw fewer tokens, and what they came to stands in the table, as shares of
# their own prompts. The planted model had recipes before this one, too: the first three were judged by the reported split and
# lost the plant while they learned the taught facts by heart. This one was chosen on another split: it reads English words in
# the other types' sentence forms before the planting, and no row moves afterwards.

# %% tags=["hide-input"]
listing(raising.tried(), tokens="{:,}", taught="{:.0%}", **{"held out": "{:.0%}"})

# %% [markdown]
# ## What has to be there?
#
# The small recipe again, with one thing changed at a time. The most telling is *absent from English too*: with the
# held-out facts taken out of English as well, nothing is left to share, and what is still answered follows from the class of a
# thing alone (animals eat what animals eat).
#
# Does it take English? Models trained on other mixtures, without English among them, were found to share as much
# {cite:p}`harrasse2025tracing`. The organism *balanced* above, which has no dominant language, is the like of them.

# %%
changed = chapter.find("controls", raising.controls_summary)

# %% tags=["hide-input"]
changed.bars(
    (),
    "What does each change do to the hub?",
    alt="One bar per small training with one thing changed: share of held-out facts answered, or of twins retrieved.",
    y="share, mean over seeds",
    types=dict.fromkeys(changed.table.series, "spanish"),
    reading=[name for name in raising.MEASURES if name != "similarity"],
)

# %% tags=["hide-input"]
answered = changed.rows(reading="held out").set_index("series")
glue("as_it_is", answered.value["as it is"], ".0%")
glue("forgotten", answered.value["absent from English too"], ".0%")
glue("apart", answered.value["islands"], ".0%")
glue("commonest", answered.chance["as it is"], ".0%")
glue("control_seeds", int(answered.seeds.min()))

# %% [markdown]
# As it is, the small recipe answers {glue}`as_it_is` of the held-out facts. Without them in English it is {glue}`forgotten`, on
# islands {glue}`apart`, and the commonest answers alone would get {glue}`commonest`. Trainings of each: {glue}`control_seeds`.
# These are small models; what holds for them need not hold for large ones.
#
# ## What you learned
#
# The question was when a hub appears, whether before or after each type is mastered, and what has to be there.

# %% tags=["hide-input"]
chapter.finish(
    {
        "live/answered": "a small model raised with bridging text answers more held-out facts than its twin without",
        "live/alike": "what it holds of them is more alike across languages",
        "order": "items meet before they are answered",
    }
)

# %% [markdown]
# - A loss curve does not show a hub. Answers to held-out facts do, and so does the likeness of states, against a null.
# - The order of likeness and answers depends on what you call likeness: an average that clears its null, or every single item
#   beside its twin. State the criterion before you look.
# - A hub needs something that joins the types, and something worth sharing. The controls say how much each matters at this size.
#
# **What this chapter does not show.** The trainings are few and small, and their world is made. That a hub *can* grow this way does
# not show that the hubs of large models did.
#
# **Try it.** Set `steps` to 2700 and see whether the small hub's held-out answers catch up with the taught ones. Then change one
# thing of `SMALL` that the controls do not change, such as the share of dictionary lines in `bridges`, and raise it again.

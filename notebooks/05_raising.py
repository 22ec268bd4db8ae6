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
# The book trained its {term}`organisms <organism>`, so their whole youth can be seen. You raise a small one with a hub, beside a twin
# without. Then you look at the full trainings, and at all models side by side.
#
# :::{admonition} The paper's claim
# :class: paper-claim
# A model pretrained mostly on one data type learns to represent others through it {cite:p}`wu2025semantic`. When that space
# appears, and what in the training makes it appear, the paper leaves open.
# :::
#
# You should know what an [adjusted cosine, a null and a verdict](02_instruments) are, and [how they can be fooled](04_fooled). Time to
# read: 10 minutes.
#
# **After this chapter you can**
#
# - name the behavioural sign of a hub, and say why a loss is none;
# - say what training has to hold for a hub to grow at this size;
# - ask "which comes first?" with a criterion stated before you look.

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
n_items = None  # texts of each data type, held-out facts for the book's own models: 150
steps = 900  # of the live trainings; 900 take most of a minute each
seed = 0
data_dir = None  # a folder with NTREX-128 (ntrex), in place of the sample that ships
results_dir = "results"

# %% tags=["hide-cell"]
from semhub_utils import calibration
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
# An instrument can be trusted where the truth is known: in the trainings that ship with the book.

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "Show the table", "code_prompt_hide": "Hide the table"}
born = chapter.find("born", raising.born).table
shares = dict.fromkeys(["English words", "bridging lines", "at the end"], "{:.0%}")
millions = dict.fromkeys(["parameters", "tokens"], lambda number: f"{number / 1e6:.1f}M")
listing(born, minutes="{:.0f}", **shares, **millions)

# %% tags=["hide-input"]
main = born[born.training == "hub"].iloc[0]
glue("hub_tokens", main.tokens / 1e6, ".1f")
glue("hub_english", main["English words"], ".0%")
glue("hub_bridging", main["bridging lines"], ".0%")
glue("hub_bridging_end", main["at the end"], ".0%")

# %% [markdown]
# The hub read {glue}`hub_tokens` million tokens, {glue}`hub_english` of them English words. Of its lines, {glue}`hub_bridging` are
# {term}`bridging` ones, which join two types (code-switched sentences, dictionary lines, translations); {glue}`hub_bridging_end` at the end.
#
# A fifth of the facts is {term}`held out`, taught in English words and in no other type. To answer one in Spanish, a model has to use
# what it learned in English: the behavioural sign of a hub.
#
# :::{dropdown} Others who raised small models
# {cite:t}`blum2025rosetta` train Transformers on made-up facts in several languages: in one phase a fact comes to be held apart or as
# one, only what is held as one transfers, and which of the two depends on how closely facts go with a language.
# {cite:t}`cosma2026invitro` find in 700 runs that transfer hangs on tokens whose pieces both languages use. There the trainings
# are the subject; here they are the yardstick too.
# :::
#
# ## Raise a hub now
#
# A recipe small enough to wait for: English and Spanish, facts of four relations, three layers. Its twin, the *islands*, has the same
# size, tokens and sentence forms, but its Spanish speaks of a private world, and nothing joins the two. The hub is raised while you wait;
# the islands were raised beforehand by the same program, unless `steps` or `seed` are others.
#
# :::{predict} Which of the two will have the lower training loss?
# - The hub, by far: it understands
# - The islands, by far
# - They will hardly differ
# +++
# The next figure has both. Whatever it shows, a loss says nothing on what is shared: the facts do.
# :::

# %% tags=["hide-input", "remove-output"]
small = chapter.find("small", lambda: live(SMALL, steps=steps, seed=seed))

# %% tags=["hide-input", "remove-output"]
beforehand = (steps, seed) == (ISLANDS.steps, 0)
islands = chapter.find(
    "small-islands",
    lambda: calibration.table("islands") if beforehand else live(ISLANDS, steps=steps, seed=seed),
)

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
# So ask them facts, and look at their states:

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
# At the end, the small hub answers {glue}`live_taught` of the Spanish facts it was taught and {glue}`live_held` of those held out; the
# small islands answer {glue}`live_islands` of these as English would, the commonest answer {glue}`live_chance`.
#
# Are the two different, item by item?

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
# {glue}`why-live` The live models are young: the full trainings saw many times as much.
#
# ## The full trainings
#
# The same at every checkpoint, of items that the type was never taught. Where a figure has several trainings, choose one.
#
# :::{dropdown} And in public models?
# First each language has representations of its own, which slowly become one {cite:p}`riemenschneider2025compression`; by patching, shared
# concepts are there early and refined until the end {cite:p}`korner2026meanings`. What those models read in which language, nobody knows.
# :::

# %% tags=["hide-input"]
curves = chapter.find("curves", raising.shipped_curves)
logs = chapter.find("logs", raising.shipped_logs)
shipped = curves.table
hub_first = curves.changed(lambda table: table.sort_values("model", key=lambda name: name != "hub", kind="stable"))

# %% tags=["hide-input"]
logs.curves(
    "loss",
    "How fast does each training learn its text?",
    alt="Training loss in nats a token by tokens seen, one line per training that ships.",
    x="tokens",
    y="loss (nats a token)",
)

# %% tags=["hide-input"]
hub_first.curves(
    "held out",
    "When are facts answered that the type was never taught?",
    alt="Share of held-out facts answered by tokens seen, one line per data type, for the chosen training.",
    x="tokens",
    y="share of held-out facts answered",
)

# %% tags=["hide-input"]
hub_first.changed(raising.youth).curves(
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
# When are nine in ten of a type's taught facts answered (*mastered*), its held-out facts above chance, and its similarity above its null, for
# good? In tokens seen:

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "When did each model reach them?"}
stones = chapter.find("milestones", lambda: raising.milestones(shipped)).table
wide = stones.pivot_table(index=["model", "type"], columns="milestone", values="tokens", sort=False, dropna=False)
told = [name.title() if name else name for name in wide.columns]
listing(
    wide.rename_axis(columns=None).reset_index(),
    **dict.fromkeys(wide, lambda n: f"{n / 1e6:.1f}M" if n == n else "never"),
)

# %% tags=["hide-input"]
hubs = wide.loc["hub"].fillna(float("inf"))
glue("before_mastery", int((hubs["similarity holds"] < hubs["taught facts mastered"]).sum()))
glue("before_transfer", int((hubs["similarity holds"] < hubs["held-out facts above chance"]).sum()))
glue("all_types", len(hubs))

# %% [markdown]
# In the hub, the similarity holds before the type is mastered in {glue}`before_mastery` of {glue}`all_types` types, and before its held-out facts
# are above chance in {glue}`before_transfer`. But averages cross a threshold early. So ask of every single item: when are it and its twin each other's nearest, and when is it answered?
# This criterion was fixed before the curves.
#
# :::{predict} Item by item, which comes first?
# - The twin becomes the nearest, then the item is answered
# - The item is answered first
# - Both at once
# +++
# {glue}`verdict-order`
# :::

# %% tags=["hide-input"]
order = chapter.find("order", lambda: raising.order_evidence(shipped, seed=seed))
order.claims(
    "order/hub",
    "In the hub, a held-out item and its English twin become each other's nearest before the item is answered.",
)

# %% [markdown]
# {glue}`why-order`
#
# ## Side by side
#
# The finished models, beside random weights. Choose a type.

# %% tags=["hide-input"]
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
# A hub that speaks English has the English answer above *wrong English* ones in the middle, and the *own* token above both at the end.

# %% [markdown]
# ## What must be seen
#
# What the instruments must show in each was written down before it was trained: the first table. What was tried until one met it:
# the second.

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "Show what was demanded", "code_prompt_hide": "Hide what was demanded"}
listing(raising.demanded())

# %% [markdown]
# :::{dropdown} How the recipes were chosen
# The first two saw the split of the facts that is reported, and the second of them ships; the others were tried on another split,
# so that the reported items chose nothing. They saw fewer tokens. The first three recipes of the planted model were judged by the reported split
# and lost the plant; the one that ships was chosen on another: it reads English words in the other types' forms before the planting.
# :::

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "Show what was tried", "code_prompt_hide": "Hide what was tried"}
listing(raising.tried(), tokens=millions["tokens"], taught="{:.0%}", **{"held out": "{:.0%}"})

# %% [markdown]
# ## What has to be there?
#
# The small recipe again, with one thing changed at a time. The most telling for held-out facts is *absent from English too*: then nothing
# is left to share. Models trained without English share as much {cite:p}`harrasse2025tracing`; the like of them here is *balanced*.

# %% tags=["hide-input"]
changed = chapter.find("controls", raising.controls_summary)
shown = ["held out", "taught", "retrieval"]  # in this order
told = changed.rows(reading=shown).sort_values("reading", key=lambda of: of.map(shown.index), kind="stable")

# %% tags=["hide-input"]
changed.changed(lambda _: told).bars(
    (),
    "What does each change do to the hub?",
    alt="One bar per small training with one thing changed: share of held-out facts answered, or of twins retrieved.",
    y="share",
    called={"reading": "measure"},
    types=dict.fromkeys(told.series, "spanish"),
)

# %% tags=["hide-input"]
answered = changed.rows(reading="held out").set_index("series")
glue("as_it_is", answered.value["as it is"], ".0%")
glue("forgotten", answered.value["absent from English too"], ".0%")
glue("apart", answered.value["islands"], ".0%")
glue("commonest", answered.chance["as it is"], ".0%")
seeds = int(answered.seeds.min())
glue("control_seeds", "once, so that luck is not ruled out" if seeds == 1 else f"{seeds} times")

# %% [markdown]
# As it is, the small recipe answers {glue}`as_it_is` of the held-out facts; without them in English {glue}`forgotten`, on islands
# {glue}`apart`, the commonest answers alone {glue}`commonest`. Each was trained {glue}`control_seeds`.
#
# ## What you learned
#
# The question was when a hub appears, whether before or after each type is mastered, and what has to be there.

# %% tags=["hide-input"]
chapter.finish(
    {
        "order": "items meet before they are answered",
        "live/answered": "a small model raised with bridging text answers more held-out facts than its twin without",
        "live/alike": "states of a small model raised with bridging text are more alike across languages than its twin's",
    }
)

# %% [markdown]
# - A loss curve does not show a hub. Answers to held-out facts do, and so does the likeness of states, against a null.
# - Which comes first depends on what you call likeness: an average, or every single item beside its twin. State it before you look.
# - A hub needs something that joins the types, and something worth sharing.
#
# *What would change our mind:* islands that answer held-out facts, or hubs that grow without bridging text. The trainings are few and small:
# that a hub *can* grow this way does not show that those of large models did.
#
# **Try it.** Do the [exercises](../book/exercises/05_raising), or set `steps` to 2700: do held-out answers catch up with the taught ones?

# %% [markdown]
# # Can these instruments be fooled?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/semantic-hub-book/semantic-hub-book/blob/main/notebooks/04_fooled.ipynb)
#
# **If there were no hub, would this book find one all the same?**
#
# ```{glue} answer
# ```
#
# An instrument is worth what it says when there is nothing to find. In this chapter you build fake hubs: states that look alike
# for reasons other than meaning. Raw cosine falls for all of them. Then you let the evidence judge the same states, and count
# how often it is fooled, and how strong a true hub has to be to be seen.
#
# :::{admonition} The paper's claim
# :class: paper-claim
# Texts of equal meaning have more similar states than texts of different meaning (Eq. 1). The paper compares matching pairs
# with all other pairs, and continues sentences that end in a full stop, so that the last token is not the same in all of them
# {cite:p}`wu2025semantic`. Most of its figures have no null and no interval.
# :::
#
# | Before you start | |
# |---|---|
# | You should know | what an [adjusted cosine, a null and a verdict](02_instruments) are |
# | Time to read | 15 minutes |
# | Time to run | one minute on one core with the book's own model |

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
n_items = None  # made-up worlds of each kind, and models of random weights: 24
seed = 0
data_dir = None  # a folder with NTREX-128 (ntrex), in place of the sample that ships
results_dir = "results"

# %% tags=["hide-cell"]
from semhub_utils import calibration
from semhub_utils.chapter import begin, diagram, glue, listing
from semhub_utils.experiments import fooled, instruments, readings, trials
from semhub_utils.experiments.fooled import ARTEFACTS, NOISE, PAIRS, TRUE_LAYERS
from semhub_utils.spokes import natural
from semhub_utils.verdicts import judge

chapter = begin("fooled", globals(), n_items=(24, 24))
n_items = chapter.n_items
glue("pairs", PAIRS)
glue("worlds", n_items)

# %% tags=["hide-input"]
diagram("evidence")

# %% [markdown]
# ## Build one by hand
#
# A *world* is two sides of {glue}`pairs` pairs at seven layers. All of it is noise: no pair shares anything. Now let every text
# end in the same full stop. In a model, the state at a full stop has much to do with the stop and little with the text, so you
# add one direction to every state of both sides.

# %%
a, b = NOISE.states(seed)
stop = 3 * a[0, 0]  # any direction will do
fake_a, fake_b = a + stop, b + stop
raw = fooled.raw_cosine(fake_a, fake_b).mean(0)
[f"{value:.2f}" for value in raw.tolist()]

# %% [markdown]
# A mean cosine of this size between two languages, at every layer, would make a fine figure. Is it a hub? Compare each match with
# its non-matches, shuffle the partners, and ask the rules of this book:

# %%
judge(fooled.examine(fake_a, fake_b)).verdict

# %%
meaning = 1.5 * NOISE.states(seed + 1)[0][:, :1]  # one vector per pair, the same on both sides
fake_a[:, TRUE_LAYERS] += meaning
fake_b[:, TRUE_LAYERS] += meaning
verdict = judge(fooled.examine(fake_a, fake_b))
verdict.verdict, verdict.layer

# %% [markdown]
# The same rules find the true hub that you have just planted under the full stop, and the layer where it lies.
#
# ## Seven ways to build a fake
#
# None is far-fetched: each is what real texts or real models do. In the made-up states, each side has noise of its own, and
# both get what the second column says.

# %% tags=["hide-input"]
listing(
    [(kind.name, kind.spoil.__doc__, kind.known) for kind in ARTEFACTS],
    ["artefact", "what the sides share", "what a careful reader knows of the items"],
)

# %% [markdown]
# Choose one. The first curve is what raw cosine sees in the fake. The second is how often a match is the nearest, above
# chance, of those it may be compared with. The third is the same for a true hub, planted at two layers *under the same
# artefact*.

# %% tags=["hide-input"]
curves = chapter.find("curves", lambda: fooled.curves(seed))
curves.curves(
    "artefact-curves",
    "Is it a hub, or does it only look like one?",
    alt="By layer and artefact: raw cosine of a fake hub, and how often matches are nearest in the fake and in a true hub.",
    y="raw cosine, or share above chance",
    types={"fake, raw cosine": "control", "fake, evidence": "spanish", "true hub, evidence": "english"},
)

# %% [markdown]
# *How to read it.* Asking which match is the nearest is enough where all items share the same thing: it helps no match more
# than the others. Where only *some* items share it (equal length, common last token, shared frequency), a match is compared,
# and partners are shuffled, among these alone. Fake and true hub have each a dotted line of their own, the null. With few
# concepts the curves wobble about zero; the question there is how wide the null is.
#
# The same has been found of whole models: the scores by which they seemed to become alike are inflated by their size, and once
# they are held against a permutation null, likeness of the whole space largely goes and that of small neighbourhoods
# stays {cite:p}`groger2026aristotelian`.
#
# ## How often is each reader fooled?
#
# One world is an anecdote. Draw {glue}`worlds` worlds of each kind and let three readers judge them. The first looks at raw
# cosine. The second is *careless*: they ask whether the match is the nearest, and shuffle partners, but any with any, count
# every item as independent, and have no control. The third is *careful*: they compare and shuffle within groups, move the
# items of one concept together, and ask that the middle layers stand above the embeddings, the first layers and the last.
# Only the third is what this book does.

# %%
fakes = chapter.find("fakes", lambda: fooled.fake_trials(n_items, seed))

# %% tags=["hide-input"]
readers = {
    "raw cosine": "raw cosine of the fake",
    "careless": "fake holds, careless",
    "careful": "fake holds, careful",
    "truth": "true hub holds",
}
shares = fakes.table.pivot(index="series", columns="reading", values="value").rename(columns=readers)
shares = shares.loc[[kind.name for kind in ARTEFACTS], [*readers.values()]]
formats = dict.fromkeys(shares, "{:.0%}") | {"raw cosine of the fake": "{:.2f}"}
listing(shares.rename_axis("artefact").reset_index(), **formats)

# %% tags=["hide-input"]
glue("raw_least", shares.iloc[:, 0].min(), ".2f")
glue("careless_few", shares.loc["few concepts"].iloc[1], ".0%")
grouped = [kind.name for kind in ARTEFACTS if kind.known == fooled.GROUPED]
glue("careless_group", shares.loc[grouped].iloc[:, 1].min(), ".0%")
glue("careful_most", shares.iloc[:, 2].max(), ".0%")
glue("truth_least", shares.iloc[:, 3].min(), ".0%")

# %% [markdown]
# - The least fooling fake has a raw cosine of {glue}`raw_least`.
# - Of the fakes whose pairs share something by group, the one that fools the careless reader least does so in
#   {glue}`careless_group` of the worlds. Few concepts counted as many items do so in {glue}`careless_few`, where the level of the
#   test promises one in a hundred.
# - The fake that fools the careful reader most does so in {glue}`careful_most` of its worlds. The true hub that is missed most
#   often is found in {glue}`truth_least`.
#
# How low is the bar that raw cosine sets? Put each fake beside a true hub that has nothing else in common, with a planted vector
# half as long as the noise. The next claim asks, world by world, about the *least* of the seven fakes; its control is pure noise
# in the fake's place. The control of the claim after it is the careless reader.

# %% tags=["hide-input"]
fakes.claims(
    "raw",
    "To raw cosine, each of the seven fakes looks more like a hub than a true, modest hub does.",
)

# %% tags=["hide-input"]
fakes.claims(
    "told-apart",
    "The evidence calls true hubs hubs more often than it does fakes with the same artefact.",
)

# %% [markdown]
# Where every world gives the same answer, the bootstrap interval has no width, as it can only draw from what was seen. The next
# section uses Wilson's interval for shares, which knows how few worlds there were.
#
# ## False alarms
#
# The rule *holds* asks for p below .01, so of a hundred worlds without a hub about one may be called one by chance. Count them,
# over worlds of pure noise and over all the fakes. This book allows itself one in twenty.

# %%
noise = chapter.find("noise", lambda: fooled.noise_trials(12 * n_items, seed + 1))
strict = {"all fakes": fakes.rows(reading="careful"), "pure noise": noise.rows(reading="careful")}
alarms = chapter.find("alarms", lambda: fooled.false_alarms(strict))

# %% tags=["hide-input"]
alarms.bars(
    "alarms",
    "How often is nothing called a hub?",
    alt="Share of worlds without a hub that were judged to hold: fakes, pure noise, and both together.",
    y="share judged to hold",
)

# %% tags=["hide-input"]
together = alarms.rows(series="together").iloc[0]
weakly = noise.rows(reading="careful, weakly").iloc[0]
glue("alarms", together.value, ".1%")
glue("alarms_low", together.low, ".1%")
glue("alarms_high", together.high, ".1%")
glue("alarms_n", together.n)
glue("weakly", weakly.value, ".1%")
glue("weakly_low", weakly.low, ".1%")
glue("weakly_high", weakly.high, ".1%")

# %% [markdown]
# Of {glue}`alarms_n` worlds without a hub, {glue}`alarms` were called one (95% interval {glue}`alarms_low` to {glue}`alarms_high`).
# Counting *holds weakly* too, it is {glue}`weakly` of pure noise ({glue}`weakly_low` to {glue}`weakly_high`). *Weakly* asks for p
# below .05, and by design one world in twenty gets that far by chance. Read it as a hint.
#
# ## Power
#
# A judge who never says yes raises no false alarm either. So plant a true hub, and let it grow from nothing. The strength is the
# length of the planted vector in units of the noise; at a strength $s$ the matching pairs have a cosine of $s^2 / (1 + s^2)$.

# %%
strengths = [0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6]
power = chapter.find("power", lambda: fooled.power_trials(n_items, strengths, [PAIRS, 30], seed + 2))

# %% tags=["hide-input"]
power.dose(
    "power",
    "How strong must a hub be to be found?",
    alt="Share of worlds whose planted hub was judged to hold by its strength, for 120 and for 30 pairs.",
    y="share judged to hold",
    x_title="length of the planted vector (noise = 1)",
    types={"120 pairs": "english", "30 pairs": "spanish"},
)

# %% tags=["hide-input"]
found = power.table[power.table.value >= 0.8].groupby("series").strength.min()
many, few = (found.get(f"{n} pairs", float("nan")) for n in (PAIRS, 30))
glue("needs_many", many, ".2g")
glue("cosine_many", many**2 / (1 + many**2), ".2f")
glue("needs_few", few, ".2g")
glue("cosine_few", few**2 / (1 + few**2), ".2f")

# %% [markdown]
# With {glue}`pairs` pairs, four worlds in five are found from a strength of {glue}`needs_many` on, where the cosine is
# {glue}`cosine_many`. With 30 pairs it takes {glue}`needs_few`, a cosine of {glue}`cosine_few`. So *does not hold*, on few items, may
# mean *too weak to see*.
#
# ## Live: models that know nothing
#
# Made-up states are tidy. Real architectures are not: even with random weights, a decoder mixes what tokens share by spelling
# and by position, and the usual scores of sparse autoencoders are often about as good on random transformers as on trained
# ones {cite:p}`heap2025random`. Take the architecture of this chapter's model, draw its weights anew {glue}`worlds` times,
# and run the similarity experiment on Spanish facts and their English twins, as in [the instruments chapter](02_instruments).
# None of these models knows a word of any language.

# %%
given = {"seed": seed, "data_dir": chapter.data, "ending": "no full stop", "held_out": False}
twins = natural.pairs(4 * n_items, **given)["spanish"]
blank = chapter.find(
    "random-weights",
    lambda: fooled.random_weight_trials(chapter.model, twins, models=n_items, seed=seed),
).table

# %% tags=["hide-input"]
listing(blank.verdict.value_counts().rename_axis("verdict").reset_index(name="models"))

# %% tags=["hide-input"]
alike = calibration.shares(blank.assign(series="random weights"), ["series"]).iloc[0]
glue("blank", round(alike.value * alike.n))
glue("blank_high", alike.high, ".0%")
glue("blank_value", blank.value.mean(), ".2f")
glue("blank_above", int((blank.low > 0).sum()))

# %% [markdown]
# Twins of one sentence form share length and spelling. So a twin is compared with prompts of its form, and partners are
# shuffled among them. How often it is the nearest is {glue}`blank_value` above chance, on average, at the layer their verdict
# rests on; for {glue}`blank_above` of {glue}`worlds` models the interval of that lies above zero, and {glue}`blank` of
# {glue}`worlds` are judged to hold (the upper end of the 95% interval of that share is {glue}`blank_high`).
#
# ## Each instrument, planted effects and none
#
# Similarity is one experiment of several. *Does not hold* means little from an instrument that was never seen to say yes. So
# `semhub calibrate` plants an effect for each of the paper's 21 experiments, and its tables ship with this book.
#
# *What is read* gets a written state. Take islands, a model whose types share no fact. Once its state at layer {glue}`planted_at` of
# 8 has been read, add the unembedding row of the right English word, as long as the state itself, and half as much of the
# prompt's own word where the claim sets one against the other; for similarity, one random vector for both sides of a pair.
# Nothing after that layer is changed, so a claim that finds it finds it *there*. *What a model says* cannot be written. For
# that there are organisms that were taught it, `taught` and its eyes and ears: under "good" minus "bad" they become pleasant,
# under "start" minus "end" they write `range(0, n)`. Their dose is how far the hub's weights have moved to theirs. And for
# [what is used](13_used), two small models have weights set by hand: in one the answer goes through what two types share, in the
# other a concept comes before its language.
#
# An effect is *found* if the claim holds, and at the layer where it was planted. Each was planted {glue}`planted_n` times, with other
# items and other directions.
#
# The other way round, every instrument looks at models of which it was written down before what it **must not** find:
# {glue}`random_models` models of random weights; {glue}`islands_models` islands; a model that was raised on English alone; the hub
# after its Spanish words have changed places; and the two set by hand, the other way. Not all that holds there is a false alarm.
# English is most of what islands read, so that their layers lean to English is true. Such cells are *open*, and the table of them
# was written before any of the others.

# %% tags=["hide-input"]
calibrated = chapter.find("instruments", trials.rates)
listing(trials.counted(calibrated.table))

# %% tags=["hide-input"]
calibrated.bars(
    "instruments",
    "Which instrument finds what is there, and which what is not?",
    alt="Share of planted effects found and share of false alarms, by instrument, with a switch between the two.",
    y="share",
)

# %% tags=["hide-input"]
asked = trials.judged_alarms().query("expected == @calibration.MUST_NOT")
wolf = calibration.shares(asked.assign(all="all"), ["all"]).iloc[0]
paper = calibrated.rows(reading=trials.FOUND)
paper = paper[paper.series.map(instruments.ROWS) != "own"]
good = paper.value >= calibration.ENOUGH
glue("planted_at", instruments.PLANTED)
glue("planted_n", calibration.PLANTED_AT_LEAST)
glue("random_models", asked[asked.model == trials.RANDOM].seed.nunique())
glue("islands_models", asked[asked.model == "islands"].seed.nunique())

# %% tags=["hide-input"]
glue("real_n", int(wolf["n"]))
glue("real", wolf["value"], ".1%")
glue("real_low", wolf["low"], ".1%")
glue("real_high", wolf["high"], ".1%")
glue("good", int(good.sum()))
glue("bad", ", ".join(paper[~good].series) or "none")
glue("enough", calibration.ENOUGH, ".0%")

# %% [markdown]
# Of the 21, {glue}`good` find at least {glue}`enough` of what was planted. The others: {glue}`bad`. Whatever they say about any model
# reads *cannot be tested here*, until they are mended: every claim in this book asks this table first, and says how many planted
# effects its instrument found.
#
# Of {glue}`real_n` claims that must not hold and could be tested, {glue}`real` are judged to hold (95% interval {glue}`real_low` to {glue}`real_high`; claims
# on one model are not independent, so take the interval as a guide). This book allows itself one in twenty.
#
# Claims are judged by the rules, with two helps taken away: no precondition asks whether the model knows the task, and no random
# weights stand beside it as a control.
#
# How strong does an effect have to be? Plant less of it, and more. A dose of 1 is as long as the state itself, or taught to the end:

# %%
doses = chapter.find("ladder", trials.ladder)

# %% tags=["hide-input"]
doses.heatmap(
    "ladder",
    "How much has to be planted?",
    alt="Share of planted effects that are found, by instrument and dose.",
    x="dose",
    y="instrument",
    value="share found",
    called={"strength": "dose", "series": "instrument"},
)

# %% [markdown]
# A model in which one experiment finds a hub and another does not need not contradict itself: they do not see equally well.
#
# ## Five readings, one question
#
# The lens can be read in five ways, which the page on conventions has. Does each of them see meaning across types where there is some, and
# only there? The same claim, that the right English word is above wrong ones at some middle layer, goes through all five: on
# islands of {glue}`n_islands` seeds and on the hub with its words exchanged, where it must not hold; and on the planted, the plain and
# the balanced hub. Then English is *written* into the exchanged hub: at one middle layer the state of the prompt's English twin is
# added, so much of it as the dose says. Before the run one thing was asked: where nothing is shared, no reading finds it in more than
# {glue}`most_alarms` of the cases. How often it is found in the hubs is shown and was not asked, as a state that holds no more than its
# own token is no hub, and its row is a control.

# %%
five = chapter.find("readings", readings.rates)

# %% tags=["hide-input"]
five.bars(
    "calibrated-readings",
    "Which reading can be believed?",
    alt="Share of lens claims judged to hold, by reading, with a switch for the kind of model.",
    y="share of claims judged to hold",
)

# %% tags=["hide-input"]
measured = readings.read()
glue("n_islands", measured[measured.model == readings.ISLANDS].seed.nunique())
glue("most_alarms", readings.MOST_ALARMS, ".0%")
listing(readings.summary(measured), **dict.fromkeys(readings.SHARES, "{:.0%}"))

# %% [markdown]
# *False alarms* are the claims that hold where they must not, with the upper end of their 95% interval. *Found* are those that
# hold on the three hubs, and *clear of its null* those whose numbers are above what shuffled words reach, whatever the controls say.
# *Written, found* is power: the share in which the English that was written is found, and at that layer. A reading that finds
# nothing in the hubs and finds what was written is not blind: there, a control explains what it sees. *raw* is set against a last
# layer that stands on another scale, so what it misses it may have seen.
#
# ## What you learned
#
# The question was whether the book would find a hub where there is none.

# %% tags=["hide-input"]
chapter.finish(
    {
        "raw": "to raw cosine, fake hubs look more like a hub than a true one",
        "told-apart": "the book's evidence tells true hubs from fakes",
    }
)

# %% [markdown]
# - A high raw cosine is no evidence. Many things other than meaning make one.
# - Comparing with non-matches removes what *all* items share; comparing and shuffling within groups removes what *some*
#   share. Moving concepts together removes what only looks like many items.
# - Every word that a text holds may be alike by chance, so each has a null of its own, and the hardest counts.
# - A verdict needs both numbers beside it: how often it is wrong on nothing, and how strong a thing it can miss.
#
# **What this chapter does not show.** The fakes are made of noise and directions, with groups that the judge is told of. A reader
# who does not know that the items share something cannot shuffle within it. Look at your items before you look at your layers.
#
# **Try it.** Add your own artefact to the cell under *Build one by hand*, and try to make the verdict hold. Then find the
# grouping that undoes it.

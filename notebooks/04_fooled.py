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
# You build fake hubs, alike for reasons other than meaning, and count how often the evidence is fooled, and how strong a true hub has to
# be.
#
# :::{admonition} The paper's claim
# :class: paper-claim
# Texts of equal meaning have more similar states than texts of different meaning (Eq. 1), compared with all other pairs, in sentences
# that do not end in a full stop {cite:p}`wu2025semantic`. Most of its figures have no null and no interval.
# :::
#
# You should know what an [adjusted cosine, a null and a verdict](02_instruments) are. Time to read: 12 minutes.
#
# **After this chapter you can**
#
# - build a fake hub, and say which comparison undoes it;
# - say how often an instrument cries wolf, and how much it misses;
# - read *does not hold* as "too small to matter" and *inconclusive* as "not seen", and ask what would have been seen.

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
n_items = None  # made-up worlds of each kind, and models of random weights: 24
seed = 0
data_dir = None  # a folder with NTREX-128 (ntrex), in place of the sample that ships
results_dir = "results"

# %% tags=["hide-cell"]
from semhub_utils import calibration
from semhub_utils.chapter import begin, diagram, glue, listing
from semhub_utils.experiments import core, fooled, instruments, readings, trials
from semhub_utils.experiments.fooled import ARTEFACTS, NOISE, PAIRS, TRUE_LAYERS
from semhub_utils.spokes import natural
from semhub_utils.spokes.items import each_or_none
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
# A *world* is two sides of {glue}`pairs` pairs at seven layers. All of it is noise: no pair shares anything. Now let every text end in
# one full stop: add one direction to every state of both sides, above the embeddings.

# %%
a, b = NOISE.states(seed)
stop = 3 * a[0, 0] * fooled.INSIDE  # any direction will do
fake_a, fake_b = a + stop, b + stop
raw = fooled.raw_cosine(fake_a, fake_b).mean(0)
listing([[f"{value:.2f}" for value in raw.tolist()]], [f"layer {k}" for k in range(len(raw))])

# %% [markdown]
# Is it a hub? Compare each match with its non-matches, shuffle the partners, and ask for a {term}`verdict`:

# %%
listing([[judge(fooled.examine(fake_a, fake_b)).verdict]], ["verdict"])

# %%
meaning = 1.5 * NOISE.states(seed + 1)[0][:, :1]  # one vector per pair, the same on both sides
fake_a[:, TRUE_LAYERS] += meaning
fake_b[:, TRUE_LAYERS] += meaning
verdict = judge(fooled.examine(fake_a, fake_b))
listing([(verdict.verdict, verdict.layer)], ["verdict", "layer"])

# %% [markdown]
# The same rules find the true hub that you planted under the full stop, and its layer.
#
# ## Seven ways to build a fake
#
# Each is what real texts or models do: noise on each side and, on both, what the second column says.

# %% tags=["hide-input"]
listing(
    [(kind.name, kind.spoil.__doc__, kind.known) for kind in ARTEFACTS],
    ["artefact", "what the sides share", "what a careful reader knows of the items"],
)

# %% [markdown]
# Choose one. The curves: raw cosine in the fake; how often a match is the nearest of those it may be compared with, above chance; the
# same for a true hub, planted at two layers *under the same artefact*.

# %% tags=["hide-input"]
curves = chapter.find("curves", lambda: fooled.curves(seed))
curves.curves(
    "artefact-curves",
    "Is it a hub, or does it only look like one?",
    alt="By layer and artefact: raw cosine of a fake hub, and how often matches are nearest in the fake and in a true hub.",
    y="raw cosine, or share above chance",
    types={"fake, raw cosine": "digits", "fake, evidence": "spanish", "true hub, evidence": "english"},
)

# %% [markdown]
# What *all* items share helps no match to be the nearest. What *some* share: a match is compared, and partners are shuffled, among these
# alone. Dotted is the {term}`null`.
#
# ## How often is each reader fooled?
#
# Three readers judge {glue}`worlds` worlds of each kind. The first looks at raw cosine. The *careless* one shuffles partners any with
# any, counts every item as independent, and has no {term}`control`. The *careful* one compares and shuffles within groups, moves the
# items of one concept together, and asks that the middle stand above embeddings, first and last layers.
#
# :::{predict} How often will the careless reader, who does have a null, call a fake a hub?
# - About as often as the level of the test promises
# - Never: there is a null
# - Often, for some fakes
# +++
# Of each fake whose pairs share something by group, the careless reader calls at least {glue}`careless_group` of the worlds a hub; of
# few concepts counted as many items, {glue}`careless_few`. The level promises one in a hundred.
# :::

# %% tags=["hide-input"]
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
most, least = shares.iloc[:, 2].max(), shares.iloc[:, 3].min()
glue("careful_most", f"in more than {most:.0%} of its worlds" if most else "in any of its worlds")
glue("truth_least", f"in at least {least:.0%} of them" if least < 1 else "in all")

# %% [markdown]
# Even the least convincing fake has a raw cosine of {glue}`raw_least`. No fake fools the careful reader {glue}`careful_most`,
# and under each artefact that reader finds the true hub {glue}`truth_least`.
#
# :::{dropdown} What the first claim asks, and the same in whole models
# The first claim asks, world by world, about the *least* of the seven fakes beside a true hub half as long as the noise.
#
# Scores by which models seemed to become alike are inflated by their size; against a permutation null, likeness of the whole space largely
# goes and that of small neighbourhoods stays {cite:p}`groger2026aristotelian`.
# :::

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
# ## False alarms
#
# *Holds* asks for {term}`p <p value>` below .01, so of a hundred worlds without a hub about one may be called one. Count them. This book allows
# itself one in twenty.

# %% tags=["hide-input"]
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
# Of {glue}`alarms_n` worlds without a hub, {glue}`alarms` were called one ({glue}`alarms_low` to {glue}`alarms_high`). Counting *holds weakly*,
# it is {glue}`weakly` of pure noise ({glue}`weakly_low` to {glue}`weakly_high`): read that word as a hint.
#
# ## Power
#
# A judge who never says yes raises no false alarm. So plant a true hub and let it grow: its strength is the planted vector's length in
# units of the noise; at strength $s$ the pairs have a cosine of $s^2 / (1 + s^2)$.

# %% tags=["hide-input"]
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
# Four worlds in five are found from a cosine of {glue}`cosine_many` on with {glue}`pairs` pairs (strength {glue}`needs_many`), of {glue}`cosine_few`
# with 30 ({glue}`needs_few`). So *inconclusive*, on few items, may mean *too weak to see*.
#
# ## Live: models that know nothing
#
# Even with random weights an architecture mixes what tokens share {cite:p}`heap2025random`. So draw this model's weights anew {glue}`worlds` times, and run the
# similarity of texts in {glue}`blank_of` and their English twins on each.

# %% tags=["hide-input"]
given = {"seed": seed, "data_dir": chapter.data, "ending": "no full stop", "held_out": False}
[every] = each_or_none(lambda: natural.pairs(4 * n_items, **given), least=0)
enough = {name: some for name, some in dict(every).items() if len(some) >= core.LEAST}
language, twins = next(iter(enough.items()), ("no language", every))  # Spanish, where there is any
glue("blank_of", language.title() if enough else language)
blank = chapter.find(
    "random-weights",
    lambda: fooled.random_weight_trials(chapter.model, twins, models=n_items, seed=seed),
).table

# %% tags=["hide-input"]
listing(blank.verdict.value_counts().rename_axis("verdict").reset_index(name="models"))

# %% tags=["hide-input"]
held, high = (blank.verdict == "holds").sum(), calibration.shares(blank, []).high[0]
told = f"The twin is the nearest {blank.value.mean():.2f} above chance on average; for {(blank.low > 0).sum()} of {n_items} "
told += f"models the interval lies above zero, and {held} are judged to hold (upper end of that share: {high:.0%})."
glue("blank", told if len(twins) else f"This was not asked. {every.left_out}")

# %% [markdown]
# {glue}`blank`
#
# ## Each instrument, planted effects and none
#
# *Does not hold* means little from an instrument that never said yes. So an effect is planted for each of the paper's 21 experiments,
# {glue}`planted_n` times, and is *found* if the claim holds there. And each looks at models of which it was written down before what it
# **must not** find.
#
# :::{dropdown} What is planted, and where nothing must be found
# *What is read* gets a written state: in islands, whose types share no fact, the row of the right English word is added at layer
# {glue}`planted_at` of 8, as long as the state itself, and half as much of the prompt's own word where the claim sets one against the
# other; for similarity, one random vector for both sides of a pair. *What a model says* is taught: `taught`, with its eyes and ears, becomes
# pleasant under "good" minus "bad" and writes `range(0, n)` under "start" minus "end"; its dose is how far the hub's weights have moved to
# its own. For [what is used](13_used), two small models have weights set by hand.
#
# Nothing must be found in {glue}`random_models` models of random weights, {glue}`islands_models` islands, a model of English alone, the hub
# with its Spanish words exchanged, and the two set by hand, the other way. What may be true there, such as that layers of islands
# lean to English, is *open*; that table was written before any of the others.
# :::

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "Show the table", "code_prompt_hide": "Hide the table"}
calibrated = chapter.find("instruments", trials.rates)
listing(trials.counted(calibrated.table))

# %% tags=["hide-input"]
calibrated.bars(
    "instruments",
    "Which instrument finds what is there, and which what is not?",
    alt="Share of planted effects found and share of false alarms, by instrument, with a switch between the two.",
    y="share judged to hold",
    called={"reading": "shown"},
)

# %% tags=["hide-input"]
asked = trials.judged_alarms().query("expected == @calibration.MUST_NOT")
wolf = calibration.shares(asked, []).iloc[0]
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
# Of the paper's 21, {glue}`good` find at least {glue}`enough` of what was planted. The others ({glue}`bad`) read *cannot be tested here* on any
# model. Of {glue}`real_n` claims that must not hold, {glue}`real` are judged to hold ({glue}`real_low` to {glue}`real_high`, as a guide:
# claims on one model are not independent).
#
# How strong does an effect have to be? A dose of 1 is as long as the state itself, or all of the training:

# %% tags=["hide-input"]
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
# Two experiments on one model may differ without contradiction: they do not see equally well.
#
# ## Five readings, one question
#
# The claim that the right English word is above wrong ones goes through all five {term}`readings <reading>`: on islands of {glue}`n_islands` seeds and the hub with its words exchanged, where it must
# not hold, and on three hubs. Set before the run: where nothing is shared, no reading may find it in more than {glue}`most_alarms`.
#
# :::{predict} Which reading will find a hub where there is none?
# - *raw*, the released one
# - *neighbours*, as it needs no unembedding
# - None of the five
# +++
# The column *false alarms* of the table below counts them, reading by reading.
# :::

# %% tags=["hide-input"]
five = chapter.find("readings", readings.rates)

# %% tags=["hide-input"]
five.bars(
    "calibrated-readings",
    "Which reading can be believed?",
    alt="Share of lens claims judged to hold, by reading, with a switch for the kind of model.",
    y="share of claims judged to hold",
    called={"reading": "model"},
)

# %% tags=["hide-input"]
measured = readings.read()
glue("n_islands", measured[measured.model == readings.ISLANDS].seed.nunique())
glue("most_alarms", readings.MOST_ALARMS, ".0%")

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "Show the table", "code_prompt_hide": "Hide the table"}
listing(readings.summary(measured), **dict.fromkeys(readings.SHARES, "{:.0%}"))

# %% [markdown]
# :::{dropdown} The columns
# English is also *written* into the exchanged hub. *False alarms* hold where they must not, with the upper end of the interval; what
# was demanded is of the share. *Found* hold on the three hubs; *clear of its null* are above shuffled words, whatever the controls say. *Written, found* is power. A reading that finds nothing in the hubs and finds what was
# written is not blind: a control explains what it sees. *raw* is set against a last layer on another scale, so what it misses it may have seen.
# :::
#
# ## What you learned
#
# The question was whether the book would find a hub where there is none.

# %% tags=["hide-input"]
chapter.finish(
    {
        "told-apart": "this book calls true hubs hubs, more often than fakes of them",
        "raw": "to raw cosine alone, fake hubs look more like a hub than a true one",
    }
)

# %% [markdown]
# - A high raw cosine is no evidence. Many things other than meaning make one.
# - Non-matches remove what *all* items share; comparing and shuffling within groups what *some* share.
# - A verdict needs two numbers beside it: how often it is wrong on nothing, and how strong a thing it can miss.
#
# *What would change our mind:* a fake that fools the careful reader more often than one time in twenty. The fakes here have groups that the
# judge is told of: look at your items before you look at your layers.
#
# **Try it.** Do the [exercises](../book/exercises/04_fooled), or add an artefact under *Build one by hand*, make the verdict hold, and find
# the grouping that undoes it.

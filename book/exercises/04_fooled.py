# %% [markdown]
# # Exercises: Can these instruments be fooled?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/semantic-hub-book/semantic-hub-book/blob/main/book/exercises/04_fooled.ipynb)
#
# Three exercises to [the chapter](../../notebooks/04_fooled), from easy (●) to hard (●●●). Each runs in less than a
# minute on the models that ship with the book. Write in cells of your own; the solutions are folded, and check
# themselves.

# %% tags=["remove-cell"]
import sys

if "google.colab" in sys.modules:
    source = "semhub-utils @ git+https://github.com/semantic-hub-book/semantic-hub-book"
    get_ipython().run_line_magic("pip", f"install -q '{source}'")

# %%
from semhub_utils.experiments import fooled
from semhub_utils.experiments.fooled import ARTEFACTS, KINDS, NOISE, TRUE_LAYERS
from semhub_utils.verdicts import HOLDS, judge

by_name = {kind.name: kind for kind in ARTEFACTS}

# %% [markdown]
# ## ● Which fake looks best?
#
# Seven fakes, one true hub of half the noise's length (`NOISE.states(0, strength=0.5)`). Order them by the mean of
# `fooled.raw_cosine(a, b)` at the layer `TRUE_LAYERS[0]`. Where in the order does the true hub come? Guess first.

# %% tags=["hide-cell", "solution"] cellView="form" mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
# @title Solution
# Last, or nearly so: to raw cosine a modest truth looks less like a hub than any of the fakes.
worlds = {kind.name: kind.states(0) for kind in ARTEFACTS} | {"true hub": NOISE.states(0, strength=0.5)}
raw = {name: fooled.raw_cosine(a, b)[:, TRUE_LAYERS[0]].mean().item() for name, (a, b) in worlds.items()}
order = sorted(raw, key=raw.__getitem__, reverse=True)
print({name: round(raw[name], 2) for name in order})
assert order.index("true hub") >= len(ARTEFACTS) // 2
assert judge(fooled.examine(*worlds["true hub"])).verdict == HOLDS

# %% [markdown]
# ## ●● Plant a hub elsewhere and find it
#
# Take `a, b = NOISE.states(1)` and add one vector per pair, the same on both sides and 1.5 times as long as noise, at
# *one* layer of your choice (`NOISE.states(2)[0][:, 0]` will do as vectors). Does `judge(fooled.examine(a, b))` name
# your layer? Try all seven, from embeddings to last. At which is it not found, and why is that right?

# %% tags=["hide-cell", "solution"] cellView="form" mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
# @title Solution
# A claim about the middle layers has to be above the first ones and the last: what lies there alone is no hub in the
# middle.
verdicts = {}
for layer in range(7):
    a, b = NOISE.states(1)
    for side in (a, b):
        side[:, layer] += 1.5 * NOISE.states(2)[0][:, 0]
    verdicts[layer] = judge(fooled.examine(a, b))
print({layer: (found.verdict, found.layer) for layer, found in verdicts.items()})
middle = [layer for layer, found in verdicts.items() if found.verdict == HOLDS]
assert middle and {0, 6}.isdisjoint(middle)
assert all(verdicts[layer].layer == layer for layer in middle)

# %% [markdown]
# ## ●●● Break the control on purpose
#
# In the fake `by_name["equal length"]` both sides share a direction per length, and `KINDS` has the length of each
# pair. Judge twenty worlds of it (`.states(seed)`), once by the careless reader, `fooled.look(fake, seed,
# careless=True)`, and once with `fooled.examine(a, b, groups=KINDS)`. How many false alarms does either raise? Then
# write a fake of your own that beats `groups=KINDS`, and say which grouping undoes it.

# %% tags=["hide-cell", "solution"] cellView="form" mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
# @title Solution
# Without groups the partners that a pair is compared with differ in length, which is all that there is. A direction
# for each of other classes, unknown to the judge, does the same within lengths; grouping by both undoes it.
import numpy as np
import torch

fake = by_name["equal length"]


def alarms(worlds, **known):
    return sum(judge(fooled.examine(*world, **known)).verdict == HOLDS for world in worlds)


topics = np.arange(len(KINDS)) // 4 % 5


def mine(seed):
    a, b = NOISE.states(seed)
    shared = torch.randn(5, a.shape[-1], generator=torch.Generator().manual_seed(seed))[topics]
    for side in (a, b):
        side[:, 2:5] += 2 * shared[:, None]
    return a, b


careful = alarms([fake.states(s) for s in range(20)], groups=KINDS)
beaten = alarms([mine(s) for s in range(20)], groups=KINDS)
undone = alarms([mine(s) for s in range(20)], groups=KINDS + 4 * topics)
careless = sum(judge(fooled.look(fake, s, careless=True)).verdict == HOLDS for s in range(20))
print(f"careless: {careless}; careful: {careful}; my fake: {beaten}; grouped by topic too: {undone}")
assert careless > 10 and careful <= 2
assert beaten > 10 and undone <= 2

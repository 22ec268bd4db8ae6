# %% [markdown]
# # Exercises: Raising a hub
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/semantic-hub-book/semantic-hub-book/blob/main/book/exercises/05_raising.ipynb)
#
# Three exercises to [the chapter](../../notebooks/05_raising), from easy (●) to hard (●●●). Each runs in less than a
# minute on the models that ship with the book. Write in cells of your own; the solutions are folded, and check
# themselves.

# %% tags=["remove-cell"]
import sys

if "google.colab" in sys.modules:
    source = "semhub-utils @ git+https://github.com/semantic-hub-book/semantic-hub-book"
    get_ipython().run_line_magic("pip", f"install -q '{source}'")

# %%
import numpy as np

from semhub_utils import calibration
from semhub_utils.experiments import raising

# %% [markdown]
# ## ● Read a public table
#
# `calibration.table("truth")` ships with the book: one row per model, seed, measure (`row`) and data type, with
# `value`, its interval and `chance`, what the commonest answers would get. Which of `hub`, `planted`, `balanced` and
# `islands` answer facts *held out*? Guess, then look at the least `low` minus `chance` of each model's Spanish.

# %% tags=["hide-cell", "solution"] cellView="form" mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
# @title Solution
# Those that read lines which join their types. Islands have nothing to take the answer from.
truth = calibration.table("truth").query("row == 'held out' and type == 'spanish'")
above = (truth.low - truth.chance).groupby(truth.model).min()
print(above.round(2))
assert above["hub"] > 0 > above["islands"]

# %% [markdown]
# ## ●● One thing changed at a time
#
# `raising.controls_summary()` has a row per small training (`series`) and measure (`reading`). Order the trainings by
# *held out*. Which single change costs the hub most? And *absent from English too*, where nothing is left to share:
# is it above what the commonest answers would get (`chance`)?

# %% tags=["hide-cell", "solution"] cellView="form" mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
# @title Solution
# Lines that join the types: without them it does no better than islands. And something to share: with the facts taken
# out of English as well, the commonest answers do as well.
held = raising.controls_summary().query("reading == 'held out'").set_index("series").sort_values("value")
print(held[["value", "low", "high", "chance"]].round(2))
assert held.high[["islands", "no bridging"]].max() < held.value["as it is"]
assert held.low["as it is"] > held.chance["as it is"] > held.low["absent from English too"]


# %% [markdown]
# ## ●●● From which checkpoint on?
#
# "Mastered" counts from the checkpoint after which it stays true. Write that: `onset(seen, steps)` takes a table of
# booleans, checkpoint by item, and gives for each item the step from which on all are true, or `nan`. Check it
# against `raising.onset` on random tables. Then compare it with "the first checkpoint at which it is true", on curves
# of noise: how early does a coin become *mastered* by the loose rule?


# %% tags=["hide-cell", "solution"] cellView="form" mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
# @title Solution
# Walk back from the end: an item counts as long as everything after it is true. A coin is right once, early, by
# chance.
def onset(seen, steps):
    stays = np.logical_and.accumulate(seen[::-1])[::-1]
    return np.where(stays.any(0), np.asarray(steps, float)[stays.argmax(0)], np.nan)


rng, steps = np.random.default_rng(0), np.arange(1, 21)
for share in (0.3, 0.6, 0.9):
    seen = rng.random((len(steps), 500)) < share
    np.testing.assert_array_equal(onset(seen, steps), raising.onset(seen, steps))
coin = rng.random((len(steps), 500)) < 0.5
loose, strict = steps[coin.argmax(0)], onset(coin, steps)
print(
    f"a coin is right for the first time at step {loose.mean():.1f} of {len(steps)}, and for good at {np.nanmean(strict):.1f}"
)
assert loose.mean() < np.nanmean(strict) / 3

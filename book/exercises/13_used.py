# %% [markdown]
# # Exercises: Is it used?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/semantic-hub-book/semantic-hub-book/blob/main/book/exercises/13_used.ipynb)
#
# Three exercises to [the chapter](../../notebooks/13_used), from easy (●) to hard (●●●). Each runs in less than a
# minute on the models that ship with the book. Write in cells of your own; the solutions are folded, and check
# themselves.

# %% tags=["remove-cell"]
import sys

if "google.colab" in sys.modules:
    source = "semhub-utils @ git+https://github.com/semantic-hub-book/semantic-hub-book"
    get_ipython().run_line_magic("pip", f"install -q '{source}'")

# %%
import torch

from semhub_utils import calibration
from semhub_utils.lens import lens
from semhub_utils.loading import load_model
from semhub_utils.spokes import facts, translation
from semhub_utils.states import hidden_states
from semhub_utils.steering import erased, next_token_logprobs, patched_states

model = load_model("organism:hub", device="cpu")
ids = model.tokenizer.convert_tokens_to_ids

# %% [markdown]
# ## ● Recompute a verdict's condition
#
# An instrument that finds less than `calibration.ENOUGH` of the effects planted for it gives no verdict.
# `calibration.table("power")` has one row for each planted effect: `row` (of the paper, or `own`), `instrument`,
# `dose` and whether it was `found`. Which instruments fail at the dose `calibration.STATED`? Guess: is it those that
# read, or those that write?

# %% tags=["hide-cell", "solution"] cellView="form" mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
# @title Solution
# The rule is a share and a bound. Whatever these instruments say about a model reads "cannot be tested here".
power = calibration.table("power").query("dose == @calibration.STATED")
found = power.groupby(["row", "instrument", "chapter", "experiment"]).found.agg(["sum", "count", "mean"]).reset_index()
print(found[found["mean"] < calibration.ENOUGH].to_string(index=False))
for at in found[found.row != "own"].itertuples():
    theirs = calibration.found_of_planted(at.experiment, row=int(at.row), chapter=at.chapter)
    mine = power[(power.experiment == at.experiment) & (power.row == at.row)].found
    assert theirs == {"k": int(mine.sum()), "m": len(mine)}

# %% [markdown]
# ## ●● A concept in another language's run
#
# `translation.concept_items(80, world=True)` has runs like `libro deutsch:` with `source.text` (concept *i* from A to
# B) and `run.text` (concept *j* from C to D); the four answers are words of `item.concept` (*i*) and `item.own` (*j*)
# in the languages `item.languages` (A, B, C, D). Write the last state of the source into the run at each layer with
# `patched_states`. At which layers does the run say *i* in D, the concept apart from its language?

# %% tags=["hide-cell", "solution"] cellView="form" mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
# @title Solution
# At the last layer the state is a finished word, i in B. What lies before it and says i in D was no word of the
# source's run.
asked = translation.concept_items(80, world=True)
layers = range(model.n_layers + 1)
last = patched_states(
    model, [i.run.text for i in asked], hidden_states(model, [i.source.text for i in asked]).hidden, layers
)
first = lens(model, last, top_k=1, layers=[model.n_layers] * len(layers)).top_ids[..., 0]
share = {}
for name, of, at in (
    ("j in D", "own", 3),
    ("j in B", "own", 1),
    ("i in D", "concept", 3),
    ("i in B", "concept", 1),
):
    wanted = torch.tensor([ids(getattr(item, of).words[item.languages[at]]) for item in asked])
    share[name] = (first == wanted[:, None]).float().mean(0)
    print(name, [f"{x:.0%}" for x in share[name].tolist()])
assert share["j in D"][0] > share["i in D"][0]
assert share["i in B"][-1] > share["i in D"][-1]

# %% [markdown]
# ## ●●● Take away what is shared
#
# Take Spanish facts and their English twins (`facts.twins(facts.prompts("spanish", 200, held_out=False))`). On the
# first half, find the 8 directions at each middle layer in which the states of the two vary together (the left
# singular vectors of their cross-covariance). On the second half, erase them while the model reads (`with
# erased(model, {layer: (v, v, mean)})`), and see how far the log-probability of the right answer falls. Then erase 8
# random directions. Which fall means something?

# %% tags=["hide-cell", "solution"] cellView="form" mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
# @title Solution
# Anything falls if enough is erased, so a fall counts against that of as many other directions.
twins = facts.twins(facts.prompts("spanish", 200, held_out=False))
half, middle = len(twins) // 2, [3, 4, 5]
a, b = (
    hidden_states(model, [getattr(t, of) for t in twins[:half]], layers=middle).hidden
    for of in ("prompt", "hub_prompt")
)


def space(make):
    return {layer: (v := make(k), v, a[:, k].mean(0)) for k, layer in enumerate(middle)}


def shared(k):
    cross = (a[:, k] - a[:, k].mean(0)).T @ (b[:, k] - b[:, k].mean(0))
    return torch.linalg.svd(cross)[0][:, :8]


prompts, answers = [t.prompt for t in twins[half:]], torch.tensor([[ids(t.answer)] for t in twins[half:]])


def right(spaces):
    with erased(model, spaces):
        return next_token_logprobs(model, prompts, answers).mean().item()


draw = torch.Generator().manual_seed(0)
random = [right(space(lambda k: torch.linalg.qr(torch.randn(a.shape[-1], 8, generator=draw))[0])) for _ in range(5)]
whole, without = next_token_logprobs(model, prompts, answers).mean().item(), right(space(shared))
print(
    f"as it is {whole:.2f}, without what is shared {without:.2f}, without random directions {min(random):.2f} and more"
)
assert whole - without > whole - min(random)

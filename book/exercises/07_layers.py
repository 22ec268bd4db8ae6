# %% [markdown]
# # Exercises: The language of the layers
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/semantic-hub-book/semantic-hub-book/blob/main/book/exercises/07_layers.ipynb)
#
# Three exercises to [the chapter](../../notebooks/07_layers), from easy (●) to hard (●●●). Each runs in less than a
# minute on the models that ship with the book. Write in cells of your own; the solutions are folded, and check
# themselves.

# %% tags=["remove-cell"]
import sys

if "google.colab" in sys.modules:
    source = "semhub-utils @ git+https://github.com/semantic-hub-book/semantic-hub-book"
    get_ipython().run_line_magic("pip", f"install -q '{source}'")

# %%
import torch

from semhub_utils.experiments import layers
from semhub_utils.lens import lens
from semhub_utils.loading import load_model
from semhub_utils.spokes import languages
from semhub_utils.states import hidden_states

model = load_model("organism:hub", device="cpu")
texts = languages.split_texts(20, 500, seed=0)
types = layers.count_tokens(model, texts)
english, chinese = types.names.index("english"), types.names.index("chinese")
lines = {some.name: some.read for some in texts}


def spoken(model, name, posterior):
    """How much of the lens is of each type, by layer, over all places of the lines of one type."""
    states = hidden_states(model, lines[name], positions="all").hidden
    return lens(model, states, classes=posterior).expected.mean(0)


# %% [markdown]
# ## ● Which tokens are shared?
#
# `types.shared` marks the tokens that more than one type has, `types.counts` how often each type has them. Which two
# of the types share most? Guess, then count. What follows for a claim about such a type?

# %% tags=["hide-cell", "solution"] cellView="form" mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
# @title Solution
# Types with the same signs cannot be told by single tokens, and a lens that names one names the other.
there = (types.counts > 0).double()
common = (there.T @ there).fill_diagonal_(0)
a, b = divmod(int(common.argmax()), len(types.names))
print(f"most in common: {types.names[a]} and {types.names[b]}, {int(common[a, b])} tokens")
assert common[a, b] > common[english, chinese]

# %% [markdown]
# ## ●● A little of every token
#
# `types.posterior(smoothing)` is P(type | token). On Chinese lines, compute `spoken(model, "chinese",
# types.posterior(s))` for s of 0, 0.1 and 10. What does smoothing do to the share of English, and why would 10 be a
# bad choice? Do the curves' order and shape depend on it?

# %% tags=["hide-cell", "solution"] cellView="form" mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
# @title Solution
# It pulls every token towards "could be any": with much of it all shares are alike, and nothing can be found or
# refuted.
found = {s: spoken(model, "chinese", types.posterior(s)) for s in (0.0, 0.1, 10.0)}
for s, of in found.items():
    print(s, "english", [f"{x:.2f}" for x in of[:, english].tolist()])
apart = {s: (of[:, chinese] - of[:, english]).abs().max().item() for s, of in found.items()}
print(apart)
assert apart[0.0] >= apart[0.1] > 1.5 * apart[10.0]
assert found[0.1][-1, chinese] > found[0.1][-1, english]

# %% [markdown]
# ## ●●● Is it the English of this line?
#
# Write the test that a lean to English cannot pass. For each Chinese line, take the tokens of its English twin
# (`some.twins` of the type `chinese` in `texts`) that the line itself does not have, and ask whether the lens, over
# the places of the line, gives more to them than to those of the next line's twin. Compare `hub` and `islands` at the
# middle layers.

# %% tags=["hide-cell", "solution"] cellView="form" mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
# @title Solution
# Both have English in their layers; only what shares meaning has the English of the line.
[some] = [of for of in texts if of.name == "chinese"]
special = set(model.tokenizer.all_special_ids)
twins = [set(model.tokenizer(twin)["input_ids"]) - special for twin in some.twins]


def ahead(model):
    found = []
    for k, line in enumerate(some.read):
        other = twins[(k + 1) % len(twins)]
        own, wrong = sorted(twins[k] - other), sorted(other - twins[k])
        both = torch.tensor(own + wrong)
        logprob = lens(model, hidden_states(model, [line], positions="all").hidden, targets=both).logprob.mean(0)
        found.append(logprob[:, : len(own)].mean(-1) - logprob[:, len(own) :].mean(-1))
    return torch.stack(found).mean(0)


hub, islands = ahead(model), ahead(load_model("organism:islands", device="cpu"))
print("hub", [f"{x:.2f}" for x in hub.tolist()], "islands", [f"{x:.2f}" for x in islands.tolist()], sep="\n")
assert hub[1:-1].max() > islands[1:-1].max()

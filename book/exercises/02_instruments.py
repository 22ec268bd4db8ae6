# %% [markdown]
# # Exercises: The instruments
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/semantic-hub-book/semantic-hub-book/blob/main/book/exercises/02_instruments.ipynb)
#
# Three exercises to [the chapter](../../notebooks/02_instruments), from easy (●) to hard (●●●). Each runs in less
# than a minute on the models that ship with the book. Write in cells of your own; the solutions are folded, and check
# themselves.

# %% tags=["remove-cell"]
import sys

if "google.colab" in sys.modules:
    source = "semhub-utils @ git+https://github.com/semantic-hub-book/semantic-hub-book"
    get_ipython().run_line_magic("pip", f"install -q '{source}'")

# %%
import torch

from semhub_utils.lens import lens
from semhub_utils.loading import load_model
from semhub_utils.models import randomised
from semhub_utils.similarity import adjusted_cosine, cosine_matrix
from semhub_utils.spokes import natural
from semhub_utils.states import hidden_states

model = load_model("organism:hub", device="cpu")
pairs = natural.pairs(60, seed=0, ending="no full stop")["spanish"]
a, b = (hidden_states(model, [getattr(p, side) for p in pairs]).hidden for side in "ab")

# %% [markdown]
# ## ● Where does the norm go?
#
# `lens(model, a, top_k=1, reading="normed").top_ids` and the same with `"raw"` give the likeliest token by prompt and
# layer. Predict: at which layer must the two agree on every prompt? At which will they agree least? Then look.

# %% tags=["hide-cell", "solution"] cellView="form" mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
# @title Solution
# At the last layer both are the model's own output. Below it, the norm's weights change which row of the unembedding
# wins.
normed, raw = (lens(model, a, top_k=1, reading=name).top_ids[..., 0] for name in ("normed", "raw"))
agree = (normed == raw).float().mean(0)
print([f"{share:.2f}" for share in agree.tolist()])
assert agree[-1] == 1
assert agree[:-1].min() < 1


# %% [markdown]
# ## ●● Whose cosine is it?
#
# Pair every Spanish prompt with the *wrong* English one (`b.roll(1, 0)`) and take the mean raw cosine at each layer.
# Then end all texts in a full stop, and do it again. Then ask a model of random weights (`randomised(model, 0)`).
# What does a high raw cosine prove?


# %% tags=["hide-cell", "solution"] cellView="form" mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
# @title Solution
# Nothing: these texts mean different things. The stop raises the cosine, and it needs no learning for that.
def unrelated(model, end):
    x, y = (hidden_states(model, [getattr(p, side) + end for p in pairs]).hidden for side in "ab")
    return torch.cosine_similarity(x, y.roll(1, 0), dim=-1).mean(0)


for name, one in {"hub": model, "random weights": randomised(model, 0)}.items():
    bare, stopped = unrelated(one, ""), unrelated(one, ".")
    print(name, [f"{x:.2f} → {y:.2f}" for x, y in zip(bare.tolist(), stopped.tolist(), strict=True)])
    assert (stopped[1:-1] > bare[1:-1]).float().mean() > 0.5

# %% [markdown]
# ## ●●● Write the adjusted cosine
#
# Write $s_i$ of the chapter from `cosine_matrix(a, b)` in three lines, check it against `adjusted_cosine(a, b).own`,
# and make its null: shuffle the partners a hundred times. Does the measured mean lie outside of what shuffling gives,
# and at which layers?

# %% tags=["hide-cell", "solution"] cellView="form" mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
# @title Solution
# The match minus the mean of its row and of its column, without itself. Shuffled partners have a mean near 0 by
# design.
cosine = cosine_matrix(a, b)
match, n = cosine.diagonal(dim1=1, dim2=2), len(pairs)
others = ((cosine.sum(1) - match) + (cosine.sum(2) - match)) / (2 * (n - 1))
own = (match - others).T
assert torch.allclose(own.double(), torch.tensor(adjusted_cosine(a, b).own).double(), atol=1e-5)

torch.manual_seed(0)
null = torch.stack([torch.tensor(adjusted_cosine(a, b[torch.randperm(n)]).own).mean(0) for _ in range(100)])
outside = own.mean(0) > null.quantile(0.95, dim=0)
print("above 95 of 100 shuffles at layers", outside.nonzero().flatten().tolist())
assert null.mean(0).abs().max() < own.mean(0).max() / 5
assert outside[1:-1].any()

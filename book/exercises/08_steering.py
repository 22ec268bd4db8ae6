# %% [markdown]
# # Exercises: Steering across languages
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/semantic-hub-book/semantic-hub-book/blob/main/book/exercises/08_steering.ipynb)
#
# Three exercises to [the chapter](../../notebooks/08_steering), from easy (●) to hard (●●●). Each runs in less than a
# minute on the models that ship with the book. Write in cells of your own; the solutions are folded, and check
# themselves.

# %% tags=["remove-cell"]
import sys

if "google.colab" in sys.modules:
    source = "semhub-utils @ git+https://github.com/semantic-hub-book/semantic-hub-book"
    get_ipython().run_line_magic("pip", f"install -q '{source}'")

# %%
import torch

from semhub_utils.loading import load_model
from semhub_utils.spokes import sentiment
from semhub_utils.states import hidden_states
from semhub_utils.steering import Edit, next_token_logprobs

hub, taught = (load_model(f"organism:{name}", device="cpu") for name in ("hub", "taught"))
tasks = {name: sentiment.task(name, 16, seed=0, tagged=True) for name in ("english", "spanish")}
LAYER, TAG = (
    4,
    1,
)  # where the vectors of `taught` work: at the word that names the language, behind the start of the text


def pair(model, language, layer=LAYER):
    """The state of the pleasant word minus that of the unpleasant one."""
    good, bad = hidden_states(model, tasks[language].vectors[language], layers=[layer]).hidden[:, 0]
    return good - bad


def mood(model, language, push, strength=3.0):
    """By prompt: how much likelier pleasant next words are than unpleasant ones, in nats, under a push."""
    task = tasks[language]
    ids = torch.tensor(model.tokenizer.convert_tokens_to_ids([*task.pleasant, *task.unpleasant]))
    edit = Edit((LAYER,), push, positions=TAG, strength=strength)
    said = next_token_logprobs(model, [p.prompt for p in task.prompts], ids, edit=edit)[:, 0]
    n = len(task.pleasant)
    return said[:, :n].logsumexp(-1) - said[:, n:].logsumexp(-1)


def shift(model, language, push):
    """Half the difference between a push with the vector and against it, mean over prompts."""
    return ((mood(model, language, push) - mood(model, language, -push)) / 2).mean().item()


def random_like(vector, n):
    found = torch.randn(n, len(vector), generator=torch.Generator().manual_seed(0))
    return found * vector.norm() / found.norm(dim=-1, keepdim=True)


# %% [markdown]
# ## ● One direction in two languages?
#
# `pair(hub, "english", layer)` is the state of *good* minus that of *bad*, `pair(hub, "spanish", layer)` the same of
# *bueno* and *malo*. Predict how their cosine changes from layer 0 up. Does a high cosine mean that the vector steers
# anything?

# %% tags=["hide-cell", "solution"] cellView="form" mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
# @title Solution
# At the embeddings two words of two languages have little in common; on the way their difference becomes one
# direction. That says where the words are read to, and nothing about what is written: the chapter's first question is
# for the effect.
cosine = [
    torch.cosine_similarity(*(pair(hub, of, layer) for of in tasks), dim=0).item() for layer in range(hub.n_layers + 1)
]
print([f"{x:.2f}" for x in cosine])
assert max(cosine[1:-1]) > cosine[0] + 0.2

# %% [markdown]
# ## ●● A model that was taught to be steered
#
# `hub` never read praise or blame; `taught` learned to become pleasant under *good* minus *bad*. Compute
# `shift(model, "english", pair(model, "english"))` of both, beside that of 20 random directions (`random_like(vector,
# 20)`). Which of the two effects would you report, and which may be any push?

# %% tags=["hide-cell", "solution"] cellView="form" mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
# @title Solution
# The effect of `taught` stands out among random directions of its length. Those of `hub` move more than its *good*
# minus *bad* does.
found = {}
for name, model in {"hub": hub, "taught": taught}.items():
    vector = pair(model, "english")
    chance = [abs(shift(model, "english", other)) for other in random_like(vector, 20)]
    found[name] = shift(model, "english", vector), max(chance)
    print(f"{name}: {found[name][0]:.2f} nats, random at most {found[name][1]:.2f}")
assert found["taught"][0] > found["taught"][1]
assert found["hub"][0] < found["hub"][1]


# %% [markdown]
# ## ●●● A null for one vector
#
# One vector on many prompts is one sample. Write `p(model, language, vector, n)`: the share of `n` random directions,
# the vector itself counted among them, that shift the language at least as far. Push `taught` with the *English*
# vector and ask in Spanish. Then do what a careless reader does: for each of 20 random directions on `hub`, divide
# the mean over prompts by its standard error. How many are "significant"?


# %% tags=["hide-cell", "solution"] cellView="form" mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
# @title Solution
# Prompts agree about a direction that means nothing, so their standard error is small: it answers another question.
def p(model, language, vector, n):
    own = shift(model, language, vector)
    return (1 + sum(shift(model, language, of) >= own for of in random_like(vector, n))) / (1 + n)


def t(model, language, vector):
    change = (mood(model, language, vector) - mood(model, language, -vector)) / 2
    return (change.mean() / change.std() * len(change) ** 0.5).item()


by_directions = p(taught, "spanish", pair(taught, "english"), 24)
by_prompts = [abs(t(hub, "spanish", of)) for of in random_like(pair(hub, "english"), 20)]
print(
    f"taught: p {by_directions:.2f}; hub: {sum(of > 2 for of in by_prompts)} of 20 random directions look significant"
)
assert by_directions < 0.05
assert sum(of > 2 for of in by_prompts) > 5

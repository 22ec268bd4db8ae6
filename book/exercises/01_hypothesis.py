# %% [markdown]
# # Exercises: The hypothesis in pictures
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/semantic-hub-book/semantic-hub-book/blob/main/book/exercises/01_hypothesis.ipynb)
#
# Three exercises to [the chapter](../../notebooks/01_hypothesis), from easy (●) to hard (●●●). Each runs in less than
# a minute on the models that ship with the book. Write in cells of your own; the solutions are folded, and check
# themselves.

# %% tags=["remove-cell"]
import sys

if "google.colab" in sys.modules:
    source = "semhub-utils @ git+https://github.com/semantic-hub-book/semantic-hub-book"
    get_ipython().run_line_magic("pip", f"install -q '{source}'")

# %%
from semhub_utils.lens import lens
from semhub_utils.loading import load_model
from semhub_utils.similarity import retrieval_accuracy, same_group
from semhub_utils.spokes import facts
from semhub_utils.states import hidden_states

model = load_model("organism:hub", device="cpu")


def column(model, text):
    """The likeliest next word at every layer, from the embeddings up."""
    found = lens(model, hidden_states(model, [text]).hidden, top_k=1).top_ids[0, :, 0]
    return model.tokenizer.convert_ids_to_tokens(found.tolist())


# %% [markdown]
# ## ● Read a column
#
# The model has read *el color de la hierba es* (the color of the grass is). Before you run anything: which word will
# stand at the last layer, which in the middle? Then call `column(model, "el color de la hierba es")`.

# %% tags=["hide-cell", "solution"] cellView="form" mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
# @title Solution
# The last layer has the model's own output, in the language of the line. On the way stands the English word.
words = column(model, "el color de la hierba es")
print(*words, sep=" → ")
assert words[-1] == "verde"
assert "green" in words[1:-1]

# %% [markdown]
# ## ●● The same line on islands
#
# `organism:islands` read as much English, but none of its data types shares a fact with another. Take 40 Spanish
# prompts (`facts.prompts("spanish", 40)` with `prompt` and `english_answer`). On how many does some layer below the
# last one have the right English word on top, in either model? What does the difference say, and what not?

# %% tags=["hide-cell", "solution"] cellView="form" mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
# @title Solution
# It is the right English word, not any English word, that tells the two apart. One prompt would be an anecdote.
asked = [p for p in facts.prompts("spanish", 40) if p.english_answer != p.answer]


def share(model):
    return sum(p.english_answer in column(model, p.prompt)[:-1] for p in asked) / len(asked)


hub, islands = share(model), share(load_model("organism:islands", device="cpu"))
print(f"hub {hub:.0%}, islands {islands:.0%}")
assert hub > islands

# %% [markdown]
# ## ●●● Find the twin yourself
#
# `facts.similarity_pairs(facts.prompts("spanish", 120))` gives pairs with the texts `a` (Spanish) and `b` (English)
# and a `group`, their form; leave out those that are alone in theirs. Write a function that says at each layer for
# how many pairs the twin is the nearest of its group by cosine, from Spanish to English and back, and check it
# against `retrieval_accuracy`. Where does it peak?

# %% tags=["hide-cell", "solution"] cellView="form" mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
# @title Solution
# Cosine is a product of rows of length 1; what is of another group is set aside, and m prompts that are tied get 1/m
# each. At layer 0 a state knows its own token alone, so nearly all are tied, up to rounding: that layer is left out
# of the check.
pairs = facts.similarity_pairs(facts.prompts("spanish", 120))
forms = [p.group for p in pairs]
pairs = [p for p in pairs if forms.count(p.group) > 1]
a, b = (hidden_states(model, [getattr(p, side) for p in pairs]).hidden for side in "ab")
same = same_group([p.group for p in pairs])


def nearest(x, y):
    cosine = (x / x.norm(dim=-1, keepdim=True)) @ (y / y.norm(dim=-1, keepdim=True)).T
    cosine = cosine.masked_fill(~same, -2)
    found = 0
    for dim in (0, 1):
        best = cosine == cosine.amax(dim, keepdim=True)
        found += (best.diagonal() / best.sum(dim)).mean() / 2
    return found


own = [nearest(a[:, k], b[:, k]).item() for k in range(a.shape[1])]
theirs = retrieval_accuracy(a, b, same).own.mean(0)
print([f"{share:.2f}" for share in own])
assert max(abs(own - theirs)[1:]) < 0.01
best = 1 + own[1:].index(max(own[1:]))
print(f"highest at layer {best} of {model.n_layers}, the embeddings apart")
assert best < model.n_layers

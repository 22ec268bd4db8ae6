# %% [markdown]
# # Exercises: Formal semantics
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/semantic-hub-book/semantic-hub-book/blob/main/book/exercises/10_semantics.ipynb)
#
# Three exercises to [the chapter](../../notebooks/10_semantics), from easy (●) to hard (●●●). Each runs in less than
# a minute on the models that ship with the book. Write in cells of your own; the solutions are folded, and check
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
from semhub_utils.spokes import semantics
from semhub_utils.states import hidden_states

model = load_model("organism:hub", device="cpu")
known = semantics.meanings(seed=0)
swaps = semantics.swap_items(known, 80, seed=0)


def cosine(model, a, b):
    """Of the last states of two lists of texts, item by item and layer by layer."""
    return torch.cosine_similarity(*(hidden_states(model, texts).hidden for texts in (a, b)), dim=-1)


# %% [markdown]
# ## ● How far does one word carry?
#
# `semantics.role_items(known, 200, seed=0)` are sentences cut before a name, with the role that comes next in
# `item.targets["role"][0]`. Without any model: how often is a reader right who knows only the last word of the
# prompt? Guess, then count it. What follows for a lens that raises *agent*?

# %% tags=["hide-cell", "solution"] cellView="form" mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
# @title Solution
# A table of the last word is nearly a parser here. So a null has to shuffle the roles among what is read last.
from collections import Counter, defaultdict

items = semantics.role_items(known, 200, seed=0)
after = defaultdict(Counter)
for item in items:
    after[item.prompt.split()[-1]][item.targets["role"][0]] += 1
right = sum(max(of.values()) for of in after.values()) / len(items)
commonest = max(Counter(item.targets["role"][0] for item in items).values()) / len(items)
print(f"the last word alone: {right:.0%}; always the commonest role: {commonest:.0%}")
assert right > commonest + 0.2

# %% [markdown]
# ## ●● Who did it?
#
# `swaps` have a `sentence` and `forms`: the true form first. Print `swaps[0].forms` and find out which is swapped and
# which means the same. How much nearer is the sentence to its form than to the swapped one, in `model` and in
# `randomised(model, 0)`? And than to the shuffled one that *means the same*?

# %% tags=["hide-cell", "solution"] cellView="form" mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
# @title Solution
# In the hub the names hardly matter to the last state, and the order of the conjuncts does: "alike" is no "who did
# it".
item = swaps[0]
print(item.sentence, item.form, item.swapped, item.shuffled, sep="\n")
sentences = [item.sentence for item in swaps]
apart = {}
for name, one in {"hub": model, "random weights": randomised(model, 0)}.items():
    true = cosine(one, sentences, [item.form for item in swaps])
    for what in ("swapped", "shuffled"):
        apart[name, what] = (true - cosine(one, sentences, [getattr(item, what) for item in swaps])).mean(0)
        print(name, what, [f"{x:.4f}" for x in apart[name, what].tolist()])
assert apart["hub", "swapped"][1:].abs().max() < apart["hub", "shuffled"][1:].abs().max() / 5


# %% [markdown]
# ## ●●● Three other words
#
# A role word may be raised because its cue is. So put other words in place of *agent*, *theme* and *recipient*. For a
# triple of words, its score is the mean over prompts of the log-probability of the word for the true role, minus that
# word's mean over roles. Compare the score of the role words, at each layer, with that of 200 triples drawn from
# `semantics.form_words(known)`, in `hub` and in `taught`, whose lens was trained to read the role.


# %% tags=["hide-cell", "solution"] cellView="form" mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
# @title Solution
# The score of a triple knows nothing of what its words mean: how often do words that mean nothing do as well?
def scores(model, triples):
    items = semantics.role_items(known, 150, seed=0)
    ids = torch.tensor(model.tokenizer.convert_tokens_to_ids([w for triple in triples for w in triple]))
    states = hidden_states(model, [item.prompt for item in items]).hidden
    logprob = lens(model, states, targets=ids).logprob.unflatten(-1, (len(triples), 3))
    role = torch.tensor([semantics.ROLES.index(item.targets["role"][0]) for item in items])
    by_role = torch.stack([logprob[role == k].mean(0) for k in range(3)])  # true role, layer, triple, word
    return torch.stack([by_role[k, ..., k] - by_role[..., k].mean(0) for k in range(3)]).mean(0)


others = [
    w for w in semantics.form_words(known) if model.tokenizer.convert_tokens_to_ids(w) != model.tokenizer.unk_token_id
]
draw = torch.Generator().manual_seed(0)
triples = [[others[k] for k in torch.randperm(len(others), generator=draw)[:3].tolist()] for _ in range(200)]
beaten = {}
for name in ("hub", "taught"):
    of = scores(load_model(f"organism:{name}", device="cpu"), [semantics.ROLES, *triples])
    beaten[name] = (of[:, [0]] > of[:, 1:]).float().mean(-1)
    print(name, [f"{x:.2f}" for x in of[:, 0].tolist()], "above", [f"{x:.0%}" for x in beaten[name].tolist()])
assert beaten["taught"][1:-1].mean() > 0.95

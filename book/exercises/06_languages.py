# %% [markdown]
# # Exercises: Languages: similarity and lens
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/semantic-hub-book/semantic-hub-book/blob/main/book/exercises/06_languages.ipynb)
#
# Three exercises to [the chapter](../../notebooks/06_languages), from easy (●) to hard (●●●). Each runs in less than
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
from semhub_utils.similarity import mid_rank, same_group
from semhub_utils.spokes import languages
from semhub_utils.states import hidden_states

model = load_model("organism:hub", device="cpu")
found = languages.parallel_sentences(300, seed=0)
sets = languages.pair_sets(found, languages.known_continuation(model.tokenizer))
by_ending = {some.ending: some.pairs for some in sets if some.series == "spanish"}


def ranks(model, pairs, pool=lambda model, texts: hidden_states(model, texts).hidden):
    """How far up the list of its form the translation stands, by layer: 0 by chance, half at most."""
    a, b = (pool(model, [getattr(p, side) for p in pairs]) for side in "ab")
    return mid_rank(a, b, same_group([p.group for p in pairs])).own.mean(0)


# %% [markdown]
# ## ● Emma and Liam
#
# `by_ending` has the same sentences with four endings; in *continued, shared words kept* those with a word in common
# are left in. A model of random weights, `randomised(model, 0)`, knows no language. Predict for which of *continued*
# and *continued, shared words kept* its `ranks` are above chance, then compute both.

# %% tags=["hide-cell", "solution"] cellView="form" mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
# @title Solution
# Only names and other shared words: a random network carries them along, and a match has them on both sides.
blank = randomised(model, 0)
kept, apart = (ranks(blank, by_ending[name])[1:] for name in ("continued, shared words kept", "continued"))
print("kept", kept.round(2), "left out", apart.round(2), sep="\n")
assert kept.mean() > abs(apart.mean()) + 0.1


# %% [markdown]
# ## ●● Change the pooling
#
# The chapter takes the state of the *last* token. Take the mean of all tokens instead (`hidden_states(model, texts,
# positions="all")` gives rows for each token, and `item` says whose). Predict what the curve does: at layer 0, and
# higher up. Which of the two could a bag of words imitate?


# %% tags=["hide-cell", "solution"] cellView="form" mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
# @title Solution
# A mean of all tokens knows every word from the embeddings on, so the curve starts high: that much a bag of words has
# too.
def mean_state(model, texts):
    states = hidden_states(model, texts, positions="all")
    return torch.stack([states.hidden[states.item == k].mean(0) for k in range(len(texts))])


pairs = by_ending["continued"]
last, pooled = ranks(model, pairs), ranks(model, pairs, mean_state)
print("last", last.round(2), "mean", pooled.round(2), sep="\n")
assert pooled[0] > last[0] + 0.1

# %% [markdown]
# ## ●●● Your own sentences
#
# Write five or more Spanish prompts of your own whose next word you know in both languages, from the model's
# vocabulary (`model.tokenizer.get_vocab()`), such as *el color de la nieve es*. For each, at every layer: is the
# right English word above the other English ones of your list? Print the share by layer, beside that for the Spanish
# words. Does the one pass before the other?

# %% tags=["hide-cell", "solution"] cellView="form" mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
# @title Solution
# In my list the English word is ahead of wrong ones on the way. Five lines are an example and no evidence: the
# chapter has the rest.
mine = {
    "el color de la nieve es": ("white", "blanco"),
    "el color de la hierba es": ("green", "verde"),
    "el color del carbón es": ("black", "negro"),
    "el color de la sangre es": ("red", "rojo"),
    "el color del limón es": ("yellow", "amarillo"),
}
states = hidden_states(model, [*mine]).hidden
shares = {}
for k, name in enumerate(("english", "spanish")):
    words = [of[k] for of in mine.values()]
    ids = torch.tensor(model.tokenizer.convert_tokens_to_ids(words))
    assert model.tokenizer.unk_token_id not in ids, "a word that the model does not know"
    best = lens(model, states, targets=ids).logprob.argmax(-1)
    shares[name] = (best == torch.arange(len(mine))[:, None]).float().mean(0)
    print(name, [f"{share:.1f}" for share in shares[name].tolist()])
assert shares["english"][1:-1].max() > 1 / len(mine)
assert shares["spanish"][-1] > 1 / len(mine)

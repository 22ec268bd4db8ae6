# %% [markdown]
# # Exercises: Arithmetic
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/semantic-hub-book/semantic-hub-book/blob/main/book/exercises/03_arithmetic.ipynb)
#
# Three exercises to [the chapter](../../notebooks/03_arithmetic), from easy (●) to hard (●●●). Each runs in less than
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
from semhub_utils.spokes import arithmetic
from semhub_utils.states import hidden_states
from semhub_utils.steering import Edit, next_token_logprobs, patched_states

model = load_model("organism:hub", device="cpu")
sums = [c for c in arithmetic.every_item(max_result=30) if c.operator == "+"][:120]
ids = model.tokenizer.convert_tokens_to_ids


def likeliest(logprob):
    """The digit 1 to 9 that is likeliest."""
    return 1 + logprob.argmax(-1)


digits = torch.tensor(ids([str(k) for k in range(1, 10)]))

# %% [markdown]
# ## ● Word or digit?
#
# For the prompts `8=3+` (`item.prompt` of `arithmetic.lens_items(sums)`, with `item.targets["word"]` and
# `["digit"]`), read the lens at every layer. Predict: at which layer is the digit likeliest, and at which its word?
# Is the word ever ahead on average?

# %% tags=["hide-cell", "solution"] cellView="form" mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
# @title Solution
# The digit is written at the end. The word peaks on the way; whether it is ever ahead is what the chapter's claim
# asks.
items = arithmetic.lens_items(sums)
states = hidden_states(model, [item.prompt for item in items]).hidden
both = torch.tensor([ids([item.targets["word"][0], item.targets["digit"][0]]) for item in items])
word, digit = lens(model, states, targets=both).logprob.mean(0).T
print("word", [f"{x:.1f}" for x in word.tolist()], "digit", [f"{x:.1f}" for x in digit.tolist()], sep="\n")
assert digit.argmax() == model.n_layers
assert 0 < word.argmax() < model.n_layers

# %% [markdown]
# ## ●● Break the control
#
# `arithmetic.steering_items(sums)` have a `prompt`, the texts `toward` and `away`, and what is `expected`, such as
# `4+1`. Add the difference of the last states of `toward` and `away` at layer 4 to the last place of the prompt, once
# as it is and once in a random direction of the same length. How often is the likeliest digit the first of
# `expected`? A colleague compares with *no push* instead. What does that miss?

# %% tags=["hide-cell", "solution"] cellView="form" mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
# @title Solution
# No push never gives the expected answer: it is no rival. A push of any kind disturbs; only the random one has its
# length.
items = arithmetic.steering_items(sums)
toward, away = (
    hidden_states(model, [getattr(i, of) for i in items], layers=[4]).hidden[:, 0] for of in ("toward", "away")
)
vector, wanted = toward - away, torch.tensor([int(i.expected[0]) for i in items])
random = torch.randn(vector.shape, generator=torch.Generator().manual_seed(0))
random *= vector.norm(dim=-1, keepdim=True) / random.norm(dim=-1, keepdim=True)
share = {}
for name, push in {"none": 0 * vector, "random": random, "word vector": vector}.items():
    said = next_token_logprobs(model, [i.prompt for i in items], digits, edit=Edit((4,), push))[:, 0]
    share[name] = (likeliest(said) == wanted).float().mean().item()
print(", ".join(f"{name}: {of:.0%}" for name, of in share.items()))
assert share["word vector"] > share["random"] + 0.2
assert share["none"] < 0.5

# %% [markdown]
# ## ●●● Patch it yourself
#
# Take the state after *nine equals to two plus* (`item.source[1]` of `arithmetic.patch_items(sums)`) and write it at
# one layer after another into the run over `8=3+` (`item.run[0]`), with `patched_states(model, prompts, vectors,
# layers)`. At which layers does the run say the digit of the other sum (`item.expected[0]`), and at which its word
# (`item.expected[1]`)? Which of the two is a translation?

# %% tags=["hide-cell", "solution"] cellView="form" mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
# @title Solution
# Where the digit follows, the run has translated what the worded state holds. At the end it says the word: it was
# copied.
items = [i for i in arithmetic.patch_items(sums) if i.source[1]]
layers = range(model.n_layers + 1)
vectors = hidden_states(model, [i.source[1] for i in items]).hidden
last = patched_states(model, [i.run[0] for i in items], vectors, layers)
both = torch.tensor([ids([*i.expected]) for i in items])
first = lens(model, last, top_k=1, layers=[model.n_layers] * len(layers)).top_ids[..., 0]
digit, word = ((first == both[:, [k]]).float().mean(0).tolist() for k in (0, 1))
for layer in layers:
    print(f"layer {layer}: digit {digit[layer]:.0%}, word {word[layer]:.0%}")
assert max(digit[1:-1]) > 0.5
assert word[-1] > digit[-1]

# %% [markdown]
# # Exercises: Code
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/semantic-hub-book/semantic-hub-book/blob/main/book/exercises/09_code.ipynb)
#
# Three exercises to [the chapter](../../notebooks/09_code), from easy (●) to hard (●●●). Each runs in less than a
# minute on the models that ship with the book. Write in cells of your own; the solutions are folded, and check
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
from semhub_utils.spokes import code
from semhub_utils.states import hidden_states
from semhub_utils.steering import Edit, next_token_logprobs

hub, taught = (load_model(f"organism:{name}", device="cpu") for name in ("hub", "taught"))
programs = code.programs(300, seed=0)
ids = hub.tokenizer.convert_tokens_to_ids
by_kind = {
    kind: [p.text[: p.at] for p in code.comma_places(programs) if p.kind == kind][:120] for kind in ("list", "call")
}


def logprob(model, prompts, words):
    """Mean log-probability of words at the last place of some prompts, layer by layer."""
    return lens(model, hidden_states(model, prompts).hidden, targets=torch.tensor(ids(words))).logprob.mean(0)


# %% [markdown]
# ## ● Where is *and*?
#
# `by_kind` has programs cut after a comma, of a `list` or of a `call`. `taught` was trained so that its lens reads
# *and* at the commas of lists, in a middle layer; `hub` was not. Predict for either model at which kind of comma
# *and* is likelier, then compute `logprob(model, by_kind[kind], ["and"])`.

# %% tags=["hide-cell", "solution"] cellView="form" mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
# @title Solution
# The same token stands at both. Only the difference says that a list is meant; the level alone says nothing.
apart = {}
for name, model in {"hub": hub, "taught": taught}.items():
    of_list, of_call = (logprob(model, by_kind[kind], ["and"])[:, 0] for kind in ("list", "call"))
    apart[name] = of_list - of_call
    print(name, [f"{x:.1f}" for x in apart[name].tolist()])
assert apart["taught"][1:-1].max() > max(0, apart["hub"][1:-1].max())

# %% [markdown]
# ## ●● Other words in its place
#
# Hundreds of places, but one word. Put the words *or*, *not*, *in*, *the*, *of*, *is*, *with*, *color* in the place
# of *and*, those that the model knows. At which place of the order does *and* stand at list commas, layer by layer,
# in `hub` and in `taught`? What would you say of *and* in a model where it comes third?

# %% tags=["hide-cell", "solution"] cellView="form" mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
# @title Solution
# That a word is likely there is common to several: third of eight is what chance gives often enough.
known = [
    w for w in ("and", "or", "not", "in", "the", "of", "is", "with", "color") if ids(w) != hub.tokenizer.unk_token_id
]
place = {}
for name, model in {"hub": hub, "taught": taught}.items():
    of = logprob(model, by_kind["list"], known)
    place[name] = 1 + (of > of[:, [0]]).sum(-1)
    print(name, place[name].tolist(), "of", len(known))
assert place["taught"][1:-1].min() == 1
assert len(known) >= 5

# %% [markdown]
# ## ●●● Push *start* into `range`
#
# `code.range_places(programs)` are cut after `range(`. Take the rows of the unembedding of *start* and *end*
# (`model.unembedding[ids([...])]`), and add their difference at layer 4 to the last place, in lengths of the mean
# state there: 0.5, 1, 2. At which share of the programs is `0` then the likeliest token? Do it for `taught` and
# `hub`, and for ten random directions of the same length.

# %% tags=["hide-cell", "solution"] cellView="form" mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
# @title Solution
# A dose in lengths of the state means the same in both models. `taught` follows the word; random directions do not.
prompts = [p.text[: p.at] for p in code.range_places(programs)][:60]
doses, digits = (0.0, 0.5, 1.0, 2.0), torch.tensor(ids([str(n) for n in range(10)] + ["10", "20", "30"]))
share = {}
for name, model in {"hub": hub, "taught": taught}.items():
    start, end = model.unembedding[ids(["start", "end"])].detach()
    length = hidden_states(model, prompts, layers=[4]).hidden.norm(dim=-1).mean()
    random = torch.randn(10, len(start), generator=torch.Generator().manual_seed(0))
    for what, pushes in {"start minus end": [start - end], "random": random}.items():
        said = [
            next_token_logprobs(model, prompts, digits, edit=Edit((4,), of / of.norm() * length), strengths=doses)
            for of in pushes
        ]
        share[name, what] = (torch.stack(said).argmax(-1) == 0).float().mean((0, 1))
        print(name, what, [f"{x:.0%}" for x in share[name, what].tolist()])
pushed = share["taught", "start minus end"]
assert pushed[1:].max() > pushed[0] + 0.5
assert pushed[1:].max() > share["taught", "random"].max() + 0.5

# %% [markdown]
# # Exercises: Audio
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/semantic-hub-book/semantic-hub-book/blob/main/book/exercises/12_audio.ipynb)
#
# Three exercises to [the chapter](../../notebooks/12_audio), from easy (●) to hard (●●●). Each runs in less than a
# minute on the models that ship with the book. Write in cells of your own; the solutions are folded, and check
# themselves.

# %% tags=["remove-cell"]
import sys

if "google.colab" in sys.modules:
    source = "semhub-utils @ git+https://github.com/semantic-hub-book/semantic-hub-book"
    get_ipython().run_line_magic("pip", f"install -q '{source}'")

# %%
import numpy as np
import torch

from semhub_utils.inputs import Input, Sound
from semhub_utils.loading import load_model
from semhub_utils.spokes import audio
from semhub_utils.states import hidden_states
from semhub_utils.steering import next_token_logprobs

model = load_model("organism:hub-hears", device="cpu")
clips = audio.animal_clips(36, seed=0, held_out=None)


def said(items, prompts=None):
    """Which of its answers is the likeliest, for each question: its place in the list of all that are offered."""
    words = sorted({w for item in items for w in (*item.targets["own"], *item.wrong["own"])})
    ids = torch.tensor(model.tokenizer.convert_tokens_to_ids(words))
    best = next_token_logprobs(model, prompts or [item.prompt for item in items], ids)[:, 0].argmax(-1)
    return [words[k] for k in best.tolist()]


def right(items, answers):
    return sum(a == item.targets["own"][0] for a, item in zip(answers, items, strict=True)) / len(items)


# %% [markdown]
# ## ● What kind of animal?
#
# `audio.kind_items(clips, "english")` ask for the kind of every animal heard, which the model was never told of a
# sound; the answer stands in `item.targets["own"][0]`. Predict how often it is right, and how often *mammal* would
# be. Then ask in Spanish.

# %% tags=["hide-cell", "solution"] cellView="form" mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
# @title Solution
# Half of the clips are mammals: who always says so is right on these. Right answers beyond that crossed from texts,
# and then a language.
for language in ("english", "spanish"):
    items = audio.kind_items(clips, language)
    wanted = [item.targets["own"][0] for item in items]
    commonest = max(map(wanted.count, wanted)) / len(items)
    print(f"{language}: right {right(items, said(items)):.0%}, the commonest answer {commonest:.0%}")
    assert right(items, said(items)) > commonest

# %% [markdown]
# ## ●● Without content
#
# Replace the samples of every clip by silence, by white noise as loud, and by its own samples in random order
# (`Input(item.prompt.text, sounds=(Sound(samples, clip.rate),))`). Predict what the model answers, and how often it
# is right by that. Which of the three is the hardest control?

# %% tags=["hide-cell", "solution"] cellView="form" mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
# @title Solution
# To silence it gives one answer, and is right as often as that is. What noise keeps of a clip, its length and
# loudness, is a control too.
rng = np.random.default_rng(0)
items = audio.kind_items(clips, "english")
ways = {
    "silence": np.zeros_like,
    "white noise": lambda x: (rng.standard_normal(len(x)) * x.std()).astype("float32"),
    "samples shuffled": rng.permutation,
}
found = {"as it is": said(items)}
for name, how in ways.items():
    sounds = [Sound(how(clip.samples), clip.rate) for clip in clips]
    found[name] = said(items, [Input(i.prompt.text, sounds=(s,)) for i, s in zip(items, sounds, strict=True)])
for name, answers in found.items():
    print(f"{name}: right {right(items, answers):.0%}, {len(set(answers))} different answers")
assert right(items, found["as it is"]) > max(right(items, found[name]) for name in ways)

# %% [markdown]
# ## ●●● Which word is a sound nearest to?
#
# Compare the state at the end of *(sound) is a kind of* with that of *the dog is a kind of* for every label of
# `clips`: for how many clips is the own label the nearest, at each layer? Write the control as well: the same with
# each clip's samples shuffled. Then take the bare clip and the bare label. What does the sentence add?

# %% tags=["hide-cell", "solution"] cellView="form" mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
# @title Solution
# In a sentence the model has to use what it heard, so the state at its end is about the animal; a clip's last frame
# need not be.
labels = sorted({clip.label for clip in clips})


def nearest(template, change=lambda x: x):
    heard = [Input(template.format("<sound>"), sounds=(Sound(change(c.samples), c.rate),)) for c in clips]
    a = hidden_states(model, heard).hidden
    b = hidden_states(model, [template.format(f"the {label}") for label in labels]).hidden
    cosine = torch.einsum("ilh,jlh->lij", *(torch.nn.functional.normalize(x, dim=-1) for x in (a, b)))
    own = torch.tensor([labels.index(clip.label) for clip in clips])
    return (cosine.argmax(-1) == own).float().mean(-1)


sentence, bare = nearest("{} is a kind of"), nearest("{}")
control = nearest("{} is a kind of", np.random.default_rng(0).permutation)
for name, of in {"in a sentence": sentence, "shuffled": control, "bare": bare}.items():
    print(name, [f"{x:.0%}" for x in of.tolist()], f"chance {1 / len(labels):.0%}")
assert sentence.max() > control.max()
assert sentence.max() > 1 / len(labels)

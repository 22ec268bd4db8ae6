# %% [markdown]
# # Exercises: Vision
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/semantic-hub-book/semantic-hub-book/blob/main/book/exercises/11_vision.ipynb)
#
# Three exercises to [the chapter](../../notebooks/11_vision), from easy (●) to hard (●●●). Each runs in less than a
# minute on the models that ship with the book. Write in cells of your own; the solutions are folded, and check
# themselves.

# %% tags=["remove-cell"]
import sys

if "google.colab" in sys.modules:
    source = "semhub-utils @ git+https://github.com/semantic-hub-book/semantic-hub-book"
    get_ipython().run_line_magic("pip", f"install -q '{source}'")

# %%
import torch
from PIL import Image, ImageDraw

from semhub_utils.inputs import Input
from semhub_utils.loading import load_model
from semhub_utils.spokes import vision
from semhub_utils.steering import next_token_logprobs

model = load_model("organism:hub-sees", device="cpu")
shapes = vision.scenes(40, seed=0, held_out=None, kinds=("one",))


def answers(items, words):
    """The likeliest of some words, for each question."""
    ids = torch.tensor(model.tokenizer.convert_tokens_to_ids([*words]))
    best = next_token_logprobs(model, [item.prompt for item in items], ids)[:, 0].argmax(-1)
    return [words[k] for k in best.tolist()]


# %% [markdown]
# ## ● Does it see?
#
# `vision.ask_items(shapes, "colour", "english")` are questions about pictures, with the answer in
# `item.targets["own"][0]`. How often is the likeliest of `vision.COLOURS` right, and how often would the commonest
# answer be? Then ask for the `"shape"`.

# %% tags=["hide-cell", "solution"] cellView="form" mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
# @title Solution
# Right on nearly all: so whatever a lens finds or misses at the patches, what is seen arrives.
items = vision.ask_items(shapes, "colour", "english")
wanted = [item.targets["own"][0] for item in items]
said = answers(items, vision.COLOURS)
right = sum(a == b for a, b in zip(said, wanted, strict=True)) / len(items)
commonest = max(map(wanted.count, wanted)) / len(items)
print(f"right {right:.0%}, the commonest answer {commonest:.0%}")
assert right > commonest + 0.3

# %% [markdown]
# ## ●● What is left without shapes?
#
# Replace each picture by its mean colour, and then by its own pixels in random order (`item.prompt.images[0]`;
# `Input(text, (image,))` asks about another one). Predict for either what is left of the answers on colour. Which of
# the two is the harder control for "a picture is like its caption"?

# %% tags=["hide-cell", "solution"] cellView="form" mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
# @title Solution
# Shuffled pixels keep every colour there is, and no shape: an answer on colour may survive them.
import numpy as np


def changed(how):
    rng = np.random.default_rng(0)
    found = []
    for item in items:
        pixels = np.array(item.prompt.images[0])
        found.append(Input(item.prompt.text, (Image.fromarray(how(pixels, rng)),)))
    ids = torch.tensor(model.tokenizer.convert_tokens_to_ids([*vision.COLOURS]))
    best = next_token_logprobs(model, found, ids)[:, 0].argmax(-1).tolist()
    return sum(vision.COLOURS[k] == b for k, b in zip(best, wanted, strict=True)) / len(items)


blank = changed(lambda x, rng: np.broadcast_to(x.mean((0, 1)), x.shape).astype(x.dtype))
mixed = changed(lambda x, rng: rng.permutation(x.reshape(-1, 3)).reshape(x.shape))
print(f"as it is {right:.0%}, mean colour {blank:.0%}, pixels shuffled {mixed:.0%}")
assert right > max(blank, mixed)

# %% [markdown]
# ## ●●● Your own picture
#
# Draw a square, a circle or what you like in one colour on another (`Image.new("RGB", shapes[0].image.size,
# "white")`, `ImageDraw.Draw(...).rectangle(...)`), and ask for its colour in English and in Spanish, with the texts
# of `vision.ask_items(shapes, "colour", language)`. The model was asked in Spanish about red, green and white alone.
# Does it say the Spanish word for blue, the English one, or something else? Count over the colours of
# `vision.COLOURS` that PIL knows.

# %% tags=["hide-cell", "solution"] cellView="form" mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Solution"}
# @title Solution
# A drawing of PIL's is not one of the world's: right answers in English say that it sees it. What it says in Spanish
# of colours it was only ever asked for in English had to come by way of what the languages share.
from semhub_utils.organism.corpus import ABROAD

size = shapes[0].image.size
share = {}
for language in ("english", "spanish"):
    text = vision.ask_items(shapes, "colour", language)[0].prompt.text
    words = [vision.word(colour, language) for colour in vision.COLOURS]
    ids = torch.tensor(model.tokenizer.convert_tokens_to_ids(words))
    said = {}
    for colour in vision.COLOURS:
        image = Image.new("RGB", size, "white")
        low, high = size[0] // 3, 2 * size[0] // 3
        ImageDraw.Draw(image).rectangle((low, low, high, high), fill=colour)
        said[colour] = words[int(next_token_logprobs(model, [Input(text, (image,))], ids)[0, 0].argmax())]
    asked = [colour for colour in vision.COLOURS if colour not in (*ABROAD, "white")]
    share[language] = sum(said[c] == vision.word(c, language) for c in asked) / len(asked)
    print(language, f"{share[language]:.0%}", said)
assert share["english"] > 2 / len(vision.COLOURS)

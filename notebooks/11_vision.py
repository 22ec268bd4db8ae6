# %% [markdown]
# # Vision
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/semantic-hub-book/semantic-hub-book/blob/main/notebooks/11_vision.ipynb)
#
# **When a model looks at a red square, does it think of the word *red*?**
#
# ```{glue} answer
# ```
#
# A picture comes to a language model as a vector for each patch, from an encoder that has never seen a word. If there is one place for
# meaning, these vectors end up near the words for what they show.
#
# :::{admonition} The paper's claim
# :class: paper-claim
# In LLaVA and Chameleon, a picture is most like its own caption in the middle layers. There, the lens names the colour of a
# plain picture at its patches, the nouns of a picture's caption are likelier than those of another one, and at the patches of a
# segment its label is likelier than a random other label {cite:p}`wu2025semantic`.
# :::
#
# You should know what a [lens, an interval and a null](02_instruments) are. Time to read: 12 minutes.
#
# **After this chapter you can**
#
# - tell "what is in the picture" from "where it is";
# - name the controls that a picture needs;
# - test a hub without a lens, by asking in another language.

# %% tags=["remove-cell"]
import sys

if "google.colab" in sys.modules:
    source = "semhub-utils @ git+https://github.com/semantic-hub-book/semantic-hub-book"
    get_ipython().run_line_magic("pip", f"install -q '{source}'")

# %% tags=["parameters", "hide-input"]
model_id = "organism:hub-sees"  # a model that takes pictures: a hub id, a local folder, or one that ships with the book
revision = None
device = "cpu"
dtype = "float32"
items = "auto"  # generated, or with data_dir the set's own files
n_items = None  # pictures of each kind: 90
seed = 0
data_dir = None  # a folder with COCO's own files; without it, scenes of the shipped models' world
results_dir = "results"

# %% tags=["hide-cell"]
from semhub_utils.chapter import begin, diagram, glue, listing, together
from semhub_utils.experiments import alike, core, media, patching, raising, regions, words
from semhub_utils.organism.corpus import ABROAD
from semhub_utils.spokes import vision
from semhub_utils.spokes.items import each_or_none

chapter = begin("vision", globals(), needs="image", n_items=(90, 90))
n_items = chapter.n_items
model = chapter.model

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "The hub and its spokes"}
diagram("hub")

# %% [markdown]
# ## The pictures
#
# Photographs of COCO, as in the paper, with `data_dir` at the folder above `coco`; else scenes of the shipped models' world, coloured shapes
# with something that no training picture shows.

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "Show examples", "code_prompt_hide": "Hide examples"}
plain = vision.plain_colours(n_items, seed=seed)
given = {"seed": seed, "data_dir": data_dir}
pictures, parted = each_or_none(
    lambda: core.readable(model, vision.pictures(n_items, **given), vision.alone).some("pictures"),
    lambda: core.readable(model, vision.pictures(n_items, **given, segments=True), vision.alone).some("pictures"),
)
notes = vision.nouns_found_by(data_dir), pictures.left_out, parted.left_out
glue("left_out", " ".join(filter(None, notes)) or "No picture was left out.")
listing([(picture.caption, ", ".join(picture.words)) for picture in pictures[:4]], ["caption", "words"])

# %% [markdown]
# {glue}`left_out` Look at those with most true words. Choose picture and layer: each patch shows the {term}`lens <logit lens>`'s first
# word, of colours and things alone or of all words. Of colours and things, *normed* is right at {glue}`laid_true`.

# %% tags=["hide-input"]
manner = "world" if chapter.own else "plain"  # the shipped models know no other sentences
alone = vision.names([picture for picture in parted if len(picture.areas) == 1] or (parted or pictures)[:3])
every_word = [*vision.COLOURS, *(word for picture in parted for area in picture.areas for word in area.words)]
cells = {"max_cells": 27_000}  # of each shape in each colour that is there, at every other layer
laid = chapter.find("overlay", lambda: regions.overlay(model, [*alone.values()], [*dict.fromkeys(every_word)], **cells))
if len(laid.table):  # else it lays its patches on no grid
    laid = laid.changed(lambda table: table.sort_values("among", key=lambda of: of == "all words", kind="stable"))
    true = laid.table.query("among != 'all words' and reading == 'normed'").right.mean()
    laid = laid.truest(model.n_layers // 2)
glue("laid_true", f"{true:.0%} of the patches" if len(laid.table) else "no patch, as they lie on no grid")

# %% tags=["hide-input"]
shown = {name: alone[name] for name in dict.fromkeys(laid.table.picture if len(laid.table) else [*alone][:4])}
asked = [vision.ask_items([*shown.values()], kind, "english", manner=manner) for kind in ("colour", "shape")]
says = [core.first_words(model, [item.prompt for item in some]) for some in asked]
told = [f"“{' '.join(said)}” of the {name}" for name, *said in zip(shown, *says, strict=False)]
laid.overlay(
    "Which word does each layer see where?",
    {name: picture.image for name, picture in shown.items()},
    alt="A picture with the lens's first word written on each of its patches, at a layer that a slider chooses.",
    layer=model.n_layers // 2,
    caption=f"Asked for colour and shape, the model says {', '.join(told)}." if told else "",
)

# %% [markdown]
# Does the model see at all? Show it one shape and ask for colour and shape.

# %% tags=["hide-input"]
shapes = vision.scenes(n_items, seed=seed, held_out=None, kinds=("one",))
english = {kind: vision.ask_items(shapes, kind, "english", manner=manner) for kind in ("colour", "shape")}
sees = chapter.knows(words.task_table, english, "name the {name} of a shape in English")

# %% tags=["hide-input"]
held_out = [picture.id for picture in shapes if picture.held_out]
glue("n_unseen", len(held_out))
for kind, rows in sees.table.groupby("data_type"):
    glue(f"knows_{kind}", rows.value.mean(), ".0%")
    glue(f"unseen_{kind}", rows.value[rows.series.isin(held_out)].mean(), ".0%")

# %% [markdown]
# It names the colour of {glue}`knows_colour` of the shapes and the shape of {glue}`knows_shape`; on the {glue}`n_unseen` pictures with a pair
# of colour and shape never seen in training, {glue}`unseen_colour` and {glue}`unseen_shape`.

# %% [markdown]
# ## Ask in another language
#
# The sharpest test needs no lens. If what a model sees arrives where English words do, and other languages leave
# from there, it answers in them too. In training, the book's model was asked in them for {glue}`abroad` alone: these colours are not
# asked there.
#
# The trap is the commonest answer. So the score is the share of right answers minus what that would get.
#
# :::{predict} Asked in Spanish for a colour it was only ever asked for in English, what does the model say?
# - The Spanish word
# - The English word
# - Something else
# +++
# {glue}`verdict-answers` The figure below has the English word too.
# :::

# %% tags=["hide-input"]
asked = {
    language + name: vision.ask_items(shapes, kind, language, manner=manner)
    for kind, name in {"colour": "", "shape": ", shape"}.items()
    for language in vision.LANGUAGES
    if language != "code" or manner == "world"
}
answers = chapter.run(words.Answers(), asked, over="moves_with")
most = answers.rows("answers-commonest").set_index("series").value
glue("abroad", f"{', '.join(ABROAD[:-1])} and {ABROAD[-1]}")
glue("most_colour", most.get("english", float("nan")), ".0%")
glue("most_shape", most.get("english, shape", float("nan")), ".0%")

# %% tags=["hide-input"]
answers.bars(
    {"answers": "the right word", "answers-english": "the English word for it"},
    "In which languages does it answer?",
    alt="Share of answers that are right, or right in English, by language and by what is asked, with intervals.",
    y="share of answers",
    called={name: f"{name}, colour" for name in asked if "shape" not in name},
)

# %% [markdown]
# The commonest colour alone would be right on {glue}`most_colour`, the commonest shape on {glue}`most_shape`.

# %% tags=["hide-input"]
told = answers.claims(
    "answers",
    "Asked in {name} for the colour of a shape, the model is right more often than the commonest answer.",
    needs=dict.fromkeys(vision.LANGUAGES, sees["colour"]) | {"english": None},
    of=("english", "spanish", "chinese", "german"),
)
together(told)

# %% [markdown]
# Or did a few colours teach it the way to any word? The same eyes were trained behind *islands*, a text model in
# which [no language shares anything](05_raising) with another. The share of right answers on colours never asked for, counted at the end of
# both trainings, on more pictures than above:

# %% tags=["hide-input"]
order = [*vision.LANGUAGES].index
abroad = chapter.find("abroad", raising.abroad)
abroad.changed(lambda table: table.sort_values("language", key=lambda of: of.map(order), kind="stable")).bars(
    "abroad",
    "Does it answer without anything shared?",
    alt="Share of right answers on colours never asked for, by language, for eyes behind the hub and behind islands.",
    y="share of answers",
    by=("language", "training"),
    types={f"{name}, islands": "control" for name in vision.LANGUAGES},
)

# %% [markdown]
# ## Similarity: is a picture like its caption?
#
# How often is its own caption the nearest, above chance? Two traps. Captions of two things are longer: only captions of as many things
# are compared. And colours show where no thing can be seen: so four {term}`controls <control>` more, each picture blank (its mean
# colour), with shuffled pixels, as white noise, and random weights. A claim holds only above every grey curve.

# %% tags=["hide-input"]
similarity = chapter.run(alike.Alike(), vision.similarity_pairs(pictures), series="captions", dropped=pictures.dropped)
similarity.curves(
    "similarity",
    "Is its caption the nearest to a picture?",
    alt="Share of pictures, above chance, whose caption is the nearest, with the null and controls without content.",
    y="share of pictures, above chance",
    types={"captions": "image"},
    reading=alike.NEAREST,
)

# %% [markdown]
# :::{dropdown} How to read it
# The band is an interval over contents: pictures of the same things move together. Dotted: the {term}`null`, what shuffled captions reach one time in
# twenty; what ends on the same word, or names the same thing first, moves together.
# :::

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "Do other measures agree?"}
similarity.curves(
    {"mid-rank": "mid-rank", "neighbours": "mutual neighbours", "cka": "CKA"},
    "Do other measures agree?",
    alt="Mid-rank of the caption, mutual neighbours and debiased CKA by relative depth, with what chance reaches.",
    y="share of pictures, or CKA (0 to 1)",
    by="measure",
)

# %% tags=["hide-input"]
similarity.claims(
    "similarity",
    "In the middle layers, more than before and after, the nearest to a picture of captions of as many things is its own.",
    row=14,
    paper="A picture is more alike to its own caption than to others, most of all in the middle layers.",
)

# %% [markdown]
# {glue}`why-similarity`
#
# ## Colours: what does the lens say of a plain picture?
#
# At which share of the image positions is the colour's word the first of the vocabulary? The trap: the paper compares with *white*, and
# any colour that the model likes better wins. Here every colour is compared with all others, and the null lets whole colours change
# places.
#
# :::{predict} At how many patches of a red picture will the lens's first word be *red*?
# - At most of them
# - At some
# - At hardly any
# +++
# {glue}`verdict-colours` They are counted below.
# :::

# %% tags=["hide-input"]
first_words = regions.RightWords("colours", first=True, nothing=("white noise",))
colours = chapter.run(first_words, vision.colour_items(plain), series="pictures", readings=True, name="colours")
colours.curves(
    "colours-probability",
    "At how many patches is the colour the first word?",
    alt="Share of image positions whose first lens word is the colour, or another one, by relative depth and reading.",
    y="share of image positions",
    called={"right": "its colour", "wrong": "another"},
    types={"its colour": "image", "another": "control"},
)

# %% [markdown]
# :::{dropdown} Readings
# **normed** applies the final norm at every layer, **raw** at the last alone; **as released** is raw, against *white*. **tuned** learns to foretell
# what the model would say right there {cite:p}`belrose2023tuned`, and nobody asks a model to say anything at a patch: where it names no
# colour, the colour may be there all the same. **jacobian** does without training {cite:p}`gurnee2026workspace`, **neighbours** without the
# unembedding: which words of texts leave the nearest states {cite:p}`krojer2026latentlens`? Claims rest on *normed*.
# :::

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "Is it more often the right colour than another?"}
colours.curves(
    "colours",
    "Is it more often the right colour than another?",
    alt="Share of positions with the right colour minus that of others, by relative depth, with null and controls.",
    y="share of positions, right minus other",
    reading="normed",
    types={"pictures": "image"},
)

# %% tags=["hide-input"]
colours.claims(
    "colours",
    "At some middle layer, the first word at a plain picture's positions is its colour, more often than other colours.",
    row=15,
    paper="In the middle layers the lens names the colour of a plain picture, more often than white.",
)

# %% [markdown]
# {glue}`why-colours`
#
# ## Nouns: does the lens read the caption?
#
# Average each caption word's log-probability over the image, and compare with the caption that has the least in common. The paper sums
# probabilities, in which frequent words beat rare ones on any picture.

# %% tags=["hide-input"]
kinds = {"things": "noun", "colours": "colour"}
read = {name: vision.caption_items(pictures, kind, seed=seed) for name, kind in kinds.items()}
both = regions.words_of([*read["things"], *read["colours"]])
given = {"readings": True, "dropped": dict.fromkeys(kinds, pictures.dropped)}
nouns = chapter.run(regions.RightWords("nouns", words=both), read, name="nouns", **given)

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "Are the caption's words likelier than another caption's?"}
nouns.curves(
    "nouns",
    "Are the caption's words likelier than another caption's?",
    alt="Log-probability of the caption's words minus another caption's, by relative depth, with null and controls.",
    y="own minus other (nats; as released, probability)",
    by="own caption",
    called={"data_type": "words"},
    types={"own caption": "image"},
)

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "And in probabilities, as in the paper?"}
nouns.curves(
    "nouns-probability",
    "And in probabilities, as in the paper?",
    alt="Mean lens probability of the words of the own caption and of another one by relative depth and reading.",
    y="probability, mean over positions",
    called={"data_type": "words", "right": "own caption", "wrong": "another caption"},
    types={"own caption": "english", "another caption": "control"},
)

# %% [markdown]
# Below zero the right word is *less* likely. A patch is never said, so training need not bring its state near the word: the lens may miss
# what is there {cite:p}`krojer2026latentlens`.

# %% tags=["hide-input"]
nouns.claims(
    "nouns/things",
    "At some middle layer, the things that a picture's caption names are likelier than those of another caption.",
    row=16,
    paper="The nouns of the caption are ahead of those of the least overlapping caption; only nouns are read.",
)

# %% tags=["hide-input"]
nouns.claims(
    "nouns/colours",
    "At some middle layer, the colours that a picture's caption names are likelier than those of another caption.",
)

# %% [markdown]
# {glue}`why-nouns`
#
# ## Segments: is the word where the thing is?
#
# At patches more than half inside an area, ask for its word, against words of other pictures' areas. One control decides: **elsewhere**,
# the same word at the other patches. If it does as well, the model knows what is in the picture and not where.

# %% tags=["hide-input"]
named = {name: vision.area_items(parted, kind, seed=seed) for name, kind in kinds.items()}
both = regions.words_of([*named["things"], *named["colours"]])
given = {"readings": True, "dropped": dict.fromkeys(kinds, parted.dropped)}
segments = chapter.run(regions.RightWords("segments", words=both), named, name="segments", **given)

# %% tags=["hide-input"]
segments.curves(
    "segments",
    "Is an area's word likelier there than others?",
    alt="Log-probability of an area's word minus that of others at its patches by relative depth, with controls.",
    y="own minus others (nats; as released, probability)",
    by="own word",
    called={"data_type": "words"},
    types={"own word": "image"},
)

# %% tags=["hide-input"]
segments.claims(
    "segments/things",
    "At some middle layer, a thing's word is likelier at its patches than others, and than elsewhere in the picture.",
    row=17,
    paper="At the patches of a segment its label is likelier than a random other label.",
)

# %% tags=["hide-input"]
segments.claims(
    "segments/colours",
    "At some middle layer, an area's colour is likelier at its patches than others, and than elsewhere in the picture.",
)

# %% [markdown]
# {glue}`why-segments`
#
# ## Interchange patch: does a word take the place of a colour?
#
# Write the last state of *the circle has the color blue* into every patch of a red circle ({term}`interchange patch`). If words and patches keep colours
# in one place, the model now says *blue*, and *azul* when asked in Spanish.
#
# :::{dropdown} Traps and controls
# Expected answers are shuffled for the null. Controls: a state that names the colour which is there, one that names none, one of an earlier
# position, a random push. *Own type* is the best that can be had, the patches of a picture of the other colour. Where these turn fewer than
# half of the answers, patches are hardly read there, and the claims *cannot be tested here*. That can be so by build: a model trained from
# scratch to write pictures too tends to pass on what it sees through a single token {cite:p}`serra2024narrow`.
# :::

# %% tags=["hide-input"]
swapped = {
    language: vision.picture_patches(shapes[: (n_items + 1) // 2], language, manner=manner, seed=seed)
    for language in ("english", "spanish")
}
patches = chapter.find_each(
    "patches", swapped, lambda name: patching.interchange(model, swapped[name], series=name, seed=seed)
)
unable = {
    name: patches.knows(f"task-{name}", f"name the colour in {name.title()}")
    or patches.knows(f"task-{name}, own type", "follow the patches of another picture")
    for name in swapped
}

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "What does the model say with a word's state in the patches?"}
patches.curves(
    "patch-first",
    "What does the model say with a word's state in the patches?",
    alt="Share of pictures by first answer and layer of the patch, for each language and each state written.",
    y="share of pictures",
    called={"data_type": "asked_in"},
)

# %% tags=["hide-input"]
patches.claims(
    "patch",
    "Asked in {name}, the state of another colour's English word in the patches pushes the answer to that colour.",
    needs=unable,
)

# %% tags=["hide-input"]
patches.claims(
    "patch-answer/english",
    "At some middle layer, with another colour's word in the patches, the model names that colour.",
    needs=unable["english"],
)

# %% [markdown]
# The push: {glue}`why-patch` The answer: {glue}`why-patch-answer`
#
# ## Intervention: two colours
#
# In a picture of two halves, at the patches of one, from a layer on, the paper replaces the state by the {term}`unembedding` row of a third
# colour minus that of the present one. The answer should name the third colour and the untouched one.
#
# :::{dropdown} Trap and controls
# The trap: whatever is put there wipes the old colour out, and a guess may hit. So a random direction, the present colour's own row and a
# fourth colour are put there too, and the layer is chosen on other pictures.
# :::

# %% tags=["hide-input"]
halves = vision.two_halves(max(1, n_items // 2), seed=seed, held_out=None)
colouring = vision.recolour_items(halves, manner=manner, seed=seed)
recoloured = chapter.run(media.Recolour(), colouring, series="two colours")
cannot_follow = recoloured.knows("task-two colours", "name both colours of a picture") or recoloured.knows(
    "task-two colours, own type", "follow a half of another colour"
)

# %% tags=["hide-input"]
recoloured.curves(
    "recolour",
    "Which colours does the model name, by the layer from which they are replaced?",
    alt="Share of pictures by outcome and by the first layer replaced, for each vector that is put into the half.",
    y="share of pictures",
)

# %% tags=["hide-input"]
recoloured.claims(
    "recolour",
    "With one half replaced from the layer that other pictures chose, the answer names the third colour and the other.",
    row=18,
    paper="Replacing one half's states by the difference of two colours' rows makes the answer name the third colour.",
    needs=cannot_follow,
)

# %% [markdown]
# {glue}`why-recolour`
#
# ## What you learned
#
# The question was whether a model that looks at a red square thinks of the word *red*.

# %% tags=["hide-input"]
chapter.finish(
    {
        "colours": "a plain picture reads as its colour",
        "answers": "asked in another language, the model names what it sees",
        "nouns": "a picture reads as the things its caption names",
        "similarity": "in the middle layers a picture is nearest to its own caption",
    }
)

# %% [markdown]
# - A picture that a model can answer questions about need not be one whose patches read as words: ask by more than one instrument.
# - Compare with every wrong word, not with one, and with the same picture without its content.
# - *What is in the picture* and *where it is* are two claims. The patches elsewhere in the same picture tell them apart.
#
# *What would change our mind:* of a yes, eyes behind islands, or shuffled pixels, that do as well; of a no, patches that read as their colour
# alone.
#
# **Try it.** Do the [exercises](../book/exercises/11_vision), or take photographs (`data_dir`).

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
# A picture comes to a language model as a row of vectors, one for each patch, made by an encoder that has never seen a word.
# If the model has one place for meaning, these vectors should end up near the words for what they show, though nobody will
# ever read a word off a patch. This chapter asks with similarity and with the lens, asks the model itself in several languages,
# and writes into the picture.
#
# :::{admonition} The paper's claim
# :class: paper-claim
# In LLaVA and Chameleon, a picture is most like its own caption in the middle layers. There, the lens names the colour of a
# plain picture at its patches, the nouns of a picture's caption are likelier than those of another one, and at the patches of a
# segment its label is likelier than a random other label {cite:p}`wu2025semantic`.
# :::
#
# | Before you start | |
# |---|---|
# | You should know | what a [lens, an interval and a null](02_instruments) are |
# | Time to read | 15 minutes |
# | Time to run | one minute on two cores with the book's own model |

# %% tags=["remove-cell"]
import sys

if "google.colab" in sys.modules:
    source = "semhub-utils @ git+https://github.com/semantic-hub-book/semantic-hub-book"
    get_ipython().run_line_magic("pip", f"install -q '{source}'")

# %% tags=["parameters"]
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
from semhub_utils.chapter import begin, diagram, glue
from semhub_utils.experiments import alike, core, media, patching, raising, regions, words
from semhub_utils.organism.corpus import ABROAD
from semhub_utils.spokes import vision

chapter = begin("vision", globals(), needs="image", n_items=(90, 90))
n_items = chapter.n_items
model = chapter.model

# %% tags=["hide-input"]
diagram("hub")

# %% [markdown]
# ## The pictures
#
# The paper takes photographs of COCO, which are had from cocodataset.org: put `val2017` and `annotations` into a folder `coco` and name
# the folder above it in `data_dir`. Without it you look at scenes of the shipped models' world, one to three coloured shapes, each with
# something in it that no training picture shows: a pair of colour and shape, or a shape in a place. Plain pictures are always made here.

# %%
plain = vision.plain_colours(n_items, seed=seed)
pictures = core.readable(model, vision.pictures(n_items, seed=seed, data_dir=data_dir), vision.alone)
parted = vision.pictures(n_items, seed=seed, data_dir=data_dir, segments=True)
parted = core.readable(model, parted, vision.alone)
notes = vision.nouns_found_by(data_dir), pictures.left_out, parted.left_out
glue("left_out", " ".join(filter(None, notes)) or "No picture was left out.")
[(picture.caption, picture.words) for picture in pictures[:4]]

# %% [markdown]
# {glue}`left_out`
#
# Before any claim: does the model see at all? Show it one shape and ask for the colour and the shape. The book's own models are asked in
# the sentences of their world, cut just before the answer, with the picture where a word would stand: *… has the color*, and, as their
# dictionary has it, *… english:*. Any other model is asked plainly: *What is the color in the image?*

# %% tags=["hide-input"]
manner = "world" if chapter.own else "plain"  # the shipped models know no other sentences
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
# It names the colour of {glue}`knows_colour` of the shapes and the shape of {glue}`knows_shape`. On the {glue}`n_unseen` pictures
# with a pair of colour and shape that no training picture of the book's models shows, it names {glue}`unseen_colour` of the colours and
# {glue}`unseen_shape` of the shapes. That is no condition for the lens below, since a model may see more than it says in such sentences;
# where a number is low, expect less.
#
# ## Similarity: is a picture like its caption?
#
# Compare the state at the picture's last position with the state at the last token of a caption: how often is its own caption
# the nearest, above chance? Two traps. Captions of two things are long and those of one are short, so a model could tell them
# apart by counting: only captions of as many things are compared and shuffled. The card has the cosines too, *corrected*
# against the same and *as released* against all. And pictures have colours even where nothing can be seen in them. So there
# are four more controls: each picture made blank (its mean colour), with its pixels shuffled, and replaced by white noise;
# and a model with random weights.

# %% tags=["hide-input"]
similarity = chapter.run(alike.Alike(), vision.similarity_pairs(pictures), series="captions")
similarity.curves(
    "similarity",
    "Is its caption the nearest to a picture?",
    alt="Share of pictures, above chance, whose caption is the nearest, with the null and controls without content.",
    y="share of pictures, above chance",
    types={"captions": "image"},
    reading=alike.NEAREST,
)

# %% [markdown]
# *How to read it.* The band is a 95% interval over contents: pictures of the same things in other places move together. The
# dotted line is what shuffled captions reach one time in twenty; what ends on the same word, or names the same thing first,
# moves together. A claim holds only above every grey curve.

# %% tags=["hide-input"]
similarity.curves(
    ["mid-rank", "neighbours", "cka"],
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
# ## Colours: what does the lens say of a plain picture?
#
# A picture of one colour says one thing at every patch. Read each image position through the lens: at which share of them is the colour's
# word the first of the whole vocabulary?
#
# The paper compares with *white*. The trap is that *white* is one word, and may be a rare one: any colour that the model likes
# better wins. *Corrected*, every colour is compared with all others, each as often right as wrong, and the null lets whole colours change
# places. A model that says *red* to everything gets nothing.

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
# *Readings.* **normed** applies the model's final norm before the unembedding; **raw** does so at the last layer alone. **tuned**, where the model has
# one (`semhub tune` makes it), sends the state through a translator first {cite:p}`belrose2023tuned`. It learns to foretell what the
# model would say right there, and nobody asks a model to say anything at a patch: so where *tuned* names no colour, the colour
# may be there all the same. The book's own was trained on lines of text, and on questions about pictures with nothing held out; one
# that `semhub tune` makes from a file of yours has met no picture, and at patches it is a guess. **jacobian** does without training
# {cite:p}`gurnee2026workspace`. **neighbours** does without the unembedding: which words of texts leave the states nearest to that of a
# patch {cite:p}`krojer2026latentlens`? So it can find what no row of the unembedding is like. **as released** is
# what the authors' code computes: raw, where the last point stands on another scale than the rest; and it alone compares with *white*. The claims rest on *normed*.

# %% tags=["hide-input"]
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
# ## Nouns: does the lens read the caption?
#
# Now pictures that show something. Take the words of the caption, average each word's lens probability over the image
# positions, and compare with the caption that has the least in common with this one. Things and colours are read apart: a model may have one
# and not the other.
#
# The paper sums probabilities and scales the other caption's sum to as many nouns. A sum rests on the few pictures where a word
# is likely, and a caption of frequent words beats one of rare words on any picture. *Corrected*, what both
# captions have is left out, both sides have as many words, logarithms are averaged, and there are two nulls, of which the harder counts: captions
# change pictures, and words change names.

# %% tags=["hide-input"]
kinds = {"things": "noun", "colours": "colour"}
read = {name: vision.caption_items(pictures, kind, seed=seed) for name, kind in kinds.items()}
both = regions.words_of([*read["things"], *read["colours"]])
nouns = chapter.run(regions.RightWords("nouns", words=both), read, readings=True, name="nouns")

# %% tags=["hide-input"]
nouns.curves(
    "nouns",
    "Are the caption's words likelier than another caption's?",
    alt="Log-probability of the caption's words minus another caption's, by relative depth, with null and controls.",
    y="own minus other (nats; as released, probability)",
    by="own caption",
    called={"data_type": "words"},
    types={"own caption": "image"},
)

# %% tags=["hide-input"]
nouns.curves(
    "nouns-probability",
    "And in probabilities, as in the paper?",
    alt="Mean lens probability of the words of the own caption and of another one by relative depth and reading.",
    y="probability, mean over positions",
    called={"data_type": "words", "right": "own caption", "wrong": "another caption"},
    types={"own caption": "english", "another caption": "control"},
)

# %% [markdown]
# *How to read it.* Below zero is a finding as well: the right word is then *less* likely at the picture than a wrong one. A
# patch is read by later layers and never said, so training need not bring its state near the word in the unembedding, and the
# logit lens may miss what is there: compared with states of texts in place of rows, far more patches of large models had a
# meaning {cite:p}`krojer2026latentlens`.

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
# ## Segments: is the word where the thing is?
#
# A caption's noun may be read anywhere in the picture. So take the patches that lie more than half inside an area, and ask there for
# the area's own word, against words of other pictures' areas. *As released*, one word is drawn at random; *corrected*, all are taken.
#
# One control decides whether this is about places: **elsewhere** is the same word at the other patches of the same picture. If it does
# as well there, the model knows what is in the picture and not where.

# %% tags=["hide-input"]
named = {name: vision.area_items(parted, kind, seed=seed) for name, kind in kinds.items()}
both = regions.words_of([*named["things"], *named["colours"]])
segments = chapter.run(regions.RightWords("segments", words=both), named, readings=True, name="segments")
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
# ## Look at it
#
# The means above come from pictures like these. Choose one, move through the layers, and see what the lens puts on each patch:
# the first of all words, or the first of the colours and things alone.

# %% tags=["hide-input"]
shown = parted[:3]
every_word = [*vision.COLOURS, *(word for picture in parted for area in picture.areas for word in area.words)]
laid = chapter.find("overlay", lambda: regions.overlay(model, shown, list(dict.fromkeys(every_word))))
laid.overlay(
    "Which word does each layer see where?",
    {name: picture.image for name, picture in vision.names(shown).items()},
    alt="A picture with the lens's first word written on each of its patches, at a layer that a slider chooses.",
    layer=model.n_layers // 2,
)

# %% [markdown]
# ## Ask in another language
#
# What the lens misses the model may still use. The sharpest test of a hub needs no lens: show the picture and ask in another
# language. If what a model sees arrives where English words do, and other languages leave from there, then it answers in them too.
# Where it was taught about pictures in those languages, an answer shows no more than that. In training, the book's model was asked
# in them for {glue}`abroad` alone, or it would say the English word to any question: of that model, these colours are not asked there.
#
# The trap is the commonest answer: who always says *red* is right now and then. So the score is the share of right answers minus what
# the commonest answer would get, against answers shuffled among the pictures, whole answers together. Intervals are over answers too,
# as what holds of one red thing holds of most; few answers make them wide. Controls are the same pictures without content and random weights.

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
# Choose *the English word for it* to see answers that are right, but not in the language of the question. The commonest colour
# alone would be right on {glue}`most_colour`, the commonest shape on {glue}`most_shape`.

# %% tags=["hide-input"]
answers.claims(
    "answers/english",
    "Asked in English for the colour of a shape, the model is right more often than the commonest answer.",
)

# %% tags=["hide-input"]
answers.claims(
    "answers",
    "Asked in {Name} for the colour, the model is right more often than the commonest answer.",
    needs=sees["colour"],
    of=("spanish", "chinese", "german"),
)

# %% [markdown]
# Is that a hub? Or would a few colours teach a model the way from any colour to its word? The same eyes were trained by the same
# recipe behind *islands*, a text model in which [no language shares anything](05_raising) with another. The share of right
# answers on the colours never asked for, from the cards of both trainings:

# %% tags=["hide-input"]
chapter.find("abroad", raising.abroad).bars(
    "abroad",
    "Does it answer without anything shared?",
    alt="Share of right answers on colours never asked for, by language, for eyes behind the hub and behind islands.",
    y="share of answers",
    by="language",
    called={"training": "behind"},
)

# %% [markdown]
# *How to read it.* Where a claim does not hold, there are three stories. The model says the English word: the picture arrives where English
# words are, and the way out to the other language is not taken. Or it says something else, since the picture never arrives where words
# are; or since the question in that language fetches its answer from elsewhere. The next two sections write into the picture.
#
# ## Interchange patch: does a word take the place of a colour?
#
# Take the last state of *the circle has the color blue*, and write it at one layer into every patch that shows any of a red circle. If words
# and patches keep colours in one place, the model now says *blue*, asked in English, and *azul*, asked in Spanish.
#
# The traps are those of any patch. Whatever disturbs the patches makes other answers likelier, so expected answers are
# shuffled for the null. A state is also written that names the colour which is there (nothing should change), one that names
# no colour, one of an earlier position of the same sentence, and a random push of the same length. *Own type* is no control
# but the best that can be had: the patches of a picture of the other colour. Where these turn fewer than half of the answers
# at any middle layer, patches are hardly read there, and the claims *cannot be tested here*. That can be so by build: a model
# trained from scratch to write pictures too tends to pass on what it sees through a single token behind the picture, one
# adapted from a text model through many patches {cite:p}`serra2024narrow`.

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

# %% tags=["hide-input"]
patches.curves(
    "patch-first",
    "What does the model say with a word's state in the patches?",
    alt="Share of pictures by first answer and layer of the patch, for each language and each state written.",
    y="share of pictures",
    called={"data_type": "asked_in"},
)

# %% tags=["hide-input"]
patches.claims(
    "patch/english",
    "At some middle layer, the state of another colour's word in the patches pushes the answer to that colour.",
    needs=unable["english"],
)

# %% tags=["hide-input"]
patches.claims(
    "patch-answer/english",
    "At some middle layer, with another colour's word in the patches, the model names that colour.",
    needs=unable["english"],
)

# %% tags=["hide-input"]
patches.claims(
    "patch/spanish",
    "Asked in Spanish, the English word's state in the patches pushes the answer to the Spanish word.",
    needs=unable["spanish"],
)

# %% [markdown]
# ## Intervention: two colours
#
# This is the paper's own. The picture has two halves of two colours, and the model is asked for both. At the patches of one half, from a
# layer on to the last, the state is *replaced* by the unembedding row of a third colour minus that of the present one. The
# answer should name the third colour and the untouched one. Every layer is tried as the first, and all four outcomes are counted:
# *intended*, *unchanged*, *other* colours, and *unparseable*.
#
# The trap is that whatever is put there wipes the old colour out, and a guess may hit. So a random direction of the same length is put
# there too, and so are the present colour's own row and a fourth colour. The layer is chosen on a quarter of the pairs of colours, in either
# order, and judged on the others. *Own type* is again the best that can be had: the state of a half that really has the third colour, put
# there at one layer. Where fewer than half of the answers follow it, the claim *cannot be tested here*. The release puts the difference as it is; here it is put at the length of each state it replaces, which is
# the same to a model that norms all it reads.

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
# ## What you learned
#
# The question was whether a model that looks at a red square thinks of the word *red*. The verdicts on this model, by rules
# fixed before the run:

# %%
chapter.finish(
    {
        "similarity": "in the middle layers a picture is nearest to its own caption",
        "colours": "a plain picture reads as its colour",
        "nouns": "a picture reads as the things its caption names",
        "segments": "a thing is read at its own patches",
        "answers": "asked in another language, the model names what it sees",
        "patch": "the state of a colour word pushes the answer to that colour",
        "recolour": "a patch of another colour changes the colours that are named",
    }
)

# %% [markdown]
# - A picture that a model can answer questions about need not be one whose patches read as words: ask by more than one instrument.
# - Compare with every wrong word, not with one, and with the same picture without its content.
# - *What is in the picture* and *where it is* are two claims. The patches elsewhere in the same picture tell them apart.
#
# **Try it.** Run the chapter on another checkpoint and on photographs: `semhub run vision --model ID_OR_FOLDER --set data_dir=FOLDER`. Then
# move the slider of the overlay and see at which layer, if at any, the words of the caption appear.

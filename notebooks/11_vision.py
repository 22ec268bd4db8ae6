# %% [markdown]
# # Vision
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/semantic-hub-book/semantic-hub-book/blob/main/notebooks/11_vision.ipynb)
#
# **When a model looks at a red square, does it think of the word *red*?**
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
n_items = 90  # pictures of each kind
seed = 0
data_dir = None  # a folder with COCO's own files; without it, scenes of the shipped models' world
results_dir = "results"

# %% tags=["hide-cell"]
from semhub_utils import experiments, figures
from semhub_utils.cards import show
from semhub_utils.chapter import begin
from semhub_utils.experiments import alike, core, media, patching, raising, words
from semhub_utils.organism.corpus import ABROAD
from semhub_utils.results import glue
from semhub_utils.spokes import vision

chapter = begin("vision", globals(), needs="image")
model = chapter.model

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
manner = "world" if model_id.startswith("organism:") else "plain"  # the shipped models know no other sentences
shapes = vision.scenes(n_items, seed=seed, held_out=None, kinds=("one",))
english = {kind: vision.ask_items(shapes, kind, "english", manner=manner) for kind in ("colour", "shape")}
task = {
    kind: chapter.step(f"task {kind}", lambda k=kind: words.task_table(model, english[k], own="own", series=k))
    for kind in english
}
precondition = chapter.knows(task["colour"], "name the colour of a shape in English")

# %% tags=["hide-input"]
held_out = [picture.id for picture in shapes if picture.held_out]
unseen = {kind: some[some.series.isin(held_out)].value for kind, some in task.items()}
glue("n_unseen", len(held_out))
glue("unseen_colour", unseen["colour"].mean(), ".0%")
glue("unseen_shape", unseen["shape"].mean(), ".0%")
glue("knows_colour", task["colour"].value.mean(), ".0%")
glue("knows_shape", task["shape"].value.mean(), ".0%")

# %% [markdown]
# It names the colour of {glue}`knows_colour` of the shapes and the shape of {glue}`knows_shape`. On the {glue}`n_unseen` pictures
# with a pair of colour and shape that no training picture of the book's models shows, it names {glue}`unseen_colour` of the colours and
# {glue}`unseen_shape` of the shapes. That is no condition for the lens below, since a model may see more than it says in such sentences;
# where a number is low, expect less.
#
# ## Similarity: is a picture like its caption?
#
# Compare the state at the picture's last position with the state at the last token of a caption, and subtract the mean cosine of
# pictures and captions that do not belong together. Two traps. Captions of two things are long and those of one are short, so
# a model could tell them apart by counting: *corrected* compares and shuffles only within as many things, *as released* compares with all.
# And pictures have colours even where nothing can be seen in them. So there are four more controls: each picture made blank (its
# mean colour), with its pixels shuffled, and replaced by white noise; and a model with random weights.

# %% tags=["hide-input"]
captions, baselines = vision.similarity_pairs(pictures), (alike.CORRECTED, alike.RELEASED)
similarity = chapter.step(
    "similarity", lambda: core.run(alike.Alike(baselines), model, captions, series="captions", seed=seed)
)
adjusted = similarity[similarity.experiment == "similarity"]
show(
    figures.curves(
        adjusted,
        title="Are a picture and its caption more alike than others?",
        alt="Adjusted cosine of pictures and captions by relative depth, with the null and controls without content.",
        y="cosine of matching pairs minus others",
        types={"captions": "image"},
    ),
    adjusted[["reading", "control", "layer", "value", "low", "high", "null_high", "n"]],
)

# %% [markdown]
# *How to read it.* The band is a 95% interval over contents: pictures of the same things in other places move together. The
# dotted line is what shuffled captions reach one time in twenty; what ends on the same word, or names the same thing first,
# moves together. A claim holds only above every grey curve.

# %% tags=["hide-input"]
nearest = similarity[similarity.experiment.isin(["retrieval", "neighbours", "cka"])]
nearest = nearest.assign(series=nearest.experiment)
show(
    figures.curves(
        nearest,
        title="Do other measures agree?",
        alt="Retrieval of the caption, mutual neighbours and debiased CKA by relative depth, with what chance reaches.",
        y="share of pictures, or CKA (0 to 1)",
    ),
    nearest[["series", "layer", "value", "low", "high", "null_high", "n"]],
)

# %% tags=["hide-input"]
chapter.claim(
    "similarity/captions",
    "At some middle layer, a picture is more alike to its own caption than to captions of as many things.",
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
colours = chapter.step("colours", lambda: experiments.colour_experiment(model, vision.colour_items(plain), seed=seed))
shares = colours[colours.experiment == "colours-probability"]
shares = shares.assign(
    series=shares.series.map({"right": "its colour", "wrong": "another"}) + ", " + shares.reading, reading=""
)
show(
    figures.curves(
        shares,
        title="At how many patches is the colour the first word?",
        alt="Share of image positions whose first lens word is the colour, or another one, by relative depth and reading.",
        y="share of image positions",
        types={name: "control" if "another" in name else "image" for name in shares.series},
    ),
    shares[["series", "layer", "value", "low", "high", "n"]],
)

# %% [markdown]
# *Readings.* **normed** applies the model's final norm before the unembedding; **raw** does so at the last layer alone. **tuned**, where the model has
# one (`semhub tune` makes it), sends the state through a translator first {cite:p}`belrose2023tuned`. It learns to foretell what the
# model would say right there, and nobody asks a model to say anything at a patch: so where *tuned* names no colour, the colour
# may be there all the same. The book's own was trained on lines of text, and on questions about pictures with nothing held out; one
# that `semhub tune` makes from a file of yours has met no picture, and at patches it is a guess. **as released** is
# what the authors' code computes: raw, where the last point stands on another scale than the rest; and it alone compares with *white*. The claims rest on *normed*.

# %% tags=["hide-input"]
above = colours[(colours.experiment == "colours") & (colours.reading == "normed")]
show(
    figures.curves(
        above,
        title="Is it more often the right colour than another?",
        alt="Share of positions with the right colour minus that of others, by relative depth, with null and controls.",
        y="share of positions, right minus other",
        types={"pictures": "image"},
    ),
    above[["control", "layer", "value", "low", "high", "null_high", "n"]],
)

# %% tags=["hide-input"]
chapter.claim(
    "colours/pictures",
    "At some middle layer, the first word at a plain picture's positions is its colour, more often than other colours.",
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
nouns = chapter.step("nouns", lambda: experiments.noun_experiment(model, read, seed=seed))
own = nouns[nouns.experiment == "nouns"].assign(words=lambda table: table.series, series="own caption")
show(
    figures.curves(
        own,
        title="Are the caption's words likelier than another caption's?",
        alt="Log-probability of the caption's words minus another caption's, by relative depth, with null and controls.",
        y="own minus other (nats; as released, probability)",
        types={"own caption": "image"},
        switch=("words", "reading"),
    ),
    own[["words", "reading", "control", "layer", "value", "low", "high", "null_high"]],
)

# %% tags=["hide-input"]
both = nouns[nouns.experiment == "nouns-probability"]
both = both.assign(series=both.series.map({"right": "own caption", "wrong": "another caption"}))
show(
    figures.curves(
        both,
        title="And in probabilities, as in the paper?",
        alt="Mean lens probability of the words of the own caption and of another one by relative depth and reading.",
        y="probability, mean over positions",
        types={"own caption": "english", "another caption": "control"},
        switch=("words", "reading"),
    ),
    both[["words", "series", "reading", "layer", "value", "low", "high", "n"]],
)

# %% [markdown]
# *How to read it.* Below zero is a finding as well: the right word is then *less* likely at the picture than a wrong one. A patch is read by later
# layers and never said, so training need not bring its state near the word in the unembedding, and the logit
# lens may miss what is there {cite:p}`krojer2026latentlens`.

# %% tags=["hide-input"]
chapter.claim(
    "nouns/things",
    "At some middle layer, the things of a picture's caption are likelier than those of another caption.",
    paper="The nouns of the caption are ahead of those of the least overlapping caption.",
)

# %% tags=["hide-input"]
chapter.claim(
    "nouns/colours",
    "At some middle layer, the colours that the caption names are likelier than those of another caption.",
    paper="The paper reads nouns alone.",
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
segments = chapter.step("segments", lambda: experiments.segment_experiment(model, named, seed=seed))
there = segments[segments.experiment == "segments"].assign(words=lambda table: table.series, series="own word")
show(
    figures.curves(
        there,
        title="Is an area's word likelier there than others?",
        alt="Log-probability of an area's word minus that of others at its patches by relative depth, with controls.",
        y="own minus others (nats; as released, probability)",
        types={"own word": "image"},
        switch=("words", "reading"),
    ),
    there[["words", "reading", "control", "layer", "value", "low", "high", "null_high"]],
)

# %% tags=["hide-input"]
chapter.claim(
    "segments/things",
    "At some middle layer, a thing's word is likelier at its patches than others, and than elsewhere in the picture.",
    paper="At the patches of a segment its label is likelier than a random other label.",
)

# %% tags=["hide-input"]
chapter.claim(
    "segments/colours",
    "At some middle layer, an area's colour is likelier at its patches than others, and than elsewhere in the picture.",
    paper="The paper reads labels alone.",
)

# %% [markdown]
# ## Look at it
#
# The means above come from pictures like these. Choose one, move through the layers, and see what the lens puts on each patch:
# the first of all words, or the first of the colours and things alone.

# %% tags=["hide-input"]
shown = parted[:3]
every_word = [word for picture in parted for area in picture.areas for word in area.words]
laid = chapter.step(
    "overlay", lambda: experiments.overlay(model, shown, list(dict.fromkeys([*vision.COLOURS, *every_word])))
)

# %% tags=["hide-input"]
told = laid.groupby(["picture", "reading", "among", "layer"], sort=False)
told = told.agg(right=("right", "mean"), word=("word", lambda some: some.mode()[0])).reset_index()
show(
    figures.overlay(
        laid,
        {name: picture.image for name, picture in vision.names(shown).items()},
        title="Which word does each layer see where?",
        alt="A picture with the lens's first word written on each of its patches, at a layer that a slider chooses.",
        layer=model.n_layers // 2,
    ),
    told[told.among == "all words"].rename(columns={"right": "share true", "word": "most frequent word"}),
) if len(laid) else "This model lays its patches on no grid."

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
answers = chapter.each(
    "answers",
    asked,
    lambda name: core.run(words.Answers(), model, asked[name], series=name, over="moves_with", seed=seed),
)
most = answers[answers.experiment == "answers-commonest"].set_index("series").value
glue("abroad", f"{', '.join(ABROAD[:-1])} and {ABROAD[-1]}")
glue("most_colour", most.get("english", float("nan")), ".0%")
glue("most_shape", most.get("english, shape", float("nan")), ".0%")

# %% tags=["hide-input"]
said = {"answers": "the right word", "answers-english": "the English word for it"}
right = answers[answers.experiment.isin(said)]
right = right.assign(
    reading=right.experiment.map(said),
    series=[name if "shape" in name else f"{name}, colour" for name in right.series],
)
show(
    figures.bars(
        right,
        title="In which languages does it answer?",
        alt="Share of answers that are right, or right in English, by language and by what is asked, with intervals.",
        y="share of answers",
    ),
    right[["series", "reading", "value", "low", "high", "n"]],
)

# %% [markdown]
# Choose *the English word for it* to see answers that are right, but not in the language of the question. The commonest colour
# alone would be right on {glue}`most_colour`, the commonest shape on {glue}`most_shape`.

# %% tags=["hide-input"]
chapter.claim(
    "answers/english",
    "Asked in English for the colour of a shape, the model is right more often than the commonest answer.",
    paper="The paper asks in English alone.",
)

# %% tags=["hide-input"]
chapter.claims(
    "answers",
    {
        name: f"Asked in {name.title()} for the colour, the model is right more often than the commonest answer."
        for name in ("spanish", "chinese", "german")
    },
    paper="The paper asks in English alone.",
    precondition=precondition,
)

# %% [markdown]
# Is that a hub? Or would a few colours teach a model the way from any colour to its word? The same eyes were trained by the same
# recipe behind *islands*, a text model in which [no language shares anything](05_raising) with another. The share of right
# answers on the colours never asked for, from the cards of both trainings:

# %% tags=["hide-input"]
eyes = raising.abroad()
show(
    figures.bars(
        eyes.assign(series=eyes.language, reading="behind " + eyes.trunk),
        title="Does it answer without anything shared?",
        alt="Share of right answers on colours never asked for, by language, for eyes behind the hub and behind islands.",
        y="share of answers",
    ),
    eyes,
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
# The traps are those of any patch. Whatever disturbs the patches makes other answers likelier, so expected answers are shuffled for
# the null. A state is also written that names the colour which is there (nothing should change), one that names no colour, one of an earlier
# position of the same sentence, and a random push of the same length. *Own type* is no control but the best that can be had: the
# patches of a picture of the other colour. Where these turn fewer than half of the answers at any middle layer, patches are
# hardly read there, and the claims *cannot be tested here*.

# %% tags=["hide-input"]
swapped = {
    language: vision.picture_patches(shapes[: (n_items + 1) // 2], language, manner=manner, seed=seed)
    for language in ("english", "spanish")
}
patches = chapter.each(
    "patches",
    swapped,
    lambda language: patching.interchange(model, swapped[language], series=language, seed=seed),
    column="asked",
)

# %% tags=["hide-input"]
follow = "follow the patches of another picture"
unable = {
    language: chapter.follows(patches, language, f"name the colour in {language.title()}", follow)
    for language in swapped
}

# %% tags=["hide-input"]
said = patches[patches.experiment == "patch-first"]
show(
    figures.curves(
        said,
        title="What does the model say with a word's state in the patches?",
        alt="Share of pictures by first answer and layer of the patch, for each language and each state written.",
        y="share of pictures",
        switch=("asked", "condition"),
    ),
    said[["asked", "condition", "series", "layer", "value", "low", "high", "n"]],
)

# %% tags=["hide-input"]
chapter.claim(
    "patch/english",
    "At some middle layer, the state of another colour's word in the patches pushes the answer to that colour.",
    paper="The paper writes unembedding rows into patches; it moves no state of a text.",
    precondition=unable["english"],
)

# %% tags=["hide-input"]
chapter.claim(
    "patch-answer/english",
    "At some middle layer, with another colour's word in the patches, the model names that colour.",
    paper="The paper writes unembedding rows into patches; it moves no state of a text.",
    precondition=unable["english"],
)

# %% tags=["hide-input"]
chapter.claim(
    "patch/spanish",
    "Asked in Spanish, the English word's state in the patches pushes the answer to the Spanish word.",
    paper="The paper asks about pictures in English alone.",
    precondition=unable["spanish"],
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
push = media.Recolour()
recoloured = chapter.step("recolour", lambda: core.run(push, model, colouring, series="two colours", seed=seed))
can_follow = chapter.follows(
    recoloured, "two colours", "name both colours of a picture", "follow a half of another colour"
)

# %% tags=["hide-input"]
outcomes = recoloured[recoloured.experiment == "recolour"]
show(
    figures.curves(
        outcomes.drop(columns="reading"),
        title="Which colours does the model name, by the layer from which they are replaced?",
        alt="Share of pictures by outcome and by the first layer replaced, for each vector that is put into the half.",
        y="share of pictures",
        switch=("condition",),
    ),
    outcomes[["condition", "series", "layer", "value", "low", "high", "n"]],
)

# %% tags=["hide-input"]
chapter.claim(
    "recolour/two colours",
    "With one half replaced from the layer that other pictures chose, the answer names the third colour and the other.",
    paper="Replacing one half's states by the difference of two colours' rows makes the answer name the third colour.",
    precondition=can_follow,
)

# %% [markdown]
# ## What you learned
#
# The question was whether a model that looks at a red square thinks of the word *red*. The verdicts on this model, by rules
# fixed before the run:

# %%
chapter.finish()

# %% [markdown]
# - A picture that a model can answer questions about need not be one whose patches read as words: ask by more than one instrument.
# - Compare with every wrong word, not with one, and with the same picture without its content.
# - *What is in the picture* and *where it is* are two claims. The patches elsewhere in the same picture tell them apart.
#
# **Try it.** Run the chapter on another checkpoint and on photographs: `semhub run vision --model ID_OR_FOLDER --set data_dir=FOLDER`. Then
# move the slider of the overlay and see at which layer, if at any, the words of the caption appear.

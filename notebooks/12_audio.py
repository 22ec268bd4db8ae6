# %% [markdown]
# # Audio
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/semantic-hub-book/semantic-hub-book/blob/main/notebooks/12_audio.ipynb)
#
# **When a model hears a dog bark, does it hold the word *dog*, and does it use it?**
#
# ```{glue} answer
# ```
#
# A language model that hears gets a sound as a row of vectors, one for each small stretch of time, put where words would
# stand. Nobody asks that these vectors look like words. If meaning lives in a shared space, they should come to lie where the
# words lie all the same, and what is done to them in English should be felt in every language that asks.
#
# :::{admonition} The paper's claim
# :class: paper-claim
# In SALMONN, a Vicuna decoder behind an audio encoder, a clip is most like its own label's text in the middle layers, and the
# lens finds the label's words at the audio positions. When another animal's word is added to the sound of a mammal in a middle
# layer, the answer to *Is this animal a mammal?* drifts from *Yes* to *No*, and the other way round {cite:p}`wu2025semantic`.
# :::
#
# | Before you start | |
# |---|---|
# | You should know | what a [lens, an interval and a null](02_instruments) are, and how [steering](08_steering) is judged |
# | Time to read | 20 minutes |
# | Time to run | one minute on two cores with the book's own model |

# %% tags=["remove-cell"]
import sys

if "google.colab" in sys.modules:
    source = "semhub-utils @ git+https://github.com/semantic-hub-book/semantic-hub-book"
    get_ipython().run_line_magic("pip", f"install -q '{source}'")

# %% tags=["parameters"]
model_id = "organism:hub-hears"  # a hub id or folder of a model that takes sounds, or the one that ships with the book
revision = None
device = "cpu"
dtype = "float32"
items = "auto"  # generated, or with data_dir the set's own files
n_items = None  # clips: 96
seed = 0
data_dir = None  # a folder with ESC-10, ESC-50 or VGGSound; without it the chapter makes its own sounds
plain_questions = None  # ask as one asks an assistant: yes or no, or by default so for all but the book's own models
results_dir = "results"

# %% tags=["hide-cell"]
from semhub_utils.chapter import begin, diagram, glue
from semhub_utils.experiments import alike, core, media, patching, regions, words
from semhub_utils.finding import Html, data_table
from semhub_utils.spokes import audio, vision
from semhub_utils.widgets import ClipPlayer

chapter = begin("audio", globals(), "plain_questions", needs="sound", n_items=(96, 96))
n_items = chapter.n_items
model = chapter.model

# %% tags=["hide-input"]
diagram("similarity")

# %% [markdown]
# ## The sounds
#
# VGGSound is hard to get, so the chapter makes its own sounds: animals, instruments and machines out of sines, frequency
# modulation and filtered noise, varied in pitch, length, loudness and background. The book's small model was trained on such
# sounds with English sentences, and on nothing in another language. The clips here have combinations of pitch and length that
# it never heard of their source. To a model raised on real sounds these are strangers, whatever they are called. Real
# recordings are read from `data_dir`: ESC-10 or ESC-50 (GitHub karolpiczak/ESC-50), or VGGSound's csv and wav files
# (robots.ox.ac.uk/~vgg/data/vggsound), with their labels as texts.

# %%
if data_dir:
    clips = core.readable(model, audio.read_clips(n_items, seed=seed, data_dir=data_dir), audio.heard)
else:
    clips = audio.clips(n_items, seed=seed)
glue("n_clips", len(clips))
glue("n_labels", len({clip.label for clip in clips}))
print(f"{len(clips)} clips. {clips.left_out}")

# %% [markdown]
# That makes {glue}`n_clips` clips with {glue}`n_labels` labels. Play a few. Under each lies its spectrogram, and under that the
# word which the [logit lens](02_instruments) finds likeliest at every moment, at the layer that you choose. While the sound
# plays, the cursor follows.

# %% tags=["hide-input"]
player = ClipPlayer.from_clips(regions.sound_lens(model, audio.short_clips(clips, 4)))
player

# %% tags=["hide-input"]
Html(data_table(player.summary()), "The commonest first word by clip, reading and layer.")

# %% [markdown]
# *How to read it.* If the decoder held words where it hears sounds, the strip would name the animal, its call, or something
# near it, at some layer between the first and the last. What stands there may look like words and mean nothing, as a lens
# always names some word: so you count, below. *normed* and *raw* are the readings with the model's final norm at every layer and at the last alone;
# *tuned*, where the model has it, is explained there.
#
# ## Similarity: is a clip like its label?
#
# Compare the state at the last token of a clip with that of its label's text. As before, cosine alone will not do: you ask
# how often the own label is the nearest, above chance, and whether that could come from labels shuffled among clips. Clips of
# one label move together in that null, as they all stand beside the same text.
#
# The last token of a bare clip is its last stretch of sound, often its fading. So there is a second way: put the clip and the
# label in the same sentence, *... is a kind of*, and compare the states at its end, where the model has to use what it heard.

# %% tags=["hide-input"]
ways = {"sound alone": "{}", "in a sentence": "{} is a kind of"}
about = {name: clips for name in ways}
similarity = chapter.run(lambda name: regions.AlikeLabel(ways[name]), about, over="moves_with", name="similarity")
looks = {"sound alone": "sound", "in a sentence": "english", "chance": "null"}

# %% tags=["hide-input"]
similarity.curves(
    "clip-label",
    "Is its own label the nearest to a clip?",
    alt="Share of clips, above chance, whose label is the nearest of its group, with null and controls.",
    y="share of clips, above chance",
    types=looks,
    reading=alike.NEAREST,
)

# %% [markdown]
# *How to read it.* The band is a 95% interval over labels, whose clips are alike; labels are also
# the independent units that a claim needs enough of. Labels are compared within the own group, animals with animals, so
# that knowing the group is not enough. On the card stand the cosines too, *corrected* against the own group and *as released*
# against all. The grey curves are controls: the embedding layer, which is what the encoder alone has done; silence, white
# noise, and each clip's own samples in random order; and the same architecture with random weights.
#
# Is the own label also the nearest of all labels, of whatever group?

# %% tags=["hide-input"]
retrieval = similarity.of("clip-retrieval", control="")
retrieval.changed(lambda table: table.drop_duplicates(["series", "layer"])).curves(
    "clip-retrieval",
    "How often is the own label the nearest?",
    alt="Share of clips whose own label is the nearest of all labels by relative depth, with chance.",
    y="share of clips",
    types=looks,
)

# %% tags=["hide-input"]
similarity.claims(
    "clip-label/sound alone",
    "In the middle layers, more than before and after, the nearest label of its group to the end of a clip is its own.",
    row=19,
    paper="A clip is most like its label's text in the middle layers.",
)

# %% tags=["hide-input"]
similarity.claims(
    "clip-label/in a sentence",
    "In the middle layers, more than before and after, a sentence about a clip is nearest to that about its own label.",
)

# %% [markdown]
# ## Label words: does the lens name the sound?
#
# Read every audio position through the unembedding. A label's number is the mean probability of its words over the positions of
# the clip. You compare the own label with the others that have as many words, none of them in common, and belong to the same
# group. Frequent words are no danger then: each label is right for some clips and wrong for others. *as released* compares, as the
# authors do, with one label that has no word in common, however long it is and whatever its group, in probabilities.

# %% tags=["hide-input"]
labelled = chapter.run(
    regions.LabelWords(), clips, series="sound", readings=True, over="moves_with", name="label words"
)

# %% tags=["hide-input"]
labelled.curves(
    "label-words",
    "Are the label's words ahead of other labels'?",
    alt="Log probability of the own label's words minus that of other labels by relative depth, with null and controls.",
    y="own label minus others (nats; as released, probability)",
)

# %% tags=["hide-input"]
labelled.curves(
    "label-probability",
    "How likely are the label's words?",
    alt="Mean lens probability of the own label's words and of other labels' words by relative depth, by reading.",
    y="mean lens probability",
    types={"own label": "sound", "other labels": "control"},
)

# %% [markdown]
# *Readings.* **normed** applies the model's final norm before the unembedding, **raw** does so at the last layer alone, as
# the authors' release does. **tuned**, where the model has it, first sends the state through a translator trained to foretell
# the output {cite:p}`belrose2023tuned`; `semhub tune MODEL` makes one. While a sound lasts no one asks for an output, so a translator
# that does not name the label has not shown that it is missing. The book's own was trained on lines of text, and on questions
# about sounds with nothing held out; one made from a file of yours has met no sound. **jacobian** does without training
# {cite:p}`gurnee2026workspace`, and **neighbours** without the unembedding: which words of texts leave the states nearest to that of a
# frame {cite:p}`krojer2026latentlens`? The claim rests on *normed*.
#
# A probability may rise and the word still be far from the first. So you also count the positions at which it is the first of
# the whole vocabulary, and you look at its rank, at how sure the lens is of any word, and whether the label's word comes and
# goes while the sound does.

# %% tags=["hide-input"]
labelled.curves(
    "label-first",
    "How often is a word of the label the first of all words?",
    alt="Share of audio positions whose likeliest lens word is of the own label or of another one, by relative depth.",
    y="share of audio positions",
    types={"own label": "sound", "other labels": "control"},
)

# %% tags=["hide-input"]
labelled.curves(
    {"label-rank": "rank of the label's best word", "label-entropy": "entropy of the lens (nats)"},
    "At which rank does the label stand, and how sure is the lens?",
    alt="Mean rank of the best word of the own label, or mean entropy of the lens, by relative depth and reading.",
    y="mean over audio positions",
    by="own label",
    types={"own label": "sound"},
)

# %% tags=["hide-input"]
labelled.heatmap(
    "label-time",
    "When is the label's word ahead?",
    x="time",
    y="layer",
    value="own minus others (nats)",
    alt="Log probability of the own label's words minus that of others by layer and by time within the clip.",
    x_title="time (share of the clip)",
    diverging=True,
)

# %% tags=["hide-input"]
labelled.claims(
    "label-words",
    "At some middle layer, the lens finds the label's words at the audio positions likelier than other labels' words.",
    row=20,
    paper="The words of the label are likelier at the audio positions than those of a label with no word in common.",
)

# %% [markdown]
# The lens asks for one thing: that a sound lie where the *output* has its words. It may lie where the *input* has them, or
# where middle layers have them, and the lens would not see it ({cite:t}`krojer2026latentlens` find that of pictures). The
# similarity above and the interventions below do not have that blind spot.
#
# ## A question never taught: what kind of animal is it?
#
# The book's model heard sounds with their names and calls, in English. It was never told of a sound whether it is a *mammal*:
# that stands only in texts, about words. And no other language was ever beside a sound. So you ask for the kind of every animal
# it hears, in each language and in code. A model used to being asked gets *Is this animal a mammal?* instead.
#
# The trap is the commonest answer: a model that always says *mammal* is right on every mammal. So you count how far it is above
# that, and shuffle the kinds among the animals for the null. Intervals are over animals too, here and in the pushes below, as what
# holds of a dog's bark holds of most barks. Every animal that the chapter makes a sound of is heard equally often. From recordings
# it takes those whose label names an animal of which the world's facts state the kind, such as *dog bark*.

# %% tags=["hide-input"]
plain = not chapter.own if plain_questions is None else plain_questions
languages = [*(audio.YES_NO if plain else vision.LANGUAGES)]
if data_dir:
    animals = audio.read_clips(n_items, seed=seed, data_dir=data_dir, animals=True)
    known = animals = core.readable(model, animals, audio.heard) if animals else animals
else:
    animals = audio.animal_clips(n_items, seed=seed, held_out=None)
    every = audio.clips(max(16, n_items // 2), seed=seed, held_out=None, groups=("animal",))
    known = [clip for clip in every if clip.kind]  # of one animal the world does not say what it is
print(f"{len(animals)} clips of {len({clip.label for clip in animals})} animals. {animals.left_out}")

# %% tags=["hide-input"]
asked = {name: audio.kind_items(known, name, plain=plain, forms=(0, 1, 2)) for name in languages}
answers = chapter.run(words.Answers(among=True), asked, over="moves_with")
task, commonest = answers.rows("task-answers english").value, answers.of("answers-commonest", series="english")
share = commonest.table.value.fillna(0).max()
precondition = answers.knows("task-answers english", "say in English what kind of animal it hears", chance=share)
glue("task", task.mean() if len(task) else 0.0, ".0%")

# %% tags=["hide-input"]
always = commonest.changed(lambda table: table.assign(series="commonest answer", reading=""))
(answers.of("answers") + always).bars(
    ("answers", "answers-commonest"),
    "How often is the kind of animal right?",
    alt="Share of questions about the kind of an animal answered rightly, by language, beside the commonest answer.",
    y="share of questions",
    types={"commonest answer": "control"},
)

# %% [markdown]
# In English, {glue}`task` of the answers are right. *among its answers* takes the likeliest of the words that could answer;
# *among all words* asks that the right one be the first of the whole vocabulary. The claims rest on the former.

# %% tags=["hide-input"]
answers.claims(
    "answers",
    "Asked in {Name}, the model says what kind of animal it hears more often than the commonest answer would.",
    needs=precondition,
    of=languages[1:],
)

# %% [markdown]
# ## Intervention: does the answer follow an English word?
#
# Now you write. While the model listens to a dog, add to every audio position the word of an animal of the other class,
# *snake*, and take away *dog*. As in the paper, a word's vector is its row of the unembedding. Then ask for the kind, and look
# at the share of *mammal* (or *Yes*) among the answers. It should fall for mammals and rise for the others.
#
# Three traps. A strong push breaks the run, and a broken run gives one answer to everything: so the score is the change in the
# right direction, minus the larger of what random directions and the reversed vector do. Some layer and strength always look
# good: they are chosen on a quarter of the animals of each class and judged on the others. And a word may lean to *mammal* by
# itself: the null shuffles which of the animals are called mammals. Swapping in another animal of the *same* class is the
# sharpest control; *random weights* is the same architecture that has learned nothing.
#
# The paper's dose is in multiples of the row itself, and says nothing to a model whose states are of another length. Here it is
# in lengths of the state. *as released* in the figure has the paper's own doses, 10 to 100 rows, at its depth.

# %% tags=["hide-input"]
pushed = {name: audio.kind_items(animals, name, plain=plain) for name in languages if name in audio.YES_NO}
english, by_state = {"english": pushed["english"]}, media.AnimalPush(by="states")
rows = chapter.find("rows", lambda: media.push_animals(media.AnimalPush(), model, english, seed=seed))
states = chapter.find("states", lambda: media.push_animals(by_state, model, pushed, seed=seed))

# %% tags=["hide-input"]
rows.dose(
    "push-dose",
    "Does the unembedding of another animal turn the answer? (English)",
    alt="Share of the answer mammal or Yes by strength of the push, for mammals and others, by kind of vector.",
    y="share of mammal or Yes",
    x_title="strength (lengths of the state, or rows)",
    types={"mammals": "sound", "others": "digits"},
)

# %% tags=["hide-input"]
rows.claims(
    "push-unembedding/english/mammals",
    "The unembedding of another animal turns the answer for mammals, more than chance or the reversed vector.",
    row=21,
    paper="Mammals drift to No.",
    needs=precondition,
)

# %% tags=["hide-input"]
rows.claims(
    "push-unembedding/english/others",
    "The unembedding of a mammal turns the answer for other animals, more than chance or the reversed vector.",
    row=21,
    paper="Other animals drift to Yes.",
    needs=precondition,
)

# %% [markdown]
# An unembedding row is how the *output* writes a word. There is a second vector to try: the word's own state, read in the text
# *snake* at the layer where it is added. It is how the middle layers hold the word when they read it.

# %% tags=["hide-input"]
choice = (rows.of(control="") + states).changed(lambda table: table.drop(columns="class"))  # which of them moves less
choice.changed(lambda table: table.assign(by=table.control.fillna(table.by), control="")).heatmap(
    "push-choice",
    "Which layer and strength? (the animals for choosing)",
    alt="Change of the share of mammal or Yes in the right direction by layer and strength, for both kinds of vector.",
    x="strength",
    y="layer",
    value="change (the class that moves less)",
)

# %% tags=["hide-input"]
states.dose(
    "push-dose",
    "Does the state of another animal's word turn the answer? (English)",
    alt="Share of the answer mammal or Yes by strength of the push with word states, for mammals and others.",
    y="share of mammal or Yes",
    x_title="strength (lengths of the state)",
    types={"mammals": "sound", "others": "digits"},
    language="english",
)

# %% tags=["hide-input"]
states.claims(
    "push-states/english/mammals",
    "The word state of another animal turns the answer for mammals, more than chance or the reversed vector.",
    needs=precondition,
)

# %% tags=["hide-input"]
states.claims(
    "push-states/english/others",
    "The word state of a mammal turns the answer for other animals, more than chance or the reversed vector.",
    needs=precondition,
)

# %% [markdown]
# ## Push in English, ask in another language
#
# The sharpest question of the chapter. The sound was only ever beside English. Push with English words, at the layer and strength
# chosen in English, and ask in Spanish, Chinese and German. If the answer turns there too, what was pushed is not an English
# habit of the output.

# %% tags=["hide-input"]
states.dose(
    "push-dose",
    "Does an English word turn the answer in every language?",
    alt="Share of the answer mammal or Yes by strength of the English push, for mammals and others, by language asked.",
    y="share of mammal or Yes",
    x_title="strength (lengths of the state)",
    types={"mammals": "sound", "others": "digits"},
    condition="other class",
)

# %% tags=["hide-input"]
states.claims(
    "push-states",
    "English word states turn the answer to a question in {Name}, more than chance or the reversed vector.",
    needs=precondition,
    of=[name for name in pushed if name != "english"],
)

# %% [markdown]
# ## Interchange patch: does the answer follow a word written over the sound?
#
# A push adds to what is there. Now you take the sound away: at one layer, every audio position gets the state of the last word of
# *Emma sees the snake*. If a word and a sound lie in one place, the model goes on as if it had heard a snake, and says the
# snake's kind, in English and in Spanish.
#
# Two traps. A patch that wrecks the run makes every other answer likelier, so the expected answers are shuffled for the null.
# And a model may not read those positions at that layer any more, whoever writes there: *own type* writes the state of
# another clip, and shows what a patch can do at best. Where not even that moves the answer at any middle layer, the claims
# *cannot be tested here*. Layer 0, where the word stands in the place of the sound before the
# decoder has run, is a control here as everywhere: the claim is about the layers after it.

# %% tags=["hide-input"]
manner = "plain" if plain else "world"
swapped = {
    name: audio.sound_patches(animals[:40], name, kind="kind", manner=manner, seed=seed)
    for name in ("english", "spanish")
}
patches = chapter.find_each(
    "patch", swapped, lambda name: patching.interchange(model, swapped[name], series=name, seed=seed)
)

# %% tags=["hide-input"]
patches.changed(lambda table: table[table.condition != "earlier position"]).curves(
    "patch-first",
    "What kind is named with a word written over the sound?",
    alt="Share of clips by first answer and layer of the patch, by language asked and by the state that was written.",
    y="share of clips",
    called={"data_type": "asked_in"},
)

# %% tags=["hide-input"]
unable = {
    name: patches.knows(f"task-{name}", f"say in {name.title()} what kind of animal it hears")
    or patches.knows(f"task-{name}, own type", "follow the sound of another clip")
    for name in swapped
}
patches.claims(
    "patch-answer",
    "Asked in {Name}, the model says the kind of the English word written over the sound.",
    needs=unable,
)

# %% [markdown]
# ## What you learned
#
# The question was whether a model that hears a dog bark holds the word *dog*, and uses it. The verdicts on this model, by rules
# fixed before the run:

# %%
chapter.finish(
    {
        "clip-label": "in the middle layers a sound is nearest to its own label",
        "label-words": "the label's words are read at the sound",
        "answers": "asked in another language, the model says what it hears",
        "push-states": "the state of a word turns the answer",
        "push-unembedding": "a word's row of the unembedding turns the answer",
        "patch-answer": "the state of a word written over the sound is answered",
    }
)

# %% [markdown]
# - A lens sees only what lies where the output has its words. Compare with states of words before you say that there are none.
# - What the encoder alone has done is a control: it may lay a sound beside its name before the decoder has run.
# - Asking in a language, or for a fact, that was never beside a sound tests the hub harder than any reading.
#
# **Try it.** Run the chapter on a checkpoint that hears, or on recordings: `semhub run audio --model ID_OR_FOLDER --set
# data_dir=FOLDER`. Then ask which of the verdicts changed, and whether the answers in English explain it.

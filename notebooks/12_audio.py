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
# A model that hears gets a vector for each stretch of time, where words would stand. If meaning lives in a shared space, these come to
# lie where the words lie, and what is done to them in English is felt in every language.
#
# :::{admonition} The paper's claim
# :class: paper-claim
# In SALMONN, a Vicuna decoder behind an audio encoder, a clip is most like its own label's text in the middle layers, and the
# lens finds the label's words at the audio positions. When another animal's word is added to the sound of a mammal, the answer to
# *Is this animal a mammal?* drifts from *Yes* to *No*, and the other way round {cite:p}`wu2025semantic`.
# :::
#
# You should know what a [lens, an interval and a null](02_instruments) are, and how [steering](08_steering) is judged. Time to read: 12 minutes.
#
# **After this chapter you can**
#
# - say what a lens cannot see, though it is there;
# - tell what the encoder did from what the decoder did;
# - ask a model for something it was never told of a sound.

# %% tags=["remove-cell"]
import sys

if "google.colab" in sys.modules:
    source = "semhub-utils @ git+https://github.com/semantic-hub-book/semantic-hub-book"
    get_ipython().run_line_magic("pip", f"install -q '{source}'")

# %% tags=["parameters", "hide-input"]
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
from semhub_utils.chapter import begin, diagram, glue, together
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
# The chapter makes its own: animals, instruments and machines out of sines and noise, in combinations of pitch and length that the book's
# model, trained on such sounds with English sentences alone, never heard. `data_dir` takes recordings (ESC-10, ESC-50, VGGSound).

# %% tags=["hide-input"]
if data_dir:
    clips = core.readable(model, audio.read_clips(n_items, seed=seed, data_dir=data_dir), audio.heard).some("clips")
else:
    clips = audio.clips(n_items, seed=seed)
glue("n_clips", len(clips))
glue("n_labels", len({clip.label for clip in clips}))
glue("left_out", clips.left_out)

# %% [markdown]
# {glue}`n_clips` clips with {glue}`n_labels` labels. {glue}`left_out` Play some: below each moment of the spectrogram stands the word that the
# {term}`lens <logit lens>` finds likeliest there, at the layer that you choose.

# %% tags=["hide-input"]
plain = not chapter.own if plain_questions is None else plain_questions
manner = "plain" if plain else "world"
played = audio.short_clips(clips, 8)
says = core.first_words(model, [audio.name_question(clip, manner) for clip in played])
read = regions.sound_lens(model, played)
player = ClipPlayer.from_clips([clip | {"said": said} for clip, said in zip(read, says, strict=True)])
player

# %% tags=["hide-input"]
Html(data_table(player.summary()), "The commonest first word by clip, reading and layer.")

# %% [markdown]
# If the decoder held words there, some layer would name the animal. A lens always names *some* word: so you count.

# %% [markdown]
# ## A question never taught: what kind of animal is it?
#
# To the book's model, that a dog is a *mammal* stood only in texts, and no other language was ever beside a sound. So ask for the kind of every animal, in
# each language and in code. The trap is the commonest answer: who always says *mammal* is right on every mammal. So you count how far
# above that it is, over animals.
#
# :::{predict} Will it answer in Spanish, Chinese and German?
# - Yes, as in English
# - No: it heard sounds beside English alone
# - In some
# +++
# {glue}`verdict-answers`
# :::

# %% tags=["hide-input"]
languages = [*(audio.YES_NO if plain else vision.LANGUAGES)]
if data_dir:
    animals = audio.read_clips(n_items, seed=seed, data_dir=data_dir, animals=True)
    known = animals = core.readable(model, animals, audio.heard).some("clips") if animals else animals
else:
    animals = audio.animal_clips(n_items, seed=seed, held_out=None)
    every = audio.clips(max(16, n_items // 2), seed=seed, held_out=None, groups=("animal",))
    known = [clip for clip in every if clip.kind]  # of one animal the world does not say what it is
glue("animals", f"{len(animals)} clips of {len({clip.label for clip in animals})} animals. {animals.left_out}".strip())

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
    called={"reading": "chosen"},
    types={"commonest answer": "control"},
)

# %% [markdown]
# Other clips now: {glue}`animals` In English, {glue}`task` of the answers are right. Claims rest on *among its answers*, the likeliest of the words that could answer;
# *among all words* asks for the first of the vocabulary.

# %% tags=["hide-input"]
answers.claims(
    "answers",
    "Asked in {name}, the model says what kind of animal it hears more often than the commonest answer would.",
    needs=precondition,
    of=languages[1:],
)

# %% [markdown]
# ## Similarity: is a clip like its label?
#
# How often is the own label the nearest to a clip's last state, above chance, of the labels of its group (animals with animals)? Clips of
# one label move together. A bare clip often ends on its fading. So there is a second way: clip and label in one sentence, *... is a kind
# of*, where the model has to use what it heard.
#
# :::{predict} Where is a clip nearest to its label?
# - Nowhere
# - At its own last state
# - At the end of a sentence about it
# +++
# {glue}`verdict-clip-label`
# :::

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
# :::{dropdown} How to read it
# The band is an interval over labels. Grey, the {term}`controls <control>`: the embedding layer, which is what the encoder alone has done; silence,
# white noise, and each clip's samples in random order; random weights. The next figure asks among all labels, of whatever group.
# :::

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "How often is the own label the nearest?"}
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
# {glue}`why-clip-label`
#
# ## Label words: does the lens name the sound?
#
# Compared is the mean probability of a label's words over the clip with that of labels of the group of as many words, none in common. *as
# released* compares with one label, whatever its group, in probabilities.

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

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "How likely are the label's words?"}
labelled.curves(
    "label-probability",
    "How likely are the label's words?",
    alt="Mean lens probability of the own label's words and of other labels' words by relative depth, by reading.",
    y="mean lens probability",
    types={"own label": "sound", "other labels": "control"},
)

# %% [markdown]
# :::{dropdown} Readings
# **normed** applies the final norm at every layer, **raw** at the last alone, as released. **tuned** goes through a translator trained to
# foretell the output {cite:p}`belrose2023tuned`. While a sound lasts no one asks for an output, so a translator that names no label has not
# shown that it is missing. **jacobian** does without training {cite:p}`gurnee2026workspace`, **neighbours** without the unembedding
# {cite:p}`krojer2026latentlens`. The claim rests on *normed*.
# :::
#
# Look at first places, ranks, and time too.

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "How often is a word of the label the first of all words?"}
labelled.curves(
    "label-first",
    "How often is a word of the label the first of all words?",
    alt="Share of audio positions whose likeliest lens word is of the own label or of another one, by relative depth.",
    y="share of audio positions",
    types={"own label": "sound", "other labels": "control"},
)

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "At which rank does the label stand, and how sure is the lens?"}
labelled.curves(
    {"label-rank": "rank of the label's best word", "label-entropy": "entropy of the lens (nats)"},
    "At which rank does the label stand, and how sure is the lens?",
    alt="Mean rank of the best word of the own label, or mean entropy of the lens, by relative depth and reading.",
    y="mean rank, or entropy in nats",
    by="own label",
    types={"own label": "sound"},
)

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "When is the label's word ahead?"}
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
# {glue}`why-label-words` A sound may lie where middle layers have its words and not the *output*; the lens would miss it ({cite:t}`krojer2026latentlens`, of
# pictures). A push would not.

# %% [markdown]
# ## Intervention: does the answer follow an English word?
#
# At every audio position of a dog, add the {term}`unembedding` row of *snake*, an animal of the other class, and take away that of *dog*.
# The share of *mammal* should fall for mammals and rise for others.
#
# :::{dropdown} Traps and controls
# A broken run gives one answer to everything: so the score is the change in the right direction, minus the larger of what random directions
# and the reversed vector do. Layer and strength are chosen on a quarter of the animals. A word may lean to *mammal* by itself: the null
# shuffles which animals are called mammals. An animal of the *same* class is the sharpest control. Doses are in lengths of the state; *as
# released* has the paper's, 10 to 100 rows, at its depth.
# :::

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
mammals = rows.claims(
    "push-unembedding/english/mammals",
    "The unembedding of another animal turns the answer for mammals, more than chance or the reversed vector.",
    row=21,
    paper="Mammals drift to No.",
    needs=precondition,
)

# %% tags=["hide-input"]
others = rows.claims(
    "push-unembedding/english/others",
    "The unembedding of a mammal turns the answer for other animals, more than chance or the reversed vector.",
    row=21,
    paper="Other animals drift to Yes.",
    needs=precondition,
)
together(mammals, others)

# %% [markdown]
# A second vector: the word's own state, read in the text *snake* at the layer where it is added.

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "Which layer and strength?"}
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
    "Does an English word turn the answer in every language?",
    alt="Share of the answer mammal or Yes by strength of the push with word states, by language, for mammals and others.",
    y="share of mammal or Yes",
    x_title="strength (lengths of the state)",
    types={"mammals": "sound", "others": "digits"},
)

# %% tags=["hide-input"]
mammals = states.claims(
    "push-states/english/mammals",
    "The word state of another animal turns the answer for mammals, more than chance or the reversed vector.",
    needs=precondition,
)

# %% tags=["hide-input"]
others = states.claims(
    "push-states/english/others",
    "The word state of a mammal turns the answer for other animals, more than chance or the reversed vector.",
    needs=precondition,
)
together(mammals, others)

# %% [markdown]
# ## Push in English, ask in another language
#
# Push with English words, at the layer and strength chosen in English, and ask in Spanish, Chinese and German: choose the language in the
# last figure.

# %% tags=["hide-input"]
states.claims(
    "push-states",
    "English word states turn the answer to a question in {name}, more than chance or the reversed vector.",
    needs=precondition,
    of=[name for name in pushed if name != "english"],
)

# %% [markdown]
# ## Interchange patch: does the answer follow a word written over the sound?
#
# At one layer, every audio position gets the state of the last word of *Emma sees the snake* ({term}`interchange patch`). If word and sound lie in
# one place, the model says the snake's kind, in English and in Spanish.
#
# :::{dropdown} Traps and controls
# Expected answers are shuffled. *own type* writes the state of another clip, the best a patch can do: where not even that moves the
# answer, the claims *cannot be tested here*.
# :::

# %% tags=["hide-input"]
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
    "Asked in {name}, the model says the kind of the English word written over the sound.",
    needs=unable,
)

# %% [markdown]
# {glue}`why-patch-answer`
#
# ## What you learned
#
# The question was whether a model that hears a dog bark holds the word *dog*, and uses it.

# %% tags=["hide-input"]
chapter.finish(
    {
        "label-words": "the label's words are read at the sound",
        "clip-label": "in the middle layers a sound is nearest to its own label",
        "push-states": "the state of a word turns the answer",
        "answers": "asked in another language, the model says what it hears",
    }
)

# %% [markdown]
# - A lens sees only what lies where the output has its words. Compare with states of words before you say that there are none.
# - What the encoder alone has done is a control: it may lay a sound beside its name before the decoder has run.
# - Asking in a language, or for a fact, that was never beside a sound tests the hub harder than any reading.
#
# *What would change our mind:* of a yes, white noise, the commonest answer or an animal of the same class doing as well; of a no, the label's words
# ahead at the sound.
#
# **Try it.** Do the [exercises](../book/exercises/12_audio), or take recordings (`data_dir`).

# %% [markdown]
# # Languages: similarity and lens
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/semantic-hub-book/semantic-hub-book/blob/main/notebooks/06_languages.ipynb)
#
# **When a model reads Chinese, are its middle layers near English?**
#
# ```{glue} answer
# ```
#
# A sentence and its translation mean the same and share hardly a token. If there is a hub, their states should meet in the
# middle, and a middle layer should hold the English of the word that comes next. You test the first with pairs of sentences
# in four languages, the second word by word over running text.
#
# :::{admonition} The paper's claim
# :class: paper-claim
# In Llama-3 and BLOOM, English and Chinese sentences of one meaning are more alike than others, most of all in the middle
# layers. When Llama-3 reads Chinese, the English translation of the next word is likelier in the middle layers than the Chinese
# word, which wins near the output {cite:p}`wu2025semantic`.
# :::
#
# | Before you start | |
# |---|---|
# | You should know | what a [lens, an interval and a null](02_instruments) are, and [how a full stop fools you](04_fooled) |
# | Time to read | 20 minutes |
# | Time to run | one minute on two cores with the book's own model |

# %% tags=["remove-cell"]
import sys

if "google.colab" in sys.modules:
    source = "semhub-utils @ git+https://github.com/semantic-hub-book/semantic-hub-book"
    get_ipython().run_line_magic("pip", f"install -q '{source}'")

# %% tags=["parameters"]
model_id = "organism:hub"  # a hub id, a local folder, or a model that ships with the book
revision = None
device = "cpu"
dtype = "float32"
items = "auto"  # generated for the book's own models, natural for all others; or one of the two
n_items = None  # sentences, before those with a word in common are left out: 800, or 252 of natural ones
n_words = None  # words of running text, per language: 300, or 120 of natural ones
seed = 0
data_dir = None  # a folder with NTREX-128 (ntrex) and CC-CEDICT (cc-cedict), in place of the samples that ship
results_dir = "results"

# %% tags=["hide-cell"]
from semhub_utils.chapter import begin, diagram, glue, left_out, listing
from semhub_utils.experiments import alike, core, patching, words
from semhub_utils.spokes import languages, natural
from semhub_utils.spokes.items import continued, interchange_items

chapter = begin("languages", globals(), "n_words", n_items=(800, 252))
model = chapter.model

# %% tags=["hide-input"]
diagram("similarity")

# %% [markdown]
# ## The sentences
#
# The paper takes 10,000 pairs of GALE, which needs a licence. A public model reads a sample that ships with the book: news of
# [NTREX-128](https://github.com/MicrosoftTranslator/NTREX) in five languages, three sentences of each of 84 articles. Its
# dictionary is [CC-CEDICT](https://www.mdbg.net/chinese/dictionary?page=cc-cedict) for Chinese, and for the others the book's
# lexicon with the names of countries, languages, months and days in [CLDR](https://cldr.unicode.org). With `data_dir` at a
# folder that holds the sets' own files you read all of them. The book's own models know no news. Their sentences are generated:
# who does what to whom in their world, drawn at random, so that trumpets lose turtles.
#
# Generated German is another type of text than the rest. All its scenes begin with *man sagt, dass* (it is said that), and its
# facts are such clauses too, with the verb at their end; no other language here has that. To the book's models that is all
# the German there is. Of a model that has read real German, a low German curve says nothing.
#
# Two traps lie in the sentences.
#
# *The last token.* Where all sentences end in a full stop, the last token is the same in all of them, and there is little left to
# say about the sentence. The paper therefore goes on: *This represents*, 这代表了. A model whose tokenizer does not know these
# words, such as the book's own, gets its word for *and* in place of the full stop.
#
# *Words in common.* A name, or a number, is often the same tokens in both languages. Two sentences with *Emma* in them are alike
# without any meaning. Sentences that share a word in the two languages are left out, and counted.

# %%
source, n_words = {"seed": seed, "data_dir": chapter.data}, n_words or (300 if chapter.own else 120)
found = languages.parallel_sentences(chapter.n_items, **source)
continuation = languages.known_continuation(model.tokenizer)
readable = core.readable(model, found, lambda s: languages.continued(s, continuation))
sets = languages.pair_sets(readable, continuation)
glue("n_sentences", len(readable))
print(readable.left_out)
listing(
    [(s.series, s.ending, p.a, p.b, len(s.pairs), sum(s.dropped.values())) for s in sets for p in s.pairs[:1]],
    ["languages", "ending", "one side", "other side", "pairs", "left out"],
)

# %% [markdown]
# Of {glue}`n_sentences` sentences, the column *pairs* says how many are left; *left out* counts those with a word in common.
#
# ## Similarity: are translations alike?
#
# You take the state at the last token of both sides, and ask how often the translation is the nearest of all sentences in the
# other language, above chance. Of which sentences? The paper compares cosines with those of all. But a short sentence is
# unlike a long one whatever they say, and news of one event is alike in every sentence. So here the others are those of the
# same form (in generated text), or of the same document and about as long (in real text; of about the same length, where the
# documents are not known). Partners are shuffled among these too. Over more than a thousand directions between languages,
# retrieval of the translation is highest in the middle layers of Llama 3 and Qwen 2.5 {cite:p}`liu2025middle`, among all
# sentences.

# %% tags=["hide-input"]
similarity = chapter.find("similarity", lambda: alike.alike_sets(model, sets, seed=seed))
longer, names = similarity.of(ending="continued"), [name for name in found[0].texts if name != "english"]
longer.changed(lambda table: table.assign(pair=table.series)).curves(
    "similarity",
    "Are two sentences of one meaning alike?",
    alt="Share of sentences, above chance, whose translation is the nearest, by relative depth, for each two languages.",
    y="share of sentences, above chance",
    select="pair",
    reading=alike.NEAREST,
)

# %% [markdown]
# *How to read it.* Choose two languages to bring their curve to the front; where one name stands alone, the other is English.
# The dotted line is what shuffled partners reach one time in twenty at any middle layer, when pairs that share what they
# speak of (the thing, the doer, the verb) move together. Grey: the embedding layer, the mean of all words' embeddings
# (*bag of words*), and the same architecture with random weights.
#
# Three other measures on the same pairs: how far up the list is the partner (mid-rank, half at most), do both sides have the
# same neighbours, and the same geometry (debiased CKA)? They start at layer 1, as the embeddings of one and the same last
# token have no neighbours. A null is needed here too: sentences of two forms make two clouds in both languages, whatever they
# say. Partners are shuffled within the form.

# %% tags=["hide-input"]
longer.curves(
    ["mid-rank", "neighbours", "cka"],
    "Do other measures agree?",
    alt="Mid-rank, mutual neighbours and debiased CKA by relative depth, for each two languages.",
    y="share of items, or CKA (0 to 1)",
    by="measure",
    called={"series": "pair"},
    layer=range(1, model.n_layers + 1),
)

# %% [markdown]
# ### What does the ending do?
#
# The same sentences four times: continued; with their full stop, or the mark in its place; without any mark, so that the last
# token is of a word; and continued, but with the sentences that share a word left in. Switch to the plain cosine to see what a
# full stop does to a reader who subtracts nothing; *other partners* are sentences of another meaning, and what is as high there is no meaning.

# %% tags=["hide-input"]
similarity.curves(
    {"similarity": "adjusted cosine", "cosine": "plain cosine"},
    "Does the ending make the alignment?",
    alt="Adjusted and plain cosine with English by relative depth, for three languages and four endings.",
    y="cosine",
    by="ending",
    called={"series": "language"},
    series=names,
    reading=("", alike.CORRECTED),
)

# %% [markdown]
# Without a full stop the last token may be a word and its translation, and the embedding layer shows how much of the cosine that
# alone gives. With the sentences that share a word, look at the random weights: a model that learned nothing can tell *Emma* from
# *Liam*.
#
# How much does a shared full stop add where nothing else is shared? Each Spanish sentence is put beside an English one of another
# meaning, with and without it.

# %% tags=["hide-input"]
bare = next(s.pairs for s in sets if s.series == "spanish" and s.ending == "no full stop")
stop = chapter.run(alike.Punctuation(), bare)
stop.curves(
    "punctuation-trap",
    "Is a full stop an alignment?",
    alt="Plain cosine of unrelated Spanish and English sentences by relative depth, with and without a full stop.",
    y="plain cosine",
)

# %% [markdown]
# Grey is the same architecture with random weights. The claim asks for more than these show.

# %% tags=["hide-input"]
stop.claims(
    "shared-punctuation",
    "A full stop behind both makes Spanish and English sentences of different meaning more alike.",
)

# %% [markdown]
# ### As released, and corrected
#
# The authors' code compares with all other sentences, at the layers from the first block on. *As released* repeats that on the same
# pairs; *difference* is what this baseline adds over the one used here.

# %% tags=["hide-input"]
gain = longer.of("baseline-gain").changed(lambda table: table.assign(reading="difference"))
from_one = longer.of("similarity", reading="as released", layer=range(1, model.n_layers + 1))
(longer.of("similarity", reading=alike.CORRECTED) + from_one + gain).curves(
    (),
    "What does the choice of the others change?",
    alt="Adjusted cosine by relative depth against all others and against those of one form, and their difference.",
    y="cosine of matching pairs minus others",
    by="reading",
    called={"series": "pair"},
    types={alike.CORRECTED: "english", "as released": "spanish", "difference": "digits"},
)

# %% tags=["hide-input"]
similarity.claims(
    "similarity",
    "In the middle layers, more than before and after, the nearest to {Name} sentences is the English of one meaning.",
    row=1,
    paper="Sentences of one meaning are more alike than others in the middle layers (there English and Chinese).",
    of=names,
)

# %% [markdown]
# ## Lens: which language is the next word in?
#
# Now running text. At the position before a word, read the state through the unembedding at every layer, as if the model
# stopped there. You follow the word that comes next, and its English translation; of several translations the likeliest
# counts, as in the paper. On prompts with one right answer of one token, Llama-2 was seen to go the same way: far from any
# answer first, then nearer to the English one, then to the right one {cite:p}`wendler2024llamas`. Running text asks for more,
# as most words are not settled.
#
# Not every word will do. It has to be one token, or its probability is not there to be read; characters are matched to tokens by
# their offsets. The dictionary has to know it, and one of its English words has to be one token too. Where both are written
# alike, as *color* is, they cannot be told apart. Chinese is cut into words by rjieba, the Rust port of the paper's jieba. The
# dictionary is that of the generated world; with `data_dir` it is CC-CEDICT for Chinese, while real Spanish and German have the
# few hundred words of that world alone.

# %%
lines = {name: languages.running_text(name, max(300, n_words), **source) for name in found[0].texts}
known_words = {name: languages.dictionary(name, chapter.data) for name in names}
read = [*lines.items(), *((name, some.read) for name, some in known_words.items())]
notes = [f"{name}: {some.left_out}" for name, some in read if some.dropped]
print("\n".join(notes) or "No line of text and no entry of a dictionary was left out.")
given = {"counts": languages.word_counts(lines["english"]), "n_words": n_words, "seed": seed}
items = {name: words.word_items(model, lines[name], name, known, **given) for name, known in known_words.items()}
left_out(items)

# %% [markdown]
# The table counts words: what was left out for which reason, and how many are read. Wrong words stand beside each right one, or
# a model that likes all English words would look like one that translates. They are the translations of the other words drawn, as
# often as these were drawn: of the same part of speech, in the generated world of the same field (colours, foods, what an animal
# can do), and about as frequent in English text.
#
# Can the model read the language at all? Most words of a text cannot be foretold. So you ask for less: at the output, is the word
# that comes next likelier than other words of its class?

# %%
reads = chapter.knows(words.choice_table, items, "tell the next {Name} word from others of its class", chance=0.5)
beaten = reads.table.groupby("data_type", sort=False).value.agg(beats="mean", items="size")
listing(beaten.reset_index(), beats="{:.0%}")

# %% [markdown]
# One half would be chance. Where a model is not above it, the claims about that language read *cannot be tested here*.

# %% tags=["hide-input"]
english_or_own = words.Lens("english", "own")
lens = chapter.run(english_or_own, items, readings=True, others=chapter.islands)

# %% tags=["hide-input"]
lens.curves(
    "lens-probability",
    "Is it the word or its English?",
    alt="Lens probability of the next word and its English by relative depth, with wrong words, for three languages.",
    y="mean lens probability",
)

# %% [markdown]
# *How to read it.* *own* is the word that comes next, *english* its translation; grey are the wrong words of either, and random
# weights. The dotted lines are nulls: what words that come next elsewhere, of the same class, reach one time in twenty. Choose
# one series to see its own. **normed** applies the model's final norm before the unembedding; **raw** does so at the last layer
# alone, as the authors' release does; **tuned** and **jacobian**, where they lie beside the model, translate each layer first;
# **neighbours** takes the words that came next where other texts left similar states (the page on conventions has them all). The
# claims rest on *normed*. How far the first two readings are apart, the next figure shows:

# %% tags=["hide-input"]
lens.curves(
    "lens-gap",
    "What does the final norm change?",
    alt="Mean lens probability in the normed reading minus that in the raw one, by relative depth, for three languages.",
    y="probability, normed minus raw",
)

# %% [markdown]
# A mean probability is ruled by the few words that are easy to foretell, so look at the shares too:

# %% tags=["hide-input"]
lens.curves(
    "lens-first",
    "How often is it the first of the whole vocabulary?",
    alt="Share of positions where the next word or its English is the lens's top token, by relative depth.",
    y="share of positions",
)

# %% tags=["hide-input"]
lens.curves(
    "lens-entropy",
    "How sure is the lens?",
    alt="Entropy of the lens distribution by relative depth, for three languages and each reading.",
    y="entropy (nats)",
)

# %% [markdown]
# ### The three claims, as differences
#
# *lens-meaning*: the English of the next word against wrong English words. *lens-lead*: against the word itself and the wrong words,
# whichever is higher. Both in log-probability, with the null and, in grey, the embedding layer and
# random weights.

# %% tags=["hide-input"]
lens.curves(
    ["lens-meaning", "lens-lead"],
    "Is the English word ahead, and of what?",
    alt="Lead of the English word over wrong words and over the own word by relative depth, with null and control.",
    y="difference of log-probability (nats)",
    by="measure",
    types={"lens-meaning": "english", "lens-lead": "digits"},
)

# %% tags=["hide-input"]
lens.claims(
    "lens-meaning",
    "At some middle layer the English of the next {Name} word is above wrong English words.",
    row=2,
    paper="The middle layers hold the English translation (there of Chinese words).",
    needs=reads,
)

# %% tags=["hide-input"]
lens.claims(
    "lens-lead",
    "At some middle layer the English of the next {Name} word is above that word too.",
    row=2,
    paper="In the middle layers the English translation is likelier than the word itself.",
    needs=reads,
)

# %% tags=["hide-input"]
lens.claims(
    "lens-end",
    "At the last layer the {Name} word is above its English.",
    row=2,
    paper="The word itself wins near the output.",
    needs=reads,
)

# %% [markdown]
# ## Which kinds of word?
#
# English need not stand in for all words alike; others have found it for nouns and verbs more than for the small words of grammar
# {cite:p}`schut2025think`. The generated world's lexicon knows the part of speech. CC-CEDICT does not, so its shape has to do: *name* where
# the pinyin is in capitals, *verb* where the first gloss begins with "to", *other* for the rest.

# %% tags=["hide-input"]
parts = chapter.find_each(
    "parts", items, lambda name: words.by_part(english_or_own, model, items[name], series=name, seed=seed)
)

# %% tags=["hide-input"]
parts.curves(
    ["lens-meaning", "lens-lead"],
    "For which parts of speech is English ahead?",
    alt="Lead of the English word by relative depth for each part of speech and language, with nulls and controls.",
    y="difference of log-probability (nats)",
    by="part",
)

# %% [markdown]
# A part with few words has a wide band. Look at its `n` before its height.
#
# ## Interchange patch: is it used?
#
# A reading shows what could be read, not what is used. So you write: take the state at the end of an English question, put it
# in the place of the state at the end of another question in the other language, and see whether the answer follows. The
# questions are short: of a public model, which language is official in a country, and which month or day comes next, behind
# three such questions with their answers; of the book's own models, facts that they were taught in English alone. Between prompts
# that ask for a translation, such patches could change the concept without the language and the other way round, and the mean
# state over languages served better than one {cite:p}`dumas2024separating`.
#
# Two traps. A state that breaks the run makes every other answer likelier, so the expected answers are shuffled for the null.
# And a late state holds the English word itself: then the run says that word, which the figure calls *untranslated*. Models
# fail so by themselves: in translating words, the concept is often found and only the last step, into the language, goes
# wrong {cite:p}`bafna2025barrier`.

# %%
asked = {name: natural.questions(name, 250, **source) for name in names}
every = [*{twin.hub_prompt: twin for some in asked.values() for twin in some}.values()]
english = continued(every, hub=True)
answers = chapter.knows(
    words.task_table, english, "answer the English questions whose states are written", series="english"
)["english"]
own = {} if chapter.own else {name: continued(some) for name, some in asked.items()}
speaks = chapter.knows(words.task_table, own, "answer such questions in {Name}") if own else {}
able = {name: answers or speaks.get(name) for name in names}

# %% tags=["hide-input"]
swaps = {name: interchange_items(some, seed) for name, some in asked.items()}
patches = chapter.find_each(
    "patches", swaps, lambda name: patching.interchange(model, swaps[name], series=name, seed=seed)
)

# %% tags=["hide-input"]
patches.curves(
    "patch-first",
    "What does the run say with an English run's state in it?",
    alt="Share of prompts by first answer and layer of the patch, for each language and each state written.",
    y="share of prompts",
    direction=[f"english into {name}" for name in names],
)

# %% [markdown]
# *How to read it.* *expected* is the English question's answer, in the run's own language; *original* the run's own answer. *same
# answer* is the control in which nothing should change, *other relation* a state that is about something else, *random push* moves
# the state as far in a direction that means nothing.

# %% tags=["hide-input"]
patches.claims(
    "patch",
    "At some middle layer, a state from an English question pushes the {Name} run to its own answer, by more than at the end.",
    needs=able,
)

# %% tags=["hide-input"]
patches.claims(
    "patch-answer",
    "At some middle layer, a state from an English question makes the {Name} run say that answer in {Name}.",
    needs=able,
)

# %% [markdown]
# ## What you learned
#
# The question was whether the middle layers of a model that reads Chinese are near English. The verdicts on this model, by
# rules fixed before the run:

# %%
chapter.finish(
    {
        "similarity": "in the middle layers a sentence is nearest to the English of equal meaning",
        "lens-meaning": "the middle layers hold the English of the next word",
        "lens-lead": "English is ahead of the own word there",
        "lens-end": "the own word wins at the end",
        "patch": "the state of an English question pushes the answer in another language",
        "patch-answer": "the other language's run then gives the English question's answer",
    }
)

# %% [markdown]
# - How a sentence ends decides what its last state is about. Choose the ending, and the sentences to compare with, before you look.
# - Sentences with a name in common are alike in a model with random weights.
# - The lens reads; the patch writes. A state can be read as English long before, or without, being used as such.
# - English above wrong English says that the meaning is there. English above the word itself says that English is in front. The first
#   can hold without the second.
#
# **Try it.** Fetch NTREX-128 and CC-CEDICT into one folder and run `semhub run languages --model ID_OR_FOLDER --set
# data_dir=FOLDER`. Then look at the table of words left out: how much of the text does the lens say anything about?

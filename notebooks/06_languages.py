# %% [markdown]
# # Languages: similarity and lens
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/semantic-hub-book/semantic-hub-book/blob/main/notebooks/06_languages.ipynb)
#
# **When a model reads Chinese, are its middle layers near English, and does it use that?**
#
# ```{glue} answer
# ```
#
# A sentence and its translation share hardly a token. If there is a hub, their states meet in the middle, and a middle layer holds the
# English of the word that comes next.
#
# :::{admonition} The paper's claim
# :class: paper-claim
# In Llama-3 and BLOOM, English and Chinese sentences of one meaning are more alike than others, most of all in the middle
# layers. When Llama-3 reads Chinese, the English translation of the next word is likelier there than the Chinese word, which wins
# near the output {cite:p}`wu2025semantic`.
# :::
#
# You should know what a [lens, an interval and a null](02_instruments) are, and [how a full stop fools you](04_fooled). Time to read: 12 minutes.
#
# **After this chapter you can**
#
# - choose sentences, endings and comparisons that leave meaning alone to be found;
# - tell "the English is there" from "English is in front";
# - say why a patch can fail where a lens succeeds, and the other way round.

# %% tags=["remove-cell"]
import sys

if "google.colab" in sys.modules:
    source = "semhub-utils @ git+https://github.com/semantic-hub-book/semantic-hub-book"
    get_ipython().run_line_magic("pip", f"install -q '{source}'")

# %% tags=["parameters", "hide-input"]
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
# A public model reads a sample of the news of [NTREX-128](https://github.com/MicrosoftTranslator/NTREX), the book's {term}`organisms
# <organism>` scenes drawn at random (a trumpet may lose a turtle). Two traps:
#
# *The last token.* Where all sentences end in a full stop, it is the same in all of them. The paper goes on, *This represents*, 这代表了; a
# model that does not know these words gets its word for *and*.
#
# *Words in common.* Two sentences with *Emma* in them are alike without any meaning. Such pairs are left out, and counted.
#
# :::{dropdown} Data sets, and German
# The paper's GALE needs a licence. The dictionary is [CC-CEDICT](https://www.mdbg.net/chinese/dictionary?page=cc-cedict) for Chinese; for the
# others the book's lexicon with names of countries, languages, months and days in [CLDR](https://cldr.unicode.org). With `data_dir` you
# read the whole sets. Generated German is another type of text than the rest: its scenes stand behind *man sagt, dass* (it is said that),
# with the verb at the end. Of a model that has read real German, a low German curve says nothing.
# :::

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "Show the table", "code_prompt_hide": "Hide the table"}
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
# Of {glue}`n_sentences` sentences each, those with a word in common are left out; the table counts them.
#
# ## Similarity: are translations alike?
#
# How often is the translation the nearest, above chance? A short sentence is unlike a long one whatever they say: so it is compared, and
# partners are shuffled, within one form, or one document and about one length.
#
# :::{predict} Will the translation be the nearest in the middle layers?
# - Yes, in all languages
# - In some
# - In none: words alone make sentences alike
# +++
# {glue}`verdict-similarity`
# :::

# %% tags=["hide-input"]
enough = [some for some in sets if len(some.pairs) >= core.LEAST]
similarity = chapter.find("similarity", lambda: alike.alike_sets(model, enough, seed=seed))
for few in (some for some in sets if some.ending == "continued" and some not in enough):
    similarity += chapter.run(alike.Alike(), few.pairs, series=few.series, dropped=few.dropped)

# %% tags=["hide-input"]
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
# :::{dropdown} How to read it, and three other measures
# Among *all* sentences, retrieval is highest in the middle layers of Llama 3 and Qwen 2.5 {cite:p}`liu2025middle`.
#
# Choose two languages; where one name stands alone, the other is English. Dotted: what shuffled partners reach one time in twenty at any
# middle layer, when pairs that share the thing, the doer or the verb move together. Grey: {term}`controls <control>`, the embedding layer, the
# mean of all words' embeddings (*bag of words*), and random weights. {term}`Mid-rank <mid-rank>`,
# {term}`shared neighbours <mutual neighbours>` and debiased CKA start at layer 1, as
# the embeddings of one last token have no neighbours; they have a {term}`null` too, as two forms make two clouds in both languages.
# :::

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "Do other measures agree?"}
longer.curves(
    {"mid-rank": "mid-rank", "neighbours": "mutual neighbours", "cka": "CKA"},
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
# The same sentences continued, with a full stop, without any mark, and continued with shared words left in. The plain cosine shows what a
# full stop does to a reader who subtracts nothing: *other partners* mean something else.

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "Does the ending make the alignment?"}
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
# With shared words left in, random weights too can tell *Emma* from *Liam*. And what does a full stop add where nothing else is shared?

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "Is a full stop an alignment?"}
bare = next((s.pairs for s in sets if s.series == "spanish" and s.ending == "no full stop"), [])
bare = bare if len({pair.cluster for pair in bare}) > 1 else bare[:0]  # else all speak of one thing
stop = chapter.run(alike.Punctuation(), bare, shown=chapter.islands)
stop.curves(
    "punctuation-trap",
    "Is a full stop an alignment?",
    alt="Plain cosine of unrelated Spanish and English sentences by relative depth, with and without a full stop.",
    y="plain cosine",
)

# %% tags=["hide-input"]
stop.claims(
    "shared-punctuation",
    "A full stop behind both makes Spanish and English sentences of different meaning more alike.",
)

# %% [markdown]
# ### As released, and corrected
#
# The authors' code compares with all other sentences; *difference* is what that adds over the baseline used here.

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "What does the choice of the others change?"}
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
    "In the middle layers, more than before and after, the nearest to {name} sentences is the English of one meaning.",
    row=1,
    paper="Sentences of one meaning are more alike than others in the middle layers (there English and Chinese).",
    of=names,
)

# %% [markdown]
# {glue}`why-similarity`
#
# ## Lens: which language is the next word in?
#
# At every layer, before each word of running text, follow the next word and its English. In Llama-2, states went far from any answer
# first, then near the English one, then to the right one {cite:p}`wendler2024llamas`.
#
# :::{dropdown} Which words are read
# One token each, known to the dictionary, its English one token too, and not written alike (*color*). Characters are matched to tokens by
# their offsets; Chinese is cut by rjieba. With `data_dir` the dictionary is all of CC-CEDICT; real Spanish and German have a few hundred words.
# Wrong words are the translations of other words drawn: of the same part of speech, in the generated world of the same field, and about
# as frequent.
# :::

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "Show the table", "code_prompt_hide": "Hide the table"}
lines = {name: languages.running_text(name, max(300, n_words), **source) for name in found[0].texts}
known_words = languages.dictionaries(names, chapter.data)
read = [*lines.items(), *((name, some.read) for name, some in known_words.items())]
notes = [f"{name}: {some.left_out}" for name, some in read if some.dropped]
print("\n".join(notes) or "No line of text and no entry of a dictionary was left out.")
given = {"counts": languages.word_counts(lines["english"]), "n_words": n_words, "seed": seed}
items = {name: words.word_items(model, lines[name], name, known, **given) for name, known in known_words.items()}
left_out(items)

# %% [markdown]
# Wrong words stand beside each right one, or a model that likes all English words would seem to translate. Can the model read the
# language: is the next word likelier, at the output, than others of its class?

# %% tags=["hide-input"]
reads = chapter.knows(words.choice_table, items, "tell the next {name} word from others of its class", chance=0.5)
told = "right word ahead"
beaten = reads.table.groupby("data_type", sort=False).value.agg(["mean", "size"]).set_axis([told, "words"], axis=1)
listing(beaten.rename_axis("language").reset_index(), **{told: "{:.0%}"})

# %% [markdown]
# One half would be chance. Where a model is not above it, the claims read *cannot be tested here*.

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
# :::{dropdown} How to read it
# *own* is the next word, *english* its translation; grey the wrong words of either, and random weights. Dotted: what next words elsewhere, of
# the same class, reach one time in twenty. Choose one series to see its own. The [conventions](../book/conventions) have all readings;
# claims rest on *normed*. The next figure has what the final norm adds over *raw*.
# :::

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "What does the final norm change?"}
lens.curves(
    "lens-gap",
    "What does the final norm change?",
    alt="Mean lens probability in the normed reading minus that in the raw one, by relative depth, for three languages.",
    y="probability, normed minus raw",
)

# %% [markdown]
# A mean probability is ruled by the few words that are easy to tell, so look at the shares too:

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "How often is it the first of the whole vocabulary?"}
lens.curves(
    "lens-first",
    "How often is it the first of the whole vocabulary?",
    alt="Share of positions where the next word or its English is the lens's top token, by relative depth.",
    y="share of positions",
)

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "How sure is the lens?"}
lens.curves(
    "lens-entropy",
    "How sure is the lens?",
    alt="Entropy of the lens distribution by relative depth, for three languages and each reading.",
    y="entropy (nats)",
)

# %% [markdown]
# ### As differences
#
# *Over wrong words*: the English of the next word against wrong English words. *Over the word too*: against the word itself as well.
#
# :::{predict} Which of the two is harder to meet?
# - *Over wrong words*
# - *Over the word too*
# - They stand and fall together
# +++
# {glue}`verdict-lens-meaning` {glue}`verdict-lens-lead`
# :::

# %% tags=["hide-input"]
ahead = {"lens-meaning": "over wrong words", "lens-lead": "over the word too"}
lens.curves(
    ahead,
    "Is the English word ahead, and of what?",
    alt="Lead of the English word over wrong words and over the own word by relative depth, with null and control.",
    y="difference of log-probability (nats)",
    by="measure",
    types={"over wrong words": "english", "over the word too": "digits"},
)

# %% tags=["hide-input"]
lens.claims(
    "lens-meaning",
    "At some middle layer the English of the next {name} word is above wrong English words.",
    row=2,
    paper="The middle layers hold the English translation (there of Chinese words).",
    needs=reads,
)

# %% tags=["hide-input"]
lens.claims(
    "lens-lead",
    "At some middle layer the English of the next {name} word is above that word too.",
    row=2,
    paper="In the middle layers the English translation is likelier than the word itself.",
    needs=reads,
)

# %% tags=["hide-input"]
lens.claims(
    "lens-end",
    "At the last layer the {name} word is above its English.",
    row=2,
    paper="The word itself wins near the output.",
    needs=reads,
)

# %% [markdown]
# Over wrong words: {glue}`why-lens-meaning` Over the word too: {glue}`why-lens-lead` At the end: {glue}`why-lens-end`
#
# ## Which kinds of word?
#
# English was found for nouns and verbs more than for the small words of grammar {cite:p}`schut2025think`. Mind how wide the bands are: some
# parts have few words.

# %% tags=["hide-input"]
parts = chapter.find_each(
    "parts", items, lambda name: words.by_part(english_or_own, model, items[name], series=name, seed=seed)
)

# %% tags=["hide-input"]
parts.curves(
    ahead,
    "For which parts of speech is English ahead?",
    alt="Lead of the English word by relative depth for each part of speech and language, with nulls and controls.",
    y="difference of log-probability (nats)",
    by="part",
)

# %% [markdown]
# ## Interchange patch: is it used?
#
# What can be read need not be used. So write the state at the end of an English question into a run over another question in the other
# language ({term}`interchange patch`). Does the answer follow?
#
# :::{dropdown} The questions, two traps, and what others found
# Two traps: a state that breaks the run makes every other answer likelier, so expected answers are shuffled; and a late state holds the
# English word itself, *untranslated*.
#
# Public models are asked for the language of a country and the next month or day, behind three examples; the book's own, facts that they were
# taught in English alone. Such patches changed the concept without the language and the other way round {cite:p}`dumas2024separating`. In
# translating words the concept is often found and only the last step, into the language, goes wrong {cite:p}`bafna2025barrier`.
# *expected* is the English question's answer in the run's own language, *original* the run's own. *same answer*, *other relation* (a
# state about something else) and *random push* are the controls.
# :::

# %% tags=["hide-input"]
asked = {name: natural.questions(name, 250, **source) for name in names}
every = [*{twin.hub_prompt: twin for some in asked.values() for twin in some}.values()]
english = continued(every, hub=True)
answers = chapter.knows(
    words.task_table, english, "answer the English questions whose states are written", series="english"
)["english"]
own = {} if chapter.own else {name: continued(some) for name, some in asked.items()}
speaks = chapter.knows(words.task_table, own, "answer such questions in {name}") if own else {}
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

# %% tags=["hide-input"]
patches.claims(
    "patch",
    "At some middle layer, a state from an English question pushes the {name} run to its own answer, by more than at the end.",
    needs=able,
)

# %% tags=["hide-input"]
patches.claims(
    "patch-answer",
    "At some middle layer, with a state from an English question, the {name} run says its answer in {name}.",
    needs=able,
)

# %% [markdown]
# The push: {glue}`why-patch` The answer: {glue}`why-patch-answer`
#
# ## What you learned
#
# The question was whether the middle layers of a model that reads Chinese are near English, and used.

# %% tags=["hide-input"]
chapter.finish(
    {
        "similarity": "in the middle layers a sentence is nearest to the English of equal meaning",
        "lens-lead": "in the middle layers the English of the next word is ahead of the word itself",
        "patch": "the state of an English question pushes a run in another language to its answer",
        "patch-answer": "such a run then says that answer in its own language",
        "lens-meaning": "the middle layers hold the English of the next word",
    }
)

# %% [markdown]
# - How a sentence ends decides what its last state is about. Choose ending and comparison before you look.
# - English above wrong English says that the meaning is there. English above the word itself says that English is in front.
# - The lens reads; the patch writes. A state can be read as English without being used as such.
#
# *What would change our mind:* of a yes, translations as near in random weights or by their words alone; of a no, the right English word, ahead
# in the middle.
#
# **Try it.** Do the [exercises](../book/exercises/06_languages), or run it on all of NTREX-128 and CC-CEDICT (`data_dir`).

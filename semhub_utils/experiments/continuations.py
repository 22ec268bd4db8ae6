"""What a model says under a vector made of two English words: the sentiment of next words and of continuations, their
fluency and relevance, in English and in other languages."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field, replace
from itertools import product
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
import transformers
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize, pad

from semhub_utils.errors import need
from semhub_utils.evidence import COSINE, NATS, Evidence, Unit
from semhub_utils.experiments.core import Claim, readable
from semhub_utils.experiments.interventions import (
    AWAY,
    BY_CHANCE,
    CPU_TOKENS,
    INSTEAD,
    RANDOM,
    REVERSED,
    Columns,
    Doses,
    Found,
    Push,
    Rows,
    Said,
    Vectors,
    Way,
)
from semhub_utils.experiments.numbers import Chance, Given, Kept, Numbers, Scores
from semhub_utils.identity import digest
from semhub_utils.inputs import Prompt
from semhub_utils.lens import lens, word_logprobs
from semhub_utils.loading import device_of, explained
from semhub_utils.models import LanguageModel
from semhub_utils.spokes.sentiment import SentimentPrompt, SentimentTask, without_pair, word_score
from semhub_utils.states import hidden_states
from semhub_utils.steering import Edit, generate, next_token_logprobs
from semhub_utils.tokens import TargetTable, target_table
from semhub_utils.verdicts import HOLDS, UNTESTABLE, WEAKLY, judge

ENGLISH, PAPER = "English vector", "English vector, the paper's layer"
PAPER_DEPTH, PAPER_COEFFICIENT = 17 / 32, 2.0
FEWEST = 8  # prompts: some to choose on and some to report on; or with a number under a random direction
# Fixed before the run: the English vector does at least this share of what the native one does; a token costs at most
# this many nats more (a quarter more perplexity); at least this share of the relevance is left.
AS_WELL, WORSE, RELEVANT = 0.75, math.log(1.25), 0.8
SCALE = Unit("sentiment (−1 to 1)", 0.05, "a fortieth of the scale")
SAMPLING = {"do_sample": True, "temperature": 1.0, "top_p": 0.3, "frequency_penalty": 1.0}
MASS, OWN_LEFT_OUT = "next word (nats)", "without the pair's own words"
SHOWN = {
    "mass": (MASS, OWN_LEFT_OUT),
    "mass, all words": (MASS, "all words"),
    "written": ("text (−1 to 1)", OWN_LEFT_OUT),
    "written, all words": ("text (−1 to 1)", "all words"),
    "nats": ("perplexity (ratio)", ""),
    "relevance": ("relevance (cosine)", ""),
}
"""What is measured -> its name in the table, with its unit, and its reading."""
EXAMPLES = 2  # prompts whose continuations are shown

Score = Callable[[Sequence[str]], Float[np.ndarray, " text"]]
Texts = list[list[list[str]]]  # item, coefficient, seed


@dataclass(frozen=True, kw_only=True)
class Sentiment(Push):
    """Activation addition of the pleasant word minus the unpleasant one, from English and from the output language, at
    the prompt's first positions; `n_seeds` continuations per prompt and coefficient, sampled as in the paper. The two
    signs of a coefficient c give one number per prompt: half of what +c gives minus what -c gives ("half").

    Layer and c are chosen on a quarter of the prompts, by the mass under all vectors together; claims rest on the
    others. `sentiment-mass/<language>`: half of log P(pleasant words) - log P(unpleasant words) as the next token,
    minus the mean under `instead` random directions of equal norm; nulls: chance, and each random direction in the
    vector's place. `sentiment/<language>`: half of the continuations' sentiment by `score` (None: the world's own
    words), minus the largest mean that one of `directions` random ones has over prompts with a number (FEWEST at least;
    without such a direction nothing is compared. They are too few for a null, and chance knows nothing of a direction
    that shifts all prompts alike); null: chance. Controls of both: the vector added half the inner layers away, and the
    reversed vector alone. The pair's own words count in neither; the reading "all words" counts them. Where the task is
    not in English, `native/<language>` and `native-mass/<language>`: half, minus AS_WELL times that of the native
    vector; control: random directions in the English vector's place. `fluency/<language>`: WORSE minus the rise of nats
    per token under `judged_by` (None: this model, unsteered), mean of +c and -c. `relevance/<language>`: relevance
    there minus RELEVANT times that without steering. Prompts without a number are dropped and counted.

    Table: `sentiment-choice` (layer x coefficient; null: chance; control: the mean under a few random
    directions), `sentiment-dose` (condition x measure x coefficient: the change against no steering; `level` is the
    mean itself, `seed_sd` its spread over seeds; the English vector also at the paper's layer and coefficient),
    `sentiment-difference` (half, English minus native), `sentiment-example` (what was written). No prompt is left
    where fewer than FEWEST fit into the model's context, or its tokenizer does not tell the words of a vector apart.
    Raises SemhubError where a number is below 1.
    """

    task: SentimentTask
    strengths: tuple[float, ...] = (2.0, 4.0)
    directions: int = 10
    instead: int = 100
    score: Score | None = None
    judged_by: LanguageModel | None = None
    n_seeds: int = 10
    max_new_tokens: int = 32
    sampling: Mapping[str, Any] = field(default_factory=SAMPLING.copy)
    readings: ClassVar[tuple[str, ...]] = ("",)
    columns: ClassVar[tuple[str, ...]] = ("strength", "measure", "push", "prompt", "text", "level", "seed_sd")
    name: ClassVar[str] = "sentiment"
    drawn: ClassVar[int] = 3
    together: ClassVar[bool] = True
    against: ClassVar[Mapping[str, Any]] = {"nulls": (Chance(),)}

    @property
    def claims(self) -> tuple[Claim, ...]:
        given: dict[str, Any] = {"nulls": (Chance(),), "null_in_words": BY_CHANCE}
        by_mass = given | {"nulls": (Chance(), Given()), "null_in_words": f"{BY_CHANCE}, and {INSTEAD}"}
        above = {"reading": OWN_LEFT_OUT}
        found = (
            Claim("sentiment", unit=SCALE, outcome=True, **above, **given),  # no text that turns is an answer too
            Claim("sentiment-mass", **above, **by_mass),
            Claim("fluency", unit=replace(NATS, name="nats below the limit"), **given),
            Claim("relevance", unit=replace(COSINE, name="cosine above the limit"), **given),
        )
        units = {"native": SCALE, "native-mass": NATS}
        native = [Claim(of, unit=replace(u, name="above the limit"), **above, **given) for of, u in units.items()]
        return (*found, *(native if self.task.language != "english" else ()))

    def fit(self, model: LanguageModel, items: Sequence[SentimentPrompt]) -> Kept:
        for name in ("n_seeds", "max_new_tokens"):
            need(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; a whole number from 1 would do.")
        prompts, dropped = fitting_prompts(model, items, self.max_new_tokens)
        for pair in self.task.vectors.values():
            toward, away = model.encode([model.anchor + word for word in pair])
            if toward.ids == away.ids:
                return Kept([], {f"{pair[0]} and {pair[1]} are the same tokens": len(items)})
        return Kept(prompts, dropped, prompts=(), more=told_sides(model, self.task, (self.task.own, ())))

    def vectors(self, reader: LanguageModel, kept: Kept) -> Vectors:
        made = {name: word_vector(reader, *pair) for name, pair in self.task.vectors.items()}
        longest = max(vector.shape[1] for vector in made.values())
        made = {name: pad(vector, (0, 0, 0, longest - vector.shape[1])) for name, vector in made.items()}
        return {f"{name.title()} vector": v.expand(len(kept.items), -1, -1, -1) for name, v in made.items()}

    def outcome(self, reader: LanguageModel, kept: Kept, of: Rows, vectors: Tensor, at: int, strengths: Doses) -> Said:
        """log P(pleasant words) - log P(unpleasant words) as the next token, without and with the pair's own words."""
        table, sides = kept.more.resolved
        if not all(side for reading in sides for side in reading):
            return np.full((len(of), len(strengths), len(sides)), np.nan)
        texts, edit = [reader.anchor + kept.items[n].prompt for n in of], _at_first(vectors, at)
        said = next_token_logprobs(reader, texts, table.ids, edit=edit, strengths=strengths)
        return mass(word_logprobs(said, table.groups), sides)

    def effect(self, kept: Kept, found: Found) -> Float[np.ndarray, "item direction strength"]:
        return np.stack([(found.at(s) - found.at(-s))[..., 0] / 2 for s in self.strengths], 2)

    def asked(self) -> Doses:
        return (*(-s for s in self.strengths), *self.strengths)

    def otherwise(self, model: LanguageModel) -> tuple[int, float]:
        return max(round(PAPER_DEPTH * model.n_layers), 1), PAPER_COEFFICIENT

    def doses(self, condition: str, strength: float) -> Doses:
        if condition in (RANDOM, AWAY, INSTEAD):
            return -strength, strength
        return (-PAPER_COEFFICIENT, PAPER_COEFFICIENT) if condition == PAPER else super().doses(condition, strength)

    def further(self, reader: LanguageModel, kept: Kept, layer: int) -> dict[str, Way]:
        at, _ = self.otherwise(reader)
        return {PAPER: Way(kept.more.vectors[ENGLISH][kept.more.reported()][:, None, at], at, control=False)}

    def amount(self, kept: Kept, strength: float) -> Columns:
        return ("series", f"coefficient {strength:g}"), ("strength", strength), ("measure", MASS)

    def reaches(self, reader: LanguageModel) -> int:
        """At the last layer nothing that is added at another position reaches the next word."""
        return reader.n_layers - 1

    def read(self, reader: LanguageModel, kept: Kept, prompts: Sequence, reading: str) -> Numbers:
        c, some = kept.more.strength, kept.only(kept.more.reported()).items
        ways = self.ways(reader, kept, kept.more.layer)
        found, texts = self.conditions(reader, kept, ways), {}
        for name, way in ways.items():
            if name != INSTEAD:
                seeds = 1 if name == RANDOM else self.n_seeds
                given = way.vectors, way.layer, found[name].strengths, seeds
                texts[name] = self.write(reader, some, *given, kept.seed)
        score = self.score or word_score(self.task.language)
        told = measure(reader, self.judged_by or reader, some, texts, score, self.task.vectors)
        for name, written in told.items():  # a mass for each vector, a text for each seed of it
            parts = [found[name].values, written.swapaxes(1, 2)]
            longest = max(of.shape[1] for of in parts)
            wide = [((0, 0), (0, longest - of.shape[1]), (0, 0), (0, 0)) for of in parts]
            parts = [np.pad(of, by, constant_values=np.nan) for of, by in zip(parts, wide, strict=True)]
            found[name] = replace(found[name], values=np.concatenate(parts, -1))
        found[REVERSED] = replace(found[REVERSED], values=found[ENGLISH].values)
        examples = [
            (name, push, s, prompt.text, texts[name][i][found[name].strengths.index(s)][0])
            for i, prompt in enumerate(some[:EXAMPLES])
            for name in kept.more.vectors
            for push, s in {"against": -c, "none": 0.0, "with": c}.items()
        ]
        shown = pd.DataFrame(examples, columns=["series", "push", "strength", "prompt", "text"])
        shown = {("sentiment-example", ""): shown.assign(experiment="sentiment-example", reading="")}
        return self.claimed(kept, found) | self.dose(reader, kept, found) | shown

    def write(
        self, reader: LanguageModel, prompts: Sequence[SentimentPrompt], vectors: Float[Tensor, "item direction ..."],
        at: int, strengths: Doses, n_seeds: int, seed: int,
    ) -> Texts:  # fmt: skip
        """Sampled as in the paper, each strength times each vector added at the first positions of the prompt; a
        vector, and a seed of it, is an entry of the last axis."""
        many, places = vectors.shape[1], range(len(strengths))
        found = generate(
            reader,
            [reader.anchor + p.prompt for p in prompts for _ in range(many)],
            max_new_tokens=self.max_new_tokens,
            edit=_at_first(vectors.flatten(0, 1), at),
            strengths=[s for s in strengths for _ in range(n_seeds)],
            seed=seed,
            max_batch_tokens=CPU_TOKENS if reader.device.type == "cpu" else None,
            **self.sampling,
        )
        each = [[row[k * n_seeds : (k + 1) * n_seeds] for k in places] for row in found]
        by_item = [each[i : i + many] for i in range(0, len(each), many)]
        return [[[text for of in rows for text in of[k]] for k in places] for rows in by_item]

    def claimed(self, kept: Kept, found: Mapping[str, Found]) -> Numbers:
        c, at = kept.more.strength, levels(found)

        def half(name: str, what: str) -> Float[np.ndarray, " item"]:
            return (at[what, name, c] - at[what, name, -c]) / 2

        def both(what: str) -> Float[np.ndarray, " item"]:
            return (at[what, ENGLISH, c] + at[what, ENGLISH, -c]) / 2

        def pushed(what: str, base: np.ndarray | float, **more: Any) -> Scores:
            """`base` is what is taken off."""

            def scored(name: str) -> Float[np.ndarray, " item"]:
                alone = name == REVERSED
                return at[what, name, c] - at[what, ENGLISH, 0.0] if alone else half(name, what) - base

            return self.above(kept, found, scored(ENGLISH), scored, **more)

        chance, written = (
            (found[name].at(c) - found[name].at(-c))[..., k] / 2 for name, k in ((INSTEAD, 0), (RANDOM, 2))
        )
        enough, others = np.isfinite(written).sum(0) >= FEWEST, mean(chance.T)  # of a few the mean may be anything
        strongest = max(mean(written.T)[enough], default=math.nan)
        worse = WORSE - (both("nats") - at["nats", ENGLISH, 0.0])
        left = both("relevance") - RELEVANT * at["relevance", ENGLISH, 0.0]
        claimed: Numbers = {
            ("sentiment", ""): pushed("written", strongest),
            ("sentiment-mass", ""): pushed("mass", mean(chance), null=[(others - others.mean())[:, None]]),
            ("fluency", ""): self.above(kept, found, worse),
            ("relevance", ""): self.above(kept, found, left),
        }
        for native in [name for name in kept.more.vectors if name != ENGLISH]:
            for kind, what, random in (("native", "written", written), ("native-mass", "mass", chance)):
                limit = AS_WELL * half(native, what)
                scores = pushed(what, limit, but=(AWAY, REVERSED))
                scores.controls[RANDOM] = (mean(random) - limit)[:, None]
                claimed[kind, ""] = scores
        return claimed

    def dose(self, model: LanguageModel, kept: Kept, found: Mapping[str, Found]) -> Numbers:
        """The change of every measure against no steering, by strength (for perplexity the ratio), with the mean itself
        and its spread over seeds; and the difference of the two vectors at the chosen one."""
        rows: Numbers = {}
        at, c, where = levels(found), kept.more.strength, {"of": kept.more.reported(), "layers": [kept.more.layer]}
        about = {what: tuple(zip(("measure", "reading"), named, strict=True)) for what, named in SHOWN.items()}
        for (what, name, s), values in at.items():
            if name in (INSTEAD, REVERSED):
                continue
            seeds = mean(found[name].at(s)[..., [*SHOWN].index(what)].T)
            spread = float(np.std(seeds, ddof=1)) if len(seeds) > 1 else math.nan
            more = {"strength": s, "level": float(mean(values)), "seed_sd": spread}
            if what == "nats":
                more["level"] = math.exp(more["level"])
                more["seed_sd"] *= more["level"]  # of the perplexity, to first order
                more |= {of: lambda row, of=of: np.exp(row[of]) for of in ("value", "low", "high")}
            change = (values - at[what, ENGLISH, 0.0])[:, None]
            rows[f"{self.name}-dose", name, (*about[what], *more.items())] = Scores(change, **where)
        for native, what in product([name for name in kept.more.vectors if name != ENGLISH], [*SHOWN][:4]):
            english, own = (at[what, name, c] - at[what, name, -c] for name in (ENGLISH, native))
            rows[f"{self.name}-difference", "", about[what]] = Scores((english - own)[:, None] / 2, **where)
        return rows


def levels(found: Mapping[str, Found]) -> dict[tuple[str, str, float], Float[np.ndarray, " item"]]:
    """By entry of SHOWN, condition and strength, the mean over seeds or directions."""
    return {
        (what, name, s): mean(of.at(s)[..., k])
        for name, of in found.items()
        for k, what in enumerate([*SHOWN][: of.values.shape[-1]])
        for s in of.strengths
    }


# What is measured


def mean(values: Float[np.ndarray, "*row entry"]) -> Float[np.ndarray, "*row"]:
    """The mean over the last axis of what is a number; nan where nothing is."""
    seen = np.isfinite(values)
    count = seen.sum(-1)
    return np.where(count > 0, np.where(seen, values, 0.0).sum(-1) / np.maximum(count, 1), np.nan)


def mass(
    logprob: Float[Tensor, "*row word"], sides: Sequence[Sequence[list[int]]]
) -> Float[np.ndarray, "*row reading"]:
    """log P(pleasant) - log P(unpleasant), for each reading of which columns are which."""
    logprob = logprob.double()
    each = [logprob[..., up].logsumexp(-1) - logprob[..., down].logsumexp(-1) for up, down in sides]
    return torch.stack(each, -1).numpy()


def fitting_prompts(
    model: LanguageModel, prompts: Sequence[SentimentPrompt], max_new_tokens: int
) -> tuple[list[SentimentPrompt], dict[str, int]]:
    """The prompts that fit into the context with what is written after them, and how many do not; none where fewer than
    FEWEST do."""
    kept = list(readable(model, prompts, lambda prompt: model.anchor + prompt.prompt, room=max_new_tokens))
    lost, few = {"longer than the context": len(prompts) - len(kept)}, len(kept) < FEWEST
    return ([], lost | {f"fewer than {FEWEST} are left": len(kept)}) if few else (kept, lost)


def told_sides(
    model: LanguageModel, task: SentimentTask, left_out: Sequence[Sequence[str]]
) -> tuple[TargetTable, list[list[list[int]]]]:
    """The words of a task that the tokenizer tells apart, and for each of some words that do not count, which of these
    are pleasant and which unpleasant."""
    sides = ((*task.pleasant, task.own[0]), (*task.unpleasant, task.own[1]))
    table = target_table(model, [w for side in sides for w in side], task.prompts[0].prompt)
    words = table.words
    return table, [
        [[k for k, word in enumerate(words) if word in side and word not in out] for side in sides] for out in left_out
    ]


def word_vector(model: LanguageModel, toward: str, away: str) -> Float[Tensor, "layer position hidden"]:
    """The states of two words read as prompts behind the model's `anchor`, `toward` minus `away`, position by position
    (arXiv 2308.10248). The last state of the shorter one stands in for the positions it lacks. Raises SemhubError where
    both are the same tokens."""
    encodings = model.encode([model.anchor + toward, model.anchor + away])
    said = f"{toward!r} and {away!r} are the same tokens to {model.model_id}"
    need(encodings[0].ids != encodings[1].ids, f"{said}; a model that tells them apart would do.")
    longest = max(map(len, encodings))
    rows = [[min(k, len(encoding) - 1) for k in range(longest)] for encoding in encodings]
    states = hidden_states(model, encodings, positions=rows).hidden.reshape(2, longest, model.n_layers + 1, -1)
    return (states[0] - states[1]).transpose(0, 1)


def _at_first(vectors: Float[Tensor, "row position hidden"], layer: int) -> Edit:
    return Edit((layer,), vectors, positions=list(range(vectors.shape[1])))


def measure(
    model: LanguageModel,
    judge: LanguageModel,
    prompts: Sequence[SentimentPrompt],
    texts: Mapping[str, Texts],
    score: Score,
    languages: Iterable[str],
) -> dict[str, Float[np.ndarray, "item coefficient seed measure"]]:
    """Per continuation: sentiment without and with the pair's own words; nats per token under `judge`, given the
    prompt; relevance. nan where there is nothing to measure. Equal continuations are measured once."""
    pairs = list(dict.fromkeys((i, t) for of in texts.values() for i, row in enumerate(of) for at in row for t in at))
    number = {pair: k for k, pair in enumerate(pairs)}
    items, said = [i for i, _ in pairs], [text.strip() for _, text in pairs]
    joined = [join(model, prompts[i].prompt, text) for i, text in pairs]
    without = [without_pair(text, languages).strip() for text in said]
    columns = (
        score(without),
        score(said),
        nats(judge, [prompts[i].prompt for i in items], joined),
        relevance(judge, [p.text for p in prompts], items, said),
    )
    table = np.stack(columns, axis=-1)
    return {
        name: np.array([[[table[number[i, t]] for t in at] for at in row] for i, row in enumerate(of)], float)
        for name, of in texts.items()
    }


def join(model: LanguageModel, prompt: str, continuation: str) -> str:
    """The whole text. Some tokenizers decode without the space before the first word; where `model`'s is one, a space
    is put between two words that are not Chinese."""
    word, both = model.tokenizer(["a", "a b"], add_special_tokens=False)["input_ids"]
    keeps = model.tokenizer.decode(both[len(word) :]).startswith(" ")
    between = (prompt[-1:], continuation[:1])
    apart = not keeps and all(c and not c.isspace() and not "\u3400" <= c <= "\u9fff" for c in between)
    return prompt + " " * apart + continuation


def nats(judge: LanguageModel, prompts: Sequence[str], texts: Sequence[Prompt]) -> Float[np.ndarray, " text"]:
    """Mean negative log-probability per token of what each text adds to its prompt: the logarithm of its perplexity."""
    encodings = judge.encode(texts)
    own = [
        [k for k, (_, end) in enumerate(e.offsets) if end > len(p) and k]
        for e, p in zip(encodings, prompts, strict=True)
    ]
    states = hidden_states(judge, encodings, positions=[[k - 1 for k in row] for row in own], layers=[judge.n_layers])
    if not len(states.item):
        return np.full(len(texts), np.nan)
    targets = torch.tensor([[e.ids[k]] for e, row in zip(encodings, own, strict=True) for k in row])
    logprob = lens(judge, states.hidden, targets=targets).logprob[:, 0].double()
    return -_mean_by(logprob, states.item, len(texts))[:, 0].numpy()


def relevance(
    judge: LanguageModel, prompts: Sequence[str], items: Sequence[int], texts: Sequence[str]
) -> Float[np.ndarray, " text"]:
    """Cosine of a continuation with its own prompt minus the mean with the other prompts: mean states of either text
    read alone, at the middle layer of `judge`. `items`: the prompt of each text; an empty text has none (nan)."""
    unique = list(dict.fromkeys(filter(None, texts)))
    if not unique or len(prompts) < 2:
        return np.full(len(texts), np.nan)
    encodings = judge.encode([*prompts, *unique])
    own = [[k for k, (start, end) in enumerate(e.offsets) if end > start] for e in encodings]  # none that are added
    states = hidden_states(judge, encodings, positions=own, layers=[max(judge.n_layers // 2, 1)])
    unit = normalize(_mean_by(states.hidden[:, 0].cpu().double(), states.item, len(encodings)), dim=-1)
    cosine = (unit[len(prompts) :] @ unit[: len(prompts)].T).numpy()  # text, prompt
    apart = cosine - (cosine.sum(1, keepdims=True) - cosine) / (len(prompts) - 1)
    row = {text: k for k, text in enumerate(unique)}
    return np.array([apart[row[text], i] if text else np.nan for i, text in zip(items, texts, strict=True)])


def _mean_by(values: Float[Tensor, "site width"], item: Tensor, n: int) -> Float[Tensor, "item width"]:
    """The mean of each item's sites; nan where it has none."""
    total = torch.zeros(n, values.shape[1], dtype=values.dtype).index_add_(0, item, values)
    return total / torch.bincount(item, minlength=n)[:, None]


@dataclass(frozen=True)
class Classifier:
    """From texts to P(positive) - P(negative), from -1 to 1; nan for an empty text. weights: tells them from others;
    positive, negative: the labels; longest: tokens that are read of a text."""

    model_id: str
    weights: str
    positive: str
    negative: str
    longest: int
    pipeline: InitVar[Callable]

    def __post_init__(self, pipeline: Callable):
        object.__setattr__(self, "classify", pipeline)

    def __call__(self, texts: Sequence[str]) -> Float[np.ndarray, " text"]:
        filled = {k: text for k, text in enumerate(texts) if text.strip()}
        told = self.classify([*filled.values()], truncation=True, max_length=self.longest) if filled else []
        shares = [{of["label"]: of["score"] for of in said} for said in told]
        found = np.full(len(texts), np.nan)
        found[[*filled]] = [share[self.positive] - share[self.negative] for share in shares]
        return found


def sentiment_classifier(model_id: str, *, device: str | None = None) -> Classifier:
    """A text classifier of the hub, or of a folder.

    Which label is which is read from the checkpoint's own id2label ("positive", "NEG", ...); others, such as "neutral",
    count for neither. Only safetensors are read and no remote code is run. Raises SemhubError on what cannot be loaded,
    or where no label, or more than one, is positive or negative.
    """
    with explained(model_id, None, "tokenizer"):
        tokenizer = transformers.AutoTokenizer.from_pretrained(model_id)
    with explained(model_id, None, "weights"):
        load = transformers.AutoModelForSequenceClassification.from_pretrained
        module, info = load(model_id, use_safetensors=True, output_loading_info=True)
    labels = list(map(str, module.config.id2label.values()))
    sides = [[of for of in labels if re.fullmatch(word, of, re.I)] for word in ("pos(itive)?", "neg(ative)?")]
    given = f"The labels of {model_id} are {', '.join(labels)}"
    need([*map(len, sides)] == [1, 1], f"{given}; a classifier with one label 'positive' and one 'negative' would do.")
    trained = not info["missing_keys"]
    need(trained, f"{model_id} has no trained classifier; a checkpoint of a text classifier would do.")
    longest = min(tokenizer.model_max_length, getattr(module.config, "max_position_embeddings", 256), 256)
    options = {"tokenizer": tokenizer, "device": device_of(device), "top_k": None, "batch_size": 64}
    options["function_to_apply"] = "softmax"  # whatever the configuration says it was trained for
    classify = transformers.pipeline("text-classification", model=module, **options)
    weights = digest(module.state_dict())
    return Classifier(model_id, weights, sides[0][0], sides[1][0], longest, classify)


def moves(found: Evidence, text: str, what: str = "vector") -> str | None:
    """The precondition that the English vector, or `what` it is, moves the sentiment of `text` (such as "English
    text"): None where the verdict on `found` is that it does, if weakly; else the sentence that ends what rests on
    it."""
    verdict = judge(found).verdict
    if verdict in (HOLDS, WEAKLY):
        return None
    if verdict == UNTESTABLE:
        return f"whether the English {what} moves the sentiment of {text} cannot be told, and this rests on it."
    return f"the English {what} does not move the sentiment of {text}, so that there is nothing to compare."

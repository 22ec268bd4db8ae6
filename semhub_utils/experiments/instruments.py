"""A planted effect for each of the paper's 21 instruments, at a known layer and in a ladder of doses.

An instrument that was never seen to say yes says nothing by "does not hold". For what is read, the effect is written
into states once they are read, so that nothing after them is changed: h + dose |h| u at layer PLANTED, where u is the
unit row of the right English word, with OWN times that of the prompt's own word where it is read beside it; or for
similarity a random unit vector for each meaning, the same for both sides. For what changes a model's answers it is what
`organism.taught` was taught; the dose is how far its weights are moved from those of its base. For the way an answer
takes it is a model whose weights were put in by hand. At dose 0 nothing is planted.

A planted effect is found if the claim is judged "holds" and the layer that it rests on is one where it was planted.
"""

import copy
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from semhub_utils.calibration import STATED
from semhub_utils.evidence import Evidence
from semhub_utils.experiments import continuations, interventions, layers, media, regions, unsaid, used, words
from semhub_utils.experiments.alike import Alike, AlikeForms, Swapped
from semhub_utils.experiments.core import Experiment, run
from semhub_utils.identity import digest, of_model
from semhub_utils.inputs import Encoding, Prompt
from semhub_utils.models import LanguageModel
from semhub_utils.organism import taught
from semhub_utils.organism.world import MAX_RESULT
from semhub_utils.spokes import arithmetic, audio, code, facts, languages, semantics, sentiment, translation, vision
from semhub_utils.spokes.items import LensItem, Pair, Twin
from semhub_utils.spokes.translation import Concept, Question, items_of
from semhub_utils.tokens import word_forms
from semhub_utils.verdicts import HOLDS, judge

PLANTED = 4  # of the 8 layers of the book's own models: the middle of the middle
OWN = 0.5  # of the length of the right word's row: what is written of the own word's beside it
DOSES = (0.25, 0.5, STATED, 2.0)  # of what is written; a taught organism's end at its own weights
READ, SEEN = 60, 48  # items, about: of text; pictures and sounds
OF_NAME = 8  # arguments of one parameter, at most

# ---- states with something written into them ----

Place = tuple[tuple[int, ...], str, int]
"""A position of a prompt: tokens, digest of what else it holds, and which token."""
Places = Callable[[Encoding], Sequence[int]]


class Planting(NamedTuple):
    """Where something is written, and what: right words, with own ones beside them, or the name of a meaning."""

    prompt: Prompt
    places: Places
    what: tuple[str, ...] | str
    own: tuple[str, ...] = ()


@dataclass(frozen=True)
class Written:
    """h + weight |h| direction at one layer and some places, and every other state as it is."""

    layer: int
    weight: float
    directions: Mapping[Place, Float[Tensor, " hidden"]]

    def __call__(
        self, hidden: Float[Tensor, "site layer hidden"], sites: Sequence[tuple[Encoding, int]], layers: Sequence[int]
    ) -> Float[Tensor, "site layer hidden"]:
        wanted = [self.directions.get((tuple(e.ids), e.content, p)) for e, p in sites]
        some = [k for k, direction in enumerate(wanted) if direction is not None]
        if self.layer in layers and some:
            at, new = [*layers].index(self.layer), torch.stack([wanted[k] for k in some]).to(hidden)
            old = hidden[some, at]
            hidden[some, at] = old + self.weight * old.norm(dim=-1, keepdim=True) * new
        return hidden


def planted(model: LanguageModel, dose: float, plantings: Iterable[Planting], seed: int) -> LanguageModel:
    """The model with states that are written into when they are read: what it says, and what its store keeps, is that
    of the model without. Where nothing is planted, that model itself. seed: of the vectors of meanings."""
    return written(model, Written(PLANTED, dose, directions(model, plantings, seed))) if dose else model


def written(model: LanguageModel, what: Written) -> LanguageModel:
    """The model with this written into its states when they leave the store, and a fingerprint of its own."""
    found = copy.copy(model)
    found.written, found.fingerprint = what, digest(of_model(model), what)
    return found


def directions(model: LanguageModel, plantings: Iterable[Planting], seed: int) -> dict[Place, Tensor]:
    """Unit vectors: the mean of the unit rows of the words that are one token, none where there are none; with OWN
    times that of own words; or for a meaning a random one, drawn by its name and `seed`."""
    plantings = [Planting(*of) for of in plantings]
    prompts = [of.prompt for of in plantings]
    said = [words for of in plantings for words in (of.what, of.own) if not isinstance(words, str)]
    named = list(dict.fromkeys(word for words in said for word in words))
    context = next((prompt for prompt in prompts if isinstance(prompt, str)), "")
    rows = {form.word: form.unembedding_row(model) for form in word_forms(model, named, context)} if named else {}
    found: dict[Place, Tensor] = {}

    def unit(words: tuple[str, ...]) -> Tensor | None:
        some = [normalize(rows[word], dim=0) for word in words if rows[word] is not None]
        return normalize(torch.stack(some).sum(0), dim=0) if some else None

    for encoding, of in zip(model.encode(prompts), plantings, strict=True):
        if isinstance(of.what, str):
            make = torch.Generator().manual_seed(random.Random(f"{of.what} {seed}").getrandbits(62))
            vector = normalize(torch.randn(model.hidden_size, generator=make), dim=0)
        elif (vector := unit(of.what)) is not None and (own := unit(of.own)) is not None:
            vector = vector + OWN * own
        if vector is not None:
            for place in of.places(encoding):
                found.setdefault((tuple(encoding.ids), encoding.content, place), vector)
    return found


def last(encoding: Encoding) -> list[int]:
    return [len(encoding) - 1]


def right_words(items: Sequence[LensItem], name: str, own: str = "") -> Iterator[Planting]:
    """What a prompt's last state is read for, and what it is read against."""
    return (Planting(i.prompt, last, i.targets[name], i.targets[own] if own else ()) for i in items)


def meanings(pairs: Sequence[Pair]) -> Iterator[Planting]:
    """One meaning for both sides of a pair, and for every pair that one of them is in."""
    of: dict[str, str] = {}
    for pair in pairs:
        texts = [side for side in (pair.a, pair.b) if isinstance(side, str)]
        meaning = next((of[text] for text in texts if text in of), pair.id)
        of |= dict.fromkeys(texts, meaning)
        yield from (Planting(side, last, meaning) for side in (pair.a, pair.b))


# ---- what tables are made of ----

Piece = tuple[str, Callable[[], LanguageModel], Callable[[LanguageModel], pd.DataFrame]]  # label, model, what measures
Trained = dict[tuple[str, int], Path]  # by the name and seed on their cards


def numbers_of(e: Evidence, there: bool = False) -> dict[str, float]:
    """The numbers at the layer the verdict rests on; p is the least of the window, as the claim is about any layer, or
    that which is `there`."""
    layer = judge(e).layer
    if layer is None:
        return {"n": e.n}
    i = e.layers.index(layer)
    p = e.p[i] if there else min(e.p[k] for k, at in enumerate(e.layers) if at in e.window)
    numbers = {"value": e.values[i], "low": e.low[i], "high": e.high[i], "p": p, "n": e.n}
    return numbers | {"layer": layer, "depth": layer / e.n_layers}


# ---- the instruments ----


class Case(NamedTuple):
    """What an instrument is run on: an experiment, its items, what they go by; where something is planted, and how its
    run is told apart from the usual (`core.run`)."""

    experiment: Experiment
    items: Sequence
    series: str
    plantings: Iterable[Planting] = ()
    options: Mapping[str, Any] = {}


Make = Callable[[LanguageModel, int], Case]


@dataclass(frozen=True)
class Instrument:
    """row: the paper's experiment, in the order of its sections, or "own"; chapter: of the book; claims: the
    experiments whose claims it makes, the row's own first; make: of a model and a seed; sense: what the model has to
    take besides text; taught: the organism in which its effect is planted, if none can be written; by_hand: or what
    makes the model in which it is, of dose and seed; at: the layers at which that is found; abroad: the same asked for
    Spanish words, where a model was taught English ones alone."""

    row: int | str
    name: str
    chapter: str
    claims: tuple[str, ...]
    make: Make
    sense: str = ""
    taught: str = ""
    at: tuple[int, ...] = (PLANTED,)
    abroad: Make | None = None
    by_hand: Callable[[float, int], LanguageModel] | None = None

    def look(
        self,
        model: LanguageModel,
        seed: int,
        doses: Mapping[float, LanguageModel | None] | None = None,
        *,
        abroad=False,
    ) -> pd.DataFrame:
        """A row per dose and claim: its verdict, and whether what is planted is found. doses: with the model that has
        that dose of what is taught, None where it is written into the states; by default nothing is planted. Random
        weights do not stand beside it, as they are a model of their own here."""
        case, rows = (self.abroad if abroad else self.make)(model, seed), []
        given = {"series": case.series, "seed": seed, "twins": (), "brief": True, **case.options}
        plantings = list(case.plantings)
        for dose, other in (doses or {0.0: model}).items():
            subject = other or planted(model, dose, plantings, seed)
            found = run(case.experiment, subject, case.items, **given)[1]
            first = {e.experiment: e for e in found[::-1]}
            rows += [self._row(first[name], dose) for name in self.claims]
        return pd.DataFrame(rows)

    def _row(self, e: Evidence, dose: float) -> dict[str, Any]:
        verdict = judge(e)
        i = e.layers.index(verdict.layer) if verdict.layer is not None else 0
        told = {"row": self.row, "instrument": self.name, "chapter": self.chapter, "experiment": e.experiment}
        told |= {"dose": dose}
        told |= {"verdict": verdict.verdict, "by": verdict.by, "layer": verdict.layer, "value": e.values[i]}
        told |= {"p": e.p[i], "n": e.n, "units": e.n_units}
        return told | {"found": verdict.verdict == HOLDS and verdict.layer in self.at}


def _sentences(model: LanguageModel, seed: int) -> Case:
    known = languages.known_continuation(model.tokenizer)
    first = languages.pair_sets(languages.parallel_sentences(4 * READ, seed=seed), known)
    pairs = next(some.pairs for some in first if some.series == "spanish")[:READ]
    return Case(Alike(), pairs, "spanish", meanings(pairs))


def _running_text(model: LanguageModel, seed: int) -> Case:
    lines = {name: languages.running_text(name, 3 * READ, seed=seed) for name in ("english", "spanish")}
    given = {"counts": languages.word_counts(lines["english"]), "n_words": 3 * READ, "seed": seed}
    items = words.word_items(model, lines["spanish"], "spanish", languages.dictionary("spanish"), **given)
    return Case(words.Lens("english", "own"), items, "spanish", right_words(items, "english", "own"))


def _lines(kind: type[Experiment], model: LanguageModel, seed: int) -> Case:
    """Every position of a line says the words of its translation."""
    texts = languages.split_texts(40, 500, seed=seed)
    some = next(text for text in texts if text.name == "spanish")
    told, places = zip(some.read, some.twins, strict=True), partial(layers.text_positions, model)
    plantings = ((line, places, tuple(languages.words_in(twin))) for line, twin in told)
    return Case(kind("spanish"), texts, "spanish", plantings)


def _calculations(seed: int) -> list[arithmetic.Calculation]:
    return arithmetic.items(2 * READ, seed, MAX_RESULT + 1)


def _sums(model: LanguageModel, seed: int) -> Case:
    pairs = arithmetic.similarity_pairs(_calculations(seed))
    return Case(Alike(), pairs, "digits", meanings(pairs))


def _digits(experiment: Experiment, model: LanguageModel, seed: int) -> Case:
    items = arithmetic.lens_items(_calculations(seed))
    return Case(experiment, items, "digits", right_words(items, "word", "digit"))


def _pushed_sums(model: LanguageModel, seed: int) -> Case:
    items = arithmetic.steering_items(arithmetic.items(4 * READ, seed, MAX_RESULT + 1))  # half are fit for it
    return Case(interventions.Steering(strengths=(0.0, 1.0, 2.0)), items, "digits")


def _commas(model: LanguageModel, seed: int) -> Case:
    places = code.comma_places(code.programs(3 * READ, seed=seed))
    lists = ((place.text[: place.at], last, ("and",)) for place in places if place.kind == "list")
    return Case(unsaid.Ands(), places, "lists", lists)


def _arguments(model: LanguageModel, seed: int) -> Case:
    """Every function of the world gets parameters of other names, of its own there are too few to judge by, and is
    called but so often that no name is half of them all."""
    rng, names = random.Random(f"parameters {seed}"), facts.english_words()
    known = {function: tuple(rng.sample(names, 4)) for function in code.library()}
    places = code.argument_places(code.programs(6 * READ, seed=seed), known)
    of_name = defaultdict(list)
    for place in places:
        of_name[place.name] += [place] * (place.kind == "builtin")
    items = unsaid.argument_items(model, places.but(place for some in of_name.values() for place in some[:OF_NAME]))
    plantings = right_words(items, "name", "argument")
    return Case(words.Lens("name", "argument"), items, "arguments", plantings, {"over": "moves_with"})


def _ranges(model: LanguageModel, seed: int) -> Case:
    return Case(interventions.Range(), code.range_places(code.programs(4 * READ, seed=seed)), "range")


def _forms(model: LanguageModel, seed: int) -> Case:
    pairs = semantics.similarity_pairs(semantics.meanings(seed=seed), READ, seed=seed)
    return Case(AlikeForms(), pairs, "others", meanings(pairs), {"readings": AlikeForms.readings[:1]})


def _swaps(model: LanguageModel, seed: int) -> Case:
    """The form in another order means the same; with the names swapped it means something else."""
    items = semantics.swap_items(semantics.meanings(seed=seed), READ, seed=seed)
    same = ((text, last, item.id) for item in items for text in (item.sentence, item.form, item.shuffled))
    return Case(Swapped(), items, "names swapped", same, {"readings": Swapped.readings[:1]})


def _roles(model: LanguageModel, seed: int) -> Case:
    known = semantics.meanings(seed=seed)
    items = semantics.role_items(known, 2 * READ, seed=seed)
    return Case(unsaid.Roles(tuple(semantics.form_words(known))), items, "lead", right_words(items, "role"))


def _captions(model: LanguageModel, seed: int) -> Case:
    pairs = vision.similarity_pairs(vision.scenes(SEEN, seed=seed))
    return Case(Alike(), pairs, "captions", meanings(pairs))


def _seen(named: str, model: LanguageModel, seed: int, language: str = "english") -> Case:
    experiment = regions.RightWords(named)
    if named == "colours":
        items = vision.colour_items(vision.plain_colours(SEEN, seed=seed))
        experiment = regions.RightWords(named, first=True, nothing=("white noise",))
    else:
        make = vision.caption_items if named == "nouns" else vision.area_items
        items = make(vision.scenes(SEEN, seed=seed), seed=seed)

    def said(of: tuple) -> tuple:
        return tuple(said(one) if isinstance(one, tuple) else vision.word(one, language) for one in of)

    items = [replace(i, **{name: said(getattr(i, name)) for name in ("right", "wrong", "released")}) for i in items]
    plantings = ((item.prompt, item.places, item.right) for item in items)
    return Case(experiment, items, "things", plantings, {"readings": ("normed",)})


def _halves(model: LanguageModel, seed: int) -> Case:
    items = vision.recolour_items(vision.two_halves(45, seed=seed, held_out=None), manner="world", seed=seed)
    return Case(media.Recolour(), items, "two colours")


def _heard(language: str, seed: int) -> list[audio.Clip]:
    def said(word: str) -> str:
        return vision.word(word, language)

    return [replace(c, label=said(c.label), words=tuple(map(said, c.words))) for c in audio.clips(2 * SEEN, seed=seed)]


def _clips(model: LanguageModel, seed: int, language: str = "english") -> Case:
    clips = _heard(language, seed)
    sounds = ((words.asked(model, audio.heard(c, model.anchor + audio.SLOT)), last, c.label) for c in clips)
    labels = ((model.anchor + label, last, label) for label in dict.fromkeys(clip.label for clip in clips))
    return Case(regions.AlikeLabel(), clips, "sound alone", [*sounds, *labels], {"over": "moves_with"})


def _label_words(model: LanguageModel, seed: int, language: str = "english") -> Case:
    clips = _heard(language, seed)
    plantings = ((audio.heard(clip), lambda e: e.frames, clip.words) for clip in clips)
    return Case(regions.LabelWords(), clips, "sound", plantings, {"over": "moves_with", "readings": ("normed",)})


def _animals(model: LanguageModel, seed: int) -> Case:
    items = audio.kind_items(audio.animal_clips(SEEN, seed=seed, held_out=None), "english")
    return Case(media.AnimalPush(), items, "english", options={"over": "moves_with"})


def _mood(model: LanguageModel, seed: int) -> Case:
    task = sentiment.task("spanish", 32, seed=seed, tagged=True)
    return Case(continuations.Sentiment(task=task, max_new_tokens=4), task.prompts, "spanish")


def _twins(model: LanguageModel, seed: int) -> Case:
    if not model.model_id.startswith(taught.BY_HAND):
        alone = languages.halves(languages.parallel_sentences(READ, seed=seed), "english")
        items = facts.twins(facts.prompts("spanish", 2 * READ, seed=seed, held_out=False))
        return Case(used.Necessity(english=alone), items, "spanish")
    asked = [(k, *(f"<s> {kind}{k}" for kind in "dwx")) for k in range(taught.PAIRS)]
    alone = [Twin(str(k), x, x, f"y{k}", f"y{k}", "", "", str(k)) for k, _, _, x in asked]
    items = [Twin(str(k), d, w, f"a{k}", f"a{k}", "", "", str(k)) for k, d, w, _ in asked]
    return Case(used.Necessity(english=alone), items, "d")


def _concepts(model: LanguageModel, seed: int) -> Case:
    if not model.model_id.startswith(taught.BY_HAND):
        return Case(used.Concepts(), translation.concept_items(READ, seed=seed, world=True), used.LAST)

    def asked(concept: Concept, source: str, target: str) -> Question:
        return Question(f"{concept.words[source]} {target} :", len(concept.words[source]))

    said = ({name: f"{name}{k}" for name in taught.TONGUES} for k in range(taught.CONCEPTS))
    known = [Concept(str(k), str(k % 3), of) for k, of in enumerate(said)]
    return Case(used.Concepts(), items_of(known, READ, asked, np.random.default_rng(seed)), used.LAST)


NEAR = (PLANTED - 1, PLANTED, PLANTED + 1)  # what is added one block off is still there
BEFORE = tuple(range(1, PLANTED + 1))  # what is replaced from an earlier layer on is replaced at this one too
LEAD = ("lens-lead", "lens-meaning")
TRAJECTORY = words.Trajectory(arithmetic.trajectory_words(), "word", "digit")


def _media(row: int, name: str, claim: str, make: Callable, sense: str) -> Instrument:
    """Right words read at pictures or sounds, also in Spanish."""
    chapter, abroad = name.partition(":")[0], partial(make, language="spanish")
    return Instrument(row, name, chapter, (claim,), make, sense, abroad=abroad)


INSTRUMENTS = (
    Instrument(1, "languages: similarity", "languages", ("similarity",), _sentences),
    Instrument(2, "languages: lens, word by word", "languages", LEAD, _running_text),
    Instrument(3, "languages: language of the layers", "layers", ("layers-lead",), partial(_lines, layers.Shares)),
    Instrument(4, "languages: steering", "steering", ("sentiment-mass", "sentiment"), _mood, "", "taught", NEAR),
    Instrument(5, "arithmetic: similarity", "arithmetic", ("similarity",), _sums),
    Instrument(6, "arithmetic: lens", "arithmetic", LEAD, partial(_digits, words.Lens("word", "digit"))),
    Instrument(7, "arithmetic: trajectories", "arithmetic", ("trajectory",), partial(_digits, TRAJECTORY)),
    Instrument(8, "arithmetic: intervention", "arithmetic", ("steering",), _pushed_sums, "", "taught", NEAR),
    Instrument(9, 'code: "and" at commas', "code", ("and-lead", "and-place"), _commas),
    Instrument(10, "code: argument roles", "code", LEAD, _arguments),
    Instrument(11, "code: range", "code", ("steering",), _ranges, "", "taught", NEAR),
    Instrument(12, "semantics: similarity", "semantics", ("similarity",), _forms),
    Instrument(13, "semantics: roles", "semantics", ("roles",), _roles),
    Instrument(14, "vision: similarity", "vision", ("similarity",), _captions, "sees"),
    _media(15, "vision: colours", "colours", partial(_seen, "colours"), "sees"),
    _media(16, "vision: caption nouns", "nouns", partial(_seen, "nouns"), "sees"),
    _media(17, "vision: segments", "segments", partial(_seen, "segments"), "sees"),
    Instrument(18, "vision: recolour", "vision", ("recolour-above-random",), _halves, "sees", "taught-sees", BEFORE),
    _media(19, "audio: similarity", "clip-label", _clips, "hears"),
    _media(20, "audio: label words", "label-words", _label_words, "hears"),
    Instrument(21, "audio: intervention", "audio", ("push-unembedding",), _animals, "hears", "taught-hears", NEAR),
    Instrument("own", "semantics: names swapped", "semantics", ("swap",), _swaps),
    Instrument(
        "own", "languages: meaning of the layers", "layers", ("layers-meaning",), partial(_lines, layers.Meaning)
    ),
    Instrument(
        "own",
        "used: what is shared is needed",
        "used",
        ("necessity",),
        _twins,
        at=(taught.USED,),
        by_hand=taught.sharer,
    ),
    Instrument(
        "own",
        "used: concept apart from language",
        "used",
        ("concepts", "concepts-mean"),
        _concepts,
        at=(taught.APART,),
        by_hand=taught.translator,
    ),
)
"""In the order of the paper; behind them the book's own."""
ROWS = {of.name: of.row for of in INSTRUMENTS}

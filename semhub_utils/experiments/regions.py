"""What the lens says at positions of a picture or a sound: right words against wrong ones, and what comes first."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, product
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from semhub_utils import evidence
from semhub_utils.evidence import COSINE, NATS, Unit, evenly
from semhub_utils.experiments.alike import NEAREST, RELEASED, last_states
from semhub_utils.experiments.core import Claim, Experiment
from semhub_utils.experiments.numbers import Columns, Exchange, Kept, Numbers, Scores, Weighed
from semhub_utils.experiments.words import asked
from semhub_utils.inputs import Encoding, Input, Prompt
from semhub_utils.lens import available_readings, lens, reading_of, word_logprobs
from semhub_utils.models import LanguageModel
from semhub_utils.pairings import least_permutation_p, random_pairings
from semhub_utils.similarity import cosine_matrix
from semhub_utils.spokes.audio import SLOT, Clip, heard
from semhub_utils.spokes.items import PICTURES, LensItem
from semhub_utils.spokes.vision import Picture, SeenItem, alone, names
from semhub_utils.states import hidden_states, stream_states
from semhub_utils.tokens import TargetTable, label, target_table, word_forms

PROBABILITY, FIRST, RANK, ENTROPY = "probability", "first", "rank", "entropy"
TIMES = 8  # equal parts of a clip in the figure over time
MAX_CELLS = 16_000  # of an overlay: words that a page can carry
FEWEST = 5  # layers of an overlay, as long as one picture is left
ByWord = Float[np.ndarray, "item layer word"]


def read_regions(
    reader: LanguageModel,
    prompts: Sequence[Prompt],
    regions: Sequence[Sequence[Sequence[int]]],
    ids: Int[Tensor, " target"],
    groups: Sequence[Sequence[int]],
    reading: str,
    wanted: Sequence[str],
) -> dict[str, Float[np.ndarray, "region layer group"]]:
    """What the lens says in every region (positions of a prompt; several to a prompt, in order) of groups of tokens,
    `ids[group]`: the log of the mean PROBABILITY over the positions; the share of positions at which one of them comes
    FIRST; the mean of the best RANK among them; and of all tokens the mean ENTROPY [region, layer, 1], in nats. nan
    for an empty region. What was read once of a picture or sound is taken from the handle's store."""
    positions = [sorted({*chain(*some)}) for some in regions]
    options = {"top_k": int(FIRST in wanted), "rank": RANK in wanted, "entropy": ENTROPY in wanted}
    options["reading"] = way = reading_of(reader, "raw" if reading == RELEASED else reading).at_patches
    store, encodings = reader.store, reader.encode(prompts)
    about = reader.weights, way.name, way.fingerprint, tuple(ids.tolist()), tuple(map(tuple, groups))
    keys = [
        (*about, e.content, tuple(e.ids), tuple(map(tuple, some))) for e, some in zip(encodings, regions, strict=True)
    ]
    measures = {
        PROBABILITY: lambda seen: word_logprobs(seen.logprob, groups),
        FIRST: lambda seen: torch.cat([torch.isin(seen.top_ids, ids[list(group)]) for group in groups], -1),
        RANK: lambda seen: torch.stack([seen.rank[..., list(group)].amin(-1) for group in groups], -1),
        ENTROPY: lambda seen: seen.entropy[..., None],
    }
    found = {what: [store.kept(what, *key) if reader.plain else None for key in keys] for what in wanted}
    left = [i for i, places in enumerate(positions) if places and any(of[i] is None for of in found.values())]
    for states in stream_states(reader, [encodings[i] for i in left], positions=[positions[i] for i in left]):
        for n in states.item.unique().tolist():  # one picture of hundreds of patches at a time
            own, i = states.item == n, left[n]
            row = {place: k for k, place in enumerate(states.position[own].tolist())}
            seen = lens(reader, states.hidden[own], targets=ids, **options)
            for what in wanted:
                values, parts = measures[what](seen).double(), []
                for part in (values[[row[place] for place in region]] for region in regions[i]):
                    of_logs = part.logsumexp(0) - part.new_tensor(len(part)).log()
                    parts.append(of_logs if what == PROBABILITY else part.mean(0))
                found[what][i] = whole = torch.stack(parts)
                if reader.plain:
                    store.keep(whole, whole.nbytes, what, *keys[i])
    return {what: torch.cat([some for some in of if some is not None]).numpy() for what, of in found.items()}


@dataclass(frozen=True)
class Against:
    """What every word counts for or against an item; nan for an item that has none, and `why` it has none."""

    weights: Float[np.ndarray, "item word"]
    why: str
    of_items: ClassVar = ("weights",)

    def claimed(self, values: ByWord, reading: str, first: bool = False, **elsewhere: ByWord) -> Scores:
        """The weighed sums of shares of positions, or of logarithms of probabilities; as released, of probabilities.
        elsewhere: the same numbers where the claim must not show."""
        unit = Unit.share("positions") if first else evidence.PROBABILITY if reading == RELEASED else NATS
        if unit is evidence.PROBABILITY:
            values, elsewhere = np.exp(values), {name: np.exp(some) for name, some in elsewhere.items()}
        curve = self.curve(Weighed(values, self.weights).own)
        controls = {name: Weighed(some, self.weights).own[curve.of] for name, some in elsewhere.items()}
        own = Weighed(values[curve.of], self.weights[curve.of])
        return replace(curve, values=own, controls=controls, unit=unit, alone=False)

    def curve(self, values: Float[np.ndarray, "item layer"]) -> Scores:
        """Of the items that have weights, without controls."""
        of = np.isfinite(self.weights).all(1)
        return Scores(values[of], of=of, lost={self.why: int((~of).sum())}, alone=True)

    def sides(self, what: str, called: Sequence[str], values: ByWord) -> Numbers:
        """Curves of what counts for an item and of what counts against it, by these names."""
        parts = (np.maximum(self.weights, 0), np.maximum(-self.weights, 0))
        return {(what, n): self.curve(Weighed(values, part).own) for n, part in zip(called, parts, strict=True)}


# ---- pictures ----


@dataclass(frozen=True)
class Renamed:
    """The words have changed names, so that a few that are alike by chance are few."""

    def draws(
        self, kept: Kept, scores: Scores, series: str, columns: Columns, first: int, end: int, seed: int
    ) -> list[np.ndarray]:
        values, weights = self._used(scores)
        word, drawn = np.arange(weights.shape[1]), {"draws": end - first, "seed": seed + first}
        names = random_pairings(weights.shape[1], **drawn)
        by_layer = (weights.T @ numbers / len(weights) for numbers in np.moveaxis(values, 1, 0))
        return [np.stack([by[word, names].sum(1) for by in by_layer], axis=1) @ columns]

    def least(self, kept: Kept, scores: Scores, series: str) -> float:
        n_words = self._used(scores)[1].shape[1]
        return least_permutation_p(np.zeros(n_words), np.arange(n_words))

    def _used(self, scores: Scores) -> tuple[ByWord, Float[np.ndarray, "item word"]]:
        """The words that count for any item."""
        used = (scores.values.weights != 0).any(0)
        return scores.values.values[:, :, used], scores.values.weights[:, used]


@dataclass(frozen=True)
class _Shown:
    """The words, the number of each item's picture, and what counts for and against it, by whether as released."""

    table: TargetTable
    pictures: list[int]
    against: dict[bool, Against]
    of_items: ClassVar = ("pictures", "against")


@dataclass(frozen=True)
class RightWords(Experiment):
    """At an item's positions (`SeenItem`), does the lens read its right words rather than its wrong ones?

    Claim `<named>/<series>`: the mean over right words minus the mean over wrong ones of the log of the probability,
    averaged over positions before (with `first`: of the share of positions that put the word first). The reading "as
    released" is raw, in probabilities, and with the release's own words. Two nulls, the harder counts: right and wrong
    words shuffled among the items of a group, an anchor's together; and words having changed names. Controls: pictures
    with `nothing` on them, and of areas the rest of the picture ("elsewhere"). Words of several tokens count by the
    first; items left without right or wrong words, or without a position, are dropped and counted. Curves: the
    probabilities (`<named>-probability`, series "right" and "wrong"). words: those of all series, so that a picture is
    read once for them all.
    """

    named: str
    first: bool = False
    nothing: tuple[str, ...] = PICTURES
    words: tuple[str, ...] = ()
    readings: ClassVar[tuple[str, ...]] = ("normed", RELEASED)
    parts: ClassVar[str] = "cluster"
    shared: ClassVar[bool] = True

    @property
    def claims(self) -> tuple[Claim, ...]:
        said = {"null_in_words": "words shuffled among pictures; words having changed names", "outcome": self.first}
        return (Claim(self.named, nulls=(Exchange(), Renamed()), **said),)

    def fit(self, model: LanguageModel, items: Sequence[SeenItem]) -> Kept:
        table = target_table(model, self.words or words_of(items))
        shown = {id(item.picture.image): item.prompt for item in items}  # a picture is read once for all its items
        number, encodings = {image: k for k, image in enumerate(shown)}, model.encode([*shown.values()])
        known, kept, dropped = {*table.words}, [], Counter()
        for item in sorted(items, key=lambda item: number[id(item.picture.image)]):
            encoding = encodings[number[id(item.picture.image)]]
            if not ({*item.right} & known and {*item.wrong} & known):
                dropped["no right or no wrong word with a token of its own"] += 1
            elif item.area is not None and encoding.grid is None:
                dropped["the model lays its patches on no grid"] += 1
            elif not item.places(encoding):
                dropped["no patch more than half inside"] += 1
            else:
                kept.append(item)
        pictures = [number[id(item.picture.image)] for item in kept]
        against = {how: Against(_weights(table.words, kept, how), "no words as released") for how in (True, False)}
        return Kept(kept, dropped, more=_Shown(table, pictures, against), prompts=[*shown.values()])

    def read(self, reader: LanguageModel, kept: Kept, prompts: Sequence[Input], reading: str) -> Numbers:
        here, elsewhere = self._numbers(reader, kept, prompts, reading, SeenItem.places, SeenItem.elsewhere)
        against, shown = kept.more.against[reading == RELEASED], here if self.first else np.exp(here)
        beside = {"elsewhere": elsewhere} if np.isfinite(elsewhere).any() else {}  # of whole pictures there is none
        claimed = {(self.named, ""): against.claimed(here, reading, self.first, **beside)}
        return claimed | against.sides(f"{self.named}-probability", ("right", "wrong"), shown)

    def beside(self, reader: LanguageModel, kept: Kept, prompts: Sequence[Input], reading: str) -> Numbers:
        [here] = self._numbers(reader, kept, prompts, reading, SeenItem.places)
        return {(self.named, ""): kept.more.against[reading == RELEASED].claimed(here, reading, self.first)}

    def _numbers(
        self, reader: LanguageModel, kept: Kept, prompts: Sequence[Input], reading: str, *places: Callable
    ) -> list[ByWord]:
        """Of every word at each of these places of the items, the share of positions or the log of the probability."""
        table, pictures, encodings = kept.more.table, kept.more.pictures, reader.encode(prompts)
        regions: list[list] = [[] for _ in prompts]
        for item, k in zip(kept.items, pictures, strict=True):
            regions[k] += [place(item, encodings[k]) for place in places]
        what = FIRST if self.first else PROBABILITY
        found = read_regions(reader, encodings, regions, table.ids, table.groups, reading, (what,))[what]
        return [found[k :: len(places)] for k in range(len(places))]


def words_of(items: Iterable[SeenItem]) -> tuple[str, ...]:
    """All words that items are read for, in order."""
    return tuple(dict.fromkeys(w for i in items for some in (i.right, i.wrong, *i.released) for w in some))


def _weights(words: Sequence[str], items: Sequence[SeenItem], released: bool) -> Float[np.ndarray, "item word"]:
    """What every word counts in an item's score: right ones for it, wrong ones against; nan without both."""
    column, weights = {word: k for k, word in enumerate(words)}, np.full((len(items), len(words)), np.nan)
    for row, item in zip(weights, items, strict=True):
        right, wrong = item.released if released else (item.right, item.wrong)
        paired = len(right) == len(wrong) and not released
        right, wrong = ([column[w] for w in some if w in column] for some in (right, wrong))
        if paired:  # word for word, also where one has no token
            right, wrong = right[: len(wrong)], wrong[: len(right)]
        if right and wrong:
            row[:] = 0
            scale = len(right) if released else 1  # the release sums over words
            np.add.at(row, right, scale / len(right))
            np.add.at(row, wrong, -scale / len(wrong))  # of a word on both sides the two cancel
    return weights


def overlay(
    model: LanguageModel, pictures: Sequence[Picture], words: Sequence[str], *, max_cells: int = MAX_CELLS
) -> pd.DataFrame:
    """What the lens puts first at every patch, for `figures.overlay`: one row per picture, reading, layer, patch and
    `among` ("all words", or those of `words` that have a token of their own).

    Columns: picture (`vision.names`), reading, among, layer, depth, row, column, rows,
    columns, view (as in `Encoding`), word, value (its probability), right (the word is true of what the patch shows).
    Where there would be more than `max_cells` rows, layers are left out, evenly and of all pictures alike, and rather
    than to show fewer than FEWEST layers, the last pictures. No row for a model without a grid of patches.
    """
    readings, table, named = available_readings(model), target_table(model, words), names(pictures)
    owner = [w for w, group in zip(table.words, table.groups, strict=True) for _ in group]
    among = ("all words", "colours and things") if owner else ("all words",)
    encodings = model.encode([alone(picture) for picture in named.values()])
    shown = [of for of in zip(named.items(), encodings, strict=True) if of[1].grid]

    def room() -> int:
        """Layers that can be shown of these pictures."""
        return max_cells // max(1, sum(len(e.patches) for _, e in shown) * len(readings) * len(among))

    while len(shown) > 1 and room() < min(FEWEST, model.n_layers + 1):
        shown.pop()
    layers, rows = evenly(range(model.n_layers + 1), max(2, room())), []
    for (name, picture), encoding in shown:
        true = {place: set() for place in encoding.patches}
        for area in picture.areas:
            for place in picture.places(area, encoding):
                true[place] |= {*area.words}
        hidden = hidden_states(model, [encoding], positions=encoding.patches, layers=layers).hidden
        for reading in readings:
            options = {"targets": table.ids if owner else None, "layers": layers}
            options["reading"] = reading_of(model, reading).at_patches
            seen = lens(model, hidden, top_k=1, **options)
            texts = {int(i): label(model, i).strip() for i in seen.top_ids.unique()}
            firsts = {among[0]: (seen.top_ids[..., 0], seen.top_logprobs[..., 0], texts)}
            if owner:
                firsts[among[1]] = (*seen.logprob.max(-1)[::-1], owner)
            for (at, layer), (which, (ids, logprob, said)) in product(enumerate(layers), firsts.items()):
                of = {
                    "picture": name,
                    "reading": reading,
                    "among": which,
                    "layer": layer,
                    "depth": layer / model.n_layers,
                }
                of |= {"rows": encoding.grid[0], "columns": encoding.grid[1], "view": encoding.view}
                for k, (i, p) in enumerate(zip(ids[:, at].tolist(), logprob[:, at].exp().tolist(), strict=True)):
                    row, column = divmod(k, encoding.grid[1])
                    word = {"word": said[i], "value": p, "right": said[i].lower() in true[encoding.patches[k]]}
                    rows.append(of | {"row": row, "column": column} | word)
    return pd.DataFrame(rows)


# ---- sounds ----

SHUFFLED = "labels shuffled among clips of a group"
OWN = ("own label", "other labels")
OF_GROUP = "corrected"  # with labels of the own group alone


def labelled(clips: Sequence[Clip], words: Sequence[tuple[str, ...]], text: str = "") -> list[LensItem]:
    """Clips, in a text, with the words of their labels as items: clips of one label move together."""
    every = ((c, f"{c.group}: {' '.join(of)}", of) for c, of in zip(clips, words, strict=True))
    return [LensItem(c.id, heard(c, text), {"own": of}, c.cluster, group=c.group, anchor=a) for c, a, of in every]


@dataclass(frozen=True)
class Labels:
    """The different labels of some clips: their groups and words. of: which one is an item's; read: what else an
    experiment resolved of them."""

    names: list[tuple[str, tuple[str, ...]]]
    of: Int[np.ndarray, " item"]
    read: Any = None
    of_items: ClassVar = ("of",)

    @classmethod
    def among(cls, items: Sequence[LensItem], read: Any = None) -> "Labels":
        every = [(item.group, item.targets["own"]) for item in items]
        names = list(dict.fromkeys(every))
        return cls(names, np.array([names.index(label) for label in every], int), read)

    def others(self, *, of_group: bool = False, as_long: bool = False) -> Bool[np.ndarray, "label label"]:
        """Which labels each is compared with: those with no word in common; of its group alone, or as long alone."""
        n, found = len(self.names), []
        for (group, words), (other_group, others) in product(self.names, repeat=2):
            alike = (group == other_group or not of_group) and (len(words) == len(others) or not as_long)
            found.append(alike and not {*words} & {*others})
        return np.array(found, bool).reshape(n, n)

    def weights(self, others: Bool[np.ndarray, "label label"]) -> Float[np.ndarray, "item label"]:
        """The own label against the mean of those that it is compared with; nan where there is none."""
        with np.errstate(invalid="ignore"):
            return (np.eye(len(self.names)) - others / others.sum(1, keepdims=True))[self.of]


@dataclass(frozen=True)
class AlikeLabel(Experiment):
    """Is a clip closer to its own label's text than to other labels'? `frame` is the sentence that the sound, or the
    label's text, stands in.

    Claim `clip-label/<series>`: the share of clips whose own label is the nearest by cosine of its group (animals with
    animals), above chance (NEAREST), against labels shuffled among clips of a group. Beside it the cosine with the own
    label minus the mean with others, of the own group ("corrected") and of all clips ("as released"). Curves:
    `clip-retrieval`, is the own label the nearest of all (labels that tie share the answer; series "chance"); and the
    plain cosine (`clip-cosine`).
    """

    frame: str = "{}"
    claims: ClassVar[tuple[Claim, ...]] = tuple(
        Claim("clip-label", of, unit=unit, shape=True, null_in_words=SHUFFLED, reading=of, outcome=of == NEAREST)
        for of, unit in {NEAREST: Unit.share("clips, above chance"), OF_GROUP: COSINE, RELEASED: COSINE}.items()
    )
    readings: ClassVar[tuple[str, ...]] = ("",)
    parts: ClassVar[str] = "cluster"

    def fit(self, model: LanguageModel, items: Sequence[Clip]) -> Kept:
        frame = model.anchor + self.frame
        kept = labelled(items, [(clip.label,) for clip in items], frame.format(SLOT))
        return Kept(kept, more=Labels.among(kept, frame), prompts=[asked(model, item.prompt) for item in kept])

    def read(self, reader: LanguageModel, kept: Kept, prompts: Sequence[Input], reading: str) -> Numbers:
        labels, texts = kept.more, [kept.more.read.format(label) for _, (label,) in kept.more.names]
        cosine = cosine_matrix(last_states(reader, prompts), last_states(reader, texts))
        # rounded, so that what is one text to the end is 0 apart
        cosine = cosine.permute(1, 0, 2).cpu().double().numpy().round(9)  # [item, layer, label]
        group, own = labels.others(of_group=True), np.eye(len(texts))[labels.of]
        compared = (group[labels.of] | (own > 0))[:, None]
        found, of_group = Weighed(_nearest(cosine), own).own, _nearest(np.where(compared, cosine, -np.inf))
        many = compared.sum(2, keepdims=True)
        return {
            ("clip-label", NEAREST): Weighed(np.where(many > 1, of_group - 1 / many, np.nan), own),
            ("clip-label", OF_GROUP): Weighed(cosine, labels.weights(labels.others(of_group=True))),
            ("clip-label", RELEASED): Weighed(cosine, labels.weights(labels.others())),
            ("clip-retrieval", ""): found,
            ("clip-retrieval", "chance"): np.full_like(found, 1 / len(texts)),
            ("clip-cosine", ""): Weighed(cosine, own).own,
        }


def _nearest(cosine: Float[np.ndarray, "item layer label"]) -> Float[np.ndarray, "item layer label"]:
    """1 for the nearest label; those that tie share it."""
    nearest = cosine >= cosine.max(2, keepdims=True) - 1e-6
    return nearest / nearest.sum(2, keepdims=True)


@dataclass(frozen=True)
class LabelWords(Experiment):
    """Does the lens read the words of its label at the frames of a clip?

    A label's number is the lens probability of its words, the mean over words and over frames. Claim
    `label-words/<series>`: log of it minus the mean log of the other labels of the group that have as many words and
    none in common, in nats, against labels shuffled among clips of a group. Words of several tokens, or whose token
    another word shares, are left out; clips with no word left, or no label to compare with, are dropped and counted.
    Curves: `label-probability` and `label-first` (share of frames whose likeliest word is the label's) for the own
    label and the mean of the others; `label-rank`, of the own label's best word, the mean over frames; `label-entropy`;
    and `label-time`, the claim's number in each of TIMES parts of the clips (`time`: the middle of the part as a share
    of the clip).

    The reading "as released" is in probabilities, raw before the last layer and normed there, against one other label
    that the run's seed draws among all that have no word in common; of the curves it has `label-probability` alone.
    """

    claims: ClassVar[tuple[Claim, ...]] = (Claim("label-words", null_in_words=SHUFFLED),)
    readings: ClassVar[tuple[str, ...]] = ("normed", RELEASED)
    parts: ClassVar[str] = "cluster"

    def fit(self, model: LanguageModel, items: Sequence[Clip]) -> Kept:
        table = target_table(model, [word for clip in items for word in clip.words])
        left = [(clip, tuple(word for word in clip.words if word in table.single)) for clip in items]
        kept = [item for item in labelled(*zip(*left, strict=True)) if item.targets["own"]] if left else []
        labels, columns = Labels.among(kept), dict(zip(table.words, table.groups, strict=True))
        groups = [[*chain(*(columns[word] for word in words))] for _, words in labels.names]
        lost = {"no single token of its own for a word of the label": len(items) - len(kept)}
        return Kept(kept, lost, more=replace(labels, read=(table.ids, groups)))

    def read(self, reader: LanguageModel, kept: Kept, prompts: Sequence[Input], reading: str) -> Numbers:
        wanted = (PROBABILITY,) if reading == RELEASED else (PROBABILITY, FIRST, RANK, ENTROPY)
        found = self._numbers(reader, kept, prompts, reading, wanted)
        own, against = kept.more.of, self._against(kept, reading)
        whole = {what: of[:, 0] for what, of in found.items()}
        curves = against.sides("label-probability", OWN, np.exp(whole[PROBABILITY]))
        if reading != RELEASED:
            curves |= against.sides("label-first", OWN, whole[FIRST])
            curves["label-rank", OWN[0]] = against.curve(whole[RANK][np.arange(len(own)), :, own])
            curves["label-entropy", ""] = against.curve(whole[ENTROPY][..., 0])
            for t, part in enumerate(np.moveaxis(found[PROBABILITY][:, 1:], 1, 0)):
                key = ("label-time", "", (("time", (t + 0.5) / TIMES),))
                curves[key] = against.curve(Weighed(part, against.weights).own)
        return {("label-words", ""): against.claimed(whole[PROBABILITY], reading)} | curves

    def beside(self, reader: LanguageModel, kept: Kept, prompts: Sequence[Input], reading: str) -> Numbers:
        logs = self._numbers(reader, kept, prompts, reading, (PROBABILITY,))[PROBABILITY][:, 0]
        return {("label-words", ""): self._against(kept, reading).claimed(logs, reading)}

    def _numbers(
        self, reader: LanguageModel, kept: Kept, prompts: Sequence[Input], reading: str, wanted: Sequence[str]
    ) -> dict[str, Float[np.ndarray, "item part layer label"]]:
        """Of all frames, and of each of TIMES equal parts of them, some empty where there are fewer frames."""
        (ids, groups), encodings = kept.more.read, reader.encode(prompts)
        regions = [[e.frames, *([] for _ in range(TIMES))] for e in encodings]
        for some in regions:
            for k, frame in enumerate(some[0]):
                some[1 + k * TIMES // len(some[0])].append(frame)
        found = read_regions(reader, encodings, regions, ids, groups, reading, wanted)
        found[PROBABILITY] -= np.log([len(words) for _, words in kept.more.names])  # the mean over its words
        return {what: of.reshape(len(prompts), 1 + TIMES, *of.shape[1:]) for what, of in found.items()}

    def _against(self, kept: Kept, reading: str) -> Against:
        labels, others = kept.more, kept.more.others(of_group=True, as_long=True)
        if reading == RELEASED:
            others = labels.others()
            drawn = np.random.default_rng(kept.seed).random(others.shape) * others
            others &= drawn == drawn.max(1, keepdims=True, initial=0)
        return Against(labels.weights(others), "no label of as many words to compare with")


def sound_lens(model: LanguageModel, clips: Sequence[Clip], *, top_k: int = 4) -> list[dict]:
    """Top words by layer and frame for `widgets.ClipPlayer`: one entry per clip, every reading the model has."""
    shown = []
    for clip, encoding in zip(clips, model.encode([heard(clip) for clip in clips]), strict=True):
        seconds = encoding.seconds or len(clip.samples) / clip.rate / len(encoding.frames)
        sound = {"name": clip.label, "samples": clip.samples, "rate": clip.rate, "seconds": seconds}
        shown.append(sound | top_words(model, encoding, encoding.frames, top_k))
    return shown


# ---- what comes first, for the widgets ----


def lens_grid(
    model: LanguageModel, sentences: Mapping[str, str], dominant_words: Iterable[str], *, top_k: int = 5
) -> list[dict]:
    """Top words by layer and token for `widgets.LensGrid`: one entry per data type, every reading the model has."""
    dominant = {i for form in word_forms(model, dominant_words) if form.single for i in form.ids}
    shared, grids = {"dominant_ids": dominant, "n_layers": model.n_layers}, []
    for (name, text), encoding in zip(sentences.items(), model.encode([*sentences.values()]), strict=True):
        tokens = [label(model, i) for i in encoding.ids]
        own = {"name": f"{name}: {text}", "data_type": name, "tokens": tokens}
        grids.append(own | shared | top_words(model, encoding, range(len(encoding)), top_k))
    return grids


def top_words(model: LanguageModel, encoding: Encoding, positions: Sequence[int], top_k: int) -> dict:
    """By reading, the likeliest tokens, their probabilities and the entropy, layer first; and the tokens' texts."""
    hidden, readings = hidden_states(model, [encoding], positions=[[*positions]]).hidden, {}
    for reading in available_readings(model):
        way, _ = reading_of(model, reading).apart_from([encoding])
        way = way.at_patches if encoding.patches else way
        found = lens(model, hidden, top_k=top_k, entropy=True, reading=way)
        readings[reading] = {
            "ids": found.top_ids.transpose(0, 1).numpy(),
            "probs": found.top_logprobs.exp().transpose(0, 1).numpy(),
            "entropy": found.entropy.T.numpy(),
        }
    vocab = {int(i): label(model, i) for of in readings.values() for i in np.unique(of["ids"])}
    return {"layers": list(range(model.n_layers + 1)), "readings": readings, "vocab": vocab}

"""Are two ways of saying one thing closer than two ways of saying different things (Eq. 1)?

States at the last token. Sides may be texts, pictures or sounds; what a pair is compared with, and what moves together
in a null, is written in the pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from semhub_utils.errors import SemhubError, need
from semhub_utils.evidence import COSINE, Unit
from semhub_utils.experiments.core import Claim, Experiment, Result, joined, run
from semhub_utils.experiments.numbers import Chance, Exchange, Kept, Numbers, Scores
from semhub_utils.inputs import Prompt
from semhub_utils.models import LanguageModel
from semhub_utils.pairings import random_pairings
from semhub_utils.similarity import (
    Matches,
    adjusted_cosine,
    calibrated,
    causal,
    csls,
    debiased_cka,
    mid_rank,
    mutual_neighbours,
    retrieval_accuracy,
    same_group,
)
from semhub_utils.spokes.items import Pair
from semhub_utils.spokes.languages import PairSet
from semhub_utils.states import hidden_states

NEAREST, CORRECTED, RELEASED = "nearest of its form", "corrected cosine", "as released"
EACH = (Exchange(by=""),)  # measures of a whole space need one-to-one pairings
OVERLAP = "bag of words"
CALIBRATED_BY = 200  # pairings


def last_states(model: LanguageModel, prompts: Sequence[Prompt]) -> Float[Tensor, "item layer hidden"]:
    return hidden_states(model, prompts).hidden


@dataclass(frozen=True)
class Documents(Exchange):
    """Documents change places, each as one, if pairs are compared within them; else it is no null."""

    by: str = "cluster"
    within: str = ""

    def draws(self, kept: Kept, *given: Any) -> list[np.ndarray]:
        return super().draws(kept, *given) if self._apart(kept) else []

    def least(self, kept: Kept, *given: Any) -> float:
        return super().least(kept, *given) if self._apart(kept) else 0.0

    def _apart(self, kept: Kept) -> bool:
        groups, documents = kept.labels("group"), kept.labels("cluster")
        return len({*zip(groups, documents, strict=True)}) == len({*groups}) and len({*documents}) < len(documents)


@dataclass(frozen=True)
class Alike(Experiment):
    """Is the partner of a pair the nearest of all of its own form, and most so in the middle layers?

    Claim `similarity/<series>`: the share of pairs whose partner is the nearest by cosine among those of the own group,
    above chance (NEAREST). It knows no scale, so that a trained model can be set against random weights. Beside it the
    cosine with the partner minus that with others: of the own group (CORRECTED), and of all, as the paper's Eq. 1 has
    it (RELEASED). The middle has to be above the first sixth and the last layer. Null: partners shuffled within their
    group, pairs of one anchor together, or pairs that hold one word, or (RELEASED; NEAREST where groups are parts of
    documents) whole documents, whichever is the harder. Controls: the embedding layer, and, of texts, "bag of words":
    the same of the mean of their tokens' input embeddings.

    Curves: retrieval as a share, and among all (`retrieval-all`); the mid-rank of the partner within its group; mutual
    nearest neighbours; debiased CKA; the adjusted cosine corrected for hubness (`csls`) and by the causal inner product
    (`causal`); retrieval and neighbours between what 5% of the null exceed and the largest they can be (`calibrated`);
    the plain cosine of the matches and of the non-matches of the own group ("other partners"); what comparing with all
    gains (`baseline-gain`). Fewer than 4 pairs raise SemhubError.
    """

    readings: ClassVar[tuple[str, ...]] = ("",)
    parts: ClassVar[str] = "group"

    @property
    def claims(self) -> tuple[Claim, ...]:
        every, given = (Exchange(), Exchange("cluster", "")), {"unit": Unit.share("pairs, above chance")}
        return (
            Claim("similarity", NEAREST, (Exchange(), Documents()), reading=NEAREST, shape=True, outcome=True, **given),
            Claim("similarity", CORRECTED, reading=CORRECTED, shape=True, unit=COSINE),
            Claim("similarity", RELEASED, every, reading=RELEASED, shape=True, unit=COSINE),
        )

    def fit(self, model: LanguageModel, items: Sequence[Pair]) -> Kept:
        need(len(items) >= 4, f"{len(items)} pairs were given; at least 4 are needed to compare matches with others.")
        return Kept(items)

    def read(self, reader: LanguageModel, kept: Kept, prompts: Sequence[Prompt], reading: str) -> Numbers:
        a, b = last_states(reader, prompts), last_states(reader, kept.labels("b"))
        own = same_group(kept.labels("group"))
        nearest, shared, all_others = self._compared(a, b, own)
        overlap = self._overlap(reader, prompts, kept, own)
        found: Numbers = {
            ("similarity", NEAREST): Scores(nearest, {OVERLAP: overlap[0]} if overlap else {}),
            ("similarity", CORRECTED): Scores(shared, {OVERLAP: overlap[1]} if overlap else {}),
            ("similarity", RELEASED): Scores(all_others, {OVERLAP: overlap[2]} if overlap else {}),
            ("retrieval", ""): retrieval_accuracy(a, b, own),
            ("retrieval-all", ""): retrieval_accuracy(a, b),
            ("mid-rank", ""): mid_rank(a, b, own),
            ("csls", ""): csls(a, b, own),
            ("causal", ""): adjusted_cosine(*causal(reader.unembedding, a, b), own),
        }
        spaces = {
            "neighbours": mutual_neighbours(a, b, k=min(10, len(a) - 1)),
            "cka": debiased_cka(a, b, kept.labels("cluster")),  # one number for all items, over blocks of them
        }
        for name, measure in spaces.items():
            found[(name, "", (("n", len(a)),)) if name == "cka" else (name, "")] = Scores(measure, nulls=EACH)
        cosine = cosine_similarity(a, b, dim=-1).cpu().double().numpy()
        found["cosine", ""] = Scores(cosine, {"other partners": cosine - shared.own})
        found["baseline-gain", ""] = all_others.own - shared.own
        return found | self._calibrated(kept, nearest, spaces["neighbours"])

    def beside(self, reader: LanguageModel, kept: Kept, prompts: Sequence[Prompt], reading: str) -> Numbers:
        a, b = last_states(reader, prompts), last_states(reader, kept.labels("b"))
        own = same_group(kept.labels("group"))
        measures = zip((NEAREST, CORRECTED, RELEASED), self._compared(a, b, own), strict=True)
        found: Numbers = {("similarity", name): measure for name, measure in measures}
        neighbours = mutual_neighbours(a, b, k=min(10, len(a) - 1))
        plain = {"retrieval": retrieval_accuracy(a, b, own), "mid-rank": mid_rank(a, b, own)}
        found |= {(name, ""): measure for name, measure in plain.items()}  # neighbours by chance are more among fewer
        return found | self._calibrated(kept, found["similarity", NEAREST], neighbours)

    def _compared(self, a: Tensor, b: Tensor, own: Tensor) -> tuple[Matches, Matches, Matches]:
        """By the three readings."""
        return retrieval_accuracy(a, b, own, over_chance=True), adjusted_cosine(a, b, own), adjusted_cosine(a, b)

    def _overlap(
        self, reader: LanguageModel, prompts: Sequence[Prompt], kept: Kept, own: Tensor
    ) -> list[Float[np.ndarray, "item 1"]]:
        """The same of bags of words; none where a side is no text."""
        sides = (prompts, kept.labels("b"))
        if not all(isinstance(prompt, str) for side in sides for prompt in side):
            return []
        table = reader.module.get_input_embeddings().weight.detach()
        bags = ([table[list(e.ids)].float().mean(0) for e in reader.encode(side)] for side in sides)
        return [measure.own for measure in self._compared(*(torch.stack(bag)[:, None] for bag in bags), own)]

    def _calibrated(self, kept: Kept, nearest: Matches, neighbours: Matches) -> Numbers:
        found: Numbers = {}
        asked = {"retrieval": (nearest, "group", np.nanmean(1 - nearest.chance)), "neighbours": (neighbours, "", 1.0)}
        for name, (measure, within, largest) in asked.items():
            groups = kept.labels(within)
            drawn = measure.exchanged(random_pairings(len(groups), groups=groups, draws=CALIBRATED_BY, seed=kept.seed))
            scaled = calibrated(np.nanmean(measure.own, 0), drawn, largest)
            found["calibrated", name, (("measure", name),)] = Scores(scaled[None], nulls=())
        return found


def alike_sets(model: LanguageModel, sets: Sequence[PairSet], *, seed: int = 0) -> Result:
    """`Alike` for every set of pairs; the table adds the column `ending`.

    Claims: `similarity/<languages>` for the first ending of each two languages; with ", <ending>" behind for the
    others, which have one model of random weights beside them. Raises SemhubError if there are fewer than 4 pairs of a
    set.
    """
    found, seen = [], set()
    for some in sets:
        left = ", ".join(f"{count} × {reason}" for reason, count in some.dropped.items()) or "none"
        told = f"{len(some.pairs)} pairs are left for {some.series} (out: {left}); at least 4 would do."
        need(len(some.pairs) >= 4, told)
        named: dict = {"series": some.series}
        if some.series in seen:
            named = {"series": f"{some.series}, {some.ending}", "twins": (seed,)}
        seen.add(some.series)
        columns = {"series": some.series, "ending": some.ending}
        found.append(run(Alike(), model, some.pairs, seed=seed, dropped=some.dropped, columns=columns, **named))
    return joined(found)


@dataclass(frozen=True)
class Related(Experiment):
    """Plain cosine of side a of one item with side b of another, by how the two items are related (`relations`).

    `relation[i, j]` is an index into `names`. The mean is taken per item first, so that the interval is over items.
    """

    relation: Int[np.ndarray, "item item"]
    names: tuple[str, ...]
    claims: ClassVar[tuple[Claim, ...]] = ()
    readings: ClassVar[tuple[str, ...]] = ("",)

    def read(self, reader: LanguageModel, kept: Kept, prompts: Sequence[Prompt], reading: str) -> Numbers:
        a, b = (normalize(last_states(reader, side), dim=-1) for side in (prompts, kept.labels("b")))
        found: Numbers = {}
        for index, name in enumerate(self.names):
            related = torch.as_tensor(self.relation == index)
            some = related.any(1)
            if some.any():
                weights = (related[some] / related[some].sum(1, keepdim=True)).to(b)
                values = torch.einsum("ij,jlh,ilh->il", weights, b, a[some.to(a.device)])
                found["relations", name] = Scores(values.cpu().double().numpy(), of=some.numpy())
        return found


WRITTEN, BARE = "as written", "no full stop"
SWAPS = ("swapped", "swapped, shuffled", "swapped, any order")
SAME = "same meaning"  # the true form, its conjuncts shuffled
ORDERS = {True: "sentence's order", False: "other order"}
BY_CHANCE = "as likely above 0 as below, by pair of names, by name and by verb"
DIFFERENCE = Unit("difference of cosines", 0.005, "a quarter of what any cosine has to reach")


@dataclass(frozen=True)
class AlikeForms(Alike):
    """`Alike` of sentences (side a) with their forms, matched by template, as written and without the final full stop,
    which are its readings."""

    readings: ClassVar[tuple[str, ...]] = (WRITTEN, BARE)

    @property
    def claims(self) -> tuple[Claim, ...]:
        first, *_ = super().claims
        return (replace(first, reading=""),)

    def read(self, reader: LanguageModel, kept: Kept, prompts: Sequence[str], reading: str) -> Numbers:
        return super().read(reader, kept, _sentences(prompts, reading), reading)

    def beside(self, reader: LanguageModel, kept: Kept, prompts: Sequence[str], reading: str) -> Numbers:
        return super().beside(reader, kept, _sentences(prompts, reading), reading)


@dataclass(frozen=True)
class Swapped(Experiment):
    """Is a sentence nearer to its logical form than to the form in which two people have changed places?

    Cosine with the true form minus cosine with an altered one (Eq. 1 with a harder non-match), in three claims:
    `similarity/names swapped`; `similarity/names swapped, shuffled`, the conjuncts in another order as well;
    `similarity/names swapped, any order`, the mean of the forms as written and shuffled on both sides. The last is the
    fair one: a shuffle alone moves the state, and which name stands last is not who did it. The first two have to be
    above what the shuffle alone costs, "same meaning". Null: the difference is as likely above 0 as below, by pair of
    names, first name, second name and verb; the hardest counts. The embedding layer is 0, as all forms end alike. Each
    claim comes twice, for sentences as written and without the full stop. Curves: the scores of the first by the order
    of names (`swap-order`), with the same nulls.
    """

    readings: ClassVar[tuple[str, ...]] = (WRITTEN, BARE)

    @property
    def claims(self) -> tuple[Claim, ...]:
        said = {"unit": DIFFERENCE, "null_in_words": BY_CHANCE}
        coin = (Chance("moves_with"),)
        return tuple(
            Claim("swap", of, coin, **said, named="similarity", ending=of.removeprefix(SWAPS[0]), series=of)
            for of in SWAPS
        )

    def read(self, reader: LanguageModel, kept: Kept, prompts: Sequence[str], reading: str) -> Numbers:
        sentence = last_states(reader, _sentences(prompts, reading)).cpu().double()
        forms = (last_states(reader, some).cpu().double() for some in zip(*kept.labels("forms"), strict=True))
        true, swapped, shuffled, both = (cosine_similarity(sentence, form, dim=-1).numpy() for form in forms)
        first, any_order, cost = true - swapped, (true + shuffled - swapped - both) / 2, {SAME: true - shuffled}
        # Where one form is shuffled it stays so: its cost is no sign of meaning, and is in the null as in the claim.
        scores = (Scores(first, cost), Scores(true - both, cost, flipped=any_order), Scores(any_order))
        found: Numbers = {("swap", of): some for of, some in zip(SWAPS, scores, strict=True)}
        coin = (Chance("moves_with"),)
        for order, name in ORDERS.items():
            own = np.array(kept.labels("in_order")) == order
            if own.any():
                found["swap-order", name] = Scores(first[own], nulls=coin, of=own)
        return found


def _sentences(texts: Sequence[str], reading: str) -> list[str]:
    return [text if reading == WRITTEN else text.rstrip(". ") for text in texts]


@dataclass(frozen=True)
class Punctuation(Experiment):
    """How much does a shared full stop (`stop`) add to the cosine of texts that mean different things?

    Each text is put beside the other side of the next pair that speaks of something else, once as it is and once with
    `stop` behind both. Claim `shared-punctuation`: cosine with minus cosine without. Curves:
    both cosines (`punctuation-trap`). Raises SemhubError if all pairs speak of one thing.
    """

    stop: str = "."
    claims: ClassVar[tuple[Claim, ...]] = (  # of any layer: a trap
        Claim(
            "punctuation-gain",
            "",
            (Chance(),),
            "inner",
            unit=COSINE,
            embedded=False,
            ended=False,
            named="shared-punctuation",
            series="unrelated texts",
        ),
    )
    readings: ClassVar[tuple[str, ...]] = ("",)

    def read(self, reader: LanguageModel, kept: Kept, prompts: Sequence[str], reading: str) -> Numbers:
        others, found = [_next_other(kept.items, k).b for k in range(len(kept.items))], []
        for end in (self.stop, ""):  # a text without the stop is read on the way to it
            a, b = (last_states(reader, [text + end for text in side]) for side in (prompts, others))
            found.append(cosine_similarity(a, b, dim=-1).cpu().double().numpy())
        stopped, plain = found
        curves = {"as they are": plain, "both end in a full stop": stopped}
        shown: Numbers = {("punctuation-trap", name): values for name, values in curves.items()}
        return shown | {("punctuation-gain", ""): stopped - plain}


def _next_other(pairs: Sequence[Pair], k: int) -> Pair:
    """The next pair, in a circle, of another cluster and another anchor: neighbours may state one fact in two forms."""
    for pair in (*pairs[k + 1 :], *pairs[:k]):
        if pair.cluster != pairs[k].cluster and pair.moves_with[0] != pairs[k].moves_with[0]:
            return pair
    raise SemhubError(f"All {len(pairs)} pairs speak of one thing; pairs of different meaning would do.")

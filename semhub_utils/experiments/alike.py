"""Are two ways of saying one thing closer than two ways of saying different things (Eq. 1)?

States at the last token. Sides may be texts, pictures or sounds; what a pair is compared with, and what moves together
in a null, is written in the pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from semhub_utils.errors import SemhubError, need
from semhub_utils.experiments.core import (
    DRAWS,
    Claim,
    Exchange,
    Experiment,
    Flip,
    Kept,
    Numbers,
    Result,
    Scores,
    joined,
    run,
)
from semhub_utils.inputs import Prompt
from semhub_utils.models import LanguageModel
from semhub_utils.similarity import (
    adjusted_cosine,
    debiased_cka,
    mutual_neighbours,
    retrieval_accuracy,
    same_group,
)
from semhub_utils.spokes.items import Pair
from semhub_utils.spokes.languages import PairSet
from semhub_utils.states import hidden_states

CORRECTED, RELEASED = "corrected", "as released"
EACH = (Exchange(by=""),)  # measures of a whole space need one-to-one pairings


def last_states(model: LanguageModel, prompts: Sequence[Prompt]) -> Float[Tensor, "item layer hidden"]:
    return hidden_states(model, prompts).hidden


@dataclass(frozen=True)
class Alike(Experiment):
    """Are the two sides of a pair more alike than sides of different pairs, and at which layers?

    Claim `similarity/<series>`, once by each of `baselines`, which stands as its reading: adjusted cosine, "corrected"
    against the non-matches of the own group, "as released" (and "", where none is named) against all. Partners are
    shuffled within their group: pairs of one anchor move together, or pairs that hold one word, whichever null is the
    harder. Curves: retrieval accuracy, mutual nearest neighbours and debiased CKA; where baselines are named the plain
    cosine of the matches and of the non-matches of the own group ("other partners"); with both, what the latter gains
    (`baseline-gain`); with "corrected" alone, the curve against all (`similarity-all`), whose partners are shuffled
    among all. Fewer than 4 pairs raise SemhubError.
    """

    baselines: tuple[str, ...] = ("",)
    readings: ClassVar[tuple[str, ...]] = ("",)

    @property
    def claims(self) -> tuple[Claim, ...]:
        return tuple(Claim("similarity", baseline, reading=baseline) for baseline in self.baselines)

    def fit(self, model: LanguageModel, items: Sequence[Pair]) -> Kept:
        need(len(items) >= 4, f"{len(items)} pairs were given; at least 4 are needed to compare matches with others.")
        return Kept(items)

    def read(self, reader: LanguageModel, kept: Kept, prompts: Sequence[Prompt], reading: str) -> Numbers:
        a, b = last_states(reader, prompts), last_states(reader, kept.labels("b"))
        own = same_group(kept.labels("group"))
        scores = {of: adjusted_cosine(a, b, own if of == CORRECTED else None) for of in self.baselines}
        spaces = {
            "retrieval": retrieval_accuracy(a, b),
            "neighbours": mutual_neighbours(a, b, k=min(10, len(a) - 1)),
            "cka": debiased_cka(a, b, kept.labels("cluster")),  # one number for all items, over blocks of them
        }
        alone = self.baselines == (CORRECTED,)
        found: Numbers = {("similarity", of): score for of, score in scores.items()}
        for name, measure in spaces.items():
            key = (name, "", (("n", len(a)),)) if name == "cka" else (name, "")
            found[key] = measure.own if alone else Scores(measure, nulls=EACH)
        if self.baselines != ("",):
            cosine = cosine_similarity(a, b, dim=-1).cpu().double().numpy()
            others = {"other partners": cosine - scores[CORRECTED].own} if CORRECTED in scores else {}
            found["cosine", ""] = Scores(cosine, others)
            every = scores.get(RELEASED) or adjusted_cosine(a, b)
            if alone:
                found["similarity-all", ""] = Scores(every, nulls=(Exchange("", ""),))
            else:
                found["baseline-gain", ""] = every.own - scores[CORRECTED].own
        return found


def alike_sets(model: LanguageModel, sets: Sequence[PairSet], *, seed: int = 0) -> Result:
    """`Alike` against the own group, for every set of pairs; the table adds the column `ending`.

    Claims: `similarity/<languages>` for the first ending of each two languages, the release's baseline beside it; with
    ", <ending>" behind for the others. Raises SemhubError if there are fewer than 4 pairs of a set.
    """
    found, seen = [], set()
    for some in sets:
        left = ", ".join(f"{count} × {reason}" for reason, count in some.dropped.items()) or "none"
        told = f"{len(some.pairs)} pairs are left for {some.series} (out: {left}); at least 4 would do."
        need(len(some.pairs) >= 4, told)
        first = some.series not in seen
        seen.add(some.series)
        baselines, series = (CORRECTED, RELEASED) if first else (CORRECTED,), {"series": some.series}
        name = some.series if first else f"{some.series}, {some.ending}"
        options = {"seed": seed, "dropped": some.dropped, "columns": series | {"ending": some.ending}}
        found.append(run(Alike(baselines), model, some.pairs, series=name, **options))
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
BY_A_COIN = "names change places by a coin per pair of names, per name and per verb"


@dataclass(frozen=True)
class AlikeForms(Alike):
    """`Alike` of sentences (side a) with their forms, matched by template, as written and without the final full stop,
    which are its readings."""

    baselines: tuple[str, ...] = (CORRECTED,)
    readings: ClassVar[tuple[str, ...]] = (WRITTEN, BARE)

    @property
    def claims(self) -> tuple[Claim, ...]:
        return (Claim("similarity", CORRECTED),)

    def read(self, reader: LanguageModel, kept: Kept, prompts: Sequence[str], reading: str) -> Numbers:
        return super().read(reader, kept, _sentences(prompts, reading), reading)


@dataclass(frozen=True)
class Swapped(Experiment):
    """Is a sentence nearer to its logical form than to the form in which two people have changed places?

    Cosine with the true form minus cosine with an altered one (Eq. 1 with a harder non-match), in three claims:
    `similarity/names swapped`; `similarity/names swapped, shuffled`, the conjuncts in another order as well;
    `similarity/names swapped, any order`, the mean of the forms as written and shuffled on both sides. The last is the
    fair one: a shuffle alone moves the state, and which name stands last is not who did it. The first two have to be
    above what the shuffle alone costs, "same meaning". Nulls: the names change places by a coin per pair of names, per
    first name, per second name and per verb; the hardest counts. The embedding layer is 0, as all forms end alike. Each
    claim comes twice, for sentences as written and without the full stop. Curves: the scores of the first by the order
    of names (`swap-order`), with the same nulls.
    """

    readings: ClassVar[tuple[str, ...]] = (WRITTEN, BARE)

    @property
    def claims(self) -> tuple[Claim, ...]:
        said = {"unit": "difference of cosines", "null_in_words": BY_A_COIN}
        coin = (Flip("moves_with"),)
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
        for order, name in ORDERS.items():
            own = np.array(kept.labels("in_order")) == order
            if own.any():
                found["swap-order", name] = Scores(first[own], nulls=(Flip("moves_with"),), draws=DRAWS, of=own)
        return found


def _sentences(texts: Sequence[str], reading: str) -> list[str]:
    return [text if reading == WRITTEN else text.rstrip(". ") for text in texts]


@dataclass(frozen=True)
class Punctuation(Experiment):
    """How much does a shared full stop (`stop`) add to the cosine of texts that mean different things?

    Each text is put beside the other side of the next pair that speaks of something else, once as it is and once with
    `stop` behind both. Claim `shared-punctuation`: cosine with minus cosine without, signs flipped per cluster. Curves:
    both cosines (`punctuation-trap`). Raises SemhubError if all pairs speak of one thing.
    """

    stop: str = "."
    claims: ClassVar[tuple[Claim, ...]] = (
        Claim("punctuation-gain", "", (Flip(),), embedded=False, named="shared-punctuation", series="unrelated texts"),
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

"""Which language does each layer speak, and does it say what the line says? P(type | token) applied to the lens at
every position of running text."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from semhub_utils.errors import need
from semhub_utils.evidence import PROBABILITY, Sample
from semhub_utils.experiments import core
from semhub_utils.experiments.core import Claim, Experiment
from semhub_utils.experiments.numbers import Chance, Drawn, Exchange, Given, Kept, Numbers, Scores
from semhub_utils.inputs import Encoding
from semhub_utils.lens import Scores as Said
from semhub_utils.lens import lens, reading_of
from semhub_utils.models import LanguageModel
from semhub_utils.pairings import codes, least_permutation_p, random_pairings
from semhub_utils.spokes.items import LensItem
from semhub_utils.spokes.languages import TypeTexts
from semhub_utils.states import stream_states
from semhub_utils.verdicts import MIN_ACCURACY

SMOOTHING = 0.1
UNSEEN, SPECIAL = "never seen", "special"
NO_LINE = f"{core.TOO_LONG}, or with no token of its own or one that it does not know"
NO_WORD, ALONE = "no token of its own in the translation", "no other line of its form"
CHUNK = 100  # lines whose translations are held against each other: a column of the vocabulary for each
COMMON = 0.5
ENTRIES = 2**19
"""Of the vocabulary, that one line reads in each layer: two positions where there are a quarter of a million tokens."""


# ---- the type of a token ----


@dataclass(frozen=True)
class TokenTypes:
    """What text of each type says of every token: counts, and P(type | token) with a uniform prior over types."""

    names: tuple[str, ...]
    counts: Int[Tensor, "vocab type"]  # without special tokens
    special: Bool[Tensor, " vocab"]

    @property
    def seen(self) -> Bool[Tensor, " vocab"]:
        return self.counts.sum(1) > 0

    @property
    def shared(self) -> Bool[Tensor, " vocab"]:
        """Tokens that more than one type has."""
        return (self.counts > 0).sum(1) > 1

    @property
    def share(self) -> Float[Tensor, "vocab type"]:
        """P(token | type): the token's share of the type's text."""
        return self.counts.double() / self.counts.sum(0).clamp_min(1)

    def posterior(self, smoothing: float = SMOOTHING) -> Float[Tensor, "vocab type"]:
        """P(type | token), all types being equally likely beforehand.

        `smoothing`: a seen token counts as if every type had it that many more times in a text of mean length; given
        as a share of the text, so that it favours no type for having little of it. Zero for tokens never seen, about
        which text says nothing, and for special ones.
        """
        more = smoothing * self.share.shape[1] / self.counts.sum()
        given_type = (self.share + more) * self.seen[:, None]
        return given_type / given_type.sum(1, keepdim=True).clamp_min(1e-300)


def count_tokens(model: LanguageModel, texts: Sequence[TypeTexts]) -> TokenTypes:
    """Counts of every token in the counted lines of each type. Raises SemhubError on fewer than two types, or where no
    type has a token."""
    key = "tokens", *((some.name, tuple(some.counted)) for some in texts)
    if known := model.store.kept(*key):
        return known
    need(len(texts) > 1, f"Text of {len(texts)} data type was given; of two or more would do.")
    special = torch.zeros(model.vocab_size, dtype=torch.bool)
    special[[i for i in model.tokenizer.all_special_ids if i < model.vocab_size]] = True
    counts = torch.zeros(model.vocab_size, len(texts), dtype=torch.long)
    for column, some in enumerate(texts):
        ids = model.tokenizer(list(some.counted), add_special_tokens=False, verbose=False)["input_ids"]
        ids = torch.tensor([i for line in ids for i in line], dtype=torch.long)
        counts[:, column] = torch.bincount(ids, minlength=model.vocab_size)[: model.vocab_size]
    counts[special] = 0
    need(counts.any(), f"The tokenizer of {model.model_id} knows no token of the texts; one that does would do.")
    found = TokenTypes(tuple(some.name for some in texts), counts, special)
    model.store.keep(found, counts.nbytes, *key)
    return found


def lines(model: LanguageModel, some: TypeTexts) -> list[LensItem]:
    """The lines that fit the model's context and have a token of their own."""
    fit = model.encode(core.readable(model, some.read, lambda line: line))
    kept = [encoding.text for encoding in fit if text_positions(model, encoding)]
    return [LensItem(line, line, {}, of) for line, of in zip(kept, some.clusters_of(kept), strict=True)]


def text_positions(model: LanguageModel, encoding: Encoding) -> list[int]:
    """Positions of the text's own tokens, not of those that the tokenizer puts around it."""
    added = set(model.tokenizer.all_special_ids)
    both = enumerate(zip(encoding.ids, encoding.offsets, strict=True))
    return [place for place, (i, (start, end)) in both if i not in added or end > start]


def spread(positions: Sequence[int], most: int) -> list[int]:
    """At most so many of them: the middles of as many equal parts, as the ends of a line are unlike the rest of it."""
    n = min(most, len(positions))
    return [positions[(2 * k + 1) * len(positions) // (2 * n)] for k in range(n)]


def token_table(model: LanguageModel, texts: Sequence[TypeTexts], *, seed: int = 0) -> pd.DataFrame:
    """Can the type of a text be told by its tokens one by one?

    One row per type. value: the mean of P(own type | token) over the tokens of the lines that are read, with its
    interval over lines: what the lens would give, were it certain of the tokens that stand there. Beside it, as shares
    of these tokens: `unseen` in the counted lines, `shared` with another type, `special` (such as unknown words), and
    `pieces`, bytes that are no whole character.
    """
    types, rows = count_tokens(model, texts), []
    posterior = types.posterior()
    marks = {"unseen": ~types.seen & ~types.special, "shared": types.shared, "special": types.special}
    for column, some in enumerate(texts):
        items, n_tokens = lines(model, some), types.counts[:, column]
        encodings = model.encode([item.prompt for item in items])
        tokens = [torch.tensor(e.ids)[text_positions(model, e)] for e in encodings]
        ids = torch.cat([torch.empty(0, dtype=torch.long), *tokens])
        broken = torch.tensor([i for i in ids.unique().tolist() if "\ufffd" in model.tokenizer.decode([i])])
        shares = {name: mark[ids] for name, mark in marks.items()} | {"pieces": torch.isin(ids, broken.long())}
        row = {"experiment": "layers-told", "series": some.name, "value": np.nan, "low": np.nan, "high": np.nan}
        if items:
            told = np.array([[float(posterior[line, column].mean())] for line in tokens])
            bounds = Sample(told, codes([item.cluster for item in items])).bounds(seed=seed)
            [row["value"]], [row["low"]], [row["high"]] = bounds.values, bounds.low, bounds.high
        row |= {"n": len(items), "dropped": len(some.read) - len(items), "tokens": len(ids)}
        row |= {"counted": int(n_tokens.sum()), "vocabulary": int((n_tokens > 0).sum())}
        rows.append(row | {name: float(share.double().mean()) for name, share in shares.items()})
    return pd.DataFrame(rows)


def cannot_tell(table: pd.DataFrame, *names: str) -> str | None:
    """The precondition of every claim about `names`, from `token_table`: None, or why these types cannot be told apart.

    Each must be given at least MIN_ACCURACY of the tokens of its own text, and at most half of these may be bytes.
    """
    for name in names:
        row, language = table[table.series == name].iloc[0], name.title()
        if not row.n:
            return f"no line of {language} fits the model's context."
        if row.pieces > 0.5:
            return f"the tokenizer writes {language} in bytes: {row.pieces:.0%} of its tokens are no whole character."
        if row.value < MIN_ACCURACY:
            told = f"{row.value:.0%} of its text goes to it, token by token, and {MIN_ACCURACY:.0%} is asked."
            return f"{language} cannot be told by its tokens: {told}"
    return None


def read_lines(
    model: LanguageModel, prompts: Sequence[str], classes: Float[Tensor, "vocab class"], reading: str, mixed: bool
) -> Iterator[tuple[Int[Tensor, " site"], Float[Tensor, " site"], Said]]:
    """What the lens gives to classes of tokens at every position of some lines, or where the vocabulary is large at so
    many, evenly spaced, that they read ENTRIES; batch by batch: the line that each position stands in, what it weighs
    there, and the scores (mixed: with the mean of the lines' distributions)."""
    encodings, most = model.encode(prompts), max(1, ENTRIES // model.vocab_size)
    positions = [spread(text_positions(model, encoding), most) for encoding in encodings]
    size = torch.tensor([len(row) for row in positions], dtype=torch.float64)
    for states in stream_states(model, encodings, positions=positions):
        weight = 1 / size[states.item]
        weights = weight / len(prompts) if mixed else None
        yield states.item, weight, lens(model, states.hidden, classes=classes, weights=weights, reading=reading)


# ---- the language of the layers ----


@dataclass(frozen=True)
class TypesShuffled(Given):
    """The draws that the scores bring along, P(type | token) being shuffled among seen tokens of like frequency."""

    def least(self, kept: Kept, scores: Scores, series: str) -> float:
        return kept.more.least_p


@dataclass(frozen=True)
class Counted:
    """What counting says of every token: P(type | token), never seen, special; the other estimates; and P(type | token)
    shuffled once. bins: of the seen tokens, by frequency, within which they stand in for one another. hub: the lines
    of the hub's own text."""

    names: tuple[str, ...]
    classes: Float[Tensor, "vocab class"]
    seen: Bool[np.ndarray, " vocab"]
    bins: Int[np.ndarray, " token"]
    least_p: float
    hub: Sequence[LensItem]

    def pairings(self, draws: int, seed: int) -> Int[np.ndarray, "draw token"]:
        """Which seen token stands in for which."""
        return _stand_ins(self.bins.tobytes(), draws, seed)


@lru_cache(maxsize=4)  # claims and readings of a text have the same
def _stand_ins(bins: bytes, draws: int, seed: int) -> Int[np.ndarray, "draw token"]:
    of = np.frombuffer(bins, np.int64)
    return random_pairings(len(of), groups=of, draws=draws, seed=seed)


@dataclass(frozen=True)
class Heard:
    """What the lens gives to each class of tokens on lines of text: the mean over a line's positions. entropy: in bits;
    chance: the same if every token had the types of another one as frequent; mixture: the mean over lines of what the
    lens gives to every token, if asked."""

    share: Float[np.ndarray, "line layer class"]
    entropy: Float[np.ndarray, "line layer"]
    chance: Float[np.ndarray, "line layer"]
    mixture: Float[np.ndarray, "layer vocab"] | None

    def null(self, counted: Counted, of: Float[np.ndarray, " class"], seed: int) -> Drawn:
        """What draws the mean of a sum of classes, were the types shuffled among the seen tokens of like frequency:
        what is said of one is said of another then; never seen, special, these stay."""
        told = counted.classes[:, : len(of)].numpy() @ of
        seen, still = counted.seen, self.mixture[:, ~counted.seen] @ told[~counted.seen]

        def drawn(first: int, end: int) -> list[Float[np.ndarray, "draw layer"]]:
            pairings = counted.pairings(end - first, seed + first)
            return [told[seen][pairings] @ self.mixture[:, seen].T + still]

        return drawn


@dataclass(frozen=True)
class Shares(Experiment):
    """P(type) by layer on `text` of one type (the paper's language of the layers): the sum over the vocabulary of the
    lens's probability times P(type | token), the mean over the positions of each line. Items: texts of every type.

    `layers-lead`: P(hub) minus P(own type) at a middle layer. `layers-end`: P(own type) minus P(hub) at the last layer.
    The null gives each seen token the P(type | token) of another one, as frequent within a factor of two: a type that
    has more tokens than others, or likelier ones, is no finding. A second one is chance. A control is "roles
    exchanged": the same of the own type on the hub's text. The hub's own text has no claim.

    P(hub) alone (`layers-hub`) is a curve and no claim: models without a hub have it too, and some with one have not.
    Tokens that no type's text has, and special tokens, are classes of their own; all classes sum to 1. Curves: P by
    class (`layers-type`), bits over the types, renormalised, of a position that gives them anything (`layers-entropy`,
    with "types shuffled" as a control), the lead under other estimates of P(type | token) (`layers-estimate`), and
    normed minus raw (`layers-gap`).
    """

    text: str
    hub: str = "english"
    smoothing: float = SMOOTHING
    parts: ClassVar[str] = "cluster"

    @property
    def claims(self) -> tuple[Claim, ...]:
        said = {"unit": PROBABILITY, "null_in_words": "types shuffled among tokens of like frequency"}
        said["nulls"] = (TypesShuffled(), Chance())
        lead, end = Claim("layers-lead", **said), Claim("layers-end", window="last", **said)
        return () if self.text == self.hub else (lead, end)

    def fit(self, model: LanguageModel, items: Sequence[TypeTexts]) -> Kept:
        types, by_name = count_tokens(model, items), {some.name: some for some in items}
        kept, hub = (lines(model, by_name[name]) for name in (self.text, self.hub))
        return Kept(kept, {NO_LINE: len(by_name[self.text].read) - len(kept)}, more=(types, hub))

    def choose(self, model: LanguageModel, kept: Kept) -> Kept:
        """What counting says of the tokens, and which of them change places, drawn once for all that is read."""
        types, hub = kept.more
        plain, posterior, seen = types.posterior(0.0), types.posterior(self.smoothing), types.seen.numpy()
        marks = torch.stack([~types.seen & ~types.special, types.special], 1).double()
        bins = np.floor(np.log2(types.share.mean(1).numpy()[seen])).astype(np.int64)
        classes = torch.cat([posterior, marks, plain, plain * ~types.shared[:, None]], 1)
        least_p = least_permutation_p(bins, np.arange(len(bins)))
        counted, once = Counted(types.names, classes, seen, bins, least_p, hub), posterior.clone()
        once[seen] = posterior[seen][counted.pairings(1, kept.seed)[0]]
        return replace(kept, more=replace(counted, classes=torch.cat([classes, once], 1)))

    def read(self, reader: LanguageModel, kept: Kept, prompts: Sequence[str], reading: str) -> Numbers:
        hub = () if self.text == self.hub else [line.prompt for line in kept.more.hub]
        return self._numbers(reader, kept, prompts, reading, hub)

    def beside(self, reader: LanguageModel, kept: Kept, prompts: Sequence[str], reading: str) -> Numbers:
        return self._numbers(reader, kept, prompts, reading, None)

    def _numbers(
        self, reader: LanguageModel, kept: Kept, prompts: Sequence[str], reading: str, hub: Sequence[str] | None
    ) -> Numbers:
        """Sums of classes, each by what every class counts for; with their nulls and, where the roles are exchanged,
        what the classes get on the hub's own text, if that is given."""
        drawn = hub is not None
        turned = heard(reader, hub, kept.more, reading, drawn=False).share if hub else None
        n_types, names = len(kept.more.names), [*kept.more.names, UNSEEN, SPECIAL]
        own = heard(reader, prompts, kept.more, reading, drawn)
        one = np.eye(own.share.shape[2])  # a row for each class alone

        def scores(of: np.ndarray, exchanged: np.ndarray | None = None, here: Heard = own, null: bool = True) -> Scores:
            controls = {}
            if exchanged is not None and turned is not None:
                controls["roles exchanged"] = Sample(
                    turned @ exchanged, codes([line.cluster for line in kept.more.hub])
                )
            return Scores(here.share @ of, controls, here.null(kept.more, of, kept.seed) if drawn and null else ())

        found: Numbers = {("layers-entropy", ""): Scores(own.entropy, {"types shuffled": own.chance})}
        for k, name in enumerate(names):
            found["layers-type", name] = scores(one[k], null=k < n_types)
        if reading == "raw":
            normed = heard(reader, prompts, kept.more, "normed", drawn)
            mixture = normed.mixture - own.mixture if drawn else None
            gap = replace(own, share=normed.share - own.share, mixture=mixture)
            for k, name in enumerate(names):
                found["layers-gap", name, (("reading", ""),)] = scores(one[k], here=gap, null=k < n_types)
        if self.text == self.hub:
            return found
        mine, own_type = names.index(self.hub), names.index(self.text)
        firsts = {"as estimated": 0, "without smoothing": n_types + 2, "tokens of one type": 2 * n_types + 2}
        leads = {name: one[first + mine] - one[first + own_type] for name, first in firsts.items()}
        lead = leads["as estimated"]
        leads[f"{UNSEEN} is own"] = lead - one[n_types]
        found |= {("layers-estimate", name): scores(of) for name, of in leads.items()}
        found["layers-lead", ""] = scores(lead, -lead)
        found["layers-hub", ""] = scores(one[mine], one[own_type])
        return found | {("layers-end", ""): scores(-lead)}


def heard(model: LanguageModel, prompts: Sequence[str], counted: Counted, reading: str, drawn: bool) -> Heard:
    """Lines through one reading of the lens, once for all that is asked of them; a few numbers per line and layer are
    kept. drawn: with the mixture."""
    n_types, classes, way = len(counted.names), counted.classes, reading_of(model, reading)
    key = "heard", model.weights, way.name, way.fingerprint, tuple(prompts), hash(classes.numpy().tobytes())
    known = model.store.kept(*key, True) or model.store.kept(*key, drawn)
    if known and model.plain:
        return known
    shape = (len(prompts), model.n_layers + 1)
    share = torch.zeros(*shape, classes.shape[1], dtype=torch.float64)
    bits = torch.zeros(2, *shape, 2, dtype=torch.float64)  # sums of bits and of weights, as counted and shuffled
    mixed = torch.zeros(shape[1], len(classes), dtype=torch.float64)
    for item, weight, said in read_lines(model, prompts, classes, reading, mixed=drawn):
        held = said.expected.double()
        share.index_add_(0, item, held * weight[:, None, None])
        for sums, of in zip(bits, (held[..., :n_types], held[..., -n_types:]), strict=True):
            some = of.sum(-1, keepdim=True)  # none where all probability is on tokens never seen
            spread = torch.special.entr(of / some.clamp_min(1e-300)).sum(-1) / np.log(2)
            told = (some[..., 0] > 0) * weight[:, None]
            sums.index_add_(0, item, torch.stack([spread * told, told], -1))
        if drawn:
            mixed += said.mixture.double()
    entropy, chance = (bits[..., 0] / bits[..., 1]).numpy()
    found = Heard(share[..., :-n_types].numpy(), entropy, chance, mixed.numpy() if drawn else None)
    if model.plain:
        model.store.keep(found, share.nbytes + mixed.nbytes, *key, drawn)
    return found


# ---- the words of the line ----


@dataclass(frozen=True)
class Meaning(Experiment):
    """If a middle layer speaks English on `text` of a type, does it say what the line says? Items: texts of every type.

    Claim `layers-meaning`: at a middle layer the lens gives more to the words of a line's own translation than to those
    of the translations of other lines of its form. A model that saw mostly English leans to English tokens whatever it
    reads; it does not lean to the right ones. Score of a line: log of the mean probability, over its positions, of a
    token of its translation, minus the mean of that for the other translations. Left out of every translation: tokens
    that text of the type has too, and those in more than half of the translations of a form. Null: translations
    exchanged among lines of a form, those of a cluster together.
    """

    text: str

    @property
    def claims(self) -> tuple[Claim, ...]:
        said = "translations exchanged among lines of one form, a cluster's together"
        return (Claim("layers-meaning", nulls=(Exchange("cluster"),), null_in_words=said),)

    def fit(self, model: LanguageModel, items: Sequence[TypeTexts]) -> Kept:
        [some] = [text for text in items if text.name == self.text]
        words = _words(model, count_tokens(model, items), some)
        of = {
            "line": some.read,
            "form": some.groups or some.read,
            "cluster": some.clusters_of(some.read),
            "words": words,
        }
        frame = pd.DataFrame(of).astype({"words": object})
        fit, told = frame.line.isin([line.prompt for line in lines(model, some)]), frame.words.map(len) > 0
        lost = {NO_LINE: int((~fit).sum()), NO_WORD: int((fit & ~told).sum())}
        frame = frame[fit & told]
        frame = frame.assign(form=pd.factorize(frame.form)[0]).sort_values("form", kind="stable")
        frame["chunk"] = frame.groupby("form").cumcount() // CHUNK
        alone = frame.groupby(["form", "chunk"]).line.transform("size") == 1
        lost[ALONE], frame = int(alone.sum()), frame[~alone]
        by = frame.groupby(["form", "chunk"])
        rows = zip(frame.line, frame.cluster, by.ngroup(), strict=True)
        own = [LensItem(line, line, {}, cluster, group=str(group)) for line, cluster, group in rows]
        return Kept(own, lost, by.cumcount().to_numpy(int), frame.words.to_list())

    def read(self, reader: LanguageModel, kept: Kept, prompts: Sequence[str], reading: str) -> Numbers:
        groups = np.array(kept.labels("group"))
        found = np.full((len(groups), reader.n_layers + 1, kept.target.max() + 1), np.nan)
        for group in dict.fromkeys(groups):
            members = np.flatnonzero(groups == group)
            logs = self.masses(reader, [prompts[i] for i in members], [kept.more[i] for i in members], reading)
            found[members, :, : len(members)] = (logs - logs.mean(2, keepdims=True)) * len(members) / (len(members) - 1)
        return {("layers-meaning", ""): found}

    def masses(
        self, reader: LanguageModel, prompts: Sequence[str], words: Sequence[Sequence[int]], reading: str
    ) -> Float[np.ndarray, "line layer translation"]:
        """Log of the mean probability of the tokens of each translation, over the positions of each line."""
        classes = torch.zeros(reader.vocab_size, len(words))
        for column, ids in enumerate(words):
            classes[list(ids), column] = 1 / len(ids)
        total = torch.zeros(len(prompts), reader.n_layers + 1, len(words), dtype=torch.float64)
        for item, weight, said in read_lines(reader, prompts, classes, reading, mixed=False):
            total.index_add_(0, item, said.expected.double() * weight[:, None, None])
        return total.clamp_min(1e-30).log().numpy()


def _words(model: LanguageModel, types: TokenTypes, some: TypeTexts) -> list[list[int]]:
    """Per line, the tokens that only its translation has: not those of the type's own text, nor of most of its form."""
    if not some.twins:
        return [[] for _ in some.read]
    own = (types.counts[:, types.names.index(some.name)] > 0) | types.special
    settings = {"add_special_tokens": False, "verbose": False}
    own[[i for line in model.tokenizer(list(some.read), **settings)["input_ids"] for i in line]] = True
    # in the middle of a sentence, as the lens would say it
    twins = model.tokenizer([" " + twin for twin in some.twins], **settings)["input_ids"]
    sets = [{i for i in twin if i < model.vocab_size and not own[i]} for twin in twins]
    held = Counter((form, i) for form, words in zip(some.groups, sets, strict=True) for i in words)
    most = {form: max(1, COMMON * n) for form, n in Counter(some.groups).items()}
    of = zip(some.groups, sets, strict=True)
    return [sorted(i for i in words if held[form, i] <= most[form]) for form, words in of]

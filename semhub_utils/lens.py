"""The logit lens: what a reading says of hidden states, and the readings that every model has.

A reading is an object: from the states of a layer and what is asked (words, or the likeliest k) to scores. "normed"
applies the final norm to every layer, as the usual logit lens does (nostalgebraist 2020); at layer L it is the model's
own distribution. "raw" is what the paper's release reads: the state as it is before layer L, and normed at layer L,
whose state the library hands over normed; so the last point stands on another scale. Others are made for one model and
stand in its `readings`: the tuned lens (`tuned`), the Jacobian lens (`jacobian`), contextual neighbours (`neighbours`).

Those that end in the unembedding read all layers in one pass, in blocks over the vocabulary with a running maximum and
sum: nothing of size layers x positions x vocabulary is made.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, partial
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from semhub_utils.errors import SemhubError, in_memory, out_of_memory
from semhub_utils.inputs import Prompt
from semhub_utils.models import LanguageModel

TABLE = {"cpu": (1024, 1024), "other": (4096, 32768)}  # rows and tokens of the largest table made; 4 MB is near a cache
KEPT = 2**25  # entries of the table that a mixture is made of, which is of the whole vocabulary
LOG2_E = math.log2(math.e)


@dataclass(frozen=True)
class Asked:
    """What is asked of the states of some sites. classes: numbers that belong to each token, such as
    P(language | token), whose mean under the scores' distribution is wanted. weights: one per site, by which the sites'
    distributions are summed."""

    targets: Int[Tensor, "site target"] | None = None
    top_k: int = 0
    rank: bool = False
    entropy: bool = False
    classes: Float[Tensor, "vocab class"] | None = None
    weights: Float[Tensor, " site"] | None = None


@dataclass(frozen=True)
class Scores:
    """What was asked for, of one layer or of several; the rest is None. Log-probabilities are natural; rank 1 is the
    likeliest token."""

    logprob: Float[Tensor, "site *layer target"] | None = None
    rank: Int[Tensor, "site *layer target"] | None = None
    entropy: Float[Tensor, "site *layer"] | None = None  # nats
    top_ids: Int[Tensor, "site *layer k"] | None = None
    top_logprobs: Float[Tensor, "site *layer k"] | None = None
    expected: Float[Tensor, "site *layer class"] | None = None  # of each column of `classes`
    mixture: Float[Tensor, "*layer vocab"] | None = None  # the sites' distributions, summed with `weights`


class Reading(ABC):
    """A way to read words off hidden states.

    name: what tables call it. random_weights: whether it can be used on other weights of the same architecture, and so
    on a random twin. by_layer: whether it needs to know whose states it is given. fingerprint: what tells it from
    another of its name.
    """

    name: str
    random_weights: ClassVar[bool] = True
    by_layer: ClassVar[bool] = True

    @property
    def fingerprint(self) -> str:
        return self.name

    @property
    def at_patches(self) -> "Reading":
        """How it reads the states of pictures and sounds, which stand before no word."""
        return self

    def apart_from(self, prompts: Sequence[Prompt]) -> tuple["Reading", int]:
        """Itself without the texts of its own that are read, and how many these are."""
        return self, 0

    @abstractmethod
    def read(self, model: LanguageModel, hidden: Float[Tensor, "site hidden"], layer: int, asked: Asked) -> Scores:
        """Scores of the states of one layer, before the final norm."""

    def read_layers(
        self, model: LanguageModel, hidden: Float[Tensor, "site layer hidden"], layers: Sequence[int], asked: Asked
    ) -> Scores:
        """How it looks at several layers: by itself at one after the other."""
        found = [self.read(model, hidden[:, k], layer, asked) for k, layer in enumerate(layers)]
        given = [f.name for f in fields(Scores) if getattr(found[0], f.name) is not None]
        at = {name: 0 if name == "mixture" else 1 for name in given}
        return Scores(**{name: torch.stack([getattr(of, name) for of in found], at[name]) for name in given})


class ThroughUnembedding(Reading):
    """A reading that is a map of the states before the unembedding, or before another product that gives a number for
    each token of the vocabulary."""

    @abstractmethod
    def inputs(
        self, model: LanguageModel, hidden: Float[Tensor, "site layer hidden"], layers: Sequence[int]
    ) -> Float[Tensor, "site layer input"]:
        """What is put before the unembedding."""

    def unembed(
        self, model: LanguageModel, x: Float[Tensor, "row input"], vocab: slice | Tensor
    ) -> Float[Tensor, "row token"]:
        """The numbers of some tokens whose softmax over the vocabulary is the reading."""
        return model.unembed(x, vocab)

    def read(self, model: LanguageModel, hidden: Float[Tensor, "site hidden"], layer: int, asked: Asked) -> Scores:
        found = self.read_layers(model, hidden[:, None], [layer], asked)
        at = {"mixture": 0}
        given = {f.name: getattr(found, f.name) for f in fields(Scores)}
        return Scores(**{name: of.squeeze(at.get(name, 1)) for name, of in given.items() if of is not None})

    def read_layers(
        self, model: LanguageModel, hidden: Float[Tensor, "site layer hidden"], layers: Sequence[int], asked: Asked
    ) -> Scores:
        n_rows, n_tokens = TABLE["cpu" if model.device.type == "cpu" else "other"]
        wide, mixture = {"device": model.device, "dtype": torch.promote_types(model.dtype, torch.float32)}, None
        if asked.weights is not None:
            mixture, n_rows = torch.zeros(len(layers), model.vocab_size, **wide), min(n_rows, KEPT // model.vocab_size)
        classes = None if asked.classes is None else asked.classes.to(**wide)
        step, parts = max(1, n_rows // len(layers)), []
        with torch.inference_mode():
            for start in range(0, max(1, len(hidden)), step):
                sites = slice(start, start + step)
                part = Asked(
                    None if asked.targets is None else asked.targets[sites].to(model.device),
                    asked.top_k, asked.rank, asked.entropy, classes,
                    None if asked.weights is None else asked.weights[sites].to(**wide),
                )  # fmt: skip
                x = self.inputs(model, hidden[sites], layers)
                parts.append(_read_block(model, partial(self.unembed, model), x, part, n_tokens, mixture))
        found = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return Scores(**found, mixture=mixture)


@dataclass(frozen=True)
class Normed(ThroughUnembedding):
    name: str = "normed"
    by_layer: ClassVar[bool] = False

    def inputs(self, model, hidden, layers):
        return model.normalise(hidden.flatten(0, 1)).unflatten(0, hidden.shape[:2])


@dataclass(frozen=True)
class Raw(ThroughUnembedding):
    name: str = "raw"

    def inputs(self, model, hidden, layers):
        found = [model.normalise(hidden[:, k], norm=layer == model.n_layers) for k, layer in enumerate(layers)]
        return torch.stack(found, dim=1)


READINGS: dict[str, Reading] = {reading.name: reading for reading in (Normed(), Raw())}
"""Those that every model has."""


def available_readings(model: LanguageModel) -> tuple[str, ...]:
    """The names of the readings that the model can be read by; the first is the one on which claims rest."""
    return (*READINGS, *model.readings)


def reading_of(model: LanguageModel, reading: str | Reading) -> Reading:
    """A reading by its name. Raises SemhubError where the model has none of that name."""
    if isinstance(reading, Reading):
        return reading
    known = READINGS | model.readings
    if reading not in known:
        made = f"; `semhub tune {model.model_id} --kind {reading}` makes one"
        hint = made if reading in ("tuned", "jacobian") else ""
        raise SemhubError(f"{model.model_id} has no reading {reading!r}{hint}; {' or '.join(known)} would do.")
    return known[reading]


def lens(
    model: LanguageModel,
    hidden: Float[Tensor, "site layer hidden"],
    *,
    targets: Int[Tensor, "site target"] | Int[Tensor, " target"] | None = None,
    top_k: int = 0,
    rank: bool = False,
    entropy: bool = False,
    classes: Float[Tensor, "vocab class"] | None = None,
    weights: Float[Tensor, " site"] | None = None,
    reading: str | Reading = "normed",
    layers: Sequence[int] | None = None,
) -> Scores:
    """Read hidden states (before the final norm, as `hidden_states` gives them); what comes out lies on the cpu.

    targets: of each site, or the same for all. classes, weights: as in `Asked`; a mixture is made of KEPT entries at a
    time. layers: the layer of each entry of `hidden`'s second axis, for readings that need it; not needed where
    all of 0..L are there. Raises SemhubError on a target outside the vocabulary, a reading that the model has not,
    layers that are missing, ranks without targets, or classes that are not one row per token.
    """
    n_sites, n_layers, _ = hidden.shape
    if targets is not None:
        if targets.numel() and not (0 <= int(targets.min()) and int(targets.max()) < model.vocab_size):
            raise SemhubError(
                f"A target token lies outside the vocabulary; ids from 0 to {model.vocab_size - 1} would do."
            )
        targets = targets.expand(n_sites, -1) if targets.ndim == 1 else targets
    elif rank:
        raise SemhubError("A rank was asked without targets; targets=... would do.")
    reading = reading_of(model, reading)
    if layers is None and (n_layers == model.n_layers + 1 or not reading.by_layer):
        layers = range(n_layers)
    if layers is None or len(layers) != n_layers:
        raise SemhubError(f"A reading by layer needs the layer of each of the {n_layers} states; layers=... would do.")
    if not 0 <= top_k <= model.vocab_size:
        raise SemhubError(f"top_k was {top_k}; 0 to {model.vocab_size} would do.")
    if classes is not None and len(classes) != model.vocab_size:
        raise SemhubError(f"classes has {len(classes)} rows; one for each of {model.vocab_size} tokens would do.")
    asked = Asked(targets, top_k, rank, entropy, classes, weights)
    what = f"What {model.model_id} says of {n_sites} states at {n_layers} layers does not fit in memory"
    with in_memory(what, "fewer or shorter prompts, a smaller model or dtype='bfloat16'"):
        found = reading.read_layers(model, hidden, layers, asked)
    given = {f.name: getattr(found, f.name) for f in fields(Scores)}
    return replace(found, **{name: of.cpu() for name, of in given.items() if of is not None})


def word_logprobs(
    logprob: Float[Tensor, "*site target"], groups: Sequence[Sequence[int]]
) -> Float[Tensor, "*site word"]:
    """Log-probability of words from that of their forms: log-sum-exp over the columns in each group."""
    none, most = logprob.shape[-1], max(map(len, groups))
    columns = torch.tensor([[*group, *[none] * (most - len(group))] for group in groups], device=logprob.device)
    return pad(logprob, (0, 1), value=-torch.inf)[..., columns].logsumexp(-1)


# One block of rows against the whole vocabulary


@dataclass
class _Pass:
    """What is known of some rows when part of the vocabulary has passed by: the largest logit, the sums over tokens of
    exp(logit - peak), and, if asked, of that times the logit and times the classes; the likeliest tokens, and how many
    are above each target."""

    peak: Float[Tensor, "row 1"]
    total: Float[Tensor, "row 1"]
    weighted: Float[Tensor, "row 1"] | None = None
    in_class: Float[Tensor, "row class"] | None = None
    best: Float[Tensor, "row k"] | None = None
    best_ids: Int[Tensor, "row k"] | None = None
    above: Int[Tensor, "row target"] | None = None


def _read_block(
    model: LanguageModel,
    unembed: Callable[[Tensor, slice | Tensor], Tensor],
    x: Float[Tensor, "site layer input"],
    asked: Asked,
    n_tokens: int,
    mixture: Tensor | None,
) -> dict[str, Tensor]:
    """All that is asked of some sites at all layers; `mixture` [layer, vocab] is added to."""
    shape, x = x.shape[:2], x.flatten(0, 1)
    targets = None
    if asked.targets is not None:
        ids, column = asked.targets.unique(return_inverse=True)
        targets, column = (of.repeat_interleave(shape[1], 0) for of in (asked.targets, column))
        own = unembed(x, ids).gather(1, column)
    peak = x.new_full((len(x), 1), -torch.inf, dtype=torch.promote_types(x.dtype, torch.float32))
    so_far = _Pass(peak, torch.zeros_like(peak))
    if asked.entropy:
        so_far.weighted = torch.zeros_like(peak)
    if asked.classes is not None:
        so_far.in_class = peak.new_zeros(len(x), asked.classes.shape[1])
    if asked.top_k:
        so_far.best, so_far.best_ids = peak[:, :0], torch.empty(len(x), 0, dtype=torch.long, device=x.device)
    if asked.rank:
        so_far.above = torch.zeros_like(targets)
    n_blocks, masses = -(-model.vocab_size // n_tokens), []
    n_tokens = -(-model.vocab_size // n_blocks)  # of one size
    for start in range(0, model.vocab_size, n_tokens):
        block = unembed(x, slice(start, start + n_tokens))
        if asked.rank:
            so_far.above += _above(block, own, targets, start)
        if asked.top_k:
            _merge_best(so_far, block, start, asked.top_k)
        of_block = None if asked.classes is None else asked.classes[start : start + n_tokens]
        mass = _fold_in(so_far, block, of_block, keep=mixture is not None)
        if mixture is not None:
            masses.append((slice(start, start + n_tokens), mass, so_far.peak))

    log_total = so_far.peak + so_far.total.log()
    found: dict[str, Tensor] = {}
    if asked.top_k:
        found |= {"top_ids": so_far.best_ids, "top_logprobs": so_far.best - log_total}
    if asked.entropy:
        found["entropy"] = (log_total - so_far.weighted / so_far.total)[:, 0]
    if asked.classes is not None:
        found["expected"] = so_far.in_class / so_far.total
    if targets is not None:
        found["logprob"] = own - log_total
    if asked.rank:
        found["rank"] = so_far.above + 1
    for tokens, mass, peak in masses:  # a row's distribution is known only once its total is
        share = (peak - log_total).exp().reshape(shape) * asked.weights[:, None]
        mixture[:, tokens] += torch.einsum("slt,sl->lt", mass.reshape(*shape, -1), share)
    return {name: value.reshape(*shape, *value.shape[1:]) for name, value in found.items()}


def _above(block: Tensor, own: Tensor, targets: Tensor, start: int) -> Int[Tensor, "row target"]:
    """How many tokens of a block of logits, which begins at `start`, are above each target."""
    is_above, above = torch.empty_like(block), torch.zeros_like(targets)  # as numbers, which are summed faster
    for k in range(targets.shape[1]):
        above[:, k] = torch.gt(block, own[:, k : k + 1], out=is_above).sum(1).long()
    # a token is not above itself, whatever the rounding of two products
    inside = (targets >= start) & (targets < start + block.shape[1])
    itself = block.gather(1, (targets - start).clamp(0, block.shape[1] - 1))
    return above - (inside & (itself > own)).long()


def _merge_best(so_far: _Pass, block: Tensor, start: int, top_k: int) -> None:
    # of one, the maximum is several times as fast
    values, places = block.max(1, keepdim=True) if top_k == 1 else block.topk(min(top_k, block.shape[1]), dim=1)
    values, ids = torch.cat([so_far.best, values], 1), torch.cat([so_far.best_ids, places + start], 1)
    so_far.best, order = values.topk(min(top_k, values.shape[1]), dim=1)
    so_far.best_ids = ids.gather(1, order)


def _fold_in(
    so_far: _Pass, block: Float[Tensor, "row token"], classes: Tensor | None, keep: bool = False
) -> Float[Tensor, "row token"] | None:
    """Take a block of logits, which is written over, into the running sums. What is returned, sure to be there only
    with `keep`: exp(logit - peak), the peak being the one so far."""
    if classes is None and block.is_cuda and not keep:
        so_far.peak, so_far.total, so_far.weighted = _online()(block, so_far.peak, so_far.total, so_far.weighted)
        return None
    peak = torch.maximum(so_far.peak, block.amax(1, keepdim=True))
    shrink = (so_far.peak - peak).exp()
    if so_far.weighted is not None:
        mass = (block - peak).mul_(LOG2_E).exp2_()  # three times as fast as exp on a cpu
        so_far.weighted = so_far.weighted * shrink + torch.linalg.vecdot(mass, block)[:, None]
    else:
        mass = block.sub_(peak).mul_(LOG2_E).exp2_()
    so_far.total = so_far.total * shrink + mass.sum(1, keepdim=True)
    if classes is not None:
        so_far.in_class = so_far.in_class * shrink + mass @ classes
    so_far.peak = peak
    return mass


def _softmax_step(block: Tensor, peak: Tensor, total: Tensor, weighted: Tensor | None):
    """The running sums after one more block of logits, in one pass over it once it is compiled."""
    higher = torch.maximum(peak, block.amax(1, keepdim=True))
    shrink, mass = (peak - higher).exp(), (block - higher).exp()
    if weighted is not None:
        weighted = weighted * shrink + (mass * block).sum(1, keepdim=True)
    return higher, total * shrink + mass.sum(1, keepdim=True), weighted


@cache
def _online() -> Callable[..., tuple]:
    """`_softmax_step`, compiled where torch can compile here."""
    compiled, works = torch.compile(_softmax_step, dynamic=True), [True]

    def step(*given) -> tuple:
        if works[0]:
            try:
                return compiled(*given)
            except Exception as error:  # whatever a compiler that is missing or broken raises
                if isinstance(error, RuntimeError) and out_of_memory(error):
                    raise
                works[0] = False
        return _softmax_step(*given)

    return step

"""The logit lens: what the unembedding says of a hidden state, in blocks over the vocabulary.

Readings: "normed" applies the final norm to every layer, as the usual logit lens does (nostalgebraist 2020); at layer L
it is the model's own distribution. "raw" is what the paper's release reads: the state as it is before layer L, and
normed at layer L, whose state the library hands over normed; so the last point stands on another scale. "tuned" puts
the model's translators before the final norm (`tuned`), where it has them. A reading may also be any function
(layer, h) -> h, put before the final norm.

Nothing of size layers x positions x vocabulary is made: blocks of the vocabulary pass by, with a running maximum and
sum.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from semhub_utils.errors import SemhubError
from semhub_utils.models import LanguageModel

Reading = str | Callable[[int, Tensor], Tensor]
READINGS = ("normed", "raw", "tuned")
TABLE = {"cpu": (1024, 1024), "other": (8192, 8192)}  # rows and tokens of the largest table made: 4 MB, near the cache
LOG2_E = math.log2(math.e)


@dataclass(frozen=True)
class LensReading:
    """What was asked for; the rest is None. Log-probabilities are natural; rank 1 is the likeliest token."""

    logprob: Float[Tensor, "site layer target"] | None = None
    rank: Int[Tensor, "site layer target"] | None = None
    entropy: Float[Tensor, "site layer"] | None = None  # nats
    top_ids: Int[Tensor, "site layer k"] | None = None
    top_logprobs: Float[Tensor, "site layer k"] | None = None
    expected: Float[Tensor, "site layer class"] | None = None  # of each column of `classes`
    mixture: Float[Tensor, "layer vocab"] | None = None  # the sites' distributions, summed with `weights`


def available_readings(model: LanguageModel) -> tuple[str, ...]:
    """Those of READINGS that the model can be read by: "tuned" only where it has translators."""
    return READINGS if model.translators is not None else READINGS[:2]


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
    reading: Reading = "normed",
    layers: Sequence[int] | None = None,
) -> LensReading:
    """Read hidden states (before the final norm, as `hidden_states` gives them) through the unembedding.

    classes: numbers that belong to each token, such as P(language | token); `expected` is their mean under the lens's
    distribution, one more product per block. weights: one per site; `mixture` takes a second pass over the vocabulary.
    layers: the layer of each entry of `hidden`'s second axis, for all readings but "normed"; not needed where all of
    0..L are there. Raises SemhubError on a target outside the vocabulary, an unknown reading, a tuned one of a model
    without translators, layers that are missing, ranks without targets, or classes that are not one row per token.
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
    if reading == "tuned":
        reading = model.translators
        if reading is None:
            raise SemhubError(
                f"{model.model_id} has no tuned lens; `semhub tune {model.model_id}` makes one, or the reading "
                "'normed' would do."
            )
    if callable(reading) or reading == "raw":
        if layers is None and n_layers == model.n_layers + 1:
            layers = range(n_layers)
        if layers is None or len(layers) != n_layers:
            raise SemhubError(
                f"A reading by layer needs the layer of each of the {n_layers} states; layers=... would do."
            )
    if callable(reading):
        hidden = torch.stack([reading(layer, hidden[:, k]) for k, layer in enumerate(layers)], dim=1)
    elif reading not in ("normed", "raw"):
        raise SemhubError(f"reading was {reading!r}; {', '.join(READINGS)} or a function of layer and state would do.")
    if not 0 <= top_k <= model.vocab_size:
        raise SemhubError(f"top_k was {top_k}; 0 to {model.vocab_size} would do.")

    if classes is not None:
        if len(classes) != model.vocab_size:
            raise SemhubError(f"classes has {len(classes)} rows; one for each of {model.vocab_size} tokens would do.")

    rows = hidden.reshape(-1, hidden.shape[-1])
    wide = {"device": model.device, "dtype": torch.promote_types(model.dtype, torch.float32)}
    as_it_is = None
    if reading == "raw":
        as_it_is = (torch.tensor(list(layers), device=model.device) != model.n_layers).repeat(n_sites)[:, None]

    def before_unembedding(start: int) -> Tensor:
        block = rows[start : start + n_rows]
        if as_it_is is None:
            return model.normalise(block)
        plain = as_it_is[start : start + n_rows]
        return torch.where(plain, model.normalise(block, norm=False), model.normalise(block))

    classes = None if classes is None else classes.to(**wide)
    mixture = None if weights is None else torch.zeros(n_layers, model.vocab_size, **wide)
    row_weights = None if weights is None else weights.to(**wide).repeat_interleave(n_layers)
    row_targets = None if targets is None else targets.repeat_interleave(n_layers, 0).to(model.device)
    n_rows, n_tokens = TABLE["cpu" if model.device.type == "cpu" else "other"]
    with torch.inference_mode():
        parts = [
            _read_rows(
                model,
                before_unembedding(start),
                None if row_targets is None else row_targets[start : start + n_rows],
                n_tokens,
                top_k=top_k,
                rank=rank,
                entropy=entropy,
                classes=classes,
                mixture=mixture,
                weights=None if row_weights is None else row_weights[start : start + n_rows],
                first_row=start,
            )
            for start in range(0, len(rows), n_rows)
        ]
    asked = {
        "logprob": targets is not None,
        "rank": rank,
        "entropy": entropy,
        "top_ids": top_k > 0,
        "top_logprobs": top_k > 0,
        "expected": classes is not None,
    }
    found = {name: _join(parts, name, n_sites, n_layers) for name, wanted in asked.items() if wanted}
    return LensReading(**found, mixture=None if mixture is None else mixture.cpu())


def word_logprobs(
    logprob: Float[Tensor, "*site target"], groups: Sequence[Sequence[int]]
) -> Float[Tensor, "*site word"]:
    """Log-probability of words from that of their forms: log-sum-exp over the columns in each group."""
    return torch.stack([logprob[..., list(group)].logsumexp(-1) for group in groups], dim=-1)


def _join(parts: list[dict[str, Tensor]], name: str, n_sites: int, n_layers: int) -> Tensor:
    whole = torch.cat([part[name] for part in parts])
    return whole.reshape(n_sites, n_layers, *whole.shape[1:])


def _read_rows(
    model: LanguageModel,
    x: Tensor,
    targets: Tensor | None,
    n_tokens: int,
    *,
    top_k: int,
    rank: bool,
    entropy: bool,
    classes: Tensor | None,
    mixture: Tensor | None,
    weights: Tensor | None,
    first_row: int,
) -> dict[str, Tensor]:
    """One block of rows [row, input] against the whole vocabulary, a block at a time; `mixture` is added to."""
    n_rows = len(x)
    if targets is not None:
        ids, column = targets.unique(return_inverse=True)
        own = model.unembed(x, ids).gather(1, column)
        above = torch.zeros_like(targets)
    peak = x.new_full((n_rows, 1), -torch.inf, dtype=torch.promote_types(x.dtype, torch.float32))
    total, weighted = torch.zeros_like(peak), torch.zeros_like(peak)  # of exp(logit - peak), and of that times logit
    in_class = None if classes is None else peak.new_zeros(n_rows, classes.shape[1])  # of exp(logit - peak) times class
    best, best_ids = peak[:, :0], torch.empty(n_rows, 0, dtype=torch.long, device=x.device)

    for start in range(0, model.vocab_size, n_tokens):
        block = model.unembed(x, slice(start, start + n_tokens))
        if rank:
            is_above = torch.empty_like(block)  # as numbers, which are summed faster than truth values
            for k in range(targets.shape[1]):
                above[:, k] += torch.gt(block, own[:, k : k + 1], out=is_above).sum(1).long()
            # a token is not above itself, whatever the rounding of two products
            inside = (targets >= start) & (targets < start + block.shape[1])
            itself = block.gather(1, (targets - start).clamp(0, block.shape[1] - 1))
            above -= (inside & (itself > own)).long()
        if top_k:
            values, places = block.topk(min(top_k, block.shape[1]), dim=1)
            values, ids_here = torch.cat([best, values], 1), torch.cat([best_ids, places + start], 1)
            best, order = values.topk(min(top_k, values.shape[1]), dim=1)
            best_ids = ids_here.gather(1, order)
        new_peak = torch.maximum(peak, block.amax(1, keepdim=True))
        shrink = (peak - new_peak).exp()
        if entropy:
            mass = (block - new_peak).mul_(LOG2_E).exp2_()  # three times as fast as exp on a cpu
            weighted = weighted * shrink + torch.linalg.vecdot(mass, block)[:, None]
        else:
            mass = block.sub_(new_peak).mul_(LOG2_E).exp2_()
        total = total * shrink + mass.sum(1, keepdim=True)
        if classes is not None:
            in_class = in_class * shrink + mass @ classes[start : start + n_tokens]
        peak = new_peak

    log_total = peak + total.log()
    found = {"top_ids": best_ids, "top_logprobs": best - log_total, "entropy": (log_total - weighted / total)[:, 0]}
    if classes is not None:
        found["expected"] = in_class / total
    if mixture is not None:  # a row's distribution is known only once its total is
        layer = torch.arange(first_row, first_row + n_rows, device=x.device) % len(mixture)
        for start in range(0, model.vocab_size, n_tokens):
            mass = model.unembed(x, slice(start, start + n_tokens)).sub_(log_total).exp_().mul_(weights[:, None])
            mixture[:, start : start + n_tokens].index_add_(0, layer, mass)
    if targets is not None:
        found |= {"logprob": own - log_total, "rank": above + 1}
    return {name: value.cpu() for name, value in found.items()}

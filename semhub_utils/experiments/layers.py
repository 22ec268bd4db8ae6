"""Which language does each layer speak? P(type | token) applied to the lens at every position of running text."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from semhub_utils.evidence import Evidence, control, evidence, sign_flip_null, tidy
from semhub_utils.experiments.core import DRAWS, Result, curve
from semhub_utils.experiments.token_types import SMOOTHING, TokenTypes, count_tokens, fitting, text_positions
from semhub_utils.lens import available_readings, lens, reading_of
from semhub_utils.models import LanguageModel, randomised
from semhub_utils.shuffles import least_permutation_p, least_sign_flip_p, random_pairings
from semhub_utils.spokes.languages import TypeTexts
from semhub_utils.states import stream_states

UNSEEN, SPECIAL = "never seen", "special"
BITS = 1 / float(np.log(2))


@dataclass(frozen=True)
class Heard:
    """What the lens gives to each class of tokens on lines of one text: the mean over a line's positions."""

    share: Float[np.ndarray, "line layer class"]  # the types, never seen, special; then the other estimates
    entropy: Float[np.ndarray, "line layer"]  # bits
    chance: Float[np.ndarray, "line layer"]  # the entropy if every token had the types of another one as frequent
    null: Float[np.ndarray, "draw layer class"] | None  # of the mean shares; for random weights none
    clusters: list[str]  # of the lines


def layers_experiment(
    model: LanguageModel,
    texts: Sequence[TypeTexts],
    *,
    hub: str = "english",
    smoothing: float = SMOOTHING,
    seed: int = 0,
    random_weights: bool = True,
) -> Result:
    """P(type) by layer: the sum over the vocabulary of the lens's probability times P(type | token), the mean over the
    positions of each line, for text of every type and every reading (the paper's language of the layers).

    Three claims per type X but the hub, about lines of X; those in the normed reading come first, and the chapter rests
    on them. `layers-lead/X`: P(hub) minus P(X) at a middle layer. `layers-hub/X`: P(hub) at a middle layer.
    `layers-end/X`: P(X) minus P(hub) at the last layer. The null gives each seen token the P(type | token) of another
    one, as frequent within a factor of two: a type that has more tokens than others, or likelier ones, is no finding.
    Lead and end have a second one, of flipped signs per cluster of lines.
    Controls: the embedding layer, random weights, and "roles exchanged": the same of X on the hub's own text.

    Tokens that no type's text has, and special tokens, are classes of their own; all classes sum to 1. The table adds:
    `layers-type` (P by class), `layers-entropy` (bits over the types, renormalised, of a position that gives them
    anything), `layers-gap` (normed minus raw) and `layers-estimate` (the lead under other estimates of P(type |
    token)), all with this null, of which the entropy has one draw as the control "types shuffled", and the control of
    random weights; column `text` is the type of the text. The tuned reading goes without random weights: they would
    need translators of their own.
    """
    types = count_tokens(model, texts)
    if hub not in types.names:
        raise ValueError(f"the hub is {hub!r}, and text of {', '.join(types.names)} was given")
    classes = _classes(types, smoothing)
    noise_model = randomised(model, seed) if random_weights else None
    shuffled = _Shuffled(types, classes, seed)
    classes = torch.cat([classes, shuffled.once(len(types.names))], 1)
    heard, noise, dropped = defaultdict(dict), defaultdict(dict), {}  # by reading and text
    for some in texts:
        encodings, dropped[some.name] = fitting(model, some.read)
        ask = {"encodings": encodings, "classes": classes, "n_types": len(types.names)}
        ask["clusters"] = some.clusters_of(encoding.text for encoding in encodings)
        for reading in available_readings(model):
            heard[reading][some.name] = _listen(model, **ask, reading=reading, shuffled=shuffled)
            if noise_model is not None and reading_of(model, reading).random_weights:
                noise[reading][some.name] = _listen(noise_model, **ask, reading=reading)
    tables = [_curves(model, heard, noise, types.names, name, hub, dropped[name], seed) for name in types.names]
    claims = [
        claim
        for reading, of in heard.items()
        for name in types.names
        if name != hub
        for claim in _claims(model, of, noise[reading].get(name), shuffled, name, hub, reading, dropped[name], seed)
    ]
    return pd.concat([tidy(claims).assign(text=lambda table: table.series), *tables], ignore_index=True), claims


def _classes(types: TokenTypes, smoothing: float) -> Float[Tensor, "vocab class"]:
    """P(type | token), never seen, special; then P(type | token) without smoothing, and of tokens of one type alone."""
    plain = types.posterior(0.0)
    marks = torch.stack([~types.seen & ~types.special, types.special], 1).double()
    return torch.cat([types.posterior(smoothing), marks, plain, plain * ~types.shared[:, None]], 1)


def _listen(
    model: LanguageModel,
    *,
    encodings: Sequence,
    classes: Tensor,
    n_types: int,
    clusters: list[str],
    reading: str,
    shuffled: "_Shuffled | None" = None,
) -> Heard:
    """Lines through one reading of the lens; a few numbers per line and layer are kept."""
    positions = [text_positions(model, encoding) for encoding in encodings]
    size = torch.tensor([len(row) for row in positions], dtype=torch.float64)
    n, n_layers = len(encodings), model.n_layers + 1
    share = torch.zeros(n, n_layers, classes.shape[1], dtype=torch.float64)
    entropy, chance = torch.zeros(2, n, n_layers, 2, dtype=torch.float64)  # sums of bits, and of weights
    mixed = torch.zeros(n_layers, len(classes), dtype=torch.float64)
    for states in stream_states(model, [e.text for e in encodings], positions=positions):
        weight = 1 / size[states.item]  # of a position in its line
        read = lens(model, states.hidden, classes=classes, weights=weight / n if shuffled else None, reading=reading)
        held = read.expected.double()
        share.index_add_(0, states.item, held * weight[:, None, None])
        for bits, of in ((entropy, held[..., :n_types]), (chance, held[..., -n_types:])):
            some = of.sum(-1, keepdim=True)  # none where all probability is on tokens never seen
            spread = torch.special.entr(of / some.clamp_min(1e-300)).sum(-1) * BITS
            told = (some[..., 0] > 0) * weight[:, None]
            bits.index_add_(0, states.item, torch.stack([spread * told, told], -1))
        if shuffled:
            mixed += read.mixture.double()
    null = shuffled.shares(mixed.numpy()) if shuffled else None
    bits = [(of[..., 0] / of[..., 1]).numpy() for of in (entropy, chance)]
    return Heard(share[..., :-n_types].numpy(), *bits, null, clusters)


class _Shuffled:
    """What the types would get if P(type | token) were shuffled among seen tokens of like frequency."""

    def __init__(self, types: TokenTypes, classes: Float[Tensor, "vocab class"], seed: int):
        self.names, self.seen, self.classes = types.names, types.seen.numpy(), classes.numpy()
        bins = np.floor(np.log2(types.share.mean(1).numpy()[self.seen])).astype(int)
        self.pairings = random_pairings(len(bins), groups=bins, draws=DRAWS, seed=seed)
        self.least_p = least_permutation_p(bins, np.arange(len(bins)))

    def once(self, n_types: int) -> Float[Tensor, "vocab type"]:
        """P(type | token) in one draw."""
        of = self.classes[:, :n_types].copy()
        of[self.seen] = of[self.seen][self.pairings[0]]
        return torch.from_numpy(of)

    def shares(self, mixture: Float[np.ndarray, "layer vocab"]) -> Float[np.ndarray, "draw layer class"]:
        held, of = mixture[:, self.seen], self.classes[self.seen]
        still = mixture[:, ~self.seen] @ self.classes[~self.seen]  # never seen, special: these stay
        return np.stack([held @ of[pairing] for pairing in self.pairings]) + still


def _claims(
    model: LanguageModel, heard: Mapping[str, Heard], noise: Heard | None, shuffled: _Shuffled,
    name: str, hub: str, reading: str, long: int, seed: int,
) -> list[Evidence]:  # fmt: skip
    """The three claims about text of one type."""
    h, x = shuffled.names.index(hub), shuffled.names.index(name)
    n_layers, last = model.n_layers + 1, model.n_layers
    share, null, clusters = heard[name].share, heard[name].null, heard[name].clusters

    def lead(of: np.ndarray) -> np.ndarray:
        return of[..., h] - of[..., x]

    def controls(score: Callable, exchanged: Callable) -> dict[str, np.ndarray]:
        found = {"embedding layer": score(share)[:, :1]}
        if len(other := heard[hub].share):
            by = {"clusters": heard[hub].clusters, "seed": seed}
            found["roles exchanged"] = control("roles exchanged", exchanged(other), **by)
        if noise is not None:
            found["random weights"] = score(noise.share)
        return found

    def claim(kind: str, scores, nulls, least_p: float, of: Mapping[str, np.ndarray], layers=None) -> Evidence:
        return evidence(
            f"{kind}/{name}", scores, nulls, layers=range(n_layers) if layers is None else layers, n_layers=last,
            experiment=kind, series=name, reading=reading, controls=of,
            dropped={"longer than the model's context, or no token": long} if long else {}, least_p=least_p,
            unit="probability", null_in_words="types shuffled among tokens of like frequency", clusters=clusters,
            seed=seed,
        )  # fmt: skip

    flips = np.zeros((DRAWS, n_layers))
    if len(share):
        flips = sign_flip_null(lead(share), clusters=clusters, draws=DRAWS, seed=seed)
    least = max(shuffled.least_p, least_sign_flip_p(clusters))
    at_end = {} if noise is None else {"random weights": -lead(noise.share)[:, -1:]}
    return [
        claim("layers-lead", lead(share), [lead(null), flips], least, controls(lead, lambda s: -lead(s))),
        claim("layers-hub", share[..., h], [null[..., h]], shuffled.least_p,
              controls(lambda s: s[..., h], lambda s: s[..., x])),
        claim("layers-end", -lead(share)[:, -1:], [-lead(null)[:, -1:], -flips[:, -1:]], least, at_end, [last]),
    ]  # fmt: skip


def _curves(
    model: LanguageModel, heard: Mapping[str, Mapping[str, Heard]], noise: Mapping[str, Mapping[str, Heard]],
    names: Sequence[str], text: str, hub: str, long: int, seed: int,
) -> pd.DataFrame:  # fmt: skip
    """All that is drawn of text of one type."""
    k, tables, every = len(names), [], [*names, UNSEEN, SPECIAL]
    h, x = names.index(hub), names.index(text)

    def draw(experiment: str, series: str, reading: str, values: np.ndarray, blank=None, null=None, **controls) -> None:
        controls |= {} if blank is None else {"random weights": blank}
        given = {"reading": reading, "dropped": long, "seed": seed, "controls": controls, "null": null}
        given["clusters"] = heard["normed"][text].clusters
        tables.append(curve(model, values, experiment=experiment, series=series, **given))

    def estimates(share: np.ndarray) -> dict[str, np.ndarray]:
        firsts = {"as estimated": 0, "without smoothing": k + 2, "tokens of one type": 2 * k + 2}
        found = {name: share[..., first + h] - share[..., first + x] for name, first in firsts.items()}
        return found | {f"{UNSEEN} is own": found["as estimated"] - share[..., k]}

    for reading, by_text in heard.items():
        of, blank = by_text[text], noise[reading].get(text)
        for column, name in enumerate(every):
            chance = of.null[..., column] if column < k else None
            noise_of = None if blank is None else blank.share[..., column]
            draw("layers-type", name, reading, of.share[..., column], noise_of, chance)
        draw("layers-entropy", text, reading, of.entropy, blank and blank.entropy, **{"types shuffled": of.chance})
        if text != hub:
            without, chance = estimates(blank.share) if blank else {}, estimates(of.null)
            for name, values in estimates(of.share).items():
                draw("layers-estimate", name, reading, values, without.get(name), chance[name])
    gap, without = (of["normed"][text].share - of["raw"][text].share if of["raw"] else None for of in (heard, noise))
    chance = heard["normed"][text].null - heard["raw"][text].null
    for column, name in enumerate(every):
        noise_of = None if without is None else without[..., column]
        draw("layers-gap", name, "", gap[..., column], noise_of, chance[..., column] if column < k else None)
    return pd.concat(tables, ignore_index=True).assign(text=text)

"""Does a middle layer name the role of the person who comes next (Eq. 2, read for role words)?"""

import math
from collections.abc import Mapping, Sequence
from itertools import compress, product
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from semhub_utils.evidence import Evidence, evidence, tidy
from semhub_utils.experiments.core import DRAWS, FEW_DRAWS, Result, curve
from semhub_utils.lens import lens, word_logprobs
from semhub_utils.models import LanguageModel, randomised
from semhub_utils.shuffles import codes, least_permutation_p, random_pairings
from semhub_utils.spokes.items import LensItem
from semhub_utils.spokes.semantics import ROLES
from semhub_utils.states import hidden_states
from semhub_utils.tokens import target_table

CLAIMS = ("lead", "same position")


def role_experiment(
    model: LanguageModel,
    items: Sequence[LensItem],
    others: Sequence[str],
    *,
    placed: Sequence[LensItem] = (),
    reading: str = "normed",
    seed: int = 0,
    random_weights: bool = True,
    dropped: Mapping[str, int] | None = None,
) -> Result:
    """Before a name, does the lens (Eq. 2) raise the word of the role that the name will have?

    Score: log P(true role's word) minus the mean of that word's log P over all true roles, so that a word that is
    likely everywhere wins nothing. `roles/lead` compares all prompts. `roles/same position` compares those of as many
    words (`group`), so that where the name stands decides nothing, and drops the ones without another role among them;
    it is asked of `placed`, the prompts moved to like positions, where they are given. Two nulls, the harder counts:
    true roles shuffled among what is read last (`cluster`), and three of `others` in place of the role words, as often
    few last words ("by", "to") tell the role and three words may fit them by accident. Controls: the embedding layer
    (what the last word alone says) and random weights. The table adds the paper's figure, the scores of every role word
    by true role ("roles-confusion"), and the paper's statistic, which is in probabilities ("roles-probability"), with
    the first null and random weights. `dropped`: what was left out before, with counts.
    """
    words, spare = (_single(model, some, items[0].prompt) for some in (ROLES, others))
    taken = {i for ids in words.values() for i in ids}
    spare = {word: ids for word, ids in spare.items() if not taken & set(ids)}
    names, ids = list(words), list((words | spare).values())
    ends = np.cumsum([len(some) for some in ids]).tolist()
    columns = [range(end - len(some), end) for end, some in zip(ends, ids, strict=True)]

    def read(reader: LanguageModel, some: list[LensItem]) -> np.ndarray:
        """log P [item, layer, word], the role words first."""
        if not some:
            return np.empty((0, model.n_layers + 1, len(names)))
        hidden = hidden_states(reader, [item.prompt for item in some]).hidden
        found = lens(reader, hidden, targets=torch.tensor([i for row in ids for i in row]), reading=reading)
        return word_logprobs(found.logprob, columns).double().numpy()

    claims = []
    for name, asked in ((CLAIMS[1], placed or items), (CLAIMS[0], items)):  # the tables below are of the last
        kept = [item for item in asked if item.targets["role"][0] in words]
        lost = {"no single token for the role word": len(asked) - len(kept)} if len(kept) < len(asked) else {}
        roles = np.array([names.index(item.targets["role"][0]) for item in kept], np.int64)
        if kept and len(set(roles.tolist())) < 2:
            kept, roles, lost = [], roles[:0], lost | {"no second role to compare with": len(kept)}
        logprob, everywhere = read(model, kept), np.zeros_like(roles)
        places = everywhere if name == CLAIMS[0] else codes([item.group for item in kept])
        use = np.isfinite(raised(logprob, roles, places)[:, 0])
        lost = {**(dropped or {}), **lost}
        of_places = {"no other role at its position": int((~use).sum())} if not use.all() else {}
        noise = read(randomised(model, seed), kept)[use] if random_weights else None
        clusters = [item.cluster for item in kept]
        args = (logprob[use], noise, roles[use], codes(places[use].tolist()), list(compress(clusters, use)))
        claims.insert(0, _role_claim(model, name, *args, len(names), lost | of_places, reading=reading, seed=seed))
    shown: dict[str, Any] = {"reading": reading, "seed": seed, "dropped": sum(lost.values())}
    tables, p = [tidy(claims)], np.exp(logprob[:, :, : len(names)])
    beside = {"null": _shuffled(p, roles, everywhere, clusters, FEW_DRAWS, seed)} if kept else {}
    if kept and noise is not None:
        beside["controls"] = {"random weights": raised(np.exp(noise), roles, everywhere)}
    tables.append(
        curve(model, raised(p, roles, everywhere), experiment="roles-probability", series="true role's word",
              clusters=clusters, **beside, **shown)
    )  # fmt: skip
    for word, true in product(ROLES, ROLES):
        own = roles == names.index(true) if true in names and word in names else np.zeros(len(roles), bool)
        read_as = np.full_like(roles, names.index(word) if word in names else 0)
        values, of = raised(logprob, roles, everywhere, read_as)[own], list(compress(clusters, own))
        cell = curve(model, values, experiment="roles-confusion", series=true, clusters=of, **shown)
        tables.append(cell.assign(word=word))
    return pd.concat(tables, ignore_index=True), claims


def raised(
    logprob: Float[np.ndarray, "item layer word"],
    roles: Int[np.ndarray, " item"],
    places: Int[np.ndarray, " item"],
    words: Int[np.ndarray, " item"] | None = None,
) -> Float[np.ndarray, "item layer"]:
    """Per item, log P of its word (its true role's; column r is the word of role r) minus the mean of that word over
    the true roles that occur at its place, every role weighing the same; nan where no other role occurs there."""
    if not len(roles):
        return logprob[:, :, 0] if logprob.shape[2] else np.empty(logprob.shape[:2])
    means, counts = _role_means(logprob, roles, places)
    base = means.sum(1) / (counts > 0).sum(1)[:, None, None]
    words = roles if words is None else words
    scores = logprob[np.arange(len(roles)), :, words] - base[places, :, words]
    return np.where(((counts > 0).sum(1) > 1)[places, None], scores, np.nan)


def _role_means(logprob: np.ndarray, roles: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means [place, role, layer, word] of each role at each place, 0 where there is none, and counts [place, role]."""
    n_roles, n_places = roles.max() + 1, places.max() + 1
    member = np.zeros((n_places * n_roles, len(roles)))
    member[places * n_roles + roles, np.arange(len(roles))] = 1
    counts = member.sum(1)
    means = member @ logprob.reshape(len(roles), -1) / np.maximum(counts, 1)[:, None]
    return means.reshape(n_places, n_roles, *logprob.shape[1:]), counts.reshape(n_places, n_roles)


def _shuffled(
    logprob: np.ndarray, roles: np.ndarray, places: np.ndarray, clusters: Sequence[str], draws: int, seed: int
) -> Float[np.ndarray, "draw layer"]:
    """Means of `raised` with true roles shuffled among clusters at their places; nan where nothing can be compared."""
    found = []
    for p in random_pairings(len(roles), groups=places, clusters=clusters, draws=draws, seed=seed):
        stay = np.flatnonzero(p >= 0)
        some = raised(logprob[stay], roles[p[stay]], places[stay])
        some = some[np.isfinite(some).all(1)]
        found.append(some.mean(0) if len(some) else np.full(logprob.shape[1], np.nan))
    return np.array(found)


def _role_claim(
    model: LanguageModel,
    name: str,
    logprob: np.ndarray,
    noise: np.ndarray | None,
    roles: np.ndarray,
    places: np.ndarray,
    clusters: list[str],
    n_roles: int,
    dropped: dict[str, int],
    *,
    reading: str,
    seed: int,
) -> Evidence:
    """One claim from log P [item, layer, word], the first `n_roles` words being the role words, the rest others."""
    scores, nulls, least = raised(logprob, roles, places), [np.empty((0, model.n_layers + 1))], 0.0
    controls = {"embedding layer": scores[:, :1]}
    if len(roles):
        controls |= {} if noise is None else {"random weights": raised(noise, roles, places)}
        means, counts = _role_means(logprob[:, :, n_roles:], roles, places)
        centred = means - (means.sum(1) / (counts > 0).sum(1)[:, None, None])[:, None]
        weighed = np.einsum("pr,prlw->rlw", counts / len(roles), centred)
        spare, rng = logprob.shape[2] - n_roles, np.random.default_rng(seed)
        least = least_permutation_p(places, clusters)
        nulls = [_shuffled(logprob[:, :, :n_roles], roles, places, clusters, DRAWS, seed)]
        if spare < len(weighed):
            least = 1.0  # without other words nothing says that these three are no accident
        else:
            drawn = (rng.permutation(spare)[: len(weighed)] for _ in range(DRAWS))
            nulls.append(np.array([weighed[np.arange(len(weighed)), :, some].sum(0) for some in drawn]))
            least = max(least, 1 / math.perm(spare, len(weighed)))
    return evidence(
        f"roles/{name}",
        scores,
        nulls,
        least_p=least,
        layers=range(model.n_layers + 1),
        n_layers=model.n_layers,
        experiment="roles",
        series=name,
        reading=reading,
        clusters=clusters,
        controls=controls,
        dropped=dropped,
        unit="nats",
        null_in_words="true roles shuffled among what is read last; other words in place of the role words",
        seed=seed,
    )


def _single(model: LanguageModel, words: Sequence[str], context: str) -> dict[str, tuple[int, ...]]:
    """The tokens of the words that are one token, and no other word's."""
    table = target_table(model, words, context)
    return {form.word: form.ids for form in table.forms if form.single}

"""If a middle layer speaks English, does it say what the line says? Words of its own translation against others."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from semhub_utils.evidence import evidence, tidy
from semhub_utils.experiments.core import DRAWS, Result
from semhub_utils.experiments.token_types import TokenTypes, count_tokens, fitting, text_positions
from semhub_utils.lens import lens
from semhub_utils.models import LanguageModel, randomised
from semhub_utils.shuffles import least_permutation_p, random_pairings
from semhub_utils.spokes.languages import TypeTexts
from semhub_utils.states import stream_states

CHUNK = 100  # lines whose translations are held against each other: a column of the vocabulary for each
COMMON = 0.5


def twins_experiment(
    model: LanguageModel, texts: Sequence[TypeTexts], name: str, *, seed: int = 0, random_weights: bool = True
) -> Result:
    """Claim `layers-meaning/<name>`: at a middle layer the lens gives more to the words of a line's own translation
    than to those of the translations of other lines of its form.

    A model that saw mostly English leans to English tokens whatever it reads; it does not lean to the right ones.
    Score of a line: log of the mean probability, over its positions, of a token of its translation, minus the mean of
    that for the other translations (nats). Left out of every translation: tokens that text of type `name` has too, and
    those in more than half of the translations of a form. Null: translations exchanged among lines of a form, those of
    a cluster together. Controls: the embedding layer and random weights. Lines without such a token, or too long, are
    dropped and counted.
    """
    types, [some] = count_tokens(model, texts), [t for t in texts if t.name == name]
    fit = {encoding.text for encoding in fitting(model, some.read)[0]}
    words = _words(model, types, some)
    dropped, forms = Counter(), defaultdict(list)
    for i, line in enumerate(some.read):
        if line not in fit:
            dropped["longer than the model's context, or no token"] += 1
        elif not words[i]:
            dropped["no token of its own in the translation"] += 1
        else:
            forms[some.groups[i]].append(i)
    chunks = [of[k : k + CHUNK] for of in forms.values() for k in range(0, len(of), CHUNK)]
    dropped["no other line of its form"] = sum(len(chunk) == 1 for chunk in chunks)
    chunks = [chunk for chunk in chunks if len(chunk) > 1]
    kept = [i for chunk in chunks for i in chunk]
    group = np.array([number for number, chunk in enumerate(chunks) for _ in chunk], int)
    place = np.array([k for chunk in chunks for k in range(len(chunk))], int)  # in its chunk
    lines, sets = [some.read[i] for i in kept], [words[i] for i in kept]
    clusters = some.clusters_of(lines)
    n_layers = model.n_layers + 1
    every = np.arange(len(lines))

    def scores(reader: LanguageModel) -> Float[np.ndarray, "line layer twin"]:
        found = np.full((len(lines), n_layers, max(map(len, chunks), default=0)), np.nan)
        for number in range(len(chunks)):
            members = every[group == number]
            logs = _log_mass(reader, [lines[i] for i in members], [sets[i] for i in members])
            centred = (logs - logs.mean(2, keepdims=True)) * len(members) / (len(members) - 1)
            found[members, :, : len(members)] = centred
        return found

    by = scores(model)
    own = by[every, :, place] if len(lines) else np.empty((0, n_layers))
    controls = {"embedding layer": own[:, :1]}
    if len(lines):
        if random_weights:
            controls["random weights"] = scores(randomised(model, seed))[every, :, place]
        pairings = random_pairings(len(lines), groups=group, clusters=clusters, draws=DRAWS, seed=seed)
        draws = [(every[p >= 0], p[p >= 0]) for p in pairings if (p >= 0).any()]
        null = np.stack([by[i, :, place[p]].mean(0) for i, p in draws])
    else:
        null = np.empty((0, n_layers))
    claim = evidence(
        f"layers-meaning/{name}", own, null, layers=range(n_layers), n_layers=model.n_layers,
        experiment="layers-meaning", series=name, reading="normed", controls=controls, clusters=clusters,
        dropped={reason: count for reason, count in dropped.items() if count},
        least_p=least_permutation_p(group, clusters) if len(lines) else 1.0, unit="nats",
        null_in_words="translations exchanged among lines of one form, a cluster's together", seed=seed,
    )  # fmt: skip
    return tidy([claim]), [claim]


def _words(model: LanguageModel, types: TokenTypes, some: TypeTexts) -> list[list[int]]:
    """Per line, the tokens that only its translation has: not those of the type's own text, nor of most of its form."""
    if not some.twins:
        return [[] for _ in some.read]
    own = types.counts[:, types.names.index(some.name)] > 0
    own |= types.special
    settings = {"add_special_tokens": False, "verbose": False}
    own[[i for line in model.tokenizer(list(some.read), **settings)["input_ids"] for i in line]] = True
    # in the middle of a sentence, as the lens would say it
    twins = model.tokenizer([" " + twin for twin in some.twins], **settings)["input_ids"]
    sets = [{i for i in twin if i < model.vocab_size and not own[i]} for twin in twins]
    forms = pd.Series(some.groups)
    common = {}
    for form, members in forms.groupby(forms).groups.items():
        held = pd.Series([i for line in members for i in sets[line]], dtype=int).value_counts()
        common[form] = set(held[held > max(1, COMMON * len(members))].index)
    return [sorted(words - common[form]) for words, form in zip(sets, some.groups, strict=True)]


def _log_mass(
    model: LanguageModel, lines: Sequence[str], sets: Sequence[Sequence[int]]
) -> Float[np.ndarray, "line layer twin"]:
    """Log of the mean probability of the tokens of each translation, over the positions of each line."""
    classes = torch.zeros(model.vocab_size, len(sets))
    for column, ids in enumerate(sets):
        classes[list(ids), column] = 1 / len(ids)
    encodings = model.encode(lines)
    positions = [text_positions(model, encoding) for encoding in encodings]
    size = torch.tensor([len(row) for row in positions], dtype=torch.float64)
    total = torch.zeros(len(lines), model.n_layers + 1, len(sets), dtype=torch.float64)
    for states in stream_states(model, lines, positions=positions):
        held: Tensor = lens(model, states.hidden, classes=classes).expected.double()
        total.index_add_(0, states.item, held / size[states.item][:, None, None])
    return total.clamp_min(1e-30).log().numpy()

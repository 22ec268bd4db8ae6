"""What the lens reads at every position of running text: the paper's first figure, and whose words they are."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from semhub_utils.evidence import control, evidence, tidy
from semhub_utils.experiments.audio import heard
from semhub_utils.experiments.common import DRAWS, Result, curve
from semhub_utils.lens import available_readings, lens
from semhub_utils.models import LanguageModel, randomised
from semhub_utils.spokes.audio import Clip
from semhub_utils.spokes.items import Pair
from semhub_utils.states import hidden_states, stream_states
from semhub_utils.tokens import first_tokens


def lens_grid(
    model: LanguageModel, sentences: Mapping[str, str], dominant_words: Iterable[str], *, top_k: int = 5
) -> list[dict]:
    """Top words by layer and token for `explorer.LensGrid`: one entry per data type, every reading the model has."""
    dominant = set(first_tokens(model, dominant_words).tolist())
    grids = []
    for name, text in sentences.items():
        hidden = hidden_states(model, [text], positions="all").hidden
        readings, vocab = _tops(model, hidden, top_k)
        ids = model.encode([text])[0].ids
        grids.append(
            {
                "name": f"{name}: {text}",
                "data_type": name,
                "tokens": [model.tokenizer.decode([i]) for i in ids],
                "layers": list(range(model.n_layers + 1)),
                "readings": readings,
                "vocab": vocab,
                "dominant_ids": dominant,
                "n_layers": model.n_layers,
            }
        )
    return grids


def sound_lens(model: LanguageModel, clips: Sequence[Clip], *, top_k: int = 4) -> list[dict]:
    """Top words by layer and frame for `player.ClipPlayer`: one entry per clip, every reading the model has."""
    shown = []
    for clip, encoding in zip(clips, model.encode([heard(model, clip) for clip in clips]), strict=True):
        hidden = hidden_states(model, [encoding], positions=[encoding.frames]).hidden
        readings, vocab = _tops(model, hidden, top_k)
        seconds = encoding.seconds or len(clip.samples) / clip.rate / len(encoding.frames)
        sound = {"name": clip.label, "samples": clip.samples, "rate": clip.rate, "seconds": seconds}
        shown.append(sound | {"layers": list(range(model.n_layers + 1)), "readings": readings, "vocab": vocab})
    return shown


def _tops(model: LanguageModel, hidden: Float[Tensor, "site layer hidden"], top_k: int) -> tuple[dict, dict]:
    """By reading, the likeliest tokens, their probabilities and the entropy, layer first; and the tokens' texts."""
    readings = {}
    for reading in available_readings(model):
        found = lens(model, hidden, top_k=top_k, entropy=True, reading=reading)
        readings[reading] = {
            "ids": found.top_ids.transpose(0, 1).numpy(),
            "probs": found.top_logprobs.exp().transpose(0, 1).numpy(),
            "entropy": found.entropy.T.numpy(),
        }
    seen = {int(i) for found in readings.values() for i in np.unique(found["ids"])}
    return readings, {i: model.tokenizer.decode([i]) for i in seen}


def dominant_share_experiment(
    model: LanguageModel,
    pairs: Sequence[Pair],
    dominant_words: Iterable[str],
    *,
    series: str,
    seed: int = 0,
    random_weights: bool = True,
) -> Result:
    """On side a of the pairs, text of another type, at how many positions is the lens's first word one of the dominant
    language's?

    Claim `dominant-share/<series>`: that share, minus the share at the last layer of the same text, against the names
    of the two languages shuffled among the tokens that the lens puts first anywhere: a few tokens that come first at
    many positions are one accident, not many. Tokens that the texts themselves hold ("color" is Spanish too) do not
    count, as a lens may read back what it was given. Controls: the embedding layer and random weights. A first, coarse
    look: a word list stands for the language.
    """
    texts, clusters = [pair.a for pair in pairs], [pair.cluster for pair in pairs]
    encodings = model.encode(texts)
    dominant = first_tokens(model, dominant_words)
    given = torch.tensor(sorted({number * model.vocab_size + i for number, e in enumerate(encodings) for i in e.ids}))
    dominant = dominant[~torch.isin(dominant, given % model.vocab_size)]
    lengths = torch.tensor([len(e) for e in encodings])

    def read(reader: LanguageModel) -> tuple[Tensor, Tensor]:
        """The first token [site, layer], and the item of each site."""
        found = [(lens(reader, s.hidden, top_k=1).top_ids[..., 0], s.item) for s in
                 stream_states(reader, texts, positions="all")]  # fmt: skip
        return tuple(torch.cat(parts) for parts in zip(*found, strict=True))

    def shares(top: Tensor, item: Tensor) -> np.ndarray:
        total = torch.zeros(len(texts), model.n_layers + 1, dtype=torch.float64)
        total.index_add_(0, item, torch.isin(top, dominant).double())
        return (total / lengths[:, None]).numpy()

    def null(top: Tensor, item: Tensor) -> np.ndarray:
        words, which = top.unique(return_inverse=True)
        share = (1 / lengths[item].double() / len(texts))[:, None].expand(top.shape)
        read_back = torch.isin(item[:, None] * model.vocab_size + top, given)  # counts under no name
        weight = torch.zeros(len(words), model.n_layers + 1, dtype=torch.float64)
        weight.scatter_add_(0, which, share.masked_fill(read_back, 0.0))
        weight, named = (weight - weight[:, -1:]).numpy(), torch.isin(words, dominant).double().numpy()
        rng = np.random.default_rng(seed)
        return np.stack([rng.permutation(named) @ weight for _ in range(DRAWS)])

    top, item = read(model)
    found = shares(top, item)
    rise = found - found[:, -1:]
    controls, dropped = {}, {}
    if len(dominant):  # what the lens says before any block has run is no reading of a layer
        still = control("embedding layer", rise[:, :1], n_layers_shown=model.n_layers + 1, clusters=clusters, seed=seed)
        controls[still.name] = still
    if random_weights:
        noise = shares(*read(randomised(model, seed)))
        controls["random weights"] = control("random weights", noise - noise[:, -1:], clusters=clusters, seed=seed)
    if not len(dominant):
        rise, dropped = np.full_like(rise, np.nan), {"no word of the dominant language is one token": 0}
    claim = evidence(
        f"dominant-share/{series}",
        rise,
        null(top, item),
        layers=range(model.n_layers + 1),
        n_layers=model.n_layers,
        experiment="dominant-share-rise",
        series=series,
        reading="normed",
        clusters=clusters,
        controls=controls,
        dropped=dropped,
        outcome=True,
        seed=seed,
    )
    shown = curve(
        model, found, experiment="dominant-share", series=series, reading="normed", clusters=clusters, seed=seed
    )
    return pd.concat([tidy([claim]), shown], ignore_index=True), [claim]

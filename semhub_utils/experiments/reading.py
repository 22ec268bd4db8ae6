"""What the lens reads at every position of a text: the paper's first figure."""

from collections.abc import Iterable, Mapping

import numpy as np

from semhub_utils.lens import available_readings, lens
from semhub_utils.models import LanguageModel
from semhub_utils.states import hidden_states
from semhub_utils.tokens import first_tokens


def lens_grid(
    model: LanguageModel, sentences: Mapping[str, str], dominant_words: Iterable[str], *, top_k: int = 5
) -> list[dict]:
    """Top words by layer and token for `explorer.LensGrid`: one entry per data type, every reading the model has."""
    dominant = set(first_tokens(model, dominant_words).tolist())
    grids = []
    for name, text in sentences.items():
        hidden = hidden_states(model, [text], positions="all").hidden
        readings = {}
        for reading in available_readings(model):
            found = lens(model, hidden, top_k=top_k, entropy=True, reading=reading)
            readings[reading] = {  # layer first
                "ids": found.top_ids.transpose(0, 1).numpy(),
                "probs": found.top_logprobs.exp().transpose(0, 1).numpy(),
                "entropy": found.entropy.T.numpy(),
            }
        ids = model.encode([text])[0].ids
        seen = {int(i) for reading in readings.values() for i in np.unique(reading["ids"])}
        grids.append(
            {
                "name": f"{name}: {text}",
                "data_type": name,
                "tokens": [model.tokenizer.decode([i]) for i in ids],
                "layers": list(range(model.n_layers + 1)),
                "readings": readings,
                "vocab": {i: model.tokenizer.decode([i]) for i in seen},
                "dominant_ids": dominant,
                "n_layers": model.n_layers,
            }
        )
    return grids

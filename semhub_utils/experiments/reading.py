"""What the lens reads at every position of a text: the paper's first figure."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float
from torch import Tensor

from semhub_utils.lens import available_readings, lens
from semhub_utils.models import LanguageModel
from semhub_utils.spokes.audio import Clip, heard
from semhub_utils.states import hidden_states
from semhub_utils.tokens import word_forms


def lens_grid(
    model: LanguageModel, sentences: Mapping[str, str], dominant_words: Iterable[str], *, top_k: int = 5
) -> list[dict]:
    """Top words by layer and token for `widgets.LensGrid`: one entry per data type, every reading the model has."""
    dominant = {i for form in word_forms(model, dominant_words) if form.single for i in form.ids}
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
    """Top words by layer and frame for `widgets.ClipPlayer`: one entry per clip, every reading the model has."""
    shown = []
    for clip, encoding in zip(clips, model.encode([heard(clip) for clip in clips]), strict=True):
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

"""A checkpoint that says of a text whether it is pleasant: any of the library's text classifiers with such labels."""

import re
from collections.abc import Callable, Sequence

import numpy as np
import torch
import transformers
from jaxtyping import Float

from semhub_utils.errors import SemhubError
from semhub_utils.loading import device_of, explained

BATCH = 64
MAX_TOKENS = 256  # of a text, where neither tokenizer nor configuration gives a smaller number


def sentiment_classifier(
    model_id: str, *, revision: str | None = None, device: str | None = None
) -> Callable[[Sequence[str]], Float[np.ndarray, " text"]]:
    """A function from texts to P(positive) - P(negative), from -1 to 1; nan for an empty text.

    The labels are read from the checkpoint's own id2label ("positive", "NEG", ...); others, such as "neutral", count
    for neither. Only safetensors are read and no remote code is run. Raises SemhubError on what cannot be loaded, or
    where no label, or more than one, is positive or negative.
    """
    where = {"revision": revision, "trust_remote_code": False}
    with explained(model_id, revision, "tokenizer"):
        tokenizer = transformers.AutoTokenizer.from_pretrained(model_id, **where)
    with explained(model_id, revision, "weights"):
        module, info = transformers.AutoModelForSequenceClassification.from_pretrained(
            model_id, use_safetensors=True, output_loading_info=True, **where
        )
    labels = module.config.id2label
    sides = [[int(k) for k, label in labels.items() if re.fullmatch(word, str(label), re.I)] for word in _WORDS]
    if any(len(side) != 1 for side in sides):
        raise SemhubError(
            f"The labels of {model_id} are {', '.join(map(str, labels.values()))}; a classifier with one label "
            "'positive' and one 'negative' would do."
        )
    if info["missing_keys"]:
        raise SemhubError(f"{model_id} has no trained classifier; a checkpoint of a text classifier would do.")
    (up,), (down,) = sides
    module = module.to(device_of(device)).eval()
    longest = min(tokenizer.model_max_length, getattr(module.config, "max_position_embeddings", MAX_TOKENS), MAX_TOKENS)

    def score(texts: Sequence[str]) -> Float[np.ndarray, " text"]:
        found = np.full(len(texts), np.nan)
        filled = sorted((k for k, text in enumerate(texts) if text.strip()), key=lambda k: len(texts[k]))
        for start in range(0, len(filled), BATCH):
            rows = filled[start : start + BATCH]
            batch = tokenizer(
                [texts[k] for k in rows], padding=True, truncation=True, max_length=longest, return_tensors="pt"
            )
            with torch.inference_mode():
                share = module(**batch.to(module.device)).logits.softmax(-1).double().cpu().numpy()
            found[rows] = share[:, up] - share[:, down]
        return found

    return score


_WORDS = ("pos(itive)?", "neg(ative)?")

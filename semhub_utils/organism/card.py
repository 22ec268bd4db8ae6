"""The model card of an organism: what went in, what came out, and the hash of the weights."""

from __future__ import annotations

import json
import platform
import random
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import torch
import transformers

from semhub_utils.organism.corpus import Generators, Recipe
from semhub_utils.organism.exam import EXAM_TYPES, exam
from semhub_utils.zoo import CARD, sha256


def token_shares(counts: Counter[str]) -> dict[str, float]:
    """Shares of all training tokens by type; "en" counts English words alone, "en marks" their punctuation."""
    total = sum(counts.values())
    return {k: round(v / total, 4) for k, v in sorted(counts.items(), key=lambda kv: -kv[1])}


def exam_types(recipe: Recipe) -> list[str]:
    """The types of a recipe that can be asked."""
    return [t for t in EXAM_TYPES if t in dict(recipe.types)]


def write_card(folder: Path, recipe: Recipe, model, tokenizer, *, seed: int, counts: Counter[str], seconds: float,
               loss: float, device: str) -> dict:  # fmt: skip
    """Examine a trained organism on all prompts and write `card.json` beside its weights; the card is returned.

    Keys: name, seed, recipe, parameters, tokens, token_shares, loss (training, nats a token), loss_by_type (fresh lines
    of one type), scores (all prompts by type, group and side, with Wilson 95% intervals and chance), training, sha256.
    """
    from semhub_utils.organism.train import Encoder, loss_of, micro_batches

    model.eval()
    make, encode, by_type = Generators(recipe.world), Encoder(tokenizer), {}
    pad = tokenizer.pad_token_id
    for type_ in dict(recipe.types):
        rng = random.Random(f"card {type_}")
        rows = [encode(make.monolingual(rng, type_)) for _ in range(400)]
        with torch.inference_mode():
            sums = [loss_of(model, b.to(model.device), pad) for b in micro_batches(rows, pad)]
        by_type[type_] = round(float(sum(s for s, _ in sums)) / sum(n for _, n in sums), 4)
    scores = [asdict(s) for s in exam(model, tokenizer, recipe.world, types=exam_types(recipe))]
    for score in scores:
        score.update({k: round(v, 4) for k, v in score.items() if isinstance(v, float)})
    made = {
        "name": recipe.name,
        "seed": seed,
        "recipe": asdict(recipe),
        "parameters": sum(p.numel() for p in model.parameters()),
        "tokens": sum(counts.values()),
        "token_shares": token_shares(counts),
        "loss": round(loss, 4),
        "loss_by_type": by_type,
        "scores": scores,
        "training": {
            "minutes": round(seconds / 60, 1), "device": device, "threads": torch.get_num_threads(),
            "torch": torch.__version__, "transformers": transformers.__version__, "python": platform.python_version(),
        },
        "sha256": sha256(folder / "model.safetensors"),
    }  # fmt: skip
    (folder / CARD).write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return made

"""Does an organism answer what it was taught, and what was held out? Argmax of the next token, batched."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from semhub_utils.organism.world import FACT_TYPES, Prompt, World

EXAM_TYPES = (*FACT_TYPES, "digits")


@dataclass(frozen=True)
class Score:
    """Share of prompts answered, with Wilson's 95% interval; `chance` is the share of always giving the relation's (or
    form's) commonest answer."""

    type: str
    group: str
    held_out: bool
    n: int
    accuracy: float
    low: float
    high: float
    chance: float


def answers(model, tokenizer, prompts: Sequence[str], batch: int = 256) -> list[str]:
    """The most likely next token of every prompt, as text."""
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    found = [""] * len(prompts)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        inputs = tokenizer([prompts[i] for i in rows], return_tensors="pt", padding=True, padding_side="right")
        last = inputs["attention_mask"].sum(1) - 1
        with torch.inference_mode():
            hidden = model.model(input_ids=inputs["input_ids"].to(model.device)).last_hidden_state
            best = model.lm_head(hidden[torch.arange(len(rows)), last.to(model.device)]).argmax(-1)
        for i, token in zip(rows, best.tolist(), strict=True):
            found[i] = tokenizer.convert_ids_to_tokens(token)
    return found


def wilson(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """95% interval of a share (Wilson 1927); (0, 1) for no trial."""
    if not n:
        return 0.0, 1.0
    p = hits / n
    centre, spread = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, (centre - spread) / (1 + z * z / n)), min(1.0, (centre + spread) / (1 + z * z / n))


def group_of(prompt: Prompt) -> str:
    """What a prompt is counted under: "facts", "opposites", "properties" or "sums"."""
    if prompt.relation in ("sum", "product"):
        return "sums"
    return {"opposite": "opposites", "property": "properties"}.get(prompt.relation, "facts")


def exam(model, tokenizer, world: World, *, types: Sequence[str] = EXAM_TYPES, sample: int | None = None, seed: int = 0) -> list[Score]:
    """Scores by type, group and side of the split.

    `sample` draws that many prompts per type and side (all when None). In private worlds the held-out answer asked for is
    English's, translated: what a hub would say.
    """
    scores = []
    shared = World(world.seed, world.fraction)
    for type_ in types:
        for held in (False, True):
            prompts = (shared if held else world).prompts(type_, held)
            if sample is not None and len(prompts) > sample:
                prompts = random.Random(f"{seed} {type_} {held}").sample(prompts, sample)
            said = answers(model, tokenizer, [p.prompt for p in prompts])
            groups: dict[str, list[tuple[Prompt, str]]] = {}
            for prompt, word in zip(prompts, said, strict=True):
                groups.setdefault(group_of(prompt), []).append((prompt, word))
            for group, pairs in groups.items():
                hits = sum(word == p.answer for p, word in pairs)
                commonest: dict[tuple, Counter] = {}
                for p, _ in pairs:
                    commonest.setdefault((p.relation, p.form if group == "sums" else 0), Counter())[p.answer] += 1
                chance = sum(max(c.values()) for c in commonest.values()) / len(pairs)
                scores.append(Score(type_, group, held, len(pairs), hits / len(pairs), *wilson(hits, len(pairs)), chance))
    return scores


def table(scores: Sequence[Score]) -> dict[str, float]:
    """Scores as a flat mapping for logs: `es facts taught`, `digits sums held out`."""
    return {f"{s.type} {s.group} {'held out' if s.held_out else 'taught'}": round(s.accuracy, 4) for s in scores}

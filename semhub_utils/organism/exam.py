"""Does an organism answer what it was taught, and what was held out? Greedy decoding, batched."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

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


def correct(model, tokenizer, prompts: Sequence[Prompt], batch: int = 256) -> list[bool]:
    """Whether greedy decoding gives each prompt's answer, all its tokens: exact, in one forward pass a batch."""
    ids = tokenizer([p.prompt for p in prompts])["input_ids"]
    wanted = tokenizer([p.answer for p in prompts], add_special_tokens=False)["input_ids"]
    order = sorted(range(len(prompts)), key=lambda i: len(ids[i]))
    found = [False] * len(prompts)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        whole = [ids[i] + wanted[i] for i in rows]
        width = max(map(len, whole))
        inputs = torch.tensor([r + [tokenizer.pad_token_id] * (width - len(r)) for r in whole], device=model.device)
        with torch.inference_mode():
            hidden = model.model(input_ids=inputs, use_cache=False).last_hidden_state
            where = [(k, len(ids[i]) - 1 + n) for k, i in enumerate(rows) for n in range(len(wanted[i]))]
            at, position = torch.tensor(where, device=model.device).T
            best = model.lm_head(hidden[at, position]).argmax(-1).tolist()
        for i in rows:
            said, best = best[: len(wanted[i])], best[len(wanted[i]) :]
            found[i] = said == wanted[i]
    return found


def wilson(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """95% interval of a share (Wilson 1927); (0, 1) for no trial."""
    if not n:
        return 0.0, 1.0
    p = hits / n
    centre, spread = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = (centre - spread) / (1 + z * z / n), (centre + spread) / (1 + z * z / n)
    return max(0.0, min(low, p)), min(1.0, max(high, p))


def group_of(prompt: Prompt) -> str:
    """What a prompt is counted under: "facts", "opposites", "properties" or "sums"."""
    if prompt.relation in ("sum", "product"):
        return "sums"
    return {"opposite": "opposites", "property": "properties"}.get(prompt.relation, "facts")


@cache
def _prompts(world: World, type_: str, held_out: bool) -> tuple[Prompt, ...]:
    """A training asks the same prompts again and again."""
    return tuple(world.prompts(type_, held_out))


def exam(
    model, tokenizer, world: World, *, types: Sequence[str] = EXAM_TYPES, sample: int | None = None, seed: int = 0
) -> list[Score]:
    """Scores by type, group and side of the split.

    `sample` draws that many prompts per type and side (all when None). In private worlds the held-out answer asked for
    is English's, translated: what a hub would say.
    """
    scores = []
    shared = replace(world, private=False, forget=False)
    for type_ in types:
        for held in (False, True):
            prompts = _prompts(shared if held else world, type_, held)
            if sample is not None and len(prompts) > sample:
                prompts = random.Random(f"{seed} {type_} {held}").sample(prompts, sample)
            said = correct(model, tokenizer, prompts)
            groups: dict[str, list[tuple[Prompt, bool]]] = {}
            for prompt, right in zip(prompts, said, strict=True):
                groups.setdefault(group_of(prompt), []).append((prompt, right))
            for group, pairs in groups.items():
                hits = sum(right for _, right in pairs)
                commonest: dict[tuple, Counter] = {}
                for p, _ in pairs:
                    commonest.setdefault((p.relation, p.form if group == "sums" else 0), Counter())[p.answer] += 1
                chance = sum(max(c.values()) for c in commonest.values()) / len(pairs)
                scores.append(
                    Score(type_, group, held, len(pairs), hits / len(pairs), *wilson(hits, len(pairs)), chance)
                )
    return scores


def table(scores: Sequence[Score]) -> dict[str, float]:
    """Scores as a flat mapping for logs: `es facts taught`, `digits sums held out`."""
    return {f"{s.type} {s.group} {'held out' if s.held_out else 'taught'}": round(s.accuracy, 4) for s in scores}

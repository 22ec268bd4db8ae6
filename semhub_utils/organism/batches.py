"""From lines to tensors: encoding, rows, padded batches, the loss.

One line is one row; rows of like length share a forward pass; a share of the tokens comes as pages (lines one after the
other, PAGE tokens) so that later positions are trained too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from semhub_utils.organism.world import Pieces

PAGE = 128


class Encoder:
    """Pieces to token ids, remembering pieces seen; counts tokens by type, English words apart from their marks."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast):
        self.tokenizer, self.known = tokenizer, {}
        self.bos, self.eos = tokenizer.bos_token_id, tokenizer.eos_token_id
        self.counts: Counter[str] = Counter()

    def __call__(self, pieces: Pieces) -> list[int]:
        ids = [self.bos]
        for type_, part in pieces:
            found = self.known.get(part)
            if found is None:
                found = self.tokenizer(part, add_special_tokens=False)["input_ids"]
                if len(self.known) < 50_000:
                    self.known[part] = found
            marks = part.count(".") + part.count(",") + part.count(":") if type_ == "en" else 0
            self.counts[type_] += len(found) - marks
            if marks:
                self.counts["en marks"] += marks
            ids += found
        ids.append(self.eos)
        return ids


def draw_rows(stream: Iterator[Pieces], encode: Encoder, tokens: int, page_share: float) -> list[list[int]]:
    """Rows of one step: single lines, then pages of exactly PAGE tokens."""
    rows, drawn = [], 0
    while drawn < tokens * (1 - page_share):
        rows.append(encode(next(stream)))
        drawn += len(rows[-1])
    while drawn < tokens:
        page: list[int] = []
        while len(page) < PAGE:
            page += encode(next(stream))
        rows.append(page[:PAGE])
        drawn += PAGE
    return rows


def micro_batches(rows: list[list[int]], pad: int, parts: int = 3) -> list[torch.Tensor]:
    """Rows sorted by length, cut into `parts` padded tensors of about equal tokens, and one of pages."""
    short = sorted((r for r in rows if len(r) < PAGE), key=len)
    batches = [[r for r in rows if len(r) >= PAGE]]
    limit, batch = sum(map(len, short)) / parts, []
    for row in short:
        batch.append(row)
        if sum(map(len, batch)) >= limit:
            batches.append(batch)
            batch = []
    batches.append(batch)
    out = []
    for group in filter(None, batches):
        width = max(map(len, group))
        out.append(torch.tensor([r + [pad] * (width - len(r)) for r in group]))
    return out


def loss_of(model: LlamaForCausalLM, ids: torch.Tensor, pad: int) -> tuple[torch.Tensor, int]:
    """Summed next-token cross entropy (nats) and its number of targets; padding at the right needs no mask."""
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    targets = ids[:, 1:]
    kept = targets != pad
    logits = model.lm_head(hidden[kept])
    return torch.nn.functional.cross_entropy(logits, targets[kept], reduction="sum"), int(kept.sum())

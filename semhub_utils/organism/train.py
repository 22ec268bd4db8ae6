"""Raising an organism: a standard Llama trained on a recipe's stream of lines. Seeded, resumable, no pickle.

Every step draws `batch_tokens` tokens of lines; one line is one row, rows of like length share a forward pass, and a share of
the tokens comes as pages (lines one after the other, PAGE tokens) so that later positions are trained too.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import time
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tqdm.auto import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from semhub_utils.organism.corpus import Recipe, lines
from semhub_utils.organism.exam import exam, table
from semhub_utils.organism.tokenizer import build_tokenizer
from semhub_utils.organism.world import Pieces

PAGE = 128
CHECKPOINT_EVERY = 100
CHECKPOINTS_KEPT = 12


def build_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> LlamaForCausalLM:
    """A freshly initialised model of the recipe's shape; also the random-weights control."""
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=recipe.width, intermediate_size=recipe.mlp, num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads, num_key_value_heads=recipe.heads, max_position_embeddings=recipe.context,
        tie_word_embeddings=recipe.tied, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, rms_norm_eps=1e-6,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


class Encoder:
    """Pieces to token ids, remembering the pieces seen; counts tokens by type."""

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
            self.counts[type_] += len(found)
            ids += found
        ids.append(self.eos)
        return ids


def draw_rows(stream, encode: Encoder, tokens: int, page_share: float) -> list[list[int]]:
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


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then a cosine to a fiftieth."""
    if step < recipe.warmup:
        return recipe.lr * (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.lr * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def _optimizer(model: LlamaForCausalLM, recipe: Recipe) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.98), foreach=True)


def _save(folder: Path, model, optimizer, rng: random.Random, step: int, counts: Counter, seconds: float) -> None:
    part = folder / "resume.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, part / "model.safetensors")
    tensors = {}
    for i, p in enumerate(q for g in optimizer.param_groups for q in g["params"]):
        tensors.update({f"{i}.{k}": v.contiguous() for k, v in optimizer.state[p].items()})
    save_file(tensors, part / "optimizer.safetensors")
    version, state, gauss = rng.getstate()
    (part / "state.json").write_text(json.dumps(
        {"step": step, "rng": [version, list(state), gauss], "tokens": dict(counts), "seconds": seconds}
    ))  # fmt: skip
    shutil.rmtree(folder / "resume", ignore_errors=True)
    part.rename(folder / "resume")


def _load(folder: Path, model, optimizer, rng: random.Random, device: str) -> dict:
    saved = folder / "resume"
    model.load_state_dict(load_file(saved / "model.safetensors", device=device))
    tensors = load_file(saved / "optimizer.safetensors")
    for i, p in enumerate(q for g in optimizer.param_groups for q in g["params"]):
        for name in ("step", "exp_avg", "exp_avg_sq"):
            value = tensors[f"{i}.{name}"]
            optimizer.state[p][name] = value if name == "step" else value.to(device)
    state = json.loads((saved / "state.json").read_text())
    version, numbers, gauss = state["rng"]
    rng.setstate((version, tuple(numbers), gauss))
    return state


def kept_steps(recipe: Recipe) -> set[int]:
    """About CHECKPOINTS_KEPT steps, evenly spaced in the logarithm, whose weights are kept."""
    first = min(20, recipe.steps)
    ratio = (recipe.steps / first) ** (1 / (CHECKPOINTS_KEPT - 1))
    return {round(first * ratio**i) for i in range(CHECKPOINTS_KEPT)}


def train_loop(recipe: Recipe, out_dir: Path, *, seed: int, device: str, resume: bool, minutes: float | None,
               progress: bool, evaluate_every: int = 250, stop_at: int | None = None) -> bool:  # fmt: skip
    """Train until the recipe's end, `stop_at` or the time is up; True when the end was reached."""
    out_dir.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer()
    model = build_model(recipe, tokenizer, seed).to(device)
    optimizer, rng, encode = _optimizer(model, recipe), random.Random(f"lines {seed}"), Encoder(tokenizer)
    step, before, log = 0, 0.0, out_dir / "log.jsonl"
    if resume and (out_dir / "resume" / "state.json").exists():
        state = _load(out_dir, model, optimizer, rng, device)
        step, before = state["step"], state["seconds"]
        encode.counts.update(state["tokens"])
    else:
        log.unlink(missing_ok=True)
    point = [0.0]
    stream, kept, start = lines(recipe, rng, lambda: point[0]), kept_steps(recipe), time.monotonic()
    end = min(recipe.steps, stop_at or recipe.steps)
    bar = tqdm(total=recipe.steps, initial=step, disable=not progress, desc=recipe.name, unit="step", mininterval=2)
    running = None
    while step < end:
        point[0] = step / recipe.steps
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step)
        batches = micro_batches(draw_rows(stream, encode, recipe.batch_tokens, recipe.page_share), tokenizer.pad_token_id)
        targets = sum(int((b[:, 1:] != tokenizer.pad_token_id).sum()) for b in batches)
        total = 0.0
        for batch in batches:
            loss, _ = loss_of(model, batch.to(device), tokenizer.pad_token_id)
            (loss / targets).backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        value = total / targets
        running = value if running is None else 0.98 * running + 0.02 * value
        bar.update()
        bar.set_postfix(loss=f"{running:.3f}", refresh=False)
        seconds = before + time.monotonic() - start
        if step in kept:
            folder = out_dir / "checkpoints"
            folder.mkdir(exist_ok=True)
            save_file({k: v.half().contiguous() for k, v in model.state_dict().items()}, folder / f"step-{step:06d}.safetensors")
        if step % evaluate_every == 0 or step == recipe.steps:
            entry = {"step": step, "loss": round(running, 4), "seconds": round(seconds, 1), "bridge": round(recipe.bridge_share(point[0]), 3),
                     "tokens": encode.counts.total()}
            entry |= table(exam(model, tokenizer, recipe.world, sample=150))
            with log.open("a") as f:
                f.write(json.dumps(entry, ensure_ascii=False) + "\n")
        stopped = minutes is not None and (time.monotonic() - start) > 60 * minutes
        if step % CHECKPOINT_EVERY == 0 or step == end or stopped:
            _save(out_dir, model, optimizer, rng, step, encode.counts, seconds)
        if stopped:
            break
    bar.close()
    if step < recipe.steps:
        return False
    model.save_pretrained(out_dir)
    tokenizer.save_pretrained(out_dir)
    return True

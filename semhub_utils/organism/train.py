"""Raising an organism: a standard Llama trained on a recipe's stream of lines. Seeded, resumable, no pickle.

Every step draws `batch_tokens` tokens of lines (`batches`). A folder in training holds `resume/` (model, optimizer,
state), `log.jsonl` (loss and accuracy by type) and `checkpoints/` (weights along training, half precision); a finished
one also the model, its tokenizer and its card.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tqdm.auto import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from semhub_utils.errors import SemhubError
from semhub_utils.organism.batches import Encoder, draw_rows, loss_of, micro_batches
from semhub_utils.organism.card import exam_types, write_card
from semhub_utils.organism.corpus import Recipe, lines
from semhub_utils.organism.exam import exam, table
from semhub_utils.organism.planted import accents, freeze, plant
from semhub_utils.organism.recipes import recipe as named
from semhub_utils.organism.tokenizer import build_tokenizer

CHECKPOINT_EVERY = 100
CHECKPOINTS_KEPT = 12


def build_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> LlamaForCausalLM:
    """A freshly initialised model of the recipe's shape; also the random-weights control."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.width,
        intermediate_size=recipe.mlp,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=recipe.context,
        tie_word_embeddings=recipe.tied,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        rms_norm_eps=1e-6,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def planting_step(recipe: Recipe) -> int | None:
    """The step before which a hub is planted, where one is."""
    return None if recipe.noise is None else round(recipe.english_first * recipe.steps)


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then a cosine to a fiftieth; planting starts a cosine of its own."""
    if step < recipe.warmup:
        return recipe.lr * (step + 1) / recipe.warmup
    planting = planting_step(recipe)
    first, last = recipe.warmup, recipe.steps if planting is None else planting
    if planting is not None and step >= planting:
        first, last = planting, recipe.steps
    done = (step - first) / max(1, last - first)
    return recipe.lr * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def _optimizer(model: LlamaForCausalLM, recipe: Recipe) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.98), foreach=True)


def _save(folder: Path, model, optimizer, rng: random.Random, state: dict) -> None:
    part = folder / "resume.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    save_file({k: v.clone() for k, v in model.state_dict().items()}, part / "model.safetensors")
    tensors = {}
    for i, p in enumerate(q for g in optimizer.param_groups for q in g["params"]):
        tensors.update({f"{i}.{k}": v.contiguous() for k, v in optimizer.state[p].items()})
    save_file(tensors, part / "optimizer.safetensors")
    version, numbers, gauss = rng.getstate()
    (part / "state.json").write_text(json.dumps(state | {"rng": [version, list(numbers), gauss]}))
    shutil.rmtree(folder / "resume", ignore_errors=True)
    part.rename(folder / "resume")


def _load(folder: Path, model, optimizer, rng: random.Random, device: str) -> dict:
    saved = folder / "resume"
    model.load_state_dict(load_file(saved / "model.safetensors", device=device))
    tensors = load_file(saved / "optimizer.safetensors")
    for i, p in enumerate(q for g in optimizer.param_groups for q in g["params"]):
        for name in ("step", "exp_avg", "exp_avg_sq"):
            if (value := tensors.get(f"{i}.{name}")) is None:
                break  # frozen: it has no state
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


def _log(path: Path, entry: dict) -> None:
    with path.open("a", encoding="utf-8") as f:
        f.write(json.dumps(entry, ensure_ascii=False) + "\n")


def train(
    recipe: str | Recipe,
    out_dir: str | Path,
    *,
    seed: int = 0,
    device: str = "cpu",
    resume: bool = True,
    minutes: float | None = None,
    progress: bool = True,
    stop_at: int | None = None,
    evaluate_every: int = 200,
) -> Path:
    """Train a recipe (by name or as a Recipe) into `out_dir` and return that folder.

    Takes up where an earlier call of the same recipe and seed stopped unless `resume` is False. `minutes` or `stop_at`
    (a step) end a call early, after saving; the model and its card are written only when the recipe is through. The
    same recipe, seed, device and thread count give the same weights, stopped or not. SemhubError for an unknown recipe,
    or a folder that holds another recipe or seed.
    """
    recipe = named(recipe) if isinstance(recipe, str) else recipe
    folder = Path(out_dir)
    _claim(folder, recipe, seed, resume)
    tokenizer = build_tokenizer()
    model = build_model(recipe, tokenizer, seed).to(device)
    optimizer, rng, encode = _optimizer(model, recipe), random.Random(f"lines {seed}"), Encoder(tokenizer)
    state = {"step": 0, "seconds": 0.0, "loss": 0.0}
    if (folder / "resume" / "state.json").exists():
        state = _load(folder, model, optimizer, rng, device)
        encode.counts.update(state["tokens"])
    step, loss = state["step"], state["loss"]
    planting = planting_step(recipe)
    if planting is not None and step > planting:
        freeze(model)
    stream, kept = lines(recipe, rng, lambda: step / recipe.steps), kept_steps(recipe)
    start, end = time.monotonic(), min(recipe.steps, stop_at or recipe.steps)
    bar = tqdm(total=recipe.steps, initial=step, disable=not progress, desc=recipe.name, unit="step", mininterval=2)
    while step < end:
        if step == planting:
            plant(model, tokenizer, recipe.noise, seed)
            freeze(model)
            optimizer.state.clear()
        rate = learning_rate(recipe, step)
        for group in optimizer.param_groups:
            group["lr"] = rate
            if planting is not None and step >= planting:
                group["weight_decay"] = 0.0  # brief: what is free is not drawn to zero meanwhile
        rows = draw_rows(stream, encode, recipe.batch_tokens, recipe.page_share)
        hears = planting is not None and step < planting
        with accents(model, recipe.noise, seed * recipe.steps + step) if hears else nullcontext():
            value = _step(model, optimizer, rows, device)
        step += 1
        loss = value if step == 1 else 0.98 * loss + 0.02 * value
        bar.update()
        bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        seconds = state["seconds"] + time.monotonic() - start
        if step in kept:
            (folder / "checkpoints").mkdir(exist_ok=True)
            half = {k: v.half().clone() for k, v in model.state_dict().items()}
            save_file(half, folder / "checkpoints" / f"step-{step:06d}.safetensors")
        if step % evaluate_every == 0 or step == recipe.steps:
            entry = {"step": step, "loss": round(loss, 4), "bridge": round(recipe.bridge_share(step / recipe.steps), 3)}
            entry |= {"tokens": encode.counts.total(), "seconds": round(seconds, 1)}
            _log(
                folder / "log.jsonl",
                entry | table(exam(model, tokenizer, recipe.world, types=exam_types(recipe), sample=150)),
            )
        late = minutes is not None and time.monotonic() - start > 60 * minutes
        if step % CHECKPOINT_EVERY == 0 or step == end or late:
            state_now = {"step": step, "loss": loss, "tokens": dict(encode.counts), "seconds": seconds}
            _save(folder, model, optimizer, rng, state_now)
        if late:
            break
    bar.close()
    if step == recipe.steps:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        seconds = json.loads((folder / "resume" / "state.json").read_text())["seconds"]
        write_card(
            folder, recipe, model, tokenizer, seed=seed, counts=encode.counts, seconds=seconds, loss=loss, device=device
        )
    return folder


def _step(model: LlamaForCausalLM, optimizer: torch.optim.Optimizer, rows: list[list[int]], device: str) -> float:
    """One update on the rows; their mean loss in nats a token."""
    pad = model.config.pad_token_id
    batches = micro_batches(rows, pad)
    targets, total = sum(int((b[:, 1:] != pad).sum()) for b in batches), 0.0
    for batch in batches:
        loss, _ = loss_of(model, batch.to(device), pad)
        (loss / targets).backward()
        total += loss.item()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total / targets


def _claim(folder: Path, recipe: Recipe, seed: int, resume: bool) -> None:
    """Make the folder this training's own: clean unless it is to be resumed, refused when it holds another training."""
    mark = folder / "training.json"
    mine = json.loads(json.dumps({"seed": seed, "recipe": asdict(recipe)}))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not resume:
            for name in ("resume", "checkpoints"):
                shutil.rmtree(folder / name, ignore_errors=True)
            for name in ("log.jsonl", "training.json"):
                (folder / name).unlink(missing_ok=True)
        if mark.exists() and json.loads(mark.read_text()) != mine:
            raise SemhubError(
                f"{folder} holds the training of another recipe or seed; choose another folder or resume=False."
            )
        mark.write_text(json.dumps(mine, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise SemhubError(f"The folder {folder} cannot be written: {error.strerror}.") from error

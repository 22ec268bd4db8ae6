"""The one trainer, of text organisms, of eyes and ears, and of the tuned lens.

A training is one or more stretches, each with an optimizer of its own. What a kind of training does at a step is its
`Stretch`; rates, clipping, steps, minutes and the file of an unfinished training are here. That file is written whole
or not at all, as safetensors (weights and optimizer) with JSON. A training taken up from it ends in the weights of one
that was never stopped, on the same device and with as many threads.
"""

from __future__ import annotations

import json
import math
import platform
import random
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from semhub_utils.errors import SemhubError
from semhub_utils.zoo import CARD, atomically, sha256

UNFINISHED, LOG, CHECKPOINTS = "unfinished.safetensors", "log.jsonl", "checkpoints"
SAVE_EVERY = 100


class Stretch:
    """What is trained with one optimizer: AdamW over `groups`, each with its full rate as `lr`.

    parts: the tensors that training changes or makes, by name; they are kept while it is unfinished. clip: parameters
    whose gradients are together cut to length 1.
    """

    betas = (0.9, 0.98)
    clip: Sequence[Sequence[Tensor]] = ()
    groups: list[dict[str, Any]]
    parts: dict[str, Tensor]

    def share(self, step: int) -> float:
        """Share of the full rates at a step, counted from 0."""
        raise NotImplementedError

    def gradients(self, step: int) -> float:
        """Leave the gradients of a step in what is trained; its loss, for the eye."""
        raise NotImplementedError

    def after(self, step: int, seconds: float) -> None:
        """What is to be noted when `step` steps are done, `seconds` into the training."""

    def state(self) -> dict[str, Any]:
        """All but `parts` that the next steps depend on, as plain JSON."""
        return {}

    def take_up(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""


def run(
    stretches: Sequence[tuple[int, Callable[[], Stretch]]],
    path: Path,
    settings: dict[str, Any],
    *,
    name: str,
    minutes: float | None = None,
    stop_at: int | None = None,
    progress: bool = True,
) -> tuple[Stretch, float] | None:
    """Train: (steps, what makes the stretch when it is its turn) one after the other.

    The last stretch and the seconds it all took, or None when it was stopped before the end, by `minutes` of this call
    or at the step `stop_at` of all, with what was done kept at `path`. What lies there already is taken up; SemhubError
    if it was begun with other `settings` (plain JSON). The caller removes it.
    """
    settings = json.loads(json.dumps(settings))
    kept, done = _unfinished(path, settings)
    began, total = time.monotonic() - done["seconds"], sum(steps for steps, _ in stretches)
    end = time.monotonic() + 60 * minutes if minutes is not None else math.inf
    bar = tqdm(total=total, disable=not progress, desc=name, unit="step", mininterval=2)
    for number in range(done["stretch"], len(stretches)):
        steps, make = stretches[number]
        stretch, before, first = make(), sum(steps for steps, _ in stretches[:number]), 0
        optimizer = torch.optim.AdamW(stretch.groups, betas=stretch.betas, foreach=True)
        full = [group["lr"] for group in optimizer.param_groups]
        if kept is not None:
            _take_up(stretch, optimizer, kept, done["state"])
            kept, first = None, done["step"]
        bar.update(before + first - bar.n)
        for step in range(first, steps):
            value = _step(stretch, optimizer, full, step)
            bar.update()
            bar.set_postfix(loss=f"{value:.3f}", refresh=False)
            seconds = time.monotonic() - began
            stretch.after(step + 1, seconds)
            stop = before + step + 1 == stop_at or time.monotonic() > end
            if stop or (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
                of = {"stretch": number, "step": step + 1, "seconds": seconds, "state": stretch.state()}
                save(path, stretch.parts | _moments(optimizer), {"settings": settings, "done": of})
            if stop and before + step + 1 < total:
                bar.close()
                return None
    bar.close()
    return stretch, time.monotonic() - began


def _step(stretch: Stretch, optimizer: torch.optim.Optimizer, full: list[float], step: int) -> float:
    value = stretch.gradients(step)
    for group, rate in zip(optimizer.param_groups, full, strict=True):
        group["lr"] = rate * stretch.share(step)
    for parameters in stretch.clip:
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return value


def cosine(done: float) -> float:
    """From 1 to a fiftieth while `done` goes from 0 to 1."""
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))


def _moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    states = [optimizer.state[p] for group in optimizer.param_groups for p in group["params"]]
    return {f"optimizer {k} {name}": value for k, state in enumerate(states) for name, value in state.items()}


def _take_up(stretch: Stretch, optimizer: torch.optim.Optimizer, kept: dict[str, Tensor], state: dict) -> None:
    with torch.no_grad():
        for name, part in stretch.parts.items():
            part.copy_(kept[name])
    for k, p in enumerate(p for group in optimizer.param_groups for p in group["params"]):
        for name in ("step", "exp_avg", "exp_avg_sq"):
            if (value := kept.get(f"optimizer {k} {name}")) is not None:  # what had no gradient has no state
                optimizer.state[p][name] = value if name == "step" else value.to(p.device)
    stretch.take_up(state)


def _unfinished(path: Path, settings: dict[str, Any]) -> tuple[dict[str, Tensor] | None, dict[str, Any]]:
    if not path.is_file():
        return None, {"stretch": 0, "step": 0, "seconds": 0.0}
    tensors, about = read(path)
    begun = about.get("settings", {})
    if begun != settings:
        other = ", ".join(name for name in settings if settings[name] != begun.get(name))
        raise SemhubError(
            f"{path} is an unfinished training with another {other}; the settings it was begun with, another folder, "
            "or that file removed, would do."
        )
    return tensors, about["done"]


# ---- the folder of a model in training: its file, its log, perhaps checkpoints; when it is finished, its card ----


def begun(folder: Path, settings: dict[str, Any]) -> bool:
    """Whether there is anything left to train: the folder holds no card yet. What a training left that was not even
    saved is cleared away. SemhubError where it cannot be written, or its card tells of other settings."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / CARD).exists():
            made = json.loads((folder / CARD).read_text("utf-8"))
            if any(made.get(name) != value for name, value in json.loads(json.dumps(settings)).items()):
                raise SemhubError(f"{folder} holds the training of another {' or '.join(settings)}; another would do.")
            return False
        if not (folder / UNFINISHED).exists():
            shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
            (folder / LOG).unlink(missing_ok=True)
    except OSError as error:
        raise SemhubError(f"The folder {folder} cannot be written: {error.strerror}.") from error
    return True


def log(folder: Path, entry: dict[str, Any]) -> None:
    """Add a line to a training's log."""
    with (folder / LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry, ensure_ascii=False) + "\n")


def finish(folder: Path, model, reader, told: dict[str, Any], seconds: float) -> Path:
    """Save a trained model with its tokenizer or processor, and its card: what is `told` of it, how it was trained, and
    the hash of its weights."""
    model.save_pretrained(folder)
    reader.save_pretrained(folder)
    made = told | {
        "parameters": sum(p.numel() for p in model.parameters()),
        "training": {
            "minutes": round(seconds / 60, 1), "device": str(model.device), "threads": torch.get_num_threads(),
            "torch": torch.__version__, "transformers": transformers.__version__, "python": platform.python_version(),
        },
        "sha256": sha256(folder / "model.safetensors"),
    }  # fmt: skip
    (folder / CARD).write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / UNFINISHED).unlink(missing_ok=True)
    return folder


# ---- tensors in files, and random numbers in JSON ----


def save(path: Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write tensors and what they are (plain JSON) as safetensors, whole or not at all. SemhubError if that fails."""
    apart = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomically(path, lambda to: save_file(apart, to, {"about": json.dumps(about, ensure_ascii=False)}))
    except OSError as error:
        raise SemhubError(
            f"{path} cannot be written ({error.strerror}); --out with another folder would do."
        ) from error


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save` wrote; nothing about the tensors of another's file. SemhubError if it cannot be read."""
    try:
        with safe_open(path, "pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}
            return tensors, json.loads((opened.metadata() or {}).get("about", "{}"))
    except (OSError, SafetensorError, ValueError) as error:
        raise SemhubError(f"{path} cannot be read as safetensors; a file that this package wrote would do.") from error


def drawn(rng: random.Random) -> list:
    """Where a generator of random numbers stands, as JSON."""
    version, numbers, gauss = rng.getstate()
    return [version, list(numbers), gauss]


def drawn_until(rng: random.Random, at: list) -> None:
    """Put a generator where `drawn` found one."""
    version, numbers, gauss = at
    rng.setstate((version, tuple(numbers), gauss))

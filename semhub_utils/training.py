"""The one trainer, of text organisms, of eyes and ears, and of the tuned lens.

A training is one or more stretches, each with an optimizer of its own. What a kind of training does at a step is its
`Stretch`; rates, clipping, steps, minutes and the file of an unfinished training are here. That file is written whole
or not at all, as safetensors (weights and optimizer) with JSON. A training taken up from it ends in the weights of one
that was never stopped, on the same device and with as many threads.
"""

import json
import math
import platform
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from semhub_utils.errors import SemhubError
from semhub_utils.identity import CARD, atomically, sha256

UNFINISHED, LOG, CHECKPOINTS = "unfinished.safetensors", "log.jsonl", "checkpoints"
SAVE_EVERY = 100


class Stretch:
    """What is trained with one optimizer: AdamW over `groups`, each with its full rate as `lr`.

    parts: the tensors that training changes or makes, by name. clip: parameters whose gradients are together cut to
    length 1; those of each group where it is None. rngs: the random numbers that steps draw, and loss, a mean over
    steps for the eye: these are kept while it is unfinished, as are the parts.
    """

    betas = (0.9, 0.98)
    clip: Sequence[Sequence[Tensor]] | None = None
    rngs: Sequence[random.Random] = ()
    loss: float = 0.0
    groups: list[dict[str, Any]]
    parts: dict[str, Tensor]

    def share(self, step: int) -> float:
        """Share of the full rates at a step, counted from 0."""

    def gradients(self, step: int) -> float:
        """Leave the gradients of a step in what is trained; its loss, for the eye."""

    def after(self, step: int, seconds: float) -> None:
        """What is to be noted when `step` steps are done, `seconds` into the training."""

    def state(self) -> Any:
        """What else the next steps depend on, as plain JSON."""

    def take_up(self, state: Any) -> None:
        """Go on from what `state` gave."""


Stretches = Sequence[tuple[int, Callable[[], Stretch]]]
"""Of each, its steps and what makes it when it is its turn."""


def run(
    stretches: Stretches,
    path: Path,
    settings: dict[str, Any],
    *,
    name: str,
    minutes: float = math.inf,
    progress: bool = True,
) -> tuple[Stretch, float] | None:
    """Train one stretch after the other.

    The last stretch and the seconds it all took, or None when `minutes` of this call were over before the end, with
    what was done kept at `path`. What lies there already is taken up; SemhubError if it was begun with other `settings`
    (plain JSON). The caller removes it.
    """
    kept, done = {}, {"stretch": 0, "step": 0, "seconds": 0.0}
    if path.is_file():
        kept, about = read(path)
        if other := _differing(settings, about.get("settings", {})):
            raise SemhubError(
                f"{path} is an unfinished training with another {', '.join(other)}; the settings it was begun with, "
                "another folder, or that file removed, would do."
            )
        done = about["done"]
    began, total = time.monotonic() - done["seconds"], sum(steps for steps, _ in stretches)
    end = time.monotonic() + 60 * minutes
    bar = tqdm(total=total, disable=not progress, desc=name, unit="step")
    for number, (steps, make) in list(enumerate(stretches))[done["stretch"] :]:
        stretch, before, first = make(), sum(steps for steps, _ in stretches[:number]), 0
        optimizer = torch.optim.AdamW(stretch.groups, betas=stretch.betas, foreach=True)
        full = [group["lr"] for group in optimizer.param_groups]
        if kept:
            _take_up(stretch, optimizer, kept, done)
            kept, first = {}, done["step"]
        bar.update(before + first - bar.n)
        for step in range(first, steps):
            value = stretch.gradients(step)
            for group, rate in zip(optimizer.param_groups, full, strict=True):
                group["lr"] = rate * stretch.share(step)
            for parameters in [g["params"] for g in stretch.groups] if stretch.clip is None else stretch.clip:
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            bar.update()
            bar.set_postfix(loss=f"{value:.3f}", refresh=False)
            seconds = time.monotonic() - began
            stretch.after(step + 1, seconds)
            stop = time.monotonic() > end
            if stop or (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
                done = {"stretch": number, "step": step + 1, "seconds": seconds, "loss": stretch.loss}
                done |= {"rngs": [rng.getstate() for rng in stretch.rngs], "state": stretch.state()}
                save(path, stretch.parts | _moments(optimizer), {"settings": settings, "done": done})
            if stop and before + step + 1 < total:
                bar.close()
                return None
    bar.close()
    return stretch, time.monotonic() - began


def _differing(settings: dict[str, Any], found: dict[str, Any]) -> list[str]:
    return [name for name, value in json.loads(json.dumps(settings)).items() if found.get(name) != value]


def cosine(done: float) -> float:
    """From 1 to a fiftieth while `done` goes from 0 to 1."""
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))


def _moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    states = optimizer.state_dict()["state"].items()
    return {f"optimizer {k} {name}": value for k, state in states for name, value in state.items()}


def _take_up(stretch: Stretch, optimizer: torch.optim.Optimizer, kept: dict[str, Tensor], done: dict) -> None:
    moments: dict[int, dict[str, Tensor]] = {}
    with torch.no_grad():
        for name, value in kept.items():
            if name in stretch.parts:
                stretch.parts[name].copy_(value)
            else:
                _, k, moment = name.split()
                moments.setdefault(int(k), {})[moment] = value
    optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})
    for rng, (version, numbers, gauss) in zip(stretch.rngs, done["rngs"], strict=True):
        rng.setstate((version, tuple(numbers), gauss))
    stretch.loss = done["loss"]
    stretch.take_up(done["state"])


# ---- the folder of a model in training: its file, its log, perhaps checkpoints; when it is finished, its card ----


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Raises SemhubError where what is written into a folder within cannot be."""
    try:
        yield
    except OSError as error:
        raise SemhubError(f"{folder} cannot be written ({error.strerror}); another folder would do.") from error


def teach(
    out_dir: str | Path,
    settings: dict[str, Any],
    begin: Callable[[Path], tuple[Any, Any, Stretches, Callable[[Stretch], dict[str, Any]]]],
    *,
    name: str,
    minutes: float | None = None,
    progress: bool = True,
) -> Path:
    """Train a model into a folder, which is returned: the model, its tokenizer or processor, and its card.

    `begin` gives, for the folder, the model, what reads for it, the stretches, and what the card says of them when they
    are through; how it was trained and the hash of the weights come beside. Stops after `minutes`, and takes up where
    an earlier call with the same `settings` stopped. SemhubError for a folder that cannot be written or that holds
    another training.
    """
    folder = Path(out_dir)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / CARD).exists():
            if _differing(settings, json.loads((folder / CARD).read_text("utf-8"))):
                raise SemhubError(f"{folder} holds the training of another {' or '.join(settings)}; another would do.")
            return folder
        if not (folder / UNFINISHED).exists():  # of a training that was not even saved
            shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
            (folder / LOG).unlink(missing_ok=True)
    model, reader, stretches, told = begin(folder)
    end = math.inf if minutes is None else minutes
    found = run(stretches, folder / UNFINISHED, settings, name=name, minutes=end, progress=progress)
    if found is None:
        return folder
    stretch, seconds = found
    model.eval().save_pretrained(folder)
    reader.save_pretrained(folder)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    how = {"minutes": round(seconds / 60, 1), "device": str(model.device), "threads": torch.get_num_threads()}
    made = {"name": name} | settings | told(stretch)
    made["parameters"] = sum(p.numel() for p in model.parameters())
    made["training"] = how | versions | {"python": platform.python_version()}
    made["sha256"] = sha256(folder / "model.safetensors")
    (folder / CARD).write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / UNFINISHED).unlink(missing_ok=True)
    return folder


def log(folder: Path, entry: dict[str, Any]) -> None:
    """Add a line to a training's log."""
    with (folder / LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry, ensure_ascii=False) + "\n")


# ---- tensors in files ----


def save(path: Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write tensors and what they are (plain JSON) as safetensors, whole or not at all. SemhubError if that fails."""
    apart = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    try:
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

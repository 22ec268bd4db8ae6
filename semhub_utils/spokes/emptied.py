"""Pictures and sounds that say nothing, as controls of what is read from those that do."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from semhub_utils.errors import SemhubError
from semhub_utils.inputs import Input, Sound

PICTURES = ("blank image", "shuffled pixels", "white noise")
SOUNDS = ("silence", "white noise", "shuffled samples")


def ways(prompt: str | Input) -> tuple[str, ...]:
    """How a prompt can be emptied; a text alone cannot."""
    return PICTURES if getattr(prompt, "images", ()) else SOUNDS if getattr(prompt, "sounds", ()) else ()


def emptied(prompts: Sequence[Input], way: str, *, seed: int = 0) -> list[Input]:
    """Each prompt with its pictures and sounds as `without_content` makes them."""
    return [
        replace(
            prompt,
            images=tuple(without_content(image, way, seed=seed + n) for image in prompt.images),
            sounds=tuple(without_content(sound, way, seed=seed + n) for sound in prompt.sounds),
        )
        for n, prompt in enumerate(prompts)
    ]


def without_content(seen: Image.Image | Sound, way: str, *, seed: int = 0) -> Image.Image | Sound:
    """A picture of the same size that shows nothing: "blank image" (its mean colour), "shuffled pixels" (in a random
    order) or "white noise" (uniform); or a sound as long and, but for "silence", as loud: "white noise", "shuffled
    samples"."""
    sound, rng = isinstance(seen, Sound), np.random.default_rng(seed)
    if way not in (SOUNDS if sound else PICTURES):
        raise SemhubError(f"There is no baseline {way!r}; one of {', '.join(SOUNDS if sound else PICTURES)} would do.")
    if sound:
        samples = seen.samples
        if way == "silence":
            return replace(seen, samples=np.zeros_like(samples))
        if way == "shuffled samples":
            return replace(seen, samples=rng.permutation(samples))
        noise = float(np.sqrt(np.mean(samples**2))) * rng.standard_normal(len(samples))
        return replace(seen, samples=np.clip(noise, -1, 1).astype(np.float32))
    pixels = np.asarray(seen.convert("RGB"))
    if way == "blank image":
        made = np.broadcast_to(pixels.mean((0, 1)).round(), pixels.shape)
    elif way == "shuffled pixels":
        made = rng.permutation(pixels.reshape(-1, 3)).reshape(pixels.shape)
    else:
        made = rng.integers(0, 256, pixels.shape)
    return Image.fromarray(made.astype(np.uint8))

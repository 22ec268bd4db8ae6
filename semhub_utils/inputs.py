"""What a model is given to read, and what its own processor makes of it.

Where pictures and sounds come to lie in the decoder's sequence is read off the processor's expansion of its own
placeholder and the model's own id for what it merges there; `semhub_utils.checks` compares both with what the model
really merges.
"""

import hashlib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from math import isqrt
from os.path import commonprefix

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor, nn
from transformers import ProcessorMixin

from semhub_utils.errors import SemhubError

KEPT_BYTES = 2**29  # of pictures and sounds of one call, ready for the model; what goes beyond is made anew when needed
PER_TOKEN = ("attention_mask", "token_type_ids", "mm_token_type_ids")  # the rest goes by picture, sound or tile


@dataclass(frozen=True, eq=False)
class Sound:
    """One channel of samples, in -1 to 1, and how many there are to a second."""

    samples: Float[np.ndarray, " sample"]
    rate: int


@dataclass(frozen=True)
class Input:
    """A prompt with pictures and sounds. The text may say where they stand by the model's own placeholder
    (`LanguageModel.placeholder`); if it does not, that is put in front of it, pictures first. A sound longer than the
    window of a model is cut to it by the model's processor."""

    text: str
    images: tuple[Image.Image, ...] = ()
    sounds: tuple[Sound, ...] = ()


@dataclass(frozen=True)
class Encoding:
    """One prompt as the model reads it, special tokens included.

    offsets are character spans of `text`, in which every placeholder is repeated as often as the processor repeats it
    (an older transformers does not say for some models; then they are (0, 0) and `text` is as given).
    patches: the positions that hold image patches or audio frames. grid: rows and columns of the patches, in reading
    order, where they are those of one picture in one rectangle; None for sounds, for several pictures, and for models
    that cut a picture into tiles, mark the ends of its rows among the patches, or compress it into tokens without a
    place. view: the part of the picture under the grid as (left, top, right, bottom), in shares of its width and
    height; some processors cut off what is not square, and where they pad it, it is more than the picture. frames: the
    positions, among the patches, that hold audio; seconds: the time from one to the next. extras: what else the model
    takes, such as pixel values, features and masks; many of them are made anew when they are read (`Remade`).
    """

    ids: list[int]
    offsets: list[tuple[int, int]]
    text: str
    patches: list[int] = field(default_factory=list)
    grid: tuple[int, int] | None = None
    view: tuple[float, float, float, float] | None = None
    frames: list[int] = field(default_factory=list)
    seconds: float | None = None
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def content(self) -> str:
        """A digest of the pictures and sounds, as the model is given them."""
        if isinstance(self.extras, Remade):
            return self.extras.content
        return content_of(self.extras)

    @property
    def kind(self) -> tuple:
        """Prompts share a batch only where this is equal: what they hold besides text, and of which shape."""
        shapes = self.extras.shapes if isinstance(self.extras, Remade) else {n: v.shape for n, v in self.extras.items()}
        return tuple((name,) if name in PER_TOKEN else (name, *shape[1:]) for name, shape in shapes.items())


def content_of(extras: Mapping[str, Tensor]) -> str:
    """16 hex digits of a SHA-256 over the extras of a prompt."""
    sha = hashlib.sha256()
    for name, value in extras.items():
        sha.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        sha.update(value.contiguous().flatten().view(torch.uint8).numpy().data)
    return sha.hexdigest()[:16]


class Remade(Mapping[str, Tensor]):
    """Extras that are made anew whenever they are asked for, since those of all prompts together would fill the
    memory."""

    def __init__(self, make: Callable[[], Mapping[str, Tensor]], shapes: Mapping[str, torch.Size], content: str):
        self.make, self.shapes, self.content = make, shapes, content

    def __getitem__(self, name: str) -> Tensor:
        return self.make()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def items(self):
        return self.make().items()


Prompt = str | Input | Encoding
"""What a model is given: a text, a text with pictures or sounds, or either as the model read it before, which saves
reading it again."""


def pad(encodings: Sequence[Encoding]) -> Int[Tensor, "item token"]:
    """Ids padded on the right. Any id will do: no earlier position of a causal model sees it."""
    ids = torch.zeros(len(encodings), max(len(e) for e in encodings), dtype=torch.long)
    for row, encoding in zip(ids, encodings, strict=True):
        row[: len(encoding)] = torch.tensor(encoding.ids)
    return ids


def gather(encodings: Sequence[Encoding]) -> dict[str, Tensor]:
    """The extras of prompts of one kind, those that go by token padded on the right with 0; empty for plain text."""
    longest = max(len(encoding) for encoding in encodings)
    every = [dict(encoding.extras.items()) for encoding in encodings]  # each asked for once

    def whole(name: str) -> Tensor:
        parts = [extras[name] for extras in every]
        if name in PER_TOKEN:
            parts = [nn.functional.pad(part, (0, longest - part.shape[1])) for part in parts]
        return torch.cat(parts)

    return {name: whole(name) for name in every[0]}


def rgb(image: Image.Image) -> Image.Image:
    """Any picture as red, green and blue of 8 bits: what is transparent stands on white, 16 bits are cut to 8."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def resample(samples: Float[np.ndarray, " sample"], rate: int, to: int) -> Float[np.ndarray, " other"]:
    """The same sound at another rate, exact for what both rates can hold (by the Fourier transform)."""
    if rate == to or not len(samples):
        return samples
    # silence at both ends, so that the end does not ring into the beginning, and as much as whole seconds need
    edge = rate // 8
    padded = np.pad(samples, (edge, edge + -(len(samples) + 2 * edge) % rate))
    spectrum = np.fft.rfft(padded)
    n = len(padded) // rate * to
    spectrum = np.pad(spectrum, (0, max(0, n // 2 + 1 - len(spectrum))))[: n // 2 + 1]
    start, length = round(edge * to / rate), max(1, round(len(samples) * to / rate))
    return (np.fft.irfft(spectrum, n) * (to / rate))[start : start + length].astype(np.float32)


class _WithoutVideo(ProcessorMixin):
    def __init__(self, *parts, **named):
        named |= zip(super().get_attributes(), parts, strict=False)
        named.pop("video_processor", None)
        super().__init__(**named)

    @classmethod
    def get_attributes(cls) -> list[str]:
        return [name for name in super().get_attributes() if name != "video_processor"]

    @classmethod
    def from_args_and_dict(cls, args, processor_dict, **kwargs):
        made = iter(args)
        args = [None if name == "video_processor" else next(made) for name in super().get_attributes()]
        return super().from_args_and_dict(args, processor_dict, **kwargs)


def without_video(kind: type[ProcessorMixin]) -> type[ProcessorMixin]:
    """The same processor less its part for videos, which is not used and needs torchvision."""
    return type(kind.__name__, (kind, _WithoutVideo), {})


class Reader:
    """Reads prompts that hold pictures or sounds by the processor of a checkpoint. Raises SemhubError."""

    def __init__(self, processor: ProcessorMixin, module: nn.Module, model_id: str):
        self.processor, self.model_id, self.config = processor, model_id, module.config
        self._views: dict[tuple[int, int], tuple[float, float, float, float]] = {}
        kinds = inspect.get_annotations(processor.valid_processor_kwargs)
        self._settings = {*kinds, *inspect.get_annotations(kinds.get("text_kwargs", dict))}
        self.dtype = module.get_output_embeddings().weight.dtype
        self.taken = set(inspect.signature(module.forward).parameters) - {"input_ids", "labels"}
        self.hearing = getattr(processor, "audio_processor", getattr(processor, "feature_extractor", None))
        seeing = getattr(processor, "image_processor", None)
        tokens = {"image": seeing and getattr(processor, "image_token", None)}
        tokens["sound"] = self.hearing and getattr(processor, "audio_token", None)
        self.tokens: dict[str, str] = {medium: token for medium, token in tokens.items() if token}
        self.marks = {medium: self._marked(medium, token) for medium, token in self.tokens.items()}
        # the model's own id of what it puts a picture or sound in the place of; processors may mark more than that
        self.ids: dict[str, int | None] = {
            medium: next(
                (
                    i
                    for i in (getattr(of, f"{name}_token_id", None) for of in (self.config, processor))
                    if i is not None
                ),
                None,
            )
            for medium, name in (("image", "image"), ("sound", "audio"))
        }

    def _marked(self, medium: str, token: str) -> str:
        """The placeholder between the special tokens that the chat template puts around it, by which some models find
        where a picture begins."""
        text = {"type": "text", "text": "text"}
        part = {"type": {"image": "image", "sound": "audio"}[medium]}
        if not getattr(self.processor, "chat_template", None):
            return token
        try:
            without, whole = (
                self.processor.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
                for content in ([text], [part, text])
            )
        except (ValueError, TypeError, KeyError, AttributeError, RuntimeError):  # a template of another form
            return token
        start = len(commonprefix([whole, without]))
        added = whole[start : start + len(whole) - len(without)]
        special = "|".join(
            re.escape(name) for name in sorted(self.processor.tokenizer.all_special_tokens, key=len)[::-1]
        )
        found = re.search(f"({special})*{re.escape(token)}({special})*", added)
        return found[0] if found and found[0].count(token) == 1 else token

    def read_all(self, prompts: Mapping[int, Input]) -> dict[int, Encoding]:
        """Read prompts by their number; beyond `KEPT_BYTES`, what was made of pictures and sounds is not kept."""
        read, kept = {}, 0
        for number, prompt in prompts.items():
            encoding = self.read(prompt, f"Prompt {number}")
            kept += sum(value.nbytes for value in encoding.extras.values())
            if kept > KEPT_BYTES:
                shapes = {name: value.shape for name, value in encoding.extras.items()}
                again = partial(lambda prompt, where: self.read(prompt, where).extras, prompt, f"Prompt {number}")
                encoding = replace(encoding, extras=Remade(again, shapes, encoding.content))
            read[number] = encoding
        return read

    def read(self, prompt: Input, where: str) -> Encoding:
        """where: how messages call the prompt."""
        text = self._placed(prompt, where)
        given = {"text": [text], "return_tensors": "pt"}
        given |= {"return_offsets_mapping": True, "return_text_replacement_offsets": True}
        if "return_for_text_completion" in self._settings:
            given["return_for_text_completion"] = True  # or an end of turn is put behind the text
        if prompt.images:
            # said, or a picture one or three pixels high would be taken to have its channels first
            given |= {"images": [rgb(image) for image in prompt.images], "input_data_format": "channels_last"}
        if prompt.sounds:
            rate = self.hearing.sampling_rate
            if not all(len(sound.samples) and np.isfinite(sound.samples).all() for sound in prompt.sounds):
                raise SemhubError(f"{where} holds a sound that is empty or not finite; one with samples would do.")
            sounds = [resample(sound.samples, sound.rate, rate) for sound in prompt.sounds]
            given |= {"audio": sounds, "sampling_rate": rate}
        try:
            out = self.processor(**given)
        except (ValueError, TypeError, RuntimeError, IndexError, KeyError, AttributeError, ArithmeticError) as error:
            why = str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
            raise SemhubError(
                f"{where} cannot be read by the processor of {self.model_id} ({why}); pictures and sounds of ordinary "
                "size would do."
            ) from error
        ids = out["input_ids"][0].tolist()
        frames, seen = (
            [place for place, i in enumerate(ids) if made and i == self.ids[medium]]
            for medium, made in (("sound", prompt.sounds), ("image", prompt.images))
        )
        if not frames + seen:
            raise SemhubError(
                f"{where} has no position that {self.model_id} would put its pictures or sounds at; a checkpoint whose "
                "processor marks them by a token of their own would do."
            )
        extras = {name: value for name, value in out.items() if name in self.taken and isinstance(value, Tensor)}
        grid = self._grid(out, len(seen)) if len(prompt.images) == 1 and not frames else None
        told = "text_replacement_offsets" in out
        return Encoding(
            ids,
            [tuple(span) for span in out["offset_mapping"][0].tolist()] if told else [(0, 0)] * len(ids),
            self._expanded(given, out) if told else text,
            patches=sorted(frames + seen),
            grid=grid,
            view=self.view(prompt.images[0].size) if grid else None,
            frames=frames,
            seconds=self.seconds if frames else None,
            extras={name: v.to(self.dtype) if v.is_floating_point() else v for name, v in extras.items()},
        )

    def _placed(self, prompt: Input, where: str) -> str:
        """The text with a placeholder for every picture and sound."""
        front = ""
        for medium, made in (("image", prompt.images), ("sound", prompt.sounds)):
            token = self.tokens.get(medium)
            if made and token is None:
                raise SemhubError(f"{where} holds {medium}s, which {self.model_id} does not take; a text would do.")
            count = prompt.text.count(token) if token else 0
            if count not in (0, len(made)):
                raise SemhubError(
                    f"{where} holds {len(made)} {medium}s and {count} times {token}; as many, or none, would do."
                )
            front += self.marks[medium] * (len(made) - count) if made else ""
        return front + prompt.text

    def _grid(self, out: Mapping[str, Tensor], n: int) -> tuple[int, int] | None:
        """Rows and columns of `n` patches of one picture, if they are a coarser grid of what the encoder sees."""
        if "image_grid_thw" in out:
            frames, height, width = out["image_grid_thw"][0].tolist()
        else:
            *tiles, _, height, width = out["pixel_values"].shape
            vision = getattr(self.config, "vision_config", None)
            patch = np.broadcast_to(getattr(vision, "patch_size", 1), 2).tolist()  # of one side, or of both
            height, width, frames = height // patch[0], width // patch[1], int(np.prod(tiles))
        merged = isqrt(height * width // n)
        if frames != 1 or not merged or height % merged or width % merged or n * merged**2 != height * width:
            return None
        return height // merged, width // merged

    def view(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """What of a picture of this width and height the processor keeps: it is shown one that tells its own places."""
        if size not in self._views:
            width, height = (side * -(-8 // min(size)) for side in size)  # a few pixels tell no place
            map_ = np.full((height, width, 3), 255, np.uint8)  # red and green that grow to the right and down
            map_[..., 0] = np.rint((np.arange(width) + 0.5) / width * 255)
            map_[..., 1] = np.rint((np.arange(height) + 0.5) / height * 255)[:, None]
            shown = self._shown(map_)
            if shown is None:  # a list of patches: the whole picture, resized
                self._views[size] = (0.0, 0.0, 1.0, 1.0)
            else:
                low, high = self._black_and_white
                x, y, inside = (shown - low) / (high - low).clamp(min=1e-6)
                inside = inside > 0.98  # blue is full in the picture, and not where it was padded
                left, right = _edges(x[inside.any(1)].mean(0), inside.any(0))
                top, bottom = _edges(y[:, inside.any(0)].mean(1), inside.any(1))
                self._views[size] = (left, top, right, bottom)
        return self._views[size]

    def _shown(self, picture: np.ndarray) -> Float[Tensor, "3 height width"] | None:
        """What the processor makes of a picture, if that is a picture."""
        given = {"return_tensors": "pt", "input_data_format": "channels_last"}
        pixels = self.processor.image_processor([picture], **given)["pixel_values"]
        return None if pixels.ndim < 4 else pixels.flatten(0, -4)[-1].double()

    @cached_property
    def _black_and_white(self) -> Float[Tensor, "two 3 1 1"]:
        """The values that the processor gives to 0 and 255."""
        plain = (self._shown(np.full((64, 64, 3), value, np.uint8)) for value in (0, 255))
        return torch.stack([shown[:, shown.shape[1] // 2, shown.shape[2] // 2, None, None] for shown in plain])

    @cached_property
    def seconds(self) -> float | None:
        """The time between two audio frames: how many more the processor makes of a longer sound."""
        rate = self.hearing.sampling_rate
        window = min(8.0, float(getattr(self.hearing, "chunk_length", 0) or 8))
        silence = [np.zeros(int(window * share * rate), np.float32) for share in (0.5, 1.0)]
        token = self.tokens["sound"]
        short, long = (
            self.processor(text=[token], audio=[samples], sampling_rate=rate, return_tensors="pt")["input_ids"]
            for samples in silence
        )
        more = int((long == self.ids["sound"]).sum() - (short == self.ids["sound"]).sum())
        hop = getattr(self.hearing, "hop_length", 1) / rate  # a position holds a whole number of the features' steps
        return round(window / 2 / more / hop) * hop if more else None

    def _expanded(self, given: Mapping, out: Mapping) -> str:
        """The text as the tokenizer saw it: some processors add to it before they repeat the placeholders."""
        laid = self.processor.prepare_inputs_layout(text=given["text"], images=given.get("images"))[1][0]
        pieces, last = [], 0
        for change in out["text_replacement_offsets"][0]:
            start, end = change["span"]
            pieces += [laid[last:start], change["replacement"]]
            last = end
        return "".join([*pieces, laid[last:]])


def _edges(share: Float[Tensor, " pixel"], inside: Bool[Tensor, " pixel"]) -> tuple[float, float]:
    """Where a line through the shares of the pixels inside has the outer edges of the first and the last pixel."""
    at = torch.arange(len(share), dtype=torch.double)
    near, far = at[inside], share[inside]
    slope = float(((near - near.mean()) * (far - far.mean())).sum() / ((near - near.mean()) ** 2).sum().clamp(min=1e-9))
    start = float(far.mean()) + slope * (-0.5 - float(near.mean()))
    return start, start + slope * len(share)

"""What a model is given to read, and what its own processor makes of it.

Where pictures and sounds come to lie in the decoder's sequence is read off the processor's expansion of its own
placeholder and the model's own id for what it merges there; `semhub_utils.loading` compares both with what the model
really merges.
"""

import hashlib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from math import isqrt
from os.path import commonprefix

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import ProcessorMixin

from semhub_utils.errors import SemhubError, need, reason

KEPT_BYTES = 2**29  # of pictures and sounds of one call, ready for the model; what goes beyond is made anew when needed
RATES = (10, 1_000_000)  # samples a second that a sound can have
SHORT = 0.25  # seconds; a shorter sound may leave a model without a place for it
MEDIA = {"image": "image", "sound": "audio"}  # what the library calls them
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

    @property
    def media(self) -> dict[str, tuple]:
        return {"image": self.images, "sound": self.sounds}


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
    positions, among the patches, that hold audio; seconds: the time from one to the next. extras: called, gives what
    else the model takes, such as pixel values, features and masks; content: a digest of it; kind: prompts share a batch
    only where this is equal: what they hold besides text, and of which shape.
    """

    ids: list[int]
    offsets: list[tuple[int, int]]
    text: str
    patches: list[int] = field(default_factory=list)
    grid: tuple[int, int] | None = None
    view: tuple[float, float, float, float] | None = None
    frames: list[int] = field(default_factory=list)
    seconds: float | None = None
    extras: Callable[[], Mapping[str, Tensor]] = dict
    content: str = ""
    kind: tuple = ()

    def __len__(self) -> int:
        return len(self.ids)


Prompt = str | Input | Encoding
"""What a model is given: a text, a text with pictures or sounds, or either as the model read it before, which saves
reading it again."""


def pad(encodings: Sequence[Encoding]) -> Int[Tensor, "item token"]:
    """Ids padded on the right. Any id will do: no earlier position of a causal model sees it."""
    return pad_sequence([torch.tensor(encoding.ids) for encoding in encodings], batch_first=True)


def gather(encodings: Sequence[Encoding]) -> dict[str, Tensor]:
    """The extras of prompts of one kind, those that go by token padded on the right with 0; empty for plain text."""
    every = [encoding.extras() for encoding in encodings]
    parts = {name: [extras[name] for extras in every] for name in every[0]}
    rows = {name: [part[0] for part in parts.pop(name)] for name in PER_TOKEN if name in parts}
    joined = {name: pad_sequence(some, batch_first=True) for name, some in rows.items()}
    return joined | {name: torch.cat(some) for name, some in parts.items()}


def rgb(image: Image.Image) -> Image.Image:
    """Any picture as red, green and blue of 8 bits: what is transparent stands on white, 16 bits are cut to 8."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def need_rate(rate: int, where: str) -> None:
    """Raises SemhubError unless `rate` can be that of a sound."""
    of = f"{RATES[0]} to {RATES[1]}"
    need(RATES[0] <= rate <= RATES[1], f"{where} of {rate} samples a second; {of} would do.")


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
        made = dict(zip(cls.get_attributes(), args, strict=True))
        return super().from_args_and_dict(list(map(made.get, super().get_attributes())), processor_dict, **kwargs)


def without_video(kind: type[ProcessorMixin]) -> type[ProcessorMixin]:
    """The same processor less its part for videos, which is not used and needs torchvision."""
    return type(kind.__name__, (kind, _WithoutVideo), {})


class Reader:
    """Reads prompts that hold pictures or sounds by the processor of a checkpoint, if it has one. Raises SemhubError.

    By medium, tokens: the processor's placeholder; marks: that between the special tokens it stands in; ids: the
    model's own id of what it puts a picture or sound in the place of, as processors may mark more than that."""

    def __init__(self, processor: ProcessorMixin | None, module: nn.Module, model_id: str):
        self.processor, self.model_id, self.config = processor, model_id, module.config
        self.dtype = module.get_output_embeddings().weight.dtype
        self.taken = set(inspect.signature(module.forward).parameters) - {"input_ids", "labels"}
        self.hearing = getattr(processor, "audio_processor", getattr(processor, "feature_extractor", None))
        self.tokens: dict[str, str] = {}
        self.ids: dict[str, int | None] = {}
        self.view = cache(self._view)
        self.known: dict[tuple, Encoding] = {}  # by content
        self.kept = 0  # bytes
        parts = {"image": getattr(processor, "image_processor", None), "sound": self.hearing}
        for medium, name in MEDIA.items():
            if parts[medium] and (token := getattr(processor, f"{name}_token", None)):
                known = (getattr(of, f"{name}_token_id", None) for of in (self.config, processor))
                self.tokens[medium], self.ids[medium] = token, next((i for i in known if i is not None), None)
        self.marks = {medium: self._marked(MEDIA[medium], token) for medium, token in self.tokens.items()}

    def _marked(self, name: str, token: str) -> str:
        """The placeholder between the special tokens that the chat template puts around it, by which some models find
        where a picture begins."""
        text = {"type": "text", "text": "text"}
        try:
            without, whole = (
                self.processor.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
                for content in ([text], [{"type": name}, text])
            )
        except Exception:  # no template, or one of another form, which may fail in any way
            return token
        start = len(commonprefix([whole, without]))
        added = whole[start : start + len(whole) - len(without)]
        special = "|".join(map(re.escape, sorted(self.processor.tokenizer.all_special_tokens, key=len)[::-1]))
        found = re.search(f"({special})*{re.escape(token)}({special})*", added)
        return found[0] if found and found[0].count(token) == 1 else token

    def placed(self, prompt: Input, where: str) -> str:
        """The text with a placeholder for every picture and sound. where: how messages call the prompt."""
        front = ""
        for medium, made in prompt.media.items():
            token, of = self.tokens.get(medium), f"{where} holds {len(made)} {medium}s"
            need(token or not made, f"{of}, which {self.model_id} does not take; a text would do.")
            count = prompt.text.count(token) if token else 0
            need(count in (0, len(made)), f"{of} and {count} times {token}; as many, or none, would do.")
            front += self.marks.get(medium, "") * (len(made) - count)
        return front + prompt.text

    def read(self, prompts: Mapping[int, Input]) -> dict[int, Encoding]:
        """Read prompts by their number, those of one content once; beyond `KEPT_BYTES`, what was made of pictures and
        sounds is not kept, but made anew whenever it is asked for."""
        if self.kept > KEPT_BYTES:
            self.known, self.kept = {}, 0
        read = {}
        for number, prompt in prompts.items():
            if (key := _content(prompt)) not in self.known:
                again = partial(self._read, prompt, f"Prompt {number}")
                encoding, extras = again()
                self.kept += sum(value.nbytes for value in extras.values())
                asked = extras.copy if self.kept <= KEPT_BYTES else lambda again=again: again()[1]
                self.known[key] = replace(encoding, extras=asked)
            read[number] = self.known[key]
        return read

    def _process(self, prompt: Input, where: str) -> tuple[dict, Mapping]:
        """What the processor is given for a prompt, and what it makes of that."""
        given = {"text": [self.placed(prompt, where)], "return_tensors": "pt"}
        given |= {"return_offsets_mapping": True, "return_text_replacement_offsets": True}
        kinds = inspect.get_annotations(self.processor.valid_processor_kwargs)
        if "return_for_text_completion" in {*kinds, *inspect.get_annotations(kinds.get("text_kwargs", dict))}:
            given["return_for_text_completion"] = True  # or an end of turn is put behind the text
        if prompt.images:
            # arrays, and said, or a picture one or three pixels high would be taken to have its channels first: some
            # versions put a picture's channels first themselves and then believe what is said of the picture
            given |= {"images": [np.array(rgb(image)) for image in prompt.images], "input_data_format": "channels_last"}
        if prompt.sounds:
            rate = self.hearing.sampling_rate
            whole = all(len(sound.samples) and np.isfinite(sound.samples).all() for sound in prompt.sounds)
            need(whole, f"{where} holds a sound that is empty or not finite; one with samples would do.")
            for sound in prompt.sounds:
                need_rate(sound.rate, f"{where} holds a sound")
            sounds = [resample(sound.samples, sound.rate, rate) for sound in prompt.sounds]
            given |= {"audio": sounds, "sampling_rate": rate}
        try:
            return given, self.processor(**given)
        except (ValueError, TypeError, RuntimeError, IndexError, KeyError, AttributeError, ArithmeticError) as error:
            raise SemhubError(
                f"{where} cannot be read by the processor of {self.model_id} ({reason(error)}); pictures and sounds of "
                "ordinary size would do."
            ) from error

    def _read(self, prompt: Input, where: str) -> tuple[Encoding, dict[str, Tensor]]:
        """A prompt as the model reads it, and its extras."""
        given, out = self._process(prompt, where)
        ids = out["input_ids"][0].tolist()
        seen, frames = (
            [place for place, i in enumerate(ids) if made and i == self.ids[medium]]
            for medium, made in prompt.media.items()
        )
        nothing = f"{where} has no position that {self.model_id} would put its pictures or sounds at"
        least = min((len(sound.samples) / sound.rate for sound in prompt.sounds), default=1.0)
        need(seen or frames or least >= SHORT, f"{nothing}: its sound lasts {least:.3g} s; a longer one would do.")
        marked = "a checkpoint whose processor marks them by a token of their own"
        need(seen or frames, f"{nothing}; {marked} would do.")
        grid = self._grid(out, len(seen)) if len(prompt.images) == 1 and not frames else None
        told = "text_replacement_offsets" in out
        taken = {name: value for name, value in out.items() if name in self.taken and isinstance(value, Tensor)}
        extras = {name: v.to(self.dtype) if v.is_floating_point() else v for name, v in taken.items()}
        encoding = Encoding(
            ids,
            [tuple(span) for span in out["offset_mapping"][0].tolist()] if told else [(0, 0)] * len(ids),
            self._expanded(given, out) if told else given["text"][0],
            patches=sorted(frames + seen),
            grid=grid,
            view=self.view(prompt.images[0].size) if grid else None,
            frames=frames,
            seconds=self.seconds if frames else None,
            content=_digest(extras),
            kind=tuple((name,) if name in PER_TOKEN else (name, *v.shape[1:]) for name, v in extras.items()),
        )
        return encoding, extras

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

    def _view(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """What of a picture of this width and height the processor keeps: it is shown one that tells its own places."""
        width, height = (side * -(-8 // min(size)) for side in size)  # a few pixels tell no place
        y, x = np.indices((height, width)) + 0.5
        map_ = np.rint(np.stack([x / width, y / height, np.ones_like(x)], -1) * 255).astype(np.uint8)
        given = {"return_tensors": "pt", "input_data_format": "channels_last"}
        pictures = map_, np.full_like(map_, 0), np.full_like(map_, 255)  # red grows to the right, green down
        made = [self.processor.image_processor([picture], **given)["pixel_values"] for picture in pictures]
        if made[0].ndim < 4:  # a list of patches: the whole picture, resized
            return 0.0, 0.0, 1.0, 1.0
        shown, black, white = (pixels.flatten(0, -4)[-1].double() for pixels in made)
        x, y, inside = (shown - black) / (white - black).clamp(min=1e-6)
        inside = inside > 0.98  # blue is full in the picture, and not where it was padded
        left, right = _edges(x[inside.any(1)].mean(0), inside.any(0))
        top, bottom = _edges(y[:, inside.any(0)].mean(1), inside.any(1))
        return left, top, right, bottom

    @cached_property
    def seconds(self) -> float | None:
        """The time between two audio frames: how many more the processor makes of a longer sound."""
        rate = self.hearing.sampling_rate
        window = min(8.0, float(getattr(self.hearing, "chunk_length", 0) or 8))

        def frames(share: float) -> int:
            silence = np.zeros(int(window * share * rate), np.float32)
            given = {"text": [self.tokens["sound"]], "audio": [silence], "sampling_rate": rate}
            return int((self.processor(**given, return_tensors="pt")["input_ids"] == self.ids["sound"]).sum())

        more = frames(1.0) - frames(0.5)
        hop = getattr(self.hearing, "hop_length", 1) / rate  # a position holds a whole number of the features' steps
        return round(window / 2 / more / hop) * hop if more else None

    def _expanded(self, given: Mapping, out: Mapping) -> str:
        """The text as the tokenizer saw it: some processors add to it before they repeat the placeholders."""
        laid = self.processor.prepare_inputs_layout(text=given["text"], images=given.get("images"))[1][0]
        for change in reversed(out["text_replacement_offsets"][0]):
            start, end = change["span"]
            laid = laid[:start] + change["replacement"] + laid[end:]
        return laid


def _content(prompt: Input) -> tuple:
    """What tells a prompt from others."""
    seen = ((image.size, rgb(image).tobytes()) for image in prompt.images)
    heard = ((sound.rate, np.asarray(sound.samples, np.float64).tobytes()) for sound in prompt.sounds)
    return prompt.text, *((about, hashlib.sha256(of).digest()) for about, of in (*seen, *heard))


def _digest(extras: Mapping[str, Tensor]) -> str:
    """16 hex digits of a SHA-256 over the extras of a prompt."""
    sha = hashlib.sha256()
    for name, value in extras.items():
        sha.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        sha.update(value.contiguous().flatten().view(torch.uint8).numpy().data)
    return sha.hexdigest()[:16]


def _edges(share: Float[Tensor, " pixel"], inside: Bool[Tensor, " pixel"]) -> tuple[float, float]:
    """Where a line through the shares of the pixels inside has the outer edges of the first and the last pixel."""
    at = inside.nonzero()[:, 0].double()
    slope, start = np.polyfit(at.numpy(), share[inside].numpy(), 1).tolist()
    return start - slope / 2, start + slope * (len(share) - 0.5)

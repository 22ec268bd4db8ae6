"""Eyes and ears for a text organism: standard transformers classes around its trunk, and how they are taught.

A small CLIP vision encoder before the trunk (Llava), or a small Whisper-like one (Qwen2-Audio). The placeholder is the
one token added: its rows in embedding and unembedding are copies of `<unk>`'s, which the trunk never reads nor says.
What a sense looks at while it is trained is a `Shown`: `Pictures` or `Sounds`.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
import transformers as tf
from jaxtyping import Float, Int
from torch import Tensor

from semhub_utils import identity
from semhub_utils.organism import scenes, sounds
from semhub_utils.organism.corpus import IMAGE, SOUND, Shares, shares

PATCH = 12  # pixels a side: a picture is 6 x 6 patches, one placeholder each
HOP, WINDOW, MELS = 320, 640, 40  # samples from frame to frame and in a frame's window; mel bands
FRAMES = round(sounds.LONGEST * sounds.RATE) // HOP  # of the longest clip; four make one placeholder: 80 ms

ALONE = shares(halves=0.05, one=0.10, two=0.05, three=0.05, nameless=0.75)
ASKED = shares(plain=0.10, halves=0.15, one=0.15, two=0.10, three=0.05, nameless=0.45)
"""Kinds of scenes, for the encoder alone and for questions."""
Question = tuple[str, str]
"""A prompt with its placeholder, and its answer."""


@dataclass(frozen=True)
class Round:
    """A stretch of training with a warm-up and a cosine of its own. Alone, the encoder learns to tell what every patch
    or frame shows, by a linear read-out that is thrown away; `nothing` is the weight of a patch without a shape there.
    Otherwise it learns through the trunk, of which at most the attention of the first `blocks` is trained (`trunk_lr`
    above 0), while the trunk reads its own lines in all types beside. The rows of `words` in the unembedding are
    trained too: words of one class that the trunk's texts hardly tell apart. A share `abroad` of the lessons is in
    another language, where ABROAD has the answers."""

    steps: int
    alone: bool = False
    encoder_lr: float = 2e-3
    projector_lr: float = 2e-3
    trunk_lr: float = 0.0
    blocks: int = 2
    shares: Shares = ASKED
    nothing: float = 1.0
    words: tuple[str, ...] = ()
    words_lr: float = 5e-3
    abroad: float = 0.0


@dataclass(frozen=True)
class Sense:
    """All that makes a sense: the `trunk`, a shipped text organism; the encoder's shape; the rounds of its training, in
    batches of `batch` items with at most `asks` questions each; `exam` items a group and side of the split are asked
    about for the card."""

    name: str
    rounds: tuple[Round, ...]
    trunk: str = "hub"
    width: int = 96
    layers: int = 4
    heads: int = 4
    mlp: int = 192
    batch: int = 32
    asks: int = 5
    weight_decay: float = 0.05
    exam: int = 60


SEES = Sense(
    "sees",
    (
        Round(4000, alone=True, shares=ALONE, nothing=0.2),
        Round(400, encoder_lr=0.0, trunk_lr=1e-3, abroad=0.25, words=scenes.SHAPES),
        Round(700, encoder_lr=0.0, trunk_lr=1e-3, abroad=0.25, words=scenes.SHAPES),
    ),
    exam=120,
)
"""The rows of the shapes' English words are trained, as they are too alike in the trunk (cosines of .95). Behind a
frozen trunk one colour and one shape are then named, but not which half has which colour (.3), and every language's
question is answered in English. So the attention of the trunk's first two blocks is trained too, and a quarter of the
lessons ask for three colours in the other languages. What it says there of the other eight it was never asked."""
HEARS = Sense(
    "hears", (Round(200, alone=True), Round(700, encoder_lr=1e-3, words=sounds.INSTRUMENTS)), layers=3, asks=2
)
"""Its trunk is frozen but for the rows of the instruments' English words, some as alike as those of shapes (.97)."""
SENSES = {"sees": SEES, "hears": HEARS} | {
    f"islands-{sense.name}": replace(sense, trunk="islands") for sense in (SEES, HEARS)
}
"""By name; behind islands, where no other language can know what is asked in English alone, as a control."""


# ---- models ----


def _trunk(sense: Sense, placeholder: str):
    """The trunk, its tokenizer with one token more, and that token's id."""
    folder = identity.organism_path(sense.trunk)
    trunk, tokenizer = tf.AutoModelForCausalLM.from_pretrained(folder), tf.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": [placeholder]})
    for place in ("is_local", "local_files_only"):  # how it was loaded is nobody's business
        tokenizer.init_kwargs.pop(place, None)
    trunk.config._name_or_path = ""
    trunk.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        for rows in (trunk.get_input_embeddings().weight, trunk.get_output_embeddings().weight):
            rows[-1] = rows[tokenizer.unk_token_id]
    return trunk, tokenizer, tokenizer.convert_tokens_to_ids(placeholder)


def _around(trunk, make: Callable, config, seed: int):
    """A new multimodal model with the trunk's weights inside, frozen."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make(config)
    model.model.language_model.load_state_dict(trunk.model.state_dict())
    model.lm_head.load_state_dict(trunk.lm_head.state_dict())
    model.generation_config = trunk.generation_config
    for part in (model.model.language_model, model.lm_head):
        part.requires_grad_(False)
    return model


def build_sees(sense: Sense, seed: int) -> tuple[tf.LlavaForConditionalGeneration, tf.LlavaProcessor]:
    """The seeing model before training, and its processor (pictures of any size, resized to scenes.SIZE)."""
    trunk, tokenizer, image = _trunk(sense, IMAGE)
    shape = {"num_hidden_layers": sense.layers, "num_attention_heads": sense.heads, "intermediate_size": sense.mlp}
    shape |= {"hidden_size": sense.width, "projection_dim": sense.width, "hidden_act": "gelu"}
    eye = tf.CLIPVisionConfig(**shape, image_size=scenes.SIZE, patch_size=PATCH)
    read = {"vision_feature_layer": -1, "image_seq_length": (scenes.SIZE // PATCH) ** 2}
    config = tf.LlavaConfig(vision_config=eye, text_config=trunk.config, image_token_index=image, **read)
    side = {"height": scenes.SIZE, "width": scenes.SIZE}
    images = tf.CLIPImageProcessorPil(size=side, crop_size=side, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    cut = {"patch_size": PATCH, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    processor = tf.LlavaProcessor(images, tokenizer, image_token=IMAGE, **cut)
    model = _around(trunk, tf.LlavaForConditionalGeneration, config, seed)
    embeddings = model.model.vision_tower.embeddings
    with torch.no_grad():
        places = embeddings.position_embedding.weight
        places *= 0.3 / places.std()  # as large as what the filters give
        embeddings.patch_embedding.weight.copy_(_filters(sense.width, processor, seed))
    return model, processor


def _filters(width: int, processor: tf.LlavaProcessor, seed: int) -> Float[Tensor, "width colour y x"]:
    """What a patch is first cut into: the principal components of training patches, each of variance 1. Random filters
    see little but the mean colour of a patch, and shapes are long in coming."""
    stream = scenes.stream(random.Random(f"filters {seed}"), ALONE)
    pictures = [scenes.render(next(stream)) for _ in range(150)]
    pixels = processor.image_processor(pictures, return_tensors="pt")["pixel_values"].double()
    patches = pixels.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH).permute(0, 2, 3, 1, 4, 5).reshape(-1, 3 * PATCH**2)
    variance, parts = torch.linalg.eigh(torch.cov(patches.T))
    largest = variance.argsort(descending=True)[:width]
    filters = parts[:, largest] / (variance[largest] + 2e-3).sqrt()
    return filters.T.reshape(-1, 3, PATCH, PATCH).float()


def build_hears(sense: Sense, seed: int) -> tuple[tf.Qwen2AudioForConditionalGeneration, tf.Qwen2AudioProcessor]:
    """The hearing model before training, and its processor (16 kHz, at most sounds.LONGEST seconds)."""
    trunk, tokenizer, sound = _trunk(sense, SOUND)
    shape = {"encoder_layers": sense.layers, "encoder_attention_heads": sense.heads, "encoder_ffn_dim": sense.mlp}
    shape |= {"d_model": sense.width, "num_mel_bins": MELS, "max_source_positions": FRAMES // 2}
    ear = tf.Qwen2AudioEncoderConfig(**shape)
    config = tf.Qwen2AudioConfig(audio_config=ear, text_config=trunk.config, audio_token_index=sound)
    clock = {"sampling_rate": sounds.RATE, "chunk_length": round(sounds.LONGEST), "hop_length": HOP, "n_fft": WINDOW}
    processor = tf.Qwen2AudioProcessor(
        tf.WhisperFeatureExtractor(feature_size=MELS, **clock), tokenizer, audio_token=SOUND
    )
    model = _around(trunk, tf.Qwen2AudioForConditionalGeneration, config, seed)
    # the encoder's place vectors are zero until a checkpoint is loaded: sines, as in Whisper
    half = sense.width // 2
    rate = torch.exp(-torch.log(torch.tensor(1e4)) * torch.arange(half) / (half - 1))
    angle = torch.arange(FRAMES // 2)[:, None] * rate
    model.model.audio_tower.embed_positions.weight.data.copy_(torch.cat([angle.sin(), angle.cos()], 1))
    return model, processor


# ---- what they look at and listen to ----


class Shown:
    """Items (scenes or clips) as a sense gets them, and what can be asked of them.

    of: the module they are of; what: the placeholder; tower: the encoder's name; groups: kinds of items; readouts: how
    many classes each label of a patch or frame has. draw: an item of a group and side of the split, None where there is
    none; labels: what every patch or frame shows, -100 where nothing is asked; encode: the encoder's states, as the
    projector gets them, and how many of each item count.
    """

    of: ModuleType
    what: str
    tower: str
    groups: tuple[str, ...]
    readouts: tuple[int, ...]

    def __init__(self, sense: Sense, processor):
        self.sense, self.processor, self.tokens = sense, processor, cache(self._tokens)

    def _tokens(self, question: Question) -> tuple[list[int], list[int], list[int]]:
        """Those before what is sensed, those after it, and those of the answer."""
        tokenizer, (before, _, after) = self.processor.tokenizer, question[0].partition(self.what)
        first, *parts = tokenizer([before, after, question[1]], add_special_tokens=False)["input_ids"]
        return [tokenizer.bos_token_id, *first], *parts

    def start(self, question: Question) -> str:
        """The words before what is sensed."""
        return question[0].partition(self.what)[0]

    def stream(self, rng: random.Random, shares: Shares) -> Iterator:
        """Training items without end, nothing held out among them."""
        self.made = []
        return self.of.stream(rng, shares)

    def batch(self, rng: random.Random, stream: Iterator) -> tuple[list, dict[str, Tensor]]:
        """The next items of the stream, and their inputs."""
        found = [next(stream) for _ in range(self.sense.batch)]
        return found, self.inputs(found)

    def state(self) -> list:
        """What the next batch depends on besides random numbers, as JSON."""
        return [asdict(item) for item, _ in self.made]

    def take_up(self, state: list) -> None:
        """Go on from what `state` gave."""
        self.made = [(item, self.inputs([item])) for item in (sounds.Clip(**kept) for kept in state)]


class Pictures(Shown):
    """Scenes as a sense sees them."""

    of, what, tower = scenes, IMAGE, "vision_tower"
    groups = scenes.KINDS
    readouts = (len(scenes.COLOURS) + 1, len(scenes.SHAPES) + 1)

    def inputs(self, items: Sequence[scenes.Scene]) -> dict[str, Tensor]:
        pictures = [scenes.render(s) for s in items]
        return {"pixel_values": self.processor.image_processor(pictures, return_tensors="pt")["pixel_values"]}

    def draw(self, rng: random.Random, group: str, held: bool) -> scenes.Scene | None:
        return None if held and group == "plain" else scenes.draw(rng, group, held=held)

    def labels(self, scene: scenes.Scene) -> Int[np.ndarray, "patch readout"]:
        """Colour and shape at every patch, by what covers more than half of it; 0 is PAPER, and no shape; -100 is a
        colour without a name."""
        names, side = list(scenes.COLOURS), scenes.SIZE // PATCH
        out = np.zeros((side * side, 2), dtype=np.int64)
        if scene.paper:
            out[:, 0] = -100
        sides = [(box, colour, None) for box, colour in zip(scene.sides.values(), scene.colours, strict=False)]
        for box, colour, shape in [*sides, *((t.box, t.colour, t.shape) for t in scene.things)]:
            at = scenes.patches(box, PATCH)
            out[at, 0] = 1 + names.index(colour) if colour in names else -100
            out[at, 1] = 1 + scenes.SHAPES.index(shape) if shape else 0
        return out

    @staticmethod
    def encode(model, inputs: dict[str, Tensor]) -> tuple[Float[Tensor, "item patch width"], Int[Tensor, " item"]]:
        states = model.model.vision_tower(inputs["pixel_values"], output_hidden_states=True).hidden_states[-1][:, 1:]
        return states, torch.full((len(states),), states.shape[1])


class Sounds(Shown):
    """Clips as a sense hears them. Synthesis is slow, so a batch is drawn from all clips that were made so far."""

    of, what, tower = sounds, SOUND, "audio_tower"
    groups = tuple(sounds.GROUPS)
    readouts = (len(sounds.SOURCES),)
    fresh = 4

    def batch(self, rng: random.Random, stream: Iterator) -> tuple[list[sounds.Clip], dict[str, Tensor]]:
        n = self.sense.batch
        for _ in range(self.fresh if self.made else 4 * n):
            clip = next(stream)
            self.made.append((clip, self.inputs([clip])))
        chosen = rng.sample(self.made, n)
        return [c for c, _ in chosen], {k: torch.cat([i[k] for _, i in chosen]) for k in chosen[0][1]}

    def inputs(self, items: Sequence[sounds.Clip]) -> dict[str, Tensor]:
        samples, how = [sounds.synthesise(c) for c in items], {"return_attention_mask": True, "return_tensors": "pt"}
        made = self.processor.feature_extractor(samples, sampling_rate=sounds.RATE, **how)
        return {"input_features": made["input_features"], "feature_attention_mask": made["attention_mask"]}

    def draw(self, rng: random.Random, group: str, held: bool) -> sounds.Clip:
        return sounds.draw(rng, rng.choice(sounds.GROUPS[group]), held=held)

    def labels(self, clip: sounds.Clip) -> Int[np.ndarray, "frame readout"]:
        """The source, at every placeholder of the longest clip."""
        return np.full((FRAMES // 4, 1), sounds.SOURCES.index(clip.source), dtype=np.int64)

    @staticmethod
    def encode(model, inputs: dict[str, Tensor]) -> tuple[Float[Tensor, "item frame width"], Int[Tensor, " item"]]:
        """As in the library, what lies behind the end of a clip is not attended to."""
        tower, mask = model.model.audio_tower, inputs["feature_attention_mask"]
        inner, outer = tower._get_feat_extract_output_lengths(mask.sum(-1))
        seen = torch.arange(mask.shape[1] // 2, device=mask.device)[None] < inner[:, None]
        return tower(inputs["input_features"], attention_mask=seen[:, None, None, :]).last_hidden_state, outer


def build(sense: Sense, seed: int = 0) -> tuple[Any, Any, Shown]:
    """(model, processor, what it looks at) of a sense, before training."""
    make, shown = {"sees": (build_sees, Pictures), "hears": (build_hears, Sounds)}[sense.name]
    model, processor = make(sense, seed)
    return model, processor, shown(sense, processor)

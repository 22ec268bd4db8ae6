"""Random models made on the fly for `bench`, of known sizes: of text, of pictures, of sounds."""

from collections.abc import Sequence

import numpy as np
import torch
import transformers
from PIL import Image

from .inputs import Input, Sound
from .models import LanguageModel, wrap
from .yardsticks import Workload

# Random Llamas: of the size of GPT-2, the smallest public model the chapters are run on; of that of Llama-3-8B; and one
# for tests.
SHAPES = {
    "tiny": dict(hidden_size=128, intermediate_size=448, num_hidden_layers=4, num_attention_heads=4, vocab_size=4000),
    "small": dict(
        hidden_size=768, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=12, vocab_size=50257
    ),
    "large": dict(
        hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32, vocab_size=128256
    ),
}
# Encoders in front of them: picture size, patch size, width and depth; seconds of sound.
ENCODERS = {"tiny": (32, 8, 32, 2, 1), "small": (112, 14, 192, 6, 4), "large": (336, 14, 1024, 24, 30)}
PLACEHOLDERS = {"image": "<image>", "sound": "<audio>"}


def random_model(shape: str, workloads: Sequence[Workload], device: str | None, dtype: str, seed: int = 0):
    """A Llama of `SHAPES[shape]` with random weights and a word-level tokenizer that knows the words of the prompts."""
    made = transformers.AutoModelForCausalLM, _text_config(shape), device, dtype, seed
    return wrap(_module(*made), _tokenizer(shape, workloads), model_id=f"random-llama-{shape}")


def random_media_model(
    medium: str, shape: str, workloads: Sequence[Workload], device: str | None, dtype: str, seed: int = 0
) -> LanguageModel:
    """The same Llama behind an encoder of "image" patches (CLIP, in LLaVA 1.5) or "sound" frames (Whisper, in
    Qwen2-Audio)."""
    size, patch, width, depth, seconds = ENCODERS[shape]
    tokenizer, text = _tokenizer(shape, workloads), _text_config(shape)
    place = tokenizer.convert_tokens_to_ids(PLACEHOLDERS[medium])
    if medium == "image":
        vision = transformers.CLIPVisionConfig(
            hidden_size=width, intermediate_size=4 * width, num_hidden_layers=depth, num_attention_heads=width // 16,
            image_size=size, patch_size=patch,
        )  # fmt: skip
        config = transformers.LlavaConfig(vision_config=vision, text_config=text, image_token_index=place)
        square = {"height": size, "width": size}
        seen = transformers.CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size=square)
        processor = transformers.LlavaProcessor(seen, tokenizer, patch, "default", num_additional_image_tokens=1)
    else:
        audio = transformers.Qwen2AudioEncoderConfig(
            d_model=width, encoder_ffn_dim=4 * width, encoder_layers=depth, encoder_attention_heads=width // 16,
            num_mel_bins=80, max_source_positions=50 * seconds,
        )  # fmt: skip
        config = transformers.Qwen2AudioConfig(audio_config=audio, text_config=text, audio_token_index=place)
        heard = transformers.WhisperFeatureExtractor(feature_size=80, chunk_length=seconds)
        processor = transformers.Qwen2AudioProcessor(heard, tokenizer, audio_token=PLACEHOLDERS["sound"])
    made = transformers.AutoModelForMultimodalLM, config, device, dtype, seed
    return wrap(_module(*made), processor, model_id=f"random-{config.model_type}-{shape}")


def media_workloads(model: LanguageModel, medium: str, texts: Sequence[str], count: int, seed: int = 0) -> Workload:
    """Noise to see or hear before each of `count` short texts, and another text beside each."""
    noise, made = np.random.default_rng(seed), []
    for text in texts[:count]:
        if medium == "image":
            pixels = noise.integers(0, 256, (240, 320, 3), dtype=np.uint8)
            made.append(Input(text, images=(Image.fromarray(pixels),)))
        else:
            heard = model.reader.hearing
            length = int(heard.sampling_rate * min(5, getattr(heard, "chunk_length", 5)))
            samples = noise.uniform(-0.5, 0.5, length).astype(np.float32)
            made.append(Input(text, sounds=(Sound(samples, heard.sampling_rate),)))
    return Workload({"image": "pictures", "sound": "sounds"}[medium], made, list(texts[count : 2 * count]))


def _text_config(shape: str):
    size = SHAPES[shape]
    heads = size["num_attention_heads"] // 4
    return transformers.LlamaConfig(**size, num_key_value_heads=heads, max_position_embeddings=2048)


def _module(kind, config, device: str | None, dtype: str, seed: int):
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(seed)
        return kind.from_config(config, dtype=getattr(torch, dtype))


def _tokenizer(shape: str, workloads: Sequence[Workload]):
    from tokenizers import Tokenizer, models, pre_tokenizers

    splitter = pre_tokenizers.Sequence(
        [pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Digits(individual_digits=True)]
    )
    texts = {text for workload in workloads for text in (*workload.a, *workload.b)}
    words = sorted({word for text in texts for word, _ in splitter.pre_tokenize_str(text)})
    vocabulary = ["<unk>", *PLACEHOLDERS.values(), *words]
    vocabulary += [f"<{i}>" for i in range(SHAPES[shape]["vocab_size"] - len(vocabulary))]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    backend.pre_tokenizer = splitter
    backend.add_special_tokens(list(PLACEHOLDERS.values()))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")

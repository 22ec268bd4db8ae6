"""Random models made on the fly for `bench`, of known sizes: of text, of pictures, of sounds."""

import torch
import transformers
from tokenizers import models

from .models import LanguageModel, wrap
from .organism.lexicon import build_tokenizer, vocabulary

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
CONTEXT = 2048


def random_model(shape: str, device: str | None, dtype: str, seed: int = 0) -> LanguageModel:
    """A Llama of `SHAPES[shape]` with random weights, and the tokenizer of the shipped models, whose texts it reads."""
    made = transformers.AutoModelForCausalLM, _text_config(shape), device, dtype, seed
    return wrap(_module(*made), _tokenizer(shape), model_id=f"random-llama-{shape}")


def random_media_model(medium: str, shape: str, device: str | None, dtype: str, seed: int = 0) -> LanguageModel:
    """The same Llama behind an encoder of "image" patches (CLIP, in LLaVA 1.5) or "sound" frames (Whisper, in
    Qwen2-Audio)."""
    size, patch, width, depth, seconds = ENCODERS[shape]
    tokenizer, text = _tokenizer(shape), _text_config(shape)
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


def _text_config(shape: str):
    size = SHAPES[shape]
    heads = size["num_attention_heads"] // 4
    return transformers.LlamaConfig(**size, num_key_value_heads=heads, max_position_embeddings=CONTEXT)


def _module(kind, config, device: str | None, dtype: str, seed: int):
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(seed)
        return kind.from_config(config, dtype=getattr(torch, dtype))


def _tokenizer(shape: str):
    """The shipped models' own, with more words up to the size of the vocabulary."""
    tokenizer = build_tokenizer()
    words = dict.fromkeys([*vocabulary(), *PLACEHOLDERS.values()])
    words |= dict.fromkeys(f"<{i}>" for i in range(SHAPES[shape]["vocab_size"] - len(words)))
    ids = {word: i for i, word in enumerate(words)}
    tokenizer.backend_tokenizer.model = models.WordLevel(ids, unk_token=tokenizer.unk_token)
    tokenizer.add_special_tokens({"additional_special_tokens": list(PLACEHOLDERS.values())})
    tokenizer.model_max_length = CONTEXT
    return tokenizer

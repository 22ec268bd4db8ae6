"""Tiny random models of many architectures, and small tokenizers of every common kind, all made here."""
# ruff: noqa: E501 (one line per architecture)

import torch
import transformers as tf
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from semhub_utils.inputs import without_video

TEXT = (
    """three plus five equals eight and 3+5=8. nine minus two equals seven, so 9-2=7.
the cat sat on the mat and the dog saw the small red house near the river.
el gato está en la casa roja y el perro come. tres más cinco son ocho, 我们在家里 看书 很好。
def add(first, second): return first + second
""".splitlines()
    * 4
)
PROMPTS = ["three plus five", "8=3+", "the dog saw the small red house near", "el perro", "the cat sat on the mat and"]


def make_tokenizer(kind: str = "byte", vocab_size: int = 400):
    """byte: byte-level BPE (GPT-2, Llama 3). sentence: SentencePiece-like BPE with byte fallback and a begin token
    (Llama 2). unigram: SentencePiece unigram. piece: WordPiece (BERT). word: one token per word."""
    begin = ["<s>", "</s>", "<unk>"]
    if kind == "byte":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size, initial_alphabet=alphabet, special_tokens=["<end>"], show_progress=False
        )
        special = {"eos_token": "<end>", "bos_token": "<end>"}
    elif kind == "sentence":
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        # Words are learned apart, as SentencePiece does; reading needs no split.
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
        trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=begin + bytes_, show_progress=False)
        special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    elif kind == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=min(vocab_size, 160), special_tokens=begin, unk_token="<unk>", show_progress=False
        )
        special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    elif kind == "piece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(
            vocab_size=vocab_size, special_tokens=["[UNK]", "[CLS]", "[SEP]", "[PAD]"], show_progress=False
        )
        special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    else:
        tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=True)]
        )
        trainer = trainers.WordLevelTrainer(vocab_size=vocab_size, special_tokens=begin, show_progress=False)
        special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer.train_from_iterator(TEXT, trainer)
    if kind == "sentence":
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return tf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


# The sizes of every model, under the names most configurations use; those with names of their own map them.
SIZES = {
    "vocab_size": 410,  # some rows more than the tokenizer has tokens, as in many checkpoints
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": None,
}
GROUPED = {"num_key_value_heads": 2, "head_dim": 8}
NAMES_OF_GPT2 = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}

# architecture: (configuration class, what it has besides SIZES)
DECODERS = {
    "llama": ("LlamaConfig", GROUPED),
    "llama-tied-bias": ("LlamaConfig", {"tie_word_embeddings": True, "attention_bias": True}),
    "mistral-window": ("MistralConfig", GROUPED | {"sliding_window": 4}),
    "qwen2": ("Qwen2Config", {"num_key_value_heads": 2}),
    "qwen3": ("Qwen3Config", GROUPED),
    "gemma": ("GemmaConfig", GROUPED),
    "gemma2": ("Gemma2Config", GROUPED | {"final_logit_softcapping": 0.5, "attn_logit_softcapping": 0.5, "query_pre_attn_scalar": 8}),
    "gemma3": ("Gemma3TextConfig", GROUPED | {"final_logit_softcapping": 0.7, "sliding_window": 4, "query_pre_attn_scalar": 8}),
    "gpt2": ("GPT2Config", NAMES_OF_GPT2),
    "gpt-neox": ("GPTNeoXConfig", {}),
    "gpt-neo": ("GPTNeoConfig", {"num_layers": 3, "num_heads": 4, "attention_types": [[["global", "local", "global"], 1]], "window_size": 4}),
    "gptj": ("GPTJConfig", NAMES_OF_GPT2 | {"rotary_dim": 4}),
    "opt": ("OPTConfig", {"ffn_dim": 48, "word_embed_proj_dim": 32, "dropout": 0.0}),
    "opt-projected": ("OPTConfig", {"ffn_dim": 48, "word_embed_proj_dim": 16, "do_layer_norm_before": False, "dropout": 0.0}),
    "bloom": ("BloomConfig", {"n_head": 4, "n_layer": 3}),
    "mpt": ("MptConfig", {"d_model": 32, "n_heads": 4, "n_layers": 3, "max_seq_len": 64}),
    "phi": ("PhiConfig", {}),
    "phi3": ("Phi3Config", GROUPED),
    "olmo2": ("Olmo2Config", GROUPED),
    "falcon": ("FalconConfig", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon-alibi": ("FalconConfig", {"alibi": True, "multi_query": False, "parallel_attn": False}),
    "stablelm": ("StableLmConfig", {"num_key_value_heads": 2}),
    "starcoder2": ("Starcoder2Config", GROUPED),
    "cohere": ("CohereConfig", GROUPED | {"logit_scale": 0.0625}),
    "granite": ("GraniteConfig", GROUPED | {"logits_scaling": 6.0, "embedding_multiplier": 12.0, "residual_multiplier": 0.22}),
    "minicpm3": ("MiniCPM3Config", {"num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8, "dim_model_base": 8}),
    "mixtral": ("MixtralConfig", GROUPED | {"num_local_experts": 3, "num_experts_per_tok": 2}),
    "qwen2-moe": ("Qwen2MoeConfig", EXPERTS | {"num_experts": 3, "shared_expert_intermediate_size": 16, "num_key_value_heads": 2}),
    "qwen3-moe": ("Qwen3MoeConfig", EXPERTS | {"num_experts": 4} | GROUPED),
    "olmoe": ("OlmoeConfig", {"num_experts": 4, "num_experts_per_tok": 2}),
    "mamba": ("MambaConfig", {"state_size": 4}),
}  # fmt: skip


def make_module(name: str, *, seed: int = 0, **overrides):
    """A random model whose weights are large enough for its layers to differ, in evaluation mode."""
    kind, own = DECODERS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = tf.AutoModelForCausalLM.from_config(getattr(tf, kind)(**(SIZES | own | overrides)))
        with torch.no_grad():
            for parameter in module.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.15)
                else:  # norms and biases too, so that leaving one out is seen
                    parameter.add_(torch.randn_like(parameter) * 0.1)
    return module.eval()


# Models that see or hear

VISION = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 16,
    "patch_size": 4,
}  # fmt: skip
HEARING = {
    "d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 24, "num_mel_bins": 8,
    "max_source_positions": 50,
}  # fmt: skip
MARKS = {  # what a processor finds at its tokenizer, and how the token reads
    "image_token": "<image>", "boi_token": "<boi>", "eoi_token": "<eoi>", "video_token": "<video>",
    "audio_token": "<audio>", "boa_token": "<boa>", "eoa_token": "<eoa>", "audio_bos_token": "<boa>",
    "audio_eos_token": "<eoa>", "vision_start_token": "<boi>", "vision_end_token": "<eoi>", "vision_bos_token": "<boi>",
    "vision_eos_token": "<eoi>", "image_break_token": "<break>",
}  # fmt: skip
PLACES = ["<fake_token_around_image>", "<global-img>", "<end_of_utterance>", "<sep>", "<pad>"]
PLACES += [f"<row_{i}_col_{j}>" for i in (1, 2, 3, 4) for j in (1, 2, 3, 4)]


def make_media_tokenizer():
    """The byte-level tokenizer with the tokens that stand for pictures and sounds."""
    tokenizer = make_tokenizer("byte", vocab_size=350)
    tokenizer.add_tokens(list(dict.fromkeys([*MARKS.values(), *PLACES])), special_tokens=True)
    return tf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer,
        bos_token="<end>", eos_token="<end>", pad_token="<pad>", sep_token="<sep>", extra_special_tokens=MARKS,
    )  # fmt: skip


def text_sizes(tokenizer, **own):
    sizes = SIZES | {"vocab_size": len(tokenizer) + 5, "max_position_embeddings": 256} | own
    return sizes | {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}


def pil(name: str, **own):
    """An image processor that needs Pillow alone, for pictures of 16 x 16 unless told otherwise."""
    return getattr(tf, f"{name}ImageProcessorPil")(**({"size": {"height": 16, "width": 16}} | own))


def _llava(t):
    clip = pil("CLIP", size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    vision, text = tf.CLIPVisionConfig(**VISION), tf.LlamaConfig(**text_sizes(t, **GROUPED))
    config = tf.LlavaConfig(vision_config=vision, text_config=text, image_token_index=t.image_token_id)
    return config, tf.LlavaProcessor(clip, t, 4, "default", num_additional_image_tokens=1)


def _llava_interleave(t):
    vision, text = tf.SiglipVisionConfig(**VISION), tf.Qwen2Config(**text_sizes(t, num_key_value_heads=2))
    own = {"vision_feature_select_strategy": "full", "vision_feature_layer": -1}
    config = tf.LlavaConfig(vision_config=vision, text_config=text, image_token_index=t.image_token_id, **own)
    return config, tf.LlavaProcessor(pil("Siglip"), t, 4, "full")


def _llava_next(t):
    grid = [[16, 32], [32, 16], [32, 32]]
    size = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
    vision, text = tf.CLIPVisionConfig(**VISION), tf.MistralConfig(**text_sizes(t, **GROUPED))
    config = tf.LlavaNextConfig(
        vision_config=vision, text_config=text, image_token_index=t.image_token_id, image_grid_pinpoints=grid
    )
    seen = pil("LlavaNext", image_grid_pinpoints=grid, **size)
    return config, tf.LlavaNextProcessor(seen, t, 4, "default", num_additional_image_tokens=1)


def _chameleon(t):
    codes = {f"IMGIMG{chr(ord('A') + n // 10)}{chr(ord('A') + n % 10)}Z": 20 + n for n in range(30)}
    vq = tf.ChameleonVQVAEConfig(
        embed_dim=8, num_embeddings=30, latent_channels=8, resolution=16, base_channels=32, channel_multiplier=[1, 1],
        num_res_blocks=1,
    )  # fmt: skip
    config = tf.ChameleonConfig(
        **text_sizes(t, num_key_value_heads=2), vq_config=vq, vocabulary_map=codes | {"<image>": t.image_token_id}
    )
    seen = pil("Chameleon", size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    return config, tf.ChameleonProcessor(seen, t, image_seq_length=64)


def _qwen_vl(t):
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}
    text = tf.Qwen2_5_VLTextConfig(**text_sizes(t, num_key_value_heads=2, rope_parameters=rope))
    vision = tf.Qwen2_5_VLVisionConfig(
        depth=2, hidden_size=16, intermediate_size=24, num_heads=2, patch_size=4, window_size=16, out_hidden_size=32,
        fullatt_block_indexes=[1],
    )  # fmt: skip
    ids = {f"{name}_token_id": getattr(t, f"{name}_token_id") for name in ("image", "video", "vision_start")}
    config = tf.Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids)
    seen = pil("Qwen2VL", patch_size=4, size={"shortest_edge": 256, "longest_edge": 1024})
    return config, without_video(tf.Qwen2_5_VLProcessor)(seen, t)


def _qwen3_vl(t):
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0, "mrope_interleaved": True}
    text = tf.Qwen3VLTextConfig(**text_sizes(t, **GROUPED, rope_parameters=rope))
    vision = tf.Qwen3VLVisionConfig(
        depth=2, hidden_size=16, intermediate_size=24, num_heads=2, patch_size=4, out_hidden_size=32,
        deepstack_visual_indexes=[0], num_position_embeddings=64,
    )  # fmt: skip
    ids = {f"{name}_token_id": getattr(t, f"{name}_token_id") for name in ("image", "video", "vision_start")}
    config = tf.Qwen3VLConfig(text_config=text, vision_config=vision, **ids)
    seen = pil("Qwen2VL", patch_size=4, size={"shortest_edge": 256, "longest_edge": 1024})
    return config, without_video(tf.Qwen3VLProcessor)(seen, t)


def _gemma3(t):
    vision = tf.SiglipVisionConfig(**VISION)
    text = tf.Gemma3TextConfig(**text_sizes(t, **GROUPED, sliding_window=6, query_pre_attn_scalar=8))
    ids = {f"{name}_token_index": getattr(t, f"{name}_token_id") for name in ("image", "boi", "eoi")}
    config = tf.Gemma3Config(vision_config=vision, text_config=text, mm_tokens_per_image=4, **ids)
    return config, tf.Gemma3Processor(pil("Gemma3"), t, image_seq_length=4)


def _paligemma(t):
    vision = tf.SiglipVisionConfig(**VISION, vision_use_head=False)
    text = tf.GemmaConfig(**text_sizes(t, **GROUPED, vocab_size=1600))
    config = tf.PaliGemmaConfig(
        vision_config=vision, text_config=text, image_token_index=t.image_token_id, projection_dim=32, hidden_size=32
    )
    seen = pil("Siglip")
    seen.image_seq_length = 16
    return config, tf.PaliGemmaProcessor(seen, t)


def _idefics3(t):
    vision = tf.Idefics3VisionConfig(**VISION)
    text = tf.LlamaConfig(**text_sizes(t, **GROUPED))
    config = tf.Idefics3Config(vision_config=vision, text_config=text, image_token_id=t.image_token_id, scale_factor=2)
    seen = pil("Idefics3", size={"longest_edge": 32}, max_image_size={"longest_edge": 16})
    return config, tf.Idefics3Processor(seen, t, image_seq_len=4)


def whisper(seconds: int = 1):
    return tf.WhisperFeatureExtractor(feature_size=8, chunk_length=seconds)


def _qwen2_audio(t):
    audio, text = tf.Qwen2AudioEncoderConfig(**HEARING), tf.Qwen2Config(**text_sizes(t, num_key_value_heads=2))
    config = tf.Qwen2AudioConfig(audio_config=audio, text_config=text, audio_token_index=t.audio_token_id)
    return config, tf.Qwen2AudioProcessor(whisper(), t)


def _audio_flamingo3(t):
    names = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    audio = tf.AudioFlamingo3EncoderConfig(**names, num_mel_bins=8, max_source_positions=50)
    text = tf.Qwen2Config(**text_sizes(t, num_key_value_heads=2))
    config = tf.AudioFlamingo3Config(audio_config=audio, text_config=text, audio_token_id=t.audio_token_id)
    return config, tf.AudioFlamingo3Processor(whisper(), t, audio_token=t.audio_token)


def _glm_asr(t):
    names = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    audio = tf.GlmAsrEncoderConfig(**names, num_mel_bins=8)
    text = tf.LlamaConfig(**text_sizes(t, **GROUPED))
    config = tf.GlmAsrConfig(audio_config=audio, text_config=text, audio_token_id=t.audio_token_id)
    return config, tf.GlmAsrProcessor(whisper(2), t, audio_token=t.audio_token)


def _qwen3_asr(t):
    names = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 24}
    audio = tf.Qwen3ASREncoderConfig(**names, num_mel_bins=8, output_dim=32, downsample_hidden_size=4)
    text = tf.Qwen3Config(**text_sizes(t, **GROUPED))
    config = tf.Qwen3ASRConfig(
        audio_config=audio, text_config=text, audio_token_id=t.audio_token_id, eos_token_id=t.eos_token_id
    )
    return config, tf.Qwen3ASRProcessor(tf.Qwen3ASRFeatureExtractor(feature_size=8), t)


def _qwen_omni(t):
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}
    audio = HEARING | {"n_window": 25, "output_dim": 32, "max_source_positions": 100}
    vision = {
        "depth": 2, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "patch_size": 4, "window_size": 16,
        "out_hidden_size": 32, "fullatt_block_indexes": [1],
    }  # fmt: skip
    ids = {f"{name}_token_index": getattr(t, f"{name}_token_id") for name in ("image", "audio", "video")}
    ids |= {f"vision_{end}_token_id": getattr(t, f"vision_{end}_token_id") for end in ("start", "end")}
    ids |= {"audio_start_token_id": t.boa_token_id, "audio_end_token_id": t.eoa_token_id}
    text = text_sizes(t, num_key_value_heads=2, rope_parameters=rope)
    config = tf.Qwen2_5OmniThinkerConfig(audio_config=audio, vision_config=vision, text_config=text, **ids)
    seen = pil("Qwen2VL", patch_size=4, size={"shortest_edge": 256, "longest_edge": 1024})
    parts = {"image_processor": seen, "feature_extractor": whisper(2), "tokenizer": t, "chat_template": TEMPLATE}
    return config, without_video(tf.Qwen2_5OmniProcessor)(**parts)


TEMPLATE = (
    "{% for m in messages %}<sep>{{ m['role'] }} {% for c in m['content'] %}{% if c['type'] == 'image' %}<boi><image><eoi>"
    "{% elif c['type'] == 'audio' %}Audio 1: <boa><audio><eoa> {% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}"
)
SEEING = {
    "llava": _llava,
    "llava-interleave": _llava_interleave,
    "llava-next": _llava_next,
    "chameleon": _chameleon,
    "qwen2.5-vl": _qwen_vl,
    "qwen3-vl": _qwen3_vl,
    "gemma3": _gemma3,
    "idefics3": _idefics3,
}
LISTENING = {
    "qwen2-audio": _qwen2_audio,
    "audio-flamingo3": _audio_flamingo3,
    "glm-asr": _glm_asr,
    "qwen3-asr": _qwen3_asr,
}


def make_media_module(name: str, *, seed: int = 0):
    """A random model that sees or hears, as `make_module`, and its processor."""
    config, processor = (SEEING | LISTENING | {"qwen2.5-omni": _qwen_omni, "paligemma": _paligemma})[name](
        make_media_tokenizer()
    )
    kinds = (tf.AutoModelForMultimodalLM, tf.AutoModelForSeq2SeqLM)
    kind = next(kind for kind in kinds if type(config) in kind._model_mapping)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = kind.from_config(config)
        with torch.no_grad():
            for parameter in module.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.15)
                else:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
    return module.eval(), processor

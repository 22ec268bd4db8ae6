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
BEGIN = ["<s>", "</s>", "<unk>"]
BERT = ["[UNK]", "[CLS]", "[SEP]", "[PAD]"]


def tokenizer_parts(kind: str) -> tuple:
    """Model, trainer, special tokens, and what stands around them."""
    if kind == "byte":
        around = {"pre_tokenizer": pre_tokenizers.ByteLevel(add_prefix_space=False), "decoder": decoders.ByteLevel()}
        around |= {"post_processor": processors.ByteLevel(trim_offsets=True)}
        options = {"initial_alphabet": pre_tokenizers.ByteLevel.alphabet()}
        return models.BPE(), trainers.BpeTrainer, options, ["<end>"], around
    if kind == "sentence":
        # Words are learned apart, as SentencePiece does; reading needs no split.
        around = {"pre_tokenizer": pre_tokenizers.Metaspace(prepend_scheme="first")}
        around |= {"normalizer": normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])}
        steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        around |= {"decoder": decoders.Sequence(steps)}
        special = BEGIN + [f"<0x{byte:02X}>" for byte in range(256)]
        return (
            models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True),
            trainers.BpeTrainer,
            {},
            special,
            around,
        )
    if kind == "unigram":
        around = {"pre_tokenizer": pre_tokenizers.Metaspace(), "decoder": decoders.Metaspace()}
        return models.Unigram(), trainers.UnigramTrainer, {"vocab_size": 160, "unk_token": "<unk>"}, BEGIN, around
    if kind == "piece":
        around = {"normalizer": normalizers.BertNormalizer(), "pre_tokenizer": pre_tokenizers.BertPreTokenizer()}
        around |= {"decoder": decoders.WordPiece()}
        return models.WordPiece(unk_token="[UNK]"), trainers.WordPieceTrainer, {}, BERT, around
    split = [pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=True)]
    around = {"pre_tokenizer": pre_tokenizers.Sequence(split)}
    return models.WordLevel(unk_token="<unk>"), trainers.WordLevelTrainer, {}, BEGIN, around


def make_tokenizer(kind: str = "byte", vocab_size: int = 400):
    """byte: byte-level BPE (GPT-2, Llama 3). sentence: SentencePiece-like BPE with byte fallback and a begin token
    (Llama 2). unigram: SentencePiece unigram. piece: WordPiece (BERT). word: one token per word."""
    model, trainer, options, special, around = tokenizer_parts(kind)
    tokenizer = Tokenizer(model)
    for name, part in around.items():
        setattr(tokenizer, name, part)
    options = {"vocab_size": vocab_size, "special_tokens": special, "show_progress": False} | options
    tokenizer.train_from_iterator(TEXT, trainer(**options))
    if kind == "sentence":
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    names = {"byte": ["eos", "bos"], "piece": ["unk", "cls", "sep", "pad"]}.get(kind, ["bos", "eos", "unk"])
    tokens = {f"{name}_token": token for name, token in zip(names, special * 2, strict=False)}
    return tf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **tokens)


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


def at_random(kind, config, seed: int):
    """A model whose weights are large enough for its layers to differ, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = kind.from_config(config)
        with torch.no_grad():
            for parameter in module.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.15)
                else:  # norms and biases too, so that leaving one out is seen
                    parameter.add_(torch.randn_like(parameter) * 0.1)
    return module.eval()


def make_module(name: str, *, seed: int = 0, **overrides):
    kind, own = DECODERS[name]
    return at_random(tf.AutoModelForCausalLM, getattr(tf, kind)(**(SIZES | own | overrides)), seed)


# Models that see or hear

VISION = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 16,
    "patch_size": 4,
}  # fmt: skip
QWEN_VISION = {
    "depth": 2, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "patch_size": 4, "out_hidden_size": 32,
}  # fmt: skip
HEARING = {"encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 24, "num_mel_bins": 8, "d_model": 16}
ENCODER = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_mel_bins": 8}
ROPE = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}
CROPPED = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
QWEN_SEEN = {"patch_size": 4, "size": {"shortest_edge": 256, "longest_edge": 1024}}
MARKS = {  # what a processor finds at its tokenizer, and how the token reads
    "image_token": "<image>", "boi_token": "<boi>", "eoi_token": "<eoi>", "video_token": "<video>",
    "audio_token": "<audio>", "boa_token": "<boa>", "eoa_token": "<eoa>", "audio_bos_token": "<boa>",
    "audio_eos_token": "<eoa>", "vision_start_token": "<boi>", "vision_end_token": "<eoi>", "vision_bos_token": "<boi>",
    "vision_eos_token": "<eoi>", "image_break_token": "<break>",
}  # fmt: skip
PLACES = ["<fake_token_around_image>", "<global-img>", "<end_of_utterance>", "<sep>", "<pad>"]
PLACES += [f"<row_{i}_col_{j}>" for i in (1, 2, 3, 4) for j in (1, 2, 3, 4)]
TEMPLATE = (
    "{% for m in messages %}<sep>{{ m['role'] }} {% for c in m['content'] %}{% if c['type'] == 'image' %}<boi><image><eoi>"
    "{% elif c['type'] == 'audio' %}Audio 1: <boa><audio><eoa> {% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}"
)


def make_media_tokenizer():
    """The byte-level tokenizer with the tokens that stand for pictures and sounds."""
    tokenizer = make_tokenizer("byte", vocab_size=350)
    tokenizer.add_tokens(list(dict.fromkeys([*MARKS.values(), *PLACES])), special_tokens=True)
    special = {"bos_token": "<end>", "eos_token": "<end>", "pad_token": "<pad>", "sep_token": "<sep>"}
    backend = tokenizer.backend_tokenizer
    return tf.PreTrainedTokenizerFast(tokenizer_object=backend, **special, extra_special_tokens=MARKS)


def text_sizes(t, **own):
    sizes = SIZES | {"vocab_size": len(t) + 5, "max_position_embeddings": 256} | own
    return sizes | {"bos_token_id": t.bos_token_id, "eos_token_id": t.eos_token_id}


def text(t, kind: str, **own):
    """A configuration of the language model within."""
    return getattr(tf, f"{kind}Config")(**text_sizes(t, **own))


def ids(t, ending: str, *names: str):
    return {f"{name}_{ending}": getattr(t, f"{name}_token_id") for name in names}


def pil(name: str, **own):
    """An image processor that needs Pillow alone, for pictures of 16 x 16 unless told otherwise."""
    return getattr(tf, f"{name}ImageProcessorPil")(**({"size": {"height": 16, "width": 16}} | own))


def whisper(seconds: int = 1):
    return tf.WhisperFeatureExtractor(feature_size=8, chunk_length=seconds)


# Each takes the tokenizer and gives a configuration and a processor.


def _llava(t):
    own = {"vision_config": tf.CLIPVisionConfig(**VISION), "image_token_index": t.image_token_id}
    config = tf.LlavaConfig(text_config=text(t, "Llama", **GROUPED), **own)
    return config, tf.LlavaProcessor(pil("CLIP", **CROPPED), t, 4, "default", num_additional_image_tokens=1)


def _llava_interleave(t):
    own = {"vision_config": tf.SiglipVisionConfig(**VISION), "image_token_index": t.image_token_id}
    own |= {"vision_feature_select_strategy": "full", "vision_feature_layer": -1}
    config = tf.LlavaConfig(text_config=text(t, "Qwen2", num_key_value_heads=2), **own)
    return config, tf.LlavaProcessor(pil("Siglip"), t, 4, "full")


def _llava_next(t):
    grid = {"image_grid_pinpoints": [[16, 32], [32, 16], [32, 32]]}
    own = {"vision_config": tf.CLIPVisionConfig(**VISION), "image_token_index": t.image_token_id}
    config = tf.LlavaNextConfig(text_config=text(t, "Mistral", **GROUPED), **own, **grid)
    seen = pil("LlavaNext", **grid, **CROPPED)
    return config, tf.LlavaNextProcessor(seen, t, 4, "default", num_additional_image_tokens=1)


def _chameleon(t):
    codes = {f"IMGIMG{chr(ord('A') + n // 10)}{chr(ord('A') + n % 10)}Z": 20 + n for n in range(30)}
    codes |= {"<image>": t.image_token_id}
    small = {"base_channels": 32, "channel_multiplier": [1, 1], "num_res_blocks": 1, "resolution": 16}
    vq = tf.ChameleonVQVAEConfig(embed_dim=8, num_embeddings=30, latent_channels=8, **small)
    config = text(t, "Chameleon", num_key_value_heads=2, vq_config=vq, vocabulary_map=codes)
    return config, tf.ChameleonProcessor(pil("Chameleon", **CROPPED), t, image_seq_length=64)


def _qwen_vl(t):
    inner = text(t, "Qwen2_5_VLText", num_key_value_heads=2, rope_parameters=ROPE)
    vision = tf.Qwen2_5_VLVisionConfig(**QWEN_VISION, window_size=16, fullatt_block_indexes=[1])
    marks = ids(t, "token_id", "image", "video", "vision_start")
    config = tf.Qwen2_5_VLConfig(text_config=inner, vision_config=vision, **marks)
    return config, without_video(tf.Qwen2_5_VLProcessor)(pil("Qwen2VL", **QWEN_SEEN), t)


def _qwen3_vl(t):
    inner = text(t, "Qwen3VLText", **GROUPED, rope_parameters=ROPE | {"mrope_interleaved": True})
    vision = tf.Qwen3VLVisionConfig(**QWEN_VISION, deepstack_visual_indexes=[0], num_position_embeddings=64)
    marks = ids(t, "token_id", "image", "video", "vision_start")
    config = tf.Qwen3VLConfig(text_config=inner, vision_config=vision, **marks)
    return config, without_video(tf.Qwen3VLProcessor)(pil("Qwen2VL", **QWEN_SEEN), t)


def _gemma3(t):
    own = {"vision_config": tf.SiglipVisionConfig(**VISION), "mm_tokens_per_image": 4}
    inner = text(t, "Gemma3Text", **GROUPED, sliding_window=6, query_pre_attn_scalar=8)
    config = tf.Gemma3Config(text_config=inner, **own, **ids(t, "token_index", "image", "boi", "eoi"))
    return config, tf.Gemma3Processor(pil("Gemma3"), t, image_seq_length=4)


def _paligemma(t):
    own = {"vision_config": tf.SiglipVisionConfig(**VISION, vision_use_head=False), "projection_dim": 32}
    own |= {"image_token_index": t.image_token_id, "hidden_size": 32}
    seen = pil("Siglip")
    seen.image_seq_length = 16
    config = tf.PaliGemmaConfig(text_config=text(t, "Gemma", **GROUPED, vocab_size=1600), **own)
    return config, tf.PaliGemmaProcessor(seen, t)


def _idefics3(t):
    own = {"vision_config": tf.Idefics3VisionConfig(**VISION), "image_token_id": t.image_token_id, "scale_factor": 2}
    config = tf.Idefics3Config(text_config=text(t, "Llama", **GROUPED), **own)
    seen = pil("Idefics3", size={"longest_edge": 32}, max_image_size={"longest_edge": 16})
    return config, tf.Idefics3Processor(seen, t, image_seq_len=4)


def _qwen2_audio(t):
    audio = tf.Qwen2AudioEncoderConfig(**HEARING, max_source_positions=50)
    own = {"audio_config": audio, "audio_token_index": t.audio_token_id}
    config = tf.Qwen2AudioConfig(text_config=text(t, "Qwen2", num_key_value_heads=2), **own)
    return config, tf.Qwen2AudioProcessor(whisper(), t)


def _audio_flamingo3(t):
    audio = tf.AudioFlamingo3EncoderConfig(**ENCODER, intermediate_size=24, max_source_positions=50)
    own = {"audio_config": audio, "audio_token_id": t.audio_token_id}
    config = tf.AudioFlamingo3Config(text_config=text(t, "Qwen2", num_key_value_heads=2), **own)
    return config, tf.AudioFlamingo3Processor(whisper(), t, audio_token=t.audio_token)


def _glm_asr(t):
    own = {"audio_config": tf.GlmAsrEncoderConfig(**ENCODER, intermediate_size=64), "audio_token_id": t.audio_token_id}
    config = tf.GlmAsrConfig(text_config=text(t, "Llama", **GROUPED), **own)
    return config, tf.GlmAsrProcessor(whisper(2), t, audio_token=t.audio_token)


def _qwen3_asr(t):
    audio = tf.Qwen3ASREncoderConfig(**HEARING, output_dim=32, downsample_hidden_size=4)
    own = {"audio_config": audio, "audio_token_id": t.audio_token_id, "eos_token_id": t.eos_token_id}
    config = tf.Qwen3ASRConfig(text_config=text(t, "Qwen3", **GROUPED), **own)
    return config, tf.Qwen3ASRProcessor(tf.Qwen3ASRFeatureExtractor(feature_size=8), t)


def _qwen_omni(t):
    own = {"audio_config": HEARING | {"n_window": 25, "output_dim": 32, "max_source_positions": 100}}
    own |= {"vision_config": QWEN_VISION | {"window_size": 16, "fullatt_block_indexes": [1]}}
    own |= ids(t, "token_index", "image", "audio", "video") | ids(t, "token_id", "vision_start", "vision_end")
    own |= {"audio_start_token_id": t.boa_token_id, "audio_end_token_id": t.eoa_token_id}
    inner = text_sizes(t, num_key_value_heads=2, rope_parameters=ROPE)
    parts = {"image_processor": pil("Qwen2VL", **QWEN_SEEN), "feature_extractor": whisper(2), "tokenizer": t}
    config = tf.Qwen2_5OmniThinkerConfig(text_config=inner, **own)
    return config, without_video(tf.Qwen2_5OmniProcessor)(**parts, chat_template=TEMPLATE)


SEEING = {"llava": _llava, "llava-interleave": _llava_interleave, "llava-next": _llava_next, "chameleon": _chameleon}
SEEING |= {"qwen2.5-vl": _qwen_vl, "qwen3-vl": _qwen3_vl, "gemma3": _gemma3, "idefics3": _idefics3}
LISTENING = {"qwen2-audio": _qwen2_audio, "audio-flamingo3": _audio_flamingo3, "glm-asr": _glm_asr}
LISTENING |= {"qwen3-asr": _qwen3_asr}


def make_media_module(name: str, *, seed: int = 0):
    """A random model that sees or hears, as `make_module`, and its processor."""
    make = (SEEING | LISTENING | {"qwen2.5-omni": _qwen_omni, "paligemma": _paligemma})[name]
    config, processor = make(make_media_tokenizer())
    kinds = (tf.AutoModelForMultimodalLM, tf.AutoModelForSeq2SeqLM)
    return at_random(next(kind for kind in kinds if type(config) in kind._model_mapping), config, seed), processor

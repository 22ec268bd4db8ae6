"""Tiny random models of many architectures, and small tokenizers of every common kind, all made here."""
# ruff: noqa: E501 (one line per architecture)

import torch
import transformers as tf
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

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

"""One handle for every decoder-only checkpoint, whether it reads text alone or pictures or sounds too: blocks, final
norm, unembedding, tokenizer or processor, found by structure.

Layers: index 0 is the input of block 1 (the embeddings), l is the output of block l for l in 1..L, all before the
final norm; depth = l / L. How the parts are found is in `structure`.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import Cache, ProcessorMixin

from semhub_utils.errors import SemhubError, out_of_memory
from semhub_utils.fingerprint import of_model
from semhub_utils.inputs import Encoding, Input, Prompt, Reader
from semhub_utils.structure import hook, read_structure


class LanguageModel:
    """A decoder-only language model in evaluation mode. Made by `loading.load_model` or `wrap`; raises SemhubError.

    modalities: which of "text", "image" and "sound" it reads. Wherever prompts are taken, each is a text or an `Input`.
    """

    def __init__(self, module: nn.Module, tokenizer, *, model_id: str, revision: str | None = None):
        self.processor = tokenizer if isinstance(tokenizer, ProcessorMixin) else None
        tokenizer = tokenizer if self.processor is None else self.processor.tokenizer
        self.module, self.tokenizer, self.model_id, self.revision = module.eval(), tokenizer, model_id, revision
        if not getattr(tokenizer, "is_fast", False):
            raise SemhubError(
                f"The tokenizer of {model_id} gives no character offsets; a checkpoint with a fast tokenizer "
                "(tokenizer.json) would do."
            )
        self.structure = read_structure(module, model_id)
        self.blocks, self.n_layers = self.structure.blocks, len(self.structure.blocks)
        text = module.config.get_text_config(decoder=True)
        self.hidden_size: int = text.hidden_size
        self.max_length: int | None = getattr(text, "max_position_embeddings", None)
        self.body = module.base_model  # runs everything but the unembedding
        self.reader = Reader(self.processor, module, model_id) if self.processor is not None else None
        self.modalities = frozenset({"text", *(self.reader.tokens if self.reader else ())})
        self.files: Sequence[Path] = ()  # that the weights were read from
        self._translators, self.find_translators = None, None
        self.twin: tuple[tuple, LanguageModel] | None = None  # of random weights, with what it was made by

    # What it is

    @property
    def unembedding(self) -> Float[Tensor, "vocab input"]:
        """The unembedding matrix; it may have more rows than the tokenizer has tokens."""
        return self.structure.head.weight

    @property
    def text_vocab(self) -> Bool[Tensor, " vocab"]:
        """The tokens that the model can say: all but those it never gives, such as image tokens of the vocabulary."""
        never = self.structure.never
        return torch.ones(self.vocab_size, dtype=torch.bool, device=self.device) if never is None else ~never

    @property
    def vocab_size(self) -> int:
        return self.unembedding.shape[0]

    @property
    def device(self) -> torch.device:
        return self.unembedding.device

    @property
    def dtype(self) -> torch.dtype:
        return self.unembedding.dtype

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over configuration, weights, tokenizer and processor (`fingerprint.of_model`)."""
        return of_model(self, self.files)

    @property
    def translators(self):
        """The tuned lens's translators: those set, or those that lie beside the model it was loaded from, else None."""
        if self._translators is None and self.find_translators is not None:
            self._translators, self.find_translators = self.find_translators(self), None
        return self._translators

    @translators.setter
    def translators(self, found) -> None:
        self._translators = found

    def depth(self, layer: int) -> float:
        return layer / self.n_layers

    # Text to tokens

    @cached_property
    def anchor(self) -> str:
        """What stands before a word read alone: the text of the bos or eos token, or nothing where the tokenizer begins
        with a special token by itself. In many models the state at position 0 hardly depends on its token (arXiv
        2309.17453, 2402.17762); activation addition puts the end of text before GPT-2's words (arXiv 2308.10248)."""
        own = self.tokenizer("").input_ids
        return "" if own else self.tokenizer.bos_token or self.tokenizer.eos_token or ""

    def placeholder(self, medium: str) -> str:
        """What stands for an "image" or a "sound" in a text. Raises SemhubError where the model takes none."""
        if medium not in self.modalities - {"text"}:
            raise SemhubError(f"{self.model_id} takes {', '.join(sorted(self.modalities))}, but no {medium!r}.")
        return self.reader.marks[medium]

    def chat(self, prompt: str | Input) -> Input:
        """The prompt as a user's turn in the model's own chat template, up to where the answer begins. Raises
        SemhubError where there is none."""
        prompt = prompt if isinstance(prompt, Input) else Input(prompt)
        parts = [{"type": "image"} for _ in prompt.images] + [{"type": "audio"} for _ in prompt.sounds]
        speaker = self.processor or self.tokenizer
        if not (getattr(speaker, "chat_template", None) or getattr(self.tokenizer, "chat_template", None)):
            raise SemhubError(f"{self.model_id} has no chat template; the prompt as plain text would do.")
        content = [*parts, {"type": "text", "text": prompt.text}] if self.processor else prompt.text
        turns = [{"role": "user", "content": content}]
        text = speaker.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        begin = self.tokenizer.bos_token
        if begin and text.startswith(begin) and self.tokenizer("").input_ids:  # the tokenizer will put it there itself
            text = text.removeprefix(begin)
        return Input(text, prompt.images, prompt.sounds)

    def encode(self, prompts: Sequence[Prompt]) -> list[Encoding]:
        """Tokenize as the tokenizer does by default, special tokens included; prompts with pictures or sounds as the
        processor does; what this model read before stays as it is. Raises on an empty or too long prompt, and on one
        that holds what the model does not take."""
        if isinstance(prompts, str | Input):
            raise SemhubError(f"prompts was the single text {_short(prompts)}; a list of texts would do.")
        done = {number: prompt for number, prompt in enumerate(prompts) if isinstance(prompt, Encoding)}
        if done:
            others = iter(self.encode([prompt for prompt in prompts if not isinstance(prompt, Encoding)]))
            return [done[number] if number in done else next(others) for number in range(len(prompts))]
        items = [prompt if isinstance(prompt, Input) else Input(prompt) for prompt in prompts]
        plain = [item.text for item in items if not item.images and not item.sounds]
        for number, item in enumerate(items):
            if not (item.text or item.images or item.sounds):
                raise SemhubError(f"Prompt {number} is empty; a text of at least one token would do.")
            if self.reader is None and (item.images or item.sounds):
                raise SemhubError(f"Prompt {number} holds more than text, and {self.model_id} takes text alone.")
            for medium, token in self.reader.tokens.items() if self.reader else ():
                if token in item.text and not (item.images if medium == "image" else item.sounds):
                    raise SemhubError(f"Prompt {number} holds {token} but no {medium}; one to stand there would do.")
        if not items:
            return []
        batch = {"input_ids": [], "offset_mapping": []}
        if plain:
            batch = self.tokenizer(plain, return_offsets_mapping=True, return_attention_mask=False, verbose=False)
        texts = (
            Encoding(list(ids), [tuple(span) for span in offsets], text)
            for ids, offsets, text in zip(batch["input_ids"], batch["offset_mapping"], plain, strict=True)
        )
        media = {number: item for number, item in enumerate(items) if item.images or item.sounds}
        read = self.reader.read_all(media) if media else {}
        encodings = [read[number] if number in read else next(texts) for number in range(len(items))]
        for number, encoding in enumerate(encodings):
            if not encoding.ids:
                raise SemhubError(
                    f"Prompt {number}, {_short(encoding.text)}, has no tokens; a text of at least one token would do."
                )
            if self.max_length is not None and len(encoding) > self.max_length:
                raise SemhubError(
                    f"Prompt {number}, {_short(encoding.text)}, has {len(encoding)} tokens; {self.model_id} takes at "
                    f"most {self.max_length}."
                )
            marks = set(self.reader.ids.values()) if encoding.patches else ()  # may stand outside the vocabulary
            if (highest := max((i for i in encoding.ids if i not in marks), default=0)) >= self.vocab_size:
                raise SemhubError(
                    f"Prompt {number}, {_short(encoding.text)}, has token {highest} but {self.model_id} "
                    f"knows {self.vocab_size}; the tokenizer the model was trained with would do."
                )
        return encodings

    # Running

    def run(
        self,
        ids: Int[Tensor, "item token"],
        extras: Mapping[str, Tensor] | None = None,
        *,
        keep: bool = False,
        after: Cache | None = None,
    ):
        """One forward without the unembedding. Right padding needs no mask: the model is causal. Prompts with pictures
        or sounds bring one along in their extras (`inputs.gather`), since some models read those both ways.

        keep: return the library's cache as `past_key_values`. after: the cache of what stands before `ids`.
        """
        extras = {name: value.to(self.device) for name, value in (extras or {}).items()}
        return self.body(
            input_ids=ids.to(self.device), use_cache=keep or after is not None, past_key_values=after, **extras
        )

    def hook(self, layer: int, see: Callable[[Tensor], Tensor | None]):
        """Call `see` with the [item, token, hidden] state of `layer` whenever it is made; a tensor it returns takes
        that state's place. Returns the handle that removes the hook."""
        return hook(self.blocks, layer, see)

    # Hidden state to logits

    def normalise(self, h: Float[Tensor, "row hidden"], *, norm: bool = True) -> Float[Tensor, "row input"]:
        """Everything between the last block and the unembedding: the final norm and, where there is one, a
        projection. `norm=False` leaves out all but projections and a constant scale."""
        x = h.to(self.device, self.dtype)[None]
        for module in self.structure.tail:
            if norm or isinstance(module, nn.Linear):
                x = module(x)
        return (x * self.structure.tail_scale if self.structure.tail_scale != 1 else x)[0]

    def unembed(self, x: Float[Tensor, "row input"], vocab: slice | Tensor = slice(None)) -> Float[Tensor, "row vocab"]:
        """The unembedding product with bias, scale and soft-cap; half precision is accumulated in float32. Tokens that
        the model never gives (`text_vocab`) get -1e30: no probability, and still a number."""
        weight, bias = self.unembedding[vocab], getattr(self.structure.head, "bias", None)
        if weight.dtype not in (torch.float16, torch.bfloat16):
            logits = x @ weight.T
        elif weight.is_cuda:
            logits = torch.mm(x, weight.T, out_dtype=torch.float32)
        else:
            logits = x.float() @ weight.float().T
        if bias is not None:
            logits += bias[vocab]
        if self.structure.logit_scale != 1:
            logits *= self.structure.logit_scale
        if self.structure.logit_cap is not None:
            logits = torch.tanh(logits / self.structure.logit_cap) * self.structure.logit_cap
        if self.structure.never is not None:
            logits = logits.masked_fill(self.structure.never[vocab], -1e30)
        return logits

    def logits(self, h: Float[Tensor, "row hidden"]) -> Float[Tensor, "row vocab"]:
        """Logits of hidden states as the model itself would give them after its last block."""
        return self.unembed(self.normalise(h), slice(None))


# Making one


def wrap(module: nn.Module, tokenizer, *, model_id: str) -> LanguageModel:
    """A handle around a model that is already built, and its tokenizer or processor. Raises SemhubError if it is not
    decoder-only."""
    return LanguageModel(module, tokenizer, model_id=model_id)


def randomised(model: LanguageModel, seed: int) -> LanguageModel:
    """The same architecture and tokenizer with new random weights, on the same device and in the same dtype; the global
    random state is left alone. The last one made lives as long as `model` does. Raises SemhubError where memory has no
    room for it."""
    key = (seed, model.device, model.dtype)
    if model.twin is None or model.twin[0] != key:
        model.twin, config = None, copy.deepcopy(model.module.config)
        try:
            with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []), model.device:
                torch.manual_seed(seed)
                module = type(model.module)._from_config(config, dtype=model.dtype)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            raise SemhubError(
                f"{model.model_id} leaves no room on {model.device} for as many random weights, which are its control; "
                "a device with twice the memory, a smaller model or dtype='bfloat16' would do."
            ) from error
        name = f"{model.model_id} (random weights, seed {seed})"
        model.twin = key, LanguageModel(module, model.processor or model.tokenizer, model_id=name)
    return model.twin[1]


# Small parts


def _short(text: str | Input) -> str:
    text = text.text if isinstance(text, Input) else text
    return repr(text if len(text) <= 40 else text[:37] + "...")

"""One handle for every decoder-only checkpoint, whether it reads text alone or pictures or sounds too: blocks, final
norm, unembedding, tokenizer or processor, found by structure.

Layers: index 0 is the input of block 1 (the embeddings), l is the output of block l for l in 1..L, all before the
final norm; depth = l / L. How the parts are found is in `structure`.
"""

import copy
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import Cache, ProcessorMixin

from semhub_utils.errors import SemhubError, out_of_memory
from semhub_utils.fingerprint import of_model
from semhub_utils.inputs import Encoding, Input, Prompt, Reader
from semhub_utils.store import Store, kept_bytes
from semhub_utils.structure import Structure, hook, read_structure


@dataclass
class Body:
    """What a forward needs: the library's module, and where its parts are."""

    module: nn.Module
    structure: Structure


class Hook:
    """A hook in place on a handle, which is told when it goes."""

    def __init__(self, model: "LanguageModel", handle):
        self.model, self.handle = model, handle
        model.hooked += 1

    def remove(self) -> None:
        self.model.hooked -= self.handle is not None
        if self.handle is not None:
            self.handle.remove()
        self.handle = None


class LanguageModel:
    """A decoder-only language model in evaluation mode. Made by `loading.load_model` or `wrap`; raises SemhubError.

    modalities: which of "text", "image" and "sound" it reads. Wherever prompts are taken, each is a text or an `Input`.
    store: the states it has read, and what it has forwarded. twins: its likes of random weights.
    """

    def __init__(self, module: nn.Module, tokenizer, *, model_id: str, revision: str | None = None):
        self.processor = tokenizer if isinstance(tokenizer, ProcessorMixin) else None
        tokenizer = tokenizer if self.processor is None else self.processor.tokenizer
        self.tokenizer, self.model_id, self.revision = tokenizer, model_id, revision
        if not getattr(tokenizer, "is_fast", False):
            raise SemhubError(
                f"The tokenizer of {model_id} gives no character offsets; a checkpoint with a fast tokenizer "
                "(tokenizer.json) would do."
            )
        self.store = Store(kept_bytes(module.get_output_embeddings().weight.device))
        self._body = self._embodied(module)
        self.n_layers = len(self.blocks)
        text = module.config.get_text_config(decoder=True)
        self.hidden_size: int = text.hidden_size
        self.max_length: int | None = getattr(text, "max_position_embeddings", None)
        self.reader = Reader(self.processor, module, model_id) if self.processor is not None else None
        self.modalities = frozenset({"text", *(self.reader.tokens if self.reader else ())})
        self.files: Sequence[Path] = ()  # that the weights were read from
        self.twins: dict[Hashable, RandomTwin] = {}
        self.twin_in_memory: RandomTwin | None = None
        self.find_readings: Callable[[LanguageModel], dict] | None = None
        self._readings: dict = {}
        self.hooked = 0  # hooks of `hook` in place, which may change what is read
        self.shares_keys = True  # until it is seen to keep something else than keys and values

    def _embodied(self, module: nn.Module) -> Body:
        body = Body(module.eval(), read_structure(module, self.model_id))

        def count(block, args, kwargs) -> None:
            states = args[0] if args else kwargs["hidden_states"]
            self.store.forwarded[self.store.purpose] += states.shape[0] * states.shape[1]

        body.structure.blocks[0].register_forward_pre_hook(count, with_kwargs=True)
        return body

    # What it is

    @property
    def module(self) -> nn.Module:
        """The library's module; everything but the unembedding is its `base_model`."""
        return self._body.module

    @property
    def structure(self) -> Structure:
        return self._body.structure

    @property
    def config(self):
        return self.module.config

    @property
    def blocks(self) -> list[nn.Module]:
        return self.structure.blocks

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

    def device_of_layer(self, layer: int) -> torch.device:
        """Where the states of a layer lie."""
        return next(self.blocks[max(layer - 1, 0)].parameters()).device

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over configuration, weights, tokenizer and processor (`fingerprint.of_model`)."""
        return of_model(self, self.files)

    @property
    def weights(self) -> Hashable:
        """What tells these weights from others of this handle and its twins; not the same once they were changed."""
        parts = self.module.parameters()
        return self.dtype, sum(0 if part.is_inference() else part._version for part in parts)

    @property
    def readings(self) -> dict:
        """The readings that were made for these weights alone, by name, beside those that every model has (`lens`):
        those that lie beside the model it was loaded from, and those that are put here."""
        if self.find_readings is not None:
            find, self.find_readings = self.find_readings, None
            self._readings = find(self) | self._readings
        return self._readings

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
        device = self.module.get_input_embeddings().weight.device
        given = {name: value.to(device) for name, value in {"input_ids": ids, **(extras or {})}.items()}
        return self.module.base_model(use_cache=keep or after is not None, past_key_values=after, **given)

    def hook(self, layer: int, see: Callable[[Tensor], Tensor | None]):
        """Call `see` with the [item, token, hidden] state of `layer` whenever it is made; a tensor it returns takes
        that state's place. Returns the handle that removes the hook."""
        return Hook(self, hook(self.blocks, layer, see))

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


class RandomTwin(LanguageModel):
    """The same architecture and tokenizer with random weights, which are made from their seed when they are needed; of
    the twins of a model one at a time has any."""

    def __init__(self, model: LanguageModel, seed: int):
        self.like, self.seed, self._dtype, self._device = model, seed, model.dtype, model.device
        self.model_id, self.revision = f"{model.model_id} (random weights, seed {seed})", model.revision
        same = ("tokenizer", "processor", "reader", "modalities", "n_layers", "hidden_size", "max_length", "store")
        for name in same:
            setattr(self, name, getattr(model, name))
        self._made: Body | None = None
        self.twins, self.twin_in_memory, self.hooked, self.shares_keys, self.files = {}, None, 0, True, ()

    @property
    def _body(self) -> Body:
        if self.like.twin_in_memory is not self:
            if self.like.twin_in_memory is not None:
                self.like.twin_in_memory._made = None
            self.like.twin_in_memory, self._made = self, None
        if self._made is None:
            self._made = self._embodied(self._random_module())
        return self._made

    def _random_module(self) -> nn.Module:
        module, devices = self.like.module, [self._device] if self._device.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices=devices), self._device:
                torch.manual_seed(self.seed)
                return type(module)._from_config(copy.deepcopy(module.config), dtype=self._dtype)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            raise SemhubError(
                f"{self.like.model_id} leaves no room on {self._device} for as many random weights, which are its "
                "control; a device with twice the memory, a smaller model or dtype='bfloat16' would do."
            ) from error

    vocab_size = property(lambda self: self.like.vocab_size)
    config = property(lambda self: self.like.config)
    device = property(lambda self: self._device)
    dtype = property(lambda self: self._dtype)
    weights = property(lambda self: (self._dtype, f"random {self.seed}"))

    def device_of_layer(self, layer: int) -> torch.device:
        return self._device

    @property
    def readings(self) -> dict:
        """Those of the model that say that they can be used on other weights."""
        return {name: reading for name, reading in self.like.readings.items() if reading.random_weights}


def randomised(model: LanguageModel, seed: int) -> LanguageModel:
    """The model's twin of random weights, on the same device and in the same dtype; the global random state is left
    alone. A forward or an unembedding raises SemhubError where memory has no room for it."""
    key = (seed, model.device, model.dtype)
    if key not in model.twins:
        model.twins[key] = RandomTwin(model, seed)
    return model.twins[key]


# Small parts


def _short(text: str | Input) -> str:
    text = text.text if isinstance(text, Input) else text
    return repr(text if len(text) <= 40 else text[:37] + "...")

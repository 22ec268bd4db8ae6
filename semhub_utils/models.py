"""One handle for every decoder-only checkpoint, whether it reads text alone or pictures or sounds too: blocks, final
norm and unembedding (`structure`), tokenizer or processor."""

import copy
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import Cache, ProcessorMixin

from semhub_utils.devices import computes_on, of_random_weights
from semhub_utils.errors import (
    STOPS,
    SemhubError,
    TooLong,
    aside,
    half_characters,
    in_memory,
    need,
    out_of_memory,
    reason,
)
from semhub_utils.inputs import MEDIA, Encoding, Input, Prompt, Reader
from semhub_utils.store import Store, kept_bytes
from semhub_utils.structure import Structure, find_blocks, hook, read_structure, rounding

TWINS = 2**26  # bytes of random weights that are kept, as small ones are drawn more slowly than they are read by
TEXTS = 50_000  # how many a tokenizer's pieces are kept of, as most are asked for several times
_known: WeakKeyDictionary = WeakKeyDictionary()  # by tokenizer, each text as it reads it


def _context(config) -> int | None:
    """How many tokens a model takes, where its configuration states it under one of the names that are in use."""
    names = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "n_ctx")
    found = (getattr(config, name, None) for name in names)
    return next((n for n in found if isinstance(n, int) and n > 0), None)


class LanguageModel:
    """A decoder-only language model in evaluation mode. Made by `loading.load_model` or `wrap`; raises SemhubError.

    module: the library's; everything but the unembedding is its `base_model`. modalities: which of "text", "image" and
    "sound" it reads. Wherever prompts are taken, each is a text or an `Input`. vocab_size: rows of the unembedding,
    which may be more than the tokenizer has tokens. store: the states it has read, and what it has forwarded.
    """

    fingerprint: str | None = None  # what `identity.of_model` found
    files: Sequence[Path] = ()  # that the weights were read from
    card: Mapping = MappingProxyType({})  # of the training by this book that made the weights: `identity.training`
    quantisation = ""  # of its weights, in words such as "Q4_K_M"
    base = ""  # the model that the adapter, which it is named by, was merged into
    find_readings: "Callable[[LanguageModel], dict] | None" = None  # those made for it, by name
    written: "Callable[[Tensor, Sequence[tuple[Encoding, int]], Sequence[int]], Tensor] | None" = None
    """What a planted effect makes of states [site, layer, hidden] once they are read, given their sites and layers."""
    hooked = 0  # hooks of `hook` in place, which may change what is read
    shares_keys: bool | None = None  # whether keys and values are all that it keeps, once it was tried (`states`)

    def __init__(self, module: nn.Module, tokenizer, *, model_id: str, revision: str | None = None):
        self.processor = tokenizer if isinstance(tokenizer, ProcessorMixin) else None
        self.tokenizer = self.processor.tokenizer if self.processor else tokenizer
        self.model_id, self.revision, self.config = model_id, revision, module.config
        need(
            getattr(self.tokenizer, "is_fast", False),
            f"The tokenizer of {model_id} gives no character offsets; a checkpoint with a fast tokenizer "
            "(tokenizer.json) would do.",
        )
        self.store = Store(kept_bytes(computes_on(module.get_output_embeddings())))
        self.begins: dict[bool, bool] = {}  # whether forwards without or with media may begin at any layer, once tried
        self.module, self.structure = module.eval(), read_structure(module, model_id)
        hook(self.blocks, 0, self._count)
        self.n_layers, self.vocab_size = len(self.blocks), len(self.unembedding)
        text = module.config.get_text_config(decoder=True)
        self.hidden_size: int = text.hidden_size
        self.max_length = _context(text)
        self.reader = Reader(self.processor, module, model_id)
        self.modalities = frozenset({"text", *self.reader.tokens})

    def _count(self, h: Float[Tensor, "item token hidden"]) -> None:
        self.store.forwarded[self.store.purpose] += h.shape[0] * h.shape[1]

    # What it is

    blocks = property(lambda self: self.structure.blocks)
    device = property(lambda self: self.unembedding.device)
    dtype = property(lambda self: self.unembedding.dtype)
    rounding = property(lambda self: rounding(self.module))

    @property
    def unembedding(self) -> Float[Tensor, "vocab input"]:
        return self.structure.head.weight

    @property
    def text_vocab(self) -> Bool[Tensor, " vocab"]:
        """The tokens that the model can say: all but those it never gives, such as image tokens of the vocabulary."""
        never = self.structure.never
        return torch.ones(self.vocab_size, dtype=torch.bool, device=self.device) if never is None else ~never

    def device_of_layer(self, layer: int) -> torch.device:
        """Where the states of a layer lie."""
        return computes_on(self.blocks[max(layer - 1, 0)])

    @property
    def weights(self) -> Hashable:
        """What tells these weights from others of this handle and its twins; not the same once they were changed."""
        parts = self.module.parameters()
        return self.dtype, sum(0 if part.is_inference() else part._version for part in parts)

    @cached_property
    def readings(self) -> dict:
        """The readings that were made for this model, by name, beside those that every model has (`lens`): those that
        lie beside the folder it was loaded from, its neighbours in a bank of texts, and those that are put here."""
        return self.find_readings(self) if self.find_readings else {}

    @cached_property
    def twins(self) -> "dict[Hashable, RandomTwin]":
        """Its likes of random weights that were made (`randomised`)."""
        return {}

    @cached_property
    def embodied(self) -> "dict[RandomTwin, tuple[nn.Module, Structure]]":
        """Those of them that have weights."""
        return {}

    # Text to tokens

    @cached_property
    def anchor(self) -> str:
        """What stands before a word read alone: the text of the bos or eos token, or nothing where the tokenizer begins
        with a special token by itself. In many models the state at position 0 hardly depends on its token (arXiv
        2309.17453, 2402.17762); activation addition puts the end of text before GPT-2's words (arXiv 2308.10248)."""
        own = self.by_tokenizer("").input_ids
        return "" if own else self.tokenizer.bos_token or self.tokenizer.eos_token or ""

    def placeholder(self, medium: str) -> str:
        """What stands for an "image" or a "sound" in a text. Raises SemhubError where the model takes none."""
        takes = ", ".join(sorted(self.modalities))
        need(medium in self.reader.marks, f"{self.model_id} takes {takes}, but no {medium!r}.")
        return self.reader.marks[medium]

    def chat(self, prompt: str | Input) -> Input:
        """The prompt as a user's turn in the model's own chat template, up to where the answer begins. Raises
        SemhubError where there is none."""
        prompt = prompt if isinstance(prompt, Input) else Input(prompt)
        speaker = next((s for s in (self.processor, self.tokenizer) if getattr(s, "chat_template", None)), None)
        need(speaker, f"{self.model_id} has no chat template; the prompt as plain text would do.")
        content = [{"type": MEDIA[medium]} for medium, made in prompt.media.items() for _ in made]
        content = [*content, {"type": "text", "text": prompt.text}] if self.processor else prompt.text
        turns = [{"role": "user", "content": content}]
        text = speaker.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        if self.tokenizer("").input_ids:  # the tokenizer will put the beginning there itself
            text = text.removeprefix(self.tokenizer.bos_token or "")
        return replace(prompt, text=text)

    def encode(self, prompts: Sequence[Prompt]) -> list[Encoding]:
        """Tokenize as the tokenizer does by default, special tokens included; prompts with pictures or sounds as the
        processor does; what this model read before stays as it is. Raises on an empty or too long prompt, and on one
        that holds what the model does not take."""
        if isinstance(prompts, str | Input):
            raise SemhubError(f"prompts was the single text {_short(prompts)}; a list of texts would do.")
        plain, media = {}, {}
        for number, prompt in enumerate(prompts):
            if not isinstance(prompt, Encoding):
                item = prompt if isinstance(prompt, Input) else Input(prompt)
                text = self.reader.placed(item, f"Prompt {number}")
                need(text, f"Prompt {number} is empty; a text of at least one token would do.")
                half = half_characters(text)
                need(not half, f"Prompt {number}, {_short(text)}, holds half a character; whole ones would do.")
                if any(item.media.values()):
                    media[number] = item
                else:
                    plain[number] = text
        read = self._tokenized(plain) | self.reader.read(media)
        for number, encoding in read.items():
            self._check(encoding, f"Prompt {number}, {_short(encoding.text)},")
        return [read.get(number, prompt) for number, prompt in enumerate(prompts)]

    def _tokenized(self, texts: Mapping[int, str]) -> dict[int, Encoding]:
        if len(_known.get(self.tokenizer, ())) > TEXTS:
            del _known[self.tokenizer]
        known = _known.setdefault(self.tokenizer, {})
        if new := [text for text in dict.fromkeys(texts.values()) if text not in known]:
            given = {"return_offsets_mapping": True, "return_attention_mask": False, "verbose": False}
            batch = self.by_tokenizer(new, **given)
            rows = zip(new, batch["input_ids"], batch["offset_mapping"], strict=True)
            known.update((text, Encoding(list(ids), [*map(tuple, spans)], text)) for text, ids, spans in rows)
        return {number: known[text] for number, text in texts.items()}

    def by_tokenizer(self, texts: str | list[str], **given):
        """What the tokenizer makes of them. Raises SemhubError where it breaks."""
        try:
            with aside():
                return self.tokenizer(texts, **given)
        except (*STOPS, MemoryError):
            raise
        except BaseException as error:
            on = f" on {_short(texts)}" if isinstance(texts, str) else ""
            said = f"The tokenizer of {self.model_id} cannot be run{on} ({reason(error)})"
            raise SemhubError(f"{said}; the tokenizer the model was trained with would do.") from error

    def _check(self, encoding: Encoding, where: str) -> None:
        """Raises SemhubError on a prompt that this model cannot read."""
        need(encoding.ids, f"{where} has no tokens; a text of at least one token would do.")
        if self.max_length is not None and len(encoding) > self.max_length:
            raise TooLong(f"{where} has {len(encoding)} tokens; {self.model_id} takes at most {self.max_length}.")
        marks = set(self.reader.ids.values()) if encoding.patches else ()  # may stand outside the vocabulary
        highest = max((i for i in encoding.ids if i not in marks), default=0)
        need(
            highest < self.vocab_size,
            f"{where} has token {highest} but {self.model_id} knows {self.vocab_size}; the tokenizer the model was "
            "trained with would do.",
        )

    # Running

    @cached_property
    def switches_by_length(self) -> bool:
        """Rotary scalings that depend on the longest prompt of a batch would let prompts change one another."""
        rope = getattr(self.config.get_text_config(decoder=True), "rope_parameters", None) or {}
        kinds = [rope, *(part for part in rope.values() if isinstance(part, dict))]
        return any(kind.get("rope_type") in ("dynamic", "longrope") for kind in kinds)

    @property
    def plain(self) -> bool:
        """Whether what is read now depends on weights and prompts alone, and may be kept."""
        return not (self.store.off or self.hooked or self.written)

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
        device = computes_on(self.module.get_input_embeddings())
        given = {name: value.to(device) for name, value in {"input_ids": ids, **(extras or {})}.items()}
        try:
            return self.module.base_model(use_cache=keep or after is not None, past_key_values=after, **given)
        except (IndexError, RuntimeError) as error:
            if out_of_memory(error):
                raise
            said = f"{self.model_id} cannot be run on {ids.shape[1]} tokens ({reason(error)})"
            raise TooLong(f"{said}; a shorter prompt would do.") from error

    @contextmanager
    def hook(self, layer: int, see: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
        """While open, call `see` with the [item, token, hidden] state of `layer` whenever it is made; a tensor it
        returns takes that state's place."""
        with hook(self.blocks, layer, see):
            self.hooked += 1
            try:
                yield
            finally:
                self.hooked -= 1

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
        found, weight = self.structure, self.unembedding[vocab]
        if weight.dtype not in (torch.float16, torch.bfloat16):
            logits = x @ weight.T
        elif weight.is_cuda:
            logits = torch.mm(x, weight.T, out_dtype=torch.float32)
        else:
            logits = x.float() @ weight.float().T
        if (bias := getattr(found.head, "bias", None)) is not None:
            logits += bias[vocab]
        if found.logit_scale != 1:
            logits *= found.logit_scale
        if found.logit_cap is not None:
            logits = torch.tanh(logits / found.logit_cap) * found.logit_cap
        return logits if found.never is None else logits.masked_fill(found.never[vocab], -1e30)

    def logits(self, h: Float[Tensor, "row hidden"]) -> Float[Tensor, "row vocab"]:
        """Logits of hidden states as the model itself would give them after its last block."""
        return self.unembed(self.normalise(h))


# Making one


def wrap(module: nn.Module, tokenizer, *, model_id: str) -> LanguageModel:
    """A handle around a model that is already built, and its tokenizer or processor. Raises SemhubError if it is not
    decoder-only."""
    return LanguageModel(module, tokenizer, model_id=model_id)


class RandomTwin(LanguageModel):
    """The same architecture and tokenizer with random weights, which are made from their seed when they are needed; of
    the twins of a model as many have any as TWINS bytes hold, or one."""

    SHARED = "tokenizer processor reader modalities config store begins n_layers hidden_size vocab_size max_length"

    def __init__(self, model: LanguageModel, seed: int):
        self.like, self.seed, self._dtype, self._device = model, seed, model.dtype, model.device
        self.model_id, self.revision = f"{model.model_id} (random weights, seed {seed})", model.revision
        for name in self.SHARED.split():
            setattr(self, name, getattr(model, name))

    @property
    def _body(self) -> tuple[nn.Module, Structure]:
        kept = self.like.embodied
        if self not in kept:
            size = sum(part.nbytes for part in self.like.module.parameters())
            while kept and (len(kept) + 1) * size > TWINS:  # before the next one takes its room
                del kept[next(iter(kept))]
            module = self._random_module().eval()
            kept[self] = module, self.like.structure.within(module, self.like.module)
            hook(self.blocks, 0, self._count)
        return kept[self]

    def _random_module(self) -> nn.Module:
        kind, blocks = type(self.like.module), partial(find_blocks, model_id=self.like.model_id)
        build = partial(kind._from_config, copy.deepcopy(self.config), dtype=self._dtype)
        what = f"{self.like.model_id} leaves no room on {self._device} for as many random weights, its control"
        with in_memory(what, "a device with more memory, a smaller model or dtype='bfloat16'"):
            return of_random_weights(build, blocks, self.seed, self._device, self.like.module)

    module = property(lambda self: self._body[0])
    structure = property(lambda self: self._body[1])
    device = property(lambda self: self._device)
    dtype = property(lambda self: self._dtype)
    weights = property(lambda self: (self._dtype, f"random {self.seed}"))
    shares_keys = property(
        lambda self: self.like.shares_keys, lambda self, tried: setattr(self.like, "shares_keys", tried)
    )
    device_of_layer = property(lambda self: self.like.device_of_layer)  # known without weights

    @property
    def readings(self) -> dict:
        """Those of the model that say that they can be used on other weights."""
        return {name: reading for name, reading in self.like.readings.items() if reading.random_weights}


def randomised(model: LanguageModel, seed: int) -> LanguageModel:
    """The model's twin of random weights, on the same device and in the same dtype; the global random state is left
    alone. A forward or an unembedding raises SemhubError where memory has no room for it."""
    return model.twins.setdefault((seed, model.device, model.dtype), RandomTwin(model, seed))


def _short(text: str | Input) -> str:
    text = text.text if isinstance(text, Input) else text
    return repr(text if len(text) <= 40 else text[:37] + "...")

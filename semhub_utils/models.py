"""One handle for every decoder-only checkpoint: blocks, final norm, unembedding and tokenizer, found by structure.

Layers: index 0 is the input of block 1 (the embeddings), l is the output of block l for l in 1..L, all before the
final norm; depth = l / L. What the library does between the last block and its logits is followed once on a short
probe and kept: the modules it goes through, and the scale and soft-cap it puts on the logits.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
import transformers
from huggingface_hub import errors as hub
from jaxtyping import Float, Int
from torch import Tensor, nn

from semhub_utils.errors import SemhubError

DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
# Largest error relative to the largest value, by dtype: what rounding may do and a mistake does not stay under.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 5e-5, torch.bfloat16: 1e-2, torch.float16: 5e-3}


@dataclass(frozen=True)
class Encoding:
    """One prompt as the tokenizer reads it, special tokens included; offsets are character spans of `text`."""

    ids: list[int]
    offsets: list[tuple[int, int]]
    text: str

    def __len__(self) -> int:
        return len(self.ids)


def relative_error(ours: Tensor, reference: Tensor) -> float:
    """Largest absolute difference over the largest absolute value of the reference."""
    return float((ours.double() - reference.double()).abs().max() / reference.double().abs().max().clamp(min=1e-30))


class LanguageModel:
    """A decoder-only language model in evaluation mode. Made by `load_model` or `wrap`; raises SemhubError."""

    def __init__(self, module: nn.Module, tokenizer, *, model_id: str, revision: str | None = None):
        self.module, self.tokenizer, self.model_id, self.revision = module.eval(), tokenizer, model_id, revision
        config = module.config
        if getattr(config, "is_encoder_decoder", False):
            raise SemhubError(_refused(model_id, "is an encoder-decoder"))
        if not getattr(tokenizer, "is_fast", False):
            raise SemhubError(
                f"The tokenizer of {model_id} gives no character offsets; a checkpoint with a fast tokenizer "
                "(tokenizer.json) would do."
            )
        self.head = module.get_output_embeddings()
        if self.head is None or getattr(self.head, "weight", None) is None or self.head.weight.ndim != 2:
            raise SemhubError(_refused(model_id, "has no unembedding matrix"))
        text = config.get_text_config(decoder=True)
        self.n_layers: int = text.num_hidden_layers
        self.hidden_size: int = text.hidden_size
        self.max_length: int | None = getattr(text, "max_position_embeddings", None)
        self.body = module.base_model  # runs everything but the unembedding
        self.blocks = _find_blocks(module, self.n_layers, model_id)
        with torch.inference_mode():
            self._tail, self._tail_scale = self._follow_tail()
            self._logit_scale, self._logit_cap = self._measure_logit_map()

    # What it is

    @property
    def unembedding(self) -> Float[Tensor, "vocab input"]:
        """The unembedding matrix; it may have more rows than the tokenizer has tokens, and none is masked."""
        return self.head.weight

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
        """First 16 hex digits of a SHA-256 over the configuration and, of every weight, its name, shape, type and up
        to 65,536 evenly spaced values (all of them in a small model)."""
        digest = hashlib.sha256(self.module.config.to_json_string(use_diff=False).encode())
        for name, weight in sorted(self.module.state_dict().items()):
            digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
            flat = weight.detach().reshape(-1)
            sample = flat[:: -(-flat.numel() // 65536) or 1].contiguous().cpu()
            digest.update(sample.view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]

    def depth(self, layer: int) -> float:
        return layer / self.n_layers

    # Text to tokens

    def encode(self, prompts: Sequence[str]) -> list[Encoding]:
        """Tokenize as the tokenizer does by default, special tokens included. Raises on an empty or too long prompt."""
        if isinstance(prompts, str):
            raise SemhubError(f"prompts was the single text {_short(prompts)}; a list of texts would do.")
        for number, prompt in enumerate(prompts):
            if not prompt:
                raise SemhubError(f"Prompt {number} is empty; a text of at least one token would do.")
        if not prompts:
            return []
        batch = self.tokenizer(list(prompts), return_offsets_mapping=True, return_attention_mask=False, verbose=False)
        encodings = [
            Encoding(list(ids), [tuple(span) for span in offsets], text)
            for ids, offsets, text in zip(batch["input_ids"], batch["offset_mapping"], prompts, strict=True)
        ]
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
            if max(encoding.ids) >= self.vocab_size:
                raise SemhubError(
                    f"Prompt {number}, {_short(encoding.text)}, has token {max(encoding.ids)} but {self.model_id} knows "
                    f"{self.vocab_size} tokens; the tokenizer the model was trained with would do."
                )
        return encodings

    # Running

    def run(self, ids: Int[Tensor, "item token"]):
        """One forward without the unembedding and without a cache. Right padding needs no mask: the model is causal."""
        return self.body(input_ids=ids.to(self.device), use_cache=False)

    def hook(self, layer: int, see: Callable[[Tensor], Tensor | None]):
        """Call `see` with the [item, token, hidden] state of `layer` whenever it is made; a tensor it returns takes
        that state's place. Returns the handle that removes the hook."""

        def before(block, args, kwargs):
            new = see(args[0] if args else kwargs["hidden_states"])
            if new is not None:
                return ((new, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": new})

        def after(block, args, output):
            if isinstance(output, Tensor):
                return see(output)
            new = see(output[0])  # some blocks return (hidden state, attention weights or router logits ...)
            if new is not None:
                return (new, *output[1:])

        if layer == 0:
            return self.blocks[0].register_forward_pre_hook(before, with_kwargs=True)
        return self.blocks[layer - 1].register_forward_hook(after)

    # Hidden state to logits

    def normalise(self, h: Float[Tensor, "row hidden"], *, norm: bool = True) -> Float[Tensor, "row input"]:
        """Everything between the last block and the unembedding: the final norm and, where there is one, a
        projection. `norm=False` leaves out all but projections and a constant scale."""
        x = h.to(self.device, self.dtype)[None]
        for module in self._tail:
            if norm or isinstance(module, nn.Linear):
                x = module(x)
        return (x * self._tail_scale if self._tail_scale != 1 else x)[0]

    def unembed(self, x: Float[Tensor, "row input"], vocab: slice | Tensor = slice(None)) -> Float[Tensor, "row vocab"]:
        """The unembedding product with bias, scale and soft-cap; half precision is accumulated in float32."""
        weight, bias = self.unembedding[vocab], getattr(self.head, "bias", None)
        if weight.dtype not in (torch.float16, torch.bfloat16):
            logits = x @ weight.T
        elif weight.is_cuda:
            logits = torch.mm(x, weight.T, out_dtype=torch.float32)
        else:
            logits = x.float() @ weight.float().T
        if bias is not None:
            logits += bias[vocab]
        if self._logit_scale != 1:
            logits *= self._logit_scale
        if self._logit_cap is not None:
            logits = logits.div_(self._logit_cap).tanh_().mul_(self._logit_cap)
        return logits

    def logits(
        self, h: Float[Tensor, "row hidden"], *, norm: bool = True, vocab: slice | None = None
    ) -> Float[Tensor, "row vocab"]:
        """Logits of hidden states as the model itself would give them after its last block (`norm=True`), or without
        the final norm, as the paper's release does for intermediate layers."""
        return self.unembed(self.normalise(h, norm=norm), slice(None) if vocab is None else vocab)

    # Structure, followed on a probe

    def _probe(self) -> Int[Tensor, "two token"]:
        """Two rows of ordinary ids that differ in their last token only."""
        row = (torch.arange(6) * 7 + 11) % self.vocab_size
        ids = torch.stack([row, row])
        ids[1, -1] = (row[-1] + 1) % self.vocab_size
        return ids.to(self.device)

    def _follow_tail(self) -> tuple[list[nn.Module], float]:
        """The modules between the last block's output and the unembedding's input, and a constant factor if one is
        left. Refuses a model in which a later token changes an earlier state."""
        tail: list[nn.Module] = []
        seen: dict[str, Tensor] = {}
        inside: list[nn.Module] = []
        apart = _containers(self.module, self.blocks[-1]) | _containers(self.module, self.head)

        def enter(module, args, kwargs):
            given = args[0] if args else kwargs.get("hidden_states")
            if inside or "state" not in seen or not isinstance(given, Tensor):
                return
            if given.shape == seen["state"].shape and torch.equal(given, seen["state"]):
                inside.append(module)

        def leave(module, args, output):
            if inside and module is inside[0]:
                tail.append(inside.pop())
                seen["state"] = output if isinstance(output, Tensor) else output[0]

        handles = [self.hook(self.n_layers, lambda h: seen.update(state=h, last=h))]
        handles.append(self.head.register_forward_pre_hook(lambda module, args: seen.update(input=args[0])))
        for module in self.module.modules():
            if module not in apart:
                handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
                handles.append(module.register_forward_hook(leave))
        try:
            self.module(input_ids=self._probe(), use_cache=False)
        finally:
            for handle in handles:
                handle.remove()

        last = seen["last"]
        if last.ndim != 3 or last.shape[-1] != self.hidden_size:
            raise SemhubError(_refused(self.model_id, f"has blocks that give states of shape {tuple(last.shape)}"))
        if relative_error(last[0, :-1], last[1, :-1]) > TOLERANCE[self.dtype]:
            raise SemhubError(_refused(self.model_id, "reads later tokens at earlier positions, as an encoder does"))
        state, given = seen["state"].double(), seen["input"].double()
        scale = float((state * given).sum() / (state * state).sum()) if state.shape == given.shape else float("nan")
        scale = 1.0 if abs(scale - 1) < 1e-6 else scale
        if not relative_error(state * scale, given) < TOLERANCE[self.dtype]:
            raise SemhubError(_refused(self.model_id, "changes the last block's output in a way that is not followed"))
        return tail, scale

    def _measure_logit_map(self) -> tuple[float, float | None]:
        """What the model does to its logits after the product: a scale, and a soft-cap c * tanh(logit / c) or None.

        The unembedding's output is replaced by known numbers and the model's answer to them is read."""
        ids = self._probe()
        ramp = torch.linspace(-60, 60, ids.numel() * self.vocab_size, device=self.device)
        ramp[0], ramp[-1] = 2.0**-10, 2.0**20
        ramp = ramp.reshape(*ids.shape, self.vocab_size)
        handle = self.head.register_forward_hook(lambda module, args, output: ramp.clone())
        try:
            answer = self.module(input_ids=ids, use_cache=False).logits.float()
        finally:
            handle.remove()
        scale, far = float(answer.flatten()[0]) * 2.0**10, float(answer.flatten()[-1])
        cap = None if abs(far / (scale * 2.0**20) - 1) < 1e-3 else far
        expected = ramp * scale if cap is None else torch.tanh(ramp * scale / cap) * cap
        if answer.shape != ramp.shape or relative_error(answer, expected) > 1e-4:
            raise SemhubError(_refused(self.model_id, "changes its logits in a way that is not followed"))
        return (1.0 if abs(scale - 1) < 1e-6 else scale), cap


# Making one


def wrap(module: nn.Module, tokenizer, *, model_id: str) -> LanguageModel:
    """A handle around a model that is already built. Raises SemhubError if it is not decoder-only."""
    return LanguageModel(module, tokenizer, model_id=model_id)


def randomised(model: LanguageModel, seed: int) -> LanguageModel:
    """The same architecture and tokenizer with new random weights; the global random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = type(model.module)(model.module.config)
    module.to(model.device, model.dtype)
    return LanguageModel(module, model.tokenizer, model_id=f"{model.model_id} (random weights, seed {seed})")


def load_model(
    model_id: str,
    *,
    revision: str | None = None,
    device: str | torch.device | None = None,
    dtype: str = "float32",
    check: bool = True,
) -> LanguageModel:
    """Load a hub id, a local folder or "organism:NAME", and check it (`semhub_utils.checks`).

    Only safetensors are read and no remote code is run. Raises SemhubError with one sentence on anything that cannot
    be loaded: what was given and what would do."""
    if dtype not in DTYPES:
        raise SemhubError(f"dtype was {dtype!r}; one of {', '.join(DTYPES)} would do.")
    target = _device(device)
    source = _resolve(model_id)
    auto = transformers.AutoModelForCausalLM
    where = {"revision": revision, "trust_remote_code": False}
    config = _attempt(model_id, revision, "configuration", transformers.AutoConfig.from_pretrained, source, **where)
    if getattr(config, "is_encoder_decoder", False):
        raise SemhubError(_refused(model_id, "is an encoder-decoder"))
    if type(config) not in auto._model_mapping:
        raise SemhubError(_refused(model_id, f"is of the type {config.model_type!r}, which is none"))
    tokenizer = _attempt(model_id, revision, "tokenizer", transformers.AutoTokenizer.from_pretrained, source, **where)
    module, info = _attempt(
        model_id,
        revision,
        "weights",
        auto.from_pretrained,
        source,
        config=config,
        dtype=DTYPES[dtype],
        use_safetensors=True,
        output_loading_info=True,
        **where,
    )
    if info["missing_keys"]:
        raise SemhubError(
            f"{model_id} has no value for {len(info['missing_keys'])} weights, {sorted(info['missing_keys'])[0]} among "
            "them; a checkpoint saved with its language-model head would do."
        )
    model = LanguageModel(module.to(target), tokenizer, model_id=model_id, revision=revision)
    if check:
        from semhub_utils.checks import self_check  # the checks run the instruments, which are built on this module

        self_check(model)
    return model


# Small parts


def _refused(model_id: str, reason: str) -> str:
    return f"{model_id} {reason}; a decoder-only language model would do."


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        target = torch.device(device)
        torch.empty(0, device=target)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise SemhubError(f"device was {str(device)!r}, which is not available here; 'cpu' would do.") from error
    return target


def _resolve(model_id: str) -> str:
    """The folder or hub id behind a name."""
    if model_id.startswith("organism:"):
        from semhub_utils.organism.zoo import organism_path  # read only when an organism is asked for

        return str(organism_path(model_id.removeprefix("organism:")))
    folder = Path(model_id)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise SemhubError(
                f"The folder {model_id} has no config.json; a folder written by save_pretrained would do."
            )
        tokenizer_files = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt", "tokenizer.model")
        if not any((folder / name).is_file() for name in tokenizer_files):
            raise SemhubError(f"The folder {model_id} has no tokenizer; one saved into it by save_pretrained would do.")
    return model_id


def _attempt(model_id: str, revision: str | None, part: str, load: Callable, *args, **kwargs):
    """Call a loader of the library and turn what it raises into one sentence."""
    try:
        return load(*args, **kwargs)
    except (OSError, ValueError, KeyError, ImportError) as error:
        causes = [error]
        while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
            causes.append(cause)
        raise SemhubError(_sentence(model_id, revision, part, causes)) from error


def _sentence(model_id: str, revision: str | None, part: str, causes: list[BaseException]) -> str:
    def any_of(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    if any_of(hub.GatedRepoError):
        return f"{model_id} is gated and no token with access was found; HF_TOKEN set after asking for access would do."
    if any_of(hub.RevisionNotFoundError):
        return f"{model_id} has no revision {revision!r}; a branch, tag or commit of that repository would do."
    if Path(model_id).is_dir() or model_id.startswith("organism:"):
        if part == "weights":
            return f"{model_id} has no weights that can be read; a model.safetensors of its configuration would do."
        return f"The {part} of {model_id} cannot be read; one written by save_pretrained would do."
    if any_of(hub.RepositoryNotFoundError, hub.HFValidationError):
        return f"{model_id} is neither a folder here nor a model on the hub; an existing folder or hub id would do."
    if any_of(hub.OfflineModeIsEnabled, hub.LocalEntryNotFoundError):
        return (
            f"{model_id} is neither a folder here nor a model in the local cache, and the hub cannot be reached; an "
            "existing folder, or a connection, would do."
        )
    return (
        f"The {part} of {model_id} cannot be loaded; a checkpoint of transformers 5 with safetensors weights would do."
    )


def _find_blocks(module: nn.Module, n_layers: int, model_id: str) -> list[nn.Module]:
    """The outermost list in the decoder that is as long as the configuration says there are layers."""
    for _, part in sorted(module.get_decoder().named_modules(), key=lambda pair: pair[0].count(".")):
        if isinstance(part, nn.ModuleList) and len(part) == n_layers:
            return list(part)
    raise SemhubError(_refused(model_id, f"has no list of {n_layers} blocks"))


def _containers(root: nn.Module, part: nn.Module) -> set[nn.Module]:
    """The modules that hold `part`, itself included."""
    path = next(name for name, module in root.named_modules() if module is part).split(".")
    return {root} | {root.get_submodule(".".join(path[: end + 1])) for end in range(len(path))}

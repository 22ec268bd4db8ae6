"""Where a decoder-only checkpoint has its parts, found by structure and by the library's own accessors, never by a
model's name: what the library does between the last block and its logits is followed once on a short probe.

Layers: index 0 is the input of block 1 (the embeddings), l is the output of block l for l in 1..L, all before the
final norm; depth = l / L.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from semhub_utils.devices import keep_in_memory
from semhub_utils.errors import SemhubError, need, out_of_memory, reason

TOLERANCE = {torch.float64: 1e-6, torch.float32: 5e-5}  # states are kept in float32 at most
ROUNDINGS = 4  # of half precision, per block; one unit in the last place of every block's output is a third of it


def tolerance(dtype: torch.dtype, n_layers: int) -> float:
    """The largest `relative_error` that is rounding. In half precision it grows as roundings of blocks add up."""
    return TOLERANCE.get(dtype) or ROUNDINGS * torch.finfo(dtype).eps * n_layers**0.5


def rounding(module: nn.Module) -> torch.dtype:
    """What the states of a module are rounded like: its own dtype, or bfloat16 where its weights are of few bits, as
    such kernels round as coarsely, and by what else is in the batch (LLM.int8, arXiv 2208.07339)."""
    few = getattr(module.config, "quantization_config", None) is not None
    return torch.bfloat16 if few else module.get_output_embeddings().weight.dtype


def relative_error(ours: Tensor, reference: Tensor, dtype: torch.dtype = torch.float32) -> float:
    """Largest absolute difference over the largest absolute value of the reference. Of values made in half precision,
    where a rounding is about as large as the value: the largest root-mean-square difference of a row, each dimension in
    units of its own root-mean-square, or the median dimension's if that is more, so that a massive one hides none."""
    ours, reference = (some.cpu().double() for some in (ours, reference))  # no model's device need know float64
    difference = ours - reference
    if dtype in TOLERANCE:
        return float(difference.abs().max() / reference.abs().max().clamp(min=1e-30))
    size = reference.flatten(0, -2).square().mean(0).sqrt()
    return float((difference / size.clamp(min=float(size.median()) or 1e-30)).square().mean(-1).sqrt().max())


def need_decoder(condition: object, model_id: str, reason: str) -> None:
    """Raises SemhubError with what the model is or does unless the condition holds."""
    need(condition, f"{model_id} {reason}; a decoder-only language model would do.")


@dataclass
class Structure:
    """blocks in order; head: the unembedding module; tail: the modules between them, and a constant factor after them;
    logits are cap * tanh(scale * product / cap), or scale * product without a cap; never: the tokens whose logits the
    model puts so low that it never gives them."""

    blocks: list[nn.Module]
    head: nn.Module
    tail: list[nn.Module] = field(default_factory=list)
    tail_scale: float = 1.0
    logit_scale: float = 1.0
    logit_cap: float | None = None
    never: Bool[Tensor, " vocab"] | None = None

    def within(self, module: nn.Module, like: nn.Module) -> "Structure":
        """The same parts of another module: these are of `like`, which is of the same architecture."""
        names, n = {part: name for name, part in like.named_modules()}, 1 + len(self.blocks)
        found = [module.get_submodule(names[part]) for part in (self.head, *self.blocks, *self.tail)]
        for part in (module.get_input_embeddings(), found[0], *found[n:]):
            keep_in_memory(part)
        return replace(self, head=found[0], blocks=found[1:n], tail=found[n:])


def hook(blocks: list[nn.Module], layer: int, see: Callable[[Tensor], Tensor | None]):
    """Call `see` with the [item, token, hidden] state of `layer` whenever it is made; a tensor it returns takes that
    state's place. Returns the library's handle, which removes the hook."""

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
        return blocks[0].register_forward_pre_hook(before, with_kwargs=True)
    return blocks[layer - 1].register_forward_hook(after)


def read_structure(module: nn.Module, model_id: str) -> Structure:
    """Find and follow the parts of a causal language model of transformers. Raises SemhubError where it is not a
    decoder, or does something between its last block and its logits that is not followed."""
    need_decoder(not getattr(module.config, "is_encoder_decoder", False), model_id, "is an encoder-decoder")
    head = module.get_output_embeddings()
    weight = getattr(head, "weight", None)
    need_decoder(weight is not None and weight.ndim == 2, model_id, "has no unembedding matrix")
    for part in (head, module.get_input_embeddings()):
        keep_in_memory(part)
    found = Structure(find_blocks(module, model_id), head)
    row = (torch.arange(6, device=head.weight.device) * 7 + 11) % len(weight)
    probe = torch.stack([row, row])
    probe[1, -1] = (row[-1] + 1) % len(weight)  # two rows of ordinary ids that differ in their last token only
    try:
        with torch.inference_mode():
            _follow_tail(module, found, probe, model_id)
            for part in found.tail:
                keep_in_memory(part)
            _measure_logit_map(module, found, probe, model_id)
    except SemhubError:
        raise
    except Exception as error:  # whatever a model raises that asks for more than tokens
        need_decoder(out_of_memory(error), model_id, f"cannot be run on plain tokens ({reason(error)})")
        raise
    return found


def find_blocks(module: nn.Module, model_id: str) -> list[nn.Module]:
    """The outermost list in the decoder that is as long as the configuration says there are layers."""
    n_layers = module.config.get_text_config(decoder=True).num_hidden_layers
    parts = sorted(module.get_decoder().named_modules(), key=lambda pair: pair[0].count("."))
    lists = [part for _, part in parts if isinstance(part, nn.ModuleList) and len(part) == n_layers]
    need_decoder(lists, model_id, f"has no list of {n_layers} blocks")
    return [*lists[0]]


def _follow_tail(module: nn.Module, found: Structure, probe: Int[Tensor, "two token"], model_id: str) -> None:
    """Find the modules between the last block's output and the unembedding's input: each takes what the one before it
    gave. Refuses a model in which a later token changes an earlier state."""
    seen: dict[str, Tensor] = {}
    inside: list[nn.Module] = []
    around = {found.blocks[-1], found.head}

    def enter(part, args, kwargs):
        given = args[0] if args else kwargs.get("hidden_states")
        if not inside and "state" in seen and isinstance(given, Tensor):
            if given.shape == seen["state"].shape and torch.equal(given, seen["state"]):
                inside.append(part)

    def leave(part, args, output):
        if inside and part is inside[0]:
            found.tail.append(inside.pop())
            seen["state"] = output if isinstance(output, Tensor) else output[0]

    with ExitStack() as hooks:
        hooks.enter_context(hook(found.blocks, len(found.blocks), lambda h: seen.update(state=h, last=h)))
        hooks.enter_context(found.head.register_forward_pre_hook(lambda part, args: seen.update(given=args[0])))
        for part in module.modules():
            if not around & {*part.modules()}:
                hooks.enter_context(part.register_forward_pre_hook(enter, with_kwargs=True))
                hooks.enter_context(part.register_forward_hook(leave))
        module(input_ids=probe, use_cache=False)

    last, dtype = seen["last"], rounding(module)
    whole = bool(last.isfinite().all() and seen["given"].isfinite().all())
    need(whole, f"{model_id} gives states that are no numbers in {dtype}; another dtype or checkpoint would do.")
    bound, hidden = tolerance(dtype, len(found.blocks)), module.config.get_text_config(decoder=True).hidden_size
    shape = tuple(last.shape)
    need_decoder(shape[2:] == (hidden,), model_id, f"has blocks that give states of shape {shape}")
    seen_before = relative_error(last[0, :-1], last[1, :-1], dtype) > bound
    need_decoder(not seen_before, model_id, "reads later tokens at earlier positions, as an encoder does")
    state, given = (seen[name].cpu().double() for name in ("state", "given"))
    followed = state.shape == given.shape
    if followed:
        found.tail_scale = _round_to_one(float((state * given).sum() / (state * state).sum()))
        followed = relative_error(state * found.tail_scale, given, dtype) <= bound
    need_decoder(followed, model_id, "changes the last block's output in a way that is not followed")


def _measure_logit_map(module: nn.Module, found: Structure, probe: Int[Tensor, "two token"], model_id: str) -> None:
    """Put known numbers in the place of the unembedding's output and read what the model makes of them."""
    precise = torch.float64 if probe.device.type in ("cpu", "cuda") else torch.float32
    ramp = torch.linspace(-60, 60, probe.numel() * len(found.head.weight), device=probe.device, dtype=precise)
    small, large = 2.0**-20, 2.0**20
    ramp = ramp.reshape(*probe.shape, -1)
    ramp[0, 0], ramp[-1, -1] = small, large
    with found.head.register_forward_hook(lambda part, args, output: ramp.clone()):
        answer = module(input_ids=probe, use_cache=False).logits
    odd = "changes its logits in a way that is not followed"
    need_decoder(answer.shape == ramp.shape, model_id, odd)
    never = (answer == answer[:1, :1]).all(1).all(0) & (answer[0, 0] < -1e4)  # whatever they were given
    if never.any():
        found.never, answer, ramp = never, answer[..., ~never], ramp[..., ~never]
    # some models turn their logits to float32, which is then as precise as their scale is
    scale, far = float(answer.flatten()[0]) / small, float(answer.flatten()[-1])
    cap = None if abs(far / (scale * large) - 1) < 1e-3 else far
    expected = ramp * scale if cap is None else torch.tanh(ramp * scale / cap) * cap
    need_decoder(relative_error(answer, expected) < 1e-4, model_id, odd)
    found.logit_scale, found.logit_cap = _round_to_one(scale), cap


def _round_to_one(scale: float) -> float:
    return 1.0 if abs(scale - 1) < 1e-6 else scale

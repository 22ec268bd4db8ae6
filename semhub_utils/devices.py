"""A model that is larger than one device: where its parts compute, what of it stays in memory, and its random twin.

Blocks are spread by accelerate over GPUs, memory and disk; one that is offloaded has no weights but while it runs. What
instruments read directly, the embeddings, the final norm and the unembedding, is kept in memory.
"""

import copy
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from semhub_utils.errors import need, out_of_memory

AUTO = "auto"
HOW = "'auto', or with memory by device 'auto,0=20GB,cpu=60GB',"


def placement(device: Any) -> dict[str, Any]:
    """What transformers' loader takes to spread a model: of "auto", "auto,0=20GB,cpu=60GB" (the rest goes to disk) or
    a device map of accelerate's. Nothing for the name of one device. Raises SemhubError on anything else."""
    said = f"device was {device!r}"
    if isinstance(device, Mapping):
        found: dict[str, Any] = {"device_map": dict(device)}
    elif isinstance(device, str) and device.partition(",")[0] == AUTO:
        pairs = [re.fullmatch(r"(\d+|cpu)=([\d.]+ ?[KMGT]i?B)", part.strip()) for part in device.split(",")[1:]]
        need(all(pairs), f"{said}; {HOW} would do.")
        gone = [name for name, _ in (pair.groups() for pair in pairs) if name != "cpu" and not _is_there(int(name))]
        need(not gone, f"{said}, and there is no accelerator number {', '.join(gone)} here; 'auto' would do.")
        room = {int(name) if name.isdigit() else name: size for name, size in (pair.groups() for pair in pairs)}
        found = {"device_map": AUTO} | ({"max_memory": room} if room else {})
    else:
        return {}
    need(find_spec("accelerate"), f"{said}, and accelerate is not here; `pip install semhub-utils[big]` would do.")
    return found


def _is_there(number: int) -> bool:
    return number < (torch.accelerator.device_count() if torch.accelerator.is_available() else 0)


def _hooks(part: nn.Module) -> list:
    """What accelerate does around a part."""
    hook = getattr(part, "_hf_hook", None)
    return [*getattr(hook, "hooks", [hook] if hook else [])]


def computes_on(part: nn.Module) -> torch.device:
    """The device of a part: the one that its weights lie on or, where they are offloaded, are brought to."""
    given = next((hook.execution_device for hook in _hooks(part) if hook.execution_device is not None), None)
    return next(part.parameters()).device if given is None else torch.device(given)


def values(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every weight by its name, sorted; what is offloaded is read as its turn comes."""
    for name, weight in sorted(module.state_dict().items()):
        owner, inside = name, ""
        while weight.is_meta and owner:
            owner, _, own = owner.rpartition(".")
            inside = ".".join(filter(None, (own, inside)))
            maps = [hook.weights_map for hook in _hooks(module.get_submodule(owner)) if hook.weights_map is not None]
            weight = maps[0][inside] if maps else weight
        yield name, weight


def keep_in_memory(part: nn.Module) -> None:
    """Bring back the weights of a part that is offloaded, for good."""
    for module in part.modules():
        for name, weight in [*module.named_parameters(recurse=False)]:
            if weight.is_meta:
                value = dict(values(module))[name].to(computes_on(module))
                setattr(module, name, nn.Parameter(value, requires_grad=False))
        for hook in _hooks(module):
            hook.offload = False  # also where a tied weight is in memory, and the file has none of its name


# Random weights that are never all there


def fits_twice(module: nn.Module, device: torch.device) -> bool:
    """Whether another model of this size fits on a device beside it; taken for granted of one that was not spread."""
    if not hasattr(module, "hf_device_map"):
        return True
    from accelerate.utils import get_max_memory

    room = get_max_memory()["cpu" if device.type == "cpu" else device.index or 0]
    return sum(weight.nbytes for weight in module.parameters()) < room


Build, Blocks = Callable[[], nn.Module], Callable[[nn.Module], Sequence[nn.Module]]


def of_random_weights(build: Build, blocks: Blocks, seed: int, device: torch.device, like: nn.Module) -> nn.Module:
    """What `build` makes on a device: all of it or, where there is no room for that beside `like`, block by block."""
    try:
        if fits_twice(like, device):
            with _seeded(seed, device), device:
                return build()
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
    return drawn_by_block(build, blocks, seed, device)


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


class Drawn:
    """The weights of a block by name, drawn all at once when one is asked for, and handed out once."""

    def __init__(self, block: nn.Module, draw: Callable[[nn.Module], None]):
        self.block, self.draw, self.left = copy.deepcopy(block), draw, {}

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.left:
            self.draw(block := copy.deepcopy(self.block))
            self.left = {of: weight.detach() for of, weight in block.named_parameters()}
        return self.left.pop(name)


def drawn_by_block(build: Build, blocks: Blocks, seed: int, device: torch.device) -> nn.Module:
    """A model with the library's random weights in which a block has its own only while it runs: they are drawn again,
    the same ones, each time. SemhubError without accelerate."""
    need(find_spec("accelerate"), "A twin block by block needs accelerate; `pip install semhub-utils[big]` would do.")
    from accelerate import init_empty_weights
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module

    with device, init_empty_weights(include_buffers=False):
        module = build().eval().requires_grad_(False)
    inside = {part for block in blocks(module) for part in block.modules()}

    def fill(part: nn.Module) -> None:
        for name, weight in part.named_parameters(recurse=False):
            part._parameters[name] = nn.Parameter(torch.empty_like(weight, device=device), requires_grad=False)

    def draw(parts: nn.Module, what: str, initialise: Callable[[], Any]) -> None:
        with _seeded(zlib.crc32(f"{seed} {what}".encode()), device), torch.no_grad():
            parts.apply(lambda part: part in inside or fill(part))
            initialise()

    for part in module.modules():
        part._is_hf_initialized = part in inside
    draw(module, "", module.initialize_weights)
    module.tie_weights()
    own = module.get_decoder()._init_weights
    for number, block in enumerate(blocks(module)):
        weights = Drawn(block, lambda of, n=number: draw(of, str(n), lambda: of.apply(own)))
        add_hook_to_module(block, AlignDevicesHook(device, offload=True, weights_map=weights, place_submodules=True))
    return module

"""A device that no machine has: tensors on it hold ordinary ones, and what Apple's MPS refuses is refused."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_setup_privateuseone_for_python_backend("elsewhere")
DEVICE = torch.device("elsewhere:0")
DEVICE_KEY = "PrivateUse1"
MOVES = ("_to_copy", "copy_", "index", "index_put_", "index_put", "_index_put_impl_")  # may take tensors from elsewhere


class Away(torch.Tensor):
    """A tensor of DEVICE."""

    @staticmethod
    def __new__(cls, held):
        about = {"strides": held.stride(), "dtype": held.dtype, "device": DEVICE}
        made = torch.Tensor._make_wrapper_subclass(cls, held.shape, **about)
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return run(function, args, kwargs or {})

    __torch_function__ = torch._C._disabled_torch_function_impl

    def tolist(self):
        return self.held.tolist()

    def numpy(self, **_):
        raise TypeError("a tensor of the device cannot be turned into an array; .cpu() first would do")


def run(function, args, kwargs):
    """What a kernel of the device would do: refuse float64, and tensors that lie elsewhere."""
    given = tree_flatten((args, kwargs))[0]
    away = [of for of in given if isinstance(of, Away)]
    wanted = kwargs.get("device")
    there = bool(away) if wanted is None else torch.device(wanted).type == DEVICE.type
    name = function.overloadpacket.__name__
    others = [of for of in given if isinstance(of, torch.Tensor) and not isinstance(of, Away) and of.ndim]
    if away and others and name not in MOVES:
        raise RuntimeError(f"{name}: expected all tensors to be on the same device")
    if wanted is not None:
        kwargs = kwargs | {"device": torch.device("cpu")}
    out = function(*tree_map(held, args), **tree_map(held, kwargs))
    if name.endswith("_") and not name.endswith("__"):
        return args[0]

    def placed(of):
        if not isinstance(of, torch.Tensor) or not there:
            return of
        if of.dtype == torch.float64:
            raise TypeError(f"{name}: the device has no float64")
        return Away(of)

    return tree_map(placed, out)


def held(of):
    return of.held if isinstance(of, Away) else of


def made(function):
    """A kernel for what torch makes there by itself."""
    return lambda size, *args, dtype=None, **more: Away(function(size, *args, dtype=dtype))


def copied(source, target, *_):
    held(target).copy_(held(source))
    return target


KERNELS = torch.library.Library("aten", "IMPL")
KERNELS.impl("empty_strided", made(torch.empty_strided), DEVICE_KEY)
KERNELS.impl("empty.memory_format", made(torch.empty), DEVICE_KEY)
KERNELS.impl("_copy_from", copied, DEVICE_KEY)


class Elsewhere(TorchDispatchMode):
    """While open there is DEVICE."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return run(function, args, kwargs or {})


def moved(module):
    """A module with its weights and buffers on DEVICE."""
    for part in module.modules():
        for name, weight in part._parameters.items():
            part._parameters[name] = (
                None if weight is None else torch.nn.Parameter(Away(weight.data), requires_grad=False)
            )
        part._buffers = {name: buffer if buffer is None else Away(buffer) for name, buffer in part._buffers.items()}
    return module

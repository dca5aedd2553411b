"""A CUDA device to pretend with: tensors that claim to live on ``cuda:0`` and keep their values in main memory.

Every operation runs for real, on the values; placement is checked as a real device would check it: an operation that
mixes a pretended tensor with one of main memory raises, unless that is a single number, and ``.numpy()`` raises. What
would make the host wait is counted by the line of finemask that asks: reading a value, an operation whose result has a
size that depends on the values (``nonzero``, NMS), and a copy to the device from memory that is not page-locked, or
that is not told to go on. So are the operations that the host queues, views left out.

It says nothing of speed, memory, streams, or kernels that differ on CUDA.
"""

from __future__ import annotations

import collections
import contextlib
import sys
from typing import Any

import torch
from torch.nn.utils import clip_grad
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

CUDA = torch.device("cuda", 0)
_TRUE_DEVICE = torch.device("meta")  # what torch's engine sees: a device without kernels or streams
_MIX = {"copy_", "_to_copy", "index", "index_put_", "index_put", "_index_put_impl_", "_unsafe_index", "set_"}
_ASKS = {"_local_scalar_dense", "equal", "is_nonzero"}
_SIZED = {"nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "nms", "bincount"}
_VIEWS = {"view", "_unsafe_view", "reshape", "expand", "permute", "transpose", "t", "unsqueeze", "squeeze", "select"}
_VIEWS |= {"slice", "split", "split_with_sizes", "unbind", "alias", "detach", "as_strided", "empty", "unfold", "narrow"}
_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
_entered: list[PretendDevice] = []


class Pretended(torch.Tensor):
    """A tensor whose device says ``cuda:0``; ``held`` is the tensor in main memory."""

    held: torch.Tensor
    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)
    is_meta = property(lambda self: False)

    @staticmethod
    def __new__(cls, held: torch.Tensor, requires_grad: bool = False) -> Pretended:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=_TRUE_DEVICE,
            requires_grad=requires_grad,
        )
        made.held = held
        return made

    def __repr__(self) -> str:
        return f"Pretended({self.held!r})"

    def numpy(self, *_: object, **__: object) -> object:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")

    def __array__(self, *_: object, **__: object) -> object:
        return self.numpy()

    def new_tensor(self, data: object, *, dtype=None, device=None, requires_grad: bool = False) -> torch.Tensor:
        return torch.tensor(data, dtype=dtype or self.dtype, device=device or CUDA, requires_grad=requires_grad)

    def tolist(self) -> object:
        return self.cpu().tolist()

    def __deepcopy__(self, memo: object) -> Pretended:
        return Pretended(self.held.clone().detach(), self.requires_grad)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    name = func.overloadpacket.__name__
    tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
    pretended = [t for t in tensors if isinstance(t, Pretended)]
    device = None if kwargs.get("device") is None else torch.device(kwargs["device"])
    arrives = device is not None and device.type in ("cuda", "meta")
    leaves = device is not None and device.type == "cpu" and bool(pretended)
    to_host = name == "copy_" and bool(pretended) and not isinstance(args[0], Pretended)
    if pretended and name not in _MIX and any(not isinstance(t, Pretended) and t.dim() > 0 for t in tensors):
        where = ", ".join(f"{'cuda' if isinstance(t, Pretended) else 'cpu'} {tuple(t.shape)}" for t in tensors)
        raise RuntimeError(f"Expected all tensors to be on the same device: {name}({where})")
    if _entered:
        _entered[-1].note(name, args, kwargs, pretended=bool(pretended), arrives=arrives, leaves=leaves or to_host)
    inner_args, inner_kwargs = tree_map(lambda t: t.held if isinstance(t, Pretended) else t, (args, kwargs))
    if device is not None:
        inner_kwargs["device"] = torch.device("cpu")
    if inner_kwargs.get("pin_memory"):
        inner_kwargs["pin_memory"] = False
    out = func(*inner_args, **inner_kwargs)
    if name in _ASKS or leaves or not (pretended or arrives):
        return out
    if to_host:
        return args[0]
    known = {id(t.held): t for t in pretended}

    def claim(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or isinstance(value, Pretended):
            return value
        return known[id(value)] if id(value) in known else Pretended(value)

    return tree_map(claim, out)


class PretendDevice(TorchDispatchMode):
    """While it is entered, ``device="cuda"`` makes pretended tensors.

    Attributes:
        waits: what made the host wait, as ``operation at file:line``.
        operations: how many the host queued.
        places: the same by the line that queued them; ``outside`` are autograd's and the optimiser's.
    """

    def __init__(self) -> None:
        super().__init__()
        self._locked: list[torch.Tensor] = []
        self.clear()

    def clear(self) -> None:
        """Counts anew."""
        self.waits: collections.Counter[str] = collections.Counter()
        self.places: collections.Counter[str] = collections.Counter()
        self.operations = 0

    def note(self, name: str, args: Any, kwargs: Any, *, pretended: bool, arrives: bool, leaves: bool) -> None:
        """Counts an operation."""
        sized = name in _SIZED or self._has_mask(name, args)
        sized |= name == "repeat_interleave" and kwargs.get("output_size") is None
        if pretended and (leaves or sized or name in _ASKS):
            self.waits[f"{name} at {_place()}"] += 1
        source = args[1] if name == "copy_" and pretended else args[0] if name == "_to_copy" and arrives else None
        sent = isinstance(source, torch.Tensor) and not isinstance(source, Pretended)
        if sent and not (kwargs.get("non_blocking") or (name == "copy_" and args[2:] == (True,))):
            self.waits[f"{name} to the device at {_place()}"] += 1
        elif sent and not self._is_locked(source):
            self.waits[f"{name} to the device, not page-locked, at {_place()}"] += 1
        stays = name == "_to_copy" and pretended and arrives and kwargs.get("dtype") in (None, args[0].dtype)
        if (pretended or arrives) and name not in _VIEWS and not stays:  # to the device on which it is: nothing is done
            self.operations += 1
            self.places[_place()] += 1

    def _has_mask(self, name: str, args: Any) -> bool:
        if name == "index":
            return any(t is not None and t.dtype in (torch.bool, torch.uint8) for t in args[1])
        if name in ("index_put_", "index_put", "_index_put_impl_"):
            return args[2].numel() != 1 and any(t is not None and t.dtype == torch.bool for t in args[1])
        return False

    def _is_locked(self, tensor: torch.Tensor) -> bool:
        storage = tensor.untyped_storage().data_ptr()
        return any(storage == locked.untyped_storage().data_ptr() for locked in self._locked)

    def _lock(self, tensor: torch.Tensor) -> torch.Tensor:
        self._locked.append(tensor.clone())
        return self._locked[-1]

    def __enter__(self) -> PretendDevice:
        _entered.append(self)
        self._before = (
            torch.cuda._lazy_init,
            torch._C._only_lift_cpu_tensors(),
            torch.__future__.get_overwrite_module_params_on_conversion(),
            torch.inference_mode,
            torch.Tensor.pin_memory,
            clip_grad._device_has_foreach_support,
        )
        clip_grad._device_has_foreach_support = lambda device: True
        # views of parameters cannot be wrapped in inference mode; without gradients the operations are the same
        torch.inference_mode = lambda mode=True: torch.no_grad() if mode else contextlib.nullcontext()
        torch.cuda._lazy_init = lambda: None  # there is no driver to start
        torch.Tensor.pin_memory = lambda tensor, *_: self._lock(tensor)
        torch._C._ensureCUDADeviceGuardSet()  # and no device to switch to
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device="cuda") is made here, then moved
        torch.__future__.set_overwrite_module_params_on_conversion(True)  # .data cannot change a tensor's class
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        _entered.remove(self)
        torch.cuda._lazy_init = self._before[0]
        torch._C._set_only_lift_cpu_tensors(self._before[1])
        torch.__future__.set_overwrite_module_params_on_conversion(self._before[2])
        torch.inference_mode, torch.Tensor.pin_memory, clip_grad._device_has_foreach_support = self._before[3:]

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled() and func.has_kernel_for_dispatch_key(_COMPOSITE):
            TorchDispatchMode.__enter__(self)  # without autograd nothing has taken such an operation apart yet
            try:
                return func.decompose(*args, **kwargs)
            finally:
                TorchDispatchMode.__exit__(self, None, None, None)
        return _run(func, args, kwargs)


def _place() -> str:
    frame = sys._getframe(2)
    while frame is not None and "/finemask/" not in frame.f_code.co_filename:
        frame = frame.f_back
    return "outside" if frame is None else f"{frame.f_code.co_filename.split('/finemask/')[-1]}:{frame.f_lineno}"


def to_device(value: Any) -> Any:
    """Tensors of a list or a target on the pretended device."""
    return tree_map(lambda leaf: leaf.to("cuda") if isinstance(leaf, torch.Tensor) else leaf, value)

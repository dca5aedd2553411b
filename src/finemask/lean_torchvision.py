"""torchvision, imported without torch's compiler.

torchvision imports the whole of ``torch._dynamo``, and sympy with it, for one function that RoIAlign asks where there
is no kernel for it: more than half of the processor time until a first prediction. Here that function is given in its
place, and imports the compiler when it is asked. What needs torchvision in ``finemask`` imports this first; where
torchvision or the compiler is imported already, nothing is gained and nothing is changed.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

import torch

_UTILS, _ASKED = "torch._dynamo.utils", "is_compile_supported"


class _LateUtils(ModuleType):
    """Stands for ``torch._dynamo.utils`` while torchvision is imported; gives way to it if anything else is wanted."""

    def __getattr__(self, name: str) -> Any:
        if name == _ASKED:
            return _is_compile_supported
        if name.startswith("__"):  # what the import system itself looks for
            raise AttributeError(name)
        if sys.modules.get(_UTILS) is self:
            del sys.modules[_UTILS]
        return getattr(import_module(_UTILS), name)


def _is_compile_supported(device_type: str | torch.device) -> Any:
    return import_module(_UTILS).is_compile_supported(device_type)


@contextmanager
def _compiler_left_for_later() -> Iterator[None]:
    if "torchvision" in sys.modules or "torch._dynamo" in sys.modules:
        yield
        return
    stand_in = sys.modules[_UTILS] = _LateUtils(_UTILS)
    try:
        yield
    finally:
        if sys.modules.get(_UTILS) is stand_in:
            del sys.modules[_UTILS]


with _compiler_left_for_later():
    import torchvision

__all__ = ["torchvision"]

"""finemask fine-tunes Mask R-CNN on your own labelled images.

``finemask.load(path)`` gives a model that predicts. Everything is imported when it is first asked for:
importing finemask itself is instant.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finemask.inference.instances import Instances
    from finemask.inference.predictor import load

    __version__: str

__all__ = ["Instances", "__version__", "load"]


def __getattr__(name: str) -> Any:
    if name == "load":
        from finemask.inference.predictor import load

        return load
    if name == "Instances":
        from finemask.inference.instances import Instances

        return Instances
    if name == "__version__":
        from importlib.metadata import version

        return version("finemask")
    raise AttributeError(f"module 'finemask' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""finemask fine-tunes Mask R-CNN on your own labelled images.

``finemask.train`` trains, ``finemask.load`` gives a model that predicts; for a Lightning script of your own there are
``CocoDataModule``, ``maskrcnn`` and ``MaskRCNNModule``. Everything is imported when it is first asked for: importing
finemask itself is instant.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finemask.data.datamodule import CocoDataModule
    from finemask.errors import FinemaskError
    from finemask.inference.instances import Instances
    from finemask.inference.predictor import Predictor, load
    from finemask.training.module import MaskRCNNModule
    from finemask.training.save_model import save_model
    from finemask.workflows.build_maskrcnn import maskrcnn
    from finemask.workflows.evaluate_model import evaluate
    from finemask.workflows.share_model import share
    from finemask.workflows.train_model import train

    __version__: str

_HOMES = {
    "CocoDataModule": "finemask.data.datamodule",
    "FinemaskError": "finemask.errors",
    "Instances": "finemask.inference.instances",
    "MaskRCNNModule": "finemask.training.module",
    "Predictor": "finemask.inference.predictor",
    "evaluate": "finemask.workflows.evaluate_model",
    "load": "finemask.inference.predictor",
    "maskrcnn": "finemask.workflows.build_maskrcnn",
    "save_model": "finemask.training.save_model",
    "share": "finemask.workflows.share_model",
    "train": "finemask.workflows.train_model",
}
__all__ = [
    "CocoDataModule",
    "FinemaskError",
    "Instances",
    "MaskRCNNModule",
    "Predictor",
    "__version__",
    "evaluate",
    "load",
    "maskrcnn",
    "save_model",
    "share",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("finemask")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'finemask' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

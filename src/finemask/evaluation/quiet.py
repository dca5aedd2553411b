"""Keeping pycocotools from printing."""

from collections.abc import Iterator
from contextlib import contextmanager

from pycocotools import coco, cocoeval


def _print_nothing(*_: object, **__: object) -> None:
    pass


@contextmanager
def quiet_pycocotools() -> Iterator[None]:
    """Silences pycocotools, which announces each of its steps.

    Only the name ``print`` inside its two modules is replaced. Redirecting the process's stdout would also
    swallow what other threads write meanwhile, such as a progress bar.
    """
    modules = (coco, cocoeval)
    before = [vars(module).get("print") for module in modules]
    for module in modules:
        vars(module)["print"] = _print_nothing
    try:
        yield
    finally:
        for module, original in zip(modules, before, strict=True):
            if original is None:
                del vars(module)["print"]
            else:
                vars(module)["print"] = original

"""What a run says: on the terminal, and in its ``train.log``."""

import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table

_LOG_WIDTH = 110


@contextmanager
def logging_to(path: Path, *, is_main: bool) -> Iterator[None]:
    """Sends finemask's own words to the terminal and, with everybody's warnings, to the run's log file.

    Args:
        path: of the log file; appended to.
        is_main: only the first process of a run speaks and writes.
    """
    if not is_main:
        yield
        return
    ours, lightning, python = (logging.getLogger(name) for name in ("finemask", "pytorch_lightning", "py.warnings"))
    file = logging.FileHandler(path, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"))
    terminal = _terminal_handler()
    before = [(logger, logger.level, logger.propagate, logger.handlers[:]) for logger in (ours, lightning, python)]
    for logger in (ours, lightning, python):
        logger.handlers = [file]
        logger.propagate = False
    ours.addHandler(terminal)
    ours.setLevel(logging.INFO)
    lightning.setLevel(logging.INFO)
    logging.captureWarnings(True)
    # Advice on worker numbers and the like goes to the log; a person who waits for numbers is not helped by it.
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        try:
            yield
        finally:
            logging.captureWarnings(False)
            for logger, level, propagate, handlers in before:
                logger.level, logger.propagate, logger.handlers = level, propagate, handlers
            file.close()


def show_table(table: Table) -> None:
    """Prints a table and leaves a plain copy in the log file."""
    Console().print(table)
    plain = io.StringIO()
    Console(file=plain, width=_LOG_WIDTH, no_color=True).print(table)
    for handler in logging.getLogger("finemask").handlers:
        if isinstance(handler, logging.FileHandler) and handler.stream is not None:
            handler.stream.write(plain.getvalue())
            handler.flush()


def say_next_steps(
    metrics: Mapping[str, Any], model_file: Path, paths: Sequence[Path], data: Mapping[str, Any], *, on_own_data: bool
) -> None:
    """The last lines of a run: what was learned, what was written, what to type next.

    Args:
        metrics: of the best weights on the validation split.
        model_file: of the best weights.
        paths: written for people to open.
        data: the group ``data`` of the run's configuration.
        on_own_data: whether the data were a person's, and not drawn for the occasion.
    """
    here = Path.cwd()

    def shown(path: Path) -> str:
        return str(path.relative_to(here) if path.is_relative_to(here) else path)

    point, classes = metrics["operating_point"], metrics["per_class"]
    ap50 = metrics["segm"]["AP50"]
    print(f"\nLearned {len(classes)} {'class' if len(classes) == 1 else 'classes'}: {', '.join(list(classes)[:8])}")
    if point["recall"] is not None and ap50 is not None:
        images = "1 image" if metrics["images"] == 1 else f"{metrics['images']} images"
        print(f"On {images} it had not seen: mask AP50 {ap50:.3f}.")
        if point["precision"] is None:
            print("It finds none of the objects yet. Train longer, or look at what it is shown:")
            print(f"  finemask data preview data.root={shown(Path(data['root']).absolute())} output=preview")
        else:
            print(
                f"At score {point['threshold']:.2f} it finds {point['recall']:.0%} of the objects, and "
                f"{point['precision']:.0%} of what it finds is right."
            )
    print("\nWritten:")
    for path in paths:
        print(f"  {shown(path)}")
    print("\nNext:")
    images_dir = shown((Path(data["root"]) / data["images"]).absolute())
    print(f"  finemask predict model={shown(model_file)} source={images_dir} output=found")
    if not on_own_data:
        print("  finemask train data.root=DIR          # your own images, with COCO annotations in DIR/annotations")


def is_terminal() -> bool:
    """Whether a person watches; otherwise plain lines are wanted."""
    return Console().is_terminal


def _terminal_handler() -> logging.Handler:
    console = Console()
    if console.is_terminal:
        return RichHandler(console=console, show_time=False, show_path=False, show_level=False, markup=False)
    plain = logging.StreamHandler()
    plain.setFormatter(logging.Formatter("%(message)s"))
    return plain

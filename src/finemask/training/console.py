"""The output of a run: on the terminal, and in its ``train.log``."""

import io
import logging
import shlex
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TextIO

from rich import get_console
from rich.console import Console, RenderableType
from rich.text import Text

from finemask.errors import is_disk_full
from finemask.ops.wording import names, percent, plural

_LOG_WIDTH = 110
_NAMED_CLASSES = 8
_PROGRESS = "finemask.training"  # whose records tell how a training goes on
_progress_alone: ContextVar[bool] = ContextVar("_progress_alone", default=False)
_SPEAKERS = ("finemask", "pytorch_lightning", "lightning_fabric", "py.warnings")
# Warnings that tell a user nothing: beginnings of their texts, as regular expressions.
_NOISE = (
    r"`isinstance\(treespec, LeafSpec\)`",  # how Lightning calls torch
    "The number of training batches",  # the logging interval is shortened to an epoch
    r"Found \d+ module\(s\) in eval mode",  # which norms are frozen is decided at the start of each epoch
    "Checkpoint directory",  # a resumed run's is not empty
    "You're resuming from a checkpoint that ended before the epoch ended",  # the batch sampler knows where to go on
    "The '(train|val)_dataloader' does not have many workers",  # it counts cores; train/data_wait measures
)


class RunLog(logging.StreamHandler[TextIO]):
    """A run's log file. Records from before its folder exists wait in memory."""

    def __init__(self) -> None:
        super().__init__(io.StringIO())
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"))

    def open(self, path: Path) -> None:
        """Goes on in a file, which is appended to."""
        waiting = self.stream
        assert isinstance(waiting, io.StringIO)
        self.setStream(path.open("a", encoding="utf-8"))
        self.stream.write(waiting.getvalue())
        self.flush()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """A full disk says so where something is lost by it; a line less in the log is not worth a traceback."""
        if not is_disk_full(sys.exc_info()[1] or Exception()):
            super().handleError(record)


@contextmanager
def logging_to(run_log: RunLog, *, is_main: bool) -> Iterator[None]:
    """Sends finemask's records to the terminal and, with everybody's warnings, to the run's log file.

    Args:
        run_log: the file.
        is_main: only the first process of a run speaks and writes.
    """
    if not is_main:
        with _silence():
            yield
        return
    ours, *theirs = loggers = [logging.getLogger(name) for name in _SPEAKERS]
    terminal = _terminal_handler()
    before = [(logger, logger.level, logger.propagate, logger.handlers[:]) for logger in loggers]
    for logger in loggers:
        logger.handlers = [run_log]
        logger.propagate = False
    ours.addHandler(terminal)
    ours.setLevel(logging.INFO)
    for logger in theirs:  # Lightning informs of its own defaults and of products; of the run we tell in our words
        logger.setLevel(logging.WARNING)
    logging.captureWarnings(True)
    # Warnings go to the log; a person who waits for numbers is not helped by them.
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        _ignore_noise()
        try:
            yield
        finally:
            logging.captureWarnings(False)
            for logger, level, propagate, handlers in before:
                logger.level, logger.propagate, logger.handlers = level, propagate, handlers
            with suppress(OSError):  # a full disk
                run_log.stream.close()


@contextmanager
def _silence() -> Iterator[None]:
    """What all processes have to say the first one says."""
    console = get_console()
    loggers = [logging.getLogger(name) for name in _SPEAKERS]
    before = [(logger, logger.propagate, logger.handlers[:]) for logger in loggers]
    was_quiet, console.quiet = console.quiet, True
    for logger in loggers:
        logger.handlers, logger.propagate = [logging.NullHandler()], False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        console.quiet = was_quiet
        for logger, propagate, handlers in before:
            logger.propagate, logger.handlers = propagate, handlers


def _ignore_noise() -> None:
    for beginning in _NOISE:
        warnings.filterwarnings("ignore", message=beginning)


@contextmanager
def progress_alone() -> Iterator[None]:
    """The terminal shows how a training goes on, and warnings; what it is made of, another of its series has shown.

    The log file has everything.
    """
    token = _progress_alone.set(True)
    try:
        yield
    finally:
        _progress_alone.reset(token)


def _is_shown(record: logging.LogRecord) -> bool:
    return not _progress_alone.get() or record.levelno >= logging.WARNING or record.name.startswith(_PROGRESS)


def show_table(table: RenderableType) -> None:
    """Prints a table and leaves a plain copy in the log file."""
    if not _progress_alone.get():
        get_console().print(table)
    plain = io.StringIO()
    Console(file=plain, width=_LOG_WIDTH, no_color=True).print(table)
    for handler in logging.getLogger("finemask").handlers:
        if isinstance(handler, RunLog):
            handler.stream.write(plain.getvalue())
            handler.flush()


def print_next_steps(
    metrics: Mapping[str, Any], model_file: Path, paths: Sequence[Path], data: Mapping[str, Any], *, on_own_data: bool
) -> None:
    """The last lines of a run: what was learned, what was written, what to type next.

    Args:
        metrics: of the best weights on the validation split; none where there is none.
        model_file: of the best weights.
        paths: written for people to open.
        data: the group ``data`` of the run's configuration.
        on_own_data: whether the data were a person's, and not drawn for the occasion.
    """
    if metrics:
        _print_learned(metrics, data)
    print("\nWritten:")
    for path in paths:
        print(f"  {display_path(path)}")
    print("\nNext:")
    images_dir = display_path((Path(data["root"]) / data["images"]).absolute())
    words = [f"model={display_path(model_file)}", f"source={images_dir}", "output=found"]
    print(f"  {shlex.join(['finemask', 'predict', *words])}")
    if not on_own_data:
        print("  finemask train data.root=DIR  # your own images; COCO files in DIR/annotations")


def _print_learned(metrics: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    point, classes = metrics["operating_point"], metrics["per_class"]
    ap50 = metrics["segm"]["AP50"]
    print(f"\nLearned {plural(len(classes), 'class', 'classes')}: {names(list(classes), _NAMED_CLASSES)}")
    if point["recall"] is not None and ap50 is not None:
        print(f"On {plural(metrics['images'], 'image')} it had not seen: mask AP50 {ap50:.3f}.")
        if point["precision"] is None:
            print("It finds none of the objects yet. Train longer, or look at what it is shown:")
            root = display_path(Path(data["root"]).absolute())
            print(f"  {shlex.join(['finemask', 'data', 'preview', f'data.root={root}', 'output=preview'])}")
        else:
            print(
                f"At score {point['threshold']:.2f} it finds {percent(point['recall'])} of the objects; "
                f"{percent(point['precision'])} of what it finds is right."
            )


def display_path(path: Path) -> str:
    """A path from where the user stands, if it lies below."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def is_terminal() -> bool:
    """Whether a person watches; otherwise plain lines are wanted."""
    return get_console().is_terminal


class _ConsoleHandler(logging.Handler):
    """Prints on the console that also draws the bar, and so above it."""

    def emit(self, record: logging.LogRecord) -> None:
        style = "yellow" if record.levelno >= logging.WARNING else ""
        get_console().print(Text(self.format(record), style=style))


class _PlainFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return ("warning: " if record.levelno >= logging.WARNING else "") + record.getMessage()


def _terminal_handler() -> logging.Handler:
    handler = _ConsoleHandler() if is_terminal() else logging.StreamHandler()
    handler.setFormatter(_PlainFormatter())
    handler.addFilter(_is_shown)
    return handler

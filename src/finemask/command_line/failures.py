"""Exceptions into one paragraph on stderr and an exit code."""

import os
import re
import shutil
import sys
import textwrap
import time
import traceback
from collections.abc import Collection
from pathlib import Path

from finemask.errors import FinemaskError, chain_of, is_disk_full
from finemask.machine.processes import is_first_process

_PATH_ERRORS = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError)
# A data-loading worker hands its exception over as text; the message proper is what follows the class name.
_ALONE_S = 10.0
_FRAME = re.compile(r'File "(.+?)", line (\d+), in (\S+)')
_LIBRARIES = {"finemask", "torch", "torchvision", "pytorch_lightning", "albumentations", "timm", "builtins"}
_FROM_WORKER = re.compile(r"^finemask\.errors\.\w+: (?P<message>.+)", re.DOTALL | re.MULTILINE)


def explain(error: BaseException, own: Collection[str] = ()) -> int:
    """Prints what went wrong on stderr.

    A traceback is shown for a defect of finemask, or whenever ``FINEMASK_DEBUG=1``.

    Args:
        error: as it was raised.
        own: modules of the user's that take part, see ``own_modules``.

    Returns:
        The exit code: 2 when the user can mend it, 1 otherwise.
    """
    message = _in_own_code(error, own) or user_message(error)
    if not is_first_process():
        _wait_for_the_first()
    if message is None or os.environ.get("FINEMASK_DEBUG", "0") not in ("", "0"):
        traceback.print_exception(error)
    if message is None:
        print_error(
            f"this is a defect of finemask ({type(error).__name__}: {_first_line(error)}). Please report it "
            "together with the lines above and the output of: finemask doctor"
        )
        return 1
    print_error(message)
    return 2


def _wait_for_the_first() -> None:
    """What stops one process of a training mostly stops all: the first says it, and whoever started them ends the rest.

    What only this one knows is said when the others are still there after a while.
    """
    parent, until = os.getppid(), time.monotonic() + _ALONE_S
    while time.monotonic() < until:
        time.sleep(0.1)
        if os.getppid() != parent:  # it has failed too
            os._exit(2)


def own_modules(cfg: object) -> set[str]:
    """The modules that ``_target_`` or ``trust`` names and that neither finemask nor its libraries bring."""
    if isinstance(cfg, dict):
        trust = cfg.get("trust", [])
        targets = [cfg.get("_target_"), *(trust if isinstance(trust, list) else [trust])]
        named = {target.split(".")[0] for target in targets if isinstance(target, str)}
        return (named - _LIBRARIES).union(*map(own_modules, cfg.values()))
    return set().union(*map(own_modules, cfg)) if isinstance(cfg, list) else set()


def _in_own_code(error: BaseException, own: Collection[str]) -> str | None:
    """An exception that the user's own code raised, or what it called: where, and which; None for any other."""
    for cause in chain_of(error) if own else ():
        if user_message(cause) is not None:
            continue
        frames = [
            (frame.f_code.co_filename, line, frame.f_code.co_name)
            for frame, line in traceback.walk_tb(cause.__traceback__)
            if str(frame.f_globals.get("__name__")).split(".")[0] in own
        ]
        said = f"{type(cause).__name__}: {_first_line(cause)}"
        if "Original Traceback" in str(cause):  # a data-loading worker hands its traceback over as text
            said = str(cause).strip().splitlines()[-1]
            places = [place for name in own if (place := _place_of(name))]
            told = [found for found in _FRAME.finditer(str(cause)) if found[1].startswith(tuple(places))]
            frames = [(found[1], int(found[2]), found[3]) for found in told]
        if frames:
            file, line, function = frames[-1]
            return (
                f"an error in your own code: {file}, line {line}, in {function}: {said.rstrip('.')}. "
                "FINEMASK_DEBUG=1 before the command shows all of the way there."
            )
    return None


def _place_of(module: str) -> str | None:
    """The folder of a package, or the file of a module, that has been imported."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return None if file is None else file.removesuffix("__init__.py")


def print_error(message: str) -> None:
    """Prints ``error: …``: one line into a file or pipe, a wrapped paragraph on a terminal.

    The terminal itself breaks what holds a command: with line ends of ours in it, it could not be pasted.
    """
    text = "error: " + " ".join(message.split())
    if sys.stderr.isatty() and "finemask " not in text:
        text = textwrap.fill(text, shutil.get_terminal_size().columns, break_long_words=False, break_on_hyphens=False)
    print(text, file=sys.stderr)


def user_message(error: BaseException) -> str | None:
    """The message for an error that the user can mend; None for a defect of finemask."""
    causes = list(chain_of(error))
    for cause in causes:
        if is_disk_full(cause):
            if told := next((known for known in causes if isinstance(known, FinemaskError)), None):
                return str(told)  # it knows what was being written, and what is left of it
            where = f"{name}: " if (name := getattr(cause, "filename", None)) else ""
            return f"{where}no space left on the device. Free some, or choose another place to write to."
    if handed_over := _FROM_WORKER.search(str(error)):
        return handed_over["message"]
    if isinstance(error, FinemaskError):
        return str(error)
    if isinstance(error, _PATH_ERRORS) and error.filename is not None and not _is_ours(error.filename):
        return f"{error.filename}: {(error.strerror or type(error).__name__).lower()}"
    if type(error).__name__ == "OutOfMemoryError":
        return (
            f"the GPU ran out of memory ({_first_line(error)}). Use a smaller batch (data.batch_size=1), "
            "smaller images, trainer.precision=auto, or a smaller model."
        )
    if isinstance(error, MemoryError):
        return "memory ran out. Use a smaller batch, smaller images or fewer workers."
    return None


def _is_ours(filename: object) -> bool:
    if not isinstance(filename, str | bytes | os.PathLike):
        return False
    return Path(os.fsdecode(filename)).absolute().is_relative_to(Path(__file__).parents[1])


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "")

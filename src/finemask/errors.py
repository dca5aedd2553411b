"""Errors that a person can mend. The command line prints them as one paragraph and exits with code 2."""

import difflib
import errno
import re
import shlex
from collections.abc import Iterable, Iterator
from typing import Any

INTERRUPTED = 130  # exit code, as of a shell: stopped by a person, after saving


class FinemaskError(Exception):
    """Something the user can put right.

    Args:
        what: what is wrong, naming the values seen.
        where: the file, id or key it was found in.
        remedy: what to do about it, as a sentence.
    """

    def __init__(self, what: str, *, where: object = None, remedy: str | None = None) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.remedy = remedy
        super().__init__(what, self.where, remedy)

    def __str__(self) -> str:
        text = self.what if self.where is None else f"{self.where}: {self.what}"
        return text if self.remedy is None else f"{text.rstrip('.')}. {self.remedy}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _sent, (type(self), self.args, self.__dict__)


def _sent(kind: type[FinemaskError], args: tuple[Any, ...], values: dict[str, Any]) -> FinemaskError:
    """An error that another process raised; its kind may be made of other words than it holds."""
    error = kind.__new__(kind, *args)
    error.__dict__.update(values)
    return error


class ConfigError(FinemaskError):
    """An unknown key, group or value in a configuration or on the command line."""


class DataError(FinemaskError):
    """Annotations or images that cannot be used as they are."""


class UndecidedImageError(DataError):
    """An image of which a person has to say what is to be read.

    Args:
        what: what the file holds.
        choice: what has to be chosen.
        example: a value for it, as it is typed.
        where: the file.
        otherwise: what else might be typed, after a comma.
    """

    def __init__(self, what: str, *, choice: str, example: str, where: object = None, otherwise: str = "") -> None:
        self.choice = choice
        self.example = example
        typed = shlex.quote(f"data.image.{choice}={example}")
        super().__init__(
            what,
            where=where,
            remedy=f"Type {typed}{otherwise}; predict and the data verbs call it image.{choice}",
        )


class WeightsError(FinemaskError):
    """Pretrained weights that are missing or do not fit."""


class ModelFileError(FinemaskError):
    """A model file that is foreign, damaged or asks for something it may not."""


class MissingExtraError(FinemaskError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str, *, needed_for: str) -> None:
        super().__init__(
            f"{needed_for} needs the package {package}, which is not installed",
            remedy=f"Install it with: pip install 'finemask[{extra}]'",
        )


def chain_of(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, and those that it came from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def is_disk_full(error: BaseException) -> bool:
    """Whether an exception says that nothing more can be written."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    # Writers in C++ and Rust (checkpoints, model files) only leave the text.
    return "No space left on device" in str(error)


def did_you_mean(word: str, known: Iterable[str], shown: str = "{}") -> str:
    """``"Did you mean NAME? "``, to go before the rest of a remedy; empty where no name is near.

    Args:
        word: as typed.
        known: the names there are.
        shown: the name as it is printed, ``model={}`` for example.
    """
    guess = nearest(word, known)
    return f"Did you mean {shown.format(guess)}? " if guess else ""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The name in ``known`` that was probably meant, or None.

    Dotted names match as a whole or by their last part, so that ``epochs`` leads to ``trainer.max_epochs``.
    """
    names = list(dict.fromkeys(known))
    tail = _last_part(word)
    same_tail = [name for name in names if _last_part(name) == tail]
    close = same_tail or difflib.get_close_matches(word, names, n=1, cutoff=0.7)
    if close:
        return max(close, key=lambda name: difflib.SequenceMatcher(None, word, name).ratio())
    tails = {_last_part(name): name for name in reversed(names)}
    found = difflib.get_close_matches(tail, tails, n=1, cutoff=0.6)
    if found:
        return tails[found[0]]
    inside = [name for name in names if len(tail) > 2 and tail in _last_part(name).split("_")]
    return inside[0] if inside else None


def _last_part(name: str) -> str:
    return re.split(r"[./]", name)[-1]

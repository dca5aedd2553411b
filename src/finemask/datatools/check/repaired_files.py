"""Where repaired annotation files go, and writing them with their logs."""

from collections.abc import Sequence
from pathlib import Path

from finemask.coco.coco_file import is_standard, save_coco, standard
from finemask.datatools.check.repair import Repaired, by_file, log_text
from finemask.errors import ConfigError, DataError
from finemask.ops.files import write_text


def output_paths(inputs: Sequence[Path], fix: str | Sequence[str]) -> list[Path]:
    """Where each repaired file goes; decided before anything long starts.

    Args:
        inputs: the annotation files.
        fix: a file, or a list of as many; or a folder, in which the names are kept.

    Raises:
        ConfigError: the numbers do not agree, or two files would have one name.
        DataError: an input would be overwritten, or a file that no repair has written.
    """
    wanted = [fix] if isinstance(fix, str) else list(fix)
    if len(wanted) == 1 and (len(inputs) > 1 or wanted[0].endswith("/") or Path(wanted[0]).is_dir()):
        paths = [Path(wanted[0]) / path.name for path in inputs]
    else:
        paths = [Path(path) for path in wanted]
    if len(paths) != len(inputs):
        raise ConfigError(
            f"fix= names {len(paths)} files, annotations= {len(inputs)}", remedy="Give as many, or one folder"
        )
    if len({path.absolute() for path in paths}) < len(paths):
        raise ConfigError(
            f"several files would be written to {paths[0]}",
            remedy="Give fix= a list, one file for each of annotations=",
        )
    for path in paths:
        _refuse_overwriting(path, inputs)
    return paths


def log_path(path: Path) -> Path:
    """The log beside a repaired file: ``train_fixed.json`` has ``train_fixed.log``."""
    return path.with_suffix(".log")


def _refuse_overwriting(path: Path, inputs: Sequence[Path]) -> None:
    if path.suffix == ".log" or path.is_dir():
        raise ConfigError(f"fix={path} cannot be an annotation file", remedy="Give it a name that ends in .json")
    if not path.exists():
        return
    if any(other.exists() and path.samefile(other) for other in inputs):
        raise DataError("this is the file to be repaired; it is never overwritten", where=path, remedy="Change fix=")
    if not log_path(path).is_file():
        raise DataError(
            "there is a file here already, and no log beside it says that it is a repaired one",
            where=path,
            remedy="Choose another name with fix=, or remove it",
        )


def write_repaired(repaired: Repaired, paths: Sequence[Path]) -> None:
    """Writes each repaired file that can be one, and a log beside it with a line for each change.

    Args:
        repaired: from ``repair``.
        paths: from ``output_paths``.
    """
    changes = by_file(repaired.changes)
    for document, path in zip(repaired.dataset.documents, paths, strict=True):
        lines = log_text(changes.get(document.path, []))
        raw = document.raw
        if not is_standard(raw):  # in what is still broken, or there would be a change for it
            raw = standard(raw)
            lines += "values that JSON cannot hold: null instead\n"
        save_coco(path, raw)
        write_text(log_path(path), lines)

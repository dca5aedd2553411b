"""The files of a split: one annotation file a part, and ``split.json``, which says how they came about."""

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finemask.coco.coco_file import save_coco
from finemask.datatools.split.split_images import SplitSource, part_document
from finemask.errors import DataError
from finemask.ops.files import write_json

REPORT = "split.json"
_MARK = "finemask_split"


def check_output(output: Path, names: Mapping[str, Any], source: Path) -> None:
    """Raises unless the files can be written without replacing anything but an earlier split.

    Args:
        output: the folder.
        names: relative paths of the files to come.
        source: the annotation file that is split.

    Raises:
        DataError: names what is in the way.
    """
    if output.exists() and not output.is_dir():
        raise DataError("this is a file, a folder is needed", where=output, remedy="Choose another output=")
    known = set(_earlier(output))
    for name in (*names, REPORT):
        path = output / name
        if path.exists() and path.resolve() == source.resolve():
            raise DataError(
                f"the split would replace the file that is split, {source}",
                where=output,
                remedy="Choose another output=, or rename the file first",
            )
        if path.exists() and name not in known:
            raise DataError(
                f"{path} is there already, and no earlier split wrote it", where=output, remedy="Choose another output="
            )


def write_split(
    output: Path, source: SplitSource, parts: Mapping[str, NDArray[np.bool_]], report: Mapping[str, Any]
) -> list[Path]:
    """Writes the parts and the report; what an earlier split wrote there goes.

    Args:
        output: the folder.
        source: what is split.
        parts: for each file, by its relative path, which of the n images it has, bool [n].
        report: what ``split.json`` says beside the files.

    Returns:
        The annotation files.

    Raises:
        DataError: as ``check_output``.
    """
    check_output(output, parts, source.path)
    for name in _earlier(output):
        if name not in parts:
            (output / name).unlink(missing_ok=True)
    for name, chosen in parts.items():
        save_coco(output / name, part_document(source, chosen))
    write_json(output / REPORT, {_MARK: 1, "files": list(parts), **report})
    return [output / name for name in parts]


def _earlier(output: Path) -> list[str]:
    """What an earlier split wrote here: the files that its report names, and the report."""
    try:
        report = json.loads((output / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    if not isinstance(report, dict) or _MARK not in report or not isinstance(report.get("files"), list):
        return []
    inside = [
        name
        for name in report["files"]
        if isinstance(name, str)
        and name.endswith(".json")
        and not PurePosixPath(name).is_absolute()
        and ".." not in name
    ]
    return [*inside, REPORT]

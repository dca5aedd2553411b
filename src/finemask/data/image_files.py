"""Are the images there? Asked once, before anything long starts, by one listing of each folder."""

import os
from collections.abc import Sequence
from pathlib import Path

from finemask.errors import DataError


def check_images_exist(annotations: Path, images_dir: Path, file_names: Sequence[str]) -> None:
    """Raises unless every file is in the folder.

    Args:
        annotations: the file that names them, for the message.
        images_dir: folder that the names are relative to.
        file_names: relative, with forward slashes.

    Raises:
        DataError: says how many are missing, and the first three.
    """
    if not images_dir.is_dir():
        raise DataError("there is no such folder of images", where=images_dir, remedy="Check the path of the images")
    listed: dict[str, set[str]] = {}
    missing = []
    for file_name in file_names:
        folder, _, name = file_name.rpartition("/")
        if folder not in listed:
            listed[folder] = _names_in(images_dir / folder)
        if name not in listed[folder]:
            missing.append(file_name)
    if not missing:
        return
    first = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
    remedy = "Check data.images: file names are relative to that folder"
    if (images_dir.parent / missing[0]).is_file():
        remedy = "The file names already contain the folder: set data.images=."
    raise DataError(
        f"{len(missing)} of {len(file_names)} images are not in {images_dir}: {first}",
        where=annotations,
        remedy=remedy,
    )


def _names_in(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries}
    except OSError:
        return set()

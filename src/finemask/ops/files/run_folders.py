"""Folders of runs, ``OUTPUT/NAME/DATE_TIME``: which there are, and which is meant where one is named."""

import logging
import re
from pathlib import Path

log = logging.getLogger(__name__)

MODEL_FILE = "model.safetensors"  # in a run's folder: its best weights
FOLDS = "folds.json"  # in that of a run of folds: what they say
LATEST = "latest"  # a link beside the runs of a name, where links can be made
_STAMP = re.compile(r"(\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d)(?:_(\d+))?")


def is_run_folder(path: Path) -> bool:
    """Whether a folder is named as those of runs are."""
    return _STAMP.fullmatch(path.name) is not None


def runs_of(of_name: Path) -> list[Path]:
    """The folders of all runs of a name, the newest first."""
    found = []
    for path in of_name.iterdir() if of_name.is_dir() else ():
        if (stamp := _STAMP.fullmatch(path.name)) and path.is_dir():
            found.append((stamp[1], int(stamp[2] or 0), path))
    return [path for _, _, path in sorted(found, reverse=True)]


def newest_run(of_name: Path, holding: str) -> Path | None:
    """The newest run of a name in which there is such a file; ``None`` without one."""
    return next((run for run in runs_of(of_name) if (run / holding).is_file()), None)


def find_in_run(path: Path | str, file: str) -> Path:
    """The file that is meant where a run may be named instead.

    ``NAME/latest`` is found where no links can be made, too: it then means the newest run that has the file.

    Args:
        path: the file itself; a run's folder; the folder of all runs of a name, for the newest that has the file.
        file: name of the file in a run's folder, such as ``MODEL_FILE``.

    Returns:
        The file; ``path`` as it is where it leads to none.
    """
    path = Path(path)
    if path.is_dir():
        return path / file if (path / file).is_file() else _in_newest(path, file) or path
    for of_name in path.parents:
        rest = path.relative_to(of_name)
        if rest.parts[0] == LATEST and not (of_name / LATEST).is_dir() and runs_of(of_name):
            inside = rest.relative_to(LATEST)
            return _in_newest(of_name, file if inside == Path() else inside.as_posix()) or path
    return path


def _in_newest(of_name: Path, file: str) -> Path | None:
    run = newest_run(of_name, file)
    if run is None:
        return None
    if run != (newest := runs_of(of_name)[0]):
        log.warning("%s has no %s; taken: %s", newest, file, run / file)
    return run / file

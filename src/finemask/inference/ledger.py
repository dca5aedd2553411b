"""The ledger of an output folder: which files earlier runs wrote, so that a run replaces these and nothing else.

A program that reads ``masks/`` or ``label_map/`` takes all that is there. So an image that is predicted anew loses the
files it had, and a folder with anything else in it is refused before the work: results of other images, files that
``predict`` did not write, files that somebody has changed since.
"""

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from finemask.errors import ConfigError
from finemask.inference.instances import Instances
from finemask.inference.outputs.writers import output_stem
from finemask.ops.files import atomic_path
from finemask.ops.wording import plural

LEDGER = ".finemask_predict.csv"
FOLDERS = frozenset({"masks", "label_map", "crops", "labelme", "geojson", "yolo"})  # overlays are to be looked at
_BEGUN, _FILE, _DONE = "begun", "file", "done"
_Row: TypeAlias = tuple[str | int, ...]
_OF_SYSTEMS = frozenset({"Thumbs.db", "desktop.ini"})


@dataclass(frozen=True, slots=True)
class _File:
    image: str
    bytes: int
    modified: int  # s; whole ones, as some file systems keep no more


class Ledger:
    """The files of an output folder. They are listed in a file there, to which every image adds its lines.

    Args:
        output: folder of the run.
        save: what the run writes; only what is in ``FOLDERS`` matters.
    """

    def __init__(self, output: Path, save: Iterable[str]) -> None:
        self._output = output
        self._folders = [name for name in dict.fromkeys(save) if name in FOLDERS]
        self._list = output / LEDGER
        self._files: dict[str, _File] = {}  # by path below the output folder, with forward slashes
        self._of_image: dict[str, list[str]] = {}  # the same paths
        self._begun: dict[str, str] = {}  # images that an interrupted run was writing, by what their files are called
        if self._folders and self._list.is_file():
            with self._list.open(newline="", encoding="utf-8") as lines:
                for row in csv.reader(lines):
                    self._read(*row)

    def check(self, makes: Callable[[str], bool]) -> None:
        """Refuses folders that would hold more than this run's results.

        Args:
            makes: whether the run predicts on the image of that name.

        Raises:
            ConfigError: there are such files; says which.
        """
        for name in self._folders:
            folder = self._output / name
            unknown, changed, others = [], [], []
            for path in sorted(folder.rglob("*")):
                if not path.is_file() or path.name.startswith(".") or path.name in _OF_SYSTEMS:
                    continue
                inside, relative = path.relative_to(folder), path.relative_to(self._output).as_posix()
                below = inside.relative_to(inside.parts[0]) if name == "yolo" else inside  # of labels, or images
                image = self._begun.get(below.parent.as_posix()) or self._begun.get(below.with_suffix("").as_posix())
                if image is not None:
                    self._files[relative] = _state(image, path)
                listed = self._files.get(relative)
                if listed is None:
                    unknown.append(path.name)
                elif listed != _state(listed.image, path):
                    changed.append(path.name)
                elif not makes(listed.image):
                    others.append(listed.image)
            if found := unknown or changed:
                why = "not known to be of an earlier run" if unknown else "changed after being written"
                what = f"this folder holds {plural(len(found), 'file')} {why}, such as {found[0]}"
            elif others:
                what = f"this folder holds results of images that are not in the source, such as {others[0]}"
            else:
                continue
            raise ConfigError(what, where=folder, remedy="Choose another output=, or move the folder away.")
        for relative, file in self._files.items():
            self._of_image.setdefault(file.image, []).append(relative)
        if self._files:  # one line a file, whatever all runs before have left
            begun = [(_BEGUN, image, stem) for stem, image in self._begun.items()]
            with atomic_path(self._list) as temporary:
                _append(temporary, [*begun, *(_row(path, file) for path, file in self._files.items())])

    def begin(self, instances: Instances) -> None:
        """Says that the files of an image are being written: until ``replace`` they may be half there."""
        self._add([(_BEGUN, instances.name, output_stem(instances))])

    def replace(self, instances: Instances, written: Sequence[Path]) -> None:
        """Notes the files of an image, and removes those that it had before.

        Args:
            instances: of the image.
            written: its files, those of no interest here as well.
        """
        image = instances.name
        new = {path.relative_to(self._output).as_posix(): _state(image, path) for path in written}
        new = {path: state for path, state in new.items() if self._is_data(path)}
        for path in self._of_image.pop(image, []):
            if path not in new and self._is_data(path):
                self._remove(self._output / path)
        self._add([*(_row(path, file) for path, file in new.items()), (_DONE, image, output_stem(instances))])

    def _read(self, what: str = "", image: str = "", path: str = "", size: str = "", modified: str = "") -> None:
        """Takes one line of the list; the last one of a run that was killed may be half there."""
        if what == _BEGUN:
            self._begun[path] = image
        elif what == _DONE:
            self._begun.pop(path, None)
        elif what == _FILE and size.isdecimal() and modified.isdecimal():
            self._files[path] = _File(image, int(size), int(modified))

    def _add(self, rows: Iterable[_Row]) -> None:
        if self._folders:
            self._list.parent.mkdir(parents=True, exist_ok=True)
            _append(self._list, rows)

    def _remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        folder = path.parent
        while folder.parent != self._output and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent

    def _is_data(self, path: str) -> bool:
        return path.partition("/")[0] in self._folders


def _append(path: Path, rows: Iterable[_Row]) -> None:
    with path.open("a", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def _row(path: str, file: _File) -> _Row:
    return _FILE, file.image, path, file.bytes, file.modified


def _state(image: str, path: Path) -> _File:
    status = path.stat()
    return _File(image, status.st_size, int(status.st_mtime))

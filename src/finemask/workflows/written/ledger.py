"""The ledger of an output folder: which images are done, and which files are theirs.

By it a run goes on where another was killed, and replaces the files of earlier runs and nothing else. A program that
reads ``masks/`` or ``label_map/`` takes all that is there: so an image that is predicted anew loses the files it had,
and a folder with anything else in it is refused before the work: results of other images, files that ``predict`` did
not write, files that somebody has changed since.
"""

import json
import os
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from finemask.errors import ConfigError
from finemask.inference.outputs.file_names import output_stem
from finemask.inference.sources import Item
from finemask.ops.files.atomic_files import temporaries_in
from finemask.ops.wording import plural
from finemask.workflows.written.journal import Entry, Journal

LEDGER = ".finemask_predict"
FOLDERS = frozenset({"masks", "label_map", "crops", "labelme", "geojson", "yolo"})  # overlays are to be looked at
_OF_INSTANCES = frozenset({"masks", "crops"})  # a folder for each image; in the others, a file
_OF_YOLO = ("images", "labels")
_OF_SYSTEMS = frozenset({"Thumbs.db", "desktop.ini"})


class Ledger:
    """The images and files of an output folder.

    Args:
        output: folder of the run.
        save: what the run writes.

    Attributes:
        journal: where it is written down.
    """

    def __init__(self, output: Path, save: Iterable[str]) -> None:
        self._output, self._kinds = output, list(dict.fromkeys(save))
        self._data = FOLDERS.intersection(self._kinds)
        self.journal = Journal(output / LEDGER)

    def check(self, makes: Callable[[str], bool]) -> None:
        """Refuses folders that would hold more than this run's results.

        Args:
            makes: whether the run predicts on the image of that name.

        Raises:
            ConfigError: there are such files; says which.
        """
        for kind in self._kinds:
            if kind not in self._data:
                continue
            folder = self._output / kind
            unknown, changed, others = _First(), _First(), _First()
            entry: Entry | None = None  # of the file before: those of an image come together
            for path in _files_below(folder):
                stem, relative = _stem_of(kind, path.relative_to(folder)), path.relative_to(self._output).as_posix()
                entry = entry if entry is not None and entry.stem == stem else self._before(stem)
                half = self.journal.begun.get(stem)
                if half is None and (entry is None or relative not in entry.files):
                    unknown.add(path.name)
                elif half is None and entry is not None and entry.files[relative] != _state(path):
                    changed.add(path.name)
                elif not makes(image := half or (entry.image if entry is not None else "")):
                    others.add(image)
            if found := unknown if unknown.count else changed if changed.count else None:
                why = "not known to be of an earlier run" if unknown.count else "changed after being written"
                what = f"this folder holds {plural(found.count, 'file')} {why}, such as {found.name}"
            elif others.count:
                what = f"this folder holds results of images that are not in the source, such as {others.name}"
            else:
                continue
            raise ConfigError(what, where=folder, remedy="Choose another output=, or move the folder away.")

    def open(self, settings: Mapping[str, Any], gathered: Collection[str], *, go_on: bool) -> list[str]:
        """Begins a run: from here on, images can be noted.

        Args:
            settings: all that decides what is written, as JSON values.
            gathered: names of the files that gather all images.
            go_on: whether what an earlier run has done need not be done again; it is, where it had other settings.

        Returns:
            Names of the settings that were others in the earlier run; empty if none was, or ``go_on`` is not asked for.
        """
        plain, before = json.loads(json.dumps(settings)), self.journal.settings
        names = sorted({*plain, *before}) if go_on and before else []
        changed = [name for name in names if plain.get(name) != before.get(name)]
        self._sweep(gathered)
        if go_on and before and not changed:
            self.journal.go_on()
        else:
            self.journal.begin(plain)
        return changed

    def done(self, item: Item, *, with_parts: bool) -> "array[int] | None":
        """Where the journal says what an earlier run of the same settings found in a source.

        None if it is to be done: it is new, could not be read, has changed since, or its files are not as they were
        written.

        Args:
            item: the source.
            with_parts: whether what files that gather all images hold of it is needed.
        """
        if not isinstance(item.content, Path | str):
            return None
        if item.is_video:
            offsets = self.journal.videos.get(item.name)
        else:
            offset = self.journal.offsets.get(output_stem(item.name))
            offsets = None if offset is None else array("q", [offset])
        if offsets is None:
            return None
        expected = source_of(item)
        for entry in self.journal.entries(offsets):
            same = (entry.source, entry.state) == expected and (item.is_video or entry.image == item.name)
            if not same or (with_parts and entry.at is None) or not self._is_as_written(entry):
                return None
        return offsets

    def begin(self, name: str) -> None:
        """Says that the files of an image are being written: until ``note`` they may be half there."""
        self.journal.add_begun(output_stem(name), name)

    def leave_only(self, entry: Entry) -> None:
        """Removes the files that an image had before, but for those that it has now."""
        for path in self._written_before(entry.stem):
            if path not in entry.files and path.partition("/")[0] in self._data:
                self._remove(self._output / path)

    def _sweep(self, gathered: Collection[str]) -> None:
        """Removes the temporary files that killed runs have left."""
        left = [path for path, _ in temporaries_in(self._output / LEDGER)]
        left += [path for path, of in temporaries_in(self._output) if of in gathered]
        for stem in self.journal.begun:
            for kind in (*self._kinds, *(f"yolo/{name}" for name in _OF_YOLO)):
                place = self._output / kind / stem
                left += [path for path, _ in temporaries_in(place)]
                left += [path for path, of in temporaries_in(place.parent) if place.name.startswith(Path(of).stem)]
        for path in left:
            path.unlink(missing_ok=True)

    def _before(self, stem: str) -> Entry | None:
        offset = self.journal.offsets.get(stem)
        return None if offset is None else next(self.journal.entries([offset]))

    def _written_before(self, stem: str) -> set[str]:
        """Files of earlier runs, of an image whose files are called so."""
        entry = self._before(stem)
        before = set() if entry is None else set(entry.files)
        if stem in self.journal.begun:
            for kind in self._data:
                folder = self._output / kind
                inner = [folder / name for name in _OF_YOLO] if kind == "yolo" else [folder]
                for place in (one / stem if kind in _OF_INSTANCES else (one / stem).parent for one in inner):
                    for path in place.iterdir() if place.is_dir() else ():
                        if path.is_file() and _stem_of(kind, path.relative_to(folder)) == stem:
                            before.add(path.relative_to(self._output).as_posix())
        return before

    def _is_as_written(self, entry: Entry) -> bool:
        try:
            return all(_state(self._output / path) == state for path, state in entry.files.items())
        except OSError:
            return False

    def _remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        folder = path.parent
        while folder.parent != self._output and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent


class _First:
    """Counts names, and knows the first."""

    def __init__(self) -> None:
        self.count, self.name = 0, ""

    def add(self, name: str) -> None:
        self.count, self.name = self.count + 1, self.name or name


def source_of(item: Item) -> tuple[str, tuple[int, ...]]:
    """The file or address that a source is; of a file its bytes, and when it was changed, ns."""
    state: tuple[int, ...] = ()
    if isinstance(item.content, Path):
        try:
            status = item.content.stat()
            state = status.st_size, status.st_mtime_ns
        except OSError:
            pass  # it is not there: reading it says why
    return str(item.content), state


def states_of(paths: Iterable[Path], output: Path) -> dict[str, tuple[int, int]]:
    """Files that were written, as an ``Entry`` has them."""
    return {path.relative_to(output).as_posix(): _state(path) for path in paths}


def _stem_of(kind: str, inside: Path) -> str:
    """What the files of an image are called, of which one lies there in the folder of that kind."""
    if kind == "yolo":
        inside = inside.relative_to(inside.parts[0])
    return (inside.parent if kind in _OF_INSTANCES else inside.with_suffix("")).as_posix()


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, int(status.st_mtime)  # whole seconds, as some file systems keep no more


def _files_below(folder: Path) -> Iterator[Path]:
    """Files of results, in order; hidden ones and those of systems left out."""
    for place, inner, names in os.walk(folder):
        inner.sort()
        for name in sorted(names):
            if not name.startswith(".") and name not in _OF_SYSTEMS:
                yield Path(place, name)

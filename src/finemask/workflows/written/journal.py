"""The journal of an output folder: two hidden files, to which every image adds a line.

``journal.jsonl`` says what became of it, ``parts.jsonl`` what files that gather all images are to hold of it. A line
counts when it is whole: a process that is killed leaves half a line at most. Nothing is held in memory but where the
lines of earlier runs begin.
"""

import json
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from finemask.ops.files.atomic_files import atomic_path

_RUN, _BEGUN, _DONE, _VIDEO, _FAILED = "run", "begun", "done", "video", "failed"


@dataclass(frozen=True, slots=True)
class Entry:
    """What became of an image.

    Args:
        image: its name.
        stem: what its files are called.
        source: the file or address that it comes from.
        state: bytes of that file, and when it was changed, ns; empty for an address.
        files: its files by path below the output folder: their bytes, and when they were changed, s.
        instances: found, by class.
        duplicates: instances on top of a better one.
        size_hw: height and width.
        drift: how unlike the training images it is, see ``Instances``; None: not known.
        has_picture: whether the picture was held in memory, so that it could be drawn on.
        at: where its parts are in ``parts.jsonl``; None: none were kept.
        reason: why there is nothing; empty: there is.
    """

    image: str
    stem: str = ""
    source: str = ""
    state: tuple[int, ...] = ()
    files: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    instances: Mapping[str, int] = field(default_factory=dict)
    duplicates: int = 0
    size_hw: tuple[int, int] = (0, 0)
    drift: float | None = None
    has_picture: bool = True
    at: int | None = None
    reason: str = ""


class Journal:
    """Lines of earlier runs, and those of this one behind them.

    Args:
        folder: of the two files.

    Attributes:
        settings: of the earlier run; empty: there was none.
        offsets: where the last line of each image of earlier runs is, by what its files are called.
        videos: where those of the frames of each video are that was done to its end, by its name.
        begun: images that an earlier run was writing when it was killed, by what their files are called.
    """

    def __init__(self, folder: Path) -> None:
        self._lines, self._records = folder / "journal.jsonl", folder / "parts.jsonl"
        self.settings: dict[str, Any] = {}
        self.offsets: dict[str, int] = {}
        self.videos: dict[str, array[int]] = {}
        self.begun: dict[str, str] = {}
        self._end = 0  # of the last whole line
        self._open: list[BinaryIO] = []
        if self._lines.is_file():
            self._read()

    def go_on(self) -> None:
        """Begins a run with the settings of the earlier one: all that it says still counts."""
        os.truncate(self._lines, self._end)
        self._open = [path.open("ab", buffering=0) for path in (self._lines, self._records)]

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Begins a run with settings of its own: of earlier ones it stays known which files they wrote."""
        self._lines.parent.mkdir(parents=True, exist_ok=True)
        moved = {}
        with atomic_path(self._lines) as temporary, temporary.open("wb") as file:
            file.write(_line(_RUN, settings))
            for stem, image in self.begun.items():
                file.write(_line(_BEGUN, [stem, image]))
            for stem, entry in zip(self.offsets, self.entries(self.offsets.values()), strict=True):
                moved[stem] = file.tell()
                file.write(_line(_DONE, {"image": entry.image, "stem": stem, "files": entry.files}))
        self.offsets, self.videos = moved, {}
        self._records.unlink(missing_ok=True)
        self._open = [path.open("ab", buffering=0) for path in (self._lines, self._records)]

    def close(self) -> None:
        """Ends the run; all can still be read."""
        for file in self._open:
            file.close()

    def add_begun(self, stem: str, image: str) -> None:
        """The files of an image are being written: until ``add`` they may be half there."""
        self._write(_BEGUN, [stem, image])

    def add(self, entry: Entry, parts: Mapping[str, Any] | None = None) -> int:
        """Adds what became of an image; returns where it is.

        Args:
            entry: that.
            parts: what is kept of it for files that gather all images, by the names of their writers.
        """
        values = {name: value for name, value in asdict(entry).items() if value not in ((), {}, "", None)}
        if parts:
            values["at"] = self._open[1].seek(0, os.SEEK_END)
            self._open[1].write(_json(parts))
        return self._write(_FAILED if entry.reason else _DONE, values)

    def add_video(self, name: str, offsets: Sequence[int]) -> None:
        """A video was done to its end; where the lines of its frames are."""
        self._write(_VIDEO, [name, list(offsets)])

    def entries(self, offsets: Iterable[int]) -> Iterator[Entry]:
        """What the lines at these places say."""
        if not self._lines.exists():
            return
        with self._lines.open("rb") as file:
            for offset in offsets:
                file.seek(offset)
                (values,) = json.loads(file.readline()).values()
                values["files"] = {path: tuple(state) for path, state in values.get("files", {}).items()}
                lists = {name: tuple(values[name]) for name in ("state", "size_hw") if name in values}
                yield Entry(**(values | lists))

    def parts(self, offsets: Iterable[int], kind: str) -> Iterator[tuple[Entry, Any]]:
        """What is kept of the images whose lines are at these places, of those of which anything is.

        Args:
            offsets: the places.
            kind: name of the writer that it is for.
        """
        with self._records.open("rb") as file:
            for entry in self.entries(offsets):
                if entry.at is not None:
                    file.seek(entry.at)
                    yield entry, json.loads(file.readline())[kind]

    def _write(self, what: str, values: Any) -> int:
        offset = self._open[0].seek(0, os.SEEK_END)
        self._open[0].write(_line(what, values))
        return offset

    def _read(self) -> None:
        take: dict[str, Callable[[Any, int], Any]] = {
            _RUN: lambda values, _: self.settings.update(values),
            _BEGUN: lambda values, _: self.begun.update([values]),
            _DONE: self._take_done,
            _VIDEO: lambda values, _: self.videos.update({values[0]: array("q", values[1])}),
            _FAILED: lambda values, _: None,
        }
        with self._lines.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                try:
                    ((what, values),) = json.loads(line).items()
                except ValueError:  # somebody has written to it: what follows is not to be trusted
                    break
                take[what](values, self._end)
                self._end += len(line)

    def _take_done(self, values: Mapping[str, Any], offset: int) -> None:
        self.begun.pop(values["stem"], None)
        self.offsets[values["stem"]] = offset


def _line(what: str, values: Any) -> bytes:
    return _json({what: values})


def _json(values: Any) -> bytes:
    return json.dumps(values, separators=(",", ":")).encode() + b"\n"

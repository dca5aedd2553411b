"""Writing what is found while the model goes on: threads write, the ledger is kept in the order of the source."""

import csv
import json
from array import array
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from finemask.errors import DataError
from finemask.inference.instances import Instances
from finemask.inference.outputs.writers import Collector, Writer
from finemask.inference.sources import Item, Unread
from finemask.ops.files.atomic_files import atomic_path
from finemask.types import Category
from finemask.workflows.written.journal import Entry
from finemask.workflows.written.ledger import Ledger, source_of
from finemask.workflows.written.one_image import ImageWriting, Parts, unwritten

MANIFEST = "manifest.jsonl"
FAILED = "failed.csv"
_AHEAD_PX = 64_000_000  # of pictures that wait to be written: 192 MB


class Written(NamedTuple):
    """An image of which a worker elsewhere has written the files, or why it could not."""

    name: str
    result: tuple[Entry, Parts] | Exception


@dataclass(frozen=True, slots=True)
class _Job:
    """An image that is being written."""

    item: Item
    pixels: int
    future: Future[tuple[Entry, Parts]]


@dataclass(frozen=True, slots=True)
class _Failure:
    item: Item
    error: DataError


@dataclass(frozen=True, slots=True)
class _Left:
    """A source behind which the answers have come: one that was kept, or a video that was done to its end."""

    item: Item
    kept: Sequence[int] | None


_Step: TypeAlias = _Job | _Failure | _Left
Noted: TypeAlias = Callable[[Entry, DataError | None], None]
"""Is told what became of an image, in the order of the source, and why nothing did."""


class Writing:
    """The files of a run.

    Args:
        items: of the source.
        ledger: opened.
        write: what is found in an image; called by the threads.
        go_on: whether what the ledger says to be done is left as it is.
        threads: that write.

    Attributes:
        to_do: the items that are not done yet.
        kept: images of earlier runs that are left as they are.
    """

    def __init__(
        self,
        items: Sequence[Item],
        ledger: Ledger,
        write: ImageWriting,
        *,
        go_on: bool,
        threads: int,
    ) -> None:
        self._items, self._ledger, self._write, self._threads = items, ledger, write, threads
        self._pool = ThreadPoolExecutor(threads)
        self._noted: Noted = lambda entry, error: None
        self._at = 0  # of the item whose answers come
        self._steps: deque[_Step] = deque()
        self._pixels = 0
        self._frames: array[int] = array("q")  # of the video that is being noted
        self._is_broken = False  # whether something of that video could not be read or written
        self._offsets: array[int] = array("q")  # of the images in the order of the source
        needed = bool(write.collectors)
        done = (ledger.done(item, with_parts=needed) for item in items) if go_on else iter(())
        self._kept = {number: offsets for number, offsets in enumerate(done) if offsets is not None}
        self.to_do = [item for number, item in enumerate(items) if number not in self._kept]
        self.kept = sum(map(len, self._kept.values()))

    def write_all(self, answers: Iterable[Instances | Written | Unread], noted: Noted) -> None:
        """Takes the answers to the items that are to be done, in their order; all else is kept.

        However it ends, the answers that have come are written and noted.

        Args:
            answers: as they come; no more are asked for while much is not written yet.
            noted: is told of each image.

        Raises:
            OSError: an image could not be written, and so it will be with the next.
        """
        self._noted, is_whole = noted, False
        try:
            for answer in answers:
                self._add(answer)
            is_whole = True
        finally:
            self._finish(is_whole)

    def begin(self, item: Item) -> None:
        """Says that a worker elsewhere is about to write the files of an image."""
        self._ledger.begin(item.name)

    def _add(self, answer: Instances | Written | Unread) -> None:
        while not _is_of(self._items[self._at], answer.name):
            self._leave(is_whole=True)
        item = self._items[self._at]
        if isinstance(answer, Unread):
            self._steps.append(_Failure(item, answer.error))
        elif isinstance(answer, Written):
            self._steps.append(_Job(item, 0, _over(answer.result)))
        else:
            self._ledger.begin(answer.name)
            pixels = answer.image_size_hw[0] * answer.image_size_hw[1] if answer.image is not None else 0
            self._steps.append(_Job(item, pixels, self._pool.submit(self._write, item, answer)))
            self._pixels += pixels
        while self._steps and (len(self._steps) > 2 * self._threads or self._pixels > _AHEAD_PX or self._is_over()):
            self._note(self._steps.popleft())

    def _finish(self, is_whole: bool) -> None:
        while self._at < len(self._items):
            self._leave(is_whole)
        with self._pool:
            while self._steps:
                try:
                    self._note(self._steps.popleft())
                except BaseException:
                    if is_whole:
                        raise  # what was interrupted ends with what interrupted it

    def entries(self) -> Iterator[Entry]:
        """What became of each image, in the order of the source."""
        return self._ledger.journal.entries(self._offsets)

    def gather(self, categories: Sequence[Category], image_ids: Mapping[str, int] | None) -> list[Path]:
        """Writes what is written once: the manifest, the files of all images; returns those and the folders.

        Args:
            categories: of the instances.
            image_ids: by name of the image; None numbers them from 1 on.
        """
        paths = [path for writer in self._write.of_an_image.values() for path in writer.finish(categories)]
        for name, collector in self._write.collectors.items():
            parts = enumerate(self._ledger.journal.parts(self._offsets, name), start=1)
            numbered = (
                (part, number if image_ids is None else image_ids.get(entry.image)) for number, (entry, part) in parts
            )
            paths += collector.write(numbered, categories)
        return paths

    def write_manifest(self) -> list[Path]:
        """Writes a line for each image: which file became what, and why nothing did; and a table of the latter.

        Returns:
            The manifest, and the table if there is one.
        """
        path, table = self._write.output / MANIFEST, self._write.output / FAILED
        failures = 0
        with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            for entry in self.entries():
                line = _manifest_line(entry)
                file.write(json.dumps(line, ensure_ascii=not _is_text(line["source"])) + "\n")
                failures += bool(entry.reason)
        if not failures:
            table.unlink(missing_ok=True)
            return [path]
        with (
            atomic_path(table) as temporary,
            temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
        ):
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(("image", "source", "reason"))
            rows.writerows((entry.image, entry.source, entry.reason) for entry in self.entries() if entry.reason)
        return [path, table]

    def _is_over(self) -> bool:
        first = self._steps[0]
        return not isinstance(first, _Job) or first.future.done()

    def _leave(self, is_whole: bool) -> None:
        """Goes on to the next item."""
        item, kept = self._items[self._at], self._kept.pop(self._at, None)
        if kept is not None or (item.is_video and is_whole):
            self._steps.append(_Left(item, kept))
        self._at += 1

    def _note(self, step: _Step) -> None:
        if isinstance(step, _Left):
            if step.kept is not None:
                self._offsets.extend(step.kept)
            elif len(self._frames) and not self._is_broken:
                self._ledger.journal.add_video(step.item.name, self._frames)
            self._frames, self._is_broken = array("q"), False
            return
        if isinstance(step, _Failure):
            self._fail(step.item, step.error)
            return
        self._pixels -= step.pixels
        try:
            entry, parts = step.future.result()
        except Exception as error:
            if (reason := unwritten(error)) is None:
                raise
            self._fail(step.item, reason)
            return
        self._ledger.leave_only(entry)
        offset = self._ledger.journal.add(entry, parts)
        self._offsets.append(offset)
        if step.item.is_video:
            self._frames.append(offset)
        self._noted(entry, None)

    def _fail(self, item: Item, error: DataError) -> None:
        source, state = source_of(item)
        entry = Entry(image=item.name, source=source, state=state, reason=error.what)
        self._offsets.append(self._ledger.journal.add(entry))
        self._is_broken = item.is_video
        self._noted(entry, forgetting(error))


def _over(result: tuple[Entry, Parts] | Exception) -> Future[tuple[Entry, Parts]]:
    """A future that has come."""
    future: Future[tuple[Entry, Parts]] = Future()
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
    return future


def forgetting(error: DataError) -> DataError:
    """The error without the frames that it came through: these hold files and pictures."""
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error


def _is_text(path: str) -> bool:
    """Whether the bytes of a path are UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_of(item: Item, name: str) -> bool:
    """Whether an answer of that name is one to this item."""
    return name == item.name or (item.is_video and name.startswith(item.frames))


def _manifest_line(entry: Entry) -> dict[str, Any]:
    source = {"image": entry.image, "source": entry.source, "bytes": entry.state[0] if entry.state else None}
    if entry.reason:
        return source | {"reason": entry.reason}
    height, width = entry.size_hw
    return source | {
        "width": width,
        "height": height,
        "instances": dict(entry.instances),
        "drift": entry.drift,
        "files": list(entry.files),
    }


def gathered_names(writers: Iterable[Writer | Collector]) -> Collection[str]:
    """Names of the files that hold all images."""
    return {MANIFEST, FAILED, *(path.name for writer in writers for path in writer.gathered)}

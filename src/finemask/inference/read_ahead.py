"""Reading while other work goes on: threads read images ahead of the model, in order, within a bound on pixels."""

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count, islice
from pathlib import Path
from threading import Condition
from typing import Any, TypeVar

from finemask.errors import DataError
from finemask.inference.sources import AS_USUAL, Item, LargeImage, NamedImage, Opening, Source, Unread, items_in
from finemask.ops.images.image_kinds import stored_size
from finemask.ops.images.image_reading import AS_THE_FILE_SAYS, ImageReading

_AHEAD_PX = 64_000_000  # of images that are read before they are asked for: 192 MB
_BATCH_PX = 32_000_000  # of the images of a batch: from so many on, it is handed over
_UNKNOWN_PX = 12_000_000  # of an image whose size is known when it has come

T = TypeVar("T")
R = TypeVar("R")


def read_images(
    source: Source,
    reading: ImageReading = AS_THE_FILE_SAYS,
    opening: Opening = AS_USUAL,
    *,
    whole_px: float = math.inf,
    threads: int = 0,
) -> Iterator[NamedImage | LargeImage | Unread]:
    """All images of a source, one after another, under the names that ``list_items`` gives them.

    Args:
        source: of any kind; a generator is asked for no more than what is read.
        reading: page, range and channels of files that hold more than one 8-bit picture.
        opening: of what is no image file.
        whole_px: files of more pixels are not decoded.
        threads: that read files and URLs ahead of whoever takes the images, ``_AHEAD_PX`` pixels at most; an image that
            is larger waits for its turn. 0: nothing is read before it is asked for, which is so for generators anyway.
    """
    if isinstance(source, Iterator):
        threads = 0
    gate = _Gate()

    def read(numbered: tuple[int, Item | Unread]) -> tuple[Any, int]:
        """What a thread can read: the image, and how many pixels of the bound it takes; all else as it is."""
        ticket, item = numbered
        if not threads or isinstance(item, Unread) or item.is_video or not isinstance(item.content, Path | str):
            return item, 0
        pixels = _pixels(item)
        gate.enter(ticket, pixels)
        return next(_images_of(item, reading, opening, whole_px)), pixels

    results = map_ahead(read, enumerate(items_in(source)), threads, ahead=2 * threads)
    try:
        for ticket, (result, pixels) in enumerate(results):
            gate.leave(pixels)
            if isinstance(result, Item):
                yield from _images_of(result, reading, opening, whole_px)
            else:
                yield result
            gate.ask_for(ticket + 1)
    finally:
        gate.shut()
        results.close()


def map_ahead(function: Callable[[T], R], items: Iterable[T], threads: int, ahead: int) -> Generator[R]:
    """What ``map`` gives, in order; an error comes where its item is.

    Args:
        function: called by the threads.
        items: taken one by one by whoever takes the results.
        threads: that work; 0: none, each item is worked on when it is asked for.
        ahead: items that are worked on before they are asked for.
    """
    if not threads:
        yield from map(function, items)
        return
    waiting: deque[Future[R]] = deque()
    coming = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        try:
            waiting.extend(pool.submit(function, item) for item in islice(coming, ahead))
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(function, item) for item in islice(coming, 1))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def in_background(items: Generator[T], ahead: int) -> Generator[T]:
    """The same items; one thread makes them, so many ahead of whoever takes them."""
    end = object()
    made = map_ahead(lambda _: next(items, end), count(), threads=1, ahead=ahead)
    try:
        for item in made:
            if item is end:
                return
            yield item  # type: ignore[misc] # not the end
    finally:
        made.close()  # first: its thread may be at work on the items
        items.close()


def batches(images: Iterable[NamedImage | LargeImage | Unread], size: int) -> Iterator[list[NamedImage | Unread]]:
    """Images that were read whole, so many at a time; fewer where they are large."""
    batch: list[NamedImage | Unread] = []
    pixels = 0
    for image in images:
        assert not isinstance(image, LargeImage)
        batch.append(image)
        pixels += 0 if isinstance(image, Unread) else image.image.shape[0] * image.image.shape[1]
        if len(batch) == size or pixels >= _BATCH_PX:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch


class _Gate:
    """Lets images in that may be decoded: the one that is asked for, and others while there is room."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._next, self._pixels, self._is_shut = 0, 0, False

    def enter(self, ticket: int, pixels: int) -> None:
        """Waits until the image of that number may be decoded."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_shut or ticket == self._next or self._pixels + pixels <= _AHEAD_PX)
            if self._is_shut:
                raise RuntimeError("nobody waits for this image any more")
            self._pixels += pixels

    def leave(self, pixels: int) -> None:
        """An image has been taken."""
        with self._changed:
            self._pixels -= pixels
            self._changed.notify_all()

    def ask_for(self, ticket: int) -> None:
        """The image of that number is waited for."""
        with self._changed:
            self._next = ticket
            self._changed.notify_all()

    def shut(self) -> None:
        """No image is wanted any more."""
        with self._changed:
            self._is_shut = True
            self._changed.notify_all()


def _pixels(item: Item) -> int:
    """Pixels of an image, read off its header; 0 where it does not say: reading it says why."""
    if not isinstance(item.content, Path):
        return _UNKNOWN_PX
    try:
        (height, width), _ = stored_size(item.content)
    except Exception:  # see stored_size
        return 0
    return height * width


def _images_of(
    item: Item | Unread, reading: ImageReading, opening: Opening, whole_px: float
) -> Iterator[NamedImage | LargeImage | Unread]:
    if isinstance(item, Unread):
        yield item
        return
    has_some = False
    try:
        large = item.large(whole_px)
        for image in item.read(reading, opening) if large is None else [large]:
            has_some = True
            yield image
    except DataError as error:
        yield Unread(item.name, error, in_part=has_some)

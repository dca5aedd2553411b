"""From the bytes of an image to its instances: checked, decoded a few at a time, queued, answered in time."""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Literal, TypeVar
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from finemask.errors import DataError
from finemask.inference.content.web_fetch import FetchLimits, fetch
from finemask.inference.drift import Drift, drift_in_words, drift_of
from finemask.inference.instances import Instances
from finemask.inference.predictor import Predictor
from finemask.inference.score_limits import Threshold, score_limits
from finemask.inference.sources import NamedImage
from finemask.serving.model_queue import ModelQueue
from finemask.serving.received_image import ReceivedImage, check_image, decode_received, plain_name
from finemask.serving.refusals import RefusalError
from finemask.serving.server_metrics import ServerMetrics
from finemask.serving.server_settings import ServerSettings

log = logging.getLogger(__name__)

_DOWNLOADS = 8  # at a time
_WARM_UP_HW = (240, 320)
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Found:
    """An image and what is in it.

    Args:
        instances: above the threshold, with their image.
        threshold: what was asked for; the server's own where nothing was.
        is_whole: whether the model saw the image as a whole, not in tiles.
        queue_ms: waited before the model.
        model_ms: in the model.
        drift: how unlike the training images it is; None: not known.
    """

    instances: Instances
    threshold: Threshold
    is_whole: bool
    queue_ms: float
    model_ms: float
    drift: Drift | None = None


class ImageService:
    """What every route that takes an image goes through.

    Args:
        predictor: loaded.
        settings: limits.

    Attributes:
        state: ``starting`` until the model has seen a first image, then ``ready``, in the end ``stopping``.
    """

    def __init__(self, predictor: Predictor, settings: ServerSettings) -> None:
        score_limits(predictor.header, settings.threshold)  # a bad one is refused before anything is served
        self.predictor, self.settings = predictor, settings
        self.metrics = ServerMetrics()
        self.queue = ModelQueue(predictor, settings, self.metrics)
        self.state: Literal["starting", "ready", "stopping", "failed"] = "starting"
        self._inside = 0
        self._buffered = 0
        threads = min(4, os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._downloads = ThreadPoolExecutor(_DOWNLOADS, thread_name_prefix="download")
        self._decoded = asyncio.Semaphore(2 * settings.at_once + threads)
        self.metrics.watch("queue_depth", "Images received and not yet answered.", lambda: self._inside)
        self.metrics.watch("buffered_bytes", "Of bodies that are held.", lambda: self._buffered)
        self.metrics.watch("ready", "1 where images are answered.", lambda: self.is_ready)

    @property
    def is_ready(self) -> bool:
        """Whether images are answered."""
        return self.state == "ready" and self.queue.is_alive

    async def start(self) -> None:
        """Starts the model's thread; ``state`` is ``ready`` when it has seen an image."""
        self.queue.start()
        blank = NamedImage("warm-up", np.full((*_WARM_UP_HW, 3), 127, dtype=np.uint8), None)
        try:
            await self.queue.answer(blank, score_limits(self.predictor.header, 0.0), time.monotonic() + 3600)
        except Exception:
            log.exception("the model fails on a grey image of %s × %s px", *_WARM_UP_HW[::-1])
            self.state = "failed"
        else:
            self.state = "ready"

    async def stop(self) -> None:
        """Ends when everything accepted is done."""
        self.state = "stopping"
        await asyncio.to_thread(self.queue.close)
        self._pool.shutdown(wait=True)
        self._downloads.shutdown(wait=False, cancel_futures=True)

    def refuse_if_busy(self) -> None:
        """Says before a body is received that it would be received in vain.

        Raises:
            RefusalError: the model is not ready, or as many images wait as may.
        """
        if not self.is_ready and self.state != "stopping":
            raise RefusalError(503, "not-ready", f"the model is {self.state}", retry_after_s=5)
        if self._inside >= self.settings.queue_size:
            raise RefusalError(
                429,
                "queue-full",
                f"{self._inside} images are waiting, as many as may",
                remedy="Try again later, or start the server with a larger queue_size.",
                retry_after_s=self.queue.wait_s(self._inside),
            )

    @contextmanager
    def buffered(self) -> Iterator[Callable[[int], None]]:
        """Counts the bytes that a request holds; the function is told of more of them.

        Raises:
            RefusalError: by that function, where all requests together hold too many.
        """
        own = 0

        def add(count: int) -> None:
            nonlocal own
            if self._buffered + count > self.settings.buffer_bytes:
                raise RefusalError(
                    503,
                    "too-many-bytes",
                    f"requests of {self._buffered / 2**20:.0f} MiB are being received, as many as may",
                    remedy="Try again later.",
                    retry_after_s=self.queue.wait_s(self._inside),
                )
            own += count
            self._buffered += count

        try:
            yield add
        finally:
            self._buffered -= own

    async def find(
        self, content: bytes, name: str = "image", threshold: Threshold | None = None, deadline: float | None = None
    ) -> Found:
        """The instances in an encoded image.

        Args:
            content: the bytes of its file.
            name: what it is called.
            threshold: as of ``Predictor.predict``; the server's own by default.
            deadline: of ``time.monotonic``; by default ``timeout_s`` from now.

        Raises:
            RefusalError: it is no image, or too large, or there is no room or no time for it.
            FinemaskError: it cannot be read, or the model cannot take it.
        """
        self.refuse_if_busy()
        chosen = self.settings.threshold if threshold is None else threshold
        limits = score_limits(self.predictor.header, chosen)
        until = time.monotonic() + self.settings.timeout_s if deadline is None else deadline
        async with self.pixels(content, until) as image:
            answered = await self.queue.answer(NamedImage(name, image, None), limits, until)
            drift = await self._in_pool(lambda: drift_of(image, self.predictor.header))
        if drift is not None:
            self.metrics.drift.observe(drift.value)
        times = answered.queue_s * 1000, answered.model_s * 1000
        return Found(answered.instances, chosen, answered.is_whole, *times, drift)

    @asynccontextmanager
    async def pixels(self, content: bytes, until: float) -> AsyncIterator[NDArray[np.uint8]]:
        """The pixels [H, W, 3] of an encoded image, for a block that ends in time; few are held at a time.

        Args:
            content: the bytes of its file.
            until: of ``time.monotonic``.

        Raises:
            RefusalError: it is no image, or too large, or cannot be read, or there is no time for it.
        """
        self._inside += 1
        try:
            async with asyncio.timeout(until - time.monotonic()):
                await self._in_pool(lambda: check_image(content, self.settings.max_pixels))
                async with self._decoded:
                    yield await self._in_pool(lambda: decode_received(content, self.predictor.reading))
        except TimeoutError:
            raise RefusalError(
                503,
                "timed-out",
                f"no answer within {self.settings.timeout_s:g} s",
                remedy="Try again later.",
                retry_after_s=self.queue.wait_s(self._inside),
            ) from None
        finally:
            self._inside -= 1

    async def fetch(self, address: str, deadline: float) -> ReceivedImage:
        """The file behind a public http(s) address.

        Args:
            address: as a client sent it.
            deadline: of ``time.monotonic``.

        Raises:
            RefusalError: it cannot be had.
        """
        # A name that a stranger gives is looked up by this machine alone.
        limits = FetchLimits(self.settings.max_bytes, total_s=deadline - time.monotonic(), by_proxy=False)
        try:
            content = await asyncio.get_running_loop().run_in_executor(self._downloads, fetch, address, limits)
        except DataError as error:
            what = f"{error.where}: {error.what}"
            raise RefusalError(422, "address-not-fetched", what, remedy="Send the image itself.") from None
        return ReceivedImage(content, plain_name(unquote(urlsplit(address).path)))

    def warnings_of(self, found: Found) -> list[str]:
        """What may be wrong with an answer: objects of a size, or a picture of a look, that the model does not know."""
        watch = self.predictor.watch_scale()
        if found.is_whole:
            watch.add(found.instances)
        unlike = None if found.drift is None or found.drift.value <= 1 else drift_in_words("the picture", found.drift)
        return [said for said in (watch.in_words(), unlike) if said is not None]

    async def in_pool(self, work: Callable[[], _Result]) -> _Result:
        """Does something that takes long, such as drawing, beside the answering of requests."""
        return await self._in_pool(work)

    async def _in_pool(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

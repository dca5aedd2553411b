"""The queue before the model: many requests wait, one thread works, several images at a time where several wait."""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from finemask.errors import FinemaskError
from finemask.inference.instances import Instances
from finemask.inference.predictor import Predictor
from finemask.inference.sources import NamedImage
from finemask.serving.refusals import RefusalError
from finemask.serving.server_metrics import ServerMetrics
from finemask.serving.server_settings import ServerSettings

log = logging.getLogger(__name__)

_FIRST_GUESS_S = 0.5  # of an image, before one was measured
_SMOOTHING = 0.1  # weight of the newest measurement


@dataclass(slots=True, eq=False)
class Waiting:
    """An image on its way through the queue.

    Args:
        image: decoded.
        limits: the least score of each class.
        deadline: of ``time.monotonic``, after which nobody wants the answer.
        loop: of the request.
        answer: is given the instances.
        since: of ``time.monotonic``, when it came.
    """

    image: NamedImage
    limits: Mapping[str, float]
    deadline: float
    loop: asyncio.AbstractEventLoop
    answer: "asyncio.Future[Answered]"
    since: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class Answered:
    """What the model found in an image, and how long that took.

    Args:
        instances: above the image's limits.
        queue_s: waited before the model.
        model_s: of the batch that it was in.
    """

    instances: Instances
    queue_s: float
    model_s: float


class ModelQueue:
    """Hands images to a model in one thread.

    Args:
        predictor: used by that thread alone.
        settings: how many images go together.
        metrics: told of every batch.
    """

    def __init__(self, predictor: Predictor, settings: ServerSettings, metrics: ServerMetrics) -> None:
        self._predictor, self._settings, self._metrics = predictor, settings, metrics
        self._waiting: deque[Waiting] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._image_s = _FIRST_GUESS_S
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)

    def start(self) -> None:
        """Begins to work."""
        self._thread.start()

    def close(self) -> None:
        """Ends the thread when everything that waits is done; returns then."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def depth(self) -> int:
        """Images that wait."""
        return len(self._waiting)

    @property
    def is_alive(self) -> bool:
        """Whether the thread works."""
        return self._thread.is_alive()

    def wait_s(self, ahead: int) -> float:
        """How long so many images will take, as far as the last ones tell."""
        return ahead * self._image_s

    async def answer(self, image: NamedImage, limits: Mapping[str, float], deadline: float) -> Answered:
        """What the model finds in an image; a request that is cancelled takes its image out of the queue.

        Raises:
            FinemaskError: the model cannot take this image.
        """
        loop = asyncio.get_running_loop()
        waiting = Waiting(image, limits, deadline, loop, loop.create_future())
        with self._changed:
            if self._closing:
                raise RefusalError(503, "stopping", "the server is stopping", retry_after_s=5)
            self._waiting.append(waiting)
            self._changed.notify()
        return await waiting.answer

    def _work(self) -> None:
        while batch := self._next_batch():
            started = time.monotonic()
            for waiting in batch:
                found = self._found(waiting)
                if isinstance(found, Instances):
                    model_s = time.monotonic() - started
                    _settle(waiting, Answered(found, started - waiting.since, model_s))
                    self._metrics.images.inc()
                    self._metrics.queue_seconds.observe(started - waiting.since)
                else:
                    _settle(waiting, found)
            taken = time.monotonic() - started
            self._image_s += _SMOOTHING * (taken / len(batch) - self._image_s)
            self._metrics.batch_size.observe(len(batch))
            self._metrics.model_seconds.observe(taken)

    def _next_batch(self) -> list[Waiting]:
        """At least one image that somebody still wants; none at the end."""
        most = self._settings.batch_size
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                until = time.monotonic() + self._settings.batch_wait_s
                while len(self._waiting) < most and not self._closing and (left := until - time.monotonic()) > 0:
                    self._changed.wait(left)
                batch: list[Waiting] = []
                while self._waiting and len(batch) < most:
                    waiting = self._waiting.popleft()
                    if not waiting.answer.done() and time.monotonic() < waiting.deadline:
                        batch.append(waiting)
                if batch or (self._closing and not self._waiting):
                    return batch

    def _found(self, waiting: Waiting) -> Instances | Exception:
        """What was found in an image, or why nothing could be."""
        settings = self._settings
        try:
            [found] = self._predictor.predict(
                [waiting.image], waiting.limits, tile=settings.tile, overlap=settings.overlap
            )
            return found
        except FinemaskError as error:
            return error
        except Exception as error:
            log.exception("the model failed on an image of %s", waiting.image.image.shape)
            return error


def _settle(waiting: Waiting, result: Answered | Exception) -> None:
    def settle() -> None:
        if waiting.answer.done():  # the request is gone
            return
        if isinstance(result, Exception):
            waiting.answer.set_exception(result)
        else:
            waiting.answer.set_result(result)

    waiting.loop.call_soon_threadsafe(settle)

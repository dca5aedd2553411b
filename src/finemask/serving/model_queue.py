"""The queue before the model: many requests wait, one thread works, or several side by side."""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from finemask.errors import FinemaskError
from finemask.inference.instances import Instances
from finemask.inference.predictor import Predictor
from finemask.inference.sources import NamedImage, Unread
from finemask.serving.refusals import RefusalError
from finemask.serving.server_metrics import ServerMetrics
from finemask.serving.server_settings import ServerSettings

log = logging.getLogger(__name__)

_FIRST_GUESS_S = 0.5  # of an image, before one was measured
_SMOOTHING = 0.1  # weight of the newest measurement


@dataclass(frozen=True, slots=True)
class Answered:
    """What the model found in an image, and how long that took.

    Args:
        instances: above the image's limits.
        is_whole: whether the model saw the image as a whole, not in tiles.
        queue_s: waited before the model.
        model_s: in the model.
    """

    instances: Instances
    is_whole: bool
    queue_s: float
    model_s: float


@dataclass(slots=True, eq=False)
class Waiting:
    """An image on its way through the queue.

    Args:
        image: decoded.
        limits: the least score of each class.
        deadline: of ``time.monotonic``, after which nobody wants the answer.
        loop: of the request.
        answer: is given what was found.
        since: of ``time.monotonic``, when it came.
    """

    image: NamedImage
    limits: Mapping[str, float]
    deadline: float
    loop: asyncio.AbstractEventLoop
    answer: "asyncio.Future[Answered]"
    since: float = field(default_factory=time.monotonic)


class ModelQueue:
    """Hands images to a model, first come, first served, each by itself: what is found depends on no other request.

    Args:
        predictor: used by the queue's threads alone.
        settings: how many images are in the model at a time; they share the threads of the CPU.
        metrics: told of every image.
    """

    def __init__(self, predictor: Predictor, settings: ServerSettings, metrics: ServerMetrics) -> None:
        self._predictor, self._settings, self._metrics = predictor, settings, metrics
        self._predictor.reading_threads = 0  # it is given what was read
        self._waiting: deque[Waiting] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._image_s = _FIRST_GUESS_S
        self._cpu_threads = max(1, torch.get_num_threads() // settings.at_once)
        self._threads = [
            threading.Thread(target=self._work, name="model", daemon=True) for _ in range(settings.at_once)
        ]

    def start(self) -> None:
        """Begins to work."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Ends the threads when everything that waits is done; returns then."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    @property
    def is_alive(self) -> bool:
        """Whether all threads work."""
        return all(thread.is_alive() for thread in self._threads)

    def wait_s(self, ahead: int) -> float:
        """How long so many images will take, as far as the last ones tell."""
        return ahead * self._image_s / len(self._threads)

    async def answer(self, image: NamedImage, limits: Mapping[str, float], deadline: float) -> Answered:
        """What the model finds in an image; if the request is cancelled, the image leaves the queue.

        Raises:
            FinemaskError: the model cannot take this image.
            RefusalError: the queue is closed.
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
        torch.set_num_threads(self._cpu_threads)
        while (waiting := self._next()) is not None:
            started = time.monotonic()
            found = self._found(waiting, started - waiting.since)
            taken = time.monotonic() - started
            _settle(waiting, found)
            self._image_s += _SMOOTHING * (taken - self._image_s)
            self._metrics.queue_seconds.observe(started - waiting.since)
            self._metrics.model_seconds.observe(taken)
            del waiting, found  # else the image is kept until the next one comes

    def _next(self) -> Waiting | None:
        """An image that somebody still wants; None at the end."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return None
                waiting = self._waiting.popleft()
                if not waiting.answer.done() and time.monotonic() < waiting.deadline:
                    return waiting

    def _found(self, waiting: Waiting, queue_s: float) -> Answered | Exception:
        """What was found in an image, or why nothing could be."""
        settings, started = self._settings, time.monotonic()
        try:
            [answer] = self._predictor.answers(
                [waiting.image], waiting.limits, tile=settings.tile, overlap=settings.overlap
            )
        except FinemaskError as error:
            return error
        except Exception as error:
            log.exception("the model failed on an image of %s", waiting.image.image.shape)
            return error
        if isinstance(answer, Unread):
            return answer.error
        return Answered(answer.instances, answer.is_whole, queue_s, time.monotonic() - started)


def _settle(waiting: Waiting, result: Answered | Exception) -> None:
    def settle() -> None:
        if waiting.answer.done():  # the request is gone
            return
        if isinstance(result, Exception):
            waiting.answer.set_exception(result)
        else:
            waiting.answer.set_result(result)

    waiting.loop.call_soon_threadsafe(settle)

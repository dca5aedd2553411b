"""``engine=ray``: the same predictor in several processes, here or on the machines of a Ray cluster.

Each worker is a Ray actor that holds the model, reads, predicts and writes the files of its images, so nothing large
travels. What comes back is a line for the journal and what files of all images are to hold; the process that began the
run keeps the ledger, in the order of the source, as it does for its own threads. So what ``skip_existing`` promises
holds here too. A worker that dies is started anew, and its images are done one by one: one that has killed its worker
``_MOST_TRIES`` times is reported like a file that cannot be read.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console

from finemask.errors import ConfigError, DataError, FinemaskError
from finemask.inference.sources import Item, Unread
from finemask.ops.terminal import say
from finemask.ops.wording import plural, word
from finemask.workflows.written.annotation_ids import AnnotationIds
from finemask.workflows.written.ray_actor import Answers, Seen, Worker
from finemask.workflows.written.ray_cluster import ASK_LESS, RayCluster

_MOST_TRIES = 3  # of an image whose worker died
_MOST_PAUSE_S = 600.0  # until a worker that died is back
_PAUSE_S = 0.2  # before a worker that is being started anew is asked again
_AHEAD = 4  # chunks of a worker that wait for one before them to be done


@dataclass(slots=True)
class _Chunk:
    """Images that one worker does one after another, and what has come of them."""

    items: Sequence[Item]
    answers: list[Seen | Unread] = field(default_factory=list)
    is_alone: bool = False  # whether its images go one by one, since a worker has died of one of them
    tries: int = 0  # of the next one

    @property
    def is_done(self) -> bool:
        return len(self.answers) == len(self.items)

    @property
    def next_items(self) -> Sequence[Item]:
        start = len(self.answers)
        return self.items[start : start + 1] if self.is_alone else self.items[start:]

    def lost(self, why: str) -> None:
        """Its worker has died."""
        if self.is_alone:
            self.tries += 1
        self.is_alone = True
        if self.tries == _MOST_TRIES:
            item = self.items[len(self.answers)]
            error = DataError(f"its worker died {_MOST_TRIES} times: {why}", where=item.content)
            self.answers.append(Unread(item.name, error))
            self.tries = 0


class RayWorkers:
    """The workers of a run.

    Args:
        items: of the source.
        options: as in ``configs/predict.yaml``.
        ids: of an annotation file; None: there is none.

    Raises:
        MissingExtraError: ray is not installed.
        ConfigError: there is no such cluster, or it has not what is asked for; the model cannot be used there.
    """

    def __init__(self, items: Sequence[Item], options: Mapping[str, Any], ids: AnnotationIds | None) -> None:
        if videos := [item.name for item in items if item.is_video]:
            raise ConfigError(
                f"engine=ray takes no videos and cameras, such as {videos[0]}: their frames go one after another",
                remedy="Leave engine= out for these.",
            )
        self._chunk: int = options["ray"]["chunk"]
        self._cluster = RayCluster(options["ray"])
        self._ray, self.workers = self._cluster.ray, list[Any]()
        try:
            count = self._cluster.number_of_workers()
            known = None
            if ids is not None:  # of the items a worker is told as they come
                known = replace(ids, items=[], image_ids=ids.image_ids if "side_by_side" in options["save"] else {})
            says = f"{plural(count, 'worker')} of Ray {word(count, 'loads', 'load')} the model."
            say(Console(stderr=True, highlight=False), says)
            self.workers = self._cluster.actors(Worker, count, dict(options), known, Path.cwd())
            for error in self._ray.get([worker.load.remote() for worker in self.workers]):
                if error is not None:
                    raise error
        except self._ray.exceptions.RayActorError as error:
            self.close()
            what = str(error).strip().splitlines()[0]
            raise ConfigError(f"a worker died while it loaded the model ({what})", remedy=ASK_LESS) from error
        except BaseException:
            self.close()
            raise

    def answers(self, items: Sequence[Item], begin: Callable[[Item], None]) -> Generator[Seen | Unread]:
        """What became of images, in their order.

        Args:
            items: files and addresses of images.
            begin: is told of each before a worker has it.
        """
        chunks = _chunks(items, self._chunk)
        idle, running = deque(self.workers), dict[Any, tuple[_Chunk | None, Any]]()
        waiting: deque[_Chunk] = deque()  # in the order of the source
        again: deque[_Chunk] = deque()
        lost_since: dict[Any, float] = {}  # workers that are being started anew
        while True:
            while waiting and waiting[0].is_done:
                yield from waiting.popleft().answers
            while idle and (chunk := self._next(again, chunks, waiting, begin)) is not None:
                worker = idle.popleft()
                running[worker.work.remote(list(chunk.next_items))] = chunk, worker
            if not running:
                return
            for done in self._ray.wait(list(running), num_returns=1)[0]:
                of, worker = running.pop(done)
                if (why := self._take(of, done)) is None:
                    lost_since.pop(worker, None)
                    idle.append(worker)
                else:  # it is back when it answers
                    if time.monotonic() - lost_since.setdefault(worker, time.monotonic()) > _MOST_PAUSE_S:
                        raise FinemaskError(f"a worker of ray died and does not come back ({why})", remedy=ASK_LESS)
                    time.sleep(_PAUSE_S if of is None else 0)
                    running[worker.process_id.remote()] = None, worker
                if of is not None:
                    if why is not None:
                        of.lost(why)
                    if not of.is_done:
                        again.append(of)

    def close(self) -> None:
        """Ends the workers, and a cluster that was started for them."""
        self._cluster.close(self.workers)

    def _next(
        self,
        again: deque[_Chunk],
        chunks: Iterator[_Chunk],
        waiting: deque[_Chunk],
        begin: Callable[[Item], None],
    ) -> _Chunk | None:
        """What a worker is to do next; None where enough waits for what comes before it."""
        if again:
            return again.popleft()
        if len(waiting) >= _AHEAD * len(self.workers) or (chunk := next(chunks, None)) is None:
            return None
        for item in chunk.items:
            begin(item)
        waiting.append(chunk)
        return chunk

    def _take(self, chunk: _Chunk | None, reference: Any) -> str | None:
        """Takes what a worker has done; why there is nothing, if it died instead."""
        try:
            answers: Answers = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError:
            raise
        except self._ray.exceptions.RayError as error:
            return str(error).strip().splitlines()[0]
        if isinstance(answers, FinemaskError):
            raise answers
        if chunk is not None:
            chunk.answers += answers
            chunk.tries = 0
        return None


def _chunks(items: Sequence[Item], size: int) -> Iterator[_Chunk]:
    coming = iter(items)
    while chunk := list(islice(coming, size)):
        yield _Chunk(chunk)

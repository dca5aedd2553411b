"""``engine=ray``: the same predictor in several processes, here or on the machines of a Ray cluster.

Each worker is a Ray actor that holds the model, reads, predicts and writes the files of its images, so nothing large
travels. What comes back is a line for the journal and what files of all images are to hold; the process that began the
run keeps the ledger, in the order of the source, as it does for its own threads. So what ``skip_existing`` promises
holds here too. A worker that dies is started anew, and its images are done one by one: one that has killed its worker
``_MOST_TRIES`` times is reported like a file that cannot be read.
"""

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from finemask.errors import ConfigError, DataError, FinemaskError, MissingExtraError
from finemask.inference.cutting import Answer
from finemask.inference.drift import Drift, drift_of
from finemask.inference.outputs.writers import open_writers
from finemask.inference.predictor import Predictor, load
from finemask.inference.scale import Shrunk
from finemask.inference.sources import Item, Unread
from finemask.machine.hardware import cores
from finemask.workflows.written.annotation_ids import AnnotationIds, FileLabels
from finemask.workflows.written.one_image import ImageWriting, set_up
from finemask.workflows.written.writing import Written

_MOST_TRIES = 3  # of an image whose worker died
_MOST_PAUSE_S = 600.0  # until a worker that died is back
_PAUSE_S = 0.2  # before a worker that is being started anew is asked again
_LESS = "Ask for fewer workers, or for less of each."
_AHEAD = 4  # chunks of a worker that wait for one before them to be done


class Seen(NamedTuple):
    """What a worker did with an image, and what is noticed of images in a run."""

    written: Written
    shrunk: Shrunk | None
    drift: Drift | None


_Answers: TypeAlias = list[Seen | Unread] | FinemaskError


class Worker:
    """What runs in a process of its own.

    Args:
        options: as in ``configs/predict.yaml``.
        ids: of an annotation file; None: there is none.
        folder: what relative paths are relative to.
    """

    def __init__(self, options: Mapping[str, Any], ids: AnnotationIds | None, folder: Path) -> None:
        self._options, self._ids = options, ids
        if folder.is_dir():
            os.chdir(folder)
        self._loaded: tuple[Predictor, ImageWriting] | None = None

    def load(self) -> FinemaskError | None:
        """Loads the model; an error is a value, for Ray would wrap it."""
        try:
            self._parts()
        except FinemaskError as error:
            return error
        return None

    def process_id(self) -> int:
        """Of the process that it is in."""
        return os.getpid()

    def work(self, items: Sequence[Item]) -> _Answers:
        """Predicts on images and writes their files; each item holds one."""
        try:
            predictor, _ = self._parts()
            chosen = {key: self._options[key] for key in ("threshold", "batch_size", "tile", "overlap")}
            answers = predictor.answers(list(items), **chosen)
            return [self._seen(item, answer) for item, answer in zip(items, answers, strict=True)]
        except FinemaskError as error:
            return error

    def _seen(self, item: Item, answer: Answer | Unread) -> Seen | Unread:
        if isinstance(answer, Unread):
            answer.error.__traceback__ = answer.error.__cause__ = answer.error.__context__ = None
            return answer
        predictor, write = self._parts()
        found = answer.instances
        shrunk = predictor.watch_scale().look(found) if answer.is_whole else None
        drift = None if found.image is None else drift_of(found.image, predictor.header)
        try:
            written = Written(found.name, write(item, found if drift is None else replace(found, drift=drift.value)))
        except (DataError, OSError, UnicodeError) as error:
            written = Written(found.name, error)
        return Seen(written, shrunk, drift)

    def _parts(self) -> tuple[Predictor, ImageWriting]:
        if self._loaded is None:
            options = self._options
            predictor = load(options["model"], options["device"], options["trust"])
            set_up(predictor, options, threads=1)
            output = Path(options["output"])
            save = [options["save"]] if isinstance(options["save"], str) else options["save"]
            labels, categories = None, None
            if self._ids is not None:
                labels, categories = FileLabels(Path(options["annotations"])), self._ids.categories
                labels.image_ids = self._ids.image_ids
            opened = open_writers(save, output, color_by=options["color_by"], labels=labels)
            writers = dict(zip(dict.fromkeys(save), opened, strict=True))
            self._loaded = predictor, ImageWriting.of(output, writers, predictor, options, categories)
        return self._loaded


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
        self._ray, chosen = _imported(), options["ray"]
        self._chunk: int = chosen["chunk"]
        self._is_ours = not self._ray.is_initialized()
        if self._is_ours:
            _start(self._ray, chosen)
        try:
            count = _number_of_workers(self._ray, chosen)
            needed = {"num_cpus": chosen["cpus"], "num_gpus": chosen["gpus"], "max_restarts": -1}
            kind = self._ray.remote(**needed)(Worker)
            known = None
            if ids is not None:  # of the items a worker is told as they come
                known = replace(ids, items=[], image_ids=ids.image_ids if "side_by_side" in options["save"] else {})
            self.workers = [kind.remote(dict(options), known, Path.cwd()) for _ in range(count)]
            for error in self._ray.get([worker.load.remote() for worker in self.workers]):
                if error is not None:
                    raise error
        except self._ray.exceptions.RayActorError as error:
            self.close()
            what = str(error).strip().splitlines()[0]
            raise ConfigError(f"a worker died while it loaded the model ({what})", remedy=_LESS) from error
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
                        raise FinemaskError(f"a worker of ray died and does not come back ({why})", remedy=_LESS)
                    time.sleep(_PAUSE_S if of is None else 0)
                    running[worker.process_id.remote()] = None, worker
                if of is not None:
                    if why is not None:
                        of.lost(why)
                    if not of.is_done:
                        again.append(of)

    def close(self) -> None:
        """Ends the workers, and a cluster that was started for them."""
        if self._is_ours:
            self._ray.shutdown()
            return
        for worker in getattr(self, "workers", ()):
            self._ray.kill(worker)

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
            answers: _Answers = self._ray.get(reference)
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


def _imported() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told of anything
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("ray", "ray", needed_for="engine=ray") from error
    return ray


def _start(ray: Any, chosen: Mapping[str, Any]) -> None:
    """Joins the cluster that is named, or starts one of this machine."""
    common = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    address = chosen["address"] or os.environ.get("RAY_ADDRESS")
    if address is None:
        workers = 1 if chosen["workers"] == "auto" else chosen["workers"]
        common |= {"num_cpus": max(cores(), round(workers * chosen["cpus"])), "address": "local"}
    else:
        common = {"address": address} | {key: common[key] for key in ("log_to_driver", "logging_level")}
    with _own_signals():
        try:
            ray.init(**common)
        except Exception as error:  # Ray raises plain ones too: it gives itself half a minute to start
            if address is not None:
                what, remedy = f"no Ray cluster at {address}", "Without ray.address= one is started on this machine."
            else:
                what, remedy = "ray cannot be started", "Try again when the machine is less busy, or leave engine= out."
            raise ConfigError(f"{what} ({error})", remedy=remedy) from error


def _number_of_workers(ray: Any, chosen: Mapping[str, Any]) -> int:
    """As many as the key says, or as many as there is room for."""
    there = ray.cluster_resources()
    room = [int(there.get("CPU", 0) // chosen["cpus"])]
    if chosen["gpus"]:
        room.append(int(there.get("GPU", 0) // chosen["gpus"]))
    most = min(room)
    wanted = max(1, most) if chosen["workers"] == "auto" else chosen["workers"]
    if wanted > most:
        has = f"{there.get('CPU', 0):g} processors and {there.get('GPU', 0):g} GPUs"
        raise ConfigError(
            f"ray has {has}, which is too few for {wanted} of ray.cpus={chosen['cpus']:g} ray.gpus={chosen['gpus']:g}",
            remedy=_LESS,
        )
    return int(wanted)


@contextmanager
def _own_signals() -> Iterator[None]:
    """What SIGTERM does stays as it is: Ray has a handler of its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

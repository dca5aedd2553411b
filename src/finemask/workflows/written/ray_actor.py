"""What a worker of ``engine=ray`` is, in its own process: a model, and the writing of its images.

Nothing here needs Ray: a worker is told of images, writes their files, and answers with little more than lines for the
journal.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from finemask.errors import DataError, FinemaskError
from finemask.inference.cutting import Answer
from finemask.inference.drift import Drift, drift_of
from finemask.inference.outputs.writers import open_writers
from finemask.inference.predictor import Predictor, load
from finemask.inference.scale import Shrunk
from finemask.inference.sources import Item, Unread
from finemask.workflows.written.annotation_ids import AnnotationIds, FileLabels
from finemask.workflows.written.one_image import ImageWriting, set_up
from finemask.workflows.written.writing import Written


class Seen(NamedTuple):
    """What a worker did with an image, and what is noticed of images in a run."""

    written: Written
    shrunk: Shrunk | None
    drift: Drift | None


Answers: TypeAlias = list[Seen | Unread] | FinemaskError
"""What a worker did with images, or what is wrong with all of them."""


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

    def work(self, items: Sequence[Item]) -> Answers:
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

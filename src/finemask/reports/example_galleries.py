"""Galleries of the evaluation report: whole images, and single mistakes shown large."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from finemask.errors import FinemaskError
from finemask.evaluation.ground_truth import GroundTruth
from finemask.ops.colours import Colour
from finemask.ops.images.image_reading import AS_THE_FILE_SAYS, ImageReading
from finemask.ops.images.shrinking import shrink_factor
from finemask.ops.images.window_reader import ArrayReader, WindowReader, open_image
from finemask.pages.instance_pictures import ColouredInstance, picture_of
from finemask.reports.example_choice import PlannedExample, image_outcomes, plan_mistakes, plan_whole_images
from finemask.reports.verdicts import Verdicts
from finemask.types import CocoResult


class Example(NamedTuple):
    """What is shown of an image, and its pictures: pairs of what they show and a ``data:`` address."""

    planned: PlannedExample
    file_name: str
    views: list[tuple[str, str]]


class Gallery(NamedTuple):
    """Examples with a heading, and a note on what they have in common and how they were chosen; at least one."""

    title: str
    note: str
    examples: list[Example]

    @property
    def whole(self) -> bool:
        """Whether they are whole images."""
        return self.examples[0].planned.around is None


def build_galleries(
    ground_truth: GroundTruth,
    results: Sequence[CocoResult],
    verdicts: Verdicts,
    threshold: float,
    images_dir: Path,
    reading: ImageReading = AS_THE_FILE_SAYS,
) -> tuple[list[Gallery], list[str]]:
    """Chooses and draws the examples.

    Args:
        ground_truth: of the evaluation.
        results: of the evaluation.
        verdicts: of the evaluation at the threshold.
        threshold: detections that score less are not shown.
        images_dir: what the file names of the ground truth are relative to.
        reading: what is read of images that hold more than one 8-bit picture.

    Returns:
        The galleries that have a picture, and the file names that could not be read.
    """
    names = {category.id: category.name for category in ground_truth.categories}
    plans = [
        *plan_whole_images(ground_truth, image_outcomes(ground_truth, results, verdicts)),
        *plan_mistakes(ground_truth, results, verdicts),
    ]
    places = dict.fromkeys(_key(entry) for plan in plans for entry in plan.examples)
    drawn: dict[Any, list[tuple[str, str]]] = {}
    unread = []
    ids = {image_id for image_id, _ in places}
    truths = _by_image(ground_truth.annotations, verdicts.object_colour, ids)
    predictions = _by_image(results, verdicts.detection_colour, ids, threshold)
    sides = (("as labelled", truths), ("as predicted", predictions))
    for image_id, keys in groupby(sorted(places, key=_by_row), key=itemgetter(0)):
        try:
            with open_example(ground_truth, image_id, images_dir, reading) as image:
                for key in keys:
                    drawn[key] = [(name, picture_of(image, side[image_id], names, key[1])) for name, side in sides]
        except (FinemaskError, OSError, ValueError):
            unread.append(ground_truth.images[image_id].file_name)
    galleries = []
    for title, note, entries in plans:
        shown = [
            Example(entry, ground_truth.images[entry.image_id].file_name, drawn[_key(entry)])
            for entry in entries
            if _key(entry) in drawn
        ]
        if shown:
            galleries.append(Gallery(title, note, shown))
    return galleries, unread


def _key(example: PlannedExample) -> tuple[int, tuple[float, ...] | None]:
    """Image and place: what two galleries may both show is drawn once."""
    return example.image_id, None if example.around is None else tuple(example.around)


def _by_row(key: tuple[int, tuple[float, ...] | None]) -> tuple[int, float]:
    """Images one after the other, and each from its top to its bottom; the whole of it is the first thing."""
    image_id, around = key
    return image_id, -math.inf if around is None else around[1]


def open_example(
    ground_truth: GroundTruth, image_id: int, images_dir: Path, reading: ImageReading = AS_THE_FILE_SAYS
) -> WindowReader:
    """An image of the ground truth: decoded, or of a large one the file, which is read in windows.

    Raises:
        FinemaskError, OSError, ValueError: it cannot be read.
    """
    from finemask.ops.images.decode import decode_image

    image = ground_truth.images[image_id]
    path = images_dir / image.file_name
    size_hw = (image.height, image.width) if image.height and image.width else None
    if size_hw is not None and shrink_factor(*size_hw) > 1:
        return open_image(path, size_hw, reading=reading)
    return ArrayReader(decode_image(path, size_hw, reading))


def _by_image(
    entries: Iterable[Mapping[str, Any]], colour_of: Callable[[int], Colour], wanted: set[int], threshold: float = 0.0
) -> dict[int, list[ColouredInstance]]:
    grouped: dict[int, list[ColouredInstance]] = defaultdict(list)
    for position, entry in enumerate(entries):
        if entry["image_id"] in wanted and entry.get("score", threshold) >= threshold:
            grouped[entry["image_id"]].append(ColouredInstance(entry, colour_of(position)))
    return grouped

"""Statistics of a dataset: its annotations and images measured, advice for training, and the page that shows both."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finemask.coco.index import CocoIndex
from finemask.datatools.stats.dataset_summary import summarise
from finemask.datatools.stats.image_stats import chosen_rows, measure_images
from finemask.datatools.stats.input_resolution import ModelSettings
from finemask.datatools.stats.object_stats import measure_objects
from finemask.datatools.stats.training_advice import Advice, advise, images_beside, train_command
from finemask.ops.files.atomic_files import write_json, write_text
from finemask.ops.images.image_reading import ImageReading
from finemask.ops.terminal import Progress
from finemask.pages.shell import refuse_foreign_page
from finemask.reports.statistics_page import EYEBROW, stats_page


@dataclass(frozen=True)
class Statistics:
    """What was measured and written.

    Args:
        summary: all numbers; see ``finemask.datatools.stats.dataset_summary``.
        advice: what they mean for training.
        command: trains with everything that is worth changing.
        numbers_path: where ``stats.json`` is.
        page_path: where the page is.
    """

    summary: dict[str, Any]
    advice: list[Advice]
    command: str
    numbers_path: Path
    page_path: Path


def write_statistics(options: Mapping[str, Any]) -> Statistics:
    """Measures a dataset; writes ``stats.json`` and the page.

    Args:
        options: keys as in ``configs/data_stats.yaml``.

    Raises:
        DataError: the annotations cannot be used, images are missing, or the output holds a page of something else.
    """
    annotations, output = Path(options["annotations"]), Path(options["output"])
    images_dir = None if options["images"] is None else Path(options["images"])
    numbers_path, page_path = output / "stats.json", output / "index.html"
    refuse_foreign_page(page_path, EYEBROW)
    settings = ModelSettings.of(options["model"])
    index = CocoIndex.read(annotations, images_dir, reading=ImageReading.of(options["image"]))
    with Progress("measuring objects", len(index), "images") as progress:
        objects = measure_objects(index, progress.advance)
    opened = None
    if images_dir is not None:
        sample = options["sample"]
        with Progress("looking at images", len(chosen_rows(len(index), sample)), "images") as progress:
            opened = measure_images(index, sample, progress.advance)
    summary = summarise(index, objects, opened, settings)
    advice = advise(index, objects, settings, images_dir or images_beside(annotations))
    command = train_command(advice, settings, annotations, images_dir)
    write_json(numbers_path, summary | {"advice": [item.as_json() for item in advice], "command": command})
    write_text(page_path, stats_page(index, objects, opened, summary, settings, advice, command))
    return Statistics(summary, advice, command, numbers_path, page_path)

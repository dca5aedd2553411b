"""``finemask predict``: images, folders, videos, URLs in; overlays, COCO JSON, masks and tables out."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from omegaconf import DictConfig
from rich import box
from rich.console import Console
from rich.table import Table

from finemask.config import plain
from finemask.errors import ConfigError, DataError
from finemask.inference.instances import Instances
from finemask.inference.ledger import Ledger
from finemask.inference.predictor import load
from finemask.inference.sources import list_items
from finemask.inference.writers import Writer, open_writers
from finemask.ops.images.image_reading import ImageReading
from finemask.ops.wording import count, percent, plural
from finemask.workflows.annotation_ids import missing_in_words, read_annotation_ids
from finemask.workflows.detection_options import check_refinement, with_options
from finemask.workflows.progress import Progress

_LISTED = 20  # failures named in the closing error; all were reported as they happened


@dataclass(slots=True)
class Tally:
    """What a run has done so far."""

    images: int = 0
    empty: int = 0
    instances: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    failures: list[DataError] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    seconds: float = 0.0


def main(cfg: DictConfig) -> int:
    """Runs the verb.

    Args:
        cfg: as in ``configs/predict.yaml``.

    Returns:
        0.

    Raises:
        FinemaskError: settings or a model file that cannot be used; or, after everything else is done, files
            that could not be read.
    """
    options = plain(cfg)
    save = [options["save"]] if isinstance(options["save"], str) else options["save"]
    if not save:
        raise ConfigError("save= is empty: nothing would be written", remedy="The default is [overlay,coco].")
    if options["color_by"] not in ("instance", "class"):
        raise ConfigError(f"color_by={options['color_by']}", remedy="It is instance or class.")
    check_refinement(options["refine"])
    output = Path(options["output"])
    writers = open_writers(save, output, color_by=options["color_by"])
    items = list_items(options["source"])
    annotations = None if options["annotations"] is None else Path(options["annotations"])
    ledger = Ledger(output, save)
    names, videos = {item.name for item in items}, tuple(item.frames for item in items if item.is_video)
    ledger.check(lambda image: image in names or image.startswith(videos))
    predictor = load(options["model"], options["device"], options["trust"])
    predictor.reading = ImageReading.of(options["image"], predictor.reading)
    predictor.model = with_options(predictor.model, predictor.header, options).to(predictor.device).eval()
    ids = None if annotations is None else read_annotation_ids(annotations, items, predictor.categories)
    tally = Tally()
    with Progress("predicting", sum(len(item) for item in items), "images") as progress:

        def failed(error: DataError) -> None:
            tally.failures.append(error)
            progress.say(f"skipped {error}")
            progress.advance()

        source = items if ids is None else ids.items
        watch = predictor.watch_scale()
        answers = predictor.stream(source, options["threshold"], options["batch_size"], failed, watch)
        output.mkdir(parents=True, exist_ok=True)  # a bad path shows now, not after the work
        found = (instances for instances in answers if instances is not None)
        if options["refine"] is not None:
            found = (instances.refined() for instances in found)
        if ids is not None:
            found = (replace(instances, categories=ids.categories) for instances in found)
        record(found, writers, ledger, tally, progress, None if ids is None else ids.image_ids)
    show(Console(), tally)
    if (text := watch.in_words()) is not None:
        Console(stderr=True).print(f"warning: {text}", highlight=False, soft_wrap=True, markup=False)
    if ids is not None and ids.missing:
        print(missing_in_words(ids.missing, ids.path))
    if tally.failures:
        raise unreadable(tally.failures, len(items))
    return 0


def record(
    found: Iterable[Instances],
    writers: Sequence[Writer],
    ledger: Ledger,
    tally: Tally,
    progress: Progress,
    image_ids: Mapping[str, int] | None = None,
) -> None:
    """Hands each image's instances to all writers. However it ends, what was found so far is written.

    Args:
        found: instances, image after image.
        writers: get all of them.
        ledger: of the folder that they write to.
        tally: counts.
        progress: is told.
        image_ids: by name of the image; None numbers the images from 1 on.
    """
    start = time.perf_counter()
    try:
        for instances in found:
            tally.images += 1
            tally.empty += not len(instances)
            tally.instances.update(instances.class_names)
            tally.duplicates += len(instances.duplicates())
            image_id = tally.images if image_ids is None else image_ids.get(instances.name)
            ledger.begin(instances)
            ledger.replace(instances, [path for writer in writers for path in writer.add(instances, image_id)])
            progress.advance(line=f"{instances.name}: {_summary(instances)}")
    finally:
        tally.seconds = time.perf_counter() - start
        if tally.images:
            tally.paths = [path for writer in writers for path in writer.finish() if path.exists()]


def show(console: Console, tally: Tally) -> None:
    """Prints how much was found, how fast, and the paths."""
    if not tally.images:
        return
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("class")
    table.add_column("instances", justify="right")
    for name, number in tally.instances.most_common():
        table.add_row(name, count(number))
    if len(tally.instances) != 1:
        table.add_row("all", count(tally.instances.total()))
    console.print(table)
    if tally.duplicates:
        share = tally.duplicates / tally.instances.total()
        console.print(
            f"{plural(tally.duplicates, 'instance')} ({percent(share)}) on top of a better one, with most of the same "
            "pixels; suppression=mask_agnostic drops such",
            highlight=False,
            soft_wrap=True,
        )
    without = f", {count(tally.empty)} of them without instances" if tally.empty else ""
    pace = tally.seconds / tally.images * 1000
    console.print(
        f"{plural(tally.images, 'image')}{without}; {pace:,.0f} ms an image, reading and writing included",
        highlight=False,
    )
    for path in tally.paths:
        console.print(f"wrote {path}", highlight=False, soft_wrap=True, markup=False)


def unreadable(failures: Sequence[DataError], total: int) -> DataError:
    """The closing error: what was skipped, and why."""
    listed = "; ".join(f"{error.where}: {error.what}" if error.where else error.what for error in failures[:_LISTED])
    more = f"; and {count(len(failures) - _LISTED)} more, reported above" if len(failures) > _LISTED else ""
    many = f"{count(len(failures))} of {plural(total, 'source')}"
    return DataError(f"{many} could not be read, or not in full: {listed}{more}")


def _summary(instances: Instances) -> str:
    counts = Counter(instances.class_names)
    return ", ".join(f"{count(number)} {name}" for name, number in counts.most_common()) or "nothing found"

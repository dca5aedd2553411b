"""Predicting images, videos and URLs into files; with the ids of an annotation file, where one is given."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from finemask.coco.image_names import match_file_names
from finemask.config import verb_options
from finemask.errors import DataError
from finemask.evaluation.ground_truth import images_and_categories
from finemask.inference.instances import Instances
from finemask.inference.ledger import Ledger
from finemask.inference.outputs.writers import DRAWN, open_writers
from finemask.inference.predictor import load
from finemask.inference.sources import Item, Opening, list_items
from finemask.machine.hardware import bytes_for_an_image
from finemask.ops.files import read_json
from finemask.ops.images.image_reading import ImageReading
from finemask.ops.terminal import Progress
from finemask.types import Category
from finemask.workflows.detect_split import too_large_to_refine, with_options


@dataclass(slots=True)
class Predicted:
    """Counts, failures and files of a prediction.

    Args:
        sources: how many files, videos and URLs there were.
        images: that were predicted; each frame of a video is one.
        empty: of them without instances.
        instances: found, by class.
        duplicates: instances on top of a better one.
        failures: sources that could not be read, or not in full.
        paths: of the files written.
        seconds: taken, reading and writing included.
        warning: that objects are of sizes which the model was not trained on; None: they are not.
        without_picture: names of the images that were too large to be held in memory, so that nothing was drawn.
        without_id: names of the images that ``annotations`` does not have.
    """

    sources: int
    images: int = 0
    empty: int = 0
    instances: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    failures: list[DataError] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    seconds: float = 0.0
    warning: str | None = None
    without_picture: list[str] = field(default_factory=list)
    without_id: Sequence[str] = ()


def predict(
    model: str | Path,
    source: str | Path | Sequence[str | Path],
    output: str | Path = "runs/predict",
    overrides: Sequence[str] = (),
) -> Predicted:
    """What ``finemask predict`` does: ``predict("model.safetensors", "photos/", "found", ["save=[overlay,csv]"])``.

    ``finemask.load`` gives a model whose ``predict`` returns instances instead of writing files.

    Args:
        model: a model file or a run.
        source: an image, folder, glob, video, text file of paths or URL, or several.
        output: folder to write to.
        overrides: as on the command line: ``["threshold=0.7", "device=cuda"]``.

    Raises:
        FinemaskError: settings or a model file that cannot be used.
    """
    given = {"model": model, "source": source, "output": output}
    return predict_images(verb_options("predict", given, overrides))


def predict_images(options: Mapping[str, Any]) -> Predicted:
    """Predicts and writes. However it ends, what was found so far is written.

    Args:
        options: as in ``configs/predict.yaml``.

    Raises:
        FinemaskError: settings or a model file that cannot be used.
    """
    save = [options["save"]] if isinstance(options["save"], str) else options["save"]
    output = Path(options["output"])
    writers = dict(zip(dict.fromkeys(save), open_writers(save, output, color_by=options["color_by"]), strict=True))
    items = list_items(options["source"])
    ledger = Ledger(output, save)
    names, videos = {item.name for item in items}, tuple(item.frames for item in items if item.is_video)
    ledger.check(lambda image: image in names or image.startswith(videos))
    predictor = load(options["model"], options["device"], options["trust"])
    predictor.reading = ImageReading.of(options["image"], predictor.reading)
    predictor.model = with_options(predictor.model, predictor.header, options).to(predictor.device).eval()
    predictor.free_memory_bytes = bytes_for_an_image()
    predictor.opening = Opening(options["allow_private_urls"])
    done = Predicted(len(items))
    ids = None
    if options["annotations"] is not None:
        ids = read_annotation_ids(Path(options["annotations"]), items, predictor.categories)
        items, done.without_id = ids.items, ids.missing
    with Progress("predicting", sum(len(item) for item in items), "images") as progress:

        def failed(error: DataError) -> None:
            done.failures.append(error)
            progress.say(f"skipped {error}")
            progress.advance()

        watch = predictor.watch_scale()
        answers = predictor.stream(
            items,
            options["threshold"],
            options["batch_size"],
            failed,
            watch,
            tile=options["tile"],
            overlap=options["overlap"],
        )
        output.mkdir(parents=True, exist_ok=True)  # a bad path shows now, not after the work
        start = time.perf_counter()
        try:
            for instances in _as_asked(answers, options["refine"] is not None, ids, failed):
                done.images += 1
                done.empty += not len(instances)
                done.instances.update(instances.class_names)
                done.duplicates += len(instances.duplicates())
                image_id = done.images if ids is None else ids.image_ids.get(instances.name)
                ledger.begin(instances)
                able = [writer for name, writer in writers.items() if instances.image is not None or name not in DRAWN]
                if len(able) < len(writers):
                    done.without_picture.append(instances.name)
                ledger.replace(instances, [path for writer in able for path in writer.add(instances, image_id)])
                progress.advance(line=f"{instances.name}: {_summary(instances)}")
        finally:
            done.seconds = time.perf_counter() - start
            if done.images:
                done.paths = [path for writer in writers.values() for path in writer.finish() if path.exists()]
    done.warning = watch.in_words()
    return done


@dataclass(frozen=True)
class AnnotationIds:
    """Image and category ids of a COCO annotation file.

    Args:
        items: the source's, each with the size that the file states for it.
        image_ids: by name of the item; without those that the file does not have.
        categories: the model's, with the file's ids.
    """

    items: list[Item]
    image_ids: dict[str, int]
    categories: list[Category]

    @property
    def missing(self) -> list[str]:
        """Names of the items that the file does not have."""
        return [item.name for item in self.items if item.name not in self.image_ids]


def read_annotation_ids(path: Path, items: Sequence[Item], categories: Sequence[Category]) -> AnnotationIds:
    """Finds images by file name and classes by name.

    Args:
        path: a COCO annotation file; it needs no annotations.
        items: of the source.
        categories: of the model.

    Raises:
        DataError: the file cannot be used, has none of the images or not all of the classes, or it is not clear which
            of its images one is.
    """
    images, listed = images_and_categories(read_json(path, "a COCO annotation file"), str(path))
    ids_by_name = {category.name: category.id for category in listed}
    if lacking := [category.name for category in categories if category.name not in ids_by_name]:
        raise DataError(
            f"it lacks {', '.join(map(repr, lacking))}, which the model finds; it has "
            f"{', '.join(map(repr, ids_by_name))}",
            where=path,
            remedy="Classes are matched by name. Without annotations= results carry the ids of the model's own.",
        )
    known = list(images)
    names = [str(item.content) if isinstance(item.content, Path) else item.name for item in items]
    try:
        found = match_file_names(names, [images[id_].file_name for id_ in known])
    except DataError as error:
        raise DataError(error.what, where=path, remedy="Give one of them as source=, by its folder") from None
    of_items = [None if at is None else known[at] for at in found]
    if all(id_ is None for id_ in of_items):
        raise DataError(
            f"it has none of the images, such as {names[0]}; its file names are such as {images[known[0]].file_name}",
            where=path,
            remedy="Images are found by file name: give the annotations of these images.",
        )
    return AnnotationIds(
        items=[
            item if id_ is None or not all(images[id_][1:3]) else replace(item, size_hw=images[id_][1:3])
            for item, id_ in zip(items, of_items, strict=True)
        ],
        image_ids={item.name: id_ for item, id_ in zip(items, of_items, strict=True) if id_ is not None},
        categories=[category._replace(id=ids_by_name[category.name]) for category in categories],
    )


def _as_asked(
    answers: Iterator[Instances | None],
    refine: bool,
    ids: AnnotationIds | None,
    failed: Callable[[DataError], None],
) -> Iterator[Instances]:
    """The instances of images that could be read: with refined masks, with the file's categories."""
    for instances in answers:
        if instances is not None and refine and instances.image is None:
            failed(too_large_to_refine(instances.path or instances.name))
        elif instances is not None:
            refined = instances.refined() if refine else instances
            yield refined if ids is None else replace(refined, categories=ids.categories)


def _summary(instances: Instances) -> str:
    counts = Counter(instances.class_names)
    return ", ".join(f"{number:,} {name}" for name, number in counts.most_common()) or "nothing found"

"""What becomes of one image: its files, its line of the journal, and what files of all images are to hold of it."""

import errno
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from finemask.errors import DataError
from finemask.inference.content.video_frames import FrameChoice
from finemask.inference.instances import Instances
from finemask.inference.outputs.file_names import output_stem
from finemask.inference.outputs.shrunk_picture import shrunk
from finemask.inference.outputs.writers import DRAWN, Collector, Writer
from finemask.inference.predictor import Predictor
from finemask.inference.sources import Item, Opening
from finemask.machine.hardware import bytes_for_an_image
from finemask.ops.images.georeference import read_georeference
from finemask.ops.images.image_reading import ImageReading
from finemask.ops.images.scale_bar import parse_length
from finemask.types import Category
from finemask.workflows.detect_split import too_large_to_refine, with_options
from finemask.workflows.written.journal import Entry
from finemask.workflows.written.ledger import source_of, states_of

_OF_THE_NAME = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)  # another image may well be written
Parts: TypeAlias = dict[str, Any]
"""What files that gather all images are to hold of an image, by the names of their writers."""


def set_up(predictor: Predictor, options: Mapping[str, Any], threads: int) -> None:
    """Makes a predictor what the options ask for.

    Args:
        predictor: as loaded.
        options: as in ``configs/predict.yaml``.
        threads: that read ahead of it.

    Raises:
        ConfigError: options that cannot be.
    """
    predictor.reading = ImageReading.of(options["image"], predictor.reading)
    predictor.model = with_options(predictor.model, predictor.header, options).to(predictor.device).eval()
    predictor.free_memory_bytes = bytes_for_an_image()
    chosen = FrameChoice(options["stride"], options["fps"], options["max_frames"])
    predictor.opening = Opening(options["allow_private_urls"], chosen)
    predictor.reading_threads = threads


@dataclass(frozen=True)
class ImageWriting:
    """Writes what was found in an image.

    Args:
        output: folder of the run.
        writers: what it writes, by name.
        prepare: what becomes of instances before they are written, such as finer masks.
        shrink: what an overlay shows of an image whose pixels are not held.
    """

    output: Path
    writers: Mapping[str, Writer | Collector]
    prepare: Callable[[Instances], Instances]
    shrink: Callable[[Instances], Instances]

    @classmethod
    def of(
        cls,
        output: Path,
        writers: Mapping[str, Writer | Collector],
        predictor: Predictor,
        options: Mapping[str, Any],
        categories: Sequence[Category] | None,
    ) -> "ImageWriting":
        """As the options ask for it.

        Args:
            output: folder of the run.
            writers: what it writes, by name.
            predictor: with the reading and the bound on memory.
            options: as in ``configs/predict.yaml``.
            categories: with the ids of an annotation file; None: those of the model.
        """
        pixel_m = _pixel_size(options["pixel_size"])
        draws = "overlay" in writers

        def prepared(instances: Instances) -> Instances:
            if options["refine"] is not None and instances.image is None:
                raise too_large_to_refine(instances.path or instances.name)
            refined = instances if options["refine"] is None else instances.refined()
            known = instances.categories if categories is None else categories
            return replace(refined, categories=known, pixel_m=pixel_m(instances) if draws else None)

        reading, memory = predictor.reading, predictor.free_memory_bytes
        return cls(output, writers, prepared, lambda found: shrunk(found, reading, memory))

    @property
    def collectors(self) -> dict[str, Collector]:
        """Those that gather all images, by name."""
        return {name: writer for name, writer in self.writers.items() if isinstance(writer, Collector)}

    @property
    def of_an_image(self) -> dict[str, Writer]:
        """Those that write files of an image, by name."""
        return {name: writer for name, writer in self.writers.items() if isinstance(writer, Writer)}

    def __call__(self, item: Item, found: Instances) -> tuple[Entry, Parts]:
        """Writes the files of an image; several threads may do so at a time.

        Args:
            item: that it is of.
            found: in it.

        Raises:
            DataError: it cannot be drawn, or is too large to be refined.
            OSError: a file could not be written.
        """
        instances = self.prepare(found)
        paths = []
        for name, writer in self.of_an_image.items():
            if instances.image is not None or name not in DRAWN:
                paths += writer.add(instances)
            elif name == "overlay":
                paths += writer.add(self.shrink(instances))
        source, state = source_of(item)
        entry = Entry(
            image=instances.name,
            stem=output_stem(instances.name),
            source=source,
            state=state,
            files=states_of(paths, self.output),
            instances=dict(Counter(instances.class_names)),
            duplicates=len(instances.duplicates()),
            size_hw=instances.image_size_hw,
            drift=None if instances.drift is None else round(instances.drift, 3),
            has_picture=instances.image is not None,
        )
        return entry, {name: collector.part(instances) for name, collector in self.collectors.items()}


def _pixel_size(chosen: str | None) -> Callable[[Instances], float | None]:
    """What says how large a pixel is, m; ``auto`` asks the file."""
    if chosen != "auto":
        known = None if chosen is None else parse_length(chosen, "pixel_size")
        return lambda instances: known

    def of_file(instances: Instances) -> float | None:
        if instances.path is None:
            return None
        georeference = read_georeference(instances.path, instances.image_size_hw)
        return None if georeference is None else georeference.pixel_m

    return of_file


def unwritten(error: Exception) -> DataError | None:
    """Why nothing is written of an image although others are; None where none could be written either."""
    if isinstance(error, DataError):
        return error
    if isinstance(error, UnicodeEncodeError):
        return DataError("its results cannot be written: its path is not text")
    if isinstance(error, OSError) and error.errno in _OF_THE_NAME:
        return DataError(f"its results cannot be written ({error.strerror})", where=error.filename)
    return None

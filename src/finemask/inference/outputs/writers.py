"""What ``save=`` of ``predict`` may name: pictures, masks, COCO results, tables, LabelMe, GeoJSON, YOLO."""

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol, TextIO, runtime_checkable

import numpy as np
from PIL import Image

from finemask.errors import ConfigError, did_you_mean
from finemask.inference.instances import Instances
from finemask.inference.outputs.file_names import output_stem
from finemask.inference.outputs.row_shards import RowShards
from finemask.inference.outputs.side_by_side import LabelsOf, side_by_side
from finemask.inference.outputs.tracks import TrackTable
from finemask.inference.outputs.video_file import VideoFiles
from finemask.inference.outputs.yolo_dataset import YoloDataset
from finemask.ops.files.atomic_files import atomic_path, safe_file_name, write_text
from finemask.ops.files.documents import sha256_of
from finemask.ops.rle import rle_to_crop, rle_to_mask
from finemask.types import Category

DRAWN = frozenset({"overlay", "side_by_side", "crops", "video"})
"""Those that show the picture itself."""


@runtime_checkable
class Writer(Protocol):
    """Writes the predictions of a run, image by image, to one folder named after itself."""

    @property
    def gathered(self) -> Sequence[Path]:
        """The files that ``finish`` writes, if any."""

    def add(self, instances: Instances) -> list[Path]:
        """Writes the files of one image, and returns them. Several threads may call it at a time.

        Args:
            instances: of the image.
        """

    def finish(self, categories: Sequence[Category]) -> list[Path]:
        """Writes what is written once; returns the files and folders that hold the result.

        Args:
            categories: of the model.
        """


@runtime_checkable
class Collector(Protocol):
    """Writes the predictions of all images to one file, or a few."""

    @property
    def gathered(self) -> Sequence[Path]:
        """The files that it writes."""

    def part(self, instances: Instances) -> Any:
        """What the files are to hold of one image, as JSON values; kept on disk until all images are done.

        Several threads may call it at a time.

        Args:
            instances: of the image.
        """

    def write(self, parts: Iterable[tuple[Any, int | None]], categories: Sequence[Category]) -> list[Path]:
        """Writes the files, whole or not at all, and returns them.

        Args:
            parts: of the images, in the order of the source, each with its id in a COCO file; None where the
                annotation file that was given does not have the image. They are taken once, and only one is held.
            categories: of the model, with the ids of that annotation file.
        """


def open_writers(
    names: Iterable[str], output: Path, *, color_by: str = "instance", labels: LabelsOf | None = None
) -> list[Writer | Collector]:
    """The writers of those names, each once.

    Args:
        names: keys of ``writers_by_name``.
        output: folder to write to; made when first needed.
        color_by: colours of the overlays, by ``instance`` or ``class``.
        labels: of an annotation file.

    Raises:
        ConfigError: an unknown name, or one that needs labels.
        MissingExtraError: one needs a package that is not installed.
    """
    known = writers_by_name(output, color_by, labels)
    for name in (chosen := dict.fromkeys(names)):
        if name not in known:
            hint = did_you_mean(str(name), known)
            raise ConfigError(f"save={name} is not known", remedy=f"{hint}There are: {', '.join(known)}.")
    if "side_by_side" in chosen and labels is None:
        remedy = "Give the COCO file in which these images are labelled."
        raise ConfigError("save=side_by_side needs annotations=", remedy=remedy)
    writers = [known[name] for name in chosen]
    for writer in writers:
        if isinstance(writer, RowShards):
            writer.open_file()
    return writers


def writers_by_name(
    output: Path, color_by: str = "instance", labels: LabelsOf | None = None
) -> dict[str, Writer | Collector]:
    """Every writer there is, on a folder that none of them touches before it has something to write."""

    def save_overlay(instances: Instances, path: Path) -> None:
        # compress_level=1: a third of the time of the default, a tenth larger
        _save(instances.draw(color_by=color_by), path, compress_level=1)

    def save_both(instances: Instances, path: Path) -> None:
        labelled = () if labels is None else labels(instances.name)
        _save(side_by_side(instances, labelled), path, compress_level=1)

    return {
        "video": VideoFiles(output / "video", output_stem, lambda found: found.draw(color_by=color_by)),
        "tracks": TrackTable(output),
        "overlay": FilePerImage(output / "overlay", ".png", save_overlay),
        "side_by_side": FilePerImage(output / "side_by_side", ".png", save_both),
        "coco": CocoResults(output),
        "masks": PicturePerInstance(output / "masks", _mask),
        "label_map": FilePerImage(output / "label_map", ".png", lambda found, path: _save(_label_map(found), path)),
        "crops": PicturePerInstance(output / "crops", _crop),
        "csv": CsvTable(output),
        "labelme": LabelMeFiles(output),
        "geojson": FilePerImage(output / "geojson", ".geojson", Instances.to_geojson),
        "yolo": YoloDataset(output),
        "parquet": RowShards(output, "parquet"),
        "jsonl": RowShards(output, "jsonl"),
    }


class FilePerImage:
    """``FOLDER/NAME.SUFFIX``: one file an image.

    Args:
        folder: of the files.
        suffix: of the files, with its dot.
        write: the instances of an image to a file.
    """

    def __init__(self, folder: Path, suffix: str, write: Callable[[Instances, Path], Any]) -> None:
        self._folder, self._suffix, self._write = folder, suffix, write

    @property
    def gathered(self) -> list[Path]:
        """None."""
        return []

    def add(self, instances: Instances) -> list[Path]:
        """Writes the file of one image."""
        path = self._folder / f"{output_stem(instances.name)}{self._suffix}"
        self._write(instances, path)
        return [path]

    def finish(self, categories: Sequence[Category]) -> list[Path]:
        """The folder."""
        return [self._folder]


class PicturePerInstance:
    """``FOLDER/NAME/0001_CLASS.png``: one picture an instance.

    Args:
        folder: of the folders of the images.
        picture: of the n-th instance, n from 0 on; None where it has none.
    """

    def __init__(self, folder: Path, picture: Callable[[Instances, int], Image.Image | None]) -> None:
        self._folder, self._picture = folder, picture

    @property
    def gathered(self) -> list[Path]:
        """None."""
        return []

    def add(self, instances: Instances) -> list[Path]:
        """Writes the pictures of one image."""
        folder, written = self._folder / output_stem(instances.name), []
        for n, name in enumerate(instances.class_names):
            if (picture := self._picture(instances, n)) is not None:
                written.append(folder / f"{n + 1:04d}_{safe_file_name(name)}.png")
                _save(picture, written[-1])
        return written

    def finish(self, categories: Sequence[Category]) -> list[Path]:
        """The folder."""
        return [self._folder]


class LabelMeFiles(FilePerImage):
    """``labelme/NAME.json``: one file an image; and ``labels.txt``, the classes to choose from in LabelMe."""

    def __init__(self, output: Path) -> None:
        super().__init__(output / "labelme", ".json", Instances.to_labelme)
        self._list = output / "labels.txt"  # beside the folder: `data convert` reads all that is in it

    @property
    def gathered(self) -> list[Path]:
        """The list of classes."""
        return [self._list]

    def finish(self, categories: Sequence[Category]) -> list[Path]:
        """Writes the list of classes."""
        write_text(self._list, "".join(f"{category.name}\n" for category in categories))
        return [*super().finish(categories), self._list]


class CocoResults:
    """``predictions.json``, a COCO results list, and ``images.json``, which says what its image ids mean.

    An image id is the running number of the image, from 1 on, and category ids are those of the training annotations;
    unless an annotation file was given, whose ids they are then.
    """

    def __init__(self, output: Path) -> None:
        self._results_file, self._images_file = output / "predictions.json", output / "images.json"

    @property
    def gathered(self) -> list[Path]:
        """Both files."""
        return [self._results_file, self._images_file]

    def part(self, instances: Instances) -> dict[str, Any]:
        """The entries of one image."""
        height, width = instances.image_size_hw
        image: dict[str, Any] = {"file_name": instances.name, "height": height, "width": width}
        if instances.drift is not None:
            image["drift"] = round(instances.drift, 3)
        return {"image": image, "results": instances.to_coco(0)}

    def write(self, parts: Iterable[tuple[Any, int | None]], categories: Sequence[Category]) -> list[Path]:
        """Writes both files; images without an id are left out."""
        with ExitStack() as stack:
            images_path = stack.enter_context(atomic_path(self._images_file))
            results_path = stack.enter_context(atomic_path(self._results_file))
            images_file = stack.enter_context(images_path.open("w", encoding="utf-8"))
            listed = _JsonList(images_file, '{"images": [', ",\n")
            with results_path.open("w", encoding="utf-8") as results_file:
                results = _JsonList(results_file, "[", ", ")
                for part, image_id in parts:
                    if image_id is not None:
                        listed.add({"id": image_id} | part["image"])
                        for result in part["results"]:
                            results.add(result | {"image_id": image_id})
                results.end("]\n")
            # The checksum says which results these ids are of: either file may be replaced without the other.
            checksum = {"predictions_sha256": sha256_of(results_path)}
            side = {"categories": [category._asdict() for category in categories]} | checksum
            listed.end("], " + _json(side)[1:] + "\n")
        return [self._results_file, self._images_file]


class CsvTable:
    """``predictions.csv``: one line an instance."""

    def __init__(self, output: Path) -> None:
        self._file = output / "predictions.csv"

    @property
    def gathered(self) -> list[Path]:
        """The table."""
        return [self._file]

    def part(self, instances: Instances) -> str:
        """The table of one image."""
        return instances.to_csv()

    def write(self, parts: Iterable[tuple[Any, int | None]], categories: Sequence[Category]) -> list[Path]:
        """Writes the table."""
        with atomic_path(self._file) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            for number, (table, _) in enumerate(parts):
                file.write(table.partition("\n")[2] if number else table)  # one header for all
        return [self._file]


class _JsonList:
    """A JSON list that is written element by element."""

    def __init__(self, file: TextIO, start: str, between: str) -> None:
        self._file, self._next, self._between = file, start, between

    def add(self, element: Any) -> None:
        self._file.write(self._next + _json(element))
        self._next = self._between

    def end(self, text: str) -> None:
        self._file.write(text if self._next == self._between else self._next + text)


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False)


def _save(picture: Image.Image, path: Path, **options: Any) -> None:
    with atomic_path(path) as temporary:
        picture.save(temporary, **options)


def _mask(instances: Instances, n: int) -> Image.Image:
    """8 bits, of the image's size: 255 on the instance, else 0."""
    return Image.fromarray(rle_to_mask(instances.rles[n]) * 255)


def _crop(instances: Instances, n: int) -> Image.Image | None:
    """The instance cut out by its mask's box; alpha is the mask. None for an instance without pixels."""
    if instances.image is None:
        raise ValueError("crops need the image")
    mask, x0, y0 = rle_to_crop(instances.rles[n])
    if not mask.size:
        return None
    rgb = instances.image[y0 : y0 + mask.shape[0], x0 : x0 + mask.shape[1]]
    return Image.fromarray(np.dstack([rgb, mask.astype(np.uint8) * 255]))


def _label_map(instances: Instances) -> Image.Image:
    """16 bits: 0 is background, n the n-th instance by score; where they overlap, the better one is on top."""
    numbers = np.zeros(instances.image_size_hw, dtype=np.uint16)
    for number in range(len(instances), 0, -1):
        crop, x0, y0 = rle_to_crop(instances.rles[number - 1])
        numbers[y0 : y0 + crop.shape[0], x0 : x0 + crop.shape[1]][crop] = number
    return Image.fromarray(numbers)

"""YOLO: one text file an image, a line an object: class number and fractions of the image's size; both ways.

Four fractions are a box (middle, width, height), six and more an outline. What can name the classes and splits is
``data.yaml``; without one, ``classes.txt`` and the folders' names are used.

A line holds one outline. An instance of several parts, or with holes, is written as one outline with bridges of no
width, which gives the same pixels back. Crowd regions have no place in the format and are left out, counted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath, PurePosixPath
from typing import Any

import numpy as np
import yaml

from finemask.datatools.convert.output_folder import Output
from finemask.datatools.convert.records import (
    Dataset,
    ImageRecord,
    Instance,
    has_bridge,
    mask_rings,
    rectangle,
)
from finemask.datatools.convert.source_files import Source, read_categories, split_of
from finemask.errors import DataError
from finemask.ops.contours import Ring, bridge_rings
from finemask.ops.images.image_kinds import image_suffixes
from finemask.ops.rle import rle_from_polygons
from finemask.types import Category

_SPLIT_KEYS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def read_yolo(source: Source) -> Dataset:
    """Reads a YOLO dataset: its folder, or its YAML file.

    Class numbers become ids: the same if there is no class 0, else one more, because 0 is a risky id in COCO files.

    Raises:
        DataError: a YAML file that cannot be used, or folders that are not there.
    """
    reader = _Reader(source, *find_yaml(source))
    listed = source.watch(list(reader.images()), "reading labels")
    images = [record for name, split in listed if (record := reader.record(name, split)) is not None]
    names = reader.names
    first = 1 if 0 in names else 0
    known = {category.name: category for category in read_categories(source)}
    categories: dict[str, Category] = {}
    for number, name in sorted(names.items()):
        categories.setdefault(name, known.get(name) or Category(number + first, name))
    return Dataset(list(categories.values()), images)


def find_yaml(source: Source) -> tuple[str | None, dict[str, Any]]:
    """The YAML file that names the classes, ``data.yaml`` before others, shallow before deep; and its content."""
    candidates = source.with_suffix(".yaml", ".yml")
    usual = ("data.yaml", "data.yml", "dataset.yaml")
    candidates.sort(key=lambda name: (name.count("/"), PurePosixPath(name).name not in usual, name))
    for name in candidates[:20]:
        path = source.inside(name)
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
        except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
            raise DataError(f"this YAML file cannot be read ({error})", where=path) from None
        if isinstance(content, dict) and "names" in content:
            return name, content
    return None, {}


@dataclass
class _Reader:
    source: Source
    yaml_name: str | None
    settings: dict[str, Any]

    @cached_property
    def names(self) -> dict[int, str]:
        """Classes by number; grows by numbers that nobody named."""
        names, source = self.settings.get("names"), self.source
        if isinstance(names, list):
            names = dict(enumerate(names))
        if isinstance(names, dict) and names:
            try:
                return {int(number): str(name).strip() or f"class_{number}" for number, name in names.items()}
            except (ValueError, TypeError, OverflowError):
                raise DataError("'names' must map class numbers to names", where=self.yaml_name) from None
        if source.options.classes:
            return dict(enumerate(source.options.classes))
        lists = [name for name in source.files if PurePosixPath(name).name in ("classes.txt", "obj.names")]
        return {number: line for number, line in enumerate(source.lines_of(lists[0])) if line} if lists else {}

    def images(self) -> Iterator[tuple[str, str | None]]:
        """Names of images and their splits, each image once."""
        asked = {key: self.settings[key] for key in _SPLIT_KEYS if self.settings.get(key)}
        if not asked:
            yield from ((name, split_of(name)) for name in self.source.images)
            return
        seen: set[str] = set()
        found_any = False
        for key, entries in asked.items():
            for entry in entries if isinstance(entries, list) else [entries]:
                names = self._images_of(str(entry))
                if names is None:
                    self.source.notes.add("folders or lists named by the YAML file are not there", f"{key}: {entry}")
                    continue
                found_any = True
                yield from ((name, _SPLIT_KEYS[key]) for name in dict.fromkeys(names) if name not in seen)
                seen.update(names)
        if not found_any:
            listed = ", ".join(f"{key}: {value}" for key, value in asked.items())
            raise DataError(
                f"none of its folders of images is there: {listed}",
                where=self.source.root / (self.yaml_name or ""),
                remedy="Paths are looked for below path:, and below the folder of the YAML file",
            )

    def _images_of(self, entry: str) -> list[str] | None:
        """Images of one entry: a folder, or a text file with a path a line. None: not there."""
        source = self.source
        home = PurePosixPath(self.yaml_name or "").parent
        base = PurePosixPath(str(self.settings.get("path") or "").replace("\\", "/"))
        plain = PurePosixPath(entry.replace("\\", "/"))
        # Roboflow writes ../train/images and means train/images; absolute paths are those of another machine.
        inner = _below(plain)
        tries = [home / base / plain, home / plain, home / inner]
        tries += [PurePosixPath(*inner.parts[i:]) for i in range(1, len(inner.parts))]
        for candidate in tries:
            try:
                path = source.inside(candidate.as_posix())
            except DataError:
                continue
            if path.is_dir():
                prefix = "" if path == source.root else f"{path.relative_to(source.root).as_posix()}/"
                return [name for name in source.images if name.startswith(prefix)]
            if path.is_file() and path.suffix == ".txt":
                return list(self._listed_images(path.relative_to(source.root)))
        return None

    def _listed_images(self, file: PurePath) -> Iterator[str]:
        for line in self.source.lines_of(file.as_posix()):
            entry = PurePosixPath(line.replace("\\", "/"))
            if entry.suffix.lower() in image_suffixes():
                found = self.source.find_image(_below(entry).as_posix(), near=file.parent.as_posix())
                if found is None:
                    self.source.notes.add("listed images that are not there left out", line)
                else:
                    yield found.relative_to(self.source.root).as_posix()

    def record(self, name: str, split: str | None) -> ImageRecord | None:
        """An image with the instances of its label file."""
        label, notes = self._label_file(name), self.source.notes
        if label is None and self.settings.get("skip_if_label_file_missing"):
            notes.add("images without a label file left out, as data.yaml asks", name)
            return None
        record = self.source.record(name, self.source.inside(name), split=split)
        if record is not None and label is None:
            notes.add("images without a label file taken as images without objects", name)
        elif record is not None and label is not None:
            try:
                lines = self.source.lines_of(label)
            except (OSError, UnicodeDecodeError) as error:
                where = self.source.root / label
                raise DataError(f"this label file cannot be read ({error})", where=where) from error
            numbered = ((f"{label}:{number}", line) for number, line in enumerate(lines, start=1) if line)
            found = (self._instance(line, where, record.height, record.width) for where, line in numbered)
            record.instances = [instance for instance in found if instance is not None]
        return record

    def _label_file(self, image: str) -> str | None:
        """``labels`` in the place of the last ``images``, else beside the image."""
        path = PurePosixPath(image).with_suffix(".txt")
        parts = list(path.parts)
        if "images" in parts[:-1]:
            parts[len(parts) - 2 - parts[:-1][::-1].index("images")] = "labels"
        names = (PurePosixPath(*parts).as_posix(), path.as_posix())
        return next((name for name in names if self.source.inside(name).is_file()), None)

    def _instance(self, line: str, where: str, height: int, width: int) -> Instance | None:
        notes = self.source.notes
        try:
            first, *values = (float(token) for token in line.split())
        except ValueError:
            first, values = -1.0, []
        if not first.is_integer() or first < 0 or len(values) < 4 or not all(abs(value) < 100 for value in values):
            notes.add("lines left out that are not a class number with four, six or more fractions", where)
            return None
        if "kpt_shape" in self.settings:
            del values[4:]  # key points
        if any(not -0.5 <= value <= 1.5 for value in values):
            notes.add("lines left out whose coordinates are no fractions of the image's size", where)
            return None
        number = int(first)
        if number not in self.names:
            notes.add(f"lines with the class number {number}, which nothing names, taken as class_{number}", where)
        category = self.names.setdefault(number, f"class_{number}")
        if len(values) in (4, 5):  # the fifth is a confidence
            x, y, w, h = values[0] * width, values[1] * height, values[2] * width, values[3] * height
            return Instance(category, [rectangle(x - w / 2, y - h / 2, x + w / 2, y + h / 2)], is_box=True)
        if len(values) % 2:
            values.pop()  # a confidence
        polygon = [value * (height if i % 2 else width) for i, value in enumerate(values)]
        if has_bridge(polygon):
            return Instance(category, rle=rle_from_polygons([polygon], height, width))
        return Instance(category, [polygon])


def _below(path: PurePosixPath) -> PurePosixPath:
    """A path without what leads to another folder or machine."""
    return PurePosixPath(*(part for part in path.parts if part not in ("..", "/")))


def write_yolo(dataset: Dataset, output: Output) -> None:
    """Writes a YOLO dataset: ``images/SPLIT``, ``labels/SPLIT``, ``data.yaml`` and ``categories.json``."""
    numbers = {category.name: number for number, category in enumerate(dataset.categories)}
    splits = dataset.splits()
    for split, images in splits.items():
        for image in output.watch(images, f"writing {split}"):
            stem = output.place_image(image, f"images/{split}").rpartition(".")[0]
            lines = [
                f"{numbers[instance.category]} {' '.join(f'{value:.8g}' for value in values)}"
                for instance in image.instances
                for values in _values(instance, image, output)
            ]
            output.write_text(f"labels/{split}/{stem}.txt", "".join(f"{line}\n" for line in lines))
    settings = {split: f"images/{split}" for split in splits}
    output.write_categories(dataset.categories)
    names_text = yaml.safe_dump({"names": dict(enumerate(numbers))}, sort_keys=False, allow_unicode=True)
    output.write_text("data.yaml", yaml.safe_dump(settings, sort_keys=False) + names_text)


def _values(instance: Instance, image: ImageRecord, output: Output) -> Iterator[list[float]]:
    if instance.crowd:
        output.notes.add("crowd regions left out, for which YOLO has no place", image.name)
        return
    size = np.array([image.width, image.height], dtype=np.float64)
    if instance.is_box:
        low, high = np.clip(np.reshape(instance.box_xyxy(), (2, 2)) / size, 0, 1)
        yield [*((low + high) / 2).tolist(), *(high - low).tolist()]
        return
    ring = _single_outline(instance, image, output)
    if ring is not None:
        yield (ring / size).ravel().tolist()


def _single_outline(instance: Instance, image: ImageRecord, output: Output) -> Ring | None:
    if instance.rle is None and len(instance.polygons) == 1:
        ring = np.array(instance.polygons[0], dtype=np.float64).reshape(-1, 2)
        if ring.min() >= 0 and (ring <= (image.width, image.height)).all():
            return ring
    rings = mask_rings(instance.mask_rle(image.height, image.width), output.tolerance_px)
    if not rings:
        output.notes.add("instances without a single pixel left out", image.name)
        return None
    return bridge_rings(rings)

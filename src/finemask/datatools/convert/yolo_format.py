"""YOLO: one text file an image, a line an object: class number and fractions of the image's size; both ways.

Four fractions are a box (middle, width, height), six and more an outline. What can name the classes and splits is
``data.yaml``; without one, ``classes.txt`` and the folders' names are used.

A line holds one outline. An instance of several parts, or with holes, is written as one outline with bridges of no
width, which gives the same pixels back. Crowd regions have no place in the format and are left out, counted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml

from finemask.datatools.convert.output_folder import Output
from finemask.datatools.convert.records import (
    Dataset,
    ImageRecord,
    Instance,
    bridge_rings,
    has_bridge,
    mask_rings,
    rectangle,
)
from finemask.datatools.convert.source_files import Source, read_categories, split_of
from finemask.errors import DataError
from finemask.ops.contours import Ring
from finemask.ops.images.image_kinds import image_suffixes
from finemask.ops.rle import rle_from_polygons
from finemask.types import Category

_SPLIT_KEYS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_NOT_A_LINE = "lines left out that are not a class number with four, six or more fractions"


def read_yolo(source: Source) -> Dataset:
    """Reads a YOLO dataset.

    Class numbers become ids: the same if there is no class 0, else one more, because 0 is a risky id in COCO files.

    Args:
        source: its folder, or its YAML file.

    Raises:
        DataError: a YAML file that cannot be used, or folders that are not there.
    """
    settings, yaml_name = _read_yaml(source)
    names = _names(settings, yaml_name) or _listed_names(source)
    known = read_categories(source)
    labels = _Labels(source, names, boxes_only="kpt_shape" in settings)
    listed = source.watch(list(_images(source, settings, yaml_name)), "reading labels")
    skips_unlabelled = bool(settings.get("skip_if_label_file_missing"))
    images = [record for name, split in listed if (record := labels.image(name, split, skips_unlabelled)) is not None]
    first = 1 if 0 in names else 0
    by_name = {category.name: category for category in known}
    categories: dict[str, Category] = {}
    for number, name in sorted(names.items()):
        categories.setdefault(name, by_name.get(name) or Category(number + first, name))
    return Dataset(list(categories.values()), images)


def find_yaml(source: Source) -> str | None:
    """The YAML file that names the classes: ``data.yaml`` before others, shallow before deep."""
    candidates = source.with_suffix(".yaml", ".yml")
    usual = ("data.yaml", "data.yml", "dataset.yaml")
    candidates.sort(key=lambda name: (name.count("/"), PurePosixPath(name).name not in usual, name))
    for name in candidates[:20]:
        if "names" in _load_yaml(source.inside(name)):
            return name
    return None


@dataclass(slots=True)
class _Labels:
    source: Source
    names: dict[int, str]  # grows by numbers that nobody named
    boxes_only: bool

    def image(self, name: str, split: str | None, skips_unlabelled: bool) -> ImageRecord | None:
        label = self.file_of(name)
        if label is None and skips_unlabelled:
            self.source.notes.add("images without a label file left out, as data.yaml asks", name)
            return None
        record = self.source.record(name, self.source.inside(name), split=split)
        if record is None:
            return None
        if label is None:
            self.source.notes.add("images without a label file taken as images without objects", name)
        else:
            record.instances = list(self.read(label, record.height, record.width))
        return record

    def file_of(self, image: str) -> str | None:
        """The label file: ``labels`` in the place of the last ``images``, else beside the image."""
        path = PurePosixPath(image).with_suffix(".txt")
        parts = list(path.parts)
        if "images" in parts[:-1]:
            parts[len(parts) - 2 - parts[:-1][::-1].index("images")] = "labels"
        for name in (PurePosixPath(*parts).as_posix(), path.as_posix()):
            if self.source.inside(name).is_file():
                return name
        return None

    def read(self, name: str, height: int, width: int) -> Iterator[Instance]:
        try:
            lines = self.source.lines_of(name)
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"this label file cannot be read ({error})", where=self.source.root / name) from error
        for number, line in enumerate(lines, start=1):
            if line:
                yield from self._instance(line, f"{name}:{number}", height, width)

    def _instance(self, line: str, where: str, height: int, width: int) -> Iterator[Instance]:
        try:
            first, *values = (float(token) for token in line.split())
        except ValueError:
            self.source.notes.add(_NOT_A_LINE, where)
            return
        if not first.is_integer() or first < 0 or len(values) < 4 or not all(abs(value) < 100 for value in values):
            self.source.notes.add(_NOT_A_LINE, where)
            return
        if self.boxes_only:
            del values[4:]  # key points
        if any(not -0.5 <= value <= 1.5 for value in values):
            self.source.notes.add("lines left out whose coordinates are no fractions of the image's size", where)
            return
        category = self._name(int(first), where)
        if len(values) in (4, 5):  # the fifth is a confidence
            x, y, w, h = values[0] * width, values[1] * height, values[2] * width, values[3] * height
            yield Instance(category, [rectangle(x - w / 2, y - h / 2, x + w / 2, y + h / 2)], is_box=True)
            return
        if len(values) % 2:
            values.pop()  # a confidence
        polygon = [value * (height if i % 2 else width) for i, value in enumerate(values)]
        if has_bridge(polygon):
            yield Instance(category, rle=rle_from_polygons([polygon], height, width))
        else:
            yield Instance(category, [polygon])

    def _name(self, number: int, where: str) -> str:
        if number not in self.names:
            self.source.notes.add(
                f"lines with the class number {number}, which nothing names, taken as class_{number}", where
            )
            self.names[number] = f"class_{number}"
        return self.names[number]


def _images(source: Source, settings: dict[str, Any], yaml_name: str | None) -> Iterator[tuple[str, str | None]]:
    """Names of images and their splits, each image once."""
    everything = source.images()
    asked = {key: settings[key] for key in _SPLIT_KEYS if settings.get(key)}
    seen: set[str] = set()
    found_any = not asked
    for key, entries in asked.items():
        for entry in entries if isinstance(entries, list) else [entries]:
            names = _listing(source, everything, settings, yaml_name, str(entry))
            if names is None:
                source.notes.add("folders or lists named by the YAML file are not there", f"{key}: {entry}")
                continue
            found_any = True
            for name in names:
                if name not in seen:
                    seen.add(name)
                    yield name, _SPLIT_KEYS[key]
    if not found_any:
        listed = ", ".join(f"{key}: {value}" for key, value in asked.items())
        raise DataError(
            f"none of its folders of images is there: {listed}",
            where=source.root / (yaml_name or ""),
            remedy="Paths are looked for below path:, and below the folder of the YAML file",
        )
    if not asked:
        for name in everything:
            yield name, split_of(name)


def _listing(
    source: Source, everything: list[str], settings: dict[str, Any], yaml_name: str | None, entry: str
) -> list[str] | None:
    """Images of one entry: a folder, or a text file with a path a line. None: not there."""
    home = PurePosixPath(yaml_name or "").parent
    base = PurePosixPath(str(settings.get("path") or "").replace("\\", "/"))
    plain = PurePosixPath(entry.replace("\\", "/"))
    # Roboflow writes ../train/images and means train/images; absolute paths are those of another machine.
    inner = PurePosixPath(*(part for part in plain.parts if part not in ("..", "/")))
    tries = [home / base / plain, home / plain, home / inner]
    tries += [PurePosixPath(*inner.parts[i:]) for i in range(1, len(inner.parts))]
    for candidate in tries:
        try:
            path = source.inside(candidate.as_posix())
        except DataError:
            continue
        if path.is_dir():
            prefix = "" if path == source.root else f"{path.relative_to(source.root).as_posix()}/"
            return [name for name in everything if name.startswith(prefix)]
        if path.is_file() and path.suffix == ".txt":
            return list(_listed_images(source, path))
    return None


def _listed_images(source: Source, path: Path) -> Iterator[str]:
    for line in source.lines_of(path.relative_to(source.root).as_posix()):
        entry = PurePosixPath(line.replace("\\", "/"))
        if entry.suffix.lower() not in image_suffixes():
            continue
        tail = PurePosixPath(*(part for part in entry.parts if part not in ("..", "/")))
        found = source.find_image(tail.as_posix(), near=path.parent.relative_to(source.root).as_posix())
        if found is None:
            source.notes.add("listed images that are not there left out", line)
        else:
            yield found.relative_to(source.root).as_posix()


def _read_yaml(source: Source) -> tuple[dict[str, Any], str | None]:
    name = find_yaml(source)
    return (_load_yaml(source.inside(name)), name) if name else ({}, None)


def _load_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise DataError(f"this YAML file cannot be read ({error})", where=path) from None
    return content if isinstance(content, dict) else {}


def _names(settings: dict[str, Any], yaml_name: str | None) -> dict[int, str]:
    names = settings.get("names")
    if isinstance(names, list):
        return {number: str(name).strip() or f"class_{number}" for number, name in enumerate(names)}
    if isinstance(names, dict):
        try:
            return {int(number): str(name).strip() or f"class_{number}" for number, name in names.items()}
        except (ValueError, TypeError, OverflowError):
            raise DataError("'names' must map class numbers to names", where=yaml_name) from None
    return {}


def _listed_names(source: Source) -> dict[int, str]:
    if source.options.classes:
        return dict(enumerate(source.options.classes))
    for name in source.files:
        if PurePosixPath(name).name in ("classes.txt", "obj.names"):
            return {number: line for number, line in enumerate(source.lines_of(name)) if line}
    return {}


def write_yolo(dataset: Dataset, output: Output) -> None:
    """Writes a dataset.

    Args:
        dataset: what to write.
        output: where to.
    """
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

"""CVAT XML 1.1, "for images" and "for video".

Polygons, boxes, ellipses and masks become objects; shapes of one label that share a ``group_id`` become one, as in
CVAT's own COCO export. Of a video's tracks every frame that the file lists is taken, unless it is marked
``outside``; CVAT lists interpolated frames as well as keyframes.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element

import numpy as np

from finemask.datatools.convert.records import (
    Dataset,
    ImageRecord,
    Instance,
    ellipse,
    is_polygon,
    join_groups,
    names_used,
    number_categories,
    rectangle,
)
from finemask.datatools.convert.source_files import Source, read_xml, split_of, text_of, whole_number
from finemask.errors import DataError
from finemask.ops.rle import crop_to_rle
from finemask.types import Rle

_FLAT = ("points", "polyline", "skeleton", "cuboid", "tag")


def read_cvat(source: Source) -> Dataset:
    """Reads a CVAT export: the XML files of a folder, or one.

    Raises:
        DataError: XML that cannot be used; a video whose frames are not there as images.
    """
    images: list[ImageRecord] = []
    names: list[str] = []
    for name in source.with_suffix(".xml"):
        root = read_xml(source.inside(name), "a CVAT annotation file")
        if root.tag != "annotations":
            source.notes.add("XML files left out that are not CVAT's", name)
            continue
        file = _File(source, name)
        names += [
            text_of(label, "name") for label in root.iterfind("meta//labels/label") if not text_of(label, "parent")
        ]
        elements = source.watch(list(root.iterfind("image")), f"reading {PurePosixPath(name).name}")
        images += [record for element in elements if (record := file.image(element)) is not None]
        tracks = list(root.iterfind("track"))
        if tracks:
            images += file.frames(root, tracks)
    return Dataset(number_categories([*names, *names_used(images)]), images)


@dataclass(slots=True)
class _File:
    source: Source
    name: str

    def image(self, element: Element) -> ImageRecord | None:
        file_name, subset = element.get("name", ""), element.get("subset")
        split = (split_of([subset]) or subset.lower()) if subset else split_of(file_name)
        path = self.source.find_image(file_name, near=PurePosixPath(self.name).parent.as_posix(), split=split)
        height, width = whole_number(element.get("height")), whole_number(element.get("width"))
        if height is None or width is None:
            raise DataError(f"image {file_name!r} has no width and height", where=self.source.root / self.name)
        plain = PurePosixPath(file_name.replace("\\", "/")).as_posix()
        record = self.source.record(plain, path, (height, width), split)
        if record is not None:
            record.instances = join_groups(self._shapes(element, file_name, record.height, record.width))
        return record

    def frames(self, root: Element, tracks: list[Element]) -> list[ImageRecord]:
        """A video's frames: those with objects, and those that are there as images."""
        size = root.find("meta//original_size")
        sides = [None if size is None else whole_number(text_of(size, tag)) for tag in ("height", "width")]
        height, width = sides
        if height is None or width is None:
            raise DataError("a video without a size in meta/task/original_size", where=self.source.root / self.name)
        found: dict[int, list[tuple[object, Instance]]] = {}
        for track in tracks:
            self._check_gaps(track)
            for shape in track:
                if shape.get("outside") == "1":
                    continue
                frame = self._frame(shape)
                where = f"track {track.get('id')}, frame {frame}"
                shape.set("label", track.get("label", ""))
                group = track.get("group_id")
                found.setdefault(frame, []).extend(
                    (group, instance) for _, instance in self._shape(shape, where, height, width)
                )
        pictures = self._frame_files()
        if not pictures and self.source.options.with_images:
            raise DataError(
                "this is a video, and its frames are not here as images",
                where=self.source.root / self.name,
                remedy=f"Extract them: ffmpeg -i {text_of(root, 'meta/source') or 'VIDEO'} -start_number 0 "
                "images/frame_%06d.png, or say images=none",
            )
        records = []
        for frame in sorted({*found, *pictures}):
            path = pictures.get(frame)
            if path is not None and self.source.size_of(path, (height, width)) is None:
                continue
            name = f"frame_{frame:06d}.png" if path is None else self.source.name_of(path)
            records.append(ImageRecord(name, height, width, path, None, join_groups(found.get(frame, ()))))
        return records

    def _frame(self, shape: Element) -> int:
        frame = whole_number(shape.get("frame"))
        if frame is None:
            raise DataError(f"a track's {shape.tag} without a frame number", where=self.source.root / self.name)
        return frame

    def _frame_files(self) -> dict[int, Path]:
        """Images by the number that their names end in."""
        numbered: dict[int, Path] = {}
        for name in self.source.images:
            digits = re.search(r"(\d+)$", PurePosixPath(name).stem)
            if digits:
                numbered[int(digits[1])] = self.source.inside(name)
        return numbered

    def _check_gaps(self, track: Element) -> None:
        """Keyframes alone are not enough: objects would be missing on the frames between them."""
        frames = [(self._frame(shape), shape.get("outside") == "1") for shape in track]
        steps = [later - frame for (frame, outside), (later, _) in pairwise(frames) if not outside]
        if steps and max(steps) > min(steps):
            self.source.notes.add(
                "tracks that list some frames only, so objects are missing on the others",
                f"track {track.get('id')}",
            )

    def _shapes(self, image: Element, where: str, height: int, width: int) -> Iterator[tuple[object, Instance]]:
        for shape in sorted(image, key=lambda shape: whole_number(shape.get("z_order")) or 0):
            yield from self._shape(shape, where, height, width)

    def _shape(self, shape: Element, where: str, height: int, width: int) -> Iterator[tuple[object, Instance]]:
        if shape.tag in _FLAT:
            self.source.notes.add("points, polylines, cuboids, skeletons and tags left out, which are no areas", where)
            return
        label = (shape.get("label") or "").strip()
        if not label:
            self.source.notes.add("shapes without a label left out", where)
            return
        try:
            instance = _instance(shape, label, height, width)
        except (ValueError, OverflowError):
            instance = None
        if instance is None:
            self.source.notes.add("shapes left out that cannot be read", f"{where}: {shape.tag}")
            return
        yield (shape.get("group_id") if shape.get("group_id") not in ("0", "") else None), instance


def _instance(shape: Element, label: str, height: int, width: int) -> Instance | None:
    rotation = _number(shape, "rotation")
    if shape.tag == "box":
        x0, y0, x1, y1 = (_number(shape, key) for key in ("xtl", "ytl", "xbr", "ybr"))
        return Instance(label, [rectangle(x0, y0, x1, y1, rotation)], is_box=True)
    if shape.tag == "ellipse":
        cx, cy, rx, ry = (_number(shape, key) for key in ("cx", "cy", "rx", "ry"))
        return Instance(label, [ellipse(cx, cy, rx, ry, math.radians(rotation))])
    if shape.tag == "mask":
        return Instance(label, rle=_mask(shape, height, width))
    if shape.tag == "polygon":
        points = [float(value) for value in re.split("[,;]", shape.get("points", ""))]
        return Instance(label, [points]) if is_polygon(points) else None
    return None


def _mask(shape: Element, image_height: int, image_width: int) -> Rle:
    """Row by row inside a box, zeros first; COCO's runs go down the columns of the whole image."""
    x0, y0, width, height = (int(_number(shape, key)) for key in ("left", "top", "width", "height"))
    counts = np.array([int(count) for count in shape.get("rle", "").split(",")], dtype=np.int64)
    if counts.min() < 0 or counts.sum() != height * width or min(x0, y0) < 0:
        raise ValueError("the runs do not fill the box")
    values = np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(height, width)
    crop = values[: max(image_height - y0, 0), : max(image_width - x0, 0)]
    return crop_to_rle(crop, x0, y0, image_height, image_width)


def _number(element: Element, key: str) -> float:
    value = float(element.get(key) or 0)
    if not math.isfinite(value):
        raise ValueError(f"{key} is not finite")
    return value

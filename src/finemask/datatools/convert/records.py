"""The dataset in the middle of every conversion: categories, images, instances and their outlines; and its notes."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np

from finemask.coco.rasterising import FIFTHS_LIMIT
from finemask.ops.contours import Ring, mask_to_polygons
from finemask.ops.rle import mask_to_rle, rle_from_polygons, rle_to_crop, rle_to_mask
from finemask.types import Category, Rle

T = TypeVar("T")
Watch: TypeAlias = Callable[[Sequence[Any], str], Iterable[Any]]
"""``watch(items, "reading labels")`` gives the same items and may show how far it is."""

_EXAMPLES = 3
_SAGITTA_PX = 0.05  # by which a chord of an ellipse may fall short of its arc
_MAX_SIDES = 2000
_LIMIT_PX = FIFTHS_LIMIT / 5  # what training refuses, and a rasteriser would take for ever on


def unwatched(items: Sequence[T], doing: str) -> Iterator[T]:
    """A ``Watch`` that shows nothing."""
    del doing
    return iter(items)


class Notes:
    """Notes of a conversion: what was left out or chosen, counted, with a few examples each."""

    def __init__(self) -> None:
        self._examples: dict[str, list[str]] = {}
        self._counts = Counter[str]()

    def add(self, what: str, where: object = None) -> None:
        """Counts one more.

        Args:
            what: in the plural, saying what happened to them: ``"points and lines left out"``.
            where: file, line, id of this one.
        """
        self._counts[what] += 1
        examples = self._examples.setdefault(what, [])
        if where is not None and len(examples) < _EXAMPLES and str(where) not in examples:
            examples.append(str(where))

    def count(self, what: str) -> int:
        """How often that was added."""
        return self._counts[what]

    def lines(self) -> list[str]:
        """One line a kind: ``"points and lines left out: 12 (a.json, b.json, …)"``."""
        lines = []
        for what, count in self._counts.items():
            examples = self._examples[what]
            shown = ", ".join(examples) + (", …" if len(examples) < count and len(examples) == _EXAMPLES else "")
            lines.append(f"{what}: {count:,}" + (f" ({shown})" if shown else ""))
        return lines


@dataclass(slots=True)
class Instance:
    """One object, as its source describes it.

    Args:
        category: name.
        polygons: x0, y0, x1, y1, … in px; the union of all is meant.
        rle: a mask of the image's size, joined to the polygons.
        is_box: the source gives a box and no outline; ``polygons`` then holds its corners.
        crowd: a region of several objects, not to be trained on.
    """

    category: str
    polygons: list[list[float]] = field(default_factory=list)
    rle: Rle | None = None
    is_box: bool = False
    crowd: bool = False

    def mask_rle(self, height: int, width: int) -> Rle:
        """All of it as one RLE; pycocotools decides the pixels of polygons."""
        if not self.polygons:
            return self.rle or mask_to_rle(np.zeros((height, width), dtype=np.uint8))
        return _union(rle_from_polygons(self.polygons, height, width), self.rle)

    def box_xyxy(self) -> tuple[float, float, float, float]:
        """Of an instance that is a box, its extent in px."""
        x, y = self.polygons[0][::2], self.polygons[0][1::2]
        return min(x), min(y), max(x), max(y)

    def join(self, other: "Instance") -> None:
        """Takes in another part of the same object; of boxes and outlines, the outlines say it better."""
        if self.is_box and not other.is_box:
            self.polygons, self.rle, self.is_box = other.polygons, other.rle, False
        elif self.is_box or not other.is_box:
            self.polygons = [*self.polygons, *other.polygons]
            self.rle = other.rle if self.rle is None else _union(self.rle, other.rle)


@dataclass(slots=True)
class ImageRecord:
    """One image and its objects.

    Args:
        name: in the source, relative, with forward slashes; what the converted file is called goes back to it.
        height: px, of the pixels that the annotations were made on.
        width: px.
        path: the file; None where there is none.
        split: ``"train"``, ``"val"``, ``"test"`` or another name; None where the source has no splits.
        instances: its objects.
        embedded: the encoded image, if it lies inside its annotation file.
        id: the image's number in the source, if it has one.
        extra: further entries of a COCO image, such as its licence.
    """

    name: str
    height: int
    width: int
    path: Path | None
    split: str | None = None
    instances: list[Instance] = field(default_factory=list)
    embedded: bytes | None = None
    id: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def has_pixels(self) -> bool:
        """Whether the image itself is there, as a file or embedded."""
        return self.path is not None or self.embedded is not None


@dataclass(slots=True)
class Dataset:
    """A whole source.

    Args:
        categories: in the order of their numbers; names are unique.
        images: of all splits.
        info: a COCO file's ``info`` and ``licenses``, if the source has them.
    """

    categories: list[Category]
    images: list[ImageRecord]
    info: dict[str, Any] = field(default_factory=dict)

    def splits(self) -> dict[str, list[ImageRecord]]:
        """Images by split, train, val and test first; images without one are in ``train``."""
        found: dict[str, list[ImageRecord]] = {}
        for image in self.images:
            found.setdefault(image.split or "train", []).append(image)
        first = ("train", "val", "test")
        return {name: found[name] for name in [*first, *sorted(set(found) - set(first))] if name in found}


def names_used(images: Iterable[ImageRecord]) -> list[str]:
    """The categories of all instances, sorted."""
    return sorted({instance.category for image in images for instance in image.instances})


def number_categories(names: Iterable[str], known: Sequence[Category] = ()) -> list[Category]:
    """Categories of a source that has names only.

    Args:
        names: in the order wanted; repeated ones count once.
        known: those whose ids are given; they come first.

    Returns:
        ``known``, then the others with the ids that follow.
    """
    taken = {category.name for category in known}
    fresh = [name for name in dict.fromkeys(names) if name not in taken]
    start = max((category.id for category in known), default=0) + 1
    return [*known, *(Category(start + i, name) for i, name in enumerate(fresh))]


def join_groups(shapes: Iterable[tuple[object, Instance]]) -> list[Instance]:
    """Shapes of one group and category become one instance.

    Args:
        shapes: group and shape each; the group None stands alone.
    """
    joined: list[Instance] = []
    by_group: dict[tuple[object, str, bool], Instance] = {}
    for group, shape in shapes:
        key = (group, shape.category, shape.crowd)
        if group is not None and key in by_group:
            by_group[key].join(shape)
        else:
            by_group[key] = shape
            joined.append(shape)
    return joined


def rectangle(x0: float, y0: float, x1: float, y1: float, rotation_deg: float = 0.0) -> list[float]:
    """Corners of a box, turned clockwise about its middle: x0, y0, x1, y1 and so on."""
    corners = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], dtype=np.float64)
    return _turned(corners, ((x0 + x1) / 2, (y0 + y1) / 2), math.radians(rotation_deg))


def ellipse(cx: float, cy: float, rx: float, ry: float, rotation_rad: float = 0.0) -> list[float]:
    """An ellipse as a polygon within 0.05 px of it (up to 100,000 px wide), turned clockwise about its middle."""
    radius = max(abs(rx), abs(ry), 1.0)
    count = min(max(12, math.ceil(math.pi * math.sqrt(radius / (2 * _SAGITTA_PX)))), _MAX_SIDES)
    angle = np.arange(count) * (2 * np.pi / count)
    points = np.stack([cx + abs(rx) * np.cos(angle), cy + abs(ry) * np.sin(angle)], axis=1)
    return _turned(points, (cx, cy), rotation_rad)


def is_polygon(polygon: Sequence[float]) -> bool:
    """At least three points, all finite and within a million px."""
    return len(polygon) >= 6 and len(polygon) % 2 == 0 and all(abs(value) < _LIMIT_PX for value in polygon)


def mask_rings(rle: Rle, tolerance_px: float = 0.0) -> list[Ring]:
    """Outlines of a mask along the edges of its pixels, those of its parts and of their holes alike.

    Filled by even and odd, and by pycocotools, they give the very pixels back.

    Args:
        rle: the mask.
        tolerance_px: how far a thinned outline may run from the exact one; 0 keeps every corner.
    """
    polygons = mask_to_polygons(*rle_to_crop(rle), tolerance_px)
    return [ring for polygon in polygons for ring in (polygon.outer, *polygon.holes)]


def has_bridge(polygon: Sequence[float]) -> bool:
    """Whether an outline runs along one of its own sides there and back, as ``bridge_rings`` of ops makes it."""
    points = list(zip(polygon[::2], polygon[1::2], strict=True))
    sides = {(a, b) for a, b in zip(points, [*points[1:], points[0]], strict=True) if a != b}
    return any((b, a) in sides for a, b in sides)


def _turned(points: Ring, about: tuple[float, float], radians: float) -> list[float]:
    if radians:
        cos, sin = math.cos(radians), math.sin(radians)
        points = (points - about) @ np.array([[cos, sin], [-sin, cos]]) + about
    flat: list[float] = points.ravel().tolist()
    return flat


def _union(one: Rle, other: Rle | None) -> Rle:
    return one if other is None else mask_to_rle(rle_to_mask(one) | rle_to_mask(other))

"""What every format is read into and written from."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from finemask.ops.rle import mask_to_rle, rle_from_polygons, rle_to_mask
from finemask.types import Category, Rle

T = TypeVar("T")
Watch: TypeAlias = Callable[[Sequence[Any], str], Iterable[Any]]
"""``watch(items, "reading labels")`` gives the same items and may show how far it is."""

_EXAMPLES = 3


def unwatched(items: Sequence[T], doing: str) -> Iterator[T]:
    """A ``Watch`` that shows nothing."""
    del doing
    return iter(items)


class Notes:
    """What could not be converted, or only by a choice: counted, with a few examples each."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}
        self._counts: dict[str, int] = {}

    def add(self, what: str, where: object = None) -> None:
        """Counts one more.

        Args:
            what: in the plural, saying what happened to them: ``"points and lines left out"``.
            where: file, line, id of this one.
        """
        self._counts[what] = self._counts.get(what, 0) + 1
        examples = self._found.setdefault(what, [])
        if where is not None and len(examples) < _EXAMPLES and str(where) not in examples:
            examples.append(str(where))

    def count(self, what: str) -> int:
        """How often that was added."""
        return self._counts.get(what, 0)

    def counts(self) -> list[tuple[str, int]]:
        """Each kind and how often."""
        return list(self._counts.items())

    def lines(self) -> list[str]:
        """One line a kind: ``"points and lines left out: 12 (a.json, b.json, …)"``."""
        lines = []
        for what, count in self._counts.items():
            examples = self._found[what]
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
            return self.rle or Rle(size=[height, width], counts=mask_to_rle(_empty(height, width))["counts"])
        outlined = rle_from_polygons(self.polygons, height, width)
        if self.rle is None:
            return outlined
        return mask_to_rle(rle_to_mask(outlined) | rle_to_mask(self.rle))


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
        first = by_group.get(key) if group is not None else None
        if first is None:
            by_group[key] = shape
            joined.append(shape)
        elif first.is_box and not shape.is_box:
            first.polygons, first.rle, first.is_box = shape.polygons, shape.rle, False  # the outline says it better
        elif first.is_box or not shape.is_box:
            _join(first, shape)
    return joined


def _join(first: Instance, other: Instance) -> None:
    first.polygons = [*first.polygons, *other.polygons]
    if first.rle is not None and other.rle is not None:
        first.rle = mask_to_rle(rle_to_mask(first.rle) | rle_to_mask(other.rle))
    else:
        first.rle = first.rle or other.rle


def _empty(height: int, width: int) -> Any:
    import numpy as np

    return np.zeros((height, width), dtype=np.uint8)

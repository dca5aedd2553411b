"""Many small things of different length in one array each, with offsets."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finemask.types import Category

_BLOCK = 2**20  # numbers that are gathered at once: bounds the memory for their indices


@dataclass(frozen=True)
class PackedStrings:
    """A sequence of strings as one array of UTF-8 bytes.

    Args:
        text: uint8, all strings one after another.
        offsets: int64 [n + 1].
    """

    text: NDArray[np.uint8]
    offsets: NDArray[np.int64]

    @staticmethod
    def encode(string: str) -> bytes:
        """The bytes of one string, as file systems have them.

        Raises:
            UnicodeEncodeError: half of a surrogate pair, which no file system has.
        """
        return string.encode("utf-8", "surrogateescape")

    @classmethod
    def pack(cls, strings: Sequence[str]) -> "PackedStrings":
        """Packs strings."""
        encoded = [cls.encode(string) for string in strings]
        return cls(np.frombuffer(b"".join(encoded), np.uint8), offsets_of([len(item) for item in encoded]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> str:
        return self.text[self.offsets[i] : self.offsets[i + 1]].tobytes().decode("utf-8", "surrogateescape")

    def to_list(self) -> list[str]:
        """All strings; far quicker than one by one."""
        text, bounds = self.text.tobytes(), self.offsets.tolist()
        return [text[a:b].decode("utf-8", "surrogateescape") for a, b in pairwise(bounds)]


@dataclass(frozen=True)
class PackedSegments:
    """The masks of A annotations, as polygons in fifths of a pixel or as run lengths of their windows.

    Args:
        windows: int32 [A, 4], xyxy px: holds every pixel of the mask; zeros for a mask without pixels.
        boxes_xyxy: float32 [A, 4], px, extent of the outline, clipped to the image.
        first_part: int64 [A + 1], polygons of each annotation; none for run lengths.
        part_starts: int64 [P], where each polygon starts in ``points``.
        part_lengths: int32 [P], numbers of each polygon.
        points: int16, or int32 where an image is larger than that holds; x0, y0, x1, y1, … in fifths. In the order
            of the file: sorting them would take as much memory again.
        first_byte: int64 [A + 1], where each annotation's counts start in ``rle_bytes``.
        rle_bytes: uint8, compressed counts of the masks inside their windows.
    """

    windows: NDArray[np.int32]
    boxes_xyxy: NDArray[np.float32]
    first_part: NDArray[np.int64]
    part_starts: NDArray[np.int64]
    part_lengths: NDArray[np.int32]
    points: NDArray[np.int16] | NDArray[np.int32]
    first_byte: NDArray[np.int64]
    rle_bytes: NDArray[np.uint8]

    def window(self, row: int) -> tuple[int, int, int, int]:
        """Where the pixels of annotation ``row`` lie, xyxy px."""
        x0, y0, x1, y1 = self.windows[row].tolist()
        return x0, y0, x1, y1

    def polygons(self, row: int) -> list[NDArray[np.int16] | NDArray[np.int32]]:
        """Polygons of annotation ``row`` in fifths; empty when it is stored as run lengths."""
        parts = slice(self.first_part[row], self.first_part[row + 1])
        starts, lengths = self.part_starts[parts].tolist(), self.part_lengths[parts].tolist()
        return [self.points[a : a + n] for a, n in zip(starts, lengths, strict=True)]

    def counts(self, row: int) -> bytes:
        """Compressed counts of annotation ``row``, of its window."""
        return self.rle_bytes[self.first_byte[row] : self.first_byte[row + 1]].tobytes()


@dataclass(frozen=True)
class PackedCoco:
    """All that one annotation file holds, whatever folder its images lie in. Annotations are sorted by image.

    Args:
        categories: those of the file, in its order.
        fingerprint: SHA-256 of the file's bytes.
        image_ids: int64 [n].
        heights: int32 [n], px; 0 where the file does not say, which only boxes can do without.
        widths: int32 [n], px.
        file_names: n names relative to the images folder; empty where the file has none.
        slices: n names, of the part of the images that each is to be measured with; most files have none.
        first_annotation: int64 [n + 1].
        annotation_ids: int64 [A]; an annotation without one has its number in the file.
        places: int32 [A], where each stands in the file, from 0.
        labels: int64 [A], 1..K, positions in ``categories``.
        iscrowd: bool [A].
        boxes_xywh: float64 [A, 4], px, as the file states them; NaN where it does not.
        areas: float64 [A], px², likewise.
        areas_are_whole: bool [A], whether it is written without a point.
        has_mask: bool [A], whether there is a segmentation; a crowd without one has its box in ``segments``.
        segments: outlines and masks.
    """

    categories: list[Category]
    fingerprint: str
    image_ids: NDArray[np.int64]
    heights: NDArray[np.int32]
    widths: NDArray[np.int32]
    file_names: PackedStrings
    slices: PackedStrings
    first_annotation: NDArray[np.int64]
    annotation_ids: NDArray[np.int64]
    places: NDArray[np.int32]
    labels: NDArray[np.int64]
    iscrowd: NDArray[np.bool_]
    boxes_xywh: NDArray[np.float64]
    areas: NDArray[np.float64]
    areas_are_whole: NDArray[np.bool_]
    has_mask: NDArray[np.bool_]
    segments: PackedSegments

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Every array by its name; with ``categories`` and ``fingerprint`` they are all there is."""
        found: dict[str, NDArray[Any]] = {}
        for holder, prefix in ((self, ""), *((getattr(self, name), f"{name}.") for name in _PARTS)):
            found |= {prefix + name: value for name, value in vars(holder).items() if isinstance(value, np.ndarray)}
        return found

    @classmethod
    def of_arrays(cls, arrays: dict[str, NDArray[Any]], categories: list[Category], fingerprint: str) -> "PackedCoco":
        """The inverse of ``arrays``.

        Raises:
            TypeError: an array is missing or unknown.
        """
        own: dict[str, Any] = {}
        members: dict[str, dict[str, Any]] = {"": own, **{name: {} for name in _PARTS}}
        for name, value in arrays.items():
            holder, _, field = name.rpartition(".")
            if holder not in members:
                raise TypeError(f"there is no such array as {name}")
            members[holder][field] = value
        own |= {name: part(**members[name]) for name, part in _PARTS.items()}
        return cls(categories, fingerprint, **own)


_PARTS: dict[str, Any] = {"file_names": PackedStrings, "slices": PackedStrings, "segments": PackedSegments}


def offsets_of(lengths: Sequence[int] | NDArray[Any]) -> NDArray[np.int64]:
    """Where each of n things of these lengths starts when they lie one after another, int64 [n + 1]."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(np.asarray(lengths, dtype=np.int64), out=offsets[1:])
    return offsets


def take_ragged(values: NDArray[Any], starts: NDArray[np.int64], lengths: NDArray[Any]) -> NDArray[Any]:
    """Lays ``values[starts[i] : starts[i] + lengths[i]]`` one after another, for all i."""
    if not len(starts):
        return values[:0].copy()
    ends = starts + lengths
    if (starts[1:] == ends[:-1]).all():  # they already do
        return values[starts[0] : ends[-1]].copy()
    offsets = offsets_of(lengths)
    taken = np.empty(int(offsets[-1]), dtype=values.dtype)
    row = 0
    while row < len(lengths):
        end = max(row + 1, int(np.searchsorted(offsets, offsets[row] + _BLOCK, side="right")) - 1)
        a, b = int(offsets[row]), int(offsets[end])
        shifts = np.repeat(starts[row:end] - offsets[row:end], lengths[row:end])
        np.take(values, shifts + np.arange(a, b), out=taken[a:b])
        row = end
    return taken

"""Cuts large images and their instances into overlapping tiles, as a COCO dataset that can be trained on at once.

One image is open at a time, one tile is in memory, and annotations go to the file as they are made.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from finemask.coco.index import CocoIndex
from finemask.datatools.tile.tile_instances import ClassCount, Part, TileReport, cut_instances
from finemask.datatools.tile.tile_output import (
    MARK,
    FreeNames,
    SourceEntries,
    earlier_tiles,
    growing_file,
    read_source_entries,
    split_names,
    write_tile,
)
from finemask.errors import ConfigError, DataError, FinemaskError
from finemask.ops.files.atomic_files import copy_file
from finemask.ops.images.image_reading import AS_THE_FILE_SAYS, ImageReading
from finemask.ops.images.tile_windows import tile_windows
from finemask.ops.images.window_reader import PillowReader, Reader, open_image

Slivers: TypeAlias = Literal["ignore", "drop"]
TileFormat: TypeAlias = Literal["auto", "png", "jpg"]
Progress: TypeAlias = Callable[[int, int], None]
"""Called with the tiles done and the tiles in all."""

_MEASURED = ("val", "test")  # keep their empty tiles: without them false alarms would not be counted


@dataclass(frozen=True, slots=True)
class TileSettings:
    """How to cut.

    Args:
        size: side of the tiles, px.
        overlap: share of a tile that it has in common with the next, 0..0.9.
        min_visible: a part with fewer than this share of the pixels of the instance's greatest part is a sliver.
        slivers: ``ignore``: kept as crowd regions, neither trained on nor counted as missed or as false alarms;
            ``drop``: left out.
        empty_tiles: training tiles without instances: ``keep``, ``drop``, or the fraction of them to keep.
        format: of the pictures; ``auto``: jpg for JPEG sources, otherwise png.
        quality: of JPEGs, 1..100.
        reader: see ``open_image``.
        seed: of the choice of empty tiles.

    Raises:
        ConfigError: a value out of range.
    """

    size: int = 1024
    overlap: float = 0.2
    min_visible: float = 0.2
    slivers: Slivers = "ignore"
    empty_tiles: float | Literal["keep", "drop"] = "keep"
    format: TileFormat = "auto"
    quality: int = 95
    reader: Reader = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        kept = self.empty_tiles
        ranges = {
            "size": (_is_number(self.size, 16, 2**15, whole=True), "a whole number of px, at least 16"),
            "overlap": (_is_number(self.overlap, 0, 0.9), "a share of the tile from 0 to 0.9"),
            "min_visible": (_is_number(self.min_visible, 0, 1), "a fraction from 0 to 1"),
            "slivers": (self.slivers in get_args(Slivers), "ignore or drop"),
            "empty_tiles": (kept in ("keep", "drop") or _is_number(kept, 0, 1), "keep, drop or a fraction from 0 to 1"),
            "format": (self.format in get_args(TileFormat), "auto, png or jpg"),
            "quality": (_is_number(self.quality, 1, 100, whole=True), "a whole number from 1 to 100"),
            "reader": (self.reader in get_args(Reader), "auto, pillow or vips"),
            "seed": (_is_number(self.seed, 0, 2**63, whole=True), "a whole number, at least 0"),
        }
        for key, (fits, wanted) in ranges.items():
            if not fits:
                raise ConfigError(f"{key}={getattr(self, key)} cannot be used", remedy=f"Give {wanted}.")


def _is_number(value: object, low: float, high: float, *, whole: bool = False) -> bool:
    kinds = (int,) if whole else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool) and low <= value <= high


def tile_files(
    annotations: Sequence[Path],
    images_dirs: Sequence[Path],
    output: Path,
    settings: TileSettings,
    *,
    free_memory_bytes: float | None = None,
    reading: ImageReading = AS_THE_FILE_SAYS,
    progress: Progress | None = None,
) -> list[TileReport]:
    """Tiles datasets into one folder: ``images/<split>/…`` and ``annotations/<split>.json``.

    Masks are cut pixel for pixel and written as compressed RLE. Every image entry carries ``tile_of`` (image_id,
    file_name, width, height, x0, y0 of the source), every annotation ``tile_of`` (annotation_id, visible).

    Args:
        annotations: COCO files.
        images_dirs: the folder of images of each; one stands for all.
        output: folder; made if it is not there. Tiles of an earlier run are replaced.
        settings: how to cut.
        free_memory_bytes: what a decoded image may take; unlimited if None.
        reading: page, range and channels of the images; tiles are 8-bit pictures.
        progress: told about every tile.

    Returns:
        A report for each file.

    Raises:
        ConfigError: the lists do not fit together.
        DataError: the sources cannot be used, or the output holds annotations of something else.
    """
    output = Path(output)
    if len(images_dirs) not in (1, len(annotations)):
        raise ConfigError(
            f"{len(annotations)} annotation files and {len(images_dirs)} folders of images",
            remedy="Give one folder for all, or one for each file in the same order.",
        )
    names = split_names(annotations)
    earlier = [earlier_tiles(output, name) for name in names]
    folders = list(images_dirs) * (len(annotations) if len(images_dirs) == 1 else 1)
    indices = [
        CocoIndex.read(Path(path), Path(folder), reading=reading)
        for path, folder in zip(annotations, folders, strict=True)
    ]
    total = sum(
        len(tile_windows(*index.size_hw(i), settings.size, settings.overlap))
        for index in indices
        for i in range(len(index))
    )
    cutter = _Cutter(output, settings, free_memory_bytes, progress, total)
    reports = []
    was_there = output.is_dir()
    for number, (name, index, old) in enumerate(zip(names, indices, earlier, strict=True)):
        written: set[str] = set()
        try:
            report = cutter.cut(number, name, index, written)
        except FinemaskError:
            _remove_pictures(output, written - old, and_itself=not was_there)
            raise
        for file_name in old - written:
            (output / "images" / file_name).unlink(missing_ok=True)
        reports.append(report)
    return reports


def _remove_pictures(output: Path, file_names: set[str], *, and_itself: bool) -> None:
    """Takes back what was cut before an image could not be read: pictures without annotations are of no use."""
    for file_name in file_names:
        (output / "images" / file_name).unlink(missing_ok=True)
    folders = [path for path in sorted(output.rglob("*"), reverse=True) if path.is_dir()]
    for folder in [*folders, *([output] if and_itself else [])]:
        with suppress(OSError):  # something is in it
            folder.rmdir()


@dataclass(slots=True)
class _Cutter:
    """What all files of one run have in common."""

    output: Path
    settings: TileSettings
    free_memory_bytes: float | None
    progress: Progress | None
    total: int
    done: int = 0
    next_ids: tuple[int, int] = (1, 1)

    def cut(self, number: int, name: str, index: CocoIndex, written: set[str]) -> TileReport:
        """Tiles one file; the names of the pictures go into ``written``."""
        settings = self.settings
        entries = read_source_entries(index.annotations_path)
        path = self.output / "annotations" / f"{name}.json"
        report = TileReport(name, path, classes={category.name: ClassCount() for category in index.categories})
        names, file_names = FreeNames(), index.file_names
        with growing_file(path, _head(entries, index, settings), *self.next_ids) as file:
            for i in range(len(index)):
                windows = tile_windows(*index.size_hw(i), settings.size, settings.overlap)
                parts, without_pixels = cut_instances(index.instances(i), windows, settings.min_visible)
                empty = np.array([not _holds_instance(index, i, tile) for tile in parts])
                chosen = _chosen(empty, name, settings, np.random.default_rng([settings.seed, number, i]))
                source = _Source(index, i, file_names[i], name, entries)
                for tile, file_name in self._write_pictures(source, windows, chosen, names):
                    written.add(file_name)
                    image = source.image(file_name, *windows[tile].tolist())
                    file.add(image, source.annotations(parts[tile], settings.slivers))
                report.without_pixels += without_pixels
                report.images += 1
                report.whole += len(windows) == 1
                report.tiles += int(chosen.sum())
                report.empty += int((chosen & empty).sum())
                report.left_out += int((~chosen).sum())
                report.add_parts(index, i, parts)
            if not report.tiles:
                raise DataError(
                    "no tile is left", where=index.annotations_path, remedy="Keep empty ones with empty_tiles=keep"
                )
            self.next_ids = (file.next_image_id, file.next_annotation_id)
        return report

    def _write_pictures(
        self, source: "_Source", windows: NDArray[np.int64], chosen: NDArray[np.bool_], names: FreeNames
    ) -> Iterator[tuple[int, str]]:
        """Writes the chosen tiles of an image; yields the number and the file name of each."""
        settings, is_whole = self.settings, len(windows) == 1
        suffix = _suffix(source.path, settings.format)
        digits = len(str(int(windows.max())))
        # an image that stays whole is only looked at: whether it is there and has the right size
        how = ("pillow", None) if is_whole else (settings.reader, self.free_memory_bytes)
        with open_image(source.path, source.size_hw, *how, source.reading) as reader:
            # a copy is read as all tiles are, unless something was chosen that training is not to choose again
            copied = is_whole and (
                source.reading == AS_THE_FILE_SAYS
                or (isinstance(reader, PillowReader) and source.reading.channels is None)
            )
            if is_whole:
                suffix = source.path.suffix if copied else ".png"
            for tile, (x0, y0, x1, y1) in enumerate(windows.tolist()):
                if chosen[tile]:
                    ending = suffix if is_whole else f"_x{x0:0{digits}}_y{y0:0{digits}}{suffix}"
                    file_name = names.take(source.base, ending)
                    target = self.output / "images" / file_name
                    if copied:
                        copy_file(source.path, target)
                    else:
                        write_tile(target, reader.read((x0, y0, x1, y1)), settings.quality)
                    yield tile, file_name
                self.done += 1
                if self.progress is not None:
                    self.progress(self.done, self.total)


class _Source:
    """One image of the source, and the entries that its tiles get."""

    def __init__(self, index: CocoIndex, i: int, file_name: str, split: str, entries: SourceEntries) -> None:
        self._index, self._entries, self._file_name = index, entries, file_name
        self._id = int(index.image_ids[i])
        self._instances = index.instances(i)
        self.path = index.image_path(i)
        self.size_hw = index.size_hw(i)
        self.reading = index.reading
        self.base = f"{split}/{file_name.removesuffix(self.path.suffix)}"

    def image(self, file_name: str, x0: int, y0: int, x1: int, y1: int) -> dict[str, Any]:
        height, width = self.size_hw
        place = {"image_id": self._id, "file_name": self._file_name, "width": width, "height": height}
        entry = {"file_name": file_name, "width": x1 - x0, "height": y1 - y0}
        return entry | self._entries.images[self._id] | {"tile_of": place | {"x0": x0, "y0": y0}}

    def annotations(self, parts: Sequence[Part], slivers: Slivers) -> list[dict[str, Any]]:
        found = []
        for part in parts:
            if part.is_sliver and slivers == "drop":
                continue
            k = part.instance
            place = {"annotation_id": int(self._instances.annotation_ids[k]), "visible": round(part.visible, 4)}
            entry = {
                "category_id": self._index.category_ids[int(self._instances.labels[k]) - 1],
                "bbox": list(part.bbox_xywh),
                "area": part.area,
                "iscrowd": int(part.is_sliver or bool(self._instances.iscrowd[k])),
                "segmentation": part.rle,
            }
            place |= {"sliver": True} if part.is_sliver else {}
            found.append(entry | self._entries.annotations[self._id][k] | {"tile_of": place})
        return found


def _holds_instance(index: CocoIndex, i: int, parts: Sequence[Part]) -> bool:
    iscrowd = index.instances(i).iscrowd
    return any(not part.is_sliver and not iscrowd[part.instance] for part in parts)


def _chosen(empty: NDArray[np.bool_], name: str, settings: TileSettings, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which tiles are written, bool [T]."""
    if name in _MEASURED or settings.empty_tiles == "keep":
        return np.ones_like(empty)
    fraction = 0.0 if settings.empty_tiles == "drop" else float(settings.empty_tiles)
    return ~empty | (rng.random(empty.size) < fraction)


def _head(entries: SourceEntries, index: CocoIndex, settings: TileSettings) -> dict[str, Any]:
    keys = ("size", "overlap", "min_visible", "slivers", "empty_tiles", "seed")
    mark = {"source": index.annotations_path.name} | {key: getattr(settings, key) for key in keys}
    info = entries.head.get("info")
    return entries.head | {"info": (info if isinstance(info, dict) else {}) | {MARK: mark}}


def _suffix(path: Path, tile_format: TileFormat) -> str:
    if tile_format == "auto":
        return ".jpg" if path.suffix.lower() in (".jpg", ".jpeg") else ".png"
    return f".{tile_format}"

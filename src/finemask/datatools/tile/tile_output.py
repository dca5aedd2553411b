"""What ``data tile`` writes: pictures under free names, and a COCO file that grows while tiles are cut."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from finemask.coco.coco_file import load_coco
from finemask.errors import ConfigError, DataError
from finemask.ops.files.atomic_files import atomic_path, leaves_folder
from finemask.ops.files.documents import parse_json, read_bytes

MARK = "finemask_tiles"
"""Key under ``info`` of a file that was written here: it may be replaced by a later run."""

_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_PNG_LEVEL = 3  # of 9: half the time of the usual 6 for about a tenth more bytes
_OWN_IMAGE_KEYS = {"id", "file_name", "width", "height", "tile_of"}
_OWN_ANNOTATION_KEYS = {"id", "image_id", "category_id", "segmentation", "bbox", "area", "iscrowd", "tile_of"}
_COORDINATES = {"keypoints", "num_keypoints"}  # would be wrong in a tile
_WHAT = "a COCO annotation file"


@dataclass(frozen=True)
class SourceEntries:
    """What a COCO file holds besides outlines, so that licences and people's own keys survive tiling.

    Args:
        head: everything but the images and annotations.
        images: further keys of an image, by image id.
        annotations: further keys of the annotations of an image, by image id, in the order of the file.
    """

    head: dict[str, Any]
    images: dict[int, dict[str, Any]]
    annotations: dict[int, list[dict[str, Any]]]


def read_source_entries(path: Path) -> SourceEntries:
    """Reads a file that ``CocoIndex.read`` has accepted; outlines are let go while it is parsed.

    Raises:
        DataError: it cannot be read any more.
    """
    document = parse_json(read_bytes(path, _WHAT), path, _WHAT, object_hook=_without_outline)
    images = {int(entry["id"]): _others(entry, _OWN_IMAGE_KEYS) for entry in document.pop("images")}
    annotations: dict[int, list[dict[str, Any]]] = {}
    for entry in document.pop("annotations"):
        others = _others(entry, _OWN_ANNOTATION_KEYS | _COORDINATES)
        annotations.setdefault(int(entry["image_id"]), []).append(others)
    return SourceEntries(document, images, annotations)


def _without_outline(entry: dict[str, Any]) -> dict[str, Any]:
    entry.pop("segmentation", None)
    return entry


def _others(entry: dict[str, Any], known: set[str]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in known}


def split_names(annotations: Sequence[Path]) -> list[str]:
    """What the output of each annotation file is called: train, val or test where its name or its folder says so.

    ``instances_val2017.json`` and ``valid/_annotations.coco.json`` are both ``val``; other files keep their stem. A
    folder counts only if it is called nothing else: ``my_test_data/`` says nothing about a split.

    Raises:
        ConfigError: two files would get the same name.
    """
    folders = [_SPLITS.get(path.parent.name.lower().rstrip("0123456789")) for path in annotations]
    names = [_split_in(path.stem) or of or path.stem for path, of in zip(annotations, folders, strict=True)]
    if len(set(names)) < len(names):
        names = [path.stem for path in annotations]
    if len(set(names)) < len(names):
        raise ConfigError(
            f"two of the annotation files would be written as {names[0]}.json",
            where=", ".join(map(str, annotations)),
            remedy="Rename one: train.json, val.json and test.json are what finemask train looks for.",
        )
    return names


def _split_in(text: str) -> str | None:
    found = {_SPLITS[word] for word in re.findall(r"[a-z]+", text.lower()) if word in _SPLITS}
    return found.pop() if len(found) == 1 else None


def earlier_tiles(output: Path, name: str) -> set[str]:
    """File names that an earlier run listed in its annotation file; empty when there is none.

    Raises:
        DataError: there is an annotation file of something else, which would be lost.
    """
    path = output / "annotations" / f"{name}.json"
    if not path.exists():
        return set()
    document = load_coco(path)
    info = document.get("info")
    if not isinstance(info, dict) or MARK not in info:
        raise DataError(
            "there are annotations here already, and they would be overwritten",
            where=path,
            remedy="Choose another folder with output=",
        )
    names = {str(entry.get("file_name")) for entry in document["images"]}
    return {file for file in names if file.startswith(f"{name}/") and not leaves_folder(file)}


class FreeNames:
    """Gives every tile a name of its own, also on file systems that do not tell capitals from small letters."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, base: str, ending: str) -> str:
        """``base + ending``; with ``~2``, ``~3``, … between them if that is taken."""
        name, count = f"{base}{ending}", 1
        while name.casefold() in self._taken:
            count += 1
            name = f"{base}~{count}{ending}"
        self._taken.add(name.casefold())
        return name


def write_tile(path: Path, rgb: NDArray[np.uint8], quality: int) -> None:
    """Writes a tile, as JPEG when the name says so; a grey one with one channel, which is read back as the same RGB.

    Args:
        path: ``.png`` or ``.jpg``.
        rgb: uint8 [h, w, 3].
        quality: of a JPEG, 1..100; colour is not subsampled.
    """
    is_grey = bool((rgb[..., :1] == rgb[..., 1:]).all())
    image = Image.fromarray(np.ascontiguousarray(rgb[..., 0]) if is_grey else rgb)
    with atomic_path(path) as temporary:
        if path.suffix == ".jpg":
            image.save(temporary, quality=quality, subsampling=0)
        else:
            image.save(temporary, compress_level=_PNG_LEVEL)


class GrowingFile:
    """A COCO file to which entries are appended; only its images are kept in memory, as text. See ``growing_file``."""

    def __init__(self, file: IO[str], first_image_id: int, first_annotation_id: int) -> None:
        self._file = file
        self._comma = "\n"
        self.images: list[str] = []
        self.next_image_id, self.next_annotation_id = first_image_id, first_annotation_id

    def add(self, image: dict[str, Any], annotations: Sequence[dict[str, Any]]) -> None:
        """Appends an image and what is in it; ids are given here."""
        self.images.append(_dumps({"id": self.next_image_id, **image}))
        for annotation in annotations:
            ids = {"id": self.next_annotation_id, "image_id": self.next_image_id}
            self._file.write(self._comma + _dumps(ids | annotation))
            self._comma = ",\n"
            self.next_annotation_id += 1
        self.next_image_id += 1


@contextmanager
def growing_file(
    path: Path, head: dict[str, Any], first_image_id: int, first_annotation_id: int
) -> Iterator[GrowingFile]:
    """A ``GrowingFile`` that appears under its name when the block ends well.

    Args:
        path: the file; its folder is made.
        head: everything but ``images`` and ``annotations``.
        first_image_id: of the first image.
        first_annotation_id: of the first annotation.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(_dumps(head)[:-1] + (',"annotations":[' if head else '"annotations":['))
        growing = GrowingFile(file, first_image_id, first_annotation_id)
        yield growing
        file.write('\n],"images":[\n' + ",\n".join(growing.images) + "\n]}\n")


def _dumps(value: dict[str, Any]) -> str:
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    except ValueError as error:
        raise DataError(
            f"an entry of the source file holds a number that JSON does not know ({error})",
            remedy="finemask data check names it",
        ) from None

"""Splitting an annotation file into parts that share no group of images and have each class in proportion."""

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, hstack

from finemask.coco.coco_file import CocoDocument
from finemask.coco.image_names import leaves_folder
from finemask.coco.values import is_text, show, whole
from finemask.datatools.split.groups import Groups
from finemask.datatools.split.stratify import assign_parts
from finemask.errors import ConfigError, DataError

_NAMES = ("train", "val", "test")
_EIGHTHS = 8


@dataclass(frozen=True, slots=True)
class SplitSource:
    """An annotation file, as far as splitting looks at it.

    Args:
        path: the file.
        document: what it holds.
        file_names: of its n images.
        image_of: int64 [A], position of each annotation's image.
        class_of: int64 [A], position of each annotation's category; -1 for crowds.
        class_names: of its K categories.
    """

    path: Path
    document: CocoDocument
    file_names: list[str]
    image_of: NDArray[np.int64]
    class_of: NDArray[np.int64]
    class_names: list[str]

    @property
    def crowding(self) -> csr_array:
        """int64 [n, at most 8], 1 in the column of each image's eighth by number of instances; no column for 0."""
        counts = np.bincount(self.image_of[self.class_of >= 0], minlength=len(self.file_names))
        steps = np.quantile(counts[counts > 0], np.arange(1, _EIGHTHS) / _EIGHTHS) if counts.any() else np.zeros(0)
        rows = np.flatnonzero(counts)
        columns = np.searchsorted(steps, counts[rows])
        return csr_array((np.ones(len(rows), dtype=np.int64), (rows, columns)), shape=(len(counts), _EIGHTHS))

    @property
    def presence(self) -> csr_array:
        """int64 [n, K], 1 where an image has instances of a class."""
        rows, columns = self.image_of[self.class_of >= 0], self.class_of[self.class_of >= 0]
        shape = (len(self.file_names), len(self.class_names))
        counts = csr_array((np.ones(len(rows), dtype=np.int64), (rows, columns)), shape=shape)
        counts.sum_duplicates()
        counts.data[:] = 1
        return counts


def read_source(path: Path, document: CocoDocument) -> SplitSource:
    """Checks what splitting relies on: that ids are there, unique and refer to something.

    Args:
        path: where the document comes from, for messages.
        document: three lists of objects.

    Raises:
        DataError: they are not, or there is no image.
    """
    images = _positions(path, "images", document)
    categories = _positions(path, "categories", document)
    image_of, class_of = [], []
    for number, annotation in enumerate(document["annotations"], start=1):
        image = images.get(whole(annotation.get("image_id")))
        category = categories.get(whole(annotation.get("category_id")))
        if image is None or category is None:
            key = "image_id" if image is None else "category_id"
            raise _unsound(
                path, f"entry {number} of annotations has the {key} {show(annotation.get(key))}, which is none"
            )
        image_of.append(image)
        class_of.append(-1 if annotation.get("iscrowd") else category)
    for number, entry in enumerate(document["images"], start=1):
        if not is_text(entry.get("file_name")):
            raise _unsound(path, f"entry {number} of images has no file_name")
        if leaves_folder(entry["file_name"]):
            raise _unsound(path, f"file_name {show(entry['file_name'])} leads out of the images folder")
    if not images:
        raise DataError("there are no images to split", where=path)
    return SplitSource(
        path=path,
        document=document,
        file_names=[entry["file_name"].replace("\\", "/") for entry in document["images"]],
        image_of=np.array(image_of, dtype=np.int64),
        class_of=np.array(class_of, dtype=np.int64),
        class_names=[str(entry.get("name", entry["id"])) for entry in document["categories"]],
    )


def checked_fractions(fractions: Sequence[Any]) -> list[float]:
    """Shares of parts, adding up to 1.

    Raises:
        ConfigError: fewer than two, a share that is no number above 0, or another sum.
    """
    numbers = [value for value in fractions if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) != len(fractions) or len(numbers) < 2 or not all(0 < number < float("inf") for number in numbers):
        raise ConfigError(
            f"fractions is {list(fractions)}", remedy="Give a share above 0 for each part: [0.8,0.1,0.1]."
        )
    total = sum(numbers)
    if abs(total - 1) > 1e-3:
        meant = ",".join(f"{number / total:.3g}" for number in numbers)
        raise ConfigError(f"fractions add up to {total:g}, not to 1", remedy=f"Did you mean 'fractions=[{meant}]'?")
    return [number / total for number in numbers]


def part_names(count: int) -> list[str]:
    """Names of parts: ``train``, ``val``, ``test``, ``part4``, ``part5`` and so on."""
    return [_NAMES[k] if k < len(_NAMES) else f"part{k + 1}" for k in range(count)]


def split_images(
    source: SplitSource, groups: Groups, fractions: Sequence[float], *, stratify: bool = True, seed: int = 0
) -> NDArray[np.int64]:
    """The part of each image; images of one group are in one part.

    Args:
        source: what is split.
        groups: of its images.
        fractions: share of the images of each part, adding up to 1.
        stratify: give each part its share of the images of each class, and of fuller and emptier images.
        seed: another seed gives another split.

    Returns:
        int64 [n], 0 to ``len(fractions) - 1``.

    Raises:
        DataError: there are fewer groups than parts.
    """
    sizes = groups.sizes
    if len(sizes) < len(fractions):
        what = "images" if len(sizes) == len(source.file_names) else "groups of images"
        raise DataError(
            f"{len(fractions)} parts cannot be made of {len(sizes)} {what}",
            where=source.path,
            remedy="Ask for fewer parts, or group the images differently: group_by.",
        )
    n = len(source.file_names)
    labels = csr_array(hstack([source.presence, source.crowding])) if stratify else csr_array((n, 0), dtype=np.int64)
    joins = csr_array((np.ones(n, dtype=np.int64), (groups.of_image, np.arange(n))), shape=(len(sizes), n))
    return assign_parts(csr_array(joins @ labels), sizes, fractions, seed)[groups.of_image]


def part_document(source: SplitSource, chosen: NDArray[np.bool_]) -> CocoDocument:
    """The document with the chosen images, a mask [n], and their annotations; ids, order and all else stay."""
    document = source.document
    images = [entry for entry, keep in zip(document["images"], chosen.tolist(), strict=True) if keep]
    kept = chosen[source.image_of].tolist()
    annotations = [entry for entry, keep in zip(document["annotations"], kept, strict=True) if keep]
    return {**document, "images": images, "annotations": annotations}


def class_counts(source: SplitSource, part_of: NDArray[np.int64], parts: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Images that have each class, and its instances, part by part.

    Args:
        source: what is split.
        part_of: int64 [n].
        parts: their number P.

    Returns:
        Two int64 [P, K]. Crowds do not count.
    """
    presence, real = source.presence, source.class_of >= 0
    images = np.stack([np.asarray(presence[part_of == part].sum(axis=0)).reshape(-1) for part in range(parts)])
    instances = np.zeros_like(images)
    np.add.at(instances, (part_of[source.image_of[real]], source.class_of[real]), 1)
    return images, instances


def _positions(path: Path, name: str, document: CocoDocument) -> dict[int | None, int]:
    """Position of each id in a list of the document."""
    ids = [whole(entry.get("id")) for entry in document[name]]
    if None in ids:
        raise _unsound(path, f"entry {ids.index(None) + 1} of {name} has no id that is a whole number")
    repeated = [number for number, count in Counter(ids).items() if count > 1]
    if repeated:
        raise _unsound(path, f"the id {repeated[0]} is there twice in {name}")
    return {number: position for position, number in enumerate(ids)}


def _unsound(path: Path, what: str) -> DataError:
    checked = shlex.quote(f"annotations={path}")
    return DataError(what, where=path, remedy=f"finemask data check {checked} fix=FILE repairs what can be")

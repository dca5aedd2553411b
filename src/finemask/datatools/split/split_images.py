"""Splitting an annotation file into parts that share no group of images and have each class in proportion.

Iterative stratification (Sechidis, Tsoumakas and Vlahavas, 2011, "On the stratification of multi-label data"): the
class with the fewest images left is distributed first, while there is still a choice, each of its images to the part
that still wants most images of that class. Here whole groups are distributed, the largest first, and a part takes
none for which it has no room, so the sizes come out as asked for where groups allow it.
"""

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
from finemask.coco.entries import is_text, show, whole
from finemask.datatools.split.image_groups import Groups
from finemask.errors import ConfigError, DataError
from finemask.ops.files.atomic_files import leaves_folder

_NAMES = ("train", "val", "test")
_EIGHTHS = 8
_TIE = 1e-9  # images; less is rounding


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


def assign_parts(
    labels: csr_array, sizes: NDArray[np.int64], fractions: Sequence[float], seed: int
) -> NDArray[np.int64]:
    """The part of each group.

    Args:
        labels: [n, K], number of images of each of n groups that have each class.
        sizes: int64 [n], images of each group, at least 1.
        fractions: share of the images that each part should have, adding up to 1.
        seed: another seed gives another split.

    Returns:
        int64 [n], 0 to ``len(fractions) - 1``; no part is empty if there are as many groups as parts.
    """
    rng = np.random.default_rng(seed)
    by_size = rng.permutation(len(sizes))
    by_size = by_size[np.argsort(-sizes[by_size], kind="stable")]
    rank = np.empty(len(sizes), dtype=np.int64)
    rank[by_size] = np.arange(len(sizes))
    shares = _Shares(labels, sizes, np.asarray(fractions, dtype=np.float64), rng)
    columns = labels.tocsc()
    left = np.asarray(labels.sum(axis=0), dtype=np.float64).reshape(-1)
    while (left > _TIE).any():
        label = int(np.where(left > _TIE, left, np.inf).argmin())
        members = columns.indices[columns.indptr[label] : columns.indptr[label + 1]]
        members = members[shares.part_of[members] < 0]
        for group in members[np.argsort(rank[members])].tolist():
            classes, counts = shares.give(group, label)
            left[classes] -= counts
    for group in by_size[shares.part_of[by_size] < 0].tolist():
        shares.give(group, None)
    _fill_empty_parts(shares.part_of, sizes, len(fractions))
    return shares.part_of


class _Shares:
    """What each part still wants."""

    def __init__(
        self, labels: csr_array, sizes: NDArray[np.int64], fractions: NDArray[np.float64], rng: np.random.Generator
    ) -> None:
        self._labels, self._sizes, self._rng = labels, sizes, rng
        totals = np.asarray(labels.sum(axis=0), dtype=np.float64).reshape(-1)
        self._wanted_of_class = np.outer(fractions, totals)
        self._wanted = fractions * sizes.sum()
        self.part_of = np.full(len(sizes), -1, dtype=np.int64)

    def give(self, group: int, label: int | None) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Gives a group to the part that wants it most; returns its classes and the images that have each."""
        size = self._sizes[group]
        # With half of the group's images the part is as near to its share as without.
        candidates = np.flatnonzero(self._wanted >= size / 2 - _TIE)
        if not candidates.size:
            candidates = _greatest(self._wanted, np.arange(len(self._wanted)))
        if label is not None:
            candidates = _greatest(self._wanted_of_class[:, label], candidates)
        candidates = _greatest(self._wanted, candidates)
        part = int(candidates[0] if len(candidates) == 1 else self._rng.choice(candidates))
        row = slice(self._labels.indptr[group], self._labels.indptr[group + 1])
        classes, counts = self._labels.indices[row], self._labels.data[row]
        self._wanted_of_class[part, classes] -= counts
        self._wanted[part] -= size
        self.part_of[group] = part
        return classes, counts


def _greatest(values: NDArray[np.float64], candidates: NDArray[np.int64]) -> NDArray[np.int64]:
    chosen = values[candidates]
    greatest: NDArray[np.int64] = candidates[chosen >= chosen.max() - _TIE]
    return greatest


def _fill_empty_parts(part_of: NDArray[np.int64], sizes: NDArray[np.int64], parts: int) -> None:
    """Gives each empty part the smallest group of the part that has most groups."""
    if len(part_of) < parts:
        return
    for part in range(parts):
        counts = np.bincount(part_of, minlength=parts)
        if counts[part] == 0:
            donors = np.flatnonzero(part_of == counts.argmax())
            part_of[donors[np.argmin(sizes[donors])]] = part

"""A split dataset: its annotation files, one a part, ``split.json``, which says how they came about, and its tables."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from finemask.coco.coco_file import save_coco
from finemask.datatools.split.image_groups import Groups
from finemask.datatools.split.split_images import SplitSource, class_counts, part_document, split_images
from finemask.errors import DataError
from finemask.ops.files.atomic_files import earlier_files, write_json
from finemask.ops.terminal import table
from finemask.ops.wording import percent, plural, word

REPORT = "split.json"
_MARK = "finemask_split"
_MOST_CLASSES = 40
_OFF = 0.02  # difference from the share asked for that is worth a word, when a whole image could mend it


@dataclass(frozen=True, slots=True)
class Split:
    """A dataset divided into P parts.

    Args:
        source: what is split, n images of K classes.
        names: of the parts.
        fractions: shares asked for.
        groups: of the images.
        part_of: int64 [n], the part of each image.
        images: int64 [P, K], images that have each class.
        instances: int64 [P, K].
    """

    source: SplitSource
    names: Sequence[str]
    fractions: Sequence[float]
    groups: Groups
    part_of: NDArray[np.int64]
    images: NDArray[np.int64]
    instances: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        source: SplitSource,
        names: Sequence[str],
        fractions: Sequence[float],
        groups: Groups,
        *,
        stratify: bool,
        seed: int,
    ) -> "Split":
        """Divides a dataset; see ``split_images``."""
        part_of = split_images(source, groups, fractions, stratify=stratify, seed=seed)
        return cls(source, names, fractions, groups, part_of, *class_counts(source, part_of, len(names)))


def split_file_names(names: Sequence[str], folds: bool) -> list[str]:
    """The annotation files of parts, relative to the output; of folds a pair each, to train on and to validate on."""
    return (
        [f"{name}/{part}.json" for name in names for part in ("train", "val")]
        if folds
        else [f"{name}.json" for name in names]
    )


def check_output(output: Path, names: Iterable[str], source: Path) -> None:
    """Raises unless the files can be written without replacing anything but an earlier split.

    Args:
        output: the folder.
        names: relative paths of the files to come.
        source: the annotation file that is split.

    Raises:
        DataError: names what is in the way.
    """
    if output.exists() and not output.is_dir():
        raise DataError("this is a file, a folder is needed", where=output, remedy="Choose another output=")
    known = set(_earlier(output))
    for name in (*names, REPORT):
        path = output / name
        if path.exists() and path.resolve() == source.resolve():
            raise DataError(
                f"the split would replace the file that is split, {source}",
                where=output,
                remedy="Choose another output=, or rename the file first",
            )
        if path.exists() and name not in known:
            raise DataError(
                f"{path} is there already, and no earlier split wrote it", where=output, remedy="Choose another output="
            )


def write_split(output: Path, split: Split, folds: bool, facts: Mapping[str, Any]) -> list[Path]:
    """Writes the parts and the report; what an earlier split wrote there goes.

    Args:
        output: the folder.
        split: what is written.
        folds: whether the parts are folds: each file to train on has all but one of them.
        facts: what ``split.json`` says first.

    Returns:
        The annotation files.

    Raises:
        DataError: as ``check_output``.
    """
    files = split_file_names(split.names, folds)
    check_output(output, files, split.source.path)
    for name in _earlier(output):
        if name not in files:
            (output / name).unlink(missing_ok=True)
    for number, name in enumerate(files):
        chosen = split.part_of == (number // 2 if folds else number)
        if folds and number % 2 == 0:
            chosen = ~chosen
        save_coco(output / name, part_document(split.source, chosen))
    classes = {
        name: {
            part: {"images": int(split.images[p, k]), "instances": int(split.instances[p, k])}
            for p, part in enumerate(split.names)
        }
        for k, name in enumerate(split.source.class_names)
    }
    counted = {name: int((split.part_of == k).sum()) for k, name in enumerate(split.names)}
    groups = [[split.source.file_names[row] for row in rows] for rows in split.groups.members()]
    report = {_MARK: 1, "files": files, **facts, "parts": counted, "classes": classes, "groups": groups}
    write_json(output / REPORT, report)
    return [output / name for name in files]


def _earlier(output: Path) -> list[str]:
    """What an earlier split wrote here: the files that its report names, and the report."""
    names = earlier_files(output / REPORT, _MARK)
    return [] if names is None else [*(name for name in names if name.endswith(".json")), REPORT]


def parts_table(split: Split) -> Table:
    """One row a part: what was asked for, and what it got."""
    grouped = bool((split.groups.sizes > 1).any())
    total = max(1, int(split.instances.sum()))
    rows = []
    for k, (name, fraction) in enumerate(zip(split.names, split.fractions, strict=True)):
        chosen = split.part_of == k
        images, objects = int(chosen.sum()), int(split.instances[k].sum())
        groups = [len(np.unique(split.groups.of_image[chosen]))] * grouped
        of_images, of_objects = f"{images / len(split.part_of):.1%}", f"{objects / total:.1%}"
        rows.append((name, f"{fraction:.1%}", images, of_images, objects, of_objects, *groups))
    return table(["part", "asked", "images", "", "instances", ""] + ["groups"] * grouped, rows)


def classes_table(split: Split) -> Table:
    """One row a class: the images that have it and, in brackets, its instances, part by part."""
    images, instances, classes = split.images, split.instances, split.source.class_names
    present = np.flatnonzero(instances.sum(axis=0))
    rows, hidden = [], []
    order = present[np.argsort(-images.sum(axis=0)[present], kind="stable")]
    for k in order[:_MOST_CLASSES].tolist():
        counts = [(images[:, k].sum(), instances[:, k].sum()), *zip(images[:, k], instances[:, k], strict=True)]
        rows.append((classes[k], *(f"{a:,} ({b:,})" if b else None for a, b in counts)))
    if (rarer := len(order) - _MOST_CLASSES) > 0:
        hidden.append(f"{plural(rarer, 'rarer class is', 'rarer classes are')} in split.json")
    if unused := len(classes) - len(present):
        of_all = f"{unused:,} of {plural(len(classes), 'class', 'classes')}"
        hidden.append(f"{of_all} {word(unused, 'has', 'have')} no instance")
    return table(
        ("class", "all", *split.names),
        rows,
        title="images with the class (instances)",
        title_style="",
        caption="; ".join(hidden) or None,
        caption_justify="left",
    )


def remarks(split: Split) -> Iterator[str]:
    """What a reader of the tables may wonder about."""
    images, part_of, groups, names = split.images, split.part_of, split.groups, split.names
    yield from groups.notes
    largest = int(groups.sizes.max())
    if largest > 1:
        whole = f"{plural(len(groups.sizes), 'group')} of images, none of them in two parts"
        yield f"{whole}; the largest has {plural(largest, 'image')}."
    shares = np.bincount(part_of, minlength=len(names)) / len(part_of)
    off = [k for k, fraction in enumerate(split.fractions) if abs(shares[k] - fraction) > max(_OFF, 1 / len(part_of))]
    if off:
        parts = ", ".join(f"{names[k]} has {percent(shares[k])} instead of {percent(split.fractions[k])}" for k in off)
        why = "groups are not torn apart" if largest > 1 else "there are few images"
        yield f"{parts} of the images: {why}."
    for k, name in enumerate(names):
        absent = np.flatnonzero((images.sum(axis=0) > 0) & (images[k] == 0))
        if absent.size:
            shown = ", ".join(f"{split.source.class_names[c]} ({images[:, c].sum():,})" for c in absent[:6].tolist())
            shown += f" and {absent.size - 6:,} more" if absent.size > 6 else ""
            yield f"{name} lacks {absent.size:,} of the classes (in brackets: images that have them): {shown}."

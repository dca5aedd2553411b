"""What ``finemask data split`` prints about the parts it made."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.table import Table

from finemask.datatools.split.image_groups import Groups
from finemask.ops.wording import count, percent, plural, word

_MOST_CLASSES = 40
_OFF = 0.02  # difference from the share asked for that is worth a word, when a whole image could mend it


def parts_table(
    names: Sequence[str],
    fractions: Sequence[float],
    part_of: NDArray[np.int64],
    groups: Groups,
    instances: NDArray[np.int64],
) -> Table:
    """One row a part: what was asked for, and what it got.

    Args:
        names: of P parts.
        fractions: shares asked for.
        part_of: int64 [n], the part of each image.
        groups: of the images.
        instances: int64 [P, K].
    """
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("part")
    for heading in ("asked", "images", "", "instances", ""):
        table.add_column(heading, justify="right")
    grouped = bool((groups.sizes > 1).any())
    if grouped:
        table.add_column("groups", justify="right")
    total = max(1, int(instances.sum()))
    for k, (name, fraction) in enumerate(zip(names, fractions, strict=True)):
        chosen = part_of == k
        images, objects = int(chosen.sum()), int(instances[k].sum())
        row = [
            name,
            f"{fraction:.1%}",
            f"{images:,}",
            f"{images / len(part_of):.1%}",
            f"{objects:,}",
            f"{objects / total:.1%}",
        ]
        table.add_row(*row, *([f"{len(np.unique(groups.of_image[chosen])):,}"] if grouped else []))
    return table


def classes_table(
    classes: Sequence[str], names: Sequence[str], images: NDArray[np.int64], instances: NDArray[np.int64]
) -> Table:
    """One row a class: the images that have it and, in brackets, its instances, part by part.

    Args:
        classes: names of K classes.
        names: of P parts.
        images: int64 [P, K].
        instances: int64 [P, K].
    """
    present = np.flatnonzero(instances.sum(axis=0))
    table = Table(box=box.SIMPLE_HEAD, title="images with the class (instances)", title_justify="left", title_style="")
    table.add_column("class")
    for heading in ("all", *names):
        table.add_column(heading, justify="right")
    order = present[np.argsort(-images.sum(axis=0)[present], kind="stable")]
    for k in order[:_MOST_CLASSES].tolist():
        counts = [(images[:, k].sum(), instances[:, k].sum()), *zip(images[:, k], instances[:, k], strict=True)]
        table.add_row(classes[k], *(f"{a:,} ({b:,})" if b else "–" for a, b in counts))
    hidden = []
    if (rarer := len(order) - _MOST_CLASSES) > 0:
        hidden.append(f"{plural(rarer, 'rarer class is', 'rarer classes are')} in split.json")
    if unused := len(classes) - len(present):
        of_all = f"{count(unused)} of {plural(len(classes), 'class', 'classes')}"
        hidden.append(f"{of_all} {word(unused, 'has', 'have')} no instance")
    table.caption = "; ".join(hidden) or None
    table.caption_justify = "left"
    return table


def remarks(
    names: Sequence[str],
    fractions: Sequence[float],
    part_of: NDArray[np.int64],
    groups: Groups,
    classes: Sequence[str],
    images: NDArray[np.int64],
) -> Iterator[str]:
    """What a reader of the tables may wonder about."""
    yield from groups.notes
    largest = int(groups.sizes.max())
    if largest > 1:
        whole = f"{plural(len(groups.sizes), 'group')} of images, none of them in two parts"
        yield f"{whole}; the largest has {plural(largest, 'image')}."
    shares = np.bincount(part_of, minlength=len(names)) / len(part_of)
    off = [k for k, fraction in enumerate(fractions) if abs(shares[k] - fraction) > max(_OFF, 1 / len(part_of))]
    if off:
        parts = ", ".join(f"{names[k]} has {percent(shares[k])} instead of {percent(fractions[k])}" for k in off)
        why = "groups are not torn apart" if largest > 1 else "there are few images"
        yield f"{parts} of the images: {why}."
    for k, name in enumerate(names):
        absent = np.flatnonzero((images.sum(axis=0) > 0) & (images[k] == 0))
        if absent.size:
            shown = ", ".join(f"{classes[c]} ({images[:, c].sum():,})" for c in absent[:6].tolist())
            shown += f" and {count(absent.size - 6)} more" if absent.size > 6 else ""
            yield f"{name} lacks {count(absent.size)} of the classes (in brackets: images that have them): {shown}."

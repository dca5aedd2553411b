"""Rules on whether the data fit the training to come: its resolution, anchors and cap, and its classes."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from finemask.coco.entries import show
from finemask.datatools.check.document import AnnotationRow, Document, ImageRow
from finemask.datatools.check.problems import (
    CheckSettings,
    Dataset,
    Finding,
    about_annotation,
    about_image,
    each_document,
    warning_rule,
)
from finemask.ops.anchor_fit import COVERED_IOU, best_anchor_iou, coverage, fit_anchors, resized_boxes
from finemask.ops.wording import listed, names, plural, word

SMALLEST_PX = 2.0
"""Shorter side of an instance at training resolution below which it is hopeless."""

LEAST_COVERED = 0.8
"""Share of the objects that should have such an anchor."""

_SHOWN = 6
_MOST_BOXES = 200_000  # to judge anchors by; more would not change the share


def _objects(document: Document) -> list[AnnotationRow]:
    return [row for row in document.annotations if not row.iscrowd and row.box_xyxy is not None]


def _boxes_resized(
    rows: Sequence[AnnotationRow], settings: CheckSettings
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Boxes [n, 4], xyxy px of the resized images, and the sizes [n, 2] (height, width) of those images."""
    boxes = np.array([row.box_xyxy for row in rows], dtype=np.float64).reshape(-1, 4)
    stated_hw = np.array([(row.image.height, row.image.width) for row in rows], dtype=np.int64).reshape(-1, 2)
    _, size_hw = resized_boxes(boxes, stated_hw, settings.min_size, settings.max_size)
    return boxes * (size_hw / stated_hw)[:, [1, 0, 1, 0]], size_hw


def _too_small(dataset: Dataset) -> Iterator[Finding]:
    for document in dataset.documents:
        rows = _objects(document)
        boxes, _ = _boxes_resized(rows, dataset.settings)
        sides = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf)
        small = np.flatnonzero(sides < SMALLEST_PX)
        if small.size:
            least = int(sides.argmin())
            message = (
                f"{_of(small.size, len(rows), 'instance')} narrower than {SMALLEST_PX:g} px after resizing to "
                f"{_resolution(dataset.settings)}; this one is the narrowest, {sides[least]:.2g} px"
            )
            yield about_annotation(document, rows[least], message)


def _resolution(settings: CheckSettings) -> str:
    return f"{settings.min_size} px (longer side at most {settings.max_size})"


def _too_many(dataset: Dataset) -> Iterator[Finding]:
    cap = dataset.settings.detection_cap
    if cap is None:
        return  # training leaves room above the fullest image of all files
    for document in dataset.documents:
        counts = _instances_by_image(document)
        full = [(count, row) for row in document.images if (count := counts[row.id]) > cap]
        if full:
            most, fullest = max(full, key=lambda pair: pair[0])
            message = (
                f"{_of(len(full), len(document.images), 'image', 'has', 'have')} more than {cap} instances, "
                f"this one the most, {most:,}: set model.roi_heads.detections_per_img=auto, or at least {most}"
            )
            yield about_image(document, fullest, message)


def _instances_by_image(document: Document) -> Counter[int]:
    return Counter(row.image.id for row in document.annotations if not row.iscrowd)


def _anchors(dataset: Dataset) -> Iterator[Finding]:
    document, settings = dataset.documents[0], dataset.settings
    rows = _objects(document)
    rows = rows[:: len(rows) // _MOST_BOXES + 1]
    if not rows:
        return
    boxes, size_hw = _boxes_resized(rows, settings)

    def covered(sizes: Sequence[float], ratios: Sequence[float]) -> float:
        return coverage(best_anchor_iou(boxes, size_hw, sizes, ratios))

    share = covered(settings.anchor_sizes, settings.aspect_ratios)
    if share >= LEAST_COVERED:
        return
    message = (
        f"{share:.0%} of the instances have an anchor with an IoU of {COVERED_IOU:g} at {_resolution(settings)}, "
        f"with sizes {listed(settings.anchor_sizes)} and aspect ratios {listed(settings.aspect_ratios)}"
    )
    sizes, ratios = fit_anchors(boxes, size_hw, settings.anchor_sizes, settings.aspect_ratios)
    better = covered(sizes, ratios)
    if better > share + 0.01:
        words = [f"model.anchors.sizes={listed(sizes)}"] if tuple(sizes) != tuple(settings.anchor_sizes) else []
        if tuple(ratios) != tuple(settings.aspect_ratios):
            words.append(f"model.anchors.aspect_ratios={listed(ratios)}")
        message += f"; {' '.join(words)} covers {better:.0%}"
    yield Finding(message, document)


def _instances_by_class(document: Document) -> Counter[str]:
    """Instances of each class; empty when there are none, or when the categories are wrong, which others report."""
    broken = len(list(document.entries("categories"))) - len(document.categories)
    if broken or document.shifted_category_ids is not None:
        return Counter()
    classes = {row.id: row.name for row in document.categories}
    return Counter(
        classes[row.category_id] for row in document.annotations if row.category_id in classes and not row.iscrowd
    )


def _class_without_instances(dataset: Dataset) -> Iterator[Finding]:
    document = dataset.documents[0]
    counts = _instances_by_class(document)
    if not counts:
        return
    classes = list(dict.fromkeys(row.name for row in document.categories))
    unused = [name for name in classes if not counts[name]]
    if unused:
        message = f"{len(unused)} of {len(classes)} classes have no instance: {names(unused, _SHOWN)}"
        yield Finding(message, document)


def _class_in_one_file(dataset: Dataset) -> Iterator[Finding]:
    first, *others = dataset.documents
    trained = _instances_by_class(first)
    for document in others:
        here = _instances_by_class(document)
        if not trained or not here:
            continue
        unmeasured = [f"{name} ({count})" for name, count in trained.most_common() if not here[name]]
        unlearned = [f"{name} ({count})" for name, count in here.most_common() if not trained[name]]
        if unlearned:
            what = plural(len(unlearned), "class has instances", "classes have instances")
            yield Finding(f"{what} here and none in {first.path.name}: {names(unlearned, _SHOWN)}", document)
        if unmeasured:
            what = plural(len(unmeasured), "class has instances", "classes have instances")
            yield Finding(f"{what} in {first.path.name} and none here: {names(unmeasured, _SHOWN)}", document)


def _without_annotations(document: Document) -> Iterator[Finding]:
    bare: list[ImageRow] = [row for row in document.images if not document.annotations_of[row.id]]
    if not bare or not document.annotations:
        return
    first = names([show(row.file_name) for row in bare], _SHOWN)
    message = f"{_of(len(bare), len(document.images), 'image', 'has', 'have')} no annotation: {first}"
    yield about_image(document, bare[0], message) if len(bare) == 1 else Finding(message, document)


def _of(count: int, total: int, what: str, one: str = "is", several: str = "are") -> str:
    """``1 of 7 images is``, ``3 of 7 images are``."""
    return f"{count:,} of {plural(total, what)} {word(count, one, several)}"


RULES = (
    warning_rule(
        "instance-too-small",
        f"No instance is narrower than {SMALLEST_PX:g} px at training resolution.",
        "It cannot be found, and counts as missed. A larger model.min_size helps, or finemask data tile.",
        _too_small,
    ),
    warning_rule(
        "too-many-instances",
        "No image has more instances than detections are kept.",
        "What goes beyond the cap cannot be found, however good the model is.",
        _too_many,
    ),
    warning_rule(
        "anchors-miss-instances",
        f"At least {LEAST_COVERED:.0%} of the instances trained on have an anchor with an IoU of {COVERED_IOU:g}.",
        "Objects without an anchor near their size and shape are learned late and proposed badly.",
        _anchors,
    ),
    warning_rule(
        "class-without-instances",
        "Each class has an instance in the file that is trained on.",
        "The class takes part in training and can never be predicted.",
        _class_without_instances,
    ),
    warning_rule(
        "class-in-one-file",
        "Each class has instances in all files given, or in none.",
        "A class that is not trained on cannot be found; one without instances in validation is not measured.",
        _class_in_one_file,
    ),
    warning_rule(
        "image-without-annotations",
        "Each image has an annotation.",
        "It is trained on as background: right if it shows no object, wrong if nobody has annotated it yet.",
        each_document(_without_annotations),
    ),
)

"""Which training images an epoch shows and how often: held-out parts, images without objects, repeat factors."""

import hashlib
import re
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from finemask.coco.index import CocoIndex
from finemask.errors import ConfigError, DataError


def checked_part(text: object) -> tuple[int, int]:
    """``"2/3"`` as (2, 3): the second of three parts.

    Raises:
        ConfigError: it is no such thing.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", text) if isinstance(text, str) else None
    part, parts = (int(number) for number in found.groups()) if found else (0, 0)
    if not 1 <= part <= parts or parts < 2:
        raise ConfigError(
            f"data.held_out is {text!r}",
            remedy="Give a part of several: data.held_out=1/2 is the first half of the training images.",
        )
    return part, parts


def held_out(image_ids: Sequence[int] | NDArray[np.int64], part: str) -> NDArray[np.bool_]:
    """Which images belong to a part.

    Parts are of equal size up to one image, and depend on nothing but the ids: not on the order of the file, so that a
    file with other labels for the same images has the same parts.

    Args:
        image_ids: of the file, all different.
        part: such as ``"1/2"``.

    Returns:
        bool [n].

    Raises:
        ConfigError: ``part`` is no part.
    """
    number, parts = checked_part(part)
    digests = [hashlib.sha256(str(int(id_)).encode()).digest() for id_ in image_ids]
    order = sorted(range(len(digests)), key=digests.__getitem__)
    found = np.zeros(len(digests), dtype=np.bool_)
    found[order[number - 1 :: parts]] = True
    return found


EmptyImages: TypeAlias = Literal["keep", "drop"] | float


def image_weights(
    index: CocoIndex,
    empty_images: EmptyImages = "keep",
    repeat_threshold: float | None = None,
    shown: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """How often an epoch shows each image, on average over epochs.

    Args:
        index: the training split.
        empty_images: what to do with images without objects (crowds alone are none): ``keep`` or ``drop`` them, or
            the fraction of them that an epoch shows, other ones every time.
        repeat_threshold: repeats images of rare classes; see ``repeat_factors``. None: no image is repeated.
        shown: bool [n], the images that may be shown at all; None: all.

    Returns:
        float64 [n]. 1 is once an epoch, 0 never, 2.5 is twice or three times.

    Raises:
        ConfigError: a value out of range.
        DataError: no image is left to train on.
    """
    fraction = _fraction_of_empty(empty_images)
    weights = np.where(objects_per_image(index) > 0, 1.0, fraction)
    if shown is not None:
        weights *= shown
    if not weights.any():
        raise DataError(
            "no image in it has an object, and images without are left out",
            where=index.annotations_path,
            remedy="Set data.empty_images=keep, or use a file with annotations",
        )
    if repeat_threshold is not None:
        weights *= repeat_factors(index, repeat_threshold, float(weights.sum()))
    return weights


def objects_per_image(index: CocoIndex) -> NDArray[np.int64]:
    """Annotations of each image without its crowds, int64 [n]."""
    before = np.concatenate([[0], np.cumsum(~index.iscrowd)])
    return np.diff(before[index.first_annotation])


def repeat_factors(index: CocoIndex, threshold: float, num_images: float | None = None) -> NDArray[np.float64]:
    """Repeat factors of images, as Gupta et al. (2019) sample LVIS.

    A class that is in a fraction f of the images gets ``max(1, sqrt(threshold / f))``; an image gets the
    greatest of its classes', and 1 if it has none.

    Args:
        index: the training split.
        threshold: classes in a smaller fraction of the images are repeated; 0.001 for LVIS.
        num_images: what fractions are of; all images if None.

    Returns:
        float64 [n], at least 1.

    Raises:
        ConfigError: the threshold is not above 0 and at most 1.
    """
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 < threshold <= 1:
        raise ConfigError(
            f"{threshold!r} is no fraction of images",
            where="data.repeat_threshold",
            remedy="Set the one below which a class is rare, above 0 and at most 1, or null to repeat no image",
        )
    image_of = np.repeat(np.arange(len(index)), np.diff(index.first_annotation))[~index.iscrowd]
    labels = index.labels[~index.iscrowd]
    images_with = images_per_class(index)
    frequency = images_with / (num_images or max(1, len(index)))
    factor = np.sqrt(
        np.maximum(1.0, np.divide(threshold, frequency, where=images_with > 0, out=np.ones(len(frequency))))
    )
    factors = np.ones(len(index))
    np.maximum.at(factors, image_of, factor[labels - 1])
    return factors


def images_per_class(index: CocoIndex) -> NDArray[np.int64]:
    """In how many images each class has an object, int64 [K]; crowds do not count."""
    image_of = np.repeat(np.arange(len(index)), np.diff(index.first_annotation))
    num_classes = len(index.categories)
    pairs = np.unique((image_of * num_classes + index.labels - 1)[~index.iscrowd])
    return np.bincount(pairs % num_classes, minlength=num_classes)


def _fraction_of_empty(empty_images: EmptyImages) -> float:
    if isinstance(empty_images, str):
        fraction = {"keep": 1.0, "drop": 0.0}.get(empty_images, -1.0)
    else:
        fraction = -1.0 if isinstance(empty_images, bool) else empty_images
    if not 0 <= fraction <= 1:
        raise ConfigError(
            f"{empty_images!r} is none of its values",
            where="data.empty_images",
            remedy="Set keep, drop, or the fraction of the images without objects that an epoch shows, 0 to 1",
        )
    return float(fraction)

"""Instances as regions of Label Studio: brush masks in its own run lengths, polygons and boxes in percent."""

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finemask.inference.instances import Instances
from finemask.ops.contours import TOLERANCE_PX, mask_to_polygons
from finemask.ops.labelme import outline_with_holes
from finemask.ops.rle import rle_to_crop, rle_to_mask
from finemask.serving.labelling.labelling_config import DrawnLabel

_CHANNELS = 4  # of the picture that a brush draws: red, green, blue, alpha
_WORD_BITS = 8
_COUNT_BITS = (3, 4, 8, 16)  # of the four sizes that a count may have
_LONGEST = 1 << _COUNT_BITS[-1]


def regions_of(instances: Instances, labels: Mapping[str, DrawnLabel]) -> list[dict[str, Any]]:
    """The ``result`` of a prediction.

    Args:
        instances: of an image.
        labels: by name of the class; instances of other classes are left out.
    """
    return [
        region
        for number, name in enumerate(instances.class_names)
        if (label := labels.get(name)) is not None
        for region in _regions(instances, number, label)
    ]


def _regions(instances: Instances, number: int, label: DrawnLabel) -> Iterator[dict[str, Any]]:
    height, width = instances.image_size_hw
    values: list[dict[str, Any]]
    if label.kind == "brushlabels":
        mask = rle_to_mask(instances.rles[number]).astype(np.bool_)
        values = [{"format": "rle", "rle": list(brush_rle(mask))}]
    elif label.kind == "polygonlabels":
        to_percent = np.array([100 / width, 100 / height])
        parts = mask_to_polygons(*rle_to_crop(instances.rles[number]))
        values = [
            {
                "points": (np.array(outline_with_holes(part, 2 * TOLERANCE_PX)) * to_percent).tolist(),
                "closed": True,
            }
            for part in parts
        ]
    else:
        x0, y0, x1, y1 = (float(side) for side in instances.boxes[number])
        values = [
            {
                "x": 100 * x0 / width,
                "y": 100 * y0 / height,
                "width": 100 * (x1 - x0) / width,
                "height": 100 * (y1 - y0) / height,
                "rotation": 0,
            }
        ]
    for value in values:
        yield {
            "id": uuid.uuid4().hex[:10],
            "type": label.kind,
            "from_name": label.from_name,
            "to_name": label.to_name,
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": value | {label.kind: [label.label]},
            "score": round(float(instances.scores[number]), 6),
        }


def brush_rle(mask: NDArray[np.bool_]) -> bytes:
    """A mask as a brush of Label Studio stores it.

    It is a picture of four bytes a pixel, 255 on the mask and 0 elsewhere, packed bit by bit: 32 bits with the number
    of bytes; 5 with the bits of a byte, less one; four times 4 with the bits of a count, less one; then runs. A run is
    the bit 1, two bits that say which size its count has, the count less one, and the byte that is repeated.

    Args:
        mask: bool [H, W].
    """
    pixels = mask.ravel()
    edges = np.flatnonzero(np.diff(pixels)) + 1
    starts = np.concatenate([[0], edges]).astype(np.int64)
    lengths = np.diff(np.concatenate([starts, [pixels.size]])) * _CHANNELS
    bits = [f"{pixels.size * _CHANNELS:032b}", f"{_WORD_BITS - 1:05b}", *(f"{size - 1:04b}" for size in _COUNT_BITS)]
    for length, start in zip(lengths.tolist(), starts.tolist(), strict=True):
        word = "1" * _WORD_BITS if pixels[start] else "0" * _WORD_BITS
        while length > 0:
            count = min(length, _LONGEST) - 1
            which = next(place for place, size in enumerate(_COUNT_BITS) if count < 1 << size)
            bits.append(f"1{which:02b}{count:0{_COUNT_BITS[which]}b}{word}")
            length -= count + 1
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")

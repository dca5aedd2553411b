"""Boundary AP (Cheng et al. 2021, arXiv 2103.16562): how well the outlines fit, of large objects too.

IoU counts pixels, and most pixels of a large object are inside, where nothing can go wrong. Boundary IoU counts only
those within a few pixels of each mask's outline; the smaller of the two takes the place of IoU in COCO's rules.
"""

import math

import cv2
import numpy as np

from finemask.ops.rle import crop_to_rle, rle_to_crop
from finemask.types import Rle

_WIDTH = 0.02  # of the image's diagonal
_SQUARE = np.ones((3, 3), dtype=np.uint8)


def boundary_width(height: int, width: int) -> int:
    """How far into a mask its boundary reaches: 2 % of the image's diagonal, at least 1 px.

    Args:
        height: of the image, px.
        width: of the image, px.
    """
    return max(1, round(_WIDTH * math.hypot(height, width)))


def boundary_rle(rle: Rle) -> Rle:
    """The pixels of a mask that are within the boundary's width of its outline.

    The image's edge is part of the outline. Only the mask's own box is ever decoded.
    """
    height, width = rle["size"]
    crop, x0, y0 = rle_to_crop(rle)
    reach = boundary_width(height, width)
    if min(crop.shape) <= 2 * reach:
        return rle  # too thin to have an inside
    pixels = np.ascontiguousarray(crop, dtype=np.uint8)
    inner = cv2.erode(
        pixels,
        _SQUARE,
        iterations=reach,
        borderType=cv2.BORDER_CONSTANT,
        borderValue=(0,),  # a tight crop has nothing but zeros around it, whether there is image or not
    )
    return crop_to_rle((pixels != inner), x0, y0, height, width)

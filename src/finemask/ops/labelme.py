"""What LabelMe's files are made of: a document an image, a shape an outline; version 5 and later read them.

A polygon of LabelMe is one outline, filled by even and odd. Parts of one object are shapes that share a ``group_id``;
a hole hangs on the outline around it by a bridge, so that it can be seen and moved like any other point.
"""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from finemask.ops.contours import Polygon, bridge_rings

VERSION = "5.5.0"


def labelme_document(
    shapes: Sequence[dict[str, Any]], image_path: str, image_size_hw: tuple[int, int], image_data: bytes | None = None
) -> dict[str, Any]:
    """A file's content.

    Args:
        shapes: see ``labelme_shape``.
        image_path: the image, relative to the folder of the file, with forward slashes.
        image_size_hw: of the image as it is shown.
        image_data: the encoded image, where it is to travel inside the file.
    """
    height, width = image_size_hw
    return {
        "version": VERSION,
        "flags": {},
        "shapes": list(shapes),
        "imagePath": image_path,
        "imageData": None if image_data is None else base64.b64encode(image_data).decode("ascii"),
        "imageHeight": height,
        "imageWidth": width,
    }


def labelme_shape(
    label: str,
    points: Sequence[Sequence[float]],
    kind: str = "polygon",
    *,
    group: int | None = None,
    description: str = "",
    flags: dict[str, bool] | None = None,
) -> dict[str, Any]:
    """One shape.

    Args:
        label: name of the class.
        points: x and y each, px: a polygon's outline, or two opposite corners of a rectangle or a mask.
        kind: ``polygon``, ``rectangle`` or ``mask``.
        group: the same number for all parts of one object.
        description: a line of text, shown when the label is edited.
        flags: of the shape.
    """
    return {
        "label": label,
        "points": [list(point) for point in points],
        "group_id": group,
        "description": description,
        "shape_type": kind,
        "flags": flags or {},
    }


def outline_with_holes(polygon: Polygon, least_hole_px: float = 0.0) -> list[list[float]]:
    """One part of a mask as one outline, its holes joined to it by bridges.

    Args:
        polygon: the part.
        least_hole_px: holes that are not wider and higher than that are filled.
    """
    holes = [hole for hole in polygon.holes if (np.ptp(hole, axis=0) > least_hole_px).all()]
    points: list[list[float]] = bridge_rings([polygon.outer, *holes]).tolist()
    return points


def mask_shape(
    label: str, crop: NDArray[np.bool_], x0: int, y0: int, flags: dict[str, bool] | None = None
) -> dict[str, Any]:
    """A mask as a picture of its crop: exact, but nothing that can be mended point by point.

    Args:
        label: name of the class.
        crop: bool [h, w].
        x0: column of the crop in the image.
        y0: row of the crop in the image.
        flags: of the shape.
    """
    content = io.BytesIO()
    Image.fromarray(crop.astype(np.uint8) * 255).save(content, format="PNG")
    corners = [[x0, y0], [x0 + crop.shape[1] - 1, y0 + crop.shape[0] - 1]]  # LabelMe's are those of the last pixel
    picture = base64.b64encode(content.getvalue()).decode("ascii")
    return labelme_shape(label, corners, "mask", flags=flags) | {"mask": picture}

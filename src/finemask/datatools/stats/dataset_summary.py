"""Summary statistics of a dataset: the numbers of ``stats.json``."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from finemask.coco.index import CocoIndex
from finemask.datatools.stats.image_stats import OpenedImages
from finemask.datatools.stats.input_resolution import ModelSettings, Resolution
from finemask.datatools.stats.object_stats import GRID, Objects
from finemask.ops.anchor_fit import COVERED_IOU, best_anchor_iou, coverage, fit_anchors

SMALL, MEDIUM = 32**2, 96**2
"""Areas in px at which COCO's small and medium objects end."""

_PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)
_EXTREMES = 4


def summarise(
    index: CocoIndex, objects: Objects, opened: OpenedImages | None, settings: ModelSettings
) -> dict[str, Any]:
    """Summarises what was measured of a file.

    Args:
        index: the file.
        objects: measured on it.
        opened: measured on its images; None where they were not opened.
        settings: the model that training resolution and anchors are taken from.

    Returns:
        Plain values. ``None`` where there is nothing to measure.
    """
    resolution = Resolution(settings.min_size, settings.max_size)
    scale = resolution.scales(index.heights, index.widths)[objects.image]
    per_image = objects_per_image(index, objects)
    extent = objects.boxes[:, 2:] - objects.boxes[:, :2]
    iou = anchor_fit(index, objects, resolution, settings.anchor_sizes, settings.aspect_ratios)
    side = np.sqrt(objects.areas)
    return {
        "annotations": str(index.annotations_path),
        "fingerprint": index.fingerprint,
        "counts": {
            "images": len(index),
            "images_without_objects": int((per_image == 0).sum()),
            "objects": len(objects),
            "crowd_regions": objects.num_crowds,
            "annotations_without_pixels": objects.num_empty,
            "classes": len(index.categories),
            "classes_without_objects": len(index.categories) - len(np.unique(objects.labels)),
        },
        "image_size_px": {
            "width": spread(index.widths),
            "height": spread(index.heights),
            "aspect_ratio": spread(index.widths / index.heights),
            "distinct": len({*zip(index.widths.tolist(), index.heights.tolist(), strict=True)}),
        },
        "objects_per_image": spread(per_image),
        "classes": _classes(index, objects, side, scale),
        "object_size": {
            "what": "square root of the mask's area, px",
            "original_px": spread(side) | {"coco": _coco_sizes(objects.areas)},
            "training_px": spread(side * scale) | {"coco": _coco_sizes(objects.areas * scale**2)},
            "below_2_px_in_training": int((side * scale < 2).sum()),
        },
        "aspect_ratio": {"what": "width / height of the box"} | spread(extent[:, 0] / extent[:, 1]),
        "occlusion": _occlusion(objects),
        "position": {
            "what": f"share of the images with objects in which a place is covered, {GRID} rows from the top",
            "grid": np.round(objects.coverage, 4).tolist(),
        },
        "training": {
            "model": settings.name,
            "min_size": settings.min_size,
            "max_size": settings.max_size,
            "enlarged_by": spread(resolution.scales(index.heights, index.widths)),
            "anchor_sizes": list(settings.anchor_sizes),
            "aspect_ratios": list(settings.aspect_ratios),
            "best_anchor_iou": spread(iou),
            "anchor_covers_half": share(iou >= COVERED_IOU),
            "fitted": _fitted_anchors(index, objects, resolution, settings),
        },
        "images": None if opened is None else _images(index, opened),
    }


def objects_per_image(index: CocoIndex, objects: Objects) -> NDArray[np.int64]:
    """Objects of each image, int64 [number of images]."""
    return np.bincount(objects.image, minlength=len(index))


def anchor_fit(
    index: CocoIndex, objects: Objects, resolution: Resolution, sizes: Sequence[float], aspect_ratios: Sequence[float]
) -> NDArray[np.float64]:
    """Best IoU of each object with an anchor, under a resolution; in tiles as if none were cut."""
    boxes, size_hw = boxes_in_training(index, objects, resolution)
    return best_anchor_iou(boxes, size_hw, sizes, aspect_ratios)


def _fitted_anchors(
    index: CocoIndex, objects: Objects, resolution: Resolution, settings: ModelSettings
) -> dict[str, Any]:
    """What ``model.anchors=auto`` would take."""
    boxes, size_hw = boxes_in_training(index, objects, resolution)
    sizes, ratios = fit_anchors(boxes, size_hw, settings.anchor_sizes, settings.aspect_ratios)
    covered = coverage(best_anchor_iou(boxes, size_hw, sizes, ratios))
    return {
        "anchor_sizes": sizes,
        "aspect_ratios": ratios,
        "anchor_covers_half": round(covered, 4) if len(objects) else None,
    }


def boxes_in_training(
    index: CocoIndex, objects: Objects, resolution: Resolution
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Boxes as the model gets them, [n, 4] px, and the height and width of the image or tile around them, [n, 2]."""
    scale = resolution.scales(index.heights, index.widths)[objects.image]
    size_hw = resolution.sizes_hw(index.heights, index.widths)[objects.image]
    boxes = objects.boxes.astype(np.float64)
    if resolution.tile is not None:  # moved to a place that a tile has
        boxes = boxes - np.tile(boxes[:, :2] // resolution.tile * resolution.tile, 2)
    return boxes * scale[:, None], size_hw


def spread(values: ArrayLike) -> dict[str, float | None]:
    """Least, greatest, mean and percentiles; ``None`` each where there are no values."""
    array = np.asarray(values, dtype=np.float64)
    names = ["min", *(f"p{p}" for p in _PERCENTILES), "max", "mean"]
    if not array.size:
        return dict.fromkeys(names)
    numbers = [array.min(), *np.percentile(array, _PERCENTILES), array.max(), array.mean()]
    return {name: round(float(number), 4) for name, number in zip(names, numbers, strict=True)}


def share(mask: NDArray[np.bool_]) -> float | None:
    """Fraction that is true; ``None`` of nothing."""
    return round(float(mask.mean()), 4) if mask.size else None


def _coco_sizes(areas: NDArray[np.floating] | NDArray[np.int64]) -> dict[str, float | None]:
    return {
        "small": share(areas < SMALL),
        "medium": share((areas >= SMALL) & (areas < MEDIUM)),
        "large": share(areas >= MEDIUM),
    }


def _classes(
    index: CocoIndex, objects: Objects, side: NDArray[np.float64], scale: NDArray[np.float64]
) -> list[dict[str, Any]]:
    rows = []
    for label, category in enumerate(index.categories, start=1):
        own = objects.labels == label
        rows.append(
            {
                "name": category.name,
                "id": index.category_ids[label - 1],
                "objects": int(own.sum()),
                "images": len(np.unique(objects.image[own])),
                "median_original_px": round(float(np.median(side[own])), 2) if own.any() else None,
                "median_training_px": round(float(np.median((side * scale)[own])), 2) if own.any() else None,
            }
        )
    return rows


def _occlusion(objects: Objects) -> dict[str, Any]:
    return {
        "touch_another": share(objects.touches),
        "box_quarter_taken_by_others": share(objects.crowding >= 0.25),
        "in_several_pieces": share(objects.pieces > 1),
        "at_the_edge_of_the_image": share(objects.at_edge),
        "share_of_box_taken_by_others": spread(objects.crowding),
    }


def _values(opened: OpenedImages) -> dict[str, Any] | None:
    """The range of the values of more than 8 bits; None where no image has such."""
    wide = [image.values for image in opened.images if image.values is not None]
    if not wide:
        return None
    return {"images": len(wide), "min": min(low for low, _ in wide), "max": max(high for _, high in wide)}


def _images(index: CocoIndex, opened: OpenedImages) -> dict[str, Any]:
    bright = np.array([image.brightness for image in opened.images])
    sharp = np.array([image.sharpness for image in opened.images])
    file_names = index.file_names
    names = [file_names[image.row] for image in opened.images]

    def extremes(values: NDArray[np.float64], order: int) -> list[str]:
        return [names[k] for k in np.argsort(order * values, kind="stable")[:_EXTREMES]]

    return {
        "measured": len(opened.images),
        "unreadable": [{"file_name": name, "why": why} for name, why in opened.unreadable],
        "kinds": opened.kinds,
        "values": _values(opened),
        "file_size_bytes": spread([image.size_bytes for image in opened.images]),
        "brightness": {"what": "mean luminance, 0 to 255"} | spread(bright),
        "contrast": {"what": "standard deviation of the luminance"}
        | spread([image.contrast for image in opened.images]),
        "sharpness": {"what": "variance of the Laplacian of the luminance, longer side 512 px"} | spread(sharp),
        "darkest": extremes(bright, 1),
        "brightest": extremes(bright, -1),
        "least_sharp": extremes(sharp, 1),
    }

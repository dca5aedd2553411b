"""Boundary AP (Cheng et al. 2021, arXiv 2103.16562): how well the outlines fit, of large objects too.

IoU counts pixels, and most pixels of a large object are inside, where nothing can go wrong. Boundary IoU counts only
those within a few pixels of each mask's outline; the smaller of the two takes the place of IoU in COCO's rules.
"""

import math
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.cocoeval import COCOeval

from finemask.evaluation.ground_truth import GroundTruth, coco_object
from finemask.evaluation.pycocotools_backend import as_loaded, read_scores
from finemask.evaluation.quiet import quiet_pycocotools
from finemask.evaluation.result_table import ResultTable
from finemask.evaluation.scores import CocoScores, detection_caps
from finemask.ops.rle import crop_to_rle
from finemask.ops.rle_crop import rle_to_crop
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


def evaluate_boundaries(ground_truth: GroundTruth, results: ResultTable, max_detections: int) -> CocoScores:
    """COCOeval with the smaller of mask IoU and boundary IoU.

    Args:
        ground_truth: with masks.
        results: with masks; may be empty.
        max_detections: cap on the detections of one image and category.
    """
    found = [as_loaded(result, number) for number, result in enumerate(results, start=1)]
    run = _BoundaryEval(ground_truth.to_coco(), coco_object(ground_truth, found), "segm")
    run.params.maxDets = detection_caps(max_detections)
    with quiet_pycocotools():
        run.evaluate()
        run.accumulate()
    return read_scores(run, with_matches=False)


class _BoundaryEval(COCOeval):
    _gts: Any  # by image and category, like those of the detections
    _dts: Any

    def computeIoU(self, imgId: Any, catId: Any) -> Any:  # noqa: N802, N803 # the names are pycocotools'
        ious: Any = super().computeIoU(imgId, catId)
        if not len(ious):
            return ious
        truth, found = self._gts[imgId, catId], self._dts[imgId, catId]
        best = np.argsort([-detection["score"] for detection in found], kind="mergesort")[: self.params.maxDets[-1]]
        ours: Any = [boundary_rle(found[position]["segmentation"]) for position in best.tolist()]
        theirs: Any = [boundary_rle(annotation["segmentation"]) for annotation in truth]
        of_boundaries = coco_mask.iou(ours, theirs, [annotation["iscrowd"] for annotation in truth])
        return np.minimum(ious, of_boundaries)

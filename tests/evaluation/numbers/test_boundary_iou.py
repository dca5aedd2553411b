"""Boundary AP against dense masks, eroded by scipy at full size."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from evaluation_data import random_dataset, random_results
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy.ndimage import binary_erosion

from finemask.errors import ConfigError
from finemask.evaluation.evaluator import CocoEvaluator
from finemask.evaluation.ground_truth import ground_truth_from_dict
from finemask.evaluation.numbers.coco_numbers import COCO_KEYS
from finemask.evaluation.numbers.overlaps import boundary_rle, boundary_width
from finemask.evaluation.numbers.pycocotools_reference import ground_truth_as_predictions, quiet_pycocotools
from finemask.ops.rle import crop_to_rle, mask_to_rle, rle_to_mask


def dense_boundary(mask: np.ndarray) -> np.ndarray:
    """As the paper says: the mask less its erosion, in an image with a frame of zeros."""
    height, width = mask.shape
    reach = max(1, round(0.02 * (height**2 + width**2) ** 0.5))
    framed = np.pad(mask.astype(bool), 1)
    inner = binary_erosion(framed, structure=np.ones((3, 3)), iterations=reach)[1:-1, 1:-1]
    return mask.astype(bool) & ~inner


class DenseEval(COCOeval):
    """COCOeval on IoUs of dense masks, pair by pair."""

    def computeIoU(self, imgId: Any, catId: Any) -> Any:  # noqa: N802, N803
        truth, found = self._gts[imgId, catId], self._dts[imgId, catId]
        found = sorted(found, key=lambda detection: -detection["score"])[: self.params.maxDets[-1]]
        ious = np.zeros((len(found), len(truth)))
        for row, detection in enumerate(found):
            for column, annotation in enumerate(truth):
                masks = [rle_to_mask(entry["segmentation"]).astype(bool) for entry in (detection, annotation)]
                values = []
                for one, other in (masks, [dense_boundary(mask) for mask in masks]):
                    whole = one if annotation["iscrowd"] else one | other
                    values.append((one & other).sum() / whole.sum())
                ious[row, column] = min(values)
        return ious if ious.size else []


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**31))
def test_the_12_numbers_are_those_of_dense_masks(seed):
    dataset, truth = random_dataset(seed, images=3), COCO()
    results = random_results(dataset, seed + 1)
    if not results:
        return
    with quiet_pycocotools():
        truth.dataset = dataset
        truth.createIndex()
        reference = DenseEval(truth, truth.loadRes([dict(result) for result in results]), "segm")
        reference.evaluate()
        reference.accumulate()
        reference.summarize()
    evaluator = CocoEvaluator(
        ground_truth_from_dict(dataset), iou_types=["bbox", "segm", "boundary"], max_detections=100
    )
    evaluator.add_results(results)
    block = evaluator.compute()["boundary"]
    assert tuple(block) == COCO_KEYS
    expected = [None if value == -1 else pytest.approx(value, abs=1e-12) for value in reference.stats]
    assert list(block.values()) == expected


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 90), st.integers(1, 90))
def test_the_boundary_is_the_mask_less_its_erosion(seed, height, width):
    random = np.random.default_rng(seed)
    mask = np.zeros((height, width), dtype=bool)
    for _ in range(3):  # rectangles that often reach the image's edge, with holes
        (top, bottom), (left, right) = (np.sort(random.integers(0, side + 1, 2)) for side in (height, width))
        mask[top:bottom, left:right] = random.random() < 0.8
    assert np.array_equal(rle_to_mask(boundary_rle(mask_to_rle(mask))), dense_boundary(mask))


def two_squares(shift: int) -> tuple[Any, list[dict[str, Any]]]:
    def square(left: int) -> Any:
        return mask_to_rle(np.pad(np.ones((40, 40)), ((10, 50), (left, 60 - left))))

    truth = ground_truth_from_dict(
        {
            "images": [{"id": 1, "height": 100, "width": 100}],
            "categories": [{"id": 1, "name": "square"}],
            "annotations": [{"image_id": 1, "category_id": 1, "segmentation": square(10)}],
        }
    )
    return truth, [{"image_id": 1, "category_id": 1, "score": 1.0, "segmentation": square(10 + shift)}]


@pytest.mark.parametrize(
    ("shift", "levels"),
    [
        (0, 10),
        # 3 px wide rings of 444 px. Moved by 1 px, masks share 39/41, rings 2 * 3 * 39 + 2 * 34 * 2 = 370 of 518: 0.714
        (1, 5),
        (4, 0),  # masks share 36/44, rings 2 * 3 * 36 = 216 of 672: 0.321
    ],
)
def test_shifted_squares_by_hand(shift, levels):
    truth, results = two_squares(shift)
    evaluator = CocoEvaluator(truth, iou_types=["segm", "boundary"])
    evaluator.add_results(results)
    metrics = evaluator.compute()
    assert metrics["segm"]["AP50"] == pytest.approx(1)
    assert metrics["boundary"]["AP"] == pytest.approx(levels / 10)


def test_the_smaller_of_the_two_counts():
    """A frame as wide as the boundary has the very boundary of the whole square, and 444 of its 1600 px."""
    truth, (result,) = two_squares(0)
    frame = rle_to_mask(result["segmentation"])
    frame[13:47, 13:47] = 0
    result["segmentation"] = mask_to_rle(frame)
    assert boundary_rle(result["segmentation"]) == boundary_rle(truth.annotations[0]["segmentation"])
    evaluator = CocoEvaluator(truth, iou_types=["segm", "boundary"])
    evaluator.add_results([result])
    assert evaluator.compute()["boundary"]["AP50"] == 0


def test_the_width_is_2_percent_of_the_diagonal_and_at_least_a_pixel():
    assert [boundary_width(*size) for size in ((3, 4), (30, 40), (300, 400), (3000, 4000))] == [1, 1, 10, 100]


def test_memory_does_not_grow_with_the_image():
    rle = crop_to_rle(np.ones((600, 600), dtype=bool), 5_000, 5_000, 10_000, 10_000)
    tracemalloc.start()
    boundary = boundary_rle(rle)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6  # the image has 100 million pixels
    assert boundary != rle  # it does have an inside: 600 px are more than twice 283


def test_it_is_computed_when_asked_for_and_needs_masks(dataset):
    truth = ground_truth_from_dict(dataset)
    evaluator = CocoEvaluator(truth)
    assert "boundary" not in evaluator.compute()
    with_boundary = CocoEvaluator(truth, iou_types=["bbox", "segm", "boundary"])
    assert with_boundary.iou_types == ("bbox", "segm")
    with_boundary.add_results(ground_truth_as_predictions(truth))
    assert with_boundary.compute()["boundary"]["AP"] == pytest.approx(1)
    with_boundary.reset()
    assert with_boundary.compute()["boundary"]["AP"] == 0
    with pytest.raises(ConfigError, match="boundary beside segm"):
        CocoEvaluator(truth, iou_types=["bbox", "boundary"])

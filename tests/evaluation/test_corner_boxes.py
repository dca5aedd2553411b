"""Files whose boxes are corners are recognised; sound ones never are."""

import numpy as np
import pytest
from evaluation_data import random_dataset, random_results, tangled_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from finemask.errors import DataError
from finemask.evaluation.ground_truth import ground_truth_from_dict
from finemask.evaluation.results import check_results


def as_corners(results):
    return [
        entry | {"bbox": [x, y, x + width, y + height]} for entry in results for x, y, width, height in [entry["bbox"]]
    ]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), has_masks=st.booleans(), with_noise=st.booleans())
def test_sound_boxes_pass_and_corners_do_not(seed, has_masks, with_noise):
    dataset = random_dataset(seed, images=4)
    truth, results = ground_truth_from_dict(dataset), random_results(dataset, seed + 1)
    if with_noise:  # boxes of a detector: a few px off, and not clipped
        random = np.random.default_rng(seed)
        boxes = [np.maximum(entry["bbox"] + random.uniform(-1, 1, 4), [-9, -9, 0, 0]) for entry in results]
        results = [entry | {"bbox": box.tolist()} for entry, box in zip(results, boxes, strict=True)]
    if not has_masks:
        results = [{key: value for key, value in entry.items() if key != "segmentation"} for entry in results]
    iou_types = ("bbox", "segm") if has_masks else ("bbox",)
    assert len(check_results(results, truth, iou_types)) == len(results)
    if not with_noise and sum(entry["bbox"][0] > 20 < entry["bbox"][1] for entry in results) > len(results) / 2:
        with pytest.raises(DataError, match=r"results: the boxes are corners.*x, y, width, height"):
            check_results(as_corners(results), truth, iou_types)


@pytest.mark.parametrize("seed", range(5))
def test_boxes_that_have_nothing_to_do_with_their_masks_are_not_corners(seed):
    dataset, results = tangled_dataset(seed)
    assert len(check_results(results, ground_truth_from_dict(dataset), ("bbox", "segm"))) == len(results)


def test_a_detection_that_reaches_beyond_its_image_is_no_corner():
    truth = ground_truth_from_dict(
        {"images": [{"id": 1, "height": 100, "width": 100}], "categories": [{"id": 1, "name": "a"}], "annotations": []}
    )
    entry = {"image_id": 1, "category_id": 1, "score": 0.5}
    check_results([entry | {"bbox": [2, 2, 100, 100]}], truth, ("bbox",))
    check_results([entry | {"bbox": [0, 0, 100, 100]}], truth, ("bbox",))
    with pytest.raises(DataError, match=r"100% of them end outside their image"):
        check_results([entry | {"bbox": [40, 50, 90, 80]}], truth, ("bbox",))

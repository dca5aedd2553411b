"""Corners for boxes and mixed-up image ids are recognised; sound boxes and poor results are not taken for them."""

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


def scene(random, images, objects, side=(10, 40), size=200):
    """Square objects at random places of images of one size, and sound detections of most of them."""
    dataset = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    results = []
    for id_ in range(1, images + 1):
        dataset["images"].append({"id": id_, "file_name": f"{id_}.png", "height": size, "width": size})
        for _ in range(objects):
            width, height = random.uniform(*side, 2)
            box = [*random.uniform(0, size - max(side), 2).tolist(), float(width), float(height)]
            dataset["annotations"].append({"image_id": id_, "category_id": 1, "bbox": box})
            found = (np.array(box) + random.uniform(-0.03, 0.03, 4) * width).tolist()
            if random.random() < 0.8:
                score = float(random.random())
                results.append({"image_id": id_, "category_id": 1, "bbox": found, "score": score})
    return ground_truth_from_dict(dataset), results


def renumbered(results, ids):
    return [entry | {"image_id": ids[entry["image_id"]]} for entry in results]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), images=st.integers(6, 60), objects=st.integers(6, 30))
def test_ids_of_other_images_are_recognised_and_right_ones_are_not(seed, images, objects):
    random = np.random.default_rng(seed)
    truth, results = scene(random, images, objects)
    assert len(check_results(results, truth, ("bbox",))) == len(results)
    shift = random.integers(1, images)
    ids = {id_: int((id_ + shift - 1) % images) + 1 for id_ in range(1, images + 1)}
    with pytest.raises(DataError, match=r"mixed up: .* fit image .*\.png\). Results carry the image ids"):
        check_results(renumbered(results, ids), truth, ("bbox",))


def test_it_says_which_image_is_which():
    truth, results = scene(np.random.default_rng(0), 4, 6)
    with pytest.raises(DataError, match=r"4 of 4 images.*Those of image 1 \(1\.png\) fit image 4 \(4\.png\)"):
        check_results(renumbered(results, {4: 1, 1: 2, 2: 3, 3: 4}), truth, ("bbox",))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    images=st.integers(1, 300),
    objects=st.integers(1, 12),
    side=st.sampled_from([(10, 40), (20, 21), (60, 120), (150, 199)]),
    kind=st.sampled_from(["elsewhere", "one place", "one image"]),
)
def test_poor_results_are_only_poor(seed, images, objects, side, kind):
    """Detections at random places, the same everywhere, or those of one image for all of them."""
    random = np.random.default_rng(seed)
    truth, results = scene(random, images, objects, side)
    for entry in results:
        anywhere = [*random.uniform(0, 200 - max(side), 2), *random.uniform(*side, 2)]
        entry["bbox"] = anywhere if kind == "elsewhere" else [40.0, 40.0, 80.0, 80.0]
    if kind == "one image":
        found = scene(np.random.default_rng(seed), images, objects, side)[1]
        first = [entry for entry in found if entry["image_id"] == 1]
        results = [entry | {"image_id": id_} for id_ in range(1, images + 1) for entry in first]
    assert len(check_results(results, truth, ("bbox",))) == len(results)


def test_a_few_images_that_were_exchanged_are_not_enough_to_say_so():
    truth, results = scene(np.random.default_rng(0), 20, 6)
    ids = {id_: id_ for id_ in range(1, 21)} | {1: 2, 2: 1}
    assert len(check_results(renumbered(results, ids), truth, ("bbox",))) == len(results)

import json
import math
import threading

import numpy as np
import pytest
import torch
from evaluation_data import empty_detections, plain_coco_eval, random_dataset, random_results
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.models.detection.roi_heads import paste_masks_in_image

from finemask.errors import ConfigError, DataError
from finemask.evaluation.evaluator import CocoEvaluator
from finemask.evaluation.ground_truth import ground_truth_from_dict, load_ground_truth
from finemask.evaluation.numbers.coco_numbers import COCO_KEYS, detection_caps
from finemask.evaluation.numbers.pycocotools_reference import ground_truth_as_predictions, quiet_pycocotools
from finemask.evaluation.results import iou_types_of, read_results
from finemask.ops.rle import mask_to_rle, rle_to_mask
from finemask.types import Detections


def numbers(block):
    return [-1.0 if block[key] is None else block[key] for key in COCO_KEYS]


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_published_numbers_are_reproduced(shared_dir, iou_type):
    oracle = shared_dir / "oracle"
    expected = json.loads((oracle / "expected.json").read_text())
    evaluator = CocoEvaluator(
        load_ground_truth(oracle / "instances_val2014_100.json"), iou_types=[iou_type], max_detections=100
    )
    evaluator.add_results(read_results(oracle / f"instances_val2014_fake{iou_type}100_results.json"))
    metrics = evaluator.compute()
    assert numbers(metrics[iou_type]) == pytest.approx(expected["pycocotools_2_0_11"][iou_type], abs=1e-12)
    assert np.round(numbers(metrics[iou_type]), 3).tolist() == expected["official_3dp"][iou_type]
    assert (metrics["images"], metrics["ground_truths"], metrics["crowd_regions"]) == (100, 830, 9)
    assert len(metrics["per_class"]) == 80
    assert set(metrics["segm" if iou_type == "bbox" else "bbox"].values()) == {None}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.booleans(), st.sampled_from(["bbox", "segm"]))
def test_equals_plain_pycocotools_to_the_bit(seed, with_boxes, iou_type):
    dataset = random_dataset(seed)
    results = random_results(dataset, seed + 1, with_boxes)
    if not results:
        return
    evaluator = CocoEvaluator(ground_truth_from_dict(dataset), max_detections=100)
    evaluator.add_results(results)
    assert numbers(evaluator.compute()[iou_type]) == plain_coco_eval(dataset, results, iou_type)


def test_a_cap_above_100_counts_what_100_cut_off():
    # 130 objects in one image, all of them found
    dataset = {
        "images": [{"id": 1, "height": 50, "width": 1400}],
        "categories": [{"id": 1, "name": "dot"}],
        "annotations": [{"id": i + 1, "image_id": 1, "category_id": 1, "bbox": [10 * i, 5, 8, 8]} for i in range(130)],
    }
    truth = ground_truth_from_dict(dataset)
    evaluator = CocoEvaluator(truth, iou_types=["bbox"])
    evaluator.add_results(ground_truth_as_predictions(truth))
    metrics = evaluator.compute()
    assert metrics["max_detections"] == math.ceil(1.5 * 130)
    assert metrics["bbox"]["AP"] == pytest.approx(1)
    assert metrics["bbox"]["AR"] == metrics["bbox"]["ARs"] == 1
    assert [metrics["bbox"][f"AR{n}"] for n in (1, 10, 100)] == pytest.approx([1 / 130, 10 / 130, 100 / 130])
    capped = CocoEvaluator(truth, iou_types=["bbox"], max_detections=100)
    capped.add_results(ground_truth_as_predictions(truth))
    assert capped.compute()["bbox"]["AP"] == pytest.approx(77 / 101)  # recall levels 0, .01 … .76
    assert capped.compute()["operating_point"]["false_negatives"] == 30


def test_a_cap_below_100_bounds_every_number():
    dataset = random_dataset(0, images=1, categories=1, objects=40)
    truth = ground_truth_from_dict(dataset)
    objects = sum(not annotation["iscrowd"] for annotation in truth.annotations)
    assert objects > 5
    evaluator = CocoEvaluator(truth, max_detections=5)
    evaluator.add_results(ground_truth_as_predictions(truth))
    block = evaluator.compute()["segm"]
    assert "AR" not in block
    assert block["AR10"] == block["AR100"] == pytest.approx(5 / objects)
    assert block["AR1"] == pytest.approx(1 / objects)


@pytest.mark.parametrize(
    ("cap", "caps"), [(1, [1]), (7, [1, 7]), (10, [1, 10]), (100, [1, 10, 100]), (250, [1, 10, 100, 250])]
)
def test_caps(cap, caps):
    assert detection_caps(cap) == caps


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31))
def test_other_caps_agree_with_the_tables_of_pycocotools(seed):
    dataset = random_dataset(seed, images=3, objects=12)
    results = random_results(dataset, seed)
    if not results:
        return
    with quiet_pycocotools():
        truth = COCO()
        truth.dataset = dataset
        truth.createIndex()
        reference = COCOeval(truth, truth.loadRes([dict(result) for result in results]), "segm")
        reference.params.maxDets = [1, 2, 3]
        reference.evaluate()
        reference.accumulate()
    evaluator = CocoEvaluator(ground_truth_from_dict(dataset), iou_types=["segm"], max_detections=3)
    evaluator.add_results(results)
    block = evaluator.compute()["segm"]
    precision = reference.eval["precision"][..., 0, 2]
    expected = precision[precision > -1].mean() if (precision > -1).any() else None
    assert block["AP"] == (None if expected is None else pytest.approx(expected))


def test_no_detections_score_zero_and_empty_categories_are_null(dataset):
    evaluator = CocoEvaluator(ground_truth_from_dict(dataset))
    metrics = evaluator.compute()
    assert metrics["segm"]["AP"] == metrics["bbox"]["AR100"] == 0
    assert metrics["segm"]["APl"] is None  # no large object
    assert metrics["operating_point"] == {
        "iou": 0.5,
        "iou_type": "segm",
        "threshold": None,
        "precision": None,
        "recall": 0,
        "f1": 0,
        "true_positives": 0,
        "false_positives": 0,
        "false_negatives": 4,
    }
    assert metrics["detections"] == 0


def test_no_ground_truth_is_null_throughout(dataset):
    result = {"image_id": 5, "category_id": 3, "bbox": [1, 1, 5, 5], "score": 0.5}
    dataset["annotations"] = []
    evaluator = CocoEvaluator(ground_truth_from_dict(dataset), iou_types=["bbox"])
    evaluator.add_results([result])
    metrics = evaluator.compute()
    assert set(metrics["bbox"].values()) == {None}
    assert metrics["operating_point"]["recall"] is None
    assert metrics["per_class"]["nut"]["bbox_AP"] is None


def test_the_metrics_have_the_promised_shape(dataset):
    truth = ground_truth_from_dict(dataset)
    evaluator = CocoEvaluator(truth)
    evaluator.add_results(ground_truth_as_predictions(truth))
    metrics = evaluator.compute()
    assert tuple(metrics["bbox"]) == tuple(metrics["segm"]) == COCO_KEYS
    assert list(metrics["per_class"]) == ["nut", "<fig> & co"]
    assert metrics["per_class"]["<fig> & co"] == {
        "bbox_AP": pytest.approx(1),
        "segm_AP": pytest.approx(1),
        "threshold": 1,
        "precision": 1,
        "recall": 1,
        "f1": 1,
        "ground_truths": 3,
        "detections": 3,
    }
    counts = {key: metrics[key] for key in ("images", "ground_truths", "detections", "max_detections")}
    assert counts == {"images": 3, "ground_truths": 4, "detections": 4, "max_detections": 100}
    assert metrics["backend"] == "fast"


def test_a_fixed_threshold_keeps_that_score_and_more(dataset):
    truth = ground_truth_from_dict(dataset)
    results = ground_truth_as_predictions(truth)
    for result, score in zip(results, (0.9, 0.5, 0.5, 0.2), strict=True):
        result["score"] = score
    evaluator = CocoEvaluator(truth, threshold=0.5)
    evaluator.add_results(results)
    metrics = evaluator.compute()
    point = metrics["operating_point"]
    assert (point["threshold"], point["true_positives"], point["false_negatives"]) == (0.5, 3, 1)
    assert metrics["per_class"]["nut"]["threshold"] == 0.5
    assert metrics["per_class"]["<fig> & co"]["recall"] == pytest.approx(2 / 3)


def test_a_detection_on_a_crowd_region_is_neither_right_nor_wrong(dataset):
    truth = ground_truth_from_dict(dataset)
    crowd = truth.annotations[-1]
    inside = np.zeros((100, 100), dtype=bool)
    inside[65:80, 65:80] = True
    result = {"image_id": 7, "category_id": 3, "segmentation": mask_to_rle(inside), "score": 0.99}
    evaluator = CocoEvaluator(truth, iou_types=["segm"])
    evaluator.add_results([*ground_truth_as_predictions(truth), result])
    point = evaluator.compute()["operating_point"]
    assert crowd["iscrowd"]
    assert (point["true_positives"], point["false_positives"], point["false_negatives"]) == (4, 0, 0)


def detections(size_hw, boxes, labels, scores, side=28):
    return Detections(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.int64),
        scores=torch.tensor(scores, dtype=torch.float32),
        mask_probs=torch.rand(len(boxes), side, side, generator=torch.Generator().manual_seed(0)),
        image_size_hw=size_hw,
    )


def test_detections_become_results_of_the_file(dataset):
    evaluator = CocoEvaluator(ground_truth_from_dict(dataset), category_ids=[3, 90])
    found = detections((64, 80), [[2, 3, 12, 13], [30, 30, 50.5, 50]], [2, 1], [0.75, 0.5])
    evaluator.add(5, found)
    first, second = evaluator.results
    assert (first["image_id"], first["category_id"], first["score"]) == (5, 90, 0.75)
    assert first["bbox"] == [2, 3, 10, 10]
    assert second["category_id"] == 3
    pasted = paste_masks_in_image(found["mask_probs"][:, None], found["boxes"], (64, 80))[:, 0] > 0.5
    assert np.array_equal(rle_to_mask(second["segmentation"]), pasted[1].numpy())


def test_boxes_alone_encode_no_masks(dataset):
    evaluator = CocoEvaluator(ground_truth_from_dict(dataset), iou_types=["bbox"])
    evaluator.add(5, detections((64, 80), [[2, 3, 12, 13]], [1], [0.75]))
    assert evaluator.results[0].keys() == {"image_id", "category_id", "bbox", "score"}


def test_a_category_that_the_file_lacks_is_dropped(dataset):
    evaluator = CocoEvaluator(ground_truth_from_dict(dataset), category_ids=[3, -1, 90])
    evaluator.add(5, detections((64, 80), [[2, 3, 12, 13]] * 2, [2, 3], [0.75, 0.5]))
    assert [result["category_id"] for result in evaluator.results] == [90]


def test_images_with_nothing_found_and_resetting(dataset):
    evaluator = CocoEvaluator(ground_truth_from_dict(dataset))
    evaluator.add(9, empty_detections((32, 32)))
    with pytest.raises(ValueError, match="image 9 was added before"):
        evaluator.add(9, empty_detections((32, 32)))
    evaluator.reset()
    evaluator.add(9, empty_detections((32, 32)))
    assert evaluator.results == []


def test_numbers_are_computed_once_and_again_when_something_was_added(dataset):
    evaluator = CocoEvaluator(ground_truth_from_dict(dataset), iou_types=["bbox"])
    before = evaluator.evaluate()
    assert evaluator.evaluate() is before
    evaluator.add(5, detections((64, 80), [[2, 3, 12, 13]], [1], [0.75]))
    after = evaluator.evaluate()
    assert (before.metrics["detections"], after.metrics["detections"]) == (0, 1)
    evaluator.add_results(evaluator.results)
    assert evaluator.evaluate().metrics["detections"] == 2
    evaluator.reset()
    assert evaluator.evaluate().metrics == before.metrics


def test_foreign_detections_are_refused(dataset):
    evaluator = CocoEvaluator(ground_truth_from_dict(dataset, "truth.json"))
    with pytest.raises(DataError, match=r"truth.json: image id 6 is not in the ground truth"):
        evaluator.add(6, empty_detections((64, 80)))
    with pytest.raises(DataError, match=r"image 5 \(a.png\) is 64 × 80 px .* but 80 × 64"):
        evaluator.add(5, empty_detections((80, 64)))
    with pytest.raises(ValueError, match=r"labels 0..0"):
        evaluator.add(5, detections((64, 80), [[2, 3, 12, 13]], [0], [0.75]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"iou_types": []}, "iou_types"),
        ({"iou_types": ["boxes"]}, "boxes"),
        ({"iou_types": "bbox"}, "iou_types"),
        ({"max_detections": 0}, "max_detections is 0"),
        ({"max_detections": "all"}, "max_detections is 'all'"),
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"threshold": "best"}, "threshold is 'best'"),
        ({"backend": "quick"}, "no backend 'quick'.*Choose from: fast, pycocotools"),
    ],
)
def test_settings_are_checked(dataset, arguments, message):
    with pytest.raises(ConfigError, match=message):
        CocoEvaluator(ground_truth_from_dict(dataset), **arguments)


RESULT = {"image_id": 5, "category_id": 3, "bbox": [1, 1, 5, 5], "score": 0.5}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 6}, r"entry 1 \(image 6\): image_id 6 is not in the ground truth"),
        ({"category_id": 4}, "category_id 4 is not in the ground truth"),
        ({"score": math.nan}, "score is nan"),
        ({"score": "0.5"}, "score is '0.5'"),
        ({"score": None}, "score is None"),
        ({"bbox": [1, 1, 5]}, "bbox is .*not four"),
        ({"bbox": None}, "neither a bbox nor a segmentation"),
        ({"segmentation": {"size": [80, 64], "counts": [5120]}}, r"size \[80, 64\], its image \[64, 80\]"),
    ],
)
def test_results_are_checked(dataset, change, message):
    evaluator = CocoEvaluator(ground_truth_from_dict(dataset), iou_types=["bbox"])
    with pytest.raises(DataError, match=message):
        evaluator.add_results([RESULT, RESULT | change], source="results.json")
    assert evaluator.results == []


def test_masks_that_are_asked_for_must_be_there(dataset):
    evaluator = CocoEvaluator(ground_truth_from_dict(dataset))
    with pytest.raises(DataError, match=r"entry 0.*no segmentation.*iou_types=\[bbox\]"):
        evaluator.add_results([RESULT])
    with pytest.raises(DataError, match="a detection is an object, not a list"):
        evaluator.add_results([[5, 3]])


def test_what_can_be_evaluated_follows_from_the_files(dataset):
    truth = ground_truth_from_dict(dataset)
    assert iou_types_of([RESULT], truth) == ("bbox",)
    assert iou_types_of([], truth) == ("bbox", "segm")
    assert iou_types_of(ground_truth_as_predictions(truth), truth) == ("bbox", "segm")
    for annotation in dataset["annotations"]:
        annotation |= {"segmentation": None, "bbox": [1, 1, 2, 2]}
    assert iou_types_of([], ground_truth_from_dict(dataset)) == ("bbox",)


def test_files_that_are_no_results(write, dataset):
    with pytest.raises(DataError, match="this is a COCO annotation file"):
        read_results(write("results.json", dataset))
    with pytest.raises(DataError, match="holds a dict; a COCO results file is a list"):
        read_results(write("results.json", {"a": 1}))


def test_results_are_left_as_they_were_given(dataset):
    given_results = [dict(RESULT)]
    evaluator = CocoEvaluator(ground_truth_from_dict(dataset), iou_types=["bbox"])
    evaluator.add_results(given_results)
    first = evaluator.compute()
    assert given_results == [RESULT]
    assert evaluator.results == [RESULT]
    assert evaluator.compute() == first  # nor does evaluating change what is evaluated


def test_silence_leaves_other_threads_their_voice(dataset, capsys):
    with quiet_pycocotools():
        speaker = threading.Thread(target=print, args=("still here",))
        speaker.start()
        speaker.join()
        COCO().createIndex()
    CocoEvaluator(ground_truth_from_dict(dataset)).compute()
    assert capsys.readouterr().out == "still here\n"
    COCO().createIndex()
    assert "index created" in capsys.readouterr().out

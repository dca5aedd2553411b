import pytest
from evaluation_data import random_dataset

from finemask.evaluation.evaluator import CocoEvaluator
from finemask.evaluation.ground_truth import ground_truth_from_dict, load_ground_truth
from finemask.evaluation.numbers.coco_numbers import COCO_KEYS
from finemask.evaluation.numbers.pycocotools_reference import ground_truth_as_predictions

PERFECT = [key for key in COCO_KEYS if key not in ("AR1", "AR10", "AR100")]  # those are capped, and say so


def assert_perfect(ground_truth):
    evaluator = CocoEvaluator(ground_truth)
    evaluator.add_results(ground_truth_as_predictions(ground_truth))
    metrics = evaluator.compute()
    for iou_type in ("bbox", "segm"):
        assert metrics[iou_type]["AP"] == pytest.approx(1, abs=1e-12)
        for key in PERFECT:
            assert metrics[iou_type][key] in (None, pytest.approx(1, abs=1e-12)), (iou_type, key)
    point = metrics["operating_point"]
    assert (point["false_positives"], point["false_negatives"]) == (0, 0)
    assert point["true_positives"] == metrics["ground_truths"] == metrics["detections"]


@pytest.mark.parametrize(
    "annotations",
    [
        "nuclei/annotations/val_small.json",
        "fruits_nuts/annotations/train.json",
        "fruits_nuts/annotations/val.json",
        "fruits_nuts/annotations/test.json",
        "coco_ccby33/annotations/train.json",
        "coco_ccby33/annotations/val.json",
        "coco_ccby33/annotations/test.json",
    ],
)
def test_real_ground_truth_scores_one(shared_dir, annotations):
    assert_perfect(load_ground_truth(shared_dir / "datasets" / annotations))


@pytest.mark.slow
@pytest.mark.parametrize("annotations", ["val.json", "rle/val.json"])
def test_hundreds_of_nuclei_score_one(shared_dir, annotations):
    assert_perfect(load_ground_truth(shared_dir / "datasets/nuclei/annotations" / annotations))


@pytest.mark.parametrize("seed", range(8))
def test_every_size_and_orientation_scores_one(seed):
    assert_perfect(ground_truth_from_dict(random_dataset(seed, images=5, objects=10)))


def test_crowd_regions_alone_leave_nothing_to_measure(dataset):
    for annotation in dataset["annotations"]:
        annotation["iscrowd"] = 1
    truth = ground_truth_from_dict(dataset)
    assert ground_truth_as_predictions(truth) == []
    metrics = CocoEvaluator(truth).compute()
    assert set(metrics["segm"].values()) == {None}
    assert (metrics["ground_truths"], metrics["crowd_regions"]) == (0, 5)


def test_one_lost_object_shows(dataset):
    truth = ground_truth_from_dict(dataset)
    evaluator = CocoEvaluator(truth)
    evaluator.add_results(ground_truth_as_predictions(truth)[:-1])
    assert evaluator.compute()["segm"]["AP"] < 1

"""The standard error of an AP over the choice of images, beside a bootstrap that shares no code with it."""

import copy

import numpy as np
import pytest
from evaluation_data import random_dataset, random_results

from finemask.evaluation.evaluator import CocoEvaluator
from finemask.evaluation.ground_truth import ground_truth_from_dict
from finemask.evaluation.numbers.pycocotools_reference import ground_truth_as_predictions
from finemask.evaluation.uncertainty.resampling import jackknife_error


def many_images(copies=6):
    """Images of several random datasets under ids of their own, and detections on them."""
    whole, found = None, []
    for seed in range(copies):
        dataset = random_dataset(seed)
        results = random_results(dataset, seed)
        step = 1000 * seed
        for image in dataset["images"]:
            image["id"] += step
        for entry in (*dataset["annotations"], *results):
            entry["image_id"] += step
        for annotation in dataset["annotations"]:
            annotation["id"] = annotation.get("id", 0) + 10_000 * (seed + 1)
        found += results
        if whole is None:
            whole = dataset
        else:
            whole["images"] += dataset["images"]
            whole["annotations"] += dataset["annotations"]
    return whole, found


def bootstrap_error(dataset, results, rounds=15):
    """Images drawn with replacement, each draw under a new id, evaluated as any file."""
    rng = np.random.default_rng(0)
    values = []
    for _ in range(rounds):
        drawn = rng.choice([image["id"] for image in dataset["images"]], len(dataset["images"]))
        images, annotations, found = [], [], []
        by_id = {image["id"]: image for image in dataset["images"]}
        for new, old in enumerate(drawn.tolist(), start=1):
            images.append({**by_id[old], "id": new})
            annotations += [{**a, "image_id": new} for a in dataset["annotations"] if a["image_id"] == old]
            found += [{**r, "image_id": new} for r in results if r["image_id"] == old]
        annotations = [{**a, "id": k} for k, a in enumerate(annotations, start=1)]
        truth = ground_truth_from_dict({**dataset, "images": images, "annotations": annotations})
        evaluator = CocoEvaluator(truth, iou_types=("bbox",), backend="pycocotools")
        evaluator.add_results(found)
        values.append(evaluator.compute()["bbox"]["AP"])
    return float(np.std(values))


def test_it_is_about_that_of_a_bootstrap():
    dataset, results = many_images()
    truth = ground_truth_from_dict(copy.deepcopy(dataset))
    error = jackknife_error(truth, results, "bbox", "AP", 100)
    assert 0.5 < error / bootstrap_error(dataset, results) < 2, "either is an estimate from a few images"
    assert error == jackknife_error(truth, results, "bbox", "AP", 100), "nothing in it is left to chance"


def test_what_is_perfect_everywhere_has_no_error():
    truth = ground_truth_from_dict(random_dataset(1))
    assert jackknife_error(truth, ground_truth_as_predictions(truth), "bbox", "AP50", 100) == pytest.approx(0, abs=1e-9)


def test_of_one_image_nothing_can_be_said():
    dataset = random_dataset(1)
    dataset["images"] = dataset["images"][:1]
    dataset["annotations"] = [a for a in dataset["annotations"] if a["image_id"] == dataset["images"][0]["id"]]
    assert jackknife_error(ground_truth_from_dict(dataset), [], "bbox", "AP", 100) is None

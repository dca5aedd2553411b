from dataclasses import replace

import numpy as np
import pytest
from evaluation_data import random_dataset, random_results

from finemask.cli import main
from finemask.errors import FinemaskError
from finemask.evaluation import evaluator as evaluator_module
from finemask.evaluation.evaluator import CocoEvaluator
from finemask.evaluation.ground_truth import ground_truth_from_dict
from finemask.evaluation.numbers import pycocotools_reference
from finemask.evaluation.numbers.coco_numbers import fast_scores

SEED = 3


def spoiled(change):
    """The fast backend with something changed in what it returns."""

    def evaluate(*arguments):
        return {iou_type: change(scores) for iou_type, scores in fast_scores(*arguments).items()}

    return evaluate


def higher(name):
    return lambda scores: replace(scores, **{name: getattr(scores, name) + 1e-6})


def forgotten(scores):
    if scores.matches is None:
        return scores
    return replace(scores, matches=replace(scores.matches, is_true=np.zeros_like(scores.matches.is_true)))


def exchanged(scores):
    if scores.matches is None:
        return scores
    return replace(scores, matches=replace(scores.matches, object=scores.matches.object[::-1]))


CHANGES = {"precision": higher("precision"), "recall": higher("recall"), "is_true": forgotten, "object": exchanged}


@pytest.fixture
def evaluator():
    dataset = random_dataset(SEED, images=20)
    evaluator = CocoEvaluator(ground_truth_from_dict(dataset, "truth.json"))
    evaluator.add_results(random_results(dataset, SEED))
    return evaluator


@pytest.mark.parametrize("what", CHANGES)
def test_a_backend_that_differs_is_refused(evaluator, monkeypatch, what):
    monkeypatch.setitem(evaluator_module.BACKENDS, "fast", spoiled(CHANGES[what]))
    for _ in range(2):  # asked again, it refuses again
        with pytest.raises(FinemaskError, match=rf"truth.json: .*disagrees.*{what}.*backend=pycocotools"):
            evaluator.compute()


def test_a_backend_that_loses_ground_truth_as_predictions_is_refused(evaluator, monkeypatch):
    """Right on the results, wrong on a perfect detector's: the sample of results alone would not show it."""

    def evaluate(truth, results, *arguments):
        scores = fast_scores(truth, results, *arguments)
        perfect = bool(len(results)) and set(results.score.tolist()) == {1.0}
        return {kind: higher("recall")(s) for kind, s in scores.items()} if perfect else scores

    monkeypatch.setitem(evaluator_module.BACKENDS, "fast", evaluate)
    with pytest.raises(FinemaskError, match="ground truth as predictions"):
        evaluator.compute()


def test_the_reference_remains_and_is_not_checked(monkeypatch):
    monkeypatch.setattr(evaluator_module, "cross_check", lambda *_: pytest.fail("checked against itself"))
    dataset = random_dataset(SEED)
    assert CocoEvaluator(ground_truth_from_dict(dataset), backend="pycocotools").compute()["backend"] == "pycocotools"


def test_it_is_checked_once(evaluator, monkeypatch):
    calls = []
    monkeypatch.setattr(evaluator_module, "cross_check", lambda *arguments: calls.append(arguments))
    evaluator.compute()
    evaluator.reset()
    evaluator.compute()
    assert len(calls) == 1


def test_nothing_found_leaves_the_check_to_come(monkeypatch):
    calls = []
    monkeypatch.setattr(evaluator_module, "cross_check", lambda *arguments: calls.append(arguments))
    dataset = random_dataset(SEED)
    evaluator = CocoEvaluator(ground_truth_from_dict(dataset))
    evaluator.compute()
    evaluator.add_results(random_results(dataset, SEED))
    evaluator.compute()
    assert len(calls) == 2


def test_the_sample_is_the_same_every_time_and_bounded(evaluator):
    first, again = (pycocotools_reference._sample(evaluator.ground_truth, evaluator._results) for _ in range(2))
    assert list(first[0].images) == list(again[0].images)
    assert list(first[1]) == list(again[1])
    assert len(first[0].images) == pycocotools_reference._MOST_IMAGES
    assert {result["image_id"] for result in first[1]} <= set(first[0].images)
    assert {a["image_id"] for a in first[0].annotations} <= set(first[0].images)


def test_the_sample_has_every_kind_of_category():
    dataset = random_dataset(SEED, categories=40, objects=6, images=20)
    truth = ground_truth_from_dict(dataset)
    results = CocoEvaluator(truth)
    results.add_results(random_results(dataset, SEED))
    sampled, found = pycocotools_reference._sample(truth, results._results)
    ids = [category.id for category in sampled.categories]
    assert len(ids) == pycocotools_reference._MOST_CATEGORIES
    assert {a["category_id"] for a in sampled.annotations} <= set(ids)
    assert {result["category_id"] for result in found} <= set(ids)
    assert ids == [category.id for category in truth.categories if category.id in ids]


def test_an_image_fuller_than_the_bound_is_still_checked(evaluator, monkeypatch):
    monkeypatch.setattr(pycocotools_reference, "_MOST_ENTRIES", 0)
    truth, _ = pycocotools_reference._sample(evaluator.ground_truth, evaluator._results)
    assert len(truth.images) == 1


def test_of_a_mosaic_the_left_part_is_checked(monkeypatch):
    dataset = random_dataset(SEED, categories=2, objects=40, images=1)
    evaluator = CocoEvaluator(ground_truth_from_dict(dataset))
    evaluator.add_results(random_results(dataset, SEED))
    monkeypatch.setattr(pycocotools_reference, "_MOST_ENTRIES", 0)
    truth, results = pycocotools_reference._sample(evaluator.ground_truth, evaluator._results)
    most = (len(truth.annotations) + len(results)) // 2
    monkeypatch.setattr(pycocotools_reference, "_MOST_OF_AN_IMAGE", most)
    left_truth, left_results = pycocotools_reference._sample(evaluator.ground_truth, evaluator._results)
    assert len(left_truth.annotations) + len(left_results) == most
    assert len(left_truth.annotations)
    assert len(left_results)
    kept = [entry["bbox"][0] for entry in [*left_truth.annotations, *left_results]]
    everything = [entry["bbox"][0] for entry in [*truth.annotations, *results]]
    assert sorted(kept) == sorted(everything)[:most]


def test_the_command_line_exits_with_2(write, tmp_path, monkeypatch, capsys):
    dataset = random_dataset(SEED)
    truth = write("truth.json", dataset)
    results = write("results.json", random_results(dataset, SEED))
    monkeypatch.setitem(evaluator_module.BACKENDS, "fast", spoiled(CHANGES["precision"]))
    words = ["evaluate", f"predictions={results}", f"annotations={truth}", f"output={tmp_path}/out"]
    assert main(words) == 2
    assert "backend=pycocotools" in capsys.readouterr().err
    assert not (tmp_path / "out/metrics.json").exists()
    assert main([*words, "backend=pycocotools"]) == 0

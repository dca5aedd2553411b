"""Thresholds to work at and calibration: by hand, and every resample against the plain choice."""

import numpy as np
import pytest
from evaluation_data import random_dataset, random_results
from rich.console import Console

from finemask.errors import ConfigError
from finemask.evaluation.analysis.operating_points import build_curve, calibration, operating_points
from finemask.evaluation.evaluator import CocoEvaluator
from finemask.evaluation.ground_truth import ground_truth_from_dict
from finemask.evaluation.uncertainty.confidence_intervals import ScoredMatches
from finemask.model_header import ModelHeader
from finemask.reports.evaluation_report import WrittenEvaluation, write_evaluation
from finemask.training.save_model import model_thresholds
from finemask.types import Category, Preprocessing
from finemask.verbs.evaluate import show


def points_of(scored, positives):
    return operating_points(build_curve(*(np.array(column) for column in zip(*scored, strict=True)), positives))


def test_targets_by_hand():
    # nine right ones, one false, one right, then two false and the last right one: 11 right of 14, 12 objects
    right = [True] * 9 + [False, True, False, False, True]
    scored = [(1 - 0.05 * place, is_true) for place, is_true in enumerate(right)]
    points = points_of(scored, 12)
    # precision is 1 for nine, 9/10 at the tenth, 10/11 at the eleventh (0.5), then 10/12 and less
    precise = points["precision_90"]
    assert (precise.threshold, precise.true_positives, precise.false_positives) == (pytest.approx(0.5), 10, 1)
    # 0.9 of 12 is 10.8: only all eleven reach it
    full = points["recall_90"]
    assert (full.threshold, full.true_positives, full.false_negatives) == (pytest.approx(0.35), 11, 1)
    best = points["best_f1"]
    assert (best.threshold, best.f1) == (pytest.approx(0.5), 20 / 23)


def test_of_thresholds_that_find_as_much_the_highest():
    scored = [(0.9 - 0.01 * place, True) for place in range(19)] + [(0.5, False), (0.4, False)]
    assert points_of(scored, 19)["precision_90"].threshold == pytest.approx(0.72)  # 19 of 20 and 19 of 21 find no more
    assert points_of(scored, 19)["recall_90"].threshold == pytest.approx(0.73)  # 18 of 19 are 0.947, 17 are 0.895


def test_a_target_out_of_reach_has_no_threshold():
    points = points_of([(0.9, False), (0.8, True), (0.7, False)], 4)
    assert points["precision_90"].threshold is None
    assert points["recall_90"].threshold is None
    assert points["best_f1"].threshold == 0.8


def test_every_resample_chooses_as_the_curve_does():
    random = np.random.default_rng(0)
    images, number = 9, 60
    score = np.round(random.random(number), 1)  # many ties
    is_true = random.random(number) < score
    image = random.integers(0, images, number)
    objects = np.bincount(image[is_true], minlength=images) + random.integers(0, 2, images)
    weights = random.multinomial(images, np.full(images, 1 / images), 40).T.astype(float)
    weights[:, 0] = 1
    scored = ScoredMatches(score, is_true, image, objects)
    chosen = scored.resampled_thresholds(weights)
    for column in range(40):
        copies = np.repeat(np.arange(number), weights[image, column].astype(int))
        positives = int(objects @ weights[:, column])
        curve = build_curve(score[copies], is_true[copies], positives)
        for name, point in operating_points(curve).items():
            assert chosen[name][column] == pytest.approx(point.threshold or np.nan, nan_ok=True), (name, column)
        rates = scored.resampled_rates(0.5, weights)
        point = curve.at(0.5)
        assert rates["precision"][column] == pytest.approx(point.precision)
        assert rates["recall"][column] == pytest.approx(point.recall)
        assert rates["f1"][column] == pytest.approx(point.f1)


def test_calibration_by_hand():
    score = np.array([0.95, 0.91, 0.9, 0.55, 0.1, 1.0])
    found = calibration(score, np.array([True, True, False, True, False, True]))
    rows = {row["from"]: row for row in found["bins"]}
    assert len(rows) == 10
    assert (rows[0.9]["detections"], rows[0.9]["precision"]) == (4, 0.75)  # 1.0 belongs to the last
    assert rows[0.9]["mean_score"] == pytest.approx(0.94)
    assert (rows[0.1]["detections"], rows[0.1]["precision"]) == (1, 0)  # a bin begins with its edge
    assert (rows[0.0]["detections"], rows[0.0]["mean_score"], rows[0.0]["precision"]) == (0, None, None)
    # four detections are off by |0.94 - 0.75|, one by |0.55 - 1|, one by |0.1 - 0|
    assert found["error"] == pytest.approx((4 * 0.19 + 0.45 + 0.1) / 6)


def test_scores_that_are_no_fractions_are_not_calibrated():
    assert calibration(np.array([3.0]), np.array([True]))["error"] is None
    assert calibration(np.zeros(0), np.zeros(0, dtype=bool))["error"] is None


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    def write(**options):
        evaluator = CocoEvaluator(ground_truth_from_dict(dataset), **options)
        evaluator.add_results(results)
        return write_evaluation(tmp_path_factory.mktemp("out"), evaluator).metrics

    dataset = random_dataset(1, images=20)
    results = random_results(dataset, 2)
    return write


@pytest.mark.parametrize("iou", [0.5, 0.75, 0.3])
def test_what_is_written_agrees_with_itself(written, iou):
    metrics = written(operating_iou=iou)
    assert metrics["operating_point"]["iou"] == metrics["calibration"]["iou"] == iou
    best, point = metrics["thresholds"]["best_f1"], metrics["operating_point"]
    assert [best[key] for key in ("threshold", "precision", "recall", "f1")] == [
        point[key] for key in ("threshold", "precision", "recall", "f1")
    ]
    for name, row in metrics["per_class"].items():
        assert metrics["thresholds"]["per_class"][name]["best_f1"]["threshold"] == row["threshold"]
    intervals = metrics["confidence_interval"]
    assert (intervals["level"], intervals["resamples"]) == (0.95, 1000)
    for kind in ("bbox", "segm"):
        assert {key for key, ends in intervals[kind].items() if ends is None} <= {"APl"}  # in a handful of images
        for key, ends in intervals[kind].items():
            assert ends is None or ends[0] < metrics[kind][key] < ends[1]
        for name, ends in intervals["per_class"].items():
            assert ends[f"{kind}_AP"][0] < metrics["per_class"][name][f"{kind}_AP"] < ends[f"{kind}_AP"][1]
    for rate in ("precision", "recall", "f1"):
        assert intervals["operating_point"][rate][0] < point[rate] < intervals["operating_point"][rate][1]
        assert best[f"{rate}_interval"] == intervals["operating_point"][rate]
    assert best["interval"][0] <= best["threshold"] <= best["interval"][1]
    assert metrics["calibration"]["error"] > 0


def test_the_model_file_gets_all_three_points(written):
    metrics = written(iou_types=["segm"])
    thresholds = metrics["thresholds"]
    thresholds["precision_90"]["threshold"] = 0.8  # as if all classes together had reached it
    thresholds["per_class"]["class 1"]["precision_90"]["threshold"] = 0.7
    header = ModelHeader(
        model={},
        categories=[Category(number, name) for number, name in enumerate(metrics["per_class"])],
        preprocessing=Preprocessing((320,), 640, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)),
        thresholds=model_thresholds(metrics),
    )
    best = {name: row["threshold"] for name, row in metrics["per_class"].items()}
    assert header.thresholds_at("best_f1") == best == {name: header.threshold_of(name) for name in best}
    assert header.thresholds_at("precision_90") == {"class 0": 0.8, "class 1": 0.7, "class 2": 0.8}
    assert header.thresholds_at("recall_90") is None


def test_the_console_names_the_targets_that_are_reached(written, capsys):
    metrics = written()
    chosen = {"threshold": 0.712, "precision": 0.905, "recall": 0.61}
    metrics["thresholds"] |= {"precision_90": chosen, "recall_90": {"threshold": None}}
    show(Console(width=100), WrittenEvaluation(metrics, []))
    shown = capsys.readouterr().out
    assert "precision 0.905 from score 0.712 (then recall 0.610)" in shown
    assert "recall 0." not in shown.split("(then recall 0.610)")[1]
    low, high = metrics["confidence_interval"]["segm"]["AP"]
    assert f"{metrics['segm']['AP']:.3f} ({low:.2f} to {high:.2f})" in shown


def test_a_looser_iou_finds_no_less():
    dataset = random_dataset(1, images=12)
    found = []
    for iou in (0.3, 0.5, 0.9):
        evaluator = CocoEvaluator(
            ground_truth_from_dict(dataset), threshold=0.2, backend="pycocotools", operating_iou=iou
        )
        evaluator.add_results(random_results(dataset, 2))
        found.append(evaluator.compute()["operating_point"]["true_positives"])
    assert found == sorted(found, reverse=True)
    assert found[0] > found[2]


@pytest.mark.parametrize("iou", [0, 1.2, "half", True])
def test_an_overlap_that_is_none_is_refused(iou):
    with pytest.raises(ConfigError, match="operating_iou is"):
        CocoEvaluator(ground_truth_from_dict(random_dataset(1)), operating_iou=iou)

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finemask.evaluation.analysis.operating_points import build_curve
from finemask.evaluation.evaluator import CocoEvaluator
from finemask.evaluation.ground_truth import ground_truth_from_dict


def curve_of(scored, positives):
    scores = np.array([score for score, _ in scored], dtype=float)
    return build_curve(scores, np.array([bool(right) for _, right in scored], dtype=bool), positives)


def test_a_curve_by_hand():
    # sorted: .9 right, .8 wrong, .8 right, .6 right, .3 wrong; four objects
    curve = curve_of([(0.8, 0), (0.3, 0), (0.9, 1), (0.6, 1), (0.8, 1)], positives=4)
    assert curve.thresholds.tolist() == [0.9, 0.8, 0.6, 0.3]
    assert curve.true_positives.tolist() == [1, 2, 3, 3]
    assert curve.false_positives.tolist() == [0, 1, 1, 2]
    assert curve.precision.tolist() == [1, 2 / 3, 3 / 4, 3 / 5]
    assert curve.recall.tolist() == [1 / 4, 2 / 4, 3 / 4, 3 / 4]
    assert curve.f1.tolist() == [2 / 5, 4 / 7, 6 / 8, 6 / 9]
    best = curve.best()
    assert (best.threshold, best.f1, best.precision, best.recall) == (0.6, 0.75, 0.75, 0.75)
    assert (best.true_positives, best.false_positives, best.false_negatives) == (3, 1, 1)


def test_of_equal_f1_the_highest_threshold_wins():
    # F1 is 2/3 at .9 (1 of 1 right, 1 of 2 found) and again at .2 (2 of 4 right, 2 of 2 found)
    curve = curve_of([(0.9, 1), (0.5, 0), (0.4, 0), (0.2, 1)], positives=2)
    assert curve.f1[0] == curve.f1[-1] == 2 / 3
    assert curve.best().threshold == 0.9


@pytest.mark.parametrize(
    ("threshold", "counts"),
    [(1.0, (0, 0)), (0.9, (1, 0)), (0.85, (1, 0)), (0.8, (1, 1)), (0.5, (1, 1)), (0.0, (2, 1))],
)
def test_a_fixed_threshold_keeps_equal_scores(threshold, counts):
    curve = curve_of([(0.9, 1), (0.8, 0), (0.4, 1)], positives=3)
    point = curve.at(threshold)
    assert point.threshold == threshold
    assert (point.true_positives, point.false_positives) == counts
    assert point.true_positives + point.false_negatives == 3


def test_nothing_found_or_nothing_to_find():
    nothing_found = curve_of([], positives=3).best()
    assert (nothing_found.threshold, nothing_found.precision, nothing_found.recall) == (None, None, 0)
    assert nothing_found.f1 == 0
    only_wrong = curve_of([(0.9, 0)], positives=3).best()
    assert (only_wrong.threshold, only_wrong.false_positives, only_wrong.f1) == (None, 0, 0)
    no_objects = curve_of([(0.9, 0)], positives=0)
    assert no_objects.best().f1 is None
    assert (no_objects.at(0.5).precision, no_objects.at(0.5).recall, no_objects.at(0.5).f1) == (0, None, 0)


SCORED = st.lists(st.tuples(st.integers(0, 20).map(lambda n: n / 20), st.booleans()), max_size=40)


@given(SCORED, st.integers(0, 10))
def test_agrees_with_counting_one_by_one(scored, missed):
    positives = sum(right for _, right in scored) + missed
    curve = curve_of(scored, positives)

    def f1_at(threshold):
        kept = [right for score, right in scored if score >= threshold]
        return 2 * sum(kept) / (len(kept) + positives) if kept else 0

    best = curve.best()
    every = {score: f1_at(score) for score, _ in scored}
    if any(right for _, right in scored):
        top = max(every.values())
        assert best.f1 == pytest.approx(top)
        assert best.threshold == max(score for score, f1 in every.items() if f1 == top)
    else:
        assert best.threshold is None
    for threshold in (0, 0.33, 0.5, 1):
        kept = [right for score, right in scored if score >= threshold]
        point = curve.at(threshold)
        assert (point.true_positives, point.false_positives) == (sum(kept), len(kept) - sum(kept))


@given(SCORED, st.integers(0, 10), st.randoms(use_true_random=False))
def test_the_order_of_detections_does_not_matter(scored, missed, random):
    positives = sum(right for _, right in scored) + missed
    shuffled = random.sample(scored, len(scored))
    assert curve_of(scored, positives).best() == curve_of(shuffled, positives).best()


def test_by_hand_through_the_evaluator():
    """Two classes over two images; every count below was made with pencil and paper."""
    dataset = {
        "images": [{"id": 1, "height": 100, "width": 100}, {"id": 2, "height": 100, "width": 100}],
        "categories": [{"id": 1, "name": "fig"}, {"id": 2, "name": "nut"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10]},
            {"id": 2, "image_id": 1, "category_id": 1, "bbox": [50, 50, 10, 10]},
            {"id": 3, "image_id": 2, "category_id": 2, "bbox": [0, 0, 20, 20]},
        ],
    }
    rows = [
        (1, 1, [0, 0, 10, 10], 0.9),  # right
        (1, 1, [0, 0, 10, 9], 0.8),  # the same object again: wrong
        (1, 1, [50, 50, 10, 6], 0.7),  # IoU 0.6: right
        (1, 1, [80, 80, 10, 10], 0.6),  # nothing there: wrong
        (2, 1, [0, 0, 20, 20], 0.5),  # right place, wrong class: wrong
        (2, 2, [0, 0, 20, 9.9], 0.4),  # IoU 0.495: wrong
        (2, 2, [0, 0, 20, 12], 0.3),  # right
    ]
    results = [
        {"image_id": image, "category_id": category, "bbox": box, "score": score}
        for image, category, box, score in rows
    ]
    evaluator = CocoEvaluator(ground_truth_from_dict(dataset), iou_types=["bbox"])
    evaluator.add_results(results)
    evaluation = evaluator.evaluate()
    point = evaluation.metrics["operating_point"]
    # F1 from the top: 2/4, 2/5, 4/6, 4/7, 4/8, 4/9, 6/10
    assert evaluation.curves.overall.f1.tolist() == [2 / 4, 2 / 5, 4 / 6, 4 / 7, 4 / 8, 4 / 9, 6 / 10]
    assert (point["iou_type"], point["threshold"], point["f1"]) == ("bbox", 0.7, 2 / 3)
    assert (point["true_positives"], point["false_positives"], point["false_negatives"]) == (2, 1, 1)
    fig, nut = evaluation.metrics["per_class"]["fig"], evaluation.metrics["per_class"]["nut"]
    assert (fig["threshold"], fig["precision"], fig["recall"], fig["f1"]) == (0.7, 2 / 3, 1, 4 / 5)
    assert (nut["threshold"], nut["precision"], nut["recall"], nut["f1"]) == (0.3, 1 / 2, 1, 2 / 3)
    assert (fig["ground_truths"], fig["detections"], nut["detections"]) == (2, 5, 2)
    wrong = evaluation.curves.matches
    assert sorted(wrong.result[~wrong.is_true].tolist()) == [1, 3, 4, 5]

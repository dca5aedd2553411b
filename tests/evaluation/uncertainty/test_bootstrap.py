"""Intervals: by hand, and by simulations whose truth is known."""

import numpy as np
import pytest
from scipy import stats

from finemask.evaluation.ground_truth import Objects
from finemask.evaluation.numbers.match_table import MatchTable
from finemask.evaluation.numbers.overlaps import Overlaps
from finemask.evaluation.numbers.ranking import RankedDetections
from finemask.evaluation.uncertainty.resampling import (
    LEAST_RESAMPLES,
    ap_interval,
    centred,
    difference,
    draw_weights,
    interval,
    interval_text,
)
from finemask.evaluation.uncertainty.weighted_ap import class_ap

IMAGES = 40


def simulated(random, sets, objects, skill, false_rate, present=True):
    """Detections on ``sets`` sets of images, each a category of its own, at one IoU and one size.

    Args:
        random: generator.
        sets: S.
        objects: in every image, each found with the probability ``skill``.
        skill: float [S, IMAGES].
        false_rate: false detections an image, on average.
        present: bool [S, IMAGES], where there are objects at all.
    """
    there = np.broadcast_to(np.broadcast_to(present, skill.shape)[..., None], (*skill.shape, objects))
    found = (random.random(there.shape) < skill[..., None]) & there
    false = random.poisson(false_rate, (sets, IMAGES))
    right_set, right_image, _ = np.nonzero(found)
    wrong_set, wrong_image = (np.repeat(index.ravel(), false.ravel()) for index in np.indices(false.shape))
    category, image = np.append(right_set, wrong_set), np.append(right_image, wrong_image)
    is_true = np.arange(len(category)) < len(right_set)
    score = random.random(len(category)) + 0.5 * is_true
    order = np.lexsort((-score, category))
    object_set, object_image, _ = np.nonzero(there)
    number, detections = len(object_set), len(order)
    return MatchTable(
        image_ids=list(range(IMAGES)),
        category_ids=list(range(sets)),
        detections=RankedDetections(
            result=order,
            image=image[order],
            category=category[order],
            score=score[order],
            boxes=np.zeros((detections, 4)),
            area=np.ones(detections),
            place=np.zeros(detections, dtype=np.int64),
            by_image=np.zeros(detections, dtype=np.int64),
        ),
        objects=Objects(
            image=object_image,
            category=object_set,
            boxes=np.zeros((number, 4)),
            area=np.ones(number),
            crowd=np.zeros(number, dtype=bool),
            ignored=np.zeros(number, dtype=bool),
            masks=[None] * number,
        ),
        overlaps=Overlaps(*np.zeros((2, 0), dtype=np.int64), np.zeros(0), 0.5),
        ious=np.array([0.5]),
        wanted=np.ones((1, number), dtype=bool),
        within=np.ones((1, detections), dtype=bool),
        rows=np.arange(detections),
        object=np.where(is_true[order], 0, -1)[None, None],
    )


@pytest.fixture(scope="module")
def weights():
    return draw_weights(IMAGES)[:, :300]


def test_weights_are_draws_with_replacement():
    weights = draw_weights(50)
    assert weights.shape == (50, 1000)
    assert (weights.sum(axis=0) == 50).all()
    assert weights.mean() == 1
    assert weights.var() == pytest.approx(1 - 1 / 50, rel=0.02)  # of a binomial count
    assert np.array_equal(weights, draw_weights(50)), "the same results have the same intervals"
    assert draw_weights(50, seconds_each=0.05).shape[1] == 400
    assert draw_weights(50, seconds_each=60).shape[1] == LEAST_RESAMPLES


def test_the_interval_of_a_mean_is_students():
    """On data like normal data the expanded percentiles of a mean are those of the t interval."""
    sample = 3 + 2 * stats.norm.ppf((np.arange(12) + 0.5) / 12)
    means = np.random.default_rng(2).choice(sample, (20_000, 12)).mean(axis=1)
    expected = stats.t.interval(0.95, 11, sample.mean(), stats.sem(sample))
    plain = np.quantile(means, [0.025, 0.975])
    found = interval(means, 12)
    assert found == pytest.approx(expected, abs=0.06)
    assert found[0] < plain[0] - 0.1
    assert plain[1] + 0.1 < found[1]


def test_no_interval_where_none_can_be():
    assert interval(np.ones(1000), 1) is None
    assert interval(np.ones(1000), 5) is None  # its percentiles are 1 in 1,047: beyond the outermost of 1,000
    assert interval(np.ones(1000), 6) == [1, 1]
    assert interval(np.where(np.arange(1000) < 600, np.nan, 1.0), 60) is None
    assert interval(np.where(np.arange(1000) < 400, np.nan, 0.5), 60) == [0.5, 0.5]
    assert difference(0.1, np.ones(100), 1) is None
    assert interval_text(None) == ""
    assert interval_text([0.512, 0.561]) == " (0.51 to 0.56)"
    assert interval_text([0.5112, 0.5161]) == " (0.511 to 0.516)"


def test_intervals_hold_the_truth_as_often_as_they_say(weights):
    """One object an image, found with probability 0.7, nothing false: AP is the recall, and its expectation 0.7."""
    sets = 300
    random = np.random.default_rng(3)
    table = simulated(random, sets, 1, np.full((sets, IMAGES), 0.7), 0)
    resampled = class_ap(table, weights)[0]
    assert class_ap(table, np.ones((IMAGES, 1)))[0].mean() == pytest.approx(0.7, abs=0.02)
    measured = class_ap(table, np.ones((IMAGES, 1)))[0, :, 0]
    ends = np.array([ap_interval(value, row, IMAGES) for value, row in zip(measured, resampled, strict=True)])
    held = np.mean((ends[:, 0] <= 0.7) & (ends[:, 1] >= 0.7))
    assert 0.91 <= held <= 0.985  # 0.95 with three standard errors of 300 trials; the counts are whole numbers


def test_equally_good_detectors_rarely_differ(weights):
    """Two detectors of one skill, which varies from image to image for both: at most 5 % differ, and sampling."""
    sets = 200
    random = np.random.default_rng(4)
    skill = random.beta(3, 2, (sets, IMAGES))
    a, b = (simulated(random, sets, 3, skill, 1.0) for _ in range(2))
    unit = np.ones((IMAGES, 1))
    measured = class_ap(b, unit)[0, :, 0] - class_ap(a, unit)[0, :, 0]
    resampled = class_ap(b, weights)[0] - class_ap(a, weights)[0]
    found = [difference(value, values, IMAGES) for value, values in zip(measured, resampled, strict=True)]
    shown = np.array([one.is_shown for one in found])
    p_values = np.array([one.p_value for one in found])
    assert shown.mean() <= 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / sets)
    assert np.array_equal(shown, p_values < 0.05), "interval and p-value say the same"
    assert 0.35 <= p_values.mean() <= 0.65
    spread = measured.std()
    promised = np.mean([one.smallest_detectable for one in found])
    assert promised == pytest.approx(2.8 * spread, rel=0.2)  # 1.96 + 0.84 standard errors


def test_a_real_difference_is_found_with_the_power_promised(weights):
    sets = 200
    random = np.random.default_rng(5)
    a = simulated(random, sets, 3, np.full((sets, IMAGES), 0.6), 1.0)
    b = simulated(random, sets, 3, np.full((sets, IMAGES), 0.75), 1.0)
    unit = np.ones((IMAGES, 1))
    measured = class_ap(b, unit)[0, :, 0] - class_ap(a, unit)[0, :, 0]
    resampled = class_ap(b, weights)[0] - class_ap(a, weights)[0]
    found = [difference(value, values, IMAGES) for value, values in zip(measured, resampled, strict=True)]
    smallest = np.mean([one.smallest_detectable for one in found])
    expected = stats.norm.cdf(2.8 * measured.mean() / smallest - 1.96)  # of the test at 5 %
    assert np.mean([one.is_shown for one in found]) == pytest.approx(expected, abs=0.1)
    assert not any(one.is_shown and one.value < 0 for one in found)


def test_many_rare_classes_do_not_move_the_interval(weights):
    """12 classes, each in one image of sixteen: the mean over classes of a resample is too high, and is moved back."""
    sets, classes = 80, 12

    def mean_ap(table, weights):
        ap = class_ap(table, weights)[0].reshape(sets, classes, -1)
        return np.nanmean(ap, axis=1)

    def draw():
        present = random.random((sets * classes, IMAGES)) < 1 / 16
        return simulated(random, sets * classes, 2, np.full((sets * classes, IMAGES), 0.6), 0.1, present)

    random = np.random.default_rng(6)
    unit = np.ones((IMAGES, 1))
    truth = np.mean([mean_ap(draw(), unit).mean() for _ in range(5)])
    table = draw()
    measured, resampled = mean_ap(table, unit)[:, 0], mean_ap(table, weights)
    ends = np.array([ap_interval(value, row, IMAGES) for value, row in zip(measured, resampled, strict=True)])
    assert (resampled.mean(axis=1) - measured).mean() > 0.1 * measured.std()
    assert 0.88 <= np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1])) <= 1
    assert (ends[:, 1] + ends[:, 0]).mean() / 2 == pytest.approx(truth, abs=0.02)


def test_centred_by_hand():
    moved = centred(0.5, np.array([0.5, np.nan, 0.7, 0.9]))
    assert moved == pytest.approx([0.3, np.nan, 0.5, 0.7], nan_ok=True)
    assert np.isnan(centred(None, np.array([0.5]))).all()
    assert ap_interval(0.99, np.linspace(0.9, 1, 100), 30)[1] == 1  # AP has no values beyond


def test_a_handful_of_images_shows_nothing():
    """Three images that all say the same: no resample says otherwise, and yet it is three images."""
    assert difference(-0.5, np.full(1000, -0.5), 3) is None
    found = difference(-0.5, np.full(1000, -0.5), 6)
    assert (found.is_shown, found.p_value < 0.05) == (True, True)


def test_identical_detectors_show_nothing():
    found = difference(0.0, np.zeros(500), 20)
    assert (found.interval, found.p_value, found.is_shown) == ((0.0, 0.0), 1.0, False)

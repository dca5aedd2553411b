"""Which pictures are shown, and that they show what they say."""

import base64
import io
from functools import partial

import numpy as np
import pytest
from evaluation_data import random_dataset, random_results
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.cocoeval import COCOeval

from finemask.evaluation.evaluator import CocoEvaluator
from finemask.evaluation.ground_truth import ground_truth_from_dict
from finemask.evaluation.numbers.pycocotools_reference import coco_object, quiet_pycocotools
from finemask.ops.colours import VERDICTS
from finemask.ops.images.shrinking import shrink_factor
from finemask.ops.images.window_reader import ArrayReader, PillowReader
from finemask.ops.rle import mask_to_rle, rle_to_mask
from finemask.pages.instance_pictures import (
    CROP_BYTES,
    WHOLE_BYTES,
    ColouredInstance,
    Window,
    _jpeg,
    _rle_in_window,
    draw_window,
    picture_of,
    window_around,
)
from finemask.reports import verdicts as verdicts_module
from finemask.reports.example_choice import (
    CONFUSED_SHOWN,
    FALSE_SHOWN,
    MISSED_SHOWN,
    PER_GALLERY,
    Outcome,
    choose_images,
    image_outcomes,
    plan_mistakes,
)
from finemask.reports.example_galleries import build_galleries
from finemask.reports.verdicts import FalseDetection, Verdicts, judge


def evaluated(dataset, results, **options):
    evaluator = CocoEvaluator(ground_truth_from_dict(dataset), **options)
    evaluator.add_results(results)
    return evaluator


def test_outcomes_add_up(tmp_path):
    dataset = random_dataset(11, images=8)
    evaluator = evaluated(dataset, random_results(dataset, 12))
    evaluation, truth = evaluator.evaluate(), evaluator.ground_truth
    point, curves = evaluation.metrics["operating_point"], evaluation.curves
    verdicts = judge(truth, evaluator.results, curves.matches, curves.iou_type, point["threshold"])
    outcomes = image_outcomes(truth, evaluator.results, verdicts)
    assert [outcome.image_id for outcome in outcomes] == list(truth.images)
    assert sum(outcome.found for outcome in outcomes) == point["true_positives"]
    assert sum(outcome.false for outcome in outcomes) == point["false_positives"]
    assert sum(outcome.missed for outcome in outcomes) == point["false_negatives"]


def test_worst_best_and_random_never_repeat_an_image():
    outcomes = [Outcome(i, found=i % 7, false=i % 3, missed=i % 4) for i in range(60)]
    chosen = choose_images(outcomes, 4)
    ids = [outcome.image_id for group in chosen.values() for outcome in group]
    assert len(ids) == len(set(ids)) == 12
    assert max(o.f1 for o in chosen["worst"]) <= min(o.f1 for o in outcomes if o not in chosen["worst"])
    assert all(outcome.f1 == 1 for outcome in chosen["best"])
    assert choose_images(outcomes, 4) == chosen


def test_perfect_images_are_not_called_hard():
    outcomes = [Outcome(1, 3, 0, 0), Outcome(2, 0, 0, 0), Outcome(3, 5, 0, 0)]
    chosen = choose_images(outcomes)
    assert chosen["worst"] == []
    assert [outcome.image_id for outcome in chosen["best"]] == [3, 1]
    assert [outcome.image_id for outcome in chosen["random"]] == [2]


def found_by_pycocotools(evaluator, iou_type):
    """Position of an object to the position of the result that pycocotools matches with it at IoU 0.5."""
    truth = evaluator.ground_truth
    detections = [
        {**result, "id": n, "iscrowd": 0, "area": result["bbox"][2] * result["bbox"][3]}
        for n, result in enumerate(evaluator.results, start=1)
    ]
    with quiet_pycocotools():
        reference = COCOeval(coco_object(truth), coco_object(truth, detections), iou_type)
        reference.params.maxDets = [evaluator.max_detections]
        reference.params.areaRng, reference.params.areaRngLbl = [[0, 1e10]], ["all"]
        reference.evaluate()
    crowds = {a["id"] for a in truth.annotations if a["iscrowd"]}
    return {
        int(object_id) - 1: int(detection_id) - 1
        for image in reference.evalImgs
        if image is not None
        for detection_id, object_id in zip(image["dtIds"], image["dtMatches"][0], strict=True)
        if object_id > 0 and int(object_id) not in crowds
    }


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
@pytest.mark.parametrize("seed", range(4))
def test_every_object_is_found_by_what_pycocotools_matches_with_it(seed, iou_type):
    dataset = random_dataset(seed, images=8, objects=12)
    evaluator = evaluated(dataset, random_results(dataset, seed + 50), iou_types=[iou_type])
    curves = evaluator.evaluate().curves
    verdicts = judge(evaluator.ground_truth, evaluator.results, curves.matches, curves.iou_type, 0.0)
    assert verdicts.found_by == found_by_pycocotools(evaluator, iou_type)
    objects = {n for n, a in enumerate(evaluator.ground_truth.annotations) if not a["iscrowd"]}
    assert set(verdicts.missed) | set(verdicts.found_by) == objects
    assert not set(verdicts.missed) & set(verdicts.found_by)


@pytest.mark.parametrize("pairs_at_once", [1, 30, 2**24])
def test_findings_at_a_threshold_add_up_to_the_operating_point(monkeypatch, pairs_at_once):
    monkeypatch.setattr(verdicts_module, "_PAIRS_AT_ONCE", pairs_at_once)
    dataset = random_dataset(9, images=8, objects=12)
    evaluator = evaluated(dataset, random_results(dataset, 10))
    evaluation = evaluator.evaluate()
    point, results = evaluation.metrics["operating_point"], evaluator.results
    verdicts = judge(
        evaluator.ground_truth, results, evaluation.curves.matches, evaluation.curves.iou_type, point["threshold"]
    )
    assert len(verdicts.found_by) == point["true_positives"]
    assert len(verdicts.missed) == point["false_negatives"]
    assert len(verdicts.false) == point["false_positives"]
    scores = [results[false.result]["score"] for false in verdicts.false]
    assert scores == sorted(scores, reverse=True)
    annotations = evaluator.ground_truth.annotations
    for false in verdicts.false:  # what it overlaps most, by pycocotools
        image_id = results[false.result]["image_id"]
        same = [n for n, a in enumerate(annotations) if a["image_id"] == image_id and not a["iscrowd"]]
        shapes = [annotations[n]["segmentation"] for n in same]
        ious = coco_mask.iou([results[false.result]["segmentation"]], shapes, [0] * len(same))
        assert false.overlap == (max(ious[0]) if same else 0)


def test_mistakes_by_hand(dataset):
    """Annotations 0, 1: figs of image 5; 2: a nut of image 5; 3: a large fig of image 7; 4: a crowd."""
    truth = ground_truth_from_dict(dataset)
    fig, nut = 3, 90
    results = [
        {"image_id": 5, "category_id": fig, "bbox": [1, 1, 4, 4], "score": 0.9},
        {"image_id": 5, "category_id": fig, "bbox": [2, 30, 12, 12], "score": 0.8},
        {"image_id": 7, "category_id": nut, "bbox": [0, 0, 9, 9], "score": 0.7},
        {"image_id": 5, "category_id": fig, "bbox": [30, 30, 19, 19], "score": 0.6},
        {"image_id": 5, "category_id": fig, "bbox": [30, 30, 20, 20], "score": 0.95},
    ]
    verdicts = Verdicts(
        {1: 4},
        [0, 2, 3],
        [
            FalseDetection(0, 0, 0.16),
            FalseDetection(1, 2, 1.0, is_confused=True),
            FalseDetection(2, None, 0.0),
            FalseDetection(3, 1, 0.9),
        ],
    )
    plans = {plan.title: plan for plan in plan_mistakes(truth, results, verdicts)}
    name = "<fig> & co"
    assert [(w.name, w.detail) for w in plans["False detections"].examples] == [
        (name, f"score 0.90, overlaps a labelled {name} by 0.16"),
        ("nut", "score 0.70, nothing is labelled here"),
        (name, f"score 0.60, a second detection of one {name}"),
    ]
    assert [(w.name, w.detail) for w in plans["Confused classes"].examples] == [
        (f"nut taken for {name}", "score 0.80, overlap 1.00")
    ]
    assert plans["Missed: large objects"].examples == []
    assert [(w.name, w.detail) for w in plans["Missed: medium objects"].examples] == [
        (f"{name}, 40 × 40 px", "not detected")
    ]
    assert [(w.name, w.detail) for w in plans["Missed: small objects"].examples] == [
        ("nut, 12 × 12 px", f"a detection of {name} overlaps it by 1.00"),
        (f"{name}, 10 × 10 px", "a detection overlaps it by 0.16"),
    ]
    assert [w.around for w in plans["Missed: medium objects"].examples] == [[10.0, 10.0, 40.0, 40.0]]


def test_one_image_does_not_fill_a_gallery(dataset):
    truth = ground_truth_from_dict(dataset)
    results = [
        {"image_id": 5 if n < 30 else 7, "category_id": 3, "bbox": [n, 1, 4, 4], "score": 1 - n / 99} for n in range(40)
    ]
    verdicts = Verdicts({}, [0, 1, 2, 3], [FalseDetection(n, None, 0.0) for n in range(40)])
    first = next(plan_mistakes(truth, results, verdicts))
    assert [wanted.image_id for wanted in first.examples] == [5, 5, 7, 7]


@given(
    st.tuples(st.integers(1, 400), st.integers(1, 400)),
    st.tuples(*[st.floats(0, 400)] * 4),
)
def test_a_window_lies_in_its_image_and_shows_its_object(size, box):
    height, width = size
    x, y = min(box[0], width - 1), min(box[1], height - 1)
    w, h = min(box[2], width - x), min(box[3], height - y)
    window = window_around([x, y, w, h], (height, width, 3))
    assert 0 <= window.x0 < window.x1 <= width
    assert 0 <= window.y0 < window.y1 <= height
    assert window.x0 <= x + w / 2 <= window.x1
    assert window.y0 <= y + h / 2 <= window.y1
    if w * 3 < width and h * 3 < height:
        assert window.x0 - 1 <= x
        assert x + w <= window.x1 + 1


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.tuples(*[st.integers(0, 39)] * 4))
def test_a_mask_is_cut_as_its_pixels_are(seed, corners):
    mask = np.random.default_rng(seed).random((40, 40)) < 0.1
    xs, ys = sorted(corners[:2]), sorted(corners[2:])
    window = Window(xs[0], ys[0], xs[1] + 1, ys[1] + 1)
    cut = _rle_in_window({"segmentation": mask_to_rle(mask)}, window)
    assert (rle_to_mask(cut) == mask[window.y0 : window.y1, window.x0 : window.x1]).all()


def test_noise_fits_into_its_bytes():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (440, 440, 3), dtype=np.uint8))
    encoded = _jpeg(noise, CROP_BYTES)
    assert len(encoded) <= CROP_BYTES
    assert Image.open(io.BytesIO(encoded)).size[0] >= 110


def test_the_galleries_are_bounded_whatever_the_split_is():
    """15 MB for the page, of which numbers and charts of 80 classes take a third of one."""
    whole, large = 3 * PER_GALLERY, FALSE_SHOWN + 3 * MISSED_SHOWN + CONFUSED_SHOWN
    assert 2 * (whole * WHOLE_BYTES + large * CROP_BYTES) * 4 / 3 < 13_000_000


def decoded(address):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))), dtype=int)


def test_a_close_up_shows_its_object_framed_and_large():
    image = np.full((600, 800, 3), 128, dtype=np.uint8)
    mask = np.zeros((600, 800), dtype=bool)
    mask[300:332, 400:432] = True
    annotation = {"category_id": 1, "iscrowd": 0, "bbox": [400, 300, 32, 32], "segmentation": mask_to_rle(mask)}
    truth, prediction = (
        decoded(picture_of(ArrayReader(image), drawn, {1: "nut"}, around=[400, 300, 32, 32]))
        for drawn in ([ColouredInstance(annotation, VERDICTS["missed"])], [])
    )
    side = truth.shape[0]
    assert truth.shape == prediction.shape == (side, side, 3)
    coloured = abs(truth - truth.mean(axis=-1, keepdims=True)).max(axis=-1) > 12
    assert coloured.mean() == pytest.approx(1 / 9, abs=0.03)  # a third of the side, each way
    assert not (abs(prediction - prediction.mean(axis=-1, keepdims=True)).max(axis=-1) > 12).any()
    for picture in (truth, prediction):  # the frame is on both sides, around the object
        assert picture[: side // 4].std() < 3
        assert picture[side // 4 : side // 3].max() > 230


def nut(x, y, side, shape=(120, 400), **values):
    mask = np.zeros(shape, dtype=bool)
    mask[y : y + side, x : x + side] = True
    return {"image_id": 1, "category_id": 1, "bbox": [x, y, side, side], "segmentation": mask_to_rle(mask)} | values


def test_pictures_are_coloured_by_verdict(tmp_path):
    """Found, missed, of the wrong class, false: 60 px each, 100 px apart."""
    Image.new("RGB", (400, 120), (128, 128, 128)).save(tmp_path / "a.png")
    places = {"found": 20, "missed": 120, "wrong-class": 220, "false": 320}
    labels = [nut(places[name], 30, 60) for name in ("found", "missed", "wrong-class")]
    results = [
        nut(places["found"], 30, 60, score=0.9),
        nut(places["wrong-class"], 30, 60, score=0.8, category_id=2),
        nut(places["false"], 30, 60, score=0.7),
    ]
    dataset = {
        "images": [{"id": 1, "file_name": "a.png", "height": 120, "width": 400}],
        "categories": [{"id": 1, "name": "nut"}, {"id": 2, "name": "fig"}],
        "annotations": labels,
    }
    evaluator = evaluated(dataset, results)
    curves = evaluator.evaluate().curves
    verdicts = judge(evaluator.ground_truth, evaluator.results, curves.matches, curves.iou_type, 0.5)
    galleries, unread = build_galleries(evaluator.ground_truth, evaluator.results, verdicts, 0.5, tmp_path)
    (example,) = (example for gallery in galleries if gallery.whole for example in gallery.examples)
    assert unread == []
    assert example.planned.outcome == Outcome(1, found=1, false=2, missed=2, confused=1)
    truth, prediction = (decoded(address) for _, address in example.views)

    def drawn(picture, name):
        return picture[60, places[name] + 30]

    def expected(name):
        return 0.24 * np.array(VERDICTS[name]) + 0.76 * 128

    for picture, name, verdict in (
        (truth, "found", "found"),
        (truth, "missed", "missed"),
        (truth, "wrong-class", "missed"),
        (prediction, "found", "found"),
        (prediction, "wrong-class", "wrong-class"),
        (prediction, "false", "false"),
    ):
        assert np.abs(drawn(picture, name) - expected(verdict)).max() < 12, name  # JPEG
    for picture, name in ((truth, "false"), (prediction, "missed")):
        assert np.abs(drawn(picture, name) - 128).max() < 6


def test_small_objects_carry_no_caption():
    names = {1: "nut", 2: "fig"}
    for side, is_written in ((19, False), (20, True)):
        drawn = ColouredInstance(nut(100, 50, side, (400, 600)), VERDICTS["found"])
        black = ArrayReader(np.zeros((400, 600, 3), np.uint8))
        picture = np.asarray(draw_window(black, [drawn], names, Window(0, 0, 600, 400)))
        above = picture[30:49, 90:160]  # where the plate of its name stands
        assert bool(above.any()) is is_written


def test_a_large_image_is_drawn_as_the_image_shrunk_beforehand_and_never_read_whole(tmp_path, monkeypatch):
    small = np.random.default_rng(0).integers(90, 160, (200, 300, 3), np.uint8)
    large = small.repeat(3, axis=0).repeat(3, axis=1)
    Image.fromarray(large).save(tmp_path / "a.png")
    names, places = {1: "nut", 2: "fig"}, ((10, 20, 80), (200, 100, 50))
    drawn = [
        [ColouredInstance(nut(n * x, n * y, n * side, (n * 200, n * 300)), VERDICTS["found"]) for x, y, side in places]
        for n in (1, 3)
    ]
    expected = draw_window(ArrayReader(small), drawn[0], names, Window(0, 0, 300, 200), [10, 20, 80, 80])
    monkeypatch.setattr("finemask.pages.instance_pictures.shrink_factor", partial(shrink_factor, most_px=300))
    monkeypatch.setattr("finemask.ops.images.shrinking._STRIP_BYTES", 3 * 900 * 30)
    reader, windows = PillowReader(tmp_path / "a.png", (600, 900)), []
    read = reader.read
    monkeypatch.setattr(reader, "read", lambda window: windows.append(window) or read(window))
    found = draw_window(reader, drawn[1], names, Window(0, 0, 900, 600), [30, 60, 240, 240])
    assert np.array_equal(np.asarray(found), np.asarray(expected))
    assert windows == [(0, y, 900, y + 30) for y in range(0, 600, 30)]


def test_galleries_of_a_large_image_do_not_decode_it(tmp_path, monkeypatch):
    Image.new("RGB", (400, 120), (128, 128, 128)).save(tmp_path / "a.png")
    dataset = {
        "images": [{"id": 1, "file_name": "a.png", "height": 120, "width": 400}],
        "categories": [{"id": 1, "name": "nut"}],
        "annotations": [nut(20, 30, 20), nut(320, 60, 20)],
    }
    evaluator = evaluated(dataset, [nut(20, 30, 20, score=0.9)])
    curves = evaluator.evaluate().curves
    verdicts = judge(evaluator.ground_truth, evaluator.results, curves.matches, curves.iou_type, 0.5)
    planned = (evaluator.ground_truth, evaluator.results, verdicts, 0.5, tmp_path)
    before, _ = build_galleries(*planned)
    monkeypatch.setattr("finemask.reports.example_galleries.shrink_factor", partial(shrink_factor, most_px=200))
    monkeypatch.setattr("finemask.ops.images.decode.decode_image", None)
    assert build_galleries(*planned) == (before, [])

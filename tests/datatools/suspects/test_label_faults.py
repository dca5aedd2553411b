"""What is suspected, and how surely: planted faults, small images whose answer is plain, and what is sound."""

import json
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_faults import KINDS, is_found
from scipy.special import expit

from finemask.coco.index import CocoIndex
from finemask.datatools.suspects.compared_images import compare_images
from finemask.datatools.suspects.fault_probability import fit_trust, looseness
from finemask.datatools.suspects.label_faults import Suspect, _discounted, find_suspects
from finemask.datatools.suspects.suspects_list import listing
from finemask.ops.rle import mask_iou, mask_to_rle, rle_box_xywh

SIDE, CELL = 80, 20


def one_iou(a, b):
    return mask_iou([a], [b])[0, 0]


def suspects_of(annotations, results, images_dir=None, min_score=0.1):
    index = CocoIndex.read(annotations, images_dir)
    return listing(find_suspects(list(compare_images(index, results)), min_score), index, {})["suspects"]


def test_four_of_five_planted_faults_are_in_a_list_twice_their_number(faulty):
    entries = suspects_of(faulty.faulty, json.loads(faulty.results.read_text()))
    listed = entries[: 2 * len(faulty.planted)]
    found = [fault for fault in faulty.planted if is_found(fault, listed, one_iou)]
    assert Counter(fault.rule for fault in faulty.planted).keys() == set(KINDS)
    assert len(found) >= 0.8 * len(faulty.planted), Counter(fault.rule for fault in found)
    assert {fault.rule for fault in found} == set(KINDS), "no kind is drowned by another"
    scores = [entry["score"] for entry in entries]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] >= 0.1
    assert scores[0] <= 1.0


def test_no_object_is_suspected_twice(faulty):
    entries = suspects_of(faulty.faulty, json.loads(faulty.results.read_text()), min_score=0.0)
    named = Counter(number for entry in entries for number in entry["annotation_ids"])
    assert max(named.values()) == 1
    added = [entry for entry in entries if entry["rule"] == "missing-label"]
    for k, one in enumerate(added):
        for other in added[:k]:
            if one["image_id"] == other["image_id"]:
                assert one_iou(one["change"]["segmentation"], other["change"]["segmentation"]) < 0.5


def test_detections_that_are_the_labels_raise_no_suspicion(faulty):
    labels = json.loads(faulty.sound.read_text())["annotations"]
    index = CocoIndex.read(faulty.sound, None)
    results = []
    for image in compare_images(index, []):
        image_id = int(index.image_ids[image.position])
        for label, rle in zip(image.label_classes, image.label_rles, strict=True):
            category = index.category_ids[label - 1]
            results.append(result(image_id, category, rle, 0.9))
    assert len(results) == sum(not label["iscrowd"] for label in labels)
    assert suspects_of(faulty.sound, results, min_score=0.0) == []


def result(image_id, category_id, rle, score):
    return {
        "image_id": image_id, "category_id": category_id, "bbox": rle_box_xywh(rle), "score": score,
        "segmentation": rle,
    }  # fmt: skip


# Small images: squares in cells of a grid, twelve images of sixteen. What is usual comes from the other squares.


def square(cell, size=14, dx=0, dy=0):
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    y, x = (cell // 4) * CELL + 2 + dy, (cell % 4) * CELL + 2 + dx
    mask[y : y + size, x : x + size] = True
    return mask_to_rle(mask)


class Grid:
    """Sound labels and the detections of a model that sees them a pixel off, to be changed by a test."""

    def __init__(self, folder):
        self.path = folder / "labels.json"
        self.labels, self.results = {}, {}
        for image in range(1, 13):
            for cell in range(16):
                number = 100 * image + cell
                category = 5 if cell % 2 else 2
                self.labels[number] = {
                    "id": number, "image_id": image, "category_id": category, "iscrowd": 0,
                    "segmentation": square(cell),
                }  # fmt: skip
                score = 0.8 + 0.19 * ((number * 7) % 11) / 11
                self.results[number] = result(image, category, square(cell, dx=number % 2), score)
        # and what it takes for objects where none are, with little confidence
        for k in range(30):
            self.results[-1 - k] = result(1 + k % 12, 2, square(k % 16, size=5, dx=14, dy=k % 3), 0.06 + 0.01 * k)

    def suspects(self, min_score=0.5):
        images = [{"id": k, "file_name": f"{k}.png", "height": SIDE, "width": SIDE} for k in range(1, 13)]
        categories = [{"id": 2, "name": "nut"}, {"id": 5, "name": "bolt"}]
        document = {"images": images, "annotations": list(self.labels.values()), "categories": categories}
        self.path.write_text(json.dumps(document))
        return suspects_of(self.path, list(self.results.values()), min_score=min_score)


@pytest.fixture
def grid(tmp_path):
    return Grid(tmp_path)


def test_sound_labels_raise_no_strong_suspicion(grid):
    assert grid.suspects() == []


def test_a_missing_label(grid):
    lost = grid.labels.pop(305)
    (entry,) = grid.suspects()
    assert (entry["rule"], entry["image_id"], entry["annotation_ids"]) == ("missing-label", 3, [])
    assert entry["change"]["action"] == "add-label"
    assert (entry["change"]["category_id"], entry["change"]["category"]) == (5, "bolt")
    assert entry["change"]["segmentation"] == grid.results[305]["segmentation"]
    assert entry["change"]["bbox"] == [23.0, 22.0, 14.0, 14.0]
    assert entry["change"]["area"] == 14 * 14
    assert lost["category_id"] == 5


def test_a_wrong_class(grid):
    grid.labels[305]["category_id"] = 2
    (entry,) = grid.suspects()
    assert (entry["rule"], entry["annotation_ids"]) == ("wrong-class", [305])
    assert entry["change"] == {"action": "change-class", "annotation_id": 305, "category_id": 5, "category": "bolt"}
    assert "labelled 'nut'" in entry["message"]


def test_a_class_that_is_detected_too_is_no_suspicion(grid):
    """Two detections of one object, both sure: the one that agrees with the label speaks for it."""
    grid.results["other"] = {**grid.results[305], "category_id": 2, "score": 0.97}
    assert grid.suspects() == []


@pytest.mark.parametrize("size", [8, 10, 18])
def test_a_loose_mask(grid, size):
    grid.labels[305]["segmentation"] = square(5, size=size)
    (entry,) = grid.suspects()
    assert (entry["rule"], entry["annotation_ids"]) == ("loose-mask", [305])
    assert entry["change"]["segmentation"] == grid.results[305]["segmentation"]
    shared = min(size, 14) * (min(size, 14) - 1 * (size < 15))  # the detection is a pixel to the right
    assert entry["detection"]["iou"] == pytest.approx(shared / (196 + size * size - shared), abs=1e-3)


@pytest.mark.parametrize("category", [5, 2])
def test_a_duplicate_of_whatever_class(grid, category):
    copied = {**grid.labels[305], "id": 9, "category_id": category, "segmentation": square(5, dy=1)}
    grid.labels[9] = copied
    (entry,) = grid.suspects()
    assert (entry["rule"], entry["annotation_ids"]) == ("duplicate-label", [9, 305])
    assert entry["change"] == {"action": "remove-label", "annotation_id": 9}
    assert entry["seen"].keys() == {"9", "305"}


def test_two_objects_that_overlap_and_are_both_seen_are_no_duplicate(grid):
    grid.labels[9] = {**grid.labels[305], "id": 9, "segmentation": square(5, dx=3)}
    grid.results[9] = result(3, 5, square(5, dx=4), 0.95)
    assert grid.suspects() == []


def test_what_lies_in_a_crowd_region_is_not_missing(grid):
    grid.labels[305] |= {"iscrowd": 1}
    assert grid.suspects() == []


def test_a_part_of_a_labelled_object_is_not_missing(grid):
    grid.results["part"] = result(3, 5, square(5, size=6, dx=4, dy=4), 0.99)
    assert grid.suspects() == []


def test_one_object_seen_as_two_classes_is_missing_once(grid):
    del grid.labels[305]
    grid.results["other"] = {**grid.results[305], "category_id": 2, "score": 0.99}
    (entry,) = grid.suspects()
    assert entry["detection"]["category"] == "nut"


def test_without_detections_there_is_no_suspicion(grid):
    grid.results.clear()
    assert grid.suspects(min_score=0.0) == []
    assert find_suspects([]) == []


def test_a_contradiction_the_model_makes_all_the_time_says_little(grid):
    """A fault of a kind of its own comes before the hundredth of a kind, though the model is as sure of both."""
    for image in range(1, 13):
        for cell in (1, 3, 5, 7):
            grid.labels[100 * image + cell]["category_id"] = 2
    del grid.labels[314]
    first, *rest = grid.suspects(min_score=0.0)
    assert first["rule"] == "missing-label"
    wrong = [entry["score"] for entry in rest if entry["rule"] == "wrong-class"]
    assert len(wrong) == 48
    assert wrong[-1] < 0.15, "of 192 labels, four or so can be of one kind of fault"


def test_classes_that_are_always_confused_come_behind_others():
    """Twelve nuts seen as bolts, one bolt seen as a nut; four faults are credible, so two of each pair."""
    nut, bolt = (SimpleNamespace(label_classes=[own], classes=[seen]) for own, seen in ((1, 2), (2, 1)))
    often = [Suspect("wrong-class", 0.9, nut, (0,), 0) for _ in range(12)]
    ranked = _discounted([*often, Suspect("wrong-class", 0.5, bolt, (0,), 0)], credible=4)
    # pairs first: 0.9, 0.9, 0.6, then the lone one's 0.5, 0.45, 0.36 …; then from the fifth on 4 / place
    expected = [0.9, 0.9, 0.6, 0.5, 0.45 * 4 / 5, 0.36 * 4 / 6, 0.3 * 4 / 7]
    assert [suspect.score for suspect in ranked[:7]] == pytest.approx(expected)
    assert ranked[3].image is bolt
    assert len(ranked) == 13


# What is learned from the agreement of model and labels.


@settings(max_examples=8, deadline=None)
@given(st.floats(0.5, 2.0), st.floats(-2.0, 1.0), st.integers(0, 2**32 - 1))
def test_trust_is_the_share_of_detections_that_are_right(slope, offset, seed):
    """Drawn from a logistic curve, the outcomes give that curve back, within sampling error."""
    rng = np.random.default_rng(seed)
    evidence = rng.normal(0, 2, (20_000, 2))
    truth = expit(slope * evidence[:, 0] - 0.5 * evidence[:, 1] + offset)
    believed = fit_trust(evidence, rng.random(len(truth)) < truth)
    assert np.abs(believed - truth).max() < 0.08


def test_trust_of_nothing_and_of_the_always_right():
    assert fit_trust(np.zeros((0, 1)), np.zeros(0, dtype=bool)).shape == (0,)
    assert (fit_trust(np.linspace(-3, 3, 50)[:, None], np.ones(50, dtype=bool)) > 0.8).all()
    assert fit_trust(np.zeros((50, 1)), np.arange(50) < 40) == pytest.approx(np.full(50, 0.8), abs=0.03)


def test_what_weighs_nothing_is_as_if_it_were_not_there():
    rng = np.random.default_rng(0)
    evidence, right = rng.normal(size=(400, 1)), rng.random(400) < 0.7
    weights = (np.arange(400) < 200).astype(float)
    assert fit_trust(evidence, right, weights)[:200].mean() == pytest.approx(right[:200].mean(), abs=0.02)


def test_few_of_many_sound_masks_are_taken_for_loose_and_all_of_the_loose():
    rng = np.random.default_rng(0)
    iou = 1 - np.exp(rng.normal(np.log(0.15), 0.3, 1000))
    sizes = rng.uniform(4, 8, (1000, 1))
    assert (looseness(iou[:, None], sizes) > 0.9).mean() < 0.01
    iou[:40] = rng.uniform(0.3, 0.5, 40)
    sure = looseness(iou[:, None], sizes) > 0.9
    assert sure[:40].all()
    assert sure[40:].mean() < 0.01


def test_small_objects_are_compared_with_small_ones():
    """Of masks that agree worse because they are small, none is loose, though it would be among large ones."""
    rng = np.random.default_rng(1)
    sizes = np.concatenate([rng.uniform(2, 3, 300), rng.uniform(8, 9, 300)])
    iou = 1 - np.exp(np.concatenate([rng.normal(np.log(0.45), 0.1, 300), rng.normal(np.log(0.05), 0.1, 300)]))
    sure = looseness(np.append(iou, 0.55)[:, None], np.append(sizes, 8.5)[:, None])
    assert sure[-1] > 0.9
    assert (sure[:300] > 0.9).mean() < 0.01


def test_with_few_pairs_nothing_is_out_of_the_ordinary():
    assert (looseness(np.array([[0.3], [0.9], [0.9]]), np.ones((3, 1))) == 0).all()

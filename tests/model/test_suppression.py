"""Which candidates become detections: each way against a reference or by hand."""

import math
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_cases import model_config, random_scene
from pycocotools import mask as coco_mask
from torchvision.models.detection.roi_heads import RoIHeads, paste_masks_in_image
from torchvision.ops import batched_nms, nms

from finemask.config import config_dir
from finemask.config.config_files import shipped_targets
from finemask.errors import ConfigError
from finemask.model.box_predictor.box_branch import BoxBranch
from finemask.model.build import build_model, build_suppression
from finemask.model.suppression import NMS, ClassAgnosticNMS, MaskNMS, SoftNMS, settle_masks
from finemask.ops.box_ops import candidates_of, suppress
from finemask.ops.mask_ops import masks_to_rles
from finemask.ops.rle import mask_iou

OPTIONS = sorted(path.stem for path in (config_dir() / "model" / "suppression").glob("*.yaml"))
SIZE = (60, 80)


def candidates(count: int, seed: int, num_categories: int = 3):
    """Boxes that overlap in heaps, distinct scores, labels."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(15, 45, (3, 2))[rng.integers(0, 3, count)] + rng.normal(0, 3, (count, 2))
    half = rng.uniform(3, 14, (count, 2))
    boxes = torch.from_numpy(np.concatenate([centres - half, centres + half], axis=1)).float()
    scores = torch.from_numpy(rng.permutation(np.linspace(0.06, 0.99, count))).float()
    return boxes, scores, torch.from_numpy(rng.integers(1, num_categories + 1, count))


@cache
def config_of(name: str) -> dict:
    return model_config("tiny", f"model/suppression={name}", "model.roi_heads.detections_per_img=7")


def part(name: str, **changes):
    suppression = config_of(name)["suppression"] | changes
    return build_suppression({"suppression": suppression})


def overlap(one, other) -> float:
    """IoU of two boxes, from its definition."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def soft_nms_by_hand(boxes, scores, labels, decay):
    """The pseudo-code of Bodla et al., one box after another, class by class."""
    found = []
    for label in set(labels):
        left = [[score, i] for i, score in enumerate(scores) if labels[i] == label]
        while left:
            best = max(left)
            left.remove(best)
            found.append((best[0], best[1]))
            left = [[score * decay(overlap(boxes[best[1]], boxes[i])), i] for score, i in left]
    return sorted(found, reverse=True)


@pytest.mark.parametrize("seed", range(4))
def test_plain_suppression_is_torchvisions_to_the_bit(seed):
    torch.manual_seed(seed)
    rois, classes, shapes = [17, 0, 30], 4, [SIZE, (50, 50), (90, 70)]
    logits = torch.randn(sum(rois), classes) * 2
    deltas = torch.randn(sum(rois), classes * 4)
    proposals = [candidates(count, seed + count)[0] for count in rois]
    heads = RoIHeads(None, None, None, 0.5, 0.5, 1, 0.5, None, 0.05, 0.4, 11)
    reference = heads.postprocess_detections(logits, deltas, proposals, shapes)
    boxes = heads.box_coder.decode(deltas, proposals).split(rois)
    scores = logits.softmax(-1).split(rois)
    context = SimpleNamespace(suppression=NMS(0.4), detections_per_img=11)
    for b, s, shape, *expected in zip(boxes, scores, shapes, *reference, strict=True):
        found = BoxBranch().settle(context, candidates_of(s, b, shape, 0.05))
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(found, expected, strict=True))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 30), st.integers(0, 1000), st.sampled_from([0.3, 0.5, 0.7]), st.integers(1, 12))
def test_hard_suppression_agrees_with_torchvision(count, seed, iou_thresh, limit):
    boxes, scores, labels = candidates(count, seed)
    kept, left = NMS(iou_thresh).by_box(boxes, scores, labels, limit)
    assert torch.equal(kept, batched_nms(boxes, scores, labels, iou_thresh)[:limit])
    assert torch.equal(left, scores[kept])
    kept, left = ClassAgnosticNMS(iou_thresh).by_box(boxes, scores, labels, limit)
    assert torch.equal(kept, nms(boxes, scores, iou_thresh)[:limit])
    assert torch.equal(left, scores[kept])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 25), st.integers(0, 1000), st.sampled_from(["linear", "gaussian"]), st.integers(1, 12))
def test_soft_suppression_agrees_with_the_papers_loop(count, seed, method, limit):
    boxes, scores, labels = candidates(count, seed)
    decays = {
        "linear": lambda iou: 1 - iou if iou > 0.3 else 1,
        "gaussian": lambda iou: math.exp(-(iou**2) / 0.5),
    }
    expected = soft_nms_by_hand(boxes.tolist(), scores.tolist(), labels.tolist(), decays[method])
    expected = [pair for pair in expected if pair[0] >= 0.05][:limit]
    kept, left = SoftNMS(method, min_score=0.05).by_box(boxes, scores, labels, limit)
    assert left.tolist() == pytest.approx([score for score, _ in expected], rel=1e-4)
    assert kept.tolist() == [position for _, position in expected]


def test_soft_suppression_by_hand():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 5], [50, 50, 60, 60]])
    scores, labels = torch.tensor([0.9, 0.8, 0.7, 0.1]), torch.tensor([1, 1, 2, 1])
    kept, left = SoftNMS("linear").by_box(boxes, scores, labels, 10)  # the second overlaps the first by half
    assert kept.tolist() == [0, 2, 1, 3]
    assert left.tolist() == pytest.approx([0.9, 0.7, 0.4, 0.1])
    kept, left = SoftNMS("gaussian", sigma=0.5).by_box(boxes, scores, labels, 2)
    assert (kept.tolist(), left.tolist()) == ([0, 2], pytest.approx([0.9, 0.7]))
    assert SoftNMS("gaussian").by_box(boxes, scores, labels, 10)[1][2] == pytest.approx(0.8 * math.exp(-0.5))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 14), st.integers(0, 1000), st.booleans())
def test_mask_suppression_agrees_with_pycocotools_on_full_masks(count, seed, class_agnostic):
    boxes, scores, labels = candidates(count, seed)
    scores, order = scores.sort(descending=True)
    boxes, labels = boxes[order], labels[order]
    probs = torch.rand(count, 7, 7, generator=torch.Generator().manual_seed(seed)) + 0.2
    kept = MaskNMS(0.4, class_agnostic=class_agnostic).by_mask(boxes, scores, labels, probs, SIZE, 9)

    dense = paste_masks_in_image(probs[:, None], boxes, SIZE)[:, 0].numpy() > 0.5
    encoded = [coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in dense]
    expected: list[int] = []
    for i in range(count):
        rivals = [j for j in expected if class_agnostic or labels[i] == labels[j]]
        if not rivals or coco_mask.iou([encoded[i]], [encoded[j] for j in rivals], [0] * len(rivals)).max() <= 0.4:
            expected.append(i)
    assert kept.tolist() == expected[:9]


def test_overlap_of_masks_is_that_of_their_pixels():
    rng = np.random.default_rng(0)
    dense = rng.random((6, 12, 9)) < rng.uniform(0, 1, (6, 1, 1))
    dense[3] = False
    rles = []
    for mask in dense:
        rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
        rles.append({"size": [12, 9], "counts": rle["counts"].decode()})
    flat = dense.reshape(6, -1)
    unions = (flat[:, None] | flat).sum(-1)
    expected = (flat[:, None] & flat).sum(-1) / np.maximum(unions, 1)
    assert np.allclose(mask_iou(rles, rles), expected)
    assert mask_iou([], []).shape == (0, 0)
    assert suppress(np.zeros((0, 0)), np.zeros(0), 0.5).tolist() == []


def sticks():
    """Two crossed diagonals in one box, the first found twice, the second time as another class."""
    ramp = torch.arange(28)
    falling = ((ramp[:, None] - ramp).abs() < 4).float()
    probs = torch.stack([falling, falling.flip(-1), falling])
    boxes = torch.tensor([[10.0, 10, 50, 50]]).repeat(3, 1) + torch.tensor([[0.0], [1], [2]])
    return boxes, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([1, 1, 2]), probs


@pytest.mark.parametrize(
    ("name", "changes", "found"),
    [
        ("nms", {}, [0, 2]),  # loses a stick, reports the other twice
        ("class_agnostic", {}, [0]),
        ("mask", {"box_iou_thresh": 0.98}, [0, 1, 2]),
        ("mask_agnostic", {"box_iou_thresh": 0.98}, [0, 1]),  # what is there
    ],
)
def test_crossed_sticks(name, changes, found):
    suppression = part(name, **changes)
    boxes, scores, labels, probs = sticks()
    kept, scores = suppression.by_box(boxes, scores, labels, 10)
    last = suppression.by_mask(boxes[kept], scores, labels[kept], probs[kept], SIZE, 10)
    assert kept[last].tolist() == found


def test_scores_that_a_mask_predictor_changed_decide_who_stays():
    boxes, _, labels, probs = sticks()
    scores = torch.tensor([0.5, 0.8, 0.7])
    found = settle_masks(boxes, scores, labels, probs, SIZE, MaskNMS(class_agnostic=True), 10)
    assert found["scores"].tolist() == pytest.approx([0.8, 0.7])
    assert found["labels"].tolist() == [1, 2]
    assert torch.equal(found["mask_probs"], probs[[1, 2]])
    assert settle_masks(boxes, scores, labels, probs, SIZE, NMS(), 1)["scores"].tolist() == pytest.approx([0.8])


def test_masks_are_predicted_for_few_candidates_only():
    boxes, scores, labels = candidates(60, 5)
    kept, _ = MaskNMS(box_iou_thresh=0.99, candidates=1.5).by_box(boxes, scores, labels, 10)
    assert kept.tolist() == scores.argsort(descending=True)[:15].tolist()


@pytest.mark.parametrize("name", OPTIONS)
def test_the_contract_of_every_part(name):
    suppression = part(name)
    for count, limit in ((0, 5), (1, 5), (40, 6)):
        boxes, scores, labels = candidates(count, 8)
        before = scores.clone()
        kept, left = suppression.by_box(boxes, scores, labels, limit)
        assert torch.equal(scores, before), "what was handed in stays as it was"
        assert kept.dtype == torch.int64
        assert len(kept) == len(left) == len(kept.unique())
        assert (left <= scores[kept]).all()
        assert (left[:-1] >= left[1:]).all()
        probs = torch.rand(len(kept), 28, 28)
        last = suppression.by_mask(boxes[kept], left, labels[kept], probs, SIZE, limit)
        assert last.dtype == torch.int64
        assert len(last) <= limit
        assert (last[:-1] < last[1:]).all()
        assert (len(last) > 0) == (count > 0)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_model_carries_the_part_that_its_configuration_names(name):
    torch.manual_seed(0)
    model = build_model(config_of(name), 3, allowed=shipped_targets("model")).eval()
    model.roi_heads.score_thresh = 0.0
    image, _, _ = random_scene(64, 64, 3)
    with torch.inference_mode():
        (found,) = model([image])
    assert 1 <= len(found["scores"]) <= 7
    assert len({len(found[key]) for key in ("boxes", "labels", "scores", "mask_probs")}) == 1


def test_a_configuration_from_before_there_was_a_choice_is_plain():
    config = model_config("tiny", "model.roi_heads.nms_thresh=0.4")
    assert config["suppression"]["iou_thresh"] == 0.4
    del config["suppression"]
    suppression = build_model(config, 2).roi_heads.suppression
    assert (type(suppression), suppression.iou_thresh) == (NMS, 0.4)


@pytest.mark.parametrize("changes", [{"method": "hard"}, {"sigma": 0.0}])
def test_values_that_cannot_be_are_named(changes):
    with pytest.raises(ConfigError, match=next(iter(changes))):
        part("soft_gaussian", **changes)


def test_masks_are_compared_at_the_size_of_the_model(monkeypatch):
    sizes = []
    monkeypatch.setattr(
        "finemask.model.suppression.masks_to_rles",
        lambda probs, boxes, size: sizes.append(size) or masks_to_rles(probs, boxes, size),
    )
    model = build_model(config_of("mask"), 2).eval()
    with torch.inference_mode():
        model([torch.zeros(3, 40, 80, dtype=torch.uint8)])
    assert sizes == [(96, 192)]

"""Overlaps of a batch against those of one image after another."""

import pytest
import torch
from model_cases import random_scene
from torchvision.ops import batched_nms, box_iou, nms

from finemask.model.devices.gpu import batched_overlaps as overlaps
from finemask.model.devices.gpu.batched_overlaps import batched_iou, match_batch, suppress_batch
from finemask.model.devices.gpu.truths import truths_of
from finemask.ops.box_ops import match_boxes


def random_boxes(count, seed, side=60.0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * side
    return torch.cat([corner, corner + 1 + torch.rand(count, 2, generator=generator) * side / 2], dim=1)


def test_iou_is_torchvisions():
    some, others = (torch.stack([random_boxes(n, seed) for seed in seeds]) for n, seeds in ((7, (1, 2)), (9, (3, 4))))
    found = batched_iou(some, others)
    for number in range(2):
        assert torch.allclose(found[number], box_iou(some[number], others[number]), atol=1e-6)


@pytest.mark.parametrize("at_once", [2**27, 100])
@pytest.mark.parametrize("keep_best", [False, True])
def test_matching_is_that_of_each_image(monkeypatch, at_once, keep_best):
    monkeypatch.setattr(overlaps, "_PAIRS_AT_ONCE", at_once)
    targets = [random_scene(60, 60, count, seed)[1] for seed, count in enumerate((4, 0, 9))]
    truths = truths_of(targets, [(60, 60)] * 3)
    boxes = torch.stack([random_boxes(50, seed) for seed in range(3)])
    boxes[0, :4] = targets[0]["boxes"]
    matched, kinds = match_batch(boxes, truths, 0.5, 0.2, keep_best=keep_best)
    assert {-1, 0, 1} == set(kinds.unique().tolist())
    for number, target in enumerate(targets):
        expected_idxs, expected = match_boxes(boxes[number], target["boxes"], 0.5, 0.2, keep_best=keep_best)
        assert kinds[number].tolist() == expected.tolist()
        positive = expected > 0
        assert matched[number][positive].tolist() == expected_idxs[positive].tolist()


@pytest.mark.parametrize("at_once", [2**27, 100])
def test_suppression_is_torchvisions_in_each_group(monkeypatch, at_once):
    monkeypatch.setattr(overlaps, "_PAIRS_AT_ONCE", at_once)
    boxes = torch.stack([random_boxes(120, seed) for seed in range(4)])
    scores = torch.arange(120, 0, -1).float()
    valid = torch.rand(4, 120, generator=torch.Generator().manual_seed(1)) < 0.8
    labels = torch.randint(1, 4, (4, 120), generator=torch.Generator().manual_seed(2))
    plain, by_label = suppress_batch(boxes, valid, 0.4), suppress_batch(boxes, valid, 0.4, labels)
    assert plain.is_final
    assert by_label.is_final
    for number in range(4):
        there = torch.where(valid[number])[0]
        alone = nms(boxes[number, there], scores[there], 0.4)
        assert torch.where(plain.kept[number])[0].tolist() == there[alone].tolist()
        of_labels = batched_nms(boxes[number, there], scores[there], labels[number, there], 0.4)
        assert torch.where(by_label.kept[number])[0].tolist() == there[of_labels].tolist()


def test_a_long_chain_is_not_called_final_before_it_is():
    # Each box overlaps the next too much, and none after that: every second one stays.
    left = torch.arange(0.0, 80.0, 2.0)
    boxes = torch.stack([left, torch.zeros(40), left + 5, torch.ones(40)], dim=1)[None]
    suppressed = suppress_batch(boxes, torch.ones(1, 40, dtype=torch.bool), 0.4, rounds=3)
    assert not suppressed.is_final
    expected = nms(boxes[0], torch.arange(40, 0, -1).float(), 0.4)
    assert torch.where(suppressed.finish()[0])[0].tolist() == expected.tolist() == list(range(0, 40, 2))

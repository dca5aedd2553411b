"""Instances keep their tag through augmentations that move, drop and add them."""

import numpy as np
import pytest
import torch
from stats_data import rectangle, write_coco

from finemask.coco.index import CocoIndex
from finemask.data.augmentation import NoAugmentation, PerImage
from finemask.data.dataset import InstanceDataset
from finemask.datatools.views import Tracing
from finemask.ops.layers import layers_to_masks

HW = (40, 60)
MASKS = [rectangle(HW, 0, 0, 10, 10), rectangle(HW, 20, 5, 30, 35), rectangle(HW, 50, 20, 60, 40)]


class CutsOffLeft:
    """Blackens the left third and mirrors the rest."""

    def __call__(self, image, layers, rng):
        layers = layers.copy()
        layers[:, :, :20] = 0
        return image, np.ascontiguousarray(layers[:, :, ::-1])


class Pastes:
    """Adds all instances of another image."""

    def augment_scene(self, scene, draw, rng):
        other = draw(rng)
        slots = other.slots + np.array([len(scene.layers), 0])
        return scene._replace(
            layers=np.concatenate([scene.layers, other.layers]),
            slots=np.concatenate([scene.slots, slots]),
            labels=np.concatenate([scene.labels, other.labels]),
        )


@pytest.fixture
def index(tmp_path):
    write_coco(tmp_path, [HW, HW], [(0, "aba"[k], mask) for k, mask in enumerate(MASKS)])
    return CocoIndex.read(tmp_path / "annotations" / "train.json", tmp_path / "images")


def traced(index, augment):
    tracing = Tracing(augment)
    dataset = InstanceDataset(index, tracing)
    _, target = dataset[0, 0]
    return tracing, target, layers_to_masks(target["layers"], target["slots"])


def test_tags_number_the_instances_of_the_file(index):
    tracing, target, masks = traced(index, PerImage(NoAugmentation()))
    assert target["labels"].tolist() == [1, 2, 3]
    assert tracing.labels == [1, 2, 1]
    assert torch.equal(masks, torch.from_numpy(np.array(MASKS)))


def test_those_that_are_left_keep_their_tags(index):
    tracing, target, masks = traced(index, PerImage(CutsOffLeft()))
    assert target["labels"].tolist() == [2, 3]
    for tag, mask in zip(target["labels"].tolist(), masks, strict=True):
        assert np.array_equal(mask, MASKS[tag - 1][:, ::-1])
    assert tracing.num_own == 3


def test_those_of_other_images_follow(index):
    tracing, target, _ = traced(index, Pastes())
    assert target["labels"].tolist() == [1, 2, 3, 4, 5, 6]
    assert tracing.labels == [1, 2, 1, 1, 2, 1]
    assert tracing.num_own == 3


def test_tracing_changes_nothing_else(index):
    plain = InstanceDataset(index, Pastes(), seed=3)[0, 1][1]
    seen = InstanceDataset(index, Tracing(Pastes()), seed=3)[0, 1][1]
    assert torch.equal(plain["layers"], seen["layers"])
    assert torch.equal(plain["boxes"], seen["boxes"])


def test_each_scene_starts_anew(index):
    tracing = Tracing(Pastes())
    dataset = InstanceDataset(index, tracing)
    for _ in range(2):
        assert dataset[0, 0][1]["labels"].tolist() == [1, 2, 3, 4, 5, 6]
    assert len(tracing.labels) == 6

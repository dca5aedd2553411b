"""The drawn scenes are what they say, and a dataset of them is a valid one."""

import torch
from pycocotools.coco import COCO

from finemask.bench.scenes import dense_target, proposals_around, scene, write_scenes
from finemask.coco.index import CocoIndex


def test_a_scene_is_the_same_every_time_and_its_target_agrees_with_itself():
    image, target = scene(60, 80, 5, seed=3, num_categories=4)
    again, _ = scene(60, 80, 5, seed=3, num_categories=4)
    assert torch.equal(image, again)
    assert image.shape == (3, 60, 80)
    dense = dense_target(target)
    assert dense["masks"].shape == (5, 60, 80)
    assert ((target["labels"] >= 1) & (target["labels"] <= 4)).all()
    for mask, box in zip(dense["masks"], target["boxes"], strict=True):
        rows, columns = torch.where(mask > 0)
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_proposals_lie_in_the_image_and_overlap_their_objects():
    _, target = scene(60, 80, 4, seed=1)
    proposals = proposals_around(target["boxes"], 8, (60, 80), seed=0)
    assert proposals.shape == (32, 4)
    assert (proposals >= 0).all()
    assert (proposals[:, 2] <= 80).all()
    assert (proposals[:, 3] <= 60).all()


def test_a_dataset_of_scenes_opens_here_and_in_pycocotools(tmp_path):
    write_scenes(tmp_path, images=3, height=48, width=64, objects=2, split="val")
    path = tmp_path / "annotations" / "val.json"
    index = CocoIndex.read(path, tmp_path / "images")
    assert len(index) == 3
    assert index.num_instances == 6
    reference = COCO(str(path))
    for annotation in reference.anns.values():
        assert reference.annToMask(annotation).sum() == annotation["area"]

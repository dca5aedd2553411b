"""Scenes of scripts/pretrain_light.py: what lies in front hides what is behind, and labels say what is in sight."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from model_cases import model_config

from finemask.model.build import build_model

_SCRIPT = Path(__file__).parent.parent / "scripts" / "pretrain_light.py"
_SPEC = importlib.util.spec_from_file_location("pretrain_light", _SCRIPT)
assert _SPEC is not None
assert _SPEC.loader is not None
pretraining = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(pretraining)


def disc(colour: tuple[int, int, int], side: int = 60) -> np.ndarray:
    """A cut-out: an opaque disc in a transparent square."""
    picture = np.zeros((side, side, 4), np.uint8)
    picture[..., :3] = colour
    cv2.circle(picture, (side // 2, side // 2), side // 2 - 2, (*colour, 255), -1)
    return picture


@pytest.fixture
def dataset(tmp_path):
    """Three photographs, each with an object; one may be shared alike only, one has its object at the border."""
    (tmp_path / "images").mkdir()
    (tmp_path / "annotations").mkdir()
    images, annotations = [], []
    for number, (left, licence) in enumerate([(20, 1), (20, 2), (0, 1)], start=1):
        picture = np.full((100, 120, 3), 40, np.uint8)
        picture[30:70, left : left + 40] = (0, 0, 250)
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), picture)
        images.append({"id": number, "file_name": f"{number}.png", "width": 120, "height": 100, "license": licence})
        outline = [left, 30, left + 40, 30, left + 40, 70, left, 70]
        box = {"bbox": [left, 30, 40, 40], "area": 1600}
        annotations.append(
            {"id": number, "image_id": number, "category_id": 7, "segmentation": [outline], "iscrowd": 0, **box}
        )
    licences = [{"id": 1, "name": "Attribution License"}, {"id": 2, "name": "Attribution-ShareAlike License"}]
    document = {"images": images, "annotations": annotations, "categories": [{"id": 7, "name": "box"}]}
    (tmp_path / "annotations" / "train.json").write_text(json.dumps({**document, "licenses": licences}))
    return tmp_path


def test_images_whose_licence_restricts_what_is_made_of_them_are_left_out(dataset):
    assert [photo.path.name for photo in pretraining.photos_of(dataset)] == ["1.png", "3.png"]


def test_a_cutout_is_an_object_that_lies_wholly_inside_its_image(dataset):
    photos = pretraining.photos_of(dataset)
    ((cutout, kind),) = pretraining.cutouts_of_photos(photos, np.random.default_rng(0))  # the other may go on outside
    assert kind == f"{dataset.name}: box"
    assert cutout.shape == (40, 40, 4)
    assert (cutout == (0, 0, 250, 255)).all()


def test_a_dataset_of_few_photographs_is_behind_as_many_scenes_as_one_of_many(dataset):
    (many, _) = pretraining.photos_of(dataset)
    few = replace(many, dataset="few")
    rng = np.random.default_rng(0)
    drawn = [pretraining.background([many] * 30 + [few], rng)[1] for _ in range(300)]
    kinds = [things[0][1] for things in drawn if things]
    assert 0.35 < sum(kind == "few: box" for kind in kinds) / len(kinds) < 0.65


def test_what_is_pasted_hides_what_is_behind_and_shows_its_own_colour():
    canvas = np.zeros((80, 80, 3), np.float32)
    behind = np.zeros((80, 80), np.bool_)
    behind[20:60, 20:60] = True
    part = disc((10, 200, 30), 40)
    rng = np.random.default_rng(3)  # with a hard edge
    canvas, things = pretraining.pasted(canvas, [(behind, "wall")], (part, "disc"), (40, 40), rng)
    (hidden, _), (front, _) = things
    assert [kind for _, kind in things] == ["wall", "disc"]
    opaque = np.zeros((80, 80), np.bool_)
    opaque[40:, 40:] = part[..., 3] > 127
    assert np.array_equal(front, opaque)
    assert np.array_equal(hidden, behind & ~opaque)
    assert np.allclose(canvas[60, 60], (10, 200, 30))
    assert np.allclose(canvas[10, 10], 0)


@pytest.mark.parametrize("seed", range(6))
def test_no_pixel_of_a_scene_belongs_to_two_objects(dataset, seed):
    photos = pretraining.photos_of(dataset)
    cutouts = [(disc((200, 30, 30)), "blue"), (disc((20, 230, 90), 200), "green")]
    picture, things = pretraining.scene(cutouts, photos, np.random.default_rng(seed))
    masks = [mask for mask, _ in things]
    assert picture.dtype == np.uint8
    assert masks
    assert {mask.shape for mask in masks} == {picture.shape[:2]}
    assert np.sum(masks, axis=0).max() <= 1


def test_a_written_dataset_holds_what_was_drawn(tmp_path):
    mask = np.zeros((50, 40), np.bool_)
    mask[5:25, 10:30] = True
    speck = np.zeros_like(mask)
    speck[0, :3] = True
    picture = np.full((50, 40, 3), 90, np.uint8)
    drawn = [(picture, [(mask, "b")]), (picture, [(mask, "a"), (speck, "b")])]
    pretraining.write_dataset(tmp_path, "train", ["a", "b"], iter(drawn), 0)
    document = json.loads((tmp_path / "annotations" / "train.json").read_text())
    assert [each["image_id"] for each in document["annotations"]] == [1, 2]  # the speck is too little to learn
    assert [each["category_id"] for each in document["annotations"]] == [2, 1]
    assert document["annotations"][0]["bbox"] == [10, 5, 20, 20]
    assert document["annotations"][0]["area"] == mask.sum()
    assert {each["file_name"] for each in document["images"]} == {path.name for path in (tmp_path / "images").iterdir()}


def test_tied_rows_begin_alike_and_take_the_same_steps():
    model = build_model(model_config("tiny"), num_classes=4)
    module = torch.nn.Module()
    module.model = model
    tie = pretraining.TiedRows()
    tie.on_fit_start(None, module)
    layers = [model.roi_heads.box_predictor.bbox_pred, model.roi_heads.mask_predictor.mask_fcn_logits]
    optimizer = torch.optim.AdamW([p for layer in layers for p in layer.parameters()], lr=0.1)
    before = [layer.weight.detach().clone() for layer in layers]
    for _ in range(3):
        for layer in layers:
            for parameter in layer.parameters():
                parameter.grad = torch.randn_like(parameter)
        tie.on_before_optimizer_step(None, module, optimizer)
        optimizer.step()
    for layer, each, old in zip(layers, (4, 1), before, strict=True):
        rows = layer.weight.detach().view(4, each, *layer.weight.shape[1:])
        assert torch.equal(rows[1], rows[2])
        assert torch.equal(rows[1], rows[3])
        assert not torch.equal(rows[0], rows[1])
        assert not torch.equal(layer.weight, old)

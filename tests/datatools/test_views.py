"""Pictures of samples: back from tensors without loss, masks where they are, crowds in grey."""

import numpy as np
import pytest
import torch
from stats_data import rectangle, write_coco

from finemask.coco.index import CocoIndex
from finemask.data.augmentation import NoAugmentation, PerImage
from finemask.data.dataset import InstanceDataset
from finemask.datatools.views import Tracing, View, draw_view, load_view, view_of_tensors
from finemask.model.mask_rcnn import ImageTransform
from finemask.ops.layers import layers_to_masks, masks_to_layers
from finemask.types import Preprocessing, Target

HW = (60, 80)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def view(image, masks, keys=None, crowd=None):
    layers, slots = masks_to_layers(torch.from_numpy(np.array(masks).reshape(-1, *image.shape[:2])))
    return View(image, layers.numpy(), slots.numpy(), keys or list(range(len(slots))), crowd)


@pytest.fixture
def index(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (*HW, 3), dtype=np.uint8)
    masks = [rectangle(HW, 5, 5, 25, 25), rectangle(HW, 20, 20, 60, 50), np.zeros(HW, np.bool_)]
    crowd = rectangle(HW, 60, 0, 80, 10)
    write_coco(tmp_path, [image], [(0, "ab"[k % 2], mask) for k, mask in enumerate(masks)], crowds=[(0, "a", crowd)])
    return CocoIndex.read(tmp_path / "annotations" / "train.json", tmp_path / "images")


def test_what_is_on_disk_is_what_the_dataset_loads_and_the_crowds(index):
    stored = load_view(index, 0)
    image, target = InstanceDataset(index, min_visible_px=1)[0]
    assert np.array_equal(stored.image, image.permute(1, 2, 0))
    assert stored.keys == target["labels"].tolist() == [1, 2]
    ours = layers_to_masks(torch.from_numpy(stored.layers), torch.from_numpy(stored.slots))
    assert torch.equal(ours, layers_to_masks(target["layers"], target["slots"]))
    assert np.array_equal(stored.crowd, rectangle(HW, 60, 0, 80, 10))


def test_tensors_of_the_models_own_transform_turn_back_into_the_image(index):
    """At its own size nothing may differ but rounding; the target is that of the model."""
    image, target = InstanceDataset(index)[0]
    transform = ImageTransform(Preprocessing((60,), 80, MEAN, STD))
    batch, (resized,) = transform([image], [target])
    seen = view_of_tensors(batch.tensors[0, :, :60, :80], resized, mean=MEAN, std=STD, keys=[1, 2])
    assert np.array_equal(seen.image, image.permute(1, 2, 0).numpy())
    assert np.array_equal(seen.layers, target["layers"].numpy())


def test_values_beyond_black_and_white_are_cut_off():
    target = Target(
        boxes=torch.zeros(0, 4),
        labels=torch.zeros(0, dtype=torch.int64),
        layers=torch.zeros(1, 2, 2, dtype=torch.uint8),
        slots=torch.zeros(0, 2, dtype=torch.int64),
        image_id=1,
    )
    pixels = torch.tensor([-9.0, 9.0]).expand(3, 2, 2)
    seen = view_of_tensors(pixels, target, mean=MEAN, std=STD, keys=[])
    assert seen.image[:, 0].max() == 0
    assert seen.image[:, 1].min() == 255


@pytest.mark.parametrize(
    ("hw", "cell_wh"), [((60, 80), (460, 345)), ((200, 100), (460, 345)), ((900, 1200), (400, 400))]
)
def test_a_view_fills_its_cell_and_keeps_its_proportions(hw, cell_wh):
    drawn = draw_view(view(np.zeros((*hw, 3), np.uint8), [rectangle(hw, 5, 5, 20, 20)]), cell_wh)
    assert drawn.width == cell_wh[0] or drawn.height == cell_wh[1]
    assert drawn.width <= cell_wh[0]
    assert drawn.height <= cell_wh[1]
    assert drawn.width / drawn.height == pytest.approx(hw[1] / hw[0], rel=0.01)


def test_masks_are_drawn_where_they_are_and_in_the_colours_of_their_keys():
    left, right = rectangle(HW, 10, 10, 30, 50), rectangle(HW, 50, 10, 70, 50)
    picture = np.asarray(draw_view(view(np.zeros((*HW, 3), np.uint8), [left, right], [3, 3]), (480, 360))).astype(int)
    inside = [picture[180, x] for x in (120, 360)]
    assert (inside[0] == inside[1]).all()
    assert inside[0].sum() > 60
    assert picture[180, 240].sum() == picture[20, 120].sum() == 0
    other = np.asarray(draw_view(view(np.zeros((*HW, 3), np.uint8), [left, right], [3, 4]), (480, 360))).astype(int)
    assert (other[180, 120] == inside[0]).all()
    assert not (other[180, 360] == inside[1]).all()


def test_crowds_are_striped_grey():
    crowd = rectangle(HW, 0, 0, 40, 60)
    picture = np.asarray(draw_view(view(np.zeros((*HW, 3), np.uint8), [], crowd=crowd), (480, 360)))
    striped, free = picture[:, :230], picture[:, 250:]
    assert not free.any()
    assert 0.4 < striped.any(axis=2).mean() < 0.6
    assert (striped[..., 0] == striped[..., 2]).all()


def test_an_image_without_instances_is_drawn_as_it_is():
    image = np.full((*HW, 3), 77, np.uint8)
    assert (np.asarray(draw_view(view(image, []), (480, 360))) == 77).all()


def test_instances_that_vanish_at_the_size_of_a_cell_do_no_harm():
    hw = (1000, 1000)
    draw_view(view(np.zeros((*hw, 3), np.uint8), [rectangle(hw, 501, 501, 502, 502)]), (100, 100))


# --- instances keep their tag through augmentations that move, drop and add them

SMALL_HW = (40, 60)
MASKS = [rectangle(SMALL_HW, 0, 0, 10, 10), rectangle(SMALL_HW, 20, 5, 30, 35), rectangle(SMALL_HW, 50, 20, 60, 40)]


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
def traced_index(tmp_path):
    write_coco(tmp_path, [SMALL_HW, SMALL_HW], [(0, "aba"[k], mask) for k, mask in enumerate(MASKS)])
    return CocoIndex.read(tmp_path / "annotations" / "train.json", tmp_path / "images")


def traced(index, augment):
    tracing = Tracing(augment)
    dataset = InstanceDataset(index, tracing)
    _, target = dataset[0, 0]
    return tracing, target, layers_to_masks(target["layers"], target["slots"])


def test_tags_number_the_instances_of_the_file(traced_index):
    tracing, target, masks = traced(traced_index, PerImage(NoAugmentation()))
    assert target["labels"].tolist() == [1, 2, 3]
    assert tracing.labels == [1, 2, 1]
    assert torch.equal(masks, torch.from_numpy(np.array(MASKS)))


def test_those_that_are_left_keep_their_tags(traced_index):
    tracing, target, masks = traced(traced_index, PerImage(CutsOffLeft()))
    assert target["labels"].tolist() == [2, 3]
    for tag, mask in zip(target["labels"].tolist(), masks, strict=True):
        assert np.array_equal(mask, MASKS[tag - 1][:, ::-1])
    assert tracing.num_own == 3


def test_those_of_other_images_follow(traced_index):
    tracing, target, _ = traced(traced_index, Pastes())
    assert target["labels"].tolist() == [1, 2, 3, 4, 5, 6]
    assert tracing.labels == [1, 2, 1, 1, 2, 1]
    assert tracing.num_own == 3


def test_tracing_changes_nothing_else(traced_index):
    plain = InstanceDataset(traced_index, Pastes(), seed=3)[0, 1][1]
    seen = InstanceDataset(traced_index, Tracing(Pastes()), seed=3)[0, 1][1]
    assert torch.equal(plain["layers"], seen["layers"])
    assert torch.equal(plain["boxes"], seen["boxes"])


def test_each_scene_starts_anew(traced_index):
    tracing = Tracing(Pastes())
    dataset = InstanceDataset(traced_index, tracing)
    for _ in range(2):
        assert dataset[0, 0][1]["labels"].tolist() == [1, 2, 3, 4, 5, 6]
    assert len(tracing.labels) == 6

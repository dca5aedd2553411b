"""Copy-paste against a slow dense reference, pixel by pixel, and against pixels that know where they come from."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from traced_scenes import coordinates, masks_of, never_drawn, random_scene, scene_of

from finemask.coco.index import CocoIndex
from finemask.data.dataset import InstanceDataset
from finemask.data.image_mixing import CopyPaste, paste
from finemask.errors import ConfigError
from finemask.ops.layers import boxes_and_areas_from_layers


def slow_paste(image, masks, other, other_masks, x0, y0):
    """One pixel after the other: what is pasted shows, and takes the pixel from every mask there was."""
    image, masks = image.copy(), masks.copy()
    pasted = np.zeros((len(other_masks), *image.shape[:2]), dtype=bool)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            v, u = y - y0, x - x0
            if 0 <= v < other.shape[0] and 0 <= u < other.shape[1] and any(mask[v, u] for mask in other_masks):
                image[y, x] = other[v, u]
                masks[:, y, x] = False
                pasted[:, y, x] = [mask[v, u] for mask in other_masks]
    return image, np.concatenate([masks, pasted])


def slow_box(mask):
    points = [(y, x) for y in range(mask.shape[0]) for x in range(mask.shape[1]) if mask[y, x]]
    if not points:
        return [0, 0, 0, 0]
    ys, xs = zip(*points, strict=True)
    return [min(xs), min(ys), max(xs) + 1, max(ys) + 1]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 7), st.lists(st.integers(0, 6), min_size=1, max_size=3))
def test_agrees_with_the_dense_reference(seed, num_below, numbers_above):
    """Visible pixels, order of occlusion over several pastes, boxes, and the image itself."""
    rng = np.random.default_rng(seed)
    scene, masks = random_scene(rng, 12, 15, num_below)
    image, labels = scene.image, scene.labels.tolist()
    for source, number in enumerate(numbers_above, start=1):
        h, w = int(rng.integers(1, 20)), int(rng.integers(1, 20))
        x0, y0 = int(rng.integers(1 - w, 15)), int(rng.integers(1 - h, 12))
        above, above_masks = random_scene(rng, h, w, number, source)
        chosen = np.flatnonzero(rng.random(number) < 0.7)
        scene = paste(scene, above, chosen, x0, y0)
        image, masks = slow_paste(image, masks, above.image, above_masks[chosen], x0, y0)
        labels += above.labels[chosen].tolist()
    np.testing.assert_array_equal(scene.image, image)
    np.testing.assert_array_equal(masks_of(scene), masks)
    assert np.count_nonzero(scene.layers) == masks.sum()
    assert scene.labels.tolist() == labels
    boxes, areas = boxes_and_areas_from_layers(scene.layers, scene.slots)
    assert boxes.tolist() == [slow_box(mask) for mask in masks]
    assert areas.tolist() == [int(mask.sum()) for mask in masks]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(0, 8),
    st.lists(st.tuples(st.integers(4, 24), st.integers(4, 24), st.integers(0, 8)), min_size=1, max_size=3),
    st.sampled_from([0.0, 0.1, 0.5, 1.0]),
)
def test_every_pixel_belongs_to_whom_it_shows(seed, num_below, sources, min_visible):
    """Each pixel of the result says which image it is of and where there, so it tells which masks it must be in."""
    rng = np.random.default_rng(seed)
    scene, masks = random_scene(rng, 16, 14, num_below)
    others = [random_scene(rng, h, w, number, source) for source, (h, w, number) in enumerate(sources, start=1)]
    waiting = iter(others)
    augment = CopyPaste(probability=1.0, images=len(sources), min_visible=min_visible)
    result = augment.augment_scene(scene, lambda rng: next(waiting)[0], rng)
    assert next(waiting, None) is None
    shown, kept = result.image[:, :, 0], dict(zip(result.labels.tolist(), masks_of(result), strict=True))
    for source, (_, whole) in enumerate([(scene, masks), *others]):
        here = shown == source
        y, x = np.nonzero(here)
        moved = np.zeros((len(whole), 16, 14), dtype=bool)  # the masks of the source where the result shows it
        if y.size:
            v, u = result.image[y, x, 1].astype(int), result.image[y, x, 2].astype(int)
            assert len(np.unique(np.stack([y - v, x - u]), axis=1).T) == 1, "shifted as one"
            moved[:, y, x] = whole[:, v, u]
        for k, mask in enumerate(moved):
            label = 1000 * source + k
            if label in kept:
                np.testing.assert_array_equal(kept.pop(label), mask)
                assert mask.sum() >= max(1, min_visible * whole[k].sum())
            elif source == 0 and whole[k].any():
                assert mask.sum() == 0 or mask.sum() < min_visible * whole[k].sum()
        if source and y.size:
            assert moved.any(axis=0)[here].all(), "only instances are pasted"
    assert kept == {}


def test_slivers_go():
    image = np.zeros((10, 10, 3), np.uint8)
    wide = np.zeros((2, 10, 10), bool)
    wide[0, 2:4, :] = True  # 20 px, of which 1 will stay
    wide[1, 6:8, :] = True  # 20 px, of which 4 will stay
    over = np.zeros((1, 10, 10), bool)
    over[0, 2:4, :] = over[0, 6:8, 2:] = True
    over[0, 3, 9] = False
    augment = CopyPaste(probability=1.0, min_visible=0.2)
    out = augment.augment_scene(
        scene_of(image, wide, [1, 2]), lambda rng: scene_of(image + 9, over, [3]), np.random.default_rng(0)
    )
    assert out.labels.tolist() == [2, 3]
    assert masks_of(out).sum(axis=(1, 2)).tolist() == [4, 35]
    assert np.count_nonzero(out.layers) == 39
    assert out.image[2, 0].tolist() == [9, 9, 9]  # it hides, whether or not what it hides is trained on


def test_an_object_that_the_frame_would_cut_to_a_sliver_is_not_pasted():
    above = scene_of(np.full((4, 40, 3), 200, np.uint8), np.ones((1, 4, 40), bool), [5])
    below = scene_of(np.zeros((4, 4, 3), np.uint8), np.zeros((0, 4, 4), bool), [])
    for seed in range(10):
        rng = np.random.default_rng(seed)
        assert CopyPaste(1.0, min_visible=0.2).augment_scene(below, lambda rng: above, rng).labels.size == 0
        assert CopyPaste(1.0, min_visible=0.1).augment_scene(below, lambda rng: above, rng).labels.tolist() == [5]


def test_nothing_to_paste_and_nothing_to_paste_into():
    rng = np.random.default_rng(0)
    full, _ = random_scene(rng, 8, 8, 5)
    empty, _ = random_scene(rng, 8, 8, 0)
    augment = CopyPaste(probability=1.0)
    out = augment.augment_scene(full, lambda rng: empty, rng)
    np.testing.assert_array_equal(out.image, full.image)
    visible = [k for k, mask in enumerate(masks_of(full)) if mask.any()]
    assert out.labels.tolist() == full.labels[visible].tolist()
    out = augment.augment_scene(empty, lambda rng: empty, rng)
    assert out.layers.shape == (1, 8, 8)
    assert out.slots.shape == (0, 2)
    assert CopyPaste(probability=0.0).augment_scene(full, never_drawn, rng) is full


def test_number_and_choice_are_drawn():
    masks = np.eye(12, dtype=bool).reshape(12, 3, 4)
    above = scene_of(np.zeros((3, 4, 3), np.uint8), masks, np.arange(12))
    below = scene_of(np.zeros((3, 4, 3), np.uint8), masks[:0], [])
    rng = np.random.default_rng(0)
    draws = [CopyPaste(1.0, max_instances=5).augment_scene(below, lambda rng: above, rng).labels for _ in range(200)]
    assert {len(labels) for labels in draws} == {1, 2, 3, 4, 5}
    assert set(np.concatenate(draws).tolist()) == set(range(12))
    assert max(len(CopyPaste(1.0).augment_scene(below, lambda rng: above, rng).labels) for _ in range(60)) == 12
    pasted = sum(bool(CopyPaste(0.25).augment_scene(below, lambda rng: above, rng).labels.size) for _ in range(400))
    assert 70 < pasted < 130


def test_hundreds_onto_hundreds():
    masks = np.eye(400, dtype=bool).reshape(400, 20, 20)
    scene = scene_of(coordinates(20, 20, 0), masks, np.arange(400))
    other = scene_of(coordinates(20, 20, 1), masks, 1000 + np.arange(400))
    rng = np.random.default_rng(4)
    out = CopyPaste(1.0, images=2, max_instances=400).augment_scene(scene, lambda rng: other, rng)
    assert len(out.labels) == 400  # every pixel is one instance, whoever's it is
    assert 0 < (out.labels >= 1000).sum() < 400
    np.testing.assert_array_equal(masks_of(out).sum(axis=(1, 2)), 1)
    np.testing.assert_array_equal(masks_of(out)[out.labels >= 1000].any(axis=0), out.image[:, :, 0] == 1)


def test_blending_softens_the_image_and_leaves_the_masks():
    below = scene_of(np.zeros((40, 40, 3), np.uint8), np.zeros((0, 40, 40), bool), [])
    mask = np.zeros((1, 40, 40), bool)
    mask[0, 10:30, 10:30] = True
    above = scene_of(np.full((40, 40, 3), 200, np.uint8), mask, [1])
    hard, soft = (paste(below, above, np.array([0]), blend_px=sigma) for sigma in (0.0, 1.5))
    np.testing.assert_array_equal(hard.layers, soft.layers)
    np.testing.assert_array_equal(np.unique(hard.image), [0, 200])
    row = soft.image[20, :21, 0].astype(int)
    assert (np.diff(row) >= 0).all()
    assert row[:5].max() == 0
    assert row[15:].min() == 200
    assert 60 < row[9] < 100 < row[10] < 140
    below_nothing = paste(below, above, np.zeros(0, np.int64), blend_px=2.0)
    np.testing.assert_array_equal(below_nothing.image, below.image)


def test_crowds_are_never_pasted_and_may_be_pasted_over(write_dataset, document):
    """Image 7 holds a crowd; image 3 a square that hides part of where that crowd is."""
    document["annotations"].append(
        {"id": 60, "image_id": 7, "category_id": 4, "segmentation": [[0, 7, 3, 7, 3, 10, 0, 10]]}
    )
    index = CocoIndex.read(*write_dataset(document))
    plain = InstanceDataset(index, min_visible_px=1)
    crowd_colour, square_colour = (int(np.asarray(Image.open(index.image_path(i)))[0, 0, 0]) for i in (0, 1))
    assert crowd_colour != square_colour
    dataset = InstanceDataset(index, CopyPaste(1.0), min_visible_px=1)
    crowd = index.instances(0)
    assert crowd.iscrowd.sum() == 1
    own, pasted_over = plain[1][1], 0
    for epoch in range(40):
        image, target = dataset[(epoch, 1)]
        foreign = (image[0] != square_colour).numpy()
        pasted = target["labels"].tolist()[1:] if foreign.any() else []
        owned = np.zeros(foreign.shape, bool)
        for layer, value in target["slots"].tolist():
            owned |= (target["layers"][layer] == value).numpy()
        assert owned[foreign].all(), epoch  # every foreign pixel belongs to an instance, so none is the crowd's
        assert len(pasted) <= 3
        image, target = dataset[(epoch, 0)]
        pasted_over += int((image[0, 2:5, 8:10] == square_colour).any())
    assert own["labels"].tolist() == [2]
    assert pasted_over > 5


def test_wrong_values_are_named():
    for wrong in (
        {"probability": 1.5},
        {"probability": True},
        {"images": 0},
        {"max_instances": 2.5},
        {"min_visible": -0.1},
        {"blend_px": "much"},
    ):
        with pytest.raises(ConfigError, match=f"{next(iter(wrong))} of CopyPaste"):
            CopyPaste(**wrong)

"""Label maps edited as a whole agree with dense masks edited one by one."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from traced_scenes import masks_of, random_scene, scene_of

from finemask.data.augmentation import Scene
from finemask.data.layer_edits import compact, paste_layers


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 9), st.integers(0, 9))
def test_pasting_agrees_with_dense_masks(seed, num_below, num_above):
    rng = np.random.default_rng(seed)
    below, masks = random_scene(rng, 13, 17, num_below)
    h, w = rng.integers(1, 14), rng.integers(1, 18)
    y0, x0 = rng.integers(0, 14 - h), rng.integers(0, 18 - w)
    above, above_masks = random_scene(rng, h, w, num_above)
    chosen = np.flatnonzero(rng.random(num_above) < 0.6)
    before = below.layers.copy()
    layers, pasted, covered = paste_layers(below.layers, below.slots, above.layers, above.slots[chosen], x0, y0)
    np.testing.assert_array_equal(below.layers, before)
    on_top = above_masks[chosen].any(axis=0) if chosen.size else np.zeros((h, w), bool)
    np.testing.assert_array_equal(covered, np.where(on_top, 255, 0))
    expected = masks.copy()
    expected[:, y0 : y0 + h, x0 : x0 + w] &= ~on_top
    placed = np.zeros((chosen.size, 13, 17), bool)
    placed[:, y0 : y0 + h, x0 : x0 + w] = above_masks[chosen]
    found = Scene(below.image, layers, np.concatenate([below.slots, pasted]), below.labels)
    np.testing.assert_array_equal(masks_of(found), np.concatenate([expected, placed]))
    assert np.count_nonzero(layers) == expected.sum() + placed.sum()  # nothing is left of what was not chosen


def test_full_layers_open_new_ones():
    """300 instances of one pixel on 300 others: no value is used twice in a layer."""
    masks = np.eye(300, dtype=bool).reshape(300, 15, 20)
    scene = scene_of(np.zeros((15, 20, 3), np.uint8), masks, np.arange(300))
    assert len(scene.layers) == 2
    layers, pasted, covered = paste_layers(scene.layers, scene.slots, scene.layers, scene.slots, 0, 0)
    assert covered.all()
    assert layers.shape == (3, 15, 20)  # 255 and 45 from below; room for another 45, but not for another 255
    assert np.bincount(pasted[:, 0]).tolist() == [0, 45, 255]
    both = np.concatenate([scene.slots, pasted])
    assert len(np.unique(both, axis=0)) == 600
    found = Scene(scene.image, layers, both, np.concatenate([scene.labels, scene.labels]))
    assert masks_of(found).sum(axis=(1, 2)).tolist() == [0] * 300 + [1] * 300


def test_room_in_a_layer_is_used():
    masks = np.eye(6, dtype=bool).reshape(6, 2, 3)
    scene = scene_of(np.zeros((2, 3, 3), np.uint8), masks, np.arange(6))
    layers, pasted, _ = paste_layers(scene.layers, scene.slots, scene.layers, scene.slots[[4, 1]], 0, 0)
    assert layers.tolist() == [[[1, 8, 3], [4, 7, 6]]]
    assert pasted.tolist() == [[0, 7], [0, 8]]


def test_compact_renumbers_layers_and_values():
    layers = np.zeros((3, 2, 4), np.uint8)
    layers[0, 0] = [1, 2, 3, 3]
    layers[1, 1] = [1, 0, 0, 0]
    layers[2, 1] = [0, 9, 9, 200]
    slots = np.array([[0, 1], [0, 2], [0, 3], [1, 1], [2, 9], [2, 200]])
    maps, kept = compact(layers, slots, np.array([False, True, True, False, False, True]))
    assert kept.tolist() == [[0, 1], [0, 2], [1, 1]]
    assert maps.tolist() == [[[0, 1, 2, 2], [0, 0, 0, 0]], [[0, 0, 0, 0], [0, 0, 0, 1]]]
    maps, kept = compact(layers, slots, np.zeros(6, bool))
    assert maps.shape == (1, 2, 4)
    assert not maps.any()
    assert kept.shape == (0, 2)

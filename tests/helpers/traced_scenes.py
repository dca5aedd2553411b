"""Random scenes whose pixels say where they come from, beside their masks in full."""

import numpy as np

from finemask.data.augmentation import Scene
from finemask.ops.layers import LayerPainter


def coordinates(height, width, source):
    """An image whose pixels are (source, y, x)."""
    y, x = np.mgrid[:height, :width]
    return np.stack([np.full((height, width), source), y, x], axis=2).astype(np.uint8)


def scene_of(image, masks, labels):
    """A scene of dense masks [N, H, W]."""
    painter = LayerPainter(*image.shape[:2])
    slots = [painter.add(mask, 0, 0) for mask in masks]
    return Scene(
        image, painter.layers, np.array(slots, dtype=np.int64).reshape(-1, 2), np.array(labels, dtype=np.int64)
    )


def random_scene(rng, height, width, num_instances, source=0):
    """Rectangles with ragged edges and holes, overlapping; labels 1000 * source + 0, 1, 2, … tell instances apart.

    Returns:
        The scene and its masks, bool [N, H, W].
    """
    masks = np.zeros((num_instances, height, width), dtype=np.bool_)
    for mask in masks:
        y, x = np.sort(rng.integers(0, height + 1, 2)), np.sort(rng.integers(0, width + 1, 2))
        mask[y[0] : y[1], x[0] : x[1]] = True
        mask &= rng.random((height, width)) < rng.uniform(0.5, 1.2)
    labels = 1000 * source + np.arange(num_instances)
    return scene_of(coordinates(height, width, source), masks, labels), masks


def masks_of(scene):
    """Dense masks of a scene, bool [N, H, W]."""
    return np.array([scene.layers[layer] == value for layer, value in scene.slots.tolist()], dtype=np.bool_).reshape(
        -1, *scene.image.shape[:2]
    )


def never_drawn(rng):
    """For augmentations that must not need another image."""
    raise AssertionError("another image was drawn")

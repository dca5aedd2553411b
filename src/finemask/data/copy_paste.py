"""Copy-paste: instances of other images pasted into this one."""

import cv2
import numpy as np
from numpy.typing import NDArray

from finemask.data.augment import Draw, Scene
from finemask.data.layer_edits import compact, paste_layers
from finemask.data.settings import fraction, positive, whole_number
from finemask.ops.layers import boxes_and_areas_from_layers


class CopyPaste:
    """Pastes a random choice of instances of other images into an image (Ghiasi et al. 2021).

    Instances keep their place and size; to move and scale them, let a jitter go before this in a ``Chain``. Where
    the other image has another size, it is shifted at random, over the smaller of the two or inside the larger.

    What is pasted hides what is under it. An instance of which too small a fraction remains in sight goes, and an
    instance that the frame would cut down as much is not pasted. (What is left of the others in px is
    judged by the dataset, as after every augmentation.) Crowds are neither pasted nor cut: instances only.

    Args:
        probability: that anything is pasted into an image.
        images: how many images to paste from, one after another, each on top of those before.
        max_instances: of one image to paste at most; the number is drawn from 1 to this or to all there are.
        min_visible: least fraction of its pixels that an instance must keep.
        blend_px: standard deviation of the blur of pasted edges; 0: none. It changes the image, never a mask.

    Raises:
        ConfigError: a value out of range.
    """

    def __init__(
        self,
        probability: float = 0.5,
        images: int = 1,
        max_instances: int = 100,
        min_visible: float = 0.1,
        blend_px: float = 0.0,
    ) -> None:
        self._probability = fraction(probability, "probability of CopyPaste")
        self._images = whole_number(images, "images of CopyPaste")
        self._max_instances = whole_number(max_instances, "max_instances of CopyPaste")
        self._min_visible = fraction(min_visible, "min_visible of CopyPaste")
        self._blend_px = positive(blend_px, "blend_px of CopyPaste")

    def augment_scene(self, scene: Scene, draw: Draw, rng: np.random.Generator) -> Scene:
        """See ``SceneAugmentation``."""
        if rng.random() >= self._probability:
            return scene
        _, whole = boxes_and_areas_from_layers(scene.layers, scene.slots)
        for _ in range(self._images):
            other = draw(rng)
            x0, y0 = _random_shift(scene.image.shape, other.image.shape, rng)
            _, areas = boxes_and_areas_from_layers(other.layers, other.slots)
            shown = _overlap(scene.image.shape, other.layers, x0, y0)
            inside = areas if shown.size == other.layers.size else boxes_and_areas_from_layers(shown, other.slots)[1]
            chosen = self._choose(np.flatnonzero((inside > 0) & (inside >= self._min_visible * areas)), rng)
            scene = paste(scene, other, chosen, x0, y0, self._blend_px)
            whole = np.concatenate([whole, areas[chosen]])
        _, visible = boxes_and_areas_from_layers(scene.layers, scene.slots)
        keep = (visible > 0) & (visible >= self._min_visible * whole)
        if keep.all():
            return scene
        layers, slots = compact(scene.layers, scene.slots, keep)
        return Scene(scene.image, layers, slots, scene.labels[keep])

    def _choose(self, candidates: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        if not candidates.size:
            return candidates
        number = int(rng.integers(1, min(candidates.size, self._max_instances) + 1))
        return np.sort(rng.choice(candidates, number, replace=False))


def paste(
    below: Scene, above: Scene, chosen: NDArray[np.int64], x0: int = 0, y0: int = 0, blend_px: float = 0.0
) -> Scene:
    """Pastes instances of one scene onto another.

    Args:
        below: the scene that is pasted into.
        above: the scene that is pasted from; a part of it must lie inside ``below``.
        chosen: int64 [M], instances of ``above``.
        x0: column of ``below`` where ``above`` begins; negative where it begins outside.
        y0: row, likewise.
        blend_px: standard deviation in px of the blur of the pasted edges.

    Returns:
        The instances of ``below``, which may have lost pixels, and after them those pasted, in the order of ``chosen``.
    """
    image = below.image.copy()
    window = _overlap(above.image.shape, image[None], -x0, -y0)[0]
    patch = _overlap(below.image.shape, above.image[None], x0, y0)[0]
    maps = _overlap(below.image.shape, above.layers, x0, y0)
    layers, pasted, covered = paste_layers(below.layers, below.slots, maps, above.slots[chosen], max(0, x0), max(0, y0))
    if blend_px:
        _blend(window, patch, covered, blend_px)
    else:
        window[...] = cv2.copyTo(patch, covered, window)
    slots = np.concatenate([below.slots, pasted])
    return Scene(image, layers, slots, np.concatenate([below.labels, above.labels[chosen]]))


def _overlap(shape: tuple[int, ...], maps: NDArray[np.uint8], x0: int, y0: int) -> NDArray[np.uint8]:
    """The part of ``maps`` [L, H, W, …], beginning at (x0, y0) of an image [H', W', …], that lies inside the image."""
    height, width = shape[:2]
    return maps[:, max(0, -y0) : max(0, height - y0), max(0, -x0) : max(0, width - x0)]


def _random_shift(below: tuple[int, ...], above: tuple[int, ...], rng: np.random.Generator) -> tuple[int, int]:
    """Where a scene begins in another: inside it where smaller, over all of it where larger. x and y in px."""
    spare_y, spare_x = below[0] - above[0], below[1] - above[1]
    y0 = int(rng.integers(min(0, spare_y), max(0, spare_y) + 1))
    x0 = int(rng.integers(min(0, spare_x), max(0, spare_x) + 1))
    return x0, y0


def _blend(window: NDArray[np.uint8], patch: NDArray[np.uint8], covered: NDArray[np.uint8], blend_px: float) -> None:
    """Lays the covered part of the patch over the window, with soft edges; changes the window."""
    x, y, w, h = cv2.boundingRect(covered)
    if not w:
        return
    margin = int(np.ceil(3 * blend_px))
    area = slice(max(0, y - margin), y + h + margin), slice(max(0, x - margin), x + w + margin)
    alpha = cv2.GaussianBlur(covered[area].astype(np.float32) / 255, (0, 0), blend_px)
    window[area] = cv2.blendLinear(patch[area], window[area], alpha, 1 - alpha)

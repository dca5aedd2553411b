"""Large-scale jitter, copy-paste and mosaic: an image on another canvas, and several images in one."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from finemask.data.augmentation import Draw, Scene
from finemask.data.layer_edits import compact, paste_layers, resize_window
from finemask.errors import ConfigError
from finemask.ops.layers import boxes_and_areas_from_layers


class LargeScaleJitter:
    """Resizes an image by a random factor and crops or pads it to a square (Ghiasi et al. 2021).

    At a factor of 1 the longer side of the image is the side of the square. Below, the image is put at a random
    place and surrounded by one colour; above, a random part of it is shown.

    Args:
        size: side of the square in px. The model resizes once more unless this is its ``min_size``.
        scale: least and greatest factor; 0.1 and 2 in the paper, which also calls 0.8 to 1.25 standard.
        fill: RGB around a small image. The default is ImageNet's mean, which the model turns into 0.

    Raises:
        ConfigError: a value out of range.
    """

    def __init__(self, size: int, scale: Sequence[float] = (0.1, 2.0), fill: Sequence[int] = (124, 116, 104)) -> None:
        self._size = _canvas_side(size, "size of LargeScaleJitter")
        self._scale = _interval(scale, "scale of LargeScaleJitter", least=0.01)
        self._fill = _rgb(fill, "fill of LargeScaleJitter")

    def __call__(
        self, image: NDArray[np.uint8], layers: NDArray[np.uint8], rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """See ``Augmentation``."""
        height, width = image.shape[:2]
        factor = rng.uniform(*self._scale) * self._size / max(height, width)
        y0, y1, top, bottom = self._along(height, factor, rng)
        x0, x1, left, right = self._along(width, factor, rng)
        moved, maps = resize_window(image, layers, (x0, y0, x1, y1), (bottom - top, right - left))
        border = top, self._size - bottom, left, self._size - right
        canvas = cv2.copyMakeBorder(moved, *border, cv2.BORDER_CONSTANT, value=self._fill)
        canvas_maps = np.zeros((len(layers), self._size, self._size), dtype=np.uint8)
        canvas_maps[:, top:bottom, left:right] = maps
        return np.asarray(canvas, dtype=np.uint8), canvas_maps

    def _along(self, length: int, factor: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """On one axis: the part of the image that is shown, and the part of the canvas that it fills."""
        shown = max(1, min(length, round(self._size / factor)))
        filled = max(1, min(self._size, round(shown * factor)))
        start = int(rng.integers(length - shown + 1))
        place = int(rng.integers(self._size - filled + 1))
        return start, start + shown, place, place + filled


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
        self._probability = _fraction(probability, "probability of CopyPaste")
        self._images = _whole_number(images, "images of CopyPaste")
        self._max_instances = _whole_number(max_instances, "max_instances of CopyPaste")
        self._min_visible = _fraction(min_visible, "min_visible of CopyPaste")
        fits = _is_number(blend_px) and 0 <= blend_px < float("inf")
        _check(fits, blend_px, "a number of at least 0", "blend_px of CopyPaste")
        self._blend_px = float(blend_px)

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


class Mosaic:
    """Puts four images around a random point of a square (Bochkovskiy et al. 2020, YOLOv4).

    Every image fills its quarter: it keeps its proportions, is made as large as that needs, times a random zoom,
    and a random part of it is shown. Objects are about half as large as in the image alone, and more in number.

    Args:
        size: side of the square in px. The model resizes once more unless this is its ``min_size``.
        probability: that an image becomes a mosaic; otherwise it stays as it is.
        centre: least and greatest place of the common corner on either axis, as a fraction of the side.
        zoom: least and greatest factor on the size that just fills the quarter; at least 1.

    Raises:
        ConfigError: a value out of range.
    """

    def __init__(
        self,
        size: int,
        probability: float = 0.5,
        centre: Sequence[float] = (0.35, 0.65),
        zoom: Sequence[float] = (1.0, 1.5),
    ) -> None:
        self._size = _canvas_side(size, "size of Mosaic")
        self._probability = _fraction(probability, "probability of Mosaic")
        self._centre = _interval(centre, "centre of Mosaic", least=0.0, most=1.0)
        self._zoom = _interval(zoom, "zoom of Mosaic", least=1.0)

    def augment_scene(self, scene: Scene, draw: Draw, rng: np.random.Generator) -> Scene:
        """See ``SceneAugmentation``."""
        if rng.random() >= self._probability:
            return scene
        y, x = (min(max(1, round(self._size * rng.uniform(*self._centre))), self._size - 1) for _ in range(2))
        quarters = [(0, 0, x, y), (x, 0, self._size, y), (0, y, x, self._size), (x, y, self._size, self._size)]
        scenes = [scene, draw(rng), draw(rng), draw(rng)]
        image = np.empty((self._size, self._size, 3), dtype=np.uint8)
        layers = np.zeros((1, self._size, self._size), dtype=np.uint8)
        slots, labels = np.zeros((0, 2), dtype=np.int64), np.zeros(0, dtype=np.int64)
        for part, (x0, y0, x1, y1) in zip(scenes, (quarters[k] for k in rng.permutation(4)), strict=True):
            image[y0:y1, x0:x1], maps = self._show(part, y1 - y0, x1 - x0, rng)
            seen = boxes_and_areas_from_layers(maps, part.slots)[1] > 0
            layers, pasted, _ = paste_layers(layers, slots, maps, part.slots[seen], x0, y0)
            slots, labels = np.concatenate([slots, pasted]), np.concatenate([labels, part.labels[seen]])
        return Scene(image, layers, slots, labels)

    def _show(
        self, scene: Scene, height: int, width: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """A random part of a scene that fills a quarter of this size: image and label maps."""
        full_height, full_width = scene.image.shape[:2]
        factor = rng.uniform(*self._zoom) * max(height / full_height, width / full_width)
        h, w = (max(1, min(full, round(side / factor))) for full, side in ((full_height, height), (full_width, width)))
        y, x = int(rng.integers(full_height - h + 1)), int(rng.integers(full_width - w + 1))
        return resize_window(scene.image, scene.layers, (x, y, x + w, y + h), (height, width))


def _whole_number(value: Any, where: str) -> int:
    _check(_is_whole(value) and value >= 1, value, "a whole number of at least 1", where)
    return int(value)


def _canvas_side(value: Any, where: str) -> int:
    remedy = "Set one; the shipped files take it from model.min_size, which must then be a single number"
    _check(_is_whole(value) and value >= 32, value, "a number of px, at least 32", where, remedy)
    return int(value)


def _fraction(value: Any, where: str) -> float:
    _check(_is_number(value) and 0 <= value <= 1, value, "a number from 0 to 1", where)
    return float(value)


def _interval(value: Any, where: str, *, least: float, most: float = 1000.0) -> tuple[float, float]:
    numbers = _listed(value)
    ordered = len(numbers) == 2 and all(map(_is_number, numbers)) and least <= numbers[0] <= numbers[1] <= most
    _check(ordered, value, "a range", where, f"Set [low, high] within {least:g} to {most:g}")
    return float(numbers[0]), float(numbers[1])


def _rgb(value: Any, where: str) -> tuple[int, int, int]:
    numbers = _listed(value)
    fits = len(numbers) == 3 and all(isinstance(number, int) and 0 <= number <= 255 for number in numbers)
    _check(fits, value, "a colour", where, "Set [R, G, B], 0 to 255 each")
    return numbers[0], numbers[1], numbers[2]


def _check(fits: bool, value: Any, wanted: str, where: str, remedy: str = "Set one") -> None:
    if not fits:
        shown = str(value) if isinstance(value, Sequence) and not isinstance(value, str) else repr(value)
        raise ConfigError(f"{shown} is not {wanted}", where=where, remedy=remedy)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []

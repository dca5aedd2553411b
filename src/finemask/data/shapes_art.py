"""How the drawn dataset looks: backgrounds, colours, textures. Everything is float32 on the 0..255 scale."""

import colorsys

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_TEXTURE_STRENGTH = 0.5  # of the second colour: patterns are to decorate a shape, not to hide its outline


def background(size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """A pale or dark gradient of little colour with soft blotches and grain, [H, W, 3]."""
    value = rng.uniform(0.25, 0.9)
    ends = [
        _colour(rng.random(), rng.uniform(0.05, 0.3), np.clip(value + rng.uniform(-0.15, 0.15), 0.15, 0.97))
        for _ in range(2)
    ]
    angle = rng.uniform(0, 2 * np.pi)
    along = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    ramp = 0.5 + along[None, :] * np.cos(angle) * 0.7 + along[:, None] * np.sin(angle) * 0.7
    canvas = ends[0] + ramp[:, :, None].astype(np.float32) * (ends[1] - ends[0])
    canvas += 14 * _blotches(size, int(rng.integers(4, 9)), rng)[:, :, None]
    canvas += 6 * _blotches(size, size // 8, rng)[:, :, None]
    canvas += rng.normal(0, 3, (size, size, 1)).astype(np.float32)
    return np.asarray(canvas, dtype=np.float32)


def paint_shape(
    canvas: NDArray[np.float32],
    coverage: NDArray[np.float32],
    left: int,
    top: int,
    rng: np.random.Generator,
) -> None:
    """Paints a shape of a vivid colour with a texture, a little light from one side and a darker rim.

    Args:
        canvas: [H, W, 3], painted on.
        coverage: [h, w], 0..1, of the window the shape lies in.
        left: x of that window in px.
        top: y of that window in px.
        rng: of the image.
    """
    height, width = coverage.shape
    window = (slice(top, top + height), slice(left, left + width))
    alpha = coverage[:, :, None]
    hue = rng.random()
    colour = _colour(hue, rng.uniform(0.55, 0.95), rng.uniform(0.6, 1.0))
    second = _colour(hue + rng.uniform(-0.06, 0.06), rng.uniform(0.4, 0.9), rng.uniform(0.45, 0.95))
    y, x = np.mgrid[:height, :width].astype(np.float32)
    texture = _TEXTURE_STRENGTH * _texture(x, y, len(canvas) / 256, rng)
    mixed = colour + texture[:, :, None] * (second - colour)
    angle = rng.uniform(0, 2 * np.pi)
    light = np.cos(angle) * (x / max(width - 1, 1) - 0.5) + np.sin(angle) * (y / max(height - 1, 1) - 0.5)
    mixed = mixed * (1 + 0.25 * light[:, :, None])
    mixed = mixed * (1 - 0.35 * _rim(alpha[:, :, 0])[:, :, None])
    mixed += rng.normal(0, 3, (height, width, 1))
    canvas[window] += alpha * (mixed.astype(np.float32) - canvas[window])


def _texture(
    x: NDArray[np.float32], y: NDArray[np.float32], scale: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Plain, stripes, dots or checks: how much of the second colour, 0..1."""
    kind = int(rng.integers(4))
    angle, period = rng.uniform(0, np.pi), rng.uniform(6, 11) * scale
    u = (x * np.cos(angle) + y * np.sin(angle)) * (2 * np.pi / period)
    v = (y * np.cos(angle) - x * np.sin(angle)) * (2 * np.pi / period)
    if kind == 1:
        return np.asarray(0.5 + 0.5 * np.tanh(3 * np.sin(u)), dtype=np.float32)
    if kind == 2:
        return np.asarray(0.5 + 0.5 * np.tanh(3 * (np.sin(u) + np.sin(v) - 0.6)), dtype=np.float32)
    if kind == 3:
        return np.asarray(0.5 + 0.5 * np.tanh(4 * np.sin(u) * np.sin(v)), dtype=np.float32)
    return np.zeros_like(x)


def _rim(coverage: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 along the inner edge of a shape, 0 deeper inside."""
    padded = np.pad(coverage, 1)
    beside = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    return np.asarray(1 - np.minimum.reduce(beside), dtype=np.float32)


def _blotches(size: int, cells: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Smooth noise of about -1..1, [H, W]."""
    grid = Image.fromarray(rng.uniform(-1, 1, (cells, cells)).astype(np.float32))
    return np.asarray(grid.resize((size, size), Image.Resampling.BICUBIC))


def _colour(hue: float, saturation: float, value: float) -> NDArray[np.float32]:
    return np.array(colorsys.hsv_to_rgb(hue % 1.0, saturation, value), dtype=np.float32) * np.float32(255)

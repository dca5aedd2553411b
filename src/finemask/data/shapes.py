"""A COCO dataset of overlapping shapes, drawn on the spot.

For the quickstart, for tests, for trying things out. Circles, rectangles, triangles and stars in random
colours and textures lie over one another on noisy backgrounds, so that the class can be learned from the
outline alone. Annotations come from the very geometry that is drawn, and they hold what real files hold:
category ids with gaps, polygons, compressed and uncompressed RLE, masks of the visible part of what lies
behind, images without objects, a few crowd regions.
"""

import colorsys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from finemask.errors import ConfigError, DataError
from finemask.ops.files.atomic_files import atomic_path, write_json
from finemask.ops.rle import mask_to_rle, rle_from_polygons, rle_to_mask, run_lengths

CATEGORY_IDS = {"circle": 1, "rectangle": 3, "triangle": 7, "star": 12}
_DESCRIPTION = "Overlapping shapes drawn by finemask data synth"
_LEAST_VISIBLE = 0.4  # of the area of a shape; what lies deeper could not be told apart
_TEXTURE_STRENGTH = 0.5  # of the second colour: patterns are to decorate a shape, not to hide its outline
_UPSAMPLING = 4  # of the outline when it is drawn, for smooth edges


@dataclass
class _Shape:
    name: str
    points: NDArray[np.float64]  # [P, 2], x and y in px
    visible: NDArray[np.bool_]  # [H, W]
    area: int  # px inside the image, were nothing in front


def draw_shapes(output: Path, images: int = 200, size: int = 256, seed: int = 0, val_fraction: float = 0.2) -> Path:
    """Draws a dataset: ``images/*.jpg``, ``annotations/train.json`` and ``annotations/val.json``.

    The same arguments give the same dataset.

    Args:
        output: folder; made if it is not there.
        images: number of images, at least 2.
        size: side of the square images in px, at least 64.
        seed: of everything random.
        val_fraction: share of the images that goes to validation, above 0 and below 1.

    Returns:
        ``output``.

    Raises:
        ConfigError: an argument out of range.
        DataError: the folder holds other annotations, which would be lost.
    """
    _check_arguments(images, size, seed, val_fraction)
    output = Path(output)
    num_val = min(max(1, round(images * val_fraction)), images - 1)
    splits = {"train": range(images - num_val), "val": range(images - num_val, images)}
    _refuse_foreign(output, splits)
    (output / "images").mkdir(parents=True, exist_ok=True)
    info = {
        "description": _DESCRIPTION,
        "images": images,
        "size": size,
        "seed": seed,
        "val_fraction": val_fraction,
    }
    annotation_id = 0
    for split, numbers in splits.items():
        entries: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number in numbers:
            file_name = f"{number + 1:06d}.jpg"
            picture, found = _draw_image(number, size, np.random.default_rng([seed, number]))
            with atomic_path(output / "images" / file_name) as temporary:
                Image.fromarray(picture).save(temporary, quality=95, subsampling=0)
            entries.append({"id": number + 1, "file_name": file_name, "height": size, "width": size})
            for annotation in found:
                annotation_id += 1
                annotations.append({"id": annotation_id, "image_id": number + 1, **annotation})
        categories = [
            {"id": category_id, "name": name, "supercategory": "shape"} for name, category_id in CATEGORY_IDS.items()
        ]
        document = {"info": info, "images": entries, "annotations": annotations, "categories": categories}
        write_json(output / "annotations" / f"{split}.json", document, indent=None)
    return output


def _check_arguments(images: int, size: int, seed: int, val_fraction: float) -> None:
    whole = all(isinstance(value, int) for value in (images, size, seed))
    if not whole or images < 2 or not 64 <= size <= 4096 or seed < 0:
        raise ConfigError(
            f"images={images} size={size} seed={seed} cannot be drawn",
            remedy="Give whole numbers: images at least 2, size from 64 to 4096, seed at least 0",
        )
    if not isinstance(val_fraction, float) or not 0 < val_fraction < 1:
        raise ConfigError(f"val_fraction is {val_fraction}, it must be above 0 and below 1")


def _refuse_foreign(output: Path, splits: dict[str, range]) -> None:
    """Annotations of somebody else are never overwritten."""
    for split in splits:
        file = output / "annotations" / f"{split}.json"
        if file.exists() and _DESCRIPTION.encode() not in file.read_bytes()[:500]:
            raise DataError(
                "there are annotations here already, and they would be overwritten",
                where=file,
                remedy="Choose another folder with output=",
            )


def _draw_image(number: int, size: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], list[dict[str, Any]]]:
    """The picture [H, W, 3] and its annotations, without ids."""
    canvas = background(size, rng)
    if number % 33 == 17:  # 3 % of the images have no objects
        return np.clip(canvas, 0, 255).astype(np.uint8), []
    crowd = np.zeros((size, size), dtype=np.bool_)
    if number % 25 == 8:
        crowd = _draw_crowd(canvas, rng)
    shapes: list[_Shape] = []
    wanted = int(rng.integers(2, 8))
    for _ in range(4 * wanted):
        if len(shapes) == wanted:
            break
        _try_shape(canvas, shapes, crowd, rng)
    annotations = [_annotation(shape, rng) for shape in shapes]
    if crowd.any():
        annotations.append(
            _entry("circle", crowd, _uncompressed(crowd) if rng.random() < 0.5 else mask_to_rle(crowd), 1)
        )
    return np.clip(canvas, 0, 255).astype(np.uint8), annotations


def _try_shape(
    canvas: NDArray[np.float32], shapes: list[_Shape], crowd: NDArray[np.bool_], rng: np.random.Generator
) -> None:
    """Puts one more shape in front, unless it hid too much of another or lay mostly outside."""
    size = len(canvas)
    name = str(rng.choice(list(CATEGORY_IDS)))
    points = _outline(name, size * rng.uniform(0.09, 0.2), rng) + rng.uniform(0.04, 0.96, 2) * size
    points = np.round(points, 2)
    mask = _raster(points, size)
    area = int(mask.sum())
    if area < 0.5 * _polygon_area(points) or any((s.visible & ~mask).sum() < _LEAST_VISIBLE * s.area for s in shapes):
        return
    paint_shape(canvas, *_coverage(points, size), rng)
    for shape in shapes:
        shape.visible &= ~mask
    crowd &= ~mask
    shapes.append(_Shape(name, points, mask, area))


def _draw_crowd(canvas: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.bool_]:
    """A swarm of small circles, too many to outline one by one: its mask."""
    size = len(canvas)
    crowd = np.zeros((size, size), dtype=np.bool_)
    centre = rng.uniform(0.25, 0.75, 2) * size
    for _ in range(int(rng.integers(14, 24))):
        points = _outline("circle", size * rng.uniform(0.018, 0.03), rng)
        points += centre + rng.normal(0, 0.08 * size, 2)
        mask = _raster(points, size)
        paint_shape(canvas, *_coverage(points, size), rng)
        crowd |= mask
    return crowd


def _outline(name: str, radius: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Points [P, 2] around the origin, turned by a random angle."""
    if name == "circle":
        angles, radii = np.arange(36) * (2 * np.pi / 36), np.full(36, radius)
    elif name == "rectangle":
        half = np.arctan(rng.uniform(0.45, 1.0))
        angles, radii = np.array([half, np.pi - half, np.pi + half, -half]), np.full(4, radius * 1.1)
    elif name == "triangle":
        angles = np.arange(3) * (2 * np.pi / 3) + rng.uniform(-0.25, 0.25, 3)
        radii = np.full(3, radius * 1.25)
    else:
        angles = np.arange(10) * (np.pi / 5)
        radii = radius * np.where(np.arange(10) % 2, 0.48, 1.25)
    angles = angles + rng.uniform(0, 2 * np.pi)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def _polygon_area(points: NDArray[np.float64]) -> float:
    x, y = points.T
    return 0.5 * abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1)))


def _coverage(points: NDArray[np.float64], size: int) -> tuple[NDArray[np.float32], int, int]:
    """How much of each pixel an outline covers, 0..1, in its window [h, w]; the window's left and top px."""
    left, top = np.clip(np.floor(points.min(axis=0)), 0, size - 1).astype(int).tolist()
    right, bottom = np.clip(np.ceil(points.max(axis=0)), 1, size).astype(int).tolist()
    large = Image.new("L", ((right - left) * _UPSAMPLING, (bottom - top) * _UPSAMPLING))
    moved = (points - (left, top)) * _UPSAMPLING - 0.5
    ImageDraw.Draw(large).polygon([(x, y) for x, y in moved], fill=255)
    coverage = np.asarray(large.reduce(_UPSAMPLING), dtype=np.float32) / np.float32(255)
    return coverage.astype(np.float32), int(left), int(top)


def _annotation(shape: _Shape, rng: np.random.Generator) -> dict[str, Any]:
    """A polygon for a shape that is seen whole, run lengths for what is left of a hidden one."""
    size = len(shape.visible)
    inside = shape.points.min() >= 0 and shape.points.max() <= size
    if inside and int(shape.visible.sum()) == shape.area and rng.random() < 0.85:
        segmentation: Any = [shape.points.ravel().tolist()]
    else:
        segmentation = mask_to_rle(shape.visible) if rng.random() < 0.5 else _uncompressed(shape.visible)
    return _entry(shape.name, shape.visible, segmentation, 0)


def _entry(name: str, mask: NDArray[np.bool_], segmentation: Any, iscrowd: int) -> dict[str, Any]:
    ys, xs = np.nonzero(mask)
    x0, y0 = int(xs.min()), int(ys.min())
    return {
        "category_id": CATEGORY_IDS[name],
        "segmentation": segmentation,
        "bbox": [x0, y0, int(xs.max()) + 1 - x0, int(ys.max()) + 1 - y0],
        "area": int(mask.sum()),
        "iscrowd": iscrowd,
    }


def _raster(points: NDArray[np.float64], size: int) -> NDArray[np.bool_]:
    return rle_to_mask(rle_from_polygons([points.ravel().tolist()], size, size)).astype(np.bool_)


def _uncompressed(mask: NDArray[np.bool_]) -> dict[str, Any]:
    return {"size": list(mask.shape), "counts": run_lengths(mask_to_rle(mask)["counts"]).tolist()}


# How it looks: backgrounds, colours, textures; float32 on the 0..255 scale.


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

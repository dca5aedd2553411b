"""Charts of the statistics page."""

from collections import Counter

import numpy as np

from finemask.coco.index import CocoIndex
from finemask.datatools.stats.dataset_summary import anchor_fit, objects_per_image
from finemask.datatools.stats.image_stats import OpenedImages
from finemask.datatools.stats.input_resolution import ModelSettings, Resolution
from finemask.datatools.stats.object_stats import Objects
from finemask.ops.wording import percent, plural
from finemask.pages.axes import Axis, nice_limit
from finemask.pages.charts import Figure, cumulative_chart, histogram, scatter
from finemask.pages.heat_maps import heat_map

_FEW_VALUES = 40  # whole numbers that still get a bar each


def object_figures(index: CocoIndex, objects: Objects, settings: ModelSettings) -> list[Figure]:
    """Sizes, shapes, numbers, places and overlaps; none without objects."""
    if not len(objects):
        return []
    return [
        _sizes(index, objects, settings),
        _anchors(index, objects, settings),
        _per_image(index, objects),
        _shapes(objects, settings),
        _places(index, objects),
        _occlusion(objects),
    ]


def image_figures(index: CocoIndex, opened: OpenedImages | None) -> list[Figure]:
    """Sizes of the images and, where they were opened, how they look."""
    figures = [_image_sizes(index)]
    if opened is None or not opened.images:
        return figures
    brightness, contrast, sharpness = (
        np.array([getattr(image, name) for image in opened.images]) for name in ("brightness", "contrast", "sharpness")
    )
    sharpness = np.maximum(sharpness, 0.1)
    low, high = 10.0 ** np.floor(np.log10(sharpness.min())), 10.0 ** np.ceil(np.log10(sharpness.max()) + 1e-9)
    for title, values, axis, note in (
        (
            "Brightness",
            brightness,
            Axis("mean luminance", 0, 255),
            "0 is black, 255 white. Two humps are two kinds of images: both belong into every split.",
        ),
        (
            "Contrast",
            contrast,
            Axis("standard deviation of the luminance", 0, 128),
            "0 is a plain area. Images near it hold little to learn from, or need stretching to their full range.",
        ),
        (
            "Sharpness",
            sharpness,
            Axis("variance of the Laplacian", float(low), float(high), log=True),
            "Measured with the longer side at 512 px. Low: blurred, or nothing in it has an edge.",
        ),
    ):
        figures.append(Figure(title, histogram(values, axis, name=f"{title} of images", what="images"), note))
    return figures


def _sizes(index: CocoIndex, objects: Objects, settings: ModelSettings) -> Figure:
    side = np.sqrt(objects.areas)
    scale = Resolution(settings.min_size, settings.max_size).scales(index.heights, index.widths)[objects.image]
    both = np.concatenate([side, side * scale])
    axis = Axis("side of the object, px", max(1.0, float(both.min()) * 0.8), float(both.max()) * 1.25, log=True)
    marks = [(32.0, "32"), (96.0, "96")]
    return Figure(
        "Size of the objects",
        histogram(side * scale, axis, name="Size of the objects", outline=side, marks=marks),
        "Side: the square root of the mask's area. COCO's small objects end at 32 px, medium ones at 96.",
        (("accent", f"in training (shorter side {settings.min_size} px)"), ("main", "in the image as it is")),
    )


def _anchors(index: CocoIndex, objects: Objects, settings: ModelSettings) -> Figure:
    resolution = Resolution(settings.min_size, settings.max_size)
    fit = anchor_fit(index, objects, resolution, settings.anchor_sizes, settings.aspect_ratios)
    half, more = (percent(float((fit >= cut).mean())) for cut in (0.5, 0.7))
    sizes = ", ".join(f"{size:g}" for size in settings.anchor_sizes)
    return Figure(
        "Anchors",
        cumulative_chart(
            fit,
            Axis("IoU with the best anchor, at least"),
            name="Share of the objects over the IoU with their best anchor",
        ),
        f"How well the best anchor of {sizes} px overlaps each object. {half} reach an IoU of 0.5, {more} one of 0.7.",
    )


def _per_image(index: CocoIndex, objects: Objects) -> Figure:
    number = objects_per_image(index, objects)
    most = int(number.max())
    empty = int((number == 0).sum())
    few = most < _FEW_VALUES
    axis = Axis("objects in an image", -0.5, most + 0.5) if few else Axis("objects in an image", 0, nice_limit(most))
    return Figure(
        "Objects in an image",
        histogram(number, axis, name="Objects in an image", what="images", bins=most + 1 if few else _FEW_VALUES),
        f"Median {np.median(number):g}, at most {most:,}; {plural(empty, 'image has', 'images have')} none.",
    )


def _shapes(objects: Objects, settings: ModelSettings) -> Figure:
    extent = objects.boxes[:, 2:] - objects.boxes[:, :2]
    ratio = extent[:, 0] / extent[:, 1]
    end = float(np.clip(2 ** np.ceil(np.log2(max(ratio.max(), 1 / ratio.min()))), 4, 32))
    marks = [(1 / anchor, f"{1 / anchor:.2g}") for anchor in settings.aspect_ratios]
    axis = Axis("width / height of the box", 1 / end, end, log=True)
    return Figure(
        "Shape of the boxes",
        histogram(ratio, axis, name="Shape of the boxes", bins=48, marks=marks),
        "Below 1 upright, above 1 lying. The upright lines are the anchors' shapes.",
    )


def _places(index: CocoIndex, objects: Objects) -> Figure:
    aspect = float(np.clip(np.median(index.widths / index.heights), 0.4, 1.9))
    top = 100 * float(objects.coverage.max(initial=0))
    return Figure(
        "Where objects sit",
        heat_map(objects.coverage, name="Where objects sit", what="of the images have an object here", aspect=aspect),
        f"All images laid over one another. The strongest colour: {top:.0f} % of the images have an object there.",
    )


def _occlusion(objects: Objects) -> Figure:
    return Figure(
        "Crowding",
        cumulative_chart(
            objects.crowding,
            Axis("of the object's box belongs to others, at least", 0.01, 1, unit=" %", scale=100),
            name="Share of the objects over how much of their box belongs to others",
        ),
        f"{percent(float(objects.touches.mean()))} of the objects touch another, "
        f"{percent(float((objects.pieces > 1).mean()))} lie in several pieces, "
        f"{percent(float(objects.at_edge.mean()))} reach the edge of the image.",
    )


def _image_sizes(index: CocoIndex) -> Figure:
    sizes = Counter(zip(index.widths.tolist(), index.heights.tolist(), strict=True))
    points = [(float(w), float(h), number) for (w, h), number in sizes.most_common(400)]
    end = nice_limit(float(max(index.widths.max(), index.heights.max())) * 1.02)
    x, y = Axis("width, px", 0, end), Axis("height, px", 0, end)
    ((width, height), number), *others = sizes.most_common()
    often = f"{len(sizes)} different sizes; most often {width} × {height} px ({plural(number, 'image')})."
    return Figure(
        "Size of the images",
        scatter(points, x, y, name="Size of the images", what="images"),
        often if others else f"All images have {width} × {height} px.",
    )

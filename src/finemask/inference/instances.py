"""What was found in one image, in the forms people want it in."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from finemask.ops.colours import colours
from finemask.ops.drawing import draw_instances
from finemask.ops.files import write_json, write_text
from finemask.ops.mask_iou import mask_iou, suppress
from finemask.ops.mask_ops import masks_to_rles
from finemask.ops.rle import rle_to_mask
from finemask.types import Category, CocoResult, Detections, Rle


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Instances:
    """The instances of one image, best score first. Arrays are numpy's.

    Args:
        boxes: float32 [N, 4], xyxy px.
        labels: int64 [N], 1..K.
        scores: float32 [N], 0..1.
        rles: N masks, compressed RLE of the image's size.
        image_size_hw: height and width of the image.
        categories: of the model; the one with label 1 first.
        image: uint8 [H, W, 3] RGB, for ``draw``; may be absent.
        name: what the image is called: its path below the folder that was asked for, a URL's last part.
        path: the file it was read from, if it was one.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    rles: list[Rle]
    image_size_hw: tuple[int, int]
    categories: Sequence[Category]
    image: NDArray[np.uint8] | None = None
    name: str = "image"
    path: Path | None = None

    def __len__(self) -> int:
        return len(self.rles)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in Counter(self.class_names).items())
        height, width = self.image_size_hw
        return f"Instances({len(self)} in {self.name}, {height} × {width} px{': ' * bool(counts)}{counts})"

    def __getitem__(self, which: int | slice | Sequence[int] | NDArray[Any]) -> "Instances":
        """The chosen instances: by number, slice, list of numbers or bool array [N]."""
        chosen = np.asarray([], dtype=np.int64) if isinstance(which, list) and not which else which
        numbers = np.atleast_1d(np.arange(len(self))[chosen])
        return replace(
            self,
            boxes=self.boxes[numbers],
            labels=self.labels[numbers],
            scores=self.scores[numbers],
            rles=[self.rles[number] for number in numbers],
        )

    @property
    def class_names(self) -> list[str]:
        """Name of each instance's category, N texts."""
        return [self.categories[label - 1].name for label in self.labels]

    @property
    def masks(self) -> NDArray[np.bool_]:
        """Dense masks, bool [N, H, W], made anew at each call: N × H × W bytes."""
        dense = np.zeros((len(self), *self.image_size_hw), dtype=np.bool_)
        for mask, rle in zip(dense, self.rles, strict=True):
            mask[:] = rle_to_mask(rle)
        return dense

    def above(self, threshold: float | Mapping[str, float]) -> "Instances":
        """The instances that score at least ``threshold``, one number or one by class name (others: 0)."""
        if isinstance(threshold, Mapping):
            limits = np.array([threshold.get(name, 0.0) for name in self.class_names], dtype=np.float32)
            return self[self.scores >= limits]
        return self[self.scores >= threshold]

    def duplicates(self, iou_thresh: float = 0.5) -> NDArray[np.int64]:
        """Positions int64 [D] of instances that share most of their pixels with a better one, whatever its class.

        Args:
            iou_thresh: IoU of masks above which one is the other's duplicate.
        """
        kept = suppress(mask_iou(self.rles, self.rles), self.scores, iou_thresh)
        return np.setdiff1d(np.arange(len(self)), kept)

    def refined(self, image: NDArray[np.uint8] | Image.Image | None = None) -> "Instances":
        """The same instances with the outlines of their masks on the picture's edges nearby; boxes stay.

        Args:
            image: where to look for edges, RGB of ``image_size_hw``; the image that was predicted on by default.

        Raises:
            ValueError: there is no image to look at.
        """
        from finemask.ops.sobel_refine import refine_mask

        ground = self.image if image is None else np.asarray(image)
        if ground is None:
            raise ValueError("the image was not kept; give one: refined(image)")
        return replace(self, rles=[refine_mask(ground, rle) for rle in self.rles])

    def draw(self, image: NDArray[np.uint8] | Image.Image | None = None, *, color_by: str = "instance") -> Image.Image:
        """Masks, boxes, names and scores over the image.

        Args:
            image: what to draw on, RGB of ``image_size_hw``; the image that was predicted on by default.
            color_by: ``"instance"`` or ``"class"``.

        Returns:
            An RGB picture; small images come back enlarged (``finemask.ops.drawing.upscale_factor``).

        Raises:
            ValueError: there is no image to draw on, or an unknown ``color_by``.
        """
        ground = self.image if image is None else np.asarray(image)
        if ground is None:
            raise ValueError("the image was not kept; give one: draw(image)")
        if color_by not in ("instance", "class"):
            raise ValueError(f"color_by is 'instance' or 'class', not {color_by!r}")
        captions = [f"{name} {score:.2f}" for name, score in zip(self.class_names, self.scores, strict=True)]
        palette = None if color_by == "instance" else colours(int(label) - 1 for label in self.labels)
        return draw_instances(ground, rles=self.rles, boxes_xyxy=self.boxes, captions=captions, palette=palette)

    def to_coco(self, image_id: int = 1) -> list[CocoResult]:
        """Entries of a COCO results file; category ids are those of the training annotations."""
        results = []
        for box, label, score, rle in zip(self.boxes, self.labels, self.scores, self.rles, strict=True):
            x0, y0, x1, y1 = (float(side) for side in box)
            results.append(
                CocoResult(
                    image_id=image_id,
                    category_id=self.categories[label - 1].id,
                    bbox=[x0, y0, x1 - x0, y1 - y0],
                    score=float(score),
                    segmentation=rle,
                )
            )
        return results

    def to_labelme(self, path: Path | str | None = None) -> dict[str, Any]:
        """A LabelMe document: one polygon a connected part; holes are filled, LabelMe has none.

        Args:
            path: also write it there.
        """
        from finemask.inference.writers.labelme import labelme_document

        return _also_written(path, labelme_document(self, None if path is None else Path(path).parent))

    def to_geojson(self, path: Path | str | None = None) -> dict[str, Any]:
        """A GeoJSON FeatureCollection in pixel coordinates, y downwards, as QuPath reads it. Holes are kept.

        Args:
            path: also write it there.
        """
        from finemask.inference.writers.geojson import geojson_document

        return _also_written(path, geojson_document(self))

    def to_csv(self, path: Path | str | None = None) -> str:
        """A table with a header, one line an instance: see ``finemask.inference.writers.csv_table.COLUMNS``.

        Args:
            path: also write it there.
        """
        from finemask.inference.writers.csv_table import csv_text

        text = csv_text([self])
        if path is not None:
            write_text(Path(path), text)
        return text


def instances_from_detections(
    detections: Detections,
    categories: Sequence[Category],
    threshold_of: Callable[[str], float],
    *,
    image: NDArray[np.uint8] | None = None,
    name: str = "image",
    path: Path | None = None,
) -> Instances:
    """What a model found, above its threshold, with masks as RLE; masks below it are never pasted.

    Args:
        detections: of one image, on any device.
        categories: of the model.
        threshold_of: category name to score threshold.
        image: see ``Instances``.
        name: see ``Instances``.
        path: see ``Instances``.
    """
    labels, scores = detections["labels"].cpu(), detections["scores"].float().cpu()
    limits = np.array([threshold_of(category.name) for category in categories], dtype=np.float32)
    kept = np.flatnonzero(scores.numpy() >= limits[labels.numpy() - 1])
    boxes = detections["boxes"].float().cpu()[kept]
    mask_probs = detections["mask_probs"].cpu()[kept]
    return Instances(
        boxes=boxes.numpy(),
        labels=labels.numpy()[kept].astype(np.int64),
        scores=scores.numpy()[kept],
        rles=masks_to_rles(mask_probs, boxes, detections["image_size_hw"]),
        image_size_hw=detections["image_size_hw"],
        categories=categories,
        image=image,
        name=name,
        path=path,
    )


def _also_written(path: Path | str | None, document: dict[str, Any]) -> dict[str, Any]:
    if path is not None:
        write_json(Path(path), document)
    return document

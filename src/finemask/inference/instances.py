"""The instances found in one image, and the forms they are wanted in: masks, pictures, COCO, LabelMe, GeoJSON, CSV."""

import io
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from finemask.errors import MissingExtraError
from finemask.inference.content.video_frames import Frame
from finemask.inference.outputs.geojson import geojson_document
from finemask.inference.outputs.instance_table import CSV_COLUMNS, InstanceRow, csv_text, data_frame, instance_rows
from finemask.ops.box_ops import touching_pairs
from finemask.ops.colours import colours
from finemask.ops.contours import TOLERANCE_PX, mask_to_polygons
from finemask.ops.drawing import draw_instances, with_legend
from finemask.ops.files.atomic_files import write_json, write_text
from finemask.ops.images.georeference import read_georeference
from finemask.ops.images.image_kinds import image_suffixes
from finemask.ops.images.scale_bar import with_scale_bar
from finemask.ops.labelme import labelme_document, labelme_shape, outline_with_holes
from finemask.ops.mask_ops import masks_to_rles
from finemask.ops.rle import mask_iou, rle_box_xywh, rle_to_crop, rle_to_mask
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
        frame: its place in a video, if it is of one.
        track_ids: int64 [N], from 1 on: the same for the same thing in all frames of a video, where it was followed.
        drift: how unlike the training images it is, above 1 it is; None: not known.
        pixel_m: side of a pixel of the image, m, for a scale bar; None: not known.
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
    frame: Frame | None = None
    track_ids: NDArray[np.int64] | None = None
    drift: float | None = None
    pixel_m: float | None = None

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
            track_ids=None if self.track_ids is None else self.track_ids[numbers],
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
        corners = np.array([rle_box_xywh(rle) for rle in self.rles], dtype=np.int64).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        order = np.argsort(-self.scores, kind="stable")
        better: list[list[int]] = [[] for _ in order]
        for one, other in np.argsort(order)[touching_pairs(corners)].tolist():
            better[max(one, other)].append(order[min(one, other)])
        is_kept = np.ones(len(self), dtype=np.bool_)
        for this, before in zip(order.tolist(), better, strict=True):
            kept = [self.rles[number] for number in before if is_kept[number]]
            is_kept[this] = not (mask_iou([self.rles[this]], kept) > iou_thresh).any()
        return np.flatnonzero(~is_kept)

    def refined(self, image: NDArray[np.uint8] | Image.Image | None = None) -> "Instances":
        """The same instances with the outlines of their masks on the picture's edges nearby; boxes stay.

        Args:
            image: where to look for edges, RGB of ``image_size_hw``; the image that was predicted on by default.

        Raises:
            ValueError: there is no image to look at.
        """
        from finemask.ops.sobel_refine import refine_mask

        picture = self._picture(image, "refined")
        return replace(self, rles=[refine_mask(picture, rle) for rle in self.rles])

    def draw(self, image: NDArray[np.uint8] | Image.Image | None = None, *, color_by: str = "instance") -> Image.Image:
        """Masks, boxes, names and scores over the image.

        Below it there are a scale bar where ``pixel_m`` is known, and a legend where colours are those of classes.

        Args:
            image: what to draw on, RGB of ``image_size_hw``; the image that was predicted on by default.
            color_by: ``"instance"``, or ``"class"``: labels are then scores alone, and a strip below the picture names
                the classes found.

        Returns:
            An RGB picture; small images come back enlarged (``finemask.ops.drawing.upscale_factor``).

        Raises:
            ValueError: there is no image to draw on, or an unknown ``color_by``.
        """
        picture = self._picture(image, "draw")
        if color_by not in ("instance", "class"):
            raise ValueError(f"color_by is 'instance' or 'class', not {color_by!r}")
        captions = [f"{name} {score:.2f}" for name, score in zip(self.class_names, self.scores, strict=True)]
        palette = None
        if color_by == "class":  # a legend names it: labels are the shorter, and hide the less
            captions = [f"{score:.2f}" for score in self.scores]
            palette = colours(int(label) - 1 for label in self.labels)
        if self.track_ids is not None:
            captions = [f"{number} {caption}" for number, caption in zip(self.track_ids, captions, strict=True)]
            palette = colours(int(number) - 1 for number in self.track_ids) if palette is None else palette
        drawn = draw_instances(picture, rles=self.rles, boxes_xyxy=self.boxes, captions=captions, palette=palette)
        if self.pixel_m is not None:
            drawn = with_scale_bar(drawn, self.pixel_m * picture.shape[1] / drawn.width)
        if color_by == "instance":
            return drawn
        found = sorted(set(self.labels.tolist()))
        return with_legend(drawn, [(*colours([label - 1]), self.categories[label - 1].name) for label in found])

    def _picture(self, image: NDArray[np.uint8] | Image.Image | None, method: str) -> NDArray[np.uint8]:
        picture = self.image if image is None else np.asarray(image)
        if picture is None:
            raise ValueError(f"the image was not kept; give one: {method}(image)")
        return picture

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
        """A LabelMe document, to correct by hand: a polygon for each connected part of a mask, thinned within 1 px.

        The parts of an instance of several share a ``group_id``; holes hang on their outline by a bridge without
        width, but for those of up to 2 px, which are filled. ``finemask data convert`` reads all of it back.

        Args:
            path: also write it there. The image is then named relative to it.

        Returns:
            The document; an image that is no file, such as a frame of a video, is embedded if ``image`` was kept.
        """
        shapes = []
        columns = zip(self.rles, self.class_names, self.scores, strict=True)
        for number, (rle, name, score) in enumerate(columns, start=1):
            parts = mask_to_polygons(*rle_to_crop(rle))
            group = number if len(parts) > 1 else None
            for part in parts:
                points = outline_with_holes(part, least_hole_px=2 * TOLERANCE_PX)
                shapes.append(labelme_shape(name, points, group=group, description=f"score {score:.3f}"))
        if self.path is None and self.image is not None:
            own = PurePosixPath(self.name)
            stem = own.stem if own.suffix.lower() in image_suffixes() else own.name
            image_path, embedded = f"{stem}.jpg", _jpeg(self.image)
        else:
            image_path, embedded = self._path_from(None if path is None else Path(path).parent), None
        document = labelme_document(shapes, image_path, self.image_size_hw, embedded)
        if path is not None:
            write_json(Path(path), document)
        return document

    def _path_from(self, folder: Path | None) -> str:
        """The image's path as a file in ``folder`` names it; its name alone without a folder or without a file."""
        if self.path is None or folder is None:
            return self.name if self.path is None else self.path.name
        try:
            return Path(os.path.relpath(self.path, folder)).as_posix()
        except ValueError:  # on another drive, under Windows
            return str(self.path.absolute())

    def to_geojson(self, path: Path | str | None = None, *, in_pixels: bool = False) -> dict[str, Any]:
        """A GeoJSON FeatureCollection with holes: ``finemask.inference.outputs.geojson``.

        Coordinates are those of the map if the file that was read has any, a GeoTIFF or a picture with a world file
        beside it; else pixels, y downwards, as QuPath reads them. The document says which.

        Args:
            path: also write it there.
            in_pixels: pixels, whatever the file has.
        """
        no_file = self.path is None or in_pixels
        georeference = None if no_file else read_georeference(Path(str(self.path)), self.image_size_hw)
        document = geojson_document(self.rles, self.class_names, self.labels, self.scores, georeference)
        if path is not None:
            write_json(Path(path), document, indent=None)
        return document

    def rows(self) -> Iterator[InstanceRow]:
        """One row an instance: class, score, box, area, perimeter, centroid, mean colour, drift of the image."""
        return instance_rows(self.name, self.to_coco(), self.class_names, self.boxes, self.image, self.drift)

    def to_csv(self, path: Path | str | None = None) -> str:
        """A table with a header and one line an instance: the columns of ``InstanceRow``.

        Args:
            path: also write it there.
        """
        text = csv_text(CSV_COLUMNS, self.rows())
        if path is not None:
            write_text(Path(path), text)
        return text

    def to_dataframe(self) -> Any:
        """A ``pandas.DataFrame``, one row an instance: the columns of ``InstanceRow``.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        return data_frame(self.rows())

    def to_supervision(self) -> Any:
        """``supervision.Detections``: boxes, dense masks, scores, ``class_id`` from 0 on, and ``class_name``.

        Raises:
            MissingExtraError: supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise MissingExtraError("supervision", "supervision", needed_for="to_supervision()") from error
        return supervision.Detections(
            xyxy=self.boxes,
            mask=self.masks,
            confidence=self.scores,
            class_id=self.labels - 1,
            data={"class_name": np.array(self.class_names, dtype=str)},
        )


def instances_from_detections(
    detections: Detections,
    categories: Sequence[Category],
    limits: Mapping[str, float],
    *,
    image: NDArray[np.uint8] | None = None,
    name: str = "image",
    path: Path | None = None,
    frame: Frame | None = None,
) -> Instances:
    """What a model found, above its threshold, with masks as RLE; masks below it are never pasted.

    Args:
        detections: of one image, on any device.
        categories: of the model.
        limits: the least score of each category, by name.
        image: see ``Instances``.
        name: see ``Instances``.
        path: see ``Instances``.
        frame: see ``Instances``.
    """
    labels, scores = detections["labels"].cpu(), detections["scores"].float().cpu()
    least = np.array([limits[category.name] for category in categories], dtype=np.float32)
    kept = np.flatnonzero(scores.numpy() >= least[labels.numpy() - 1])
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
        frame=frame,
    )


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image).save(content, format="JPEG", quality=95, subsampling=0)
    return content.getvalue()

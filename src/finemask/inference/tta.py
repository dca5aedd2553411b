"""Test-time augmentation: each image in several sizes and mirrored, the detections of all views merged."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torchvision.models.detection.transform import resize_boxes

from finemask.errors import ConfigError
from finemask.model.mask_rcnn import ImageTransform, MaskRCNN
from finemask.model.suppression import settle_masks
from finemask.types import Detections, Preprocessing

Tta: TypeAlias = str | int | Sequence[str | int]

_SMALLEST = 32  # px, as of model.min_size


class View(NamedTuple):
    """One way of looking at an image."""

    min_size: int  # px of the shorter side
    is_flipped: bool = False  # left to right


class _Encoded(NamedTuple):
    """An image as the model saw it through a view."""

    is_flipped: bool
    features: dict[str, Tensor]
    size_hw: tuple[int, int]  # of the resized image, px


class AugmentedMaskRCNN(nn.Module):
    """A trained Mask R-CNN that looks at each image through several views.

    The recipe is that of Detectron2's ``GeneralizedRCNNWithTTA``: the boxes found through all views are merged by the
    model's own suppression, then the mask of each merged box is predicted through every view and the probabilities
    are averaged. Resizing and normalising stay the model's own; the bound on the longer side grows with the shorter.

    Args:
        model: in evaluation mode when it is called.
        views: at least one; boxes and masks are compared in the frame of the first, which must not be flipped.
    """

    def __init__(self, model: MaskRCNN, views: Sequence[View]) -> None:
        super().__init__()
        if not views or views[0].is_flipped:
            raise ValueError("the first view is not flipped")
        self.model = model
        self.views = list(views)
        self.transforms = nn.ModuleList(_transform(model, view.min_size) for view in views)

    @property
    def preprocessing(self) -> Preprocessing:
        """What the largest view does to an image."""
        return max((_preprocessing(transform) for transform in self.transforms), key=lambda own: own.min_size[-1])

    def forward(self, images: Sequence[Tensor]) -> list[Detections]:
        """One ``Detections`` an image, in that image's own pixels; each goes alone, as in ``MaskRCNN.detect``.

        Args:
            images: uint8 RGB [3, H, W] each, any sizes.
        """
        return [self._detect(image) for image in images]

    def _detect(self, image: Tensor) -> Detections:
        heads = self.model.roi_heads
        own_hw, first = (image.shape[-2], image.shape[-1]), self.transforms[0]
        assert isinstance(first, ImageTransform)
        frame_hw = first.resized_size(own_hw)
        encoded, found = [], []
        for view, transform in zip(self.views, self.transforms, strict=True):
            batch, _ = transform([image.flip(-1) if view.is_flipped else image])
            features, size_hw = self.model.backbone(batch.tensors), batch.image_sizes[0]
            proposals, _ = self.model.rpn(batch, features)
            (boxes,), (scores,), (labels,) = heads.detect_boxes(features, proposals, batch.image_sizes)
            boxes = _mirrored(boxes, size_hw) if view.is_flipped else boxes
            found.append((_resized(boxes, size_hw, frame_hw), scores, labels))
            encoded.append(_Encoded(view.is_flipped, features, size_hw))
        boxes, scores, labels = self._merge(found)
        probs, scores = self._masks(encoded, boxes, scores, labels, frame_hw)
        merged = settle_masks(boxes, scores, labels, probs, frame_hw, heads.suppression, heads.detections_per_img)
        return self.model.transform.postprocess([merged], [frame_hw], [own_hw])[0]

    def _merge(self, found: Sequence[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes, scores and labels out of those of each view, all in the frame of the first."""
        boxes, scores, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
        if len(found) > 1:  # else it has been done, and doing it twice would halve soft scores twice
            heads = self.model.roi_heads
            kept, scores = heads.suppression.by_box(boxes, scores, labels, heads.detections_per_img)
            boxes, labels = boxes[kept], labels[kept]
        return boxes, scores, labels

    def _masks(
        self,
        encoded: Sequence[_Encoded],
        boxes: Tensor,
        scores: Tensor,
        labels: Tensor,
        frame_hw: tuple[int, int],
    ) -> tuple[Tensor, Tensor]:
        """Mean mask probabilities [N, M, M] and scores [N] over all views.

        Boxes are in the frame of the first view; scores change where the mask predictor changes them.
        """
        masks, changed = [], []
        for is_flipped, features, size_hw in encoded:
            seen = _resized(boxes, frame_hw, size_hw)
            seen = _mirrored(seen, size_hw) if is_flipped else seen
            (probs,), (rescored,) = self.model.roi_heads.detect_masks(features, [seen], [scores], [labels], [size_hw])
            masks.append(probs.flip(-1) if is_flipped else probs)
            changed.append(rescored)
        return torch.stack(masks).mean(dim=0), torch.stack(changed).mean(dim=0)


def parse_views(tta: Tta, own_size: int) -> list[View]:
    """The views that a setting means.

    Args:
        tta: ``"flip"``, a shorter side in px, or a list of several of them; with ``flip`` among them, every size is
            looked at mirrored as well.
        own_size: px of the shorter side that the model was made for; it is what ``flip`` alone is done at.

    Raises:
        ConfigError: none of these.
    """
    words = [tta] if isinstance(tta, str | int) else list(tta)
    sizes = [word for word in words if isinstance(word, int) and not isinstance(word, bool) and word >= _SMALLEST]
    flips = words.count("flip")
    if not words or len(sizes) + flips < len(words) or flips > 1 or len(set(sizes)) < len(sizes):
        raise ConfigError(
            f"tta={tta}",
            remedy=f"It is flip, a list of shorter sides in px from {_SMALLEST} such as [240,320], or both: "
            "[flip,240,320].",
        )
    chosen = sizes or [own_size]
    mirrored = [View(size, is_flipped=True) for size in chosen] if flips else []
    return [View(size) for size in chosen] + mirrored


def _preprocessing(transform: nn.Module) -> Preprocessing:
    assert isinstance(transform, ImageTransform)
    return transform.preprocessing


def _transform(model: MaskRCNN, min_size: int) -> ImageTransform:
    own = model.preprocessing
    usual = own.min_size[-1]
    if own.min_size == (min_size,):
        return model.transform
    longest = own.max_size if min_size == usual else max(min_size, round(own.max_size * min_size / usual))
    return ImageTransform(replace(own, min_size=(min_size,), max_size=longest))


def _resized(boxes: Tensor, size_hw: tuple[int, int], wanted_hw: tuple[int, int]) -> Tensor:
    """Boxes [N, 4] of an image in the same image of another size."""
    if size_hw == wanted_hw:
        return boxes
    resized: Tensor = resize_boxes(boxes, size_hw, wanted_hw)
    return resized


def _mirrored(boxes: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Boxes [N, 4] in the image's mirror image."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack([size_hw[1] - x2, y1, size_hw[1] - x1, y2], dim=-1)

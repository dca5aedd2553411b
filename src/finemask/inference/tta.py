"""Test-time augmentation: each image looked at in several sizes, and mirrored, and the findings put together."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torchvision.models.detection.transform import resize_boxes

from finemask.errors import ConfigError
from finemask.model.mask_rcnn import MaskRCNN
from finemask.model.suppression import settle_masks
from finemask.model.transform import ImageTransform
from finemask.types import Detections, Preprocessing

Tta: TypeAlias = str | int | Sequence[str | int]

_SMALLEST = 32  # px, as of model.min_size


class View(NamedTuple):
    """One way of looking at an image."""

    min_size: int  # px of the shorter side
    is_flipped: bool = False  # left to right


class _Sight(NamedTuple):
    """What the model saw of a batch of images through a view."""

    is_flipped: bool
    features: dict[str, Tensor]
    sizes: list[tuple[int, int]]  # height and width of the resized images, px


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
        return [found for image in images for found in self._detect([image])]

    def _detect(self, images: Sequence[Tensor]) -> list[Detections]:
        looks = [self._look(images, *view) for view in zip(self.views, self.transforms, strict=True)]
        sights = [sight for sight, _ in looks]
        frame = sights[0].sizes
        boxes, scores, labels = self._merge([found for _, found in looks])
        probs, scores = self._masks(sights, boxes, scores, labels)
        heads = self.model.roi_heads
        detections = [
            settle_masks(*of_image, heads.suppression, heads.detections_per_img)
            for of_image in zip(boxes, scores, labels, probs, frame, strict=True)
        ]
        original = [(image.shape[-2], image.shape[-1]) for image in images]
        return self.model.transform.postprocess(detections, frame, original)

    def _look(
        self, images: Sequence[Tensor], view: View, transform: nn.Module
    ) -> tuple[_Sight, list[tuple[Tensor, Tensor, Tensor]]]:
        """Boxes, scores and labels of each image, in the frame of the first view."""
        batch, _ = transform([image.flip(-1) for image in images] if view.is_flipped else images)
        features = self.model.backbone(batch.tensors)
        proposals, _ = self.model.rpn(batch, features)
        found = self.model.roi_heads.detect_boxes(features, proposals, batch.image_sizes)
        sight = _Sight(view.is_flipped, features, batch.image_sizes)
        first = self.transforms[0]
        assert isinstance(first, ImageTransform)
        frame = [first.resized_size((image.shape[-2], image.shape[-1])) for image in images]
        boxes = [_mirrored(b, size) if view.is_flipped else b for b, size in zip(found[0], sight.sizes, strict=True)]
        boxes = [_resized(b, size, wanted) for b, size, wanted in zip(boxes, sight.sizes, frame, strict=True)]
        return sight, list(zip(boxes, found[1], found[2], strict=True))

    def _merge(
        self, found: Sequence[Sequence[tuple[Tensor, Tensor, Tensor]]]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Boxes, scores and labels of each image out of those of each view and image."""
        heads = self.model.roi_heads
        merged = []
        for of_image in zip(*found, strict=True):
            boxes, scores, labels = (torch.cat(parts) for parts in zip(*of_image, strict=True))
            if len(found) > 1:  # else it has been done, and doing it twice would halve soft scores twice
                kept, scores = heads.suppression.by_box(boxes, scores, labels, heads.detections_per_img)
                boxes, labels = boxes[kept], labels[kept]
            merged.append((boxes, scores, labels))
        return [b for b, _, _ in merged], [s for _, s, _ in merged], [c for _, _, c in merged]

    def _masks(
        self, sights: Sequence[_Sight], boxes: list[Tensor], scores: list[Tensor], labels: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Mean mask probabilities [N, M, M] and scores [N] of each image over all views.

        Boxes are in the frame of the first view; scores change where the mask predictor changes them.
        """
        frame = sights[0].sizes
        masks, changed = [], []
        for sight in sights:
            seen = [_resized(b, size, wanted) for b, size, wanted in zip(boxes, frame, sight.sizes, strict=True)]
            if sight.is_flipped:
                seen = [_mirrored(b, size) for b, size in zip(seen, sight.sizes, strict=True)]
            probs, rescored = self.model.roi_heads.detect_masks(sight.features, seen, scores, labels, sight.sizes)
            masks.append([of_image.flip(-1) for of_image in probs] if sight.is_flipped else probs)
            changed.append(rescored)
        return _means(masks), _means(changed)


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


def _means(of_views: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Of each image over all views."""
    return [torch.stack(list(of_image)).mean(dim=0) for of_image in zip(*of_views, strict=True)]


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

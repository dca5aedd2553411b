"""What travels between the layers.

Shape shorthand, used in every docstring of the package:

    B  images in a batch             N  instances of one image
    R  regions of interest (RoIs)    K  categories; K + 1 classes with background as 0
    H, W  image height and width     L  layers of one image's label maps
    C  channels                      M  side of a mask prediction (28, or finer)

Boxes are ``xyxy`` in absolute pixels unless a name says otherwise; labels are 1..K.
"""

# torch is only named here: the verbs of data start without it, in a third of the time.
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, NotRequired, Protocol, TypedDict

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torchvision.models.detection.image_list import ImageList


class Category(NamedTuple):
    """A category of a COCO file. Its label is its position in the dataset's list plus one."""

    id: int
    name: str
    supercategory: str = ""


class Rle(TypedDict):
    """COCO's compressed run-length encoding: column-major runs, ``size`` is [H, W]."""

    size: list[int]
    counts: str


class Target(TypedDict):
    """Ground truth of one image, as the model is trained on it.

    Instance ``i`` is the set of pixels where ``layers[slots[i, 0]] == slots[i, 1]``; see ``finemask.ops.layers``.
    """

    boxes: Tensor  # float32 [N, 4], xyxy px, read off the layers
    labels: Tensor  # int64 [N], 1..K
    layers: Tensor  # uint8 [L, H, W], 0 is nothing
    slots: Tensor  # int64 [N, 2]: layer number, value in that layer (1..255)
    image_id: int  # the id in the annotation file


class Detections(TypedDict):
    """What the model found in one image, best score first, in pixels of the image it was given."""

    boxes: Tensor  # float32 [N, 4], xyxy px, inside the image
    labels: Tensor  # int64 [N], 1..K
    scores: Tensor  # float32 [N], 0..1
    mask_probs: Tensor  # float32 [N, M, M], probability of the predicted class inside the box
    image_size_hw: tuple[int, int]  # of the image as it was given


class CocoResult(TypedDict):
    """One entry of a COCO results file."""

    image_id: int
    category_id: int
    bbox: list[float]  # xywh px
    score: float
    segmentation: NotRequired[Rle]


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What the model's own transform does to a uint8 RGB image; nobody else may do it again.

    Args:
        min_size: shorter side in px after resizing; several values are drawn from in training.
        max_size: upper bound of the longer side in px.
        image_mean: per channel, on the 0..1 scale.
        image_std: per channel, on the 0..1 scale.
        clahe: clip limit of contrast equalisation, before all else; see ``finemask.ops.images.clahe``; 0 is none.
    """

    min_size: tuple[int, ...]
    max_size: int
    image_mean: tuple[float, float, float]
    image_std: tuple[float, float, float]
    clahe: float = 0.0

    def scale(self, size_hw: tuple[int, int]) -> float:
        """The factor that brings an image of this height and width to the model's size, outside of training."""
        return min(self.min_size[-1] / min(size_hw), self.max_size / max(size_hw))


class Backbone(Protocol):
    """Images [B, 3, H, W], H and W multiples of 32, to feature maps [B, out_channels, h, w] by name, finest first.

    Torchvision's own kind. Maps named by numbers, ``0``, ``1``, …, are what RoIs are pooled from; others are only for
    the RPN, and ``model.anchors`` has sizes for all of them. A module, which may have ``stages``: names of its modules
    in five lists, stem and strides 4 to 32, that ``transfer`` freezes one by one.
    """

    out_channels: int

    def __call__(self, images: Tensor) -> Mapping[str, Tensor]: ...


class HeadFactory(Protocol):
    """Builds what stands between pooled features and a predictor.

    A box head turns [R, in_channels, 7, 7] into [R, D], a mask head [R, in_channels, 14, 14] into [R, D, 14, 14].

    Returns:
        The head and D; or the head alone, if it has D as ``out_channels``.
    """

    def __call__(self, in_channels: int) -> tuple[nn.Module, int] | nn.Module: ...


class ProposalNetwork(Protocol):
    """Region proposals; built with ``in_channels`` of the maps and ``anchors``, torchvision's generator of them.

    Args:
        images: torchvision's ``ImageList``.
        features: maps by name.
        targets: in training; None otherwise.

    Returns:
        Proposals [P, 4] of each image, xyxy px of the batch, best first; and losses by name, empty without targets.
    """

    def __call__(
        self, images: ImageList, features: Mapping[str, Tensor], targets: list[Target] | None = None
    ) -> tuple[list[Tensor], dict[str, Tensor]]: ...


class BoxPredictorFactory(Protocol):
    """Builds the part that turns box features [R, C] into class logits [R, K + 1] and deltas [R, 4 (K + 1)].

    One that needs more than these features also derives from ``BoxBranch`` of ``finemask.model.box_predictor``.
    """

    def __call__(self, in_channels: int, num_classes: int) -> nn.Module: ...


class MaskPredictorFactory(Protocol):
    """Builds the part that turns mask features [R, C, M / 2, M / 2] and labels [R] into mask logits [R, M, M].

    One that needs or answers more than that has the methods of ``MaskBranch`` in ``finemask.model.mask_predictor``.
    """

    def __call__(self, in_channels: int, num_classes: int) -> nn.Module: ...


class ClassLoss(Protocol):
    """Classification loss of the box head.

    Args:
        class_logits: [R, K + 1].
        labels: int64 [R], 0 is background.

    Returns:
        A scalar, the mean over R; finite and differentiable for R = 0 as well.
    """

    def __call__(self, class_logits: Tensor, labels: Tensor) -> Tensor: ...


class BoxLoss(Protocol):
    """Regression loss of the box head, on the P positive RoIs and the deltas of their true class only.

    Args:
        deltas: [P, 4], as torchvision's ``BoxCoder`` writes them.
        target_deltas: [P, 4], what they should be.
        proposals: [P, 4], xyxy px, what the deltas are relative to.
        decode: deltas [P, 4] and proposals [P, 4] to boxes [P, 4], xyxy px; it knows the scale of the deltas.

    Returns:
        A scalar, the sum over P, which the caller divides by R; finite and differentiable for P = 0 as well.
    """

    def __call__(
        self,
        deltas: Tensor,
        target_deltas: Tensor,
        proposals: Tensor,
        decode: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor: ...


class Suppression(Protocol):
    """Chooses which of an image's overlapping candidates are detections: before they get masks, and once more after.

    A part that only looks at boxes derives ``by_mask`` from ``finemask.model.suppression.BoxesOnly``.
    """

    def by_box(self, boxes: Tensor, scores: Tensor, labels: Tensor, limit: int) -> tuple[Tensor, Tensor]:
        """Before there are masks.

        Args:
            boxes: [N, 4], xyxy px.
            scores: [N], 0..1.
            labels: int64 [N], 1..K.
            limit: on the detections of an image.

        Returns:
            Positions int64 [M] of those that are kept, and their scores [M], which may have changed; best first. At
            most ``limit``, or more where ``by_mask`` still drops some.
        """
        ...

    def by_mask(
        self,
        boxes: Tensor,
        scores: Tensor,
        labels: Tensor,
        mask_probs: Tensor,
        image_size_hw: tuple[int, int],
        limit: int,
    ) -> Tensor:
        """With their masks.

        Args:
            boxes: [M, 4], xyxy px.
            scores: [M], 0..1, descending.
            labels: int64 [M], 1..K.
            mask_probs: [M, S, S], 0..1, of the predicted class inside the box.
            image_size_hw: of the image that boxes are in, px.
            limit: on the detections of an image.

        Returns:
            Positions int64 of those that are kept, at most ``limit``, best first.
        """
        ...


class MaskLoss(Protocol):
    """Loss of the mask head, on the logits of the ground-truth class only.

    Args:
        mask_logits: [R, M, M].
        mask_targets: float [R, M, M], 0..1.
        labels: int64 [R], 1..K.

    Returns:
        A scalar, finite and differentiable for R = 0 as well.
    """

    def __call__(self, mask_logits: Tensor, mask_targets: Tensor, labels: Tensor) -> Tensor: ...


class ProposalSampler(Protocol):
    """Chooses which proposals the box head trains on.

    Args:
        labels: one int64 [R] an image; -1 is ignored, 0 is background.
        hardness: computes, when it is called, the classification loss of each proposal, one float [R] an image.

    Returns:
        The positions of the chosen ones, one int64 [S] an image, ascending.
    """

    def __call__(self, labels: list[Tensor], hardness: Callable[[], list[Tensor]]) -> list[Tensor]: ...

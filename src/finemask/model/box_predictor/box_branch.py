"""Box branch: RoIs to box features, box losses and scored boxes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, TwoMLPHead
from torchvision.ops import clip_boxes_to_image

from finemask.model.devices.gpu.crossing import send
from finemask.model.devices.gpu.truths import Truths
from finemask.model.samplers import Sample, positives_of
from finemask.ops.box_ops import ScoredBoxes, candidates_of
from finemask.types import BoxLoss, ClassLoss, Suppression, Target

POOLED_BOX = 7  # side of a pooled box feature


def two_mlp(in_channels: int, representation_size: int = 1024) -> tuple[nn.Module, int]:
    """Two fully connected layers on the flattened 7 × 7 feature; returns the head and its output width."""
    return TwoMLPHead(in_channels * POOLED_BOX**2, representation_size), representation_size


def conv_fc(
    in_channels: int, channels: Sequence[int] = (256, 256, 256, 256), representation_size: int = 1024
) -> tuple[nn.Module, int]:
    """Convolutions with batch norm, then one fully connected layer (torchvision's v2 recipe)."""
    head = FastRCNNConvFCHead(
        (in_channels, POOLED_BOX, POOLED_BOX),
        list(channels),
        [representation_size],
        norm_layer=nn.BatchNorm2d,
    )
    return head, representation_size


@dataclass(frozen=True)
class BoxCriterion:
    """Box losses: classification over all sampled RoIs, regression over the positive ones.

    Both are averaged over all sampled RoIs, as in torchvision's ``fastrcnn_loss``, so that an image with few positives
    pulls at the boxes less. For deltas of another scale: ``dataclasses.replace(criterion, box_coder=…)``.

    Args:
        class_loss: see ``finemask.types.ClassLoss``.
        box_loss: see ``finemask.types.BoxLoss``.
        box_coder: what wrote the target deltas.
    """

    class_loss: ClassLoss
    box_loss: BoxLoss
    box_coder: BoxCoder

    def __call__(
        self,
        class_logits: Tensor,
        box_regression: Tensor,
        labels: Tensor,
        regression_targets: Tensor,
        proposals: Tensor,
        positive: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Losses of one batch.

        Args:
            class_logits: [R, K + 1].
            box_regression: [R, 4 (K + 1)], deltas.
            labels: int64 [R], 0 is background.
            regression_targets: [R, 4], deltas.
            proposals: [R, 4], xyxy px, what the deltas are relative to.
            positive: int64, positions of labels above 0, where they are known.

        Returns:
            ``loss_classifier`` and ``loss_box_reg``, scalars, finite and differentiable for R = 0 as well.
        """
        positive = torch.where(labels > 0)[0] if positive is None else positive
        of_classes = box_regression.reshape(-1, box_regression.shape[1] // 4, 4)
        loss_box_reg = self.box_loss(
            of_classes[positive, labels[positive]],
            regression_targets[positive],
            proposals[positive],
            self.box_coder.decode_single,
        )
        return {
            "loss_classifier": self.class_loss(class_logits, labels),
            "loss_box_reg": loss_box_reg / max(1, labels.numel()),
        }


@dataclass(frozen=True, slots=True)
class BoxContext:
    """Features, targets, modules and settings of the second stage for one batch.

    Args:
        features: pyramid levels by name, [B, C, H, W] each.
        image_shapes: height and width of each image, px.
        targets: ground truth of each image; none in evaluation, nor where there are ``truths``.
        roi_pool: features, boxes and shapes to [R, C, 7, 7].
        box_head: pooled features to [R, D].
        box_predictor: what the configuration named; the branch itself, where that extends ``BoxBranch``.
        box_coder: boxes to deltas and back.
        box_loss: classification and regression together.
        score_thresh: detections below it are dropped.
        suppression: see ``finemask.types.Suppression``.
        detections_per_img: at most so many are kept.
        truths: ground truth of all images in tensors of one size, where a step waits for nothing.
    """

    features: dict[str, Tensor]
    image_shapes: list[tuple[int, int]]
    targets: list[Target]
    roi_pool: nn.Module
    box_head: nn.Module
    box_predictor: nn.Module
    box_coder: BoxCoder
    box_loss: BoxCriterion
    score_thresh: float
    suppression: Suppression
    detections_per_img: int
    truths: Truths | None = None

    def pool(self, boxes: list[Tensor]) -> Tensor:
        """Boxes [R, 4] of each image to features [sum of R, C, 7, 7]."""
        pooled: Tensor = self.roi_pool(self.features, boxes, self.image_shapes)
        return pooled


class BoxBranch:
    """Box branch of Faster R-CNN: RoIs to losses in training, to detections in evaluation.

    A box predictor that only turns features into logits and deltas needs to know nothing of this. One that needs the
    pooled features, the boxes, the targets or the pyramid derives from this class as well, and replaces the method it
    does differently. Without state of its own: parameters are the predictor's.
    """

    def attach(self, box_head: nn.Module, channels: int) -> None:
        """Completes the predictor with what depends on the rest of the model; called once, before weights are loaded.

        Args:
            box_head: of the model; parts that begin as the plain head are copies of it.
            channels: C, of the pooled features.
        """

    def seeds(self) -> dict[str, str]:
        """Which tensors begin as copies of plain ones, when a file of weights has only those.

        Returns:
            Name to plain name, both within the second stage, such as ``box_head.fc6.weight``.
        """
        return {}

    def predict(self, context: BoxContext, boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Boxes [R, 4] of each image to logits [sum of R, K + 1] and deltas [sum of R, 4 (K + 1)]."""
        logits, deltas = context.box_predictor(context.box_head(context.pool(boxes)))
        return logits.float(), deltas.float()  # box coding and softmax are float32 under autocast too

    def losses(self, context: BoxContext, samples: list[Sample]) -> dict[str, Tensor]:
        """Scalars by name, at least ``loss_classifier`` and ``loss_box_reg``."""
        logits, deltas = self.predict(context, [sample.boxes for sample in samples])
        return box_losses(context.box_loss, context.box_coder, logits, deltas, samples)

    @torch.no_grad()
    def hardness(self, context: BoxContext, candidates: list[Sample]) -> list[Tensor]:
        """Classification loss of each candidate, one float [R] an image: what a sampler may choose by."""
        device = next(iter(context.features.values())).device.type
        # Weights that autocast would keep converted from here are without a gradient.
        with torch.autocast(device, enabled=torch.is_autocast_enabled(device), cache_enabled=False):
            logits, _ = self.predict(context, [candidate.boxes for candidate in candidates])
        labels = torch.cat([candidate.labels for candidate in candidates]).clamp(min=0)
        losses = functional.cross_entropy(logits, labels, reduction="none")
        return list(losses.split([len(candidate.boxes) for candidate in candidates]))

    def score(self, context: BoxContext, proposals: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Proposals [R, 4] of each image to scores [sum of R, K + 1] and a box for each class, [sum of R, K + 1, 4]."""
        logits, deltas = self.predict(context, proposals)
        return logits.softmax(dim=-1), decode_boxes(context.box_coder, deltas, proposals)

    def settle(self, context: BoxContext, candidates: ScoredBoxes) -> ScoredBoxes:
        """The detections of one image, best first: what the suppression leaves of all candidates."""
        boxes, scores, labels = candidates.boxes, candidates.scores, candidates.labels
        kept, scores = context.suppression.by_box(boxes, scores, labels, context.detections_per_img)
        return ScoredBoxes(boxes[kept], scores, labels[kept])

    def detect(self, context: BoxContext, proposals: list[Tensor]) -> list[ScoredBoxes]:
        """The detections of each image, best first."""
        counts = [len(of_image) for of_image in proposals]
        scores, boxes = (part.split(counts) for part in self.score(context, proposals))
        return [
            self.settle(context, candidates_of(its_scores, its_boxes, image_hw, context.score_thresh))
            for its_scores, its_boxes, image_hw in zip(scores, boxes, context.image_shapes, strict=True)
        ]


def box_branch_of(box_predictor: nn.Module) -> BoxBranch:
    """The predictor itself, if it extends the branch; the plain branch for any other module."""
    return box_predictor if isinstance(box_predictor, BoxBranch) else BoxBranch()


def weight_seeds(model: nn.Module) -> dict[str, str]:
    """``BoxBranch.seeds`` of a whole Mask R-CNN, with the model's full names."""
    seeds = box_branch_of(model.get_submodule("roi_heads.box_predictor")).seeds()
    return {f"roi_heads.{name}": f"roi_heads.{plain}" for name, plain in seeds.items()}


def box_losses(
    box_loss: BoxCriterion, box_coder: BoxCoder, logits: Tensor, deltas: Tensor, samples: list[Sample]
) -> dict[str, Tensor]:
    """The loss of predictions [R, K + 1] and [R, 4 (K + 1)] for all samples' boxes, image after image."""
    boxes = torch.cat([sample.boxes for sample in samples])
    labels = torch.cat([sample.labels for sample in samples])
    wanted = box_coder.encode_single(torch.cat([sample.gt_boxes for sample in samples]), boxes)
    criterion, positive = replace(box_loss, box_coder=box_coder), positives_of(samples)
    if positive is None:
        return criterion(logits, deltas, labels, wanted, boxes)
    return criterion(logits, deltas, labels, wanted, boxes, positive)


def decode_boxes(box_coder: BoxCoder, deltas: Tensor, boxes: list[Tensor]) -> Tensor:
    """Deltas [R, 4 (K + 1)] relative to all images' boxes to boxes [R, K + 1, 4], xyxy px, not clipped."""
    decoded: Tensor = box_coder.decode_single(deltas, torch.cat(boxes))
    return decoded.reshape(-1, deltas.shape[1] // 4, 4)


def clip_each(boxes: Sequence[Tensor], image_shapes: list[tuple[int, int]]) -> list[Tensor]:
    """Boxes [R, 4] of each image, clipped to it."""
    if boxes[0].device.type == "cpu":
        return [clip_boxes_to_image(of_image, image_hw) for of_image, image_hw in zip(boxes, image_shapes, strict=True)]
    counts = [len(of_image) for of_image in boxes]
    limits = np.array([(width, height) * 2 for height, width in image_shapes], dtype=np.float32)
    of_rows = send(limits.repeat(counts, axis=0), boxes[0].device)
    return list(torch.cat(list(boxes)).clamp(min=0).minimum(of_rows).split(counts))

"""Box predictors that refine in steps: Cascade R-CNN, and one head applied repeatedly."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder

from finemask.model.box_predictor.box_branch import BoxBranch, BoxContext, box_losses, clip_each, decode_boxes
from finemask.model.box_predictor.linear import LinearBoxPredictor
from finemask.model.devices.gpu.box_coding import ScalarBoxCoder
from finemask.model.devices.gpu.sampling import relabelled
from finemask.model.samplers import Sample, label_boxes
from finemask.ops.box_ops import ScoredBoxes, vote_boxes


class CascadeBoxPredictor(BoxBranch, nn.Module):
    """Cascade R-CNN: each stage refines the boxes of the one before, and is trained for a higher IoU.

    Cai & Vasconcelos 2018, "Cascade R-CNN" (arXiv 1712.00726), with detectron2's values: regression is class-agnostic,
    each stage has its own scale of the deltas, the gradient into the shared features is divided by the number of
    stages, and scores are averaged over the stages at inference. Every stage has a head of its own, that of the first
    being the model's. A stage trains on all refined boxes of the sampled proposals, matched anew at its own IoU.

    The first stage has ``roi_heads.fg_iou_thresh``, ``roi_heads.bbox_reg_weights`` and the plain parameter names. The
    losses of the others are called ``…_stage2`` and so on.

    Args:
        in_channels: C, width of the box head's features.
        num_classes: K + 1.
        iou_thresholds: from which IoU a box is a positive of the second stage, the third, and so on.
        bbox_reg_weights: scale of the four deltas in these stages.

    Raises:
        ValueError: not one set of weights for each threshold.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        iou_thresholds: Sequence[float] = (0.6, 0.7),
        bbox_reg_weights: Sequence[Sequence[float]] = ((20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0)),
    ) -> None:
        super().__init__()
        if len(iou_thresholds) != len(bbox_reg_weights) or any(len(four) != 4 for four in bbox_reg_weights):
            raise ValueError(
                f"each of the {len(iou_thresholds)} iou_thresholds needs four bbox_reg_weights, not {bbox_reg_weights}"
            )
        self.cls_score = nn.Linear(in_channels, num_classes)
        self.bbox_pred = nn.Linear(in_channels, 4)
        self.later = nn.ModuleList()
        self._iou_thresholds = [float(thresh) for thresh in iou_thresholds]
        self._later_coders = [ScalarBoxCoder(tuple(float(weight) for weight in four)) for four in bbox_reg_weights]

    def attach(self, box_head: nn.Module, channels: int) -> None:
        """See ``BoxBranch``."""
        self.later.extend(
            _LaterStage(deepcopy(box_head), self.cls_score.in_features, self.cls_score.out_features)
            for _ in self._iou_thresholds
        )

    def seeds(self) -> dict[str, str]:
        """See ``BoxBranch``."""
        return {
            f"box_predictor.later.{number}.{name}": name if name.startswith("box_head.") else f"box_predictor.{name}"
            for number, stage in enumerate(self.later)
            for name in stage.state_dict()
        }

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features [R, C] to logits [R, K + 1] and deltas [R, 4 (K + 1)] of the first stage."""
        return self.cls_score(features), self.bbox_pred(features).repeat(1, self.cls_score.out_features)

    def losses(self, context: BoxContext, samples: list[Sample]) -> dict[str, Tensor]:
        """See ``BoxBranch``."""
        found: dict[str, Tensor] = {}
        for number, stage in enumerate(self._stages(context)):
            boxes = [sample.boxes for sample in samples]
            logits, deltas = self._predict(context, stage, boxes)
            losses = box_losses(context.box_loss, stage.coder, logits, deltas.repeat(1, logits.shape[1]), samples)
            found |= {f"{name}_stage{number + 1}" if number else name: loss for name, loss in losses.items()}
            if number < len(self._iou_thresholds):
                samples = _resample(context, _refine(context, stage, deltas, boxes), self._iou_thresholds[number])
        return found

    def score(self, context: BoxContext, proposals: list[Tensor]) -> tuple[Tensor, Tensor]:
        """See ``BoxBranch``."""
        scores, boxes = [], proposals
        for stage in self._stages(context):
            logits, deltas = self._predict(context, stage, boxes)
            scores.append(logits.softmax(dim=-1))
            boxes = _refine(context, stage, deltas, boxes)
        mean = torch.stack(scores).mean(dim=0)
        return mean, torch.cat(boxes)[:, None].expand(-1, mean.shape[1], -1)

    def _stages(self, context: BoxContext) -> list["_Stage"]:
        later = [
            _Stage(stage.get_submodule("box_head"), stage, coder)
            for stage, coder in zip(self.later, self._later_coders, strict=True)
        ]
        return [_Stage(context.box_head, self, context.box_coder), *later]

    def _predict(self, context: BoxContext, stage: "_Stage", boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits [R, K + 1] and deltas [R, 4] of one stage, for all images' boxes."""
        pooled = _ScaledGradient.apply(context.pool(boxes), 1 / (1 + len(self.later)))
        features = stage.box_head(pooled)
        return stage.linear.cls_score(features).float(), stage.linear.bbox_pred(features).float()


class _LaterStage(nn.Module):
    """Parameters of a stage after the first."""

    def __init__(self, box_head: nn.Module, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.box_head = box_head
        self.cls_score = nn.Linear(in_channels, num_classes)
        self.bbox_pred = nn.Linear(in_channels, 4)


class _Stage(NamedTuple):
    box_head: nn.Module
    linear: Any  # a module with cls_score and bbox_pred
    coder: BoxCoder


@torch.no_grad()
def _refine(context: BoxContext, stage: _Stage, deltas: Tensor, boxes: list[Tensor]) -> list[Tensor]:
    """Each image's boxes moved by the stage's deltas [R, 4], inside the image."""
    decoded = decode_boxes(stage.coder, deltas, boxes)[:, 0]
    return clip_each(decoded.split([of_image.shape[0] for of_image in boxes]), context.image_shapes)


@torch.no_grad()
def _resample(context: BoxContext, boxes: list[Tensor], iou_thresh: float) -> list[Sample]:
    """Each image's boxes with the labels that they have at this IoU."""
    if context.truths is not None:
        return relabelled(context.truths, boxes, iou_thresh)
    with_area = [
        of_image[(of_image[:, 2:] > of_image[:, :2]).all(dim=1)] for of_image in boxes
    ]  # others have no deltas
    return [
        label_boxes(of_image, target, iou_thresh, iou_thresh)
        for of_image, target in zip(with_area, context.targets, strict=True)
    ]


class _ScaledGradient(torch.autograd.Function):
    """The same values; the gradient times a factor."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.factor, None


class IterativeBoxPredictor(BoxBranch, LinearBoxPredictor):
    """Iterative box regression and box voting; trained, and stored, as the plain predictor is.

    Gidaris & Komodakis 2015 (arXiv 1505.01749), section 5, in the form f ∘ f ∘ f that Cai & Vasconcelos 2018, "Cascade
    R-CNN" (arXiv 1712.00726), section 3.1, calls iterative BBox: a box's refinement is pooled and refined again, by the
    same head, and the last pass scores it. Between passes an RoI goes on as the box of its best foreground class. At
    the end every detection becomes the mean, weighted by score, of its class's candidates around it.

    Args:
        in_channels: C, width of the box head's features.
        num_classes: K + 1.
        passes: how often the head is applied; 1 leaves voting alone.
        vote_iou_thresh: candidates with at least this IoU with a detection vote on its box; 1 is no voting.

    Raises:
        ValueError: less than one pass, or an IoU outside 0..1.
    """

    def __init__(self, in_channels: int, num_classes: int, passes: int = 2, vote_iou_thresh: float = 0.5) -> None:
        super().__init__(in_channels, num_classes)
        if passes < 1 or not 0 < vote_iou_thresh <= 1:
            raise ValueError(f"passes is at least 1, vote_iou_thresh within 0..1, not {passes} and {vote_iou_thresh}")
        self.passes = passes
        self.vote_iou_thresh = vote_iou_thresh

    def score(self, context: BoxContext, proposals: list[Tensor]) -> tuple[Tensor, Tensor]:
        """See ``BoxBranch``."""
        counts = [len(of_image) for of_image in proposals]
        for _ in range(self.passes - 1):
            logits, deltas = self.predict(context, proposals)
            best = logits[:, 1:].argmax(dim=1) + 1
            rows = torch.arange(len(best), device=best.device)
            refined = decode_boxes(context.box_coder, deltas, proposals)[rows, best]
            proposals = clip_each(refined.split(counts), context.image_shapes)
        return super().score(context, proposals)

    def settle(self, context: BoxContext, candidates: ScoredBoxes) -> ScoredBoxes:
        """See ``BoxBranch``."""
        return vote_boxes(super().settle(context, candidates), candidates, self.vote_iou_thresh)

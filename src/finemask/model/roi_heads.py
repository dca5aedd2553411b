"""torchvision's RoIHeads with the losses, the sampler and the mask targets handed in."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection.roi_heads import RoIHeads

from finemask.model.suppression.nms import NMS
from finemask.model.suppression.select import select_detections, suppress_by_masks
from finemask.ops.mask_targets import mask_targets
from finemask.ops.matching import match_boxes
from finemask.types import BoxLoss, MaskLoss, ProposalSampler, Suppression, Target


class _Sample(NamedTuple):
    """Boxes of one image and what they should become."""

    boxes: Tensor  # [R, 4]
    labels: Tensor  # int64 [R], -1..K
    matched_idxs: Tensor  # int64 [R], position among the image's instances
    gt_boxes: Tensor  # [R, 4], the matched instance's


class CriterionRoIHeads(RoIHeads):
    """Second stage of Mask R-CNN: proposals to losses, or to detections.

    Matching and box coding are torchvision's; its losses are module functions that cannot be replaced and its masks
    dense, so the forward pass is ours. Parameter names are unchanged.

    Args:
        num_classes: K + 1.
        box_roi_pool: features and boxes to [R, C, 7, 7].
        box_head: to [R, D].
        box_predictor: to logits [R, K + 1] and deltas [R, 4 (K + 1)].
        mask_roi_pool: features and boxes to [R, C, M / 2, M / 2].
        mask_head: to [R, C', M / 2, M / 2].
        mask_predictor: with labels, to logits [R, M, M].
        box_loss: see ``finemask.types.BoxLoss``.
        mask_loss: see ``finemask.types.MaskLoss``.
        sampler: see ``finemask.types.ProposalSampler``.
        fg_iou_thresh: a proposal with at least this IoU is positive.
        bg_iou_thresh: a proposal with less is background.
        bbox_reg_weights: scale of the four deltas.
        score_thresh: detections below it are dropped.
        nms_thresh: IoU above which the weaker of two detections of a class is dropped, without a ``suppression``.
        detections_per_img: at most so many are kept.
        suppression: see ``finemask.types.Suppression``; torchvision's, within each class, by default.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        box_roi_pool: nn.Module,
        box_head: nn.Module,
        box_predictor: nn.Module,
        mask_roi_pool: nn.Module,
        mask_head: nn.Module,
        mask_predictor: nn.Module,
        box_loss: BoxLoss,
        mask_loss: MaskLoss,
        sampler: ProposalSampler,
        fg_iou_thresh: float = 0.5,
        bg_iou_thresh: float = 0.5,
        bbox_reg_weights: Sequence[float] = (10.0, 10.0, 5.0, 5.0),
        score_thresh: float = 0.05,
        nms_thresh: float = 0.5,
        detections_per_img: int = 100,
        suppression: Suppression | None = None,
    ) -> None:
        super().__init__(
            box_roi_pool,
            box_head,
            box_predictor,
            fg_iou_thresh,
            bg_iou_thresh,
            1,  # batch size and positive fraction belong to the sampler
            0.5,
            tuple(bbox_reg_weights),
            score_thresh,
            nms_thresh,
            detections_per_img,
            mask_roi_pool,
            mask_head,
            mask_predictor,
        )
        self.num_classes = num_classes
        self.fg_bg_sampler = sampler
        self.box_loss = box_loss
        self.mask_loss = mask_loss
        self.suppression: Suppression = NMS(nms_thresh) if suppression is None else suppression

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[Target] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Losses in training, detections (``boxes``, ``labels``, ``scores``, ``mask_probs``) otherwise."""
        if self.training:
            if targets is None:
                raise ValueError("training needs targets")
            return [], self._losses(features, proposals, image_shapes, targets)
        return self._detections(features, proposals, image_shapes), {}

    def check_targets(self, targets: list[Target] | None) -> None:
        """Refuses labels that are not 1..K: class 0 is background, and a silent 0 trains objects away.

        Only on the CPU, where looking costs nothing; finemask's own dataset cannot make such labels.
        """
        for target in targets or []:
            labels = target["labels"]
            wrong = labels.device.type == "cpu" and bool(((labels < 1) | (labels >= self.num_classes)).any())
            if wrong:
                raise ValueError(
                    f"image {target['image_id']}: labels are 1..{self.num_classes - 1} (0 is background), "
                    f"found {labels.unique().tolist()}"
                )

    def _losses(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[Target],
    ) -> dict[str, Tensor]:
        samples = self._sample(proposals, targets)
        box_losses = self._box_losses(features, samples, image_shapes)
        return box_losses | self._mask_losses(features, samples, image_shapes, targets)

    def _box_losses(
        self, features: dict[str, Tensor], samples: list["_Sample"], image_shapes: list[tuple[int, int]]
    ) -> dict[str, Tensor]:
        boxes = [sample.boxes for sample in samples]
        labels = torch.cat([sample.labels for sample in samples])
        class_logits, box_regression = self._predict_boxes(features, boxes, image_shapes)
        regression_targets = self.box_coder.encode_single(
            torch.cat([sample.gt_boxes for sample in samples]), torch.cat(boxes)
        )
        return self.box_loss(class_logits, box_regression, labels, regression_targets, torch.cat(boxes))

    def _mask_losses(
        self,
        features: dict[str, Tensor],
        samples: list["_Sample"],
        image_shapes: list[tuple[int, int]],
        targets: list[Target],
    ) -> dict[str, Tensor]:
        positives = [torch.where(sample.labels > 0)[0] for sample in samples]
        boxes = [sample.boxes[chosen] for sample, chosen in zip(samples, positives, strict=True)]
        labels = torch.cat([sample.labels[chosen] for sample, chosen in zip(samples, positives, strict=True)])
        mask_logits = self._predict_masks(features, boxes, image_shapes, labels)
        wanted = mask_targets(
            [target["layers"] for target in targets],
            [target["slots"] for target in targets],
            [sample.matched_idxs[chosen] for sample, chosen in zip(samples, positives, strict=True)],
            boxes,
            mask_logits.shape[-1],
        )
        return {"loss_mask": self.mask_loss(mask_logits, wanted, labels)}

    @torch.no_grad()
    def _sample(self, proposals: list[Tensor], targets: list[Target]) -> list["_Sample"]:
        """The proposals of each image that the box head trains on, ground-truth boxes among them."""
        self.check_targets(targets)
        matcher = self.proposal_matcher
        found = []
        for of_image, target in zip(proposals, targets, strict=True):
            gt_boxes = target["boxes"].to(of_image.dtype)
            boxes = torch.cat([of_image, gt_boxes])
            matched_idxs, kinds = match_boxes(boxes, gt_boxes, matcher.high_threshold, matcher.low_threshold)
            if len(gt_boxes):
                labels, gt_boxes = torch.where(kinds > 0, target["labels"][matched_idxs], kinds), gt_boxes[matched_idxs]
            else:
                labels, gt_boxes = kinds, boxes  # a box that is its own target has finite deltas
            found.append(_Sample(boxes, labels, matched_idxs, gt_boxes))
        chosen = self.fg_bg_sampler([sample.labels for sample in found])
        return [_Sample(*(part[idxs] for part in sample)) for sample, idxs in zip(found, chosen, strict=True)]

    def _detections(
        self, features: dict[str, Tensor], proposals: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        boxes, scores, labels = self._detect_boxes(features, proposals, image_shapes)
        probs = self._detect_masks(features, boxes, labels, image_shapes)
        found = [
            {"boxes": b, "scores": s, "labels": c, "mask_probs": m}
            for b, s, c, m in zip(boxes, scores, labels, probs, strict=True)
        ]
        return [
            suppress_by_masks(of_image, shape, self.suppression, self.detections_per_img)
            for of_image, shape in zip(found, image_shapes, strict=True)
        ]

    def postprocess_detections(
        self,
        class_logits: Tensor,
        box_regression: Tensor,
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """torchvision's, with the suppression that was handed in: boxes, scores and labels of each image."""
        counts = [len(of_image) for of_image in proposals]
        boxes = self.box_coder.decode(box_regression, proposals).split(counts)
        scores = functional.softmax(class_logits, dim=-1).split(counts)
        found = [
            select_detections(b, s, shape, self.suppression, self.score_thresh, self.detections_per_img)
            for b, s, shape in zip(boxes, scores, image_shapes, strict=True)
        ]
        return [b for b, _, _ in found], [s for _, s, _ in found], [c for _, _, c in found]

    def _detect_boxes(
        self, features: dict[str, Tensor], proposals: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Boxes, scores and labels of each image, after suppression."""
        class_logits, box_regression = self._predict_boxes(features, proposals, image_shapes)
        boxes, scores, labels = self.postprocess_detections(class_logits, box_regression, proposals, image_shapes)
        return boxes, scores, labels

    def _detect_masks(
        self,
        features: dict[str, Tensor],
        boxes: list[Tensor],
        labels: list[Tensor],
        image_shapes: list[tuple[int, int]],
    ) -> list[Tensor]:
        """Mask probabilities [N, M, M] of each image."""
        probs = self._predict_masks(features, boxes, image_shapes, torch.cat(labels)).sigmoid()
        return list(probs.split([len(of_image) for of_image in boxes]))

    def _predict_boxes(
        self, features: dict[str, Tensor], proposals: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> tuple[Tensor, Tensor]:
        pooled = self.box_roi_pool(features, proposals, image_shapes)
        class_logits, box_regression = self.box_predictor(self.box_head(pooled))
        return (
            class_logits.float(),
            box_regression.float(),
        )  # box coding and softmax are float32 under autocast too

    def _predict_masks(
        self,
        features: dict[str, Tensor],
        boxes: list[Tensor],
        image_shapes: list[tuple[int, int]],
        labels: Tensor,
    ) -> Tensor:
        pooled = self.mask_roi_pool(features, boxes, image_shapes)
        logits: Tensor = self.mask_predictor(self.mask_head(pooled), labels)
        return logits.float()

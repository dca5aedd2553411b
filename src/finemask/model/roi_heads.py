"""torchvision's RoIHeads with the losses, the sampler and the mask targets handed in."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import RoIHeads

from finemask.ops.layers import mask_targets
from finemask.types import BoxLoss, MaskLoss, ProposalSampler, Target


class CriterionRoIHeads(RoIHeads):
    """Second stage of Mask R-CNN: proposals to losses, or to detections.

    Matching, box coding and the suppression of detections are torchvision's; its losses are module functions that
    cannot be replaced and its masks dense, so the forward pass is ours. Parameter names are unchanged.

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
        nms_thresh: IoU above which the weaker of two detections of a class is dropped.
        detections_per_img: at most so many are kept.
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
        proposals, matched_idxs, labels, regression_targets = self.select_training_samples(proposals, targets)
        class_logits, box_regression = self._predict_boxes(features, proposals, image_shapes)
        losses = self.box_loss(
            class_logits,
            box_regression,
            torch.cat(labels),
            torch.cat(regression_targets),
            torch.cat(proposals),
        )

        positives = [torch.where(image_labels > 0)[0] for image_labels in labels]
        boxes = [image_boxes[chosen] for image_boxes, chosen in zip(proposals, positives, strict=True)]
        chosen_labels = torch.cat([of_image[chosen] for of_image, chosen in zip(labels, positives, strict=True)])
        mask_logits = self._predict_masks(features, boxes, image_shapes, chosen_labels)
        wanted = [
            mask_targets(target["layers"], target["slots"], matched[chosen], of_image, mask_logits.shape[-1])
            for target, matched, chosen, of_image in zip(targets, matched_idxs, positives, boxes, strict=True)
        ]
        losses["loss_mask"] = self.mask_loss(mask_logits, torch.cat(wanted), chosen_labels)
        return losses

    def _detections(
        self, features: dict[str, Tensor], proposals: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        class_logits, box_regression = self._predict_boxes(features, proposals, image_shapes)
        boxes, scores, labels = self.postprocess_detections(class_logits, box_regression, proposals, image_shapes)
        probs = self._predict_masks(features, boxes, image_shapes, torch.cat(labels)).sigmoid()
        per_image = probs.split([len(of_image) for of_image in boxes])
        return [
            {"boxes": b, "scores": s, "labels": c, "mask_probs": m}
            for b, s, c, m in zip(boxes, scores, labels, per_image, strict=True)
        ]

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

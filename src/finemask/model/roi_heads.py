"""RoI heads: the second stage of Mask R-CNN, with losses, sampler and suppression as parts."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import RoIHeads

from finemask.model.box_predictor.box_branch import BoxContext, BoxCriterion, box_branch_of
from finemask.model.devices.gpu.box_coding import ScalarBoxCoder
from finemask.model.devices.gpu.truths import Truths
from finemask.model.mask_predictor.mask_branch import MaskRois, MaskTruth, PlainMaskBranch, mask_branch_of
from finemask.model.samplers import Sample, label_boxes
from finemask.model.suppression import NMS, BoxesOnly, settle_masks
from finemask.types import BoxLoss, ClassLoss, MaskLoss, ProposalSampler, Suppression, Target


class CriterionRoIHeads(RoIHeads):
    """Second stage of Mask R-CNN: proposals to losses, or to detections.

    Matching and box coding are torchvision's; its losses are module functions that cannot be replaced and its masks
    dense, so the forward pass is ours. Parameter names are unchanged.

    Args:
        num_classes: K + 1.
        box_roi_pool: features and boxes to [R, C, 7, 7].
        box_head: to [R, D].
        box_predictor: to logits [R, K + 1] and deltas [R, 4 (K + 1)]; see ``BoxBranch`` for more.
        mask_roi_pool: features and boxes to [R, C, M / 2, M / 2].
        mask_head: to [R, C', M / 2, M / 2].
        mask_predictor: with labels, to logits [R, M, M]; or see ``MaskBranch``.
        class_loss: see ``finemask.types.ClassLoss``.
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

    Attributes:
        rows: sampled RoIs that the last losses of boxes are the means of.
        mask_rows: positive ones among them, likewise of masks.
    """

    rows = mask_rows = 0

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
        class_loss: ClassLoss,
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
        self.box_coder = ScalarBoxCoder(tuple(bbox_reg_weights))
        self.fg_bg_sampler = sampler
        self.box_loss = BoxCriterion(class_loss, box_loss, self.box_coder)
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
        return self.detections(features, proposals, image_shapes), {}

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
        context = self.box_context(features, image_shapes, targets)
        samples = self._sample(context, proposals)
        box_losses = box_branch_of(self.box_predictor).losses(context, samples)
        positives = [sample.positives() for sample in samples]
        truth = MaskTruth(
            layers=[target["layers"] for target in targets],
            slots=[target["slots"] for target in targets],
            gt_boxes=[target["boxes"] for target in targets],
            matched_idxs=[sample.matched_idxs for sample in positives],
            boxes=[sample.boxes for sample in positives],
        )
        labels = torch.cat([sample.labels for sample in positives])
        self.rows, self.mask_rows = sum(len(sample.labels) for sample in samples), len(labels)
        rois = self.mask_rois(features, list(truth.boxes), labels, image_shapes)
        return box_losses | mask_branch_of(self.mask_predictor).losses(rois, truth, self.mask_loss)

    @torch.no_grad()
    def _sample(self, context: BoxContext, proposals: list[Tensor]) -> list[Sample]:
        """The proposals of each image that the box head trains on, ground-truth boxes among them."""
        self.check_targets(context.targets)
        matcher = self.proposal_matcher
        candidates = [
            label_boxes(
                torch.cat([of_image, target["boxes"].to(of_image.dtype)]),
                target,
                matcher.high_threshold,
                matcher.low_threshold,
            )
            for of_image, target in zip(proposals, context.targets, strict=True)
        ]
        branch = box_branch_of(self.box_predictor)
        chosen = self.fg_bg_sampler(
            [candidate.labels for candidate in candidates], lambda: branch.hardness(context, candidates)
        )
        return [candidate.at(rows) for candidate, rows in zip(candidates, chosen, strict=True)]

    def detections(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        least_scores: Sequence[float] | None = None,
    ) -> list[dict[str, Tensor]]:
        """Detections of each image (``boxes``, ``labels``, ``scores``, ``mask_probs``).

        Args:
            features: of the pyramid, by level.
            proposals: [P, 4] of each image.
            image_shapes: of each image, px.
            least_scores: see ``MaskRCNN.detect``.
        """
        boxes, scores, labels = self.detect_boxes(features, proposals, image_shapes)
        if least_scores is not None and self.settles_by_boxes():
            limits = torch.tensor([0.0, *least_scores], dtype=torch.float32)
            wanted = [of >= limits.to(of)[its] for of, its in zip(scores, labels, strict=True)]
            boxes, scores, labels = (
                [rows[mask] for rows, mask in zip(column, wanted, strict=True)] for column in (boxes, scores, labels)
            )
        probs, scores = self.detect_masks(features, boxes, scores, labels, image_shapes)
        return [
            settle_masks(*of_image, self.suppression, self.detections_per_img)
            for of_image in zip(boxes, scores, labels, probs, image_shapes, strict=True)
        ]

    def settles_by_boxes(self) -> bool:
        """Whether a detection that has its box and score is final, so that its mask is for those who want to see it."""
        own = isinstance(mask_branch_of(self.mask_predictor), PlainMaskBranch)
        return own and isinstance(self.suppression, BoxesOnly)

    def detect_boxes(
        self, features: dict[str, Tensor], proposals: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Boxes, scores and labels of each image, after suppression."""
        found = box_branch_of(self.box_predictor).detect(self.box_context(features, image_shapes, []), proposals)
        return [of.boxes for of in found], [of.scores for of in found], [of.labels for of in found]

    def detect_masks(
        self,
        features: dict[str, Tensor],
        boxes: list[Tensor],
        scores: list[Tensor],
        labels: list[Tensor],
        image_shapes: list[tuple[int, int]],
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Mask probabilities [N, M, M] of each image, and its scores, which a predictor may change."""
        counts = [len(of_image) for of_image in boxes]
        rois = self.mask_rois(features, boxes, torch.cat(labels), image_shapes)
        probs, changed = mask_branch_of(self.mask_predictor).detect(rois, torch.cat(scores))
        return list(probs.split(counts)), list(changed.split(counts))

    def box_context(
        self,
        features: dict[str, Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[Target],
        truths: Truths | None = None,
    ) -> BoxContext:
        """What a box branch works with, beside its proposals; no targets where nothing is trained."""
        return BoxContext(
            features=features,
            image_shapes=image_shapes,
            targets=targets,
            roi_pool=self.box_roi_pool,
            box_head=self.box_head,
            box_predictor=self.box_predictor,
            box_coder=self.box_coder,
            box_loss=self.box_loss,
            score_thresh=self.score_thresh,
            suppression=self.suppression,
            detections_per_img=self.detections_per_img,
            truths=truths,
        )

    def mask_rois(
        self,
        features: dict[str, Tensor],
        boxes: list[Tensor],
        labels: Tensor,
        image_shapes: list[tuple[int, int]],
    ) -> MaskRois:
        """Boxes of each image and the labels of all, with their features."""
        pooled = self.mask_roi_pool(features, boxes, image_shapes)
        return MaskRois(
            pooled=pooled,
            features=self.mask_head(pooled),
            labels=labels,
            boxes=boxes,
            pyramid=features,
            image_shapes=image_shapes,
        )

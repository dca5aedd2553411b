"""A model of plain operators that shares all weights with ours: what exporters can trace.

Numbers of proposals and detections differ from image to image, and no exporter follows a branch on them. So proposals
are chosen with a fixed number of anchors a level, RoIAlign is torchvision's operator on each level's own boxes, and
suppression is written without branches. The second stage runs through the very parts of the model.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign, nms, roi_align

from finemask.errors import ConfigError
from finemask.model.box_predictor.box_branch import BoxBranch, box_branch_of
from finemask.model.box_predictor.cascade import CascadeBoxPredictor, IterativeBoxPredictor
from finemask.model.box_predictor.multi_expert import AspectExperts, LearnedExperts
from finemask.model.mask_predictor.mask_branch import MaskBranch, MaskRois, PlainMaskBranch, mask_branch_of
from finemask.model.mask_predictor.mask_scoring import MaskIoUMaskPredictor
from finemask.model.mask_predictor.point_rend import PointRendMaskPredictor
from finemask.model.mask_rcnn import MaskRCNN
from finemask.model.rpn import RowsRegionProposalNetwork
from finemask.model.suppression import NMS, BoxesOnly, ClassAgnosticNMS, MaskNMS, SoftNMS, settle_masks
from finemask.model_header import ModelHeader
from finemask.ops.box_ops import candidates_of
from finemask.ops.mask_ops import cells_at, features_at, points_in_boxes

_PROBE_PX = 256  # side of the image that strides are measured with
_BOX_BRANCHES = (BoxBranch, CascadeBoxPredictor, AspectExperts, LearnedExperts)
_MASK_BRANCHES = (MaskIoUMaskPredictor, PointRendMaskPredictor)
_ONE_BY_ONE = "it goes from one detection to the next"
_BOX_BY_BOX = "it decides box by box"
_OWN_MASKS = "only finemask's own ways to a mask can be exported"
_NO_CLAHE = "contrast equalisation is not made of an exporter's operators"
_REFUSED: tuple[tuple[str, type, str], ...] = (  # of finemask's own parts
    ("suppression", SoftNMS, _ONE_BY_ONE),
    ("suppression", MaskNMS, _ONE_BY_ONE),
    ("box_predictor", IterativeBoxPredictor, _BOX_BY_BOX),
)


def check_header(header: ModelHeader) -> None:
    """Says what cannot be exported as far as the header of a model file tells, before its weights are read.

    Args:
        header: of the model file.

    Raises:
        ConfigError: see ``check_exportable``.
    """
    targets = {key: str(header.model.get(key, {}).get("_target_", "")) for key, *_ in _REFUSED}
    faults = [
        (f"model.{key}", kind.__name__, why)
        for key, kind, why in _REFUSED
        if targets[key] == f"{kind.__module__}.{kind.__qualname__}"
    ]
    if header.preprocessing.clahe:
        faults.append(("model.clahe", "CLAHE", _NO_CLAHE))
    _refuse(faults)


def check_exportable(model: MaskRCNN) -> None:
    """Says what cannot be exported before any work is done.

    Args:
        model: as ``build_model`` makes it.

    Raises:
        ConfigError: a part branches on what it finds, so that no exporter can follow it.
    """
    heads = model.roi_heads
    faults: list[tuple[str, str, str]] = []

    def refuse(key: str, part: object, why: str) -> None:
        faults.append((key, type(part).__name__, why))

    if not isinstance(model.rpn, RowsRegionProposalNetwork) or type(model.rpn.anchor_generator) is not AnchorGenerator:
        refuse("model.rpn", model.rpn, "only finemask's own proposals can be exported")
    if not all(isinstance(pool, MultiScaleRoIAlign) for pool in (heads.box_roi_pool, heads.mask_roi_pool)):
        refuse("model.roi_heads", heads.box_roi_pool, "only torchvision's RoIAlign can be exported")
    if type(heads.suppression) not in (NMS, ClassAgnosticNMS):
        refuse("model.suppression", heads.suppression, _ONE_BY_ONE)
    if type(box_branch_of(heads.box_predictor)) not in _BOX_BRANCHES:
        refuse("model.box_predictor", heads.box_predictor, _BOX_BY_BOX)
    if isinstance(heads.mask_predictor, MaskBranch) and type(heads.mask_predictor) not in _MASK_BRANCHES:
        refuse("model.mask_predictor", heads.mask_predictor, _OWN_MASKS)
    if model.preprocessing.clahe:
        faults.append(("model.clahe", "CLAHE", _NO_CLAHE))
    _refuse(faults)


def _refuse(faults: Sequence[tuple[str, str, str]]) -> None:
    """Raises where there are any: key, name of the part, why."""
    if faults:
        named = "; ".join(f"{part} ({key}): {why}" for key, part, why in faults)
        raise ConfigError(
            f"this model cannot be exported: {named}",
            remedy="The model file itself runs with finemask.load(FILE); or train one without that part.",
        )


class PlainMaskRCNN(nn.Module):
    """Mask R-CNN of one image, from the padded batch to detections in its pixels.

    Args:
        model: in evaluation mode on the CPU; its parameters are used as they are.
    """

    def __init__(self, model: MaskRCNN) -> None:
        super().__init__()
        assert isinstance(model.rpn, RowsRegionProposalNetwork)
        heads = model.roi_heads
        self.model = model
        strides = strides_of(model.backbone)
        self.finest_stride = next(iter(strides.values()))
        self.rpn = PlainProposals(model.rpn)
        self.box_pool = PlainRoIAlign(heads.box_roi_pool, strides)
        self.mask_pool = PlainRoIAlign(heads.mask_roi_pool, strides)
        suppression = heads.suppression
        assert isinstance(suppression, NMS)
        classes = 1 if isinstance(suppression, ClassAgnosticNMS) else model.num_classes - 1
        self.suppression = PlainNMS(suppression.iou_thresh, classes)

    def forward(self, batch: Tensor, size_hw: Tensor, score_thresh: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Detections of a padded image, best first.

        Args:
            batch: float32 [1, 3, H, W], normalised; H and W multiples of 32.
            size_hw: int64 [2], height and width without the padding.
            score_thresh: float32 [], a detection scores more than this.

        Returns:
            Boxes [N, 4], xyxy px of the batch; labels int64 [N]; scores [N]; mask probabilities [N, M, M].
        """
        heads = self.model.roi_heads
        height: Any = size_hw[0].item()  # while it is traced, a symbol
        width: Any = size_hw[1].item()
        torch._check(height >= 1)
        torch._check(width >= 1)
        shapes = [(height, width)]
        features = self.model.backbone(batch)
        proposals = [self.rpn(batch, features, size_hw)]
        context = replace(heads.box_context(features, shapes, []), roi_pool=self.box_pool, suppression=self.suppression)
        branch = box_branch_of(heads.box_predictor)
        scores, boxes = branch.score(context, proposals)
        found = branch.settle(context, candidates_of(scores, boxes, shapes[0], score_thresh))
        pooled = self.mask_pool(features, [found.boxes], shapes)
        rois = MaskRois(pooled, heads.mask_head(pooled), found.labels, [found.boxes], features, shapes)
        probs, scores = self._masks(rois, found.scores)
        settled = settle_masks(
            found.boxes, scores, found.labels, probs, shapes[0], self.suppression, heads.detections_per_img
        )
        return settled["boxes"], settled["labels"], settled["scores"], settled["mask_probs"]

    def _masks(self, rois: MaskRois, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Mask probabilities and scores: see ``MaskBranch``."""
        predictor = self.model.roi_heads.mask_predictor
        if isinstance(predictor, MaskIoUMaskPredictor):
            # With a row that does not count: of none, OpenVINO's convolutions give what they gave the time before.
            pooled, features, labels = (_one_row_more(rows) for rows in (rois.pooled, rois.features, rois.labels))
            more = rois._replace(pooled=pooled, features=features, labels=labels)
            probs, products = predictor.detect(more, _one_row_more(scores))
            return probs[:-1], products[:-1]
        if not isinstance(predictor, PointRendMaskPredictor):
            return mask_branch_of(predictor).detect(rois, scores)
        coarse = PlainMaskBranch(predictor).logits(rois)
        (finest, *_), (boxes,) = rois.pyramid.values(), rois.boxes

        def logits_at(points: Tensor) -> Tensor:
            places = points_in_boxes(points, boxes) / self.finest_stride
            return predictor.point_logits(features_at(finest[0], places), cells_at(coarse, points), rois.labels)

        return predictor.refined(coarse, logits_at).sigmoid(), scores


def _one_row_more(rows: Tensor) -> Tensor:
    """Rows [N, …] and one of zeros."""
    return torch.cat([rows, rows.new_zeros(1, *rows.shape[1:])])


def strides_of(backbone: nn.Module) -> dict[str, int]:
    """The stride of each map by name, measured with an empty image."""
    with torch.no_grad():
        maps = backbone(torch.zeros(1, 3, _PROBE_PX, _PROBE_PX))
    return {name: round(_PROBE_PX / level.shape[-1]) for name, level in maps.items()}


class PlainProposals(nn.Module):
    """The proposals of ``RowsRegionProposalNetwork`` for one image, from a fixed number of anchors a level."""

    def __init__(self, rpn: RowsRegionProposalNetwork) -> None:
        super().__init__()
        self.rpn = rpn
        assert isinstance(rpn.anchor_generator, AnchorGenerator)

    def forward(self, batch: Tensor, features: dict[str, Tensor], size_hw: Tensor) -> Tensor:
        """Padded image [1, 3, H, W], its maps and its size int64 [2] to proposals [P, 4], best first."""
        rpn = self.rpn
        limits = size_hw.flip(0).repeat(2).to(batch.dtype)
        best = min(rpn.pre_nms_top_n(), _ANCHORS_AT_MOST)
        of_levels: list[tuple[Tensor, Tensor, Tensor]] = []
        for level, cells in zip(features.values(), rpn.anchor_generator.cell_anchors, strict=True):
            objectness, deltas = rpn.head([level])
            anchors = anchors_of(level, cells.to(level), batch.shape[-2:])
            # So many more that never count: a small map has fewer anchors than are asked for.
            logits, chosen = torch.cat([objectness[0], objectness.new_full((best,), _NEVER)]).topk(best)
            chosen = chosen.minimum(torch.full_like(chosen, anchors.shape[0] - 1))
            of_levels.append((logits, deltas[0][chosen], anchors[chosen]))
        logits, codes, anchors = (torch.cat(parts) for parts in zip(*of_levels, strict=True))
        boxes = rpn.box_coder.decode_single(codes, anchors).clamp(min=0).minimum(limits)
        scores = logits.sigmoid()
        large = ((boxes[:, 2:] - boxes[:, :2]) >= rpn.min_size).all(dim=1)
        usable = large & (logits > _NEVER) & (scores >= rpn.score_thresh)
        # What is not usable comes last in its level, where it suppresses nothing, and is dropped afterwards.
        ranks = torch.where(usable, scores, torch.full_like(scores, -1.0))
        kept = torch.cat(
            [
                nms(boxes[first : first + best], ranks[first : first + best], rpn.nms_thresh) + first
                for first in range(0, best * len(of_levels), best)
            ]
        )
        ranked, order = ranks[kept].sort(descending=True, stable=True)
        proposals: Tensor = boxes[kept[order[torch.where(ranked >= 0)[0]][: rpn.post_nms_top_n()]]]
        return proposals


_NEVER = -1e30  # the objectness of what is no anchor; finite, as some runtimes know no other numbers
_ANCHORS_AT_MOST = 2**14


def anchors_of(level: Tensor, cells: Tensor, batch_hw: Sequence[int]) -> Tensor:
    """Anchors [h · w · A, 4] of a map [1, C, h, w], as torchvision's generator places them.

    Args:
        level: the map.
        cells: anchors [A, 4] around the origin.
        batch_hw: height and width of the padded image; torchvision's strides are whole numbers of pixels.
    """
    height, width = level.shape[-2:]
    y = torch.arange(height, device=level.device) * (batch_hw[0] // height)
    x = torch.arange(width, device=level.device) * (batch_hw[1] // width)
    y, x = (axis.to(level.dtype).reshape(-1) for axis in torch.meshgrid(y, x, indexing="ij"))
    shifts = torch.stack([x, y, x, y], dim=1)
    return (shifts[:, None] + cells[None]).reshape(-1, 4)


class PlainRoIAlign(nn.Module):
    """torchvision's ``MultiScaleRoIAlign`` of one image, with levels chosen without branches.

    Args:
        pool: what it stands for.
        strides: of the maps, by name.
    """

    def __init__(self, pool: nn.Module, strides: dict[str, int]) -> None:
        super().__init__()
        assert isinstance(pool, MultiScaleRoIAlign)
        self.names = [name for name in strides if name in pool.featmap_names]
        self.scales = [1 / strides[name] for name in self.names]
        self.side = pool.output_size[0]
        self.sampling_ratio = pool.sampling_ratio
        self.canonical_scale, self.canonical_level = pool.canonical_scale, pool.canonical_level

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        """Feature maps by name and boxes [R, 4] of the one image to [R, C, P, P]."""
        (of_image,) = boxes
        rois = torch.cat([torch.zeros_like(of_image[:, :1]), of_image], dim=1)
        if len(self.names) == 1:
            return self._align(x[self.names[0]], rois, self.scales[0])
        level_of = self._levels(of_image)
        rows = [torch.where(level_of == number)[0] for number in range(len(self.names))]
        parts = [
            self._align(x[name], rois[chosen], scale)
            for name, chosen, scale in zip(self.names, rows, self.scales, strict=True)
        ]
        # Back in order by two sorts, whose lengths are those of the boxes, which a sum of four unknown ones is not; of
        # different numbers, because not every runtime leaves equal ones in order.
        number_of = level_of * level_of.shape[0] + torch.arange(level_of.shape[0], device=level_of.device)
        place = number_of.argsort().argsort()
        return torch.cat(parts)[place]

    def _align(self, level: Tensor, rois: Tensor, scale: float) -> Tensor:
        pooled: Tensor = roi_align(level, rois, (self.side, self.side), scale, self.sampling_ratio)
        return pooled

    def _levels(self, boxes: Tensor) -> Tensor:
        """Equation 1 of the pyramid's paper, as torchvision's ``LevelMapper`` computes it."""
        lowest, highest = (round(-math.log2(scale)) for scale in (self.scales[0], self.scales[-1]))
        sides = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
        level = torch.floor(self.canonical_level + torch.log2(sides / self.canonical_scale) + 1e-6)
        return level.clamp(lowest, highest).to(torch.int64) - lowest


class PlainNMS(BoxesOnly):
    """``NMS`` and ``ClassAgnosticNMS`` without a branch on the number of candidates.

    Of each class by itself, by moving the classes apart. Float32 has the fewer digits left for a box, the farther it is
    moved, and where an IoU is the threshold within those, the answer is another one. Up to 1,000 candidates torchvision
    moves them too, along a line, and the same is done here; of more it takes one class after another, where it stands.
    What comes nearest to that is to move them as little as possible: into the cells of a square around the origin.

    Args:
        iou_thresh: IoU of boxes above which two overlap too much.
        classes: how many there are, labelled from 1 on; of one, all boxes are compared, whatever their labels.
    """

    def __init__(self, iou_thresh: float, classes: int) -> None:
        self.iou_thresh = iou_thresh
        self.classes = classes

    def by_box(self, boxes: Tensor, scores: Tensor, labels: Tensor, limit: int) -> tuple[Tensor, Tensor]:
        """See ``finemask.types.Suppression``."""
        apart = boxes
        if self.classes > 1:
            step = torch.cat([boxes.flatten(), boxes.new_zeros(1)]).max() + 1  # classes never touch
            on_line = labels.to(boxes)
            side = math.isqrt(self.classes - 1) + 1
            row = torch.div(labels - 1, side, rounding_mode="floor")
            x, y = (cell.to(boxes) - side / 2 for cell in (labels - 1 - row * side, row))
            few = torch.ones_like(labels).sum() <= _MOVED_ALONG_A_LINE
            x, y = torch.where(few, on_line, x), torch.where(few, on_line, y)
            apart = boxes + torch.stack([x, y, x, y], dim=1) * step
        kept = nms(apart, scores, self.iou_thresh)[:limit]
        return kept, scores[kept]


_MOVED_ALONG_A_LINE = 1000  # candidates; torchvision.ops.batched_nms, on the CPU

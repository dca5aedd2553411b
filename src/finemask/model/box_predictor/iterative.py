"""The plain predictor, applied again to its own boxes at inference."""

import torch
from torch import Tensor

from finemask.model.box_branch import BoxBranch, BoxContext, clip_each, decode_boxes
from finemask.model.box_predictor.linear import LinearBoxPredictor
from finemask.ops.suppression import ScoredBoxes, vote_boxes


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

"""Box heads for square, wide and tall RoIs."""

import torch
from torch import Tensor

from finemask.model.box_branch import BoxContext
from finemask.model.box_predictor.experts import ExpertBoxPredictor

SQUARE, WIDE, TALL = 0, 1, 2  # numbers of the experts


class AspectExperts(ExpertBoxPredictor):
    """An expert each for square, wide and tall RoIs, after ME R-CNN.

    Lee, Eum & Kwon 2017, "ME R-CNN: Multi-Expert R-CNN for Object Detection" (arXiv 1704.01069v1), has experts for
    horizontally elongated, square-like and vertically elongated RoIs. What separates the three is not in what we could
    read of it: this is our reconstruction. The same proposals are used in training and in evaluation.

    Args:
        in_channels: C, width of the box head's features.
        num_classes: K + 1.
        predictor: ``shared``: one for all experts, or ``own``: one for each.
        aspect_thresh: an RoI is wide if its width over height is larger, tall if it is smaller than the inverse.

    Raises:
        ValueError: a threshold below 1.
    """

    def __init__(
        self, in_channels: int, num_classes: int, predictor: str = "shared", aspect_thresh: float = 2**0.5
    ) -> None:
        super().__init__(in_channels, num_classes, num_experts=3, predictor=predictor)
        if aspect_thresh < 1:
            raise ValueError(f"aspect_thresh is at least 1, not {aspect_thresh}")
        self.aspect_thresh = aspect_thresh

    def predict(self, context: BoxContext, boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """See ``BoxBranch``."""
        return self.routed(context, context.pool(boxes), expert_by_aspect(torch.cat(boxes), self.aspect_thresh))


def expert_by_aspect(boxes: Tensor, aspect_thresh: float) -> Tensor:
    """Boxes [R, 4], xyxy px, to the number of the expert for their shape, int64 [R]."""
    width, height = (boxes[:, 2:] - boxes[:, :2]).unbind(dim=1)
    wide, tall = width > aspect_thresh * height, height > aspect_thresh * width
    return SQUARE + WIDE * wide.long() + TALL * tall.long()

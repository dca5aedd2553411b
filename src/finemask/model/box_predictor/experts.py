"""Several experts behind one box predictor, and their assignment by aspect ratio."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from finemask.model.box_branch import BoxBranch, BoxContext
from finemask.model.box_predictor.linear import LinearBoxPredictor


class ExpertBoxPredictor(BoxBranch, LinearBoxPredictor):
    """Box heads side by side; how RoIs are assigned to them is for derived classes.

    Every expert is a box head; the first is the model's, the others begin as copies of it, so that before the first
    step, whatever weights were loaded, all of them together are the plain model.

    Args:
        in_channels: C, width of the box head's features.
        num_classes: K + 1.
        num_experts: E.
        predictor: ``shared``: one for all experts, or ``own``: one for each.

    Raises:
        ValueError: no expert, or another word for ``predictor``.
    """

    def __init__(self, in_channels: int, num_classes: int, num_experts: int = 3, predictor: str = "shared") -> None:
        super().__init__(in_channels, num_classes)
        if num_experts < 1 or predictor not in ("shared", "own"):
            raise ValueError(f"num_experts is at least 1, predictor shared or own, not {num_experts} and {predictor}")
        self.num_experts = num_experts
        self.heads = nn.ModuleList()  # of all experts but the first
        self.predictors = nn.ModuleList()  # of all experts but the first, if each has its own
        for _ in range(num_experts - 1 if predictor == "own" else 0):
            own = LinearBoxPredictor(in_channels, num_classes)
            own.load_state_dict({name: value for name, value in self.state_dict().items() if name in own.state_dict()})
            self.predictors.append(own)

    def attach(self, box_head: nn.Module, channels: int) -> None:
        """See ``BoxBranch``."""
        self.heads.extend(deepcopy(box_head) for _ in range(self.num_experts - 1))

    def seeds(self) -> dict[str, str]:
        """See ``BoxBranch``."""
        copies = [("heads", "box_head", part) for part in self.heads.named_children()]
        copies += [("predictors", "box_predictor", part) for part in self.predictors.named_children()]
        return {
            f"box_predictor.{group}.{number}.{name}": f"{plain}.{name}"
            for group, plain, (number, part) in copies
            for name in part.state_dict()
        }

    def expert(self, context: BoxContext, number: int, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features [R, C, 7, 7] to one expert's logits [R, K + 1] and deltas [R, 4 (K + 1)]."""
        head = self.heads[number - 1] if number else context.box_head
        predictor = self.predictors[number - 1] if number and len(self.predictors) else self
        logits, deltas = predictor(head(pooled))
        return logits.float(), deltas.float()

    def routed(self, context: BoxContext, pooled: Tensor, assignment: Tensor) -> tuple[Tensor, Tensor]:
        """Every RoI's logits and deltas by the expert that it is assigned to.

        Args:
            context: of the batch.
            pooled: [R, C, 7, 7].
            assignment: int64 [R], 0..E-1.

        Returns:
            Logits [R, K + 1] and deltas [R, 4 (K + 1)]. An expert without any RoI takes part with none, so that its
            parameters have a gradient, of zeros, on each process of a distributed training.
        """
        rows = [torch.where(assignment == number)[0] for number in range(self.num_experts)]
        parts = [self.expert(context, number, pooled[chosen]) for number, chosen in enumerate(rows)]
        back = torch.cat(rows).argsort()
        logits, deltas = (torch.cat(part)[back] for part in zip(*parts, strict=True))
        return logits, deltas


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

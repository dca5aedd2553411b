"""The multi-expert box predictor, by the way in which RoIs are assigned to experts."""

from finemask.model.box_predictor.aspect_experts import AspectExperts
from finemask.model.box_predictor.experts import ExpertBoxPredictor
from finemask.model.box_predictor.learned_experts import LearnedExperts


def multi_expert(
    in_channels: int,
    num_classes: int,
    assign: str = "aspect",
    predictor: str = "shared",
    aspect_thresh: float = 2**0.5,
    num_experts: int = 3,
    hidden_channels: int = 64,
    warmup_steps: int = 500,
    balance: float = 0.01,
    mixing: str = "hard",
) -> ExpertBoxPredictor:
    """ME R-CNN's box predictor (arXiv 1704.01069), as far as it can be reconstructed.

    Args:
        in_channels: C, width of the box head's features.
        num_classes: K + 1.
        assign: ``aspect``, by the shape of an RoI (see ``AspectExperts``), or ``learned`` (see ``LearnedExperts``).
        predictor: ``shared``: one for all experts, or ``own``: one for each.
        aspect_thresh: of ``aspect``.
        num_experts: of ``learned``; ``aspect`` has three.
        hidden_channels: of ``learned``.
        warmup_steps: of ``learned``.
        balance: of ``learned``.
        mixing: of ``learned``.

    Raises:
        ValueError: an unknown word, or a number that cannot be meant.
    """
    if assign == "learned":
        return LearnedExperts(
            in_channels, num_classes, predictor, num_experts, hidden_channels, warmup_steps, balance, mixing
        )
    if assign != "aspect":
        raise ValueError(f"assign is aspect or learned, not {assign}")
    if num_experts != 3:
        raise ValueError(f"assign=aspect has 3 experts, not {num_experts}; assign=learned may have any number")
    return AspectExperts(in_channels, num_classes, predictor, aspect_thresh)

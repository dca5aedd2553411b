"""Binary cross entropy in which the cells along the true outline count more."""

from torch import Tensor
from torch.nn import functional


class BoundaryMaskLoss:
    """Cross entropy, weighted in a band about the outline.

    Ours, of two published parts: the band is that of Cheng et al. 2021, "Boundary IoU" (arXiv 2103.16562), all cells
    within a distance of the outline on either side; that cells near outlines count more is Ronneberger et al. 2015,
    "U-Net" (arXiv 1505.04597), equation 2, whose weight falls off smoothly instead. Divided by the sum of the weights,
    so that the loss keeps the size of plain cross entropy.

    Args:
        weight: factor of the loss.
        boundary_weight: how much a cell in the band counts, where one outside counts 1.
        width: of the band on either side of the outline, in cells of the M × M mask.
    """

    def __init__(self, weight: float = 1.0, boundary_weight: float = 5.0, width: int = 2) -> None:
        if boundary_weight <= 0 or width < 1:
            raise ValueError(f"mask_loss.boundary_weight {boundary_weight} and width {width} are positive")
        self._weight = weight
        self._boundary_weight = boundary_weight
        self._width = width

    def __call__(self, mask_logits: Tensor, mask_targets: Tensor, labels: Tensor) -> Tensor:
        """See ``finemask.types.MaskLoss``."""
        if mask_targets.numel() == 0:
            return mask_logits.sum() * 0.0
        losses = functional.binary_cross_entropy_with_logits(mask_logits, mask_targets, reduction="none")
        weights = 1.0 + (self._boundary_weight - 1.0) * boundary_band(mask_targets, self._width)
        return self._weight * (losses * weights).sum() / weights.sum()


def boundary_band(masks: Tensor, width: int) -> Tensor:
    """1 where a mask [R, M, M] has both foreground and background within ``width`` cells (a square), 0 elsewhere."""
    foreground = (masks >= 0.5).to(masks.dtype)[:, None]
    grown = functional.max_pool2d(foreground, 2 * width + 1, stride=1, padding=width)
    shrunk = -functional.max_pool2d(-foreground, 2 * width + 1, stride=1, padding=width)
    return (grown - shrunk)[:, 0]

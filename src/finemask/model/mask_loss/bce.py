"""Binary cross entropy on the true class's mask: torchvision's loss."""

from torch import Tensor
from torch.nn import functional


class BCEMaskLoss:
    """He et al. 2017, "Mask R-CNN" (arXiv 1703.06870), as torchvision's ``maskrcnn_loss`` computes it.

    Args:
        weight: factor of the loss.
    """

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight

    def __call__(self, mask_logits: Tensor, mask_targets: Tensor, labels: Tensor) -> Tensor:
        """See ``finemask.types.MaskLoss``."""
        if mask_targets.numel() == 0:
            return mask_logits.sum() * 0.0
        return self.weight * functional.binary_cross_entropy_with_logits(mask_logits, mask_targets)

"""Binary cross entropy and Dice loss together."""

from torch import Tensor
from torch.nn import functional


class DiceBCEMaskLoss:
    """Dice of Milletari et al. 2016, "V-Net" (arXiv 1606.04797), a mask at a time, added to binary cross entropy.

    Cross entropy counts cells, Dice overlap: of a thin object, few cells of which are foreground, missing half costs
    as much as of a round one.

    Args:
        bce_weight: factor of the cross entropy.
        dice_weight: factor of 1 - Dice.
        smooth: cells added above and below the fraction, for masks with no foreground.
    """

    def __init__(self, bce_weight: float = 1.0, dice_weight: float = 1.0, smooth: float = 1.0) -> None:
        self._bce_weight = bce_weight
        self._dice_weight = dice_weight
        self._smooth = smooth

    def __call__(self, mask_logits: Tensor, mask_targets: Tensor, labels: Tensor) -> Tensor:
        """See ``finemask.types.MaskLoss``."""
        if mask_targets.numel() == 0:
            return mask_logits.sum() * 0.0
        probs, wanted = mask_logits.sigmoid().flatten(1), mask_targets.flatten(1)
        shared = (probs * wanted).sum(1)
        sizes = (probs * probs).sum(1) + (wanted * wanted).sum(1)
        dice = (2 * shared + self._smooth) / (sizes + self._smooth)
        bce = functional.binary_cross_entropy_with_logits(mask_logits, mask_targets)
        return self._bce_weight * bce + self._dice_weight * (1 - dice).mean()

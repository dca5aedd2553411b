"""Mask losses: binary cross entropy, boundary-weighted, with Dice, with the edge agreement head."""

from torch import Tensor
from torch.nn import functional


class BCEMaskLoss:
    """Binary cross entropy, as torchvision's ``maskrcnn_loss`` (He et al. 2017, "Mask R-CNN", arXiv 1703.06870).

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


class BoundaryMaskLoss:
    """Binary cross entropy with a greater weight in a band about the outline.

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


class DiceBCEMaskLoss:
    """Dice, a mask at a time, plus binary cross entropy (Milletari et al. 2016, "V-Net", arXiv 1606.04797).

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


class EdgeMaskLoss:
    """Edge agreement head: binary cross entropy plus the difference of edges.

    Zimmermann & Siems 2019, "Faster Training of Mask R-CNN by Focusing on Instance Boundaries" (arXiv 1809.07069): the
    mean of ``|S * p - S * g| ** exponent`` over both Sobel filters S is added, where p is the probability and g the
    target. It has no parameters and costs nothing in prediction. Away from all edges it has no
    gradient. The filters read whole neighbourhoods only, so that the crop's own rim is no edge; the paper leaves the
    rim open, and its weighting by the target's edges is ``emphasis``, in our own form.

    Args:
        bce_weight: factor of the cross entropy.
        edge_weight: factor of the edge term.
        exponent: 2 in the paper.
        emphasis: how much more a place with an edge of the target counts, as a multiple; 0 counts all alike.
    """

    def __init__(
        self, bce_weight: float = 1.0, edge_weight: float = 1.0, exponent: float = 2.0, emphasis: float = 0.0
    ) -> None:
        if exponent < 1:
            raise ValueError(f"mask_loss.exponent is at least 1, not {exponent}")
        self._bce_weight = bce_weight
        self._edge_weight = edge_weight
        self._exponent = exponent
        self._emphasis = emphasis

    def __call__(self, mask_logits: Tensor, mask_targets: Tensor, labels: Tensor) -> Tensor:
        """See ``finemask.types.MaskLoss``."""
        if mask_targets.numel() == 0:
            return mask_logits.sum() * 0.0
        bce = functional.binary_cross_entropy_with_logits(mask_logits, mask_targets)
        found_x, found_y = sobel(mask_logits.sigmoid())
        wanted_x, wanted_y = sobel(mask_targets)
        errors = (found_x - wanted_x).abs() ** self._exponent + (found_y - wanted_y).abs() ** self._exponent
        strength = (wanted_x.abs() + wanted_y.abs()).clamp(max=1.0)
        edge = ((1.0 + self._emphasis * strength) * errors).mean() / 2
        return self._bce_weight * bce + self._edge_weight * edge


def sobel(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Sobel's two derivatives of maps [R, M, M], each [R, M - 2, M - 2].

    Sums of slices instead of a convolution: autocast would round a convolution to half precision.
    """
    down = maps[:, :-2] + 2 * maps[:, 1:-1] + maps[:, 2:]
    across = maps[:, :, :-2] + 2 * maps[:, :, 1:-1] + maps[:, :, 2:]
    return down[:, :, 2:] - down[:, :, :-2], across[:, 2:] - across[:, :-2]

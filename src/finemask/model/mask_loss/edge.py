"""Edge agreement: the edges of the predicted mask, as a Sobel filter sees them, against those of the true one."""

from torch import Tensor
from torch.nn import functional


class EdgeMaskLoss:
    """Zimmermann & Siems 2019, "Faster Training of Mask R-CNN by Focusing on Instance Boundaries" (arXiv 1809.07069).

    Binary cross entropy plus the mean of ``|S * p - S * g| ** exponent`` over both Sobel filters S, where p is the
    probability and g the target. It has no parameters and costs nothing in prediction. Away from all edges it has no
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

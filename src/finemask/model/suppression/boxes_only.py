"""What all parts have in common that are done once the boxes are chosen."""

import torch
from torch import Tensor


class BoxesOnly:
    """A suppression that does not look at masks."""

    def by_mask(
        self,
        boxes: Tensor,
        scores: Tensor,
        labels: Tensor,
        mask_probs: Tensor,
        image_size_hw: tuple[int, int],
        limit: int,
    ) -> Tensor:
        """All of them; see ``finemask.types.Suppression``."""
        return torch.arange(len(boxes), device=boxes.device)[:limit]

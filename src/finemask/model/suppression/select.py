"""The step of a suppression that comes after the masks."""

from collections.abc import Mapping

from torch import Tensor

from finemask.types import Suppression


def suppress_by_masks(
    found: Mapping[str, Tensor], image_size_hw: tuple[int, int], suppression: Suppression, limit: int
) -> dict[str, Tensor]:
    """The detections of an image that are left once their masks are known.

    Args:
        found: ``boxes``, ``scores``, ``labels``, ``mask_probs`` and whatever else has a row for each detection.
        image_size_hw: of the image that boxes are in, px.
        suppression: see ``finemask.types.Suppression``.
        limit: detections at most.
    """
    kept = suppression.by_mask(
        found["boxes"], found["scores"], found["labels"], found["mask_probs"], image_size_hw, limit
    )
    return {name: rows[kept] for name, rows in found.items()}

"""Anchors: one size a pyramid level, every aspect ratio at each."""

from collections.abc import Sequence

from torchvision.models.detection.anchor_utils import AnchorGenerator


def fpn_anchors(sizes: Sequence[float], aspect_ratios: Sequence[float]) -> AnchorGenerator:
    """Anchors of a feature pyramid.

    Args:
        sizes: side of a square anchor at each level, px of the resized image, finest level first.
        aspect_ratios: height over width, the same at every level.
    """
    return AnchorGenerator(sizes=tuple((size,) for size in sizes), aspect_ratios=(tuple(aspect_ratios),) * len(sizes))

"""Anchors: one size a pyramid level, every aspect ratio at each."""

from collections.abc import Sequence

from torchvision.models.detection.anchor_utils import AnchorGenerator

from finemask.errors import ConfigError


def fpn_anchors(sizes: Sequence[float], aspect_ratios: Sequence[float], fit: str = "default") -> AnchorGenerator:
    """Anchors of a feature pyramid.

    Args:
        sizes: side of a square anchor at each level, px of the resized image, finest level first.
        aspect_ratios: height over width, the same at every level.
        fit: ``default``; ``auto`` asks for other sizes, and ``resolve_model`` has put them here and taken it away.

    Raises:
        ConfigError: ``fit`` is something else, or still ``auto``.
    """
    if fit != "default":
        raise ConfigError(
            "'auto' must be numbers by now" if fit == "auto" else f"{fit!r} is neither default nor auto",
            where="model.anchors.fit",
            remedy="resolve_model() fills in what follows from the data." if fit == "auto" else None,
        )
    return AnchorGenerator(sizes=tuple((size,) for size in sizes), aspect_ratios=(tuple(aspect_ratios),) * len(sizes))

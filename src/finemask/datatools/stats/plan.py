"""A way of bringing images to the model: which size, whole or in tiles; and how large objects are then."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finemask.errors import ConfigError


@dataclass(frozen=True)
class ModelSettings:
    """What of a ``model`` configuration the size and number of objects bear on.

    Args:
        name: of the configuration.
        min_size: shorter side in px after resizing; where training draws from several, the last, which is the one
            of evaluation.
        max_size: upper bound of the longer side in px.
        anchor_sizes: px of the resized image, one a pyramid level.
        aspect_ratios: of the anchors, height / width.
        proposals_train: kept an image in training.
        proposals_test: kept an image in evaluation.
        detections: most an image, or ``auto``.
        nms_thresh: boxes of one class that overlap by more are taken for one object.
    """

    name: str
    min_size: int
    max_size: int
    anchor_sizes: tuple[float, ...]
    aspect_ratios: tuple[float, ...]
    proposals_train: int
    proposals_test: int
    detections: int | str
    nms_thresh: float

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "ModelSettings":
        """Takes them from the group ``model``, resolved, as plain dicts and lists.

        Raises:
            ConfigError: anchors or proposals are not finemask's.
        """
        for key in ("anchors", "rpn"):
            target = str(config[key].get("_target_", "finemask."))
            if not target.startswith("finemask."):
                raise ConfigError(
                    f"{target} is not finemask's own, and what it does with objects is not known here",
                    where=f"model.{key}",
                    remedy="Give the model that yours builds on, such as model=light.",
                )
        sizes = config["min_size"]
        return cls(
            name=str(config["name"]),
            min_size=int(sizes[-1] if isinstance(sizes, Sequence) else sizes),
            max_size=int(config["max_size"]),
            anchor_sizes=tuple(float(size) for size in config["anchors"]["sizes"]),
            aspect_ratios=tuple(float(ratio) for ratio in config["anchors"]["aspect_ratios"]),
            proposals_train=int(config["rpn"]["post_nms_top_n_train"]),
            proposals_test=int(config["rpn"]["post_nms_top_n_test"]),
            detections=config["roi_heads"]["detections_per_img"],
            nms_thresh=float(config["roi_heads"]["nms_thresh"]),
        )


@dataclass(frozen=True)
class Plan:
    """How images reach the model.

    Args:
        min_size: shorter side in px after resizing.
        max_size: upper bound of the longer side in px.
        tile: side in px of the tiles that images are cut into first; None: whole images.
    """

    min_size: int
    max_size: int
    tile: int | None = None

    def sizes_hw(self, heights: NDArray[np.int32], widths: NDArray[np.int32]) -> NDArray[np.int64]:
        """Heights and widths int64 [n, 2] that images, or their tiles, are resized to."""
        size = np.stack([heights, widths], axis=1)
        if self.tile is not None:
            size = np.minimum(size, self.tile)
        return np.maximum(np.floor(size * self.scales(heights, widths)[:, None]).astype(np.int64), 1)

    def scales(self, heights: NDArray[np.int32], widths: NDArray[np.int32]) -> NDArray[np.float64]:
        """By how much each image is enlarged, float64 [n]."""
        size = np.stack([heights, widths], axis=1).astype(np.float64)
        if self.tile is not None:
            size = np.minimum(size, self.tile)
        scales: NDArray[np.float64] = np.minimum(self.min_size / size.min(axis=1), self.max_size / size.max(axis=1))
        return scales

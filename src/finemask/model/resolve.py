"""What a model configuration leaves to be decided by the weights and the data."""

import copy
import math
from collections.abc import Mapping
from typing import Any

_COCO_DETECTION_CAP = 100


def resolve_model(config: Mapping[str, Any], max_instances_per_image: int) -> dict[str, Any]:
    """Fills in every ``auto`` of a ``model`` configuration, so that the result alone rebuilds the model.

    Args:
        config: the group ``model``.
        max_instances_per_image: the largest number of instances of one image in the data.

    Returns:
        A copy in which ``backbone.norm`` is frozen if pretrained weights are loaded (their statistics come from far
        larger batches than a fine-tuning's) and trained otherwise, ``backbone.norm_eps`` is what the weights were
        trained with, and ``roi_heads.detections_per_img`` leaves room for half as many instances again as the fullest
        image holds.
    """
    resolved = copy.deepcopy(dict(config))
    backbone, roi_heads = resolved["backbone"], resolved["roi_heads"]
    if backbone["norm"] == "auto":
        backbone["norm"] = "bn" if resolved["weights"] == "none" else "frozen_bn"
    if resolved["weights"] == "coco" and backbone["norm"] == "frozen_bn":
        backbone["norm_eps"] = 0.0
    if roi_heads["detections_per_img"] == "auto":
        roi_heads["detections_per_img"] = max(_COCO_DETECTION_CAP, math.ceil(1.5 * max_instances_per_image))
    return resolved

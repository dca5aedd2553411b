"""What a model configuration leaves to be decided by the weights and the data."""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

from finemask.errors import ConfigError
from finemask.model.class_loss.class_weights import weights_from_counts

_COCO_DETECTION_CAP = 100


def resolve_model(
    config: Mapping[str, Any], max_instances_per_image: int, instances_per_label: Sequence[int] | None = None
) -> dict[str, Any]:
    """Fills in every ``auto`` of a ``model`` configuration, so that the result alone rebuilds the model.

    Args:
        config: the group ``model``.
        max_instances_per_image: the largest number of instances of one image in the data.
        instances_per_label: of labels 1..K in the training data, where there are such.

    Returns:
        A copy in which ``backbone.norm`` is frozen if pretrained weights are loaded (their statistics come from far
        larger batches than a fine-tuning's) and trained otherwise, ``backbone.norm_eps`` is what the weights were
        trained with, ``roi_heads.detections_per_img`` leaves room for half as many instances again as the fullest
        image holds, and ``class_loss.class_weights`` follow the counts.

    Raises:
        ConfigError: class weights that need data where there are none, or are of another number than the categories.
    """
    resolved = copy.deepcopy(dict(config))
    backbone, roi_heads = resolved["backbone"], resolved["roi_heads"]
    if backbone["norm"] == "auto":
        backbone["norm"] = "bn" if resolved["weights"] == "none" else "frozen_bn"
    if resolved["weights"] == "coco" and backbone["norm"] == "frozen_bn":
        backbone["norm_eps"] = 0.0
    if roi_heads["detections_per_img"] == "auto":
        roi_heads["detections_per_img"] = max(_COCO_DETECTION_CAP, math.ceil(1.5 * max_instances_per_image))
    if resolved.get("class_loss", {}).get("class_weights") is not None:
        resolved["class_loss"]["class_weights"] = _class_weights(resolved["class_loss"], instances_per_label)
    return resolved


def _class_weights(class_loss: Mapping[str, Any], instances_per_label: Sequence[int] | None) -> list[float]:
    given, where = class_loss["class_weights"], "model.class_loss.class_weights"
    if given == "auto":
        if instances_per_label is None:
            raise ConfigError("'auto' needs training data to count in", where=where, remedy="Give a list, or null.")
        return weights_from_counts(instances_per_label)
    if not isinstance(given, list) or not all(isinstance(weight, int | float) for weight in given):
        raise ConfigError(f"{given!r} is neither null, auto nor a list of numbers", where=where)
    if instances_per_label is not None and len(given) != len(instances_per_label):
        raise ConfigError(
            f"{len(given)} weights for {len(instances_per_label)} categories",
            where=where,
            remedy="Give one a category, in the order of their ids.",
        )
    return given

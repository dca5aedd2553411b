"""Values ``auto`` of a model configuration, filled in from weights and data: norm, anchors, class weights, cap."""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finemask.errors import ConfigError
from finemask.model.class_losses import weights_from_counts
from finemask.model.pretrained.published_weights import best_weights
from finemask.ops.anchor_fit import best_anchor_iou, coverage, fit_anchors, resized_boxes

_PYRAMID = "finemask.model.rpn.fpn_anchors"
_COCO_DETECTION_CAP = 100


Boxes = tuple[NDArray[np.floating], NDArray[np.integer]]


def resolve_model(
    config: Mapping[str, Any],
    max_instances_per_image: int,
    instances_per_label: Sequence[int] | None = None,
    boxes: Boxes | None = None,
) -> dict[str, Any]:
    """Fills in every ``auto`` of a ``model`` configuration, so that the result alone rebuilds the model.

    Args:
        config: the group ``model``.
        max_instances_per_image: the largest number of instances of one image in the data.
        instances_per_label: of labels 1..K in the training data, where there are such.
        boxes: of the training data, [n, 4] xyxy px of the original images, and the height and width [n, 2] of each
            one's image; what ``anchors.fit: auto`` goes by. Without them the sizes stay as they are.

    Returns:
        A copy in which ``weights`` is named, ``backbone.norm`` is frozen if pretrained weights are loaded (their
        statistics come from far larger batches than a fine-tuning's) and trained otherwise, ``backbone.norm_eps`` is
        what the weights were trained with, ``roi_heads.detections_per_img`` leaves room for half as many instances
        again as the fullest image holds, ``class_loss.class_weights`` follow the counts, and ``anchors`` holds plain
        numbers.

    Raises:
        ConfigError: class weights that need data where there are none, or are of another number than the categories.
    """
    resolved = copy.deepcopy(dict(config))
    resolved.pop("preset", None)  # of the training, not of the model
    backbone, roi_heads = resolved["backbone"], resolved["roi_heads"]
    if resolved["weights"] == "auto":
        resolved["weights"] = best_weights(resolved)
    if backbone.get("norm") == "auto":
        backbone["norm"] = "bn" if resolved["weights"] == "none" else "frozen_bn"
    if resolved["weights"] == "coco" and backbone.get("norm") == "frozen_bn":
        backbone["norm_eps"] = 0.0
    if roi_heads["detections_per_img"] == "auto":
        roi_heads["detections_per_img"] = max(_COCO_DETECTION_CAP, math.ceil(1.5 * max_instances_per_image))
    if resolved.get("class_loss", {}).get("class_weights") is not None:
        resolved["class_loss"]["class_weights"] = _class_weights(resolved["class_loss"], instances_per_label)
    fit = resolved["anchors"].pop("fit", "default")
    if fit == "auto" and boxes is not None:
        _fit_anchors(resolved, boxes)
    elif fit not in ("auto", "default"):
        raise ConfigError(f"{fit!r} is neither default nor auto", where="model.anchors.fit")
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


def anchor_coverage(config: Mapping[str, Any], boxes: Boxes) -> float | None:
    """Share of the boxes, 0..1, whose best anchor overlaps them by half or more at training resolution.

    Args:
        config: the group ``model``.
        boxes: as for ``resolve_model``.

    Returns:
        ``None`` where there are no boxes, or where the anchors are not finemask's.
    """
    anchors = config["anchors"]
    if not len(boxes[0]) or anchors["_target_"] != _PYRAMID:
        return None
    return coverage(best_anchor_iou(*_resized(config, boxes), anchors["sizes"], anchors["aspect_ratios"]))


def _fit_anchors(config: dict[str, Any], boxes: Boxes) -> None:
    anchors = config["anchors"]
    if anchors["_target_"] != _PYRAMID:
        raise ConfigError(f"auto fits the sizes of {_PYRAMID} only", where="model.anchors")
    for key in ("sizes", "aspect_ratios"):
        if not isinstance(anchors[key], list | tuple) or not anchors[key]:
            raise ConfigError(f"{anchors[key]!r} is no list of numbers", where=f"model.anchors.{key}")
    sizes, ratios = fit_anchors(*_resized(config, boxes), anchors["sizes"], anchors["aspect_ratios"])
    anchors["sizes"], anchors["aspect_ratios"] = sizes, ratios


def _resized(config: Mapping[str, Any], boxes: Boxes) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    sizes = config["min_size"]
    return resized_boxes(*boxes, int(sizes[-1] if isinstance(sizes, list | tuple) else sizes), int(config["max_size"]))

"""Keys of ``predict`` and ``evaluate`` that change how a trained model makes detections."""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import OmegaConf
from torch import nn

from finemask.config import config_dir, plain
from finemask.errors import ConfigError
from finemask.inference.tta import AugmentedMaskRCNN, parse_views
from finemask.model.build import build_suppression
from finemask.model.mask_rcnn import MaskRCNN
from finemask.model.suppression import NMS
from finemask.model_header import ModelHeader
from finemask.ops.mask_ops import masks_to_rles
from finemask.ops.sobel_refine import refine_mask
from finemask.types import Detections, Rle

KEYS = ("suppression", "nms_thresh", "detections_per_img", "tta")


def with_options(model: nn.Module, header: ModelHeader, options: Mapping[str, Any]) -> nn.Module:
    """The model as the options ask for it; as its file describes it where they are null.

    Args:
        model: as loaded; it is changed.
        header: of its file.
        options: ``suppression``, ``nms_thresh``, ``detections_per_img``, ``tta``; see ``configs/predict.yaml``.

    Raises:
        ConfigError: a value that cannot be.
    """
    if all(options[key] is None for key in KEYS):
        return model
    if not isinstance(model, MaskRCNN):
        raise ConfigError(f"{', '.join(KEYS)} need a Mask R-CNN, not a {type(model).__name__}")
    config = _changed(header.model, options["suppression"], options["nms_thresh"])
    model.roi_heads.suppression = build_suppression(config) or NMS(config["roi_heads"]["nms_thresh"])
    limit = options["detections_per_img"]
    if limit is not None:
        model.roi_heads.detections_per_img = limit
    if options["tta"] is None:
        return model
    return AugmentedMaskRCNN(model, parse_views(options["tta"], model.preprocessing.min_size[-1]))


def refine_by_sobel(image: NDArray[np.uint8], detections: Detections) -> list[Rle]:
    """What ``refine=sobel`` does to the masks of an image uint8 [H, W, 3]."""
    rles = masks_to_rles(detections["mask_probs"], detections["boxes"], detections["image_size_hw"])
    return [refine_mask(image, rle) for rle in rles]


def in_words(options: Mapping[str, Any]) -> str:
    """The options that are set, as they are typed; empty if none is."""
    return " ".join(f"{key}={options[key]}".replace("'", "") for key in (*KEYS, "refine") if options[key] is not None)


def settings_in_use(header: ModelHeader, options: Mapping[str, Any]) -> dict[str, Any]:
    """What advice has to know: the model's own values, or those of the options that are set, by the model's keys."""
    roi_heads = header.model.get("roi_heads", {})
    own = {f"model.roi_heads.{key}": roi_heads.get(key) for key in ("nms_thresh", "detections_per_img")}
    typed = {f"model.roi_heads.{key}": options[key] for key in ("nms_thresh", "detections_per_img")}
    changed = {key: value for key, value in typed.items() if value is not None}
    return {"model.min_size": header.model.get("min_size")} | own | changed


def _changed(own: Mapping[str, Any], suppression: str | None, nms_thresh: Any) -> dict[str, Any]:
    """The model's configuration with another suppression, another threshold, or both."""
    config = copy.deepcopy(dict(own))
    if suppression is not None:
        config["suppression"] = OmegaConf.load(config_dir() / "model" / "suppression" / f"{suppression}.yaml")
    if nms_thresh is not None:
        part = config.get("suppression", {})
        if part and "iou_thresh" not in part:
            raise ConfigError(
                f"nms_thresh={nms_thresh} means nothing to this suppression, whose scores sink at every overlap",
                remedy="There is suppression=soft_linear, whose scores sink from a threshold on.",
            )
        config["roi_heads"]["nms_thresh"] = nms_thresh
        if part:
            part["iou_thresh"] = nms_thresh
    resolved: dict[str, Any] = plain(OmegaConf.create({"model": config}))["model"]
    return resolved

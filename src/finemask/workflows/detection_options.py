"""Keys of ``predict`` and ``evaluate`` that change how a trained model makes detections."""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import OmegaConf
from torch import nn

from finemask.config import config_dir, plain
from finemask.config.files import group_options
from finemask.errors import ConfigError, did_you_mean
from finemask.inference.tta import AugmentedMaskRCNN, parse_views
from finemask.model.build import build_suppression
from finemask.model.mask_rcnn import MaskRCNN
from finemask.model.suppression import NMS
from finemask.model_header import ModelHeader
from finemask.ops.mask_ops import masks_to_rles
from finemask.ops.sobel_refine import refine_mask
from finemask.types import Detections, Rle
from finemask.workflows.detect_split import Refine

KEYS = ("suppression", "nms_thresh", "detections_per_img", "tta")
_GROUP = "model/suppression"


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
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
            raise ConfigError(f"detections_per_img={limit}", remedy="It is a whole number of at least 1.")
        model.roi_heads.detections_per_img = limit
    if options["tta"] is None:
        return model
    return AugmentedMaskRCNN(model, parse_views(options["tta"], model.preprocessing.min_size[-1]))


def refinement(name: str | None) -> Refine | None:
    """What ``refine=NAME`` does to the masks of an image; None where it is null.

    Raises:
        ConfigError: there is no such refinement.
    """
    check_refinement(name)
    return None if name is None else _with_sobel


def check_refinement(name: str | None) -> None:
    """Refuses a refinement that does not exist.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in (None, "sobel"):
        raise ConfigError(f"refine={name}", remedy="There is sobel; null leaves masks as the model makes them.")


def _with_sobel(image: NDArray[np.uint8], detections: Detections) -> list[Rle]:
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
        known = group_options(_GROUP, [config_dir()])
        if suppression not in known:
            hint = did_you_mean(str(suppression), known)
            raise ConfigError(f"suppression={suppression}", remedy=f"{hint}There are: {', '.join(known)}.")
        config["suppression"] = OmegaConf.load(config_dir() / _GROUP / f"{suppression}.yaml")
    if nms_thresh is not None:
        if not isinstance(nms_thresh, int | float) or isinstance(nms_thresh, bool) or not 0 <= nms_thresh <= 1:
            raise ConfigError(f"nms_thresh={nms_thresh}", remedy="It is an IoU from 0 to 1.")
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

"""From a configuration to a model, part by part."""

import copy
import math
from collections.abc import Collection, Mapping
from typing import Any

from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator

from finemask.errors import ConfigError
from finemask.model.backbone import STAGES, OwnBackbone, PyramidBackbone
from finemask.model.box_branch import box_branch_of
from finemask.model.class_losses import CrossEntropyLoss
from finemask.model.cpu.roi_align import PyramidRoIAlign
from finemask.model.cpu.winograd import use_winograd
from finemask.model.heads import POOLED_BOX, POOLED_MASK
from finemask.model.mask_rcnn import MaskRCNN
from finemask.model.parts import TRAINING_PARTS, NotLoaded, instantiate, refuse_foreign
from finemask.model.roi_heads import CriterionRoIHeads
from finemask.model.rpn import RowsRegionProposalNetwork, RowsRPNHead
from finemask.model.transform import ImageTransform
from finemask.ops.wording import plural
from finemask.types import Preprocessing, Suppression


def build_model(config: Mapping[str, Any], num_classes: int, *, allowed: Collection[str] | None = None) -> MaskRCNN:
    """Assembles Mask R-CNN with random weights from a ``model`` configuration.

    Args:
        config: the resolved group ``model`` (see configs/model/resnet50_fpn.yaml), as plain dicts and lists.
        num_classes: K + 1.
        allowed: dotted names that the configuration may call, and packages, ``mylab.*``: of a file, which may come from
            anybody. A loss or sampler that is not allowed, or whose code is not there, is missed in training only.
            ``None`` allows any and misses none, as for a user's own training run.

    Returns:
        The model, in training mode, all parameters trainable.

    Raises:
        ConfigError: a key is missing or unknown, a value does not fit, or a name is not allowed.
    """

    def part(key: str, **arguments: Any) -> Any:
        return instantiate(config[key], f"model.{key}", arguments)

    def part_of_training(key: str) -> Any:
        if allowed is None:
            return part(key)
        try:
            refuse_foreign({key: config[key]}, allowed)
            return part(key)
        except ConfigError as error:
            return NotLoaded(error)

    if allowed is not None:
        refuse_foreign({key: node for key, node in config.items() if key not in TRAINING_PARTS}, allowed)
    try:
        backbone = _backbone(part("backbone"))
        channels = backbone.out_channels
        anchors = part("anchors")
        roi_options = dict(config["roi_heads"])
        if roi_options["detections_per_img"] == "auto":
            raise ConfigError(
                "'auto' must be a number by now",
                where="model.roi_heads.detections_per_img",
                remedy="resolve_model() fills in what follows from the data.",
            )
        if not isinstance(roi_options["detections_per_img"], int) or roi_options["detections_per_img"] < 1:
            raise ConfigError("a whole number of at least 1, or auto", where="model.roi_heads.detections_per_img")
        per_location = anchors.num_anchors_per_location()
        levels = backbone.levels if isinstance(backbone, OwnBackbone) else [*map(str, range(STAGES)), "pool"]
        if len(per_location) != len(levels):
            raise ConfigError(
                f"{plural(len(per_location), 'size')} for the {plural(len(levels), 'level')} of the backbone",
                where="model.anchors.sizes",
            )
        has_own_rpn = "_target_" in config["rpn"]
        for section in ("roi_heads",) if has_own_rpn else ("rpn", "roi_heads"):
            background, foreground = config[section]["bg_iou_thresh"], config[section]["fg_iou_thresh"]
            if background > foreground:
                raise ConfigError(
                    f"bg_iou_thresh {background} is above fg_iou_thresh {foreground}",
                    where=f"model.{section}",
                    remedy="Below the first is background, from the second on an object.",
                )
        rpn = (
            part("rpn", in_channels=channels, anchors=anchors)
            if has_own_rpn
            else _shipped_rpn(config["rpn"], channels, anchors)
        )
        box_head, box_width = _head(part("box_head", in_channels=channels), "box_head")
        mask_head, mask_channels = _head(part("mask_head", in_channels=channels), "mask_head")
        box_predictor = part("box_predictor")(in_channels=box_width, num_classes=num_classes)
        box_branch_of(box_predictor).attach(box_head, channels)
        pooled = [level for level in levels if level.isdigit()]
        sampling_ratio, canonical_scale = roi_options.pop("sampling_ratio"), roi_options.pop("canonical_scale", 224)
        roi_heads = CriterionRoIHeads(
            num_classes=num_classes,
            box_roi_pool=PyramidRoIAlign(pooled, POOLED_BOX, sampling_ratio, canonical_scale=canonical_scale),
            box_head=box_head,
            box_predictor=box_predictor,
            mask_roi_pool=PyramidRoIAlign(pooled, POOLED_MASK, sampling_ratio, canonical_scale=canonical_scale),
            mask_head=mask_head,
            mask_predictor=part("mask_predictor")(in_channels=mask_channels, num_classes=num_classes),
            # older files have no class_loss
            class_loss=part_of_training("class_loss") if "class_loss" in config else CrossEntropyLoss(),
            box_loss=part_of_training("box_loss"),
            mask_loss=part_of_training("mask_loss"),
            sampler=part_of_training("sampler"),
            suppression=build_suppression(config),
            **roi_options,
        )
        transform = ImageTransform(preprocessing_from(config))
    except KeyError as error:
        raise ConfigError(f"the key {error} is missing", where="model") from error
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the parts do not fit together: {error}", where="model") from error
    model = MaskRCNN(transform, backbone, rpn, roi_heads).use_channels_last()
    use_winograd(model)
    model.config = copy.deepcopy(dict(config))
    return model


def build_suppression(config: Mapping[str, Any]) -> Suppression | None:
    """The suppression that a ``model`` configuration names; ``None``, torchvision's, where it names none.

    Args:
        config: the resolved group ``model``; what it names is trusted.

    Raises:
        ConfigError: a value does not fit.
    """
    if "suppression" not in config:
        return None
    try:
        suppression: Suppression = instantiate(config["suppression"], "model.suppression", {})
    except ValueError as error:
        raise ConfigError(str(error), where="model.suppression") from error
    return suppression


def preprocessing_from(config: Mapping[str, Any]) -> Preprocessing:
    """The preprocessing that a ``model`` configuration describes.

    Raises:
        ConfigError: sizes or normalisation of the wrong kind.
    """
    sizes = config["min_size"]
    sizes = tuple(int(size) for size in (sizes if isinstance(sizes, list | tuple) else [sizes]))
    mean, std = (tuple(float(value) for value in config[key]) for key in ("image_mean", "image_std"))
    if not sizes or min(sizes) < 32 or int(config["max_size"]) < max(sizes):
        raise ConfigError(
            f"min_size {list(sizes)} and max_size {config['max_size']} px do not fit",
            where="model",
            remedy="Sizes are at least 32 px, and max_size is at least the largest min_size.",
        )
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise ConfigError("image_mean and image_std are three numbers each, on the 0..1 scale", where="model")
    contrast = float(config.get("clahe", 0.0))
    if not 0 <= contrast < math.inf:
        raise ConfigError(f"clahe is {contrast}", where="model", remedy="It is 0 for none, or a clip limit such as 2.")
    return Preprocessing(
        min_size=sizes,
        max_size=int(config["max_size"]),
        image_mean=(mean[0], mean[1], mean[2]),
        image_std=(std[0], std[1], std[2]),
        clahe=contrast,
    )


def _backbone(built: Any) -> PyramidBackbone | OwnBackbone:
    if isinstance(built, PyramidBackbone):
        return built
    try:
        if isinstance(built, nn.Module):
            return OwnBackbone(built)
        raise ConfigError(f"a {type(built).__name__} is not a module")
    except ConfigError as error:
        raise ConfigError(error.what, where="model.backbone", remedy=error.remedy) from error


def _head(built: Any, key: str) -> tuple[nn.Module, int]:
    """A head and its output width: as a pair, or as a module with ``out_channels``."""
    match built:
        case (nn.Module() as head, int(width)):
            return head, width
        case nn.Module(out_channels=int(width)):
            return built, width
    raise ConfigError(
        f"a {type(built).__name__} is neither a module with out_channels nor a pair of a module and that number",
        where=f"model.{key}",
    )


def _shipped_rpn(options: Mapping[str, Any], channels: int, anchors: AnchorGenerator) -> RowsRegionProposalNetwork:
    options = dict(options)
    return RowsRegionProposalNetwork(
        anchors,
        RowsRPNHead(channels, anchors.num_anchors_per_location()[0], conv_depth=options.pop("conv_depth")),
        pre_nms_top_n=_train_and_test(options, "pre_nms_top_n"),
        post_nms_top_n=_train_and_test(options, "post_nms_top_n"),
        **options,
    )


def _train_and_test(options: dict[str, Any], name: str) -> dict[str, int]:
    return {"training": options.pop(f"{name}_train"), "testing": options.pop(f"{name}_test")}

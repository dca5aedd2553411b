"""From a configuration to a model, part by part; the only place that turns ``_target_`` into code for models."""

import copy
from collections.abc import Collection, Mapping
from functools import partial
from importlib import import_module
from typing import Any, NoReturn

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

from finemask.errors import ConfigError
from finemask.model.backbones.pyramid import STAGES, OwnBackbone, PyramidBackbone
from finemask.model.box_predictor.box_branch import POOLED_BOX, box_branch_of
from finemask.model.class_losses import CrossEntropyLoss
from finemask.model.devices.cpu import use_cpu_kernels
from finemask.model.mask_predictor.mask_branch import POOLED_MASK
from finemask.model.mask_rcnn import ImageTransform, MaskRCNN, preprocessing_from
from finemask.model.roi_heads import CriterionRoIHeads
from finemask.model.rpn import RowsRegionProposalNetwork, RowsRPNHead
from finemask.named_parts import TRAINING_PARTS, refuse_foreign
from finemask.ops.wording import plural
from finemask.types import Suppression


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
        return _instantiate(config[key], f"model.{key}", arguments)

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
            box_roi_pool=MultiScaleRoIAlign(pooled, POOLED_BOX, sampling_ratio, canonical_scale=canonical_scale),
            box_head=box_head,
            box_predictor=box_predictor,
            mask_roi_pool=MultiScaleRoIAlign(pooled, POOLED_MASK, sampling_ratio, canonical_scale=canonical_scale),
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
    use_cpu_kernels(model)
    model.config = copy.deepcopy(dict(config))
    return model


def build_unfilled_model(config: Mapping[str, Any], num_classes: int, *, allowed: Collection[str]) -> MaskRCNN:
    """As ``build_model``, for weights that are loaded next: no initial values are drawn, which takes longer than that.

    Args:
        config: as of ``build_model``.
        num_classes: K + 1.
        allowed: as of ``build_model``.

    Raises:
        ConfigError: as of ``build_model``.
    """
    with _NothingDrawn():
        return build_model(config, num_classes, allowed=allowed)


class _NothingDrawn(TorchFunctionMode):
    """Leaves tensors that were to be filled with random numbers as they are."""

    _draws = frozenset({Tensor.normal_, Tensor.uniform_, nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_})

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Answers for the functions above; calls any other."""
        kwargs = kwargs or {}
        if func in self._draws:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


class NotLoaded(nn.Module):
    """A loss or sampler whose code is not there or not trusted: the model predicts, and refuses to be trained.

    Args:
        reason: why it was not loaded.
    """

    def __init__(self, reason: ConfigError) -> None:
        super().__init__()
        self._what, self._where, self._remedy = reason.what, reason.where, reason.remedy

    def forward(self, *args: Any) -> NoReturn:
        """Raises the reason."""
        what = f"this model cannot be trained further: {self._what}"
        raise ConfigError(what, where=self._where, remedy=self._remedy)

    def _load_from_state_dict(self, *args: Any) -> None:
        """The part's own parameters in a file have no place here, and are no mistake."""


def _head(built: Any, key: str) -> tuple[nn.Module, int]:
    """What a ``HeadFactory`` gave, a pair of head and width or a module with ``out_channels``, as a pair."""
    match built:
        case (nn.Module() as head, int(width)):
            return head, width
        case nn.Module(out_channels=int(width)):
            return built, width
    raise ConfigError(
        f"a {type(built).__name__} is neither a module with out_channels nor a pair of a module and that number",
        where=f"model.{key}",
    )


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
        suppression: Suppression = _instantiate(config["suppression"], "model.suppression", {})
    except ValueError as error:
        raise ConfigError(str(error), where="model.suppression") from error
    return suppression


def _backbone(built: Any) -> PyramidBackbone | OwnBackbone:
    if isinstance(built, PyramidBackbone):
        return built
    if not isinstance(built, nn.Module):
        raise ConfigError(f"a {type(built).__name__} is not a module", where="model.backbone")
    return OwnBackbone(built)


def _shipped_rpn(options: Mapping[str, Any], channels: int, anchors: AnchorGenerator) -> RowsRegionProposalNetwork:
    options = dict(options)
    head = RowsRPNHead(channels, anchors.num_anchors_per_location()[0], conv_depth=options.pop("conv_depth"))
    kept = {
        name: {"training": options.pop(f"{name}_train"), "testing": options.pop(f"{name}_test")}
        for name in ("pre_nms_top_n", "post_nms_top_n")
    }
    return RowsRegionProposalNetwork(anchors, head, **kept, **options)


def _instantiate(node: Mapping[str, Any], where: str, arguments: Mapping[str, Any]) -> Any:
    """Hydra's ``_target_`` and ``_partial_``, without Hydra; what is allowed has been looked at before."""
    options = {key: _built(value, f"{where}.{key}") for key, value in node.items()}
    target = options.pop("_target_")
    is_partial = options.pop("_partial_", False)
    module_name, _, name = target.rpartition(".")
    try:
        builder = getattr(import_module(module_name), name)
    except Exception as error:  # whatever somebody's module does when it is imported
        raise ConfigError(
            f"{target} cannot be imported: {error}",
            where=f"{where}._target_",
            remedy="Code of your own must be installed, or its folder named in PYTHONPATH.",
        ) from error
    if is_partial:
        return partial(builder, **options, **arguments)
    try:
        return builder(**options, **arguments)
    except TypeError as error:
        raise ConfigError(f"{target} does not take these arguments: {error}", where=where) from error


def _built(value: Any, where: str) -> Any:
    """An argument of a part: a part itself, where it has a ``_target_``."""
    if isinstance(value, Mapping):
        if "_target_" in value:
            return _instantiate(value, where, {})
        return {key: _built(inner, f"{where}.{key}") for key, inner in value.items()}
    return [_built(inner, where) for inner in value] if isinstance(value, list | tuple) else value

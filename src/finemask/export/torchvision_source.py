"""Python code that builds a model of torchvision's parts alone, with the numbers of ours."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn
from torchvision.models.detection.faster_rcnn import TwoMLPHead

from finemask.model.backbones.families import mobilenet_fpn, resnet_fpn
from finemask.model.mask_rcnn import MaskRCNN
from finemask.model.rpn import RowsRegionProposalNetwork
from finemask.model.suppression import NMS
from finemask.model_header import ModelHeader
from finemask.ops.files.atomic_files import python_beside

BACKBONES = {f"{of.__module__}.{of.__name__}": of for of in (resnet_fpn, mobilenet_fpn)}
_BATCH_NORM, _NO_NORM = "nn.BatchNorm2d", "None"
_GROUP_NORM = "lambda c: nn.GroupNorm(max(g for g in (1, 2, 4, 8, 16, 32) if c % g == 0 and c >= 2 * g), c)"

_SOURCE = '''\
"""The weights beside this file, in torchvision alone: load() gives the model; python {module} PHOTO tries it."""

from functools import partial
from pathlib import Path

import torch
from torch import nn
from torchvision.models import {network}
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.misc import FrozenBatchNorm2d

CLASSES = {classes}
THRESHOLDS = {thresholds}


def load(path=Path(__file__).with_name({file!r})):
    """A torchvision model for RGB images, float [3, H, W] from 0 to 1, of any size."""
    norm = {norm}
    body = {network}(norm_layer=norm){features}
    levels, channels, fpn_norm = {levels}, {channels!r}, {fpn_norm}
    backbone = BackboneWithFPN(body, levels, channels, {width!r}, norm_layer=fpn_norm)
    pool = partial(MultiScaleRoIAlign, {pooled}, sampling_ratio={sampling_ratio!r}, canonical_scale={canonical_scale!r})
    model = MaskRCNN(
        backbone,
        min_size={min_size!r}, max_size={max_size!r},
        image_mean={image_mean!r}, image_std={image_std!r},
        rpn_anchor_generator=AnchorGenerator({sizes!r}, {aspect_ratios}),
        rpn_head=RPNHead({width!r}, {anchors!r}, conv_depth={conv_depth!r}),
        rpn_pre_nms_top_n_test={pre_nms!r}, rpn_post_nms_top_n_test={post_nms!r},
        rpn_nms_thresh={rpn_nms_thresh!r}, rpn_score_thresh={rpn_score_thresh!r},
        box_roi_pool=pool(output_size={box_side!r}), mask_roi_pool=pool(output_size={mask_side!r}),
        box_head={box_head},
        box_predictor=FastRCNNPredictor({box_features!r}, {num_classes!r}), bbox_reg_weights={bbox_reg_weights!r},
        box_score_thresh={score_thresh!r}, box_nms_thresh={nms_thresh!r}, box_detections_per_img={detections_per_img!r},
        mask_head={mask_head},
        mask_predictor=MaskRCNNPredictor({mask_features!r}, {mask_hidden!r}, {num_classes!r}),
    )
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model.eval()


if __name__ == "__main__":
    import sys

    from PIL import Image, ImageOps
    from torchvision.transforms.functional import to_tensor

    image = ImageOps.exif_transpose(Image.open(sys.argv[1])).convert("RGB")
    with torch.inference_mode():
        (found,) = load()([to_tensor(image)])
    for box, label, score, mask in zip(found["boxes"], found["labels"], found["scores"], found["masks"]):
        if score >= THRESHOLDS[label]:
            pixels = int((mask > 0.5).sum())
            print(f"{{CLASSES[label]}} {{score:.3f}} {{[round(edge, 1) for edge in box.tolist()]}} {{pixels}} pixels")
'''


def torchvision_source(model: MaskRCNN, header: ModelHeader, path: Path) -> str:
    """Python code with a function ``load``, which builds the same model of torchvision's parts.

    Args:
        model: see ``check_torchvision``.
        header: of its model file.
        path: of the weights.
    """
    heads, rpn, backbone = model.roi_heads, model.rpn, model.backbone
    assert isinstance(rpn, RowsRegionProposalNetwork)
    assert isinstance(heads.suppression, NMS)
    pool: Any = heads.box_roi_pool
    options = model.config["backbone"]
    names = [category.name for category in header.categories]
    box_predictor, mask_predictor = heads.box_predictor, heads.mask_predictor
    body: Any = backbone.body
    fpn: Any = backbone.fpn
    return _SOURCE.format(
        file=path.name,
        module=python_beside(path, "torchvision").name,
        classes=_listed(["__background__", *names]),
        thresholds=_listed([1.0, *(header.threshold_of(name) for name in names)]),
        network=options["name"],
        norm=_norm(options.get("norm", "frozen_bn"), options.get("norm_eps", 1e-5)),
        features="" if BACKBONES[backbone_target(model)] is resnet_fpn else ".features",
        levels=json.dumps(dict(body.return_layers)),
        channels=[block[0].in_channels for block in fpn.inner_blocks],
        width=backbone.out_channels,
        fpn_norm=_norm(options.get("fpn_norm", "none"), 0.0),
        pooled=json.dumps(list(pool.featmap_names)),
        sampling_ratio=pool.sampling_ratio,
        canonical_scale=pool.canonical_scale,
        min_size=model.preprocessing.min_size[-1],
        max_size=model.preprocessing.max_size,
        image_mean=list(model.preprocessing.image_mean),
        image_std=list(model.preprocessing.image_std),
        sizes=rpn.anchor_generator.sizes,
        aspect_ratios=_ratios(rpn.anchor_generator.aspect_ratios),
        anchors=rpn.anchor_generator.num_anchors_per_location()[0],
        conv_depth=len(rpn.head.conv),
        pre_nms=rpn._pre_nms_top_n["testing"],
        post_nms=rpn._post_nms_top_n["testing"],
        rpn_nms_thresh=rpn.nms_thresh,
        rpn_score_thresh=rpn.score_thresh,
        box_side=pool.output_size[0],
        mask_side=heads.mask_roi_pool.output_size[0],
        box_head=_box_head(heads.box_head),
        box_features=box_predictor.cls_score.in_features,
        num_classes=model.num_classes,
        bbox_reg_weights=tuple(heads.box_coder.weights),
        score_thresh=heads.score_thresh,
        nms_thresh=heads.suppression.iou_thresh,
        detections_per_img=heads.detections_per_img,
        mask_head=_mask_head(heads.mask_head),
        mask_features=mask_predictor.conv5_mask.in_channels,
        mask_hidden=mask_predictor.conv5_mask.out_channels,
    )


def backbone_target(model: MaskRCNN) -> str:
    """The dotted name of what built the backbone; empty where nothing says it."""
    return str(model.config.get("backbone", {}).get("_target_", ""))


def _listed(values: Sequence[object]) -> str:
    """A list as Python code, one value a line where there are many."""
    line = repr(list(values))
    return line if len(line) < 100 else "[\n" + "".join(f"    {value!r},\n" for value in values) + "]"


def _ratios(of_levels: Sequence[Sequence[float]]) -> str:
    alike = len(set(of_levels)) == 1
    return f"({tuple(of_levels[0])!r},) * {len(of_levels)}" if alike else repr(of_levels)


def _norm(norm: str, eps: float) -> str:
    """The constructor of a normalisation, see ``finemask.model.backbones.norms``, as Python code."""
    own = {"none": _NO_NORM, "frozen_bn": f"partial(FrozenBatchNorm2d, eps={eps!r})", "gn": _GROUP_NORM}
    return own.get(norm, _BATCH_NORM)  # one that was synchronised is a plain one in prediction


def _box_head(head: nn.Module) -> str:
    if isinstance(head, TwoMLPHead):
        return f"TwoMLPHead({head.fc6.in_features}, {head.fc6.out_features})"
    convolutions = [module for module in head.modules() if isinstance(module, nn.Conv2d)]
    (linear,) = (module for module in head.modules() if isinstance(module, nn.Linear))
    first = convolutions[0].in_channels
    side = round((linear.in_features / convolutions[-1].out_channels) ** 0.5)
    widths = [convolution.out_channels for convolution in convolutions]
    size = (first, side, side)
    return f"FastRCNNConvFCHead({size}, {widths}, [{linear.out_features}], norm_layer={_norm_in(head)})"


def _mask_head(head: nn.Module) -> str:
    convolutions = [module for module in head.modules() if isinstance(module, nn.Conv2d)]
    widths = [convolution.out_channels for convolution in convolutions]
    return f"MaskRCNNHeads({convolutions[0].in_channels}, {widths}, 1, norm_layer={_norm_in(head)})"


def _norm_in(head: nn.Module) -> str:
    return _BATCH_NORM if any(isinstance(module, nn.BatchNorm2d) for module in head.modules()) else _NO_NORM

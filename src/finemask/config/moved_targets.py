"""Dotted names of parts in earlier versions.

The ``config.yaml`` of a run, its checkpoints and its model file, and files that people wrote themselves go on naming
the places of their day. Whatever reads one of them brings its names up to date here; nothing below has to know.
"""

from collections.abc import Mapping
from typing import Any

# A module that moved, a package that became a module, or a single name: the module that it stands in now.
MOVED = {
    "finemask.data.augment": "finemask.data.augmentation",
    "finemask.data.augment_albumentations": "finemask.data.augmentation",
    "finemask.data.augment_chain": "finemask.data.augmentation",
    "finemask.data.augment_torch": "finemask.data.augmentation",
    "finemask.data.copy_paste": "finemask.data.image_mixing",
    "finemask.data.large_scale_jitter": "finemask.data.image_mixing",
    "finemask.data.mosaic": "finemask.data.image_mixing",
    "finemask.model.anchors": "finemask.model.rpn",
    "finemask.model.backbone": "finemask.model.backbones.families",
    "finemask.model.box_loss": "finemask.model.box_losses",
    "finemask.model.box_predictor.cosine": "finemask.model.box_predictor.linear",
    "finemask.model.box_predictor.iterative": "finemask.model.box_predictor.cascade",
    "finemask.model.class_loss": "finemask.model.class_losses",
    "finemask.model.heads.conv_fc": "finemask.model.box_predictor.box_branch",
    "finemask.model.heads.mask_convs": "finemask.model.mask_predictor.mask_branch",
    "finemask.model.heads.two_mlp": "finemask.model.box_predictor.box_branch",
    "finemask.model.mask_loss": "finemask.model.mask_losses",
    "finemask.model.mask_predictor.deep_fcn": "finemask.model.mask_predictor.fcn",
    "finemask.model.mask_predictor.mask_iou": "finemask.model.mask_predictor.mask_scoring",
    "finemask.model.sampler": "finemask.model.samplers",
    "finemask.model.small_backbone": "finemask.model.backbones.families",
    "finemask.model.suppression": "finemask.model.suppression",  # was a package: suppression.soft.SoftNMS
    "finemask.model.torchvision_backbone": "finemask.model.backbones.torchvision_backbone",
    "finemask.training.callbacks.pictures": "finemask.training.callbacks.validation",
    "finemask.training.csv_logger": "finemask.training.loggers",
    "finemask.training.tensorboard": "finemask.training.loggers",
}


def present_target(target: str) -> str:
    """The present dotted name of what a configuration of an earlier version names; any other name as it is."""
    module, _, name = target.rpartition(".")
    for old in (target, module, module.rpartition(".")[0]):
        if old in MOVED:
            return f"{MOVED[old]}.{name}"
    return target


def with_present_targets(node: Any) -> Any:
    """A copy of a configuration whose every ``_target_``, at whatever depth, has its present name.

    Args:
        node: plain dicts and lists; keys may be dotted, ``model.backbone._target_``, as a checkpoint has them.
    """
    if isinstance(node, Mapping):
        return {
            key: present_target(value)
            if isinstance(value, str) and str(key).rpartition(".")[2] == "_target_"
            else with_present_targets(value)
            for key, value in node.items()
        }
    return type(node)(map(with_present_targets, node)) if isinstance(node, list | tuple) else node

"""``finemask.maskrcnn``: Mask R-CNN by the name of its configuration."""

from collections.abc import Sequence
from pathlib import Path

from finemask.config import compose, plain
from finemask.errors import ConfigError
from finemask.model.build import build_model
from finemask.model.mask_rcnn import MaskRCNN
from finemask.model.pretrained.transfer import Transfer, apply_transfer
from finemask.model.pretrained.weights import load_weights
from finemask.model.resolve import resolve_model


def maskrcnn(
    name: str = "resnet50_fpn",
    num_classes: int = 91,
    weights: str | Path = "auto",
    *,
    trainable_stages: int | None = None,
    max_instances_per_image: int = 0,
    overrides: Sequence[str] = (),
    config_dir: str | Path | None = None,
) -> MaskRCNN:
    """Mask R-CNN by the name of its configuration, as torchvision's builders: with pretrained weights.

    Args:
        name: an option of the group ``model``: ``resnet50_fpn``, ``light``, ``timm_fpn``, …; see
            ``finemask config list model``.
        num_classes: K + 1, background included; ``CocoDataModule.num_classes``.
        weights: ``auto`` takes what the configuration names; ``coco``, ``imagenet``, ``none``, or a file.
        trainable_stages: of the backbone's five parts, counted from the last; by default 3, or 5 without weights, as
            torchvision has it.
        max_instances_per_image: of the fullest image: the cap on detections leaves room for half as many again, and is
            100 at least.
        overrides: keys of the model as on the command line: ``["model.min_size=512", "model/mask_loss=edge"]``.
        config_dir: folder of YAML files of your own.

    Returns:
        The model, in training mode. In training it takes images uint8 [3, H, W] and targets and gives losses; in
        evaluation it gives one ``Detections`` an image.

    Raises:
        ConfigError: there is no such option or key.
        WeightsError: the weights cannot be had, or do not fit.
    """
    if num_classes < 2:
        raise ConfigError(f"num_classes={num_classes}", remedy="It counts the background, too: 2 for one category.")
    cfg = compose("train", [f"model={name}", *overrides], config_dir=config_dir, check=False)
    config = plain(cfg.model) if weights == "auto" else {**plain(cfg.model), "weights": str(weights)}
    config = resolve_model(config, max_instances_per_image)
    model = build_model(config, num_classes)
    if trainable_stages is None:
        trainable_stages = 5 if config["weights"] == "none" else 3
    apply_transfer(model, Transfer(trainable_stages=trainable_stages))
    load_weights(model, config)
    return model

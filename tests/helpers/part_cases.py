"""Models of a chosen combination of parts, and a second stage's input without a backbone or an RPN."""

import copy
from functools import cache

import torch
from model_cases import model_config, random_scene
from omegaconf import OmegaConf
from torch import nn

from finemask.config import config_dir
from finemask.config.config_files import shipped_targets
from finemask.model.box_predictor.box_branch import BoxContext
from finemask.model.build import build_model

NUM_CLASSES = 4
SIDE_PX = 64
STRIDES = (4, 8, 16, 32)
# Anchors are no part: resolve_model() turns that group into numbers for the one builder there is.
KINDS = sorted(
    folder.name for folder in (config_dir() / "model").iterdir() if folder.is_dir() and folder.name != "anchors"
)


def variants(kind: str) -> list[str]:
    """Every option of a group of parts, found by its YAML file."""
    return sorted(path.stem for path in (config_dir() / "model" / kind).glob("*.yaml"))


@cache
def _plain_config() -> dict:
    return model_config("tiny", f"model.min_size={SIDE_PX}", f"model.max_size={SIDE_PX}")


def parts_config(**parts: str) -> dict:
    """The configuration of a tiny model, each kind of part by its option; ``"name key=value"`` sets keys of it too.

    Composing a configuration takes longer than building this model: parts are read off their files.
    """
    config = copy.deepcopy(_plain_config())
    for kind, option in parts.items():
        name, *keys = option.split()
        part = OmegaConf.load(config_dir() / "model" / kind / f"{name}.yaml")
        assert "defaults" not in part
        config[kind] = OmegaConf.merge(part, OmegaConf.from_dotlist(keys))
    return OmegaConf.to_container(OmegaConf.create({"model": config}), resolve=True)["model"]


def build_parts(seed: int = 0, **parts: str) -> nn.Module:
    """A tiny model with random weights, in training mode, from parts that a model file may name."""
    torch.manual_seed(seed)
    return build_model(parts_config(**parts), NUM_CLASSES, allowed=shipped_targets("model"))


def spread_scores(model: nn.Module) -> None:
    """Random weights that tell classes and boxes apart, as trained ones do."""
    generator = torch.Generator().manual_seed(5)
    for name, parameter in model.roi_heads.box_predictor.named_parameters():
        if name.endswith("cls_score.weight"):
            parameter.data = torch.randn(parameter.shape, generator=generator)
        if name.endswith("bbox_pred.weight"):
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3


def second_stage_input(instances: tuple[int, ...] = (3, 2), proposals: int = 12, seed: int = 0) -> tuple:
    """What the second stage is called with: features that need a gradient, proposals, image shapes, targets.

    Args:
        instances: ground-truth instances of each image.
        proposals: of each image, near the instances and elsewhere.
        seed: of all of it.
    """
    generator = torch.Generator().manual_seed(seed)
    channels = _plain_config()["backbone"]["out_channels"]
    features = {
        str(level): torch.randn(
            len(instances), channels, SIDE_PX // stride, SIDE_PX // stride, generator=generator
        ).requires_grad_()
        for level, stride in enumerate(STRIDES)
    }
    targets = [
        random_scene(SIDE_PX, SIDE_PX, count, seed + number, number)[1] for number, count in enumerate(instances)
    ]
    boxes = []
    for target in targets:
        corners = torch.rand(proposals, 2, 2, generator=generator) * SIDE_PX
        of_image = torch.cat([corners.amin(dim=1), corners.amax(dim=1) + 1], dim=1)
        near = target["boxes"].repeat(2, 1)[:proposals]
        of_image[: len(near)] = near + torch.randn(near.shape, generator=generator)
        boxes.append(of_image.clamp(0, SIDE_PX))
    return features, boxes, [(SIDE_PX, SIDE_PX)] * len(instances), targets


def second_stage_losses(model: nn.Module, batch: tuple) -> dict[str, torch.Tensor]:
    """Losses of boxes and masks for a ``second_stage_input``."""
    return model.train().roi_heads(*batch)[1]


def second_stage_detections(model: nn.Module, batch: tuple) -> list[dict[str, torch.Tensor]]:
    """Detections for a ``second_stage_input``, in its pixels."""
    with torch.inference_mode():
        return model.eval().roi_heads(*batch[:3])[0]


def without_gradient(model: nn.Module) -> list[str]:
    """Names of the second stage's parameters that no gradient reached."""
    return [name for name, parameter in model.roi_heads.named_parameters() if parameter.grad is None]


def box_context(model: nn.Module, batch: tuple) -> BoxContext:
    """What the second stage lends its box branch for a ``second_stage_input``."""
    features, _, image_shapes, targets = batch
    return model.roi_heads.box_context(features, image_shapes, targets)

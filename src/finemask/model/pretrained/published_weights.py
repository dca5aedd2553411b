"""Pretrained weights that somebody publishes: torchvision, timm, and finemask itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.models import get_model_weights
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_V2_Weights, MaskRCNN_ResNet50_FPN_Weights

from finemask.errors import WeightsError

PUBLISHED = ("coco", "imagenet")  # what is downloaded, once
OBJECTS = Path(__file__).with_name("objects.safetensors")  # of model=light; docs/light_weights.md is its card
_COCO = {
    "resnet50_fpn": MaskRCNN_ResNet50_FPN_Weights.COCO_V1,
    "resnet50_fpn_v2": MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1,
}


def best_weights(config: Mapping[str, Any]) -> str:
    """What ``model.weights=auto`` stands for: the weights nearest to the task that exist for an architecture.

    Args:
        config: the group ``model``.
    """
    if config["name"] == "light" and config["backbone"].get("name") == "mobilenet_v2":
        return "objects"
    return "coco" if config["name"] in _COCO else "imagenet"


def published_weights(config: Mapping[str, Any]) -> tuple[str, dict[str, Tensor], list[str] | None]:
    """Downloads the weights that a word names, or finds them in torch's cache.

    Args:
        config: the resolved group ``model``; its ``weights`` is ``coco`` or ``imagenet``.

    Returns:
        What they are called in a report, tensors by name, and names of the rows of classes where there are any.

    Raises:
        WeightsError: nobody publishes such weights, or they cannot be downloaded.
    """
    if config["weights"] == "coco":
        chosen = _COCO.get(config["name"])
        if chosen is None:
            raise WeightsError(
                f"there are no COCO weights for {config['name']} (only for {', '.join(_COCO)})",
                where="model.weights=coco",
                remedy="Use model.weights=auto, imagenet, none, or the path of a file of your own.",
            )
        return f"COCO_V1 of torchvision ({_file_name(chosen)})", _download(chosen), coco_names()
    name, target = config["backbone"].get("name"), str(config["backbone"]["_target_"])
    if not target.startswith("finemask."):
        raise WeightsError(
            f"nobody publishes weights for {target}",
            where="model.weights=imagenet",
            remedy="Use model.weights=none, or a file: a state_dict of it.",
        )
    if target.endswith("timm_fpn"):
        return f"timm's weights of {name}", _timm_state_dict(name), None
    published = get_model_weights(name)
    chosen = published["IMAGENET1K_V1"] if "IMAGENET1K_V1" in published.__members__ else published.DEFAULT
    return f"{chosen.name} of torchvision ({_file_name(chosen)})", _download(chosen), None


def _file_name(weights: Any) -> str:
    return str(weights.url).rpartition("/")[2]


def coco_names() -> list[str]:
    """Names of rows 1 to 90 of torchvision's COCO weights; some stand for no class and are called N/A."""
    return list(MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"][1:])


def _download(weights: Any) -> dict[str, Tensor]:
    try:
        return dict(weights.get_state_dict(progress=True, check_hash=True))
    except (OSError, RuntimeError) as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise WeightsError(
            f"{_file_name(weights)} is neither in {folder} nor can it be downloaded ({error})",
            where="model.weights",
            remedy=f"Put that file (from {weights.url}) into the folder, or name a file of your own with "
            "model.weights=PATH, or start from nothing with model.weights=none.",
        ) from error


def _timm_state_dict(name: str) -> dict[str, Tensor]:
    import timm  # the backbone was built with it

    try:
        return dict(timm.create_model(name, pretrained=True).state_dict())
    except (OSError, RuntimeError, ImportError) as error:
        raise WeightsError(
            f"timm's weights of {name} are neither cached nor can they be downloaded ({str(error).splitlines()[0]})",
            where="model.weights=imagenet",
            remedy="Fetch them on a machine with a network and name the file with model.weights=PATH, or start from "
            "nothing with model.weights=none.",
        ) from error

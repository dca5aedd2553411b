"""For bench_train.py: our model and torchvision's, with the same weights, on the same images, proposals and draws."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import maskrcnn_resnet50_fpn
from torchvision.ops import FrozenBatchNorm2d, box_iou

from finemask.bench.scenes import dense_target, proposals_around, scene
from finemask.config import compose, plain
from finemask.model.backbones.norms import freeze_batch_norm
from finemask.model.build import build_model
from finemask.model.mask_rcnn import MaskRCNN
from finemask.model.resolve import resolve_model
from finemask.types import Target

POSITIVES_AN_OBJECT = 8  # what a trained RPN gives the heads to work on


def build_ours(size: int, num_categories: int, *overrides: str, name: str = "resnet50_fpn") -> MaskRCNN:
    """Our model with random weights, and batch norm frozen at what the scenes make of it, in training mode.

    Frozen at nothing, random weights explode or fade away layer by layer, and numbers near zero are slow to compute.
    """
    model = build_with_batch_norm(size, num_categories, *overrides, name=name)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        batch, _ = model.transform(scenes(size, 2, 8)[0])
        model.backbone(batch.tensors)
    model.backbone = freeze_batch_norm(model.backbone, 1e-5)
    return model


def build_with_batch_norm(size: int, num_categories: int, *overrides: str, name: str = "resnet50_fpn") -> MaskRCNN:
    """Our model with random weights, and batch norm that is trained, in training mode."""
    torch.manual_seed(0)
    words = [f"model={name}", "model.weights=none", "data.root=unused", "model.backbone.norm=bn"]
    cfg = compose("train", [*words, f"model.min_size={size}", f"model.max_size={2 * size}", *overrides])
    return build_model(resolve_model(plain(cfg.model), 1), num_categories + 1).train()


def build_torchvisions(size: int, num_categories: int, ours: MaskRCNN) -> nn.Module:
    """Builds torchvision's resnet50_fpn with our weights, its batch norm frozen if ours is."""
    theirs = maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=num_categories + 1, min_size=size, max_size=2 * size
    )
    if any(isinstance(module, FrozenBatchNorm2d) for module in ours.modules()):
        _freeze_batch_norm(theirs.backbone.body)
    missing = theirs.load_state_dict(ours.state_dict(), strict=False).missing_keys
    assert not [key for key in missing if "num_batches_tracked" not in key], missing
    return theirs.train()


def scenes(size: int, batch: int, objects: int, num_categories: int = 1) -> tuple[list[Tensor], list[Target]]:
    """A batch of 4:3 images and their targets."""
    drawn = [scene(size, size * 4 // 3, objects, seed, num_categories) for seed in range(batch)]
    return [image for image, _ in drawn], [target for _, target in drawn]


def our_arguments(images: list[Tensor], targets: list[Target]) -> tuple[Any, Any]:
    """A batch as our model takes it."""
    return images, targets


def their_arguments(images: list[Tensor], targets: list[Target]) -> tuple[Any, Any]:
    """The same batch as torchvision's takes it: float images, a full-size mask an object."""
    return [image.float() / 255 for image in images], [dense_target(target) for target in targets]


def fix_proposals(model: nn.Module, images: list[Tensor], targets: list[Target]) -> None:
    """Lets the RPN do all its work with the same draws, then hands on other boxes, as many as it found.

    They lie around the objects, eight for each, and in the background: random weights find no object, and score all
    places so much alike that rounding chooses among them.
    """

    def replace(module: nn.Module, arguments: Any, output: Any) -> Any:
        found, losses = output
        return [_proposals(image, target, len(of)) for image, target, of in zip(images, targets, found)], losses  # noqa: B905

    def seed(module: nn.Module, arguments: Any) -> None:
        torch.manual_seed(0)  # torchvision's transform has drawn a size for each image, though there is only one

    model.rpn.register_forward_pre_hook(seed)  # type: ignore[union-attr]
    model.rpn.register_forward_hook(replace)  # type: ignore[union-attr]


def _proposals(image: Tensor, target: Target, count: int) -> Tensor:
    height, width = image.shape[-2:]
    good = proposals_around(target["boxes"], POSITIVES_AN_OBJECT, (height, width), seed=0)
    generator = torch.Generator().manual_seed(1)
    sides = torch.tensor([width, height], dtype=torch.float32)
    corner = torch.rand(2 * count, 2, generator=generator) * sides * 0.8
    extent = 8 + torch.rand(2 * count, 2, generator=generator) * sides * 0.4
    others = torch.cat([corner, (corner + extent).minimum(sides)], 1)
    background = others[box_iou(others, target["boxes"]).amax(1) < 0.4]
    return torch.cat([good, background])[: max(count, len(good))]


def training_step(model: nn.Module, arguments: tuple[Any, Any]) -> Callable[[], dict[str, float]]:
    """Forward, backward and an optimiser's step of nothing, so that every call does the same."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)

    def step() -> dict[str, float]:
        optimizer.zero_grad()
        losses = model(*arguments)
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        return {name: float(value.detach()) for name, value in losses.items()}

    return step


def our_step(model: MaskRCNN, images: list[Tensor], targets: list[Target]) -> Callable[[], dict[str, float]]:
    """A step of ours on these images, with fixed proposals."""
    fix_proposals(model, images, targets)
    return training_step(model, our_arguments(images, targets))


def _freeze_batch_norm(body: nn.Module) -> None:
    for name, module in body.named_children():
        if isinstance(module, nn.BatchNorm2d):
            setattr(body, name, FrozenBatchNorm2d(module.num_features, eps=module.eps))
        else:
            _freeze_batch_norm(module)

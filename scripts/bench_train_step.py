"""One training step of ours and of torchvision's Mask R-CNN: same weights, images, proposals and random choices."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import maskrcnn_resnet50_fpn
from torchvision.ops import MultiScaleRoIAlign

from finemask.bench.scenes import dense_target, proposals_around, scene
from finemask.bench.timing import interleave
from finemask.config import compose, plain
from finemask.model.build import build_model
from finemask.model.mask_rcnn import MaskRCNN
from finemask.model.resolve import resolve_model
from finemask.model.roi_pool import PyramidRoIAlign

POSITIVES_AN_OBJECT = 8  # what a trained RPN gives the heads to work on


def build_ours(size: int, num_categories: int, *overrides: str) -> MaskRCNN:
    """Our resnet50_fpn with random weights and frozen batch norm, in training mode."""
    words = ["model=resnet50_fpn", "model.weights=none", "data.root=unused", "model.backbone.norm=frozen_bn"]
    cfg = compose("train", [*words, f"model.min_size={size}", f"model.max_size={2 * size}", *overrides])
    config = resolve_model(plain(cfg.model), 1)
    return build_model(config, num_categories + 1).train()


def build_torchvisions(size: int, num_categories: int, ours: MaskRCNN) -> nn.Module:
    """Builds torchvision's model with our weights, batch norm frozen as its own builder does with pretrained ones."""
    torch.manual_seed(0)
    theirs = maskrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=num_categories + 1,
        min_size=size,
        max_size=2 * size,
        trainable_backbone_layers=5,
    )
    _freeze_batch_norm(theirs.backbone.body)
    missing = theirs.load_state_dict(ours.state_dict(), strict=False).missing_keys
    assert not [key for key in missing if "num_batches_tracked" not in key], missing
    return theirs.train()


def measure_step(size: int, batch: int, objects: int, rounds: int) -> dict[str, Any]:
    """Times a step of both, and compares what they computed."""
    torch.manual_seed(0)
    ours = build_ours(size, 1)
    _calm(ours)
    theirs = build_torchvisions(size, 1, ours)
    scenes = [scene(size, size * 4 // 3, objects, seed) for seed in range(batch)]
    images, targets = [image for image, _ in scenes], [target for _, target in scenes]
    for model in (ours, theirs):
        _propose(model, [target["boxes"] for target in targets], images)
    floats, dense = [image.float() / 255 for image in images], [dense_target(target) for target in targets]
    contenders = {
        "torchvision": _step(theirs, lambda: theirs(floats, dense)),
        "finemask": _step(ours, lambda: ours(images, targets)),
    }
    timing = interleave(contenders, rounds)
    return {
        "work": f"training step, {size} px, batch {batch}, {objects} objects an image",
        "torchvision_s": timing.median("torchvision"),
        "finemask_s": timing.median("finemask"),
        "ratio": timing.ratio("torchvision", "finemask"),
        **_agreement(contenders["finemask"](), contenders["torchvision"](), ours, theirs),
    }


def measure_classes(size: int, batch: int, objects: int, rounds: int) -> dict[str, Any]:
    """Times our step with one class and with eighty."""
    contenders = {}
    for num_categories in (1, 80):
        torch.manual_seed(0)
        model = build_ours(size, num_categories)
        _calm(model)
        scenes = [scene(size, size * 4 // 3, objects, seed, num_categories) for seed in range(batch)]
        images, targets = [image for image, _ in scenes], [target for _, target in scenes]
        _propose(model, [target["boxes"] for target in targets], images)
        contenders[f"{num_categories} classes"] = _step(model, lambda m=model, i=images, t=targets: m(i, t))
    timing = interleave(contenders, rounds)
    return {
        "work": f"training step with 80 classes, {size} px, batch {batch}",
        "1_class_s": timing.median("1 classes"),
        "80_classes_s": timing.median("80 classes"),
        "ratio": timing.ratio("1 classes", "80 classes"),
    }


def measure_roi_align(rois: int, side: int, size: int, rounds: int) -> dict[str, Any]:
    """Times RoIAlign over four levels, forward and backward, at 256 channels on two images."""
    torch.manual_seed(0)
    names = ["0", "1", "2", "3"]
    maps = {name: torch.randn(2, 256, size // 4 >> k, size // 4 >> k) for k, name in enumerate(names)}
    corners = torch.rand(2, rois // 2, 2) * size * 0.7
    boxes = [torch.cat([xy, (xy + torch.rand(rois // 2, 2) * size * 0.3 + 4).clamp(max=size)], 1) for xy in corners]
    sizes = [(size, size)] * 2
    gradient = torch.randn(rois, 256, side, side)
    contenders: dict[str, Callable[[], list[Tensor]]] = {}
    for name, pool, layout in (
        ("torchvision", MultiScaleRoIAlign(names, side, 2), torch.contiguous_format),
        ("finemask", PyramidRoIAlign(names, side, 2), torch.channels_last),
    ):
        levels = {key: value.contiguous(memory_format=layout).requires_grad_() for key, value in maps.items()}

        def run(pool: nn.Module = pool, levels: dict[str, Tensor] = levels) -> list[Tensor]:
            for level in levels.values():
                level.grad = None
            pooled = pool(levels, boxes, sizes)
            pooled.backward(gradient)
            return [pooled.detach(), *(level.grad for level in levels.values() if level.grad is not None)]

        contenders[name] = run
    timing = interleave(contenders, rounds)
    values = list(zip(contenders["finemask"](), contenders["torchvision"](), strict=True))
    return {
        "work": f"RoIAlign forward + backward, {rois} RoIs {side} × {side}",
        "torchvision_s": timing.median("torchvision"),
        "finemask_s": timing.median("finemask"),
        "ratio": timing.ratio("torchvision", "finemask"),
        "value_difference": float((values[0][0] - values[0][1]).abs().max()),
        "gradient_difference": max(float((a - b).norm() / b.norm()) for a, b in values[1:]),
    }


def _step(model: nn.Module, losses_of: Callable[[], dict[str, Tensor]]) -> Callable[[], dict[str, float]]:
    """Forward, backward and an optimiser's step of nothing, so that every call does the same."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)

    def step() -> dict[str, float]:
        torch.manual_seed(0)  # both draw the same anchors and proposals
        optimizer.zero_grad()
        losses = losses_of()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        return {name: float(value.detach()) for name, value in losses.items()}

    return step


def _agreement(
    mine: dict[str, float], reference: dict[str, float], ours: nn.Module, theirs: nn.Module
) -> dict[str, float]:
    """Largest difference of a loss, and of a parameter's gradient in relation to its norm."""
    assert all(value == value and abs(value) < 1e4 for value in mine.values()), mine
    gradients = dict(theirs.named_parameters())
    differences = [
        float((parameter.grad - gradients[name].grad).norm() / (gradients[name].grad.norm() + 1e-8))
        for name, parameter in ours.named_parameters()
        if parameter.grad is not None
    ]
    return {
        "loss": sum(mine.values()),
        "loss_difference": max(abs(mine[name] - reference[name]) for name in reference),
        "gradient_difference": max(differences),
    }


def _calm(model: MaskRCNN) -> None:
    """Random weights without batch statistics explode layer by layer: a smaller scale keeps numbers finite."""
    with torch.no_grad():
        for parameter in model.backbone.body.parameters():
            parameter.mul_(0.7)


def _propose(model: nn.Module, boxes: list[Tensor], images: list[Tensor]) -> None:
    """Lets the RPN do all its work, then puts boxes around the objects first: random weights would find none."""

    def put_first(module: nn.Module, arguments: Any, output: Any) -> Any:
        proposals, losses = output
        mixed = []
        for number, (found, of_image, image) in enumerate(zip(proposals, boxes, images, strict=True)):
            good = proposals_around(of_image, POSITIVES_AN_OBJECT, tuple(image.shape[-2:]), seed=number)
            mixed.append(torch.cat([good, found[: len(found) - len(good)]]))
        return mixed, losses

    model.rpn.register_forward_hook(put_first)  # type: ignore[union-attr]


def _freeze_batch_norm(body: nn.Module) -> None:
    for name, module in body.named_children():
        if isinstance(module, nn.BatchNorm2d):
            from torchvision.ops import FrozenBatchNorm2d

            setattr(body, name, FrozenBatchNorm2d(module.num_features, eps=module.eps))
        else:
            _freeze_batch_norm(module)

"""For bench_train.py: a training step, what classes cost, and RoIAlign."""

from collections.abc import Callable

import torch
from bench_train_models import (
    build_ours,
    build_torchvisions,
    fix_proposals,
    our_arguments,
    our_step,
    scenes,
    their_arguments,
    training_step,
)
from torch import Tensor, nn
from torchvision.ops import MultiScaleRoIAlign

from finemask.bench.timing import Comparison, interleave
from finemask.model.devices.compiling import compile_parts
from finemask.model.devices.cpu.roi_align import PyramidRoIAlign


def measure_step(size: int, batch: int, objects: int, rounds: int, goal: float) -> Comparison:
    """A training step of ours and of torchvision's."""
    ours = build_ours(size, 1)
    theirs = build_torchvisions(size, 1, ours)
    images, targets = scenes(size, batch, objects)
    for model in (ours, theirs):
        fix_proposals(model, images, targets)
    contenders = {
        "theirs": training_step(theirs, their_arguments(images, targets)),
        "finemask": training_step(ours, our_arguments(images, targets)),
    }
    timing = interleave(contenders, rounds)
    mine, reference = contenders["finemask"](), contenders["theirs"]()
    assert all(abs(value) < 1e3 for value in mine.values()), mine  # false for NaN too
    loss = max(abs(mine[name] - reference[name]) for name in reference)
    gradients = _gradient_differences(ours, theirs, contenders["theirs"])
    return Comparison.of_timing(
        timing,
        work=f"training step, resnet50_fpn, {size} px, batch {batch}, {objects} objects an image",
        goal=goal,
        agreement=f"losses within {loss:.1g}; {gradients}",
    )


def measure_classes(size: int, batch: int, objects: int, rounds: int) -> Comparison:
    """Our step with one class and with eighty."""
    contenders = {}
    for name, num_categories in (("theirs", 1), ("finemask", 80)):
        model = build_ours(size, num_categories)
        contenders[name] = our_step(model, *scenes(size, batch, objects, num_categories))
    timing = interleave(contenders, rounds)
    return Comparison.of_timing(
        timing,
        work=f"training step with 80 classes, resnet50_fpn, {size} px, batch {batch}",
        goal=0.95,
        agreement="another model: nothing to compare",
        baseline="ours, 1 class",
    )


def measure_compile(size: int, batch: int, objects: int, rounds: int) -> Comparison:
    """Our step as it is, and with backbone and pyramid compiled; compiling itself is not counted."""
    contenders = {}
    for name in ("theirs", "finemask"):
        model = build_ours(size, 1)
        contenders[name] = our_step(model, *scenes(size, batch, objects))
        if name == "finemask":
            compile_parts(model, heads=False)
    timing = interleave(contenders, rounds)
    mine, reference = contenders["finemask"](), contenders["theirs"]()
    loss = max(abs(mine[name] - reference[name]) for name in reference)
    return Comparison.of_timing(
        timing,
        work=f"training step with compile=default, resnet50_fpn, {size} px, batch {batch}",
        goal=0.0,
        agreement=f"losses within {loss:.1g}",
        baseline="ours, not compiled",
    )


def measure_roi_align(rois: int, side: int, size: int, rounds: int, goal: float) -> Comparison:
    """RoIAlign over four levels, forward and backward, 256 channels, two images."""
    torch.manual_seed(0)
    names = ["0", "1", "2", "3"]
    maps = {name: torch.randn(2, 256, size // 4 >> k, size // 4 >> k) for k, name in enumerate(names)}
    corners = torch.rand(2, rois // 2, 2) * size * 0.7
    boxes = [torch.cat([xy, (xy + torch.rand(rois // 2, 2) * size * 0.3 + 4).clamp(max=size)], 1) for xy in corners]
    gradient = torch.randn(rois, 256, side, side)
    contenders: dict[str, Callable[[], list[Tensor]]] = {}
    for name, pool, layout in (
        ("theirs", MultiScaleRoIAlign(names, side, 2), torch.contiguous_format),
        ("finemask", PyramidRoIAlign(names, side, 2), torch.channels_last),
    ):
        levels = {key: value.clone(memory_format=layout).requires_grad_() for key, value in maps.items()}

        def run(pool: nn.Module = pool, levels: dict[str, Tensor] = levels) -> list[Tensor]:
            pooled = pool(levels, boxes, [(size, size)] * 2)
            return [pooled.detach(), *torch.autograd.grad(pooled, list(levels.values()), gradient)]

        contenders[name] = run
    timing = interleave(contenders, rounds)
    mine, reference = contenders["finemask"](), contenders["theirs"]()
    gradients = max(float((a - b).norm() / b.norm()) for a, b in zip(mine[1:], reference[1:], strict=True))
    return Comparison.of_timing(
        timing,
        work=f"RoIAlign forward + backward, {rois} RoIs {side} × {side}, {size} px, 256 channels",
        goal=goal,
        agreement=f"values within {float((mine[0] - reference[0]).abs().max()):.1g}, gradients within {gradients:.1g}",
    )


def _gradient_differences(ours: nn.Module, theirs: nn.Module, step: Callable[[], object]) -> str:
    """Largest difference of a parameter's gradient in relation to its norm: of pyramid and heads, and of the body.

    In the body of a network of random weights, rounding turns some of the ReLUs on or off, and each takes a path of the
    gradient with it; a layer more, a little more. How much that is, torchvision's own model says when its tensors lie
    in another order in memory: the same mathematics, summed in another order. Pyramid, RPN and heads come before that.

    Args:
        ours: after a step.
        theirs: after the same step.
        step: a step of theirs.
    """
    mine, reference = _gradients(ours), _gradients(theirs)
    theirs.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    step()
    heads, body = _largest(mine, reference)
    own_heads, own_body = _largest(_gradients(theirs), reference)
    theirs.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return (
        f"gradients of pyramid, RPN and heads within {heads:.2g}, of the body within {body:.2g} "
        f"(torchvision's against its own in channels-last order: {own_heads:.2g} and {own_body:.2g})"
    )


def _gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def _largest(mine: dict[str, Tensor], reference: dict[str, Tensor]) -> tuple[float, float]:
    """Outside the body, and in it."""
    assert mine.keys() == reference.keys()
    differences = {name: float((mine[name] - g).norm() / g.norm()) for name, g in reference.items() if g.norm() > 1e-6}
    body = max(value for name, value in differences.items() if ".body." in name)
    return max(value for name, value in differences.items() if ".body." not in name), body

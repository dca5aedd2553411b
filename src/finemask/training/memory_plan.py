"""How much memory a training step will take, told from steps on small pictures."""

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torchvision.models.detection.image_list import ImageList

from finemask.model.mask_rcnn import MaskRCNN
from finemask.model.pretrained.transfer import set_train_mode
from finemask.types import Target

_SMALL, _LARGE = 0.4, 0.65  # lengths of the trial pictures, as shares of the real ones
_WHOLE_PX = 256  # a picture whose longer side has no more is tried as it is
_LEAST_PX, _DIVISIBLE = 64, 32
_FOUND_AN_OBJECT = 8  # proposals that hit an object, in a model that has learned: about 8
_OTHER_PROPOSALS = 1000  # enough background for every sampler


class TensorLedger(TorchDispatchMode):
    """Counts the bytes of all tensors that come to be within it, on whatever device.

    Attributes:
        live: bytes of those that are still there.
        peak: largest value of ``live``.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            if isinstance(tensor, Tensor) and tensor.layout == torch.strided:
                self._note(tensor)
            elif isinstance(tensor, Tensor) and tensor.layout == torch.sparse_csr:
                for part in (tensor.values(), tensor.crow_indices(), tensor.col_indices()):
                    self._note(part)
        return found

    def own(self, tensors: Sequence[Tensor]) -> None:
        """Leaves tensors out that were there before: what is done in place to them adds nothing."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            self._known[storage._cdata] = weakref.ref(storage)

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        known = self._known.get(key)
        if known is not None and known() is storage:
            return
        self._known[key] = weakref.ref(storage, partial(self._forget, key, size))
        self.live += size
        self.peak = max(self.peak, self.live)

    def _forget(self, key: int, size: int, gone: Any) -> None:
        self.live -= size
        if self._known.get(key) is gone:
            del self._known[key]


@dataclass(frozen=True)
class StepMemory:
    """Bytes that a training step takes beside the model's weights.

    Args:
        fixed: whatever the batch is: gradients above all.
        an_image: of each image, whatever its size: its regions.
        a_pixel: of each pixel that the backbone sees, padding included.
        optimizer: what the optimiser keeps.
        gradients: of all trained weights.
    """

    fixed: float
    an_image: float
    a_pixel: float
    optimizer: float
    gradients: float

    def peak(self, batch_size: int, pixels: int) -> float:
        """At the worst moment of a step.

        Args:
            batch_size: images.
            pixels: of each, resized and padded.
        """
        in_the_pass = self.fixed + batch_size * (self.an_image + self.a_pixel * pixels)
        return self.optimizer + max(in_the_pass, 2 * self.gradients)


def plan_memory(
    model: MaskRCNN, size_hw: tuple[int, int], objects: int, states: int, around: Callable[[], Any]
) -> StepMemory:
    """Learns from three steps on small pictures how memory grows with their size and number.

    Every tensor is counted, on whatever device the model is; what libraries take for themselves is not. The model is
    as it was afterwards.

    Args:
        model: on the device where it will be trained, frozen as it will be.
        size_hw: of the largest picture as the backbone sees it.
        objects: in the fullest image.
        states: numbers that the optimiser keeps of each weight: 1 for momentum, 2 for Adam.
        around: makes the context of a step: autocast, or none.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = sum(parameter.nbytes for parameter in trained)
    shares = (_SMALL, _LARGE) if max(size_hw) > _WHOLE_PX else (_LARGE, 1.0)
    small, large = (_shrunk(size_hw, share) for share in shares)
    with _as_it_was(model):
        set_train_mode(model)
        of = {
            (size, batch): _step_bytes(model, size, batch, objects, around)
            for size, batch in ((small, 1), (large, 1), (small, 2))
        }
    small_px, large_px = small[0] * small[1], large[0] * large[1]
    a_pixel = (of[large, 1] - of[small, 1]) / max(1, large_px - small_px)
    an_image = max(0.0, of[small, 2] - of[small, 1] - a_pixel * small_px)
    fixed = max(0.0, of[small, 1] - an_image - a_pixel * small_px)
    return StepMemory(fixed, an_image, a_pixel, states * gradients, gradients)


def measure_step(
    model: MaskRCNN, size_hw: tuple[int, int], batch_size: int, objects: int, states: int, around: Callable[[], Any]
) -> float:
    """Bytes that one step of the real size takes beside the model's weights; the model is as it was afterwards.

    Args:
        model: on the device where it will be trained, frozen as it will be.
        size_hw: of the largest picture as the backbone sees it.
        batch_size: images.
        objects: in each of them.
        states: as of :func:`plan_memory`.
        around: as of :func:`plan_memory`.
    """
    gradients = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    with _as_it_was(model):
        set_train_mode(model)
        in_the_pass = _step_bytes(model, size_hw, batch_size, objects, around)
    return states * gradients + max(in_the_pass, 2 * gradients)


def padded(size_hw: tuple[int, int]) -> tuple[int, int]:
    """The size of the batch that holds an image of this size."""
    height, width = (-(-side // _DIVISIBLE) * _DIVISIBLE for side in size_hw)
    return height, width


def _shrunk(size_hw: tuple[int, int], share: float) -> tuple[int, int]:
    height, width = (max(_LEAST_PX, round(share * side)) for side in size_hw)
    return padded((height, width))


def _step_bytes(
    model: MaskRCNN, size_hw: tuple[int, int], batch_size: int, objects: int, around: Callable[[], Any]
) -> int:
    device = next(model.parameters()).device
    targets = [_target(size_hw, objects, number) for number in range(batch_size)]
    on_device = [{k: v.to(device) if isinstance(v, Tensor) else v for k, v in target.items()} for target in targets]
    pixels = torch.randn(batch_size, 3, *size_hw, device=device).contiguous(memory_format=torch.channels_last)
    batch = ImageList(pixels, [size_hw] * batch_size)  # not by the model's transform, which would enlarge it
    ledger = TensorLedger()
    ledger.own([*model.parameters(), *model.buffers()])
    with learned_proposals(model), ledger, around():
        features = model.backbone(batch.tensors)
        proposals, of_rpn = model.rpn(batch, features, on_device)
        _, of_roi_heads = model.roi_heads(features, proposals, batch.image_sizes, on_device)
        sum([*of_rpn.values(), *of_roi_heads.values()], torch.zeros((), device=device)).backward()
        peak = ledger.peak + pixels.nbytes
    model.zero_grad(set_to_none=True)
    return peak


def _target(size_hw: tuple[int, int], objects: int, number: int) -> Target:
    """Rectangles of a tenth to a third of the image, each on a layer with up to 255 others."""
    height, width = size_hw
    corner = torch.rand(objects, 2) * torch.tensor([width * 0.6, height * 0.6])
    side = (0.1 + 0.25 * torch.rand(objects, 2)) * torch.tensor([width, height])
    boxes = torch.cat([corner, corner + side], dim=1)
    layers = torch.zeros(-(-max(1, objects) // 255), height, width, dtype=torch.uint8)
    order = torch.arange(objects)
    slots = torch.stack([order // 255, order % 255 + 1], dim=1)
    for (layer, value), (x0, y0, x1, y1) in zip(slots.tolist(), boxes.round().long().tolist(), strict=True):
        layers[layer, y0:y1, x0:x1] = value
    return Target(
        boxes=boxes, labels=torch.ones(objects, dtype=torch.int64), layers=layers, slots=slots, image_id=number
    )


@contextmanager
def learned_proposals(model: MaskRCNN) -> Iterator[None]:
    """Proposals as a model has them that has learned: some on each object, and the rest anywhere.

    A training takes the most memory when every image has as many positives as the sampler allows; it begins with few.
    """
    forward = model.rpn.forward

    def better(images: Any, features: Any, targets: Any = None) -> Any:
        proposals, losses = forward(images, features, targets)
        (height, width), device = images.tensors.shape[-2:], images.tensors.device
        more = []
        for target in targets:
            near = target["boxes"].repeat(_FOUND_AN_OBJECT, 1)
            sides = (near[:, 2:] - near[:, :2]).repeat(1, 2)
            near = near + 0.05 * sides * torch.randn(near.shape, device=device)
            anywhere = torch.rand(_OTHER_PROPOSALS, 4, device=device) * 0.5
            anywhere[:, 2:] += anywhere[:, :2] + 0.01
            more.append(torch.cat([near, anywhere * anywhere.new_tensor([width, height] * 2)]))
        return [torch.cat(pair) for pair in zip(proposals, more, strict=True)], losses

    model.rpn.forward = better
    try:
        yield
    finally:
        del model.rpn.forward


@contextmanager
def _as_it_was(model: MaskRCNN) -> Iterator[None]:
    """Running statistics, modes and random numbers as they were."""
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    modes = [(module, module.training) for module in model.modules()]
    devices = [next(model.parameters()).device] if next(model.parameters()).is_cuda else []
    try:
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(0)
            yield
    finally:
        for buffer, before in buffers:
            buffer.copy_(before)
        for module, training in modes:
            module.training = training

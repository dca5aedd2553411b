"""A batch as one block of memory on its way from a worker.

A tensor that crosses a process boundary costs a shared-memory file and a message of its own: with five tensors an
image that is more time than a small model's step. Packed, a batch is one tensor, and one pinned block.

Label maps travel as runs of one value, which are a twentieth of their pixels or less; putting the pixels back costs
no more than moving them would have.
"""

from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from finemask.data.dataset import Sample
from finemask.types import Target

_ALIGNMENT = 16  # bytes: views of any dtype may start there


class _Place(NamedTuple):
    """Where a tensor lies in the buffer."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int


class PackedBatch:
    """Images and targets, their numbers side by side in one buffer.

    Args:
        buffer: uint8 [bytes].
        places: of image, boxes, labels, slots, run lengths and run values in it, one list an image.
        image_ids: of the annotation file.
        layer_shapes: L, H, W of the label maps of each image.
    """

    def __init__(
        self, buffer: Tensor, places: list[list[_Place]], image_ids: list[int], layer_shapes: list[tuple[int, ...]]
    ) -> None:
        self.buffer = buffer
        self._places = places
        self._image_ids = image_ids
        self._layer_shapes = layer_shapes
        self._layers: list[Tensor] | None = None

    @classmethod
    def pack(cls, samples: list[Sample]) -> "PackedBatch":
        """Collates samples; images of a batch may differ in size."""
        places: list[list[_Place]] = []
        tensors: list[tuple[_Place, Tensor]] = []
        end = 0
        for image, target in samples:
            places.append([])
            in_memory = image.permute(1, 2, 0)  # contiguous: colours lie side by side
            for tensor in (in_memory, target["boxes"], target["labels"], target["slots"], *_runs(target["layers"])):
                place = _Place(tensor.dtype, tuple(tensor.shape), end)
                places[-1].append(place)
                tensors.append((place, tensor))
                end += -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT
        packed = cls(
            torch.empty(end, dtype=torch.uint8),
            places,
            [target["image_id"] for _, target in samples],
            [tuple(target["layers"].shape) for _, target in samples],
        )
        for place, tensor in tensors:
            packed._view(place).copy_(tensor)
        return packed

    def pin_memory(self) -> "PackedBatch":
        """The same in page-locked memory; what a loader calls with ``pin_memory=True``."""
        pinned = PackedBatch(self.buffer.pin_memory(), self._places, self._image_ids, self._layer_shapes)
        pinned._layers = [target["layers"].pin_memory() for target in self.unpack()[1]]
        return pinned

    def unpack(self) -> tuple[list[Tensor], list[Target]]:
        """Views of the buffer, but for the label maps."""
        images, targets = [], []
        for i, (image_id, places) in enumerate(zip(self._image_ids, self._places, strict=True)):
            image, boxes, labels, slots, lengths, values = map(self._view, places)
            if self._layers is not None:
                layers = self._layers[i]
            else:
                pixels = np.repeat(values.numpy(), lengths.numpy())
                layers = torch.from_numpy(pixels).reshape(self._layer_shapes[i])
            images.append(image.permute(2, 0, 1))
            targets.append(Target(boxes=boxes, labels=labels, layers=layers, slots=slots, image_id=image_id))
        return images, targets

    def _view(self, place: _Place) -> Tensor:
        size = prod(place.shape) * place.dtype.itemsize
        return self.buffer[place.start : place.start + size].view(place.dtype).reshape(place.shape)


class BatchLoader(DataLoader[Any]):
    """A ``DataLoader`` that takes apart what ``PackedBatch.pack`` packed in its workers."""

    def __iter__(self) -> Any:
        """Batches ``(images, targets)``."""
        return map(_unpacked, super().__iter__())


def _unpacked(batch: Any) -> Any:
    return batch.unpack() if isinstance(batch, PackedBatch) else batch


def _runs(layers: Tensor) -> tuple[Tensor, Tensor]:
    """Lengths int32 [S] and values uint8 [S] of the runs of one value, row by row through all label maps."""
    pixels = layers.numpy().reshape(-1)
    begins = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    bounds = np.concatenate([[0], begins, [pixels.size]])
    return torch.from_numpy(np.diff(bounds).astype(np.int32)), torch.from_numpy(pixels[bounds[:-1]])

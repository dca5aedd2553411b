"""Batches: which images make one up, and how it travels from a worker as one block of memory.

A tensor that crosses a process boundary costs a shared-memory file and a message of its own: with five tensors an
image that is more time than a small model's step. Packed, a batch is one tensor, and one pinned block.

Label maps travel as runs of one value, which are a twentieth of their pixels or less; putting the pixels back costs
no more than moving them would have.
"""

import math
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from finemask.data.dataset import Sample
from finemask.types import Target


class AspectRatioBatchSampler(Sampler[list[tuple[int, int, int]]]):
    """Shuffled training batches of images of similar shape, so that little of a padded batch is padding.

    Without ``weights`` every image comes exactly once an epoch, over all ranks together. With them it comes as
    often as its weight says: a weight between two whole numbers is rounded to one of them, by chance and anew
    every epoch, so that the average over epochs is the weight. Either way every rank gets the same number of
    batches of about the same size: sizes differ by at most one, and the number is the same in every epoch. (Only
    with fewer images than ranks does an image come more often.)

    The batches of all ranks at one step are together the batch that a single process with ``batch_size * world_size``
    has at that step: on how many processes a training runs changes nothing about what it sees, and when.

    Items are triples ``(epoch, index, repetition)``, which is how the epoch reaches worker processes that persist.
    The repetition counts from 0 how often the image came before in the epoch.

    Args:
        aspect_ratios: width / height of every image.
        batch_size: greatest number of images in a batch, per rank.
        weights: how often an epoch shows each image, at least one of them above 0; once if None.
        seed: of the run; the order depends on it and on the epoch alone.
        rank: of this process.
        world_size: number of processes.
    """

    def __init__(
        self,
        aspect_ratios: Sequence[float],
        batch_size: int,
        *,
        weights: Sequence[float] | NDArray[np.float64] | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._bins = np.rint(3 * np.log2(np.asarray(aspect_ratios, dtype=np.float64))).astype(np.int64)
        self._weights = np.ones(len(self._bins)) if weights is None else np.asarray(weights, dtype=np.float64)
        self._seed, self._rank, self._world_size = seed, rank, world_size
        self._weights = self._weights / min(1.0, float(self._weights.sum()))  # an epoch has one image at least
        most = math.ceil(float(self._weights.sum()) - 1e-6)  # images in an epoch; in some epochs it is one fewer
        self._batches_per_rank = math.ceil(most / (batch_size * world_size))
        self.epoch = 0
        self._done = (-1, 0)

    @property
    def sampler(self) -> "AspectRatioBatchSampler":
        """Itself: Lightning sets the epoch of ``batch_sampler.sampler`` before a loader starts."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Must be called before the epoch's iteration begins."""
        self.epoch = epoch

    def go_on(self, epoch: int, batches: int) -> None:
        """Leaves out the first batches of one epoch: a resumed run has trained on them."""
        self._done = (epoch, batches)

    def __len__(self) -> int:
        return self._batches_per_rank

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        epoch = self.epoch
        rng = np.random.default_rng(np.random.SeedSequence([self._seed, epoch]))
        order = rng.permutation(len(self._bins))
        steps, world_size = self._batches_per_rank, self._world_size
        sequence = rng.permutation(steps)
        order, repetition = _repeat(order, self._weights[order], rng)
        by_shape = np.argsort(self._bins[order], kind="stable")  # shuffled within a shape
        items = np.stack([order, repetition], axis=1)[by_shape]
        if len(items) < steps * world_size:
            items = np.resize(items, (steps * world_size, 2))
        batches = np.array_split(items, steps)
        done = self._done[1] if self._done[0] == epoch else 0
        for k in sequence[done:]:
            of_rank = np.array_split(batches[k], world_size)[self._rank]
            yield [(epoch, i, r) for i, r in of_rank.tolist()]


def _repeat(
    order: NDArray[np.int64], weights: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Shuffled images as often as their weights say, and which repetition of its image each entry is.

    Systematic sampling: weights are laid end to end, and images are taken where whole numbers plus one random offset
    fall. So an image comes ``floor(weight)`` or ``ceil(weight)`` times, and all together that often as well.
    """
    ends = np.floor(np.cumsum(weights) + rng.random()).astype(np.int64)
    counts = np.diff(ends, prepend=0)
    images = np.repeat(order, counts)
    repetition = np.arange(len(images)) - np.repeat(np.cumsum(counts) - counts, counts)
    # the first of each image stay in order, repetitions go anywhere: side by side they would share a batch
    place = np.where(repetition == 0, np.arange(len(images)) / max(1, len(images)), rng.random(len(images)))
    shuffled = np.argsort(place, kind="stable")
    return images[shuffled], repetition[shuffled]


class ShardBatchSampler(Sampler[list[int]]):
    """Evaluation batches in the order of the file: each image exactly once over all ranks, nothing padded.

    Ranks may get different numbers of batches; whoever gathers results must not rely on equal numbers. A rank for
    which no image is left gets one batch without any: what every rank has to take part in comes behind the batches.

    Args:
        num_images: in the whole split.
        batch_size: greatest number of images in a batch.
        rank: of this process.
        world_size: number of processes.
    """

    def __init__(self, num_images: int, batch_size: int, *, rank: int = 0, world_size: int = 1) -> None:
        self._indices = range(rank, num_images, world_size)
        self._batch_size = batch_size
        self._least = min(num_images, 1)  # batches

    def __len__(self) -> int:
        return max(self._least, math.ceil(len(self._indices) / self._batch_size))

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, max(self._least, len(self._indices)), self._batch_size):
            yield list(self._indices[start : start + self._batch_size])


Batch = tuple[list[Tensor], list[Target]]
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
        return PackedBatch(self.buffer.pin_memory(), self._places, self._image_ids, self._layer_shapes)

    def to(self, device: torch.device | str) -> Batch:
        """Images and targets on a device: the buffer crosses as one block, for which nobody waits if it is pinned."""
        buffer = self.buffer.to(device, non_blocking=True)
        return PackedBatch(buffer, self._places, self._image_ids, self._layer_shapes).unpack()

    def unpack(self) -> Batch:
        """Images and targets, views of the buffer but for the label maps, which are painted where the buffer is."""
        parts = [[self._view(place) for place in places] for places in self._places]
        layers = self._layers_of([of_image[-2] for of_image in parts], [of_image[-1] for of_image in parts])
        targets = [
            Target(boxes=boxes, labels=labels, layers=of_image, slots=slots, image_id=image_id)
            for image_id, of_image, (_, boxes, labels, slots, _, _) in zip(self._image_ids, layers, parts, strict=True)
        ]
        return [image.permute(2, 0, 1) for image, *_ in parts], targets

    def _layers_of(self, lengths: list[Tensor], values: list[Tensor]) -> list[Tensor]:
        """Label maps [L, H, W] of each image from the runs of each."""
        shapes = self._layer_shapes
        if self.buffer.device.type == "cpu" or not shapes:
            pixels = [np.repeat(v.numpy(), n.numpy()) for n, v in zip(lengths, values, strict=True)]
            return [torch.from_numpy(p).reshape(shape) for p, shape in zip(pixels, shapes, strict=True)]
        sizes = [prod(shape) for shape in shapes]
        every = torch.repeat_interleave(torch.cat(values), torch.cat(lengths), output_size=sum(sizes))
        return [p.reshape(shape) for p, shape in zip(every.split(sizes), shapes, strict=True)]

    def _view(self, place: _Place) -> Tensor:
        size = prod(place.shape) * place.dtype.itemsize
        return self.buffer[place.start : place.start + size].view(place.dtype).reshape(place.shape)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.unpack())

    def __len__(self) -> int:
        return 2

    def __getitem__(self, number: int) -> Any:
        return self.unpack()[number]


class BatchLoader(DataLoader[Any]):
    """A ``DataLoader`` that takes apart what ``PackedBatch.pack`` packed in its workers.

    But not what it pinned for a GPU: that crosses as one block, and is taken apart there by ``PackedBatch.to``, which
    Lightning calls.
    """

    def __iter__(self) -> Any:
        """Batches ``(images, targets)``, or what can be unpacked to these.

        Workers begin when the first is asked for: Lightning makes the iterator before a resumed run knows its epoch.
        """
        for batch in super().__iter__():
            yield batch if self._is_for_a_gpu(batch) else _unpacked(batch)

    def _is_for_a_gpu(self, batch: Any) -> bool:
        return self.pin_memory and isinstance(batch, PackedBatch) and batch.buffer.is_pinned()


def _unpacked(batch: Any) -> Any:
    return batch.unpack() if isinstance(batch, PackedBatch) else batch


def _runs(layers: Tensor) -> tuple[Tensor, Tensor]:
    """Lengths int32 [S] and values uint8 [S] of the runs of one value, row by row through all label maps."""
    pixels = layers.numpy().reshape(-1)
    begins = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    bounds = np.concatenate([[0], begins, [pixels.size]])
    return torch.from_numpy(np.diff(bounds).astype(np.int32)), torch.from_numpy(pixels[bounds[:-1]])

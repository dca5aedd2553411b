"""Which images make up a batch, in one process or in several."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler


class AspectRatioBatchSampler(Sampler[list[tuple[int, int]]]):
    """Shuffled training batches of images of similar shape, so that little of a padded batch is padding.

    Every image comes exactly once an epoch, over all ranks together, and every rank gets the same number of
    batches of about the same size: sizes differ by at most one. (Only with fewer images than ranks does an
    image repeat.)

    Items are pairs ``(epoch, index)``, which is how the epoch reaches worker processes that persist.

    Args:
        aspect_ratios: width / height of every image.
        batch_size: greatest number of images in a batch, per rank.
        seed: of the run; the order depends on it and on the epoch alone.
        rank: of this process.
        world_size: number of processes.
    """

    def __init__(
        self,
        aspect_ratios: Sequence[float],
        batch_size: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._bins = np.rint(3 * np.log2(np.asarray(aspect_ratios, dtype=np.float64))).astype(np.int64)
        self._seed, self._rank, self._world_size = seed, rank, world_size
        self._batches_per_rank = math.ceil(len(self._bins) / (batch_size * world_size))
        self.epoch = 0

    @property
    def sampler(self) -> "AspectRatioBatchSampler":
        """Itself: Lightning sets the epoch of ``batch_sampler.sampler`` before a loader starts."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Must be called before the epoch's iteration begins."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._batches_per_rank

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch = self.epoch
        rng = np.random.default_rng(np.random.SeedSequence([self._seed, epoch]))
        order = rng.permutation(len(self._bins))
        order = order[np.argsort(self._bins[order], kind="stable")]  # by shape, shuffled within a shape
        number = self._batches_per_rank * self._world_size
        if len(order) < number:
            order = np.resize(order, number)
        batches = np.array_split(order, number)
        for k in rng.permutation(number)[self._rank :: self._world_size]:
            yield [(epoch, int(i)) for i in batches[k]]


class ShardBatchSampler(Sampler[list[int]]):
    """Evaluation batches in the order of the file: each image exactly once over all ranks, nothing padded.

    Ranks may get different numbers of batches; whoever gathers results must not rely on equal numbers.

    Args:
        num_images: in the whole split.
        batch_size: greatest number of images in a batch.
        rank: of this process.
        world_size: number of processes.
    """

    def __init__(self, num_images: int, batch_size: int, *, rank: int = 0, world_size: int = 1) -> None:
        self._indices = range(rank, num_images, world_size)
        self._batch_size = batch_size

    def __len__(self) -> int:
        return math.ceil(len(self._indices) / self._batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, len(self._indices), self._batch_size):
            yield list(self._indices[start : start + self._batch_size])

"""An index row becomes an image with a few label maps."""

from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from finemask.data.augment import Augmentation, NoAugmentation
from finemask.data.index import CocoIndex
from finemask.ops.decode import decode_image
from finemask.ops.layers import LayerPainter, boxes_and_areas_from_layers
from finemask.types import Target

Sample: TypeAlias = tuple[Tensor, Target]


class _Painted(NamedTuple):
    layers: NDArray[np.uint8]  # [L, H, W]
    slots: NDArray[np.int64]  # [N, 2]
    labels: NDArray[np.int64]  # [N]
    boxes: NDArray[np.float32]  # [N, 4], xyxy px; read off the crops here, which is quicker than off the maps
    areas: NDArray[np.int64]  # [N], px


class InstanceDataset(Dataset[Sample]):
    """Images and targets of one split.

    An item may be asked for as ``i`` or as ``(epoch, i)``. The batch sampler of training sends pairs: an
    epoch number kept here would not reach the copies of this object in worker processes that outlive an
    epoch. Everything random about a sample comes from (seed, epoch, i), so neither the number of workers nor
    the order of access matters.

    Crowd regions are not training targets. Annotations whose mask has no pixel are left out, and so are those
    that augmentation has cut down to fewer than ``min_visible_px`` pixels.

    Args:
        index: the split.
        augment: applied to every sample, nothing if None.
        seed: of the run.
        min_visible_px: least area in px of an instance that is trained on, after augmentation.

    Attributes:
        num_empty: int32 [n], for each image how many of its annotations had no pixel; known once it was
            visited. In shared memory, so that what workers write is seen here.
        num_lost: int32 [n], how many were dropped for ``min_visible_px`` at the latest visit; likewise.
    """

    def __init__(
        self, index: CocoIndex, augment: Augmentation | None = None, seed: int = 0, min_visible_px: int = 4
    ) -> None:
        self.index = index
        self.augment = None if isinstance(augment, NoAugmentation) else augment
        self.seed = seed
        self.min_visible_px = max(1, min_visible_px)
        self.epoch = 0
        self.num_empty = torch.zeros(len(index), dtype=torch.int32)
        self.num_lost = torch.zeros(len(index), dtype=torch.int32)
        for counter in (self.num_empty, self.num_lost):
            counter.share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Epoch of items that are asked for without one; see the class for why loaders send their own."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, item: int | tuple[int, int]) -> Sample:
        """One sample.

        Returns:
            The image, uint8 [3, H, W], RGB 0..255, and its target.

        Raises:
            DataError: the image cannot be read or has another size than the annotations say.
        """
        epoch, i = item if isinstance(item, tuple) else (self.epoch, item)
        image = decode_image(self.index.image_path(i), self.index.size_hw(i))
        layers, slots, labels, boxes, areas = self._paint(i)
        if self.augment is not None:
            rng = np.random.default_rng(np.random.SeedSequence([self.seed, epoch, i]))
            image, layers = self.augment(image, layers, rng)
            boxes, areas = boxes_and_areas_from_layers(layers, slots)
        visible = areas >= self.min_visible_px
        self.num_lost[i] = int((~visible).sum())
        if not visible.all():
            layers, slots = compact(layers, slots, visible)
            boxes, labels = boxes[visible], labels[visible]
        target = Target(
            boxes=torch.from_numpy(boxes),
            labels=torch.from_numpy(labels),
            layers=torch.from_numpy(layers),
            slots=torch.from_numpy(slots),
            image_id=int(self.index.image_ids[i]),
        )
        return torch.from_numpy(image).permute(2, 0, 1).contiguous(), target

    def _paint(self, i: int) -> _Painted:
        """What is annotated in image ``i``, without crowds and without instances that have no pixels."""
        painter = LayerPainter(*self.index.size_hw(i))
        instances = self.index.instances(i)
        slots, labels, boxes, areas, empty = [], [], [], [], 0
        for k in np.flatnonzero(~instances.iscrowd).tolist():
            crop, x0, y0 = instances.crop(k)
            columns = np.flatnonzero(crop.any(axis=0))
            if not columns.size:
                empty += 1
                continue
            rows = np.flatnonzero(crop.any(axis=1))
            boxes.append((x0 + columns[0], y0 + rows[0], x0 + columns[-1] + 1, y0 + rows[-1] + 1))
            areas.append(np.count_nonzero(crop))
            slots.append(painter.add(crop, x0, y0))
            labels.append(instances.labels[k])
        self.num_empty[i] = empty
        return _Painted(
            painter.layers,
            np.array(slots, dtype=np.int64).reshape(-1, 2),
            np.array(labels, dtype=np.int64),
            np.array(boxes, dtype=np.float32).reshape(-1, 4),
            np.array(areas, dtype=np.int64),
        )


def compact(
    layers: NDArray[np.uint8], slots: NDArray[np.int64], keep: NDArray[np.bool_]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Wipes instances off the maps, renumbers the others from 1 in each layer, and leaves out empty layers.

    Args:
        layers: uint8 [L, H, W].
        slots: int64 [N, 2].
        keep: bool [N].

    Returns:
        uint8 [L', H, W] with L' at least 1, and int64 [keep.sum(), 2].
    """
    kept = slots[keep]
    used, layer = np.unique(kept[:, 0], return_inverse=True)
    if not used.size:
        return np.zeros_like(layers[:1]), kept
    renumbered = np.empty_like(kept)
    renumbered[:, 0] = layer
    maps = np.empty((len(used), *layers.shape[1:]), dtype=np.uint8)
    for new, old in enumerate(used.tolist()):
        rows = np.flatnonzero(layer == new)
        values = np.arange(1, rows.size + 1)
        table = np.zeros(256, dtype=np.uint8)
        table[kept[rows, 1]] = values
        renumbered[rows, 1] = values
        maps[new] = table[layers[old]]
    return maps, renumbered

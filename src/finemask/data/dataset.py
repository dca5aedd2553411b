"""The dataset: a row of the index becomes an image and its target."""

from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from finemask.coco.index import CocoIndex
from finemask.data.augmentation import Augmentation, NoAugmentation, Scene, SceneAugmentation, as_scene_augmentation
from finemask.data.image_sampling import objects_per_image
from finemask.data.layer_edits import compact
from finemask.ops.layers import boxes_and_areas_from_layers
from finemask.ops.mask_runs import boxes_and_areas_from_runs, layers_from_runs
from finemask.types import Target

Sample: TypeAlias = tuple[Tensor, Target]


class _Loaded(NamedTuple):
    scene: Scene
    boxes: NDArray[np.float32]  # [N, 4], xyxy px; read off the crops here, which is quicker than off the maps
    areas: NDArray[np.int64]  # [N], px


class InstanceDataset(Dataset[Sample]):
    """Images and targets of one split.

    An item may be asked for as ``i``, ``(epoch, i)`` or ``(epoch, i, repetition)``. The batch sampler of training
    sends triples: an epoch number kept here would not reach the copies of this object in worker processes that
    outlive an epoch, and an image that an epoch shows again is augmented in another way. Everything random about
    a sample comes from (seed, epoch, i, repetition), so neither the number of workers nor the order of access
    matters. (No repetition is repetition 0.)

    Crowd regions are not training targets. Annotations whose mask has no pixel are left out, and so are those
    that augmentation has cut down to fewer than ``min_visible_px`` pixels.

    Args:
        index: the split.
        augment: applied to every sample, nothing if None. One that mixes images draws them from this split, among
            those with objects.
        seed: of the run.
        min_visible_px: least area in px of an instance that is trained on, after augmentation.
        max_instances: of a sample at most, a random choice of those that are left; None: all. The others stay in
            the image without being targets, so the model learns to take them for background: a bound on memory
            to be set well above what most images hold.
        weights: float [n], how often an epoch shows each image; other images are drawn in the same proportions. All
            alike if None.

    Attributes:
        num_empty: int32 [n], for each image how many of its annotations had no pixel; known once it was
            visited. In shared memory, so that what workers write is seen here.
        num_lost: int32 [n], how many were dropped for ``min_visible_px`` at the latest visit; likewise.
        num_unused: int32 [n], how many were left out for ``max_instances`` at the latest visit; likewise.
    """

    def __init__(
        self,
        index: CocoIndex,
        augment: Augmentation | SceneAugmentation | None = None,
        seed: int = 0,
        min_visible_px: int = 4,
        max_instances: int | None = None,
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        self.index = index
        self.augment = (
            None if augment is None or isinstance(augment, NoAugmentation) else as_scene_augmentation(augment)
        )
        self.seed = seed
        self.min_visible_px = max(1, min_visible_px)
        self.max_instances = max_instances
        self.epoch = 0
        self.num_empty = torch.zeros(len(index), dtype=torch.int32)
        self.num_lost = torch.zeros(len(index), dtype=torch.int32)
        self.num_unused = torch.zeros(len(index), dtype=torch.int32)
        for counter in (self.num_empty, self.num_lost, self.num_unused):
            counter.share_memory_()
        weights = np.ones(len(index)) if weights is None else weights
        with_objects = weights * (objects_per_image(index) > 0)
        self._drawing = np.cumsum(with_objects if with_objects.any() else weights)

    def set_epoch(self, epoch: int) -> None:
        """Epoch of items that are asked for without one; see the class for why loaders send their own."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, item: int | tuple[int, int] | tuple[int, int, int]) -> Sample:
        """One sample.

        Returns:
            The image, uint8 [3, H, W], RGB 0..255, and its target. The image's colours lie side by side in memory,
            as they were decoded and as the model computes (channels last).

        Raises:
            DataError: the image cannot be read or has another size than the annotations say.
        """
        epoch, i, *repetition = item if isinstance(item, tuple) else (self.epoch, item)
        scene, boxes, areas = self._load(i)
        if self.augment is not None or self.max_instances is not None:
            rng = np.random.default_rng(np.random.SeedSequence([self.seed, epoch, i, *repetition]))
        if self.augment is not None:
            scene = self.augment.augment_scene(scene, self._draw, rng)
            boxes, areas = boxes_and_areas_from_layers(scene.layers, scene.slots)
        visible = (areas >= self.min_visible_px).nonzero()[0]
        self.num_lost.numpy()[i] = len(areas) - len(visible)
        kept = visible
        if self.max_instances is not None and len(visible) > self.max_instances:
            kept = rng.choice(visible, self.max_instances, replace=False)
        self.num_unused.numpy()[i] = len(visible) - len(kept)
        image, layers, slots, labels = scene
        if len(kept) < len(areas):
            keep = np.zeros(len(areas), dtype=np.bool_)
            keep[kept] = True
            layers, slots = compact(layers, slots, keep)
            boxes, labels = boxes[keep], labels[keep]
        target = Target(
            boxes=torch.from_numpy(boxes),
            labels=torch.from_numpy(labels),
            layers=torch.from_numpy(layers),
            slots=torch.from_numpy(slots),
            image_id=int(self.index.image_ids[i]),
        )
        return torch.from_numpy(image).permute(2, 0, 1), target

    def _draw(self, rng: np.random.Generator) -> Scene:
        """Any image of the split, for augmentations that mix several."""
        i = np.searchsorted(self._drawing, rng.random() * self._drawing[-1], side="right")
        return self._load(min(int(i), len(self) - 1)).scene

    def _load(self, i: int) -> _Loaded:
        """Image ``i`` and what is annotated in it, without crowds and without instances that have no pixels."""
        instances = self.index.instances(i)
        targets = (~instances.iscrowd).nonzero()[0]
        masks = instances.runs(targets)
        boxes, areas = boxes_and_areas_from_runs(masks)
        filled = areas.nonzero()[0]
        self.num_empty.numpy()[i] = len(areas) - len(filled)
        layers, slots = layers_from_runs(masks.of(filled))
        image = self.index.read_image(i)
        scene = Scene(image, layers, slots, instances.labels[targets[filled]])
        return _Loaded(scene, boxes[filled], areas[filled])

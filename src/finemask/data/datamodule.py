"""The LightningDataModule: a folder of images and COCO files becomes loaders."""

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Sampler

from finemask.coco.cache import CacheFolder
from finemask.coco.index import CocoIndex
from finemask.data.augmentation import Augmentation, SceneAugmentation
from finemask.data.batches import AspectRatioBatchSampler, Batch, BatchLoader, PackedBatch, ShardBatchSampler
from finemask.data.dataset import InstanceDataset, Sample
from finemask.data.image_sampling import EmptyImages, held_out, image_weights, objects_per_image
from finemask.errors import ConfigError
from finemask.machine.hardware import cores
from finemask.ops.images.image_reading import ImageReading
from finemask.types import Category

_MOST_WORKERS = 8

log = logging.getLogger(__name__)


class CocoDataModule(pl.LightningDataModule):
    """Loads a dataset of COCO files; batches are ``(images, targets)``, lists of one entry an image.

    Images are uint8 [3, H, W], RGB; targets are ``finemask.types.Target``. The trainer must be told
    ``use_distributed_sampler=False``: the samplers here know ranks themselves.

    Args:
        root: folder that all other paths are relative to.
        train: COCO file.
        val: COCO file, or None.
        test: COCO file, or None.
        images: folder that the file names in the COCO files are relative to.
        image: ``page``, ``range`` and ``channels`` that are read from image files of more than one 8-bit picture; see
            ``ImageReading``. The model file keeps it, for prediction.
        batch_size: images in a training batch, for each process.
        eval_batch_size: images in a validation or test batch; ``batch_size`` if None.
        num_workers: processes that load, for each training process; ``auto``: one less than the cores, at
            most 8.
        pin_memory: ``auto``: when there is a GPU.
        augment: applied to training images only; one that mixes images draws them from the training split.
        seed: of shuffling and augmentation.
        min_visible_px: least area in px, after augmentation, of an instance that is trained on.
        max_instances: of a training sample at most, a random choice; None: all. See ``InstanceDataset``.
        empty_images: training images without objects: ``keep`` or ``drop`` them, or the fraction of them that an
            epoch shows, other ones every time.
        repeat_threshold: classes in a smaller fraction of the training images are shown more often, as LVIS is
            sampled; see ``repeat_factors``. None: every image once an epoch.
        held_out: a part of the training images that is not trained on, such as ``1/2``; see ``held_out``.
        allow_missing_categories: accept validation and test files that lack categories of training.
        cache: where packed annotations are kept: ``auto`` is the user's cache folder, None keeps nothing.
        check: whether ``finemask train`` looks at the annotations before it starts; nothing here depends on it.

    Attributes:
        train_index: packed annotations of the training split, after ``setup``; ``val_index``, ``test_index``
            likewise, None where there is no such file or it was not needed yet.
        train_weights: how often an epoch shows each training image, float64 [n], after ``setup`` for ``fit``.
    """

    def __init__(
        self,
        root: str | Path,
        train: str = "annotations/train.json",
        val: str | None = "annotations/val.json",
        test: str | None = None,
        images: str = "images",
        image: Mapping[str, Any] | ImageReading | None = None,
        batch_size: int = 2,
        eval_batch_size: int | None = None,
        num_workers: int | Literal["auto"] = "auto",
        pin_memory: bool | Literal["auto"] = "auto",
        augment: Augmentation | SceneAugmentation | None = None,
        seed: int = 0,
        min_visible_px: int = 4,
        max_instances: int | None = None,
        empty_images: EmptyImages = "keep",
        repeat_threshold: float | None = None,
        held_out: str | None = None,
        allow_missing_categories: bool = False,
        cache: str | None = "auto",
        check: bool = True,
    ) -> None:
        super().__init__()
        self.root = Path(root)
        self.files: dict[str, str | None] = {"train": train, "val": val, "test": test}
        self.images_dir = self.root / images
        self.reading = ImageReading.of(image)
        self.batch_size = _at_least(1, batch_size, "data.batch_size")
        self.eval_batch_size = _at_least(1, eval_batch_size or batch_size, "data.eval_batch_size")
        self.num_workers = _workers(num_workers)
        self.pin_memory = torch.cuda.is_available() if pin_memory == "auto" else pin_memory
        self.augment = augment
        self.seed = seed
        self.min_visible_px = min_visible_px
        self.max_instances = None if max_instances is None else _at_least(1, max_instances, "data.max_instances")
        self.empty_images = empty_images
        self.repeat_threshold = repeat_threshold
        self.held_out = held_out
        self.allow_missing_categories = allow_missing_categories
        self.cache: CacheFolder = "auto" if cache == "auto" else None if cache is None else Path(cache)
        self.check = check
        self.train_index: CocoIndex | None = None
        self.val_index: CocoIndex | None = None
        self.test_index: CocoIndex | None = None
        self.train_dataset: InstanceDataset | None = None
        self.train_weights: NDArray[np.float64] | None = None
        self._train_batches: AspectRatioBatchSampler | None = None
        self._begun = 0, 0  # the epoch that a resumed training goes on in, and its batches that are done

    @property
    def categories(self) -> list[Category]:
        """Categories of the training file; label = position + 1."""
        return self._need_train().categories

    @property
    def num_classes(self) -> int:
        """Categories and background, K + 1: what a model's builder asks for."""
        return len(self.categories) + 1

    def setup(self, stage: str | None = None) -> None:
        """Reads the annotation files that a stage needs; each is read once.

        Args:
            stage: ``fit``, ``validate``, ``test`` or None for all. Every stage needs the training file, since
                it defines the labels.

        Raises:
            ConfigError: ``empty_images``, ``repeat_threshold`` or ``held_out`` is out of range.
            DataError: an annotation file is unusable, see ``CocoIndex.read``, or no image is left to train on.
        """
        index = self._need_train()
        if stage in ("fit", None):
            shown = None if self.held_out is None else ~held_out(index.image_ids, self.held_out)
            self.train_weights = image_weights(index, self.empty_images, self.repeat_threshold, shown)
        if stage in ("fit", "validate", None) and self.val_index is None:
            self.val_index = self._read("val")
        if stage in ("test", None) and self.test_index is None:
            self.test_index = self._read("test")

    def order_classes(self, names: Sequence[str]) -> None:
        """Gives the labels another order than that of the training file; before ``setup``.

        Args:
            names: of all its categories.
        """
        by_name = {category.name: category for category in self.categories}
        self.train_index = self._read("train", [by_name[name] for name in names])

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch that shuffling and augmentation depend on; before the epoch's loader is iterated.

        Lightning does the same by itself through the batch sampler.
        """
        if self._train_batches is not None:
            self._train_batches.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where the training is: the epoch, and how many of its batches are behind it."""
        loop: Any = self.trainer and self.trainer.fit_loop
        if loop is None:
            return {}
        epochs, batches = loop.epoch_progress.current, loop.epoch_loop.batch_progress.current
        return {"epoch": epochs.processed, "batches": batches.ready if epochs.started > epochs.processed else 0}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """A resumed training goes on with the batch that comes next."""
        self._begun = state_dict["epoch"], state_dict["batches"]

    def train_dataloader(self) -> DataLoader[Sample]:
        """Shuffled, augmented, batches of similar shapes. After ``setup``."""
        index, weights = self._need_train(), self.train_weights
        self._log_sampling(index, weights)
        self.train_dataset = InstanceDataset(
            index, self.augment, self.seed, self.min_visible_px, self.max_instances, weights
        )
        rank, world_size = _rank_and_world_size()
        self._train_batches = AspectRatioBatchSampler(
            (index.widths / index.heights).tolist(),
            self.batch_size,
            weights=weights,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
        )
        self._train_batches.go_on(*self._begun)
        return self._loader(self.train_dataset, self._train_batches)

    def val_dataloader(self) -> DataLoader[Sample] | list[Any]:
        """In the order of the file, not augmented; an empty list without a validation file."""
        return self._eval_loader(self.val_index)

    def test_dataloader(self) -> DataLoader[Sample] | list[Any]:
        """As ``val_dataloader``, of the test file."""
        return self._eval_loader(self.test_index)

    def _need_train(self) -> CocoIndex:
        if self.train_index is None:
            self.train_index = self._read("train")
        if self.train_index is None:
            raise ConfigError("data.train is null", where=self.root, remedy="Name the training annotations")
        return self.train_index

    def _read(self, split: str, categories: Sequence[Category] | None = None) -> CocoIndex | None:
        file = self.files[split]
        if file is None:
            return None
        categories = categories if split == "train" else self.categories
        return CocoIndex.read(
            self.root / file,
            self.images_dir,
            categories,
            allow_missing_categories=self.allow_missing_categories,
            cache=self.cache,
            reading=self.reading,
        )

    def _log_sampling(self, index: CocoIndex, weights: NDArray[np.float64] | None) -> None:
        """Says what an epoch leaves out or repeats, where it does not show every image once and whole."""
        objects = objects_per_image(index)
        if self.held_out is not None:
            apart = int(held_out(index.image_ids, self.held_out).sum())
            log.info("%d of %d training images are not trained on: part %s", apart, len(index), self.held_out)
        if empty := int((objects == 0).sum()):
            log.info(
                "%d of %d training images have no objects; data.empty_images=%s", empty, len(index), self.empty_images
            )
        if self.repeat_threshold is not None and weights is not None:
            text = "An epoch shows %.0f training images, of %d; those of rare classes up to %.1f times (%s=%g)"
            shown = weights.sum(), np.count_nonzero(weights), weights.max()
            log.info(text, *shown, "data.repeat_threshold", self.repeat_threshold)
        if self.max_instances is not None and (over := int((objects > self.max_instances).sum())):
            log.warning(
                "%d of %d training images have more than %d objects (data.max_instances); a random choice of them is "
                "trained on, the rest is taken for background",
                *(over, len(index), self.max_instances),
            )

    def _eval_loader(self, index: CocoIndex | None) -> DataLoader[Sample] | list[Any]:
        if index is None:
            return []
        dataset = InstanceDataset(index, seed=self.seed, min_visible_px=self.min_visible_px)
        rank, world_size = _rank_and_world_size()
        batches = ShardBatchSampler(len(dataset), self.eval_batch_size, rank=rank, world_size=world_size)
        return self._loader(dataset, batches)

    def _loader(self, dataset: InstanceDataset, batches: Sampler[Any]) -> DataLoader[Sample]:
        return BatchLoader(
            dataset,
            batch_sampler=batches,
            num_workers=self.num_workers,
            collate_fn=PackedBatch.pack if self.num_workers > 0 or self.pin_memory else collate,
            pin_memory=self.pin_memory,
            persistent_workers=self.num_workers > 0,
            worker_init_fn=start_worker if self.num_workers > 0 else None,
        )


def collate(samples: list[Sample]) -> Batch:
    """Lists instead of stacks: images of a batch differ in size."""
    return [image for image, _ in samples], [target for _, target in samples]


def start_worker(worker: int) -> None:
    """One thread a worker: OpenCV would start one for every core in each of them."""
    if (cv2 := sys.modules.get("cv2")) is not None:
        cv2.setNumThreads(0)


def _workers(num_workers: int | Literal["auto"]) -> int:
    if num_workers == "auto":
        return max(0, min(cores() - 1, _MOST_WORKERS))
    return _at_least(0, num_workers, "data.num_workers")


def _at_least(least: int, value: int, key: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{key} is {value!r}", where=key, remedy=f"Set a whole number of at least {least}")
    return value


def _rank_and_world_size() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1

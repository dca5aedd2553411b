"""Pairs of pictures for ``finemask data preview``: an image on disk, and the same image in the model."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from finemask.coco.index import CocoIndex
from finemask.data.augmentation import EachAlone, NoAugmentation
from finemask.data.dataset import InstanceDataset
from finemask.datatools.views import Stored, Tracing, View, load_stored, view_of_tensors
from finemask.errors import ConfigError
from finemask.model.transform import ImageTransform
from finemask.ops.wording import plural


@dataclass(frozen=True)
class Pair:
    """An image on disk and in the model.

    Args:
        stored: as it is on disk.
        seen: as the model gets it.
        name: of the file.
        stored_facts: a line about the one.
        seen_facts: a line about the other.
        labels: classes of all instances in both.
    """

    stored: View
    seen: View
    name: str
    stored_facts: str
    seen_facts: str
    labels: frozenset[int]


def open_split(datamodule: Any, split: str, n: int, epoch: int) -> tuple[InstanceDataset, list[Any]]:
    """The very dataset that a run uses, and which of its items to show.

    Args:
        datamodule: a ``CocoDataModule``.
        split: ``train``, ``val`` or ``test``.
        n: number of items, fewer if there are fewer.
        epoch: of training, whose first items are taken; of other splits they are spread evenly over the file.

    Raises:
        ConfigError: there is no such split.
    """
    if split == "train":
        loader = datamodule.train_dataloader()
        datamodule.set_epoch(epoch)
        return loader.dataset, [item for batch in loader.batch_sampler for item in batch][:n]
    datamodule.setup("validate" if split == "val" else "test")
    loader = datamodule.val_dataloader() if split == "val" else datamodule.test_dataloader()
    if not loader:
        raise ConfigError(f"data.{split} is null", where="split", remedy="Name its annotation file")
    count = len(loader.dataset)
    return loader.dataset, np.unique(np.linspace(0, count - 1, min(n, count)).round().astype(int)).tolist()


def make_pair(dataset: InstanceDataset, item: Any, transform: ImageTransform, by_class: bool) -> Pair:
    """Loads an item as training does and puts it through the model's own transform; and what it was before.

    Args:
        dataset: of the split.
        item: what the sampler asks for.
        transform: of the model.
        by_class: colours stand for classes; otherwise each instance has its own, the same in both pictures.
    """
    index = dataset.index
    row = item[1] if isinstance(item, tuple) else item
    stored = load_stored(index, row)
    tracing = Tracing(dataset.augment or EachAlone(NoAugmentation()))
    untraced, dataset.augment = dataset.augment, tracing
    try:
        image, target = dataset[item]
    finally:
        dataset.augment = untraced
    batch, resized = transform([image], [target])
    assert resized is not None
    tags = target["labels"].tolist()
    labels = [tracing.labels[tag - 1] for tag in tags]
    height, width = batch.image_sizes[0]
    seen = view_of_tensors(
        batch.tensors[0, :, :height, :width],
        resized[0],
        mean=transform.preprocessing.image_mean,
        std=transform.preprocessing.image_std,
        keys=labels if by_class else tags,
        captions=[""] * len(tags),
    )
    keys = stored.labels if by_class else range(1, len(stored.labels) + 1)
    return Pair(
        View(stored.image, stored.layers, stored.slots, keys, [""] * len(stored.labels), stored.crowd),
        seen,
        index.image_path(row).relative_to(index.images_dir).as_posix(),
        _stored_facts(index, row, stored),
        _seen_facts(height, width, tags, tracing.num_own),
        frozenset([*labels, *stored.labels]),
    )


# The font that is always there has no × sign.
def _stored_facts(index: CocoIndex, row: int, stored: Stored) -> str:
    height, width = stored.image.shape[:2]
    crowd = " and crowd" if stored.crowd is not None else ""
    return f"id {index.image_ids[row]} · {width} x {height} px · {plural(len(stored.labels), 'object')}{crowd}"


def _seen_facts(height: int, width: int, tags: list[int], num_own: int) -> str:
    own = sum(tag <= num_own for tag in tags)
    gone, added = num_own - own, len(tags) - own
    changes = ", ".join([f"{gone} gone"] * bool(gone) + [f"{added} added"] * bool(added))
    return f"{width} x {height} px · {plural(len(tags), 'object')}" + (f" ({changes})" if changes else "")

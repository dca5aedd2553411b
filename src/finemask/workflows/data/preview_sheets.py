"""Contact sheets of ``finemask data preview``: images on disk, and the same images as the model gets them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from PIL import Image, PngImagePlugin

from finemask.coco.index import CocoIndex
from finemask.config import plain
from finemask.data.augmentation import NoAugmentation, PerImage
from finemask.data.dataset import InstanceDataset
from finemask.datatools.views import Tracing, View, draw_view, load_view, view_of_tensors
from finemask.errors import ConfigError, DataError
from finemask.model.mask_rcnn import ImageTransform
from finemask.ops.colours import Colour, colours
from finemask.ops.files.atomic_files import atomic_path
from finemask.ops.wording import plural
from finemask.pages.contact_sheet import Cell, contact_sheet

PER_SHEET = 16
ON_DISK, MODEL_INPUT = "on_disk", "model_input"
_CELL_WIDTH = 460
_MOST_IN_LEGEND = 40
_SIGNATURE = ("Software", "finemask data preview")  # in every sheet, so that nobody else's picture is replaced


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
    stored = load_view(index, row)
    tracing = Tracing(dataset.augment or PerImage(NoAugmentation()))
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
    )
    stored_labels = stored.keys
    return Pair(
        stored if by_class else stored._replace(keys=range(1, len(stored_labels) + 1)),
        seen,
        index.image_path(row).relative_to(index.images_dir).as_posix(),
        _stored_facts(index, row, stored),
        _seen_facts(height, width, tags, tracing.num_own),
        frozenset([*labels, *stored_labels]),
    )


# The font that is always there has no × sign.
def _stored_facts(index: CocoIndex, row: int, stored: View) -> str:
    height, width = stored.image.shape[:2]
    crowd = " and crowd" if stored.crowd is not None else ""
    return f"id {index.image_ids[row]} · {width} x {height} px · {plural(len(stored.keys), 'object')}{crowd}"


def _seen_facts(height: int, width: int, tags: list[int], num_own: int) -> str:
    own = sum(tag <= num_own for tag in tags)
    gone, added = num_own - own, len(tags) - own
    changes = ", ".join([f"{gone} gone"] * bool(gone) + [f"{added} added"] * bool(added))
    return f"{width} x {height} px · {plural(len(tags), 'object')}" + (f" ({changes})" if changes else "")


def sheets_before(output: Path) -> list[Path]:
    """Sheets that an earlier call wrote into the folder.

    Raises:
        DataError: a picture of that name is not one of them.
    """
    if output.exists() and not output.is_dir():
        raise DataError("this is a file; a folder was expected", where=output, remedy="Choose another one with output=")
    found = [path for name in (ON_DISK, MODEL_INPUT) for path in sorted(output.glob(f"{name}*.png"))]
    for path in found:
        try:
            with Image.open(path) as picture:
                ours = picture.info.get(_SIGNATURE[0]) == _SIGNATURE[1]
        except OSError:
            ours = False
        if not ours:
            raise DataError(
                "there is a picture of something else here already, and it would be replaced",
                where=path,
                remedy="Choose another folder with output=",
            )
    return found


def write_sheets(output: Path, pairs: Sequence[Pair], index: CocoIndex, cfg: DictConfig, by_class: bool) -> list[Path]:
    """Draws and writes everything, ``PER_SHEET`` images at a time; returns the files."""
    cell_wh = _cell_size(pairs)
    how = f"epoch {cfg.epoch}, seed {cfg.seed}, " if cfg.split == "train" else "not augmented, "
    sizes = plain(cfg.model)
    seen = f"{how}model={cfg.model.name}, shorter side {sizes['min_size']} px, longer at most {sizes['max_size']} px"
    written = []
    pages = [pairs[first : first + PER_SHEET] for first in range(0, len(pairs), PER_SHEET)]
    for number, page in enumerate(pages):
        stored = [Cell(draw_view(pair.stored, cell_wh), pair.name, pair.stored_facts) for pair in page]
        model = [Cell(draw_view(pair.seen, cell_wh), "as the model sees it", pair.seen_facts) for pair in page]
        legend = _legend(page, index) if by_class else []
        where = f"{Path(cfg.data.root).resolve().name}: {cfg.split}"
        has_crowd = any(pair.stored.crowd is not None for pair in page)
        crowd = "; grey stripes: crowd regions, which are not trained on" if has_crowd else ""
        of = f", {number + 1} of {len(pages)}" if len(pages) > 1 else ""
        for name, groups, columns, subtitle in (
            (ON_DISK, [[cell] for cell in stored], 4, f"On disk{of}{crowd}"),
            (
                MODEL_INPUT,
                [list(pair) for pair in zip(stored, model, strict=True)],
                2,
                f"On disk | model input{of}: {seen}",
            ),
        ):
            sheet = contact_sheet(
                groups, cell_wh=cell_wh, columns=columns, title=where, subtitle=subtitle, legend=legend
            )
            path = output / (f"{name}_{number + 1}.png" if len(pages) > 1 else f"{name}.png")
            _save(sheet, path)
            written.append(path)
    return written


def _cell_size(pairs: Sequence[Pair]) -> tuple[int, int]:
    """Width and height in px of the cells: of the shape that most images have."""
    ratios = sorted(pair.stored.image.shape[1] / pair.stored.image.shape[0] for pair in pairs)
    return _CELL_WIDTH, round(_CELL_WIDTH / min(max(ratios[len(ratios) // 2], 0.75), 1.6))


def _legend(pairs: Sequence[Pair], index: CocoIndex) -> list[tuple[str, Colour]]:
    """Classes that are on the sheet."""
    labels = sorted({label for pair in pairs for label in pair.labels})
    named = [(index.categories[label - 1].name, colour) for label, colour in zip(labels, colours(labels), strict=True)]
    hidden = len(named) - _MOST_IN_LEGEND
    return named if hidden <= 0 else [*named[:_MOST_IN_LEGEND], (f"and {hidden} more", (200, 205, 214))]


def _save(sheet: Image.Image, path: Path) -> None:
    notes = PngImagePlugin.PngInfo()
    notes.add_text(*_SIGNATURE)
    with atomic_path(path) as temporary:
        sheet.save(temporary, pnginfo=notes)

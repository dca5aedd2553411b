"""``finemask data preview``: what is on disk, and exactly what the model will see of it."""

from collections.abc import Sequence
from pathlib import Path

import torch
from omegaconf import DictConfig
from PIL import Image, PngImagePlugin

from finemask.coco.index import CocoIndex
from finemask.config import plain
from finemask.datatools.views import draw_view
from finemask.errors import DataError
from finemask.model.mask_rcnn import ImageTransform, preprocessing_from
from finemask.ops.colours import Colour, colours
from finemask.ops.files import atomic_path
from finemask.ops.wording import plural, word
from finemask.pages.contact_sheet import Cell, contact_sheet
from finemask.workflows.build_trainer import build_datamodule, prepare_data
from finemask.workflows.preview_sheets import Pair, make_pair, open_split
from finemask.workflows.progress import Progress

PER_SHEET = 16
ON_DISK, MODEL_INPUT = "on_disk", "model_input"
_CELL_WIDTH = 460
_MOST_IN_LEGEND = 40
_SIGNATURE = ("Software", "finemask data preview")  # in every sheet, so that nobody else's picture is replaced


def main(cfg: DictConfig) -> int:
    """Runs the verb.

    Args:
        cfg: keys as in ``configs/data_preview.yaml``, and those of ``configs/train.yaml``.

    Returns:
        0.

    Raises:
        DataError: the dataset cannot be read, or the output holds pictures of something else.
    """
    output = Path(cfg.output)
    old = sheets_before(output)
    prepare_data(cfg)
    dataset, items = open_split(build_datamodule(cfg), cfg.split, cfg.n, cfg.epoch)
    index = dataset.index
    transform = ImageTransform(preprocessing_from(plain(cfg.model)))
    transform.train(cfg.split == "train")
    by_class = cfg.color_by == "class" or (cfg.color_by == "auto" and len(index.categories) > 1)
    pairs: list[Pair] = []
    with Progress("drawing", len(items), "images") as progress, torch.random.fork_rng(devices=[]):
        torch.manual_seed(cfg.seed)  # of the image size, where it is drawn from several
        for item in items:
            pairs.append(make_pair(dataset, item, transform, by_class))
            progress.advance()
    for path in old:
        path.unlink()
    written = write_sheets(output, pairs, index, cfg, by_class)
    are = f"{word(len(pairs), 'it is', 'they are')} on disk, and as the model sees {word(len(pairs), 'it', 'them')}"
    print(f"{plural(len(pairs), 'image')} of {cfg.split}: as {are} in epoch {cfg.epoch}")
    print(f"wrote {', '.join(map(str, written))}")
    return 0


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

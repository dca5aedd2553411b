"""``finemask data tile``: cuts large images and their instances into overlapping tiles."""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig
from rich.console import Console
from rich.table import Table

from finemask.config import plain
from finemask.datatools.tile.tile_dataset import TileSettings, tile_files
from finemask.datatools.tile.tile_instances import TileReport
from finemask.machine.hardware import bytes_for_an_image
from finemask.ops.images.image_reading import ImageReading
from finemask.ops.terminal import Progress, say, table
from finemask.ops.wording import percent, plural, word

_DEFAULT_MIN_SIZE = 800  # px, of the models


def main(cfg: DictConfig) -> int:
    """Runs the verb: keys as in ``configs/data_tile.yaml``.

    Raises:
        ConfigError: a value out of range, or lists that do not fit together.
        DataError: the sources cannot be used, or the output holds annotations of something else.
        MissingExtraError: an image does not fit into memory and pyvips is missing.
    """
    keys = ("size", "overlap", "min_visible", "slivers", "empty_tiles", "format", "quality", "reader", "seed")
    settings = TileSettings(**{key: cfg[key] for key in keys})
    output = Path(cfg.output)
    with Progress("cutting", unit="tiles") as progress:
        reports = tile_files(
            _paths(cfg.annotations),
            _paths(cfg.images),
            output,
            settings,
            free_memory_bytes=bytes_for_an_image(),
            progress=progress.update,
            reading=ImageReading.of(plain(cfg.image)),
        )
    show(Console(), reports, settings, output)
    return 0


def show(console: Console, reports: Sequence[TileReport], settings: TileSettings, output: Path) -> None:
    """Prints what was written, what became of the instances of each class, and how to go on."""
    console.print(files_table(reports))
    console.print(classes_table(reports))
    wrote = (f"wrote {report.annotations}" for report in reports)
    for line in (*remarks(reports, settings), *wrote, *next_steps(reports, settings, output)):
        say(console, line)


def files_table(reports: Iterable[TileReport]) -> Table:
    """One row a split: pictures in and out."""
    return table(
        ("split", "images", "kept whole", "tiles", "without instances", "left out"),
        ((part.name, part.images, part.whole, part.tiles, part.empty, part.left_out) for part in reports),
    )


def classes_table(reports: Iterable[TileReport]) -> Table:
    """One row a split and class: instances in, parts out."""
    rows = (
        (report.name, name, count.instances, count.parts, count.cut, count.slivers)
        for report in reports
        for name, count in report.classes.items()
        if count.instances
    )
    words = ("split", "class")
    return table((*words, "instances", "in tiles", "of these cut", "slivers"), rows, words=words)


def remarks(reports: Sequence[TileReport], settings: TileSettings) -> Iterator[str]:
    """What a reader of the tables may wonder about."""
    shared = settings.size - max(1, settings.size - round(settings.size * settings.overlap))
    yield (
        f"Tiles share at least {shared} px with their neighbours: an instance up to that size is whole in at least one "
        "tile. It is there once for every tile that shows it."
        if shared
        else "Tiles do not overlap: an instance on a border is nowhere whole."
    )
    slivers = sum(count.slivers for report in reports for count in report.classes.values())
    if slivers:
        fate = {
            "ignore": "written as crowd regions: neither trained on nor counted in evaluation",
            "drop": "left out: their pixels count as background",
        }[settings.slivers]
        yield (
            f"{plural(slivers, 'sliver')}, parts with less than {percent(settings.min_visible)} of the pixels of the "
            f"instance's greatest part, {word(slivers, 'is', 'are')} {fate}. Every instance still has its greatest "
            "part."
        )
    without = sum(report.without_pixels for report in reports)
    if without:
        blank = plural(without, "annotation does", "annotations do")
        yield f"{blank} not cover a single pixel and {word(without, 'was', 'were')} left out."


def next_steps(reports: Sequence[TileReport], settings: TileSettings, output: Path) -> Iterator[str]:
    """The command that trains on what was written."""
    names = {report.name for report in reports}
    command = f"finemask train {shlex.quote(f'data.root={output}')}"
    if settings.size > _DEFAULT_MIN_SIZE:
        command += f" model.min_size={settings.size}"
    if {"train", "val"} <= names:
        yield f"Train on them: {command}"
    elif "train" in names:
        yield f"Tile the validation set into the same folder, then: {command}"
    else:
        yield (
            "finemask train looks for train and val: split the annotations first (finemask data split), then tile both "
            "files into one folder. Split afterwards, parts of one image would be on both sides."
        )


def _paths(value: Any) -> list[Path]:
    return [Path(str(path)) for path in (value if isinstance(value, ListConfig) else [value])]

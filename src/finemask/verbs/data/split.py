"""``finemask data split``: an annotation file into parts that share no group of images."""

import shlex
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig
from rich.console import Console

from finemask.coco.coco_file import load_coco
from finemask.datatools.split.image_groups import grouped, grouping_rules
from finemask.datatools.split.split_files import (
    REPORT,
    Split,
    check_output,
    classes_table,
    parts_table,
    remarks,
    split_file_names,
    write_split,
)
from finemask.datatools.split.split_images import checked_fractions, part_names, read_source
from finemask.ops.files.documents import sha256_of
from finemask.ops.terminal import say


def main(cfg: DictConfig) -> int:
    """Runs the verb: keys as in ``configs/data_split.yaml``.

    Raises:
        ConfigError: a value out of range, or a rule of grouping that does not fit the file names.
        DataError: a file that cannot be split, or an output that holds something else.
    """
    path, output = Path(cfg.annotations), Path(cfg.output)
    folds = cfg.folds or 0
    fractions = [1 / folds] * folds if folds else checked_fractions(_listed(cfg.fractions))
    names = [f"fold{k + 1}" for k in range(folds)] if folds else part_names(len(fractions))
    rules = grouping_rules(_listed(cfg.group_by), has_images=cfg.images is not None)
    source = read_source(path, load_coco(path))
    check_output(output, split_file_names(names, bool(folds)), path)
    groups = grouped(source.file_names, rules, None if cfg.images is None else Path(cfg.images))
    split = Split.of(source, names, fractions, groups, stratify=bool(cfg.stratify), seed=cfg.seed)
    facts = {
        "annotations": str(path),
        "sha256": sha256_of(path),
        "seed": cfg.seed,
        "fractions": fractions,
        "folds": folds,
        "group_by": rules,
        "stratify": bool(cfg.stratify),
    }
    written = write_split(output, split, bool(folds), facts)
    console = Console()
    console.print(parts_table(split))
    console.print(classes_table(split))
    for line in remarks(split):
        say(console, line)
    for file in (*written, output / REPORT):
        say(console, f"wrote {file}")
    say(console, f"Train on them: {_train_command(output, cfg.images, bool(folds))}")
    return 0


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, ListConfig) else [value]


def _train_command(output: Path, images: str | None, folds: bool) -> str:
    """The command that trains on what was written; DIR and IMAGES where the folder of images is not known."""
    root = output.absolute().parent
    files, words = output.name, [f"data.root={output.parent}"]
    if images is None:
        files, words = str(output.absolute()), ["data.root=DIR", "data.images=IMAGES"]
    elif not Path(images).absolute().is_relative_to(root):
        files, words = str(output.absolute()), [f"data.root={Path(images).absolute()}", "data.images=."]
    elif (inside := Path(images).absolute().relative_to(root).as_posix()) != "images":
        words.append(f"data.images={inside}")
    files = f"{files}/fold1" if folds else files
    if files != "annotations":
        words += [f"data.{part}={files}/{part}.json" for part in ("train", "val")]
    return shlex.join(["finemask", "train", *words])

"""``finemask data split``: an annotation file into parts that share no group of images."""

import shlex
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig
from rich.console import Console

from finemask.coco.coco_file import load_coco
from finemask.datatools.split.image_groups import HASH, Groups, group_images
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
from finemask.datatools.split.split_images import SplitSource, checked_fractions, part_names, read_source
from finemask.errors import DataError
from finemask.ops.files import sha256_of
from finemask.ops.terminal import Progress, say


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
    rules = _rules(cfg)
    source = read_source(path, load_coco(path))
    check_output(output, split_file_names(names, bool(folds)), path)
    groups = _grouped(source, rules, cfg.images)
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


def _grouped(source: SplitSource, rules: list[str], images: str | None) -> Groups:
    folder = None if images is None else Path(images)
    if folder is not None and not folder.is_dir():
        raise DataError("there is no such folder of images", where=folder, remedy="Check images=")
    if HASH in rules and folder is not None:
        missing = [name for name in source.file_names if not (folder / name).is_file()]
        if len(missing) == len(source.file_names):
            raise DataError(
                f"none of the images is there, the first would be {missing[0]}", where=folder, remedy="Check images="
            )
    with Progress("comparing images", len(source.file_names), "images") as progress:
        return group_images(source.file_names, rules, folder, progress.advance)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, ListConfig) else [value]


def _rules(cfg: DictConfig) -> list[str]:
    rules = [str(rule) for rule in _listed(cfg.group_by) if rule not in (None, "none", "")]
    if "auto" in rules:
        rules = [rule for rule in rules if rule not in ("auto", HASH)] + ([HASH] if cfg.images is not None else [])
    return rules


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

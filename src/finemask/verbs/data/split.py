"""``finemask data split``: an annotation file into parts that share no group of images."""

import shlex
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, ListConfig
from rich.console import Console

from finemask.coco.coco_file import load_coco
from finemask.datatools.split.image_groups import HASH, Groups, group_images
from finemask.datatools.split.split_files import REPORT, check_output, write_split
from finemask.datatools.split.split_images import (
    SplitSource,
    checked_fractions,
    class_counts,
    part_names,
    read_source,
    split_images,
)
from finemask.datatools.split.split_tables import classes_table, parts_table, remarks
from finemask.errors import DataError
from finemask.ops.files import sha256_of
from finemask.workflows.progress import Progress


def main(cfg: DictConfig) -> int:
    """Runs the verb.

    Args:
        cfg: keys as in ``configs/data_split.yaml``.

    Returns:
        0.

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
    check_output(output, _files(names, bool(folds)), path)
    groups = _grouped(source, rules, cfg.images)
    part_of = split_images(source, groups, fractions, stratify=bool(cfg.stratify), seed=cfg.seed)
    parts = _masks(part_of, names, bool(folds))
    images, instances = class_counts(source, part_of, len(names))
    report = {
        "annotations": str(path),
        "sha256": sha256_of(path),
        "seed": cfg.seed,
        "fractions": fractions,
        "folds": folds,
        "group_by": rules,
        "stratify": bool(cfg.stratify),
        "parts": {name: int((part_of == k).sum()) for k, name in enumerate(names)},
        "classes": {
            name: {
                part: {"images": int(images[p, k]), "instances": int(instances[p, k])} for p, part in enumerate(names)
            }
            for k, name in enumerate(source.class_names)
        },
        "groups": [[source.file_names[row] for row in rows] for rows in groups.members()],
    }
    written = write_split(output, source, parts, report)
    console = Console()

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    console.print(parts_table(names, fractions, part_of, groups, instances))
    console.print(classes_table(source.class_names, names, images, instances))
    for line in remarks(names, fractions, part_of, groups, source.class_names, images):
        say(line)
    for file in (*written, output / REPORT):
        say(f"wrote {file}")
    say(f"Train on them: {_train_command(output, cfg.images, bool(folds))}")
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


def _masks(part_of: NDArray[np.int64], names: list[str], folds: bool) -> dict[str, NDArray[np.bool_]]:
    """Which images each file gets."""
    if not folds:
        return {f"{name}.json": part_of == k for k, name in enumerate(names)}
    return {
        f"{name}/{part}.json": (part_of == k) if part == "val" else (part_of != k)
        for k, name in enumerate(names)
        for part in ("train", "val")
    }


def _files(names: list[str], folds: bool) -> dict[str, Any]:
    return dict.fromkeys(_masks(np.zeros(0, dtype=np.int64), names, folds))


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

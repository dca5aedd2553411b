"""What ``finemask train`` looks at before it starts: the fast part of ``finemask data check``."""

import shlex
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.box import HEAVY_HEAD
from rich.console import Console
from rich.table import Table

from finemask.config import plain
from finemask.datatools.check.problems import CheckSettings, Problem, Severity
from finemask.datatools.check.report import print_problems
from finemask.datatools.check.run_rules import RULES, check_before_training
from finemask.errors import DataError
from finemask.machine.processes import is_first_process
from finemask.ops.terminal import say, table
from finemask.ops.wording import plural


def check_data(cfg: DictConfig) -> None:
    """Refuses annotation files that would make training fail or learn something false; shows warnings.

    Only the first process of a run looks.

    Args:
        cfg: the configuration of ``train``.

    Raises:
        DataError: there are errors; its remedy is the command that repairs them.
    """
    if not is_first_process():
        return
    data = plain(cfg.data)
    root = Path(data["root"])
    train, val = (None if data[split] is None else root / data[split] for split in ("train", "val"))
    assert train is not None
    images_dir = root / data["images"]
    for key, path in (("train", train), ("val", val), ("images", images_dir)):
        if path is not None and not (path.is_dir() if key == "images" else path.is_file()):
            raise DataError(
                "there is no such folder of images" if key == "images" else "there is no such COCO annotation file",
                where=path,
                remedy=f"It is data.{key}={data[key]} in data.root={root}: give another data.{key}="
                + (_divided(train, images_dir, root) if key == "val" else "."),
            )
    settings = _training_to_come(plain(cfg.model), data["allow_missing_categories"])
    problems = check_before_training(train, val, images_dir, settings)
    if cfg.model.anchors.get("fit") == "auto":  # the run will fit them, and says how well
        problems = [problem for problem in problems if problem.rule != "anchors-miss-instances"]
    console = Console(highlight=False)
    errors = [problem for problem in problems if problem.severity is Severity.ERROR]
    if errors:
        print_problems(console, errors, RULES)
        raise DataError(
            f"{plural(len(errors), 'error')} in the annotations",
            where=", ".join(sorted({str(problem.file) for problem in errors})),
            remedy=_repair([path for path in (train, val) if path is not None], images_dir, errors),
        )
    if problems:
        console.print(_table(problems))
    if any(problem.needs for problem in problems):
        files = [path for path in (train, val) if path is not None]
        say(console, _command(files, images_dir, problems))


def _divided(train: Path, images_dir: Path, root: Path) -> str:
    """The command that splits the training images, where there are no validation images."""
    words = [f"annotations={train}", f"images={images_dir}", f"output={root / 'splits'}"]
    return (
        f", or divide the training images: {shlex.join(['finemask', 'data', 'split', *words])}, and train with "
        "data.train=splits/train.json data.val=splits/val.json."
    )


def _training_to_come(model: dict[str, Any], allow_missing_categories: bool) -> CheckSettings:
    """What the rules about the fit of data and model need to know."""
    sizes = model["min_size"] if isinstance(model["min_size"], list) else [model["min_size"]]
    cap = model["roi_heads"]["detections_per_img"]
    anchors = model["anchors"]
    options = {"anchor_sizes": "sizes", "aspect_ratios": "aspect_ratios"}
    given: dict[str, Any] = {
        name: tuple(anchors[key]) for name, key in options.items() if type(anchors.get(key)) is list
    }
    return CheckSettings(
        min_size=int(sizes[-1]),
        max_size=int(model["max_size"]),
        detection_cap=None if cap == "auto" else int(cap),
        allow_missing_categories=allow_missing_categories,
        **given,
    )


def _repair(files: Sequence[Path], images_dir: Path, errors: Sequence[Problem]) -> str:
    left = sum(not problem.fixable for problem in errors)
    if not any(problem.fixable or problem.needs for problem in errors):
        return "A person has to correct them; data.check=false starts nevertheless, and may fail later."
    needs = {problem.needs for problem in errors if problem.needs is not None}
    if not needs or left == len(errors):
        return _command(files, images_dir, errors)
    return f"{_command(files, images_dir, ())} ({left:,} of them need {' or '.join(sorted(needs))} besides)"


def _command(files: Sequence[Path], images_dir: Path, problems: Sequence[Problem]) -> str:
    """The command that repairs, with the keys that these problems need for it."""
    keys = {problem.needs.partition("=")[0]: problem.needs for problem in problems if problem.needs is not None}
    names = ",".join(str(path) for path in files)
    words = [f"annotations=[{names}]", f"images={images_dir}", f"fix={files[0].parent / 'fixed'}/", *keys.values()]
    return f"To repair: finemask data check {shlex.join(words)}"


def _table(warnings: Sequence[Problem]) -> Table:
    rows = []
    by_rule = sorted(warnings, key=lambda problem: problem.rule)
    for rule, group in groupby(by_rule, key=lambda problem: problem.rule):
        found = list(group)
        ids = [f"image {found[0].image_id}"] if found[0].image_id is not None else []
        ids += [f"annotation {found[0].annotation_id}"] if found[0].annotation_id is not None else []
        place = f"{found[0].file.name}{''.join(f', {part}' for part in ids)}"
        rows.append((rule, len(found), f"{place}: {found[0].message}"))
    return table(
        ("rule", "times", "the first"),
        rows,
        words=("rule", "the first"),
        overflow="fold",
        title="Warnings about the data",
        title_style="bold",
        box=HEAVY_HEAD,
    )

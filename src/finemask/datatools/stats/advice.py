"""What the numbers mean for training, each with the override to type."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from finemask.coco.index import CocoIndex
from finemask.datatools.stats import count_advice, size_advice
from finemask.datatools.stats.choose_plan import choose_plan
from finemask.datatools.stats.item import STATES, Advice
from finemask.datatools.stats.objects import Objects
from finemask.datatools.stats.plan import ModelSettings

_DEFAULT_MODEL = "resnet50_fpn"


def advise(index: CocoIndex, objects: Objects, settings: ModelSettings, images_dir: Path | None) -> list[Advice]:
    """All advice about a file.

    Args:
        index: the file.
        objects: measured on it.
        settings: the model that is to be trained.
        images_dir: for the commands.

    Returns:
        What is worth doing first, then what is to be weighed up; nothing where there are no objects.
    """
    if not len(objects):
        return []
    plan = choose_plan(index, objects, settings)
    found = [
        size_advice.image_size(index, objects, settings, plan),
        size_advice.tiles(index, objects, plan, images_dir),
        size_advice.anchors(index, objects, settings, plan),
        count_advice.detection_cap(index, objects, settings),
        *count_advice.proposals(index, objects, settings),
        *count_advice.suppression(objects, settings),
        count_advice.rare_classes(index, objects),
        *count_advice.empty_images(index, objects),
    ]
    return sorted(found, key=lambda item: STATES.index(item.state))


def train_command(advice: Sequence[Advice], settings: ModelSettings, annotations: Path, images_dir: Path | None) -> str:
    """One line that does everything that is worth changing, ready to be pasted into a shell."""
    tiled = any(item.command for item in advice)
    data = ["data.root=tiles"] if tiled else _data_overrides(annotations, images_dir)
    model = [f"model={settings.name}"] if settings.name != _DEFAULT_MODEL else []
    changes = [override for item in advice if item.state == "change" for override in item.overrides]
    return shlex.join(["finemask", "train", *data, *model, *changes])


def images_beside(annotations: Path) -> Path | None:
    """The folder ``images`` of the dataset that a file belongs to; None where there is none."""
    folder = _dataset_of(annotations) / "images"
    return folder if folder.is_dir() else None


def _dataset_of(annotations: Path) -> Path:
    return annotations.parent.parent if annotations.parent.name == "annotations" else annotations.parent


def _data_overrides(annotations: Path, images_dir: Path | None) -> list[str]:
    """Where the data are; the images' folder is guessed where it was not given, and asked for where it cannot be."""
    images_dir = images_dir or images_beside(annotations)
    if images_dir is None:
        return ["data.root=DIR"]
    root = _dataset_of(annotations)
    if not images_dir.is_relative_to(root):  # elsewhere: from the folder that holds both
        annotations, images_dir = annotations.absolute(), images_dir.absolute()
        root = Path(os.path.commonpath([annotations.parent, images_dir]))
    train, images = annotations.relative_to(root).as_posix(), images_dir.relative_to(root).as_posix()
    found = [f"data.root={root}"]
    found += [f"data.train={train}"] if train != "annotations/train.json" else []
    return found + ([f"data.images={images}"] if images != "images" else [])

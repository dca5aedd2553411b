"""``finemask data convert``: other tools' datasets to COCO, and COCO to theirs."""

import shlex
from collections import Counter
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from finemask.coco.entries import crowds_in_words
from finemask.config import plain
from finemask.datatools.convert.conversion import Conversion, convert
from finemask.datatools.convert.source_files import ReadOptions
from finemask.ops.terminal import Progress, say, table
from finemask.ops.wording import plural, word

_SHOWN_CLASSES = 12
_ALWAYS = ("images", "instances")


def main(cfg: DictConfig) -> int:
    """Runs the verb: keys as in ``configs/data_convert.yaml``.

    Raises:
        ConfigError: a value that there is not.
        DataError: a source that cannot be used, or an output folder that holds something else.
    """
    options = plain(cfg)
    classes = options["classes"] or []
    with Progress("converting") as progress:
        done = convert(
            Path(options["source"]).expanduser(),
            Path(options["output"]).expanduser(),
            format=options["format"],
            to=options["to"],
            images=options["images"],
            boxes=options["boxes"],
            tolerance_px=float(options["tolerance_px"]),
            options=ReadOptions(
                classes=tuple(str(name) for name in ([classes] if isinstance(classes, str) else classes)),
                attribute=options["attribute"],
                mask_values=options["mask_values"],
                crowds=options["crowds"],
                remove=options["remove"],
                image_root=Path(options["image_root"]).expanduser() if options["image_root"] else None,
            ),
            watch=progress.track,
        )
    show(Console(), done, boxes=options["boxes"], to=options["to"])
    return 0


def show(console: Console, done: Conversion, *, boxes: str, to: str) -> None:
    """Prints what came of it: a table, what was left out, the paths, and what to type next."""
    why = f", recognised by {done.recognised_by}" if done.recognised_by else ""
    say(console, f"Source: {done.format}{why}")
    console.print(splits_table(done))
    console.print(classes_table(done))
    for split, images in done.dataset.splits().items():
        crowds = Counter(instance.category for image in images for instance in image.instances if instance.crowd)
        if crowds:
            say(console, f"{split} has {crowds_in_words(crowds)}")
    for line in done.notes.lines():
        say(console, f"note: {line}", "yellow")
    warn_of_boxes(console, done, boxes)
    root = done.output.root
    if done.output.linked or done.output.copied:
        links = f"{plural(done.output.linked, 'image')} linked, " if done.output.linked else ""
        say(console, f"wrote {root}: {links}{plural(done.output.copied, 'image')} copied")
    else:
        say(console, f"wrote {root}: annotations without images")
    if done.preview is not None:
        say(console, f"wrote {done.preview}: look at it before anything else")
    if to == "coco":
        suggest(console, done)


def splits_table(done: Conversion) -> Table:
    """Images and instances of each split."""
    rows = {}
    for split, images in done.dataset.splits().items():
        instances = [instance for image in images for instance in image.instances]
        rows[split] = {
            "images": len(images),
            "without objects": sum(not image.instances for image in images),
            "instances": len(instances),
            "boxes without mask": sum(instance.is_box for instance in instances),
            "crowd": sum(instance.crowd for instance in instances),
        }
    shown = [key for key in next(iter(rows.values())) if key in _ALWAYS or any(row[key] for row in rows.values())]
    return table(("split", *shown), ((split, *(row[key] for key in shown)) for split, row in rows.items()))


def classes_table(done: Conversion) -> Table:
    """Ids, names and instances of the classes; the most frequent ones where there are many."""
    categories = done.dataset.categories
    if len(categories) > _SHOWN_CLASSES:
        categories = sorted(categories, key=lambda category: -done.instances[category.name])[:_SHOWN_CLASSES]
    rows: list[tuple[Any, ...]] = [(str(one.id), one.name, done.instances[one.name]) for one in categories]
    if hidden := len(done.dataset.categories) - len(categories):
        rows.append(("…", f"and {hidden} more", ""))
    return table(("id", "class", "instances"), rows, words=("class",))


def warn_of_boxes(console: Console, done: Conversion, boxes: str) -> None:
    """Says what it means that objects are boxes."""
    if not done.num_boxes:
        return
    total = sum(done.instances.values()) + (done.num_boxes if boxes == "drop" else 0)
    are = word(done.num_boxes, "is a box", "are boxes")
    count = f"{done.num_boxes:,} of {plural(total, 'object')} {are} without an outline in the source"
    if boxes == "keep":
        what = "They are kept as boxes with an empty segmentation. finemask trains masks: it refuses them"
        remedy = "Outline them in a labelling tool, or say boxes=drop, or boxes=rectangle to train on rectangles"
        say(console, f"warning: {count}. {what}. {remedy}.", "bold yellow")
    elif boxes == "rectangle":
        say(console, f"warning: {count}. Their rectangles are now masks, as boxes=rectangle asked.", "bold yellow")
    else:
        say(console, f"note: {count}, and were left out. What they show is background now.", "yellow")


def suggest(console: Console, done: Conversion) -> None:
    """The command to type next."""
    root = done.output.root
    splits = done.dataset.splits()
    first = f"{root}/annotations/{next(iter(splits))}.json"
    if done.num_boxes and any(instance.is_box for image in done.dataset.images for instance in image.instances):
        return  # the warning has said what comes first
    if "train" not in splits:
        say(
            console,
            f"The source has {', '.join(splits)} but no train: say data.train=annotations/{next(iter(splits))}.json",
        )
    elif "val" not in splits:
        found = "no splits" if not done.has_splits else f"{', '.join(splits)} but no val"
        say(console, f"The source has {found}. Next:")
        parts = [f"annotations={first}", f"images={root}/images", f"output={root}/splits"]
        say(console, f"  {shlex.join(['finemask', 'data', 'split', *parts])}")
        parts = [f"data.root={root}", "data.train=splits/train.json", "data.val=splits/val.json"]
        say(console, f"  {shlex.join(['finemask', 'train', *parts])}")
    else:
        say(console, f"Next: finemask train {shlex.quote(f'data.root={root}')}")

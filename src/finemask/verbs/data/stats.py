"""``finemask data stats``: what is in a dataset, and what that means for training."""

from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from rich.text import Text

from finemask.config import plain
from finemask.datatools.stats.training_advice import Advice
from finemask.ops.terminal import facts_table, say, table
from finemask.ops.wording import listed, percent, plural
from finemask.reports.statistics_page import images_note, problems
from finemask.workflows.data.dataset_statistics import write_statistics

_CLASSES_SHOWN = 12
_STATES = {"change": "[bold green]change[/]", "option": "[yellow]weigh up[/]", "keep": "[dim]keep[/]"}


def main(cfg: DictConfig) -> int:
    """Runs the verb: keys as in ``configs/data_stats.yaml``.

    Raises:
        DataError: the annotations cannot be used, images are missing, or the output holds a page of something else.
    """
    written = write_statistics(plain(cfg))
    show(Console(), written.summary, written.advice, written.command)
    print(f"wrote {written.numbers_path} and {written.page_path}")
    return 0


def show(console: Console, summary: dict[str, Any], advice: Sequence[Advice], command: str) -> None:
    """Prints what it means for training, and the numbers that matter most."""
    say(console, f"What it means for training (model={summary['training']['model']})", "bold")
    if advice:
        console.print(advice_table(advice), highlight=False)
        console.print("With everything that is worth changing:", highlight=False)
        say(console, command)
    else:
        console.print("Nothing: there are no objects to train on.", highlight=False)
    console.print("\nWhat is in it", style="bold", highlight=False)
    console.print(facts_table(facts_of(summary)), highlight=False)
    console.print(classes_table(summary["classes"]))
    for line in problems(summary):
        say(console, line, "yellow")


def advice_table(advice: Sequence[Advice]) -> Table:
    """One row each: what to do, about what, why, and what to type."""
    made = Table(box=None, show_header=False, padding=(0, 2, 1, 0))
    made.add_column(no_wrap=True)
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for item in advice:
        cell = Text(item.text)
        for line in filter(None, [item.command, item.typed()]):
            cell.append(f"\n{line}", style="cyan")
        made.add_row(_STATES[item.state], item.topic, cell)
    return made


def facts_of(summary: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and values of the table on top."""
    counts, size, number = summary["counts"], summary["object_size"], summary["objects_per_image"]
    yield "images", f"{counts['images']:,}, {counts['images_without_objects']:,} without objects"
    crowds, empty = counts["crowd_regions"], counts["annotations_without_pixels"]
    besides = [f"{plural(crowds, 'crowd')} (not learned)"] * bool(crowds)
    besides += [f"{empty:,} without a pixel"] * bool(empty)
    yield "objects", f"{counts['objects']:,}" + (f"; besides {' and '.join(besides)}" if besides else "")
    yield "objects in an image", _spread(number, "")
    image = summary["image_size_px"]
    yield "image width", _spread(image["width"], " px")
    yield "image height", _spread(image["height"], " px")
    for name, key in (("object size", "original_px"), ("object size in training", "training_px")):
        yield name, _spread(size[key], " px") + _coco(size[key]["coco"])
    yield "box width / height", _spread(summary["aspect_ratio"], "", digits=2)
    occlusion = summary["occlusion"]
    if counts["objects"]:
        yield (
            "crowding",
            f"{percent(occlusion['touch_another'])} touch another object, "
            f"{percent(occlusion['box_quarter_taken_by_others'])} have a box of which others take a quarter, "
            f"{percent(occlusion['at_the_edge_of_the_image'])} reach the edge of the image",
        )
    if counts["objects"]:
        yield "anchors", _anchors(summary["training"])
    images = summary["images"]
    if images and images["measured"]:
        yield "brightness", _spread(images["brightness"], "") + " (0 black, 255 white)"
        yield "sharpness", _spread(images["sharpness"], "") + f" (least: {images['least_sharp'][0]})"
    yield "image files", images_note(summary)


def classes_table(classes: Sequence[dict[str, Any]]) -> Table:
    """The most frequent classes, one row each."""
    found = sorted(classes, key=lambda row: -row["objects"])
    rows = []
    for row in found[:_CLASSES_SHOWN]:
        sizes = (row["median_original_px"], row["median_training_px"])
        shown = (None if value is None else f"{value:.0f}" for value in sizes)
        rows.append((row["name"], row["objects"], row["images"], *shown))
    made = table(("class", "objects", "images", "median px", "in training"), rows)
    if rest := found[_CLASSES_SHOWN:]:
        objects = sum(row["objects"] for row in rest)
        made.add_row(f"and {len(rest):,} more", f"{objects:,}", "", "", "", style="dim")
    return made


def _anchors(training: dict[str, Any]) -> str:
    fitted = training["fitted"]
    text = f"{percent(training['anchor_covers_half'])} of the objects have one that overlaps them by half or more"
    keys = ("anchor_sizes", "aspect_ratios")
    if all(fitted[key] == training[key] for key in keys):
        return f"{text}; model.anchors=auto would change nothing"
    sizes, ratios = (listed(fitted[key]) for key in keys)
    share = percent(fitted["anchor_covers_half"])
    return f"{text}; with model.anchors=auto {share} (sizes {sizes} px, ratios {ratios})"


def _spread(numbers: dict[str, Any], unit: str, digits: int = 0) -> str:
    if numbers["p50"] is None:
        return "–"
    low, middle, high = (f"{numbers[key]:,.{digits}f}" for key in ("p5", "p50", "p95"))
    if low == high:
        return f"{middle}{unit}"
    return f"median {middle}{unit}, nine of ten {low} to {high}{unit}, at most {numbers['max']:,.{digits}f}{unit}"


def _coco(shares: dict[str, float | None]) -> str:
    known = [f"{percent(value)} {name}" for name, value in shares.items() if value is not None]
    return f"; {', '.join(known)}" if known else ""

"""``finemask compare``: two runs or results files on one ground truth, and whether they differ."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich import box
from rich.console import Console
from rich.table import Table

from finemask.config import plain
from finemask.errors import ConfigError
from finemask.evaluation.comparison.sides import Side, common_ground_truth, load_side
from finemask.evaluation.evaluator import CocoEvaluator
from finemask.evaluation.ground_truth import GroundTruth
from finemask.evaluation.image_ids import with_ids_of
from finemask.evaluation.result_table import ResultTable
from finemask.evaluation.results import check_results, iou_types_of
from finemask.evaluation.uncertainty.model_comparison import (
    Comparison,
    compare,
    difference_text,
    p_text,
    summary,
    wins_text,
)
from finemask.ops.files import write_json, write_text
from finemask.ops.wording import count, plural
from finemask.pages.shell import refuse_foreign_page
from finemask.reports.comparison_page import EYEBROW, NOUNS, ChangedImage, comparison_page, draw_changes

_SHOWN = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def main(cfg: DictConfig) -> int:
    """Runs the verb.

    Args:
        cfg: as in ``configs/compare.yaml``.

    Returns:
        0.

    Raises:
        FinemaskError: files that cannot be used, or that were evaluated with different ground truth.
    """
    options = plain(cfg)
    images = None if options["images"] is None else Path(options["images"])
    if images is not None and not images.is_dir():
        raise ConfigError(f"images={images} is not a folder", remedy="Give the folder of the images.")
    output = Path(options["output"])
    refuse_foreign_page(output / "index.html", EYEBROW)
    sides = (load_side(Path(options["a"]), options["split"]), load_side(Path(options["b"]), options["split"]))
    annotations = None if options["annotations"] is None else Path(options["annotations"])
    truth = common_ground_truth(*sides, annotations)
    iou_types, cap = _settings(truth, sides, options)
    found = [with_ids_of(truth, side.results, side.file) for side in sides]
    checked = [check_results(results, truth, iou_types, side.file) for results, side in zip(found, sides, strict=True)]
    a, b = (ResultTable(truth, results) for results in checked)
    comparison = compare(truth, a, b, iou_types, cap)
    content: dict[str, Any] = {
        name: {
            "path": str(side.path),
            "detections": len(table),
            "images_with_detections": len(set(table.image.tolist())),
        }
        for name, side, table in zip("ab", sides, (a, b), strict=True)
    }
    content |= {"annotations": truth.source, **comparison.content, "changed_images": _changed(truth, comparison)}
    images = images or next((side.images for side in sides if side.images and side.images.is_dir()), None)
    changed, note = _pictures(truth, (a, b), comparison, images, options["examples"])
    html = comparison_page(content, changed, note)
    paths = [output / "compare.json", output / "index.html"]
    write_json(paths[0], content)
    write_text(paths[1], html)
    show(Console(), content)
    for path in paths:
        print(f"wrote {path}")
    return 0


def show(console: Console, content: Mapping[str, Any]) -> None:
    """Prints the differences and what may be said of them."""
    for name in "ab":
        side = content[name]
        text = f"{name}: {side['path']}: {plural(side['detections'], 'detection')} in "
        text += plural(side["images_with_detections"], "image")
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    for kind in (kind for kind in NOUNS if kind in content):
        table = Table("", box=box.SIMPLE_HEAD, title=NOUNS[kind], title_justify="left")
        for heading in ("a", "b", "b - a (95 % interval)", "p"):
            table.add_column(heading, justify="right")
        for key in _SHOWN:
            row = content[kind][key]
            if row is None:
                table.add_row(key, "–", "–", "–", "–")
            else:
                shown = (f"{row['a']:.3f}", f"{row['b']:.3f}", difference_text(row), p_text(row["p_value"]))
                table.add_row(key, *shown)
        console.print(table, highlight=False)
    for kind in (kind for kind in NOUNS if kind in content):
        text = summary(f"AP of {NOUNS[kind]}", content[kind]["AP"], content["images"])
        console.print(text, highlight=False, soft_wrap=True)
        if len(content["per_class"]) > 1:
            console.print(f"AP of {NOUNS[kind]}: {wins_text(content['wins'][kind])}", highlight=False, soft_wrap=True)


def _settings(truth: GroundTruth, sides: Sequence[Side], options: Mapping[str, Any]) -> tuple[tuple[str, ...], int]:
    """What is compared, and with which cap: the evaluator's own rules."""
    iou_types = options["iou_types"]
    if iou_types == "auto":
        found = [set(iou_types_of(side.results, truth)) for side in sides]
        iou_types = sorted(found[0] & found[1])
    evaluator = CocoEvaluator(truth, iou_types=iou_types, max_detections=options["max_detections"])
    return evaluator.iou_types, evaluator.max_detections


def _pictures(
    truth: GroundTruth,
    tables: tuple[ResultTable, ResultTable],
    comparison: Comparison,
    images: Path | None,
    examples: int,
) -> tuple[list[ChangedImage], str]:
    if not comparison.changes:
        return [], "In no image do the counts of found, missed and false differ."
    changed = f"The counts differ in {count(len(comparison.changes))} of {plural(len(truth.images), 'image')}."
    if images is None:
        return [], f"{changed} No folder of images is known; add images=FOLDER to see them."
    triptychs, unread = draw_changes(truth, *tables, comparison, images, examples)
    if unread:
        changed += f" {count(len(unread))} could not be read from {images} ({', '.join(unread[:3])})."
    return triptychs, changed


def _changed(truth: GroundTruth, comparison: Comparison) -> list[dict[str, Any]]:
    return [
        {
            "image_id": change.image_id,
            "file_name": truth.images[change.image_id].file_name,
            "fewer_errors": change.fewer_errors,
            **{
                name: {"found": change.found[n], "missed": change.missed[n], "false": change.false[n]}
                for n, name in enumerate("ab")
            },
        }
        for change in comparison.changes
    ]

"""Two runs, evaluations or results files on one ground truth, and whether they differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finemask.errors import ConfigError, DataError
from finemask.evaluation.evaluator import CocoEvaluator
from finemask.evaluation.ground_truth import GroundTruth, load_ground_truth
from finemask.evaluation.image_ids import with_ids_of
from finemask.evaluation.result_table import ResultTable
from finemask.evaluation.results import check_results, iou_types_of, read_results
from finemask.evaluation.uncertainty.model_comparison import Comparison, compare
from finemask.ops.files.atomic_files import write_json, write_text
from finemask.ops.files.documents import read_json
from finemask.ops.files.run_folders import FOLDS, find_in_run
from finemask.ops.wording import plural
from finemask.pages.shell import refuse_foreign_page
from finemask.reports.comparison_page import EYEBROW, ChangedImage, comparison_page, draw_changes

_REMEDY = "Score both with finemask evaluate on one annotation file, then compare those folders."
_NAMED = 3  # ids in a message


@dataclass(frozen=True)
class _Side:
    """One of the two.

    Args:
        path: as it was given.
        file: the COCO results file.
        results: its entries, unchecked.
        annotations: the ground truth that it was evaluated with, by its own record; None without one.
        images: the folder of the images, by its own record; None without one.
        fingerprint: of that ground truth as it was then; None without a record.
        others: files and entries of further seeds, where it is a run of folds.
    """

    path: Path
    file: Path
    results: list[Any]
    annotations: Path | None
    images: Path | None
    fingerprint: str | None
    others: Sequence[tuple[Path, list[Any]]] = ()


def compare_models(options: Mapping[str, Any]) -> tuple[dict[str, Any], list[Path]]:
    """Compares, and writes ``compare.json`` and a page.

    Args:
        options: as in ``configs/compare.yaml``.

    Returns:
        The content of ``compare.json``, and the paths of the files.

    Raises:
        FinemaskError: files that cannot be used, or that were evaluated with different ground truth.
    """
    images = None if options["images"] is None else Path(options["images"])
    if images is not None and not images.is_dir():
        raise ConfigError(f"images={images} is not a folder", remedy="Give the folder of the images.")
    output = Path(options["output"])
    refuse_foreign_page(output / "index.html", EYEBROW)
    sides = [_load_side(Path(options[name]), options["split"]) for name in "ab"]
    annotations = None if options["annotations"] is None else Path(options["annotations"])
    truth = _common_ground_truth(sides[0], sides[1], annotations)
    iou_types, cap = _settings(truth, sides, options)
    tables = [
        [
            ResultTable(truth, check_results(with_ids_of(truth, results, file), truth, iou_types, file))
            for file, results in ((side.file, side.results), *side.others)
        ]
        for side in sides
    ]
    a, b = (of_side[0] for of_side in tables)
    comparison = compare(truth, tables[0], tables[1], iou_types, cap)
    content: dict[str, Any] = {
        name: {
            "path": str(side.path),
            "detections": len(table),
            "images_with_detections": len(set(table.image.tolist())),
            "seeds": 1 + len(side.others),
        }
        for name, side, table in zip("ab", sides, (a, b), strict=True)
    }
    content |= {"annotations": truth.source, **comparison.content, "changed_images": _changed(truth, comparison)}
    images = images or next((side.images for side in sides if side.images and side.images.is_dir()), None)
    html = comparison_page(content, *_pictures(truth, (a, b), comparison, images, options["examples"]))
    paths = [output / "compare.json", output / "index.html"]
    write_json(paths[0], content)
    write_text(paths[1], html)
    return content, paths


def _settings(truth: GroundTruth, sides: Sequence[_Side], options: Mapping[str, Any]) -> tuple[tuple[str, ...], int]:
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
    changed = f"The counts differ in {len(comparison.changes):,} of {plural(len(truth.images), 'image')}."
    if images is None:
        return [], f"{changed} No folder of images is known; add images=FOLDER to see them."
    triptychs, unread = draw_changes(truth, *tables, comparison, images, examples)
    if unread:
        changed += f" {len(unread):,} could not be read from {images} ({', '.join(unread[:3])})."
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


def _load_side(path: Path, split: str) -> _Side:
    """The detections of a run's or an evaluation's folder, of the newest run of a name, or of a results file."""
    suffix = "" if split == "val" else f"_{split}"
    name = f"predictions{suffix}.json"
    file = find_in_run(path, name)
    if file.is_dir():
        raise DataError(
            f"there is no {name} in this folder",
            where=path,
            remedy="Give a finished training run, a folder that finemask evaluate wrote, or a COCO results file.",
        )
    record = _record(file)
    return _Side(
        path=path,
        file=file,
        results=read_results(file),
        annotations=_path(record.get("annotations")),
        images=_path(record.get("images")),
        fingerprint=record.get("fingerprint"),
        others=_other_seeds(file.parent) if split == "val" and file.name == name else (),
    )


def _other_seeds(folder: Path) -> list[tuple[Path, list[Any]]]:
    """Predictions of the seeds that a run of folds does not show."""
    if not (folder / FOLDS).is_file():
        return []
    content = read_json(folder / FOLDS, "the folds of a run")
    files = [folder / row["predictions"] for row in content["seeds"] if row["seed"] != content["shown_seed"]]
    return [(file, read_results(file)) for file in files]


def _common_ground_truth(a: _Side, b: _Side, annotations: Path | None) -> GroundTruth:
    """What both are compared with: as the user gave it, or by the sides' own record; refused where these differ."""
    if a.fingerprint and b.fingerprint and a.fingerprint != b.fingerprint:
        raise DataError(f"a and b were evaluated with different ground truth: {_changed_since(a, b)}", remedy=_REMEDY)
    path = annotations or a.annotations or b.annotations
    if path is None:
        raise ConfigError(
            "neither a nor b says which annotation file it was evaluated with",
            remedy="Give it with annotations=FILE.",
        )
    truth = load_ground_truth(path)
    for name, side in (("a", a), ("b", b)):
        if side.fingerprint and side.fingerprint != truth.fingerprint:
            raise DataError(
                f"{name} ({side.path}) was evaluated with other ground truth than {path} as it is now"
                + _where(side, path),
                remedy=_REMEDY,
            )
    return truth


def _difference(a: GroundTruth, b: GroundTruth, names: tuple[str, str] = ("a", "b")) -> str:
    """The first thing in which two ground truths differ, in words; ``names`` is what they are called there."""
    for what, mine, theirs in (
        (("image", "images"), set(a.images), set(b.images)),
        (("category", "categories"), {c.name for c in a.categories}, {c.name for c in b.categories}),
    ):
        for holder, other, only in ((*names, mine - theirs), (*names[::-1], theirs - mine)):
            if only:
                listed = ", ".join(str(value) for value in sorted(only)[:_NAMED]) + (
                    ", …" if len(only) > _NAMED else ""
                )
                return f"{holder} has {plural(len(only), *what)} that {other} has not ({listed})"
    resized = [id_ for id_ in sorted(a.images) if a.images[id_][1:] != b.images[id_][1:]]
    if resized:
        first = resized[0]
        sizes = " and ".join(f"{truth.images[first].height} × {truth.images[first].width} px" for truth in (a, b))
        return f"image {first} is {sizes} (height × width)"
    if {(c.id, c.name) for c in a.categories} != {(c.id, c.name) for c in b.categories}:
        return "the same categories have other ids"
    if len(a.annotations) != len(b.annotations):
        return f"{names[0]} has {plural(len(a.annotations), 'annotation')}, {names[1]} has {len(b.annotations):,}"
    for mine_, theirs_ in zip(a.annotations, b.annotations, strict=True):
        if mine_ != theirs_:
            return f"annotations differ, first in image {mine_['image_id']}"
    return "the same annotations in another order"


def _changed_since(a: _Side, b: _Side) -> str:
    if not (a.annotations and b.annotations and a.annotations.is_file() and b.annotations.is_file()):
        return f"{a.annotations or 'unknown'} and {b.annotations or 'unknown'}, which are not both there to look at"
    if a.annotations == b.annotations:
        return f"{a.annotations} was changed between the two"
    words = _difference(load_ground_truth(a.annotations), load_ground_truth(b.annotations))
    return f"{words}; a: {a.annotations}, b: {b.annotations}"


def _where(side: _Side, path: Path) -> str:
    if side.annotations is None or not side.annotations.is_file() or side.annotations.samefile(path):
        return ""
    then, now = load_ground_truth(side.annotations), load_ground_truth(path)
    return f": {_difference(then, now, (str(side.annotations), str(path)))}"


def _record(results: Path) -> Mapping[str, Any]:
    """What the ``metrics.json`` beside a ``predictions.json`` says of its ground truth."""
    metrics = results.with_name(results.name.replace("predictions", "metrics", 1))
    if metrics == results or not metrics.is_file():
        return {}
    content = read_json(metrics, "the metrics of an evaluation")
    source = content.get("source") if isinstance(content, dict) else None
    return source if isinstance(source, dict) else {}


def _path(value: Any) -> Path | None:
    return Path(value) if isinstance(value, str) else None

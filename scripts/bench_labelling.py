"""The labelling loop, with a person who corrects simulated from the ground truth: what has to be done, and how long.

python scripts/bench_labelling.py --model runs/NAME --root DIR --split test --output loop

Predicts the images of a split as LabelMe files, corrects them as somebody would who knows the truth, converts them back
with ``finemask data convert``, and counts. The corrected dataset lies in OUTPUT/corrected, to train on.
"""

import argparse
import json
import shutil
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from finemask.datatools.convert.conversion import convert
from finemask.datatools.convert.source_files import ReadOptions
from finemask.ops.contours import mask_to_polygons
from finemask.ops.labelme import labelme_shape, outline_with_holes
from finemask.ops.rle import mask_iou, rle_from_polygons, rle_from_segmentation, rle_to_crop
from finemask.types import Rle
from finemask.workflows.predict_images import predict

KEPT, CLASS, BOUNDARY, BOTH, DELETED, DRAWN = (
    "kept as it is",
    "class to change",
    "boundary to mend",
    "class and boundary",
    "to delete",
    "to draw anew",
)
# Seconds for each. Drawing: Lin et al. 2014 (COCO), 22 worker hours for 1,000 masks. Mending: a third of it, as
# Benenson et al. 2019 (arXiv 1903.10830) found for correcting a model's mask. Looking, choosing, deleting: assumed.
SECONDS = {KEPT: 3.0, CLASS: 3.0 + 5.0, BOUNDARY: 3.0 + 26.0, BOTH: 3.0 + 31.0, DELETED: 3.0 + 2.0, DRAWN: 79.0}
SAME_OBJECT, GOOD_ENOUGH = 0.5, 0.8  # IoU of masks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="model file or run that proposes")
    parser.add_argument("--root", type=Path, required=True, help="COCO dataset")
    parser.add_argument("--split", default="test", help="whose labels are the truth, and not shown to the model")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to, new or of an earlier run")
    parser.add_argument("--images", type=int, default=None, help="so many at most")
    parser.add_argument("--threshold", type=float, help="score of all classes; by default those of the model file")
    parser.add_argument("--seconds-to-draw", type=float, default=SECONDS[DRAWN], help="one outline from nothing")
    args = parser.parse_args()
    truth = json.loads((args.root / "annotations" / f"{args.split}.json").read_text())
    truth["images"] = truth["images"][: args.images]
    if args.output.exists():
        shutil.rmtree(args.output)
    photos, found = args.output / "photos", args.output / "found"
    for image in truth["images"]:
        target = photos / image["file_name"]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(args.root / "images" / image["file_name"], target)
    words = ["save=[labelme]"] if args.threshold is None else ["save=[labelme]", f"threshold={args.threshold}"]
    done = predict(args.model, photos, found, words)
    counts, ious = correct(truth, found / "labelme")
    options = ReadOptions(image_root=photos)
    back = convert(found / "labelme", args.output / "corrected", format="labelme", options=options, preview=False)
    objects = sum(not entry.get("iscrowd") for entry in truth["annotations"] if entry["image_id"] in ids_of(truth))
    assert sum(back.instances.values()) == objects, "what was corrected is what there is"
    say(counts, objects, len(truth["images"]), done.seconds, ious, args.seconds_to_draw)


def ids_of(truth: dict[str, Any]) -> set[int]:
    return {image["id"] for image in truth["images"]}


def correct(truth: dict[str, Any], folder: Path) -> tuple[Counter[str], list[float]]:
    """Rewrites the LabelMe files as a person who sees the truth would; what that person had to do, and final IoUs."""
    names = {category["id"]: category["name"] for category in truth["categories"]}
    of_image = defaultdict(list)
    for entry in truth["annotations"]:
        if not entry.get("iscrowd"):
            of_image[entry["image_id"]].append(entry)
    counts, ious = Counter[str](), list[float]()
    for image in truth["images"]:
        path = (folder / image["file_name"]).with_suffix(".json")
        document = json.loads(path.read_text(encoding="utf-8"))
        size_hw = image["height"], image["width"]
        assert size_hw == (document["imageHeight"], document["imageWidth"])
        proposed = instances_in(document["shapes"], size_hw)
        objects = [
            (names[entry["category_id"]], rle_from_segmentation(entry["segmentation"], *size_hw))
            for entry in of_image[image["id"]]
        ]
        shapes, number = [], 0
        overlap = mask_iou([rle for _, rle in proposed], [rle for _, rle in objects])
        partners = dict(zip(*linear_sum_assignment(-np.where(overlap >= SAME_OBJECT, overlap, 0)), strict=True))
        taken = {}
        for row, (group, _) in enumerate(proposed):
            column = partners.get(row)
            if column is None or overlap[row, column] < SAME_OBJECT:
                counts[DELETED] += 1
                continue
            taken[column] = row
            name, rle = objects[column]
            is_right, is_good = group[0]["label"] == name, overlap[row, column] >= GOOD_ENOUGH
            counts[{(1, 1): KEPT, (0, 1): CLASS, (1, 0): BOUNDARY, (0, 0): BOTH}[is_right, is_good]] += 1
            ious.append(float(overlap[row, column]) if is_good else 1.0)
            number += 1
            shapes += [shape | {"label": name} for shape in group] if is_good else drawn(name, rle, 1000 + number)
        for column, (name, rle) in enumerate(objects):
            if column not in taken:
                counts[DRAWN] += 1
                ious.append(1.0)
                number += 1
                shapes += drawn(name, rle, 1000 + number)
        path.write_text(json.dumps(document | {"shapes": shapes}, ensure_ascii=False), encoding="utf-8")
    return counts, ious


def instances_in(shapes: list[dict[str, Any]], size_hw: tuple[int, int]) -> list[tuple[list[dict[str, Any]], Rle]]:
    """The shapes of each instance, and its mask: those of one ``group_id`` and label are one."""
    groups: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for number, shape in enumerate(shapes):
        group = shape["group_id"]
        groups[("alone", number) if group is None else (group, shape["label"])].append(shape)
    return [
        (group, rle_from_polygons([np.ravel(shape["points"]).tolist() for shape in group], *size_hw))
        for group in groups.values()
    ]


def drawn(name: str, rle: Rle, group: int) -> list[dict[str, Any]]:
    """The true outline of an object."""
    parts = mask_to_polygons(*rle_to_crop(rle), 0.0)
    shared = group if len(parts) > 1 else None
    return [labelme_shape(name, outline_with_holes(part), group=shared) for part in parts]


def say(
    counts: Counter[str], objects: int, images: int, seconds: float, ious: list[float], seconds_to_draw: float
) -> None:
    """Prints the counts, and the minutes under the assumptions above."""
    each = SECONDS | {DRAWN: seconds_to_draw, BOUNDARY: 3.0 + seconds_to_draw / 3, BOTH: 8.0 + seconds_to_draw / 3}
    print(f"{images} images, {objects} objects; predicted in {seconds:.0f} s")
    print("\n| what a person has to do | instances | seconds each | minutes |\n|---|---|---|---|")
    for what in (KEPT, CLASS, BOUNDARY, BOTH, DELETED, DRAWN):
        print(f"| {what} | {counts[what]} | {each[what]:.0f} | {counts[what] * each[what] / 60:.1f} |")
    spent = sum(counts[what] * each[what] for what in each) / 60
    nothing = objects * seconds_to_draw / 60
    print(f"\ncorrected: {spent:.0f} min; drawn from nothing: {nothing:.0f} min; saved: {1 - spent / nothing:.0%}")
    right = counts[KEPT] / objects
    print(
        f"{right:.0%} of the objects need nothing; mean IoU of the corrected labels with the truth {np.mean(ious):.3f}"
    )


if __name__ == "__main__":
    main()

"""A mosaic of labelled images, predicted in tiles, beside the same images one by one: AP, duplicates, memory, time.

python scripts/bench_mosaic.py MODEL DATA_ROOT --split val --across 47 --down 47 --folder DIR

The images of the commonest size are laid side by side, each as often as every other, in another order in each row;
their objects are the ground truth. Scored are the results of the mosaic as one image, in its own pixels. Duplicates are
pairs of one class with mask IoU above 0.5: a model finds such in a single image, too, so those astride a seam, where
another tile has the say, are counted beside those astride lines a quarter of a tile away, where none changes.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from finemask.ops.box_ops import touching_pairs
from finemask.ops.images.tile_windows import tile_starts
from finemask.ops.rle import crop_to_rle

_UNCAPPED = 1_000_000  # detections of an image that count: a cap that cuts off a mosaic's would not cut off the images'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data_root", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--across", type=int, default=47, help="images in a row; as many different ones are taken")
    parser.add_argument("--down", type=int, nargs="+", default=[12, 47], help="rows of each mosaic")
    parser.add_argument("--gutter", type=int, default=0, help="px of black between the images, as their own edge has")
    parser.add_argument("--overlap", type=float, default=0.2)
    parser.add_argument("--folder", type=Path, default=None, help="where to work, and what stays; default: neither")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() if args.folder is None else nullcontext(args.folder) as name:
        folder = Path(name)
        dataset, chosen, side = choose(args.data_root, args.split, args.across)
        write_singles(folder / "singles", args.data_root, dataset, chosen)
        metrics, *_ = scored(args.model, folder / "singles", folder / "of_singles", [])
        single = metrics["segm"]["AP"]
        results = json.loads((folder / "of_singles" / "predictions.json").read_text())
        print(
            f"{len(chosen)} images of {side} px one by one: mask AP {single:.4f}, {len(results):,} found, "
            f"{len(duplicates(results)):,} duplicates",
            flush=True,
        )
        for down in args.down:
            root = folder / f"mosaic_{down}"
            objects = write_mosaic(root, args.data_root, dataset, chosen, side, args.gutter, down)
            tiles = [f"tile={side}", f"overlap={args.overlap}"]
            metrics, seconds, peak_gb = scored(args.model, root, folder / f"of_{down}", tiles)
            results = json.loads((folder / f"of_{down}" / "predictions.json").read_text())
            pitch = side + args.gutter
            width, height = args.across * pitch, down * pitch
            print(
                f"mosaic {width} x {height} px, {objects:,} objects, {len(results):,} found: "
                f"mask AP {metrics['segm']['AP']:.4f} ({metrics['segm']['AP'] - single:+.4f}), "
                f"peak {peak_gb:.2f} GB, {seconds:.0f} processor seconds, {1e6 * seconds / (width * height):.2f} a "
                "megapixel",
                flush=True,
            )
            pairs = duplicates(results)
            at_seams, *elsewhere = (
                astride(results, pairs, (width, height), side, args.overlap, shift)
                for shift in (0, -side // 4, side // 4)
            )
            print(
                f"{len(pairs):,} duplicates, {at_seams} of them astride a seam, "
                f"{elsewhere[0]} and {elsewhere[1]} astride lines where none is",
                flush=True,
            )


def choose(root: Path, split: str, count: int) -> tuple[dict[str, Any], list[dict[str, Any]], int]:
    """The annotation file, and as many images of its commonest size, which is square."""
    dataset = json.loads((root / "annotations" / f"{split}.json").read_text())
    squares = [image for image in dataset["images"] if image["width"] == image["height"]]
    side = Counter(image["width"] for image in squares).most_common(1)[0][0]
    chosen = [image for image in squares if image["width"] == side][:count]
    if len(chosen) < count:
        raise SystemExit(f"there are {len(chosen)} images of {side} px, and --across asks for {count}")
    return dataset, chosen, side


def write_singles(folder: Path, root: Path, dataset: dict[str, Any], chosen: list[dict[str, Any]]) -> None:
    ids = {image["id"] for image in chosen}
    content = dataset | {
        "images": [image | {"file_name": str((root / "images" / image["file_name"]).absolute())} for image in chosen],
        "annotations": [entry for entry in dataset["annotations"] if entry["image_id"] in ids],
    }
    write_split(folder, content)
    (folder / "images").mkdir()
    for image in content["images"]:
        source = Path(image["file_name"])
        (folder / "images" / source.name).symlink_to(source)
        image["file_name"] = source.name
    write_split(folder, content)


def write_mosaic(
    folder: Path, root: Path, dataset: dict[str, Any], chosen: list[dict[str, Any]], side: int, gutter: int, down: int
) -> int:
    """One image and its annotation file; how many objects it has."""
    width, height = len(chosen) * (side + gutter), down * (side + gutter)
    pixels = {image["id"]: cv2.imread(str(root / "images" / image["file_name"])) for image in chosen}
    masks: dict[int, list[tuple[int, np.ndarray[Any, Any]]]] = {image["id"]: [] for image in chosen}
    for entry in dataset["annotations"]:
        if entry["image_id"] in masks:
            mask = decoded(entry["segmentation"], side)
            if mask.any():
                masks[entry["image_id"]].append((entry["category_id"], mask))
    canvas = np.zeros((height, width, 3), dtype=np.uint8)
    annotations: list[dict[str, Any]] = []
    rng = np.random.default_rng(0)
    for row in range(down):
        for column, number in enumerate(rng.permutation(len(chosen))):
            image_id, x0, y0 = chosen[number]["id"], column * (side + gutter), row * (side + gutter)
            canvas[y0 : y0 + side, x0 : x0 + side] = pixels[image_id]
            for category_id, mask in masks[image_id]:
                ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
                crop = mask[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
                rle = crop_to_rle(crop, int(x0 + xs[0]), int(y0 + ys[0]), height, width)
                counts = rle["counts"]
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": 1,
                        "category_id": category_id,
                        "iscrowd": 0,
                        "area": int(crop.sum()),
                        "bbox": [int(x0 + xs[0]), int(y0 + ys[0]), crop.shape[1], crop.shape[0]],
                        "segmentation": {
                            "size": [height, width],
                            "counts": counts.decode() if isinstance(counts, bytes) else counts,
                        },
                    }
                )
    (folder / "images").mkdir(parents=True)
    cv2.imwrite(str(folder / "images" / "mosaic.tif"), canvas)
    image = {"id": 1, "width": width, "height": height, "file_name": "mosaic.tif"}
    write_split(folder, {"images": [image], "categories": dataset["categories"], "annotations": annotations})
    return len(annotations)


def decoded(segmentation: Any, side: int) -> np.ndarray[Any, Any]:
    if isinstance(segmentation, list):
        rle = coco_mask.merge(coco_mask.frPyObjects(segmentation, side, side))
    elif isinstance(segmentation["counts"], list):
        rle = coco_mask.frPyObjects(segmentation, side, side)
    else:
        rle = segmentation
    return coco_mask.decode(rle).astype(bool)


def write_split(folder: Path, content: dict[str, Any]) -> None:
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / "annotations" / "val.json").write_text(json.dumps(content))


def scored(model: str, root: Path, output: Path, options: list[str]) -> tuple[dict[str, Any], float, float]:
    """``finemask evaluate`` in a process of its own; metrics, processor seconds, peak memory in GB."""
    code = (
        "import sys, resource; from finemask import evaluate\n"
        "model, root, output, *options = sys.argv[1:]\n"
        "evaluate(model, root, output=output, overrides=options)\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print('USED', used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20)"
    )
    command = [sys.executable, "-c", code, model, str(root), str(output), f"max_detections={_UNCAPPED}", *options]
    run = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent, check=False)
    if run.returncode:
        raise SystemExit(run.stdout + run.stderr)
    _, seconds, peak_gb = run.stdout.strip().splitlines()[-1].split()
    return json.loads((output / "metrics.json").read_text()), float(seconds), float(peak_gb)


def duplicates(results: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """Pairs of detections of one class whose masks overlap by more than half."""
    found = []
    groups: dict[tuple[int, int], list[int]] = {}
    for number, result in enumerate(results):
        groups.setdefault((result["image_id"], result["category_id"]), []).append(number)
    for numbers in groups.values():
        rles = [results[number]["segmentation"] for number in numbers]
        boxes = coco_mask.toBbox(rles).astype(np.int64)
        boxes[:, 2:] += boxes[:, :2]
        areas = [float(coco_mask.area(rle)) for rle in rles]
        for one, other in touching_pairs(boxes).tolist():
            if min(areas[one], areas[other]) <= max(areas[one], areas[other]) / 2:
                continue  # they cannot be
            if coco_mask.iou([rles[one]], [rles[other]], [0])[0, 0] > 0.5:
                found.append((numbers[one], numbers[other]))
    return found


def astride(
    results: list[dict[str, Any]],
    pairs: list[tuple[int, int]],
    size_wh: tuple[int, int],
    tile: int,
    overlap: float,
    shift: int,
) -> int:
    """Pairs whose boxes' centres lie on two sides of a seam, all seams moved by so many px.

    A seam runs in the middle of what two tiles share: each is asked for what is on its side.
    """
    boxes = np.array([result["bbox"] for result in results])
    centres = boxes[:, :2] + boxes[:, 2:] / 2
    one, other = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    differ = np.zeros(len(pairs), dtype=np.bool_)
    for axis in (0, 1):
        starts = np.array(tile_starts(size_wh[axis], tile, overlap))
        seams = (starts[1:] + starts[:-1] + tile) / 2 + shift
        sides = np.searchsorted(seams, centres[:, axis])
        differ |= sides[one] != sides[other]
    return int(differ.sum())


if __name__ == "__main__":
    began = time.perf_counter()
    main()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{time.perf_counter() - began:.0f} s; with the children's {children.ru_utime + children.ru_stime:.0f} s")

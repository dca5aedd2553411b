"""The work of bench_eval.py: the synthetic dataset, and one evaluation of it by each contender."""

import contextlib
import io
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONTENDERS = ("pycocotools", "finemask")
HEIGHT, WIDTH, CATEGORIES = 480, 640, 80
OBJECTS, DETECTIONS = 7.2, 100  # an image


def measure(name: str, folder: Path) -> dict[str, Any]:
    """One evaluation: seconds, peak memory of this process, the 24 numbers (-1 for none)."""
    found = _pycocotools(folder) if name == "pycocotools" else _finemask(folder)
    unit = 1024**2 if sys.platform == "darwin" else 1024
    return found | {"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit}


def _pycocotools(folder: Path) -> dict[str, Any]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    start = time.perf_counter()
    numbers: list[float] = []
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(folder / "truth.json"))
        detections = truth.loadRes(str(folder / "results.json"))
        loaded, processor = time.perf_counter(), time.process_time()
        for iou_type in ("bbox", "segm"):
            run = COCOeval(truth, detections, iou_type)
            run.evaluate()
            run.accumulate()
            run.summarize()
            numbers += run.stats.tolist()
    return {
        "loading_seconds": loaded - start,
        "seconds": time.perf_counter() - loaded,
        "processor_seconds": time.process_time() - processor,
        "numbers": numbers,
    }


def _finemask(folder: Path) -> dict[str, Any]:
    from finemask.evaluation.evaluator import CocoEvaluator
    from finemask.evaluation.ground_truth import load_ground_truth
    from finemask.evaluation.numbers.coco_numbers import COCO_KEYS

    start = time.perf_counter()
    evaluator = CocoEvaluator(load_ground_truth(folder / "truth.json"), max_detections=100)
    with (folder / "results.jsonl").open(encoding="utf-8") as file:
        for line in file:
            evaluator.add_results(json.loads(line))
    loaded, processor = time.perf_counter(), time.process_time()
    metrics = evaluator.compute()
    first, used = time.perf_counter(), time.process_time()
    evaluator.add_results([])  # makes it compute again
    evaluator.compute()
    block = [metrics[iou_type][key] for iou_type in ("bbox", "segm") for key in COCO_KEYS]
    return {
        "loading_seconds": loaded - start,
        "seconds": first - loaded,
        "processor_seconds": used - processor,
        "later_seconds": time.perf_counter() - first,
        "numbers": [-1.0 if value is None else value for value in block],
    }


def write_dataset(folder: Path, images: int) -> None:
    """Writes ``truth.json``, ``results.json``, and the results again with a line for each image, if not there yet.

    Objects are star-shaped polygons. Two detections of an image go to each object with its class, as many as
    non-maximum suppression leaves; the others lie about the objects with any class, or anywhere.
    """
    if (folder / "results.jsonl").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    counts = rng.multinomial(round(images * OBJECTS), np.full(images, 1 / images))
    annotations: list[dict[str, Any]] = []
    with (folder / "lines").open("w", encoding="utf-8") as lines, (folder / "results.json").open("w") as whole:
        for image_id, count in enumerate(counts.tolist(), start=1):
            ellipses = np.column_stack([_ellipses(rng, count), rng.choice(rng.integers(1, CATEGORIES + 1, 3), count)])
            for ellipse in ellipses:
                points = _star(rng, *ellipse[:4])
                annotations.append(_annotation(points, image_id, int(ellipse[4]), len(annotations) + 1))
            results = _detections(rng, ellipses, image_id)
            text = json.dumps(results)
            lines.write(text + "\n")
            whole.write(("[" if image_id == 1 else ",") + text[1:-1])
        whole.write("]")
    truth = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "height": HEIGHT, "width": WIDTH} for i in range(1, images + 1)],
        "categories": [{"id": number, "name": f"class {number}"} for number in range(1, CATEGORIES + 1)],
        "annotations": annotations,
    }
    (folder / "truth.json").write_text(json.dumps(truth), encoding="utf-8")
    (folder / "lines").rename(folder / "results.jsonl")  # last: it says that all is there


def _ellipses(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Centre and radii in px, [count, 4]: as many small ones as large ones."""
    centres = rng.uniform(0, (WIDTH, HEIGHT), (count, 2))
    return np.hstack([centres, np.exp(rng.uniform(np.log(6), np.log(120), (count, 2)))])


def _star(rng: np.random.Generator, x: float, y: float, radius_x: float, radius_y: float) -> NDArray[np.float64]:
    """A jagged outline, px [P, 2], cut off at the image's edges."""
    number = int(rng.integers(12, 28))
    angles, radii = np.linspace(0, 2 * np.pi, number, endpoint=False), rng.uniform(0.75, 1, number)
    points = np.stack([x + radius_x * radii * np.cos(angles), y + radius_y * radii * np.sin(angles)], axis=1)
    return points.clip(0, (WIDTH, HEIGHT)).round(2)


def _annotation(points: NDArray[np.float64], image_id: int, category_id: int, number: int) -> dict[str, Any]:
    low, high = points.min(axis=0), points.max(axis=0)
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "iscrowd": 0,
        "segmentation": [points.ravel().tolist()],
        "bbox": [*low.tolist(), *(high - low).tolist()],
        "area": float(np.prod(high - low)) * 0.7,
    }


def _detections(rng: np.random.Generator, ellipses: NDArray[np.float64], image_id: int) -> list[dict[str, Any]]:
    from pycocotools import mask as coco_mask

    outlines, results = [], []
    for number in range(DETECTIONS):
        near = len(ellipses) and rng.random() < 0.8
        ellipse = ellipses[number % len(ellipses)] if near else np.append(_ellipses(rng, 1)[0], 0)
        shift, stretch = rng.normal(0, 0.12, 2), np.exp(rng.normal(0, 0.12, 2))
        radii = ellipse[2:4] * stretch
        outlines.append(_star(rng, *(ellipse[:2] + shift * radii), *radii))
        is_own = near and number < 2 * len(ellipses)
        low, high = outlines[-1].min(axis=0), outlines[-1].max(axis=0)
        results.append(
            {
                "image_id": image_id,
                "category_id": int(ellipse[4]) if is_own else int(rng.integers(1, CATEGORIES + 1)),
                "bbox": [*low.tolist(), *(high - low).round(2).tolist()],
                "score": round(float(rng.beta(0.6, 2)), 4),
            }
        )
    rles: Any = coco_mask.frPyObjects([points.ravel().tolist() for points in outlines], HEIGHT, WIDTH)
    for result, rle in zip(results, rles, strict=True):
        result["segmentation"] = {"size": rle["size"], "counts": rle["counts"].decode("ascii")}
    return results

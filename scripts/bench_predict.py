"""Measures what leaves the model, ours beside torchvision's way, in the same run and with the same weights.

    python scripts/bench_predict.py --json bench_predict.json

``rles``: 100 masks of 28 × 28 probabilities to RLE of a 1080 × 1920 image, against ``paste_masks_in_image``, ``> 0.5``
and pycocotools' ``encode``. ``image``: a picture of 512 × 682 px to 100 COCO results, ``resnet50_fpn`` with random
weights, against torchvision's ``maskrcnn_resnet50_fpn`` and the same; and to some 20 of them, as ``predict`` reports
what scores above a threshold: it makes no mask for the others. ``--model FILE --picture FILE``: with a model file that
``export format=torchvision`` takes, such as one of ``model=light``. All check that the two ways give the same.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from bench_train_models import build_ours, build_torchvisions
from pycocotools import mask as coco_mask
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image

from finemask.bench.scenes import scene
from finemask.bench.timing import Comparison, interleave, show, write
from finemask.export.torchvision_file import build_torchvision
from finemask.inference.predictor import load
from finemask.model.devices.cpu import keep_for_prediction
from finemask.model.mask_rcnn import MaskRCNN
from finemask.ops.images.decode import decode_image
from finemask.ops.mask_ops import masks_to_rles

THRESHOLD = 0.5
Clock: TypeAlias = Callable[[], float]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=int, default=512, help="shorter side of the picture, px")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--model", help="a model file, in place of all else; needs --picture")
    parser.add_argument("--picture", type=Path, help="for --model")
    parser.add_argument("--processor-time", action="store_true", help="that of all threads, on a machine that is busy")
    arguments = parser.parse_args()
    clock = time.process_time if arguments.processor_time else time.perf_counter
    if arguments.model is None:
        rows = [measure_rles(100, 1080, 1920, arguments.rounds, clock)]
        rows += [
            measure_image(arguments.size, arguments.rounds, number, clock) for number in (128, 20)
        ]  # all, and some
    else:
        rows = measure_file(arguments.model, arguments.picture, arguments.size, arguments.rounds, clock)
    show(rows)
    if arguments.json is not None:
        write(arguments.json, rows)
    return 0


def measure_rles(number: int, height: int, width: int, rounds: int, clock: Clock) -> Comparison:
    """Times the way from mask probabilities to RLE."""
    probs, boxes = _blobs(number, height, width)
    size = (height, width)
    contenders = {
        "theirs": lambda: _paste_and_encode(probs[:, None], boxes, size),
        "finemask": lambda: [rle["counts"] for rle in masks_to_rles(probs, boxes, size, THRESHOLD)],
    }
    pairs = zip(contenders["theirs"](), contenders["finemask"](), strict=True)
    agreement = f"{sum(a == b for a, b in pairs)} of {number} RLEs identical"
    return _row(f"{number} masks to RLE, {height} × {width} px", contenders, rounds, clock, agreement, goal=12)


def measure_image(size: int, rounds: int, number: int, clock: Clock) -> Comparison:
    """Times the way from a picture to its best COCO results, about so many: up to where scores fall most."""
    ours = build_ours(size, 1)
    theirs = build_torchvisions(size, 1, ours).eval()
    keep_for_prediction(ours.eval())
    image, _ = scene(size, size * 4 // 3, 8, seed=0)
    scores = [*_scores(theirs, image), 0.0]
    places = range(number * 3 // 4, min(number * 5 // 4, len(scores)))
    last = max(places, key=lambda place: scores[place - 1] - scores[place])
    least = (scores[last - 1] + scores[last]) / 2
    above = f"{last} of " if last < len(scores) - 1 else ""
    work = f"picture to COCO results, {size} px, resnet50_fpn, {above}{len(scores) - 1} detections"
    return _image_row(ours, theirs, image, least, rounds, clock, work=work, goal=2.0 if above else 1.4)


def measure_file(model: str, picture: Path | None, size: int, rounds: int, clock: Clock) -> list[Comparison]:
    """Times the way from a picture to the COCO results of a model file: to all, and to those above its threshold."""
    if picture is None:
        raise SystemExit("--model needs --picture")
    predictor = load(model, "cpu")
    ours = predictor.model
    if not isinstance(ours, MaskRCNN):
        raise SystemExit("--model takes a model file, no exported one")
    ours.transform.preprocessing = replace(ours.preprocessing, min_size=(size,), max_size=2 * size)
    theirs = build_torchvision(ours, predictor.header)
    image = torch.from_numpy(decode_image(picture)).permute(2, 0, 1).contiguous()
    rows = []
    for least in (0.0, predictor.header.thresholds["global"]):
        number = sum(score >= least for score in _scores(theirs, image))
        name = f"{predictor.header.model['name']}, {number} detections" + (" above its threshold" if least else "")
        work = f"picture to COCO results, {size} px, {name}"
        rows.append(_image_row(ours, theirs, image, least, rounds, clock, work=work, goal=2.0))
    return rows


def _scores(theirs: torch.nn.Module, image: Tensor) -> list[float]:
    with torch.inference_mode():
        (everything,) = theirs([image.float() / 255])
    scores: list[float] = everything["scores"].tolist()
    return scores


def _image_row(
    ours: MaskRCNN,
    theirs: torch.nn.Module,
    image: Tensor,
    least: float,
    rounds: int,
    clock: Clock,
    *,
    work: str,
    goal: float,
) -> Comparison:
    """Times the way from a picture, uint8 [3, H, W], to the COCO results that score so much at least."""

    def customary() -> list[dict[str, Any]]:
        with torch.inference_mode():
            (found,) = theirs([image.float() / 255])
        found = {key: rows[found["scores"] >= least] for key, rows in found.items()}
        masks = (found["masks"][:, 0] > THRESHOLD).numpy().astype(np.uint8)
        return _results(found, [coco_mask.encode(np.asfortranarray(mask))["counts"].decode() for mask in masks])

    def mine() -> list[dict[str, Any]]:
        with torch.inference_mode():
            (found,) = ours.detect([image], [least] * (ours.num_classes - 1))
        rles = masks_to_rles(found["mask_probs"], found["boxes"], found["image_size_hw"], THRESHOLD)
        return _results(found, [rle["counts"] for rle in rles])

    contenders = {"theirs": customary, "finemask": mine}
    agreement = _agreement(mine(), customary(), (image.shape[-2], image.shape[-1]))
    return _row(work, contenders, rounds, clock, agreement, goal)


def _row(
    work: str, contenders: dict[str, Callable[[], Any]], rounds: int, clock: Clock, agreement: str, goal: float
) -> Comparison:
    timing = interleave(contenders, rounds, clock=clock)
    return Comparison.of_timing(
        timing,
        work=work,
        goal=goal,
        agreement=agreement,
    )


def _blobs(number: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Round masks with a rough edge, and boxes from 16 to 400 px in the image."""
    generator = torch.Generator().manual_seed(0)
    sides = torch.exp(torch.empty(number, 2).uniform_(np.log(16), np.log(400), generator=generator))
    corners = torch.rand(number, 2, generator=generator) * (torch.tensor([width, height]) - sides)
    axis = torch.linspace(-1, 1, 28)
    distance = (axis[:, None] ** 2 + axis[None] ** 2).sqrt()
    noise = torch.randn(number, 28, 28, generator=generator) * 0.7
    return torch.sigmoid(6 * (0.9 - distance) + noise), torch.cat([corners, corners + sides], dim=1)


def _paste_and_encode(probs: Tensor, boxes: Tensor, size_hw: tuple[int, int]) -> list[str]:
    masks = (paste_masks_in_image(probs, boxes, size_hw)[:, 0] > THRESHOLD).numpy().astype(np.uint8)
    return [coco_mask.encode(np.asfortranarray(mask))["counts"].decode("ascii") for mask in masks]


def _results(found: Any, counts: list[str]) -> list[dict[str, Any]]:
    boxes, scores, labels = (found[key].tolist() for key in ("boxes", "scores", "labels"))
    return [
        {"bbox": [x0, y0, x1 - x0, y1 - y0], "score": score, "category_id": label, "counts": rle}
        for (x0, y0, x1, y1), score, label, rle in zip(boxes, scores, labels, counts, strict=True)
    ]


def _agreement(mine: list[dict[str, Any]], reference: list[dict[str, Any]], size_hw: tuple[int, int]) -> str:
    """Each of our detections beside the reference's nearest by box and score, since equal scores may change places.

    A mask is pasted at its box rounded down to whole pixels, torchvision's way: a box that ends within rounding of one
    may have its mask a pixel further, and a small mask of random weights then overlaps badly.
    """
    keys = [np.array([[*r["bbox"], 1000 * r["score"]] for r in results]) for results in (mine, reference)]
    nearest = np.abs(keys[0][:, None] - keys[1][None]).max(axis=2).argmin(axis=1)
    difference = np.abs(keys[0] - keys[1][nearest])
    overlaps = [
        float(coco_mask.iou(*([{"size": size_hw, "counts": r["counts"].encode()}] for r in pair), [0])[0, 0])
        for pair in ((own, reference[other]) for own, other in zip(mine, nearest, strict=True))
    ]
    return (
        f"{len(set(nearest.tolist()))} of {len(reference)} detections the same: boxes within "
        f"{difference[:, :4].max():.1g} px, scores within {difference[:, 4].max() / 1000:.1g}, mask IoU above 0.99 of "
        f"{sum(overlap > 0.99 for overlap in overlaps)}, at least {min(overlaps):.2f}"
    )


if __name__ == "__main__":
    sys.exit(main())

"""Example pictures for the page: which images, and each drawn twice, as labelled and as predicted."""

import base64
import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from finemask.errors import FinemaskError
from finemask.evaluation.coco import Curves
from finemask.evaluation.ground_truth import GroundTruth
from finemask.ops.draw import draw_instances
from finemask.ops.rle import crop_to_rle, rle_box_xywh
from finemask.types import CocoResult, Rle

PER_GALLERY = 4
MAX_SIDE_PX = 880
JPEG_QUALITY = 82
_SEED = 0


@dataclass(frozen=True)
class Outcome:
    """How one image went at the operating point.

    Args:
        image_id: in the ground truth.
        found: objects that a detection matches at IoU 0.5.
        false: detections that match nothing.
        missed: objects that no detection matches.
    """

    image_id: int
    found: int
    false: int
    missed: int

    @property
    def f1(self) -> float:
        """In [0, 1]; 1 for an image without objects in which nothing was reported."""
        counts = 2 * self.found + self.false + self.missed
        return 2 * self.found / counts if counts else 1.0


@dataclass(frozen=True)
class Example:
    """A picture of the page; both sides are ``data:`` addresses."""

    name: str
    outcome: Outcome
    truth: str
    prediction: str


@dataclass(frozen=True)
class Gallery:
    """A row of examples with a heading and an explanation."""

    title: str
    note: str
    examples: list[Example]


def image_outcomes(ground_truth: GroundTruth, curves: Curves, threshold: float) -> list[Outcome]:
    """Every image's counts at a score threshold, in the order of the ground truth."""
    matches = curves.matches
    kept = matches.score >= threshold
    found = Counter(matches.image_id[kept & matches.is_true].tolist())
    false = Counter(matches.image_id[kept & ~matches.is_true].tolist())
    objects = Counter(a["image_id"] for a in ground_truth.annotations if not a["iscrowd"])
    return [
        Outcome(image_id, found[image_id], false[image_id], objects[image_id] - found[image_id])
        for image_id in ground_truth.images
    ]


def choose(outcomes: Sequence[Outcome], number: int = PER_GALLERY) -> dict[str, list[Outcome]]:
    """The worst, the best and some random images, no image twice.

    Worst and best go by F1; of equals, the image with more errors or more objects found comes first. Images
    that have neither objects nor detections say nothing and are left out of both.

    Args:
        outcomes: of all images.
        number: how many of each.
    """
    telling = [o for o in outcomes if o.found + o.false + o.missed]
    worst = sorted(telling, key=lambda o: (o.f1, -o.false - o.missed, o.image_id))
    worst = [o for o in worst if o.f1 < 1][: min(number, (len(telling) + 1) // 2)]
    best = sorted(telling, key=lambda o: (-o.f1, -o.found, o.image_id))
    best = [o for o in best if o.found and o not in worst][:number]
    others = [o for o in outcomes if o not in worst and o not in best]
    picked = np.random.default_rng(_SEED).permutation(len(others))[:number]
    return {"worst": worst, "best": best, "random": [others[i] for i in sorted(picked.tolist())]}


def build_galleries(
    ground_truth: GroundTruth,
    results: Sequence[CocoResult],
    curves: Curves,
    threshold: float,
    images_dir: Path,
) -> tuple[list[Gallery], list[str]]:
    """Draws the examples.

    Returns:
        The galleries that have a picture, and the file names that could not be read.
    """
    chosen = choose(image_outcomes(ground_truth, curves, threshold))
    names = {category.id: category.name for category in ground_truth.categories}
    wanted = {outcome.image_id for group in chosen.values() for outcome in group}
    truths = _by_image(ground_truth.annotations, wanted)
    predictions = _by_image((r for r in results if r["score"] >= threshold), wanted)
    headings = {
        "worst": ("Hardest images", "Lowest F1: begin here to see what goes wrong."),
        "best": ("Best images", "Highest F1."),
        "random": ("Random images", "Drawn without looking at the result, so they show the ordinary case."),
    }
    galleries, unread = [], []
    for key, outcomes in chosen.items():
        examples = []
        for outcome in outcomes:
            file_name = ground_truth.images[outcome.image_id].file_name
            try:
                image = _read(ground_truth, outcome.image_id, images_dir)
            except (FinemaskError, OSError, ValueError):
                unread.append(file_name)
                continue
            truth = _drawn(image, truths[outcome.image_id], names)
            prediction = _drawn(image, predictions[outcome.image_id], names)
            examples.append(Example(file_name, outcome, truth, prediction))
        if examples:
            galleries.append(Gallery(*headings[key], examples))
    return galleries, unread


def _read(ground_truth: GroundTruth, image_id: int, images_dir: Path) -> Any:
    from finemask.ops.decode import decode_image

    image = ground_truth.images[image_id]
    size_hw = (image.height, image.width) if image.height and image.width else None
    return decode_image(images_dir / image.file_name, size_hw)


def _by_image(entries: Iterable[Mapping[str, Any]], wanted: set[int]) -> dict[int, list[Mapping[str, Any]]]:
    grouped: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for entry in entries:
        if entry["image_id"] in wanted:
            grouped[entry["image_id"]].append(entry)
    return grouped


def _drawn(image: Any, instances: Sequence[Mapping[str, Any]], names: Mapping[int, str]) -> str:
    """Draws annotations without crowd regions, or results; of one category, each in a colour of its own."""
    shown = [instance for instance in instances if not instance.get("iscrowd")]
    boxes = [_box_xywh(instance) for instance in shown]
    picture = draw_instances(
        image,
        rles=[_rle(instance, image.shape[0], image.shape[1]) for instance in shown],
        boxes_xyxy=np.array([[x, y, x + w, y + h] for x, y, w, h in boxes], dtype=np.float64).reshape(-1, 4),
        captions=[_caption(instance, names) for instance in shown],
        color_keys=[instance["category_id"] for instance in shown] if len(names) > 1 else None,
    )
    return _data_uri(picture)


def _caption(instance: Mapping[str, Any], names: Mapping[int, str]) -> str:
    name = names[instance["category_id"]] if len(names) > 1 else ""
    score = f"{instance['score']:.2f}" if "score" in instance else ""
    return f"{name} {score}".strip()


def _box_xywh(instance: Mapping[str, Any]) -> list[float]:
    return list(instance["bbox"]) if "bbox" in instance else rle_box_xywh(instance["segmentation"])


def _rle(instance: Mapping[str, Any], height: int, width: int) -> Rle:
    if "segmentation" in instance:
        rle: Rle = instance["segmentation"]
        return rle
    return crop_to_rle(np.zeros((0, 0), dtype=np.bool_), 0, 0, height, width)


def _data_uri(picture: Image.Image) -> str:
    picture.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")

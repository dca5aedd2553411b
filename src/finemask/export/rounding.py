"""What lower precision changes: a file of rounded numbers against the model, at the threshold that is reported at."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor

from finemask.export.agreement import matched
from finemask.export.certificate import milliseconds
from finemask.inference.exported_model import ExportedModel
from finemask.model.mask_rcnn import MaskRCNN
from finemask.ops.box_ops import pairwise_iou
from finemask.types import Detections

LEAST_FOUND_ALIKE = 0.8  # of the detections of both; less is no rounding
_SAME_IOU = 0.5  # of two boxes of one object


@dataclass(frozen=True, slots=True)
class Rounding:
    """How much of what a model finds, a file of lower precision finds too.

    Args:
        precision: ``fp16`` or ``int8``.
        calibrated_on: images that the ranges of INT8 were chosen by.
        threshold: score from which detections were looked at.
        images: that were compared.
        found: detections of the model.
        found_rounded: detections of the file.
        matched: pairs of one class whose boxes have an IoU of at least 0.5.
        box_px: median difference of the edge that differs most, of the pairs, px of the image.
        score: median difference of their scores.
        latency_ms: median time of an image in the model and in the file, run in turn.
    """

    precision: str
    calibrated_on: int
    threshold: float
    images: int
    found: int
    found_rounded: int
    matched: int
    box_px: float
    score: float
    latency_ms: Mapping[str, float]

    @property
    def found_alike(self) -> float:
        """The share of all detections that are in a pair; 1 where neither found anything."""
        total = self.found + self.found_rounded
        return 2 * self.matched / total if total else 1.0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"found_alike": self.found_alike, "least_found_alike": LEAST_FOUND_ALIKE}


def compare_rounded(
    model: MaskRCNN,
    rounded: ExportedModel,
    images: Mapping[str, Tensor],
    precision: str,
    calibrated_on: int,
    threshold: float,
    each: Callable[[], None] = lambda: None,
) -> Rounding:
    """Compares a file of lower precision with the model.

    Args:
        model: in evaluation mode.
        rounded: the file, opened.
        images: uint8 [3, H, W] by name.
        precision: of the file.
        calibrated_on: see ``Rounding``.
        threshold: see ``Rounding``.
        each: is called after each image.
    """
    counts = {"model": 0, "exported": 0}
    times: dict[str, list[float]] = {name: [] for name in counts}
    box_px: list[float] = []
    score: list[float] = []
    for image in images.values():
        answers = []
        for name, of in (("model", model), ("exported", rounded)):
            with torch.inference_mode():
                (found,) = of([image])
            answers.append(_above(found, threshold))
            counts[name] += len(answers[-1]["scores"])
            times[name].append(milliseconds(of, image))
        first, second = answers
        far = 1 - pairwise_iou(first["boxes"], second["boxes"]).nan_to_num()
        for row, column in matched(far, first["labels"], second["labels"], 1 - _SAME_IOU)[0]:
            box_px.append(float((first["boxes"][row] - second["boxes"][column]).abs().max()))
            score.append(abs(float(first["scores"][row] - second["scores"][column])))
        each()
    return Rounding(
        precision=precision,
        calibrated_on=calibrated_on,
        threshold=threshold,
        images=len(images),
        found=counts["model"],
        found_rounded=counts["exported"],
        matched=len(box_px),
        box_px=median(box_px) if box_px else 0.0,
        score=median(score) if score else 0.0,
        latency_ms={name: round(median(values), 2) for name, values in times.items()},
    )


def _above(found: Detections, threshold: float) -> Detections:
    kept = torch.where(found["scores"] >= threshold)[0]
    return Detections(
        boxes=found["boxes"][kept],
        labels=found["labels"][kept],
        scores=found["scores"][kept],
        mask_probs=found["mask_probs"][kept],
        image_size_hw=found["image_size_hw"],
    )

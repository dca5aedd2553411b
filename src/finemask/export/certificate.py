"""The certificate: an exported file finds what the model finds, image by image, with nothing, one or many found."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from finemask.export.agreement import BOX_PX, MASK_SHARE, SCORE, Agreement, agreement_of, answer_of
from finemask.inference.exported_model import ExportedModel
from finemask.model.mask_rcnn import MaskRCNN

AP = 1e-3  # largest difference of an AP on a split
PROBE_SIZES_HW = ((240, 320), (480, 640), (97, 391), (389, 131), (64, 64), (768, 616))  # both ways, odd, up and down
_BISECTIONS = 24


@dataclass(slots=True)
class Certificate:
    """All comparisons, and how long both took.

    Args:
        agreements: one a comparison.
        latency_ms: median time of an image in the model and in the exported file, run in turn.
        threads: of the CPU, of both.
        average_precision: ``segm_AP`` and ``bbox_AP`` of ``model`` and of ``exported``; empty if there was no split.
    """

    agreements: list[Agreement] = field(default_factory=list)
    latency_ms: dict[str, float] = field(default_factory=dict)
    threads: int = 1
    average_precision: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)

    def ap_difference(self) -> float:
        """The largest of any AP; 0 without a split."""
        model, exported = (self.average_precision.get(name, {}) for name in ("model", "exported"))
        return max((abs((model[key] or 0.0) - (exported[key] or 0.0)) for key in model), default=0.0)

    @property
    def faults(self) -> list[Agreement]:
        """Where they do not agree."""
        return [one for one in self.agreements if one.fault]

    def counted(self) -> dict[str, int]:
        """How many comparisons found nothing, one, or many."""
        counts = [one.found for one in self.agreements]
        return {"none": counts.count(0), "one": counts.count(1), "many": sum(n > 1 for n in counts)}

    def worst(self) -> dict[str, float]:
        """The largest difference of each kind."""
        names = ("box_px", "score", "mask_pixels", "mask_share")
        return {name: max((getattr(one, name) for one in self.agreements), default=0.0) for name in names}

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "agrees": not self.faults and self.ap_difference() <= AP,
            "tolerances": {"box_px": BOX_PX, "score": SCORE, "mask_share": MASK_SHARE, "AP": AP},
            "worst": self.worst(),
            "comparisons": len(self.agreements),
            "detections_compared": sum(one.matched for one in self.agreements),
            "at_the_cut": sum(one.at_the_cut for one in self.agreements),
            "at_a_tie": sum(one.at_a_tie for one in self.agreements),
            "at_a_pixel": sum(one.at_a_pixel for one in self.agreements),
            "found": self.counted(),
            "average_precision": self.average_precision or None,
            "latency_ms": self.latency_ms,
            "threads": self.threads,
            "images": [asdict(one) for one in self.agreements],
        }


def certify(
    model: MaskRCNN,
    exported: ExportedModel,
    images: Mapping[str, Tensor],
    each: Callable[[], None] = lambda: None,
) -> Certificate:
    """Compares an exported file with the model it was made of.

    On every image at the model's own score threshold, and at thresholds that let nothing, one and many through: what
    a model knows is not known here, and every number of detections has to be seen.

    Args:
        model: in evaluation mode.
        exported: the file, opened.
        images: uint8 [3, H, W] by name; ``probe_images`` are added to them.
        each: is called after each image.
    """
    certificate = Certificate(threads=torch.get_num_threads())
    own = model.roi_heads.score_thresh
    times: dict[str, list[float]] = {"model": [], "exported": []}
    for name, image in (*images.items(), *probe_images()):
        everything = answer_of(model, image, 0.0)
        one = _threshold_of_one(model, image, everything["scores"])
        answers = []
        for thresh in dict.fromkeys((own, 0.0, 1.0, own if one is None else one)):
            answers.append(agreement_of(model, exported, image, name, thresh))
        certificate.agreements += answers
        each()
        for named, of in (("model", model), ("exported", exported)):
            times[named].append(milliseconds(of, image))
    certificate.latency_ms = {named: round(median(values), 2) for named, values in times.items()}
    return certificate


def probe_images() -> Iterator[tuple[str, Tensor]]:
    """Drawn images uint8 [3, H, W] of many sizes: soft ground, blobs of many sizes and colours, some noise."""
    for number, (height, width) in enumerate(PROBE_SIZES_HW):
        rng = np.random.default_rng(number)
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        picture = rng.uniform(40, 200, 3)[:, None, None] + np.zeros((3, height, width), np.float32)
        for _ in range(12):
            centre_y, centre_x = rng.uniform(0, height), rng.uniform(0, width)
            ry, rx = rng.uniform(0.02, 0.3, 2) * min(height, width) + 2
            inside = ((y - centre_y) / ry) ** 2 + ((x - centre_x) / rx) ** 2 < 1
            picture[:, inside] = rng.uniform(0, 255, 3)[:, None]
        picture += rng.normal(0, 6, picture.shape)
        yield f"drawn {height}x{width}", torch.from_numpy(picture.clip(0, 255).astype(np.uint8))


def _threshold_of_one(model: MaskRCNN, image: Tensor, scores: Tensor) -> float | None:
    """A score threshold at which the model finds one object; None where the best two are alike, or none is there.

    Args:
        model: see ``certify``.
        image: see ``certify``.
        scores: of everything that it finds, best first; those that are compared with the threshold may be higher.
    """
    if not len(scores):
        return None
    low, high = 0.0, 1.0
    middle = float(scores[:2].mean()) if len(scores) > 1 else float(scores[0]) / 2
    for _ in range(_BISECTIONS):
        number = len(answer_of(model, image, middle)["scores"])
        if number == 1:
            return middle
        low, high = (middle, high) if number else (low, middle)
        middle = (low + high) / 2
    return None


def milliseconds(model: torch.nn.Module, image: Tensor) -> float:
    """How long a model takes for an image uint8 [3, H, W]."""
    start = time.perf_counter()
    with torch.inference_mode():
        model([image])
    return (time.perf_counter() - start) * 1000

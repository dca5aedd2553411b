"""The evaluator: detections or results in, the content of ``metrics.json`` out."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal

import numpy as np

from finemask.errors import ConfigError, DataError
from finemask.evaluation.analysis.operating_points import Curves, build_curves
from finemask.evaluation.ground_truth import GroundTruth
from finemask.evaluation.numbers.coco_numbers import (
    COCO_KEYS,
    Backend,
    class_precision,
    fast_scores,
    scores_of,
    summarize,
)
from finemask.evaluation.numbers.match_table import MatchTable, match_tables
from finemask.evaluation.numbers.overlaps import LEAST_IOU
from finemask.evaluation.numbers.pycocotools_reference import cross_check, reference_scores
from finemask.evaluation.result_table import ResultTable
from finemask.evaluation.results import check_results
from finemask.types import CocoResult, Detections, Rle

IOU_TYPES = ("bbox", "segm")
BOUNDARY = "boundary"
_STANDARD_CAP = 100
_HEADROOM = 1.5  # over the objects of the fullest image: a cap at their very number would cost recall


def checked_iou_types(iou_types: Sequence[str]) -> tuple[str, ...]:
    """The types in COCO's order, without the boundary, which has metrics of its own."""
    given = set() if isinstance(iou_types, str) else set(iou_types)
    if not given or not given <= {*IOU_TYPES, BOUNDARY} or (BOUNDARY in given and "segm" not in given):
        raise ConfigError(
            f"iou_types is {iou_types!r}",
            remedy="Write 'iou_types=[bbox,segm]', [bbox] or [segm]; and boundary beside segm, as in [segm,boundary].",
        )
    return tuple(kind for kind in IOU_TYPES if kind in iou_types)


def resolved_cap(max_detections: int | str, ground_truth: GroundTruth) -> int:
    """The cap on the detections of an image and category."""
    if max_detections == "auto":
        return max(_STANDARD_CAP, math.ceil(_HEADROOM * ground_truth.max_per_image))
    if isinstance(max_detections, int) and not isinstance(max_detections, bool) and max_detections > 0:
        return max_detections
    raise ConfigError(f"max_detections is {max_detections!r}", remedy="Give a whole number of at least 1, or auto.")


def checked_threshold(threshold: float | str) -> float | Literal["auto"]:
    """The score of the operating point."""
    if threshold == "auto":
        return "auto"
    if isinstance(threshold, int | float) and not isinstance(threshold, bool) and 0 <= threshold <= 1:
        return float(threshold)
    raise ConfigError(f"threshold is {threshold!r}", remedy="Give a score from 0 to 1, or auto.")


def checked_iou(iou: float) -> float:
    """The overlap at the operating point."""
    if isinstance(iou, int | float) and not isinstance(iou, bool) and 0 < iou <= 1:
        return float(iou)
    raise ConfigError(f"operating_iou is {iou!r}", remedy="Give an overlap above 0 and up to 1; 0.5 is usual.")


BACKENDS: dict[str, Backend] = {"fast": fast_scores, "pycocotools": reference_scores}
_REFERENCE = "pycocotools"
_OPERATING_IOU = 0.5


@dataclass(frozen=True)
class Evaluation:
    """All that an evaluation found.

    Args:
        metrics: plain numbers, the content of ``metrics.json``.
        curves: what the report draws.
        tables: of bbox and segm, as far as they were asked for.
        operating_table: at the IoU of the operating point alone, of masks if they were evaluated, else of boxes.
    """

    metrics: dict[str, Any]
    curves: Curves
    tables: dict[str, MatchTable]
    operating_table: MatchTable


class CocoEvaluator:
    """Collects detections as RLE and compares them with the ground truth of a whole split.

    Args:
        ground_truth: of the split.
        category_ids: the ground-truth file's id of label 1, 2, …; by default its categories in their order. A
            detection whose label has the id -1 (no such category in this file) is dropped, as COCO's rules
            have it.
        iou_types: any of ``"bbox"`` and ``"segm"``; and ``"boundary"``, which needs ``"segm"``.
        max_detections: cap on the detections of one image and category; ``"auto"`` is 100, or 1.5 times the
            objects of the fullest image where that is more.
        threshold: score at which precision and recall are reported; ``"auto"`` picks the best F1.
        backend: ``"fast"`` or ``"pycocotools"``, the reference. The fast one is compared with the reference on some
            of the images at the first evaluation of any detections.
        operating_iou: overlap from which a detection counts as right for thresholds, precision and recall; the
            APs have their own.

    Raises:
        ConfigError: a value that is none of these.
        DataError: masks are asked for, and the ground truth has none.
    """

    def __init__(
        self,
        ground_truth: GroundTruth,
        category_ids: Sequence[int] | None = None,
        iou_types: Sequence[str] = IOU_TYPES,
        max_detections: int | Literal["auto"] = "auto",
        threshold: float | Literal["auto"] = "auto",
        backend: str = "fast",
        operating_iou: float = _OPERATING_IOU,
    ) -> None:
        self.ground_truth = ground_truth
        self.category_ids = [c.id for c in ground_truth.categories] if category_ids is None else list(category_ids)
        self.iou_types = checked_iou_types(iou_types)
        self.with_boundaries = BOUNDARY in iou_types
        self.max_detections = resolved_cap(max_detections, ground_truth)
        self.threshold = checked_threshold(threshold)
        if backend not in BACKENDS:
            raise ConfigError(f"there is no backend {backend!r}", remedy=f"Choose from: {', '.join(BACKENDS)}.")
        self.backend = backend
        self.operating_iou = checked_iou(operating_iou)
        if "segm" in self.iou_types:
            ground_truth.check_masks()
        self._results = ResultTable(ground_truth)
        self._images: set[int] = set()
        self._evaluation: Evaluation | None = None  # of the results as they are now
        self._is_checked = backend == _REFERENCE

    def reset(self) -> None:
        """Forgets all detections."""
        self._results, self._images, self._evaluation = ResultTable(self.ground_truth), set(), None

    def add(self, image_id: int, detections: Detections, rles: Sequence[Rle] | None = None) -> None:
        """Adds what a model found in one image. Masks are encoded at once, so that none is kept at full size.

        Args:
            image_id: as in the ground truth.
            detections: in pixels of the image as it was given; none is fine.
            rles: their masks, where they are not simply those of ``mask_probs``.

        Raises:
            DataError: the image is not in the ground truth, or of another size there.
            ValueError: the image was added before, or a label has no category.
        """
        self._check_image(image_id, detections["image_size_hw"])
        labels = detections["labels"].tolist()
        if labels and not 1 <= min(labels) <= max(labels) <= len(self.category_ids):
            raise ValueError(f"labels {min(labels)}..{max(labels)} of {len(self.category_ids)} categories")
        self._images.add(image_id)
        self._evaluation = None
        found: list[CocoResult] = []
        for label, (x0, y0, x1, y1), score in zip(
            labels, detections["boxes"].tolist(), detections["scores"].tolist(), strict=True
        ):
            box = [x0, y0, x1 - x0, y1 - y0]
            found.append(CocoResult(image_id=image_id, category_id=self.category_ids[label - 1], bbox=box, score=score))
        if "segm" in self.iou_types:
            from finemask.ops.mask_ops import masks_to_rles

            if rles is None:
                rles = masks_to_rles(detections["mask_probs"], detections["boxes"], detections["image_size_hw"])
            for result, rle in zip(found, rles, strict=True):
                result["segmentation"] = rle
        known = {category.id for category in self.ground_truth.categories}
        self._results.extend(result for result in found if result["category_id"] in known)

    def add_results(self, results: Sequence[Any], source: object = "results") -> None:
        """Adds entries of a COCO results file, or what other processes collected in ``results``.

        Raises:
            DataError: an entry that cannot be evaluated; ``source`` names the file in the message.
        """
        self._results.extend(check_results(results, self.ground_truth, self.iou_types, source))
        self._evaluation = None

    @property
    def results(self) -> list[CocoResult]:
        """All detections so far, as a COCO results file holds them; made anew at each call."""
        return list(self._results)

    @property
    def result_table(self) -> ResultTable:
        """All detections so far, as arrays; not to be changed."""
        return self._results

    def compute(self) -> dict[str, Any]:
        """The content of ``metrics.json``: fractions in [0, 1], None for what cannot be computed."""
        return self.evaluate().metrics

    def evaluate(self) -> Evaluation:
        """The metrics and the curves behind them; computed once, however often they are asked for.

        Raises:
            FinemaskError: the fast backend disagrees with pycocotools.
        """
        if self._evaluation is None:
            self._evaluation = self._evaluate()
        return self._evaluation

    def _evaluate(self) -> Evaluation:
        truth, results, cap = self.ground_truth, self._results, self.max_detections
        backend = BACKENDS[self.backend]
        if not self._is_checked:
            cross_check(backend, BACKENDS[_REFERENCE], truth, results, self.iou_types, cap)
            self._is_checked = len(results) > 0
        scores = backend(truth, results, self.iou_types, cap)
        tables = {kind: found.table for kind, found in scores.items() if found.table is not None}
        tables = tables or match_tables(truth, results, self.iou_types, cap)
        iou_type = self.iou_types[-1]
        if self.operating_iou < LEAST_IOU:  # the tables do not know pairs that overlap less
            at_point = match_tables(truth, results, [iou_type], cap, [self.operating_iou])[iou_type]
        else:
            at_point = tables[iou_type].at(self.operating_iou)
        matches = scores[iou_type].matches if self.operating_iou == _OPERATING_IOU else at_point.matches()
        assert matches is not None  # of the last type they are there
        positions = {category.name: at_point.category_ids.index(category.id) for category in truth.categories}
        curves = build_curves(iou_type, matches, positions)
        point = curves.overall.at(self.threshold)
        objects = Counter(annotation["category_id"] for annotation in truth.annotations if not annotation["iscrowd"])
        metrics: dict[str, Any] = {
            kind: summarize(scores[kind]) if kind in scores else dict.fromkeys(COCO_KEYS) for kind in IOU_TYPES
        }
        if self.with_boundaries:
            metrics[BOUNDARY] = summarize(scores_of(tables["segm"].of_boundaries(results), cap))
        metrics["operating_point"] = {
            "iou": self.operating_iou,
            "iou_type": iou_type,
            **point.rates(),
            "true_positives": point.true_positives,
            "false_positives": point.false_positives,
            "false_negatives": point.false_negatives,
        }
        detections = np.bincount(results.category, minlength=len(positions)).tolist()
        metrics["per_class"] = {
            category.name: {
                **{
                    f"{kind}_AP": class_precision(scores[kind], positions[category.name]) if kind in scores else None
                    for kind in IOU_TYPES
                },
                **curves.per_class[category.name].at(self.threshold).rates(),
                "ground_truths": objects[category.id],
                "detections": detections[positions[category.name]],
            }
            for category in truth.categories
        }
        metrics |= {
            "images": len(truth.images),
            "ground_truths": objects.total(),
            "crowd_regions": len(truth.annotations) - objects.total(),
            "detections": len(results),
            "max_detections": cap,
            "iou_types": list(self.iou_types),
            "backend": self.backend,
            "version": version("finemask"),
        }
        return Evaluation(metrics, curves, tables, at_point)

    def _check_image(self, image_id: int, size_hw: tuple[int, int]) -> None:
        image = self.ground_truth.images.get(image_id)
        if image is None:
            raise DataError(f"image id {image_id} is not in the ground truth", where=self.ground_truth.source)
        if image.height and (image.height, image.width) != tuple(size_hw):
            raise DataError(
                f"image {image_id} ({image.file_name}) is {image.height} × {image.width} px (height × width) "
                f"in the annotations, but {size_hw[0]} × {size_hw[1]} px as it was read",
                where=self.ground_truth.source,
                remedy="The annotations may belong to a rotated or resized copy of it.",
            )
        if image_id in self._images:
            raise ValueError(f"image {image_id} was added before; reset() begins a new evaluation")

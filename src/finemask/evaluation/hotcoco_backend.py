"""The fast backend: hotcoco computes the tables; which detections are right is read off its calibration bins.

hotcoco gives back its matches as a Python dict for each image, category and size, which would cost more than the whole
evaluation. It also counts, for bins over the score, how many detections are in each and how many of them are right. The
matching and the tables depend on the order of the scores alone, so scores are replaced by numbers in the same order that
put each detection that could match anything into a bin of its own. Equal scores get the order in which pycocotools goes
through them: by image, then as listed.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finemask.errors import ConfigError
from finemask.evaluation.columns import Columns, ground_truth_columns, result_columns
from finemask.evaluation.ground_truth import GroundTruth
from finemask.evaluation.scores import CocoScores, Matches, detection_caps
from finemask.types import CocoResult, Rle

_IOUS = np.linspace(0.5, 0.95, 10)  # to the bit those of pycocotools, as the recall levels
_RECALLS = np.linspace(0, 1, 101)
_NO_MASK = Rle(size=[1, 1], counts="1")
_LARGEST_AREA = 1e10  # px²; COCO's size "all" ends here, and what is larger is ignored


def evaluate(
    ground_truth: GroundTruth, results: Sequence[CocoResult], iou_types: Sequence[str], max_detections: int
) -> dict[str, CocoScores]:
    """Runs hotcoco.

    Args:
        ground_truth: with masks if ``"segm"`` is among the types.
        results: checked (``check_results``); may be empty.
        iou_types: any of ``"bbox"`` and ``"segm"``.
        max_detections: cap on the detections of one image and category.

    Raises:
        ConfigError: hotcoco is not installed.
    """
    hotcoco = _hotcoco()
    category_ids = sorted(category.id for category in ground_truth.categories)
    objects, found = ground_truth_columns(ground_truth), result_columns(ground_truth, results)
    crowd = np.array([a["iscrowd"] for a in ground_truth.annotations], dtype=bool)
    score = np.fromiter((result["score"] for result in results), dtype=np.float64, count=len(results))
    bins = _Bins(objects, found, score, len(category_ids), max_detections)
    truth = hotcoco.COCO.from_arrays(
        _images(ground_truth),
        [{"id": number, "name": str(number)} for number in range(1, len(category_ids) + 1)],
        objects.image + 1,
        objects.category + 1,
        objects.boxes,
        ids=np.arange(1, len(objects.area) + 1),
        area=objects.area,
        iscrowd=crowd,
        segmentation=objects.segmentation if "segm" in iou_types else None,
    )
    masks = None
    if "segm" in iou_types:  # only where there are objects is a mask ever looked at
        masks = [mask if near else _NO_MASK for mask, near in zip(found.segmentation, bins.near.tolist(), strict=True)]
    table = np.column_stack([found.image + 1, found.boxes, bins.score, found.category + 1])
    detections = truth.load_res(table, segmentation=masks)
    detections.update_anns(ids=np.arange(1, len(table) + 1), area=found.area)
    del masks, table
    wanted = ~crowd & (objects.area >= 0) & (objects.area <= _LARGEST_AREA)
    positives = np.bincount(objects.category[wanted], minlength=len(category_ids))
    scores = {}
    for iou_type in iou_types:
        run = hotcoco.COCOeval(truth, detections, iou_type)
        run.params.img_ids = list(range(1, len(ground_truth.images) + 1))
        run.params.cat_ids = list(range(1, len(category_ids) + 1))
        run.params.iou_thrs, run.params.rec_thrs = _IOUS.tolist(), _RECALLS.tolist()
        run.params.max_dets = detection_caps(max_detections)
        run.evaluate()
        counts, is_true = bins.read(run)
        run.accumulate()
        tables = run.eval
        kept = bins.order[counts[bins.order]]
        scores[iou_type] = CocoScores(
            category_ids=category_ids,
            max_dets=detection_caps(max_detections),
            precision=tables["precision"],
            recall=tables["recall"],
            matches=Matches(
                result=kept,
                image_id=np.array(sorted(ground_truth.images), dtype=np.int64)[found.image[kept]],
                category=found.category[kept],
                score=score[kept],
                is_true=is_true[kept],
                positives=positives,
            ),
        )
    return scores


class _Bins:
    """Scores in the order of the given ones, and what hotcoco's bins over them say about each detection.

    Args:
        objects: the ground truth.
        found: the detections.
        score: float64 [D].
        categories: how many there are.
        cap: on the detections of an image and category.
    """

    def __init__(
        self, objects: Columns, found: Columns, score: NDArray[np.float64], categories: int, cap: int
    ) -> None:
        number = len(score)
        cells = found.cells(categories)
        self.near = np.isin(cells, objects.cells(categories))  # in an image that has objects of their category
        ranking = np.lexsort((np.arange(number), found.image, -score))  # best first
        self.order = ranking[np.lexsort((found.image[ranking], found.category[ranking]))]
        place = _places(cells[self.order])
        self.capped = np.zeros(number, dtype=bool)
        self.capped[self.order] = place >= cap
        # Unmatched, a detection is ignored where its size is out of bounds; far from objects it is unmatched.
        self.far_counts = ~self.near & ~self.capped & (found.area <= _LARGEST_AREA)
        # A bin begins with each detection that is near, so it holds one of those and the far ones that follow it.
        near = self.near[ranking]
        self.bin = np.empty(number, dtype=np.int64)
        self.bin[ranking] = int(near.sum()) - np.cumsum(near)
        self.number = int(near.sum()) + 1
        inside = (np.arange(number, 0, -1) - 0.5) / (number or 1)  # falls along the ranking, strictly within 0..1
        self.score = np.empty(number)
        self.score[ranking] = (self.bin[ranking] + inside) / self.number

    def read(self, run: Any) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which detections count at IoU 0.5 over all sizes, and which of them are right; bool [D] each."""
        counts, is_true = self.far_counts.copy(), np.zeros(len(self.bin), dtype=bool)
        if not self.near.any():
            return counts, is_true
        bins = run.calibration(n_bins=self.number, iou_threshold=0.5)["bins"]
        held = np.fromiter((b["count"] for b in bins), dtype=np.int64, count=self.number)
        accuracy = np.fromiter((b["avg_accuracy"] for b in bins), dtype=np.float64, count=self.number)
        others = np.bincount(self.bin[self.far_counts], minlength=self.number)
        near = np.flatnonzero(self.near)
        counts[near] = held[self.bin[near]] > others[self.bin[near]]
        is_true[near] = counts[near] & (accuracy[self.bin[near]] > 0)
        return counts, is_true


def _places(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Position of each element within its run of equal numbers, int64 [N]."""
    index = np.arange(len(groups))
    first = np.concatenate([np.ones(min(len(groups), 1), dtype=bool), groups[1:] != groups[:-1]])
    return index - np.maximum.accumulate(np.where(first, index, 0))


def _images(ground_truth: GroundTruth) -> list[dict[str, Any]]:
    """Numbered anew: hotcoco takes no negative id."""
    images = [ground_truth.images[id_] for id_ in sorted(ground_truth.images)]
    return [
        {"id": number, "file_name": "", "height": image.height, "width": image.width}
        for number, image in enumerate(images, start=1)
    ]


def _hotcoco() -> Any:
    try:
        import hotcoco
    except ImportError as error:
        raise ConfigError(
            f"backend=fast needs the package hotcoco, which cannot be imported ({error})",
            remedy="Install it with: pip install 'hotcoco>=1.3,<1.4', or use backend=pycocotools.",
        ) from error
    return hotcoco

"""The fast backend: hotcoco computes the tables; which detections are right is read off its calibration bins.

hotcoco gives back its matches as a Python dict for each image, category and size, which would cost more than the whole
evaluation. It also counts, for bins over the score, how many detections are in each and how many of them are right. The
matching and the tables depend on the order of the scores alone, so scores are replaced by numbers in the same order
that put each detection that could match anything into a bin of its own. Equal scores get the order in which
pycocotools goes through them: by image, then as listed.
"""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finemask.errors import ConfigError
from finemask.evaluation.ground_truth import GroundTruth
from finemask.evaluation.objects import LARGEST_AREA, Objects, object_columns, places_in_runs
from finemask.evaluation.result_table import ResultTable
from finemask.evaluation.scores import CocoScores, Matches, detection_caps
from finemask.types import Rle

_IOUS = np.linspace(0.5, 0.95, 10)  # to the bit those of pycocotools, as the recall levels
_RECALLS = np.linspace(0, 1, 101)
_MOST_CHUNKS, _LEAST_CATEGORIES = 16, 8  # categories go through in chunks: what hotcoco holds grows with them, its
# bins even with their square
_NO_MASK = Rle(size=[1, 1], counts="1")


def evaluate(
    ground_truth: GroundTruth, results: ResultTable, iou_types: Sequence[str], max_detections: int
) -> dict[str, CocoScores]:
    """Runs hotcoco.

    Args:
        ground_truth: with masks if ``"segm"`` is among the types.
        results: may be empty.
        iou_types: any of ``"bbox"`` and ``"segm"``.
        max_detections: cap on the detections of one image and category.

    Raises:
        ConfigError: hotcoco is not installed.
    """
    hotcoco = _hotcoco()
    category_ids = sorted(category.id for category in ground_truth.categories)
    image_ids = sorted(ground_truth.images)
    objects = object_columns(ground_truth)
    boxes, areas = results.boxes_and_areas()
    image, category, score = results.image, results.category, results.score
    cells = image * len(category_ids) + category
    near = np.isin(cells, objects.image * len(category_ids) + objects.category)
    size = max(_LEAST_CATEGORIES, -(-len(category_ids) // _MOST_CHUNKS))
    chunks = [range(start, min(start + size, len(category_ids))) for start in range(0, len(category_ids), size)]
    bins = _Bins(image, cells, category, score, near, areas, max_detections, category // size)
    truth = _to_hotcoco(hotcoco, ground_truth, objects, len(category_ids), "segm" in iou_types)
    caps = detection_caps(max_detections)
    tables: dict[str, list[dict[str, Any]]] = {iou_type: [] for iou_type in iou_types}
    for number, chunk in enumerate(chunks):
        members = np.flatnonzero(category // size == number)
        masks = None
        if "segm" in iou_types:  # only where there are objects of the category is a mask ever looked at
            masks = results.masks(members, near[members], _NO_MASK)
        table = np.column_stack([image[members] + 1, boxes[members], bins.score[members], category[members] + 1])
        detections = truth.load_res(table, segmentation=masks)
        detections.update_anns(ids=np.arange(1, len(table) + 1), area=areas[members])
        del masks, table
        for iou_type in iou_types:
            run = hotcoco.COCOeval(truth, detections, iou_type)
            run.params.img_ids = list(range(1, len(image_ids) + 1))
            run.params.cat_ids = [position + 1 for position in chunk]
            run.params.iou_thrs, run.params.rec_thrs = _IOUS.tolist(), _RECALLS.tolist()
            run.params.max_dets = caps
            run.evaluate()
            if iou_type == iou_types[-1]:
                bins.read(run, number)
            run.accumulate()
            tables[iou_type].append(run.eval)
    kept = bins.order[bins.counts[bins.order]]
    of_image = np.array(image_ids, dtype=np.int64)[image[kept]]
    positives = np.bincount(objects.category[~objects.ignored], minlength=len(category_ids))
    matches = Matches(kept, of_image, category[kept], score[kept], bins.is_true[kept], positives)
    return {
        iou_type: CocoScores(
            category_ids,
            caps,
            np.concatenate([table["precision"] for table in found], axis=2),
            np.concatenate([table["recall"] for table in found], axis=1),
            matches if iou_type == iou_types[-1] else None,
        )
        for iou_type, found in tables.items()
    }


def _to_hotcoco(hotcoco: Any, ground_truth: GroundTruth, objects: Objects, categories: int, with_masks: bool) -> Any:
    """A ``hotcoco.COCO`` with ids from 1, as it takes no negative ones."""
    sizes_hw = [ground_truth.images[id_][1:3] for id_ in sorted(ground_truth.images)]
    return hotcoco.COCO.from_arrays(
        [{"id": i, "file_name": "", "height": h, "width": w} for i, (h, w) in enumerate(sizes_hw, start=1)],
        [{"id": number, "name": str(number)} for number in range(1, categories + 1)],
        objects.image + 1,
        objects.category + 1,
        objects.boxes,
        ids=np.arange(1, len(objects.area) + 1),
        area=objects.area,
        iscrowd=objects.crowd,
        segmentation=objects.masks if with_masks else None,
    )


class _Bins:
    """Scores in the order of the given ones, and what hotcoco's bins over them say about each detection.

    Args:
        image: int64 [D].
        cells: int64 [D], a number for each pair of image and category.
        category: int64 [D].
        score: float64 [D].
        near: bool [D], whether the cell has objects; elsewhere nothing can match.
        areas: float64 [D], px².
        cap: on the detections of a cell.
        chunk: int64 [D], which run of hotcoco the category belongs to; each has bins of its own.
    """

    def __init__(
        self,
        image: NDArray[np.int64],
        cells: NDArray[np.int64],
        category: NDArray[np.int64],
        score: NDArray[np.float64],
        near: NDArray[np.bool_],
        areas: NDArray[np.float64],
        cap: int,
        chunk: NDArray[np.int64],
    ) -> None:
        number = len(score)
        ranking = _best_first(score, image)
        by_category = category[ranking] * (int(image.max(initial=0)) + 1) + image[ranking]
        # Numbers that hold the rank as well are all different: they need no stable sort, which takes ten times as long.
        self.order = ranking[np.sort(by_category * number + np.arange(number)) % max(number, 1)]
        capped = np.zeros(number, dtype=bool)
        capped[self.order] = places_in_runs(cells[self.order]) >= cap
        # Unmatched, a detection is ignored where its size is out of bounds; far from objects it is unmatched.
        self.counts = ~near & ~capped & (areas <= LARGEST_AREA)  # at IoU 0.5 over all sizes; read() adds the others
        self.is_true = np.zeros(number, dtype=bool)
        self.score = np.empty(number)
        self._bin = np.empty(number, dtype=np.int64)
        self._near: list[NDArray[np.int64]] = []
        self._far: list[NDArray[np.int64]] = []
        ranked_chunk = chunk[ranking]
        for which in range(int(chunk.max(initial=-1)) + 1):
            members = ranking[ranked_chunk == which]
            is_near = near[members]
            self._near.append(members[is_near])
            self._far.append(members[self.counts[members]])
            # A bin begins with each detection that is near, so it holds one of those and the far ones that follow it.
            bins = len(self._near[-1]) - np.cumsum(is_near)
            inside = (np.arange(len(members), 0, -1) - 0.5) / max(len(members), 1)  # falls, strictly within 0..1
            self.score[members] = (bins + inside) / (len(self._near[-1]) + 1)
            self._bin[members] = bins

    def read(self, run: Any, chunk: int) -> None:
        """Notes which of a chunk's detections count at IoU 0.5 over all sizes, and which of them are right."""
        if chunk >= len(self._near) or not len(self._near[chunk]):
            return
        near, number = self._near[chunk], len(self._near[chunk]) + 1
        bins = run.calibration(n_bins=number, iou_threshold=0.5)["bins"]
        held = np.fromiter(map(itemgetter("count"), bins), dtype=np.int64, count=number)
        accuracy = np.fromiter(map(itemgetter("avg_accuracy"), bins), dtype=np.float64, count=number)
        others = np.bincount(self._bin[self._far[chunk]], minlength=number)
        self.counts[near] = held[self._bin[near]] > others[self._bin[near]]
        self.is_true[near] = self.counts[near] & (accuracy[self._bin[near]] > 0)


def _best_first(score: NDArray[np.float64], image: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions [D] by falling score, equal ones by image and then as listed: ``np.lexsort((image, -score))``.

    Few scores are equal, and a sort that leaves those in any order takes a third of the time.
    """
    order = np.argsort(-score)
    is_repeated = score[order][1:] == score[order][:-1]
    in_group = np.concatenate([is_repeated, [False]]) | np.concatenate([[False], is_repeated])
    members = order[in_group[: len(order)]]
    order[in_group[: len(order)]] = members[np.lexsort((members, image[members], -score[members]))]
    return order


def _hotcoco() -> Any:
    try:
        import hotcoco
    except ImportError as error:
        raise ConfigError(
            f"backend=fast needs the package hotcoco, which cannot be imported ({error})",
            remedy="Install it with: pip install 'hotcoco>=1.3,<1.4', or use backend=pycocotools.",
        ) from error
    return hotcoco

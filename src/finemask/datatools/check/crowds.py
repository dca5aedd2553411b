"""Crowds: which annotations are flagged so, and which of these look like single objects.

A crowd is a region of many objects that nobody outlined one by one; it is neither learned nor measured. Labelling
tools misuse the flag: CVAT exports every brush mask with ``iscrowd`` 1, because COCO's own crowds are run lengths too.
"""

from collections import Counter
from functools import lru_cache

import numpy as np
from scipy import ndimage

from finemask.datatools.check.document import AnnotationRow, Document
from finemask.ops.rle import rle_to_crop
from finemask.types import Rle

AS_OBJECTS = "crowds=objects"
"""What has to be said for crowds that look like single objects to become such."""

_ONE_PIECE = 0.95  # of the pixels in one piece: a brush leaves specks
_OBJECTS_BESIDE_A_CROWD = 10  # COCO's labellers outlined 10 to 15 objects of a class before they took to a crowd
_HABIT = 0.02  # share of such annotations from which they are a habit of the tool; in COCO all crowds are 0.012


def crowds_by_class(document: Document) -> dict[str, int]:
    """How many annotations of each class are crowds; classes without any are left out."""
    names = {row.id: row.name for row in document.categories}
    counts = Counter(names.get(row.category_id, str(row.category_id)) for row in document.annotations if row.iscrowd)
    return dict(counts)


def looks_single(row: AnnotationRow, document: Document) -> bool:
    """Whether a crowd looks like one object: a polygon, or a mask of one piece that is no rest of many objects."""
    if isinstance(row.entry.get("segmentation"), list):
        return row.rle is not None
    if row.rle is None or not _is_one_piece(row.rle["counts"], *row.rle["size"]):
        return False
    alike = [other for other in document.annotations_of[row.image.id] if other.category_id == row.category_id]
    crowds = sum(other.iscrowd for other in alike)
    return crowds > 1 or len(alike) - crowds < _OBJECTS_BESIDE_A_CROWD


def are_a_habit(rows: list[AnnotationRow], document: Document) -> bool:
    """Whether crowds that look like single objects are too many of a file to be chance."""
    return len(rows) >= _HABIT * len(document.annotations)


@lru_cache(maxsize=100_000)
def _is_one_piece(counts: str, height: int, width: int) -> bool:
    crop, _, _ = rle_to_crop(Rle(size=[height, width], counts=counts))
    pieces, number = ndimage.label(crop, structure=np.ones((3, 3)))
    return number == 1 or bool(np.bincount(pieces.ravel())[1:].max() >= _ONE_PIECE * np.count_nonzero(crop))

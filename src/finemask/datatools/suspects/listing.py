"""``suspects.json``: what is suspected, with the change that would mend it, for people to accept entry by entry."""

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finemask.coco.index import CocoIndex
from finemask.datatools.suspects.find import RULES, Suspect
from finemask.errors import DataError
from finemask.ops.json_file import read_json
from finemask.ops.rle import rle_area, rle_box_xywh
from finemask.types import Rle

FORMAT = "finemask suspects 1"
_JUDGED = ("image_id", "category_id", "iscrowd", "segmentation", "bbox")


def digest_of(entry: Mapping[str, Any]) -> str:
    """Tells whether an annotation is still what was judged: a hash of its image, category and outline."""
    seen = json.dumps([entry.get(key) for key in _JUDGED], sort_keys=True)
    return hashlib.sha256(seen.encode()).hexdigest()[:16]


def read_digests(annotations: Path) -> dict[int, str]:
    """The digest of every annotation of a COCO file, by id.

    Raises:
        DataError: an annotation has no id, or not its own: a suspicion could not name it.
    """
    digests: dict[int, str] = {}
    for entry in read_json(annotations, "a COCO annotation file")["annotations"]:
        number = entry.get("id")
        if number is None or int(number) in digests:
            raise DataError(
                "an annotation has no id" if number is None else f"the annotation id {number} is there twice",
                where=annotations,
                remedy=f"Each needs its own; to repair: finemask data check "
                f"{shlex.quote(f'annotations={annotations}')} fix=FIXED.json",
            )
        digests[int(number)] = digest_of(entry)
    return digests


def listing(suspects: Sequence[Suspect], index: CocoIndex, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The content of the file.

    Args:
        suspects: best first.
        index: that they were found in.
        facts: about the model, put on top.

    Raises:
        DataError: see ``read_digests``.
    """
    digests = read_digests(index.annotations_path)
    return {
        "format": FORMAT,
        "annotations": str(index.annotations_path),
        **facts,
        "rules": dict(RULES),
        "suspects": [_entry(number, suspect, index, digests) for number, suspect in enumerate(suspects, start=1)],
    }


def _entry(number: int, suspect: Suspect, index: CocoIndex, digests: Mapping[int, str]) -> dict[str, Any]:
    scene = suspect.scene
    ids = [int(scene.label_ids[a]) for a in suspect.labels]
    return {
        "id": number,
        "accept": False,
        "rule": suspect.rule,
        "score": round(suspect.score, 4),
        "image_id": int(index.image_ids[scene.image]),
        "file_name": index.packed_file_names[scene.image],
        "annotation_ids": ids,
        "message": _message(suspect, index, ids),
        "detection": {
            "category": index.categories[suspect.label - 1].name,
            "score": round(float(scene.scores[suspect.detection]), 4),
            "iou": None if suspect.iou is None else round(suspect.iou, 4),
        },
        "change": _change(suspect, index, ids),
        "seen": {str(k): digests[k] for k in ids},
    }


def _message(suspect: Suspect, index: CocoIndex, ids: Sequence[int]) -> str:
    scene, names = suspect.scene, [category.name for category in index.categories]
    seen = f"a {names[suspect.label - 1]!r} (score {scene.scores[suspect.detection]:.2f})"
    if suspect.rule == "missing-label":
        return f"the model sees {seen} where no label is"
    if suspect.rule == "wrong-class":
        labelled = names[scene.label_classes[suspect.labels[0]] - 1]
        return f"it is labelled {labelled!r}, the model sees {seen}, IoU {suspect.iou:.2f}"
    if suspect.rule == "loose-mask":
        return f"the model sees {seen} with an IoU of {suspect.iou:.2f}; usual is {suspect.usual_iou:.2f}"
    return f"it and annotation {ids[1]} have an IoU of {suspect.iou:.2f}, and the model sees one object there: {seen}"


def _change(suspect: Suspect, index: CocoIndex, ids: Sequence[int]) -> dict[str, Any]:
    category = index.categories[suspect.label - 1].name
    category_id = index.category_ids[suspect.label - 1]
    if suspect.rule == "missing-label":
        return {"action": "add-label", "category_id": category_id, "category": category, **_mask(suspect.rle)}
    if suspect.rule == "wrong-class":
        return {
            "action": "change-class",
            "annotation_id": ids[0],
            "category_id": category_id,
            "category": category,
        }
    if suspect.rule == "loose-mask":
        return {"action": "replace-mask", "annotation_id": ids[0], **_mask(suspect.rle)}
    return {"action": "remove-label", "annotation_id": ids[0]}


def _mask(rle: Rle) -> dict[str, Any]:
    return {"bbox": rle_box_xywh(rle), "area": rle_area(rle), "segmentation": rle}

"""Faults planted into sound labels, and a detector that is simulated from them."""

import copy
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from finemask.ops.rle import mask_to_rle, rle_area, rle_box_xywh, rle_from_segmentation, rle_to_mask

KINDS = ("missing-label", "wrong-class", "loose-mask", "duplicate-label")
_SMALLEST_PX = 60


class Planted(NamedTuple):
    """A fault: its rule, its image, the annotations to name (none for a missing label), and the true mask."""

    rule: str
    image_id: int
    annotation_ids: tuple
    rle: dict


def rle_of(document, annotation):
    image = next(image for image in document["images"] if image["id"] == annotation["image_id"])
    return rle_from_segmentation(annotation["segmentation"], image["height"], image["width"])


def _with_mask(annotation, mask):
    rle = mask_to_rle(mask)
    return {**annotation, "segmentation": rle, "bbox": rle_box_xywh(rle), "area": rle_area(rle)}


def _moved(mask, dx, dy):
    """A mask shifted by whole pixels; what leaves the image is gone."""
    return ndimage.shift(mask.astype(np.uint8), (dy, dx), order=0, mode="constant") > 0


def _loose(mask):
    """A hasty outline: a third too large all round."""
    radius = max(2, round(0.2 * np.sqrt(mask.sum())))
    yy, xx = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return ndimage.binary_dilation(mask, structure=xx**2 + yy**2 <= radius**2)


def plant_faults(document, share, rng):
    """A copy of a COCO document with faults in a share of its labels, as many of each kind; and which they are."""
    faulty = copy.deepcopy(document)
    categories = [category["id"] for category in document["categories"]]
    able = [a for a in faulty["annotations"] if not a["iscrowd"] and a["area"] >= _SMALLEST_PX]
    count = round(share * len([a for a in faulty["annotations"] if not a["iscrowd"]]))
    chosen = [able[k] for k in rng.permutation(len(able))[:count]]
    next_id = max(a["id"] for a in faulty["annotations"]) + 1
    planted = []
    for k, annotation in enumerate(chosen):
        rule, rle = KINDS[k % len(KINDS)], rle_of(faulty, annotation)
        ids = (annotation["id"],)
        if rule == "missing-label":
            faulty["annotations"].remove(annotation)
            ids = ()
        elif rule == "wrong-class":
            annotation["category_id"] = int(rng.choice([c for c in categories if c != annotation["category_id"]]))
        elif rule == "loose-mask":
            annotation.update(_with_mask(annotation, _loose(rle_to_mask(rle) > 0)))
        else:
            copied = {**_with_mask(annotation, _moved(rle_to_mask(rle), *rng.integers(-1, 2, 2))), "id": next_id}
            faulty["annotations"].append(copied)
            ids, next_id = (annotation["id"], next_id), next_id + 1
        planted.append(Planted(rule, annotation["image_id"], ids, rle))
    return faulty, planted


def simulate_detections(document, rng, *, miss=0.06, confuse=0.03, false_per_image=0.5):
    """What a fair detector would find on sound labels: most objects, masks a pixel or two off, some confusion."""
    categories = [category["id"] for category in document["categories"]]
    results = []
    for annotation in document["annotations"]:
        if annotation["iscrowd"] or rng.random() < miss:
            continue
        mask = _moved(rle_to_mask(rle_of(document, annotation)) > 0, *rng.integers(-1, 2, 2))
        rim = ndimage.binary_dilation(mask) ^ ndimage.binary_erosion(mask)
        mask = mask ^ (rim & (rng.random(mask.shape) < rng.uniform(0.1, 0.4)))
        if not mask.any():
            continue
        others = [c for c in categories if c != annotation["category_id"]]
        category = int(rng.choice(others)) if rng.random() < confuse else annotation["category_id"]
        score = float(rng.beta(9, 1.5))
        results.append(_result(annotation["image_id"], category, mask, score))
        if rng.random() < 0.15:  # a second opinion on the same object
            results.append(
                _result(annotation["image_id"], int(rng.choice(others)), mask, score * rng.uniform(0.1, 0.5))
            )
    for image in document["images"]:
        for _ in range(rng.poisson(false_per_image)):
            h, w = image["height"], image["width"]
            yy, xx = np.mgrid[:h, :w]
            radius = rng.uniform(0.05, 0.12) * w
            mask = (xx - rng.uniform(0, w)) ** 2 + (yy - rng.uniform(0, h)) ** 2 < radius**2
            if mask.any():
                results.append(_result(image["id"], int(rng.choice(categories)), mask, float(rng.beta(1.5, 6))))
    return results


def _result(image_id, category_id, mask, score):
    rle = mask_to_rle(mask)
    return {
        "image_id": image_id,
        "category_id": category_id,
        "bbox": rle_box_xywh(rle),
        "score": score,
        "segmentation": rle,
    }


def is_found(fault, entries, iou):
    """Whether entries of ``suspects.json`` hold a planted fault, under its own rule and, if it can be, by its id.

    Args:
        fault: a planted one.
        entries: of the list.
        iou: gives the IoU of two RLEs.
    """
    for entry in entries:
        if entry["rule"] != fault.rule or entry["image_id"] != fault.image_id:
            continue
        if fault.annotation_ids:
            if set(entry["annotation_ids"]) == set(fault.annotation_ids):
                return True
        elif iou(entry["change"]["segmentation"], fault.rle) >= 0.5:
            return True
    return False

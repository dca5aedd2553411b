import json

import pytest

from finemask.coco.index import CocoIndex
from finemask.training.save_model import training_sizes
from finemask.types import Preprocessing

PREPROCESSING = Preprocessing((64, 100), 160, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


def split(tmp_path, boxes_by_image, iscrowd=0):
    """Images of the sizes and with the boxes given: {(height, width): [(w, h), …]}."""
    images, annotations = [], []
    for image_id, ((height, width), boxes) in enumerate(boxes_by_image.items(), start=1):
        images.append({"id": image_id, "file_name": f"{image_id}.png", "height": height, "width": width})
        (tmp_path / f"{image_id}.png").touch()
        for w, h in boxes:
            outline = [[1, 1, 1 + w, 1, 1 + w, 1 + h, 1, 1 + h]]
            entry = {"id": len(annotations) + 1, "image_id": image_id, "category_id": 1, "iscrowd": iscrowd}
            annotations.append({**entry, "segmentation": outline, "bbox": [1, 1, w, h], "area": w * h})
    path = tmp_path / "train.json"
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "nut"}]})
    )
    return CocoIndex.read(path, tmp_path, cache=None)


def test_sizes_of_images_and_objects_are_those_worked_out_by_hand(tmp_path):
    # by 100 / 50 = 2, by 100 / 200 = 0.5, and by 160 / 400 = 0.4, where the longer side is the bound
    index = split(tmp_path, {(50, 60): [(9, 4)] * 10, (200, 200): [(40, 40)] * 11, (100, 400): [(90, 40)] * 10})
    sizes = training_sizes(index, PREPROCESSING)
    assert sizes.images_px == (60, 200, 400)
    assert sizes.scale == pytest.approx((0.4, 0.5, 2.0))
    assert sizes.objects_px == pytest.approx((6, 40, 60))
    assert sizes.objects_seen_px == pytest.approx((12, 20, 24))


def test_without_objects_there_are_no_sizes(tmp_path):
    index = split(tmp_path, {(50, 60): [(9, 4)]}, iscrowd=1)
    assert training_sizes(index, PREPROCESSING) is None

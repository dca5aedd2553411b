"""The drawn dataset: valid, complete, repeatable, and labelled with what is to be seen."""

import hashlib
import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from finemask.coco.index import CocoIndex
from finemask.data.shapes import CATEGORY_IDS, draw_shapes
from finemask.errors import ConfigError, DataError


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def documents(folder):
    return [json.loads((folder / "annotations" / f"{split}.json").read_text()) for split in ("train", "val")]


def to_mask(segmentation, height, width):
    rle = coco_mask.frPyObjects(segmentation, height, width) if not is_compressed(segmentation) else segmentation
    return coco_mask.decode(coco_mask.merge(rle) if isinstance(rle, list) else rle).astype(bool)


def is_compressed(segmentation):
    return isinstance(segmentation, dict) and isinstance(segmentation["counts"], str)


def test_same_arguments_same_bytes(tmp_path):
    first = digests(draw_shapes(tmp_path / "a", images=6, size=64, seed=5))
    assert first == digests(draw_shapes(tmp_path / "b", images=6, size=64, seed=5))
    assert first == digests(draw_shapes(tmp_path / "a", images=6, size=64, seed=5))
    assert first != digests(draw_shapes(tmp_path / "c", images=6, size=64, seed=6))
    assert len(first) == 8


def test_annotations_are_true_and_varied(shapes_dir):
    train, val = documents(shapes_dir)
    assert (len(train["images"]), len(val["images"])) == (27, 7)
    assert {c["name"]: c["id"] for c in train["categories"]} == CATEGORY_IDS
    annotations = train["annotations"] + val["annotations"]
    assert len({annotation["id"] for annotation in annotations}) == len(annotations)
    kinds = {type(a["segmentation"]).__name__ + str(is_compressed(a["segmentation"])) for a in annotations}
    assert kinds == {"listFalse", "dictFalse", "dictTrue"}
    assert {a["category_id"] for a in annotations} == set(CATEGORY_IDS.values())
    assert sum(a["iscrowd"] for a in annotations) == 2
    by_image = {}
    for annotation in annotations:
        mask = to_mask(annotation["segmentation"], 96, 96)
        ys, xs = np.nonzero(mask)
        assert annotation["area"] == mask.sum() > 0
        x, y, w, h = annotation["bbox"]
        assert (x, y, x + w, y + h) == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        by_image.setdefault(annotation["image_id"], []).append(mask)
    assert len(by_image) == 33  # one image of 34 has no objects
    overlaps = [np.sum(masks, axis=0).max() for masks in by_image.values()]
    assert max(overlaps) == 1  # masks are what is visible, so they never overlap


def test_objects_can_be_seen(shapes_dir):
    """Pixels of an object differ from those just around it, in nearly all cases."""
    index = CocoIndex.read(shapes_dir / "annotations" / "train.json", shapes_dir / "images")
    contrast = []
    for i in range(len(index)):
        image = np.asarray(Image.open(index.image_path(i))).astype(float)
        instances = index.instances(i)
        assert image.shape == (96, 96, 3)
        for k in np.flatnonzero(~instances.iscrowd):
            crop, x0, y0 = instances.crop(k)
            window = image[y0 : y0 + crop.shape[0], x0 : x0 + crop.shape[1]]
            contrast.append(np.abs(window[crop].mean(0) - window[~crop].mean(0)).max())
    assert np.mean(np.array(contrast) > 25) > 0.95


def test_wrong_arguments(tmp_path):
    for wrong in ({"images": 1}, {"size": 20}, {"seed": -1}, {"val_fraction": 1.0}, {"images": "x"}):
        with pytest.raises(ConfigError):
            draw_shapes(tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


def test_other_annotations_are_never_overwritten(tmp_path):
    file = tmp_path / "annotations" / "val.json"
    file.parent.mkdir()
    file.write_text('{"images": []}')
    with pytest.raises(DataError, match="overwritten"):
        draw_shapes(tmp_path, images=4, size=64)
    assert file.read_text() == '{"images": []}'
    assert not (tmp_path / "images").exists()


def test_the_verb(tmp_path, capsys):
    from omegaconf import OmegaConf

    from finemask.verbs.data.synth import main

    output = tmp_path / "new" / "shapes"
    keys = {"output": str(output), "images": 5, "size": 64, "seed": 0, "val_fraction": 0.4}
    assert main(OmegaConf.create(keys)) == 0
    assert str(output) in capsys.readouterr().out
    train, val = documents(output)
    assert (len(train["images"]), len(val["images"])) == (3, 2)

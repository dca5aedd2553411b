"""CVAT's function against a stand-in of its package, of the same names and rules; and against the package, if there."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from inference_data import CATEGORIES, SCORES, ColourModel, colour_header, rectangles
from PIL import Image
from pycocotools import mask as coco_mask

from finemask.errors import MissingExtraError
from finemask.inference.predictor import Predictor
from finemask.serving.labelling import cvat_function

BOXES = {"red": (4, 6, 20, 30), "green": (30, 10, 50, 25)}


def encode_mask(bitmap, bbox=None):
    """CVAT's form of a mask: runs along the rows of its tight box, zeros first, then the box, ends included."""
    assert bitmap.dtype == bool
    rows, columns = np.nonzero(bitmap)
    y0, y1, x0, x1 = rows.min(), rows.max(), columns.min(), columns.max()
    flat = bitmap[y0 : y1 + 1, x0 : x1 + 1].ravel()
    runs, value = [0], False
    for pixel in flat.tolist():
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return [*runs, int(x0), int(y0), int(x1), int(y1)]


def decode_mask(points, height, width):
    """The pixels that CVAT makes of it."""
    *runs, x0, y0, x1, y1 = (int(value) for value in points)
    flat = np.concatenate([np.full(run, place % 2 == 1) for place, run in enumerate(runs)])
    mask = np.zeros((height, width), bool)
    mask[y0 : y1 + 1, x0 : x1 + 1] = flat.reshape(y1 - y0 + 1, x1 - x0 + 1)
    return mask


def shape(kind):
    def made(label_id, points, **more):
        return SimpleNamespace(type=kind, label_id=label_id, points=list(points), **more)

    return made


@pytest.fixture(params=["stand-in", "package"])
def function(request, monkeypatch):
    """The function with a model that finds coloured rectangles."""
    if request.param == "package":
        pytest.importorskip("cvat_sdk")
    else:
        package = ModuleType("cvat_sdk")
        api, masks = ModuleType("cvat_sdk.auto_annotation"), ModuleType("cvat_sdk.masks")
        api.polygon, api.mask = shape("polygon"), shape("mask")
        api.label_spec = lambda name, id, **more: SimpleNamespace(name=name, id=id, **more)
        api.DetectionFunctionSpec = lambda *, labels: SimpleNamespace(labels=labels)
        masks.encode_mask = encode_mask
        package.auto_annotation, package.masks = api, masks
        for module in (package, api, masks):
            monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(cvat_function, "load", lambda model, device: Predictor(ColourModel(), colour_header()))
    return cvat_function.create("model.safetensors")


def detected(function, threshold=None, to_polygons=False):
    context = SimpleNamespace(frame_name="a.png", conf_threshold=threshold, conv_mask_to_poly=to_polygons)
    return function.detect(context, Image.fromarray(rectangles(**BOXES, blue=(22, 32, 40, 38))))


def test_its_labels_are_the_classes(function) -> None:
    labels = function.spec.labels
    assert [(label.name, label.id, str(label.type)) for label in labels] == [
        (category.name, label, "mask") for label, category in enumerate(CATEGORIES, start=1)
    ]


def test_masks_are_those_of_the_objects(function) -> None:
    shapes = detected(function)
    assert [(str(shape.type), shape.label_id) for shape in shapes] == [("mask", 1), ("mask", 2)]
    for shape, (x0, y0, x1, y1) in zip(shapes, BOXES.values(), strict=True):
        expected = np.zeros((40, 60), bool)
        expected[y0:y1, x0:x1] = True
        assert np.array_equal(decode_mask(shape.points, 40, 60), expected)


@pytest.mark.parametrize("threshold", [None, 0.0, 0.3, 0.7, 1.0])
def test_the_threshold_of_cvat_counts_and_without_one_that_of_the_model(function, threshold) -> None:
    least = 0.5 if threshold is None else threshold
    expected = [label for label, score in SCORES.items() if np.float32(score) >= np.float32(least)]
    assert [shape.label_id for shape in detected(function, threshold)] == expected


def test_masks_become_polygons_where_it_asks(function) -> None:
    shapes = detected(function, to_polygons=True)
    assert [str(shape.type) for shape in shapes] == ["polygon", "polygon"]
    for shape, (x0, y0, x1, y1) in zip(shapes, BOXES.values(), strict=True):
        rle = coco_mask.merge(coco_mask.frPyObjects([list(shape.points)], 40, 60))
        expected = np.zeros((40, 60), bool)
        expected[y0:y1, x0:x1] = True
        assert np.array_equal(coco_mask.decode(rle).astype(bool), expected)


def test_without_the_package_it_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "cvat_sdk", None)
    with pytest.raises(MissingExtraError, match="cvat-sdk"):
        cvat_function.create("model.safetensors")

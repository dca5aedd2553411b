"""``POST /predict``: what it says is what the predictor finds, in each form of asking."""

import io
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from inference_data import ColourModel, colour_header, rectangles
from PIL import Image
from pycocotools import mask as coco_mask
from serving_cases import BLUE, GREEN, RED, Serving, form, picture, png_of, serving

from finemask.inference.drift import drift_of
from finemask.inference.predictor import Predictor
from finemask.ops.images.image_look import LooksOfASet, look_of


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    with serving() as made:
        yield made


def test_an_image_is_answered_with_what_is_in_it(server: Serving) -> None:
    answer = server.predict(picture(red=RED, green=GREEN, blue=BLUE))
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    said = answer.json
    assert said["image"] == {"name": None, "width": 60, "height": 40, "drift": None}
    assert said["threshold"] == {"value": 0.5, "per_class": None}
    assert said["warnings"] == []
    assert set(said["timings_ms"]) == {"queue", "model", "total"}
    assert [{**one, "polygons": None} for one in said["instances"]] == [
        {"id": 1, "category_id": 3, "category": "red fig", "score": 0.9, "box": [*map(float, RED)],
         "area": 16 * 24, "polygons": None},
        {"id": 2, "category_id": 70, "category": "green/date", "score": 0.6, "box": [*map(float, GREEN)],
         "area": 20 * 15, "polygons": None},
    ]  # fmt: skip
    for one, (x0, y0, x1, y1) in zip(said["instances"], (RED, GREEN), strict=True):
        [ring] = one["polygons"]
        assert {*zip(ring[::2], ring[1::2], strict=True)} == {(x0, y0), (x1, y0), (x1, y1), (x0, y1)}


def test_a_picture_unlike_the_training_images_is_said_to_be_and_counted() -> None:
    """Trained on bright pictures; warming up is not counted."""
    bright = [np.full((40, 60, 3), 200 + level, np.uint8) for level in range(20)]
    header = replace(colour_header(), training_looks=LooksOfASet.of([look_of(image) for image in bright]))
    with serving(Predictor(ColourModel(), header)) as server:
        dark, like = server.predict(picture()).json, server.predict(png_of(bright[3])).json
        lines = set(server.ask("GET", "/metrics").body.decode().splitlines())
    expected = drift_of(rectangles(red=RED), header)
    assert expected is not None
    assert dark["image"]["drift"] == round(expected.value, 3) > 1
    [warning] = dark["warnings"]
    assert warning.startswith(f"the picture looks unlike all training images: {expected.value:.1f} times")
    assert like["image"]["drift"] < 0.1
    assert like["warnings"] == []
    assert {'finemask_drift_bucket{le="1.0"} 1.0', 'finemask_drift_bucket{le="+Inf"} 2.0'} <= lines


def test_masks_come_as_run_lengths_or_not_at_all(server: Serving) -> None:
    [one] = server.predict(picture(), "?masks=rle").json["instances"]
    assert "polygons" not in one
    expected = np.zeros((40, 60), dtype=np.uint8)
    expected[RED[1] : RED[3], RED[0] : RED[2]] = 1
    assert (coco_mask.decode(one["segmentation"]) == expected).all()
    [one] = server.predict(picture(), "?masks=none").json["instances"]
    assert not {"polygons", "segmentation"} & one.keys()


def test_a_form_gives_the_image_a_name(server: Serving) -> None:
    body, headers = form(picture())
    said = server.ask("POST", "/predict", body, headers).json
    assert said["image"]["name"] == "photo.png"
    assert len(said["instances"]) == 1


@pytest.mark.parametrize(
    ("query", "found", "threshold"),
    [
        ("?threshold=0.1", ["red fig", "green/date", "blue"], {"value": 0.1, "per_class": None}),
        ("?threshold=0.7", ["red fig"], {"value": 0.7, "per_class": None}),
        ("?threshold=0.1&classes=blue,red%20fig", ["red fig", "blue"], {"value": 0.1, "per_class": None}),
        ("?threshold=auto&classes=blue", [], {"value": 0.5, "per_class": None}),
    ],
)
def test_threshold_and_classes_choose(server: Serving, query: str, found: list[str], threshold: dict) -> None:
    said = server.predict(picture(red=RED, green=GREEN, blue=BLUE), query).json
    assert [one["category"] for one in said["instances"]] == found
    assert said["threshold"] == threshold


def test_the_overlay_is_that_of_the_instances(server: Serving) -> None:
    answer = server.predict(picture(), Accept="image/png, application/json;q=0.5")
    assert answer.headers["content-type"] == "image/png"
    drawn = server.predictor.predict(picture()).draw()
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(answer.body))), np.asarray(drawn))
    assert server.predict(picture(), Accept="text/html, */*;q=0.1").headers["content-type"] == "application/json"
    assert server.predict(picture(), Accept="text/html").status == 406


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("?threshold=2", "from 0 to 1"),
        ("?threshold=high", "threshold=high"),
        ("?threshold=nan", "from 0 to 1"),
        ("?threshold=recall_90", "holds no threshold"),
        ("?masks=png", "masks"),
        ("?classes=red", "Did you mean red fig"),
    ],
)
def test_a_parameter_that_cannot_be_is_named(server: Serving, query: str, words: str) -> None:
    answer = server.predict(picture(), query)
    assert (answer.status, answer.code) == (422, "bad-parameter")
    assert words in answer.json["error"]["message"]


def test_an_orientation_is_applied_as_in_predict(server: Serving) -> None:
    written = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(io.BytesIO(picture())).save(written, "PNG", exif=exif)
    said = server.predict(written.getvalue()).json
    assert (said["image"]["width"], said["image"]["height"]) == (40, 60)
    expected = server.predictor.predict(written.getvalue())
    assert [one["box"] for one in said["instances"]] == expected.boxes.tolist()

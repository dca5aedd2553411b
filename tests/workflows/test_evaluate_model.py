"""``evaluate model=`` and ``evaluate predictions=`` of what ``predict`` writes are the same numbers."""

import json

import numpy as np
import pytest
from inference_data import CATEGORIES
from PIL import Image

from finemask.workflows.evaluate_model import evaluate
from finemask.workflows.predict_images import predict

SIZES_HW = {11: (70, 110), 12: (96, 64), 3: (60, 60), 5: (200, 120)}  # by image id; one fits into a tile of 64 px


def numbers_in(metrics):
    """Each number by its place."""
    found = {}
    for key, value in metrics.items():
        if isinstance(value, dict):
            found |= {(key, *place): number for place, number in numbers_in(value).items()}
        elif isinstance(value, int | float):
            found[key,] = value
    return found


@pytest.fixture
def root(tmp_path):
    """A dataset without objects."""
    rng = np.random.default_rng(0)
    images = []
    for image_id, (height, width) in SIZES_HW.items():
        pixels = rng.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
        images.append({"id": image_id, "file_name": f"{image_id}.png", "height": height, "width": width})
        Image.fromarray(pixels).resize((width, height)).save(tmp_path / f"{image_id}.png")
    categories = [category._asdict() for category in CATEGORIES]
    (tmp_path / "val.json").write_text(json.dumps({"images": images, "annotations": [], "categories": categories}))
    return tmp_path


@pytest.mark.parametrize("words", [[], ["tile=64"], ["tile=64", "overlap=0.4", "suppression=mask"]], ids=" ".join)
def test_what_predict_writes_is_scored_as_the_model_is(root, tiny_model_file, words):
    """Every second find of a first run is an object, so that the numbers are neither 0 nor 1."""
    annotations, words = root / "val.json", ["detections_per_img=20", *words]

    def found():
        chosen = ["threshold=0", "save=[coco]", f"annotations={annotations}", *words]
        assert predict(tiny_model_file, f"{root}/*.png", root / "found", chosen).images == len(SIZES_HW)
        return json.loads((root / "found" / "predictions.json").read_text())

    objects = [
        {**one, "id": number, "iscrowd": 0, "area": one["bbox"][2] * one["bbox"][3]}
        for number, one in enumerate(found()[::2], start=1)
    ]
    annotations.write_text(json.dumps(json.loads(annotations.read_text()) | {"annotations": objects}))
    again = found()
    of_files = evaluate(predictions=root / "found" / "predictions.json", annotations=annotations, output=root / "one")
    words += ["data.val=val.json", "data.images=."]
    of_model = evaluate(tiny_model_file, root, output=root / "other", overrides=words)
    assert len(again) == of_model["detections"] > 40
    aps = [of_model[kind]["AP"] for kind in ("bbox", "segm")]
    assert all(0.02 < ap < 0.98 for ap in aps), aps
    expected, scored = numbers_in(of_model), numbers_in(of_files)
    assert {key: scored.get(key) for key in expected} == pytest.approx(expected, abs=1e-6)

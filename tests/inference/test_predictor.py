import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from inference_data import CATEGORIES, ColourModel, colour_header, rectangles
from PIL import Image
from tiff_data import tiff_bytes

import finemask
from finemask.errors import ConfigError, DataError, FinemaskError, ModelFileError
from finemask.inference.predictor import Predictor, load
from finemask.ops.images.image_reading import ImageReading
from finemask.workflows.detect_split import KEYS, with_options


def test_colour_order_position_and_mask_survive_from_file_to_instances(predictor, tmp_path):
    image = rectangles(red=(5, 6, 25, 20), green=(30, 10, 50, 36), blue=(52, 0, 60, 8))
    Image.fromarray(image).save(tmp_path / "a.png")
    found = predictor.predict(tmp_path / "a.png", threshold=0.0)
    assert found.class_names == ["red fig", "green/date", "blue"]
    assert found.boxes.tolist() == [[5, 6, 25, 20], [30, 10, 50, 36], [52, 0, 60, 8]]
    assert np.array_equal(found.masks[1], (image == [0, 255, 0]).all(-1))
    assert found.path == tmp_path / "a.png"
    assert np.array_equal(found.image, image)


def test_what_comes_back_has_the_form_of_what_was_given(predictor, tmp_path):
    image = rectangles(red=(5, 6, 25, 20))
    path = tmp_path / "folder" / "a.png"
    path.parent.mkdir()
    Image.fromarray(image).save(path)
    for single in (image, Image.fromarray(image), path, str(path), path.read_bytes()):
        assert predictor.predict(single).labels.tolist() == [1]
    for several in (path.parent, str(path.parent), f"{path.parent}/*.png", [path], (image,)):
        (one,) = predictor.predict(several)
        assert one.labels.tolist() == [1]


def test_images_are_read_as_in_training(tmp_path):
    image = rectangles(red=(5, 6, 25, 20), blue=(52, 0, 60, 8))
    path = tmp_path / "stack.tif"
    stored = np.zeros((*image.shape[:2], 5), np.uint16)
    stored[:, :, [4, 2, 0]] = image.astype(np.uint16) * 4
    path.write_bytes(tiff_bytes(stored * 0, stored))
    reading = ImageReading(page=1, range=(0, 1020), channels=(4, 2, 0))
    found = Predictor(ColourModel(), colour_header(reading=reading)).predict(path, threshold=0.0)
    assert np.array_equal(found.image, image)
    assert found.labels.tolist() == [1, 3]
    with pytest.raises(DataError, match="it has 2 pages of 60 × 40 px each"):
        Predictor(ColourModel(), colour_header()).predict(path)


def test_thresholds_automatic_per_class_and_given(tmp_path):
    header = colour_header(thresholds={"global": 0.5, "per_class": {"red fig": 0.95, "blue": 0.2}})
    predictor = Predictor(ColourModel(), header)
    assert predictor.thresholds == {"red fig": 0.95, "green/date": 0.5, "blue": 0.2}
    image = rectangles(red=(5, 6, 25, 20), green=(30, 10, 50, 36), blue=(52, 0, 60, 8))
    assert predictor.predict(image).labels.tolist() == [2, 3]  # scores 0.9, 0.6, 0.3
    assert predictor.predict(image, threshold=0.6).labels.tolist() == [1, 2]
    assert predictor.predict(image, threshold=1.0).labels.tolist() == []
    for wrong in (1.5, -0.1, "much", float("nan")):
        with pytest.raises(ConfigError, match="threshold"):
            predictor.predict(image, threshold=wrong)
    with pytest.raises(ConfigError, match="batch_size"):
        predictor.predict(image, batch_size=0)


def test_thresholds_of_an_operating_point():
    points = {"precision_90": {"global": 0.7, "per_class": {"blue": 0.25}}}
    header = colour_header(thresholds={"global": 0.5, "per_class": {}, "points": points})
    image = rectangles(red=(5, 6, 25, 20), green=(30, 10, 50, 36), blue=(52, 0, 60, 8))  # scores 0.9, 0.6, 0.3
    predictor = Predictor(ColourModel(), header)
    assert predictor.predict(image, threshold="precision_90").labels.tolist() == [1, 3]
    assert predictor.predict(image).labels.tolist() == [1, 2]
    with pytest.raises(ConfigError, match=r"no threshold for recall_90.*threshold=auto"):
        predictor.predict(image, threshold="recall_90")


def test_order_is_kept_and_no_more_than_a_batch_is_handed_over(predictor):
    sizes = [(40, 60), (30, 30), (40, 60), (30, 30), (50, 20)]
    images = [rectangles(*size, red=(number, 0, number + 5, 5)) for number, size in enumerate(sizes)]
    found = predictor.predict(images, batch_size=4)
    assert [instances.image_size_hw for instances in found] == sizes
    assert [instances.boxes[0, 0] for instances in found] == [0, 1, 2, 3, 4]
    assert [len(batch) for batch in predictor.model.batches] == [4, 1]


def test_a_stream_holds_no_more_than_a_batch(predictor):
    taken = []

    def images():
        for number in range(10):
            taken.append(number)
            yield finemask.inference.sources.NamedImage(str(number), rectangles(), None)

    next(predictor.stream(images(), batch_size=3))
    assert taken == [0, 1, 2]


def test_a_batch_too_large_for_the_gpu_is_halved_and_a_single_image_explained(predictor, monkeypatch):
    class Small(ColourModel):
        limit = 2

        def forward(self, images):
            if len(images) > self.limit:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(images)

    predictor.model = Small()
    found = predictor.predict([rectangles(red=(n, 0, n + 4, 4)) for n in range(7)], batch_size=7)
    assert [instances.boxes[0, 0] for instances in found] == list(range(7))
    predictor.model.limit = 0
    with pytest.raises(FinemaskError, match=r"60 × 40 px.*device=cpu"):
        predictor.predict(rectangles())


def test_a_missing_image_is_an_error_in_python(predictor):
    with pytest.raises(DataError, match="there is no such image"):
        predictor.predict("nowhere.png")


def test_a_model_file_needs_nothing_else_and_mixed_batches_equal_single_images(tiny_model_file):
    model = finemask.load(tiny_model_file, device="cpu")
    assert [category.id for category in model.categories] == [3, 70, 9]
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (h, w, 3)).astype(np.uint8) for h, w in [(90, 120), (64, 64), (90, 120)]]
    together = model.predict(images, threshold=0.0, batch_size=3)
    for image, batched in zip(images, together, strict=True):
        alone = model.predict(image, threshold=0.0)
        assert len(alone) > 10
        assert alone.to_coco() == batched.to_coco()
    again = load(tiny_model_file, device="cpu").predict(images[1], threshold=0.0)
    assert np.array_equal(again.scores, model.predict(images[1], threshold=0.0).scores)


def test_images_of_one_shape_may_go_through_the_model_together(tiny_model_file):
    model = finemask.load(tiny_model_file, device="cpu")
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (h, w, 3)).astype(np.uint8) for h, w in [(90, 120), (64, 64), (90, 120)]]
    alone = model.predict(images, threshold=0.0, batch_size=3)
    passes = []
    backbone = model.model.backbone
    handle = backbone.register_forward_pre_hook(lambda module, arguments: passes.append(len(arguments[0])))
    model.together = True
    together = model.predict(images, threshold=0.0, batch_size=3)
    handle.remove()
    assert passes == [2, 1]
    for one, other in zip(alone, together, strict=True):
        assert one.image_size_hw == other.image_size_hw
        assert len(one) == pytest.approx(len(other), abs=2)
        assert np.allclose(one.scores[:10], other.scores[:10], atol=1e-4)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(height=st.integers(1, 40), width=st.integers(1, 400))
@example(height=28, width=385)  # where scaling back rounds upwards
def test_no_image_size_is_too_odd(tiny_model_file, height, width):
    model = _cached(tiny_model_file)
    found = model.predict(np.full((height, width, 3), 90, np.uint8), threshold=0.0)
    assert found.image_size_hw == (height, width)
    assert found.masks.shape == (len(found), height, width)
    assert (found.boxes[:, 2:] <= [width, height]).all()


_models: dict = {}


def _cached(path):
    return _models.setdefault(path, load(path, device="cpu") if path not in _models else None)


def test_devices_and_files_that_are_not_there(tmp_path, tiny_model_file):
    with pytest.raises(ConfigError, match="device=abacus"):
        load(tiny_model_file, device="abacus")
    with pytest.raises(ModelFileError, match="no such model file"):
        finemask.load(tmp_path / "none.safetensors")


def test_importing_finemask_is_light_and_knows_its_names():
    code = (
        "import sys, finemask; assert 'torch' not in sys.modules and 'numpy' not in sys.modules;"
        "print(finemask.__version__, sorted(set(dir(finemask)) & {'load', 'Instances', '__version__'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("['Instances', '__version__', 'load']")
    assert finemask.Instances.__name__ == "Instances"
    with pytest.raises(AttributeError, match="nothing"):
        finemask.nothing  # noqa: B018


@pytest.mark.parametrize("suppression", [None, "soft_linear", "mask"])
def test_masks_are_made_for_what_is_reported_alone(tiny_model_file, suppression):
    """Where a mask has no part in what is kept: what is reported is the same, and so is its order."""
    predictor = load(tiny_model_file)
    options = dict.fromkeys(KEYS) | {"suppression": suppression}
    predictor.model = with_options(predictor.model, predictor.header, options)
    image = np.random.default_rng(0).integers(0, 255, (256, 320, 3)).astype(np.uint8)
    rois = []
    predictor.model.roi_heads.mask_head.register_forward_pre_hook(lambda _, given: rois.append(len(given[0])))
    everything = predictor.predict(image, threshold=0.0)
    assert len(everything) > 20
    names = [category.name for category in CATEGORIES]
    middle = float(np.median(everything.scores))
    for threshold in (middle, {names[0]: middle, names[1]: 0.0, names[2]: 1.0}):
        found, expected = predictor.predict(image, threshold=threshold), everything.above(threshold)
        assert np.array_equal(found.boxes, expected.boxes)
        assert np.array_equal(found.scores, expected.scores)
        assert np.array_equal(found.labels, expected.labels)
        assert (found.masks == expected.masks).mean() > 1 - 1e-6
        assert (rois[-1] == len(found)) == (suppression != "mask")

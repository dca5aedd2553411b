"""Everything that people hand to ``predict`` and ``stream``, and what comes back when some of it cannot be read."""

import io
import logging
import os
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from inference_data import ColourModel, colour_header, rectangles
from PIL import Image

from finemask.errors import ConfigError, DataError
from finemask.inference.predictor import Predictor

RED = rectangles(red=(5, 6, 25, 20))
GREY = np.full((40, 60), 90, np.uint8)
RGBA = np.dstack([RED, np.full((40, 60), 7, np.uint8)])


def png(image=RED) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def chw(image=RED) -> torch.Tensor:
    return torch.from_numpy(image.copy()).permute(2, 0, 1)


class Named(os.PathLike):
    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return str(self.path)


ONE_IMAGE = {
    "RGB array": RED,
    "RGBA array": RGBA,
    "RGBA picture": Image.fromarray(RGBA),
    "array that is a view": RED[:, ::-1][:, ::-1],
    "array of floats": RED / 255,
    "tensor": chw(),
    "tensor of contiguous memory": chw().contiguous(),
    "RGBA tensor": chw(RGBA),
    "float tensor": chw() / 255,
    "half tensor": (chw() / 255).half(),
    "tensor with a gradient": (chw() / 255).requires_grad_(),
    "bytes": png(),
    "bytearray": bytearray(png()),
    "memoryview": memoryview(png()),
}


@pytest.mark.parametrize("kind", ONE_IMAGE)
def test_one_image_gives_its_instances(predictor, kind):
    found = predictor.predict(ONE_IMAGE[kind])
    assert found.boxes.tolist() == [[5, 6, 25, 20]]
    assert np.array_equal(found.image, RED)
    (streamed,) = predictor.stream(ONE_IMAGE[kind])
    assert streamed.boxes.tolist() == found.boxes.tolist()


@pytest.mark.parametrize(
    "image", [GREY, GREY[:, :, None], torch.from_numpy(GREY), torch.from_numpy(GREY)[None], png(GREY)]
)
def test_grey_is_grey_in_every_form(predictor, image):
    assert np.array_equal(predictor.predict(image).image, np.repeat(GREY[:, :, None], 3, axis=2))


def test_files_that_are_open_and_paths_of_every_kind(predictor, tmp_path):
    path = tmp_path / "a photo.png"
    path.write_bytes(png())
    with path.open("rb") as file:
        found = predictor.predict(file)
        assert (found.name, found.labels.tolist()) == ("a photo.png", [1])
        assert predictor.predict(file).labels.tolist() == [1]  # and once more
    written = io.BytesIO()
    Image.fromarray(RED).save(written, "PNG")  # stands at its end now
    assert predictor.predict(written).labels.tolist() == [1]
    for one in (path, str(path), Named(path)):
        assert predictor.predict(one).path == path
    text = io.StringIO("text")
    with pytest.raises(DataError, match=r"image: the file was opened as text"):
        predictor.predict(text)


def test_several_images_are_a_list_whatever_holds_them(predictor, tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    images = [RED, chw(), tmp_path / "a.png", io.BytesIO(png())]
    for source in (images, tuple(images), (image for image in images), iter(images), map(np.asarray, [RED] * 4)):
        found = predictor.predict(source)
        assert [instances.labels.tolist() for instances in found] == [[1]] * 4
    assert [instances.name for instances in predictor.predict(images)] == ["image", "image_2", "a.png", "image_3"]
    assert predictor.predict([]) == predictor.predict(()) == predictor.predict(iter([])) == []
    assert list(predictor.stream([])) == []


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (chw()[None], r"this is \[1, 3, 40, 60\].*list\(batch\)"),
        (torch.from_numpy(RED), r"this is \[40, 60, 3\].*permute"),
        (chw().float(), r"must be 0 to 1, these are 0 to 255.*before it is normalised"),
        (chw() / 255 - 0.5, "must be 0 to 1"),
        (torch.full((3, 4, 4), float("nan")), "must be 0 to 1"),
        (chw().long(), "must be uint8.*int64"),
        (RED.transpose(2, 0, 1), "must be uint8.*transpose"),
        (np.zeros((0, 4, 3), np.uint8), "must be uint8"),
        ({"image": RED}, "cannot be read from a dict"),
        ([(RED, 1)], "cannot be read from a tuple"),
        (None, "cannot be read from a NoneType"),
        (b"", "empty"),
        ("", "empty"),
    ],
)
def test_what_is_no_image_is_said(predictor, image, message):
    with pytest.raises(DataError, match=message):
        predictor.predict(image)


def test_a_stream_takes_no_more_than_it_needs(predictor):
    taken = []

    def endless():
        for number in count():
            taken.append(number)
            yield rectangles(red=(number, 0, number + 5, 5))

    found = predictor.stream(endless(), batch_size=2)
    assert [next(found).boxes[0, 0] for _ in range(3)] == [0, 1, 2]
    assert taken == [0, 1, 2, 3]


def test_a_buffer_that_is_used_again_does_not_change_what_was_found(predictor):
    buffer = RED.copy()

    def camera():
        for red in ((5, 6, 25, 20), (30, 10, 50, 36)):
            buffer[:] = rectangles(red=red)
            yield buffer

    first, second = predictor.predict(camera())
    assert (first.boxes[0, 0], second.boxes[0, 0]) == (5, 30)
    assert np.array_equal(first.image, RED)
    for image in (buffer, torch.from_numpy(buffer).permute(2, 0, 1)):
        assert not np.shares_memory(predictor.predict(image).image, buffer)


@pytest.fixture
def mixed(tmp_path) -> list:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.jpg").write_bytes(b"junk")
    return [RED, tmp_path / "bad.jpg", png()[:60], tmp_path / "gone.png", tmp_path / "empty", RED]


def test_one_bad_file_ends_it_or_leaves_its_place_empty(predictor, mixed, caplog):
    with pytest.raises(DataError, match=r"bad\.jpg"):
        predictor.predict(mixed)
    with caplog.at_level(logging.WARNING):
        found = predictor.predict(mixed, on_error="skip")
    assert [instances is not None for instances in found] == [True, False, False, False, False, True]
    assert found[-1].labels.tolist() == [1]
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 4
    assert "bad.jpg: not an image" in caplog.text
    assert "image_2: " in caplog.text  # encoded bytes are called what their instances would be
    for size in (1, 4):
        streamed = list(predictor.stream(iter(mixed), batch_size=size, on_error="skip"))
        assert [one is not None for one in streamed] == [True, False, False, False, False, True]
    errors: list[DataError] = []
    assert predictor.predict(mixed[1], on_error=errors.append) is None
    assert [Path(error.where).name for error in errors] == ["bad.jpg"]
    with pytest.raises(ConfigError, match="on_error='ignore'"):
        predictor.stream(mixed, on_error="ignore")  # said at once, not when the first image is asked for


def test_thresholds_by_class():
    header = colour_header(thresholds={"global": 0.5, "per_class": {"red fig": 0.95, "blue": 0.2}})
    predictor = Predictor(ColourModel(), header)
    image = rectangles(red=(5, 6, 25, 20), green=(30, 10, 50, 36), blue=(52, 0, 60, 8))  # scores 0.9, 0.6, 0.3
    assert predictor.predict(image).labels.tolist() == [2, 3]
    assert predictor.predict(image, threshold={"red fig": 0.9}).labels.tolist() == [1, 2, 3]
    assert predictor.predict(image, threshold={"green/date": 0.7, "blue": 1}).labels.tolist() == []
    assert predictor.predict(image, threshold={}).labels.tolist() == [2, 3]
    with pytest.raises(ConfigError, match=r"class 'blu', which this model does not know. Did you mean blue\?"):
        predictor.predict(image, threshold={"blu": 0.5})
    for wrong in (1.5, "much", None, float("nan")):
        with pytest.raises(ConfigError, match="threshold of blue is"):
            predictor.predict(image, threshold={"blue": wrong})

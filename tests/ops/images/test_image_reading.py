"""Pages, ranges and channels of files that hold more than one 8-bit picture; values are worked out by hand."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image
from tiff_data import tiff_bytes

from finemask.errors import ConfigError, DataError, UndecidedImageError
from finemask.ops.images.decode import decode_image
from finemask.ops.images.image_kinds import kind_of
from finemask.ops.images.image_reading import ImageReading

GREY10 = np.array([[0, 1, 511, 1023]], np.uint16)
STACK = [np.full((2, 3), 10 * k, np.uint8) for k in range(4)]
FIVE = np.arange(60, dtype=np.uint16).reshape(4, 3, 5) * 100


def png(values: np.ndarray) -> bytes:
    return cv2.imencode(".png", values[:, :, ::-1] if values.ndim == 3 else values)[1].tobytes()


def refused(content: bytes, **reading) -> UndecidedImageError:
    with pytest.raises(UndecidedImageError) as raised:
        decode_image(content, None, ImageReading(**reading))
    return raised.value


@pytest.mark.parametrize("encode", [tiff_bytes, png])
def test_ten_bits_in_sixteen_are_not_black(encode):
    error = refused(encode(GREY10))
    assert error.choice == "range"
    assert "greatest value is 1,023 (10 bits)" in error.what
    assert "4 of 255 at its brightest" in error.what
    assert "'data.image.range=[0,1023]', or data.image.range=full" in error.remedy
    ten = decode_image(encode(GREY10), None, ImageReading(range=(0, 1023)))
    assert ten[0, :, 0].tolist() == [0, 0, 127, 255]  # 255 / 1023 = 0.249; 511 * 255 / 1023 = 127.4
    full = decode_image(encode(GREY10), None, ImageReading(range="full"))
    assert full[0, :, 2].tolist() == [0, 0, 2, 4]
    own = decode_image(encode(GREY10[:, :3]), None, ImageReading(range="image"))
    assert own[0, :, 1].tolist() == [0, 0, 255]


@pytest.mark.parametrize(
    "encode", [lambda rgb: tiff_bytes(rgb, meaning=2), lambda rgb: tiff_bytes(rgb, meaning=2, apart=True), png]
)
def test_ten_bits_of_colour(encode):
    rgb = np.stack([GREY10, GREY10[:, ::-1], GREY10 // 2], axis=2)
    assert "1,023 (10 bits)" in refused(encode(rgb)).what
    out = decode_image(encode(rgb), None, ImageReading(range=(0, 1023)))
    assert out[0].tolist() == [[0, 255, 0], [0, 127, 0], [127, 0, 64], [255, 0, 127]]
    wide = (rgb.astype(np.uint32) * 64).astype(np.uint16)  # of the whole range: the high byte, as ever
    np.testing.assert_array_equal(decode_image(encode(wide)), wide >> 8)


def test_twelve_bits_are_black_and_thirteen_are_dark_but_seen():
    assert refused(tiff_bytes(np.array([[4095]], np.uint16))).example == "[0,4095]"
    assert decode_image(tiff_bytes(np.array([[8191]], np.uint16))).max() == 32
    assert decode_image(tiff_bytes(np.zeros((2, 2), np.uint16))).max() == 0  # black whatever the range


def test_eight_bits_are_left_alone_whatever_is_chosen():
    rgb = np.random.default_rng(0).integers(0, 9, (5, 6, 3), dtype=np.uint8)
    for content in (png(rgb), tiff_bytes(rgb, meaning=2), tiff_bytes(rgb, meaning=2, apart=True)):
        for reading in (ImageReading(), ImageReading(range=(0, 1023)), ImageReading(page=0, range="image")):
            np.testing.assert_array_equal(decode_image(content, None, reading), rgb)


def test_floats_and_signed_values_say_their_range():
    values = np.array([[-200.5, 0.0, 790.0]], np.float32)
    assert "these are -200.5 to 790" in refused(tiff_bytes(values)).what
    assert refused(tiff_bytes(values)).example == "[-200.5,790]"
    out = decode_image(tiff_bytes(values.astype(np.float64)), None, ImageReading(range=(-200.5, 790)))
    assert out[0, :, 0].tolist() == [0, 52, 255]
    assert (
        "signed 16-bit values from -200 to 790 do not fit 16 bits" in refused(tiff_bytes(values.astype(np.int16))).what
    )
    assert decode_image(tiff_bytes(values.astype(np.int16)), None, ImageReading(range=(0, 500)))[0, :, 0].tolist() == [
        0,
        0,
        255,
    ]
    holes = np.array([[np.nan, 1.0, 2.0]], np.float32)
    assert "no numbers" in refused(tiff_bytes(holes)).what
    assert decode_image(tiff_bytes(holes), None, ImageReading(range=(0, 2)))[0, :, 0].tolist() == [0, 128, 255]
    assert "read as 0 to 1 the image would be black" in refused(tiff_bytes(np.full((1, 1), 0.02, np.float32))).what


def test_pages():
    error = refused(tiff_bytes(*STACK))
    assert error.what == "it has 4 pages of 3 × 2 px each"
    assert "data.image.page=0, up to 3" in error.remedy
    for page in range(4):
        assert decode_image(tiff_bytes(*STACK), None, ImageReading(page=page)).max() == 10 * page
    assert "page 4, counted from 0, was chosen" in refused(tiff_bytes(*STACK), page=4).what
    assert "it has 1 page" in refused(png(STACK[0]), page=1).what
    jpeg = io.BytesIO()
    Image.fromarray(STACK[1]).convert("RGB").save(jpeg, "JPEG")
    assert "page 1" in refused(jpeg.getvalue(), page=1).what
    animation = io.BytesIO()
    frames = [Image.new("RGB", (3, 2), colour) for colour in ("red", "blue")]
    frames[0].save(animation, "GIF", save_all=True, append_images=frames[1:])
    assert decode_image(animation.getvalue())[0, 0].tolist() == [255, 0, 0]  # an animation begins with its first
    assert decode_image(animation.getvalue(), None, ImageReading(page=1))[0, 0].tolist() == [0, 0, 255]


@pytest.mark.parametrize("apart", [False, True])
def test_channels(apart):
    five = tiff_bytes(FIVE, apart=apart)
    error = refused(five)
    assert error.choice == "channels"
    assert error.what.startswith("it has 5 channels of 16-bit values from 0 to 5,900, and does not say which")
    out = decode_image(five, None, ImageReading(channels=(4, 2, 0), range=(0, 5100)))
    np.testing.assert_array_equal(out, np.minimum(np.rint(FIVE[:, :, [4, 2, 0]] / 20), 255))
    one = decode_image(five, None, ImageReading(channels=(3,), range=(0, 5100)))
    np.testing.assert_array_equal(one, np.repeat(np.minimum(np.rint(FIVE[:, :, 3:4] / 20), 255), 3, axis=2))
    assert "5 channels, 0 to 4; channel 5 was chosen" in refused(five, channels=(0, 1, 5)).what
    two = (FIVE[:, :, :2] % 256).astype(np.uint8)
    assert "it has 2 channels of 8-bit values" in refused(tiff_bytes(two, apart=apart)).what
    np.testing.assert_array_equal(decode_image(tiff_bytes(two, apart=apart, extra=[2]))[:, :, 0], two[:, :, 0])  # alpha
    np.testing.assert_array_equal(
        decode_image(tiff_bytes(two, apart=apart), None, ImageReading(channels=(1, 0, 1))), two[:, :, [1, 0, 1]]
    )


def test_channels_of_ordinary_files():
    rgb = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decode_image(png(rgb), None, ImageReading(channels=(2, 1, 0))), rgb[:, :, ::-1])
    jpeg = io.BytesIO()
    Image.fromarray(rgb).save(jpeg, "JPEG")
    plain = decode_image(jpeg.getvalue())
    np.testing.assert_array_equal(
        decode_image(jpeg.getvalue(), None, ImageReading(channels=(1,))), plain[:, :, [1] * 3]
    )
    near_infrared = np.concatenate([rgb, rgb[:, :, :1] // 2], axis=2)
    four = tiff_bytes(near_infrared, meaning=2)
    np.testing.assert_array_equal(decode_image(four), rgb)
    np.testing.assert_array_equal(
        decode_image(four, None, ImageReading(channels=(3, 0, 1))), near_infrared[:, :, [3, 0, 1]]
    )
    assert "it has 1 channel, number 0; channel 2 was chosen" in refused(png(rgb[:, :, 0]), channels=(0, 1, 2)).what


def test_rotation_of_what_pillow_does_not_read():
    values = np.arange(30, dtype=np.uint16).reshape(5, 6) * 2000
    for orientation in range(1, 9):
        plain = Image.fromarray((values // 257).astype(np.uint8))
        exif = Image.Exif()
        exif[0x0112] = orientation
        turned = io.BytesIO()
        plain.save(turned, "PNG", exif=exif)
        out = decode_image(tiff_bytes(values, orientation=orientation))
        expected = decode_image(turned.getvalue())
        assert out.shape == expected.shape
        assert np.abs(out.astype(int) - expected).max() <= 1  # rounded there, cut here
        if orientation >= 5:
            assert decode_image(tiff_bytes(values, orientation=orientation), (5, 6)).shape == (5, 6, 3)
    with pytest.raises(DataError, match="annotations say 9 × 9"):
        decode_image(tiff_bytes(values), (9, 9))


def test_a_colour_image_of_16_bits_that_only_pillow_has_open_is_not_stretched(tmp_path):
    rgb = np.stack([GREY10 * 60] * 3, axis=2)
    (tmp_path / "a.png").write_bytes(png(rgb))
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(decode_image(image), rgb >> 8)
    with Image.open(tmp_path / "a.png") as image, pytest.raises(DataError, match="only the high byte"):
        decode_image(image, None, ImageReading(range=(0, 1023)))


@pytest.mark.parametrize(
    ("content", "kind", "values"),
    [
        (tiff_bytes(GREY10), "TIFF, 16-bit grey", (0, 1023)),
        (png(GREY10), "PNG, 16-bit grey", (0, 1023)),
        (png(np.stack([GREY10] * 3, axis=2)), "PNG, 16-bit RGB", (0, 1023)),
        (png(np.zeros((2, 2, 3), np.uint8)), "PNG, 8-bit RGB", None),
        (tiff_bytes(np.zeros((2, 2), np.uint8)), "TIFF, 8-bit grey", None),
        (tiff_bytes(np.ones((2, 2, 3), np.float32), meaning=2), "TIFF, 32-bit float RGB", (1, 1)),
    ],
)
def test_kinds_of_files(tmp_path, content, kind, values):
    (tmp_path / "a").write_bytes(content)
    assert kind_of(tmp_path / "a") == (kind, values)


def test_kinds_of_chosen_pages_and_channels(tmp_path):
    (tmp_path / "a").write_bytes(tiff_bytes(FIVE, FIVE * 2))
    found = kind_of(tmp_path / "a", ImageReading(page=1, channels=(0,)))
    assert found == ("TIFF, 16-bit 5 channels, page of 2", (0, 11000))


@pytest.mark.parametrize(
    "options",
    [
        {"page": -1}, {"page": 1.5}, {"page": True}, {"range": "most"}, {"range": [5, 5]}, {"range": [0]}, {"range": 7},
        {"range": [0, float("inf")]}, {"channels": [0, 1]}, {"channels": "rgb"}, {"channels": [0, 1, -2]}, {"pages": 1},
    ],
)  # fmt: skip
def test_choices_that_cannot_be(options):
    with pytest.raises(ConfigError, match=r"image\."):
        ImageReading.of(options)


def test_choices_survive_their_json_and_give_way_to_what_is_typed():
    stored = ImageReading(page=2, range=(0, 4095), channels=(2, 1, 0))
    assert ImageReading.of(stored.to_json()) == stored
    assert ImageReading.of(ImageReading().to_json()) == ImageReading.of(None) == ImageReading()
    typed = ImageReading.of({"page": None, "range": "full", "channels": None}, stored)
    assert typed == ImageReading(page=2, range="full", channels=(2, 1, 0))
    assert ImageReading(channels=3) == ImageReading(channels=(3,))
    assert str(stored) == "page 2; values 0 to 4095; channels 2, 1, 0"
    assert str(ImageReading()) == ""

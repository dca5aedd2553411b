"""The decoder against images whose pixels are known, in every mode and container."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from finemask.errors import DataError
from finemask.ops.images.decode import decode_image

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = RGB[:, :, 0].copy()


def encoded(image: Image.Image, suffix: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, suffix, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", ["PNG", "TIFF", "BMP", "WEBP"])
def test_rgb_is_exact_in_lossless_containers(tmp_path, suffix):
    path = tmp_path / f"a.{suffix.lower()}"
    path.write_bytes(encoded(Image.fromarray(RGB), suffix, **({"lossless": True} if suffix == "WEBP" else {})))
    for source in (path, str(path), path.read_bytes(), Image.open(path)):
        out = decode_image(source)
        assert out.dtype == np.uint8
        assert out.flags.c_contiguous
        np.testing.assert_array_equal(out, RGB)


def test_channel_order_is_red_green_blue():
    red = np.zeros((8, 8, 3), np.uint8)
    red[:, :, 0] = 255
    out = decode_image(encoded(Image.fromarray(red), "JPEG", quality=95))
    assert out[..., 0].min() > 240
    assert out[..., 1:].max() < 15


@pytest.mark.parametrize("suffix", ["PNG", "TIFF"])
def test_grey_alpha_palette_and_one_bit(suffix):
    grey = np.repeat(GREY[:, :, None], 3, axis=2)
    alpha = np.arange(35, dtype=np.uint8).reshape(5, 7)
    np.testing.assert_array_equal(decode_image(encoded(Image.fromarray(GREY), suffix)), grey)
    np.testing.assert_array_equal(decode_image(encoded(Image.fromarray(np.dstack([GREY, alpha])), suffix)), grey)
    # the colour under transparent pixels counts: alpha is dropped, not composited
    np.testing.assert_array_equal(decode_image(encoded(Image.fromarray(np.dstack([RGB, alpha])), suffix)), RGB)
    palette = Image.fromarray(GREY % 4).convert("P")
    palette.putpalette([10, 20, 30, 200, 100, 50, 0, 0, 0, 255, 255, 255])
    table = np.array([[10, 20, 30], [200, 100, 50], [0, 0, 0], [255, 255, 255]], np.uint8)
    np.testing.assert_array_equal(decode_image(encoded(palette, suffix)), table[GREY % 4])
    bits = Image.fromarray(GREY > 100)
    np.testing.assert_array_equal(
        decode_image(encoded(bits, suffix)), np.where(GREY > 100, 255, 0)[..., None].repeat(3, 2)
    )


def test_transparent_palette_keeps_its_colour():
    palette = Image.fromarray(np.zeros((2, 2), np.uint8)).convert("P")
    palette.putpalette([9, 8, 7])
    out = decode_image(encoded(palette, "PNG", transparency=0))
    assert out.tolist() == [[[9, 8, 7]] * 2] * 2


def test_cmyk_jpeg_is_close_to_its_rgb():
    flat = np.full((16, 16, 3), (200, 80, 40), np.uint8)
    out = decode_image(encoded(Image.fromarray(flat).convert("CMYK"), "JPEG", quality=100))
    assert np.abs(out.astype(int) - flat).max() <= 4


@pytest.mark.parametrize("suffix", ["PNG", "TIFF"])
def test_16_bit_is_divided_by_257(suffix):
    values = np.array([[0, 128, 129, 257, 4095, 32767, 65535]], np.uint16)
    out = decode_image(encoded(Image.fromarray(values), suffix))
    assert out[0, :, 0].tolist() == [round(int(v) / 257) for v in values[0]] == [0, 0, 1, 1, 16, 127, 255]


def test_wide_integers_beyond_16_bits_are_refused():
    assert decode_image(encoded(Image.fromarray(np.full((2, 2), 65535, np.int32)), "TIFF")).min() == 255
    with pytest.raises(DataError, match="16 bits"):
        decode_image(encoded(Image.fromarray(np.full((2, 2), 70000, np.int32)), "TIFF"))


def test_floats_are_zero_to_one():
    out = decode_image(encoded(Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32)), "TIFF"))
    assert out[0, :, 0].tolist() == [0, 128, 255]
    for bad in (2.0, -0.1, np.nan):
        with pytest.raises(DataError, match="0 to 1"):
            decode_image(encoded(Image.fromarray(np.array([[bad]], np.float32)), "TIFF"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    image = Image.fromarray(RGB)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.png"
    image.save(path, exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    np.testing.assert_array_equal(decode_image(path), upright)
    np.testing.assert_array_equal(decode_image(path, upright.shape[:2]), upright)
    if orientation >= 5:  # the annotations were made on the raw pixels
        np.testing.assert_array_equal(decode_image(path, (5, 7)), RGB)
    with pytest.raises(DataError, match=r"a\.png: the image is .* annotations say 9 × 9"):
        decode_image(path, (9, 9))


@pytest.mark.parametrize("content", [b"", b"not an image", encoded(Image.fromarray(RGB), "PNG")[:60]])
def test_damaged_files_name_themselves(tmp_path, content):
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.png"):
        decode_image(path)
    with pytest.raises(DataError):
        decode_image(content)


@pytest.mark.filterwarnings("ignore:Truncated File Read")  # of the TIFF plugin
@pytest.mark.parametrize("suffix", ["JPEG", "TIFF", "BMP", "WEBP", "PNG"])
def test_truncation_anywhere_is_an_error_or_an_image(suffix):
    whole = encoded(Image.fromarray(np.tile(RGB, (6, 6, 1))), suffix)
    for length in range(0, len(whole), max(1, len(whole) // 40)):
        try:
            assert decode_image(whole[:length]).shape == (30, 42, 3)
        except DataError as error:
            assert "encoded image" in str(error)  # noqa: PT017 - some truncations lose nothing that matters


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(DataError, match="no such image"):
        decode_image(tmp_path / "absent.png")
    with pytest.raises(DataError):
        decode_image(tmp_path)


def test_arrays_are_checked():
    np.testing.assert_array_equal(decode_image(RGB), RGB)
    np.testing.assert_array_equal(decode_image(RGB[:, ::-1]), RGB[:, ::-1])
    assert decode_image(RGB[:, ::-1]).flags.c_contiguous
    np.testing.assert_array_equal(decode_image(GREY), np.repeat(GREY[:, :, None], 3, axis=2))
    np.testing.assert_array_equal(decode_image(GREY[:, :, None]), np.repeat(GREY[:, :, None], 3, axis=2))
    np.testing.assert_array_equal(decode_image(np.dstack([RGB, GREY])), RGB)  # alpha is dropped, as that of files is
    for array in (RGB, GREY):
        assert not np.shares_memory(decode_image(array), array)
    for bad in (RGB.astype(np.float32), RGB.transpose(2, 0, 1), np.zeros((4, 4, 2), np.uint8), RGB[:0]):
        with pytest.raises(DataError, match="uint8"):
            decode_image(bad)
    with pytest.raises(DataError, match="annotations say"):
        decode_image(RGB, (7, 5))


@pytest.mark.parametrize("quality", [30, 95])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0", "4:1:1"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"progressive": True},
        {"restart_marker_blocks": 2},
        {"keep_rgb": True},
        {"icc_profile": b"any"},
        {"comment": b"a comment with \xff\xd9 in it"},
        {"dpi": (300, 300), "optimize": True},
    ],
)
def test_jpeg_pixels_are_those_of_pillow(quality, subsampling, options):
    rng = np.random.default_rng(quality)
    for shape in ((1, 1, 3), (9, 33, 3), (50, 47, 3)):
        smooth = np.cumsum(rng.integers(-9, 10, shape), axis=1).astype(np.uint8)
        chroma = {} if "keep_rgb" in options else {"subsampling": subsampling}
        content = encoded(Image.fromarray(smooth), "JPEG", quality=quality, **chroma, **options)
        np.testing.assert_array_equal(decode_image(content), np.asarray(Image.open(io.BytesIO(content))))


@pytest.mark.parametrize("progressive", [False, True])
def test_damaged_jpeg_files_are_refused_or_read_as_pillow_does(progressive):
    rng = np.random.default_rng(3)
    smooth = np.cumsum(rng.integers(-9, 10, (40, 40, 3)), axis=1).astype(np.uint8)
    whole = encoded(Image.fromarray(smooth), "JPEG", quality=90, progressive=progressive)
    for at in range(0, len(whole), 5):
        for damaged in (
            whole[:at] + b"\xff" + whole[at + 1 :],
            whole[:at] + bytes([int(rng.integers(256))]) + whole[at + 1 :],
            whole[:at] + whole[at + 4 :],
            whole[:at] + b"\xff\xd9",
        ):
            try:
                expected = np.asarray(Image.open(io.BytesIO(damaged)).convert("RGB"))
            except Exception:  # Pillow raises nearly anything
                with pytest.raises(DataError):
                    decode_image(damaged)
            else:
                np.testing.assert_array_equal(decode_image(damaged), expected)

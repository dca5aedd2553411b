"""Windows of an open image against the same windows of ``decode_image``, whatever the file is."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiff_data import tiff_bytes

from finemask.errors import ConfigError, DataError, MissingExtraError, UndecidedImageError
from finemask.ops.images import window_reader
from finemask.ops.images.decode import decode_image
from finemask.ops.images.image_reading import ImageReading
from finemask.ops.images.window_reader import PillowReader, VipsReader, WholeReader, open_image

HEIGHT, WIDTH = 70, 45
WINDOWS = [(0, 0, 20, 20), (25, 0, 45, 20), (3, 10, 40, 41), (0, 50, 45, 70), (44, 69, 45, 70)]


def noise(*shape: int, high: int = 256, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(1).integers(0, high, shape, dtype=dtype)


def images() -> dict[str, Image.Image]:
    colour = Image.fromarray(noise(HEIGHT, WIDTH, 3))
    return {
        "rgb.png": colour,
        "rgb.jpg": colour,
        "rgb.tif": colour,
        "rgb.bmp": colour,
        "grey.png": colour.convert("L"),
        "grey16.png": Image.fromarray(noise(HEIGHT, WIDTH, high=65536, dtype=np.uint16)),
        "grey16.tif": Image.fromarray(noise(HEIGHT, WIDTH, high=65536, dtype=np.uint16)),
        "palette.png": colour.convert("P"),
        "bilevel.png": colour.convert("1"),
        "alpha.png": Image.fromarray(noise(HEIGHT, WIDTH, 4)),
        "grey_alpha.png": Image.fromarray(noise(HEIGHT, WIDTH, 2), "LA"),
        "cmyk.jpg": colour.convert("CMYK"),
        "cmyk.tif": colour.convert("CMYK"),
        "float.tif": Image.fromarray(noise(HEIGHT, WIDTH).astype(np.float32) / 255),
    }


@pytest.fixture(params=images())
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / request.param
    images()[request.param].save(path)
    return path


@pytest.mark.parametrize("reader", ["pillow", "vips"])
def test_windows_are_those_of_the_one_decoder(path, reader):
    if reader == "vips":
        pytest.importorskip("pyvips")
    whole = decode_image(path)
    with open_image(path, (HEIGHT, WIDTH), reader) as image:
        for x0, y0, x1, y1 in WINDOWS:
            window = image.read((x0, y0, x1, y1))
            assert window.dtype == np.uint8
            difference = np.abs(window.astype(int) - whole[y0:y1, x0:x1])
            assert difference.max() == 0, f"{path.name} {(x0, y0, x1, y1)}"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("annotated", ["upright", "raw"])
@pytest.mark.parametrize("reader", ["pillow", "auto"])
def test_exif_orientation_is_applied_to_windows(tmp_path, orientation, annotated, reader):
    path = tmp_path / "photo.png"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(noise(HEIGHT, WIDTH, 3)).save(path, exif=exif)
    turned = annotated == "upright" and orientation >= 5
    size_hw = (WIDTH, HEIGHT) if turned else (HEIGHT, WIDTH)
    whole = decode_image(path, size_hw)
    assert whole.shape[:2] == size_hw
    with open_image(path, size_hw, reader) as image:
        for a0, b0, a1, b1 in WINDOWS:
            x0, y0, x1, y1 = (b0, a0, b1, a1) if turned else (a0, b0, a1, b1)
            assert np.array_equal(image.read((x0, y0, x1, y1)), whole[y0:y1, x0:x1])


def test_a_rotated_file_is_left_to_pillow(tmp_path, monkeypatch):
    monkeypatch.setattr(window_reader, "find_spec", lambda name: object())
    monkeypatch.setattr(VipsReader, "open", lambda path, reading: pytest.fail("vips was asked"))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(HEIGHT, WIDTH, 3)).save(tmp_path / "photo.jpg", exif=exif)
    with open_image(tmp_path / "photo.jpg", (WIDTH, HEIGHT), "vips") as image:
        assert isinstance(image, PillowReader)


def test_the_size_must_be_the_annotated_one(tmp_path):
    Image.new("RGB", (45, 70)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: the image is 45 × 70 px, its annotations say 70 × 45 \(width"):
        open_image(tmp_path / "a.png", (45, 70))


def test_pillow_limits_hold_everywhere_else(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.new("RGB", (45, 70)).save(tmp_path / "a.png")
    with open_image(tmp_path / "a.png", (70, 45)) as image:
        assert image.read((0, 0, 9, 9)).shape == (9, 9, 3)
    assert Image.MAX_IMAGE_PIXELS == 100
    with pytest.raises(DataError, match="too large"):
        decode_image(tmp_path / "a.png")


def damage(path: Path) -> Path:
    Image.fromarray(noise(300, 300, 3)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
@pytest.mark.parametrize("reader", ["pillow", "vips"])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, name, reader):
    if reader == "vips":
        pytest.importorskip("pyvips")

    def read_all() -> None:
        with open_image(damage(tmp_path / name), (300, 300), reader) as image:
            for y in range(0, 300, 50):
                image.read((0, y, 300, y + 50))

    with pytest.raises(DataError, match=rf"{name}: the image cannot be read"):
        read_all()


def test_what_is_no_image(tmp_path):
    (tmp_path / "a.png").write_text("text")
    with pytest.raises(DataError, match=r"a\.png: not an image in a format that can be read"):
        open_image(tmp_path / "a.png", (3, 3))
    with pytest.raises(DataError, match="there is no such image"):
        open_image(tmp_path / "b.png", (3, 3))
    Image.fromarray(np.full((9, 9), 7.0, dtype=np.float32)).save(tmp_path / "f.tif")
    with (
        open_image(tmp_path / "f.tif", (9, 9)) as image,
        pytest.raises(DataError, match=r"f\.tif: floating-point values must be 0 to 1"),
    ):
        image.read((0, 0, 3, 3))


def test_an_unknown_reader(tmp_path):
    with pytest.raises(ConfigError, match="reader=opencv is not known"):
        open_image(tmp_path / "a.png", (3, 3), "opencv")  # type: ignore[arg-type]


def test_without_pyvips_large_images_ask_for_it_only_when_they_must(tmp_path, monkeypatch):
    monkeypatch.setattr(window_reader, "find_spec", lambda name: None)
    monkeypatch.setattr(window_reader, "LARGE_PX", 1000)
    Image.new("RGB", (45, 70)).save(tmp_path / "a.png")
    with pytest.raises(MissingExtraError, match=r"reader=vips needs the package pyvips.*finemask\[large\]"):
        open_image(tmp_path / "a.png", (70, 45), "vips")
    with open_image(tmp_path / "a.png", (70, 45), free_memory_bytes=4 * 70 * 45) as image:
        assert isinstance(image, PillowReader)
    with pytest.raises(MissingExtraError, match=r"a\.png, 45 × 70 px, decoded whole takes .* GiB are free; reading by"):
        open_image(tmp_path / "a.png", (70, 45), free_memory_bytes=4 * 70 * 45 - 1)


def test_what_no_reader_can_stream_and_no_memory_can_hold(tmp_path, monkeypatch):
    monkeypatch.setattr(window_reader, "find_spec", lambda name: object())
    monkeypatch.setattr(VipsReader, "open", lambda path, reading: None)
    Image.new("CMYK", (45, 70)).save(tmp_path / "a.jpg")
    with pytest.raises(DataError, match="libvips cannot read it by strips"):
        open_image(tmp_path / "a.jpg", (70, 45), "vips", free_memory_bytes=100)


class TestVips:
    """What only the reader by strips has to be asked."""

    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("pyvips")

    def test_auto_takes_it_for_large_images(self, tmp_path, monkeypatch):
        Image.fromarray(noise(HEIGHT, WIDTH, 3)).save(tmp_path / "a.png")
        with open_image(tmp_path / "a.png", (HEIGHT, WIDTH)) as image:
            assert isinstance(image, PillowReader)
        monkeypatch.setattr(window_reader, "LARGE_PX", HEIGHT * WIDTH)
        with open_image(tmp_path / "a.png", (HEIGHT, WIDTH), free_memory_bytes=10) as image:
            assert isinstance(image, VipsReader)

    @pytest.mark.parametrize("options", ["[tile,compression=deflate]", "[compression=lzw]", "[]", "[bigtiff,tile]"])
    def test_tiled_and_striped_tiff(self, tmp_path, options):
        import pyvips

        pixels = noise(200, 150, 3)
        path = tmp_path / "a.tif"
        pyvips.Image.new_from_array(pixels).copy(interpretation="srgb").write_to_file(f"{path}{options}")
        with open_image(path, (200, 150), "vips") as image:
            assert isinstance(image, VipsReader)
            for y in (0, 30, 90, 170):  # a gap, overlaps, a band taller than a strip
                height = min(80, 200 - y)
                for x in (0, 100, 40):
                    assert np.array_equal(image.read((x, y, x + 50, y + height)), pixels[y : y + height, x : x + 50])

    def test_sixteen_bit_colour_has_the_bits_pillow_gives(self, tmp_path):
        import pyvips

        pixels = noise(HEIGHT, WIDTH, 3, high=65536, dtype=np.uint16)
        path = tmp_path / "a.png"
        pyvips.Image.new_from_array(pixels).copy(interpretation="rgb16").write_to_file(str(path))
        whole = decode_image(path)
        with open_image(path, (HEIGHT, WIDTH), "vips") as image:
            assert isinstance(image, VipsReader)
            assert np.array_equal(image.read((0, 0, WIDTH, HEIGHT)), whole)

    def test_rows_that_have_gone_by_are_read_again(self, tmp_path):
        pixels = noise(HEIGHT, WIDTH, 3)
        Image.fromarray(pixels).save(tmp_path / "a.png")
        with open_image(tmp_path / "a.png", (HEIGHT, WIDTH), "vips") as image:
            assert image.size_hw == (HEIGHT, WIDTH)
            for y in (20, 19, 60, 0, 30):
                assert np.array_equal(image.read((3, y, 10, y + 10)), pixels[y : y + 10, 3:10])

    @pytest.mark.parametrize("name", ["cmyk.jpg", "float.tif"])
    def test_what_it_reads_otherwise_than_pillow_is_left_to_pillow(self, tmp_path, name):
        images()[name].save(tmp_path / name)
        with open_image(tmp_path / name, (HEIGHT, WIDTH), "vips") as image:
            assert isinstance(image, PillowReader | WholeReader)

    def test_sixteen_bits_that_would_be_black_are_refused_and_a_chosen_range_is_kept(self, tmp_path):
        path = tmp_path / "a.png"
        Image.fromarray(noise(HEIGHT, WIDTH, high=1024, dtype=np.uint16)).save(path)
        with pytest.raises(UndecidedImageError, match="10 bits"):
            open_image(path, (HEIGHT, WIDTH), "vips")
        reading = ImageReading(range=(0, 1023))
        with open_image(path, (HEIGHT, WIDTH), "vips", reading=reading) as image:
            assert isinstance(image, VipsReader)
            found = image.read((0, 0, WIDTH, HEIGHT))
        assert np.array_equal(found, decode_image(path, None, reading))


def test_a_dark_corner_of_sixteen_bits_is_no_image_scaled_wrongly(tmp_path):
    values = noise(HEIGHT, WIDTH, high=65536, dtype=np.uint16)
    values[:10, :10] = 700
    for name in ("a.png", "a.tif"):
        Image.fromarray(values).save(tmp_path / name)
        with open_image(tmp_path / name, (HEIGHT, WIDTH), "pillow") as image:
            assert image.read((0, 0, 10, 10)).max() == 3
            assert np.array_equal(image.read((0, 0, WIDTH, HEIGHT)), decode_image(tmp_path / name))


def test_windows_of_a_chosen_page_and_channels(tmp_path):
    values = noise(HEIGHT, WIDTH, 5, high=1024, dtype=np.uint16)
    (tmp_path / "a.tif").write_bytes(tiff_bytes(values // 2, values))
    reading = ImageReading(page=1, range=(0, 1023), channels=(4, 2, 0))
    with open_image(tmp_path / "a.tif", (HEIGHT, WIDTH), reading=reading) as image:
        found = image.read((3, 4, 20, 30))
    assert np.array_equal(found, decode_image(tmp_path / "a.tif", None, reading)[4:30, 3:20])
    with pytest.raises(DataError, match="2 pages"), open_image(tmp_path / "a.tif", (HEIGHT, WIDTH)) as image:
        image.read((0, 0, 5, 5))

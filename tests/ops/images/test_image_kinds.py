"""Size and orientation that are read off a file's header are those that Pillow finds by decoding it."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from tiff_data import tiff_bytes

from finemask.ops.images.image_kinds import EXIF_ORIENTATION, stored_size

ORIENTATION = 6
XMP = b'<rdf:Description tiff:Orientation="6"/>'


def exif_bytes() -> bytes:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = ORIENTATION
    return exif.tobytes()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(*extra: bytes, behind: bool, mode: str = "RGB") -> bytes:
    """A picture of 40 × 30 px in many IDAT chunks, with further chunks in front of them or behind."""
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(file, "PNG")
    plain, content = file.getvalue(), b"".join(extra)
    start, end = plain.index(b"IDAT") - 4, plain.index(b"IEND") - 4
    (length,) = struct.unpack(">I", plain[start : start + 4])
    pixels = plain[start + 8 : start + 8 + length]
    parts = b"".join(chunk(b"IDAT", pixels[k : k + 100]) for k in range(0, length, 100))
    middle = parts + content if behind else content + parts
    return plain[:start] + middle + plain[end:]


EXTRA = {
    "eXIf": chunk(b"eXIf", exif_bytes()[6:]),
    "XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
    "compressed XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP)),
    "text": chunk(b"tEXt", b"Raw profile type exif\0\nexif\n      32\n" + exif_bytes().hex().encode()),
    "compressed text": chunk(
        b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n      32\n" + exif_bytes().hex().encode())
    ),
}


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("name", EXTRA)
def test_orientation_of_a_png_file_in_front_of_the_pixels_and_behind(tmp_path, name, behind):
    path = tmp_path / "a.png"
    date = chunk(b"tEXt", b"date:create\x002020-01-01")
    path.write_bytes(png(date, EXTRA[name], date, behind=behind))
    with Image.open(path) as image:
        assert image.getexif()[EXIF_ORIENTATION] == ORIENTATION
    assert stored_size(path) == ((30, 40), ORIENTATION)


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_a_png_file_without_orientation_behind_its_pixels_is_not_decoded(tmp_path, monkeypatch, mode, behind):
    path = tmp_path / "a.png"
    path.write_bytes(png(chunk(b"tEXt", b"date:create\x002020-01-01"), behind=behind, mode=mode))
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda image: pytest.fail("it was decoded"))
    assert stored_size(path) == ((30, 40), 1)
    path.write_bytes(png(EXTRA["eXIf"], behind=False, mode=mode))
    assert stored_size(path) == ((30, 40), ORIENTATION)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_png_file_that_is_cut_off_is_damaged(tmp_path, share):
    path, whole = tmp_path / "a.png", png(behind=False)
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(OSError, match="truncated"):
        stored_size(path)


@pytest.mark.parametrize(("stated", "meant"), [(0, 1), (1, 1), (6, 6), (8, 8), (9, 1)])
def test_orientations_that_there_are_not_count_as_none(tmp_path, stated, meant):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff_bytes(np.zeros((30, 40, 6), np.uint16), orientation=stated))  # which Pillow does not know
    assert stored_size(path) == ((30, 40), meant)
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = stated
    Image.new("RGB", (40, 30)).save(tmp_path / "a.jpg", exif=exif)
    assert stored_size(tmp_path / "a.jpg") == ((30, 40), meant)

"""Odd files: each is predicted or listed with its reason; none crashes, hangs or fills the memory."""

import io
import json
import os
import random
import shutil
import socket
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from inference_data import ColourModel, colour_header, rectangles
from PIL import Image
from tiff_data import tiff_bytes

from finemask.errors import DataError
from finemask.inference.predictor import Predictor
from finemask.inference.sources import list_items
from finemask.workflows import predict_images as verb

PICTURE = rectangles(red=(5, 6, 25, 20), green=(30, 10, 50, 36))
PREDICTED, LISTED = "predicted", "listed"


def encoded(form: str, picture=PICTURE, mode: str = "RGB", **options) -> bytes:
    content = io.BytesIO()
    Image.fromarray(picture).convert(mode).save(content, format=form, **options)
    return content.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG file of a few bytes that says it is that large, and has the pixels of one row."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


def turned(orientation: int, form: str) -> bytes:
    """The picture, stored so that this EXIF orientation shows it upright."""
    stored = {
        1: PICTURE,
        2: PICTURE[:, ::-1],
        3: PICTURE[::-1, ::-1],
        4: PICTURE[::-1],
        5: PICTURE.transpose(1, 0, 2),
        6: PICTURE.transpose(1, 0, 2)[::-1],
        7: PICTURE.transpose(1, 0, 2)[::-1, ::-1],
        8: PICTURE.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(form, np.ascontiguousarray(stored), exif=exif.tobytes())


def kinds() -> dict[str, tuple[bytes, str | None]]:
    """Contents of files by name, and what is to become of them; None: either."""
    png, jpeg, gif = encoded("PNG"), encoded("JPEG", quality=95), encoded("GIF")
    frames = [Image.fromarray(PICTURE), Image.fromarray(PICTURE[::-1])]
    animated, pages = io.BytesIO(), io.BytesIO()
    frames[0].save(animated, format="GIF", save_all=True, append_images=frames[1:])
    frames[0].save(pages, format="TIFF", save_all=True, append_images=frames[1:])
    wide = PICTURE.astype(np.uint16) * 257
    odd: dict[str, tuple[bytes, str | None]] = {
        "empty.png": (b"", LISTED),
        "text.png": (b"not a picture\n" * 100, LISTED),
        "html.jpg": (b"<!DOCTYPE html><html></html>", LISTED),
        "bomb.png": (bomb(60_000, 60_000), LISTED),
        "large_bomb.png": (bomb(2**31 - 1, 2**31 - 1), LISTED),
        "cut_row.png": (bomb(900, 900), LISTED),
        "cmyk.jpg": (encoded("JPEG", mode="CMYK", quality=95), PREDICTED),
        "grey.jpg": (encoded("JPEG", mode="L"), PREDICTED),
        "palette.png": (encoded("PNG", mode="P"), PREDICTED),
        "alpha.png": (encoded("PNG", mode="RGBA"), PREDICTED),
        "bits.png": (encoded("PNG", mode="1"), PREDICTED),
        "wide.png": (cv2.imencode(".png", wide[:, :, ::-1])[1].tobytes(), PREDICTED),
        "wide.tif": (tiff_bytes(wide), LISTED),  # which channel is red, it does not say
        "nan.tif": (tiff_bytes(np.full((40, 60, 3), np.nan, np.float32)), LISTED),
        "pages.tif": (pages.getvalue(), LISTED),
        "animated.gif": (animated.getvalue(), PREDICTED),
        "dot.png": (encoded("PNG", PICTURE[:1, :1]), PREDICTED),
        "row.png": (encoded("PNG", np.repeat(PICTURE[:1, :1], 10_000, axis=1)), PREDICTED),
        "column.png": (encoded("PNG", np.repeat(PICTURE[:1, :1], 10_000, axis=0)), PREDICTED),
        "not_a_jpeg.jpg": (png, PREDICTED),
        "clip.mp4": (b"no video", LISTED),
        "Ünï çødé 写真 🍏.png": (png, PREDICTED),
        "new\nline 'quote' \"double\".png": (png, PREDICTED),
        f"{'long' * 62}.png": (png, PREDICTED),
        f"{'ö' * 125}.png": (png, PREDICTED),
    }
    for orientation in range(1, 9):
        odd[f"exif{orientation}.png"] = turned(orientation, "PNG"), PREDICTED
        odd[f"exif{orientation}.tif"] = turned(orientation, "TIFF"), PREDICTED
    for form, content in (("png", png), ("jpg", jpeg), ("gif", gif)):
        for share in (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98):
            odd[f"cut{share}.{form}"] = content[: max(1, int(len(content) * share))], None
    return odd


def damaged(contents: list[bytes], number: int) -> dict[str, tuple[bytes, None]]:
    """Files in which some bytes were changed."""
    chance, made = random.Random(0), {}
    for n in range(number):
        content = bytearray(chance.choice(contents))
        for _ in range(chance.choice((1, 3, 30))):
            content[chance.randrange(len(content))] = chance.randrange(256)
        suffix = chance.choice((".png", ".jpg", ".tif", ".webp", ".bmp"))
        made[f"damaged{n}{suffix}"] = bytes(content), None
    return made


@pytest.mark.parametrize("number", [40, pytest.param(950, marks=pytest.mark.slow)])
def test_each_odd_file_is_predicted_or_listed_with_its_reason(tmp_path, monkeypatch, number):
    folder = tmp_path / "photos"
    (folder / "folder.jpg").mkdir(parents=True)
    (folder / "folder.jpg" / "inside.png").write_bytes(encoded("PNG"))
    files = kinds()
    webp, bmp = encoded("WEBP", lossless=True), encoded("BMP")
    files |= damaged([*(content for content, _ in files.values() if content), webp, bmp], number)
    for name, (content, _) in files.items():
        (folder / name).write_bytes(content)
    os.mkfifo(folder / "pipe.png")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "nowhere.png").symlink_to("gone.png")
    (folder / "round").symlink_to(folder, target_is_directory=True)
    (folder / "device.png").symlink_to("/dev/zero")
    with (folder / "sparse.png").open("wb") as file:
        file.truncate(2**37)  # 128 GiB, of which none is on the disk
    expected = {name: outcome for name, (_, outcome) in files.items()} | {"folder.jpg/inside.png": PREDICTED}
    expected |= dict.fromkeys(("pipe.png", "loop.png", "nowhere.png", "device.png", "sparse.png"), LISTED)
    raw = os.fsencode(folder) + b"/no \xff utf.png"
    Path(os.fsdecode(raw)).write_bytes(encoded("PNG"))
    expected["no \ufffd utf.png"] = LISTED  # the image's path cannot stand in LabelMe's file

    monkeypatch.setattr(verb, "load", lambda path, device, trust: Predictor(ColourModel(), colour_header()))
    kinds_saved = "save=[overlay,masks,label_map,labelme,geojson,coco,csv]"
    done = verb.predict("m", str(folder), tmp_path / "out", [kinds_saved])
    lines = [json.loads(line) for line in (tmp_path / "out" / "manifest.jsonl").read_text("utf-8").splitlines()]
    by_image = {line["image"]: line for line in lines}
    assert len(by_image) == len(lines) == len(expected)
    assert done.images + len(done.failures) == len(lines)
    assert all(line.get("reason") or line["files"] for line in lines)
    became = {Path(line["source"]).relative_to(folder).as_posix(): line for line in lines}
    for name, outcome in expected.items():
        line = by_image.get(name) or became[name]
        if outcome is not None:
            assert ("reason" in line) == (outcome == LISTED), line
    upright = [became[f"exif{orientation}.{form}"] for orientation in range(1, 9) for form in ("png", "tif")]
    assert {json.dumps(line["instances"]) for line in upright} == {'{"red fig": 1, "green/date": 1}'}
    results = json.loads((tmp_path / "out" / "predictions.json").read_text("utf-8"))
    images = json.loads((tmp_path / "out" / "images.json").read_text("utf-8"))["images"]
    ids = {image["file_name"]: image["id"] for image in images}
    found = {}
    for line in upright:
        own = (one for one in results if one["image_id"] == ids[line["image"]])
        found[line["image"]] = [(one["bbox"], one["score"], one["segmentation"]) for one in own]
    assert len({json.dumps(one) for one in found.values()}) == 1


def test_two_links_that_lead_round_do_not_end_a_pattern(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x.png").write_bytes(encoded("PNG"))
    (tmp_path / "a" / "y.jpg").write_bytes(encoded("JPEG"))
    for name in ("one", "two"):
        (tmp_path / "a" / name).symlink_to(tmp_path, target_is_directory=True)
    for pattern, names in (
        ("**/*.png", ["a/b/x.png"]),
        ("**", ["a/b/x.png", "a/y.jpg"]),
        ("a/**/x.*", ["b/x.png"]),
        ("*/**/*.jpg", ["a/y.jpg"]),
        ("a/*/x.png", ["b/x.png"]),
    ):
        assert sorted(item.name for item in list_items(f"{tmp_path}/{pattern}"))[-2:] == sorted(names), pattern


def test_a_pipe_a_socket_and_a_folder_are_said(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for name, what in (("pipe", "a pipe"), ("socket", "a socket")):
            (item,) = list_items(tmp_path / name)
            with pytest.raises(DataError, match=f"this is {what}, not a file"):
                list(item.read())


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_what_may_not_be_read_is_said(tmp_path, caplog):
    for name in ("a.png", "shut/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encoded("PNG"))
    (tmp_path / "a.png").chmod(0)
    (tmp_path / "shut").chmod(0)
    try:
        (item,) = list_items(tmp_path)
        assert "cannot be listed" in caplog.text
        with pytest.raises(DataError, match="Permission denied"):
            list(item.read())
    finally:
        (tmp_path / "shut").chmod(0o700)
        shutil.rmtree(tmp_path / "shut")

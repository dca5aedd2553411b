import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from finemask.errors import DataError
from finemask.inference.read_ahead import read_images
from finemask.inference.sources import Opening, Unread, list_items
from finemask.ops.images.image_kinds import image_suffixes


def save(path: Path, colour=(255, 0, 0), size=(8, 6)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def names(source) -> list[str]:
    return [item.name for item in list_items(source)]


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("img10.png", "img2.png", "IMG1.PNG", "b/img2.jpg", ".hidden/x.png", "._img3.png"):
        save(tmp_path / "photos" / name)
    (tmp_path / "photos" / "notes.md").write_text("no image")
    return tmp_path / "photos"


def test_a_folder_is_searched_in_natural_order_and_keeps_its_structure(folder):
    assert names(folder) == names(str(folder)) == ["b/img2.jpg", "IMG1.PNG", "img2.png", "img10.png"]
    images = [named for item in list_items(folder) for named in item.read()]
    assert images[1].image.shape == (6, 8, 3)
    assert images[1].image[0, 0].tolist() == [255, 0, 0]  # RGB
    assert images[1].path == folder / "IMG1.PNG"


def test_every_suffix_that_can_be_read_is_an_image_and_the_others_are_counted(tmp_path, caplog):
    for number, suffix in enumerate(("avif", "WEBP", "jp2", "tga", "pnm")):
        if f".{suffix.lower()}" in image_suffixes():
            save(tmp_path / f"{number}.{suffix}")
    for name in ("a.json", "b.json", "c.heic", "README"):
        (tmp_path / name).touch()
    items = list_items(tmp_path)
    assert [item.name for item in items] == sorted(path.name for path in tmp_path.iterdir() if path.stem.isdecimal())
    assert all(image.image.shape == (6, 8, 3) for item in items for image in item.read())
    assert "are left out: 2 .json, 1 .heic, 1 without a suffix" in caplog.text
    with pytest.raises(DataError, match=r"only other files: 2 \.json"):
        list_items(f"{tmp_path}/[ab].*")


def test_globs(folder, monkeypatch):
    assert names(f"{folder}/*.png") == ["img2.png", "img10.png"]
    assert names(f"{folder}/**/*.jpg") == ["b/img2.jpg"]
    monkeypatch.chdir(folder)
    assert names("*/*.jpg") == ["b/img2.jpg"]
    assert names("img[12]*.png") == ["img2.png", "img10.png"]
    odd = save(folder / "odd[1].png")
    assert names(odd) == ["odd[1].png"]  # a file of that name goes before the pattern


def test_a_text_file_of_paths(folder, monkeypatch, tmp_path):
    listing = tmp_path / "list.txt"
    absolute = folder / "img10.png"
    listing.write_text(f"\ufeff# chosen\n\n{absolute}\nphotos/b/img2.jpg\nhttp://localhost/c.png\nmissing.png\n")
    items = list_items(listing)
    assert [item.name for item in items] == ["img10.png", "photos/b/img2.jpg", "c.png", "missing.png"]
    assert items[1].content == tmp_path / "photos/b/img2.jpg"  # found beside the list
    elsewhere = save(tmp_path / "elsewhere" / "photos" / "b" / "img2.jpg", (0, 255, 0))
    monkeypatch.chdir(elsewhere.parents[2])
    (named,) = list_items(listing)[1].read()
    assert named.image[0, 0, 1] > 250  # from where one stands, first


def test_lists_and_names_that_would_meet(folder):
    array = np.zeros((4, 5), np.uint8)
    found = names([folder / "img2.png", folder / "b" / "img2.jpg", str(folder / "img2.png"), array, array])
    assert found == ["img2.png", "img2_jpg.jpg", "img2_png.png", "image", "image_2"]
    assert names(Image.open(folder / "img2.png")) == ["img2.png"]
    (named,) = list_items(array)[0].read()
    assert named.image.shape == (4, 5, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "b" / "nothing", None),
        (lambda folder: [], "source is empty"),
        (lambda folder: f"{folder}/*.bmp", "nothing matches"),
        (lambda folder: folder.parent / "list.txt", "no such file"),
        (lambda folder: 7, "a int"),
        (lambda folder: (folder / "empty").mkdir() or folder / "empty", "no images"),
    ],
)
def test_what_cannot_be_a_source(folder, make, message):
    if message is None:  # a single missing file is listed, so that the others of a list are still done
        with pytest.raises(DataError, match="no such image"):
            list(list_items(make(folder))[0].read())
        return
    with pytest.raises(DataError, match=message):
        list_items(make(folder))


def test_a_damaged_image_raises_when_read(folder):
    (folder / "bad.jpg").write_bytes(b"junk")
    (item,) = list_items(folder / "bad.jpg")
    with pytest.raises(DataError, match=r"bad\.jpg"):
        list(item.read())


@pytest.fixture
def server(folder):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def test_urls(server, folder):
    private = Opening(allow_private_urls=True)
    (item,) = list_items(f"{server}/b/img2.jpg?size=large")
    assert item.name == "img2.jpg"
    with pytest.raises(DataError, match="of a private network") as caught:
        list(item.read())
    assert caught.value.where == f"{server}/b/img2.jpg?size=large"
    (named,) = item.read(opening=private)
    assert (named.image.shape, named.path) == ((6, 8, 3), None)
    for threads in (0, 1):
        (named,) = read_images(f"{server}/b/img2.jpg", opening=private, threads=threads)
        assert named.image.shape == (6, 8, 3)
    (folder / "cut.png").write_bytes((folder / "img2.png").read_bytes()[:50])
    for name, what in (
        ("nothing.png", "cannot be downloaded: the server answered with status 404, File not found"),
        ("notes.md", "not an image: the server says that it is text/markdown"),
        ("cut.png", "the image cannot be read"),
    ):
        with pytest.raises(DataError, match=what) as caught:
            list(list_items(f"{server}/{name}")[0].read(opening=private))
        assert caught.value.where == f"{server}/{name}"


def test_videos_give_rgb_frames_with_names(tmp_path):
    path = tmp_path / "clip.v2.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
    for _ in range(3):
        frame = np.zeros((48, 64, 3), np.uint8)
        frame[:, :, 2] = 255  # red, in OpenCV's BGR
        writer.write(frame)
    writer.release()
    (item,) = list_items(path)
    assert (item.is_video, item.count()) == (True, 3)
    frames = list(item.read())
    assert [frame.name for frame in frames] == [f"clip.v2/clip.v2_00000{n}" for n in (1, 2, 3)]
    assert frames[0].image.shape == (48, 64, 3)
    assert np.abs(frames[0].image.mean(axis=(0, 1)) - [255, 0, 0]).max() < 12
    path.write_bytes(b"junk")
    with pytest.raises(DataError, match="not a video"):
        list(item.read())
    path.unlink()
    with pytest.raises(DataError, match="no such file"):
        list(item.read())


def video(path: Path, code: str, frames: int = 40) -> bytes:
    """Red frames with some noise, each as bright as its number."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), 10, (128, 96))
    random = np.random.default_rng(0)
    for number in range(1, frames + 1):
        frame = np.zeros((96, 128, 3), np.uint8)
        frame[:48, :, 2] = 5 * number
        frame[48:] = random.integers(0, 255, (48, 128, 3))
        writer.write(frame)
    writer.release()
    return path.read_bytes()


@pytest.mark.parametrize(("name", "code"), [("clip.avi", "MJPG"), ("clip.mp4", "mp4v"), ("clip.mkv", "MJPG")])
@pytest.mark.parametrize("damage", ["none", "middle", "end"])
def test_frames_that_a_damaged_video_lost_are_counted(tmp_path, name, code, damage):
    path = tmp_path / name
    content = video(path, code)
    if damage == "middle":
        start, end = int(len(content) * 0.3), int(len(content) * 0.6)
        path.write_bytes(content[:start] + bytes(end - start) + content[end:])
    elif damage == "end":
        if name.endswith("mp4"):
            pytest.skip("the table of contents is at the end: nothing of it can be read")
        path.write_bytes(content[: len(content) // 2])
    answers = list(read_images(path))
    found = [image for image in answers if not isinstance(image, Unread)]
    errors = [answer.error for answer in answers if isinstance(answer, Unread)]
    assert all(answer.in_part for answer in answers if isinstance(answer, Unread))
    if damage == "none":
        assert (len(found), errors) == (40, [])
        return
    assert 10 < len(found) < 40
    assert [error.what.split(":")[0] for error in errors] == [f"{40 - len(found)} of 40 frames could not be read"]
    if name.endswith("mp4") and damage == "middle":  # frames behind the damage are there, under their own numbers
        last = found[-1]
        assert last.name == "clip/clip_000040"
        assert abs(float(last.image[:40, :, 0].mean()) - 200) < 30

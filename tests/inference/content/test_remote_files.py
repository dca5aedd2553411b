"""Images behind addresses of fsspec: its own file system in memory stands for the others."""

import io

import pytest
from PIL import Image

from finemask.errors import DataError
from finemask.inference.content import remote_files
from finemask.inference.content.remote_files import is_remote
from finemask.inference.sources import is_single, list_items

fsspec = pytest.importorskip("fsspec")


def encoded(value: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (8, 6), (value, 0, 0)).save(content, "PNG")
    return content.getvalue()


@pytest.fixture
def bucket():
    files = fsspec.filesystem("memory")
    for value, name in enumerate(("a.png", "sub/b.png", "sub/deep/c.PNG"), start=1):
        files.pipe_file(f"/bucket/{name}", encoded(value))
    files.pipe_file("/bucket/sub/notes.txt", b"no image")
    yield "memory://bucket"
    files.rm("/bucket", recursive=True)


@pytest.mark.parametrize(
    ("address", "names", "values"),
    [
        ("{}", ["a.png", "sub/b.png", "sub/deep/c.PNG"], [1, 2, 3]),
        ("{}/", ["a.png", "sub/b.png", "sub/deep/c.PNG"], [1, 2, 3]),
        ("{}/sub", ["b.png", "deep/c.PNG"], [2, 3]),
        ("{}/sub/*.png", ["b.png"], [2]),
        ("{}/sub/b.png", ["b.png"], [2]),
    ],
)
def test_images_of_a_folder_a_pattern_or_a_file(bucket, address, names, values):
    items = list_items(address.format(bucket))
    assert [item.name for item in items] == names
    images = [image for item in items for image in item.read()]
    assert [int(image.image[0, 0, 0]) for image in images] == values
    assert all(image.image.shape == (6, 8, 3) and image.path is None for image in images)


def test_a_list_may_hold_them(bucket, tmp_path):
    (tmp_path / "list.txt").write_text(f"{bucket}/sub/b.png\n{bucket}/a.png\n")
    images = [image for item in list_items(tmp_path / "list.txt") for image in item.read()]
    assert [int(image.image[0, 0, 0]) for image in images] == [2, 1]


def test_what_holds_one_image_and_what_may_hold_several(bucket):
    assert is_single(f"{bucket}/a.png")
    for several in (bucket, f"{bucket}/*.png"):
        assert not is_single(several)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("memory://bucket/sub/deep/none", "there is no such file"),
        ("memory://bucket/sub/notes.txt", "not an image"),
        ("nonsense://bucket/a.png", "Protocol not known: nonsense"),
        ("memory://bucket/*.jpg", "no images there"),
    ],
)
def test_what_cannot_be_read_names_its_address(bucket, address, message):
    with pytest.raises(DataError, match=message) as raised:
        [image for item in list_items(address) for image in item.read()]
    assert raised.value.where == address


def test_a_file_that_is_too_large_is_refused(bucket, monkeypatch):
    monkeypatch.setattr(remote_files, "MOST_BYTES", 20)
    (item,) = list_items(f"{bucket}/a.png")
    with pytest.raises(DataError, match="more than 0 MiB"):
        list(item.read())


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    def absent(address):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", absent)
    with pytest.raises(DataError, match="Install s3fs to access S3"):
        list_items("s3://bucket/photos")


def test_what_is_an_address():
    assert [is_remote(text) for text in ("s3://a/b", "gs://a", "hf://datasets/a/b")] == [True] * 3
    assert not any(map(is_remote, ("a/b.png", "http://a/b", "HTTPS://a/b", "C:/x", "photo: 1.png")))

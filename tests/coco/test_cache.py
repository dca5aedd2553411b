"""The cache gives back what was parsed, and nothing else, whatever lies in its folder."""

import json
import logging
import os
import pickle
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from finemask.coco import cache
from finemask.coco.cache import map_packed, write_packed
from finemask.coco.coco_file import read_coco_json
from finemask.coco.columns import take_ragged
from finemask.coco.index import CocoIndex
from finemask.data.dataset import InstanceDataset
from finemask.errors import DataError
from finemask.types import Category


@pytest.fixture(autouse=True)
def every_file_is_large(monkeypatch):
    monkeypatch.setattr(cache, "MIN_BYTES", 0)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def no_parsing(monkeypatch):
    """Call it, and whoever parses from then on fails."""

    def fail(path):
        raise AssertionError(f"{path} is parsed again")

    return lambda: monkeypatch.setattr(cache, "read_coco_json", fail)


def only_file(folder):
    (path,) = folder.iterdir()
    return path


def assert_same(found, expected):
    assert (found.categories, found.fingerprint) == (expected.categories, expected.fingerprint)
    assert found.arrays().keys() == expected.arrays().keys()
    for name, array in expected.arrays().items():
        assert found.arrays()[name].dtype == array.dtype, name
        np.testing.assert_array_equal(found.arrays()[name], array)


def test_the_second_opening_does_not_parse(shapes_dir, folder, no_parsing):
    path, images = shapes_dir / "annotations" / "train.json", shapes_dir / "images"
    first = CocoIndex.read(path, images, cache=folder)
    plain = InstanceDataset(CocoIndex.read(path, images, cache=None))
    no_parsing()
    second = CocoIndex.read(path, images, cache=folder)
    assert first.cache_file == second.cache_file == only_file(folder)
    for i in range(len(second)):
        for found, expected in zip(InstanceDataset(second)[i][1].values(), plain[i][1].values(), strict=True):
            np.testing.assert_array_equal(found, expected)
    assert_same(cache.read_packed(path, folder)[0], read_coco_json(path).columns)


@pytest.mark.parametrize("annotations", [slice(0, 1), slice(1, 3), slice(None)])  # polygons only, no polygons, both
def test_the_file_is_a_safetensors_file(write_dataset, document, folder, annotations):
    document["annotations"] = document["annotations"][annotations]
    path, _ = write_dataset(document)
    packed, cache_file = cache.read_packed(path, folder)
    expected = read_coco_json(path).columns
    assert_same(packed, expected)
    by_library = load_file(cache_file)
    assert by_library.keys() == expected.arrays().keys()
    for name, array in expected.arrays().items():
        np.testing.assert_array_equal(by_library[name], array)


def test_other_processes_get_the_place_not_the_arrays(shapes_dir, folder, no_parsing):
    path, images = shapes_dir / "annotations" / "train.json", shapes_dir / "images"
    uncached = CocoIndex.read(path, images, cache=None)
    categories = uncached.categories[::-1]
    index = CocoIndex.read(path, images, categories, cache=folder)
    no_parsing()
    state = pickle.dumps(InstanceDataset(index).index)
    assert len(state) < 3000
    again = pickle.loads(state)
    assert again.categories == categories
    np.testing.assert_array_equal(again.labels, index.labels)
    np.testing.assert_array_equal(again.segments.points, index.segments.points)
    only_file(folder).unlink()
    whole = pickle.loads(pickle.dumps(index))
    np.testing.assert_array_equal(whole.segments.points, index.segments.points)
    assert pickle.loads(pickle.dumps(uncached)).file_names == index.file_names


def test_mapped_pages_are_shared_and_read_only(shapes_dir, folder):
    path, images = shapes_dir / "annotations" / "train.json", shapes_dir / "images"
    index = CocoIndex.read(path, images, cache=folder)
    dataset = InstanceDataset(index)
    for i in range(len(dataset)):
        dataset[i]
    with pytest.raises(ValueError, match="read-only"):
        index.segments.points[0] = 1
    try:
        with open("/proc/self/smaps", encoding="utf-8") as file:  # noqa: PTH123  # a stream, not a file
            lines = file.read().splitlines()
    except OSError:
        pytest.skip("only Linux tells which pages are whose")
    start = next(n for n, line in enumerate(lines) if line.endswith(str(index.cache_file)))
    private = next(line for line in lines[start:] if line.startswith("Private_Dirty"))
    assert private.split()[1] == "0"


def test_an_edited_file_is_parsed(write_dataset, document, folder):
    path, images = write_dataset(document)
    CocoIndex.read(path, images, cache=folder)
    before = path.stat()
    document["annotations"][0]["category_id"] = 4  # as long as it was
    path.write_text(json.dumps(document))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert CocoIndex.read(path, images, cache=folder).instances(1).labels.tolist() == [1]
    assert len(list(folder.iterdir())) == 2


def test_another_version_packs_anew(write_dataset, document, folder, monkeypatch):
    path, images = write_dataset(document)
    old = CocoIndex.read(path, images, cache=folder)
    monkeypatch.setattr(cache, "FORMAT", cache.FORMAT + 1)
    new = CocoIndex.read(path, images, cache=folder)
    assert new.cache_file != old.cache_file
    with pytest.raises(ValueError, match="another version"):
        map_packed(old.cache_file, old.fingerprint)


def lengthen(content):
    return content + b"\0"


def other_header(content):
    return b"\2" + bytes(7) + b"{}" + content


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"",
        lambda content: b"not a cache file",
        lambda content: content[:-1],
        lambda content: content[:40],
        lengthen,
        other_header,
        lambda content: content[:-5] + bytes([content[-5] ^ 1]) + content[-4:],
        lambda content: content.replace(b'"shape": [', b'"shape": [1, ', 1),
        lambda content: content.replace(b'"dtype": "I64"', b'"dtype": "F32"', 1),
        lambda content: b"\xff" * 8 + content[8:],
        lambda content: pickle.dumps({"fingerprint": "x"}),
        lambda content: b"\x01" + bytes(7) + b"[" * 10,
    ],
)
def test_damaged_and_foreign_files_are_replaced_with_a_note(write_dataset, document, folder, caplog, spoil):
    path, images = write_dataset(document)
    CocoIndex.read(path, images, cache=folder)
    file = only_file(folder)
    good = file.read_bytes()
    file.write_bytes(spoil(good))
    with caplog.at_level(logging.WARNING):
        index = CocoIndex.read(path, images, cache=folder)
    assert [record.getMessage() for record in caplog.records if str(file) in record.getMessage()]
    assert file.read_bytes() == good
    assert index.file_names == ["b.png", "sub/a.png", "empty.png"]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_flipped_bit_goes_unnoticed(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "bits"
    folder.mkdir(exist_ok=True)
    source, file = folder / "train.json", folder / "cached.safetensors"
    source.write_text(
        '{"images": [{"id": 1, "file_name": "a.png", "height": 9, "width": 8}], "categories": [{"id": 1, "name": "a"}],'
        '"annotations": [{"image_id": 1, "category_id": 1, "segmentation": [[1, 1, 6, 1, 6, 6]]}]}'
    )
    packed = read_coco_json(source).columns
    write_packed(file, packed)
    content = bytearray(file.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(content)
    try:
        found = map_packed(file, packed.fingerprint)
    except ValueError:
        return
    assert_same(found, packed)  # a blank that became another blank


def test_a_folder_that_cannot_be_written_is_said_once(write_dataset, document, tmp_path, caplog):
    path, images = write_dataset(document)
    blocked = tmp_path / "a_file"
    blocked.write_text("")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            index = CocoIndex.read(path, images, cache=blocked / "cache")
            assert index.cache_file is None
            assert len(index) == 3
    assert [record.getMessage() for record in caplog.records if "cannot be kept" in record.getMessage()] == [
        f"Annotations cannot be kept in {blocked / 'cache'} (Not a directory); each start parses them anew"
    ]


def test_without_a_home_nothing_is_kept(write_dataset, document, monkeypatch, caplog):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("pathlib.Path.home", homeless)
    with caplog.at_level(logging.WARNING):
        assert CocoIndex.read(*write_dataset(document)).cache_file is None
    assert "XDG_CACHE_HOME" in caplog.text


def test_where_it_is_kept(write_dataset, document, tmp_path, monkeypatch):
    path, images = write_dataset(document)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    index = CocoIndex.read(path, images)
    assert index.cache_file.parent == tmp_path / "xdg" / "finemask" / "annotations"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.default_folder() == tmp_path / "home" / ".cache" / "finemask" / "annotations"
    monkeypatch.setattr(cache, "MIN_BYTES", path.stat().st_size + 1)
    assert CocoIndex.read(path, images).cache_file is None  # too small to be worth it
    assert CocoIndex.read(path, images, cache=None).cache_file is None
    assert not (tmp_path / "home").exists()


def test_files_that_nobody_uses_any_more_are_removed(write_dataset, document, folder):
    path, images = write_dataset(document)
    used = CocoIndex.read(path, images, cache=folder).cache_file
    old = time.time() - 100 * 86400
    stale, foreign = folder / f"{'0' * 32}-{'f' * 8}.safetensors", folder / "my-model.safetensors"
    for file in (stale, foreign, used):
        file.touch()
        os.utime(file, (old, old))
    assert CocoIndex.read(path, images, cache=folder).cache_file == used  # which makes it young again
    document["info"] = 1
    path.write_text(json.dumps(document))
    CocoIndex.read(path, images, cache=folder)
    assert not stale.exists()
    assert foreign.exists()
    assert used.exists()


def test_faults_of_the_annotations_come_through(write_dataset, document, folder):
    path, images = write_dataset(document)
    CocoIndex.read(path, images, cache=folder)
    with pytest.raises(DataError, match="lacks 'twig'"):
        CocoIndex.read(path, images, [Category(1, "nut"), Category(2, "leaf"), Category(3, "twig")], cache=folder)
    (images / "b.png").unlink()
    with pytest.raises(DataError, match="1 of 3 images are not in"):
        CocoIndex.read(path, images, cache=folder)
    with pytest.raises(DataError, match="no such file"):
        CocoIndex.read(path.with_name("absent.json"), images, cache=folder)
    with pytest.raises(DataError, match="folder"):
        CocoIndex.read(path.parent, images, cache=folder)
    path.write_text('{"images": [1')
    with pytest.raises(DataError, match="broken JSON"):
        CocoIndex.read(path, images, cache=folder)
    assert len(list(folder.iterdir())) == 1


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 12)), max_size=20))
@settings(max_examples=100, deadline=None)
def test_take_ragged_equals_slicing(pieces):
    values = np.arange(50) * 3
    starts, lengths = np.array(pieces, dtype=np.int64).reshape(-1, 2).T
    expected = np.concatenate([values[:0], *(values[a : a + n] for a, n in pieces)])
    np.testing.assert_array_equal(take_ragged(values, starts, lengths), expected)

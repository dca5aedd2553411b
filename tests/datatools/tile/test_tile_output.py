"""Names, files that grow, and what a tile takes over from its source."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from finemask.datatools.tile.tile_output import (
    MARK,
    FreeNames,
    earlier_tiles,
    growing_file,
    read_source_entries,
    split_names,
    write_tile,
)
from finemask.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["train.json", "val.json", "test.json"], ["train", "val", "test"]),
        (["instances_train2017.json", "instances_val2017.json"], ["train", "val"]),
        (["train/_annotations.coco.json", "valid/_annotations.coco.json"], ["train", "val"]),
        (["fields.json"], ["fields"]),
        (["test_data/fields.json"], ["fields"]),
        (["coco/val2017/labels.json"], ["val"]),
        (["strain.json"], ["strain"]),
        (["train_val.json"], ["train_val"]),  # both, so neither
        (["val_a.json", "val_b.json"], ["val_a", "val_b"]),
        (["VALIDATION.json"], ["val"]),
    ],
)
def test_split_names(paths: list[str], names: list[str]) -> None:
    assert split_names([Path(path) for path in paths]) == names


def test_two_files_of_one_name_are_refused():
    with pytest.raises(ConfigError, match=r"two of the annotation files would be written as a\.json"):
        split_names([Path("x/a.json"), Path("y/a.json")])


def test_names_are_free_also_where_capitals_do_not_count():
    names = FreeNames()
    taken = [names.take("train/a", "_x0_y0.png") for _ in range(3)]
    assert taken == ["train/a_x0_y0.png", "train/a~2_x0_y0.png", "train/a~3_x0_y0.png"]
    assert names.take("train/A", "_x0_y0.png") == "train/A~4_x0_y0.png"
    assert names.take("train/b", "_x0_y0.png") == "train/b_x0_y0.png"


@pytest.mark.parametrize("head", [{}, {"info": {"a": 1}, "categories": [{"id": 1, "name": "größer"}]}])
def test_a_growing_file_is_json_at_the_end_and_not_there_before(tmp_path, head):
    path = tmp_path / "annotations/train.json"
    with growing_file(path, head, 7, 21) as file:
        file.add({"file_name": "a"}, [{"area": 1}, {"area": 2}])
        file.add({"file_name": "b"}, [])
        file.add({"file_name": "c"}, [{"area": 3}])
        assert not path.exists()
        assert (file.next_image_id, file.next_annotation_id) == (10, 24)
    assert json.loads(path.read_text()) == head | {
        "images": [{"id": 7, "file_name": "a"}, {"id": 8, "file_name": "b"}, {"id": 9, "file_name": "c"}],
        "annotations": [
            {"id": 21, "image_id": 7, "area": 1},
            {"id": 22, "image_id": 7, "area": 2},
            {"id": 23, "image_id": 9, "area": 3},
        ],
    }


def test_a_growing_file_without_entries_and_one_that_fails(tmp_path):
    with growing_file(tmp_path / "a.json", {}, 1, 1):
        pass
    assert json.loads((tmp_path / "a.json").read_text()) == {"images": [], "annotations": []}
    with (
        pytest.raises(DataError, match="a number that JSON does not know"),
        growing_file(tmp_path / "b.json", {}, 1, 1) as file,
    ):
        file.add({"gps": float("nan")}, [])
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_earlier_tiles_are_only_those_below_their_own_folder(tmp_path):
    assert earlier_tiles(tmp_path, "train") == set()
    images = [{"file_name": name} for name in ("train/a.png", "val/b.png", "train/../../c.png", 5)]
    document = {"info": {MARK: {}}, "images": images, "annotations": [], "categories": []}
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/train.json").write_text(json.dumps(document))
    assert earlier_tiles(tmp_path, "train") == {"train/a.png"}
    document["info"] = None
    (tmp_path / "annotations/train.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match="there are annotations here already"):
        earlier_tiles(tmp_path, "train")


def test_tiles_are_written_without_loss_unless_they_are_jpeg(tmp_path):
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    write_tile(tmp_path / "deep/a.png", colour, 95)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "deep/a.png")), colour)
    grey = np.repeat(colour[..., :1], 3, axis=2)
    write_tile(tmp_path / "b.png", grey, 95)
    assert Image.open(tmp_path / "b.png").mode == "L"
    assert np.array_equal(np.asarray(Image.open(tmp_path / "b.png").convert("RGB")), grey)
    sizes = []
    for quality in (30, 95):
        write_tile(tmp_path / "c.jpg", colour, quality)
        assert Image.open(tmp_path / "c.jpg").format == "JPEG"
        sizes.append((tmp_path / "c.jpg").stat().st_size)
    assert sizes[0] < sizes[1]


def test_further_keys_are_kept_by_image_in_the_order_of_the_file(tmp_path):
    path = tmp_path / "a.json"
    images = [
        {"id": 1.0, "file_name": "a", "width": 3, "height": 4, "license": 2},
        {"id": 5, "file_name": "b", "width": 3, "height": 4, "tile_of": {}},
    ]
    annotations = [
        {"id": 3, "image_id": 5, "category_id": 1, "segmentation": [[0.0] * 6], "bbox": [], "score": 0.5},
        {"id": 3, "image_id": 1, "category_id": 1, "area": 9, "iscrowd": 0, "num_keypoints": 1, "keypoints": [1, 1, 1]},
        {"image_id": 5, "category_id": 1, "attributes": {"occluded": True}},
    ]
    path.write_text(json.dumps({"info": 3, "images": images, "annotations": annotations, "categories": []}))
    entries = read_source_entries(path)
    assert entries.head == {"info": 3, "categories": []}
    assert entries.images[1] == {"license": 2}
    assert entries.images[5] == {}
    assert [entries.annotations[5][k] for k in (0, 1)] == [{"score": 0.5}, {"attributes": {"occluded": True}}]
    assert entries.annotations[1][0] == {}

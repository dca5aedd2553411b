"""Tiles against pycocotools: every mask of a tile is the crop of the full mask, pixel for pixel."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask
from tiff_data import tiff_bytes

from finemask.coco.coco_file import load_coco
from finemask.coco.index import CocoIndex
from finemask.datatools.tile.tile_dataset import TileSettings, tile_files
from finemask.datatools.tile.tile_instances import cut_instances
from finemask.datatools.tile.tile_results import places_of_tiles, results_to_source
from finemask.errors import ConfigError, DataError
from finemask.ops.images.decode import decode_image
from finemask.ops.images.image_reading import ImageReading
from finemask.ops.images.tile_windows import tile_windows
from finemask.ops.rle import crop_to_rle, mask_to_rle, rle_from_segmentation, rle_to_mask
from finemask.types import CocoResult

SIZES_HW = {"wide.png": (90, 201), "tall.jpg": (150, 70), "deep/small.png": (40, 60), "grey.png": (64, 130)}
CATEGORIES = [{"id": 3, "name": "cell", "colour": "red"}, {"id": 8, "name": "debris"}]


def random_segmentation(rng: np.random.Generator, height: int, width: int) -> Any:
    """A star-shaped polygon, two polygons, or run lengths of either kind, anywhere in the image and beyond it."""
    outlines = []
    for _ in range(rng.integers(1, 3)):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
        radii = rng.uniform(2, 40, 9)[:, None]
        points = rng.uniform(-0.05, 1.05, 2) * (width, height) + radii * np.stack([np.cos(angles), np.sin(angles)], 1)
        outlines.append(points.round(2).ravel().tolist())
    kind = rng.integers(3)
    if kind == 0:
        return outlines
    rle = rle_from_segmentation(outlines, height, width)
    if kind == 1:
        return dict(rle)
    flat = rle_to_mask(rle).ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    return {"size": [height, width], "counts": np.diff([0, *([0] if flat[0] else []), *edges, flat.size]).tolist()}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images/ of several kinds, annotations/train.json and annotations/val.json."""
    root = tmp_path_factory.mktemp("scene")
    rng = np.random.default_rng(5)
    images, annotations = [], []
    for number, (file_name, (height, width)) in enumerate(SIZES_HW.items()):
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        path = root / "images" / file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[..., 0] if file_name == "grey.png" else pixels).save(path)
        image_id = 11 * number + 2
        entry = {"id": image_id, "file_name": file_name, "height": height, "width": width, "license": number}
        images.append(entry)
        for _ in range(0 if file_name == "grey.png" else 9):
            annotations.append(
                {
                    "id": 100 + 3 * len(annotations),
                    "image_id": image_id,
                    "category_id": int(rng.choice([3, 8])),
                    "segmentation": random_segmentation(rng, height, width),
                    "iscrowd": int(rng.random() < 0.15),
                    "attributes": {"seen": len(annotations)},
                    "keypoints": [1, 2, 2],
                }
            )
    head = {"info": {"year": 2024}, "licenses": [{"id": 0, "name": "CC0"}], "categories": CATEGORIES}
    (root / "annotations").mkdir()
    shuffled = [annotations[k] for k in rng.permutation(len(annotations))]
    write(root / "annotations/train.json", {**head, "images": images, "annotations": shuffled})
    val = [annotation for annotation in annotations if annotation["image_id"] == 2]
    write(root / "annotations/val.json", {**head, "images": images[:1], "annotations": val})
    return root


def write(path: Path, document: dict[str, Any]) -> Path:
    path.write_text(json.dumps(document))
    return path


def tile(scene: Path, output: Path, *files: str, **keys: Any) -> list[Any]:
    files = files or ("train",)
    paths = [scene / "annotations" / f"{name}.json" for name in files]
    return tile_files(paths, [scene / "images"], output, TileSettings(**{"size": 64, **keys}))


def one_image(folder: Path, size_hw: tuple[int, int], masks: list[np.ndarray], name: str = "train") -> Path:
    """A black image with masks, as a dataset."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size_hw[::-1]).save(folder / "images/a.png")
    annotations = [
        {"id": k, "image_id": 1, "category_id": 8, "segmentation": dict(mask_to_rle(mask))}
        for k, mask in enumerate(masks, start=1)
    ]
    images = [{"id": 1, "file_name": "a.png", "height": size_hw[0], "width": size_hw[1]}]
    (folder / "annotations").mkdir(exist_ok=True)
    write(
        folder / "annotations" / f"{name}.json",
        {"images": images, "annotations": annotations, "categories": CATEGORIES},
    )
    return folder


def decoded(annotation: dict[str, Any], height: int, width: int) -> np.ndarray:
    """By pycocotools, from whatever the file holds."""
    segmentation = annotation["segmentation"]
    if isinstance(segmentation, list):
        segmentation = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        segmentation = coco_mask.frPyObjects(segmentation, height, width)
    return coco_mask.decode(segmentation).astype(bool)


@pytest.mark.parametrize(("size", "overlap", "reader"), [(64, 0.2, "auto"), (32, 0.5, "auto"), (17, 0.0, "pillow")])
def test_every_mask_is_the_crop_of_the_full_mask(scene, tmp_path, size, overlap, reader):
    tile(scene, tmp_path, size=size, overlap=overlap, min_visible=0.3, reader=reader)
    source, tiles = load_coco(scene / "annotations/train.json"), load_coco(tmp_path / "annotations/train.json")
    assert tiles["categories"] == CATEGORIES
    by_tile: dict[int, dict[int, dict[str, Any]]] = {entry["id"]: {} for entry in tiles["images"]}
    for annotation in tiles["annotations"]:
        found = by_tile[annotation["image_id"]]
        assert annotation["tile_of"]["annotation_id"] not in found
        found[annotation["tile_of"]["annotation_id"]] = annotation
    full = {}
    for annotation in source["annotations"]:
        height, width = SIZES_HW[file_of(source, annotation["image_id"])]
        full[annotation["id"]] = decoded(annotation, height, width)
    checked = 0
    for entry in tiles["images"]:
        place = entry["tile_of"]
        window = (
            slice(place["y0"], place["y0"] + entry["height"]),
            slice(place["x0"], place["x0"] + entry["width"]),
        )
        for annotation in (a for a in source["annotations"] if a["image_id"] == place["image_id"]):
            expected = full[annotation["id"]][window]
            part = by_tile[entry["id"]].pop(annotation["id"], None)
            if not expected.any():
                assert part is None
                continue
            assert part is not None
            rle = part["segmentation"]
            assert np.array_equal(coco_mask.decode(rle).astype(bool), expected)
            assert part["bbox"] == coco_mask.toBbox(rle).tolist()
            assert part["area"] == expected.sum()
            assert part["tile_of"]["visible"] == pytest.approx(expected.sum() / full[annotation["id"]].sum(), abs=1e-4)
            assert part["category_id"] == annotation["category_id"]
            assert part["iscrowd"] == int(annotation["iscrowd"] or part["tile_of"].get("sliver", False))
            assert part["attributes"] == annotation["attributes"]
            assert "keypoints" not in part
            checked += 1
        assert by_tile[entry["id"]] == {}
    assert checked > 50


def file_of(document: dict[str, Any], image_id: int) -> str:
    return next(entry["file_name"] for entry in document["images"] if entry["id"] == image_id)


def test_pictures_are_the_crops_and_small_images_stay_whole(scene, tmp_path):
    (report,) = tile(scene, tmp_path)
    document = load_coco(report.annotations)
    assert len(document["images"]) == report.tiles
    assert (report.images, report.whole) == (4, 1)
    for entry in document["images"]:
        place, path = entry["tile_of"], tmp_path / "images" / entry["file_name"]
        original = scene / "images" / place["file_name"]
        assert entry["license"] == list(SIZES_HW).index(place["file_name"])
        assert (place["height"], place["width"]) == SIZES_HW[place["file_name"]]
        if place["file_name"] == "deep/small.png":
            assert entry["file_name"] == "train/deep/small.png"
            assert path.read_bytes() == original.read_bytes()
            continue
        x0, y0 = place["x0"], place["y0"]
        expected = decode_image(original)[y0 : y0 + entry["height"], x0 : x0 + entry["width"]]
        pixels = decode_image(path, (entry["height"], entry["width"]))
        if path.suffix == ".png":
            assert np.array_equal(pixels, expected)
            assert Image.open(path).mode == ("L" if place["file_name"] == "grey.png" else "RGB")
        else:  # a JPEG is a JPEG again, of high quality
            assert place["file_name"] == "tall.jpg"
            assert np.abs(pixels.astype(int) - expected).mean() < 3
    names = [entry["file_name"] for entry in document["images"]]
    assert "train/wide_x000_y00.png" not in names
    assert {"train/wide_x000_y000.png", "train/wide_x137_y026.png"} <= set(names)
    assert {str(p.relative_to(tmp_path / "images")) for p in (tmp_path / "images").rglob("*.*")} == set(names)


def test_what_was_written_is_a_dataset_to_train_on(scene, tmp_path):
    reports = tile(scene, tmp_path, "train", "val")
    assert [report.name for report in reports] == ["train", "val"]
    train = CocoIndex.read(tmp_path / "annotations/train.json", tmp_path / "images")
    val = CocoIndex.read(tmp_path / "annotations/val.json", tmp_path / "images", train.categories)
    assert [category.name for category in train.categories] == ["cell", "debris"]
    assert (len(train), len(val)) == (reports[0].tiles, reports[1].tiles)
    ids = [*train.image_ids.tolist(), *val.image_ids.tolist()]
    assert ids == list(range(1, len(ids) + 1))  # unique across files, so that they may be merged
    assert train.annotation_ids.max() < val.annotation_ids.min()
    info = load_coco(reports[0].annotations)["info"]
    assert info["year"] == 2024
    assert info["finemask_tiles"]["size"] == 64


def square(height: int, width: int, x0: int, y0: int, side: int) -> np.ndarray:
    mask = np.zeros((height, width), dtype=bool)
    mask[y0 : y0 + side, x0 : x0 + side] = True
    return mask


@pytest.mark.parametrize(
    ("keys", "iscrowd", "sliver"),
    [
        ({"min_visible": 0.2}, {"x00": 0, "x36": 1}, 1),
        ({"min_visible": 0.2, "slivers": "drop"}, {"x00": 0}, 1),
        ({"min_visible": 0.1}, {"x00": 0, "x36": 0}, 0),  # exactly that share is enough
        ({"min_visible": 0}, {"x00": 0, "x36": 0}, 0),
    ],
)
def test_slivers(tmp_path, keys, iscrowd, sliver):
    # tiles at 0 and 36; the square lies whole in the first, one of its ten columns in the second
    folder = one_image(tmp_path / "in", (40, 76), [square(40, 76, 27, 5, 10)])
    (report,) = tile(folder, tmp_path / "out", size=40, overlap=0, **keys)
    document = load_coco(report.annotations)
    names = {entry["id"]: entry["file_name"].split("_")[1] for entry in document["images"]}
    assert set(names.values()) == {"x00", "x36"}
    assert {names[a["image_id"]]: a["iscrowd"] for a in document["annotations"]} == iscrowd
    count = report.classes["debris"]
    assert (count.instances, count.slivers, count.parts) == (1, sliver, 2 - sliver)
    assert count.cut == 1 - sliver
    assert report.empty == sliver


def test_an_instance_larger_than_a_tile_is_measured_by_its_greatest_part(tmp_path):
    folder = one_image(tmp_path / "in", (120, 120), [np.ones((120, 120), dtype=bool)])
    (report,) = tile(folder, tmp_path / "out", size=40, overlap=0, min_visible=0.9)
    document = load_coco(report.annotations)
    assert [a["area"] for a in document["annotations"]] == [1600] * 9  # a ninth of the whole each, and none dropped
    assert {a["tile_of"]["visible"] for a in document["annotations"]} == {round(1 / 9, 4)}
    assert report.classes["debris"].slivers == 0


class Masks:
    """Stands for ``ImageInstances``."""

    def __init__(self, masks: np.ndarray, iscrowd: list[bool]) -> None:
        self._masks, self.iscrowd = masks, np.array(iscrowd)

    def __len__(self) -> int:
        return len(self._masks)

    def crop(self, k: int) -> tuple[np.ndarray, int, int]:
        return self._masks[k][2:, 1:], 1, 2


@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(8, 40),
    overlap=st.sampled_from([0, 0.2, 0.5]),
    min_visible=st.floats(0, 1),
)
@settings(max_examples=60, deadline=None)
def test_no_instance_is_lost_and_no_pixel_is_added(seed, size, overlap, min_visible):
    rng = np.random.default_rng(seed)
    masks = noisy_discs(rng, 5, 47, 61)
    masks[:, :2] = masks[:, :, :1] = False  # what the stand-in cuts off
    instances = Masks(masks, [False, False, True, False, True])
    windows = tile_windows(47, 61, size, overlap)
    parts, empty = cut_instances(instances, windows, min_visible)
    for k, mask in enumerate(masks):
        mine = [
            (window, part) for window, tile in zip(windows, parts, strict=True) for part in tile if part.instance == k
        ]
        together = np.zeros_like(mask)
        for (x0, y0, x1, y1), part in mine:
            together[y0:y1, x0:x1] |= rle_to_mask(part.rle).astype(bool)
            assert part.area == mask[y0:y1, x0:x1].sum() > 0
        assert np.array_equal(together, mask)
        if mask.any():
            assert any(not part.is_sliver for _, part in mine)
            best = max(part.area for _, part in mine)
            expected = [not instances.iscrowd[k] and part.area < min_visible * best for _, part in mine]
            assert [part.is_sliver for _, part in mine] == expected
    assert empty == sum(not mask.any() for mask in masks)


def noisy_discs(rng: np.random.Generator, count: int, height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    centres, radii = rng.uniform(0, 1, (count, 2)) * (height, width), rng.uniform(0, 35, count)
    near = np.hypot(y - centres[:, :1, None], x - centres[:, 1:, None]) < radii[:, None, None]
    return near & (rng.random((count, height, width)) < 0.8)


def test_empty_training_tiles_are_kept_dropped_or_drawn_from(tmp_path):
    folder = one_image(tmp_path / "in", (80, 800), [square(80, 800, 100, 10, 12)])
    one_image(folder, (80, 800), [square(80, 800, 100, 10, 12)], name="val")
    counts = {}
    for kept in ("keep", "drop", 0.0, 0.5, 1.0):
        train, val = tile(folder, tmp_path / str(kept), "train", "val", size=40, overlap=0, empty_tiles=kept)
        counts[kept] = (train.tiles, train.empty, train.left_out)
        assert (val.tiles, val.left_out) == (40, 0)  # or false alarms on empty ground would not be counted
    assert counts["keep"] == counts[1.0] == (40, 39, 0)
    assert counts["drop"] == counts[0.0] == (1, 0, 39)
    assert counts[0.5][0] == 40 - counts[0.5][2]
    assert 10 < counts[0.5][0] < 30
    again = tile(folder, tmp_path / "again", size=40, overlap=0, empty_tiles=0.5)[0]
    other = tile(folder, tmp_path / "other", size=40, overlap=0, empty_tiles=0.5, seed=1)[0]
    first, same, differs = (names_in(tmp_path / name) for name in ("0.5", "again", "other"))
    assert first == same
    assert first != differs
    assert again.tiles == counts[0.5][0]
    assert other.tiles != 40


def names_in(output: Path) -> list[str]:
    return [entry["file_name"] for entry in load_coco(output / "annotations/train.json")["images"]]


def test_a_tile_that_shows_only_slivers_or_crowds_is_empty(tmp_path):
    folder = one_image(tmp_path / "in", (40, 76), [square(40, 76, 27, 5, 10)])
    (report,) = tile(folder, tmp_path / "out", size=40, overlap=0, empty_tiles="drop")
    assert (report.tiles, report.left_out) == (1, 1)


def test_tiles_go_back_to_the_whole_exactly(scene, tmp_path):
    tile(scene, tmp_path, size=30, overlap=0.0, min_visible=0.0)
    source, tiles = load_coco(scene / "annotations/train.json"), load_coco(tmp_path / "annotations/train.json")
    results = [
        CocoResult(
            image_id=a["image_id"],
            category_id=a["category_id"],
            bbox=a["bbox"],
            score=0.5,
            segmentation=a["segmentation"],
        )
        for a in tiles["annotations"]
    ]
    moved = results_to_source(results, places_of_tiles(tiles))
    together: dict[int, list[Any]] = {}
    for annotation, result in zip(tiles["annotations"], moved, strict=True):
        together.setdefault(annotation["tile_of"]["annotation_id"], []).append(result)
        assert coco_mask.toBbox(result["segmentation"]).tolist() == result["bbox"]
        assert (result["category_id"], result["score"]) == (annotation["category_id"], 0.5)
    for annotation in source["annotations"]:
        height, width = SIZES_HW[file_of(source, annotation["image_id"])]
        full = decoded(annotation, height, width)
        parts = together.pop(annotation["id"], [])
        assert {part["image_id"] for part in parts} <= {annotation["image_id"]}
        union = np.zeros((height, width), dtype=bool)
        for part in parts:
            union |= coco_mask.decode(part["segmentation"]).astype(bool)
        assert np.array_equal(union, full)
    assert together == {}
    without_mask = results_to_source(
        [CocoResult(image_id=results[0]["image_id"], category_id=1, bbox=[0.25, 0.5, 3.0, 4.0], score=1.0)],
        places_of_tiles(tiles),
    )
    assert "segmentation" not in without_mask[0]
    assert without_mask[0]["bbox"][2:] == [3.0, 4.0]


def test_a_file_that_holds_no_tiles_has_no_way_back(scene):
    with pytest.raises(DataError, match=r"image id 2 \(wide\.png\) has no tile_of"):
        places_of_tiles(load_coco(scene / "annotations/train.json"))


def test_a_second_run_replaces_the_first_and_nothing_else(scene, tmp_path):
    tile(scene, tmp_path, size=64)
    note = tmp_path / "images/train/notes.txt"
    note.write_text("mine")
    before = set(names_in(tmp_path))
    tile(scene, tmp_path, size=50)
    after = set(names_in(tmp_path))
    assert before - after
    on_disk = {path.relative_to(tmp_path / "images").as_posix() for path in (tmp_path / "images").rglob("*.*")}
    assert on_disk == after | {"train/notes.txt"}


def test_annotations_of_something_else_are_not_overwritten(scene, tmp_path):
    (tmp_path / "annotations").mkdir()
    mine = write(tmp_path / "annotations/train.json", {"images": [], "annotations": [], "categories": []})
    before = mine.read_bytes()
    with pytest.raises(DataError, match="there are annotations here already"):
        tile(scene, tmp_path)
    assert mine.read_bytes() == before
    with pytest.raises(DataError, match="there are annotations here already"):
        tile(scene, scene)  # over the source itself
    assert not (tmp_path / "images").exists()


def test_a_damaged_image_is_named_and_leaves_no_annotation_file(tmp_path):
    folder = one_image(tmp_path / "in", (300, 300), [square(300, 300, 20, 20, 30)])
    path = folder / "images/a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:50_000])
    with pytest.raises(DataError, match=r"a\.png: the image cannot be read"):
        tile(folder, tmp_path / "out")
    assert list((tmp_path / "out").rglob("*.json")) == []


def test_images_of_another_size_than_stated_are_refused(tmp_path):
    folder = one_image(tmp_path / "in", (30, 50), [square(30, 50, 2, 2, 10)])
    Image.new("RGB", (50, 31)).save(folder / "images/a.png")
    with pytest.raises(DataError, match="the image is 50 × 31 px, its annotations say 50 × 30"):
        tile(folder, tmp_path / "out")


def test_images_that_run_lengths_cannot_count_are_refused(tmp_path):
    folder = one_image(tmp_path / "in", (30, 50), [square(30, 50, 2, 2, 10)])
    document = load_coco(folder / "annotations/train.json")
    document["images"][0] |= {"height": 70_000, "width": 70_000}
    document["annotations"][0]["segmentation"] = [[1, 1, 9, 1, 9, 9]]
    write(folder / "annotations/train.json", document)
    with pytest.raises(DataError, match="its size is 70000 × 70000 px"):
        tile(folder, tmp_path / "out")


def test_annotations_between_pixel_centres_are_counted(tmp_path):
    folder = one_image(tmp_path / "in", (30, 50), [square(30, 50, 2, 2, 10), np.zeros((30, 50), dtype=bool)])
    document = load_coco(folder / "annotations/train.json")
    document["annotations"][1]["segmentation"] = [[5.1, 5.1, 5.2, 5.1, 5.2, 5.2]]
    write(folder / "annotations/train.json", document)
    (report,) = tile(folder, tmp_path / "out")
    assert report.without_pixels == 1
    assert report.classes["debris"].instances == 2
    assert len(load_coco(report.annotations)["annotations"]) == 1


def test_nothing_left_is_an_error(tmp_path):
    folder = one_image(tmp_path / "in", (30, 50), [np.zeros((30, 50), dtype=bool)])
    with pytest.raises(DataError, match=r"no tile is left\. Keep empty ones with empty_tiles=keep"):
        tile(folder, tmp_path / "out", empty_tiles="drop")


def test_progress_counts_every_tile(scene, tmp_path):
    heard: list[tuple[int, int]] = []
    paths = [scene / "annotations/train.json", scene / "annotations/val.json"]
    reports = tile_files(
        paths, [scene / "images"], tmp_path, TileSettings(size=64), progress=lambda *at: heard.append(at)
    )
    total = sum(report.tiles + report.left_out for report in reports)
    assert heard == [(done, total) for done in range(1, total + 1)]


def test_folders_must_fit_the_files(scene, tmp_path):
    with pytest.raises(ConfigError, match="1 annotation files and 2 folders of images"):
        tile_files([scene / "annotations/train.json"], [scene, scene], tmp_path, TileSettings())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("size", 8),
        ("size", 1024.5),
        ("size", True),
        ("overlap", 0.95),
        ("overlap", -0.1),
        ("overlap", 256),
        ("min_visible", 1.5),
        ("min_visible", None),
        ("slivers", "keep"),
        ("empty_tiles", "some"),
        ("empty_tiles", 2),
        ("format", "tif"),
        ("quality", 0),
        ("reader", "opencv"),
        ("seed", -1),
    ],
)
def test_values_out_of_range(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"^{key}={value} cannot be used. Give "):
        TileSettings(**{key: value})


def test_real_nuclei(shared_dir, tmp_path):
    source = shared_dir / "datasets/nuclei"
    annotations = source / "annotations/val_small.json"
    document = load_coco(annotations)
    document["images"] = document["images"][:3]
    chosen = {entry["id"] for entry in document["images"]}
    document["annotations"] = [a for a in document["annotations"] if a["image_id"] in chosen]
    (report,) = tile_files(
        [write(tmp_path / "val.json", document)], [source / "images"], tmp_path / "out", TileSettings(size=100)
    )
    tiles = load_coco(report.annotations)
    masks = {a["id"]: a for a in document["annotations"]}
    places = places_of_tiles(tiles)
    for annotation in tiles["annotations"]:
        place = places[annotation["image_id"]]
        full = decoded(masks[annotation["tile_of"]["annotation_id"]], place["height"], place["width"])
        crop = full[place["y0"] : place["y0"] + 100, place["x0"] : place["x0"] + 100]
        assert annotation["segmentation"] == crop_to_rle(crop, 0, 0, 100, 100)
    assert {a["tile_of"]["annotation_id"] for a in tiles["annotations"] if not a["iscrowd"]} == set(masks)


def test_what_was_chosen_of_the_images_is_in_the_tiles_and_need_not_be_chosen_again(tmp_path):
    mask = np.zeros((40, 40), np.uint8)
    mask[5:20, 5:20] = 1
    source = one_image(tmp_path / "source", (40, 40), [mask])
    values = np.arange(1600, dtype=np.uint16).reshape(40, 40)
    (source / "images/a.png").write_bytes(tiff_bytes(values * 0, values))
    reading = ImageReading(page=1, range=(0, 1599))
    expected = decode_image(source / "images/a.png", None, reading)
    for size in (64, 32):
        output = tmp_path / f"tiles_{size}"
        paths, keys = [source / "annotations/train.json"], TileSettings(size=size)
        tile_files(paths, [source / "images"], output, keys, reading=reading)
        index = CocoIndex.read(output / "annotations/train.json", output / "images")
        assert len(index) == (1 if size == 64 else 4)
        for i, entry in enumerate(load_coco(index.annotations_path)["images"]):
            x0, y0 = entry["tile_of"]["x0"], entry["tile_of"]["y0"]
            height, width = index.size_hw(i)
            assert np.array_equal(index.read_image(i), expected[y0 : y0 + height, x0 : x0 + width])


def test_an_image_that_cannot_be_read_leaves_no_tiles_behind(scene, tmp_path):
    spoilt = tmp_path / "spoilt"
    shutil.copytree(scene, spoilt)
    (spoilt / "images" / "grey.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"grey\.png"):
        tile_files([spoilt / "annotations/train.json"], [spoilt / "images"], tmp_path / "new", TileSettings(size=64))
    assert not (tmp_path / "new").exists()

    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"grey\.png"):
        tile_files([spoilt / "annotations/train.json"], [spoilt / "images"], tmp_path / "used", TileSettings(size=64))
    assert [path.name for path in (tmp_path / "used").rglob("*")] == ["notes.txt"]
